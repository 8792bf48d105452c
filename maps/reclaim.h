/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_RECLAIM_H
#define BN_MAPS_RECLAIM_H

/* Grace periods in the background: bn_maps_grace takes 5 to 20 ms, which the writer's loop does not
 * wait for. A thread does nothing else; the caller asks whether its ticket is through.
 */

#include <stdbool.h>
#include <stdint.h>

struct bn_reclaim;

int bn_reclaim_new(struct bn_reclaim **ret);
void bn_reclaim_freep(struct bn_reclaim **r); /* waits for a grace period that is under way */

/* What was unlinked before this call may be reused once bn_reclaim_done(ticket). */
uint64_t bn_reclaim_ask(struct bn_reclaim *r);
bool bn_reclaim_done(struct bn_reclaim *r, uint64_t ticket);
int bn_reclaim_wait(struct bn_reclaim *r, uint64_t ticket); /* the error of the grace period */

#endif
