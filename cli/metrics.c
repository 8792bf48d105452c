/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/out.h"

/* name="value",...} with \\, \" and \n in values: into the object; the place behind the brace, or NULL. */
static const char *read_labels(const char *p, json_t *labels)
{
	_cleanup_(freep) char *value = strdup(p);

	while (value && *p != '}') {
		size_t key = strcspn(p, "="), n = 0;
		const char *name = p;

		if (p[key] != '=' || p[key + 1] != '"')
			return NULL;
		for (p += key + 2; *p && *p != '"'; p++) {
			if (*p == '\\' && p[1])
				value[n++] = *++p == 'n' ? '\n' : *p;
			else
				value[n++] = *p;
		}
		if (*p++ != '"')
			return NULL;
		json_object_setn_new(labels, name, key, json_stringn(value, n));
		p += *p == ',';
	}
	return value ? p + 1 : NULL;
}

/* A sample of Prometheus' text format: {"name", "labels", "value"}; NULL: it is none. */
static json_t *sample(const char *line)
{
	size_t n = strcspn(line, "{ ");
	json_t *labels = json_object();
	const char *p = line + n;
	char *end = NULL;
	double v = 0;

	p = *p == '{' ? read_labels(p + 1, labels) : p;
	if (*line != '#' && n && p && *p == ' ')
		v = strtod(p + 1, &end);
	if (!end || end == p + 1 || *end) {
		json_decref(labels);
		return NULL;
	}
	return json_pack("{s:s%, s:o, s:o}", "name", line, n, "labels", labels, "value",
			 isfinite(v) ? v == floor(v) && fabs(v) < 1e15 ? json_integer((json_int_t)v) : json_real(v)
				     : json_string(p + 1));
}

static json_t *samples(char *text)
{
	json_t *list = json_array();
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		json_t *s = sample(line);

		if (s)
			json_array_append_new(list, s);
	}
	return list;
}

/* As it is scraped, or with -o json and yaml as a list. */
int bn_cmd_metrics(struct bn_cli *c)
{
	_cleanup_(json_decrefp) json_t *text = NULL, *list = NULL;
	_cleanup_(freep) char *copy = NULL;
	int r = bn_ask(c, "metrics", NULL, &text);

	if (r)
		return BN_EXIT_ERROR;
	if (c->format != BN_JSON && c->format != BN_YAML) {
		fputs(json_string_value(text) ?: "", stdout);
		return BN_EXIT_OK;
	}
	copy = strdup(json_string_value(text) ?: "");
	list = copy ? samples(copy) : NULL;
	return list ? bn_out(c, list, NULL, NULL) : bn_cli_fail("out of memory");
}
