// SPDX-License-Identifier: MIT
/* Policies as the compiler keeps them, the numbers of their rules, and sets of HTTP rules. */
#include "maps/util.h"
#include "policy/compile_priv.h"

static uint64_t name_hash(uint64_t kind, const char *ns, const char *name)
{
	uint64_t part[3] = {kind, (uintptr_t)ns, (uintptr_t)name};

	return bn_hash(part, sizeof(part));
}

static struct polrec *rec_find(const struct bn_compiler *c, const struct bn_obj *o)
{
	struct bn_hnode *n = bn_htab_first(&c->policies, name_hash(o->kind, o->ns, o->name));

	for (; n; n = bn_htab_next(n)) {
		const struct bn_obj *x = &bn_container(n, struct polrec, h)->p->o;

		if (x->kind == o->kind && x->ns == o->ns && x->name == o->name)
			return bn_container(n, struct polrec, h);
	}
	return NULL;
}

struct polspace *bn_comp_space(const struct bn_compiler *c, const char *ns)
{
	struct bn_hnode *n = bn_htab_first(&c->spaces, name_hash(0, ns, NULL));

	for (; n; n = bn_htab_next(n))
		if (bn_container(n, struct polspace, h)->ns == ns)
			return bn_container(n, struct polspace, h);
	return NULL;
}

/* --- rule numbers ----------------------------------------------------------------------------- */

int bn_comp_rule_number(struct bn_compiler *c, struct rulenum *n)
{
	uint32_t id;
	int r;

	if (n->id)
		return 0;
	r = bn_numbers_get(&c->rule_ids, &id);
	while (!r && c->rule_by_id.n <= id)
		r = bn_vec_push(&c->rule_by_id, NULL);
	r = r ?: bn_vec_push(&c->new_rules, id);
	if (r < 0)
		return r;
	n->id = id;
	c->rule_by_id.v[id] = n;
	c->stats.rules++;
	return 0;
}

static void rulenum_put(struct bn_compiler *c, struct rulenum *n, const struct polrec *rec)
{
	if (!n)
		return;
	if (n->rec == rec)
		n->rec = NULL;
	if (--n->refs)
		return;
	if (n->id) {
		c->rule_by_id.v[n->id] = NULL;
		bn_numbers_put(&c->rule_ids, n->id);
		c->stats.rules--;
	}
	free(n);
}

size_t bn_compiler_new_rules(struct bn_compiler *c, const uint32_t **ret)
{
	size_t n = c->new_rules.n;

	*ret = c->new_rules.v;
	c->new_rules.n = 0;
	return n;
}

int bn_compiler_rule(const struct bn_compiler *c, uint32_t id, struct bn_rule_ref *ret)
{
	const struct rulenum *n = id && id < c->rule_by_id.n ? c->rule_by_id.v[id] : NULL;

	if (!n || !n->rec)
		return -ENOENT;
	*ret = (struct bn_rule_ref){n->rec->p, n->dir, n->index, n->rec->rules[n->dir][n->index].r};
	return 0;
}

uint32_t bn_compiler_rule_id(const struct bn_compiler *c, const struct bn_netpol *p,
			     enum bn_dir dir, uint32_t index)
{
	const struct polrec *rec = rec_find(c, &p->o);

	return rec && index < rec->nrules[dir] ? rec->rules[dir][index].num->id : 0;
}

/* --- policies --------------------------------------------------------------------------------- */

static void names_each(struct bn_compiler *c, const struct crule *cr, enum bn_dir dir, uint32_t n,
		       bool put)
{
	for (uint32_t k = 0; dir == BN_EGRESS && k < n; k++) {
		const struct bn_policy_port *pp = &cr->r->ports[k];

		if (!pp->name)
			continue;
		if (put)
			bn_idents_name_put(c->ids, pp->name, pp->proto);
	}
}

void bn_comp_rec_unref(struct bn_compiler *c, struct polrec *rec)
{
	if (!rec || --rec->refs)
		return;
	for (enum bn_dir d = 0; d < BN_DIRS; d++) {
		for (uint32_t k = 0; k < rec->nrules[d]; k++) {
			struct crule *cr = &rec->rules[d][k];

			for (uint32_t j = 0; j < cr->atoms.n; j++)
				bn_idents_atom_put(c->ids, cr->atoms.v[j]);
			names_each(c, cr, d, cr->r->nports, true);
			rulenum_put(c, cr->num, rec);
			bn_vec_done(&cr->atoms);
		}
		free(rec->rules[d]);
	}
	bn_obj_unref(&rec->p->o);
	free(rec->limit);
	free(rec);
}

