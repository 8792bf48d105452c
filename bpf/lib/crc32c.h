/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_CRC32C_H
#define BN_BPF_CRC32C_H

/* CRC32c as a linear function: what the CRC of a message of any length changes by when four of its
 * bytes change. Works in GF(2)[x] modulo the Castagnoli polynomial, reflected (bit 31 is x^0).
 */

#include <linux/types.h>

#define BN_CRC32C_POLY 0x82f63b78u

/* a * b modulo the polynomial, without a branch for the verifier to follow. By products: 6.18's follows both values of
 * a mask that is 0 or all ones.
 */
__noinline __u32 bn_crc32c_mul(__u32 a, __u32 b)
{
	__u32 r = 0;

	for (int i = 0; i < 32; i++) {
		__u32 top = a >> 31, low = b & 1;

		asm volatile("" : "+r"(top), "+r"(low));
		r ^= b * top;
		a <<= 1;
		b = (b >> 1) ^ (BN_CRC32C_POLY * low);
	}
	return r;
}

/* The XOR of the CRCs (as they stand in the packet, little endian) of two messages that differ by
 * `delta` in four bytes with `behind` bytes after those.
 */
static __always_inline __u32 bn_crc32c_delta(__u32 delta, __u32 behind)
{
	/* x^(8 * 2^k) */
	__u32 pow = 1u << 23, crc;

	/* Four message bytes, then 32 bits of CRC register: delta * x^32. */
	crc = bn_crc32c_mul(delta, BN_CRC32C_POLY);
	for (int k = 0; k < 17; k++) {
		__u32 m = -(behind >> k & 1), with = bn_crc32c_mul(crc, pow);

		crc = (with & m) | (crc & ~m);
		pow = bn_crc32c_mul(pow, pow);
	}
	return crc;
}

#endif
