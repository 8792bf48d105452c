/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_DSR_H
#define BN_BPF_DSR_H

/* Direct server return (maps/dsr.h says what is on the wire).
 *
 * The node that the client asks has one entry for such a flow, under the client's own tuple
 * (BN_CT_F_DSR, no BN_CT_F_NAT): it sees one direction only, and neither knows nor needs a translated
 * tuple. The backend's node unpacks, finds the packet as the client sent it, and goes on as if it had come in
 * there, but for the choice of the backend; its entries are those of any flow to a backend here.
 *
 * Who may send: an address of a node whose Node object says that it speaks DSR, and that is not this one.
 * What it may reach: a backend on this node, which the service that the client's packet names has. Pods
 * and processes of such nodes cannot forge it: to_net lets nothing to that port of a peer leave but what
 * from_net has packed.
 */

#include "bpf/lib/flow_new.h"
#include "bpf/lib/nat.h"

/* On what was packed, from from_net to to_net; it does not cross namespaces. */
#define BN_MARK_DSR 0xb9f0d512

static __always_inline const struct bn_dsr_peer *bn_dsr_peer(const struct bn_addr *a, __u32 flag)
{
	struct bn_scratch *s = bn_scratch_get();
	const struct bn_dsr_peer *v;

	if (!s)
		return NULL;
	s->dsr_key = *a; /* neither on the stack nor in another function's memory, which 6.1 takes for no key */
	v = bpf_map_lookup_elem(&dsr, &s->dsr_key);
	return v && (v->flags & flag) ? v : NULL;
}

/* Does a new flow to the backend in s->svc go by DSR? Not one of a node's or pod's that speaks it, too: the
 * backend's node might be its own.
 */
static __always_inline bool bn_dsr_wanted(const struct bn_pkt *p, const struct bn_scratch *s)
{
	return (p->proto == BN_PROTO_TCP ? cfg_dsr_tcp : cfg_dsr_other) &&
	       bn_dsr_peer(&s->svc.be.addr, BN_DSR_F_BACKEND) && !bn_dsr_peer(&p->t.src, ~0u);
}

/* p->x becomes the outer tuple towards the node of s->svc.be (its source is the caller's business). */
static __always_inline int bn_dsr_target(struct bn_pkt *p, struct bn_scratch *s)
{
	const struct bn_dsr_peer *v = bn_dsr_peer(&s->svc.be.addr, BN_DSR_F_BACKEND);

	if (!v)
		return -BN_DROP_NO_ROUTE; /* it was a peer when the flow began */
	p->x = p->t;
	p->x.dst = v->node;
	p->todo |= BN_DO_DSR | BN_DO_ROUTED;
	return 0;
}

/* The one entry of such a flow. */
static __always_inline int bn_dsr_insert(struct bn_pkt *p, struct bn_scratch *s, __u32 replace)
{
	bn_flow_blank(s, p->ifindex);
	s->n.e.svc_idx = s->svc.idx;
	s->n.e.svc_gen = s->svc.gen;
	s->n.e.xs = p->t.src;
	s->n.e.xsp = p->t.sport;
	s->n.e.xd = s->svc.be.addr;
	s->n.e.xdp = s->svc.be.port;
	p->todo |= BN_DO_NEW;
	return bn_flow_enter(p, s, BN_CT_F_NET | BN_CT_F_ALIAS | BN_CT_F_DSR, replace, true);
}

/* For a new flow that another node has chosen the backend of (s->dsr_in): as bn_svc_choose, and what does not
 * hold here is dropped without an answer.
 */
__noinline int bn_dsr_choose(struct bn_pkt *p, struct bn_svc_hit *h)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_front_key key = {.port = 0, .scope = BN_SCOPE_EXACT};
	struct bn_svc *svc;
	__u64 range;
	__u32 idx;

	if (!p || !h || !s)
		return -BN_DROP_INTERNAL;
	if (!bn_pkt_has_ports(p))
		return -BN_DROP_DSR;
	key.addr = p->t.dst;
	key.port = p->t.dport;
	key.proto = p->proto;
	svc = bn_sel_front(&key, &idx);
	if (!svc) /* a NodePort of the other node */
		svc = bn_sel_nodeport(&p->t.dst, p->t.dport, p->proto, &idx);
	if (!svc)
		return -BN_DROP_DSR;
	if (p->flags & BN_PKT_F_LATER)
		return -BN_DROP_FRAGMENT;
	if (!bn_sel_source_ok(svc, &p->t.src))
		return -BN_DROP_SOURCE_RANGE;
	if (p->proto == BN_PROTO_TCP &&
	    (p->tcp & (BN_TCP_SYN | BN_TCP_ACK | BN_TCP_RST)) != BN_TCP_SYN)
		return -BN_DROP_CT_MIDSTREAM;
	range = bn_sel_range(svc, false);
	if (!bn_sel_member(range, &s->dsr_in.addr, s->dsr_in.port, false, &h->be))
		return -BN_DROP_NO_BACKEND;
	h->gen = BN_RANGE_GEN(range);
	h->idx = idx;
	return 0;
}

#endif
