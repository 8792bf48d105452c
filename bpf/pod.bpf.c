// SPDX-License-Identifier: GPL-2.0-only
/* Both directions of a pod's host-side interface. */

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/cfg.h"
#include "bpf/lib/priv.h"

#define BN_TC_NEXT (-1) /* TCX_NEXT and TC_ACT_UNSPEC: other programs run too */

static __always_inline int bn_pod_pass(struct __sk_buff *skb, __u32 hook)
{
	struct bn_hook_stat *s = bpf_map_lookup_elem(&hook_stats, &hook);

	if (s) {
		s->packets++;
		s->bytes += skb->len;
	}
	return BN_TC_NEXT;
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return bn_pod_pass(skb, BN_HOOK_FROM_POD);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return bn_pod_pass(skb, BN_HOOK_TO_POD);
}

char LICENSE[] SEC("license") = "GPL";
