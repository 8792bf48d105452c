/* SPDX-License-Identifier: MIT */
/* What is in force, as JSON: `svc list`, with and without a daemon, and `svc show`. */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/model/services_priv.h"

/* --- backends in force ----------------------------------------------------------------------- */

struct backends {
	const struct bn_backend **v;
	size_t n, max;
};

static int backends_push(struct backends *b, const struct bn_backend *e)
{
	if (b->n == b->max) {
		size_t max = b->max ? b->max * 2 : 16;
		const struct bn_backend **v = reallocarray(b->v, max, sizeof(*v));

		if (!v)
			return -ENOMEM;
		b->v = v;
		b->max = max;
	}
	b->v[b->n++] = e;
	return 0;
}

/* What new connections get: the range, or, where it is a table, the chosen ones behind it. */
static int backends_add(struct backends *b, const struct bn_backend *v, uint32_t n)
{
	uint32_t members = n ? v[0].members : 0;
	int r = 0;

	for (uint32_t i = 0; !r && i < n && !members; i++)
		r = backends_push(b, &v[i]);
	for (uint32_t i = n; !r && i < n + members; i++)
		if (v[i].flags & BN_BE_F_CHOSEN)
			r = backends_push(b, &v[i]);
	return r;
}

static int backend_cmp(const void *pa, const void *pb)
{
	const struct bn_backend *const *a = pa, *const *b = pb;

	return memcmp(*a, *b, offsetof(struct bn_backend, flags));
}

static json_t *backend_json(const struct bn_backend *b)
{
	char addr[BN_ADDR_STRLEN];

	return json_pack("{s:s, s:i, s:s, s:b}", "address", bn_addr_format(&b->addr, addr), "port",
			 (int)be16toh(b->port), "state",
			 b->flags & BN_BE_F_TERMINATING ? "terminating" : "active", "local",
			 b->flags & BN_BE_F_LOCAL ? 1 : 0);
}

/* Those that an outside or a pod client of this node may get: both lists where they differ. */
static json_t *view_backends(const struct bn_svc_view *view)
{
	struct backends b = {0};
	json_t *out = json_array();
	int r;

	r = backends_add(&b, view->v, view->n);
	r = r ? r : backends_add(&b, view->v_int, view->n_int);
	if (b.n)
		qsort(b.v, b.n, sizeof(*b.v), backend_cmp);
	for (size_t i = 0; !r && i < b.n; i++)
		if (!i || backend_cmp(&b.v[i - 1], &b.v[i]))
			r = json_array_append_new(out, backend_json(b.v[i])) ? -ENOMEM : 0;
	free(b.v);
	if (r < 0) {
		json_decref(out);
		return NULL;
	}
	return out;
}

static const char *view_kind(const struct bn_svc_view *v)
{
	uint32_t f = v->svc->flags;

	return bn_front_kind_name(f & BN_SVC_F_NODEPORT	      ? BN_FRONT_NODEPORT
				  : f & BN_SVC_F_LOADBALANCER ? BN_FRONT_LOADBALANCER
				  : f & BN_SVC_F_EXTERNAL     ? BN_FRONT_EXTERNALIP
							      : BN_FRONT_CLUSTERIP);
}

static json_t *view_json(const struct bn_svc_view *v)
{
	const struct bn_front_key *k = &v->svc->key;
	json_t *backends = view_backends(v), *out;
	char addr[BN_ADDR_STRLEN];

	if (!backends)
		return NULL;
	out = json_pack("{s:s, s:s, s:i, s:s, s:s, s:o}", "kind", view_kind(v), "address",
			bn_addr_format(&k->addr, addr), "port", (int)be16toh(k->port), "protocol",
			bn_proto_name(k->proto), "portName", v->port_name, "backends", backends);
	if (out && (!v->n || v->drop))
		json_object_set_new(out, "noBackends", json_string(v->drop ? "drop" : "reject"));
	return out;
}

/* --- list ------------------------------------------------------------------------------------ */

struct lister {
	json_t *out, *fronts; /* fronts: of the service that is being listed, borrowed */
	const char *name;
};

static int list_service(struct lister *l, const struct bn_svc_view *v)
{
	const char *slash = strchr(v->name, '/');
	json_t *svc;

	if (!slash)
		return -EUCLEAN;
	svc = json_pack("{s:s%, s:s, s:s, s:[]}", "namespace", v->name, (size_t)(slash - v->name),
			"name", slash + 1, "type", bn_svc_type_name(v->type), "frontends");
	if (!svc)
		return -ENOMEM;
	l->fronts = json_object_get(svc, "frontends");
	l->name = v->name;
	return json_array_append_new(l->out, svc) ? -ENOMEM : 0;
}

static int list_front(const struct bn_svc_view *v, void *data)
{
	struct lister *l = data;
	int r = l->name == v->name ? 0 : list_service(l, v);

	if (r < 0)
		return r;
	return json_array_append_new(l->fronts, view_json(v)) ? -ENOMEM : 0;
}

