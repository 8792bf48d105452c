/* SPDX-License-Identifier: MIT */
#ifndef BN_TESTS_CLUSTER_H
#define BN_TESTS_CLUSTER_H

/* Random small clusters as JSON, full of what policies stumble over: labels that are shared, odd
 * and empty, selectors of every kind, blocks that cover pods, nodes and the outside, named ports
 * that differ by pod, host-network and finished pods, two families.
 */

#include <jansson.h>
#include <stdint.h>

#include "policy/store.h"

struct rng {
	uint64_t s;
};

uint32_t rng_next(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n);
int rng_chance(struct rng *r, uint32_t percent);

json_t *cluster_random(struct rng *r, unsigned npods, unsigned npolicies);
json_t *cluster_pod(struct rng *r, unsigned i);
json_t *cluster_namespace(struct rng *r, unsigned i);
json_t *cluster_node(struct rng *r, unsigned i);
json_t *cluster_policy(struct rng *r, unsigned i);
/* "NS/POD" or an address of something that is there, or of nothing. buf: 64 bytes. */
const char *cluster_endpoint(struct rng *r, json_t *cluster, char *buf);
void cluster_port(struct rng *r, const char **proto, int *port);

#define CLUSTER_NAMESPACES 4
#define CLUSTER_NODES	   3

/* Parses an object and puts it into the store; asserts that it is accepted. */
void cluster_put(struct bn_store *s, json_t *obj);
void cluster_load(struct bn_store *s, json_t *cluster);
/* The object with the same kind, namespace and name, replaced or added (new NULL: removed). */
void cluster_replace(json_t *cluster, json_t *obj);
json_t *cluster_find(json_t *cluster, const char *kind, const char *ns, const char *name);

/* Large clusters as people have them: pods of many apps in many namespaces, and for each app
 * policies about an app of its own namespace, one of another, now and then a block, named ports,
 * DNS.
 */
#define SCALE_NAMESPACES 250
#define SCALE_APPS	 20
json_t *scale_pod(unsigned i);
json_t *scale_policy(unsigned i, unsigned version);
json_t *scale_cluster(unsigned pods, unsigned policies);

#endif
