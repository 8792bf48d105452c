/* SPDX-License-Identifier: MIT */
/* What is asked for in each request, and each form in which the server may say that something is wrong
 * within an answer of 200.
 */
#include "tests/apiserver/harness.h"

static void begin(struct cluster *c)
{
	cluster_start(c, NULL);
	api_service(&c->api, "s1", "10.96.0.1");
	api_service(&c->api, "s2", "10.96.0.2");
	cluster_source(c, (struct bn_kube_opts){ 0 });
	wait_for(c, synced(c));
	assert_int_equal(count(c, BN_KIND_SERVICE), 2);
}

static const char *param(const char *path, const char *name, char *buf)
{
	const char *p = strstr(path, name);

	if (!p)
		return NULL;
	p += strlen(name);
	snprintf(buf, 128, "%.*s", (int)strcspn(p, "&"), p);
	return buf;
}

/* Every watch asks for bookmarks and ends at a time of its own, 300 to 600 s from its start. */
static void test_parameters(void **state)
{
	struct cluster c;
	unsigned watches = 0, lists = 0;
	long first = 0, differ = 0;
	json_t *o, *rq;
	char v[128];
	size_t i;

	(void)state;
	begin(&c);
	api(&c.api, "{\"cmd\":\"drop\"}");
	wait_for(&c, api_count(&c.api, "services", "watch") == 1);
	wait_for(&c, api_count(&c.api, "pods", "watch") == 1);
	o = api_ask(&c.api, "{\"cmd\":\"requests\"}");
	json_array_foreach(json_object_get(o, "requests"), i, rq) {
		const char *path = json_string_value(json_object_get(rq, "path"));
		bool stream = strstr(path, "sendInitialEvents=true");

		if (!strstr(path, "watch=true"))
			continue;
		assert_string_equal(param(path, "allowWatchBookmarks=", v) ?: "", "true");
		assert_non_null(param(path, "timeoutSeconds=", v));
		assert_in_range(atol(v), 300, 600);
		differ |= first && first != atol(v);
		first = atol(v);
		if (stream)
			assert_string_equal(param(path, "resourceVersionMatch=", v) ?: "",
					    "NotOlderThan");
		else
			assert_true(atol(param(path, "resourceVersion=", v) ?: "0") > 1000);
		watches += !stream;
		lists += stream;
		if (strstr(path, "/services?") || strstr(path, "/endpointslices?"))
			assert_string_equal(param(path, "labelSelector=", v) ?: "",
					    "%21service.kubernetes.io%2Fservice-proxy-name%2C%21service."
					    "kubernetes.io%2Fheadless");
	}
	json_decref(o);
	assert_true(differ && watches >= 2 && lists >= 5);
	cluster_stop(&c);
}

/* An ERROR event: what it says, whether the place is still good, and how long to wait. */
static void test_error_events(void **state)
{
	static const struct {
		const char *object, *error;
		long lists;
		double wait;
	} rows[] = {
		{ "\\\"code\\\":410,\\\"reason\\\":\\\"Gone\\\"", NULL, 1, 0 },
		{ "\\\"reason\\\":\\\"Expired\\\",\\\"message\\\":\\\"too old\\\"", NULL, 1, 0 },
		{ "\\\"code\\\":429,\\\"reason\\\":\\\"TooManyRequests\\\",\\\"details\\\":{"
		  "\\\"retryAfterSeconds\\\":3}", "watch too many requests (429): TooManyRequests", 0, 2.9 },
		{ "\\\"code\\\":504,\\\"reason\\\":\\\"Timeout\\\",\\\"message\\\":\\\"etcd\\\"",
		  "watch server error (504): etcd", 0, 0 },
		{ "\\\"code\\\":500,\\\"details\\\":\\\"none\\\"", "watch server error (500)", 0, 0 },
		{ "\\\"code\\\":403,\\\"message\\\":\\\"no\\\\nmore\\\"", "watch forbidden (403): no more", 1,
		  0 },
		{ "\\\"x\\\":1", "watch failed (0)", 1, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cluster c;
		double t;
		long before;

		begin(&c);
		before = api_count(&c.api, "services", "stream");
		api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"watch\","
			    "\"garbage_event\":\"{\\\"type\\\":\\\"ERROR\\\",\\\"object\\\":{%s}}\\n\"}",
		    rows[i].object);
		api(&c.api, "{\"cmd\":\"drop\"}");
		if (rows[i].error)
			wait_for(&c, strstr(error_of(&c, BN_KIND_SERVICE), rows[i].error));
		t = now_s();
		wait_for(&c, api_count(&c.api, "services", "watch") +
				     api_count(&c.api, "services", "stream") >= before + 2);
		assert_true(now_s() - t >= rows[i].wait);
		api_service(&c.api, "after", "10.96.9.9");
		wait_for(&c, has(&c, BN_KIND_SERVICE, "after") && !*error_of(&c, BN_KIND_SERVICE));
		assert_int_equal(api_count(&c.api, "services", "stream") - before, rows[i].lists);
		cluster_stop(&c);
	}
}

