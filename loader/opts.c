/* SPDX-License-Identifier: MIT */
#include "loader/opts.h"

#include <ctype.h>
#include <getopt.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/log.h"
#include "maps/http_conn.h"
#include "maps/ct.h"

enum {
	O_MANIFESTS = 256,
	O_KUBECONFIG,
	O_MASTER,
	O_NODE_NAME,
	O_BPFFS,
	O_RUN_DIR,
	O_STATE_DIR,
	O_CGROUP,
	O_DEVICES,
	O_METRICS,
	O_HEALTHZ,
	O_SOCKET_LB,
	O_POD_CIDR,
	O_CLUSTER_CIDR,
	O_NODEPORT_ADDRESSES,
	O_UNKNOWN_PODS,
	O_HOST_ROUTING,
	O_LB_MODE,
	O_XDP,
	O_LB_ALGORITHM,
	O_CNI_CACHE,
	O_DENY_WITH,
	O_POLICY_AUDIT,
	O_MASQUERADE_ALL,
	O_CT_MAX,
	O_HTTP_MAX,
	O_MAX_BACKENDS,
	O_PROXY_NAME,
	O_LOG_LEVEL,
	O_LOG_FORMAT,
	O_HELP,
	O_VERSION,
};

struct opt_def {
	int id;
	const char *name, *arg, *help; /* arg NULL: a switch */
};

/* The one list: parsing and --help come from it. */
static const struct opt_def defs[] = {
	{ O_MANIFESTS, "manifests", "DIR", "read objects from a directory of YAML and JSON files" },
	{ O_KUBECONFIG, "kubeconfig", "FILE", "read objects from the API named here (default: $KUBECONFIG, else in-cluster)" },
	{ O_MASTER, "master", "URL", "address of the API server, over the one of the kubeconfig" },
	{ O_NODE_NAME, "node-name", "NAME", "this node's name in the API (default: the host name in lower case)" },
	{ O_BPFFS, "bpffs", "DIR", "where maps and programs are pinned (default /sys/fs/bpf/bpfnet)" },
	{ O_RUN_DIR, "run-dir", "DIR", "control socket and run-time records (default /run/bpfnet)" },
	{ O_STATE_DIR, "state-dir", "DIR", "last good versions of objects (default /var/lib/bpfnet)" },
	{ O_CGROUP, "cgroup", "DIR", "cgroup2 directory whose sockets are served (default: root of the cgroup2 mount)" },
	{ O_DEVICES, "devices", "LIST", "uplinks and tunnels, comma-separated (default: found from the routes)" },
	{ O_METRICS, "metrics-bind", "ADDR:PORT", "Prometheus metrics (default 127.0.0.1:10249; 0: off)" },
	{ O_HEALTHZ, "healthz-bind", "ADDR:PORT", "/healthz and /livez (default 0.0.0.0:10256; 0: off)" },
	{ O_SOCKET_LB, "socket-lb", "auto|off", "translate pods' connections at the socket; the host's own always are (default auto)" },
	{ O_POD_CIDR, "pod-cidr", "LIST", "this node's pod addresses (default: from the Node object)" },
	{ O_CLUSTER_CIDR, "cluster-cidr", "LIST", "all pods' addresses: clients outside are masqueraded" },
	{ O_NODEPORT_ADDRESSES, "nodeport-addresses", "LIST", "local addresses that answer NodePorts (default: all)" },
	{ O_UNKNOWN_PODS, "unknown-pods", "auto|drop|allow", "traffic of interfaces whose pod is not known (default auto)" },
	{ O_HOST_ROUTING, "host-routing", "auto|bpf|stack", "whether local delivery may skip the host stack (default auto)" },
	{ O_LB_MODE, "lb-mode", "snat|dsr|hybrid", "how outside traffic reaches remote backends (default snat; hybrid: TCP by DSR)" },
	{ O_XDP, "xdp", "auto|off|native", "outside traffic to remote backends before the stack (default auto: hardware that keeps its offloads)" },
	{ O_LB_ALGORITHM, "lb-algorithm", "random|maglev", "choice of backends (default random)" },
	{ O_CNI_CACHE, "cni-cache", "DIR", "libcni's result cache (default /var/lib/cni/results)" },
	{ O_DENY_WITH, "deny-with", "drop|reject", "answer to what policy denies (default drop)" },
	{ O_POLICY_AUDIT, "policy-audit", NULL, "record denials of policy (packets, HTTP requests), and let them pass" },
	{ O_MASQUERADE_ALL, "masquerade-all", NULL, "masquerade what pods and outside clients send to ClusterIPs" },
	{ O_CT_MAX, "ct-max", "N", "flows that the connection table has room for (default 131072)" },
	{ O_HTTP_MAX, "http-max", "N", "connections with HTTP rules that there is room for (default 65536)" },
	{ O_MAX_BACKENDS, "max-backends", "N", "backend slots, all services together (default 524288)" },
	{ O_PROXY_NAME, "service-proxy-name", "NAME", "serve the Services with this service-proxy-name label" },
	{ O_LOG_LEVEL, "log-level", "error|warn|info|debug", "(default info)" },
	{ O_LOG_FORMAT, "log-format", "text|json", "(default text)" },
	{ O_HELP, "help", NULL, "this text" },
	{ O_VERSION, "version", NULL, "version of bpfnetd" },
};

