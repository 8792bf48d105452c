// SPDX-License-Identifier: MIT
/* What policies look at: atoms (distinct peers), named ports, and the prefixes of ipBlocks. */
#include <stdio.h>

#include "maps/util.h"
#include "policy/identity_priv.h"
#include "policy/intern.h"

static int cidr_cmp(const void *a, const void *b)
{
	const struct bn_cidr *x = a, *y = b;
	int r = memcmp(&x->addr, &y->addr, sizeof(x->addr));

	return r ? r : (int)x->prefix - (int)y->prefix;
}

static void atom_free(struct atom *a)
{
	if (!a)
		return;
	bn_intern_unref(a->ns);
	bn_selector_done(&a->nssel);
	bn_selector_done(&a->pods);
	free(a->except);
	bn_vec_done(&a->idents);
	free(a);
}

static void atom_freep(struct atom **a)
{
	atom_free(*a);
	*a = NULL;
}

struct atom *bn_ident_atom(const struct bn_idents *i, uint32_t id)
{
	return id < i->atom_by_id.n ? i->atom_by_id.v[id] : NULL;
}

/* --- interning ------------------------------------------------------------------------------- */

static uint64_t atom_hash(const struct atom *a)
{
	uint64_t part[6] = {a->kind, (uintptr_t)a->ns, 0, 0, a->was, a->nexcept};

	if (a->kind == ATOM_PODS) {
		part[2] = bn_selector_hash(&a->nssel);
		part[3] = bn_selector_hash(&a->pods);
	} else if (a->kind == ATOM_BLOCK) {
		part[2] = bn_ident_cidr_hash(&a->block.addr, a->block.prefix);
		for (uint32_t k = 0; k < a->nexcept; k++)
			part[3] = part[3] * 31 +
				  bn_ident_cidr_hash(&a->except[k].addr, a->except[k].prefix);
	}
	return bn_hash(part, sizeof(part));
}

static bool atom_eq(const struct atom *a, const struct atom *b)
{
	if (a->kind != b->kind || a->ns != b->ns || a->was != b->was || a->nexcept != b->nexcept)
		return false;
	if (a->kind == ATOM_PODS)
		return bn_selector_eq(&a->nssel, &b->nssel) && bn_selector_eq(&a->pods, &b->pods);
	if (a->kind != ATOM_BLOCK)
		return true;
	if (cidr_cmp(&a->block, &b->block))
		return false;
	for (uint32_t k = 0; k < a->nexcept; k++)
		if (cidr_cmp(&a->except[k], &b->except[k]))
			return false;
	return true;
}

static struct atom *atom_find(const struct bn_idents *i, const struct atom *like, uint64_t hash)
{
	for (struct bn_hnode *n = bn_htab_first(&i->atoms, hash); n; n = bn_htab_next(n))
		if (atom_eq(bn_container(n, struct atom, h), like))
			return bn_container(n, struct atom, h);
	return NULL;
}

/* Parsers clear host bits; a policy made otherwise must not make prefixes that nothing matches. */
static struct bn_cidr clean(const struct bn_cidr *c)
{
	struct bn_cidr r;

	memset(&r, 0, sizeof(r));
	r.addr = c->addr;
	r.prefix = c->prefix > 128 ? 128 : c->prefix;
	bn_ident_mask(&r.addr, r.prefix);
	return r;
}

static int atom_of_peer(const char *ns, const struct bn_peer *p, struct atom *a)
{
	int r = 0;

	a->kind = ATOM_NEVER;
	if (p->has_block && !p->has_pod && !p->has_ns) {
		a->kind = ATOM_BLOCK;
		a->block = clean(&p->block);
		if (!p->nexcept)
			return 0;
		a->except = calloc(p->nexcept, sizeof(*a->except));
		if (!a->except)
			return -ENOMEM;
		a->nexcept = p->nexcept;
		for (uint32_t k = 0; k < p->nexcept; k++)
			a->except[k] = clean(&p->except[k]);
		qsort(a->except, a->nexcept, sizeof(*a->except), cidr_cmp);
		return 0;
	}
	if (p->has_block || (!p->has_pod && !p->has_ns))
		return 0;
	a->kind = ATOM_PODS;
	if (p->has_ns)
		r = bn_selector_copy(&p->ns, &a->nssel);
	else
		a->ns = bn_intern_ref(ns);
	if (!r && p->has_pod)
		r = bn_selector_copy(&p->pod, &a->pods);
	return r;
}

/* --- scope and prefixes ----------------------------------------------------------------------- */

bool bn_ident_scope(const struct atom *a, const struct nspace *ns)
{
	struct bn_labels tmp;
	struct bn_label one;

	if (a->kind != ATOM_PODS)
		return false;
	if (a->ns)
		return a->ns == ns->name;
	return bn_selector_match(&a->nssel, bn_ident_ns_labels(ns, &tmp, &one));
}

