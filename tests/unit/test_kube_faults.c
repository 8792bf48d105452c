/* SPDX-License-Identifier: MIT */
/* The API source against the test API server, when the server misbehaves. Each case ends with what
 * counts: the store equal to the server again, and no flood of requests meanwhile.
 */
#include "tests/apiserver/harness.h"

static void begin(struct cluster *c, const char *const *extra)
{
	cluster_start(c, extra);
	for (int i = 1; i <= 3; i++) {
		char name[8], ip[16];

		snprintf(name, sizeof(name), "s%d", i);
		snprintf(ip, sizeof(ip), "10.96.0.%d", i);
		api_service(&c->api, name, ip);
	}
}

static void begin_synced(struct cluster *c, const char *const *extra)
{
	begin(c, extra);
	cluster_source(c, (struct bn_kube_opts){ 0 });
	wait_for(c, synced(c));
	assert_int_equal(count(c, BN_KIND_SERVICE), 3);
}

/* Moves the resource version without touching any Service. */
static void bump(struct cluster *c)
{
	api(&c->api, "{\"cmd\":\"fill\",\"nodes\":1,\"namespaces\":0}");
}

/* A change made now arrives: the watch works. */
static void alive(struct cluster *c, const char *name)
{
	api_service(&c->api, name, "10.96.9.9");
	wait_for_s(c, 40, has(c, BN_KIND_SERVICE, name));
	wait_for(c, !*error_of(c, BN_KIND_SERVICE));
}

#define del_service(c, name)                                                                       \
	api(&(c)->api, "{\"cmd\":\"delete\",\"resource\":\"services\",\"namespace\":\"default\","   \
		       "\"name\":\"" name "\"}")

/* --- 410 Gone, in each of its forms --------------------------------------------------------------- */

/* The place is compacted while we are away; what was deleted meanwhile is found by the list. */
static void compacted(const char *fault)
{
	struct cluster c;

	begin_synced(&c, NULL);
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"watch\",%s}", fault);
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"*\",\"times\":4,\"status\":503}");
	api(&c.api, "{\"cmd\":\"drop\"}");
	del_service(&c, "s1");
	bump(&c);
	api(&c.api, "{\"cmd\":\"compact\"}");
	wait_for_s(&c, 40, !has(&c, BN_KIND_SERVICE, "s1"));
	assert_true(has(&c, BN_KIND_SERVICE, "s2"));
	alive(&c, "after");
	cluster_stop(&c);
}

static void test_gone_status(void **state)
{
	(void)state;
	compacted("\"gone_status\":true");
}

static void test_gone_event(void **state)
{
	(void)state;
	compacted("\"late_gone\":true");
}

static void test_gone_error_event(void **state)
{
	(void)state;
	compacted("\"error_event\":410");
}

/* 410 to every watch: lists again, slower and slower, and right all the time. */
static void test_gone_always(void **state)
{
	struct cluster c;
	long n;

	(void)state;
	begin(&c, NULL);
	api(&c.api, "{\"cmd\":\"streaming\",\"on\":false}");
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"watch\",\"times\":-1,"
		    "\"error_event\":410}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	spin(&c, 6);
	n = api_count(&c.api, "services", "watch");
	print_message("410 each time: %ld watches in 6 s\n", n);
	assert_in_range(n, 3, 9);
	assert_non_null(strstr(error_of(&c, BN_KIND_SERVICE), "services: watch expired (410)"));
	api(&c.api, "{\"cmd\":\"clear\"}");
	alive(&c, "after");
	cluster_stop(&c);
}

static void test_token_expires(void **state)
{
	struct cluster c;

	(void)state;
	cluster_start(&c, NULL);
	api(&c.api, "{\"cmd\":\"streaming\",\"on\":false}");
	api(&c.api, "{\"cmd\":\"fill\",\"services\":700,\"endpoints\":1}");
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"list\",\"times\":1,"
		    "\"after\":1,\"expire_token\":true}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	assert_int_equal(count(&c, BN_KIND_SERVICE), 700);
	assert_int_equal(api_count(&c.api, "services", "list"), 3); /* the third without pages */
	cluster_stop(&c);
}

/* --- watches that end ----------------------------------------------------------------------------- */

