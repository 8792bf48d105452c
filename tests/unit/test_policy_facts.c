// SPDX-License-Identifier: MIT
/* The facts of NetworkPolicy (SEMANTICS 13 to 22), one by one, by their numbers: a small cluster,
 * the policies of a fact, and what is allowed then. Each row is also put to the plain reading of
 * the API.
 */
#include "tests/unit/oracle.h"
#include "tests/unit/small.h"

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
	{"13 nothing selects: all is allowed",
	 "",
	 {{"shop/web shop/api TCP 1", 1},
	  {"8.8.8.8 shop/web UDP 7", 1},
	  {"shop/web 8.8.8.8 SCTP 9", 1}}},
	{"13 isolation is per direction",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, policyTypes: "
		     "[Ingress]"),
	 {{"shop/web shop/api TCP 80", 0},
	  {"shop/api shop/web TCP 80", 1},
	  {"shop/db shop/web TCP 80", 1}}},
	{"13 egress of the source and ingress of the destination both have to allow",
	 POLICY("in",
		"podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {}}]}]")
		 POLICY("out",
			"podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: "
			"[{to: [{podSelector: {matchLabels: {app: db}}}]}]"),
	 {{"shop/web shop/api TCP 80", 0},
	  {"shop/db shop/api TCP 80", 1},
	  {"shop/web shop/db TCP 80", 1}}},
	{"13 policies add up",
	 POLICY("none", "podSelector: {}") POLICY("some", "podSelector: {matchLabels: {app: api}}, "
							  "ingress: [{ports: [{port: 80}]}]"),
	 {{"shop/web shop/api TCP 80", 1},
	  {"shop/web shop/api TCP 81", 0},
	  {"shop/web shop/db TCP 80", 0}}},
	{"14 policyTypes unset: ingress always, egress only with a rule",
	 POLICY("p", "podSelector: {matchLabels: {app: web}}, egress: []"),
	 {{"shop/web shop/api TCP 80", 1}, {"shop/api shop/web TCP 80", 0}}},
	{"14 policyTypes unset with an egress rule",
	 POLICY("p", "podSelector: {matchLabels: {app: web}}, egress: [{ports: [{port: 80}]}]"),
	 {{"shop/web shop/api TCP 80", 1},
	  {"shop/web shop/api TCP 81", 0},
	  {"shop/api shop/web TCP 80", 0}}},
	{"14 policyTypes Egress only",
	 POLICY("p", "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]"),
	 {{"shop/web shop/api TCP 80", 0}, {"shop/api shop/web TCP 80", 1}}},
	{"15 an empty podSelector is all pods of the namespace",
	 POLICY("p", "podSelector: {}"),
	 {{"shop/web shop/api TCP 80", 0}, {"shop/web ops/mon TCP 80", 1}}},
	{"15 a peer with podSelector only: own namespace",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "
		     "{matchLabels: {app: web}}}]}]"),
	 {{"shop/web shop/api TCP 80", 1}, {"ops/mon shop/api TCP 80", 0}}},
	{"15 a peer with namespaceSelector only: all pods of those namespaces",
	 POLICY("p",
		"podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: "
		"{matchLabels: {team: b}}}]}]"),
	 {{"ops/mon shop/api TCP 80", 1}, {"shop/web shop/api TCP 80", 0}}},
	{"15 both selectors in one peer: AND",
	 POLICY("p",
		"podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: "
		"{matchLabels: {team: b}}, podSelector: {matchLabels: {app: db}}}]}]"),
	 {{"ops/mon shop/api TCP 80", 0}, {"shop/db shop/api TCP 80", 0}}},
	{"15 two peers: OR",
	 POLICY("p",
		"podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: "
		"{matchLabels: {team: b}}}, {podSelector: {matchLabels: {app: db}}}]}]"),
	 {{"ops/mon shop/api TCP 80", 1},
	  {"shop/db shop/api TCP 80", 1},
	  {"shop/web shop/api TCP 80", 0}}},
	{"15 empty selectors that are there match all, a null one is not there",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: "
		     "[{namespaceSelector: {}}]}]") POLICY(
		 "q", "podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {}, "
		      "namespaceSelector: null}]}]"),
	 {{"ops/mon shop/api TCP 80", 1},
	  {"8.8.8.8 shop/api TCP 80", 0},
	  {"ops/mon shop/db TCP 80", 0},
	  {"shop/web shop/db TCP 80", 1}}},
	{"15 from missing or empty: everybody",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [], ports: [{port: "
		     "80}]}]"),
	 {{"8.8.8.8 shop/api TCP 80", 1},
	  {"ops/mon shop/api TCP 80", 1},
	  {"ops/mon shop/api TCP 81", 0}}},
	{"15 ports missing or empty: all ports and protocols",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "
		     "{}}], ports: "
		     "[]}]"),
	 {{"shop/web shop/api UDP 9", 1},
	  {"shop/web shop/api SCTP 9", 1},
	  {"shop/web shop/api ICMP 0", 1},
	  {"ops/mon shop/api ICMP 0", 0}}},
	{"15 one empty rule allows all",
	 POLICY("p", "podSelector: {}, ingress: [{}]"),
	 {{"8.8.8.8 shop/api TCP 80", 1}, {"ops/mon shop/web ICMP 0", 1}}},
	{"15 matchExpressions: In, NotIn, Exists, DoesNotExist; a missing label is NotIn",
	 POLICY("p",
		"podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: "
		"{matchExpressions: [{key: tier, operator: NotIn, values: [back]}]}}], ports: "
		"[{port: "
		"1}]}, {from: [{podSelector: {matchExpressions: [{key: tier, operator: "
		"Exists}]}}], "
		"ports: [{port: 2}]}, {from: [{podSelector: {matchExpressions: [{key: tier, "
		"operator: "
		"DoesNotExist}]}}], ports: [{port: 3}]}, {from: [{podSelector: {matchExpressions: "
		"[{key: app, operator: In, values: [api, web]}]}}], ports: [{port: 4}]}]"),
	 {{"shop/web shop/db TCP 1", 1},
	  {"shop/api shop/db TCP 1", 0},
	  {"shop/api shop/db TCP 2", 1},
	  {"shop/web shop/db TCP 2", 0},
	  {"shop/web shop/db TCP 3", 1},
	  {"shop/api shop/db TCP 3", 0},
	  {"shop/api shop/db TCP 4", 1},
	  {"shop/dual shop/db TCP 4", 0}}},
	{"16 protocol defaults to TCP; a port is of its protocol",
	 POLICY("p",
		"podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 53}, {port: 54, "
		"protocol: UDP}, {port: 55, protocol: SCTP}]}]"),
	 {{"shop/web shop/api TCP 53", 1},
	  {"shop/web shop/api UDP 53", 0},
	  {"shop/web shop/api UDP 54", 1},
	  {"shop/web shop/api TCP 54", 0},
	  {"shop/web shop/api SCTP 55", 1},
	  {"shop/web shop/api ICMP 0", 0}}},
	{"16 a missing port is all ports of the protocol",
	 POLICY("p",
		"podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{protocol: UDP}]}]"),
	 {{"shop/web shop/api UDP 1", 1},
	  {"shop/web shop/api UDP 65535", 1},
	  {"shop/web shop/api TCP 1", 0},
	  {"shop/web shop/api SCTP 1", 0}}},
	{"16 endPort is inclusive",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 80, "
		     "endPort: 90}, "
		     "{port: 65000, endPort: 65535}]}]"),
	 {{"shop/web shop/api TCP 79", 0},
	  {"shop/web shop/api TCP 80", 1},
	  {"shop/web shop/api TCP 90", 1},
	  {"shop/web shop/api TCP 91", 0},
	  {"shop/web shop/api TCP 65535", 1},
	  {"shop/web shop/api UDP 80", 0}}},
	{"16 a named port in ingress is that of the selected pod",
	 POLICY("p", "podSelector: {}, ingress: [{ports: [{port: http}]}]"),
	 {{"ops/mon shop/web TCP 80", 1},
	  {"ops/mon shop/web TCP 8080", 0},
	  {"ops/mon shop/api TCP 8080", 1},
	  {"ops/mon shop/db TCP 9090", 1},
	  {"ops/mon shop/dual TCP 80", 0}}},
	{"16 a named port in egress is that of each destination pod",
	 POLICY("p", "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: "
		     "[{podSelector: {}}], ports: [{port: http}]}]"),
	 {{"shop/web shop/api TCP 8080", 1},
	  {"shop/web shop/api TCP 9090", 0},
	  {"shop/web shop/db TCP 9090", 1},
	  {"shop/web shop/dual TCP 80", 0},
	  {"shop/web 8.8.8.8 TCP 8080", 0}}},
	{"16 a named port without peers: any pod that has it",
	 POLICY("p",
		"podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: "
		"[{port: http}]}]"),
	 {{"shop/web shop/api TCP 8080", 1},
	  {"shop/web shop/db TCP 9090", 1},
	  {"shop/web shop/db TCP 8080", 0},
	  {"shop/web 8.8.8.8 TCP 8080", 0}}},
	{"16 the protocol of a named port has to match",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: dns}]}]")
		 POLICY("q",
			"podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: dns, "
			"protocol: UDP}]}]"),
	 {{"shop/web shop/api TCP 53", 0}, {"shop/web shop/api UDP 53", 1}}},
	{"16 a named port in egress matches nothing in an ipBlock",
	 POLICY("p", "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: "
		     "[{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: http}, {port: 443}]}]"),
	 {{"shop/web shop/api TCP 8080", 0}, {"shop/web shop/api TCP 443", 1}}},
	{"17 ipBlock without its excepts",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{ipBlock: {cidr: "
		     "203.0.113.0/24, except: [203.0.113.128/25]}}]}]"),
	 {{"203.0.113.1 shop/api TCP 80", 1},
	  {"203.0.113.129 shop/api TCP 80", 0},
	  {"203.0.112.1 shop/api TCP 80", 0}}},
	{"17 an except of one rule is no denial of another",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{ipBlock: {cidr: "
		     "203.0.113.0/24, except: [203.0.113.128/25]}}, {ipBlock: {cidr: "
		     "203.0.113.192/26}}]}]"),
	 {{"203.0.113.129 shop/api TCP 80", 0}, {"203.0.113.200 shop/api TCP 80", 1}}},
	{"17 blocks match pods and nodes literally",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{ipBlock: {cidr: "
		     "10.0.1.0/24}}, {ipBlock: {cidr: 192.0.2.2/32}}]}]"),
	 {{"shop/db shop/api TCP 80", 1},
	  {"ops/mon shop/api TCP 80", 1},
	  {"shop/web shop/api TCP 80", 0},
	  {"192.0.2.2 shop/api TCP 80", 1},
	  {"192.0.2.3 shop/api TCP 80", 0}}},
	{"17 0.0.0.0/0 is IPv4, ::/0 is IPv6",
	 POLICY("p", "podSelector: {matchLabels: {app: dual}}, ingress: [{from: [{ipBlock: {cidr: "
		     "0.0.0.0/0}}], ports: [{port: 4}]}, {from: [{ipBlock: {cidr: '::/0'}}], "
		     "ports: [{port: "
		     "6}]}]"),
	 {{"8.8.8.8 10.0.1.5 TCP 4", 1},
	  {"8.8.8.8 10.0.1.5 TCP 6", 0},
	  {"2001:db8:9::9 fd00::5 TCP 6", 1},
	  {"2001:db8:9::9 fd00::5 TCP 4", 0},
	  {"shop/web shop/dual TCP 4", 1},
	  {"shop/web shop/dual TCP 6", 0}}},
	{"18 the local node always reaches its pods, other nodes follow the rules",
	 POLICY("p", "podSelector: {}"),
	 {{"192.0.2.1 shop/web TCP 80", 1},
	  {"192.0.2.2 shop/web TCP 80", 0},
	  {"192.0.2.2 shop/db TCP 80", 1},
	  {"192.0.2.1 shop/db TCP 80", 0}}},
	{"18 host-network pods are their node: no selector sees them",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "
		     "{matchLabels: {app: web}}}]}]")
		 POLICY("q",
			"podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress]"),
	 {{"shop/net shop/db TCP 80", 1},
	  {"shop/db shop/net TCP 80", 1},
	  {"shop/net shop/api TCP 80", 1},
	  {"shop/web shop/net TCP 80", 0}}},
	{"19 finished pods have no address",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "
		     "{matchLabels: {app: web}}}]}]"),
	 {{"10.0.0.9 shop/api TCP 80", 0},
	  {"shop/old shop/api TCP 80", -1},
	  {"10.0.0.1 shop/api TCP 80", 1}}},
	{"19 a pod has all its addresses",
	 POLICY("p", "podSelector: {matchLabels: {app: six}}, ingress: [{from: [{podSelector: "
		     "{matchLabels: {app: dual}}}]}]"),
	 {{"fd00::5 fd00::6 TCP 80", 1},
	  {"fd00::7 fd00::6 TCP 80", 0},
	  {"shop/dual shop/six TCP 80", 1, true}}},
	{"21 a pod reaches itself",
	 POLICY("p", "podSelector: {}, policyTypes: [Ingress, Egress]"),
	 {{"shop/web shop/web TCP 80", 1},
	  {"shop/web 10.0.0.1 UDP 9", 1},
	  {"shop/web shop/api TCP 80", 0}}},
	{"22 protocols without ports: only rules without ports",
	 POLICY("p", "podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: "
		     "{matchLabels: {app: web}}}]}, {from: [{podSelector: {matchLabels: {app: "
		     "db}}}], ports: "
		     "[{protocol: TCP}, {protocol: UDP}, {protocol: SCTP}]}]"),
	 {{"shop/web shop/api ICMP 0", 1},
	  {"shop/db shop/api ICMP 0", 0},
	  {"shop/db shop/api SCTP 1", 1}}},
	{"an unknown name is an error",
	 "",
	 {{"shop/nobody shop/web TCP 80", -1}, {"shop/web ops/web TCP 80", -1}}},
};

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
			print_error("%s: %s: %s\n", f->name, a->line,
				    json_dumps(answer, JSON_INDENT(1)));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_facts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
