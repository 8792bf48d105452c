// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "loader/log.h"
#include "loader/model/dsr.h"
#include "maps/util.h"

/* Deleted pods' addresses may stay for so long: no service names them any more, and whoever gets one
 * again overwrites it.
 */
#define SWEEP_TURNS 300

struct item {
	struct bn_addr addr;
	struct bn_dsr_peer peer;
};

struct bn_dsr {
	struct bn_store *store;
	const struct bn_maps *maps;
	const struct bn_opts *opts;
	bool backends;	 /* outside traffic goes by DSR: pods are of interest */
	bool dirty;	 /* nodes changed: everything is computed anew */
	bool swept;	 /* what an earlier daemon left and is not wanted is gone */
	unsigned stale;	 /* turns since a pod went; 0: none did */
	unsigned npeers; /* nodes */
	struct item *v;	 /* wanted, as of the last computation */
	size_t n, room;
};

static const struct bn_node *node_of(const struct bn_dsr *d, const char *name)
{
	const struct bn_node *n;

	if (!name || !strcmp(name, d->opts->node_name))
		return NULL;
	n = (const struct bn_node *)bn_store_get(d->store, BN_KIND_NODE, "", name);
	return n && n->dsr ? n : NULL;
}

/* The node's address of the family of `of`; NULL: it has none. */
static const struct bn_addr *reach(const struct bn_node *n, const struct bn_addr *of)
{
	for (uint32_t i = 0; n && i < n->nips; i++)
		if (bn_addr_is_v4(&n->ips[i]) == bn_addr_is_v4(of))
			return &n->ips[i];
	return NULL;
}

static int put(const struct bn_dsr *d, const struct item *it)
{
	struct bn_dsr_peer old;

	if (!bn_map_get(d->maps, BN_MAP_dsr, &it->addr, &old) && !memcmp(&old, &it->peer, sizeof(old)))
		return 0;
	return bn_map_put(d->maps, BN_MAP_dsr, &it->addr, &it->peer);
}

static int want(struct bn_dsr *d, const struct bn_addr *a, const struct bn_addr *node, uint32_t flags)
{
	if (!node || bn_addr_is_zero(a))
		return 0;
	if (d->n == d->room) {
		size_t room = d->room ? d->room * 2 : 256;
		struct item *v = reallocarray(d->v, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		d->v = v;
		d->room = room;
	}
	d->v[d->n++] = (struct item){*a, {*node, flags}};
	return 0;
}

static int want_node(struct bn_obj *o, void *data)
{
	struct bn_dsr *d = data;
	const struct bn_node *n = node_of(d, o->name);
	int r = 0;

	if (!n)
		return 0;
	d->npeers++;
	for (uint32_t i = 0; i < n->nips && !r; i++)
		r = want(d, &n->ips[i], reach(n, &n->ips[i]),
			 BN_DSR_F_NODE | (d->backends ? BN_DSR_F_BACKEND : 0));
	return r;
}

static bool counts(const struct bn_pod *p)
{
	return p->node && !p->host_network && !p->finished;
}

static int want_pod(struct bn_obj *o, void *data)
{
	const struct bn_pod *p = (const struct bn_pod *)o;
	struct bn_dsr *d = data;
	const struct bn_node *n = counts(p) ? node_of(d, p->node) : NULL;
	int r = 0;

	for (uint32_t i = 0; n && i < p->nips && !r; i++)
		r = want(d, &p->ips[i], reach(n, &p->ips[i]), BN_DSR_F_BACKEND);
	return r;
}

static int by_addr(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct bn_addr));
}

/* Keys that nobody wants, a bounded number at a time. */
struct stale {
	const struct bn_dsr *d;
	struct bn_addr v[512];
	size_t n;
};

static int find_stale(const void *key, const void *val _unused_, void *data)
{
	struct stale *s = data;

	if (!bsearch(key, s->d->v, s->d->n, sizeof(*s->d->v), by_addr))
		memcpy(&s->v[s->n++], key, sizeof(s->v[0]));
	return s->n == ARRAY_SIZE(s->v);
}

