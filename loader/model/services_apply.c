/* SPDX-License-Identifier: MIT */
/* One service: from its model to what it wants in the maps, conflicts settled. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "loader/log.h"
#include "loader/model/services_priv.h"
#include "maps/maglev.h"

/* A want and what it points at. */
struct wanted {
	struct bn_svc_want w;
	struct bn_want_port *ports;
	struct bn_want_list *lists;
	struct bn_want_front *fronts;
	uint32_t plain; /* lists that found no memory for a table */
};

static void wanted_freep(struct wanted **p)
{
	struct wanted *w = *p;

	if (!w)
		return;
	for (uint32_t i = 0; i < w->w.nlists; i++)
		free(w->lists[i].v);
	free(w->lists);
	free(w->ports);
	free(w->fronts);
	free(w->w.src);
	free(w);
	*p = NULL;
}

/* --- lists ----------------------------------------------------------------------------------- */

static void backend_fill(struct bn_backend *b, const struct bn_sm_ep *e)
{
	*b = (struct bn_backend){
		.addr = e->addr,
		.port = htobe16(e->port),
		.flags = (e->flags & BN_SM_LOCAL ? BN_BE_F_LOCAL : 0) |
			 (e->cond & BN_EP_TERMINATING ? BN_BE_F_TERMINATING : 0),
	};
}

/* The endpoints with `bit`, in the order of the model, which is the order that slots want. */
static uint32_t list_chosen(const struct bn_sm_port *p, uint8_t bit, struct bn_backend *v)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->neps && n < UINT16_MAX; i++)
		if (p->eps[i].flags & bit)
			backend_fill(&v[n++], &p->eps[i]);
	return n;
}

/* What may keep flows that exist: every endpoint that serves, whatever policy and hints say. */
static uint32_t list_members(const struct bn_sm_port *p, uint8_t bit, struct bn_backend *v)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->neps; i++) {
		const struct bn_sm_ep *e = &p->eps[i];

		if (!(e->flags & bit) && !(e->cond & BN_EP_SERVING))
			continue;
		backend_fill(&v[n], e);
		v[n++].flags |= e->flags & bit ? BN_BE_F_CHOSEN : 0;
	}
	return n;
}

/* Only flows of UDP are moved when their backend goes; the others need no members of their own. */
static bool needs_members(const struct bn_sm_port *p, uint8_t bit)
{
	for (uint32_t i = 0; p->proto == BN_PROTO_UDP && i < p->neps; i++)
		if (!(p->eps[i].flags & bit) && (p->eps[i].cond & BN_EP_SERVING))
			return true;
	return false;
}

static int list_plain(const struct bn_sm_port *p, uint8_t bit, struct bn_want_list *l)
{
	l->v = calloc(2 * (size_t)p->neps + 1, sizeof(*l->v));
	if (!l->v)
		return -ENOMEM;
	l->n = list_chosen(p, bit, l->v);
	l->members = needs_members(p, bit) ? list_members(p, bit, l->v + l->n) : 0;
	return 0;
}

static int list_maglev(const struct bn_sm_port *p, uint8_t bit, struct bn_want_list *l)
{
	_cleanup_(freep) struct bn_backend *one = calloc((size_t)p->neps + 1, sizeof(*one));
	_cleanup_(freep) uint16_t *table = NULL;
	uint32_t n, size;
	int r;

	if (!one)
		return -ENOMEM;
	n = list_chosen(p, bit, one);
	size = bn_maglev_size(n);
	if (n < 2 || !size)
		return list_plain(p, bit, l); /* nothing to choose; or more than a table holds */
	table = calloc(size, sizeof(*table));
	l->v = calloc((size_t)size + p->neps, sizeof(*l->v));
	if (!table || !l->v)
		return -ENOMEM;
	r = bn_maglev_build(one, n, size, table);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < size; i++)
		l->v[i] = one[table[i]];
	l->n = size;
	l->members = list_members(p, bit, l->v + size);
	return 0;
}

