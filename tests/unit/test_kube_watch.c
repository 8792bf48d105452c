/* SPDX-License-Identifier: MIT */
/* The API source against the test API server, when the server behaves. */
#include "tests/apiserver/harness.h"

/* Every kind is listed, watched and followed; what is deleted goes. */
static void follows(struct cluster *c)
{
	api_service(&c->api, "one", "10.96.0.1");
	api(&c->api, "{\"cmd\":\"fill\",\"services\":3,\"pods\":7,\"namespaces\":2,\"policies\":2,"
		     "\"nodes\":4}");
	cluster_source(c, (struct bn_kube_opts){ 0 });
	wait_for(c, synced(c));
	assert_int_equal(count(c, BN_KIND_SERVICE), 4);
	assert_int_equal(count(c, BN_KIND_ENDPOINTSLICE), 3);
	assert_int_equal(count(c, BN_KIND_POD), 7);
	assert_int_equal(count(c, BN_KIND_NAMESPACE), 2);
	assert_int_equal(count(c, BN_KIND_NODE), 4);
	assert_int_equal(count(c, BN_KIND_NETPOL), 2);
	assert_int_equal(count(c, BN_KIND_HTTPNETPOL), 0);
	assert_false(c->src->state[BN_KIND_HTTPNETPOL].used);
	api_service(&c->api, "two", "10.96.0.2");
	wait_for(c, has(c, BN_KIND_SERVICE, "two"));
	api(&c->api, "{\"cmd\":\"delete\",\"resource\":\"services\",\"namespace\":\"default\","
		     "\"name\":\"one\"}");
	wait_for(c, !has(c, BN_KIND_SERVICE, "one"));
	assert_int_equal(count(c, BN_KIND_SERVICE), 4);
}

static void test_h2_streaming(void **state)
{
	struct cluster c;

	(void)state;
	cluster_start(&c, (const char *[]){ "--token", "s3cret", NULL });
	follows(&c);
	assert_int_equal(api_count(&c.api, "services", "stream"), 1);
	assert_int_equal(api_count(&c.api, "services", "list"), 0);
	assert_int_equal(api_count(&c.api, "services", "watch"), 0);
	cluster_stop(&c);
}

