// SPDX-License-Identifier: MIT
/* Objects and the addresses they claim. */
#include "maps/util.h"
#include "policy/identity_priv.h"
#include "policy/intern.h"

static uint64_t name_hash(const char *ns, const char *name)
{
	uint64_t part[2] = {(uintptr_t)ns, (uintptr_t)name};

	return bn_hash(part, sizeof(part));
}

struct nspace *bn_ident_nspace_find(const struct bn_idents *i, const char *name)
{
	struct bn_hnode *n = bn_htab_first(&i->namespaces, name_hash(name, NULL));

	for (; n; n = bn_htab_next(n))
		if (bn_container(n, struct nspace, h)->name == name)
			return bn_container(n, struct nspace, h);
	return NULL;
}

/* A namespace whose object is not there has the one label that all have. */
const struct bn_labels *bn_ident_ns_labels(const struct nspace *ns, struct bn_labels *tmp,
					   struct bn_label *one)
{
	static const char *key;

	if (ns->obj)
		return &ns->obj->o.labels;
	/* The table of strings may be reset between two tests: never keep the pointer. */
	key = bn_intern("kubernetes.io/metadata.name");
	*one = (struct bn_label){.key = key, .val = ns->name};
	*tmp = (struct bn_labels){.n = key ? 1 : 0, .v = one};
	return tmp;
}

static void nspace_free(struct nspace *ns)
{
	if (ns->obj)
		bn_obj_unref(&ns->obj->o);
	bn_vec_done(&ns->atoms);
	bn_vec_done(&ns->pods);
	bn_intern_unref(ns->name);
	free(ns);
}

void bn_ident_nspace_settle(struct bn_idents *i, struct nspace *ns)
{
	if (ns->obj || ns->pods.n)
		return;
	for (uint32_t k = 0; k < ns->atoms.n; k++)
		if (bn_ident_atom(i, ns->atoms.v[k])->ns)
			return;
	bn_htab_del(&i->namespaces, &ns->h);
	nspace_free(ns);
}

int bn_ident_nspace(struct bn_idents *i, const char *name, struct nspace **ret)
{
	struct nspace *ns = bn_ident_nspace_find(i, name);
	int r = 0;

	if (!ns) {
		ns = calloc(1, sizeof(*ns));
		if (!ns)
			return -ENOMEM;
		ns->name = bn_intern_ref(name);
		r = bn_htab_add(&i->namespaces, &ns->h, name_hash(name, NULL));
		if (r < 0) {
			nspace_free(ns);
			return r;
		}
		for (uint32_t k = 0; !r && k < i->wide.n; k++)
			if (bn_ident_scope(bn_ident_atom(i, i->wide.v[k]), ns))
				r = bn_u32s_insert(&ns->atoms, i->wide.v[k]);
	}
	*ret = ns;
	return r;
}

struct ent *bn_ident_addr(const struct bn_idents *i, const struct bn_addr *a)
{
	struct bn_hnode *n = bn_htab_first(&i->ents[IDENT_ADDRS], bn_ident_cidr_hash(a, 128));

	for (; n; n = bn_htab_next(n))
		if (bn_addr_eq(&bn_container(n, struct ent, h)->at.addr, a))
			return bn_container(n, struct ent, h);
	return NULL;
}

/* The entity of an address, made when there is none, and marked: somebody's claim changes. */
static int addr_get(struct bn_idents *i, const struct bn_addr *a, struct ent **ret)
{
	struct ent *e = bn_ident_addr(i, a);
	int r;

	if (!e) {
		e = calloc(1, sizeof(*e));
		if (!e)
			return -ENOMEM;
		e->exact = true;
		e->at.addr = *a;
		e->at.prefix = 128;
		r = bn_htab_add(&i->ents[IDENT_ADDRS], &e->h, bn_ident_cidr_hash(a, 128));
		if (r < 0) {
			free(e);
			return r;
		}
	}
	*ret = e;
	return bn_ident_mark(i, e);
}

