/* SPDX-License-Identifier: MIT */
#include "loader/serve/metrics.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <sys/queue.h>

enum type {
	COUNTER,
	GAUGE,
	HISTOGRAM,
};

static const char *const type_names[] = { "counter", "gauge", "histogram" };

struct series {
	TAILQ_ENTRY(series) list;
	char *labels; /* a="1",b="2": escaped, as written; also the key */
	double value; /* histogram: the sum */
	uint64_t count;
	uint64_t buckets[]; /* not cumulative */
};

struct bn_metric {
	TAILQ_ENTRY(bn_metric) list;
	char *name, *help;
	enum type type;
	char *label_names[BN_METRIC_LABELS];
	size_t nlabels, nbounds, nseries;
	double *bounds;
	struct series *last; /* most often the next one asked for, too */
	TAILQ_HEAD(, series) series;
};

struct collector {
	void (*fn)(void *data);
	void *data;
};

struct bn_metrics {
	TAILQ_HEAD(, bn_metric) families;
	struct collector *collectors;
	size_t ncollectors;
};

int bn_metrics_new(struct bn_metrics **ret)
{
	struct bn_metrics *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	TAILQ_INIT(&m->families);
	*ret = m;
	return 0;
}

void bn_metric_clear(struct bn_metric *f)
{
	struct series *s;

	if (!f)
		return;
	while ((s = TAILQ_FIRST(&f->series))) {
		TAILQ_REMOVE(&f->series, s, list);
		free(s->labels);
		free(s);
	}
	f->last = NULL;
	f->nseries = 0;
}

static void metric_freep(struct bn_metric **fp)
{
	struct bn_metric *f = *fp;

	if (!f)
		return;
	bn_metric_clear(f);
	for (size_t i = 0; i < f->nlabels; i++)
		free(f->label_names[i]);
	free(f->bounds);
	free(f->name);
	free(f->help);
	free(f);
	*fp = NULL;
}

void bn_metrics_freep(struct bn_metrics **mp)
{
	struct bn_metrics *m = *mp;
	struct bn_metric *f;

	if (!m)
		return;
	while ((f = TAILQ_FIRST(&m->families))) {
		TAILQ_REMOVE(&m->families, f, list);
		metric_freep(&f);
	}
	free(m->collectors);
	free(m);
	*mp = NULL;
}

/* [a-zA-Z_:][a-zA-Z0-9_:]*; labels have no colon. */
static bool good_name(const char *s, bool label)
{
	if (!*s || isdigit((unsigned char)*s))
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && *s != '_' && (label || *s != ':'))
			return false;
	return true;
}

