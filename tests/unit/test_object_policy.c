/* SPDX-License-Identifier: MIT */
/* NetworkPolicy and HTTPNetworkPolicy: what is taken, what is refused where, what is left of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/object.h"

#define L4 "'networking.k8s.io/v1','kind':'NetworkPolicy'"
#define L7 "'bpfnet.io/v1alpha1','kind':'HTTPNetworkPolicy'"

static int parse(const char *kind, const char *spec, struct bn_netpol **ret, struct bn_err *err)
{
	struct bn_obj *o = NULL;
	char text[4096], *p;
	json_error_t e;
	json_t *j;
	int r;

	snprintf(text, sizeof(text), "{'apiVersion':%s,'metadata':{'name':'p','namespace':'n'},"
		 "'spec':%s}", kind, spec);
	for (p = text; *p; p++) {
		if (*p == '\'')
			*p = '"';
	}
	j = json_loads(text, JSON_ALLOW_NUL, &e);
	if (!j)
		fail_msg("%s: %s", text, e.text);
	r = bn_object_parse(j, &o, err);
	json_decref(j);
	*ret = (struct bn_netpol *)o;
	return r;
}

static struct bn_netpol *good(const char *kind, const char *spec)
{
	struct bn_netpol *np;
	struct bn_err err;

	if (parse(kind, spec, &np, &err))
		fail_msg("%s: %s: %s", spec, err.field, err.msg);
	assert_false(np->o.refused);
	return np;
}

static void drop(struct bn_netpol *np)
{
	bn_obj_unref(&np->o);
}

struct verdict {
	const char *what;
	const char *field; /* NULL: good */
};

static void judge(const char *kind, const char *fmt, const struct verdict *v, size_t n)
{
	char spec[2048];
	size_t i;

	for (i = 0; i < n; i++) {
		struct bn_netpol *np;
		struct bn_err err;
		int r;

		snprintf(spec, sizeof(spec), fmt, v[i].what);
		r = parse(kind, spec, &np, &err);
		if (v[i].field ? r != -EINVAL || strcmp(err.field, v[i].field) : r != 0)
			fail_msg("%s: %d, field '%s' (%s), not '%s'", spec, r, err.field, err.msg,
				 v[i].field ?: "good");
		assert_non_null(np);
		assert_int_equal(np->o.refused, !!v[i].field);
		if (v[i].field) { /* isolates, allows nothing */
			assert_true(np->ingress || np->egress);
			assert_int_equal(np->ningress + np->negress, 0);
		}
		drop(np);
	}
}

#define JUDGE(kind, fmt, v) judge(kind, fmt, v, ARRAY_SIZE(v))