static int list_map(const struct bn_svcmap *map, json_t **ret)
{
	struct lister l = {.out = json_array()};
	int r = l.out ? bn_svcmap_each(map, list_front, &l) : -ENOMEM;

	if (r < 0) {
		json_decref(l.out);
		return r;
	}
	*ret = l.out;
	return 0;
}

json_t *bn_services_json(const struct bn_services *s)
{
	json_t *out = NULL;

	return list_map(s->map, &out) < 0 ? NULL : out;
}

static int add_name(struct bn_svc_owner *o _unused_, const char *name, void *data)
{
	return json_array_append_new(data, json_string_nocheck(name)) ? -ENOMEM : 0;
}

json_t *bn_services_names(const struct bn_services *s)
{
	json_t *out = json_array();

	if (!out || bn_svcmap_owners(s->map, add_name, out) < 0) {
		json_decref(out);
		return NULL;
	}
	return out;
}

json_t *bn_services_row(const struct bn_services *s, const char *name)
{
	const struct bn_svc_owner *o = bn_svcmap_find(s->map, name);
	struct lister l = {0};
	json_t *row = NULL;

	if (!o) {
		errno = ENOENT;
		return NULL;
	}
	l.out = json_array();
	if (l.out && !bn_svcmap_each_of(s->map, o, list_front, &l))
		row = json_incref(json_array_get(l.out, 0));
	json_decref(l.out);
	return row;
}

const char *bn_services_name_at(const struct bn_services *s, const struct bn_addr *a, __be16 port,
				uint8_t proto, bool node_port)
{
	struct bn_front_key key = {.addr = *a, .port = port, .proto = proto, .scope = BN_SCOPE_EXACT};
	const struct bn_svc_owner *o = bn_svcmap_holder(s->map, &key);

	if (!o && node_port) {
		bn_front_nodeport(&key, a, port, proto);
		o = bn_svcmap_holder(s->map, &key);
	}
	return o ? bn_svc_owner_name(o) : NULL;
}

int bn_svc_list_pinned(const struct bn_maps *maps, json_t **ret)
{
	_cleanup_(bn_svcmap_freep) struct bn_svcmap *map = NULL;
	struct bn_svcmap_stats st;
	int r;

	/* Opening does not write; the cast only spares a second type for readers. */
	r = bn_svcmap_open((struct bn_maps *)maps, &map);
	if (r < 0)
		return r;
	bn_svcmap_stats(map, &st);
	if (st.broken)
		return -EUCLEAN; /* in full or not at all */
	return list_map(map, ret);
}

/* --- show ------------------------------------------------------------------------------------ */

static json_t *ep_json(const struct bn_sm_ep *e)
{
	const struct bn_endpoint *ep = e->ep;
	char addr[BN_ADDR_STRLEN];

	return json_pack("{s:s, s:i, s:b, s:b, s:b, s:b, s:b, s:b, s:s*, s:s*}", "address",
			 bn_addr_format(&e->addr, addr), "port", (int)e->port, "ready",
			 !!(e->cond & BN_EP_READY), "serving", !!(e->cond & BN_EP_SERVING),
			 "terminating", !!(e->cond & BN_EP_TERMINATING), "local",
			 !!(e->flags & BN_SM_LOCAL), "chosen", !!(e->flags & BN_SM_CLUSTER),
			 "chosenLocal", !!(e->flags & BN_SM_NEAR), "node", ep->node, "zone",
			 ep->zone);
}

static json_t *port_json(const struct bn_sm_port *p)
{
	json_t *eps = json_array();

	for (uint32_t i = 0; i < p->neps; i++)
		json_array_append_new(eps, ep_json(&p->eps[i]));
	return json_pack("{s:s, s:s, s:i, s:i, s:s, s:s, s:o}", "name", p->name, "protocol",
			 bn_proto_name(p->proto), "port", (int)p->port, "nodePort",
			 (int)p->node_port, "family", p->v4 ? "IPv4" : "IPv6", "algorithm",
			 p->maglev ? "maglev" : "random", "endpoints", eps);
}

static json_t *ranges_json(const struct bn_svcmodel *m)
{
	json_t *out = json_array();

	for (int f = 1; f >= 0; f--)
		for (uint32_t i = 0; i < m->nsrc[f]; i++) {
			const struct bn_cidr *c = &m->src[f][i];
			char addr[BN_ADDR_STRLEN];

			json_array_append_new(out,
					      json_sprintf("%s/%d", bn_addr_format(&c->addr, addr),
							   (int)c->prefix - (f ? 96 : 0)));
		}
	return out;
}

static void add_problem(json_t *list, const char *text)
{
	json_array_append_new(list, json_string(text));
}

