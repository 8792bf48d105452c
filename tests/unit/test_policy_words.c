// SPDX-License-Identifier: MIT
/* What the trace says in words, services, batches, lint, HTTP cells, refused objects, limits. */
#include "tests/unit/small.h"

/* --- the answers' words ----------------------------------------------------------------------- */

static const char *at(json_t *j, const char *a, const char *b)
{
	return json_string_value(json_object_get(json_object_get(j, a), b)) ?: "";
}

static void words(void **state _unused_)
{
	struct small s;
	json_t *j, *near;
	int r;

	small_open(&s,
		   POLICY("first",
			  "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "
			  "{matchLabels: {app: web}}}], ports: [{port: 80}]}, {from: "
			  "[{namespaceSelector: {matchLabels: {env: dev}}}]}, {from: [{ipBlock: "
			  "{cidr: 203.0.113.0/24, except: [203.0.113.7/32]}}]}]"));
	j = ask(&s, "shop/web shop/api TCP 80", &r);
	assert_int_equal(r, 0);
	assert_string_equal(json_string_value(json_object_get(j, "verdict")), "allow");
	near = json_object_get(json_object_get(j, "ingress"), "rule");
	assert_string_equal(json_string_value(json_object_get(near, "name")), "first");
	assert_string_equal(json_string_value(json_object_get(near, "namespace")), "shop");
	assert_string_equal(json_string_value(json_object_get(near, "direction")), "ingress");
	assert_int_equal(json_integer_value(json_object_get(near, "index")), 0);
	json_decref(j);

	j = ask(&s, "shop/web shop/api TCP 81", &r);
	assert_int_equal(r, 1);
	near = json_object_get(json_object_get(j, "ingress"), "nearest");
	assert_string_equal(json_string_value(json_object_get(near, "failed")), "port");
	assert_non_null(strstr(json_string_value(json_object_get(near, "reason")), "TCP 80"));
	assert_string_equal(at(j, "egress", "verdict"), "allow");
	assert_string_equal(at(j, "ingress", "verdict"), "deny");
	json_decref(j);

	j = ask(&s, "shop/db shop/api TCP 80", &r);
	near = json_object_get(json_object_get(j, "ingress"), "nearest");
	assert_string_equal(json_string_value(json_object_get(near, "failed")), "peer");
	assert_non_null(strstr(json_string_value(json_object_get(near, "reason")), "app=db"));
	json_decref(j);

	j = ask(&s, "ops/mon shop/api TCP 80", &r); /* labels match, the namespace does not */
	near = json_object_get(json_object_get(j, "ingress"), "nearest");
	assert_non_null(strstr(json_string_value(json_object_get(near, "reason")), "namespace"));
	json_decref(j);

	j = ask(&s, "203.0.113.7 shop/api TCP 80", &r);
	near = json_object_get(json_object_get(j, "ingress"), "nearest");
	assert_non_null(strstr(json_string_value(json_object_get(near, "reason")),
			       "except 203.0.113.7/32"));
	json_decref(j);

	j = ask(&s, "shop/nobody shop/api TCP 80", &r);
	assert_int_equal(r, -ENOENT);
	assert_non_null(strstr(json_string_value(json_object_get(j, "error")), "shop/nobody"));
	json_decref(j);
	small_close(&s);
}

static void batch(void **state _unused_)
{
	const char in[] = "# a comment\n\nshop/web shop/api tcp 80\nshop/web shop/api tcp\n"
			  "shop/x shop/api udp 53\nshop/web shop/api tcp 99999\n"
			  "shop/web shop/api tcp 80 GET \"/a b\" host=h header=\"K: V\"\n";
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len), *f = fmemopen((void *)in, strlen(in), "r");
	unsigned lines = 0, errors = 0;
	struct small s;

	small_open(&s, "");
	assert_int_equal(bn_tracer_batch(s.t, f, out), 0);
	fclose(out);
	fclose(f);
	for (char *save, *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		json_t *j = json_loads(l, 0, NULL);

		assert_non_null(j);
		lines++;
		errors += json_object_get(j, "error") != NULL;
		json_decref(j);
	}
	assert_int_equal(lines, 5);
	assert_int_equal(errors, 3);
	free(text);
	small_close(&s);
}

