/* SPDX-License-Identifier: MIT */
/* Which backends a client may get: services looked up by name or address, for the trace. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "maps/htab.h"
#include "maps/util.h"
#include "policy/svcmodel_priv.h"

struct x_svc {
	struct bn_hnode h; /* by ns and name */
	const char *ns, *name;
	const struct bn_service *svc; /* NULL: only slices are known */
	const struct bn_slice **slices;
	uint32_t nslices, max_slices;
};

struct x_front {
	struct bn_hnode h; /* by key */
	struct bn_front_key key;
	enum bn_front_kind kind;
	const struct x_svc *svc;
};

struct x_node {
	struct bn_hnode h; /* by address */
	struct bn_addr addr;
	const struct bn_node *node;
};

struct bn_svcindex {
	struct bn_store *store;
	char *proxy_name;
	bool stale;
	struct bn_htab svcs, fronts, nodes;
};

/* --- building -------------------------------------------------------------------------------- */

static void index_clear(struct bn_svcindex *x)
{
	struct bn_hnode *n;
	uint32_t at = 0;

	while ((n = bn_htab_pop(&x->svcs, &at))) {
		free(bn_container(n, struct x_svc, h)->slices);
		free(bn_container(n, struct x_svc, h));
	}
	for (at = 0; (n = bn_htab_pop(&x->fronts, &at));)
		free(bn_container(n, struct x_front, h));
	for (at = 0; (n = bn_htab_pop(&x->nodes, &at));)
		free(bn_container(n, struct x_node, h));
}

static uint32_t name_hash(const char *ns, const char *name)
{
	return bn_hash_bytes(ns, strlen(ns)) * 31 + bn_hash_bytes(name, strlen(name));
}

static struct x_svc *svc_find(const struct bn_svcindex *x, const char *ns, const char *name)
{
	struct bn_hnode *n;

	for (n = bn_htab_first(&x->svcs, name_hash(ns, name)); n; n = bn_htab_next(n)) {
		struct x_svc *s = bn_container(n, struct x_svc, h);

		if (!strcmp(s->name, name) && !strcmp(s->ns, ns))
			return s;
	}
	return NULL;
}

static struct x_svc *svc_get(struct bn_svcindex *x, const char *ns, const char *name)
{
	struct x_svc *s = svc_find(x, ns, name);

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->ns = ns;
	s->name = name;
	if (bn_htab_add(&x->svcs, &s->h, name_hash(ns, name)) < 0) {
		free(s);
		return NULL;
	}
	return s;
}

static struct x_front *front_find(const struct bn_svcindex *x, const struct bn_front_key *key)
{
	struct bn_hnode *n;

	for (n = bn_htab_first(&x->fronts, bn_hash_bytes(key, sizeof(*key))); n;
	     n = bn_htab_next(n))
		if (!memcmp(&bn_container(n, struct x_front, h)->key, key, sizeof(*key)))
			return bn_container(n, struct x_front, h);
	return NULL;
}

static int front_put(struct bn_svcindex *x, const struct x_svc *s, const struct bn_front_key *key,
		     enum bn_front_kind kind)
{
	struct x_front *f = front_find(x, key);

