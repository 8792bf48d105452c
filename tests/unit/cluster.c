// SPDX-License-Identifier: MIT
#include "tests/unit/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "maps/util.h"

uint32_t rng_next(struct rng *r)
{
	uint64_t z = r->s += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (uint32_t)(z >> 32);
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
	return rng_next(r) % n;
}

int rng_chance(struct rng *r, uint32_t percent)
{
	return rng_below(r, 100) < percent;
}

#define PICK(r, list) (list)[rng_below(r, ARRAY_SIZE(list))]

static const char *const keys[] = {"app", "tier", "x", "kubernetes.io/metadata.name"};
static const char *const vals[] = {"a", "b", "c", ""};
static const char *const names[] = {"http", "web", "dns"};
static const char *const protos[] = {"TCP", "TCP", "TCP", "UDP", "SCTP"};
static const int ports[] = {1, 53, 80, 81, 443, 8080, 8081, 9000, 65535};

static json_t *labels(struct rng *r)
{
	json_t *l = json_object();

	for (unsigned i = 0; i < 3; i++)
		if (rng_chance(r, 55))
			json_object_set_new(l, keys[i], json_string(PICK(r, vals)));
	return l;
}

static json_t *expressions(struct rng *r)
{
	static const char *const ops[] = {"In", "NotIn", "Exists", "DoesNotExist"};
	json_t *list = json_array();

	for (unsigned n = rng_below(r, 3); n; n--) {
		const char *op = PICK(r, ops);
		json_t *e = json_pack("{s:s,s:s}", "key", keys[rng_below(r, 3)], "operator", op);

		if (op[0] == 'I' || op[0] == 'N') {
			json_t *v = json_array();

			for (unsigned k = 1 + rng_below(r, 2); k; k--)
				json_array_append_new(v, json_string(PICK(r, vals)));
			json_object_set_new(e, "values", v);
		}
		json_array_append_new(list, e);
	}
	return list;
}

static json_t *selector(struct rng *r, bool ns)
{
	json_t *s = json_object();

	if (rng_chance(r, 25))
		return s;
	if (rng_chance(r, 65)) {
		const char *key = keys[rng_below(r, 3)];
		json_t *m = json_object();

		if (ns && rng_chance(r, 40))
			json_object_set_new(m, keys[3],
					    json_sprintf("ns%u", rng_below(r, CLUSTER_NAMESPACES)));
		else
			json_object_set_new(m, key, json_string(PICK(r, vals)));
		json_object_set_new(s, "matchLabels", m);
	}
	if (rng_chance(r, 35))
		json_object_set_new(s, "matchExpressions", expressions(r));
	return s;
}

json_t *cluster_namespace(struct rng *r, unsigned i)
{
	json_t *o = json_pack("{s:s,s:s,s:{s:o}}", "apiVersion", "v1", "kind", "Namespace",
			      "metadata", "labels", labels(r));

	json_object_set_new(json_object_get(o, "metadata"), "name", json_sprintf("ns%u", i));
	return o;
}

json_t *cluster_node(struct rng *r, unsigned i)
{
	json_t *a = json_array();

	json_array_append_new(a, json_pack("{s:s,s:o}", "type", "InternalIP", "address",
					   json_sprintf("192.168.0.%u", i + 1)));
	if (rng_chance(r, 80))
		json_array_append_new(a, json_pack("{s:s,s:o}", "type", "InternalIP", "address",
						   json_sprintf("fd01::%u", i + 1)));
	return json_pack("{s:s,s:s,s:{s:o},s:{s:o}}", "apiVersion", "v1", "kind", "Node",
			 "metadata", "name", json_sprintf("node%u", i), "status", "addresses", a);
}

static json_t *containers(struct rng *r)
{
	json_t *c = json_array();

	for (unsigned n = rng_below(r, 3); n; n--) {
		const char *name = PICK(r, names), *proto = PICK(r, protos);
		json_t *p = json_pack("{s:s,s:i,s:s}", "name", name, "containerPort",
				      PICK(r, ports), "protocol", proto);
		bool twice = false;
		json_t *o, *other;
		size_t i;

		json_array_foreach (c, i, o) {
			other = json_array_get(json_object_get(o, "ports"), 0);
			twice |= !strcmp(json_string_value(json_object_get(other, "name")), name);
		}
		if (twice)
			json_decref(p);
		else
			json_array_append_new(c,
					      json_pack("{s:s,s:[o]}", "name", name, "ports", p));
	}
	return c;
}

