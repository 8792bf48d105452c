/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_ENTRY_H
#define BN_BPF_ENTRY_H

/* What every TC program does last. Only the end counts, reports, answers what was refused, and
 * knows the hook's return codes.
 */

#include <linux/pkt_cls.h>

#include "bpf/lib/begin.h"
#include "bpf/lib/deliver.h"
#include "bpf/lib/event.h"
#include "bpf/lib/flow.h"
#include "bpf/lib/frag.h"
#include "bpf/lib/reject.h"

#define BN_TC_NEXT (-1) /* TCX_NEXT and TC_ACT_UNSPEC: other programs run too */

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
