/* SPDX-License-Identifier: MIT */
/* Service, judged as the API server judges it, so that a file says no more than an object can. */
#include <string.h>

#include "maps/util.h"
#include "policy/object_read.h"

static const char *const type_names[] = {
	[BN_SVC_CLUSTERIP] = "ClusterIP",
	[BN_SVC_NODEPORT] = "NodePort",
	[BN_SVC_LOADBALANCER] = "LoadBalancer",
	[BN_SVC_EXTERNALNAME] = "ExternalName",
};
static const char *const policy_names[] = { "Cluster", "Local" };
static const char *const affinity_names[] = { "None", "ClientIP" };
static const char *const ip_modes[] = { "VIP", "Proxy" };

static int usable_addr(struct bn_rd *rd, const struct bn_at *at, const char *s, struct bn_addr *ret)
{
	const char *why;
	int r = bn_rd_addr(rd, at, s, ret);

	if (!r && bn_addr_unusable(ret, &why))
		r = bn_rd_fail(rd, at, "'%.64s' is %s: it can be no Service's address", s, why);
	return r;
}

static int cluster_ips(struct bn_rd *rd, const struct bn_at *spec, const json_t *json,
		       struct bn_service *svc)
{
	const json_t *list;
	const char *one, *s;
	struct bn_addr a;
	size_t n, i;
	int r;

	r = bn_rd_str(rd, spec, json, "clusterIP", BN_STR_MAX, &one);
	r = r ?: bn_rd_list(rd, spec, json, "clusterIPs", 2, &list, &n);
	r = r ?: bn_rd_array(rd, &svc->cluster_ips, n ?: (one && *one), sizeof(a));
	if (r < 0)
		return r;
	for (i = 0; i < n; i++) {
		const struct bn_at *at = BN_AT_I(BN_AT(spec, "clusterIPs"), i);

		r = bn_rd_text(rd, at, json_array_get(list, i), BN_STR_MAX, &s);
		if (r < 0)
			return r;
		if (!i && one && *one && strcmp(one, s))
			return bn_rd_fail(rd, at, "'%.64s' is not what clusterIP says", s);
		if (n == 1 && (!*s || !strcmp(s, "None"))) {
			svc->headless = true;
			return 0;
		}
		r = usable_addr(rd, at, s, &svc->cluster_ips[i]);
		if (r < 0)
			return r;
	}
	svc->ncluster_ips = (uint32_t)n;
	if (n == 2 && !bn_addr_is_v4(svc->cluster_ips) == !bn_addr_is_v4(svc->cluster_ips + 1))
		return bn_rd_fail(rd, BN_AT(spec, "clusterIPs"), "both are of one family");
	if (n)
		return 0;
	if (!one || !*one || !strcmp(one, "None")) {
		svc->headless = true;
		return 0;
	}
	svc->ncluster_ips = 1;
	return usable_addr(rd, BN_AT(spec, "clusterIP"), one, svc->cluster_ips);
}

static int external_ips(struct bn_rd *rd, const struct bn_at *spec, const json_t *json,
			struct bn_service *svc)
{
	const json_t *list;
	const char *s;
	size_t n, i;
	int r;

	r = bn_rd_list(rd, spec, json, "externalIPs", BN_LIST_MAX, &list, &n);
	r = r ?: bn_rd_array(rd, &svc->external_ips, n, sizeof(*svc->external_ips));
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *at = BN_AT_I(BN_AT(spec, "externalIPs"), i);

		r = bn_rd_text(rd, at, json_array_get(list, i), BN_STR_MAX, &s);
		r = r ?: usable_addr(rd, at, s, &svc->external_ips[i]);
	}
	svc->nexternal_ips = (uint32_t)n;
	return r;
}

/* loadBalancerSourceRanges may carry white space, which the API server trims. */
static int src_ranges(struct bn_rd *rd, const struct bn_at *spec, const json_t *json,
		      struct bn_service *svc)
{
	const json_t *list;
	size_t n, i, len;
	const char *s;
	char buf[64];
	int r;

	r = bn_rd_list(rd, spec, json, "loadBalancerSourceRanges", BN_LIST_MAX, &list, &n);
	r = r ?: bn_rd_array(rd, &svc->src_ranges, n, sizeof(*svc->src_ranges));
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *at = BN_AT_I(BN_AT(spec, "loadBalancerSourceRanges"), i);

