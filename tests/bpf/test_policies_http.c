// SPDX-License-Identifier: MIT
/* HTTP rules from policies to http_sets: what a packet meets while rules change, are compiled, fail, and across
 * restarts of the daemon.
 */
#include "tests/unit/small.h"

#include <time.h>

#include "loader/model/policies.h"
#include "maps/ep_access.h"
#include "maps/http_access.h"
#include "policy/http.h"

enum { API = 1, DB = 2 }; /* slots */

struct w {
	struct bn_store *store;
	struct bn_maps *maps;
	struct bn_eps *eps;
	struct bn_policies *pol;
	const char *no_http;
	unsigned steps, holes; /* instants, and those at which a pod that was in force met no rule set */
	bool watch;
};

static const struct bn_cell *cell_of(const struct w *w, uint32_t slot, const char *peer, uint8_t proto, uint16_t port)
{
	uint64_t word = ((const struct bn_pod_slot *)bn_map_at(w->maps, BN_MAP_pods, slot))->word;
	uint32_t id = BN_POD_INGRESS(word), idx, cls = 0, row;
	const struct bn_pol *pol = bn_map_at(w->maps, BN_MAP_pols, id);
	struct bn_peer_key k = {.policy = id};
	struct bn_peer_val v;
	struct bn_addr a;

	if (id < BN_POL_FIRST)
		return NULL;
	assert_int_equal(bn_addr_parse(peer, &a), 0);
	if (!bn_map_get(w->maps, BN_MAP_addrs, &a, &idx))
		k.identity = BN_EP_IDENTITY(((const struct bn_ep *)bn_map_at(w->maps, BN_MAP_eps, idx))->word);
	row = pol->default_row;
	if (!bn_map_get(w->maps, BN_MAP_pol_peers, &k, &v))
		row = v.row;
	for (uint32_t i = 0; i < pol->nports; i++) {
		uint32_t start = *(uint32_t *)bn_map_at(w->maps, BN_MAP_pol_ports, pol->ports + i);

		if (BN_PORT_START_KEY(start) <= BN_PORT_KEY(bn_proto_index(proto), port))
			cls = BN_PORT_START_CLASS(start);
	}
	return bn_map_at(w->maps, BN_MAP_pol_cells, pol->cells + row * pol->nclasses + cls);
}

static uint32_t set_of(const struct w *w, uint32_t slot)
{
	const struct bn_cell *c = cell_of(w, slot, "10.0.0.1", BN_PROTO_TCP, 8080);

	return c && c->action == BN_ACT_HTTP ? c->http : 0;
}

static void on_step(void *data)
{
	struct w *w = data;
	struct bn_http_set s;
	uint32_t set = w->watch ? set_of(w, API) : 0;

	w->steps++;
	w->holes += set && bn_http_set_get(w->maps, set, &s) != 0;
}

static void start(struct w *w)
{
	struct bn_policies_env env = {.node_name = "n1", .step = on_step, .step_data = w, .http_grace_ms = 300,
				      .no_http = w->no_http};

	assert_int_equal(bn_eps_new(w->maps, &w->eps), 0);
	env.eps = w->eps;
	assert_int_equal(bn_policies_new(w->store, w->maps, &env, &w->pol), 0);
}

static void stop(struct w *w)
{
	bn_policies_freep(&w->pol);
	bn_eps_freep(&w->eps);
}

static void open_w(struct w *w, const char *no_http)
{
	json_t *all = json_array();

	*w = (struct w){.no_http = no_http};
	parse(base, all);
	assert_int_equal(bn_store_new(&w->store), 0);
	assert_int_equal(bn_maps_create(NULL, &w->maps), 0);
	start(w);
	cluster_load(w->store, all);
	json_decref(all);
	assert_int_equal(bn_policies_slot(w->pol, API, "shop", "api", false), 0);
	bn_policies_set_ready(w->pol, true);
}

static void close_w(struct w *w)
{
	stop(w);
	bn_store_freep(&w->store);
	bn_maps_freep(&w->maps);
}

