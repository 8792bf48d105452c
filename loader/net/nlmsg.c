/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "loader/net/nlmsg.h"

#ifndef AF_INET
#define AF_INET	  2
#define AF_INET6  10
#define AF_BRIDGE 7
#endif

static size_t len_of(const struct nlattr *a)
{
	return mnl_attr_get_payload_len(a);
}

static int get_u32(const struct nlattr *a, uint32_t *ret)
{
	if (len_of(a) != sizeof(*ret))
		return -EBADMSG;
	*ret = mnl_attr_get_u32(a);
	return 0;
}

/* Too long a string is cut: names of kinds are only compared with short ones. */
static void get_str(const struct nlattr *a, char *buf, size_t size)
{
	size_t n = strnlen(mnl_attr_get_payload(a), len_of(a));

	if (n >= size)
		n = size - 1;
	memcpy(buf, mnl_attr_get_payload(a), n);
	buf[n] = '\0';
}

static int get_addr(const struct nlattr *a, uint8_t family, struct bn_addr *ret)
{
	__be32 v4;

	if (family == AF_INET && len_of(a) == 4) {
		memcpy(&v4, mnl_attr_get_payload(a), 4);
		bn_addr_v4(ret, v4);
		return 0;
	}
	if (family == AF_INET6 && len_of(a) == 16) {
		memcpy(ret, mnl_attr_get_payload(a), 16);
		return 0;
	}
	return -EBADMSG;
}

/* The kernel pads every attribute. libmnl takes the end of the last one to be padded: a message
 * that is not would have it read beyond.
 */
static bool head(const struct nlmsghdr *h, uint16_t type, uint16_t del, size_t size)
{
	return (h->nlmsg_type == type || h->nlmsg_type == del) &&
	       h->nlmsg_len >= NLMSG_HDRLEN + size && h->nlmsg_len % NLMSG_ALIGNTO == 0;
}

static int nested(const struct nlattr *nest, int (*fn)(const struct nlattr *a, void *data),
		  void *data)
{
	const struct nlattr *a;
	int r;

	mnl_attr_for_each_nested (a, nest) {
		r = fn(a, data);
		if (r < 0)
			return r;
	}
	return 0;
}

static int linkinfo(const struct nlattr *a, void *data)
{
	struct bn_nl_link *l = data;

	if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
		get_str(a, l->kind, sizeof(l->kind));
	else if (mnl_attr_get_type(a) == IFLA_INFO_SLAVE_KIND)
		get_str(a, l->slave_kind, sizeof(l->slave_kind));
	return 0;
}

static int linkxdp(const struct nlattr *a, void *data)
{
	struct bn_nl_link *l = data;

	if (mnl_attr_get_type(a) == IFLA_XDP_ATTACHED && len_of(a) == 1)
		l->xdp = mnl_attr_get_u8(a) != XDP_ATTACHED_NONE;
	return 0;
}

static int link_attr(const struct nlattr *a, struct bn_nl_link *l)
{
	uint32_t u;
	int r = 0;

	switch (mnl_attr_get_type(a)) {
	case IFLA_IFNAME:
		get_str(a, l->name, sizeof(l->name));
		break;
	case IFLA_ADDRESS:
		if (len_of(a) == 6)
			memcpy(l->mac, mnl_attr_get_payload(a), 6);
		break;
	case IFLA_QDISC:
		get_str(a, l->qdisc, sizeof(l->qdisc));
		break;
	case IFLA_MTU:
		r = get_u32(a, &l->mtu);
		break;
	case IFLA_MASTER:
		r = get_u32(a, &l->master);
		break;
	case IFLA_LINK:
		r = get_u32(a, &l->link);
		break;
	case IFLA_LINK_NETNSID:
		r = get_u32(a, &u);
		if (!r)
			l->link_nsid = (int32_t)u < 0 ? -1 : (int32_t)u;
		break;
	case IFLA_LINKINFO:
		r = nested(a, linkinfo, l);
		break;
	case IFLA_XDP:
		r = nested(a, linkxdp, l);
		break;
	case IFLA_WIRELESS: /* an event of a driver that says little else */
		return -ENODATA;
	}
	return r;
}

