/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_KEEP_H
#define BN_BPF_HTTP_KEEP_H

/* Never forward two different values of one byte that matters: a receiver that did not get the first one (a
 * wrong checksum, an old timestamp, a window: reasons that we do not see) would read the second, which nobody
 * judged. So what passed of the head and framing bytes, and all that came out of order, is kept as it was
 * until it is acknowledged, and a retransmission passes only with the same bytes, however it is cut.
 *
 * Kept where it is cheap: a run of at most BN_HTTP_RECENT bytes in the connection, the rest in blocks of a
 * bounded pool. Bodies in sequence are neither kept nor compared.
 *
 * All functions: the caller holds the connection's claim.
 */

#include "bpf/lib/http_work.h"

#define BN_HTTP_FAR (1 << 30)

struct bn_http_range {
	bn_ctx *ctx;
	struct bn_http_work *w;
	struct bn_http_conn *c;
	__u32 at, to; /* what is left to do */
	__u32 bad;
	__u32 all;
};

/* --- One block -------------------------------------------------------------------------------- */

/* Bytes of the packet from `at` on, not further than the block, as an image of the block with a bit for each
 * byte that is there (w->bits). Returns their number, 0 on failure.
 */
static __always_inline __u32 bn_http_image(struct bn_http_range *g, void *image)
{
	struct bn_http_work *w = g->w;
	__u32 off = g->at % BN_HTTP_BLOCK, n = BN_HTTP_BLOCK - off, last;

	if (n > g->to - g->at)
		n = g->to - g->at;
	last = (n - 1) & (BN_HTTP_BLOCK - 1);
	BN_OPAQUE(last);
	last &= BN_HTTP_BLOCK - 1;
	if (bpf_skb_load_bytes(g->ctx, w->toff + (g->at - w->seq), (__u8 *)image + off, last + 1))
		return 0;
	for (__u32 i = 0; i < 4; i++) {
		__u32 lo = off > i * 64 ? off - i * 64 : 0, hi = off + n > i * 64 ? off + n - i * 64 : 0;
		__u64 bits;

		if (hi > 64)
			hi = 64;
		bits = hi > 63 ? ~0ull : (1ull << (hi & 63)) - 1;
		w->bits[i] = lo > 63 || lo >= hi ? 0 : bits & ~((1ull << lo) - 1);
	}
	return n;
}

/* A byte of ones for each bit of eight. */
static __always_inline __u64 bn_http_spread(__u64 bits)
{
	__u64 x = (bits & 0xff) * 0x0101010101010101ull & 0x8040201008040201ull;

	x |= (x & 0x7f7f7f7f7f7f7f7full) + 0x7f7f7f7f7f7f7f7full;
	x = x >> 7 & 0x0101010101010101ull;
	return x * 0xff;
}

static __always_inline struct bn_http_block *bn_http_block_get(struct bn_http_work *w,
							       const struct bn_http_conn *c, __u32 number)
{
	w->block_key.conn = c->id;
	w->block_key.number = number;
	w->block_key.pad = 0;
	return bpf_map_lookup_elem(&http_blocks, &w->block_key);
}

/* Was this byte, which is not in turn yet, let pass? */
static __always_inline bool bn_http_known(struct bn_http_work *w, const struct bn_http_conn *c, __u32 at)
{
	struct bn_http_block *b = c->nblocks ? bn_http_block_get(w, c, at / BN_HTTP_BLOCK) : NULL;

	return b && b->known[at % BN_HTTP_BLOCK / 64] >> (at % 64) & 1;
}

static __always_inline struct bn_http_share *bn_http_share(__u32 slot)
{
	return bpf_map_lookup_elem(&http_shares, &slot);
}

/* May the pod take another block? `early`: out of order. The last quarter of all and a third of what the pod may
 * have are for heads in sequence: a few clients with gaps must not hold up all others.
 */
static __always_inline bool bn_http_may_keep(struct bn_http_work *w, const struct bn_http_conn *c, bool early)
{
	struct bn_http_share *all = bn_http_share(0), *own = bn_http_share(c->slot);
	__u32 used, mine;

	if (!all || !own)
		return false;
	used = *(volatile __u32 *)&all->blocks;
	mine = *(volatile __u32 *)&own->blocks;
	if (used >= (early ? BN_HTTP_BLOCKS_EARLY : BN_HTTP_BLOCKS_ALL))
		return false;
	w->over = mine * (early ? 2 : 1) + used >= BN_HTTP_BLOCKS_ALL;
	return !w->over;
}

