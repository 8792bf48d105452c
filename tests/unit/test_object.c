/* SPDX-License-Identifier: MIT */
/* What bn_object_parse takes, what it makes of it, and what it refuses at which field: text, metadata, Pods,
 * Namespaces, Nodes. (Services: test_object_service.c; policies: test_object_policy.c.)
 */
#include "tests/unit/object.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_cidrs),
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_describe),
		cmocka_unit_test(test_pod),
		cmocka_unit_test(test_namespace),
		cmocka_unit_test(test_node),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