/* A request in a batch: short, as a shell would quote it, or with the command line's options. */
static void batch_requests(void **state _unused_)
{
	static const char *const same[] = {
		"GET /x host=h header=\"K: V\"",
		"GET /x host=h header='K: V'",
		"'GET /x' header=\"K: V\" host=h",
		"--http 'GET /x' --host h --header 'K: V'",
		"--header \"K: V\" --host=h --http=\"GET /x\"",
	};
	static const char *const wrong[] = { "GET", "'GET '", "--http", "--host h", "GET /x h",
					     "GET /x --header K", "GET /x POST /y" };
	struct bn_trace_query q;
	char line[200], err[256];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(same); i++) {
		snprintf(line, sizeof(line), "a/b c/d tcp 80 %s\n", same[i]);
		if (bn_trace_parse_line(line, &q, err, sizeof(err)))
			fail_msg("%s: %s", same[i], err);
		assert_string_equal(q.http_method, "GET");
		assert_string_equal(q.http_target, "/x");
		assert_string_equal(q.http_host, "h");
		assert_int_equal(q.nheaders, 1);
		assert_string_equal(q.headers[0], "K: V");
		bn_trace_query_done(&q);
	}
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		snprintf(line, sizeof(line), "a/b c/d tcp 80 %s\n", wrong[i]);
		assert_int_equal(bn_trace_parse_line(line, &q, err, sizeof(err)), -EINVAL);
		bn_trace_query_done(&q);
	}
}

/* --- services --------------------------------------------------------------------------------- */

#define SERVICE                                                                                    \
	"---\n{kind: Service, apiVersion: v1, metadata: {name: back, namespace: shop}, spec: "     \
	"{type: "                                                                                  \
	"ClusterIP, clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7], ports: [{name: http, port: "    \
	"80}]}}\n"                                                                                 \
	"---\n{kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, metadata: {name: back-1, "    \
	"namespace: "                                                                              \
	"shop, labels: {kubernetes.io/service-name: back}}, addressType: IPv4, endpoints: "        \
	"[{addresses: "                                                                            \
	"[10.0.0.2]}, {addresses: [10.0.1.3]}], ports: [{name: http, port: 8080}]}\n"

static void services(void **state _unused_)
{
	struct small s;
	json_t *j, *svc;
	int r;

	small_open(&s,
		   SERVICE POLICY(
			   "p", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: "
				"8080}]}]"));
	j = ask(&s, "shop/web shop/svc:back TCP 80",
		&r); /* the port behind the service is judged */
	assert_int_equal(r, 0);
	svc = json_object_get(j, "service");
	assert_string_equal(json_string_value(json_object_get(svc, "name")), "back");
	assert_int_equal(json_array_size(json_object_get(svc, "backends")), 2);
	json_decref(j);
	j = ask(&s, "shop/web 10.96.0.7 TCP 80", &r);
	assert_int_equal(r, 0);
	assert_int_equal(
		json_array_size(json_object_get(json_object_get(j, "service"), "backends")), 2);
	json_decref(j);
	j = ask(&s, "shop/web 10.96.0.7 TCP 81", &r);
	assert_int_equal(r, 1);
	json_decref(j);
	j = ask(&s, "shop/web shop/svc:none TCP 80", &r);
	assert_true(r < 0);
	json_decref(j);
	small_close(&s);

	small_open(&s, SERVICE POLICY("p", "podSelector: {matchLabels: {app: api}}"));
	j = ask(&s, "shop/web shop/svc:back TCP 80",
		&r); /* one of two is denied: not allowed as a whole */
	assert_int_equal(r, 1);
	assert_true(json_is_true(json_object_get(json_object_get(j, "service"), "partial")));
	assert_string_equal(at(j, "ingress", "verdict"), "deny");
	json_decref(j);
	small_close(&s);
}

