/* SPDX-License-Identifier: MIT */
#ifndef BN_TESTS_SLOW_H
#define BN_TESTS_SLOW_H

/* How many times slower this machine is than those that limits of time are made for: 1, or what
 * $BN_TEST_SLOWNESS says (tests/kernels/init.sh, under software emulation).
 */
#include <stdlib.h>

static inline double test_slowness(void)
{
	const char *s = getenv("BN_TEST_SLOWNESS");

	return s ? atof(s) : 1;
}

#endif
