/* SPDX-License-Identifier: MIT */
/* The mirror of the service maps under random change with scarce slots: what is freed is not handed
 * out before a grace period has begun after it; every list is what was asked for; fragments are
 * moved together; nothing is lost at the end.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "maps/svc_access.h"
#include "maps/util.h"

#define SERVICES 300
#define SLOTS	 40000
#define BIG	 2003

static uint64_t seed = 99;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

struct svc {
	uint32_t n, members, version; /* n 0: not there */
	uint32_t flags;
	uint64_t word; /* as last seen */
};

struct world {
	struct bn_maps *maps;
	struct bn_svcmap *map;
	struct svc s[SERVICES];
	uint64_t grace;	       /* periods so far */
	uint64_t freed[SLOTS]; /* grace + 1 at the time when the slot was let go; 0: never */
	uint32_t owner[SLOTS]; /* service + 1 */
	uint64_t moved;
	bool waited; /* in this change: what it let go may have been moved, and let go, before */
};

static int count_grace(void *data)
{
	((struct world *)data)->grace++;
	return 0;
}

static struct bn_backend backend(uint32_t k, uint32_t version, uint32_t i)
{
	return (struct bn_backend){.addr.w = {k, version, i, 7}, .port = 80};
}

static void key_of(uint32_t k, struct bn_front_key *key)
{
	*key = (struct bn_front_key){.addr.w = {k, 1, 1, 1}, .port = 80, .proto = BN_PROTO_UDP};
}

static int put(struct world *w, uint32_t k)
{
	struct bn_backend *v = calloc(w->s[k].n + w->s[k].members + 1, sizeof(*v));
	struct bn_want_list list = {v, w->s[k].n, w->s[k].members};
	struct bn_want_port port = {"p", BN_PROTO_UDP};
	struct bn_want_front front = {.flags = w->s[k].flags};
	struct bn_svc_want want = {.nports = 1,
				   .nlists = 1,
				   .nfronts = 1,
				   .ports = &port,
				   .lists = &list,
				   .fronts = &front};
	struct bn_svc_applied done;
	char name[32];
	int r;

	key_of(k, &front.key);
	for (uint32_t i = 0; i < list.n + list.members; i++)
		v[i] = backend(k, w->s[k].version, i);
	snprintf(name, sizeof(name), "t/s%u", k);
	r = bn_svcmap_apply(w->map, bn_svcmap_get(w->map, name), list.n ? &want : NULL, &done);
	free(v);
	return r;
}

static const struct bn_svc *record(struct world *w, uint32_t k)
{
	struct bn_front_key key;
	struct bn_front_val val;

	key_of(k, &key);
	if (bn_map_get(w->maps, BN_MAP_fronts, &key, &val) < 0)
		return NULL;
	return bn_map_at(w->maps, BN_MAP_svcs, val.idx);
}

static void release(struct world *w, uint32_t k, uint64_t word, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++) {
		uint32_t at = BN_RANGE_BASE(word) + i;

		if (w->owner[at] == k + 1)
			w->owner[at] = 0;
		w->freed[at] = w->grace + !w->waited;
	}
}

/* One service after some change: its list is right, and lies where it may. */
static void check(struct world *w, uint32_t k, uint32_t old_len)
{
	const struct bn_svc *s = record(w, k);
	uint64_t word = s ? s->range : 0;
	struct svc *x = &w->s[k];
	uint32_t len = x->n + x->members;

	assert_int_equal(s != NULL, x->n != 0);
	if (word == x->word && old_len == len)
		return;
	if (BN_RANGE_COUNT(x->word))
		release(w, k, x->word, old_len);
	x->word = word;
	if (!s)
		return;
	assert_int_equal(BN_RANGE_COUNT(word), x->n);
	for (uint32_t i = 0; i < len; i++) {
		uint32_t at = BN_RANGE_BASE(word) + i;
		const struct bn_backend *b = bn_map_at(w->maps, BN_MAP_slots, at);
		struct bn_backend want = backend(k, x->version, i);

		want.members = i ? 0 : x->members;
		assert_memory_equal(b, &want, sizeof(want));
		assert_int_equal(w->owner[at], 0);
		assert_true(w->freed[at] <= w->grace); /* a grace period since it was let go */
		w->owner[at] = k + 1;
	}
}

/* Compaction may have moved any of the others. */
static void check_others(struct world *w, uint32_t k)
{
	for (uint32_t pass = 0; pass < 2; pass++)
		for (uint32_t j = 0; j < SERVICES; j++) {
			const struct bn_svc *s = j == k ? NULL : record(w, j);
			uint32_t len = w->s[j].n + w->s[j].members;

			if (!s || s->range == w->s[j].word)
				continue;
			/* all that were let go first: they were before what took their place */
			if (!pass) {
				for (uint32_t i = 0; i < len; i++)
					w->owner[BN_RANGE_BASE(w->s[j].word) + i] = 0;
				w->moved++;
			} else {
				w->s[j].word = 0;
				check(w, j, len);
			}
		}
}

static uint32_t total(const struct world *w)
{
	uint32_t n = 0;

	for (uint32_t k = 0; k < SERVICES; k++)
		n += w->s[k].n + w->s[k].members;
	return n;
}