static int want_list(struct wanted *w, const struct bn_sm_port *p, uint8_t list, bool plain,
		     int of[BN_LIST__MAX])
{
	uint8_t bit = list == BN_LIST_CLUSTER ? BN_SM_CLUSTER : BN_SM_NEAR;
	struct bn_want_list *l;
	int r;

	if (list == BN_LIST_REJECT || list == BN_LIST_DROP)
		return list == BN_LIST_DROP ? BN_WANT_DROP : BN_WANT_REJECT;
	if (of[list] >= 0)
		return of[list];
	l = &w->lists[w->w.nlists++];
	r = p->maglev && !plain ? list_maglev(p, bit, l) : list_plain(p, bit, l);
	if (r < 0)
		return -ENOMEM; /* below every BN_WANT_* */
	of[list] = (int)w->w.nlists - 1;
	return of[list];
}

_Static_assert(-ENOMEM < BN_WANT_DROP && -ENOMEM < BN_WANT_REJECT, "told apart by value");

/* --- the want -------------------------------------------------------------------------------- */

static uint32_t want_port(struct wanted *w, const struct bn_sm_port *p)
{
	uint32_t i;

	/* both families of a port share its id: affinity is per service port */
	for (i = 0; i < w->w.nports; i++)
		if (w->ports[i].proto == p->proto && !strcmp(w->ports[i].name, p->name))
			return i;
	w->ports[w->w.nports++] = (struct bn_want_port){ p->name, p->proto };
	return i;
}

static int want_fill_port(struct wanted *w, const struct bn_sm_port *p, bool plain)
{
	uint32_t port = want_port(w, p);
	int of[BN_LIST__MAX] = { -1, -1, -1, -1 };

	for (uint32_t i = 0; i < p->nfronts; i++) {
		const struct bn_sm_front *f = &p->fronts[i];
		struct bn_want_front *wf = &w->fronts[w->w.nfronts++];

		*wf = (struct bn_want_front){
			.key = f->key,
			.flags = plain ? f->flags & ~(uint32_t)BN_SVC_F_MAGLEV : f->flags,
			.affinity_s = p->affinity_s,
			.port = port,
			.list = want_list(w, p, f->list, plain, of),
			.list_int = BN_WANT_REJECT,
		};
		if (f->flags & BN_SVC_F_SPLIT)
			wf->list_int = want_list(w, p, f->list_int, plain, of);
		if (wf->list == -ENOMEM || wf->list_int == -ENOMEM)
			return -ENOMEM;
	}
	return 0;
}

static int want_sources(struct wanted *w, const struct bn_svcmodel *m)
{
	w->w.src = calloc((size_t)m->nsrc[0] + m->nsrc[1] + 1, sizeof(*w->w.src));
	if (!w->w.src)
		return -ENOMEM;
	for (int f = 0; f < 2; f++)
		for (uint32_t i = 0; i < m->nsrc[f]; i++)
			w->w.src[w->w.nsrc++] = (struct bn_want_src){ m->src[f][i].addr,
								      m->src[f][i].prefix };
	return 0;
}

/* plain: lists instead of tables, because there was no room for tables. */
static int want_build(const struct bn_svcmodel *m, bool plain, struct wanted **ret)
{
	_cleanup_(wanted_freep) struct wanted *w = calloc(1, sizeof(*w));
	size_t nfronts = 0;
	int r;

	if (!w)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->nports; i++)
		nfronts += m->ports[i].nfronts;
	w->ports = calloc((size_t)m->nports + 1, sizeof(*w->ports));
	w->lists = calloc(2 * (size_t)m->nports + 1, sizeof(*w->lists));
	w->fronts = calloc(nfronts + 1, sizeof(*w->fronts));
	if (!w->ports || !w->lists || !w->fronts)
		return -ENOMEM;
	w->w.type = (uint8_t)m->svc->type;
	for (uint32_t i = 0; i < m->nports; i++) {
		r = want_fill_port(w, &m->ports[i], plain);
		if (r < 0)
			return r;
		w->plain += plain && m->ports[i].maglev;
	}
	r = want_sources(w, m);
	if (r < 0)
		return r;
	w->w.ports = w->ports;
	w->w.lists = w->lists;
	w->w.fronts = w->fronts;
	*ret = TAKE_PTR(w);
	return 0;
}

