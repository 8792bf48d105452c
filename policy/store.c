/* SPDX-License-Identifier: MIT */
#include "policy/store.h"

#include <stdlib.h>
#include <string.h>

#include "maps/util.h"
#include "policy/index.h"
#include "policy/intern.h"

/* In order of arrival, with holes where objects went; a hole is filled by the next one. */
struct table {
	struct bn_obj **objs;
	uint32_t used, max; /* entries, holes counted */
	uint32_t *holes;
	uint32_t nholes, max_holes;
	struct bn_index index;
};

struct listener {
	bn_store_fn fn;
	void *data;
};

struct bn_store {
	struct table kinds[BN_KIND__MAX];
	struct listener *listeners;
	size_t nlisteners;
};

static struct bn_index_key obj_key(const void *array, uint32_t entry)
{
	const struct bn_obj *o = ((struct bn_obj *const *)array)[entry];

	return (struct bn_index_key){ o->ns, o->name, 0 };
}

int bn_store_new(struct bn_store **ret)
{
	struct bn_store *s = calloc(1, sizeof(*s));
	int k;

	if (!s)
		return -ENOMEM;
	for (k = 0; k < BN_KIND__MAX; k++)
		s->kinds[k].index.key = obj_key;
	*ret = s;
	return 0;
}

void bn_store_freep(struct bn_store **sp)
{
	struct bn_store *s = *sp;
	uint32_t i;
	int k;

	if (!s)
		return;
	for (k = 0; k < BN_KIND__MAX; k++) {
		struct table *t = &s->kinds[k];

		for (i = 0; i < t->used; i++)
			bn_obj_unref(t->objs[i]);
		freep(&t->objs);
		freep(&t->holes);
		bn_index_clear(&t->index);
	}
	freep(&s->listeners);
	freep(sp);
}

static void notify(struct bn_store *s, const struct bn_obj *old, const struct bn_obj *new)
{
	size_t i;

	for (i = 0; i < s->nlisteners; i++)
		s->listeners[i].fn(old, new, s->listeners[i].data);
}

/* The entry's number, or BN_INDEX_NONE. */
static uint32_t find(const struct bn_store *s, enum bn_kind kind, const char *ns, const char *name)
{
	struct bn_index_key key = { bn_intern_find(ns ?: ""), bn_intern_find(name), 0 };

	if ((unsigned)kind >= BN_KIND__MAX || !key.ns || !key.name)
		return BN_INDEX_NONE;
	return bn_index_find(&s->kinds[kind].index, s->kinds[kind].objs, &key);
}

static int grow(void *array, uint32_t *max, size_t size)
{
	uint32_t n = *max ? *max + *max / 2 : 16;
	void *p;

	memcpy(&p, array, sizeof(p));
	p = reallocarray(p, n, size);
	if (!p)
		return -ENOMEM;
	memcpy(array, &p, sizeof(p));
	*max = n;
	return 0;
}

static int add(struct bn_store *s, struct bn_obj *o)
{
	struct table *t = &s->kinds[o->kind];
	uint32_t entry = t->nholes ? t->holes[t->nholes - 1] : t->used;
	int r;

	/* the index goes by pointers */
	if (bn_intern(o->ns) != o->ns || bn_intern(o->name) != o->name)
		return -EINVAL;
	if (entry == t->max && grow(&t->objs, &t->max, sizeof(*t->objs)) < 0)
		return -ENOMEM;
	t->objs[entry] = o;
	r = bn_index_add(&t->index, t->objs, entry);
	if (r < 0) {
		t->objs[entry] = NULL;
		return r;
	}
	bn_obj_ref(o);
	if (t->nholes)
		t->nholes--;
	else
		t->used++;
	notify(s, NULL, o);
	return 0;
}

int bn_store_put(struct bn_store *s, struct bn_obj *o)
{
	struct bn_obj **place, *old;
	uint32_t entry;

	if ((unsigned)o->kind >= BN_KIND__MAX || !o->name || !o->ns)
		return -EINVAL;
	entry = find(s, o->kind, o->ns, o->name);
	if (entry == BN_INDEX_NONE)
		return add(s, o);
	place = &s->kinds[o->kind].objs[entry];
	old = *place;
	if (old == o)
		return 0;
	if (bn_obj_equal(old, o)) {
		bn_obj_move_origin(old, o);
		return 0;
	}
	*place = bn_obj_ref(o);
	notify(s, old, o);
	bn_obj_unref(old);
	return 0;
}

int bn_store_del(struct bn_store *s, enum bn_kind kind, const char *ns, const char *name)
{
	uint32_t entry = find(s, kind, ns, name);
	struct bn_obj *old;
	struct table *t;

	if (entry == BN_INDEX_NONE)
		return -ENOENT;
	t = &s->kinds[kind];
	if (t->nholes == t->max_holes && grow(&t->holes, &t->max_holes, sizeof(*t->holes)) < 0)
		return -ENOMEM;
	old = t->objs[entry];
	bn_index_del(&t->index, t->objs, entry);
	t->objs[entry] = NULL;
	t->holes[t->nholes++] = entry;
	notify(s, old, NULL);
	bn_obj_unref(old);
	return 0;
}

struct bn_obj *bn_store_get(const struct bn_store *s, enum bn_kind kind, const char *ns,
			    const char *name)
{
	uint32_t entry = find(s, kind, ns, name);

	return entry == BN_INDEX_NONE ? NULL : s->kinds[kind].objs[entry];
}

size_t bn_store_count(const struct bn_store *s, enum bn_kind kind)
{
	return (unsigned)kind < BN_KIND__MAX ? s->kinds[kind].index.count : 0;
}

int bn_store_each(const struct bn_store *s, enum bn_kind kind,
		  int (*fn)(struct bn_obj *o, void *data), void *data)
{
	uint32_t i;
	int r = 0;

	if ((unsigned)kind >= BN_KIND__MAX)
		return 0;
	for (i = 0; !r && i < s->kinds[kind].used; i++) {
		if (s->kinds[kind].objs[i])
			r = fn(s->kinds[kind].objs[i], data);
	}
	return r;
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
