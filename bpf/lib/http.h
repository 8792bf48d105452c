/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_H
#define BN_BPF_HTTP_H

/* The HTTP stage: packets of TCP flows that policy admits under HTTP rules (p->http), between what the other
 * stages decided and its execution. docs/ARCHITECTURE.md, "HTTP", says how and why.
 *
 * The followed connection belongs to one CPU at a time: who works on it holds its claim. Sequence numbers of
 * the reply direction are single words that only grow and are written without it.
 */

#include "bpf/lib/http_own.h"
#include "bpf/lib/http_reply.h"

#define BN_TCP_URG (1 << 5)
#define BN_HTTP_QUIET_MS 500
#define BN_HTTP_STRIKES 4 /* about 3 s of an honest client's retransmissions */
#define BN_HTTP_WAIT_S 30 /* for answers that stand before a 403, while the server says nothing */

/* A drop that is reported elsewhere. */
static __always_inline void bn_http_count_drop(const struct bn_pkt *p, __u32 reason)
{
	struct bn_drop_stat *s = bpf_map_lookup_elem(&drops, &reason);

	if (s) {
		s->packets++;
		s->bytes += p->len;
	}
}

/* --- Denied ----------------------------------------------------------------------------------- */

static __always_inline __u32 bn_http_403_len(const struct bn_http_conn *c)
{
	if (c->flags & BN_HTTP_CONN_F_RESET)
		return 0;
	return c->flags & BN_HTTP_CONN_F_HEAD ? BN_HTTP_403_HEAD_LEN : BN_HTTP_403_LEN;
}

/* Both ends are reset: nothing can be said about this connection. `rst`: sequence number for the server. */
__noinline int bn_http_reset(bn_ctx *ctx, struct bn_pkt *p, __u32 rst)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_say back = {.how = BN_SAY_BACK, .flags = BN_TCP_RST | BN_TCP_ACK};
	struct bn_say on = {.flags = BN_TCP_RST | BN_TCP_ACK, .seq = rst};

	if (!w || !p || bn_http_look(ctx, p))
		return -BN_DROP_INTERNAL;
	back.seq = w->ack;
	back.ack = w->end;
	on.ack = w->ack;
	return bn_http_tell_both(ctx, p, &back, &on);
}

/* The 403 for the client, in its turn, and a reset for the server. The packet at hand is the client's. F_RESET: allowed
 * requests that never reached the server stand before the denied one: only the end; they may be asked again.
 */
__noinline int bn_http_answer(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_conn *c)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_say back = {.how = BN_SAY_BACK | BN_SAY_403, .flags = BN_TCP_ACK | BN_TCP_FIN | 8};
	struct bn_say on = {.flags = BN_TCP_RST | BN_TCP_ACK};

	if (!w || !p || !c || bn_http_look(ctx, p))
		return -BN_DROP_INTERNAL;
	if (c->flags & BN_HTTP_CONN_F_RESET)
		back.how = BN_SAY_BACK;
	else if (c->flags & BN_HTTP_CONN_F_HEAD)
		back.how = BN_SAY_BACK | BN_SAY_403_HEAD;
	c->answer = w->ack;
	c->phase = BN_HTTP_ANSWERED;
	c->since_s = p->now_s;
	back.seq = c->answer;
	back.ack = c->top;
	on.seq = bn_later(c->una, c->deny);
	on.ack = w->ack;
	return bn_http_tell_both(ctx, p, &back, &on);
}

/* Is it the denied request's turn? The client has all that the server said, and that was every answer; where
 * they could not be followed: the server has said something and then nothing for a while.
 */
static __always_inline bool bn_http_turn(const struct bn_pkt *p, const struct bn_http_work *w,
					 const struct bn_http_conn *c)
{
	if (w->ack != c->srv_end)
		return false;
	if (!c->outstanding)
		return true;
	return c->res_at == BN_HTTP_RES_LOST && c->srv_end != c->res_base &&
	       (__u32)(p->now_ns >> 20) - c->spoke_ms > BN_HTTP_QUIET_MS;
}

