/* SPDX-License-Identifier: MIT */
/* The services model against real maps: what is written, what is not, what is listed. */
#include "tests/bpf/svc_world.h"

static void test_basic(void **state _unused_)
{
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store, WEB);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "!reject");
	fx_put(w.store, WEB1);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "10.1.0.1:8080L,10.1.0.2:8080");
	fx_put(w.store, WEB1_LESS);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "10.1.0.2:8080");
	assert_int_equal(bn_store_del(w.store, BN_KIND_ENDPOINTSLICE, "d", "web-1"), 0);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "!reject");
	assert_int_equal(bn_store_del(w.store, BN_KIND_SERVICE, "d", "web"), 0);
	sync_ok(&w);
	expect_list(&w, "");
	assert_int_equal(bn_map_count(w.maps, BN_MAP_fronts), 0);
	assert_int_equal(bn_map_count(w.maps, BN_MAP_svc_names), 0);
	world_close(&w);
}

static void test_not_ready(void **state _unused_)
{
	struct world w;

	world_open(&w, NULL);
	bn_services_set_ready(w.svc, false);
	fx_put(w.store, WEB);
	fx_put(w.store, WEB1);
	assert_int_equal(bn_services_sync(w.svc), 0);
	assert_false(bn_services_in_force(w.svc));
	assert_int_equal(writes(&w), 0);
	expect_list(&w, "");
	world_close(&w);
}

static void test_restart(void **state _unused_)
{
	struct world w;
	const char *both = WEB_FRONT "10.1.0.1:8080L,10.1.0.2:8080; "
				     "d/zoo ClusterIP fd00::9:53/UDP=!reject";

	world_open(&w, NULL);
	fx_put(w.store, WEB);
	fx_put(w.store, WEB1);
	fx_put(w.store,
	       FX_SVC("d", "zoo", "'clusterIP':'fd00::9','ports':[{'port':53,'protocol':'UDP'}]"));
	sync_ok(&w);
	expect_list(&w, both);
	world_restart(&w);
	/* before the first list: in full; and nothing is written once it is there */
	expect_list(&w, both);
	bn_services_set_ready(w.svc, true);
	sync_ok(&w);
	assert_int_equal(writes(&w), 0);
	expect_list(&w, both);
	/* what changed while it was down, and only that */
	world_down(&w);
	fx_put(w.store, WEB1_LESS);
	assert_int_equal(bn_store_del(w.store, BN_KIND_SERVICE, "d", "zoo"), 0);
	world_start(&w, &env);
	expect_list(&w, both);
	bn_services_set_ready(w.svc, true);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "10.1.0.2:8080");
	assert_in_range(writes(&w), 5, 12);
	world_close(&w);
}

/* Flags, affinity, source ranges: another record under the same key, never a half-changed one. */
static void test_replace(void **state _unused_)
{
	struct bn_front_key zero = {0};
	const struct bn_svc *old, *new;
	uint32_t id;
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store, WEB);
	fx_put(w.store, WEB1);
	sync_ok(&w);
	old = raw(&w, "10.0.0.1", 80, BN_PROTO_TCP, 0);
	id = old->svc_id;
	fx_put(w.store, FX_SVC("d", "web",
			       "'clusterIP':'10.0.0.1','sessionAffinity':'ClientIP',"
			       "'ports':[{'name':'http','port':80}]"));
	sync_ok(&w);
	new = raw(&w, "10.0.0.1", 80, BN_PROTO_TCP, 0);
	assert_ptr_not_equal(old, new);
	assert_int_equal(new->affinity_s, 10800);
	assert_int_equal(new->svc_id, id); /* affinity of the port goes on */
	assert_int_equal(BN_RANGE_COUNT(new->range), 2);
	/* a flow that remembers the old index sees that it is void */
	assert_memory_equal(&old->key, &zero, sizeof(zero));
	/* and a reader that had it in hand still finds its list */
	assert_int_equal(BN_RANGE_COUNT(old->range), 2);
	world_close(&w);
}

#define EXT(name, cip)                                                                             \
	FX_SVC("d", name,                                                                          \
	       "'clusterIP':'" cip                                                                 \
	       "','externalIPs':['192.0.2.1'],'ports':[{'name':'http','port':80}]")
#define EXT_SLICE(name, ip)                                                                        \
	FX_SLICE("d", name, name, "IPv4", FX_PORT("http", "TCP", 8080), FX_EP(ip, ""))

