/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_POLICY_H
#define BN_MAPS_POLICY_H

/* Compiled policies. A compiled policy is one direction of one distinct set of rules; pods with
 * the same rules share it. It is immutable from the moment a pod's word names it, except that
 * rows for new identities may be added.
 *
 *   pols       array  policy id -> bn_pol                    mmapable
 *   pol_ports  array  index -> __u32 BN_PORT_START           mmapable; sorted per policy
 *   pol_peers  hash   bn_peer_key -> bn_peer_val             identity -> row of the matrix
 *   pol_cells  array  index -> bn_cell                       mmapable; matrix [row][port class]
 *   rule_stats array  rule id -> bn_rule_stat                mmapable
 *
 * To judge: class = that of the greatest start <= BN_PORT_KEY(proto, port) among the policy's
 * starts; row = pol_peers{id, identity} or the policy's default row; the verdict is
 * pol_cells[cells + row * nclasses + class]. Tiers and precedence were settled by the compiler.
 */

#include "maps/types.h"

BN_ABI_BEGIN
struct bn_pol {
	__u32 ports;	   /* index of the first start in pol_ports */
	__u32 cells;	   /* index of the first cell */
	__u16 nports;	   /* starts; the first is always BN_PORT_KEY(0, 0) */
	__u16 nclasses;	   /* >= 1 */
	__u16 default_row; /* for identities without a row */
	__u16 flags;	   /* BN_POL_F_* */
	__u32 check;	   /* the policy's id: the reader compares (ids are reused after a grace period) */
	__u32 rows;  /* reserved in pol_cells: what a daemon that takes over leaves alone */
};

struct bn_peer_key {
	__u32 policy, identity;
};

struct bn_peer_val {
	__u32 row;
	__u32 check; /* BN_PEER_CHECK(policy, identity) */
};

struct bn_cell {
	__u8 action; /* enum bn_action */
	__u8 pad[3];
	__u32 rule; /* index of rule_stats: the rule that decided; 0: none matched */
	__u32 http; /* action HTTP: rule set (maps/http_conn.h), 1 .. BN_HTTP_SETS - 1 */
};

struct bn_rule_stat {
	__u64 packets;	   /* judged one by one: denied ones, and the first of each flow */
	__u64 connections; /* flows admitted */
};
BN_ABI_END

#define BN_PEER_CHECK(policy, identity) ((policy)*2654435761u ^ (identity))

/* Port classes. proto index: 0 for protocols without ports, then TCP, UDP, SCTP. */
#define BN_PORT_KEY(pi, port) ((__u32)(pi) << 16 | (port))
#define BN_PORT_START(key, cls) ((__u32)(key) << 14 | (cls))
#define BN_PORT_START_KEY(v) ((v) >> 14)
#define BN_PORT_START_CLASS(v) ((v)&0x3fff)
#define BN_POL_MAX_CLASSES 4096

BN_INLINE __u32 bn_proto_index(__u8 proto)
{
	return proto == BN_PROTO_TCP ? 1 : proto == BN_PROTO_UDP ? 2 : proto == BN_PROTO_SCTP ? 3 : 0;
}

enum bn_action {
	BN_ACT_DENY,
	BN_ACT_ALLOW,
	BN_ACT_HTTP, /* allowed, requests are judged by rule set `http` */
	BN_ACT__MAX,
};

enum {
	BN_POL_F_AUDIT = 1 << 0,
};

/* Policy ids with a meaning of their own. */
enum {
	BN_POL_OPEN,   /* not isolated */
	BN_POL_CLOSED, /* isolated, and nothing is allowed: pods that are not known yet */
	BN_POL_FIRST = 16,
};

#endif
