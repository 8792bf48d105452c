/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "loader/kernel/kernel.h"
#include "loader/log.h"
#include "loader/model/endpoints_priv.h"
#include "loader/model/policies.h"

uint64_t ep_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

void ep_wake(struct bn_endpoints *e, uint64_t at_ns)
{
	if (!e->next_ns || at_ns < e->next_ns)
		e->next_ns = at_ns;
}

void ep_dirty(struct bn_endpoints *e)
{
	bool was = e->dirty;

	e->dirty = true;
	if (!was && e->env.changed)
		e->env.changed(e->env.data);
}

int ep_room(void *arrayp, size_t n, size_t *alloc, size_t size)
{
	void **array = arrayp, *p;

	if (n < *alloc)
		return 0;
	p = realloc(*array, (*alloc * 2 + 32) * size);
	if (!p)
		return -ENOMEM;
	*array = p;
	*alloc = *alloc * 2 + 32;
	return 0;
}

/* --- interfaces ------------------------------------------------------------------------------ */

static size_t if_pos(const struct bn_endpoints *e, uint32_t ifindex)
{
	size_t lo = 0, hi = e->nifs;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (e->ifs[mid]->ifindex < ifindex)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct ep_if *ep_if_get(const struct bn_endpoints *e, uint32_t ifindex)
{
	size_t at = if_pos(e, ifindex);

	return at < e->nifs && e->ifs[at]->ifindex == ifindex ? e->ifs[at] : NULL;
}

static int if_add(struct bn_endpoints *e, uint32_t ifindex, struct ep_if **ret)
{
	size_t at = if_pos(e, ifindex);
	struct ep_if *f;
	int r;

	r = ep_room(&e->ifs, e->nifs, &e->aifs, sizeof(*e->ifs));
	if (r < 0)
		return r;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->ifindex = ifindex;
	f->l = &f->link;
	f->since_ns = e->now_ns;
	memmove(&e->ifs[at + 1], &e->ifs[at], (e->nifs - at) * sizeof(*e->ifs));
	e->ifs[at] = f;
	e->nifs++;
	*ret = f;
	return 0;
}

static void forget_pod(struct ep_if *f)
{
	f->pod = NULL;
	f->by = EP_BY_NOTHING;
	f->ask_ns = 1; /* who has it now? */
	f->asks = 0;
}

void ep_unmap(struct bn_endpoints *e, struct ep_if *f)
{
	struct ep_pod *p = f->pod;
	size_t i;

	forget_pod(f);
	if (!p || p->ifindex != f->ifindex)
		return;
	p->ifindex = 0;
	/* Without the first one, the others have nothing to belong to. */
	for (i = 0; i < e->nifs; i++)
		if (e->ifs[i]->pod == p)
			forget_pod(e->ifs[i]);
}

/* The interface went: its programs went with it, what the maps say of it has to follow. */
static void if_gone(struct bn_endpoints *e, struct ep_if *f)
{
	ep_unmap(e, f);
	bn_pods_del_iface(e->pods, f->ifindex);
	ep_drop_adopted(e, f);
	if (e->env.kernel)
		bn_kernel_detach_iface(e->env.kernel, f->ifindex);
}

static int collect_links(struct bn_endpoints *e)
{
	const struct bn_ns_link *l;
	size_t n = bn_netstate_links(e->net, &l), i, k;
	struct ep_if *f;
	int r;

	for (i = 0; i < e->nifs; i++)
		e->ifs[i]->seen = false;
	for (i = 0; i < n; i++) {
		f = ep_if_get(e, l[i].l.ifindex);
		if (!f) {
			r = if_add(e, l[i].l.ifindex, &f);
			if (r < 0)
				return r;
		} else if (f->gen && f->gen != l[i].gen) { /* another interface with its number */
			if_gone(e, f);
			*f = (struct ep_if){.ifindex = f->ifindex, .since_ns = e->now_ns};
		}
		if (!e->begun)
			f->existed = true;
		f->gen = l[i].gen;
		f->link = l[i].l;
		f->l = &f->link;
		f->seen = true;
	}
	for (i = k = 0; i < e->nifs; i++) {
		if (e->ifs[i]->seen) {
			e->ifs[k++] = e->ifs[i];
			continue;
		}
		f = e->ifs[i];
		if_gone(e, f);
		free(f);
	}
	e->nifs = k;
	return 0;
}

/* --- events ---------------------------------------------------------------------------------- */

static void on_store(const struct bn_obj *old, const struct bn_obj *new, void *data)
{
	const struct bn_obj *o = new ?: old;
	struct bn_endpoints *e = data;

	if (o->kind == BN_KIND_POD) {
		ep_ranges_pod(e, (const struct bn_pod *)new, 1);
		ep_ranges_pod(e, (const struct bn_pod *)old, -1);
		ep_on_pod(e, (const struct bn_pod *)old, (const struct bn_pod *)new);
	} else if (o->kind == BN_KIND_NODE) {
		e->nodes_dirty = true;
		ep_dirty(e);
	}
}

static void on_net(unsigned what, int32_t nsid, void *data)
{
	struct bn_endpoints *e = data;
	bool hit = false;
	size_t i;

	if (what & BN_NS_PEERS) {
		for (i = 0; i < e->nifs; i++) {
			struct ep_if *f = e->ifs[i];
			const struct bn_ns_link *l = bn_netstate_link(e->net, f->ifindex);

			if (f->pod || !l || (nsid >= 0 && l->l.link_nsid != nsid))
				continue;
			/* A container may change its addresses all day: not sooner than is fair. */
			if (l->l.link_nsid >= 0 && f->ask_ns > f->asked_ns + f->ask_gap_ns) {
				f->ask_ns = f->asked_ns + f->ask_gap_ns;
				hit = true;
			}
		}
		if (!hit)
			return;
	}
	if (what & (BN_NS_ADDRS | BN_NS_LINKS))
		e->hosts_dirty = true;
	if (what & (BN_NS_ADDRS | BN_NS_LINKS | BN_NS_ROUTES))
		e->uplinks_dirty = true;
	ep_dirty(e);
}

static void on_cni(void *data)
{
	ep_dirty(data);
}

static void on_timer(evutil_socket_t fd _unused_, short what _unused_, void *data)
{
	ep_dirty(data);
}

static void set_timer(struct bn_endpoints *e)
{
	struct timeval tv = {};
	uint64_t now = ep_now(), in;

	if (!e->timer)
		return;
	if (!e->next_ns) {
		evtimer_del(e->timer);
		return;
	}
	in = e->next_ns > now ? e->next_ns - now : 0;
	tv.tv_sec = in / 1000000000;
	tv.tv_usec = in / 1000 % 1000000 + 1;
	evtimer_add(e->timer, &tv);
}

static int collect_cni(struct bn_endpoints *e)
{
	const struct bn_cni_entry *const *a, *const *b, **v;
	size_t na = bn_cnicache_entries(e->cni, &a), nb = bn_cnicache_entries(e->notes, &b), i;

	v = reallocarray(e->centries, na + nb + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (i = 0; i < na + nb; i++)
		v[i] = i < na ? a[i] : b[i - na];
	e->centries = v;
	e->ncentries = na + nb;
	return 0;
}

int bn_endpoints_sync(struct bn_endpoints *e)
{
	bool could;
	int r, err = 0;

	could = !e->env.policies || bn_policies_could_select_unknown(e->env.policies, NULL);
	if (could != e->could_select) {
		e->could_select = could;
		e->dirty = true;
	}
	if (!e->dirty)
		return 0;
	e->dirty = false;
	e->now_ns = ep_now();
	e->next_ns = 0;
	r = bn_netstate_refresh(e->net);
	err = err ?: r;
	if (e->nodes_dirty) {
		r = ep_nodes_update(e);
		err = err ?: r;
	}
	r = collect_links(e);
	r = r ?: collect_cni(e);
	if (r < 0)
		return r;
	if (e->hosts_dirty) {
		r = ep_hosts(e);
		err = err ?: r;
	}
	ep_roles(e);
	ep_match(e);
	ep_look_bypass(e);
	ep_look_xdp(e);
	r = ep_apply(e);
	err = err ?: r;
	e->begun = true;
	if (err < 0) { /* the maps are full, or memory: try again, not at once */
		e->hosts_dirty = true;
		ep_wake(e, e->now_ns + 2000000000ull);
	}
	set_timer(e);
	return err;
}

void bn_endpoints_set_ready(struct bn_endpoints *e, bool ready)
{
	if (e->ready == ready)
		return;
	e->ready = ready;
	ep_dirty(e);
}

/* --- life ------------------------------------------------------------------------------------ */

static int load_one(struct bn_obj *o, void *data)
{
	on_store(NULL, o, data);
	return 0;
}

static int adopt_iface(uint32_t ifindex, const struct bn_iface *i, void *data)
{
	struct bn_endpoints *e = data;
	const struct bn_ns_link *l = bn_netstate_link(e->net, ifindex);
	struct ep_if *f;
	int r;

	r = if_add(e, ifindex, &f);
	if (r < 0)
		return r;
	f->adopted = true;
	f->adopted_role = i->role;
	f->adopted_slot = i->slot;
	f->open = i->flags & BN_IF_F_OPEN;
	/* The same number on another interface: collect_links takes it for gone. */
	f->gen = !l || memcmp(l->l.mac, i->mac, sizeof(i->mac)) ? UINT32_MAX : l->gen;
	return 0;
}

int bn_endpoints_new(const struct bn_endpoints_env *env, struct bn_endpoints **ret)
{
	_cleanup_(bn_endpoints_freep) struct bn_endpoints *e = calloc(1, sizeof(*e));
	char notes[4096];
	int r;

	if (!e)
		return -ENOMEM;
	e->env = *env;
	e->now_ns = ep_now();
	e->nodes_dirty = e->uplinks_dirty = e->hosts_dirty = e->dirty = true;
	r = bn_pods_new(env->maps, &e->pods);
	if (r < 0)
		return log_err_r(r, "reading the interfaces and pods that are in force");
	r = bn_netstate_new(env->base, on_net, e, &e->net);
	if (r < 0)
		return log_err_r(r, "reading this node's links, addresses and routes over netlink");
	r = bn_pods_each_iface(e->pods, adopt_iface, e);
	if (r < 0)
		return r;
	e->fresh = !e->nifs;
	r = bn_cnicache_new(env->base, env->opts->cni_cache ?: "/var/lib/cni/results", on_cni, e,
			    &e->cni);
	if (r < 0)
		return log_err_r(r, "following the CNI cache");
	snprintf(notes, sizeof(notes), "%s/cni", env->opts->run_dir ?: "/run/bpfnet");
	if (env->kernel)
		mkdir(notes, 0700);
	r = bn_cnicache_new(env->base, notes, on_cni, e, &e->notes);
	if (r < 0)
		return log_err_r(r, "following what bpfnet-cni leaves in '%s'", notes);
	if (env->base) {
		e->timer = evtimer_new(env->base, on_timer, e);
		if (!e->timer)
			return -ENOMEM;
	}
	r = bn_store_listen(env->store, on_store, e);
	if (r < 0)
		return r;
	bn_store_each(env->store, BN_KIND_POD, load_one, e);
	*ret = TAKE_PTR(e);
	return 0;
}

void bn_endpoints_freep(struct bn_endpoints **ep)
{
	struct bn_endpoints *e = *ep;
	size_t i;

	if (!e)
		return;
	if (e->timer)
		event_free(e->timer);
	ep_pods_free(e);
	for (i = 0; i < e->nifs; i++)
		free(e->ifs[i]);
	bn_cnicache_freep(&e->cni);
	bn_cnicache_freep(&e->notes);
	freep(&e->centries);
	bn_netstate_freep(&e->net);
	bn_pods_freep(&e->pods);
	freep(&e->ifs);
	freep(&e->cidrs);
	freep(&e->ranges);
	freep(&e->hosts);
	freep(&e->devices);
	freep(ep);
}
