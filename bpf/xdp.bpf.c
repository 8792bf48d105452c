// SPDX-License-Identifier: GPL-2.0-only
/* Services for outside clients before the stack, on the node's uplinks: what goes to a backend on
 * another node, and its replies, is translated and sent out again here. Everything else is handed up as
 * it came, and from_net does it: pods of this node, fragments, ICMP errors, refusals, what has no
 * known neighbour or leaves by a device that takes no frames from XDP.
 *
 * Policy is not passed by: what is sent from here is no pod's of this node, neither end of it.
 */

#include "bpf/lib/ctx_xdp.h"

#include "bpf/lib/begin.h"
#include "bpf/lib/event.h"
#include "bpf/lib/net.h"

static __always_inline int bn_parse_frag(bn_ctx *ctx, struct bn_pkt *p, const struct bn_frag *f)
{
	/* Else the caller hands on anything for a context: "arg#0 expects pointer to ctx" (clang 16). */
	asm volatile("" : : "r"(ctx));
	return BN_DONE_PASS;
}

/* Written and addressed; TC_ACT_REDIRECT's counterpart is left in *act. */
static __always_inline int bn_xdp_send(bn_ctx *ctx, struct bn_pkt *p, int *act)
{
	struct bn_scratch *s = bn_scratch_get();
	struct ethhdr *eth;
	int r;

	if (!s)
		return -BN_DROP_INTERNAL;
	r = bn_nat_write(ctx, p, true);
	if (r)
		return r;
	eth = bn_ctx_data(ctx);
	if ((void *)(eth + 1) > bn_ctx_end(ctx))
		return -BN_DROP_NAT_WRITE;
	__builtin_memcpy(eth->h_dest, s->fib.dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, s->fib.smac, ETH_ALEN);
	*act = s->xdp_tx ? XDP_TX : bpf_redirect(s->fib.ifindex, 0);
	return *act == XDP_ABORTED ? -BN_DROP_REDIRECT : BN_DONE_REDIRECT;
}

static __always_inline int bn_xdp_run(bn_ctx *ctx, struct bn_pkt *p, int *act)
{
	const struct bn_iface *f = bn_iface_get(bn_ctx_ifindex(ctx));
	int r;

	if (!f || f->l2_len != ETH_HLEN)
		return BN_DONE_PASS;
	r = bn_entry_begin(ctx, p, ETH_HLEN);
	if (p->l3 != ETH_HLEN) /* a VLAN's */
		return BN_DONE_PASS;
	if (r)
		return r;
	if (!bn_pkt_has_ports(p) || bn_addr_is_multi(&p->t.dst))
		return BN_DONE_PASS;
	r = bn_net_in(ctx, p);
	if (r == BN_DONE_AGAIN) /* TC goes on with it */
		return BN_DONE_PASS;
	if (r || !(p->todo & BN_DO_ROUTED))
		return r ?: BN_DONE_PASS;
	return bn_xdp_send(ctx, p, act);
}

/* What was finished here is counted here, what is handed up by from_net. */
static __always_inline void bn_xdp_flow(struct bn_pkt *p)
{
	__u32 hook = p->hook;
	struct bn_hook_stat *s;

	if (!(p->todo & BN_DO_NEW))
		return;
	s = bpf_map_lookup_elem(&hook_stats, &hook);
	if (s)
		s->flows++;
}

SEC("xdp.frags")
int xdp_net(struct xdp_md *ctx)
{
	struct bn_pkt *p = bn_entry_pkt(BN_HOOK_XDP_NET, BN_DIR_INGRESS);
	int r, act = XDP_PASS;

	if (!p)
		return XDP_DROP;
	if (bpf_xdp_get_buff_len(ctx) != bn_ctx_len(ctx))
		return XDP_PASS; /* in several buffers */
	r = bn_xdp_run(ctx, p, &act);
	if (r == BN_DONE_PASS || (r < 0 && p->refuse)) {
		bn_xdp_flow(p);
		return XDP_PASS;
	}
	bn_exit_count(p);
	if (r >= 0)
		return act;
	bn_exit_drop(p, -r);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
