/* SPDX-License-Identifier: MIT */
/* NetworkPolicy, and what HTTPNetworkPolicy has in common with it.
 *
 * A field inside spec that we do not know is an error for both kinds: a mistyped `from` would
 * otherwise be a rule that allows everybody. kubectl refuses such a file, too.
 */
#include <string.h>

#include "maps/util.h"
#include "policy/object_read.h"

static int parse_values(struct bn_rd *rd, const struct bn_at *at, const json_t *e,
			struct bn_sel_req *q)
{
	const json_t *list;
	const char *s;
	size_t n, i;
	int r;

	r = bn_rd_list(rd, at, e, "values", BN_LIST_MAX, &list, &n);
	if (r < 0)
		return r;
	if (!n && (q->op == BN_SEL_IN || q->op == BN_SEL_NOT_IN))
		return bn_rd_fail(rd, BN_AT(at, "values"), "is required with In and NotIn");
	if (n && (q->op == BN_SEL_EXISTS || q->op == BN_SEL_NOT_EXISTS))
		return bn_rd_fail(rd, BN_AT(at, "values"),
				  "must be empty with Exists and DoesNotExist");
	r = bn_rd_array(rd, &q->vals, n, sizeof(*q->vals));
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *here = BN_AT_I(BN_AT(at, "values"), i);

		r = bn_rd_text(rd, here, json_array_get(list, i), 63, &s);
		if (!r && !bn_label_value(s))
			return bn_rd_fail(rd, here, "'%.64s' is not a label value", s);
		r = r ?: bn_rd_intern(rd, s, &q->vals[i]);
	}
	q->nvals = (uint32_t)n;
	return r;
}

static int parse_expression(struct bn_rd *rd, const struct bn_at *at, const json_t *e,
			    struct bn_sel_req *q)
{
	static const char *const ops[] = {
		[BN_SEL_IN] = "In",
		[BN_SEL_NOT_IN] = "NotIn",
		[BN_SEL_EXISTS] = "Exists",
		[BN_SEL_NOT_EXISTS] = "DoesNotExist",
	};
	static const char *const known[] = { "key", "operator", "values", NULL };
	int r, op;

	if (!json_is_object(e))
		return bn_rd_fail(rd, at, "must be an object");
	r = bn_rd_only(rd, at, e, known);
	r = r ?: bn_rd_istr(rd, at, e, "key", 253 + 1 + 63, &q->key);
	if (r < 0)
		return r;
	if (!q->key || !*q->key)
		return bn_rd_fail(rd, BN_AT(at, "key"), "is required");
	if (!bn_label_key(q->key))
		return bn_rd_fail(rd, BN_AT(at, "key"), "'%.64s' is not a label key", q->key);
	r = bn_rd_enum(rd, at, e, "operator", ops, ARRAY_SIZE(ops), -1, &op);
	if (r < 0)
		return r;
	q->op = (enum bn_sel_op)op;
	return parse_values(rd, at, e, q);
}

static int req_cmp(const void *a, const void *b)
{
	return strcmp(((const struct bn_sel_req *)a)->key, ((const struct bn_sel_req *)b)->key);
}

/* Sorted, so that the order in which a file says them makes no difference. */
static int parse_match_labels(struct bn_rd *rd, const struct bn_at *at, const json_t *map,
			      struct bn_selector *sel)
{
	struct bn_label label;
	const char *key;
	uint32_t i;
	json_t *v;
	int r;

	json_object_foreach((json_t *)map, key, v) {
		struct bn_sel_req *q = &sel->reqs[sel->n++];

		r = bn_rd_label(rd, at, key, v, &label);
		if (r < 0)
			return r;
		/* Labels of objects are taken as they are; a selector's must be ones that exist. */
		if (!bn_label_key(key))
			return bn_rd_fail(rd, BN_AT_K(at, key), "is not a label key");
		if (!bn_label_value(label.val))
			return bn_rd_fail(rd, BN_AT_K(at, key), "'%.64s' is not a label value",
					  label.val);
		q->key = label.key;
		q->op = BN_SEL_IN;
		q->nvals = 1;
		q->vals = (const char **)(uintptr_t)label.val; /* until it is sorted */
	}
	if (sel->n)
		qsort(sel->reqs, sel->n, sizeof(*sel->reqs), req_cmp);
	for (i = 0; i < sel->n; i++) {
		const char *val = (const char *)sel->reqs[i].vals;

		r = bn_rd_array(rd, &sel->reqs[i].vals, 1, sizeof(val));
		if (r < 0)
			return r;
		sel->reqs[i].vals[0] = val;
	}
	return 0;
}

