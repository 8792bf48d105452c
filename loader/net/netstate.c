/* SPDX-License-Identifier: MIT */
#include <event2/event.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "loader/log.h"
#include "loader/net/netstate.h"

#define READ_BUDGET	256 /* datagrams before others get their turn */
#define ROUTES_PAUSE_MS 200 /* between two readings of the routes */
#define PEERS_PAUSE_MS                                                                             \
	50 /* after so many notifications from pods' namespaces that more are waiting */

struct bn_netstate {
	struct event_base *base;
	bn_netstate_fn fn;
	void *data;
	struct bn_nl *nl;
	struct bn_ns_link *links;
	struct bn_nl_addr *addrs;
	struct bn_ns_hroute *hroutes;
	struct bn_nl_route *routes;
	size_t nlinks, alinks, naddrs, aaddrs, nhroutes, ahroutes, nroutes, aroutes;
	uint32_t gen;
	bool routes_stale, routes_cut;
	int mon_fd, peer_fd;
	struct event *mon_ev, *peer_ev, *peer_pause_ev, *routes_ev;
	uint64_t resyncs;
	unsigned changed; /* BN_NS_*: while a batch of notifications is read */
};

/* Room for one more element; the array may move. */
static int room(void *arrayp, size_t n, size_t *alloc, size_t size)
{
	void **array = arrayp, *p;

	if (n < *alloc)
		return 0;
	p = realloc(*array, (*alloc * 2 + 64) * size);
	if (!p)
		return -ENOMEM;
	*array = p;
	*alloc = *alloc * 2 + 64;
	return 0;
}

/* --- links: sorted by index ------------------------------------------------------------------ */