static __always_inline void bn_http_count_blocks(const struct bn_http_conn *c, __u32 n)
{
	struct bn_http_share *all = bn_http_share(0), *own = bn_http_share(c->slot);

	if (!c->slot || !all || !own)
		return;
	__sync_fetch_and_add(&all->blocks, n);
	__sync_fetch_and_add(&own->blocks, n);
}

/* The block of `at` is new: written at once. Returns how many bytes it took, 0: no room. */
static __always_inline __u32 bn_http_block_new(struct bn_http_range *g, struct bn_http_work *w, struct bn_http_conn *c,
					       __u32 number)
{
	struct bn_http_block *last;
	__u32 n;

	if (c->nblocks >= BN_HTTP_BLOCKS_CONN || !bn_http_may_keep(w, c, false))
		return 0;
	n = bn_http_image(g, w->block.bytes);
	if (!n)
		return 0;
	for (__u32 k = 0; k < 4; k++)
		w->block.known[k] = w->bits[k];
	w->block.next = number + 1; /* as a rule */
	if (bpf_map_update_elem(&http_blocks, &w->block_key, &w->block, BPF_NOEXIST))
		return 0;
	bn_http_count_blocks(c, 1);
	if (!c->nblocks) {
		c->block_first = number;
	} else if (c->block_last + 1 != number) {
		last = bn_http_block_get(w, c, c->block_last);
		if (last)
			last->next = number;
	}
	c->block_last = number;
	c->nblocks++;
	return n;
}

static long bn_http_put_one(__u32 i, struct bn_http_range *g)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_conn *c = g->c;
	struct bn_http_block *b;
	__u32 n, number;

	if (!w || !c || g->at == g->to)
		return 1;
	number = g->at / BN_HTTP_BLOCK;
	b = bn_http_block_get(w, c, number);
	n = b ? bn_http_image(g, w->image) : bn_http_block_new(g, w, c, number);
	if (!n) {
		g->bad = 1;
		return 1;
	}
	g->at += n;
	if (!b)
		return 0;
	for (__u32 k = 0; k < BN_HTTP_BLOCK / 8; k++) {
		__u64 mask = bn_http_spread(w->bits[k / 8] >> (k % 8 * 8));
		__u64 *to = (__u64 *)b->bytes + k;

		*to = (*to & ~mask) | (w->image[k] & mask);
	}
	for (__u32 k = 0; k < 4; k++)
		b->known[k] |= w->bits[k];
	return 0;
}

/* Keeps [a, b) of the packet in blocks. 0, or -1: no room. */
__noinline int bn_http_put(bn_ctx *ctx, struct bn_http_conn *c, __u32 a, __u32 b)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_range g = {.ctx = ctx, .w = w, .c = c, .at = a, .to = b};

	if (!w || !c)
		return -1;
	bpf_loop(BN_HTTP_BLOCKS_PACKET, bn_http_put_one, &g, 0);
	return g.bad || g.at != g.to ? -1 : 0;
}

/* --- Comparison ------------------------------------------------------------------------------- */

static long bn_http_compare_one(__u32 i, struct bn_http_range *g)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_block *b;
	__u64 differ = 0;
	__u32 n;

	if (!w || !g->c || g->at == g->to)
		return 1;
	b = bn_http_block_get(w, g->c, g->at / BN_HTTP_BLOCK);
	if (!b) {
		n = BN_HTTP_BLOCK - g->at % BN_HTTP_BLOCK;
		g->at += n < g->to - g->at ? n : g->to - g->at;
		return 0;
	}
	n = bn_http_image(g, w->image);
	if (!n) {
		g->bad = 1;
		return 1;
	}
	for (__u32 k = 0; k < BN_HTTP_BLOCK / 8; k++) {
		__u64 mask = bn_http_spread((w->bits[k / 8] & b->known[k / 8]) >> (k % 8 * 8));

		differ |= (((__u64 *)b->bytes)[k] ^ w->image[k]) & mask;
	}
	g->bad = !!differ;
	g->at += n;
	return g->bad;
}

static long bn_http_compare_recent(__u32 i, struct bn_http_range *g)
{
	struct bn_http_conn *c = g->c;
	struct bn_http_work *w = bn_http_work_get();
	__u32 n = g->to - g->at, last, off;

	if (!w || !c || !n)
		return 1;
	last = (n < 32 ? n - 1 : 31) & 31;
	BN_OPAQUE(last);
	last &= 31;
	if (bpf_skb_load_bytes(g->ctx, w->toff + (g->at - w->seq), w->image, last + 1)) {
		g->bad = 1;
		return 1;
	}
	off = g->at - c->recent_from;
	for (__u32 k = 0; k < 32; k++) {
		__u32 at = off + k, j = k;

		BN_OPAQUE(last); /* two ends of the loop become one, which 6.1 cannot see */
		if (k > last)
			break;
		BN_OPAQUE(at);
		BN_OPAQUE(j);
		if (((__u8 *)w->image)[j & 31] != c->recent[at & (BN_HTTP_RECENT - 1)])
			g->bad = 1;
	}
	g->at += last + 1;
	return g->bad;
}

