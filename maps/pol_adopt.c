// SPDX-License-Identifier: MIT
/* Taking over: what words name stays in force, the rest is swept. */
#include <string.h>

#include "maps/pol_priv.h"
#include "maps/util.h"

/* A block of cells or ports that is in force. */
struct block {
	uint32_t base, n;
};

static int block_cmp(const void *a, const void *b)
{
	const struct block *x = a, *y = b;

	return (x->base > y->base) - (x->base < y->base);
}

/* A word that names nonsense closes the pod: it must not wait for who knows what. */
static bool sane(const struct bn_pols *p, uint32_t id)
{
	const struct bn_pol *pol = bn_map_at(p->maps, BN_MAP_pols, id);

	return id < BN_POL_FIRST ||
	       (pol && pol->check == id && pol->nports && pol->nclasses && pol->rows &&
		(uint64_t)pol->ports + pol->nports <= p->maps->entries[BN_MAP_pol_ports] &&
		(uint64_t)pol->cells + (uint64_t)pol->rows * pol->nclasses <=
			p->maps->entries[BN_MAP_pol_cells]);
}

static void adopt_words(struct bn_pols *p)
{
	for (uint32_t slot = 0; slot < p->maps->entries[BN_MAP_pods]; slot++) {
		uint64_t word = bn_pols_word(p, slot);
		uint32_t id[2] = {BN_POD_INGRESS(word), BN_POD_EGRESS(word)};

		for (unsigned k = 0; k < 2; k++) {
			if (!sane(p, id[k]))
				id[k] = BN_POL_CLOSED;
			if (id[k] < BN_POL_FIRST || p->own[id[k]].used)
				continue;
			p->own[id[k]].used = p->own[id[k]].adopted = true;
			p->stats.adopted++;
			p->stats.policies++;
		}
		bn_pols_set_word(p, slot, BN_POD_WORD(id[0], id[1]));
	}
}

/* The gaps between what is in force are free. */
static int free_gaps(struct bn_ranges *r, struct block *b, uint32_t n, uint32_t entries)
{
	uint32_t at = 0;

	qsort(b, n, sizeof(*b), block_cmp);
	for (uint32_t i = 0; i < n; i++) {
		if (b[i].base < at)
			return -EUCLEAN; /* two of them overlap */
		if (b[i].base > at)
			bn_ranges_give(r, at, b[i].base - at);
		at = b[i].base + b[i].n;
	}
	if (at < entries)
		bn_ranges_give(r, at, entries - at);
	return 0;
}

static int adopt_ranges(struct bn_pols *p)
{
	uint32_t n = 0, entries = p->maps->entries[BN_MAP_pols];
	_cleanup_(freep) struct block *ports = NULL, *cells = NULL;
	int r;

	ports = calloc(p->stats.adopted + 1, sizeof(*ports));
	cells = calloc(p->stats.adopted + 1, sizeof(*cells));
	if (!ports || !cells)
		return -ENOMEM;
	for (uint32_t id = BN_POL_FIRST; id < entries; id++) {
		struct bn_pol *pol = bn_map_at(p->maps, BN_MAP_pols, id);

		if (!p->own[id].used) {
			pol->check = 0;
			continue;
		}
		ports[n] = (struct block){pol->ports, pol->nports};
		cells[n++] = (struct block){pol->cells, pol->rows * pol->nclasses};
	}
	r = free_gaps(p->ports, ports, n, p->maps->entries[BN_MAP_pol_ports]);
	return r ?: free_gaps(p->cells, cells, n, p->maps->entries[BN_MAP_pol_cells]);
}

static int adopt_peer(const void *key, const void *val, void *data)
{
	const struct bn_peer_key *k = key;
	const struct bn_peer_val *v = val;
	struct bn_pols *p = data;

	if (k->policy < p->maps->entries[BN_MAP_pols] && p->own[k->policy].used) {
		p->stats.peers++;
		return bn_pol_note_peer(p, k->policy, k->identity, v->row);
	}
	p->stats.writes++;
	return bn_map_del(p->maps, BN_MAP_pol_peers, key);
}

