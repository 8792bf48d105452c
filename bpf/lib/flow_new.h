/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_FLOW_NEW_H
#define BN_BPF_FLOW_NEW_H

/* Packets that no live entry knows: who may send them, where they go, and the entries of their flow.
 *
 * --masquerade-all: what a pod sends to a ClusterIP leaves in the name of this node, as kube-proxy has it, unless
 * the backend is the node itself (there kube-proxy's POSTROUTING is not met either). The stack would drop a
 * packet with a source of the node's that comes out of a pod, so that such packets, and their answers at
 * the server's hook, are sent on by their route (bpf/lib/route.h), where they are not handed to a local pod.
 * Policies judge the real client all the same: the entries know it.
 */

#include "bpf/lib/flow.h"
#include "bpf/lib/route.h"

static __always_inline bool bn_flow_mid(const struct bn_pkt *p)
{
	return p->proto == BN_PROTO_TCP && (p->tcp & (BN_TCP_SYN | BN_TCP_ACK)) != BN_TCP_SYN;
}

/* Can a packet that has no entry only belong to a connection that has begun already? */
static __always_inline bool bn_flow_started(const struct bn_pkt *p)
{
	return p->proto == BN_PROTO_SCTP ? !(p->tcp & BN_TCP_SYN) : bn_flow_mid(p);
}

/* May its entry be one that is still on its way into this table? */
static __always_inline bool bn_flow_on_its_way(const struct bn_pkt *p)
{
	__u32 until = p->state >> 16;

	return until && (__u16)(until - p->now_s) <= BN_STATE_CARRY_S + 1 && bn_flow_started(p);
}

/* A packet that is judged but begins no entry. */
static __always_inline bool bn_flow_passing(const struct bn_pkt *p)
{
	return (p->flags & (BN_PKT_F_ICMP_ERR)) || (p->tcp & BN_TCP_RST);
}

/* Key, hash, state and times of what is to be inserted under the tuple t. A function of its own: the hash
 * takes 100 bytes of stack, and bn_ct_insert is called next.
 */
__noinline int bn_flow_fill(struct bn_pkt *p, struct bn_scratch *s, const struct bn_tuple *t,
			    __u32 zone, __u32 flags)
{
	if (!p || !s || !t)
		return -BN_DROP_INTERNAL;
	bn_ct_ref(&s->ref, t, p->proto, zone);
	s->n.e.key = s->ref.key;
	s->n.h = s->ref.h;
	s->n.now_s = p->now_s;
	s->n.e.flags = flags | (s->ref.swapped ? 0 : BN_CT_F_ORIG_A);
	s->n.e.created = p->now_s;
	s->n.e.expires = p->now_s + bn_ct_lifetime(flags, p->proto);
	return 0;
}

/* Another client port: a pod's own beside it, or this node's (`net`) above the NodePorts' default
 * range. Never a reserved one; false: a NodePort. `own`: the client's, where it is in that range: one
 * client's flows never meet each other so, and of 32,768 random ports 8 tries miss soon.
 */
static __always_inline bool bn_flow_port(struct bn_pkt *p, __u32 rnd, bool net, bool own)
{
	if (!net) {
		p->x.sport = bpf_htons(1024 + ((__u64)rnd * 64512 >> 32));
		return true;
	}
	p->x.sport = own && bpf_ntohs(p->t.sport) >= 32768 ? p->t.sport : bpf_htons(32768 | (rnd >> 17));
	return !bn_sel_is_nodeport(&p->x.src, p->x.sport, p->proto);
}

/* The reverse entry of a translated flow, under the tuple p->x; picks another client port while a
 * flow that is not this one has that tuple, and from the beginning where the client's own is of no
 * account. When most of a pod's ports are in use towards one server (UDP has no end, entries last a minute and
 * more), a question over UDP takes its own: what had it was the same socket address's.
 */
