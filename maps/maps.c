// SPDX-License-Identifier: MIT
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "maps/maps.h"
#include "maps/util.h"
#include "maps.skel.h"

const struct bn_map_def bn_map_defs[BN_MAP__MAX] = {
#define X(name_, type_, key_, val_, entries_, flags_)                                              \
	[BN_MAP_##name_] = {#name_, BPF_MAP_TYPE_##type_, sizeof(key_), sizeof(val_), entries_,    \
			    flags_},
	BN_MAP_LIST(X)
#undef X
	[BN_MAP_events] = {"events", BPF_MAP_TYPE_RINGBUF, 0, 0, BN_EVENTS_BYTES, 0},
	[BN_MAP_http_sets] = {"http_sets", BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, BN_HTTP_SETS, 0},
};

static void maps_bpf_freep(struct maps_bpf **s)
{
	maps_bpf__destroy(*s);
	*s = NULL;
}

static size_t mem_bytes(const struct bn_maps *m, enum bn_map map)
{
	size_t page = sysconf(_SC_PAGESIZE);

	return (m->entries[map] * BN_MAP_STRIDE(map) + page - 1) / page * page;
}

/* Whose users index mem themselves. */
static bool map_in_full(enum bn_map map)
{
	return map == BN_MAP_state || map == BN_MAP_pods;
}

#define MAP_STEP ((size_t)16 * 1024)

int bn_map_extend(const struct bn_maps *m, enum bn_map map, size_t bytes)
{
	size_t have = m->mapped[map], all = mem_bytes(m, map);
	/* By a quarter at least: few calls on the way to a large map, little memory for a small one. */
	size_t least = bytes < have + have / 4 ? have + have / 4 : bytes;
	size_t want = (least + MAP_STEP - 1) / MAP_STEP * MAP_STEP;
	int prot = PROT_READ | (m->writable ? PROT_WRITE : 0);

	want = want < all ? want : all;
	if (bytes <= have || want <= have)
		return 0;
	if (mmap((char *)m->mem[map] + have, want - have, prot, MAP_SHARED | MAP_FIXED, m->fd[map],
		 (off_t)have) == MAP_FAILED)
		return -errno;
	m->mapped[map] = want;
	return 0;
}

/* BN_PAGES is the same flag for the alignment alone; the kernel maps nothing that holds a lock. */
static bool map_is_mapped(enum bn_map map)
{
	return bn_map_defs[map].flags & BPF_F_MMAPABLE && map != BN_MAP_ct && map != BN_MAP_ct_heads;
}

