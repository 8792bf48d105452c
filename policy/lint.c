// SPDX-License-Identifier: MIT
#include "policy/lint.h"

#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/select.h"

struct lint {
	struct bn_idents *ids;
	struct bn_compiler *c;
	const struct bn_netpol *np; /* the one that is looked at */
	json_t *out;
	size_t n;
	/* of one question */
	const struct bn_policy_port *port;
	enum bn_dir dir;
	uint32_t index;
	bool found;
};

static int finding(struct lint *l, bool rule, enum bn_dir dir, uint32_t index, const char *what,
		   const char *message)
{
	char at[32] = "";

	if (rule)
		snprintf(at, sizeof(at), "%s[%u]", dir == BN_EGRESS ? "egress" : "ingress", index);
	return json_array_append_new(l->out, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "kind",
						       bn_kind_name(l->np->o.kind), "namespace",
						       l->np->o.ns, "name", l->np->o.name, "rule",
						       at, "finding", what, "message", message))
		       ? -ENOMEM
		       : 0;
}

static uint32_t rules(const struct bn_netpol *np, enum bn_dir dir, const struct bn_rule **ret)
{
	*ret = dir == BN_EGRESS ? np->out : np->in;
	return dir == BN_EGRESS ? np->negress : np->ningress;
}

/* --- is one rule within another? -------------------------------------------------------------- */

/* All that `in` selects is selected by `out`, as far as that can be seen from the requirements. */
static bool selector_within(const struct bn_selector *in, const struct bn_selector *out)
{
	struct bn_selector x = {}, y = {};
	bool within = bn_selector_copy(in, &x) == 0 && bn_selector_copy(out, &y) == 0;

	for (uint32_t k = 0; k < y.n && within; k++) {
		const struct bn_selector want = { 1, &y.reqs[k] };
		bool has = false;

		for (uint32_t i = 0; i < x.n && !has; i++)
			has = bn_selector_eq(&(struct bn_selector){ 1, &x.reqs[i] }, &want);
		within = has;
	}
	bn_selector_done(&x);
	bn_selector_done(&y);
	return within;
}

static bool peer_within(const struct bn_peer *in, const struct bn_peer *out)
{
	if (in->has_block != out->has_block)
		return false;
	if (in->has_block) {
		if (in->block.prefix < out->block.prefix ||
		    !bn_cidr_contains(&out->block, &in->block.addr))
			return false;
		/* what the wider one excepts, the narrower must not contain */
		for (uint32_t k = 0; k < out->nexcept; k++)
			if (bn_cidr_contains(&out->except[k], &in->block.addr) ||
			    bn_cidr_contains(&in->block, &out->except[k].addr))
				return false;
		return true;
	}
	/* without a namespaceSelector: those of the policy's own, which all of them are more than */
	if (out->has_ns ? out->ns.n && (!in->has_ns || !selector_within(&in->ns, &out->ns)) : in->has_ns)
		return false;
	return !out->has_pod || !out->pod.n || (in->has_pod && selector_within(&in->pod, &out->pod));
}

static bool peers_within(const struct bn_rule *in, const struct bn_rule *out)
{
	if (!out->npeers)
		return true;
	if (!in->npeers)
		return false;
	for (uint32_t k = 0; k < in->npeers; k++) {
		bool ok = false;

		for (uint32_t j = 0; j < out->npeers && !ok; j++)
			ok = peer_within(&in->peers[k], &out->peers[j]);
		if (!ok)
			return false;
	}
	return true;
}

static bool port_within(const struct bn_policy_port *in, const struct bn_policy_port *out)
{
	if (in->proto != out->proto)
		return false;
	if (out->any)
		return true;
	if (in->any)
		return false;
	if (in->name || out->name)
		return in->name == out->name;
	return in->port >= out->port && in->end_port <= out->end_port;
}

static bool ports_within(const struct bn_rule *in, const struct bn_rule *out)
{
	if (!out->nports)
		return true;
	if (!in->nports)
		return false;
	for (uint32_t k = 0; k < in->nports; k++) {
		bool ok = false;

		for (uint32_t j = 0; j < out->nports && !ok; j++)
			ok = port_within(&in->ports[k], &out->ports[j]);
		if (!ok)
			return false;
	}
	return true;
}

/* Another policy of the namespace that selects at least the same pods. */
static bool selects_all_of(const struct bn_netpol *wide, const struct bn_netpol *np,
			   enum bn_dir dir)
{
	if (wide->o.ns != np->o.ns || wide->o.refused ||
	    !(dir == BN_EGRESS ? wide->egress : wide->ingress))
		return false;
	return selector_within(&np->pods, &wide->pods);
}

