/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_DAEMON_H
#define BN_LOADER_DAEMON_H

/* The daemon's parts, put together: one event loop, one writer. A source fills the store, the
 * models listen to it, and one turn of the loop (bn_daemon_sync) brings the kernel to what they
 * want: endpoints, then policies, then services. Ending it changes nothing in force.
 */

#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>

#include "loader/kernel/kernel.h"
#include "loader/model/dsr.h"
#include "loader/model/endpoints.h"
#include "loader/model/policies.h"
#include "loader/model/services.h"
#include "loader/model/udpsocks.h"
#include "loader/limits.h"
#include "loader/opts.h"
#include "loader/serve/control.h"
#include "loader/serve/fill.h"
#include "loader/serve/flows.h"
#include "loader/serve/health.h"
#include "loader/serve/healthcheck.h"
#include "loader/serve/http.h"
#include "loader/serve/metrics.h"
#include "loader/slow.h"
#include "loader/source/source.h"
#include "loader/takeover.h"
#include "maps/ep_access.h"

struct bn_verify;

struct bn_daemon {
	const struct bn_opts *opts;
	struct event_base *base;
	struct event *turn;	/* a sync is due: at most one however many changes */
	struct event *tick;	/* what has to be tried again, and what ages */
	struct event *signals[2];
	struct event *woken; /* a thread has something for the loop */
	int wake_fd;
	struct bn_control *control;
	struct bn_metrics *metrics;
	struct bn_fill *fill;
	struct bn_httpd *metrics_http;
	struct bn_health *health;
	struct bn_healthcheck *healthcheck;
	struct bn_kernel *kernel;
	struct bn_store *store;
	struct bn_slow *slow;
	struct bn_eps *eps;
	struct bn_services *services;
	struct bn_udpsocks *udpsocks;
	struct bn_dsr *dsr;
	struct bn_policies *policies;
	struct bn_verify *verify; /* policy trace --verify */
	struct bn_endpoints *endpoints;
	struct bn_flows *flows;
	struct bn_laststate *last;
	struct bn_source *source;
	struct bn_limits limits;
	struct bn_takeover takeover;
	struct bn_metric *latency; /* from the source's events to the kernel */
	size_t notices; /* of the kernel's: how many are logged */
	uint64_t read_ns; /* beside another version's maps: when everything had been read; 0: not yet */
	bool cgroup_attached, swept, stopping;
	uint64_t started_ns; /* bn_source_now */
	int exit_code;
};

/* Starts everything; errors are logged. Afterwards event_base_dispatch runs it. */
int bn_daemon_new(const struct bn_opts *opts, struct bn_daemon **ret);
void bn_daemon_freep(struct bn_daemon **d);

/* Something changed: a sync in this turn of the loop. */
void bn_daemon_kick(struct bn_daemon *d);

/* loader/status.c */
bool bn_daemon_ready(const struct bn_daemon *d);
bool bn_daemon_readyz(struct evbuffer *out, void *data); /* data: the daemon; as bn_health_set_ready wants it */
bool bn_daemon_complete(const struct bn_daemon *d); /* ready, but for another version's programs that are still in force */
json_t *bn_daemon_status(struct bn_daemon *d);
unsigned bn_daemon_service_kinds(const struct bn_daemon *d);
unsigned bn_daemon_policy_kinds(const struct bn_daemon *d);

/* loader/commands.c: what the control socket answers. */
int bn_daemon_commands(struct bn_daemon *d);

/* loader/telemetry.c: the values of the models as metrics. */
int bn_daemon_telemetry(struct bn_daemon *d);
void bn_telemetry_http(struct bn_daemon *d, const struct bn_httpsets_stats *s); /* telemetry_http.c */

#endif
