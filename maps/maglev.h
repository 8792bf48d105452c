/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_MAGLEV_H
#define BN_MAPS_MAGLEV_H

/* Maglev tables: which backend a flow's hash gets, so that every node picks the same one and that a
 * backend that goes moves few flows of the others (Eisenbud et al., NSDI 2016, section 3.4). Pure.
 * The table depends on the set of backends only: not on their order, the node or the time.
 */

#include <stdint.h>

#include "maps/svc.h"

/* The size of the table of n backends: the smallest of our primes >= 100 * n that fits a range
 * (65535 slots), or the largest that does. 0 for n == 0 or n > 65535.
 */
uint32_t bn_maglev_size(uint32_t n);

/* Fills table[size] with indices of backends[n]. size is prime and >= n; 0 or -ENOMEM, -EINVAL. */
int bn_maglev_build(const struct bn_backend *backends, uint32_t n, uint32_t size, uint16_t *table);

#endif
