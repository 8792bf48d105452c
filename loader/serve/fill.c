/* SPDX-License-Identifier: MIT */
#include "loader/serve/fill.h"

#include <linux/bpf.h>
#include <time.h>

#include "maps/ct_access.h"

#define SAMPLE_BUCKETS 1024

struct bn_fill {
	const struct bn_maps *maps;
	struct bn_metric *used, *max, *flows, *flows_max;
	uint64_t due_ns[BN_MAP__MAX];
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void count_map(struct bn_fill *f, enum bn_map map)
{
	uint64_t start = now_ns(), took;
	int64_t n;

	if (start < f->due_ns[map])
		return;
	n = bn_map_count(f->maps, map);
	took = now_ns() - start;
	f->due_ns[map] = start + took * BN_FILL_IDLE + 5000000000ull;
	if (n >= 0)
		bn_metric_set(f->used, n, bn_map_name(map));
}

static void collect(void *data)
{
	uint64_t used, max;
	struct bn_fill *f = data;

	for (int i = 0; i < BN_MAP__MAX; i++) {
		if (i != BN_MAP_events)
			bn_metric_set(f->max, f->maps->entries[i], bn_map_name(i));
		switch (bn_map_defs[i].type) {
		case BPF_MAP_TYPE_HASH:
		case BPF_MAP_TYPE_LRU_HASH:
		case BPF_MAP_TYPE_LPM_TRIE:
			count_map(f, i);
			break;
		}
	}
	if (bn_ct_fill(f->maps, SAMPLE_BUCKETS, &used, &max) == 0) {
		bn_metric_set(f->flows, used);
		bn_metric_set(f->flows_max, max);
	}
}

int bn_fill_metrics(struct bn_metrics *m, const struct bn_maps *maps, struct bn_fill **ret)
{
	_cleanup_(bn_fill_freep) struct bn_fill *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->maps = maps;
	f->used = bn_metrics_gauge(m, "bpfnet_map_entries", "Elements in a map.", "map");
	f->max = bn_metrics_gauge(m, "bpfnet_map_max_entries", "Elements that a map has room for.",
				  "map");
	f->flows = bn_metrics_gauge(m, "bpfnet_ct_entries",
				    "Entries in use in the connection table, estimated from a sample"
				    " (a translated flow has two).",
				    "");
	f->flows_max = bn_metrics_gauge(m, "bpfnet_ct_max_entries",
					"Entries that the connection table has room for.", "");
	r = bn_metrics_collect(m, collect, f);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(f);
	return 0;
}

void bn_fill_freep(struct bn_fill **f)
{
	free(*f);
	*f = NULL;
}
