/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"

/* Both scripts are the table as data and a few lines that walk it: "group command" -> its words. */

static const char *const file_args[] = { "DIR", "FILE" };

static bool wants_file(const struct bn_opt *o)
{
	for (size_t i = 0; o->arg && i < ARRAY_SIZE(file_args); i++)
		if (!strcmp(o->arg, file_args[i]))
			return true;
	return false;
}

/* What of this node an argument or the value of an option names: the group whose list has it, or NULL. */
static const char *named(const char *arg, const char *group)
{
	if (!arg || (strncmp(arg, "NS/NAME", 7) && strncmp(arg, "NS/POD", 6)))
		return NULL;
	return group ?: "endpoint";
}

static void put_names(FILE *out, const struct bn_cmd *list)
{
	for (const struct bn_cmd *k = list; k->name; k++)
		fprintf(out, "%s%s", k == list ? "" : " ", k->name);
}

static void put_opts(FILE *out, const struct bn_opt *o)
{
	for (; o && o->name; o++)
		fprintf(out, " --%s", o->name);
}

/* The words of values, or of an argument like bash|zsh, without the bars. */
static void put_values(FILE *out, const char *values)
{
	for (; *values; values++)
		fputc(*values == '|' ? ' ' : *values, out);
}

static void bash_cases(FILE *out, const struct bn_cmd *list, const char *group)
{
	for (const struct bn_cmd *k = list; k->name; k++) {
		fprintf(out, "\t\"%s%s%s\") words=\"", group, *group ? " " : "", k->name);
		if (k->sub)
			put_names(out, k->sub);
		else if (named(k->args, group))
			fprintf(out, "$(_bpfnet_names %s)", group);
		else if (k->args && strchr(k->args, '|'))
			put_values(out, k->args);
		else if (!strcmp(k->name, "help"))
			put_names(out, bn_cmds);
		fputs("\"; opts=\"", out);
		put_opts(out, k->opts);
		fputs("\" ;;\n", out);
		if (k->sub)
			bash_cases(out, k->sub, k->name);
	}
}

/* Which option takes what: the previous word decides. The same name means the same everywhere. */
static void bash_opt_args(FILE *out, const struct bn_opt *o)
{
	for (; o && o->name; o++) {
		if (!o->arg)
			continue;
		fprintf(out, "\t--%s", o->name);
		if (o->letter)
			fprintf(out, " | -%c", o->letter);
		fputs(") ", out);
		if (o->values) {
			fputs("COMPREPLY=($(compgen -W \"", out);
			put_values(out, o->values);
			fputs("\" -- \"$cur\"))", out);
		} else if (wants_file(o)) {
			fprintf(out, "COMPREPLY=($(compgen -%c -- \"$cur\"))",
				strcmp(o->arg, "DIR") ? 'f' : 'd');
		} else if (named(o->arg, NULL)) {
			fprintf(out, "COMPREPLY=($(compgen -W \"$(_bpfnet_names %s)\" -- \"$cur\"))",
				named(o->arg, NULL));
		} else {
			fputs("COMPREPLY=()", out);
		}
		fputs("; return ;;\n", out);
	}
}

/* As patterns of a case: the next word is a value, not a command. */
static void bash_with_arg(FILE *out, const struct bn_opt *o)
{
	for (; o && o->name; o++) {
		if (o->arg)
			fprintf(out, " | --%s", o->name);
		if (o->arg && o->letter)
			fprintf(out, " | -%c", o->letter);
	}
}

static void each_opts(FILE *out, const struct bn_cmd *list,
		      void (*fn)(FILE *out, const struct bn_opt *o))
{
	for (const struct bn_cmd *k = list; k->name; k++) {
		fn(out, k->opts);
		if (k->sub)
			each_opts(out, k->sub, fn);
	}
}

void bn_complete_bash(FILE *out)
{
	fputs("# bash completion of bpfnet; written by 'bpfnet completion bash'\n"
	      "# NAMESPACE/NAME of what a list has now; a daemon that does not answer must not hold up the shell\n"
	      "_bpfnet_names()\n{\n"
	      "\ttimeout 2 \"${COMP_WORDS[0]}\" \"${dir[@]}\" \"$1\" list 2>/dev/null | awk 'NR > 1 && ($1 $2) ~ /^[a-z0-9.-]+$/ { print $1 \"/\" $2 }' | sort -u\n"
	      "}\n"
	      "_bpfnet()\n{\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	      "\tlocal i word path= words= opts= dir=() global=\"",
	      out);
	put_opts(out, bn_global_opts);
	fputs("\"\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	      "\t\tword=${COMP_WORDS[i]}\n"
	      "\t\tcase ${COMP_WORDS[i-1]} in\n"
	      "\t\t--run-dir) dir=(--run-dir \"$word\"); continue ;;\n"
	      "\t\t-o", out);
	bash_with_arg(out, bn_global_opts);
	each_opts(out, bn_cmds, bash_with_arg);
	fputs(") continue ;;\n"
	      "\t\tesac\n"
	      "\t\t[[ $word == -* ]] && continue\n"
	      "\t\tpath=${path:+$path }$word\n"
	      "\tdone\n"
	      "\tcase $prev in\n",
	      out);
	bash_opt_args(out, bn_global_opts);
	each_opts(out, bn_cmds, bash_opt_args);
	fputs("\tesac\n"
	      "\tcase $path in\n\t\"\") words=\"",
	      out);
	put_names(out, bn_cmds);
	fputs("\" ;;\n", out);
	bash_cases(out, bn_cmds, "");
	fputs("\tesac\n"
	      "\tif [[ $cur == -* ]]; then\n"
	      "\t\tCOMPREPLY=($(compgen -W \"$global $opts\" -- \"$cur\"))\n"
	      "\telse\n"
	      "\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	      "\tfi\n"
	      "}\n"
	      "complete -F _bpfnet bpfnet\n",
	      out);
}

