/* SPDX-License-Identifier: MIT */
/* What the daemon writes back to the API: conditions of HTTPNetworkPolicies, events of what is refused. */
#include "tests/apiserver/harness.h"

#define NODES 3
#define NEST16(x) x x x x x x x x x x x x x x x x
#define NEST(x) NEST16(x x x x x x x x x)

struct nodes {
	struct cluster c[NODES];
	unsigned n;
};

/* The same cluster seen by several nodes, in one loop: c[0] owns the server. */
static void begin(struct nodes *w, unsigned n)
{
	static const char *const names[] = { "n1", "n2", "n3" };

	memset(w, 0, sizeof(*w));
	w->n = n;
	cluster_start(&w->c[0], NULL);
	api(&w->c[0].api, "{\"cmd\":\"present\",\"resource\":\"httpnetworkpolicies\",\"present\":true}");
	api(&w->c[0].api, "{\"cmd\":\"fill\",\"nodes\":%u,\"namespaces\":0}", n);
	for (unsigned i = 0; i < n; i++) {
		struct cluster *c = &w->c[i];

		if (i) {
			c->api = w->c[0].api;
			c->base = w->c[0].base;
			assert_int_equal(bn_store_new(&c->store), 0);
		}
		cluster_source(c, (struct bn_kube_opts){ .node_name = names[i] });
	}
	for (unsigned i = 0; i < n; i++)
		wait_for(&w->c[0], synced(&w->c[i]));
}

static void end(struct nodes *w)
{
	for (unsigned i = 1; i < w->n; i++) {
		bn_source_freep(&w->c[i].src);
		bn_store_freep(&w->c[i].store);
	}
	cluster_stop(&w->c[0]);
}

static void put_http(struct cluster *c, const char *path, const char *status)
{
	api(&c->api, "{\"cmd\":\"put\",\"object\":{\"apiVersion\":\"bpfnet.io/v1alpha1\",\"kind\":"
		     "\"HTTPNetworkPolicy\",\"metadata\":{\"name\":\"h\",\"namespace\":\"default\"},"
		     "\"spec\":{\"podSelector\":{},\"policyTypes\":[\"Ingress\"],\"ingress\":[{\"http\":"
		     "[{\"path\":{\"type\":\"RegularExpression\",\"value\":\"%s\"}}],\"ports\":["
		     "{\"port\":80}]}]}%s}}", path, status);
}

static json_t *get_http(struct cluster *c)
{
	json_t *o = api_ask(&c->api, "{\"cmd\":\"get\",\"resource\":\"httpnetworkpolicies\","
				     "\"namespace\":\"default\",\"name\":\"h\"}");
	json_t *out = json_incref(json_object_get(o, "object"));

	json_decref(o);
	return out;
}

/* Accepted is `status`, of the present generation, and says `words`. */
static bool accepted(struct cluster *c, const char *status, const char *words)
{
	json_t *o = get_http(c), *k, *list;
	bool ok = false;
	size_t i;

	list = json_object_get(json_object_get(o, "status"), "conditions");
	json_array_foreach(list, i, k) {
		const char *message = json_string_value(json_object_get(k, "message"));

		ok |= !strcmp(json_string_value(json_object_get(k, "type")), "Accepted") &&
		      !strcmp(json_string_value(json_object_get(k, "status")), status) &&
		      strstr(message, words) &&
		      strlen(json_string_value(json_object_get(k, "lastTransitionTime"))) == 20 &&
		      json_equal(json_object_get(k, "observedGeneration"),
				 json_object_get(json_object_get(o, "metadata"), "generation"));
	}
	json_decref(o);
	return ok;
}

static size_t conditions(struct cluster *c)
{
	json_t *o = get_http(c);
	size_t n = json_array_size(json_object_get(json_object_get(o, "status"), "conditions"));

	json_decref(o);
	return n;
}

static json_t *events(struct cluster *c)
{
	json_t *o = api_ask(&c->api, "{\"cmd\":\"events\"}");
	json_t *out = json_incref(json_object_get(o, "events"));

	json_decref(o);
	return out;
}

static size_t nevents(struct cluster *c)
{
	json_t *e = events(c);
	size_t n = json_array_size(e);

	json_decref(e);
	return n;
}