int bn_nl_parse_link(const struct nlmsghdr *h, struct bn_nl_link *ret)
{
	struct bn_nl_link l = {.link_nsid = -1};
	const struct ifinfomsg *ifi;
	const struct nlattr *a;
	int r;

	if (!head(h, RTM_NEWLINK, RTM_DELLINK, sizeof(*ifi)))
		return -EBADMSG;
	ifi = mnl_nlmsg_get_payload(h);
	/* A bridge announces its ports, and their leaving, as links of family AF_BRIDGE. */
	if (ifi->ifi_family != 0)
		return -ENODATA;
	if (ifi->ifi_index <= 0)
		return -EBADMSG;
	l.ifindex = ifi->ifi_index;
	l.type = ifi->ifi_type;
	l.flags = ifi->ifi_flags;
	mnl_attr_for_each (a, h, sizeof(*ifi)) {
		r = link_attr(a, &l);
		if (r < 0)
			return r;
	}
	if (l.type != ARPHRD_ETHER && l.type != ARPHRD_LOOPBACK)
		memset(l.mac, 0, sizeof(l.mac));
	*ret = l;
	return 0;
}

int bn_nl_parse_addr(const struct nlmsghdr *h, struct bn_nl_addr *ret)
{
	const struct ifaddrmsg *ifa;
	struct bn_nl_addr n = {};
	bool have = false, local = false;
	const struct nlattr *a;
	int r = 0;

	if (!head(h, RTM_NEWADDR, RTM_DELADDR, sizeof(*ifa)))
		return -EBADMSG;
	ifa = mnl_nlmsg_get_payload(h);
	if (ifa->ifa_family != AF_INET && ifa->ifa_family != AF_INET6)
		return -ENODATA;
	if (ifa->ifa_prefixlen > (ifa->ifa_family == AF_INET ? 32 : 128) || !ifa->ifa_index)
		return -EBADMSG;
	n.ifindex = ifa->ifa_index;
	n.prefix = ifa->ifa_prefixlen + (ifa->ifa_family == AF_INET ? 96 : 0);
	n.scope = ifa->ifa_scope;
	n.flags = ifa->ifa_flags;
	mnl_attr_for_each (a, h, sizeof(*ifa)) {
		/* On a point-to-point link IFA_ADDRESS is the other end. */
		if (mnl_attr_get_type(a) == IFA_LOCAL) {
			r = get_addr(a, ifa->ifa_family, &n.addr);
			have = local = true;
		} else if (mnl_attr_get_type(a) == IFA_ADDRESS && !local) {
			r = get_addr(a, ifa->ifa_family, &n.addr);
			have = true;
		} else if (mnl_attr_get_type(a) == IFA_FLAGS) {
			r = get_u32(a, &n.flags);
		}
		if (r < 0)
			return r;
	}
	if (!have)
		return -EBADMSG;
	*ret = n;
	return 0;
}

static void add_oif(struct bn_nl_route *rt, uint32_t oif)
{
	if (oif && rt->noifs < BN_NL_OIFS)
		rt->oifs[rt->noifs++] = oif;
}

static int multipath(const struct nlattr *nest, struct bn_nl_route *rt)
{
	const char *p = mnl_attr_get_payload(nest);
	size_t left = len_of(nest), n;
	struct rtnexthop nh;

	while (left >= sizeof(nh)) {
		memcpy(&nh, p, sizeof(nh));
		if (nh.rtnh_len < sizeof(nh) || nh.rtnh_len > left)
			return -EBADMSG;
		add_oif(rt, nh.rtnh_ifindex > 0 ? nh.rtnh_ifindex : 0);
		rt->gateway |= nh.rtnh_len > sizeof(nh); /* a gateway or an encapsulation */
		n = RTNH_ALIGN(nh.rtnh_len);
		if (n >= left)
			break;
		p += n;
		left -= n;
	}
	return 0;
}

