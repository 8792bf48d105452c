/* SPDX-License-Identifier: MIT */
/* Pod, Namespace and Node. */
#include <string.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/object_read.h"

/* A list of {ip}, as status.podIPs is, or the single older field. */
static int pod_ips(struct bn_rd *rd, const struct bn_at *status, const json_t *json,
		   struct bn_pod *pod)
{
	const char *one, *s;
	const json_t *list;
	size_t n, i;
	int r;

	r = bn_rd_str(rd, status, json, "podIP", BN_STR_MAX, &one);
	r = r ?: bn_rd_list(rd, status, json, "podIPs", 64, &list, &n);
	r = r ?: bn_rd_array(rd, &pod->ips, n ?: (one && *one), sizeof(*pod->ips));
	if (r < 0)
		return r;
	if (!n && one && *one) {
		pod->nips = 1;
		return bn_rd_addr(rd, BN_AT(status, "podIP"), one, pod->ips);
	}
	for (i = 0; i < n; i++) {
		const struct bn_at *at = BN_AT_I(BN_AT(status, "podIPs"), i);
		const json_t *e = json_array_get(list, i);

		if (!json_is_object(e))
			return bn_rd_fail(rd, at, "must be an object");
		r = bn_rd_str(rd, at, e, "ip", BN_STR_MAX, &s);
		if (!r && s && *s)
			r = bn_rd_addr(rd, BN_AT(at, "ip"), s, &pod->ips[pod->nips++]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int container_ports(struct bn_rd *rd, const struct bn_at *at, const json_t *container,
			   struct bn_pod *pod)
{
	const json_t *list;
	size_t n, i;
	int r;

	r = bn_rd_list(rd, at, container, "ports", BN_LIST_MAX, &list, &n);
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *here = BN_AT_I(BN_AT(at, "ports"), i);
		const json_t *e = json_array_get(list, i);
		struct bn_pod_port p = { 0 };
		const char *name;
		long port;
		bool has;

		if (!json_is_object(e))
			return bn_rd_fail(rd, here, "must be an object");
		r = bn_rd_str(rd, here, e, "name", BN_STR_MAX, &name);
		r = r ?: bn_rd_proto(rd, here, e, &p.proto);
		r = r ?: bn_rd_int(rd, here, e, "containerPort", 1, 65535, &has, &port);
		if (r < 0 || !name || !*name)
			continue;
		if (!has)
			return bn_rd_fail(rd, BN_AT(here, "containerPort"), "is required");
		if (!bn_port_name(name))
			return bn_rd_fail(rd, BN_AT(here, "name"), "'%.64s' is not a port's name",
					  name);
		p.port = (uint16_t)port;
		r = bn_rd_intern(rd, name, &p.name);
		pod->ports[pod->nports++] = p;
	}
	return r;
}

/* Counted first: the array is one piece. Wrong types count as nothing and are found later. */
static size_t count_ports(const json_t *list)
{
	const json_t *c;
	size_t i, n = 0;

	json_array_foreach(list, i, c)
		n += json_array_size(json_object_get(c, "ports"));
	return n;
}

static int pod_ports(struct bn_rd *rd, const struct bn_at *spec, const json_t *json,
		     struct bn_pod *pod)
{
	static const char *const keys[] = { "containers", "initContainers" };
	const json_t *lists[2];
	size_t n[2], i, k;
	const char *restart;
	int r;

	r = bn_rd_list(rd, spec, json, keys[0], BN_LIST_MAX, &lists[0], &n[0]);
	r = r ?: bn_rd_list(rd, spec, json, keys[1], BN_LIST_MAX, &lists[1], &n[1]);
	r = r ?: bn_rd_array(rd, &pod->ports, count_ports(lists[0]) + count_ports(lists[1]),
			     sizeof(*pod->ports));
	for (k = 0; !r && k < 2; k++) {
		for (i = 0; !r && i < n[k]; i++) {
			const struct bn_at *at = BN_AT_I(BN_AT(spec, keys[k]), i);
			const json_t *c = json_array_get(lists[k], i);

			if (!json_is_object(c))
				return bn_rd_fail(rd, at, "must be an object");
			r = bn_rd_str(rd, at, c, "restartPolicy", BN_STR_MAX, &restart);
			/* an init container that is not restartable ends before the others start */
			if (!r && (!k || (restart && !strcmp(restart, "Always"))))
				r = container_ports(rd, at, c, pod);
		}
	}
	return r;
}

int bn_parse_pod(struct bn_rd *rd, const json_t *json, struct bn_pod *pod)
{
	const struct bn_at *at_meta = BN_AT(NULL, "metadata"), *at_spec = BN_AT(NULL, "spec");
	const struct bn_at *at_status = BN_AT(NULL, "status");
	const json_t *meta = json_object_get(json, "metadata"), *spec, *status;
	const char *deletion, *phase, *uid;
	int r;

	r = bn_rd_get(rd, NULL, json, "spec", JSON_OBJECT, &spec);
	r = r ?: bn_rd_get(rd, NULL, json, "status", JSON_OBJECT, &status);
	r = r ?: bn_rd_str(rd, at_meta, meta, "deletionTimestamp", BN_STR_MAX, &deletion);
	r = r ?: bn_rd_str(rd, at_meta, meta, "uid", 128, &uid);
	r = r ?: bn_rd_str(rd, at_status, status, "phase", BN_STR_MAX, &phase);
	r = r ?: bn_rd_istr(rd, at_spec, spec, "nodeName", 253, &pod->node);
	r = r ?: bn_rd_bool(rd, at_spec, spec, "hostNetwork", false, &pod->host_network);
	if (r < 0)
		return r;
	if (pod->node && !*pod->node)
		pod->node = NULL;
	pod->deleting = deletion;
	pod->finished = phase && (!strcmp(phase, "Succeeded") || !strcmp(phase, "Failed"));
	r = pod_ips(rd, at_status, status, pod);
	r = r ?: pod_ports(rd, at_spec, spec, pod);
	if (!r && uid && *uid)
		r = bn_rd_copy(rd, &pod->uid, uid);
	return r;
}

int bn_parse_namespace(struct bn_rd *rd, const json_t *json, struct bn_namespace *ns)
{
	const char *audit = bn_meta_annotation(json, "bpfnet.io/policy-audit");
	struct bn_labels old = ns->o.labels;
	const char *key;
	uint32_t i, n;
	int r;

	ns->audit = audit && !strcmp(audit, "true");
	r = bn_rd_intern(rd, "kubernetes.io/metadata.name", &key);
	if (r < 0)
		return r;
	/* The API server keeps this label equal to the name; a file need not say it. */
	for (i = 0; i < old.n; i++) {
		if (old.v[i].key == key) {
			old.v[i].val = ns->o.name;
			return 0;
		}
	}
	r = bn_rd_array(rd, &ns->o.labels.v, old.n + 1, sizeof(*old.v));
	if (r < 0)
		return r;
	for (i = n = 0; i < old.n; i++) {
		if (n == i && strcmp(old.v[i].key, key) > 0)
			ns->o.labels.v[n++] = (struct bn_label){ key, ns->o.name };
		ns->o.labels.v[n++] = old.v[i];
	}
	if (n == i)
		ns->o.labels.v[n++] = (struct bn_label){ key, ns->o.name };
	ns->o.labels.n = n;
	return 0;
}

static int node_addresses(struct bn_rd *rd, const json_t *status, struct bn_node *node)
{
	static const char *const types[] = { "InternalIP", "ExternalIP" };
	const struct bn_at *at = BN_AT(BN_AT(NULL, "status"), "addresses");
	const char *type, *s;
	const json_t *list;
	size_t n, i, k;
	int r;

	r = bn_rd_list(rd, at->up, status, "addresses", 1024, &list, &n);
	r = r ?: bn_rd_array(rd, &node->ips, n, sizeof(*node->ips));
	for (k = 0; !r && k < ARRAY_SIZE(types); k++) {
		for (i = 0; !r && i < n; i++) {
			const struct bn_at *here = BN_AT_I(at, i);
			const json_t *e = json_array_get(list, i);

			if (!json_is_object(e))
				return bn_rd_fail(rd, here, "must be an object");
			r = bn_rd_str(rd, here, e, "type", BN_STR_MAX, &type);
			r = r ?: bn_rd_str(rd, here, e, "address", BN_STR_MAX, &s);
			if (r < 0 || !type || strcmp(type, types[k]))
				continue;
			if (!s)
				return bn_rd_fail(rd, BN_AT(here, "address"), "is required");
			r = bn_rd_addr(rd, BN_AT(here, "address"), s, &node->ips[node->nips++]);
		}
		if (!k)
			node->ninternal = node->nips;
	}
	return r;
}

static int node_cidrs(struct bn_rd *rd, const json_t *spec, struct bn_node *node)
{
	const struct bn_at *at = BN_AT(NULL, "spec");
	const char *one, *s;
	const json_t *list;
	size_t n, i;
	int r;

	r = bn_rd_str(rd, at, spec, "podCIDR", BN_STR_MAX, &one);
	r = r ?: bn_rd_list(rd, at, spec, "podCIDRs", 64, &list, &n);
	r = r ?: bn_rd_array(rd, &node->pod_cidrs, n ?: (one && *one), sizeof(*node->pod_cidrs));
	if (!r && !n && one && *one) {
		node->npod_cidrs = 1;
		return bn_rd_cidr(rd, BN_AT(at, "podCIDR"), one, node->pod_cidrs);
	}
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *here = BN_AT_I(BN_AT(at, "podCIDRs"), i);

		r = bn_rd_text(rd, here, json_array_get(list, i), BN_STR_MAX, &s);
		r = r ?: bn_rd_cidr(rd, here, s, &node->pod_cidrs[i]);
	}
	node->npod_cidrs = (uint32_t)n;
	return r;
}

static int node_taints(struct bn_rd *rd, const json_t *spec, struct bn_node *node)
{
	const struct bn_at *at = BN_AT(NULL, "spec");
	const json_t *list;
	const char *key;
	size_t n, i;
	int r;

	r = bn_rd_list(rd, at, spec, "taints", BN_LIST_MAX, &list, &n);
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *here = BN_AT_I(BN_AT(at, "taints"), i);

		if (!json_is_object(json_array_get(list, i)))
			return bn_rd_fail(rd, here, "must be an object");
		r = bn_rd_str(rd, here, json_array_get(list, i), "key", BN_STR_MAX, &key);
		if (!r && key && !strcmp(key, "ToBeDeletedByClusterAutoscaler"))
			node->to_be_deleted = true;
	}
	return r;
}

int bn_parse_node(struct bn_rd *rd, const json_t *json, struct bn_node *node)
{
	const json_t *meta = json_object_get(json, "metadata"), *spec, *status;
	const char *deletion, *key, *dsr;
	int r;

	r = bn_rd_intern(rd, "topology.kubernetes.io/zone", &key);
	r = r ?: bn_rd_get(rd, NULL, json, "spec", JSON_OBJECT, &spec);
	r = r ?: bn_rd_get(rd, NULL, json, "status", JSON_OBJECT, &status);
	r = r ?: bn_rd_str(rd, BN_AT(NULL, "metadata"), meta, "deletionTimestamp", BN_STR_MAX,
			   &deletion);
	if (r < 0)
		return r;
	node->zone = bn_labels_get(&node->o.labels, key);
	node->deleting = deletion;
	dsr = bn_meta_annotation(json, "bpfnet.io/dsr");
	node->dsr = dsr && !strcmp(dsr, "v1"); /* a later version: not this one */
	r = node_addresses(rd, status, node);
	r = r ?: node_cidrs(rd, spec, node);
	return r ?: node_taints(rd, spec, node);
}
