// SPDX-License-Identifier: MIT
#include "tests/unit/oracle.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const char *text(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static json_t *get(json_t *o, const char *a, const char *b)
{
	return json_object_get(json_object_get(o, a), b);
}

static bool is_kind(json_t *o, const char *kind)
{
	return !strcmp(text(o, "kind"), kind);
}

static const char *namespace_of(json_t *o)
{
	const char *ns = json_string_value(get(o, "metadata", "namespace"));

	return ns ? ns : "default";
}

static bool host_network(json_t *pod)
{
	return json_is_true(get(pod, "spec", "hostNetwork"));
}

static bool finished(json_t *pod)
{
	const char *phase = json_string_value(get(pod, "status", "phase"));

	return phase && (!strcmp(phase, "Succeeded") || !strcmp(phase, "Failed"));
}

/* --- addresses -------------------------------------------------------------------------------- */

struct ip {
	int len; /* 4 or 16 */
	unsigned char b[16];
};

static bool parse_ip(const char *s, struct ip *ip)
{
	memset(ip, 0, sizeof(*ip));
	if (inet_pton(AF_INET, s, ip->b) == 1)
		ip->len = 4;
	else if (inet_pton(AF_INET6, s, ip->b) == 1)
		ip->len = 16;
	return ip->len;
}

static bool in_cidr(const char *cidr, const struct ip *ip)
{
	char net[64];
	struct ip n;
	int bits;

	snprintf(net, sizeof(net), "%s", cidr);
	bits = atoi(strchr(net, '/') + 1);
	*strchr(net, '/') = 0;
	if (!parse_ip(net, &n) || n.len != ip->len)
		return false;
	for (int i = 0; i < bits; i++)
		if ((n.b[i / 8] ^ ip->b[i / 8]) >> (7 - i % 8) & 1)
			return false;
	return true;
}

static json_t *pod_named(json_t *cluster, const char *name)
{
	char full[600];
	json_t *o;
	size_t i;

	json_array_foreach (cluster, i, o) {
		snprintf(full, sizeof(full), "%s/%s", namespace_of(o),
			 json_string_value(get(o, "metadata", "name")));
		if (is_kind(o, "Pod") && !strcmp(full, name))
			return o;
	}
	return NULL;
}

static json_t *pod_with_address(json_t *cluster, const struct ip *want)
{
	json_t *o, *a;
	size_t i, j;
	struct ip ip;

	json_array_foreach (cluster, i, o) {
		if (!is_kind(o, "Pod") || host_network(o) || finished(o))
			continue;
		json_array_foreach (get(o, "status", "podIPs"), j, a)
			if (parse_ip(text(a, "ip"), &ip) && ip.len == want->len &&
			    !memcmp(ip.b, want->b, ip.len))
				return o;
	}
	return NULL;
}

static const char *node_with_address(json_t *cluster, const struct ip *want)
{
	json_t *o, *a;
	size_t i, j;
	struct ip ip;

	json_array_foreach (cluster, i, o) {
		if (!is_kind(o, "Node"))
			continue;
		json_array_foreach (get(o, "status", "addresses"), j, a)
			if (parse_ip(text(a, "address"), &ip) && ip.len == want->len &&
			    !memcmp(ip.b, want->b, ip.len))
				return json_string_value(get(o, "metadata", "name"));
	}
	return NULL;
}

struct end {
	struct ip ip;
	json_t *pod; /* NULL: no pod that selectors see */
	const char *node;
};

static bool resolve(json_t *cluster, const char *name, struct end *e)
{
	json_t *pod;

	memset(e, 0, sizeof(*e));
	if (!parse_ip(name, &e->ip)) {
		pod = pod_named(cluster, name);
		if (!pod || finished(pod) ||
		    !parse_ip(text(json_array_get(get(pod, "status", "podIPs"), 0), "ip"), &e->ip))
			return false;
		if (host_network(pod)) {
			e->node = json_string_value(get(pod, "spec", "nodeName"));
			return true;
		}
	}
	e->pod = pod_with_address(cluster, &e->ip);
	if (!e->pod)
		e->node = node_with_address(cluster, &e->ip);
	return true;
}

