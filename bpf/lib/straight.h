/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_STRAIGHT_H
#define BN_BPF_STRAIGHT_H

/* From an uplink straight to a pod of this node, past the host's stack and past the pod's own hook.
 *
 * Only a packet of a flow that to_pod itself has admitted in this policy epoch, for this
 * interface: the entry's stamp says so, and every change of policy takes it back. What has still to be
 * judged, followed as HTTP (such a stamp does not fit), refused, or put together goes by the stack
 * and meets to_pod. So no policy is asked here and none can be passed by.
 */

#include "bpf/lib/flow.h"

/* Admitted in this epoch, and nobody has to judge requests. */
static __always_inline bool bn_flow_plain(__u64 stamp, const struct bn_pkt *p, __u32 gen)
{
	return stamp == BN_CT_STAMP(p->epoch, gen);
}

/* May this packet take that way at all? */
static __always_inline bool bn_straight_may(struct bn_pkt *p)
{
	const struct bn_iface *f;

	if (bn_ctx_early || !cfg_bypass || p->hook != BN_HOOK_FROM_NET || p->l3 != ETH_HLEN || p->ttl <= 1 ||
	    (p->flags & BN_PKT_F_FRAG) || (p->tcp & (BN_TCP_SYN | BN_TCP_ACK)) == BN_TCP_SYN)
		return false;
	f = bn_iface_get(p->ifindex);
	if (!f || !(f->flags & BN_IF_F_BYPASS))
		return false;
	p->mtu = f->mtu;
	return true;
}

/* Was the flow admitted by the pod that has `dst`, to which this packet of it goes? Then it is told where. */
static __always_inline bool bn_straight_to(struct bn_pkt *p, const struct bn_ct_hit *hit,
					   const struct bn_addr *dst)
{
	const struct bn_ct_entry *e = hit->e;
	__u32 ifindex = hit->reply ? e->ifindex : e->rifindex;
	const struct bn_iface *f;

	if (!ifindex || !bn_flow_plain(hit->reply ? e->eg_stamp : e->in_stamp, p, hit->gen))
		return false;
	f = bn_iface_get(ifindex);
	if (!bn_iface_bypass(f) || !f->slot || bn_addr_slot(dst) != f->slot)
		return false;
	if (f->mtu < p->mtu) /* the stack splits or refuses what does not fit */
		return false;
	p->to_ifindex = ifindex;
	return true;
}

#endif
