/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_POD_ACCESS_H
#define BN_MAPS_POD_ACCESS_H

/* Typed access to the maps ifaces and pods: the interfaces that programs are attached to, and the
 * slots of this node's pods. Only writer of ifaces and of pods[].ifindex; pods[].word belongs to the
 * policies (maps/pol_access.h).
 *
 * A slot belongs to one pod; all its interfaces name it, pods[].ifindex is the one it was made for.
 * After a restart the same interface finds the same slot: what is pinned in ifaces is adopted. A
 * slot that was given back is handed out again only after a grace period, with word 0.
 */

#include <stdbool.h>
#include <stddef.h>

#include "maps/ep.h"
#include "maps/util.h"

struct bn_maps;
struct bn_pods;

/* Borrows maps. */
int bn_pods_new(struct bn_maps *maps, struct bn_pods **ret);
void bn_pods_freep(struct bn_pods **p);

/* -ENOENT; what is in force for an interface, also when it was only adopted. */
int bn_pods_iface(const struct bn_pods *p, uint32_t ifindex, struct bn_iface *ret);
int bn_pods_each_iface(const struct bn_pods *p,
		       int (*fn)(uint32_t ifindex, const struct bn_iface *i, void *data),
		       void *data);

/* Writes when something differs. i->ifindex is set here. */
int bn_pods_set_iface(struct bn_pods *p, uint32_t ifindex, const struct bn_iface *i);
int bn_pods_del_iface(struct bn_pods *p, uint32_t ifindex); /* 0 also when there is none */

/* A free slot for the interface, with word 0 (which is open: bn_policies_slot closes it before any
 * map names the slot); -ENOSPC.
 */
int bn_pods_alloc(struct bn_pods *p, uint32_t ifindex, uint32_t *ret);
/* No map names the slot any more (eps and ifaces were changed before). What the slot says stays
 * until it is handed out again: a packet that is on its way is judged as before.
 */
void bn_pods_release(struct bn_pods *p, uint32_t slot);

/* state.node4 and node6; NULL or all zero: none. */
void bn_pods_set_node(struct bn_pods *p, const struct bn_addr *v4, const struct bn_addr *v6);

size_t bn_pods_used(const struct bn_pods *p);
uint64_t bn_pods_writes(const struct bn_pods *p);

#endif
