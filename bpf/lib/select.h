/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_SELECT_H
#define BN_BPF_SELECT_H

/* Which service a destination belongs to, and which backend a new connection gets: the one choice,
 * for packets (bpf/lib/svc.h) and for sockets (bpf/lib/sock.h). Time and randomness are arguments.
 *
 * Callers look up an exact frontend, then, where the address answers NodePorts, the NodePort scope:
 *
 *	svc = bn_sel_front(&key, &idx);
 *	if (!svc && bn_sel_answers_nodeports(&key.addr))
 *		svc = bn_sel_nodeport(&key.addr, key.port, key.proto, &idx);
 *	if (svc && bn_sel_source_ok(svc, &client))
 *		verdict = bn_sel_backend(svc, &who, &backend);
 */

#include <bpf/bpf_endian.h>
#include <stdbool.h>

#include "bpf/lib/maps.h"

enum bn_sel_verdict {
	BN_SEL_OK,
	BN_SEL_REJECT, /* no endpoint anywhere */
	BN_SEL_DROP,   /* endpoints, but none that this traffic class may have (Local policies) */
	BN_SEL_RETRY,  /* the record went under our hands: treat as REJECT, the client comes again */
};

struct bn_sel_who {
	struct bn_addr client; /* affinity: the source address; all zero when netns stands for it */
	__u32 netns;	       /* socket hooks: low bits of the namespace's cookie; packets: 0 */
	__u32 rnd;	       /* random, or the flow's hash for BN_SVC_F_MAGLEV */
	__u32 now_s;	       /* seconds of boot time */
	bool internal;	       /* a pod or process of this node */
};

/* One branch, see bn_addr_eq. */
static __always_inline bool bn_sel_key_eq(const struct bn_front_key *a,
					  const struct bn_front_key *b)
{
	typedef __u32 __attribute__((may_alias)) word;
	const word *x = (const word *)a, *y = (const word *)b;
	__u64 differ = (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4]);

	asm volatile("" : "+r"(differ));
	return !differ;
}
_Static_assert(sizeof(struct bn_front_key) == 5 * sizeof(__u32), "bn_sel_key_eq compares five words");

/* The record of a frontend, NULL if there is none. A hash element may be reused under us and show
 * another key's value (FACTS), or the record was just replaced: it says whose it is; look again.
 */
static __always_inline struct bn_svc *bn_sel_front(const struct bn_front_key *key, __u32 *idx)
{
	for (int i = 0; i < 3; i++) {
		struct bn_front_val *v = bpf_map_lookup_elem(&fronts, key);
		struct bn_svc *svc;
		__u32 at;

		if (!v)
			return NULL;
		at = *(volatile __u32 *)&v->idx;
		svc = bpf_map_lookup_elem(&svcs, &at);
		if (svc && bn_sel_key_eq(&svc->key, key)) {
			*idx = at;
			return svc;
		}
	}
	return NULL;
}

static __always_inline struct bn_svc *bn_sel_nodeport(const struct bn_addr *of, __be16 port,
						      __u8 proto, __u32 *idx)
{
	struct bn_front_key key;

	bn_front_nodeport(&key, of, port, proto);
	return bn_sel_front(&key, idx);
}

/* Is the port (network order) a NodePort? A function of its own, verified once: bn_flow_insert_post asks in a loop. */
__noinline int bn_sel_is_nodeport(const struct bn_addr *of, __u32 port, __u32 proto)
{
	__u32 idx;

	return of && bn_sel_nodeport(of, port, proto, &idx);
}

/* An address of this node on which NodePorts are answered. */
static __always_inline bool bn_sel_answers_nodeports(const struct bn_addr *a)
{
	const __u16 need = BN_ADDR_F_HOST | BN_ADDR_F_NODEPORT;
	struct bn_addr key = *a; /* 6.1: "R2 type=mem expected=fp, ..." for what a caller handed in */
	__u32 *idx = bpf_map_lookup_elem(&addrs, &key);
	struct bn_ep *ep;
	__u32 at;

	if (!idx)
		return false;
	at = *(volatile __u32 *)idx;
	ep = bpf_map_lookup_elem(&eps, &at);
	return ep && bn_addr_eq(&ep->addr, a) && (ep->flags & need) == need;
}

/* loadBalancerSourceRanges; true for frontends without. */
static __always_inline bool bn_sel_source_ok(const struct bn_svc *svc, const struct bn_addr *source)
{
	struct bn_src_key key;

	if (!(svc->flags & BN_SVC_F_SRC_RANGES))
		return true;
	key.prefixlen = 32 + 128;
	key.src_set = svc->src_set;
	key.addr = *source;
	return bpf_map_lookup_elem(&src_ranges, &key) != NULL;
}