		r = bn_rd_text(rd, at, json_array_get(list, i), BN_STR_MAX, &s);
		if (r < 0)
			return r;
		s += strspn(s, " \t\r\n");
		for (len = strlen(s); len && strchr(" \t\r\n", s[len - 1]);)
			len--;
		if (len < sizeof(buf)) {
			memcpy(buf, s, len);
			buf[len] = 0;
			s = buf;
		}
		r = bn_rd_cidr(rd, at, s, &svc->src_ranges[i]);
	}
	svc->nsrc_ranges = (uint32_t)n;
	svc->has_src_ranges = n;
	return r;
}

/* Hostnames are for DNS; ipMode Proxy means that traffic arrives as NodePort: neither is a front. */
static int lb_ips(struct bn_rd *rd, const json_t *json, struct bn_service *svc)
{
	const struct bn_at *at = BN_AT(BN_AT(NULL, "status"), "loadBalancer");
	const json_t *status, *lb, *list;
	size_t n, i;
	int r;

	r = bn_rd_get(rd, NULL, json, "status", JSON_OBJECT, &status);
	r = r ?: bn_rd_get(rd, at->up, status, "loadBalancer", JSON_OBJECT, &lb);
	r = r ?: bn_rd_list(rd, at, lb, "ingress", BN_LIST_MAX, &list, &n);
	r = r ?: bn_rd_array(rd, &svc->lb_ips, n, sizeof(*svc->lb_ips));
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *here = BN_AT_I(BN_AT(at, "ingress"), i);
		const json_t *e = json_array_get(list, i);
		const char *ip;
		int mode;

		if (!json_is_object(e))
			return bn_rd_fail(rd, here, "must be an object");
		r = bn_rd_str(rd, here, e, "ip", BN_STR_MAX, &ip);
		r = r ?: bn_rd_enum(rd, here, e, "ipMode", ip_modes, ARRAY_SIZE(ip_modes), 0, &mode);
		if (r < 0 || !ip || !*ip)
			continue;
		r = usable_addr(rd, BN_AT(here, "ip"), ip, &svc->lb_ips[svc->nlb_ips]);
		svc->nlb_ips += !r && !mode;
	}
	return r;
}

static int one_port(struct bn_rd *rd, const struct bn_at *at, const json_t *json, size_t n,
		    struct bn_service_port *p)
{
	const char *name;
	long port, node_port;
	bool has;
	int r;

	if (!json_is_object(json))
		return bn_rd_fail(rd, at, "must be an object");
	r = bn_rd_str(rd, at, json, "name", BN_STR_MAX, &name);
	r = r ?: bn_rd_proto(rd, at, json, &p->proto);
	r = r ?: bn_rd_int(rd, at, json, "nodePort", 0, 65535, &has, &node_port);
	r = r ?: bn_rd_int(rd, at, json, "port", 1, 65535, &has, &port);
	if (r < 0)
		return r;
	if (!has)
		return bn_rd_fail(rd, BN_AT(at, "port"), "is required");
	name = name ?: "";
	if (!*name && n > 1)
		return bn_rd_fail(rd, BN_AT(at, "name"), "is required when there are several ports");
	if (*name && !bn_dns_label(name))
		return bn_rd_fail(rd, BN_AT(at, "name"), "'%.64s' is not a port's name", name);
	p->port = (uint16_t)port;
	p->node_port = (uint16_t)node_port;
	return bn_rd_intern(rd, name, &p->name);
}

static int ports(struct bn_rd *rd, const struct bn_at *spec, const json_t *json,
		 struct bn_service *svc)
{
	const json_t *list;
	size_t n, i, j;
	int r;

	/* Quadratic below, and nobody has more: the sum of all names must fit into an object. */
	r = bn_rd_list(rd, spec, json, "ports", 1024, &list, &n);
	r = r ?: bn_rd_array(rd, &svc->ports, n, sizeof(*svc->ports));
	if (r < 0)
		return r;
	if (!n && !svc->headless)
		return bn_rd_fail(rd, BN_AT(spec, "ports"), "is required");
	svc->nports = (uint32_t)n;
	for (i = 0; i < n; i++) {
		const struct bn_at *at = BN_AT_I(BN_AT(spec, "ports"), i);
		struct bn_service_port *p = &svc->ports[i];

		r = one_port(rd, at, json_array_get(list, i), n, p);
		if (r < 0)
			return r;
		for (j = 0; j < i; j++) {
			const struct bn_service_port *q = &svc->ports[j];

			if (q->name == p->name)
				return bn_rd_fail(rd, BN_AT(at, "name"), "'%s' stands in ports[%zu], too",
						  p->name, j);
			if (q->proto == p->proto && q->port == p->port)
				return bn_rd_fail(rd, BN_AT(at, "port"), "%u stands in ports[%zu], too",
						  p->port, j);
			if (q->proto == p->proto && q->node_port && q->node_port == p->node_port)
				return bn_rd_fail(rd, BN_AT(at, "nodePort"),
						  "%u stands in ports[%zu], too", p->node_port, j);
		}
	}
	return 0;
}

