/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_PARSE_H
#define BN_BPF_PARSE_H

/* Reads a packet's headers into struct bn_pkt, and believes no length in them.
 *
 * - Link layer: l2_len 0 (ethertype from the context) or 14, then up to two VLAN tags in the frame
 *   (one more may be in the skb's metadata); deeper stacks are dropped, so that no tag hides IP.
 * - Not IP: BN_DONE_PASS (ARP and the like belong to the link).
 * - IPv4 options are skipped over. IPv6 extension headers: at most BN_PARSE_EXT_MAX of them, within
 *   the first 1 KiB. AH, ESP, "no next header" and what we do not know end the walk: the packet has
 *   that protocol, no ports, and only rules without ports speak about it.
 * - Fragments: the first one must hold the whole L4 header and is remembered, later ones take their
 *   ports from it; a later one that comes first is dropped.
 */

#include <linux/if_ether.h>
#include <linux/in.h>

#include "bpf/lib/ctx.h"
#include "bpf/lib/pkt.h"

#define BN_PARSE_EXT_MAX  8
#define BN_PARSE_OFF_MASK 0x7ff

struct bn_vlan {
	__be16 tci, proto;
};

struct bn_ip4 {
	__u8 ver_ihl, tos;
	__be16 tot_len, id, frag_off;
	__u8 ttl, proto;
	__u16 csum;
	__be32 src, dst;
};

struct bn_ip6 {
	__be32 ver_class_flow;
	__be16 len;
	__u8 next, hop_limit;
	struct bn_addr src, dst;
};

enum {
	BN_EXT_HOPOPT = 0,
	BN_EXT_ROUTING = 43,
	BN_EXT_FRAGMENT = 44,
	BN_EXT_NONE = 59,
	BN_EXT_DSTOPTS = 60,
	BN_EXT_MOBILITY = 135,
};

enum {
	BN_ICMP6_MLD_FIRST = 130,
	BN_ICMP6_MLD_LAST = 132,
	BN_ICMP6_RS = 133,
	BN_ICMP6_NA = 136,
	BN_ICMP6_MLD2 = 143,
};

/* A fragment's place in its packet, from either family's header. */
struct bn_frag {
	__u32 id;
	__u32 off; /* bytes */
	bool more;
};

static __always_inline int bn_parse_icmp(struct bn_pkt *p, const __u8 *h)
{
	__u8 t = h[0];
	bool echo;

	p->icmp_type = t;
	p->icmp_code = h[1];
	if (p->flags & BN_PKT_F_V6) {
		echo = t == 128 || t == 129;
		if (t >= 1 && t <= 4)
			p->flags |= BN_PKT_F_ICMP_ERR;
		if ((t >= BN_ICMP6_RS && t <= BN_ICMP6_NA && p->ttl == 255) ||
		    (t >= BN_ICMP6_MLD_FIRST && t <= BN_ICMP6_MLD_LAST && p->ttl == 1) ||
		    (t == BN_ICMP6_MLD2 && p->ttl == 1))
			p->flags |= BN_PKT_F_ND;
	} else {
		echo = t == 0 || t == 8;
		if (t == 3 || t == 4 || t == 11 || t == 12)
			p->flags |= BN_PKT_F_ICMP_ERR;
	}
	if (echo)
		p->t.sport = p->t.dport = *(__be16 *)(h + 4);
	return 0;
}

static __always_inline int bn_parse_tcp(struct bn_pkt *p, const __u8 *h)
{
	__u32 doff = (h[12] >> 4) * 4;
	__u8 f = h[13];

	if (doff < 20 || doff > p->l4_len)
		return -BN_DROP_BAD_HEADER;
	if (!(f & (BN_TCP_SYN | BN_TCP_ACK | BN_TCP_RST | BN_TCP_FIN)))
		return -BN_DROP_BAD_HEADER;
	if ((f & BN_TCP_SYN) && (f & (BN_TCP_FIN | BN_TCP_RST)))
		return -BN_DROP_BAD_HEADER;
	p->tcp = f;
	return 0;
}

/* SCTP has no flags: the first chunk's type says whether an association begins or ends. */
static __always_inline void bn_parse_sctp(struct bn_pkt *p, const __u8 *h, bool chunk)
{
	__u8 type = chunk ? h[12] : 0;

	p->tcp = BN_TCP_ACK;
	if (chunk && type == 1)
		p->tcp = BN_TCP_SYN;
	else if (chunk && (type == 6 || type == 14))
		p->tcp = BN_TCP_RST;
}

