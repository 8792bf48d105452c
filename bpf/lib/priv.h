/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_PRIV_H
#define BN_BPF_PRIV_H

/* Maps private to one object: nothing in them outlives it or is read by others. */

#include "bpf/lib/maps.h"

/* Token buckets, per CPU: refusals by pod (slot modulo), then the events. */
#define BN_TOKENS_REJECT 64
#define BN_TOKENS_EVENT	 BN_TOKENS_REJECT
#define BN_TOKENS_HTTP	 (BN_TOKENS_EVENT + 1) /* allowed requests */
#define BN_TOKENS__MAX	 (BN_TOKENS_HTTP + 1)

struct bn_tokens {
	__u64 last_ns;
	__u32 left;
	__u32 suppressed;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct bn_tokens);
	__uint(max_entries, BN_TOKENS__MAX);
} tokens SEC(".maps");

#endif
