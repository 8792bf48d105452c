// SPDX-License-Identifier: MIT
/* One matrix: rules in order, a row for each set of rules that a peer can match. */
#include "maps/util.h"
#include "policy/compile_priv.h"

/* --- identity -> row -------------------------------------------------------------------------- */

static uint32_t idmap_at(const struct idmap *t, uint32_t id)
{
	uint32_t at = id * 2654435761u & (t->size - 1);

	while (t->k[at] && t->k[at] != id)
		at = (at + 1) & (t->size - 1);
	return at;
}

static bool idmap_get(const struct idmap *t, uint32_t id, uint32_t *ret)
{
	uint32_t at;

	if (!t->size)
		return false;
	at = idmap_at(t, id);
	*ret = t->v[at];
	return t->k[at];
}

static int idmap_grow(struct idmap *t)
{
	struct idmap big = {.size = t->size ? t->size * 2 : 16, .n = t->n};

	big.k = calloc(big.size, sizeof(*big.k));
	big.v = calloc(big.size, sizeof(*big.v));
	if (!big.k || !big.v) {
		free(big.k);
		free(big.v);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < t->size; i++) {
		uint32_t at;

		if (!t->k[i])
			continue;
		at = idmap_at(&big, t->k[i]);
		big.k[at] = t->k[i];
		big.v[at] = t->v[i];
	}
	free(t->k);
	free(t->v);
	*t = big;
	return 0;
}

static int idmap_put(struct idmap *t, uint32_t id, uint32_t row)
{
	uint32_t at;

	if ((t->n + 1) * 4 > t->size * 3) {
		int r = idmap_grow(t);

		if (r < 0)
			return r;
	}
	at = idmap_at(t, id);
	t->n += !t->k[at];
	t->k[at] = id;
	t->v[at] = row;
	return 0;
}

static void idmap_del(struct idmap *t, uint32_t id)
{
	uint32_t at = idmap_at(t, id), next;

	if (!t->k[at])
		return;
	t->k[at] = 0;
	t->n--;
	/* What probed past the hole moves up. */
	for (next = (at + 1) & (t->size - 1); t->k[next]; next = (next + 1) & (t->size - 1)) {
		uint32_t k = t->k[next], v = t->v[next];

		t->k[next] = 0;
		at = idmap_at(t, k);
		t->k[at] = k;
		t->v[at] = v;
	}
}

/* --- deciding --------------------------------------------------------------------------------- */

static bool rule_covers(const struct bn_matrix *m, const struct mrule *mr, uint8_t hit,
			uint32_t cls, uint32_t identity)
{
	if (mr->cover[cls / 64] >> (cls % 64) & 1)
		return true;
	if (!(hit & HIT_PODS))
		return false;
	for (uint32_t k = 0; k < mr->nnamed; k++) {
		uint16_t port;

		if (bn_idents_port(m->c->ids, identity, mr->named[k].name, mr->named[k].proto,
				   &port) &&
		    BN_PORT_KEY(bn_proto_index(mr->named[k].proto), port) == m->class_key[cls])
			return true;
	}
	return false;
}

static int by_number(const void *a, const void *b)
{
	const struct crule *const *x = a, *const *y = b;

	return bn_u32_cmp(&(*x)->num->id, &(*y)->num->id);
}

static int http_cell(struct bn_matrix *m, const struct crule **rules, uint32_t n, uint32_t first,
		     struct bn_cell *ret)
{
	struct httpset *s;
	uint32_t k;
	int r;

	qsort(rules, n, sizeof(*rules), by_number);
	r = bn_comp_http_set(m->c, rules, n, &s);
	if (r < 0)
		return r;
	*ret = (struct bn_cell){.action = BN_ACT_HTTP, .rule = first, .http = s->id};
	for (k = 0; k < m->sets.n && m->sets.v[k] != s; k++)
		;
	if (k < m->sets.n)
		bn_comp_http_put(m->c, s);
	else
		r = bn_vec_push(&m->sets, s);
	return r;
}

