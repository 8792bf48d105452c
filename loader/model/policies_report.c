// SPDX-License-Identifier: MIT
/* What the commands ask: lists, one policy in detail, identities, traces. */
#include <stdio.h>
#include <string.h>

#include "loader/model/policies_priv.h"
#include "maps/util.h"
#include "policy/intern.h"
#include "policy/lint.h"
#include "policy/select.h"

/* --- policies --------------------------------------------------------------------------------- */

static uint32_t rules_of(const struct bn_netpol *np, enum bn_dir dir, const struct bn_rule **ret)
{
	*ret = dir == BN_EGRESS ? np->out : np->in;
	return dir == BN_EGRESS ? np->negress : np->ningress;
}

int bn_policies_each_http(const struct bn_policies *p,
			  int (*fn)(const struct bn_rule_ref *r, const struct bn_http_count *c, void *data),
			  void *data)
{
	uint32_t n = bn_pols_max_rules(p->pols);
	_cleanup_(freep) struct bn_http_count *v = calloc(n, sizeof(*v));
	struct bn_rule_ref ref;
	int r = 0;

	if (!v)
		return -ENOMEM;
	if (!p->http)
		return 0;
	bn_httpsets_counts(p->http, v, n);
	for (uint32_t k = 1; k < n && !r; k++)
		if (bn_compiler_rule(p->c, k, &ref) == 0 && ref.rule->has_http)
			r = fn(&ref, &v[k], data);
	return r;
}

static void count_rule(const struct bn_policies *p, const struct bn_netpol *np, enum bn_dir dir,
		       uint32_t index, struct bn_rule_stat *sum)
{
	struct bn_rule_stat s;

	if (bn_pols_stat(p->pols, bn_compiler_rule_id(p->c, np, dir, index), &s) < 0)
		return;
	sum->packets += s.packets;
	sum->connections += s.connections;
}

struct count {
	const struct bn_netpol *np;
	size_t n;
	json_t *names;
};

static int count_pod(const struct bn_pod *pod, void *data)
{
	struct count *c = data;

	if (!bn_selector_match(&c->np->pods, &pod->o.labels))
		return 0;
	c->n++;
	if (c->names)
		json_array_append_new(c->names, json_string(pod->o.name));
	return 0;
}

static const char *directions(const struct bn_netpol *np)
{
	bool both = np->o.refused && !np->ingress && !np->egress;

	return both || (np->ingress && np->egress) ? "ingress,egress"
	       : np->ingress			   ? "ingress"
	       : np->egress			   ? "egress"
						   : "";
}

/* Why its ports with HTTP rules let nothing through. */
static const char *http_error(const struct bn_policies *p, const struct bn_netpol *np)
{
	if (np->o.kind != BN_KIND_HTTPNETPOL || !bn_netpol_http(np))
		return NULL;
	return p->http ? bn_httpsets_error(p->http, np) : p->no_http;
}

static const char *error_of(const struct bn_policies *p, const struct bn_netpol *np)
{
	if (np->o.refused)
		return "refused: the object cannot be read; it isolates what it selects and allows "
		       "nothing";
	return bn_compiler_refused(p->c, np) ?: http_error(p, np) ?: "";
}

static json_t *policy_json(const struct bn_policies *p, const struct bn_netpol *np, bool names)
{
	struct count c = {.np = np, .names = names ? json_array() : NULL};
	struct bn_rule_stat sum = {};
	json_t *j;

	bn_idents_each_pod(p->ids, np->o.ns, count_pod, &c);
	for (enum bn_dir d = 0; d < BN_DIRS; d++) {
		const struct bn_rule *rules;

		for (uint32_t k = 0, n = rules_of(np, d, &rules); k < n; k++)
			count_rule(p, np, d, k, &sum);
	}
	j = json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:s}", "kind", bn_kind_name(np->o.kind),
		      "namespace", np->o.ns, "name", np->o.name, "directions", directions(np),
		      "pods", (json_int_t)c.n, "rules", (json_int_t)np->ningress + np->negress,
		      "packets", (json_int_t)sum.packets, "connections",
		      (json_int_t)sum.connections, "error", error_of(p, np));
	if (j && np->audit)
		json_object_set_new(j, "audit", json_true());
	if (j && names)
		json_object_set_new(j, "selected", c.names);
	return j;
}

struct list {
	struct bn_policies *p;
	json_t *out;
};

static int add_policy(const struct bn_netpol *np, void *data)
{
	struct list *l = data;
	json_t *j = policy_json(l->p, np, false);

	return j && !json_array_append_new(l->out, j) ? 0 : -ENOMEM;
}

static const char *text(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key)) ?: "";
}

