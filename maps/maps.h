/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_MAPS_H
#define BN_MAPS_MAPS_H

/* The shared maps as user space holds them: descriptors, sizes, and the memory of those that can be
 * mapped. Only files in maps/ touch elements, through the functions below or through `mem`; other
 * modules call the typed access functions beside each map's definition.
 *
 * Nothing here logs. Functions return 0 or a negative errno and leave *ret untouched on failure.
 * One thread writes; any number may read.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "maps/list.h"

enum bn_map {
#define X(name, type, key, val, entries, flags) BN_MAP_##name,
	BN_MAP_LIST(X)
#undef X
	BN_MAP_events,
	BN_MAP_http_sets, /* bn_map_get and bn_map_put: ids and descriptors of maps */
	BN_MAP__MAX
};

struct bn_map_def {
	const char *name; /* of the pin, of the BPF symbol */
	uint32_t type;	  /* enum bpf_map_type */
	uint32_t key_size, value_size;
	uint32_t entries; /* default */
	uint32_t flags;
};

extern const struct bn_map_def bn_map_defs[BN_MAP__MAX];

struct bn_maps_sizes {
	uint32_t entries[BN_MAP__MAX]; /* 0: the default */
};

struct bn_maps {
	int fd[BN_MAP__MAX];
	uint32_t entries[BN_MAP__MAX];
	void *mem[BN_MAP__MAX]; /* of mmapable maps, else NULL; PROT_READ only unless writable */
	size_t *mapped; /* per map: how many bytes of mem are there already, see bn_map_at */
	bool writable;
};

/* New maps of their own, pinned nowhere, with meta (magic, schema, random seeds, ct_buckets) and
 * state (epoch 1) filled in. sizes NULL: defaults.
 */
int bn_maps_create(const struct bn_maps_sizes *sizes, struct bn_maps **ret);

/* The same, but every map for which share[map] >= 0 is that one (the descriptor is duplicated)
 * instead of a new one; meta and state are filled in only when they are new. A shared map has to
 * fit its definition (bn_maps_fits).
 */
int bn_maps_create_sharing(const struct bn_maps_sizes *sizes, const int share[BN_MAP__MAX],
			   struct bn_maps **ret);

/* What is pinned below `bpffs`. -ENOENT when any map is missing, -EPROTONOSUPPORT when meta has
 * another magic or schema, -EMEDIUMTYPE when a map does not fit its definition.
 */
int bn_maps_open(const char *bpffs, bool writable, struct bn_maps **ret);

void bn_maps_free(struct bn_maps *m);
void bn_maps_freep(struct bn_maps **m);

/* Does the map behind fd have the type, key size, value size and flags of the definition? 1 yes, 0
 * no. *entries, if not NULL, gets its number of entries.
 */
int bn_maps_fits(enum bn_map map, int fd, uint32_t *entries);

/* Copies what the (mmapable, not larger) map behind `from` holds into m's. */
int bn_map_copy_memory(const struct bn_maps *m, enum bn_map map, int from);

/* Returns when no program run that had begun before the call can still be going on, on any CPU, in
 * softirq or in a system call: what was unlinked from the maps before may be reused afterwards.
 * Takes 5 to 20 ms; call it once for many changes, never per change.
 */
int bn_maps_grace(void);

/* --- Elements -------------------------------------------------------------------------------- */

/* Element idx of a mapped array; NULL when idx is outside or the map is not mapped. The kernel rounds
 * the distance between elements up to 8 bytes (a __u32 takes 8, struct bn_cell 16): never index
 * `mem` as an array of the value's type, use this or BN_MAP_STRIDE.
 *
 * Mapped pages count as the daemon's memory, so only state and pods are mapped in full; of the
 * others what lies up to the highest element asked for so far: go through this for each element, or
 * for the last one of a run before the run is used.
 */
#define BN_MAP_STRIDE(map) (((size_t)bn_map_defs[map].value_size + 7) & ~(size_t)7)
int bn_map_extend(const struct bn_maps *m, enum bn_map map, size_t bytes); /* for bn_map_at */
void *bn_map_at(const struct bn_maps *m, enum bn_map map, uint32_t idx);

int bn_map_get(const struct bn_maps *m, enum bn_map map, const void *key, void *ret); /* -ENOENT */
int bn_map_put(const struct bn_maps *m, enum bn_map map, const void *key, const void *val);
int bn_map_del(const struct bn_maps *m, enum bn_map map, const void *key); /* -ENOENT */

/* n elements from dense arrays of keys and values; falls back to one at a time where the kernel has
 * no batches. *done, if not NULL, gets the number written (deleted) even when it fails; deleting
 * skips keys that are not there.
 */
int bn_map_put_batch(const struct bn_maps *m, enum bn_map map, const void *keys, const void *vals,
		     uint32_t n, uint32_t *done);
int bn_map_del_batch(const struct bn_maps *m, enum bn_map map, const void *keys, uint32_t n,
		     uint32_t *done);

/* Calls fn for every element of a hash, LRU or LPM map (also an array), in no order; stops at the
 * first non-zero answer and returns it. What is there during the whole walk is seen at least once;
 * fn may delete the element it is given.
 */
typedef int (*bn_map_fn)(const void *key, const void *val, void *data);
int bn_map_each(const struct bn_maps *m, enum bn_map map, bn_map_fn fn, void *data);

/* Number of elements of a hash, LRU or LPM map: a walk. Negative errno on failure. */
int64_t bn_map_count(const struct bn_maps *m, enum bn_map map);

/* Element idx of a per-CPU array whose value is made of __u64 only, summed over all possible CPUs
 * into sum[value_size / 8].
 */
int bn_map_percpu_sum(const struct bn_maps *m, enum bn_map map, uint32_t idx, uint64_t *sum);

/* "fronts", ...; NULL outside the range. The reverse gives BN_MAP__MAX for an unknown name. */
const char *bn_map_name(enum bn_map map);
enum bn_map bn_map_by_name(const char *name);

/* Bytes of kernel memory that the map takes (from fdinfo), 0 when it cannot be told. */
uint64_t bn_map_memory(const struct bn_maps *m, enum bn_map map);

#endif
