// SPDX-License-Identifier: MIT
/* Signing and numbering: which atoms match an entity, and which number stands for them. */
#include "policy/identity.h"

#include "maps/util.h"
#include "policy/identity_priv.h"

int bn_ident_mark(struct bn_idents *i, struct ent *e)
{
	int r;

	if (e->dirty)
		return 0;
	r = bn_vec_push(&i->dirty, e);
	e->dirty = !r;
	return r;
}

/* The number arrives later (number_all). */
static int ident_make(struct bn_idents *i, const struct sig *s, uint64_t hash, struct ident **ret)
{
	struct ident *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return -ENOMEM;
	x->atoms = malloc((s->atoms.n + 1) * sizeof(*x->atoms));
	x->ports = malloc((s->ports.n + 1) * sizeof(*x->ports));
	r = x->atoms && x->ports ? bn_htab_add(&i->idents, &x->h, hash) : -ENOMEM;
	if (r < 0) {
		bn_ident_free(x);
		return r;
	}
	bn_copy(x->atoms, s->atoms.v, s->atoms.n * sizeof(*x->atoms));
	bn_copy(x->ports, s->ports.v, s->ports.n * sizeof(*x->ports));
	x->natoms = s->atoms.n;
	x->nports = s->ports.n;
	*ret = x;
	return 0;
}

/* --- signing ---------------------------------------------------------------------------------- */

static int sign_pod(struct bn_idents *i, const struct podrec *p)
{
	struct sig *s = &i->scratch;
	int r = 0;

	for (uint32_t k = 0; k < p->ns->atoms.n && !r; k++) {
		const struct atom *a = bn_ident_atom(i, p->ns->atoms.v[k]);

		if (bn_selector_match(&a->pods, &p->pod->o.labels))
			r = bn_vec_push(&s->atoms, a->id);
	}
	for (uint32_t k = 0; k < p->pod->nports && !r; k++) {
		const struct bn_pod_port *pp = &p->pod->ports[k];
		const struct portname *n = bn_ident_portname(i, pp->name, pp->proto);
		struct portval v = {.port = pp->port};
		bool twice = false;
		uint32_t at;

		if (!n)
			continue;
		v.name = n->id;
		for (at = 0; at < s->ports.n; at++)
			twice |= s->ports.v[at].name == v.name;
		if (twice) /* the first container's, as the API's validation has it */
			continue;
		r = bn_vec_push(&s->ports, v);
		for (; !r && at && s->ports.v[at - 1].name > v.name; at--) {
			s->ports.v[at] = s->ports.v[at - 1];
			s->ports.v[at - 1] = v;
		}
	}
	return r;
}

static uint32_t was_of(struct bn_idents *i, const struct ent *e)
{
	if (e->exact) {
		struct bn_hnode *n = bn_htab_first(&i->was, bn_ident_cidr_hash(&e->at.addr, 128));

		for (; n; n = bn_htab_next(n))
			if (bn_addr_eq(&bn_container(n, struct was, h)->addr, &e->at.addr))
				return bn_container(n, struct was, h)->old;
	}
	for (int len = e->at.prefix; len >= (bn_addr_is_v4(&e->at.addr) ? 96 : 0); len--) {
		struct bn_cidr c = {.addr = e->at.addr, .prefix = (uint8_t)len};
		const struct ent *p;

		if (!i->lens[len])
			continue;
		bn_ident_mask(&c.addr, c.prefix);
		p = bn_ident_prefix(i, &c);
		if (p && p->has_was)
			return p->was;
	}
	return 0;
}

