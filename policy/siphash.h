/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_SIPHASH_H
#define BN_POLICY_SIPHASH_H

/* SipHash-1-3: a keyed hash, so that nobody who names objects can choose what collides. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bn_sipkey {
	uint64_t k[2];
};

static inline uint64_t bn_rotl64(uint64_t x, unsigned b)
{
	return (x << b) | (x >> (64 - b));
}

static inline void bn_sipround(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = bn_rotl64(v[1], 13) ^ v[0];
	v[0] = bn_rotl64(v[0], 32);
	v[2] += v[3];
	v[3] = bn_rotl64(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = bn_rotl64(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = bn_rotl64(v[1], 17) ^ v[2];
	v[2] = bn_rotl64(v[2], 32);
}

static inline uint64_t bn_siphash(const struct bn_sipkey *key, const void *data, size_t len)
{
	uint64_t v[4] = {
		key->k[0] ^ 0x736f6d6570736575ull,
		key->k[1] ^ 0x646f72616e646f6dull,
		key->k[0] ^ 0x6c7967656e657261ull,
		key->k[1] ^ 0x7465646279746573ull,
	};
	const unsigned char *p = data;
	uint64_t m, last = (uint64_t)len << 56;
	size_t n;

	for (n = len; n >= 8; n -= 8, p += 8) {
		memcpy(&m, p, 8);
		v[3] ^= m;
		bn_sipround(v);
		v[0] ^= m;
	}
	m = 0;
	if (n)
		memcpy(&m, p, n);
	last |= m;
	v[3] ^= last;
	bn_sipround(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	bn_sipround(v);
	bn_sipround(v);
	bn_sipround(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The key of this process: random, made at the first call. */
const struct bn_sipkey *bn_sipkey(void);

#endif
