/* SPDX-License-Identifier: MIT */
/* Two services may claim one frontend: who has it, who waits for it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loader/model/services_priv.h"

enum bn_front_kind services_kind(uint32_t flags)
{
	return flags & BN_SVC_F_NODEPORT       ? BN_FRONT_NODEPORT
	       : flags & BN_SVC_F_LOADBALANCER ? BN_FRONT_LOADBALANCER
	       : flags & BN_SVC_F_EXTERNAL     ? BN_FRONT_EXTERNALIP
					       : BN_FRONT_CLUSTERIP;
}

/* The model of the holder that was asked about last: two services may share thousands of fronts. */
struct rival {
	const struct svc_ent *ent;
	struct bn_svcmodel *m;
};

/* Does the entry's object still want the key, and as what? Endpoints do not matter for that. */
static bool ent_claims(const struct bn_services *s, struct rival *rival, const struct svc_ent *e,
		       const struct bn_front_key *key, enum bn_front_kind *kind)
{
	if (!e || !e->svc)
		return false;
	if (rival->ent != e) {
		bn_svcmodel_freep(&rival->m);
		rival->ent = e;
		if (bn_svcmodel_build(e->svc, NULL, 0, &s->env, &rival->m) < 0)
			rival->m = NULL;
	}
	for (uint32_t i = 0; rival->m && i < rival->m->nports; i++)
		for (uint32_t j = 0; j < rival->m->ports[i].nfronts; j++) {
			const struct bn_sm_front *f = &rival->m->ports[i].fronts[j];

			if (memcmp(&f->key, key, sizeof(*key)))
				continue;
			*kind = f->kind;
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
static void losers_wake(struct bn_services *s, const struct svc_ent *e,
			const struct bn_front_key *key)
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
		      const struct bn_want_front *f, struct rival *rival)
{
	struct bn_svc_owner *holder = bn_svcmap_holder(s->map, &f->key);
	enum bn_front_kind kind;
	struct svc_ent *other;

	if (!holder || holder == self)
		return true;
	other = owner_ent(s, holder);
	if (ent_claims(s, rival, other, &f->key, &kind)) {
		if (bn_front_precedence(services_kind(f->flags), &e->svc->o, kind, &other->svc->o) >
		    0)
			return false;
		services_dirty(s, other);
	}
	losers_wake(s, e, &f->key);
	return true;
}

int services_settle(struct bn_services *s, struct svc_ent *e, const struct bn_svc_owner *self,
		    struct bn_want_front *fronts, uint32_t *nfronts)
{
	struct rival rival = {0};
	uint32_t n = 0;
	int r = 0;

	for (uint32_t i = 0; !r && i < *nfronts; i++) {
		struct bn_want_front *f = &fronts[i];

		if (front_won(s, e, self, f, &rival))
			fronts[n++] = *f;
		else
			r = loss_note(s, e, &f->key);
	}
	bn_svcmodel_freep(&rival.m);
	*nfronts = n;
	return r;
}

static int wait_note(const struct bn_svc_view *view, void *data)
{
	const struct bn_front_key *key = &view->svc->key;
	struct svc_waiting *w = data;
	struct svc_wait *v;
	struct bn_hnode *n = bn_htab_first(&w->s->losses, bn_hash_bytes(key, sizeof(*key)));

	if (!n)
		return 0;
	if (!(w->n & (w->n - 1))) { /* grows by powers of two */
		v = reallocarray(w->v, w->n ? w->n * 2 : 1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		w->v = v;
	}
	w->v[w->n++] = (struct svc_wait){*key, services_kind(view->svc->flags)};
	return 0;
}

int services_waiting(struct bn_services *s, const struct bn_svc_owner *self,
		     struct svc_waiting *ret)
{
	*ret = (struct svc_waiting){.s = s};
	return self && s->losses.n ? bn_svcmap_each_of(s->map, self, wait_note, ret) : 0;
}

void services_wake(struct bn_services *s, struct svc_ent *e, struct svc_waiting *w,
		   const struct bn_want_front *fronts, uint32_t nfronts)
{
	for (uint32_t i = 0; i < w->n; i++) {
		const struct bn_front_key *key = &w->v[i].key;
		bool same = false;

		for (uint32_t j = 0; j < nfronts && !same; j++)
			same = !memcmp(&fronts[j].key, key, sizeof(*key)) &&
			       services_kind(fronts[j].flags) == w->v[i].kind;
		if (!same)
			losers_wake(s, e, key);
	}
	free(w->v);
	*w = (struct svc_waiting){0};
}
