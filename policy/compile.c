// SPDX-License-Identifier: MIT
/* Which policies select a pod, and the matrices by what they are made from. */
#include "policy/compile.h"

#include <stdio.h>

#include "maps/util.h"
#include "policy/compile_priv.h"

/* --- selection -------------------------------------------------------------------------------- */

static bool selects(const struct bn_netpol *p, const struct bn_pod *pod, enum bn_dir dir)
{
	bool in_dir = dir == BN_INGRESS ? p->ingress : p->egress;

	/* A stub that does not say a direction isolates both. */
	if (p->o.refused && !p->ingress && !p->egress)
		in_dir = true;
	return in_dir && bn_selector_match(&p->pods, &pod->o.labels);
}

typedef BN_VEC(struct polrec *) recs;

static int select_recs(const struct bn_compiler *c, const struct bn_pod *pod, enum bn_dir dir,
		       recs *ret)
{
	const struct polspace *s = bn_comp_space(c, pod->o.ns);
	int r = 0;

	if (!s || pod->host_network || pod->finished)
		return 0;
	for (uint32_t k = 0; k < s->recs.n && !r; k++)
		if (selects(s->recs.v[k]->p, pod, dir))
			r = bn_vec_push(ret, s->recs.v[k]);
	return r;
}

size_t bn_compiler_selecting(const struct bn_compiler *c, const struct bn_pod *pod, enum bn_dir dir,
			     const struct bn_netpol **ret, size_t max)
{
	recs v = {};
	size_t n;

	select_recs(c, pod, dir, &v);
	n = v.n;
	for (size_t k = 0; k < n && k < max; k++)
		ret[k] = v.v[k]->p;
	bn_vec_done(&v);
	return n;
}

/* --- matrices by key -------------------------------------------------------------------------- */

typedef BN_VEC(unsigned char) bytes;

static int key_add(bytes *k, const void *data, size_t len)
{
	int r = 0;

	for (size_t i = 0; i < len && !r; i++)
		r = bn_vec_push(k, ((const unsigned char *)data)[i]);
	return r;
}

/* What a matrix depends on: direction, versions of the policies, and for ingress what the pod
 * calls the ports that they name.
 */
static int make_key(const recs *v, const struct bn_pod *pod, enum bn_dir dir, bytes *k)
{
	int r = key_add(k, &dir, sizeof(dir));

	for (uint32_t i = 0; i < v->n && !r; i++) {
		const struct polrec *rec = v->v[i];

		r = key_add(k, &rec->serial, sizeof(rec->serial));
		for (uint32_t j = 0; dir == BN_INGRESS && j < rec->nrules[dir] && !r; j++) {
			const struct bn_rule *rule = rec->rules[dir][j].r;

			for (uint32_t p = 0; p < rule->nports && !r; p++) {
				uint32_t val = UINT32_MAX;
				uint16_t port;

				if (!rule->ports[p].name)
					continue;
				if (bn_pod_named_port(pod, rule->ports[p].name,
						      rule->ports[p].proto, &port))
					val = port;
				r = key_add(k, &val, sizeof(val));
			}
		}
	}
	return r;
}

static struct bn_matrix *matrix_find(const struct bn_compiler *c, const bytes *k)
{
	struct bn_hnode *n = bn_htab_first(&c->matrices, bn_hash(k->v, k->n));

	for (; n; n = bn_htab_next(n)) {
		struct bn_matrix *m = bn_container(n, struct bn_matrix, h);

		if (!m->stale && m->keylen == k->n && !memcmp(m->key, k->v, k->n))
			return m;
	}
	return NULL;
}

static int list_add(struct matrices *l, struct bn_matrix *m)
{
	return bn_vec_push(&l->m, m);
}

static void list_del(struct matrices *l, const struct bn_matrix *m)
{
	for (uint32_t k = 0; k < l->m.n; k++) {
		if (l->m.v[k] == m) {
			l->m.v[k] = l->m.v[--l->m.n];
			return;
		}
	}
}

static bool names_for_all(const struct bn_matrix *m)
{
	for (uint32_t k = 0; k < m->nrules; k++)
		if (m->rules[k].c->all && m->rules[k].nnamed)
			return true;
	return false;
}

static int matrix_link(struct bn_compiler *c, struct bn_matrix *m)
{
	int r = bn_htab_add(&c->matrices, &m->h, bn_hash(m->key, m->keylen));

	if (r < 0)
		return r;
	m->linked = true;
	c->stats.matrices++;
	c->stats.rows += m->nrows;
	c->stats.cells += (size_t)m->nrows * m->nclasses;
	c->stats.peers += m->peers.n;
	c->stats.classes += m->nclasses;
	for (uint32_t k = 0; k < m->natom_rules && !r; k++) {
		uint32_t atom = m->atom_rules[k].atom;

		if (k && m->atom_rules[k - 1].atom == atom)
			continue;
		while (!r && c->by_atom.n <= atom)
			r = bn_vec_push(&c->by_atom, (struct matrices){});
		r = r ?: list_add(&c->by_atom.v[atom], m);
	}
	if (!r && names_for_all(m))
		r = list_add(&c->named_all, m);
	return r;
}

