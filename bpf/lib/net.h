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
 */

#include "bpf/lib/deliver.h"
#include "bpf/lib/flow.h"
#include "bpf/lib/icmp.h"

#define BN_AF_INET 2
#define BN_AF_INET6 10
#define BN_NET_PORT_TRIES 8
/* Ports for translated sources: above the NodePorts' default range, never a reserved one. */
#define BN_NET_PORT_FIRST 32768

/* Length of the IP packet, or of the longest one that GSO will make of it. */
static __always_inline __u32 bn_net_len(bn_ctx *ctx, const struct bn_pkt *p)
{
	__u32 head = p->l4 - p->l3;
	__u8 doff = 5 << 4;

	if (!bn_ctx_gso(ctx))
		return head + p->l4_len;
	if (p->proto != BN_PROTO_TCP)
		return head + 8 + ctx->gso_size;
	bn_ctx_load(ctx, p->l4 + 12, &doff, 1);
	return head + (doff >> 4) * 4 + ctx->gso_size;
}

/* Where a packet with the tuple p->x goes: s->fib.ifindex and its next hop s->nh. What is too long for
 * that way (its MTU or what path-MTU discovery has learned about it) is answered: nobody behind
 * bpf_redirect_neigh looks.
 */
__noinline int bn_net_route(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bpf_fib_lookup *f;
	long r;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	f = &s->fib;
	__builtin_memset(f, 0, sizeof(*f));
	__builtin_memset(&s->nh, 0, sizeof(s->nh));
	f->l4_protocol = p->proto;
	f->ifindex = p->ifindex;
	f->tot_len = bn_net_len(ctx, p);
	if (p->flags & BN_PKT_F_V6) {
		f->family = BN_AF_INET6;
		__builtin_memcpy(f->ipv6_src, &p->x.src, 16);
		__builtin_memcpy(f->ipv6_dst, &p->x.dst, 16);
	} else {
		f->family = BN_AF_INET;
		f->ipv4_src = p->x.src.w[3];
		f->ipv4_dst = p->x.dst.w[3];
	}
	r = bpf_fib_lookup(ctx, f, sizeof(*f), 0);
	if (r == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		p->refuse = BN_REFUSE_TOO_BIG;
		return -BN_DROP_MTU;
	}
	if (r != BPF_FIB_LKUP_RET_SUCCESS && r != BPF_FIB_LKUP_RET_NO_NEIGH)
		return -BN_DROP_NO_ROUTE;
	s->nh.nh_family = f->family;
	if (f->family == BN_AF_INET)
		s->nh.ipv4_nh = f->ipv4_dst;
	else
		__builtin_memcpy(s->nh.ipv6_nh, f->ipv6_dst, 16);
	return 0;
}

/* Out again by the route to the packet's new destination; BN_DO_NAT: it is still to be written. */
__noinline int bn_net_forward(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	int r;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	if (p->ttl <= 1) {
		p->refuse = BN_REFUSE_TTL;
		return -BN_DROP_TTL;
	}
	r = bn_net_route(ctx, p);
	if (!r && (p->todo & BN_DO_NAT))
		r = bn_nat_write(ctx, p, true);
	if (r)
		return r;
	/* The kernel takes off an Ethernet header in any case, and drops what has none (IPIP). */
	if (!p->l3 && bpf_skb_change_head(ctx, ETH_HLEN, 0))
		return -BN_DROP_REDIRECT;
	return bpf_redirect_neigh(s->fib.ifindex, &s->nh, sizeof(s->nh), 0) == TC_ACT_REDIRECT
		       ? BN_DONE_REDIRECT : -BN_DROP_REDIRECT;
}

/* The address that stands for outside clients behind the interface towards the backend. */
static __always_inline int bn_net_source(bn_ctx *ctx, struct bn_pkt *p, struct bn_scratch *s)
{
	const struct bn_iface *f;
	struct bn_state *st;
	__u32 zero = 0;
	int r = bn_net_route(ctx, p);

	if (r)
		return r;
	f = bn_iface_get(s->fib.ifindex);
	if (f)
		p->x.src = p->flags & BN_PKT_F_V6 ? f->addr6 : f->addr4;
	if (!f || bn_addr_is_zero(&p->x.src)) {
		st = bpf_map_lookup_elem(&state, &zero);
		if (!st)
			return -BN_DROP_INTERNAL;
		p->x.src = p->flags & BN_PKT_F_V6 ? st->node6 : st->node4;
	}
	return bn_addr_is_zero(&p->x.src) ? -BN_DROP_NAT_PORTS : 0;
}

