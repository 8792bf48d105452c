// SPDX-License-Identifier: MIT
/* The facts of NetworkPolicy (SEMANTICS 13 to 22), one by one, by their numbers: a small cluster, the
 * policies of a fact, and what is allowed then. Each row is also put to the plain reading of the API.
 */
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
#include "tests/unit/oracle.h"

/* A row names what matters; the rest is 0. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

/* shop: web, api, db (named port differs), old (finished), net (host network), dual (both families).
 * ops: mon. Nodes n1 (web, api, net), n2 (db, mon, dual).
 */
static const char base[] =
	"{kind: Namespace, apiVersion: v1, metadata: {name: shop, labels: {team: a}}}\n---\n"
	"{kind: Namespace, apiVersion: v1, metadata: {name: ops, labels: {team: b, env: prod}}}\n---\n"
	"{kind: Node, apiVersion: v1, metadata: {name: n1}, status: {addresses: [{type: InternalIP, "
	"address: 192.0.2.1}, {type: InternalIP, address: '2001:db8::1'}]}}\n---\n"
	"{kind: Node, apiVersion: v1, metadata: {name: n2}, status: {addresses: [{type: InternalIP, "
	"address: 192.0.2.2}, {type: InternalIP, address: '2001:db8::2'}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: web, namespace: shop, labels: {app: web}}, spec: "
	"{nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}, status: "
	"{phase: Running, podIPs: [{ip: 10.0.0.1}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: api, namespace: shop, labels: {app: api, tier: "
	"back}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 8080}, "
	"{name: dns, containerPort: 53, protocol: UDP}]}]}, status: {phase: Running, podIPs: [{ip: "
	"10.0.0.2}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: db, namespace: shop, labels: {app: db, tier: back}}, "
	"spec: {nodeName: n2, containers: [{name: c, ports: [{name: http, containerPort: 9090}]}]}, "
	"status: {phase: Running, podIPs: [{ip: 10.0.1.3}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: old, namespace: shop, labels: {app: web}}, spec: "
	"{nodeName: n1, containers: [{name: c}]}, status: {phase: Succeeded, podIPs: [{ip: 10.0.0.9}]}}\n"
	"---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: net, namespace: shop, labels: {app: web}}, spec: "
	"{nodeName: n1, hostNetwork: true, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: "
	"192.0.2.1}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: dual, namespace: shop, labels: {app: dual}}, spec: "
	"{nodeName: n2, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: 10.0.1.5}, {ip: "
	"'fd00::5'}]}}\n---\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: six, namespace: shop, labels: {app: six}}, spec: "
	"{nodeName: n1, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: 'fd00::6'}]}}\n---"
	"\n"
	"{kind: Pod, apiVersion: v1, metadata: {name: mon, namespace: ops, labels: {app: web}}, spec: "
	"{nodeName: n2, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: 10.0.1.4}]}}\n";

/* A policy of shop: its name, its spec. */
#define POLICY(name, spec)                                                                         \
	"---\n{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {name: " name        \
	", namespace: shop}, spec: {" spec "}}\n"

struct ask {
	const char *line; /* from to proto port */
	int allow;	  /* -1: no answer, an error */
	bool no_oracle;	  /* the oracle does not know of it */
};

struct fact {
	const char *name, *policies;
	struct ask ask[14];
};

