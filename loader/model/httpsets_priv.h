/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_HTTPSETS_PRIV_H
#define BN_LOADER_MODEL_HTTPSETS_PRIV_H

/* Inside of the HTTP rule sets: httpsets.c keeps them, httpsets_place.c says where in the maps each goes,
 * httpsets_work.c compiles, writes and erases in a thread.
 */

#include "loader/model/httpsets.h"
#include "loader/slow.h"
#include "maps/http_access.h"
#include "policy/http.h"

/* --- places --------------------------------------------------------------------------------------- */

struct bn_httpplace {
	uint32_t id;		/* of http_sets */
	uint32_t gen;		/* tells two sets of one id apart */
	uint32_t stats, nstats; /* range of http_stats; stats 0: not counted */
	uint64_t digest;	/* what it is compiled from: the next daemon knows it again */
};

struct bn_httpplaces;
int bn_httpplaces_new(struct bn_maps *maps, struct bn_httpplaces **ret);
void bn_httpplaces_freep(struct bn_httpplaces **p);
/* A place for a set of nmatches, its counters 0. -ENOSPC: all ids are taken. */
int bn_httpplaces_take(struct bn_httpplaces *p, uint32_t nmatches, uint64_t digest, struct bn_httpplace *ret);
void bn_httpplaces_give(struct bn_httpplaces *p, const struct bn_httpplace *at); /* erased, or never written */
/* What an earlier daemon left: the next one above id (begin with 0). False at the end. */
bool bn_httpplaces_next(const struct bn_httpplaces *p, uint32_t id, struct bn_httpplace *ret);

/* --- work ----------------------------------------------------------------------------------------- */

/* What the worker gets and gives back. Objects are referenced by the loop's thread before and released by it
 * after; rules point into them.
 */
struct bn_httpjob {
	struct bn_slow_job slow; /* while bn_slow has it */
	struct bn_httpwork *work;
	struct bn_httpjob *next;
	bool erase; /* the set of this place; else compile (unless there are tables) and write it */
	struct bn_httpplace place;
	size_t n;
	const struct bn_rule **rules;
	struct bn_netpol **policies; /* n references */
	/* the answer */
	int result;
	bool heavy; /* it takes longer than others should wait */
	bool compiled, written;
	uint64_t took_ns; /* to compile */
	struct bn_http_rules *tables;
	struct bn_err err;
};
void bn_httpjob_freep(struct bn_httpjob **j); /* the loop's thread */

struct bn_httpwork;
/* slow: where rules are compiled that would hold up the others'; NULL: here, too. It ends before this does. */
int bn_httpwork_new(const struct bn_maps *maps, struct bn_slow *slow, void (*wake)(void *data), void *data,
		    struct bn_httpwork **ret);
void bn_httpwork_freep(struct bn_httpwork **w);
int bn_httpwork_push(struct bn_httpwork *w, struct bn_httpjob *j); /* takes it unless it fails: no thread */
/* Takes back one that waits for its turn among those that take long: true, and it is the caller's. */
bool bn_httpwork_cancel(struct bn_httpwork *w, struct bn_httpjob *j);
/* A job that is done (the caller owns it), or NULL when there is none within wait_ms, or none at all. */
struct bn_httpjob *bn_httpwork_pop(struct bn_httpwork *w, unsigned wait_ms);

#endif
