/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "cli/commands.h"
#include "cli/kubeproxy.h"
#include "cli/out.h"
#include "loader/kernel/kernel.h"

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
	size_t i;
	int r;

	r = bn_kernel_check(bn_cli_opt(c, "bpffs"), bn_cli_opt(c, "cgroup"), &rows);
	if (r < 0)
		return bn_cli_fail("check: %s", strerror(-r));
	json_array_foreach(rows, i, row) {
		const char *status = json_string_value(json_object_get(row, "status"));

		failed = failed || !status || !strcmp(status, "fail");
	}
	r = bn_out(c, rows, cols, NULL);
	return r ?: failed ? BN_EXIT_NO : BN_EXIT_OK;
}

int bn_cmd_cleanup(struct bn_cli *c)
{
	_cleanup_(json_decrefp) json_t *report = NULL;
	_cleanup_(freep) char *err = NULL;
	const json_t *line;
	int r = BN_EXIT_OK, k;
	size_t i;

	k = bn_kernel_cleanup(c->run_dir, bn_cli_opt(c, "bpffs"), &report, &err);
	if (k < 0)
		r = bn_cli_fail("cleanup: %s", err ?: strerror(-k));
	if (bn_cli_opt(c, "kube-proxy")) {
		if (!report)
			report = json_array();
		if (bn_kube_proxy_cleanup(report) < 0)
			r = BN_EXIT_ERROR;
	}
	if (c->format == BN_JSON || c->format == BN_YAML) {
		if (report && (c->format == BN_JSON ? bn_out_json(stdout, report) :
						      bn_out_yaml(stdout, report)) < 0)
			r = BN_EXIT_ERROR;
		return r;
	}
	json_array_foreach(report, i, line)
		printf("%s\n", json_string_value(line) ?: "?");
	if (!r && !json_array_size(report))
		printf("nothing was there\n");
	return r;
}
