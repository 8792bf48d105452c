// SPDX-License-Identifier: MIT
/* What rules match: tables, random rules against a naive matcher, errors, and a thousand rules. */
#include <ctype.h>
#include <regex.h>
#include <time.h>

#include "tests/unit/http_policy.h"

#define ITEMS "[{\"method\":\"GET\",\"path\":{\"value\":\"/v1/items\"}}]"
#define ORDERS "[{\"path\":{\"type\":\"RegularExpression\",\"value\":\"/v1/orders/[0-9]+\"}}]"
#define EXACT "[{\"path\":{\"type\":\"Exact\",\"value\":\"/a%2db/%c3%a9\"}}]"
#define HOSTS "[{\"hostnames\":[\"api.shop\",\"*.example.org\"]}]"
#define TEAM "[{\"headers\":[{\"name\":\"X-Team\",\"value\":\"checkout\"}]}]"
#define TEAMS "[{\"headers\":[{\"type\":\"RegularExpression\",\"name\":\"X-Team\",\"value\":\"a(, b)*\"}]}]"
#define QUERY "[{\"queryParams\":[{\"name\":\"team\",\"value\":\"a b\"}]}]"
#define TWO "[{\"path\":{\"value\":\"/x\"}},{\"method\":\"PUT\",\"path\":{\"value\":\"/x/y\"}},{\"method\":\"PUT\"}]"