static void test_types(void **state)
{
	static const struct {
		const char *spec;
		bool in, out;
		uint32_t nin, nout;
	} t[] = {
		{ "{}", true, false, 0, 0 },
		{ "null", true, false, 0, 0 },
		{ "{'podSelector':{},'policyTypes':null}", true, false, 0, 0 },
		{ "{'policyTypes':[],'egress':[]}", true, false, 0, 0 },
		{ "{'egress':[{}]}", true, true, 0, 1 },
		{ "{'ingress':[{}],'egress':null}", true, false, 1, 0 },
		{ "{'policyTypes':['Egress'],'ingress':[{}]}", false, true, 0, 0 },
		{ "{'policyTypes':['Ingress'],'egress':[{}],'ingress':[{},{}]}", true, false, 2, 0 },
		{ "{'policyTypes':['Ingress','Egress']}", true, true, 0, 0 },
	};
	static const struct verdict v[] = {
		{ "['ingress']", "spec.policyTypes[0]" },
		{ "['Ingress','']", "spec.policyTypes[1]" },
		{ "['Ingress','Egress','Ingress']", "spec.policyTypes" },
		{ "'Ingress'", "spec.policyTypes" },
		{ "[null]", "spec.policyTypes[0]" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		struct bn_netpol *np = good(L4, t[i].spec);

		assert_int_equal(np->ingress, t[i].in);
		assert_int_equal(np->egress, t[i].out);
		assert_int_equal(np->ningress, t[i].nin);
		assert_int_equal(np->negress, t[i].nout);
		drop(np);
	}
	JUDGE(L4, "{'policyTypes':%s}", v);
}

static void test_unknown_fields(void **state)
{
	static const struct verdict v[] = {
		{ "{'podselector':{}}", "spec.podselector" },
		{ "{'nothing':null}", NULL },
		{ "{'podSelector':{'matchLabel':{}}}", "spec.podSelector.matchLabel" },
		{ "{'ingress':[{'form':[]}]}", "spec.ingress[0].form" },
		{ "{'ingress':[{'to':[{}]}]}", "spec.ingress[0].to" },
		{ "{'egress':[{'from':[{}]}]}", "spec.egress[0].from" },
		{ "{'ingress':[{'http':[]}]}", "spec.ingress[0].http" },
		{ "{'ingress':[{'from':[{'podSelector':{},'fqdn':'x'}]}]}", "spec.ingress[0].from[0].fqdn" },
		{ "{'ingress':[{'ports':[{'port':80,'name':'x'}]}]}", "spec.ingress[0].ports[0].name" },
		{ "{'ingress':[{'from':[{'ipBlock':{'cidr':'::/0','exept':[]}}]}]}",
		  "spec.ingress[0].from[0].ipBlock.exept" },
		{ "{'podSelector':{'matchExpressions':[{'key':'a','operator':'Exists','value':[]}]}}",
		  "spec.podSelector.matchExpressions[0].value" },
	};

	(void)state;
	JUDGE(L4, "%s", v);
}

static void test_selectors(void **state)
{
	static const struct verdict v[] = {
		{ "null", NULL },
		{ "{}", NULL },
		{ "{'matchLabels':null,'matchExpressions':null}", NULL },
		{ "[]", "spec.podSelector" },
		{ "{'matchLabels':{'a':1}}", "spec.podSelector.matchLabels[a]" },
		{ "{'matchLabels':['a']}", "spec.podSelector.matchLabels" },
		{ "{'matchExpressions':[{}]}", "spec.podSelector.matchExpressions[0].key" },
		{ "{'matchExpressions':[{'key':'a'}]}", "spec.podSelector.matchExpressions[0].operator" },
		{ "{'matchExpressions':[{'key':'a','operator':'Gt','values':['1']}]}",
		  "spec.podSelector.matchExpressions[0].operator" },
		{ "{'matchExpressions':[{'key':'a','operator':'In'}]}",
		  "spec.podSelector.matchExpressions[0].values" },
		{ "{'matchExpressions':[{'key':'a','operator':'NotIn','values':[]}]}",
		  "spec.podSelector.matchExpressions[0].values" },
		{ "{'matchExpressions':[{'key':'a','operator':'Exists','values':['x']}]}",
		  "spec.podSelector.matchExpressions[0].values" },
		{ "{'matchExpressions':[{'key':'a','operator':'DoesNotExist','values':[]}]}", NULL },
		{ "{'matchExpressions':[{'key':'a','operator':'In','values':['x',1]}]}",
		  "spec.podSelector.matchExpressions[0].values[1]" },
		{ "{'matchExpressions':[{'key':'a','operator':'In','values':['x',null]}]}",
		  "spec.podSelector.matchExpressions[0].values[1]" },
		{ "{'matchExpressions':[{'key':'a','operator':'NotIn','values':['','x-']}]}",
		  "spec.podSelector.matchExpressions[0].values[1]" },
		{ "{'matchExpressions':[{'key':'a b','operator':'DoesNotExist'}]}",
		  "spec.podSelector.matchExpressions[0].key" },
		{ "{'matchExpressions':[{'key':'x.io/a_B.c-1','operator':'Exists'}]}", NULL },
		{ "{'matchLabels':{'X.io/a':'1'}}", "spec.podSelector.matchLabels[X.io/a]" },
		{ "{'matchLabels':{'/a':'1'}}", "spec.podSelector.matchLabels[/a]" },
		{ "{'matchLabels':{'a/b/c':'1'}}", "spec.podSelector.matchLabels[a/b/c]" },
		{ "{'matchLabels':{'a':'in valid'}}", "spec.podSelector.matchLabels[a]" },
		{ "{'matchLabels':{'a':'-x'}}", "spec.podSelector.matchLabels[a]" },
		{ "{'matchLabels':{'a':'A_.-9'}}", NULL },
	};

	(void)state;
	JUDGE(L4, "{'podSelector':%s}", v);
}

static void test_selector_match(void **state)
{
	static const struct {
		const char *sel;
		bool match[3]; /* of {a=1,b=2}, {a=3}, {} */
	} t[] = {
		{ "{}", { true, true, true } },
		{ "{'matchLabels':{'a':'1'}}", { true, false, false } },
		{ "{'matchLabels':{'b':'2','a':'1'}}", { true, false, false } },
		{ "{'matchLabels':{'a':'1','b':'3'}}", { false, false, false } },
		{ "{'matchExpressions':[{'key':'a','operator':'In','values':['1','3']}]}",
		  { true, true, false } },
		{ "{'matchExpressions':[{'key':'a','operator':'NotIn','values':['1']}]}",
		  { false, true, true } },
		{ "{'matchExpressions':[{'key':'b','operator':'Exists'}]}", { true, false, false } },
		{ "{'matchExpressions':[{'key':'b','operator':'DoesNotExist'}]}", { false, true, true } },
		{ "{'matchLabels':{'a':'3'},'matchExpressions':[{'key':'b','operator':"
		  "'DoesNotExist'}]}", { false, true, false } },
	};
	struct bn_label ab[] = { { bn_intern("a"), bn_intern("1") }, { bn_intern("b"), bn_intern("2") } };
	struct bn_label a3[] = { { bn_intern("a"), bn_intern("3") } };
	const struct bn_labels labels[] = { { 2, ab }, { 1, a3 }, { 0, NULL } };
	char spec[300];
	size_t i, k;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		struct bn_netpol *np;

		snprintf(spec, sizeof(spec), "{'podSelector':%s}", t[i].sel);
		np = good(L4, spec);
		for (k = 0; k < 3; k++) {
			if (bn_selector_match(&np->pods, &labels[k]) != t[i].match[k])
				fail_msg("%s of labels %zu", t[i].sel, k);
		}
		drop(np);
	}
}

