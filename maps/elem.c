// SPDX-License-Identifier: MIT
/* Elements of the shared maps: the only generic access; see maps/maps.h. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/mman.h>

#include "maps/maps.h"
#include "maps/util.h"

#define WALK_BATCH 4096
#define WALK_BYTES (512u << 10) /* of memory, where values are large */

void *bn_map_at(const struct bn_maps *m, enum bn_map map, uint32_t idx)
{
	size_t end = (idx + (size_t)1) * BN_MAP_STRIDE(map);

	if (!m->mem[map] || idx >= m->entries[map])
		return NULL;
	if (end > m->mapped[map] && bn_map_extend(m, map, end) < 0)
		return NULL;
	return (char *)m->mem[map] + idx * BN_MAP_STRIDE(map);
}

int bn_map_get(const struct bn_maps *m, enum bn_map map, const void *key, void *ret)
{
	return bpf_map_lookup_elem(m->fd[map], key, ret) < 0 ? -errno : 0;
}

int bn_map_put(const struct bn_maps *m, enum bn_map map, const void *key, const void *val)
{
	return bpf_map_update_elem(m->fd[map], key, val, BPF_ANY) < 0 ? -errno : 0;
}

int bn_map_del(const struct bn_maps *m, enum bn_map map, const void *key)
{
	return bpf_map_delete_elem(m->fd[map], key) < 0 ? -errno : 0;
}

/* ENOTSUPP, the kernel's own 524, is what maps without batch operations answer. */
static bool no_batch(int err)
{
	return err == ENOTSUP || err == 524 || err == EINVAL;
}

int bn_map_put_batch(const struct bn_maps *m, enum bn_map map, const void *keys, const void *vals,
		     uint32_t n, uint32_t *done)
{
	const struct bn_map_def *d = &bn_map_defs[map];
	uint32_t i = 0, count;
	int r = 0;

	while (i < n) {
		const char *k = (const char *)keys + (size_t)i * d->key_size;
		const char *v = (const char *)vals + (size_t)i * d->value_size;

		count = n - i;
		r = bpf_map_update_batch(m->fd[map], k, v, &count, NULL) < 0 ? -errno : 0;
		if (!r) {
			i = n;
			break;
		}
		if (no_batch(-r) || count > n - i)
			count = 0;
		i += count;
		if (i == n)
			break;
		/* The element that the batch stopped at, alone: it says what is wrong with it. */
		k = (const char *)keys + (size_t)i * d->key_size;
		v = (const char *)vals + (size_t)i * d->value_size;
		r = bn_map_put(m, map, k, v);
		if (r < 0)
			break;
		i++;
	}
	if (done)
		*done = i;
	return i == n ? 0 : r;
}

int bn_map_del_batch(const struct bn_maps *m, enum bn_map map, const void *keys, uint32_t n,
		     uint32_t *done)
{
	const struct bn_map_def *d = &bn_map_defs[map];
	uint32_t i = 0, gone = 0, count;
	int r = 0;

	while (i < n) {
		const char *k = (const char *)keys + (size_t)i * d->key_size;

		count = n - i;
		r = bpf_map_delete_batch(m->fd[map], k, &count, NULL) < 0 ? -errno : 0;
		if (!r) {
			gone += n - i;
			i = n;
			break;
		}
		if (no_batch(-r) || count > n - i)
			count = 0;
		i += count;
		gone += count;
		if (i == n)
			break;
		r = bn_map_del(m, map, (const char *)keys + (size_t)i * d->key_size);
		if (r < 0 && r != -ENOENT)
			break;
		gone += !r;
		i++;
	}
	if (done)
		*done = gone;
	return i == n ? 0 : r;
}

struct walk {
	char *keys, *vals;
	uint32_t n;
};

static void walk_done(struct walk *w)
{
	free(w->keys);
	free(w->vals);
}

static int walk_room(struct walk *w, const struct bn_map_def *d, uint32_t n)
{
	walk_done(w);
	w->keys = calloc(n, d->key_size);
	w->vals = calloc(n, d->value_size);
	w->n = n;
	return w->keys && w->vals ? 0 : -ENOMEM;
}