/* 429 to a watch, with Retry-After: obeyed, and no reason to list. */
static void test_watch_retry_after(void **state)
{
	struct cluster c;
	double t;

	(void)state;
	begin(&c);
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"watch\",\"status\":429,"
		    "\"retry_after\":3,\"message\":\"slow down\"}");
	api(&c.api, "{\"cmd\":\"drop\"}");
	wait_for(&c, strstr(error_of(&c, BN_KIND_SERVICE), "too many requests (429): slow down"));
	t = now_s();
	wait_for(&c, api_count(&c.api, "services", "watch") == 2);
	assert_true(now_s() - t >= 2.9 && now_s() - t < 6);
	assert_int_equal(api_count(&c.api, "services", "stream"), 1);
	wait_for(&c, !*error_of(&c, BN_KIND_SERVICE));
	cluster_stop(&c);
}

#define ITEM(name, more)                                                                           \
	"{\\\"metadata\\\":{" name "},\\\"spec\\\":{\\\"clusterIP\\\":\\\"10.96.0.9\\\",\\\"ports\\\":[{" more  \
	"}]}}"
#define NAMED(name) "\\\"name\\\":\\\"" name "\\\",\\\"namespace\\\":\\\"default\\\""

/* Objects that no server should send, in a list that is one: each is refused by itself, and what has
 * no name might be any: then nothing is taken for gone.
 */
static void test_hostile_list(void **state)
{
	static const char *const bad[] = {
		ITEM("\\\"namespace\\\":\\\"default\\\"", "\\\"port\\\":80"),
		ITEM(NAMED(""), "\\\"port\\\":80"),
		ITEM("\\\"name\\\":7,\\\"namespace\\\":\\\"default\\\"", "\\\"port\\\":80"),
		"{}",
	};
	struct cluster c;
	json_t *rejected;

	(void)state;
	for (size_t i = 0; i <= ARRAY_SIZE(bad); i++) {
		const char *extra = i < ARRAY_SIZE(bad) ? bad[i] : ITEM(NAMED("good"), "\\\"port\\\":80");

		begin(&c);
		api(&c.api, "{\"cmd\":\"streaming\",\"on\":false}");
		api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"list\",\"garbage\":"
			    "\"{\\\"kind\\\":\\\"ServiceList\\\",\\\"metadata\\\":{\\\"resourceVersion\\\":\\\"99999"
			    "\\\"},\\\"items\\\":[%s,%s,%s,%s]}\"}",
		    ITEM(NAMED("good"), "\\\"port\\\":80"), ITEM(NAMED("neg"), "\\\"port\\\":-80"),
		    ITEM(NAMED("good"), "\\\"port\\\":81"), extra);
		api(&c.api, "{\"cmd\":\"fill\",\"nodes\":1,\"namespaces\":0}");
		api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"watch\",\"times\":-1,"
			    "\"after\":1,\"hang\":true}");
		api(&c.api, "{\"cmd\":\"compact\"}");
		api(&c.api, "{\"cmd\":\"drop\"}");
		wait_for(&c, has(&c, BN_KIND_SERVICE, "good"));
		spin(&c, 0.2);
		assert_int_equal(has(&c, BN_KIND_SERVICE, "s1"), i < ARRAY_SIZE(bad));
		assert_false(has(&c, BN_KIND_SERVICE, "neg"));
		rejected = bn_source_rejected_json(c.src);
		assert_true(json_array_size(rejected) >= 1);
		json_decref(rejected);
		cluster_stop(&c);
	}
}

/* As large as etcd takes it, and larger than anything it would. */
static void test_huge_object(void **state)
{
	struct cluster c;

	(void)state;
	begin(&c);
	api(&c.api, "{\"cmd\":\"put_big\",\"name\":\"big\",\"bytes\":%d}", 3 << 20);
	wait_for(&c, has(&c, BN_KIND_SERVICE, "big"));
	api(&c.api, "{\"cmd\":\"put_big\",\"name\":\"bigger\",\"bytes\":%d}", 40 << 20);
	wait_for(&c, strstr(error_of(&c, BN_KIND_SERVICE), "too large"));
	assert_int_equal(count(&c, BN_KIND_SERVICE), 3);
	api(&c.api, "{\"cmd\":\"delete\",\"resource\":\"services\",\"namespace\":\"default\","
		    "\"name\":\"bigger\"}");
	api_service(&c.api, "after", "10.96.9.9");
	wait_for_s(&c, 40, has(&c, BN_KIND_SERVICE, "after") && !*error_of(&c, BN_KIND_SERVICE));
	cluster_stop(&c);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parameters),	  cmocka_unit_test(test_error_events),
		cmocka_unit_test(test_watch_retry_after), cmocka_unit_test(test_hostile_list),
		cmocka_unit_test(test_huge_object),
	};

	bn_log_setup("error", "text");
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
