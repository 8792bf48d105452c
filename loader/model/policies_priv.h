/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_POLICIES_PRIV_H
#define BN_LOADER_MODEL_POLICIES_PRIV_H

/* Inside of the policy model: policies.c listens and keeps the slots, policies_apply.c brings the
 * maps up to date, policies_adopt.c takes over from an earlier daemon, policies_report.c and
 * policies_lint.c answer.
 */

#include "loader/model/policies.h"
#include "maps/ep_access.h"
#include "maps/pol_access.h"
#include "policy/table.h"

/* A local pod. */
struct pol_slot {
	struct bn_hnode h; /* by ns and name */
	bool used, dirty, failed;
	uint32_t slot;
	const char *ns, *name;	      /* interned */
	struct bn_matrix *m[BN_DIRS]; /* in force */
	uint64_t word;
	/* during a sync */
	struct bn_matrix *next[BN_DIRS];
	uint64_t next_word;
	bool early, planned;
	bool waiting; /* for the HTTP rules of `next`: what is in force stays */
	char *error;
};

struct pol_release { /* identities whose rows are gone: free when the ticket has passed */
	uint32_t identity;
	uint64_t ticket;
};

struct bn_policies {
	struct bn_store *store;
	struct bn_maps *maps;
	struct bn_eps *eps;
	struct bn_idents *ids;
	struct bn_compiler *c;
	struct bn_pols *pols;
	struct bn_httpsets *http; /* NULL: the kernel cannot, no_http says why */
	const char *no_http;
	struct bn_tracer *tracer;
	const struct bn_verify_ops *verify;
	const char *node_name;
	struct pol_slot *slots; /* by number */
	uint32_t nslots;
	struct bn_htab by_name;
	struct bn_u32s dirty; /* slots */
	uint32_t nwaiting;    /* of these: planned, their HTTP rules are being compiled */
	bool ready, first_done, in_force, changed;
	bool unenforced; /* until ready: open, not closed */
	int err;	   /* of a listener: told by the next sync */
	bool addrs_failed; /* some address found no room: all are written again later */
	uint64_t retry_ns;
	uint64_t collect_ticket; /* garbage waits for it; 0: none asked */
	uint64_t adopt_until_ns; /* adopted policies are kept that long for pods not seen yet; 0:
				    done */
	uint64_t refusals;
	BN_VEC(struct pol_release) release;
	struct bn_policies_stats stats;
};

uint64_t bn_pol_now_ns(void);
void bn_pol_mark(struct bn_policies *p, struct pol_slot *s);
const struct bn_pod *bn_pol_slot_pod(const struct bn_policies *p, const struct pol_slot *s);
uint32_t bn_pol_matrix_id(const struct bn_matrix *m);

/* policies_apply.c */
int bn_pol_apply(struct bn_policies *p);
int bn_pol_collect(struct bn_policies *p);
int bn_pol_flip(struct bn_policies *p, const struct bn_ident_diff *d, bool removals);

/* policies_adopt.c */
int bn_pol_adopt_begin(struct bn_policies *p);
int bn_pol_adopt_alias(struct bn_policies *p);
int bn_pol_adopt_end(struct bn_policies *p);

#endif
