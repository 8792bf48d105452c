/* SPDX-License-Identifier: MIT */
/* Reads back what is pinned, so that a restart writes only differences.
 *
 * A daemon may have died between any two writes. The order of writes (maps/svc_access.h) leaves
 * these traces: a record or slots that no front points at (free), a name or an address entry
 * without a front, a source set that no record uses, a front that was replaced whose old record
 * still has its key. All of them are harmless until bn_svcmap_repair takes them away. Anything else
 * is damage: the front counts as broken and is removed by repair.
 */
#include <string.h>

#include "maps/svc_priv.h"

struct adopt_name {
	struct bn_hnode h; /* by id */
	uint32_t id;
	bool used;
	struct bn_svc_name v;
};

struct adopt_range {
	uint32_t base, len;
	struct sv_rec *rec;
};

struct adopt {
	struct bn_svcmap *m;
	struct bn_htab names;
	struct adopt_range *ranges;
	size_t nranges;
	struct sv_rec *dead; /* by next; ranges may still name them */
};

/* v with room for one more behind n elements: grows by powers of two. NULL: no memory, v stays. */
static void *grown(void *v, uint32_t n, size_t size)
{
	return n & (n - 1) ? v : reallocarray(v, n ? (size_t)n * 2 : 1, size);
}

static int broken_front(struct bn_svcmap *m, const struct bn_front_key *key)
{
	struct sv_broken *b = &m->broken;
	void *v = grown(b->fronts, b->nfronts, sizeof(*b->fronts));

	if (!v)
		return -ENOMEM;
	b->fronts = v;
	b->fronts[b->nfronts++] = *key;
	b->any = true;
	return 0;
}

/* --- names ----------------------------------------------------------------------------------- */

static int adopt_name(const void *key, const void *val, void *data)
{
	struct adopt *a = data;
	struct adopt_name *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	memcpy(&n->id, key, sizeof(n->id));
	memcpy(&n->v, val, sizeof(n->v));
	n->v.name[sizeof(n->v.name) - 1] = '\0';
	n->v.port[sizeof(n->v.port) - 1] = '\0';
	if (n->id >= a->m->next_svc_id)
		a->m->next_svc_id = n->id + 1;
	if (bn_htab_add(&a->names, &n->h, bn_hash_bytes(&n->id, sizeof(n->id))) < 0) {
		free(n);
		return -ENOMEM;
	}
	return 0;
}

static struct adopt_name *name_find(const struct adopt *a, uint32_t id)
{
	struct bn_hnode *h = bn_htab_first(&a->names, bn_hash_bytes(&id, sizeof(id)));

	for (; h; h = bn_htab_next(h))
		if (bn_container(h, struct adopt_name, h)->id == id)
			return bn_container(h, struct adopt_name, h);
	return NULL;
}

static void names_free(struct adopt *a)
{
	for (uint32_t i = 0; a->names.b && i <= a->names.mask; i++)
		for (struct bn_hnode *h = a->names.b[i], *next; h; h = next) {
			next = h->next;
			free(bn_container(h, struct adopt_name, h));
		}
	bn_htab_clear(&a->names);
}

static int names_unused(struct adopt *a)
{
	struct sv_broken *b = &a->m->broken;

	for (struct bn_hnode *h = bn_htab_head(&a->names); h; h = bn_htab_after(&a->names, h)) {
		struct adopt_name *n = bn_container(h, struct adopt_name, h);
		void *v;

		if (n->used)
			continue;
		v = grown(b->names, b->nnames, sizeof(*b->names));
		if (!v)
			return -ENOMEM;
		b->names = v;
		b->names[b->nnames++] = n->id;
		b->any = true;
	}
	return 0;
}

/* --- fronts ---------------------------------------------------------------------------------- */

static bool word_ok(const struct bn_svcmap *m, uint64_t word)
{
	uint64_t base = BN_RANGE_BASE(word), n = BN_RANGE_COUNT(word);
	const struct bn_backend *v;

	if (!n)
		return true;
	if (base + n > m->slots_max)
		return false;
	v = sv_slot(m, (uint32_t)base);
	n += v ? v->members : 0;
	return v && base + n <= m->slots_max && sv_slots(m, (uint32_t)base, (uint32_t)n);
}

