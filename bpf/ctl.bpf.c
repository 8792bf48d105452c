// SPDX-License-Identifier: GPL-2.0-only
/* Attached nowhere: run by BPF_PROG_TEST_RUN. Entries of the connection table are taken out (`bpfnet ct
 * flush`) and put in (take-over from kube-proxy, another table's) under their bucket's lock, as the packet programs do;
 * user space, which cannot hold it, only says which.
 */

#include "maps/ct_carry.h"
#include "maps/ct_flush.h"
#include "maps/ct_import.h"

#include "bpf/lib/ct_insert.h"

struct bn_ct_flush flush;
struct bn_ct_import import;
struct bn_ct_carry carry;
static struct bn_ct_new entry;
static struct bn_ct_ref ref;

static long take_out(__u32 i, void *data)
{
	struct bn_ct_bucket *b;
	struct bn_ct_head *h;
	struct bn_ct_entry *e;
	__u32 bucket, way, gen, gone = 0;

	if (i >= BN_CT_FLUSH_MAX)
		return 1;
	bucket = flush.v[i].bucket;
	way = flush.v[i].way;
	BN_OPAQUE(way); /* the checked register is the one used */
	gen = flush.v[i].gen;
	h = bpf_map_lookup_elem(&ct_heads, &bucket);
	b = bpf_map_lookup_elem(&ct, &bucket);
	if (!h || !b || way >= BN_CT_WAYS)
		return 0;
	e = &b->e[way];
	bpf_spin_lock(&h->lock);
	/* Taken over by another flow since user space read it: then that one stays. */
	if (e->gen == gen && h->tag[way]) {
		/* Who found it before this writes its expiry and counters into a free entry, and sees
		 * by gen that what it read does not hold.
		 */
		*(volatile __u32 *)&h->tag[way] = 0;
		*(volatile __u32 *)&e->expires = 0;
		bn_fence();
		*(volatile __u32 *)&e->gen = gen + 2;
		gone = 1;
	}
	bpf_spin_unlock(&h->lock);
	flush.gone += gone;
	return 0;
}

SEC("tc")
int ct_flush(struct __sk_buff *skb)
{
	bpf_loop(flush.n, take_out, NULL, 0);
	return 0;
}

/* 1: this flow's tuple belongs to a flow that we translate; 0: it may be written. */
static __always_inline int taken(const struct bn_tuple *t, __u8 proto, __u32 now_s)
{
	struct bn_ct_hit hit = {};

	bn_ct_ref(&ref, t, proto, BN_CT_ZONE_MAIN);
	bn_ct_find(&ref, &hit);
	return hit.e && (hit.flags & BN_CT_F_NAT) && !bn_ct_expired(hit.e, now_s);
}

static __always_inline int put(const struct bn_ct_foreign *f, const struct bn_tuple *t,
			       const struct bn_tuple *other, __u32 flags)
{
	bn_ct_ref(&ref, t, f->proto, BN_CT_ZONE_MAIN);
	entry.h = ref.h;
	entry.e.key = ref.key;
	entry.e.flags = flags | BN_CT_F_NAT | BN_CT_F_NET | BN_CT_F_FOREIGN |
			(ref.swapped ? 0 : BN_CT_F_ORIG_A);
	entry.e.xs = other->src;
	entry.e.xd = other->dst;
	entry.e.xsp = other->sport;
	entry.e.xdp = other->dport;
	/* What is there is a direct flow: the same one, seen before it was known to be translated. */
	entry.replace = 1;
	return bn_ct_insert(&entry);
}

static long take_over(__u32 i, void *data)
{
	__u32 now_s = bpf_ktime_get_boot_ns() / 1000000000ull;
	struct bn_ct_foreign *f;
	struct bn_tuple t = {}, x = {};

	if (i >= BN_CT_IMPORT_MAX)
		return 1;
	f = &import.v[i];
	t.src = f->src;
	t.dst = f->dst;
	t.sport = f->sport;
	t.dport = f->dport;
	x.src = f->xs;
	x.dst = f->xd;
	x.sport = f->xsp;
	x.dport = f->xdp;
	if (taken(&t, f->proto, now_s) || taken(&x, f->proto, now_s)) {
		import.known++;
		return 0;
	}
	__builtin_memset(&entry, 0, sizeof(entry));
	entry.now_s = now_s;
	entry.e.created = now_s;
	entry.e.expires = now_s + f->life_s;
	if (put(f, &x, &t, f->flags) < 0 || put(f, &t, &x, f->flags | BN_CT_F_ALIAS) < 0)
		import.full++;
	else
		import.done++;
	return 0;
}

SEC("tc")
int ct_import(struct __sk_buff *skb)
{
	bpf_loop(import.n, take_over, NULL, 0);
	return 0;
}

/* What bn_ct_write leaves to those who know. */
static __always_inline void carry_rest(struct bn_ct_entry *to, const struct bn_ct_entry *from)
{
	*(volatile __u32 *)&to->http = from->http;
	*(volatile __u32 *)&to->first = from->first;
	*(volatile __u32 *)&to->srv_first = from->srv_first;
}

/* The same flow, carried before: what it has become since. */
static __always_inline void carry_again(struct bn_ct_entry *to, const struct bn_ct_entry *from)
{
	const __u32 grows = BN_CT_F_REPLIED | BN_CT_F_ASSURED | BN_CT_F_FIN_ORIG | BN_CT_F_FIN_REPLY | BN_CT_F_CLOSED;
	__u32 more = from->flags & grows & ~to->flags;

	if (to->created != from->created)
		return;
	if (more)
		__sync_fetch_and_or(&to->flags, more);
	if (!to->first && !to->srv_first)
		carry_rest(to, from);
}

static long carry_one(__u32 i, void *data)
{
	__u32 now_s = bpf_ktime_get_boot_ns() / 1000000000ull;
	struct bn_ct_hit hit = {};
	int r;

	if (i >= BN_CT_CARRY_MAX)
		return 1;
	__builtin_memset(&entry, 0, sizeof(entry));
	__builtin_memcpy(&entry.e, &carry.v[i], sizeof(entry.e));
	ref.key = entry.e.key;
	bn_ct_hash(&ref);
	bn_ct_find(&ref, &hit);
	/* One without translation is the same flow, seen here before it was known to be translated. */
	if (hit.e && !bn_ct_expired(hit.e, now_s) && ((hit.flags & BN_CT_F_NAT) || !(entry.e.flags & BN_CT_F_NAT))) {
		carry_again(hit.e, &entry.e);
		carry.known++;
		return 0;
	}
	entry.h = ref.h;
	entry.now_s = now_s;
	entry.replace = 1;
	r = bn_ct_insert(&entry);
	if (r < 0) {
		carry.full++;
		return 0;
	}
	bn_ct_find(&ref, &hit);
	if (hit.e)
		carry_rest(hit.e, &entry.e);
	carry.done++;
	return 0;
}

SEC("tc")
int ct_carry(struct __sk_buff *skb)
{
	bpf_loop(carry.n, carry_one, NULL, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
