/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_NET_H
#define BN_BPF_NET_H

/* Services as outside clients and this node's own packets meet them, at the uplinks and tunnels.
 *
 * A flow that comes in from outside has two entries with BN_CT_F_NET. To a backend on this node only the
 * destination is translated: the backend sees the client, and its replies are turned back where they
 * leave (to_net). To a backend elsewhere the source is translated too, to the address of the
 * interface that leads there, and the packet goes out again at once (fib look-up and
 * redirect_neigh): the stack would drop a packet that comes in with one of its own addresses.
 *
 * Packets of the node itself that no socket hook translated (SCTP, raw sockets, sockets older than the
 * hook) are translated at to_net; their entries have ifindex 0, replies are turned back where they come
 * in (from_net, from_pod).
 *
 * from_net runs bn_net_in at TC, xdp_net runs it before the stack (bn_ctx_early). There a packet is
 * finished only if it goes out again at once (BN_DO_ROUTED); every other one is handed up as it came,
 * and before anything was noted about it but its new flow: so TC finds the backend that was chosen,
 * and counts the packet. Nothing that is answered is answered in XDP.
 */

#include "bpf/lib/dsr.h"
#include "bpf/lib/flow_new.h"
#include "bpf/lib/nat.h"
#include "bpf/lib/route.h"
#include "bpf/lib/straight.h"

/* Both entries of the flow p->t -> p->x. */
__noinline int bn_net_insert(struct bn_pkt *p, __u32 flags, __u32 replace)
{
	struct bn_scratch *s = bn_scratch_get();

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	bn_flow_blank(s, flags & BN_CT_F_NET ? p->ifindex : 0);
	s->n.e.svc_idx = s->svc.idx;
	s->n.e.svc_gen = s->svc.gen;
	p->todo |= BN_DO_NAT | BN_DO_NEW;
	return bn_flow_enter(p, s, flags, replace, true);
}

/* Does the backend live here, whatever its EndpointSlice says (one made by hand names no node)? Its
 * replies to an address of this node would go to the stack, not through from_net.
 */
static __always_inline bool bn_net_here(struct bn_scratch *s)
{
	const struct bn_ep *ep = bn_addr_ep(&s->svc.be.addr);

	return ep && ((ep->flags & BN_ADDR_F_HOST) || BN_EP_SLOT(*(volatile __u64 *)&ep->word));
}

/* Is the backend this node itself? Its replies to the node would never leave the stack. */
static __always_inline bool bn_net_self(struct bn_scratch *s)
{
	const struct bn_ep *ep = bn_addr_ep(&s->svc.be.addr);

	return ep && (ep->flags & BN_ADDR_F_HOST);
}

/* Has what lives behind a pod's interface no way to this uplink? A bridge that is an uplink may have
 * pods and containers of others as ports: what comes in from it went through their own programs.
 */
static __always_inline bool bn_net_apart(const struct bn_pkt *p, __u32 ifindex)
{
	const struct bn_iface *f = bn_iface_get(ifindex);

	return !f || f->role != BN_ROLE_POD || f->master != p->ifindex;
}

/* A packet that comes in from outside in the name of this node or of its pods. */
static __always_inline int bn_net_martian(const struct bn_pkt *p, struct bn_scratch *s)
{
	if (bn_addr_who(&p->t.src, &s->who))
		return -BN_DROP_INTERNAL;
	return (s->who.flags & BN_ADDR_F_HOST) || (s->who.slot && bn_net_apart(p, s->who.ifindex))
		       ? -BN_DROP_MARTIAN : 0;
}

/* A flow to the backend s->svc.be on another node that speaks DSR. XDP leaves the packing to TC. */
__noinline int bn_net_begin_dsr(bn_ctx *ctx, struct bn_pkt *p, __u32 replace)
{
	struct bn_scratch *s = bn_scratch_get();
	int r;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	r = bn_dsr_target(p, s);
	r = r ?: bn_net_source(ctx, p, s);
	if (r)
		return r;
	if (bn_ctx_early)
		p->todo |= BN_DO_UP;
	r = bn_dsr_insert(p, s, replace);
	return r ?: bn_ctx_early ? BN_DONE_PASS : 0;
}

/* A packet that no live entry knows, to a service: chooses, and makes the flow. 0 with no BN_DO_NAT: it
 * is none of ours. A flow to a backend elsewhere goes out again: BN_DO_ROUTED, with its way; XDP hands
 * up all others once they have their flow. `replace`: the gen of the entry that is over; 0: there is none.
 */