/* Two services, one external address: the first by name has it, the other takes over without a gap
 * when the first lets go, and gives it back.
 */
static void test_conflict(void **state _unused_)
{
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store, EXT("b", "10.0.0.2"));
	fx_put(w.store, EXT_SLICE("b", "10.1.0.2"));
	sync_ok(&w);
	expect_list(&w, "d/b ClusterIP 10.0.0.2:80/TCP=10.1.0.2:8080; d/b ExternalIP "
			"192.0.2.1:80/TCP=10.1.0.2:8080");
	fx_put(w.store, EXT("a", "10.0.0.1"));
	fx_put(w.store, EXT_SLICE("a", "10.1.0.1"));
	sync_ok(&w);
	expect_list(&w, "d/a ClusterIP 10.0.0.1:80/TCP=10.1.0.1:8080; d/a ExternalIP "
			"192.0.2.1:80/TCP=10.1.0.1:8080; "
			"d/b ClusterIP 10.0.0.2:80/TCP=10.1.0.2:8080");
	assert_int_equal(bn_services_stats(w.svc)->conflicts, 1);
	/* a ClusterIP goes before any name */
	fx_put(w.store,
	       FX_SVC("d", "z", "'clusterIP':'192.0.2.1','ports':[{'name':'http','port':80}]"));
	sync_ok(&w);
	expect_list(&w, "d/a ClusterIP 10.0.0.1:80/TCP=10.1.0.1:8080; d/b ClusterIP "
			"10.0.0.2:80/TCP=10.1.0.2:8080; "
			"d/z ClusterIP 192.0.2.1:80/TCP=!reject");
	assert_int_equal(bn_services_stats(w.svc)->conflicts, 2);
	assert_int_equal(addr_entry(&w, "192.0.2.1"), BN_FRONT_IDX_CLUSTERIP);
	/* the same after a restart */
	world_restart(&w);
	bn_services_set_ready(w.svc, true);
	sync_ok(&w);
	assert_int_equal(writes(&w), 0);
	bn_store_del(w.store, BN_KIND_SERVICE, "d", "z");
	bn_store_del(w.store, BN_KIND_SERVICE, "d", "a");
	sync_ok(&w);
	expect_list(&w, "d/b ClusterIP 10.0.0.2:80/TCP=10.1.0.2:8080; d/b ExternalIP "
			"192.0.2.1:80/TCP=10.1.0.2:8080");
	assert_int_equal(bn_services_stats(w.svc)->conflicts, 0);
	assert_int_equal(addr_entry(&w, "192.0.2.1"), BN_FRONT_IDX_EXTERNAL);
	world_close(&w);
}

/* Full maps: what does not fit is refused, counted, and comes when there is room; the rest is fine.
 */
static void test_full(void **state _unused_)
{
	struct bn_maps_sizes small = {0};
	struct world w;

	small.entries[BN_MAP_slots] = 3;
	world_open(&w, &small);
	bn_log_setup("error", "json");
	fx_put(w.store, WEB);
	fx_put(w.store, WEB1);
	fx_put(w.store,
	       FX_SVC("d", "big", "'clusterIP':'10.0.0.9','ports':[{'name':'http','port':80}]"));
	sync_ok(&w);
	fx_put(w.store, FX_SLICE("d", "big", "big", "IPv4", FX_PORT("http", "TCP", 80),
				 FX_EP("10.1.0.1", "") "," FX_EP("10.1.0.2", "")));
	assert_int_equal(bn_services_sync(w.svc), -ENOSPC);
	assert_int_equal(bn_services_stats(w.svc)->refused, 1);
	expect_list(&w, "d/big ClusterIP 10.0.0.9:80/TCP=!reject; " WEB_FRONT
			"10.1.0.1:8080L,10.1.0.2:8080");
	bn_store_del(w.store, BN_KIND_SERVICE, "d", "web");
	bn_store_del(w.store, BN_KIND_ENDPOINTSLICE, "d", "web-1");
	fx_put(w.store, FX_SVC("d", "big",
			       "'clusterIP':'10.0.0.9','sessionAffinity':'ClientIP','ports':[{'"
			       "name':'http','port':80}]"));
	(void)bn_services_sync(w.svc);
	for (int i = 0; i < 100 && bn_services_stats(w.svc)->refused; i++) {
		usleep(100000);
		(void)bn_services_sync(w.svc);
	}
	expect_list(&w, "d/big ClusterIP 10.0.0.9:80/TCP=10.1.0.1:80,10.1.0.2:80");
	bn_log_setup("error", "text");
	world_close(&w);
	/* no room for the front */
	small = (struct bn_maps_sizes){0};
	small.entries[BN_MAP_fronts] = 2;
	world_open(&w, &small);
	fx_put(w.store, WEB);
	sync_ok(&w);
	fx_put(w.store,
	       FX_SVC("d", "big", "'clusterIP':'10.0.0.9','ports':[{'name':'http','port':80}]"));
	assert_int_equal(bn_services_sync(w.svc), -ENOSPC);
	assert_int_equal(bn_services_stats(w.svc)->refused, 1);
	expect_list(&w, WEB_FRONT "!reject");
	world_close(&w);
}

