/* SPDX-License-Identifier: MIT */
#include "cli/out.h"

#include <libsmartcols/libsmartcols.h>
#include <string.h>

static const json_t *lookup(const json_t *row, const char *key)
{
	char part[64];

	while (row && *key) {
		size_t n = strcspn(key, ".");

		if (n >= sizeof(part))
			return NULL;
		memcpy(part, key, n);
		part[n] = '\0';
		row = json_object_get(row, part);
		key += n + (key[n] == '.');
	}
	return row;
}

static void put_value(FILE *out, const json_t *v)
{
	const json_t *e;
	size_t i;

	switch (v ? json_typeof(v) : JSON_NULL) {
	case JSON_STRING:
		fputs(*json_string_value(v) ? json_string_value(v) : "-", out);
		break;
	case JSON_INTEGER:
		fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		break;
	case JSON_REAL:
		fprintf(out, json_real_value(v) >= 10 ? "%.0f" : "%.3g", json_real_value(v));
		break;
	case JSON_TRUE:
		fputs("yes", out);
		break;
	case JSON_FALSE:
		fputs("no", out);
		break;
	case JSON_ARRAY:
		json_array_foreach(v, i, e) {
			if (i)
				fputc(',', out);
			put_value(out, e);
		}
		if (!json_array_size(v))
			fputc('-', out);
		break;
	case JSON_OBJECT: {
		char *text = json_dumps(v, JSON_COMPACT);

		fputs(text ?: "-", out);
		free(text);
		break;
	}
	case JSON_NULL:
		fputc('-', out);
		break;
	}
}

char *bn_out_cell(const json_t *row, const char *key)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	put_value(out, lookup(row, key));
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

static void unref_tablep(struct libscols_table **t)
{
	scols_unref_table(*t);
}

static int add_line(struct libscols_table *t, const json_t *row, const struct bn_col *cols, bool wide)
{
	struct libscols_line *line = scols_table_new_line(t, NULL);
	size_t n = 0;

	if (!line)
		return -ENOMEM;
	for (const struct bn_col *k = cols; k->title; k++) {
		_cleanup_(freep) char *text = NULL;

		if ((k->flags & BN_COL_WIDE) && !wide)
			continue;
		text = bn_out_cell(row, k->key);
		/* The table escapes control characters: names come from anybody's objects. */
		if (!text || scols_line_refer_data(line, n++, TAKE_PTR(text)) < 0)
			return -ENOMEM;
	}
	return 0;
}

int bn_out_table(FILE *out, const json_t *rows, const struct bn_col *cols, bool wide)
{
	_cleanup_(unref_tablep) struct libscols_table *t = scols_new_table();
	const json_t *row;
	size_t i;
	int r;

	if (!t)
		return -ENOMEM;
	scols_table_set_stream(t, out);
	scols_table_set_termforce(t, SCOLS_TERMFORCE_NEVER); /* whole values, on a terminal too */
	scols_table_enable_minout(t, 1);
	scols_table_set_column_separator(t, "  ");
	for (const struct bn_col *k = cols; k->title; k++) {
		if ((k->flags & BN_COL_WIDE) && !wide)
			continue;
		if (!scols_table_new_column(t, k->title, 0,
					    k->flags & BN_COL_RIGHT ? SCOLS_FL_RIGHT : 0))
			return -ENOMEM;
	}
	json_array_foreach(rows, i, row) {
		r = add_line(t, row, cols, wide);
		if (r < 0)
			return r;
	}
	return scols_print_table(t) < 0 ? -EIO : 0;
}

int bn_out_json(FILE *out, const json_t *data)
{
	if (json_dumpf(data, out, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) < 0)
		return -EIO;
	return fputc('\n', out) == EOF ? -EIO : 0;
}

static int finish(int r)
{
	return r < 0 ? bn_cli_fail("cannot write the output: %s", strerror(-r)) : BN_EXIT_OK;
}

int bn_out(const struct bn_cli *c, const json_t *data, const struct bn_col *cols,
	   json_t *(*rows)(const json_t *data))
{
	_cleanup_(json_decrefp) json_t *made = NULL;

	if (c->format == BN_JSON)
		return finish(bn_out_json(stdout, data));
	if (c->format == BN_YAML)
		return finish(bn_out_yaml(stdout, data));
	if (rows) {
		made = rows(data);
		if (!made)
			return finish(-ENOMEM);
		data = made;
	}
	if (!json_array_size(data))
		bn_cli_say("nothing to show");
	return finish(bn_out_table(stdout, data, cols, c->format == BN_WIDE));
}

int bn_out_object(const struct bn_cli *c, const json_t *data, const struct bn_col *cols)
{
	if (c->format == BN_JSON)
		return finish(bn_out_json(stdout, data));
	if (c->format == BN_YAML)
		return finish(bn_out_yaml(stdout, data));
	for (; cols->title; cols++) {
		_cleanup_(freep) char *text = NULL;

		if ((cols->flags & BN_COL_WIDE) && c->format != BN_WIDE)
			continue;
		text = bn_out_cell(data, cols->key);
		if (!text)
			return finish(-ENOMEM);
		printf("%-18s %s\n", cols->title, text);
	}
	return BN_EXIT_OK;
}
