// SPDX-License-Identifier: MIT
/* maps/: real maps of every type, element access, batches, walks, per-CPU sums, pins. As root. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "loader/limits.h"
#include "maps/maps.h"
#include "maps/util.h"

#define FS "/tmp/kern-test-maps" /* a bpffs of its own */
#define PINS FS "/pins"

static int setup(void **state)
{
	if ((mkdir(FS, 0700) < 0 && errno != EEXIST) || mount("bpf", FS, "bpf", 0, NULL) < 0)
		return -1;
	return bn_maps_create(NULL, (struct bn_maps **)state);
}

static int teardown(void **state)
{
	bn_maps_freep((struct bn_maps **)state);
	if (umount(FS) < 0)
		return -1;
	return rmdir(FS);
}

/* Before 6.4 a map says how large it can get, not what it uses. */
static uint64_t most_memory(void)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	assert_int_equal(uname(&u), 0);
	assert_int_equal(sscanf(u.release, "%u.%u", &major, &minor), 2);
	return major > 6 || minor >= 4 ? 96 * 1000000 : 250 << 20; /* docs/OPERATIONS.md states it */
}

static void defaults_hold(void **state)
{
	struct bn_maps *m = *state;
	struct bn_meta_val v;
	__u32 zero = 0;
	uint64_t total = 0;

	for (int i = 0; i < BN_MAP__MAX; i++) {
		uint32_t n;

		assert_true(bn_maps_fits(i, m->fd[i], &n));
		assert_int_equal(n, bn_map_defs[i].entries);
		assert_int_equal(m->entries[i], n);
		assert_int_equal(!!m->mem[i], bn_map_defs[i].flags & BPF_F_MMAPABLE && i != BN_MAP_ct && i != BN_MAP_ct_heads);
		assert_int_equal(bn_map_by_name(bn_map_name(i)), i);
		total += bn_map_memory(m, i);
	}
	assert_in_range(bn_map_memory(m, BN_MAP_ct), m->entries[BN_MAP_ct] * sizeof(struct bn_ct_bucket), 60 << 20);
	assert_int_equal(m->entries[BN_MAP_ct_heads], m->entries[BN_MAP_ct]);
	assert_int_equal(m->entries[BN_MAP_ct], BN_CT_BUCKETS(131072));
	assert_in_range(total, 60 << 20, most_memory());
	for (int i = 0; i < BN_MAP__MAX; i++)
		if (bn_map_memory(m, i) > 1 << 20)
			print_message("%-12s %5.1f MB\n", bn_map_name(i), bn_map_memory(m, i) / 1e6);
	print_message("all maps with defaults, empty: %.1f MB\n", total / 1e6);
	assert_int_equal(bn_map_by_name("nonsense"), BN_MAP__MAX);
	assert_null(bn_map_name(BN_MAP__MAX));
	assert_int_equal(bn_map_get(m, BN_MAP_meta, &zero, &v), 0);
	assert_int_equal(v.magic, BN_META_MAGIC);
	assert_int_equal(v.schema, BN_SCHEMA);
	assert_int_equal(v.ct_buckets, m->entries[BN_MAP_ct]);
	assert_true(v.seed[0] && v.seed[15] && v.seed[0] != v.seed[1]);
	assert_int_equal(((struct bn_state *)m->mem[BN_MAP_state])->epoch, 1);
}