static const struct {
	const char *http, *line, *host, *header; /* header: lines with CRLF */
	int match; /* that allows, -1: none */
} table[] = {
	{ ITEMS, "GET /v1/items", "a", "", 0 },
	{ ITEMS, "GET /v1/items/", "a", "", 0 },
	{ ITEMS, "GET /v1/items/7", "a", "", 0 },
	{ ITEMS, "GET /v1/items?x=/../", "a", "", 0 },
	{ ITEMS, "GET /v1/ite%6ds", "a", "", 0 },
	{ ITEMS, "GET http://a/v1/items", "a", "", 0 },
	{ ITEMS, "GET /v1/itemsx", "a", "", -1 },
	{ ITEMS, "GET /v1", "a", "", -1 },
	{ ITEMS, "GET /v1/items;x", "a", "", -1 },
	{ ITEMS, "GET /V1/items", "a", "", -1 },
	{ ITEMS, "HEAD /v1/items", "a", "", -1 },
	{ ITEMS, "get /v1/items", "a", "", -1 },
	{ ITEMS, "GETS /v1/items", "a", "", -1 },
	{ ITEMS, "OPTIONS *", "a", "", -1 },
	{ ORDERS, "GET /v1/orders/17", "a", "", 0 },
	{ ORDERS, "GET /v1/orders/17?a", "a", "", 0 },
	{ ORDERS, "GET /v1/orders/17/", "a", "", -1 },
	{ ORDERS, "GET /x/v1/orders/17", "a", "", -1 },
	{ ORDERS, "GET /v1/orders/", "a", "", -1 },
	{ EXACT, "GET /a-b/%C3%a9", "a", "", 0 },
	{ EXACT, "GET /a%2Db/%c3%A9", "a", "", 0 },
	{ EXACT, "GET /a-b/%C3%A9/", "a", "", -1 },
	{ HOSTS, "GET /", "api.shop", "", 0 },
	{ HOSTS, "GET /", "API.Shop:8080", "", 0 },
	{ HOSTS, "GET /", "x.example.org", "", 0 },
	{ HOSTS, "GET /", "x.y.Example.org:1", "", 0 },
	{ HOSTS, "GET /", "example.org", "", -1 },
	{ HOSTS, "GET /", ".example.org", "", -1 },
	{ HOSTS, "GET /", "xexample.org", "", -1 },
	{ HOSTS, "GET /", "x..example.org", "", -1 },
	{ HOSTS, "GET /", "", "", -1 },
	{ HOSTS, "GET http://api.shop/", "api.shop", "", 0 },
	{ HOSTS, "GET http://evil/", "api.shop", "", -1 },
	{ HOSTS, "GET http://api.shop/", "evil", "", -1 },
	{ TEAM, "GET /", "a", "x-team:  checkout\t\r\n", 0 },
	{ TEAM, "GET /", "a", "X-TEAM:checkout\r\n", 0 },
	{ TEAM, "GET /", "a", "", -1 },
	{ TEAM, "GET /", "a", "X-Team: Checkout\r\n", -1 },
	{ TEAM, "GET /", "a", "X-Team:\r\n", -1 },
	{ TEAM, "GET /", "a", "X-Team: check out\r\n", -1 },
	{ TEAM, "GET /", "a", "X-Team: checkout\r\nX-Team: evil\r\n", -1 },
	{ TEAM, "GET /", "a", "X-Team: evil\r\nX-Team: checkout\r\n", -1 },
	{ TEAM, "GET /", "a", "X-Teams: checkout\r\n", -1 },
	{ TEAMS, "GET /", "a", "X-Team: a\r\nY: z\r\nX-Team: b \r\nX-Team: b\r\n", 0 },
	{ TEAMS, "GET /", "a", "X-Team: a, b\r\n", 0 },
	{ TEAMS, "GET /", "a", "X-Team: a,b\r\n", -1 },
	{ QUERY, "GET /?team=a+b", "a", "", 0 },
	{ QUERY, "GET /?x&te%61m=a%20b&y=z", "a", "", 0 },
	{ QUERY, "GET /?team=a+b&team=a+b", "a", "", 0 },
	{ QUERY, "GET /?team=a+b&team=c", "a", "", -1 },
	{ QUERY, "GET /?team=c&team=a+b", "a", "", -1 },
	{ QUERY, "GET /?team", "a", "", -1 },
	{ QUERY, "GET /?x=1;team=c&team=a+b", "a", "", -1 },
	{ QUERY, "GET /?team=a+b&x=%", "a", "", -1 },
	{ QUERY, "GET /", "a", "", -1 },
	{ TWO, "PUT /x/y", "a", "", 0 },
	{ TWO, "PUT /z", "a", "", 2 },
	{ TWO, "GET /z", "a", "", -1 },
	{ "[]", "GET /", "a", "", -1 },
	{ "[{\"method\":\"CONNECT\"}]", "CONNECT a:443", "a:443", "", 0 },
	{ "[{\"method\":\"CONNECT\"}]", "CONNECT a:443", "a:443", "Content-Length: 0\r\n", 0 },
	{ "[{\"method\":\"CONNECT\"}]", "CONNECT a:443", "a:443", "Content-Length: 1\r\n", -1 },
	{ "[{\"method\":\"CONNECT\"}]", "CONNECT a:443", "a:443", "Transfer-Encoding: chunked\r\n", -1 },
	{ "[{\"method\":\"CONNECT\",\"path\":{\"value\":\"/\"}}]", "CONNECT a:443", "a:443", "", -1 },
	{ "[{\"headers\":[{\"name\":\"Host\",\"value\":\"a:80\"}]}]", "GET /", "a:80", "", 0 },
	{ "[{\"path\":{\"type\":\"RegularExpression\",\"value\":\".*\"}}]", "OPTIONS *", "a", "", 0 },
};

static struct outcome ask(const struct bn_http_rules *c, const char *line, const char *host, const char *header)
{
	struct outcome o;
	char *text = NULL;
	int n = asprintf(&text, "%s HTTP/1.1\r\nHost: %s\r\n%s\r\n", line, host, header);

	assert_true(n > 0);
	o = outcome(c, text, (size_t)n);
	free(text);
	return o;
}

static void test_table(void **unused _unused_)
{
	for (size_t k = 0; k < ARRAY_SIZE(table); k++) {
		struct bn_netpol *np = netpol(table[k].http);
		struct bn_http_rules *c = rules_of(np);
		struct outcome o = ask(c, table[k].line, table[k].host, table[k].header);

		if (o.allowed != (table[k].match >= 0) || (o.allowed && o.match != table[k].match) ||
		    (!o.allowed && o.reason != BN_HTTP_NO_MATCH && o.reason != BN_HTTP_PATH &&
		     o.reason != BN_HTTP_EARLY_DATA))
			fail_msg("%s: %s, host %s, %s: %u, match %u, %s", table[k].http, table[k].line, table[k].host,
				 table[k].header, o.allowed, o.match, bn_http_reason_name(o.reason));
		bn_http_rules_freep(&c);
		bn_obj_unref(&np->o);
	}
}

