/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_FLOW_H
#define BN_BPF_FLOW_H

/* From a packet's tuple to what becomes of it: look-up of its flow, admission by the policies of
 * the local pods at either end, a new flow where there is none.
 *
 * Who is judged: a flow has a client (who sent its first packet) and a server. The client's egress
 * policy and the server's ingress policy are asked about the flow's original tuple, with the real
 * client and the real backend, whichever packet brings the question up. The answer holds for the
 * entry's generation and for one policy epoch.
 *
 * TCP in mid-stream without an entry, to no service (the daemon is started for the first time over
 * connections that exist, or the table was flushed): which end is the client cannot be known. Such
 * a flow is admitted at an end if a connection in either direction between the two ports would be:
 * the same two pods could talk anyway, and no stack accepts a connection that began without SYN.
 */

#include "bpf/lib/scratch.h"

static __always_inline int bn_flow_ask_dir(struct bn_ask *q, __u8 dir, __be16 port)
{
	int r;

	q->dir = dir;
	q->port = port;
	r = bn_policy_of(q);
	if (r <= 0)
		return r;
	if (q->policy >= BN_POL_FIRST && bn_addr_who(&q->peer, &q->who))
		return -BN_DROP_INTERNAL;
	return bn_policy_ask(q);
}

/* Asks one end's policy. 0: admitted; -BN_DROP_x, with what the exit needs in p. */
__noinline int bn_flow_ask(struct bn_pkt *p, struct bn_ends *n)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ask *q;
	__u32 http = 0;
	int r, mid = 0;

	if (!p || !n || !s)
		return -BN_DROP_INTERNAL;
	/* Not known and let through, or no pod of this node; a pod and itself (what comes to a pod
	 * from elsewhere under its own address is forged); the node itself.
	 */
	q = &s->ask;
	q->http = 0;
	if (!n->slot || (p->hook != BN_HOOK_TO_POD && bn_addr_same(&n->t.src, &n->t.dst)) ||
	    (n->host && n->dir == BN_DIR_INGRESS))
		return 0;
	/* The epoch was read before the policy is: what is written down as judged in a new epoch was not
	 * judged by an old policy.
	 */
	bn_fence();
	q->slot = n->slot;
	q->proto = n->proto;
	q->peer = n->dir == BN_DIR_EGRESS ? n->t.dst : n->t.src;
	if (n->ct_flags & BN_CT_F_MID) {
		q->fresh = 0;
		mid = bn_flow_ask_dir(q, n->dir == BN_DIR_EGRESS ? BN_DIR_INGRESS : BN_DIR_EGRESS, n->t.sport);
		http = q->http;
	}
	q->fresh = n->fresh;
	r = bn_flow_ask_dir(q, n->dir, n->t.dport);
	if (n->ct_flags & BN_CT_F_MID) {
		/* Whichever end is the client, its requests would have to be judged from the first one. */
		q->http = r ? 0 : q->http;
		http = mid ? 0 : http;
		if (bn_http_enforced(q->http) || bn_http_enforced(http)) {
			p->refuse = BN_REFUSE_UNREACH;
			return -BN_DROP_HTTP_MIDSTREAM;
		}
		if (q->http | http)
			q->audit = BN_DROP_HTTP_MIDSTREAM;
		q->http = 0;
		if (!mid)
			r = 0;
	}
	if (!r && !q->audit)
		return 0;
	p->slot = n->slot;
	p->dir = n->dir;
	p->policy = q->policy;
	p->rule = q->rule;
	if (r && (p->state & BN_STATE_F_DENY_REJECT))
		p->refuse = BN_REFUSE_PROHIBIT;
	if (!r)
		p->audit = q->audit;
	return r;
}

/* The pod behind the hook's interface: its slot; 0 for what is not a pod of Kubernetes or may pass
 * while it is not known; negative: closed.
 */
static __always_inline int bn_flow_slot(struct bn_pkt *p, const struct bn_iface *f)
{
	if (f && f->slot)
		return f->slot;
	if ((f && (f->flags & BN_IF_F_OPEN)) || (p->state & BN_STATE_F_UNKNOWN_ALLOW))
		return 0;
	return -BN_DROP_UNKNOWN_POD;
}

