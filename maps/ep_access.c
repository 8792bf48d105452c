/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <sys/random.h>

#include "maps/ep_access.h"
#include "maps/maps.h"
#include "maps/reclaim.h"

/* So many indices go round together: addresses that come and go all the time then use the same few
 * pages of the map, in memory that stays, instead of walking through all of it.
 */
#define ROUND 256

#define POLICY_FLAGS (BN_ADDR_F_POD | BN_ADDR_F_NODE)
#define HOST_FLAGS   (BN_ADDR_F_HOST | BN_ADDR_F_NODEPORT)

/* Beside each element of eps, which holds the values itself: who owns what. */
struct side {
	uint8_t own;   /* bit per enum bn_eps_owner */
	uint8_t fresh; /* of these, set since the start and not only adopted */
	uint8_t polflags, hostflags;
};

_Static_assert(sizeof(struct bn_ep) % 8 == 0, "elements of a mapped array are 8 bytes apart");

struct bn_eps {
	struct bn_maps *maps;
	struct bn_ep *eps; /* the map itself; mapped up to the highest index given out */
	struct side *side;
	uint32_t entries;
	uint32_t *table; /* open addressing: index of eps, 0 is free */
	uint32_t mask;
	size_t count;
	uint32_t *freed, nfree;	 /* stack: may be given out */
	uint32_t *limbo, nlimbo; /* a reader may still hold these */
	struct bn_reclaim *reclaim;
	uint64_t ticket;  /* of the grace period of the first nsealed in limbo; 0: none asked for */
	uint32_t nsealed;
	uint64_t seed[2];
	uint64_t writes;
};

/* Addresses come from objects that anybody may have written: the hash is keyed. */
static uint32_t hash(const struct bn_eps *e, const struct bn_addr *a)
{
	uint64_t w[2], h;

	memcpy(w, a, sizeof(w));
	h = (w[0] ^ e->seed[0]) * 0x9e3779b97f4a7c15ull;
	h ^= h >> 32;
	h = (h ^ w[1] ^ e->seed[1]) * 0xff51afd7ed558ccdull;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ull;
	return h >> 32;
}

static uint32_t find(const struct bn_eps *e, const struct bn_addr *a)
{
	uint32_t i;

	for (i = hash(e, a) & e->mask; e->table[i]; i = (i + 1) & e->mask)
		if (bn_addr_eq(&e->eps[e->table[i]].addr, a))
			return e->table[i];
	return 0;
}

static void table_put(struct bn_eps *e, uint32_t idx)
{
	uint32_t i = hash(e, &e->eps[idx].addr) & e->mask;

	while (e->table[i])
		i = (i + 1) & e->mask;
	e->table[i] = idx;
}

static int table_grow(struct bn_eps *e)
{
	uint32_t old = e->mask + 1, size = e->table ? old * 2 : 1024, *t = e->table, i;

	if (e->table && (e->count + 1) * 2 < old)
		return 0;
	e->table = calloc(size, sizeof(*e->table));
	if (!e->table) {
		e->table = t;
		return -ENOMEM;
	}
	e->mask = size - 1;
	for (i = 0; t && i < old; i++)
		if (t[i])
			table_put(e, t[i]);
	free(t);
	return 0;
}

/* Linear probing without tombstones: what follows moves up when its home allows. */
static void table_del(struct bn_eps *e, uint32_t idx)
{
	uint32_t i = hash(e, &e->eps[idx].addr) & e->mask, j, home;

	while (e->table[i] != idx)
		i = (i + 1) & e->mask;
	for (j = (i + 1) & e->mask; e->table[j]; j = (j + 1) & e->mask) {
		home = hash(e, &e->eps[e->table[j]].addr) & e->mask;
		if (((j - home) & e->mask) >= ((j - i) & e->mask)) {
			e->table[i] = e->table[j];
			i = j;
		}
	}
	e->table[i] = 0;
}

/* The first n in limbo may be given out. */
static void limbo_end(struct bn_eps *e, uint32_t n)
{
	memcpy(e->freed + e->nfree, e->limbo, n * sizeof(*e->limbo));
	e->nfree += n;
	e->nlimbo -= n;
	memmove(e->limbo, e->limbo + n, e->nlimbo * sizeof(*e->limbo));
	e->ticket = 0;
}

