/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_RANGES_H
#define BN_MAPS_RANGES_H

/* Hands out ranges of a numbered space (the slots of map slots). Constant time: free ranges are
 * kept by size class (exact below 64, sixteen classes to a power of two above), neighbours merge at
 * once, the smallest class that fits is taken. Pure memory; knows nothing of grace periods: what is
 * given back may be handed out by the next call.
 */

#include <stdbool.h>
#include <stdint.h>

struct bn_ranges;

#define BN_RANGES_NONE UINT32_MAX

/* n units, all taken: give back what is free. -ENOMEM, -EINVAL (n is 0 or above 2^28). */
int bn_ranges_new(uint32_t n, struct bn_ranges **ret);
void bn_ranges_freep(struct bn_ranges **r);

/* The first unit of a range of `size` (> 0), or BN_RANGES_NONE. */
uint32_t bn_ranges_take(struct bn_ranges *r, uint32_t size);
/* Takes exactly [base, base + size): base begins a free run that is long enough; false if not. */
bool bn_ranges_take_at(struct bn_ranges *r, uint32_t base, uint32_t size);
void bn_ranges_give(struct bn_ranges *r, uint32_t base, uint32_t size);

uint32_t bn_ranges_free(const struct bn_ranges *r);    /* units that are free */
uint32_t bn_ranges_largest(const struct bn_ranges *r); /* longest run of them */

#endif
