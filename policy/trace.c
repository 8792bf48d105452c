// SPDX-License-Identifier: MIT
/* The two ends of a connection, and what the matrices say about it. */
#include "policy/trace.h"

#include "maps/drop.h"
#include "maps/util.h"
#include "policy/intern.h"
#include "policy/trace_priv.h"

/* --- the two ends ----------------------------------------------------------------------------- */

static void side_who(struct bn_tracer *t, struct bn_side *s)
{
	bn_idents_whois(t->ids, &s->addr, &s->who);
	s->pod = s->who.who == BN_WHO_POD ? s->who.pod : NULL;
	s->node = s->who.who == BN_WHO_NODE && s->who.node ? s->who.node->o.name : NULL;
	if (s->host_pod && !s->pod)
		s->node = s->host_pod->node;
}

static int side_pod(struct bn_tracer *t, const char *text, struct bn_side *ret, json_t **err)
{
	const char *slash = strchr(text, '/');
	struct bn_obj *o;
	char ns[256];
	const struct bn_pod *p;

	snprintf(ns, sizeof(ns), "%.*s", (int)(slash - text), text);
	o = bn_store_get(t->store, BN_KIND_POD, ns, slash + 1);
	if (!o)
		return bn_trace_fail(err, -ENOENT, "pod %s is not known", text);
	p = bn_container(o, struct bn_pod, o);
	if (p->finished)
		return bn_trace_fail(err, -ENOENT, "pod %s has finished: it has no address", text);
	if (!p->nips)
		return bn_trace_fail(err, -ENOENT, "pod %s has no address yet", text);
	ret->ips = p->ips;
	ret->nips = p->nips;
	if (p->host_network)
		ret->host_pod = p;
	return 0;
}

int bn_trace_side(struct bn_tracer *t, const char *text, struct bn_side *ret, json_t **err)
{
	int r;

	*ret = (struct bn_side){};
	if (!bn_addr_parse(text, &ret->addr)) {
		ret->ips = &ret->addr;
		ret->nips = 1;
	} else if (strchr(text, '/')) {
		r = side_pod(t, text, ret, err);
		if (r < 0)
			return r;
		ret->addr = ret->ips[0];
	} else {
		return bn_trace_fail(
			err, -EINVAL,
			"'%s' is neither NAMESPACE/POD, NAMESPACE/svc:NAME nor an address", text);
	}
	side_who(t, ret);
	return 0;
}

/* The destination's first address that the source has the family of; *src is the source's. */
bool bn_trace_family(const struct bn_side *from, struct bn_side *to, struct bn_addr *src)
{
	for (uint32_t k = 0; k < to->nips; k++) {
		for (uint32_t j = 0; j < from->nips; j++) {
			if (!bn_addr_is_v4(&to->ips[k]) != !bn_addr_is_v4(&from->ips[j]))
				continue;
			*src = from->ips[j];
			to->addr = to->ips[k];
			return true;
		}
	}
	return false;
}

json_t *bn_trace_side_json(const struct bn_side *s)
{
	const struct bn_pod *p = s->pod ?: s->host_pod;
	char text[BN_ADDR_STRLEN];
	json_t *j;

	j = json_pack("{s:s,s:s,s:i}", "address", bn_addr_format(&s->addr, text), "kind",
		      s->pod	    ? "pod"
		      : s->host_pod ? "host-network pod"
		      : s->node	    ? "node"
				    : "outside",
		      "identity", s->who.identity);
	if (p)
		json_object_set_new(j, "namespace", json_string(p->o.ns));
	if (p)
		json_object_set_new(j, "name", json_string(p->o.name));
	if (s->node || (p && p->node))
		json_object_set_new(j, "node", json_string(s->node ?: p->node));
	return j;
}

/* --- one direction ---------------------------------------------------------------------------- */

json_t *bn_trace_rule_json(const struct bn_netpol *p, enum bn_dir dir, uint32_t index)
{
	return json_pack("{s:s,s:s,s:s,s:s,s:i}", "kind", bn_kind_name(p->o.kind), "namespace",
			 p->o.ns, "name", p->o.name, "direction",
			 dir == BN_EGRESS ? "egress" : "ingress", "index", index);
}

static json_t *open_json(const char *reason)
{
	return json_pack("{s:s,s:b,s:[],s:n,s:s}", "verdict", "allow", "isolated", 0, "policies",
			 "rule", "reason", reason);
}

static int matrix(struct bn_tracer *t, const struct bn_pod *pod, enum bn_dir dir,
		  struct bn_matrix **ret, json_t **err)
{
	_cleanup_(bn_matrix_unrefp) struct bn_matrix *m = NULL;
	int r;

