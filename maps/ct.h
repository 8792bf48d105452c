/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_CT_H
#define BN_MAPS_CT_H

/* Connection table: our own set-associative hash (docs/ARCHITECTURE.md says why not a kernel LRU): a
 * bucket has BN_CT_WAYS entries, a key may stand in two buckets. Closed and expired entries are taken
 * over when room is needed, half-open and one-packet flows by newer ones of the same pod; an
 * established flow is never evicted. So nothing has to run for it to expire.
 *
 * Two arrays with one index: a bucket's lock and tags, one cache line (map ct_heads, small enough to
 * stay in the caches), and its entries (map ct). What searches reads tags only.
 *
 * A flow without translation is one entry, seen by both directions and by both pods of a node. A
 * translated flow is two: under the tuple that the client uses and under the one after translation.
 */

#include <linux/bpf.h>

#include <linux/bpf.h> /* struct bpf_spin_lock */

#include "maps/types.h"

#define BN_CT_WAYS 14

BN_ABI_BEGIN
/* The two ends, sorted: (a, ap) is the smaller one as bytes in network order. */
struct bn_ct_key {
	struct bn_addr a, b;
	__be16 ap, bp; /* ICMP echo: both the identifier */
	__u8 proto;
	__u8 zone; /* BN_CT_ZONE_* */
	__u8 pad[2]; /* 0; the data plane may write that at any time (bn_ct_ahead) */
};

struct bn_ct_entry {
	struct bn_ct_key key;
	__u32 gen;     /* odd while the entry is being written: reread */
	__u32 expires; /* seconds of boot time */
	__u32 flags;   /* BN_CT_F_* */
	__u32 ifindex; /* where the original direction comes in; 0: this host */
	/* In which epoch the client's egress policy and the server's ingress policy admitted the flow:
	 * BN_CT_STAMP(epoch, gen). A stamp written late, by a program that still held an entry since
	 * taken over by another flow, names an old gen and admits nothing.
	 */
	__u64 eg_stamp, in_stamp;
	/* With BN_CT_F_NAT: the other entry's tuple in the original direction. Under the client's own
	 * tuple (ALIAS) packets of the original direction become xs -> xd; under the translated tuple
	 * packets of the reply direction become xd -> xs.
	 */
	struct bn_addr xs, xd;
	__be16 xsp, xdp;
	__u32 rifindex; /* where the reply direction comes in, the server's side; 0: not known yet */
	__u64 bytes[2]; /* original, reply: of the packets that met this entry */
	__u32 packets[2];
	__u32 svc_idx;	/* index of svcs, 0: none */
	__u32 created;	/* seconds of boot time */
	__u16 slot;	/* local pod that began it (its share of half-open flows); 0: none */
	__u16 svc_gen;	/* low bits of the generation of the backend range last checked */
	/* HTTP: the rule sets that stamps with BN_CT_STAMP_HTTP name (BN_CT_HTTP_*); and where the client's and
	 * the server's bytes begin, from the server's SYN-ACK (both 0: not seen), host order.
	 */
	__u32 http;
	__u32 first, srv_first;
};

struct bn_ct_head {
	struct bpf_spin_lock lock; /* for insertion only; user space sees 0 */
	__u32 spare;
	union {
		__u32 tag[BN_CT_WAYS]; /* 31 bits; 0: free */
		__u64 tag2[BN_CT_WAYS / 2];
	};
};

struct bn_ct_bucket {
	struct bn_ct_entry e[BN_CT_WAYS];
};
BN_ABI_END
_Static_assert(sizeof(struct bn_ct_entry) == 160, "map ABI");
_Static_assert(sizeof(struct bn_ct_head) == 64, "map ABI: one cache line");
_Static_assert(sizeof(struct bn_ct_bucket) == 2240, "map ABI");

/* Buckets for so many translated flows (two entries each): 92 % full they are, with two choices of
 * bucket, 0.2 % of the flows short of room.
 */
