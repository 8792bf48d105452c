/* SPDX-License-Identifier: MIT */
/* Which pod stands behind an interface.
 *
 * Who has an address is decided by what a pod cannot write: first the Pod objects of this node,
 * then libcni's cache. Which interface it is at: the cache, then host routes, then what the peer's
 * namespace has, and there only the addresses it had first: a container with NET_ADMIN can add any
 * address later, and must not become another pod by it. A mapping stays until the interface or the
 * pod goes; a pod that has an interface is not taken over by one that merely shows its address.
 */
#include <linux/rtnetlink.h>
#include <string.h>

#include "loader/log.h"
#include "loader/model/endpoints_priv.h"

#define MS	    1000000ull
#define ASK_MIN_MS  5
#define ASK_EAGERLY 16 /* times at once when something changed; then at most every ASK_FAIR_MS */
#define ASK_FAIR_MS 100
#define ASK_MAX_MS  20000

/* --- asking ---------------------------------------------------------------------------------- */

static void keep_ids(struct ep_if *f, const struct bn_ns_peer *p)
{
	uint32_t i, k, had = f->nids;
	bool v4 = false, v6 = false;

	/* All that it was known by are gone: somebody has set it up anew. */
	for (i = k = 0; i < f->nids; i++)
		for (uint32_t j = 0; j < p->naddrs; j++)
			k += bn_addr_eq(&f->ids[i], &p->addrs[j].addr);
	if (!k)
		f->nids = had = 0;
	for (i = 0; i < had; i++)
		*(bn_addr_is_v4(&f->ids[i]) ? &v4 : &v6) = true;
	for (i = 0; i < p->naddrs && f->nids < EP_IDS; i++) {
		const struct bn_addr *a = &p->addrs[i].addr;

		if (!ep_global(&p->addrs[i]) || (bn_addr_is_v4(a) ? v4 : v6))
			continue;
		f->ids[f->nids] = *a;
		f->on_peer[f->nids++] = p->addrs[i].ifindex == f->l->link;
	}
}

static void ask(struct bn_endpoints *e, struct ep_if *f)
{
	_cleanup_(bn_ns_peer_done) struct bn_ns_peer p = {};
	uint64_t began = ep_now(), gap = ASK_MIN_MS << (f->asks < 12 ? f->asks : 12);
	uint32_t i;
	int r;

	if (f->pod || f->l->link_nsid < 0 || f->role != BN_ROLE_POD ||
	    (f->asked && (!f->ask_ns || f->ask_ns > e->now_ns))) {
		if (f->ask_ns > e->now_ns)
			ep_wake(e, f->ask_ns);
		return;
	}
	r = bn_netstate_ask_peer(e->net, f->l, &p);
	f->asked = true;
	f->asks++;
	f->asked_ns = ep_now();
	f->ask_gap_ns = 0;
	if (f->asks > ASK_EAGERLY) { /* what takes long is asked for less often */
		f->ask_gap_ns = 20 * (f->asked_ns - began);
		if (f->ask_gap_ns < ASK_FAIR_MS * MS)
			f->ask_gap_ns = ASK_FAIR_MS * MS;
	}
	f->ask_ns = e->now_ns + (gap < ASK_MAX_MS ? gap : ASK_MAX_MS) * MS;
	ep_wake(e, f->ask_ns);
	if (r < 0) {
		/* The namespace may be going just now. */
		if (r != -ENODEV && r != -EINVAL && r != -ENOENT && bn_log_ratelimit(10))
			log_err_r(r, "asking for the addresses behind interface %s", f->l->name);
		return;
	}
	memcpy(f->peer_mac, p.mac, sizeof(f->peer_mac));
	f->trunk = p.port;
	for (i = 0; i < p.naddrs; i++)
		f->trunk &= p.addrs[i].ifindex != f->l->link;
	keep_ids(f, &p);
}

/* --- who has an address ---------------------------------------------------------------------- */

static bool has(const struct bn_addr *v, uint32_t n, const struct bn_addr *a)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (bn_addr_eq(&v[i], a))
			return true;
	return false;
}

