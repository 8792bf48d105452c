// SPDX-License-Identifier: MIT
/* Patterns of HTTP rules as nondeterministic automata. libfa reads regular expressions; what it would read
 * otherwise than people mean, and what would grow beyond measure, is refused before it sees them.
 */
#include <fa.h>
#include <stdarg.h>
#include <stdio.h>

#include "maps/util.h"
#include "policy/http_priv.h"

int bn_nfa_state(struct bn_nfa *n, uint32_t pattern)
{
	return bn_vec_push(&n->states, ((struct bn_nfa_state){ n->edges.n, pattern }));
}

int bn_nfa_edge(struct bn_nfa *n, uint8_t lo, uint8_t hi, uint32_t to)
{
	return bn_vec_push(&n->edges, ((struct bn_nfa_edge){ lo, hi, to }));
}

void bn_nfa_done(struct bn_nfa *n)
{
	bn_vec_done(&n->states);
	bn_vec_done(&n->edges);
	bn_vec_done(&n->starts);
	bn_vec_done(&n->suffixes);
}

bool bn_nfa_begins(const struct bn_nfa *n, uint8_t byte)
{
	uint32_t at = n->starts.v[n->starts.n - 1];
	uint32_t end = at + 1 < n->states.n ? n->states.v[at + 1].first : n->edges.n;

	for (uint32_t e = n->states.v[at].first; e < end; e++)
		if (n->edges.v[e].lo <= byte && byte <= n->edges.v[e].hi)
			return true;
	return false;
}

static int literal(struct bn_nfa *n, const char *s)
{
	int r = 0;

	for (; *s && !r; s++) {
		r = bn_nfa_state(n, 0);
		r = r ?: bn_nfa_edge(n, (uint8_t)*s, (uint8_t)*s, n->states.n);
	}
	return r;
}

int bn_nfa_literal(struct bn_nfa *n, const char *s, bool prefix)
{
	uint32_t pattern = ++n->npatterns;
	int r;

	r = bn_vec_push(&n->starts, n->states.n);
	r = r ?: literal(n, s);
	r = r ?: bn_nfa_state(n, pattern);
	if (r < 0 || !prefix)
		return r;
	r = bn_nfa_edge(n, '/', '/', n->states.n);
	r = r ?: bn_nfa_state(n, pattern);
	return r ?: bn_nfa_edge(n, 0, 255, n->states.n - 1);
}

int bn_nfa_wildcard(struct bn_nfa *n, const char *suffix)
{
	uint32_t pattern = ++n->npatterns;
	int r;

	r = bn_vec_push(&n->suffixes, n->states.n);
	r = r ?: literal(n, suffix);
	return r ?: bn_nfa_state(n, pattern);
}

int bn_nfa_close(struct bn_nfa *n)
{
	uint32_t at = n->states.n;
	int r;

	if (!n->suffixes.n)
		return 0;
	r = bn_vec_push(&n->starts, at);
	for (int k = 0; k < 2 && !r; k++) { /* at: before a label; at + 1: in it */
		r = bn_nfa_state(n, 0);
		r = r ?: bn_nfa_edge(n, 0, '.' - 1, at + 1);
		r = r ?: bn_nfa_edge(n, '.' + 1, 255, at + 1);
	}
	r = r ?: bn_nfa_edge(n, '.', '.', at);
	for (uint32_t k = 0; k < n->suffixes.n && !r; k++)
		r = bn_nfa_edge(n, '.', '.', n->suffixes.v[k]);
	return r;
}

/* --- what libfa is given ------------------------------------------------------------------------ */

