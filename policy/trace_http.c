// SPDX-License-Identifier: MIT
/* Requests: which HTTP rule allows one, or what the nearest would have wanted. The rules are compiled and run
 * as the kernel side will run them.
 */
#include "maps/util.h"
#include "policy/http.h"
#include "policy/trace_priv.h"

#define NOTE "; requests are not enforced by this version: the kernel refuses the port"

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
		json_object_set_new(j, "reason", json_sprintf("http[%u] of the rule allows the request" NOTE, v->match));
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

static int judge(const struct bn_trace_query *q, const struct bn_rule_ref *refs, size_t n,
		 struct bn_http_verdict *v)
{
	_cleanup_(freep) const struct bn_rule **rules = calloc(n + 1, sizeof(*rules));
	struct bn_http_request request = { .method = q->http_method, .target = q->http_target ?: "/",
					   .host = q->http_host, .nheaders = q->nheaders, .headers = q->headers };

	if (!rules)
		return -ENOMEM;
	for (size_t k = 0; k < n; k++)
		rules[k] = refs[k].rule;
	return bn_http_judge(rules, n, &request, v);
}

int bn_trace_http(struct bn_tracer *t, const struct bn_cell *cell, const struct bn_flow *f, bool *allow,
		  json_t *j)
{
	_cleanup_(freep) struct bn_rule_ref *refs = NULL;
	struct bn_http_verdict v = {};
	const uint32_t *ids;
	size_t n = bn_compiler_http_rules(t->c, cell->http, &ids), count = 0;
	json_t *list = json_array();
	int r;

	*allow = false;
	json_object_set_new(j, "http", json_pack("{s:o,s:s}", "rules", list, "note",
						 "requests are judged one by one"));
	refs = calloc(n + 1, sizeof(*refs));
	if (!refs)
		return -ENOMEM;
	for (size_t k = 0; k < n; k++) {
		if (bn_compiler_rule(t->c, ids[k], &refs[count]) < 0)
			continue;
		json_array_append_new(list, bn_trace_rule_json(refs[count].policy, refs[count].dir,
							       refs[count].index));
		count++;
	}
	if (!f->q->http_method)
		return json_object_set_new(j, "reason",
					   json_string("only HTTP rules match, which this version does not "
						       "enforce: denied"));
	r = judge(f->q, refs, count, &v);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return json_object_set_new(j, "reason", json_string("the HTTP rules are too complex, or a regular "
								    "expression is bad: denied"));
	*allow = v.allow;
	say(j, refs, &v);
	return 0;
}

const char *bn_trace_http_note(const struct bn_trace_query *q, const json_t *eg, const json_t *in)
{
	return q->http_method && (json_object_get(eg, "http") || json_object_get(in, "http"))
		       ? NOTE
		       : "";
}