struct ep_pod *ep_claimant(const struct bn_endpoints *e, const struct bn_addr *a)
{
	const struct bn_cni_entry *const *c = e->centries;
	struct ep_pod *best = ep_pod_with(e, a), *p;
	int64_t newest = INT64_MIN;
	size_t i;

	if (best)
		return best;
	for (i = 0; i < e->ncentries; i++) {
		if (c[i]->mtime_ns <= newest || !has(c[i]->addrs, c[i]->naddrs, a))
			continue;
		p = ep_pod_named(e, c[i]->ns, c[i]->pod);
		if (p && !p->finished) {
			best = p;
			newest = c[i]->mtime_ns;
		}
	}
	return best;
}

/* --- evidence -------------------------------------------------------------------------------- */

bool ep_named_by_cni(const struct bn_endpoints *e, const struct ep_if *f)
{
	uint32_t k;
	size_t i;

	for (i = 0; i < e->ncentries; i++)
		for (k = 0; k < e->centries[i]->nhostifs; k++)
			if (!strcmp(e->centries[i]->hostifs[k], f->l->name))
				return true;
	return false;
}

static struct ep_pod *by_cni(const struct bn_endpoints *e, const struct ep_if *f)
{
	const struct bn_cni_entry *const *c = e->centries, *best = NULL;
	struct ep_pod *p;
	uint32_t k;
	size_t i;

	for (i = 0; i < e->ncentries; i++)
		for (k = 0; k < c[i]->nhostifs; k++)
			if (!strcmp(c[i]->hostifs[k], f->l->name) &&
			    (!best || c[i]->mtime_ns > best->mtime_ns))
				best = c[i];
	if (!best)
		return NULL;
	p = ep_pod_named(e, best->ns, best->pod);
	return p && !p->finished ? p : NULL;
}

static struct ep_pod *by_route(const struct bn_endpoints *e, const struct ep_if *f)
{
	const struct bn_ns_hroute *h;
	size_t n = bn_netstate_hroutes(e->net, &h), i;
	struct ep_pod *p;

	for (i = 0; i < n; i++) {
		if (h[i].oif != f->ifindex)
			continue;
		p = ep_claimant(e, &h[i].addr);
		if (p)
			return p;
	}
	return NULL;
}

/* Another interface of the same namespace, with the pod's address on its own peer, comes first. */
static bool elsewhere(const struct bn_endpoints *e, const struct ep_if *f)
{
	size_t i;
	uint32_t k;

	for (i = 0; i < e->nifs; i++) {
		const struct ep_if *o = e->ifs[i];

		if (o == f || o->role != BN_ROLE_POD || o->l->link_nsid != f->l->link_nsid)
			continue;
		for (k = 0; k < o->nids; k++)
			if (o->on_peer[k])
				return true;
	}
	return false;
}

/* *several: more than one pod's addresses are there. Only pods that have no interface count then.
 */
static struct ep_pod *by_namespace(const struct bn_endpoints *e, const struct ep_if *f,
				   bool *several)
{
	struct ep_pod *found = NULL, *freepod = NULL, *p;
	bool many = false, foreign;
	uint32_t i;

	*several = false;
	foreign = f->nids && elsewhere(e, f);
	for (i = 0; i < f->nids; i++) {
		if (!f->on_peer[i] && foreign)
			continue;
		p = ep_claimant(e, &f->ids[i]);
		if (!p)
			continue;
		many |= found && found != p;
		found = p;
		if (!p->ifindex) {
			*several |= freepod && freepod != p;
			freepod = p;
		}
	}
	return many ? freepod : found;
}

/* Does the namespace of an interface, asked now, still have an address of its pod? The ones that it
 * had first count as well, unless the Pod object has none of them any more: then the name was
 * given to another pod (a StatefulSet's next one), or the pod to other addresses.
 */
