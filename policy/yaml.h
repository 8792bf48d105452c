/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_YAML_H
#define BN_POLICY_YAML_H

/* YAML text to JSON values, typed as kubectl types it (sigs.k8s.io/yaml, YAML 1.1): unquoted yes, no,
 * on, off, true and false are booleans in their three spellings; ~, null and nothing are null; 0x1f,
 * 0o17, 017 and 1_000 are integers; dates stay strings; what is quoted is a string.
 *
 * Differences: y and n alone are strings, as for nearly everybody else, and a key is the text that
 * stands there, whatever its type would be. Duplicate keys, keys that are not scalars, tags beyond
 * the core schema and infinities are errors.
 *
 * Bounded for hostile text: nesting, anchors, and how much aliases expand to.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define BN_YAML_DEPTH_MAX   100
#define BN_YAML_ANCHORS_MAX 256
#define BN_YAML_ALIASED_MAX 200000 /* nodes, aliases expanded, in one document */

struct bn_yaml_err {
	unsigned line; /* from 1 */
	char msg[200];
};

/* Called with each document that is not empty (null), and before that, with item set, with each
 * mapping in the list `items` at its top: who takes it (returns 1) saves building the whole; then a
 * null stands in its place. node is borrowed. A negative return ends the parse.
 */
typedef int (*bn_yaml_fn)(json_t *node, unsigned line, bool item, void *data);

/* 0; -EINVAL with err filled in; -ENOMEM; or what fn returned. */
int bn_yaml_parse(const char *text, size_t len, bn_yaml_fn fn, void *data, struct bn_yaml_err *err);

#endif
