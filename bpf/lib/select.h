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
 *		svc = bn_sel_nodeport(key.port, key.proto, &idx);
 *	if (svc && bn_sel_source_ok(svc, &client))
 *		verdict = bn_sel_backend(svc, &who, &backend);
 */

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

static __always_inline bool bn_sel_key_eq(const struct bn_front_key *a,
					  const struct bn_front_key *b)
{
	return bn_addr_eq(&a->addr, &b->addr) && a->port == b->port && a->proto == b->proto &&
	       a->scope == b->scope;
}

/* The record of a frontend, NULL if there is none. A hash element may be reused under us and show
 * another key's value (FACTS): the record says whose it is, and one more look tells the truth.
 */
static __always_inline struct bn_svc *bn_sel_front(const struct bn_front_key *key, __u32 *idx)
{
	for (int i = 0; i < 2; i++) {
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

static __always_inline struct bn_svc *bn_sel_nodeport(__be16 port, __u8 proto, __u32 *idx)
{
	struct bn_front_key key = {
		.port = port,
		.proto = proto,
		.scope = BN_SCOPE_NODEPORT,
	};

	return bn_sel_front(&key, idx);
}

/* An address of this node on which NodePorts are answered. */
static __always_inline bool bn_sel_answers_nodeports(const struct bn_addr *a)
{
	const __u16 need = BN_ADDR_F_HOST | BN_ADDR_F_NODEPORT;
	__u32 *idx = bpf_map_lookup_elem(&addrs, a);
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

struct bn_sel_scan {
	struct bn_addr addr;
	__u32 base;
	__u32 found; /* 1 + position in the range; 0: not there */
	__be16 port;
};

static long bn_sel_scan_one(__u32 i, void *data)
{
	struct bn_sel_scan *s = data;
	__u32 at = s->base + i;
	struct bn_backend *b = bpf_map_lookup_elem(&slots, &at);

	if (!b || !bn_addr_eq(&b->addr, &s->addr) || b->port != s->port)
		return 0;
	s->found = i + 1;
	return 1;
}

/* The client's remembered backend, if it is still one of the range's: an endpoint that is gone is
 * forgotten (SEMANTICS 2, affinity). `hint` is where it stood last and only saves the search.
 */
static __always_inline bool bn_sel_affine(struct bn_aff_val *v, __u32 base, __u32 count,
					  struct bn_backend *ret)
{
	struct bn_sel_scan s = {.addr = v->addr, .port = v->port};
	struct bn_backend *b;
	__u32 at;

	at = *(volatile __u16 *)&v->hint;
	if (at >= count)
		at = 0;
	at += base;
	b = bpf_map_lookup_elem(&slots, &at);
	if (!b || !bn_addr_eq(&b->addr, &s.addr) || b->port != s.port) {
		s.base = base;
		bpf_loop(count, bn_sel_scan_one, &s, 0);
		if (!s.found)
			return false;
		at = base + s.found - 1;
		b = bpf_map_lookup_elem(&slots, &at);
		if (!b)
			return false;
		v->hint = s.found - 1;
	}
	*ret = *b;
	return true;
}

static __always_inline enum bn_sel_verdict
bn_sel_backend(struct bn_svc *svc, const struct bn_sel_who *who, struct bn_backend *ret)
{
	bool internal = who->internal && (svc->flags & BN_SVC_F_SPLIT);
	__u64 range = *(volatile __u64 *)(internal ? &svc->range_int : &svc->range);
	__u32 base = BN_RANGE_BASE(range), count = BN_RANGE_COUNT(range);
	struct bn_aff_key key;
	struct bn_backend *b;
	__u32 pos;

	if (!count)
		return base == BN_RANGE_DROP ? BN_SEL_DROP : BN_SEL_REJECT;
	if (svc->affinity_s) {
		struct bn_aff_val *v;

		key.client = who->client;
		key.svc_id = svc->svc_id;
		key.netns = who->netns;
		v = bpf_map_lookup_elem(&affinity, &key);
		if (v && who->now_s - v->used_s < svc->affinity_s &&
		    bn_sel_affine(v, base, count, ret)) {
			v->used_s = who->now_s; /* through the pointer: an LRU update costs 335 ns */
			return BN_SEL_OK;
		}
	}
	pos = (__u64)who->rnd * count >> 32;
	base += pos;
	b = bpf_map_lookup_elem(&slots, &base);
	if (!b)
		return BN_SEL_RETRY;
	*ret = *b;
	if (svc->affinity_s) {
		struct bn_aff_val v = {
			.addr = b->addr,
			.port = b->port,
			.hint = pos,
			.used_s = who->now_s,
		};

		bpf_map_update_elem(&affinity, &key, &v, BPF_ANY);
	}
	return BN_SEL_OK;
}

#endif
