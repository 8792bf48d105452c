/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_ICMP_H
#define BN_BPF_ICMP_H

/* ICMP and ICMPv6 errors: they belong to the flow whose packet they quote, pass with it, and are
 * translated with it, outside and inside, so that path-MTU discovery works through a service.
 *
 * The client of a translated flow knows only the service: errors towards it get the service's
 * address and port (outside too, if it was the backend that sent them; a router's address stays),
 * errors from it get the backend's. At from_pod of a server nothing is translated: the stack
 * carries the error to the client's to_pod, or to the interface where its flow came from.
 *
 * Who sends an error must have got what it quotes (pods forward nothing), and it goes to who sent
 * that: else a pod could have other pods' flow judged by its own policy.
 *
 * A quote that is a later fragment, or has other extension headers, belongs to no flow. Errors that
 * belong to none are judged as any packet of their protocol and begin no flow.
 */

#include "bpf/lib/flow.h"
#include "bpf/lib/nat.h"

static __always_inline int bn_icmp_inner4(bn_ctx *ctx, struct bn_pkt *p, struct bn_inner *in,
					  __u32 left)
{
	struct bn_ip4 ip;
	__u32 ihl;

	if (left < sizeof(ip) || bn_ctx_load(ctx, in->l3, &ip, sizeof(ip)))
		return -1;
	ihl = (ip.ver_ihl & 0xf) * 4;
	if (ip.ver_ihl >> 4 != 4 || ihl < sizeof(ip) || left < ihl + 8 ||
	    (ip.frag_off & bpf_htons(0x1fff)))
		return -1;
	bn_addr_v4(&in->t.src, ip.src);
	bn_addr_v4(&in->t.dst, ip.dst);
	in->proto = ip.proto;
	in->csum = ip.csum;
	in->l4 = in->l3 + ihl;
	in->avail = left - ihl;
	return 0;
}

static __always_inline int bn_icmp_inner6(bn_ctx *ctx, struct bn_pkt *p, struct bn_inner *in,
					  __u32 left)
{
	struct bn_ip6 ip;
	__u32 len = sizeof(ip);
	__u8 frag[8];

	if (left < len + 8 || bn_ctx_load(ctx, in->l3, &ip, sizeof(ip)))
		return -1;
	in->t.src = ip.src;
	in->t.dst = ip.dst;
	in->proto = ip.next;
	if (ip.next ==
	    BN_EXT_FRAGMENT) { /* "packet too big" is most often about a datagram in fragments */
		if (left < len + 16 || bn_ctx_load(ctx, in->l3 + len, frag, sizeof(frag)) ||
		    (*(__be16 *)(frag + 2) & bpf_htons(0xfff8)))
			return -1;
		in->proto = frag[0];
		len += sizeof(frag);
	}
	in->l4 = in->l3 + len;
	in->avail = left - len;
	return 0;
}

/* Reads the quoted packet's tuple; nonzero: it has none. */
__noinline int bn_icmp_inner(bn_ctx *ctx, struct bn_pkt *p, struct bn_inner *in)
{
	__u8 h[8];
	int r;

	if (!p || !in || p->l4_len < 8)
		return -1;
	__builtin_memset(in, 0, sizeof(*in));
	in->l3 = p->l4 + 8;
	r = p->flags & BN_PKT_F_V6 ? bn_icmp_inner6(ctx, p, in, p->l4_len - 8)
				   : bn_icmp_inner4(ctx, p, in, p->l4_len - 8);
	if (r || bn_ctx_load(ctx, in->l4, h, sizeof(h)))
		return -1;
	if (in->proto == BN_PROTO_TCP || in->proto == BN_PROTO_UDP || in->proto == BN_PROTO_SCTP) {
		in->t.sport = *(__be16 *)h;
		in->t.dport = *(__be16 *)(h + 2);
	} else if (in->proto == BN_PROTO_ICMP
			   ? h[0] == 0 || h[0] == 8
			   : in->proto == BN_PROTO_ICMP6 && (h[0] == 128 || h[0] == 129)) {
		in->t.sport = in->t.dport = *(__be16 *)(h + 4);
	}
	return 0;
}

/* Changes the checksum field at `off` of the quote by `by`; what that changes the outer sum by is
 * added to *diff. A UDP checksum of 0 stays.
 */
