// SPDX-License-Identifier: GPL-2.0-only
/* Both directions of the node's uplinks and tunnels. from_net: outside clients of NodePorts,
 * LoadBalancer and external addresses and ClusterIPs, and the replies of remote backends; to_net: the
 * replies of local backends, and the node's own packets to services.
 */

#include <linux/bpf.h>

#include "bpf/lib/entry.h"
#include "bpf/lib/net_tc.h"

/* A later fragment whose first one was not seen: lost to a service, but the stack puts together what
 * is for this node or passes through it in any order.
 */
static __always_inline bool bn_net_fragment(const struct bn_pkt *p)
{
	struct bn_front_key key = {.addr = p->t.dst, .scope = BN_SCOPE_ADDR};

	return p->hook == BN_HOOK_TO_NET || bn_addr_is_host(&p->t.dst) ||
	       !bpf_map_lookup_elem(&fronts, &key);
}

/* Frames of a VLAN belong to the device above. VLAN 0 is a priority only, and the tag would leave with
 * what is sent out again.
 */
static __always_inline int bn_net_vlan(struct __sk_buff *skb)
{
	if (!skb->vlan_present)
		return 0;
	if (skb->vlan_tci & 0xfff)
		return BN_DONE_PASS;
	return bpf_skb_vlan_pop(skb) ? -BN_DROP_BAD_HEADER : 0;
}

/* Parses; what another node has packed (DSR) is unpacked and parsed anew, once. */
__noinline int bn_net_begin_packet(struct __sk_buff *skb, struct bn_pkt *p, __u32 l2_len)
{
	struct bn_scratch *s = bn_scratch_get();
	int r;

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	s->dsr_in.set = 0;
	for (int i = 0;; i++) {
		r = bn_entry_begin(skb, p, l2_len);
		if (r || i || p->hook != BN_HOOK_FROM_NET || !bn_dsr_is(p))
			return r;
		r = bn_dsr_unpack(skb, p);
		if (r)
			return r == BN_DONE_PASS ? 0 : r;
		p = bn_entry_pkt(BN_HOOK_FROM_NET, BN_DIR_INGRESS);
		if (!p)
			return -BN_DROP_INTERNAL;
	}
}

static __always_inline int bn_net_run(struct __sk_buff *skb, struct bn_pkt *p)
{
	const struct bn_iface *f = bn_iface_get(skb->ifindex);
	int r;

	if (!f) /* not ours (yet) */
		return BN_DONE_PASS;
	r = bn_net_vlan(skb);
	if (r)
		return r;
	r = bn_net_begin_packet(skb, p, f->l2_len);
	if (r == -BN_DROP_FRAGMENT && bn_net_fragment(p))
		return BN_DONE_PASS;
	if (r)
		return r;
	if (p->l3 != f->l2_len)
		return BN_DONE_PASS;
	if ((p->flags & BN_PKT_F_ND) || bn_addr_is_multi(&p->t.dst))
		return BN_DONE_PASS;
	if (p->flags & BN_PKT_F_ICMP_ERR)
		r = bn_net_icmp(skb, p);
	else
		r = p->hook == BN_HOOK_FROM_NET ? bn_net_in(skb, p) : bn_net_out(skb, p);
	if (r == BN_DONE_AGAIN)
		r = bn_net_again(skb, p);
	if (r == BN_ICMP_OTHER)
		return BN_DONE_PASS;
	if (r)
		return r;
	if ((p->todo & (BN_DO_ROUTED | BN_DO_DELIVER)) == BN_DO_ROUTED)
		return bn_net_forward(skb, p);
	return bn_deliver(skb, p);
}

SEC("tc")
int from_net(struct __sk_buff *skb)
{
	struct bn_pkt *p = bn_entry_pkt(BN_HOOK_FROM_NET, BN_DIR_INGRESS);

	if (!p)
		return TC_ACT_SHOT;
	return bn_entry_end(skb, p, bn_net_run(skb, p));
}

SEC("tc")
int to_net(struct __sk_buff *skb)
{
	struct bn_pkt *p = bn_entry_pkt(BN_HOOK_TO_NET, BN_DIR_EGRESS);

	if (!p)
		return TC_ACT_SHOT;
	return bn_entry_end(skb, p, bn_net_run(skb, p));
}

char LICENSE[] SEC("license") = "GPL";