json_t *cluster_pod(struct rng *r, unsigned i)
{
	bool host = rng_chance(r, 8);
	unsigned node = rng_below(r, CLUSTER_NODES);
	json_t *ips = json_array(), *o;

	if (host) {
		json_array_append_new(
			ips, json_pack("{s:o}", "ip", json_sprintf("192.168.0.%u", node + 1)));
	} else {
		json_array_append_new(
			ips, json_pack("{s:o}", "ip", json_sprintf("10.%u.0.%u", i % 4, i + 1)));
		if (rng_chance(r, 50))
			json_array_append_new(ips,
					      json_pack("{s:o}", "ip",
							json_sprintf("fd00:%u::%u", i % 4, i + 1)));
		if (rng_chance(r, 10)) { /* the other family first */
			json_t *first = json_incref(json_array_get(ips, 0));

			json_array_remove(ips, 0);
			json_array_append_new(ips, first);
		}
	}
	o = json_pack("{s:s,s:s,s:{s:o,s:o,s:o},s:{s:o,s:b,s:o},s:{s:s,s:o}}", "apiVersion", "v1",
		      "kind", "Pod", "metadata", "name", json_sprintf("pod%u", i), "namespace",
		      json_sprintf("ns%u", i % CLUSTER_NAMESPACES), "labels", labels(r), "spec",
		      "nodeName", json_sprintf("node%u", node), "hostNetwork", host, "containers",
		      containers(r), "status", "phase",
		      rng_chance(r, 5)	 ? "Succeeded"
		      : rng_chance(r, 5) ? "Failed"
					 : "Running",
		      "podIPs", ips);
	return o;
}

static json_t *block(struct rng *r)
{
	static const char *const cidrs[] = {
		"0.0.0.0/0",	  "::/0",	    "10.0.0.0/8",     "10.0.0.0/16",
		"10.1.0.0/16",	  "10.2.0.0/15",    "10.0.0.0/28",    "10.1.0.2/32",
		"192.168.0.0/24", "192.168.0.1/32", "203.0.113.0/24", "203.0.113.128/25",
		"fd00::/16",	  "fd00:1::/32",    "fd00::/8",	      "fd01::1/128",
		"2001:db8::/32",  "10.0.0.4/30",
	};
	json_t *b = json_object(), *ex;
	const char *cidr = PICK(r, cidrs);

	json_object_set_new(b, "cidr", json_string(cidr));
	if (!rng_chance(r, 40))
		return b;
	ex = json_array();
	for (unsigned n = 0; n < 8 && json_array_size(ex) < 2; n++) {
		const char *e = PICK(r, cidrs);
		struct bn_cidr a, c;

		assert_int_equal(bn_cidr_parse(cidr, &a), 0);
		assert_int_equal(bn_cidr_parse(e, &c), 0);
		if (c.prefix > a.prefix && bn_cidr_contains(&a, &c.addr))
			json_array_append_new(ex, json_string(e));
	}
	json_object_set_new(b, "except", ex);
	return b;
}

static json_t *peer(struct rng *r)
{
	json_t *p = json_object();
	unsigned what = rng_below(r, 10);

	if (what < 4) {
		json_object_set_new(p, "ipBlock", block(r));
		return p;
	}
	if (what < 6 || what >= 8)
		json_object_set_new(p, "podSelector", selector(r, false));
	if (what >= 6)
		json_object_set_new(p, "namespaceSelector", selector(r, true));
	return p;
}

static json_t *port_item(struct rng *r)
{
	json_t *p = json_object();
	int port = PICK(r, ports);

	if (rng_chance(r, 70))
		json_object_set_new(p, "protocol", json_string(PICK(r, protos)));
	switch (rng_below(r, 5)) {
	case 0:
		break;
	case 1:
		json_object_set_new(p, "port", json_string(PICK(r, names)));
		break;
	case 2:
		json_object_set_new(p, "port", json_integer(port));
		json_object_set_new(
			p, "endPort",
			json_integer(port > 60000 ? port : port + (int)rng_below(r, 500)));
		break;
	default:
		json_object_set_new(p, "port", json_integer(port));
	}
	return p;
}

static json_t *rule(struct rng *r, const char *side)
{
	json_t *o = json_object(), *list;

	if (rng_chance(r, 80)) {
		list = json_array();
		for (unsigned n = rng_below(r, 4); n; n--)
			json_array_append_new(list, peer(r));
		json_object_set_new(o, side, list);
	}
	if (rng_chance(r, 65)) {
		list = json_array();
		for (unsigned n = rng_below(r, 4); n; n--)
			json_array_append_new(list, port_item(r));
		json_object_set_new(o, "ports", list);
	}
	return o;
}

static json_t *rules(struct rng *r, const char *side)
{
	json_t *list = json_array();

	for (unsigned n = rng_below(r, 4); n; n--)
		json_array_append_new(list, rule(r, side));
	return list;
}

