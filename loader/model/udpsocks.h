/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_UDPSOCKS_H
#define BN_LOADER_MODEL_UDPSOCKS_H

/* Connected UDP sockets of the node's own processes. connect() gave them a backend, and the kernel never
 * asks again: when the backend leaves its service they would send to it for ever. (Those of pods are
 * packet flows, bpf/lib/sock.h; unconnected ones are asked at every datagram.)
 *
 * Each such socket is moved: the daemon borrows it from its process (pidfd_getfd) and connects it to the
 * frontend again, which gives it a backend of today; the process notices nothing. With no endpoint left it
 * is connected to the frontend itself (bn_sock_may_wait in bpf/lib/sock.h) and refused until one comes: then its
 * packets are translated like others, or, for a NodePort of this node, it is connected again. What cannot be
 * borrowed (another PID namespace, no CAP_SYS_PTRACE) is ended by SOCK_DESTROY: the process gets ECONNABORTED and
 * can begin again.
 */

#include <event2/event.h>

#include "loader/model/services.h"
#include "maps/maps.h"

struct bn_udpsocks;

struct bn_udpsocks_stats {
	uint64_t moved, ended, stuck; /* stuck: neither could be done */
};

/* For the network namespace that the daemon is in. What is handed in must live longer. */
int bn_udpsocks_new(struct event_base *base, const struct bn_maps *maps, const struct bn_services *s,
		    struct bn_udpsocks **ret);
void bn_udpsocks_freep(struct bn_udpsocks **u);

/* After the services were synced: looks, if a backend of UDP may have left since it looked last; at once,
 * or as soon as the look before is 50 ms old.
 */
void bn_udpsocks_sync(struct bn_udpsocks *u);

const struct bn_udpsocks_stats *bn_udpsocks_stats(const struct bn_udpsocks *u);

#endif
