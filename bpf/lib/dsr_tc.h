/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_DSR_TC_H
#define BN_BPF_DSR_TC_H

/* Packing and unpacking of DSR, at TC (bpf/lib/dsr.h). */

#include "bpf/lib/dsr.h"

struct bn_udp {
	__be16 sport, dport, len;
	__u16 csum;
};

struct bn_dsr_wire4 {
	struct bn_ip4 ip;
	struct bn_udp udp;
	struct bn_dsr_head head;
};

struct bn_dsr_wire6 {
	struct bn_ip6 ip;
	struct bn_udp udp;
	struct bn_dsr_head head;
};

_Static_assert(sizeof(struct bn_dsr_wire4) == BN_DSR_OVERHEAD4, "wire format");
_Static_assert(sizeof(struct bn_dsr_wire6) == BN_DSR_OVERHEAD6, "wire format");

static __always_inline void bn_dsr_fill(const struct bn_pkt *p, const struct bn_scratch *s, struct bn_udp *u,
					struct bn_dsr_head *h, __u32 inner)
{
	/* The source port tells flows apart for whoever spreads them. */
	u->sport = bpf_htons(0xc000 | (bn_svc_flow_hash(&p->t, p->proto) & 0x3fff));
	u->dport = bpf_htons(BN_DSR_PORT);
	u->len = bpf_htons(inner + sizeof(*u) + sizeof(*h));
	u->csum = 0;
	h->magic = bpf_htons(BN_DSR_MAGIC);
	h->version = BN_DSR_VERSION;
	h->flags = 0;
	h->port = s->svc.be.port;
	h->pad = 0;
	h->addr = s->svc.be.addr;
}

static __always_inline int bn_dsr_pack4(bn_ctx *ctx, struct bn_pkt *p, struct bn_scratch *s, __u32 inner)
{
	struct bn_dsr_wire4 *w = (void *)s->quote.data;

	__builtin_memset(w, 0, sizeof(*w));
	w->ip.ver_ihl = 0x45;
	w->ip.tos = s->dsr_tos;
	w->ip.tot_len = bpf_htons(inner + sizeof(*w));
	w->ip.frag_off = bpf_htons(0x4000);
	w->ip.ttl = 64;
	w->ip.proto = BN_PROTO_UDP;
	w->ip.src = s->dsr_out.src.w[3];
	w->ip.dst = s->dsr_out.dst.w[3];
	w->ip.csum = ~bn_csum_fold16(bpf_csum_diff(NULL, 0, (__be32 *)&w->ip, sizeof(w->ip), 0));
	bn_dsr_fill(p, s, &w->udp, &w->head, inner);
	if (bpf_skb_adjust_room(ctx, sizeof(*w), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
					BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
					BPF_F_ADJ_ROOM_ENCAP_L2(sizeof(w->head))))
		return -BN_DROP_NAT_WRITE;
	return bn_ctx_store(ctx, p->l3, w, sizeof(*w)) ? -BN_DROP_NAT_WRITE : 0;
}

static __always_inline int bn_dsr_pack6(bn_ctx *ctx, struct bn_pkt *p, struct bn_scratch *s, __u32 inner)
{
	struct bn_dsr_wire6 *w = (void *)s->quote.data;

	__builtin_memset(w, 0, sizeof(*w));
	w->ip.ver_class_flow = bpf_htonl(0x60000000 | (__u32)s->dsr_tos << 20 |
					 (bn_svc_flow_hash(&p->t, p->proto) & 0xfffff));
	w->ip.len = bpf_htons(inner + sizeof(w->udp) + sizeof(w->head));
	w->ip.next = BN_PROTO_UDP;
	w->ip.hop_limit = 64;
	w->ip.src = s->dsr_out.src;
	w->ip.dst = s->dsr_out.dst;
	bn_dsr_fill(p, s, &w->udp, &w->head, inner);
	if (bpf_skb_adjust_room(ctx, sizeof(*w), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 |
					BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
					BPF_F_ADJ_ROOM_ENCAP_L2(sizeof(w->head))))
		return -BN_DROP_NAT_WRITE;
	return bn_ctx_store(ctx, p->l3, w, sizeof(*w)) ? -BN_DROP_NAT_WRITE : 0;
}

/* The packet as it came, one hop older, into UDP from p->x.src to p->x.dst for the backend s->svc.be. */
__noinline int bn_dsr_pack(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	__u32 inner;
	__u8 h[2];
	int r;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	inner = p->l4 - p->l3 + p->l4_len;
	if (inner > 65535 - BN_DSR_OVERHEAD6 || bn_ctx_load(ctx, p->l3, h, sizeof(h)))
		return -BN_DROP_NAT_WRITE;
	s->dsr_tos = p->flags & BN_PKT_F_V6 ? h[0] << 4 | h[1] >> 4 : h[1];
	s->dsr_out.src = p->x.src;
	s->dsr_out.dst = p->x.dst;
	r = bn_nat_hop(ctx, p);
	if (r)
		return r;
	ctx->mark = BN_MARK_DSR;
	return p->flags & BN_PKT_F_V6 ? bn_dsr_pack6(ctx, p, s, inner) : bn_dsr_pack4(ctx, p, s, inner);
}

static __always_inline bool bn_dsr_is(const struct bn_pkt *p)
{
	return p->proto == BN_PROTO_UDP && p->t.dport == bpf_htons(BN_DSR_PORT);
}

/* Unpacks what a peer sent: 0 (the packet is to be parsed anew, s->dsr_in says for which backend), or
 * BN_DONE_PASS: none of ours.
 */
__noinline int bn_dsr_unpack(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_dsr_head h;
	bool v6;
	__u8 ver;
	int len;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	if (!bn_addr_is_host(&p->t.dst))
		return BN_DONE_PASS;
	if (!bn_dsr_peer(&p->t.src, BN_DSR_F_NODE))
		return -BN_DROP_DSR;
	v6 = p->flags & BN_PKT_F_V6;
	len = v6 ? BN_DSR_OVERHEAD6 : BN_DSR_OVERHEAD4;
	if ((p->flags & BN_PKT_F_FRAG) || p->l4 - p->l3 != (v6 ? 40 : 20) ||
	    bn_ctx_load(ctx, p->l4 + sizeof(struct bn_udp), &h, sizeof(h)) ||
	    bn_ctx_load(ctx, p->l4 + sizeof(struct bn_udp) + sizeof(h), &ver, 1))
		return -BN_DROP_DSR;
	if (h.magic != bpf_htons(BN_DSR_MAGIC) || h.version != BN_DSR_VERSION || ver >> 4 != (v6 ? 6 : 4))
		return -BN_DROP_DSR;
	s->dsr_in.addr = h.addr;
	s->dsr_in.port = h.port;
	s->dsr_in.set = 1;
	return bpf_skb_adjust_room(ctx, -len, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO)
		       ? -BN_DROP_NAT_WRITE : 0;
}

/* Out of this node in the name of from_net: only what it has packed. */
static __always_inline bool bn_dsr_forged(bn_ctx *ctx, const struct bn_pkt *p)
{
	return bn_dsr_is(p) && ctx->mark != BN_MARK_DSR && bn_dsr_peer(&p->t.dst, BN_DSR_F_NODE);
}

#endif
