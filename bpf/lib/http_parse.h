/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef BN_HTTP_PARSE_H
#define BN_HTTP_PARSE_H

/* The request direction of HTTP/1: one byte after the other, in sequence order, in any segmentation, to a
 * verdict before the last byte of each head. What two parsers could read differently is denied, each with
 * its reason. No helpers and no memory but the state: the same code runs in the kernel and in tests.
 *
 * The includer says how to read a rule set, before including this:
 *	bn_http_t						a type that has the members of struct bn_http_tab
 *	__u32 bn_http_cell(const bn_http_t *t, __u32 i);	cell i, 0 outside
 *	__u64 bn_http_word(const bn_http_t *t, __u32 i);	word i of the bitmaps, 0 outside
 *	BN_HTTP_FN						how larger functions are declared: BN_INLINE, or global
 *								ones that the verifier looks at once each
 *
 * After each byte: negative: denied, -enum bn_http_reason, also for every byte that follows; 1: a head has
 * ended and s->match allows it; 2: a head has ended that no rule allows (s->lax); 3: the value of an Upgrade has
 * ended that offers HTTP/2, which no rule allows: the request is one of HTTP/1 like any other; 0: go on. While s->left is not 0 that many bytes are body and may be skipped
 * at once with bn_http_skip. Rules may change where bn_http_idle is true. Behind an allowed Upgrade or
 * CONNECT the caller says with bn_http_answered what the server made of it.
 */

#include "bpf/lib/http_target.h"

/* --- fields ---------------------------------------------------------------------------------- */

BN_INLINE int bn_http_line(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	if (b == '\r') {
		s->at = BN_HTTP_AT_END_LF;
		return 0;
	}
	if (b == ' ' || b == '\t')
		return bn_http_deny(s, BN_HTTP_OBS_FOLD);
	if (!bn_http_tchar(b))
		return bn_http_bad(s, b, BN_HTTP_NAME);
	if (++s->fields > BN_HTTP_FIELDS_MAX)
		return bn_http_deny(s, BN_HTTP_TOO_LARGE);
	s->q = bn_http_next(t, &t->header_name, t->header_name.start, bn_http_lower(b));
	s->at = BN_HTTP_AT_NAME;
	return 0;
}

/* A second Content-Length, Host, ...: whoever reads the other one would see another request. */
BN_INLINE int bn_http_framing(struct bn_http_state *s)
{
	if (s->name & BN_HTTP_NAME_LENGTH) {
		if (s->flags & BN_HTTP_F_LENGTH)
			return bn_http_deny(s, BN_HTTP_LENGTH_TWICE);
		if (s->flags & BN_HTTP_F_ENCODING)
			return bn_http_deny(s, BN_HTTP_ENCODING_LENGTH);
		s->flags |= BN_HTTP_F_LENGTH;
		s->left = 0;
	}
	if (s->name & BN_HTTP_NAME_ENCODING) {
		if (s->flags & BN_HTTP_F_10)
			return bn_http_deny(s, BN_HTTP_ENCODING_10);
		if (s->flags & BN_HTTP_F_ENCODING)
			return bn_http_deny(s, BN_HTTP_ENCODING);
		if (s->flags & BN_HTTP_F_LENGTH)
			return bn_http_deny(s, BN_HTTP_ENCODING_LENGTH);
		s->flags |= BN_HTTP_F_ENCODING;
	}
	if (s->name & BN_HTTP_NAME_HOST) {
		if (s->flags & BN_HTTP_F_HOST)
			return bn_http_deny(s, BN_HTTP_HOST);
		s->flags |= BN_HTTP_F_HOST;
	}
	if (s->name & BN_HTTP_NAME_UPGRADE) {
		if (s->flags & BN_HTTP_F_DECLINED)
			return bn_http_deny(s, BN_HTTP_UPGRADE);
		if (s->flags & BN_HTTP_F_UPGRADE)
			s->count = 8; /* of several none is taken for an offer */
		s->flags |= BN_HTTP_F_UPGRADE;
	}
	return 0;
}

