/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_REJECT_H
#define BN_BPF_REJECT_H

/* Turns a refused packet into its answer and sends that to where the packet came from: TCP gets a
 * reset, everything else an ICMP or ICMPv6 error that quotes the packet's beginning. Per pod and
 * CPU only so many a second (nothing here may become a reflector). No answer to: ICMP errors,
 * resets, later fragments, multicast, and senders without an address (RFC 1122 3.2.2, RFC
 * 4443 2.4).
 */

#include "bpf/lib/deliver.h"
#include "bpf/lib/event.h"
#include "bpf/lib/flow.h"

#define BN_REFUSALS_PER_S 1000
#define BN_REFUSALS_BURST 200
#define BN_REFUSE_QUOTE	  128 /* bytes of the refused packet, from its IP header on */

struct bn_answer {
	union {
		struct bn_ip4 v4;
		struct bn_ip6 v6;
		__u32 w[10];
	};
};

static __always_inline bool bn_refuse_may(const struct bn_pkt *p)
{
	if ((p->flags & (BN_PKT_F_LATER | BN_PKT_F_ICMP_ERR)) || bn_addr_is_multi(&p->t.dst) ||
	    bn_addr_is_multi(&p->t.src))
		return false;
	if (p->proto == BN_PROTO_TCP && (p->tcp & BN_TCP_RST))
		return false;
	return p->flags & BN_PKT_F_V6 ? !bn_addr_is_zero(&p->t.src) : p->t.src.w[3] != 0;
}

static __always_inline __u32 bn_refuse_l3_len(const struct bn_pkt *p)
{
	return p->flags & BN_PKT_F_V6 ? sizeof(struct bn_ip6) : sizeof(struct bn_ip4);
}

/* The IP header of an answer with `len` bytes behind it, at the beginning of buf. */
static __always_inline void bn_refuse_l3(const struct bn_pkt *p, struct bn_answer *a, __u8 proto,
					 __u32 len)
{
	if (p->flags & BN_PKT_F_V6) {
		a->v6.ver_class_flow = bpf_htonl(0x60000000);
		a->v6.len = bpf_htons(len);
		a->v6.next = proto;
		a->v6.hop_limit = 64;
		a->v6.src = p->t.dst;
		a->v6.dst = p->t.src;
	} else {
		a->v4.ver_ihl = 0x45;
		a->v4.tos = 0;
		a->v4.tot_len = bpf_htons(len + sizeof(a->v4));
		a->v4.id = 0;
		a->v4.frag_off = bpf_htons(0x4000);
		a->v4.ttl = 64;
		a->v4.proto = proto;
		a->v4.csum = 0;
		a->v4.src = p->t.dst.w[3];
		a->v4.dst = p->t.src.w[3];
		a->v4.csum = ~bn_csum_fold16(bpf_csum_diff(NULL, 0, (__be32 *)a, sizeof(a->v4), 0));
	}
}

/* The pseudo header's share of an L4 checksum. */
static __always_inline __u64 bn_refuse_pseudo(const struct bn_pkt *p, __u8 proto, __u32 len)
{
	__u64 s = (__u64)bpf_htonl(len) + bpf_htonl(proto) + p->t.src.w[3] + p->t.dst.w[3];

	if (p->flags & BN_PKT_F_V6)
#pragma clang loop unroll(full)
		for (int i = 0; i < 3; i++)
			s += (__u64)p->t.src.w[i] + p->t.dst.w[i];
	return s;
}

/* Packet and buffer sized and written: [IP header | len bytes of h]. */
static __always_inline int bn_refuse_write(bn_ctx *ctx, struct bn_pkt *p, struct bn_answer *a,
					   const void *h, __u32 len)
{
	__u32 l3 = bn_refuse_l3_len(p), n = len - 1;

	if (bpf_skb_change_tail(ctx, p->l3 + l3 + len, 0))
		return -BN_DROP_NAT_WRITE;
	if (p->flags & BN_PKT_F_V6 ? bn_ctx_store(ctx, p->l3, a, sizeof(a->v6))
				   : bn_ctx_store(ctx, p->l3, a, sizeof(a->v4)))
		return -BN_DROP_NAT_WRITE;
	n &= 0xff; /* 6.1 does not learn from len != 0 */
	return bn_ctx_store(ctx, p->l3 + l3, h, n + 1) ? -BN_DROP_NAT_WRITE : 0;
}