/* --- two services, one frontend -------------------------------------------------------------- */

static enum bn_front_kind kind_of(uint32_t flags)
{
	return flags & BN_SVC_F_NODEPORT	 ? BN_FRONT_NODEPORT :
	       flags & BN_SVC_F_LOADBALANCER ? BN_FRONT_LOADBALANCER :
	       flags & BN_SVC_F_EXTERNAL	 ? BN_FRONT_EXTERNALIP :
						   BN_FRONT_CLUSTERIP;
}

/* Does the entry's object still want the key, and as what? Endpoints do not matter for that. */
static bool ent_claims(const struct bn_services *s, const struct svc_ent *e,
		       const struct bn_front_key *key, enum bn_front_kind *kind)
{
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;

	if (!e || !e->svc || bn_svcmodel_build(e->svc, NULL, 0, &s->env, &m) < 0)
		return false;
	for (uint32_t i = 0; i < m->nports; i++)
		for (uint32_t j = 0; j < m->ports[i].nfronts; j++)
			if (!memcmp(&m->ports[i].fronts[j].key, key, sizeof(*key))) {
				*kind = m->ports[i].fronts[j].kind;
				return true;
			}
	return false;
}

static struct svc_ent *owner_ent(const struct bn_services *s, const struct bn_svc_owner *o)
{
	char buf[SVC_NAME_MAX], *slash;

	snprintf(buf, sizeof(buf), "%s", bn_svc_owner_name(o));
	slash = strchr(buf, '/');
	if (!slash)
		return NULL;
	*slash = '\0';
	return services_find(s, buf, slash + 1);
}

static int loss_note(struct bn_services *s, struct svc_ent *e, const struct bn_front_key *key)
{
	struct svc_loss *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->key = *key;
	l->ent = e;
	if (bn_htab_add(&s->losses, &l->h, bn_hash_bytes(key, sizeof(*key))) < 0) {
		free(l);
		return -ENOMEM;
	}
	l->next = e->losses;
	e->losses = l;
	return 0;
}

void services_losses_drop(struct bn_services *s, struct svc_ent *e)
{
	while (e->losses) {
		struct svc_loss *l = e->losses;

		e->losses = l->next;
		bn_htab_del(&s->losses, &l->h);
		free(l);
	}
}

/* Whoever lost this front before tries again, after this entry. */
static void losers_wake(struct bn_services *s, const struct svc_ent *e, const struct bn_front_key *key)
{
	struct bn_hnode *n = bn_htab_first(&s->losses, bn_hash_bytes(key, sizeof(*key)));

	for (; n; n = bn_htab_next(n)) {
		struct svc_loss *l = bn_container(n, struct svc_loss, h);

		if (l->ent != e && !memcmp(&l->key, key, sizeof(*key)))
			services_dirty(s, l->ent);
	}
}

/* True if the front is ours. A holder that does not want it any more, or less than we do, loses it:
 * apply moves it over without a gap. Others may have waited for that holder to let go.
 */
static bool front_won(struct bn_services *s, struct svc_ent *e, const struct bn_svc_owner *self,
		      const struct bn_want_front *f)
{
	struct bn_svc_owner *holder = bn_svcmap_holder(s->map, &f->key);
	enum bn_front_kind kind;
	struct svc_ent *other;

	if (!holder || holder == self)
		return true;
	other = owner_ent(s, holder);
	if (ent_claims(s, other, &f->key, &kind)) {
		if (bn_front_precedence(kind_of(f->flags), &e->svc->o, kind, &other->svc->o) > 0)
			return false;
		services_dirty(s, other);
	}
	losers_wake(s, e, &f->key);
	return true;
}