#define RE(x) "[{},{\"path\":{\"type\":\"RegularExpression\",\"value\":\"" x "\"}}]"

static void test_errors(void **unused _unused_)
{
	static const struct {
		const char *re, *words;
	} bad[] = {
		{ "(a", "without ')'" },	{ "a)", "without '('" },
		{ "[a", "without ']'" },	{ "^/a", "anchored" },
		{ "/a$", "anchored" },		{ "\\\\d+", "punctuation" },
		{ "(?i)a", "(?" },		{ "[[:digit:]]", "class" },
		{ "[\\\\]]", "backslash" },	{ "*a", "repeats nothing" },
		{ "a{2", "{n}" },		{ "a{3,2}", "{n}" },
		{ "(a{99}){99}", "too large" }, { "((((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+)+)+", "too large" },
		{ "a\\u00e9", "ASCII" },		{ "/[\\u001b[31m]", "ASCII" },
		{ "/a+?", "parentheses" },	{ "/a{2}*", "parentheses" },
		{ "/[z-a]", "range" },		{ "v1/.*", "matches no path" },
		{ "()", "matches no path" },
	};

	for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
		struct bn_obj *o = NULL;
		struct bn_err err = {};
		char *http = NULL;

		assert_true(asprintf(&http, RE("%s"), bad[k].re) > 0);
		if (netpol_parse(http, &o, &err) != -EINVAL || !o || !o->refused || !strstr(err.msg, bad[k].words) ||
		    strchr(err.msg, '\033') ||
		    strcmp(err.field, "spec.ingress[0].http[1].path.value"))
			fail_msg("%s: %s: %s", bad[k].re, err.field, err.msg);
		free(http);
		bn_obj_unref(o);
	}
}

static void refused(const char *re)
{
	struct bn_obj *o = NULL;
	struct bn_err err = {};
	struct timespec a, b;
	char *http = NULL;
	double s;

	assert_true(asprintf(&http, RE("%s"), re) > 0);
	clock_gettime(CLOCK_MONOTONIC, &a);
	assert_int_equal(netpol_parse(http, &o, &err), -EINVAL);
	clock_gettime(CLOCK_MONOTONIC, &b);
	assert_non_null(strstr(err.msg, "too complex"));
	s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	print_message("%s refused in %.2f s: %s: %s\n", re, s, err.field, err.msg);
	free(http);
	bn_obj_unref(o);
}

/* An automaton that explodes is refused, not built. */
static void test_explosion(void **unused _unused_)
{
	struct bn_err err;
	struct bn_netpol *np;

	refused("/.*a.{24}");
	refused("/(.*a.{24}|.*b.{24})");
	refused("/(x?y?){900}");
	np = netpol(RE("/([^/]+/)*[a-z]+|\\\\*"));
	assert_int_equal(bn_http_check(np, &err), 0);
	bn_obj_unref(&np->o);
	np = netpol(RE("/[a-z]{1,63}(/[a-z0-9_.-]+)*"));
	assert_int_equal(bn_http_check(np, &err), 0);
	bn_obj_unref(&np->o);
}

/* Each rule of it is fine; all of them would hold up the daemon for minutes. */
static void test_many_of_them(void **unused _unused_)
{
	json_t *in = json_array(), *o;
	struct timespec a, b;
	struct bn_obj *obj = NULL;
	struct bn_err err = {};

	for (int k = 0; k < 2000; k++)
		json_array_append_new(in, json_pack("{s[{si}]s[{s{ssso}}]}", "ports", "port", 1000 + k, "http", "path",
						    "type", "RegularExpression", "value",
						    json_sprintf("/.*%dx{1000}", k)));
	o = json_pack("{ssss s{ss} s{s{} so}}", "apiVersion", "bpfnet.io/v1alpha1", "kind", "HTTPNetworkPolicy", "metadata",
		      "name", "p", "spec", "podSelector", "ingress", in);
	assert_non_null(o);
	clock_gettime(CLOCK_MONOTONIC, &a);
	assert_int_equal(bn_object_parse(o, &obj, &err), -EINVAL);
	clock_gettime(CLOCK_MONOTONIC, &b);
	print_message("refused in %ld s: %s: %s\n", (long)(b.tv_sec - a.tv_sec), err.field, err.msg);
	assert_non_null(strstr(err.msg, "too complex"));
	assert_in_range(b.tv_sec - a.tv_sec, 0, 100); /* 3 on a quiet machine */
	bn_obj_unref(obj);
	json_decref(o);
}