static int parse_selector(struct bn_rd *rd, const struct bn_at *at, const json_t *json,
			  struct bn_selector *sel)
{
	static const char *const known[] = { "matchLabels", "matchExpressions", NULL };
	const json_t *labels, *list;
	size_t n, i;
	int r;

	r = bn_rd_only(rd, at, json, known);
	r = r ?: bn_rd_get(rd, at, json, "matchLabels", JSON_OBJECT, &labels);
	r = r ?: bn_rd_list(rd, at, json, "matchExpressions", BN_LIST_MAX, &list, &n);
	if (r < 0)
		return r;
	if (json_object_size(labels) > BN_LIST_MAX)
		return bn_rd_fail(rd, BN_AT(at, "matchLabels"), "too many labels");
	r = bn_rd_array(rd, &sel->reqs, n + json_object_size(labels), sizeof(*sel->reqs));
	r = r ?: parse_match_labels(rd, BN_AT(at, "matchLabels"), labels, sel);
	for (i = 0; !r && i < n; i++)
		r = parse_expression(rd, BN_AT_I(BN_AT(at, "matchExpressions"), i),
				     json_array_get(list, i), &sel->reqs[sel->n++]);
	return r;
}

static int parse_block(struct bn_rd *rd, const struct bn_at *at, const json_t *json,
		       struct bn_peer *peer)
{
	static const char *const known[] = { "cidr", "except", NULL };
	const json_t *list;
	const char *s;
	size_t n, i;
	int r;

	r = bn_rd_only(rd, at, json, known);
	r = r ?: bn_rd_str(rd, at, json, "cidr", BN_STR_MAX, &s);
	if (r < 0)
		return r;
	if (!s)
		return bn_rd_fail(rd, BN_AT(at, "cidr"), "is required");
	r = bn_rd_cidr(rd, BN_AT(at, "cidr"), s, &peer->block);
	r = r ?: bn_rd_list(rd, at, json, "except", BN_LIST_MAX, &list, &n);
	r = r ?: bn_rd_array(rd, &peer->except, n, sizeof(*peer->except));
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *here = BN_AT_I(BN_AT(at, "except"), i);

		/* one outside of cidr excepts nothing, which `policy lint` says */
		r = bn_rd_text(rd, here, json_array_get(list, i), BN_STR_MAX, &s);
		r = r ?: bn_rd_cidr(rd, here, s, &peer->except[i]);
	}
	peer->nexcept = (uint32_t)n;
	return r;
}

static int parse_peer(struct bn_rd *rd, const struct bn_at *at, const json_t *json,
		      struct bn_peer *peer)
{
	static const char *const known[] = { "podSelector", "namespaceSelector", "ipBlock", NULL };
	const json_t *pod, *ns, *block;
	int r;

	if (!json_is_object(json))
		return bn_rd_fail(rd, at, "must be an object");
	r = bn_rd_only(rd, at, json, known);
	r = r ?: bn_rd_get(rd, at, json, "podSelector", JSON_OBJECT, &pod);
	r = r ?: bn_rd_get(rd, at, json, "namespaceSelector", JSON_OBJECT, &ns);
	r = r ?: bn_rd_get(rd, at, json, "ipBlock", JSON_OBJECT, &block);
	if (r < 0)
		return r;
	if (!pod && !ns && !block)
		return bn_rd_fail(rd, at, "needs podSelector, namespaceSelector or ipBlock");
	if (block && (pod || ns))
		return bn_rd_fail(rd, BN_AT(at, "ipBlock"), "cannot stand beside a selector");
	peer->has_pod = pod;
	peer->has_ns = ns;
	peer->has_block = block;
	if (pod)
		r = parse_selector(rd, BN_AT(at, "podSelector"), pod, &peer->pod);
	if (!r && ns)
		r = parse_selector(rd, BN_AT(at, "namespaceSelector"), ns, &peer->ns);
	if (!r && block)
		r = parse_block(rd, BN_AT(at, "ipBlock"), block, peer);
	return r;
}