static void put_svc(struct world *w, const char *ns, unsigned k, unsigned neps)
{
	char name[32], eps[8192] = "", slice[16384], svc[512];

	snprintf(name, sizeof(name), "s%u", k);
	for (unsigned i = 0; i < neps; i++)
		snprintf(eps + strlen(eps), sizeof(eps) - strlen(eps), "%s{'addresses':['10.%u.%u.%u']}", i ? "," : "",
			 *ns, k, i + 1);
	snprintf(svc, sizeof(svc), "{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'%s','name':'%s'},'spec':{"
		 "'clusterIP':'10.%u.%u.250','ports':[{'name':'http','port':80}]}}", ns, name, *ns, k);
	snprintf(slice, sizeof(slice), "{'apiVersion':'discovery.k8s.io/v1','kind':'EndpointSlice','addressType':'IPv4',"
		 "'metadata':{'namespace':'%s','name':'%s','labels':{'kubernetes.io/service-name':'%s'}},'ports':[{'name':"
		 "'http','port':80}],'endpoints':[%s]}", ns, name, name, eps);
	fx_put(w->store, "%s", svc);
	fx_put(w->store, "%s", slice);
}

static unsigned backends(struct world *w, const char *what)
{
	char *text = list_text(bn_services_json(w->svc)), *at = strstr(text, what), *end;
	unsigned n = 0;

	assert_non_null(at);
	end = strchr(at, ';') ?: at + strlen(at);
	for (at = strchr(at, '=') + 1; at < end; at++)
		n += *at == ':';
	free(text);
	return n;
}

/* Whoever fills the maps keeps nobody else's endpoints from changing, nor services from coming. */
static void test_share(void **state _unused_)
{
	struct bn_maps_sizes small = {0};
	struct world w;

	small.entries[BN_MAP_slots] = 800;
	world_open(&w, &small);
	put_svc(&w, "b", 1, 1); /* one that is alone may have it all */
	for (unsigned neps = 10; neps > 8; neps--) { /* all of them are there, and change */
		for (unsigned k = 0; k < 100; k++)
			put_svc(&w, "a", k, neps);
		(void)bn_services_sync(w.svc);
		put_svc(&w, "b", 1, 20);
		(void)bn_services_sync(w.svc);
		assert_true(bn_services_stats(w.svc)->refused >= 10);
		assert_int_equal(backends(&w, "b/s1"), 20);
		for (unsigned n = 1; n < 20; n++) {
			put_svc(&w, "b", 1, n);
			(void)bn_services_sync(w.svc);
			assert_int_equal(backends(&w, "b/s1"), n);
		}
	}
	put_svc(&w, "c", 1, 10);
	(void)bn_services_sync(w.svc);
	assert_int_equal(backends(&w, "c/s1"), 10);
	/* two greedy ones, and the next still finds room */
	for (unsigned k = 2; k < 100; k++)
		put_svc(&w, "b", k, 10);
	(void)bn_services_sync(w.svc);
	put_svc(&w, "d", 1, 10);
	(void)bn_services_sync(w.svc);
	assert_int_equal(backends(&w, "d/s1"), 10);
	world_restart(&w); /* what was taken over counts as well */
	bn_services_set_ready(w.svc, true);
	(void)bn_services_sync(w.svc);
	for (unsigned k = 0; k < 100; k++)
		put_svc(&w, "a", k, 8);
	put_svc(&w, "e", 1, 5);
	(void)bn_services_sync(w.svc);
	assert_int_equal(backends(&w, "e/s1"), 5);
	assert_int_equal(backends(&w, "d/s1"), 10);
	/* and when the greedy ones go, all that waits comes */
	for (unsigned k = 0; k < 100; k++) {
		char name[16];

		snprintf(name, sizeof(name), "s%u", k);
		bn_store_del(w.store, BN_KIND_SERVICE, "a", name);
		bn_store_del(w.store, BN_KIND_ENDPOINTSLICE, "a", name);
		if (k < 50)
			continue;
		bn_store_del(w.store, BN_KIND_SERVICE, "b", name);
		bn_store_del(w.store, BN_KIND_ENDPOINTSLICE, "b", name);
	}
	(void)bn_services_sync(w.svc);
	for (int i = 0; i < 200 && bn_services_stats(w.svc)->refused; i++) {
		usleep(100000);
		(void)bn_services_sync(w.svc);
	}
	assert_int_equal(bn_services_stats(w.svc)->refused, 0);
	assert_int_equal(backends(&w, "b/s49"), 10);
	bn_log_setup("error", "text");
	world_close(&w);
}

