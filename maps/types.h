/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_TYPES_H
#define BN_MAPS_TYPES_H

/* The types that the kernel side (bpf/) and the user side share. Both take the fixed-width types
 * from the kernel's user headers (linux/types.h): the build needs no vmlinux.h of the machine.
 *
 * Byte order is in the type: __be16 and __be32 are network order, everything else is host order.
 */

#include <linux/types.h>

#define BN_INLINE static inline __attribute__((always_inline, unused))

/* Every struct that is a map key or value is declared between these two: a hole in a key makes
 * look-ups miss silently, and holes in values leak stack bytes (docs: STYLE, one definition).
 */
#define BN_ABI_BEGIN                                                                               \
	_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic error \"-Wpadded\"")
#define BN_ABI_END _Pragma("GCC diagnostic pop")

BN_ABI_BEGIN
/* An address of either family, network order. IPv4 is v4-mapped (::ffff:a.b.c.d), so IPv4 prefix
 * length n is 96 + n and 0.0.0.0/0 is ::ffff:0:0/96.
 */
struct bn_addr {
	union {
		__u8 b[16];
		__be32 w[4];
	};
};
BN_ABI_END
_Static_assert(sizeof(struct bn_addr) == 16, "map ABI");

#define BN_V4_MAPPED_WORD 0xffff0000u /* w[2] of a v4-mapped address, as loaded on little endian */

BN_INLINE void bn_addr_v4(struct bn_addr *a, __be32 v4)
{
	a->w[0] = 0;
	a->w[1] = 0;
	a->b[8] = 0;
	a->b[9] = 0;
	a->b[10] = 0xff;
	a->b[11] = 0xff;
	a->w[3] = v4;
}

/* Compilers make a branch a word of a comparison, and the kernel's verifier then follows every way out of
 * every comparison there is (half of what bpf/sock.bpf.c took it were those): one branch each.
 */
BN_INLINE int bn_addr_is_v4(const struct bn_addr *a)
{
	__u64 differ = a->w[0] | a->w[1] | (a->w[2] ^ BN_V4_MAPPED_WORD);

	asm volatile("" : "+r"(differ));
	differ = (differ - 1) >> 63; /* 1 if it was 0 */
	asm volatile("" : "+r"(differ)); /* two families are compared as numbers */
	return differ;
}

BN_INLINE int bn_addr_eq(const struct bn_addr *a, const struct bn_addr *b)
{
	__u64 differ = (a->w[0] ^ b->w[0]) | (a->w[1] ^ b->w[1]) | (a->w[2] ^ b->w[2]) | (a->w[3] ^ b->w[3]);

	asm volatile("" : "+r"(differ));
	return !differ;
}

BN_INLINE int bn_addr_is_zero(const struct bn_addr *a)
{
	return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

/* IP protocol numbers as they stand in the header; user space never needs netinet/in.h for them. */
enum bn_proto {
	BN_PROTO_ICMP = 1,
	BN_PROTO_TCP = 6,
	BN_PROTO_UDP = 17,
	BN_PROTO_ICMP6 = 58,
	BN_PROTO_SCTP = 132,
};

#endif
