/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_CTX_H
#define BN_BPF_CTX_H

/* What the stages need of the packet's context, for the hooks that have an skb (TC). The object for
 * XDP includes bpf/lib/ctx_xdp.h first, which gives the same names over struct xdp_md.
 */

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

#include "bpf/lib/csum.h"

typedef struct __sk_buff bn_ctx;

/* Before the stack and TC: what is not finished here is handed up as it came. */
static const bool bn_ctx_early = false;

static __always_inline __u32 bn_ctx_ifindex(const bn_ctx *ctx)
{
	return ctx->ifindex;
}

/* Where a packet that leaves came in; 0: it is this host's. */
static __always_inline __u32 bn_ctx_in_ifindex(const bn_ctx *ctx)
{
	return ctx->ingress_ifindex;
}

static __always_inline void *bn_ctx_data(const bn_ctx *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *bn_ctx_end(const bn_ctx *ctx)
{
	return (void *)(long)ctx->data_end;
}

static __always_inline __u32 bn_ctx_len(const bn_ctx *ctx)
{
	return ctx->len;
}

/* More than one segment in one packet: lengths in the IP header may be 0 (BIG TCP). */
static __always_inline bool bn_ctx_gso(const bn_ctx *ctx)
{
	return ctx->gso_size != 0;
}

/* Payload bytes of each of them. */
static __always_inline __u32 bn_ctx_gso_size(const bn_ctx *ctx)
{
	return ctx->gso_size;
}

/* At least `need` bytes (<= the packet's length) are readable through packet pointers afterwards;
 * kills the packet pointers that the caller holds.
 */
static __always_inline int bn_ctx_pull(bn_ctx *ctx, __u32 need)
{
	return bpf_skb_pull_data(ctx, need);
}

static __always_inline int bn_ctx_load(bn_ctx *ctx, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes(ctx, off, to, len);
}

static __always_inline int bn_ctx_store(bn_ctx *ctx, __u32 off, const void *from, __u32 len)
{
	return bpf_skb_store_bytes(ctx, off, from, len, 0);
}

/* Ethertype where there is no Ethernet header. */
static __always_inline __be16 bn_ctx_proto(const bn_ctx *ctx)
{
	return ctx->protocol;
}

/* The L4 checksum field at `off` after what it covers changed by `diff`; pseudo: in the pseudo
 * header; udp: 0 stands for "none".
 */
static __always_inline int bn_ctx_csum(bn_ctx *ctx, __u32 off, __u32 diff, bool pseudo, bool udp)
{
	return bpf_l4_csum_replace(ctx, off, 0, diff,
				   (udp ? BPF_F_MARK_MANGLED_0 : 0) |
					   (pseudo ? BPF_F_PSEUDO_HDR : 0));
}

/* Of a packet with a whole-packet sum (CHECKSUM_COMPLETE) bpf_l4_csum_replace changes the sum as if
 * an IPv4 header's checksum made up for the addresses; IPv6 has none.
 */
static __always_inline void bn_ctx_csum_v6(bn_ctx *ctx, __u32 diff)
{
	bpf_csum_update(ctx, diff);
}

#endif