/* --- lint, refused policies, limits ----------------------------------------------------------- */

static bool found(json_t *list, const char *name, const char *rule, const char *what)
{
	json_t *j;
	size_t i;

	json_array_foreach (list, i, j)
		if (!strcmp(json_string_value(json_object_get(j, "name")), name) &&
		    !strcmp(json_string_value(json_object_get(j, "rule")), rule) &&
		    !strcmp(json_string_value(json_object_get(j, "finding")), what))
			return true;
	return false;
}

static int load(struct bn_obj *o, void *data)
{
	void **d = data;

	switch (o->kind) {
	case BN_KIND_POD:
		return bn_idents_pod(d[0], NULL, (struct bn_pod *)o);
	case BN_KIND_NAMESPACE:
		return bn_idents_namespace(d[0], NULL, (struct bn_namespace *)o);
	default:
		return bn_compiler_policy(d[1], NULL, (struct bn_netpol *)o);
	}
}

struct parts {
	struct small s;
	struct bn_idents *ids;
	struct bn_compiler *c;
};

static void parts_open(struct parts *p, const char *policies, const struct bn_compile_limits *lim)
{
	const struct bn_ident_diff *d;
	void *data[2];

	small_open(&p->s, policies);
	assert_int_equal(bn_idents_new(&p->ids), 0);
	assert_int_equal(bn_compiler_new(p->ids, lim, NULL, &p->c), 0);
	data[0] = p->ids;
	data[1] = p->c;
	assert_int_equal(bn_store_each(p->s.store, BN_KIND_NAMESPACE, load, data), 0);
	assert_int_equal(bn_store_each(p->s.store, BN_KIND_POD, load, data), 0);
	assert_int_equal(bn_store_each(p->s.store, BN_KIND_NETPOL, load, data), 0);
	assert_int_equal(bn_store_each(p->s.store, BN_KIND_HTTPNETPOL, load, data), 0);
	assert_int_equal(bn_idents_update(p->ids, &d), 0);
}

static void parts_close(struct parts *p)
{
	bn_compiler_freep(&p->c);
	bn_idents_freep(&p->ids);
	small_close(&p->s);
}

#define HTTP_POLICY                                                                                \
	"---\n{kind: HTTPNetworkPolicy, apiVersion: bpfnet.io/v1alpha1, metadata: {name: h, "      \
	"namespace: "                                                                              \
	"shop}, spec: {podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "   \
	"{matchLabels: {app: web}}}], ports: [{port: 8080}], http: [{method: GET}]}]}}\n"

static void lint(void **state _unused_)
{
	struct parts p;
	json_t *list;

	parts_open(&p,
		   POLICY("nobody", "podSelector: {matchLabels: {app: nothing}}") POLICY(
			   "wide",
			   "podSelector: {matchLabels: {app: api}}, ingress: [{from: "
			   "[{podSelector: {}}], ports: [{port: 8000, endPort: 9000}]}, {from: "
			   "[{podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}, "
			   "{port: 9000}]}, {ports: [{port: nix}]}]") HTTP_POLICY,
		   NULL);
	assert_int_equal(bn_policy_lint(p.ids, p.c, &list), 0);
	assert_true(found(list, "nobody", "", "no-pods"));
	assert_true(found(list, "wide", "ingress[1]", "shadowed"));
	assert_false(found(list, "wide", "ingress[0]", "shadowed"));
	assert_true(found(list, "wide", "ingress[2]", "named-port"));
	assert_true(found(list, "h", "ingress[0]", "http-moot"));
	json_decref(list);
	parts_close(&p);
}

