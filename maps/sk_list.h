/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_SK_LIST_H
#define BN_MAPS_SK_LIST_H

/* The sockets that the socket hooks have translated for, of every network namespace, as the kernel knows
 * them at the moment of asking: map sk_peers can be read socket by socket only, so a program
 * (bpf/socks.bpf.c) walks it. A socket that is closed is not there any more.
 */

#include <stdbool.h>

#include "maps/maps.h"

struct bn_sk_list;

/* Loads the program once; needs CAP_BPF and CAP_PERFMON. */
int bn_sk_list_new(const struct bn_maps *m, struct bn_sk_list **ret);
void bn_sk_list_freep(struct bn_sk_list **l);

/* Calls fn for every such socket; stops at the first answer that is not 0 and returns it. */
typedef int (*bn_sk_fn)(const struct bn_sk_rec *r, void *data);
int bn_sk_each(const struct bn_sk_list *l, bn_sk_fn fn, void *data);

/* The frontend through which a socket is connected to where it is connected; NULL: directly. */
const struct bn_sk_peer *bn_sk_connected_by(const struct bn_sk_rec *r);

#endif
