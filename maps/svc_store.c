/* SPDX-License-Identifier: MIT */
/* The mirror's parts: elements, what refers to what, what is free and what waits for a grace. */
#include <string.h>

#include "maps/svc_priv.h"

_Static_assert(((sizeof(struct bn_backend) + 7) & ~7UL) == sizeof(struct bn_backend),
	       "slots lie without gaps: ranges are copied and compared whole");

struct bn_svc *sv_svc(const struct bn_svcmap *m, uint32_t idx)
{
	return bn_map_at(m->maps, BN_MAP_svcs, idx);
}

struct bn_backend *sv_slot(const struct bn_svcmap *m, uint32_t base)
{
	return bn_map_at(m->maps, BN_MAP_slots, base);
}

/* Its last element first: see bn_map_at. */
struct bn_backend *sv_slots(const struct bn_svcmap *m, uint32_t base, uint32_t len)
{
	if (!bn_map_at(m->maps, BN_MAP_slots, base + len - 1))
		return NULL;
	return sv_slot(m, base);
}

uint32_t sv_range_len(const struct bn_svcmap *m, uint64_t word)
{
	uint32_t n = BN_RANGE_COUNT(word);

	return n ? n + sv_slot(m, BN_RANGE_BASE(word))->members : 0;
}

int sv_put(struct bn_svcmap *m, enum bn_map map, const void *key, const void *val)
{
	m->writes++;
	return bn_map_put(m->maps, map, key, val);
}

int sv_del(struct bn_svcmap *m, enum bn_map map, const void *key)
{
	m->writes++;
	return bn_map_del(m->maps, map, key);
}

/* --- record indices and ranges --------------------------------------------------------------- */

static int idx_scan(struct bn_svcmap *m, uint32_t *ret)
{
	uint32_t words = (m->idx_max + 63) / 64, w = m->idx_hint / 64;

	for (uint32_t i = 0; i < words; i++, w = w + 1 < words ? w + 1 : 0) {
		uint64_t idle = ~m->busy[w];
		uint32_t idx;

		if (!idle)
			continue;
		idx = w * 64 + (uint32_t)__builtin_ctzll(idle);
		if (idx >= m->idx_max)
			continue;
		m->busy[w] |= 1ULL << (idx % 64);
		m->idx_used++;
		m->idx_hint = idx;
		*ret = idx;
		return 0;
	}
	return -ENOSPC;
}

int sv_idx_take(struct bn_svcmap *m, uint32_t *ret)
{
	int r = idx_scan(m, ret);

	if (r == -ENOSPC && m->npend) {
		bn_svcmap_reclaim(m, true);
		r = idx_scan(m, ret);
	}
	return r;
}

int sv_range_take(struct bn_svcmap *m, uint32_t len, uint32_t *ret)
{
	uint32_t base = bn_ranges_take(m->ra, len);

	if (base == BN_RANGES_NONE && m->npend) {
		bn_svcmap_reclaim(m, true);
		base = bn_ranges_take(m->ra, len);
	}
	if (base == BN_RANGES_NONE && !m->npend && !sv_compact(m, len))
		base = bn_ranges_take(m->ra, len);
	if (base == BN_RANGES_NONE)
		return -ENOSPC;
	*ret = base;
	return 0;
}

/* A word of a record that nobody can reach any more. */
static void word_drop(struct bn_svcmap *m, uint32_t idx, int which)
{
	struct bn_svc *s = sv_svc(m, idx);
	__u64 *w = which ? &s->range_int : &s->range;
	uint64_t old = *w;

	*w = BN_RANGE(0, 0, (BN_RANGE_GEN(old) + 1) & 0xffff);
	m->writes++;
	if (BN_RANGE_COUNT(old) && !--m->refs[BN_RANGE_BASE(old)]) {
		sv_range_disown(m, BN_RANGE_BASE(old), sv_range_len(m, old));
		bn_ranges_give(m->ra, BN_RANGE_BASE(old), sv_range_len(m, old));
	}
}

static void pend_finish(struct bn_svcmap *m, const struct sv_pend *p)
{
	switch (p->what) {
	case SV_PEND_IDX:
		word_drop(m, p->a, 0);
		word_drop(m, p->a, 1);
		m->busy[p->a / 64] &= ~(1ULL << (p->a % 64));
		m->idx_used--;
		if (p->a < m->idx_hint)
			m->idx_hint = p->a; /* low ones first: what is never used is never mapped */
		break;
	case SV_PEND_RANGE:
		bn_ranges_give(m->ra, p->a, p->n);
		break;
	case SV_PEND_SET:
		for (uint32_t i = 0; i < p->set->n; i++) {
			struct bn_src_key k;

			sv_src_key(p->set->id, &p->set->v[i], &k);
			(void)sv_del(m, BN_MAP_src_ranges, &k);
		}
		sv_set_free(m, p->set);
		break;
	}
}