/* Every way to allow the same peers and ports and more, without a look at requests. */
static void lint_moot(void **state _unused_)
{
	static const struct {
		const char *spec;
		bool moot;
	} t[] = {
		{ "podSelector: {}, ingress: [{}]", true },
		{ "podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]", true },
		{ "podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]", true },
		{ "podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: x}}}]}]", false },
		{ "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {a: b}}}]}]", false },
		{ "podSelector: {matchExpressions: [{key: app, operator: In, values: [api]}]}, ingress: [{}]", true },
		{ "podSelector: {matchLabels: {app: api, tier: x}}, ingress: [{}]", false },
		{ "podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web, tier: x}}}]}]", false },
		{ "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]", false },
		{ "podSelector: {}, policyTypes: [Egress], egress: [{}]", false },
	};

	for (size_t k = 0; k < ARRAY_SIZE(t); k++) {
		struct parts p;
		char text[2000];
		json_t *list;

		snprintf(text, sizeof(text), POLICY("wide", "%s") HTTP_POLICY, t[k].spec);
		parts_open(&p, text, NULL);
		assert_int_equal(bn_policy_lint(p.ids, p.c, &list), 0);
		if (found(list, "h", "ingress[0]", "http-moot") != t[k].moot)
			fail_msg("%s: %d", t[k].spec, t[k].moot);
		json_decref(list);
		parts_close(&p);
	}
}

static void lint_except(void **state _unused_)
{
	static const struct {
		const char *except, *message; /* NULL: nothing to find */
	} t[] = {
		{ "10.0.0.0/9", NULL },
		{ "10.0.0.0/8", "except 10.0.0.0/8 covers the block's whole cidr: it allows nobody" },
		{ "0.0.0.0/0", "except 0.0.0.0/0 covers the block's whole cidr: it allows nobody" },
		{ "11.0.0.0/9", "except 11.0.0.0/9 is outside of the block's cidr" },
		{ "fd00::/16", "except fd00::/16 is outside of the block's cidr" },
	};
	char policy[512];
	struct parts p;
	json_t *list;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(t); i++) {
		snprintf(policy, sizeof(policy),
			 POLICY("e", "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "
				     "10.0.0.0/8, except: ['%s']}}]}]"),
			 t[i].except);
		parts_open(&p, policy, NULL);
		assert_int_equal(bn_policy_lint(p.ids, p.c, &list), 0);
		assert_int_equal(json_array_size(list), t[i].message ? 1 : 0);
		if (t[i].message)
			assert_string_equal(json_string_value(json_object_get(
						    json_array_get(list, 0), "message")),
					    t[i].message);
		json_decref(list);
		parts_close(&p);
	}
}

static void http_cells(void **state _unused_)
{
	struct bn_matrix *m = NULL;
	const struct bn_pod *pod;
	struct bn_whois who;
	struct bn_addr web;
	struct bn_cell c;
	const uint32_t *rules;
	struct parts p;

	parts_open(&p, HTTP_POLICY, NULL);
	assert_int_equal(bn_addr_parse("10.0.0.1", &web), 0);
	bn_idents_whois(p.ids, &web, &who);
	pod = (struct bn_pod *)bn_store_get(p.s.store, BN_KIND_POD, "shop", "api");
	assert_int_equal(bn_compiler_get(p.c, pod, BN_INGRESS, &m), 0);
	c = bn_matrix_eval(m, who.identity, BN_PROTO_TCP, 8080);
	assert_int_equal(c.action, BN_ACT_HTTP);
	assert_int_equal(bn_compiler_http_rules(p.c, c.http, &rules), 1);
	assert_int_equal(rules[0], c.rule);
	assert_int_equal(bn_matrix_eval(m, who.identity, BN_PROTO_TCP, 80).action, BN_ACT_DENY);
	assert_int_equal(bn_matrix_eval(m, who.identity, BN_PROTO_UDP, 8080).action, BN_ACT_DENY);
	bn_matrix_unrefp(&m);
	parts_close(&p);

	/* A rule that looks at nothing wins for its peer and port. */
	parts_open(&p,
		   HTTP_POLICY POLICY("l4",
				      "podSelector: {matchLabels: {app: api}}, ingress: [{ports: "
				      "[{port: 8080}]}]"),
		   NULL);
	bn_idents_whois(p.ids, &web, &who);
	pod = (struct bn_pod *)bn_store_get(p.s.store, BN_KIND_POD, "shop", "api");
	assert_int_equal(bn_compiler_get(p.c, pod, BN_INGRESS, &m), 0);
	assert_int_equal(bn_matrix_eval(m, who.identity, BN_PROTO_TCP, 8080).action, BN_ACT_ALLOW);
	bn_matrix_unrefp(&m);
	parts_close(&p);
}