/* Do the bytes [a, b) of the packet say what is kept of them? */
__noinline int bn_http_same(bn_ctx *ctx, struct bn_http_conn *c, __u32 a, __u32 b)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_range g = {.ctx = ctx, .w = w, .c = c};

	if (!w || !c)
		return 0;
	g.at = bn_later(a, c->recent_from);
	g.to = bn_before(b, c->recent_to) ? b : c->recent_to;
	if (bn_before(g.at, g.to))
		bpf_loop(BN_HTTP_RECENT / 32 + 1, bn_http_compare_recent, &g, 0);
	if (g.bad || !c->nblocks)
		return !g.bad;
	g.at = a;
	g.to = b;
	bpf_loop(BN_HTTP_BLOCKS_PACKET, bn_http_compare_one, &g, 0);
	return !g.bad && g.at == g.to;
}

/* --- Keeping ---------------------------------------------------------------------------------- */

/* Part of a control run into the connection itself: at most a chunk. */
static __always_inline int bn_http_keep_recent(bn_ctx *ctx, struct bn_http_work *w, struct bn_http_conn *c,
					       __u32 a, __u32 n)
{
	__u32 off = w->recent_to - w->recent_from, last = n - 1;

	if (off > BN_HTTP_RECENT - BN_HTTP_BLOCK || last >= BN_HTTP_BLOCK)
		return -1;
	BN_OPAQUE(last);
	last &= BN_HTTP_BLOCK - 1;
	BN_OPAQUE(off);
	if (off > BN_HTTP_RECENT - BN_HTTP_BLOCK)
		return -1;
	return bpf_skb_load_bytes(ctx, w->toff + (a - w->seq), c->recent + off, last + 1) ? -1 : 0;
}

/* Keeps the control bytes [a, b) of the packet. 0, or -1: no room. */
__noinline int bn_http_keep(bn_ctx *ctx, struct bn_http_conn *c, __u32 a, __u32 b)
{
	struct bn_http_work *w = bn_http_work_get();

	if (!w || !c)
		return -1;
	if (!bn_before(c->una, w->recent_to) || w->recent_from == w->recent_to)
		w->recent_from = w->recent_to = a;
	for (int i = 0; i < 2; i++) {
		__u32 n = b - a < BN_HTTP_BLOCK ? b - a : BN_HTTP_BLOCK;

		if (!n || a != w->recent_to || bn_http_keep_recent(ctx, w, c, a, n))
			break;
		a += n;
		w->recent_to = a;
	}
	w->kept = bn_later(w->kept, b);
	return a == b ? 0 : bn_http_put(ctx, c, a, b);
}

/* In the body of 4 GiB the sequence numbers of its head come again: what lies so far back is forgotten. */
static __always_inline void bn_http_far_behind(struct bn_http_conn *c, __u32 una)
{
	if ((__s32)(una - c->kept) > BN_HTTP_FAR)
		c->kept = c->recent_from = c->recent_to = una;
	if ((__s32)(una - c->head) > BN_HTTP_FAR)
		c->head = una;
}

static long bn_http_release_one(__u32 i, struct bn_http_range *g)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_conn *c = g->c;
	struct bn_http_block *b;
	__u32 next;

	if (!w || !c || !c->nblocks || (!g->all && bn_before(g->to, (c->block_first + 1) * BN_HTTP_BLOCK)))
		return 1;
	b = bn_http_block_get(w, c, c->block_first);
	next = b ? b->next : c->block_last;
	if (!bpf_map_delete_elem(&http_blocks, &w->block_key))
		g->at++;
	c->nblocks--;
	if (!b)
		c->nblocks = 0; /* the pool was cleared by hand */
	c->block_first = next;
	return 0;
}

/* Gives back blocks that are acknowledged as a whole, or all; the order is that of arrival, and a later one
 * may wait for an earlier one.
 */
__noinline int bn_http_release(struct bn_http_conn *c, __u32 all)
{
	struct bn_http_range g = {.c = c, .all = all};

	if (!c)
		return 0;
	g.to = c->una;
	bpf_loop(all ? BN_HTTP_BLOCKS_CONN : BN_HTTP_BLOCKS_PACKET, bn_http_release_one, &g, 0);
	if (g.at)
		bn_http_count_blocks(c, -g.at);
	return 0;
}

#endif
