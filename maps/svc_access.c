/* SPDX-License-Identifier: MIT */
/* From what an owner wants to the fewest writes in the right order; see maps/svc_access.h. */
#include "maps/svc_access.h"

#include <string.h>

#include "maps/svc_priv.h"

#define NONE UINT32_MAX

struct apply_list {
	uint32_t base; /* NONE: not placed yet */
	int err;
	bool used; /* by some front */
};

struct apply {
	struct bn_svcmap *m;
	struct bn_svc_owner *o;
	const struct bn_svc_want *w;
	struct bn_svc_applied *ret;
	struct apply_list *lists;
	struct sv_port **ports;
	struct sv_set *set;
	int set_err, port_err;
};

/* The two words of a front, as base and count. */
struct apply_words {
	uint32_t base[2], count[2];
};

/* --- lists ----------------------------------------------------------------------------------- */

static bool same_slots(const struct bn_svcmap *m, uint64_t word, const struct bn_want_list *l)
{
	uint32_t len = l->n + l->members;

	return BN_RANGE_COUNT(word) == l->n && sv_range_len(m, word) == len &&
	       !memcmp(sv_slot(m, BN_RANGE_BASE(word)), l->v, len * sizeof(*l->v));
}

/* Held until the end of apply: a list may lose its last front before it gets its next one. */
static void list_hold(struct apply *a, int list, uint64_t word)
{
	struct apply_list *al = &a->lists[list];

	if (al->base != NONE || !same_slots(a->m, word, &a->w->lists[list]))
		return;
	al->base = BN_RANGE_BASE(word);
	sv_word_ref(a->m, word);
}

/* A list that is in force already, of the front that wants it, stays where it is. */
static void lists_keep(struct apply *a)
{
	for (uint32_t i = 0; i < a->w->nfronts; i++) {
		const struct bn_want_front *f = &a->w->fronts[i];
		struct sv_rec *r = sv_rec_find(a->m, &f->key);
		const struct bn_svc *s = r ? sv_svc(a->m, r->idx) : NULL;
		bool inner = f->list_int >= 0 && (f->flags & BN_SVC_F_SPLIT);

		if (f->list >= 0) {
			a->lists[f->list].used = true;
			list_hold(a, f->list, s ? s->range : 0);
		}
		if (inner) {
			a->lists[f->list_int].used = true;
			list_hold(a, f->list_int, s ? s->range_int : 0);
		}
	}
}

static void lists_place(struct apply *a)
{
	for (uint32_t i = 0; i < a->w->nlists; i++) {
		const struct bn_want_list *l = &a->w->lists[i];
		struct apply_list *al = &a->lists[i];
		uint32_t len = l->n + l->members;
		struct bn_backend *slots;

		if (al->base != NONE || !al->used)
			continue;
		if (!l->n || l->n > UINT16_MAX) {
			al->err = -E2BIG;
			continue;
		}
		al->err = sv_ns_may(a->m, a->o->ns, SV_SLOTS, len);
		if (!al->err)
			al->err = sv_range_take(a->m, len, &al->base);
		if (al->err < 0) {
			al->base = NONE;
			continue;
		}
		slots = sv_slots(a->m, al->base, len);
		if (!slots) {
			bn_ranges_give(a->m->ra, al->base, len);
			al->base = NONE;
			al->err = -ENOMEM;
			continue;
		}
		memcpy(slots, l->v, len * sizeof(*l->v));
		sv_range_own(a->m, al->base, len, a->o->ns);
		sv_word_ref(a->m, BN_RANGE(al->base, l->n, 0));
		a->m->writes += len;
	}
}

static void lists_release(struct apply *a)
{
	for (uint32_t i = 0; i < a->w->nlists; i++)
		if (a->lists[i].base != NONE)
			sv_word_unref(a->m, BN_RANGE(a->lists[i].base, a->w->lists[i].n, 0));
}

static int front_word(const struct apply *a, int list, uint32_t *base, uint32_t *count)
{
	*count = 0;
	*base = list == BN_WANT_DROP ? BN_RANGE_DROP : BN_RANGE_REJECT;
	if (list < 0)
		return 0;
	if (a->lists[list].err < 0)
		return a->lists[list].err;
	*base = a->lists[list].base;
	*count = a->w->lists[list].n;
	return 0;
}

static int front_words(const struct apply *a, const struct bn_want_front *f, struct apply_words *w)
{
	int r = front_word(a, f->list, &w->base[0], &w->count[0]);

	if (r < 0)
		return r;
	return front_word(a, f->flags & BN_SVC_F_SPLIT ? f->list_int : BN_WANT_REJECT, &w->base[1],
			  &w->count[1]);
}

/* --- names and source sets ------------------------------------------------------------------- */

