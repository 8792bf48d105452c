/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef BN_HTTP_TARGET_H
#define BN_HTTP_TARGET_H

/* The request line, and what all of the parser uses. Included by bpf/lib/http_parse.h, which says how. */

#include "maps/http.h"

enum bn_http_at {
	BN_HTTP_AT_START,
	BN_HTTP_AT_START_LF,
	BN_HTTP_AT_METHOD,
	BN_HTTP_AT_TARGET,
	BN_HTTP_AT_SCHEME,
	BN_HTTP_AT_AUTHORITY,
	BN_HTTP_AT_STAR,
	BN_HTTP_AT_PATH,
	BN_HTTP_AT_PARAM,
	BN_HTTP_AT_ARG,
	BN_HTTP_AT_VERSION,
	BN_HTTP_AT_VERSION_CR,
	BN_HTTP_AT_LINE_LF,
	BN_HTTP_AT_LINE,
	BN_HTTP_AT_NAME,
	BN_HTTP_AT_OWS,
	BN_HTTP_AT_VALUE,
	BN_HTTP_AT_END_LF,
	BN_HTTP_AT_BODY,
	BN_HTTP_AT_SIZE,
	BN_HTTP_AT_EXT,
	BN_HTTP_AT_SIZE_LF,
	BN_HTTP_AT_CHUNK,
	BN_HTTP_AT_CHUNK_CR,
	BN_HTTP_AT_CHUNK_LF,
	BN_HTTP_AT_ANSWER, /* of an Upgrade or CONNECT */
	BN_HTTP_AT_OPAQUE,
	BN_HTTP_AT_DENIED,
};

enum {
	BN_HTTP_F_10 = 1 << 0,
	BN_HTTP_F_HOST = 1 << 1,
	BN_HTTP_F_LENGTH = 1 << 2,
	BN_HTTP_F_ENCODING = 1 << 3,
	BN_HTTP_F_UPGRADE = 1 << 4,
	BN_HTTP_F_CONNECT = 1 << 5,
	BN_HTTP_F_TRAILER = 1 << 6,
	BN_HTTP_F_ODD_QUERY = 1 << 7, /* its parts depend on who reads it */
	BN_HTTP_F_CRLF = 1 << 8,      /* an empty line stood before the request */
	BN_HTTP_F_HEAD = 1 << 9,
	BN_HTTP_F_OPTIONS = 1 << 10,
	BN_HTTP_F_SPACE = 1 << 11,    /* white space stood behind the short word */
	BN_HTTP_F_AUTHORITY = 1 << 12, /* the target named the host */
	BN_HTTP_F_UNMATCHED = 1 << 13, /* no rule allows it (lax) */
	BN_HTTP_F_DECLINED = 1 << 14,  /* HTTP/2 was offered, and is not allowed */
};

/* Segment of a path so far, and where in a host we are. */
enum { BN_HTTP_SEG_EMPTY, BN_HTTP_SEG_DOT, BN_HTTP_SEG_DOTS, BN_HTTP_SEG_TEXT };
enum { BN_HTTP_HOST_START, BN_HTTP_HOST_NAME, BN_HTTP_HOST_IP6, BN_HTTP_HOST_IP6_END,
       BN_HTTP_HOST_PORT, BN_HTTP_HOST_SPACE };

BN_INLINE int bn_http_alpha(__u8 b)
{
	return (__u8)((b | 0x20) - 'a') < 26;
}

BN_INLINE int bn_http_digit(__u8 b)
{
	return (__u8)(b - '0') < 10;
}

BN_INLINE __u8 bn_http_lower(__u8 b)
{
	return (__u8)(b - 'A') < 26 ? b | 0x20 : b;
}

/* The value of a hex digit, or 16. */
BN_INLINE __u8 bn_http_hex(__u8 b)
{
	return bn_http_digit(b) ? b - '0' : (__u8)((b | 0x20) - 'a') < 6 ? (b | 0x20) - 'a' + 10 : 16;
}

