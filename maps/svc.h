/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_SVC_H
#define BN_MAPS_SVC_H

/* Services: frontend hash -> record index -> record -> range of backend slots.
 *
 *   fronts    hash     bn_front_key -> bn_front_val   one per address and port that answers
 *   svcs      array    index -> bn_svc                mmapable; index 0 is never used
 *   slots     array    index -> bn_backend            mmapable; one range per backend list
 *   svc_names hash     svc_id -> bn_svc_name          for people; no program reads it
 *
 * Elements of a plain hash are reused under a reader (FACTS, "Plain maps tear"), so the reader
 * compares svcs[idx].key with what it looked up. On a mismatch it looks the key up again, once or
 * twice: a record whose flags, affinity or source ranges change is replaced by another index, and
 * the key of the old one is cleared at once. Only what fails again is no service. (A flow that
 * remembers an index does the same: mismatch, look up again; not found: the service is gone.)
 *
 * A backend list changes by writing a new range of slots and then storing one aligned 64-bit word.
 * Old ranges and record indices are reused only after a grace period. Random choice and Maglev are
 * both an index into the range.
 *
 * Members: slots[base].members == 0: the range itself is sorted by {addr, port} as bytes (memcmp of
 * the first 18), without duplicates, and holds every backend that existing UDP flows and affinity
 * may keep. Otherwise that many slots directly behind the range, [base + count, + members), are
 * the sorted list of every endpoint that still serves; those with BN_BE_F_CHOSEN are in the range
 * too. UDP flows keep any member (SEMANTICS 2, UDP conntrack); affinity keeps members that are
 * CHOSEN (or any, when the range itself is the list). A range of count 0 has no members: where new
 * connections are dropped (a Local policy and no local endpoint) and UDP flows may stay with endpoints
 * elsewhere, the range is one slot with BN_BE_F_NONE, and those endpoints are its members.
 */

#include "maps/types.h"

BN_ABI_BEGIN
struct bn_front_key {
	struct bn_addr addr; /* BN_SCOPE_NODEPORT: 0.0.0.0 v4-mapped for IPv4, :: for IPv6 */
	__be16 port;
	__u8 proto; /* TCP, UDP, SCTP; 0 with port 0: the address has services, see fronts below */
	__u8 scope; /* enum bn_scope */
};

struct bn_front_val {
	__u32 idx;
};

struct bn_backend {
	struct bn_addr addr;
	__be16 port;
	__u16 flags;   /* BN_BE_F_* */
	__u32 members; /* in the first slot of a range only; see above */
};

struct bn_svc {
	__u64 range;	 /* for sources outside this node; and for all, unless SPLIT. BN_RANGE() */
	__u64 range_int; /* SPLIT: for this node's pods and processes (SEMANTICS 2, 7) */
	struct bn_front_key key;
	__u32 flags;	  /* BN_SVC_F_* */
	__u32 affinity_s; /* 0: none */
	__u32 svc_id;	  /* of the service port: affinity is per service port, not per frontend */
	__u32 src_set;	  /* loadBalancerSourceRanges: prefix set in map src_ranges; 0: none */
	__u32 pad;
	__u64 spare[1];
};

/* Map svc_names: what `svc list` shows when no daemon runs. Written before the first front. */
struct bn_svc_name {
	char name[132]; /* "namespace/name", NUL-terminated */
	char port[64];	/* name of the service port */
	__u8 type;	/* enum bn_svc_type of policy/object.h */
	__u8 pad[3];
};

/* Map affinity: LRU hash. The backend is kept by address (indices are reused). */
struct bn_aff_key {
	struct bn_addr client;
	__u32 svc_id;
	__u32 netns; /* socket hook only: low bits of the cookie of the client's namespace, else 0 */
};

struct bn_aff_val {
	struct bn_addr addr;
	__be16 port;
	__u16 pad;
	__u32 used_s; /* bn_now_s() of the last new connection */
};

/* Map src_ranges: LPM; prefix counts from src_set, which is always matched whole. */
struct bn_src_key {
	__u32 prefixlen; /* 32 + 0..128 */
	__u32 src_set;	 /* network order is not needed: matched whole */
	struct bn_addr addr;
};

/* Map sk_peers: socket storage, so it lives and dies with the socket: which backend the socket hooks
 * gave it for which frontend. For recvmsg and getpeername (what the application asked for), and for
 * sendmsg (datagrams of one unconnected socket stay with their backend).
 *
 * To make and to free that costs 2 us. So the one peer of a TCP socket stands in map sk_tcp: an array of
 * places, of which a socket takes one of two that its cookie names, and gives it back when it is closed
 * (hook sock_release). Where both are taken there is sk_peers. A socket that the kernel itself made is not
 * announced when it is closed (MPTCP's subflows, NFS): its place stays taken, for good.
 */
#define BN_SK_PEERS 4
struct bn_sk_peer {
	struct bn_addr front, back;
	__be16 front_port, back_port; /* front_port 0: free */
	__u32 used_s;
};

#define BN_SK_TCPS 8192
struct bn_sk_tcp {
	__u64 cookie; /* of the socket; 0: free */
	struct bn_sk_peer p;
};