static void test_ends_at_once(void **state)
{
	struct cluster c;
	long n;

	(void)state;
	begin(&c, NULL);
	api(&c.api, "{\"cmd\":\"streaming\",\"on\":false}");
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"watch\",\"times\":-1,"
		    "\"end_at_once\":true}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	spin(&c, 6);
	n = api_count(&c.api, "services", "watch");
	print_message("ends at once: %ld watches in 6 s\n", n);
	assert_in_range(n, 3, 9);
	api(&c.api, "{\"cmd\":\"clear\"}");
	alive(&c, "after");
	assert_int_equal(api_count(&c.api, "services", "list"), 1);
	cluster_stop(&c);
}

/* A 500 in the stream is no reason to list: the place is still good. */
static void test_error_event(void **state)
{
	struct cluster c;

	(void)state;
	begin_synced(&c, NULL);
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"watch\","
		    "\"error_event\":500,\"message\":\"etcd is away\"}");
	api(&c.api, "{\"cmd\":\"drop\"}");
	wait_for(&c, strstr(error_of(&c, BN_KIND_SERVICE),
			    "services: watch server error (500): etcd is away"));
	alive(&c, "after");
	assert_int_equal(api_count(&c.api, "services", "stream"), 1);
	cluster_stop(&c);
}

static void test_connection_lost(void **state)
{
	struct cluster c;

	(void)state;
	begin_synced(&c, NULL);
	for (int i = 0; i < 3; i++) {
		char name[16];

		api(&c.api, "{\"cmd\":\"drop\"}");
		snprintf(name, sizeof(name), "after-%d", i);
		alive(&c, name);
		spin(&c, 2.5);
	}
	assert_int_equal(api_count(&c.api, "services", "stream"), 1);
	cluster_stop(&c);
}

static void test_goaway(void **state)
{
	struct cluster c;

	(void)state;
	begin_synced(&c, NULL);
	api(&c.api, "{\"cmd\":\"goaway\"}");
	alive(&c, "after");
	cluster_stop(&c);
}

/* --- bytes ---------------------------------------------------------------------------------------- */

/* Cut anywhere, by the frame and by the connection: nothing is lost, nothing is done twice. */
static void test_truncated_events(void **state)
{
	struct cluster c;

	(void)state;
	begin_synced(&c, NULL);
	for (int cut = 1; cut < 400; cut += 133) {
		char name[16];

		spin(&c, 2.2); /* a watch that works makes the next retry quick */
		api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"watch\","
			    "\"truncate\":%d,\"clean_end\":%s}", cut, cut % 2 ? "true" : "false");
		api(&c.api, "{\"cmd\":\"drop\"}");
		snprintf(name, sizeof(name), "cut-%d", cut);
		alive(&c, name);
	}
	assert_int_equal(api_count(&c.api, "services", "stream"), 1);
	cluster_stop(&c);
}

static void test_truncated_list(void **state)
{
	struct cluster c;

	(void)state;
	begin(&c, NULL);
	api(&c.api, "{\"cmd\":\"streaming\",\"on\":false}");
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"list\","
		    "\"truncate\":700,\"clean_end\":true}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, strstr(error_of(&c, BN_KIND_SERVICE), "cut off"));
	assert_false(c.src->state[BN_KIND_SERVICE].synced);
	wait_for(&c, synced(&c));
	assert_int_equal(count(&c, BN_KIND_SERVICE), 3);
	/* a later list that is cut off removes nothing */
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"list\",\"times\":2,"
		    "\"truncate\":300}");
	bump(&c);
	api(&c.api, "{\"cmd\":\"compact\"}");
	api(&c.api, "{\"cmd\":\"drop\"}");
	wait_for(&c, api_count(&c.api, "services", "list") >= 3);
	assert_int_equal(count(&c, BN_KIND_SERVICE), 3);
	alive(&c, "after");
	cluster_stop(&c);
}

