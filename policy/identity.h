/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_IDENTITY_H
#define BN_POLICY_IDENTITY_H

/* Identities: one number for all addresses that no policy can tell apart.
 *
 * What policies can see of an address is which of their peers match it, so an identity is the set
 * of distinct peers ("atoms": namespace and pod selectors with their scope, or an ipBlock with its
 * excepts) that match, and the values of the named ports that egress rules ask for. Two pods whose
 * labels differ where no policy looks share an identity; pods, nodes and outside addresses are
 * treated alike. Growth: identities <= distinct sets of matching atoms, whatever the number of
 * pods.
 *
 * A change touches the entities (addresses and prefixes) that it concerns. An identity all of
 * whose members gain or lose the same atoms that are in no policy yet keeps its number.
 *
 * Whose address is it, when two pods claim it: pods that are being deleted come last, then the
 * higher resourceVersion wins, then the name that sorts first. Pods of the host network own no
 * address, finished pods none any more. An address of both a pod and a node is the pod's.
 */

#include "maps/ep.h"
#include "policy/object.h"

struct bn_idents;

int bn_idents_new(struct bn_idents **ret);
void bn_idents_freep(struct bn_idents **i);

/* --- what policies look at: counted references ------------------------------------------------ */

/* The atom of a peer in a policy of namespace ns. */
int bn_idents_atom_get(struct bn_idents *i, const char *ns, const struct bn_peer *p, uint32_t *ret);
void bn_idents_atom_put(struct bn_idents *i, uint32_t atom);
/* A named port that some egress rule asks for (interned name). */
int bn_idents_name_get(struct bn_idents *i, const char *name, uint8_t proto);
void bn_idents_name_put(struct bn_idents *i, const char *name, uint8_t proto);

/* --- objects: old NULL is new, new NULL is gone ----------------------------------------------- */

int bn_idents_pod(struct bn_idents *i, const struct bn_pod *old, const struct bn_pod *new);
int bn_idents_namespace(struct bn_idents *i, const struct bn_namespace *old,
			const struct bn_namespace *new);
int bn_idents_node(struct bn_idents *i, const struct bn_node *old, const struct bn_node *new);
/* This host's addresses, all of them, beside those of its Node object. */
int bn_idents_host(struct bn_idents *i, const struct bn_addr *addrs, size_t n);
int bn_idents_set_node_name(struct bn_idents *i, const char *name); /* whose Node is "host" */

/* --- the difference --------------------------------------------------------------------------- */

struct bn_ident_addr {
	struct bn_addr addr;
	uint32_t identity; /* 0: the address is gone */
	uint16_t flags;	   /* BN_ADDR_F_POD, _HOST, _NODE */
};

struct bn_ident_prefix {
	struct bn_cidr cidr;
	uint32_t identity; /* 0: the prefix is gone */
};

struct bn_ident_diff {
	size_t nadded, nremoved, naddrs, nprefixes;
	uint32_t *added;	     /* identities: put them into all matrices before the rest */
	uint32_t *removed;	     /* have no member any more */
	struct bn_ident_addr *addrs; /* what changed */
	struct bn_ident_prefix *prefixes;
};

/* Signs everything again that the calls above touched. *ret is valid until the next call.
 * Identities without members, and atoms and names that nobody asks for any more, are kept: packets
 * on their way may still meet them, and what they told apart must stay apart while a matrix in the
 * kernel looks at it.
 */
int bn_idents_update(struct bn_idents *i, const struct bn_ident_diff **ret);
/* The same, and forgets what nobody refers to: identities that nothing tells apart any more are
 * merged, those without members are in `removed`; their numbers are used again only after
 * bn_idents_release.
 */
int bn_idents_collect(struct bn_idents *i, const struct bn_ident_diff **ret);
bool bn_idents_garbage(const struct bn_idents *i); /* is there something to collect? */
bool bn_idents_dirty(const struct bn_idents *i);
void bn_idents_release(struct bn_idents *i, uint32_t identity);

