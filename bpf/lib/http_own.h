/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_OWN_H
#define BN_BPF_HTTP_OWN_H

/* What is judged is what is read: between pods of a machine a packet's bytes are not copied, and they may be
 * in pages that its sender can still write to (sendfile and splice of a mapped file, MSG_ZEROCOPY). Such packets get
 * memory of their own before they are looked at. What write() and send() bring is the kernel's own memory
 * already: nothing is copied then.
 */

#include <bpf/bpf_core_read.h>

#include "bpf/lib/http_work.h"

#define BN_HTTP_FRAGS 17
#define BN_HTTP_FRAG_SIZE 16	 /* on all 64-bit kernels: page, length, offset */
#define BN_HTTP_SHARED_FRAG 0x02 /* SKBFL_SHARED_FRAG */
#define BN_HTTP_CORE __attribute__((preserve_access_index))

/* Of the kernel's structures what is read here; libbpf finds where that is on this kernel. */
struct sk_buff___bn {
	unsigned int end;
	unsigned char *head;
} BN_HTTP_CORE;

struct bn_frag_any {
	void *page;
};

struct skb_shared_info___bn {
	__u8 flags, nr_frags;
	struct sk_buff___bn *frag_list;
	struct bn_frag_any frags[BN_HTTP_FRAGS];
} BN_HTTP_CORE;

struct page___bn {
	void *mapping;
} BN_HTTP_CORE;

/* The flag says that somebody else may write, but the kernel loses it when it moves pages from one packet to
 * another; pages of files and of processes are known by what they belong to.
 */
static __always_inline bool bn_http_page_shared(const void *frag)
{
	struct page___bn *page;
	void *mapping;

	if (bpf_probe_read_kernel(&page, sizeof(page), frag) || ((unsigned long)page & 1))
		return true;
	return bpf_core_read(&mapping, sizeof(mapping), &page->mapping) || mapping;
}

static __always_inline bool bn_http_shared(bn_ctx *ctx)
{
	struct sk_buff___bn *skb = (void *)ctx;
	struct skb_shared_info___bn *si;
	unsigned char *head, *frags;
	unsigned int end;
	__u8 flags, n;
	void *list;

	if (!bpf_core_field_exists(struct page___bn, mapping) ||
	    bpf_core_read(&head, sizeof(head), &skb->head) || bpf_core_read(&end, sizeof(end), &skb->end))
		return true;
	si = (void *)(head + end);
	if (bpf_core_read(&flags, sizeof(flags), &si->flags) || (flags & BN_HTTP_SHARED_FRAG) ||
	    bpf_core_read(&n, sizeof(n), &si->nr_frags) || n > BN_HTTP_FRAGS ||
	    bpf_core_read(&list, sizeof(list), &si->frag_list) || list)
		return true;
	frags = (unsigned char *)si + bpf_core_field_offset(struct skb_shared_info___bn, frags);
	for (__u32 i = 0; i < BN_HTTP_FRAGS && i < n; i++)
		if (bn_http_page_shared(frags + i * BN_HTTP_FRAG_SIZE))
			return true;
	return false;
}

/* From here on nobody but the kernel writes to this packet. 0, or -BN_DROP_x: no memory. */
__noinline int bn_http_own(bn_ctx *ctx)
{
	__u32 len = ctx->len;

	if ((__u64)ctx->data + len == ctx->data_end || !bn_http_shared(ctx))
		return 0;
	return bpf_skb_pull_data(ctx, len) ? -BN_DROP_INTERNAL : 0;
}

#endif