/* May this interface send with this source? Its slot (see above), or -BN_DROP_x. */
static __always_inline int bn_flow_sender(struct bn_pkt *p, const struct bn_iface *f)
{
	int slot = bn_flow_slot(p, f);

	if (slot > 0)
		p->slot = slot;
	if (slot > 0 && bn_addr_slot(&p->t.src) != (__u32)slot)
		return -BN_DROP_SPOOFED;
	return slot;
}

/* Is this where discovery goes: the link itself, pods of this node, the node? */
static __always_inline bool bn_flow_on_link(const struct bn_addr *a)
{
	const struct bn_ep *ep;

	if (a->b[0] == 0xff || (a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80))
		return true;
	ep = bn_addr_ep(a);
	return ep && ((ep->flags & BN_ADDR_F_HOST) || BN_EP_SLOT(*(volatile __u64 *)&ep->word));
}

/* Neighbour and listener discovery: always, but not in the name of another's address. 0: to somewhere
 * beyond the link, where routers would carry it, with whatever is in it, past egress policy: it is
 * judged like any packet.
 */
__noinline int bn_flow_discovery(struct bn_pkt *p)
{
	const struct bn_iface *f;

	if (!p)
		return -BN_DROP_INTERNAL;
	if (!bn_flow_on_link(&p->t.dst))
		return 0;
	if (bn_addr_is_zero(&p->t.src) || (p->t.src.b[0] == 0xfe && (p->t.src.b[1] & 0xc0) == 0x80))
		return BN_DONE_PASS;
	f = bn_iface_get(p->ifindex);
	if (f && f->slot && bn_addr_slot(&p->t.src) != f->slot)
		return -BN_DROP_SPOOFED;
	return BN_DONE_PASS;
}

static __always_inline bool bn_iface_bypass(const struct bn_iface *f)
{
	const __u16 need = BN_IF_F_PEER | BN_IF_F_BYPASS;

	return f && (f->flags & need) == need;
}

/* --- Flows that exist ------------------------------------------------------------------------ */

/* This hook judges the flow's requests for that end. */
static __always_inline void bn_flow_http(struct bn_pkt *p, const struct bn_ct_entry *e, __u32 side)
{
	__u32 sets = *(volatile __u32 *)&e->http;

	p->http[side] = sets >> BN_CT_HTTP_SHIFT(side);
	p->first = *(volatile __u32 *)&e->first;
	p->srv_first = *(volatile __u32 *)&e->srv_first;
}

/* There is no program that could judge its requests. Under audit they pass. */
static __always_inline int bn_flow_unfollowed(const struct bn_pkt *p)
{
	return bn_http_enforced(p->http[0]) || bn_http_enforced(p->http[1]) ? -BN_DROP_HTTP_UNSUPPORTED : 0;
}

/* Is the flow admitted at that end in this epoch? */
static __always_inline bool bn_flow_fits(struct bn_pkt *p, const struct bn_ct_entry *e, __u32 gen, __u32 side)
{
	__u64 want = BN_CT_STAMP(p->epoch, gen);
	__u64 have = *(volatile __u64 *)(side == BN_DIR_EGRESS ? &e->eg_stamp : &e->in_stamp);

	if (have == want)
		return true;
	if (have != (want | BN_CT_STAMP_HTTP))
		return false;
	bn_flow_http(p, e, side);
	return true;
}

enum {
	BN_NEED_EGRESS = 1 << 0,  /* the client's */
	BN_NEED_INGRESS = 1 << 1, /* the server's */
	BN_NEED_SENDER = 1 << 2,  /* the interface that this direction comes from is another */
	BN_NEED_REPLY = 1 << 3,	  /* (the packet is of the reply direction) */
	BN_NEED_HERE_IN = 1 << 4, /* at to_pod: the pod behind the hook receives */
};

/* The other end of a flow that skips the stack: is it still there, and where? Its slot. */
static __always_inline __u32 bn_flow_far(struct bn_ct_entry *e, const struct bn_addr *a,
					 __u32 *ifindex)
{
	const struct bn_ep *ep = bn_addr_ep(a);
	__u32 slot = ep ? BN_EP_SLOT(*(volatile __u64 *)&ep->word) : 0;

	if (!slot || !ep->ifindex)
		e->flags &= ~BN_CT_F_BYPASS;
	else if (*ifindex != ep->ifindex)
		*ifindex = ep->ifindex;
	return slot;
}