static int index_alloc(struct bn_eps *e, uint32_t *ret)
{
	int r;

	if (e->ticket && bn_reclaim_done(e->reclaim, e->ticket))
		limbo_end(e, e->nsealed);
	if (!e->nfree && e->nlimbo) {
		r = bn_maps_grace();
		if (r < 0)
			return r;
		limbo_end(e, e->nlimbo);
	}
	if (!e->ticket && e->nlimbo >= ROUND) {
		e->nsealed = e->nlimbo;
		e->ticket = bn_reclaim_ask(e->reclaim);
	}
	if (!e->nfree)
		return -ENOSPC;
	*ret = e->freed[e->nfree - 1];
	if (!bn_map_at(e->maps, BN_MAP_eps, *ret))
		return -ENOMEM;
	e->nfree--;
	return 0;
}

static uint32_t default_identity(const struct side *s)
{
	if (s->own & 1 << BN_EPS_HOST)
		return BN_ID_HOST;
	return BN_ID_UNKNOWN;
}

static uint16_t flags_of(const struct side *s)
{
	uint16_t f = 0;

	if (s->own & 1 << BN_EPS_IDENTITY)
		f |= s->polflags;
	if (s->own & 1 << BN_EPS_HOST)
		f |= s->hostflags;
	if (s->own & 1 << BN_EPS_LOCAL)
		f |= BN_ADDR_F_POD;
	return f;
}

static void store_word(struct bn_eps *e, struct bn_ep *ep, uint64_t word)
{
	if (ep->word == word)
		return;
	__atomic_store_n(&ep->word, word, __ATOMIC_RELEASE);
	e->writes++;
}

static void store_flags(struct bn_eps *e, struct bn_ep *ep, uint16_t flags)
{
	if (ep->flags == flags)
		return;
	__atomic_store_n(&ep->flags, flags, __ATOMIC_RELEASE);
	e->writes++;
}

/* A new index for want->addr, complete before the hash names it. old: the index that it replaces.
 */
static int publish(struct bn_eps *e, const struct bn_ep *want, const struct side *s, uint32_t old)
{
	uint32_t idx;
	int r;

	r = table_grow(e);
	if (r < 0)
		return r;
	r = index_alloc(e, &idx);
	if (r < 0)
		return r;
	e->eps[idx] = *want;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	r = bn_map_put(e->maps, BN_MAP_addrs, &want->addr, &idx);
	if (r < 0) {
		e->freed[e->nfree++] = idx;
		return r == -E2BIG ? -ENOSPC : r;
	}
	e->writes += 2;
	if (old) {
		table_del(e, old);
		e->side[old] = (struct side){};
		e->limbo[e->nlimbo++] = old;
	} else {
		e->count++;
	}
	e->side[idx] = *s;
	table_put(e, idx);
	return 0;
}

static int unpublish(struct bn_eps *e, uint32_t idx)
{
	struct bn_ep *ep = &e->eps[idx];
	int r;

	r = bn_map_del(e->maps, BN_MAP_addrs, &ep->addr);
	if (r < 0 && r != -ENOENT)
		return r;
	e->writes++;
	table_del(e, idx);
	e->side[idx] = (struct side){};
	e->limbo[e->nlimbo++] = idx;
	e->count--;
	return 0;
}

/* Brings the element of an address to what side s and the wanted fields say. */
static int apply(struct bn_eps *e, uint32_t idx, const struct bn_ep *want, const struct side *s)
{
	struct bn_ep *ep = &e->eps[idx];

	if (!idx)
		return publish(e, want, s, 0);
	/* A reader that has seen the slot goes on to ifindex and mac: they never change under it.
	 */
	if (BN_EP_SLOT(ep->word) && BN_EP_SLOT(want->word) &&
	    (ep->ifindex != want->ifindex || memcmp(ep->mac, want->mac, sizeof(ep->mac)) ||
	     BN_EP_SLOT(ep->word) != BN_EP_SLOT(want->word)))
		return publish(e, want, s, idx);
	if (BN_EP_SLOT(want->word) && !BN_EP_SLOT(ep->word)) {
		if (e->side[idx].own & 1 << BN_EPS_LOCAL || ep->ifindex)
			return publish(e, want, s, idx);
		ep->ifindex = want->ifindex;
		memcpy(ep->mac, want->mac, sizeof(ep->mac));
		e->writes++;
	}
	store_flags(e, ep, want->flags);
	store_word(e, ep, want->word);
	e->side[idx] = *s;
	return 0;
}

