/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_UTIL_H
#define BN_MAPS_UTIL_H

/* Ownership helpers for user space (STYLE 9): every owning local carries _cleanup_, every escape
 * goes through TAKE_PTR or TAKE_FD, a file descriptor that is not open is -1.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>

#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define _unused_ __attribute__((unused))
#define _printf_(a, b) __attribute__((format(printf, a, b)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) _take_ptr = (p);                                                     \
		(p) = NULL;                                                                        \
		_take_ptr;                                                                         \
	})

#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int _take_fd = (fd);                                                               \
		(fd) = -1;                                                                         \
		_take_fd;                                                                          \
	})

/* Does this processor reorder loads, or stores? (bpf/lib/cfg.h) */
static inline bool bn_weak_order(void)
{
#if defined(__x86_64__) || defined(__i386__) || defined(__s390x__)
	return false;
#else
	return true;
#endif
}

/* Frees what a pointer variable points to, whatever its type: _cleanup_(freep) char *s = NULL; */
static inline void freep(void *p)
{
	free(*(void **)p);
	*(void **)p = NULL;
}

/* Closes and keeps errno, so that it may run on an error path. */
static inline void closep(int *fd)
{
	int e = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = e;
}

static inline void fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
	*f = NULL;
}

#endif