/* --- selectors -------------------------------------------------------------------------------- */

static bool expression(json_t *e, const char *val)
{
	const char *op = text(e, "operator");
	bool in = false;
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(e, "values"), i, v)
		if (val && !strcmp(json_string_value(v), val))
			in = true;
	if (!strcmp(op, "In"))
		return in;
	if (!strcmp(op, "NotIn"))
		return !in;
	if (!strcmp(op, "Exists"))
		return val != NULL;
	return val == NULL;
}

static bool selector(json_t *sel, json_t *labels)
{
	const char *key;
	json_t *v, *e;
	size_t i;

	json_object_foreach (json_object_get(sel, "matchLabels"), key, v)
		if (strcmp(text(labels, key), json_string_value(v)) ||
		    !json_object_get(labels, key))
			return false;
	json_array_foreach (json_object_get(sel, "matchExpressions"), i, e)
		if (!expression(e, json_string_value(json_object_get(labels, text(e, "key")))))
			return false;
	return true;
}

static bool present(json_t *v)
{
	return v && !json_is_null(v);
}

static bool namespace_matches(json_t *cluster, json_t *sel, const char *ns)
{
	json_t *labels = NULL, *o;
	bool ok;
	size_t i;

	json_array_foreach (cluster, i, o)
		if (is_kind(o, "Namespace") &&
		    !strcmp(json_string_value(get(o, "metadata", "name")), ns))
			labels = json_deep_copy(get(o, "metadata", "labels"));
	if (!labels)
		labels = json_object();
	json_object_set_new(labels, "kubernetes.io/metadata.name", json_string(ns));
	ok = selector(sel, labels);
	json_decref(labels);
	return ok;
}

/* --- rules ------------------------------------------------------------------------------------ */

static bool peer_matches(json_t *cluster, json_t *policy, json_t *peer, const struct end *e)
{
	json_t *block = json_object_get(peer, "ipBlock"), *x;
	json_t *ps = json_object_get(peer, "podSelector");
	json_t *nss = json_object_get(peer, "namespaceSelector");
	size_t i;

	if (present(block)) {
		if (!in_cidr(text(block, "cidr"), &e->ip))
			return false;
		json_array_foreach (json_object_get(block, "except"), i, x)
			if (in_cidr(json_string_value(x), &e->ip))
				return false;
		return true;
	}
	if (!e->pod)
		return false;
	if (present(nss)) {
		if (!namespace_matches(cluster, nss, namespace_of(e->pod)))
			return false;
	} else if (strcmp(namespace_of(policy), namespace_of(e->pod))) {
		return false;
	}
	return !present(ps) || selector(ps, get(e->pod, "metadata", "labels"));
}

static int named_port(json_t *pod, const char *name, const char *proto)
{
	json_t *c, *p;
	size_t i, j;

	json_array_foreach (get(pod, "spec", "containers"), i, c)
		json_array_foreach (json_object_get(c, "ports"), j, p) {
			const char *pp = json_string_value(json_object_get(p, "protocol"));

			if (!strcmp(text(p, "name"), name) && !strcmp(pp ? pp : "TCP", proto))
				return (int)json_integer_value(json_object_get(p, "containerPort"));
		}
	return -1;
}

static bool port_matches(json_t *item, const char *proto, int port, json_t *dst_pod)
{
	const char *want = json_string_value(json_object_get(item, "protocol"));
	json_t *p = json_object_get(item, "port"), *end = json_object_get(item, "endPort");

	if (strcmp(want ? want : "TCP", proto))
		return false;
	if (!present(p))
		return true;
	if (json_is_string(p))
		return dst_pod && named_port(dst_pod, json_string_value(p), proto) == port;
	if (present(end))
		return port >= json_integer_value(p) && port <= json_integer_value(end);
	return port == json_integer_value(p);
}

