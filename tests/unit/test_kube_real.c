/* SPDX-License-Identifier: MIT */
/* The API source against a real kube-apiserver and etcd, when KUBE_APISERVER and ETCD name their
 * binaries. Without them nothing here is run, and each test says so.
 */
#include "tests/apiserver/harness.h"

static bool missing(void)
{
	const char *const names[] = { "KUBE_APISERVER", "ETCD" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!getenv(names[i]) || access(getenv(names[i]), X_OK) < 0) {
			print_message("not run: $%s names no binary\n", names[i]);
			return true;
		}
	return false;
}

static void begin(struct cluster *c)
{
	memset(c, 0, sizeof(*c));
	api_program = "tests/apiserver/real.py";
	api_start(&c->api, NULL);
	cluster_base(c);
	api_service(&c->api, "one", "10.96.7.1");
	cluster_source(c, (struct bn_kube_opts){ 0 });
	wait_for_s(c, 60, synced(c));
	assert_true(has(c, BN_KIND_SERVICE, "one"));
}

static void test_follows(void **state)
{
	struct cluster c;

	(void)state;
	if (missing())
		skip();
	begin(&c);
	api_service(&c.api, "two", "10.96.7.2");
	wait_for(&c, has(&c, BN_KIND_SERVICE, "two"));
	api(&c.api, "{\"cmd\":\"put\",\"object\":{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":"
		    "\"EndpointSlice\",\"metadata\":{\"name\":\"two-x\",\"namespace\":\"default\","
		    "\"labels\":{\"kubernetes.io/service-name\":\"two\"}},\"addressType\":\"IPv4\","
		    "\"endpoints\":[{\"addresses\":[\"10.1.1.1\"]}],\"ports\":[{\"port\":80}]}}");
	api(&c.api, "{\"cmd\":\"put\",\"object\":{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":"
		    "\"NetworkPolicy\",\"metadata\":{\"name\":\"np\",\"namespace\":\"default\"},"
		    "\"spec\":{\"podSelector\":{},\"policyTypes\":[\"Ingress\"]}}}");
	wait_for(&c, has(&c, BN_KIND_ENDPOINTSLICE, "two-x") && has(&c, BN_KIND_NETPOL, "np"));
	api(&c.api, "{\"cmd\":\"delete\",\"resource\":\"services\",\"namespace\":\"default\","
		    "\"name\":\"one\"}");
	wait_for(&c, !has(&c, BN_KIND_SERVICE, "one"));
	cluster_stop(&c);
}

/* Killed, changed behind our back, compacted, started again. */
static void test_away(void **state)
{
	struct cluster c;

	(void)state;
	if (missing())
		skip();
	begin(&c);
	api(&c.api, "{\"cmd\":\"drop\"}");
	api_service(&c.api, "after", "10.96.7.3");
	wait_for_s(&c, 60, has(&c, BN_KIND_SERVICE, "after"));
	api(&c.api, "{\"cmd\":\"stop\"}");
	api(&c.api, "{\"cmd\":\"delete_in_etcd\",\"key\":\"/registry/services/specs/default/one\"}");
	api(&c.api, "{\"cmd\":\"compact\"}");
	wait_for(&c, *error_of(&c, BN_KIND_SERVICE));
	assert_true(has(&c, BN_KIND_SERVICE, "one"));
	api(&c.api, "{\"cmd\":\"start\"}");
	wait_for_s(&c, 60, !has(&c, BN_KIND_SERVICE, "one"));
	api_service(&c.api, "last", "10.96.7.4");
	wait_for_s(&c, 60, has(&c, BN_KIND_SERVICE, "last"));
	wait_for_s(&c, 60, !bn_source_failing(c.src, ALL_KINDS, 0));
	cluster_stop(&c);
}

static void test_crd(void **state)
{
	struct cluster c;

	(void)state;
	if (missing())
		skip();
	begin(&c);
	assert_false(c.src->state[BN_KIND_HTTPNETPOL].used);
	api(&c.api, "{\"cmd\":\"present\",\"resource\":\"httpnetworkpolicies\",\"present\":true}");
	api(&c.api, "{\"cmd\":\"put\",\"object\":{\"apiVersion\":\"bpfnet.io/v1alpha1\",\"kind\":"
		    "\"HTTPNetworkPolicy\",\"metadata\":{\"name\":\"h\",\"namespace\":\"default\"},"
		    "\"spec\":{\"podSelector\":{},\"policyTypes\":[\"Ingress\"],\"ingress\":[]}}}");
	wait_for_s(&c, 60, has(&c, BN_KIND_HTTPNETPOL, "h"));
	api(&c.api, "{\"cmd\":\"present\",\"resource\":\"httpnetworkpolicies\",\"present\":false}");
	wait_for_s(&c, 60, !has(&c, BN_KIND_HTTPNETPOL, "h"));
	wait_for_s(&c, 60, !c.src->state[BN_KIND_HTTPNETPOL].used);
	cluster_stop(&c);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_follows),
		cmocka_unit_test(test_away),
		cmocka_unit_test(test_crd),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	bn_log_setup("error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