/* --- pods ------------------------------------------------------------------------------------- */

static bool owns_addrs(const struct bn_pod *p)
{
	return p && !p->host_network && !p->finished;
}

static struct podrec *pod_find(const struct bn_idents *i, const char *ns, const char *name)
{
	struct bn_hnode *n = bn_htab_first(&i->pods, name_hash(ns, name));

	for (; n; n = bn_htab_next(n)) {
		struct podrec *p = bn_container(n, struct podrec, h);

		if (p->pod->o.ns == ns && p->pod->o.name == name)
			return p;
	}
	return NULL;
}

static int pod_unclaim(struct bn_idents *i, struct podrec *p)
{
	int r = 0;

	for (uint32_t k = 0; k < p->pod->nips; k++) {
		struct ent *e = bn_ident_addr(i, &p->pod->ips[k]);

		for (uint32_t j = 0; e && j < e->pods.n; j++)
			if (e->pods.v[j] == p)
				e->pods.v[j--] = e->pods.v[--e->pods.n];
		if (e)
			r = r ?: bn_ident_mark(i, e);
	}
	return r;
}

static int pod_claim(struct bn_idents *i, struct podrec *p)
{
	int r = 0;

	for (uint32_t k = 0; k < p->pod->nips && !r; k++) {
		struct ent *e;
		bool twice = false;

		for (uint32_t j = 0; j < k; j++)
			twice |= bn_addr_eq(&p->pod->ips[j], &p->pod->ips[k]);
		if (twice)
			continue;
		r = addr_get(i, &p->pod->ips[k], &e);
		r = r ?: bn_vec_push(&e->pods, p);
	}
	return r;
}

static int pod_add(struct bn_idents *i, const struct bn_pod *new)
{
	struct podrec *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	r = bn_ident_nspace(i, new->o.ns, &p->ns);
	r = r ?: bn_vec_room(&p->ns->pods);
	r = r ?: bn_htab_add(&i->pods, &p->h, name_hash(new->o.ns, new->o.name));
	if (r < 0) {
		free(p);
		return r;
	}
	p->pos = p->ns->pods.n;
	p->ns->pods.v[p->ns->pods.n++] = p;
	p->pod = (struct bn_pod *)bn_obj_ref((struct bn_obj *)new);
	return pod_claim(i, p);
}

static void pod_drop(struct bn_idents *i, struct podrec *p)
{
	struct podrec *last = p->ns->pods.v[--p->ns->pods.n];

	p->ns->pods.v[p->pos] = last;
	last->pos = p->pos;
	bn_htab_del(&i->pods, &p->h);
	bn_ident_nspace_settle(i, p->ns);
	bn_obj_unref(&p->pod->o);
	free(p);
}

int bn_idents_pod(struct bn_idents *i, const struct bn_pod *old, const struct bn_pod *new)
{
	const struct bn_obj *o = old ? &old->o : &new->o;
	struct podrec *p = pod_find(i, o->ns, o->name);
	int r;

	if (!p)
		return owns_addrs(new) ? pod_add(i, new) : 0;
	r = pod_unclaim(i, p);
	if (!owns_addrs(new)) {
		pod_drop(i, p);
		return r;
	}
	bn_obj_unref(&p->pod->o);
	p->pod = (struct bn_pod *)bn_obj_ref((struct bn_obj *)new);
	return r ?: pod_claim(i, p);
}

/* Numbers as the API server counts them; anything else by length, then as text. */
static int version_cmp(const char *a, const char *b)
{
	size_t x, y;

	a = a ?: "";
	b = b ?: "";
	x = strlen(a);
	y = strlen(b);
	return x != y ? (x > y) - (x < y) : strcmp(a, b);
}

