/* SPDX-License-Identifier: MIT */
#include "cli/ask.h"

#include <string.h>

#include "cli/control_client.h"

int bn_ask(const struct bn_cli *c, const char *cmd, json_t *args, json_t **ret)
{
	_cleanup_(json_decrefp) json_t *a = args;
	char err[640] = "";
	int r = bn_client_ask(c->run_dir, cmd, a, ret, err, sizeof(err));

	if (!r)
		return BN_EXIT_OK;
	bn_cli_say("%s", err[0] ? err : strerror(-r));
	return r == -ESRCH ? BN_EXIT_NO : BN_EXIT_ERROR;
}

void bn_only_namespace(const struct bn_cli *c, json_t *rows)
{
	const char *want = bn_cli_opt(c, "namespace"), *have;
	size_t i = json_array_size(rows);

	if (!want)
		return;
	while (i--) {
		have = json_string_value(json_object_get(json_array_get(rows, i), "namespace"));
		if (!have || strcmp(have, want))
			json_array_remove(rows, i);
	}
}