static int affinity(struct bn_rd *rd, const struct bn_at *spec, const json_t *json,
		    struct bn_service *svc)
{
	const struct bn_at *at = BN_AT(BN_AT(spec, "sessionAffinityConfig"), "clientIP");
	const json_t *config, *client;
	long timeout;
	bool has;
	int r, v;

	r = bn_rd_enum(rd, spec, json, "sessionAffinity", affinity_names,
		       ARRAY_SIZE(affinity_names), 0, &v);
	r = r ?: bn_rd_get(rd, spec, json, "sessionAffinityConfig", JSON_OBJECT, &config);
	r = r ?: bn_rd_get(rd, at->up, config, "clientIP", JSON_OBJECT, &client);
	r = r ?: bn_rd_int(rd, at, client, "timeoutSeconds", 1, 86400, &has, &timeout);
	if (r < 0)
		return r;
	svc->affinity_client_ip = v;
	svc->affinity_timeout_s = has ? (uint32_t)timeout : 10800;
	return 0;
}

static int traffic_policies(struct bn_rd *rd, const struct bn_at *spec, const json_t *json,
			    struct bn_service *svc)
{
	int etp, itp, r;
	long port;
	bool has;

	r = bn_rd_enum(rd, spec, json, "externalTrafficPolicy", policy_names,
		       ARRAY_SIZE(policy_names), 0, &etp);
	r = r ?: bn_rd_enum(rd, spec, json, "internalTrafficPolicy", policy_names,
			    ARRAY_SIZE(policy_names), 0, &itp);
	r = r ?: bn_rd_int(rd, spec, json, "healthCheckNodePort", 0, 65535, &has, &port);
	if (r < 0)
		return r;
	svc->etp_local = etp;
	svc->itp_local = itp;
	svc->health_node_port = (uint16_t)port;
	return 0;
}

static int annotations(struct bn_rd *rd, const json_t *json, struct bn_service *svc)
{
	const char *key = "bpfnet.io/lb-algorithm", *s = bn_meta_annotation(json, key);

	if (!s || !*s)
		return 0;
	if (strcmp(s, "random") && strcmp(s, "maglev"))
		return bn_rd_fail(rd, BN_AT_K(BN_AT(BN_AT(NULL, "metadata"), "annotations"), key),
				  "'%.64s' is not one of random, maglev", s);
	return bn_rd_intern(rd, s, &svc->lb_algorithm);
}

int bn_parse_service(struct bn_rd *rd, const json_t *json, struct bn_service *svc)
{
	const struct bn_at *spec = BN_AT(NULL, "spec");
	const json_t *s;
	const char *key;
	int r, type;

	r = bn_rd_intern(rd, "service.kubernetes.io/service-proxy-name", &key);
	r = r ?: bn_rd_get(rd, NULL, json, "spec", JSON_OBJECT, &s);
	r = r ?: bn_rd_enum(rd, spec, s, "type", type_names, ARRAY_SIZE(type_names),
			    BN_SVC_CLUSTERIP, &type);
	if (r < 0)
		return r;
	svc->proxy_name = bn_labels_get(&svc->o.labels, key);
	svc->type = (enum bn_svc_type)type;
	if (svc->type == BN_SVC_EXTERNALNAME)
		return 0; /* an alias in DNS: nothing here is ours */
	r = cluster_ips(rd, spec, s, svc);
	r = r ?: external_ips(rd, spec, s, svc);
	r = r ?: src_ranges(rd, spec, s, svc);
	r = r ?: lb_ips(rd, json, svc);
	r = r ?: ports(rd, spec, s, svc);
	r = r ?: affinity(rd, spec, s, svc);
	r = r ?: traffic_policies(rd, spec, s, svc);
	return r ?: annotations(rd, json, svc);
}