static void load(const struct bn_eps *e, const struct bn_addr *a, uint32_t idx, struct bn_ep *ep,
		 struct side *s)
{
	*ep = (struct bn_ep){.addr = *a};
	*s = (struct side){};
	if (!idx)
		return;
	*ep = e->eps[idx];
	*s = e->side[idx];
}

int bn_eps_set_identity(struct bn_eps *e, const struct bn_addr *a, uint32_t identity,
			uint16_t flags)
{
	uint32_t idx = find(e, a);
	struct bn_ep want;
	struct side s;

	if (identity == BN_ID_UNKNOWN || flags & ~POLICY_FLAGS || bn_addr_is_zero(a))
		return -EINVAL;
	load(e, a, idx, &want, &s);
	s.own |= 1 << BN_EPS_IDENTITY;
	s.fresh |= 1 << BN_EPS_IDENTITY;
	s.polflags = flags;
	want.word = BN_EP_WORD(identity, BN_EP_SLOT(want.word));
	want.flags = flags_of(&s);
	return apply(e, idx, &want, &s);
}

int bn_eps_set_local(struct bn_eps *e, const struct bn_addr *a, const struct bn_ep_local *l)
{
	uint32_t idx = find(e, a);
	struct bn_ep want;
	struct side s;

	if (!l->slot || !l->ifindex || bn_addr_is_zero(a))
		return -EINVAL;
	load(e, a, idx, &want, &s);
	s.own |= 1 << BN_EPS_LOCAL;
	s.fresh |= 1 << BN_EPS_LOCAL;
	want.word = BN_EP_WORD(BN_EP_IDENTITY(want.word), l->slot);
	want.ifindex = l->ifindex;
	memcpy(want.mac, l->mac, sizeof(want.mac));
	want.flags = flags_of(&s);
	return apply(e, idx, &want, &s);
}

int bn_eps_set_host(struct bn_eps *e, const struct bn_addr *a, bool nodeport)
{
	uint32_t idx = find(e, a);
	struct bn_ep want;
	struct side s;

	if (bn_addr_is_zero(a))
		return -EINVAL;
	load(e, a, idx, &want, &s);
	s.own |= 1 << BN_EPS_HOST;
	s.fresh |= 1 << BN_EPS_HOST;
	s.hostflags = BN_ADDR_F_HOST | (nodeport ? BN_ADDR_F_NODEPORT : 0);
	if (!(s.own & 1 << BN_EPS_IDENTITY))
		want.word = BN_EP_WORD(default_identity(&s), BN_EP_SLOT(want.word));
	want.flags = flags_of(&s);
	return apply(e, idx, &want, &s);
}

static int clear(struct bn_eps *e, uint32_t idx, enum bn_eps_owner owner)
{
	struct bn_ep want = e->eps[idx];
	struct side s = e->side[idx];

	if (!(s.own & 1 << owner))
		return 0;
	s.own &= ~(1 << owner);
	s.fresh &= ~(1 << owner);
	if (!s.own)
		return unpublish(e, idx);
	if (owner == BN_EPS_LOCAL)
		want.word = BN_EP_WORD(BN_EP_IDENTITY(want.word), 0);
	if (!(s.own & 1 << BN_EPS_IDENTITY))
		want.word = BN_EP_WORD(default_identity(&s), BN_EP_SLOT(want.word));
	want.flags = flags_of(&s);
	return apply(e, idx, &want, &s);
}

int bn_eps_clear(struct bn_eps *e, const struct bn_addr *a, enum bn_eps_owner owner)
{
	uint32_t idx = find(e, a);

	return idx ? clear(e, idx, owner) : 0;
}

int bn_eps_settle(struct bn_eps *e, enum bn_eps_owner owner)
{
	int r, err = 0;
	uint32_t i;

	for (i = 1; i < e->entries; i++) {
		const struct side *s = &e->side[i];

		if (!(s->own & 1 << owner) || s->fresh & 1 << owner)
			continue;
		r = clear(e, i, owner);
		if (r < 0)
			err = err ?: r;
	}
	return err;
}

int bn_eps_get(const struct bn_eps *e, const struct bn_addr *a, struct bn_ep *ret)
{
	uint32_t idx = find(e, a);

	if (!idx)
		return -ENOENT;
	*ret = e->eps[idx];
	return 0;
}

