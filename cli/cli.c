/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include <bpf/libbpf.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#define MAX_WORDS 64

static void say(const char *fmt, va_list ap)
{
	fputs("bpfnet: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

void bn_cli_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
}

int bn_cli_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return BN_EXIT_ERROR;
}

const char *bn_cli_opt_at(const struct bn_cli *c, const char *name, size_t i)
{
	for (size_t k = 0; k < c->nvals; k++)
		if (!strcmp(c->vals[k].opt->name, name) && !i--)
			return c->vals[k].value;
	return NULL;
}

const char *bn_cli_opt(const struct bn_cli *c, const char *name)
{
	const char *v = NULL, *next;

	for (size_t i = 0; (next = bn_cli_opt_at(c, name, i)); i++)
		v = next;
	return v;
}

int bn_cli_number(const char *what, const char *text, long min, long max, long *ret)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(text, &end, 10);
	if (errno || end == text || *end || v < min || v > max) {
		bn_cli_say("%s: '%s' is not a number from %ld to %ld", what, text, min, max);
		return -EINVAL;
	}
	*ret = v;
	return 0;
}

int bn_cli_split_name(const char *text, char **ns, const char **name)
{
	char *copy = strdup(text), *slash = copy ? strchr(copy, '/') : NULL;

	if (!slash || slash == copy || !slash[1] || strchr(slash + 1, '/')) {
		bn_cli_say("'%s' is not NAMESPACE/NAME", text);
		free(copy);
		return -EINVAL;
	}
	*slash = '\0';
	*ns = copy;
	*name = slash + 1;
	return 0;
}

/* --- options ----------------------------------------------------------------------------------- */

static const struct bn_opt *opt_in(const struct bn_opt *list, const char *name, size_t len,
				   char letter)
{
	for (; list && list->name; list++)
		if (letter ? list->letter == letter :
			     strlen(list->name) == len && !strncmp(list->name, name, len))
			return list;
	return NULL;
}

static const struct bn_opt *find_opt(const struct bn_cli *c, const char *name, size_t len,
				     char letter)
{
	const struct bn_opt *o = c->cmd ? opt_in(c->cmd->opts, name, len, letter) : NULL;

	return o ?: opt_in(bn_global_opts, name, len, letter);
}

static int unknown_option(const struct bn_cli *c, const char *arg)
{
	const char *words[MAX_WORDS], *near;
	size_t n = 0, len = strcspn(arg, "=");
	char word[64];

	for (const struct bn_opt *o = c->cmd ? c->cmd->opts : NULL; o && o->name; o++)
		words[n++] = o->name;
	for (const struct bn_opt *o = bn_global_opts; o->name; o++)
		words[n++] = o->name;
	snprintf(word, sizeof(word), "%.*s", (int)len, arg);
	near = bn_cli_nearest(word + strspn(word, "-"), words, n);
	if (near)
		bn_cli_say("unknown option '%s'; did you mean '--%s'?", word, near);
	else
		bn_cli_say("unknown option '%s'; see 'bpfnet help%s%s%s%s'", word,
			   c->group ? " " : "", c->group ? c->group->name : "", c->cmd ? " " : "",
			   c->cmd ? c->cmd->name : "");
	return -EINVAL;
}

