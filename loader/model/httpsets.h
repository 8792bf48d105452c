/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_HTTPSETS_H
#define BN_LOADER_MODEL_HTTPSETS_H

/* HTTP rule sets for the policy compiler: a number for each distinct set of rules at once, its tables from a
 * worker thread later. Until they are in the maps the kernel denies on such a port, so that whoever has older
 * rules keeps them that long (bn_httpsets_pending).
 *
 * Sets are one when they hold the same matches for the same rule numbers. A set that nobody wants any more
 * stays BN_HTTPSETS_GRACE_S longer: heads that are being received are judged to their end by the rules they
 * began with. After a restart the pinned sets are found again by their content and nothing is compiled.
 *
 * Everything here belongs to the loop's thread; the worker sees immutable objects only.
 */

#include "maps/maps.h"
#include "policy/compile.h"

#define BN_HTTPSETS_GRACE_S 60

struct bn_httpsets;
struct bn_slow;

struct bn_httpsets_env {
	void (*wake)(void *data); /* on the worker's thread: bn_httpsets_poll has something to take in */
	void *data;
	struct bn_slow *slow; /* for rules that take long to compile (loader/slow.h); NULL: the worker, too */
	unsigned grace_ms; /* 0: BN_HTTPSETS_GRACE_S */
};
int bn_httpsets_new(struct bn_maps *maps, const struct bn_httpsets_env *env, struct bn_httpsets **ret);
void bn_httpsets_freep(struct bn_httpsets **h); /* waits for a set that is being compiled; the maps stay */

/* For bn_compiler_new. */
void bn_httpsets_ops(struct bn_httpsets *h, struct bn_http_sets *ret);

/* Writes what is compiled, waiting up to wait_ms for what is under way; ends what has rested long enough.
 * 1: some set became ready, or turned out to be one that cannot be. Negative: maps.
 */
int bn_httpsets_poll(struct bn_httpsets *h, unsigned wait_ms);
bool bn_httpsets_pending(const struct bn_httpsets *h, uint32_t set);
/* Every policy that is in force has been seen: pinned sets that nobody asked for may go. */
void bn_httpsets_adopt_done(struct bn_httpsets *h);

/* Why requests to a port with a rule of this policy are all denied; NULL: they are not. */
const char *bn_httpsets_error(const struct bn_httpsets *h, const struct bn_netpol *np);

struct bn_httpset_origin { /* what a match of a set stands for: an entry of `http` of a rule */
	uint32_t rule;	/* number of the compiler */
	uint32_t index;
};
/* For events: -ENOENT when the set is not known any more, or is another one by now. */
int bn_httpsets_origin(const struct bn_httpsets *h, uint32_t set, uint32_t gen, uint32_t match,
		       struct bn_httpset_origin *ret);

/* Requests since this daemon knows the rule, and of the sets that it adopted before. */
struct bn_http_count {
	uint64_t allowed;
	uint64_t denied; /* by sets whose first rule it is */
	uint64_t audited; /* the same, where audit let them pass */
};
/* counts[rule] for rule numbers below n, which are all set. */
void bn_httpsets_counts(const struct bn_httpsets *h, struct bn_http_count *counts, uint32_t n);
/* The number means another rule from now on. */
void bn_httpsets_rule_new(struct bn_httpsets *h, uint32_t rule);

struct bn_httpsets_stats {
	uint32_t sets, pending, failed, resting;
	uint64_t compiled, adopted;
	uint64_t last_compile_ns;
};
void bn_httpsets_stats(const struct bn_httpsets *h, struct bn_httpsets_stats *ret);

#endif