static void usage(FILE *f)
{
	fprintf(f, "Usage: bpfnetd --manifests DIR | --kubeconfig FILE | (in a pod)  [OPTION...]\n"
		   "The bpfnet node daemon: services and network policy in the kernel.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(defs); i++) {
		char left[64];

		snprintf(left, sizeof(left), "--%s%s%s", defs[i].name, defs[i].arg ? " " : "",
			 defs[i].arg ? defs[i].arg : "");
		fprintf(f, "  %-36s %s\n", left, defs[i].help);
	}
	fprintf(f, "\nSee bpfnetd(8). What it does: bpfnet status, bpfnet svc list.\n");
}

static int bad(const struct opt_def *d, const char *value, const char *why)
{
	fprintf(stderr, "bpfnetd: --%s: '%s': %s\n", d->name, value, why);
	return -EINVAL;
}

static int parse_choice(const struct opt_def *d, const char *value, const char *const *names,
			size_t n, int *ret)
{
	char why[128];

	for (size_t i = 0; i < n; i++)
		if (!strcmp(value, names[i])) {
			*ret = i;
			return 0;
		}
	snprintf(why, sizeof(why), "must be one of %s", d->arg);
	return bad(d, value, why);
}
#define CHOICE(d, value, ret, ...)                                                                 \
	({                                                                                         \
		static const char *const _names[] = { __VA_ARGS__ };                               \
		parse_choice(d, value, _names, ARRAY_SIZE(_names), ret);                           \
	})

static int parse_cidrs(const struct opt_def *d, const char *value, unsigned *n,
		       struct bn_cidr **ret)
{
	_cleanup_(freep) char *copy = strdup(value);
	char *save = NULL;

	if (!copy)
		return -ENOMEM;
	for (char *t = strtok_r(copy, ", ", &save); t; t = strtok_r(NULL, ", ", &save)) {
		struct bn_cidr *v = realloc(*ret, (*n + 1) * sizeof(*v));

		if (!v)
			return -ENOMEM;
		*ret = v;
		if (bn_cidr_parse(t, &v[*n]) < 0)
			return bad(d, t, "not a CIDR such as 10.244.0.0/16 or fd00:10::/64");
		(*n)++;
	}
	return 0;
}

static int parse_list(const char *value, unsigned *n, const char ***ret)
{
	char *copy = strdup(value), *save = NULL; /* kept: the options live as long as the process */

	if (!copy)
		return -ENOMEM;
	for (char *t = strtok_r(copy, ", ", &save); t; t = strtok_r(NULL, ", ", &save)) {
		const char **v = realloc(*ret, (*n + 1) * sizeof(*v));

		if (!v)
			return -ENOMEM;
		v[(*n)++] = t;
		*ret = v;
	}
	return 0;
}

