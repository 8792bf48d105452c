/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_FEED_H
#define BN_BPF_HTTP_FEED_H

/* Feeds the parser (bpf/lib/http_parse.h): bytes of the packet from the next control byte on, then of kept
 * blocks that came out of order and are in turn now. Bodies are jumped over.
 *
 * The parser's state is in the work area, not on the stack: there bpf_loop does not converge on 6.1.
 */

#include "bpf/lib/event.h"
#include "bpf/lib/http_fast.h"

#define BN_HTTP_RUN 64 /* steps in one call: more look-ups with fewer, more instructions to verify with more */
#define BN_HTTP_STEPS (BN_HTTP_BLOCKS_PACKET * BN_HTTP_BLOCK)
#define BN_HTTP_JUMP_MAX (1u << 30)

#define BN_HTTP_ALLOWED_PER_S 200
#define BN_HTTP_ALLOWED_BURST 100

struct bn_http_loop {
	bn_ctx *ctx;
	struct bn_pkt *p;
	struct bn_http_conn *c;
};

/* Known bytes of the block that holds pos, in a row: into the buffer. */
static __always_inline void bn_http_fill_block(struct bn_http_work *w, struct bn_http_conn *c)
{
	struct bn_http_block *b = bn_http_block_get(w, c, w->pos / BN_HTTP_BLOCK);
	__u32 off = w->pos % BN_HTTP_BLOCK, n = 0;

	if (!b)
		return;
	for (__u32 i = 0; i < BN_HTTP_BLOCK; i++) {
		__u32 at = off + i, j = i;

		BN_OPAQUE(off);
		if (at >= BN_HTTP_BLOCK)
			break;
		BN_OPAQUE(at);
		BN_OPAQUE(j);
		at &= BN_HTTP_BLOCK - 1;
		if (!(b->known[at / 64] >> (at % 64) & 1))
			break;
		w->bytes[j & (BN_HTTP_PIECE - 1)] = b->bytes[at];
		n++;
	}
	w->have = n;
}

/* The same where the packet has no more. */
__noinline int bn_http_fill_kept(struct bn_http_conn *c)
{
	struct bn_http_work *w = bn_http_work_get();

	if (w && c && c->nblocks && bn_before(w->pos, w->kept))
		bn_http_fill_block(w, c);
	return 0;
}

/* More bytes from pos on; w->have 0: there are none. */
static __always_inline int bn_http_fill(bn_ctx *ctx, struct bn_http_work *w, struct bn_http_conn *c)
{
	__u32 n;

	w->from = w->pos;
	w->have = 0;
	if (!bn_before(w->pos, w->end))
		return bn_http_fill_kept(c);
	n = w->end - w->pos - 1;
	if (n >= BN_HTTP_PIECE)
		n = BN_HTTP_PIECE - 1;
	BN_OPAQUE(n);
	n &= BN_HTTP_PIECE - 1; /* 6.1 does not learn from n != 0 */
	if (bpf_skb_load_bytes(ctx, w->toff + (w->pos - w->seq), w->bytes, n + 1)) {
		w->fail = BN_DROP_INTERNAL;
		return 0;
	}
	w->have = n + 1;
	return 0;
}

/* Bytes in the buffer through the parser, until something is decided, a body or a request begins. */
static __always_inline int bn_http_run(const struct bn_http_page *page, struct bn_http_work *w)
{
	__u32 i = w->pos - w->from, have = w->have;
	struct bn_http_state *s = &w->st;
	int v = 0;

	w->ended = 0;
	for (__u32 k = 0; k < BN_HTTP_RUN; k++) {
		BN_OPAQUE(have);
		BN_OPAQUE(i);
		if (i >= have)
			break;
		i = bn_http_fast(page, w, i);
		v = w->ended;
		if (v || i >= w->have)
			break;
		v = bn_http_one(page, s, w->bytes[i & (BN_HTTP_PIECE - 1)]);
		i++;
		if (v || (s->left && (s->at == BN_HTTP_AT_BODY || s->at == BN_HTTP_AT_CHUNK)) || bn_http_idle(s))
			break;
	}
	w->pos = w->from + i;
	return v;
}