static __always_inline int bn_flow_insert_post(struct bn_pkt *p, struct bn_scratch *s, __u32 flags,
					       bool net)
{
	const __u32 any = (net ? BN_CT_F_SNAT : BN_CT_F_SHIFTED) | BN_CT_F_MASQ;
	const bool own = p->proto == BN_PROTO_UDP && !net && !(flags & (BN_CT_F_SHIFTED | BN_CT_F_SNAT | BN_CT_F_MASQ));
	__u32 rnd = p->rnd;
	int r = 1;

	s->n.e.xs = p->t.src;
	s->n.e.xd = p->t.dst;
	s->n.e.xsp = p->t.sport;
	s->n.e.xdp = p->t.dport;
	s->n.replace = 0;
	net = net || (flags & BN_CT_F_MASQ);
	for (int i = 0; i < BN_FLOW_PORT_TRIES; i++) {
		if (i || (flags & any)) {
			rnd = rnd * 1664525u + 1013904223u;
			flags |= BN_CT_F_SNAT;
			if (!bn_flow_port(p, rnd, net, net && !i))
				continue;
		}
		bn_flow_fill(p, s, &p->x, BN_CT_ZONE_MAIN, flags);
		r = bn_ct_insert(&s->n);
		if (r <= 0)
			return r;
	}
	if (!own)
		return -BN_DROP_NAT_PORTS;
	p->x.sport = p->t.sport;
	s->n.replace = 1;
	bn_flow_fill(p, s, &p->x, BN_CT_ZONE_MAIN, flags & ~BN_CT_F_SNAT);
	r = bn_ct_insert(&s->n);
	return r <= 0 ? r : -BN_DROP_NAT_PORTS;
}

/* The key of s->n, the client's own tuple, has a live entry: another CPU's, which has had a packet of the same flow
 * at the same moment. BN_DONE_AGAIN: that one counts, and the entry that was made here for replies is
 * given up. 0: it is no such flow.
 */
__noinline int bn_flow_yield(struct bn_pkt *p)
{
	const __u32 both = BN_CT_F_NAT | BN_CT_F_ALIAS;
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit = {};

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	bn_ct_find(&s->ref, &hit);
	if (!hit.e || hit.reply || !(hit.flags & BN_CT_F_ALIAS) || !(hit.flags & (BN_CT_F_NAT | BN_CT_F_DSR)))
		return 0;
	if ((s->n.e.flags & both) == both &&
	    !(bn_addr_same(&hit.e->xs, &p->x.src) && bn_addr_same(&hit.e->xd, &p->x.dst) &&
	      hit.e->xsp == p->x.sport && hit.e->xdp == p->x.dport)) {
		bn_ct_ref_far(&s->ref, &p->x, p->proto, BN_CT_ZONE_MAIN);
		bn_ct_find(&s->ref, &hit);
		if (hit.e && (hit.flags & both) == BN_CT_F_NAT && bn_addr_same(&hit.e->xs, &p->t.src) &&
		    bn_addr_same(&hit.e->xd, &p->t.dst) && hit.e->xsp == p->t.sport)
			*(volatile __u32 *)&hit.e->expires = p->now_s;
	}
	p->todo = 0;
	return BN_DONE_AGAIN;
}

/* Both entries of a translated flow (p->t -> p->x), or the one of any other. `net`: a service's flow
 * at an uplink.
 */
static __always_inline int bn_flow_enter(struct bn_pkt *p, struct bn_scratch *s, __u32 flags,
					 __u32 replace, const bool net)
{
	__u8 zone = flags & BN_CT_F_SHIFTED ? BN_CT_ZONE_SHIFTED : BN_CT_ZONE_MAIN;
	bool up = bn_ctx_early && (p->todo & BN_DO_UP); /* counted by TC */
	int r;

	s->n.e.bytes[0] = 0;
	s->n.e.packets[0] = 0;
	if (flags & BN_CT_F_NAT) {
		r = bn_flow_insert_post(p, s, flags, net);
		if (r < 0)
			return r;
		s->n.e.xs = p->x.src;
		s->n.e.xd = p->x.dst;
		s->n.e.xsp = p->x.sport;
		s->n.e.xdp = p->x.dport;
		flags |= BN_CT_F_ALIAS;
	}
	s->n.e.bytes[0] = up ? 0 : p->len; /* this packet */
	s->n.e.packets[0] = !up;
	s->n.replace = replace;
	bn_flow_fill(p, s, &p->t, zone, flags);
	r = bn_ct_insert(&s->n);
	if (r <= 0 || !(flags & (BN_CT_F_NAT | BN_CT_F_DSR)))
		return r < 0 ? r : 0;
	r = bn_flow_yield(p);
	if (r)
		return r;
	s->n.replace = 1;
	r = bn_ct_insert(&s->n);
	return r < 0 ? r : 0;
}

__noinline int bn_flow_insert(struct bn_pkt *p, __u32 flags, __u32 replace)
{
	struct bn_scratch *s = bn_scratch_get();

	return p && s ? bn_flow_enter(p, s, flags, replace, false) : -BN_DROP_INTERNAL;
}

/* A new entry of a flow that no pod here began, no policy has admitted, and no service serves; `ifindex`: where it
 * comes in.
 */
