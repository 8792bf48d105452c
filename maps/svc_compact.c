/* SPDX-License-Identifier: MIT */
/* Slots may be free and still not lie together. Then the lists of one stretch are copied elsewhere,
 * their records flipped to the copies, and after one grace period the stretch is one free run.
 * Rare: needed only when the map is nearly full and a large list comes.
 */
#include <string.h>

#include "maps/svc_priv.h"

struct sv_live {
	uint32_t base, len;
	uint32_t words; /* of records; fewer than refs: apply holds it, it cannot be moved */
	uint32_t to;	/* where it went, BN_RANGES_NONE: nowhere */
};

struct sv_word {
	uint32_t base, idx;
	int which;
};

struct compact {
	struct bn_svcmap *m;
	struct sv_word *words; /* sorted by base */
	struct sv_live *live;  /* sorted by base */
	size_t nwords, nlive;
	uint32_t from, size; /* the stretch that is to be free */
	uint32_t hole;	     /* the longest free run before */
	size_t lo, hi;	     /* live ranges in it: [lo, hi) */
};

static int word_cmp(const void *pa, const void *pb)
{
	const struct sv_word *a = pa, *b = pb;

	return a->base < b->base ? -1 : a->base > b->base;
}

static void add_word(struct compact *c, uint32_t idx, int which, uint64_t word)
{
	if (BN_RANGE_COUNT(word))
		c->words[c->nwords++] = (struct sv_word){BN_RANGE_BASE(word), idx, which};
}

static int find_live(struct compact *c)
{
	struct bn_svcmap *m = c->m;

	c->words = calloc((size_t)m->recs.n * 2 + 1, sizeof(*c->words));
	c->live = calloc((size_t)m->recs.n * 2 + 1, sizeof(*c->live));
	if (!c->words || !c->live)
		return -ENOMEM;
	for (struct bn_hnode *h = bn_htab_head(&m->recs); h; h = bn_htab_after(&m->recs, h)) {
		uint32_t idx = bn_container(h, struct sv_rec, h)->idx;

		add_word(c, idx, 0, sv_svc(m, idx)->range);
		add_word(c, idx, 1, sv_svc(m, idx)->range_int);
	}
	qsort(c->words, c->nwords, sizeof(*c->words), word_cmp);
	for (size_t i = 0; i < c->nwords; i++) {
		const struct sv_word *w = &c->words[i];
		const struct bn_svc *s = sv_svc(m, w->idx);

		if (c->nlive && c->live[c->nlive - 1].base == w->base) {
			c->live[c->nlive - 1].words++;
			continue;
		}
		c->live[c->nlive++] = (struct sv_live){
			.base = w->base,
			.len = sv_range_len(m, w->which ? s->range_int : s->range),
			.words = 1,
			.to = BN_RANGES_NONE,
		};
	}
	return 0;
}

/* Held by apply, or too long for every hole there is. */
static bool is_fixed(const struct compact *c, size_t i)
{
	return c->m->refs[c->live[i].base] != c->live[i].words || c->live[i].len > c->hole;
}

/* A stretch of c->size with the fewest slots to move, beginning behind some range. Lists that apply
 * has placed but that no record has yet are not in `live`: that a stretch touches one is found out
 * when its gaps are taken.
 */
static bool find_stretch(struct compact *c)
{
	uint64_t moved = 0, best = UINT64_MAX;
	size_t hi = 0, fixed = 0;

	for (size_t lo = 0; lo <= c->nlive; lo++) {
		uint32_t from = lo ? c->live[lo - 1].base + c->live[lo - 1].len : 0;

		if ((uint64_t)from + c->size > c->m->slots_max)
			break;
		for (; hi < c->nlive && c->live[hi].base < from + c->size; hi++) {
			moved += c->live[hi].len;
			fixed += is_fixed(c, hi);
		}
		if (!fixed && moved < best) {
			best = moved;
			c->from = from;
			c->lo = lo;
			c->hi = hi;
		}
		if (lo < hi) {
			moved -= c->live[lo].len;
			fixed -= is_fixed(c, lo);
		} else if (lo < c->nlive) {
			hi = lo + 1; /* longer than the stretch: it begins behind it next */
		}
	}
	return best < UINT64_MAX;
}

