/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_SERVE_HEALTHCHECK_H
#define BN_LOADER_SERVE_HEALTHCHECK_H

/* Health checks of load balancers: for each Service of type LoadBalancer with
 * externalTrafficPolicy Local a small HTTP server on its healthCheckNodePort, on every address of
 * the node that answers NodePorts, answering as kube-proxy's does (SEMANTICS, HealthCheckNodePort).
 * Servers come and go with the services, and their sockets with the node's addresses; a port that is
 * taken is logged once and tried again every few seconds.
 */

#include <event2/event.h>
#include <stdbool.h>

#include "loader/model/services.h"
#include "policy/object.h"

struct bn_healthcheck;

/* healthy: is the proxy itself healthy? NULL: always. */
int bn_healthcheck_new(struct event_base *base, const struct bn_services *s,
		       bool (*healthy)(void *data), void *data, struct bn_healthcheck **ret);
/* --nodeport-addresses: only local addresses in these, in the families that they name. Borrowed. */
void bn_healthcheck_restrict(struct bn_healthcheck *h, const struct bn_cidr *cidrs, unsigned n);
void bn_healthcheck_freep(struct bn_healthcheck **h);

/* Follows the model; call it after bn_services_sync. Cheap when nothing changed. */
void bn_healthcheck_sync(struct bn_healthcheck *h);

#endif