static __always_inline void bn_flow_blank(struct bn_scratch *s, __u32 ifindex)
{
	s->n.e.ifindex = ifindex;
	s->n.e.rifindex = 0;
	s->n.e.eg_stamp = 0;
	s->n.e.in_stamp = 0;
	s->n.e.svc_idx = 0;
	s->n.e.svc_gen = 0;
	s->n.e.slot = 0;
}

/* The rule sets of a new flow's ends, as bn_ct_write takes them. */
static __always_inline void bn_flow_fresh(const struct bn_pkt *p, struct bn_scratch *s)
{
	s->n.e.http = p->http[BN_DIR_EGRESS] | (__u32)p->http[BN_DIR_INGRESS] << BN_CT_HTTP_SHIFT(BN_DIR_INGRESS);
}

static __always_inline __u64 bn_flow_fresh_stamp(const struct bn_pkt *p, __u32 side)
{
	return p->epoch | (p->http[side] ? BN_CT_STAMP_HTTP : 0);
}

/* Is the server a pod of this node that may be reached past the stack? Then its ingress policy is
 * asked here, because its own hook will not see the flow. 1: yes; 0: no; negative: denied.
 */
static __always_inline int bn_flow_bypass(struct bn_pkt *p, struct bn_scratch *s,
					  const struct bn_iface *from)
{
	const struct bn_iface *to;
	int r;

	if (!cfg_bypass || !bn_iface_bypass(from) || (p->flags & BN_PKT_F_FRAG) || p->ttl <= 1)
		return 0;
	if (bn_addr_who(&s->ends.t.dst, &s->who))
		return -BN_DROP_INTERNAL;
	if (!s->who.slot || !s->who.ifindex || s->who.ifindex == p->ifindex)
		return 0;
	to = bn_iface_get(s->who.ifindex);
	/* Another MTU at the other end: what does not fit is for the stack to split or to refuse. (Looked at
	 * once a flow; an MTU that changes counts for flows that begin later.)
	 */
	if (!bn_iface_bypass(to) || to->slot != s->who.slot || to->mtu != from->mtu)
		return 0;
	s->ends.slot = s->who.slot;
	s->ends.dir = BN_DIR_INGRESS;
	r = bn_flow_ask(p, &s->ends);
	if (r)
		return r;
	p->http[BN_DIR_INGRESS] = s->ask.http;
	p->to_ifindex = s->who.ifindex;
	p->todo |= BN_DO_DELIVER;
	return 1;
}

/* In the name of this node: x.src, and the way there. */
__noinline int bn_flow_masquerade(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	int r;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	r = bn_net_source(ctx, p, s);
	p->todo |= BN_DO_ROUTED;
	return r;
}

/* Does the backend of s->svc live on this node's own addresses? */
static __always_inline bool bn_flow_to_host(const struct bn_scratch *s)
{
	const struct bn_ep *ep = bn_addr_ep(&s->svc.be.addr);

	return ep && (ep->flags & BN_ADDR_F_HOST);
}

/* Sets p->x for a flow to a service (or one that has to leave its client port). */
static __always_inline int bn_flow_translate(bn_ctx *ctx, struct bn_pkt *p, struct bn_scratch *s, __u32 *flags)
{
	__u32 zero = 0;
	struct bn_state *st = bpf_map_lookup_elem(&state, &zero);

	p->x = p->t;
	if (*flags & BN_CT_F_SHIFTED) {
		*flags |= BN_CT_F_NAT;
		return 0;
	}
	if (!s->svc.idx)
		return 0;
	*flags |= BN_CT_F_NAT | BN_CT_F_INTERNAL;
	p->x.dst = s->svc.be.addr;
	p->x.dport = s->svc.be.port;
	if (!bn_addr_same(&s->svc.be.addr, &p->t.src)) {
		if (!cfg_masquerade_all || s->svc.external || bn_flow_to_host(s))
			return 0;
		*flags |= BN_CT_F_SNAT | BN_CT_F_MASQ;
		return bn_flow_masquerade(ctx, p);
	}
	if (!st)
		return -BN_DROP_INTERNAL;
	p->x.src = p->flags & BN_PKT_F_V6 ? st->node6 : st->node4;
	if (bn_addr_is_zero(&p->x.src))
		return -BN_DROP_NAT_PORTS;
	*flags |= BN_CT_F_HAIRPIN | BN_CT_F_SNAT;
	return 0;
}

