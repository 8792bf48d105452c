/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_SEGMENT_H
#define BN_BPF_HTTP_SEGMENT_H

/* The client's segment as the server's stack will see it: is its checksum right, and a part of it. */

#include "bpf/lib/http_feed.h"
#include "bpf/lib/http_say.h"

#define BN_HTTP_SUM_PIECE 256 /* bpf_csum_diff takes 512 */

struct bn_http_sum {
	bn_ctx *ctx;
	__u32 at, to;
	__u64 sum;
	__u32 bad;
};

static long bn_http_sum_one(__u32 i, struct bn_http_sum *g)
{
	struct bn_http_work *w = bn_http_work_get();
	__u32 n = g->to - g->at, last;

	if (!w || !n)
		return 1;
	last = (n < BN_HTTP_SUM_PIECE ? n - 1 : BN_HTTP_SUM_PIECE - 1) & (BN_HTTP_SUM_PIECE - 1);
	BN_OPAQUE(last);
	last &= BN_HTTP_SUM_PIECE - 1;
	((__u32 *)w->image)[last / 4] = 0;
	if (bpf_skb_load_bytes(g->ctx, g->at, w->image, last + 1)) {
		g->bad = 1;
		return 1;
	}
	g->sum += (__u32)bpf_csum_diff(NULL, 0, (__be32 *)w->image, (last / 4 + 1) * 4, 0);
	g->at += last + 1;
	return 0;
}

/* The folded sum of the pseudo header and of the first `len` bytes from the TCP header on; -1: cannot be read.
 * In the packet the addresses are still those of p->t, whatever the pod sees.
 */
__noinline int bn_http_sum(bn_ctx *ctx, struct bn_pkt *p, __u32 len)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_sum g = {.ctx = ctx};

	if (!w || !p)
		return -1;
	g.sum = bn_http_pseudo(&p->t, p->flags & BN_PKT_F_V6, len);
	g.at = p->l4;
	g.to = p->l4 + len;
	if (len <= BN_HTTP_SUM_PIECE)
		bn_http_sum_one(0, &g);
	else
		bpf_loop(BN_HTTP_STEPS / BN_HTTP_SUM_PIECE, bn_http_sum_one, &g, 0);
	return g.bad || g.at != g.to ? -1 : bn_csum_fold16(g.sum);
}

/* Was the segment damaged on its way here? The receiver drops it then and the sender sends the right bytes again:
 * what a damaged one says must not be taken for what was said.
 *
 * Not where somebody has vouched for it: the device that took it from the wire, or its sender on this machine,
 * which leaves the sum of the pseudo header in the field for a device to go on from. Who forges that
 * on the wire gains nothing: no field tells the two apart here, but the receiver's stack knows which it is and
 * drops the segment; its bytes were let pass and kept, as those of any segment that the receiver refuses
 * for a reason that is not seen here, and nothing else passes in their place.
 */
__noinline int bn_http_damaged_sum(bn_ctx *ctx, struct bn_pkt *p)
{
	struct bn_http_work *w = bn_http_work_get();

	if (!w || !p)
		return 0;
	/* Several segments in one: whoever made it of them has looked. */
	if (ctx->gso_size || bpf_csum_level(ctx, BPF_CSUM_LEVEL_QUERY) >= 0)
		return 0;
	/* Before anybody's segment is dropped: where the field holds something else, but is to be computed yet. */
	return bn_http_sum(ctx, p, p->l4_len) != 0xffff && !bn_http_look(ctx, p) && !w->partial;
}

static __always_inline bool bn_http_damaged(bn_ctx *ctx, struct bn_pkt *p)
{
	const struct bn_http_work *w = bn_http_work_get();
	__u32 pseudo = bn_csum_fold16(bn_http_pseudo(&p->t, p->flags & BN_PKT_F_V6, p->l4_len));

	return w && !bn_csum_same(w->tcp.csum, pseudo) && bn_http_damaged_sum(ctx, p);
}

/* The segment is shorter now, and the other judge of this flow may look at it yet. */
static __always_inline int bn_http_trimmed(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_work *w, __u32 n)
{
	p->l4_len = (w->tcp.doff >> 4) * 4 + n;
	w->plen = n;
	w->end = w->seq + n;
	return bn_ctx_load(ctx, p->l4, &w->tcp, sizeof(w->tcp)) ? -BN_DROP_NAT_WRITE : 0;
}