static void change(struct world *w, uint32_t k, uint32_t limit, uint32_t *refused)
{
	struct svc old = w->s[k], *x = &w->s[k];
	uint32_t what = rnd(10), used = total(w);
	uint64_t graces = w->grace;

	if (what == 0)
		x->n = x->members = 0;
	else if (what == 1 && x->n)
		x->flags ^= BN_SVC_F_MAGLEV;
	else {
		x->n = rnd(20) ? 1 + rnd(150) : BIG;
		x->members = rnd(3) ? 0 : rnd(100);
	}
	x->version++;
	if (used + x->n + x->members > limit) {
		*x = old;
		return;
	}
	if (put(w, k) == -ENOSPC) {
		(*refused)++;
		x->n = old.n;
		x->members = old.members;
		x->version = old.version;
		x->flags = old.flags;
	}
	w->waited = w->grace != graces;
	if (w->waited)
		check_others(w, k);
	check(w, k, old.n + old.members);
}

static void test_random(void **state _unused_)
{
	struct bn_maps_sizes small = {0};
	struct world *w = calloc(1, sizeof(*w));
	struct bn_svcmap_stats st;
	uint32_t refused = 0;
	const uint32_t rounds = 60000;

	small.entries[BN_MAP_slots] = SLOTS;
	small.entries[BN_MAP_svcs] = SERVICES * 2;
	assert_int_equal(bn_maps_create(&small, &w->maps), 0);
	assert_int_equal(bn_svcmap_open(w->maps, &w->map), 0);
	bn_svcmap_set_grace(w->map, count_grace, w);
	for (uint32_t i = 0; i < rounds; i++) {
		change(w, rnd(SERVICES), SLOTS / 100 * 92, &refused);
		if (!rnd(50)) {
			uint64_t graces = w->grace;

			bn_svcmap_reclaim(w->map, false);
			assert_true(w->grace - graces <= 1);
		}
		if (!rnd(5000)) { /* the daemon starts anew */
			bn_svcmap_freep(&w->map);
			assert_int_equal(bn_svcmap_open(w->maps, &w->map), 0);
			bn_svcmap_set_grace(w->map, count_grace, w);
			assert_int_equal(bn_svcmap_repair(w->map), 0);
		}
	}
	bn_svcmap_stats(w->map, &st);
	print_message("%u changes at up to 92 %% full: %u refused, %lu grace periods, %lu "
		      "compactions in the last life"
		      " moved %lu lists\n",
		      rounds, refused, w->grace, st.compactions, w->moved);
	assert_true(w->moved > 0);
	assert_true(refused < rounds / 200);
	assert_true(w->grace < rounds / 10);
	/* nothing is lost */
	for (uint32_t k = 0; k < SERVICES; k++) {
		w->s[k].n = w->s[k].members = 0;
		assert_int_equal(put(w, k), 0);
	}
	bn_svcmap_reclaim(w->map, true);
	bn_svcmap_stats(w->map, &st);
	assert_int_equal(st.slots_free, SLOTS);
	assert_int_equal(st.largest_free, SLOTS);
	assert_int_equal(st.owners, 0);
	assert_int_equal(st.records_used, 0);
	assert_int_equal(bn_map_count(w->maps, BN_MAP_fronts), 0);
	assert_int_equal(bn_map_count(w->maps, BN_MAP_svc_names), 0);
	bn_svcmap_freep(&w->map);
	bn_maps_freep(&w->maps);
	free(w);
}

/* How often this thread has waited for something (that others get the processor does not count). */
static long waits(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_THREAD, &u), 0);
	return u.ru_nvcsw;
}

/* Nobody waits for a grace period while there is room; what waited is free after it; and what was let go
 * behind the one that is under way is not.
 */
static void test_background(void **state _unused_)
{
	struct bn_maps_sizes sizes = {0};
	struct world *w = calloc(1, sizeof(*w));
	struct bn_svcmap_stats st;
	uint32_t rounds = 0;
	long waited = 0;
	time_t end;

	sizes.entries[BN_MAP_slots] = 65536;
	sizes.entries[BN_MAP_svcs] = SERVICES * 4;
	assert_int_equal(bn_maps_create(&sizes, &w->maps), 0);
	assert_int_equal(bn_svcmap_open(w->maps, &w->map), 0);
	for (end = time(NULL) + 2; time(NULL) < end; rounds++) {
		uint32_t k = rnd(SERVICES);
		long before;

		w->s[k].n = 1 + rnd(60);
		w->s[k].version++;
		before = waits();
		assert_int_equal(put(w, k), 0);
		bn_svcmap_reclaim(w->map, false);
		waited += waits() - before;
		bn_svcmap_stats(w->map, &st);
		while (st.slots_pending > 65536 / 2) { /* another's turn to work, on a busy machine */
			usleep(1000);
			bn_svcmap_reclaim(w->map, false);
			bn_svcmap_stats(w->map, &st);
		}
	}
	print_message("%u changes, grace periods in the background: %lu, waited %ld times\n", rounds, st.graces,
		      waited);
	assert_true(st.graces > 0);
	assert_true(waited <= 2 + (long)st.graces / 4); /* the ticket's lock, at most */
	while (st.slots_pending >= 4096 || !st.slots_pending) {
		w->s[1].n = 50;
		w->s[1].version++;
		assert_int_equal(put(w, 1), 0);
		bn_svcmap_reclaim(w->map, false);
		bn_svcmap_stats(w->map, &st);
	}
	for (uint32_t k = 0; k < SERVICES; k++) {
		w->s[k].n = 0;
		assert_int_equal(put(w, k), 0);
	}
	bn_svcmap_reclaim(w->map, true);
	bn_svcmap_stats(w->map, &st);
	assert_int_equal(st.slots_pending, 0);
	assert_int_equal(st.slots_free, 65536);
	assert_int_equal(st.records_used, 0);
	bn_svcmap_freep(&w->map);
	bn_maps_freep(&w->maps);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_background)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
