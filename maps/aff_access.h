/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_AFF_ACCESS_H
#define BN_MAPS_AFF_ACCESS_H

/* Session affinity as people want to see it. Read only. */

#include "maps/maps.h"

/* The service port that a frontend belongs to, as the affinity's keys name it; affinity_s 0: it has none.
 * -ENOENT: no such frontend.
 */
int bn_aff_of(const struct bn_maps *m, const struct bn_front_key *key, uint32_t *svc_id,
	      uint32_t *affinity_s);

struct bn_aff_entry {
	struct bn_addr client; /* zero: all processes of the network namespace */
	uint32_t netns;	       /* low bits of its cookie, with a client of zero */
	struct bn_addr backend;
	__be16 port;
	uint32_t svc_id, idle_s;
};

/* Calls fn for every entry, aged ones included; stops at the first answer that is not 0. */
int bn_aff_each(const struct bn_maps *m, int (*fn)(const struct bn_aff_entry *e, void *data), void *data);

#endif
