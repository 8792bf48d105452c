// SPDX-License-Identifier: MIT
/* Ports of a matrix: which ranges each rule covers, and the classes of ports that no rule tells
 * apart.
 *
 * A class is the set of rules that cover a port. The sets are told apart by a sum of random
 * numbers, one for each rule (128 bits, keyed): a sweep over the ends of all ranges finds them in
 * O(n log n).
 */
#include "maps/util.h"
#include "policy/compile_priv.h"

struct edge {
	uint32_t key;
	uint64_t z[2];
};

struct cls {
	struct bn_hnode h;
	uint64_t z[2];
	uint32_t id;
};

bool bn_pod_named_port(const struct bn_pod *pod, const char *name, uint8_t proto, uint16_t *ret)
{
	for (uint32_t k = 0; k < pod->nports; k++) {
		if (pod->ports[k].name == name && pod->ports[k].proto == proto) {
			*ret = pod->ports[k].port;
			return true;
		}
	}
	return false;
}

static int range_cmp(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return (x->lo > y->lo) - (x->lo < y->lo);
}

static uint32_t ranges_merge(struct range *v, uint32_t n)
{
	uint32_t out = 0;

	if (!n)
		return 0;
	qsort(v, n, sizeof(*v), range_cmp);
	for (uint32_t k = 1; k < n; k++) {
		if (v[k].lo > v[out].hi + 1)
			v[++out] = v[k];
		else if (v[k].hi > v[out].hi)
			v[out].hi = v[k].hi;
	}
	return out + 1;
}

/* HTTP rules speak of TCP only: over anything else there is no request that they could allow. */
static uint32_t clip_http(struct range *v, uint32_t n)
{
	const uint32_t lo = BN_PORT_KEY(1, 0), hi = BN_PORT_KEY(1, 65535);
	uint32_t out = 0;

	for (uint32_t k = 0; k < n; k++) {
		struct range x = v[k];

		x.lo = x.lo < lo ? lo : x.lo;
		x.hi = x.hi > hi ? hi : x.hi;
		if (x.lo <= x.hi)
			v[out++] = x;
	}
	return out;
}

int bn_matrix_ranges(struct bn_matrix *m, struct mrule *mr, const struct bn_pod *pod)
{
	const struct bn_rule *r = mr->c->r;
	uint32_t n = 0;

	mr->ranges = calloc(r->nports + 1, sizeof(*mr->ranges));
	mr->named = calloc(r->nports + 1, sizeof(*mr->named));
	if (!mr->ranges || !mr->named)
		return -ENOMEM;
	if (!r->nports)
		mr->ranges[n++] = (struct range){0, PORT_KEY_END - 1};
	for (uint32_t k = 0; k < r->nports; k++) {
		const struct bn_policy_port *p = &r->ports[k];
		uint32_t pi = bn_proto_index(p->proto);
		uint16_t port;

		if (!pi)
			continue;
		if (p->name && m->dir == BN_EGRESS) {
			if (!mr->c->http || p->proto == BN_PROTO_TCP)
				mr->named[mr->nnamed++] = (struct named){p->name, p->proto};
		} else if (p->name) {
			if (bn_pod_named_port(pod, p->name, p->proto, &port))
				mr->ranges[n++] = (struct range){BN_PORT_KEY(pi, port),
								 BN_PORT_KEY(pi, port)};
		} else if (p->any) {
			mr->ranges[n++] =
				(struct range){BN_PORT_KEY(pi, 0), BN_PORT_KEY(pi, 65535)};
		} else if (p->port <= p->end_port) {
			mr->ranges[n++] = (struct range){BN_PORT_KEY(pi, p->port),
							 BN_PORT_KEY(pi, p->end_port)};
		}
	}
	n = ranges_merge(mr->ranges, n);
	mr->nranges = mr->c->http ? clip_http(mr->ranges, n) : n;
	return 0;
}

/* --- named ports of destinations -------------------------------------------------------------- */

struct collect {
	struct bn_matrix *m;
	const struct named *name;
	struct bn_u32s keys;
};

static int collect_point(uint32_t identity, void *data)
{
	struct collect *c = data;
	uint16_t port;

	if (!bn_idents_port(c->m->c->ids, identity, c->name->name, c->name->proto, &port))
		return 0;
	return bn_vec_push(&c->keys, BN_PORT_KEY(bn_proto_index(c->name->proto), port));
}

static int collect_rule(struct collect *c, const struct mrule *mr)
{
	struct bn_idents *ids = c->m->c->ids;
	int r = 0;

	if (mr->c->all)
		return bn_idents_each_of_name(ids, c->name->name, c->name->proto, collect_point, c);
	for (uint32_t k = 0; k < mr->c->atoms.n && !r; k++) {
		const uint32_t *id;
		size_t n;

		if (!bn_idents_atom_is_pods(ids, mr->c->atoms.v[k]))
			continue;
		n = bn_idents_of_atom(ids, mr->c->atoms.v[k], &id);
		for (size_t j = 0; j < n && !r; j++)
			if (bn_idents_nports(ids, id[j]))
				r = collect_point(id[j], c);
	}
	return r;
}

