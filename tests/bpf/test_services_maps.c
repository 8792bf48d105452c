/* SPDX-License-Identifier: MIT */
/* The services model against real maps, read as a program reads them: addresses, lists of backends, members, Maglev's
 * tables, source ranges.
 */
#include "tests/bpf/svc_world.h"

static void test_address_entries(void **state _unused_)
{
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store, FX_SVC("d", "a",
			       "'clusterIP':'10.0.0.1','externalIPs':['192.0.2.1'],"
			       "'ports':[{'name':'x','port':80},{'name':'y','port':81}]"));
	fx_put(w.store, FX_SVC("d", "b",
			       "'clusterIP':'10.0.0.2','externalIPs':['192.0.2.1'],"
			       "'ports':[{'name':'x','port':90}]"));
	sync_ok(&w);
	assert_int_equal(addr_entry(&w, "10.0.0.1"), BN_FRONT_IDX_CLUSTERIP);
	assert_int_equal(addr_entry(&w, "192.0.2.1"), BN_FRONT_IDX_EXTERNAL);
	fx_put(w.store,
	       FX_SVC("d", "a", "'clusterIP':'10.0.0.1','ports':[{'name':'y','port':81}]"));
	sync_ok(&w);
	assert_int_equal(addr_entry(&w, "10.0.0.1"), BN_FRONT_IDX_CLUSTERIP);
	assert_int_equal(addr_entry(&w, "192.0.2.1"), BN_FRONT_IDX_EXTERNAL); /* b still has it */
	bn_store_del(w.store, BN_KIND_SERVICE, "d", "b");
	bn_store_del(w.store, BN_KIND_SERVICE, "d", "a");
	sync_ok(&w);
	assert_int_equal(addr_entry(&w, "10.0.0.1"), -1);
	assert_int_equal(addr_entry(&w, "192.0.2.1"), -1);
	world_close(&w);
}

/* External Local: outside gets the local list or a drop, this node's own clients everything. */
static void test_split(void **state _unused_)
{
	const struct bn_svc *s;
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store,
	       FX_SVC("d", "web",
		      "'type':'NodePort','clusterIP':'fd00::1','externalTrafficPolicy':'Local',"
		      "'ports':[{'name':'http','port':80,'nodePort':30080}]"));
	fx_put(w.store, FX_SLICE("d", "w", "web", "IPv6", FX_PORT("http", "TCP", 8080),
				 FX_EP("fd01::1", FX_ON("n2")) "," FX_EP("fd01::2", FX_ON("n3"))));
	sync_ok(&w);
	s = raw(&w, "::", 30080, BN_PROTO_TCP, BN_SCOPE_NODEPORT);
	assert_non_null(s);
	assert_null(raw(&w, "0.0.0.0", 30080, BN_PROTO_TCP, BN_SCOPE_NODEPORT)); /* of IPv6 only */
	assert_int_equal(s->flags, BN_SVC_F_EXTERNAL | BN_SVC_F_NODEPORT | BN_SVC_F_ETP_LOCAL |
					   BN_SVC_F_SPLIT);
	assert_int_equal(BN_RANGE_COUNT(s->range), 0);
	assert_int_equal(BN_RANGE_BASE(s->range), BN_RANGE_DROP);
	assert_int_equal(BN_RANGE_COUNT(s->range_int), 2);
	assert_int_equal(bn_services_stats(w.svc)->no_local_external, 1);
	expect_list(&w, "d/web ClusterIP fd00::1:80/TCP=fd01::1:8080,fd01::2:8080; "
			"d/web NodePort :::30080/TCP=fd01::1:8080,fd01::2:8080!drop");
	fx_put(w.store, FX_SLICE("d", "w", "web", "IPv6", FX_PORT("http", "TCP", 8080),
				 FX_EP("fd01::1", FX_ON("n2")) "," FX_EP("fd01::2", FX_ON("n1"))));
	sync_ok(&w);
	assert_int_equal(BN_RANGE_COUNT(s->range), 1);
	assert_int_equal(raw_slots(&w, s->range)->flags, BN_BE_F_LOCAL);
	assert_int_equal(BN_RANGE_COUNT(s->range_int), 2);
	assert_int_equal(bn_services_stats(w.svc)->no_local_external, 0);
	/* the ClusterIP and the inside list are one range */
	assert_int_equal(BN_RANGE_BASE(raw(&w, "fd00::1", 80, BN_PROTO_TCP, 0)->range),
			 BN_RANGE_BASE(s->range_int));
	world_close(&w);
}