static void test_garbage(void **state)
{
	static const char *const bodies[] = {
		"<html>welcome to the hotel</html>", "", "{}", "[]", "null", "{\\\"items\\\":[1,2]}",
		"{\\\"items\\\":[{\\\"metadata\\\":{\\\"name\\\":\\\"x\\\"}}],\\\"metadata\\\":{}}",
		"{\\\"kind\\\":\\\"Status\\\",\\\"metadata\\\":{\\\"resourceVersion\\\":\\\"1\\\"}}",
	};
	struct cluster c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		begin(&c, NULL);
		api(&c.api, "{\"cmd\":\"streaming\",\"on\":false}");
		api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"list\","
			    "\"garbage\":\"%s \"}", bodies[i]);
		cluster_source(&c, (struct bn_kube_opts){ 0 });
		wait_for(&c, strstr(error_of(&c, BN_KIND_SERVICE), "services: list"));
		assert_false(c.src->state[BN_KIND_SERVICE].synced);
		wait_for(&c, synced(&c));
		assert_int_equal(count(&c, BN_KIND_SERVICE), 3);
		cluster_stop(&c);
	}
}

static void test_garbage_events(void **state)
{
	static const char *const events[] = {
		"not json\\n", "{\\\"type\\\":\\\"ADDED\\\"}\\n", "{\\\"type\\\":1,\\\"object\\\":{}}\\n",
		"{\\\"type\\\":\\\"DELETED\\\",\\\"object\\\":{\\\"metadata\\\":{}}}\\n",
		"{\\\"type\\\":\\\"MOVED\\\",\\\"object\\\":{\\\"metadata\\\":{\\\"name\\\":\\\"s1\\\","
		"\\\"resourceVersion\\\":\\\"5\\\"}}}\\n",
	};
	struct cluster c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		begin_synced(&c, NULL);
		api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"watch\","
			    "\"garbage_event\":\"%s\"}", events[i]);
		api(&c.api, "{\"cmd\":\"drop\"}");
		wait_for(&c, strstr(error_of(&c, BN_KIND_SERVICE), "garbage"));
		assert_int_equal(count(&c, BN_KIND_SERVICE), 3);
		alive(&c, "after");
		assert_int_equal(count(&c, BN_KIND_SERVICE), 4);
		cluster_stop(&c);
	}
}

/* Streamed lists whose answer never begins, as behind a proxy that hands on whole answers only. */
static void test_no_head(void **state)
{
	struct cluster c;

	(void)state;
	begin(&c, NULL);
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"stream\",\"times\":-1,"
		    "\"hang\":true}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for_s(&c, 35, synced(&c));
	assert_int_equal(api_count(&c.api, "services", "stream"), 1);
	assert_int_equal(count(&c, BN_KIND_SERVICE), 3);
	alive(&c, "after");
	cluster_stop(&c);
}

static void test_byte_by_byte(void **state)
{
	struct cluster c;

	(void)state;
	begin(&c, NULL);
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"*\",\"times\":-1,"
		    "\"piece\":1}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	assert_int_equal(count(&c, BN_KIND_SERVICE), 3);
	alive(&c, "after");
	del_service(&c, "s2");
	wait_for(&c, !has(&c, BN_KIND_SERVICE, "s2"));
	cluster_stop(&c);
}

/* --- refusals ------------------------------------------------------------------------------------- */

/* One resource is forbidden: it is named, with the server's words, and the others work. */
static void test_forbidden(void **state)
{
	struct cluster c;

	(void)state;
	begin(&c, NULL);
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"endpointslices\",\"times\":-1,\"status\":403,"
		    "\"message\":\"endpointslices.discovery.k8s.io is forbidden: User \\\"node\\\" "
		    "cannot list resource \\\"endpointslices\\\"\"}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, *error_of(&c, BN_KIND_ENDPOINTSLICE));
	assert_string_equal(error_of(&c, BN_KIND_ENDPOINTSLICE),
			    "endpointslices: list forbidden (403): endpointslices.discovery.k8s.io is "
			    "forbidden: User \"node\" cannot list resource \"endpointslices\"");
	wait_for(&c, bn_source_synced(c.src, ALL_KINDS & ~(1u << BN_KIND_ENDPOINTSLICE)));
	assert_false(c.src->state[BN_KIND_ENDPOINTSLICE].synced);
	assert_int_equal(count(&c, BN_KIND_SERVICE), 3);
	api(&c.api, "{\"cmd\":\"clear\"}");
	wait_for_s(&c, 40, synced(&c));
	cluster_stop(&c);
}

/* The right to list a kind that may not exist: forbidden and absent is no error, forbidden and
 * there is one.
 */