/* The client speaks after its 403. */
__noinline int bn_http_after(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_conn *c)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_say s = {.how = BN_SAY_BACK, .flags = BN_TCP_ACK};
	__u32 over;

	if (!w || !p || !c)
		return -BN_DROP_INTERNAL;
	over = c->answer + bn_http_403_len(c) + 1;
	if (!w->plen && !(w->tcp.flags & BN_TCP_FIN))
		return -BN_DROP_HTTP_CLOSING;
	if (bn_http_look(ctx, p))
		return -BN_DROP_INTERNAL;
	s.ack = c->top;
	s.seq = over;
	if (c->flags & BN_HTTP_CONN_F_RESET) {
		s.flags = BN_TCP_RST;
		s.seq = w->ack;
	} else if (bn_before(w->ack, over)) {
		s.seq = c->answer;
		s.flags = BN_TCP_ACK | BN_TCP_FIN | 8;
		s.how |= c->flags & BN_HTTP_CONN_F_HEAD ? BN_SAY_403_HEAD : BN_SAY_403;
	}
	return bn_http_tell(ctx, p, &s);
}

/* --- The client's packets --------------------------------------------------------------------- */

/* Where the parser stopped is past the first byte that may not go on: c->deny. */
static __always_inline void bn_http_deny_at(struct bn_pkt *p, struct bn_http_work *w, struct bn_http_conn *c,
					    __u32 next)
{
	c->phase = BN_HTTP_WAITING;
	c->since_s = p->now_s;
	c->reason = w->reason;
	c->deny = bn_later(w->head, next);
	c->head = w->head;
	/* Denied in its body: the request itself will not be answered by the server. */
	c->outstanding = w->outstanding - (w->body && w->outstanding);
	c->srv_base = w->srv_base;
	c->recent_from = w->recent_from;
	c->recent_to = w->recent_to;
	c->kept = w->kept;
	c->st.at = BN_HTTP_AT_DENIED;
	c->st.reason = w->reason;
	c->st.requests = w->st.requests;
	if (w->st.flags & BN_HTTP_F_HEAD)
		c->flags |= BN_HTTP_CONN_F_HEAD;
}

/* A retransmission that says something else than what was let pass. That may be what was never received: then
 * this would not come to an end.
 */
static __always_inline int bn_http_changed(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_conn *c)
{
	if (bn_http_damaged(ctx, p))
		return -BN_DROP_HTTP_CHECKSUM;
	if (++c->strikes < BN_HTTP_STRIKES)
		return -BN_DROP_HTTP_CHANGED;
	c->phase = BN_HTTP_ANSWERED;
	c->flags |= BN_HTTP_CONN_F_RESET;
	return bn_http_reset(ctx, p, c->una);
}

/* A packet of a connection with a denied request whose turn may not have come yet. */
__noinline int bn_http_waits(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_conn *c)
{
	struct bn_http_work *w = bn_http_work_get();
	__u32 to;

	if (!w || !p || !c)
		return -BN_DROP_INTERNAL;
	if (!(c->flags & BN_HTTP_CONN_F_SRV_FIN) && bn_http_turn(p, w, c))
		return bn_http_answer(ctx, p, c);
	/* The server has closed: there is no place for an answer of ours. */
	if ((p->now_s - c->since_s > BN_HTTP_WAIT_S &&
	     (__u32)(p->now_ns >> 20) - c->spoke_ms > BN_HTTP_WAIT_S * 1000) ||
	    ((c->flags & BN_HTTP_CONN_F_SRV_FIN) && w->ack == c->srv_end)) {
		c->phase = BN_HTTP_ANSWERED;
		c->flags |= BN_HTTP_CONN_F_RESET;
		return bn_http_reset(ctx, p, bn_later(c->una, c->deny));
	}
	if (!w->plen && !(w->tcp.flags & BN_TCP_FIN))
		return 0; /* acknowledges answers */
	/* What was allowed and got lost behind us. */
	if (w->plen && bn_before(w->seq, c->deny) && bn_before(c->una, c->deny)) {
		if (bn_http_own(ctx))
			return -BN_DROP_INTERNAL;
		to = bn_before(w->end, c->deny) ? w->end : c->deny;
		if (!bn_http_same(ctx, c, bn_later(w->seq, c->una), to))
			return bn_http_changed(ctx, p, c);
		c->strikes = 0;
		return to != w->end || (w->tcp.flags & BN_TCP_FIN) ? bn_http_trim(ctx, p, to - w->seq) : 0;
	}
	return -BN_DROP_HTTP_WAITING;
}

