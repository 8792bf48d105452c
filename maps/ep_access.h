/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_EP_ACCESS_H
#define BN_MAPS_EP_ACCESS_H

/* The registry of exact addresses over the maps addrs and eps: the only writer of both.
 *
 * Several models know something of an address. Each owns its own fields of the entry, none needs to
 * know of the others; the entry exists while any of them has set something:
 *
 *   BN_EPS_IDENTITY  policies   identity, flags POD and NODE
 *   BN_EPS_LOCAL     endpoints  slot, ifindex, mac of a pod of this node
 *   BN_EPS_HOST      endpoints  flags HOST and NODEPORT: an address of this node
 *
 * Promises to the readers in the kernel: identity and slot change with one store; ifindex and mac
 * never change under a slot (the address moves to a new index instead); an index names another
 * address only after a grace period. An address of this node without an identity of its own is
 * BN_ID_HOST; a local pod's address that the policies have not named yet is BN_ID_UNKNOWN.
 *
 * What is pinned is adopted by bn_eps_new and stays in force, owner by owner, until that owner has
 * set it again or called bn_eps_settle. Setting what is there already writes nothing.
 */

#include <stdbool.h>
#include <stddef.h>

#include "maps/ep.h"
#include "maps/util.h"

struct bn_maps;
struct bn_eps;

enum bn_eps_owner {
	BN_EPS_IDENTITY,
	BN_EPS_LOCAL,
	BN_EPS_HOST,
	BN_EPS_OWNER__MAX,
};

struct bn_ep_local {
	uint32_t slot;	  /* index of pods, not 0 */
	uint32_t ifindex; /* host side of the pod's interface */
	uint8_t mac[6];	  /* the pod's own, all zero when unknown */
};

/* Borrows maps. Broken entries (an index out of range or of another address) are removed. */
int bn_eps_new(struct bn_maps *maps, struct bn_eps **ret);
void bn_eps_freep(struct bn_eps **e); /* the maps stay as they are */

/* All return 0; -ENOSPC when the map is full; -EINVAL; or the error of the kernel.
 *
 * identity must not be BN_ID_UNKNOWN; flags: of BN_ADDR_F_POD and BN_ADDR_F_NODE.
 */
int bn_eps_set_identity(struct bn_eps *e, const struct bn_addr *a, uint32_t identity,
			uint16_t flags);
int bn_eps_set_local(struct bn_eps *e, const struct bn_addr *a, const struct bn_ep_local *l);
int bn_eps_set_host(struct bn_eps *e, const struct bn_addr *a, bool nodeport);

/* Gives up the owner's fields; 0 also when it had none. */
int bn_eps_clear(struct bn_eps *e, const struct bn_addr *a, enum bn_eps_owner owner);

/* The owner has now set everything that it wants: what it only adopted goes. */
int bn_eps_settle(struct bn_eps *e, enum bn_eps_owner owner);

/* -ENOENT when nobody owns anything of it. */
int bn_eps_get(const struct bn_eps *e, const struct bn_addr *a, struct bn_ep *ret);
/* Whether this owner has (or has adopted) something of the address. */
bool bn_eps_owns(const struct bn_eps *e, const struct bn_addr *a, enum bn_eps_owner owner);
int bn_eps_each(const struct bn_eps *e, int (*fn)(const struct bn_ep *ep, void *data), void *data);

size_t bn_eps_count(const struct bn_eps *e);
uint64_t bn_eps_writes(const struct bn_eps *e); /* stores and system calls that changed a map */

#endif
