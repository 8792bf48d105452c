// SPDX-License-Identifier: MIT
#include "maps/pol_access.h"

#include <string.h>

#include "maps/pol_priv.h"
#include "maps/util.h"

static struct bn_pol *pol_at(const struct bn_pols *p, uint32_t id)
{
	return bn_map_at(p->maps, BN_MAP_pols, id);
}

void bn_pols_set_step(struct bn_pols *p, void (*fn)(void *data), void *data)
{
	p->step = fn;
	p->step_data = data;
}

void bn_pols_step(const struct bn_pols *p)
{
	if (p->step)
		p->step(p->step_data);
}

/* --- peers ------------------------------------------------------------------------------------ */

static int peers_push(struct bn_pol_own *o, uint32_t identity, uint32_t row)
{
	if (o->npeers == o->cap) {
		uint32_t cap = o->cap ? o->cap * 2 : 8;
		struct bn_pol_peer *v = realloc(o->peers, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		o->peers = v;
		o->cap = cap;
	}
	o->peers[o->npeers++] = (struct bn_pol_peer){identity, row};
	return 0;
}

int bn_pol_note_peer(struct bn_pols *p, uint32_t id, uint32_t identity, uint32_t row)
{
	return peers_push(&p->own[id], identity, row);
}

int bn_pols_put_peer(struct bn_pols *p, uint32_t id, uint32_t identity, uint32_t row)
{
	struct bn_peer_key k = {.policy = id, .identity = identity};
	struct bn_peer_val v = {.row = row, .check = BN_PEER_CHECK(id, identity)};
	int r;

	r = peers_push(&p->own[id], identity, row);
	if (r < 0)
		return r;
	r = bn_map_put(p->maps, BN_MAP_pol_peers, &k, &v);
	if (r < 0) {
		p->own[id].npeers--;
		return r == -E2BIG ? -ENOSPC : r;
	}
	p->stats.writes++;
	p->stats.peers++;
	bn_pols_step(p);
	return 0;
}

int bn_pols_del_peer(struct bn_pols *p, uint32_t id, uint32_t identity)
{
	struct bn_peer_key k = {.policy = id, .identity = identity};
	struct bn_pol_own *o = &p->own[id];
	int r;

	for (uint32_t i = 0; i < o->npeers; i++) {
		if (o->peers[i].identity != identity)
			continue;
		o->peers[i] = o->peers[--o->npeers];
		p->stats.peers--;
		break;
	}
	r = bn_map_del(p->maps, BN_MAP_pol_peers, &k);
	p->stats.writes++;
	bn_pols_step(p);
	return r == -ENOENT ? 0 : r;
}

#define PEER_BATCH 4096

static int peers_write(struct bn_pols *p, uint32_t id, const struct bn_pol_def *def)
{
	_cleanup_(freep) struct bn_peer_key *k = NULL;
	_cleanup_(freep) struct bn_peer_val *v = NULL;
	size_t n = def->npeers < PEER_BATCH ? def->npeers : PEER_BATCH;
	int r = 0;

	if (!n)
		return 0;
	k = calloc(n, sizeof(*k));
	v = calloc(n, sizeof(*v));
	if (!k || !v)
		return -ENOMEM;
	for (size_t at = 0; at < def->npeers && !r; at += n) {
		size_t m = def->npeers - at < n ? def->npeers - at : n;

		for (size_t i = 0; i < m && !r; i++) {
			uint32_t identity = def->identities[at + i], row = def->rows[at + i];

			k[i] = (struct bn_peer_key){.policy = id, .identity = identity};
			v[i] = (struct bn_peer_val){.row = row,
						    .check = BN_PEER_CHECK(id, identity)};
			r = peers_push(&p->own[id], identity, row);
		}
		r = r ?: bn_map_put_batch(p->maps, BN_MAP_pol_peers, k, v, m, NULL);
		p->stats.writes += m;
		p->stats.peers += m;
	}
	return r == -E2BIG ? -ENOSPC : r;
}

static int peers_erase(struct bn_pols *p, uint32_t id)
{
	_cleanup_(freep) struct bn_peer_key *k = NULL;
	struct bn_pol_own *o = &p->own[id];
	uint32_t n = o->npeers < PEER_BATCH ? o->npeers : PEER_BATCH;
	int r = 0;

	k = calloc(n + 1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	while (o->npeers && !r) {
		uint32_t m = o->npeers < n ? o->npeers : n;

		for (uint32_t i = 0; i < m; i++)
			k[i] = (struct bn_peer_key){
				.policy = id, .identity = o->peers[o->npeers - m + i].identity};
		r = bn_map_del_batch(p->maps, BN_MAP_pol_peers, k, m, NULL);
		if (r < 0)
			break;
		o->npeers -= m;
		p->stats.peers -= m;
		p->stats.writes += m;
		bn_pols_step(p);
	}
	free(o->peers);
	memset(o, 0, sizeof(*o));
	return r;
}

/* --- policies --------------------------------------------------------------------------------- */

static int id_take(struct bn_pols *p, uint32_t *ret)
{
	uint32_t n = p->maps->entries[BN_MAP_pols];

	/* Round robin: a number rests as long as possible. */
	for (uint32_t i = 0; i < n; i++) {
		uint32_t id = p->next_id++;

		if (p->next_id >= n)
			p->next_id = BN_POL_FIRST;
		if (id < n && !p->own[id].used) {
			*ret = id;
			return 0;
		}
	}
	return -ENOSPC;
}

static int room_take(struct bn_pols *p, const struct bn_pol_def *def, uint32_t *id, uint32_t *ports,
		     uint32_t *cells)
{
	uint32_t ncells = def->row_room * def->nclasses;

	if (id_take(p, id) < 0) {
		p->full = "pols";
		return -ENOSPC;
	}
	*ports = bn_ranges_take(p->ports, def->nports);
	if (*ports == BN_RANGES_NONE) {
		p->full = "pol_ports";
		return -ENOSPC;
	}
	*cells = bn_ranges_take(p->cells, ncells);
	if (*cells == BN_RANGES_NONE) {
		bn_ranges_give(p->ports, *ports, def->nports);
		p->full = "pol_cells";
		return -ENOSPC;
	}
	return 0;
}

static void give_back(struct bn_pols *p, uint32_t id)
{
	struct bn_pol *pol = pol_at(p, id);

	pol->check = 0;
	bn_pols_step(p);
	bn_ranges_give(p->ports, pol->ports, pol->nports);
	bn_ranges_give(p->cells, pol->cells, pol->rows * pol->nclasses);
	p->stats.policies--;
}

static void cells_write(struct bn_pols *p, uint32_t at, const struct bn_cell *cells, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		*(struct bn_cell *)bn_map_at(p->maps, BN_MAP_pol_cells, at + i) = cells[i];
}

int bn_pols_add(struct bn_pols *p, const struct bn_pol_def *def, uint32_t *ret)
{
	uint32_t id, ports, cells;
	struct bn_pol *pol;
	int r;

	if (!def->nports || !def->nclasses || !def->nrows || def->row_room < def->nrows)
		return -EINVAL;
	r = room_take(p, def, &id, &ports, &cells);
	if (r == -ENOSPC && p->nwaiting) {
		r = bn_pols_wait(p, bn_pols_seal(p));
		r = r ?: bn_pols_reclaim(p);
		r = r ?: room_take(p, def, &id, &ports, &cells);
	}
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < def->nports; i++)
		*(uint32_t *)bn_map_at(p->maps, BN_MAP_pol_ports, ports + i) = def->ports[i];
	cells_write(p, cells, def->cells, def->nrows * def->nclasses);
	pol = pol_at(p, id);
	*pol = (struct bn_pol){
		.ports = ports,
		.cells = cells,
		.nports = def->nports,
		.nclasses = def->nclasses,
		.default_row = def->default_row,
		.flags = def->flags,
		.rows = def->row_room,
	};
	p->own[id].used = true;
	p->stats.policies++;
	p->stats.writes += 2 + def->nports + def->nrows * def->nclasses;
	r = peers_write(p, id, def);
	if (r < 0) {
		p->full = "pol_peers";
		peers_erase(p, id); /* no pod ever had it */
		give_back(p, id);
		return r;
	}
	__atomic_store_n(&pol->check, id, __ATOMIC_RELEASE);
	bn_pols_step(p);
	*ret = id;
	return 0;
}

const char *bn_pols_full(const struct bn_pols *p)
{
	return p->full ?: "";
}

int bn_pols_set_flags(struct bn_pols *p, uint32_t id, uint16_t flags)
{
	struct bn_pol *pol = pol_at(p, id);

	if (!pol || !p->own[id].used)
		return -EINVAL;
	__atomic_store_n(&pol->flags, flags, __ATOMIC_RELEASE);
	return 0;
}

int bn_pols_put_row(struct bn_pols *p, uint32_t id, uint32_t row, const struct bn_cell *cells)
{
	const struct bn_pol *pol = pol_at(p, id);

	if (!pol || !p->own[id].used || row >= pol->rows)
		return -EINVAL;
	cells_write(p, pol->cells + row * pol->nclasses, cells, pol->nclasses);
	p->stats.writes += pol->nclasses;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	return 0;
}

void bn_pols_retire(struct bn_pols *p, uint32_t id)
{
	if (id < BN_POL_FIRST || !p->own[id].used || p->own[id].retired)
		return;
	if (p->own[id].adopted)
		p->stats.adopted--;
	p->own[id].retired = true;
	p->own[id].ticket = 0; /* of the next seal */
	p->nwaiting++;
	p->unsealed = true;
}

/* --- grace ------------------------------------------------------------------------------------ */

uint64_t bn_pols_seal(struct bn_pols *p)
{
	p->ticket = bn_reclaim_ask(p->reclaim);
	p->stats.graces++;
	for (uint32_t id = BN_POL_FIRST; p->unsealed && id < p->maps->entries[BN_MAP_pols]; id++)
		if (p->own[id].retired && !p->own[id].ticket)
			p->own[id].ticket = p->ticket;
	p->unsealed = false;
	return p->ticket;
}

bool bn_pols_passed(struct bn_pols *p, uint64_t ticket)
{
	return bn_reclaim_done(p->reclaim, ticket);
}

int bn_pols_wait(struct bn_pols *p, uint64_t ticket)
{
	return bn_reclaim_wait(p->reclaim, ticket);
}

bool bn_pols_waiting(const struct bn_pols *p)
{
	return p->nwaiting;
}

int bn_pols_reclaim(struct bn_pols *p)
{
	int r = 0;

	if (!p->nwaiting || !p->ticket)
		return 0;
	for (uint32_t id = BN_POL_FIRST; id < p->maps->entries[BN_MAP_pols] && p->nwaiting && !r;
	     id++) {
		struct bn_pol_own *o = &p->own[id];

		if (!o->retired || !o->ticket || !bn_reclaim_done(p->reclaim, o->ticket))
			continue;
		give_back(p, id);
		r = peers_erase(p, id);
		p->nwaiting--;
	}
	return r;
}

/* --- words, prefixes, epoch, counters --------------------------------------------------------- */

uint32_t bn_pols_slots(const struct bn_pols *p)
{
	return p->maps->entries[BN_MAP_pods];
}

uint64_t bn_pols_word(const struct bn_pols *p, uint32_t slot)
{
	const struct bn_pod_slot *s = bn_map_at(p->maps, BN_MAP_pods, slot);

	return s ? __atomic_load_n(&s->word, __ATOMIC_RELAXED) : 0;
}

bool bn_pols_set_word(struct bn_pols *p, uint32_t slot, uint64_t word)
{
	struct bn_pod_slot *s = bn_map_at(p->maps, BN_MAP_pods, slot);

	if (!s || s->word == word)
		return false;
	__atomic_store_n(&s->word, word, __ATOMIC_RELEASE);
	p->stats.words++;
	p->stats.writes++;
	bn_pols_step(p);
	return true;
}

int bn_pols_set_cidr(struct bn_pols *p, const struct bn_lpm_key *k, uint32_t identity)
{
	int r = bn_map_put(p->maps, BN_MAP_cidrs, k, &identity);

	for (uint32_t i = 0; i < p->nold; i++)
		if (!memcmp(&p->old[i].key, k, sizeof(*k)))
			p->old[i].kept = true;
	p->stats.writes++;
	bn_pols_step(p);
	return r;
}

int bn_pols_del_cidr(struct bn_pols *p, const struct bn_lpm_key *k)
{
	int r = bn_map_del(p->maps, BN_MAP_cidrs, k);

	p->stats.writes++;
	bn_pols_step(p);
	return r == -ENOENT ? 0 : r;
}

static struct bn_state *state(const struct bn_pols *p)
{
	return bn_map_at(p->maps, BN_MAP_state, 0);
}

uint32_t bn_pols_epoch(const struct bn_pols *p)
{
	return __atomic_load_n(&state(p)->epoch, __ATOMIC_RELAXED);
}

void bn_pols_raise_epoch(struct bn_pols *p)
{
	uint32_t next = bn_pols_epoch(p) + 1;

	__atomic_store_n(&state(p)->epoch, next ? next : 1, __ATOMIC_RELEASE);
	p->stats.writes++;
}

int bn_pols_stat(const struct bn_pols *p, uint32_t rule, struct bn_rule_stat *ret)
{
	const struct bn_rule_stat *s = bn_map_at(p->maps, BN_MAP_rule_stats, rule);

	if (!s || !rule)
		return -ENOENT;
	ret->packets = __atomic_load_n(&s->packets, __ATOMIC_RELAXED);
	ret->connections = __atomic_load_n(&s->connections, __ATOMIC_RELAXED);
	return 0;
}

void bn_pols_stat_clear(struct bn_pols *p, uint32_t rule)
{
	struct bn_rule_stat *s = bn_map_at(p->maps, BN_MAP_rule_stats, rule);

	if (s && rule) {
		__atomic_store_n(&s->packets, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&s->connections, 0, __ATOMIC_RELAXED);
	}
}

uint32_t bn_pols_max_rules(const struct bn_pols *p)
{
	return p->maps->entries[BN_MAP_rule_stats];
}

void bn_pols_stats(const struct bn_pols *p, struct bn_pols_stats *ret)
{
	*ret = p->stats;
	ret->ports_free = bn_ranges_free(p->ports);
	ret->cells_free = bn_ranges_free(p->cells);
}