static bool record_ok(const struct bn_svcmap *m, const struct bn_front_key *key, uint32_t idx)
{
	const struct bn_svc *s;

	if (!idx || idx >= m->idx_max || m->by_idx[idx])
		return false;
	s = sv_svc(m, idx);
	return !memcmp(&s->key, key, sizeof(*key)) && s->svc_id && word_ok(m, s->range) &&
	       word_ok(m, s->range_int);
}

static struct sv_port *port_adopt(struct adopt *a, struct bn_svc_owner *o, struct adopt_name *n)
{
	for (struct sv_port *p = o->ports; p; p = p->next)
		if (p->id == n->id)
			return p;
	n->used = true;
	return sv_port_new(a->m, o, n->id, n->v.port, n->v.type);
}

static void set_adopt(struct adopt *a, struct sv_rec *r, const struct bn_svc *s)
{
	if (!(s->flags & BN_SVC_F_SRC_RANGES) || !s->src_set)
		return;
	r->set = sv_set_find(a->m, s->src_set);
	if (r->set)
		r->set->refs++;
}

static void word_adopt(struct bn_svcmap *m, const struct bn_svc_owner *o, uint64_t word)
{
	if (BN_RANGE_COUNT(word) && !m->refs[BN_RANGE_BASE(word)])
		sv_range_own(m, BN_RANGE_BASE(word), sv_range_len(m, word), o->ns);
	sv_word_ref(m, word);
}

static int record_adopt(struct adopt *a, const struct bn_front_key *key, uint32_t idx)
{
	struct bn_svcmap *m = a->m;
	const struct bn_svc *s = sv_svc(m, idx);
	struct adopt_name *n = name_find(a, s->svc_id);
	struct bn_svc_owner *o;
	struct sv_addr *ad;
	struct sv_rec *r;

	if (!n)
		return broken_front(m, key);
	o = bn_svcmap_get(m, n->v.name);
	r = o ? sv_rec_new(m, o, idx) : NULL;
	if (!r)
		return -ENOMEM;
	m->busy[idx / 64] |= 1ULL << (idx % 64);
	m->idx_used++;
	r->port = port_adopt(a, o, n);
	if (!r->port)
		return -ENOMEM;
	r->port->refs++;
	set_adopt(a, r, s);
	word_adopt(m, o, s->range);
	word_adopt(m, o, s->range_int);
	if (key->scope != BN_SCOPE_EXACT)
		return 0;
	ad = sv_addr_get(m, &key->addr);
	if (!ad)
		return -ENOMEM;
	ad->refs[sv_external(s->flags)]++;
	return 0;
}

static int adopt_front(const void *k, const void *v, void *data)
{
	struct adopt *a = data;
	struct bn_front_key key;
	struct bn_front_val val;

	memcpy(&key, k, sizeof(key));
	memcpy(&val, v, sizeof(val));
	if (key.scope == BN_SCOPE_ADDR) {
		struct sv_addr *ad = sv_addr_get(a->m, &key.addr);

		if (!ad)
			return -ENOMEM;
		ad->have = val.idx == BN_FRONT_IDX_EXTERNAL ? BN_FRONT_IDX_EXTERNAL
							    : BN_FRONT_IDX_CLUSTERIP;
		return 0;
	}
	/* A walk beside a writer may see one key twice. */
	if (sv_rec_find(a->m, &key))
		return 0;
	if (!record_ok(a->m, &key, val.idx))
		return broken_front(a->m, &key);
	return record_adopt(a, &key, val.idx);
}

static void addrs_check(struct bn_svcmap *m)
{
	for (struct bn_hnode *h = bn_htab_head(&m->addrs); h; h = bn_htab_after(&m->addrs, h)) {
		const struct sv_addr *a = bn_container(h, struct sv_addr, h);
		int want = a->refs[0] ? 0 : a->refs[1] ? 1 : -1;

		if (a->have != want)
			m->broken.any = true;
	}
}

/* --- source sets ----------------------------------------------------------------------------- */