/* Data that comes before the one that is due: it passes, and is kept until the parser gets there. */
static __always_inline int bn_http_early(bn_ctx *ctx, struct bn_http_work *w, struct bn_http_conn *c)
{
	if (w->end - c->next > BN_HTTP_BLOCKS_CONN * BN_HTTP_BLOCK || !bn_http_may_keep(w, c, true) ||
	    bn_http_put(ctx, c, w->seq, w->end))
		return w->over ? -BN_DROP_HTTP_SHARE : -BN_DROP_HTTP_KEEP;
	c->kept = bn_later(c->kept, w->end);
	return 0;
}

static __always_inline __u32 bn_http_fin(const struct bn_http_work *w)
{
	return w->tcp.flags & BN_TCP_FIN ? 1 : 0;
}

static __always_inline int bn_http_judge(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_conn *c)
{
	struct bn_http_work *w = bn_http_work_get();
	__u32 una, next, kept, a;
	int r;

	if (!w || !p || !c)
		return -BN_DROP_INTERNAL;
	una = *(volatile __u32 *)&c->una;
	next = c->next;
	bn_http_far_behind(c, una);
	kept = c->kept; /* behind next: of what came early */
	if (!bn_before(una, w->end + bn_http_fin(w)) || c->st.at == BN_HTTP_AT_OPAQUE)
		return 0; /* nobody reads it again, or nobody has to judge it */
	a = bn_later(w->seq, una);
	if ((bn_before(a, c->kept) || bn_before(next, w->end)) && bn_http_own(ctx))
		return -BN_DROP_INTERNAL;
	/* A FIN before what has passed says something else, too. */
	if ((bn_http_fin(w) && bn_before(w->end, c->kept)) || (bn_before(a, c->kept) && !bn_http_same(ctx, c, a, w->end)))
		return !w->audit ? bn_http_changed(ctx, p, c)
				 : -(bn_http_damaged(ctx, p) ? BN_DROP_HTTP_CHECKSUM : BN_DROP_HTTP_CHANGED);
	c->strikes = 0;
	if (!bn_before(next, w->end) && !(bn_http_fin(w) && next == w->end && bn_http_in_head(&c->st)))
		return 0;
	if (bn_http_damaged(ctx, p))
		return -BN_DROP_HTTP_CHECKSUM;
	/* The answer cannot be followed: whatever the server made of it, what comes now is judged. */
	if (c->res_at >= BN_HTTP_RES_CLOSE)
		bn_http_answered(&c->st, 0);
	if (c->nblocks)
		bn_http_release(c, 0);
	if (bn_before(next, w->seq)) {
		r = w->plen ? bn_http_early(ctx, w, c) : 0;
		/* What the stream ends in is not known yet: the FIN comes again. */
		if (r || !bn_http_fin(w) || w->audit)
			return r;
		return w->plen ? bn_http_trim(ctx, p, w->plen) : -BN_DROP_HTTP_WAITING;
	}
	bn_http_feed(ctx, p, c);
	if (w->fail)
		return -(int)w->fail;
	if (w->offers) {
		c->offer = w->offer;
		c->flags |= BN_HTTP_CONN_F_OFFER;
	}
	if (!w->reason) {
		bn_http_commit(w, c);
		if (c->st.at == BN_HTTP_AT_ANSWER)
			c->spoke_ms = p->now_ns >> 20;
		if (c->outstanding > 1 || c->st.at == BN_HTTP_AT_ANSWER || (w->switches && c->outstanding))
			bn_http_res_begin(c);
		if (c->st.at != BN_HTTP_AT_ANSWER || !bn_before(c->next, w->end))
			return 0;
		return bn_before(a, c->next) && !w->audit ? bn_http_trim(ctx, p, c->next - w->seq)
							   : -BN_DROP_HTTP_WAITING;
	}
	bn_http_report(ctx, p, c, w->reason);
	if (w->audit)
		return -BN_DROP_HTTP_DENIED;
	w->judged = 1;
	bn_http_deny_at(p, w, c, next);
	if (c->outstanding)
		bn_http_res_begin(c);
	if (!bn_before(c->deny, w->end + bn_http_fin(w)) || w->reason == BN_HTTP_TABLE ||
	    (bn_before(c->deny, kept) && bn_http_known(w, c, c->deny))) {
		/* What is denied was let pass out of order: the segment that closes the gap must not, nor the part
		 * of it that ends just before. Answers that are under way have their time all the same.
		 */
		if (w->reason != BN_HTTP_TABLE) {
			c->deny = next;
			if (bn_before(next, w->head)) {
				c->outstanding = w->before;
				c->flags |= BN_HTTP_CONN_F_RESET;
			}
			return bn_http_turn(p, w, c) ? bn_http_answer(ctx, p, c) : -BN_DROP_HTTP_WAITING;
		}
		c->phase = BN_HTTP_ANSWERED;
		c->flags |= BN_HTTP_CONN_F_RESET;
		r = bn_http_reset(ctx, p, bn_later(next, w->seq));
		return r;
	}
	if (bn_http_turn(p, w, c))
		return bn_http_answer(ctx, p, c);
	if (!bn_before(a, c->deny))
		return -BN_DROP_HTTP_WAITING;
	return bn_http_trim(ctx, p, c->deny - w->seq);
}