static void test_forbidden_crd(void **state)
{
	struct cluster c;

	(void)state;
	begin(&c, NULL);
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"httpnetworkpolicies\",\"times\":-1,"
		    "\"status\":403,\"message\":\"no\"}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	assert_false(c.src->state[BN_KIND_HTTPNETPOL].used);
	assert_string_equal(error_of(&c, BN_KIND_HTTPNETPOL), "");
	api(&c.api, "{\"cmd\":\"present\",\"resource\":\"httpnetworkpolicies\",\"present\":true}");
	wait_for(&c, *error_of(&c, BN_KIND_HTTPNETPOL));
	assert_string_equal(error_of(&c, BN_KIND_HTTPNETPOL),
			    "httpnetworkpolicies: list forbidden (403): no");
	cluster_stop(&c);
}

static void test_retry_after(void **state)
{
	struct cluster c;
	double t;

	(void)state;
	begin(&c, NULL);
	api(&c.api, "{\"cmd\":\"streaming\",\"on\":false}");
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"list\",\"status\":429,"
		    "\"retry_after\":3,\"message\":\"slow down\"}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, *error_of(&c, BN_KIND_SERVICE));
	t = now_s();
	assert_string_equal(error_of(&c, BN_KIND_SERVICE),
			    "services: list too many requests (429): slow down");
	wait_for(&c, synced(&c));
	t = now_s() - t;
	assert_true(t >= 2.8 && t < 6);
	cluster_stop(&c);
}

/* --- streamed lists ------------------------------------------------------------------------------- */

static void test_stream_refused(void **state)
{
	struct cluster c;

	(void)state;
	begin(&c, NULL);
	api(&c.api, "{\"cmd\":\"streaming\",\"on\":false}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for_s(&c, 3, synced(&c));
	assert_int_equal(api_count(&c.api, "services", "stream"), 1);
	assert_int_equal(api_count(&c.api, "services", "list"), 1);
	assert_string_equal(error_of(&c, BN_KIND_SERVICE), "");
	/* the next server may be a newer one: it is asked again, with the next list */
	api(&c.api, "{\"cmd\":\"streaming\",\"on\":true}");
	bump(&c);
	api(&c.api, "{\"cmd\":\"compact\"}");
	api(&c.api, "{\"cmd\":\"drop\"}");
	wait_for(&c, api_count(&c.api, "services", "stream") == 2);
	alive(&c, "after");
	assert_int_equal(api_count(&c.api, "services", "list"), 1);
	cluster_stop(&c);
}

static void test_stream_without_end(void **state)
{
	struct cluster c;

	(void)state;
	begin(&c, NULL);
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"stream\",\"times\":-1,"
		    "\"no_end\":true}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	spin(&c, 2);
	assert_false(c.src->state[BN_KIND_SERVICE].synced);
	wait_for(&c, synced(&c));
	alive(&c, "after");
	cluster_stop(&c);
}

static void test_stream_ends_early(void **state)
{
	struct cluster c;

	(void)state;
	begin_synced(&c, NULL);
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"stream\",\"times\":-1,"
		    "\"truncate\":50,\"clean_end\":true}");
	bump(&c);
	api(&c.api, "{\"cmd\":\"compact\"}");
	api(&c.api, "{\"cmd\":\"drop\"}");
	wait_for(&c, api_count(&c.api, "services", "stream") >= 2);
	spin(&c, 0.3);
	assert_int_equal(count(&c, BN_KIND_SERVICE), 3); /* half a list removes nothing */
	alive(&c, "after");
	cluster_stop(&c);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gone_status),	   cmocka_unit_test(test_gone_event),
		cmocka_unit_test(test_gone_error_event),   cmocka_unit_test(test_gone_always),
		cmocka_unit_test(test_token_expires),	   cmocka_unit_test(test_ends_at_once),
		cmocka_unit_test(test_error_event),	   cmocka_unit_test(test_connection_lost),
		cmocka_unit_test(test_goaway),		   cmocka_unit_test(test_truncated_events),
		cmocka_unit_test(test_truncated_list),	   cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_garbage_events),	   cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_no_head),
		cmocka_unit_test(test_forbidden),	   cmocka_unit_test(test_forbidden_crd),
		cmocka_unit_test(test_retry_after),	   cmocka_unit_test(test_stream_refused),
		cmocka_unit_test(test_stream_without_end), cmocka_unit_test(test_stream_ends_early),
	};

	bn_log_setup("error", "text");
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