/* Bits of the bytes 0x20 to 0x3f and 0x40 to 0x7f that are tchar (RFC 9110, 5.6.2). */
BN_INLINE int bn_http_tchar(__u8 b)
{
	if (bn_http_alpha(b) || bn_http_digit(b))
		return 1;
	return b == '!' || (b >= '#' && b <= '\'') || b == '*' || b == '+' || b == '-' || b == '.' ||
	       (b >= '^' && b <= '`') || b == '|' || b == '~';
}

BN_INLINE int bn_http_deny(struct bn_http_state *s, enum bn_http_reason reason)
{
	s->at = BN_HTTP_AT_DENIED;
	s->reason = (__u8)reason;
	s->left = 0;
	return -(int)reason;
}

/* A byte that can stand nowhere in this place: lines that end wrongly have reasons of their own. */
BN_INLINE int bn_http_bad(struct bn_http_state *s, __u8 b, enum bn_http_reason reason)
{
	if (b == '\n')
		reason = BN_HTTP_BARE_LF;
	else if (!b)
		reason = BN_HTTP_NUL;
	return bn_http_deny(s, reason);
}

/* No rule can match any more. What is left of the head is well-formed or not all the same: audit goes on. */
BN_INLINE int bn_http_unmatched(struct bn_http_state *s)
{
	if (!s->lax)
		return bn_http_deny(s, BN_HTTP_NO_MATCH);
	s->flags |= BN_HTTP_F_UNMATCHED;
	return 0;
}

BN_INLINE __u16 bn_http_next(const bn_http_t *t, const struct bn_http_auto *a, __u32 q, __u8 b)
{
	__u32 cls = bn_http_cell(t, a->cls + b);

	return (__u16)bn_http_cell(t, a->trans + q * a->classes + cls);
}

/* Only the matches of the set are left; no: none is. */
BN_HTTP_FN int bn_http_and(const bn_http_t *t, struct bn_http_state *s, __u32 set)
{
	__u64 any = 0;

	if (!t || !s)
		return 0;
	for (__u32 i = 0; i < BN_HTTP_WORDS; i++) {
		if (i >= t->nwords)
			break;
		s->alive[i] &= bn_http_word(t, set * t->nwords + i);
		any |= s->alive[i];
	}
	return any != 0;
}

BN_INLINE int bn_http_field(const bn_http_t *t, struct bn_http_state *s,
			    const struct bn_http_auto *a, __u32 q)
{
	return bn_http_and(t, s, bn_http_cell(t, a->ends + q));
}

/* --- request line ---------------------------------------------------------------------------- */

/* At a request's first byte. */
BN_INLINE void bn_http_fresh(const bn_http_t *t, struct bn_http_state *s)
{
	for (__u32 i = 0; i < BN_HTTP_WORDS; i++)
		s->alive[i] = i < t->nwords ? ~0ull : 0;
	s->flags = 0;
	s->headers_seen = s->queries_seen = 0;
	s->fields = 0;
	s->head = 0;
	s->word = 0;
	s->count = 0;
	s->q = t->method.start;
	s->at = BN_HTTP_AT_METHOD;
}

BN_INLINE int bn_http_begin(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	if (b == '\r' && !(s->flags & BN_HTTP_F_CRLF)) {
		s->at = BN_HTTP_AT_START_LF;
		return 0;
	}
	if (b == 0x16)
		return bn_http_deny(s, BN_HTTP_TLS);
	if (!bn_http_tchar(b))
		return bn_http_bad(s, b, BN_HTTP_METHOD);
	bn_http_fresh(t, s);
	s->head = 1;
	s->word = b;
	s->count = 1;
	s->q = bn_http_next(t, &t->method, s->q, b);
	return 0;
}

#define BN_HTTP_WORD(a, b, c, d, e, f, g, h)                                                       \
	((__u64)(a) << 56 | (__u64)(b) << 48 | (__u64)(c) << 40 | (__u64)(d) << 32 |               \
	 (__u64)(e) << 24 | (__u64)(f) << 16 | (__u64)(g) << 8 | (__u64)(h))