json_t *cluster_policy(struct rng *r, unsigned i)
{
	json_t *spec = json_pack("{s:o}", "podSelector", selector(r, false)), *types;

	if (rng_chance(r, 75))
		json_object_set_new(spec, "ingress", rules(r, "from"));
	if (rng_chance(r, 60))
		json_object_set_new(spec, "egress", rules(r, "to"));
	if (rng_chance(r, 60)) {
		types = json_array();
		if (rng_chance(r, 75))
			json_array_append_new(types, json_string("Ingress"));
		if (rng_chance(r, 75))
			json_array_append_new(types, json_string("Egress"));
		json_object_set_new(spec, "policyTypes", types);
	}
	return json_pack("{s:s,s:s,s:{s:o,s:o},s:o}", "apiVersion", "networking.k8s.io/v1", "kind",
			 "NetworkPolicy", "metadata", "name", json_sprintf("pol%u", i), "namespace",
			 json_sprintf("ns%u", i % CLUSTER_NAMESPACES), "spec", spec);
}

json_t *cluster_random(struct rng *r, unsigned npods, unsigned npolicies)
{
	json_t *c = json_array();

	for (unsigned i = 0; i < CLUSTER_NAMESPACES; i++)
		if (i != 3 || rng_chance(r, 50)) /* pods may be known before their namespace */
			json_array_append_new(c, cluster_namespace(r, i));
	for (unsigned i = 0; i < CLUSTER_NODES; i++)
		json_array_append_new(c, cluster_node(r, i));
	for (unsigned i = 0; i < npods; i++)
		json_array_append_new(c, cluster_pod(r, i));
	for (unsigned i = 0; i < npolicies; i++)
		json_array_append_new(c, cluster_policy(r, i));
	return c;
}

static json_t *random_of(struct rng *r, json_t *cluster, const char *kind)
{
	for (unsigned tries = 0; tries < 200; tries++) {
		json_t *o =
			json_array_get(cluster, rng_below(r, (uint32_t)json_array_size(cluster)));

		if (o && !strcmp(json_string_value(json_object_get(o, "kind")), kind))
			return o;
	}
	return NULL;
}

const char *cluster_endpoint(struct rng *r, json_t *cluster, char *buf)
{
	static const char *const outside[] = {
		"8.8.8.8",	"203.0.113.5", "203.0.113.200", "10.9.9.9",   "10.0.0.250",
		"192.168.0.77", "2001:db8::5", "fd00:1::99",	"fd00:77::1", "2600::1"};
	json_t *o, *list, *a;

	switch (rng_below(r, 10)) {
	case 0:
		snprintf(buf, 64, "%s", PICK(r, outside));
		return buf;
	case 1:
	case 2: /* an address that somebody has */
		o = random_of(r, cluster, rng_chance(r, 60) ? "Pod" : "Node");
		if (!o)
			break;
		list = json_object_get(json_object_get(o, "status"), "podIPs")
			       ?: json_object_get(json_object_get(o, "status"), "addresses");
		a = json_array_get(list, rng_below(r, (uint32_t)json_array_size(list)));
		snprintf(buf, 64, "%s",
			 json_string_value(json_object_get(a, "ip")
						   ?: json_object_get(a, "address")));
		return buf;
	default:
		break;
	}
	o = random_of(r, cluster, "Pod");
	if (!o) {
		snprintf(buf, 64, "%s", PICK(r, outside));
		return buf;
	}
	o = json_object_get(o, "metadata");
	snprintf(buf, 64, "%s/%s", json_string_value(json_object_get(o, "namespace")),
		 json_string_value(json_object_get(o, "name")));
	return buf;
}

void cluster_port(struct rng *r, const char **proto, int *port)
{
	*proto = PICK(r, protos);
	*port = rng_chance(r, 80) ? PICK(r, ports) : (int)(1 + rng_below(r, 65535));
}

void cluster_put(struct bn_store *s, json_t *obj)
{
	struct bn_obj *o = NULL;
	struct bn_err err;
	int r = bn_object_parse(obj, &o, &err);

	if (r < 0)
		print_error("%s: %s\n%s\n", err.field, err.msg, json_dumps(obj, 0));
	assert_int_equal(r, 0);
	assert_int_equal(bn_store_put(s, o), 0);
	bn_obj_unref(o);
}

void cluster_load(struct bn_store *s, json_t *cluster)
{
	json_t *o;
	size_t i;

	json_array_foreach (cluster, i, o)
		cluster_put(s, o);
}

static const char *meta(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(json_object_get(o, "metadata"), key));

	return s ? s : "";
}

