// SPDX-License-Identifier: GPL-2.0-only
/* The least that programs on the hooks of a pod's node cost, as ways of the benchmark (lab.py): what is left of
 * bpfnet's cost beside it is bpfnet's own.
 *
 * bare: TC programs that do nothing, and socket hooks that know one service by heart.
 * look: the same socket hooks, and TC programs that find out whose flow a packet is and do nothing with it: the
 * data plane's own parser, hash, look-up and insertion, over a table of its size. Nobody is judged, nothing is
 * translated, tracked or refused.
 * peer: the same socket hooks, and a TC program that hands what one of two pods sends to the other, past the stack,
 * and does nothing else.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "bpf/lib/begin.h"
#include "bpf/lib/frag.h"

/* Network byte order. */
const volatile __u32 limit_vip, limit_server;
const volatile __u16 limit_vport, limit_port;
const volatile __u32 limit_if[2]; /* host's ends of the two pods' interfaces */

#define LIMIT_NEXT (-1) /* TCX_NEXT */
#define LIMIT_TIME_S 60

SEC("tc")
int bare(struct __sk_buff *skb)
{
	return LIMIT_NEXT;
}

static __always_inline void limit_begin(struct bn_pkt *p, struct bn_scratch *s)
{
	__builtin_memset(&s->n.e, 0, sizeof(s->n.e));
	s->n.e.key = s->ref.key;
	s->n.h = s->ref.h;
	s->n.now_s = p->now_s;
	s->n.replace = 0;
	s->n.e.flags = s->ref.swapped ? 0 : BN_CT_F_ORIG_A;
	s->n.e.created = p->now_s;
	s->n.e.expires = p->now_s + LIMIT_TIME_S;
	s->n.e.bytes[0] = p->len;
	s->n.e.packets[0] = 1;
	bn_ct_insert(&s->n);
}

static __always_inline int limit_look(struct __sk_buff *skb, __u8 hook, __u8 dir)
{
	struct bn_pkt *p = bn_entry_pkt(hook, dir);
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit;

	if (!p || !s || bn_entry_begin(skb, p, ETH_HLEN) || !bn_pkt_has_ports(p))
		return LIMIT_NEXT;
	bn_ct_ref(&s->ref, &p->t, p->proto, BN_CT_ZONE_MAIN);
	bn_ct_find(&s->ref, &hit);
	if (!hit.e || bn_ct_expired(hit.e, p->now_s))
		limit_begin(p, s);
	else if (bn_ct_same(&hit))
		bn_ct_count(hit.e, p, hit.reply);
	return LIMIT_NEXT;
}

SEC("tc")
int look_in(struct __sk_buff *skb)
{
	return limit_look(skb, BN_HOOK_FROM_POD, BN_DIR_EGRESS);
}

SEC("tc")
int look_out(struct __sk_buff *skb)
{
	return limit_look(skb, BN_HOOK_TO_POD, BN_DIR_INGRESS);
}

SEC("tc")
int peer(struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) > (void *)(long)skb->data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return LIMIT_NEXT; /* the host answers ARP */
	return bpf_redirect_peer(limit_if[skb->ifindex == limit_if[0]], 0);
}

static __always_inline int limit_forward(struct bpf_sock_addr *ctx)
{
	if (ctx->user_ip4 == limit_vip && ctx->user_port == limit_vport) {
		ctx->user_ip4 = limit_server;
		ctx->user_port = limit_port;
	}
	return 1;
}

SEC("cgroup/connect4")
int limit_connect4(struct bpf_sock_addr *ctx)
{
	return limit_forward(ctx);
}

SEC("cgroup/sendmsg4")
int limit_sendmsg4(struct bpf_sock_addr *ctx)
{
	return limit_forward(ctx);
}

SEC("cgroup/recvmsg4")
int limit_recvmsg4(struct bpf_sock_addr *ctx)
{
	if (ctx->user_ip4 == limit_server && ctx->user_port == limit_port) {
		ctx->user_ip4 = limit_vip;
		ctx->user_port = limit_vport;
	}
	return 1;
}

SEC("cgroup/sock_release")
int limit_release(struct bpf_sock *ctx)
{
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