/* What is stored through the mapping is what a look-up sees, up to the last element. */
static void mapping_is_the_map(void **state)
{
	struct bn_maps *m = *state;
	const enum bn_map maps[] = {BN_MAP_svcs, BN_MAP_slots, BN_MAP_pol_ports, BN_MAP_pol_cells};
	unsigned char want[64], got[64];

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		uint32_t size = bn_map_defs[maps[i]].value_size, n = m->entries[maps[i]];
		__u32 at[] = {0, 1, 511, n - 1};

		for (size_t k = 0; k < ARRAY_SIZE(at); k++) {
			memset(want, 0x11 * (k + 1) + i, size);
			memcpy(bn_map_at(m, maps[i], at[k]), want, size);
		}
		for (size_t k = 0; k < ARRAY_SIZE(at); k++) {
			memset(want, 0x11 * (k + 1) + i, size);
			assert_int_equal(bn_map_get(m, maps[i], &at[k], got), 0);
			assert_memory_equal(want, got, size);
		}
		assert_null(bn_map_at(m, maps[i], n));
	}
	assert_null(bn_map_at(m, BN_MAP_fronts, 0));
}

static void front(struct bn_front_key *k, uint32_t i)
{
	memset(k, 0, sizeof(*k));
	bn_addr_v4(&k->addr, htonl(0x0a600000 + i / 7));
	if (i & 1)
		k->addr.w[0] = htonl(0xfd000000);
	k->port = htons(1 + i % 7);
	k->proto = BN_PROTO_TCP;
}

struct seen {
	unsigned char *hit;
	uint32_t n, wrong;
	const struct bn_maps *m;
};

static int see(const void *key, const void *val, void *data)
{
	const struct bn_front_val *v = val;
	struct bn_front_key k;
	struct seen *s = data;

	front(&k, v->idx);
	s->wrong += memcmp(&k, key, sizeof(k)) != 0;
	s->hit[v->idx]++;
	s->n++;
	return 0;
}

static int see_and_delete(const void *key, const void *val _unused_, void *data)
{
	struct seen *s = data;

	s->n++;
	return bn_map_del(s->m, BN_MAP_fronts, key);
}

#define N 20000
static void hashes_batch_and_walk(void **state)
{
	struct bn_maps *m = *state;
	static struct bn_front_key k[N];
	static struct bn_front_val v[N];
	static unsigned char hit[N];
	struct seen s = {.hit = hit, .m = m};
	uint32_t done;

	for (uint32_t i = 0; i < N; i++) {
		front(&k[i], i);
		v[i].idx = i;
	}
	assert_int_equal(bn_map_put_batch(m, BN_MAP_fronts, k, v, N, &done), 0);
	assert_int_equal(done, N);
	assert_int_equal(bn_map_count(m, BN_MAP_fronts), N);
	assert_int_equal(bn_map_each(m, BN_MAP_fronts, see, &s), 0);
	assert_int_equal(s.n, N);
	assert_int_equal(s.wrong, 0);
	for (int i = 0; i < N; i++)
		assert_int_equal(hit[i], 1);

	/* Deleting skips what is gone already and counts what it deleted. */
	for (int i = 0; i < 100; i += 10)
		assert_int_equal(bn_map_del(m, BN_MAP_fronts, &k[i]), 0);
	assert_int_equal(bn_map_del(m, BN_MAP_fronts, &k[0]), -ENOENT);
	assert_int_equal(bn_map_del_batch(m, BN_MAP_fronts, k, 100, &done), 0);
	assert_int_equal(done, 90);
	assert_int_equal(bn_map_count(m, BN_MAP_fronts), N - 100);
	s.n = 0;
	assert_int_equal(bn_map_each(m, BN_MAP_fronts, see_and_delete, &s), 0);
	assert_int_equal(s.n, N - 100);
	assert_int_equal(bn_map_count(m, BN_MAP_fronts), 0);
	assert_int_equal(bn_map_get(m, BN_MAP_fronts, &k[0], &v[0]), -ENOENT);
}

static int see_lpm(const void *key, const void *val, void *data)
{
	const struct bn_lpm_key *k = key;
	struct seen *s = data;

	s->wrong += ntohl(k->addr.w[3]) >> 8 != *(const __u32 *)val;
	s->n++;
	return 0;
}

