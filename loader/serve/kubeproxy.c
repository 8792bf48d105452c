/* SPDX-License-Identifier: MIT */
#include "loader/serve/kubeproxy.h"

#define P "kubeproxy_sync_proxy_rules_"

const double bn_kp_sync_bounds[BN_KP_SYNC_BUCKETS] = {
	0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128,
	0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
};

double bn_kp_programming_bounds[BN_KP_PROGRAMMING_BUCKETS];

enum kind {
	COUNTER,
	GAUGE,
	SYNC,	     /* histograms */
	PROGRAMMING,
};

/* What a family's series look like at the start. */
enum shape {
	PLAIN,
	FAMILY,
	TABLE,	 /* ip_family, table */
	TRAFFIC, /* ip_family, traffic_policy */
};

static const struct {
	const char *name, *help;
	enum kind kind;
	enum shape shape;
} list[] = {
	{ P "duration_seconds", "SyncProxyRules latency in seconds", SYNC, FAMILY },
	{ "kubeproxy_sync_full_proxy_rules_duration_seconds",
	  "SyncProxyRules latency in seconds for full resyncs", SYNC, FAMILY },
	{ "kubeproxy_sync_partial_proxy_rules_duration_seconds",
	  "SyncProxyRules latency in seconds for partial resyncs", SYNC, FAMILY },
	{ "kubeproxy_network_programming_duration_seconds",
	  "In Cluster Network Programming Latency in seconds", PROGRAMMING, FAMILY },
	{ "kubeproxy_conntrack_reconciler_sync_duration_seconds",
	  "ReconcileConntrackFlowsLatency latency in seconds", SYNC, FAMILY },
	{ P "last_timestamp_seconds",
	  "The last time proxy rules were successfully synced", GAUGE, FAMILY },
	{ P "last_queued_timestamp_seconds",
	  "The last time a sync of proxy rules was queued", GAUGE, FAMILY },
	{ P "endpoint_changes_pending", "Pending proxy rules Endpoint changes", GAUGE, PLAIN },
	{ P "endpoint_changes_total", "Cumulative proxy rules Endpoint changes", COUNTER, PLAIN },
	{ P "service_changes_pending", "Pending proxy rules Service changes", GAUGE, PLAIN },
	{ P "service_changes_total", "Cumulative proxy rules Service changes", COUNTER, PLAIN },
	{ P "no_local_endpoints_total",
	  "Number of services with a Local traffic policy and no endpoints", GAUGE, TRAFFIC },
	{ P "iptables_total", "Total number of iptables rules owned by kube-proxy", GAUGE, TABLE },
	{ P "iptables_last", "Number of iptables rules written by kube-proxy in last sync", GAUGE,
	  TABLE },
	{ P "iptables_restore_failures_total", "Cumulative proxy iptables restore failures", COUNTER,
	  FAMILY },
	{ P "iptables_partial_restore_failures_total",
	  "Cumulative proxy iptables partial restore failures", COUNTER, FAMILY },
	{ P "nftables_sync_failures_total", "Cumulative proxy nftables sync failures", COUNTER,
	  FAMILY },
	{ P "nftables_cleanup_failures_total", "Cumulative proxy nftables cleanup failures", COUNTER,
	  FAMILY },
	{ "kubeproxy_conntrack_reconciler_deleted_entries_total",
	  "Cumulative conntrack flows deleted by conntrack reconciler", COUNTER, FAMILY },
	{ "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
	  "packets dropped by iptables to work around conntrack problems", COUNTER, PLAIN },
	{ "kubeproxy_iptables_localhost_nodeports_accepted_packets_total",
	  "Number of packets accepted on nodeports of loopback interface", COUNTER, PLAIN },
};

static void fill_programming_bounds(void)
{
	size_t n = 0;

	bn_kp_programming_bounds[n++] = 0.25;
	bn_kp_programming_bounds[n++] = 0.5;
	for (int s = 1; s <= 59; s++)
		bn_kp_programming_bounds[n++] = s;
	for (int s = 60; s <= 115; s += 5)
		bn_kp_programming_bounds[n++] = s;
	for (int s = 120; s <= 300; s += 30)
		bn_kp_programming_bounds[n++] = s;
}

static const char *labels_of(enum shape s)
{
	switch (s) {
	case PLAIN:
		return "";
	case FAMILY:
		return "ip_family";
	case TABLE:
		return "ip_family,table";
	case TRAFFIC:
		return "ip_family,traffic_policy";
	}
	return "";
}

/* The series that are there before anything has happened, at 0. */
static void zero(struct bn_metric *f, enum shape shape)
{
	static const char *const families[] = { "IPv4", "IPv6" };

	if (shape == PLAIN)
		bn_metric_add(f, 0);
	for (size_t i = 0; shape != PLAIN && i < ARRAY_SIZE(families); i++) {
		if (shape == FAMILY) {
			bn_metric_add(f, 0, families[i]);
		} else if (shape == TABLE) {
			bn_metric_add(f, 0, families[i], "filter");
			bn_metric_add(f, 0, families[i], "nat");
		} else {
			bn_metric_add(f, 0, families[i], "internal");
			bn_metric_add(f, 0, families[i], "external");
		}
	}
}

int bn_kubeproxy_metrics(struct bn_metrics *m)
{
	fill_programming_bounds();
	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		const char *labels = labels_of(list[i].shape);
		struct bn_metric *f;

		if (list[i].kind == COUNTER)
			f = bn_metrics_counter(m, list[i].name, list[i].help, labels);
		else if (list[i].kind == GAUGE)
			f = bn_metrics_gauge(m, list[i].name, list[i].help, labels);
		else if (list[i].kind == SYNC)
			f = bn_metrics_histogram(m, list[i].name, list[i].help, labels,
						 bn_kp_sync_bounds, BN_KP_SYNC_BUCKETS);
		else
			f = bn_metrics_histogram(m, list[i].name, list[i].help, labels,
						 bn_kp_programming_bounds, BN_KP_PROGRAMMING_BUCKETS);
		if (!f)
			return -ENOMEM;
		zero(f, list[i].shape);
	}
	return 0;
}
