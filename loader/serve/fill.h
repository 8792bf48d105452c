/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_FILL_H
#define BN_LOADER_FILL_H

/* How full the maps are: bpfnet_map_entries{map} beside bpfnet_map_max_entries{map}.
 *
 * The kernel does not count the elements of a hash: that takes a walk. A map is walked again only when
 * BN_FILL_IDLE times the duration of its last walk has passed (and 5 s), so that being scraped costs
 * less than a hundredth of a CPU whatever the size of the cluster. Of the connection table a
 * random sample is counted.
 */

#include "loader/serve/metrics.h"
#include "maps/maps.h"

#define BN_FILL_IDLE 200

/* Registers the collector. maps must outlive m's last exposition; the state is freed by
 * bn_fill_freep, after which m must not be exposed any more.
 */
struct bn_fill;
int bn_fill_metrics(struct bn_metrics *m, const struct bn_maps *maps, struct bn_fill **ret);
void bn_fill_freep(struct bn_fill **f);

#endif