/* port: missing, a number or a name. */
static int parse_port_value(struct bn_rd *rd, const struct bn_at *at, const json_t *json,
			    struct bn_policy_port *p)
{
	const json_t *v = json_object_get(json, "port");
	const char *name;
	long port;
	bool has;
	int r;

	if (!v || json_is_null(v)) {
		p->any = true;
		return 0;
	}
	if (json_is_string(v)) {
		r = bn_rd_str(rd, at, json, "port", BN_STR_MAX, &name);
		if (r < 0)
			return r;
		if (!bn_port_name(name))
			return bn_rd_fail(rd, BN_AT(at, "port"), "'%.64s' is not a port's name",
					  name);
		return bn_rd_intern(rd, name, &p->name);
	}
	r = bn_rd_int(rd, at, json, "port", 1, 65535, &has, &port);
	p->port = p->end_port = r < 0 ? 0 : (uint16_t)port;
	return r;
}

static int parse_port(struct bn_rd *rd, const struct bn_at *at, const json_t *json,
		      struct bn_policy_port *p)
{
	static const char *const known[] = { "protocol", "port", "endPort", NULL };
	const char *proto;
	long end;
	bool has;
	int r;

	if (!json_is_object(json))
		return bn_rd_fail(rd, at, "must be an object");
	r = bn_rd_only(rd, at, json, known);
	r = r ?: bn_rd_str(rd, at, json, "protocol", BN_STR_MAX, &proto);
	r = r ?: bn_rd_proto(rd, at, json, &p->proto);
	if (!r && proto && !*proto)
		r = bn_rd_fail(rd, BN_AT(at, "protocol"), "must not be empty");
	r = r ?: parse_port_value(rd, at, json, p);
	r = r ?: bn_rd_int(rd, at, json, "endPort", 1, 65535, &has, &end);
	if (r < 0 || !has)
		return r;
	if (p->any || p->name)
		return bn_rd_fail(rd, BN_AT(at, "endPort"), "needs a port that is a number");
	if (end < p->port)
		return bn_rd_fail(rd, BN_AT(at, "endPort"), "%ld is lower than port %u", end,
				  p->port);
	p->end_port = (uint16_t)end;
	return 0;
}

static int parse_rule(struct bn_rd *rd, const struct bn_at *at, const json_t *json, bool in,
		      struct bn_rule *rule, bool http)
{
	const char *key = in ? "from" : "to";
	const char *const known[] = { key, "ports", http ? "http" : NULL, NULL };
	const json_t *peers, *ports;
	size_t npeers, nports, i;
	int r;

	if (!json_is_object(json))
		return bn_rd_fail(rd, at, "must be an object");
	r = bn_rd_only(rd, at, json, known);
	r = r ?: bn_rd_list(rd, at, json, key, BN_LIST_MAX, &peers, &npeers);
	r = r ?: bn_rd_list(rd, at, json, "ports", BN_LIST_MAX, &ports, &nports);
	r = r ?: bn_rd_array(rd, &rule->peers, npeers, sizeof(*rule->peers));
	r = r ?: bn_rd_array(rd, &rule->ports, nports, sizeof(*rule->ports));
	if (r < 0)
		return r;
	rule->npeers = (uint32_t)npeers;
	rule->nports = (uint32_t)nports;
	for (i = 0; !r && i < npeers; i++)
		r = parse_peer(rd, BN_AT_I(BN_AT(at, key), i), json_array_get(peers, i),
			       &rule->peers[i]);
	for (i = 0; !r && i < nports; i++)
		r = parse_port(rd, BN_AT_I(BN_AT(at, "ports"), i), json_array_get(ports, i),
			       &rule->ports[i]);
	if (!r && http)
		r = bn_parse_http(rd, at, json, rule);
	return r;
}

static int parse_rules(struct bn_rd *rd, const struct bn_at *spec, const json_t *json, bool in,
		       struct bn_netpol *np)
{
	bool http = np->o.kind == BN_KIND_HTTPNETPOL;
	const char *key = in ? "ingress" : "egress";
	struct bn_rule **rules = in ? &np->in : &np->out;
	const json_t *list;
	size_t n, i;
	int r;

