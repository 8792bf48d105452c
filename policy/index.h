/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_INDEX_H
#define BN_POLICY_INDEX_H

/* Finds entries of an array by name: 4 to 11 bytes for each, where a uthash handle takes 56. The
 * owner keeps the array and knows what an entry is called; names are interned pairs of pointers, so
 * that nobody who chooses names chooses what collides.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bn_index_key {
	const char *ns, *name; /* interned */
	unsigned kind;
};

struct bn_index {
	uint32_t *slots; /* entry + 1, 0: never used, ~0: used once */
	uint32_t mask, filled, count;
	struct bn_index_key (*key)(const void *array, uint32_t entry);
};

#define BN_INDEX_NONE UINT32_MAX

/* The entry, or BN_INDEX_NONE. array is what key is called with. */
uint32_t bn_index_find(const struct bn_index *x, const void *array, const struct bn_index_key *key);
/* entry must be in the array already, and its key not in the index. 0 or -ENOMEM. */
int bn_index_add(struct bn_index *x, const void *array, uint32_t entry);
void bn_index_del(struct bn_index *x, const void *array, uint32_t entry);
/* What is at `from` moves to `to`; the array has it in both places. */
void bn_index_move(struct bn_index *x, const void *array, uint32_t from, uint32_t to);
void bn_index_clear(struct bn_index *x);

#endif
