/* SPDX-License-Identifier: MIT */
#include "maps/aff_access.h"

#include <string.h>
#include <time.h>

#include "maps/util.h"

int bn_aff_of(const struct bn_maps *m, const struct bn_front_key *key, uint32_t *svc_id,
	      uint32_t *affinity_s)
{
	struct bn_front_val front;
	struct bn_svc svc;
	int r = bn_map_get(m, BN_MAP_fronts, key, &front);

	r = r ? r : bn_map_get(m, BN_MAP_svcs, &front.idx, &svc);
	if (r < 0)
		return r;
	if (memcmp(&svc.key, key, sizeof(*key)))
		return -ENOENT; /* it has just changed */
	*svc_id = svc.svc_id;
	*affinity_s = svc.affinity_s;
	return 0;
}

struct each {
	int (*fn)(const struct bn_aff_entry *e, void *data);
	void *data;
	uint32_t now_s;
};

static int on_entry(const void *key, const void *val, void *data)
{
	const struct bn_aff_key *k = key;
	const struct bn_aff_val *v = val;
	const struct each *e = data;
	struct bn_aff_entry out = {
		.client = k->client,
		.netns = k->netns,
		.backend = v->addr,
		.port = v->port,
		.svc_id = k->svc_id,
		.idle_s = e->now_s > v->used_s ? e->now_s - v->used_s : 0,
	};

	return e->fn(&out, e->data);
}

int bn_aff_each(const struct bn_maps *m, int (*fn)(const struct bn_aff_entry *e, void *data), void *data)
{
	struct each e = { .fn = fn, .data = data };
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	e.now_s = ts.tv_sec;
	return bn_map_each(m, BN_MAP_affinity, on_entry, &e);
}