const struct podrec *bn_ident_winner(const struct ent *e)
{
	const struct podrec *best = NULL;

	for (uint32_t k = 0; k < e->pods.n; k++) {
		const struct podrec *p = e->pods.v[k];
		int r = 0;

		if (best) {
			r = (int)best->pod->deleting - (int)p->pod->deleting;
			r = r
				    ?: version_cmp(p->pod->o.resource_version,
						   best->pod->o.resource_version);
			r = r ?: -strcmp(p->pod->o.ns, best->pod->o.ns);
			r = r ?: -strcmp(p->pod->o.name, best->pod->o.name);
		}
		if (!best || r > 0)
			best = p;
	}
	return best;
}

/* --- namespaces ------------------------------------------------------------------------------- */

int bn_idents_namespace(struct bn_idents *i, const struct bn_namespace *old,
			const struct bn_namespace *new)
{
	const char *name = old ? old->o.name : new->o.name;
	bool changed = false;
	struct nspace *ns;
	int r;

	r = bn_ident_nspace(i, name, &ns);
	if (r < 0)
		return r;
	if (ns->obj)
		bn_obj_unref(&ns->obj->o);
	ns->obj = new ? (struct bn_namespace *)bn_obj_ref((struct bn_obj *)new) : NULL;
	for (uint32_t k = 0; k < i->wide.n && !r; k++) {
		uint32_t id = i->wide.v[k];
		bool had = bn_u32_find(ns->atoms.v, ns->atoms.n, id) >= 0;
		bool has = bn_ident_scope(bn_ident_atom(i, id), ns);

		if (had == has)
			continue;
		changed = true;
		if (has)
			r = bn_u32s_insert(&ns->atoms, id);
		else
			bn_u32s_remove(&ns->atoms, id);
	}
	for (uint32_t p = 0; changed && p < ns->pods.n; p++) {
		const struct bn_pod *pod = ns->pods.v[p]->pod;

		for (uint32_t k = 0; !r && k < pod->nips; k++) {
			struct ent *e = bn_ident_addr(i, &pod->ips[k]);

			if (e)
				r = bn_ident_mark(i, e);
		}
	}
	bn_ident_nspace_settle(i, ns);
	return r;
}

/* --- nodes, this host ------------------------------------------------------------------------- */

static struct noderec *node_find(const struct bn_idents *i, const char *name)
{
	struct bn_hnode *n = bn_htab_first(&i->nodes, name_hash("", name));

	for (; n; n = bn_htab_next(n))
		if (bn_container(n, struct noderec, h)->node->o.name == name)
			return bn_container(n, struct noderec, h);
	return NULL;
}

static int node_unclaim(struct bn_idents *i, struct noderec *rec)
{
	int r = 0;

	for (uint32_t k = 0; k < rec->node->nips; k++) {
		struct ent *e = bn_ident_addr(i, &rec->node->ips[k]);

		for (uint32_t j = 0; e && j < e->nodes.n; j++)
			if (e->nodes.v[j] == rec)
				e->nodes.v[j--] = e->nodes.v[--e->nodes.n];
		if (e)
			r = r ?: bn_ident_mark(i, e);
	}
	return r;
}

static int node_claim(struct bn_idents *i, struct noderec *rec)
{
	int r = 0;

	for (uint32_t k = 0; k < rec->node->nips && !r; k++) {
		struct ent *e;

		r = addr_get(i, &rec->node->ips[k], &e);
		r = r ?: bn_vec_push(&e->nodes, rec);
	}
	return r;
}

int bn_idents_node(struct bn_idents *i, const struct bn_node *old, const struct bn_node *new)
{
	const char *name = old ? old->o.name : new->o.name;
	struct noderec *rec = node_find(i, name);
	int r = 0;

	if (rec)
		r = node_unclaim(i, rec);
	if (!new) {
		if (rec) {
			bn_htab_del(&i->nodes, &rec->h);
			bn_obj_unref(&rec->node->o);
			free(rec);
		}
		return r;
	}
	if (!rec) {
		rec = calloc(1, sizeof(*rec));
		if (!rec)
			return -ENOMEM;
		r = bn_htab_add(&i->nodes, &rec->h, name_hash("", name));
		if (r < 0) {
			free(rec);
			return r;
		}
	} else {
		bn_obj_unref(&rec->node->o);
	}
	rec->node = (struct bn_node *)bn_obj_ref((struct bn_obj *)new);
	return r ?: node_claim(i, rec);
}

