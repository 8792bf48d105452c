/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_CTX_H
#define BN_BPF_CTX_H

/* What bpf/lib/ctx.h gives for an skb, over struct xdp_md: to be included before everything else.
 *
 * The frame is as it came from the wire: no GRO, no VLAN tag beside it, checksums complete.
 */

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

#include "bpf/lib/csum.h"

typedef struct xdp_md bn_ctx;

static const bool bn_ctx_early = true;

static __always_inline __u32 bn_ctx_ifindex(const bn_ctx *ctx)
{
	return ctx->ingress_ifindex;
}

static __always_inline __u32 bn_ctx_in_ifindex(const bn_ctx *ctx)
{
	return 0;
}

static __always_inline void *bn_ctx_data(const bn_ctx *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *bn_ctx_end(const bn_ctx *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* Frames in several buffers are handed up before anyone asks. */
static __always_inline __u32 bn_ctx_len(const bn_ctx *ctx)
{
	return ctx->data_end - ctx->data;
}

static __always_inline bool bn_ctx_gso(const bn_ctx *ctx)
{
	return false;
}

static __always_inline __u32 bn_ctx_gso_size(const bn_ctx *ctx)
{
	return 0;
}

/* All of the frame is readable already. */
static __always_inline int bn_ctx_pull(bn_ctx *ctx, __u32 need)
{
	return need > bn_ctx_len(ctx) ? -1 : 0;
}

static __always_inline int bn_ctx_load(bn_ctx *ctx, __u32 off, void *to, __u32 len)
{
	return bpf_xdp_load_bytes(ctx, off, to, len);
}

static __always_inline int bn_ctx_store(bn_ctx *ctx, __u32 off, const void *from, __u32 len)
{
	return bpf_xdp_store_bytes(ctx, off, (void *)from, len);
}

/* There is an Ethernet header always. */
static __always_inline __be16 bn_ctx_proto(const bn_ctx *ctx)
{
	return 0;
}

static __always_inline int bn_ctx_csum(bn_ctx *ctx, __u32 off, __u32 diff, bool pseudo, bool udp)
{
	__u16 *sum = bn_ctx_data(ctx) + (off & 0x7ff);

	if ((void *)(sum + 1) > bn_ctx_end(ctx))
		return -1;
	if (udp && !*sum)
		return 0;
	*sum = bn_csum_apply(*sum, diff);
	if (udp && !*sum)
		*sum = 0xffff;
	return 0;
}

static __always_inline void bn_ctx_csum_v6(bn_ctx *ctx, __u32 diff)
{
}

#endif