static int sweep(struct bn_dsr *d)
{
	struct stale s = {.d = d};
	int r;

	do {
		s.n = 0;
		r = bn_map_each(d->maps, BN_MAP_dsr, find_stale, &s);
		if (r < 0)
			return r;
		for (size_t i = 0; i < s.n; i++) {
			r = bn_map_del(d->maps, BN_MAP_dsr, &s.v[i]);
			if (r < 0 && r != -ENOENT)
				return r;
		}
	} while (s.n == ARRAY_SIZE(s.v));
	d->swept = true;
	d->stale = 0;
	return 0;
}

static int compute(struct bn_dsr *d, bool ready)
{
	int r;

	d->n = 0;
	d->npeers = 0;
	r = bn_store_each(d->store, BN_KIND_NODE, want_node, d);
	if (!r && d->backends && d->npeers)
		r = bn_store_each(d->store, BN_KIND_POD, want_pod, d);
	if (r < 0)
		return r;
	if (d->n)
		qsort(d->v, d->n, sizeof(*d->v), by_addr);
	for (size_t i = 0; i < d->n; i++) {
		r = put(d, &d->v[i]);
		if (r < 0)
			return r;
	}
	d->dirty = false;
	return ready ? sweep(d) : 0;
}

int bn_dsr_sync(struct bn_dsr *d, bool ready)
{
	int r;

	if (d->stale && ++d->stale > SWEEP_TURNS)
		d->dirty = true;
	if (!d->dirty && (d->swept || !ready))
		return 0;
	r = compute(d, ready);
	return r < 0 ? log_err_r(r, "DSR: nodes and backends are not all known to the kernel") : 0;
}

/* --- Events ------------------------------------------------------------------------------------ */

static bool same_node(const struct bn_node *a, const struct bn_node *b)
{
	if (!a || !b)
		return !(a && a->dsr) && !(b && b->dsr);
	return a->dsr == b->dsr &&
	       (!a->dsr || (a->nips == b->nips && !memcmp(a->ips, b->ips, a->nips * sizeof(*a->ips))));
}

static void on_pod(struct bn_dsr *d, const struct bn_pod *old, const struct bn_pod *new)
{
	const struct bn_node *n = new && counts(new) ? node_of(d, new->node) : NULL;

	if (old && !d->stale)
		d->stale = 1;
	if (!new || !counts(new))
		return;
	for (uint32_t i = 0; i < new->nips; i++) {
		const struct bn_addr *at = reach(n, &new->ips[i]);
		struct item it = {new->ips[i], {at ? *at : (struct bn_addr){}, BN_DSR_F_BACKEND}};

		/* On a node that does not speak it: the address may have been another's. */
		if (at ? put(d, &it) < 0 : (bn_map_del(d->maps, BN_MAP_dsr, &it.addr), false))
			d->dirty = true;
	}
}

static void on_change(const struct bn_obj *old, const struct bn_obj *new, void *data)
{
	const struct bn_obj *o = new ?: old;
	struct bn_dsr *d = data;

	if (o->kind == BN_KIND_NODE &&
	    !same_node((const struct bn_node *)old, (const struct bn_node *)new))
		d->dirty = true;
	else if (o->kind == BN_KIND_POD && d->backends && d->npeers)
		on_pod(d, (const struct bn_pod *)old, (const struct bn_pod *)new);
}

void bn_dsr_freep(struct bn_dsr **d)
{
	if (!*d)
		return;
	bn_store_unlisten((*d)->store, on_change, *d);
	free((*d)->v);
	free(*d);
	*d = NULL;
}

int bn_dsr_new(struct bn_store *store, const struct bn_maps *maps, const struct bn_opts *opts, struct bn_dsr **ret)
{
	struct bn_dsr *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	*d = (struct bn_dsr){.store = store, .maps = maps, .opts = opts, .backends = opts->lb_mode != BN_LB_SNAT,
			     .dirty = true};
	r = bn_store_listen(store, on_change, d);
	if (r < 0) {
		free(d);
		return r;
	}
	*ret = d;
	return 0;
}

json_t *bn_dsr_json(const struct bn_dsr *d)
{
	static const char *const modes[] = {"snat", "dsr", "hybrid"};

	return json_pack("{s:s, s:I, s:I}", "mode", modes[d->opts->lb_mode], "peers", (json_int_t)d->npeers,
			 "addresses", (json_int_t)d->n);
}