/* What cannot be read isolates what it selects, and allows nothing. */
static void refused(void **state _unused_)
{
	struct bn_matrix *m = NULL;
	const struct bn_pod *pod;
	struct bn_obj *o = NULL;
	struct bn_err err;
	struct parts p;
	json_t *list = json_array();

	parse("{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {name: bad, "
	      "namespace: "
	      "shop}, spec: {podSelector: {matchLabels: {app: api}}, ingress: [{form: []}]}}",
	      list);
	assert_int_equal(bn_object_parse(json_array_get(list, 0), &o, &err), -EINVAL);
	assert_non_null(o);
	json_decref(list);
	parts_open(&p, POLICY("all", "podSelector: {matchLabels: {app: db}}, ingress: [{}]"), NULL);
	assert_int_equal(bn_compiler_policy(p.c, NULL, (struct bn_netpol *)o), 0);
	pod = (struct bn_pod *)bn_store_get(p.s.store, BN_KIND_POD, "shop", "api");
	assert_int_equal(bn_compiler_get(p.c, pod, BN_INGRESS, &m), 0);
	assert_non_null(m);
	assert_int_equal(bn_matrix_eval(m, BN_ID_WORLD, BN_PROTO_TCP, 80).action, BN_ACT_DENY);
	bn_matrix_unrefp(&m);
	pod = (struct bn_pod *)bn_store_get(p.s.store, BN_KIND_POD, "shop", "db");
	assert_int_equal(bn_compiler_get(p.c, pod, BN_INGRESS, &m), 0);
	assert_int_equal(bn_matrix_eval(m, BN_ID_WORLD, BN_PROTO_TCP, 80).action, BN_ACT_ALLOW);
	bn_matrix_unrefp(&m);
	bn_obj_unref(o);
	parts_close(&p);
}

/* A policy beyond a limit is refused by name, the pod's other policies hold. */
static void limits(void **state _unused_)
{
	struct bn_compile_limits lim = {.classes = 4};
	struct bn_matrix *m = NULL;
	const struct bn_pod *pod;
	struct parts p;

	parts_open(
		&p,
		POLICY("big",
		       "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 1}]}, "
		       "{ports: [{port: 3}]}, {ports: [{port: 5}]}, {ports: [{port: 7}]}, {ports: "
		       "[{port: 9}]}]")
			POLICY("small",
			       "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: "
			       "80}]}]"),
		&lim);
	pod = (struct bn_pod *)bn_store_get(p.s.store, BN_KIND_POD, "shop", "api");
	assert_int_equal(bn_compiler_get(p.c, pod, BN_INGRESS, &m), 0);
	assert_int_equal(bn_matrix_eval(m, BN_ID_WORLD, BN_PROTO_TCP, 80).action, BN_ACT_ALLOW);
	assert_int_equal(bn_matrix_eval(m, BN_ID_WORLD, BN_PROTO_TCP, 3).action, BN_ACT_DENY);
	assert_int_equal(bn_compiler_refusals(p.c), 1);
	assert_non_null(strstr(bn_compiler_error(p.c), "shop/big"));
	bn_matrix_unrefp(&m);
	parts_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),  cmocka_unit_test(batch),	cmocka_unit_test(services),
		cmocka_unit_test(lint),	  cmocka_unit_test(lint_moot), cmocka_unit_test(lint_except), cmocka_unit_test(batch_requests), cmocka_unit_test(http_cells), cmocka_unit_test(refused),
		cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