static const struct fact facts[] = {
	{ "13 nothing selects: all is allowed", "",
	  { { "shop/web shop/api TCP 1", 1 }, { "8.8.8.8 shop/web UDP 7", 1 },
	    { "shop/web 8.8.8.8 SCTP 9", 1 } } },
	{ "13 isolation is per direction", POLICY("p", "podSelector: {matchLabels: {app: api}}, policyTypes: "
						       "[Ingress]"),
	  { { "shop/web shop/api TCP 80", 0 }, { "shop/api shop/web TCP 80", 1 },
	    { "shop/db shop/web TCP 80", 1 } } },
	{ "13 egress of the source and ingress of the destination both have to allow",
	  POLICY("in", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {}}]}]")
		  POLICY("out", "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: "
				"[{to: [{podSelector: {matchLabels: {app: db}}}]}]"),
	  { { "shop/web shop/api TCP 80", 0 }, { "shop/db shop/api TCP 80", 1 },
	    { "shop/web shop/db TCP 80", 1 } } },
	{ "13 policies add up",
	  POLICY("none", "podSelector: {}") POLICY("some", "podSelector: {matchLabels: {app: api}}, "
							   "ingress: [{ports: [{port: 80}]}]"),
	  { { "shop/web shop/api TCP 80", 1 }, { "shop/web shop/api TCP 81", 0 },
	    { "shop/web shop/db TCP 80", 0 } } },
	{ "14 policyTypes unset: ingress always, egress only with a rule",
	  POLICY("p", "podSelector: {matchLabels: {app: web}}, egress: []"),
	  { { "shop/web shop/api TCP 80", 1 }, { "shop/api shop/web TCP 80", 0 } } },
	{ "14 policyTypes unset with an egress rule",
	  POLICY("p", "podSelector: {matchLabels: {app: web}}, egress: [{ports: [{port: 80}]}]"),
	  { { "shop/web shop/api TCP 80", 1 }, { "shop/web shop/api TCP 81", 0 },
	    { "shop/api shop/web TCP 80", 0 } } },
	{ "14 policyTypes Egress only",
	  POLICY("p", "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]"),
	  { { "shop/web shop/api TCP 80", 0 }, { "shop/api shop/web TCP 80", 1 } } },
	{ "15 an empty podSelector is all pods of the namespace", POLICY("p", "podSelector: {}"),
	  { { "shop/web shop/api TCP 80", 0 }, { "shop/web ops/mon TCP 80", 1 } } },
	{ "15 a peer with podSelector only: own namespace",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "
		      "{matchLabels: {app: web}}}]}]"),
	  { { "shop/web shop/api TCP 80", 1 }, { "ops/mon shop/api TCP 80", 0 } } },
	{ "15 a peer with namespaceSelector only: all pods of those namespaces",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: "
		      "{matchLabels: {team: b}}}]}]"),
	  { { "ops/mon shop/api TCP 80", 1 }, { "shop/web shop/api TCP 80", 0 } } },
	{ "15 both selectors in one peer: AND",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: "
		      "{matchLabels: {team: b}}, podSelector: {matchLabels: {app: db}}}]}]"),
	  { { "ops/mon shop/api TCP 80", 0 }, { "shop/db shop/api TCP 80", 0 } } },
	{ "15 two peers: OR",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: "
		      "{matchLabels: {team: b}}}, {podSelector: {matchLabels: {app: db}}}]}]"),
	  { { "ops/mon shop/api TCP 80", 1 }, { "shop/db shop/api TCP 80", 1 },
	    { "shop/web shop/api TCP 80", 0 } } },
	{ "15 empty selectors that are there match all, a null one is not there",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: {}}]}]")
		  POLICY("q", "podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {}, "
			      "namespaceSelector: null}]}]"),
	  { { "ops/mon shop/api TCP 80", 1 }, { "8.8.8.8 shop/api TCP 80", 0 },
	    { "ops/mon shop/db TCP 80", 0 }, { "shop/web shop/db TCP 80", 1 } } },
	{ "15 from missing or empty: everybody",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [], ports: [{port: 80}]}]"),
	  { { "8.8.8.8 shop/api TCP 80", 1 }, { "ops/mon shop/api TCP 80", 1 },
	    { "ops/mon shop/api TCP 81", 0 } } },
	{ "15 ports missing or empty: all ports and protocols",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {}}], ports: "
		      "[]}]"),
	  { { "shop/web shop/api UDP 9", 1 }, { "shop/web shop/api SCTP 9", 1 },
	    { "shop/web shop/api ICMP 0", 1 }, { "ops/mon shop/api ICMP 0", 0 } } },
	{ "15 one empty rule allows all", POLICY("p", "podSelector: {}, ingress: [{}]"),
	  { { "8.8.8.8 shop/api TCP 80", 1 }, { "ops/mon shop/web ICMP 0", 1 } } },
	{ "15 matchExpressions: In, NotIn, Exists, DoesNotExist; a missing label is NotIn",
	  POLICY("p", "podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: "
		      "{matchExpressions: [{key: tier, operator: NotIn, values: [back]}]}}], ports: [{port: "
		      "1}]}, {from: [{podSelector: {matchExpressions: [{key: tier, operator: Exists}]}}], "
		      "ports: [{port: 2}]}, {from: [{podSelector: {matchExpressions: [{key: tier, operator: "
		      "DoesNotExist}]}}], ports: [{port: 3}]}, {from: [{podSelector: {matchExpressions: "
		      "[{key: app, operator: In, values: [api, web]}]}}], ports: [{port: 4}]}]"),
	  { { "shop/web shop/db TCP 1", 1 }, { "shop/api shop/db TCP 1", 0 },
	    { "shop/api shop/db TCP 2", 1 }, { "shop/web shop/db TCP 2", 0 },
	    { "shop/web shop/db TCP 3", 1 }, { "shop/api shop/db TCP 3", 0 },
	    { "shop/api shop/db TCP 4", 1 }, { "shop/dual shop/db TCP 4", 0 } } },
	{ "16 protocol defaults to TCP; a port is of its protocol",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 53}, {port: 54, "
		      "protocol: UDP}, {port: 55, protocol: SCTP}]}]"),
	  { { "shop/web shop/api TCP 53", 1 }, { "shop/web shop/api UDP 53", 0 },
	    { "shop/web shop/api UDP 54", 1 }, { "shop/web shop/api TCP 54", 0 },
	    { "shop/web shop/api SCTP 55", 1 }, { "shop/web shop/api ICMP 0", 0 } } },
	{ "16 a missing port is all ports of the protocol",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{protocol: UDP}]}]"),
	  { { "shop/web shop/api UDP 1", 1 }, { "shop/web shop/api UDP 65535", 1 },
	    { "shop/web shop/api TCP 1", 0 }, { "shop/web shop/api SCTP 1", 0 } } },
	{ "16 endPort is inclusive",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 80, endPort: 90}, "
		      "{port: 65000, endPort: 65535}]}]"),
	  { { "shop/web shop/api TCP 79", 0 }, { "shop/web shop/api TCP 80", 1 },
	    { "shop/web shop/api TCP 90", 1 }, { "shop/web shop/api TCP 91", 0 },
	    { "shop/web shop/api TCP 65535", 1 }, { "shop/web shop/api UDP 80", 0 } } },
	{ "16 a named port in ingress is that of the selected pod",
	  POLICY("p", "podSelector: {}, ingress: [{ports: [{port: http}]}]"),
	  { { "ops/mon shop/web TCP 80", 1 }, { "ops/mon shop/web TCP 8080", 0 },
	    { "ops/mon shop/api TCP 8080", 1 }, { "ops/mon shop/db TCP 9090", 1 },
	    { "ops/mon shop/dual TCP 80", 0 } } },
	{ "16 a named port in egress is that of each destination pod",
	  POLICY("p", "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: "
		      "[{podSelector: {}}], ports: [{port: http}]}]"),
	  { { "shop/web shop/api TCP 8080", 1 }, { "shop/web shop/api TCP 9090", 0 },
	    { "shop/web shop/db TCP 9090", 1 }, { "shop/web shop/dual TCP 80", 0 },
	    { "shop/web 8.8.8.8 TCP 8080", 0 } } },
	{ "16 a named port without peers: any pod that has it",
	  POLICY("p", "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: "
		      "[{port: http}]}]"),
	  { { "shop/web shop/api TCP 8080", 1 }, { "shop/web shop/db TCP 9090", 1 },
	    { "shop/web shop/db TCP 8080", 0 }, { "shop/web 8.8.8.8 TCP 8080", 0 } } },
	{ "16 the protocol of a named port has to match",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: dns}]}]")
		  POLICY("q", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: dns, "
			      "protocol: UDP}]}]"),
	  { { "shop/web shop/api TCP 53", 0 }, { "shop/web shop/api UDP 53", 1 } } },
	{ "16 a named port in egress matches nothing in an ipBlock",
	  POLICY("p", "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: "
		      "[{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: http}, {port: 443}]}]"),
	  { { "shop/web shop/api TCP 8080", 0 }, { "shop/web shop/api TCP 443", 1 } } },
	{ "17 ipBlock without its excepts",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{ipBlock: {cidr: "
		      "203.0.113.0/24, except: [203.0.113.128/25]}}]}]"),
	  { { "203.0.113.1 shop/api TCP 80", 1 }, { "203.0.113.129 shop/api TCP 80", 0 },
	    { "203.0.112.1 shop/api TCP 80", 0 } } },
	{ "17 an except of one rule is no denial of another",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{ipBlock: {cidr: "
		      "203.0.113.0/24, except: [203.0.113.128/25]}}, {ipBlock: {cidr: "
		      "203.0.113.192/26}}]}]"),
	  { { "203.0.113.129 shop/api TCP 80", 0 }, { "203.0.113.200 shop/api TCP 80", 1 } } },
	{ "17 blocks match pods and nodes literally",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{ipBlock: {cidr: "
		      "10.0.1.0/24}}, {ipBlock: {cidr: 192.0.2.2/32}}]}]"),
	  { { "shop/db shop/api TCP 80", 1 }, { "ops/mon shop/api TCP 80", 1 },
	    { "shop/web shop/api TCP 80", 0 }, { "192.0.2.2 shop/api TCP 80", 1 },
	    { "192.0.2.3 shop/api TCP 80", 0 } } },
	{ "17 0.0.0.0/0 is IPv4, ::/0 is IPv6",
	  POLICY("p", "podSelector: {matchLabels: {app: dual}}, ingress: [{from: [{ipBlock: {cidr: "
		      "0.0.0.0/0}}], ports: [{port: 4}]}, {from: [{ipBlock: {cidr: '::/0'}}], ports: [{port: "
		      "6}]}]"),
	  { { "8.8.8.8 10.0.1.5 TCP 4", 1 }, { "8.8.8.8 10.0.1.5 TCP 6", 0 },
	    { "2001:db8:9::9 fd00::5 TCP 6", 1 }, { "2001:db8:9::9 fd00::5 TCP 4", 0 },
	    { "shop/web shop/dual TCP 4", 1 }, { "shop/web shop/dual TCP 6", 0 } } },
	{ "18 the local node always reaches its pods, other nodes follow the rules",
	  POLICY("p", "podSelector: {}"),
	  { { "192.0.2.1 shop/web TCP 80", 1 }, { "192.0.2.2 shop/web TCP 80", 0 },
	    { "192.0.2.2 shop/db TCP 80", 1 }, { "192.0.2.1 shop/db TCP 80", 0 } } },
	{ "18 host-network pods are their node: no selector sees them",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "
		      "{matchLabels: {app: web}}}]}]")
		  POLICY("q", "podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress]"),
	  { { "shop/net shop/db TCP 80", 1 }, { "shop/db shop/net TCP 80", 1 },
	    { "shop/net shop/api TCP 80", 1 }, { "shop/web shop/net TCP 80", 0 } } },
	{ "19 finished pods have no address",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "
		      "{matchLabels: {app: web}}}]}]"),
	  { { "10.0.0.9 shop/api TCP 80", 0 }, { "shop/old shop/api TCP 80", -1 },
	    { "10.0.0.1 shop/api TCP 80", 1 } } },
	{ "19 a pod has all its addresses",
	  POLICY("p", "podSelector: {matchLabels: {app: six}}, ingress: [{from: [{podSelector: "
		      "{matchLabels: {app: dual}}}]}]"),
	  { { "fd00::5 fd00::6 TCP 80", 1 }, { "fd00::7 fd00::6 TCP 80", 0 },
	    { "shop/dual shop/six TCP 80", 1, true } } },
	{ "21 a pod reaches itself", POLICY("p", "podSelector: {}, policyTypes: [Ingress, Egress]"),
	  { { "shop/web shop/web TCP 80", 1 }, { "shop/web 10.0.0.1 UDP 9", 1 },
	    { "shop/web shop/api TCP 80", 0 } } },
	{ "22 protocols without ports: only rules without ports",
	  POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "
		      "{matchLabels: {app: web}}}]}, {from: [{podSelector: {matchLabels: {app: db}}}], ports: "
		      "[{protocol: TCP}, {protocol: UDP}, {protocol: SCTP}]}]"),
	  { { "shop/web shop/api ICMP 0", 1 }, { "shop/db shop/api ICMP 0", 0 },
	    { "shop/db shop/api SCTP 1", 1 } } },
	{ "an unknown name is an error", "",
	  { { "shop/nobody shop/web TCP 80", -1 }, { "shop/web ops/web TCP 80", -1 } } },
};

