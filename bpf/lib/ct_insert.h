/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_CT_INSERT_H
#define BN_BPF_CT_INSERT_H

/* Insertion into the connection table (bpf/lib/ct.h).
 *
 * It holds the bucket's lock while it copies, and takes, in this order: a free way (of these and of expired ones
 * first the key's own), an expired one, a closed one; then a half-open flow of the pod that has most of them in
 * the bucket, its own on a tie. Never an established one.
 *
 * Written to compile in user space too.
 */

#include "bpf/lib/ct.h"

/* How willingly a way is given up: the greatest weight goes first; below HALF it is kept. */
#define BN_CT_W_FREE	(1ULL << 62)
#define BN_CT_W_EXPIRED (1ULL << 61)
#define BN_CT_W_CLOSED	(1ULL << 60)
#define BN_CT_W_HALF	(1ULL << 59)
#define BN_CT_W_COUNT	48
#define BN_CT_W_OWN	47
#define BN_CT_W_AGE	8

#define BN_CT_T_CLOSED_S 30 /* how long a closed flow is kept, if nobody needs the room */
#define BN_CT_LINGER_S	 4  /* ... and at least, while there is anything else to be had */
#define BN_CT_T_UDP_S	 30
#define BN_CT_T_UDP_REPLIED_S 60
#define BN_CT_STALE_S	 2

/* 1 if the flag `bit` (one bit) is set. */
static __always_inline __u64 bn_ct_has(__u32 flags, __u32 bit)
{
	__u64 v = flags & bit;

	BN_OPAQUE(v);
	return (0 - v) >> 63;
}

static __always_inline __u64 bn_ct_weight(const struct bn_ct_head *h, const struct bn_ct_bucket *b,
					  __u32 i, __u32 now_s)
{
	const struct bn_ct_entry *e = &b->e[i];
	__u32 f = *(volatile __u32 *)&e->flags;
	__u64 left = (__u64)(__s64)(__s32)(*(volatile __u32 *)&e->expires - now_s);
	__u64 expired;

	BN_OPAQUE(left);
	expired = (left - 1) >> 63 & 1;
	return bn_eq(*(volatile __u32 *)&h->tag[i], 0) << 62 | expired << 61 |
	       bn_ct_has(f, BN_CT_F_CLOSED) << 60 | (bn_ct_has(f, BN_CT_F_ASSURED) ^ 1) << 59;
}

/* Among half-open entries: first the pod's that has most of them here, own ones on a tie, the
 * oldest. */
static __always_inline __u64 bn_ct_half_weight(const struct bn_ct_bucket *b, __u32 i,
					       const struct bn_ct_new *n)
{
	__u64 count = 0, own = bn_eq(b->e[i].slot, n->e.slot);

#pragma clang loop unroll(full)
	for (__u32 j = 0; j < BN_CT_WAYS; j++)
		count += (bn_ct_has(b->e[j].flags, BN_CT_F_ASSURED) ^ 1) &
			 bn_eq(b->e[i].slot, b->e[j].slot);
	return count << BN_CT_W_COUNT | own << BN_CT_W_OWN |
	       (__u64)((n->now_s - b->e[i].created) & 0xffff) << BN_CT_W_AGE;
}

/* Of weights (below 2^63), without a branch. */
static __always_inline __u64 bn_ct_max(__u64 a, __u64 b)
{
	__u64 less = (a - b) >> 63;

	BN_OPAQUE(less);
	return a ^ ((a ^ b) & (0 - less));
}