int bn_idents_set_node_name(struct bn_idents *i, const char *name)
{
	bn_intern_unref(i->node_name);
	i->node_name = bn_intern_ref(bn_intern(name));
	i->all_dirty = true;
	return name && !i->node_name ? -ENOMEM : 0;
}

int bn_idents_host(struct bn_idents *i, const struct bn_addr *addrs, size_t n)
{
	struct ent *e;
	int r = 0;

	for (uint32_t k = 0; k < i->host.n; k++) {
		e = bn_ident_addr(i, &i->host.v[k]);
		if (!e)
			continue;
		e->host = false;
		r = r ?: bn_ident_mark(i, e);
	}
	i->host.n = 0;
	for (size_t k = 0; k < n && !r; k++) {
		r = addr_get(i, &addrs[k], &e);
		r = r ?: bn_vec_push(&i->host, addrs[k]);
		if (!r)
			e->host = true;
	}
	return r;
}

/* --- adoption --------------------------------------------------------------------------------- */

int bn_idents_adopt_addr(struct bn_idents *i, const struct bn_addr *a, uint32_t old)
{
	struct was *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->addr = *a;
	w->old = old;
	r = bn_htab_add(&i->was, &w->h, bn_ident_cidr_hash(a, 128));
	if (r < 0)
		free(w);
	i->adopting = i->all_dirty = true;
	return r;
}

int bn_idents_adopt_prefix(struct bn_idents *i, const struct bn_cidr *c, uint32_t old)
{
	struct ent *e;
	int r;

	r = bn_vec_room(&i->adopted);
	r = r ?: bn_ident_prefix_get(i, c, &e);
	if (r < 0)
		return r;
	i->adopted.v[i->adopted.n++] = *c;
	e->has_was = true;
	e->was = old;
	i->adopting = i->all_dirty = true;
	return 0;
}

void bn_idents_adopt_first(struct bn_idents *i, uint32_t first)
{
	if (i->ident_ids.next < first)
		i->ident_ids.next = first;
}

void bn_ident_objs_done(struct bn_idents *i)
{
	bn_htab_each(&i->ents[IDENT_ADDRS], n)
	{
		struct ent *e = bn_container(n, struct ent, h);

		bn_vec_done(&e->pods);
		bn_vec_done(&e->nodes);
		free(e);
	}
	bn_htab_each(&i->ents[IDENT_PREFIXES], n)
	{
		struct ent *e = bn_container(n, struct ent, h);

		bn_vec_done(&e->in);
		bn_vec_done(&e->ex);
		free(e);
	}
	bn_htab_each(&i->pods, n)
	{
		struct podrec *p = bn_container(n, struct podrec, h);

		bn_obj_unref(&p->pod->o);
		free(p);
	}
	bn_htab_each(&i->nodes, n)
	{
		struct noderec *rec = bn_container(n, struct noderec, h);

		bn_obj_unref(&rec->node->o);
		free(rec);
	}
	bn_htab_each(&i->namespaces, n)
	{
		nspace_free(bn_container(n, struct nspace, h));
	}
	bn_htab_each(&i->was, n) free(bn_container(n, struct was, h));
	bn_htab_clear(&i->ents[0]);
	bn_htab_clear(&i->ents[1]);
	bn_htab_clear(&i->pods);
	bn_htab_clear(&i->nodes);
	bn_htab_clear(&i->namespaces);
	bn_htab_clear(&i->was);
	bn_vec_done(&i->host);
	bn_intern_unref(i->node_name);
}