#define BN_HTTP_WORD_CONNECT BN_HTTP_WORD(0, 'C', 'O', 'N', 'N', 'E', 'C', 'T')
#define BN_HTTP_WORD_OPTIONS BN_HTTP_WORD(0, 'O', 'P', 'T', 'I', 'O', 'N', 'S')
#define BN_HTTP_WORD_HEAD BN_HTTP_WORD(0, 0, 0, 0, 'H', 'E', 'A', 'D')
#define BN_HTTP_WORD_PRI BN_HTTP_WORD(0, 0, 0, 0, 0, 'P', 'R', 'I')
#define BN_HTTP_WORD_H2C BN_HTTP_WORD(0, 0, 0, 0, 0, 'h', '2', 'c')
#define BN_HTTP_WORD_CHUNKED BN_HTTP_WORD(0, 'c', 'h', 'u', 'n', 'k', 'e', 'd')
#define BN_HTTP_WORD_SCHEME BN_HTTP_WORD(0, 'h', 't', 't', 'p', ':', '/', '/')
#define BN_HTTP_WORD_VERSION BN_HTTP_WORD(0, 'H', 'T', 'T', 'P', '/', '1', '.')
#define BN_HTTP_WORD_VERSION2 BN_HTTP_WORD(0, 'H', 'T', 'T', 'P', '/', '2', '.')

BN_INLINE int bn_http_method(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	if (b != ' ') {
		if (!bn_http_tchar(b) || s->count >= BN_HTTP_METHOD_MAX)
			return bn_http_bad(s, b, b == '\r' ? BN_HTTP_HTTP09 : BN_HTTP_METHOD);
		s->word = s->count < 8 ? s->word << 8 | b : 0;
		s->count++;
		s->q = bn_http_next(t, &t->method, s->q, b);
		return 0;
	}
	if (s->word == BN_HTTP_WORD_PRI)
		return bn_http_deny(s, BN_HTTP_HTTP2);
	if (s->word == BN_HTTP_WORD_CONNECT) {
		s->flags |= BN_HTTP_F_CONNECT;
		if (!bn_http_and(t, s, t->connect))
			return bn_http_deny(s, BN_HTTP_CONNECT);
	}
	if (s->word == BN_HTTP_WORD_HEAD)
		s->flags |= BN_HTTP_F_HEAD;
	if (s->word == BN_HTTP_WORD_OPTIONS)
		s->flags |= BN_HTTP_F_OPTIONS;
	s->at = BN_HTTP_AT_TARGET;
	return bn_http_field(t, s, &t->method, s->q) ? 0 : bn_http_unmatched(s);
}

BN_INLINE void bn_http_host_start(const bn_http_t *t, struct bn_http_state *s)
{
	s->host_at = BN_HTTP_HOST_START;
	s->host_q = t->host.start;
	s->count = 0;
}

/* host, host:port, [address], [address]:port. 0: such a byte cannot stand here. */
BN_INLINE int bn_http_host(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	int text = bn_http_alpha(b) || bn_http_digit(b) || b == '.';

	switch (s->host_at) {
	case BN_HTTP_HOST_START:
		s->host_at = b == '[' ? BN_HTTP_HOST_IP6 : BN_HTTP_HOST_NAME;
		if (b != '[' && !text && b != '-' && b != '_' && b != '~')
			return 0;
		break;
	case BN_HTTP_HOST_NAME:
		if (b == ':') {
			s->host_at = BN_HTTP_HOST_PORT;
			return 1;
		}
		if (!text && b != '-' && b != '_' && b != '~')
			return 0;
		break;
	case BN_HTTP_HOST_IP6:
		if (b == ']')
			s->host_at = BN_HTTP_HOST_IP6_END;
		else if (bn_http_hex(b) > 15 && b != ':' && b != '.') /* no scope, no other kind of literal */
			return 0;
		break;
	case BN_HTTP_HOST_IP6_END:
		if (b != ':')
			return 0;
		s->host_at = BN_HTTP_HOST_PORT;
		return 1;
	case BN_HTTP_HOST_PORT:
		return bn_http_digit(b) && s->count++ < 5;
	default:
		return 0;
	}
	s->host_q = bn_http_next(t, &t->host, s->host_q, bn_http_lower(b));
	return 1;
}

