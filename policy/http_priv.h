/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_HTTP_PRIV_H
#define BN_POLICY_HTTP_PRIV_H

/* Inside of the HTTP compiler: http_regex.c and http_compile.c put the patterns of one field into a
 * nondeterministic automaton, http_dfa.c makes it deterministic, http_set.c lays all of it out.
 */

#include "policy/http.h"
#include "policy/table.h"

/* Numbers for arrays of words: equal arrays, equal number, counted from 0. */
struct bn_pool {
	struct bn_u32s data, ends; /* array k is data[ends[k - 1] .. ends[k]) */
	uint32_t *slots, nslots;
};

int bn_pool_get(struct bn_pool *p, const uint32_t *v, uint32_t n, uint32_t *ret);
const uint32_t *bn_pool_at(const struct bn_pool *p, uint32_t k, uint32_t *n);
void bn_pool_done(struct bn_pool *p);

struct bn_nfa_edge {
	uint8_t lo, hi;
	uint32_t to;
};

struct bn_nfa_state {
	uint32_t first; /* edges up to those of the next state */
	uint32_t pattern; /* that is complete here, plus 1 */
};

struct bn_nfa {
	BN_VEC(struct bn_nfa_state) states;
	BN_VEC(struct bn_nfa_edge) edges;
	struct bn_u32s starts;
	struct bn_u32s suffixes; /* where those of wildcards begin; the labels before them are common to all */
	uint32_t npatterns;
	uint64_t *left; /* of BN_HTTP_WORK_MAX, for all automata of a set; borrowed */
};

/* -E2BIG when not so much is left: then nothing is. */
int bn_http_spend(uint64_t *left, uint64_t work);

int bn_nfa_state(struct bn_nfa *n, uint32_t pattern);			   /* edges that follow are its own */
int bn_nfa_edge(struct bn_nfa *n, uint8_t lo, uint8_t hi, uint32_t to);
int bn_nfa_literal(struct bn_nfa *n, const char *s, bool prefix);	   /* prefix: then nothing, or '/' and any */
int bn_nfa_wildcard(struct bn_nfa *n, const char *suffix);		   /* labels before ".suffix" */
int bn_nfa_regex(struct bn_nfa *n, const char *re, char *msg, size_t len); /* -EINVAL, -E2BIG: why in msg */
int bn_nfa_close(struct bn_nfa *n);					   /* after the last pattern */
bool bn_nfa_begins(const struct bn_nfa *n, uint8_t byte); /* can the last pattern begin so? */
void bn_nfa_done(struct bn_nfa *n);

struct bn_dfa {
	uint32_t n, classes;
	uint8_t cls[256];
	uint16_t *trans; /* n * classes */
	uint32_t *ends;	 /* what `end` said of the patterns that are complete */
};

/* -E2BIG: beyond the limits. State 0 is the start. */
int bn_dfa_make(const struct bn_nfa *n,
		int (*end)(void *data, const uint32_t *patterns, uint32_t count, uint32_t *ret), void *data,
		struct bn_dfa *ret);
void bn_dfa_done(struct bn_dfa *d);

/* Where match k of a set comes from; m is for the compiler alone. */
struct bn_http_origin {
	uint32_t rule, index;
	const struct bn_http_match *m;
};

struct bn_http_rules {
	struct bn_http_tab tab;
	BN_VEC(struct bn_http_origin) origins;
	BN_VEC(uint16_t) cells;
	BN_VEC(uint64_t) words;
	BN_VEC(char *) texts; /* of normalised patterns */
};

/* As bn_http_compile, of a budget of BN_HTTP_WORK_MAX that several of them share. */
int bn_http_compile_with(const struct bn_rule *const *rules, size_t n, uint64_t *left, struct bn_http_rules **ret,
			 struct bn_err *err);

#endif
