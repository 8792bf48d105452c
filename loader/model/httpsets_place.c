// SPDX-License-Identifier: MIT
/* Numbers of HTTP rule sets and their counters. What is pinned keeps its place. */
#include <sys/random.h>

#include "loader/model/httpsets_priv.h"
#include "maps/ranges.h"
#include "maps/util.h"
#include "policy/table.h"

struct bn_httpplaces {
	struct bn_maps *maps;
	struct bn_ranges *stats;
	uint32_t next_id, nids;
	bool *used; /* by id */
	BN_VEC(struct bn_httpplace) old;
};

static uint32_t random_gen(void)
{
	uint32_t gen = 0;

	/* Not counted up: a daemon that takes over does not know how far the last one came. */
	while (!gen)
		if (getrandom(&gen, sizeof(gen), 0) != sizeof(gen))
			gen = 1;
	return gen;
}

static void stats_take(struct bn_httpplaces *p, uint32_t n, struct bn_httpplace *at)
{
	uint32_t base = bn_ranges_take(p->stats, n);

	if (base == BN_RANGES_NONE)
		return; /* enforced all the same, only not counted by rule */
	at->stats = base;
	at->nstats = n;
	for (uint32_t k = 0; k < n; k++)
		bn_http_stat_clear(p->maps, base + k);
}

int bn_httpplaces_take(struct bn_httpplaces *p, uint32_t nmatches, uint64_t digest, struct bn_httpplace *ret)
{
	/* Round robin: a number rests as long as possible. */
	for (uint32_t i = 1; i < p->nids; i++) {
		uint32_t id = p->next_id;

		p->next_id = id + 1 < p->nids ? id + 1 : 1;
		if (p->used[id])
			continue;
		p->used[id] = true;
		*ret = (struct bn_httpplace){.id = id, .gen = random_gen(), .digest = digest};
		stats_take(p, 2 + (nmatches < BN_HTTP_MATCHES ? nmatches : BN_HTTP_MATCHES), ret);
		return 0;
	}
	return -ENOSPC;
}

void bn_httpplaces_give(struct bn_httpplaces *p, const struct bn_httpplace *at)
{
	if (at->stats)
		bn_ranges_give(p->stats, at->stats, at->nstats);
	p->used[at->id] = false;
}

bool bn_httpplaces_next(const struct bn_httpplaces *p, uint32_t id, struct bn_httpplace *ret)
{
	for (uint32_t k = 0; k < p->old.n; k++) {
		if (p->old.v[k].id <= id)
			continue;
		*ret = p->old.v[k];
		return true;
	}
	return false;
}

static int note(uint32_t id, const struct bn_http_set *s, void *data)
{
	struct bn_httpplace at = {.id = id};
	struct bn_httpplaces *p = data;

	if (!s) /* of a version that laid sets out otherwise: no program of ours reads it */
		return bn_http_set_del(p->maps, id);
	at.gen = s->gen;
	at.stats = s->stats;
	at.nstats = s->stats ? 1u + s->tab.nmatches + !!s->audited : 0;
	at.digest = s->digest;
	p->used[id] = true;
	return bn_vec_push(&p->old, at);
}

static int by_stats(const void *a, const void *b)
{
	const struct bn_httpplace *const *x = a, *const *y = b;

	return bn_u32_cmp(&(*x)->stats, &(*y)->stats);
}

/* The gaps between the counters of pinned sets are free. Two sets that claim the same would count each other's
 * requests: harmless, so the gap is simply smaller.
 */
static int free_gaps(struct bn_httpplaces *p)
{
	_cleanup_(freep) struct bn_httpplace **v = calloc(p->old.n + 1, sizeof(*v));
	uint32_t at = 1, end = p->maps->entries[BN_MAP_http_stats]; /* 0 means not counted */

	if (!v)
		return -ENOMEM;
	for (uint32_t k = 0; k < p->old.n; k++)
		v[k] = &p->old.v[k];
	qsort(v, p->old.n, sizeof(*v), by_stats);
	for (uint32_t k = 0; k < p->old.n; k++) {
		if (v[k]->stats < at || v[k]->nstats > end - at || v[k]->stats > end - v[k]->nstats) {
			v[k]->stats = v[k]->nstats = 0;
			continue;
		}
		if (v[k]->stats > at)
			bn_ranges_give(p->stats, at, v[k]->stats - at);
		at = v[k]->stats + v[k]->nstats;
	}
	if (at < end)
		bn_ranges_give(p->stats, at, end - at);
	return 0;
}

int bn_httpplaces_new(struct bn_maps *maps, struct bn_httpplaces **ret)
{
	_cleanup_(bn_httpplaces_freep) struct bn_httpplaces *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->maps = maps;
	p->next_id = 1;
	p->nids = maps->entries[BN_MAP_http_sets];
	p->used = calloc(p->nids, sizeof(*p->used));
	if (!p->used)
		return -ENOMEM;
	r = bn_ranges_new(maps->entries[BN_MAP_http_stats], &p->stats);
	r = r ?: bn_http_sets_each(maps, note, p);
	r = r ?: free_gaps(p);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(p);
	return 0;
}

void bn_httpplaces_freep(struct bn_httpplaces **pp)
{
	struct bn_httpplaces *p = *pp;

	if (!p)
		return;
	*pp = NULL;
	bn_ranges_freep(&p->stats);
	bn_vec_done(&p->old);
	free(p->used);
	free(p);
}