/* A header that a rule names and that comes again goes on where its first value ended, behind ", ". */
BN_INLINE void bn_http_slot_start(const bn_http_t *t, struct bn_http_state *s)
{
	__u32 slot = ((s->name & BN_HTTP_NAME_SLOT) - 1u) & (BN_HTTP_SLOTS - 1);
	const struct bn_http_auto *a = &t->header[slot];

	if (s->headers_seen & 1u << slot) {
		s->q = bn_http_next(t, a, s->header[slot], ',');
		s->q = bn_http_next(t, a, s->q, ' ');
	} else {
		s->q = a->start;
		s->headers_seen |= 1u << slot;
	}
	s->header[slot] = s->q;
}

BN_INLINE int bn_http_header(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	int r;

	if (b != ':') {
		if (!bn_http_tchar(b))
			return bn_http_bad(s, b, BN_HTTP_NAME);
		s->q = bn_http_next(t, &t->header_name, s->q, bn_http_lower(b));
		return 0;
	}
	s->name = (__u16)bn_http_cell(t, t->header_name.ends + s->q);
	s->at = BN_HTTP_AT_OWS;
	s->flags &= ~BN_HTTP_F_SPACE;
	s->word = 0;
	s->count = 0;
	if (!s->name)
		return 0;
	if (s->flags & BN_HTTP_F_TRAILER)
		return bn_http_deny(s, BN_HTTP_TRAILER);
	r = bn_http_framing(s);
	if (r < 0)
		return r;
	if (s->name & BN_HTTP_NAME_HOST)
		bn_http_host_start(t, s);
	if (s->name & BN_HTTP_NAME_SLOT)
		bn_http_slot_start(t, s);
	return 0;
}

/* Is there a match left that names Upgrade, and the value that has just ended? */
BN_HTTP_FN int bn_http_may_switch(const bn_http_t *t, struct bn_http_state *s)
{
	__u32 slot, set;
	__u64 any = 0;

	if (!t || !s || !(s->name & BN_HTTP_NAME_SLOT))
		return 0;
	slot = ((s->name & BN_HTTP_NAME_SLOT) - 1u) & (BN_HTTP_SLOTS - 1);
	set = bn_http_cell(t, t->header[slot].ends + s->header[slot]);
	for (__u32 i = 0; i < BN_HTTP_WORDS; i++) {
		if (i >= t->nwords)
			break;
		any |= s->alive[i] & bn_http_word(t, t->upgrade * t->nwords + i) & bn_http_word(t, set * t->nwords + i);
	}
	return any != 0;
}

/* An offer that the client can do without (Java's HttpClient makes it with each request): declined where no rule
 * allows it, the request is judged as if it were not there. A server that takes it all the same waits for a preface
 * that no parser of HTTP/1 takes for a request, this one no more than others: PRI * HTTP/2.0.
 */
BN_INLINE int bn_http_offer_end(const bn_http_t *t, struct bn_http_state *s)
{
	if (s->word != BN_HTTP_WORD_H2C || s->count != 3 || bn_http_may_switch(t, s))
		return 0;
	s->flags &= ~BN_HTTP_F_UPGRADE;
	s->flags |= BN_HTTP_F_DECLINED;
	return 3;
}

BN_INLINE int bn_http_value_end(const bn_http_t *t, struct bn_http_state *s)
{
	s->at = BN_HTTP_AT_LINE_LF;
	if ((s->name & BN_HTTP_NAME_LENGTH) && !s->count)
		return bn_http_deny(s, BN_HTTP_LENGTH);
	if ((s->name & BN_HTTP_NAME_ENCODING) &&
	    (s->word != BN_HTTP_WORD_CHUNKED || s->count != 7))
		return bn_http_deny(s, BN_HTTP_ENCODING);
	if (s->name & BN_HTTP_NAME_UPGRADE)
		return bn_http_offer_end(t, s);
	return s->name & BN_HTTP_NAME_HOST ? bn_http_host_end(t, s) : 0;
}

