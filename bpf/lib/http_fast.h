/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_FAST_H
#define BN_BPF_HTTP_FAST_H

/* Most bytes of most heads, without the parser's call for each: several at a time where nothing is decided by
 * them. It comes to the same as the parser (bpf/lib/http_parse.h), or takes nothing and leaves it to that;
 * tests/bpf/test_http and test_http_wire compare what the two come to.
 */

#include "bpf/lib/http_keep.h"

#define BN_HTTP_FAST_MAX 128 /* bytes at a time, at most */

#define BN_HTTP_FAST_RUN 16

#define BN_ONES 0x0101010101010101ull

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

static __always_inline __u32 bn_http_fast_value(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
						__u32 left)
{
	__u32 n;

	if (s->name == BN_HTTP_NAME_HOST) {
		if ((s->flags & BN_HTTP_F_SPACE) || s->host_at != BN_HTTP_HOST_NAME ||
		    !(bn_http_alpha(*b) || bn_http_digit(*b) || *b == '.' || *b == '-'))
			return 0;
		s->host_q = bn_http_next(page, &page->host, s->host_q, bn_http_lower(*b));
		return 1;
	}
	if (s->name)
		return 0;
	n = bn_http_fast_text(b, left);
	BN_OPAQUE(n);
	n &= BN_HTTP_FAST_MAX - 1;
	if (n + 2 <= left && b[n] == '\r' && b[n + 1] == '\n') {
		s->at = BN_HTTP_AT_LINE;
		n += 2;
	}
	return n;
}

static __always_inline bool bn_http_fast_tchar(__u8 b)
{
	return bn_http_alpha(b) || bn_http_digit(b) || b == '-';
}

static __always_inline __u32 bn_http_fast_name(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
					       __u32 left)
{
	__u32 q = s->q, n = 0;

	if (bn_http_fast_tchar(*b)) {
		q = bn_http_next(page, &page->header_name, q, bn_http_lower(*b));
		n = 1;
		if (left > 1 && bn_http_fast_tchar(b[1])) {
			q = bn_http_next(page, &page->header_name, q, bn_http_lower(b[1]));
			n = 2;
		}
		s->q = q;
		return n;
	}
	if (*b != ':' || bn_http_cell(page, page->header_name.ends + q))
		return 0;
	s->name = 0;
	s->at = BN_HTTP_AT_OWS;
	s->flags &= ~BN_HTTP_F_SPACE;
	s->word = 0;
	s->count = 0;
	if (left < 3 || b[1] != ' ' || b[2] <= ' ' || b[2] == 0x7f)
		return 1;
	s->at = BN_HTTP_AT_VALUE;
	return 3;
}

static __always_inline __u32 bn_http_fast_path(const struct bn_http_page *page, struct bn_http_state *s, __u8 b)
{
	__u32 q, text = s->segment == BN_HTTP_SEG_TEXT;

	if (s->percent || s->q == BN_HTTP_DEAD)
		return 0;
	if (!(bn_http_alpha(b) || bn_http_digit(b) || b == '-' || b == '_' || (text && (b == '/' || b == '.'))))
		return 0;
	q = bn_http_next(page, &page->path, s->q, b);
	if (q == BN_HTTP_DEAD)
		return 0;
	s->q = q;
	s->segment = b == '/' ? BN_HTTP_SEG_EMPTY : BN_HTTP_SEG_TEXT;
	return 1;
}

static __always_inline __u32 bn_http_fast_query(const struct bn_http_page *page, struct bn_http_state *s, __u8 b)
{
	if (s->percent || !(bn_http_alpha(b) || bn_http_digit(b) || b == '-' || b == '.' || b == '_'))
		return 0;
	if (s->at == BN_HTTP_AT_PARAM)
		s->q = bn_http_next(page, &page->query_name, s->q, b);
	else if (s->name)
		return 0;
	return 1;
}

/* " HTTP/1.1" has been told from other versions, its line has ended. */
static __always_inline __u32 bn_http_fast_version(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
						  __u32 left)
{
	const __u64 want = BN_HTTP_WORD('H', 'T', 'T', 'P', '/', '1', '.', '1');

	if (s->count || left < 10 || bpf_be64_to_cpu(*(const bn_u64a *)b) != want || b[8] != '\r' || b[9] != '\n' ||
	    !bn_http_query_end(page, s))
		return 0;
	s->at = BN_HTTP_AT_LINE;
	return 10;
}

static __always_inline __u32 bn_http_fast_line(const struct bn_http_page *page, struct bn_http_state *s, __u8 b)
{
	if (b == '\r') {
		s->at = BN_HTTP_AT_END_LF;
		return 1;
	}
	if (!bn_http_alpha(b) || s->fields >= BN_HTTP_FIELDS_MAX)
		return 0;
	s->fields++;
	s->q = bn_http_next(page, &page->header_name, page->header_name.start, bn_http_lower(b));
	s->at = BN_HTTP_AT_NAME;
	return 1;
}

static __always_inline __u32 bn_http_fast_method(const struct bn_http_page *page, struct bn_http_state *s, __u8 b)
{
	if (!bn_http_alpha(b) || s->count >= 8)
		return 0;
	s->word = s->word << 8 | b;
	s->count++;
	s->q = bn_http_next(page, &page->method, s->q, b);
	return 1;
}

static __always_inline __u32 bn_http_fast_one(const struct bn_http_page *page, struct bn_http_state *s, const __u8 *b,
					      __u32 left)
{
	__u32 at = s->at;

	if (at == BN_HTTP_AT_VALUE)
		return bn_http_fast_value(page, s, b, left);
	if (at == BN_HTTP_AT_NAME)
		return bn_http_fast_name(page, s, b, left);
	if (at == BN_HTTP_AT_PATH)
		return bn_http_fast_path(page, s, *b);
	if (at == BN_HTTP_AT_PARAM || at == BN_HTTP_AT_ARG)
		return bn_http_fast_query(page, s, *b);
	if (at == BN_HTTP_AT_LINE)
		return bn_http_fast_line(page, s, *b);
	if (at == BN_HTTP_AT_METHOD)
		return bn_http_fast_method(page, s, *b);
	if (at == BN_HTTP_AT_VERSION)
		return bn_http_fast_version(page, s, b, left);
	if (at != BN_HTTP_AT_LINE_LF || *b != '\n')
		return 0;
	s->at = BN_HTTP_AT_LINE;
	return 1;
}

/* Bytes in the buffer from i on: where the parser's turn comes. A function of its own: verified alone. */
__noinline int bn_http_fast(const struct bn_http_page *page, struct bn_http_work *w, __u32 i)
{
	__u32 n, have;
	struct bn_http_state *s;

	if (!page || !w)
		return i;
	s = &w->st;
	have = w->have;
	for (__u32 k = 0; k < BN_HTTP_FAST_RUN; k++) {
		BN_OPAQUE(i);
		BN_OPAQUE(have);
		if (i >= have || s->head > BN_HTTP_HEAD_MAX - BN_HTTP_FAST_MAX)
			break;
		n = bn_http_fast_one(page, s, w->bytes + (i & (BN_HTTP_PIECE - 1)), have - i);
		if (!n)
			break;
		BN_OPAQUE(n);
		s->head += n;
		i += n;
	}
	return i;
}

#endif