/* The entry under the translated tuple. A source that is translated takes another port where a flow
 * has the tuple already, a NodePort never.
 */
static __always_inline int bn_net_insert_post(struct bn_pkt *p, struct bn_scratch *s, __u32 flags)
{
	__u32 rnd = p->rnd;
	int r = 1;

	s->n.e.xs = p->t.src;
	s->n.e.xd = p->t.dst;
	s->n.e.xsp = p->t.sport;
	s->n.e.xdp = p->t.dport;
	s->n.replace = 0;
	for (int i = 0; i < BN_NET_PORT_TRIES; i++) {
		if (i || (flags & BN_CT_F_SNAT)) {
			__u32 idx;

			rnd = rnd * 1664525u + 1013904223u;
			p->x.sport = bpf_htons(BN_NET_PORT_FIRST | (rnd >> 17));
			flags |= BN_CT_F_SNAT;
			if (bn_sel_nodeport(&p->x.src, p->x.sport, p->proto, &idx))
				continue;
		}
		bn_flow_fill(p, s, &p->x, BN_CT_ZONE_MAIN, flags);
		r = bn_ct_insert(&s->n);
		if (r <= 0)
			return r;
	}
	return -BN_DROP_NAT_PORTS;
}

/* Both entries of the flow p->t -> p->x. */
__noinline int bn_net_insert(struct bn_pkt *p, __u32 flags)
{
	struct bn_scratch *s = bn_scratch_get();
	int r;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	s->n.e.ifindex = flags & BN_CT_F_NET ? p->ifindex : 0;
	s->n.e.rifindex = 0;
	s->n.e.eg_stamp = 0;
	s->n.e.in_stamp = 0;
	s->n.e.svc_idx = s->svc.idx;
	s->n.e.svc_gen = s->svc.gen;
	s->n.e.slot = 0;
	r = bn_net_insert_post(p, s, flags);
	if (r < 0)
		return r;
	s->n.e.xs = p->x.src;
	s->n.e.xd = p->x.dst;
	s->n.e.xsp = p->x.sport;
	s->n.e.xdp = p->x.dport;
	s->n.replace = 1;
	bn_flow_fill(p, s, &p->t, BN_CT_ZONE_MAIN, flags | BN_CT_F_ALIAS);
	r = bn_ct_insert(&s->n);
	p->todo |= BN_DO_NAT | BN_DO_NEW;
	return r < 0 ? r : 0;
}

/* Does the backend live here, whatever its EndpointSlice says (one made by hand names no node)? Its
 * replies to an address of this node would go to the stack, not through from_net.
 */
static __always_inline bool bn_net_here(struct bn_scratch *s)
{
	const struct bn_ep *ep = bn_addr_ep(&s->svc.be.addr);

	return ep && ((ep->flags & BN_ADDR_F_HOST) || BN_EP_SLOT(*(volatile __u64 *)&ep->word));
}

/* A packet that no live entry knows, to a service: chooses, and makes the flow. 0 with no BN_DO_NAT: it
 * is none of ours.
 */
