/* SPDX-License-Identifier: MIT */
/* Which endpoints a service port has, and which of them new connections get; see svcmodel.h. */
#include <errno.h>
#include <stdlib.h>

#include "policy/svcmodel_priv.h"

static bool has_name(const char *const *v, uint32_t n, const char *name)
{
	if (!name || !*name)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (sm_streq(v[i], name))
			return true;
	return false;
}

/* Of duplicates the one that is not terminating counts, among equals the local one (fact 1); after
 * that a ready, then a serving one, so that the answer does not depend on the order of slices.
 */
static int ep_rank(const struct bn_sm_ep *e)
{
	return (e->cond & BN_EP_TERMINATING ? 0 : 8) | (e->flags & BN_SM_LOCAL ? 4 : 0) |
	       (e->cond & BN_EP_READY ? 2 : 0) | (e->cond & BN_EP_SERVING ? 1 : 0);
}

static int addr_port_cmp(const struct bn_sm_ep *a, const struct bn_sm_ep *b)
{
	int r = memcmp(&a->addr, &b->addr, sizeof(a->addr));

	/* Ports compare as their network-order bytes do: as numbers. */
	return r ? r : (int)a->port - (int)b->port;
}

static int str_cmp_null(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "");
}

static int ep_cmp(const void *pa, const void *pb)
{
	const struct bn_sm_ep *a = pa, *b = pb;
	int r = addr_port_cmp(a, b);

	if (!r)
		r = ep_rank(b) - ep_rank(a);
	if (!r)
		r = str_cmp_null(a->ep->node, b->ep->node);
	if (!r)
		r = str_cmp_null(a->ep->zone, b->ep->zone);
	if (!r) /* all that may still differ are the hints: the stricter first */
		r = (int)a->ep->nhint_nodes - (int)b->ep->nhint_nodes;
	return r ? r : (int)a->ep->nhint_zones - (int)b->ep->nhint_zones;
}

static void port_add_slice(struct bn_sm_port *p, const struct bn_slice *s, uint16_t port,
			   const struct bn_svc_env *env)
{
	for (uint32_t i = 0; i < s->nendpoints; i++) {
		const struct bn_endpoint *ep = &s->endpoints[i];
		struct bn_sm_ep *e = &p->eps[p->neps];

		if (!!bn_addr_is_v4(&ep->addr) != p->v4)
			continue;
		*e = (struct bn_sm_ep){
			.addr = ep->addr,
			.port = port,
			.cond = ep->cond,
			.ep = ep,
		};
		if (env->node_name && *env->node_name && sm_streq(ep->node, env->node_name))
			e->flags |= BN_SM_LOCAL;
		p->neps++;
	}
}

/* By family, protocol and name. */
static int source_key_cmp(const struct sm_source *a, bool v4, uint8_t proto, const char *name)
{
	if (a->v4 != v4)
		return a->v4 ? 1 : -1;
	if (a->proto != proto)
		return (int)a->proto - (int)proto;
	return a->name == name ? 0 : strcmp(a->name, name);
}

static int source_cmp(const void *pa, const void *pb)
{
	const struct sm_source *a = pa, *b = pb;

	return source_key_cmp(a, b->v4, b->proto, b->name);
}

int sm_sources_collect(struct sm_sources *s, const struct bn_slice *const *slices, uint32_t n)
{
	size_t max = 0;

	for (uint32_t i = 0; i < n; i++)
		max += slices[i]->nports;
	s->n = 0;
	s->v = calloc(max + 1, sizeof(*s->v));
	if (!s->v)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t j = 0; j < slices[i]->nports && bn_slice_usable(slices[i]); j++) {
			const struct bn_slice_port *p = &slices[i]->ports[j];

			if (p->port)
				s->v[s->n++] = (struct sm_source){p->name ? p->name : "", slices[i],
								  p->port, p->proto, slices[i]->v4};
		}
	if (s->n > 1)
		qsort(s->v, s->n, sizeof(*s->v), source_cmp);
	return 0;
}

