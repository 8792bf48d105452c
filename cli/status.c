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
	{ "OBJECTS", "objects", BN_COL_RIGHT },
	{ "AGE", "ageSeconds", BN_COL_RIGHT },
	{ "FAILING", "failingSeconds", BN_COL_RIGHT },
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

static const struct bn_col checking_cols[] = {
	{ "BEING CHECKED", "kind", 0 },
	{ "NAMESPACE", "namespace", 0 },
	{ "NAME", "name", 0 },
	{ "SECONDS", "seconds", BN_COL_RIGHT },
	{ 0 },
};

static const struct bn_col policy_cols[] = {
	{ "NOT IN FORCE", "kind", 0 },
	{ "NAMESPACE", "namespace", 0 },
	{ "NAME", "name", 0 },
	{ "WHY", "error", 0 },
	{ 0 },
};

static const struct bn_col problem_cols[] = {
	{ "PROBLEM", "kind", 0 },
	{ "NAMESPACE", "namespace", 0 },
	{ "NAME", "name", 0 },
	{ "INTERFACE", "interface", 0 },
	{ "ADDRESSES", "addresses", 0 },
	{ "CLOSED", "closed", 0 },
	{ 0 },
};

static const struct bn_col refused_cols[] = {
	{ "HTTP REFUSED", "namespace", 0 },
	{ "POD", "name", 0 },
	{ "CONNECTIONS", "connections", BN_COL_RIGHT },
	{ "BLOCKS", "blocks", BN_COL_RIGHT },
	{ "REFUSED", "refused", BN_COL_RIGHT },
	{ 0 },
};

static const struct bn_col limit_cols[] = {
	{ "LIMIT", "reason", 0 },
	{ "WHAT", "what", 0 },
	{ "PACKETS", "packets", BN_COL_RIGHT },
	{ "AGO", "secondsAgo", BN_COL_RIGHT },
	{ "WHAT TO DO", "advice", 0 },
	{ 0 },
};

static const struct bn_col order_cols[] = {
	{ "BEFORE OURS ON", "interface", 0 },
	{ "HOOK", "hook", 0 },
	{ "PROGRAMS", "before", 0 },
	{ 0 },
};

static const struct bn_col xdp_cols[] = {
	{ "XDP ON", "interface", 0 },
	{ "MODE", "mode", 0 },
	{ "SENDS", "sends", 0 },
	{ "BECAUSE", "because", 0 },
	{ 0 },
};

/* Lists that have a table of their own, in this order; one that is empty is not shown. */
static const struct {
	const char *key;
	const struct bn_col *cols;
} tables[] = {
	{ "sources", source_cols },	      { "rejected", rejected_cols },
	{ "checking", checking_cols },	      { "policyErrors", policy_cols },
	{ "endpointProblems", problem_cols }, { "limits", limit_cols },
	{ "httpRefused", refused_cols },      { "programsBeforeOurs", order_cols },
	{ "xdp", xdp_cols },
};

/* The contract's object when there is no daemon to make it. */
static json_t *down_status(const char *why)
{
	struct utsname u;

	uname(&u);
	return json_pack("{sb s[] ss ss s{} s[] ss}", "ready", 0, "sources", "version", BN_VERSION,
			 "kernel", u.release, "features", "rejected", "error", why);
}

/* Has it a place of its own, or nothing to say? */
static bool skipped(const char *key, const json_t *v)
{
	if (!strcmp(key, "ready") || json_is_null(v) || (json_is_array(v) && !json_array_size(v)) ||
	    (json_is_string(v) && !*json_string_value(v)))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		if (!strcmp(key, tables[i].key))
			return true;
	return false;
}

/* "key=value key=value" */
static void print_pairs(const json_t *o)
{
	const char *key, *sep = "";
	json_t *v;

	json_object_foreach((json_t *)o, key, v) {
		_cleanup_(freep) char *text = bn_out_cell(o, key);

		printf("%s%s=%s", sep, key, text ?: "?");
		sep = " ";
	}
}

/* Long, and rarely asked for. */
static bool wide_only(const char *key)
{
	return !strcmp(key, "features") || !strcmp(key, "mapBytes");
}

/* A line for each of the rest: fields that a newer daemon has are shown, too. */
static void print_rest(const json_t *s, bool wide)
{
	const json_t *e;
	const char *key;
	json_t *v;
	size_t i;

	json_object_foreach((json_t *)s, key, v) {
		if (skipped(key, v) || (!wide && wide_only(key)))
			continue;
		if (json_is_array(v)) {
			json_array_foreach(v, i, e) {
				_cleanup_(freep) char *text = bn_out_cell(e, "");

				printf("%-18s %s\n", i ? "" : key, text ?: "?");
			}
			continue;
		}
		printf("%-18s ", key);
		if (json_is_object(v)) {
			print_pairs(v);
			putchar('\n');
		} else {
			_cleanup_(freep) char *text = bn_out_cell(s, key);

			printf("%s\n", text ?: "?");
		}
	}
}

static int print_status(const struct bn_cli *c, const json_t *s)
{
	int r = 0;

	printf("%-18s %s\n", "ready", json_is_true(json_object_get(s, "ready")) ? "yes" : "no");
	print_rest(s, c->format == BN_WIDE);
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		const json_t *rows = json_object_get(s, tables[i].key);

		if (!json_array_size(rows))
			continue;
		putchar('\n');
		r = r ?: bn_out_table(stdout, rows, tables[i].cols, c->format == BN_WIDE);
	}
	return r;
}

/* A daemon that has just begun does not know everything yet: scripts find the contract's fields. */
static void complete(json_t *s)
{
	if (!json_object_get(s, "sources"))
		json_object_set_new(s, "sources", json_array());
	if (!json_object_get(s, "features"))
		json_object_set_new(s, "features", json_object());
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
	complete(s);
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