/* LPM has no batch writing: one by one behind the same call. */
static void lpm_batch_and_walk(void **state)
{
	struct bn_maps *m = *state;
	static struct bn_lpm_key k[5000];
	static __u32 v[5000];
	struct seen s = {};
	uint32_t done;

	for (uint32_t i = 0; i < 5000; i++) {
		k[i].prefixlen = 120;
		bn_addr_v4(&k[i].addr, htonl(i << 8));
		v[i] = i;
	}
	assert_int_equal(bn_map_put_batch(m, BN_MAP_cidrs, k, v, 5000, &done), 0);
	assert_int_equal(done, 5000);
	assert_int_equal(bn_map_each(m, BN_MAP_cidrs, see_lpm, &s), 0);
	assert_int_equal(s.n, 5000);
	assert_int_equal(s.wrong, 0);
	assert_int_equal(bn_map_del_batch(m, BN_MAP_cidrs, k, 5000, &done), 0);
	assert_int_equal(done, 5000);
	assert_int_equal(bn_map_count(m, BN_MAP_cidrs), 0);
}

static void full_map_says_so(void **state _unused_)
{
	_cleanup_(bn_maps_freep) struct bn_maps *m = NULL;
	struct bn_maps_sizes sizes = {.entries = {[BN_MAP_fronts] = 10}};
	struct bn_front_key k[20];
	struct bn_front_val v[20] = {};
	uint32_t done;

	assert_int_equal(bn_maps_create(&sizes, &m), 0);
	assert_int_equal(m->entries[BN_MAP_fronts], 10);
	for (int i = 0; i < 20; i++)
		front(&k[i], i);
	assert_int_equal(bn_map_put_batch(m, BN_MAP_fronts, k, v, 20, &done), -E2BIG);
	assert_int_equal(done, 10);
	assert_int_equal(bn_map_count(m, BN_MAP_fronts), 10);
}

static void percpu_sums(void **state)
{
	struct bn_maps *m = *state;
	int ncpus = libbpf_num_possible_cpus();
	struct bn_drop_stat v[ncpus], sum;
	__u32 idx = BN_DROP_POLICY_INGRESS;

	for (int i = 0; i < ncpus; i++)
		v[i] = (struct bn_drop_stat){.packets = i + 1, .bytes = 100};
	assert_int_equal(bn_map_put(m, BN_MAP_drops, &idx, v), 0);
	assert_int_equal(bn_map_percpu_sum(m, BN_MAP_drops, idx, (uint64_t *)&sum), 0);
	assert_int_equal(sum.packets, ncpus * (ncpus + 1) / 2);
	assert_int_equal(sum.bytes, ncpus * 100);
	assert_int_equal(bn_map_percpu_sum(m, BN_MAP_fronts, idx, (uint64_t *)&sum), -EINVAL);
}

static void count_drop(struct bn_maps *m, __u32 why, uint64_t packets)
{
	int ncpus = libbpf_num_possible_cpus();
	struct bn_drop_stat v[ncpus];

	memset(v, 0, sizeof(v));
	v[ncpus - 1].packets = packets;
	assert_int_equal(bn_map_put(m, BN_MAP_drops, &why, v), 0);
}

/* What does not fit is said once a minute and reason; not what was counted before, nor a denial. */
static void limits_are_said(void **state)
{
	const uint64_t s = 1000000000;
	struct bn_maps *m = *state;
	struct bn_limits l = {0};
	json_t *list;

	count_drop(m, BN_DROP_CT_FULL, 5);
	assert_int_equal(bn_limits_tick(&l, m, 1 * s), 0);
	assert_int_equal(bn_limits_tick(&l, m, 2 * s), 0);
	count_drop(m, BN_DROP_CT_FULL, 6);
	count_drop(m, BN_DROP_POLICY_INGRESS, 1000);
	assert_int_equal(bn_limits_tick(&l, m, 3 * s), 1);
	count_drop(m, BN_DROP_CT_FULL, 1000);
	count_drop(m, BN_DROP_NAT_PORTS, 1);
	assert_int_equal(bn_limits_tick(&l, m, 4 * s), 1); /* the ports; the table's minute is not over */
	assert_int_equal(bn_limits_tick(&l, m, 62 * s), 0);
	assert_int_equal(bn_limits_tick(&l, m, 63 * s), 1);
	assert_int_equal(bn_limits_tick(&l, m, 64 * s), 0);
	list = bn_limits_json(&l, 600 * s); /* both, whether the log said it or not */
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "reason")), "CT_FULL");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "packets")), 1000);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "secondsAgo")), 596);
	json_decref(list);
	list = bn_limits_json(&l, 605 * s);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	count_drop(m, BN_DROP_CT_FULL, 0);
	count_drop(m, BN_DROP_NAT_PORTS, 0);
}

