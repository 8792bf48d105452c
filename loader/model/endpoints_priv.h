/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_ENDPOINTS_PRIV_H
#define BN_LOADER_MODEL_ENDPOINTS_PRIV_H

/* Shared by loader/model/endpoints*.c only.
 *
 * Every sync computes the whole wanted state of this node (some hundred interfaces) from what is
 * known, and applies the difference: there is no state machine to get out of step.
 *
 *   endpoints.c           life, the store's and the loop's events, the order of a sync
 *   endpoints_pods.c      this node's Pod objects
 *   endpoints_addr.c      the node's own addresses, the pods' range
 *   endpoints_role.c      which interface is an uplink, a tunnel, a pod's
 *   endpoints_match.c     which pod stands behind an interface
 *   endpoints_apply.c     wanted state to maps, programs and policies
 *   endpoints_bypass.c    whether the host's stack may be skipped
 *   endpoints_xdp.c       which uplinks have a program before the stack
 *   endpoints_report.c    JSON and counts
 */

#include <event2/event.h>

#include "loader/model/endpoints.h"
#include "loader/net/cnicache.h"
#include "loader/net/netstate.h"
#include "maps/ep_access.h"
#include "maps/htab.h"
#include "maps/maps.h"
#include "maps/pod_access.h"

#define EP_IDS 8 /* addresses by which an interface is identified */

/* How an interface was told to be a pod's, strongest first. */
enum ep_evidence {
	EP_BY_NOTHING,
	EP_BY_CNI,	 /* libcni's cache names the interface */
	EP_BY_ROUTE,	 /* host route to the pod's address */
	EP_BY_NAMESPACE, /* the address is in the peer's namespace */
	EP_BY_SIBLING,	 /* the namespace of another interface of the pod */
	EP_BY_BRIDGE,	 /* neighbour and forwarding tables */
	EP_BY__MAX,
};

struct ep_local {
	struct bn_addr addr;
	struct bn_ep_local l;
};

struct ep_addr { /* an address that a Pod object has */
	struct bn_hnode node;
	struct bn_addr addr;
	struct ep_pod *pod;
};

struct ep_pod {
	struct bn_hnode by_name;
	size_t at; /* in lpods */
	struct ep_addr *addrs;
	uint32_t naddrs;
	struct bn_pod *obj;
	uint64_t since_ns;     /* known, with an address */
	uint32_t slot;	       /* 0: none */
	uint32_t slot_if;      /* the interface that the slot was made for */
	uint32_t ifindex;      /* the pod's first interface; 0: not mapped */
	struct ep_local *have; /* what eps says now */
	uint32_t nhave;
	bool finished; /* released its addresses */
};

struct ep_if {
	uint32_t ifindex, gen;
	struct bn_nl_link link;	    /* as of the last sync */
	const struct bn_nl_link *l; /* link */
	enum bn_role role;	    /* wanted */
	enum bn_role attached;	    /* what was attached */
	int attach_err;
	uint64_t retry_ns;
	uint64_t since_ns; /* first seen */

	/* What the peer's namespace said: of each family the first addresses that it had. A
	 * container can change its addresses later, not those that it was given before it ran.
	 */
	struct bn_addr ids[EP_IDS];
	bool on_peer[EP_IDS]; /* on the peer itself, not on another device of the namespace */
	uint32_t nids;
	uint8_t peer_mac[6];
	bool asked, trunk; /* trunk: the peer is a bridge's port there, without an address */
	uint64_t ask_ns;   /* when to ask next, 0: not */
	uint64_t asked_ns, ask_gap_ns; /* the last time; how soon again when something changed */
	uint32_t asks;

	struct ep_pod *pod;
	enum ep_evidence by;
	uint32_t adopted_slot; /* pinned by an earlier daemon, its pod not yet known */
	bool adopted;	       /* in ifaces when this daemon began */
	enum bn_role adopted_role;
	bool open;	/* unknown and not closed */
	bool unmanaged; /* no pod of Kubernetes */
	bool uplink;	/* strong: routes say so */
	bool clear;	/* no queueing discipline or filter of others */
	bool existed;	/* when this daemon started */
	uint32_t xdp_can;	 /* BN_XDP_CAN_*, of its driver */
	bool xdp_looked;	 /* what an earlier daemon may have left was seen to */
	bool xdp_on;		 /* xdp_net is attached */
	uint64_t xdp_retry_ns;	 /* when to try again what failed */
	char xdp_why[96];	 /* why it is not */
	bool seen;
};

struct ep_range { /* of addresses near each other that pods of the cluster have */
	struct bn_addr addr;
	bool v4;
	uint32_t pods;
};