static int conflicts_settle(struct bn_services *s, struct svc_ent *e,
			    const struct bn_svc_owner *self, struct wanted *w, uint32_t *lost)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->w.nfronts; i++) {
		struct bn_want_front *f = &w->fronts[i];
		int r;

		if (front_won(s, e, self, f)) {
			w->fronts[n++] = *f;
			continue;
		}
		r = loss_note(s, e, &f->key);
		if (r < 0)
			return r;
	}
	*lost = w->w.nfronts - n;
	w->w.nfronts = n;
	return 0;
}

/* Who waits for a front that this entry has. */
struct waiting {
	struct bn_services *s;
	struct svc_wait {
		struct bn_front_key key;
		enum bn_front_kind kind;
	} *v;
	uint32_t n;
};

static int wait_note(const struct bn_svc_view *view, void *data)
{
	const struct bn_front_key *key = &view->svc->key;
	struct waiting *w = data;
	struct svc_wait *v;
	struct bn_hnode *n = bn_htab_first(&w->s->losses, bn_hash_bytes(key, sizeof(*key)));

	if (!n)
		return 0;
	v = reallocarray(w->v, w->n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	w->v = v;
	v[w->n++] = (struct svc_wait){ *key, kind_of(view->svc->flags) };
	return 0;
}

/* After the entry was applied: whoever waits for a front that it left, or wants less than before,
 * tries again.
 */
static void wait_wake(struct bn_services *s, struct svc_ent *e, struct waiting *w,
		      const struct wanted *now)
{
	for (uint32_t i = 0; i < w->n; i++) {
		const struct bn_front_key *key = &w->v[i].key;
		bool same = false;

		for (uint32_t j = 0; now && j < now->w.nfronts && !same; j++)
			same = !memcmp(&now->fronts[j].key, key, sizeof(*key)) &&
			       kind_of(now->fronts[j].flags) == w->v[i].kind;
		if (!same)
			losers_wake(s, e, key);
	}
}

/* --- sums and health ------------------------------------------------------------------------- */

static void sums_set(struct bn_services *s, struct svc_ent *e, const struct svc_sums *n)
{
	struct svc_sums *t = &s->sums, *o = &e->sums;

	t->ports += n->ports - o->ports;
	t->endpoints += n->endpoints - o->endpoints;
	t->no_local_int += n->no_local_int - o->no_local_int;
	t->no_local_ext += n->no_local_ext - o->no_local_ext;
	t->refused += n->refused - o->refused;
	t->conflicts += n->conflicts - o->conflicts;
	t->plain += n->plain - o->plain;
	*o = *n;
}

static void sums_of(const struct bn_svcmodel *m, struct svc_sums *n)
{
	for (uint32_t i = 0; i < m->nports; i++) {
		const struct bn_sm_port *p = &m->ports[i];
		bool empty = p->ncluster && !p->nlocal;

		n->ports++;
		n->endpoints += p->neps;
		n->no_local_int += m->svc->itp_local && empty;
		n->no_local_ext += m->svc->etp_local && empty && p->nfronts > 1;
	}
}

static void health_set(struct bn_services *s, struct svc_ent *e, const struct bn_svcmodel *m)
{
	e->health_port = m ? m->health_port : 0;
	e->health_local[0] = m ? m->health_local[0] : 0;
	e->health_local[1] = m ? m->health_local[1] : 0;
	if (!!e->health_port == !!e->health_prev)
		return;
	if (e->health_prev) {
		*e->health_prev = e->health_next;
		if (e->health_next)
			e->health_next->health_prev = e->health_prev;
		e->health_prev = NULL;
		return;
	}
	e->health_next = s->health;
	e->health_prev = &s->health;
	if (s->health)
		s->health->health_prev = &e->health_next;
	s->health = e;
}

/* --- apply ----------------------------------------------------------------------------------- */

static void complain(struct svc_ent *e, const struct svc_sums *n, int error)
{
	const char *origin = e->svc && e->svc->o.origin ? e->svc->o.origin : "";

	if (!n->refused && !n->conflicts && !n->plain) {
		e->complained = false;
		return;
	}
	if (e->complained)
		return;
	e->complained = true;
	if (n->refused)
		log_error("service %s/%s: %u of its frontends are not in force as they should be: %s; "
			  "the maps are too small (--max-backends)",
			  e->ns, e->name, n->refused, strerror(-error));
	if (n->conflicts)
		log_warn("service %s/%s: %u of its frontends belong to another service already %s",
			 e->ns, e->name, n->conflicts, origin);
	if (n->plain)
		log_warn("service %s/%s: no room for a Maglev table, choosing at random", e->ns,
			 e->name);
}

/* Tables are large; where they do not fit, the plain list may. */
static int apply_want(struct bn_services *s, struct svc_ent *e, const struct bn_svcmodel *m,
		      struct wanted **want, struct svc_sums *sums, int *error)
{
	char buf[SVC_NAME_MAX];
	const char *name = services_full_name(e, buf);
	struct bn_svc_applied done = { 0 };
	bool maglev = false, plain = false;

	for (uint32_t i = 0; i < m->nports; i++)
		maglev |= m->ports[i].maglev;
	for (;; plain = true) {
		struct bn_svc_owner *self;
		int r;

		wanted_freep(want);
		services_losses_drop(s, e);
		r = want_build(m, plain, want);
		if (r < 0)
			return r;
		self = bn_svcmap_get(s->map, name);
		if (!self)
			return -ENOMEM;
		r = conflicts_settle(s, e, self, *want, &sums->conflicts);
		if (r < 0)
			return r;
		r = bn_svcmap_apply(s->map, self, &(*want)->w, &done);
		if (r < 0 && !done.refused)
			return r;
		if (!done.refused || !maglev || plain)
			break;
	}
	sums->refused = done.refused;
	sums->plain = (*want)->plain;
	*error = done.error;
	return done.error;
}

static int apply_nothing(struct bn_services *s, struct svc_ent *e)
{
	char buf[SVC_NAME_MAX];
	struct bn_svc_owner *self = bn_svcmap_find(s->map, services_full_name(e, buf));
	struct bn_svc_applied done;

	services_losses_drop(s, e);
	return self ? bn_svcmap_apply(s->map, self, NULL, &done) : 0;
}

int services_apply(struct bn_services *s, struct svc_ent *e)
{
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;
	_cleanup_(wanted_freep) struct wanted *want = NULL;
	struct bn_svc_owner *self = NULL;
	struct waiting waiting = { .s = s };
	struct svc_sums sums = { 0 };
	char buf[SVC_NAME_MAX];
	int r = 0, error = 0;

	if (e->svc)
		r = bn_svcmodel_build(e->svc, (const struct bn_slice *const *)e->slices, e->nslices,
				      &s->env, &m);
	if (!r && s->losses.n)
		self = bn_svcmap_find(s->map, services_full_name(e, buf));
	if (self)
		r = bn_svcmap_each_of(s->map, self, wait_note, &waiting);
	if (!r) {
		if (m && m->nports) {
			sums_of(m, &sums);
			r = apply_want(s, e, m, &want, &sums, &error);
		} else {
			r = apply_nothing(s, e);
		}
	}
	wait_wake(s, e, &waiting, want);
	free(waiting.v);
	if (r < 0 && !sums.refused) {
		sums = e->sums;
		sums.refused = sums.refused ? sums.refused : 1; /* tried again later */
		error = r;
	}
	sums_set(s, e, &sums);
	health_set(s, e, m);
	complain(e, &sums, error);
	return r;
}
