/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_HTTP_ACCESS_H
#define BN_MAPS_HTTP_ACCESS_H

/* Typed access to the HTTP maps (maps/http_conn.h). Rule sets belong to the daemon: which ids are free, and
 * when a set that no policy names any more may go (a connection whose request is in progress still uses it),
 * is its business. Functions return 0 or a negative errno.
 */

#include <stddef.h>
#include <stdint.h>

#include "maps/http_conn.h"

struct bn_maps;

struct bn_http_image {
	const struct bn_http_tab *tab;
	const uint16_t *cells;
	const uint64_t *words;
	size_t ncells, nwords;
	uint32_t gen;	 /* not 0; another one than that of the set that had the id before */
	uint32_t stats;	 /* first of 2 + tab->nmatches http_stats, 0: none */
	uint64_t digest; /* of the caller */
};

/* Bytes of kernel memory that the set takes. */
size_t bn_http_set_size(const struct bn_http_image *i);

/* Makes n sets, whole before any program can see them. The kernel waits for a grace period (5 to 20 ms) once
 * for all of them where it has batches, else for each. -E2BIG: larger than BN_HTTP_SET_BYTES_MAX.
 */
int bn_http_sets_put(const struct bn_maps *m, const uint32_t *ids, const struct bn_http_image *images, uint32_t n);
int bn_http_set_del(const struct bn_maps *m, uint32_t id); /* 0 also when there is none */

/* What is in force under an id: its header. -ENOENT. */
int bn_http_set_get(const struct bn_maps *m, uint32_t id, struct bn_http_set *ret);
/* The same for every set that is there; s is NULL for one of another layout. */
int bn_http_sets_each(const struct bn_maps *m, int (*fn)(uint32_t id, const struct bn_http_set *s, void *data),
		      void *data);

/* Requests counted under an index of http_stats, and its reset (for a range that is given to another set). */
uint64_t bn_http_stat(const struct bn_maps *m, uint32_t index);
void bn_http_stat_clear(const struct bn_maps *m, uint32_t index);
/* Requests by enum bn_http_reason, BN_HTTP_OK: allowed ones, of all CPUs. */
int bn_http_reason_counts(const struct bn_maps *m, uint64_t ret[BN_HTTP__MAX]);
/* The same of what audit let pass. */
int bn_http_audit_counts(const struct bn_maps *m, uint64_t ret[BN_HTTP__MAX]);
/* What the pod with this slot takes of the room, 0: all pods. All zero where there is no such slot. */
struct bn_http_share bn_http_share_get(const struct bn_maps *m, uint32_t slot);
/* The slot is to be another pod's: connections of the one that is gone, which may have ended without a word, and what
 * they keep, go. Programs may be at work on others. What cannot be read stays, and is counted on.
 */
int bn_http_share_reset(const struct bn_maps *m, uint32_t slot);
/* Connections followed now: a walk. */
int64_t bn_http_conns_count(const struct bn_maps *m);

#endif