/* The gaps of the stretch leave the allocator, or copies would be put there. */
static bool take_gaps(struct compact *c, bool take)
{
	uint32_t at = c->from, end = c->from + c->size;

	for (size_t i = c->lo; i <= c->hi; i++) {
		uint32_t to = i < c->hi && c->live[i].base < end ? c->live[i].base : end;

		if (to > at && take && !bn_ranges_take_at(c->m->ra, at, to - at)) {
			c->size = at - c->from; /* give back only what was taken */
			c->hi = i;
			return false;
		}
		if (to > at && !take)
			bn_ranges_give(c->m->ra, at, to - at);
		if (i < c->hi)
			at = c->live[i].base + c->live[i].len;
	}
	return true;
}

static bool copy_out(struct compact *c)
{
	for (size_t i = c->lo; i < c->hi; i++) {
		struct sv_live *l = &c->live[i];
		struct bn_backend *to;

		l->to = bn_ranges_take(c->m->ra, l->len);
		if (l->to == BN_RANGES_NONE)
			return false;
		to = sv_slots(c->m, l->to, l->len);
		if (!to) {
			bn_ranges_give(c->m->ra, l->to, l->len);
			l->to = BN_RANGES_NONE;
			return false;
		}
		memcpy(to, sv_slot(c->m, l->base), l->len * sizeof(struct bn_backend));
		c->m->range_ns[l->to] = c->m->range_ns[l->base];
		if (c->m->range_ns[l->to])
			sv_ns_add(c->m->spaces[c->m->range_ns[l->to]], SV_SLOTS, l->len);
		c->m->writes += l->len;
	}
	return true;
}

/* Words of the moved ranges go over to the copies; the last one of each puts the old range among
 * what waits for the grace period.
 */
static void flip(struct compact *c)
{
	size_t w = 0;

	for (size_t i = c->lo; i < c->hi; i++) {
		const struct sv_live *l = &c->live[i];

		while (w < c->nwords && c->words[w].base < l->base)
			w++;
		for (; w < c->nwords && c->words[w].base == l->base && l->to != BN_RANGES_NONE;
		     w++) {
			const struct bn_svc *s = sv_svc(c->m, c->words[w].idx);
			uint64_t old = c->words[w].which ? s->range_int : s->range;

			(void)sv_word_set(c->m, c->words[w].idx, c->words[w].which, l->to,
					  BN_RANGE_COUNT(old));
		}
	}
}

static int compact(struct compact *c)
{
	bool copied;
	int r = find_live(c);

	if (r < 0)
		return r;
	c->hole = bn_ranges_largest(c->m->ra);
	if (!find_stretch(c))
		return -ENOSPC;
	if (!take_gaps(c, true)) {
		(void)take_gaps(c, false);
		return -ENOSPC;
	}
	copied = copy_out(c);
	flip(c);
	(void)take_gaps(c, false);
	bn_svcmap_reclaim(c->m, true);
	return copied ? 0 : -ENOSPC;
}

int sv_compact(struct bn_svcmap *m, uint32_t len)
{
	uint32_t idle = bn_ranges_free(m->ra), more = idle / 2 < 16384 ? idle / 2 : 16384;
	struct compact c = {.m = m, .size = len > more ? len : more};
	int r;

	/* A walk over all services: not again at once when it was of no use. */
	if (idle < len || m->compact_skip) {
		m->compact_skip -= m->compact_skip > 0;
		return -ENOSPC;
	}
	r = compact(&c);
	free(c.words);
	free(c.live);
	if (r < 0 && c.size > len) {
		c = (struct compact){.m = m, .size = len};
		r = compact(&c);
		free(c.words);
		free(c.live);
	}
	m->compact_skip = r < 0 ? 32 : 0;
	m->compactions++;
	return r;
}