static __always_inline int bn_http_claimed(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_conn *c)
{
	struct bn_http_work *w = bn_http_work_get();
	__u32 fin;
	int r;

	if (!w || !p || !c)
		return -BN_DROP_INTERNAL;
	fin = !!(w->tcp.flags & BN_TCP_FIN);
	/* What is judged is looked at then; here, what only says that there is more, or no more. */
	if ((fin || bn_before(c->top, w->seq)) && bn_http_damaged(ctx, p))
		return -BN_DROP_HTTP_CHECKSUM;
	c->seen_s = p->now_s;
	c->flags &= ~BN_HTTP_CONN_F_CLOSED; /* it goes on: nobody believed the reset */
	c->top = bn_later(c->top, w->end + fin);
	if (fin)
		c->flags |= BN_HTTP_CONN_F_FIN;
	if (c->phase == BN_HTTP_ANSWERED)
		return bn_http_after(ctx, p, c);
	if (c->phase == BN_HTTP_WAITING)
		r = w->audit ? -BN_DROP_HTTP_WAITING : bn_http_waits(ctx, p, c);
	else
		r = w->plen || fin ? bn_http_judge(ctx, p, c) : 0;
	return !r && (c->flags & BN_HTTP_CONN_F_OFFER) && c->phase != BN_HTTP_ANSWERED && !w->audit
		       ? bn_http_decline(ctx, p, c)
		       : r;
}

/* The client gives up. A reset that the server believes ends the connection; of another one it is only noted, so
 * that its place can be given to others when room is short.
 */
__noinline int bn_http_client_rst(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_conn *c)
{
	struct bn_http_work *w = bn_http_work_get();
	int r;

	if (!w || !p || !c)
		return -BN_DROP_INTERNAL;
	if (bn_http_damaged(ctx, p))
		return -BN_DROP_HTTP_CHECKSUM;
	r = c->phase == BN_HTTP_ANSWERED ? -BN_DROP_HTTP_CLOSING : 0;
	if (bn_http_claim(p, c))
		return r;
	if (r || w->seq == c->una) {
		bn_http_forget(c);
		return r;
	}
	c->flags |= BN_HTTP_CONN_F_CLOSED;
	bn_http_free(c);
	return r;
}

