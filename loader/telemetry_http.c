/* SPDX-License-Identifier: MIT */
/* HTTP rules as metrics. */
#include <string.h>

#include "loader/daemon.h"
#include "maps/http_access.h"

struct requests {
	struct bn_metric *f;
	/* Rules of one policy follow one another by no rule: summed by name, a short list. */
	size_t n;
	struct {
		char policy[512];
		struct bn_http_count c;
	} *v;
};

static int sum_requests(const struct bn_rule_ref *r, const struct bn_http_count *c, void *data)
{
	struct requests *q = data;
	char name[512];
	void *v;
	size_t k;

	snprintf(name, sizeof(name), "%s/%s", r->policy->o.ns, r->policy->o.name);
	for (k = 0; k < q->n && strcmp(q->v[k].policy, name); k++)
		;
	if (k == q->n) {
		v = reallocarray(q->v, q->n + 1, sizeof(*q->v));
		if (!v)
			return -ENOMEM;
		q->v = v;
		memset(&q->v[q->n++], 0, sizeof(*q->v));
		strcpy(q->v[k].policy, name);
	}
	q->v[k].c.allowed += c->allowed;
	q->v[k].c.denied += c->denied;
	q->v[k].c.audited += c->audited;
	return 0;
}

static void gauge(struct bn_daemon *d, const char *name, const char *help, double v)
{
	bn_metric_set(bn_metrics_gauge(d->metrics, name, help, ""), v);
}

/* Of pods that are here and were refused any. */
static void refused(struct bn_daemon *d)
{
	struct bn_metric *f = bn_metrics_counter(d->metrics, "bpfnet_http_refused_total",
						 "HTTP connections, and parts of them, refused: the pod has its share", "namespace,pod");
	const struct bn_maps *m = d->kernel->maps;
	const char *ns, *name;

	bn_metric_clear(f);
	for (uint32_t slot = 1; slot < m->entries[BN_MAP_http_shares]; slot++) {
		struct bn_http_share s = bn_http_share_get(m, slot);

		if (s.refused && bn_endpoints_slot_pod(d->endpoints, slot, &ns, &name))
			bn_metric_set(f, s.refused, ns, name);
	}
}

void bn_telemetry_http(struct bn_daemon *d, const struct bn_httpsets_stats *s)
{
	static const char *const reasons[] = {
		[BN_HTTP_OK] = "",
#define X(name, text) [BN_HTTP_##name] = #name,
		BN_HTTP_LIST(X)
#undef X
	};
	struct bn_metric *f = bn_metrics_counter(d->metrics, "bpfnet_http_denied_total", "Requests denied", "reason");
	struct requests q = { .f = bn_metrics_counter(d->metrics, "bpfnet_http_requests_total",
						     "Requests by the policy that allowed them, or that "
						     "covers the port", "verdict,policy") };
	uint64_t counts[BN_HTTP__MAX];

	gauge(d, "bpfnet_http_unsupported", "1: this kernel cannot judge requests, policies with HTTP rules are refused",
	      bn_kernel_no_http(d->kernel) != NULL);
	gauge(d, "bpfnet_http_rule_sets", "HTTP rule sets in the kernel", s->sets);
	gauge(d, "bpfnet_http_rule_sets_pending", "Of these, those that are being compiled", s->pending);
	gauge(d, "bpfnet_http_rule_sets_failed", "Of these, those that cannot be enforced: their ports are closed", s->failed);
	gauge(d, "bpfnet_http_compile_last_seconds", "Time that compiling the last rule set took", s->last_compile_ns / 1e9);
	gauge(d, "bpfnet_http_connections", "Connections that HTTP rules follow",
	      bn_http_share_get(d->kernel->maps, 0).conns);
	gauge(d, "bpfnet_http_kept_blocks", "Blocks of 256 bytes that are kept of them",
	      bn_http_share_get(d->kernel->maps, 0).blocks);
	if (bn_http_reason_counts(d->kernel->maps, counts) == 0) {
		bn_metric_set(bn_metrics_counter(d->metrics, "bpfnet_http_allowed_total", "Requests allowed", ""),
			      counts[BN_HTTP_OK]);
		for (uint32_t k = 1; k < BN_HTTP__MAX; k++)
			bn_metric_set(f, counts[k], reasons[k]);
	}
	f = bn_metrics_counter(d->metrics, "bpfnet_http_audited_total", "Requests that audit let pass", "reason");
	if (bn_http_audit_counts(d->kernel->maps, counts) == 0)
		for (uint32_t k = 1; k < BN_HTTP__MAX; k++)
			bn_metric_set(f, counts[k], reasons[k]);
	refused(d);
	bn_metric_clear(q.f); /* policies come and go */
	if (bn_policies_each_http(d->policies, sum_requests, &q) == 0)
		for (size_t k = 0; k < q.n; k++) {
			bn_metric_set(q.f, q.v[k].c.allowed, "allowed", q.v[k].policy);
			bn_metric_set(q.f, q.v[k].c.denied, "denied", q.v[k].policy);
			bn_metric_set(q.f, q.v[k].c.audited, "audit", q.v[k].policy);
		}
	free(q.v);
}