BN_INLINE int bn_http_host_end(const bn_http_t *t, struct bn_http_state *s)
{
	if (s->host_at == BN_HTTP_HOST_IP6)
		return bn_http_deny(s, BN_HTTP_HOST);
	return bn_http_field(t, s, &t->host, s->host_q) ? 0 : bn_http_unmatched(s);
}

/* A byte of the normalised path: denied as soon as no rule can match any more. */
BN_INLINE int bn_http_path_next(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	if (s->q != BN_HTTP_DEAD)
		s->q = bn_http_next(t, &t->path, s->q, b);
	return s->q == BN_HTTP_DEAD ? bn_http_unmatched(s) : 0;
}

BN_INLINE void bn_http_path_start(const bn_http_t *t, struct bn_http_state *s)
{
	s->q = bn_http_next(t, &t->path, t->path.start, '/');
	s->segment = BN_HTTP_SEG_EMPTY;
	s->percent = 0;
	s->at = BN_HTTP_AT_PATH;
}

BN_INLINE void bn_http_version_start(struct bn_http_state *s)
{
	s->at = BN_HTTP_AT_VERSION;
	s->word = 0;
	s->count = 0;
}

BN_INLINE int bn_http_target(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	if (s->flags & BN_HTTP_F_CONNECT) {
		bn_http_host_start(t, s);
		s->at = BN_HTTP_AT_AUTHORITY;
		return bn_http_host(t, s, b) ? 0 : bn_http_bad(s, b, BN_HTTP_TARGET);
	}
	if (b == '/') {
		bn_http_path_start(t, s);
		return 0;
	}
	if (b == '*' && (s->flags & BN_HTTP_F_OPTIONS)) {
		s->q = bn_http_next(t, &t->path, t->path.start, b);
		s->at = BN_HTTP_AT_STAR;
		return 0;
	}
	if ((b | 0x20) != 'h')
		return bn_http_bad(s, b, BN_HTTP_TARGET);
	s->word = 'h';
	s->count = 1;
	s->at = BN_HTTP_AT_SCHEME;
	return 0;
}

BN_INLINE int bn_http_scheme(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	__u64 want;

	s->word = s->word << 8 | bn_http_lower(b);
	s->count++;
	want = BN_HTTP_WORD_SCHEME >> ((7 - (s->count & 7)) * 8);
	if (s->word != want)
		return bn_http_bad(s, b, BN_HTTP_TARGET);
	if (s->count == 7) {
		bn_http_host_start(t, s);
		s->at = BN_HTTP_AT_AUTHORITY;
	}
	return 0;
}

BN_INLINE int bn_http_path_end(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	if (s->percent)
		return bn_http_deny(s, BN_HTTP_PERCENT);
	if (s->segment == BN_HTTP_SEG_DOT || s->segment == BN_HTTP_SEG_DOTS)
		return bn_http_deny(s, BN_HTTP_PATH);
	if ((s->q == BN_HTTP_DEAD || !bn_http_field(t, s, &t->path, s->q)) && bn_http_unmatched(s))
		return -BN_HTTP_NO_MATCH;
	if (b == ' ') {
		bn_http_version_start(s);
		return 0;
	}
	s->q = t->query_name.start;
	s->name = 0;
	s->percent = 0;
	s->at = BN_HTTP_AT_PARAM;
	return 0;
}

/* The authority of the target is judged beside that of Host: both have to be allowed, so that it does not
 * matter which one the server takes.
 */
