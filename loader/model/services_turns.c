/* SPDX-License-Identifier: MIT */
/* Whose turn it is: dirty services of each namespace in the order they became so, namespaces in turn. */
#include <stdlib.h>
#include <string.h>

#include "loader/model/services_priv.h"

#define RETRY_MIN_NS 5000000000ull
#define RETRY_DOUBLINGS 4 /* 80 s */

struct svc_ns *services_space(struct bn_services *s, const char *ns)
{
	uint32_t hash = bn_hash_bytes(&ns, sizeof(ns));
	struct bn_hnode *n;
	struct svc_ns *new;

	for (n = bn_htab_first(&s->spaces, hash); n; n = bn_htab_next(n)) {
		struct svc_ns *have = bn_container(n, struct svc_ns, h);

		if (have->name != ns)
			continue;
		have->ents++;
		return have;
	}
	new = calloc(1, sizeof(*new));
	if (!new)
		return NULL;
	new->name = ns; /* each of its entries refers to it */
	new->ents = 1;
	new->dirty_tail = &new->dirty_head;
	if (bn_htab_add(&s->spaces, &new->h, hash) < 0) {
		free(new);
		return NULL;
	}
	return new;
}

/* An entry that goes is not dirty, but others may be: the namespace stays in the list as long as any is. */
void services_space_put(struct bn_services *s, struct svc_ns *n)
{
	if (--n->ents)
		return;
	bn_htab_del(&s->spaces, &n->h);
	free(n);
}

void services_dirty(struct bn_services *s, struct svc_ent *e)
{
	struct svc_ns *n = e->space;

	if (e->dirty)
		return;
	e->dirty = true;
	e->dirty_next = NULL;
	if (!n->dirty_head) {
		n->turn_next = NULL;
		*s->turn_tail = n;
		s->turn_tail = &n->turn_next;
	}
	*n->dirty_tail = e;
	n->dirty_tail = &e->dirty_next;
	if (!s->dirty_since_ns)
		s->dirty_since_ns = services_now_ns();
}

struct svc_ent *services_next(struct bn_services *s)
{
	struct svc_ns *n = s->turn_head;
	struct svc_ent *e;

	if (!n)
		return NULL;
	s->turn_head = n->turn_next;
	if (!s->turn_head)
		s->turn_tail = &s->turn_head;
	e = n->dirty_head;
	n->dirty_head = e->dirty_next;
	e->dirty = false;
	if (n->dirty_head) { /* behind the others */
		n->turn_next = NULL;
		*s->turn_tail = n;
		s->turn_tail = &n->turn_next;
	} else {
		n->dirty_tail = &n->dirty_head;
	}
	return e;
}

void services_refused(struct svc_ent *e, bool refused, uint64_t now)
{
	if (!refused) {
		e->retries = 0;
		return;
	}
	e->retry_ns = now + (RETRY_MIN_NS << e->retries);
	e->retries += e->retries < RETRY_DOUBLINGS;
}
