/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_SAY_H
#define BN_BPF_HTTP_SAY_H

/* Packets that the HTTP stage makes out of the one at hand: the 403, acknowledgements, resets, and the part of
 * a segment that may pass.
 *
 * All are between the two ends as the pod behind the hook knows them. One towards the pod goes into it from
 * here. One from the pod to its peer re-enters at from_pod with a mark, as if the pod had sent it: translation
 * and the way out are the same as for any packet of the pod, whatever it is behind: a service, a NodePort,
 * redirect_peer, a bridge.
 */

#include "bpf/lib/http_work.h"

/* On a packet of ours that re-enters at from_pod: it goes its way, but HTTP rules do not judge it. */
#define BN_MARK_HTTP 0xb9f0a25f

#define BN_HTTP_403_HEAD                                                                           \
	"HTTP/1.1 403 Forbidden\r\n"                                                               \
	"Server: bpfnet\r\n"                                                                       \
	"Content-Type: text/plain\r\n"                                                             \
	"Content-Length: 40\r\n"                                                                   \
	"Connection: close\r\n"                                                                    \
	"\r\n"
#define BN_HTTP_403_BODY "The request was denied by network policy"
#define BN_HTTP_403_PAD(n) (((n) + 3) & ~3u)
_Static_assert(sizeof(BN_HTTP_403_BODY) - 1 == 40, "Content-Length");

enum {
	BN_HTTP_403_HEAD_LEN = sizeof(BN_HTTP_403_HEAD) - 1,
	BN_HTTP_403_LEN = sizeof(BN_HTTP_403_HEAD BN_HTTP_403_BODY) - 1,
};

/* Padded with zeros: checksums are over words. */
static const char bn_http_403_head[BN_HTTP_403_PAD(BN_HTTP_403_HEAD_LEN + 1)] = BN_HTTP_403_HEAD;
static const char bn_http_403[BN_HTTP_403_PAD(BN_HTTP_403_LEN + 1)] = BN_HTTP_403_HEAD BN_HTTP_403_BODY;

enum {
	BN_SAY_BACK = 1 << 0, /* to where the packet came from; else in its own direction */
	BN_SAY_403 = 1 << 1,
	BN_SAY_403_HEAD = 1 << 2, /* without the body */
};

struct bn_say {
	__u32 seq, ack;
	__u32 how;   /* BN_SAY_* */
	__u32 flags; /* of TCP */
};

/* Options that matter, and what the skb says of checksums: does the device compute them? No field tells: an
 * update that is not of the pseudo header does not change a checksum that is still to be computed.
 */
__noinline int bn_http_look(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_http_work *w = bn_http_work_get();
	__u16 was, probe = 0x1234, now = 0;
	__be32 o[3];

	if (!w || !p)
		return -1;
	w->v = p->hook == BN_HOOK_TO_POD && (p->todo & BN_DO_NAT) ? p->x : p->t;
	w->has_ts = 0;
	if ((w->tcp.doff >> 4) >= 8 && !bn_ctx_load(ctx, p->l4 + sizeof(w->tcp), o, sizeof(o)) &&
	    o[0] == bpf_htonl(0x0101080a)) {
		w->has_ts = 1;
		w->tsval = o[1];
		w->tsecr = o[2];
	}
	if (bn_ctx_load(ctx, p->l4 + 16, &was, 2) || bn_ctx_store(ctx, p->l4 + 16, &probe, 2) ||
	    bpf_l4_csum_replace(ctx, p->l4 + 16, 0, 0x0101, 2) || bn_ctx_load(ctx, p->l4 + 16, &now, 2) ||
	    bn_ctx_store(ctx, p->l4 + 16, &was, 2))
		return -1;
	w->partial = now == probe;
	return bn_ctx_load(ctx, 0, w->eth, sizeof(w->eth)) ? -1 : 0;
}

static __always_inline __u64 bn_http_pseudo(const struct bn_tuple *t, bool v6, __u32 len)
{
	__u64 s = (__u64)bpf_htonl(len) + bpf_htonl(BN_PROTO_TCP) + t->src.w[3] + t->dst.w[3];

	if (v6)
#pragma clang loop unroll(full)
		for (int i = 0; i < 3; i++)
			s += (__u64)t->src.w[i] + t->dst.w[i];
	return s;
}

