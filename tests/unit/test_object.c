/* SPDX-License-Identifier: MIT */
/* What bn_object_parse takes, what it makes of it, and what it refuses at which field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/object.h"

/* JSON with ' for " so that cases can be read. */
static json_t *quoted(const char *text)
{
	char *s = strdup(text), *p;
	json_error_t e;
	json_t *j;

	for (p = s; *p; p++) {
		if (*p == '\'')
			*p = '"';
	}
	j = json_loads(s, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
	if (!j)
		fail_msg("%s in %s", e.text, s);
	free(s);
	return j;
}

static int parse(const char *text, struct bn_obj **ret, struct bn_err *err)
{
	json_t *j = quoted(text);
	int r = bn_object_parse(j, ret, err);

	json_decref(j);
	return r;
}

struct verdict {
	const char *what;  /* put into the template */
	const char *field; /* NULL: good */
};

/* fmt has one %s for what is judged. */
static void judge(const char *fmt, const struct verdict *v, size_t n)
{
	char text[8192];
	size_t i;

	for (i = 0; i < n; i++) {
		struct bn_obj *o = NULL;
		struct bn_err err;
		int r;

		snprintf(text, sizeof(text), fmt, v[i].what);
		r = parse(text, &o, &err);
		if (v[i].field ? r != -EINVAL || strcmp(err.field, v[i].field) : r != 0)
			fail_msg("%s: %d, field '%s' (%s), not '%s'", v[i].what, r, err.field, err.msg,
				 v[i].field ?: "good");
		if (v[i].field)
			assert_true(err.msg[0]);
		bn_obj_unref(o);
	}
}

#define JUDGE(fmt, v) judge(fmt, v, ARRAY_SIZE(v))

static void *good(const char *text)
{
	struct bn_obj *o = NULL;
	struct bn_err err;

	if (parse(text, &o, &err))
		fail_msg("%s: %s: %s", text, err.field, err.msg);
	return o;
}

static void assert_addr(const struct bn_addr *a, const char *text)
{
	char buf[BN_ADDR_STRLEN];

	assert_string_equal(bn_addr_format(a, buf), text);
}

/* --- text --------------------------------------------------------------------------------------- */

static void test_addresses(void **state)
{
	static const char *const bad[] = { "",		"1.2.3",    "01.2.3.4",	     "1.2.3.4 ",
					   "1.2.3.256", "::ffff:1.2.3.4", "::ffff:102:304", "fe80::1%eth0",
					   "1.2.3.4/32", "0x1.2.3.4", "::1::" };
	static const char *const good_ones[] = { "1.2.3.4", "0.0.0.0", "::", "2001:db8::1",
						 "::1.2.3.4" };
	struct bn_addr a;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(bn_addr_parse(bad[i], &a), -EINVAL);
	for (i = 0; i < ARRAY_SIZE(good_ones); i++) {
		assert_int_equal(bn_addr_parse(good_ones[i], &a), 0);
		assert_addr(&a, good_ones[i]);
	}
}

static void test_cidrs(void **state)
{
	static const char *const bad[] = { "10.0.0.0",	    "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08",
					   "10.0.0.0/-1",   "10.0.0.0/ 8", "::/129",	"::ffff:10.0.0.0/104",
					   "10.0.0.0/8/8",  "/8",	   "10.0.0.0/0008",
					   "010.0.0.0/8",   "10.0.0.0/+8", "10.0.0.0/256" };
	static const struct {
		const char *text, *addr;
		unsigned prefix;
		const char *in, *out;
	} t[] = {
		{ "10.1.2.3/8", "10.0.0.0", 104, "10.255.255.255", "11.0.0.0" },
		{ "10.1.2.3/32", "10.1.2.3", 128, "10.1.2.3", "10.1.2.2" },
		{ "0.0.0.0/0", "0.0.0.0", 96, "255.255.255.255", "::" },
		{ "::/0", "::", 0, "2001:db8::1", "1.2.3.4" },
		{ "2001:db8:1:2::3/63", "2001:db8:1:2::", 63, "2001:db8:1:3::1", "2001:db8:1:4::" },
		{ "::1/128", "::1", 128, "::1", "::2" },
	};
	struct bn_cidr c;
	struct bn_addr a;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(bn_cidr_parse(bad[i], &c), -EINVAL);
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		assert_int_equal(bn_cidr_parse(t[i].text, &c), 0);
		assert_addr(&c.addr, t[i].addr);
		assert_int_equal(c.prefix, t[i].prefix);
		assert_int_equal(bn_addr_parse(t[i].in, &a), 0);
		assert_true(bn_cidr_contains(&c, &a));
		assert_int_equal(bn_addr_parse(t[i].out, &a), 0);
		assert_false(bn_cidr_contains(&c, &a));
	}
}

