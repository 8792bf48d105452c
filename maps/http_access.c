// SPDX-License-Identifier: MIT
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

#include "maps/http_access.h"
#include "maps/maps.h"
#include "maps/util.h"

static size_t words_at(const struct bn_http_image *i)
{
	return (BN_HTTP_CELLS_AT + i->ncells * sizeof(*i->cells) + 7) & ~(size_t)7;
}

static size_t image_bytes(const struct bn_http_image *i)
{
	return words_at(i) + i->nwords * sizeof(*i->words);
}

size_t bn_http_set_size(const struct bn_http_image *i)
{
	return (image_bytes(i) + BN_HTTP_PAGE - 1) / BN_HTTP_PAGE * BN_HTTP_PAGE;
}

static bool any_match(const struct bn_http_image *i, uint32_t set)
{
	for (uint64_t k = 0; k < i->tab->nwords; k++)
		if ((uint64_t)set * i->tab->nwords + k < i->nwords && i->words[(uint64_t)set * i->tab->nwords + k])
			return true;
	return false;
}

/* The whole set as one run of bytes, rounded up to pages. */
static int set_bytes(const struct bn_http_image *i, char **ret)
{
	size_t n = bn_http_set_size(i);
	struct bn_http_set head = {
		.magic = BN_HTTP_SET_MAGIC,
		.gen = i->gen,
		.bytes = (uint32_t)image_bytes(i),
		.ncells = (uint32_t)i->ncells,
		.words = (uint32_t)words_at(i),
		.nbits = (uint32_t)i->nwords,
		.stats = i->stats,
		.audited = i->stats ? i->stats + 1 + i->tab->nmatches : 0,
		.switches = any_match(i, i->tab->connect) || any_match(i, i->tab->upgrade),
		.digest = i->digest,
		.tab = *i->tab,
	};
	char *p;

	if (n > BN_HTTP_SET_BYTES_MAX)
		return -E2BIG;
	p = calloc(1, n);
	if (!p)
		return -ENOMEM;
	memcpy(p, &head, sizeof(head));
	if (i->ncells)
		memcpy(p + BN_HTTP_CELLS_AT, i->cells, i->ncells * sizeof(*i->cells));
	if (i->nwords)
		memcpy(p + head.words, i->words, i->nwords * sizeof(*i->words));
	*ret = p;
	return 0;
}

/* A map of the set's own; returns its descriptor. */
static int set_map(const struct bn_http_image *i)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_INNER_MAP);
	_cleanup_(freep) char *bytes = NULL;
	_cleanup_(closep) int fd = -1;
	uint32_t pages;
	int r = set_bytes(i, &bytes);

	if (r < 0)
		return r;
	pages = (uint32_t)(bn_http_set_size(i) / BN_HTTP_PAGE);
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "http_set", 4, BN_HTTP_PAGE, pages, &o);
	if (fd < 0)
		return -errno;
	for (uint32_t k = 0; k < pages; k++)
		if (bpf_map_update_elem(fd, &k, bytes + (size_t)k * BN_HTTP_PAGE, BPF_ANY) < 0)
			return -errno;
	return TAKE_FD(fd);
}

int bn_http_sets_put(const struct bn_maps *m, const uint32_t *ids, const struct bn_http_image *images, uint32_t n)
{
	_cleanup_(freep) int *fds = calloc(n ?: 1, sizeof(*fds));
	uint32_t made = 0;
	int r = 0;

	if (!fds)
		return -ENOMEM;
	for (; made < n; made++) {
		if (!ids[made] || ids[made] >= BN_HTTP_SETS || !images[made].gen)
			r = -EINVAL;
		else
			r = fds[made] = set_map(&images[made]);
		if (r < 0)
			break;
	}
	if (r >= 0)
		r = bn_map_put_batch(m, BN_MAP_http_sets, ids, fds, n, NULL);
	while (made)
		closep(&fds[--made]);
	return r < 0 ? r : 0;
}

int bn_http_set_del(const struct bn_maps *m, uint32_t id)
{
	int r = bn_map_del(m, BN_MAP_http_sets, &id);

	return r == -ENOENT ? 0 : r;
}

int bn_http_set_get(const struct bn_maps *m, uint32_t id, struct bn_http_set *ret)
{
	_cleanup_(freep) struct bn_http_page *page = malloc(sizeof(*page));
	_cleanup_(closep) int fd = -1;
	uint32_t inner, zero = 0;
	int r;

	if (!page)
		return -ENOMEM;
	r = bn_map_get(m, BN_MAP_http_sets, &id, &inner);
	if (r < 0)
		return r;
	fd = bpf_map_get_fd_by_id(inner);
	if (fd < 0)
		return -errno;
	if (bpf_map_lookup_elem(fd, &zero, page) < 0)
		return -errno;
	memcpy(ret, page, sizeof(*ret));
	return ret->magic == BN_HTTP_SET_MAGIC ? 0 : -EUCLEAN;
}

