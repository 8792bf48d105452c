// SPDX-License-Identifier: MIT
/* maps/http_access: rule sets as the programs see them, counters. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/bpf.h>
#include <string.h>

#include "maps/http_access.h"
#include "maps/maps.h"
#include "maps/util.h"

#define CELLS 40000 /* three pages with the bitmaps */
#define WORDS 100

static int setup(void **state)
{
	struct bn_maps *m;

	if (bn_maps_create(NULL, &m) < 0)
		return -1;
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	bn_maps_freep((struct bn_maps **)state);
	return 0;
}

static void image(struct bn_http_image *i, uint32_t gen)
{
	static struct bn_http_tab tab = {.nmatches = 3, .nwords = 1};
	static uint16_t cells[CELLS];
	static uint64_t words[WORDS];

	for (uint32_t k = 0; k < CELLS; k++)
		cells[k] = (uint16_t)(k * 7 + gen);
	for (uint32_t k = 0; k < WORDS; k++)
		words[k] = k * 1000003ull + gen;
	*i = (struct bn_http_image){.tab = &tab, .cells = cells, .words = words, .ncells = CELLS,
				    .nwords = WORDS, .gen = gen, .stats = 5, .digest = 77};
}

static int count(uint32_t id, const struct bn_http_set *s, void *data)
{
	assert_int_equal(s->digest, 77);
	*(uint32_t *)data += id;
	return 0;
}

static void sets_come_and_go(void **state)
{
	static struct bn_http_page page;
	struct bn_maps *m = *state;
	struct bn_http_image two[2];
	struct bn_http_set s;
	uint32_t ids[2] = {3, BN_HTTP_SETS - 1}, bad = BN_HTTP_SETS, sum = 0, inner, last, k = 0;
	int fd;

	image(&two[0], 9);
	two[1] = two[0];
	two[1].gen = 10;
	assert_int_equal(bn_http_set_size(&two[0]), 3 * BN_HTTP_PAGE);
	assert_int_equal(bn_http_sets_put(m, ids, two, 2), 0);
	assert_int_equal(bn_http_sets_put(m, &bad, two, 1), -EINVAL);
	assert_int_equal(bn_http_set_get(m, 3, &s), 0);
	assert_int_equal(s.gen, 9);
	assert_int_equal(s.tab.nmatches, 3);
	assert_int_equal(s.stats, 5);
	assert_int_equal(bn_http_set_get(m, 4, &s), -ENOENT);
	assert_int_equal(bn_http_set_get(m, BN_HTTP_SETS - 1, &s), 0);
	assert_int_equal(s.gen, 10);
	assert_int_equal(bn_http_sets_each(m, count, &sum), 0);
	assert_int_equal(sum, 3 + BN_HTTP_SETS - 1);

	/* As a program reads it: cell and word by offset. */
	assert_int_equal(bn_map_get(m, BN_MAP_http_sets, &ids[0], &inner), 0);
	fd = bpf_map_get_fd_by_id(inner);
	assert_true(fd >= 0);
	last = BN_HTTP_CELLS_AT + 2 * (CELLS - 1);
	k = last / BN_HTTP_PAGE;
	assert_int_equal(bpf_map_lookup_elem(fd, &k, &page), 0);
	assert_int_equal(page.cell[last % BN_HTTP_PAGE / 2], (uint16_t)((CELLS - 1) * 7 + 9));
	last = s.words + 8 * (WORDS - 1);
	k = last / BN_HTTP_PAGE;
	assert_int_equal(bpf_map_lookup_elem(fd, &k, &page), 0);
	assert_int_equal(page.word[last % BN_HTTP_PAGE / 8], (WORDS - 1) * 1000003ull + 9);
	close(fd);

	assert_int_equal(bn_http_set_del(m, 3), 0);
	assert_int_equal(bn_http_set_del(m, 3), 0);
	assert_int_equal(bn_http_set_get(m, 3, &s), -ENOENT);
}

static void counters(void **state)
{
	struct bn_maps *m = *state;
	uint64_t reasons[BN_HTTP__MAX];
	uint32_t at = 12;
	uint64_t v = 5;

	assert_int_equal(bn_map_put(m, BN_MAP_http_stats, &at, &v), 0);
	assert_int_equal(bn_http_stat(m, 12), 5);
	bn_http_stat_clear(m, 12);
	assert_int_equal(bn_http_stat(m, 12), 0);
	assert_int_equal(bn_http_reason_counts(m, reasons), 0);
	assert_int_equal(reasons[BN_HTTP_NO_MATCH], 0);
	assert_int_equal(bn_http_conns_count(m), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_come_and_go),
		cmocka_unit_test(counters),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
