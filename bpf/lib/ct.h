/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_CT_H
#define BN_BPF_CT_H

/* The connection table (maps/ct.h): keyed hash, two candidate buckets, look-up without a lock.
 *
 * - The hash is multilinear over the 40-byte key with 64-bit secret multipliers; its upper half is
 *   strongly universal and gives the first bucket, a secret odd multiple of the whole the second one:
 *   nobody who does not know the seeds can aim at either. Range reduction is multiply-shift, so the
 *   number of buckets is free.
 * - What a packet costs here is cache misses: tags lie apart from the entries, a line for a bucket, and
 *   are compared without a branch (a way is as good as random, and the verifier would follow each). Each key
 *   has a way of the first bucket where it is put if it can be (bn_ct_home): tags and entry can be asked for at once.
 * - A reader compares tag, then key, and remembers `gen`; what it copied holds if `gen` is the same
 *   afterwards.
 * - Insertion holds the bucket's lock while it copies. It takes, in this order: a free way (of these and of
 *   expired ones first the key's own), an expired one, a closed one; then a half-open flow of the pod that has most of them in the
 *   bucket, its own on a tie. Never an established one.
 *
 * Written to compile in user space too, where the tests give the map and the lock.
 */

#include <stdbool.h>

#include "maps/ct.h"
#include "bpf/lib/cfg.h"
#include "bpf/lib/pkt.h"
#include "bpf/lib/priv.h"

/* What stands before comes before what stands after, for other processors too. An atomic operation whose
 * result is used is what BPF has had for that since 5.12 (load-acquire: 6.15).
 */
static __always_inline void bn_fence(void)
{
	asm volatile("" ::: "memory");
	if (cfg_weak_order) {
		__u64 v = 0;

		v = __sync_fetch_and_add(&v, 1);
		asm volatile("" ::"r"(v) : "memory");
	}
}
/* Keeps the compiler from turning arithmetic on `v` back into branches: the verifier follows every
 * combination of those (clang 16: 1 M instructions in the choice of a victim).
 */
#define BN_OPAQUE(v) asm volatile("" : "+r"(v))

struct bn_ct_hash {
	__u32 bucket[2];
	__u32 tag;
	__u32 pad;
};

/* A flow as it is looked up. */
struct bn_ct_ref {
	union {
		struct bn_ct_key key;
		__u64 w[5];
	};
	struct bn_ct_hash h;
	bool swapped; /* the packet goes b -> a */
	__u8 pad[7];
};

struct bn_ct_hit {
	struct bn_ct_entry *e; /* NULL: none */
	__u32 gen;
	__u32 flags;
	bool reply;
};

/* What is inserted; lives in per-CPU scratch memory (the stack is too small). */
struct bn_ct_new {
	struct bn_ct_entry e;
	struct bn_ct_hash h;
	__u32 now_s;
	__u32 replace; /* the entry that has this key is overwritten if this is its gen; 1: any */
};

static __always_inline __u64 bn_be64(__u64 v)
{
	return __builtin_bswap64(v);
}

/* Is (a, ap) greater than (b, bp), as bytes? */
static __always_inline bool bn_end_greater(const struct bn_addr *a, __be16 ap,
					   const struct bn_addr *b, __be16 bp)
{
	const bn_u64a *x = (const bn_u64a *)a, *y = (const bn_u64a *)b;

	if (x[0] != y[0])
		return bn_be64(x[0]) > bn_be64(y[0]);
	if (x[1] != y[1])
		return bn_be64(x[1]) > bn_be64(y[1]);
	return __builtin_bswap16(ap) > __builtin_bswap16(bp);
}

