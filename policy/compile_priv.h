/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_COMPILE_PRIV_H
#define BN_POLICY_COMPILE_PRIV_H

/* Inside of the compiler: compile_rec.c keeps policies and rule numbers, compile.c the matrices by
 * key; matrix.c builds and extends one matrix; matrix_ports.c cuts the ports into classes.
 */

#include "policy/compile.h"
#include "policy/table.h"

struct polrec;

/* Shared by the versions of a policy: a rule that stands in the same place keeps its number. */
struct rulenum {
	uint32_t id; /* 0: none yet */
	unsigned refs;
	struct polrec *rec; /* the newest version */
	enum bn_dir dir;
	uint32_t index;
};

/* A rule of the internal model: any API's rules become these. */
struct crule {
	const struct bn_rule *r;
	struct polrec *rec;
	struct rulenum *num;
	enum bn_tier tier;
	uint32_t priority;
	enum bn_rule_action action;
	bool http; /* ACCEPT of some requests only */
	bool all;  /* no peers: everybody */
	struct bn_u32s atoms;
};

/* One version of a policy; lives as long as a matrix was made from it. */
struct polrec {
	struct bn_hnode h;
	unsigned refs;
	uint64_t serial;
	struct bn_netpol *p;
	char *limit; /* refused because of a limit: why */
	uint32_t nrules[BN_DIRS];
	struct crule *rules[BN_DIRS];
};

struct polspace {
	struct bn_hnode h;
	const char *ns;
	BN_VEC(struct polrec *) recs; /* by name, then kind */
};

/* Numbers stay when a policy changes: only with the versions they say which rules are meant. */
struct httpset {
	struct bn_hnode h;
	unsigned refs;
	uint32_t id, n;
	uint32_t *rules; /* numbers, ascending */
	uint64_t serials[];
};

struct matrices {
	BN_VEC(struct bn_matrix *) m;
};

struct bn_compiler {
	struct bn_idents *ids;
	struct bn_compile_limits lim;
	struct bn_http_sets http;
	struct bn_htab policies, spaces, matrices, httpsets;
	BN_VEC(struct matrices) by_atom;
	struct matrices named_all; /* those with an egress rule for everybody that names a port */
	struct bn_numbers rule_ids, http_ids;
	BN_VEC(struct rulenum *) rule_by_id;
	struct bn_u32s new_rules;
	uint64_t serial, visit;
	uint64_t refusals;
	char error[512];
	struct bn_compile_stats stats;
};

struct range {
	uint32_t lo, hi; /* BN_PORT_KEY, inclusive */
};

struct named {
	const char *name;
	uint8_t proto;
};

/* A rule in a matrix, ports resolved as far as they can be. */
struct mrule {
	struct crule *c;
	uint32_t nranges, nnamed;
	struct range *ranges; /* ascending, apart from each other */
	struct named *named;  /* egress: differs by destination */
	uint64_t *cover;      /* bit per class, of ranges */
};

struct atom_rule {
	uint32_t atom, rule;
	bool pods;
};

struct point { /* a port that some destination pod has under a name: a class of its own */
	uint32_t key, cls;
};

struct idmap { /* identity -> row; 0 is no identity */
	uint32_t *k, *v;
	uint32_t size, n;
};

struct bn_matrix {
	struct bn_hnode h;
	unsigned refs;
	struct bn_compiler *c;
	enum bn_dir dir;
	bool stale, linked;
	uint64_t visit;
	uint32_t keylen;
	unsigned char *key;
	uint32_t nrecs;
	struct polrec **recs;
	const struct bn_netpol **policies;
	uint32_t nrules, natom_rules, npoints;
	struct mrule *rules; /* in the order in which they decide */
	struct atom_rule *atom_rules;
	struct point *points;
	uint32_t nports, nclasses;
	uint32_t *ports;     /* BN_PORT_START */
	uint32_t *class_key; /* a port of each class */
	uint32_t nrows, row_room;
	struct bn_cell *cells;
	uint32_t rowhash_size, *rowhash; /* row + 1, open addressing, by content */
	struct idmap peers;
	uint8_t *hit; /* scratch, per rule */
	BN_VEC(struct httpset *) sets;
	void *user;
	void (*user_gone)(void *user);
};

#define HIT_ANY	 1 /* some peer of the rule matches */
#define HIT_PODS 2 /* one that looks at pods, or the rule has no peers: named ports hold */

#define PORT_KEY_END BN_PORT_KEY(4, 0)

/* compile_rec.c */
struct polspace *bn_comp_space(const struct bn_compiler *c, const char *ns);
void bn_comp_rec_unref(struct bn_compiler *c, struct polrec *rec);
void bn_comp_rec_remove(struct bn_compiler *c, struct polrec *rec);
int bn_comp_http_set(struct bn_compiler *c, const struct crule *const *rules, uint32_t n,
		     struct httpset **ret);
void bn_comp_http_put(struct bn_compiler *c, struct httpset *s);
int bn_comp_rule_number(struct bn_compiler *c, struct rulenum *n);

/* matrix.c: m has key, recs, dir. -E2BIG with *what: 'c'lasses, 'r'ows, cell's', 'p'eers, rule
 * 'n'umbers */
int bn_matrix_build(struct bn_matrix *m, const struct bn_pod *pod, char *what);
int bn_matrix_extend(struct bn_matrix *m, uint32_t identity, uint32_t *row, bool *new_row);
bool bn_matrix_forget(struct bn_matrix *m, uint32_t identity, uint32_t *row);
void bn_matrix_parts_done(struct bn_matrix *m);

/* matrix_ports.c */
int bn_matrix_ranges(struct bn_matrix *m, struct mrule *mr, const struct bn_pod *pod);
int bn_matrix_points(struct bn_matrix *m);
int bn_matrix_classes(struct bn_matrix *m, char *what);
bool bn_pod_named_port(const struct bn_pod *pod, const char *name, uint8_t proto, uint16_t *ret);

#endif