/* --- metadata ----------------------------------------------------------------------------------- */

#define POD(meta) "{'apiVersion':'v1','kind':'Pod','metadata':" meta "}"

static void test_metadata(void **state)
{
	static const struct verdict v[] = {
		{ "{'name':'a'}", NULL },
		{ "{'name':'a','namespace':null,'labels':null,'annotations':null}", NULL },
		{ "{'name':'a.b-c.9','namespace':'x-1'}", NULL },
		{ "null", "metadata.name" },
		{ "[]", "metadata" },
		{ "{'name':''}", "metadata.name" },
		{ "{'name':7}", "metadata.name" },
		{ "{'name':'a/b'}", "metadata.name" },
		{ "{'name':'../x'}", "metadata.name" },
		{ "{'name':'A'}", "metadata.name" },
		{ "{'name':'a\\u0000b'}", "metadata.name" },
		{ "{'name':'a\\nb'}", "metadata.name" },
		{ "{'name':'a','namespace':'x.y'}", "metadata.namespace" },
		{ "{'name':'a','namespace':5}", "metadata.namespace" },
		{ "{'name':'a','labels':{'k':'v','k2':''}}", NULL },
		{ "{'name':'a','labels':{'k':1}}", "metadata.labels[k]" },
		{ "{'name':'a','labels':{'k':true}}", "metadata.labels[k]" },
		{ "{'name':'a','labels':{'':'v'}}", "metadata.labels[]" },
		{ "{'name':'a','labels':{'k':'a b'}}", "metadata.labels[k]" },
		{ "{'name':'a','labels':{'k':'0123456789012345678901234567890123456789012345678901234"
		  "567890123'}}", "metadata.labels[k]" },
		{ "{'name':'a','labels':{'k':'012345678901234567890123456789012345678901234567890123"
		  "456789012'}}", NULL },
		{ "{'name':'a','labels':[]}", "metadata.labels" },
		{ "{'name':'a','annotations':3}", "metadata.annotations" },
	};
	struct bn_obj *o;

	(void)state;
	JUDGE(POD("%s"), v);
	o = good(POD("{'name':'a','labels':{'z':'1','b':'2','m':null},'resourceVersion':'77'}"));
	assert_string_equal(o->ns, "default");
	assert_string_equal(o->resource_version, "77");
	assert_int_equal(o->labels.n, 3);
	assert_string_equal(o->labels.v[0].key, "b");
	assert_string_equal(o->labels.v[1].val, "");
	assert_string_equal(o->labels.v[2].key, "z");
	assert_ptr_equal(bn_labels_get(&o->labels, bn_intern("z")), bn_intern("1"));
	assert_null(bn_labels_get(&o->labels, bn_intern("y")));
	bn_obj_unref(o);
}

