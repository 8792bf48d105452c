/* SPDX-License-Identifier: MIT */
/* Roles of interfaces.
 *
 * With --devices: what a pattern names, and nothing else, is an uplink (tunnel devices: a tunnel).
 * Without, an interface is an uplink when
 *   1. the default route, or the route to another node's address or pod CIDR, or one with a gateway
 *      into --cluster-cidr, leads through it, or it holds this node's address (Node object), or
 *   2. it is a tunnel device with a route or an address, or hardware, VLAN, bond and the like with
 *      an address, or
 *   3. no pod is known behind it, and it is a bridge with a network far from all pods' addresses,
 * or a veth that has a network without pods, or a route with a gateway, or whose peer has addresses
 *      that are all far from pods'.
 * Ports of bonds, teams and bridges are not: their master is. Rule 1 goes before everything that a
 * pod can influence: routes of this namespace are the administrator's.
 * A pod's interface is a veth (netkit) whose peer is in another namespace and that no rule above
 * takes, or any other device with a host route to a local pod's address.
 */
#include <fnmatch.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "loader/log.h"
#include "loader/model/endpoints_priv.h"

static bool kind_is(const struct bn_nl_link *l, const char *const *kinds)
{
	for (; *kinds; kinds++)
		if (!strcmp(l->kind, *kinds))
			return true;
	return false;
}

static bool is_tunnel(const struct bn_nl_link *l)
{
	static const char *const kinds[] = {"vxlan",  "geneve", "ipip",	   "sit",	"ip6tnl",
					    "gre",    "gretap", "ip6gre",  "ip6gretap", "wireguard",
					    "erspan", "vti",	"vti6",	   "xfrm",	"tun",
					    "gtp",    "fou",	"bareudp", "amt",	NULL};

	if (!strcmp(l->kind, "tun"))
		return l->type != ARPHRD_ETHER; /* a tap is a virtual machine's, or a pod's */
	return kind_is(l, kinds);
}

static bool is_veth(const struct bn_nl_link *l)
{
	return !strcmp(l->kind, "veth") || !strcmp(l->kind, "netkit");
}

/* Hardware and what carries the node's own traffic like hardware. */
static bool is_nic(const struct bn_nl_link *l)
{
	static const char *const kinds[] = {"vlan",   "bond",  "team", "macvlan",
					    "macsec", "ipoib", NULL};

	if (l->type == ARPHRD_LOOPBACK)
		return false;
	return !l->kind[0] || kind_is(l, kinds);
}

static bool is_slave(const struct bn_nl_link *l)
{
	return !strcmp(l->slave_kind, "bond") || !strcmp(l->slave_kind, "team");
}

static bool is_port(const struct bn_nl_link *l)
{
	return !strcmp(l->slave_kind, "bridge");
}

/* --- Node objects ---------------------------------------------------------------------------- */

static int add_cidr(struct bn_endpoints *e, const struct bn_cidr *c)
{
	int r = ep_room(&e->cidrs, e->ncidrs, &e->acidrs, sizeof(*e->cidrs));

	if (r < 0)
		return r;
	e->cidrs[e->ncidrs++] = *c;
	return 0;
}