	r = bn_compiler_get(t->c, pod, dir, &m);
	if (r == -E2BIG)
		return bn_trace_fail(err, r, "%s", bn_compiler_error(t->c));
	if (r < 0)
		return bn_trace_fail(err, r, "compile: %s", strerror(-r));
	*ret = m;
	if (!m)
		return 0;
	if (t->own_c && bn_matrix_user(m) == t)
		return 0; /* the reference that is held keeps it */
	r = bn_vec_push(&t->held, m);
	if (r < 0)
		return r;
	if (t->own_c)
		bn_matrix_set_user(m, t, NULL);
	TAKE_PTR(m);
	return 0;
}

static void let_go(struct bn_tracer *t)
{
	for (uint32_t k = 0; k < t->held.n; k++)
		bn_matrix_unref(t->held.v[k]);
	t->held.n = 0;
}

static json_t *policies_json(const struct bn_tracer *t, const struct bn_matrix_view *v)
{
	json_t *list = json_array();

	for (uint32_t k = 0; k < v->npolicies; k++) {
		const struct bn_netpol *p = v->policies[k];
		bool refused = p->o.refused || bn_compiler_refused(t->c, p);

		json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:b}", "kind", bn_kind_name(p->o.kind), "namespace",
						      p->o.ns, "name", p->o.name, "refused", refused));
	}
	return list;
}

/* cell NULL: open. A request is asked about once its connection is let in. */
static int verify(struct bn_tracer *t, const struct bn_flow *f, enum bn_dir dir,
		  const struct bn_matrix *m, const struct bn_cell *cell, bool allow, json_t *j)
{
	uint32_t peer = dir == BN_EGRESS ? f->to.who.identity : f->from.who.identity;
	char reason[64] = "";
	int r;

	if (!t->verify)
		return 0;
	r = t->verify->judge(t->verify->data, dir, m, &f->from.addr, &f->to.addr, peer, f->proto,
			     f->port, reason, sizeof(reason));
	if (r > 0 && cell && cell->action == BN_ACT_HTTP && f->q->http_method)
		r = bn_trace_http_verify(t, cell, f, reason, sizeof(reason));
	if (r < 0)
		return json_object_set_new(j, "kernel", json_pack("{s:s,s:b}", "error", strerror(-r), "retry", r == -EAGAIN));
	return json_object_set_new(j, "kernel",
				   json_pack("{s:s,s:s,s:b}", "verdict", r ? "allow" : "deny",
					     "reason", reason, "agrees", !!r == allow));
}

/* What the cell says must be what the objects say. */
static int compare(const struct bn_tracer *t, const struct bn_cell *cell, const struct bn_flow *f,
		   enum bn_dir dir, const struct bn_explain *x)
{
	struct bn_rule_ref ref;

	if (cell->action != x->action)
		return -EUCLEAN;
	if (cell->action == BN_ACT_DENY)
		return 0;
	if (bn_compiler_rule(t->c, cell->rule, &ref) < 0 || ref.dir != dir ||
	    !bn_explain_rule(f, dir, ref.policy, ref.rule, t->store))
		return -EUCLEAN;
	return 0;
}

/* Policies that were refused because of a limit isolate, but their rules do not count. */
static int explain(const struct bn_tracer *t, const struct bn_flow *f, enum bn_dir dir,
		   const struct bn_matrix_view *v, struct bn_explain *ret)
{
	_cleanup_(freep) const struct bn_netpol **in_force = NULL;
	size_t n = 0;

	in_force = calloc(v->npolicies + 1, sizeof(*in_force));
	if (!in_force)
		return -ENOMEM;
	for (uint32_t k = 0; k < v->npolicies; k++)
		if (!bn_compiler_refused(t->c, v->policies[k]))
			in_force[n++] = v->policies[k];
	bn_explain(f, dir, in_force, n, t->store, ret);
	return 0;
}

/* Would a denial be recorded only? By the daemon, for the namespace, or for each policy of the pod. */
static bool audited(const struct bn_tracer *t, const struct bn_matrix_view *v, const struct bn_pod *pod)
{
	const struct bn_obj *ns = bn_store_get(t->store, BN_KIND_NAMESPACE, "", pod->o.ns);

	return t->audit || v->audit || (ns && ((const struct bn_namespace *)ns)->audit);
}

