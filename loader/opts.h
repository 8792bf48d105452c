/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_OPTS_H
#define BN_LOADER_OPTS_H

/* The daemon's command line, parsed and checked; immutable afterwards. Strings live as long as
 * argv or the process.
 */

#include <stdbool.h>
#include <stdint.h>

#include "policy/object.h"

enum bn_unknown_pods {
	BN_UNKNOWN_AUTO, /* closed while any policy could select it */
	BN_UNKNOWN_DROP,
	BN_UNKNOWN_ALLOW,
};

enum bn_host_routing {
	BN_ROUTING_AUTO,
	BN_ROUTING_BPF,
	BN_ROUTING_STACK,
};

enum bn_xdp {
	BN_XDP_AUTO, /* native, on hardware that loses nothing by it */
	BN_XDP_OFF,
	BN_XDP_NATIVE, /* on every uplink whose driver has it */
};

enum bn_lb_mode {
	BN_LB_SNAT,
	BN_LB_DSR,
	BN_LB_HYBRID,
};

struct bn_opts {
	const char *manifests;	/* --manifests, else NULL */
	const char *kubeconfig; /* --kubeconfig or $KUBECONFIG, else NULL: in-cluster */
	const char *master;	/* --master, else NULL */
	char node_name[256];	/* lower case */
	const char *bpffs, *run_dir, *state_dir;
	const char *cgroup;	/* NULL: find the root of the cgroup2 mount */
	unsigned ndevices;	/* --devices; 0: found from the routes */
	const char **devices;
	const char *metrics_bind, *healthz_bind; /* "" or "0": off */
	bool socket_lb_pods;	/* --socket-lb auto; false: pods are translated at TC only */
	unsigned npod_cidrs, ncluster_cidrs, nnodeport_cidrs;
	struct bn_cidr *pod_cidrs, *cluster_cidrs, *nodeport_cidrs;
	enum bn_unknown_pods unknown_pods;
	enum bn_host_routing host_routing;
	enum bn_lb_mode lb_mode;
	enum bn_xdp xdp;
	const char *lb_algorithm; /* "random" or "maglev" */
	const char *cni_cache;
	bool deny_reject;  /* --deny-with reject */
	bool policy_audit; /* --policy-audit */
	bool masquerade_all;
	uint32_t ct_flows;     /* --ct-max: flows the table has room for; default 131072 */
	uint32_t http_conns;   /* --http-max: connections with HTTP rules */
	uint32_t max_backends; /* --max-backends: slots */
	const char *log_level, *log_format;
	const char *service_proxy_name; /* --service-proxy-name or NULL */
};

/* Returns 0; 1 when --help or --version was answered (exit 0); -EINVAL after saying on stderr which
 * option is wrong and why.
 */
int bn_opts_parse(int argc, char **argv, struct bn_opts *ret);

#endif
