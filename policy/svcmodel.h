/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_SVCMODEL_H
#define BN_POLICY_SVCMODEL_H

/* What a Service means on one node: which addresses and ports answer, and with which backends.
 * SEMANTICS 2, facts 1 to 8, are decided here and nowhere else. Pure: objects in, a value out.
 *
 * A model borrows the service and the slices it was made from: use it while they live.
 */

#include <stdbool.h>
#include <stdint.h>

#include "maps/svc.h"
#include "policy/object.h"
#include "policy/store.h"

/* Where the question is asked. Strings need not be interned. */
struct bn_svc_env {
	const char *node_name;	     /* exact; NULL or "": no endpoint is local */
	const char *zone;	     /* of that node; NULL: unknown */
	const char *proxy_name;	     /* the one service-proxy-name that is ours; NULL: none */
	bool maglev;		     /* default algorithm */
	struct bn_addr node4, node6; /* primary addresses of the node; zero: none */
};

enum bn_front_kind { /* in order of precedence when two want the same address and port */
		     BN_FRONT_CLUSTERIP,
		     BN_FRONT_LOADBALANCER,
		     BN_FRONT_EXTERNALIP,
		     BN_FRONT_NODEPORT,
		     BN_FRONT__MAX,
};

const char *bn_front_kind_name(enum bn_front_kind kind); /* "ClusterIP", ... as in svc list */
const char *bn_svc_type_name(enum bn_svc_type type);

/* An endpoint of one service port and family, duplicates merged. */
struct bn_sm_ep {
	struct bn_addr addr;
	uint16_t port; /* host order */
	uint8_t cond;  /* BN_EP_READY... */
	uint8_t flags; /* BN_SM_* */
	const struct bn_endpoint *ep;
};

enum {
	BN_SM_LOCAL = 1 << 0,	/* its node is this one */
	BN_SM_CLUSTER = 1 << 1, /* in the list of Cluster policy */
	BN_SM_NEAR = 1 << 2,	/* in the list of Local policy */
};

/* Which list new connections get, or what they get instead. */
enum bn_sm_list {
	BN_LIST_REJECT,
	BN_LIST_DROP, /* endpoints exist, none is local */
	BN_LIST_CLUSTER,
	BN_LIST_LOCAL,
	BN_LIST__MAX,
};

struct bn_sm_front {
	enum bn_front_kind kind;
	struct bn_front_key key;
	uint32_t flags;	  /* BN_SVC_F_* */
	uint8_t list;	  /* enum bn_sm_list: for outside clients, and all unless SPLIT */
	uint8_t list_int; /* SPLIT: for this node's pods and processes; else == list */
};

/* One port of the service in one family. */
struct bn_sm_port {
	const char *name;
	uint8_t proto;
	uint16_t port, node_port;
	bool v4;
	bool maglev;
	uint32_t affinity_s; /* 0: none */
	uint32_t nfronts, neps;
	uint32_t ncluster, nlocal;  /* endpoints with BN_SM_CLUSTER, BN_SM_NEAR */
	struct bn_sm_front *fronts; /* keys are unique within the model */
	struct bn_sm_ep *eps;	    /* sorted by {addr, port in network order}, as bytes */
};

/* External addresses times ports: an object that an API server takes could ask for 16 million. */
#define BN_SM_MAX_FRONTS 65536

struct bn_svcmodel {
	const struct bn_service *svc;
	uint32_t nports; /* 0: the service is not ours, headless or ExternalName */
	struct bn_sm_port *ports;
	uint32_t nsrc[2];	/* loadBalancerSourceRanges by family: [0] IPv6, [1] IPv4 */
	struct bn_cidr *src[2]; /* 0 of a family: LB addresses of that family are open to all */
	uint32_t left_out; /* frontends beyond BN_SM_MAX_FRONTS: external addresses times ports */
	uint16_t health_port;	  /* healthCheckNodePort where it is due, else 0 */
	uint32_t health_local[2]; /* local ready endpoint addresses by family: [0] IPv6, [1] IPv4 */
};

