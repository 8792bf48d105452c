/* SPDX-License-Identifier: MIT */
#ifndef BN_TEST_CT_FULL_H
#define BN_TEST_CT_FULL_H

/* A bucket of the connection table from its two maps, for tests that look into it or change it. */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "maps/maps.h"
#include "maps/util.h"

struct ct_full {
	uint32_t tag[BN_CT_WAYS];
	struct bn_ct_entry e[BN_CT_WAYS];
};

static _unused_ void ct_get(const struct bn_maps *m, uint32_t bucket, struct ct_full *b)
{
	struct bn_ct_head h;

	assert_int_equal(bn_map_get(m, BN_MAP_ct_heads, &bucket, &h), 0);
	assert_int_equal(bn_map_get(m, BN_MAP_ct, &bucket, b->e), 0);
	memcpy(b->tag, h.tag, sizeof(b->tag));
}

static _unused_ void ct_put(const struct bn_maps *m, uint32_t bucket, const struct ct_full *b)
{
	struct bn_ct_head h = {};

	memcpy(h.tag, b->tag, sizeof(h.tag));
	assert_int_equal(bn_map_put(m, BN_MAP_ct_heads, &bucket, &h), 0);
	assert_int_equal(bn_map_put(m, BN_MAP_ct, &bucket, b->e), 0);
}

#endif
