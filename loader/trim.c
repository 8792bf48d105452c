// SPDX-License-Identifier: MIT
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "loader/trim.h"
#include "maps/util.h"

/* A file's pages that were never written come back from the page cache when they are asked for. What was
 * written (relocated, for one) would be lost: `anonymous` says how much of it there is.
 */
static void drop(unsigned long from, unsigned long to, bool file, unsigned long anonymous)
{
	if (file && !anonymous)
		madvise((void *)from, to - from, MADV_DONTNEED);
}

void bn_trim(void)
{
	_cleanup_(fclosep) FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long from, to, at = 0, end = 0, anonymous = 0;
	bool file = false;
	char line[4352], perms[5];

	malloc_trim(0);
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %4s", &from, &to, perms) == 3) {
			at = from;
			end = to;
			file = perms[1] == '-' && perms[3] == 'p' && strchr(line, '/');
		} else if (sscanf(line, "Anonymous: %lu", &anonymous) == 1) {
			drop(at, end, file, anonymous);
		}
	}
}
