/* SPDX-License-Identifier: MIT */
#include "maps/maglev.h"

#include <stdlib.h>
#include <string.h>

#include "maps/util.h"

/* Primes, each the smallest above about 1.5 times the one before; the last is the largest that a
 * range can hold.
 */
static const uint32_t primes[] = {101,	211,  307,   503,   751,   1009,  1511,	 2003, 3001,
				  5003, 7507, 10007, 15013, 20011, 30011, 50021, 65521};

uint32_t bn_maglev_size(uint32_t n)
{
	if (!n || n > UINT16_MAX)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(primes); i++)
		if (primes[i] >= (uint64_t)n * 100)
			return primes[i];
	return n <= primes[ARRAY_SIZE(primes) - 1] ? primes[ARRAY_SIZE(primes) - 1] : 0;
}

/* The same on every node and in every release: a table's content is part of what nodes agree on. */
static uint64_t mix(uint64_t h)
{
	h ^= h >> 30;
	h *= 0xbf58476d1ce4e5b9u;
	h ^= h >> 27;
	h *= 0x94d049bb133111ebu;
	return h ^ h >> 31;
}

static uint64_t backend_hash(const struct bn_backend *b, uint64_t salt)
{
	uint64_t hi, lo;

	memcpy(&hi, b->addr.b, 8);
	memcpy(&lo, b->addr.b + 8, 8);
	return mix(mix(mix(salt ^ hi) ^ lo) ^ b->port);
}

struct walk {
	uint32_t idx, at, skip;
	uint64_t key;
};

static int walk_cmp(const void *pa, const void *pb)
{
	const struct walk *a = pa, *b = pb;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return a->idx < b->idx ? -1 : a->idx > b->idx;
}

int bn_maglev_build(const struct bn_backend *backends, uint32_t n, uint32_t size, uint16_t *table)
{
	_cleanup_(freep) struct walk *w = NULL;
	uint32_t filled = 0;

	if (!n || n > size || n > UINT16_MAX || size < 2)
		return -EINVAL;
	w = calloc(n, sizeof(*w));
	if (!w)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t h = backend_hash(&backends[i], 0x9e3779b97f4a7c15u);

		w[i] = (struct walk){
			.idx = i,
			.at = (uint32_t)(h % size),
			.skip = (uint32_t)(backend_hash(&backends[i], 0xd1b54a32d192ed03u) %
					   (size - 1)) +
				1,
			.key = h,
		};
	}
	/* Turns go by hash, not by the order in which the caller has them. */
	qsort(w, n, sizeof(*w), walk_cmp);
	memset(table, 0xff, size * sizeof(*table));
	for (;;)
		for (uint32_t i = 0; i < n; i++) {
			while (table[w[i].at] != UINT16_MAX)
				w[i].at = (w[i].at + w[i].skip) % size;
			table[w[i].at] = (uint16_t)w[i].idx;
			if (++filled == size)
				return 0;
		}
}
