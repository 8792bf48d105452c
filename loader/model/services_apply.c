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

/* Nobody for new connections, but UDP flows that exist stay with whoever serves. */
static int list_none(const struct bn_sm_port *p, struct bn_want_list *l)
{
	l->v = calloc((size_t)p->neps + 1, sizeof(*l->v));
	if (!l->v)
		return -ENOMEM;
	l->v[0].flags = BN_BE_F_NONE;
	l->n = 1;
	l->members = list_members(p, BN_SM_NEAR, l->v + 1);
	return 0;
}

static int want_list(struct wanted *w, const struct bn_sm_port *p, uint8_t list, bool plain,
		     int of[BN_LIST__MAX])
{
	uint8_t bit = list == BN_LIST_CLUSTER ? BN_SM_CLUSTER : BN_SM_NEAR;
	struct bn_want_list *l;
	int r;

	if (list == BN_LIST_REJECT)
		return BN_WANT_REJECT;
	if (list == BN_LIST_DROP && !needs_members(p, BN_SM_NEAR))
		return BN_WANT_DROP;
	if (of[list] >= 0)
		return of[list];
	l = &w->lists[w->w.nlists++];
	if (list == BN_LIST_DROP)
		r = list_none(p, l);
	else
		r = p->maglev && !plain ? list_maglev(p, bit, l) : list_plain(p, bit, l);
	if (r < 0)
		return -ENOMEM; /* below every BN_WANT_* */
	of[list] = (int)w->w.nlists - 1;
	return of[list];
}

_Static_assert(-ENOMEM < BN_WANT_DROP && -ENOMEM < BN_WANT_REJECT, "told apart by value");

/* --- the want -------------------------------------------------------------------------------- */

static int want_fill_port(struct wanted *w, const struct bn_sm_port *p, uint32_t port, bool plain)
{
	int of[BN_LIST__MAX] = {-1, -1, -1, -1};

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
			w->w.src[w->w.nsrc++] =
				(struct bn_want_src){m->src[f][i].addr, m->src[f][i].prefix};
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
	/* The model has the ports of one family, then the same ports of the other: both share an
	 * id, as affinity is per service port.
	 */
	w->w.nports = m->nports && m->ports[0].v4 != m->ports[m->nports - 1].v4 ? m->nports / 2
										: m->nports;
	for (uint32_t i = 0; i < w->w.nports; i++)
		w->ports[i] = (struct bn_want_port){m->ports[i].name, m->ports[i].proto};
	for (uint32_t i = 0; i < m->nports; i++) {
		r = want_fill_port(w, &m->ports[i], i % w->w.nports, plain);
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
	t->retry += n->retry - o->retry;
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

#define COMPLAINTS 10 /* a minute: a namespace that has ten thousand services writes no ten thousand lines */

static bool too_many(struct svc_ns *n)
{
	uint64_t now = services_now_ns();

	if (now - n->complained_ns > 60000000000ull) {
		n->complained_ns = now;
		n->complaints = 0;
	}
	if (n->complaints++ == COMPLAINTS)
		log_error("namespace %s: more of its services have no room or conflict: `bpfnet svc list`, "
			  "bpfnet_service_refused; no more lines about them for a minute", n->name);
	return n->complaints > COMPLAINTS;
}

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
	if (too_many(e->space))
		return;
	if (n->refused)
		log_error("service %s/%s: %u of its frontends are not in force as they should be: "
			  "%s; %s",
			  e->ns, e->name, n->refused, error == -EDQUOT ? "no room" : strerror(-error),
			  error == -E2BIG	? "external addresses times ports are too many"
			  : error == -EDQUOT ? "its namespace has seven eighths of all, or more than is left for the others"
					  : "the maps are too small (--max-backends)");
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
	struct bn_svc_applied done = {0};
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
		sums->conflicts = (*want)->w.nfronts;
		r = services_settle(s, e, self, (*want)->fronts, &(*want)->w.nfronts);
		if (r < 0)
			return r;
		sums->conflicts -= (*want)->w.nfronts;
		r = bn_svcmap_apply(s->map, self, &(*want)->w, &done);
		if (r < 0 && !done.refused)
			return r;
		if (!done.refused || !maglev || plain)
			break;
	}
	sums->refused = done.refused + m->left_out;
	sums->retry = done.refused > 0; /* there may be room later; what is left out stays so */
	if (m->left_out && !done.error)
		done.error = -E2BIG;
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

/* Connected UDP sockets of the node are looked after by loader/model/udpsocks.h. */
static void udp_note(struct bn_services *s, struct svc_ent *e, const struct bn_svcmodel *m)
{
	bool had = e->udp;

	e->udp = false;
	for (uint32_t i = 0; m && i < m->nports; i++)
		e->udp |= m->ports[i].proto == BN_PROTO_UDP;
	s->udp_gen += had;
	s->udp_came += e->udp && !had;
}

int services_apply(struct bn_services *s, struct svc_ent *e)
{
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;
	_cleanup_(wanted_freep) struct wanted *want = NULL;
	struct svc_waiting waiting = {0};
	struct svc_sums sums = {0};
	char buf[SVC_NAME_MAX];
	int r = 0, error = 0;

	if (e->svc)
		r = bn_svcmodel_build(e->svc, (const struct bn_slice *const *)e->slices, e->nslices,
				      &s->env, &m);
	if (!r && s->losses.n)
		r = services_waiting(s, bn_svcmap_find(s->map, services_full_name(e, buf)),
				     &waiting);
	if (!r && m && m->nports) {
		sums_of(m, &sums);
		r = apply_want(s, e, m, &want, &sums, &error);
	} else if (!r) {
		r = apply_nothing(s, e);
	}
	services_wake(s, e, &waiting, want ? want->fronts : NULL, want ? want->w.nfronts : 0);
	if (r < 0 && !sums.refused) {
		sums = e->sums;
		sums.refused = sums.refused ? sums.refused : 1;
		sums.retry = 1;
		error = r;
	}
	sums_set(s, e, &sums);
	services_refused(e, sums.retry, services_now_ns());
	health_set(s, e, m);
	udp_note(s, e, m);
	complain(e, &sums, error);
	return r;
}