static int adopt_cidr(const void *key, const void *val, void *data)
{
	struct bn_pols *p = data;

	if (p->nold == p->old_cap) {
		uint32_t cap = p->old_cap ? p->old_cap * 2 : 64;
		struct bn_pol_old_cidr *v = realloc(p->old, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->old = v;
		p->old_cap = cap;
	}
	p->old[p->nold] = (struct bn_pol_old_cidr){};
	memcpy(&p->old[p->nold].key, key, sizeof(p->old->key));
	memcpy(&p->old[p->nold++].identity, val, sizeof(p->old->identity));
	return 0;
}

int bn_pols_new(struct bn_maps *maps, struct bn_pols **ret)
{
	_cleanup_(bn_pols_freep) struct bn_pols *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->maps = maps;
	p->next_id = BN_POL_FIRST;
	p->own = calloc(maps->entries[BN_MAP_pols], sizeof(*p->own));
	if (!p->own)
		return -ENOMEM;
	r = bn_reclaim_new(&p->reclaim);
	r = r ?: bn_ranges_new(maps->entries[BN_MAP_pol_ports], &p->ports);
	r = r ?: bn_ranges_new(maps->entries[BN_MAP_pol_cells], &p->cells);
	if (r < 0)
		return r;
	adopt_words(p);
	r = adopt_ranges(p);
	r = r ?: bn_map_each(maps, BN_MAP_pol_peers, adopt_peer, p);
	r = r ?: bn_map_each(maps, BN_MAP_cidrs, adopt_cidr, p);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(p);
	return 0;
}

void bn_pols_freep(struct bn_pols **pp)
{
	struct bn_pols *p = *pp;

	if (!p)
		return;
	*pp = NULL;
	bn_reclaim_freep(&p->reclaim);
	for (uint32_t id = 0; p->own && id < p->maps->entries[BN_MAP_pols]; id++)
		free(p->own[id].peers);
	free(p->own);
	free(p->old);
	bn_ranges_freep(&p->ports);
	bn_ranges_freep(&p->cells);
	free(p);
}

int bn_pols_each_old_cidr(const struct bn_pols *p,
			  int (*fn)(const struct bn_lpm_key *k, uint32_t identity, void *data),
			  void *data)
{
	int r = 0;

	for (uint32_t i = 0; i < p->nold && !r; i++)
		r = fn(&p->old[i].key, p->old[i].identity, data);
	return r;
}

int bn_pols_each_old_identity(const struct bn_pols *p, int (*fn)(uint32_t identity, void *data),
			      void *data)
{
	int r = 0;

	for (uint32_t id = BN_POL_FIRST; p->stats.adopted && id < p->maps->entries[BN_MAP_pols];
	     id++)
		for (uint32_t i = 0; p->own[id].adopted && i < p->own[id].npeers && !r; i++)
			r = fn(p->own[id].peers[i].identity, data);
	return r;
}

int bn_pols_alias(struct bn_pols *p, uint32_t identity, uint32_t old)
{
	int r = 0;

	for (uint32_t id = BN_POL_FIRST; p->stats.adopted && id < p->maps->entries[BN_MAP_pols];
	     id++) {
		struct bn_pol_own *o = &p->own[id];
		uint32_t i;

		if (!o->adopted || o->retired)
			continue;
		for (i = 0; i < o->npeers && o->peers[i].identity != old; i++)
			;
		if (i < o->npeers)
			r = r ?: bn_pols_put_peer(p, id, identity, o->peers[i].row);
	}
	return r;
}

int bn_pols_adopt_done(struct bn_pols *p)
{
	_cleanup_(freep) bool *named = calloc(p->maps->entries[BN_MAP_pols], sizeof(*named));
	int r = 0;

	if (!named)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->nold; i++)
		if (!p->old[i].kept)
			r = r ?: bn_pols_del_cidr(p, &p->old[i].key);
	p->nold = 0;
	for (uint32_t slot = 0; p->stats.adopted && slot < p->maps->entries[BN_MAP_pods]; slot++) {
		uint64_t word = bn_pols_word(p, slot);

		named[BN_POD_INGRESS(word)] = named[BN_POD_EGRESS(word)] = true;
	}
	for (uint32_t id = BN_POL_FIRST; p->stats.adopted && id < p->maps->entries[BN_MAP_pols];
	     id++)
		if (p->own[id].adopted && !p->own[id].retired && !named[id])
			bn_pols_retire(p, id);
	return r;
}
