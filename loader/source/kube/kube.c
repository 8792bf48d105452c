/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/kube.h"

#include <string.h>
#include <sys/prctl.h>

#include "loader/log.h"
#include "loader/source/kube/kube_metrics.h"
#include "loader/source/kube/report.h"
#include "loader/source/laststate.h"

#define PROXY_NAME "service.kubernetes.io/service-proxy-name"
#define HEADLESS "service.kubernetes.io/headless"

struct kube {
	struct bn_source s;
	struct bn_kube_config *config;
	struct bn_rest *http;
	struct bn_reflector *refl[BN_KIND__MAX];
	struct bn_report *report;
	struct event *changed, *look;
	struct bn_kube_metrics metrics;
	char *selector; /* of Services and EndpointSlices, as kube-proxy's */
	bool stopped;
};

/* A reflector is called by libcurl and must not be called back from there: the daemon's work is
 * done in the loop's next step, once for all that came meanwhile.
 */
static void note_changed(void *data)
{
	struct kube *k = data;

	event_active(k->changed, EV_TIMEOUT, 1);
}

static void on_changed(evutil_socket_t fd, short what, void *data)
{
	struct kube *k = data;

	(void)fd;
	(void)what;
	if (k->s.last)
		bn_laststate_flush(k->s.last);
	if (!k->stopped && k->s.cb.changed)
		k->s.cb.changed(k->s.cb.data);
}

static void on_observe(void *data, const char *code, const char *host, const char *method,
		       double seconds)
{
	struct kube *k = data;

	bn_kube_metrics_observe(&k->metrics, code, host, method, seconds);
}

static void on_reachable(void *data)
{
	struct kube *k = data;

	for (int i = 0; i < BN_KIND__MAX; i++)
		if (k->refl[i])
			bn_reflector_wake(k->refl[i]);
}

static void on_silent(void *data, unsigned seconds)
{
	struct kube *k = data;

	for (int i = 0; i < BN_KIND__MAX; i++)
		if (!k->refl[i])
			continue;
		else if (seconds)
			bn_reflector_silent(k->refl[i], seconds);
		else
			bn_reflector_alive(k->refl[i]);
}

#define LOOK_S 2

static void on_look(evutil_socket_t fd, short what, void *data)
{
	struct kube *k = data;

	(void)fd;
	(void)what;
	for (int i = 0; i < BN_KIND__MAX; i++)
		if (k->refl[i])
			bn_reflector_look(k->refl[i]);
}

static int kube_start(struct bn_source *s)
{
	static const struct timeval look = { LOOK_S, 0 };
	struct kube *k = (struct kube *)s;

	event_add(k->look, &look);

	for (int i = 0; i < BN_KIND__MAX; i++)
		bn_reflector_start(k->refl[i]);
	log_info("kubernetes: reading from %s (%s)", bn_rest_host(k->http), k->config->origin);
	return 0;
}

static void kube_stop(struct bn_source *s)
{
	struct kube *k = (struct kube *)s;

	k->stopped = true;
	if (k->look)
		event_del(k->look);
	for (int i = 0; i < BN_KIND__MAX; i++)
		bn_reflector_freep(&k->refl[i]);
	bn_report_freep(&k->report);
	bn_rest_freep(&k->http);
}

static void kube_free(struct bn_source *s)
{
	struct kube *k = (struct kube *)s;

	kube_stop(s);
	bn_kube_config_freep(&k->config);
	if (k->changed)
		event_free(k->changed);
	if (k->look)
		event_free(k->look);
	free(k->selector);
	free(k);
}

static void on_judged(struct bn_source *s, const struct bn_source_id *id, const json_t *json,
		      const struct bn_err *err)
{
	bn_report_judged(((struct kube *)s)->report, id, json, err);
}

static const struct bn_source_ops kube_ops = {
	.start = kube_start,
	.stop = kube_stop,
	.free = kube_free,
};

static int make_reflectors(struct kube *k, struct event_base *base, const struct bn_kube_opts *o)
{
	for (int i = 0; i < BN_KIND__MAX; i++) {
		bool selected = i == BN_KIND_SERVICE || i == BN_KIND_ENDPOINTSLICE;
		const struct bn_reflector_env env = {
			.base = base,
			.http = k->http,
			.source = &k->s,
			.kind = i,
			.label_selector = selected ? k->selector : NULL,
			.streaming = !o->no_streaming,
			.changed = note_changed,
			.data = k,
		};
		int r = bn_reflector_new(&env, &k->refl[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

const char *bn_kube_host(const struct bn_source *s)
{
	return bn_rest_host(((const struct kube *)s)->http);
}

static int setup(struct kube *k, struct event_base *base, const struct bn_kube_opts *o, char *err)
{
	const struct bn_kube_config_opts co = { o->kubeconfig, o->master, o->sa_dir };
	const struct bn_rest_hooks hooks = {
		.observe = on_observe,
		.reachable = on_reachable,
		.silent = on_silent,
		.data = k,
	};
	int r;

	r = bn_kube_config_load(&co, &k->config, err);
	if (r < 0)
		return r;
	if (k->config->warning)
		log_warn("%s", k->config->warning);
	snprintf(err, 512, "no memory");
	r = o->service_proxy_name
		    ? asprintf(&k->selector, PROXY_NAME "=%s,!" HEADLESS, o->service_proxy_name)
		    : asprintf(&k->selector, "!" PROXY_NAME ",!" HEADLESS);
	k->changed = event_new(base, -1, 0, on_changed, k);
	k->look = event_new(base, -1, EV_PERSIST, on_look, k);
	if (r < 0 || !k->changed || !k->look)
		return -ENOMEM;
	r = bn_rest_new(base, k->config, &hooks, &k->http);
	if (r == -EINVAL)
		snprintf(err, 512, "%s: server '%s' is not an address without credentials in it",
			 k->config->origin, k->config->server);
	if (r == 0 && o->node_name) {
		r = bn_report_new(base, k->http, &k->s, o->node_name, &k->report);
		k->s.judged = on_judged;
	}
	return r ?: make_reflectors(k, base, o);
}

int bn_kube_new(struct event_base *base, const struct bn_kube_opts *o, struct bn_store *store,
		const struct bn_source_callbacks *cb, struct bn_source **ret,
		char err[static 512])
{
	struct kube *k = calloc(1, sizeof(*k));
	int r;

	snprintf(err, 512, "no memory");
	if (!k)
		return -ENOMEM;
	/* Tokens and keys pass through buffers of libcurl and OpenSSL too: no core dump at all. */
	prctl(PR_SET_DUMPABLE, 0);
	bn_source_init(&k->s, "kubernetes", &kube_ops, store, cb);
	r = setup(k, base, o, err);
	if (r == 0 && o->metrics)
		r = bn_kube_metrics_init(&k->metrics, o->metrics, &k->s, k->refl);
	if (r < 0) {
		kube_free(&k->s);
		return r;
	}
	*ret = &k->s;
	return 0;
}