BN_INLINE int bn_http_authority(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	int r, connect = s->flags & BN_HTTP_F_CONNECT;

	if (b != ' ' && (connect || (b != '/' && b != '?')))
		return bn_http_host(t, s, b) ? 0 : bn_http_bad(s, b, BN_HTTP_TARGET);
	if (s->host_at == BN_HTTP_HOST_START || (connect && s->host_at != BN_HTTP_HOST_PORT))
		return bn_http_deny(s, BN_HTTP_TARGET);
	r = bn_http_host_end(t, s);
	if (r < 0)
		return r;
	s->flags |= BN_HTTP_F_AUTHORITY;
	if (connect) {
		if (!bn_http_and(t, s, t->no_path) && bn_http_unmatched(s))
			return -BN_HTTP_NO_MATCH;
		bn_http_version_start(s);
		return 0;
	}
	bn_http_path_start(t, s); /* an empty path is "/" */
	return b == '/' ? 0 : bn_http_path_end(t, s, b);
}

BN_INLINE int bn_http_path_byte(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	if (b == '/' || b == ';') { /* what some servers cut off at ';' must not hide a dot segment */
		if (s->segment != BN_HTTP_SEG_TEXT)
			return bn_http_deny(s, BN_HTTP_PATH);
		s->segment = b == '/' ? BN_HTTP_SEG_EMPTY : BN_HTTP_SEG_TEXT;
	} else if (b == '.' && s->segment < BN_HTTP_SEG_DOTS) {
		s->segment++;
	} else {
		s->segment = BN_HTTP_SEG_TEXT;
	}
	return bn_http_path_next(t, s, b);
}

/* The second digit of %xx: unreserved bytes are matched as themselves, others as %XX (RFC 3986, 6.2.2). */
BN_INLINE int bn_http_path_decoded(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	__u8 lo, hi;

	if (!b)
		return bn_http_deny(s, BN_HTTP_PERCENT);
	if (b == '/' || b == '\\')
		return bn_http_deny(s, BN_HTTP_PATH);
	if (bn_http_alpha(b) || bn_http_digit(b) || b == '-' || b == '.' || b == '_' || b == '~')
		return bn_http_path_byte(t, s, b);
	if (b == ';' && s->segment != BN_HTTP_SEG_TEXT)
		return bn_http_deny(s, BN_HTTP_PATH);
	hi = b >> 4;
	lo = b & 15;
	s->segment = BN_HTTP_SEG_TEXT;
	if (bn_http_path_next(t, s, '%') || bn_http_path_next(t, s, hi < 10 ? '0' + hi : 'A' + hi - 10))
		return -BN_HTTP_NO_MATCH;
	return bn_http_path_next(t, s, lo < 10 ? '0' + lo : 'A' + lo - 10);
}

BN_INLINE int bn_http_target_bad(struct bn_http_state *s, __u8 b)
{
	return bn_http_bad(s, b, b == '\r' ? BN_HTTP_HTTP09 : BN_HTTP_TARGET);
}

BN_INLINE int bn_http_target_byte(__u8 b)
{
	return b > ' ' && b < 0x7f && b != '#' && b != '\\';
}

BN_INLINE int bn_http_path(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	__u8 hex;

	if (b == ' ' || b == '?')
		return bn_http_path_end(t, s, b);
	if (!bn_http_target_byte(b))
		return bn_http_target_bad(s, b);
	if (s->percent) {
		hex = bn_http_hex(b);
		if (hex > 15)
			return bn_http_deny(s, BN_HTTP_PERCENT);
		if (s->percent == 1) {
			s->percent = 2;
			s->nibble = hex;
			return 0;
		}
		s->percent = 0;
		return bn_http_path_decoded(t, s, (__u8)(s->nibble << 4 | hex));
	}
	if (b == '%') {
		s->percent = 1;
		return 0;
	}
	return bn_http_path_byte(t, s, b);
}

/* --- query ----------------------------------------------------------------------------------- */