static int route_attr(const struct nlattr *a, uint8_t family, struct bn_nl_route *rt)
{
	uint32_t oif;
	int r;

	switch (mnl_attr_get_type(a)) {
	case RTA_DST:
		return get_addr(a, family, &rt->dst);
	case RTA_PREFSRC:
		return get_addr(a, family, &rt->prefsrc);
	case RTA_GATEWAY:
	case RTA_VIA:
		rt->gateway = true;
		return 0;
	case RTA_TABLE:
		return get_u32(a, &rt->table);
	case RTA_OIF:
		r = get_u32(a, &oif);
		if (!r)
			add_oif(rt, oif);
		return r;
	case RTA_MULTIPATH:
		return multipath(a, rt);
	}
	return 0;
}

int bn_nl_parse_route(const struct nlmsghdr *h, struct bn_nl_route *ret)
{
	const struct rtmsg *rtm;
	struct bn_nl_route rt = {};
	const struct nlattr *a;
	int r;

	if (!head(h, RTM_NEWROUTE, RTM_DELROUTE, sizeof(*rtm)))
		return -EBADMSG;
	rtm = mnl_nlmsg_get_payload(h);
	if ((rtm->rtm_family != AF_INET && rtm->rtm_family != AF_INET6) ||
	    rtm->rtm_flags & RTM_F_CLONED)
		return -ENODATA;
	if (rtm->rtm_dst_len > (rtm->rtm_family == AF_INET ? 32 : 128))
		return -EBADMSG;
	rt.prefix = rtm->rtm_dst_len + (rtm->rtm_family == AF_INET ? 96 : 0);
	if (rtm->rtm_family == AF_INET)
		bn_addr_v4(&rt.dst, 0);
	rt.type = rtm->rtm_type;
	rt.table = rtm->rtm_table;
	mnl_attr_for_each (a, h, sizeof(*rtm)) {
		r = route_attr(a, rtm->rtm_family, &rt);
		if (r < 0)
			return r;
	}
	*ret = rt;
	return 0;
}

int bn_nl_parse_neigh(const struct nlmsghdr *h, struct bn_nl_neigh *ret)
{
	struct bn_nl_neigh n = {};
	const struct nlattr *a;
	const struct ndmsg *nd;
	int r = 0;

	if (!head(h, RTM_NEWNEIGH, RTM_DELNEIGH, sizeof(*nd)))
		return -EBADMSG;
	nd = mnl_nlmsg_get_payload(h);
	if (nd->ndm_family != AF_INET && nd->ndm_family != AF_INET6 && nd->ndm_family != AF_BRIDGE)
		return -ENODATA;
	if (nd->ndm_ifindex <= 0)
		return -EBADMSG;
	n.ifindex = nd->ndm_ifindex;
	n.state = nd->ndm_state;
	n.fdb = nd->ndm_family == AF_BRIDGE;
	n.local = n.fdb && nd->ndm_state & NUD_PERMANENT;
	mnl_attr_for_each (a, h, sizeof(*nd)) {
		if (mnl_attr_get_type(a) == NDA_LLADDR && len_of(a) == 6) {
			memcpy(n.mac, mnl_attr_get_payload(a), 6);
			n.has_mac = true;
		} else if (mnl_attr_get_type(a) == NDA_DST && !n.fdb) {
			r = get_addr(a, nd->ndm_family, &n.addr);
		}
		if (r < 0)
			return r;
	}
	*ret = n;
	return 0;
}

bool bn_nl_is_host_route(const struct bn_nl_route *r)
{
	return r->type == RTN_UNICAST && r->prefix == 128 && !r->gateway && r->noifs == 1;
}

bool bn_nl_is_default_route(const struct bn_nl_route *r)
{
	return r->type == RTN_UNICAST && r->prefix == (bn_addr_is_v4(&r->dst) ? 96 : 0);
}