/* A port that some of its clients get no backend by. */
static void port_problem(const struct svc_ent *e, const struct bn_sm_port *p, json_t *list)
{
	bool local = p->ncluster && !p->nlocal;
	char why[BN_SVC_WHY], text[BN_SVC_WHY + 200];
	const char *answer = "its clients are refused";

	if (p->ncluster && !(local && (e->svc->itp_local || e->svc->etp_local)))
		return;
	bn_svc_why_empty(p, (const struct bn_slice *const *)e->slices, e->nslices, why, sizeof(why));
	if (local && e->svc->itp_local)
		answer = "internalTrafficPolicy is Local: what this node's clients send is dropped";
	else if (local && p->nfronts < 2)
		return; /* externalTrafficPolicy without an external address */
	else if (local)
		answer = "externalTrafficPolicy is Local: what comes to this node from outside is dropped";
	snprintf(text, sizeof(text), "port %u/%s, %s: %s; %s", p->port, bn_proto_name(p->proto),
		 p->v4 ? "IPv4" : "IPv6", why, answer);
	add_problem(list, text);
}

/* Why it, or a part of it, answers nobody here: empty when all is well. */
static json_t *problems_json(const struct svc_ent *e, const struct bn_svcmodel *m)
{
	json_t *list = json_array();
	char text[BN_SVC_WHY];

	for (uint32_t i = 0; i < m->nports; i++)
		port_problem(e, &m->ports[i], list);
	if (e->sums.refused) {
		snprintf(text, sizeof(text), "%" PRIu64 " of its addresses or lists of backends found no room and are not in "
			 "force as they should be: see --max-backends, and the log", (uint64_t)e->sums.refused);
		add_problem(list, text);
	}
	if (e->sums.conflicts) {
		snprintf(text, sizeof(text), "%" PRIu64 " of its addresses and ports belong to another service: bpfnet svc list "
			 "shows whose they are", (uint64_t)e->sums.conflicts);
		add_problem(list, text);
	}
	return list;
}

/* What the objects say; what is in force is beside it. */
static int show_object(const struct bn_services *s, const struct svc_ent *e, json_t *out)
{
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;
	const struct bn_service *svc = e->svc;
	json_t *ports = json_array();
	char why[BN_SVC_WHY];
	int r;

	r = bn_svcmodel_build(svc, (const struct bn_slice *const *)e->slices, e->nslices, &s->env,
			      &m);
	if (r < 0) {
		json_decref(ports);
		return r;
	}
	for (uint32_t i = 0; i < m->nports; i++)
		json_array_append_new(ports, port_json(&m->ports[i]));
	json_object_set_new(out, "type", json_string(bn_svc_type_name(svc->type)));
	json_object_set_new(out, "problems", problems_json(e, m));
	if (bn_svc_why_not_served(svc, s->env.proxy_name, why, sizeof(why)))
		json_object_set_new(out, "notServed", json_string(why));
	json_object_set_new(out, "internalTrafficPolicy",
			    json_string(svc->itp_local ? "Local" : "Cluster"));
	json_object_set_new(out, "externalTrafficPolicy",
			    json_string(svc->etp_local ? "Local" : "Cluster"));
	json_object_set_new(out, "sessionAffinity",
			    json_string(svc->affinity_client_ip ? "ClientIP" : "None"));
	if (svc->affinity_client_ip)
		json_object_set_new(out, "sessionAffinityTimeoutSeconds",
				    json_integer(svc->affinity_timeout_s));
	json_object_set_new(out, "algorithm",
			    json_string(m->nports && m->ports[0].maglev ? "maglev" : "random"));
	json_object_set_new(out, "loadBalancerSourceRanges", ranges_json(m));
	if (m->health_port)
		json_object_set_new(out, "healthCheckNodePort", json_integer(m->health_port));
	json_object_set_new(out, "refusedFrontends", json_integer(e->sums.refused));
	json_object_set_new(out, "conflictingFrontends", json_integer(e->sums.conflicts));
	return json_object_set_new(out, "ports", ports) ? -ENOMEM : 0;
}

json_t *bn_services_show(const struct bn_services *s, const char *ns, const char *name)
{
	const struct svc_ent *e = services_find(s, ns, name);
	char full[SVC_NAME_MAX];
	const struct bn_svc_owner *o;
	struct lister l = {0};
	json_t *out;
	int r = 0;

	snprintf(full, sizeof(full), "%s/%s", ns, name);
	o = bn_svcmap_find(s->map, full);
	if (!o && !(e && e->svc)) {
		errno = ENOENT;
		return NULL;
	}
	out = json_pack("{s:s, s:s}", "namespace", ns, "name", name);
	l.out = json_array();
	if (!out || !l.out)
		r = -ENOMEM;
	if (!r && o)
		r = bn_svcmap_each_of(s->map, o, list_front, &l);
	if (!r)
		r = json_object_set(out, "frontends", l.fronts ? l.fronts : l.out) ? -ENOMEM : 0;
	if (!r && json_array_size(l.out))
		json_object_set(out, "type", json_object_get(json_array_get(l.out, 0), "type"));
	if (!r && e && e->svc)
		r = show_object(s, e, out);
	json_decref(l.out);
	if (r < 0) {
		json_decref(out);
		errno = -r;
		return NULL;
	}
	return out;
}
