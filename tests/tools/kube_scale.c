/* SPDX-License-Identifier: MIT */
/* What reading a big cluster costs: kube_scale [services [endpoints [pods [pages]]]]
 *
 * Prints CPU, time and memory from the first request to the last object in the store, then the cost
 * of one endpoint change. Fails when CPU for Services and EndpointSlices is over the goal (1.5 s at
 * 10,000 x 10, list to in-force: the store is less than half of it).
 */
#include "tests/apiserver/harness.h"

static int services = 10000, endpoints = 10, pods = 20000;
static bool pages;

static void report(const char *what, double cpu, double t, long kib)
{
	print_message("%-34s CPU %.3f s, time %.2f s, RSS %+.1f MiB\n", what, cpu, t,
		      kib / 1024.0);
}

static void test_scale(void **state)
{
	const unsigned svc = 1u << BN_KIND_SERVICE | 1u << BN_KIND_ENDPOINTSLICE;
	struct cluster c;
	double cpu, t;
	long kib;

	(void)state;
	cluster_start(&c, NULL);
	if (pages)
		api(&c.api, "{\"cmd\":\"streaming\",\"on\":false}");
	api(&c.api, "{\"cmd\":\"fill\",\"services\":%d,\"endpoints\":%d,\"namespaces\":100}",
	    services, endpoints);
	kib = rss_kib();
	cpu = cpu_s();
	t = now_s();
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for_s(&c, 120, bn_source_synced(c.src, svc));
	cpu = cpu_s() - cpu;
	report("services and endpointslices:", cpu, now_s() - t, rss_kib() - kib);
	assert_int_equal(count(&c, BN_KIND_SERVICE), services);
	assert_int_equal(count(&c, BN_KIND_ENDPOINTSLICE), services);
	assert_true(cpu <= 1.5 * services * (endpoints + 3) / 130000 + 0.2);
	bn_source_freep(&c.src);
	bn_store_freep(&c.store);
	assert_int_equal(bn_store_new(&c.store), 0);
	api(&c.api, "{\"cmd\":\"fill\",\"pods\":%d,\"namespaces\":100}", pods);
	spin(&c, 0.2);
	kib = rss_kib();
	cpu = cpu_s();
	t = now_s();
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for_s(&c, 120, synced(&c));
	report("all of it, with pods:", cpu_s() - cpu, now_s() - t, rss_kib() - kib);
	assert_int_equal(count(&c, BN_KIND_POD), pods);
	print_message("RSS in all %.1f MiB\n", rss_kib() / 1024.0);
	spin(&c, 3);
	cpu = cpu_s();
	for (int i = 0; i < 200; i++) {
		char ip[24];

		snprintf(ip, sizeof(ip), "10.98.0.%d", i + 1);
		api_service(&c.api, "changing", ip);
		spin(&c, 0.01);
	}
	print_message("one change: %.0f us of CPU, the test's own included\n",
		      (cpu_s() - cpu) / 200 * 1e6);
	cluster_stop(&c);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_scale) };

	if (argc > 1)
		services = atoi(argv[1]);
	if (argc > 2)
		endpoints = atoi(argv[2]);
	if (argc > 3)
		pods = atoi(argv[3]);
	pages = argc > 4;
	bn_log_setup("error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