static void pins_open(void **state)
{
	_cleanup_(bn_maps_freep) struct bn_maps *ro = NULL, *shared = NULL;
	struct bn_maps *m = *state;
	struct bn_meta_val v, old;
	__u32 zero = 0;
	char path[128];
	int share[BN_MAP__MAX];

	assert_int_equal(mkdir(PINS, 0700), 0);
	assert_int_equal(bn_maps_open(PINS, false, &ro), -ENOENT);
	for (int i = 0; i < BN_MAP__MAX; i++) {
		snprintf(path, sizeof(path), PINS "/%s", bn_map_name(i));
		assert_int_equal(bpf_obj_pin(m->fd[i], path), 0);
	}
	assert_int_equal(bn_maps_open(PINS, false, &ro), 0);
	((struct bn_state *)m->mem[BN_MAP_state])->node4.w[0] = 77;
	assert_int_equal(((struct bn_state *)ro->mem[BN_MAP_state])->node4.w[0], 77);
	assert_int_equal(bn_map_put(ro, BN_MAP_fronts, &(struct bn_front_key){}, &zero), -EPERM);

	/* Shared maps keep their content; what is not shared is new. */
	memcpy(share, m->fd, sizeof(share));
	share[BN_MAP_fronts] = -1;
	assert_int_equal(bn_maps_create_sharing(NULL, share, &shared), 0);
	assert_int_equal(bn_map_get(m, BN_MAP_meta, &zero, &old), 0);
	assert_int_equal(bn_map_get(shared, BN_MAP_meta, &zero, &v), 0);
	assert_memory_equal(&v, &old, sizeof(v));
	share[BN_MAP_fronts] = m->fd[BN_MAP_addrs];
	assert_int_equal(bn_maps_create_sharing(NULL, share, &shared), -EMEDIUMTYPE);

	/* Another schema is not read, nor is a map that does not fit. */
	v.schema++;
	assert_int_equal(bn_map_put(m, BN_MAP_meta, &zero, &v), 0);
	bn_maps_freep(&ro);
	assert_int_equal(bn_maps_open(PINS, false, &ro), -EPROTONOSUPPORT);
	assert_int_equal(bn_map_put(m, BN_MAP_meta, &zero, &old), 0);
	assert_int_equal(unlink(PINS "/fronts"), 0);
	assert_int_equal(bpf_obj_pin(m->fd[BN_MAP_addrs], PINS "/fronts"), 0);
	assert_int_equal(bn_maps_open(PINS, false, &ro), -EMEDIUMTYPE);
}

static void grace_returns(void **state _unused_)
{
	for (int i = 0; i < 5; i++)
		assert_int_equal(bn_maps_grace(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_hold),	   cmocka_unit_test(mapping_is_the_map),
		cmocka_unit_test(hashes_batch_and_walk), cmocka_unit_test(lpm_batch_and_walk),
		cmocka_unit_test(limits_are_said),
		cmocka_unit_test(full_map_says_so),	   cmocka_unit_test(percpu_sums),
		cmocka_unit_test(pins_open),		   cmocka_unit_test(grace_returns),
	};

	return cmocka_run_group_tests_name("maps", tests, setup, teardown);
}
