/* SPDX-License-Identifier: MIT */
#include "loader/hold.h"

#include <time.h>

static const double bounds[] = { 100e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1, 2, 5 };

static const char *const names[BN_WORK__MAX] = {
	[BN_WORK_READ] = "read",
	[BN_WORK_SYNC] = "sync",
	[BN_WORK_ANSWER] = "answer",
};

static struct {
	uint64_t counts[ARRAY_SIZE(bounds) + 1];
	uint64_t sum_ns, longest_ns;
} works[BN_WORK__MAX];

uint64_t bn_hold_begin(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

void bn_hold_end(enum bn_work work, uint64_t began)
{
	uint64_t ns = bn_hold_begin() - began;
	size_t i = 0;

	while (i < ARRAY_SIZE(bounds) && ns > bounds[i] * 1e9)
		i++;
	works[work].counts[i]++;
	works[work].sum_ns += ns;
	if (ns > works[work].longest_ns)
		works[work].longest_ns = ns;
}

uint64_t bn_hold_longest_ns(enum bn_work work)
{
	return works[work].longest_ns;
}

void bn_hold_metrics(struct bn_metrics *m)
{
	struct bn_metric *hold, *longest;

	hold = bn_metrics_histogram(m, "bpfnet_loop_hold_seconds", "How long one piece of work held up all others", "work",
				    bounds, ARRAY_SIZE(bounds));
	longest = bn_metrics_gauge(m, "bpfnet_loop_longest_seconds", "The longest of these since the start", "work");
	for (int i = 0; i < BN_WORK__MAX; i++) {
		bn_metric_load(hold, works[i].counts, ARRAY_SIZE(bounds), works[i].sum_ns / 1e9, names[i]);
		bn_metric_set(longest, works[i].longest_ns / 1e9, names[i]);
	}
}