static int parse_number(const struct opt_def *d, const char *value, uint32_t min, uint32_t max,
			uint32_t *ret)
{
	char why[96], *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(value, &end, 10);
	if (errno || end == value || *end || value[0] == '-' || v < min || v > max) {
		snprintf(why, sizeof(why), "must be a number from %u to %u", min, max);
		return bad(d, value, why);
	}
	*ret = v;
	return 0;
}

static int parse_node_name(const struct opt_def *d, const char *value, struct bn_opts *o)
{
	size_t n = strlen(value);

	if (!n || n >= sizeof(o->node_name))
		return bad(d, value, "must have 1 to 253 characters");
	for (size_t i = 0; i <= n; i++)
		o->node_name[i] = tolower((unsigned char)value[i]);
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)o->node_name[i]) && !strchr("-.", o->node_name[i]))
			return bad(d, value, "a node's name has only letters, digits, '-' and '.'");
	return 0;
}

/* Empty and "0" switch a listener off; anything else must end in :PORT. */
static int parse_bind(const struct opt_def *d, const char *value, const char **ret)
{
	const char *colon = strrchr(value, ':');
	uint32_t port;

	*ret = value;
	if (!*value || !strcmp(value, "0")) {
		*ret = "";
		return 0;
	}
	if (!colon)
		return bad(d, value, "must be ADDRESS:PORT");
	return parse_number(d, colon + 1, 1, 65535, &port);
}

static int apply(const struct opt_def *d, const char *v, struct bn_opts *o)
{
	int r, i = 0;

	switch (d->id) {
	case O_MANIFESTS: o->manifests = v; return 0;
	case O_KUBECONFIG: o->kubeconfig = v; return 0;
	case O_MASTER: o->master = v; return 0;
	case O_NODE_NAME: return parse_node_name(d, v, o);
	case O_BPFFS: o->bpffs = v; return 0;
	case O_RUN_DIR: o->run_dir = v; return 0;
	case O_STATE_DIR: o->state_dir = v; return 0;
	case O_CGROUP: o->cgroup = v; return 0;
	case O_DEVICES: return parse_list(v, &o->ndevices, &o->devices);
	case O_METRICS: return parse_bind(d, v, &o->metrics_bind);
	case O_HEALTHZ: return parse_bind(d, v, &o->healthz_bind);
	case O_POD_CIDR: return parse_cidrs(d, v, &o->npod_cidrs, &o->pod_cidrs);
	case O_CLUSTER_CIDR: return parse_cidrs(d, v, &o->ncluster_cidrs, &o->cluster_cidrs);
	case O_NODEPORT_ADDRESSES:
		if (!strcmp(v, "primary"))
			return bad(d, v, "give CIDRs; without the option every local address answers");
		return parse_cidrs(d, v, &o->nnodeport_cidrs, &o->nodeport_cidrs);
	case O_SOCKET_LB:
		r = CHOICE(d, v, &i, "off", "auto");
		o->socket_lb_pods = i;
		return r;
	case O_UNKNOWN_PODS:
		r = CHOICE(d, v, &i, "auto", "drop", "allow");
		o->unknown_pods = i;
		return r;
	case O_HOST_ROUTING:
		r = CHOICE(d, v, &i, "auto", "bpf", "stack");
		o->host_routing = i;
		return r;
	case O_LB_MODE:
		r = CHOICE(d, v, &i, "snat", "dsr", "hybrid");
		o->lb_mode = i;
		return r;
	case O_XDP:
		r = CHOICE(d, v, &i, "auto", "off", "native");
		o->xdp = i;
		return r;
	case O_LB_ALGORITHM: o->lb_algorithm = v; return CHOICE(d, v, &i, "random", "maglev");
	case O_CNI_CACHE: o->cni_cache = v; return 0;
	case O_DENY_WITH:
		r = CHOICE(d, v, &i, "drop", "reject");
		o->deny_reject = i;
		return r;
	case O_POLICY_AUDIT: o->policy_audit = true; return 0;
	case O_MASQUERADE_ALL: o->masquerade_all = true; return 0;
	case O_CT_MAX: return parse_number(d, v, 64, 16u << 20, &o->ct_flows);
	case O_HTTP_MAX: return parse_number(d, v, 64, 4u << 20, &o->http_conns);
	case O_MAX_BACKENDS: return parse_number(d, v, 64, 64u << 20, &o->max_backends);
	case O_PROXY_NAME: o->service_proxy_name = v; return 0;
	case O_LOG_LEVEL: o->log_level = v; return CHOICE(d, v, &i, "error", "warn", "info", "debug");
	case O_LOG_FORMAT: o->log_format = v; return CHOICE(d, v, &i, "text", "json");
	}
	return -EINVAL;
}

