/* SPDX-License-Identifier: MIT */
/* One object that cannot be read, in a list or as an event: the others do not suffer, the bad one is
 * named as far as it has a name, its last good version stays, and once it is good or gone nothing of
 * it is left.
 */
#include "tests/apiserver/harness.h"

#define UNREADABLE "is not valid JSON, has a NUL in a name of a field, or is nested deeper than 128"
#define META "\"metadata\":{\"name\":\"s2\",\"namespace\":\"default\",\"resourceVersion\":\"@RV\"}"
#define NEST1 "[[[[[[[[[[[[[[[["
#define NEST2 "]]]]]]]]]]]]]]]]"
#define NEST(x) NEST1 NEST1 NEST1 NEST1 NEST1 NEST1 NEST1 NEST1 NEST1 x NEST2 NEST2 NEST2 NEST2 NEST2 NEST2 NEST2 NEST2 NEST2

static const struct bad {
	const char *text;
	bool named;    /* it can be said which one it is */
	bool believed; /* and that it is one of this kind: others may be taken for gone */
	const char *field, *msg;
} bads[] = {
	{ "{" META ",\"spec\":{\"ports\":nan}}", true, true, "", UNREADABLE },
	{ "{" META ",\"spec\":{\"ports\":" NEST("1") "}}", true, true, "", UNREADABLE },
	{ "{\"spec\":{\"clusterIP\":\"\\ud800\"}," META "}", true, true, "", UNREADABLE },
	{ "{\"spec\":{\"\\u0000a\":1}," META "}", true, true, "", UNREADABLE },
	{ "{" META ",\"spec\":{\"clusterIP\":\"10.0.0.1\\u0000\"}}", true, true, "spec.clusterIP", "holds a NUL byte" },
	{ "{" META ",\"spec\":{\"ports\":\"x\"}}", true, true, "spec.ports", "must be a list, not a string" },
	{ "{" META ",\"spec\":[]}", true, true, "spec", "must be an object, not a list" },
	{ "{\"kind\":\"Pod\"," META "}", true, false, "kind", "must be Service, which was asked for" },
	{ "{\"kind\":7," META "}", true, false, "kind", "must be Service, which was asked for" },
	{ "{\"metadata\":{\"name\":2,\"resourceVersion\":\"@RV\"}}", false, false, "metadata.name",
	  "must be a string, not an integer" },
	{ "{\"metadata\":\"s2\"}", false, false, "metadata", "must be an object, not a string" },
	{ "{\"metadata\":x}", false, false, "", UNREADABLE },
	{ "\"s,2]\\\"}\"", false, false, "", "the server's answer holds something that is no object" },
	{ "12", false, false, "", "the server's answer holds something that is no object" },
	{ "null", false, false, "", "the server's answer holds something that is no object" },
	{ "[{\"a\":[]}]", false, false, "", "the server's answer holds something that is no object" },
};

static void put_raw(struct cluster *c, const struct bad *b)
{
	json_t *j = json_pack("{s:s,s:s,s:{s:s,s:{s:s,s:s}}}", "cmd", "put", "raw", b->text, "object", "kind",
			      "Service", "metadata", "name", "s2", "namespace", "default");
	char *text = json_dumps(j, JSON_COMPACT);

	api(&c->api, "%s", text);
	free(text);
	json_decref(j);
}

/* The only entry of the list is the one; no b: it is empty. */
static bool rejected(struct cluster *c, const struct bad *b)
{
	json_t *list = bn_source_rejected_json(c->src), *e = json_array_get(list, 0);
	const char *const keys[] = { "kind", "name", "field", "message", "inForce" };
	const char *want[] = { "Service", b && b->named ? "s2" : "", b ? b->field : "", b ? b->msg : "",
			       b && b->named ? "last good version" : "nothing" };
	bool ok = json_array_size(list) == !!b;

	for (size_t i = 0; b && ok && i < ARRAY_SIZE(keys); i++)
		ok = !strcmp(json_string_value(json_object_get(e, keys[i])), want[i]);
	json_decref(list);
	return ok;
}

static void begin(struct cluster *c, bool streaming)
{
	cluster_start(c, NULL);
	api(&c->api, "{\"cmd\":\"streaming\",\"on\":%s}", streaming ? "true" : "false");
	api_service(&c->api, "s1", "10.96.0.1");
	api_service(&c->api, "s2", "10.96.0.2");
	api_service(&c->api, "s3", "10.96.0.3");
	cluster_source(c, (struct bn_kube_opts){ 0 });
	wait_for(c, synced(c));
}

static const struct bn_service *service(struct cluster *c, const char *name)
{
	return (struct bn_service *)bn_store_get(c->store, BN_KIND_SERVICE, "default", name);
}

static void list_again(struct cluster *c, bool streaming)
{
	long n = api_count(&c->api, "services", streaming ? "stream" : "list");

	api(&c->api, "{\"cmd\":\"fill\",\"nodes\":1,\"namespaces\":0}");
	api(&c->api, "{\"cmd\":\"compact\"}");
	api(&c->api, "{\"cmd\":\"drop\"}");
	wait_for(c, api_count(&c->api, "services", streaming ? "stream" : "list") > n);
	wait_for(c, !*error_of(c, BN_KIND_SERVICE));
	spin(c, 0.2);
}

