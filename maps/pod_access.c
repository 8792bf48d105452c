/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "maps/http_access.h"
#include "maps/maps.h"
#include "maps/pod_access.h"

struct iface {
	uint32_t ifindex; /* 0: free */
	struct bn_iface v;
};

struct bn_pods {
	struct bn_maps *maps;
	struct bn_pod_slot *slots; /* the map itself */
	uint32_t entries;
	uint8_t *state; /* per slot: enum slot_state */
	struct iface *ifs;
	size_t nifs, aifs;
	size_t used;
	uint32_t next; /* where the search for a free slot begins: low numbers first */
	bool have_limbo;
	uint64_t writes;
};

_Static_assert(sizeof(struct bn_pod_slot) % 8 == 0, "elements of a mapped array are 8 bytes apart");

enum slot_state {
	SLOT_FREE,
	SLOT_USED,
	SLOT_LIMBO, /* given back: a reader may still hold it */
};

static struct iface *find(const struct bn_pods *p, uint32_t ifindex)
{
	size_t lo = 0, hi = p->nifs;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (p->ifs[mid].ifindex == ifindex)
			return &p->ifs[mid];
		if (p->ifs[mid].ifindex < ifindex)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static int insert(struct bn_pods *p, uint32_t ifindex, const struct bn_iface *v)
{
	size_t at = p->nifs;

	if (p->nifs == p->aifs) {
		size_t n = p->aifs * 2 + 32;
		struct iface *ifs = realloc(p->ifs, n * sizeof(*ifs));

		if (!ifs)
			return -ENOMEM;
		p->ifs = ifs;
		p->aifs = n;
	}
	while (at && p->ifs[at - 1].ifindex > ifindex)
		at--;
	memmove(&p->ifs[at + 1], &p->ifs[at], (p->nifs - at) * sizeof(*p->ifs));
	p->ifs[at] = (struct iface){ifindex, *v};
	p->nifs++;
	return 0;
}

int bn_pods_iface(const struct bn_pods *p, uint32_t ifindex, struct bn_iface *ret)
{
	struct iface *i = find(p, ifindex);

	if (!i)
		return -ENOENT;
	*ret = i->v;
	return 0;
}

int bn_pods_each_iface(const struct bn_pods *p,
		       int (*fn)(uint32_t ifindex, const struct bn_iface *i, void *data),
		       void *data)
{
	size_t i;
	int r;

	for (i = 0; i < p->nifs; i++) {
		r = fn(p->ifs[i].ifindex, &p->ifs[i].v, data);
		if (r)
			return r;
	}
	return 0;
}

int bn_pods_set_iface(struct bn_pods *p, uint32_t ifindex, const struct bn_iface *v)
{
	struct iface *i = find(p, ifindex);
	struct bn_iface want = *v;
	int r;

	if (!ifindex || want.slot >= p->entries)
		return -EINVAL;
	want.ifindex = ifindex;
	if (i && !memcmp(&i->v, &want, sizeof(want)))
		return 0;
	r = bn_map_put(p->maps, BN_MAP_ifaces, &ifindex, &want);
	if (r < 0)
		return r == -E2BIG ? -ENOSPC : r;
	p->writes++;
	if (i) {
		i->v = want;
		return 0;
	}
	r = insert(p, ifindex, &want);
	if (r < 0)
		bn_map_del(p->maps, BN_MAP_ifaces, &ifindex);
	return r;
}

int bn_pods_del_iface(struct bn_pods *p, uint32_t ifindex)
{
	struct iface *i = find(p, ifindex);
	int r;

	if (!i)
		return 0;
	r = bn_map_del(p->maps, BN_MAP_ifaces, &ifindex);
	if (r < 0 && r != -ENOENT)
		return r;
	p->writes++;
	memmove(i, i + 1, (char *)(p->ifs + p->nifs) - (char *)(i + 1));
	p->nifs--;
	return 0;
}

/* Everything that was given back becomes free after one grace period. */
static int reclaim(struct bn_pods *p)
{
	uint32_t s;
	int r;

	if (!p->have_limbo)
		return -ENOSPC;
	r = bn_maps_grace();
	if (r < 0)
		return r;
	for (s = 1; s < p->entries; s++)
		if (p->state[s] == SLOT_LIMBO)
			p->state[s] = SLOT_FREE;
	p->have_limbo = false;
	p->next = 1;
	return 0;
}

static void store32(struct bn_pods *p, uint32_t *at, uint32_t v)
{
	if (*at == v)
		return;
	__atomic_store_n(at, v, __ATOMIC_RELEASE);
	p->writes++;
}

int bn_pods_alloc(struct bn_pods *p, uint32_t ifindex, uint32_t *ret)
{
	struct bn_pod_slot *s;
	int r;

	for (;;) {
		while (p->next < p->entries && p->state[p->next] != SLOT_FREE)
			p->next++;
		if (p->next < p->entries)
			break;
		r = reclaim(p);
		if (r < 0)
			return r;
	}
	s = &p->slots[p->next];
	if (s->word) {
		__atomic_store_n(&s->word, 0, __ATOMIC_RELEASE);
		p->writes++;
	}
	(void)bn_http_share_reset(p->maps, p->next);
	store32(p, &s->spare, 0);
	store32(p, &s->ifindex, ifindex);
	p->state[p->next] = SLOT_USED;
	p->used++;
	*ret = p->next++;
	return 0;
}

void bn_pods_release(struct bn_pods *p, uint32_t slot)
{
	if (!slot || slot >= p->entries || p->state[slot] != SLOT_USED)
		return;
	p->state[slot] = SLOT_LIMBO;
	p->have_limbo = true;
	p->used--;
}

static void store_addr(struct bn_pods *p, struct bn_addr *at, const struct bn_addr *v)
{
	static const struct bn_addr none;

	v = v ?: &none;
	if (bn_addr_eq(at, v))
		return;
	*at = *v;
	p->writes++;
}

void bn_pods_set_node(struct bn_pods *p, const struct bn_addr *v4, const struct bn_addr *v6)
{
	struct bn_state *s = p->maps->mem[BN_MAP_state];

	store_addr(p, &s->node4, v4);
	store_addr(p, &s->node6, v6);
}

size_t bn_pods_used(const struct bn_pods *p)
{
	return p->used;
}

uint64_t bn_pods_writes(const struct bn_pods *p)
{
	return p->writes;
}

/* A slot whose own interface is gone is nobody's: seen when the first of a pod's interfaces went
 * and the daemon died before it moved the pod. The walk is in no order, so this is checked
 * afterwards.
 */
static int adopt_elem(const void *key, const void *val, void *data)
{
	const struct bn_iface *v = val;
	uint32_t ifindex = *(const uint32_t *)key;
	struct bn_pods *p = data;
	bool ok;

	if (find(p, ifindex))
		return 0;
	ok = v->ifindex == ifindex && ifindex && v->slot < p->entries && v->role < BN_ROLE__MAX;
	if (!ok) {
		p->writes++;
		bn_map_del(p->maps, BN_MAP_ifaces, key);
		return 0;
	}
	return insert(p, ifindex, v);
}

static void adopt_slots(struct bn_pods *p)
{
	size_t i;

	for (i = 0; i < p->nifs; i++) {
		uint32_t s = p->ifs[i].v.slot;

		if (s && p->slots[s].ifindex == p->ifs[i].ifindex && p->state[s] == SLOT_FREE) {
			p->state[s] = SLOT_USED;
			p->used++;
		}
	}
	for (i = 0; i < p->nifs; i++) {
		struct bn_iface v = p->ifs[i].v;

		if (!v.slot || p->state[v.slot] == SLOT_USED)
			continue;
		v.slot = 0;
		bn_pods_set_iface(p, p->ifs[i].ifindex, &v);
	}
}

int bn_pods_new(struct bn_maps *maps, struct bn_pods **ret)
{
	_cleanup_(bn_pods_freep) struct bn_pods *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->maps = maps;
	p->slots = maps->mem[BN_MAP_pods];
	p->entries = maps->entries[BN_MAP_pods];
	p->next = 1;
	if (!p->slots || p->entries < 2)
		return -EINVAL;
	p->state = calloc(p->entries, 1);
	if (!p->state)
		return -ENOMEM;
	r = bn_map_each(maps, BN_MAP_ifaces, adopt_elem, p);
	if (r < 0)
		return r;
	adopt_slots(p);
	*ret = TAKE_PTR(p);
	return 0;
}

void bn_pods_freep(struct bn_pods **p)
{
	if (!*p)
		return;
	freep(&(*p)->state);
	freep(&(*p)->ifs);
	freep(p);
}
