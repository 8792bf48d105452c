/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_SPLIT_H
#define BN_KUBE_SPLIT_H

/* Cuts a stream of JSON, arriving in pieces of any size, into what is worth parsing: the elements of
 * "items" of a list, or the events of a watch. Holds one element and never the whole; looks at
 * nothing but strings and brackets, so what it hands out still has to be parsed.
 */

#include <stdbool.h>
#include <stddef.h>

#include "maps/util.h"

/* etcd takes 1.5 MB; the JSON of one object is at most a few times that. */
#define BN_SPLIT_ITEM_MAX (16u << 20)
/* What stands beside the items of a list. */
#define BN_SPLIT_REST_MAX (1u << 20)

struct bn_buf {
	char *p;
	size_t n, cap;
};

struct bn_split {
	bool list;	   /* false: a watch */
	int (*item)(void *data, const char *p, size_t n); /* negative stops the stream */
	void *data;
	struct bn_buf part; /* the element under way */
	struct bn_buf rest; /* the list without its items: a JSON document once `ended` */
	unsigned depth;	    /* of brackets in the element, or in the frame around the items */
	unsigned frame_depth;
	bool in_item, in_string, escaped;
	bool in_items, had_items, items_key, ended;
	size_t string_at; /* where in rest the last string began */
};

void bn_split_init(struct bn_split *s, bool list,
		   int (*item)(void *data, const char *p, size_t n), void *data);
/* 0; -EBADMSG: this is no such stream; -EFBIG; -ENOMEM; or what item said. */
int bn_split_feed(struct bn_split *s, const char *p, size_t n);
/* True when the stream may end here: between events, or after the list. */
bool bn_split_complete(const struct bn_split *s);
void bn_split_clear(struct bn_split *s);

#endif