static void test_kinds(void **state)
{
	static const struct {
		const char *version, *kind;
		int r;
		bool stub;
	} t[] = {
		{ "v1", "Service", 0, false }, /* no address: headless */
		{ "v1", "ConfigMap", -EOPNOTSUPP, false },
		{ "serving.knative.dev/v1", "Service", -EOPNOTSUPP, false },
		{ "discovery.k8s.io/v1beta1", "EndpointSlice", -EINVAL, false },
		{ "networking.k8s.io/v1", "NetworkPolicy", 0, false },
		{ "networking.k8s.io/v2", "NetworkPolicy", -EINVAL, true },
		{ "extensions/v1beta1", "NetworkPolicy", -EINVAL, true },
		{ "projectcalico.org/v3", "NetworkPolicy", -EOPNOTSUPP, false },
		{ "bpfnet.io/v1alpha1", "HTTPNetworkPolicy", 0, false },
		{ "bpfnet.io/v1", "HTTPNetworkPolicy", -EINVAL, true },
		{ "", "NetworkPolicy", -EINVAL, true },
	};
	struct bn_obj *const untouched = (void *)1;
	char text[300];
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		struct bn_obj *o = untouched;
		struct bn_err err;

		snprintf(text, sizeof(text),
			 "{'apiVersion':'%s','kind':'%s','metadata':{'name':'x','namespace':'n'}}",
			 t[i].version, t[i].kind);
		assert_int_equal(parse(text, &o, &err), t[i].r);
		if (t[i].r == -EOPNOTSUPP) {
			assert_ptr_equal(o, untouched);
			continue;
		}
		assert_int_equal(!!o, t[i].stub || !t[i].r);
		if (o)
			assert_int_equal(o->refused, t[i].stub);
		bn_obj_unref(o);
	}
}

static void test_describe(void **state)
{
	char buf[64];
	json_t *j;

	(void)state;
	j = quoted("{'kind':'Service','metadata':{'name':'we\\u0007b','namespace':'d'}}");
	assert_string_equal(bn_object_describe(j, buf, sizeof(buf)), "Service d/we?b");
	json_decref(j);
	j = quoted("[1]");
	assert_string_equal(bn_object_describe(j, buf, sizeof(buf)), "object");
	json_decref(j);
}

/* --- Service ------------------------------------------------------------------------------------ */

#define SVC(spec) "{'apiVersion':'v1','kind':'Service','metadata':{'name':'s'},'spec':" spec "}"
#define IP	  "'clusterIP':'10.0.0.1'"
#define PORTS	  "'ports':[{'port':80}]"