static size_t link_pos(const struct bn_netstate *n, uint32_t ifindex)
{
	size_t lo = 0, hi = n->nlinks;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (n->links[mid].l.ifindex < ifindex)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const struct bn_ns_link *bn_netstate_link(const struct bn_netstate *n, uint32_t ifindex)
{
	size_t at = link_pos(n, ifindex);

	return at < n->nlinks && n->links[at].l.ifindex == ifindex ? &n->links[at] : NULL;
}

static int link_put(struct bn_netstate *n, const struct bn_nl_link *l)
{
	size_t at = link_pos(n, l->ifindex);
	int r;

	if (at < n->nlinks && n->links[at].l.ifindex == l->ifindex) {
		struct bn_ns_link *have = &n->links[at];

		if (!memcmp(&have->l, l, sizeof(*l)))
			return 0;
		if (strcmp(have->l.kind, l->kind) || have->l.type != l->type)
			have->gen = ++n->gen;
		have->l = *l;
		n->changed |= BN_NS_LINKS;
		return 0;
	}
	r = room(&n->links, n->nlinks, &n->alinks, sizeof(*n->links));
	if (r < 0)
		return r;
	memmove(&n->links[at + 1], &n->links[at], (n->nlinks - at) * sizeof(*n->links));
	n->links[at] = (struct bn_ns_link){*l, ++n->gen};
	n->nlinks++;
	n->changed |= BN_NS_LINKS;
	return 0;
}

/* One end of a veth pair left for another namespace: nobody announces that the other end now has
 * its peer there.
 */
static void link_reread_peer(struct bn_netstate *n, uint32_t gone)
{
	struct bn_nl_link l;
	size_t i;

	for (i = 0; i < n->nlinks; i++) {
		const struct bn_nl_link *o = &n->links[i].l;

		if (o->link == gone && o->link_nsid < 0 && !strcmp(o->kind, "veth")) {
			if (!bn_nl_get_link(n->nl, o->ifindex, -1, &l))
				link_put(n, &l);
			return;
		}
	}
}

static void link_del(struct bn_netstate *n, uint32_t ifindex)
{
	size_t at = link_pos(n, ifindex), i, k;

	if (at == n->nlinks || n->links[at].l.ifindex != ifindex)
		return;
	memmove(&n->links[at], &n->links[at + 1], (n->nlinks - at - 1) * sizeof(*n->links));
	n->nlinks--;
	for (i = k = 0; i < n->naddrs; i++)
		if (n->addrs[i].ifindex != ifindex)
			n->addrs[k++] = n->addrs[i];
	n->naddrs = k;
	/* The kernel drops IPv4 routes of a device that goes without a word. */
	for (i = k = 0; i < n->nhroutes; i++)
		if (n->hroutes[i].oif != ifindex)
			n->hroutes[k++] = n->hroutes[i];
	n->nhroutes = k;
	n->routes_stale = true;
	n->changed |= BN_NS_LINKS | BN_NS_ADDRS;
	link_reread_peer(n, ifindex);
}

/* --- addresses ------------------------------------------------------------------------------- */

static int addr_put(struct bn_netstate *n, const struct bn_nl_addr *a, bool del)
{
	size_t i;
	int r;

	for (i = 0; i < n->naddrs; i++)
		if (n->addrs[i].ifindex == a->ifindex && n->addrs[i].prefix == a->prefix &&
		    bn_addr_eq(&n->addrs[i].addr, &a->addr))
			break;
	if (i < n->naddrs && !del && !memcmp(&n->addrs[i], a, sizeof(*a)))
		return 0;
	if (i == n->naddrs) {
		if (del)
			return 0;
		r = room(&n->addrs, n->naddrs, &n->aaddrs, sizeof(*n->addrs));
		if (r < 0)
			return r;
		n->naddrs++;
	}
	if (del)
		n->addrs[i] = n->addrs[--n->naddrs];
	else
		n->addrs[i] = *a;
	n->changed |= BN_NS_ADDRS;
	return 0;
}

/* --- routes ---------------------------------------------------------------------------------- */

static int hroute_cmp(const struct bn_addr *a, const struct bn_addr *b)
{
	return memcmp(a, b, sizeof(*a));
}

static size_t hroute_pos(const struct bn_netstate *n, const struct bn_addr *a)
{
	size_t lo = 0, hi = n->nhroutes;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (hroute_cmp(&n->hroutes[mid].addr, a) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

uint32_t bn_netstate_hroute(const struct bn_netstate *n, const struct bn_addr *a)
{
	size_t at = hroute_pos(n, a);

	return at < n->nhroutes && bn_addr_eq(&n->hroutes[at].addr, a) ? n->hroutes[at].oif : 0;
}

static int hroute_put(struct bn_netstate *n, const struct bn_nl_route *rt, bool del)
{
	size_t at = hroute_pos(n, &rt->dst);
	bool have = at < n->nhroutes && bn_addr_eq(&n->hroutes[at].addr, &rt->dst);
	int r;

	if (del) {
		if (!have || n->hroutes[at].oif != rt->oifs[0])
			return 0;
		memmove(&n->hroutes[at], &n->hroutes[at + 1],
			(n->nhroutes - at - 1) * sizeof(*n->hroutes));
		n->nhroutes--;
	} else if (have) {
		if (n->hroutes[at].oif == rt->oifs[0])
			return 0;
		n->hroutes[at].oif = rt->oifs[0];
	} else {
		r = room(&n->hroutes, n->nhroutes, &n->ahroutes, sizeof(*n->hroutes));
		if (r < 0)
			return r;
		memmove(&n->hroutes[at + 1], &n->hroutes[at],
			(n->nhroutes - at) * sizeof(*n->hroutes));
		n->hroutes[at] = (struct bn_ns_hroute){rt->dst, rt->oifs[0]};
		n->nhroutes++;
	}
	n->changed |= BN_NS_HROUTES;
	return 0;
}

static bool route_of_interest(const struct bn_nl_route *rt)
{
	return rt->type == RTN_UNICAST && rt->table != RT_TABLE_LOCAL && rt->noifs &&
	       !(rt->dst.b[0] == 0xfe && (rt->dst.b[1] & 0xc0) == 0x80) && /* link-local */
	       rt->dst.b[0] != 0xff;
}

static int route_read(const struct nlmsghdr *h, void *data)
{
	struct bn_netstate *n = data;
	struct bn_nl_route rt;
	int r;

	if (bn_nl_parse_route(h, &rt) < 0 || !route_of_interest(&rt))
		return 0;
	if (bn_nl_is_host_route(&rt))
		return hroute_put(n, &rt, false);
	if (n->nroutes >= BN_NS_MAX_ROUTES && !bn_nl_is_default_route(&rt)) {
		n->routes_cut = true;
		return 0;
	}
	r = room(&n->routes, n->nroutes, &n->aroutes, sizeof(*n->routes));
	if (r < 0)
		return r;
	n->routes[n->nroutes++] = rt;
	return 0;
}

static int routes_read(struct bn_netstate *n)
{
	bool cut = n->routes_cut;
	int r;

	n->routes_stale = false;
	n->nroutes = n->nhroutes = 0;
	n->routes_cut = false;
	n->changed |= BN_NS_ROUTES | BN_NS_HROUTES;
	r = bn_nl_dump(n->nl, RTM_GETROUTE, 0, -1, route_read, n);
	if (n->routes_cut && !cut)
		log_warn("more than %d routes: uplinks are found from the first of them; name the "
			 "others "
			 "with --devices",
			 BN_NS_MAX_ROUTES);
	if (r < 0)
		n->routes_stale = true;
	return r;
}

int bn_netstate_refresh(struct bn_netstate *n)
{
	struct timeval pause = {.tv_usec = ROUTES_PAUSE_MS * 1000};

	if (!n->routes_stale || (n->routes_ev && evtimer_pending(n->routes_ev, NULL)))
		return 0;
	if (n->routes_ev)
		evtimer_add(n->routes_ev, &pause);
	return routes_read(n);
}

/* --- reading and following ------------------------------------------------------------------- */

static int link_read(const struct nlmsghdr *h, void *data)
{
	struct bn_nl_link l;

	return bn_nl_parse_link(h, &l) < 0 ? 0 : link_put(data, &l);
}

static int addr_read(const struct nlmsghdr *h, void *data)
{
	struct bn_nl_addr a;

	return bn_nl_parse_addr(h, &a) < 0 ? 0 : addr_put(data, &a, false);
}

static int seen_link(const struct nlmsghdr *h, void *data)
{
	struct bn_netstate *n = data;
	struct bn_nl_link l;
	size_t at;

	if (bn_nl_parse_link(h, &l) < 0)
		return 0;
	at = link_pos(n, l.ifindex);
	if (at < n->nlinks && n->links[at].l.ifindex == l.ifindex)
		n->links[at].l.flags |= 1u << 31; /* mark; link_put writes it anew */
	return 0;
}

/* Those that are still there keep their generation: their programs and mappings stay. */
static int read_all(struct bn_netstate *n)
{
	size_t i;
	int r;

	n->naddrs = 0;
	r = bn_nl_dump(n->nl, RTM_GETLINK, 0, -1, seen_link, n);
	if (r < 0)
		return r;
	for (i = n->nlinks; i > 0; i--)
		if (!(n->links[i - 1].l.flags & 1u << 31))
			link_del(n, n->links[i - 1].l.ifindex);
	r = bn_nl_dump(n->nl, RTM_GETLINK, 0, -1, link_read, n);
	if (r < 0)
		return r;
	r = bn_nl_dump(n->nl, RTM_GETADDR, 0, -1, addr_read, n);
	if (r < 0)
		return r;
	n->changed |= BN_NS_LINKS | BN_NS_ADDRS;
	return routes_read(n);
}

static void route_event(struct bn_netstate *n, const struct nlmsghdr *h)
{
	struct bn_nl_route rt;

	if (bn_nl_parse_route(h, &rt) < 0 || !route_of_interest(&rt))
		return;
	if (bn_nl_is_host_route(&rt)) {
		hroute_put(n, &rt, h->nlmsg_type == RTM_DELROUTE);
		return;
	}
	n->routes_stale = true;
	n->changed |= BN_NS_ROUTES;
}

static void on_message(const struct nlmsghdr *h, int32_t nsid, void *data)
{
	struct bn_netstate *n = data;
	struct bn_nl_link l;
	struct bn_nl_addr a;

	if (nsid >= 0)
		return;
	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
		if (!bn_nl_parse_link(h, &l))
			link_put(n, &l);
		break;
	case RTM_DELLINK:
		if (!bn_nl_parse_link(h, &l))
			link_del(n, l.ifindex);
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		if (!bn_nl_parse_addr(h, &a))
			addr_put(n, &a, h->nlmsg_type == RTM_DELADDR);
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		route_event(n, h);
		break;
	}
}

static void on_monitor(evutil_socket_t fd, short what _unused_, void *data)
{
	struct bn_netstate *n = data;
	unsigned changed;
	int r;

	r = bn_nl_monitor_read(fd, READ_BUDGET, on_message, n);
	if (r < 0) {
		n->resyncs++;
		if (r != -ENOBUFS)
			log_err_r(r, "reading network changes; everything is read again");
		/* What is queued is older than what is read now: harmless, but as old as it is. */
		r = read_all(n);
		if (r < 0)
			log_err_r(r, "reading links, addresses and routes");
	}
	changed = n->changed;
	n->changed = 0;
	if (n->routes_stale)
		changed |= BN_NS_ROUTES;
	if (changed)
		n->fn(changed, -1, n->data);
}

static void on_routes_timer(evutil_socket_t fd _unused_, short what _unused_, void *data)
{
	struct bn_netstate *n = data;

	if (n->routes_stale)
		n->fn(BN_NS_ROUTES, -1, n->data);
}

static void on_peer_message(const struct nlmsghdr *h, int32_t nsid, void *data)
{
	struct bn_netstate *n = data;

	if (nsid >= 0 && h->nlmsg_type == RTM_NEWADDR)
		n->fn(BN_NS_PEERS, nsid, n->data);
}

static void on_peers(evutil_socket_t fd, short what _unused_, void *data)
{
	struct timeval pause = {.tv_usec = PEERS_PAUSE_MS * 1000};
	struct bn_netstate *n = data;
	int r = bn_nl_monitor_read(fd, READ_BUDGET, on_peer_message, n);

	/* A pod may make as much noise in its namespace as it likes: it is listened to for a part
	 * of the time, and what is lost meanwhile only costs a question.
	 */
	if (r > 0) {
		event_del(n->peer_ev);
		evtimer_add(n->peer_pause_ev, &pause);
	}
	if (r < 0)
		n->fn(BN_NS_PEERS, -1, n->data);
}

static void on_peer_pause(evutil_socket_t fd _unused_, short what _unused_, void *data)
{
	struct bn_netstate *n = data;

	if (n->peer_ev)
		event_add(n->peer_ev, NULL);
}

int bn_netstate_watch_peers(struct bn_netstate *n, bool on)
{
	static const uint32_t groups[] = {RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, 0};

	if (!n->base || on == (n->peer_ev != NULL))
		return 0;
	if (!on) {
		event_free(n->peer_ev);
		n->peer_ev = NULL;
		closep(&n->peer_fd);
		return 0;
	}
	n->peer_fd = bn_nl_monitor(groups, true);
	if (n->peer_fd < 0)
		return n->peer_fd;
	n->peer_ev = event_new(n->base, n->peer_fd, EV_READ | EV_PERSIST, on_peers, n);
	if (!n->peer_ev || event_add(n->peer_ev, NULL)) {
		closep(&n->peer_fd);
		return -ENOMEM;
	}
	return 0;
}

static int follow(struct bn_netstate *n)
{
	static const uint32_t groups[] = {RTNLGRP_LINK,	       RTNLGRP_IPV4_IFADDR,
					  RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
					  RTNLGRP_IPV6_ROUTE,  0};

	n->mon_fd = bn_nl_monitor(groups, false);
	if (n->mon_fd < 0)
		return n->mon_fd;
	n->mon_ev = event_new(n->base, n->mon_fd, EV_READ | EV_PERSIST, on_monitor, n);
	n->routes_ev = evtimer_new(n->base, on_routes_timer, n);
	n->peer_pause_ev = evtimer_new(n->base, on_peer_pause, n);
	if (!n->mon_ev || !n->routes_ev || !n->peer_pause_ev || event_add(n->mon_ev, NULL))
		return -ENOMEM;
	return 0;
}

int bn_netstate_new(struct event_base *base, bn_netstate_fn fn, void *data,
		    struct bn_netstate **ret)
{
	_cleanup_(bn_netstate_freep) struct bn_netstate *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return -ENOMEM;
	n->mon_fd = n->peer_fd = -1;
	n->base = base;
	n->fn = fn;
	n->data = data;
	r = bn_nl_open(NETLINK_ROUTE, &n->nl);
	if (r < 0)
		return r;
	if (base) { /* before the first reading: nothing falls between */
		r = follow(n);
		if (r < 0)
			return r;
	}
	r = read_all(n);
	if (r < 0)
		return r;
	n->changed = 0;
	*ret = TAKE_PTR(n);
	return 0;
}

void bn_netstate_freep(struct bn_netstate **np)
{
	struct bn_netstate *n = *np;

	if (!n)
		return;
	if (n->mon_ev)
		event_free(n->mon_ev);
	if (n->peer_ev)
		event_free(n->peer_ev);
	if (n->peer_pause_ev)
		event_free(n->peer_pause_ev);
	if (n->routes_ev)
		event_free(n->routes_ev);
	closep(&n->mon_fd);
	closep(&n->peer_fd);
	bn_nl_freep(&n->nl);
	freep(&n->links);
	freep(&n->addrs);
	freep(&n->hroutes);
	freep(&n->routes);
	freep(np);
}

size_t bn_netstate_links(const struct bn_netstate *n, const struct bn_ns_link **ret)
{
	*ret = n->links;
	return n->nlinks;
}

size_t bn_netstate_addrs(const struct bn_netstate *n, const struct bn_nl_addr **ret)
{
	*ret = n->addrs;
	return n->naddrs;
}

size_t bn_netstate_hroutes(const struct bn_netstate *n, const struct bn_ns_hroute **ret)
{
	*ret = n->hroutes;
	return n->nhroutes;
}

size_t bn_netstate_routes(const struct bn_netstate *n, const struct bn_nl_route **ret)
{
	*ret = n->routes;
	return n->nroutes;
}

struct bn_nl *bn_netstate_nl(struct bn_netstate *n)
{
	return n->nl;
}

uint64_t bn_netstate_resyncs(const struct bn_netstate *n)
{
	return n->resyncs;
}