static int sign(struct bn_idents *i, struct ent *e, uint16_t *flags, uint32_t *reserved)
{
	const struct podrec *p = e->exact ? bn_ident_winner(e) : NULL;
	struct sig *s = &i->scratch;
	const struct atom *w;
	int r;

	s->atoms.n = s->ports.n = 0;
	r = bn_ident_blocks(i, &e->at.addr, e->at.prefix);
	*flags = 0;
	*reserved = BN_ID_WORLD;
	if (e->exact) {
		bool host = e->host;

		for (uint32_t k = 0; k < e->nodes.n; k++)
			host |= e->nodes.v[k]->node->o.name == i->node_name;
		*flags = (host ? BN_ADDR_F_HOST : 0) | (e->nodes.n && !host ? BN_ADDR_F_NODE : 0) |
			 (p ? BN_ADDR_F_POD : 0);
		*reserved = p ? BN_ID_UNMANAGED : host ? BN_ID_HOST : BN_ID_NODE;
	}
	if (!r && p)
		r = sign_pod(i, p);
	if (!r && i->adopting) {
		w = bn_ident_atom_was(i, was_of(i, e));
		if (w)
			r = bn_vec_push(&s->atoms, w->id);
	}
	bn_u32s_sort(&s->atoms);
	return r;
}

/* --- the difference --------------------------------------------------------------------------- */

static void leave(struct bn_idents *i, uint32_t id)
{
	struct ident *x = bn_ident_by_id(i, id);

	if (x && !--x->members && !x->reserved)
		i->some_empty = true;
}

/* Nobody claims the address, no policy names the prefix. */
static bool is_dead(const struct ent *e)
{
	return e->exact ? !e->pods.n && !e->nodes.n && !e->host : !e->refs;
}

static int ent_gone(struct bn_idents *i, struct ent *e)
{
	int r = e->id ? bn_ident_diff_addr(i, e, 0) : 0;

	leave(i, e->id);
	bn_htab_del(&i->ents[e->exact ? IDENT_ADDRS : IDENT_PREFIXES], &e->h);
	if (e->exact) {
		bn_vec_done(&e->pods);
		bn_vec_done(&e->nodes);
	} else {
		i->lens[e->at.prefix]--;
		bn_vec_done(&e->in);
		bn_vec_done(&e->ex);
	}
	free(e);
	return r;
}

/* Signs one entity: it moves to an identity that has a number, or waits for one. */
static int resign(struct bn_idents *i, struct round *w, struct ent *e)
{
	uint32_t reserved, old = e->id;
	struct sig *s = &i->scratch;
	struct ident *x;
	uint16_t flags;
	uint64_t hash;
	int r;

	r = sign(i, e, &flags, &reserved);
	if (r < 0)
		return r;
	if (!s->atoms.n && !s->ports.n) {
		x = i->reserved[reserved];
	} else {
		hash = bn_ident_sig_hash(s->atoms.v, s->atoms.n, s->ports.v, s->ports.n);
		x = bn_ident_find(i, s->atoms.v, s->atoms.n, s->ports.v, s->ports.n, hash);
		if (!x) {
			r = ident_make(i, s, hash, &x);
			r = r ?: bn_vec_push(&w->made, x);
			if (r < 0)
				return r;
		}
	}
	if (x->id == old && flags == e->flags && old)
		return 0;
	e->flags = flags;
	x->members++;
	leave(i, old);
	if (!x->id)
		return bn_vec_push(&w->pending, ((struct pending){e, x, old}));
	e->id = x->id;
	return bn_ident_diff_addr(i, e, e->id);
}

static void atoms_are_known(struct bn_idents *i)
{
	for (uint32_t k = 0; k < i->fresh.n; k++)
		if (bn_ident_atom(i, i->fresh.v[k]))
			bn_ident_atom(i, i->fresh.v[k])->fresh = false;
	for (uint32_t k = 0; i->fresh_names && k < i->name_by_id.n; k++)
		if (i->name_by_id.v[k])
			i->name_by_id.v[k]->fresh = false;
	i->fresh.n = 0;
	i->fresh_names = i->all_dirty = false;
}