/* --- taking over from an earlier daemon ---------------------------------------------------------
 *
 * The matrices in force know the old numbers. Each address gets, beside its atoms, the fact
 * which old number it had (of those that are of interest), so that every new identity stands for
 * one old one, and the matrices in force can be taught the new numbers before any address changes.
 * bn_idents_adopt_done forgets the old numbers; bn_idents_collect then merges.
 */
int bn_idents_adopt_addr(struct bn_idents *i, const struct bn_addr *a, uint32_t old);
int bn_idents_adopt_prefix(struct bn_idents *i, const struct bn_cidr *c, uint32_t old);
/* Before the first update: this number is in a row of a matrix in force. */
int bn_idents_adopt_identity(struct bn_idents *i, uint32_t old);
/* New numbers begin here (above all old ones). */
void bn_idents_adopt_first(struct bn_idents *i, uint32_t first);
int bn_idents_each_adopted(const struct bn_idents *i,
			   int (*fn)(uint32_t identity, uint32_t old, void *data), void *data);
void bn_idents_adopt_done(struct bn_idents *i);

/* --- questions -------------------------------------------------------------------------------- */

enum bn_who {
	BN_WHO_WORLD,
	BN_WHO_POD,
	BN_WHO_NODE, /* BN_ADDR_F_HOST in flags: this one */
};

struct bn_whois {
	enum bn_who who;
	uint32_t identity;
	uint16_t flags;
	const struct bn_pod *pod;   /* BN_WHO_POD */
	const struct bn_node *node; /* BN_WHO_NODE, unless only the host's own list has it */
};
/* What the kernel would find: exact address, else the longest prefix, else BN_ID_WORLD. */
void bn_idents_whois(const struct bn_idents *i, const struct bn_addr *a, struct bn_whois *ret);

/* Atoms of an identity, ascending. 0 for unknown numbers. */
size_t bn_idents_atoms(const struct bn_idents *i, uint32_t identity, const uint32_t **ret);
/* Value of a named port; false when the identity's pods have none of that name and protocol. */
bool bn_idents_port(const struct bn_idents *i, uint32_t identity, const char *name, uint8_t proto,
		    uint16_t *ret);
/* Does the atom look at pods (false: an ipBlock, or what matches nothing)? */
bool bn_idents_atom_is_pods(const struct bn_idents *i, uint32_t atom);
/* Identities that match an atom: their number, *ret borrowed until the next update; in no order. */
size_t bn_idents_of_atom(const struct bn_idents *i, uint32_t atom, const uint32_t **ret);
/* Identities with a value for a named port. */
int bn_idents_each_of_name(const struct bn_idents *i, const char *name, uint8_t proto,
			   int (*fn)(uint32_t identity, void *data), void *data);
size_t bn_idents_nports(const struct bn_idents *i, uint32_t identity);
int bn_idents_each(const struct bn_idents *i,
		   int (*fn)(uint32_t identity, size_t members, void *data), void *data);
/* Pods of a namespace (interned) that selectors see: not of the host network, not finished. */
int bn_idents_each_pod(const struct bn_idents *i, const char *ns,
		       int (*fn)(const struct bn_pod *pod, void *data), void *data);
int bn_idents_each_addr(const struct bn_idents *i,
			int (*fn)(const struct bn_ident_addr *a, void *data), void *data);
int bn_idents_each_prefix(const struct bn_idents *i,
			  int (*fn)(const struct bn_ident_prefix *p, void *data), void *data);
/* "pods of shop with app=web" or "10.0.0.0/8 except 10.1.0.0/16". */
char *bn_idents_atom_describe(const struct bn_idents *i, uint32_t atom, char *buf, size_t len);

struct bn_idents_stats {
	size_t identities, atoms, addresses, prefixes, pods;
};
void bn_idents_stats(const struct bn_idents *i, struct bn_idents_stats *ret);

#endif
