/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_SERVICES_H
#define BN_LOADER_MODEL_SERVICES_H

/* The services model: listens to the store, keeps what is in the maps equal to what the cluster's
 * objects say. A change costs what it touches, whatever the number of services.
 *
 * Until bn_services_set_ready nothing is written: what is pinned stays in force, and the listings
 * show it in full. The first sync after that writes only the differences.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "maps/maps.h"
#include "policy/store.h"
#include "policy/svcmodel.h"

struct bn_services;

/* Adopts what the maps hold. env: node_name, proxy_name and maglev are read (and copied); zone and
 * node addresses are taken from the store's Node of that name and followed. store, maps and what
 * they hold outlive the model, and the store must not change once the model is freed. What is
 * damaged in the maps is left out of the mirror and made anew by the first sync.
 */
int bn_services_new(struct bn_store *store, struct bn_maps *maps, const struct bn_svc_env *env,
		    struct bn_services **ret);
void bn_services_freep(struct bn_services **s);

/* Services and EndpointSlices have been read in full (Nodes too, where zones matter): write. */
void bn_services_set_ready(struct bn_services *s, bool ready);

/* Applies what is dirty. Cheap when nothing is. 0, or a negative errno when some of it could not be
 * put into the maps (full, memory): that is logged and counted, the rest is in force, and what
 * failed is tried again after the next change and every few seconds.
 */
int bn_services_sync(struct bn_services *s);

/* Everything is in the kernel: ready was set and nothing is dirty. */
bool bn_services_in_force(const struct bn_services *s);
/* So long one sync may go on with what is dirty, once it has done all of it for the first time; 0, the default: to its
 * end. Namespaces take turns. What is left is for the next one (unfinished).
 */
void bn_services_set_slice(struct bn_services *s, uint64_t ns);
bool bn_services_unfinished(const struct bn_services *s);
/* Age of the oldest change that is not in force yet, in nanoseconds; 0: none (for /healthz). */
uint64_t bn_services_pending_ns(const struct bn_services *s);

/* `svc list`: what is in force, from the mirror of the maps. A new reference, NULL: no memory. */
json_t *bn_services_json(const struct bn_services *s);
/* The same in pieces, for lists that are too long to be held: the names ("namespace/name") of what
 * is in force, and the row of one of them; NULL with errno ENOENT when it has gone since.
 */
json_t *bn_services_names(const struct bn_services *s);
json_t *bn_services_row(const struct bn_services *s, const char *name);
/* "namespace/name" of what answers there, in force; NULL: nothing. node_port: the address may be a node's */
const char *bn_services_name_at(const struct bn_services *s, const struct bn_addr *a, __be16 port,
				uint8_t proto, bool node_port);
/* `svc show`: one service in detail; NULL with errno ENOENT when there is none in force. */
json_t *bn_services_show(const struct bn_services *s, const char *ns, const char *name);

/* `svc list` without a daemon: from the maps alone, in full or not at all. */
int bn_svc_list_pinned(const struct bn_maps *maps, json_t **ret);

/* "default/web" and so on for a record index (flows, ct list); NULL: none. Borrowed. */
const char *bn_services_name(const struct bn_services *s, uint32_t svc_idx);

/* Changes whenever a backend of UDP may have left; may a UDP flow of this node to front (address and port)
 * stay with that backend?
 */
uint64_t bn_services_udp_gen(const struct bn_services *s);
uint64_t bn_services_udp_came(const struct bn_services *s); /* whenever a service of UDP came */
bool bn_services_udp_keeps(const struct bn_services *s, const struct bn_sk_peer *peer);
/* Is the frontend a NodePort that has an endpoint for processes of this node? */
bool bn_services_udp_nodeport(const struct bn_services *s, const struct bn_sk_peer *peer);

/* Health checks (loader/serve/healthcheck.h): calls fn for every service that needs one. */
struct bn_svc_health {
	const char *ns, *name;
	uint16_t port;
	uint32_t local[2]; /* local ready endpoints: [0] IPv6, [1] IPv4 */
};
/* Changes whenever what bn_services_health reports may have changed. */
uint64_t bn_services_health_gen(const struct bn_services *s);
void bn_services_health(const struct bn_services *s,
			void (*fn)(const struct bn_svc_health *h, void *data), void *data);

/* --- metrics --------------------------------------------------------------------------------- */

#define BN_HIST_MAX 96
struct bn_histogram {
	uint32_t n;		     /* finite buckets */
	const double *le;	     /* their upper bounds */
	uint64_t count[BN_HIST_MAX]; /* per bucket, not cumulative; [n] is +Inf */
	double sum;
};

struct bn_services_stats {
	uint64_t services, service_ports, endpoints, frontends; /* in force */
	uint64_t records_used, records_max;
	uint64_t slots_used, slots_free, slots_pending, slots_max;
	uint64_t largest_free;			       /* longest run of free slots */
	uint64_t service_changes, endpoint_changes;    /* since start */
	uint64_t service_pending, endpoint_pending;    /* not in force yet */
	uint64_t no_local_internal, no_local_external; /* service ports whose Local list is empty */
	uint64_t refused;	  /* frontends and lists that found no room, now */
	uint64_t conflicts;	  /* frontends that another service has, now */
	uint64_t maglev_fallback; /* lists without room for a table, now plain lists */
	uint64_t writes;	  /* to the maps: elements written or deleted */
	uint64_t graces;	  /* grace periods waited for */
	double sync_last_s;	  /* unix time of the last sync, 0: never */
	double queued_last_s;	  /* unix time of the last change that was queued */
	struct bn_histogram sync, sync_full, sync_partial; /* kubeproxy_sync_*_duration_seconds */
	struct bn_histogram programming; /* kubeproxy_network_programming_duration_seconds */
};

/* Borrowed; brought up to date by the call. */
const struct bn_services_stats *bn_services_stats(struct bn_services *s);

#endif