static void put_policy(struct w *w, const char *http)
{
	json_t *all = json_array(), *o;
	char *text;

	assert_true(asprintf(&text, "{kind: HTTPNetworkPolicy, apiVersion: bpfnet.io/v1alpha1, metadata: {name: h, "
				    "namespace: shop}, spec: {podSelector: {}, ingress: [{from: [{podSelector: "
				    "{matchLabels: {app: web}}}], ports: [{port: 8080}], http: %s}, {ports: [{port: 22}]}]}}",
			     http) > 0);
	parse(text, all);
	o = json_array_get(all, 0);
	cluster_put(w->store, o);
	json_decref(all);
	free(text);
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* Turns of the loop until everything is in force; how many ms the longest took. */
static double settle(struct w *w)
{
	double worst = 0;

	for (unsigned k = 0; k < 5000; k++) {
		struct timespec a, b;
		double ms;

		clock_gettime(CLOCK_MONOTONIC, &a);
		assert_int_equal(bn_policies_sync(w->pol), 0);
		clock_gettime(CLOCK_MONOTONIC, &b);
		ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
		worst = ms > worst ? ms : worst;
		if (bn_policies_in_force(w->pol))
			return worst;
		nap();
	}
	fail_msg("not in force");
	return 0;
}

static struct bn_httpsets_stats http_stats(const struct w *w)
{
	struct bn_policies_stats s;

	bn_policies_stats(w->pol, &s);
	return s.http;
}

static void check_set(const struct w *w, uint32_t set, uint32_t nmatches)
{
	struct bn_http_set s;

	assert_int_equal(bn_http_set_get(w->maps, set, &s), 0);
	assert_int_equal(s.tab.nmatches, nmatches);
	assert_int_not_equal(s.gen, 0);
	assert_int_not_equal(s.stats, 0);
}

static void rules_change(void **state _unused_)
{
	struct bn_http_set before, after;
	uint32_t first, second;
	struct w w;

	open_w(&w, NULL);
	put_policy(&w, "[{method: GET}]");
	settle(&w);
	first = set_of(&w, API);
	check_set(&w, first, 1);
	assert_int_equal(bn_http_set_get(w.maps, first, &before), 0);
	assert_int_equal(cell_of(&w, API, "10.0.0.1", BN_PROTO_TCP, 22)->action, BN_ACT_ALLOW);
	assert_int_equal(cell_of(&w, API, "10.0.0.1", BN_PROTO_UDP, 8080)->action, BN_ACT_DENY);

	/* As many rules, but other ones: the numbers of the rules stay, the set must not. */
	w.watch = true;
	put_policy(&w, "[{method: PUT}]");
	settle(&w);
	second = set_of(&w, API);
	assert_int_not_equal(first, second);
	check_set(&w, second, 1);
	assert_int_equal(bn_http_set_get(w.maps, second, &after), 0);
	assert_true(before.digest != after.digest);
	/* Heads in progress still have the old one, for a while. */
	check_set(&w, first, 1);
	for (unsigned k = 0; k < 1000 && bn_http_set_get(w.maps, first, &before) == 0; k++) {
		assert_int_equal(bn_policies_sync(w.pol), 0);
		nap();
	}
	assert_int_equal(bn_http_set_get(w.maps, first, &before), -ENOENT);

	/* The same rules again: the same set, nothing compiled. */
	put_policy(&w, "[{method: PUT}]");
	settle(&w);
	assert_int_equal(set_of(&w, API), second);
	assert_int_equal(http_stats(&w).compiled, 2);
	/* Gone and back within the grace: the same, too. */
	assert_int_equal(bn_store_del(w.store, BN_KIND_HTTPNETPOL, "shop", "h"), 0);
	settle(&w);
	assert_null(cell_of(&w, API, "10.0.0.1", BN_PROTO_TCP, 8080));
	assert_int_equal(http_stats(&w).resting, 1);
	put_policy(&w, "[{method: PUT}]");
	settle(&w);
	assert_int_equal(http_stats(&w).sets, 1);
	assert_int_equal(w.holes, 0);
	assert_true(w.steps > 10);
	close_w(&w);
}

static char *many(const char *fmt, int n)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	for (int k = 0; k < n; k++) {
		fputs(k ? ", " : "[", f);
		fprintf(f, fmt, k);
	}
	fputs("]", f);
	fclose(f);
	return text;
}

/* What takes long is waited for without standing still, and the pod keeps what it has. A new pod does not: its
 * other ports open at once.
 */