static int collect(json_t *node, unsigned line _unused_, bool item, void *data)
{
	if (!item)
		json_array_append(data, node);
	return 0;
}

static void parse(const char *text, json_t *out)
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

static void small_open(struct small *s, const char *policies)
{
	s->cluster = json_array();
	parse(base, s->cluster);
	if (*policies)
		parse(policies, s->cluster);
	assert_int_equal(bn_store_new(&s->store), 0);
	cluster_load(s->store, s->cluster);
	assert_int_equal(bn_tracer_new(s->store, &s->t), 0);
}

static void small_close(struct small *s)
{
	bn_tracer_freep(&s->t);
	bn_store_freep(&s->store);
	json_decref(s->cluster);
}

static json_t *ask(struct small *s, const char *line, int *r)
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

static void check_fact(const struct fact *f)
{
	struct small s;

	small_open(&s, f->policies);
	for (const struct ask *a = f->ask; a->line; a++) {
		char from[64], to[64], proto[16];
		int port, r;
		json_t *answer = ask(&s, a->line, &r);
		int got = r < 0 ? -1 : !r;

		if (got != a->allow)
			print_error("%s: %s: %s\n", f->name, a->line, json_dumps(answer, JSON_INDENT(1)));
		assert_int_equal(got, a->allow);
		json_decref(answer);
		assert_int_equal(sscanf(a->line, "%63s %63s %15s %d", from, to, proto, &port), 4);
		if (!a->no_oracle)
			assert_int_equal(oracle_allows(s.cluster, from, to, proto, port), a->allow);
	}
	small_close(&s);
}

