/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_REPLY_H
#define BN_BPF_HTTP_REPLY_H

/* The server's packets: what it has said and acknowledged, and when its connection ends. */

#include "bpf/lib/http_answer.h"
#include "bpf/lib/http_options.h"
#include "bpf/lib/http_segment.h"

#define BN_TCP_PSH (1 << 3)
#define BN_HTTP_GAP_MS 800 /* for a lost part of an answer to come again */

/* Both ends have closed, and each has got all that the other said: nothing of it comes again. Not before: a request
 * with a FIN is sent again whole where the answer is lost, and to be known then.
 */
static __always_inline bool bn_http_over(const struct bn_http_conn *c)
{
	const __u32 both = BN_HTTP_CONN_F_FIN | BN_HTTP_CONN_F_SRV_FIN;

	return (c->flags & both) == both && *(volatile __u32 *)&c->una == c->top &&
	       *(volatile __u32 *)&c->srv_acked == c->srv_end;
}

/* What changes more than a word. Gives the claim back. */
__noinline int bn_http_reply_claimed(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_conn *c, __u32 desync)
{
	struct bn_http_work *w = bn_http_work_get();

	if (!w || !p || !c)
		return -BN_DROP_INTERNAL;
	if (w->tcp.flags & BN_TCP_FIN)
		c->flags |= BN_HTTP_CONN_F_SRV_FIN;
	bn_http_res_feed(ctx, c);
	if ((w->tcp.flags & BN_TCP_RST) || bn_http_over(c)) {
		bn_http_forget(c);
		return 0;
	}
	/* It acknowledges what was never judged: rules were switched off and on, or the map was cleared. */
	if (desync && !w->audit) {
		c->phase = BN_HTTP_ANSWERED;
		c->flags |= BN_HTTP_CONN_F_RESET;
	}
	bn_http_free(c);
	return desync ? -BN_DROP_HTTP_MIDSTREAM : 0;
}

/* A part of the answer is missing, and may come again: from the first packet behind it on, not from the request. */
static __always_inline bool bn_http_gap(struct bn_http_conn *c, bool missing, __u32 now_ms)
{
	if (!missing) {
		c->gap_ms = 0;
		return false;
	}
	if (!c->gap_ms)
		c->gap_ms = now_ms | 1;
	return (__s32)(now_ms - c->gap_ms) < BN_HTTP_GAP_MS;
}

static __always_inline int bn_http_reply(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_say s = {.how = BN_SAY_BACK, .flags = BN_TCP_RST};
	struct bn_http_conn *c;
	bool desync, follow;
	__u32 end;

	if (!w || !p)
		return -BN_DROP_INTERNAL;
	if ((w->tcp.flags & (BN_TCP_SYN | BN_TCP_ACK)) == (BN_TCP_SYN | BN_TCP_ACK)) {
		if (bn_http_damaged(ctx, p))
			return -BN_DROP_HTTP_CHECKSUM;
		/* The SYN went by before there were rules: it cannot be followed. */
		return bn_http_options(ctx, p, 1) ? 0 : bn_http_note(p, 0);
	}
	c = bn_http_conn_get(w);
	if (!c || !bn_http_conn_is(p, c)) {
		/* It speaks first. What it says and acknowledges tells in which of its SYN-ACKs it believes. */
		if (w->plen && (p->first || p->srv_first) && w->seq == p->srv_first && w->ack == p->first &&
		    !(p->http[w->side & 1] & BN_CT_HTTP_MADE))
			bn_http_begin_conn(p);
		return 0;
	}
	if (c->seen_s != p->now_s) /* a download, a websocket: the client may say nothing for days */
		*(volatile __u32 *)&c->seen_s = p->now_s;
	if (c->phase == BN_HTTP_ANSWERED) {
		if (w->tcp.flags & BN_TCP_RST)
			return -BN_DROP_HTTP_CLOSING;
		s.seq = w->ack;
		if (bn_http_look(ctx, p))
			return -BN_DROP_INTERNAL;
		return bn_http_tell(ctx, p, &s);
	}
	desync = c->phase == BN_HTTP_FOLLOWED && bn_before(c->next + 1, w->ack) && c->st.at != BN_HTTP_AT_OPAQUE;
	follow = w->plen && c->res_at != BN_HTTP_RES_OFF && c->res_at < BN_HTTP_RES_CLOSE;
	/* What ends something, is read, or lies further on: the client's stack believes none of it when it is damaged. */
	if ((desync || follow || (w->tcp.flags & (BN_TCP_FIN | BN_TCP_RST)) || bn_before(c->srv_end, w->seq)) &&
	    bn_http_damaged(ctx, p))
		return -BN_DROP_HTTP_CHECKSUM;
	if ((w->tcp.flags & BN_TCP_ACK) && bn_before(c->una, w->ack) && !desync)
		*(volatile __u32 *)&c->una = w->ack;
	end = w->end + !!(w->tcp.flags & BN_TCP_FIN);
	if (bn_before(c->srv_end, end))
		*(volatile __u32 *)&c->srv_end = end;
	/* While an answer to an Upgrade or CONNECT is due none of its bytes is left out, as far as that can be. */
	if (follow && !w->audit && c->st.at == BN_HTTP_AT_ANSWER && bn_http_gap(c, bn_before(c->res_next, w->seq), p->now_ns >> 20))
		return -BN_DROP_HTTP_WAITING;
	if (w->plen) {
		c->spoke_ms = p->now_ns >> 20;
		if (end == c->srv_end)
			c->more = !(w->tcp.flags & BN_TCP_PSH);
	}
	if (!desync && !follow && !(w->tcp.flags & (BN_TCP_FIN | BN_TCP_RST)) && !(c->flags & BN_HTTP_CONN_F_SRV_FIN))
		return 0;
	if (bn_http_claim(p, c))
		return desync || (follow && c->st.at == BN_HTTP_AT_ANSWER) ? -BN_DROP_HTTP_BUSY : 0;
	return bn_http_reply_claimed(ctx, p, c, desync);
}

#endif