__noinline int bn_net_begin(bn_ctx *ctx, struct bn_pkt *p, __u32 host, __u32 replace)
{
	struct bn_scratch *s = bn_scratch_get();
	__u32 flags = BN_CT_F_NAT | (host ? BN_CT_F_INTERNAL : BN_CT_F_NET);
	bool sent = !bn_ctx_early && !host && s && s->dsr_in.set, masq;
	int r, m = 0;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	if (bn_flow_on_its_way(p))
		return -BN_DROP_CT_MIDSTREAM;
	s->svc.idx = 0;
	s->svc.gen = 0;
	p->rnd = bpf_get_prandom_u32();
	r = sent ? bn_dsr_choose(p, &s->svc) : bn_svc_choose(p, &s->svc, host);
	if (bn_ctx_early && !r && !s->svc.idx)
		return BN_DONE_PASS;
	if (!host)
		m = bn_net_martian(p, s);
	if (m)
		p->refuse = BN_REFUSE_NONE;
	if (m || r || !s->svc.idx)
		return m ?: r;
	p->x = p->t;
	p->x.dst = s->svc.be.addr;
	p->x.dport = s->svc.be.port;
	masq = cfg_masquerade_all && !host && !sent && !s->svc.external && !bn_net_self(s);
	if (masq || (!host && !(s->svc.be.flags & BN_BE_F_LOCAL) && !bn_net_here(s))) {
		if (sent)
			return -BN_DROP_DSR; /* it is not here */
		if (!masq && bn_dsr_wanted(p, s))
			return bn_net_begin_dsr(ctx, p, replace);
		r = bn_net_source(ctx, p, s);
		if (r)
			return r;
		flags |= BN_CT_F_SNAT | (masq ? BN_CT_F_MASQ : 0);
		p->todo |= BN_DO_ROUTED;
	} else if (bn_ctx_early) {
		p->todo |= BN_DO_UP;
	} else if (host && bn_net_self(s)) {
		/* In the service's name: then the reply passes here, too. */
		p->x.src = p->t.dst;
		flags |= BN_CT_F_SNAT | BN_CT_F_HAIRPIN;
		p->todo |= BN_DO_BACK;
	}
	r = bn_net_insert(p, flags, replace);
	return r ?: p->todo & BN_DO_UP ? BN_DONE_PASS : 0;
}

/* A UDP flow whose backend left its service, or whose service is gone, begins anew; a TCP one keeps it.
 * 0: keep, 1: anew.
 */
static __always_inline int bn_net_moved(struct bn_pkt *p, const struct bn_ct_hit *hit)
{
	struct bn_ct_entry *e = hit->e;
	bool internal = hit->flags & BN_CT_F_INTERNAL;
	struct bn_scratch *s;

	if (p->proto == BN_PROTO_TCP && !(p->tcp & BN_TCP_SYN))
		return 0;
	if (!bn_svc_changed(p, e->svc_idx, e->svc_gen, internal))
		return 0;
	s = bn_scratch_get();
	if (!s)
		return -BN_DROP_INTERNAL;
	s->svc.be.addr = e->xd;
	s->svc.be.port = e->xdp;
	s->svc.idx = 0;
	if (!bn_svc_still(p, &s->svc, internal)) /* not by a rule that was none of a service's */
		return !(hit->flags & BN_CT_F_FOREIGN) || s->svc.idx;
	e->svc_idx = s->svc.idx;
	e->svc_gen = s->svc.gen;
	return 0;
}

static __always_inline void bn_net_turn_back(struct bn_pkt *p, const struct bn_ct_entry *e)
{
	p->x.src = e->xd;
	p->x.dst = e->xs;
	p->x.sport = e->xdp;
	p->x.dport = e->xsp;
	p->todo |= BN_DO_NAT;
}

/* A packet of a flow that goes by DSR, under the client's tuple. */
static __always_inline int bn_net_orig_dsr(bn_ctx *ctx, struct bn_pkt *p, struct bn_ct_hit *hit)
{
	struct bn_scratch *s = bn_scratch_get();
	int r;

	if (!s)
		return -BN_DROP_INTERNAL;
	s->svc.be.addr = hit->e->xd;
	s->svc.be.port = hit->e->xdp;
	r = bn_dsr_target(p, s);
	r = r ?: bn_net_source(ctx, p, s);
	return r ?: bn_net_done(p, hit);
}

/* A flow that another node sends here, to another backend than before? It chose again; TCP in mid-stream
 * keeps what it has.
 */