static __always_inline void bn_ct_hash(struct bn_ct_ref *r)
{
	const __u32 *k = (const __u32 *)r->w;
	__u64 a = cfg_ct_seed[0], b;

#pragma clang loop unroll(full)
	for (int i = 0; i < 10; i += 2) {
		a += (cfg_ct_seed[i + 1] + k[i]) * (cfg_ct_seed[i + 2] + k[i + 1]);
		BN_OPAQUE(a); /* one product after the other: all at once spill 200 bytes of stack */
	}
	b = (a ^ a >> 32) * (cfg_ct_seed[11] | 1);
	r->h.bucket[0] = (a >> 32) * cfg_ct_buckets >> 32;
	r->h.bucket[1] = (b >> 32) * cfg_ct_buckets >> 32;
	/* 31 bits that the bucket does not tell; never 0, which means free. */
	r->h.tag = ((__u32)(b >> 8 ^ a) & 0x7fffffff) | 1;
}

static __always_inline void bn_ct_ref(struct bn_ct_ref *r, const struct bn_tuple *t, __u8 proto,
				      __u8 zone)
{
	r->swapped = bn_end_greater(&t->src, t->sport, &t->dst, t->dport);
	r->key.a = r->swapped ? t->dst : t->src;
	r->key.b = r->swapped ? t->src : t->dst;
	r->key.ap = r->swapped ? t->dport : t->sport;
	r->key.bp = r->swapped ? t->sport : t->dport;
	r->key.proto = proto;
	r->key.zone = zone;
	r->key.pad[0] = 0;
	r->key.pad[1] = 0;
	bn_ct_hash(r);
}

/* The same where it is not the packet's first look-up: the hash takes up to 100 bytes of stack, which
 * chains of calls have not got.
 */
__noinline int bn_ct_ref_far(struct bn_ct_ref *r, const struct bn_tuple *t, __u32 proto, __u32 zone)
{
	if (!r || !t)
		return -BN_DROP_INTERNAL;
	bn_ct_ref(r, t, proto, zone);
	return 0;
}

static __always_inline bool bn_ct_key_eq(const struct bn_ct_entry *e, const struct bn_ct_ref *r)
{
	const bn_u64a *k = (const bn_u64a *)&e->key;

	return k[0] == r->w[0] && k[1] == r->w[1] && k[2] == r->w[2] && k[3] == r->w[3] &&
	       k[4] == r->w[4];
}

/* 1 if equal, without a branch. Multiply by it: 6.18's verifier follows both values of a mask that is
 * 0 or all ones, so that fourteen of them in a row take 2^14 ways.
 */
static __always_inline __u64 bn_eq(__u32 x, __u32 y)
{
	__u64 v = x ^ y;

	BN_OPAQUE(v);
	v = (v - 1) >> 63;
	BN_OPAQUE(v);
	return v;
}

/* In the top bit of each half: the two tags of word k differ. */
static __always_inline __u64 bn_ct_differ(const struct bn_ct_head *h, __u32 k, __u64 both)
{
	const __u64 low = 0x7fffffff7fffffffULL;

	return (((*(volatile __u64 *)&h->tag2[k] ^ both) + low) & ~low) >> (31 - 4 * k);
}

/* The way that has this tag; BN_CT_WAYS or more: none. Two tags at a time, at places 4 k and 32 + 4 k;
 * a multiplication by what is one bit then picks the nibble that names the way. What an entry's address
 * waits for is this chain: it is short on purpose.
 */
static __always_inline __u32 bn_ct_way_of(const struct bn_ct_head *h, __u32 tag)
{
	__u64 both = (__u64)tag << 32 | tag, m;

	m = ((bn_ct_differ(h, 0, both) | bn_ct_differ(h, 1, both)) |
	     (bn_ct_differ(h, 2, both) | bn_ct_differ(h, 3, both))) |
	    ((bn_ct_differ(h, 4, both) | bn_ct_differ(h, 5, both)) | bn_ct_differ(h, 6, both));
	m ^= 0x0111111101111111ULL;
	if (!m)
		return BN_CT_WAYS;
	return ((__u32)m * 0x02468ac000000000ULL >> 60) + ((m >> 32) * 0x13579bd000000000ULL >> 60);
}
_Static_assert(BN_CT_WAYS == 14, "bn_ct_way_of counts seven pairs");

/* The way where an entry stands if that was free when it came. */
static __always_inline __u32 bn_ct_home(__u32 tag)
{
	__u32 way = (__u64)(tag << 1) * BN_CT_WAYS >> 32;

	BN_OPAQUE(way); /* the checked register is the one used */
	return way;
}

