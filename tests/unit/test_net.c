/* SPDX-License-Identifier: MIT */
/* Netlink messages and CNI cache files: what they say, and what hostile bytes do. Every input
 * stands in memory of exactly its size, so that ASan sees a byte read too many.
 */
#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loader/net/cnicache.h"
#include "loader/net/nlmsg.h"
#include "maps/util.h"

static uint64_t seed = 88172645463325252ull;

static uint32_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed >> 16;
}

static struct nlmsghdr *begin(char *buf, uint16_t type, const void *body, size_t len)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

	h->nlmsg_type = type;
	memcpy(mnl_nlmsg_put_extra_header(h, len), body, len);
	return h;
}

static struct nlmsghdr *link_msg(char *buf)
{
	struct ifinfomsg ifi = {.ifi_type = ARPHRD_ETHER, .ifi_index = 7, .ifi_flags = 1};
	struct nlmsghdr *h = begin(buf, RTM_NEWLINK, &ifi, sizeof(ifi));
	struct nlattr *n;

	mnl_attr_put_strz(h, IFLA_IFNAME, "veth0");
	mnl_attr_put(h, IFLA_ADDRESS, 6, "\2\0\0\0\0\1");
	mnl_attr_put_strz(h, IFLA_QDISC, "noqueue");
	mnl_attr_put_u32(h, IFLA_LINK, 2);
	mnl_attr_put_u32(h, IFLA_LINK_NETNSID, 3);
	mnl_attr_put_u32(h, IFLA_MASTER, 9);
	n = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
	mnl_attr_put_strz(h, IFLA_INFO_SLAVE_KIND, "bridge");
	mnl_attr_nest_end(h, n);
	n = mnl_attr_nest_start(h, IFLA_XDP);
	mnl_attr_put_u8(h, IFLA_XDP_ATTACHED, XDP_ATTACHED_DRV);
	mnl_attr_nest_end(h, n);
	return h;
}

static struct nlmsghdr *addr_msg(char *buf, bool v6)
{
	struct ifaddrmsg ifa = {.ifa_family = v6 ? AF_INET6 : AF_INET,
				.ifa_prefixlen = v6 ? 64 : 24,
				.ifa_index = 7};
	struct nlmsghdr *h = begin(buf, RTM_NEWADDR, &ifa, sizeof(ifa));

	if (v6) {
		mnl_attr_put(h, IFA_ADDRESS, 16, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\5");
	} else {
		mnl_attr_put(h, IFA_ADDRESS, 4, "\12\0\0\11"); /* the other end of a tunnel */
		mnl_attr_put(h, IFA_LOCAL, 4, "\12\0\0\5");
	}
	mnl_attr_put_u32(h, IFA_FLAGS, 0x80);
	return h;
}

static struct nlmsghdr *route_msg(char *buf, bool multi)
{
	struct rtmsg rtm = {.rtm_family = AF_INET,
			    .rtm_dst_len = multi ? 16 : 32,
			    .rtm_type = RTN_UNICAST,
			    .rtm_table = RT_TABLE_MAIN};
	struct nlmsghdr *h = begin(buf, RTM_NEWROUTE, &rtm, sizeof(rtm));
	struct {
		struct rtnexthop nh;
		struct nlattr gw;
		char addr[4];
	} hops[2] = {
		{{sizeof(hops[0]), 0, 0, 4}, {8, RTA_GATEWAY}, "\12\0\0\1"},
		{{sizeof(hops[0]), 0, 0, 5}, {8, RTA_GATEWAY}, "\12\0\0\2"},
	};

	mnl_attr_put(h, RTA_DST, 4, multi ? "\12\1\0\0" : "\12\1\0\5");
	mnl_attr_put_u32(h, RTA_TABLE, 254);
	if (multi)
		mnl_attr_put(h, RTA_MULTIPATH, sizeof(hops), hops);
	else
		mnl_attr_put_u32(h, RTA_OIF, 7);
	return h;
}

static struct nlmsghdr *neigh_msg(char *buf, bool fdb)
{
	struct ndmsg nd = {.ndm_family = fdb ? AF_BRIDGE : AF_INET,
			   .ndm_ifindex = 7,
			   .ndm_state = NUD_REACHABLE};
	struct nlmsghdr *h = begin(buf, RTM_NEWNEIGH, &nd, sizeof(nd));