static void all_facts(void **state _unused_)
{
	for (size_t k = 0; k < ARRAY_SIZE(facts); k++)
		check_fact(&facts[k]);
}

/* --- the answers' words ------------------------------------------------------------------------------ */

static const char *at(json_t *j, const char *a, const char *b)
{
	return json_string_value(json_object_get(json_object_get(j, a), b)) ?: "";
}

static void words(void **state _unused_)
{
	struct small s;
	json_t *j, *near;
	int r;

	small_open(&s, POLICY("first", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "
				       "{matchLabels: {app: web}}}], ports: [{port: 80}]}, {from: "
				       "[{namespaceSelector: {matchLabels: {env: dev}}}]}, {from: [{ipBlock: "
				       "{cidr: 203.0.113.0/24, except: [203.0.113.7/32]}}]}]"));
	j = ask(&s, "shop/web shop/api TCP 80", &r);
	assert_int_equal(r, 0);
	assert_string_equal(json_string_value(json_object_get(j, "verdict")), "allow");
	near = json_object_get(json_object_get(j, "ingress"), "rule");
	assert_string_equal(json_string_value(json_object_get(near, "name")), "first");
	assert_string_equal(json_string_value(json_object_get(near, "namespace")), "shop");
	assert_string_equal(json_string_value(json_object_get(near, "direction")), "ingress");
	assert_int_equal(json_integer_value(json_object_get(near, "index")), 0);
	json_decref(j);

	j = ask(&s, "shop/web shop/api TCP 81", &r);
	assert_int_equal(r, 1);
	near = json_object_get(json_object_get(j, "ingress"), "nearest");
	assert_string_equal(json_string_value(json_object_get(near, "failed")), "port");
	assert_non_null(strstr(json_string_value(json_object_get(near, "reason")), "TCP 80"));
	assert_string_equal(at(j, "egress", "verdict"), "allow");
	assert_string_equal(at(j, "ingress", "verdict"), "deny");
	json_decref(j);

	j = ask(&s, "shop/db shop/api TCP 80", &r);
	near = json_object_get(json_object_get(j, "ingress"), "nearest");
	assert_string_equal(json_string_value(json_object_get(near, "failed")), "peer");
	assert_non_null(strstr(json_string_value(json_object_get(near, "reason")), "app=db"));
	json_decref(j);

	j = ask(&s, "ops/mon shop/api TCP 80", &r); /* labels match, the namespace does not */
	near = json_object_get(json_object_get(j, "ingress"), "nearest");
	assert_non_null(strstr(json_string_value(json_object_get(near, "reason")), "namespace"));
	json_decref(j);

	j = ask(&s, "203.0.113.7 shop/api TCP 80", &r);
	near = json_object_get(json_object_get(j, "ingress"), "nearest");
	assert_non_null(strstr(json_string_value(json_object_get(near, "reason")), "except 203.0.113.7/32"));
	json_decref(j);

	j = ask(&s, "shop/nobody shop/api TCP 80", &r);
	assert_int_equal(r, -ENOENT);
	assert_non_null(strstr(json_string_value(json_object_get(j, "error")), "shop/nobody"));
	json_decref(j);
	small_close(&s);
}