	r = bn_rd_list(rd, spec, json, key, BN_LIST_MAX, &list, &n);
	r = r ?: bn_rd_array(rd, rules, n, sizeof(**rules));
	for (i = 0; !r && i < n; i++)
		r = parse_rule(rd, BN_AT_I(BN_AT(spec, key), i), json_array_get(list, i), in,
			       &(*rules)[i], http);
	*(in ? &np->ningress : &np->negress) = (uint32_t)n;
	return r;
}

static int parse_types(struct bn_rd *rd, const struct bn_at *spec, const json_t *json,
		       struct bn_netpol *np)
{
	const json_t *list, *egress = json_object_get(json, "egress");
	const char *s;
	size_t n, i;
	int r;

	r = bn_rd_list(rd, spec, json, "policyTypes", 2, &list, &n);
	if (r < 0)
		return r;
	if (!n) {
		np->ingress = true;
		np->egress = json_array_size(egress);
		return 0;
	}
	for (i = 0; i < n; i++) {
		const struct bn_at *at = BN_AT_I(BN_AT(spec, "policyTypes"), i);

		r = bn_rd_text(rd, at, json_array_get(list, i), BN_STR_MAX, &s);
		if (r < 0)
			return r;
		if (!strcmp(s, "Ingress"))
			np->ingress = true;
		else if (!strcmp(s, "Egress"))
			np->egress = true;
		else
			return bn_rd_fail(rd, at, "'%.64s' is not one of Ingress, Egress", s);
	}
	return 0;
}

static void parse_audit(const json_t *json, struct bn_netpol *np)
{
	const char *s = bn_meta_annotation(json, "bpfnet.io/policy-audit");

	np->audit = s && !strcmp(s, "true");
}

int bn_parse_netpol(struct bn_rd *rd, const json_t *json, struct bn_netpol *np)
{
	static const char *const top[] = { "apiVersion", "kind", "metadata", "spec", "status", NULL };
	static const char *const known[] = { "podSelector", "policyTypes", "ingress", "egress",
					     NULL };
	const struct bn_at *at = BN_AT(NULL, "spec");
	const json_t *spec, *pods;
	int r = 0;

	if (np->o.kind == BN_KIND_HTTPNETPOL)
		r = bn_rd_only(rd, NULL, json, top);
	r = r ?: bn_rd_get(rd, NULL, json, "spec", JSON_OBJECT, &spec);
	r = r ?: bn_rd_only(rd, at, spec, known);
	r = r ?: bn_rd_get(rd, at, spec, "podSelector", JSON_OBJECT, &pods);
	r = r ?: parse_selector(rd, BN_AT(at, "podSelector"), pods, &np->pods);
	r = r ?: parse_types(rd, at, spec, np);
	r = r ?: parse_rules(rd, at, spec, true, np);
	r = r ?: parse_rules(rd, at, spec, false, np);
	if (r < 0)
		return r;
	/* Rules of a direction that policyTypes leaves out are judged, but mean nothing. */
	if (!np->ingress)
		np->ningress = 0;
	if (!np->egress)
		np->negress = 0;
	parse_audit(json, np);
	return 0;
}

int bn_parse_netpol_stub(struct bn_rd *rd, const json_t *json, struct bn_netpol *np)
{
	const json_t *spec = json_object_get(json, "spec"), *pods;
	const struct bn_at *at = BN_AT(NULL, "spec");
	const json_t *egress = json_object_get(spec, "egress");
	int r;

	r = bn_rd_get(rd, at, spec, "podSelector", JSON_OBJECT, &pods);
	r = r ?: parse_selector(rd, at, pods, &np->pods);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		np->pods = (struct bn_selector){ 0 };
	r = parse_types(rd, at, spec, np);
	if (r < 0 || (spec && !json_is_object(spec)))
		np->ingress = np->egress = true;
	/* what stands where rules for egress stand is meant to limit it */
	if (egress && !json_is_null(egress) && !json_is_array(egress))
		np->egress = true;
	return r == -ENOMEM ? r : 0;
}
