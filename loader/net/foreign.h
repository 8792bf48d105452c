/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_NET_FOREIGN_H
#define BN_LOADER_NET_FOREIGN_H

/* What others have put where packets between pods and the rest pass: asked before the host's stack
 * is skipped. Errs towards "something is there". Loads no kernel module and creates no table.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/net/nlsock.h"

/* Is there a netfilter rule or a dropping policy that a forwarded packet would meet in this
 * namespace? nftables (ip, ip6, inet: prerouting, forward, postrouting; bridge and netdev: any
 * hook) and the legacy tables. why, if not NULL, gets a few words about the first that was found.
 */
bool bn_foreign_netfilter(char *why, size_t size);

struct bn_foreign_qdisc {
	uint32_t ifindex;
	bool shaped; /* a root discipline that delays, orders or drops; or a classic ingress one */
	bool clsact; /* may hold filters */
};

/* All devices; *ret is an array of *n, sorted by ifindex, to be freed. */
int bn_foreign_qdiscs(struct bn_nl *nl, struct bn_foreign_qdisc **ret, size_t *n);

/* Programs (tcx) or filters (clsact, when there is one) on the device that are not bpfnet's. */
bool bn_foreign_filters(struct bn_nl *nl, uint32_t ifindex, bool clsact);

#endif