/* A batch of a hash ends at a bucket's end: ENOSPC says that not even one bucket had room. */
static int walk_batches(const struct bn_maps *m, enum bn_map map, struct walk *w, bn_map_fn fn,
			void *data)
{
	const struct bn_map_def *d = &bn_map_defs[map];
	char cursor[64] = {}; /* hash: a bucket number; LPM and arrays: a key */
	bool first = true, last = false;
	int r;

	while (!last) {
		uint32_t count = w->n;

		r = bpf_map_lookup_batch(m->fd[map], first ? NULL : cursor, cursor, w->keys, w->vals,
					 &count, NULL);
		r = r < 0 ? -errno : 0;
		if (r == -ENOSPC) {
			r = walk_room(w, d, w->n * 2);
			if (r < 0)
				return r;
			continue;
		}
		last = r == -ENOENT;
		if (r < 0 && !last)
			return first && no_batch(-r) ? -EOPNOTSUPP : r;
		first = false;
		for (uint32_t i = 0; i < count; i++) {
			r = fn(w->keys + (size_t)i * d->key_size, w->vals + (size_t)i * d->value_size,
			       data);
			if (r)
				return r;
		}
	}
	return 0;
}

/* An array that can be mapped, read in place: a tenth of what the copies of a batch cost. Mapped for the walk alone,
 * because what stays mapped counts as this process's memory.
 */
static int walk_memory(const struct bn_maps *m, enum bn_map map, bn_map_fn fn, void *data)
{
	size_t size = (size_t)m->entries[map] * BN_MAP_STRIDE(map);
	char *p = mmap(NULL, size, PROT_READ, MAP_SHARED, m->fd[map], 0);
	int r = 0;

	if (p == MAP_FAILED)
		return -errno;
	for (uint32_t i = 0; i < m->entries[map] && !r; i++)
		r = fn(&i, p + (size_t)i * BN_MAP_STRIDE(map), data);
	munmap(p, size);
	return r;
}

int bn_map_each(const struct bn_maps *m, enum bn_map map, bn_map_fn fn, void *data)
{
	const struct bn_map_def *d = &bn_map_defs[map];
	_cleanup_(walk_done) struct walk w = {};
	uint32_t n = WALK_BYTES / (d->key_size + d->value_size + 1);
	int r;

	if (!d->key_size || d->key_size > 64 || d->type == BPF_MAP_TYPE_PERCPU_ARRAY)
		return -EINVAL;
	if (m->mem[map])
		return walk_memory(m, map, fn, data);
	r = walk_room(&w, d, n > WALK_BATCH ? WALK_BATCH : n < 64 ? 64 : n);
	if (r < 0)
		return r;
	return walk_batches(m, map, &w, fn, data);
}

static int count_one(const void *key _unused_, const void *val _unused_, void *data)
{
	++*(int64_t *)data;
	return 0;
}

int64_t bn_map_count(const struct bn_maps *m, enum bn_map map)
{
	int64_t n = 0;
	int r = bn_map_each(m, map, count_one, &n);

	return r < 0 ? r : n;
}

int bn_map_percpu_sum(const struct bn_maps *m, enum bn_map map, uint32_t idx, uint64_t *sum)
{
	const struct bn_map_def *d = &bn_map_defs[map];
	_cleanup_(freep) uint64_t *all = NULL;
	size_t words = d->value_size / 8;
	int ncpus = libbpf_num_possible_cpus();
	int r;

	if (ncpus < 0)
		return ncpus;
	if (d->type != BPF_MAP_TYPE_PERCPU_ARRAY || d->value_size % 8)
		return -EINVAL;
	all = calloc(ncpus, d->value_size);
	if (!all)
		return -ENOMEM;
	r = bn_map_get(m, map, &idx, all);
	if (r < 0)
		return r;
	memset(sum, 0, d->value_size);
	for (int c = 0; c < ncpus; c++)
		for (size_t w = 0; w < words; w++)
			sum[w] += all[c * words + w];
	return 0;
}

uint64_t bn_map_memory(const struct bn_maps *m, enum bn_map map)
{
	_cleanup_(fclosep) FILE *f = NULL;
	unsigned long long v = 0;
	char path[64], line[256];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", m->fd[map]);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "memlock: %llu", &v) == 1)
			break;
	return v;
}
