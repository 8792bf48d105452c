/* SPDX-License-Identifier: MIT */
/* Services and EndpointSlices: what bn_object_parse makes of them, and what it refuses at which field. */
#include "tests/unit/object.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_service_fields),
		cmocka_unit_test(test_service_status),
		cmocka_unit_test(test_service_values),
		cmocka_unit_test(test_lb_algorithm),
		cmocka_unit_test(test_slice_fields),
		cmocka_unit_test(test_slice_values),
		cmocka_unit_test(test_slice_trigger),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