static void test_service_fields(void **state)
{
	static const struct verdict v[] = {
		{ "{" IP "," PORTS "}", NULL },
		{ "{" IP ",'ports':[{'port':80,'name':null,'protocol':null,'nodePort':null}]}", NULL },
		{ "{" IP "}", "spec.ports" },
		{ "{" IP ",'ports':{}}", "spec.ports" },
		{ "{" IP ",'ports':[null]}", "spec.ports[0]" },
		{ "{" IP ",'ports':[{}]}", "spec.ports[0].port" },
		{ "{" IP ",'ports':[{'port':0}]}", "spec.ports[0].port" },
		{ "{" IP ",'ports':[{'port':65536}]}", "spec.ports[0].port" },
		{ "{" IP ",'ports':[{'port':-1}]}", "spec.ports[0].port" },
		{ "{" IP ",'ports':[{'port':'80'}]}", "spec.ports[0].port" },
		{ "{" IP ",'ports':[{'port':80.5}]}", "spec.ports[0].port" },
		{ "{" IP ",'ports':[{'port':80,'protocol':'tcp'}]}", "spec.ports[0].protocol" },
		{ "{" IP ",'ports':[{'port':80,'protocol':'ICMP'}]}", "spec.ports[0].protocol" },
		{ "{" IP ",'ports':[{'port':80,'protocol':'SCTP','targetPort':'web'}]}", NULL },
		{ "{" IP ",'ports':[{'port':80,'nodePort':70000}]}", "spec.ports[0].nodePort" },
		{ "{" IP ",'ports':[{'port':80,'name':'a'},{'port':81}]}", "spec.ports[1].name" },
		{ "{" IP ",'ports':[{'port':80,'name':'a'},{'port':81,'name':'a'}]}",
		  "spec.ports[1].name" },
		{ "{" IP ",'ports':[{'port':80,'name':'a'},{'port':80,'name':'b'}]}",
		  "spec.ports[1].port" },
		{ "{" IP ",'ports':[{'port':80,'name':'a'},{'port':80,'name':'b','protocol':'UDP'}]}",
		  NULL },
		{ "{" IP ",'ports':[{'port':80,'name':'a','nodePort':30000},{'port':81,'name':'b',"
		  "'nodePort':30000}]}", "spec.ports[1].nodePort" },
		{ "{" IP ",'ports':[{'port':80,'name':'A_'}]}", "spec.ports[0].name" },
		{ "{'clusterIP':'10.0.0.01'," PORTS "}", "spec.clusterIP" },
		{ "{'clusterIP':'x'," PORTS "}", "spec.clusterIP" },
		{ "{'clusterIP':'127.0.0.1'," PORTS "}", "spec.clusterIP" },
		{ "{'clusterIP':'0.0.0.0'," PORTS "}", "spec.clusterIP" },
		{ "{'clusterIP':'::ffff:10.0.0.1'," PORTS "}", "spec.clusterIP" },
		{ "{'clusterIP':'None'}", NULL },
		{ "{'clusterIP':7," PORTS "}", "spec.clusterIP" },
		{ "{'clusterIPs':['10.0.0.1','fd00::1']," PORTS "}", NULL },
		{ "{'clusterIPs':['10.0.0.1','10.0.0.2']," PORTS "}", "spec.clusterIPs" },
		{ "{'clusterIPs':['10.0.0.1','fd00::1','fd00::2']," PORTS "}", "spec.clusterIPs" },
		{ "{" IP ",'clusterIPs':['10.0.0.2']," PORTS "}", "spec.clusterIPs[0]" },
		{ "{'clusterIPs':['10.0.0.1',null]," PORTS "}", "spec.clusterIPs[1]" },
		{ "{'clusterIPs':['None','10.0.0.1']," PORTS "}", "spec.clusterIPs[0]" },
		{ "{" IP "," PORTS ",'type':'Cluster'}", "spec.type" },
		{ "{'type':'ExternalName','externalName':'a.b'}", NULL },
		{ "{" IP "," PORTS ",'externalIPs':['192.0.2.1','2001:db8::1']}", NULL },
		{ "{" IP "," PORTS ",'externalIPs':['224.0.0.1']}", "spec.externalIPs[0]" },
		{ "{" IP "," PORTS ",'externalIPs':['192.0.2.1','']}", "spec.externalIPs[1]" },
		{ "{" IP "," PORTS ",'loadBalancerSourceRanges':[' 10.0.0.0/8\\n']}", NULL },
		{ "{" IP "," PORTS ",'loadBalancerSourceRanges':['10.0.0.0/8','10.0.0.1']}",
		  "spec.loadBalancerSourceRanges[1]" },
		{ "{" IP "," PORTS ",'sessionAffinity':'Cookie'}", "spec.sessionAffinity" },
		{ "{" IP "," PORTS ",'sessionAffinity':'ClientIP','sessionAffinityConfig':{'clientIP':"
		  "{'timeoutSeconds':0}}}", "spec.sessionAffinityConfig.clientIP.timeoutSeconds" },
		{ "{" IP "," PORTS ",'sessionAffinity':'ClientIP','sessionAffinityConfig':{'clientIP':"
		  "{'timeoutSeconds':86401}}}", "spec.sessionAffinityConfig.clientIP.timeoutSeconds" },
		{ "{" IP "," PORTS ",'sessionAffinity':'ClientIP','sessionAffinityConfig':{'clientIP':"
		  "{'timeoutSeconds':86400}}}", NULL },
		{ "{" IP "," PORTS ",'externalTrafficPolicy':'local'}", "spec.externalTrafficPolicy" },
		{ "{" IP "," PORTS ",'internalTrafficPolicy':1}", "spec.internalTrafficPolicy" },
		{ "{" IP "," PORTS ",'healthCheckNodePort':65536}", "spec.healthCheckNodePort" },
		{ "'spec'", "spec" },
	};

	(void)state;
	JUDGE(SVC("%s"), v);
}