/* A local pod's packet that no live entry knows. `shifted`: its tuple is taken by a translated
 * flow. `replace`: the gen of the entry that is there, another life of the same tuple; 0: there is none.
 */
__noinline int bn_flow_out(bn_ctx *ctx, struct bn_pkt *p, __u32 shifted, __u32 replace)
{
	struct bn_scratch *s = bn_scratch_get();
	const struct bn_iface *f;
	__u32 flags = shifted ? BN_CT_F_SHIFTED : 0;
	int slot, r, bypass;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	if (bn_flow_on_its_way(p))
		return -BN_DROP_CT_MIDSTREAM;
	p->http[BN_DIR_EGRESS] = p->http[BN_DIR_INGRESS] = 0;
	f = bn_iface_get(p->ifindex);
	slot = bn_flow_sender(p, f);
	if (slot < 0)
		return slot;
	s->svc.idx = 0;
	s->svc.gen = 0;
	if (!shifted) {
		r = bn_svc_choose(p, &s->svc, 1);
		if (r)
			return r;
	}
	r = bn_flow_translate(ctx, p, s, &flags);
	if (r)
		return r;
	/* Where the entry for the replies will stand, on its way while policies are asked. */
	if ((flags & BN_CT_F_NAT) && !bn_ct_ref_far(&s->ref, &p->x, p->proto, BN_CT_ZONE_MAIN))
		bn_ct_ahead(&s->ref.h);
	if (bn_tunnel_to_node(p))
		return -BN_DROP_TUNNEL;
	if (bn_flow_mid(p))
		flags |= BN_CT_F_MID;
	s->ends.t = p->x;
	s->ends.t.src = p->t.src;
	s->ends.t.sport = p->t.sport;
	s->ends.slot = slot;
	s->ends.ct_flags = flags;
	s->ends.fresh = 1;
	s->ends.proto = p->proto;
	s->ends.dir = BN_DIR_EGRESS;
	s->ends.host = 0;
	r = bn_flow_ask(p, &s->ends);
	if (r)
		return r;
	p->http[BN_DIR_EGRESS] = s->ask.http;
	if ((p->flags & BN_PKT_F_LATER) && bn_pkt_has_ports(p))
		return 0; /* its first fragment made the flow, or was refused one */
	if (bn_flow_passing(p) && !(flags & BN_CT_F_NAT))
		return 0;
	bypass = flags & BN_CT_F_HAIRPIN ? 0 : bn_flow_bypass(p, s, f);
	if (bypass < 0)
		return bypass;
	if (bypass) {
		flags |= BN_CT_F_BYPASS;
		if (!(flags & BN_CT_F_NAT) && f && (f->flags & BN_IF_F_BRIDGE))
			flags |= BN_CT_F_BRIDGED;
		else
			p->todo |= BN_DO_ROUTED;
	}
	s->n.e.ifindex = p->ifindex;
	s->n.e.rifindex = bypass ? p->to_ifindex : flags & BN_CT_F_HAIRPIN ? p->ifindex : 0;
	bn_flow_fresh(p, s);
	s->n.e.eg_stamp = bn_flow_fresh_stamp(p, BN_DIR_EGRESS);
	s->n.e.in_stamp = bypass || (flags & BN_CT_F_HAIRPIN) ? bn_flow_fresh_stamp(p, BN_DIR_INGRESS) : 0;
	s->n.e.svc_idx = s->svc.idx;
	s->n.e.svc_gen = s->svc.gen;
	s->n.e.slot = slot;
	r = bn_flow_insert(p, flags, replace);
	if (r)
		return r;
	p->todo |= BN_DO_NEW | (flags & BN_CT_F_NAT ? BN_DO_NAT : 0);
	if (flags & BN_CT_F_HAIRPIN)
		p->todo |= BN_DO_BACK;
	return 0;
}