static int by_name(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int r = strcmp(text(x, "namespace"), text(y, "namespace"));

	r = r ?: strcmp(text(x, "name"), text(y, "name"));
	return r ?: strcmp(text(x, "kind"), text(y, "kind"));
}

/* Lists are in order, so that two calls can be compared. */
static int sorted(json_t *list, json_t **ret)
{
	size_t n = json_array_size(list), i;
	_cleanup_(freep) json_t **v = calloc(n + 1, sizeof(*v));
	json_t *out = json_array(), *j;

	if (!v || !out) {
		json_decref(list);
		json_decref(out);
		return -ENOMEM;
	}
	json_array_foreach (list, i, j)
		v[i] = j;
	qsort(v, n, sizeof(*v), by_name);
	for (i = 0; i < n; i++)
		json_array_append(out, v[i]);
	json_decref(list);
	*ret = out;
	return 0;
}

int bn_policies_list(struct bn_policies *p, json_t **ret)
{
	struct list l = {p, json_array()};
	int r;

	r = l.out ? bn_compiler_each(p->c, add_policy, &l) : -ENOMEM;
	if (r < 0) {
		json_decref(l.out);
		return r;
	}
	return sorted(l.out, ret);
}

static json_t *peers_json(const struct bn_netpol *np, const struct bn_rule *r)
{
	json_t *list = json_array();
	char buf[512];

	for (uint32_t k = 0; k < r->npeers; k++)
		json_array_append_new(list, json_string(bn_peer_describe(np->o.ns, &r->peers[k],
									 buf, sizeof(buf))));
	return list;
}

static json_t *ports_json(const struct bn_rule *r)
{
	json_t *list = json_array();

	for (uint32_t k = 0; k < r->nports; k++) {
		const struct bn_policy_port *pp = &r->ports[k];
		const char *proto = bn_proto_name(pp->proto);

		if (pp->any)
			json_array_append_new(list, json_sprintf("%s", proto));
		else if (pp->name)
			json_array_append_new(list, json_sprintf("%s %s", proto, pp->name));
		else if (pp->end_port != pp->port)
			json_array_append_new(
				list, json_sprintf("%s %u-%u", proto, pp->port, pp->end_port));
		else
			json_array_append_new(list, json_sprintf("%s %u", proto, pp->port));
	}
	return list;
}

static json_t *rule_json(const struct bn_policies *p, const struct bn_netpol *np, enum bn_dir d, uint32_t k,
			 const struct bn_http_count *http)
{
	const struct bn_rule *rules;
	struct bn_rule_stat s = {};
	uint32_t id = bn_compiler_rule_id(p->c, np, d, k);
	json_t *j;

	rules_of(np, d, &rules);
	count_rule(p, np, d, k, &s);
	j = json_pack("{s:s,s:i,s:I,s:o,s:o,s:b,s:I,s:I}", "direction", d == BN_EGRESS ? "egress" : "ingress",
		      "index", k, "id", (json_int_t)id, "peers", peers_json(np, &rules[k]), "ports",
		      ports_json(&rules[k]), "http", rules[k].has_http, "packets", (json_int_t)s.packets,
		      "connections", (json_int_t)s.connections);
	if (j && rules[k].has_http)
		json_object_set_new(j, "requests",
				    json_pack("{s:I,s:I,s:I}", "allowed", (json_int_t)http[id].allowed, "denied",
					      (json_int_t)http[id].denied, "audited",
					      (json_int_t)http[id].audited));
	return j;
}

static int show_rules(const struct bn_policies *p, const struct bn_netpol *np, json_t *out)
{
	uint32_t max = bn_pols_max_rules(p->pols);
	_cleanup_(freep) struct bn_http_count *http = calloc(max, sizeof(*http));

	if (!http)
		return -ENOMEM;
	if (p->http)
		bn_httpsets_counts(p->http, http, max);
	for (enum bn_dir d = 0; d < BN_DIRS; d++) {
		const struct bn_rule *rules;

		for (uint32_t k = 0, n = rules_of(np, d, &rules); k < n; k++)
			json_array_append_new(out, rule_json(p, np, d, k, http));
	}
	return 0;
}

int bn_policies_show(struct bn_policies *p, const char *ns, const char *name, json_t **ret)
{
	static const enum bn_kind kinds[] = {BN_KIND_NETPOL, BN_KIND_HTTPNETPOL};
	json_t *first = NULL;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		const struct bn_obj *o = bn_store_get(p->store, kinds[k], ns, name);
		json_t *j, *rules;

		if (!o)
			continue;
		j = policy_json(p, (const struct bn_netpol *)o, true);
		if (!j)
			return -ENOMEM;
		rules = json_array();
		if (show_rules(p, (const struct bn_netpol *)o, rules) < 0) {
			json_decref(rules);
			json_decref(j);
			json_decref(first);
			return -ENOMEM;
		}
		json_object_set_new(j, "rules", rules);
		if (o->origin)
			json_object_set_new(j, "origin", json_string(o->origin));
		if (first) /* both kinds may have one of that name */
			json_object_set_new(first, "also", j);
		else
			first = j;
	}
	*ret = first;
	return first ? 0 : -ENOENT;
}