static void test_service_status(void **state)
{
	static const struct verdict v[] = {
		{ "null", NULL },
		{ "{'loadBalancer':null}", NULL },
		{ "{'loadBalancer':{'ingress':[{'hostname':'x'}]}}", NULL },
		{ "{'loadBalancer':{'ingress':[{'ip':'1.2.3'}]}}", "status.loadBalancer.ingress[0].ip" },
		{ "{'loadBalancer':{'ingress':[{'ip':'1.2.3.4','ipMode':'X'}]}}",
		  "status.loadBalancer.ingress[0].ipMode" },
		{ "{'loadBalancer':{'ingress':'x'}}", "status.loadBalancer.ingress" },
		{ "[]", "status" },
	};

	(void)state;
	JUDGE("{'apiVersion':'v1','kind':'Service','metadata':{'name':'s'},'spec':{" IP "," PORTS
	      "},'status':%s}", v);
}

static void test_service_values(void **state)
{
	struct bn_service *s = good(SVC("{" IP "," PORTS "}")), *t;

	(void)state;
	assert_int_equal(s->type, BN_SVC_CLUSTERIP);
	assert_false(s->headless || s->etp_local || s->itp_local || s->affinity_client_ip);
	assert_int_equal(s->affinity_timeout_s, 10800);
	assert_false(s->has_src_ranges);
	assert_int_equal(s->ports[0].proto, BN_PROTO_TCP);
	assert_string_equal(s->ports[0].name, "");
	t = good("{'kind':'Service','apiVersion':'v1','spec':{'ports':[{'nodePort':0,'name':'',"
		 "'protocol':'','port':80}],'clusterIPs':['10.0.0.1'],'type':'','selector':{'a':'b'},"
		 "'externalIPs':[]},'metadata':{'resourceVersion':'9','namespace':'default',"
		 "'name':'s'}}");
	assert_true(bn_obj_equal(&s->o, &t->o)); /* said otherwise, and the same */
	bn_obj_unref(&t->o);
	t = good(SVC("{" IP ",'ports':[{'port':81}]}"));
	assert_false(bn_obj_equal(&s->o, &t->o));
	bn_obj_unref(&t->o);
	bn_obj_unref(&s->o);

	s = good("{'apiVersion':'v1','kind':'Service','metadata':{'name':'s','namespace':'n','labels':"
		 "{'service.kubernetes.io/service-proxy-name':''},'annotations':"
		 "{'bpfnet.io/lb-algorithm':'maglev'}},'spec':{'type':'LoadBalancer','clusterIPs':"
		 "['fd00::1','10.0.0.1'],'sessionAffinity':'ClientIP','sessionAffinityConfig':"
		 "{'clientIP':{'timeoutSeconds':60}},'externalTrafficPolicy':'Local',"
		 "'internalTrafficPolicy':'Local','healthCheckNodePort':31000,'ports':[{'name':'dns',"
		 "'port':53,'protocol':'UDP','nodePort':30053}],'loadBalancerSourceRanges':"
		 "[' 10.1.2.3/8 ','2001:db8::/32']},'status':{'loadBalancer':{'ingress':["
		 "{'ip':'192.0.2.9'},{'ip':'192.0.2.8','ipMode':'Proxy'},{'hostname':'h'},"
		 "{'ip':'2001:db8::9','ipMode':'VIP'}]}}}");
	assert_string_equal(s->proxy_name, "");
	assert_string_equal(s->lb_algorithm, "maglev");
	assert_int_equal(s->type, BN_SVC_LOADBALANCER);
	assert_int_equal(s->ncluster_ips, 2);
	assert_addr(&s->cluster_ips[0], "fd00::1");
	assert_true(s->affinity_client_ip && s->etp_local && s->itp_local && s->has_src_ranges);
	assert_int_equal(s->affinity_timeout_s, 60);
	assert_int_equal(s->health_node_port, 31000);
	assert_int_equal(s->ports[0].node_port, 30053);
	assert_int_equal(s->ports[0].proto, BN_PROTO_UDP);
	assert_addr(&s->src_ranges[0].addr, "10.0.0.0");
	assert_int_equal(s->nlb_ips, 2);
	assert_addr(&s->lb_ips[1], "2001:db8::9");
	bn_obj_unref(&s->o);

	s = good(SVC("{'clusterIP':null}"));
	assert_true(s->headless);
	bn_obj_unref(&s->o);
}