/* The first n of what waits are free. */
static void pend_end(struct bn_svcmap *m, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (m->pend[i].what == SV_PEND_RANGE)
			m->slots_pending -= m->pend[i].n;
		if (m->pend[i].what == SV_PEND_IDX)
			m->idx_pending--;
		pend_finish(m, &m->pend[i]);
	}
	m->npend -= n;
	memmove(m->pend, m->pend + n, m->npend * sizeof(*m->pend));
	m->nsealed = 0;
	m->short_of = false;
	m->graces++;
}

/* Is it worth a grace period, which a thread waits for? Thousands of changes share one. */
static bool pend_enough(const struct bn_svcmap *m)
{
	return m->short_of || m->npend >= 512 || m->idx_pending >= 256 || m->slots_pending >= 4096 ||
	       (m->slots_pending >= 512 && m->slots_pending >= bn_ranges_free(m->ra) / 4);
}

int sv_grace(struct bn_svcmap *m)
{
	return m->grace ? m->grace(m->grace_data) : bn_reclaim_wait(m->reclaim, bn_reclaim_ask(m->reclaim));
}

void bn_svcmap_reclaim(struct bn_svcmap *m, bool force)
{
	if (m->nsealed && bn_reclaim_done(m->reclaim, m->ticket))
		pend_end(m, m->nsealed);
	if (!m->npend)
		return;
	if (force || (m->grace && pend_enough(m))) {
		if (sv_grace(m) < 0)
			return; /* it stays pending */
		pend_end(m, m->npend);
	} else if (!m->nsealed && pend_enough(m)) {
		m->ticket = bn_reclaim_ask(m->reclaim);
		m->nsealed = m->npend;
	}
}

void sv_pend(struct bn_svcmap *m, struct sv_pend p)
{
	if (m->npend == m->pend_max) {
		uint32_t max = m->pend_max ? m->pend_max * 2 : 64;
		struct sv_pend *v = reallocarray(m->pend, max, sizeof(*v));

		if (v) {
			m->pend = v;
			m->pend_max = max;
		} else {
			bn_svcmap_reclaim(m, true);
		}
	}
	/* No memory and no grace: better lose the space until the next start than reuse it early.
	 */
	if (m->npend == m->pend_max)
		return;
	m->pend[m->npend++] = p;
	if (p.what == SV_PEND_RANGE)
		m->slots_pending += p.n;
	if (p.what == SV_PEND_IDX)
		m->idx_pending++;
}

void sv_word_ref(struct bn_svcmap *m, uint64_t word)
{
	if (BN_RANGE_COUNT(word))
		m->refs[BN_RANGE_BASE(word)]++;
}

void sv_word_unref(struct bn_svcmap *m, uint64_t word)
{
	uint32_t base = BN_RANGE_BASE(word);

	if (!BN_RANGE_COUNT(word) || --m->refs[base])
		return;
	sv_range_disown(m, base, sv_range_len(m, word));
	sv_pend(m, (struct sv_pend){.what = SV_PEND_RANGE, .a = base, .n = sv_range_len(m, word)});
}

bool sv_word_set(struct bn_svcmap *m, uint32_t idx, int which, uint32_t base, uint32_t count)
{
	struct bn_svc *s = sv_svc(m, idx);
	__u64 *w = which ? &s->range_int : &s->range;
	uint64_t old = *w, new = BN_RANGE(base, count, (BN_RANGE_GEN(old) + 1) & 0xffff);

	if (BN_RANGE_BASE(old) == base && BN_RANGE_COUNT(old) == count)
		return false;
	sv_word_ref(m, new);
	/* Release: the slots, and a new record's other fields, are seen by whoever sees the word.
	 */
	__atomic_store_n(w, new, __ATOMIC_RELEASE);
	m->writes++;
	sv_word_unref(m, old);
	return true;
}

/* --- addresses ------------------------------------------------------------------------------- */

struct sv_addr *sv_addr_get(struct bn_svcmap *m, const struct bn_addr *addr)
{
	uint32_t hash = bn_hash_bytes(addr, sizeof(*addr));
	struct bn_hnode *n;
	struct sv_addr *a;

	for (n = bn_htab_first(&m->addrs, hash); n; n = bn_htab_next(n)) {
		a = bn_container(n, struct sv_addr, h);
		if (bn_addr_eq(&a->addr, addr))
			return a;
	}
	a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->addr = *addr;
	a->have = -1;
	if (bn_htab_add(&m->addrs, &a->h, hash) < 0) {
		free(a);
		return NULL;
	}
	return a;
}

int sv_addr_write(struct bn_svcmap *m, struct sv_addr *a)
{
	int want = a->refs[BN_FRONT_IDX_CLUSTERIP]  ? BN_FRONT_IDX_CLUSTERIP
		   : a->refs[BN_FRONT_IDX_EXTERNAL] ? BN_FRONT_IDX_EXTERNAL
						    : -1;
	struct bn_front_key key = {.addr = a->addr, .scope = BN_SCOPE_ADDR};
	struct bn_front_val val = {(uint32_t)want};
	int r = 0;

	if (want != a->have) {
		r = want < 0 ? sv_del(m, BN_MAP_fronts, &key)
			     : sv_put(m, BN_MAP_fronts, &key, &val);
		if (r < 0 && r != -ENOENT)
			return r;
		a->have = want;
	}
	if (want < 0) {
		bn_htab_del(&m->addrs, &a->h);
		free(a);
	}
	return 0;
}