BN_INLINE void bn_http_param_end(const bn_http_t *t, struct bn_http_state *s, __u32 slot)
{
	const struct bn_http_auto *a = &t->query[slot & (BN_HTTP_SLOTS - 1)];

	/* Several of one name: every one has to be right. */
	bn_http_field(t, s, a, s->q);
	s->queries_seen |= 1 << (slot & (BN_HTTP_SLOTS - 1));
}

BN_INLINE void bn_http_param_name(const bn_http_t *t, struct bn_http_state *s)
{
	s->name = (__u16)bn_http_cell(t, t->query_name.ends + s->q) & BN_HTTP_NAME_SLOT;
	if (s->name)
		s->q = t->query[(s->name - 1) & (BN_HTTP_SLOTS - 1)].start;
	s->at = BN_HTTP_AT_ARG;
}

BN_INLINE void bn_http_query_feed(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	if (s->at == BN_HTTP_AT_PARAM)
		s->q = bn_http_next(t, &t->query_name, s->q, b);
	else if (s->name)
		s->q = bn_http_next(t, &t->query[(s->name - 1) & (BN_HTTP_SLOTS - 1)], s->q, b);
}

/* Names and values are matched decoded, '+' as a blank. */
BN_INLINE int bn_http_query(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	__u8 hex;

	if (b != ' ' && !bn_http_target_byte(b))
		return bn_http_target_bad(s, b);
	if (s->percent && (hex = bn_http_hex(b)) < 16) {
		if (s->percent == 1) {
			s->percent = 2;
			s->nibble = hex;
			return 0;
		}
		s->percent = 0;
		hex |= (__u8)(s->nibble << 4);
		if (!hex)
			return bn_http_deny(s, BN_HTTP_PERCENT);
		bn_http_query_feed(t, s, hex);
		return 0;
	}
	if (s->percent || b == ';') {
		s->flags |= BN_HTTP_F_ODD_QUERY;
		s->percent = 0;
	}
	if (b == '&' || b == ' ') {
		if (s->at == BN_HTTP_AT_PARAM)
			bn_http_param_name(t, s);
		if (s->name)
			bn_http_param_end(t, s, s->name - 1u);
		s->at = BN_HTTP_AT_PARAM;
		s->name = 0;
		s->q = t->query_name.start;
		if (b == ' ')
			bn_http_version_start(s);
	} else if (b == '=' && s->at == BN_HTTP_AT_PARAM) {
		bn_http_param_name(t, s);
	} else if (b == '%') {
		s->percent = 1;
	} else {
		bn_http_query_feed(t, s, b == '+' ? ' ' : b);
	}
	return 0;
}

BN_HTTP_FN int bn_http_query_end(const bn_http_t *t, struct bn_http_state *s)
{
	int any = 1;

	if (!t || !s)
		return 0;
	for (__u32 i = 0; i < BN_HTTP_SLOTS; i++) {
		if (i < t->nqueries && !(s->queries_seen & 1u << i))
			any = bn_http_and(t, s, t->no_param[i]);
	}
	if (s->flags & BN_HTTP_F_ODD_QUERY)
		any = bn_http_and(t, s, t->no_query);
	return any;
}

BN_INLINE int bn_http_version(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	if (s->count == 7) {
		if (b != '0' && b != '1')
			return bn_http_bad(s, b, BN_HTTP_VERSION);
		if (b == '0')
			s->flags |= BN_HTTP_F_10;
		s->at = BN_HTTP_AT_VERSION_CR;
		return bn_http_query_end(t, s) ? 0 : bn_http_unmatched(s);
	}
	s->word = s->word << 8 | b;
	s->count++;
	if (s->word == BN_HTTP_WORD_VERSION >> ((7 - (s->count & 7)) * 8))
		return 0;
	if (s->word == BN_HTTP_WORD_VERSION2 >> ((7 - (s->count & 7)) * 8))
		return bn_http_deny(s, BN_HTTP_HTTP2);
	return bn_http_bad(s, b, s->count == 1 && b == '\r' ? BN_HTTP_HTTP09 : BN_HTTP_VERSION);
}

#endif