struct ent *bn_ident_prefix(const struct bn_idents *i, const struct bn_cidr *c)
{
	uint64_t hash = bn_ident_cidr_hash(&c->addr, c->prefix);
	struct bn_hnode *n = bn_htab_first(&i->ents[IDENT_PREFIXES], hash);

	for (; n; n = bn_htab_next(n)) {
		struct ent *e = bn_container(n, struct ent, h);

		if (e->at.prefix == c->prefix && bn_addr_eq(&e->at.addr, &c->addr))
			return e;
	}
	return NULL;
}

int bn_ident_prefix_get(struct bn_idents *i, const struct bn_cidr *c, struct ent **ret)
{
	struct ent *e = bn_ident_prefix(i, c);
	int r;

	if (!e) {
		e = calloc(1, sizeof(*e));
		if (!e)
			return -ENOMEM;
		e->at = *c;
		r = bn_htab_add(&i->ents[IDENT_PREFIXES], &e->h,
				bn_ident_cidr_hash(&c->addr, c->prefix));
		if (r < 0) {
			free(e);
			return r;
		}
		i->lens[c->prefix]++;
		r = bn_ident_mark(i, e);
		if (r < 0)
			return r;
	} else if (!e->refs) {
		i->ndead_prefixes--;
	}
	e->refs++;
	*ret = e;
	return 0;
}

void bn_ident_prefix_put(struct bn_idents *i, struct ent *e)
{
	if (!--e->refs)
		i->ndead_prefixes++;
}

static int block_link(struct bn_idents *i, struct atom *a)
{
	struct ent *e;
	int r;

	r = bn_ident_prefix_get(i, &a->block, &e);
	r = r ?: bn_vec_push(&e->in, a->id);
	for (uint32_t k = 0; !r && k < a->nexcept; k++) {
		r = bn_ident_prefix_get(i, &a->except[k], &e);
		r = r ?: bn_vec_push(&e->ex, a->id);
	}
	return r;
}

static void block_unlink(struct bn_idents *i, struct atom *a)
{
	struct ent *e = bn_ident_prefix(i, &a->block);

	bn_u32s_drop(&e->in, a->id);
	bn_ident_prefix_put(i, e);
	for (uint32_t k = 0; k < a->nexcept; k++) {
		e = bn_ident_prefix(i, &a->except[k]);
		bn_u32s_drop(&e->ex, a->id);
		bn_ident_prefix_put(i, e);
	}
}

int bn_ident_blocks(struct bn_idents *i, const struct bn_addr *a, uint32_t max)
{
	struct bn_u32s *in = &i->scratch.atoms, *ex = &i->ex_scratch;
	uint32_t n = 0;
	int r = 0;

	in->n = ex->n = 0;
	for (uint32_t len = bn_addr_is_v4(a) ? 96 : 0; len <= max && !r; len++) {
		struct bn_cidr c = {.addr = *a, .prefix = (uint8_t)len};
		struct ent *e;

		if (!i->lens[len])
			continue;
		bn_ident_mask(&c.addr, c.prefix);
		e = bn_ident_prefix(i, &c);
		for (uint32_t k = 0; e && !r && k < e->in.n; k++)
			r = bn_vec_push(in, e->in.v[k]);
		for (uint32_t k = 0; e && !r && k < e->ex.n; k++)
			r = bn_vec_push(ex, e->ex.v[k]);
	}
	bn_u32s_sort(in);
	bn_u32s_sort(ex);
	for (uint32_t k = 0; k < in->n; k++)
		if (bn_u32_find(ex->v, ex->n, in->v[k]) < 0)
			in->v[n++] = in->v[k];
	in->n = n;
	return r;
}

/* --- references ------------------------------------------------------------------------------- */

static int scopes_link(struct bn_idents *i, struct atom *a)
{
	struct nspace *ns;
	int r;

	if (a->ns) {
		r = bn_ident_nspace(i, a->ns, &ns);
		return r ?: bn_u32s_insert(&ns->atoms, a->id);
	}
	r = bn_vec_push(&i->wide, a->id);
	bn_htab_each(&i->namespaces, n)
	{
		ns = bn_container(n, struct nspace, h);
		if (!r && bn_ident_scope(a, ns))
			r = bn_u32s_insert(&ns->atoms, a->id);
	}
	return r;
}

