/* SPDX-License-Identifier: MIT */
#include "maps/htab.h"

#include <string.h>
#include <sys/random.h>

static uint64_t hash_seed(void)
{
	static uint64_t seed;

	while (!seed)
		if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
			seed = (uintptr_t)&seed ^ 0x9e3779b97f4a7c15u;
	return seed;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

uint32_t bn_hash_bytes(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t seed = hash_seed(), h = seed ^ len, w;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&w, p, 8);
		h = fold(h ^ w, seed ^ 0xa0761d6478bd642fu);
	}
	w = 0;
	memcpy(&w, p, len);
	h = fold(h ^ w, seed ^ 0x8ebc6af09c88c6e3u);
	return (uint32_t)(h ^ h >> 32);
}