/* UDP: an endpoint that still serves may keep its flows though no new ones go there. */
static void test_members(void **state _unused_)
{
	const struct bn_backend *v;
	const struct bn_svc *s;
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store,
	       FX_SVC("d", "dns",
		      "'clusterIP':'10.0.0.10','ports':[{'name':'u','port':53,'protocol':'UDP'},"
		      "{'name':'t','port':53}]"));
	fx_put(w.store,
	       FX_SLICE(
		       "d", "x", "dns", "IPv4", FX_PORT("u", "UDP", 53) "," FX_PORT("t", "TCP", 53),
		       FX_EP("10.1.0.1", FX_COND(true, true, false)) "," FX_EP(
			       "10.1.0.2",
			       FX_COND(false, true,
				       true)) "," FX_EP("10.1.0.3",
							FX_COND(false, false,
								true)) "," FX_EP("10.1.0.0",
										 FX_COND(true, true,
											 false))));
	sync_ok(&w);
	s = raw(&w, "10.0.0.10", 53, BN_PROTO_UDP, 0);
	assert_int_equal(BN_RANGE_COUNT(s->range), 2);
	v = raw_slots(&w, s->range);
	assert_int_equal(v[0].members, 3);
	assert_int_equal(v[0].addr.b[15], 0);
	assert_int_equal(v[1].addr.b[15], 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(v[2 + i].addr.b[15], i);
	assert_int_equal(v[2].flags, BN_BE_F_CHOSEN);
	assert_int_equal(v[4].flags, BN_BE_F_TERMINATING);
	s = raw(&w, "10.0.0.10", 53, BN_PROTO_TCP, 0);
	assert_int_equal(raw_slots(&w, s->range)->members, 0);
	world_close(&w);
}

/* A Local policy and no local endpoint: nobody for new connections, but UDP flows stay with who serves. */
static void test_members_of_nobody(void **state _unused_)
{
	const struct bn_backend *v;
	const struct bn_svc *s;
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store, FX_SVC("d", "dns",
				   "'clusterIP':'10.0.0.10','internalTrafficPolicy':'Local',"
				   "'ports':[{'name':'u','port':53,'protocol':'UDP'},"
				   "{'name':'t','port':53}]"));
	fx_put(w.store,
	       FX_SLICE("d", "x", "dns", "IPv4", FX_PORT("u", "UDP", 53) "," FX_PORT("t", "TCP", 53),
			FX_EP("10.1.0.2", FX_COND(false, true, true)) "," FX_EP(
				"10.1.0.1", FX_COND(true, true, false)) "," FX_EP("10.1.0.3",
										  FX_COND(false, false, true))));
	sync_ok(&w);
	for (int i = 0; i < 2; i++) {
		s = raw(&w, "10.0.0.10", 53, BN_PROTO_UDP, 0);
		assert_int_equal(BN_RANGE_COUNT(s->range), 1);
		v = raw_slots(&w, s->range);
		assert_int_equal(v[0].flags, BN_BE_F_NONE);
		assert_int_equal(v[0].members, 2);
		assert_int_equal(v[1].addr.b[15], 1);
		assert_int_equal(v[1].flags, 0);
		assert_int_equal(v[2].addr.b[15], 2);
		assert_int_equal(v[2].flags, BN_BE_F_TERMINATING);
		s = raw(&w, "10.0.0.10", 53, BN_PROTO_TCP, 0);
		assert_int_equal(BN_RANGE_COUNT(s->range), 0);
		assert_int_equal(BN_RANGE_BASE(s->range), BN_RANGE_DROP);
		expect_list(&w, "d/dns ClusterIP 10.0.0.10:53/UDP=!drop; d/dns ClusterIP 10.0.0.10:53/TCP=!drop");
		/* adopted as it is */
		world_restart(&w);
		bn_services_set_ready(w.svc, true);
		sync_ok(&w);
		assert_int_equal(writes(&w), 0);
	}
	/* none serves any more: there is nothing to stay with */
	fx_put(w.store, FX_SLICE("d", "x", "dns", "IPv4", FX_PORT("u", "UDP", 53), FX_EP("10.1.0.2", FX_COND(false, false, true))));
	sync_ok(&w);
	s = raw(&w, "10.0.0.10", 53, BN_PROTO_UDP, 0);
	assert_int_equal(BN_RANGE_COUNT(s->range), 0);
	assert_int_equal(BN_RANGE_BASE(s->range), BN_RANGE_REJECT);
	world_close(&w);
}

