/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "loader/daemon.h"
#include "loader/hold.h"
#include "loader/log.h"
#include "loader/serve/configz.h"
#include "loader/serve/http.h"
#include "loader/serve/kubeproxy.h"
#include "loader/source/check.h"

/* The values that live in maps and models, written into the registry at each scrape. kube-proxy's
 * names, labels and buckets are kept (SEMANTICS 5): ip_family on those that have it since 1.33. One
 * model serves both families, so both labels carry the same value.
 */
static const char *const families[] = { "IPv4", "IPv6" };

#define M(kind, name, help, labels) bn_metrics_##kind(d->metrics, name, help, labels)
/* The registry returns the family that is there: looking it up again costs a short list walk. */
#define G(name, help, v, ...)                                                                      \
	bn_metric_set(bn_metrics_gauge(d->metrics, name, help, ""), v, ##__VA_ARGS__)
#define C(name, help, v) bn_metric_set(bn_metrics_counter(d->metrics, name, help, ""), v)

static void both(struct bn_metric *f, double v)
{
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		bn_metric_set(f, v, families[i]);
}

static void histogram(struct bn_daemon *d, const char *name, const char *help,
		      const struct bn_histogram *h)
{
	struct bn_metric *f;

	if (!h->n)
		return;
	f = bn_metrics_histogram(d->metrics, name, help, "ip_family", h->le, h->n);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		bn_metric_load(f, h->count, h->n, h->sum, families[i]);
}

static void kube_proxy(struct bn_daemon *d, const struct bn_services_stats *s)
{
	struct bn_metric *f;

	histogram(d, "kubeproxy_sync_proxy_rules_duration_seconds",
		  "Time that writing changes of services to the kernel took", &s->sync);
	histogram(d, "kubeproxy_sync_full_proxy_rules_duration_seconds",
		  "The same, of everything at once", &s->sync_full);
	histogram(d, "kubeproxy_sync_partial_proxy_rules_duration_seconds",
		  "The same, of what had changed", &s->sync_partial);
	histogram(d, "kubeproxy_network_programming_duration_seconds",
		  "From the change of an endpoint to it being in force", &s->programming);
	both(M(gauge, "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
	       "When changes were last written", "ip_family"), s->sync_last_s);
	both(M(gauge, "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
	       "When a change was last queued", "ip_family"), s->queued_last_s);
	G("kubeproxy_sync_proxy_rules_endpoint_changes_pending",
	  "Changes of endpoints not yet in force", s->endpoint_pending);
	G("kubeproxy_sync_proxy_rules_service_changes_pending",
	  "Changes of services not yet in force", s->service_pending);
	C("kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changes of endpoints",
	  s->endpoint_changes);
	C("kubeproxy_sync_proxy_rules_service_changes_total", "Changes of services",
	  s->service_changes);
	f = M(gauge, "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
	      "Service ports with policy Local without a local endpoint", "ip_family,traffic_policy");
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		bn_metric_set(f, s->no_local_internal, families[i], "internal");
		bn_metric_set(f, s->no_local_external, families[i], "external");
	}
}

static void udp_sockets(struct bn_daemon *d)
{
	const struct bn_udpsocks_stats *u = bn_udpsocks_stats(d->udpsocks);
	struct bn_metric *f = M(counter, "bpfnet_udp_sockets_total",
				"Connected UDP sockets of the node whose endpoint left", "outcome");

	bn_metric_set(f, u->moved, "moved");
	bn_metric_set(f, u->ended, "ended");
	bn_metric_set(f, u->stuck, "stuck");
}

static void services(struct bn_daemon *d)
{
	const struct bn_services_stats *s = bn_services_stats(d->services);

	kube_proxy(d, s);
	G("bpfnet_services", "Services in force", s->services);
	G("bpfnet_service_ports", "Service ports in force", s->service_ports);
	G("bpfnet_service_endpoints", "Endpoints behind them", s->endpoints);
	G("bpfnet_frontends", "Addresses and ports that answer", s->frontends);
	G("bpfnet_service_refused", "Frontends and backend lists that found no room", s->refused);
	G("bpfnet_service_conflicts", "Frontends that two services want", s->conflicts);
	G("bpfnet_backend_slots_used", "Backend slots in use", s->slots_used);
	G("bpfnet_backend_slots_max", "Backend slots there are", s->slots_max);
	G("bpfnet_backend_slots_largest_free", "Longest run of free backend slots",
	  s->largest_free);
	C("bpfnet_service_map_writes_total", "Elements of service maps written or deleted",
	  s->writes);
	C("bpfnet_grace_periods_total", "Grace periods waited for by the services", s->graces);
	udp_sockets(d);
}