static void test_lb_algorithm(void **state)
{
	static const struct verdict v[] = {
		{ "'random'", NULL },
		{ "null", NULL },
		{ "'Maglev'", "metadata.annotations[bpfnet.io/lb-algorithm]" },
	};

	(void)state;
	JUDGE("{'apiVersion':'v1','kind':'Service','metadata':{'name':'s','annotations':"
	      "{'bpfnet.io/lb-algorithm':%s}},'spec':{" IP "," PORTS "}}", v);
}

/* --- EndpointSlice ------------------------------------------------------------------------------ */

#define SLICE(rest)                                                                                \
	"{'apiVersion':'discovery.k8s.io/v1','kind':'EndpointSlice','metadata':{'name':'s-1',"     \
	"'labels':{'kubernetes.io/service-name':'s'}}," rest "}"

static void test_slice_fields(void **state)
{
	static const struct verdict v[] = {
		{ "'addressType':'IPv4'", NULL },
		{ "'addressType':'IPv4','endpoints':null,'ports':null", NULL },
		{ "'endpoints':[]", "addressType" },
		{ "'addressType':'ipv4'", "addressType" },
		{ "'addressType':'FQDN','endpoints':[{'addresses':['a.b']}]", NULL },
		{ "'addressType':'IPv4','endpoints':[{}]", "endpoints[0].addresses" },
		{ "'addressType':'IPv4','endpoints':[{'addresses':[]}]", "endpoints[0].addresses" },
		{ "'addressType':'IPv4','endpoints':[{'addresses':'1.2.3.4'}]",
		  "endpoints[0].addresses" },
		{ "'addressType':'IPv4','endpoints':[{'addresses':['1.2.3.4']},{'addresses':"
		  "['1.2.3']}]", "endpoints[1].addresses[0]" },
		{ "'addressType':'IPv4','endpoints':[{'addresses':['fd00::1']}]",
		  "endpoints[0].addresses[0]" },
		{ "'addressType':'IPv6','endpoints':[{'addresses':['::ffff:1.2.3.4']}]",
		  "endpoints[0].addresses[0]" },
		{ "'addressType':'IPv4','endpoints':[{'addresses':['127.0.0.1']}]",
		  "endpoints[0].addresses[0]" },
		{ "'addressType':'IPv4','endpoints':[{'addresses':['1.2.3.4'],'conditions':"
		  "{'ready':'true'}}]", "endpoints[0].conditions.ready" },
		{ "'addressType':'IPv4','endpoints':[{'addresses':['1.2.3.4'],'hints':{'forZones':"
		  "[{}]}}]", "endpoints[0].hints.forZones[0].name" },
		{ "'addressType':'IPv4','ports':[{'port':65536}]", "ports[0].port" },
		{ "'addressType':'IPv4','ports':[{'port':1,'protocol':'X'}]", "ports[0].protocol" },
		{ "'addressType':'IPv4','ports':['http']", "ports[0]" },
	};

	(void)state;
	JUDGE(SLICE("%s"), v);
}

static void test_slice_values(void **state)
{
	static const struct {
		const char *conditions;
		unsigned want;
	} c[] = {
		{ "null", BN_EP_READY | BN_EP_SERVING },
		{ "{}", BN_EP_READY | BN_EP_SERVING },
		{ "{'ready':null,'serving':null,'terminating':null}", BN_EP_READY | BN_EP_SERVING },
		{ "{'ready':true,'serving':true,'terminating':false}", BN_EP_READY | BN_EP_SERVING },
		{ "{'ready':false,'serving':false}", 0 },
		{ "{'ready':false,'serving':true,'terminating':true}",
		  BN_EP_SERVING | BN_EP_TERMINATING },
		{ "{'ready':false,'terminating':true}", BN_EP_SERVING | BN_EP_TERMINATING },
	};
	struct bn_slice *s;
	char text[900];
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		snprintf(text, sizeof(text),
			 SLICE("'addressType':'IPv4','endpoints':[{'addresses':['1.2.3.4'],"
			       "'conditions':%s}]"), c[i].conditions);
		s = good(text);
		assert_int_equal(s->endpoints[0].cond, c[i].want);
		bn_obj_unref(&s->o);
	}
	s = good(SLICE("'addressType':'IPv6','ports':[{'name':'a','port':80},{'port':81},{'name':'c'},"
		       "{'name':'d','port':0},{'name':'','port':53,'protocol':'UDP'}],'endpoints':[{"
		       "'addresses':['fd00::1','fd00::2'],'nodeName':'n1','zone':'z','hints':"
		       "{'forZones':[{'name':'z1'},{'name':'z2'}],'forNodes':[{'name':'n1'}]},"
		       "'targetRef':{'kind':'Pod','name':'p'}},{'addresses':['fd00::3'],'targetRef':"
		       "{'kind':'VM','name':'p'}}]"));
	assert_string_equal(s->service, "s");
	assert_false(s->v4 || s->fqdn || s->headless);
	assert_int_equal(s->nports, 3);
	assert_string_equal(s->ports[1].name, "");
	assert_int_equal(s->ports[2].proto, BN_PROTO_UDP);
	assert_int_equal(s->nendpoints, 2);
	assert_addr(&s->endpoints[0].addr, "fd00::1");
	assert_string_equal(s->endpoints[0].hint_zones[1], "z2");
	assert_int_equal(s->endpoints[0].nhint_nodes, 1);
	assert_null(s->endpoints[1].node);
	bn_obj_unref(&s->o);
}