static void matrix_unlink(struct bn_compiler *c, struct bn_matrix *m)
{
	bn_htab_del(&c->matrices, &m->h);
	c->stats.matrices--;
	c->stats.rows -= m->nrows;
	c->stats.cells -= (size_t)m->nrows * m->nclasses;
	c->stats.peers -= m->peers.n;
	c->stats.classes -= m->nclasses;
	for (uint32_t k = 0; k < m->natom_rules; k++)
		if (m->atom_rules[k].atom < c->by_atom.n &&
		    (!k || m->atom_rules[k - 1].atom != m->atom_rules[k].atom))
			list_del(&c->by_atom.v[m->atom_rules[k].atom], m);
	list_del(&c->named_all, m);
}

struct bn_matrix *bn_matrix_ref(struct bn_matrix *m)
{
	m->refs++;
	return m;
}

void bn_matrix_unref(struct bn_matrix *m)
{
	struct bn_compiler *c;

	if (!m || --m->refs)
		return;
	c = m->c;
	if (m->user_gone)
		m->user_gone(m->user);
	if (m->linked)
		matrix_unlink(c, m);
	for (uint32_t k = 0; k < m->nrecs; k++)
		bn_comp_rec_unref(c, m->recs[k]);
	bn_matrix_parts_done(m);
	free(m);
}

void bn_matrix_unrefp(struct bn_matrix **m)
{
	bn_matrix_unref(*m);
	*m = NULL;
}

static int matrix_make(struct bn_compiler *c, const recs *v, const bytes *k,
		       const struct bn_pod *pod, enum bn_dir dir, char *what,
		       struct bn_matrix **ret)
{
	_cleanup_(bn_matrix_unrefp) struct bn_matrix *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->refs = 1;
	m->c = c;
	m->dir = dir;
	m->key = malloc(k->n);
	m->recs = calloc(v->n, sizeof(*m->recs));
	m->policies = calloc(v->n, sizeof(*m->policies));
	if (!m->key || !m->recs || !m->policies)
		return -ENOMEM;
	memcpy(m->key, k->v, k->n);
	m->keylen = k->n;
	for (uint32_t i = 0; i < v->n; i++) {
		m->recs[i] = v->v[i];
		m->policies[i] = v->v[i]->p;
		v->v[i]->refs++;
	}
	m->nrecs = v->n;
	r = bn_matrix_build(m, pod, what);
	r = r ?: matrix_link(c, m);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

/* --- limits ----------------------------------------------------------------------------------- */

static uint64_t weight(const struct polrec *rec, enum bn_dir dir, char what)
{
	uint64_t w = 0;

	for (uint32_t k = 0; k < rec->nrules[dir]; k++) {
		const struct crule *cr = &rec->rules[dir][k];

		w += what == 'c' ? cr->r->nports : what == 'n' ? 1 : cr->atoms.n;
	}
	return w;
}

/* The largest policy of the set is refused: it still isolates, its rules allow nothing. */
static int refuse(struct bn_compiler *c, const recs *v, enum bn_dir dir, char what)
{
	static const struct {
		char what;
		const char *text;
	} texts[] = {
		{'c', "more classes of ports than"},
		{'r', "more distinct sets of peers than"},
		{'s', "more cells than"},
		{'p', "more identities among its peers than"},
		{'n', "more rules in use than"},
	};
	const uint32_t limits[] = {c->lim.classes, c->lim.rows, c->lim.cells, c->lim.peers,
				   c->lim.rules};
	struct polrec *worst = NULL;

	for (uint32_t k = 0; k < v->n; k++)
		if (!v->v[k]->limit &&
		    (!worst || weight(v->v[k], dir, what) > weight(worst, dir, what)))
			worst = v->v[k];
	if (!worst || !weight(worst, dir, what))
		return -E2BIG;
	for (uint32_t k = 0; k < ARRAY_SIZE(texts); k++)
		if (texts[k].what == what)
			snprintf(c->error, sizeof(c->error),
				 "%s %s/%s: its %s rules need %s the limit of %u; it isolates the "
				 "pods "
				 "that it selects and allows nothing: use fewer ports or peers",
				 bn_kind_name(worst->p->o.kind), worst->p->o.ns, worst->p->o.name,
				 dir == BN_INGRESS ? "ingress" : "egress", texts[k].text,
				 limits[k]);
	worst->limit = strdup(c->error);
	if (!worst->limit)
		return -ENOMEM;
	worst->serial = ++c->serial; /* pods that have it must ask again */
	c->refusals++;
	return 0;
}

const char *bn_compiler_error(const struct bn_compiler *c)
{
	return c->error;
}

int bn_compiler_get(struct bn_compiler *c, const struct bn_pod *pod, enum bn_dir dir,
		    struct bn_matrix **ret)
{
	struct bn_matrix *m = NULL;
	bytes k = {};
	recs v = {};
	int r;