int bn_http_sets_each(const struct bn_maps *m, int (*fn)(uint32_t id, const struct bn_http_set *s, void *data),
		      void *data)
{
	for (uint32_t id = 1; id < m->entries[BN_MAP_http_sets]; id++) {
		struct bn_http_set s;
		int r = bn_http_set_get(m, id, &s);

		if (r == -ENOENT)
			continue;
		r = r == -EUCLEAN ? fn(id, NULL, data) : r ?: fn(id, &s, data);
		if (r)
			return r;
	}
	return 0;
}

uint64_t bn_http_stat(const struct bn_maps *m, uint32_t index)
{
	const uint64_t *v = bn_map_at(m, BN_MAP_http_stats, index);

	return v ? __atomic_load_n(v, __ATOMIC_RELAXED) : 0;
}

void bn_http_stat_clear(const struct bn_maps *m, uint32_t index)
{
	uint64_t *v = bn_map_at(m, BN_MAP_http_stats, index);

	if (v)
		__atomic_store_n(v, 0, __ATOMIC_RELAXED);
}

static int reason_counts(const struct bn_maps *m, uint32_t base, uint64_t ret[BN_HTTP__MAX])
{
	for (uint32_t i = 0; i < BN_HTTP__MAX; i++) {
		int r = bn_map_percpu_sum(m, BN_MAP_http_reasons, base + i, &ret[i]);

		if (r == -ENOENT) /* the map of an older version, which knew fewer */
			ret[i] = 0;
		else if (r < 0)
			return r;
	}
	return 0;
}

int bn_http_reason_counts(const struct bn_maps *m, uint64_t ret[BN_HTTP__MAX])
{
	return reason_counts(m, 0, ret);
}

int bn_http_audit_counts(const struct bn_maps *m, uint64_t ret[BN_HTTP__MAX])
{
	return reason_counts(m, BN_HTTP_AUDITED, ret);
}

struct bn_http_share bn_http_share_get(const struct bn_maps *m, uint32_t slot)
{
	const volatile struct bn_http_share *v = bn_map_at(m, BN_MAP_http_shares, slot);

	return v ? (struct bn_http_share){v->conns, v->blocks, v->refused_s, v->refused} : (struct bn_http_share){};
}

struct bn_gone {
	uint32_t slot;
	struct bn_http_key *keys;
	size_t n;
};

static int gone_one(const void *key, const void *val, void *data)
{
	const struct bn_http_conn *c = val;
	struct bn_gone *g = data;
	void *v;

	if (c->slot != g->slot)
		return 0;
	if (!(g->n & (g->n + 1))) { /* 0, 1, 3, 7, ... are full */
		v = reallocarray(g->keys, 2 * g->n + 1, sizeof(*g->keys));
		if (!v)
			return -ENOMEM;
		g->keys = v;
	}
	memcpy(&g->keys[g->n++], key, sizeof(*g->keys));
	return 0;
}

/* Whoever deletes an element counts it: a program may be doing the same. */
static void gone_drop(const struct bn_maps *m, struct bn_http_share *all, struct bn_http_share *own,
		      const struct bn_http_key *key)
{
	struct bn_http_block_key bk = {};
	struct bn_http_block b;
	struct bn_http_conn c;

	if (bn_map_get(m, BN_MAP_http_conns, key, &c) < 0 || bn_map_del(m, BN_MAP_http_conns, key) < 0)
		return;
	__atomic_sub_fetch(&all->conns, 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&own->conns, 1, __ATOMIC_RELAXED);
	bk.conn = c.id;
	bk.number = c.block_first;
	for (uint32_t n = c.nblocks; n && bn_map_get(m, BN_MAP_http_blocks, &bk, &b) == 0; n--) {
		if (bn_map_del(m, BN_MAP_http_blocks, &bk) == 0) {
			__atomic_sub_fetch(&all->blocks, 1, __ATOMIC_RELAXED);
			__atomic_sub_fetch(&own->blocks, 1, __ATOMIC_RELAXED);
		}
		bk.number = b.next;
	}
}

int bn_http_share_reset(const struct bn_maps *m, uint32_t slot)
{
	struct bn_http_share *all = bn_map_at(m, BN_MAP_http_shares, 0), *own = bn_map_at(m, BN_MAP_http_shares, slot);
	struct bn_gone g = {.slot = slot};
	int r = 0;

	if (!all || !own || !slot)
		return 0;
	__atomic_store_n(&own->refused_s, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&own->refused, 0, __ATOMIC_RELAXED);
	if (__atomic_load_n(&own->conns, __ATOMIC_RELAXED))
		r = bn_map_each(m, BN_MAP_http_conns, gone_one, &g);
	for (size_t k = 0; k < g.n; k++)
		gone_drop(m, all, own, &g.keys[k]);
	free(g.keys);
	return r;
}

int64_t bn_http_conns_count(const struct bn_maps *m)
{
	return bn_map_count(m, BN_MAP_http_conns);
}