/* Which of its SYN-ACKs did the server believe in? One with SYN cookies keeps nothing: it has answered any number
 * of SYNs with other numbers, and makes a socket of the first acknowledgement that fits one of them. So until
 * it has acknowledged data nothing passes that could open a stream which begins elsewhere than the one that
 * is judged, or that could fill it before its beginning.
 */
static __always_inline int bn_http_opens(const struct bn_pkt *p, const struct bn_http_work *w)
{
	/* A byte before: keep-alive; behind: its FIN. */
	if ((p->first || p->srv_first) && !(p->http[w->side & 1] & BN_CT_HTTP_MADE) && w->seq - p->first + 1 > 2)
		return -BN_DROP_HTTP_MIDSTREAM;
	return 0;
}

static __always_inline bool bn_http_confirms(const struct bn_http_work *w, const struct bn_http_conn *c)
{
	if (*(volatile __u32 *)&c->una != c->first || c->phase == BN_HTTP_ANSWERED)
		return true;
	if (w->plen && bn_before(w->seq, c->first))
		return false;
	return !bn_before(w->ack, c->srv_first) && !bn_before(c->srv_end, w->ack);
}

static __always_inline int bn_http_request(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_http_work *w = bn_http_work_get();
	__u32 headers = p && (p->flags & BN_PKT_F_V6) ? sizeof(struct bn_ip6) : sizeof(struct bn_ip4);
	struct bn_http_conn *c;
	int r;

	if (!w || !p)
		return -BN_DROP_INTERNAL;
	if (p->flags & BN_PKT_F_FRAG)
		return -BN_DROP_HTTP_FRAGMENT;
	if ((__u32)(p->l4 - p->l3) != headers)
		return -BN_DROP_HTTP_OPTIONS;
	/* Without data, too: where it points to, a byte of a later segment is taken out of the stream. */
	if (w->tcp.flags & BN_TCP_URG)
		return -BN_DROP_HTTP_URGENT;
	c = bn_http_conn_get(w);
	if (w->tcp.flags & (BN_TCP_SYN | BN_TCP_RST)) {
		if (w->plen)
			return -BN_DROP_HTTP_SYN_DATA;
		if (w->tcp.flags & BN_TCP_SYN)
			return w->audit ? 0 : bn_http_options(ctx, p, 0);
		return c && bn_http_conn_is(p, c) ? bn_http_client_rst(ctx, p, c) : 0;
	}
	if (!(w->tcp.flags & BN_TCP_ACK))
		return -BN_DROP_HTTP_SYN_DATA;
	if (!c || !bn_http_conn_is(p, c)) {
		/* A FIN may end a head that is not followed any more: it goes on as an acknowledgement, which a server
		 * that is through answers all the same.
		 */
		if (!w->plen && (w->tcp.flags & BN_TCP_FIN) && !w->audit && (p->http[w->side & 1] & BN_CT_HTTP_MADE))
			return bn_http_trim(ctx, p, 0);
		if (!w->plen && (!(w->tcp.flags & BN_TCP_FIN) || w->audit || p->first || p->srv_first))
			return bn_http_opens(p, w);
		/* What it acknowledges may be a bad link's, and an entry on its way may yet be told where the stream begins. */
		if ((!p->first && !p->srv_first) || (p->http[w->side & 1] & BN_CT_HTTP_MADE) ||
		    (w->seq == p->first && w->ack != p->srv_first)) {
			if (bn_http_damaged(ctx, p))
				return -BN_DROP_HTTP_CHECKSUM;
			if (w->audit || bn_flow_on_its_way(p))
				return -BN_DROP_HTTP_MIDSTREAM;
			p->todo &= ~BN_DO_DELIVER;
			r = bn_http_reset(ctx, p, w->seq);
			if (r > 0)
				bn_exit_drop(p, BN_DROP_HTTP_MIDSTREAM);
			return r;
		}
		if (w->seq != p->first)
			return -BN_DROP_HTTP_MIDSTREAM; /* not yet: the first bytes are lost or late */
		r = bn_http_begin_conn(p);
		if (r)
			return r;
		c = bn_http_conn_get(w);
		if (!c)
			return -BN_DROP_HTTP_BUSY;
	}
	if (!bn_http_confirms(w, c))
		return -BN_DROP_HTTP_MIDSTREAM;
	if ((c->flags & BN_HTTP_CONN_F_SRV_FIN) && bn_before(c->srv_acked, w->ack) && !bn_before(c->srv_end, w->ack))
		*(volatile __u32 *)&c->srv_acked = w->ack;
	if (!w->plen && c->phase == BN_HTTP_FOLLOWED && !(w->tcp.flags & BN_TCP_FIN)) {
		if (bn_http_over(c) && !bn_http_claim(p, c))
			bn_http_forget(c);
		return 0;
	}
	r = bn_http_claim(p, c);
	if (r)
		return w->audit && !w->plen && c->phase == BN_HTTP_FOLLOWED ? 0 : r;
	w->judged = 0;
	r = bn_http_claimed(ctx, p, c);
	if (w->judged && r >= 0)
		bn_http_count_drop(p, BN_DROP_HTTP_DENIED);
	if (c->phase == BN_HTTP_ANSWERED && (w->tcp.flags & BN_TCP_FIN) && w->ack == c->answer + bn_http_403_len(c) + 1) {
		bn_http_forget(c);
		return r;
	}
	if (c->phase == BN_HTTP_ANSWERED && c->nblocks)
		bn_http_release(c, 1);
	bn_http_free(c);
	return r;
}

