/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "cli/commands.h"
#include "cli/kubeproxy.h"
#include "cli/out.h"
#include "cli/pinned.h"
#include "loader/kernel/kernel.h"
#include "loader/takeover.h"

static const struct bn_col cols[] = {
	{ "CHECK", "name", 0 },
	{ "STATUS", "status", 0 },
	{ "FOUND", "text", 0 },
	{ "WHAT TO DO", "hint", 0 },
	{ 0 },
};

int bn_cmd_check(struct bn_cli *c)
{
	_cleanup_(json_decrefp) json_t *rows = NULL;
	const json_t *row;
	bool failed = false;
	char bpffs[4096];
	size_t i;
	int r;

	bn_pinned_dir(c, bpffs, sizeof(bpffs));
	r = bn_kernel_check(bpffs, bn_cli_opt(c, "cgroup"), &rows);
	if (r < 0)
		return bn_cli_fail("check: %s", strerror(-r));
	json_array_foreach(rows, i, row) {
		const char *status = json_string_value(json_object_get(row, "status"));

		failed = failed || !status || !strcmp(status, "fail");
	}
	r = bn_out(c, rows, cols, NULL);
	return r ?: failed ? BN_EXIT_NO : BN_EXIT_OK;
}

/* What to clean when the command line does not say: what the record names (NULL), or, where nothing was
 * recorded, the daemon's default if its default run dir was meant.
 */
static const char *default_bpffs(const struct bn_cli *c)
{
	_cleanup_(bn_record_done) struct bn_record rec = { 0 };

	if (bn_record_read(c->run_dir, &rec, NULL) == -ENOENT && !bn_cli_opt(c, "run-dir"))
		return BN_PINNED_DEFAULT;
	return NULL;
}

/* With --kube-proxy only kube-proxy's: bpfnetd may be at work already, and shall stay. */
static int clean(const struct bn_cli *c, json_t **report)
{
	_cleanup_(freep) char *err = NULL;
	int r;

	if (bn_cli_opt(c, "kube-proxy")) {
		*report = json_array();
		return bn_kube_proxy_cleanup(*report) < 0 ? BN_EXIT_ERROR : BN_EXIT_OK;
	}
	r = bn_kernel_cleanup(c->run_dir, bn_cli_opt(c, "bpffs") ?: default_bpffs(c), report, &err);
	if (r < 0)
		return bn_cli_fail("cleanup: %s", err ?: strerror(-r));
	if (bn_takeover_cleanup())
		json_array_append_new(*report, json_string("nftables: the nat chain kept for connections that "
							   "began through kube-proxy"));
	return BN_EXIT_OK;
}

int bn_cmd_cleanup(struct bn_cli *c)
{
	_cleanup_(json_decrefp) json_t *report = NULL;
	const json_t *line;
	int r = clean(c, &report);
	size_t i;

	if (report && c->format == BN_JSON)
		return bn_out_json(stdout, report) < 0 ? BN_EXIT_ERROR : r;
	if (report && c->format == BN_YAML)
		return bn_out_yaml(stdout, report) < 0 ? BN_EXIT_ERROR : r;
	json_array_foreach(report, i, line)
		printf("%s\n", json_string_value(line) ?: "?");
	if (!r && !json_array_size(report))
		printf("nothing was there\n");
	return r;
}
