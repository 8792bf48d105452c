/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_ROUTE_H
#define BN_BPF_ROUTE_H

/* The way of a packet that the host's stack is not asked about: its source would be an address of this
 * node, which the stack takes for forged. Next hop by fib look-up; the address that stands for the
 * client there.
 */

#include "bpf/lib/hop.h"
#include "bpf/lib/scratch.h"

#define BN_AF_INET 2
#define BN_AF_INET6 10

#define BN_HOP_NO_NEIGH 1 /* a way, but whose address is still to be asked for */

static __always_inline __u32 bn_dsr_overhead(const struct bn_pkt *p)
{
	if (!(p->todo & BN_DO_DSR))
		return 0;
	return p->flags & BN_PKT_F_V6 ? BN_DSR_OVERHEAD6 : BN_DSR_OVERHEAD4;
}

/* Length of the IP packet, or of the longest one that GSO will make of it. */
static __always_inline __u32 bn_net_len(bn_ctx *ctx, const struct bn_pkt *p)
{
	__u32 head = p->l4 - p->l3;
	__u8 doff = 5 << 4;

	if (!bn_ctx_gso(ctx))
		return head + p->l4_len;
	if (p->proto != BN_PROTO_TCP)
		return head + 8 + bn_ctx_gso_size(ctx);
	bn_ctx_load(ctx, p->l4 + 12, &doff, 1);
	return head + (doff >> 4) * 4 + bn_ctx_gso_size(ctx);
}

/* Can XDP send by s->fib, whose neighbour is known? On the interface that the frame came in on, or on one
 * whose driver takes frames from others.
 */
static __always_inline bool bn_net_sendable(const struct bn_pkt *p, struct bn_scratch *s)
{
	const struct bn_iface *f = bn_iface_get(s->fib.ifindex);
	__u16 can = BN_IF_F_XDP_XMIT | (s->fib.ifindex == p->ifindex ? BN_IF_F_XDP_TX : 0);

	if (!f || f->l2_len != ETH_HLEN || !(f->flags & can))
		return false;
	s->xdp_tx = f->flags & can & BN_IF_F_XDP_TX;
	return true;
}

/* Asks the kernel, about p->x and that many bytes: s->fib and s->nh. */
static __always_inline int bn_net_ask(bn_ctx *ctx, struct bn_pkt *p, struct bn_scratch *s, __u32 len)
{
	struct bpf_fib_lookup *f = &s->fib;
	long r;

	__builtin_memset(f, 0, sizeof(*f));
	__builtin_memset(&s->nh, 0, sizeof(s->nh));
	f->l4_protocol = p->proto;
	f->ifindex = p->ifindex;
	f->tot_len = len;
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
		f->mtu_result -= bn_dsr_overhead(p);
		return -BN_DROP_MTU;
	}
	if (r != BPF_FIB_LKUP_RET_SUCCESS && r != BPF_FIB_LKUP_RET_NO_NEIGH)
		return -BN_DROP_NO_ROUTE;
	if (f->family == BN_AF_INET)
		s->nh.ipv4_nh = f->ipv4_dst;
	else
		__builtin_memcpy(s->nh.ipv6_nh, f->ipv6_dst, 16);
	return r == BPF_FIB_LKUP_RET_SUCCESS ? 0 : BN_HOP_NO_NEIGH;
}

/* Where a packet with the tuple p->x goes: s->fib.ifindex and its next hop s->nh. What is too long for
 * that way (its MTU or what path-MTU discovery has learned about it) is answered: nobody behind
 * bpf_redirect_neigh looks. BN_DO_UP: XDP cannot send it there.
 */
__noinline int bn_net_route(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_hop *h;
	int r = 0;
	__u32 len;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	len = bn_net_len(ctx, p) + bn_dsr_overhead(p);
	h = bn_hop_place(p);
	if (!h)
		return -BN_DROP_INTERNAL;
	if (bn_hop_fits(h, p, len)) {
		bn_hop_recall(h, s);
	} else {
		r = bn_net_ask(ctx, p, s, len);
		if (r < 0)
			return r;
		if (!r)
			bn_hop_keep(h, p, s);
	}
	s->nh.nh_family = p->flags & BN_PKT_F_V6 ? BN_AF_INET6 : BN_AF_INET;
	p->todo |= BN_DO_WAY;
	if (bn_ctx_early && (r || !bn_net_sendable(p, s)))
		p->todo |= BN_DO_UP;
	return 0;
}

/* The way of a packet that goes out again; before anything is noted about it. */
static __always_inline int bn_net_way(bn_ctx *ctx, struct bn_pkt *p)
{
	if (p->ttl <= 1) {
		p->refuse = BN_REFUSE_TTL;
		return -BN_DROP_TTL;
	}
	return bn_net_route(ctx, p);
}

/* The address that stands for outside clients behind the interface towards the backend, into x.src.
 * Asked with the node's address, which it is on most nodes: then that was the packet's way, too.
 */
static __always_inline int bn_net_source(bn_ctx *ctx, struct bn_pkt *p, struct bn_scratch *s)
{
	bool v6 = p->flags & BN_PKT_F_V6;
	const struct bn_iface *f;
	const struct bn_addr *a;
	struct bn_state *st;
	__u32 zero = 0;
	int r;

	st = bpf_map_lookup_elem(&state, &zero);
	if (!st)
		return -BN_DROP_INTERNAL;
	p->x.src = v6 ? st->node6 : st->node4;
	r = bn_net_way(ctx, p);
	if (r)
		return r;
	f = bn_iface_get(s->fib.ifindex);
	if (f) {
		a = v6 ? &f->addr6 : &f->addr4;
		if (!bn_addr_is_zero(a) && !bn_addr_same(a, &p->x.src)) {
			p->x.src = *a;
			p->todo &= ~(BN_DO_WAY | BN_DO_UP);
			r = bn_net_way(ctx, p);
		}
	}
	return bn_addr_is_zero(&p->x.src) ? -BN_DROP_NAT_PORTS : r;
}

#endif
