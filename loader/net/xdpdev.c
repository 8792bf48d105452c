// SPDX-License-Identifier: MIT
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "loader/net/nlsock.h"
#include "loader/net/xdpdev.h"
#include "maps/util.h"

/* linux/netdev.h, which the build's headers may not have */
#define NETDEV_FAMILY	       "netdev"
#define NETDEV_DEV_GET	       1
#define NETDEV_DEV_IFINDEX     1
#define NETDEV_DEV_XDP_FEATURES 3

static int on_family(const struct nlmsghdr *h, void *data)
{
	const struct nlattr *a;

	mnl_attr_for_each (a, h, sizeof(struct genlmsghdr))
		if (mnl_attr_get_type(a) == CTRL_ATTR_FAMILY_ID && mnl_attr_get_payload_len(a) == 2)
			*(uint16_t *)data = mnl_attr_get_u16(a);
	return 0;
}

static struct nlmsghdr *request(void *buf, uint16_t type, uint16_t flags, uint8_t cmd)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct genlmsghdr *g;

	h->nlmsg_type = type;
	h->nlmsg_flags = flags;
	g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	g->cmd = cmd;
	g->version = 1;
	return h;
}

struct devices {
	struct bn_xdp_dev *v;
	size_t n, room;
};

static int on_device(const struct nlmsghdr *h, void *data)
{
	struct bn_xdp_dev dev = {};
	struct devices *d = data;
	const struct nlattr *a;

	mnl_attr_for_each (a, h, sizeof(struct genlmsghdr)) {
		if (mnl_attr_get_type(a) == NETDEV_DEV_IFINDEX && mnl_attr_get_payload_len(a) == 4)
			dev.ifindex = mnl_attr_get_u32(a);
		else if (mnl_attr_get_type(a) == NETDEV_DEV_XDP_FEATURES &&
			 mnl_attr_get_payload_len(a) == 8)
			dev.can = mnl_attr_get_u64(a);
	}
	if (!dev.ifindex)
		return 0;
	if (d->n == d->room) {
		size_t room = d->room ? d->room * 2 : 64;
		struct bn_xdp_dev *v = reallocarray(d->v, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		d->v = v;
		d->room = room;
	}
	d->v[d->n++] = dev;
	return 0;
}

static int by_index(const void *a, const void *b)
{
	const struct bn_xdp_dev *p = a, *q = b;

	return (p->ifindex > q->ifindex) - (p->ifindex < q->ifindex);
}

int bn_xdp_devices(struct bn_xdp_dev **ret, size_t *n)
{
	_cleanup_(bn_nl_freep) struct bn_nl *nl = NULL;
	struct devices d = {};
	uint16_t family = 0;
	char buf[256] = {};
	struct nlmsghdr *h;
	int r;

	r = bn_nl_open(NETLINK_GENERIC, &nl);
	if (r < 0)
		return r;
	h = request(buf, GENL_ID_CTRL, NLM_F_ACK, CTRL_CMD_GETFAMILY);
	mnl_attr_put_strz(h, CTRL_ATTR_FAMILY_NAME, NETDEV_FAMILY);
	r = bn_nl_call(nl, h, on_family, &family);
	if (r < 0 || !family)
		return -EOPNOTSUPP;
	memset(buf, 0, sizeof(buf));
	r = bn_nl_call(nl, request(buf, family, NLM_F_DUMP, NETDEV_DEV_GET), on_device, &d);
	if (r < 0) {
		free(d.v);
		return r;
	}
	if (d.n)
		qsort(d.v, d.n, sizeof(*d.v), by_index);
	*ret = d.v;
	*n = d.n;
	return 0;
}

/* --- ethtool ---------------------------------------------------------------------------------- */

static int ethtool(int fd, const char *ifname, void *arg)
{
	struct ifreq req = {.ifr_data = arg};

	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", ifname);
	return ioctl(fd, SIOCETHTOOL, &req) < 0 ? -errno : 0;
}

static uint32_t nfeatures(int fd, const char *ifname)
{
	struct {
		struct ethtool_sset_info info;
		uint32_t n;
	} q = {.info = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ULL << ETH_SS_FEATURES}};

	return ethtool(fd, ifname, &q) < 0 || !q.info.sset_mask ? 0 : q.n;
}

bool bn_xdp_costs_offloads(const char *ifname)
{
	_cleanup_(closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	_cleanup_(freep) struct ethtool_gfeatures *f = NULL;
	_cleanup_(freep) struct ethtool_gstrings *s = NULL;
	uint32_t n = fd < 0 ? 0 : nfeatures(fd, ifname), words = (n + 31) / 32, i;

	if (!n || n > 4096)
		return false;
	s = calloc(1, sizeof(*s) + n * ETH_GSTRING_LEN);
	f = calloc(1, sizeof(*f) + words * sizeof(f->features[0]));
	if (!s || !f)
		return false;
	*s = (struct ethtool_gstrings){ETHTOOL_GSTRINGS, ETH_SS_FEATURES, n};
	*f = (struct ethtool_gfeatures){ETHTOOL_GFEATURES, words};
	if (ethtool(fd, ifname, s) < 0 || ethtool(fd, ifname, f) < 0)
		return false;
	for (i = 0; i < n && i / 32 < f->size; i++) {
		const char *name = (const char *)s->data + i * ETH_GSTRING_LEN;

		if ((f->features[i / 32].active >> i % 32 & 1) &&
		    (!strncmp(name, "rx-lro", ETH_GSTRING_LEN) ||
		     !strncmp(name, "rx-gro-hw", ETH_GSTRING_LEN)))
			return true;
	}
	return false;
}
