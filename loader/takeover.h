/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_TAKEOVER_H
#define BN_LOADER_TAKEOVER_H

/* Taking over from kube-proxy with connections open. They were translated by the kernel's own conntrack
 * and go on so until they end: their bindings cannot be moved to our programs without packets meeting
 * both, and what meets both is given another port. So each is entered into our connection table as
 * BN_CT_F_FOREIGN: the programs judge and count its packets and do not write to them. The bindings work
 * while somebody has a nat chain: that is us then (bn_nft_keep_nat), until the last such flow has ended.
 *
 * Begins before the first program is attached, ends once the services are in the kernel; between the two,
 * packets that may belong to such a flow and have no entry are left to kube-proxy's rules.
 *
 * Not entered: connections that the node itself began (their packets meet our hooks after translation and
 * are direct flows there), ICMP, and what is no TCP, UDP or SCTP.
 */

#include <stdbool.h>

#include "maps/maps.h"

struct bn_takeover {
	const struct bn_maps *maps;
	bool under_way; /* between begin and end */
	bool keeping;	/* our nat chain is there */
	unsigned ticks; /* since it began, or since the last look */
};

/* first: no service of ours has been in force here yet, or the take-over was not finished. */
void bn_takeover_begin(struct bn_takeover *t, const struct bn_maps *maps, bool first);
/* The services are in the kernel. */
void bn_takeover_end(struct bn_takeover *t);
/* Now and then: lets go of the nat chain when no flow needs it. */
void bn_takeover_tick(struct bn_takeover *t);

/* For `bpfnet cleanup`: 1 when there was something to remove. */
int bn_takeover_cleanup(void);

#endif