/* Without streaming: pages of 500. */
static void test_pages(void **state)
{
	struct cluster c;

	(void)state;
	cluster_start(&c, NULL);
	api(&c.api, "{\"cmd\":\"streaming\",\"on\":false}");
	api(&c.api, "{\"cmd\":\"fill\",\"services\":1203,\"endpoints\":2}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	assert_int_equal(count(&c, BN_KIND_SERVICE), 1203);
	assert_int_equal(count(&c, BN_KIND_ENDPOINTSLICE), 1203);
	assert_int_equal(api_count(&c.api, "services", "list"), 3);
	/* all of it, watches included, on one connection */
	json_t *o = api_ask(&c.api, "{\"cmd\":\"requests\"}");

	assert_int_equal(json_integer_value(json_object_get(o, "conns")), 1);
	json_decref(o);
	cluster_stop(&c);
}

static void test_h1(void **state)
{
	(void)state;
	struct cluster c;

	cluster_start(&c, (const char *[]){ "--h1", NULL });
	follows(&c);
	cluster_stop(&c);
}

static void test_plain(void **state)
{
	(void)state;
	struct cluster c;

	cluster_start(&c, (const char *[]){ "--plain", NULL });
	follows(&c);
	cluster_stop(&c);
}

static void test_v6(void **state)
{
	(void)state;
	struct cluster c;

	cluster_start(&c, (const char *[]){ "--address", "::1", NULL });
	follows(&c);
	cluster_stop(&c);
}

/* Services that ask for another proxy come and go with their label. */
static void test_selectors(void **state)
{
	static const char *const put =
		"{\"cmd\":\"put\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{"
		"\"name\":\"x\",\"namespace\":\"default\",\"labels\":{%s}},\"spec\":{\"clusterIP\":"
		"\"fd00::1\",\"ports\":[{\"port\":80}]}}}";
	struct cluster c;

	(void)state;
	cluster_start(&c, NULL);
	api(&c.api, put, "\"service.kubernetes.io/service-proxy-name\":\"other\"");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	assert_false(has(&c, BN_KIND_SERVICE, "x"));
	api(&c.api, put, "");
	wait_for(&c, has(&c, BN_KIND_SERVICE, "x"));
	api(&c.api, put, "\"service.kubernetes.io/service-proxy-name\":\"other\"");
	wait_for(&c, !has(&c, BN_KIND_SERVICE, "x"));
	cluster_stop(&c);
}

static void test_proxy_name(void **state)
{
	struct cluster c;

	(void)state;
	cluster_start(&c, NULL);
	api_service(&c.api, "default", "10.96.0.1");
	api(&c.api, "{\"cmd\":\"put\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"Service\","
		    "\"metadata\":{\"name\":\"mine\",\"namespace\":\"default\",\"labels\":{"
		    "\"service.kubernetes.io/service-proxy-name\":\"bpfnet\"}},\"spec\":{"
		    "\"clusterIP\":\"10.96.0.2\",\"ports\":[{\"port\":80}]}}}");
	cluster_source(&c, (struct bn_kube_opts){ .service_proxy_name = "bpfnet" });
	wait_for(&c, synced(&c));
	assert_true(has(&c, BN_KIND_SERVICE, "mine"));
	assert_false(has(&c, BN_KIND_SERVICE, "default"));
	cluster_stop(&c);
}

/* A CRD that appears, and disappears with its objects, while the daemon runs. */
static void test_crd(void **state)
{
	struct cluster c;

	(void)state;
	cluster_start(&c, NULL);
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	assert_false(c.src->state[BN_KIND_HTTPNETPOL].used);
	assert_string_equal(error_of(&c, BN_KIND_HTTPNETPOL), "");
	api(&c.api, "{\"cmd\":\"present\",\"resource\":\"httpnetworkpolicies\",\"present\":true}");
	api(&c.api, "{\"cmd\":\"put\",\"object\":{\"apiVersion\":\"bpfnet.io/v1alpha1\",\"kind\":"
		    "\"HTTPNetworkPolicy\",\"metadata\":{\"name\":\"h\",\"namespace\":\"default\"},"
		    "\"spec\":{\"podSelector\":{},\"policyTypes\":[\"Ingress\"],\"ingress\":[]}}}");
	wait_for(&c, has(&c, BN_KIND_HTTPNETPOL, "h"));
	assert_true(c.src->state[BN_KIND_HTTPNETPOL].used);
	/* gone from the server's log too: only the 404 tells */
	api(&c.api, "{\"cmd\":\"delete\",\"resource\":\"httpnetworkpolicies\",\"namespace\":\"default\","
		    "\"name\":\"h\",\"silent\":true}");
	api(&c.api, "{\"cmd\":\"present\",\"resource\":\"httpnetworkpolicies\",\"present\":false}");
	wait_for(&c, !has(&c, BN_KIND_HTTPNETPOL, "h"));
	wait_for(&c, !c.src->state[BN_KIND_HTTPNETPOL].used);
	assert_string_equal(error_of(&c, BN_KIND_HTTPNETPOL), "");
	cluster_stop(&c);
}

/* An object that is bad is refused and told of; its last good version stays. */
static void test_rejected(void **state)
{
	struct cluster c;
	const struct bn_service *s;

	(void)state;
	cluster_start(&c, NULL);
	api_service(&c.api, "s", "10.96.0.1");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	api_service(&c.api, "s", "not-an-address");
	api_service(&c.api, "t", "10.96.0.2");
	wait_for(&c, has(&c, BN_KIND_SERVICE, "t"));
	json_t *rejected = bn_source_rejected_json(c.src);

	assert_int_equal(json_array_size(rejected), 1);
	json_decref(rejected);
	s = (struct bn_service *)bn_store_get(c.store, BN_KIND_SERVICE, "default", "s");
	assert_int_equal(s->ncluster_ips, 1);
	/* a relist does not lose it either */
	api(&c.api, "{\"cmd\":\"fill\",\"nodes\":1,\"namespaces\":0}");
	api(&c.api, "{\"cmd\":\"compact\"}");
	api(&c.api, "{\"cmd\":\"drop\"}");
	wait_for(&c, api_count(&c.api, "services", "stream") >= 2);
	spin(&c, 0.5);
	assert_true(has(&c, BN_KIND_SERVICE, "s"));
	api(&c.api, "{\"cmd\":\"delete\",\"resource\":\"services\",\"namespace\":\"default\","
		    "\"name\":\"s\"}");
	wait_for(&c, !has(&c, BN_KIND_SERVICE, "s"));
	rejected = bn_source_rejected_json(c.src);
	assert_int_equal(json_array_size(rejected), 0);
	json_decref(rejected);
	cluster_stop(&c);
}

/* With nothing to do it does nothing, and bookmarks keep its place. */
static void test_idle(void **state)
{
	struct cluster c;
	double cpu;

	(void)state;
	cluster_start(&c, (const char *[]){ "--bookmark", "1", NULL });
	api(&c.api, "{\"cmd\":\"fill\",\"services\":100,\"pods\":100}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	spin(&c, 3);
	cpu = cpu_s();
	spin(&c, 5);
	cpu = (cpu_s() - cpu) / 5;
	print_message("idle: %.3f %% of a CPU with a bookmark a second, RSS %ld KiB\n", cpu * 100,
		      rss_kib());
	assert_true(cpu < 0.01);
	/* What changed elsewhere moved our place too: a compaction is no reason to list again. */
	api_service(&c.api, "new", "10.97.0.1");
	wait_for(&c, has(&c, BN_KIND_SERVICE, "new"));
	spin(&c, 2.5);
	long before = api_count(&c.api, "nodes", "stream");

	api(&c.api, "{\"cmd\":\"compact\"}");
	api(&c.api, "{\"cmd\":\"drop\"}");
	wait_for(&c, api_count(&c.api, "nodes", "watch") >= 1);
	spin(&c, 1);
	assert_int_equal(api_count(&c.api, "nodes", "stream"), before);
	cluster_stop(&c);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_h2_streaming), cmocka_unit_test(test_pages),
		cmocka_unit_test(test_h1),	     cmocka_unit_test(test_plain),
		cmocka_unit_test(test_v6),	     cmocka_unit_test(test_selectors),
		cmocka_unit_test(test_proxy_name),   cmocka_unit_test(test_crd),
		cmocka_unit_test(test_rejected),     cmocka_unit_test(test_idle),
	};

	bn_log_setup("error", "text");
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
