/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <sys/utsname.h>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/out.h"

static const struct bn_col source_cols[] = {
	{ "SOURCE", "name", 0 },
	{ "SYNCED", "synced", 0 },
	{ "AGE", "ageSeconds", BN_COL_RIGHT },
	{ "ERROR", "error", 0 },
	{ 0 },
};

static const struct bn_col rejected_cols[] = {
	{ "REJECTED", "kind", 0 },
	{ "NAMESPACE", "namespace", 0 },
	{ "NAME", "name", 0 },
	{ "WHERE", "origin", 0 },
	{ "FIELD", "field", 0 },
	{ "WHY", "message", 0 },
	{ "IN FORCE", "inForce", 0 },
	{ 0 },
};

/* The contract's object when there is no daemon to make it. */
static json_t *down_status(const char *why)
{
	struct utsname u;

	uname(&u);
	return json_pack("{sb s[] ss ss s{} s[] ss}", "ready", 0, "sources", "version", BN_VERSION,
			 "kernel", u.release, "features", "rejected", "error", why);
}

/* A line for every scalar that is there beside what has a place of its own. */
static void print_rest(const json_t *s)
{
	static const char *const own[] = { "ready", "sources", "rejected", "features" };
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)s, key, v) {
		_cleanup_(freep) char *text = NULL;
		bool skip = json_is_object(v) || json_is_null(v);

		for (size_t i = 0; i < ARRAY_SIZE(own); i++)
			skip = skip || !strcmp(key, own[i]);
		if (skip || (json_is_array(v) && !json_array_size(v)) ||
		    (json_is_string(v) && !*json_string_value(v)))
			continue;
		text = bn_out_cell(s, key);
		printf("%-18s %s\n", key, text ?: "?");
	}
}

static void print_features(const json_t *features)
{
	const char *key;
	json_t *v;
	bool any = false;

	json_object_foreach((json_t *)features, key, v) {
		_cleanup_(freep) char *text = bn_out_cell(features, key);

		printf("%s%s=%s", any ? " " : "features           ", key, text ?: "?");
		any = true;
	}
	if (any)
		putchar('\n');
}

static int print_status(const struct bn_cli *c, const json_t *s)
{
	bool wide = c->format == BN_WIDE;
	const json_t *sources = json_object_get(s, "sources");
	const json_t *rejected = json_object_get(s, "rejected");
	int r = 0;

	printf("%-18s %s\n", "ready", json_is_true(json_object_get(s, "ready")) ? "yes" : "no");
	print_rest(s);
	if (wide)
		print_features(json_object_get(s, "features"));
	if (json_array_size(sources)) {
		putchar('\n');
		r = bn_out_table(stdout, sources, source_cols, wide);
	}
	if (json_array_size(rejected)) {
		putchar('\n');
		r = r ?: bn_out_table(stdout, rejected, rejected_cols, wide);
	}
	return r;
}

int bn_cmd_status(struct bn_cli *c)
{
	_cleanup_(json_decrefp) json_t *s = NULL;
	char err[640] = "";
	int r = bn_client_ask(c->run_dir, "status", NULL, &s, err, sizeof(err));

	if (r < 0) {
		bn_cli_say("%s", err);
		s = down_status(err);
		if (!s)
			return bn_cli_fail("out of memory");
	}
	if (c->format == BN_JSON)
		r = bn_out_json(stdout, s);
	else if (c->format == BN_YAML)
		r = bn_out_yaml(stdout, s);
	else
		r = print_status(c, s);
	if (r < 0)
		return bn_cli_fail("cannot write the output: %s", strerror(-r));
	return json_is_true(json_object_get(s, "ready")) ? BN_EXIT_OK : BN_EXIT_NO;
}

int bn_cmd_version(struct bn_cli *c)
{
	_cleanup_(json_decrefp) json_t *s = NULL, *v = NULL;
	static const struct bn_col cols[] = {
		{ "bpfnet", "bpfnet", 0 },
		{ "bpfnetd", "bpfnetd", 0 },
		{ "kernel", "kernel", 0 },
		{ 0 },
	};
	char err[640];
	struct utsname u;

	uname(&u);
	(void)bn_client_ask(c->run_dir, "status", NULL, &s, err, sizeof(err));
	v = json_pack("{ss sO? ss}", "bpfnet", BN_VERSION, "bpfnetd", json_object_get(s, "version"),
		      "kernel", u.release);
	return v ? bn_out_object(c, v, cols) : bn_cli_fail("out of memory");
}
