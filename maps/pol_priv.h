/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_POL_PRIV_H
#define BN_MAPS_POL_PRIV_H

/* Inside of pol_access: pol_access.c writes, pol_adopt.c takes over what an earlier daemon left. */

#include "maps/pol_access.h"
#include "maps/ranges.h"
#include "maps/reclaim.h"

struct bn_pol_peer {
	uint32_t identity, row;
};

/* What this process knows of a policy id. */
struct bn_pol_own {
	bool used, adopted, retired;
	uint64_t ticket; /* retired: 0 before the seal */
	uint32_t npeers, cap;
	struct bn_pol_peer *peers;
};

struct bn_pol_old_cidr {
	struct bn_lpm_key key;
	uint32_t identity;
	bool kept; /* set again since the start */
};

struct bn_pols {
	struct bn_maps *maps;
	struct bn_reclaim *reclaim;
	struct bn_ranges *ports, *cells;
	struct bn_pol_own *own; /* by id */
	uint32_t next_id, nwaiting;
	bool unsealed;
	uint64_t ticket;
	const char *full;
	uint32_t nold, old_cap;
	struct bn_pol_old_cidr *old;
	struct bn_pols_stats stats;
	void (*step)(void *data);
	void *step_data;
};

int bn_pol_note_peer(struct bn_pols *p, uint32_t id, uint32_t identity, uint32_t row);

#endif