static __always_inline bool bn_net_sent_anew(const struct bn_pkt *p, const struct bn_ct_hit *hit)
{
	struct bn_scratch *s = bn_scratch_get();

	if (bn_ctx_early || !s || !s->dsr_in.set || bn_flow_mid(p) || !bn_pkt_has_ports(p))
		return false;
	return s->dsr_in.port != hit->e->xdp || !bn_addr_same(&s->dsr_in.addr, &hit->e->xd);
}

/* To a backend here: straight to the pod, if its hook has admitted the flow (under the tuple x). */
static __always_inline void bn_net_orig_straight(struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit post;

	if (!s || !(p->todo & BN_DO_NAT) || !bn_straight_may(p))
		return;
	bn_net_find(s, p, &p->x, p->proto, BN_CT_ZONE_MAIN, &post);
	if (!post.e || post.reply || (post.flags & BN_CT_F_ALIAS) || !bn_straight_to(p, &post, &p->x.dst) ||
	    !bn_ct_same(&post))
		return;
	bn_ct_count(post.e, p, false);
	p->todo |= BN_DO_DELIVER | BN_DO_ROUTED;
}

/* Original direction of a translated flow, under the client's own tuple. */
static __always_inline int bn_net_orig(bn_ctx *ctx, struct bn_pkt *p, struct bn_ct_hit *hit,
				       __u32 host)
{
	int r;

	if (bn_ctx_early && (hit->flags & (BN_CT_F_SNAT | BN_CT_F_FOREIGN)) != BN_CT_F_SNAT)
		return BN_DONE_PASS; /* to a backend here */
	if (bn_net_reborn(hit, p))
		return bn_net_begin(ctx, p, host, hit->gen);
	r = bn_net_moved(p, hit);
	if (r < 0)
		return r;
	if (r || (!host && bn_net_sent_anew(p, hit)))
		return bn_net_begin(ctx, p, host, hit->gen);
	if (hit->flags & BN_CT_F_DSR)
		return bn_net_orig_dsr(ctx, p, hit);
	if (!(hit->flags & BN_CT_F_FOREIGN)) {
		bn_ct_other(hit->e, &p->x);
		p->todo |= BN_DO_NAT;
	}
	if (!host && (p->todo & BN_DO_NAT) && !bn_addr_same(&p->x.src, &p->t.src)) {
		p->todo |= BN_DO_ROUTED;
		r = bn_net_way(ctx, p);
		if (r || (p->todo & BN_DO_UP))
			return r ?: BN_DONE_PASS;
	}
	if (!bn_ct_same(hit))
		return -BN_DROP_INTERNAL;
	/* The entry for the replies was given up before the flow was established: begin again. */
	if (bn_ct_due(hit, p) && bn_ct_track(hit->e, p, hit->flags, hit->reply) &&
	    !(p->flags & BN_PKT_F_LATER) && !bn_flow_mid(p))
		return bn_net_begin(ctx, p, host, hit->gen);
	bn_ct_count(hit->e, p, hit->reply);
	if (!host && !(p->todo & BN_DO_ROUTED))
		bn_net_orig_straight(p);
	return 0;
}

/* Does a packet from outside have the source of a flow that a pod of this node is an end of? (An
 * uplink may change during a flow, so only pods' interfaces count.)
 */
static __always_inline bool bn_net_forged(const struct bn_pkt *p, const struct bn_ct_hit *hit)
{
	__u32 from = hit->reply ? hit->e->rifindex : hit->e->ifindex;
	const struct bn_iface *f;

	if (!from || from == p->ifindex)
		return false;
	f = bn_iface_get(from);
	return f && f->role == BN_ROLE_POD && f->master != p->ifindex;
}

/* --- The two directions ---------------------------------------------------------------------- */

/* A direct flow from outside whose tuple a translated one has (bn_net_shift): a client that speaks to the service and to its backend itself may use one port
 * for both, its stack sees two destinations. A new connection takes the tuple of one that is over.
 */
__noinline int bn_net_direct(struct bn_pkt *p, __u32 over)
{
	struct bn_scratch *s = bn_scratch_get();

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	if (!over)
		return bn_net_shift(p, BN_CT_F_NET);
	bn_flow_blank(s, p->ifindex);
	return bn_flow_insert(p, 0, 1);
}

