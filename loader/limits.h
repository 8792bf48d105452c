/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_LIMITS_H
#define BN_LOADER_LIMITS_H

/* What did not fit (packets refused because a table, a port range or a share of it is used up) is counted in the
 * kernel; here it is said in the log, each reason at most once a minute, with its number and what can be done.
 */

#include <jansson.h>
#include <stdint.h>

#include "maps/drop.h"
#include "maps/maps.h"

struct bn_limits {
	uint64_t seen[BN_DROP__MAX], said_ns[BN_DROP__MAX];
	uint64_t count[BN_DROP__MAX], last_ns[BN_DROP__MAX]; /* at the last tick, and when it last grew */
	bool primed; /* what was counted before this daemon is not news */
};

/* To be called about once a second. Returns how many reasons it has logged. */
int bn_limits_tick(struct bn_limits *l, const struct bn_maps *m, uint64_t now_ns);

/* Those that were met in the last ten minutes: [{"reason", "what", "packets" (since the maps were made),
 * "secondsAgo", "advice"}]
 */
json_t *bn_limits_json(const struct bn_limits *l, uint64_t now_ns);

#endif
