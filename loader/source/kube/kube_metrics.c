/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/kube_metrics.h"

static void collect(void *data)
{
	struct bn_kube_metrics *k = data;
	uint64_t now = bn_source_now();

	bn_metric_clear(k->watch_age);
	bn_metric_clear(k->age);
	for (int i = 0; i < BN_KIND__MAX; i++) {
		const struct bn_source_state *st = &k->source->state[i];
		const char *name = bn_kind_plural(i);
		const struct bn_reflector_stats *rs;

		if (!k->refl[i])
			continue;
		rs = bn_reflector_stats(k->refl[i]);
		for (int c = 0; c < BN_RELIST__MAX; c++)
			if (rs->relists[c])
				bn_metric_set(k->relists, rs->relists[c], name, bn_relist_name(c));
		bn_metric_set(k->events, rs->events, name);
		bn_metric_set(k->bytes, rs->bytes, name);
		if (rs->watch_since_ms)
			bn_metric_set(k->watch_age, now / 1e9 - rs->watch_since_ms / 1e3, name);
		if (!st->used)
			continue;
		bn_metric_set(k->objects, bn_store_count(k->source->store, i), name);
		if (st->synced)
			bn_metric_set(k->age, st->failing_ns ? (now - st->synced_ns) / 1e9 : 0,
				      name);
	}
}

int bn_kube_metrics_init(struct bn_kube_metrics *k, struct bn_metrics *m,
			 const struct bn_source *source, struct bn_reflector *const *refl)
{
	/* client-go's */
	static const double buckets[] = { 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60 };

	k->source = source;
	k->refl = refl;
	k->requests = bn_metrics_counter(m, "rest_client_requests_total",
					 "HTTP requests to the API server, by status code.",
					 "code,host,method");
	k->duration = bn_metrics_histogram(m, "rest_client_request_duration_seconds",
					   "Time to the head of the API server's answer.",
					   "host,verb", buckets, ARRAY_SIZE(buckets));
	k->relists = bn_metrics_counter(m, "bpfnet_kube_lists_total",
					"Lists of a resource begun, by cause.", "resource,cause");
	k->events = bn_metrics_counter(m, "bpfnet_kube_events_total",
				       "Watch events of a resource.", "resource");
	k->bytes = bn_metrics_counter(m, "bpfnet_kube_bytes_total",
				      "Bytes of lists and watches of a resource.", "resource");
	k->watch_age = bn_metrics_gauge(m, "bpfnet_kube_watch_age_seconds",
					"Age of the watch under way.", "resource");
	k->objects = bn_metrics_gauge(m, "bpfnet_kube_objects", "Objects kept of a resource.",
				      "resource");
	k->age = bn_metrics_gauge(m, "bpfnet_kube_state_age_seconds",
				  "How long ago what is known of a resource was up to date.",
				  "resource");
	return bn_metrics_collect(m, collect, k);
}

void bn_kube_metrics_observe(struct bn_kube_metrics *k, const char *code, const char *host,
			     const char *method, double seconds)
{
	bn_metric_inc(k->requests, code, host, method);
	bn_metric_observe(k->duration, seconds, host, method);
}