/* The tiers in order; within NetworkPolicy's the end means deny, because it selects the pod. */
static int decide(struct bn_matrix *m, const uint32_t *hits, uint32_t nhits, uint32_t cls,
		  uint32_t identity, struct bn_cell *ret)
{
	BN_VEC(const struct crule *) http = {};
	int tier_done = -1, r = 0;
	uint32_t first = 0, priority = 0;

	*ret = (struct bn_cell){.action = BN_ACT_DENY};
	for (uint32_t k = 0; k < nhits && !r; k++) {
		const struct mrule *mr = &m->rules[hits[k]];
		const struct crule *c = mr->c;

		if ((int)c->tier <= tier_done ||
		    !rule_covers(m, mr, m->hit[hits[k]], cls, identity))
			continue;
		if (http.n && (!c->http || c->priority != priority))
			break;
		if (c->action == BN_RULE_PASS) {
			tier_done = c->tier;
		} else if (c->action == BN_RULE_ACCEPT && c->http) {
			first = http.n ? first : c->num->id;
			priority = c->priority;
			r = bn_vec_push(&http, c);
		} else {
			ret->action = c->action == BN_RULE_ACCEPT ? BN_ACT_ALLOW : BN_ACT_DENY;
			ret->rule = c->num->id;
			break;
		}
	}
	if (!r && http.n)
		r = http_cell(m, http.v, http.n, first, ret);
	bn_vec_done(&http);
	return r;
}

/* --- rows ------------------------------------------------------------------------------------- */

static uint64_t row_hash(const struct bn_matrix *m, const struct bn_cell *row)
{
	return bn_hash(row, m->nclasses * sizeof(*row));
}

static int rows_grow(struct bn_matrix *m)
{
	uint32_t size = m->rowhash_size ? m->rowhash_size * 2 : 16;
	uint32_t *t = calloc(size, sizeof(*t));
	struct bn_cell *cells;

	if (!t)
		return -ENOMEM;
	cells = realloc(m->cells, (size_t)size / 2 * m->nclasses * sizeof(*cells));
	if (!cells) {
		free(t);
		return -ENOMEM;
	}
	m->cells = cells;
	for (uint32_t k = 0; k < m->nrows; k++) {
		uint32_t at = row_hash(m, cells + (size_t)k * m->nclasses) & (size - 1);

		while (t[at])
			at = (at + 1) & (size - 1);
		t[at] = k + 1;
	}
	free(m->rowhash);
	m->rowhash = t;
	m->rowhash_size = size;
	return 0;
}

/* The row with this content; made when there is none and `room` allows. */
static int row_intern(struct bn_matrix *m, const struct bn_cell *row, uint32_t room, uint32_t *ret)
{
	size_t bytes = m->nclasses * sizeof(*row);
	uint32_t at;
	int r;

	if ((m->nrows + 1) * 2 > m->rowhash_size) {
		r = rows_grow(m);
		if (r < 0)
			return r;
	}
	at = row_hash(m, row) & (m->rowhash_size - 1);
	for (; m->rowhash[at]; at = (at + 1) & (m->rowhash_size - 1)) {
		uint32_t k = m->rowhash[at] - 1;

		if (!memcmp(m->cells + (size_t)k * m->nclasses, row, bytes)) {
			*ret = k;
			return 0;
		}
	}
	if (m->nrows >= room)
		return -ENOSPC;
	memcpy(m->cells + (size_t)m->nrows * m->nclasses, row, bytes);
	m->rowhash[at] = m->nrows + 1;
	*ret = m->nrows++;
	return 0;
}