static bool still_there(struct bn_endpoints *e, const struct ep_if *f)
{
	_cleanup_(bn_ns_peer_done) struct bn_ns_peer p = {};
	bool first = !f->pod->obj->nips;
	uint32_t i;

	if (f->l->link_nsid < 0)
		return true;
	if (bn_netstate_ask_peer(e->net, f->l, &p) < 0)
		return false;
	for (i = 0; i < f->nids; i++)
		first |= has(f->pod->obj->ips, f->pod->obj->nips, &f->ids[i]);
	for (i = 0; i < p.naddrs; i++)
		if (has(f->pod->obj->ips, f->pod->obj->nips, &p.addrs[i].addr) ||
		    (first && has(f->ids, f->nids, &p.addrs[i].addr)))
			return true;
	return false;
}

/* --- mapping --------------------------------------------------------------------------------- */

static void map(struct ep_if *f, struct ep_pod *p, enum ep_evidence by)
{
	f->pod = p;
	f->by = by;
	f->ask_ns = 0;
	if (!p->ifindex)
		p->ifindex = f->ifindex;
	log_debug("interface %s is pod %s/%s", f->l->name, p->obj->o.ns, p->obj->o.name);
}

static bool strong(const struct bn_endpoints *e, const struct ep_if *f)
{
	return by_cni(e, f) == f->pod || by_route(e, f) == f->pod;
}

/* May f have p? When another interface has it: only on better evidence, or when that one has lost
 * the pod's addresses.
 */
static bool may_have(struct bn_endpoints *e, struct ep_if *f, struct ep_pod *p, enum ep_evidence by)
{
	struct ep_if *had = p->ifindex ? ep_if_get(e, p->ifindex) : NULL;

	if (!had || had == f)
		return true;
	if (had->l->link_nsid >= 0 && had->l->link_nsid == f->l->link_nsid)
		return true;
	if (by == EP_BY_NAMESPACE ? still_there(e, had) : strong(e, had)) {
		if (bn_log_ratelimit(30))
			log_warn("interface %s shows an address of pod %s/%s, which is at %s: left "
				 "closed",
				 f->l->name, p->obj->o.ns, p->obj->o.name, had->l->name);
		return false;
	}
	ep_unmap(e, had);
	return true;
}

static bool try_one(struct bn_endpoints *e, struct ep_if *f, bool last)
{
	enum ep_evidence by = EP_BY_CNI;
	bool several = false;
	struct ep_pod *p;

	p = by_cni(e, f);
	if (!p) {
		by = EP_BY_ROUTE;
		p = by_route(e, f);
	}
	if (!p) {
		by = EP_BY_NAMESPACE;
		p = by_namespace(e, f, &several);
	}
	if (!p || several || !may_have(e, f, p, by)) {
		if (several && last && bn_log_ratelimit(30))
			log_warn("interface %s shows addresses of several pods: left closed",
				 f->l->name);
		return false;
	}
	map(f, p, by);
	return true;
}

static void siblings(struct bn_endpoints *e, struct ep_if *f)
{
	size_t i;

	for (i = 0; f->l->link_nsid >= 0 && i < e->nifs; i++) {
		struct ep_if *o = e->ifs[i];

		if (o != f && o->pod && o->l->link_nsid == f->l->link_nsid) {
			map(f, o->pod, EP_BY_SIBLING);
			return;
		}
	}
}

/* --- last: a bridge's tables ----------------------------------------------------------------- */

struct fdb_ask {
	const struct bn_endpoints *e;
	uint32_t bridge;
	struct bn_addr addrs[64];
	uint8_t macs[64][6];
	unsigned n;
	struct {
		uint32_t port;
		uint8_t mac[6];
	} ports[256];
	unsigned nports;
};

static int neigh_read(const struct nlmsghdr *h, void *data)
{
	struct fdb_ask *a = data;
	struct bn_nl_neigh n;

	if (bn_nl_parse_neigh(h, &n) < 0 || !n.has_mac)
		return 0;
	if (n.fdb && !n.local && a->nports < ARRAY_SIZE(a->ports)) {
		a->ports[a->nports].port = n.ifindex;
		memcpy(a->ports[a->nports++].mac, n.mac, 6);
	} else if (!n.fdb && a->n < ARRAY_SIZE(a->addrs)) {
		struct ep_pod *p = ep_claimant(a->e, &n.addr);

		if (p && !p->ifindex) {
			a->addrs[a->n] = n.addr;
			memcpy(a->macs[a->n++], n.mac, 6);
		}
	}
	return 0;
}