static int rule_init(struct bn_compiler *c, struct polrec *rec, enum bn_dir dir, uint32_t index,
		     const struct bn_rule *r, const struct polrec *before)
{
	struct crule *cr = &rec->rules[dir][index];
	uint32_t atom;
	int ret = 0;

	*cr = (struct crule){.r = r,
			     .rec = rec,
			     .tier = BN_TIER_NETPOL,
			     .action = BN_RULE_ACCEPT,
			     .http = r->has_http,
			     .all = !r->npeers};
	if (before && index < before->nrules[dir]) {
		cr->num = before->rules[dir][index].num;
	} else {
		cr->num = calloc(1, sizeof(*cr->num));
		if (!cr->num)
			return -ENOMEM;
		cr->num->dir = dir;
		cr->num->index = index;
	}
	cr->num->refs++;
	cr->num->rec = rec;
	rec->nrules[dir] = index + 1; /* from here on bn_comp_rec_unref undoes it */
	for (uint32_t k = 0; k < r->npeers && !ret; k++) {
		ret = bn_vec_room(&cr->atoms);
		ret = ret ?: bn_idents_atom_get(c->ids, rec->p->o.ns, &r->peers[k], &atom);
		if (!ret)
			cr->atoms.v[cr->atoms.n++] = atom;
	}
	for (uint32_t k = 0; dir == BN_EGRESS && k < r->nports && !ret; k++)
		if (r->ports[k].name)
			ret = bn_idents_name_get(c->ids, r->ports[k].name, r->ports[k].proto);
	return ret;
}

/* A rule whose peers repeat has the atom once; the references of the others go back. */
static void atoms_dedup(struct bn_compiler *c, struct crule *cr)
{
	uint32_t n = 0;

	if (cr->atoms.n < 2)
		return;
	qsort(cr->atoms.v, cr->atoms.n, sizeof(*cr->atoms.v), bn_u32_cmp);
	for (uint32_t k = 0; k < cr->atoms.n; k++) {
		if (n && cr->atoms.v[k] == cr->atoms.v[n - 1])
			bn_idents_atom_put(c->ids, cr->atoms.v[k]);
		else
			cr->atoms.v[n++] = cr->atoms.v[k];
	}
	cr->atoms.n = n;
}

static int rec_new(struct bn_compiler *c, const struct bn_netpol *p, const struct polrec *before,
		   struct polrec **ret)
{
	const struct bn_rule *rules[BN_DIRS] = {[BN_EGRESS] = p->out, [BN_INGRESS] = p->in};
	uint32_t n[BN_DIRS] = {[BN_EGRESS] = p->negress, [BN_INGRESS] = p->ningress};
	struct polrec *rec = calloc(1, sizeof(*rec));
	int r = 0;

	if (!rec)
		return -ENOMEM;
	rec->refs = 1;
	rec->serial = ++c->serial;
	rec->p = (struct bn_netpol *)bn_obj_ref((struct bn_obj *)p);
	for (enum bn_dir d = 0; d < BN_DIRS && !r; d++) {
		rec->rules[d] = calloc(n[d] + 1, sizeof(*rec->rules[d]));
		if (!rec->rules[d])
			r = -ENOMEM;
		/* A refused policy isolates and allows nothing, whatever else could be read. */
		for (uint32_t k = 0; !p->o.refused && k < n[d] && !r; k++) {
			r = rule_init(c, rec, d, k, &rules[d][k], before);
			if (!r)
				atoms_dedup(c, &rec->rules[d][k]);
		}
	}
	if (r < 0) {
		bn_comp_rec_unref(c, rec);
		return r;
	}
	*ret = rec;
	return 0;
}

static int rec_cmp(const struct polrec *a, const struct polrec *b)
{
	int r = strcmp(a->p->o.name, b->p->o.name);

	return r ?: (int)a->p->o.kind - (int)b->p->o.kind;
}

static int space_insert(struct bn_compiler *c, struct polrec *rec)
{
	struct polspace *s = bn_comp_space(c, rec->p->o.ns);
	uint32_t at;
	int r;

	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return -ENOMEM;
		s->ns = rec->p->o.ns;
		r = bn_htab_add(&c->spaces, &s->h, name_hash(0, s->ns, NULL));
		if (r < 0) {
			free(s);
			return r;
		}
	}
	r = bn_vec_room(&s->recs);
	if (r < 0)
		return r;
	for (at = s->recs.n; at && rec_cmp(s->recs.v[at - 1], rec) > 0; at--)
		s->recs.v[at] = s->recs.v[at - 1];
	s->recs.v[at] = rec;
	s->recs.n++;
	return 0;
}

void bn_comp_rec_remove(struct bn_compiler *c, struct polrec *rec)
{
	struct polspace *s = bn_comp_space(c, rec->p->o.ns);
	uint32_t n = 0;

	for (uint32_t k = 0; k < s->recs.n; k++)
		if (s->recs.v[k] != rec)
			s->recs.v[n++] = s->recs.v[k];
	s->recs.n = n;
	if (!n) {
		bn_htab_del(&c->spaces, &s->h);
		bn_vec_done(&s->recs);
		free(s);
	}
	bn_htab_del(&c->policies, &rec->h);
	c->stats.policies--;
	bn_comp_rec_unref(c, rec);
}