static void test_peers(void **state)
{
	static const struct verdict v[] = {
		{ "{}", "spec.ingress[0].from[0]" },
		{ "null", "spec.ingress[0].from[0]" },
		{ "{'podSelector':null}", "spec.ingress[0].from[0]" },
		{ "{'podSelector':{}}", NULL },
		{ "{'podSelector':{},'namespaceSelector':{}}", NULL },
		{ "{'podSelector':null,'namespaceSelector':{},'ipBlock':null}", NULL },
		{ "{'podSelector':{},'ipBlock':{'cidr':'10.0.0.0/8'}}", "spec.ingress[0].from[0].ipBlock" },
		{ "{'ipBlock':{}}", "spec.ingress[0].from[0].ipBlock.cidr" },
		{ "{'ipBlock':{'cidr':'10.0.0.0'}}", "spec.ingress[0].from[0].ipBlock.cidr" },
		{ "{'ipBlock':{'cidr':'010.0.0.0/8'}}", "spec.ingress[0].from[0].ipBlock.cidr" },
		{ "{'ipBlock':{'cidr':'::ffff:10.0.0.0/104'}}", "spec.ingress[0].from[0].ipBlock.cidr" },
		{ "{'ipBlock':{'cidr':'10.0.0.0/8','except':['x']}}",
		  "spec.ingress[0].from[0].ipBlock.except[0]" },
		{ "{'ipBlock':{'cidr':'10.0.0.0/8','except':['11.0.0.0/8']}}", NULL },
		{ "{'namespaceSelector':{'matchLabels':3}}",
		  "spec.ingress[0].from[0].namespaceSelector.matchLabels" },
	};
	struct bn_netpol *np;

	(void)state;
	JUDGE(L4, "{'ingress':[{'from':[%s]}]}", v);
	np = good(L4, "{'ingress':[{'from':[{'podSelector':{}},{'namespaceSelector':{'matchLabels':"
		      "{'a':'b'}}},{'ipBlock':{'cidr':'10.9.9.9/8','except':['10.1.1.1/16']}}],"
		      "'ports':null},{'from':[],'ports':[]}],'egress':[{'to':null}]}");
	assert_int_equal(np->in[0].npeers, 3);
	assert_true(np->in[0].peers[0].has_pod && !np->in[0].peers[0].has_ns);
	assert_true(np->in[0].peers[1].has_ns && !np->in[0].peers[1].has_pod);
	assert_int_equal(np->in[0].peers[1].ns.n, 1);
	assert_ptr_equal(np->in[0].peers[1].ns.reqs[0].vals[0], bn_intern("b"));
	assert_true(np->in[0].peers[2].has_block);
	assert_int_equal(np->in[0].peers[2].block.prefix, 104);
	assert_int_equal(np->in[0].peers[2].except[0].addr.b[14], 0);
	assert_int_equal(np->in[1].npeers + np->in[1].nports, 0);
	assert_int_equal(np->out[0].npeers, 0);
	drop(np);
}

