/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/seen.h"

#include "policy/intern.h"

/* Where the pair is, or the empty place where it belongs. */
static size_t place(const struct bn_seen *s, const char *ns, const char *name)
{
	uint64_t h = (uintptr_t)ns * 0x9e3779b97f4a7c15u ^ (uintptr_t)name;
	size_t i;

	h *= 0xbf58476d1ce4e5b9u;
	h ^= h >> 32;
	for (i = h & (s->cap - 1); s->v[i].name; i = (i + 1) & (s->cap - 1))
		if (s->v[i].name == name && s->v[i].ns == ns)
			break;
	return i;
}

static int grow(struct bn_seen *s)
{
	struct bn_seen t = { .cap = s->cap ? s->cap * 2 : 64 };

	t.v = calloc(t.cap, sizeof(*t.v));
	if (!t.v)
		return -ENOMEM;
	for (size_t i = 0; i < s->cap; i++)
		if (s->v[i].name)
			t.v[place(&t, s->v[i].ns, s->v[i].name)] = s->v[i];
	t.n = s->n;
	free(s->v);
	*s = t;
	return 0;
}

int bn_seen_add(struct bn_seen *s, const char *ns, const char *name)
{
	size_t i;
	int r;

	if (s->n * 3 >= s->cap * 2) {
		r = grow(s);
		if (r < 0)
			return r;
	}
	i = place(s, ns, name);
	if (s->v[i].name)
		return 0;
	s->n++;
	s->v[i] = (struct bn_seen_id){ bn_intern_ref(ns), bn_intern_ref(name) };
	return 0;
}

bool bn_seen_has(const struct bn_seen *s, const char *ns, const char *name)
{
	return s->cap && s->v[place(s, ns, name)].name;
}

void bn_seen_clear(struct bn_seen *s)
{
	for (size_t i = 0; i < s->cap; i++) {
		bn_intern_unref(s->v[i].ns);
		bn_intern_unref(s->v[i].name);
	}
	free(s->v);
	*s = (struct bn_seen){ 0 };
}