static void big_rules(void **state _unused_)
{
	char *text = many("{path: {type: RegularExpression, value: '/api/v[0-9]+/r%d/[a-z0-9-]+(/.*)?'}}", 1000);
	struct timespec a, b;
	uint32_t first;
	double worst, all;
	struct w w;

	open_w(&w, NULL);
	put_policy(&w, "[{method: GET}]");
	settle(&w);
	first = set_of(&w, API);
	w.watch = true;
	put_policy(&w, text);
	clock_gettime(CLOCK_MONOTONIC, &a);
	worst = settle(&w);
	clock_gettime(CLOCK_MONOTONIC, &b);
	all = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
	print_message("1,000 rules: in force after %.0f ms, longest turn %.1f ms\n", all, worst);
	assert_true(all < 2000);
	assert_int_not_equal(set_of(&w, API), first);
	check_set(&w, set_of(&w, API), 1000);
	assert_int_equal(w.holes, 0);
	w.watch = false;
	free(text);

	/* Other rules, and a pod that comes while they are compiled: it is placed by the first turn. */
	text = many("{path: {type: RegularExpression, value: '/other/v[0-9]+/r%d/[a-z0-9-]+(/.*)?'}}", 1000);
	put_policy(&w, text);
	assert_int_equal(bn_policies_slot(w.pol, DB, "shop", "db", false), 0);
	assert_int_equal(bn_policies_sync(w.pol), 0);
	assert_int_equal(cell_of(&w, DB, "10.0.0.1", BN_PROTO_TCP, 22)->action, BN_ACT_ALLOW);
	assert_int_not_equal(set_of(&w, DB), 0);
	settle(&w);
	assert_int_equal(set_of(&w, DB), set_of(&w, API));
	check_set(&w, set_of(&w, DB), 1000);
	free(text);
	close_w(&w);
}

/* Changed again before the first change is compiled: only the last one counts, and nothing leaks. */
static void overtaken(void **state _unused_)
{
	struct w w;

	open_w(&w, NULL);
	put_policy(&w, "[{method: GET}]");
	settle(&w);
	w.watch = true;
	for (int k = 0; k < 20; k++) {
		char fmt[100], *text;

		snprintf(fmt, sizeof(fmt), "{path: {value: /v%d/r%%d}}", k);
		text = many(fmt, 200);
		put_policy(&w, text);
		assert_int_equal(bn_policies_sync(w.pol), 0);
		free(text);
	}
	settle(&w);
	check_set(&w, set_of(&w, API), 200);
	assert_int_equal(w.holes, 0);
	assert_int_equal(http_stats(&w).pending, 0);
	for (unsigned k = 0; k < 1000 && http_stats(&w).sets > 1; k++) {
		assert_int_equal(bn_policies_sync(w.pol), 0);
		nap();
	}
	assert_int_equal(http_stats(&w).sets, 1);
	close_w(&w);
}

static int count(uint32_t id _unused_, const struct bn_http_set *s _unused_, void *data)
{
	++*(unsigned *)data;
	return 0;
}

static unsigned sets_pinned(const struct w *w)
{
	unsigned n = 0;

	assert_int_equal(bn_http_sets_each(w->maps, count, &n), 0);
	return n;
}

