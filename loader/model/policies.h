/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_POLICIES_H
#define BN_LOADER_MODEL_POLICIES_H

/* Keeps the policy maps equal to the store: pods, namespaces, nodes and policies in, identities of
 * addresses, compiled matrices and words of local pods out. The cost of a change is
 * proportional to the change. A pod's word changes with one store, from one complete set of rules
 * to another; until the policies have been read in full, what is pinned stays in force and new pods
 * are closed.
 */

#include <jansson.h>
#include <stdbool.h>

#include "loader/model/httpsets.h"
#include "maps/maps.h"
#include "policy/compile.h"
#include "policy/store.h"
#include "policy/trace.h"

struct bn_eps; /* maps/ep_access.h */

struct bn_policies;

struct bn_slow;

struct bn_policies_env {
	const char *node_name;
	struct bn_eps *eps;		    /* where addresses get their identity */
	const char *no_http;		    /* why the kernel cannot judge requests; NULL: it can */
	void (*wake)(void *data);	    /* any thread: bn_policies_sync has something to do */
	void *wake_data;
	struct bn_slow *slow;		    /* loader/slow.h; NULL: none. It ends before this does */
	unsigned http_grace_ms;	  /* tests: httpsets.h */
	const char *proxy_name;		    /* --service-proxy-name, for policy trace; NULL: none */
	bool audit;			    /* --policy-audit, for policy trace */
	const struct bn_verify_ops *verify; /* NULL: policy trace --verify is refused */
	void (*step)(void *data);	    /* tests: called after each change of a map */
	void *step_data;
};

int bn_policies_new(struct bn_store *store, struct bn_maps *maps, const struct bn_policies_env *env,
		    struct bn_policies **ret);
void bn_policies_freep(struct bn_policies **p); /* leaves the maps in force */

/* Writes what has changed. Cheap when nothing has. Once per turn of the loop. A policy that does
 * not fit is no error (its pods are closed, bn_policies_errors names it); an error is one of the
 * maps.
 */
int bn_policies_sync(struct bn_policies *p);
/* Pods, Namespaces and policies have been read in full. */
void bn_policies_set_ready(struct bn_policies *p, bool ready);
bool bn_policies_in_force(const struct bn_policies *p); /* ready, and synced since */
/* Has any daemon on these maps ever brought policies into force? */
bool bn_policies_ever(const struct bn_policies *p);
/* There are no policies to wait for (the right to read them is missing): pods that are closed only
 * because of that wait are opened, and new ones are not closed, until bn_policies_set_ready.
 */
void bn_policies_set_unenforced(struct bn_policies *p);
bool bn_policies_unenforced(const struct bn_policies *p);

/* A local pod got a slot of map pods. Call it before an interface leads to the slot: unless it is
 * adopted (in force before this daemon started, its word is kept until the first sync), the
 * slot is closed from this call on, and gets its policies in the next bn_policies_sync.
 */
int bn_policies_slot(struct bn_policies *p, uint32_t slot, const char *ns, const char *name,
		     bool adopted);
void bn_policies_slot_gone(struct bn_policies *p, uint32_t slot);
/* All addresses of this host. */
int bn_policies_host(struct bn_policies *p, const struct bn_addr *addrs, size_t n);

/* --unknown-pods auto: could a policy select a pod that is not known, of this namespace (NULL: of
 * any)? True until ready.
 */
bool bn_policies_could_select_unknown(const struct bn_policies *p, const char *ns);
/* For endpoint list; false when there is no such slot. */
bool bn_policies_isolated(const struct bn_policies *p, uint32_t slot, bool *ingress, bool *egress);

/* For the flow log: what a rule number or a compiled policy's id of an event means. */
int bn_policies_rule(const struct bn_policies *p, uint32_t rule, struct bn_rule_ref *ret);
/* For the flow log: the rule and the entry of its http[] behind a match of a rule set; -ENOENT. */
int bn_policies_http_rule(const struct bn_policies *p, uint32_t set, uint32_t gen, uint32_t match,
			  struct bn_rule_ref *ret, uint32_t *entry);
/* Requests that HTTP rules allowed or denied, rule by rule, those that are not used left out. */
int bn_policies_each_http(const struct bn_policies *p,
			  int (*fn)(const struct bn_rule_ref *r, const struct bn_http_count *c, void *data),
			  void *data);
/* The pod an address belongs to; NULL: none. Borrowed. */
const struct bn_pod *bn_policies_pod_at(const struct bn_policies *p, const struct bn_addr *a);

/* Data of the commands; *ret is a new reference. show: -ENOENT. trace: as bn_tracer_run. */
int bn_policies_list(struct bn_policies *p, json_t **ret);
int bn_policies_show(struct bn_policies *p, const char *ns, const char *name, json_t **ret);
int bn_policies_identities(struct bn_policies *p, json_t **ret);
int bn_policies_lint(struct bn_policies *p, json_t **ret);
int bn_policies_trace(struct bn_policies *p, const struct bn_trace_query *q, bool verify,
		      json_t **ret);
/* [{"kind","namespace","name","error"}]: refused because of a limit. For status. */
int bn_policies_errors(struct bn_policies *p, json_t **ret);

struct bn_policies_stats {
	struct bn_compile_stats compile;
	struct bn_idents_stats idents;
	uint64_t syncs, words_written, rows_written;
	uint64_t writes;       /* stores and system calls that changed a policy map */
	uint64_t last_sync_ns; /* duration of the last one that changed something */
	uint32_t epoch;
	struct bn_httpsets_stats http; /* all 0 without */
};
void bn_policies_stats(const struct bn_policies *p, struct bn_policies_stats *ret);

#endif