	if (f) {
		if (bn_front_precedence(kind, &s->svc->o, f->kind, &f->svc->svc->o) < 0) {
			f->kind = kind;
			f->svc = s;
		}
		return 0;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->key = *key;
	f->kind = kind;
	f->svc = s;
	if (bn_htab_add(&x->fronts, &f->h, bn_hash_bytes(key, sizeof(*key))) < 0) {
		free(f);
		return -ENOMEM;
	}
	return 0;
}

static int index_service(struct bn_obj *o, void *data)
{
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;
	const struct bn_service *svc = (const struct bn_service *)o;
	struct bn_svcindex *x = data;
	const struct bn_svc_env env = {.proxy_name = x->proxy_name};
	struct x_svc *s;
	int r;

	if (!bn_service_ours(svc, &env))
		return 0;
	s = svc_get(x, o->ns, o->name);
	if (!s)
		return -ENOMEM;
	s->svc = svc;
	r = bn_svcmodel_build(svc, NULL, 0, &env, &m);
	for (uint32_t i = 0; !r && i < m->nports; i++)
		for (uint32_t j = 0; !r && j < m->ports[i].nfronts; j++) {
			const struct bn_sm_front *f = &m->ports[i].fronts[j];
			struct bn_front_key any = {.addr = f->key.addr, .scope = BN_SCOPE_ADDR};

			r = front_put(x, s, &f->key, f->kind);
			if (!r && f->kind == BN_FRONT_CLUSTERIP)
				r = front_put(x, s, &any, f->kind);
		}
	return r;
}

static int index_slice(struct bn_obj *o, void *data)
{
	const struct bn_slice *slice = (const struct bn_slice *)o;
	struct x_svc *s;

	if (!bn_slice_usable(slice))
		return 0;
	s = svc_get(data, o->ns, slice->service);
	if (!s)
		return -ENOMEM;
	if (s->nslices == s->max_slices) {
		uint32_t max = s->max_slices ? s->max_slices * 2 : 1;
		const struct bn_slice **v = reallocarray(s->slices, max, sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->slices = v;
		s->max_slices = max;
	}
	s->slices[s->nslices++] = slice;
	return 0;
}

static int index_node(struct bn_obj *o, void *data)
{
	const struct bn_node *node = (const struct bn_node *)o;
	struct bn_svcindex *x = data;

	for (uint32_t i = 0; i < node->nips; i++) {
		struct x_node *n = calloc(1, sizeof(*n));

		if (!n)
			return -ENOMEM;
		n->addr = node->ips[i];
		n->node = node;
		if (bn_htab_add(&x->nodes, &n->h, bn_hash_bytes(&n->addr, sizeof(n->addr))) < 0) {
			free(n);
			return -ENOMEM;
		}
	}
	return 0;
}

static int index_fresh(struct bn_svcindex *x)
{
	int r;

	if (!x->stale)
		return 0;
	index_clear(x);
	r = bn_store_each(x->store, BN_KIND_SERVICE, index_service, x);
	r = r ? r : bn_store_each(x->store, BN_KIND_ENDPOINTSLICE, index_slice, x);
	r = r ? r : bn_store_each(x->store, BN_KIND_NODE, index_node, x);
	x->stale = r < 0;
	return r;
}

static void on_change(const struct bn_obj *old, const struct bn_obj *new, void *data)
{
	enum bn_kind kind = (new ? new : old)->kind;

	if (kind == BN_KIND_SERVICE || kind == BN_KIND_ENDPOINTSLICE || kind == BN_KIND_NODE)
		((struct bn_svcindex *)data)->stale = true;
}

int bn_svcindex_new(struct bn_store *store, const char *proxy_name, struct bn_svcindex **ret)
{
	_cleanup_(bn_svcindex_freep) struct bn_svcindex *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return -ENOMEM;
	x->store = store;
	x->stale = true;
	x->proxy_name = proxy_name ? strdup(proxy_name) : NULL;
	if (proxy_name && !x->proxy_name)
		return -ENOMEM;
	r = bn_store_listen(store, on_change, x);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(x);
	return 0;
}

void bn_svcindex_freep(struct bn_svcindex **p)
{
	struct bn_svcindex *x = *p;

	if (!x)
		return;
	bn_store_unlisten(x->store, on_change, x);
	index_clear(x);
	bn_htab_clear(&x->svcs);
	bn_htab_clear(&x->fronts);
	bn_htab_clear(&x->nodes);
	free(x->proxy_name);
	free(x);
	*p = NULL;
}

/* --- choosing -------------------------------------------------------------------------------- */

static void env_of(const struct bn_svcindex *x, const char *node, struct bn_svc_env *env)
{
	const struct bn_node *n;

	*env = (struct bn_svc_env){.node_name = node, .proxy_name = x->proxy_name};
	if (!node)
		return;
	n = (const struct bn_node *)bn_store_get(x->store, BN_KIND_NODE, "", node);
	if (!n)
		return;
	env->zone = n->zone;
	for (uint32_t i = 0; i < n->nips; i++) {
		struct bn_addr *a = bn_addr_is_v4(&n->ips[i]) ? &env->node4 : &env->node6;

		if (bn_addr_is_zero(a))
			*a = n->ips[i];
	}
}

static bool source_denied(const struct bn_svcmodel *m, const struct bn_sm_front *f,
			  const struct bn_addr *client)
{
	bool v4;

	if (!client || !(f->flags & BN_SVC_F_SRC_RANGES))
		return false;
	v4 = bn_addr_is_v4(&f->key.addr);
	for (uint32_t i = 0; i < m->nsrc[v4]; i++)
		if (bn_cidr_contains(&m->src[v4][i], client))
			return false;
	return true;
}

/* Is it in the Local list of its own node? */
static bool near_its_node(const struct bn_sm_port *p, const struct bn_sm_ep *e)
{
	const uint8_t leaving = BN_EP_SERVING | BN_EP_TERMINATING;

	if (!e->ep->node || !*e->ep->node)
		return false;
	if (e->cond & BN_EP_READY || (e->cond & leaving) != leaving)
		return e->cond & BN_EP_READY;
	for (uint32_t i = 0; i < p->neps; i++)
		if (p->eps[i].cond & BN_EP_READY && sm_streq(p->eps[i].ep->node, e->ep->node))
			return false;
	return true;
}

/* Under externalTrafficPolicy Local a load balancer sends outside clients to nodes that have an
 * endpoint (healthCheckNodePort), to any of them: balanced.
 */
static int choice_backends(struct bn_svc_choice *c, const struct bn_sm_port *p, bool balanced)
{
	uint8_t bit = c->list == BN_LIST_CLUSTER ? BN_SM_CLUSTER : BN_SM_NEAR;

	balanced &= c->list == BN_LIST_DROP;
	if (c->list != BN_LIST_CLUSTER && c->list != BN_LIST_LOCAL && !balanced)
		return 0;
	c->backends = calloc((size_t)p->neps + 1, sizeof(*c->backends));
	if (!c->backends)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->neps; i++)
		if (balanced ? near_its_node(p, &p->eps[i]) : p->eps[i].flags & bit)
			c->backends[c->nbackends++] = p->eps[i];
	if (c->nbackends && balanced)
		c->list = BN_LIST_LOCAL;
	return 0;
}

/* at: the node whose maps decide, NULL: any that a client outside comes in by; inside: the client
 * is a pod or process of that node.
 */
static int choose(struct bn_svcindex *x, const struct x_svc *s, const struct bn_front_key *key,
		  const char *at, bool inside, const struct bn_addr *client,
		  struct bn_svc_choice **ret)
{
	_cleanup_(bn_svc_choice_freep) struct bn_svc_choice *c = NULL;
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;
	const struct bn_sm_front *f = NULL;
	const struct bn_sm_port *p = NULL;
	struct bn_svc_env env;
	int r;

