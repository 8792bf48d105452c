/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_FAST_H
#define BN_BPF_HTTP_FAST_H

/* Most bytes of most heads, without the parser's call for each: several at a time where nothing is decided by
 * them. It comes to the same as the parser (bpf/lib/http_parse.h), or takes nothing and leaves it to that;
 * tests/bpf/test_http and test_http_wire compare what the two come to.
 */

#include "bpf/lib/http_keep.h"

#define BN_HTTP_FAST_MAX 128 /* bytes of a step, at most */

/* Steps in one call, and such calls: the verifier walks each step of one in full, 27,000 instructions, but one call
 * only (16 steps in one: 0.5 s of every start of the daemon).
 */
#define BN_HTTP_FAST_RUN 4
#define BN_HTTP_FAST_RUNS 4
#define BN_HTTP_FAST_STEP 16 /* bytes of an automaton's in one step */

#define BN_ONES 0x0101010101010101ull

/* What a byte may be part of here. */
enum {
	BN_HTTP_IN_METHOD = 1 << 0,
	BN_HTTP_IN_NAME = 1 << 1,
	BN_HTTP_IN_HOST = 1 << 2,
	BN_HTTP_IN_PATH = 1 << 3,
	BN_HTTP_IN_TEXT = 1 << 4, /* of a path, behind other text of its segment */
	BN_HTTP_IN_UPPER = 0x20,  /* the bit between the cases */
	BN_HTTP_IN_QUERY = 1 << 6,
	BN_HTTP_IN_PAIR = 1 << 7, /* between names and values of a query */
};

#define BN_HTTP_IN_WORD (BN_HTTP_IN_NAME | BN_HTTP_IN_HOST | BN_HTTP_IN_PATH | BN_HTTP_IN_TEXT | BN_HTTP_IN_QUERY)

static const __u8 bn_http_in[256] = {
	['0' ... '9'] = BN_HTTP_IN_WORD,
	['a' ... 'z'] = BN_HTTP_IN_WORD | BN_HTTP_IN_METHOD,
	['A' ... 'Z'] = BN_HTTP_IN_WORD | BN_HTTP_IN_METHOD | BN_HTTP_IN_UPPER,
	['-'] = BN_HTTP_IN_WORD,
	['_'] = BN_HTTP_IN_PATH | BN_HTTP_IN_TEXT | BN_HTTP_IN_QUERY,
	['.'] = BN_HTTP_IN_HOST | BN_HTTP_IN_TEXT | BN_HTTP_IN_QUERY,
	['/'] = BN_HTTP_IN_TEXT,
	['='] = BN_HTTP_IN_PAIR,
	['&'] = BN_HTTP_IN_PAIR,
};

/* The highest bit of each byte that may not stand in every value: below ' ' (a tab, too: the parser's), DEL. Exact up
 * to the first such byte.
 */
static __always_inline __u64 bn_http_odd8(__u64 x)
{
	__u64 del = x ^ 0x7f * BN_ONES;

	return (((x - ' ' * BN_ONES) & ~x) | ((del - BN_ONES) & ~del)) & 0x80 * BN_ONES;
}

/* How many bytes of a value that no rule looks at; up to 64 of the `left` ones. */
static __always_inline __u32 bn_http_fast_text(const __u8 *b, __u32 left)
{
	__u32 n = 0;

#pragma clang loop unroll(full)
	for (__u32 k = 0; k < 8; k++) {
		__u64 odd = bn_http_odd8(__builtin_bswap64(bpf_be64_to_cpu(((const bn_u64a *)b)[k])));

		if (odd) {
			odd &= -odd;
			n += (((odd - 1) & BN_ONES) * BN_ONES >> 56) - 1;
			break;
		}
		n += 8;
		if (n >= left)
			break;
	}
	return n < left ? n : left;
}

/* The same number, of which the verifier knows nothing any more: ways that meet are one to it then. `any`: a number
 * of which it does not know anything.
 */
static __always_inline __u32 bn_http_some(__u32 n, __u32 any)
{
	n += any;
	BN_OPAQUE(n);
	return n - any;
}

