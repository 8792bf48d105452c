// SPDX-License-Identifier: MIT
/* Services in a trace: the backends that a new connection may get, each judged on its own. */
#include <stdio.h>

#include "maps/util.h"
#include "policy/svcmodel.h"
#include "policy/trace_priv.h"

static const char *node_of(const struct bn_side *s)
{
	const struct bn_pod *p = s->pod ?: s->host_pod;

	return p ? p->node : s->node;
}

static json_t *svc_head(const struct bn_svc_choice *c)
{
	char text[BN_ADDR_STRLEN];

	return json_pack("{s:s,s:s,s:s,s:s,s:i,s:s}", "namespace", c->svc->o.ns, "name",
			 c->svc->o.name, "kind", bn_front_kind_name(c->kind), "address",
			 bn_addr_format(&c->addr, text), "port", c->port, "portName",
			 c->port_name ?: "");
}

static int backend(struct bn_tracer *t, const struct bn_side *from, const struct bn_trace_query *q,
		   const struct bn_sm_ep *ep, json_t **ret, json_t **err)
{
	struct bn_flow f = {.from = *from, .proto = q->proto, .port = ep->port, .q = q};
	char text[BN_ADDR_STRLEN];
	json_t *eg = NULL, *in = NULL;
	int r;

	r = bn_trace_side(t, bn_addr_format(&ep->addr, text), &f.to, err);
	if (r < 0)
		return r;
	if (!bn_trace_family(from, &f.to, &f.from.addr))
		return bn_trace_fail(err, -EINVAL, "the source has no address of the family of %s",
				     text);
	bn_idents_whois(t->ids, &f.from.addr, &f.from.who);
	r = bn_trace_flow(t, &f, &eg, &in, err);
	if (r >= 0) {
		*ret = json_pack("{s:s,s:i,s:s,s:O,s:O}", "address", text, "port", ep->port,
				 "verdict", r ? "deny" : "allow", "egress", eg, "ingress", in);
		if (f.to.pod)
			json_object_set_new(
				*ret, "pod",
				json_sprintf("%s/%s", f.to.pod->o.ns, f.to.pod->o.name));
	}
	json_decref(eg);
	json_decref(in);
	return r;
}

static int judge(struct bn_tracer *t, const struct bn_side *from, const struct bn_trace_query *q,
		 const struct bn_svc_choice *c, json_t *svc, bool *allow, json_t **eg, json_t **in,
		 json_t **err)
{
	json_t *list = json_array();
	uint32_t ok = 0;

	json_object_set_new(svc, "backends", list);
	*allow = false;
	if (c->src_denied) {
		json_object_set_new(svc, "reason",
				    json_string("the client is outside of the service's "
						"loadBalancerSourceRanges"));
		return 1;
	}
	if (!c->nbackends) {
		json_object_set_new(
			svc, "reason",
			c->list == BN_LIST_DROP
				? json_string("the service has no endpoint on the client's node "
					      "and its traffic policy is Local")
				: json_sprintf("the service has no ready endpoint: %s", c->why));
		return 1;
	}
	for (uint32_t k = 0; k < c->nbackends; k++) {
		json_t *one = NULL;
		int r = backend(t, from, q, &c->backends[k], &one, err);

		if (r < 0)
			return r;
		json_array_append_new(list, one);
		ok += !r;
		if (!k || (r && ok + 1 == k + 1)) { /* the first, or the first that is denied */
			json_decref(*eg);
			json_decref(*in);
			*eg = json_incref(json_object_get(one, "egress"));
			*in = json_incref(json_object_get(one, "ingress"));
		}
	}
	*allow = ok == c->nbackends;
	json_object_set_new(svc, "partial", json_boolean(ok && !*allow));
	json_object_set_new(
		svc, "reason",
		json_string(*allow ? "all backends are allowed"
			    : ok   ? "some backends are denied: connections fail now and then"
				   : "all backends are denied"));
	return 1;
}

/* NS/svc:NAME; false: it is not of that form. */
static bool split(const char *to, char *ns, size_t nslen, const char **name)
{
	const char *slash = strchr(to, '/');

	if (!slash || strncmp(slash + 1, "svc:", 4))
		return false;
	snprintf(ns, nslen, "%.*s", (int)(slash - to), to);
	*name = slash + 5;
	return true;
}

