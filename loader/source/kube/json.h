/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_JSON_H
#define BN_KUBE_JSON_H

/* Parses one JSON object of the API, and of it only the fields that are asked for: managedFields
 * and the like, most of the bytes, are stepped over and never become memory. What is kept is as
 * strictly read as jansson would; what is stepped over only has to be balanced.
 */

#include <jansson.h>
#include <stddef.h>

/* A mask of fields: the keys of an object that are kept, and what is kept below each (NULL: all).
 * Arrays have the mask of their elements. BN_JSON_OTHERS as the last one keeps every other key. Ends with a NULL
 * key.
 */
#define BN_JSON_OTHERS "*"
struct bn_json_mask {
	const char *key;
	const struct bn_json_mask *sub;
};

/* mask NULL: everything. 0, -EBADMSG, -ENOMEM. */
int bn_json_load(const char *p, size_t n, const struct bn_json_mask *mask, json_t **ret);

#endif
