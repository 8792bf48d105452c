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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_h2_streaming),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
