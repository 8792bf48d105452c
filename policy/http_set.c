// SPDX-License-Identifier: MIT
/* A set of HTTP rules as tables: the patterns of each field, each distinct one once, and the sets of matches
 * that they stand for.
 */
#include <stdarg.h>
#include <stdio.h>

#include "maps/util.h"
#include "policy/http_priv.h"

enum pattern_type { LITERAL, PREFIX, REGEX, WILDCARD };

struct pattern {
	const char *text;
	enum pattern_type type;
	uint64_t set[BN_HTTP_WORDS];
};

/* The automaton of one field while it is made. */
struct field {
	struct bn_http_rules *r;
	struct bn_nfa nfa;
	BN_VEC(struct pattern) patterns; /* by number */
	uint64_t base[BN_HTTP_WORDS];	 /* matches that do not look at the field */
	bool names;			 /* what it ends in is the pattern's set[0], not a set of matches */
	bool paths;
};

struct comp {
	struct bn_http_rules *r;
	struct bn_pool sets;
	uint64_t *left; /* of BN_HTTP_WORK_MAX */
	BN_VEC(const char *) headers, queries;
	struct bn_err *err;
};

__attribute__((format(printf, 4, 5))) static int fail(struct comp *c, const struct bn_http_origin *o,
						      const char *field, const char *fmt, ...)
{
	va_list ap;

	if (o)
		snprintf(c->err->field, sizeof(c->err->field), "rule %u: http[%u].%s", o->rule, o->index, field);
	else
		snprintf(c->err->field, sizeof(c->err->field), "%s", field);
	va_start(ap, fmt);
	vsnprintf(c->err->msg, sizeof(c->err->msg), fmt, ap);
	va_end(ap);
	for (char *s = c->err->msg; *s; s++) /* it ends in logs and terminals */
		*s = *s < ' ' || *s > '~' ? '?' : *s;
	return -EINVAL;
}

static void set_bit(uint64_t *set, uint32_t k)
{
	set[k / 64] |= 1ull << (k % 64);
}

static void field_done(struct field *f)
{
	bn_nfa_done(&f->nfa);
	bn_vec_done(&f->patterns);
}

static int get_set(struct comp *c, const uint64_t *set, uint32_t *ret)
{
	uint32_t v[2 * BN_HTTP_WORDS];

	memcpy(v, set, c->r->tab.nwords * sizeof(*set));
	return bn_pool_get(&c->sets, v, 2u * c->r->tab.nwords, ret);
}

/* Adds match k to a pattern, which goes into the automaton when it is new. */
static int add(struct comp *c, struct field *f, const struct bn_http_origin *o, const char *name,
	       enum pattern_type type, const char *text, uint32_t k)
{
	struct pattern p = { .text = text, .type = type };
	char msg[200] = "";
	int r;

	for (uint32_t i = 0; i < f->patterns.n; i++) {
		if (f->patterns.v[i].type == type && !strcmp(f->patterns.v[i].text, text)) {
			set_bit(f->patterns.v[i].set, k);
			return 0;
		}
	}
	set_bit(p.set, k);
	r = bn_vec_push(&f->patterns, p);
	if (!r && type == REGEX)
		r = bn_nfa_regex(&f->nfa, text, msg, sizeof(msg));
	else if (!r && type == WILDCARD)
		r = bn_nfa_wildcard(&f->nfa, text);
	else if (!r)
		r = bn_nfa_literal(&f->nfa, text, type == PREFIX);
	if (r < 0 && *msg) {
		fail(c, o, name, "'%.80s' %s", text, msg);
	} else if (r == -E2BIG) {
		fail(c, o, name, "'%.80s' is too complex, together with the patterns before it in this policy or on "
		     "this port: %d million steps", text, BN_HTTP_WORK_MAX >> 20);
	} else if (!r && type == REGEX && f->paths && !bn_nfa_begins(&f->nfa, '/') && !bn_nfa_begins(&f->nfa, '*')) {
		fail(c, o, name, "'%.80s' matches no path: they all begin with '/'", text);
		r = -EINVAL;
	} else if (!r && f->nfa.states.n > BN_HTTP_CELLS_MAX) {
		fail(c, o, name, "too many patterns");
		r = -E2BIG;
	}
	return r;
}

