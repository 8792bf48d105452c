/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_NET_NETSTATE_H
#define BN_LOADER_NET_NETSTATE_H

/* A mirror of this namespace's links, addresses and routes, kept by multicast and read anew in full
 * when notifications were lost. It knows nothing of pods. Readers look at the arrays; they are
 * valid until control returns to the event loop or bn_netstate_refresh is called.
 */

#include <stddef.h>

#include "loader/net/nlsock.h"

struct event_base;
struct bn_netstate;

struct bn_ns_link {
	struct bn_nl_link l;
	uint32_t gen; /* another one: the interface went and came again under the same index */
};

struct bn_ns_hroute { /* host route to a device of this node */
	struct bn_addr addr;
	uint32_t oif;
};

enum {
	BN_NS_LINKS = 1 << 0,
	BN_NS_ADDRS = 1 << 1,
	BN_NS_HROUTES = 1 << 2,
	BN_NS_ROUTES = 1 << 3,
	BN_NS_PEERS = 1 << 4, /* an address changed in a watched namespace */
};

/* what: BN_NS_*. Called from the event loop; nsid is that of BN_NS_PEERS, else -1. */
typedef void (*bn_netstate_fn)(unsigned what, int32_t nsid, void *data);

/* base NULL: nothing is followed (one-shot readers, tests). */
int bn_netstate_new(struct event_base *base, bn_netstate_fn fn, void *data,
		    struct bn_netstate **ret);
void bn_netstate_freep(struct bn_netstate **n);

/* Reads the routes again if they changed. Cheap when they did not. */
int bn_netstate_refresh(struct bn_netstate *n);

size_t bn_netstate_links(const struct bn_netstate *n, const struct bn_ns_link **ret); /* by index */
const struct bn_ns_link *bn_netstate_link(const struct bn_netstate *n, uint32_t ifindex);
size_t bn_netstate_addrs(const struct bn_netstate *n, const struct bn_nl_addr **ret);
size_t bn_netstate_hroutes(const struct bn_netstate *n, const struct bn_ns_hroute **ret);
/* The device of the host route to the address, 0: none. */
uint32_t bn_netstate_hroute(const struct bn_netstate *n, const struct bn_addr *a);
/* Unicast routes that are no host routes; at most BN_NS_MAX_ROUTES, default routes always. */
#define BN_NS_MAX_ROUTES 16384
size_t bn_netstate_routes(const struct bn_netstate *n, const struct bn_nl_route **ret);

/* The socket for questions. */
struct bn_nl *bn_netstate_nl(struct bn_netstate *n);
uint64_t bn_netstate_resyncs(const struct bn_netstate *n);

/* Addresses of a peer namespace, and the MAC and addresses of the peer itself. */
struct bn_ns_peer {
	uint8_t mac[6]; /* of the peer; all zero: unknown */
	bool port;	/* it has a master there (a bridge) */
	uint32_t naddrs;
	struct bn_nl_addr *addrs; /* global ones only; at most BN_NS_MAX_PEER_ADDRS */
};
#define BN_NS_MAX_PEER_ADDRS 256
int bn_netstate_ask_peer(struct bn_netstate *n, const struct bn_nl_link *l, struct bn_ns_peer *ret);
void bn_ns_peer_done(struct bn_ns_peer *p);

/* Whether changes of addresses in peers' namespaces are told (BN_NS_PEERS). Off at first. */
int bn_netstate_watch_peers(struct bn_netstate *n, bool on);

#endif