/* The automaton's next state, where the first page has it; a larger number where not. */
static __always_inline __u32 bn_http_near(const struct bn_http_page *page, const struct bn_http_auto *a, __u32 q, __u32 b)
{
	const __u32 mask = BN_HTTP_PAGE / 2 - 1;
	__u32 at = a->cls + b + BN_HTTP_CELLS_AT / 2, to;

	to = a->trans + q * a->classes + page->cell[at & mask] + BN_HTTP_CELLS_AT / 2;
	return page->cell[to & mask] | ((at | to) & ~mask) << 2;
}
#define BN_HTTP_NEAR 0xffff

/* Bytes of one automaton in a row: how many of them, at most BN_HTTP_FAST_STEP, are in the set; *q is the state then. */
static __always_inline __u32 bn_http_fast_walk(const struct bn_http_page *page, const struct bn_http_auto *a, __u32 *q,
					       const __u8 *b, __u32 left, __u32 set, __u32 lower)
{
	__u32 n = 0, at = *q;

#pragma clang loop unroll(disable)
	for (__u32 k = 0; k < BN_HTTP_FAST_STEP; k++) {
		__u32 in = bn_http_in[b[k]], next;

		BN_OPAQUE(left);
		if (k >= left || !(in & set))
			break;
		next = bn_http_near(page, a, at, b[k] | (in & lower));
		if (next > BN_HTTP_NEAR)
			break;
		at = next;
		n = k + 1;
	}
	*q = at;
	return bn_http_some(n, left) & (2 * BN_HTTP_FAST_STEP - 1);
}

static __always_inline bool bn_http_crlf(const __u8 *b, __u32 n, __u32 left)
{
	return n + 2 <= left && b[n] == '\r' && b[n + 1] == '\n';
}

/* What is left of the matches, where one word holds them: most sets. 0: the parser says why. */
static __always_inline __u64 bn_http_fast_and(const struct bn_http_page *page, const struct bn_http_state *s,
					      const struct bn_http_auto *a, __u32 q)
{
	return page->nwords == 1 ? s->alive[0] & bn_http_word(page, bn_http_cell(page, a->ends + q)) : 0;
}

/* --- Fields ----------------------------------------------------------------------------------- */

static __always_inline __u32 bn_http_fast_host(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
					       __u32 left)
{
	__u32 n = 0, q = s->host_q;
	__u64 alive;

	if (s->flags & BN_HTTP_F_SPACE)
		return 0;
	if (s->host_at == BN_HTTP_HOST_PORT) {
		for (; n < 5 && n < left && s->count < 5 && bn_http_digit(b[n]); n++)
			s->count++;
		n = bn_http_some(n, left) & 7;
	} else if (s->host_at <= BN_HTTP_HOST_NAME) {
		n = bn_http_fast_walk(page, &page->host, &q, b, left, BN_HTTP_IN_HOST, BN_HTTP_IN_UPPER);
		if (!n && s->host_at == BN_HTTP_HOST_START)
			return 0;
		s->host_q = q;
		s->host_at = BN_HTTP_HOST_NAME;
		if (n < left && b[n] == ':') {
			s->host_at = BN_HTTP_HOST_PORT;
			return n + 1;
		}
	} else {
		return 0;
	}
	if (!bn_http_crlf(b, n, left))
		return n;
	alive = bn_http_fast_and(page, s, &page->host, q);
	if (!alive)
		return n;
	s->alive[0] = alive;
	s->at = BN_HTTP_AT_LINE;
	return n + 2;
}

static __always_inline __u32 bn_http_fast_value(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
						__u32 left)
{
	__u32 n;

	if (s->name == BN_HTTP_NAME_HOST)
		return bn_http_fast_host(page, s, b, left);
	if (s->name)
		return 0;
	n = bn_http_fast_text(b, left);
	n = bn_http_some(n, left) & (BN_HTTP_FAST_MAX - 1);
	if (bn_http_crlf(b, n, left)) {
		s->at = BN_HTTP_AT_LINE;
		n += 2;
	}
	return n;
}

