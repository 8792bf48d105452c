/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_SVC_ACCESS_H
#define BN_MAPS_SVC_ACCESS_H

/* The one writer and reader of the service maps in user space (fronts, svcs, slots, src_ranges,
 * svc_names). It mirrors what the maps hold, owner (service) by owner, and turns "this is what the
 * owner wants" into the fewest writes, in an order that never shows a reader a mixture:
 *
 *   new slots -> new record -> front;  or new slots -> one store of the range word
 *   front gone -> its record is cleared -> record, slots and source sets wait for a grace period
 *
 * Nothing is handed out again before bn_maps_grace() has returned; waits are put off and shared by
 * thousands of changes. Opening adopts what is there, so that a restart writes only differences.
 */

#include <stdbool.h>
#include <stdint.h>

#include "maps/maps.h"

struct bn_svcmap;
struct bn_svc_owner;

/* Reads everything. Read-only maps give a mirror that can be listed. -ENOMEM and what bn_map_each
 * says; contradictions (a daemon killed between two writes, damage) are kept aside, see broken.
 */
int bn_svcmap_open(struct bn_maps *maps, struct bn_svcmap **ret);
void bn_svcmap_freep(struct bn_svcmap **m);

/* Removes what opening found broken or without an owner's record: stale fronts, address entries and
 * names. Before the first write of a daemon. 0 or the first error.
 */
int bn_svcmap_repair(struct bn_svcmap *m);

/* --- what an owner wants --------------------------------------------------------------------- */

/* A backend list as it will lie in slots: the range, then members (maps/svc.h); v[0].members is set
 * by the callee. n > 0; 1 with BN_BE_F_NONE for a list that drops.
 */
struct bn_want_list {
	struct bn_backend *v;
	uint32_t n, members;
};

enum {
	BN_WANT_REJECT = -1,
	BN_WANT_DROP = -2,
};

struct bn_want_front {
	struct bn_front_key key;
	uint32_t flags; /* BN_SVC_F_* */
	uint32_t affinity_s;
	uint32_t port;	    /* index of ports */
	int list, list_int; /* index of lists, or BN_WANT_*; list_int counts only with SPLIT */
};

struct bn_want_port {
	const char *name;
	uint8_t proto;
};

struct bn_want_src {
	struct bn_addr addr;
	uint32_t prefix; /* 0..128 */
};

struct bn_svc_want {
	uint8_t type; /* enum bn_svc_type */
	uint32_t nports, nlists, nfronts, nsrc;
	const struct bn_want_port *ports; /* affinity and names are per port */
	const struct bn_want_list *lists;
	const struct bn_want_front
		*fronts;	 /* keys are unique; of no other owner, or taken from it */
	struct bn_want_src *src; /* of fronts with BN_SVC_F_SRC_RANGES; sorted in place */
};

struct bn_svc_applied {
	uint32_t refused; /* fronts that are not in force as wanted: no room (the rest is) */
	int error;	  /* of the first of them: -ENOSPC, -E2BIG, -ENOMEM */
};

/* The owner by "namespace/name"; NULL when there is none (find) or no memory (get). */
struct bn_svc_owner *bn_svcmap_find(const struct bn_svcmap *m, const char *name);
struct bn_svc_owner *bn_svcmap_get(struct bn_svcmap *m, const char *name);
const char *bn_svc_owner_name(const struct bn_svc_owner *o);

/* Who has a frontend now; NULL: nobody. */
struct bn_svc_owner *bn_svcmap_holder(const struct bn_svcmap *m, const struct bn_front_key *key);

/* May a UDP flow of this node through the frontend stay with the backend? (The kernel's answer to the same
 * question is bn_svc_still of bpf/lib/svc.h.) False also when there is no such frontend.
 */
bool bn_svcmap_keeps(const struct bn_svcmap *m, const struct bn_front_key *key,
		     const struct bn_addr *addr, __be16 port);

/* Does the frontend have a backend for new connections of this node? */
bool bn_svcmap_serves(const struct bn_svcmap *m, const struct bn_front_key *key);

/* Makes the owner's part of the maps what it wants; adds first, then removes. An owner without
 * frontends is freed: do not use it afterwards. want NULL: nothing.
 */
int bn_svcmap_apply(struct bn_svcmap *m, struct bn_svc_owner *o, const struct bn_svc_want *want,
		    struct bn_svc_applied *ret);

/* Frees what has waited for a grace period, and asks for the next one if enough waits for it: to be called after
 * each batch of changes, never waits. force: waits (5 to 20 ms) and frees all.
 */
void bn_svcmap_reclaim(struct bn_svcmap *m, bool force);

/* --- reading --------------------------------------------------------------------------------- */

struct bn_svc_view {
	const char *name; /* "namespace/name" */
	const char *port_name;
	uint8_t type;
	uint32_t idx;
	const struct bn_svc *svc;	    /* in the map itself */
	const struct bn_backend *v, *v_int; /* v_int: with SPLIT */
	uint32_t n, n_int;
	bool drop, drop_int; /* nobody to choose: DROP; without it an empty list is REJECT */
};

typedef int (*bn_svc_view_fn)(const struct bn_svc_view *v, void *data);

/* All fronts, owners in order of name, fronts of an owner by port, kind, family and key; or those
 * of one owner. Stops at the first non-zero answer and returns it.
 */
int bn_svcmap_each(const struct bn_svcmap *m, bn_svc_view_fn fn, void *data);
int bn_svcmap_each_of(const struct bn_svcmap *m, const struct bn_svc_owner *o, bn_svc_view_fn fn,
		      void *data);
/* Calls fn for every owner; fn must not apply. */
int bn_svcmap_owners(const struct bn_svcmap *m,
		     int (*fn)(struct bn_svc_owner *o, const char *name, void *data), void *data);
/* "namespace/name" of a record index, NULL: none. */
const char *bn_svcmap_name_of(const struct bn_svcmap *m, uint32_t idx);

struct bn_svcmap_stats {
	uint64_t owners, fronts, service_ports, records_used, records_max;
	uint64_t slots_used, slots_free, slots_pending, slots_max, largest_free;
	uint64_t writes, graces, compactions, broken;
};
void bn_svcmap_stats(const struct bn_svcmap *m, struct bn_svcmap_stats *ret);

/* Tests: another wait instead of grace periods in the background. */
void bn_svcmap_set_grace(struct bn_svcmap *m, int (*grace)(void *data), void *data);

#endif
