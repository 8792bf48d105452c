// SPDX-License-Identifier: MIT
/* Requests in the trace: the verdict of the rules, what decided, and rules that restrict nothing. */
#include "tests/unit/small.h"

#define POLICY_HTTP                                                                                \
	"---\n{kind: HTTPNetworkPolicy, apiVersion: bpfnet.io/v1alpha1, metadata: {name: h, "      \
	"namespace: shop}, spec: {podSelector: {matchLabels: {app: api}}, ingress: [{from: "       \
	"[{podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}], http: [{method: GET, " \
	"path: {value: /v1/items}, hostnames: [api.shop]}]}, {ports: [{port: 8080}], http: "      \
	"[{method: DELETE}, {method: POST, headers: [{name: X-Team, value: checkout}]}]}]}}\n"

static const struct {
	const char *method, *target, *host, *header;
	int index, match; /* rule and entry that allow, or come nearest */
	bool allow;
	const char *failed; /* NULL: no rule comes nearest */
	const char *reason;
} rows[] = {
	{ "GET", "/v1/items/3", "api.shop", NULL, 0, 0, true, NULL, "allows the request" },
	{ "GET", "/v1/items/3", "other", NULL, 0, 0, false, "http[0].hostnames", "no HTTP rule" },
	{ "GET", "/v1", "api.shop", NULL, 0, 0, false, "http[0].path", "no HTTP rule" },
	{ "POST", "/x", "other", "X-Team: checkout", 1, 1, true, NULL, "allows the request" },
	{ "POST", "/x", "other", "X-Team: evil", 1, 0, false, "http[0].method", "no HTTP rule" },
	{ "DELETE", "/x", "other", NULL, 1, 0, true, NULL, "allows the request" },
	{ "GET", "/v1/items/../x", "api.shop", NULL, 0, 0, false, NULL, "not normal" },
	{ "GET", "/v1/items", "api.shop", "Transfer-Encoding: gzip", 0, 0, false, NULL, "Transfer-Encoding" },
};

static const char *text(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key)) ?: "";
}

static void requests(void **state _unused_)
{
	struct small s;

	small_open(&s, POLICY_HTTP);
	for (size_t k = 0; k < ARRAY_SIZE(rows); k++) {
		struct bn_trace_query q = { .from = "shop/web", .to = "shop/api", .proto = BN_PROTO_TCP,
					    .port = 8080, .http_method = rows[k].method,
					    .http_target = rows[k].target, .http_host = rows[k].host,
					    .nheaders = rows[k].header != NULL };
		const char *headers[] = { rows[k].header };
		json_t *j = NULL, *in, *rule;
		int r;

		q.headers = headers;
		r = bn_tracer_run(s.t, &q, &j);
		assert_int_equal(r, !rows[k].allow);
		assert_string_equal(text(j, "verdict"), rows[k].allow ? "allow" : "deny");
		in = json_object_get(j, "ingress");
		if (!strstr(text(in, "reason"), rows[k].reason))
			fail_msg("row %zu: %s", k, text(in, "reason"));
		rule = json_object_get(in, rows[k].allow ? "rule" : "nearest");
		assert_int_equal(json_is_object(rule), rows[k].allow || rows[k].failed);
		if (json_is_object(rule)) {
			if (rows[k].failed)
				assert_string_equal(text(rule, "failed"), rows[k].failed);
			assert_int_equal(json_integer_value(json_object_get(rule, "index")), rows[k].index);
			assert_int_equal(json_integer_value(json_object_get(rule, "match")), rows[k].match);
		}
		json_decref(j);
	}
	small_close(&s);
}

static json_t *trace(struct small *s, const char *method, int want)
{
	struct bn_trace_query q = { .from = "shop/web", .to = "shop/api", .proto = BN_PROTO_TCP, .port = 8080,
				    .http_method = method, .http_target = "/x" };
	json_t *j = NULL;

	assert_int_equal(bn_tracer_run(s->t, &q, &j), want);
	return j;
}

/* The connection is let in; a rule without http lets everything through, and the answer says so. */
static void connections(void **state _unused_)
{
	struct small s;
	json_t *j, *moot;

	small_open(&s, POLICY_HTTP);
	j = trace(&s, NULL, 0);
	assert_non_null(strstr(text(j, "reason"), "ask with --http"));
	assert_null(json_object_get(json_object_get(j, "ingress"), "moot"));
	json_decref(j);
	small_close(&s);

	small_open(&s, POLICY_HTTP POLICY("l4", "podSelector: {}, ingress: [{ports: [{port: 8080}]}]"));
	j = trace(&s, "PATCH", 0);
	assert_non_null(strstr(text(j, "reason"), "restrict nothing"));
	moot = json_object_get(json_object_get(j, "ingress"), "moot");
	assert_string_equal(text(moot, "name"), "h");
	assert_string_equal(text(json_object_get(json_object_get(j, "ingress"), "rule"), "name"), "l4");
	json_decref(j);
	small_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(requests), cmocka_unit_test(connections) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