static void batch(void **state _unused_)
{
	const char in[] = "# a comment\n\nshop/web shop/api tcp 80\nshop/web shop/api tcp\n"
				 "shop/x shop/api udp 53\nshop/web shop/api tcp 99999\n"
				 "shop/web shop/api tcp 80 GET \"/a b\" host=h header=\"K: V\"\n";
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len), *f = fmemopen((void *)in, strlen(in), "r");
	unsigned lines = 0, errors = 0;
	struct small s;

	small_open(&s, "");
	assert_int_equal(bn_tracer_batch(s.t, f, out), 0);
	fclose(out);
	fclose(f);
	for (char *save, *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		json_t *j = json_loads(l, 0, NULL);

		assert_non_null(j);
		lines++;
		errors += json_object_get(j, "error") != NULL;
		json_decref(j);
	}
	assert_int_equal(lines, 5);
	assert_int_equal(errors, 3);
	free(text);
	small_close(&s);
}

/* --- services ------------------------------------------------------------------------------------------ */

#define SERVICE                                                                                    \
	"---\n{kind: Service, apiVersion: v1, metadata: {name: back, namespace: shop}, spec: {type: "    \
	"ClusterIP, clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7], ports: [{name: http, port: 80}]}}\n"   \
	"---\n{kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, metadata: {name: back-1, namespace: " \
	"shop, labels: {kubernetes.io/service-name: back}}, addressType: IPv4, endpoints: [{addresses: "  \
	"[10.0.0.2]}, {addresses: [10.0.1.3]}], ports: [{name: http, port: 8080}]}\n"