/* Whoever changes a hundred services at once waits for himself. */
static void test_turns(void **state _unused_)
{
	struct world w;
	unsigned n = 0;

	world_open(&w, NULL);
	put_svc(&w, "b", 1, 1);
	sync_ok(&w);
	bn_services_set_slice(w.svc, 1); /* one service a sync */
	for (unsigned k = 0; k < 100; k++)
		put_svc(&w, "a", k, 1);
	put_svc(&w, "b", 1, 2);
	for (int k = 0; k < 2; k++)
		assert_int_equal(bn_services_sync(w.svc), 0);
	assert_int_equal(backends(&w, "b/s1"), 2);
	assert_true(bn_services_unfinished(w.svc) && !bn_services_in_force(w.svc));
	assert_true(bn_services_pending_ns(w.svc));
	while (bn_services_unfinished(w.svc)) {
		assert_int_equal(bn_services_sync(w.svc), 0);
		n++;
	}
	assert_int_equal(n, 99);
	assert_true(bn_services_in_force(w.svc));
	assert_int_equal(bn_services_pending_ns(w.svc), 0);
	assert_int_equal(backends(&w, "a/s99"), 1);
	world_close(&w);
}

static void test_zone(void **state _unused_)
{
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store, WEB);
	fx_put(w.store,
	       FX_SLICE("d", "web-1", "web", "IPv4", FX_PORT("http", "TCP", 8080),
			FX_EP("10.1.0.1", ",'hints':{'forZones':[{'name':'a'}]}") "," FX_EP(
				"10.1.0.2", ",'hints':{'forZones':[{'name':'b'}]}")));
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "10.1.0.1:8080,10.1.0.2:8080");
	fx_put(w.store, "{'apiVersion':'v1','kind':'Node','metadata':{'name':'n2','labels':{'"
			"topology.kubernetes.io/zone':'b'}}}");
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "10.1.0.1:8080,10.1.0.2:8080");
	fx_put(w.store, "{'apiVersion':'v1','kind':'Node','metadata':{'name':'n1','labels':{'"
			"topology.kubernetes.io/zone':'b'}}}");
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "10.1.0.2:8080");
	bn_store_del(w.store, BN_KIND_NODE, "", "n1");
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "10.1.0.1:8080,10.1.0.2:8080");
	world_close(&w);
}

/* service-proxy-name comes and goes; a slice moves to another service. */
static void test_labels(void **state _unused_)
{
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store, WEB);
	fx_put(w.store, WEB1);
	fx_put(w.store,
	       FX_SVC("d", "zoo", "'clusterIP':'10.0.0.7','ports':[{'name':'http','port':80}]"));
	sync_ok(&w);
	fx_put(w.store,
	       "{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','name':'web','"
	       "labels':"
	       "{'service.kubernetes.io/service-proxy-name':'x'}},'spec':{'clusterIP':'10.0.0.1',"
	       "'ports':[{'name':'http','port':80}]}}");
	sync_ok(&w);
	expect_list(&w, "d/zoo ClusterIP 10.0.0.7:80/TCP=!reject");
	fx_put(w.store, WEB);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT
		    "10.1.0.1:8080L,10.1.0.2:8080; d/zoo ClusterIP 10.0.0.7:80/TCP=!reject");
	fx_put(w.store, FX_SLICE("d", "web-1", "zoo", "IPv4", FX_PORT("http", "TCP", 1),
				 FX_EP("10.1.0.5", "")));
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "!reject; d/zoo ClusterIP 10.0.0.7:80/TCP=10.1.0.5:1");
	world_close(&w);
}