#define BN_CT_BUCKETS(flows) ((__u64)(flows) * 2 * 25 / 23 / BN_CT_WAYS + 1)
/* For more than the default (--ct-max): 82 % full; by the random seed 0 to 0.04 % of the
 * flows were seen short of room.
 */
#define BN_CT_FLOWS_DEFAULT 131072
#define BN_CT_BUCKETS_ASKED(flows)                                                                 \
	BN_CT_BUCKETS((__u64)(flows) + ((flows) > BN_CT_FLOWS_DEFAULT ? (__u64)(flows) / 8 : 0))

#define BN_CT_STAMP(epoch, gen) ((__u64)(epoch) | (__u64)(gen) << 32)
/* Set in a stamp: admitted, but each request is judged by the entry's rule set (`http`, written before the
 * stamp). The lowest bit of gen is 0 in every other stamp.
 */
#define BN_CT_STAMP_HTTP ((__u64)1 << 32)
/* In `http`, by enum bn_event_dir: a rule set; that what it denies is to be recorded only; and that the judge's
 * state was made once in the flow's life: it is never made anew in the middle of it. The latter without a rule
 * set: packets passed unjudged since.
 */
#define BN_CT_HTTP_SHIFT(side) ((side) * 16)
#define BN_CT_HTTP_SET 0x3fffu
#define BN_CT_HTTP_AUDIT 0x4000u
#define BN_CT_HTTP_RULES (BN_CT_HTTP_SET | BN_CT_HTTP_AUDIT)
#define BN_CT_HTTP_MADE 0x8000u

enum {
	BN_CT_ZONE_MAIN,
	/* A direct flow whose tuple a translated one already has: its own packets stand here, and it
	 * goes on under another client port.
	 */
	BN_CT_ZONE_SHIFTED,
};

enum {
	BN_CT_F_ORIG_A = 1 << 0,     /* the original direction is a -> b */
	BN_CT_F_NAT = 1 << 1,	     /* xs, xd hold */
	BN_CT_F_ALIAS = 1 << 2,	     /* of the two entries the one under the client's own tuple */
	BN_CT_F_REPLIED = 1 << 3,    /* both directions were seen */
	BN_CT_F_ASSURED = 1 << 4,    /* established: never evicted */
	BN_CT_F_FIN_ORIG = 1 << 5,
	BN_CT_F_FIN_REPLY = 1 << 6,
	BN_CT_F_CLOSED = 1 << 7,     /* RST, or both FIN: may be taken over at once */
	BN_CT_F_HAIRPIN = 1 << 8,    /* a pod that reached itself through a service */
	BN_CT_F_SNAT = 1 << 9,	     /* source is translated too */
	BN_CT_F_MID = 1 << 10,	     /* begun in mid-stream: which end is the client is not known */
	BN_CT_F_BYPASS = 1 << 11,    /* decided at the first packet: skip the host stack */
	BN_CT_F_SHIFTED = 1 << 13,   /* not a service's: another client port only (zone SHIFTED) */
	BN_CT_F_BRIDGED = 1 << 14,   /* BYPASS without a hop: both pods are on one link */
	BN_CT_F_NET = 1 << 15,	     /* a service's, begun outside of this node (from_net) */
	/* Translated by the kernel's own conntrack: begun through kube-proxy and taken over with it. Its
	 * packets are judged and counted here but never written to; NET is set wherever it began.
	 */
	BN_CT_F_FOREIGN = 1 << 16,
	/* To a backend on another node by DSR: without NAT, the entry of the client's tuple is the only one. */
	BN_CT_F_DSR = 1 << 17,
	BN_CT_F_MASQ = 1 << 18,      /* to a ClusterIP under this node's address (--masquerade-all) */
	BN_CT_F_INTERNAL = 1 << 12,  /* chose from svcs.range_int where the service has SPLIT */
};

#endif
