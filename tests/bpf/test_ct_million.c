// SPDX-License-Identifier: MIT
/* A million translated flows at once (--ct-max 1000000): every one is found again, what it costs is
 * printed, and what comes beyond the table's end is refused and counted while the million stay.
 */
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "maps/ct_access.h"
#include "maps/util.h"

#define FLOWS 1000000u
#define CHUNK 65536u

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Flow number i: of 16,384 clients to a service with 64 endpoints, masqueraded. */
static void flow(uint32_t i, struct bn_ct_foreign *f)
{
	uint32_t client = i & 16383, port = i >> 14;

	*f = (struct bn_ct_foreign){
		.sport = htobe16(1024 + port), .dport = htobe16(80),
		.xsp = htobe16(32768 + port), .xdp = htobe16(8080),
		.flags = BN_CT_F_REPLIED | BN_CT_F_ASSURED,
		.life_s = 3600, .proto = BN_PROTO_TCP,
	};
	bn_addr_v4(&f->src, htobe32(0x0a000000 + client));
	bn_addr_v4(&f->dst, htobe32(0x0a600001));
	bn_addr_v4(&f->xs, htobe32(0xc0000200 + (client & 15)));
	bn_addr_v4(&f->xd, htobe32(0x0af40000 + (client >> 4)));
}

/* Enters flows [from, from + n), or asks for them: what is there is `known`. */
static struct bn_ct_imported enter(const struct bn_maps *m, uint32_t from, uint32_t n)
{
	struct bn_ct_imported all = { 0 }, r;
	struct bn_ct_foreign *v = calloc(CHUNK, sizeof(*v));

	assert_non_null(v);
	for (uint32_t i = 0; i < n; i += CHUNK) {
		uint32_t k = n - i < CHUNK ? n - i : CHUNK;

		for (uint32_t j = 0; j < k; j++)
			flow(from + i + j, &v[j]);
		assert_int_equal(bn_ct_import(m, v, k, &r), 0);
		all.done += r.done;
		all.known += r.known;
		all.full += r.full;
	}
	free(v);
	return all;
}

static void a_million(void **state)
{
	struct bn_maps_sizes sizes = { .entries = { [BN_MAP_ct] = BN_CT_BUCKETS_ASKED(FLOWS) } };
	struct bn_maps *m = NULL;
	struct bn_ct_imported r, again;
	uint64_t bytes, used, max;
	double began, took;

	(void)state;
	assert_int_equal(bn_maps_create(&sizes, &m), 0);
	bytes = bn_map_memory(m, BN_MAP_ct) + bn_map_memory(m, BN_MAP_ct_heads);
	began = now_s();
	r = enter(m, 0, FLOWS);
	took = now_s() - began;
	printf("%zu of %u flows entered in %.1f s (%.2f us each), %zu found no room; %.0f MB, %.0f bytes a flow\n",
	       r.done, FLOWS, took, took / FLOWS * 1e6, r.full, bytes / 1e6, (double)bytes / FLOWS);
	assert_int_equal(r.done + r.full, FLOWS);
	assert_true(r.full < FLOWS / 500); /* by the random seed: 0 to 0.04 % were seen */
	assert_true(bytes < 420u * 1000000); /* docs/OPERATIONS.md states it */
	assert_true(took < 120);

	began = now_s();
	again = enter(m, 0, FLOWS);
	took = now_s() - began;
	printf("all of them looked up in %.1f s\n", took);
	assert_true(again.known >= r.done);
	assert_int_equal(bn_ct_fill(m, 4096, &used, &max), 0);
	printf("entries: about %lu of %lu\n", (unsigned long)used, (unsigned long)max);
	assert_true(used > 2 * FLOWS / 100 * 95 && used < max);

	/* Far beyond the end: most are refused, none takes the place of one that is established. */
	again = enter(m, FLOWS, FLOWS / 2);
	printf("beyond the end: %zu of %u found room, %zu refused\n", again.done, FLOWS / 2, again.full);
	assert_true(again.full > FLOWS / 10);
	again = enter(m, 0, FLOWS);
	assert_true(again.known >= r.done);
	bn_maps_freep(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_million),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