json_t *cluster_find(json_t *cluster, const char *kind, const char *ns, const char *name)
{
	json_t *o;
	size_t i;

	json_array_foreach (cluster, i, o)
		if (!strcmp(json_string_value(json_object_get(o, "kind")), kind) &&
		    !strcmp(meta(o, "namespace"), ns) && !strcmp(meta(o, "name"), name))
			return o;
	return NULL;
}

void cluster_replace(json_t *cluster, json_t *obj)
{
	const char *kind = json_string_value(json_object_get(obj, "kind"));
	json_t *old = cluster_find(cluster, kind, meta(obj, "namespace"), meta(obj, "name"));
	json_t *o;
	size_t i;

	json_array_foreach (cluster, i, o) {
		if (o != old)
			continue;
		json_array_set_new(cluster, i, obj);
		return;
	}
	json_array_append_new(cluster, obj);
}

/* --- large ones ------------------------------------------------------------------------------- */

json_t *scale_pod(unsigned i)
{
	return json_pack(
		"{s:s,s:s,s:{s:o,s:o,s:{s:o,s:o,s:o,s:s}},s:{s:o,s:[{s:s,s:[{s:s,s:i}]}]},s:{s:s,s:"
		"["
		"{s:o}]}}",
		"apiVersion", "v1", "kind", "Pod", "metadata", "name", json_sprintf("pod-%u", i),
		"namespace", json_sprintf("ns%u", i % SCALE_NAMESPACES), "labels", "app",
		json_sprintf("app%u", i / SCALE_NAMESPACES % SCALE_APPS), "tier",
		json_sprintf("tier%u", i / SCALE_NAMESPACES % 3), "pod-template-hash",
		json_sprintf("%x", i / 3), "managed", "yes", "spec", "nodeName",
		json_sprintf("node%u", i % 100), "containers", "name", "c", "ports", "name", "http",
		"containerPort", 8080 + (int)(i % 2), "status", "phase", "Running", "podIPs", "ip",
		json_sprintf("10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255));
}

/* As people write them: an app of the own namespace, an app of another one, a block, DNS. */
json_t *scale_policy(unsigned i, unsigned version)
{
	unsigned ns = i % SCALE_NAMESPACES, app = i / SCALE_NAMESPACES % SCALE_APPS;
	json_t *from = json_array(), *spec;

	json_array_append_new(from,
			      json_pack("{s:{s:{s:o}}}", "podSelector", "matchLabels", "app",
					json_sprintf("app%u", (app + 1 + version) % SCALE_APPS)));
	json_array_append_new(from, json_pack("{s:{s:{s:o}},s:{s:{s:s}}}", "namespaceSelector",
					      "matchLabels", "kubernetes.io/metadata.name",
					      json_sprintf("ns%u", (ns + 7) % SCALE_NAMESPACES),
					      "podSelector", "matchLabels", "tier", "tier1"));
	if (i % 5 == 0)
		json_array_append_new(from, json_pack("{s:{s:o,s:[o]}}", "ipBlock", "cidr",
						      json_sprintf("172.%u.0.0/16", 16 + i % 16),
						      "except",
						      json_sprintf("172.%u.9.0/24", 16 + i % 16)));
	spec = json_pack(
		"{s:{s:{s:o}},s:[s,s],s:[{s:o,s:[{s:i},{s:s}]}],s:[{s:[{s:i,s:s}]},{s:[{s:{}}]}]}",
		"podSelector", "matchLabels", "app", json_sprintf("app%u", app), "policyTypes",
		"Ingress", "Egress", "ingress", "from", from, "ports", "port", 80 + (int)(i % 4),
		"port", "http", "egress", "ports", "port", 53, "protocol", "UDP", "to",
		"podSelector");
	return json_pack("{s:s,s:s,s:{s:o,s:o},s:o}", "apiVersion", "networking.k8s.io/v1", "kind",
			 "NetworkPolicy", "metadata", "name", json_sprintf("policy-%u", i),
			 "namespace", json_sprintf("ns%u", ns), "spec", spec);
}

json_t *scale_cluster(unsigned pods, unsigned policies)
{
	json_t *all = json_array();

	for (unsigned i = 0; i < SCALE_NAMESPACES; i++)
		json_array_append_new(all, json_pack("{s:s,s:s,s:{s:o}}", "apiVersion", "v1",
						     "kind", "Namespace", "metadata", "name",
						     json_sprintf("ns%u", i)));
	for (unsigned i = 0; i < pods; i++)
		json_array_append_new(all, scale_pod(i));
	for (unsigned i = 0; i < policies; i++)
		json_array_append_new(all, scale_policy(i, 0));
	return all;
}