static int end_of(void *data, const uint32_t *patterns, uint32_t n, uint32_t *ret)
{
	struct comp *c = ((void **)data)[0];
	struct field *f = ((void **)data)[1];
	uint64_t set[BN_HTTP_WORDS];

	if (f->names) {
		*ret = n ? (uint32_t)f->patterns.v[patterns[0]].set[0] : 0;
		return 0;
	}
	memcpy(set, f->base, sizeof(set));
	for (uint32_t k = 0; k < n; k++) {
		for (size_t w = 0; w < BN_HTTP_WORDS; w++)
			set[w] |= f->patterns.v[patterns[k]].set[w];
	}
	return get_set(c, set, ret);
}

static int cell(struct bn_http_rules *r, uint32_t x)
{
	return x > UINT16_MAX ? -E2BIG : bn_vec_push(&r->cells, (uint16_t)x);
}

/* Which states lead to a set that is not empty: from the others no byte helps any more. */
static int live_states(struct comp *c, const struct bn_dfa *d, bool **ret)
{
	bool *live = calloc(d->n, sizeof(*live)), more = true;

	if (!live)
		return -ENOMEM;
	for (uint32_t q = 0; q < d->n; q++) {
		const uint32_t *v;
		uint32_t n;

		v = bn_pool_at(&c->sets, d->ends[q], &n);
		for (uint32_t k = 0; k < n; k++)
			live[q] |= v[k] != 0;
	}
	while (more) {
		more = false;
		for (uint32_t q = d->n; q-- > 0;) {
			for (uint32_t k = 0; k < d->classes && !live[q]; k++)
				more |= live[q] = live[d->trans[q * d->classes + k]];
		}
	}
	*ret = live;
	return 0;
}

/* Makes the automaton and lays it behind the others. */
static void too_complex(struct comp *c, const char *name)
{
	const struct bn_http_origin *only = c->r->origins.n == 1 ? c->r->origins.v : NULL;
	char field[64];

	snprintf(field, sizeof(field), only ? "%s" : "http[*].%s", name);
	fail(c, only, field, "%s too complex: at most %d states and %d cells, and for the rules of a policy or of a port "
	     "%d million steps; fewer '.*' and counts%s", only ? "it is" : "the patterns of all entries together are",
	     BN_HTTP_STATES_MAX, BN_HTTP_CELLS_MAX, BN_HTTP_WORK_MAX >> 20, only ? "" : ", or fewer entries");
}

static int emit(struct comp *c, struct field *f, const char *name, struct bn_http_auto *ret)
{
	_cleanup_(freep) bool *live = NULL;
	void *data[2] = { c, f };
	struct bn_dfa d = {};
	int r;

	r = bn_nfa_close(&f->nfa);
	r = r ?: bn_dfa_make(&f->nfa, end_of, data, &d);
	if (!r && c->r->cells.n + 256 + d.n * (d.classes + 1) > BN_HTTP_CELLS_MAX)
		r = -E2BIG;
	if (!r) {
		ret->start = 0;
		ret->classes = (uint16_t)d.classes;
		ret->cls = c->r->cells.n;
		ret->trans = ret->cls + 256;
		ret->ends = ret->trans + d.n * d.classes;
	}
	for (uint32_t k = 0; !r && k < 256; k++)
		r = cell(c->r, d.cls[k]);
	/* A path that is lost is denied at once, before the rest of it reaches the server. */
	if (!r && ret == &c->r->tab.path)
		r = live_states(c, &d, &live);
	for (uint32_t k = 0; !r && k < d.n * d.classes; k++)
		r = cell(c->r, live && !live[d.trans[k]] ? BN_HTTP_DEAD : d.trans[k]);
	for (uint32_t k = 0; !r && k < d.n; k++)
		r = cell(c->r, d.ends[k]);
	bn_dfa_done(&d);
	if (r == -E2BIG)
		too_complex(c, name);
	return r;
}

/* --- fields --------------------------------------------------------------------------------------- */