/* The first source that is not before the port's. */
static size_t sources_of(const struct sm_sources *s, const struct bn_sm_port *p)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (source_key_cmp(&s->v[mid], p->v4, p->proto, p->name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* All endpoints of the port: by name AND protocol, the number comes from the slice. */
static int port_collect(struct bn_sm_port *p, const struct sm_sources *s,
			const struct bn_svc_env *env)
{
	size_t from = sources_of(s, p), to = from;
	uint64_t max = 0;
	uint32_t w = 0;

	for (; to < s->n && !source_key_cmp(&s->v[to], p->v4, p->proto, p->name); to++)
		max += s->v[to].slice->nendpoints;
	if (!max)
		return 0;
	if (max > UINT32_MAX / 2)
		return -ENOMEM;
	p->eps = calloc(max, sizeof(*p->eps));
	if (!p->eps)
		return -ENOMEM;
	for (size_t i = from; i < to; i++)
		port_add_slice(p, s->v[i].slice, s->v[i].port, env);
	qsort(p->eps, p->neps, sizeof(*p->eps), ep_cmp);
	for (uint32_t i = 0; i < p->neps; i++)
		if (!w || addr_port_cmp(&p->eps[w - 1], &p->eps[i]))
			p->eps[w++] = p->eps[i];
	p->neps = w;
	return 0;
}

enum topology {
	TOPO_ANY,
	TOPO_NODE,
	TOPO_ZONE,
};

static bool hinted_node(const struct bn_sm_ep *e, const struct bn_svc_env *env)
{
	return has_name(e->ep->hint_nodes, e->ep->nhint_nodes, env->node_name);
}

static bool hinted_zone(const struct bn_sm_ep *e, const struct bn_svc_env *env)
{
	return has_name(e->ep->hint_zones, e->ep->nhint_zones, env->zone);
}

/* Fact 3: hints count only when every ready endpoint has them and one of them is for us. */
static enum topology port_topology(const struct bn_sm_port *p, const struct bn_svc_env *env)
{
	bool all_nodes = true, all_zones = true, our_node = false, our_zone = false, any = false;

	for (uint32_t i = 0; i < p->neps; i++) {
		const struct bn_sm_ep *e = &p->eps[i];

		if (!(e->cond & BN_EP_READY))
			continue;
		any = true;
		all_nodes &= e->ep->nhint_nodes > 0;
		all_zones &= e->ep->nhint_zones > 0;
		our_node |= hinted_node(e, env);
		our_zone |= hinted_zone(e, env);
	}
	if (any && all_nodes && our_node)
		return TOPO_NODE;
	return any && all_zones && our_zone ? TOPO_ZONE : TOPO_ANY;
}

static bool ready_for(const struct bn_sm_ep *e, enum topology t, const struct bn_svc_env *env)
{
	if (!(e->cond & BN_EP_READY))
		return false;
	return t == TOPO_ANY || (t == TOPO_NODE ? hinted_node(e, env) : hinted_zone(e, env));
}

static bool is_fallback(const struct bn_sm_ep *e)
{
	return (e->cond & BN_EP_SERVING) && (e->cond & BN_EP_TERMINATING);
}

/* Fact 2: ready ones (Cluster: those that the hints leave), else those that still serve while they
 * terminate; the two lists fall back independently.
 */
static void port_categorize(struct bn_sm_port *p, const struct bn_svc_env *env)
{
	enum topology t = port_topology(p, env);

	for (uint32_t i = 0; i < p->neps; i++) {
		struct bn_sm_ep *e = &p->eps[i];

		if (ready_for(e, t, env)) {
			e->flags |= BN_SM_CLUSTER;
			p->ncluster++;
		}
		if ((e->cond & BN_EP_READY) && (e->flags & BN_SM_LOCAL)) {
			e->flags |= BN_SM_NEAR;
			p->nlocal++;
		}
	}
	for (uint32_t i = 0, any = p->ncluster, near = p->nlocal; i < p->neps; i++) {
		struct bn_sm_ep *e = &p->eps[i];

		if (!is_fallback(e))
			continue;
		if (!any) {
			e->flags |= BN_SM_CLUSTER;
			p->ncluster++;
		}
		if (!near && (e->flags & BN_SM_LOCAL)) {
			e->flags |= BN_SM_NEAR;
			p->nlocal++;
		}
	}
}

int sm_port_endpoints(struct bn_sm_port *p, const struct sm_sources *s,
		      const struct bn_svc_env *env)
{
	int r = port_collect(p, s, env);

	if (r < 0)
		return r;
	port_categorize(p, env);
	return 0;
}