static void test_names(void **unused _unused_)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct bn_obj *o = NULL;
	struct bn_err err = {};

	assert_non_null(f);
	fputc('[', f);
	for (int k = 0; k < 17; k++)
		fprintf(f, "%s{\"headers\":[{\"name\":\"X-%d\",\"value\":\"a\"}]}", k ? "," : "", k);
	fputc(']', f);
	fclose(f);
	assert_int_equal(netpol_parse(text, &o, &err), -EINVAL);
	assert_string_equal(err.field, "spec.ingress[0].http[16].headers[0].name");
	bn_obj_unref(o);
	free(text);
}

/* --- a thousand rules -------------------------------------------------------------------------------- */

static struct bn_netpol *thousand(const char *fmt)
{
	char *text = NULL;
	struct bn_netpol *np;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	for (int k = 0; k < 1000; k++) {
		fputc(k ? ',' : '[', f);
		fprintf(f, fmt, k);
	}
	fputc(']', f);
	fclose(f);
	np = netpol(text);
	free(text);
	return np;
}

static void thousand_rules(const char *what, const char *fmt, const char *line, const char *host, int match)
{
	struct bn_netpol *np = thousand(fmt);
	struct timespec a, b;
	struct bn_http_view v;
	struct bn_http_rules *c;
	struct outcome o;
	double ms;

	clock_gettime(CLOCK_MONOTONIC, &a);
	c = rules_of(np);
	clock_gettime(CLOCK_MONOTONIC, &b);
	ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
	bn_http_rules_view(c, &v);
	print_message("1,000 rules, %s: %.0f ms, %zu KiB of cells, %zu KiB of sets\n", what, ms,
		      v.ncells * sizeof(*v.cells) / 1024, v.nwords * sizeof(*v.words) / 1024);
	o = ask(c, line, host, "");
	assert_int_equal(o.allowed, 1);
	assert_int_equal(o.match, match);
	assert_int_equal(ask(c, "GET /nothing/like/it", "a", "").allowed, 0);
	assert_true(ms < 10000); /* under a sanitizer, on a busy machine */
	bn_http_rules_freep(&c);
	bn_obj_unref(&np->o);
}

static void test_thousand(void **unused _unused_)
{
	thousand_rules("prefixes", "{\"method\":\"GET\",\"path\":{\"value\":\"/api/v1/resource%d\"}}",
		       "GET /api/v1/resource777/x", "a", 777);
	thousand_rules("regular expressions",
		       "{\"path\":{\"type\":\"RegularExpression\",\"value\":\"/api/v[0-9]+/r%d/[a-z0-9-]+(/.*)?\"}}",
		       "GET /api/v12/r999/a-b/c", "a", 999);
	thousand_rules("wildcards of hosts", "{\"hostnames\":[\"*.h%d.example.org\"]}", "GET /x", "h1.h2.h314.example.org", 314);
}

/* --- a naive matcher --------------------------------------------------------------------------------- */

static uint64_t seed = 7;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33) % below;
}

static const char *pick(const char *const *v)
{
	uint32_t n = 0;

	while (v[n])
		n++;
	return v[rnd(n)];
}