/* --- identities ------------------------------------------------------------------------------- */

static const char *const reserved[BN_ID_UNMANAGED + 1] = {
	[BN_ID_UNKNOWN] = "unknown", [BN_ID_HOST] = "host",	      [BN_ID_NODE] = "node",
	[BN_ID_WORLD] = "world",     [BN_ID_UNMANAGED] = "unmanaged",
};

static void append(char *buf, size_t len, const char *s)
{
	size_t n = strlen(buf);

	if (n < len)
		snprintf(buf + n, len - n, "%s%s", n ? "; " : "", s);
}

static int add_identity(uint32_t identity, size_t members, void *data)
{
	char pods[1024] = "", cidrs[1024] = "", buf[300];
	struct list *l = data;
	const uint32_t *atoms;
	size_t n = bn_idents_atoms(l->p->ids, identity, &atoms);
	json_t *peers = json_array();

	if (!members && identity >= BN_ID_FIRST) {
		json_decref(peers);
		return 0;
	}
	for (size_t k = 0; k < n; k++) {
		bn_idents_atom_describe(l->p->ids, atoms[k], buf, sizeof(buf));
		json_array_append_new(peers, json_string(buf));
		if (bn_idents_atom_is_pods(l->p->ids, atoms[k]))
			append(pods, sizeof(pods), buf);
		else
			append(cidrs, sizeof(cidrs), buf);
	}
	return json_array_append_new(
		l->out,
		json_pack("{s:I,s:s,s:s,s:s,s:s,s:I,s:o,s:I}", "identity", (json_int_t)identity,
			  "kind", identity < BN_ID_FIRST ? reserved[identity] : "matched",
			  "namespace", "", "labels", pods, "cidrs", cidrs, "addresses",
			  (json_int_t)members, "peers", peers, "namedPorts",
			  (json_int_t)bn_idents_nports(l->p->ids, identity)));
}

int bn_policies_identities(struct bn_policies *p, json_t **ret)
{
	struct list l = {p, json_array()};
	int r;

	r = l.out ? bn_idents_each(p->ids, add_identity, &l) : -ENOMEM;
	if (r) {
		json_decref(l.out);
		return r < 0 ? r : -ENOMEM;
	}
	*ret = l.out;
	return 0;
}

/* --- lint, trace, errors ---------------------------------------------------------------------- */

int bn_policies_lint(struct bn_policies *p, json_t **ret)
{
	json_t *list = NULL;
	int r;

	r = bn_policy_lint(p->ids, p->c, &list);
	return r < 0 ? r : sorted(list, ret);
}

int bn_policies_trace(struct bn_policies *p, const struct bn_trace_query *q, bool verify,
		      json_t **ret)
{
	if (!p->ready) {
		*ret = json_pack("{s:s}", "error",
				 "pods and policies have not been read in full yet");
		return *ret ? -EAGAIN : -ENOMEM;
	}
	if (verify && !p->verify) {
		*ret = json_pack("{s:s}", "error", "--verify: no loaded program to ask");
		return *ret ? -EOPNOTSUPP : -ENOMEM;
	}
	bn_tracer_verify(p->tracer, verify ? p->verify : NULL);
	return bn_tracer_run(p->tracer, q, ret);
}

static int add_error(const struct bn_netpol *np, void *data)
{
	struct list *l = data;
	const char *why = bn_compiler_refused(l->p->c, np) ?: http_error(l->p, np);

	if (!why)
		return 0;
	return json_array_append_new(l->out, json_pack("{s:s,s:s,s:s,s:s}", "kind",
						       bn_kind_name(np->o.kind), "namespace",
						       np->o.ns, "name", np->o.name, "error", why))
		       ? -ENOMEM
		       : 0;
}

int bn_policies_errors(struct bn_policies *p, json_t **ret)
{
	struct list l = {p, json_array()};
	int r;

	r = l.out ? bn_compiler_each(p->c, add_error, &l) : -ENOMEM;
	for (uint32_t k = 0; k < p->nslots && !r; k++) {
		const struct pol_slot *s = &p->slots[k];

		if (s->used && s->error)
			json_array_append_new(l.out, json_pack("{s:s,s:s,s:s,s:s}", "kind", "Pod",
							       "namespace", s->ns, "name", s->name,
							       "error", s->error));
	}
	if (r < 0) {
		json_decref(l.out);
		return r;
	}
	*ret = l.out;
	return 0;
}