struct bn_tcp {
	__be16 sport, dport;
	__be32 seq, ack;
	__u8 doff, flags;
	__be16 window;
	__u16 csum;
	__be16 urg;
};

/* RFC 9293 3.10.7.1 */
__noinline int bn_refuse_tcp(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_answer a = {};
	struct bn_tcp in, out = {};
	__u32 seg;

	if (!p || bn_ctx_load(ctx, p->l4, &in, sizeof(in)))
		return -BN_DROP_NAT_WRITE;
	out.sport = in.dport;
	out.dport = in.sport;
	out.doff = 5 << 4;
	if (in.flags & BN_TCP_ACK) {
		out.flags = BN_TCP_RST;
		out.seq = in.ack;
	} else {
		seg = p->l4_len - (in.doff >> 4) * 4 + !!(in.flags & BN_TCP_SYN) +
		      !!(in.flags & BN_TCP_FIN);
		out.flags = BN_TCP_RST | BN_TCP_ACK;
		out.ack = bpf_htonl(bpf_ntohl(in.seq) + seg);
	}
	out.csum = ~bn_csum_fold16(bn_refuse_pseudo(p, BN_PROTO_TCP, sizeof(out)) +
				   bpf_csum_diff(NULL, 0, (__be32 *)&out, sizeof(out), 0));
	bn_refuse_l3(p, &a, BN_PROTO_TCP, sizeof(out));
	return bn_refuse_write(ctx, p, &a, &out, sizeof(out));
}

__noinline int bn_refuse_icmp(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	bool v6 = p && (p->flags & BN_PKT_F_V6);
	struct bn_answer a = {};
	struct bn_quote *q;
	__u32 n;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	q = &s->quote;
	__builtin_memset(q, 0, sizeof(*q));
	if (p->refuse == BN_REFUSE_TOO_BIG) {
		q->type = v6 ? 2 : 3;
		q->code = v6 ? 0 : 4;
		q->rest = bpf_htonl(s->fib.mtu_result);
	} else if (p->refuse == BN_REFUSE_TTL) {
		q->type = v6 ? 3 : 11;
	} else if (v6) {
		q->type = 1;
		q->code = p->refuse == BN_REFUSE_PROHIBIT ? 1 : 4;
	} else {
		q->type = 3;
		q->code = p->refuse == BN_REFUSE_PROHIBIT ? 13 : 3;
	}
	n = p->l4 - p->l3 + p->l4_len;
	if (n > BN_REFUSE_QUOTE)
		n = BN_REFUSE_QUOTE;
	n = (n - 1) & (BN_REFUSE_QUOTE - 1);
	if (bn_ctx_load(ctx, p->l3, q->data, n + 1))
		return -BN_DROP_NAT_WRITE;
	n += 1 + 8;
	q->csum = ~bn_csum_fold16((v6 ? bn_refuse_pseudo(p, BN_PROTO_ICMP6, n) : 0) +
				  bpf_csum_diff(NULL, 0, (__be32 *)q, sizeof(*q), 0));
	bn_refuse_l3(p, &a, v6 ? BN_PROTO_ICMP6 : BN_PROTO_ICMP, n);
	return bn_refuse_write(ctx, p, &a, q, n);
}

/* Sends the answer to a packet that a stage refused: BN_DONE_REDIRECT, or -BN_DROP_x (no answer).
 */
__noinline int bn_refuse(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_tokens *t;
	int r;

	if (!p || !bn_refuse_may(p))
		return -BN_DROP_INTERNAL;
	if (!bn_tokens_take(p->slot & (BN_TOKENS_REJECT - 1), p->now_ns, BN_REFUSALS_PER_S,
			    BN_REFUSALS_BURST, &t))
		return -BN_DROP_REJECT_RATE;
	r = p->proto == BN_PROTO_TCP && p->refuse < BN_REFUSE_TOO_BIG ? bn_refuse_tcp(ctx, p)
								      : bn_refuse_icmp(ctx, p);
	return r ? r : bn_deliver_back(ctx, p);
}

#endif