static void test_ports(void **state)
{
	static const struct verdict v[] = {
		{ "{}", NULL },
		{ "{'protocol':null,'port':null,'endPort':null}", NULL },
		{ "null", "spec.egress[0].ports[0]" },
		{ "{'port':0}", "spec.egress[0].ports[0].port" },
		{ "{'port':65535}", NULL },
		{ "{'port':65536}", "spec.egress[0].ports[0].port" },
		{ "{'port':'80'}", "spec.egress[0].ports[0].port" },
		{ "{'port':''}", "spec.egress[0].ports[0].port" },
		{ "{'port':'Web'}", "spec.egress[0].ports[0].port" },
		{ "{'port':'a--b'}", "spec.egress[0].ports[0].port" },
		{ "{'port':'-a'}", "spec.egress[0].ports[0].port" },
		{ "{'port':'abcdefghijklmnop'}", "spec.egress[0].ports[0].port" },
		{ "{'port':'abcdefghijklmno'}", NULL },
		{ "{'port':80.0}", "spec.egress[0].ports[0].port" },
		{ "{'port':true}", "spec.egress[0].ports[0].port" },
		{ "{'protocol':''}", "spec.egress[0].ports[0].protocol" },
		{ "{'protocol':'ICMP'}", "spec.egress[0].ports[0].protocol" },
		{ "{'protocol':'SCTP','port':1}", NULL },
		{ "{'endPort':80}", "spec.egress[0].ports[0].endPort" },
		{ "{'port':'web','endPort':80}", "spec.egress[0].ports[0].endPort" },
		{ "{'port':80,'endPort':79}", "spec.egress[0].ports[0].endPort" },
		{ "{'port':80,'endPort':80}", NULL },
		{ "{'port':80,'endPort':65536}", "spec.egress[0].ports[0].endPort" },
		{ "{'port':80,'endPort':'90'}", "spec.egress[0].ports[0].endPort" },
	};
	struct bn_netpol *np;

	(void)state;
	JUDGE(L4, "{'policyTypes':['Egress'],'egress':[{'ports':[%s]}]}", v);
	np = good(L4, "{'ingress':[{'ports':[{},{'port':80},{'port':80,'endPort':90,'protocol':'UDP'},"
		      "{'port':'web','protocol':'SCTP'}]}]}");
	assert_true(np->in->ports[0].any);
	assert_int_equal(np->in->ports[0].proto, BN_PROTO_TCP);
	assert_false(np->in->ports[1].any);
	assert_int_equal(np->in->ports[1].end_port, 80);
	assert_int_equal(np->in->ports[2].end_port, 90);
	assert_int_equal(np->in->ports[2].proto, BN_PROTO_UDP);
	assert_ptr_equal(np->in->ports[3].name, bn_intern("web"));
	assert_int_equal(np->in->ports[3].port, 0);
	drop(np);
}

static void test_stubs(void **state)
{
	static const struct {
		const char *spec;
		bool in, out;
		uint32_t nreqs;
	} t[] = {
		{ "7", true, true, 0 },
		{ "{'podSelector':{'matchLabels':{'a':'b'}},'ingress':7}", true, false, 1 },
		{ "{'podSelector':{'matchLabels':{'a':'b'}},'egress':7}", true, true, 1 },
		{ "{'podSelector':{'matchLabels':{'a':'b'}},'egress':[7]}", true, true, 1 },
		{ "{'podSelector':{'matchLabels':{'a':'b','c':7}},'policyTypes':['Egress']}", false, true, 0 },
		{ "{'podSelector':{'matchLabels':{'a':'b'}},'policyTypes':['X']}", true, true, 1 },
	};
	struct bn_netpol *np;
	struct bn_err err;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		assert_int_equal(parse(L4, t[i].spec, &np, &err), -EINVAL);
		assert_non_null(np);
		assert_true(np->o.refused);
		assert_string_equal(np->o.name, "p");
		assert_int_equal(np->ingress, t[i].in);
		assert_int_equal(np->egress, t[i].out);
		assert_int_equal(np->pods.n, t[i].nreqs);
		drop(np);
	}
}

