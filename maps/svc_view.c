/* SPDX-License-Identifier: MIT */
/* Opening, closing and reading the mirror of the service maps; see maps/svc_access.h. */
#include <string.h>

#include "maps/svc_priv.h"

int bn_svcmap_open(struct bn_maps *maps, struct bn_svcmap **ret)
{
	_cleanup_(bn_svcmap_freep) struct bn_svcmap *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->maps = maps;
	m->idx_max = maps->entries[BN_MAP_svcs];
	m->slots_max = maps->entries[BN_MAP_slots];
	m->next_svc_id = m->next_set = 1;
	m->idx_hint = 1;
	m->by_idx = calloc(m->idx_max, sizeof(struct sv_rec *));
	m->busy = calloc(m->idx_max / 64 + 1, sizeof(*m->busy));
	m->refs = calloc(m->slots_max, sizeof(*m->refs));
	m->range_ns = calloc(m->slots_max, sizeof(*m->range_ns));
	if (!m->by_idx || !m->busy || !m->refs || !m->range_ns)
		return -ENOMEM;
	m->busy[0] = 1; /* index 0 means nothing */
	r = bn_ranges_new(m->slots_max, &m->ra);
	r = r ? r : bn_reclaim_new(&m->reclaim);
	r = r ? r : sv_adopt(m);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

static void free_owners(struct bn_svcmap *m)
{
	struct bn_hnode *h;
	uint32_t at = 0;

	while ((h = bn_htab_pop(&m->owners, &at))) {
		struct bn_svc_owner *o = bn_container(h, struct bn_svc_owner, h);

		while (o->recs) {
			struct sv_rec *r = o->recs;

			sv_rec_unlink(m, r);
			free(r);
		}
		while (o->ports)
			sv_port_free(m, o, o->ports);
		sv_ns_put(m, o->ns);
		free(o->name);
		free(o);
	}
}

void bn_svcmap_freep(struct bn_svcmap **p)
{
	struct bn_svcmap *m = *p;
	struct bn_hnode *h;
	uint32_t at;

	if (!m)
		return;
	free_owners(m);
	for (at = 0; (h = bn_htab_pop(&m->sets, &at));) {
		free(bn_container(h, struct sv_set, h)->v);
		free(bn_container(h, struct sv_set, h));
	}
	for (at = 0; (h = bn_htab_pop(&m->addrs, &at));)
		free(bn_container(h, struct sv_addr, h));
	bn_htab_clear(&m->recs);
	bn_htab_clear(&m->owners);
	sv_ns_free_all(m);
	bn_htab_clear(&m->addrs);
	bn_htab_clear(&m->sets);
	bn_ranges_freep(&m->ra);
	bn_reclaim_freep(&m->reclaim);
	free(m->by_idx);
	free(m->busy);
	free(m->refs);
	free(m->range_ns);
	free(m->pend);
	free(m->broken.fronts);
	free(m->broken.names);
	free(m->broken.records);
	free(m);
	*p = NULL;
}

/* --- owners ---------------------------------------------------------------------------------- */

struct bn_svc_owner *bn_svcmap_find(const struct bn_svcmap *m, const char *name)
{
	struct bn_hnode *n;

	for (n = bn_htab_first(&m->owners, bn_hash_bytes(name, strlen(name))); n;
	     n = bn_htab_next(n)) {
		struct bn_svc_owner *o = bn_container(n, struct bn_svc_owner, h);

		if (!strcmp(o->name, name))
			return o;
	}
	return NULL;
}

struct bn_svc_owner *bn_svcmap_get(struct bn_svcmap *m, const char *name)
{
	struct bn_svc_owner *o = bn_svcmap_find(m, name);

	if (o)
		return o;
	o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	o->name = strdup(name);
	o->ns = sv_ns_get(m, name);
	if (!o->name || !o->ns || bn_htab_add(&m->owners, &o->h, bn_hash_bytes(name, strlen(name))) < 0) {
		if (o->ns)
			sv_ns_put(m, o->ns);
		free(o->name);
		free(o);
		return NULL;
	}
	return o;
}

const char *bn_svc_owner_name(const struct bn_svc_owner *o)
{
	return o->name;
}

struct bn_svc_owner *bn_svcmap_holder(const struct bn_svcmap *m, const struct bn_front_key *key)
{
	struct sv_rec *r = sv_rec_find(m, key);

	return r ? r->owner : NULL;
}

void bn_svcmap_set_grace(struct bn_svcmap *m, int (*grace)(void *data), void *data)
{
	m->grace = grace;
	m->grace_data = data;
}

/* --- views ----------------------------------------------------------------------------------- */

static unsigned kind_order(uint32_t flags)
{
	return flags & BN_SVC_F_NODEPORT       ? 3
	       : flags & BN_SVC_F_LOADBALANCER ? 1
	       : flags & BN_SVC_F_EXTERNAL     ? 2
					       : 0;
}

static int view_cmp(const void *pa, const void *pb)
{
	const struct bn_svc_view *a = pa, *b = pb;
	unsigned ka = kind_order(a->svc->flags), kb = kind_order(b->svc->flags);

	if (a->svc->svc_id != b->svc->svc_id)
		return a->svc->svc_id < b->svc->svc_id ? -1 : 1;
	if (ka != kb)
		return ka < kb ? -1 : 1;
	if (bn_addr_is_v4(&a->svc->key.addr) != bn_addr_is_v4(&b->svc->key.addr))
		return bn_addr_is_v4(&a->svc->key.addr) ? -1 : 1;
	return memcmp(&a->svc->key, &b->svc->key, sizeof(a->svc->key));
}

static const struct bn_backend *view_list(const struct bn_svcmap *m, uint64_t word, uint32_t *n,
					  bool *drop)
{
	const struct bn_backend *v;

	*n = BN_RANGE_COUNT(word);
	v = *n ? sv_slot(m, BN_RANGE_BASE(word)) : NULL;
	*drop = v ? v->flags & BN_BE_F_NONE : BN_RANGE_BASE(word) == BN_RANGE_DROP;
	return v;
}

static void view_fill(const struct bn_svcmap *m, const struct sv_rec *r, struct bn_svc_view *v)
{
	const struct bn_svc *s = sv_svc(m, r->idx);

	*v = (struct bn_svc_view){
		.name = r->owner->name,
		.port_name = r->port->name,
		.type = r->port->type,
		.idx = r->idx,
		.svc = s,
	};
	v->v = view_list(m, s->range, &v->n, &v->drop);
	if (s->flags & BN_SVC_F_SPLIT)
		v->v_int = view_list(m, s->range_int, &v->n_int, &v->drop_int);
}

bool bn_svcmap_keeps(const struct bn_svcmap *m, const struct bn_front_key *key,
		     const struct bn_addr *addr, __be16 port)
{
	const struct sv_rec *rec = sv_rec_find(m, key);
	const struct bn_backend *v;
	struct bn_svc_view view;
	uint32_t n, members;

	if (!rec)
		return false;
	view_fill(m, rec, &view);
	v = view.svc->flags & BN_SVC_F_SPLIT ? view.v_int : view.v;
	n = view.svc->flags & BN_SVC_F_SPLIT ? view.n_int : view.n;
	members = n ? v[0].members : 0;
	for (uint32_t i = members ? n : 0; i < n + members; i++)
		if (v[i].port == port && bn_addr_eq(&v[i].addr, addr))
			return true;
	return false;
}

bool bn_svcmap_serves(const struct bn_svcmap *m, const struct bn_front_key *key)
{
	const struct sv_rec *rec = sv_rec_find(m, key);
	struct bn_svc_view v;

	if (!rec)
		return false;
	view_fill(m, rec, &v);
	return v.svc->flags & BN_SVC_F_SPLIT ? v.n_int && !v.drop_int : v.n && !v.drop;
}

int bn_svcmap_each_of(const struct bn_svcmap *m, const struct bn_svc_owner *o, bn_svc_view_fn fn,
		      void *data)
{
	_cleanup_(freep) struct bn_svc_view *v = NULL;
	size_t n = 0, i = 0;
	int r = 0;

	for (const struct sv_rec *rec = o->recs; rec; rec = rec->next)
		n++;
	v = calloc(n ? n : 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (const struct sv_rec *rec = o->recs; rec; rec = rec->next)
		view_fill(m, rec, &v[i++]);
	qsort(v, n, sizeof(*v), view_cmp);
	for (i = 0; i < n && !r; i++)
		r = fn(&v[i], data);
	return r;
}

static int owner_cmp(const void *pa, const void *pb)
{
	const struct bn_svc_owner *const *a = pa, *const *b = pb;

	return strcmp((*a)->name, (*b)->name);
}

static int owners_sorted(const struct bn_svcmap *m, struct bn_svc_owner ***ret)
{
	struct bn_svc_owner **v = calloc((size_t)m->owners.n + 1, sizeof(*v));
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	for (struct bn_hnode *h = bn_htab_head(&m->owners); h; h = bn_htab_after(&m->owners, h))
		v[n++] = bn_container(h, struct bn_svc_owner, h);
	qsort(v, n, sizeof(*v), owner_cmp);
	*ret = v;
	return 0;
}

int bn_svcmap_each(const struct bn_svcmap *m, bn_svc_view_fn fn, void *data)
{
	_cleanup_(freep) struct bn_svc_owner **v = NULL;
	int r = owners_sorted(m, &v);

	for (uint32_t i = 0; !r && i < m->owners.n; i++)
		r = bn_svcmap_each_of(m, v[i], fn, data);
	return r;
}

int bn_svcmap_owners(const struct bn_svcmap *m,
		     int (*fn)(struct bn_svc_owner *o, const char *name, void *data), void *data)
{
	_cleanup_(freep) struct bn_svc_owner **v = NULL;
	uint32_t n = m->owners.n;
	int r = owners_sorted(m, &v);

	for (uint32_t i = 0; !r && i < n; i++)
		r = fn(v[i], v[i]->name, data);
	return r;
}

const char *bn_svcmap_name_of(const struct bn_svcmap *m, uint32_t idx)
{
	return idx < m->idx_max && m->by_idx[idx] ? m->by_idx[idx]->owner->name : NULL;
}

void bn_svcmap_stats(const struct bn_svcmap *m, struct bn_svcmap_stats *ret)
{
	uint32_t idle = bn_ranges_free(m->ra);

	*ret = (struct bn_svcmap_stats){
		.owners = m->owners.n,
		.fronts = m->recs.n,
		.service_ports = m->nports,
		.records_used = m->idx_used,
		.records_max = m->idx_max - 1,
		.slots_free = idle,
		.slots_pending = m->slots_pending,
		.slots_used = m->slots_max - idle - m->slots_pending,
		.slots_max = m->slots_max,
		.largest_free = bn_ranges_largest(m->ra),
		.writes = m->writes,
		.graces = m->graces,
		.compactions = m->compactions,
		.broken = m->broken.nfronts,
	};
}
