/* SPDX-License-Identifier: MIT */
#include "loader/daemon.h"

#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "loader/hold.h"
#include "loader/log.h"
#include "loader/model/verify.h"
#include "loader/source/kube/config.h"
#include "loader/source/kube/kube.h"
#include "loader/source/laststate.h"
#include "loader/source/manifests.h"
#include "loader/trim.h"
#include "policy/intern.h"

#define BN_TICK_S 2
#define BN_TAKEOVER_TICKS 5
#define BN_LEAVE_S 20
/* What one turn may spend on services that changed, before whatever came meanwhile is read. */
#define BN_SLICE_NS 5000000
/* An API server that has just started may forbid everything for a moment. */
#define BN_DENIED_S 8

static const struct bn_node *own_node(const struct bn_daemon *d)
{
	return (const struct bn_node *)bn_store_get(d->store, BN_KIND_NODE, "",
						    d->opts->node_name);
}

/* What came before the lists were complete does not count: it waited for them. */
static void note_latency(struct bn_daemon *d, bool failed)
{
	uint64_t since = d->source ? d->source->pending_ns : 0;

	if (!since || failed)
		return;
	d->source->pending_ns = 0;
	if (bn_services_in_force(d->services) && bn_policies_in_force(d->policies))
		bn_metric_observe(d->latency, (bn_source_now() - since) / 1e9);
}

/* A part that fails is logged by itself, its change stays dirty and is tried again at the tick: the
 * others go on, and what is in force stays.
 */
static void sync_models(struct bn_daemon *d)
{
	int r, failed = 0;

	r = bn_endpoints_sync(d->endpoints);
	failed |= r;
	r = bn_policies_sync(d->policies);
	if (r < 0 && bn_log_ratelimit(10))
		bn_log_err(r, "policies: not all of them could be written; tried again");
	failed |= r;
	/* Whether an unknown pod is closed depends on whether a policy could select it. */
	r = bn_endpoints_sync(d->endpoints);
	failed |= r;
	r = bn_services_sync(d->services);
	failed |= r;
	failed |= bn_dsr_sync(d->dsr, bn_source_synced(d->source, 1u << BN_KIND_NODE | 1u << BN_KIND_POD));
	bn_udpsocks_sync(d->udpsocks);
	bn_healthcheck_sync(d->healthcheck);
	note_latency(d, failed < 0);
	if (failed >= 0 && (!bn_services_pending_ns(d->services) || bn_services_unfinished(d->services)))
		bn_health_updated(d->health);
}

/* Nodes say in which zone we are and who the other nodes are. Where they cannot be read (a right that
 * is missing) status says so and is not ready, but services and pods do not wait for ever.
 */
static unsigned without_denied_nodes(const struct bn_daemon *d, unsigned kinds)
{
	const struct bn_source_state *nodes = &d->source->state[BN_KIND_NODE];

	return !nodes->synced && nodes->failing_ns ? kinds & ~(1u << BN_KIND_NODE) : kinds;
}

/* A node on which policies never were in force, whose daemon may not read them (403, not a failure
 * that will pass), is not cut off for ever: services need no policies. Where they were, by the maps or
 * by what --state-dir kept, what is unknown stays closed.
 */
static void check_denied(struct bn_daemon *d)
{
	const unsigned policies = 1u << BN_KIND_NETPOL | 1u << BN_KIND_HTTPNETPOL;
	unsigned denied = bn_source_forbidden(d->source, BN_DENIED_S) & bn_daemon_policy_kinds(d);

	if (!denied || bn_policies_unenforced(d->policies) ||
	    bn_source_synced(d->source, bn_daemon_policy_kinds(d)) ||
	    bn_policies_ever(d->policies) || (d->last && bn_laststate_holds(d->last, policies)))
		return;
	log_error("%s: may not be read: no policy is enforced on this node until it may",
		  bn_kind_plural(__builtin_ctz(denied)));
	bn_policies_set_unenforced(d->policies);
}

