/* SPDX-License-Identifier: MIT */
/* The API server is away: it says nothing, or it is not there, and comes back. */
#include "tests/apiserver/harness.h"

static void test_silent(void **state)
{
	const char *const *const modes[] = { NULL, (const char *const[]){ "--h1", NULL } };
	struct cluster c;
	double t, lost;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		cluster_start(&c, modes[i]);
		api_service(&c.api, "one", "10.96.0.1");
		cluster_source(&c, (struct bn_kube_opts){ 0 });
		wait_for(&c, synced(&c));
		spin(&c, 2.5);
		/* A server that answers nothing, though the kernel under it is there. */
		kill(c.api.pid, SIGSTOP);
		t = now_s();
		wait_for_s(&c, 20, bn_source_failing(c.src, 1u << BN_KIND_SERVICE, 0));
		assert_non_null(strstr(error_of(&c, BN_KIND_SERVICE), "silent"));
		/* ready is false at most 20 s after it began, and it began before we were sure */
		wait_for_s(&c, 22 - (now_s() - t), bn_source_failing(c.src, ALL_KINDS, 15));
		print_message("silence is an error after %.1f s\n", now_s() - t);
		assert_true(has(&c, BN_KIND_SERVICE, "one"));
		spin(&c, 38 - (now_s() - t)); /* given up meanwhile: nothing hangs on the old one */
		lost = now_s();
		kill(c.api.pid, SIGCONT);
		api_service(&c.api, "two", "10.96.0.2");
		wait_for_s(&c, 35, has(&c, BN_KIND_SERVICE, "two"));
		print_message("back after %.1f s\n", now_s() - lost);
		wait_for(&c, !bn_source_failing(c.src, ALL_KINDS, 0));
		cluster_stop(&c);
	}
}

/* Silence shorter than what we give up after: nothing is asked again. */
static void test_hiccup(void **state)
{
	struct cluster c;

	(void)state;
	cluster_start(&c, NULL);
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	spin(&c, 2.5);
	kill(c.api.pid, SIGSTOP);
	wait_for_s(&c, 20, strstr(error_of(&c, BN_KIND_NODE), "silent"));
	kill(c.api.pid, SIGCONT);
	wait_for_s(&c, 10, !bn_source_failing(c.src, ALL_KINDS, 0));
	assert_int_equal(api_count(&c.api, "nodes", "stream"), 1);
	assert_int_equal(api_count(&c.api, "nodes", "watch"), 0);
	cluster_stop(&c);
}

/* Killed and started again with other objects: what is gone goes, what is new comes. */
static void restart(const char *rv)
{
	struct cluster c;
	char port[16], path[160], cmd[800];
	double t;

	cluster_start(&c, NULL);
	api_service(&c.api, "old", "10.96.0.1");
	api_service(&c.api, "both", "10.96.0.2");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	snprintf(port, sizeof(port), "%s", strrchr(c.api.url, ':') + 1);
	snprintf(path, sizeof(path), "/tmp/kube-test-%d-certs", getpid());
	snprintf(cmd, sizeof(cmd), "rm -rf %s && cp -r %s %s && rm %s/control", path, c.api.dir, path,
		 path);
	assert_int_equal(system(cmd), 0);
	api_stop(&c.api);
	wait_for(&c, *error_of(&c, BN_KIND_SERVICE));
	spin(&c, 5);
	assert_int_equal(count(&c, BN_KIND_SERVICE), 2); /* what was read stays */
	c.puts = 0;
	api_start_in(&c.api, path, (const char *[]){ "--port", port, "--rv", rv, "--bookmark",
							    "2", NULL });
	api_service(&c.api, "both", "10.96.0.2");
	api_service(&c.api, "new", "10.96.0.3");
	t = now_s();
	wait_for_s(&c, 35, has(&c, BN_KIND_SERVICE, "new"));
	wait_for_s(&c, 35, !has(&c, BN_KIND_SERVICE, "old"));
	assert_true(has(&c, BN_KIND_SERVICE, "both"));
	/* what has the same content is no change to anybody */
	assert_int_equal(c.puts, 1);
	print_message("in sync %.1f s after the restart\n", now_s() - t);
	wait_for_s(&c, 35, !bn_source_failing(c.src, ALL_KINDS, 0));
	cluster_stop(&c);
}

static void test_restart(void **state)
{
	(void)state;
	restart("5000");
}

