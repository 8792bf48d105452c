/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_COMPILE_H
#define BN_POLICY_COMPILE_H

/* From policies to matrices (maps/policy.h): pure memory, the same code for the daemon, for the
 * offline trace and for tests.
 *
 * The rule model is ordered: tier, priority, then action. NetworkPolicy and HTTPNetworkPolicy are
 * one tier in which every rule accepts and a pod that nothing selects goes on to the next tier
 * (in the end: accepted). Within one tier and priority, DENY comes before PASS before ACCEPT, and
 * an ACCEPT of all requests before one that looks at them (HTTP).
 *
 * A matrix is one direction of one set of policies, resolved for one pod's named ports: pods with
 * the same set and the same resolution share it. Rows are deduplicated by content, ports with the
 * same rules share a class. Growth: cells = distinct rows * classes; rows <= distinct sets of
 * rules that one peer matches; pol_peers entries = identities that match a peer of the matrix.
 */

#include "maps/policy.h"
#include "policy/identity.h"
#include "policy/object.h"

enum bn_tier {
	BN_TIER_ADMIN,
	BN_TIER_NETPOL,
	BN_TIER_BASELINE,
	BN_TIER__MAX,
};

enum bn_rule_action {
	BN_RULE_DENY, /* in the order in which they win among equals */
	BN_RULE_PASS,
	BN_RULE_ACCEPT,
	BN_RULE_ACTION__MAX,
};

enum bn_dir {
	BN_EGRESS, /* as BN_DIR_EGRESS and BN_DIR_INGRESS of maps/event.h */
	BN_INGRESS,
	BN_DIRS,
};

/* What a rule number (cells, events, counters) stands for. Borrowed; valid until the next update.
 */
struct bn_rule_ref {
	const struct bn_netpol *policy;
	enum bn_dir dir;
	uint32_t index; /* in ingress[] or egress[] of the object */
	const struct bn_rule *rule;
};

/* The HTTP engine's side: a set of HTTP rules of which any one may allow a request. `get` is called
 * once for each distinct set (rule numbers ascending) and returns the id that cells carry, `put`
 * when no matrix uses it any more. Without an engine the cells carry numbers that the compiler
 * made.
 */
struct bn_http_sets {
	int (*get)(void *data, const struct bn_rule_ref *rules, const uint32_t *ids, size_t n,
		   uint32_t *ret);
	void (*put)(void *data, uint32_t set);
	void *data;
};

struct bn_compile_limits {	       /* 0: the default, which is what the maps hold */
	uint32_t classes, rows, cells; /* of one matrix */
	uint32_t rules; /* of all policies that are in use; rule numbers are below it */
	uint32_t peers; /* pol_peers entries of one matrix */
};

struct bn_compiler;
struct bn_matrix;

int bn_compiler_new(struct bn_idents *ids, const struct bn_compile_limits *limits,
		    const struct bn_http_sets *http, struct bn_compiler **ret);
void bn_compiler_freep(struct bn_compiler **c); /* after all matrices were given back */

/* A policy is new (old NULL), changed or gone (new NULL). Registers its peers with the identities;
 * afterwards bn_idents_update must run before a matrix is compiled. Takes a reference of its own.
 */
int bn_compiler_policy(struct bn_compiler *c, const struct bn_netpol *old,
		       const struct bn_netpol *new);
size_t bn_compiler_count(const struct bn_compiler *c, const char *ns); /* NULL: all */
int bn_compiler_each(const struct bn_compiler *c, int (*fn)(const struct bn_netpol *p, void *data),
		     void *data);

int bn_compiler_each_in(const struct bn_compiler *c, const char *ns, /* by name */
			int (*fn)(const struct bn_netpol *p, void *data), void *data);

/* Policies that isolate the pod in this direction: at most `max` are written, the number is
 * returned. Pods on the host network and finished pods are selected by none.
 */
size_t bn_compiler_selecting(const struct bn_compiler *c, const struct bn_pod *pod, enum bn_dir dir,
			     const struct bn_netpol **ret, size_t max);