static void test_order_is_nothing(void **state)
{
	struct bn_netpol *a = good(L4, "{'podSelector':{'matchLabels':{'a':'1','b':'2'}},'ingress':"
				       "[{'ports':[{'port':80}]}]}");
	struct bn_netpol *b = good(L4, "{'ingress':[{'from':null,'ports':[{'protocol':'TCP','port':80}]}],"
				       "'podSelector':{'matchLabels':{'b':'2','a':'1'}}}");
	struct bn_netpol *c = good(L4, "{'podSelector':{'matchLabels':{'a':'1','b':'2'}},'ingress':"
				       "[{'ports':[{'port':81}]}]}");

	(void)state;
	assert_true(bn_obj_equal(&a->o, &b->o));
	assert_false(bn_obj_equal(&a->o, &c->o));
	drop(a);
	drop(b);
	drop(c);
}

/* --- HTTP --------------------------------------------------------------------------------------- */

#define M "spec.ingress[0].http[0]"

static void test_http_fields(void **state)
{
	static const struct verdict v[] = {
		{ "{}", NULL },
		{ "null", M },
		{ "{'method':'GET','path':null}", NULL },
		{ "{'method':'G ET'}", M ".method" },
		{ "{'method':''}", M ".method" },
		{ "{'method':'PRI'}", M ".method" },
		{ "{'methods':['GET']}", M ".methods" },
		{ "{'path':'/x'}", M ".path" },
		{ "{'path':{}}", NULL },
		{ "{'path':{'type':'Prefix','value':'/'}}", M ".path.type" },
		{ "{'path':{'value':'x'}}", M ".path.value" },
		{ "{'path':{'value':''}}", M ".path.value" },
		{ "{'path':{'value':'/a//b'}}", M ".path.value" },
		{ "{'path':{'value':'/a/../b'}}", M ".path.value" },
		{ "{'path':{'value':'/a/%2e%2E/b'}}", M ".path.value" },
		{ "{'path':{'value':'/a/.%2e'}}", M ".path.value" },
		{ "{'path':{'value':'/a/..;x/b'}}", M ".path.value" },
		{ "{'path':{'value':'/50%'}}", M ".path.value" },
		{ "{'path':{'value':'/%zz'}}", M ".path.value" },
		{ "{'path':{'value':'/a/..'}}", M ".path.value" },
		{ "{'path':{'value':'/a/..b'}}", NULL },
		{ "{'path':{'type':'Exact','value':'/a?b=c'}}", M ".path.value" },
		{ "{'path':{'value':'/a%2Fb'}}", M ".path.value" },
		{ "{'path':{'value':'/a%00'}}", M ".path.value" },
		{ "{'path':{'value':'/a%zz'}}", M ".path.value" },
		{ "{'path':{'value':'/a%2'}}", M ".path.value" },
		{ "{'path':{'value':'/%2e%2E/a'}}", M ".path.value" },
		{ "{'path':{'value':'/a/..;x'}}", M ".path.value" },
		{ "{'path':{'value':'/a/%3Bx/b'}}", M ".path.value" },
		{ "{'path':{'value':'/a%20b/%c3%a9/%2ea/b;c/;'}}", M ".path.value" },
		{ "{'path':{'value':'/a%20b/%c3%a9/%2ea/b;c/'}}", NULL },
		{ "{'path':{'value':'/a b'}}", M ".path.value" },
		{ "{'path':{'type':'RegularExpression','value':'/v1/[0-9]+'}}", NULL },
		{ "{'path':{'type':'RegularExpression','value':''}}", M ".path.value" },
		{ "{'path':{'value':'/','x':1}}", M ".path.x" },
		{ "{'headers':[{'name':'X-A','value':'b'}]}", NULL },
		{ "{'headers':[{'name':'X A','value':'b'}]}", M ".headers[0].name" },
		{ "{'headers':[{'value':'b'}]}", M ".headers[0].name" },
		{ "{'headers':[{'name':'a'}]}", M ".headers[0].value" },
		{ "{'headers':[{'name':'a','value':1}]}", M ".headers[0].value" },
		{ "{'headers':[{'name':'a','value':'1','type':'PathPrefix'}]}", M ".headers[0].type" },
		{ "{'headers':[{'name':'a','value':'1'},{'name':'A','value':'2'}]}", M ".headers[1].name" },
		{ "{'headers':[{'name':'a','value':'1','invert':true}]}", M ".headers[0].invert" },
		{ "{'headers':[{'name':'a','value':'b '}]}", M ".headers[0].value" },
		{ "{'headers':[{'name':'a','value':'\\tb'}]}", M ".headers[0].value" },
		{ "{'headers':[{'name':'a','value':'b\\nc'}]}", M ".headers[0].value" },
		{ "{'headers':[{'name':'a','value':'b\\u007f'}]}", M ".headers[0].value" },
		{ "{'headers':[{'name':'a','value':'b\\tc \\u00e9'}]}", NULL },
		{ "{'queryParams':[{'name':'a','value':' b\\n'}]}", NULL },
		{ "{'queryParams':[{'name':'a','value':'1'},{'name':'A','value':'2'}]}", NULL },
		{ "{'hostnames':['a.b','*.EXAMPLE.org']}", NULL },
		{ "{'hostnames':['*']}", M ".hostnames[0]" },
		{ "{'hostnames':['a.*.b']}", M ".hostnames[0]" },
		{ "{'hostnames':['a:80']}", M ".hostnames[0]" },
		{ "{'hostnames':['']}", M ".hostnames[0]" },
		{ "{'hostnames':'a.b'}", M ".hostnames" },
	};

	(void)state;
	JUDGE(L7, "{'ingress':[{'http':[%s]}]}", v);
}

