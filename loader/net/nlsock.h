/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_NET_NLSOCK_H
#define BN_LOADER_NET_NLSOCK_H

/* Netlink sockets: one that asks and waits for the answer, one that follows multicast. They belong
 * to the network namespace the process is in when they are opened.
 */

#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/net/nlmsg.h"

struct bn_nl;

/* protocol: NETLINK_ROUTE, NETLINK_NETFILTER. */
int bn_nl_open(int protocol, struct bn_nl **ret);
void bn_nl_freep(struct bn_nl **s);

/* Sends the request (its sequence number and flags NLM_F_REQUEST are set here) and gives every
 * answer to fn, until the end or a negative return of fn, which is returned. A dump that was
 * interrupted by a change is begun again; fn must bear to see an object twice. -ETIMEDOUT when the
 * kernel says nothing for seconds.
 */
typedef int (*bn_nl_fn)(const struct nlmsghdr *h, void *data);
int bn_nl_call(struct bn_nl *s, struct nlmsghdr *req, bn_nl_fn fn, void *data);

/* Dumps of RTM_GETLINK, GETADDR, GETROUTE, GETNEIGH; family 0: all. nsid >= 0: of that namespace.
 */
int bn_nl_dump(struct bn_nl *s, uint16_t type, uint8_t family, int32_t nsid, bn_nl_fn fn,
	       void *data);
/* One link, of another namespace when nsid >= 0. */
int bn_nl_get_link(struct bn_nl *s, uint32_t ifindex, int32_t nsid, struct bn_nl_link *ret);
/* Where a packet of this host to the address would leave. type: RTN_LOCAL, RTN_UNICAST, ... */
int bn_nl_get_route(struct bn_nl *s, const struct bn_addr *to, struct bn_nl_route *ret);

/* A non-blocking socket that is a member of the groups (RTNLGRP_*, 0 ends the list). all_nsid: also
 * of the namespaces that have an id here.
 */
int bn_nl_monitor(const uint32_t *groups, bool all_nsid);
/* Reads what is there, at most `budget` datagrams. fn gets the id of the namespace, -1 for ours. 0;
 * 1 when there may be more; -ENOBUFS when notifications were lost.
 */
typedef void (*bn_nl_event_fn)(const struct nlmsghdr *h, int32_t nsid, void *data);
int bn_nl_monitor_read(int fd, unsigned budget, bn_nl_event_fn fn, void *data);

#endif
