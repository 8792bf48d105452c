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

/* Loads from the kernel's structures without a call for each: since 6.2. */
extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;
extern void *bpf_rdonly_cast(const void *at, __u32 type) __ksym __weak;

enum special_kfunc_type___bn {
	KF_bpf_rdonly_cast___bn,
};

struct timespec64___bn {
	long long tv_sec;
} BN_HTTP_CORE;

/* A word of the kernel's memory as a number: a field that holds a pointer would be one to the verifier. */
static __always_inline __u64 bn_http_word_at(__u64 at)
{
	const struct timespec64___bn *t =
		bpf_rdonly_cast((void *)at, bpf_core_type_id_kernel(struct timespec64___bn));

	return t->tv_sec;
}

/* The flag says that somebody else may write, but the kernel loses it when it moves pages from one packet to
 * another; pages of files and of processes are known by what they belong to.
 */
static __always_inline bool bn_http_shared(bn_ctx *ctx)
{
	const struct sk_buff___bn *skb = bpf_cast_to_kern_ctx(ctx);
	const struct skb_shared_info___bn *si;
	__u64 at = (__u64)skb->head + skb->end, page;
	__u8 n;

	si = bpf_rdonly_cast((void *)at, bpf_core_type_id_kernel(struct skb_shared_info___bn));
	n = si->nr_frags;
	if ((si->flags & BN_HTTP_SHARED_FRAG) || !n || n > BN_HTTP_FRAGS || /* what cannot be read is 0 */
	    bn_http_word_at(at + bpf_core_field_offset(struct skb_shared_info___bn, frag_list)))
		return true;
	at += bpf_core_field_offset(struct skb_shared_info___bn, frags);
	for (__u32 i = 0; i < BN_HTTP_FRAGS && i < n; i++) {
		page = bn_http_word_at(at + i * BN_HTTP_FRAG_SIZE);
		if (!page || (page & 1) || bn_http_word_at(page + bpf_core_field_offset(struct page___bn, mapping)))
			return true;
	}
	return false;
}

/* The same on 6.1. */
static __always_inline bool bn_http_page_shared_probe(const void *frag)
{
	struct page___bn *page;
	void *mapping;

	if (bpf_probe_read_kernel(&page, sizeof(page), frag) || ((unsigned long)page & 1))
		return true;
	return bpf_core_read(&mapping, sizeof(mapping), &page->mapping) || mapping;
}

static __always_inline bool bn_http_shared_probe(bn_ctx *ctx)
{
	struct sk_buff___bn *skb = (void *)ctx;
	struct skb_shared_info___bn *si;
	unsigned char *head, *frags;
	unsigned int end;
	__u8 flags, n;
	void *list;

	if (bpf_core_read(&head, sizeof(head), &skb->head) || bpf_core_read(&end, sizeof(end), &skb->end))
		return true;
	si = (void *)(head + end);
	if (bpf_core_read(&flags, sizeof(flags), &si->flags) || (flags & BN_HTTP_SHARED_FRAG) ||
	    bpf_core_read(&n, sizeof(n), &si->nr_frags) || n > BN_HTTP_FRAGS ||
	    bpf_core_read(&list, sizeof(list), &si->frag_list) || list)
		return true;
	frags = (unsigned char *)si + bpf_core_field_offset(struct skb_shared_info___bn, frags);
	for (__u32 i = 0; i < BN_HTTP_FRAGS && i < n; i++)
		if (bn_http_page_shared_probe(frags + i * BN_HTTP_FRAG_SIZE))
			return true;
	return false;
}

__noinline int bn_http_own_pages(bn_ctx *ctx)
{
	__u32 len = ctx->len;
	bool shared = true;

	if (bpf_core_field_exists(struct page___bn, mapping))
		shared = bpf_core_enum_value_exists(enum special_kfunc_type___bn, KF_bpf_rdonly_cast___bn)
				 ? bn_http_shared(ctx)
				 : bn_http_shared_probe(ctx);
	if (!shared)
		return 0;
	return bpf_skb_pull_data(ctx, len) ? -BN_DROP_INTERNAL : 0;
}

/* From here on nobody but the kernel writes to this packet. 0, or -BN_DROP_x: no memory. */
static __always_inline int bn_http_own(bn_ctx *ctx)
{
	__u32 len = ctx->len;

	return (__u64)ctx->data + len == ctx->data_end ? 0 : bn_http_own_pages(ctx);
}

#endif