	r = select_recs(c, pod, dir, &v);
	while (!r && v.n) {
		char what = 0;

		k.n = 0;
		r = make_key(&v, pod, dir, &k);
		if (r < 0)
			break;
		m = matrix_find(c, &k);
		if (m) {
			bn_matrix_ref(m);
			break;
		}
		r = matrix_make(c, &v, &k, pod, dir, &what, &m);
		if (r != -E2BIG)
			break;
		r = refuse(c, &v, dir, what);
	}
	bn_vec_done(&k);
	bn_vec_done(&v);
	if (!r)
		*ret = m;
	return r;
}

/* --- identities come and go ------------------------------------------------------------------- */

static int extend_list(struct bn_compiler *c, struct matrices *l, uint32_t identity,
		       bn_matrix_fn fn, void *data)
{
	for (uint32_t k = 0; k < l->m.n; k++) {
		struct bn_matrix *m = l->m.v[k];
		uint32_t row;
		bool new_row;
		int r;

		if (m->visit == c->visit)
			continue;
		m->visit = c->visit;
		r = bn_matrix_extend(m, identity, &row, &new_row);
		if (r == -ENOSPC) {
			m->stale = true;
			continue;
		}
		if (r > 0)
			r = fn ? fn(m, identity, row, new_row, data) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int bn_compiler_identity_added(struct bn_compiler *c, uint32_t identity, bn_matrix_fn fn,
			       void *data)
{
	const uint32_t *atoms;
	size_t n = bn_idents_atoms(c->ids, identity, &atoms);
	int r = 0;

	c->visit++;
	for (size_t k = 0; k < n && !r; k++)
		if (atoms[k] < c->by_atom.n)
			r = extend_list(c, &c->by_atom.v[atoms[k]], identity, fn, data);
	if (!r && bn_idents_nports(c->ids, identity))
		r = extend_list(c, &c->named_all, identity, fn, data);
	return r;
}

int bn_compiler_identity_gone(struct bn_compiler *c, uint32_t identity, bn_matrix_fn fn, void *data)
{
	int r = 0;

	bn_htab_each(&c->matrices, n)
	{
		struct bn_matrix *m = bn_container(n, struct bn_matrix, h);
		uint32_t row;

		if (!r && bn_matrix_forget(m, identity, &row) && fn)
			r = fn(m, identity, row, false, data);
	}
	return r;
}

/* --- life ------------------------------------------------------------------------------------- */

int bn_compiler_new(struct bn_idents *ids, const struct bn_compile_limits *limits,
		    const struct bn_http_sets *http, struct bn_compiler **ret)
{
	struct bn_compiler *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->ids = ids;
	if (limits)
		c->lim = *limits;
	if (http)
		c->http = *http;
	c->lim.classes = c->lim.classes ?: BN_POL_MAX_CLASSES;
	c->lim.rows = c->lim.rows ?: 32768;
	c->lim.cells = c->lim.cells ?: 131072;
	c->lim.rules = c->lim.rules ?: 65536;
	c->lim.peers = c->lim.peers ?: 262144;
	c->rule_ids.next = c->http_ids.next = 1;
	c->rule_ids.limit = c->lim.rules;
	*ret = c;
	return 0;
}

void bn_compiler_freep(struct bn_compiler **cp)
{
	struct bn_compiler *c = *cp;

	if (!c)
		return;
	*cp = NULL;
	bn_htab_each(&c->policies, n) bn_comp_rec_remove(c, bn_container(n, struct polrec, h));
	for (uint32_t k = 0; k < c->by_atom.n; k++)
		bn_vec_done(&c->by_atom.v[k].m);
	bn_vec_done(&c->by_atom);
	bn_vec_done(&c->named_all.m);
	bn_vec_done(&c->rule_by_id);
	bn_vec_done(&c->new_rules);
	bn_numbers_done(&c->rule_ids);
	bn_numbers_done(&c->http_ids);
	bn_htab_clear(&c->policies);
	bn_htab_clear(&c->spaces);
	bn_htab_clear(&c->matrices);
	bn_htab_clear(&c->httpsets);
	free(c);
}

void bn_compiler_stats(const struct bn_compiler *c, struct bn_compile_stats *ret)
{
	*ret = c->stats;
}