/* The way of this bucket that is best given up (low byte), with its weight. */
__noinline __u64 bn_ct_victim(__u32 bucket, struct bn_ct_new *n)
{
	struct bn_ct_head *h = bpf_map_lookup_elem(&ct_heads, &bucket);
	struct bn_ct_bucket *b = bpf_map_lookup_elem(&ct, &bucket);
	__u64 best = 0;
	__u32 home;

	if (!h || !b || !n)
		return 0;

	home = bn_ct_home(n->h.tag);
#pragma clang loop unroll(full)
	for (__u32 i = 0; i < BN_CT_WAYS; i++) {
		best = bn_ct_max(best, bn_ct_weight(h, b, i, n->now_s) | bn_eq(i, home) << 8 | i);
	}
	if (best >= BN_CT_W_CLOSED || best < BN_CT_W_HALF)
		return best;
	best = 0;
	for (__u32 i = 0; i < BN_CT_WAYS; i++) {
		__u64 half = bn_ct_weight(h, b, i, n->now_s) >> 59 & 1;

		best = bn_ct_max(best, half << 59 | (bn_ct_half_weight(b, i, n) & (0 - half)) | i);
	}
	return best;
}

static __always_inline void bn_ct_write(struct bn_ct_head *h, struct bn_ct_bucket *b, __u32 at,
					const struct bn_ct_new *n)
{
	struct bn_ct_entry *e = &b->e[at];
	const bn_u64a *from = (const bn_u64a *)&n->e;
	bn_u64a *to = (bn_u64a *)e;
	__u32 gen = (e->gen & ~1u) + 2;

	*(volatile __u32 *)&e->gen = gen | 1;
	bn_fence();
	*(volatile __u32 *)&h->tag[at] = n->h.tag;
#pragma clang loop unroll(full)
	for (__u32 i = 0; i < sizeof(n->e) / 8; i++)
		if (i != 5) /* gen, expires */
			to[i] = from[i];
	e->expires = n->e.expires;
	/* Stamps are made for the generation that the entry has from now on. */
	e->eg_stamp = BN_CT_STAMP((__u32)n->e.eg_stamp, gen) | (n->e.eg_stamp & BN_CT_STAMP_HTTP);
	e->in_stamp = BN_CT_STAMP((__u32)n->e.in_stamp, gen) | (n->e.in_stamp & BN_CT_STAMP_HTTP);
	/* Those who know nothing of HTTP leave the fields as they find them. */
	e->http = ((n->e.eg_stamp & BN_CT_STAMP_HTTP) ? n->e.http & BN_CT_HTTP_RULES : 0) |
		  ((n->e.in_stamp & BN_CT_STAMP_HTTP) ? n->e.http & BN_CT_HTTP_RULES << 16 : 0);
	e->first = 0;
	e->srv_first = 0;
	bn_fence();
	*(volatile __u32 *)&e->gen = gen;
}

/* What a bucket's tags say, one cache line, which the look-up has just read: in the lowest byte a free
 * way (n's home if that is), then their number, then 0 if no way has n's tag.
 */
#define BN_CT_S_FREE(s) ((s) & 0xff00)
#define BN_CT_S_SAME(s) ((s) >> 16)

__noinline __u64 bn_ct_scan(__u32 bucket, struct bn_ct_new *n)
{
	struct bn_ct_head *h = bpf_map_lookup_elem(&ct_heads, &bucket);
	__u64 at = 0, free = 0, same, is;
	__u32 home;

	if (!h || !n)
		return 0;
	home = bn_ct_home(n->h.tag);
	if (home >= BN_CT_WAYS)
		return 0;
#pragma clang loop unroll(full)
	for (__u32 i = 0; i < BN_CT_WAYS; i++) {
		is = bn_eq(*(volatile __u32 *)&h->tag[i], 0);
		free += is;
		at += (i - at) * is;
	}
	is = bn_eq(*(volatile __u32 *)&h->tag[home], 0);
	at += (home - at) * is;
	same = bn_ct_way_of(h, n->h.tag);
	return (BN_CT_WAYS - same) << 16 | free << 8 | at;
}

/* Under the lock: what has expired, or was closed so long ago that hardly anything can come, becomes
 * free, so that not every insertion into a full bucket has to read all its entries.
 */