static int adopt_src(const void *k, const void *v _unused_, void *data)
{
	struct bn_svcmap *m = ((struct adopt *)data)->m;
	struct bn_src_key key;
	struct sv_set *s;
	void *src;

	memcpy(&key, k, sizeof(key));
	if (key.src_set >= m->next_set)
		m->next_set = key.src_set + 1;
	s = sv_set_find(m, key.src_set);
	s = s ? s : sv_set_new(m, key.src_set);
	if (!s)
		return -ENOMEM;
	src = grown(s->v, s->n, sizeof(*s->v));
	if (!src)
		return -ENOMEM;
	s->v = src;
	s->v[s->n++] = (struct bn_want_src){key.addr, key.prefixlen - 32};
	return 0;
}

static int src_cmp(const void *pa, const void *pb)
{
	return memcmp(pa, pb, sizeof(struct bn_want_src));
}

static void sets_sort(struct bn_svcmap *m)
{
	for (struct bn_hnode *h = bn_htab_head(&m->sets); h; h = bn_htab_after(&m->sets, h)) {
		struct sv_set *s = bn_container(h, struct sv_set, h);

		qsort(s->v, s->n, sizeof(*s->v), src_cmp);
		if (!s->refs)
			m->broken.any = true;
	}
}

/* --- ranges ---------------------------------------------------------------------------------- */

static int range_cmp(const void *pa, const void *pb)
{
	const struct adopt_range *a = pa, *b = pb;

	if (a->base != b->base)
		return a->base < b->base ? -1 : 1;
	return a->len < b->len ? -1 : a->len > b->len;
}

static void range_add(struct adopt *a, struct sv_rec *rec, uint64_t word)
{
	if (BN_RANGE_COUNT(word))
		a->ranges[a->nranges++] =
			(struct adopt_range){BN_RANGE_BASE(word), sv_range_len(a->m, word), rec};
}

/* Takes a damaged record out of the mirror; its front is removed by repair and made anew by its
 * service. What else it refers to stays taken until the next start.
 */
static int rec_forget(struct adopt *a, struct sv_rec *rec)
{
	struct bn_svcmap *m = a->m;
	const struct bn_svc *s = sv_svc(m, rec->idx);
	struct sv_addr *ad;

	if (m->by_idx[rec->idx] != rec)
		return 0; /* by its other range */
	if (s->key.scope == BN_SCOPE_EXACT) {
		ad = sv_addr_get(m, &s->key.addr);
		if (ad && ad->refs[sv_external(s->flags)])
			ad->refs[sv_external(s->flags)]--;
	}
	if (rec->set)
		rec->set->refs--;
	rec->port->refs--;
	m->by_idx[rec->idx] = NULL;
	bn_htab_del(&m->recs, &rec->h);
	sv_rec_unlink(m, rec);
	rec->next = a->dead;
	a->dead = rec;
	return broken_front(m, &s->key);
}

/* What no record points at is free. Of two ranges that overlap without being one, the second is
 * damage.
 */
static int ranges_adopt(struct adopt *a)
{
	struct bn_svcmap *m = a->m;
	uint32_t at = 0;
	int r;

	a->ranges = calloc((size_t)m->recs.n * 2 + 1, sizeof(*a->ranges));
	if (!a->ranges)
		return -ENOMEM;
	for (struct bn_hnode *h = bn_htab_head(&m->recs); h; h = bn_htab_after(&m->recs, h)) {
		struct sv_rec *rec = bn_container(h, struct sv_rec, h);
		const struct bn_svc *s = sv_svc(m, rec->idx);

		range_add(a, rec, s->range);
		range_add(a, rec, s->range_int);
	}
	qsort(a->ranges, a->nranges, sizeof(*a->ranges), range_cmp);
	for (size_t i = 0; i < a->nranges; i++) {
		const struct adopt_range *g = &a->ranges[i];

		if (i && g->base == g[-1].base && g->len == g[-1].len)
			continue;
		if (g->base < at) {
			r = rec_forget(a, g->rec);
			if (r < 0)
				return r;
			continue;
		}
		bn_ranges_give(m->ra, at, g->base - at);
		at = g->base + g->len;
	}
	bn_ranges_give(m->ra, at, m->slots_max - at);
	return 0;
}