static void test_slice_trigger(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} t[] = {
		{ "1970-01-01T00:00:01Z", 1000000000 },
		{ "1970-01-01T00:00:01.5Z", 1500000000 },
		{ "1970-01-01T01:00:01.000000007+01:00", 1000000007 },
		{ "2026-11-23T05:00:00Z", 1795410000000000000 },
		{ "yesterday", 0 },
		{ "2026-11-23T05:00:00", 0 },
		{ "1960-01-01T00:00:00Z", 0 },
	};
	char text[700];
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		struct bn_slice *s;

		snprintf(text, sizeof(text),
			 "{'apiVersion':'discovery.k8s.io/v1','kind':'EndpointSlice','addressType':"
			 "'IPv4','metadata':{'name':'s','annotations':"
			 "{'endpoints.kubernetes.io/last-change-trigger-time':'%s'}}}", t[i].text);
		s = good(text);
		assert_int_equal(s->trigger_time_ns, t[i].ns);
		assert_null(s->service);
		bn_obj_unref(&s->o);
	}
}

/* --- Pod, Namespace, Node ----------------------------------------------------------------------- */

static void test_pod(void **state)
{
	static const struct verdict v[] = {
		{ "'spec':{'hostNetwork':'yes'}", "spec.hostNetwork" },
		{ "'spec':{'nodeName':1}", "spec.nodeName" },
		{ "'status':{'podIPs':[{'ip':'1.2.3.4'},{'ip':'1'}]}", "status.podIPs[1].ip" },
		{ "'status':{'podIP':'1'}", "status.podIP" },
		{ "'spec':{'containers':[{'ports':[{'name':'web'}]}]}",
		  "spec.containers[0].ports[0].containerPort" },
		{ "'spec':{'containers':[{'ports':[{'name':'web','containerPort':0}]}]}",
		  "spec.containers[0].ports[0].containerPort" },
		{ "'spec':{'containers':[{'ports':[{'name':'8080','containerPort':8080}]}]}",
		  "spec.containers[0].ports[0].name" },
		{ "'spec':{'containers':[7]}", "spec.containers[0]" },
	};
	struct bn_pod *p;

	(void)state;
	JUDGE("{'apiVersion':'v1','kind':'Pod','metadata':{'name':'p'},%s}", v);
	p = good("{'apiVersion':'v1','kind':'Pod','metadata':{'name':'p','uid':'u-1',"
		 "'deletionTimestamp':'2026-01-01T00:00:00Z'},'spec':{'nodeName':'n','hostNetwork':true,"
		 "'initContainers':[{'ports':[{'name':'no','containerPort':1}]},{'restartPolicy':'Always',"
		 "'ports':[{'name':'side','containerPort':2,'protocol':'UDP'}]}],'containers':[{'ports':"
		 "[{'containerPort':3},{'name':'web','containerPort':4}]},{}]},'status':{'phase':'Running',"
		 "'podIP':'10.0.0.9','podIPs':[{'ip':'10.0.0.9'},{'ip':'fd00::9'}]}}");
	assert_true(p->host_network && p->deleting);
	assert_false(p->finished);
	assert_string_equal(p->uid, "u-1");
	assert_int_equal(p->nips, 2);
	assert_int_equal(p->nports, 2);
	assert_string_equal(p->ports[0].name, "web");
	assert_int_equal(p->ports[0].port, 4);
	assert_string_equal(p->ports[1].name, "side");
	assert_int_equal(p->ports[1].proto, BN_PROTO_UDP);
	bn_obj_unref(&p->o);
	p = good(POD("{'name':'p'},'status':{'phase':'Failed','podIP':'10.0.0.1'}"));
	assert_true(p->finished);
	assert_null(p->node);
	assert_addr(&p->ips[0], "10.0.0.1");
	bn_obj_unref(&p->o);
}

