// SPDX-License-Identifier: MIT
/* Signing and numbering: which atoms match an entity, and which number stands for them. */
#include "policy/identity.h"

#include "maps/util.h"
#include "policy/identity_priv.h"

/* An entity on its way to an identity that has no number yet. */
struct pending {
	struct ent *e;
	struct ident *to;
	uint32_t old;
};

/* How many entities want to go from one number to one new identity. */
struct flow {
	struct ident *to;
	uint32_t old, n;
};

struct round {
	BN_VEC(struct pending) pending;
	BN_VEC(struct ident *) made;
};

int bn_ident_mark(struct bn_idents *i, struct ent *e)
{
	int r;

	if (e->dirty)
		return 0;
	r = bn_vec_push(&i->dirty, e);
	e->dirty = !r;
	return r;
}

static struct ident *by_id(const struct bn_idents *i, uint32_t id)
{
	return id < i->by_id.n ? i->by_id.v[id] : NULL;
}

static int by_id_set(struct bn_idents *i, uint32_t id, struct ident *x)
{
	int r = 0;

	while (!r && i->by_id.n <= id)
		r = bn_vec_push(&i->by_id, NULL);
	if (!r)
		i->by_id.v[id] = x;
	return r;
}

static uint64_t sig_hash(const uint32_t *atoms, uint32_t natoms, const struct portval *ports,
			 uint32_t nports)
{
	uint64_t part[2] = { bn_hash(atoms, natoms * sizeof(*atoms)),
			     bn_hash(ports, nports * sizeof(*ports)) };

	return bn_hash(part, sizeof(part));
}

static struct ident *ident_find(const struct bn_idents *i, const uint32_t *atoms, uint32_t natoms,
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

static void ident_free(struct ident *x)
{
	if (!x)
		return;
	free(x->atoms);
	free(x->ports);
	free(x);
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
		ident_free(x);
		return r;
	}
	bn_copy(x->atoms, s->atoms.v, s->atoms.n * sizeof(*x->atoms));
	bn_copy(x->ports, s->ports.v, s->ports.n * sizeof(*x->ports));
	x->natoms = s->atoms.n;
	x->nports = s->ports.n;
	*ret = x;
	return 0;
}

/* --- signing ----------------------------------------------------------------------------------- */

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
		struct portval v = { .port = pp->port };
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
		struct bn_cidr c = { .addr = e->at.addr, .prefix = (uint8_t)len };
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
		*flags = (host ? BN_ADDR_F_HOST : 0) |
			 (e->nodes.n && !host ? BN_ADDR_F_NODE : 0) | (p ? BN_ADDR_F_POD : 0);
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

/* --- the difference ------------------------------------------------------------------------------ */

static int diff_addr(struct bn_idents *i, const struct ent *e, uint32_t id)
{
	struct bn_ident_diff *d = &i->diff;
	int r;

	if (e->exact) {
		r = bn_room_((void **)&d->addrs, d->naddrs, &i->addr_cap, sizeof(*d->addrs));
		if (!r)
			d->addrs[d->naddrs++] = (struct bn_ident_addr){
				.addr = e->at.addr, .identity = id, .flags = e->flags
			};
		return r;
	}
	r = bn_room_((void **)&d->prefixes, d->nprefixes, &i->prefix_cap, sizeof(*d->prefixes));
	if (!r)
		d->prefixes[d->nprefixes++] =
			(struct bn_ident_prefix){ .cidr = e->at, .identity = id };
	return r;
}

static int diff_id(uint32_t **v, size_t *n, uint32_t *cap, uint32_t id)
{
	int r = bn_room_((void **)v, *n, cap, sizeof(**v));

	if (!r)
		(*v)[(*n)++] = id;
	return r;
}

static void leave(struct bn_idents *i, uint32_t id)
{
	struct ident *x = by_id(i, id);

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
	int r = e->id ? diff_addr(i, e, 0) : 0;

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
		hash = sig_hash(s->atoms.v, s->atoms.n, s->ports.v, s->ports.n);
		x = ident_find(i, s->atoms.v, s->atoms.n, s->ports.v, s->ports.n, hash);
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
		return bn_vec_push(&w->pending, ((struct pending){ e, x, old }));
	e->id = x->id;
	return diff_addr(i, e, e->id);
}

/* --- numbers ------------------------------------------------------------------------------------- */

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
	ident_free(x);
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
		const struct ident *old = by_id(i, w->pending.v[k].old);

		if (old && !old->reserved && !old->members)
			r = bn_vec_push(&f, ((struct flow){ w->pending.v[k].to, old->id, 1 }));
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
		struct ident *old = by_id(i, f.v[k].old), *to = f.v[k].to;

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

static int number_all(struct bn_idents *i, struct round *w)
{
	struct bn_ident_diff *d = &i->diff;
	int r;

	r = inherit(i, w);
	for (uint32_t k = 0; k < w->made.n && !r; k++) {
		struct ident *x = w->made.v[k];

		if (x->id)
			continue;
		r = bn_numbers_get(&i->ident_ids, &x->id);
		r = r ?: by_id_set(i, x->id, x);
		r = r ?: link_atoms(i, x);
		r = r ?: diff_id(&d->added, &d->nadded, &i->added_cap, x->id);
	}
	for (uint32_t k = 0; k < w->pending.n && !r; k++) {
		struct pending *p = &w->pending.v[k];
		bool same = p->e->id == p->to->id;

		p->e->id = p->to->id;
		if (!same)
			r = diff_addr(i, p->e, p->e->id);
	}
	return r;
}

/* Identities without members are kept until collect: addresses in the kernel may still say them, and
 * a pod that comes back finds its own.
 */
static int drop_empty(struct bn_idents *i)
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

/* --- forgetting ---------------------------------------------------------------------------------- */

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
	hash = sig_hash(s->atoms.v, s->atoms.n, s->ports.v, s->ports.n);
	other = ident_find(i, s->atoms.v, s->atoms.n, s->ports.v, s->ports.n, hash);
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

static int collect(struct bn_idents *i)
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
		bn_htab_each(&i->ents[t], n) {
			struct ent *e = bn_container(n, struct ent, h);
			struct ident *x = by_id(i, e->id);

			if (!r && x && x->stale)
				r = bn_ident_mark(i, e);
		}
	}
	if (i->ndead_prefixes) {
		bn_htab_each(&i->ents[IDENT_PREFIXES], n) {
			struct ent *e = bn_container(n, struct ent, h);

			if (!r && !e->refs)
				r = bn_ident_mark(i, e);
		}
	}
	return r;
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
		r = collect(i);
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
		r = number_all(i, &w);
	}
	if (!r && forget)
		r = drop_empty(i);
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

/* --- life ---------------------------------------------------------------------------------------- */

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
		r = by_id_set(i, id, x);
	}
	return r;
}

int bn_idents_new(struct bn_idents **ret)
{
	/* All of IPv4 always has a prefix: else ::/0 would reach IPv4 in the kernel's trie. */
	struct bn_cidr v4 = { .prefix = 96 };
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
	bn_htab_each(&i->idents, n)
		ident_free(bn_container(n, struct ident, h));
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
