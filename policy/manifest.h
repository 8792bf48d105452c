/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_MANIFEST_H
#define BN_POLICY_MANIFEST_H

/* The text of a manifest file to API objects.
 *
 * A text is first cut into chunks that can be read, and compared, each for itself: documents between
 * `---` lines, JSON values in a row, members of a JSON list. One bad chunk spoils no other, and one
 * that has not changed since need not be parsed again. What a chunk is, its content decides.
 */

#include <jansson.h>
#include <stddef.h>

#include "policy/object.h"
#include "policy/store.h"

struct bn_chunk {
	const char *text;
	size_t len;
	unsigned line; /* of its first byte, from 1 */
	/* of a JSON list's members: the list's own kind and apiVersion, else NULL */
	const char *list_kind, *list_version;
};

/* Calls fn with each chunk in order; a non-zero return ends it and is returned. */
int bn_manifest_split(const char *text, size_t len,
		      int (*fn)(const struct bn_chunk *c, void *data), void *data);

struct bn_manifest_err {
	unsigned line;
	char msg[200];
};

/* Calls fn with each object of a chunk, lists unfolded; obj is borrowed. Returns 0; -EINVAL with err
 * filled in when the text is bad (objects before that place have been handed out); -ENOMEM; or what
 * fn returned.
 */
int bn_manifest_parse(const struct bn_chunk *c, int (*fn)(json_t *obj, unsigned line, void *data),
		      void *data, struct bn_manifest_err *err);

/* True for a name that is read in a manifests directory: *.yaml, *.yml, *.json, no dot before it. */
bool bn_manifest_name(const char *name);

/* The whole file. -EFBIG beyond BN_MANIFEST_MAX bytes, else what open and read say. */
#define BN_MANIFEST_MAX (256u << 20)
int bn_manifest_slurp(int dirfd, const char *name, char **ret, size_t *len);

/* Reads a directory once into a store, without a daemon. report is called with what was refused
 * ("file:line", the object, the error) and may be NULL. Of an object that stands in two files the
 * first counts. Returns 0, or why the directory cannot be read.
 */
int bn_manifest_load_dir(const char *dir, struct bn_store *store,
			 void (*report)(const char *where, const char *object,
					const struct bn_err *err, void *data),
			 void *data);

#endif
