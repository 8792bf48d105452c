/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_NAT_H
#define BN_BPF_NAT_H

/* Writes another tuple into a packet: addresses, ports, hop count and every checksum they
 * enter.
 *
 * Checksums are changed by differences, so one that was wrong stays wrong. At TC the kernel
 * knows whether the L4 checksum is still to be computed (CHECKSUM_PARTIAL: only the pseudo header
 * counts). SCTP's CRC32c is linear: the difference that a port makes is advanced over the bytes
 * behind it, in time logarithmic in the length, without reading them; so neither GSO nor length
 * matters. A CRC of 0 is one that the device will compute. A *fragment* of SCTP whose port would
 * change is dropped: the length of the whole is not known.
 */

#include "bpf/lib/crc32c.h"
#include "bpf/lib/ctx.h"
#include "bpf/lib/parse.h"
#include "bpf/lib/pkt.h"

static __always_inline __u64 bn_diff_addr(const struct bn_addr *from, const struct bn_addr *to,
					  bool v6)
{
	__u64 s = (__u64)(__u32)~from->w[3] + to->w[3];

	if (v6)
#pragma clang loop unroll(full)
		for (int i = 0; i < 3; i++)
			s += (__u64)(__u32)~from->w[i] + to->w[i];
	return s;
}

static __always_inline __u64 bn_diff_port(__be16 from, __be16 to)
{
	return (__u64)(__u16)~from + to;
}

/* Hop count and addresses of the outer header, from x; -1 on the hop count if `hop`. Written in
 * place: the parser has made the header linear.
 */
static __always_inline int bn_nat_l3(bn_ctx *ctx, struct bn_pkt *p, __u64 diff, bool hop)
{
	void *l3 = bn_ctx_data(ctx) + (p->l3 & 0x3f), *end = bn_ctx_end(ctx);

	if (p->flags & BN_PKT_F_V6) {
		struct bn_ip6 *ip = l3;

		if ((void *)(ip + 1) > end)
			return -BN_DROP_NAT_WRITE;
		ip->src = p->x.src;
		ip->dst = p->x.dst;
		ip->hop_limit -= hop;
	} else {
		struct bn_ip4 *ip = l3;

		if ((void *)(ip + 1) > end)
			return -BN_DROP_NAT_WRITE;
		ip->src = p->x.src.w[3];
		ip->dst = p->x.dst.w[3];
		if (hop) {
			diff += bn_diff_port(ip->ttl, ip->ttl - 1); /* the low byte in memory */
			ip->ttl--;
		}
		ip->csum = bn_csum_apply(ip->csum, diff);
	}
	return 0;
}

static __always_inline int bn_nat_ports(bn_ctx *ctx, struct bn_pkt *p)
{
	__be16 *h = bn_ctx_data(ctx) + (p->l4 & BN_PARSE_OFF_MASK);

	if ((void *)(h + 2) > bn_ctx_end(ctx))
		return -BN_DROP_NAT_WRITE;
	h[0] = p->x.sport;
	h[1] = p->x.dport;
	return 0;
}

__noinline int bn_nat_sctp(bn_ctx *ctx, struct bn_pkt *p)
{
	__u32 crc, delta;

	if (!p)
		return -BN_DROP_INTERNAL;
	if (p->flags & BN_PKT_F_FRAG)
		return -BN_DROP_NAT_WRITE;
	if (bn_ctx_load(ctx, p->l4 + 8, &crc, 4))
		return -BN_DROP_NAT_WRITE;
	if (!crc)
		return 0;
	delta = (__u32)(p->t.sport ^ p->x.sport) | (__u32)(p->t.dport ^ p->x.dport) << 16;
	crc ^= bn_crc32c_delta(delta, p->l4_len - 4);
	return bn_ctx_store(ctx, p->l4 + 8, &crc, 4) ? -BN_DROP_NAT_WRITE : 0;
}

/* The L4 checksum, for both changes. */
static __always_inline int bn_nat_l4(bn_ctx *ctx, struct bn_pkt *p, __u64 diff, bool moved)
{
	bool udp = p->proto == BN_PROTO_UDP;
	__u32 off = p->l4 + 16;
	__u64 pdiff;

	if (udp)
		off = p->l4 + 6;
	else if (p->proto == BN_PROTO_ICMP6)
		off = p->l4 + 2;
	else if (p->proto == BN_PROTO_SCTP)
		return moved ? bn_nat_sctp(ctx, p) : 0;
	else if (p->proto != BN_PROTO_TCP)
		return 0;
	if (bn_ctx_csum(ctx, off, bn_csum_fold32(diff), true, udp))
		return -BN_DROP_NAT_WRITE;
	if (p->flags & BN_PKT_F_V6)
		bn_ctx_csum_v6(ctx, bn_csum_fold32(diff));
	if (!moved)
		return 0;
	pdiff = bn_diff_port(p->t.sport, p->x.sport) + bn_diff_port(p->t.dport, p->x.dport);
	return bn_ctx_csum(ctx, off, bn_csum_fold32(pdiff), false, udp) ? -BN_DROP_NAT_WRITE : 0;
}

/* Turns the packet's tuple t into x. */
static __always_inline int bn_nat_write(bn_ctx *ctx, struct bn_pkt *p, bool hop)
{
	bool v6 = p->flags & BN_PKT_F_V6, head = !(p->flags & BN_PKT_F_LATER);
	bool moved = p->t.sport != p->x.sport || p->t.dport != p->x.dport;
	__u64 diff =
		bn_diff_addr(&p->t.src, &p->x.src, v6) + bn_diff_addr(&p->t.dst, &p->x.dst, v6);
	int r = 0;

	if (head)
		r = bn_nat_l4(ctx, p, diff, moved);
	if (!r && head && moved)
		r = bn_nat_ports(ctx, p);
	return r ? r : bn_nat_l3(ctx, p, diff, hop);
}

/* Only the hop count. */
static __always_inline int bn_nat_hop(bn_ctx *ctx, struct bn_pkt *p)
{
	p->x = p->t;
	return bn_nat_l3(ctx, p, 0, true);
}

#endif