/* The L4 header at p->l4 of a packet that is whole or the first fragment. */
static __always_inline int bn_parse_l4(bn_ctx *ctx, struct bn_pkt *p)
{
	__u32 off = p->l4 & BN_PARSE_OFF_MASK;
	__u32 need = 8;
	__u8 *h, *end;

	if (p->proto == BN_PROTO_TCP)
		need = 20;
	else if (p->proto == BN_PROTO_SCTP)
		need = p->l4_len < 16 ? 12 : 16;
	else if (p->proto != BN_PROTO_UDP && p->proto != BN_PROTO_ICMP &&
		 p->proto != BN_PROTO_ICMP6)
		return 0;
	if (p->l4_len < need)
		return -BN_DROP_BAD_HEADER;
	h = bn_ctx_data(ctx);
	end = bn_ctx_end(ctx);
	if (h + off + need > end) {
		if (bn_ctx_pull(ctx, off + need))
			return -BN_DROP_BAD_HEADER;
		h = bn_ctx_data(ctx);
		end = bn_ctx_end(ctx);
	}
	h += off;
	if (p->proto == BN_PROTO_TCP) {
		if (h + 20 > end)
			return -BN_DROP_BAD_HEADER;
		p->t.sport = *(__be16 *)h;
		p->t.dport = *(__be16 *)(h + 2);
		return bn_parse_tcp(p, h);
	}
	if (p->proto == BN_PROTO_SCTP) {
		if (h + 12 > end)
			return -BN_DROP_BAD_HEADER;
		p->t.sport = *(__be16 *)h;
		p->t.dport = *(__be16 *)(h + 2);
		bn_parse_sctp(p, h, h + 16 <= end && p->l4_len >= 16);
		return 0;
	}
	if (h + 8 > end)
		return -BN_DROP_BAD_HEADER;
	if (p->proto == BN_PROTO_UDP) {
		__u32 len = bpf_ntohs(*(__be16 *)(h + 4));

		p->t.sport = *(__be16 *)h;
		p->t.dport = *(__be16 *)(h + 2);
		if (p->flags & BN_PKT_F_FRAG ? len < 8 : len < 8 || len > p->l4_len)
			return bn_ctx_gso(ctx) ? 0 : -BN_DROP_BAD_HEADER;
		return 0;
	}
	if ((p->proto == BN_PROTO_ICMP6) != !!(p->flags & BN_PKT_F_V6))
		return 0; /* the other family's: a protocol without ports like any other */
	return bn_parse_icmp(p, h);
}

/* A fragment, p->l4 at what is behind its headers: bpf/lib/frag.h, or the object's own. */
static __always_inline int bn_parse_frag(bn_ctx *ctx, struct bn_pkt *p, const struct bn_frag *f);

__noinline int bn_parse_frag4(bn_ctx *ctx, struct bn_pkt *p, __u32 id, __u32 frag_off)
{
	struct bn_frag f = {
		.id = id,
		.off = (frag_off & 0x1fff) * 8,
		.more = frag_off & 0x2000,
	};

	return p ? bn_parse_frag(ctx, p, &f) : -BN_DROP_INTERNAL;
}

