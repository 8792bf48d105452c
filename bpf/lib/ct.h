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
 *
 * How entries come into it: bpf/lib/ct_insert.h. Written to compile in user space too, where the tests give the map
 * and the lock.
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

/* Before an insertion that comes a while later: by stores, which are not waited for. A key's padding is 0 in every
 * entry, and stands beside gen, the one thing of it that an insertion has to read.
 */
static __always_inline void bn_ct_ahead(const struct bn_ct_hash *h)
{
	__u32 way = bn_ct_home(h->tag), bucket = h->bucket[0];
	struct bn_ct_bucket *b = bpf_map_lookup_elem(&ct, &bucket);

	if (!b || way >= BN_CT_WAYS)
		return;
	*(volatile __u16 *)&b->e[way].key.pad = 0;
	bn_ct_touch(h->bucket[0]);
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

#endif