static __always_inline void bn_http_say_l3(struct bn_http_work *w, bool v6, bool back, __u32 len)
{
	const struct bn_addr *src = back ? &w->v.dst : &w->v.src, *dst = back ? &w->v.src : &w->v.dst;
	struct bn_answer *a = &w->l3;

	if (v6) {
		a->v6.ver_class_flow = bpf_htonl(0x60000000);
		a->v6.len = bpf_htons(len);
		a->v6.next = BN_PROTO_TCP;
		a->v6.hop_limit = 64;
		a->v6.src = *src;
		a->v6.dst = *dst;
		return;
	}
	a->v4.ver_ihl = 0x45;
	a->v4.tos = 0;
	a->v4.tot_len = bpf_htons(len + sizeof(a->v4));
	a->v4.id = 0;
	a->v4.frag_off = bpf_htons(0x4000);
	a->v4.ttl = 64;
	a->v4.proto = BN_PROTO_TCP;
	a->v4.csum = 0;
	a->v4.src = src->w[3];
	a->v4.dst = dst->w[3];
	a->v4.csum = ~bn_csum_fold16(bpf_csum_diff(NULL, 0, (__be32 *)a, sizeof(a->v4), 0));
}

static __always_inline void bn_http_say_tcp(struct bn_http_work *w, const struct bn_say *s, __u32 opts)
{
	bool back = s->how & BN_SAY_BACK;
	struct bn_tcp *t = &w->l4.tcp;

	t->sport = back ? w->v.dport : w->v.sport;
	t->dport = back ? w->v.sport : w->v.dport;
	t->seq = bpf_htonl(s->seq);
	t->ack = bpf_htonl(s->ack);
	t->doff = (sizeof(*t) + opts) / 4 << 4;
	t->flags = s->flags;
	t->window = s->flags & BN_TCP_RST ? 0 : bpf_htons(512);
	t->csum = 0;
	t->urg = 0;
	w->l4.ts[0] = bpf_htonl(0x0101080a);
	w->l4.ts[1] = back ? w->tsecr : w->tsval;
	w->l4.ts[2] = back ? w->tsval : w->tsecr;
}

static __always_inline int bn_http_say_put(bn_ctx *ctx, __u32 at, const void *from, __u32 len)
{
	return bpf_skb_store_bytes(ctx, at, from, len, BPF_F_RECOMPUTE_CSUM);
}

/* Ethernet, IP and TCP headers, and the text. */
static __always_inline int bn_http_say_write(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_work *w, __u32 how,
					     __u32 opts)
{
	__u32 l4 = p->l3 + (p->flags & BN_PKT_F_V6 ? sizeof(struct bn_ip6) : sizeof(struct bn_ip4));
	__u32 text = l4 + sizeof(w->l4.tcp) + opts;
	__u8 mac[12];
	int r;

	__builtin_memcpy(mac, how & BN_SAY_BACK ? w->eth + 6 : w->eth, 6);
	__builtin_memcpy(mac + 6, how & BN_SAY_BACK ? w->eth : w->eth + 6, 6);
	r = bn_http_say_put(ctx, 0, mac, sizeof(mac));
	if (p->flags & BN_PKT_F_V6)
		r = r ?: bn_http_say_put(ctx, p->l3, &w->l3, sizeof(w->l3.v6));
	else
		r = r ?: bn_http_say_put(ctx, p->l3, &w->l3, sizeof(w->l3.v4));
	if (opts)
		r = r ?: bn_http_say_put(ctx, l4, &w->l4, sizeof(w->l4));
	else
		r = r ?: bn_http_say_put(ctx, l4, &w->l4.tcp, sizeof(w->l4.tcp));
	if (how & BN_SAY_403)
		r = r ?: bn_http_say_put(ctx, text, bn_http_403, BN_HTTP_403_LEN);
	else if (how & BN_SAY_403_HEAD)
		r = r ?: bn_http_say_put(ctx, text, bn_http_403_head, BN_HTTP_403_HEAD_LEN);
	return r;
}