/* slices: every EndpointSlice that bn_slice_of() says belongs to it, in any order. Returns 0 or
 * -ENOMEM. A service that is to be ignored gives a model without ports.
 */
int bn_svcmodel_build(const struct bn_service *svc, const struct bn_slice *const *slices,
		      uint32_t nslices, const struct bn_svc_env *env, struct bn_svcmodel **ret);
void bn_svcmodel_free(struct bn_svcmodel *m);
void bn_svcmodel_freep(struct bn_svcmodel **m);

/* Is the service one that this proxy answers for? */
bool bn_service_ours(const struct bn_service *svc, const struct bn_svc_env *env);
/* Does the slice count at all (has a service, is not headless, not FQDN)? */
bool bn_slice_usable(const struct bn_slice *slice);

/* --- why something does not answer, in words (policy/svcwhy.c) -------------------------------- */

#define BN_SVC_WHY 256

/* Is the service not served at all? Then true, and why in buf. */
bool bn_svc_why_not_served(const struct bn_service *svc, const char *proxy_name, char *buf, size_t len);
/* What it has instead of this port. */
void bn_svc_why_no_port(const struct bn_service *svc, uint16_t port, uint8_t proto, char *buf, size_t len);
/* Why a port of a model has no endpoint in the list that is asked for; slices as for bn_svcmodel_build. */
void bn_svc_why_empty(const struct bn_sm_port *p, const struct bn_slice *const *slices, uint32_t nslices,
		      char *buf, size_t len);

/* Of two services that claim one frontend, which gets it: < 0 the first. By kind, then namespace,
 * then name.
 */
int bn_front_precedence(enum bn_front_kind ka, const struct bn_obj *a, enum bn_front_kind kb,
			const struct bn_obj *b);

/* --- look-up for the trace ------------------------------------------------------------------- */

/* An index of the services of a store, by name and by address. It follows the store (a change makes
 * it rebuild itself at the next look-up) and has to be freed before it.
 */
struct bn_svcindex;
int bn_svcindex_new(struct bn_store *store, const char *proxy_name, struct bn_svcindex **ret);
void bn_svcindex_freep(struct bn_svcindex **x);

struct bn_svc_choice {
	const struct bn_service *svc;
	enum bn_front_kind kind;
	struct bn_addr addr; /* the frontend asked for */
	uint16_t port;
	uint8_t proto;
	const char *port_name;
	enum bn_sm_list list; /* REJECT or DROP: no backends */
	bool src_denied;      /* loadBalancerSourceRanges exclude the client */
	char why[BN_SVC_WHY]; /* no backends: because of what */
	uint32_t nbackends;
	struct bn_sm_ep *backends; /* those that a new connection may get; sorted */
};

/* What a client on node `node` (a pod there; NULL: outside of the cluster) may get. client is its
 * address, for source ranges; NULL: not looked at.
 *
 * By address: 0; -ENOENT when no service answers there; -EADDRNOTAVAIL when the address is a
 * ClusterIP but the port has no service (refused); -ENOMEM. A node's address finds its NodePorts.
 * By name: port is the service's port, proto its protocol; the first ClusterIP (of the family of
 * client, when it is given) is what is asked for. -ENOENT: no such service, or not ours; -ENXIO: no
 * such port. *ret is to be freed with bn_svc_choice_freep.
 */
int bn_svcindex_by_addr(struct bn_svcindex *x, const char *node, const struct bn_addr *client,
			const struct bn_addr *addr, uint16_t port, uint8_t proto,
			struct bn_svc_choice **ret);
int bn_svcindex_by_name(struct bn_svcindex *x, const char *node, const struct bn_addr *client,
			const char *ns, const char *name, uint16_t port, uint8_t proto,
			struct bn_svc_choice **ret);
void bn_svc_choice_freep(struct bn_svc_choice **c);
/* Whose ClusterIP it is; NULL: of no service that is ours. Valid until the store changes. */
const struct bn_service *bn_svcindex_at(struct bn_svcindex *x, const struct bn_addr *addr);

#endif
