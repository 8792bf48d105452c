/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_ENDPOINTS_H
#define BN_LOADER_MODEL_ENDPOINTS_H

/* This node's interfaces and pods: follows netlink, gives every interface its role, attaches the
 * programs the moment an interface appears, finds which pod stands behind it, and keeps ifaces,
 * pods and the local parts of eps equal to that.
 *
 * A pod's interface is closed from its first moment until its pod is known (unless --unknown-pods
 * allows, or no policy could select it); an interface that is no Kubernetes pod's is left open. A
 * mapping stays until its interface or its pod goes. What an earlier daemon left pinned stays in
 * force until this one knows better.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/opts.h"
#include "maps/ep.h"
#include "policy/store.h"

struct event_base;
struct bn_endpoints;
struct bn_eps;
struct bn_kernel;
struct bn_maps;
struct bn_policies;

struct bn_endpoints_env {
	struct event_base *base;
	struct bn_store *store;
	struct bn_maps *maps;
	struct bn_eps *eps; /* shared with the policies */
	struct bn_policies
		*policies;	  /* told of slots and of this host's addresses; NULL in tests */
	struct bn_kernel *kernel; /* attaches the programs; NULL in tests */
	const struct bn_opts *opts;
	void (*changed)(void *data); /* something is dirty: call bn_endpoints_sync soon; or NULL */
	void *data;
};

/* Reads the links, addresses and routes once before it returns. */
int bn_endpoints_new(const struct bn_endpoints_env *env, struct bn_endpoints **ret);
void bn_endpoints_freep(struct bn_endpoints **e); /* programs and maps stay in force */

/* Applies what has changed. Cheap when nothing has. Once per turn of the loop, before
 * bn_policies_sync.
 */
int bn_endpoints_sync(struct bn_endpoints *e);

/* Pods and Nodes have been read in full: an adopted mapping that no pod claims goes. */
void bn_endpoints_set_ready(struct bn_endpoints *e, bool ready);

/* Every local pod that has an address and is not finished is mapped, or has been looked for long
 * enough to be called unenforced; and every interface that should have programs has them.
 */
bool bn_endpoints_settled(const struct bn_endpoints *e);

/* `endpoint list`: [{"namespace","name","interface","addresses":[],"ingress":"open|isolated",
 * "egress":"open|isolated", ...}]; *ret is a new reference.
 */
int bn_endpoints_json(struct bn_endpoints *e, json_t **ret);

/* What `status` should show: [{"kind":"unenforced","namespace","name"}] pods without a host-side
 * interface, [{"kind":"unknown"|"unmanaged","interface","addresses":[],"closed"}] interfaces of
 * containers that no pod claims.
 */
int bn_endpoints_problems(struct bn_endpoints *e, json_t **ret);

struct bn_endpoints_stats {
	uint32_t pods;	     /* local pods with an interface */
	uint32_t unenforced; /* local pods without a host-side interface */
	uint32_t unknown;    /* pod interfaces whose pod is not known */
	uint32_t closed;     /* of these, those that pass nothing */
	uint32_t unmanaged;  /* container interfaces that are no Kubernetes pod's */
	uint32_t uplinks, tunnels;
	uint32_t attach_errors; /* interfaces without programs because of an error */
	uint64_t resyncs;	/* the kernel's notifications overran */
};
void bn_endpoints_stats(const struct bn_endpoints *e, struct bn_endpoints_stats *ret);

/* "bpf" or "stack", and for the latter what stands in the way. For status; see --host-routing. */
const char *bn_endpoints_host_routing(const struct bn_endpoints *e, const char **why);

/* Of each uplink: {"interface", "mode": "native|off", "sends": [...], "because"}; new array. */
json_t *bn_endpoints_xdp(const struct bn_endpoints *e);

/* For the flow log: which pod has the slot. False when none. Borrowed until the next sync. */
bool bn_endpoints_slot_pod(const struct bn_endpoints *e, uint32_t slot, const char **ns,
			   const char **name);
/* Names of the interfaces with role uplink or tunnel, for status and cleanup; NULL-terminated array
 * owned by e, valid until the next sync.
 */
const char *const *bn_endpoints_devices(const struct bn_endpoints *e);

#endif