static __always_inline struct bn_ct_entry *bn_ct_in(__u32 bucket, const struct bn_ct_ref *r,
						    __u32 *gen)
{
	struct bn_ct_head *h = bpf_map_lookup_elem(&ct_heads, &bucket);
	struct bn_ct_bucket *b;
	struct bn_ct_entry *e;
	__u32 at;

	if (!h)
		return NULL;
	at = bn_ct_way_of(h, r->h.tag);
	BN_OPAQUE(at); /* the checked register is the one used */
	if (at >= BN_CT_WAYS)
		return NULL;
	b = bpf_map_lookup_elem(&ct, &bucket);
	if (!b)
		return NULL;
	e = &b->e[at];
	*gen = *(volatile __u32 *)&e->gen;
	/* Its other lines come from memory at the same time, not when they are asked for one after the other. */
	(void)*(volatile __u64 *)&e->xd;
	(void)*(volatile __u32 *)&e->created;
	bn_fence();
	if ((*gen & 1) || !bn_ct_key_eq(e, r))
		return NULL;
	return e;
}

/* Where both buckets of a flow may have to be read, from memory, one after the other: asked for together they come
 * together. By a store into what nobody reads: a load would be waited for, though most often the
 * first bucket is enough.
 */
static __always_inline void bn_ct_touch(__u32 bucket)
{
	struct bn_ct_head *h = bpf_map_lookup_elem(&ct_heads, &bucket);

	if (h)
		*(volatile __u32 *)&h->spare = 0;
}

/* Before the look-up of a flow whose lines are hardly in a cache (its first packets; a datagram's): they are asked
 * for together with the tags that would have to tell first where they are.
 */
static __always_inline void bn_ct_fetch(const struct bn_ct_hash *h)
{
	__u32 way = bn_ct_home(h->tag), bucket = h->bucket[0];
	const struct bn_ct_bucket *b = bpf_map_lookup_elem(&ct, &bucket);

	if (!b || way >= BN_CT_WAYS)
		return;
	(void)*(volatile __u64 *)&b->e[way].key;
	(void)*(volatile __u64 *)&b->e[way].xd;
	(void)*(volatile __u32 *)&b->e[way].created;
	bn_ct_touch(h->bucket[1]);
}

/* The entry of a flow, whether or not it has expired. */
static __always_inline void bn_ct_find(const struct bn_ct_ref *r, struct bn_ct_hit *hit)
{
	hit->e = bn_ct_in(r->h.bucket[0], r, &hit->gen);
	if (!hit->e)
		hit->e = bn_ct_in(r->h.bucket[1], r, &hit->gen);
	if (!hit->e)
		return;
	hit->flags = *(volatile __u32 *)&hit->e->flags;
	hit->reply = !!(hit->flags & BN_CT_F_ORIG_A) == r->swapped;
}

/* After the last read of an entry: was all of it the same flow's? */
static __always_inline bool bn_ct_same(const struct bn_ct_hit *hit)
{
	bn_fence();
	return *(volatile __u32 *)&hit->e->gen == hit->gen;
}

static __always_inline bool bn_ct_expired(const struct bn_ct_entry *e, __u32 now_s)
{
	return (__s32)(*(volatile __u32 *)&e->expires - now_s) <= 0;
}

/* The tuple, in the original direction, under which an entry stands. */
static __always_inline void bn_ct_tuple(const struct bn_ct_entry *e, struct bn_tuple *t)
{
	bool a = e->flags & BN_CT_F_ORIG_A;

	t->src = a ? e->key.a : e->key.b;
	t->dst = a ? e->key.b : e->key.a;
	t->sport = a ? e->key.ap : e->key.bp;
	t->dport = a ? e->key.bp : e->key.ap;
}

static __always_inline void bn_ct_other(const struct bn_ct_entry *e, struct bn_tuple *t)
{
	t->src = e->xs;
	t->dst = e->xd;
	t->sport = e->xsp;
	t->dport = e->xdp;
}

/* --- Insertion ------------------------------------------------------------------------------- */

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
