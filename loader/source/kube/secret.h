/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_SECRET_H
#define BN_KUBE_SECRET_H

/* Memory for tokens, passwords and private keys: its own pages, left out of core dumps, wiped when
 * it is freed. Always terminated by a NUL that n does not count. Zeroed is a valid empty secret.
 */

#include <stdbool.h>
#include <stddef.h>

#include "maps/util.h"

struct bn_secret {
	char *p; /* NULL when empty */
	size_t n;
	size_t map; /* bytes mapped */
};

/* Replaces what s holds. 0 or -ENOMEM (s is then unchanged). */
int bn_secret_set(struct bn_secret *s, const void *data, size_t n);
/* Standard base64 as in *-data fields; white space is skipped. -EINVAL. */
int bn_secret_set_base64(struct bn_secret *s, const char *text);
/* Reads a file of at most max bytes; -EFBIG beyond it, or what open and read say. */
int bn_secret_set_file(struct bn_secret *s, const char *path, size_t max);
/* Removes white space at both ends, as client-go does with token files. */
void bn_secret_trim(struct bn_secret *s);
/* The content as base64, on the heap. NULL when memory is out. */
char *bn_secret_base64(const struct bn_secret *s);
bool bn_secret_equal(const struct bn_secret *a, const struct bn_secret *b);
void bn_secret_clear(struct bn_secret *s);

/* free() of a heap string after wiping it. */
void bn_wipe_freep(char **s);

#endif