/* A path of a rule as the parser would hand it over: unreserved bytes decoded, other digits in upper case. */
static int normal_path(struct bn_http_rules *r, const char *s, bool prefix, const char **ret)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t len = strlen(s), n = 0;
	char *out = malloc(len + 1);
	unsigned byte;

	if (!out || bn_vec_push(&r->texts, out) < 0) {
		free(out);
		return -ENOMEM;
	}
	for (; *s; s++) {
		bool coded = *s == '%' && strspn(s + 1, "0123456789abcdefABCDEF") >= 2;

		if (!coded || sscanf(s + 1, "%2x", &byte) != 1) {
			out[n++] = *s;
			continue;
		}
		s += 2;
		if (byte && byte < 128 && (strchr("-._~", (int)byte) || (byte >= '0' && byte <= '9') ||
					   ((byte | 32) >= 'a' && (byte | 32) <= 'z'))) {
			out[n++] = (char)byte;
			continue;
		}
		out[n++] = '%';
		out[n++] = hex[byte >> 4];
		out[n++] = hex[byte & 15];
	}
	while (prefix && n && out[n - 1] == '/') /* "/a/" and "/a" are the same elements */
		n--;
	out[n] = 0;
	*ret = out;
	return 0;
}

static int add_path(struct comp *c, struct field *f, const struct bn_http_origin *o, uint32_t k)
{
	static const enum pattern_type types[] = {
		[BN_MATCH_EXACT] = LITERAL,
		[BN_MATCH_PREFIX] = PREFIX,
		[BN_MATCH_REGEX] = REGEX,
	};
	const char *text = o->m->path;
	int r = 0;

	if (!o->m->has_path) {
		set_bit(f->base, k);
		return 0;
	}
	if (o->m->path_type != BN_MATCH_REGEX)
		r = normal_path(c->r, text, o->m->path_type == BN_MATCH_PREFIX, &text);
	return r ?: add(c, f, o, "path.value", types[o->m->path_type], text, k);
}

static int add_hosts(struct comp *c, struct field *f, const struct bn_http_origin *o, uint32_t k)
{
	int r = 0;

	if (!o->m->nhosts)
		set_bit(f->base, k);
	for (uint32_t i = 0; i < o->m->nhosts && !r; i++) {
		const char *h = o->m->hosts[i];
		bool wild = !strncmp(h, "*.", 2);

		r = add(c, f, o, "hostnames", wild ? WILDCARD : LITERAL, wild ? h + 2 : h, k);
	}
	return r;
}

static int add_method(struct comp *c, struct field *f, const struct bn_http_origin *o, uint32_t k)
{
	if (o->m->method)
		return add(c, f, o, "method", LITERAL, o->m->method, k);
	set_bit(f->base, k);
	return 0;
}

static int simple_field(struct comp *c, const char *name, struct bn_http_auto *a,
			int (*put)(struct comp *, struct field *, const struct bn_http_origin *, uint32_t),
			uint16_t *none)
{
	_cleanup_(field_done) struct field f = { .r = c->r, .nfa.left = c->left, .paths = put == add_path };
	uint32_t set;
	int r = 0;

	for (uint32_t k = 0; k < c->r->origins.n && !r; k++)
		r = put(c, &f, &c->r->origins.v[k], k);
	r = r ?: emit(c, &f, name, a);
	r = r ?: get_set(c, f.base, &set);
	if (!r && none)
		*none = (uint16_t)set;
	return r;
}

/* One header or query parameter of all matches. */
static int slot_field(struct comp *c, bool header, uint32_t slot)
{
	struct bn_http_tab *t = &c->r->tab;
	const char *name = header ? c->headers.v[slot] : c->queries.v[slot];
	_cleanup_(field_done) struct field f = { .r = c->r, .nfa.left = c->left };
	uint32_t set;
	int r = 0;

	for (uint32_t k = 0; k < c->r->origins.n && !r; k++) {
		const struct bn_http_origin *o = &c->r->origins.v[k];
		const struct bn_http_kv *kv = header ? o->m->headers : o->m->queries;
		uint32_t n = header ? o->m->nheaders : o->m->nqueries, i;
		char field[64];

		for (i = 0; i < n && strcmp(kv[i].name, name); i++)
			;
		snprintf(field, sizeof(field), "%s[%u].value", header ? "headers" : "queryParams", i);
		if (i == n)
			set_bit(f.base, k);
		else
			r = add(c, &f, o, field, kv[i].type == BN_MATCH_REGEX ? REGEX : LITERAL, kv[i].value, k);
	}
	r = r ?: emit(c, &f, header ? "headers" : "queryParams", header ? &t->header[slot] : &t->query[slot]);
	r = r ?: get_set(c, f.base, &set);
	if (!r)
		*(header ? &t->no_header[slot] : &t->no_param[slot]) = (uint16_t)set;
	return r;
}

