/* SPDX-License-Identifier: MIT */
/* Which service and endpoints an address or a name stands for: what policy trace and lint ask. */
#include "tests/svc_fixture.h"

#include "policy/intern.h"

#define P8080 FX_PORT("http", "TCP", 8080)

static void look(struct bn_svcindex *x, const char *node, const char *addr, uint16_t port, int err,
		 const char *svc, uint32_t backends)
{
	_cleanup_(bn_svc_choice_freep) struct bn_svc_choice *c = NULL;
	struct bn_addr a;

	assert_int_equal(bn_addr_parse(addr, &a), 0);
	assert_int_equal(bn_svcindex_by_addr(x, node, NULL, &a, port, BN_PROTO_TCP, &c), err);
	if (err)
		return;
	assert_string_equal(c->svc->o.name, svc);
	assert_int_equal(c->nbackends, backends);
	assert_true(bn_addr_eq(&c->addr, &a));
}

static void test_lookup(void **state _unused_)
{
	struct bn_store *store;
	struct bn_svcindex *x;
	struct bn_svc_choice *c = NULL;
	struct bn_addr client;

	assert_int_equal(bn_store_new(&store), 0);
	assert_int_equal(bn_svcindex_new(store, NULL, &x), 0);
	look(x, "n1", "10.0.0.1", 80, -ENOENT, NULL, 0);
	fx_put(store, FX_SVC("d", "web",
			     "'type':'NodePort','clusterIPs':['10.0.0.1','fd00::1'],'"
			     "externalTrafficPolicy':'Local',"
			     "'ports':[{'name':'http','port':80,'nodePort':30080}]"));
	fx_put(store, FX_SLICE("d", "web4", "web", "IPv4", P8080,
			       FX_EP("10.1.0.1", FX_ON("n1")) "," FX_EP("10.1.0.2", FX_ON("n1"))));
	fx_put(store, FX_SLICE("d", "web6", "web", "IPv6", P8080, FX_EP("fd01::1", FX_ON("n1"))));
	fx_put(store,
	       "{'apiVersion':'v1','kind':'Node','metadata':{'name':'n1'},'status':{'addresses':["
	       "{'type':'InternalIP','address':'192.168.0.1'}]}}");
	fx_put(store,
	       "{'apiVersion':'v1','kind':'Node','metadata':{'name':'n2'},'status':{'addresses':["
	       "{'type':'InternalIP','address':'192.168.0.2'}]}}");
	look(x, "n1", "10.0.0.1", 80, 0, "web", 2);
	look(x, "n1", "fd00::1", 80, 0, "web", 1);
	look(x, "n1", "10.0.0.1", 81, -EADDRNOTAVAIL, NULL, 0);
	look(x, "n1", "192.168.0.1", 30080, 0, "web", 2);
	/* the other node has no local endpoint, and this client is not its own */
	look(x, "n1", "192.168.0.2", 30080, 0, "web", 0);
	look(x, "n2", "192.168.0.2", 30080, 0, "web", 2);
	look(x, "n1", "192.168.0.9", 30080, -ENOENT, NULL, 0);
	/* a client outside comes in by a node that has an endpoint: of each node those of its Local list */
	fx_put(store, FX_SVC("d", "lb", "'type':'LoadBalancer','clusterIPs':['10.0.0.2'],'"
			     "externalTrafficPolicy':'Local','internalTrafficPolicy':'Local',"
			     "'externalIPs':['8.0.0.1'],'ports':[{'name':'http','port':80,"
			     "'nodePort':30081}]"));
	fx_put(store,
	       FX_SLICE("d", "lb4", "lb", "IPv4", P8080,
			FX_EP("10.1.0.1", FX_ON("n1")) "," FX_EP("10.1.0.2", FX_COND(false, true, true) FX_ON("n1")) ","
			FX_EP("10.1.0.3", FX_COND(false, true, true) FX_ON("n2")) "," FX_EP("10.1.0.4", "")));
	look(x, NULL, "8.0.0.1", 80, 0, "lb", 2);
	look(x, "n1", "8.0.0.1", 80, 0, "lb", 2); /* pods: all that are ready */
	look(x, NULL, "10.0.0.2", 80, 0, "lb", 0);
	look(x, NULL, "192.168.0.2", 30081, 0, "lb", 1);
	bn_store_del(store, BN_KIND_SERVICE, "d", "lb");
	assert_int_equal(bn_svcindex_by_name(x, "n1", NULL, "d", "web", 80, BN_PROTO_TCP, &c), 0);
	assert_int_equal(c->nbackends, 2);
	bn_svc_choice_freep(&c);
	bn_addr_parse("fd09::1", &client);
	assert_int_equal(bn_svcindex_by_name(x, "n1", &client, "d", "web", 80, BN_PROTO_TCP, &c),
			 0);
	assert_int_equal(c->nbackends, 1);
	bn_svc_choice_freep(&c);
	assert_int_equal(bn_svcindex_by_name(x, "n1", NULL, "d", "web", 81, BN_PROTO_TCP, &c),
			 -ENXIO);
	assert_int_equal(bn_svcindex_by_name(x, "n1", NULL, "d", "no", 80, BN_PROTO_TCP, &c),
			 -ENOENT);
	bn_store_del(store, BN_KIND_SERVICE, "d", "web");
	look(x, "n1", "10.0.0.1", 80, -ENOENT, NULL, 0);
	bn_svcindex_freep(&x); /* it listens to the store */
	bn_store_freep(&store);
	bn_intern_reset();
}

