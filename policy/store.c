/* SPDX-License-Identifier: MIT */
#include "policy/store.h"

#include <stdlib.h>
#include <string.h>

#include "maps/util.h"
#include "policy/intern.h"

/* Memory that is out must not end the process: uthash reports it through the element. */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(e) ((e)->oom = true)
#include <uthash.h>

/* Interned pointers are the key: what they hash to is not for those who name objects to choose. */
struct key {
	const char *ns, *name;
};

struct entry {
	struct key key;
	struct bn_obj *obj;
	bool oom;
	UT_hash_handle hh;
};

struct listener {
	bn_store_fn fn;
	void *data;
};

struct bn_store {
	struct entry *kinds[BN_KIND__MAX];
	struct listener *listeners;
	size_t nlisteners;
};

int bn_store_new(struct bn_store **ret)
{
	struct bn_store *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	*ret = s;
	return 0;
}

static void entry_drop(struct bn_store *s, enum bn_kind kind, struct entry *e)
{
	HASH_DEL(s->kinds[kind], e);
	bn_obj_unref(e->obj);
	free(e);
}

void bn_store_freep(struct bn_store **sp)
{
	struct bn_store *s = *sp;
	struct entry *e, *next;
	int k;

	if (!s)
		return;
	for (k = 0; k < BN_KIND__MAX; k++) {
		HASH_ITER(hh, s->kinds[k], e, next)
			entry_drop(s, k, e);
	}
	free(s->listeners);
	free(s);
	*sp = NULL;
}

static void notify(struct bn_store *s, const struct bn_obj *old, const struct bn_obj *new)
{
	size_t i;

	for (i = 0; i < s->nlisteners; i++)
		s->listeners[i].fn(old, new, s->listeners[i].data);
}

static struct entry *find(const struct bn_store *s, enum bn_kind kind, const char *ns,
			  const char *name)
{
	struct key key = { bn_intern_find(ns ? ns : ""), bn_intern_find(name) };
	struct entry *e = NULL;

	if ((unsigned)kind >= BN_KIND__MAX || !key.ns || !key.name)
		return NULL;
	HASH_FIND(hh, s->kinds[kind], &key, sizeof(key), e);
	return e;
}

static int add(struct bn_store *s, struct bn_obj *o)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->key.ns = bn_intern(o->ns ? o->ns : "");
	e->key.name = bn_intern(o->name);
	if (!e->key.ns || !e->key.name) {
		free(e);
		return -ENOMEM;
	}
	HASH_ADD(hh, s->kinds[o->kind], key, sizeof(e->key), e);
	if (e->oom) {
		free(e);
		return -ENOMEM;
	}
	e->obj = bn_obj_ref(o);
	notify(s, NULL, o);
	return 0;
}

int bn_store_put(struct bn_store *s, struct bn_obj *o)
{
	struct bn_obj *old;
	struct entry *e;

	if ((unsigned)o->kind >= BN_KIND__MAX || !o->name)
		return -EINVAL;
	e = find(s, o->kind, o->ns, o->name);
	if (!e)
		return add(s, o);
	old = e->obj;
	if (old == o)
		return 0;
	if (bn_obj_equal(old, o)) {
		bn_obj_move_origin(old, o);
		return 0;
	}
	e->obj = bn_obj_ref(o);
	notify(s, old, o);
	bn_obj_unref(old);
	return 0;
}

int bn_store_del(struct bn_store *s, enum bn_kind kind, const char *ns, const char *name)
{
	struct entry *e = find(s, kind, ns, name);
	struct bn_obj *old;

	if (!e)
		return -ENOENT;
	old = bn_obj_ref(e->obj);
	entry_drop(s, kind, e);
	notify(s, old, NULL);
	bn_obj_unref(old);
	return 0;
}

struct bn_obj *bn_store_get(const struct bn_store *s, enum bn_kind kind, const char *ns,
			    const char *name)
{
	struct entry *e = find(s, kind, ns, name);

	return e ? e->obj : NULL;
}

size_t bn_store_count(const struct bn_store *s, enum bn_kind kind)
{
	return (unsigned)kind < BN_KIND__MAX ? HASH_COUNT(s->kinds[kind]) : 0;
}

int bn_store_each(const struct bn_store *s, enum bn_kind kind,
		  int (*fn)(struct bn_obj *o, void *data), void *data)
{
	struct entry *e, *next;
	int r;

	if ((unsigned)kind >= BN_KIND__MAX)
		return 0;
	HASH_ITER(hh, s->kinds[kind], e, next) {
		r = fn(e->obj, data);
		if (r)
			return r;
	}
	return 0;
}

int bn_store_listen(struct bn_store *s, bn_store_fn fn, void *data)
{
	struct listener *l = realloc(s->listeners, (s->nlisteners + 1) * sizeof(*l));

	if (!l)
		return -ENOMEM;
	l[s->nlisteners++] = (struct listener){ fn, data };
	s->listeners = l;
	return 0;
}

void bn_store_unlisten(struct bn_store *s, bn_store_fn fn, void *data)
{
	size_t n = 0;

	for (size_t i = 0; i < s->nlisteners; i++)
		if (s->listeners[i].fn != fn || s->listeners[i].data != data)
			s->listeners[n++] = s->listeners[i];
	s->nlisteners = n;
}
