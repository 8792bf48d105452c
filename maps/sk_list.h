/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_SK_LIST_H
#define BN_MAPS_SK_LIST_H

/* The sockets that the socket hooks have translated for, of every network namespace, as the kernel knows
 * them at the moment of asking: map sk_peers can be read socket by socket only, so a program
 * (bpf/socks.bpf.c) walks it. A socket that is closed is not there any more.
 *
 * Those that have a place in map sk_tcp instead (TCP) are found by the open
 * files of all tasks of the caller's PID namespace.
 */

#include <stdbool.h>

#include "maps/maps.h"

struct bn_sk_list;

/* Loads the programs once; needs CAP_BPF and CAP_PERFMON. `all`: else connected UDP is what the caller is looking
 * for, and map sk_peers alone is walked.
 */
int bn_sk_list_new(const struct bn_maps *m, bool all, struct bn_sk_list **ret);
void bn_sk_list_freep(struct bn_sk_list **l);

/* Calls fn for every such socket, once; stops at the first answer that is not 0 and returns it. */
typedef int (*bn_sk_fn)(const struct bn_sk_rec *r, void *data);
int bn_sk_each(const struct bn_sk_list *l, bn_sk_fn fn, void *data);

/* The frontend that a socket is connected to as it is, though it had a backend of it before; else NULL. */
const struct bn_sk_peer *bn_sk_waits_for(const struct bn_sk_rec *r);

/* The frontend through which a socket is connected to where it is connected; NULL: directly. */
const struct bn_sk_peer *bn_sk_connected_by(const struct bn_sk_rec *r);

#endif