struct scan {
	const char *at;
	unsigned depth;
	char *msg;
	size_t len;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct scan *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->msg, s->len, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int scan_alt(struct scan *s, uint64_t *size);

static int scan_bracket(struct scan *s)
{
	const char *p = s->at + 1;

	if (*p == '^')
		p++;
	if (*p == ']')
		p++;
	for (; *p && *p != ']'; p++) {
		if (*p < ' ' || *p > '~')
			return refuse(s, "holds control bytes or bytes beyond ASCII");
		if (*p == '-' && p[-1] != '[' && p[-1] != '^' && p[1] && p[1] != ']' && p[1] < p[-1])
			return refuse(s, "has a range whose end is before its beginning");
		if (*p == '\\')
			return refuse(s, "has a backslash inside brackets, where it would be a byte like any other");
		if (*p == '[' && (p[1] == ':' || p[1] == '.' || p[1] == '='))
			return refuse(s, "names a class of characters, which is not supported: spell it out");
	}
	if (!*p)
		return refuse(s, "has a '[' without ']'");
	s->at = p + 1;
	return 0;
}

static int scan_atom(struct scan *s, uint64_t *size)
{
	char c = *s->at;
	int r;

	*size = 1;
	if (c == '[')
		return scan_bracket(s);
	if (c == '(') {
		if (s->at[1] == '?')
			return refuse(s, "has '(?', which is not supported");
		if (++s->depth > 32)
			return refuse(s, "has parentheses nested deeper than 32");
		s->at++;
		r = scan_alt(s, size);
		if (r < 0)
			return r;
		if (*s->at != ')')
			return refuse(s, "has a '(' without ')'");
		s->depth--;
	} else if (c == '\\') {
		c = *++s->at;
		if (!c || c <= ' ' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z'))
			return refuse(s, "has a backslash before what is not punctuation");
	} else if (c == '^' || c == '$') {
		return refuse(s, "has '%c': it is anchored at both ends anyway; write \\%c for the byte", c, c);
	} else if (strchr("*+?{", c)) {
		return refuse(s, "repeats nothing at '%c'", c);
	} else if (c < ' ' || c > '~') {
		return refuse(s, "holds control bytes or bytes beyond ASCII");
	}
	s->at++;
	return 0;
}

/* {n}, {n,}, {n,m}: how many copies libfa makes. */
static int scan_count(struct scan *s, uint64_t *times)
{
	unsigned lo = 0, hi = 0;
	int used = 0;

	if (sscanf(s->at, "{%4u}%n", &lo, &used) == 1 && used) {
		hi = lo;
	} else if (sscanf(s->at, "{%4u,}%n", &lo, &used) == 1 && used) {
		hi = lo + 1;
	} else if (sscanf(s->at, "{%4u,%4u}%n", &lo, &hi, &used) != 2 || !used || hi < lo) {
		return refuse(s, "has '{' that is not {n}, {n,} or {n,m}; write \\{ for the byte");
	}
	s->at += used;
	*times = hi ?: 1;
	return 0;
}

static int scan_alt(struct scan *s, uint64_t *size)
{
	int r = 0;

	*size = 1;
	while (!r && *s->at && *s->at != ')') {
		uint64_t atom, times;
		bool repeated = false;

		if (*s->at == '|') {
			s->at++;
			*size += 1;
			continue;
		}
		r = scan_atom(s, &atom);
		while (!r && *s->at && strchr("*+?{", *s->at)) {
			/* Elsewhere 'a+?' takes as little as it can of one or more; here it would be none, too. */
			if (repeated)
				return refuse(s, "repeats a repetition at '%c': put it in parentheses", *s->at);
			repeated = true;
			times = *s->at == '+' ? 2 : 1;
			if (*s->at == '{')
				r = scan_count(s, &times);
			else
				s->at++;
			atom *= times;
			if (!r && atom > BN_HTTP_POSITIONS_MAX)
				break;
		}
		*size += atom;
		if (!r && *size > BN_HTTP_POSITIONS_MAX) {
			refuse(s, "is too large with its counts spelled out: at most %d positions",
			       BN_HTTP_POSITIONS_MAX);
			return -E2BIG;
		}
	}
	return r;
}

static int check(const char *re, uint64_t *size, char *msg, size_t len)
{
	struct scan s = { .at = re, .msg = msg, .len = len };
	int r;

	if (strlen(re) > BN_HTTP_REGEX_MAX) {
		refuse(&s, "is longer than %d bytes", BN_HTTP_REGEX_MAX);
		return -E2BIG;
	}
	r = scan_alt(&s, size);
	if (!r && *s.at)
		r = refuse(&s, "has a ')' without '('");
	return r;
}

/* --- from libfa ----------------------------------------------------------------------------------- */

struct number {
	struct bn_hnode h;
	const struct state *state;
	uint32_t k;
};

static uint32_t number_of(const struct bn_htab *t, const struct state *s)
{
	for (struct bn_hnode *h = bn_htab_first(t, bn_hash(&s, sizeof(s))); h; h = bn_htab_next(h)) {
		const struct number *n = bn_container(h, struct number, h);

		if (n->state == s)
			return n->k;
	}
	return 0;
}

static int copy_edges(struct bn_nfa *n, const struct bn_htab *numbers, struct state *s)
{
	int r = 0;

	for (size_t k = 0; k < fa_state_num_trans(s) && !r; k++) {
		unsigned char lo, hi;
		struct state *to;

		if (fa_state_trans(s, k, &to, &lo, &hi) == 0)
			r = bn_nfa_edge(n, lo, hi, number_of(numbers, to));
	}
	return r;
}

static int copy(struct bn_nfa *n, struct fa *fa)
{
	_cleanup_(freep) struct number *all = NULL;
	struct bn_htab numbers = {};
	uint32_t count = 0, base = n->states.n, pattern = ++n->npatterns;
	struct state *s;
	int r;

	for (s = fa_state_initial(fa); s; s = fa_state_next(s))
		count++;
	all = calloc(count + 1, sizeof(*all));
	r = all ? bn_vec_push(&n->starts, base) : -ENOMEM;
	count = 0;
	for (s = fa_state_initial(fa); s && !r; s = fa_state_next(s)) {
		all[count] = (struct number){ .state = s, .k = base + count };
		r = bn_htab_add(&numbers, &all[count].h, bn_hash(&s, sizeof(s)));
		count++;
	}
	for (s = fa_state_initial(fa); s && !r; s = fa_state_next(s)) {
		r = bn_nfa_state(n, fa_state_is_accepting(s) ? pattern : 0);
		r = r ?: copy_edges(n, &numbers, s);
	}
	bn_htab_clear(&numbers);
	return r;
}

int bn_nfa_regex(struct bn_nfa *n, const char *re, char *msg, size_t len)
{
	struct fa *fa = NULL;
	uint64_t size = 0;
	int r;

	r = check(re, &size, msg, len);
	r = r ?: bn_http_spend(n->left, size * size / 2); /* as long as libfa takes */
	if (r < 0)
		return r;
	r = fa_compile(re, strlen(re), &fa);
	if (r || !fa) {
		snprintf(msg, len, "is not a regular expression (libfa error %d)", r);
		return -EINVAL;
	}
	r = copy(n, fa);
	fa_free(fa);
	return r;
}
