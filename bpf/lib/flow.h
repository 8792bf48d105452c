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
		if ((!r && q->http) || (!mid && http)) {
			p->refuse = BN_REFUSE_UNREACH;
			return -BN_DROP_HTTP_MIDSTREAM;
		}
		if (r && !mid)
			return 0;
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
		p->audit = n->dir == BN_DIR_EGRESS ? BN_DROP_POLICY_EGRESS : BN_DROP_POLICY_INGRESS;
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
		return http ? -BN_DROP_HTTP_UNSUPPORTED : 0;
	if (http) {
		if ((e->http >> shift & BN_CT_HTTP_SET) != http) {
			__sync_fetch_and_and(&e->http, ~(BN_CT_HTTP_SET << shift));
			__sync_fetch_and_or(&e->http, http << shift);
		}
		bn_flow_http(p, e, side);
		stamp |= BN_CT_STAMP_HTTP;
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

/* --- New flows ------------------------------------------------------------------------------- */

static __always_inline bool bn_flow_mid(const struct bn_pkt *p)
{
	return p->proto == BN_PROTO_TCP && (p->tcp & (BN_TCP_SYN | BN_TCP_ACK)) != BN_TCP_SYN;
}

/* Can a packet that has no entry only belong to a connection that has begun already? */
static __always_inline bool bn_flow_started(const struct bn_pkt *p)
{
	return p->proto == BN_PROTO_SCTP ? !(p->tcp & BN_TCP_SYN) : bn_flow_mid(p);
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
static __always_inline bool bn_flow_port(struct bn_pkt *p, __u32 rnd, const bool net, bool own)
{
	__u32 idx;

	if (!net) {
		p->x.sport = bpf_htons(1024 + ((__u64)rnd * 64512 >> 32));
		return true;
	}
	p->x.sport = own && bpf_ntohs(p->t.sport) >= 32768 ? p->t.sport : bpf_htons(32768 | (rnd >> 17));
	return !bn_sel_nodeport(&p->x.src, p->x.sport, p->proto, &idx);
}

/* The reverse entry of a translated flow, under the tuple p->x; picks another client port while a
 * flow that is not this one has that tuple, and from the beginning where the client's own is of no
 * account.
 */
static __always_inline int bn_flow_insert_post(struct bn_pkt *p, struct bn_scratch *s, __u32 flags,
					       const bool net)
{
	const __u32 any = net ? BN_CT_F_SNAT : BN_CT_F_SHIFTED;
	__u32 rnd = p->rnd;
	int r = 1;

	s->n.e.xs = p->t.src;
	s->n.e.xd = p->t.dst;
	s->n.e.xsp = p->t.sport;
	s->n.e.xdp = p->t.dport;
	s->n.replace = 0;
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
	return -BN_DROP_NAT_PORTS;
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
	s->n.replace = replace || (flags & BN_CT_F_NAT);
	bn_flow_fill(p, s, &p->t, zone, flags);
	r = bn_ct_insert(&s->n);
	return r < 0 ? r : 0;
}

__noinline int bn_flow_insert(struct bn_pkt *p, __u32 flags, __u32 replace)
{
	struct bn_scratch *s = bn_scratch_get();

	return p && s ? bn_flow_enter(p, s, flags, replace, false) : -BN_DROP_INTERNAL;
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

/* Sets p->x for a flow to a service (or one that has to leave its client port). */
static __always_inline int bn_flow_translate(struct bn_pkt *p, struct bn_scratch *s, __u32 *flags)
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
	if (!bn_addr_same(&s->svc.be.addr, &p->t.src))
		return 0;
	if (!st)
		return -BN_DROP_INTERNAL;
	p->x.src = p->flags & BN_PKT_F_V6 ? st->node6 : st->node4;
	if (bn_addr_is_zero(&p->x.src))
		return -BN_DROP_NAT_PORTS;
	*flags |= BN_CT_F_HAIRPIN | BN_CT_F_SNAT;
	return 0;
}

/* A local pod's packet that no live entry knows. `shifted`: its tuple is taken by a translated
 * flow. `replace`: the entry that is there is another life of the same tuple.
 */
__noinline int bn_flow_out(struct bn_pkt *p, __u32 shifted, __u32 replace)
{
	struct bn_scratch *s = bn_scratch_get();
	const struct bn_iface *f;
	__u32 flags = shifted ? BN_CT_F_SHIFTED : 0;
	int slot, r, bypass;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
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
	r = bn_flow_translate(p, s, &flags);
	if (r)
		return r;
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
	s->n.e.ifindex = p->in_ifindex;
	own = bn_addr_slot(&p->t.dst) == (__u32)slot;
	s->n.e.rifindex = slot && own ? p->ifindex : 0;
	bn_flow_fresh(p, s);
	s->n.e.eg_stamp = 0;
	s->n.e.in_stamp = own ? bn_flow_fresh_stamp(p, BN_DIR_INGRESS) : 0;
	s->n.e.svc_idx = 0;
	s->n.e.svc_gen = 0;
	s->n.e.slot = 0;
	r = bn_flow_insert(p, flags, replace);
	if (!r)
		p->todo |= BN_DO_NEW;
	return r;
}

#endif
