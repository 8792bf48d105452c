/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_TUNNEL_H
#define BN_BPF_TUNNEL_H

/* Packets in packets. What is inside proves nothing: a node's tunnel device unpacks what comes from any
 * sender, so a pod could speak as any other pod, through its own node or another.
 */

#include "bpf/lib/addr.h"

enum {
	BN_PROTO_IPIP = 4,
	BN_PROTO_6IN4 = 41,
	BN_PROTO_GRE = 47,
	BN_PORT_VXLAN = 4789,
	BN_PORT_FLANNEL = 8472, /* VXLAN's before it had a number, still Linux' default */
	BN_PORT_GENEVE = 6081,
};

static __always_inline bool bn_tunnel_is(__u8 proto, __be16 dport)
{
	if (proto == BN_PROTO_UDP)
		return dport == bpf_htons(BN_PORT_VXLAN) || dport == bpf_htons(BN_PORT_FLANNEL) ||
		       dport == bpf_htons(BN_PORT_GENEVE);
	return proto == BN_PROTO_IPIP || proto == BN_PROTO_6IN4 || proto == BN_PROTO_GRE;
}

/* Would a node unpack what a pod sends there (p->x)? To pods and to the world it passes; multicast,
 * link-local and what looks like a subnet's broadcast address reach the node, too.
 */
static __always_inline bool bn_tunnel_to_node(const struct bn_pkt *p)
{
	const struct bn_addr *to = &p->x.dst;
	const struct bn_ep *ep;

	if (!bn_tunnel_is(p->proto, p->x.dport))
		return false;
	if (bn_addr_is_multi(to) || (to->b[0] == 0xfe && (to->b[1] & 0xc0) == 0x80))
		return true;
	ep = bn_addr_ep(to);
	if (!ep)
		return bn_addr_is_v4(to) && to->b[15] == 0xff;
	return ep->flags & (BN_ADDR_F_HOST | BN_ADDR_F_NODE);
}

#endif
