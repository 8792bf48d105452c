/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"

static void help_opts(FILE *out, const struct bn_opt *o)
{
	char left[64];

	for (; o && o->name; o++) {
		snprintf(left, sizeof(left), "%c%c%s--%s%s%s", o->letter ? '-' : ' ',
			 o->letter ?: ' ', o->letter ? ", " : "  ", o->name, o->arg ? " " : "",
			 o->arg ?: "");
		fprintf(out, "  %-30s %s%s\n", left, o->help, o->repeat ? " (may be repeated)" : "");
	}
}

static void help_cmds(FILE *out, const struct bn_cmd *list, const char *group)
{
	char left[64];

	for (const struct bn_cmd *k = list; k->name; k++) {
		if (k->sub) {
			help_cmds(out, k->sub, k->name);
			continue;
		}
		snprintf(left, sizeof(left), "%s%s%s%s%s", group ?: "", group ? " " : "", k->name,
			 k->args ? " " : "", k->args ?: "");
		fprintf(out, "  %-30s %s\n", left, k->help);
	}
}

static void help_cmd(FILE *out, const struct bn_cmd *group, const struct bn_cmd *cmd)
{
	fprintf(out, "usage: bpfnet %s%s%s%s%s%s\n\n%s\n", group ? group->name : "",
		group ? " " : "", cmd->name, cmd->args ? " " : "", cmd->args ?: "",
		cmd->opts ? " [options]" : "", cmd->help);
	if (cmd->more)
		fprintf(out, "\n%s\n", cmd->more);
	if (cmd->opts) {
		fputs("\noptions:\n", out);
		help_opts(out, cmd->opts);
	}
	fputs("\nglobal options:\n", out);
	help_opts(out, bn_global_opts);
}

void bn_cli_help(FILE *out, const struct bn_cmd *group, const struct bn_cmd *cmd)
{
	if (cmd) {
		help_cmd(out, group, cmd);
		return;
	}
	fprintf(out, "usage: bpfnet [global options] %s ...\n\n",
		group ? group->name : "COMMAND");
	if (!group)
		fputs("Shows and explains what bpfnetd has put into this node's kernel.\n\n", out);
	fputs("commands (any unique beginning will do):\n", out);
	help_cmds(out, group ? group->sub : bn_cmds, group ? group->name : NULL);
	fputs("\nglobal options, before or after the command:\n", out);
	help_opts(out, bn_global_opts);
	fputs("\nexit status: 0 yes or done; 1 a negative answer (not ready, denied, a check failed);"
	      " 2 error\n",
	      out);
}

int bn_cmd_help(struct bn_cli *c)
{
	const struct bn_cmd *group = NULL, *cmd = NULL, *list = bn_cmds;

	for (int i = 0; i < c->nargs && !cmd; i++) {
		const struct bn_cmd *k = list;

		while (k->name && strcmp(k->name, c->args[i]))
			k++;
		if (!k->name)
			return bn_cli_fail("no help for '%s'; see 'bpfnet help'", c->args[i]);
		if (k->sub)
			group = k, list = k->sub;
		else
			cmd = k;
	}
	bn_cli_help(stdout, group, cmd);
	return BN_EXIT_OK;
}

#define MAX_WORD 40

/* Levenshtein distance; words longer than MAX_WORD are not near anything. */
static size_t distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b), row[MAX_WORD + 1];

	if (n > MAX_WORD || m > MAX_WORD)
		return MAX_WORD;
	for (size_t j = 0; j <= m; j++)
		row[j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t diag = row[0];

		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t best = diag + (a[i - 1] != b[j - 1]);

			diag = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[m];
}

const char *bn_cli_nearest(const char *text, const char *const *words, size_t n)
{
	const char *best = NULL;
	size_t least = strlen(text) / 3 + 2; /* further away is another word, not a slip */

	for (size_t i = 0; i < n; i++) {
		size_t d = distance(text, words[i]);

		if (d < least) {
			least = d;
			best = words[i];
		}
	}
	return best;
}