/* --- Entry ------------------------------------------------------------------------------------ */

/* An answer of a flow that is masqueraded was translated before it came to its client: its entry knows the other
 * tuple, by which the requests are known.
 */
__noinline int bn_http_key_other(struct bn_pkt *p)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit;

	if (!p || !w || !s)
		return 0;
	bn_ct_ref(&s->ref, &p->t, BN_PROTO_TCP, p->zone);
	bn_ct_find(&s->ref, &hit);
	if (!hit.e || (hit.flags & (BN_CT_F_ALIAS | BN_CT_F_MASQ)) != (BN_CT_F_ALIAS | BN_CT_F_MASQ))
		return 0;
	bn_ct_other(hit.e, &s->ends.t);
	w->key.client = s->ends.t.src;
	w->key.server = s->ends.t.dst;
	w->key.cport = s->ends.t.sport;
	w->key.sport = s->ends.t.dport;
	return 0;
}

static __always_inline void bn_http_key_set(struct bn_pkt *p, struct bn_http_work *w, __u32 side)
{
	bool reply = p->flags & BN_PKT_F_REPLY;

	__builtin_memset(&w->key, 0, sizeof(w->key));
	if (reply) {
		w->key.client = p->t.dst;
		w->key.server = p->t.src;
		w->key.cport = p->t.dport;
		w->key.sport = p->t.sport;
		if (cfg_masquerade_all && p->hook == BN_HOOK_TO_POD && !(p->todo & BN_DO_NAT))
			bn_http_key_other(p);
	} else if (p->todo & BN_DO_NAT) {
		w->key.client = p->x.src;
		w->key.server = p->x.dst;
		w->key.cport = p->x.sport;
		w->key.sport = p->x.dport;
	} else {
		w->key.client = p->t.src;
		w->key.server = p->t.dst;
		w->key.cport = p->t.sport;
		w->key.sport = p->t.dport;
	}
	w->key.side = side;
	w->side = side;
	w->set = p->http[side & 1] & BN_CT_HTTP_SET;
	w->audit = p->http[side & 1] & BN_CT_HTTP_AUDIT;
}

