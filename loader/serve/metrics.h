/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_METRICS_H
#define BN_LOADER_METRICS_H

/* A registry of counters, gauges and histograms and the Prometheus text format 0.0.4.
 *
 * A family has a name, a help text and up to BN_METRIC_LABELS label names; a series is made when
 * its label values are first used. One thread owns the registry. Values that live elsewhere (maps,
 * models) are written into it by collectors just before the text is made.
 */

#include <event2/buffer.h>
#include <stddef.h>

#include "maps/util.h"

#define BN_METRIC_LABELS 10
#define BN_METRIC_MAX_SERIES 4096 /* of one family: label values may come from outside */

struct bn_metrics;
struct bn_metric;

int bn_metrics_new(struct bn_metrics **ret);
void bn_metrics_freep(struct bn_metrics **m);

/* labels: names separated by commas, "" for none. name, help and labels are copied. The same name
 * again with the same type returns the family that is there. NULL: bad name or out of memory; all
 * functions below accept a NULL family and do nothing.
 */
struct bn_metric *bn_metrics_counter(struct bn_metrics *m, const char *name, const char *help,
				     const char *labels);
struct bn_metric *bn_metrics_gauge(struct bn_metrics *m, const char *name, const char *help,
				   const char *labels);
/* bounds: ascending upper bounds without +Inf. */
struct bn_metric *bn_metrics_histogram(struct bn_metrics *m, const char *name, const char *help,
				       const char *labels, const double *bounds, size_t n);

/* Label values follow the value, one per label name:
 *	bn_metric_inc(requests, "200", "GET");
 */
#define bn_metric_set(f, v, ...) bn_metric_set_v(f, v, BN_LABELS(__VA_ARGS__))
#define bn_metric_add(f, v, ...) bn_metric_add_v(f, v, BN_LABELS(__VA_ARGS__))
#define bn_metric_inc(f, ...) bn_metric_add_v(f, 1, BN_LABELS(__VA_ARGS__))
#define bn_metric_observe(f, v, ...) bn_metric_observe_v(f, v, BN_LABELS(__VA_ARGS__))
#define BN_LABELS(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

void bn_metric_set_v(struct bn_metric *f, double v, const char *const *labels);
void bn_metric_add_v(struct bn_metric *f, double v, const char *const *labels);
void bn_metric_observe_v(struct bn_metric *f, double v, const char *const *labels);
/* Sets a histogram that is counted elsewhere: buckets of n bounds and +Inf, not cumulative; the
 * family must have been made with the same bounds.
 */
#define bn_metric_load(f, buckets, n, sum, ...)                                                    \
	bn_metric_load_v(f, buckets, n, sum, BN_LABELS(__VA_ARGS__))
void bn_metric_load_v(struct bn_metric *f, const uint64_t *buckets, size_t n, double sum,
		      const char *const *labels);
/* Removes every series of the family: for gauges that a collector writes anew. */
void bn_metric_clear(struct bn_metric *f);

/* fn runs before each exposition, in order of registration. */
int bn_metrics_collect(struct bn_metrics *m, void (*fn)(void *data), void *data);

/* Appends the exposition text. 0 or -ENOMEM. */
int bn_metrics_text(struct bn_metrics *m, struct evbuffer *out);

/* process_start_time_seconds, process_cpu_seconds_total, process_resident_memory_bytes, ... */
int bn_metrics_process(struct bn_metrics *m);

#endif
