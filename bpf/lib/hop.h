/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HOP_H
#define BN_BPF_HOP_H

/* What bpf_fib_lookup said last, per CPU: it walks rules, routes and neighbours, 0.3 us a packet. Kept for
 * BN_HOP_MS under everything that it was asked (but the length, which is compared): a change of routes or
 * neighbours counts that much later for packets that go on, with or without a daemon.
 */

#include "bpf/lib/scratch.h"

#define BN_HOPS	  64
#define BN_HOP_MS 100

struct bn_hop {
	struct bn_addr src, dst, via; /* src all zero: free */
	__u64 until_ns;
	__u32 from, to; /* interfaces */
	__u16 mtu;
	__u8 proto;
	__u8 smac[6], dmac[6];
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct bn_hop);
	__uint(max_entries, BN_HOPS);
} hops SEC(".maps");

static __always_inline struct bn_hop *bn_hop_place(const struct bn_pkt *p)
{
	__u32 h = (p->x.dst.w[0] ^ p->x.dst.w[1] ^ p->x.dst.w[3] ^ (p->x.src.w[3] << 7)) * 0x9e3779b1u;

	h = (h + p->x.dst.w[2]) * 0x85ebca6bu >> 26;
	return bpf_map_lookup_elem(&hops, &h);
}
_Static_assert(BN_HOPS == 1 << 6, "the top bits of 32 number them");

static __always_inline bool bn_hop_fits(const struct bn_hop *h, const struct bn_pkt *p, __u32 len)
{
	return (__s64)(h->until_ns - p->now_ns) > 0 && bn_addr_same(&h->dst, &p->x.dst) &&
	       bn_addr_same(&h->src, &p->x.src) && h->from == p->ifindex && h->proto == p->proto &&
	       len <= h->mtu;
}

static __always_inline void bn_hop_recall(const struct bn_hop *h, struct bn_scratch *s)
{
	s->fib.ifindex = h->to;
	__builtin_memcpy(s->fib.smac, h->smac, 6);
	__builtin_memcpy(s->fib.dmac, h->dmac, 6);
	__builtin_memcpy(s->nh.ipv6_nh, h->via.b, 16);
}

/* MTUs that do not fit the field, or that the kernel does not tell, are asked for each time. */
static __always_inline void bn_hop_keep(struct bn_hop *h, const struct bn_pkt *p, const struct bn_scratch *s)
{
	h->until_ns = 0;
	h->src = p->x.src;
	h->dst = p->x.dst;
	__builtin_memcpy(h->via.b, s->nh.ipv6_nh, 16);
	h->from = p->ifindex;
	h->to = s->fib.ifindex;
	h->mtu = s->fib.mtu_result;
	h->proto = p->proto;
	__builtin_memcpy(h->smac, s->fib.smac, 6);
	__builtin_memcpy(h->dmac, s->fib.dmac, 6);
	h->until_ns = p->now_ns + BN_HOP_MS * 1000000ULL;
}

#endif