static void test_namespace(void **state)
{
	static const char *const labels[] = { "null", "{}", "{'a':'1','z':'2'}", "{'z':'2'}", "{'a':'1'}",
					      "{'kubernetes.io/metadata.name':'lie','z':'2'}" };
	char text[300];
	size_t i, j;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(labels); i++) {
		struct bn_obj *o;

		snprintf(text, sizeof(text), "{'apiVersion':'v1','kind':'Namespace','metadata':{'name':"
			 "'n','namespace':'x','labels':%s}}", labels[i]);
		o = good(text);
		assert_string_equal(o->ns, "");
		assert_ptr_equal(bn_labels_get(&o->labels, bn_intern("kubernetes.io/metadata.name")),
				 o->name);
		for (j = 1; j < o->labels.n; j++)
			assert_true(strcmp(o->labels.v[j - 1].key, o->labels.v[j].key) < 0);
		bn_obj_unref(o);
	}
}

static void test_node(void **state)
{
	static const struct verdict v[] = {
		{ "'status':{'addresses':[{'type':'InternalIP','address':'x'}]}",
		  "status.addresses[0].address" },
		{ "'status':{'addresses':[{'type':'Hostname','address':'x'}]}", NULL },
		{ "'spec':{'podCIDR':'10.0.0.0'}", "spec.podCIDR" },
		{ "'spec':{'podCIDRs':['10.0.0.0/24',3]}", "spec.podCIDRs[1]" },
		{ "'spec':{'taints':['x']}", "spec.taints[0]" },
	};
	struct bn_node *n;

	(void)state;
	JUDGE("{'apiVersion':'v1','kind':'Node','metadata':{'name':'n'},%s}", v);
	n = good("{'apiVersion':'v1','kind':'Node','metadata':{'name':'n','labels':"
		 "{'topology.kubernetes.io/zone':'z1'}},'spec':{'podCIDR':'10.1.0.0/24','podCIDRs':"
		 "['10.1.0.0/24','fd01::/64'],'taints':[{'key':'ToBeDeletedByClusterAutoscaler'}]},"
		 "'status':{'addresses':[{'type':'ExternalIP','address':'192.0.2.1'},{'type':'Hostname',"
		 "'address':'n'},{'type':'InternalIP','address':'10.0.0.1'},{'type':'InternalIP',"
		 "'address':'fd00::1'}]}}");
	assert_string_equal(n->zone, "z1");
	assert_true(n->to_be_deleted);
	assert_int_equal(n->nips, 3);
	assert_int_equal(n->ninternal, 2);
	assert_addr(&n->ips[0], "10.0.0.1");
	assert_addr(&n->ips[2], "192.0.2.1");
	assert_int_equal(n->npod_cidrs, 2);
	bn_obj_unref(&n->o);
}

#define T(fn) cmocka_unit_test(fn)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_addresses),	T(test_cidrs),		T(test_metadata),
		T(test_kinds),		T(test_describe),	T(test_service_fields),
		T(test_service_status), T(test_service_values), T(test_lb_algorithm),
		T(test_slice_fields),	T(test_slice_values),	T(test_slice_trigger),
		T(test_pod),		T(test_namespace),	T(test_node),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