__noinline int bn_net_begin(bn_ctx *ctx, struct bn_pkt *p, __u32 host)
{
	struct bn_scratch *s = bn_scratch_get();
	__u32 flags = BN_CT_F_NAT | (host ? BN_CT_F_INTERNAL : BN_CT_F_NET);
	int r;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	s->svc.idx = 0;
	s->svc.gen = 0;
	p->rnd = bpf_get_prandom_u32();
	r = bn_svc_choose(p, &s->svc, host);
	if (r || !s->svc.idx)
		return r;
	p->x = p->t;
	p->x.dst = s->svc.be.addr;
	p->x.dport = s->svc.be.port;
	if (!host && !(s->svc.be.flags & BN_BE_F_LOCAL) && !bn_net_here(s)) {
		r = bn_net_source(ctx, p, s);
		if (r)
			return r;
		flags |= BN_CT_F_SNAT;
	}
	return bn_net_insert(p, flags);
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
	if (!bn_svc_still(p, &s->svc, internal))
		return 1;
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

static __always_inline int bn_net_done(struct bn_pkt *p, struct bn_ct_hit *hit)
{
	if (!bn_ct_same(hit))
		return -BN_DROP_INTERNAL;
	if (bn_ct_due(hit, p))
		bn_ct_track(hit->e, p, hit->flags, hit->reply);
	bn_ct_count(hit->e, p, hit->reply);
	return 0;
}

/* A new SYN on a tuple whose old life is over. */
static __always_inline bool bn_net_reborn(const struct bn_ct_hit *hit, const struct bn_pkt *p)
{
	const __u32 over = BN_CT_F_CLOSED | BN_CT_F_FIN_ORIG | BN_CT_F_FIN_REPLY;

	return (p->proto == BN_PROTO_TCP || p->proto == BN_PROTO_SCTP) && (hit->flags & over) &&
	       (p->tcp & (BN_TCP_SYN | BN_TCP_ACK)) == BN_TCP_SYN;
}

/* The flow of a packet; e NULL when it has none that lives. */
static __always_inline void bn_net_find(struct bn_scratch *s, const struct bn_pkt *p,
					const struct bn_tuple *t, __u8 proto, __u8 zone,
					struct bn_ct_hit *hit)
{
	bn_ct_ref(&s->ref, t, proto, zone);
	bn_ct_find(&s->ref, hit);
	if (hit->e && bn_ct_expired(hit->e, p->now_s))
		hit->e = NULL;
}

/* Original direction of a translated flow, under the client's own tuple. */
static __always_inline int bn_net_orig(bn_ctx *ctx, struct bn_pkt *p, struct bn_ct_hit *hit,
				       __u32 host)
{
	int r;

	if (bn_net_reborn(hit, p))
		return bn_net_begin(ctx, p, host);
	r = bn_net_moved(p, hit);
	if (r < 0)
		return r;
	if (r)
		return bn_net_begin(ctx, p, host);
	bn_ct_other(hit->e, &p->x);
	p->todo |= BN_DO_NAT;
	if (!bn_ct_same(hit))
		return -BN_DROP_INTERNAL;
	/* The entry for the replies was given up before the flow was established: begin again. */
	if (bn_ct_due(hit, p) && bn_ct_track(hit->e, p, hit->flags, hit->reply) &&
	    !(p->flags & BN_PKT_F_LATER) && !bn_flow_mid(p))
		return bn_net_begin(ctx, p, host);
	bn_ct_count(hit->e, p, hit->reply);
	return 0;
}

/* An ICMP error about a translated flow that began outside: 0 with BN_DO_ROUTED, BN_DONE_PASS, or
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
	if (!hit.e || !(hit.flags & BN_CT_F_NET))
		return BN_ICMP_OTHER;
	alias = hit.flags & BN_CT_F_ALIAS;
	if (!bn_icmp_translate(p, &s->inner, &hit, !alias))
		return BN_DONE_PASS;
	if (!bn_ct_same(&hit))
		return -BN_DROP_INTERNAL;
	r = bn_icmp_write(ctx, p, &s->inner);
	if (r)
		return r;
	/* Towards the client it may carry an address of this node: the stack would not take it. */
	if (!alias && p->hook == BN_HOOK_FROM_NET)
		p->todo |= BN_DO_ROUTED;
	return p->todo & BN_DO_ROUTED ? 0 : BN_DONE_PASS;
}

/* Has what lives behind a pod's interface no way to this uplink? A bridge that is an uplink may have
 * pods and containers of others as ports: what comes in from it went through their own programs.
 */
static __always_inline bool bn_net_apart(const struct bn_pkt *p, __u32 ifindex)
{
	const struct bn_iface *f = bn_iface_get(ifindex);

	return !f || f->role != BN_ROLE_POD || f->master != p->ifindex;
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

/* A direct flow whose tuple a translated flow has: its own entry is in the other zone, and it goes on
 * under another port. net: BN_CT_F_NET when it comes in from outside, 0 when it is the node's own.
 */
__noinline int bn_net_shift(struct bn_pkt *p, __u32 net)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	bn_net_find(s, p, &p->t, p->proto, BN_CT_ZONE_SHIFTED, &hit);
	if (hit.e && !bn_net_reborn(&hit, p)) {
		bn_ct_other(hit.e, &p->x);
		p->todo |= BN_DO_NAT;
		return bn_net_done(p, &hit);
	}
	if (p->flags & BN_PKT_F_LATER)
		return 0;
	p->rnd = bpf_get_prandom_u32();
	p->x = p->t;
	s->n.e.ifindex = net ? p->ifindex : 0;
	s->n.e.rifindex = 0;
	s->n.e.eg_stamp = 0;
	s->n.e.in_stamp = 0;
	s->n.e.svc_idx = 0;
	s->n.e.svc_gen = 0;
	s->n.e.slot = 0;
	p->todo |= BN_DO_NAT | BN_DO_NEW;
	return bn_flow_insert(p, BN_CT_F_SHIFTED | BN_CT_F_NAT | (net & BN_CT_F_NET), 1);
}

/* The same, from outside: a client that speaks to the service and to its backend itself may use one port
 * for both, its stack sees two destinations. A new connection takes the tuple of one that is over.
 */