/* --- names ---------------------------------------------------------------------------------------- */

static int collect(struct comp *c, const struct bn_http_origin *o, bool header)
{
	const struct bn_http_kv *kv = header ? o->m->headers : o->m->queries;
	uint32_t n = header ? o->m->nheaders : o->m->nqueries;
	int r = 0;

	for (uint32_t i = 0; i < n && !r; i++) {
		uint32_t count = header ? c->headers.n : c->queries.n, k;
		const char **names = header ? c->headers.v : c->queries.v;
		char field[64];

		for (k = 0; k < count && strcmp(names[k], kv[i].name); k++)
			;
		if (k < count)
			continue;
		snprintf(field, sizeof(field), "%s[%u].name", header ? "headers" : "queryParams", i);
		if (count == BN_HTTP_SLOTS) {
			fail(c, o, field, "'%.64s' is one name too many: the rules of a port may look at %d %s",
			     kv[i].name, BN_HTTP_SLOTS, header ? "headers" : "query parameters");
			return -E2BIG;
		}
		r = header ? bn_vec_push(&c->headers, kv[i].name) : bn_vec_push(&c->queries, kv[i].name);
	}
	return r;
}

static int add_name(struct field *f, const char *text, uint32_t code)
{
	struct pattern p = { .text = text, .type = LITERAL, .set = { code } };
	int r;

	for (uint32_t i = 0; i < f->patterns.n; i++) {
		if (!strcmp(f->patterns.v[i].text, text)) {
			f->patterns.v[i].set[0] |= code;
			return 0;
		}
	}
	r = bn_vec_push(&f->patterns, p);
	return r ?: bn_nfa_literal(&f->nfa, text, false);
}

static int names(struct comp *c, bool header)
{
	static const struct {
		const char *name;
		uint32_t code;
	} framing[] = {
		{ "content-length", BN_HTTP_NAME_LENGTH },
		{ "transfer-encoding", BN_HTTP_NAME_ENCODING },
		{ "host", BN_HTTP_NAME_HOST },
		{ "upgrade", BN_HTTP_NAME_UPGRADE },
	};
	_cleanup_(field_done) struct field f = { .r = c->r, .nfa.left = c->left, .names = true };
	uint32_t n = header ? c->headers.n : c->queries.n;
	int r = 0;

	for (size_t k = 0; header && k < ARRAY_SIZE(framing) && !r; k++)
		r = add_name(&f, framing[k].name, framing[k].code);
	for (uint32_t k = 0; k < n && !r; k++)
		r = add_name(&f, header ? c->headers.v[k] : c->queries.v[k], k + 1);
	return r ?: emit(c, &f, header ? "headers" : "queryParams",
			 header ? &c->r->tab.header_name : &c->r->tab.query_name);
}

/* --- all of it ------------------------------------------------------------------------------------- */

/* Sets that belong to no automaton. */
static int special_sets(struct comp *c)
{
	uint64_t connect[BN_HTTP_WORDS] = {}, upgrade[BN_HTTP_WORDS] = {}, no_query[BN_HTTP_WORDS] = {};
	uint32_t a, b, q;
	int r;

	for (uint32_t k = 0; k < c->r->origins.n; k++) {
		const struct bn_http_match *m = c->r->origins.v[k].m;

		if (m->method && !strcmp(m->method, "CONNECT"))
			set_bit(connect, k);
		for (uint32_t i = 0; i < m->nheaders; i++)
			if (!strcmp(m->headers[i].name, "upgrade"))
				set_bit(upgrade, k);
		if (!m->nqueries)
			set_bit(no_query, k);
	}
	r = get_set(c, connect, &a);
	r = r ?: get_set(c, upgrade, &b);
	r = r ?: get_set(c, no_query, &q);
	if (r < 0)
		return r;
	c->r->tab.connect = (uint16_t)a;
	c->r->tab.upgrade = (uint16_t)b;
	c->r->tab.no_query = (uint16_t)q;
	return c->sets.ends.n > UINT16_MAX ? -E2BIG : 0;
}