static void restart(void **state _unused_)
{
	struct bn_http_set before, after;
	uint32_t set;
	struct w w;

	open_w(&w, NULL);
	put_policy(&w, "[{method: GET, path: {value: /a}}, {method: PUT}]");
	settle(&w);
	set = set_of(&w, API);
	assert_int_equal(bn_http_set_get(w.maps, set, &before), 0);
	for (uint32_t k = 0; k < 3; k++) {
		uint32_t at = before.stats + k;
		uint64_t v = 10 + k;

		assert_int_equal(bn_map_put(w.maps, BN_MAP_http_stats, &at, &v), 0);
	}
	w.watch = true;
	stop(&w);
	start(&w);
	assert_int_equal(bn_policies_slot(w.pol, API, "shop", "api", true), 0);
	bn_policies_set_ready(w.pol, true);
	settle(&w);
	assert_int_equal(set_of(&w, API), set);
	assert_int_equal(bn_http_set_get(w.maps, set, &after), 0);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(http_stats(&w).compiled, 0);
	assert_int_equal(http_stats(&w).adopted, 1);
	for (uint32_t k = 0; k < 3; k++)
		assert_int_equal(bn_http_stat(w.maps, before.stats + k), 10 + k);
	assert_int_equal(w.holes, 0);

	/* Changed while it was down: the old rules hold until the new ones are there. */
	stop(&w);
	put_policy(&w, "[{method: DELETE}]");
	start(&w);
	assert_int_equal(bn_policies_slot(w.pol, API, "shop", "api", true), 0);
	assert_int_equal(set_of(&w, API), set);
	bn_policies_set_ready(w.pol, true);
	settle(&w);
	assert_int_not_equal(set_of(&w, API), set);
	check_set(&w, set_of(&w, API), 1);
	assert_int_equal(w.holes, 0);
	for (unsigned k = 0; k < 1000 && sets_pinned(&w) > 1; k++) {
		assert_int_equal(bn_policies_sync(w.pol), 0);
		nap();
	}
	assert_int_equal(sets_pinned(&w), 1);
	close_w(&w);
}

static const char *error_of(struct w *w, const char *kind, json_t **list)
{
	json_t *j;
	size_t i;

	assert_int_equal(bn_policies_errors(w->pol, list), 0);
	json_array_foreach(*list, i, j)
		if (!strcmp(json_string_value(json_object_get(j, "kind")), kind))
			return json_string_value(json_object_get(j, "error"));
	return "";
}

/* Each policy can be enforced, both on one port cannot: the port is closed, the policies are named. */
static void too_complex(void **state _unused_)
{
	char *text = many("{path: {type: RegularExpression, value: '/.*/x%d/.*'}}", 9);
	json_t *all = json_array(), *list;
	struct w w;

	open_w(&w, NULL);
	put_policy(&w, text);
	settle(&w);
	check_set(&w, set_of(&w, API), 9);
	parse("{kind: HTTPNetworkPolicy, apiVersion: bpfnet.io/v1alpha1, metadata: {name: h2, namespace: shop}, spec: "
	      "{podSelector: {}, ingress: [{ports: [{port: 8080}], http: [{path: {type: RegularExpression, value: "
	      "'/.*/y1/.*'}}, {path: {type: RegularExpression, value: '/.*/y2/.*'}}, {path: {type: RegularExpression, "
	      "value: '/.*/y3/.*'}}]}]}}", all);
	cluster_put(w.store, json_array_get(all, 0));
	json_decref(all);
	settle(&w);
	assert_int_equal(http_stats(&w).failed, 1);
	assert_int_equal(sets_pinned(&w), 2); /* of other peers, and the one before */
	assert_non_null(strstr(error_of(&w, "HTTPNetworkPolicy", &list), "too complex"));
	json_decref(list);
	assert_int_equal(cell_of(&w, API, "10.0.0.1", BN_PROTO_TCP, 22)->action, BN_ACT_ALLOW);
	assert_int_equal(bn_store_del(w.store, BN_KIND_HTTPNETPOL, "shop", "h2"), 0);
	settle(&w);
	assert_string_equal(error_of(&w, "HTTPNetworkPolicy", &list), "");
	json_decref(list);
	check_set(&w, set_of(&w, API), 9);
	free(text);
	close_w(&w);
}

/* A kernel that cannot: said, and closed. */
static void unable(void **state _unused_)
{
	json_t *list;
	struct w w;

	open_w(&w, "this kernel cannot judge requests");
	put_policy(&w, "[{method: GET}]");
	settle(&w);
	assert_string_equal(error_of(&w, "HTTPNetworkPolicy", &list), "this kernel cannot judge requests");
	json_decref(list);
	assert_int_equal(cell_of(&w, API, "10.0.0.1", BN_PROTO_TCP, 8080)->action, BN_ACT_HTTP);
	assert_int_equal(sets_pinned(&w), 0);
	assert_int_equal(cell_of(&w, API, "10.0.0.1", BN_PROTO_TCP, 22)->action, BN_ACT_ALLOW);
	close_w(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_change), cmocka_unit_test(big_rules), cmocka_unit_test(overtaken),
		cmocka_unit_test(restart),	cmocka_unit_test(too_complex), cmocka_unit_test(unable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
