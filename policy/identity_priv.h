/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_IDENTITY_PRIV_H
#define BN_POLICY_IDENTITY_PRIV_H

/* Inside of the identities: identity.c signs, identity_number.c numbers, identity_atom.c knows what
 * policies look at, identity_obj.c knows the objects, identity_ask.c answers.
 */

#include "policy/identity.h"
#include "policy/select.h"
#include "policy/table.h"

enum atom_kind {
	ATOM_PODS,
	ATOM_BLOCK,
	ATOM_WAS,   /* had this number under the earlier daemon */
	ATOM_NEVER, /* a peer that the API does not allow: matches nothing */
};

struct atom {
	struct bn_hnode h;
	uint32_t id;
	unsigned refs;
	enum atom_kind kind;
	bool fresh;	/* no update has seen it: it is in no matrix */
	const char *ns; /* PODS: the only namespace; NULL: those that nssel matches */
	struct bn_selector nssel, pods;
	struct bn_cidr block;
	uint32_t nexcept;
	struct bn_cidr *except; /* sorted */
	uint32_t was;
	struct bn_u32s idents; /* identities that have it */
};

struct portname {
	struct bn_hnode h;
	const char *name;
	uint32_t id;
	unsigned refs;
	uint8_t proto;
	bool fresh;
};

struct nspace {
	struct bn_hnode h;
	const char *name;
	struct bn_namespace *obj; /* own reference, or NULL */
	struct bn_u32s atoms;	  /* PODS atoms whose scope it is in; sorted */
	BN_VEC(struct podrec *) pods;
};

struct podrec {
	struct bn_hnode h;
	struct nspace *ns;
	struct bn_pod *pod; /* own reference */
	uint32_t pos;	    /* in ns->pods */
};

struct noderec {
	struct bn_hnode h;
	struct bn_node *node; /* own reference */
};

/* An entity: an exact address, or a prefix that some policy names. */
struct ent {
	struct bn_hnode h;
	struct bn_cidr at; /* exact: prefix 128 */
	bool exact, dirty, host, has_was;
	uint16_t flags; /* BN_ADDR_F_* as told */
	uint32_t id;	/* 0: not numbered yet */
	uint32_t was;
	union {
		struct { /* exact */
			BN_VEC(struct podrec *) pods;
			BN_VEC(struct noderec *) nodes;
		};
		struct { /* prefix */
			unsigned refs;
			struct bn_u32s in, ex; /* BLOCK atoms with it as cidr, as except */
		};
	};
};

struct portval {
	uint32_t name; /* id of a portname */
	uint32_t port;
};

struct ident {
	struct bn_hnode h;
	uint32_t id, members;
	uint32_t natoms, nports;
	uint32_t *atoms;       /* sorted */
	struct portval *ports; /* sorted by name */
	bool reserved, stale;
};

struct sig {
	struct bn_u32s atoms;
	BN_VEC(struct portval) ports;
};

struct was {
	struct bn_hnode h;
	struct bn_addr addr;
	uint32_t old;
};

struct bn_idents {
	struct bn_htab atoms, names, namespaces, pods, nodes, ents[2], idents, was;
	BN_VEC(struct atom *) atom_by_id;
	BN_VEC(struct ident *) by_id;
	BN_VEC(struct portname *) name_by_id;
	struct bn_numbers atom_ids, ident_ids, name_ids;
	struct bn_u32s wide;  /* PODS atoms without a fixed namespace */
	struct bn_u32s fresh; /* atoms */
	bool fresh_names, all_dirty, some_empty;
	uint32_t ndead_atoms, ndead_names, ndead_prefixes;
	uint32_t lens[129]; /* prefixes of each length */
	const char *node_name;
	BN_VEC(struct ent *) dirty;
	BN_VEC(struct bn_addr) host;
	struct ident *reserved[BN_ID_UNMANAGED + 1];
	struct sig scratch;
	struct bn_u32s ex_scratch;
	bool adopting;
	BN_VEC(struct bn_cidr) adopted;
	struct bn_ident_diff diff;
	uint32_t addr_cap, prefix_cap, added_cap, removed_cap;
};

