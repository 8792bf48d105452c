/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_CTX_H
#define BN_BPF_CTX_H

/* What the stages need of the packet's context, for the hooks that have an skb (TC). An object for
 * XDP gives the same names over struct xdp_md instead of this header.
 */

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

typedef struct __sk_buff bn_ctx;

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

#endif