static int direction(struct bn_tracer *t, const struct bn_flow *f, enum bn_dir dir, json_t **ret,
		     json_t **err)
{
	const struct bn_pod *pod = dir == BN_EGRESS ? f->from.pod : f->to.pod;
	const struct bn_side *peer = dir == BN_EGRESS ? &f->to : &f->from;
	struct bn_matrix *m = NULL;
	struct bn_matrix_view v;
	struct bn_explain x;
	struct bn_cell cell;
	bool allow;
	json_t *j;
	int r;

	r = matrix(t, pod, dir, &m, err);
	if (r < 0)
		return r;
	if (!m) {
		*ret = open_json("no policy selects the pod in this direction");
		return *ret ? verify(t, f, dir, NULL, NULL, true, *ret) : -ENOMEM;
	}
	bn_matrix_view(m, &v);
	cell = bn_matrix_eval(m, peer->who.identity, f->proto, f->port);
	r = explain(t, f, dir, &v, &x);
	if (r < 0)
		return r;
	if (compare(t, &cell, f, dir, &x) < 0)
		return bn_trace_fail(
			err, -EUCLEAN, "internal error: the compiled rules of %s/%s (%s) say %d, the objects say %d: please report it",
			pod->o.ns, pod->o.name, dir == BN_EGRESS ? "egress" : "ingress",
			cell.action, x.action);
	allow = cell.action != BN_ACT_DENY;
	j = json_pack("{s:b,s:o,s:n}", "isolated", 1, "policies", policies_json(t, &v), "rule");
	if (!j)
		return -ENOMEM;
	if (allow) {
		struct bn_rule_ref ref;

		bn_compiler_rule(t->c, cell.rule, &ref);
		json_object_set_new(j, "rule", bn_trace_rule_json(ref.policy, dir, ref.index));
	} else if (x.policy) {
		json_t *near = bn_trace_rule_json(x.policy, dir, x.index);

		json_object_set_new(near, "failed", json_string(x.failed));
		json_object_set_new(near, "reason", json_string(x.reason) ?: json_string(""));
		json_object_set_new(j, "nearest", near);
	} else {
		json_object_set_new(j, "nearest", json_null());
		json_object_set_new(j, "reason",
				    json_string("no policy of the pod has a rule for it"));
	}
	if (cell.action == BN_ACT_HTTP)
		r = bn_trace_http(t, &cell, f, &allow, j);
	else if (allow)
		r = bn_trace_moot(t, &v, f, dir, j);
	r = r ?: verify(t, f, dir, m, &cell, allow, j);
	if (!allow && audited(t, &v, pod))
		json_object_set_new(j, "audit", json_true());
	json_object_set_new(j, "verdict", json_string(allow ? "allow" : "deny"));
	if (r < 0) {
		json_decref(j);
		return r;
	}
	*ret = j;
	return allow ? 0 : 1;
}

/* Own traffic and that of the pod's own node pass whatever the rules say. */
static const char *exempt(const struct bn_flow *f, enum bn_dir dir)
{
	const char *node = f->from.node;

	if (f->from.pod && f->from.pod == f->to.pod)
		return "a pod always reaches itself";
	if (dir == BN_INGRESS && node && f->to.pod && f->to.pod->node == node)
		return "a node always reaches the pods that run on it";
	return NULL;
}

int bn_trace_flow(struct bn_tracer *t, struct bn_flow *f, json_t **eg, json_t **in, json_t **err)
{
	int deny = 0;

	for (enum bn_dir d = 0; d < BN_DIRS; d++) {
		const struct bn_pod *pod = d == BN_EGRESS ? f->from.pod : f->to.pod;
		json_t **ret = d == BN_EGRESS ? eg : in;
		int r = 0;

		if (exempt(f, d))
			*ret = open_json(exempt(f, d));
		else if (!pod)
			*ret = open_json(d == BN_EGRESS
						 ? "the source is no pod that policies select"
						 : "the destination is no pod that policies "
						   "select");
		else
			r = direction(t, f, d, ret, err);
		if (r < 0)
			return r;
		deny |= r;
	}
	return deny;
}

/* --- a query ---------------------------------------------------------------------------------- */

static const char *why(const json_t *eg, const json_t *in)
{
	bool e = !strcmp(json_string_value(json_object_get(eg, "verdict")) ?: "", "deny");
	bool i = !strcmp(json_string_value(json_object_get(in, "verdict")) ?: "", "deny");

	return e && i ? "denied by the source's egress and by the destination's ingress policies"
	       : e    ? "denied by egress policies of the source"
	       : i    ? "denied by ingress policies of the destination"
		      : "allowed in both directions";
}

/* What the kernel said in each direction and of each backend, as one: it allows what it allows
 * everywhere.
 */