static void test_condition(void **state)
{
	struct nodes w;
	struct cluster *c = &w.c[0];
	long n;

	(void)state;
	begin(&w, 1);
	put_http(c, "/a.*", ",\"status\":{\"conditions\":[{\"type\":\"Other\",\"status\":\"True\"}]}");
	wait_for(c, accepted(c, "True", "valid"));
	assert_int_equal(conditions(c), 2); /* another controller's stays */
	put_http(c, "((", "");
	wait_for(c, accepted(c, "False", "spec.ingress[0].http[0].path.value: "));
	assert_int_equal(conditions(c), 2);
	/* what no reader of JSON hands on is said as well, and by which field where it is known */
	put_http(c, "/\\u0000", "");
	wait_for(c, accepted(c, "False", "spec.ingress[0].http[0].path.value: holds a NUL byte"));
	put_http(c, "/a.*", ",\"status\":{\"conditions\":[{\"type\":\"Other\",\"status\":\"True\"}]},\"x\":" NEST("[") NEST("]"));
	wait_for(c, accepted(c, "False", "nested deeper than 128"));
	assert_int_equal(conditions(c), 2);
	put_http(c, "/c.*", ",\"egress\":[]");
	wait_for(c, accepted(c, "False", "egress: is not a field that bpfnet knows"));
	put_http(c, "/b.*", "");
	wait_for(c, accepted(c, "True", "valid"));
	/* what it says is what it is: nothing more to write, after a relist neither */
	n = api_count(&c->api, "httpnetworkpolicies/status", "patch");
	assert_int_equal(n, 6);
	api(&c->api, "{\"cmd\":\"fill\",\"nodes\":1,\"namespaces\":0}");
	api(&c->api, "{\"cmd\":\"compact\"}");
	api(&c->api, "{\"cmd\":\"drop\"}");
	wait_for(c, api_count(&c->api, "httpnetworkpolicies", "stream") >= 2);
	spin(c, 1);
	assert_int_equal(api_count(&c->api, "httpnetworkpolicies/status", "patch"), n);
	end(&w);
}

static void test_events(void **state)
{
	struct nodes w;
	struct cluster *c = &w.c[0];
	unsigned seen = 0;
	json_t *list, *e;
	size_t i;

	(void)state;
	begin(&w, 1);
	put_http(c, "((", "");
	api_service(&c->api, "s", "not-an-address");
	api(&c->api, "{\"cmd\":\"put\",\"object\":{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":"
		     "\"NetworkPolicy\",\"metadata\":{\"name\":\"np\",\"namespace\":\"default\"},"
		     "\"spec\":{\"podSelector\":{},\"unheardOf\":1}}}");
	wait_for(c, nevents(c) == 3);
	list = events(c);
	json_array_foreach(list, i, e) {
		json_t *about = json_object_get(e, "regarding");
		const char *kind = json_string_value(json_object_get(about, "kind"));
		const char *note = json_string_value(json_object_get(e, "note"));

		assert_string_equal(json_string_value(json_object_get(e, "reportingInstance")), "n1");
		assert_non_null(json_string_value(json_object_get(about, "uid")));
		if (!strcmp(kind, "Service"))
			seen |= strstr(note, "spec.clusterIP") ? 1 : 0;
		else if (!strcmp(kind, "NetworkPolicy"))
			seen |= strstr(note, "spec.unheardOf") ? 2 : 0;
		else
			seen |= strstr(note, "path.value") ? 4 : 0;
	}
	json_decref(list);
	assert_int_equal(seen, 7);
	/* the same object, refused for the same reason, in another version: nothing new to say */
	api_service(&c->api, "s", "not-an-address");
	spin(c, 1);
	assert_int_equal(nevents(c), 3);
	api_service(&c->api, "s", "nor-is-this");
	wait_for(c, nevents(c) == 4);
	end(&w);
}