static int name_write(struct apply *a, const struct sv_port *p)
{
	struct bn_svc_name n = {.type = p->type};

	/* Longer names than Kubernetes allows are cut: they are for people. */
	memcpy(n.name, a->o->name, strnlen(a->o->name, sizeof(n.name) - 1));
	memcpy(n.port, p->name, strnlen(p->name, sizeof(n.port) - 1));
	return sv_put(a->m, BN_MAP_svc_names, &p->id, &n);
}

static uint32_t new_id(uint32_t *next)
{
	if (!*next)
		*next = 1;
	return (*next)++;
}

static struct sv_port *port_make(struct apply *a, const struct bn_want_port *wp)
{
	struct sv_port *p = NULL;

	a->port_err = sv_ns_may(a->m, a->o->ns, SV_NAMES, 1);
	if (!a->port_err)
		p = sv_port_new(a->m, a->o, new_id(&a->m->next_svc_id), wp->name, a->w->type);
	if (p && name_write(a, p) < 0) {
		sv_port_free(a->m, a->o, p);
		p = NULL;
	}
	return p;
}

static void port_rename(struct apply *a, struct sv_port *p, const struct bn_want_port *wp)
{
	char *name;

	if (p->type == a->w->type &&
	    !strncmp(p->name, wp->name, sizeof(((struct bn_svc_name *)0)->port) - 1))
		return;
	name = strdup(wp->name);
	if (name) {
		free(p->name);
		p->name = name;
	}
	p->type = a->w->type;
	(void)name_write(a, p);
}

/* A service port keeps its id (affinity hangs on it) as long as one of its frontends stays. */
static void ports_place(struct apply *a)
{
	const struct bn_svc_want *w = a->w;

	for (uint32_t i = 0; i < w->nfronts; i++) {
		const struct bn_want_front *f = &w->fronts[i];
		struct sv_rec *r = a->ports[f->port] ? NULL : sv_rec_find(a->m, &f->key);

		if (!r || r->owner != a->o || r->port->mark == a->m->round)
			continue;
		a->ports[f->port] = r->port;
		r->port->mark = a->m->round;
		port_rename(a, r->port, &w->ports[f->port]);
	}
	/* one without frontends (all of them another service's) needs no name */
	for (uint32_t i = 0; i < w->nfronts; i++)
		if (!a->ports[w->fronts[i].port])
			a->ports[w->fronts[i].port] = port_make(a, &w->ports[w->fronts[i].port]);
}

static void port_unref(struct bn_svcmap *m, struct bn_svc_owner *o, struct sv_port *p)
{
	if (p->refs && --p->refs)
		return;
	(void)sv_del(m, BN_MAP_svc_names, &p->id);
	sv_port_free(m, o, p);
}

static void ports_drop_unused(struct apply *a)
{
	struct sv_port *p, *next;

	for (p = a->o->ports; p; p = next) {
		next = p->next;
		if (!p->refs)
			port_unref(a->m, a->o, p);
	}
}

static int src_cmp(const void *pa, const void *pb)
{
	return memcmp(pa, pb, sizeof(struct bn_want_src));
}

static void set_unref(struct bn_svcmap *m, struct sv_set *s)
{
	if (s && !--s->refs)
		sv_pend(m, (struct sv_pend){.what = SV_PEND_SET, .set = s});
}

static int set_write(struct bn_svcmap *m, struct sv_set *s)
{
	const __u32 one = 1;
	struct bn_src_key k;
	int r = 0;

	for (uint32_t i = 0; i < s->n && !r; i++) {
		sv_src_key(s->id, &s->v[i], &k);
		r = sv_put(m, BN_MAP_src_ranges, &k, &one);
	}
	for (uint32_t i = 0; i < s->n && r < 0; i++) {
		sv_src_key(s->id, &s->v[i], &k);
		(void)sv_del(m, BN_MAP_src_ranges, &k);
	}
	return r;
}

static int set_make(struct apply *a, uint32_t n)
{
	struct sv_set *s = sv_set_new(a->m, new_id(&a->m->next_set));
	int r;

	if (!s)
		return -ENOMEM;
	s->v = calloc(n, sizeof(*s->v));
	if (!s->v) {
		sv_set_free(a->m, s);
		return -ENOMEM;
	}
	memcpy(s->v, a->w->src, n * sizeof(*s->v));
	s->n = n;
	s->refs = 1; /* held until the end of apply */
	r = set_write(a->m, s);
	if (r < 0) {
		sv_set_free(a->m, s);
		return r == -ENOMEM ? -ENOMEM : -ENOSPC;
	}
	a->set = s;
	return 0;
}