static void sum_kernel(const json_t *j, bool *deny, bool *disagrees, const char **error)
{
	const json_t *k = json_object_get(j, "kernel"), *v;
	const char *key;
	size_t i;

	if (k) {
		*deny |= !strcmp(json_string_value(json_object_get(k, "verdict")) ?: "", "deny");
		*disagrees |= json_is_false(json_object_get(k, "agrees"));
		*error = json_string_value(json_object_get(k, "error")) ?: *error;
	}
	json_object_foreach ((json_t *)j, key, v)
		if (strcmp(key, "otherFamily") != 0) /* has its own */
			sum_kernel(v, deny, disagrees, error);
	json_array_foreach (j, i, v)
		sum_kernel(v, deny, disagrees, error);
}

static json_t *kernel_of(const json_t *out)
{
	bool deny = false, disagrees = false;
	const char *error = NULL;

	sum_kernel(out, &deny, &disagrees, &error);
	if (error)
		return json_pack("{s:s}", "error", error);
	return json_pack("{s:s,s:b}", "verdict", deny ? "deny" : "allow", "agrees", !disagrees);
}

static void put_flow(json_t *out, const struct bn_flow *f, json_t *eg, json_t *in)
{
	json_object_set_new(out, "from", bn_trace_side_json(&f->from));
	json_object_set_new(out, "to", bn_trace_side_json(&f->to));
	json_object_set_new(out, "reason",
			    json_sprintf("%s%s", why(eg, in), bn_trace_http_note(f->q, eg, in)));
	json_object_set(out, "egress", eg);
	json_object_set(out, "ingress", in);
}

/* Pods with addresses of both families are judged by either: ipBlocks are of one. The verdict is the
 * first family's; the other's is told beside it.
 */
static int run_other(struct bn_tracer *t, const struct bn_side *from, const struct bn_flow *first,
		     json_t *out, json_t **err)
{
	const struct bn_addr *a = NULL, *b = NULL;
	bool v4 = bn_addr_is_v4(&first->to.addr);
	json_t *eg = NULL, *in = NULL, *j;
	struct bn_flow f = *first;
	uint32_t i;
	int r;

	for (i = from->nips; i > 0; i--)
		if (bn_addr_is_v4(&from->ips[i - 1]) != v4)
			a = &from->ips[i - 1];
	for (i = f.to.nips; i > 0; i--)
		if (bn_addr_is_v4(&f.to.ips[i - 1]) != v4)
			b = &f.to.ips[i - 1];
	if (!a || !b)
		return 0;
	f.from.addr = *a;
	f.to.addr = *b;
	side_who(t, &f.from);
	side_who(t, &f.to);
	r = bn_trace_flow(t, &f, &eg, &in, err);
	if (r >= 0) {
		j = json_pack("{s:s}", "verdict", r ? "deny" : "allow");
		put_flow(j, &f, eg, in);
		if (t->verify)
			json_object_set_new(j, "kernel", kernel_of(j));
		json_object_set_new(out, "otherFamily", j);
	}
	json_decref(eg);
	json_decref(in);
	return r < 0 ? r : 0;
}

static int run_flow(struct bn_tracer *t, const struct bn_trace_query *q, struct bn_side *from,
		    json_t *out, json_t **err)
{
	struct bn_flow f = {.proto = q->proto, .port = q->port, .q = q};
	json_t *eg = NULL, *in = NULL;
	int r, other;

	f.from = *from;
	r = bn_trace_side(t, q->to, &f.to, err);
	if (r < 0)
		return r;
	if (!bn_trace_family(from, &f.to, &f.from.addr))
		return bn_trace_fail(err, -EINVAL, "%s and %s have no address family in common",
				     q->from, q->to);
	side_who(t, &f.from);
	side_who(t, &f.to);
	r = bn_trace_flow(t, &f, &eg, &in, err);
	if (r >= 0)
		put_flow(out, &f, eg, in);
	json_decref(eg);
	json_decref(in);
	other = r < 0 ? r : run_other(t, from, &f, out, err);
	return other < 0 ? other : r;
}

static int run(struct bn_tracer *t, const struct bn_trace_query *q, json_t *out, json_t **err)
{
	json_t *svc = NULL, *eg = NULL, *in = NULL;
	struct bn_side from;
	bool allow = false;
	int r;

	r = bn_trace_check(q, err);
	r = r ?: bn_trace_side(t, q->from, &from, err);
	if (r < 0)
		return r;
	r = bn_trace_service(t, &from, q, &svc, &allow, &eg, &in, err);
	if (r < 0)
		return r;
	if (!r)
		return run_flow(t, q, &from, out, err);
	json_object_set_new(out, "from", bn_trace_side_json(&from));
	json_object_set_new(out, "to", json_pack("{s:s,s:s}", "kind", "service", "query", q->to));
	json_object_set_new(out, "egress", eg ?: json_null());
	json_object_set_new(out, "ingress", in ?: json_null());
	json_object_set(out, "reason", json_object_get(svc, "reason"));
	json_object_set_new(out, "service", svc);
	return allow ? 0 : 1;
}