static __always_inline __u32 bn_http_fast_name(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
					       __u32 left)
{
	__u32 q = s->q, n, name;

	n = bn_http_fast_walk(page, &page->header_name, &q, b, left, BN_HTTP_IN_NAME, BN_HTTP_IN_UPPER);
	s->q = q;
	if (n >= left || b[n] != ':')
		return n;
	name = bn_http_cell(page, page->header_name.ends + q) & 0xffff;
	if (name && (name != BN_HTTP_NAME_HOST || (s->flags & (BN_HTTP_F_HOST | BN_HTTP_F_TRAILER))))
		return n;
	s->name = name;
	s->at = BN_HTTP_AT_OWS;
	s->flags &= ~BN_HTTP_F_SPACE;
	s->word = 0;
	s->count = 0;
	if (name) {
		s->flags |= BN_HTTP_F_HOST;
		s->host_at = BN_HTTP_HOST_START;
		s->host_q = page->host.start;
	}
	if (left < n + 3 || b[n + 1] != ' ' || b[n + 2] <= ' ' || b[n + 2] == 0x7f)
		return n + 1;
	s->at = BN_HTTP_AT_VALUE;
	return n + 2;
}

/* --- The end ---------------------------------------------------------------------------------- */

/* What the headers that rules look at leave of the matches. 0: none, or it is not told here. */
static __always_inline __u64 bn_http_fast_headers(const struct bn_http_page *page, const struct bn_http_state *s)
{
	const __u32 cells = BN_HTTP_PAGE / 2 - 1, words = BN_HTTP_PAGE / 8 - 1;
	__u32 far = 0, seen = s->headers_seen;
	__u64 alive = s->alive[0];

#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < BN_HTTP_SLOTS; i++) {
		__u32 at, set;

		if (i >= page->nheaders)
			break;
		at = page->header[i].ends + s->header[i] + BN_HTTP_CELLS_AT / 2;
		set = page->no_header[i];
		if (seen >> i & 1) {
			set = page->cell[at & cells];
			far |= at & ~cells;
		}
		set += page->words / 8;
		far |= set & ~words;
		alive &= page->word[set & words];
	}
	return far ? 0 : alive;
}

/* The head is over: 2, and w->ended; 0: the parser's. */
static __always_inline __u32 bn_http_fast_end(const struct bn_http_page *page, struct bn_http_work *w)
{
	const __u32 rare = BN_HTTP_F_TRAILER | BN_HTTP_F_UPGRADE | BN_HTTP_F_CONNECT | BN_HTTP_F_UNMATCHED;
	struct bn_http_state *s = &w->st;
	__u64 alive;

	if ((s->flags & rare) || !(s->flags & BN_HTTP_F_HOST) || page->nwords != 1)
		return 0;
	alive = bn_http_fast_headers(page, s);
	if (!alive)
		return 0;
	s->match = bn_http_lowest(alive);
	s->head += 2;
	s->requests++;
	bn_http_passed(s);
	w->ended = 1;
	return 2;
}

static __always_inline __u32 bn_http_fast_crlf(const struct bn_http_page *page, struct bn_http_work *w, const __u8 *b,
					       __u32 left)
{
	__u32 n = bn_http_crlf(b, 0, left) ? bn_http_fast_end(page, w) : 0;

	if (n)
		return n;
	w->st.at = BN_HTTP_AT_END_LF;
	return 1;
}

/* --- Request line ----------------------------------------------------------------------------- */

/* " HTTP/1.1" has been told from other versions, its line has ended. */
static __always_inline __u32 bn_http_fast_version(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
						  __u32 left)
{
	const __u64 want = BN_HTTP_WORD('H', 'T', 'T', 'P', '/', '1', '.', '1');

	if (s->count || left < 10 || bpf_be64_to_cpu(*(const bn_u64a *)b) != want || b[8] != '\r' || b[9] != '\n' ||
	    page->nqueries || (s->flags & BN_HTTP_F_ODD_QUERY))
		return 0;
	s->at = BN_HTTP_AT_LINE;
	return 10;
}