static void policies(struct bn_daemon *d)
{
	struct bn_policies_stats p;
	struct bn_endpoints_stats e;

	bn_policies_stats(d->policies, &p);
	G("bpfnet_policies", "Policies of the cluster", p.compile.policies);
	G("bpfnet_policy_rules", "Their rules", p.compile.rules);
	G("bpfnet_policy_matrices", "Compiled policies in the kernel", p.compile.matrices);
	G("bpfnet_identities", "Identities of addresses", p.idents.identities);
	G("bpfnet_identity_addresses", "Addresses with an identity", p.idents.addresses);
	C("bpfnet_policy_words_written_total", "Pods' policies swapped", p.words_written);
	C("bpfnet_policy_rows_written_total", "Rows of compiled policies written", p.rows_written);
	G("bpfnet_policy_sync_last_seconds", "Duration of the last change of policies",
	  p.last_sync_ns / 1e9);
	bn_telemetry_http(d, &p.http);
	bn_endpoints_stats(d->endpoints, &e);
	G("bpfnet_endpoints", "Local pods with an interface", e.pods);
	G("bpfnet_endpoints_unenforced", "Local pods without a host-side interface", e.unenforced);
	G("bpfnet_endpoints_unknown", "Pod interfaces whose pod is not known", e.unknown);
	G("bpfnet_endpoints_closed", "Of these, those that pass nothing", e.closed);
	G("bpfnet_attach_errors", "Interfaces without programs because of an error",
	  e.attach_errors);
	C("bpfnet_netlink_resyncs_total", "Notifications of the kernel that overran", e.resyncs);
}

static void datapath(struct bn_daemon *d)
{
	static const char *const hooks[] = {
#define X(name, text) [BN_HOOK_##name] = text,
		BN_HOOK_LIST(X)
#undef X
	};
	static const char *const drops[] = {
#define X(name, text) [BN_DROP_##name] = #name,
		BN_DROP_LIST(X)
#undef X
	};
	const struct bn_maps *m = d->kernel->maps;
	struct bn_metric *pk = M(counter, "bpfnet_packets_total", "Packets seen", "hook");
	struct bn_metric *by = M(counter, "bpfnet_bytes_total", "Bytes seen", "hook");
	struct bn_metric *tr = M(counter, "bpfnet_translated_total", "Of these, by a service", "hook");
	struct bn_metric *fl = M(counter, "bpfnet_flows_total", "New flows", "hook");
	struct bn_metric *dp = M(counter, "bpfnet_drops_total", "Packets dropped or refused", "reason");
	struct bn_metric *db = M(counter, "bpfnet_drop_bytes_total", "Bytes of these", "reason");

	for (uint32_t i = 0; i < BN_HOOK__MAX; i++) {
		struct bn_hook_stat s = {};

		if (bn_map_percpu_sum(m, BN_MAP_hook_stats, i, (uint64_t *)&s) < 0)
			continue;
		bn_metric_set(pk, s.packets, hooks[i]);
		bn_metric_set(by, s.bytes, hooks[i]);
		bn_metric_set(tr, s.translated, hooks[i]);
		bn_metric_set(fl, s.flows, hooks[i]);
	}
	for (uint32_t i = 1; i < BN_DROP__MAX; i++) {
		struct bn_drop_stat s = {};

		if (bn_map_percpu_sum(m, BN_MAP_drops, i, (uint64_t *)&s) < 0)
			continue;
		bn_metric_set(dp, s.packets, drops[i]);
		bn_metric_set(db, s.bytes, drops[i]);
	}
}

