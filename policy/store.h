/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_STORE_H
#define BN_POLICY_STORE_H

/* All objects of the cluster that bpfnet knows, by kind, namespace and name. Pure memory: the
 * daemon's sources fill it, the models listen to it, the offline trace fills it from files.
 */

#include "policy/object.h"

struct bn_store;

int bn_store_new(struct bn_store **ret);
void bn_store_freep(struct bn_store **s);

/* Puts o in place of what had its kind, namespace and name. Takes its own reference. An object
 * equal to what is there (same content) changes nothing and calls nobody.
 */
int bn_store_put(struct bn_store *s, struct bn_obj *o);
/* 0, or -ENOENT. */
int bn_store_del(struct bn_store *s, enum bn_kind kind, const char *ns, const char *name);

/* Borrowed; valid until the next put or del of it. ns and name need not be interned. */
struct bn_obj *bn_store_get(const struct bn_store *s, enum bn_kind kind, const char *ns,
			    const char *name);
size_t bn_store_count(const struct bn_store *s, enum bn_kind kind);

/* Calls fn for each object of a kind until it returns non-zero, which is returned. fn must not
 * change the store.
 */
int bn_store_each(const struct bn_store *s, enum bn_kind kind,
		  int (*fn)(struct bn_obj *o, void *data), void *data);

/* fn is called after each change: old NULL is an addition, new NULL a removal. Listeners are called
 * in order of registration and must not change the store. They note what is dirty and do their
 * work when the daemon's loop calls them (one batch for many changes).
 */
typedef void (*bn_store_fn)(const struct bn_obj *old, const struct bn_obj *new, void *data);
int bn_store_listen(struct bn_store *s, bn_store_fn fn, void *data);
void bn_store_unlisten(struct bn_store *s, bn_store_fn fn, void *data);

#endif