static int split_labels(struct bn_metric *f, const char *labels)
{
	_cleanup_(freep) char *copy = strdup(labels);
	char *save = NULL;

	if (!copy)
		return -ENOMEM;
	for (char *t = strtok_r(copy, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
		if (f->nlabels == BN_METRIC_LABELS || !good_name(t, true))
			return -EINVAL;
		f->label_names[f->nlabels] = strdup(t);
		if (!f->label_names[f->nlabels])
			return -ENOMEM;
		f->nlabels++;
	}
	return 0;
}

static struct bn_metric *family(struct bn_metrics *m, enum type type, const char *name,
				const char *help, const char *labels)
{
	_cleanup_(metric_freep) struct bn_metric *f = NULL;

	TAILQ_FOREACH(f, &m->families, list) {
		if (!strcmp(f->name, name)) {
			struct bn_metric *have = TAKE_PTR(f);

			return have->type == type ? have : NULL;
		}
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	TAILQ_INIT(&f->series);
	f->type = type;
	f->name = strdup(name);
	f->help = strdup(help);
	if (!f->name || !f->help || !good_name(name, false) || split_labels(f, labels) < 0)
		return NULL;
	TAILQ_INSERT_TAIL(&m->families, f, list);
	return TAKE_PTR(f);
}

struct bn_metric *bn_metrics_counter(struct bn_metrics *m, const char *name, const char *help,
				     const char *labels)
{
	return family(m, COUNTER, name, help, labels);
}

struct bn_metric *bn_metrics_gauge(struct bn_metrics *m, const char *name, const char *help,
				   const char *labels)
{
	return family(m, GAUGE, name, help, labels);
}

struct bn_metric *bn_metrics_histogram(struct bn_metrics *m, const char *name, const char *help,
				       const char *labels, const double *bounds, size_t n)
{
	struct bn_metric *f = family(m, HISTOGRAM, name, help, labels);

	if (!f || f->bounds)
		return f;
	f->bounds = malloc(n * sizeof(*bounds) + 1);
	if (!f->bounds) {
		TAILQ_REMOVE(&m->families, f, list);
		metric_freep(&f);
		return NULL;
	}
	memcpy(f->bounds, bounds, n * sizeof(*bounds));
	f->nbounds = n;
	return f;
}

/* Label values: backslash, quote and newline are escaped. Help: backslash and newline. */
static void put_escaped(FILE *out, const char *s, bool quote)
{
	for (; *s; s++) {
		if (*s == '\\')
			fputs("\\\\", out);
		else if (*s == '\n')
			fputs("\\n", out);
		else if (*s == '"' && quote)
			fputs("\\\"", out);
		else
			fputc(*s, out);
	}
}

static char *label_text(const struct bn_metric *f, const char *const *values)
{
	char *text = NULL;
	size_t len, i;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (i = 0; i < f->nlabels && values[i]; i++) {
		fprintf(out, "%s%s=\"", i ? "," : "", f->label_names[i]);
		put_escaped(out, values[i], true);
		fputc('"', out);
	}
	if (fclose(out) || i < f->nlabels || values[i]) { /* number of values: caller's bug */
		free(text);
		return NULL;
	}
	return text;
}

static struct series *series_get(struct bn_metric *f, const char *const *values)
{
	_cleanup_(freep) char *labels = NULL;
	struct series *s;

	if (!f)
		return NULL;
	labels = label_text(f, values);
	if (!labels)
		return NULL;
	if (f->last && !strcmp(f->last->labels, labels))
		return f->last;
	TAILQ_FOREACH(s, &f->series, list)
		if (!strcmp(s->labels, labels))
			return f->last = s;
	if (f->nseries >= BN_METRIC_MAX_SERIES)
		return NULL;
	s = calloc(1, sizeof(*s) + (f->nbounds + 1) * sizeof(s->buckets[0]));
	if (!s)
		return NULL;
	s->labels = TAKE_PTR(labels);
	TAILQ_INSERT_TAIL(&f->series, s, list);
	f->nseries++;
	return f->last = s;
}

void bn_metric_set_v(struct bn_metric *f, double v, const char *const *labels)
{
	struct series *s = series_get(f, labels);

	if (s && f->type != HISTOGRAM)
		s->value = v;
}

void bn_metric_add_v(struct bn_metric *f, double v, const char *const *labels)
{
	struct series *s = series_get(f, labels);

	if (s && f->type != HISTOGRAM)
		s->value += v;
}

void bn_metric_observe_v(struct bn_metric *f, double v, const char *const *labels)
{
	struct series *s = series_get(f, labels);
	size_t i;

	if (!s || f->type != HISTOGRAM || isnan(v))
		return;
	for (i = 0; i < f->nbounds && v > f->bounds[i]; i++)
		;
	s->buckets[i]++;
	s->count++;
	s->value += v;
}

void bn_metric_load_v(struct bn_metric *f, const uint64_t *buckets, size_t n, double sum,
		      const char *const *labels)
{
	struct series *s = series_get(f, labels);

	if (!s || f->type != HISTOGRAM || n != f->nbounds)
		return;
	s->count = 0;
	for (size_t i = 0; i <= n; i++) {
		s->buckets[i] = buckets[i];
		s->count += buckets[i];
	}
	s->value = sum;
}

int bn_metrics_collect(struct bn_metrics *m, void (*fn)(void *data), void *data)
{
	struct collector *v = realloc(m->collectors, (m->ncollectors + 1) * sizeof(*v));

	if (!v)
		return -ENOMEM;
	m->collectors = v;
	v[m->ncollectors++] = (struct collector){ fn, data };
	return 0;
}

static void put_value(FILE *out, double v)
{
	if (isinf(v))
		fputs(v > 0 ? "+Inf\n" : "-Inf\n", out);
	else if (isnan(v))
		fputs("NaN\n", out);
	else if (v == trunc(v) && fabs(v) < 1e15)
		fprintf(out, "%.0f\n", v);
	else
		fprintf(out, "%.17g\n", v);
}

/* Shortest decimal that reads back as the same number: bucket bounds are compared as text. */
static void put_bound(FILE *out, double v)
{
	char buf[32];

	if (v == trunc(v) && fabs(v) < 1e15) { /* 300, not 3e+02 */
		fprintf(out, "%.0f", v);
		return;
	}
	for (int p = 1; p <= 17; p++) {
		snprintf(buf, sizeof(buf), "%.*g", p, v);
		if (strtod(buf, NULL) == v)
			break;
	}
	fputs(buf, out);
}

static void put_histogram(FILE *out, const struct bn_metric *f, const struct series *s)
{
	const char *comma = s->labels[0] ? "," : "";
	uint64_t sum = 0;

	for (size_t i = 0; i <= f->nbounds; i++) {
		sum += s->buckets[i];
		fprintf(out, "%s_bucket{%s%sle=\"", f->name, s->labels, comma);
		if (i < f->nbounds)
			put_bound(out, f->bounds[i]);
		else
			fputs("+Inf", out);
		fprintf(out, "\"} %llu\n", (unsigned long long)sum);
	}
	fprintf(out, "%s_sum%s%s%s ", f->name, *comma ? "{" : "", s->labels, *comma ? "}" : "");
	put_value(out, s->value);
	fprintf(out, "%s_count%s%s%s %llu\n", f->name, *comma ? "{" : "", s->labels,
		*comma ? "}" : "", (unsigned long long)s->count);
}

static void put_family(FILE *out, const struct bn_metric *f)
{
	const struct series *s;

	if (TAILQ_EMPTY(&f->series))
		return;
	fprintf(out, "# HELP %s ", f->name);
	put_escaped(out, f->help, false);
	fprintf(out, "\n# TYPE %s %s\n", f->name, type_names[f->type]);
	TAILQ_FOREACH(s, &f->series, list) {
		if (f->type == HISTOGRAM) {
			put_histogram(out, f, s);
			continue;
		}
		fprintf(out, s->labels[0] ? "%s{%s} " : "%s%s ", f->name, s->labels);
		put_value(out, s->value);
	}
}

int bn_metrics_text(struct bn_metrics *m, struct evbuffer *buf)
{
	const struct bn_metric *f;
	_cleanup_(freep) char *text = NULL;
	size_t len = 0;
	FILE *out;

	for (size_t i = 0; i < m->ncollectors; i++)
		m->collectors[i].fn(m->collectors[i].data);
	out = open_memstream(&text, &len);
	if (!out)
		return -ENOMEM;
	TAILQ_FOREACH(f, &m->families, list)
		put_family(out, f);
	if (fclose(out))
		return -ENOMEM;
	return evbuffer_add(buf, text, len) ? -ENOMEM : 0;
}