static const char *const methods[] = { "GET", "POST", "PUT", "HEAD", NULL };
static const char *const paths[] = { "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b/a", "/a/1", "/a/22/b", NULL };
static const char *const regexes[] = { "/a(/.*)?", "/[ab]", "/a/[0-9]+", "/.*b", "/(a|ab)/?", "/a/.{1,2}", NULL };
static const char *const hosts[] = { "a.x", "b.x", "x", "c.a.x", "ax", NULL };
static const char *const patterns[] = { "a.x", "*.x", "*.a.x", "x", NULL };
static const char *const names[] = { "x-a", "x-b", "x-c", NULL };
static const char *const values[] = { "1", "2", "12", "1, 2", NULL };
static const char *const value_res[] = { "1.*", "[0-9]+", "(1|2)(, 2)?", NULL };

static void random_match(FILE *f)
{
	const char *comma = "";

	fputc('{', f);
	if (rnd(2)) {
		fprintf(f, "\"method\":\"%s\"", pick(methods));
		comma = ",";
	}
	if (rnd(3)) {
		uint32_t type = rnd(3);

		fprintf(f, "%s\"path\":{\"type\":\"%s\",\"value\":\"%s\"}", comma,
			type == 0 ? "Exact" : type == 1 ? "PathPrefix" : "RegularExpression",
			type == 2 ? pick(regexes) : pick(paths));
		comma = ",";
	}
	if (!rnd(3)) {
		fprintf(f, "%s\"hostnames\":[\"%s\"]", comma, pick(patterns));
		comma = ",";
	}
	for (int q = 0; q < 2; q++) {
		bool re = rnd(2);

		if (rnd(4))
			continue;
		fprintf(f, "%s\"%s\":[{\"type\":\"%s\",\"name\":\"%s\",\"value\":\"%s\"}]", comma,
			q ? "queryParams" : "headers", re ? "RegularExpression" : "Exact", pick(names),
			re ? pick(value_res) : pick(values));
		comma = ",";
	}
	fputc('}', f);
}

struct request {
	const char *method, *path, *host;
	size_t nheaders, nqueries;
	const char *headers[3][2], *queries[3][2];
};

static bool naive_regex(const char *re, const char *s)
{
	regmatch_t m[1];
	regex_t x;
	char buf[200];
	bool yes;

	snprintf(buf, sizeof(buf), "^(%s)$", re);
	assert_int_equal(regcomp(&x, buf, REG_EXTENDED), 0);
	yes = regexec(&x, s, 1, m, 0) == 0;
	regfree(&x);
	return yes;
}

static bool naive_path(const struct bn_http_match *m, const char *path)
{
	size_t n = strlen(m->path);

	if (m->path_type == BN_MATCH_REGEX)
		return naive_regex(m->path, path);
	if (m->path_type == BN_MATCH_EXACT)
		return !strcmp(m->path, path);
	while (n && m->path[n - 1] == '/')
		n--;
	return !strncmp(m->path, path, n) && (!path[n] || path[n] == '/');
}

static bool naive_host(const char *pattern, const char *host)
{
	size_t n = strlen(host), k = strlen(pattern) - 1;

	if (*pattern != '*')
		return !strcmp(pattern, host);
	return n > k && !strcmp(host + n - k, pattern + 1);
}

static bool naive_value(const struct bn_http_kv *kv, const char *v)
{
	return kv->type == BN_MATCH_REGEX ? naive_regex(kv->value, v) : !strcmp(kv->value, v);
}

static bool naive(const struct bn_http_match *m, const struct request *q)
{
	bool ok = !m->method || !strcmp(m->method, q->method);

	ok = ok && (!m->has_path || naive_path(m, q->path));
	ok = ok && (!m->nhosts || naive_host(m->hosts[0], q->host));
	for (uint32_t k = 0; k < m->nheaders; k++) {
		char all[100] = "";
		bool seen = false;

		for (size_t i = 0; i < q->nheaders; i++) {
			if (strcmp(q->headers[i][0], m->headers[k].name))
				continue;
			snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", seen ? ", " : "",
				 q->headers[i][1]);
			seen = true;
		}
		ok = ok && seen && naive_value(&m->headers[k], all);
	}
	for (uint32_t k = 0; k < m->nqueries; k++) {
		bool seen = false;

		for (size_t i = 0; i < q->nqueries; i++) {
			if (strcmp(q->queries[i][0], m->queries[k].name))
				continue;
			seen = true;
			ok = ok && naive_value(&m->queries[k], q->queries[i][1]);
		}
		ok = ok && seen;
	}
	return ok;
}

