/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_INTERN_H
#define BN_POLICY_INTERN_H

/* One copy of every string of the cluster's objects (names, label keys and values, zones); two
 * interned strings are equal exactly if their pointers are.
 *
 * Who keeps a string longer than the step of work in which it got it takes a reference; an object
 * has one to each string that it holds, until it is freed. A string that nobody refers to is freed
 * by bn_intern_collect, and by nothing else: until then its pointer may be used without a
 * reference. Processes that never collect (the command, most tests) need not count. Not
 * thread-safe: the writer thread owns the table (workers read strings of objects that it refers to).
 */

#include <stdbool.h>
#include <stddef.h>

/* Returns the interned copy of s (NULL gives NULL), or NULL when memory is out. */
const char *bn_intern(const char *s);
const char *bn_intern_n(const char *s, size_t len);

/* The interned copy if there is one already, else NULL: a look-up that leaves no trace. */
const char *bn_intern_find(const char *s);

/* s is interned, or NULL. bn_intern_ref returns it. */
const char *bn_intern_ref(const char *s);
void bn_intern_unref(const char *s);

/* Frees the strings without a reference. For the loop, between two steps of work; costs as much as
 * there are strings that came or lost their last reference since.
 */
void bn_intern_collect(void);

/* Number of strings, and the bytes that they and the table take. */
size_t bn_intern_count(void);
size_t bn_intern_bytes(void);

/* Frees everything: for tests and for the end of a process only. */
void bn_intern_reset(void);

#endif
