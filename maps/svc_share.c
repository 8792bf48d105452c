/* SPDX-License-Identifier: MIT */
/* What each namespace has of the room in the service maps. One may take seven eighths of it; the last eighth is for
 * those that have no more of the whole than would be left for all others then, so that whoever fills the maps does not
 * keep the endpoints of others from changing, nor their services from coming.
 */
#include <string.h>

#include "maps/svc_priv.h"

#define RESERVE 8 /* one part of so many */

static bool named(const struct sv_ns *ns, const char *name, size_t len)
{
	return !strncmp(ns->name, name, len) && !ns->name[len];
}

static bool number(struct bn_svcmap *m, struct sv_ns *ns)
{
	uint32_t id = 1;

	while (id < m->nspaces && m->spaces[id])
		id++;
	if (id > UINT16_MAX)
		return true; /* 0: what it has is nobody's */
	if (id >= m->nspaces) {
		uint32_t max = m->nspaces ? 2 * m->nspaces : 64;
		struct sv_ns **v = reallocarray(m->spaces, max, sizeof(*v));

		if (!v)
			return false;
		memset(v + m->nspaces, 0, (max - m->nspaces) * sizeof(*v));
		m->spaces = v;
		m->nspaces = max;
	}
	ns->id = (uint16_t)id;
	m->spaces[id] = ns;
	return true;
}

struct sv_ns *sv_ns_get(struct bn_svcmap *m, const char *name)
{
	size_t len = strcspn(name, "/");
	uint32_t hash = bn_hash_bytes(name, len);
	struct bn_hnode *n;
	struct sv_ns *ns;

	for (n = bn_htab_first(&m->by_ns, hash); n; n = bn_htab_next(n)) {
		ns = bn_container(n, struct sv_ns, h);
		if (named(ns, name, len)) {
			ns->owners++;
			return ns;
		}
	}
	ns = calloc(1, sizeof(*ns));
	if (!ns)
		return NULL;
	ns->name = strndup(name, len);
	if (!ns->name || bn_htab_add(&m->by_ns, &ns->h, hash) < 0) {
		free(ns->name);
		free(ns);
		return NULL;
	}
	ns->owners = 1;
	if (!number(m, ns)) {
		sv_ns_put(m, ns);
		return NULL;
	}
	return ns;
}

static void end(struct bn_svcmap *m, struct sv_ns *ns)
{
	for (int k = 0; k < SV_ROOM__MAX; k++)
		if (ns->used[k])
			return;
	if (ns->owners)
		return;
	bn_htab_del(&m->by_ns, &ns->h);
	if (ns->id)
		m->spaces[ns->id] = NULL;
	free(ns->name);
	free(ns);
}

void sv_ns_put(struct bn_svcmap *m, struct sv_ns *ns)
{
	ns->owners--;
	end(m, ns);
}

void sv_ns_free_all(struct bn_svcmap *m)
{
	struct bn_hnode *h;
	uint32_t at = 0;

	while ((h = bn_htab_pop(&m->by_ns, &at))) {
		struct sv_ns *ns = bn_container(h, struct sv_ns, h);

		free(ns->name);
		free(ns);
	}
	bn_htab_clear(&m->by_ns);
	free(m->spaces);
	m->spaces = NULL;
	m->nspaces = 0;
}

void sv_ns_add(struct sv_ns *ns, enum sv_room what, uint32_t n)
{
	ns->used[what] += n;
}

void sv_ns_sub(struct bn_svcmap *m, struct sv_ns *ns, enum sv_room what, uint32_t n)
{
	ns->used[what] -= n < ns->used[what] ? n : ns->used[what]; /* less where what was adopted is damaged */
	end(m, ns);
}

/* Of what there is: all, and what is free or will be after the next grace period. */
static void room(const struct bn_svcmap *m, enum sv_room what, uint64_t *max, uint64_t *idle)
{
	switch (what) {
	case SV_SLOTS:
		*max = m->slots_max;
		*idle = (uint64_t)bn_ranges_free(m->ra) + m->slots_pending;
		return;
	case SV_RECORDS:
		*max = m->idx_max;
		*idle = m->idx_max - m->idx_used + m->idx_pending;
		return;
	default:
		*max = m->maps->entries[BN_MAP_svc_names];
		*idle = *max > m->nports ? *max - m->nports : 0;
	}
}

int sv_ns_may(struct bn_svcmap *m, const struct sv_ns *ns, enum sv_room what, uint32_t n)
{
	uint64_t max, idle;

	room(m, what, &max, &idle);
	if (m->by_ns.n <= 1 || idle < n) /* nobody to keep it for; or what waits for a grace period may do */
		return 0;
	if (idle - n >= max / RESERVE || (uint64_t)ns->used[what] + n <= idle - n)
		return 0;
	m->short_of = true;
	return -EDQUOT;
}

void sv_range_own(struct bn_svcmap *m, uint32_t base, uint32_t len, struct sv_ns *ns)
{
	m->range_ns[base] = ns->id;
	if (ns->id)
		sv_ns_add(ns, SV_SLOTS, len);
}

void sv_range_disown(struct bn_svcmap *m, uint32_t base, uint32_t len)
{
	struct sv_ns *ns = m->range_ns[base] ? m->spaces[m->range_ns[base]] : NULL;

	m->range_ns[base] = 0;
	if (ns)
		sv_ns_sub(m, ns, SV_SLOTS, len);
}