	env_of(x, at, &env);
	r = bn_svcmodel_build(s->svc, s->slices, s->nslices, &env, &m);
	if (r < 0)
		return r;
	for (uint32_t i = 0; !f && i < m->nports; i++)
		for (uint32_t j = 0; !f && j < m->ports[i].nfronts; j++)
			if (!memcmp(&m->ports[i].fronts[j].key, key, sizeof(*key))) {
				p = &m->ports[i];
				f = &p->fronts[j];
			}
	c = calloc(1, sizeof(*c));
	if (!f || !c)
		return f ? -ENOMEM : -ENOENT;
	c->svc = s->svc;
	c->kind = f->kind;
	c->addr = key->addr;
	c->port = be16toh(key->port);
	c->proto = key->proto;
	c->port_name = p->name;
	c->list = inside && (f->flags & BN_SVC_F_SPLIT) ? f->list_int : f->list;
	c->src_denied = source_denied(m, f, client);
	r = choice_backends(
		c, p, !at && (f->kind == BN_FRONT_LOADBALANCER || f->kind == BN_FRONT_EXTERNALIP));
	if (r < 0)
		return r;
	if (!c->nbackends)
		bn_svc_why_empty(p, s->slices, s->nslices, c->why, sizeof(c->why));
	*ret = TAKE_PTR(c);
	return 0;
}

const struct bn_service *bn_svcindex_at(struct bn_svcindex *x, const struct bn_addr *addr)
{
	struct bn_front_key any = {.addr = *addr, .scope = BN_SCOPE_ADDR};
	const struct x_front *f = index_fresh(x) < 0 ? NULL : front_find(x, &any);

	return f ? f->svc->svc : NULL;
}

static const struct bn_node *node_at(const struct bn_svcindex *x, const struct bn_addr *a)
{
	struct bn_hnode *n = bn_htab_first(&x->nodes, bn_hash_bytes(a, sizeof(*a)));

	for (; n; n = bn_htab_next(n))
		if (bn_addr_eq(&bn_container(n, struct x_node, h)->addr, a))
			return bn_container(n, struct x_node, h)->node;
	return NULL;
}

/* A NodePort is decided by the node whose address was asked; its own pods are inside. */
static int by_node_port(struct bn_svcindex *x, const char *node, const struct bn_addr *client,
			const struct bn_addr *addr, uint16_t port, uint8_t proto,
			struct bn_svc_choice **ret)
{
	const struct bn_node *n = node_at(x, addr);
	const struct x_front *f;
	struct bn_front_key key;
	int r;