int sv_addr_ref(struct bn_svcmap *m, const struct bn_addr *addr, bool external)
{
	struct sv_addr *a = sv_addr_get(m, addr);
	int r;

	if (!a)
		return -ENOMEM;
	a->refs[external]++;
	r = sv_addr_write(m, a);
	if (r < 0) {
		a->refs[external]--;
		if (a->have < 0 && !a->refs[!external])
			(void)sv_addr_write(m, a);
	}
	return r;
}

void sv_addr_unref(struct bn_svcmap *m, const struct bn_addr *addr, bool external)
{
	struct sv_addr *a = sv_addr_get(m, addr);

	if (!a)
		return;
	if (a->refs[external])
		a->refs[external]--;
	(void)sv_addr_write(m, a);
}

/* --- records, ports, owners, sets ------------------------------------------------------------- */

struct sv_rec *sv_rec_find(const struct bn_svcmap *m, const struct bn_front_key *key)
{
	uint32_t hash = bn_hash_bytes(key, sizeof(*key));
	struct bn_hnode *n;

	for (n = bn_htab_first(&m->recs, hash); n; n = bn_htab_next(n)) {
		struct sv_rec *r = bn_container(n, struct sv_rec, h);

		if (!memcmp(&sv_svc(m, r->idx)->key, key, sizeof(*key)))
			return r;
	}
	return NULL;
}

void sv_rec_link(struct sv_rec *r, struct bn_svc_owner *o)
{
	r->owner = o;
	sv_ns_add(o->ns, SV_RECORDS, 1);
	r->next = o->recs;
	r->prev = &o->recs;
	if (o->recs)
		o->recs->prev = &r->next;
	o->recs = r;
}

void sv_rec_unlink(struct bn_svcmap *m, struct sv_rec *r)
{
	sv_ns_sub(m, r->owner->ns, SV_RECORDS, 1);
	*r->prev = r->next;
	if (r->next)
		r->next->prev = r->prev;
	r->owner = NULL;
}

struct sv_rec *sv_rec_new(struct bn_svcmap *m, struct bn_svc_owner *o, uint32_t idx)
{
	const struct bn_front_key *key = &sv_svc(m, idx)->key;
	struct sv_rec *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->idx = idx;
	if (bn_htab_add(&m->recs, &r->h, bn_hash_bytes(key, sizeof(*key))) < 0) {
		free(r);
		return NULL;
	}
	m->by_idx[idx] = r;
	sv_rec_link(r, o);
	return r;
}

struct sv_port *sv_port_new(struct bn_svcmap *m, struct bn_svc_owner *o, uint32_t id,
			    const char *name, uint8_t type)
{
	struct sv_port *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->name = strdup(name);
	if (!p->name) {
		free(p);
		return NULL;
	}
	p->id = id;
	p->type = type;
	p->next = o->ports;
	o->ports = p;
	m->nports++;
	sv_ns_add(o->ns, SV_NAMES, 1);
	return p;
}

void sv_port_free(struct bn_svcmap *m, struct bn_svc_owner *o, struct sv_port *p)
{
	struct sv_port **at = &o->ports;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	free(p->name);
	free(p);
	m->nports--;
	sv_ns_sub(m, o->ns, SV_NAMES, 1);
}

void sv_owner_free(struct bn_svcmap *m, struct bn_svc_owner *o)
{
	while (o->ports)
		sv_port_free(m, o, o->ports);
	bn_htab_del(&m->owners, &o->h);
	sv_ns_put(m, o->ns);
	free(o->name);
	free(o);
}

void sv_src_key(uint32_t set, const struct bn_want_src *v, struct bn_src_key *ret)
{
	*ret = (struct bn_src_key){
		.prefixlen = 32 + v->prefix,
		.src_set = set,
		.addr = v->addr,
	};
}

struct sv_set *sv_set_find(const struct bn_svcmap *m, uint32_t id)
{
	struct bn_hnode *n;

	for (n = bn_htab_first(&m->sets, bn_hash_bytes(&id, sizeof(id))); n; n = bn_htab_next(n)) {
		struct sv_set *s = bn_container(n, struct sv_set, h);

		if (s->id == id)
			return s;
	}
	return NULL;
}

struct sv_set *sv_set_new(struct bn_svcmap *m, uint32_t id)
{
	struct sv_set *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->id = id;
	if (bn_htab_add(&m->sets, &s->h, bn_hash_bytes(&id, sizeof(id))) < 0) {
		free(s);
		return NULL;
	}
	return s;
}

void sv_set_free(struct bn_svcmap *m, struct sv_set *s)
{
	bn_htab_del(&m->sets, &s->h);
	free(s->v);
	free(s);
}
