/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_HEALTH_H
#define BN_LOADER_HEALTH_H

/* /healthz and /livez with kube-proxy's answers (SEMANTICS 5): load balancers and probes that watch
 * kube-proxy watch bpfnet unchanged.
 *
 * Unhealthy (503) exactly while a change that was queued is older than the time allowed, and, for
 * /healthz only, while the node is being deleted or is tainted by the autoscaler. A daemon that
 * starts and has nothing queued is healthy.
 */

#include <event2/buffer.h>
#include <event2/event.h>
#include <stdbool.h>

#include "loader/serve/metrics.h"

#define BN_HEALTH_TIMEOUT_S 60 /* kube-proxy: twice its syncPeriod of 30 s */

struct bn_health;

/* bind as in http.h; "" or "0": no server, but the state is kept. metrics may be NULL. */
int bn_health_new(struct event_base *base, const char *bind, struct bn_metrics *metrics,
		  struct bn_health **ret);
/* What /readyz says: 200 when fn returns true, else 503; fn writes the text. NULL, the default: 404. */
void bn_health_set_ready(struct bn_health *h, bool (*fn)(struct evbuffer *out, void *data), void *data);
void bn_health_freep(struct bn_health **h);

/* A change waits to be written to the kernel. Only the oldest one counts. */
void bn_health_queued(struct bn_health *h);
/* Everything queued so far is in force. */
void bn_health_updated(struct bn_health *h);
/* False: this node is being deleted, or has the taint ToBeDeletedByClusterAutoscaler. */
void bn_health_set_node_eligible(struct bn_health *h, bool eligible);

/* As /livez answers, for healthCheckNodePort servers ("serviceProxyHealthy") and status. */
bool bn_health_ok(const struct bn_health *h);

/* For tests: time-out in ms, and the port bound. */
void bn_health_set_timeout_ms(struct bn_health *h, unsigned ms);
unsigned bn_health_port(const struct bn_health *h);

/* Go's time.Time.String() of a wall clock time, with the monotonic reading when mono_ns >= 0.
 * Writes into buf of at least 80 bytes and returns it. Unix 0 with nsec -1 is Go's zero time.
 */
char *bn_go_time(char *buf, size_t len, long long sec, long nsec, long long mono_ns);

#endif