	if (!n)
		return -ENOENT;
	bn_front_nodeport(&key, addr, htobe16(port), proto);
	f = front_find(x, &key);
	if (!f)
		return -ENOENT;
	r = choose(x, f->svc, &key, n->o.name, node && !strcmp(node, n->o.name), client, ret);
	if (!r)
		(*ret)->addr = *addr;
	return r;
}

int bn_svcindex_by_addr(struct bn_svcindex *x, const char *node, const struct bn_addr *client,
			const struct bn_addr *addr, uint16_t port, uint8_t proto,
			struct bn_svc_choice **ret)
{
	struct bn_front_key key = {.addr = *addr, .port = htobe16(port), .proto = proto};
	struct bn_front_key any = {.addr = *addr, .scope = BN_SCOPE_ADDR};
	const struct x_front *f;
	int r = index_fresh(x);

	if (r < 0)
		return r;
	f = front_find(x, &key);
	if (f)
		return choose(x, f->svc, &key, node, node != NULL, client, ret);
	r = by_node_port(x, node, client, addr, port, proto, ret);
	if (r != -ENOENT)
		return r;
	return front_find(x, &any) ? -EADDRNOTAVAIL : -ENOENT;
}

int bn_svcindex_by_name(struct bn_svcindex *x, const char *node, const struct bn_addr *client,
			const char *ns, const char *name, uint16_t port, uint8_t proto,
			struct bn_svc_choice **ret)
{
	struct bn_front_key key = {.port = htobe16(port), .proto = proto};
	const struct bn_addr *cip = NULL;
	const struct x_svc *s;
	int r = index_fresh(x);

	if (r < 0)
		return r;
	s = svc_find(x, ns, name);
	if (!s || !s->svc)
		return -ENOENT;
	for (uint32_t i = 0; i < s->svc->ncluster_ips; i++) {
		const struct bn_addr *a = &s->svc->cluster_ips[i];

		if (!cip || (client && bn_addr_is_v4(a) == bn_addr_is_v4(client) &&
			     bn_addr_is_v4(cip) != bn_addr_is_v4(client)))
			cip = a;
	}
	if (!cip)
		return -ENOENT;
	key.addr = *cip;
	r = choose(x, s, &key, node, node != NULL, client, ret);
	return r == -ENOENT ? -ENXIO : r;
}

void bn_svc_choice_freep(struct bn_svc_choice **c)
{
	if (!*c)
		return;
	free((*c)->backends);
	free(*c);
	*c = NULL;
}
