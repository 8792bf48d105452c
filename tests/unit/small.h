/* SPDX-License-Identifier: MIT */
#ifndef BN_TESTS_SMALL_H
#define BN_TESTS_SMALL_H

/* A small cluster that is told in YAML, with a tracer on it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/lint.h"
#include "policy/trace.h"
#include "policy/yaml.h"
#include "tests/unit/cluster.h"

/* A row names what matters; the rest is 0. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

/* shop: web, api, db (named port differs), old (finished), net (host network), dual (both
 * families). ops: mon. Nodes n1 (web, api, net), n2 (db, mon, dual).
 */
static const char base[] =
	"{kind: Namespace, apiVersion: v1, metadata: {name: shop, labels: {team: a}}}\n---\n"
	"{kind: Namespace, apiVersion: v1, metadata: {name: ops, labels: {team: b, env: "
	"prod}}}\n---\n"
	"{kind: Node, apiVersion: v1, metadata: {name: n1}, status: {addresses: [{type: "
	"InternalIP, "
	"address: 192.0.2.1}, {type: InternalIP, address: '2001:db8::1'}]}}\n---\n"
	"{kind: Node, apiVersion: v1, metadata: {name: n2}, status: {addresses: [{type: "
	"InternalIP, "
	"address: 192.0.2.2}, {type: InternalIP, address: '2001:db8::2'}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: web, namespace: shop, labels: {app: web}}, "
	"spec: "
	"{nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}, "
	"status: "
	"{phase: Running, podIPs: [{ip: 10.0.0.1}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: api, namespace: shop, labels: {app: api, "
	"tier: "
	"back}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: "
	"8080}, "
	"{name: dns, containerPort: 53, protocol: UDP}]}]}, status: {phase: Running, podIPs: [{ip: "
	"10.0.0.2}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: db, namespace: shop, labels: {app: db, tier: "
	"back}}, "
	"spec: {nodeName: n2, containers: [{name: c, ports: [{name: http, containerPort: "
	"9090}]}]}, "
	"status: {phase: Running, podIPs: [{ip: 10.0.1.3}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: old, namespace: shop, labels: {app: web}}, "
	"spec: "
	"{nodeName: n1, containers: [{name: c}]}, status: {phase: Succeeded, podIPs: [{ip: "
	"10.0.0.9}]}}\n"
	"---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: net, namespace: shop, labels: {app: web}}, "
	"spec: "
	"{nodeName: n1, hostNetwork: true, containers: [{name: c}]}, status: {phase: Running, "
	"podIPs: [{ip: "
	"192.0.2.1}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: dual, namespace: shop, labels: {app: dual}}, "
	"spec: "
	"{nodeName: n2, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: "
	"10.0.1.5}, {ip: "
	"'fd00::5'}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: six, namespace: shop, labels: {app: six}}, "
	"spec: "
	"{nodeName: n1, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: "
	"'fd00::6'}]}}\n---"
	"\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: mon, namespace: ops, labels: {app: web}}, "
	"spec: "
	"{nodeName: n2, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: "
	"10.0.1.4}]}}\n";

/* A policy of shop: its name, its spec. */
#define POLICY(name, spec)                                                                         \
	"---\n{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {name: " name      \
	", namespace: shop}, spec: {" spec "}}\n"

static _unused_ int collect(json_t *node, unsigned line _unused_, bool item, void *data)
{
	if (!item)
		json_array_append(data, node);
	return 0;
}

static _unused_ void parse(const char *text, json_t *out)
{
	struct bn_yaml_err err = {};
	int r = bn_yaml_parse(text, strlen(text), collect, out, &err);

	if (r < 0)
		print_error("%s\n", text);
	assert_int_equal(r, 0);
}

struct small {
	json_t *cluster;
	struct bn_store *store;
	struct bn_tracer *t;
};

static _unused_ void small_open(struct small *s, const char *policies)
{
	s->cluster = json_array();
	parse(base, s->cluster);
	if (*policies)
		parse(policies, s->cluster);
	assert_int_equal(bn_store_new(&s->store), 0);
	cluster_load(s->store, s->cluster);
	assert_int_equal(bn_tracer_new(s->store, &s->t), 0);
}

static _unused_ void small_close(struct small *s)
{
	bn_tracer_freep(&s->t);
	bn_store_freep(&s->store);
	json_decref(s->cluster);
}

static _unused_ json_t *ask(struct small *s, const char *line, int *r)
{
	struct bn_trace_query q;
	char copy[256], err[256];
	json_t *answer = NULL;

	snprintf(copy, sizeof(copy), "%s", line);
	assert_int_equal(bn_trace_parse_line(copy, &q, err, sizeof(err)), 0);
	*r = bn_tracer_run(s->t, &q, &answer);
	bn_trace_query_done(&q);
	assert_non_null(answer);
	return answer;
}

#endif