/* Takes over *like (its arrays) when the atom is new. */
static int atom_intern(struct bn_idents *i, struct atom *like, uint32_t *ret)
{
	uint64_t hash = atom_hash(like);
	struct atom *a = atom_find(i, like, hash);
	uint32_t id;
	int r;

	if (a) {
		if (!a->refs++)
			i->ndead_atoms--;
		*ret = a->id;
		return 0;
	}
	a = malloc(sizeof(*a));
	if (!a)
		return -ENOMEM;
	*a = *like;
	*like = (struct atom){};
	a->refs = 1;
	a->fresh = true;
	r = bn_numbers_get(&i->atom_ids, &id);
	while (!r && i->atom_by_id.n <= id)
		r = bn_vec_push(&i->atom_by_id, NULL);
	r = r ?: bn_htab_add(&i->atoms, &a->h, hash);
	if (r < 0) {
		atom_free(a);
		return r;
	}
	a->id = id;
	i->atom_by_id.v[id] = a;
	r = bn_vec_push(&i->fresh, id);
	if (!r && a->kind == ATOM_PODS)
		r = scopes_link(i, a);
	if (!r && a->kind == ATOM_BLOCK)
		r = block_link(i, a);
	*ret = id;
	return r;
}

int bn_idents_atom_get(struct bn_idents *i, const char *ns, const struct bn_peer *p, uint32_t *ret)
{
	_cleanup_(atom_freep) struct atom *like = calloc(1, sizeof(*like));
	int r;

	if (!like)
		return -ENOMEM;
	r = atom_of_peer(ns, p, like);
	return r ?: atom_intern(i, like, ret);
}

void bn_idents_atom_put(struct bn_idents *i, uint32_t atom)
{
	struct atom *a = bn_ident_atom(i, atom);

	if (a && !--a->refs)
		i->ndead_atoms++;
}

struct atom *bn_ident_atom_was(const struct bn_idents *i, uint32_t old)
{
	struct atom like = {.kind = ATOM_WAS, .was = old};

	return atom_find(i, &like, atom_hash(&like));
}

int bn_idents_adopt_identity(struct bn_idents *i, uint32_t old)
{
	struct atom like = {.kind = ATOM_WAS, .was = old};
	uint32_t id;

	i->adopting = true;
	if (old < BN_ID_FIRST || bn_ident_atom_was(i, old))
		return 0;
	return atom_intern(i, &like, &id);
}

void bn_idents_adopt_done(struct bn_idents *i)
{
	i->adopting = false;
	for (uint32_t k = 0; k < i->atom_by_id.n; k++)
		if (i->atom_by_id.v[k] && i->atom_by_id.v[k]->kind == ATOM_WAS)
			bn_idents_atom_put(i, k);
	for (uint32_t k = 0; k < i->adopted.n; k++)
		bn_ident_prefix_put(i, bn_ident_prefix(i, &i->adopted.v[k]));
	i->adopted.n = 0;
	bn_htab_each(&i->was, n)
	{
		bn_htab_del(&i->was, n);
		free(bn_container(n, struct was, h));
	}
}

struct portname *bn_ident_portname(const struct bn_idents *i, const char *name, uint8_t proto)
{
	uint64_t part[2] = {(uintptr_t)name, proto};
	struct bn_hnode *n = bn_htab_first(&i->names, bn_hash(part, sizeof(part)));

	for (; n; n = bn_htab_next(n)) {
		struct portname *p = bn_container(n, struct portname, h);

		if (p->name == name && p->proto == proto)
			return p;
	}
	return NULL;
}

int bn_idents_name_get(struct bn_idents *i, const char *name, uint8_t proto)
{
	uint64_t part[2] = {(uintptr_t)name, proto};
	struct portname *p = bn_ident_portname(i, name, proto);
	int r;

	if (p) {
		if (!p->refs++)
			i->ndead_names--;
		return 0;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct portname){.name = name, .proto = proto, .refs = 1, .fresh = true};
	r = bn_numbers_get(&i->name_ids, &p->id);
	while (!r && i->name_by_id.n <= p->id)
		r = bn_vec_push(&i->name_by_id, NULL);
	r = r ?: bn_htab_add(&i->names, &p->h, bn_hash(part, sizeof(part)));
	if (r < 0) {
		free(p);
		return r;
	}
	bn_intern_ref(name);
	i->name_by_id.v[p->id] = p;
	i->fresh_names = true;
	return 0;
}

void bn_idents_name_put(struct bn_idents *i, const char *name, uint8_t proto)
{
	struct portname *p = bn_ident_portname(i, name, proto);

	if (p && !--p->refs)
		i->ndead_names++;
}

/* --- what new atoms touch --------------------------------------------------------------------- */

#define MANY_FRESH 32 /* from here on, signing everything is cheaper than finding what is touched  \
		       */

static int mark_pod_addrs(struct bn_idents *i, const struct podrec *p)
{
	int r = 0;

	for (uint32_t k = 0; !r && k < p->pod->nips; k++) {
		struct ent *e = bn_ident_addr(i, &p->pod->ips[k]);

		if (e)
			r = bn_ident_mark(i, e);
	}
	return r;
}

