/* SPDX-License-Identifier: MIT */
/* The pods of this node that have a network of their own: by name, and by address. A cluster of one
 * node may have many thousands in its store without an interface here (tests, simulations): what is
 * done at every sync must not depend on them.
 */
#include <string.h>

#include "loader/log.h"
#include "loader/model/endpoints_priv.h"

static uint32_t name_hash(const char *ns, const char *name)
{
	return bn_hash_bytes(ns, strlen(ns)) * 31 + bn_hash_bytes(name, strlen(name));
}

struct ep_pod *ep_pod_named(const struct bn_endpoints *e, const char *ns, const char *name)
{
	struct bn_hnode *n = bn_htab_first(&e->by_name, name_hash(ns, name));

	for (; n; n = bn_htab_next(n)) {
		struct ep_pod *p = bn_container(n, struct ep_pod, by_name);

		if (!strcmp(p->obj->o.ns, ns) && !strcmp(p->obj->o.name, name))
			return p;
	}
	return NULL;
}

static void unindex(struct bn_endpoints *e, struct ep_pod *p)
{
	uint32_t i;

	for (i = 0; i < p->naddrs; i++)
		bn_htab_del(&e->by_addr, &p->addrs[i].node);
	freep(&p->addrs);
	p->naddrs = 0;
}

/* A finished pod has given its addresses back. */
static int index_addrs(struct bn_endpoints *e, struct ep_pod *p)
{
	uint32_t i, n = p->finished ? 0 : p->obj->nips;

	unindex(e, p);
	p->addrs = calloc(n + 1, sizeof(*p->addrs));
	if (!p->addrs)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		struct ep_addr *a = &p->addrs[i];

		a->addr = p->obj->ips[i];
		a->pod = p;
		if (bn_htab_add(&e->by_addr, &a->node, bn_hash_bytes(&a->addr, sizeof(a->addr))) <
		    0)
			return -ENOMEM;
		p->naddrs++;
	}
	return 0;
}

/* Of several Pod objects with one address (an old one that lingers), the one that lives. */
static bool better(const struct ep_pod *a, const struct ep_pod *b)
{
	if (!b)
		return true;
	if (a->obj->deleting != b->obj->deleting)
		return b->obj->deleting;
	return a->since_ns > b->since_ns;
}

struct ep_pod *ep_pod_with(const struct bn_endpoints *e, const struct bn_addr *a)
{
	struct bn_hnode *n = bn_htab_first(&e->by_addr, bn_hash_bytes(a, sizeof(*a)));
	struct ep_pod *best = NULL;

	for (; n; n = bn_htab_next(n)) {
		struct ep_addr *x = bn_container(n, struct ep_addr, node);

		if (bn_addr_eq(&x->addr, a) && better(x->pod, best))
			best = x->pod;
	}
	return best;
}

bool ep_pod_wants(const struct ep_pod *p)
{
	return !p->finished && p->obj->nips;
}

static bool is_local(const struct bn_endpoints *e, const struct bn_pod *p)
{
	return p && p->node && !p->host_network && !strcmp(p->node, e->env.opts->node_name);
}

static int pod_set(struct bn_endpoints *e, struct ep_pod *p, const struct bn_pod *obj)
{
	struct bn_obj *o = (struct bn_obj *)&obj->o; /* its count is all that changes */

	if (!p->obj || (!p->obj->nips && obj->nips))
		p->since_ns = ep_now();
	bn_obj_ref(o);
	if (p->obj)
		bn_obj_unref(&p->obj->o);
	p->obj = (struct bn_pod *)o;
	p->finished = obj->finished;
	return index_addrs(e, p);
}

void ep_pod_free(struct ep_pod *p)
{
	if (p->obj)
		bn_obj_unref(&p->obj->o);
	free(p->addrs);
	free(p->have);
	free(p);
}

/* Out of sight at once; out of the maps by the next sync. */
static void retire(struct bn_endpoints *e, struct ep_pod *p)
{
	size_t i;

	unindex(e, p);
	bn_htab_del(&e->by_name, &p->by_name);
	e->lpods[p->at] = e->lpods[--e->nlpods];
	e->lpods[p->at]->at = p->at;
	for (i = 0; i < e->nifs; i++)
		if (e->ifs[i]->pod == p) {
			e->ifs[i]->pod = NULL;
			e->ifs[i]->by = EP_BY_NOTHING;
			e->ifs[i]->ask_ns = 1; /* who has it now? */
			e->ifs[i]->asks = 0;
		}
	p->ifindex = 0;
	if (!p->slot && !p->nhave) {
		ep_pod_free(p);
		return;
	}
	if (ep_room(&e->gone, e->ngone, &e->agone, sizeof(*e->gone)) < 0)
		return; /* stays in force until the restart */
	e->gone[e->ngone++] = p;
}

static int add(struct bn_endpoints *e, const struct bn_pod *obj)
{
	struct ep_pod *p;
	int r;

	r = ep_room(&e->lpods, e->nlpods, &e->alpods, sizeof(*e->lpods));
	if (r < 0)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	r = bn_htab_add(&e->by_name, &p->by_name, name_hash(obj->o.ns, obj->o.name));
	if (r < 0) {
		free(p);
		return r;
	}
	p->at = e->nlpods;
	e->lpods[e->nlpods++] = p;
	return pod_set(e, p, obj);
}

void ep_on_pod(struct bn_endpoints *e, const struct bn_pod *old, const struct bn_pod *new)
{
	const struct bn_obj *o = new ? &new->o : &old->o;
	struct ep_pod *p = ep_pod_named(e, o->ns, o->name);
	bool same, local = is_local(e, new);
	int r = 0;

	if (!p && !local)
		return;
	ep_dirty(e);
	same = p && local && (!p->obj->uid || !new->uid || p->obj->uid == new->uid);
	if (p && !same)
		retire(e, p);
	if (local)
		r = same ? pod_set(e, p, new) : add(e, new);
	if (r < 0)
		log_err_r(r, "pod %s/%s is not enforced", o->ns, o->name);
}

void ep_pods_free(struct bn_endpoints *e)
{
	size_t i;

	for (i = 0; i < e->nlpods; i++)
		ep_pod_free(e->lpods[i]);
	for (i = 0; i < e->ngone; i++)
		ep_pod_free(e->gone[i]);
	bn_htab_clear(&e->by_name);
	bn_htab_clear(&e->by_addr);
	freep(&e->lpods);
	freep(&e->gone);
}
