/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_SEEN_H
#define BN_KUBE_SEEN_H

/* The objects of one list: a set of interned (namespace, name), with references. */

#include <stdbool.h>
#include <stddef.h>

#include "maps/util.h"

struct bn_seen {
	size_t n, cap; /* cap is a power of two, or 0 */
	struct bn_seen_id {
		const char *ns, *name;
	} *v;
};

int bn_seen_add(struct bn_seen *s, const char *ns, const char *name);
bool bn_seen_has(const struct bn_seen *s, const char *ns, const char *name);
void bn_seen_clear(struct bn_seen *s);

#endif
