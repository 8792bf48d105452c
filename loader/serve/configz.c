/* SPDX-License-Identifier: MIT */
#include "loader/serve/configz.h"

#include <string.h>

#include "maps/util.h"

static void add_cidr(char *buf, size_t len, const struct bn_cidr *c)
{
	char addr[BN_ADDR_STRLEN];
	size_t n = strlen(buf);

	snprintf(buf + n, len - n, "%s%s/%d", n ? "," : "", bn_addr_format(&c->addr, addr),
		 bn_addr_is_v4(&c->addr) && c->prefix >= 96 ? c->prefix - 96 : c->prefix);
}

static json_t *cidrs(const struct bn_cidr *v, unsigned n)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++) {
		char buf[BN_ADDR_STRLEN + 8] = "";

		add_cidr(buf, sizeof(buf), &v[i]);
		json_array_append_new(list, json_string(buf));
	}
	return list;
}

static json_t *strings(const char *const *v, unsigned n)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list, json_string(v[i]));
	return list;
}

static json_t *kube_proxy(const struct bn_opts *o)
{
	char cluster[1024] = "";

	for (unsigned i = 0; i < o->ncluster_cidrs; i++)
		add_cidr(cluster, sizeof(cluster), &o->cluster_cidrs[i]);
	return json_pack("{ss ss ss ss so sb ss ss sb ss}", "mode", "bpf", "hostnameOverride",
			 o->node_name, "clusterCIDR", cluster, "detectLocalMode",
			 *cluster ? "ClusterCIDR" : "", "nodePortAddresses",
			 cidrs(o->nodeport_cidrs, o->nnodeport_cidrs), "masqueradeAll",
			 o->masquerade_all, "healthzBindAddress", o->healthz_bind,
			 "metricsBindAddress", o->metrics_bind, "bindAddressHardFail", 0,
			 "serviceProxyName", o->service_proxy_name ?: "");
}

static json_t *own(const struct bn_opts *o)
{
	static const char *const unknown[] = { "auto", "drop", "allow" };
	static const char *const routing[] = { "auto", "bpf", "stack" };
	static const char *const modes[] = { "snat", "dsr", "hybrid" };
	static const char *const xdp[] = { "auto", "off", "native" };

	return json_pack("{ss ss* ss* ss ss ss ss* so so sb ss ss ss ss ss ss sb sb sI sI sI}", "version",
			 BN_VERSION, "manifests", o->manifests, "kubeconfig", o->kubeconfig, "bpffs",
			 o->bpffs, "runDir", o->run_dir, "stateDir", o->state_dir, "cgroup", o->cgroup,
			 "devices", strings(o->devices, o->ndevices), "podCIDRs",
			 cidrs(o->pod_cidrs, o->npod_cidrs), "socketLBPods", o->socket_lb_pods,
			 "unknownPods", unknown[o->unknown_pods], "hostRouting",
			 routing[o->host_routing], "lbMode", modes[o->lb_mode], "xdp", xdp[o->xdp],
			 "lbAlgorithm",
			 o->lb_algorithm, "cniCache", o->cni_cache, "denyReject", o->deny_reject,
			 "policyAudit", o->policy_audit, "ctMax", (json_int_t)o->ct_flows,
			 "httpMax", (json_int_t)o->http_conns, "maxBackends", (json_int_t)o->max_backends);
}

json_t *bn_configz(const struct bn_opts *o)
{
	return json_pack("{so so}", "kubeproxy.config.k8s.io", kube_proxy(o), "bpfnet", own(o));
}