/* Records that no front points at may still carry a key that a flow remembers. (Read by the walk
 * and not in place: most of the array is not mapped.)
 */
static int record_check(const void *key, const void *val, void *data)
{
	static const struct bn_front_key zero;
	struct bn_svcmap *m = ((struct adopt *)data)->m;
	struct sv_broken *b = &m->broken;
	struct bn_svc s;
	uint32_t idx;
	void *v;

	memcpy(&idx, key, sizeof(idx));
	memcpy(&s, val, sizeof(s));
	if (!idx || idx >= m->idx_max || m->by_idx[idx] || !memcmp(&s.key, &zero, sizeof(zero)))
		return 0;
	v = grown(b->records, b->nrecords, sizeof(*b->records));
	if (!v)
		return -ENOMEM;
	b->records = v;
	b->records[b->nrecords++] = idx;
	b->any = true;
	return 0;
}

int sv_adopt(struct bn_svcmap *m)
{
	struct adopt a = {.m = m};
	int r;

	r = bn_map_each(m->maps, BN_MAP_svc_names, adopt_name, &a);
	r = r ? r : bn_map_each(m->maps, BN_MAP_src_ranges, adopt_src, &a);
	r = r ? r : bn_map_each(m->maps, BN_MAP_fronts, adopt_front, &a);
	r = r ? r : names_unused(&a);
	r = r ? r : ranges_adopt(&a);
	r = r ? r : bn_map_each(m->maps, BN_MAP_svcs, record_check, &a);
	if (!r) {
		addrs_check(m);
		sets_sort(m);
	}
	names_free(&a);
	free(a.ranges);
	while (a.dead) {
		struct sv_rec *next = a.dead->next;

		free(a.dead);
		a.dead = next;
	}
	return r;
}

/* --- repair ---------------------------------------------------------------------------------- */

static int repair_addrs(struct bn_svcmap *m)
{
	struct bn_hnode *h, *next;
	int r = 0;

	for (h = bn_htab_head(&m->addrs); h; h = next) {
		int e;

		next = bn_htab_after(&m->addrs, h);
		e = sv_addr_write(m, bn_container(h, struct sv_addr, h));
		r = r ? r : e;
	}
	return r;
}

static void repair_sets(struct bn_svcmap *m)
{
	for (struct bn_hnode *h = bn_htab_head(&m->sets); h; h = bn_htab_after(&m->sets, h)) {
		struct sv_set *s = bn_container(h, struct sv_set, h);

		if (s->refs)
			continue;
		s->refs = 1; /* so that a second repair leaves it alone */
		sv_pend(m, (struct sv_pend){.what = SV_PEND_SET, .set = s});
	}
}

static void repair_records(struct bn_svcmap *m)
{
	for (uint32_t i = 0; i < m->broken.nrecords; i++) {
		struct bn_svc *s = sv_svc(m, m->broken.records[i]);

		memset(&s->key, 0, sizeof(s->key));
		s->range = BN_RANGE(0, 0, (BN_RANGE_GEN(s->range) + 1) & 0xffff);
		s->range_int = BN_RANGE(0, 0, (BN_RANGE_GEN(s->range_int) + 1) & 0xffff);
		m->writes++;
	}
}

int bn_svcmap_repair(struct bn_svcmap *m)
{
	struct sv_broken *b = &m->broken;
	int r = 0, e;

	/* What the last daemon freed just before it died may still be in some reader's hands. */
	e = sv_grace(m);
	if (e < 0)
		return e;
	if (!b->any)
		return 0;
	for (uint32_t i = 0; i < b->nfronts; i++) {
		e = sv_del(m, BN_MAP_fronts, &b->fronts[i]);
		r = r || e == -ENOENT ? r : e;
	}
	for (uint32_t i = 0; i < b->nnames; i++) {
		e = sv_del(m, BN_MAP_svc_names, &b->names[i]);
		r = r || e == -ENOENT ? r : e;
	}
	e = repair_addrs(m);
	r = r ? r : e;
	repair_sets(m);
	repair_records(m);
	if (r < 0)
		return r;
	bn_svcmap_reclaim(m, true);
	free(b->fronts);
	free(b->names);
	free(b->records);
	*b = (struct sv_broken){0};
	return 0;
}