/* Bytes, no white space, of the fields that say where the request ends or to whom it goes. */
BN_INLINE int bn_http_framing_byte(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	if (s->name & BN_HTTP_NAME_LENGTH) {
		if (!bn_http_digit(b) || s->count >= 18 || (s->flags & BN_HTTP_F_SPACE))
			return bn_http_deny(s, BN_HTTP_LENGTH);
		s->left = s->left * 10 + (b - '0');
		s->count++;
	} else if (s->name & BN_HTTP_NAME_ENCODING) {
		if (s->count >= 7 || (s->flags & BN_HTTP_F_SPACE))
			return bn_http_deny(s, BN_HTTP_ENCODING);
		s->word = s->word << 8 | bn_http_lower(b);
		s->count++;
	} else if (s->name & BN_HTTP_NAME_HOST) {
		if ((s->flags & BN_HTTP_F_SPACE) || !bn_http_host(t, s, b))
			return bn_http_deny(s, BN_HTTP_HOST);
	} else if (s->name & BN_HTTP_NAME_UPGRADE) {
		s->word = s->word << 8 | bn_http_lower(b);
		s->count = (s->flags & BN_HTTP_F_SPACE) || s->count >= 8 ? 8 : s->count + 1;
	}
	return 0;
}

BN_INLINE int bn_http_value(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	__u32 slot = ((s->name & BN_HTTP_NAME_SLOT) - 1u) & (BN_HTTP_SLOTS - 1);
	int space = b == ' ' || b == '\t';

	if (b == '\r')
		return bn_http_value_end(t, s);
	if ((b < ' ' && b != '\t') || b == 0x7f)
		return bn_http_bad(s, b, BN_HTTP_VALUE);
	if (s->at == BN_HTTP_AT_OWS && space)
		return 0;
	s->at = BN_HTTP_AT_VALUE;
	if (!s->name)
		return 0;
	if (s->name & BN_HTTP_NAME_SLOT) {
		s->q = bn_http_next(t, &t->header[slot], s->q, b);
		if (!space) /* blanks at the end are not part of the value */
			s->header[slot] = s->q;
	}
	if (space) {
		s->flags |= BN_HTTP_F_SPACE;
		return 0;
	}
	return bn_http_framing_byte(t, s, b);
}

/* --- end of the head, and what follows --------------------------------------------------------- */

BN_INLINE void bn_http_request_end(struct bn_http_state *s)
{
	s->at = s->flags & (BN_HTTP_F_UPGRADE | BN_HTTP_F_CONNECT) ? BN_HTTP_AT_ANSWER : BN_HTTP_AT_START;
	s->flags &= BN_HTTP_F_HEAD | BN_HTTP_F_CONNECT; /* what the answer will depend on */
	s->head = 0;
}

/* The lowest bit that is set; one is. */
BN_INLINE __u32 bn_http_lowest(__u64 w)
{
	__u32 bit = 0;

	for (__u32 step = 32; step; step >>= 1) {
		if (!(w & ((1ull << step) - 1))) {
			w >>= step;
			bit += step;
		}
	}
	return bit;
}

/* The first match that is left. */
BN_HTTP_FN int bn_http_first(struct bn_http_state *s)
{
	if (!s)
		return 0;
	for (__u32 i = 0; i < BN_HTTP_WORDS; i++) {
		if (!s->alive[i])
			continue;
		s->match = (__u16)(i * 64 + bn_http_lowest(s->alive[i]));
		return 1;
	}
	return 0;
}

/* The head has ended. */
BN_INLINE void bn_http_passed(struct bn_http_state *s)
{
	if (s->flags & BN_HTTP_F_ENCODING) {
		s->at = BN_HTTP_AT_SIZE;
		s->word = 0;
		s->count = 0;
	} else if ((s->flags & BN_HTTP_F_LENGTH) && s->left) {
		s->at = BN_HTTP_AT_BODY;
	} else {
		bn_http_request_end(s);
	}
}