struct bn_sel_find {
	struct bn_addr addr;
	__u32 lo, hi; /* slots that may still hold it: [lo, hi) */
	__u32 at;     /* where it was found */
	__be16 port;
	__u16 found;
};

/* memcmp order of {addr, port}, in which members are sorted (maps/svc.h). */
static __always_inline int bn_sel_order(const struct bn_sel_find *f, const struct bn_backend *b)
{
	for (int i = 0; i < 4; i++) {
		__u32 x = bpf_ntohl(f->addr.w[i]), y = bpf_ntohl(b->addr.w[i]);

		if (x != y)
			return x < y ? -1 : 1;
	}
	return (int)bpf_ntohs(f->port) - (int)bpf_ntohs(b->port);
}

static long bn_sel_find_step(__u32 i, void *data)
{
	struct bn_sel_find *f = data;
	__u32 mid = f->lo + (f->hi - f->lo) / 2;
	struct bn_backend *b;
	int order;

	if (f->lo >= f->hi)
		return 1;
	b = bpf_map_lookup_elem(&slots, &mid);
	if (!b)
		return 1;
	order = bn_sel_order(f, b);
	if (!order) {
		f->at = mid;
		f->found = 1;
		return 1;
	}
	if (order < 0)
		f->hi = mid;
	else
		f->lo = mid + 1;
	return 0;
}

/* Is addr:port among the backends that belong to a range? Affinity asks for one that new connections
 * may get (`chosen`), a UDP flow that exists for any that still serves. ret may be NULL. A function of its own:
 * verified once.
 */
__noinline int bn_sel_member(__u64 range, const struct bn_addr *addr, __u32 port, __u32 chosen,
			     struct bn_backend *ret)
{
	struct bn_sel_find f = {.port = port};
	struct bn_backend *b;

	if (!addr || !BN_RANGE_COUNT(range))
		return false;
	f.addr = *addr;
	f.lo = BN_RANGE_BASE(range);
	f.hi = f.lo + BN_RANGE_COUNT(range);
	b = bpf_map_lookup_elem(&slots, &f.lo);
	if (!b)
		return false;
	if (b->members) {
		f.lo = f.hi;
		f.hi += b->members;
	} else {
		chosen = false; /* all of them are */
	}
	bpf_loop(32, bn_sel_find_step, &f, 0);
	if (!f.found)
		return false;
	b = bpf_map_lookup_elem(&slots, &f.at);
	if (!b || (chosen && !(b->flags & BN_BE_F_CHOSEN)))
		return false;
	if (ret)
		*ret = *b;
	return true;
}

/* The range that this client's traffic class has. */
static __always_inline __u64 bn_sel_range(struct bn_svc *svc, bool internal)
{
	internal = internal && (svc->flags & BN_SVC_F_SPLIT);
	return *(volatile __u64 *)(internal ? &svc->range_int : &svc->range);
}

static __always_inline enum bn_sel_verdict
bn_sel_backend(struct bn_svc *svc, const struct bn_sel_who *who, struct bn_backend *ret)
{
	__u64 range = bn_sel_range(svc, who->internal);
	__u32 base = BN_RANGE_BASE(range), count = BN_RANGE_COUNT(range);
	struct bn_aff_key key;
	struct bn_backend *b;

	if (!count)
		return base == BN_RANGE_DROP ? BN_SEL_DROP : BN_SEL_REJECT;
	if (svc->affinity_s) {
		struct bn_aff_val *v;

		key.client = who->client;
		key.svc_id = svc->svc_id;
		key.netns = who->netns;
		v = bpf_map_lookup_elem(&affinity, &key);
		if (v && who->now_s - v->used_s < svc->affinity_s &&
		    bn_sel_member(range, &v->addr, v->port, true, ret)) {
			v->used_s = who->now_s; /* through the pointer: an LRU update costs 335 ns */
			return BN_SEL_OK;
		}
	}
	base += (__u64)who->rnd * count >> 32;
	b = bpf_map_lookup_elem(&slots, &base);
	if (!b)
		return BN_SEL_RETRY;
	if (b->flags & BN_BE_F_NONE)
		return BN_SEL_DROP;
	*ret = *b;
	if (svc->affinity_s) {
		struct bn_aff_val v = {
			.addr = b->addr,
			.port = b->port,
			.used_s = who->now_s,
		};

		bpf_map_update_elem(&affinity, &key, &v, BPF_ANY);
	}
	return BN_SEL_OK;
}

#endif