/* Cuts the segment to its first n bytes of payload, without FIN. 0: it goes on so. */
__noinline int bn_http_trim(bn_ctx *ctx, struct bn_pkt *p, __u32 n)
{
	struct bn_http_work *w = bn_http_work_get();
	int sum;
	bool v6;
	__u32 gso = ctx->gso_size, len, l3;
	__be16 was, is;
	__u8 flags;

	if (!w || !p || bn_http_look(ctx, p))
		return -BN_DROP_INTERNAL;
	if (p->l4_len > 65535 - 128) /* BIG TCP: no length in the header to change; it comes again */
		return -BN_DROP_HTTP_WAITING;
	/* What is left is one segment: the rest comes again. */
	if (gso && n > gso)
		n = gso;
	v6 = p->flags & BN_PKT_F_V6;
	l3 = p->l4 - p->l3;
	len = (w->tcp.doff >> 4) * 4 + n;
	if (bpf_skb_change_tail(ctx, p->l4 + len, 0))
		return -BN_DROP_NAT_WRITE;
	was = bpf_htons(v6 ? p->l4_len : p->l4_len + l3);
	is = bpf_htons(v6 ? len : len + l3);
	if (v6) {
		if (bn_http_say_put(ctx, p->l3 + 4, &is, 2))
			return -BN_DROP_NAT_WRITE;
	} else if (bpf_l3_csum_replace(ctx, p->l3 + 10, was, is, 2) || bn_http_say_put(ctx, p->l3 + 2, &is, 2)) {
		return -BN_DROP_NAT_WRITE;
	}
	flags = w->tcp.flags & ~BN_TCP_FIN;
	if (bn_http_say_put(ctx, p->l4 + 13, &flags, 1))
		return -BN_DROP_NAT_WRITE;
	if (w->partial)
		return bpf_l4_csum_replace(ctx, p->l4 + 16, bpf_htons(p->l4_len), bpf_htons(len),
					   BPF_F_PSEUDO_HDR | 2)
			       ? -BN_DROP_NAT_WRITE
			       : bn_http_trimmed(ctx, p, w, n);
	is = 0;
	if (bn_http_say_put(ctx, p->l4 + 16, &is, 2))
		return -BN_DROP_NAT_WRITE;
	sum = bn_http_sum(ctx, p, len);
	is = ~sum;
	return sum < 0 || bn_http_say_put(ctx, p->l4 + 16, &is, 2) ? -BN_DROP_NAT_WRITE : bn_http_trimmed(ctx, p, w, n);
}

/* The field that offers HTTP/2, as the server will see it: one byte of its name is another, and it offers nothing. Each
 * time that it passes; where it is not in one segment, or written with other blanks, it stays, and a server that takes it
 * gets no further (bn_http_offer_end). 0 or -BN_DROP_x.
 */
__noinline int bn_http_decline(bn_ctx *ctx, struct bn_pkt *p, struct bn_http_conn *c)
{
	const __u64 want = BN_HTTP_WORD('u', 'p', 'g', 'r', 'a', 'd', 'e', ':'), lower = 0x2020202020202020ull;
	struct bn_http_work *w = bn_http_work_get();
	__be32 was, is; /* with the byte where it stands in its word */
	__u8 other = 'X';
	__u32 at, shift;
	__u64 name;

	if (!w || !p || !c)
		return -BN_DROP_INTERNAL;
	if (!bn_before(c->una, c->offer)) {
		c->flags &= ~BN_HTTP_CONN_F_OFFER;
		return 0;
	}
	at = c->offer - 12; /* "Upgrade: h2c" */
	if (bn_before(at, w->seq) || bn_before(w->end, c->offer))
		return 0;
	shift = ((at - w->seq) & 1) * 8;
	at = w->toff + (at - w->seq);
	if (bn_ctx_load(ctx, at, &name, sizeof(name)))
		return -BN_DROP_INTERNAL;
	if ((bpf_be64_to_cpu(name) | lower) != want)
		return 0;
	was = (__u32)(name & 0xff) << shift;
	is = (__u32)other << shift;
	if (bn_ctx_csum(ctx, p->l4 + 16, bpf_csum_diff(&was, sizeof(was), &is, sizeof(is), 0), false, false) ||
	    bn_ctx_store(ctx, at, &other, sizeof(other)))
		return -BN_DROP_NAT_WRITE;
	return bn_ctx_load(ctx, p->l4, &w->tcp, sizeof(w->tcp)) ? -BN_DROP_NAT_WRITE : 0;
}

#endif
