/* SPDX-License-Identifier: MIT */
/* The range allocator under stress, and Maglev tables: even, complete, and little disturbed. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "maps/maglev.h"
#include "maps/ranges.h"
#include "maps/util.h"

static uint64_t seed = 7;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

struct range {
	uint32_t base, size;
};

/* Ranges never overlap, what is given back merges, nothing is lost; the sizes are those of
 * services: many of ten, some of hundreds, few of thousands.
 */
static uint32_t pick_size(void)
{
	uint32_t r = rnd(100);

	return r < 70 ? 1 + rnd(20) : r < 95 ? 20 + rnd(300) : r < 99 ? 1009 : 1 + rnd(5003);
}

static void test_ranges(void **state _unused_)
{
	enum { N = 524288, ROUNDS = 2000000, HELD = 20000 };
	static uint8_t used[N];
	static struct range held[HELD];
	uint32_t n = 0, taken = 0, failed = 0, worst_fill = N;
	struct bn_ranges *r;

	assert_int_equal(bn_ranges_new(N, &r), 0);
	assert_int_equal(bn_ranges_take(r, 1), BN_RANGES_NONE); /* all taken at first */
	bn_ranges_give(r, 0, N);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t k = rnd(HELD), size;

		if (k < n) {
			memset(used + held[k].base, 0, held[k].size);
			taken -= held[k].size;
			bn_ranges_give(r, held[k].base, held[k].size);
			held[k] = held[--n];
		}
		size = pick_size();
		if (n == HELD || taken + size > N / 4 * 3)
			continue;
		held[n] = (struct range){bn_ranges_take(r, size), size};
		if (held[n].base == BN_RANGES_NONE) {
			failed++;
			if (taken < worst_fill)
				worst_fill = taken;
			continue;
		}
		assert_true(held[n].base + size <= N);
		for (uint32_t j = 0; j < size; j++)
			assert_int_equal(used[held[n].base + j]++, 0);
		taken += size;
		n++;
		assert_int_equal(bn_ranges_free(r), N - taken);
	}
	print_message(
		"%u rounds at up to 75 %% full: %u ranges of %u units refused for fragmentation"
		" (fullest free run %u of %u free)\n",
		ROUNDS, failed, taken, bn_ranges_largest(r), bn_ranges_free(r));
	assert_true(failed < ROUNDS / 1000);
	while (n--)
		bn_ranges_give(r, held[n].base, held[n].size);
	assert_int_equal(bn_ranges_largest(r), N); /* one run again */
	assert_int_equal(bn_ranges_take(r, N), 0);
	bn_ranges_freep(&r);
}

static void test_ranges_edges(void **state _unused_)
{
	struct bn_ranges *r;

	assert_int_equal(bn_ranges_new(0, &r), -EINVAL);
	assert_int_equal(bn_ranges_new(100, &r), 0);
	bn_ranges_give(r, 10, 90);
	assert_int_equal(bn_ranges_take(r, 0), BN_RANGES_NONE);
	assert_int_equal(bn_ranges_take(r, 91), BN_RANGES_NONE);
	assert_int_equal(bn_ranges_take(r, UINT32_MAX), BN_RANGES_NONE);
	/* 90 is in the class of runs from 88: found though the class may hold shorter ones */
	assert_int_equal(bn_ranges_take(r, 90), 10);
	assert_int_equal(bn_ranges_free(r), 0);
	bn_ranges_freep(&r);
}

/* --- Maglev ----------------------------------------------------------------------------------- */

static void backends(struct bn_backend *v, uint32_t n)
{
	memset(v, 0, n * sizeof(*v));
	for (uint32_t i = 0; i < n; i++) {
		bn_addr_v4(&v[i].addr, htonl(0x0a010000u + i));
		v[i].port = htons(8080);
	}
}

static void test_maglev_sizes(void **state _unused_)
{
	assert_int_equal(bn_maglev_size(0), 0);
	for (uint32_t n = 1; n < 65535; n += n < 2000 ? 1 : 997) {
		uint32_t size = bn_maglev_size(n);

		if (n > 65521) {
			assert_int_equal(size, 0);
			continue;
		}
		assert_true(size >= n && size <= 65535);
		assert_true(size >= 100 * n || size == 65521);
		for (uint32_t d = 2; d * d <= size; d++)
			assert_int_not_equal(size % d, 0);
	}
}

/* One of 100 backends leaves: how many of the other backends' entries change? */
static void test_maglev_disruption(void **state _unused_)
{
	enum { N = 100 };
	uint32_t size = bn_maglev_size(N), least = UINT32_MAX, most = 0, moved_most = 0, count[N];
	struct bn_backend all[N], less[N];
	uint16_t *a = calloc(size, 2), *b = calloc(size, 2);
	double moved_sum = 0;

	backends(all, N);
	assert_int_equal(bn_maglev_build(all, N, size, a), 0);
	memset(count, 0, sizeof(count));
	for (uint32_t i = 0; i < size; i++)
		count[a[i]]++;
	for (uint32_t i = 0; i < N; i++) {
		least = count[i] < least ? count[i] : least;
		most = count[i] > most ? count[i] : most;
	}
	for (uint32_t gone = 0; gone < N; gone++) {
		uint32_t moved = 0;

		memcpy(less, all, gone * sizeof(*all));
		memcpy(less + gone, all + gone + 1, (N - 1 - gone) * sizeof(*all));
		assert_int_equal(bn_maglev_build(less, N - 1, size, b), 0);
		for (uint32_t i = 0; i < size; i++)
			if (a[i] != gone && memcmp(&all[a[i]], &less[b[i]], sizeof(*all)))
				moved++;
		moved_sum += moved;
		moved_most = moved > moved_most ? moved : moved_most;
	}
	print_message("Maglev, 100 backends, table of %u: shares %.3f to %.3f of even; when one "
		      "leaves, %.2f %% of"
		      " the others' flows move (worst %.2f %%)\n",
		      size, least * N / (double)size, most * N / (double)size,
		      moved_sum / N / size * 100, moved_most * 100.0 / size);
	assert_true(most - least <= size / N / 50);
	assert_true(moved_sum / N / size < 0.02);
	free(a);
	free(b);
}

/* The order in which the backends are given says nothing. */
static void test_maglev_order(void **state _unused_)
{
	enum { N = 17 };
	uint32_t size = bn_maglev_size(N);
	struct bn_backend v[N], w[N];
	uint16_t *a = calloc(size, 2), *b = calloc(size, 2);

	backends(v, N);
	for (uint32_t i = 0; i < N; i++)
		w[i] = v[(i * 5 + 3) % N];
	assert_int_equal(bn_maglev_build(v, N, size, a), 0);
	assert_int_equal(bn_maglev_build(w, N, size, b), 0);
	for (uint32_t i = 0; i < size; i++)
		assert_memory_equal(&v[a[i]], &w[b[i]], sizeof(*v));
	assert_int_equal(bn_maglev_build(v, 0, size, a), -EINVAL);
	assert_int_equal(bn_maglev_build(v, N, N - 1, a), -EINVAL);
	free(a);
	free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),	     cmocka_unit_test(test_ranges_edges),
		cmocka_unit_test(test_maglev_sizes), cmocka_unit_test(test_maglev_disruption),
		cmocka_unit_test(test_maglev_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