/* A reply of a translated flow: to its client outside, or up to this node itself. */
static __always_inline int bn_net_reply(bn_ctx *ctx, struct bn_pkt *p, struct bn_ct_hit *hit)
{
	int r;

	if (bn_ctx_early && !(hit->flags & BN_CT_F_NET))
		return BN_DONE_PASS;
	bn_net_turn_back(p, hit->e);
	if (hit->flags & (BN_CT_F_NET | BN_CT_F_MASQ)) {
		p->todo |= BN_DO_ROUTED;
		r = bn_net_way(ctx, p);
		if (r || (p->todo & BN_DO_UP))
			return r ?: BN_DONE_PASS;
	}
	return bn_net_done(p, hit);
}

/* A flow of a pod of this node, one that it began or that came to it as itself: its hooks follow it, and
 * once they have admitted it its packets go straight there.
 */
static __always_inline int bn_net_pod(struct bn_pkt *p, struct bn_ct_hit *hit)
{
	bool back = (hit->flags & BN_CT_F_NAT) && hit->reply;
	struct bn_addr dst;
	int r;

	if ((hit->flags & (BN_CT_F_ALIAS | BN_CT_F_FOREIGN | BN_CT_F_HAIRPIN)) ||
	    ((hit->flags & BN_CT_F_NAT) && !hit->reply) || !bn_straight_may(p))
		return 0;
	dst = back ? hit->e->xs : p->t.dst;
	if (!bn_straight_to(p, hit, &dst))
		return 0;
	if (back)
		bn_net_turn_back(p, hit->e);
	r = bn_net_done(p, hit);
	p->todo |= BN_DO_DELIVER | BN_DO_ROUTED;
	return r;
}

/* From outside. p->todo says what is to be done; BN_DO_ROUTED without BN_DO_DELIVER: out again, not to
 * the stack.
 */
static __always_inline int bn_net_in(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit;
	int r;

	if (!s)
		return -BN_DROP_INTERNAL;
	bn_net_find(s, p, &p->t, p->proto, BN_CT_ZONE_MAIN, &hit);
	if (hit.e && (hit.flags & BN_CT_F_ALIAS) && !hit.reply) {
		/* The node's own flows and those of its pods do not come in from outside. */
		if (!(hit.flags & BN_CT_F_NET) ||
		    ((hit.flags & BN_CT_F_FOREIGN) && bn_addr_slot(&p->t.src)))
			return -BN_DROP_MARTIAN;
		return bn_net_orig(ctx, p, &hit, 0);
	} else if (hit.e && hit.reply &&
		   (hit.flags & (BN_CT_F_NAT | BN_CT_F_ALIAS | BN_CT_F_FOREIGN)) == BN_CT_F_NAT &&
		   ((hit.flags & (BN_CT_F_NET | BN_CT_F_MASQ)) || !hit.e->ifindex)) {
		r = (hit.flags & BN_CT_F_MASQ) ? bn_net_pod(p, &hit) : 0;
		return r || (p->todo & BN_DO_DELIVER) ? r : bn_net_reply(ctx, p, &hit);
	} else if (hit.e && bn_net_forged(p, &hit)) {
		return -BN_DROP_MARTIAN;
	} else if (hit.e && !hit.reply && (hit.flags & (BN_CT_F_NAT | BN_CT_F_ALIAS | BN_CT_F_NET)) ==
						  (BN_CT_F_NAT | BN_CT_F_NET)) {
		return bn_ctx_early ? BN_DONE_PASS : bn_net_direct(p, bn_net_reborn(&hit, p));
	} else if (hit.e) {
		return bn_net_pod(p, &hit);
	}
	if (!bn_ctx_early && bn_net_aside(s, p, &hit))
		return bn_net_shift(p, BN_CT_F_NET);
	return bn_net_begin(ctx, p, 0, 0);
}

/* The flow that another CPU has just begun (BN_DONE_AGAIN). */
__noinline int bn_net_again(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit = {};
	int r = 0;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	bn_net_find(s, p, &p->t, p->proto, BN_CT_ZONE_MAIN, &hit);
	if (!hit.e || hit.reply || !(hit.flags & BN_CT_F_ALIAS))
		return -BN_DROP_INTERNAL;
	p->todo = 0;
	if (hit.flags & BN_CT_F_DSR)
		return bn_net_orig_dsr(ctx, p, &hit);
	bn_ct_other(hit.e, &p->x);
	p->todo |= BN_DO_NAT;
	if (!(hit.flags & BN_CT_F_NET)) {
		p->todo |= hit.flags & BN_CT_F_HAIRPIN ? BN_DO_BACK : BN_DO_ROUTED;
	} else if (!bn_addr_same(&p->x.src, &p->t.src)) {
		p->todo |= BN_DO_ROUTED;
		r = bn_net_way(ctx, p);
	}
	return r ?: bn_net_done(p, &hit);
}

#endif