static __always_inline int bn_icmp_csum(bn_ctx *ctx, __u32 off, __u64 by, bool udp, __u64 *diff)
{
	__u16 old, new;

	if (bn_ctx_load(ctx, off, &old, sizeof(old)))
		return -BN_DROP_NAT_WRITE;
	if (udp && !old)
		return 0;
	new = bn_csum_apply(old, by);
	if (udp && !new)
		new = 0xffff;
	*diff += bn_diff_port(old, new);
	return bn_ctx_store(ctx, off, &new, sizeof(new)) ? -BN_DROP_NAT_WRITE : 0;
}

static __always_inline int bn_icmp_write_l3(bn_ctx *ctx, struct bn_pkt *p, struct bn_inner *in,
					    __u64 addrs, __u64 *diff)
{
	if (p->flags & BN_PKT_F_V6) {
		if (bn_ctx_store(ctx, in->l3 + 8, &in->x.src, 16) ||
		    bn_ctx_store(ctx, in->l3 + 24, &in->x.dst, 16))
			return -BN_DROP_NAT_WRITE;
		return 0;
	}
	if (bn_ctx_store(ctx, in->l3 + 12, &in->x.src.w[3], 4) ||
	    bn_ctx_store(ctx, in->l3 + 16, &in->x.dst.w[3], 4))
		return -BN_DROP_NAT_WRITE;
	return bn_icmp_csum(ctx, in->l3 + 10, addrs, false, diff);
}

/* Writes the quoted tuple in->x and the outer one p->x. */
__noinline int bn_icmp_write(bn_ctx *ctx, struct bn_pkt *p, struct bn_inner *in)
{
	bool v6 = p && (p->flags & BN_PKT_F_V6);
	__u64 addrs, ports, diff, outer;
	int r;

	if (!p || !in)
		return -BN_DROP_INTERNAL;
	addrs = bn_diff_addr(&in->t.src, &in->x.src, v6) + bn_diff_addr(&in->t.dst, &in->x.dst, v6);
	ports = bn_diff_port(in->t.sport, in->x.sport) + bn_diff_port(in->t.dport, in->x.dport);
	outer = bn_diff_addr(&p->t.src, &p->x.src, v6) + bn_diff_addr(&p->t.dst, &p->x.dst, v6);
	diff = addrs + ports;
	r = bn_icmp_write_l3(ctx, p, in, addrs, &diff);
	if (r)
		return r;
	if (bn_ctx_store(ctx, in->l4, &in->x.sport, 2) ||
	    bn_ctx_store(ctx, in->l4 + 2, &in->x.dport, 2))
		return -BN_DROP_NAT_WRITE;
	if (in->proto == BN_PROTO_UDP)
		r = bn_icmp_csum(ctx, in->l4 + 6, addrs + ports, true, &diff);
	else if (in->proto == BN_PROTO_TCP && in->avail >= 18)
		r = bn_icmp_csum(ctx, in->l4 + 16, addrs + ports, false, &diff);
	if (r)
		return r;
	if (bpf_l4_csum_replace(ctx, p->l4 + 2, 0, bn_csum_fold32(diff), 0))
		return -BN_DROP_NAT_WRITE;
	if (v6 && bpf_l4_csum_replace(ctx, p->l4 + 2, 0, bn_csum_fold32(outer), BPF_F_PSEUDO_HDR))
		return -BN_DROP_NAT_WRITE;
	return bn_nat_l3(ctx, p, outer, false);
}

/* Is it a flow through a service that this node itself began? */
static __always_inline bool bn_ct_of_node(const struct bn_ct_hit *hit)
{
	return (hit->flags & (BN_CT_F_NAT | BN_CT_F_NET | BN_CT_F_SHIFTED)) == BN_CT_F_NAT &&
	       !hit->e->ifindex;
}