/* Which rules a peer with this identity matches; their indices, ascending. */
static uint32_t match(struct bn_matrix *m, uint32_t identity, uint32_t *hits)
{
	const uint32_t *atoms;
	size_t n = bn_idents_atoms(m->c->ids, identity, &atoms);
	uint32_t nhits = 0, at = 0;

	for (uint32_t k = 0; k < m->nrules; k++)
		m->hit[k] = m->rules[k].c->all ? HIT_ANY | HIT_PODS : 0;
	for (size_t k = 0; k < n && at < m->natom_rules; k++) {
		uint32_t hi = m->natom_rules, lo = at;

		while (lo < hi) {
			uint32_t mid = lo + (hi - lo) / 2;

			if (m->atom_rules[mid].atom < atoms[k])
				lo = mid + 1;
			else
				hi = mid;
		}
		for (at = lo; at < m->natom_rules && m->atom_rules[at].atom == atoms[k]; at++)
			m->hit[m->atom_rules[at].rule] |=
				HIT_ANY | (m->atom_rules[at].pods ? HIT_PODS : 0);
	}
	for (uint32_t k = 0; k < m->nrules; k++)
		if (m->hit[k])
			hits[nhits++] = k;
	return nhits;
}

/* -ENOSPC also when the identity has a named port that no class stands for. */
static bool ports_known(const struct bn_matrix *m, const uint32_t *hits, uint32_t nhits,
			uint32_t identity)
{
	for (uint32_t k = 0; k < nhits; k++) {
		const struct mrule *mr = &m->rules[hits[k]];

		for (uint32_t j = 0; m->hit[hits[k]] & HIT_PODS && j < mr->nnamed; j++) {
			uint32_t key, lo = 0, hi = m->npoints;
			uint16_t port;

			if (!bn_idents_port(m->c->ids, identity, mr->named[j].name,
					    mr->named[j].proto, &port))
				continue;
			key = BN_PORT_KEY(bn_proto_index(mr->named[j].proto), port);
			while (lo < hi) {
				uint32_t mid = lo + (hi - lo) / 2;

				if (m->points[mid].key < key)
					lo = mid + 1;
				else
					hi = mid;
			}
			if (lo == m->npoints || m->points[lo].key != key)
				return false;
		}
	}
	return true;
}

static int row_of(struct bn_matrix *m, uint32_t identity, uint32_t room, uint32_t *ret)
{
	_cleanup_(freep) uint32_t *hits = calloc(m->nrules + 1, sizeof(*hits));
	_cleanup_(freep) struct bn_cell *row = calloc(m->nclasses, sizeof(*row));
	uint32_t nhits;
	int r = 0;

	if (!hits || !row)
		return -ENOMEM;
	nhits = match(m, identity, hits);
	if (!ports_known(m, hits, nhits, identity))
		return -ENOSPC;
	for (uint32_t cls = 0; cls < m->nclasses && !r; cls++)
		r = decide(m, hits, nhits, cls, identity, &row[cls]);
	return r ?: row_intern(m, row, room, ret);
}

int bn_matrix_extend(struct bn_matrix *m, uint32_t identity, uint32_t *row, bool *new_row)
{
	uint32_t before = m->nrows;
	int r;

	r = row_of(m, identity, m->row_room, row);
	if (r < 0)
		return r;
	*new_row = m->nrows > before;
	if (*row == 0) /* as those without a row */
		return 0;
	if (m->peers.n >= m->c->lim.peers)
		return -ENOSPC;
	m->c->stats.rows += m->nrows - before;
	m->c->stats.cells += (size_t)(m->nrows - before) * m->nclasses;
	m->c->stats.peers++;
	r = idmap_put(&m->peers, identity, *row);
	return r < 0 ? r : 1;
}

bool bn_matrix_forget(struct bn_matrix *m, uint32_t identity, uint32_t *row)
{
	if (!idmap_get(&m->peers, identity, row))
		return false;
	idmap_del(&m->peers, identity);
	m->c->stats.peers--;
	return true;
}

/* --- building --------------------------------------------------------------------------------- */

static int mrule_cmp(const void *a, const void *b)
{
	const struct crule *x = ((const struct mrule *)a)->c, *y = ((const struct mrule *)b)->c;

	if (x->tier != y->tier)
		return x->tier < y->tier ? -1 : 1;
	if (x->priority != y->priority)
		return x->priority < y->priority ? -1 : 1;
	if (x->action != y->action)
		return x->action < y->action ? -1 : 1;
	if (x->http != y->http)
		return x->http ? 1 : -1;
	if (x->rec != y->rec) {
		int r = strcmp(x->rec->p->o.name, y->rec->p->o.name);

		return r ?: (x->rec->serial > y->rec->serial) - (x->rec->serial < y->rec->serial);
	}
	return (x->num->index > y->num->index) - (x->num->index < y->num->index);
}