static void set_place(struct apply *a)
{
	struct bn_want_src *v = a->w->src;
	uint32_t n = 0;
	bool used = false;

	for (uint32_t i = 0; i < a->w->nfronts && !used; i++)
		used = a->w->fronts[i].flags & BN_SVC_F_SRC_RANGES;
	if (!a->w->nsrc || !used)
		return;
	qsort(v, a->w->nsrc, sizeof(*v), src_cmp);
	for (uint32_t i = 0; i < a->w->nsrc; i++)
		if (!n || src_cmp(&v[n - 1], &v[i]))
			v[n++] = v[i];
	for (struct sv_rec *r = a->o->recs; r; r = r->next)
		if (r->set && r->set->n == n && !memcmp(r->set->v, v, n * sizeof(*v))) {
			a->set = r->set;
			a->set->refs++;
			return;
		}
	a->set_err = set_make(a, n);
}

/* --- records --------------------------------------------------------------------------------- */

static void svc_fill(struct apply *a, uint32_t idx, const struct bn_want_front *f,
		     const struct apply_words *w)
{
	struct bn_svc *s = sv_svc(a->m, idx);

	/* What a daemon that died left here refers to nothing. */
	s->range = BN_RANGE(0, 0, BN_RANGE_GEN(s->range));
	s->range_int = BN_RANGE(0, 0, BN_RANGE_GEN(s->range_int));
	s->key = f->key;
	s->flags = f->flags;
	s->affinity_s = f->affinity_s;
	s->svc_id = a->ports[f->port]->id;
	s->src_set = f->flags & BN_SVC_F_SRC_RANGES ? a->set->id : 0;
	s->pad = 0;
	s->spare[0] = 0;
	(void)sv_word_set(a->m, idx, 1, w->base[1], w->count[1]);
	(void)sv_word_set(a->m, idx, 0, w->base[0], w->count[0]);
	a->m->writes++;
}

/* The record is no front's any more. A flow that remembers the index sees that from the key; a
 * reader that has compared the key already goes on with the lists, which stay until no reader can
 * be left.
 */
static void svc_clear(struct bn_svcmap *m, uint32_t idx)
{
	memset(&sv_svc(m, idx)->key, 0, sizeof(struct bn_front_key));
	m->writes++;
	sv_pend(m, (struct sv_pend){.what = SV_PEND_IDX, .a = idx});
}

static void rec_refs(struct apply *a, struct sv_rec *r, const struct bn_want_front *f)
{
	struct sv_set *set = f->flags & BN_SVC_F_SRC_RANGES ? a->set : NULL;

	a->ports[f->port]->refs++;
	r->port = a->ports[f->port];
	if (set)
		set->refs++;
	r->set = set;
}

static int rec_create(struct apply *a, const struct bn_want_front *f, const struct apply_words *w)
{
	bool external = sv_external(f->flags), with_addr = f->key.scope == BN_SCOPE_EXACT;
	struct sv_rec *rec;
	uint32_t idx;
	int r = sv_ns_may(a->m, a->o->ns, SV_RECORDS, 1) ?: sv_idx_take(a->m, &idx);

	if (r < 0)
		return r;
	svc_fill(a, idx, f, w);
	rec = sv_rec_new(a->m, a->o, idx);
	r = rec ? 0 : -ENOMEM;
	if (!r && with_addr)
		r = sv_addr_ref(a->m, &f->key.addr, external);
	if (!r) {
		struct bn_front_val val = {idx};

		r = sv_put(a->m, BN_MAP_fronts, &f->key, &val);
		if (r < 0 && with_addr)
			sv_addr_unref(a->m, &f->key.addr, external);
	}
	if (r < 0) {
		if (rec) {
			bn_htab_del(&a->m->recs, &rec->h);
			sv_rec_unlink(a->m, rec);
			a->m->by_idx[idx] = NULL;
			free(rec);
		}
		svc_clear(a->m, idx);
		return r == -E2BIG ? -ENOSPC : r;
	}
	rec_refs(a, rec, f);
	rec->mark = a->m->round;
	return 0;
}

/* Another index for the same key: its flags, owner, affinity or source set change as one. */
static int rec_replace(struct apply *a, struct sv_rec *rec, const struct bn_want_front *f,
		       const struct apply_words *w)
{
	bool external = sv_external(f->flags), was = sv_external(sv_svc(a->m, rec->idx)->flags);
	struct bn_svc_owner *old_owner = rec->owner;
	struct sv_port *old_port = rec->port;
	struct sv_set *old_set = rec->set;
	struct bn_front_val val;
	uint32_t idx, old = rec->idx;
	int r = sv_idx_take(a->m, &idx);

	if (r < 0)
		return r;
	svc_fill(a, idx, f, w);
	if (f->key.scope == BN_SCOPE_EXACT && external != was)
		r = sv_addr_ref(a->m, &f->key.addr, external);
	val.idx = idx;
	r = r ? r : sv_put(a->m, BN_MAP_fronts, &f->key, &val);
	if (r < 0) {
		svc_clear(a->m, idx);
		return r == -E2BIG ? -ENOSPC : r;
	}
	if (f->key.scope == BN_SCOPE_EXACT && external != was)
		sv_addr_unref(a->m, &f->key.addr, was);
	rec->idx = idx;
	a->m->by_idx[idx] = rec;
	a->m->by_idx[old] = NULL;
	sv_rec_unlink(a->m, rec);
	sv_rec_link(rec, a->o);
	rec_refs(a, rec, f);
	rec->mark = a->m->round;
	svc_clear(a->m, old);
	port_unref(a->m, old_owner, old_port);
	set_unref(a->m, old_set);
	return 0;
}