int bn_compiler_policy(struct bn_compiler *c, const struct bn_netpol *old,
		       const struct bn_netpol *new)
{
	struct polrec *before = rec_find(c, old ? &old->o : &new->o), *rec = NULL;
	int r;

	if (new) {
		r = rec_new(c, new, before, &rec);
		r = r
			    ?: bn_htab_add(&c->policies, &rec->h,
					   name_hash(new->o.kind, new->o.ns, new->o.name));
		if (r < 0) {
			bn_comp_rec_unref(c, rec);
			return r;
		}
		r = space_insert(c, rec);
		if (r < 0) {
			bn_htab_del(&c->policies, &rec->h);
			bn_comp_rec_unref(c, rec);
			return r;
		}
		c->stats.policies++;
	}
	if (before)
		bn_comp_rec_remove(c, before);
	return 0;
}

size_t bn_compiler_count(const struct bn_compiler *c, const char *ns)
{
	const struct polspace *s;

	if (!ns)
		return c->policies.n;
	s = bn_comp_space(c, ns);
	return s ? s->recs.n : 0;
}

int bn_compiler_each(const struct bn_compiler *c, int (*fn)(const struct bn_netpol *p, void *data),
		     void *data)
{
	int r = 0;

	bn_htab_each(&c->policies, n) r = r ?: fn(bn_container(n, struct polrec, h)->p, data);
	return r;
}

int bn_compiler_each_in(const struct bn_compiler *c, const char *ns,
			int (*fn)(const struct bn_netpol *p, void *data), void *data)
{
	const struct polspace *s = bn_comp_space(c, ns);
	int r = 0;

	for (uint32_t k = 0; s && k < s->recs.n && !r; k++)
		r = fn(s->recs.v[k]->p, data);
	return r;
}

const char *bn_compiler_refused(const struct bn_compiler *c, const struct bn_netpol *p)
{
	const struct polrec *rec = rec_find(c, &p->o);

	return rec ? rec->limit : NULL;
}

uint64_t bn_compiler_refusals(const struct bn_compiler *c)
{
	return c->refusals;
}

/* --- HTTP rule sets --------------------------------------------------------------------------- */

static struct httpset *httpset_new(const struct crule *const *rules, uint32_t n)
{
	struct httpset *s = calloc(1, sizeof(*s) + n * (sizeof(*s->serials) + sizeof(*s->rules)));

	if (!s)
		return NULL;
	s->n = n;
	s->refs = 1;
	s->rules = (uint32_t *)(s->serials + n);
	for (uint32_t k = 0; k < n; k++) {
		s->rules[k] = rules[k]->num->id;
		s->serials[k] = rules[k]->rec->serial;
	}
	return s;
}

static int httpset_id(struct bn_compiler *c, const struct crule *const *rules, struct httpset *s)
{
	_cleanup_(freep) struct bn_rule_ref *refs = NULL;

	if (!c->http.get)
		return bn_numbers_get(&c->http_ids, &s->id);
	refs = calloc(s->n, sizeof(*refs));
	if (!refs)
		return -ENOMEM;
	for (uint32_t k = 0; k < s->n; k++)
		refs[k] = (struct bn_rule_ref){rules[k]->rec->p, rules[k]->num->dir,
					       rules[k]->num->index, rules[k]->r};
	return c->http.get(c->http.data, refs, s->rules, s->n, &s->id);
}

int bn_comp_http_set(struct bn_compiler *c, const struct crule *const *rules, uint32_t n,
		     struct httpset **ret)
{
	_cleanup_(freep) struct httpset *s = httpset_new(rules, n);
	size_t len = n * (sizeof(*s->serials) + sizeof(*s->rules));
	uint64_t hash;
	int r;

	if (!s)
		return -ENOMEM;
	hash = bn_hash(s->serials, len);
	for (struct bn_hnode *h = bn_htab_first(&c->httpsets, hash); h; h = bn_htab_next(h)) {
		struct httpset *x = bn_container(h, struct httpset, h);

		if (x->n == n && !memcmp(x->serials, s->serials, len)) {
			x->refs++;
			*ret = x;
			return 0;
		}
	}
	r = httpset_id(c, rules, s);
	if (r < 0)
		return r;
	r = bn_htab_add(&c->httpsets, &s->h, hash);
	if (r < 0) {
		if (c->http.put)
			c->http.put(c->http.data, s->id);
		return r;
	}
	*ret = TAKE_PTR(s);
	return 0;
}

void bn_comp_http_put(struct bn_compiler *c, struct httpset *s)
{
	if (--s->refs)
		return;
	if (c->http.put)
		c->http.put(c->http.data, s->id);
	else
		bn_numbers_put(&c->http_ids, s->id);
	bn_htab_del(&c->httpsets, &s->h);
	free(s);
}

size_t bn_compiler_http_rules(const struct bn_compiler *c, uint32_t set, const uint32_t **ret)
{
	bn_htab_each(&c->httpsets, n)
	{
		const struct httpset *s = bn_container(n, struct httpset, h);

		if (s->id == set) {
			*ret = s->rules;
			return s->n;
		}
	}
	return 0;
}