static int compare(const struct bn_netpol *wide, void *data)
{
	struct lint *l = data;
	const struct bn_rule *mine, *other;
	uint32_t n = rules(wide, l->dir, &other);

	if (l->found || !selects_all_of(wide, l->np, l->dir))
		return 0;
	rules(l->np, l->dir, &mine);
	for (uint32_t k = 0; k < n && !l->found; k++) {
		const struct bn_rule *a = &mine[l->index], *b = &other[k];
		bool self = wide == l->np && k == l->index;
		char text[400];

		/* Of two that are the same, the later one is told. */
		if (self || b->has_http || !peers_within(a, b) || !ports_within(a, b) ||
		    (!a->has_http && peers_within(b, a) && ports_within(b, a) &&
		     (wide == l->np ? k > l->index : strcmp(wide->o.name, l->np->o.name) > 0)))
			continue;
		l->found = true;
		snprintf(text, sizeof(text),
			 a->has_http ? "%s %s/%s %s[%u] allows the same peers and ports without "
				       "looking at "
				       "requests: the HTTP rule restricts nothing"
				     : "everything it allows is allowed by %s %s/%s %s[%u]",
			 bn_kind_name(wide->o.kind), wide->o.ns, wide->o.name,
			 l->dir == BN_EGRESS ? "egress" : "ingress", k);
		return finding(l, true, l->dir, l->index, a->has_http ? "http-moot" : "shadowed",
			       text);
	}
	return 0;
}

/* --- pods and ports --------------------------------------------------------------------------- */

static int count_pod(const struct bn_pod *pod, void *data)
{
	struct lint *l = data;

	l->n += bn_selector_match(&l->np->pods, &pod->o.labels);
	return 0;
}

static int has_port(const struct bn_pod *pod, void *data)
{
	struct lint *l = data;

	if (!bn_selector_match(&l->np->pods, &pod->o.labels))
		return 0;
	for (uint32_t k = 0; k < pod->nports; k++)
		l->found |= pod->ports[k].name == l->port->name &&
			    pod->ports[k].proto == l->port->proto;
	return 0;
}

static int any_identity(uint32_t identity, void *data)
{
	(void)identity;
	((struct lint *)data)->found = true;
	return 1;
}

static int lint_ports(struct lint *l, enum bn_dir dir, uint32_t index, const struct bn_rule *r)
{
	char text[300];
	int ret = 0;

	for (uint32_t k = 0; k < r->nports && !ret; k++) {
		l->port = &r->ports[k];
		l->found = false;
		if (!l->port->name)
			continue;
		if (dir == BN_INGRESS)
			bn_idents_each_pod(l->ids, l->np->o.ns, has_port, l);
		else
			bn_idents_each_of_name(l->ids, l->port->name, l->port->proto, any_identity,
					       l);
		if (l->found)
			continue;
		snprintf(text, sizeof(text), "no pod %shas a %s port named '%s'",
			 dir == BN_INGRESS ? "that it selects " : "", bn_proto_name(l->port->proto),
			 l->port->name);
		ret = finding(l, true, dir, index, "named-port", text);
	}
	return ret;
}

/* The API refuses both: an except has to be a part of its cidr. NULL: it is. */
static const char *bad_except(const struct bn_cidr *block, const struct bn_cidr *e)
{
	if (e->prefix <= block->prefix && bn_cidr_contains(e, &block->addr))
		return "covers the block's whole cidr: it allows nobody";
	if (!bn_cidr_contains(block, &e->addr))
		return "is outside of the block's cidr";
	return NULL;
}

static int lint_blocks(struct lint *l, enum bn_dir dir, uint32_t index, const struct bn_rule *r)
{
	char text[300], a[BN_ADDR_STRLEN];
	int ret = 0;

	for (uint32_t k = 0; k < r->npeers; k++) {
		const struct bn_peer *p = &r->peers[k];

		for (uint32_t j = 0; p->has_block && j < p->nexcept && !ret; j++) {
			const struct bn_cidr *e = &p->except[j];
			const char *why = bad_except(&p->block, e);

			if (!why)
				continue;
			snprintf(text, sizeof(text), "except %s/%d %s", bn_addr_format(&e->addr, a),
				 e->prefix - (bn_addr_is_v4(&e->addr) ? 96 : 0), why);
			ret = finding(l, true, dir, index, "except", text);
		}
	}
	return ret;
}

static int lint_policy(const struct bn_netpol *np, void *data)
{
	struct lint *l = data;
	int r = 0;

	l->np = np;
	l->n = 0;
	bn_idents_each_pod(l->ids, np->o.ns, count_pod, l);
	if (!l->n)
		r = finding(l, false, 0, 0, "no-pods", "it selects no pod");
	for (enum bn_dir d = 0; d < BN_DIRS && !r; d++) {
		const struct bn_rule *v;
		uint32_t n = rules(np, d, &v);

		for (uint32_t k = 0; k < n && !r && !np->o.refused; k++) {
			if (l->n)
				r = lint_ports(l, d, k, &v[k]);
			r = r ?: lint_blocks(l, d, k, &v[k]);
			l->dir = d;
			l->index = k;
			l->found = false;
			r = r ?: bn_compiler_each_in(l->c, np->o.ns, compare, l);
		}
	}
	return r;
}

int bn_policy_lint(struct bn_idents *ids, struct bn_compiler *c, json_t **ret)
{
	struct lint l = {.ids = ids, .c = c, .out = json_array()};
	int r;

	r = l.out ? bn_compiler_each(c, lint_policy, &l) : -ENOMEM;
	if (r < 0) {
		json_decref(l.out);
		return r;
	}
	*ret = l.out;
	return 0;
}