/* The control bytes since `run` are over. */
static __always_inline int bn_http_run_end(bn_ctx *ctx, struct bn_http_work *w, struct bn_http_conn *c)
{
	__u32 to = bn_before(w->end, w->pos) ? w->end : w->pos;

	if (bn_before(w->run, to) && bn_http_keep(ctx, c, w->run, to))
		w->fail = w->over ? BN_DROP_HTTP_SHARE : BN_DROP_HTTP_KEEP;
	w->run = w->pos;
	return w->fail;
}

/* Over a body, or a part of it. */
static __always_inline void bn_http_jump(struct bn_http_work *w)
{
	__u64 n = w->st.left < BN_HTTP_JUMP_MAX ? w->st.left : BN_HTTP_JUMP_MAX;

	bn_http_skip(&w->st, n);
	w->pos += n;
	w->run = w->pos;
}

static __always_inline void bn_http_count(__u32 index)
{
	__u64 *n = index ? bpf_map_lookup_elem(&http_stats, &index) : NULL;

	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline struct bn_http_page *bn_http_rules(struct bn_http_work *w)
{
	struct bn_http_page *page = bn_http_page(w->cur_set, 0);

	if (!page || page->magic != BN_HTTP_SET_MAGIC)
		return NULL;
	if (!w->gen)
		w->gen = page->gen;
	return w->gen == page->gen ? page : NULL;
}

/* What is denied for no byte that the parser saw. */
static __always_inline void bn_http_count_cut(struct bn_http_work *w)
{
	struct bn_http_page *page = bn_http_rules(w);
	__u32 reason = w->audit ? BN_HTTP_AUDITED + BN_HTTP_CUT : BN_HTTP_CUT;
	__u64 *n = bpf_map_lookup_elem(&http_reasons, &reason);

	if (n)
		*n += 1;
	if (page)
		bn_http_count(w->audit ? page->audited : page->stats);
}

/* A judged request, for `bpfnet flows`. */
__noinline int bn_http_report(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_conn *c, __u32 reason)
{
	struct bn_http_work *w = bn_http_work_get();
	__u32 bucket = reason ? BN_TOKENS_EVENT : BN_TOKENS_HTTP, n;
	struct bn_http_event *ev;
	struct bn_tokens *t;

	if (w && reason == BN_HTTP_CUT)
		bn_http_count_cut(w);
	if (!p || !c || !w || !cfg_events || (!reason && !(p->state & BN_STATE_F_HTTP_FLOWS)))
		return 0;
	if (!(reason ? bn_tokens_take(bucket, p->now_ns, BN_EVENTS_PER_S, BN_EVENTS_BURST, &t)
		     : bn_tokens_take(bucket, p->now_ns, BN_HTTP_ALLOWED_PER_S, BN_HTTP_ALLOWED_BURST, &t)))
		return 0;
	ev = bpf_ringbuf_reserve(&events, sizeof(*ev), 0);
	if (!ev) {
		t->suppressed++;
		return 0;
	}
	__builtin_memset(&ev->ev, 0, sizeof(ev->ev));
	ev->ev.time_ns = p->now_ns;
	ev->ev.src = w->key.client;
	ev->ev.dst = w->key.server;
	ev->ev.sport = w->key.cport;
	ev->ev.dport = w->key.sport;
	ev->ev.proto = BN_PROTO_TCP;
	ev->ev.verdict = !reason ? BN_EV_ALLOWED : w->audit ? BN_EV_AUDIT : BN_EV_DENIED;
	ev->ev.reason = reason ? BN_DROP_HTTP_DENIED : BN_DROP_NONE;
	ev->ev.direction = w->side;
	ev->ev.ifindex = p->ifindex;
	ev->ev.slot = bn_addr_slot(w->side == BN_DIR_EGRESS ? &w->key.client : &w->key.server);
	ev->ev.len = p->len;
	ev->ev.hook = p->hook;
	ev->ev.suppressed = t->suppressed;
	t->suppressed = 0;
	ev->set = w->cur_set;
	ev->gen = w->gen;
	ev->match = w->st.match;
	ev->http = reason;
	ev->pad = 0;
	ev->len = 0;
	__builtin_memset(ev->head, 0, sizeof(ev->head));
	if (!bn_before(w->head, w->seq) && bn_before(w->head, w->end)) {
		n = w->end - w->head - 1;
		if (n >= BN_HTTP_EVENT_HEAD)
			n = BN_HTTP_EVENT_HEAD - 1;
		BN_OPAQUE(n);
		n &= BN_HTTP_EVENT_HEAD - 1;
		if (!bpf_skb_load_bytes(ctx, w->toff + (w->head - w->seq), ev->head, n + 1))
			ev->len = n + 1;
	} else if (w->head == w->recent_from && bn_before(w->recent_from, w->recent_to)) {
		__builtin_memcpy(ev->head, c->recent, BN_HTTP_EVENT_HEAD);
		ev->len = w->recent_to - w->recent_from;
	}
	bpf_ringbuf_submit(ev, 0);
	return 0;
}

/* A request begins at pos: under the rules of now, and is everything before it answered? A client that does
 * not pipeline has the whole answer before it asks again: it has acknowledged all that the server said, and
 * the server has said something, and did not stop in the middle of it. Where answers are followed it is known.
 */
static __always_inline void bn_http_begins(struct bn_http_work *w, struct bn_http_conn *c)
{
	w->head = w->pos;
	w->cur_set = w->set;
	w->st.lax = !!w->audit;
	w->gen = 0; /* what the set says */
	w->body = 0;
	if (w->outstanding == 1 && !c->more && w->ack == c->srv_end && c->srv_end != w->srv_base &&
	    (c->res_at == BN_HTTP_RES_OFF || c->res_at >= BN_HTTP_RES_CLOSE)) {
		w->outstanding = 0;
		c->flags |= BN_HTTP_CONN_F_GUESSED;
	}
	if (w->pos == c->next)
		w->before = w->outstanding;
}

/* A head has ended (v 1: allowed; 2: not, under audit), or something is denied. Under audit denials have
 * counters of their own.
 */
static __always_inline void bn_http_verdict(struct bn_http_loop *l, struct bn_http_work *w, __u32 stats, __u32 audited,
					    int v)
{
	__u32 reason = v < 0 ? -v : v == 2 ? BN_HTTP_NO_MATCH : 0;
	__u32 count = reason && w->audit ? BN_HTTP_AUDITED + reason : reason;
	__u64 *n = bpf_map_lookup_elem(&http_reasons, &count);

	if (n)
		*n += 1;
	if (reason)
		bn_http_count(w->audit ? audited : stats);
	else
		bn_http_count(stats ? stats + 1 + w->st.match : 0);
	/* 2 without audit: it began under it, and ends after it. */
	if (v < 0 || (reason && !w->audit)) {
		w->reason = reason;
		return;
	}
	w->body = 1;
	if (!w->outstanding) {
		l->c->res_base = l->c->srv_end;
		l->c->res_heads = 0;
		l->c->res_at = 0;
	}
	/* Cleared too: a packet that did not count in the end may have set it. */
	if (w->outstanding < 64) {
		l->c->res_heads &= ~(1ull << (w->outstanding & 63));
		if (w->st.flags & BN_HTTP_F_HEAD)
			l->c->res_heads |= 1ull << (w->outstanding & 63);
	} else if ((w->st.flags & BN_HTTP_F_HEAD) && l->c->res_at != BN_HTTP_RES_OFF) {
		l->c->res_at = BN_HTTP_RES_LOST; /* the length that its answer tells would be jumped over */
	}
	l->c->flags &= ~BN_HTTP_CONN_F_CONNECT;
	if (w->st.flags & BN_HTTP_F_CONNECT)
		l->c->flags |= BN_HTTP_CONN_F_CONNECT;
	if (w->outstanding < 0xffff)
		w->outstanding++;
	w->srv_base = l->c->srv_end;
	if (reason || (l->p->state & BN_STATE_F_HTTP_FLOWS))
		bn_http_report(l->ctx, l->p, l->c, reason);
}

static long bn_http_step(__u32 i, struct bn_http_loop *l)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_page *page;
	__u32 stats, audited;
	int v;

	if (!w || !l->c || !l->p)
		return 1;
	if (w->st.left && (w->st.at == BN_HTTP_AT_BODY || w->st.at == BN_HTTP_AT_CHUNK)) {
		if (bn_http_run_end(l->ctx, w, l->c))
			return 1;
		bn_http_jump(w);
		/* Further than anybody can have sent: later packets jump on. */
		if (w->st.left || bn_before(w->end + BN_HTTP_BLOCK * BN_HTTP_BLOCKS_CONN, w->pos))
			return 1;
	}
	if (w->st.at == BN_HTTP_AT_OPAQUE) {
		if (bn_http_run_end(l->ctx, w, l->c))
			return 1;
		w->pos = w->run = bn_later(w->pos, w->end);
		return 1;
	}
	if (w->pos - w->from >= w->have) {
		bn_http_fill(l->ctx, w, l->c);
		if (!w->have)
			return 1;
	}
	if (w->st.at == BN_HTTP_AT_ANSWER)
		return 1; /* what follows depends on the answer: it comes again */
	if (bn_http_idle(&w->st))
		bn_http_begins(w, l->c);
	page = bn_http_rules(w);
	stats = page ? page->stats : 0;
	audited = page ? page->audited : 0;
	w->switches = page ? page->switches : 0;
	v = page ? bn_http_run(page, w) : -BN_HTTP_TABLE;
	if (v == 3) {
		w->offer = w->pos - 1;
		w->offers++;
	} else if (v) {
		bn_http_verdict(l, w, stats, audited, v);
	}
	/* Most segments end with their request. */
	return w->reason || (bn_http_idle(&w->st) && w->pos == w->end && !l->c->nblocks);
}

