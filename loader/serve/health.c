/* SPDX-License-Identifier: MIT */
#include "loader/serve/health.h"

#include <string.h>
#include <time.h>

#include "loader/serve/http.h"

struct stamp {
	struct timespec wall;
	long long mono_ns; /* since the start of the process, as Go prints it */
};

struct bn_health {
	struct bn_httpd *http;
	struct bn_metric *healthz_total, *livez_total;
	long long origin_ns; /* CLOCK_MONOTONIC at creation */
	long long timeout_ns;
	long long queued_ns; /* since origin; 0: nothing waits */
	struct stamp updated; /* wall.tv_nsec -1: never */
	bool node_eligible;
	bool (*ready)(struct evbuffer *out, void *data);
	void *ready_data;
};

static long long mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static struct stamp now(const struct bn_health *h)
{
	struct stamp s;

	clock_gettime(CLOCK_REALTIME, &s.wall);
	s.mono_ns = mono_ns() - h->origin_ns;
	return s;
}

char *bn_go_time(char *buf, size_t len, long long sec, long nsec, long long mono)
{
	char frac[24] = "";
	time_t t = sec;
	struct tm tm;
	size_t n;

	if (nsec < 0) {
		snprintf(buf, len, "0001-01-01 00:00:00 +0000 UTC");
		return buf;
	}
	if (nsec) { /* .999999999: without the trailing zeros */
		snprintf(frac, sizeof(frac), ".%09ld", nsec);
		for (n = strlen(frac); frac[n - 1] == '0'; n--)
			frac[n - 1] = '\0';
	}
	gmtime_r(&t, &tm);
	n = strftime(buf, len, "%Y-%m-%d %H:%M:%S", &tm);
	n += snprintf(buf + n, len - n, "%s +0000 UTC", frac);
	if (mono >= 0 && n < len)
		snprintf(buf + n, len - n, " m=+%lld.%09lld", mono / 1000000000, mono % 1000000000);
	return buf;
}

static char *stamp_text(const struct stamp *s, char *buf, size_t len)
{
	return bn_go_time(buf, len, s->wall.tv_sec, s->wall.tv_nsec, s->mono_ns);
}

bool bn_health_ok(const struct bn_health *h)
{
	return !h->queued_ns || mono_ns() - h->origin_ns - h->queued_ns < h->timeout_ns;
}

void bn_health_queued(struct bn_health *h)
{
	if (!h->queued_ns)
		h->queued_ns = mono_ns() - h->origin_ns ?: 1;
}

void bn_health_updated(struct bn_health *h)
{
	h->queued_ns = 0;
	h->updated = now(h);
}

void bn_health_set_node_eligible(struct bn_health *h, bool eligible)
{
	h->node_eligible = eligible;
}

/* kube-proxy's text to the space: a healthy answer shows the current time as lastUpdated. */
static void on_request(const char *path, struct bn_httpd_response *r, void *data)
{
	struct bn_health *h = data;
	bool healthz = !strcmp(path, "/healthz"), ok = bn_health_ok(h);
	struct stamp t = now(h);
	char last[96], current[96];

	if (!strcmp(path, "/readyz") && h->ready) {
		r->code = h->ready(r->body, h->ready_data) ? 200 : 503;
		return;
	}
	if (!healthz && strcmp(path, "/livez")) {
		r->code = 404;
		r->headers = "X-Content-Type-Options: nosniff\r\n";
		evbuffer_add_printf(r->body, "404 page not found\n");
		return;
	}
	if (healthz)
		ok = ok && h->node_eligible;
	r->code = ok ? 200 : 503;
	r->content_type = "application/json";
	r->headers = "X-Content-Type-Options: nosniff\r\n";
	stamp_text(&t, current, sizeof(current));
	stamp_text(ok ? &t : &h->updated, last, sizeof(last));
	evbuffer_add_printf(r->body, "{\"lastUpdated\": \"%s\",\"currentTime\": \"%s\"", last, current);
	if (healthz)
		evbuffer_add_printf(r->body, ", \"nodeEligible\": %s",
				    h->node_eligible ? "true" : "false");
	evbuffer_add_printf(r->body, "}");
	bn_metric_inc(healthz ? h->healthz_total : h->livez_total, ok ? "200" : "503");
}

int bn_health_new(struct event_base *base, const char *bind, struct bn_metrics *metrics,
		  struct bn_health **ret)
{
	_cleanup_(bn_health_freep) struct bn_health *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->origin_ns = mono_ns();
	h->timeout_ns = BN_HEALTH_TIMEOUT_S * 1000000000ll;
	h->updated.wall.tv_nsec = -1;
	h->node_eligible = true;
	if (metrics) {
		h->healthz_total = bn_metrics_counter(metrics, "kubeproxy_proxy_healthz_total",
						      "Cumulative proxy healthz HTTP status",
						      "code");
		h->livez_total = bn_metrics_counter(metrics, "kubeproxy_proxy_livez_total",
						    "Cumulative proxy livez HTTP status", "code");
	}
	r = bn_httpd_new(base, bind, "health server", on_request, h, &h->http);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

void bn_health_freep(struct bn_health **hp)
{
	if (!*hp)
		return;
	bn_httpd_freep(&(*hp)->http);
	free(*hp);
	*hp = NULL;
}

void bn_health_set_ready(struct bn_health *h, bool (*fn)(struct evbuffer *out, void *data), void *data)
{
	h->ready = fn;
	h->ready_data = data;
}

void bn_health_set_timeout_ms(struct bn_health *h, unsigned ms)
{
	h->timeout_ns = ms * 1000000ll;
}

unsigned bn_health_port(const struct bn_health *h)
{
	return bn_httpd_port(h->http);
}
