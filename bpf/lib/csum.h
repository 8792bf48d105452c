/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_CSUM_H
#define BN_BPF_CSUM_H

/* Internet checksums as sums that are folded late: differences add up. */

#include <linux/types.h>
#include <stdbool.h>

static __always_inline __u32 bn_csum_fold32(__u64 s)
{
	s = (s & 0xffffffff) + (s >> 32);
	s = (s & 0xffffffff) + (s >> 32);
	return s;
}

static __always_inline __u16 bn_csum_fold16(__u64 s)
{
	__u32 v = bn_csum_fold32(s);

	v = (v & 0xffff) + (v >> 16);
	v = (v & 0xffff) + (v >> 16);
	return v;
}

/* Two folded sums: 0 has two forms. */
static __always_inline bool bn_csum_same(__u16 a, __u16 b)
{
	return a == b || ((a ^ b) == 0xffff && (!a || !b));
}

/* A checksum field after data under it changed by `diff`. */
static __always_inline __u16 bn_csum_apply(__u16 field, __u64 diff)
{
	return ~bn_csum_fold16((__u64)(__u16)~field + diff);
}

#endif
