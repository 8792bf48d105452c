/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_SVC_H
#define BN_BPF_SVC_H

/* Services as a packet meets them: is its destination one, and which backend does a new flow get
 * (bpf/lib/select.h). What is refused and what is dropped silently: SEMANTICS 2, 6.
 */

#include "bpf/lib/pkt.h"
#include "bpf/lib/select.h"

struct bn_svc_hit {
	struct bn_backend be;
	__u32 idx; /* of svcs; 0: the destination is no service */
	__u16 gen; /* of the range that was chosen from */
	__u16 external; /* the frontend is none of a ClusterIP's */
};

/* Same on every node and every start: Maglev wants that. Mixing as in MurmurHash3. */
static __always_inline __u32 bn_svc_flow_hash(const struct bn_tuple *t, __u8 proto)
{
	const __u32 *w = (const __u32 *)t;
	__u32 h = proto;

#pragma clang loop unroll(full)
	for (int i = 0; i < 9; i++) {
		h ^= w[i] * 0xcc9e2d51u;
		h = (h << 13 | h >> 19) * 5 + 0xe6546b64u;
	}
	h ^= h >> 16;
	h *= 0x85ebca6bu;
	h ^= h >> 13;
	h *= 0xc2b2ae35u;
	return h ^ h >> 16;
}

/* Does any port of this address belong to a service, and is it a ClusterIP? */
static __always_inline bool bn_svc_is_clusterip(const struct bn_addr *a)
{
	struct bn_front_key key = {.addr = *a, .scope = BN_SCOPE_ADDR};
	struct bn_front_val *v = bpf_map_lookup_elem(&fronts, &key);

	return v && *(volatile __u32 *)&v->idx == BN_FRONT_IDX_CLUSTERIP;
}

static __always_inline struct bn_svc *bn_svc_front(const struct bn_pkt *p, __u32 *idx)
{
	struct bn_front_key key = {
		.addr = p->t.dst,
		.port = p->t.dport,
		.proto = p->proto,
		.scope = BN_SCOPE_EXACT,
	};
	struct bn_svc *svc = bn_sel_front(&key, idx);

	if (!svc && bn_sel_answers_nodeports(&p->t.dst))
		svc = bn_sel_nodeport(&p->t.dst, p->t.dport, p->proto, idx);
	return svc;
}

/* During a take-over: may the packet be of a flow that the kernel's own conntrack translates? */
static __always_inline bool bn_svc_may_be_foreign(const struct bn_pkt *p)
{
	return p->proto == BN_PROTO_UDP ||
	       (p->proto == BN_PROTO_TCP &&
		(p->tcp & (BN_TCP_SYN | BN_TCP_ACK)) != BN_TCP_SYN);
}

/* For the first packet of a flow. 0: h->idx says whether it is a service's, h->be is the backend.
 */
__noinline int bn_svc_choose(struct bn_pkt *p, struct bn_svc_hit *h, __u32 internal)
{
	struct bn_sel_who who = {};
	enum bn_sel_verdict v;
	struct bn_svc *svc;
	__u32 idx = 0;

	if (!p || !h)
		return -BN_DROP_INTERNAL;
	h->idx = 0;
	if (!bn_pkt_has_ports(p))
		return bn_svc_is_clusterip(&p->t.dst) ? -BN_DROP_UNSUPPORTED : 0;
	svc = bn_svc_front(p, &idx);
	if (!svc) {
		if (!bn_svc_is_clusterip(&p->t.dst))
			return 0;
		p->refuse = BN_REFUSE_UNREACH;
		return -BN_DROP_OTHER_PORT;
	}
	if (p->flags & BN_PKT_F_LATER)
		return -BN_DROP_FRAGMENT;
	if ((p->state & BN_STATE_F_TAKEOVER) && bn_svc_may_be_foreign(p))
		return 0;
	if (!bn_sel_source_ok(svc, &p->t.src))
		return -BN_DROP_SOURCE_RANGE;
	if (p->proto == BN_PROTO_TCP &&
	    (p->tcp & (BN_TCP_SYN | BN_TCP_ACK | BN_TCP_RST)) != BN_TCP_SYN) {
		p->refuse = BN_REFUSE_UNREACH;
		return -BN_DROP_CT_MIDSTREAM;
	}
	who.client = p->t.src;
	who.now_s = p->now_s;
	who.internal = internal;
	who.rnd = svc->flags & BN_SVC_F_MAGLEV ? bn_svc_flow_hash(&p->t, p->proto) : p->rnd;
	h->gen = BN_RANGE_GEN(bn_sel_range(svc, who.internal));
	v = bn_sel_backend(svc, &who, &h->be);
	if (v == BN_SEL_DROP)
		return -BN_DROP_NO_LOCAL_BACKEND;
	if (v != BN_SEL_OK) {
		p->refuse = BN_REFUSE_UNREACH;
		return -BN_DROP_NO_BACKEND;
	}
	h->external = !!(svc->flags & BN_SVC_F_EXTERNAL);
	h->idx = idx;
	return 0;
}

/* The record that a flow remembers, if it still is its destination's; NULL: look again. */
static __always_inline struct bn_svc *bn_svc_remembered(const struct bn_pkt *p, __u32 idx)
{
	struct bn_svc *svc = bpf_map_lookup_elem(&svcs, &idx);

	if (!svc || svc->key.port != p->t.dport || svc->key.proto != p->proto)
		return NULL;
	if (svc->key.scope == BN_SCOPE_NODEPORT || bn_addr_eq(&svc->key.addr, &p->t.dst))
		return svc;
	return NULL;
}

/* The service changed since a flow last looked (see bn_svc_changed): may it keep its backend? 1: yes, idx
 * and gen are up to date. 0: the backend is none of the service's any more, or the service is gone.
 */
__noinline int bn_svc_still(struct bn_pkt *p, struct bn_svc_hit *h, __u32 internal)
{
	struct bn_svc *svc;
	__u64 range;

	if (!p || !h)
		return 0;
	svc = bn_svc_front(p, &h->idx);
	if (!svc)
		return 0;
	range = bn_sel_range(svc, internal);
	h->gen = BN_RANGE_GEN(range);
	return bn_sel_member(range, &h->be.addr, h->be.port, false, NULL);
}

static __always_inline bool bn_svc_changed(const struct bn_pkt *p, __u32 idx, __u16 gen,
					   bool internal)
{
	struct bn_svc *svc = bn_svc_remembered(p, idx);

	return !svc || BN_RANGE_GEN(bn_sel_range(svc, internal)) != gen;
}

#endif
