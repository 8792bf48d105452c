/* SPDX-License-Identifier: MIT */
#include "maps/ranges.h"

#include <stdlib.h>

#include "maps/util.h"

#define EXACT  64 /* sizes below have a class of their own */
#define SUB    16 /* classes to a power of two above */
#define NCLASS (EXACT + SUB * (28 - 6 + 1))
#define NWORD  ((NCLASS + 63) / 64)
#define NIL    UINT32_MAX

/* A free run [b, b + len) has start[b] == len and end[b + len - 1] == len; next and prev at b link
 * the runs of its class. All other elements are 0 (start, end) or mean nothing (next, prev). The
 * arrays are never touched where nothing begins or ends, so most of their pages stay unused.
 */
struct bn_ranges {
	uint32_t n, nfree;
	uint32_t *start, *end, *next, *prev;
	uint32_t head[NCLASS];
	uint64_t used[NWORD]; /* classes that are not empty */
};

static unsigned class_of(uint32_t size)
{
	unsigned lg;

	if (size < EXACT)
		return size;
	lg = 31 - (unsigned)__builtin_clz(size);
	return EXACT + (lg - 6) * SUB + ((size >> (lg - 4)) & (SUB - 1));
}

/* The smallest class all of whose runs hold `size`. */
static unsigned class_fit(uint32_t size)
{
	if (size >= EXACT)
		size += (1U << (31 - __builtin_clz(size) - 4)) - 1;
	return class_of(size);
}

static void link_run(struct bn_ranges *r, uint32_t base, uint32_t len)
{
	unsigned c = class_of(len);

	r->start[base] = len;
	r->end[base + len - 1] = len;
	r->prev[base] = NIL;
	r->next[base] = r->head[c];
	if (r->head[c] != NIL)
		r->prev[r->head[c]] = base;
	r->head[c] = base;
	r->used[c / 64] |= 1ULL << (c % 64);
	r->nfree += len;
}

static void unlink_run(struct bn_ranges *r, uint32_t base)
{
	uint32_t len = r->start[base];
	unsigned c = class_of(len);

	if (r->prev[base] != NIL)
		r->next[r->prev[base]] = r->next[base];
	else
		r->head[c] = r->next[base];
	if (r->next[base] != NIL)
		r->prev[r->next[base]] = r->prev[base];
	if (r->head[c] == NIL)
		r->used[c / 64] &= ~(1ULL << (c % 64));
	r->start[base] = 0;
	r->end[base + len - 1] = 0;
	r->nfree -= len;
}

static unsigned next_used(const struct bn_ranges *r, unsigned c)
{
	unsigned w = c / 64;
	uint64_t bits;

	if (w >= NWORD)
		return NCLASS;
	bits = r->used[w] & (~0ULL << (c % 64));
	while (!bits && ++w < NWORD)
		bits = r->used[w];
	return bits ? w * 64 + (unsigned)__builtin_ctzll(bits) : NCLASS;
}

uint32_t bn_ranges_take(struct bn_ranges *r, uint32_t size)
{
	uint32_t base = NIL, len;
	unsigned c;

	if (!size || size > r->n)
		return BN_RANGES_NONE;
	c = next_used(r, class_fit(size));
	if (c < NCLASS)
		base = r->head[c];
	else /* the last hope: a run of its own class that happens to be long enough */
		for (base = r->head[class_of(size)]; base != NIL && r->start[base] < size;)
			base = r->next[base];
	if (base == NIL)
		return BN_RANGES_NONE;
	len = r->start[base];
	unlink_run(r, base);
	if (len > size)
		link_run(r, base + size, len - size);
	return base;
}

bool bn_ranges_take_at(struct bn_ranges *r, uint32_t base, uint32_t size)
{
	uint32_t len = base < r->n ? r->start[base] : 0;

	if (!size || len < size)
		return false;
	unlink_run(r, base);
	if (len > size)
		link_run(r, base + size, len - size);
	return true;
}

void bn_ranges_give(struct bn_ranges *r, uint32_t base, uint32_t size)
{
	uint32_t len;

	if (!size)
		return;
	if (base && r->end[base - 1]) {
		len = r->end[base - 1];
		base -= len;
		unlink_run(r, base);
		size += len;
	}
	if (base + size < r->n && r->start[base + size]) {
		len = r->start[base + size];
		unlink_run(r, base + size);
		size += len;
	}
	link_run(r, base, size);
}

uint32_t bn_ranges_free(const struct bn_ranges *r)
{
	return r->nfree;
}

uint32_t bn_ranges_largest(const struct bn_ranges *r)
{
	uint32_t max = 0;

	for (unsigned c = NCLASS; c-- > 0;) {
		for (uint32_t b = r->head[c]; b != NIL; b = r->next[b])
			if (r->start[b] > max)
				max = r->start[b];
		if (max)
			break;
	}
	return max;
}

int bn_ranges_new(uint32_t n, struct bn_ranges **ret)
{
	_cleanup_(bn_ranges_freep) struct bn_ranges *r = NULL;

	if (!n || n > 1U << 28)
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->n = n;
	r->start = calloc(n, sizeof(uint32_t));
	r->end = calloc(n, sizeof(uint32_t));
	r->next = calloc(n, sizeof(uint32_t));
	r->prev = calloc(n, sizeof(uint32_t));
	if (!r->start || !r->end || !r->next || !r->prev)
		return -ENOMEM;
	for (unsigned i = 0; i < NCLASS; i++)
		r->head[i] = NIL;
	*ret = TAKE_PTR(r);
	return 0;
}

void bn_ranges_freep(struct bn_ranges **p)
{
	struct bn_ranges *r = *p;

	if (!r)
		return;
	free(r->start);
	free(r->end);
	free(r->next);
	free(r->prev);
	free(r);
	*p = NULL;
}
