/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_HTAB_H
#define BN_MAPS_HTAB_H

/* A chained hash table of nodes that live inside the caller's structs. The caller compares and
 * owns; the table only links. Growing that fails for want of memory is harmless: chains get longer.
 */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct bn_hnode {
	struct bn_hnode *next;
	uint32_t hash;
};

struct bn_htab {
	struct bn_hnode **b; /* NULL: empty, nothing allocated yet */
	uint32_t mask, n;
};

#define bn_container(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Of any bytes. Keyed by the process: names come from the cluster's users, and nobody shall be able
 * to aim at one chain.
 */
uint32_t bn_hash_bytes(const void *data, size_t len);

static inline void bn_htab_grow(struct bn_htab *t)
{
	uint32_t mask = t->b ? t->mask * 2 + 1 : 15;
	struct bn_hnode **b, *n, *next;

	b = calloc((size_t)mask + 1, sizeof(*b));
	if (!b)
		return;
	for (uint32_t i = 0; t->b && i <= t->mask; i++)
		for (n = t->b[i]; n; n = next) {
			next = n->next;
			n->next = b[n->hash & mask];
			b[n->hash & mask] = n;
		}
	free(t->b);
	t->b = b;
	t->mask = mask;
}

/* 0, or -ENOMEM for the very first node. Does not look for an equal one. */
static inline int bn_htab_add(struct bn_htab *t, struct bn_hnode *n, uint32_t hash)
{
	if (!t->b || (t->n > t->mask && t->mask < UINT32_MAX / 4))
		bn_htab_grow(t);
	if (!t->b)
		return -ENOMEM;
	n->hash = hash;
	n->next = t->b[hash & t->mask];
	t->b[hash & t->mask] = n;
	t->n++;
	return 0;
}

static inline void bn_htab_del(struct bn_htab *t, struct bn_hnode *n)
{
	struct bn_hnode **p = &t->b[n->hash & t->mask];

	while (*p != n)
		p = &(*p)->next;
	*p = n->next;
	n->next = NULL;
	t->n--;
}

/* The nodes of one hash: for (n = bn_htab_first(t, h); n; n = bn_htab_next(n)). */
static inline struct bn_hnode *bn_htab_match(struct bn_hnode *n, uint32_t hash)
{
	while (n && n->hash != hash)
		n = n->next;
	return n;
}

static inline struct bn_hnode *bn_htab_first(const struct bn_htab *t, uint32_t hash)
{
	return t->b ? bn_htab_match(t->b[hash & t->mask], hash) : NULL;
}

static inline struct bn_hnode *bn_htab_next(const struct bn_hnode *n)
{
	return bn_htab_match(n->next, n->hash);
}

/* All nodes, in no order: the first, and the one after n (which must still be in the table). */
static inline struct bn_hnode *bn_htab_from(const struct bn_htab *t, uint32_t bucket)
{
	for (uint32_t i = bucket; t->b && i <= t->mask; i++)
		if (t->b[i])
			return t->b[i];
	return NULL;
}

static inline struct bn_hnode *bn_htab_head(const struct bn_htab *t)
{
	return bn_htab_from(t, 0);
}

static inline struct bn_hnode *bn_htab_after(const struct bn_htab *t, const struct bn_hnode *n)
{
	return n->next ? n->next : bn_htab_from(t, (n->hash & t->mask) + 1);
}

/* Takes any node out, for tearing down: *at begins as 0 and remembers where the rest is. */
static inline struct bn_hnode *bn_htab_pop(struct bn_htab *t, uint32_t *at)
{
	for (; t->b && *at <= t->mask; ++*at) {
		struct bn_hnode *n = t->b[*at];

		if (!n)
			continue;
		t->b[*at] = n->next;
		t->n--;
		return n;
	}
	return NULL;
}

static inline void bn_htab_clear(struct bn_htab *t)
{
	free(t->b);
	*t = (struct bn_htab){0};
}

#endif