/* A packet towards a local pod that no live entry knows. */
__noinline int bn_flow_in(struct bn_pkt *p, __u32 replace)
{
	struct bn_scratch *s = bn_scratch_get();
	const struct bn_iface *f;
	__u32 flags = 0;
	int slot, r;
	bool own;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	if (bn_flow_on_its_way(p))
		return -BN_DROP_CT_MIDSTREAM;
	p->http[BN_DIR_EGRESS] = p->http[BN_DIR_INGRESS] = 0;
	f = bn_iface_get(p->ifindex);
	slot = bn_flow_slot(p, f);
	if (slot < 0)
		return slot;
	p->slot = slot;
	s->ends.host = 0;
	if (!p->in_ifindex) {
		if (bn_addr_who(&p->t.src, &s->who))
			return -BN_DROP_INTERNAL;
		s->ends.host = !!(s->who.flags & BN_ADDR_F_HOST);
	}
	if (bn_flow_mid(p))
		flags |= BN_CT_F_MID;
	s->ends.t = p->t;
	s->ends.slot = slot;
	s->ends.ct_flags = flags;
	s->ends.fresh = 1;
	s->ends.proto = p->proto;
	s->ends.dir = BN_DIR_INGRESS;
	r = bn_flow_ask(p, &s->ends);
	if (r)
		return r;
	p->http[BN_DIR_INGRESS] = s->ask.http;
	if (bn_flow_passing(p) || (p->flags & BN_PKT_F_LATER))
		return 0;
	bn_flow_blank(s, p->in_ifindex);
	own = bn_addr_slot(&p->t.dst) == (__u32)slot;
	if (own) {
		s->n.e.rifindex = slot ? p->ifindex : 0;
		s->n.e.in_stamp = bn_flow_fresh_stamp(p, BN_DIR_INGRESS);
	}
	bn_flow_fresh(p, s);
	r = bn_flow_insert(p, flags, replace);
	if (!r)
		p->todo |= BN_DO_NEW;
	return r;
}

/* --- Flows that are no pod's own: moved aside, found again --------------------------------------- */

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
	return (p->proto == BN_PROTO_TCP || p->proto == BN_PROTO_SCTP) &&
	       (p->tcp & (BN_TCP_SYN | BN_TCP_ACK)) == BN_TCP_SYN && bn_ct_over(hit, p->now_s);
}

/* The flow of a packet; e NULL when it has none that lives. */
static __always_inline void bn_net_find(struct bn_scratch *s, const struct bn_pkt *p,
					const struct bn_tuple *t, __u8 proto, __u8 zone,
					struct bn_ct_hit *hit)
{
	bn_ct_ref(&s->ref, t, proto, zone);
	if (!bn_flow_mid(p))
		bn_ct_fetch(&s->ref.h);
	bn_ct_find(&s->ref, hit);
	if (hit->e && bn_ct_expired(hit->e, p->now_s))
		hit->e = NULL;
}

/* A packet in mid-stream without a flow of its own: was its flow moved aside (zone SHIFTED) for one that
 * has ended since? Then it keeps the port that it was given.
 */
static __always_inline bool bn_net_aside(struct bn_scratch *s, const struct bn_pkt *p,
					 struct bn_ct_hit *hit)
{
	if (!bn_flow_started(p))
		return false;
	bn_net_find(s, p, &p->t, p->proto, BN_CT_ZONE_SHIFTED, hit);
	return hit->e && !hit->reply;
}

static __always_inline void bn_net_find_shifted(struct bn_scratch *s, const struct bn_pkt *p, struct bn_ct_hit *hit)
{
	bn_ct_ref_far(&s->ref, &p->t, p->proto, BN_CT_ZONE_SHIFTED);
	bn_ct_find(&s->ref, hit);
	if (hit->e && bn_ct_expired(hit->e, p->now_s))
		hit->e = NULL;
}

static __always_inline int bn_net_shifted(struct bn_pkt *p, struct bn_ct_hit *hit)
{
	bn_ct_other(hit->e, &p->x);
	p->todo |= BN_DO_NAT;
	return bn_net_done(p, hit);
}

/* A direct flow whose tuple a translated flow has: its own entry is in the other zone, and it goes on
 * under another port. net: BN_CT_F_NET when it comes in from outside, 0 when it is the node's own.
 */
__noinline int bn_net_shift(struct bn_pkt *p, __u32 net)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit = {};
	int r;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	bn_net_find_shifted(s, p, &hit);
	if (hit.e && !bn_net_reborn(&hit, p))
		return bn_net_shifted(p, &hit);
	if (p->flags & BN_PKT_F_LATER)
		return 0;
	p->rnd = bpf_get_prandom_u32();
	p->x = p->t;
	bn_flow_blank(s, net ? p->ifindex : 0);
	p->todo |= BN_DO_NAT | BN_DO_NEW;
	r = bn_flow_insert(p, BN_CT_F_SHIFTED | BN_CT_F_NAT | (net & BN_CT_F_NET), hit.e ? hit.gen : 0);
	if (r != BN_DONE_AGAIN)
		return r;
	bn_net_find_shifted(s, p, &hit);
	return hit.e ? bn_net_shifted(p, &hit) : -BN_DROP_INTERNAL;
}

#endif