static int mark_pods(struct bn_idents *i, const struct atom *a)
{
	int r = 0;

	bn_htab_each(&i->namespaces, n)
	{
		struct nspace *ns = bn_container(n, struct nspace, h);

		if (bn_u32_find(ns->atoms.v, ns->atoms.n, a->id) < 0)
			continue;
		for (uint32_t k = 0; !r && k < ns->pods.n; k++)
			if (bn_selector_match(&a->pods, &ns->pods.v[k]->pod->o.labels))
				r = mark_pod_addrs(i, ns->pods.v[k]);
	}
	return r;
}

static int mark_block(struct bn_idents *i, const struct atom *a)
{
	int r = 0;

	for (unsigned t = 0; t < 2; t++) {
		bn_htab_each(&i->ents[t], n)
		{
			struct ent *e = bn_container(n, struct ent, h);

			if (!r && e->at.prefix >= a->block.prefix &&
			    bn_ident_covers(&a->block, &e->at.addr))
				r = bn_ident_mark(i, e);
		}
	}
	return r;
}

int bn_ident_mark_fresh(struct bn_idents *i)
{
	int r = 0;

	if (i->fresh.n > MANY_FRESH)
		i->all_dirty = true;
	for (unsigned t = 0; i->all_dirty && t < 2; t++) {
		bn_htab_each(&i->ents[t], n) r =
			r ?: bn_ident_mark(i, bn_container(n, struct ent, h));
	}
	for (uint32_t k = 0; !i->all_dirty && !r && k < i->fresh.n; k++) {
		struct atom *a = bn_ident_atom(i, i->fresh.v[k]);

		if (a && a->kind == ATOM_PODS)
			r = mark_pods(i, a);
		else if (a && a->kind == ATOM_BLOCK)
			r = mark_block(i, a);
	}
	if (i->fresh_names && !i->all_dirty) {
		bn_htab_each(&i->pods, n)
		{
			struct podrec *p = bn_container(n, struct podrec, h);

			if (!r && p->pod->nports)
				r = mark_pod_addrs(i, p);
		}
	}
	return r;
}

/* --- dead ones -------------------------------------------------------------------------------- */

static void forget_atom(struct bn_idents *i, struct atom *a)
{
	if (a->kind == ATOM_BLOCK)
		block_unlink(i, a);
	if (a->kind == ATOM_PODS) {
		bn_htab_each(&i->namespaces, n)
		{
			struct nspace *ns = bn_container(n, struct nspace, h);

			bn_u32s_remove(&ns->atoms, a->id);
			if (a->ns == ns->name)
				bn_ident_nspace_settle(i, ns);
		}
		bn_u32s_drop(&i->wide, a->id);
	}
	bn_u32s_drop(&i->fresh, a->id);
	bn_htab_del(&i->atoms, &a->h);
	i->atom_by_id.v[a->id] = NULL;
	bn_numbers_put(&i->atom_ids, a->id);
	atom_free(a);
}

/* Identities were rid of dead atoms and names before. */
void bn_ident_forget_dead(struct bn_idents *i)
{
	for (uint32_t k = 0; i->ndead_atoms && k < i->atom_by_id.n; k++) {
		struct atom *a = i->atom_by_id.v[k];

		if (a && !a->refs) {
			forget_atom(i, a);
			i->ndead_atoms--;
		}
	}
	for (uint32_t k = 0; i->ndead_names && k < i->name_by_id.n; k++) {
		struct portname *p = i->name_by_id.v[k];

		if (!p || p->refs)
			continue;
		bn_htab_del(&i->names, &p->h);
		i->name_by_id.v[k] = NULL;
		bn_numbers_put(&i->name_ids, k);
		bn_intern_unref(p->name);
		free(p);
		i->ndead_names--;
	}
}

void bn_ident_atoms_done(struct bn_idents *i)
{
	for (uint32_t k = 0; k < i->atom_by_id.n; k++)
		atom_free(i->atom_by_id.v[k]);
	for (uint32_t k = 0; k < i->name_by_id.n; k++) {
		if (i->name_by_id.v[k])
			bn_intern_unref(i->name_by_id.v[k]->name);
		free(i->name_by_id.v[k]);
	}
	bn_vec_done(&i->atom_by_id);
	bn_vec_done(&i->name_by_id);
	bn_vec_done(&i->adopted);
	bn_vec_done(&i->wide);
	bn_vec_done(&i->fresh);
	bn_htab_clear(&i->atoms);
	bn_htab_clear(&i->names);
	bn_numbers_done(&i->atom_ids);
	bn_numbers_done(&i->name_ids);
}
