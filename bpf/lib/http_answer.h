/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_ANSWER_H
#define BN_BPF_HTTP_ANSWER_H

/* Follows the server's answers, only while that matters: requests are pipelined and one of them was denied or may
 * be (whose turn is it?), or the client asked, or may ask, to switch protocols (did the server? what looks like a
 * 101 may be the body of an answer that the client has asked for before). It begins where nothing of
 * the first unanswered request's answer has passed yet, and loses its way rather than guess: then the caller
 * goes by the clock.
 *
 * The server is not an adversary here: whoever owns it needs no HTTP to talk to its client.
 */

#include "bpf/lib/http_conn.h"

enum {
	BN_HTTP_RES_F_LENGTH = 1 << 0,
	BN_HTTP_RES_F_CHUNKED = 1 << 1,
};

/* FNV-1a of the names in lower case */
#define BN_HTTP_RES_LENGTH_NAME 0x4df9451du   /* content-length */
#define BN_HTTP_RES_ENCODING_NAME 0xddb4744cu /* transfer-encoding */

static __always_inline void bn_http_res_next(struct bn_http_conn *c)
{
	c->res_at = BN_HTTP_RES_VERSION;
	c->res_word = 0;
	c->res_left = 0;
	c->res_flags = 0;
	c->res_status = 0;
}

/* Whether the answers can still be followed from their first byte on; then they are. */
static __always_inline void bn_http_res_begin(struct bn_http_conn *c)
{
	if (c->res_at != BN_HTTP_RES_OFF)
		return;
	bn_http_res_next(c);
	c->res_next = c->res_base;
	if (c->srv_end != c->res_base || c->outstanding > 64)
		c->res_at = BN_HTTP_RES_LOST;
}

/* An answer is complete. */
static __always_inline void bn_http_res_done(struct bn_http_conn *c)
{
	__u16 status = c->res_status;

	bn_http_res_next(c);
	if (status / 100 == 1 && status != 101)
		return;
	c->res_heads >>= 1;
	if (c->outstanding)
		c->outstanding--;
	if (c->outstanding)
		return;
	c->res_at = BN_HTTP_RES_OFF;
	if (c->st.at == BN_HTTP_AT_ANSWER)
		bn_http_answered(&c->st, !(c->flags & BN_HTTP_CONN_F_GUESSED) &&
						 (status == 101 ||
						  ((c->flags & BN_HTTP_CONN_F_CONNECT) && status / 100 == 2)));
}

static __always_inline void bn_http_res_head_end(struct bn_http_conn *c)
{
	bool last = c->outstanding == 1 && c->st.at == BN_HTTP_AT_ANSWER;

	if (c->res_status / 100 == 1 || c->res_status == 204 || c->res_status == 304 || (c->res_heads & 1) ||
	    (last && (c->flags & BN_HTTP_CONN_F_CONNECT) && c->res_status / 100 == 2)) {
		bn_http_res_done(c);
	} else if (c->res_flags & BN_HTTP_RES_F_CHUNKED) {
		c->res_left = 0;
		c->res_at = BN_HTTP_RES_SIZE;
	} else if (c->res_flags & BN_HTTP_RES_F_LENGTH) {
		c->res_at = BN_HTTP_RES_BODY;
		if (!c->res_left)
			bn_http_res_done(c);
	} else {
		c->res_at = BN_HTTP_RES_CLOSE;
	}
}

static __always_inline void bn_http_res_value(struct bn_http_conn *c, __u8 b)
{
	if (b == '\n') {
		if (c->res_flags & 0x80 && c->res_word == BN_HTTP_WORD_CHUNKED)
			c->res_flags |= BN_HTTP_RES_F_CHUNKED;
		c->res_flags &= 3;
		c->res_at = BN_HTTP_RES_LINE;
		return;
	}
	if (b == '\r')
		return;
	if ((c->res_flags & 0x40) && bn_http_digit(b))
		c->res_left = c->res_left * 10 + (b - '0');
	if (c->res_flags & 0x80)
		c->res_word = (c->res_word << 8 | bn_http_lower(b)) & 0xffffffffffffffull;
}

static __always_inline void bn_http_res_name(struct bn_http_conn *c, __u8 b)
{
	if (b == ':') {
		c->res_at = BN_HTTP_RES_VALUE;
		if ((__u32)c->res_word == BN_HTTP_RES_LENGTH_NAME) {
			c->res_flags |= 0x40 | BN_HTTP_RES_F_LENGTH;
			c->res_left = 0;
		}
		if ((__u32)c->res_word == BN_HTTP_RES_ENCODING_NAME)
			c->res_flags |= 0x80;
		c->res_word = 0;
		return;
	}
	if (b == '\n')
		c->res_at = BN_HTTP_RES_LINE;
	c->res_word = (__u32)(((__u32)c->res_word ^ bn_http_lower(b)) * 16777619u);
}

