/* SPDX-License-Identifier: MIT */
#ifndef BN_FUZZ_MUST_H
#define BN_FUZZ_MUST_H

#include <stdio.h>
#include <stdlib.h>

/* What does not hold ends the run, and the input is kept. */
#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			dprintf(2, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#endif