static void random_request(const struct bn_netpol *np, const struct bn_http_rules *c, uint32_t counts[2])
{
	struct request q = { pick(methods), pick(paths), pick(hosts), rnd(3), rnd(3), {}, {} };
	char line[300], header[300] = "";
	struct outcome o;
	int want = -1;

	snprintf(line, sizeof(line), "%s %s", q.method, q.path);
	for (size_t k = 0; k < q.nqueries; k++) {
		q.queries[k][0] = pick(names);
		q.queries[k][1] = rnd(3) ? "1" : "22";
		snprintf(line + strlen(line), sizeof(line) - strlen(line), "%c%s=%s", k ? '&' : '?',
			 q.queries[k][0], q.queries[k][1]);
	}
	for (size_t k = 0; k < q.nheaders; k++) {
		q.headers[k][0] = pick(names);
		q.headers[k][1] = pick(values);
		snprintf(header + strlen(header), sizeof(header) - strlen(header), "%s: %s\r\n", q.headers[k][0],
			 q.headers[k][1]);
	}
	for (uint32_t k = 0; k < np->in[0].nhttp && want < 0; k++)
		want = naive(&np->in[0].http[k], &q) ? (int)k : -1;
	o = ask(c, line, q.host, header);
	if ((want >= 0) != (o.allowed == 1) || (want >= 0 && o.match != want))
		fail_msg("%s, host %s, %s: %u, match %u, %s; naive says %d", line, q.host, header, o.allowed, o.match,
			 bn_http_reason_name(o.reason), want);
	counts[want >= 0]++;
}

static void test_random(void **unused _unused_)
{
	uint32_t counts[2] = {};

	for (int round = 0; round < 300; round++) {
		struct bn_netpol *np;
		struct bn_http_rules *c;
		char *text = NULL;
		size_t len;
		FILE *f = open_memstream(&text, &len);

		assert_non_null(f);
		for (uint32_t n = 1 + rnd(rnd(10) ? 6 : 100), k = 0; k < n; k++) {
			fputc(k ? ',' : '[', f);
			random_match(f);
		}
		fputc(']', f);
		fclose(f);
		np = netpol(text);
		c = rules_of(np);
		for (int k = 0; k < 100; k++)
			random_request(np, c, counts);
		bn_http_rules_freep(&c);
		bn_obj_unref(&np->o);
		free(text);
	}
	print_message("%u denied, %u allowed\n", counts[0], counts[1]);
	assert_true(counts[0] > 1000 && counts[1] > 1000);
}

static void test_judge(void **unused _unused_)
{
	struct bn_netpol *np = netpol("[{\"method\":\"POST\",\"path\":{\"value\":\"/a\"}},"
				      "{\"method\":\"GET\",\"path\":{\"value\":\"/b\"},\"hostnames\":[\"h\"]}]");
	const struct bn_rule *one = &np->in[0];
	const char *evil = "Transfer-Encoding: gzip";
	struct bn_http_request q = { .method = "GET", .target = "/a", .host = "x" };
	struct bn_http_verdict v;

	assert_int_equal(bn_http_judge(&one, 1, &q, &v), 0);
	assert_false(v.allow);
	assert_true(v.nearest && v.match == 0);
	assert_string_equal(v.field, "method");
	q = (struct bn_http_request){ .method = "GET", .target = "/b/c?d", .host = "H:80" };
	assert_int_equal(bn_http_judge(&one, 1, &q, &v), 0);
	assert_true(v.allow && v.match == 1);
	q.headers = &evil;
	q.nheaders = 1;
	assert_int_equal(bn_http_judge(&one, 1, &q, &v), 0);
	assert_true(!v.allow && v.reason == BN_HTTP_ENCODING && !v.nearest);
	bn_obj_unref(&np->o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),	  cmocka_unit_test(test_errors),
		cmocka_unit_test(test_explosion), cmocka_unit_test(test_many_of_them), cmocka_unit_test(test_names),
		cmocka_unit_test(test_thousand),  cmocka_unit_test(test_random),
		cmocka_unit_test(test_judge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