static __always_inline int bn_flow_readmit(struct bn_pkt *p, struct bn_scratch *s,
					   struct bn_ct_entry *e, __u32 dir, __u32 slot)
{
	s->ends.slot = slot;
	s->ends.dir = dir;
	return bn_flow_ask(p, &s->ends);
}

/* Writes the answer down: the rule set before the stamp that says there is one. `own`: else the packet is
 * another pod's, which a bridge flooded, and there is nothing to be followed.
 */
static __always_inline int bn_flow_stamp(struct bn_pkt *p, struct bn_scratch *s, struct bn_ct_entry *e,
					 __u32 gen, __u32 side, bool own)
{
	__u32 shift = BN_CT_HTTP_SHIFT(side), http = s->ask.http;
	__u64 stamp = BN_CT_STAMP(p->epoch, gen);

	if (s->ends.slot == 0)
		http = 0; /* nobody was asked */
	if (!own)
		return bn_http_enforced(http) ? -BN_DROP_HTTP_UNSUPPORTED : 0;
	if (http) {
		if ((e->http >> shift & BN_CT_HTTP_RULES) != http) {
			/* It went on unjudged for a time: as one that was open before the rules. */
			if ((e->http >> shift & 0xffff) == BN_CT_HTTP_MADE)
				e->first = e->srv_first = 0;
			__sync_fetch_and_and(&e->http, ~(BN_CT_HTTP_RULES << shift));
			__sync_fetch_and_or(&e->http, http << shift);
		}
		bn_flow_http(p, e, side);
		stamp |= BN_CT_STAMP_HTTP;
	} else if (e->http >> shift & BN_CT_HTTP_RULES) {
		__sync_fetch_and_or(&e->http, BN_CT_HTTP_MADE << shift);
		__sync_fetch_and_and(&e->http, ~(BN_CT_HTTP_RULES << shift));
	}
	*(volatile __u64 *)(side == BN_DIR_EGRESS ? &e->eg_stamp : &e->in_stamp) = stamp;
	return 0;
}

/* Proves what the entry does not (need), and writes it down. At from_pod the pod behind the hook is
 * the sender, at to_pod (HERE_IN) the receiver; the other end is asked for only when it is local
 * and the packet will be handed to it past its own hook. What a bridge floods to a pod that is not
 * meant is judged by that pod's policy, but that answer is not written down.
 */
__noinline int bn_flow_prove(struct bn_pkt *p, struct bn_ct_entry *e, __u32 gen, __u32 need)
{
	struct bn_scratch *s = bn_scratch_get();
	bool reply = need & BN_NEED_REPLY, in = need & BN_NEED_HERE_IN;
	/* Is the pod behind the hook the flow's client? */
	bool client = reply == in;
	const struct bn_iface *f;
	__u32 peer;
	int slot, r;
	bool own;

	if (!p || !e || !s)
		return -BN_DROP_INTERNAL;
	f = bn_iface_get(p->ifindex);
	slot = in ? bn_flow_slot(p, f) : bn_flow_sender(p, f);
	if (slot < 0)
		return slot;
	own = !in || bn_addr_slot(&p->t.dst) == (__u32)slot;
	bn_ends_of(e, &s->ends);
	s->ends.fresh = 0;
	s->ends.host = !e->ifindex && bn_addr_is_host(&s->ends.t.src);
	if (need & BN_NEED_EGRESS) {
		peer = client ? slot : bn_flow_far(e, &s->ends.t.src, &e->ifindex);
		r = bn_flow_readmit(p, s, e, BN_DIR_EGRESS, peer);
		r = r ?: bn_flow_stamp(p, s, e, gen, BN_DIR_EGRESS, own);
		if (r)
			return r;
	}
	if (need & BN_NEED_INGRESS) {
		peer = client ? bn_flow_far(e, &s->ends.t.dst, &e->rifindex) : slot;
		r = bn_flow_readmit(p, s, e, BN_DIR_INGRESS, peer);
		r = r ?: bn_flow_stamp(p, s, e, gen, BN_DIR_INGRESS, own);
		if (r)
			return r;
	}
	if (!(need & BN_NEED_SENDER) || *(volatile __u32 *)&e->gen != gen)
		return 0;
	if (client)
		e->ifindex = p->ifindex;
	else if (own)
		e->rifindex = p->ifindex;
	return 0;
}

#endif
