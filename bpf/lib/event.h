/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_EVENT_H
#define BN_BPF_EVENT_H

/* The one exit: counts what a packet came to, and reports drops, denials and audited packets
 * through the ring buffer, at most so many a second and CPU; the next event says how many were left
 * out.
 */

#include "bpf/lib/cfg.h"
#include "bpf/lib/ctx.h"
#include "bpf/lib/pkt.h"
#include "bpf/lib/priv.h"

#define BN_EVENTS_PER_S 2000
#define BN_EVENTS_BURST 500

/* Takes a token from this CPU's bucket `idx`. false: none left (counted in `suppressed`). */
static __always_inline bool bn_tokens_take(__u32 idx, __u64 now_ns, __u32 per_s, __u32 burst,
					   struct bn_tokens **ret)
{
	struct bn_tokens *t = bpf_map_lookup_elem(&tokens, &idx);
	__u64 gap, add;

	if (!t)
		return false;
	*ret = t;
	gap = now_ns - t->last_ns;
	add = gap > 1000000000ULL ? burst : gap * per_s / 1000000000ULL;
	if (add) {
		t->left = add + t->left > burst ? burst : t->left + add;
		t->last_ns = now_ns;
	}
	if (!t->left) {
		t->suppressed++;
		return false;
	}
	t->left--;
	return true;
}

__noinline int bn_event_send(struct bn_pkt *p, __u32 reason, __u32 verdict)
{
	__u32 all = BN_TOKENS_EVENT;
	struct bn_tokens *t;
	struct bn_event *ev;

	if (!p || !cfg_events)
		return 0;
	if (!bn_tokens_take(all, p->now_ns, BN_EVENTS_PER_S, BN_EVENTS_BURST, &t))
		return 0;
	ev = bpf_ringbuf_reserve(&events, sizeof(*ev), 0);
	if (!ev) {
		t->suppressed++;
		return 0;
	}
	__builtin_memset(ev, 0, sizeof(*ev));
	ev->time_ns = p->now_ns;
	ev->src = p->t.src;
	ev->dst = p->t.dst;
	ev->sport = p->t.sport;
	ev->dport = p->t.dport;
	ev->proto = p->proto;
	ev->verdict = verdict;
	ev->reason = reason;
	ev->direction = p->dir;
	ev->ifindex = p->ifindex;
	ev->slot = p->slot;
	ev->policy = p->policy;
	ev->rule = p->rule;
	ev->len = p->len;
	ev->hook = p->hook;
	ev->suppressed = t->suppressed;
	t->suppressed = 0;
	bpf_ringbuf_submit(ev, 0);
	return 0;
}

static __always_inline bool bn_drop_is_policy(__u32 reason)
{
	return reason == BN_DROP_POLICY_EGRESS || reason == BN_DROP_POLICY_INGRESS ||
	       reason == BN_DROP_HTTP_UNSUPPORTED;
}

__noinline int bn_exit_drop(struct bn_pkt *p, __u32 reason)
{
	struct bn_drop_stat *s = bpf_map_lookup_elem(&drops, &reason);

	if (!p)
		return 0;
	if (s) {
		s->packets++;
		s->bytes += p->len;
	}
	return bn_event_send(p, reason, bn_drop_is_policy(reason) ? BN_EV_DENIED : BN_EV_DROPPED);
}

static __always_inline void bn_exit_count(struct bn_pkt *p)
{
	__u32 hook = p->hook;
	struct bn_hook_stat *s = bpf_map_lookup_elem(&hook_stats, &hook);

	if (!s)
		return;
	s->packets++;
	s->bytes += p->len;
	if (p->todo & BN_DO_NAT)
		s->translated++;
	if (p->todo & BN_DO_NEW)
		s->flows++;
	if (p->audit)
		bn_event_send(p, p->audit, BN_EV_AUDIT);
}

#endif