static __always_inline void bn_ct_sweep(struct bn_ct_head *h, struct bn_ct_bucket *b, __u32 now_s)
{
#pragma clang loop unroll(full)
	for (__u32 i = 0; i < BN_CT_WAYS; i++) {
		const struct bn_ct_entry *e = &b->e[i];
		__u64 left = (__u64)(__s64)(__s32)(e->expires - now_s);
		__u64 over;

		BN_OPAQUE(left);
		over = (left - 1) >> 63;
		over |= (left - (BN_CT_T_CLOSED_S - BN_CT_LINGER_S + 1)) >> 63 &
			bn_ct_has(e->flags, BN_CT_F_CLOSED);
		*(volatile __u32 *)&h->tag[i] = h->tag[i] & ((__u32)over - 1);
	}
}

/* Puts n into the way named by the low byte of `w`, if that is still to be given up as willingly
 * and nobody inserted the key meanwhile. 0, or -1: look again.
 */
__noinline int bn_ct_place(__u32 bucket, struct bn_ct_new *n, __u64 w)
{
	struct bn_ct_head *h = bpf_map_lookup_elem(&ct_heads, &bucket), *o;
	struct bn_ct_bucket *b = bpf_map_lookup_elem(&ct, &bucket);
	__u32 at = w & 0xff, other;
	bool yes;
	int r = -1;

	BN_OPAQUE(at); /* the checked register is the one used */
	if (!h || !b || !n || at >= BN_CT_WAYS)
		return -1;
	other = n->h.bucket[0] ^ n->h.bucket[1] ^ bucket;
	o = bpf_map_lookup_elem(&ct_heads, &other);
	if (!o)
		return -1;
	bpf_spin_lock(&h->lock);
	if (w & BN_CT_W_FREE)
		yes = !h->tag[at];
	else
		yes = bn_ct_weight(h, b, at, n->now_s) >=
		      (w & (BN_CT_W_EXPIRED | BN_CT_W_CLOSED | BN_CT_W_HALF));
	/* Nor in the key's other bucket, whose lock cannot be held as well: what is left are nanoseconds. */
	if (yes && bn_ct_way_of(h, n->h.tag) >= BN_CT_WAYS && bn_ct_way_of(o, n->h.tag) >= BN_CT_WAYS) {
		if (!(w & BN_CT_W_FREE))
			bn_ct_sweep(h, b, n->now_s);
		bn_ct_write(h, b, at, n);
		r = 0;
	}
	bpf_spin_unlock(&h->lock);
	return r;
}

/* UDP has no end, and a client that asks from a new port each time comes back to a port long before the flow that it
 * was used for has expired. Is this one of those: a question or two, and silence since (1 to 2 s, as the clock ticks)?
 */
static __always_inline bool bn_ct_stale(const struct bn_ct_entry *e, __u32 flags, __u32 now_s)
{
	__u32 life = flags & BN_CT_F_REPLIED ? BN_CT_T_UDP_REPLIED_S : BN_CT_T_UDP_S;

	return e->key.proto == BN_PROTO_UDP && !(flags & BN_CT_F_ASSURED) &&
	       (__s32)(*(volatile __u32 *)&e->expires - now_s) <= (__s32)life - BN_CT_STALE_S;
}

/* n is the reverse entry of a flow to a service that keeps its client port, and e has that tuple: of the same socket
 * address then, directly or by another service. Were all such flows kept, a pod that asks one server in two ways (with
 * sendto(), which is translated at the socket, and with connect(), which is not) would soon have no port left.
 */
static __always_inline bool bn_ct_outlived(const struct bn_ct_entry *e, const struct bn_ct_new *n)
{
	const __u32 post = BN_CT_F_NAT | BN_CT_F_ALIAS | BN_CT_F_SNAT;

	return (n->e.flags & post) == BN_CT_F_NAT && !((e->flags ^ n->e.flags) & BN_CT_F_ORIG_A) &&
	       (!(e->flags & BN_CT_F_NAT) || (bn_addr_same(&e->xs, &n->e.xs) && e->xsp == n->e.xsp)) &&
	       bn_ct_stale(e, e->flags, n->now_s);
}

/* May the entry that has n's key be overwritten by n? When it has expired, or is the same client's
 * (the same tuple on the other side, or a UDP flow that is most likely over), or when the caller says so.
 */