/* One extension header. 0: it was skipped; 1: p->proto is the upper layer; negative: drop. */
static __always_inline int bn_parse_ext_one(bn_ctx *ctx, struct bn_pkt *p, struct bn_frag *f,
					    bool *frag, int nth)
{
	__u32 off = p->l4, len;
	__u8 h[8], next = p->proto;

	if (next == BN_EXT_HOPOPT && nth)
		return -BN_DROP_BAD_HEADER; /* RFC 8200: right behind the IPv6 header only */
	if (next != BN_EXT_HOPOPT && next != BN_EXT_ROUTING && next != BN_EXT_DSTOPTS &&
	    next != BN_EXT_FRAGMENT && next != BN_EXT_MOBILITY)
		return 1;
	if (p->l4_len < 8 || bn_ctx_load(ctx, off, h, 8))
		return -BN_DROP_BAD_HEADER;
	if (next == BN_EXT_ROUTING && !h[2])
		return -BN_DROP_BAD_HEADER; /* type 0: RFC 5095 */
	len = (h[1] + 1) * 8;
	if (next == BN_EXT_FRAGMENT) {
		__u32 fo = h[2] << 8 | h[3];

		if (*frag)
			return -BN_DROP_BAD_HEADER;
		len = 8;
		f->off = fo & 0xfff8;
		f->more = fo & 1;
		f->id = (__u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
		*frag = f->off || f->more; /* else an atomic fragment (RFC 6946): a whole packet */
	}
	if (len > p->l4_len)
		return -BN_DROP_BAD_HEADER;
	p->proto = h[0];
	p->l4 = off + len;
	p->l4_len -= len;
	/* Behind a later fragment's header there is payload; what looks like a header is not one.
	 */
	return *frag && f->off ? 1 : 0;
}

__noinline int bn_parse_ext(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_frag f = {};
	bool frag = false;
	int r = 0;

	if (!p)
		return -BN_DROP_INTERNAL;
	for (int i = 0; i < BN_PARSE_EXT_MAX + 1; i++) {
		r = bn_parse_ext_one(ctx, p, &f, &frag, i);
		if (r)
			break;
		if (p->l4 > 1024)
			return -BN_DROP_EXT_HEADERS;
	}
	if (!r)
		return -BN_DROP_EXT_HEADERS;
	if (r < 0)
		return r;
	return frag ? bn_parse_frag(ctx, p, &f) : bn_parse_l4(ctx, p);
}

static __always_inline int bn_parse_v4(bn_ctx *ctx, struct bn_pkt *p, const struct bn_ip4 *ip)
{
	__u32 avail = p->len - p->l3, ihl = (ip->ver_ihl & 0xf) * 4;
	__u32 tot = bpf_ntohs(ip->tot_len), fo = bpf_ntohs(ip->frag_off);
	__u32 id = ip->id;

	if (ip->ver_ihl >> 4 != 4 || ihl < 20)
		return -BN_DROP_BAD_HEADER;
	if (!tot && avail > 65535 && bn_ctx_gso(ctx))
		tot = avail; /* BIG TCP */
	if (tot < ihl || tot > avail)
		return -BN_DROP_BAD_HEADER;
	bn_addr_v4(&p->t.src, ip->src);
	bn_addr_v4(&p->t.dst, ip->dst);
	p->proto = ip->proto;
	p->ttl = ip->ttl;
	p->l4 = p->l3 + ihl;
	p->l4_len = tot - ihl;
	if (fo & 0x3fff)
		return bn_parse_frag4(ctx, p, id, fo);
	return bn_parse_l4(ctx, p);
}

static __always_inline bool bn_ip6_mapped(const struct bn_addr *a)
{
	return !*(bn_u64a *)a->b && a->w[2] == BN_V4_MAPPED_WORD;
}

static __always_inline int bn_parse_v6(bn_ctx *ctx, struct bn_pkt *p, const struct bn_ip6 *ip)
{
	__u32 avail = p->len - p->l3, len = bpf_ntohs(ip->len);

	if ((ip->ver_class_flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return -BN_DROP_BAD_HEADER;
	if (avail < 40)
		return -BN_DROP_BAD_HEADER;
	avail -= 40;
	if (!len && avail > 65535 && bn_ctx_gso(ctx))
		len = avail; /* BIG TCP, with or without a jumbo option */
	if (len > avail)
		return -BN_DROP_BAD_HEADER;
	p->t.src = ip->src;
	p->t.dst = ip->dst;
	if (bn_ip6_mapped(&p->t.src) || bn_ip6_mapped(&p->t.dst))
		return -BN_DROP_V4_MAPPED;
	p->flags |= BN_PKT_F_V6;
	p->proto = ip->next;
	p->ttl = ip->hop_limit;
	p->l4 = p->l3 + 40;
	p->l4_len = len;
	if (bn_pkt_has_ports(p) || p->proto == BN_PROTO_ICMP6)
		return bn_parse_l4(ctx, p);
	return bn_parse_ext(ctx, p);
}

static __always_inline bool bn_is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/* Tags in the frame behind the first ethertype; rare: the kernel keeps them beside the packet. */
__noinline int bn_parse_vlan(bn_ctx *ctx, struct bn_pkt *p)
{
	__be16 proto;
	struct bn_vlan v;

	if (!p)
		return 0;
	for (int i = 0; i < 2; i++) {
		if (bn_ctx_load(ctx, p->l3, &v, sizeof(v)))
			return 0;
		p->l3 += sizeof(v);
		proto = v.proto;
		if (!bn_is_vlan(proto))
			return proto;
	}
	return 0;
}

/* The IP header, linear; pulled only where it is not: pulling copies the whole head of a packet that
 * is a clone, as every TCP segment with data is (0.5 us). NULL: the packet is shorter.
 */
static __always_inline void *bn_parse_linear(bn_ctx *ctx, const struct bn_pkt *p, const __u32 size)
{
	__u32 off = p->l3 & 0x3f;
	void *at = bn_ctx_data(ctx) + off;

	if (at + size <= bn_ctx_end(ctx))
		return at;
	if (bn_ctx_pull(ctx, off + size))
		return NULL;
	at = bn_ctx_data(ctx) + off;
	return at + size <= bn_ctx_end(ctx) ? at : NULL;
}

static __always_inline int bn_parse(bn_ctx *ctx, struct bn_pkt *p, __u32 l2_len)
{
	__be16 proto = bn_ctx_proto(ctx);

	p->l3 = l2_len;
	if (l2_len) {
		struct ethhdr *eth = bn_ctx_data(ctx);

		if ((void *)(eth + 1) > bn_ctx_end(ctx))
			return -BN_DROP_BAD_HEADER;
		proto = eth->h_proto;
		if (bn_is_vlan(proto)) {
			proto = bn_parse_vlan(ctx, p);
			if (!proto)
				return -BN_DROP_BAD_HEADER;
		}
	}
	if (proto == bpf_htons(ETH_P_IP)) {
		struct bn_ip4 *ip = bn_parse_linear(ctx, p, sizeof(*ip));

		return ip ? bn_parse_v4(ctx, p, ip) : -BN_DROP_BAD_HEADER;
	}
	if (proto == bpf_htons(ETH_P_IPV6)) {
		struct bn_ip6 *ip = bn_parse_linear(ctx, p, sizeof(*ip));

		return ip ? bn_parse_v6(ctx, p, ip) : -BN_DROP_BAD_HEADER;
	}
	return BN_DONE_PASS;
}

#endif
