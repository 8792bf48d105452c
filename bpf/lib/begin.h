/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_BEGIN_H
#define BN_BPF_BEGIN_H

/* What every program that sees packets does first. */

#include <stddef.h>

#include "bpf/lib/flow.h"
#include "bpf/lib/parse.h"

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

static __always_inline int bn_entry_begin(bn_ctx *ctx, struct bn_pkt *p, __u32 l2_len)
{
	__u32 zero = 0;
	struct bn_state *st = bpf_map_lookup_elem(&state, &zero);

	if (!st)
		return -BN_DROP_INTERNAL;
	p->epoch = *(volatile __u32 *)&st->epoch;
	p->state = *(volatile __u32 *)&st->flags;
	p->ifindex = bn_ctx_ifindex(ctx);
	p->in_ifindex = bn_ctx_in_ifindex(ctx);
	p->len = bn_ctx_len(ctx);
	return bn_parse(ctx, p, l2_len);
}

#endif
