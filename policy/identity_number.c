// SPDX-License-Identifier: MIT
/* Which number stands for a set of atoms, and forgetting what nobody looks at any more. */
#include "maps/util.h"
#include "policy/identity_priv.h"

/* How many entities want to go from one number to one new identity. */
struct flow {
	struct ident *to;
	uint32_t old, n;
};

int bn_ident_by_id_set(struct bn_idents *i, uint32_t id, struct ident *x)
{
	int r = 0;

	while (!r && i->by_id.n <= id)
		r = bn_vec_push(&i->by_id, NULL);
	if (!r)
		i->by_id.v[id] = x;
	return r;
}

uint64_t bn_ident_sig_hash(const uint32_t *atoms, uint32_t natoms, const struct portval *ports,
			   uint32_t nports)
{
	uint64_t part[2] = {bn_hash(atoms, natoms * sizeof(*atoms)),
			    bn_hash(ports, nports * sizeof(*ports))};

	return bn_hash(part, sizeof(part));
}

struct ident *bn_ident_find(const struct bn_idents *i, const uint32_t *atoms, uint32_t natoms,
			    const struct portval *ports, uint32_t nports, uint64_t hash)
{
	struct bn_hnode *n = bn_htab_first(&i->idents, hash);

	for (; n; n = bn_htab_next(n)) {
		struct ident *x = bn_container(n, struct ident, h);

		if (x->natoms == natoms && x->nports == nports &&
		    bn_same(x->atoms, atoms, natoms * sizeof(*atoms)) &&
		    bn_same(x->ports, ports, nports * sizeof(*ports)))
			return x;
	}
	return NULL;
}

void bn_ident_free(struct ident *x)
{
	if (!x)
		return;
	free(x->atoms);
	free(x->ports);
	free(x);
}

/* --- the difference --------------------------------------------------------------------------- */

int bn_ident_diff_addr(struct bn_idents *i, const struct ent *e, uint32_t id)
{
	struct bn_ident_diff *d = &i->diff;
	int r;

	if (e->exact) {
		r = bn_room_((void **)&d->addrs, d->naddrs, &i->addr_cap, sizeof(*d->addrs));
		if (!r)
			d->addrs[d->naddrs++] = (struct bn_ident_addr){
				.addr = e->at.addr, .identity = id, .flags = e->flags};
		return r;
	}
	r = bn_room_((void **)&d->prefixes, d->nprefixes, &i->prefix_cap, sizeof(*d->prefixes));
	if (!r)
		d->prefixes[d->nprefixes++] =
			(struct bn_ident_prefix){.cidr = e->at, .identity = id};
	return r;
}

static int diff_id(uint32_t **v, size_t *n, uint32_t *cap, uint32_t id)
{
	int r = bn_room_((void **)v, *n, cap, sizeof(**v));

	if (!r)
		(*v)[(*n)++] = id;
	return r;
}

/* --- numbers ---------------------------------------------------------------------------------- */

/* Do two sorted lists of atoms differ only by such as no matrix has seen? */
static bool only_fresh(const struct bn_idents *i, const struct ident *a, const struct ident *b)
{
	uint32_t x = 0, y = 0;

	while (x < a->natoms || y < b->natoms) {
		uint32_t id;

		if (x < a->natoms && y < b->natoms && a->atoms[x] == b->atoms[y]) {
			x++;
			y++;
			continue;
		}
		if (y == b->natoms || (x < a->natoms && a->atoms[x] < b->atoms[y]))
			id = a->atoms[x++];
		else
			id = b->atoms[y++];
		if (!bn_ident_atom(i, id) || !bn_ident_atom(i, id)->fresh)
			return false;
	}
	for (x = y = 0; x < a->nports || y < b->nports;) {
		uint32_t name;

		if (x < a->nports && y < b->nports && a->ports[x].name == b->ports[y].name) {
			if (a->ports[x++].port != b->ports[y++].port)
				return false;
			continue;
		}
		if (y == b->nports || (x < a->nports && a->ports[x].name < b->ports[y].name))
			name = a->ports[x++].name;
		else
			name = b->ports[y++].name;
		if (!i->name_by_id.v[name] || !i->name_by_id.v[name]->fresh)
			return false;
	}
	return true;
}