static __always_inline __u32 bn_http_fast_path(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
					       __u32 left)
{
	__u32 n = 0, q = s->q, segment = s->segment, set;
	__u64 alive;

	if (s->percent || q == BN_HTTP_DEAD)
		return 0;
	set = segment == BN_HTTP_SEG_TEXT ? BN_HTTP_IN_TEXT : BN_HTTP_IN_PATH;
#pragma clang loop unroll(disable)
	for (__u32 k = 0; k < BN_HTTP_FAST_STEP; k++) {
		__u32 next;

		BN_OPAQUE(left);
		BN_OPAQUE(set);
		if (k >= left || !(bn_http_in[b[k]] & set))
			break;
		next = bn_http_near(page, &page->path, q, b[k]);
		if (next >= BN_HTTP_DEAD) /* no rule can be reached: the parser says so */
			break;
		q = next;
		set = b[k] == '/' ? BN_HTTP_IN_PATH : BN_HTTP_IN_TEXT;
		n = k + 1;
	}
	n = bn_http_some(n, left) & (2 * BN_HTTP_FAST_STEP - 1);
	/* By the byte, not by `set`: of that the verifier would have to know each value all the way. */
	if (n)
		segment = b[(n - 1) & (BN_HTTP_FAST_STEP - 1)] == '/' ? BN_HTTP_SEG_EMPTY : BN_HTTP_SEG_TEXT;
	BN_OPAQUE(segment);
	s->q = q;
	s->segment = segment;
	if (n >= left || (b[n] != ' ' && b[n] != '?') || (segment != BN_HTTP_SEG_TEXT && segment != BN_HTTP_SEG_EMPTY))
		return n;
	alive = bn_http_fast_and(page, s, &page->path, q);
	if (!alive)
		return n;
	s->alive[0] = alive;
	if (b[n] == ' ') {
		bn_http_version_start(s);
	} else {
		s->q = page->query_name.start;
		s->name = 0;
		s->at = BN_HTTP_AT_PARAM;
	}
	return n + 1;
}

/* No rule looks at the query: up to its end, an escape or ';'. */
static __always_inline __u32 bn_http_fast_unread(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
						 __u32 left)
{
	__u32 n = 0, at = s->at;

#pragma clang loop unroll(disable)
	for (__u32 k = 0; k < BN_HTTP_FAST_STEP; k++) {
		__u32 in = bn_http_in[b[k]];

		BN_OPAQUE(left);
		if (k >= left || !(in & (BN_HTTP_IN_QUERY | BN_HTTP_IN_PAIR)))
			break;
		if (in & BN_HTTP_IN_PAIR)
			at = b[k] == '&' ? BN_HTTP_AT_PARAM : BN_HTTP_AT_ARG;
		n = k + 1;
	}
	n = bn_http_some(n, left) & (2 * BN_HTTP_FAST_STEP - 1);
	s->at = at;
	s->name = 0;
	s->q = page->query_name.start;
	if (n >= left || b[n] != ' ')
		return n;
	bn_http_version_start(s);
	return n + 1;
}

/* A rule looks at parameters; these bytes only lead on. */
static __always_inline __u32 bn_http_fast_query(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
						__u32 left)
{
	if (s->percent)
		return 0;
	if (!page->nqueries)
		return bn_http_fast_unread(page, s, b, left);
	if (!(bn_http_in[*b] & BN_HTTP_IN_QUERY))
		return 0;
	if (s->at == BN_HTTP_AT_PARAM)
		s->q = bn_http_next(page, &page->query_name, s->q, *b);
	else if (s->name)
		return 0;
	return 1;
}

static __always_inline __u32 bn_http_fast_method(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
						 __u32 left)
{
	__u32 n = 0, q = s->q, room = s->count < 8 ? 8 - s->count : 0;
	__u64 word = s->word, alive;

	room = room < left ? room : left;
#pragma clang loop unroll(disable)
	for (__u32 k = 0; k < 8; k++) {
		__u32 next;

		BN_OPAQUE(room);
		if (k >= room || !(bn_http_in[b[k]] & BN_HTTP_IN_METHOD))
			break;
		next = bn_http_near(page, &page->method, q, b[k]);
		if (next > BN_HTTP_NEAR)
			break;
		q = next;
		word = word << 8 | b[k];
		n = k + 1;
	}
	n = bn_http_some(n, left) & 15;
	s->word = word;
	s->count += n;
	s->q = q;
	if (n + 2 > left || b[n] != ' ' || b[n + 1] != '/' || word == BN_HTTP_WORD_PRI || word == BN_HTTP_WORD_CONNECT)
		return n;
	alive = bn_http_fast_and(page, s, &page->method, q);
	if (!alive)
		return n;
	s->alive[0] = alive;
	if (word == BN_HTTP_WORD_HEAD)
		s->flags |= BN_HTTP_F_HEAD;
	if (word == BN_HTTP_WORD_OPTIONS)
		s->flags |= BN_HTTP_F_OPTIONS;
	bn_http_path_start(page, s);
	return n + 2;
}

