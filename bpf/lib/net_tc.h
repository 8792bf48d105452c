/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_NET_TC_H
#define BN_BPF_NET_TC_H

/* What only TC does at uplinks and tunnels: sending out again by redirect_neigh, ICMP errors, and
 * everything that leaves this node.
 */

#include "bpf/lib/deliver.h"
#include "bpf/lib/dsr_tc.h"
#include "bpf/lib/icmp.h"
#include "bpf/lib/net.h"

/* Out again by the route to the packet's new destination; BN_DO_NAT: it is still to be written. */
__noinline int bn_net_forward(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	int r = 0;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	if (!(p->todo & BN_DO_WAY))
		r = bn_net_way(ctx, p);
	if (!r && (p->todo & BN_DO_DSR))
		r = bn_dsr_pack(ctx, p);
	else if (!r && (p->todo & BN_DO_NAT))
		r = bn_nat_write(ctx, p, true);
	if (r)
		return r;
	return bn_deliver_way(ctx, p);
}

/* An ICMP error about a translated flow that began outside, or here: 0 with BN_DO_ROUTED, BN_DONE_PASS, or
 * -BN_DROP_x; BN_ICMP_OTHER: about none of these.
 */
__noinline int bn_net_icmp(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit = {};
	bool alias;
	int r;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	if ((p->flags & BN_PKT_F_LATER) || bn_icmp_inner(ctx, p, &s->inner))
		return BN_ICMP_OTHER;
	bn_net_find(s, p, &s->inner.t, s->inner.proto, BN_CT_ZONE_MAIN, &hit);
	if (!hit.e || !((hit.flags & (BN_CT_F_NET | BN_CT_F_MASQ)) || bn_ct_of_node(&hit)))
		return BN_ICMP_OTHER;
	alias = hit.flags & BN_CT_F_ALIAS;
	if ((hit.flags & BN_CT_F_DSR) && hit.reply && p->hook == BN_HOOK_FROM_NET) {
		/* From the client, about an answer that only the backend's node knows. */
		s->svc.be.addr = hit.e->xd;
		s->svc.be.port = hit.e->xdp;
		r = bn_dsr_target(p, s);
		return r ?: bn_net_source(ctx, p, s);
	}
	if (!bn_icmp_translate(p, &s->inner, &hit, !alias))
		return BN_DONE_PASS;
	if (!bn_ct_same(&hit))
		return -BN_DROP_INTERNAL;
	r = bn_icmp_write(ctx, p, &s->inner);
	if (r)
		return r;
	/* Towards the client it may carry an address of this node: the stack would not take it. */
	if (!alias && p->hook == BN_HOOK_FROM_NET && (hit.flags & (BN_CT_F_NET | BN_CT_F_MASQ)))
		p->todo |= BN_DO_ROUTED;
	/* And so it does towards a server that knows the client as this node. */
	if (alias && p->hook == BN_HOOK_FROM_NET && !bn_addr_same(&p->x.src, &p->t.src))
		p->todo |= BN_DO_ROUTED;
	return p->todo & BN_DO_ROUTED ? 0 : BN_DONE_PASS;
}

/* Flows of the node to pods and nodes are written down, so that no translated flow takes their tuple. */
__noinline int bn_net_note(struct bn_pkt *p)
{
	const struct bn_ep *ep;
	struct bn_scratch *s;
	int r;

	if (!p || !bn_pkt_has_ports(p) || (p->flags & BN_PKT_F_LATER) || (p->tcp & BN_TCP_RST))
		return 0;
	ep = bn_addr_ep(&p->t.dst);
	if (!ep || !(ep->flags & (BN_ADDR_F_POD | BN_ADDR_F_NODE)))
		return 0;
	s = bn_scratch_get();
	if (!s)
		return -BN_DROP_INTERNAL;
	bn_flow_blank(s, 0);
	s->n.e.rifindex = p->ifindex;
	r = bn_flow_insert(p, bn_flow_mid(p) ? BN_CT_F_MID : 0, 0);
	/* It is a note, not a condition: a full table stops nothing of the node's own. */
	return r == -BN_DROP_CT_FULL ? 0 : r;
}

/* The node's own packet to a service: to the endpoint's way, or back to the node itself. */
static __always_inline int bn_net_own(struct bn_pkt *p, int r)
{
	if (!(p->todo & BN_DO_BACK))
		p->todo |= BN_DO_ROUTED;
	return r;
}

/* Out of this node. BN_DO_ROUTED: by the route to the new destination instead of this interface. */
static __always_inline int bn_net_out(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit;
	int r;

	if (!s)
		return -BN_DROP_INTERNAL;
	if (bn_dsr_forged(ctx, p))
		return -BN_DROP_SPOOFED;
	bn_net_find(s, p, &p->t, p->proto, BN_CT_ZONE_MAIN, &hit);
	if (hit.e && hit.reply &&
	    (hit.flags & (BN_CT_F_NAT | BN_CT_F_ALIAS | BN_CT_F_NET | BN_CT_F_FOREIGN)) ==
					  (BN_CT_F_NAT | BN_CT_F_NET)) {
		bn_net_turn_back(p, hit.e);
		return bn_net_done(p, &hit);
	}
	if (p->in_ifindex)
		return 0;
	if (!hit.e) {
		if (bn_net_aside(s, p, &hit))
			return bn_net_shift(p, 0);
		r = bn_net_begin(ctx, p, 1, 0);
		if (r || (p->todo & BN_DO_NAT))
			return bn_net_own(p, r);
		return bn_net_note(p);
	}
	if (hit.reply && (hit.flags & BN_CT_F_HAIRPIN) && !(hit.flags & BN_CT_F_ALIAS)) {
		bn_net_turn_back(p, hit.e);
		p->todo |= BN_DO_BACK;
		return bn_net_done(p, &hit);
	}
	if (hit.reply)
		return 0;
	if (hit.flags & BN_CT_F_ALIAS) {
		if (hit.flags & BN_CT_F_NET)
			return 0;
		r = bn_net_orig(ctx, p, &hit, 1);
		if ((hit.flags & BN_CT_F_HAIRPIN) && !(p->todo & BN_DO_NEW))
			p->todo |= BN_DO_BACK;
		return bn_net_own(p, r);
	}
	if ((hit.flags & BN_CT_F_NAT) && (hit.flags & (BN_CT_F_NET | BN_CT_F_MASQ)))
		return bn_net_shift(p, 0);
	if (!(hit.flags & BN_CT_F_NAT) && !hit.e->ifindex)
		return bn_net_done(p, &hit);
	return 0;
}

#endif