/* An entity on its way to an identity that has no number yet. */
struct pending {
	struct ent *e;
	struct ident *to;
	uint32_t old;
};

struct round {
	BN_VEC(struct pending) pending;
	BN_VEC(struct ident *) made;
};

static inline struct ident *bn_ident_by_id(const struct bn_idents *i, uint32_t id)
{
	return id < i->by_id.n ? i->by_id.v[id] : NULL;
}

/* identity.c */
int bn_ident_mark(struct bn_idents *i, struct ent *e);

/* identity_number.c */
int bn_ident_by_id_set(struct bn_idents *i, uint32_t id, struct ident *x);
uint64_t bn_ident_sig_hash(const uint32_t *atoms, uint32_t natoms, const struct portval *ports,
			   uint32_t nports);
struct ident *bn_ident_find(const struct bn_idents *i, const uint32_t *atoms, uint32_t natoms,
			    const struct portval *ports, uint32_t nports, uint64_t hash);
void bn_ident_free(struct ident *x);
int bn_ident_diff_addr(struct bn_idents *i, const struct ent *e, uint32_t id);
int bn_ident_number_all(struct bn_idents *i, struct round *w);
int bn_ident_drop_empty(struct bn_idents *i);
int bn_ident_collect(struct bn_idents *i);

/* identity_atom.c */
struct atom *bn_ident_atom(const struct bn_idents *i, uint32_t id);
struct atom *bn_ident_atom_was(const struct bn_idents *i, uint32_t old);
struct portname *bn_ident_portname(const struct bn_idents *i, const char *name, uint8_t proto);
struct ent *bn_ident_prefix(const struct bn_idents *i, const struct bn_cidr *c);
int bn_ident_prefix_get(struct bn_idents *i, const struct bn_cidr *c, struct ent **ret);
void bn_ident_prefix_put(struct bn_idents *i, struct ent *e);
/* BLOCK atoms that match an address (max 128) or what a prefix leaves over; into i->scratch. */
int bn_ident_blocks(struct bn_idents *i, const struct bn_addr *a, uint32_t max);
bool bn_ident_scope(const struct atom *a, const struct nspace *ns);
int bn_ident_mark_fresh(struct bn_idents *i);
void bn_ident_forget_dead(struct bn_idents *i);
void bn_ident_atoms_done(struct bn_idents *i);

/* identity_obj.c */
int bn_ident_nspace(struct bn_idents *i, const char *name, struct nspace **ret);
/* Forgets it if there is no reason to know it. */
void bn_ident_nspace_settle(struct bn_idents *i, struct nspace *ns);
struct nspace *bn_ident_nspace_find(const struct bn_idents *i, const char *name);
struct ent *bn_ident_addr(const struct bn_idents *i, const struct bn_addr *a);
const struct bn_labels *bn_ident_ns_labels(const struct nspace *ns, struct bn_labels *tmp,
					   struct bn_label *one);
const struct podrec *bn_ident_winner(const struct ent *e);
void bn_ident_objs_done(struct bn_idents *i);

#define IDENT_PREFIXES 0
#define IDENT_ADDRS    1

static inline uint64_t bn_ident_cidr_hash(const struct bn_addr *a, uint8_t prefix)
{
	unsigned char key[17];

	memcpy(key, a, 16);
	key[16] = prefix;
	return bn_hash(key, sizeof(key));
}

static inline void bn_ident_mask(struct bn_addr *a, uint8_t prefix)
{
	for (unsigned k = 0; k < 16; k++) {
		unsigned keep = prefix > k * 8 ? prefix - k * 8 : 0;

		if (keep < 8)
			a->b[k] &= (unsigned char)(0xff00 >> keep);
	}
}

/* IPv6 blocks shorter than the mapped range hold no IPv4 address. */
static inline bool bn_ident_covers(const struct bn_cidr *c, const struct bn_addr *a)
{
	struct bn_addr m = *a;

	if (c->prefix < 96 && bn_addr_is_v4(a))
		return false;
	bn_ident_mask(&m, c->prefix);
	return bn_addr_eq(&m, &c->addr);
}

#endif
