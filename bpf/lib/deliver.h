/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_DELIVER_H
#define BN_BPF_DELIVER_H

/* Carries out what the stages decided (p->todo): translation, and the one way into a local pod past
 * the host's stack. Whoever sets BN_DO_DELIVER has run the receiving pod's stages: its own program
 * does not see the packet.
 */

#include "bpf/lib/addr.h"
#include "bpf/lib/nat.h"
#include "bpf/lib/route.h"

#define BN_PACKET_HOST 0

/* On an answer that to_pod sends back through the stack; from_pod takes it off. Packets of pods
 * come without a mark (it does not cross namespaces).
 */
#define BN_MARK_ANSWER 0xb9f0a25e

/* Straight into the pod behind `ifindex` (a veth whose peer is reached). */
static __always_inline int bn_deliver_peer(bn_ctx *ctx, __u32 ifindex)
{
	if (ctx->pkt_type != BN_PACKET_HOST && bpf_skb_change_type(ctx, BN_PACKET_HOST))
		return -BN_DROP_REDIRECT;
	return bpf_redirect_peer(ifindex, 0) == TC_ACT_REDIRECT ? BN_DONE_REDIRECT
								: -BN_DROP_REDIRECT;
}

/* Back to where it came from. At from_pod that is the pod: the kernel gives a packet that leaves by
 * the interface it came in on ingress_ifindex == ifindex, and to_pod knows it by that. At to_pod it
 * is the stack, as if the pod had sent it: from_pod knows the mark.
 */
__noinline int bn_deliver_back(bn_ctx *ctx, struct bn_pkt *p)
{
	const struct bn_iface *f;
	__u8 mac[12], swapped[12];

	if (!p)
		return -BN_DROP_INTERNAL;
	if (p->l3) { /* tunnels have no Ethernet header */
		if (bn_ctx_load(ctx, 0, mac, sizeof(mac)))
			return -BN_DROP_REDIRECT;
		__builtin_memcpy(swapped, mac + 6, 6);
		__builtin_memcpy(swapped + 6, mac, 6);
		if (bn_ctx_store(ctx, 0, swapped, sizeof(swapped)))
			return -BN_DROP_REDIRECT;
	}
	if (p->hook == BN_HOOK_TO_POD) {
		ctx->mark = BN_MARK_ANSWER;
		return bpf_redirect(p->ifindex, BPF_F_INGRESS) == TC_ACT_REDIRECT
			       ? BN_DONE_REDIRECT
			       : -BN_DROP_REDIRECT;
	}
	if (p->hook == BN_HOOK_TO_NET) /* to this node itself, not to the wire */
		return bpf_redirect(p->ifindex, BPF_F_INGRESS) == TC_ACT_REDIRECT
			       ? BN_DONE_REDIRECT
			       : -BN_DROP_REDIRECT;
	f = bn_iface_get(p->ifindex);
	if (f && (f->flags & BN_IF_F_PEER))
		return bn_deliver_peer(ctx, p->ifindex);
	return bpf_redirect(p->ifindex, 0) == TC_ACT_REDIRECT ? BN_DONE_REDIRECT
							      : -BN_DROP_REDIRECT;
}

/* Out by the way that bn_net_route found. */
static __always_inline int bn_deliver_way(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	long r;

	if (!s)
		return -BN_DROP_INTERNAL;
	/* The kernel takes off an Ethernet header in any case, and drops what has none (IPIP). */
	if (!p->l3 && bpf_skb_change_head(ctx, ETH_HLEN, 0))
		return -BN_DROP_REDIRECT;
	/* What leaves the stack has a route already. While the next hop's address is being asked for, the
	 * kernel keeps the packet, and then addresses it by that route (neigh_update), unless it has
	 * looked up the new one itself.
	 */
	r = p->hook == BN_HOOK_TO_NET ? bpf_redirect_neigh(s->fib.ifindex, NULL, 0, 0)
				      : bpf_redirect_neigh(s->fib.ifindex, &s->nh, sizeof(s->nh), 0);
	return r == TC_ACT_REDIRECT ? BN_DONE_REDIRECT : -BN_DROP_REDIRECT;
}

/* 0: the stack carries it on; BN_DONE_REDIRECT; -BN_DROP_x. */
static __always_inline int bn_deliver(bn_ctx *ctx, struct bn_pkt *p)
{
	bool hop = (p->todo & (BN_DO_DELIVER | BN_DO_ROUTED)) == (BN_DO_DELIVER | BN_DO_ROUTED);
	int r = 0;

	if (p->todo & BN_DO_NAT)
		r = bn_nat_write(ctx, p, hop);
	else if (hop)
		r = bn_nat_hop(ctx, p);
	if (r)
		return r;
	if (p->todo & BN_DO_DELIVER)
		return bn_deliver_peer(ctx, p->to_ifindex);
	return p->todo & BN_DO_BACK ? bn_deliver_back(ctx, p) : 0;
}

#endif