/* What a daemon that was killed, or damage, may leave: found, removed, made anew. */
static void test_repair(void **state _unused_)
{
	struct bn_front_key k = {.port = htobe16(99), .proto = BN_PROTO_TCP};
	struct bn_front_val v = {77};
	struct bn_svc_name name = {.name = "d/ghost"};
	struct bn_src_key src = {.prefixlen = 32, .src_set = 5};
	struct bn_svc *dead, *zoo;
	uint32_t id = 4242, one = 1;
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store, WEB);
	fx_put(w.store, WEB1);
	fx_put(w.store,
	       FX_SVC("d", "zoo", "'clusterIP':'10.0.0.7','ports':[{'name':'http','port':80}]"));
	fx_put(w.store, FX_SLICE("d", "zoo-1", "zoo", "IPv4", FX_PORT("http", "TCP", 1),
				 FX_EP("10.1.0.5", "")));
	sync_ok(&w);
	world_down(&w);
	bn_map_put(w.maps, BN_MAP_svc_names, &id, &name);  /* killed before the front */
	bn_map_put(w.maps, BN_MAP_src_ranges, &src, &one); /* killed before the record */
	dead = bn_map_at(w.maps, BN_MAP_svcs, 1000);	   /* killed after the front was deleted */
	dead->key.port = htobe16(7);
	dead->range = BN_RANGE(0, 3, 9);
	world_start(&w, &env);
	/* all that is in force is listed, before and after */
	expect_list(&w, WEB_FRONT
		    "10.1.0.1:8080L,10.1.0.2:8080; d/zoo ClusterIP 10.0.0.7:80/TCP=10.1.0.5:1");
	world_down(&w);
	bn_map_put(w.maps, BN_MAP_fronts, &k, &v); /* damage: a front to nowhere */
	zoo = (struct bn_svc *)raw(&w, "10.0.0.7", 80, BN_PROTO_TCP, 0);
	/* damage: the range of zoo lies inside web's */
	zoo->range =
		BN_RANGE(BN_RANGE_BASE(raw(&w, "10.0.0.1", 80, BN_PROTO_TCP, 0)->range) + 1, 1, 9);
	world_start(&w, &env);
	bn_services_set_ready(w.svc, true);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT
		    "10.1.0.1:8080L,10.1.0.2:8080; d/zoo ClusterIP 10.0.0.7:80/TCP=10.1.0.5:1");
	assert_int_equal(bn_map_get(w.maps, BN_MAP_fronts, &k, &v), -ENOENT);
	assert_int_equal(bn_map_get(w.maps, BN_MAP_svc_names, &id, &name), -ENOENT);
	assert_int_equal(n_src(&w), 0);
	assert_int_equal(dead->key.port, 0);
	assert_int_equal(BN_RANGE_COUNT(dead->range), 0);
	assert_int_equal(bn_map_count(w.maps, BN_MAP_svc_names), 2);
	world_close(&w);
}

static void test_show(void **state _unused_)
{
	struct world w;
	json_t *show;

	world_open(&w, NULL);
	fx_put(w.store, WEB);
	fx_put(w.store, WEB1);
	sync_ok(&w);
	show = bn_services_show(w.svc, "d", "web");
	assert_non_null(show);
	assert_string_equal(json_string_value(json_object_get(show, "type")), "ClusterIP");
	assert_int_equal(json_array_size(json_object_get(show, "frontends")), 1);
	assert_int_equal(json_array_size(json_object_get(
				 json_array_get(json_object_get(show, "ports"), 0), "endpoints")),
			 2);
	json_decref(show);
	assert_null(bn_services_row(w.svc, "d/nope"));
	show = bn_services_row(w.svc, "d/web");
	assert_string_equal(json_string_value(json_object_get(show, "name")), "web");
	json_decref(show);
	assert_null(bn_services_show(w.svc, "d", "nope"));
	assert_int_equal(errno, ENOENT);
	/* before the first list after a restart: what is known, which is what is in force */
	bn_services_freep(&w.svc);
	bn_store_freep(&w.store);
	assert_int_equal(bn_store_new(&w.store), 0);
	world_start(&w, &env);
	show = bn_services_show(w.svc, "d", "web");
	assert_non_null(show);
	assert_int_equal(json_array_size(json_object_get(show, "frontends")), 1);
	json_decref(show);
	world_close(&w);
}