/* The matrix for a pod, compiled when there is none yet; *ret NULL: not isolated. The caller owns
 * a reference. -E2BIG: a limit; the pod must be closed, bn_compiler_error says why and names the
 * policies.
 */
int bn_compiler_get(struct bn_compiler *c, const struct bn_pod *pod, enum bn_dir dir,
		    struct bn_matrix **ret);
struct bn_matrix *bn_matrix_ref(struct bn_matrix *m);
void bn_matrix_unref(struct bn_matrix *m);
void bn_matrix_unrefp(struct bn_matrix **m);
const char *bn_compiler_error(const struct bn_compiler *c);
/* Why a policy was refused because of a limit; NULL: it was not. The counter of such refusals: when
 * it rises, pods whose matrices were fetched before must fetch again.
 */
const char *bn_compiler_refused(const struct bn_compiler *c, const struct bn_netpol *p);
uint64_t bn_compiler_refusals(const struct bn_compiler *c);

/* Rule number -> policy, direction, index. -ENOENT for 0 and numbers not in use. */
int bn_compiler_rule(const struct bn_compiler *c, uint32_t id, struct bn_rule_ref *ret);
/* 0 when the rule has no number: its policy is in no matrix. */
uint32_t bn_compiler_rule_id(const struct bn_compiler *c, const struct bn_netpol *p,
			     enum bn_dir dir, uint32_t index);

/* Numbers that were given out since the last call (their counters begin anew). */
size_t bn_compiler_new_rules(struct bn_compiler *c, const uint32_t **ret);
/* Rules of an HTTP set, ascending numbers. 0: no such set. */
size_t bn_compiler_http_rules(const struct bn_compiler *c, uint32_t set, const uint32_t **ret);

/* An identity was added: extends every matrix that has a row for it (all are kept up to date, used
 * or not). fn is called for each new entry. -ENOSPC: this matrix cannot take it in place (new port
 * class, or more rows than were reserved) and is marked stale: the next bn_compiler_get compiles
 * another one.
 */
typedef int (*bn_matrix_fn)(struct bn_matrix *m, uint32_t identity, uint32_t row, bool new_row,
			    void *data);
int bn_compiler_identity_added(struct bn_compiler *c, uint32_t identity, bn_matrix_fn fn,
			       void *data);
/* Its rows are forgotten everywhere; fn as above (for the maps' entries). */
int bn_compiler_identity_gone(struct bn_compiler *c, uint32_t identity, bn_matrix_fn fn,
			      void *data);

/* --- a matrix, as the maps hold it ----------------------------------------------------------- */

struct bn_matrix_view {
	enum bn_dir dir;
	uint16_t nports, nclasses, default_row;
	uint32_t nrows, row_room; /* rows in use, and reserved so that identities can be added */
	const uint32_t *ports;	  /* BN_PORT_START, ascending */
	const struct bn_cell *cells;
	bool stale;
	bool audit; /* every policy of the set says audit */
	uint32_t npolicies;
	const struct bn_netpol *const *policies;
};
void bn_matrix_view(const struct bn_matrix *m, struct bn_matrix_view *ret);
size_t bn_matrix_npeers(const struct bn_matrix *m);
/* Identities and their rows, in no order: room for bn_matrix_npeers() of each. Returns how many. */
size_t bn_matrix_peers(const struct bn_matrix *m, uint32_t *identities, uint32_t *rows);
/* HTTP rule sets that its cells name. Stops at the first answer that is not 0. */
int bn_matrix_each_http(const struct bn_matrix *m, int (*fn)(uint32_t set, void *data), void *data);
/* The judgement, word for word as the kernel makes it. */
struct bn_cell bn_matrix_eval(const struct bn_matrix *m, uint32_t identity, uint8_t proto,
			      uint16_t port);
/* Room for the owner's own data (ids in the maps). */
void *bn_matrix_user(const struct bn_matrix *m);
void bn_matrix_set_user(struct bn_matrix *m, void *user, void (*gone)(void *user));

struct bn_compile_stats {
	size_t policies, rules, matrices, rows, cells, peers, classes;
};
void bn_compiler_stats(const struct bn_compiler *c, struct bn_compile_stats *ret);

#endif
