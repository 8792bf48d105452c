/* SPDX-License-Identifier: MIT */
/* JSON to an object: what comes out must be whole, equal to itself, and never half a policy. */
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/object.h"
#include "policy/store.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sum;

/* Stays after the program is built without NDEBUG or with it. */
static void touch(const void *p, size_t n)
{
	const unsigned char *c = p;

	while (n--)
		sum += *c++;
}

static void touch_text(const char *s)
{
	MUST(s && bn_intern_find(s) == s);
	touch(s, strlen(s) + 1);
}

static void touch_selector(const struct bn_selector *s)
{
	const struct bn_labels none = { 0 };
	uint32_t i, k;

	for (i = 0; i < s->n; i++) {
		touch_text(s->reqs[i].key);
		MUST((unsigned)s->reqs[i].op < BN_SEL_OP__MAX);
		for (k = 0; k < s->reqs[i].nvals; k++)
			touch_text(s->reqs[i].vals[k]);
	}
	sum += bn_selector_match(s, &none);
}

static void touch_http(const struct bn_http_match *m)
{
	uint32_t i;

	if (m->method)
		touch_text(m->method);
	if (m->has_path)
		touch_text(m->path);
	for (i = 0; i < m->nhosts; i++)
		touch_text(m->hosts[i]);
	for (i = 0; i < m->nheaders; i++) {
		touch_text(m->headers[i].name);
		touch_text(m->headers[i].value);
	}
	for (i = 0; i < m->nqueries; i++) {
		touch_text(m->queries[i].name);
		touch_text(m->queries[i].value);
	}
}

static void touch_rule(const struct bn_rule *r)
{
	uint32_t i;

	for (i = 0; i < r->npeers; i++) {
		const struct bn_peer *p = &r->peers[i];

		MUST(p->has_pod || p->has_ns || p->has_block);
		touch_selector(&p->pod);
		touch_selector(&p->ns);
		touch(p->except, p->nexcept * sizeof(*p->except));
		MUST(!p->has_block || p->block.prefix <= 128);
	}
	for (i = 0; i < r->nports; i++) {
		const struct bn_policy_port *p = &r->ports[i];

		MUST(p->any + !!p->name + (p->port > 0) == 1);
		MUST(p->end_port >= p->port);
	}
	for (i = 0; i < r->nhttp; i++)
		touch_http(&r->http[i]);
	MUST(r->has_http || !r->nhttp);
}

static void touch_policy(const struct bn_netpol *np)
{
	uint32_t i;

	touch_selector(&np->pods);
	MUST(np->ingress || np->egress);
	for (i = 0; i < np->ningress; i++)
		touch_rule(&np->in[i]);
	for (i = 0; i < np->negress; i++)
		touch_rule(&np->out[i]);
	MUST(!np->o.refused || !(np->ningress + np->negress));
}

static void touch_slice(const struct bn_slice *s)
{
	uint32_t i, k;

	for (i = 0; i < s->nports; i++) {
		MUST(s->ports[i].port);
		touch_text(s->ports[i].name);
	}
	for (i = 0; i < s->nendpoints; i++) {
		const struct bn_endpoint *e = &s->endpoints[i];

		MUST(!bn_addr_is_v4(&e->addr) == !s->v4);
		for (k = 0; k < e->nhint_zones; k++)
			touch_text(e->hint_zones[k]);
		for (k = 0; k < e->nhint_nodes; k++)
			touch_text(e->hint_nodes[k]);
	}
}

static void touch_object(const struct bn_obj *o)
{
	uint32_t i;

	touch_text(o->name);
	touch_text(o->ns);
	for (i = 0; i < o->labels.n; i++) {
		touch_text(o->labels.v[i].key);
		touch_text(o->labels.v[i].val);
		MUST(!i || strcmp(o->labels.v[i - 1].key, o->labels.v[i].key) < 0);
	}
	switch (o->kind) {
	case BN_KIND_SERVICE: {
		const struct bn_service *s = (const void *)o;

		touch(s->cluster_ips, s->ncluster_ips * sizeof(*s->cluster_ips));
		touch(s->external_ips, s->nexternal_ips * sizeof(*s->external_ips));
		touch(s->lb_ips, s->nlb_ips * sizeof(*s->lb_ips));
		touch(s->src_ranges, s->nsrc_ranges * sizeof(*s->src_ranges));
		for (i = 0; i < s->nports; i++)
			touch_text(s->ports[i].name);
		break;
	}
	case BN_KIND_ENDPOINTSLICE:
		touch_slice((const void *)o);
		break;
	case BN_KIND_POD: {
		const struct bn_pod *p = (const void *)o;

		touch(p->ips, p->nips * sizeof(*p->ips));
		for (i = 0; i < p->nports; i++)
			touch_text(p->ports[i].name);
		if (p->uid)
			touch(p->uid, strlen(p->uid) + 1);
		break;
	}
	case BN_KIND_NODE: {
		const struct bn_node *n = (const void *)o;

		MUST(n->ninternal <= n->nips);
		touch(n->ips, n->nips * sizeof(*n->ips));
		touch(n->pod_cidrs, n->npod_cidrs * sizeof(*n->pod_cidrs));
		break;
	}
	case BN_KIND_NETPOL:
	case BN_KIND_HTTPNETPOL:
		touch_policy((const void *)o);
		break;
	default:
		break;
	}
}

static void check(const json_t *j)
{
	_cleanup_(bn_obj_unrefp) struct bn_obj *a = NULL, *b = NULL;
	_cleanup_(bn_store_freep) struct bn_store *s = NULL;
	const char *ns, *name;
	enum bn_kind kind;
	struct bn_err err;
	char what[100];
	int r = bn_object_parse(j, &a, &err);

	bn_object_describe(j, what, sizeof(what));
	MUST(r == 0 || r == -EINVAL || r == -EOPNOTSUPP);
	MUST(r == 0 ? !!a : r == -EINVAL ? !!err.msg[0] : !a);
	if (!a)
		return;
	MUST(a->refused == (r == -EINVAL));
	touch_object(a);
	MUST(bn_object_parse(j, &b, &err) == r && bn_obj_equal(a, b));
	MUST(bn_object_id(j, &kind, &ns, &name) == 0 && kind == a->kind && name == a->name);
	MUST(bn_store_new(&s) == 0 && bn_store_put(s, a) == 0 && bn_store_put(s, b) == 0);
	MUST(bn_store_get(s, a->kind, a->ns, a->name) == a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_error_t e;
	json_t *j = json_loadb((const char *)data, size, JSON_ALLOW_NUL | JSON_DECODE_ANY, &e);

	if (j)
		check(j);
	json_decref(j);
	bn_intern_collect();
	MUST(!bn_intern_count());
	return 0;
}
