/* SPDX-License-Identifier: GPL-2.0-only */
/* Looks services up as the data plane does (bpf/lib/select.h) and checks what it gets: every
 * backend says which service and which version of its list it belongs to. See
 * tests/bpf/test_svc_torn.c.
 */
#include "bpf/lib/select.h"

const volatile __u32 cfg_stable; /* services 0 .. stable - 1 always exist */
const volatile __u32 cfg_all;	 /* those up to all - 1 come and go */

__u64 lookups, found, missing, wrong, torn, mixed, refused, retried;

static __u32 prng;

static __u32 rnd(void)
{
	prng = prng * 1664525 + 1013904223;
	return prng >> 8;
}

static long dawdle(__u32 i, void *data)
{
	return 0;
}

static void check(struct bn_svc *svc, __u32 k)
{
	struct bn_sel_who who = {.rnd = bpf_get_prandom_u32()};
	__u64 range = bn_sel_range(svc, false);
	__u32 base = BN_RANGE_BASE(range), count = BN_RANGE_COUNT(range), at = base;
	struct bn_backend *a, *b, got = {};

	if (bn_sel_backend(svc, &who, &got) != BN_SEL_OK) {
		__sync_fetch_and_add(&refused, 1);
		return;
	}
	if (got.addr.w[0] != k)
		__sync_fetch_and_add(&wrong, 1);
	else if (got.addr.w[2] != ~got.addr.w[1])
		__sync_fetch_and_add(&torn, 1);
	if (!count)
		return;
	/* a slow reader: two of one range are of one version, however long it held the range */
	if (!(k & 7))
		bpf_loop(300, dawdle, NULL, 0);
	a = bpf_map_lookup_elem(&slots, &at);
	at = base + (__u32)((__u64)who.rnd * count >> 32);
	b = bpf_map_lookup_elem(&slots, &at);
	if (!a || !b || a->addr.w[0] != b->addr.w[0] || a->addr.w[1] != b->addr.w[1])
		__sync_fetch_and_add(&mixed, 1);
}

static long step(__u32 i, void *data)
{
	struct bn_front_key key = {.proto = BN_PROTO_TCP, .port = 80};
	__u32 k = rnd() % (cfg_all ? cfg_all : 1), idx = 0;
	struct bn_svc *svc;

	key.addr.w[0] = k;
	key.addr.w[3] = 1;
	svc = bn_sel_front(&key, &idx);
	if (svc) {
		__sync_fetch_and_add(&found, 1);
		check(svc, k);
	} else if (k < cfg_stable) {
		__sync_fetch_and_add(&missing, 1);
	}
	return 0;
}

SEC("tc")
int svc_reader(struct __sk_buff *skb)
{
	prng = bpf_get_prandom_u32();
	bpf_loop(1000, step, NULL, 0);
	__sync_fetch_and_add(&lookups, 1000);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