/* A reset of ours for one judge's denial passes: the other judge of the flow is through, too. */
static __always_inline int bn_http_ours(struct bn_pkt *p)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_conn *c;

	for (__u32 side = 0; side < 2 && w; side++) {
		if (!p->http[side])
			continue;
		bn_http_key_set(p, w, side);
		c = bn_http_conn_get(w);
		if (c && bn_http_conn_is(p, c) && c->phase == BN_HTTP_FOLLOWED && !bn_http_claim(p, c))
			bn_http_forget(c);
	}
	return 0;
}

/* Under audit, for what would have been dropped (enum bn_drop) it is recorded, passes, and nobody can say any more
 * what the server makes of the stream: it is not judged from here on. The flow's entry remembers: MADE without state
 * is a connection in mid-stream, once rules are enforced again. 0; one that was answered when they were
 * goes on to its end: -reason.
 */
__noinline int bn_http_would(struct bn_pkt *p, __u32 reason)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_conn *c;
	bool is;

	if (!w || !p || reason == BN_DROP_HTTP_CHECKSUM) /* nobody reads that, and nothing of it was noted here */
		return 0;
	c = bn_http_conn_get(w);
	is = c && bn_http_conn_is(p, c);
	if (!is && (p->http[w->side & 1] & BN_CT_HTTP_MADE)) { /* known */
		if (c && c->lost && !__sync_val_compare_and_swap(&c->claim, 0, bpf_get_smp_processor_id() + 1))
			bn_http_forget(c);
		return 0;
	}
	if (is && c->phase == BN_HTTP_ANSWERED)
		return -(int)reason;
	if (reason != BN_DROP_HTTP_DENIED) { /* that has been reported with its request */
		p->audit = reason;
		p->slot = bn_http_slot(w);
		p->dir = w->side;
	}
	if (!is)
		bn_http_note(p, BN_CT_HTTP_MADE << BN_CT_HTTP_SHIFT(w->side & 1));
	else if (bn_http_claim(p, c))
		*(volatile __u32 *)&c->lost = 1;
	else
		bn_http_forget(c);
	return 0;
}

static __always_inline int bn_http_side(bn_ctx *ctx, struct bn_pkt *p)
{
	if (p->flags & BN_PKT_F_LATER)
		return p->flags & BN_PKT_F_REPLY ? 0 : -BN_DROP_HTTP_FRAGMENT;
	return p->flags & BN_PKT_F_REPLY ? bn_http_reply(ctx, p) : bn_http_request(ctx, p);
}

/* 0: the packet goes on as decided; BN_DONE_x: it was turned into something else; -BN_DROP_x. In a program of
 * its own: the verifier allows eight frames, and three of them are callers of the other stages.
 */
static __always_inline int bn_http_stage(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_http_work *w = bn_http_work_get();
	int r = 0;

	if (!w || !p)
		return -BN_DROP_INTERNAL;
	if (p->proto != BN_PROTO_TCP)
		return 0;
	if (bn_ctx_load(ctx, p->l4, &w->tcp, sizeof(w->tcp)) && !(p->flags & BN_PKT_F_LATER))
		return -BN_DROP_BAD_HEADER;
	w->toff = p->l4 + (w->tcp.doff >> 4) * 4;
	w->plen = p->l4_len - (w->tcp.doff >> 4) * 4;
	w->seq = bpf_ntohl(w->tcp.seq);
	w->ack = bpf_ntohl(w->tcp.ack);
	w->end = w->seq + w->plen;
	w->over = 0;
	if (p->flags & BN_PKT_F_OURS)
		return bn_http_ours(p);
	for (__u32 side = 0; side < 2 && !r; side++) {
		if (!p->http[side])
			continue;
		bn_http_key_set(p, w, side);
		r = bn_http_side(ctx, p);
		if (r == -BN_DROP_HTTP_SHARE)
			bn_http_refused(p, w);
		if (r < 0 && w->audit)
			r = bn_http_would(p, -r);
	}
	return r;
}

#endif
