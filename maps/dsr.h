/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_DSR_H
#define BN_MAPS_DSR_H

/* Direct server return (--lb-mode dsr, hybrid): outside traffic to a backend on another node is carried
 * there as it came, in UDP; the backend's node answers the client itself, in the frontend's name.
 *
 *   dsr   hash   bn_addr -> bn_dsr_peer    addresses of pods and of nodes -> their node, if it takes DSR
 *
 * Wire format, version 1: IP and UDP of the packet's own family from node to node, UDP port
 * BN_DSR_PORT, checksum 0 (RFC 6935), then struct bn_dsr_head, then the client's IP packet. The hop
 * count of that is one less, nothing else of it is changed. BN_DSR_OVERHEAD4 (6) bytes in all.
 */

#include "maps/types.h"

#define BN_DSR_NODES	 16384 /* addresses of nodes, when no outside traffic goes by DSR here */
#define BN_DSR_ADDRS	 65536 /* of nodes and pods */

#define BN_DSR_PORT	 8473
#define BN_DSR_MAGIC	 0xb9f7 /* network order */
#define BN_DSR_VERSION	 1
#define BN_DSR_OVERHEAD4 52
#define BN_DSR_OVERHEAD6 72

BN_ABI_BEGIN
struct bn_dsr_head {
	__be16 magic;
	__u8 version;
	__u8 flags;	     /* 0 */
	__be16 port;	     /* of the backend, for the first packet of a flow */
	__u16 pad;	     /* 0 */
	struct bn_addr addr; /* of the backend */
};

struct bn_dsr_peer {
	struct bn_addr node; /* where to send, of the key's family */
	__u32 flags;	     /* BN_DSR_F_* */
};
BN_ABI_END
_Static_assert(sizeof(struct bn_dsr_head) == 24, "wire format");

enum {
	BN_DSR_F_NODE = 1 << 0,	   /* the key is a node's own address: what it sends is believed */
	BN_DSR_F_BACKEND = 1 << 1, /* outside traffic goes there by DSR */
};

#endif
