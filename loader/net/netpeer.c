/* SPDX-License-Identifier: MIT */
/* The other end of a veth, in its own namespace. */
#include <linux/rtnetlink.h>
#include <string.h>

#include "loader/net/netstate.h"
#include "maps/util.h"

static int peer_addr(const struct nlmsghdr *h, void *data)
{
	struct bn_ns_peer *p = data;
	struct bn_nl_addr a;
	uint32_t i;

	if (bn_nl_parse_addr(h, &a) < 0 || a.scope >= RT_SCOPE_LINK)
		return 0;
	for (i = 0; i < p->naddrs; i++)
		if (bn_addr_eq(&p->addrs[i].addr, &a.addr))
			return 0;
	if (p->naddrs < BN_NS_MAX_PEER_ADDRS)
		p->addrs[p->naddrs++] = a;
	return 0;
}

int bn_netstate_ask_peer(struct bn_netstate *n, const struct bn_nl_link *l, struct bn_ns_peer *ret)
{
	_cleanup_(bn_ns_peer_done) struct bn_ns_peer p = {};
	struct bn_nl *nl = bn_netstate_nl(n);
	struct bn_nl_link peer;
	int r;

	if (l->link_nsid < 0 || !l->link)
		return -ENOENT;
	r = bn_nl_get_link(nl, l->link, l->link_nsid, &peer);
	if (r < 0)
		return r;
	memcpy(p.mac, peer.mac, sizeof(p.mac));
	p.port = peer.master != 0;
	p.addrs = calloc(BN_NS_MAX_PEER_ADDRS, sizeof(*p.addrs));
	if (!p.addrs)
		return -ENOMEM;
	r = bn_nl_dump(nl, RTM_GETADDR, 0, l->link_nsid, peer_addr, &p);
	if (r < 0)
		return r;
	*ret = p;
	p.addrs = NULL;
	return 0;
}

void bn_ns_peer_done(struct bn_ns_peer *p)
{
	freep(&p->addrs);
	p->naddrs = 0;
}