/* Makes the packet one of ours (bn_http_look came first). 0 or -BN_DROP_x. */
__noinline int bn_http_say(bn_ctx *ctx, struct bn_pkt *p, struct bn_say *s)
{
	struct bn_http_work *w = bn_http_work_get();
	__u32 l3, opts, len, text = 0;
	bool v6;
	__u64 sum;

	if (!w || !p || !s)
		return -BN_DROP_INTERNAL;
	v6 = p->flags & BN_PKT_F_V6;
	l3 = v6 ? sizeof(struct bn_ip6) : sizeof(struct bn_ip4);
	opts = w->has_ts ? sizeof(w->l4.ts) : 0;
	if (s->how & BN_SAY_403)
		text = BN_HTTP_403_LEN;
	else if (s->how & BN_SAY_403_HEAD)
		text = BN_HTTP_403_HEAD_LEN;
	len = sizeof(w->l4.tcp) + opts + text;
	if (bpf_skb_change_tail(ctx, p->l3 + l3 + len, 0))
		return -BN_DROP_NAT_WRITE;
	bn_http_say_l3(w, v6, s->how & BN_SAY_BACK, len);
	bn_http_say_tcp(w, s, opts);
	sum = bn_http_pseudo(&w->v, v6, len);
	if (!w->partial) {
		sum += (__u32)bpf_csum_diff(NULL, 0, (__be32 *)&w->l4.tcp, sizeof(w->l4.tcp), 0);
		if (opts)
			sum += (__u32)bpf_csum_diff(NULL, 0, w->l4.ts, sizeof(w->l4.ts), 0);
		if (s->how & BN_SAY_403)
			sum += (__u32)bpf_csum_diff(NULL, 0, (__be32 *)bn_http_403, sizeof(bn_http_403), 0);
		else if (s->how & BN_SAY_403_HEAD)
			sum += (__u32)bpf_csum_diff(NULL, 0, (__be32 *)bn_http_403_head,
						    sizeof(bn_http_403_head), 0);
	}
	w->l4.tcp.csum = w->partial ? bn_csum_fold16(sum) : ~bn_csum_fold16(sum);
	return bn_http_say_write(ctx, p, w, s->how, opts) ? -BN_DROP_NAT_WRITE : 0;
}

/* --- On the way ------------------------------------------------------------------------------- */

/* The packet as it is now, as if the pod behind the hook had sent it; `copy`: and it stays at hand. */
static __always_inline int bn_http_send_out(bn_ctx *ctx, struct bn_pkt *p, bool copy)
{
	__u32 mark = ctx->mark;
	int r;

	ctx->mark = BN_MARK_HTTP;
	if (!copy)
		return bpf_redirect(p->ifindex, BPF_F_INGRESS) == TC_ACT_REDIRECT ? BN_DONE_REDIRECT
										  : -BN_DROP_REDIRECT;
	r = bpf_clone_redirect(ctx, p->ifindex, BPF_F_INGRESS);
	ctx->mark = mark;
	return r ? -BN_DROP_REDIRECT : 0;
}

/* The packet as it is now, into the pod behind the hook. */
static __always_inline int bn_http_send_in(bn_ctx *ctx, struct bn_pkt *p)
{
	const struct bn_iface *f;

	if (p->hook == BN_HOOK_TO_POD)
		return BN_DONE_PASS;
	f = bn_iface_get(p->ifindex);
	if (f && (f->flags & BN_IF_F_PEER))
		return bn_deliver_peer(ctx, p->ifindex);
	return bpf_redirect(p->ifindex, 0) == TC_ACT_REDIRECT ? BN_DONE_REDIRECT : -BN_DROP_REDIRECT;
}

/* One packet, back to the sender or on to the receiver, and the one at hand is used up. */
__noinline int bn_http_tell(bn_ctx *ctx, struct bn_pkt *p, struct bn_say *s)
{
	int r;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	r = bn_http_say(ctx, p, s);
	if (r)
		return r;
	/* From the pod's side: what goes on from from_pod, and back from to_pod, leaves the pod. */
	if (!(s->how & BN_SAY_BACK) == (p->hook == BN_HOOK_FROM_POD))
		return bn_http_send_out(ctx, p, false);
	return bn_http_send_in(ctx, p);
}

/* Two: `back` to the sender, `on` to the receiver. */
__noinline int bn_http_tell_both(bn_ctx *ctx, struct bn_pkt *p, struct bn_say *back, struct bn_say *on)
{
	int r;

	if (!p || !back || !on)
		return -BN_DROP_INTERNAL;
	if (p->hook == BN_HOOK_FROM_POD) {
		r = bn_http_say(ctx, p, on);
		r = r ?: bn_http_send_out(ctx, p, true);
		r = r ?: bn_http_say(ctx, p, back);
	} else {
		r = bn_http_say(ctx, p, back);
		r = r ?: bn_http_send_out(ctx, p, true);
		r = r ?: bn_http_say(ctx, p, on);
	}
	return r ?: bn_http_send_in(ctx, p);
}

#endif