struct bn_sk_peers {
	struct bn_sk_peer p[BN_SK_PEERS];
	__u32 spilled; /* more frontends than fit: the oldest went to sk_rev */
	__u32 pad;
};

/* In no map: what bpf/socks.bpf.c says of each socket that has sk_peers or a place in sk_tcp, which is
 * then peers.p[0] (maps/sk_list.h).
 */
struct bn_sk_rec {
	__u64 cookie;	/* of the socket */
	__u64 netns;	/* cookie of its network namespace */
	__u64 ino;	/* of its file; 0: none (not accepted yet, or closed by its owner) */
	struct bn_addr src, dst; /* dst: what it is connected to, after translation; zero: to nothing */
	__be16 sport, dport;
	__u8 proto;
	__u8 connected; /* TCP: established or about to be; UDP: connect() was called */
	__u8 v6;	/* an AF_INET6 socket, whatever its peer is */
	__u8 pad;
	struct bn_sk_peers peers;
};

/* Map sk_rev: LRU hash, what one socket's sk_peers had no room for. */
struct bn_skrev_key {
	__u64 cookie;
	struct bn_addr addr; /* backend */
	__be16 port;
	__u8 proto;
	__u8 pad[5];
};

struct bn_skrev_val {
	struct bn_addr addr; /* frontend */
	__be16 port;
	__u16 pad;
	__u32 svc_idx;
};
BN_ABI_END
_Static_assert(sizeof(struct bn_front_key) == 20, "map ABI");
_Static_assert(sizeof(struct bn_backend) == 24, "map ABI");
_Static_assert(sizeof(struct bn_svc) == 64, "map ABI");

/* fronts also holds, for every ClusterIP, ExternalIP and LoadBalancer address, the key {addr, 0, 0,
 * BN_SCOPE_ADDR} -> idx 0: a packet to another port of a service address is known as such (it is
 * refused for ClusterIPs, left alone for others: BN_FRONT_IDX_*).
 */
enum bn_scope {
	BN_SCOPE_EXACT,	   /* addr and port as in the packet */
	BN_SCOPE_NODEPORT, /* any address of this node that answers NodePorts */
	BN_SCOPE_ADDR,
	BN_SCOPE__MAX,
};

enum {
	BN_FRONT_IDX_CLUSTERIP = 0, /* value of a BN_SCOPE_ADDR key */
	BN_FRONT_IDX_EXTERNAL = 1,
};

enum {
	BN_SVC_F_EXTERNAL = 1 << 0,	/* LoadBalancer, externalIP or NodePort frontend */
	BN_SVC_F_ETP_LOCAL = 1 << 1,	/* no masquerade for outside clients; SPLIT is set too */
	BN_SVC_F_ITP_LOCAL = 1 << 2,	/* ClusterIP with internalTrafficPolicy Local */
	BN_SVC_F_SPLIT = 1 << 3,	/* range_int differs in meaning from range */
	BN_SVC_F_MAGLEV = 1 << 4,	/* choose by flow hash, not at random */
	BN_SVC_F_NODEPORT = 1 << 5,
	BN_SVC_F_SRC_RANGES = 1 << 6,
	BN_SVC_F_LOADBALANCER = 1 << 7,
};

enum {
	BN_BE_F_LOCAL = 1 << 0,	      /* a pod (or host-network pod) of this node */
	BN_BE_F_TERMINATING = 1 << 1, /* for display */
	BN_BE_F_CHOSEN = 1 << 2,      /* members behind a range: it is in the range as well */
	BN_BE_F_NONE = 1 << 3,	      /* no backend: whoever chooses it is dropped; see above */
};

/* {base, count, generation} in one word. count 0: there is none to choose, base says what then. */
#define BN_RANGE(base, count, gen) ((__u64)(base) | (__u64)(count) << 32 | (__u64)(gen) << 48)
#define BN_RANGE_BASE(w) ((__u32)(w))
#define BN_RANGE_COUNT(w) ((__u32)((w) >> 32) & 0xffff)
#define BN_RANGE_GEN(w) ((__u32)((w) >> 48))
#define BN_RANGE_REJECT 0 /* base of an empty range: REJECT */
#define BN_RANGE_DROP 1	  /* base of an empty range: DROP */

/* The two places of sk_tcp that a socket may have, neighbours in memory: nth is 0 or 1. The kernel counts
 * cookies upwards, so sockets spread by themselves.
 */
BN_INLINE __u32 bn_sk_tcp_place(__u64 cookie, int nth)
{
	return (cookie ^ nth) & (BN_SK_TCPS - 1);
}

/* The key under which a NodePort of the family of `of` is found. */
BN_INLINE void bn_front_nodeport(struct bn_front_key *k, const struct bn_addr *of, __be16 port,
				 __u8 proto)
{
	int v4 = bn_addr_is_v4(of);

	k->addr.w[0] = 0;
	k->addr.w[1] = 0;
	k->addr.w[2] = v4 ? BN_V4_MAPPED_WORD : 0;
	k->addr.w[3] = 0;
	k->port = port;
	k->proto = proto;
	k->scope = BN_SCOPE_NODEPORT;
}

#endif