bool bn_eps_owns(const struct bn_eps *e, const struct bn_addr *a, enum bn_eps_owner owner)
{
	uint32_t idx = find(e, a);

	return idx && e->side[idx].own & 1 << owner;
}

int bn_eps_each(const struct bn_eps *e, int (*fn)(const struct bn_ep *ep, void *data), void *data)
{
	uint32_t i;
	int r;

	for (i = 1; i < e->entries; i++) {
		if (!e->side[i].own)
			continue;
		r = fn(&e->eps[i], data);
		if (r)
			return r;
	}
	return 0;
}

size_t bn_eps_count(const struct bn_eps *e)
{
	return e->count;
}

uint64_t bn_eps_writes(const struct bn_eps *e)
{
	return e->writes;
}

/* Who owned what follows from the values: no owner's fields are ever all at their defaults. */
static void adopt_one(struct bn_eps *e, uint32_t idx)
{
	const struct bn_ep *ep = &e->eps[idx];
	struct side *s = &e->side[idx];

	if (ep->flags & BN_ADDR_F_HOST) {
		s->own |= 1 << BN_EPS_HOST;
		s->hostflags = ep->flags & HOST_FLAGS;
	}
	if (BN_EP_SLOT(ep->word))
		s->own |= 1 << BN_EPS_LOCAL;
	if (BN_EP_IDENTITY(ep->word) != default_identity(s) ||
	    ep->flags & (BN_EP_SLOT(ep->word) ? BN_ADDR_F_NODE : POLICY_FLAGS)) {
		s->own |= 1 << BN_EPS_IDENTITY;
		s->polflags = ep->flags & POLICY_FLAGS;
	}
	if (!s->own) /* cannot be told whose: it goes when the endpoints have settled */
		s->own = 1 << BN_EPS_LOCAL;
	e->count++;
	table_put(e, idx);
}

static int adopt_elem(const void *key, const void *val, void *data)
{
	struct bn_eps *e = data;
	uint32_t idx = *(const uint32_t *)val;
	int r;

	if (idx && bn_map_at(e->maps, BN_MAP_eps, idx) && bn_addr_eq(&e->eps[idx].addr, key)) {
		if (e->side[idx].own)
			return 0; /* a walk may show an element twice */
		r = table_grow(e);
		if (!r)
			adopt_one(e, idx);
		return r;
	}
	e->writes++;
	r = bn_map_del(e->maps, BN_MAP_addrs, key);
	return r == -ENOENT ? 0 : r;
}

static int adopt(struct bn_eps *e)
{
	uint32_t i;
	int r;

	r = bn_map_each(e->maps, BN_MAP_addrs, adopt_elem, e);
	if (r < 0)
		return r;
	for (i = e->entries - 1; i; i--) /* low indices are given out first */
		if (!e->side[i].own)
			e->freed[e->nfree++] = i;
	return 0;
}

int bn_eps_new(struct bn_maps *maps, struct bn_eps **ret)
{
	_cleanup_(bn_eps_freep) struct bn_eps *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	e->maps = maps;
	e->eps = maps->mem[BN_MAP_eps];
	e->entries = maps->entries[BN_MAP_eps];
	if (!e->eps || e->entries < 2)
		return -EINVAL;
	e->side = calloc(e->entries, sizeof(*e->side));
	e->freed = calloc(e->entries, sizeof(*e->freed));
	e->limbo = calloc(e->entries, sizeof(*e->limbo));
	if (!e->side || !e->freed || !e->limbo)
		return -ENOMEM;
	if (getrandom(e->seed, sizeof(e->seed), 0) != sizeof(e->seed))
		return -EIO;
	r = table_grow(e) ?: bn_reclaim_new(&e->reclaim);
	if (r < 0)
		return r;
	/* An index that a daemon freed the moment before it died may still be read. */
	r = bn_maps_grace();
	if (r < 0)
		return r;
	r = adopt(e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(e);
	return 0;
}

void bn_eps_freep(struct bn_eps **e)
{
	if (!*e)
		return;
	freep(&(*e)->side);
	freep(&(*e)->table);
	freep(&(*e)->freed);
	freep(&(*e)->limbo);
	bn_reclaim_freep(&(*e)->reclaim);
	freep(e);
}