static void rec_delete(struct bn_svcmap *m, struct sv_rec *rec)
{
	struct bn_svc *s = sv_svc(m, rec->idx);
	struct bn_front_key key = s->key;
	bool external = sv_external(s->flags);

	(void)sv_del(m, BN_MAP_fronts, &key);
	bn_htab_del(&m->recs, &rec->h);
	m->by_idx[rec->idx] = NULL;
	svc_clear(m, rec->idx);
	if (key.scope == BN_SCOPE_EXACT)
		sv_addr_unref(m, &key.addr, external);
	port_unref(m, rec->owner, rec->port);
	set_unref(m, rec->set);
	sv_rec_unlink(m, rec);
	free(rec);
}

static bool rec_same(const struct apply *a, const struct sv_rec *rec, const struct bn_want_front *f)
{
	const struct bn_svc *s = sv_svc(a->m, rec->idx);

	return rec->owner == a->o && rec->port == a->ports[f->port] && s->flags == f->flags &&
	       s->affinity_s == f->affinity_s &&
	       rec->set == (f->flags & BN_SVC_F_SRC_RANGES ? a->set : NULL);
}

static int front_apply(struct apply *a, const struct bn_want_front *f)
{
	struct sv_rec *rec = sv_rec_find(a->m, &f->key);
	struct apply_words w;
	int r;

	/* Whatever fails below, what is in force for this front stays. */
	if (rec && rec->owner == a->o)
		rec->mark = a->m->round;
	r = front_words(a, f, &w);
	if (!r && !a->ports[f->port])
		r = a->port_err ?: -ENOSPC;
	if (!r && (f->flags & BN_SVC_F_SRC_RANGES))
		r = a->set ? 0 : a->set_err < 0 ? a->set_err : -EINVAL;
	if (r < 0)
		return r;
	if (!rec)
		return rec_create(a, f, &w);
	if (!rec_same(a, rec, f))
		return rec_replace(a, rec, f, &w);
	/* Two classes of clients: each sees its old or its new list. */
	(void)sv_word_set(a->m, rec->idx, 1, w.base[1], w.count[1]);
	(void)sv_word_set(a->m, rec->idx, 0, w.base[0], w.count[0]);
	return 0;
}

static void apply_remove(struct apply *a)
{
	struct sv_rec *r, *next;

	for (r = a->o->recs; r; r = next) {
		next = r->next;
		if (r->mark != a->m->round)
			rec_delete(a->m, r);
	}
	ports_drop_unused(a);
	set_unref(a->m, a->set);
	if (!a->o->recs)
		sv_owner_free(a->m, a->o);
}

int bn_svcmap_apply(struct bn_svcmap *m, struct bn_svc_owner *o, const struct bn_svc_want *want,
		    struct bn_svc_applied *ret)
{
	static const struct bn_svc_want nothing;
	struct apply a = {.m = m, .o = o, .w = want ? want : &nothing, .ret = ret};
	_cleanup_(freep) struct apply_list *lists = NULL;
	_cleanup_(freep) struct sv_port **ports = NULL;
	int r;

	*ret = (struct bn_svc_applied){0};
	lists = calloc((size_t)a.w->nlists + 1, sizeof(*lists));
	ports = calloc((size_t)a.w->nports + 1, sizeof(struct sv_port *));
	if (!lists || !ports)
		return -ENOMEM;
	a.lists = lists;
	a.ports = ports;
	m->round++;
	for (uint32_t i = 0; i < a.w->nlists; i++) {
		lists[i].base = NONE;
		a.w->lists[i].v[0].members = a.w->lists[i].members;
	}
	lists_keep(&a);
	lists_place(&a);
	ports_place(&a);
	set_place(&a);
	for (uint32_t i = 0; i < a.w->nfronts; i++) {
		r = front_apply(&a, &a.w->fronts[i]);
		if (r < 0) {
			ret->refused++;
			ret->error = ret->error ? ret->error : r;
		}
	}
	lists_release(&a);
	apply_remove(&a);
	return ret->error;
}