/* Only for ports whose other end cannot be asked (a virtual machine's tap): tables learn from what
 * pods send, so they are believed last, and only for a pod that has no interface.
 */
static void by_bridge(struct bn_endpoints *e)
{
	_cleanup_(freep) struct fdb_ask *a = NULL;
	bool need = false;
	unsigned k, j;
	size_t i;

	for (i = 0; i < e->nifs; i++)
		need |= e->ifs[i]->role == BN_ROLE_POD && !e->ifs[i]->pod && e->ifs[i]->l->master &&
			e->ifs[i]->l->link_nsid < 0;
	if (!need)
		return;
	a = calloc(1, sizeof(*a));
	if (!a)
		return;
	a->e = e;
	bn_nl_dump(bn_netstate_nl(e->net), RTM_GETNEIGH, 0, -1, neigh_read, a);
	bn_nl_dump(bn_netstate_nl(e->net), RTM_GETNEIGH, 7 /* AF_BRIDGE */, -1, neigh_read, a);
	for (k = 0; k < a->n; k++)
		for (j = 0; j < a->nports; j++) {
			struct ep_if *f = ep_if_get(e, a->ports[j].port);
			struct ep_pod *p = ep_claimant(e, &a->addrs[k]);

			if (f && p && !f->pod && !p->ifindex && f->role == BN_ROLE_POD &&
			    f->l->link_nsid < 0 && !memcmp(a->ports[j].mac, a->macs[k], 6))
				map(f, p, EP_BY_BRIDGE);
		}
}

/* --- all of it ------------------------------------------------------------------------------- */

/* A pod whose addresses became others', with none left that the interface has, is another pod. */
static void check_mapped(struct bn_endpoints *e, struct ep_if *f)
{
	struct ep_pod *p;
	uint32_t i;

	if (!f->pod)
		return;
	if (f->pod->finished) {
		ep_unmap(e, f);
		return;
	}
	if (f->by != EP_BY_NAMESPACE || !f->pod->obj->nips)
		return;
	for (i = 0; i < f->nids; i++)
		if (ep_claimant(e, &f->ids[i]) == f->pod)
			return;
	for (i = 0; i < f->nids; i++) {
		p = ep_claimant(e, &f->ids[i]);
		if (p && p != f->pod) {
			ep_unmap(e, f);
			return;
		}
	}
}

void ep_match(struct bn_endpoints *e)
{
	bool waiting = false, again = true;
	size_t i;
	int pass;

	for (i = 0; i < e->nifs; i++)
		check_mapped(e, e->ifs[i]);
	for (i = 0; i < e->nifs; i++)
		ask(e, e->ifs[i]);
	/* What is mapped in one pass makes others unambiguous in the next. */
	for (pass = 0; again && pass < 8; pass++) {
		again = false;
		for (i = 0; i < e->nifs; i++)
			if (e->ifs[i]->role == BN_ROLE_POD && !e->ifs[i]->pod)
				again |= try_one(e, e->ifs[i], pass > 0);
	}
	for (i = 0; i < e->nifs; i++)
		if (e->ifs[i]->role == BN_ROLE_POD && !e->ifs[i]->pod)
			siblings(e, e->ifs[i]);
	by_bridge(e);
	for (i = 0; i < e->nifs; i++) {
		struct ep_if *f = e->ifs[i];

		if (f->pod) {
			f->open = f->unmanaged = false;
		} else if (f->role == BN_ROLE_POD) {
			ep_unknown(e, f);
			waiting |= f->role == BN_ROLE_POD && f->l->link_nsid >= 0;
		}
	}
	if (bn_netstate_watch_peers(e->net, waiting) < 0 && bn_log_ratelimit(60))
		log_warn("changes in pods' namespaces are not seen at once, only by asking");
}
