/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_EVENT_H
#define BN_MAPS_EVENT_H

#include "maps/drop.h"
#include "maps/types.h"

BN_ABI_BEGIN
/* Ring buffer events: one per denied, refused or dropped packet, sampled under load. */
struct bn_event {
	__u64 time_ns; /* CLOCK_BOOTTIME */
	struct bn_addr src, dst;
	__be16 sport, dport;
	__u8 proto;
	__u8 verdict;	/* enum bn_event_verdict */
	__u8 reason;	/* enum bn_drop */
	__u8 direction; /* enum bn_event_dir */
	__u32 ifindex;
	__u32 slot;	/* local pod it concerns, 0: none */
	__u32 policy;	/* compiled policy that judged, 0: none */
	__u32 rule;	/* rule that decided, 0: no rule matched */
	__u32 len;	/* bytes of the packet */
	__u32 hook;	/* enum bn_hook */
	__u32 suppressed; /* events not sent by this CPU since its last one */
	__u32 pad;
	char method[16]; /* HTTP only, NUL-terminated, cut */
	char path[96];
	char host[64];
};
BN_ABI_END

enum bn_event_verdict {
	BN_EV_ALLOWED,
	BN_EV_DENIED,
	BN_EV_DROPPED,
	BN_EV_AUDIT, /* would have been denied */
	BN_EV__MAX,
};

enum bn_event_dir {
	BN_DIR_EGRESS,
	BN_DIR_INGRESS,
	BN_DIR__MAX,
};

#endif