static void unlink_atoms(struct bn_idents *i, struct ident *x)
{
	for (uint32_t k = 0; k < x->natoms; k++) {
		struct atom *a = bn_ident_atom(i, x->atoms[k]);

		if (a)
			bn_u32s_drop(&a->idents, x->id);
	}
}

static int link_atoms(struct bn_idents *i, struct ident *x)
{
	int r = 0;

	for (uint32_t k = 0; k < x->natoms && !r; k++)
		r = bn_vec_push(&bn_ident_atom(i, x->atoms[k])->idents, x->id);
	return r;
}

static void ident_drop(struct bn_idents *i, struct ident *x)
{
	unlink_atoms(i, x);
	i->by_id.v[x->id] = NULL;
	bn_htab_del(&i->idents, &x->h);
	bn_ident_free(x);
}

static int flow_cmp(const void *a, const void *b)
{
	const struct flow *x = a, *y = b;

	if (x->to != y->to)
		return x->to < y->to ? -1 : 1;
	return (x->old > y->old) - (x->old < y->old);
}

static int flow_by_size(const void *a, const void *b)
{
	const struct flow *x = a, *y = b;

	return x->n != y->n ? (x->n < y->n) - (x->n > y->n) : (x->old > y->old) - (x->old < y->old);
}

/* An identity that all members left, for one that differs from it only in what is new, hands on its
 * number: its members need not be written again. The largest such group goes first.
 */
static int inherit(struct bn_idents *i, struct round *w)
{
	BN_VEC(struct flow) f = {};
	uint32_t n = 0;
	int r = 0;

	for (uint32_t k = 0; k < w->pending.n && !r; k++) {
		const struct ident *old = bn_ident_by_id(i, w->pending.v[k].old);

		if (old && !old->reserved && !old->members)
			r = bn_vec_push(&f, ((struct flow){w->pending.v[k].to, old->id, 1}));
	}
	if (f.n)
		qsort(f.v, f.n, sizeof(*f.v), flow_cmp);
	for (uint32_t k = 0; k < f.n; k++) {
		if (k && f.v[k].to == f.v[n - 1].to && f.v[k].old == f.v[n - 1].old)
			f.v[n - 1].n++;
		else
			f.v[n++] = f.v[k];
	}
	if (n)
		qsort(f.v, n, sizeof(*f.v), flow_by_size);
	for (uint32_t k = 0; k < n && !r; k++) {
		struct ident *old = bn_ident_by_id(i, f.v[k].old), *to = f.v[k].to;

		if (to->id || !old || old->members || !only_fresh(i, old, to))
			continue;
		to->id = old->id;
		ident_drop(i, old);
		i->by_id.v[to->id] = to;
		r = link_atoms(i, to);
	}
	bn_vec_done(&f);
	return r;
}

int bn_ident_number_all(struct bn_idents *i, struct round *w)
{
	struct bn_ident_diff *d = &i->diff;
	int r;

	r = inherit(i, w);
	for (uint32_t k = 0; k < w->made.n && !r; k++) {
		struct ident *x = w->made.v[k];

		if (x->id)
			continue;
		r = bn_numbers_get(&i->ident_ids, &x->id);
		r = r ?: bn_ident_by_id_set(i, x->id, x);
		r = r ?: link_atoms(i, x);
		r = r ?: diff_id(&d->added, &d->nadded, &i->added_cap, x->id);
	}
	for (uint32_t k = 0; k < w->pending.n && !r; k++) {
		struct pending *p = &w->pending.v[k];
		bool same = p->e->id == p->to->id;

		p->e->id = p->to->id;
		if (!same)
			r = bn_ident_diff_addr(i, p->e, p->e->id);
	}
	return r;
}