/* In single quotes, for _arguments: colons and brackets have a meaning there. */
static void zsh_text(FILE *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", out);
		else if (strchr(":[]\\", *s))
			fprintf(out, "\\%c", *s);
		else
			fputc(*s, out);
	}
}

static void zsh_opts(FILE *out, const struct bn_opt *o)
{
	for (; o && o->name; o++) {
		fprintf(out, " \\\n\t\t'%s", o->repeat ? "*" : "");
		if (o->letter)
			fprintf(out, "(-%c --%s)'{-%c,--%s}'", o->letter, o->name, o->letter, o->name);
		else
			fprintf(out, "--%s", o->name);
		fputc('[', out);
		zsh_text(out, o->help);
		fputc(']', out);
		if (o->values) {
			fputs(":value:(", out);
			put_values(out, o->values);
			fputc(')', out);
		} else if (o->arg) {
			fputs(":value:", out);
			if (wants_file(o))
				fputs(strcmp(o->arg, "DIR") ? "_files" : "_files -/", out);
			else if (named(o->arg, NULL))
				fprintf(out, "{_bpfnet_names %s}", named(o->arg, NULL));
			else
				fputc(' ', out);
		}
		fputc('\'', out);
	}
}

static void zsh_cases(FILE *out, const struct bn_cmd *list, const char *group)
{
	for (const struct bn_cmd *k = list; k->name; k++) {
		if (k->sub) {
			zsh_cases(out, k->sub, k->name);
			continue;
		}
		fprintf(out, "\t'%s%s%s') _arguments $global", group, *group ? " " : "", k->name);
		zsh_opts(out, k->opts);
		if (named(k->args, group)) {
			fprintf(out, " \\\n\t\t'*:name:{_bpfnet_names %s}'", group);
		} else if (k->args && strchr(k->args, '|')) {
			fputs(" \\\n\t\t'*:word:(", out);
			put_values(out, k->args);
			fputs(")'", out);
		} else {
			fputs(" \\\n\t\t'*: :'", out);
		}
		fputs(" ;;\n", out);
	}
}

static void zsh_list(FILE *out, const struct bn_cmd *list)
{
	for (const struct bn_cmd *k = list; k->name; k++) {
		fprintf(out, " '%s:", k->name);
		zsh_text(out, k->help);
		fputc('\'', out);
	}
}

void bn_complete_zsh(FILE *out)
{
	fputs("#compdef bpfnet\n# zsh completion of bpfnet; written by 'bpfnet completion zsh'\n"
	      "_bpfnet_names()\n{\n"
	      "\tcompadd -- ${(f)\"$(timeout 2 ${words[1]} $dir $1 list 2>/dev/null | awk 'NR > 1 && ($1 $2) ~ /^[a-z0-9.-]+$/ { print $1 \"/\" $2 }' | sort -u)\"}\n"
	      "}\n"
	      "_bpfnet()\n{\n"
	      "\tlocal -a global list names dir\n"
	      "\tlocal i word\n"
	      "\tglobal=(",
	      out);
	zsh_opts(out, bn_global_opts);
	fputs("\n\t)\n"
	      "\tfor ((i = 2; i < CURRENT; i++)); do\n"
	      "\t\tword=${words[i]}\n"
	      "\t\tcase ${words[i-1]} in\n"
	      "\t\t--run-dir) dir=(--run-dir $word); continue ;;\n"
	      "\t\t-o", out);
	bash_with_arg(out, bn_global_opts);
	each_opts(out, bn_cmds, bash_with_arg);
	fputs(") continue ;;\n"
	      "\t\tesac\n"
	      "\t\t[[ $word == -* ]] || names+=($word)\n"
	      "\tdone\n"
	      "\tcase ${names[1]} in\n\t'') list=(",
	      out);
	zsh_list(out, bn_cmds);
	fputs("); _describe command list; _arguments $global; return ;;\n", out);
	for (const struct bn_cmd *k = bn_cmds; k->name; k++) {
		if (!k->sub)
			continue;
		fprintf(out, "\t'%s') if (( ${#names} == 1 )); then\n\t\tlist=(", k->name);
		zsh_list(out, k->sub);
		fputs("); _describe command list; return\n\tfi ;;\n", out);
	}
	fputs("\t*) names=(${names[1]}) ;;\n"
	      "\tesac\n"
	      "\tcase \"${names[1,2]}\" in\n",
	      out);
	zsh_cases(out, bn_cmds, "");
	fputs("\tesac\n}\n_bpfnet \"$@\"\n", out);
}

int bn_cmd_completion(struct bn_cli *c)
{
	if (!strcmp(c->args[0], "bash"))
		bn_complete_bash(stdout);
	else if (!strcmp(c->args[0], "zsh"))
		bn_complete_zsh(stdout);
	else
		return bn_cli_fail("no completion for '%s'; bash or zsh", c->args[0]);
	return BN_EXIT_OK;
}