	mnl_attr_put(h, NDA_LLADDR, 6, "\2\0\0\0\0\1");
	if (!fdb)
		mnl_attr_put(h, NDA_DST, 4, "\12\0\0\5");
	return h;
}

static bool is_addr(const struct bn_addr *a, const char *text)
{
	struct bn_addr b = {};
	__be32 v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		bn_addr_v4(&b, v4);
	else
		assert_int_equal(inet_pton(AF_INET6, text, &b), 1);
	return bn_addr_eq(a, &b);
}

static void links(void **state _unused_)
{
	char buf[1024] = {};
	struct nlmsghdr *h = link_msg(buf);
	struct ifinfomsg *ifi = mnl_nlmsg_get_payload(h);
	struct bn_nl_link l;

	assert_int_equal(bn_nl_parse_link(h, &l), 0);
	assert_int_equal(l.ifindex, 7);
	assert_string_equal(l.name, "veth0");
	assert_string_equal(l.kind, "veth");
	assert_string_equal(l.slave_kind, "bridge");
	assert_string_equal(l.qdisc, "noqueue");
	assert_int_equal(l.link, 2);
	assert_int_equal(l.link_nsid, 3);
	assert_int_equal(l.master, 9);
	assert_int_equal(l.mac[5], 1);
	assert_true(l.xdp);
	/* A port that leaves its bridge is announced as a link of family AF_BRIDGE that goes. */
	h->nlmsg_type = RTM_DELLINK;
	ifi->ifi_family = AF_BRIDGE;
	assert_int_equal(bn_nl_parse_link(h, &l), -ENODATA);
	ifi->ifi_family = 0;
	ifi->ifi_index = -1;
	assert_int_equal(bn_nl_parse_link(h, &l), -EBADMSG);
	h->nlmsg_type = RTM_NEWADDR;
	assert_int_equal(bn_nl_parse_link(h, &l), -EBADMSG);
}

static void addrs(void **state _unused_)
{
	char buf[1024] = {};
	struct ifaddrmsg *ifa;
	struct nlmsghdr *h;
	struct bn_nl_addr a;

	assert_int_equal(bn_nl_parse_addr(addr_msg(buf, false), &a), 0);
	assert_true(is_addr(&a.addr, "10.0.0.5"));
	assert_int_equal(a.prefix, 96 + 24);
	assert_int_equal(a.flags, 0x80);
	memset(buf, 0, sizeof(buf));
	h = addr_msg(buf, true);
	assert_int_equal(bn_nl_parse_addr(h, &a), 0);
	assert_true(is_addr(&a.addr, "fd00::5"));
	assert_int_equal(a.prefix, 64);
	ifa = mnl_nlmsg_get_payload(h);
	ifa->ifa_prefixlen = 129;
	assert_int_equal(bn_nl_parse_addr(h, &a), -EBADMSG);
	ifa->ifa_family = AF_INET; /* 16 bytes of an IPv4 address */
	ifa->ifa_prefixlen = 24;
	assert_int_equal(bn_nl_parse_addr(h, &a), -EBADMSG);
	ifa->ifa_family = AF_PACKET;
	assert_int_equal(bn_nl_parse_addr(h, &a), -ENODATA);
}

static void routes(void **state _unused_)
{
	char buf[1024] = {};
	struct bn_nl_route r;

	assert_int_equal(bn_nl_parse_route(route_msg(buf, false), &r), 0);
	assert_true(is_addr(&r.dst, "10.1.0.5"));
	assert_true(bn_nl_is_host_route(&r));
	assert_int_equal(r.oifs[0], 7);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(bn_nl_parse_route(route_msg(buf, true), &r), 0);
	assert_int_equal(r.prefix, 96 + 16);
	assert_int_equal(r.noifs, 2);
	assert_int_equal(r.oifs[1], 5);
	assert_true(r.gateway);
	assert_false(bn_nl_is_host_route(&r));
	assert_false(bn_nl_is_default_route(&r));
}

static void neighs(void **state _unused_)
{
	char buf[1024] = {};
	struct bn_nl_neigh n;

	assert_int_equal(bn_nl_parse_neigh(neigh_msg(buf, false), &n), 0);
	assert_true(is_addr(&n.addr, "10.0.0.5"));
	assert_true(n.has_mac && !n.fdb);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(bn_nl_parse_neigh(neigh_msg(buf, true), &n), 0);
	assert_true(n.fdb && n.has_mac && !n.local);
}

static int parse_any(const struct nlmsghdr *h)
{
	struct bn_nl_link l;
	struct bn_nl_addr a;
	struct bn_nl_route r;
	struct bn_nl_neigh n;
	int ok = 0;

	ok += bn_nl_parse_link(h, &l) == 0;
	ok += bn_nl_parse_addr(h, &a) == 0;
	ok += bn_nl_parse_route(h, &r) == 0;
	ok += bn_nl_parse_neigh(h, &n) == 0;
	return ok;
}

/* Cut anywhere, any bytes changed, lengths most of all: no byte beyond the message is read. */
static void hostile_messages(void **state _unused_)
{
	char buf[1024];
	int i, k, parsed = 0, refused = 0;

	for (i = 0; i < 200000; i++) {
		_cleanup_(freep) struct nlmsghdr *h = NULL;
		struct nlmsghdr *m;
		uint32_t len;

		memset(buf, 0, sizeof(buf));
		switch (i % 4) {
		case 0:
			m = link_msg(buf);
			break;
		case 1:
			m = addr_msg(buf, i & 4);
			break;
		case 2:
			m = route_msg(buf, i & 4);
			break;
		default:
			m = neigh_msg(buf, i & 4);
		}
		len = rnd() % 4 ? m->nlmsg_len
				: NLMSG_HDRLEN + rnd() % (m->nlmsg_len - NLMSG_HDRLEN);
		h = malloc(len);
		assert_non_null(h);
		memcpy(h, m, len);
		for (k = rnd() % 4; k > 0 && len > NLMSG_HDRLEN; k--)
			((uint8_t *)h)[NLMSG_HDRLEN + rnd() % (len - NLMSG_HDRLEN)] = rnd();
		h->nlmsg_len = len; /* what mnl_nlmsg_ok has made sure of */
		if (parse_any(h))
			parsed++;
		else
			refused++;
	}
	assert_true(parsed > 1000);
	assert_true(refused > 1000);
}

static const char cached[] =
	"{\"kind\":\"cniCacheV1\",\"containerId\":\"c1\",\"config\":\"e30=\",\"ifName\":\"eth0\","
	"\"networkName\":\"n\",\"cniArgs\":[[\"IgnoreUnknown\",\"1\"],[\"K8S_POD_NAMESPACE\",\"d\"]"
	","
	"[\"K8S_POD_NAME\",\"web-0\"]],\"result\":{\"cniVersion\":\"1.1.0\",\"interfaces\":["
	"{\"name\":\"cni0\",\"mac\":\"02:00:00:00:00:01\"},{\"name\":\"veth1\"},"
	"{\"name\":\"eth0\",\"sandbox\":\"/run/netns/x\",\"mtu\":1450}],"
	"\"ips\":[{\"address\":\"10.1.0.5/24\",\"gateway\":\"10.1.0.1\",\"interface\":2},"
	"{\"address\":\"fd00:1::5/64\",\"interface\":2}],\"dns\":{}}}";

static void cache(void **state _unused_)
{
	static const char *const none[] = {
		"{}",
		"{\"kind\":\"cniCacheV2\"}",
		"{\"kind\":1}",
		"{\"kind\":\"cniCacheV1\",\"ifName\":\"eth0\",\"cniArgs\":null,\"result\":{}}",
		"{\"kind\":\"cniCacheV1\",\"ifName\":\"eth0\",\"cniArgs\":[[\"K8S_POD_NAMESPACE\"],"
		"\"x\",[],[1,2],[\"K8S_POD_NAME\",\"a b/../c\"]],\"result\":{}}",
	};
	struct bn_cni_entry e;
	size_t i;

	assert_int_equal(bn_cni_parse(cached, strlen(cached), &e), 0);
	assert_string_equal(e.ns, "d");
	assert_string_equal(e.pod, "web-0");
	assert_string_equal(e.ifname, "eth0");
	assert_int_equal(e.nhostifs, 2);
	assert_string_equal(e.hostifs[1], "veth1");
	assert_int_equal(e.naddrs, 2);
	assert_true(is_addr(&e.addrs[0], "10.1.0.5"));
	assert_true(is_addr(&e.addrs[1], "fd00:1::5"));
	for (i = 0; i < ARRAY_SIZE(none); i++)
		assert_int_equal(bn_cni_parse(none[i], strlen(none[i]), &e), -ENODATA);
	assert_int_equal(bn_cni_parse("[", 1, &e), -EINVAL);
	assert_int_equal(bn_cni_parse("", 0, &e), -EINVAL);
}

static void hostile_cache(void **state _unused_)
{
	static const char bytes[] = "{}[]\",:0\\/\0\xff";
	size_t n = strlen(cached);
	struct bn_cni_entry e;
	int i, k, good = 0;

	for (i = 0; i < 20000; i++) {
		size_t len = rnd() % 3 ? n : rnd() % n;
		_cleanup_(freep) char *t = malloc(len + 1);

		assert_non_null(t);
		memcpy(t, cached, len);
		for (k = rnd() % 3; k > 0 && len; k--)
			t[rnd() % len] =
				rnd() % 2 ? bytes[rnd() % (sizeof(bytes) - 1)] : (char)rnd();
		if (bn_cni_parse(t, len, &e))
			continue;
		good++;
		assert_true(e.ns[0] && e.pod[0] && e.ifname[0]);
		assert_true(memchr(e.pod, 0, sizeof(e.pod)) && !strchr(e.pod, '/'));
		assert_true(e.naddrs <= BN_CNI_ADDRS && e.nhostifs <= BN_CNI_HOSTIFS);
	}
	assert_true(good > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(links),
		cmocka_unit_test(addrs),
		cmocka_unit_test(routes),
		cmocka_unit_test(neighs),
		cmocka_unit_test(hostile_messages),
		cmocka_unit_test(cache),
		cmocka_unit_test(hostile_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