static void maps(struct bn_daemon *d)
{
	struct bn_metric *bytes = M(gauge, "bpfnet_map_bytes", "Kernel memory of a map", "map");

	for (int i = 0; i < BN_MAP__MAX; i++)
		bn_metric_set(bytes, bn_map_memory(d->kernel->maps, i), bn_map_name(i));
}

static void sources(struct bn_daemon *d)
{
	struct bn_metric *objects = M(gauge, "bpfnet_objects", "Objects known", "resource");
	struct bn_metric *synced = M(gauge, "bpfnet_source_synced", "1: read in full", "resource");
	struct bn_metric *failing = M(gauge, "bpfnet_source_failing", "1: cannot be read", "resource");
	json_t *list;

	if (!d->source)
		return;
	for (int k = 0; k < BN_KIND__MAX; k++) {
		bn_metric_set(objects, bn_store_count(d->store, k), bn_kind_plural(k));
		bn_metric_set(synced, d->source->state[k].synced, bn_kind_plural(k));
		bn_metric_set(failing, d->source->state[k].failing_ns != 0, bn_kind_plural(k));
	}
	list = bn_source_rejected_json(d->source);
	G("bpfnet_objects_rejected", "Objects that were refused, now", json_array_size(list));
	json_decref(list);
	list = bn_check_json(d->source);
	G("bpfnet_objects_checking", "Objects whose HTTP rules are being checked, now", json_array_size(list));
	json_decref(list);
	G("bpfnet_ready", "1: as bpfnet status", bn_daemon_ready(d));
}

static void collect(void *data)
{
	struct bn_daemon *d = data;

	services(d);
	policies(d);
	datapath(d);
	maps(d);
	sources(d);
	bn_hold_metrics(d->metrics);
}

static void answer(const char *path, struct bn_httpd_response *r, void *data)
{
	uint64_t began = bn_hold_begin();
	struct bn_daemon *d = data;

	if (!strcmp(path, "/metrics")) {
		r->content_type = "text/plain; version=0.0.4; charset=utf-8";
		if (bn_metrics_text(d->metrics, r->body) < 0)
			r->code = 500;
	} else if (!strcmp(path, "/healthz")) {
		evbuffer_add_printf(r->body, "ok");
	} else if (!strcmp(path, "/proxyMode")) {
		evbuffer_add_printf(r->body, "bpf");
	} else if (!strcmp(path, "/configz")) {
		json_t *o = bn_configz(d->opts);
		_cleanup_(freep) char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

		json_decref(o);
		r->content_type = "application/json";
		evbuffer_add_printf(r->body, "%s", text ? text : "{}");
	} else {
		r->code = 404;
		evbuffer_add_printf(r->body, "404 page not found\n");
	}
	bn_hold_end(BN_WORK_ANSWER, began);
}

static const double latency_bounds[] = {
	50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1, 2, 5,
};

int bn_daemon_telemetry(struct bn_daemon *d)
{
	struct utsname u;
	int r;

	uname(&u);
	r = bn_kubeproxy_metrics(d->metrics);
	if (!r)
		r = bn_fill_metrics(d->metrics, d->kernel->maps, &d->fill);
	if (!r)
		r = bn_metrics_process(d->metrics);
	if (r < 0)
		return log_err_r(r, "metrics");
	bn_metric_set(M(gauge, "bpfnet_build_info", "1", "version,kernel"), 1, BN_VERSION,
		      u.release);
	bn_metric_set(M(gauge, "kubernetes_build_info", "1", "git_version"), 1, "bpfnet-" BN_VERSION);
	d->latency = bn_metrics_histogram(d->metrics, "bpfnet_event_to_kernel_seconds",
					  "From an event of the source to all of its effects in the kernel", "",
					  latency_bounds, ARRAY_SIZE(latency_bounds));
	r = bn_metrics_collect(d->metrics, collect, d);
	if (r < 0)
		return log_err_r(r, "metrics");
	r = bn_httpd_new(d->base, d->opts->metrics_bind, "metrics", answer, d, &d->metrics_http);
	return r < 0 ? log_err_r(r, "--metrics-bind %s", d->opts->metrics_bind) : 0;
}