static void set_ready(struct bn_daemon *d)
{
	unsigned for_services = without_denied_nodes(d, bn_daemon_service_kinds(d));
	unsigned for_pods = without_denied_nodes(d, 1u << BN_KIND_POD | 1u << BN_KIND_NODE);
	bool policies = bn_source_synced(d->source, bn_daemon_policy_kinds(d));
	bool endpoints = bn_source_synced(d->source, for_pods);

	bn_services_set_ready(d->services, bn_source_synced(d->source, for_services));
	bn_policies_set_ready(d->policies, policies);
	check_denied(d);
	/* Without pods every interface is one of an unknown pod, and open. */
	endpoints |= bn_policies_unenforced(d->policies) &&
		     bn_source_forbidden(d->source, BN_DENIED_S) & 1u << BN_KIND_POD;
	bn_endpoints_set_ready(d->endpoints, endpoints);
}

/* Services at sockets are one way of two: without a cgroup2 the packets are translated. */
static void attach_cgroup(struct bn_daemon *d)
{
	_cleanup_(freep) char *err = NULL;
	int r = bn_kernel_attach_cgroup(d->kernel, &err);

	d->cgroup_attached = r == 0;
	if (r < 0)
		log_warn("socket hooks: %s; services are translated per packet only, the node's own too",
			 err ? err : strerror(-r));
}

/* Those that came since the last time. */
static void log_notices(struct bn_daemon *d)
{
	const json_t *notices = bn_kernel_notices(d->kernel);

	for (; d->notices < json_array_size(notices); d->notices++)
		log_warn("%s", json_string_value(json_array_get(notices, d->notices)));
}

/* Is everything in our maps, or has it been read long enough ago that what is missing (an interface that takes no
 * program, a pod without one) is not to be waited for? Meanwhile nothing that changes would come into force.
 */
static bool may_leave(struct bn_daemon *d)
{
	unsigned all = without_denied_nodes(d, bn_daemon_service_kinds(d) | bn_daemon_policy_kinds(d));
	uint64_t now = bn_source_now();

	if (bn_daemon_complete(d))
		return true;
	if (!bn_source_synced(d->source, all)) {
		d->read_ns = 0;
		return false;
	}
	d->read_ns = d->read_ns ?: now;
	return now - d->read_ns > BN_LEAVE_S * 1000000000ull;
}

/* Another version's maps are left behind when nothing is missing in ours. */
static void leave_other(struct bn_daemon *d)
{
	_cleanup_(freep) char *err = NULL;
	int r;

	if (!bn_kernel_beside(d->kernel) || !may_leave(d))
		return;
	r = bn_kernel_switch(d->kernel, &err);
	if (r < 0 && bn_log_ratelimit(10))
		log_error("the other version's programs could not be replaced: %s; tried again", err ?: strerror(-r));
	log_notices(d);
	if (bn_kernel_beside(d->kernel))
		return;
	attach_cgroup(d);
	log_info("this version's programs and maps are in force");
}

/* What an earlier daemon left attached to interfaces that are no business of ours any more. */
static void sweep(struct bn_daemon *d)
{
	if (d->swept || !bn_daemon_ready(d))
		return;
	d->swept = true;
	bn_kernel_sweep(d->kernel);
	bn_trim();
}

/* Not before every interface has its programs: until then kube-proxy's rules are at work there. Where
 * that does not come about, waiting for ever would be worse.
 */
static void end_takeover(struct bn_daemon *d)
{
	if (!d->takeover.under_way || !bn_services_in_force(d->services))
		return;
	if (bn_daemon_ready(d) || d->takeover.ticks >= BN_TAKEOVER_TICKS)
		bn_takeover_end(&d->takeover);
}

static void on_turn(evutil_socket_t fd _unused_, short what _unused_, void *data)
{
	struct bn_daemon *d = data;
	const struct bn_node *n = own_node(d);
	uint64_t began = bn_hold_begin();
	char *err = NULL;

	set_ready(d);
	sync_models(d);
	bn_health_set_node_eligible(d->health, !n || (!n->deleting && !n->to_be_deleted));
	bn_kernel_record_devices(d->kernel, bn_endpoints_devices(d->endpoints), &err);
	if (err && bn_log_ratelimit(60))
		log_warn("%s", err);
	free(err);
	leave_other(d);
	end_takeover(d);
	sweep(d);
	if (bn_services_unfinished(d->services))
		event_add(d->turn, &(struct timeval){ 0, 0 }); /* behind what is to be read */
	bn_intern_collect(); /* nobody is at work with a string that he has no reference to */
	bn_hold_end(BN_WORK_SYNC, began);
}

void bn_daemon_kick(struct bn_daemon *d)
{
	if (d->turn && !d->stopping)
		event_active(d->turn, 0, 0);
}