static bool allowed(const char *values, const char *v)
{
	size_t len = strcspn(v, "|");

	if (v[len])
		return false;
	for (const char *p = values; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
		if (!strncmp(p, v, len) && (p[len] == '|' || !p[len]))
			return len > 0;
	return false;
}

static int set_opt(struct bn_cli *c, const struct bn_opt *o, const char *value)
{
	static const char *const formats[] = { "table", "wide", "json", "yaml" };

	if (o->values && !allowed(o->values, value)) {
		bn_cli_say("option '--%s': '%s' is not one of %s", o->name, value, o->values);
		return -EINVAL;
	}
	if (!strcmp(o->name, "run-dir"))
		c->run_dir = value;
	else if (!strcmp(o->name, "help"))
		c->help = true;
	if (!strcmp(o->name, "output"))
		for (size_t i = 0; i < BN_FORMAT__MAX; i++)
			if (!strcmp(value, formats[i]))
				c->format = i;
	c->vals[c->nvals++] = (struct bn_optval){ o, value };
	return 0;
}

/* Reads the option at argv[*i]; its value may be in the same word or in the next one. */
static int parse_opt(struct bn_cli *c, int argc, char **argv, int *i)
{
	const char *arg = argv[*i], *value = NULL;
	const struct bn_opt *o;

	if (arg[1] == '-') {
		size_t len = strcspn(arg + 2, "=");

		o = find_opt(c, arg + 2, len, 0);
		if (arg[2 + len])
			value = arg + 3 + len;
	} else {
		o = find_opt(c, NULL, 0, arg[1]);
		if (arg[2])
			value = arg + 2 + (arg[2] == '=');
	}
	if (!o)
		return unknown_option(c, arg);
	if (!o->arg && value) {
		bn_cli_say("option '--%s' takes no value", o->name);
		return -EINVAL;
	}
	if (o->arg && !value) {
		if (*i + 1 >= argc) {
			bn_cli_say("option '--%s' wants %s", o->name, o->arg);
			return -EINVAL;
		}
		value = argv[++*i];
	}
	return set_opt(c, o, value ?: "");
}

/* --- commands ---------------------------------------------------------------------------------- */

/* The command of that name, or the only one that begins with it. */
static const struct bn_cmd *find_cmd(const struct bn_cmd *list, const char *word)
{
	const struct bn_cmd *found = NULL;
	const char *words[MAX_WORDS], *near;
	size_t n = 0, hits = 0, len = strlen(word);

	for (const struct bn_cmd *k = list; k->name; k++) {
		words[n++] = k->name;
		if (!strcmp(k->name, word))
			return k;
		if (len && !strncmp(k->name, word, len)) {
			found = k;
			hits++;
		}
	}
	if (hits == 1)
		return found;
	if (hits > 1) {
		fprintf(stderr, "bpfnet: '%s' is ambiguous:", word);
		for (const struct bn_cmd *k = list; k->name; k++)
			if (!strncmp(k->name, word, len))
				fprintf(stderr, " %s", k->name);
		fputc('\n', stderr);
		return NULL;
	}
	near = bn_cli_nearest(word, words, n);
	if (near)
		bn_cli_say("unknown command '%s'; did you mean '%s'?", word, near);
	else
		bn_cli_say("unknown command '%s'; see 'bpfnet help'", word);
	return NULL;
}

/* A word that is no option: names the group, then the command, then is an argument. */
static int parse_word(struct bn_cli *c, char *word)
{
	const struct bn_cmd *k;

	if (c->cmd) {
		c->args[c->nargs++] = word;
		return 0;
	}
	k = find_cmd(c->group ? c->group->sub : bn_cmds, word);
	if (!k)
		return -EINVAL;
	if (k->sub)
		c->group = k;
	else
		c->cmd = k;
	return 0;
}

static int parse(struct bn_cli *c, int argc, char **argv)
{
	bool words = false;
	int r;

	for (int i = 1; i < argc; i++) {
		if (!words && !strcmp(argv[i], "--")) {
			words = true;
			continue;
		}
		if (!words && argv[i][0] == '-' && argv[i][1])
			r = parse_opt(c, argc, argv, &i);
		else
			r = parse_word(c, argv[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int run(struct bn_cli *c)
{
	if (c->help) {
		bn_cli_help(stdout, c->group, c->cmd);
		return BN_EXIT_OK;
	}
	if (!c->cmd) {
		bn_cli_help(stderr, c->group, NULL);
		return BN_EXIT_ERROR;
	}
	if (c->nargs < c->cmd->min_args || c->nargs > c->cmd->max_args)
		return bn_cli_fail("usage: bpfnet %s%s%s%s%s", c->group ? c->group->name : "",
				   c->group ? " " : "", c->cmd->name, c->cmd->args ? " " : "",
				   c->cmd->args ?: "");
	return c->cmd->run(c);
}

int bn_cli_main(int argc, char **argv)
{
	struct bn_cli c = { .run_dir = "/run/bpfnet" };
	int r;

	setlocale(LC_CTYPE, "");
	signal(SIGPIPE, SIG_DFL); /* `bpfnet flows | head` ends quietly */
	libbpf_set_print(NULL);   /* what matters is in the error that comes back */
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--version")) /* what is typed first; the command says it */
			argv[i] += 2;
	c.vals = calloc(argc + 1, sizeof(*c.vals));
	c.args = calloc(argc + 1, sizeof(*c.args));
	if (!c.vals || !c.args)
		r = bn_cli_fail("out of memory");
	else if (parse(&c, argc, argv) < 0)
		r = BN_EXIT_ERROR;
	else
		r = run(&c);
	free(c.vals);
	free(c.args);
	/* A full disk or a closed pipe must not look like an answer. */
	if (fflush(stdout) || ferror(stdout))
		r = bn_cli_fail("cannot write the output: %s", strerror(errno));
	return r;
}