static int node_cidrs(struct bn_obj *o, void *data)
{
	const struct bn_node *n = (const struct bn_node *)o;
	struct bn_endpoints *e = data;
	uint32_t i;
	int r;

	for (i = 0; i < n->npod_cidrs; i++) {
		r = add_cidr(e, &n->pod_cidrs[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

int ep_nodes_update(struct bn_endpoints *e)
{
	const struct bn_opts *o = e->env.opts;
	const struct bn_node *self;
	unsigned i;
	int r;

	e->ncidrs = 0;
	for (i = 0; i < o->npod_cidrs + o->ncluster_cidrs; i++) {
		r = add_cidr(e, i < o->npod_cidrs ? &o->pod_cidrs[i]
						  : &o->cluster_cidrs[i - o->npod_cidrs]);
		if (r < 0)
			return r;
	}
	r = bn_store_each(e->env.store, BN_KIND_NODE, node_cidrs, e);
	if (r < 0)
		return r;
	e->node4 = e->node6 = (struct bn_addr){};
	self = (const struct bn_node *)bn_store_get(e->env.store, BN_KIND_NODE, "", o->node_name);
	for (i = self ? self->nips : 0; i > 0; i--) { /* the first of a family wins */
		const struct bn_addr *a = &self->ips[i - 1];

		*(bn_addr_is_v4(a) ? &e->node4 : &e->node6) = *a;
	}
	e->nodes_dirty = false;
	e->uplinks_dirty = true;
	return 0;
}

/* --- rule 1: what the routes say ------------------------------------------------------------- */

static void mark(struct bn_endpoints *e, const struct bn_nl_route *rt)
{
	struct ep_if *f;
	int i;

	if (rt->type != RTN_UNICAST)
		return;
	for (i = 0; i < rt->noifs; i++) {
		f = ep_if_get(e, rt->oifs[i]);
		if (f && f->l->type != ARPHRD_LOOPBACK)
			f->uplink = true;
	}
}

static void mark_to(struct bn_endpoints *e, const struct bn_addr *a)
{
	struct bn_nl_route rt;

	if (!bn_nl_get_route(bn_netstate_nl(e->net), a, &rt))
		mark(e, &rt);
}

static int mark_node(struct bn_obj *o, void *data)
{
	const struct bn_node *n = (const struct bn_node *)o;
	struct bn_endpoints *e = data;
	uint32_t i;

	if (!strcmp(o->name, e->env.opts->node_name))
		return 0;
	for (i = 0; i < n->nips; i++)
		mark_to(e, &n->ips[i]);
	for (i = 0; i < n->npod_cidrs; i++) {
		struct bn_addr a = n->pod_cidrs[i].addr;

		if (n->pod_cidrs[i].prefix < 128)
			a.b[15] |= 1;
		mark_to(e, &a);
	}
	return 0;
}

/* Calico's blocks and the like: routes into the cluster's range that are not this node's own. */
static bool leads_to_cluster(const struct bn_endpoints *e, const struct bn_nl_route *rt)
{
	const struct bn_opts *o = e->env.opts;
	const struct ep_if *f = ep_if_get(e, rt->oifs[0]);
	unsigned i;

	if (!f || (!rt->gateway && !is_tunnel(f->l)))
		return false;
	for (i = 0; i < o->ncluster_cidrs; i++)
		if (rt->prefix >= o->cluster_cidrs[i].prefix &&
		    bn_cidr_contains(&o->cluster_cidrs[i], &rt->dst))
			return true;
	return false;
}

/* A question per node and range: in a big cluster not at every change of a link. */
static void find_uplinks(struct bn_endpoints *e)
{
	const struct bn_nl_route *rt;
	const struct bn_nl_addr *a;
	uint64_t began = ep_now();
	size_t n, i;

	if (e->uplinks_ns > began) {
		ep_wake(e, e->uplinks_ns);
		return;
	}

	for (i = 0; i < e->nifs; i++)
		e->ifs[i]->uplink = false;
	n = bn_netstate_routes(e->net, &rt);
	for (i = 0; i < n; i++)
		if (bn_nl_is_default_route(&rt[i]) || leads_to_cluster(e, &rt[i]))
			mark(e, &rt[i]);
	bn_store_each(e->env.store, BN_KIND_NODE, mark_node, e);
	n = bn_netstate_addrs(e->net, &a);
	for (i = 0; i < n; i++) {
		struct ep_if *f = ep_if_get(e, a[i].ifindex);

		if (f && f->l->type != ARPHRD_LOOPBACK && strcmp(f->l->kind, "dummy") &&
		    (bn_addr_eq(&a[i].addr, &e->node4) || bn_addr_eq(&a[i].addr, &e->node6)))
			f->uplink = true;
	}
	e->uplinks_dirty = false;
	e->uplinks_ns = ep_now() + 20 * (ep_now() - began);
}

/* --- rules 2 and 3 --------------------------------------------------------------------------- */

static bool has_addr(const struct bn_endpoints *e, const struct ep_if *f)
{
	const struct bn_nl_addr *a;
	size_t n = bn_netstate_addrs(e->net, &a), i;

	for (i = 0; i < n; i++)
		if (a[i].ifindex == f->ifindex && ep_global(&a[i]))
			return true;
	return false;
}

static bool has_route(const struct bn_endpoints *e, const struct ep_if *f)
{
	const struct bn_nl_route *rt;
	size_t n = bn_netstate_routes(e->net, &rt), i;
	int k;

	for (i = 0; i < n; i++)
		for (k = 0; k < rt[i].noifs; k++)
			if (rt[i].oifs[k] == f->ifindex)
				return true;
	return false;
}

/* 1: it has a network of its own in which no pod is; 0: it has no network; -1: a pod's, or a bridge
 * of which it cannot be told. A bridge may get its first pod any moment, so being near pods is
 * enough.
 */
static int own_network(const struct bn_endpoints *e, const struct ep_if *f)
{
	bool bridge = !strcmp(f->l->kind, "bridge");
	const struct bn_nl_addr *a;
	size_t n = bn_netstate_addrs(e->net, &a), i;
	int r = 0;

	for (i = 0; i < n; i++) {
		if (a[i].ifindex != f->ifindex || !ep_global(&a[i]))
			continue;
		if (bridge ? ep_pod_range(e, &a[i].addr) != 0
			   : ep_pods_in(e, &a[i].addr, a[i].prefix))
			return -1;
		if (a[i].prefix < 128)
			r = 1;
	}
	return r;
}

/* Somebody is reached through what is behind it: a router, not a pod. */
static bool is_gateway(const struct bn_endpoints *e, const struct ep_if *f)
{
	const struct bn_nl_route *rt;
	size_t n = bn_netstate_routes(e->net, &rt), i;
	int k;

	for (i = 0; i < n; i++)
		for (k = 0; rt[i].gateway && k < rt[i].noifs; k++)
			if (rt[i].oifs[k] == f->ifindex)
				return true;
	return false;
}

static bool named(const struct bn_opts *o, const struct bn_nl_link *l)
{
	unsigned i;

	for (i = 0; i < o->ndevices; i++)
		if (!fnmatch(o->devices[i], l->name, 0))
			return true;
	return false;
}

bool ep_candidate(const struct bn_endpoints *e, const struct ep_if *f)
{
	const struct bn_ns_hroute *h;
	size_t n, i;

	if (f->uplink || f->l->type == ARPHRD_LOOPBACK || is_slave(f->l))
		return false;
	if (e->env.opts->ndevices && named(e->env.opts, f->l))
		return false;
	if (is_veth(f->l))
		return f->l->link_nsid >= 0;
	if (is_tunnel(f->l) || !strcmp(f->l->kind, "bridge") || !f->l->kind[0])
		return false;
	n = bn_netstate_hroutes(e->net, &h);
	for (i = 0; i < n; i++)
		if (h[i].oif == f->ifindex && ep_pod_with(e, &h[i].addr))
			return true;
	return false;
}

static enum bn_role role_of(const struct bn_endpoints *e, const struct ep_if *f)
{
	const struct bn_nl_link *l = f->l;
	enum bn_role up = is_tunnel(l) ? BN_ROLE_TUNNEL : BN_ROLE_UPLINK;

	if (e->env.opts->ndevices) {
		if (named(e->env.opts, l))
			return up;
		return f->uplink || !ep_candidate(e, f) ? BN_ROLE_NONE : BN_ROLE_POD;
	}
	if (is_slave(l) || l->type == ARPHRD_LOOPBACK || !strcmp(l->kind, "dummy") ||
	    !strcmp(l->kind, "ifb"))
		return BN_ROLE_NONE;
	if (f->uplink)
		return up;
	if (ep_candidate(e, f))
		return BN_ROLE_POD;
	if (is_tunnel(l))
		return has_addr(e, f) || has_route(e, f) ? BN_ROLE_TUNNEL : BN_ROLE_NONE;
	if (is_port(l))
		return BN_ROLE_NONE;
	if (is_nic(l))
		return has_addr(e, f) ? BN_ROLE_UPLINK : BN_ROLE_NONE;
	if (!strcmp(l->kind, "bridge"))
		return own_network(e, f) == 1 ? BN_ROLE_UPLINK : BN_ROLE_NONE;
	return BN_ROLE_NONE;
}

void ep_roles(struct bn_endpoints *e)
{
	size_t i;

	if (e->uplinks_dirty)
		find_uplinks(e);
	for (i = 0; i < e->nifs; i++) {
		struct ep_if *f = e->ifs[i];

		f->role = role_of(e, f);
		if (f->role != BN_ROLE_POD && f->pod)
			ep_unmap(e, f);
	}
}

/* What is behind an interface of role pod that no pod claims: called when matching is done. */
void ep_unknown(struct bn_endpoints *e, struct ep_if *f)
{
	const struct ep_if *master = is_port(f->l) ? ep_if_get(e, f->l->master) : NULL;
	bool closed = true;
	int net = 0;
	uint32_t i;

	f->unmanaged = false;
	if (master || !is_port(f->l))
		net = own_network(e, master ?: f);
	if (net == 1 || (!master && is_gateway(e, f))) {
		f->unmanaged = true;
	} else if (net == 0 && f->nids) {
		f->unmanaged = true;
		for (i = 0; i < f->nids; i++)
			if (ep_pod_range(e, &f->ids[i]) != 0)
				f->unmanaged = false;
	}
	if (!e->ready && !e->ncidrs) /* too little is known to tell */
		f->unmanaged = false;
	if (ep_named_by_cni(e, f))
		f->unmanaged = f->trunk = false;
	if (f->unmanaged && !is_port(f->l) && !e->env.opts->ndevices) {
		f->role = BN_ROLE_UPLINK; /* a network, not a pod */
		return;
	}
	if (f->trunk) {
		f->role = BN_ROLE_NONE;
		return;
	}
	if (e->env.opts->unknown_pods == BN_UNKNOWN_ALLOW || f->unmanaged)
		closed = false;
	else if (e->env.opts->unknown_pods == BN_UNKNOWN_AUTO)
		closed = e->could_select;
	f->open = !closed;
}