/* Three nodes that judge alike: one event, one condition. */
static void test_nodes(void **state)
{
	struct nodes w;
	struct cluster *c = &w.c[0];
	json_t *o, *rv;

	(void)state;
	begin(&w, NODES);
	put_http(c, "((", "");
	wait_for(c, accepted(c, "False", "path.value") && nevents(c));
	o = get_http(c);
	rv = json_incref(json_object_get(json_object_get(o, "metadata"), "resourceVersion"));
	json_decref(o);
	spin(c, 3);
	assert_int_equal(nevents(c), 1);
	/* Once a node; a server that is slow to answer is asked once more. */
	assert_in_range(api_count(&c->api, "events", "create"), NODES, 2 * NODES);
	assert_in_range(api_count(&c->api, "httpnetworkpolicies/status", "patch"), 1, NODES);
	o = get_http(c);
	assert_true(json_equal(rv, json_object_get(json_object_get(o, "metadata"),
						   "resourceVersion")));
	json_decref(o);
	json_decref(rv);
	end(&w);
}

/* Another version of us thinks otherwise: each says so once, and there is no fight. */
static void test_no_fight(void **state)
{
	struct nodes w;
	struct cluster *c = &w.c[0];

	(void)state;
	begin(&w, 1);
	put_http(c, "/a.*", "");
	wait_for(c, accepted(c, "True", "valid"));
	for (int i = 0; i < 3; i++) {
		put_http(c, "/a.*", ",\"status\":{\"conditions\":[{\"type\":\"Accepted\",\"status\":"
				    "\"False\",\"reason\":\"Invalid\",\"message\":\"x\","
				    "\"observedGeneration\":1,\"lastTransitionTime\":"
				    "\"2026-01-01T00:00:00Z\"}]}");
		spin(c, 0.5);
	}
	assert_true(accepted(c, "False", "x"));
	assert_int_equal(api_count(&c->api, "httpnetworkpolicies/status", "patch"), 1);
	put_http(c, "/b.*", ""); /* another generation is another question */
	wait_for(c, accepted(c, "True", "valid"));
	end(&w);
}

/* No rights: no error, one attempt of each, and everything else works. */
static void test_no_rights(void **state)
{
	struct nodes w;
	struct cluster *c = &w.c[0];

	(void)state;
	begin(&w, 1);
	api(&c->api, "{\"cmd\":\"fault\",\"resource\":\"events\",\"times\":-1,\"status\":403}");
	api(&c->api, "{\"cmd\":\"fault\",\"resource\":\"httpnetworkpolicies/status\",\"times\":-1,"
		     "\"status\":403}");
	put_http(c, "((", "");
	api_service(&c->api, "s", "not-an-address");
	wait_for(c, api_count(&c->api, "events", "create") &&
		    api_count(&c->api, "httpnetworkpolicies/status", "patch"));
	put_http(c, "(((", "");
	put_http(c, "/ok", "");
	spin(c, 3);
	assert_int_equal(api_count(&c->api, "events", "create"), 1);
	assert_int_equal(api_count(&c->api, "httpnetworkpolicies/status", "patch"), 1);
	assert_true(has(c, BN_KIND_HTTPNETPOL, "h"));
	assert_false(bn_source_failing(c->src, ALL_KINDS, 0));
	end(&w);
}

/* The server is overloaded, then the namespace is going away: later, and never. */
static void test_faults(void **state)
{
	struct nodes w;
	struct cluster *c = &w.c[0];

	(void)state;
	begin(&w, 1);
	api(&c->api, "{\"cmd\":\"fault\",\"resource\":\"events\",\"times\":2,\"status\":503}");
	api(&c->api, "{\"cmd\":\"fault\",\"resource\":\"httpnetworkpolicies/status\",\"status\":429,"
		     "\"retry_after\":2}");
	put_http(c, "((", "");
	wait_for(c, nevents(c) == 1 && accepted(c, "False", "path.value"));
	assert_int_equal(api_count(&c->api, "events", "create"), 3);
	api(&c->api, "{\"cmd\":\"fault\",\"resource\":\"events\",\"status\":403,\"message\":"
		     "\"unable to create new content in namespace x because it is being terminated\"}");
	api_service(&c->api, "s", "not-an-address");
	wait_for(c, api_count(&c->api, "events", "create") == 4);
	api_service(&c->api, "t", "not-an-address");
	wait_for(c, nevents(c) == 2);
	end(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_condition), cmocka_unit_test(test_events),
		cmocka_unit_test(test_nodes),	  cmocka_unit_test(test_no_fight),
		cmocka_unit_test(test_no_rights), cmocka_unit_test(test_faults),
	};

	bn_log_setup("error", "text");
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