/* In the list that follows on a loss of place, in pages and streamed. */
static void list_with(const struct bad *b, bool streaming)
{
	struct cluster c;

	begin(&c, streaming);
	/* nobody looks while it becomes bad */
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"services\",\"verb\":\"watch\",\"times\":-1,\"gone_status\":true}");
	api(&c.api, "{\"cmd\":\"fault\",\"resource\":\"*\",\"times\":6,\"status\":503}");
	api(&c.api, "{\"cmd\":\"drop\"}");
	put_raw(&c, b);
	api(&c.api, "{\"cmd\":\"delete\",\"resource\":\"services\",\"namespace\":\"default\",\"name\":\"s1\"}");
	api_service(&c.api, "s4", "10.96.0.4");
	api(&c.api, "{\"cmd\":\"clear\"}");
	api(&c.api, "{\"cmd\":\"compact\"}");
	wait_for_s(&c, 40, has(&c, BN_KIND_SERVICE, "s4"));
	wait_for_s(&c, 40, rejected(&c, b));
	wait_for_s(&c, 40, has(&c, BN_KIND_SERVICE, "s1") == !b->believed);
	assert_int_equal(service(&c, "s2")->ncluster_ips, 1);
	assert_true(c.src->state[BN_KIND_SERVICE].synced);
	wait_for_s(&c, 40, !*error_of(&c, BN_KIND_SERVICE));
	/* it goes on: with the watch, and with a list in which it is good again */
	api_service(&c.api, "s5", "10.96.0.5");
	wait_for(&c, has(&c, BN_KIND_SERVICE, "s5"));
	api_service(&c.api, "s2", "10.96.0.22");
	list_again(&c, streaming);
	wait_for(&c, rejected(&c, NULL));
	assert_false(has(&c, BN_KIND_SERVICE, "s1"));
	cluster_stop(&c);
}

static void test_list(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bads); i++) {
		print_message("%.60s\n", bads[i].text);
		list_with(&bads[i], false);
		/* An event without a version is none: then the list in it is broken as well. */
		if (strstr(bads[i].text, "@RV"))
			list_with(&bads[i], true);
	}
}

static void test_event(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bads); i++) {
		const struct bad *b = &bads[i];
		struct cluster c;

		if (!strstr(b->text, "@RV"))
			continue;
		begin(&c, false);
		put_raw(&c, b);
		wait_for(&c, rejected(&c, b));
		api_service(&c.api, "s4", "10.96.0.4");
		wait_for(&c, has(&c, BN_KIND_SERVICE, "s4"));
		assert_int_equal(service(&c, "s2")->ncluster_ips, 1);
		assert_string_equal(error_of(&c, BN_KIND_SERVICE), "");
		assert_int_equal(api_count(&c.api, "services", "list"), 1);
		/* gone, with what was said of it; of one without a name only a list can tell */
		api(&c.api, "{\"cmd\":\"delete\",\"resource\":\"services\",\"namespace\":\"default\",\"name\":\"s2\"}");
		if (!b->named)
			list_again(&c, false);
		wait_for(&c, !has(&c, BN_KIND_SERVICE, "s2") && rejected(&c, NULL));
		cluster_stop(&c);
	}
}

/* One that was never good: nothing of it is in force, and when it is deleted nothing is left. A policy
 * isolates.
 */
static void test_never_good(void **state)
{
	const struct bn_netpol *np;
	struct cluster c;
	json_t *list;

	(void)state;
	cluster_start(&c, NULL);
	api_service(&c.api, "s1", "10.96.0.1");
	put_raw(&c, &bads[0]);
	api(&c.api, "{\"cmd\":\"put\",\"raw\":\"{\\\"metadata\\\":{\\\"name\\\":\\\"p\\\",\\\"namespace\\\":\\\"default\\\","
		    "\\\"resourceVersion\\\":\\\"@RV\\\"},\\\"spec\\\":{\\\"podSelector\\\":nan}}\",\"object\":{\"kind\":"
		    "\"NetworkPolicy\",\"metadata\":{\"name\":\"p\",\"namespace\":\"default\"}}}");
	cluster_source(&c, (struct bn_kube_opts){ 0 });
	wait_for(&c, synced(&c));
	assert_true(has(&c, BN_KIND_SERVICE, "s1"));
	assert_false(has(&c, BN_KIND_SERVICE, "s2"));
	np = (struct bn_netpol *)bn_store_get(c.store, BN_KIND_NETPOL, "default", "p");
	assert_non_null(np);
	assert_true(np->o.refused && np->ingress && np->egress && !np->pods.n);
	list = bn_source_rejected_json(c.src);
	assert_int_equal(json_array_size(list), 2);
	json_decref(list);
	api(&c.api, "{\"cmd\":\"delete\",\"resource\":\"services\",\"namespace\":\"default\",\"name\":\"s2\"}");
	api(&c.api, "{\"cmd\":\"delete\",\"resource\":\"networkpolicies\",\"namespace\":\"default\",\"name\":\"p\"}");
	wait_for(&c, !has(&c, BN_KIND_NETPOL, "p") && rejected(&c, NULL));
	cluster_stop(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_event),
		cmocka_unit_test(test_never_good),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