static void on_changed(void *data)
{
	struct bn_daemon *d = data;

	bn_health_queued(d->health);
	bn_daemon_kick(d);
}

static void on_tick(evutil_socket_t fd _unused_, short what _unused_, void *data)
{
	struct bn_daemon *d = data;
	struct bn_state *st = d->kernel->maps->mem[BN_MAP_state];
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	__atomic_store_n(&st->heartbeat_ns, ts.tv_sec * 1000000000ull + ts.tv_nsec,
			 __ATOMIC_RELAXED);
	bn_takeover_tick(&d->takeover);
	bn_limits_tick(&d->limits, d->kernel->maps, ts.tv_sec * 1000000000ull + ts.tv_nsec);
	bn_daemon_kick(d);
}

static void on_signal(evutil_socket_t sig, short what _unused_, void *data)
{
	struct bn_daemon *d = data;

	log_info("%s", sig == SIGINT ? "interrupted" : "told to end");
	d->stopping = true;
	event_base_loopbreak(d->base);
}

/* Any thread. */
static void wake(void *data)
{
	const uint64_t one = 1;

	while (write(((struct bn_daemon *)data)->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void on_woken(evutil_socket_t fd, short what _unused_, void *data)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		log_err_r(errno, "eventfd");
	bn_slow_collect(((struct bn_daemon *)data)->slow);
	bn_daemon_kick(data);
}

static int open_loop(struct bn_daemon *d)
{
	const int sigs[] = { SIGTERM, SIGINT };

	d->base = event_base_new();
	if (!d->base)
		return log_err_r(ENOMEM, "event loop");
	for (size_t i = 0; i < ARRAY_SIZE(sigs); i++) {
		d->signals[i] = evsignal_new(d->base, sigs[i], on_signal, d);
		if (!d->signals[i] || evsignal_add(d->signals[i], NULL) < 0)
			return log_err_r(ENOMEM, "signal handlers");
	}
	d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->wake_fd < 0)
		return log_err_r(errno, "eventfd");
	d->woken = event_new(d->base, d->wake_fd, EV_READ | EV_PERSIST, on_woken, d);
	if (!d->woken || event_add(d->woken, NULL) < 0)
		return log_err_r(ENOMEM, "eventfd");
	d->turn = event_new(d->base, -1, 0, on_turn, d);
	d->tick = event_new(d->base, -1, EV_PERSIST, on_tick, d);
	return d->turn && d->tick ? 0 : log_err_r(ENOMEM, "timers");
}

static int make_dir(const char *path)
{
	char buf[PATH_MAX];

	if (snprintf(buf, sizeof(buf), "%s", path) >= (int)sizeof(buf))
		return log_err_r(ENAMETOOLONG, "directory '%s'", path);
	for (char *p = buf + 1; *p; p++)
		if (*p == '/') {
			*p = '\0';
			mkdir(buf, 0755);
			*p = '/';
		}
	if (mkdir(buf, 0755) < 0 && errno != EEXIST)
		return log_err_r(errno, "--run-dir: create '%s'", path);
	return 0;
}

static int open_kernel(struct bn_daemon *d)
{
	char *err = NULL;
	int r;

	r = bn_kernel_open(d->opts, &d->kernel, &err);
	if (r < 0) {
		log_error("%s", err ? err : strerror(-r));
		free(err);
		return r;
	}
	log_notices(d);
	attach_cgroup(d);
	return 0;
}

static int open_models(struct bn_daemon *d)
{
	const struct bn_opts *o = d->opts;
	const struct bn_svc_env svc_env = {
		.node_name = o->node_name,
		.proxy_name = o->service_proxy_name,
		.maglev = !strcmp(o->lb_algorithm, "maglev"),
	};
	struct bn_endpoints_env ep_env = { .base = d->base, .opts = o, .data = d };
	struct bn_policies_env pol_env = { .node_name = o->node_name, .wake = wake, .wake_data = d,
					 .proxy_name = o->service_proxy_name, .audit = o->policy_audit };
	struct bn_maps *maps = d->kernel->maps;
	struct bn_state *st = maps->mem[BN_MAP_state];
	bool unfinished = st->flags & BN_STATE_F_TAKEOVER;
	uint32_t flags = (o->unknown_pods == BN_UNKNOWN_ALLOW ? BN_STATE_F_UNKNOWN_ALLOW : 0) |
			 (o->deny_reject ? BN_STATE_F_DENY_REJECT : 0) | (o->policy_audit ? BN_STATE_F_AUDIT : 0);
	bool other = (flags ^ st->flags) & BN_STATE_F_AUDIT;
	int r;

	__atomic_store_n(&st->flags, flags, __ATOMIC_RELEASE);
	/* Flows that audit let in are judged again, and those that are enforced are let be. Not where policies never
	 * were in force: the epoch says that, too.
	 */
	if (other && st->epoch > 1)
		__atomic_store_n(&st->epoch, st->epoch + 1 ?: 1, __ATOMIC_RELEASE);
	r = bn_store_new(&d->store) ?: bn_slow_new(wake, d, &d->slow);
	if (r < 0)
		return log_err_r(r, "object store");
	r = bn_eps_new(maps, &d->eps);
	if (r < 0)
		return log_err_r(r, "addresses in the pinned maps");
	r = bn_services_new(d->store, maps, &svc_env, &d->services);
	if (r < 0)
		return log_err_r(r, "services in the pinned maps (remove them with bpfnet cleanup)");
	bn_services_set_slice(d->services, BN_SLICE_NS);
	bn_takeover_begin(&d->takeover, maps, unfinished || !bn_services_stats(d->services)->services);
	r = bn_dsr_new(d->store, maps, o, &d->dsr);
	if (r < 0)
		return log_err_r(r, "nodes that speak DSR");
	r = bn_udpsocks_new(d->base, maps, d->services, &d->udpsocks);
	if (r < 0)
		return log_err_r(r, "connected UDP sockets");
	r = bn_verify_new(maps, bn_kernel_prog_fd(d->kernel, "from_pod"),
			  bn_kernel_prog_fd(d->kernel, "to_pod"), &d->verify);
	if (r < 0)
		return log_err_r(r, "policy trace --verify");
	pol_env.verify = bn_verify_ops(d->verify);
	pol_env.eps = d->eps;
	pol_env.slow = d->slow;
	pol_env.no_http = bn_kernel_no_http(d->kernel);
	r = bn_policies_new(d->store, maps, &pol_env, &d->policies);
	if (r < 0)
		return log_err_r(r, "policies in the pinned maps");
	ep_env.store = d->store;
	ep_env.maps = maps;
	ep_env.eps = d->eps;
	ep_env.policies = d->policies;
	ep_env.kernel = d->kernel;
	ep_env.changed = on_changed;
	r = bn_endpoints_new(&ep_env, &d->endpoints);
	return r < 0 ? log_err_r(r, "interfaces") : 0;
}

static bool proxy_healthy(void *data)
{
	return bn_health_ok(((struct bn_daemon *)data)->health);
}

static int open_servers(struct bn_daemon *d)
{
	int r;

	r = bn_health_new(d->base, d->opts->healthz_bind, d->metrics, &d->health);
	if (r < 0)
		return log_err_r(r, "--healthz-bind %s", d->opts->healthz_bind);
	bn_health_set_ready(d->health, bn_daemon_readyz, d);
	r = bn_healthcheck_new(d->base, d->services, proxy_healthy, d, &d->healthcheck);
	if (r < 0)
		return log_err_r(r, "health-check servers");
	bn_healthcheck_restrict(d->healthcheck, d->opts->nodeport_cidrs, d->opts->nnodeport_cidrs);
	return bn_daemon_telemetry(d);
}

static int open_kube(struct bn_daemon *d, const struct bn_source_callbacks *cb)
{
	const struct bn_opts *o = d->opts;
	const struct bn_kube_opts ko = {
		.kubeconfig = o->kubeconfig,
		.master = o->master,
		.service_proxy_name = o->service_proxy_name,
		.node_name = o->node_name,
		.metrics = d->metrics,
	};
	char err[512] = "";
	int r;

	r = bn_kube_new(d->base, &ko, d->store, cb, &d->source, err);
	if (r < 0)
		log_error("%s", err[0] ? err : strerror(-r));
	return r;
}

static int open_source(struct bn_daemon *d)
{
	const struct bn_source_callbacks cb = { .changed = on_changed, .data = d };
	int r;

	r = bn_laststate_open(d->opts->state_dir, d->opts->bpffs, &d->last);
	if (r < 0) /* a convenience that must not stop anything */
		log_warn("--state-dir %s: %s; refused objects lose their last good version at the next start",
			 d->opts->state_dir, strerror(-r));
	else
		bn_laststate_note(d->last, d->opts->run_dir);
	if (d->opts->manifests) {
		r = bn_manifests_new(d->base, d->opts->manifests, d->last, d->store, &cb,
				     &d->source);
		if (r < 0)
			log_err_r(r, "--manifests %s", d->opts->manifests);
	} else {
		r = open_kube(d, &cb);
		if (!r)
			d->source->last = d->last;
	}
	if (r < 0)
		return r;
	d->source->no_http = bn_kernel_no_http(d->kernel);
	d->source->slow = d->slow;
	r = bn_source_start(d->source);
	return r < 0 ? log_err_r(r, "source '%s'", d->source->name) : 0;
}

/* A mistake in the command line must not leave hooks and pins behind: looked at before anything is touched. */
static int check_start(const struct bn_opts *o)
{
	const struct bn_kube_config_opts co = { o->kubeconfig, o->master, NULL };
	_cleanup_(bn_kube_config_freep) struct bn_kube_config *config = NULL;
	_cleanup_(freep) char *lacks = NULL;
	char err[512] = "";
	int r;

	r = bn_kernel_preconditions(&lacks);
	if (r < 0) {
		log_error("%s", lacks ? lacks : strerror(-r));
		return r;
	}
	if (o->manifests)
		return 0;
	r = bn_kube_config_load(&co, &config, err);
	if (r < 0)
		log_error("%s", err[0] ? err : strerror(-r));
	return r;
}

int bn_daemon_new(const struct bn_opts *opts, struct bn_daemon **ret)
{
	_cleanup_(bn_daemon_freep) struct bn_daemon *d = calloc(1, sizeof(*d));
	const struct timeval tick = { BN_TICK_S, 0 };
	int r;

	if (!d)
		return log_err_r(ENOMEM, "start");
	d->opts = opts;
	d->started_ns = bn_source_now();
	d->wake_fd = -1;
	r = check_start(opts);
	if (!r)
		r = open_loop(d);
	if (!r)
		r = make_dir(opts->run_dir);
	if (!r)
		r = bn_control_new(d->base, opts->run_dir, &d->control);
	if (!r)
		r = bn_metrics_new(&d->metrics);
	if (!r)
		r = open_kernel(d);
	if (!r)
		r = open_models(d);
	if (!r)
		r = open_servers(d);
	if (!r)
		r = bn_daemon_commands(d);
	if (!r)
		r = open_source(d);
	if (r < 0)
		return r;
	event_add(d->tick, &tick);
	bn_daemon_kick(d);
	log_info("bpfnetd %s on node %s: objects from %s, pins in %s", BN_VERSION, opts->node_name,
		 d->source->name, opts->bpffs);
	*ret = TAKE_PTR(d);
	return 0;
}

void bn_daemon_freep(struct bn_daemon **dp)
{
	struct bn_daemon *d = *dp;

	if (!d)
		return;
	d->stopping = true;
	bn_slow_freep(&d->slow);
	bn_control_freep(&d->control);
	bn_source_freep(&d->source);
	bn_laststate_freep(&d->last);
	bn_flows_freep(&d->flows);
	bn_httpd_freep(&d->metrics_http);
	bn_healthcheck_freep(&d->healthcheck);
	bn_health_freep(&d->health);
	bn_endpoints_freep(&d->endpoints);
	bn_policies_freep(&d->policies);
	bn_verify_freep(&d->verify);
	bn_udpsocks_freep(&d->udpsocks);
	bn_dsr_freep(&d->dsr);
	bn_services_freep(&d->services);
	bn_eps_freep(&d->eps);
	bn_store_freep(&d->store);
	bn_fill_freep(&d->fill);
	bn_kernel_closep(&d->kernel);
	bn_metrics_freep(&d->metrics);
	for (size_t i = 0; i < ARRAY_SIZE(d->signals); i++)
		if (d->signals[i])
			event_free(d->signals[i]);
	if (d->woken)
		event_free(d->woken);
	closep(&d->wake_fd);
	if (d->turn)
		event_free(d->turn);
	if (d->tick)
		event_free(d->tick);
	if (d->base)
		event_base_free(d->base);
	free(d);
	*dp = NULL;
}
