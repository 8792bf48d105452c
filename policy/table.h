/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_TABLE_H
#define BN_POLICY_TABLE_H

/* Containers of the policy code: growing arrays, sets of numbers, and what maps/htab.h lacks.
 * Hashes are keyed: names and addresses are chosen by others.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "maps/htab.h"
#include "policy/siphash.h"

static inline uint64_t bn_hash(const void *data, size_t len)
{
	return bn_siphash(bn_sipkey(), data, len);
}

/* All nodes of a bn_htab (maps/htab.h), in no order; the current one may be deleted and freed. */
#define bn_htab_each(t, n)                                                                         \
	for (size_t _i = 0; (t)->b && _i <= (t)->mask; _i++)                                       \
		for (struct bn_hnode *n = (t)->b[_i], *_nx; n && (_nx = n->next, 1); n = _nx)

/* memcmp and memcpy that take NULL for nothing. */
static inline bool bn_same(const void *a, const void *b, size_t len)
{
	return !len || !memcmp(a, b, len);
}

static inline void bn_copy(void *to, const void *from, size_t len)
{
	if (len)
		memcpy(to, from, len);
}

/* Makes room for one more element in an array; *v stays valid when memory is out. */
static inline int bn_room_(void **v, uint32_t n, uint32_t *cap, size_t size)
{
	uint32_t want = *cap ? *cap * 2 : 4;
	void *p;

	if (n < *cap)
		return 0;
	if (want < *cap)
		return -ENOMEM;
	p = realloc(*v, want * size);
	if (!p)
		return -ENOMEM;
	*v = p;
	*cap = want;
	return 0;
}

/* An array that grows: BN_VEC(struct x) v = {}; r = bn_vec_push(&v, x); v.v[0 .. v.n - 1] */
#define BN_VEC(type)                                                                               \
	struct {                                                                                   \
		type *v;                                                                           \
		uint32_t n, cap;                                                                   \
	}

#define bn_vec_room(vec) bn_room_((void **)&(vec)->v, (vec)->n, &(vec)->cap, sizeof(*(vec)->v))
#define bn_vec_push(vec, x)                                                                        \
	({                                                                                         \
		int _r = bn_vec_room(vec);                                                         \
		if (!_r)                                                                           \
			(vec)->v[(vec)->n++] = (x);                                                \
		_r;                                                                                \
	})
#define bn_vec_done(vec)                                                                           \
	({                                                                                         \
		free((vec)->v);                                                                    \
		(vec)->v = NULL;                                                                   \
		(vec)->n = (vec)->cap = 0;                                                         \
	})

struct bn_u32s {
	uint32_t *v;
	uint32_t n, cap;
};

static inline int bn_u32_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static inline void bn_u32s_sort(struct bn_u32s *s)
{
	uint32_t n = 0;

	if (s->n < 2)
		return;
	qsort(s->v, s->n, sizeof(*s->v), bn_u32_cmp);
	for (uint32_t i = 0; i < s->n; i++)
		if (!i || s->v[i] != s->v[n - 1])
			s->v[n++] = s->v[i];
	s->n = n;
}

/* Position of x in sorted v, or -1. */
static inline ssize_t bn_u32_find(const uint32_t *v, uint32_t n, uint32_t x)
{
	uint32_t lo = 0, hi = n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (v[mid] < x)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n && v[lo] == x ? (ssize_t)lo : -1;
}

/* Removes one element wherever it is; the order changes. */
static inline void bn_u32s_drop(struct bn_u32s *s, uint32_t x)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->v[i] == x) {
			s->v[i] = s->v[--s->n];
			return;
		}
	}
}

/* Puts x into its place in a sorted set. */
static inline int bn_u32s_insert(struct bn_u32s *s, uint32_t x)
{
	uint32_t i;

	if (bn_vec_room(s) < 0)
		return -ENOMEM;
	for (i = s->n; i && s->v[i - 1] > x; i--)
		;
	if (i && s->v[i - 1] == x)
		return 0;
	memmove(s->v + i + 1, s->v + i, (s->n - i) * sizeof(*s->v));
	s->v[i] = x;
	s->n++;
	return 0;
}

static inline void bn_u32s_remove(struct bn_u32s *s, uint32_t x)
{
	ssize_t i = bn_u32_find(s->v, s->n, x);

	if (i >= 0) {
		memmove(s->v + i, s->v + i + 1, (s->n - i - 1) * sizeof(*s->v));
		s->n--;
	}
}

/* Numbers that are given out and come back; the one that rested longest goes out first, so that a
 * number in an old event rarely means something new.
 */
struct bn_numbers {
	uint32_t next, limit; /* next: never used so far; limit: one past the last, 0: none */
	uint32_t *ring, head, n, cap;
};

static inline int bn_numbers_get(struct bn_numbers *s, uint32_t *ret)
{
	if (s->n > 64 || (s->n && s->limit && s->next >= s->limit)) {
		*ret = s->ring[s->head];
		s->head = (s->head + 1) % s->cap;
		s->n--;
		return 0;
	}
	if (s->next == UINT32_MAX || (s->limit && s->next >= s->limit))
		return -ENOSPC;
	*ret = s->next++;
	return 0;
}

/* A number that finds no room to rest (memory) is lost, not reused. */
static inline void bn_numbers_put(struct bn_numbers *s, uint32_t x)
{
	if (s->n == s->cap) {
		uint32_t cap = s->cap ? s->cap * 2 : 64;
		uint32_t *r = calloc(cap, sizeof(*r));

		if (!r)
			return;
		for (uint32_t i = 0; i < s->n; i++)
			r[i] = s->ring[(s->head + i) % s->cap];
		free(s->ring);
		s->ring = r;
		s->head = 0;
		s->cap = cap;
	}
	s->ring[(s->head + s->n++) % s->cap] = x;
}

static inline void bn_numbers_done(struct bn_numbers *s)
{
	free(s->ring);
	s->ring = NULL;
}

#endif