/* --- All of it -------------------------------------------------------------------------------- */

/* The bytes from the buffer's i-th on. */
static __always_inline const __u8 *bn_http_fast_from(const struct bn_http_work *w, __u32 i)
{
	return w->bytes + (i & (BN_HTTP_PIECE - 1));
}

static __always_inline __u32 bn_http_fast_one(const struct bn_http_page *page, struct bn_http_work *w, __u32 i, __u32 left)
{
	const __u8 *b = bn_http_fast_from(w, i);
	struct bn_http_state *s = &w->st;
	__u32 at = s->at, n = 0;

	if (at == BN_HTTP_AT_LINE) {
		if (*b == '\r')
			return bn_http_fast_crlf(page, w, b, left);
		if (!(bn_http_in[*b] & BN_HTTP_IN_METHOD) || s->fields >= BN_HTTP_FIELDS_MAX)
			return 0;
		s->fields++;
		s->q = page->header_name.start;
		s->at = at = BN_HTTP_AT_NAME;
	}
	if (at == BN_HTTP_AT_NAME) {
		n = bn_http_fast_name(page, s, b, left);
		at = s->at;
		if (at != BN_HTTP_AT_VALUE)
			return n;
	}
	if (at == BN_HTTP_AT_VALUE) {
		n = bn_http_some(n, left);
		return n + bn_http_fast_value(page, s, bn_http_fast_from(w, i + n), left - n);
	}
	if (at == BN_HTTP_AT_PATH)
		return bn_http_fast_path(page, s, b, left);
	if (at == BN_HTTP_AT_VERSION)
		return bn_http_fast_version(page, s, b, left);
	if (at == BN_HTTP_AT_START) {
		if (!(bn_http_in[*b] & BN_HTTP_IN_METHOD))
			return 0;
		bn_http_fresh(page, s);
		at = BN_HTTP_AT_METHOD;
	}
	if (at == BN_HTTP_AT_METHOD)
		return bn_http_fast_method(page, s, b, left);
	if (at == BN_HTTP_AT_PARAM || at == BN_HTTP_AT_ARG)
		return bn_http_fast_query(page, s, b, left);
	if (at != BN_HTTP_AT_LINE_LF || *b != '\n')
		return 0;
	s->at = BN_HTTP_AT_LINE;
	return 1;
}

/* At most BN_HTTP_FAST_RUN steps of bn_http_fast. */
__noinline int bn_http_fast_some(const struct bn_http_page *page, struct bn_http_work *w, __u32 i)
{
	__u32 n, have;
	struct bn_http_state *s;

	if (!page || !w || !cfg_http_fast)
		return i;
	s = &w->st;
	for (__u32 k = 0; k < BN_HTTP_FAST_RUN; k++) {
		have = *(volatile __u32 *)&w->have;
		i = bn_http_some(i, have);
		if (i >= have || s->head > BN_HTTP_HEAD_MAX - BN_HTTP_FAST_MAX)
			break;
		n = bn_http_fast_one(page, w, i, have - i);
		n = bn_http_some(n, *(volatile __u32 *)&w->have);
		i += n;
		if (!n || w->ended)
			break;
		s->head += n;
	}
	return i;
}

/* Bytes in the buffer from i on: where the parser's turn comes, or (w->ended) behind the end of an allowed head. A
 * function of its own: verified alone.
 */
__noinline int bn_http_fast(const struct bn_http_page *page, struct bn_http_work *w, __u32 i)
{
	if (!page || !w)
		return i;
	for (__u32 k = 0; k < BN_HTTP_FAST_RUNS; k++) {
		__u32 to = bn_http_fast_some(page, w, i);

		if (to == i || w->ended)
			return to;
		i = to;
	}
	return i;
}

#endif
