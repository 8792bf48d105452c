/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_ENTRY_H
#define BN_BPF_ENTRY_H

/* What every TC program does first and last. Only the end counts, reports, answers what was refused, and
 * knows the hook's return codes.
 */

#include <linux/pkt_cls.h>
#include <stddef.h>

#include "bpf/lib/deliver.h"
#include "bpf/lib/event.h"
#include "bpf/lib/flow.h"
#include "bpf/lib/reject.h"

#define BN_TC_NEXT (-1) /* TCX_NEXT and TC_ACT_UNSPEC: other programs run too */

static __always_inline struct bn_pkt *bn_entry_pkt(__u8 hook, __u8 dir)
{
	struct bn_scratch *s = bn_scratch_get();

	if (!s)
		return NULL;
	bn_scratch_now(s);
	__builtin_memset(&s->p.t, 0, sizeof(s->p) - offsetof(struct bn_pkt, t));
	s->p.hook = hook;
	s->p.dir = dir;
	return &s->p;
}

static __always_inline int bn_entry_begin(bn_ctx *skb, struct bn_pkt *p, __u32 l2_len)
{
	__u32 zero = 0;
	struct bn_state *st = bpf_map_lookup_elem(&state, &zero);

	if (!st)
		return -BN_DROP_INTERNAL;
	p->epoch = *(volatile __u32 *)&st->epoch;
	p->state = *(volatile __u32 *)&st->flags;
	p->ifindex = skb->ifindex;
	p->in_ifindex = skb->ingress_ifindex;
	p->len = skb->len;
	return bn_parse(skb, p, l2_len);
}

/* r: what the stages came to, carried out. */
static __always_inline int bn_entry_end(bn_ctx *skb, struct bn_pkt *p, int r)
{
	int why = r;

	bn_exit_count(p);
	if (r < 0 && p->refuse) {
		r = bn_refuse(skb, p);
		if (r == -BN_DROP_REJECT_RATE)
			why = r;
	}
	if (why < 0)
		bn_exit_drop(p, -why);
	if (r < 0)
		return TC_ACT_SHOT;
	return r == BN_DONE_REDIRECT ? TC_ACT_REDIRECT : BN_TC_NEXT;
}

#endif