int bn_tracer_run(struct bn_tracer *t, const struct bn_trace_query *q, json_t **ret)
{
	json_t *out = json_pack("{s:s,s:s,s:i,s:n}", "verdict", "deny", "protocol",
				bn_proto_name(q->proto), "port", q->port, "service");
	json_t *err = NULL;
	int r;

	if (!out)
		return -ENOMEM;
	r = run(t, q, out, &err);
	if (!t->own_c) /* the daemon's: what no pod of the node needs must not stay for a question */
		let_go(t);
	if (r < 0) {
		json_decref(out);
		if (!err)
			bn_trace_fail(&err, r, "%s", strerror(-r));
		*ret = err;
		return r;
	}
	json_decref(err);
	json_object_set_new(out, "verdict", json_string(r ? "deny" : "allow"));
	if (t->verify)
		json_object_set_new(out, "kernel", kernel_of(out));
	*ret = out;
	return r;
}

/* --- life ------------------------------------------------------------------------------------- */

int bn_tracer_borrow(const struct bn_store *store, struct bn_idents *ids, struct bn_compiler *c,
		     struct bn_tracer **ret)
{
	_cleanup_(bn_tracer_freep) struct bn_tracer *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->store = store;
	t->ids = ids;
	t->c = c;
	r = bn_trace_svc_open(t);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

static int load_obj(struct bn_obj *o, void *data)
{
	struct bn_tracer *t = data;

	switch (o->kind) {
	case BN_KIND_POD:
		return bn_idents_pod(t->ids, NULL, (struct bn_pod *)o);
	case BN_KIND_NAMESPACE:
		return bn_idents_namespace(t->ids, NULL, (struct bn_namespace *)o);
	case BN_KIND_NODE:
		return bn_idents_node(t->ids, NULL, (struct bn_node *)o);
	case BN_KIND_NETPOL:
	case BN_KIND_HTTPNETPOL:
		return bn_compiler_policy(t->c, NULL, (struct bn_netpol *)o);
	default:
		return 0;
	}
}

int bn_tracer_new(const struct bn_store *store, struct bn_tracer **ret)
{
	static const enum bn_kind kinds[] = {BN_KIND_NAMESPACE, BN_KIND_NODE, BN_KIND_POD,
					     BN_KIND_NETPOL, BN_KIND_HTTPNETPOL};
	_cleanup_(bn_tracer_freep) struct bn_tracer *t = NULL;
	_cleanup_(bn_idents_freep) struct bn_idents *ids = NULL;
	struct bn_compile_limits no_limit = {.rules = UINT32_MAX};
	const struct bn_ident_diff *d;
	struct bn_compiler *c;
	int r;

	r = bn_idents_new(&ids);
	r = r ?: bn_compiler_new(ids, &no_limit, NULL, &c);
	if (r < 0)
		return r;
	r = bn_tracer_borrow(store, ids, c, &t);
	if (r < 0) {
		bn_compiler_freep(&c);
		return r;
	}
	t->own_ids = TAKE_PTR(ids);
	t->own_c = c;
	for (size_t k = 0; k < ARRAY_SIZE(kinds) && !r; k++)
		r = bn_store_each(store, kinds[k], load_obj, t);
	r = r ?: bn_idents_update(t->ids, &d);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

void bn_tracer_freep(struct bn_tracer **tp)
{
	struct bn_tracer *t = *tp;

	if (!t)
		return;
	*tp = NULL;
	let_go(t);
	bn_vec_done(&t->held);
	bn_trace_svc_close(t);
	bn_compiler_freep(&t->own_c);
	bn_idents_freep(&t->own_ids);
	free(t);
}

void bn_tracer_audit(struct bn_tracer *t, bool audit)
{
	t->audit = audit;
}

void bn_tracer_verify(struct bn_tracer *t, const struct bn_verify_ops *ops)
{
	t->verify = ops;
}

int bn_trace(const struct bn_store *store, const struct bn_trace_query *q, json_t **ret)
{
	_cleanup_(bn_tracer_freep) struct bn_tracer *t = NULL;
	int r;

	r = bn_tracer_new(store, &t);
	return r ?: bn_tracer_run(t, q, ret);
}
