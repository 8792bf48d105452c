/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_POL_ACCESS_H
#define BN_MAPS_POL_ACCESS_H

/* Typed access to the compiled policies: the only user-side writer of pols, pol_ports, pol_peers,
 * pol_cells, rule_stats, cidrs, pods[].word and state.epoch.
 *
 * A compiled policy is written in full before a word may name it, and its id, ports and cells are
 * used again only after a grace period. What an earlier daemon left in force (what pods' words
 * name) is adopted by bn_pols_new: it stays as it is until it is retired; everything else that it
 * left is swept.
 */

#include <stdbool.h>
#include <stddef.h>

#include "maps/ep.h"
#include "maps/maps.h"
#include "maps/policy.h"

struct bn_pols;

/* Borrows maps. */
int bn_pols_new(struct bn_maps *maps, struct bn_pols **ret);
void bn_pols_freep(struct bn_pols **p); /* the maps stay as they are */

/* --- compiled policies ------------------------------------------------------------------------ */

struct bn_pol_def {
	uint16_t nports, nclasses, default_row, flags;
	uint32_t nrows, row_room;    /* rows written now, rows reserved */
	const uint32_t *ports;	     /* BN_PORT_START, ascending */
	const struct bn_cell *cells; /* nrows * nclasses */
	size_t npeers;
	const uint32_t *identities, *rows; /* npeers of each */
};

/* Writes it; no pod has it yet. -ENOSPC: some map is full (also after waiting for what is being
 * reclaimed); bn_pols_full names it.
 */
int bn_pols_add(struct bn_pols *p, const struct bn_pol_def *def, uint32_t *ret);
const char *bn_pols_full(const struct bn_pols *p);
int bn_pols_set_flags(struct bn_pols *p, uint32_t id, uint16_t flags);
/* row < row_room and not yet in use by a peer. */
int bn_pols_put_row(struct bn_pols *p, uint32_t id, uint32_t row, const struct bn_cell *cells);
int bn_pols_put_peer(struct bn_pols *p, uint32_t id, uint32_t identity, uint32_t row);
int bn_pols_del_peer(struct bn_pols *p, uint32_t id, uint32_t identity);
/* No word names it any more: everything of it is given back after a grace period. */
void bn_pols_retire(struct bn_pols *p, uint32_t id);

/* --- grace periods ---------------------------------------------------------------------------- */

/* Ends a batch of changes: what was retired so far is reclaimed in the background. Returns a
 * ticket. */
uint64_t bn_pols_seal(struct bn_pols *p);
bool bn_pols_passed(struct bn_pols *p, uint64_t ticket);
int bn_pols_wait(struct bn_pols *p, uint64_t ticket);
/* Takes back what has passed. Cheap when nothing has. */
int bn_pols_reclaim(struct bn_pols *p);
bool bn_pols_waiting(const struct bn_pols *p);

/* --- words, prefixes, epoch, counters --------------------------------------------------------- */

uint64_t bn_pols_word(const struct bn_pols *p, uint32_t slot);
/* One store. True when it changed something. */
bool bn_pols_set_word(struct bn_pols *p, uint32_t slot, uint64_t word);
uint32_t bn_pols_slots(const struct bn_pols *p); /* entries of pods */

int bn_pols_set_cidr(struct bn_pols *p, const struct bn_lpm_key *k, uint32_t identity);
int bn_pols_del_cidr(struct bn_pols *p, const struct bn_lpm_key *k); /* 0 also when there is none */

void bn_pols_raise_epoch(struct bn_pols *p);
uint32_t bn_pols_epoch(const struct bn_pols *p);

int bn_pols_stat(const struct bn_pols *p, uint32_t rule, struct bn_rule_stat *ret);
void bn_pols_stat_clear(struct bn_pols *p, uint32_t rule);
uint32_t bn_pols_max_rules(const struct bn_pols *p);

/* --- what was adopted ------------------------------------------------------------------------- */

/* Prefixes that were there at the start. */
int bn_pols_each_old_cidr(const struct bn_pols *p,
			  int (*fn)(const struct bn_lpm_key *k, uint32_t identity, void *data),
			  void *data);
/* Identities in rows of adopted policies; the same one may be told more than once. */
int bn_pols_each_old_identity(const struct bn_pols *p, int (*fn)(uint32_t identity, void *data),
			      void *data);
/* `identity` is to be judged by adopted policies as they judge `old`. */
int bn_pols_alias(struct bn_pols *p, uint32_t identity, uint32_t old);
/* Adopted policies that no word names any more are retired (stats.adopted: those that are left);
 * prefixes that were not set since the start are deleted.
 */
int bn_pols_adopt_done(struct bn_pols *p);

/* For tests: fn is called after each step that a packet could fall behind (a store, a system call).
 */
void bn_pols_set_step(struct bn_pols *p, void (*fn)(void *data), void *data);
void bn_pols_step(const struct bn_pols *p);

struct bn_pols_stats {
	uint32_t policies, adopted;
	uint32_t ports_free, cells_free;
	uint64_t peers;
	uint64_t writes, words, graces;
};
void bn_pols_stats(const struct bn_pols *p, struct bn_pols_stats *ret);

#endif