/* Milliseconds that this process has worked. */
static double worked(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Objects of the largest size that an API server takes must not hold the daemon up. */
static double put_large(struct world *w, const char *name, unsigned ports, unsigned ips)
{
	_cleanup_(freep) char *svc = NULL, *slice = NULL;
	double t;
	size_t len;
	FILE *f = open_memstream(&svc, &len), *g = open_memstream(&slice, &len);

	fprintf(f,
		"{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','name':'%s'},'"
		"spec':{"
		"'clusterIPs':['10.0.9.%c','fd00::9:%c'],'externalIPs':[",
		name, name[0] - 'a' + '1', name[0]);
	for (unsigned i = 0; i < ips; i++)
		fprintf(f, "%s'198.18.%u.%u'", i ? "," : "", i / 250, 1 + i % 250);
	fprintf(f, "],'ports':[");
	fprintf(g,
		"{'apiVersion':'discovery.k8s.io/"
		"v1','kind':'EndpointSlice','metadata':{'namespace':'d',"
		"'name':'%s','labels':{'kubernetes.io/service-name':'%s'}},'addressType':'IPv4',"
		"'endpoints':[{'addresses':['10.1.0.1']}],'ports':[",
		name, name);
	for (unsigned i = 0; i < ports; i++) {
		fprintf(f, "%s{'name':'p%u','port':%u}", i ? "," : "", i, 1 + i);
		fprintf(g, "%s{'name':'p%u','port':%u,'protocol':'TCP'}", i ? "," : "", i, 1 + i);
	}
	fprintf(f, "]}}");
	fprintf(g, "]}");
	fclose(f);
	fclose(g);
	fx_put(w->store, "%s", svc);
	fx_put(w->store, "%s", slice);
	t = worked();
	sync_ok(w);
	return (worked() - t) / test_slowness();
}

static double put_huge(struct world *w)
{
	_cleanup_(freep) char *svc = NULL;
	double t = worked();
	size_t len;
	FILE *f = open_memstream(&svc, &len);

	fprintf(f, "{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','name':'huge'},"
		   "'spec':{"
		   "'clusterIP':'10.0.9.77','externalIPs':[");
	for (unsigned i = 0; i < 16000; i++)
		fprintf(f, "%s'198.18.%u.%u'", i ? "," : "", i / 250, 1 + i % 250);
	fprintf(f, "],'ports':[");
	for (unsigned i = 0; i < 1000; i++)
		fprintf(f, "%s{'name':'p%u','port':%u}", i ? "," : "", i, 1 + i);
	fprintf(f, "]}}");
	fclose(f);
	fx_put(w->store, "%s", svc);
	assert_int_equal(bn_services_sync(w->svc), -E2BIG);
	assert_int_equal(bn_services_stats(w->svc)->refused, 16000 * 1000 - 65536);
	assert_non_null(raw(w, "10.0.9.77", 1000, BN_PROTO_TCP, 0));
	return (worked() - t) / test_slowness();
}

static void test_large(void **state _unused_)
{
	struct world w;
	double a, b, c, d, e;

	world_open(&w, NULL);
	a = put_large(&w, "b", 1000, 0);
	b = put_large(&w, "c", 4, 8000);
	c = put_large(&w, "a", 4, 8000); /* takes every address of c */
	assert_int_equal(bn_services_stats(w.svc)->conflicts, 32000);
	d = put_large(&w, "a", 4, 0);
	assert_int_equal(bn_services_stats(w.svc)->conflicts, 0);
	assert_int_equal(bn_services_stats(w.svc)->refused, 0);
	/* more than may be: the first 65,536 and the ClusterIPs are there, the rest is said */
	fx_put(w.store, "%s",
	       "{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','name':'c'},'spec':"
	       "{"
	       "'clusterIP':'10.0.9.3','ports':[{'port':1}]}}");
	sync_ok(&w);
	bn_log_setup("error", "text");
	e = put_huge(&w);
	assert_true(e < 10000);
	print_message("1,000 ports %.0f ms; 32,000 frontends %.0f ms, taken over %.0f ms, given "
		      "back %.0f ms\n",
		      a, b, c, d);
	assert_true(a < 5000 && b < 5000 && c < 10000 && d < 10000);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_basic),
		cmocka_unit_test(test_not_ready),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_show),
		cmocka_unit_test(test_repair),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_zone),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_conflict),
		cmocka_unit_test(test_replace),
	};

	bn_log_setup("error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