static void services(void **state _unused_)
{
	struct small s;
	json_t *j, *svc;
	int r;

	small_open(&s, SERVICE POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: "
					   "8080}]}]"));
	j = ask(&s, "shop/web shop/svc:back TCP 80", &r); /* the port behind the service is judged */
	assert_int_equal(r, 0);
	svc = json_object_get(j, "service");
	assert_string_equal(json_string_value(json_object_get(svc, "name")), "back");
	assert_int_equal(json_array_size(json_object_get(svc, "backends")), 2);
	json_decref(j);
	j = ask(&s, "shop/web 10.96.0.7 TCP 80", &r);
	assert_int_equal(r, 0);
	assert_int_equal(json_array_size(json_object_get(json_object_get(j, "service"), "backends")), 2);
	json_decref(j);
	j = ask(&s, "shop/web 10.96.0.7 TCP 81", &r);
	assert_int_equal(r, 1);
	json_decref(j);
	j = ask(&s, "shop/web shop/svc:none TCP 80", &r);
	assert_true(r < 0);
	json_decref(j);
	small_close(&s);

	small_open(&s, SERVICE POLICY("p", "podSelector: {matchLabels: {app: api}}"));
	j = ask(&s, "shop/web shop/svc:back TCP 80", &r); /* one of two is denied: not allowed as a whole */
	assert_int_equal(r, 1);
	assert_true(json_is_true(json_object_get(json_object_get(j, "service"), "partial")));
	assert_string_equal(at(j, "ingress", "verdict"), "deny");
	json_decref(j);
	small_close(&s);
}

/* --- lint, refused policies, limits -------------------------------------------------------------------- */

static bool found(json_t *list, const char *name, const char *rule, const char *what)
{
	json_t *j;
	size_t i;

	json_array_foreach(list, i, j)
		if (!strcmp(json_string_value(json_object_get(j, "name")), name) &&
		    !strcmp(json_string_value(json_object_get(j, "rule")), rule) &&
		    !strcmp(json_string_value(json_object_get(j, "finding")), what))
			return true;
	return false;
}