static bool rule_allows(json_t *cluster, json_t *policy, json_t *rule, bool egress,
			const struct end *src, const struct end *dst, const char *proto, int port)
{
	json_t *peers = json_object_get(rule, egress ? "to" : "from"), *peer, *item;
	json_t *ports = json_object_get(rule, "ports");
	size_t i, j;

	for (i = 0; i < (json_array_size(peers) ? json_array_size(peers) : 1); i++) {
		json_t *pod = dst->pod;

		peer = json_array_get(peers, i);
		if (peer && !peer_matches(cluster, policy, peer, egress ? dst : src))
			continue;
		if (!json_array_size(ports))
			return true;
		/* what an ipBlock finds in egress has no names */
		if (egress && peer && present(json_object_get(peer, "ipBlock")))
			pod = NULL;
		json_array_foreach (ports, j, item)
			if (port_matches(item, proto, port, pod))
				return true;
	}
	return false;
}

static bool has_type(json_t *policy, bool egress)
{
	json_t *types = get(policy, "spec", "policyTypes"), *t;
	size_t i;

	if (!json_array_size(types))
		return !egress || json_array_size(get(policy, "spec", "egress"));
	json_array_foreach (types, i, t)
		if (!strcmp(json_string_value(t), egress ? "Egress" : "Ingress"))
			return true;
	return false;
}

static bool selects(json_t *policy, bool egress, json_t *pod)
{
	return is_kind(policy, "NetworkPolicy") && has_type(policy, egress) &&
	       !strcmp(namespace_of(policy), namespace_of(pod)) &&
	       selector(get(policy, "spec", "podSelector"), get(pod, "metadata", "labels"));
}

static bool direction_allows(json_t *cluster, bool egress, const struct end *src,
			     const struct end *dst, const char *proto, int port)
{
	json_t *pod = egress ? src->pod : dst->pod, *o, *rule;
	bool isolated = false;
	size_t i, j;

	if (!pod || src->pod == dst->pod)
		return true;
	if (!egress && src->node) {
		const char *node = json_string_value(get(pod, "spec", "nodeName"));

		if (node && !strcmp(node, src->node))
			return true;
	}
	json_array_foreach (cluster, i, o) {
		if (!selects(o, egress, pod))
			continue;
		isolated = true;
		json_array_foreach (get(o, "spec", egress ? "egress" : "ingress"), j, rule)
			if (rule_allows(cluster, o, rule, egress, src, dst, proto, port))
				return true;
	}
	return !isolated;
}

int oracle_direction(json_t *cluster, const char *direction, const char *from, const char *to,
		     const char *proto, int port)
{
	struct end src, dst;

	if (!resolve(cluster, from, &src) || !resolve(cluster, to, &dst))
		return -1;
	return direction_allows(cluster, !strcmp(direction, "egress"), &src, &dst, proto, port);
}

int oracle_allows(json_t *cluster, const char *from, const char *to, const char *proto, int port)
{
	int e = oracle_direction(cluster, "egress", from, to, proto, port);
	int i = oracle_direction(cluster, "ingress", from, to, proto, port);

	return e < 0 ? e : e && i;
}

bool oracle_exempt(json_t *cluster, const char *direction, const char *name, const char *peer)
{
	struct end pod, other;
	const char *node;

	if (!resolve(cluster, name, &pod) || !resolve(cluster, peer, &other))
		return false;
	if (!pod.pod || pod.pod == other.pod)
		return true;
	node = json_string_value(get(pod.pod, "spec", "nodeName"));
	return !strcmp(direction, "ingress") && other.node && node && !strcmp(node, other.node);
}

bool oracle_isolated(json_t *cluster, const char *direction, const char *name)
{
	json_t *pod = pod_named(cluster, name), *o;
	size_t i;

	if (!pod || host_network(pod) || finished(pod))
		return false;
	json_array_foreach (cluster, i, o)
		if (selects(o, !strcmp(direction, "egress"), pod))
			return true;
	return false;
}