/* Identities without members are kept until collect: addresses in the kernel may still say them,
 * and a pod that comes back finds its own.
 */
int bn_ident_drop_empty(struct bn_idents *i)
{
	struct bn_ident_diff *d = &i->diff;
	int r = 0;

	for (uint32_t k = BN_ID_FIRST; i->some_empty && k < i->by_id.n && !r; k++) {
		struct ident *x = i->by_id.v[k];

		if (!x || x->members)
			continue;
		r = diff_id(&d->removed, &d->nremoved, &i->removed_cap, k);
		ident_drop(i, x);
	}
	i->some_empty = false;
	return r;
}

/* --- forgetting ------------------------------------------------------------------------------- */

static void sig_prune(struct bn_idents *i, const struct ident *x, struct sig *s)
{
	s->atoms.n = s->ports.n = 0;
	for (uint32_t k = 0; k < x->natoms; k++)
		if (bn_ident_atom(i, x->atoms[k])->refs)
			bn_vec_push(&s->atoms, x->atoms[k]);
	for (uint32_t k = 0; k < x->nports; k++)
		if (i->name_by_id.v[x->ports[k].name]->refs)
			bn_vec_push(&s->ports, x->ports[k]);
}

/* Rids one identity of what is dead. In place, unless another one is the same then, or nothing is
 * left: then its members are to be signed again.
 */
static int prune(struct bn_idents *i, struct ident *x)
{
	struct sig *s = &i->scratch;
	struct ident *other;
	uint64_t hash;

	sig_prune(i, x, s);
	hash = bn_ident_sig_hash(s->atoms.v, s->atoms.n, s->ports.v, s->ports.n);
	other = bn_ident_find(i, s->atoms.v, s->atoms.n, s->ports.v, s->ports.n, hash);
	if (other || (!s->atoms.n && !s->ports.n)) {
		x->stale = true;
		return 1;
	}
	bn_htab_del(&i->idents, &x->h);
	bn_copy(x->atoms, s->atoms.v, s->atoms.n * sizeof(*x->atoms));
	bn_copy(x->ports, s->ports.v, s->ports.n * sizeof(*x->ports));
	x->natoms = s->atoms.n;
	x->nports = s->ports.n;
	return bn_htab_add(&i->idents, &x->h, hash);
}

static bool has_dead(const struct bn_idents *i, const struct ident *x)
{
	for (uint32_t k = 0; k < x->natoms; k++)
		if (!bn_ident_atom(i, x->atoms[k]) || !bn_ident_atom(i, x->atoms[k])->refs)
			return true;
	for (uint32_t k = 0; k < x->nports; k++)
		if (!i->name_by_id.v[x->ports[k].name]->refs)
			return true;
	return false;
}

int bn_ident_collect(struct bn_idents *i)
{
	bool merged = false;
	int r = 0;

	if (i->ndead_atoms || i->ndead_names) {
		for (uint32_t k = BN_ID_FIRST; k < i->by_id.n && r >= 0; k++) {
			if (!i->by_id.v[k] || !has_dead(i, i->by_id.v[k]))
				continue;
			r = prune(i, i->by_id.v[k]);
			merged |= r == 1;
		}
		if (r < 0)
			return r;
		bn_ident_forget_dead(i);
	}
	r = 0;
	for (unsigned t = 0; t < 2 && merged; t++) {
		bn_htab_each(&i->ents[t], n)
		{
			struct ent *e = bn_container(n, struct ent, h);
			struct ident *x = bn_ident_by_id(i, e->id);

			if (!r && x && x->stale)
				r = bn_ident_mark(i, e);
		}
	}
	if (i->ndead_prefixes) {
		bn_htab_each(&i->ents[IDENT_PREFIXES], n)
		{
			struct ent *e = bn_container(n, struct ent, h);

			if (!r && !e->refs)
				r = bn_ident_mark(i, e);
		}
	}
	return r;
}