/* One byte of an answer; bodies are jumped over by the caller. */
__noinline int bn_http_res_byte(struct bn_http_conn *c, __u32 byte)
{
	__u8 b = byte, hex;

	if (!c)
		return 0;
	switch (c->res_at) {
	case BN_HTTP_RES_VERSION:
		if (b == ' ')
			c->res_at = BN_HTTP_RES_STATUS;
		else if (b == '\n' || ++c->res_left > 12)
			c->res_at = BN_HTTP_RES_LOST;
		break;
	case BN_HTTP_RES_STATUS:
		if (bn_http_digit(b) && c->res_status < 100)
			c->res_status = c->res_status * 10 + (b - '0');
		else
			c->res_at = b == '\n' ? BN_HTTP_RES_LINE : BN_HTTP_RES_REASON;
		c->res_left = 0;
		break;
	case BN_HTTP_RES_REASON:
		if (b == '\n')
			c->res_at = BN_HTTP_RES_LINE;
		break;
	case BN_HTTP_RES_LINE:
		if (b == '\r') {
			c->res_at = BN_HTTP_RES_END;
		} else if (b == '\n') {
			bn_http_res_head_end(c);
		} else {
			c->res_at = BN_HTTP_RES_NAME;
			c->res_word = 2166136261u;
			bn_http_res_name(c, b);
		}
		break;
	case BN_HTTP_RES_NAME:
		bn_http_res_name(c, b);
		break;
	case BN_HTTP_RES_VALUE:
		bn_http_res_value(c, b);
		break;
	case BN_HTTP_RES_END:
		bn_http_res_head_end(c);
		break;
	case BN_HTTP_RES_SIZE:
		hex = bn_http_hex(b);
		if (hex < 16)
			c->res_left = c->res_left << 4 | hex;
		else
			c->res_at = BN_HTTP_RES_EXT;
		if (b != '\n')
			break;
		/* fallthrough */
	case BN_HTTP_RES_EXT:
		if (b == '\n') {
			c->res_at = c->res_left ? BN_HTTP_RES_CHUNK : BN_HTTP_RES_TRAILER;
			if (c->res_left)
				c->res_left += 2; /* its CRLF */
		}
		break;
	case BN_HTTP_RES_TRAILER:
		c->res_at = b == '\r' ? BN_HTTP_RES_TRAILER_END : BN_HTTP_RES_TRAILER_TEXT;
		if (b == '\n')
			bn_http_res_done(c);
		break;
	case BN_HTTP_RES_TRAILER_TEXT:
		if (b == '\n')
			c->res_at = BN_HTTP_RES_TRAILER;
		break;
	case BN_HTTP_RES_TRAILER_END:
		bn_http_res_done(c);
		break;
	}
	return 0;
}

static __always_inline void bn_http_res_jump(struct bn_http_work *w, struct bn_http_conn *c)
{
	__u64 n = w->end - w->pos;

	if (n > c->res_left)
		n = c->res_left;
	w->pos += n;
	c->res_left -= n;
	if (c->res_left)
		return;
	if (c->res_at == BN_HTTP_RES_BODY)
		bn_http_res_done(c);
	else
		c->res_at = BN_HTTP_RES_SIZE;
}

static long bn_http_res_step(__u32 i, struct bn_http_loop *l)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_conn *c = l->c;

	if (!w || !c || !bn_before(w->pos, w->end))
		return 1;
	if (c->res_at == BN_HTTP_RES_BODY || c->res_at == BN_HTTP_RES_CHUNK) {
		bn_http_res_jump(w, c);
		return 0;
	}
	if (c->res_at == BN_HTTP_RES_OFF || c->res_at >= BN_HTTP_RES_CLOSE)
		return 1;
	if (w->pos - w->from >= w->have) {
		w->kept = w->end; /* no blocks in this direction */
		w->from = w->pos;
		w->have = 0;
		bn_http_fill(l->ctx, w, c);
		if (!w->have)
			return 1;
	}
	for (__u32 k = 0; k < BN_HTTP_RUN; k++) {
		__u32 at = w->pos - w->from, have = w->have;

		BN_OPAQUE(at);
		if (at >= have || c->res_at == BN_HTTP_RES_BODY || c->res_at == BN_HTTP_RES_CHUNK ||
		    c->res_at == BN_HTTP_RES_OFF || c->res_at >= BN_HTTP_RES_CLOSE)
			break;
		bn_http_res_byte(c, w->bytes[at & (BN_HTTP_PIECE - 1)]);
		w->pos++;
	}
	return 0;
}

/* The server's data of this packet. The caller holds the claim. */
__noinline int bn_http_res_feed(bn_ctx *ctx, struct bn_http_conn *c)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_loop l = {.ctx = ctx, .c = c};

	if (!w || !c || c->res_at == BN_HTTP_RES_OFF || c->res_at >= BN_HTTP_RES_CLOSE)
		return 0;
	if (bn_before(c->res_next, w->seq)) {
		c->res_at = BN_HTTP_RES_LOST;
		return 0;
	}
	if (!bn_before(c->res_next, w->end))
		return 0;
	w->pos = w->from = c->res_next;
	w->have = 0;
	bpf_loop(BN_HTTP_STEPS, bn_http_res_step, &l, 0);
	c->res_next = w->end;
	return 0;
}

#endif