static int atom_rule_cmp(const void *a, const void *b)
{
	const struct atom_rule *x = a, *y = b;

	return (x->atom > y->atom) - (x->atom < y->atom);
}

static int gather_rules(struct bn_matrix *m, const struct bn_pod *pod, char *what)
{
	uint32_t n = 0, na = 0;
	int r = 0;

	for (uint32_t k = 0; k < m->nrecs; k++)
		n += m->recs[k]->limit ? 0 : m->recs[k]->nrules[m->dir];
	m->rules = calloc(n + 1, sizeof(*m->rules));
	m->hit = calloc(n + 1, 1);
	if (!m->rules || !m->hit)
		return -ENOMEM;
	for (uint32_t k = 0; k < m->nrecs; k++) {
		struct polrec *rec = m->recs[k];

		for (uint32_t j = 0; !rec->limit && j < rec->nrules[m->dir]; j++) {
			r = bn_comp_rule_number(m->c, rec->rules[m->dir][j].num);
			if (r == -ENOSPC) {
				*what = 'n';
				r = -E2BIG;
			}
			if (r < 0)
				return r;
			m->rules[m->nrules++].c = &rec->rules[m->dir][j];
			na += rec->rules[m->dir][j].atoms.n;
		}
	}
	qsort(m->rules, m->nrules, sizeof(*m->rules), mrule_cmp);
	m->atom_rules = calloc(na + 1, sizeof(*m->atom_rules));
	if (!m->atom_rules)
		return -ENOMEM;
	for (uint32_t k = 0; k < m->nrules && !r; k++) {
		const struct bn_u32s *atoms = &m->rules[k].c->atoms;

		r = bn_matrix_ranges(m, &m->rules[k], pod);
		for (uint32_t j = 0; j < atoms->n; j++)
			m->atom_rules[m->natom_rules++] = (struct atom_rule){
				atoms->v[j], k, bn_idents_atom_is_pods(m->c->ids, atoms->v[j])};
	}
	qsort(m->atom_rules, m->natom_rules, sizeof(*m->atom_rules), atom_rule_cmp);
	return r;
}

static int add_identity(uint32_t identity, void *data)
{
	struct bn_matrix *m = data;
	uint32_t row;
	int r;

	if (idmap_get(&m->peers, identity, &row))
		return 0;
	r = row_of(m, identity, m->c->lim.rows, &row);
	if (!r && row)
		r = m->peers.n < m->c->lim.peers ? idmap_put(&m->peers, identity, row) : -EDQUOT;
	return r;
}

static int fill_rows(struct bn_matrix *m)
{
	int r = 0;

	for (uint32_t k = 0; k < m->natom_rules && !r; k++) {
		const uint32_t *id;
		size_t n;

		if (k && m->atom_rules[k].atom == m->atom_rules[k - 1].atom)
			continue;
		n = bn_idents_of_atom(m->c->ids, m->atom_rules[k].atom, &id);
		for (size_t j = 0; j < n && !r; j++)
			r = add_identity(id[j], m);
	}
	for (uint32_t k = 0; k < m->nrules && !r; k++)
		for (uint32_t j = 0; m->rules[k].c->all && j < m->rules[k].nnamed && !r; j++)
			r = bn_idents_each_of_name(m->c->ids, m->rules[k].named[j].name,
						   m->rules[k].named[j].proto, add_identity, m);
	return r;
}