static void defaults(struct bn_opts *o)
{
	char host[256] = "";

	*o = (struct bn_opts){
		.bpffs = "/sys/fs/bpf/bpfnet",
		.run_dir = "/run/bpfnet",
		.state_dir = "/var/lib/bpfnet",
		.metrics_bind = "127.0.0.1:10249",
		.healthz_bind = "0.0.0.0:10256",
		.socket_lb_pods = true,
		.lb_algorithm = "random",
		.cni_cache = "/var/lib/cni/results",
		.ct_flows = BN_CT_FLOWS_DEFAULT,
		.http_conns = BN_HTTP_CONNS_ALL,
		.max_backends = 524288,
		.log_level = "info",
		.log_format = "text",
	};
	if (gethostname(host, sizeof(host) - 1) == 0)
		for (size_t i = 0; host[i]; i++)
			o->node_name[i] = tolower((unsigned char)host[i]);
}

int bn_opts_parse(int argc, char **argv, struct bn_opts *ret)
{
	struct option longs[ARRAY_SIZE(defs) + 1] = {};
	struct stat st;
	int c, idx, r;

	defaults(ret);
	for (size_t i = 0; i < ARRAY_SIZE(defs); i++)
		longs[i] = (struct option){ defs[i].name,
					    defs[i].arg ? required_argument : no_argument, NULL,
					    defs[i].id };
	optind = 1;
	opterr = 0; /* one sentence, and ours */
	while ((c = getopt_long(argc, argv, ":hV", longs, &idx)) != -1) {
		if (c == O_HELP || c == 'h') {
			usage(stdout);
			return 1;
		}
		if (c == O_VERSION || c == 'V') {
			printf("bpfnetd %s\n", BN_VERSION);
			return 1;
		}
		if (c == '?' || c == ':') {
			fprintf(stderr, "bpfnetd: %s '%s'; 'bpfnetd --help' lists the options\n",
				c == ':' ? "a value is missing behind" : "unknown or ambiguous option",
				argv[optind - 1]);
			return -EINVAL;
		}
		r = apply(&defs[c - O_MANIFESTS], optarg, ret);
		if (r < 0)
			return r;
	}
	if (optind < argc) {
		fprintf(stderr, "bpfnetd: unexpected argument '%s' (values follow options: --help)\n",
			argv[optind]);
		return -EINVAL;
	}
	if (ret->manifests && (ret->kubeconfig || ret->master)) {
		fprintf(stderr, "bpfnetd: --manifests and --kubeconfig/--master exclude each other\n");
		return -EINVAL;
	}
	if (ret->manifests && stat(ret->manifests, &st) == 0 && !S_ISDIR(st.st_mode)) {
		fprintf(stderr, "bpfnetd: --manifests: '%s' is not a directory\n", ret->manifests);
		return -EINVAL;
	}
	if (!ret->kubeconfig && !ret->manifests && getenv("KUBECONFIG") && *getenv("KUBECONFIG"))
		ret->kubeconfig = getenv("KUBECONFIG");
	if (!ret->node_name[0]) {
		fprintf(stderr, "bpfnetd: this host has no name: give --node-name\n");
		return -EINVAL;
	}
	return 0;
}
