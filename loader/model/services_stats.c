/* SPDX-License-Identifier: MIT */
/* Counters and histograms of the services model, with kube-proxy's buckets. */
#include "loader/model/services_priv.h"

static double sync_le[15];
static double programming_le[BN_HIST_MAX];
static uint32_t programming_n;

/* kubeproxy_sync_*: 1 ms doubled 14 times. network_programming: 0.25, 0.5, seconds to a minute,
 * then 5 s steps to 115, then 30 s steps to 300.
 */
static void buckets_init(void)
{
	if (programming_n)
		return;
	for (uint32_t i = 0; i < ARRAY_SIZE(sync_le); i++)
		sync_le[i] = 0.001 * (double)(1U << i);
	programming_le[programming_n++] = 0.25;
	programming_le[programming_n++] = 0.5;
	for (unsigned v = 1; v <= 59; v++)
		programming_le[programming_n++] = v;
	for (unsigned v = 60; v <= 115; v += 5)
		programming_le[programming_n++] = v;
	for (unsigned v = 120; v <= 300; v += 30)
		programming_le[programming_n++] = v;
}

void services_stats_init(struct bn_services_stats *st)
{
	struct bn_histogram *sync[] = {&st->sync, &st->sync_full, &st->sync_partial};

	buckets_init();
	for (size_t i = 0; i < ARRAY_SIZE(sync); i++) {
		sync[i]->n = ARRAY_SIZE(sync_le);
		sync[i]->le = sync_le;
	}
	st->programming.n = programming_n;
	st->programming.le = programming_le;
}

void services_observe(struct bn_histogram *h, double seconds)
{
	uint32_t i = 0;

	while (i < h->n && seconds > h->le[i])
		i++;
	h->count[i]++;
	h->sum += seconds;
}

const struct bn_services_stats *bn_services_stats(struct bn_services *s)
{
	struct bn_services_stats *st = &s->stats;
	struct bn_svcmap_stats m;

	bn_svcmap_stats(s->map, &m);
	st->services = m.owners;
	st->service_ports = m.service_ports;
	st->endpoints = s->sums.endpoints;
	st->frontends = m.fronts;
	st->records_used = m.records_used;
	st->records_max = m.records_max;
	st->slots_used = m.slots_used;
	st->slots_free = m.slots_free;
	st->slots_pending = m.slots_pending;
	st->slots_max = m.slots_max;
	st->largest_free = m.largest_free;
	st->no_local_internal = s->sums.no_local_int;
	st->no_local_external = s->sums.no_local_ext;
	st->refused = s->sums.refused;
	st->conflicts = s->sums.conflicts;
	st->maglev_fallback = s->sums.plain;
	st->writes = m.writes;
	st->graces = m.graces;
	return st;
}