static int load(struct bn_obj *o, void *data)
{
	void **d = data;

	switch (o->kind) {
	case BN_KIND_POD:
		return bn_idents_pod(d[0], NULL, (struct bn_pod *)o);
	case BN_KIND_NAMESPACE:
		return bn_idents_namespace(d[0], NULL, (struct bn_namespace *)o);
	default:
		return bn_compiler_policy(d[1], NULL, (struct bn_netpol *)o);
	}
}

struct parts {
	struct small s;
	struct bn_idents *ids;
	struct bn_compiler *c;
};

static void parts_open(struct parts *p, const char *policies, const struct bn_compile_limits *lim)
{
	const struct bn_ident_diff *d;
	void *data[2];

	small_open(&p->s, policies);
	assert_int_equal(bn_idents_new(&p->ids), 0);
	assert_int_equal(bn_compiler_new(p->ids, lim, NULL, &p->c), 0);
	data[0] = p->ids;
	data[1] = p->c;
	assert_int_equal(bn_store_each(p->s.store, BN_KIND_NAMESPACE, load, data), 0);
	assert_int_equal(bn_store_each(p->s.store, BN_KIND_POD, load, data), 0);
	assert_int_equal(bn_store_each(p->s.store, BN_KIND_NETPOL, load, data), 0);
	assert_int_equal(bn_store_each(p->s.store, BN_KIND_HTTPNETPOL, load, data), 0);
	assert_int_equal(bn_idents_update(p->ids, &d), 0);
}

static void parts_close(struct parts *p)
{
	bn_compiler_freep(&p->c);
	bn_idents_freep(&p->ids);
	small_close(&p->s);
}

#define HTTP_POLICY                                                                                \
	"---\n{kind: HTTPNetworkPolicy, apiVersion: bpfnet.io/v1alpha1, metadata: {name: h, namespace: "  \
	"shop}, spec: {podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "          \
	"{matchLabels: {app: web}}}], ports: [{port: 8080}], http: [{method: GET}]}]}}\n"

static void lint(void **state _unused_)
{
	struct parts p;
	json_t *list;

	parts_open(&p,
		   POLICY("nobody", "podSelector: {matchLabels: {app: nothing}}")
			   POLICY("wide", "podSelector: {matchLabels: {app: api}}, ingress: [{from: "
					  "[{podSelector: {}}], ports: [{port: 8000, endPort: 9000}]}, {from: "
					  "[{podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}, "
					  "{port: 9000}]}, {ports: [{port: nix}]}]") HTTP_POLICY,
		   NULL);
	assert_int_equal(bn_policy_lint(p.ids, p.c, &list), 0);
	assert_true(found(list, "nobody", "", "no-pods"));
	assert_true(found(list, "wide", "ingress[1]", "shadowed"));
	assert_false(found(list, "wide", "ingress[0]", "shadowed"));
	assert_true(found(list, "wide", "ingress[2]", "named-port"));
	assert_true(found(list, "h", "ingress[0]", "http-moot"));
	json_decref(list);
	parts_close(&p);
}

static void http_cells(void **state _unused_)
{
	struct bn_matrix *m = NULL;
	const struct bn_pod *pod;
	struct bn_whois who;
	struct bn_addr web;
	struct bn_cell c;
	const uint32_t *rules;
	struct parts p;

	parts_open(&p, HTTP_POLICY, NULL);
	assert_int_equal(bn_addr_parse("10.0.0.1", &web), 0);
	bn_idents_whois(p.ids, &web, &who);
	pod = (struct bn_pod *)bn_store_get(p.s.store, BN_KIND_POD, "shop", "api");
	assert_int_equal(bn_compiler_get(p.c, pod, BN_INGRESS, &m), 0);
	c = bn_matrix_eval(m, who.identity, BN_PROTO_TCP, 8080);
	assert_int_equal(c.action, BN_ACT_HTTP);
	assert_int_equal(bn_compiler_http_rules(p.c, c.http, &rules), 1);
	assert_int_equal(rules[0], c.rule);
	assert_int_equal(bn_matrix_eval(m, who.identity, BN_PROTO_TCP, 80).action, BN_ACT_DENY);
	assert_int_equal(bn_matrix_eval(m, who.identity, BN_PROTO_UDP, 8080).action, BN_ACT_DENY);
	bn_matrix_unrefp(&m);
	parts_close(&p);

	/* A rule that looks at nothing wins for its peer and port. */
	parts_open(&p, HTTP_POLICY POLICY("l4", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: "
						"[{port: 8080}]}]"),
		   NULL);
	bn_idents_whois(p.ids, &web, &who);
	pod = (struct bn_pod *)bn_store_get(p.s.store, BN_KIND_POD, "shop", "api");
	assert_int_equal(bn_compiler_get(p.c, pod, BN_INGRESS, &m), 0);
	assert_int_equal(bn_matrix_eval(m, who.identity, BN_PROTO_TCP, 8080).action, BN_ACT_ALLOW);
	bn_matrix_unrefp(&m);
	parts_close(&p);
}

