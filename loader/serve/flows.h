/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_FLOWS_H
#define BN_LOADER_FLOWS_H

/* The flow log: reads the kernel's events (maps/event.h), puts names to addresses and rules, keeps
 * the last ones and hands them to subscribers (`bpfnet flows`) as the contract's objects.
 *
 * Bounded in every direction: BN_FLOWS_KEEP lines are remembered, BN_FLOWS_TURN events are read in
 * one turn of the loop, a slow subscriber loses lines and is told how many. Names are
 * those of the moment of the event: a pod that has gone since still has its name.
 */

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/serve/control.h"
#include "loader/serve/metrics.h"
#include "maps/http_conn.h"

#define BN_FLOWS_KEEP 1024     /* of what was denied or dropped */
#define BN_FLOWS_KEEP_OK 256   /* of requests that were allowed: they must not crowd out the others */
#define BN_FLOWS_TURN 256
#define BN_FLOWS_NAME 512

struct bn_flows;

/* Whose rule a request was judged by. */
struct bn_flows_match {
	char policy[BN_FLOWS_NAME]; /* "ns/name": that allowed it; denied: the first that covers the port */
	int rule;		    /* place in ingress[] or egress[]; -1: denied by all of them */
	uint32_t entry;		    /* place in its http[] */
};

/* Each may be NULL. They write "ns/name" and return true, or return false. */
struct bn_flows_env {
	bool (*pod_at)(void *data, const struct bn_addr *a, char *buf, size_t len);
	bool (*slot_pod)(void *data, uint32_t slot, char *buf, size_t len);
	/* The service that answers there; node_port: of a node's address, too. port: network byte order */
	bool (*service_at)(void *data, const struct bn_addr *a, __be16 port, uint8_t proto, bool node_port,
			   char *buf, size_t len);
	/* The policy a rule number belongs to; *index: the rule's place in ingress[] or egress[]. */
	bool (*rule)(void *data, uint32_t rule, char *buf, size_t len, uint32_t *index);
	/* Somebody reads more than what is denied now, or nobody does any more. */
	void (*followed)(void *data, bool yes);
	bool (*match)(void *data, const struct bn_http_event *e, struct bn_flows_match *ret);
	void *data;
};

/* events_fd: of map events, borrowed; -1: nothing is read (tests). metrics may be NULL. */
int bn_flows_new(struct event_base *base, int events_fd, const struct bn_flows_env *env,
		 struct bn_metrics *metrics, struct bn_flows **ret);
/* Free it before the control socket or after: subscribers are let go either way. */
void bn_flows_freep(struct bn_flows **f);

/* Registers the streaming command `flows`. */
int bn_flows_register(struct bn_flows *f, struct bn_control *c);

/* One event, as if it had come from the kernel. */
void bn_flows_feed(struct bn_flows *f, const struct bn_event *e);
void bn_flows_feed_http(struct bn_flows *f, const struct bn_http_event *e);

#endif