static __always_inline bool bn_ct_may_replace(const struct bn_ct_entry *e,
					      const struct bn_ct_new *n)
{
	if (n->replace == 1 || n->replace == *(volatile __u32 *)&e->gen || bn_ct_expired(e, n->now_s))
		return true;
	if ((e->flags & n->e.flags & BN_CT_F_NAT) && bn_addr_same(&e->xs, &n->e.xs) &&
	    bn_addr_same(&e->xd, &n->e.xd) && e->xsp == n->e.xsp && e->xdp == n->e.xdp)
		return true;
	return bn_ct_outlived(e, n);
}

__noinline int bn_ct_overwrite(__u32 bucket, struct bn_ct_new *n)
{
	struct bn_ct_head *h = bpf_map_lookup_elem(&ct_heads, &bucket);
	struct bn_ct_bucket *b = bpf_map_lookup_elem(&ct, &bucket);
	__u32 at;
	int r = 0;

	if (!h || !b || !n)
		return 0;
	at = bn_ct_way_of(h, n->h.tag);
	BN_OPAQUE(at);
	if (at >= BN_CT_WAYS)
		return 0;
	bpf_spin_lock(&h->lock);
	if (h->tag[at] == n->h.tag) {
		r = -1;
		if (bn_ct_may_replace(&b->e[at], n)) {
			bn_ct_write(h, b, at, n);
			r = 1;
		}
	}
	bpf_spin_unlock(&h->lock);
	return r;
}

/* The key stands in one of its buckets already: overwritten (0), or it is a live entry and stays (1). -1: it does not. */
static __always_inline int bn_ct_there(struct bn_ct_new *n, __u64 w0, __u64 w1)
{
	int r = 0;

	if (BN_CT_S_SAME(w0))
		r = bn_ct_overwrite(n->h.bucket[0], n);
	else if (BN_CT_S_SAME(w1))
		r = bn_ct_overwrite(n->h.bucket[1], n);
	return r ? r < 0 : -1;
}

/* Inserts n. 0: done; 1: a live entry of this key is there and stays; -BN_DROP_CT_FULL. */
__noinline int bn_ct_insert(struct bn_ct_new *n)
{
	__u32 b0, b1;
	__u64 w0, w1;
	int r;

	if (!n)
		return -BN_DROP_INTERNAL;
	b0 = n->h.bucket[0];
	b1 = n->h.bucket[1];
	bn_ct_touch(b1);
	for (int i = 0; i < 3; i++) {
		bool first;

		w0 = bn_ct_scan(b0, n);
		w1 = bn_ct_scan(b1, n);
		r = bn_ct_there(n, w0, w1);
		if (r >= 0)
			return r;
		if (!BN_CT_S_FREE(w0) && !BN_CT_S_FREE(w1))
			break;
		/* The emptier bucket, the first one as long as it is half empty: it is looked at first. A
		 * way that is lost to another CPU is no reason to go to the other one: two CPUs with one
		 * key are to choose the same.
		 */
		first = BN_CT_S_FREE(w0) && (BN_CT_S_FREE(w0) >= (BN_CT_WAYS / 2) << 8 ||
					     BN_CT_S_FREE(w0) >= BN_CT_S_FREE(w1));
		if (!bn_ct_place(first ? b0 : b1, n, BN_CT_W_FREE | ((first ? w0 : w1) & 0xff)))
			return 0;
	}
	for (int i = 0; i < 3; i++) {
		/* Another CPU may have been faster, with this very key. */
		r = i ? bn_ct_there(n, bn_ct_scan(b0, n), bn_ct_scan(b1, n)) : -1;
		if (r >= 0)
			return r;
		w0 = bn_ct_victim(b0, n);
		if (w0 >= BN_CT_W_CLOSED && !bn_ct_place(b0, n, w0))
			return 0;
		w1 = bn_ct_victim(b1, n);
		if (w1 < BN_CT_W_HALF && w0 < BN_CT_W_HALF)
			break;
		if (w1 > w0 ? !bn_ct_place(b1, n, w1) : !bn_ct_place(b0, n, w0))
			return 0;
	}
	return -BN_DROP_CT_FULL;
}

#endif