__noinline int bn_net_direct(struct bn_pkt *p, __u32 over)
{
	struct bn_scratch *s = bn_scratch_get();

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	if (!over)
		return bn_net_shift(p, BN_CT_F_NET);
	s->n.e.ifindex = p->ifindex;
	s->n.e.rifindex = 0;
	s->n.e.eg_stamp = 0;
	s->n.e.in_stamp = 0;
	s->n.e.svc_idx = 0;
	s->n.e.svc_gen = 0;
	s->n.e.slot = 0;
	return bn_flow_insert(p, 0, 1);
}

/* From outside. p->todo says what is to be done; BN_DO_ROUTED: out again, not to the stack. */
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
		if (!(hit.flags & BN_CT_F_NET))
			return -BN_DROP_MARTIAN;
		r = bn_net_orig(ctx, p, &hit, 0);
	} else if (hit.e && hit.reply && (hit.flags & (BN_CT_F_NAT | BN_CT_F_ALIAS)) == BN_CT_F_NAT &&
		   ((hit.flags & BN_CT_F_NET) || !hit.e->ifindex)) {
		bn_net_turn_back(p, hit.e);
		if (hit.flags & BN_CT_F_NET)
			p->todo |= BN_DO_ROUTED;
		return bn_net_done(p, &hit);
	} else if (hit.e && bn_net_forged(p, &hit)) {
		return -BN_DROP_MARTIAN;
	} else if (hit.e && !hit.reply && (hit.flags & (BN_CT_F_NAT | BN_CT_F_ALIAS | BN_CT_F_NET)) ==
						  (BN_CT_F_NAT | BN_CT_F_NET)) {
		return bn_net_direct(p, bn_net_reborn(&hit, p));
	} else if (hit.e) {
		return 0; /* a pod's own flow: its hooks follow it */
	} else {
		if (bn_addr_who(&p->t.src, &s->who))
			return -BN_DROP_INTERNAL;
		if ((s->who.flags & BN_ADDR_F_HOST) ||
		    (s->who.slot && bn_net_apart(p, s->who.ifindex)))
			return -BN_DROP_MARTIAN;
		r = bn_net_begin(ctx, p, 0);
	}
	if (!r && (p->todo & BN_DO_NAT) && !bn_addr_same(&p->x.src, &p->t.src))
		p->todo |= BN_DO_ROUTED;
	return r;
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
	s->n.e.ifindex = 0;
	s->n.e.rifindex = p->ifindex;
	s->n.e.eg_stamp = 0;
	s->n.e.in_stamp = 0;
	s->n.e.svc_idx = 0;
	s->n.e.svc_gen = 0;
	s->n.e.slot = 0;
	r = bn_flow_insert(p, bn_flow_mid(p) ? BN_CT_F_MID : 0, 0);
	/* It is a note, not a condition: a full table stops nothing of the node's own. */
	return r == -BN_DROP_CT_FULL ? 0 : r;
}

/* Out of this node. BN_DO_ROUTED: by the route to the new destination instead of this interface. */
static __always_inline int bn_net_out(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit;
	int r;

	if (!s)
		return -BN_DROP_INTERNAL;
	bn_net_find(s, p, &p->t, p->proto, BN_CT_ZONE_MAIN, &hit);
	if (hit.e && hit.reply && (hit.flags & (BN_CT_F_NAT | BN_CT_F_ALIAS | BN_CT_F_NET)) ==
					  (BN_CT_F_NAT | BN_CT_F_NET)) {
		bn_net_turn_back(p, hit.e);
		return bn_net_done(p, &hit);
	}
	if (p->in_ifindex)
		return 0;
	if (!hit.e) {
		r = bn_net_begin(ctx, p, 1);
		if (r || (p->todo & BN_DO_NAT)) {
			p->todo |= BN_DO_ROUTED;
			return r;
		}
		return bn_net_note(p);
	}
	if (hit.reply)
		return 0;
	if (hit.flags & BN_CT_F_ALIAS) {
		if (hit.flags & BN_CT_F_NET)
			return 0;
		p->todo |= BN_DO_ROUTED;
		return bn_net_orig(ctx, p, &hit, 1);
	}
	if ((hit.flags & (BN_CT_F_NAT | BN_CT_F_NET)) == (BN_CT_F_NAT | BN_CT_F_NET))
		return bn_net_shift(p, 0);
	if (!(hit.flags & BN_CT_F_NAT) && !hit.e->ifindex)
		return bn_net_done(p, &hit);
	return 0;
}

#endif
