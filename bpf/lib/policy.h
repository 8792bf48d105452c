/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_POLICY_H
#define BN_BPF_POLICY_H

/* One look-up in a compiled policy (maps/policy.h): may this pod talk with that peer on that port?
 * All precedence was settled by the compiler. What cannot be read consistently denies.
 */

#include <bpf/bpf_endian.h>

#include "bpf/lib/addr.h"
#include "maps/http_conn.h"
#include "maps/policy.h"

struct bn_ask {
	struct bn_addr peer;
	__u32 slot;  /* the pod whose policy is asked */
	__be16 port; /* of the server */
	__u8 proto;
	__u8 dir;    /* enum bn_event_dir: its egress or its ingress */
	__u32 fresh; /* the first packet of a flow (statistics) */
	__u32 policy; /* which one it is */
	/* the answer */
	__u32 rule;
	__u32 audit; /* enum bn_drop: denied for this, but only to be recorded */
	__u32 http;  /* allowed, and requests are judged by this rule set (BN_CT_HTTP_RULES); 0: they are not */
	/* Who the peer is, looked up beforehand: one call less in the deepest chain. */
	struct bn_who who;
};

/* Rules of a flow's end (BN_CT_HTTP_*) that may drop something: there are some, and not under audit. */
static __always_inline bool bn_http_enforced(__u32 http)
{
	return (http & BN_CT_HTTP_RULES) && !(http & BN_CT_HTTP_AUDIT);
}

/* Class of a port: binary search for the last start that is not greater. */
static __always_inline __u32 bn_policy_class(const struct bn_pol *pol, __u32 key)
{
	__u32 lo = 0, n = pol->nports, cls = 0;

	for (int i = 0; i < 17; i++) {
		__u32 half = n / 2, at = pol->ports + lo + half;
		__u32 *start;

		if (!n)
			break;
		start = bpf_map_lookup_elem(&pol_ports, &at);
		if (!start)
			break;
		if (BN_PORT_START_KEY(*start) <= key) {
			cls = BN_PORT_START_CLASS(*start);
			lo += half + 1;
			n -= half + 1;
		} else {
			n = half;
		}
	}
	return cls;
}

static __always_inline const struct bn_cell *bn_policy_cell(__u32 id, __u32 identity, __u32 port)
{
	struct bn_peer_key key = {.policy = id, .identity = identity};
	struct bn_pol *pol = bpf_map_lookup_elem(&pols, &id);
	struct bn_peer_val *peer;
	__u32 row, cls, at;

	if (!pol || pol->check != id)
		return NULL;
	cls = bn_policy_class(pol, port);
	if (cls >= pol->nclasses)
		return NULL;
	row = pol->default_row;
	for (int i = 0; i < 2; i++) {
		__u64 v;

		peer = bpf_map_lookup_elem(&pol_peers, &key);
		if (!peer)
			break;
		v = *(volatile __u64 *)peer; /* row and check in one load: elements are reused */
		if ((__u32)(v >> 32) == BN_PEER_CHECK(id, identity)) {
			row = (__u32)v;
			break;
		}
	}
	at = pol->cells + row * pol->nclasses + cls;
	return bpf_map_lookup_elem(&pol_cells, &at);
}

static __always_inline void bn_policy_stat(__u32 rule, bool connection)
{
	struct bn_rule_stat *s;

	if (!rule)
		return;
	s = bpf_map_lookup_elem(&rule_stats, &rule);
	if (!s)
		return;
	__sync_fetch_and_add(&s->packets, 1);
	if (connection)
		__sync_fetch_and_add(&s->connections, 1);
}

/* Which policy is asked, of the pod q->slot in the direction q->dir. 0: none, the pod is open. */
static __always_inline int bn_policy_of(struct bn_ask *q)
{
	__u32 slot = q->slot;
	struct bn_pod_slot *pod = bpf_map_lookup_elem(&pods, &slot);
	__u64 word;

	q->policy = q->rule = q->audit = q->http = 0;
	if (!pod)
		return -BN_DROP_INTERNAL;
	word = *(volatile __u64 *)&pod->word;
	q->policy = q->dir == BN_DIR_EGRESS ? BN_POD_EGRESS(word) : BN_POD_INGRESS(word);
	if (q->policy == BN_POL_OPEN)
		return 0;
	return 1;
}

/* The policy q->policy about the peer q->who. 0: allowed; -BN_DROP_POLICY_x or -BN_DROP_HTTP_UNSUPPORTED (no
 * rule set for this protocol). Under audit 0 always: q->audit says what it would have been.
 */
__noinline int bn_policy_ask(struct bn_ask *q)
{
	__u32 zero = 0, id, port = 0, action = BN_ACT_DENY, flags = 0;
	const struct bn_cell *cell;
	struct bn_state *st;
	struct bn_pol *pol;
	int r = 0;

	if (!q)
		return -BN_DROP_INTERNAL;
	id = q->policy;
	st = bpf_map_lookup_elem(&state, &zero);
	if (!st)
		return -BN_DROP_INTERNAL;
	if (id >= BN_POL_FIRST) {
		if (bn_proto_index(q->proto))
			port = BN_PORT_KEY(bn_proto_index(q->proto), bpf_ntohs(q->port));
		cell = bn_policy_cell(id, q->who.identity, port);
		if (cell) {
			action = cell->action;
			q->rule = cell->rule;
			if (action == BN_ACT_HTTP)
				q->http = cell->http;
		}
		pol = bpf_map_lookup_elem(&pols, &id);
		flags = pol ? pol->flags : 0;
	}
	bn_policy_stat(q->rule, action != BN_ACT_DENY && q->fresh);
	q->audit = 0;
	if (action == BN_ACT_ALLOW)
		return 0;
	if (action != BN_ACT_HTTP)
		r = q->dir == BN_DIR_EGRESS ? -BN_DROP_POLICY_EGRESS : -BN_DROP_POLICY_INGRESS;
	else if (q->proto != BN_PROTO_TCP || !q->http || q->http >= BN_HTTP_SETS)
		r = -BN_DROP_HTTP_UNSUPPORTED;
	if ((flags & BN_POL_F_AUDIT) || (st->flags & BN_STATE_F_AUDIT)) {
		if (!r)
			q->http |= BN_CT_HTTP_AUDIT;
		else
			q->http = 0;
		q->audit = -r;
		return 0;
	}
	return r;
}

#endif
