/* SPDX-License-Identifier: MIT */
#ifndef BN_CLI_H
#define BN_CLI_H

/* The command `bpfnet`: one table of commands and options, from which parsing, help, completion and
 * the check of the man page come. A command is a function that gets what was parsed and returns the
 * exit status: BN_EXIT_OK, BN_EXIT_NO (a negative answer) or BN_EXIT_ERROR after it has said on
 * stderr what is wrong.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "maps/util.h"

enum {
	BN_EXIT_OK = 0,
	BN_EXIT_NO = 1,
	BN_EXIT_ERROR = 2,
};

enum bn_format {
	BN_TABLE,
	BN_WIDE,
	BN_JSON,
	BN_YAML,
	BN_FORMAT__MAX,
};

struct bn_cli;

struct bn_opt {
	const char *name;
	char letter;	    /* 0: none */
	const char *arg;    /* "FILE"; NULL: a flag */
	const char *help;
	const char *values; /* "table|wide|json|yaml": nothing else is accepted; NULL: anything */
	bool repeat;	    /* may be given several times; else the last one counts */
};

struct bn_cmd {
	const char *name;
	const char *args; /* of the usage line; NULL: takes none */
	const char *help; /* one line */
	int (*run)(struct bn_cli *c);
	const struct bn_opt *opts; /* ends with a NULL name; NULL: none */
	const struct bn_cmd *sub;  /* ends with a NULL name; NULL: a command, not a group */
	int min_args, max_args;
	const char *more; /* text for help; NULL: none */
};

extern const struct bn_cmd bn_cmds[];
extern const struct bn_opt bn_global_opts[];

struct bn_optval {
	const struct bn_opt *opt;
	const char *value;
};

struct bn_cli {
	const char *run_dir;
	enum bn_format format;
	const struct bn_cmd *group, *cmd; /* group NULL for a command of the first level */
	struct bn_optval *vals;
	size_t nvals;
	char **args;
	int nargs;
	bool help;
};

/* The whole program, for main.c and tests. */
int bn_cli_main(int argc, char **argv);

/* The last value of an option of the command ("" for a flag), NULL when it was not given. */
const char *bn_cli_opt(const struct bn_cli *c, const char *name);
/* The i-th value of a repeated option, NULL after the last. */
const char *bn_cli_opt_at(const struct bn_cli *c, const char *name, size_t i);

/* "bpfnet: ..." on stderr. bn_cli_fail returns BN_EXIT_ERROR. */
void bn_cli_say(const char *fmt, ...) _printf_(1, 2);
int bn_cli_fail(const char *fmt, ...) _printf_(1, 2);
/* Reads a number between min and max; says what is wrong and returns -EINVAL. */
int bn_cli_number(const char *what, const char *text, long min, long max, long *ret);
/* Cuts "ns/name" in two; says what is wrong and returns -EINVAL. Free *ns; *name points into it. */
int bn_cli_split_name(const char *text, char **ns, const char **name);

/* Help of the program (group and cmd NULL), a group or a command. */
void bn_cli_help(FILE *out, const struct bn_cmd *group, const struct bn_cmd *cmd);
/* The word of the list nearest to text, NULL when none is near. */
const char *bn_cli_nearest(const char *text, const char *const *words, size_t n);

/* Completion scripts, written from the table. */
void bn_complete_bash(FILE *out);
void bn_complete_zsh(FILE *out);

#endif
