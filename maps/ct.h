/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_CT_H
#define BN_MAPS_CT_H

/* Connection table: our own set-associative hash in one array map (docs/ARCHITECTURE.md says why
 * not a kernel LRU): a bucket has BN_CT_WAYS entries, a key may stand in two buckets. Closed and
 * expired entries are taken over when room is needed, half-open and one-packet flows by newer ones
 * of the same pod; an established flow is never evicted. So nothing has to run for it to expire.
 *
 * A flow without translation is one entry, seen by both directions and by both pods of a node. A
 * translated flow is two: under the tuple that the client uses and under the one after translation.
 */

#include <linux/bpf.h>

#include "maps/types.h"

#define BN_CT_WAYS 8

BN_ABI_BEGIN
/* The two ends, sorted: (a, ap) is the smaller one as bytes in network order. */
struct bn_ct_key {
	struct bn_addr a, b;
	__be16 ap, bp; /* ICMP echo: both the identifier */
	__u8 proto;
	__u8 pad[3];
};

struct bn_ct_entry {
	struct bn_ct_key key;
	__u32 gen;     /* odd while the entry is being written: reread */
	__u32 expires; /* seconds of boot time */

	/* Packets of the original direction get source xs and destination xd, those of the reply
	 * direction the reverse of the other entry's original tuple. Only with BN_CT_F_NAT.
	 */
	struct bn_addr xs, xd;
	__be16 xsp, xdp;

	__u32 flags;	/* BN_CT_F_* */
	__u32 eg_epoch; /* epoch in which the client's egress policy admitted the flow; 0: never */
	__u32 in_epoch; /* the same for the server's ingress policy */
	__u32 eg_rule, in_rule;
	__u32 ifindex;	/* where the original direction came in; 0: this host */
	__u32 svc_idx;	/* index of svcs, 0: none */
	__u32 created;	/* seconds of boot time */
	__u16 slot;	/* local pod that began it (its share of half-open flows); 0: none */
	__u16 http;	/* BN_CT_HTTP_* while requests are followed */
	__u32 tcp_seq;	/* one past the highest sequence number of the original direction (resets) */
	__u32 pad;
	__u64 packets, bytes; /* both directions that used this entry */
	__u64 spare[2];
};

struct bn_ct_bucket {
	struct bpf_spin_lock lock; /* one __u32 */
	__u32 pad;
	__u32 tag[BN_CT_WAYS]; /* 0: free */
	__u64 spare[3]; /* the entries begin on a cache line */
	struct bn_ct_entry e[BN_CT_WAYS];
};
BN_ABI_END
_Static_assert(sizeof(struct bn_ct_entry) == 160, "map ABI");
_Static_assert(sizeof(struct bn_ct_bucket) == 1344, "map ABI");

enum {
	BN_CT_F_ORIG_A = 1 << 0,      /* the original direction is a -> b */
	BN_CT_F_NAT = 1 << 1,	      /* xs, xd hold */
	BN_CT_F_ALIAS = 1 << 2,	      /* of the two entries the one under the client's own tuple */
	BN_CT_F_REPLIED = 1 << 3,     /* both directions were seen */
	BN_CT_F_ASSURED = 1 << 4,     /* established: never evicted */
	BN_CT_F_FIN_ORIG = 1 << 5,
	BN_CT_F_FIN_REPLY = 1 << 6,
	BN_CT_F_CLOSED = 1 << 7,      /* RST, or both FIN: may be taken over at once */
	BN_CT_F_HAIRPIN = 1 << 8,     /* a pod that reached itself through a service */
	BN_CT_F_SNAT = 1 << 9,	      /* source is translated too */
	BN_CT_F_SYN_ORIG = 1 << 10,
	BN_CT_F_BYPASS = 1 << 11,     /* decided at the first packet: skip the host stack */
};

#endif