/* Slices as JSON, NULL-terminated -> why the one port of service "s" (10.0.0.1, 80/TCP "http") is empty. */
static void why_empty(const char *want, const char *const *slices)
{
	_cleanup_(bn_svc_choice_freep) struct bn_svc_choice *c = NULL;
	struct bn_svcindex *x;
	struct bn_store *store;

	assert_int_equal(bn_store_new(&store), 0);
	assert_int_equal(bn_svcindex_new(store, NULL, &x), 0);
	fx_put(store, FX_SVC("d", "s", "'clusterIPs':['10.0.0.1'],'internalTrafficPolicy':'Local','ports':[{'name':'http','port':80}]"));
	for (; *slices; slices++)
		fx_put(store, *slices);
	assert_int_equal(bn_svcindex_by_name(x, "n1", NULL, "d", "s", 80, BN_PROTO_TCP, &c), 0);
	assert_int_equal(c->nbackends, 0);
	assert_string_equal(c->why, want);
	bn_svcindex_freep(&x);
	bn_store_freep(&store);
	bn_intern_reset();
}
#define WHY(want, ...) why_empty(want, (const char *const[]){__VA_ARGS__ __VA_OPT__(,) NULL})

static void test_why(void **state _unused_)
{
	const char *p80 = FX_SLICE("d", "x", "s", "IPv4", FX_PORT("web", "TCP", 80), FX_EP("10.1.0.1", ""));

	WHY("it has no EndpointSlice (does its selector match a pod?)");
	WHY("its EndpointSlices are empty (does its selector match a running pod?)", FX_SLICE("d", "x", "s", "IPv4", P8080, ""));
	WHY("its EndpointSlices hold no IPv4 address", FX_SLICE("d", "x", "s", "IPv6", P8080, FX_EP("fd00::1", "")));
	WHY("no EndpointSlice has the port 'http' TCP, but 'web' TCP (have its pods the targetPort?)", p80);
	WHY("none of its 2 endpoints is ready",
	    FX_SLICE("d", "x", "s", "IPv4", P8080, FX_EP("10.1.0.1", FX_COND(false, false, false)) "," FX_EP("10.1.0.2", FX_COND(false, false, true))));
	WHY("1 of its 1 endpoints can be used, none of them on this node",
	    FX_SLICE("d", "x", "s", "IPv4", P8080, FX_EP("10.1.0.1", FX_ON("n2"))));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_why),
		cmocka_unit_test(test_lookup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
