// SPDX-License-Identifier: MIT
/* Requests: which HTTP rule allows one, or what the nearest would have wanted. The rules are compiled and run
 * as the kernel runs them.
 */
#include <string.h>

#include "maps/util.h"
#include "policy/http.h"
#include "policy/trace_priv.h"

static json_t *match_json(const struct bn_rule_ref *ref, uint32_t match)
{
	json_t *j = bn_trace_rule_json(ref->policy, ref->dir, ref->index);

	json_object_set_new(j, "match", json_integer(match));
	return j;
}

static void say(json_t *j, const struct bn_rule_ref *refs, const struct bn_http_verdict *v)
{
	json_t *near;

	if (v->allow) {
		json_object_set_new(j, "rule", match_json(&refs[v->rule], v->match));
		json_object_set_new(j, "reason", json_sprintf("http[%u] of the rule allows the request", v->match));
		return;
	}
	json_object_set_new(j, "rule", json_null());
	json_object_set_new(j, "reason", json_string(bn_http_reason_text(v->reason)));
	if (!v->nearest)
		return;
	near = match_json(&refs[v->rule], v->match);
	json_object_set_new(near, "failed", json_sprintf("http[%u].%s", v->match, v->field));
	json_object_set_new(near, "reason", json_sprintf("http[%u].%s does not match", v->match, v->field));
	json_object_set_new(j, "nearest", near);
}

static struct bn_http_request request_of(const struct bn_trace_query *q)
{
	return (struct bn_http_request){ .method = q->http_method, .target = q->http_target ?: "/",
					 .host = q->http_host, .nheaders = q->nheaders, .headers = q->headers };
}

/* Rules of the cell; their number, negative when memory is out. */
static int rules_of(struct bn_tracer *t, const struct bn_cell *cell, struct bn_rule_ref **refs,
		    const struct bn_rule ***rules)
{
	const uint32_t *ids;
	size_t n = bn_compiler_http_rules(t->c, cell->http, &ids);
	int count = 0;

	*refs = calloc(n + 1, sizeof(**refs));
	*rules = calloc(n + 1, sizeof(**rules));
	if (!*refs || !*rules)
		return -ENOMEM;
	for (size_t k = 0; k < n; k++) {
		if (bn_compiler_rule(t->c, ids[k], &(*refs)[count]) < 0)
			continue;
		(*rules)[count] = (*refs)[count].rule;
		count++;
	}
	return count;
}

int bn_trace_check(const struct bn_trace_query *q, json_t **err)
{
	const char *const words[] = { q->http_method, q->http_target, q->http_host };

	if (!q->from || !q->to || !*q->from || !*q->to)
		return bn_trace_fail(err, -EINVAL, "from and to are needed");
	if (bn_proto_index(q->proto) && !q->port)
		return bn_trace_fail(err, -EINVAL, "a port from 1 to 65535 is needed");
	if (q->http_method && q->proto != BN_PROTO_TCP)
		return bn_trace_fail(err, -EINVAL, "an HTTP request goes by TCP");
	for (size_t k = 0; k < ARRAY_SIZE(words); k++)
		if (words[k] && strpbrk(words[k], "\r\n"))
			return bn_trace_fail(err, -EINVAL, "a line break in the request's %s",
					     k == 0 ? "method" : k == 1 ? "target" : "host");
	for (size_t k = 0; k < q->nheaders; k++)
		if (!strchr(q->headers[k], ':') || strpbrk(q->headers[k], "\r\n"))
			return bn_trace_fail(err, -EINVAL, "header '%.64s' is not 'Name: value'", q->headers[k]);
	return 0;
}

int bn_trace_http_verify(struct bn_tracer *t, const struct bn_cell *cell, const struct bn_flow *f, char *reason,
			 size_t len)
{
	_cleanup_(freep) const struct bn_rule **rules = NULL;
	_cleanup_(freep) struct bn_rule_ref *refs = NULL;
	struct bn_http_request q = request_of(f->q);
	int n = rules_of(t, cell, &refs, &rules);

	if (n < 0)
		return n;
	return t->verify->request ? t->verify->request(t->verify->data, rules, (size_t)n, &q, reason, len) : -EOPNOTSUPP;
}

int bn_trace_http(struct bn_tracer *t, const struct bn_cell *cell, const struct bn_flow *f, bool *allow,
		  json_t *j)
{
	_cleanup_(freep) const struct bn_rule **rules = NULL;
	_cleanup_(freep) struct bn_rule_ref *refs = NULL;
	struct bn_http_request q = request_of(f->q);
	struct bn_http_verdict v = {};
	json_t *list = json_array();
	int n, r;

	*allow = false;
	json_object_set_new(j, "http", json_pack("{s:o,s:s}", "rules", list, "note",
						 "requests are judged one by one"));
	n = rules_of(t, cell, &refs, &rules);
	if (n < 0)
		return n;
	for (int k = 0; k < n; k++)
		json_array_append_new(list, bn_trace_rule_json(refs[k].policy, refs[k].dir, refs[k].index));
	if (!f->q->http_method) {
		*allow = true;
		return json_object_set_new(j, "reason",
					   json_string("the connection is let in, each request on it is judged by HTTP "
						       "rules: ask with --http"));
	}
	r = bn_http_judge(rules, (size_t)n, &q, &v);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return json_object_set_new(j, "reason", json_string("the HTTP rules are too complex, or a regular "
								    "expression is bad: denied"));
	*allow = v.allow;
	say(j, refs, &v);
	return 0;
}

int bn_trace_moot(const struct bn_tracer *t, const struct bn_matrix_view *v, const struct bn_flow *f, enum bn_dir dir,
		  json_t *j)
{
	for (uint32_t k = 0; k < v->npolicies; k++) {
		const struct bn_netpol *np = v->policies[k];
		const struct bn_rule *rules = dir == BN_EGRESS ? np->out : np->in;
		uint32_t n = dir == BN_EGRESS ? np->negress : np->ningress;

		for (uint32_t i = 0; i < n && !np->o.refused; i++) {
			if (!rules[i].has_http || !bn_explain_rule(f, dir, np, &rules[i], t->store))
				continue;
			json_object_set_new(j, "moot", bn_trace_rule_json(np, dir, i));
			return json_object_set_new(
				j, "reason", json_sprintf("this rule allows every request: the HTTP rules of %s/%s %s[%u] "
							  "restrict nothing here", np->o.ns, np->o.name,
							  dir == BN_EGRESS ? "egress" : "ingress", i));
		}
	}
	return 0;
}

const char *bn_trace_http_note(const struct bn_trace_query *q, const json_t *eg, const json_t *in)
{
	if (json_object_get(eg, "moot") || json_object_get(in, "moot"))
		return "; a rule without http allows every request, so HTTP rules for it restrict nothing";
	if (!q->http_method && (json_object_get(eg, "http") || json_object_get(in, "http")))
		return "; requests are judged one by one: ask with --http";
	return "";
}
