/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_PARTIAL_H
#define BN_BPF_PARTIAL_H

/* What the kernel, or a device, is going to write into a packet after it was judged: a checksum that its sender left to
 * others says itself where it belongs, and a pod with CAP_NET_RAW may say what it likes (PACKET_VNET_HDR). A device without
 * offload then writes two bytes of the sender's choice there: into a port, or into a request.
 *
 * So the place must be that of the checksum of the header that is judged, or, where that is no TCP, behind it: a
 * tunnel's inner packet (VXLAN, GRE, IPIP of the pod's own). And several segments in one packet must be all that is
 * in it: what an IP header does not speak of would become data when they are cut.
 */

#include <bpf/bpf_core_read.h>

#include "bpf/lib/ctx.h"
#include "bpf/lib/pkt.h"

#define BN_CHECKSUM_PARTIAL 3

struct sk_buff___sum {
	__u8 ip_summed : 2;
	__u16 csum_start, csum_offset;
	unsigned char *head, *data;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak; /* since 6.2 */

enum special_kfunc_type___sum {
	KF_bpf_cast_to_kern_ctx___sum,
};

/* Where in the frame the checksum will be written; 0: nothing will be. */
static __always_inline __u32 bn_partial_at(bn_ctx *ctx)
{
	const struct sk_buff___sum *skb;

	if (bpf_core_enum_value_exists(enum special_kfunc_type___sum, KF_bpf_cast_to_kern_ctx___sum)) {
		skb = bpf_cast_to_kern_ctx(ctx);
		if (BPF_CORE_READ_BITFIELD(skb, ip_summed) != BN_CHECKSUM_PARTIAL)
			return 0;
		return (__u32)((__u64)skb->head - (__u64)skb->data) + skb->csum_start + skb->csum_offset;
	}
	skb = (const void *)ctx;
	if (BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed) != BN_CHECKSUM_PARTIAL)
		return 0;
	return (__u32)((__u64)BPF_CORE_READ(skb, head) - (__u64)BPF_CORE_READ(skb, data)) +
	       BPF_CORE_READ(skb, csum_start) + BPF_CORE_READ(skb, csum_offset);
}

/* Of a packet that was parsed: 0 or -BN_DROP_x. */
static __always_inline int bn_partial(bn_ctx *ctx, const struct bn_pkt *p)
{
	__u32 at = bn_partial_at(ctx), behind;

	if ((__u32)p->l4 + p->l4_len != p->len && ctx->gso_size)
		return -BN_DROP_BAD_HEADER;
	if (!at)
		return 0;
	switch (p->proto) {
	case BN_PROTO_TCP:
		return at == p->l4 + 16u ? 0 : -BN_DROP_CSUM_PLACE;
	case BN_PROTO_UDP:
		behind = 8;
		if (at == p->l4 + 6u)
			return 0;
		break;
	case BN_PROTO_SCTP:
		behind = 12;
		if (at == p->l4 + 8u)
			return 0;
		break;
	case BN_PROTO_ICMP:
	case BN_PROTO_ICMP6: /* what is inside an error is judged, too; no stack leaves their checksum to others */
		return -BN_DROP_CSUM_PLACE;
	default:
		behind = 0;
	}
	return at >= p->l4 + behind ? 0 : -BN_DROP_CSUM_PLACE;
}

#endif