/* What cannot be read isolates what it selects, and allows nothing. */
static void refused(void **state _unused_)
{
	struct bn_matrix *m = NULL;
	const struct bn_pod *pod;
	struct bn_obj *o = NULL;
	struct bn_err err;
	struct parts p;
	json_t *list = json_array();

	parse("{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {name: bad, namespace: "
	      "shop}, spec: {podSelector: {matchLabels: {app: api}}, ingress: [{form: []}]}}", list);
	assert_int_equal(bn_object_parse(json_array_get(list, 0), &o, &err), -EINVAL);
	assert_non_null(o);
	json_decref(list);
	parts_open(&p, POLICY("all", "podSelector: {matchLabels: {app: db}}, ingress: [{}]"), NULL);
	assert_int_equal(bn_compiler_policy(p.c, NULL, (struct bn_netpol *)o), 0);
	pod = (struct bn_pod *)bn_store_get(p.s.store, BN_KIND_POD, "shop", "api");
	assert_int_equal(bn_compiler_get(p.c, pod, BN_INGRESS, &m), 0);
	assert_non_null(m);
	assert_int_equal(bn_matrix_eval(m, BN_ID_WORLD, BN_PROTO_TCP, 80).action, BN_ACT_DENY);
	bn_matrix_unrefp(&m);
	pod = (struct bn_pod *)bn_store_get(p.s.store, BN_KIND_POD, "shop", "db");
	assert_int_equal(bn_compiler_get(p.c, pod, BN_INGRESS, &m), 0);
	assert_int_equal(bn_matrix_eval(m, BN_ID_WORLD, BN_PROTO_TCP, 80).action, BN_ACT_ALLOW);
	bn_matrix_unrefp(&m);
	bn_obj_unref(o);
	parts_close(&p);
}

/* A policy beyond a limit is refused by name, the pod's other policies hold. */
static void limits(void **state _unused_)
{
	struct bn_compile_limits lim = { .classes = 4 };
	struct bn_matrix *m = NULL;
	const struct bn_pod *pod;
	struct parts p;

	parts_open(&p,
		   POLICY("big", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 1}]}, "
				 "{ports: [{port: 3}]}, {ports: [{port: 5}]}, {ports: [{port: 7}]}, {ports: "
				 "[{port: 9}]}]")
			   POLICY("small", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: "
					   "80}]}]"),
		   &lim);
	pod = (struct bn_pod *)bn_store_get(p.s.store, BN_KIND_POD, "shop", "api");
	assert_int_equal(bn_compiler_get(p.c, pod, BN_INGRESS, &m), 0);
	assert_int_equal(bn_matrix_eval(m, BN_ID_WORLD, BN_PROTO_TCP, 80).action, BN_ACT_ALLOW);
	assert_int_equal(bn_matrix_eval(m, BN_ID_WORLD, BN_PROTO_TCP, 3).action, BN_ACT_DENY);
	assert_int_equal(bn_compiler_refusals(p.c), 1);
	assert_non_null(strstr(bn_compiler_error(p.c), "shop/big"));
	bn_matrix_unrefp(&m);
	parts_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_facts), cmocka_unit_test(words),	   cmocka_unit_test(batch),
		cmocka_unit_test(services),  cmocka_unit_test(lint),	   cmocka_unit_test(http_cells),
		cmocka_unit_test(refused),   cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