/* Another etcd, or a restored one: its versions are behind ours, and no watch would ever tell. */
static void test_restart_in_the_past(void **state)
{
	(void)state;
	restart("1");
}

/* A server whose etcd hangs for one kind takes the requests and says nothing. */
static void test_unanswered(void **state)
{
	struct cluster c;
	double t;

	(void)state;
	cluster_start(&c, NULL);
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"pods\",\"times\":-1,\"hang\":true}");
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"nodes\",\"verb\":\"watch\",\"times\":-1,\"hang\":true}");
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"nodes\",\"verb\":\"stream\",\"times\":-1,\"status\":400}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	t = now_s();
	wait_for_s(&c, 18, *error_of(&c, BN_KIND_POD) && *error_of(&c, BN_KIND_NODE));
	print_message("said after %.1f s: %s; %s\n", now_s() - t, error_of(&c, BN_KIND_POD), error_of(&c, BN_KIND_NODE));
	assert_string_equal(error_of(&c, BN_KIND_POD), "pods: list: the server takes the request, and has not answered for "
						       "more than 10 s");
	assert_non_null(strstr(error_of(&c, BN_KIND_NODE), "nodes: watch: "));
	assert_true(bn_source_failing(c.src, 1u << BN_KIND_POD, 9)); /* since it was asked */
	assert_false(bn_source_synced(c.src, 1u << BN_KIND_POD));
	assert_true(bn_source_synced(c.src, 1u << BN_KIND_SERVICE | 1u << BN_KIND_NODE));
	assert_false(bn_source_failing(c.src, 1u << BN_KIND_SERVICE, 0));
	api(&c.api, "{\"cmd\":\"clear\"}");
	/* the watch that hangs is given up after 20 s, streamed lists too, and what was listed says so */
	wait_for_s(&c, 75, synced(&c) && !bn_source_failing(c.src, ALL_KINDS, 0));
	print_message("well after %.1f s\n", now_s() - t);
	cluster_stop(&c);
}

/* A proxy that holds a running watch back: the server's bookmarks do not come any more. */
static void test_held_back(void **state)
{
	struct cluster c;
	double t;

	(void)state;
	cluster_start(&c, (const char *const[]){ "--bookmark", "1", NULL });
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"stream\",\"mute\":5}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	spin(&c, 6);
	api_service(&c.api, "two", "10.96.0.2");
	t = now_s();
	spin(&c, 1);
	assert_false(has(&c, BN_KIND_SERVICE, "two"));
	wait_for_s(&c, 25, has(&c, BN_KIND_SERVICE, "two"));
	print_message("noticed after %.1f s\n", now_s() - t);
	assert_int_equal(api_count(&c.api, "services", "watch"), 1);
	assert_int_equal(api_count(&c.api, "services", "stream"), 1);
	/* others were left alone, and silence where bookmarks come is none */
	spin(&c, 15);
	assert_int_equal(api_count(&c.api, "pods", "watch"), 0);
	assert_int_equal(api_count(&c.api, "services", "watch"), 1);
	assert_false(bn_source_failing(c.src, ALL_KINDS, 0));
	cluster_stop(&c);
}

/* Nobody there: fewer and fewer attempts, hardly any work. */
static void test_backoff(void **state)
{
	struct cluster c = { 0 };
	double cpu;

	(void)state;
	cluster_base(&c);
	cluster_source(&c, (struct bn_kube_opts){ .kubeconfig = NULL, .sa_dir = "/nonexistent",
						  .master = "https://127.0.0.1:9" });
	spin(&c, 4);
	cpu = cpu_s();
	spin(&c, 12);
	cpu = (cpu_s() - cpu) / 12;
	print_message("nobody there: %.3f %% of a CPU\n", cpu * 100);
	assert_true(cpu < 0.01);
	assert_non_null(strstr(error_of(&c, BN_KIND_POD), "pods: watch: "));
	assert_non_null(strstr(error_of(&c, BN_KIND_POD), "127.0.0.1"));
	assert_true(bn_source_failing(c.src, ALL_KINDS, 10));
	bn_source_freep(&c.src);
	bn_store_freep(&c.store);
	event_base_free(c.base);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silent),
		cmocka_unit_test(test_hiccup),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_restart_in_the_past),
		cmocka_unit_test(test_unanswered),
		cmocka_unit_test(test_held_back),
		cmocka_unit_test(test_backoff),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	bn_log_setup("error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