static void test_http_rules(void **state)
{
	static const struct verdict v[] = {
		{ "{'ports':[{'port':80}],'http':[]}", NULL },
		{ "{'ports':[{'port':80,'protocol':'UDP'}],'http':[]}",
		  "spec.ingress[0].ports[0].protocol" },
		{ "{'ports':[{'port':80,'protocol':'UDP'}],'http':null}", NULL },
		{ "{'http':{}}", "spec.ingress[0].http" },
		{ "{'grpc':[]}", "spec.ingress[0].grpc" },
	};
	struct bn_http_match *m;
	struct bn_netpol *np;

	(void)state;
	JUDGE(L7, "{'ingress':[%s]}", v);
	np = good(L7, "{'ingress':[{'http':[{'method':'GET','path':{'value':'/v1'},'hostnames':"
		      "['API.shop','*.example.org'],'headers':[{'name':'X-Team','value':'Checkout'}],"
		      "'queryParams':[{'name':'Q','value':'1','type':'RegularExpression'}]},{}]},{}],"
		      "'egress':[{'to':[{'podSelector':{}}],'http':[]}]}");
	assert_true(np->in[0].has_http);
	assert_false(np->in[1].has_http);
	assert_true(np->out[0].has_http);
	assert_int_equal(np->out[0].nhttp, 0);
	m = np->in[0].http;
	assert_string_equal(m->method, "GET");
	assert_int_equal(m->path_type, BN_MATCH_PREFIX);
	assert_string_equal(m->hosts[0], "api.shop");
	assert_string_equal(m->hosts[1], "*.example.org");
	assert_string_equal(m->headers[0].name, "x-team");
	assert_string_equal(m->headers[0].value, "Checkout");
	assert_int_equal(m->headers[0].type, BN_MATCH_EXACT);
	assert_string_equal(m->queries[0].name, "Q");
	assert_int_equal(m->queries[0].type, BN_MATCH_REGEX);
	assert_null(m[1].method);
	assert_false(m[1].has_path);
	drop(np);
}

#define T(fn) cmocka_unit_test(fn)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_types),	   T(test_unknown_fields),   T(test_selectors),
		T(test_selector_match), T(test_peers),	     T(test_ports),
		T(test_stubs),	   T(test_order_is_nothing), T(test_http_fields),
		T(test_http_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
