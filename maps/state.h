/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_STATE_H
#define BN_MAPS_STATE_H

#include "maps/drop.h"
#include "maps/types.h"

#define BN_SCHEMA 2 /* layout of the pinned maps; a daemon with another number must migrate */
#define BN_META_MAGIC 0x62706e65u

BN_ABI_BEGIN
/* Map meta, one entry: written once by the loader that created the pins. */
struct bn_meta_val {
	__u32 magic, schema;
	__u32 ct_buckets; /* entries of map ct; any number */
	__u32 pad;
	__u64 seed[16]; /* keys of the flow hash: random, and as old as the ct map */
};

/* Map state, one entry, mmapable: what the programs read on every packet and the daemon writes
 * with single aligned stores.
 */
struct bn_state {
	/* Policy epoch. Raised after each change of policies, identities or pod words: a flow that was
	 * judged in an older epoch is judged again at its next packet. Never 0.
	 */
	__u32 epoch;
	__u32 flags; /* BN_STATE_F_*; upper half: BN_STATE_CARRY */
	/* This node's own addresses for translation of hairpin flows and masquerade where the egress
	 * interface has none of the family. All zero: none.
	 */
	struct bn_addr node4, node6;
	__u64 heartbeat_ns; /* CLOCK_BOOTTIME of the daemon's last turn, for display only */
};

/* Map hook_stats, per CPU, index enum bn_hook. */
struct bn_hook_stat {
	__u64 packets, bytes;
	__u64 translated; /* of these, by a service */
	__u64 flows;	  /* new ones */
};

/* Map drops, per CPU, index enum bn_drop. */
struct bn_drop_stat {
	__u64 packets, bytes;
};
BN_ABI_END

enum {
	BN_STATE_F_UNKNOWN_ALLOW = 1 << 0, /* --unknown-pods allow */
	BN_STATE_F_DENY_REJECT = 1 << 1,   /* --deny-with reject */
	BN_STATE_F_AUDIT = 1 << 2,	   /* --policy-audit */
	/* For moments, while flows that began through kube-proxy are being taken over: what has no entry
	 * and may be one of them is left to kube-proxy's rules.
	 */
	BN_STATE_F_TAKEOVER = 1 << 3,
	BN_STATE_F_HTTP_FLOWS = 1 << 4, /* somebody reads flows: allowed HTTP requests are reported too */
};

/* Flows are being carried into another connection table: until then (low bits of the boot time's seconds, in the
 * upper half of flags; 0: no) what is in mid-stream and has no entry is dropped without a word, its sender
 * will send it again. It ends by itself, for the daemon may be killed meanwhile.
 */
#define BN_STATE_CARRY(until_s) ((__u32)(__u16)((until_s) | 1) << 16)
#define BN_STATE_CARRY_S 2

#define BN_HOOK_LIST(X)                                                                            \
	X(FROM_POD, "from_pod")                                                                    \
	X(TO_POD, "to_pod")                                                                        \
	X(FROM_NET, "from_net")                                                                    \
	X(TO_NET, "to_net")                                                                        \
	X(XDP_NET, "xdp_net")                                                                      \
	X(SOCK, "sock")

enum bn_hook {
#define X(name, text) BN_HOOK_##name,
	BN_HOOK_LIST(X)
#undef X
	BN_HOOK__MAX
};

#endif