/* The packet's bytes from the next control byte on through the parser. What came of it is in the work area:
 * st, pos, reason (denied; head says where that request began) or fail (nothing counts).
 */
__noinline int bn_http_feed(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_conn *c)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_loop l = {.ctx = ctx, .p = p, .c = c};

	if (!w || !p || !c)
		return 0;
	__builtin_memcpy(&w->st, &c->st, sizeof(w->st));
	w->cur_set = c->set;
	w->gen = c->gen;
	w->pos = w->run = w->from = c->next;
	w->have = 0;
	w->head = c->head;
	w->recent_from = c->recent_from;
	w->recent_to = c->recent_to;
	w->kept = c->kept;
	w->outstanding = c->outstanding;
	w->srv_base = c->srv_base;
	w->body = c->st.at >= BN_HTTP_AT_BODY || (c->st.flags & BN_HTTP_F_TRAILER);
	w->before = c->outstanding - (w->body && c->outstanding);
	w->reason = w->fail = w->switches = w->offers = 0;
	if (bpf_loop(BN_HTTP_STEPS, bn_http_step, &l, 0) == BN_HTTP_STEPS && !w->reason) {
		/* More small pieces came out of order than can be looked at in one go. */
		w->reason = BN_HTTP_TOO_LARGE;
		w->head = w->pos;
	}
	/* The server has it already, in turn with this packet, and would take it for a request if it does not switch. */
	if (!w->reason && w->st.at == BN_HTTP_AT_ANSWER && bn_before(w->pos, w->kept))
		w->reason = BN_HTTP_EARLY_DATA;
	if (!w->reason && (w->tcp.flags & BN_TCP_FIN) && w->pos == w->end)
		w->reason = -bn_http_end(&w->st);
	/* Of a denied request nothing is kept; what stands before it passes. */
	if (w->reason)
		w->pos = bn_later(w->run, w->head);
	if (!w->fail)
		bn_http_run_end(ctx, w, c);
	return 0;
}

static __always_inline void bn_http_commit(const struct bn_http_work *w, struct bn_http_conn *c)
{
	__builtin_memcpy(&c->st, &w->st, sizeof(c->st));
	c->set = w->cur_set;
	c->gen = w->gen;
	c->next = w->pos;
	c->head = w->head;
	c->recent_from = w->recent_from;
	c->recent_to = w->recent_to;
	c->kept = w->kept;
	c->outstanding = w->outstanding;
	c->srv_base = w->srv_base;
}

#endif