struct bn_endpoints {
	struct bn_endpoints_env env;
	struct bn_netstate *net;
	struct bn_cnicache *cni, *notes; /* libcni's, and what bpfnet-cni left in the run dir */
	const struct bn_cni_entry **centries; /* of both, during a sync */
	size_t ncentries;
	struct bn_pods *pods;
	struct event *timer;
	struct ep_if **ifs; /* by index */
	size_t nifs, aifs;
	struct ep_pod **lpods; /* pods of this node with their own network */
	size_t nlpods, alpods;
	struct bn_htab by_name, by_addr; /* of them */
	struct ep_pod **gone;		 /* to be taken out of the maps */
	size_t ngone, agone;
	struct bn_cidr *cidrs; /* of pods, from Nodes and options */
	size_t ncidrs, acidrs;
	struct ep_range *ranges;
	size_t nranges, aranges;
	bool dirty, nodes_dirty, uplinks_dirty, hosts_dirty;
	bool ready, settled, swept; /* settled: what was adopted and not claimed is gone */
	bool fresh;		    /* no earlier daemon left anything in force */
	bool begun;		    /* a first sync was done */
	bool could_select;	    /* the policies' answer of the last sync */
	struct bn_addr *hosts;	    /* own addresses as last told */
	size_t nhosts;
	struct bn_addr node4, node6; /* own, of the Node object; zero: not known */
	uint64_t now_ns, next_ns;    /* of this sync; the earliest thing to do later */
	bool bypass;	     /* no netfilter rule of others stands in the way of the short cut */
	uint64_t uplinks_ns; /* not to be looked for before */
	uint64_t look_ns;    /* when to look for it again */
	uint64_t xdp_look_ns;
	bool xdp_known;	     /* the kernel tells what drivers can do */
	char why_stack[96];
	char **devices;
};

/* ns of the monotonic clock */
uint64_t ep_now(void);
/* Have the loop come back at the time. */
void ep_wake(struct bn_endpoints *e, uint64_t at_ns);
void ep_dirty(struct bn_endpoints *e);
struct ep_if *ep_if_get(const struct bn_endpoints *e, uint32_t ifindex);
/* Room for one more pointer in a vector. */
int ep_room(void *arrayp, size_t n, size_t *alloc, size_t size);
int ep_hosts(struct bn_endpoints *e); /* this node's own addresses to eps and policies */
void ep_ranges_pod(struct bn_endpoints *e, const struct bn_pod *p, int by);
/* Does any pod of the cluster, or any range of pods, lie in the network of the address? */
bool ep_pods_in(const struct bn_endpoints *e, const struct bn_addr *a, uint8_t prefix);
/* 1 in or near the pods' addresses, 0 not, -1 nothing is known of the family. */
int ep_pod_range(const struct bn_endpoints *e, const struct bn_addr *a);
bool ep_global(const struct bn_nl_addr *a);

int ep_nodes_update(struct bn_endpoints *e); /* Node objects changed */
void ep_roles(struct bn_endpoints *e);
bool ep_candidate(const struct bn_endpoints *e, const struct ep_if *f);
/* The pod of this node that an address belongs to, or NULL. */
struct ep_pod *ep_claimant(const struct bn_endpoints *e, const struct bn_addr *a);
void ep_look_bypass(struct bn_endpoints *e);
/* libcni says that it is some pod's, whether that pod is known or not. */
bool ep_named_by_cni(const struct bn_endpoints *e, const struct ep_if *f);
bool ep_bypass(const struct bn_endpoints *e, const struct ep_if *f);
void ep_look_xdp(struct bn_endpoints *e);
/* BN_IF_F_XDP_*: where xdp_net may send. */
uint16_t ep_xdp_flags(const struct bn_endpoints *e, const struct ep_if *f);
void ep_xdp_attach(struct bn_endpoints *e, struct ep_if *f);
void ep_match(struct bn_endpoints *e);
void ep_unknown(struct bn_endpoints *e, struct ep_if *f); /* no pod claims it: open or closed? */
int ep_apply(struct bn_endpoints *e);
/* The slot that an earlier daemon left on it, if no pod has taken it over. */
void ep_drop_adopted(struct bn_endpoints *e, struct ep_if *f);
void ep_unmap(struct bn_endpoints *e, struct ep_if *f);
void ep_on_pod(struct bn_endpoints *e, const struct bn_pod *old, const struct bn_pod *new);
struct ep_pod *ep_pod_named(const struct bn_endpoints *e, const char *ns, const char *name);
struct ep_pod *ep_pod_with(const struct bn_endpoints *e,
			   const struct bn_addr *a); /* by objects only */
void ep_pod_free(struct ep_pod *p);
void ep_pods_free(struct bn_endpoints *e);
bool ep_pod_wants(const struct ep_pod *p); /* alive and with an address */

#endif