int bn_matrix_build(struct bn_matrix *m, const struct bn_pod *pod, char *what)
{
	const struct bn_compile_limits *lim = &m->c->lim;
	uint32_t row, room;
	int r;

	r = gather_rules(m, pod, what);
	r = r ?: bn_matrix_points(m);
	r = r ?: bn_matrix_classes(m, what);
	/* Row 0 is for everybody who has none: no atoms, no named ports. */
	r = r ?: row_of(m, BN_ID_UNKNOWN, lim->rows, &row);
	r = r ?: fill_rows(m);
	if (r == -ENOSPC || r == -EDQUOT) {
		*what = r == -EDQUOT ? 'p' : 'r';
		return -E2BIG;
	}
	if (r < 0)
		return r;
	room = m->nrows + m->nrows / 4 + 2;
	m->row_room = room > lim->rows ? lim->rows : room;
	if ((uint64_t)m->row_room * m->nclasses > lim->cells) {
		m->row_room = m->nrows;
		if ((uint64_t)m->nrows * m->nclasses > lim->cells) {
			*what = 's';
			return -E2BIG;
		}
	}
	return 0;
}

void bn_matrix_parts_done(struct bn_matrix *m)
{
	for (uint32_t k = 0; k < m->nrules; k++) {
		free(m->rules[k].ranges);
		free(m->rules[k].named);
		free(m->rules[k].cover);
	}
	for (uint32_t k = 0; k < m->sets.n; k++)
		bn_comp_http_put(m->c, m->sets.v[k]);
	bn_vec_done(&m->sets);
	free(m->rules);
	free(m->hit);
	free(m->atom_rules);
	free(m->points);
	free(m->ports);
	free(m->class_key);
	free(m->cells);
	free(m->rowhash);
	free(m->peers.k);
	free(m->peers.v);
	free(m->key);
	free(m->recs);
	free(m->policies);
}

/* --- reading ---------------------------------------------------------------------------------- */

struct bn_cell bn_matrix_eval(const struct bn_matrix *m, uint32_t identity, uint8_t proto,
			      uint16_t port)
{
	uint32_t pi = bn_proto_index(proto);
	uint32_t key = BN_PORT_KEY(pi, pi ? port : 0);
	uint32_t lo = 0, hi = m->nports, row = 0;

	while (hi - lo > 1) { /* the greatest start <= key; the first is 0 */
		uint32_t mid = lo + (hi - lo) / 2;

		if (BN_PORT_START_KEY(m->ports[mid]) <= key)
			lo = mid;
		else
			hi = mid;
	}
	if (!idmap_get(&m->peers, identity, &row))
		row = 0;
	return m->cells[(size_t)row * m->nclasses + BN_PORT_START_CLASS(m->ports[lo])];
}

void bn_matrix_view(const struct bn_matrix *m, struct bn_matrix_view *ret)
{
	*ret = (struct bn_matrix_view){
		.dir = m->dir,
		.nports = (uint16_t)m->nports,
		.nclasses = (uint16_t)m->nclasses,
		.default_row = 0,
		.nrows = m->nrows,
		.row_room = m->row_room,
		.ports = m->ports,
		.cells = m->cells,
		.stale = m->stale,
		.audit = m->nrecs > 0,
		.npolicies = m->nrecs,
		.policies = m->policies,
	};
	for (uint32_t k = 0; k < m->nrecs; k++)
		ret->audit &= m->policies[k]->audit;
}

size_t bn_matrix_peers(const struct bn_matrix *m, uint32_t *identities, uint32_t *rows)
{
	size_t n = 0;

	for (uint32_t k = 0; k < m->peers.size; k++)
		if (m->peers.k[k]) {
			identities[n] = m->peers.k[k];
			rows[n++] = m->peers.v[k];
		}
	return n;
}

int bn_matrix_each_http(const struct bn_matrix *m, int (*fn)(uint32_t set, void *data), void *data)
{
	int r = 0;

	for (uint32_t k = 0; k < m->sets.n && !r; k++)
		r = fn(m->sets.v[k]->id, data);
	return r;
}

size_t bn_matrix_npeers(const struct bn_matrix *m)
{
	return m->peers.n;
}

void *bn_matrix_user(const struct bn_matrix *m)
{
	return m->user;
}

void bn_matrix_set_user(struct bn_matrix *m, void *user, void (*gone)(void *user))
{
	m->user = user;
	m->user_gone = gone;
}
