/* SPDX-License-Identifier: MIT */
/* A program looks services up on one core while the other changes them: lists by the flip of one
 * word, flags by another record, services by coming and going, with slots so scarce that they are
 * reused all the time. Not one look-up may be wrong. A control run without grace periods shows that
 * the reader would see it.
 */
#include "tests/svc_fixture.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "maps/maps.h"
#include "maps/svc_access.h"
#include "svc_reader.skel.h"

#define STABLE 48
#define ALL    64
#define MOST   40 /* backends of a list */

struct world {
	struct bn_maps *maps;
	struct bn_svcmap *map;
	struct svc_reader_bpf *prog;
	bool stop;
	uint32_t version[ALL], flags[ALL];
	bool there[ALL];
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof(set), &set); /* one core only: it is a weaker test */
}

static int give_maps(struct bpf_object *obj, struct bn_maps *maps)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, obj)
	{
		enum bn_map m = bn_map_by_name(bpf_map__name(map));

		if (m < BN_MAP__MAX && bpf_map__reuse_fd(map, maps->fd[m]) < 0)
			return -errno;
	}
	return 0;
}

static void *reader(void *data)
{
	struct world *w = data;
	char pkt[64] = {0};

	pin_to(1);
	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = pkt, .data_size_in = sizeof(pkt),
			    .repeat = 50);

		if (bpf_prog_test_run_opts(bpf_program__fd(w->prog->progs.svc_reader), &o) < 0)
			return (void *)(intptr_t)errno;
	}
	return NULL;
}

/* Every backend names its service and the version of the list. */
static uint64_t put(struct world *w, uint32_t k, uint32_t n)
{
	struct bn_backend v[MOST] = {0};
	struct bn_want_list list = {v, n, 0};
	struct bn_want_port port = {"p", BN_PROTO_TCP};
	struct bn_want_front front = {
		.key = {.addr.w = {k, 0, 0, 1}, .port = 80, .proto = BN_PROTO_TCP},
		.flags = w->flags[k],
	};
	struct bn_svc_want want = {.nports = 1,
				   .nlists = 1,
				   .nfronts = 1,
				   .ports = &port,
				   .lists = &list,
				   .fronts = &front};
	struct bn_svc_applied done;
	char name[32];

	w->version[k]++;
	for (uint32_t i = 0; i < n; i++)
		v[i].addr = (struct bn_addr){.w = {k, w->version[k], ~w->version[k], i}};
	snprintf(name, sizeof(name), "t/s%u", k);
	w->there[k] = n;
	/* full at times, so scarce are they: then the old list stays */
	return bn_svcmap_apply(w->map, bn_svcmap_get(w->map, name), n ? &want : NULL, &done) ==
	       -ENOSPC;
}

static int no_grace(void *data _unused_)
{
	return 0;
}

struct outcome {
	uint64_t changes, lookups, found, bad, refused;
};

static void run(unsigned ms, bool grace, struct outcome *ret)
{
	struct bn_maps_sizes small = {0};
	struct world w = {0};
	uint64_t end, changes = 0, full = 0;
	pthread_t t;
	void *err;

	/* room for the lists about one and a half times: what is freed is needed soon */
	small.entries[BN_MAP_slots] = ALL * MOST * 3 / 4;
	small.entries[BN_MAP_svcs] = ALL * 2;
	assert_int_equal(bn_maps_create(&small, &w.maps), 0);
	assert_int_equal(bn_svcmap_open(w.maps, &w.map), 0);
	if (!grace)
		bn_svcmap_set_grace(w.map, no_grace, NULL);
	w.prog = svc_reader_bpf__open();
	assert_non_null(w.prog);
	w.prog->rodata->cfg_stable = STABLE;
	w.prog->rodata->cfg_all = ALL;
	assert_int_equal(give_maps(w.prog->obj, w.maps), 0);
	assert_int_equal(svc_reader_bpf__load(w.prog), 0);
	for (uint32_t k = 0; k < ALL; k++)
		assert_int_equal(put(&w, k, 1 + k % MOST), 0);
	assert_int_equal(pthread_create(&t, NULL, reader, &w), 0);
	pin_to(0);
	srand(1);
	for (end = now_ms() + ms; now_ms() < end; changes++) {
		uint32_t k = (uint32_t)rand() % ALL, what = (uint32_t)rand() % 16;

		if (what == 0)
			w.flags[k] ^= BN_SVC_F_MAGLEV; /* another record */
		if (k >= STABLE && what < 8)
			full += put(&w, k, w.there[k] ? 0 : 5);
		else
			full += put(&w, k, 1 + (uint32_t)rand() % MOST);
		/* In the background, as the daemon does; or what it would be to reuse at once. */
		bn_svcmap_reclaim(w.map, !grace);
	}
	assert_true(full < changes / 10);
	__atomic_store_n(&w.stop, true, __ATOMIC_RELEASE);
	pthread_join(t, &err);
	assert_null(err);
	*ret = (struct outcome){
		.changes = changes,
		.lookups = w.prog->bss->lookups,
		.found = w.prog->bss->found,
		.refused = w.prog->bss->refused,
		.bad = w.prog->bss->missing + w.prog->bss->wrong + w.prog->bss->torn +
		       w.prog->bss->mixed + w.prog->bss->refused,
	};
	print_message("%s: %lu changes, %lu look-ups: %lu missing, %lu of another service, %lu "
		      "torn, %lu mixed, %lu refused\n",
		      grace ? "with grace periods" : "control, without", changes,
		      (unsigned long)w.prog->bss->lookups, (unsigned long)w.prog->bss->missing,
		      (unsigned long)w.prog->bss->wrong, (unsigned long)w.prog->bss->torn,
		      (unsigned long)w.prog->bss->mixed, (unsigned long)w.prog->bss->refused);
	svc_reader_bpf__destroy(w.prog);
	bn_svcmap_freep(&w.map);
	bn_maps_freep(&w.maps);
}

static void test_torn(void **state _unused_)
{
	const char *ms = getenv("BN_TORN_MS");
	struct outcome o;

	run(ms ? (unsigned)atoi(ms) : 4000, true, &o);
	assert_true(o.lookups > 500000);
	assert_true(o.changes > 100); /* each waits for a grace period: 870 to 10,000, by what else the machine does */
	assert_int_equal(o.bad, 0);
}

static void test_control(void **state _unused_)
{
	struct outcome o;

	run(2000, false, &o);
	assert_true(o.bad > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_torn),
		cmocka_unit_test(test_control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