BN_HTTP_FN int bn_http_head_end(const bn_http_t *t, struct bn_http_state *s)
{
	int any = 1, r = 1;

	if (!t || !s)
		return -BN_HTTP_TABLE;
	if (s->flags & BN_HTTP_F_TRAILER) {
		bn_http_request_end(s);
		return 0;
	}
	if (!(s->flags & BN_HTTP_F_HOST)) {
		if (!(s->flags & BN_HTTP_F_10))
			return bn_http_deny(s, BN_HTTP_HOST);
		if (!(s->flags & BN_HTTP_F_AUTHORITY))
			any = bn_http_and(t, s, t->no_host);
	}
	for (__u32 i = 0; i < BN_HTTP_SLOTS; i++) {
		if (i >= t->nheaders)
			break;
		if (s->headers_seen & 1u << i)
			any = bn_http_field(t, s, &t->header[i], s->header[i]);
		else
			any = bn_http_and(t, s, t->no_header[i]);
	}
	if (s->flags & BN_HTTP_F_UNMATCHED)
		any = 0;
	if (any && (s->flags & BN_HTTP_F_UPGRADE) && !bn_http_and(t, s, t->upgrade))
		return bn_http_deny(s, BN_HTTP_UPGRADE);
	/* What stands behind a CONNECT is for the tunnel, whatever its fields say; or a body, for some servers. */
	if ((s->flags & BN_HTTP_F_CONNECT) && ((s->flags & BN_HTTP_F_ENCODING) || s->left))
		return bn_http_deny(s, BN_HTTP_EARLY_DATA);
	if (any && bn_http_first(s)) {
		s->requests++;
	} else {
		/* What may become another protocol is never gone on with. */
		if (s->flags & (BN_HTTP_F_UPGRADE | BN_HTTP_F_CONNECT))
			return bn_http_deny(s, BN_HTTP_NO_MATCH);
		if (bn_http_unmatched(s))
			return -BN_HTTP_NO_MATCH;
		r = 2;
	}
	bn_http_passed(s);
	return r;
}

BN_INLINE int bn_http_chunk_size(struct bn_http_state *s, __u8 b)
{
	__u8 hex = bn_http_hex(b);

	if (hex < 16) {
		if (s->count >= 15)
			return bn_http_deny(s, BN_HTTP_CHUNK);
		s->word = s->word << 4 | hex;
		s->count++;
		return 0;
	}
	if (!s->count || (b != '\r' && b != ';'))
		return bn_http_bad(s, b, BN_HTTP_CHUNK);
	s->at = b == '\r' ? BN_HTTP_AT_SIZE_LF : BN_HTTP_AT_EXT;
	s->head = 0;
	return 0;
}

BN_INLINE int bn_http_chunk_ext(struct bn_http_state *s, __u8 b)
{
	if (b == '\r')
		s->at = BN_HTTP_AT_SIZE_LF;
	else if ((b < ' ' && b != '\t') || b >= 0x7f || s->head > 4096)
		return bn_http_bad(s, b, BN_HTTP_CHUNK);
	return 0;
}

BN_INLINE int bn_http_chunk_start(struct bn_http_state *s)
{
	s->left = s->word;
	s->word = 0;
	s->count = 0;
	s->head = 0;
	s->at = BN_HTTP_AT_CHUNK;
	if (!s->left) {
		s->flags |= BN_HTTP_F_TRAILER;
		s->fields = 0;
		s->at = BN_HTTP_AT_LINE;
	}
	return 0;
}

BN_INLINE int bn_http_expect(struct bn_http_state *s, __u8 b, __u8 want, enum bn_http_at next,
			     enum bn_http_reason reason)
{
	if (b != want)
		return bn_http_bad(s, b, reason);
	s->at = next;
	return 0;
}

/* n bytes of body, no more than s->left. */
BN_INLINE void bn_http_skip(struct bn_http_state *s, __u64 n)
{
	s->left -= n < s->left ? n : s->left;
	if (s->left)
		return;
	if (s->at == BN_HTTP_AT_BODY)
		bn_http_request_end(s);
	else if (s->at == BN_HTTP_AT_CHUNK)
		s->at = BN_HTTP_AT_CHUNK_CR;
}

BN_INLINE int bn_http_body(struct bn_http_state *s, __u8 b)
{
	switch (s->at) {
	case BN_HTTP_AT_BODY:
	case BN_HTTP_AT_CHUNK:
		bn_http_skip(s, 1);
		return 0;
	case BN_HTTP_AT_SIZE:
		return bn_http_chunk_size(s, b);
	case BN_HTTP_AT_EXT:
		return bn_http_chunk_ext(s, b);
	case BN_HTTP_AT_SIZE_LF:
		return b == '\n' ? bn_http_chunk_start(s) : bn_http_deny(s, BN_HTTP_BARE_CR);
	case BN_HTTP_AT_CHUNK_CR:
		return bn_http_expect(s, b, '\r', BN_HTTP_AT_CHUNK_LF, BN_HTTP_CHUNK);
	case BN_HTTP_AT_CHUNK_LF:
		return b == '\n' ? (s->at = BN_HTTP_AT_SIZE, 0) : bn_http_deny(s, BN_HTTP_BARE_CR);
	case BN_HTTP_AT_ANSWER:
		return bn_http_deny(s, BN_HTTP_EARLY_DATA);
	case BN_HTTP_AT_OPAQUE:
		return 0;
	default:
		return bn_http_deny(s, BN_HTTP_TABLE);
	}
}

