/* SPDX-License-Identifier: MIT */
#ifndef BN_CLI_OUT_H
#define BN_CLI_OUT_H

/* The one way out: JSON in; a table, JSON or YAML out. What the table shows is a selection of the
 * same values, so that it cannot say anything else than what scripts read.
 */

#include "cli/cli.h"

enum {
	BN_COL_WIDE = 1 << 0,  /* with -o wide only */
	BN_COL_RIGHT = 1 << 1, /* numbers */
};

struct bn_col {
	const char *title; /* NULL ends the list */
	const char *key;   /* of the row, a dot goes into an object: "http.path" */
	unsigned flags;
};

/* Writes data to stdout in the format asked for. For tables rows makes an array of objects out of
 * data (a new reference); NULL: data is one. Returns the exit status.
 */
int bn_out(const struct bn_cli *c, const json_t *data, const struct bn_col *cols,
	   json_t *(*rows)(const json_t *data));

/* One object as "key: value" lines for tables, of those keys that cols name. */
int bn_out_object(const struct bn_cli *c, const json_t *data, const struct bn_col *cols);

/* The parts, for tests and for commands with a text of their own. 0 or negative errno. */
int bn_out_table(FILE *out, const json_t *rows, const struct bn_col *cols, bool wide);
int bn_out_json(FILE *out, const json_t *data);
int bn_out_yaml(FILE *out, const json_t *data);

/* How a table shows a value: the text of scalars, "a,b" for arrays, "-" for null and what is missing.
 * Free it; NULL: no memory.
 */
char *bn_out_cell(const json_t *row, const char *key);

#endif