/* What the receiver shall see, if it is the side that knows another tuple. */
static __always_inline bool bn_icmp_translate(struct bn_pkt *p, struct bn_inner *in,
					      const struct bn_ct_hit *hit, bool here_in)
{
	const struct bn_ct_entry *e = hit->e;
	bool alias = hit->flags & BN_CT_F_ALIAS;

	p->x = p->t;
	if ((hit->flags & (BN_CT_F_NAT | BN_CT_F_FOREIGN)) != BN_CT_F_NAT)
		return false;
	if (alias && hit->reply && !here_in) {
		/* From the client, about a reply: xs -> xd is what the server knows. */
		in->x.src = e->xd;
		in->x.sport = e->xdp;
		in->x.dst = e->xs;
		in->x.dport = e->xsp;
		if (bn_addr_same(&p->t.dst, &in->t.src))
			p->x.dst = e->xd;
		if (hit->flags & BN_CT_F_SNAT)
			p->x.src = e->xs; /* the server knows nobody else */
		return true;
	}
	if (!alias && !hit->reply && here_in) {
		/* To the client, about what it sent to the service: xs -> xd. */
		in->x.src = e->xs;
		in->x.sport = e->xsp;
		in->x.dst = e->xd;
		in->x.dport = e->xdp;
		if (bn_addr_same(&p->t.src, &in->t.dst))
			p->x.src = e->xd;
		p->x.dst = e->xs;
		return true;
	}
	return false;
}

static __always_inline int bn_icmp_related(bn_ctx *ctx, struct bn_pkt *p, struct bn_ct_hit *hit)
{
	struct bn_scratch *s;
	bool in = p->hook == BN_HOOK_TO_POD;
	/* The error goes against the quoted packet. */
	bool client = in ? !hit->reply : hit->reply;
	__u32 need = (hit->reply ? 0 : BN_NEED_REPLY) | (in ? BN_NEED_HERE_IN : 0) |
		     (client ? BN_NEED_EGRESS : BN_NEED_INGRESS);
	bool moved, node;
	int r;

	r = bn_flow_prove(p, hit->e, hit->gen, need);
	if (r)
		return r;
	/* Read again rather than kept: 8 bytes of stack each. */
	s = bn_scratch_get();
	if (!s)
		return -BN_DROP_INTERNAL;
	/* The node has no hook behind its stack: what is about its own packets is turned back here, and so is
	 * what is addressed to it in the place of a pod.
	 */
	node = (hit->flags & (BN_CT_F_HAIRPIN | BN_CT_F_MASQ)) && !(hit->flags & BN_CT_F_ALIAS);
	moved = bn_icmp_translate(p, &s->inner, hit,
				  p->hook == BN_HOOK_TO_POD || bn_ct_of_node(hit) || node);
	if (!bn_ct_same(hit))
		return -BN_DROP_INTERNAL;
	if (!moved)
		return BN_DONE_PASS;
	r = bn_icmp_write(ctx, p, &s->inner);
	p->todo &= ~BN_DO_NAT;
	if (!r && p->hook == BN_HOOK_FROM_POD && hit->e->ifindex) {
		if (hit->flags & BN_CT_F_HAIRPIN)
			p->todo |= BN_DO_BACK;
		if (hit->flags & BN_CT_F_MASQ)
			p->todo |= BN_DO_ROUTED;
		if (p->todo & (BN_DO_BACK | BN_DO_ROUTED))
			return 0;
	}
	return r ? r : BN_DONE_PASS;
}

/* Returns as stages do; BN_ICMP_OTHER: it belongs to no flow that is known. */
#define BN_ICMP_OTHER BN_DONE__MAX

__noinline int bn_icmp_error(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit = {};

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	if ((p->flags & BN_PKT_F_LATER) || bn_icmp_inner(ctx, p, &s->inner))
		return BN_ICMP_OTHER;
	if (!bn_addr_same(&p->t.dst, &s->inner.t.src) ||
	    (p->hook == BN_HOOK_FROM_POD && !bn_addr_same(&p->t.src, &s->inner.t.dst)))
		return BN_ICMP_OTHER;
	bn_ct_ref_far(&s->ref, &s->inner.t, s->inner.proto, BN_CT_ZONE_MAIN);
	bn_ct_find(&s->ref, &hit);
	/* No client is sent anything under a translated tuple: a direct flow that was moved aside. */
	if (hit.e && p->hook == BN_HOOK_FROM_POD && hit.reply &&
	    (hit.flags & (BN_CT_F_NAT | BN_CT_F_ALIAS | BN_CT_F_FOREIGN)) == BN_CT_F_NAT) {
		bn_ct_ref_far(&s->ref, &s->inner.t, s->inner.proto, BN_CT_ZONE_SHIFTED);
		bn_ct_find(&s->ref, &hit);
	}
	if (!hit.e || bn_ct_expired(hit.e, p->now_s))
		return BN_ICMP_OTHER;
	return bn_icmp_related(ctx, p, &hit);
}

#endif