BN_INLINE int bn_http_byte(const bn_http_t *t, struct bn_http_state *s, __u8 b)
{
	if (s->at == BN_HTTP_AT_DENIED)
		return -(int)s->reason;
	if (s->at >= BN_HTTP_AT_METHOD && s->at != BN_HTTP_AT_BODY && s->at != BN_HTTP_AT_CHUNK &&
	    s->at != BN_HTTP_AT_OPAQUE && ++s->head > BN_HTTP_HEAD_MAX)
		return bn_http_deny(s, BN_HTTP_TOO_LARGE);
	switch (s->at) {
	case BN_HTTP_AT_START:
		return bn_http_begin(t, s, b);
	case BN_HTTP_AT_START_LF:
		s->flags |= BN_HTTP_F_CRLF;
		return b == '\n' ? (s->at = BN_HTTP_AT_START, 0) : bn_http_deny(s, BN_HTTP_BARE_CR);
	case BN_HTTP_AT_METHOD:
		return bn_http_method(t, s, b);
	case BN_HTTP_AT_TARGET:
		return bn_http_target(t, s, b);
	case BN_HTTP_AT_SCHEME:
		return bn_http_scheme(t, s, b);
	case BN_HTTP_AT_AUTHORITY:
		return bn_http_authority(t, s, b);
	case BN_HTTP_AT_STAR:
		s->segment = BN_HTTP_SEG_TEXT;
		s->percent = 0;
		return b == ' ' ? bn_http_path_end(t, s, b) : bn_http_target_bad(s, b);
	case BN_HTTP_AT_PATH:
		return bn_http_path(t, s, b);
	case BN_HTTP_AT_PARAM:
	case BN_HTTP_AT_ARG:
		return bn_http_query(t, s, b);
	case BN_HTTP_AT_VERSION:
		return bn_http_version(t, s, b);
	case BN_HTTP_AT_VERSION_CR:
		return bn_http_expect(s, b, '\r', BN_HTTP_AT_LINE_LF, BN_HTTP_VERSION);
	case BN_HTTP_AT_LINE_LF:
		return b == '\n' ? (s->at = BN_HTTP_AT_LINE, 0) : bn_http_deny(s, BN_HTTP_BARE_CR);
	case BN_HTTP_AT_LINE:
		return bn_http_line(t, s, b);
	case BN_HTTP_AT_NAME:
		return bn_http_header(t, s, b);
	case BN_HTTP_AT_OWS:
	case BN_HTTP_AT_VALUE:
		return bn_http_value(t, s, b);
	case BN_HTTP_AT_END_LF:
		return b == '\n' ? bn_http_head_end(t, s) : bn_http_deny(s, BN_HTTP_BARE_CR);
	default:
		return bn_http_body(s, b);
	}
}

/* Of what has passed so far, is a part a head that has not ended? */
BN_INLINE int bn_http_in_head(const struct bn_http_state *s)
{
	return s->at >= BN_HTTP_AT_METHOD && s->at <= BN_HTTP_AT_END_LF && !(s->flags & BN_HTTP_F_TRAILER);
}

/* The client says no more. There are servers that take the end of the connection for that of the head. */
BN_INLINE int bn_http_end(struct bn_http_state *s)
{
	return bn_http_in_head(s) ? bn_http_deny(s, BN_HTTP_CUT) : 0;
}

/* Between two requests. */
BN_INLINE int bn_http_idle(const struct bn_http_state *s)
{
	return s->at == BN_HTTP_AT_START;
}

/* The server answered an Upgrade or CONNECT: it switched (101, 2xx of a CONNECT), or it did not. */
BN_INLINE void bn_http_answered(struct bn_http_state *s, int switched)
{
	if (s->at == BN_HTTP_AT_ANSWER)
		s->at = switched ? BN_HTTP_AT_OPAQUE : BN_HTTP_AT_START;
}

#endif