#define MAGLEV(ip)                                                                                 \
	"{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','name':'web','"           \
	"annotations':"                                                                            \
	"{'bpfnet.io/lb-algorithm':'maglev'}},'spec':{'clusterIP':'" ip                            \
	"','ports':[{'name':'http','port':80}]}}"

static void test_maglev(void **state _unused_)
{
	struct bn_maps_sizes small = {0};
	const struct bn_svc *s;
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store, MAGLEV("10.0.0.1"));
	fx_put(w.store, WEB1);
	sync_ok(&w);
	s = raw(&w, "10.0.0.1", 80, BN_PROTO_TCP, 0);
	assert_int_equal(s->flags, BN_SVC_F_MAGLEV);
	assert_int_equal(BN_RANGE_COUNT(s->range), 211);
	assert_int_equal(raw_slots(&w, s->range)->members, 2);
	expect_list(&w, WEB_FRONT "10.1.0.1:8080L,10.1.0.2:8080");
	world_restart(&w);
	bn_services_set_ready(w.svc, true);
	sync_ok(&w);
	assert_int_equal(writes(&w), 0);
	world_close(&w);
	/* no room for the table: the plain list, said and counted */
	small.entries[BN_MAP_slots] = 100;
	world_open(&w, &small);
	fx_put(w.store, MAGLEV("10.0.0.1"));
	fx_put(w.store, WEB1);
	sync_ok(&w);
	s = raw(&w, "10.0.0.1", 80, BN_PROTO_TCP, 0);
	assert_int_equal(s->flags, 0);
	assert_int_equal(BN_RANGE_COUNT(s->range), 2);
	assert_int_equal(bn_services_stats(w.svc)->maglev_fallback, 1);
	assert_int_equal(bn_services_stats(w.svc)->refused, 0);
	world_close(&w);
}

#define LB(ranges)                                                                                 \
	"{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','name':'lb'},'spec':{'"   \
	"type':"                                                                                   \
	"'LoadBalancer','clusterIP':'10.0.0.1','loadBalancerSourceRanges':[" ranges                \
	"],'ports':[{'port':80}]},"                                                                \
	"'status':{'loadBalancer':{'ingress':[{'ip':'192.0.2.1'}]}}}"

static bool src_allowed(struct world *w, const struct bn_svc *s, const char *addr)
{
	struct bn_src_key k = {.prefixlen = 160, .src_set = s->src_set};
	uint32_t v;

	assert_int_equal(bn_addr_parse(addr, &k.addr), 0);
	return !bn_map_get(w->maps, BN_MAP_src_ranges, &k, &v);
}

static void test_source_ranges(void **state _unused_)
{
	const struct bn_svc *s;
	uint64_t before;
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store, LB("'198.51.100.0/24','198.51.100.0/24','10.0.0.0/8'"));
	sync_ok(&w);
	s = raw(&w, "192.0.2.1", 80, BN_PROTO_TCP, 0);
	assert_int_equal(s->flags, BN_SVC_F_EXTERNAL | BN_SVC_F_LOADBALANCER | BN_SVC_F_SRC_RANGES);
	assert_int_equal(raw(&w, "10.0.0.1", 80, BN_PROTO_TCP, 0)->src_set, 0);
	assert_true(src_allowed(&w, s, "198.51.100.7"));
	assert_true(src_allowed(&w, s, "10.9.9.9"));
	assert_false(src_allowed(&w, s, "198.51.101.7"));
	assert_int_equal(n_src(&w), 2);
	world_restart(&w);
	bn_services_set_ready(w.svc, true);
	sync_ok(&w);
	assert_int_equal(writes(&w), 0);
	before = s->src_set;
	fx_put(w.store, LB("'203.0.113.0/24'"));
	sync_ok(&w);
	s = raw(&w, "192.0.2.1", 80, BN_PROTO_TCP, 0);
	assert_int_not_equal(s->src_set, before);
	assert_true(src_allowed(&w, s, "203.0.113.1"));
	assert_false(src_allowed(&w, s, "198.51.100.7"));
	/* the old set waits for its grace period; a restart finds it unused and removes it */
	world_restart(&w);
	bn_services_set_ready(w.svc, true);
	sync_ok(&w);
	assert_int_equal(n_src(&w), 1);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_address_entries),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_members_of_nobody),
		cmocka_unit_test(test_maglev),
		cmocka_unit_test(test_source_ranges),
	};

	bn_log_setup("error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