static int compile(struct comp *c)
{
	struct bn_http_tab *t = &c->r->tab;
	int r = 0;

	t->nmatches = (uint16_t)c->r->origins.n;
	t->nwords = (uint16_t)((c->r->origins.n + 63) / 64 ?: 1);
	for (uint32_t k = 0; k < c->r->origins.n && !r; k++) {
		r = collect(c, &c->r->origins.v[k], true);
		r = r ?: collect(c, &c->r->origins.v[k], false);
	}
	t->nheaders = (uint16_t)c->headers.n;
	t->nqueries = (uint16_t)c->queries.n;
	r = r ?: simple_field(c, "method", &t->method, add_method, NULL);
	r = r ?: simple_field(c, "path", &t->path, add_path, &t->no_path);
	r = r ?: simple_field(c, "hostnames", &t->host, add_hosts, &t->no_host);
	r = r ?: names(c, true);
	r = r ?: names(c, false);
	for (uint32_t k = 0; k < c->headers.n && !r; k++)
		r = slot_field(c, true, k);
	for (uint32_t k = 0; k < c->queries.n && !r; k++)
		r = slot_field(c, false, k);
	r = r ?: special_sets(c);
	for (uint32_t k = 0; k < c->sets.ends.n && !r; k++) {
		uint32_t n;
		const uint32_t *v = bn_pool_at(&c->sets, k, &n);

		for (uint32_t w = 0; w < n && !r; w += 2) {
			uint64_t word;

			memcpy(&word, v + w, sizeof(word));
			r = bn_vec_push(&c->r->words, word);
		}
	}
	return r;
}

void bn_http_rules_freep(struct bn_http_rules **rp)
{
	struct bn_http_rules *r = *rp;

	if (!r)
		return;
	*rp = NULL;
	for (uint32_t k = 0; k < r->texts.n; k++)
		free(r->texts.v[k]);
	bn_vec_done(&r->texts);
	bn_vec_done(&r->origins);
	bn_vec_done(&r->cells);
	bn_vec_done(&r->words);
	free(r);
}

int bn_http_compile_with(const struct bn_rule *const *rules, size_t n, uint64_t *left, struct bn_http_rules **ret,
			 struct bn_err *err)
{
	_cleanup_(bn_http_rules_freep) struct bn_http_rules *out = calloc(1, sizeof(*out));
	struct comp c = { .r = out, .err = err, .left = left };
	int r = 0;

	*err = (struct bn_err){};
	if (!out)
		return -ENOMEM;
	for (uint32_t k = 0; k < n && !r; k++) {
		for (uint32_t i = 0; i < rules[k]->nhttp && !r; i++) {
			struct bn_http_origin o = { k, i, &rules[k]->http[i] };

			r = bn_vec_push(&out->origins, o);
			if (!r && out->origins.n > BN_HTTP_MATCHES) {
				fail(&c, &o, "*", "more than %d matches on one port", BN_HTTP_MATCHES);
				r = -E2BIG;
			}
		}
	}
	r = r ?: compile(&c);
	bn_pool_done(&c.sets);
	bn_vec_done(&c.headers);
	bn_vec_done(&c.queries);
	if (r == -E2BIG && !*err->msg)
		fail(&c, NULL, "http", "the rules of this port together are too large");
	if (r < 0)
		return r;
	*ret = TAKE_PTR(out);
	return 0;
}

int bn_http_compile_some(const struct bn_rule *const *rules, size_t n, uint64_t steps, struct bn_http_rules **ret,
			 struct bn_err *err)
{
	uint64_t left = steps;
	_cleanup_(bn_http_rules_freep) struct bn_http_rules *out = NULL;
	int r = bn_http_compile_with(rules, n, &left, &out, err);

	/* Where steps ran short the tables may be larger than they need be. */
	if (!left && steps < BN_HTTP_WORK_MAX)
		return -EAGAIN;
	if (!r)
		*ret = TAKE_PTR(out);
	return r;
}

int bn_http_compile(const struct bn_rule *const *rules, size_t n, struct bn_http_rules **ret,
		    struct bn_err *err)
{
	return bn_http_compile_some(rules, n, BN_HTTP_WORK_MAX, ret, err);
}

void bn_http_rules_match(const struct bn_http_rules *r, uint32_t k, uint32_t *rule, uint32_t *index)
{
	*rule = r->origins.v[k].rule;
	*index = r->origins.v[k].index;
}

void bn_http_rules_view(const struct bn_http_rules *r, struct bn_http_view *ret)
{
	*ret = (struct bn_http_view){ .tab = &r->tab, .cells = r->cells.v, .words = r->words.v,
				      .ncells = r->cells.n, .nwords = r->words.n };
}