/* By name, and nothing was found: what is there instead? */
static int no_service(struct bn_tracer *t, const struct bn_trace_query *q, const char *ns, const char *name,
		      int r, json_t **err)
{
	const struct bn_service *svc =
		(const struct bn_service *)bn_store_get(t->store, BN_KIND_SERVICE, ns, name);
	char why[BN_SVC_WHY];

	if (!svc)
		return bn_trace_fail(err, r, "service %s/%s is not known", ns, name);
	if (bn_svc_why_not_served(svc, t->proxy_name, why, sizeof(why)))
		return bn_trace_fail(err, r, "service %s/%s is not served: %s", ns, name, why);
	bn_svc_why_no_port(svc, q->port, q->proto, why, sizeof(why));
	return bn_trace_fail(err, r, "service %s/%s has no port %u/%s; %s", ns, name, q->port,
			     bn_proto_name(q->proto), why);
}

/* A ClusterIP, and a port that its service does not have. */
static json_t *other_port(struct bn_tracer *t, const struct bn_addr *addr, const struct bn_trace_query *q)
{
	const struct bn_service *svc = bn_svcindex_at(t->svcs, addr);
	char why[BN_SVC_WHY] = "", text[BN_ADDR_STRLEN];

	if (svc)
		bn_svc_why_no_port(svc, q->port, q->proto, why, sizeof(why));
	return json_pack("{s:s*,s:s*,s:s,s:s,s:i,s:[],s:o}", "namespace", svc ? svc->o.ns : NULL, "name",
			 svc ? svc->o.name : NULL, "kind", "ClusterIP", "address", bn_addr_format(addr, text),
			 "port", q->port, "backends", "reason",
			 json_sprintf("a service address, but no service has this port: refused; %s", why));
}

/* Has it addresses for clients outside? What holds for them may be something else than by the ClusterIP. */
static bool outside_comes_by(const struct bn_service *svc)
{
	bool any = svc->nlb_ips || svc->nexternal_ips;

	for (uint32_t i = 0; i < svc->nports; i++)
		any |= svc->ports[i].node_port != 0;
	return any;
}

int bn_trace_service(struct bn_tracer *t, const struct bn_side *from,
		     const struct bn_trace_query *q, json_t **svc, bool *allow, json_t **eg,
		     json_t **in, json_t **err)
{
	_cleanup_(bn_svc_choice_freep) struct bn_svc_choice *c = NULL;
	const char *node = node_of(from), *name;
	struct bn_addr addr;
	struct bn_whois who;
	char ns[256];
	int r;

	if (split(q->to, ns, sizeof(ns), &name)) {
		r = bn_svcindex_by_name(t->svcs, node, &from->addr, ns, name, q->port, q->proto,
					&c);
		if (r < 0)
			return no_service(t, q, ns, name, r, err);
	} else {
		if (bn_addr_parse(q->to, &addr) < 0)
			return 0;
		bn_idents_whois(t->ids, &addr, &who);
		if (who.who == BN_WHO_POD) /* an address that a pod has is that pod */
			return 0;
		r = bn_svcindex_by_addr(t->svcs, node, &from->addr, &addr, q->port, q->proto, &c);
		if (r == -ENOENT)
			return 0;
		if (r == -EADDRNOTAVAIL) {
			*svc = other_port(t, &addr, q);
			*allow = false;
			return 1;
		}
		if (r < 0)
			return r;
	}
	*svc = svc_head(c);
	if (!node && c->kind == BN_FRONT_CLUSTERIP && outside_comes_by(c->svc))
		json_object_set_new(*svc, "note",
				    json_string("this is the ClusterIP; a client outside comes by a node port or an external "
						"address: ask for that one (source ranges, traffic policy)"));
	r = judge(t, from, q, c, *svc, allow, eg, in, err);
	if (r < 0) {
		json_decref(*svc);
		*svc = NULL;
	}
	return r;
}

int bn_tracer_proxy(struct bn_tracer *t, const char *name)
{
	t->proxy_name = name;
	bn_svcindex_freep(&t->svcs);
	return bn_trace_svc_open(t);
}

int bn_trace_svc_open(struct bn_tracer *t)
{
	return bn_svcindex_new((struct bn_store *)t->store, t->proxy_name, &t->svcs);
}

void bn_trace_svc_close(struct bn_tracer *t)
{
	bn_svcindex_freep(&t->svcs);
}
