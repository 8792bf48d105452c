/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_INTERN_H
#define BN_POLICY_INTERN_H

/* One copy of every string of the cluster's objects (names, label keys and values, zones).
 * Interned strings live until bn_intern_reset; two of them are equal exactly if their pointers
 * are. Not thread-safe: the writer thread owns the table (parsing workers hand over raw JSON).
 */

#include <stddef.h>

/* Returns the interned copy of s (NULL gives NULL), or NULL when memory is out. */
const char *bn_intern(const char *s);
const char *bn_intern_n(const char *s, size_t len);

/* The interned copy if there is one already, else NULL: a look-up that leaves no trace. */
const char *bn_intern_find(const char *s);

/* Number of strings, and the bytes that they and the table take. */
size_t bn_intern_count(void);
size_t bn_intern_bytes(void);

/* Frees everything: for tests and for the end of a process only. */
void bn_intern_reset(void);

#endif