int bn_matrix_points(struct bn_matrix *m)
{
	struct collect c = {.m = m};
	int r = 0;

	for (uint32_t k = 0; k < m->nrules && !r; k++) {
		for (uint32_t j = 0; j < m->rules[k].nnamed && !r; j++) {
			c.name = &m->rules[k].named[j];
			r = collect_rule(&c, &m->rules[k]);
		}
		if (c.keys.n > 65536)
			bn_u32s_sort(&c.keys);
	}
	bn_u32s_sort(&c.keys);
	m->points = calloc(c.keys.n + 1, sizeof(*m->points));
	if (!m->points)
		r = -ENOMEM;
	for (uint32_t k = 0; k < c.keys.n && !r; k++)
		m->points[m->npoints++].key = c.keys.v[k];
	bn_vec_done(&c.keys);
	return r;
}

/* --- classes ---------------------------------------------------------------------------------- */

static int edge_cmp(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

typedef BN_VEC(struct edge) edges;

static int add_edges(edges *v, uint32_t lo, uint32_t hi, uint64_t what, uint64_t idx)
{
	struct edge e = {.key = lo};
	int r;

	for (uint64_t k = 0; k < 2; k++) {
		uint64_t part[3] = {what, idx, k};

		e.z[k] = bn_hash(part, sizeof(part));
	}
	r = bn_vec_push(v, e);
	e.key = hi + 1;
	return r ?: bn_vec_push(v, e);
}

static int all_edges(const struct bn_matrix *m, edges *v)
{
	int r = 0;

	for (uint32_t k = 0; k < m->nrules && !r; k++)
		for (uint32_t j = 0; j < m->rules[k].nranges && !r; j++)
			r = add_edges(v, m->rules[k].ranges[j].lo, m->rules[k].ranges[j].hi, 0, k);
	for (uint32_t k = 0; k < m->npoints && !r; k++)
		r = add_edges(v, m->points[k].key, m->points[k].key, 1, k);
	if (!r && v->n)
		qsort(v->v, v->n, sizeof(*v->v), edge_cmp);
	return r;
}

static int class_of(struct bn_htab *t, const uint64_t z[2], uint32_t *n, uint32_t *ret)
{
	struct cls *x;
	int r;

	for (struct bn_hnode *h = bn_htab_first(t, z[0]); h; h = bn_htab_next(h)) {
		x = bn_container(h, struct cls, h);
		if (x->z[0] == z[0] && x->z[1] == z[1]) {
			*ret = x->id;
			return 0;
		}
	}
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	x->z[0] = z[0];
	x->z[1] = z[1];
	x->id = (*n)++;
	*ret = x->id;
	r = bn_htab_add(t, &x->h, z[0]);
	if (r < 0)
		free(x);
	return r;
}

static bool covers(const struct mrule *mr, uint32_t key)
{
	uint32_t lo = 0, hi = mr->nranges;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (mr->ranges[mid].hi < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < mr->nranges && mr->ranges[lo].lo <= key;
}

static int sweep(struct bn_matrix *m, const edges *v, struct bn_htab *t, char *what)
{
	BN_VEC(uint32_t) starts = {}, keys = {};
	uint64_t z[2] = {};
	uint32_t last = UINT32_MAX, n = 0, e = 0, key = 0, cls = 0;
	int r = 0;

	while (!r && key < PORT_KEY_END) {
		for (; e < v->n && v->v[e].key <= key; e++) {
			z[0] ^= v->v[e].z[0];
			z[1] ^= v->v[e].z[1];
		}
		r = class_of(t, z, &n, &cls);
		if (!r && n > keys.n)
			r = bn_vec_push(&keys, key);
		if (!r && cls != last)
			r = bn_vec_push(&starts, BN_PORT_START(key, cls));
		last = cls;
		if (n > m->c->lim.classes || starts.n > UINT16_MAX) {
			*what = 'c';
			r = r ?: -E2BIG;
		}
		key = e < v->n ? v->v[e].key : PORT_KEY_END;
	}
	m->ports = starts.v;
	m->nports = starts.n;
	m->class_key = keys.v;
	m->nclasses = n;
	return r;
}

int bn_matrix_classes(struct bn_matrix *m, char *what)
{
	struct bn_htab t = {};
	edges v = {};
	uint32_t words;
	int r;

	r = all_edges(m, &v);
	r = r ?: sweep(m, &v, &t, what);
	words = (m->nclasses + 63) / 64;
	for (uint32_t k = 0; k < m->nrules && !r; k++) {
		struct mrule *mr = &m->rules[k];

		mr->cover = calloc(words, sizeof(*mr->cover));
		if (!mr->cover)
			r = -ENOMEM;
		for (uint32_t c = 0; c < m->nclasses && !r; c++)
			if (covers(mr, m->class_key[c]))
				mr->cover[c / 64] |= 1ull << (c % 64);
	}
	/* A point's class is its own: its key is the one that stands for the class. */
	for (uint32_t c = 0; c < m->nclasses && !r; c++)
		for (uint32_t lo = 0, hi = m->npoints; lo < hi;) {
			uint32_t mid = lo + (hi - lo) / 2;

			if (m->points[mid].key == m->class_key[c]) {
				m->points[mid].cls = c;
				break;
			}
			if (m->points[mid].key < m->class_key[c])
				lo = mid + 1;
			else
				hi = mid;
		}
	bn_htab_each(&t, n) free(bn_container(n, struct cls, h));
	bn_htab_clear(&t);
	bn_vec_done(&v);
	return r;
}
