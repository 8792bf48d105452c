/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_NET_NLMSG_H
#define BN_LOADER_NET_NLMSG_H

/* From rtnetlink messages to structs. Pure: bytes in, values out; nothing outside the message is
 * read, whatever its lengths say. Each returns 0, -EBADMSG for what cannot be, or -ENODATA for a
 * message that is well-formed and says nothing of interest (another family, an unknown type).
 */

#include <linux/if.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>

#include "maps/types.h"

struct bn_nl_link {
	uint32_t ifindex;
	uint16_t type;	/* ARPHRD_* */
	uint32_t flags; /* IFF_* */
	char name[IFNAMSIZ];
	char kind[16];	     /* "veth", "vxlan", ...; "" for hardware */
	char slave_kind[16]; /* of the master: "bridge", "bond", ... */
	char qdisc[16];	     /* the root one */
	uint8_t mac[6];	     /* all zero without Ethernet */
	uint32_t mtu;	     /* bytes; 0: it was not said */
	uint32_t master;     /* 0: none */
	uint32_t link; /* veth: the peer's ifindex in its own namespace; vlan: the lower device */
	int32_t link_nsid; /* the namespace `link` is in; -1: this one */
	bool xdp;	   /* some XDP program is attached */
};

struct bn_nl_addr {
	struct bn_addr addr;
	uint32_t ifindex;
	uint8_t prefix; /* 0..128, of the v4-mapped form */
	uint8_t scope;	/* RT_SCOPE_* */
	uint32_t flags; /* IFA_F_* */
};

#define BN_NL_OIFS 8

struct bn_nl_route {
	struct bn_addr dst;
	uint8_t prefix; /* of the v4-mapped form: an IPv4 default route has 96 */
	uint8_t type;	/* RTN_* */
	uint32_t table;
	bool gateway;
	uint8_t noifs; /* the first BN_NL_OIFS next hops */
	uint32_t oifs[BN_NL_OIFS];
	struct bn_addr prefsrc; /* all zero: none */
};

struct bn_nl_neigh {
	uint32_t ifindex; /* of the neighbour; fdb: of the bridge port */
	uint16_t state;	  /* NUD_* */
	bool fdb;
	bool local; /* fdb: an address of the port itself */
	bool has_mac;
	uint8_t mac[6];
	struct bn_addr addr; /* all zero for fdb entries */
};

int bn_nl_parse_link(const struct nlmsghdr *h, struct bn_nl_link *ret);
int bn_nl_parse_addr(const struct nlmsghdr *h, struct bn_nl_addr *ret);
int bn_nl_parse_route(const struct nlmsghdr *h, struct bn_nl_route *ret);
int bn_nl_parse_neigh(const struct nlmsghdr *h, struct bn_nl_neigh *ret);

bool bn_nl_is_host_route(const struct bn_nl_route *r); /* /32 or /128, straight to a device */
bool bn_nl_is_default_route(const struct bn_nl_route *r);

#endif
