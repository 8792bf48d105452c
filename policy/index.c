/* SPDX-License-Identifier: MIT */
#include "policy/index.h"

#include <errno.h>
#include <string.h>

#include "maps/util.h"
#include "policy/siphash.h"

#define GONE UINT32_MAX

static uint32_t hash(const struct bn_index_key *k)
{
	uintptr_t v[3] = { (uintptr_t)k->ns, (uintptr_t)k->name, k->kind };

	return (uint32_t)bn_siphash(bn_sipkey(), v, sizeof(v));
}

static bool same(const struct bn_index_key *a, const struct bn_index_key *b)
{
	return a->ns == b->ns && a->name == b->name && a->kind == b->kind;
}

uint32_t bn_index_find(const struct bn_index *x, const void *array, const struct bn_index_key *key)
{
	uint32_t i;

	if (!x->slots)
		return BN_INDEX_NONE;
	for (i = hash(key) & x->mask; x->slots[i]; i = (i + 1) & x->mask) {
		struct bn_index_key k;

		if (x->slots[i] == GONE)
			continue;
		k = x->key(array, x->slots[i] - 1);
		if (same(&k, key))
			return x->slots[i] - 1;
	}
	return BN_INDEX_NONE;
}

static void put(struct bn_index *x, const struct bn_index_key *key, uint32_t entry)
{
	uint32_t i = hash(key) & x->mask;

	while (x->slots[i])
		i = (i + 1) & x->mask;
	x->slots[i] = entry + 1;
	x->filled++;
}

/* At most two thirds filled; what is gone is left behind. */
static int rebuild(struct bn_index *x, const void *array)
{
	struct bn_index n = *x;
	uint32_t i;

	n.mask = 15;
	while ((n.mask + 1) / 3 < (x->count + 1) / 2 + 1)
		n.mask = n.mask * 2 + 1;
	n.filled = 0;
	n.slots = calloc((size_t)n.mask + 1, sizeof(*n.slots));
	if (!n.slots)
		return -ENOMEM;
	for (i = 0; x->slots && i <= x->mask; i++) {
		if (x->slots[i] && x->slots[i] != GONE) {
			struct bn_index_key k = x->key(array, x->slots[i] - 1);

			put(&n, &k, x->slots[i] - 1);
		}
	}
	freep(&x->slots);
	*x = n;
	return 0;
}

int bn_index_add(struct bn_index *x, const void *array, uint32_t entry)
{
	struct bn_index_key key = x->key(array, entry);

	if ((!x->slots || x->filled + 1 > (x->mask + 1) / 3 * 2) && rebuild(x, array) < 0)
		return -ENOMEM;
	put(x, &key, entry);
	x->count++;
	return 0;
}

/* The slot that holds the entry, which is there. */
static uint32_t *slot_of(struct bn_index *x, const void *array, uint32_t entry)
{
	struct bn_index_key key = x->key(array, entry);
	uint32_t i = hash(&key) & x->mask;

	while (x->slots[i] != entry + 1)
		i = (i + 1) & x->mask;
	return &x->slots[i];
}

void bn_index_del(struct bn_index *x, const void *array, uint32_t entry)
{
	*slot_of(x, array, entry) = GONE;
	x->count--;
}

void bn_index_move(struct bn_index *x, const void *array, uint32_t from, uint32_t to)
{
	*slot_of(x, array, from) = to + 1;
}

void bn_index_clear(struct bn_index *x)
{
	freep(&x->slots);
	x->mask = x->filled = x->count = 0;
}
