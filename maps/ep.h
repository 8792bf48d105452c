/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_EP_H
#define BN_MAPS_EP_H

/* Addresses, interfaces and local pods.
 *
 *   addrs   hash   bn_addr -> __u32 index of eps      exact addresses: pods, nodes, this host
 *   eps     array  index -> bn_ep                     mmapable; index 0 is never used
 *   cidrs   LPM    bn_lpm_key -> __u32 identity       everything else (policy CIDRs)
 *   ifaces  hash   ifindex -> bn_iface
 *   pods    array  slot -> bn_pod_slot                mmapable; local pods; slot 0 is never used
 *
 * A reader of eps compares the address (indices are reused after a grace period). Identity and
 * slot change with one store.
 */

#include "maps/types.h"

BN_ABI_BEGIN
struct bn_ep {
	__u64 word; /* BN_EP_WORD(identity, slot) */
	struct bn_addr addr;
	__u32 ifindex; /* host side of a local pod's interface, else 0 */
	__u16 flags;   /* BN_ADDR_F_* */
	__u8 mac[6];   /* the pod's own MAC, all zero when unknown */
	__u32 pad;
	__u64 spare;
};

struct bn_lpm_key {
	__u32 prefixlen; /* 0..128 of the v4-mapped form */
	struct bn_addr addr;
};

struct bn_iface {
	__u32 slot;    /* role pod: index of pods; 0: a pod that is not known yet */
	__u8 role;     /* enum bn_role */
	__u8 l2_len;   /* 0 without Ethernet, 14 with (VLAN tags are parsed) */
	__u16 flags;   /* BN_IF_F_* */
	__u8 mac[6];   /* of this interface */
	__u16 mtu;     /* bytes from the IP header on; 0: not known */
	union {
		struct bn_addr addr4; /* uplink, tunnel: primary addresses, for masquerade */
		__u32 master;	      /* pod: the bridge that this interface is a port of, or 0 */
	};
	struct bn_addr addr6;
	__u32 ifindex; /* the key: the reader compares (elements of a hash are reused under it) */
};

struct bn_pod_slot {
	__u64 word;    /* BN_POD_WORD(ingress policy id, egress policy id) */
	__u32 ifindex; /* host-side interface */
	__u32 spare;   /* 0 */
};
BN_ABI_END
_Static_assert(sizeof(struct bn_ep) == 48, "map ABI");

#define BN_EP_WORD(identity, slot) ((__u64)(identity) | (__u64)(slot) << 32)
#define BN_EP_IDENTITY(w) ((__u32)(w))
#define BN_EP_SLOT(w) ((__u32)((w) >> 32))

#define BN_POD_WORD(in, out) ((__u64)(in) | (__u64)(out) << 32)
#define BN_POD_INGRESS(w) ((__u32)(w))
#define BN_POD_EGRESS(w) ((__u32)((w) >> 32))

enum bn_role {
	BN_ROLE_NONE,
	BN_ROLE_POD,
	BN_ROLE_UPLINK,
	BN_ROLE_TUNNEL,
	BN_ROLE__MAX,
};

enum {
	BN_IF_F_PEER = 1 << 0,	 /* veth: bpf_redirect_peer reaches the pod */
	BN_IF_F_BYPASS = 1 << 1, /* skipping the host stack is known to be safe (--host-routing) */
	BN_IF_F_BRIDGE = 1 << 2, /* a bridge port: same-node traffic comes at layer 2 */
	BN_IF_F_OPEN = 1 << 3,	 /* slot 0, but no pod of Kubernetes: pass everything */
	BN_IF_F_XDP_TX = 1 << 4,   /* xdp_net may send a frame back where it came in */
	BN_IF_F_XDP_XMIT = 1 << 5, /* xdp_net may send other interfaces' frames out here */
};

enum {
	BN_ADDR_F_POD = 1 << 0,
	BN_ADDR_F_HOST = 1 << 1,     /* an address of this node */
	BN_ADDR_F_NODE = 1 << 2,     /* an address of another node */
	BN_ADDR_F_NODEPORT = 1 << 3, /* answers NodePorts (--nodeport-addresses); with HOST */
};

/* Identities: numbers local to the node for what policies can see of an address. */
enum {
	BN_ID_UNKNOWN,
	BN_ID_HOST,	 /* this node */
	BN_ID_NODE,	 /* other nodes, when no policy CIDR tells them apart */
	BN_ID_WORLD,	 /* what no other identity covers */
	BN_ID_UNMANAGED, /* pods without policy-relevant data */
	BN_ID_FIRST = 256,
};

#endif