/* Takes the addresses; the memory comes as it is asked for. */
static int map_memory(struct bn_maps *m, enum bn_map map)
{
	void *p;

	if (!map_is_mapped(map))
		return 0;
	p = mmap(NULL, mem_bytes(m, map), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	m->mem[map] = p;
	return bn_map_extend(m, map, map_in_full(map) ? mem_bytes(m, map) : 1);
}

void bn_maps_free(struct bn_maps *m)
{
	if (!m)
		return;
	for (int i = 0; i < BN_MAP__MAX; i++) {
		if (m->mem[i])
			munmap(m->mem[i], mem_bytes(m, i));
		closep(&m->fd[i]);
	}
	free(m->mapped);
	free(m);
}

void bn_maps_freep(struct bn_maps **m)
{
	bn_maps_free(*m);
	*m = NULL;
}

static struct bn_maps *maps_alloc(bool writable)
{
	struct bn_maps *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->mapped = calloc(BN_MAP__MAX, sizeof(*m->mapped));
	if (!m->mapped) {
		free(m);
		return NULL;
	}
	m->writable = writable;
	for (int i = 0; i < BN_MAP__MAX; i++)
		m->fd[i] = -1;
	return m;
}

int bn_maps_fits(enum bn_map map, int fd, uint32_t *entries)
{
	const struct bn_map_def *d = &bn_map_defs[map];
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return 0;
	if (entries)
		*entries = info.max_entries;
	return info.type == d->type && info.key_size == d->key_size &&
	       info.value_size == d->value_size && info.map_flags == d->flags;
}

/* meta carries the keys of the flow hash: they live exactly as long as the ct map. */
static int fill_meta(struct bn_maps *m)
{
	struct bn_meta_val v = {.magic = BN_META_MAGIC, .schema = BN_SCHEMA};
	__u32 zero = 0;

	v.ct_buckets = m->entries[BN_MAP_ct];
	if (getrandom(v.seed, sizeof(v.seed), 0) != sizeof(v.seed))
		return -EIO;
	return bpf_map_update_elem(m->fd[BN_MAP_meta], &zero, &v, BPF_ANY) < 0 ? -errno : 0;
}

static int take_fds(struct bn_maps *m, struct maps_bpf *s)
{
	for (int i = 0; i < BN_MAP__MAX; i++) {
		struct bpf_map *b = bpf_object__find_map_by_name(s->obj, bn_map_defs[i].name);
		int r;

		if (!b)
			return -ENOENT;
		m->fd[i] = fcntl(bpf_map__fd(b), F_DUPFD_CLOEXEC, 3);
		if (m->fd[i] < 0)
			return -errno;
		m->entries[i] = bpf_map__max_entries(b);
		r = map_memory(m, i);
		if (r < 0)
			return r;
	}
	return 0;
}

int bn_maps_create_sharing(const struct bn_maps_sizes *sizes, const int share[BN_MAP__MAX],
			   struct bn_maps **ret)
{
	_cleanup_(maps_bpf_freep) struct maps_bpf *s = NULL;
	_cleanup_(bn_maps_freep) struct bn_maps *m = NULL;
	int r;

	m = maps_alloc(true);
	s = maps_bpf__open();
	if (!m || !s)
		return -ENOMEM;
	for (int i = 0; i < BN_MAP__MAX; i++) {
		struct bpf_map *b = bpf_object__find_map_by_name(s->obj, bn_map_defs[i].name);
		enum bn_map like = i == BN_MAP_ct_heads ? BN_MAP_ct : i; /* one index for both */
		uint32_t n = sizes && sizes->entries[like] ? sizes->entries[like] : bn_map_defs[i].entries;

		if (!b)
			return -ENOENT;
		if (share[i] >= 0 && !bn_maps_fits(i, share[i], NULL))
			return -EMEDIUMTYPE;
		r = share[i] >= 0 ? bpf_map__reuse_fd(b, share[i]) : bpf_map__set_max_entries(b, n);
		if (r < 0)
			return r;
	}
	r = maps_bpf__load(s);
	if (r < 0)
		return r;
	r = take_fds(m, s);
	if (r < 0)
		return r;
	if (share[BN_MAP_meta] < 0) {
		r = fill_meta(m);
		if (r < 0)
			return r;
	}
	if (share[BN_MAP_state] < 0)
		((struct bn_state *)m->mem[BN_MAP_state])->epoch = 1;
	*ret = TAKE_PTR(m);
	return 0;
}

int bn_maps_create(const struct bn_maps_sizes *sizes, struct bn_maps **ret)
{
	int none[BN_MAP__MAX];

	memset(none, 0xff, sizeof(none));
	return bn_maps_create_sharing(sizes, none, ret);
}

static int open_pin(const char *bpffs, const char *name, bool writable)
{
	LIBBPF_OPTS(bpf_obj_get_opts, o, .file_flags = writable ? 0 : BPF_F_RDONLY);
	_cleanup_(freep) char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/%s", bpffs, name) < 0)
		return -ENOMEM;
	fd = bpf_obj_get_opts(path, &o);
	return fd < 0 ? -errno : fd;
}

int bn_maps_open(const char *bpffs, bool writable, struct bn_maps **ret)
{
	_cleanup_(bn_maps_freep) struct bn_maps *m = maps_alloc(writable);
	struct bn_meta_val v;
	__u32 zero = 0;
	int r;

	if (!m)
		return -ENOMEM;
	for (int i = 0; i < BN_MAP__MAX; i++) {
		/* The kernel maps no map, not even PROT_READ, from a read-only descriptor (EINVAL:
		 * such a mapping is not VM_SHARED), and a ring buffer is consumed by writing.
		 */
		bool rw = writable || i == BN_MAP_events || map_is_mapped(i);

		m->fd[i] = open_pin(bpffs, bn_map_defs[i].name, rw);
		if (m->fd[i] < 0)
			return m->fd[i];
	}
	if (!bn_maps_fits(BN_MAP_meta, m->fd[BN_MAP_meta], NULL) ||
	    bpf_map_lookup_elem(m->fd[BN_MAP_meta], &zero, &v) < 0 || v.magic != BN_META_MAGIC ||
	    v.schema != BN_SCHEMA)
		return -EPROTONOSUPPORT;
	for (int i = 0; i < BN_MAP__MAX; i++) {
		if (!bn_maps_fits(i, m->fd[i], &m->entries[i]))
			return -EMEDIUMTYPE;
		r = map_memory(m, i);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(m);
	return 0;
}

int bn_map_copy_memory(const struct bn_maps *m, enum bn_map map, int from)
{
	struct bn_maps src = {.writable = false};
	void *p;
	int r;

	if (!m->mem[map])
		return -EINVAL;
	if (!bn_maps_fits(map, from, &src.entries[map]) || src.entries[map] > m->entries[map])
		return -EMEDIUMTYPE;
	r = bn_map_extend(m, map, src.entries[map] * BN_MAP_STRIDE(map));
	if (r < 0)
		return r;
	p = mmap(NULL, mem_bytes(&src, map), PROT_READ, MAP_SHARED, from, 0);
	if (p == MAP_FAILED)
		return -errno;
	memcpy(m->mem[map], p, src.entries[map] * BN_MAP_STRIDE(map));
	munmap(p, mem_bytes(&src, map));
	return 0;
}

const char *bn_map_name(enum bn_map map)
{
	return (unsigned)map < BN_MAP__MAX ? bn_map_defs[map].name : NULL;
}

enum bn_map bn_map_by_name(const char *name)
{
	for (int i = 0; i < BN_MAP__MAX; i++)
		if (!strcmp(bn_map_defs[i].name, name))
			return i;
	return BN_MAP__MAX;
}