static int update(struct bn_idents *i, bool forget)
{
	struct round w = {};
	int r;

	i->diff.nadded = i->diff.nremoved = i->diff.naddrs = i->diff.nprefixes = 0;
	r = bn_ident_mark_fresh(i);
	if (!r && forget)
		r = bn_ident_collect(i);
	for (uint32_t k = 0; k < i->dirty.n && !r; k++) {
		struct ent *e = i->dirty.v[k];

		e->dirty = false;
		if (!is_dead(e))
			r = resign(i, &w, e);
		else if (e->exact || forget)
			r = ent_gone(i, e);
	}
	if (!r) {
		i->dirty.n = 0;
		r = bn_ident_number_all(i, &w);
	}
	if (!r && forget)
		r = bn_ident_drop_empty(i);
	if (!r) {
		atoms_are_known(i);
		if (forget)
			i->ndead_prefixes = 0;
	}
	bn_vec_done(&w.pending);
	bn_vec_done(&w.made);
	return r;
}

int bn_idents_update(struct bn_idents *i, const struct bn_ident_diff **ret)
{
	int r = update(i, false);

	if (!r)
		*ret = &i->diff;
	return r;
}

int bn_idents_collect(struct bn_idents *i, const struct bn_ident_diff **ret)
{
	int r = update(i, true);

	if (!r)
		*ret = &i->diff;
	return r;
}

bool bn_idents_dirty(const struct bn_idents *i)
{
	return i->dirty.n || i->fresh.n || i->fresh_names || i->all_dirty;
}

bool bn_idents_garbage(const struct bn_idents *i)
{
	return i->ndead_atoms || i->ndead_names || i->ndead_prefixes || i->some_empty;
}

void bn_idents_release(struct bn_idents *i, uint32_t identity)
{
	if (identity >= BN_ID_FIRST)
		bn_numbers_put(&i->ident_ids, identity);
}

/* --- life ------------------------------------------------------------------------------------- */

static int reserve(struct bn_idents *i)
{
	int r = 0;

	for (uint32_t id = BN_ID_HOST; id <= BN_ID_UNMANAGED && !r; id++) {
		struct ident *x = calloc(1, sizeof(*x));

		if (!x)
			return -ENOMEM;
		x->id = id;
		x->reserved = true;
		i->reserved[id] = x;
		r = bn_ident_by_id_set(i, id, x);
	}
	return r;
}

int bn_idents_new(struct bn_idents **ret)
{
	/* All of IPv4 always has a prefix: else ::/0 would reach IPv4 in the kernel's trie. */
	struct bn_cidr v4 = {.prefix = 96};
	_cleanup_(bn_idents_freep) struct bn_idents *i = calloc(1, sizeof(*i));
	struct ent *e;
	int r;

	if (!i)
		return -ENOMEM;
	bn_addr_v4(&v4.addr, 0);
	i->ident_ids.next = BN_ID_FIRST;
	r = reserve(i);
	r = r ?: bn_ident_prefix_get(i, &v4, &e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(i);
	return 0;
}

void bn_idents_freep(struct bn_idents **ip)
{
	struct bn_idents *i = *ip;

	if (!i)
		return;
	*ip = NULL;
	bn_htab_each(&i->idents, n) bn_ident_free(bn_container(n, struct ident, h));
	for (uint32_t id = 0; id <= BN_ID_UNMANAGED; id++)
		free(i->reserved[id]);
	bn_htab_clear(&i->idents);
	bn_vec_done(&i->by_id);
	bn_vec_done(&i->dirty);
	bn_numbers_done(&i->ident_ids);
	bn_ident_objs_done(i);
	bn_ident_atoms_done(i);
	bn_vec_done(&i->scratch.atoms);
	bn_vec_done(&i->scratch.ports);
	bn_vec_done(&i->ex_scratch);
	free(i->diff.added);
	free(i->diff.removed);
	free(i->diff.addrs);
	free(i->diff.prefixes);
	free(i);
}
