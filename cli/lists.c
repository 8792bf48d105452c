/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/out.h"

/* Listings that are no more than a question and columns. */

static int list(struct bn_cli *c, const char *cmd, const struct bn_col *cols)
{
	_cleanup_(json_decrefp) json_t *rows = NULL;
	int r = bn_ask(c, cmd, NULL, &rows);

	if (r)
		return BN_EXIT_ERROR;
	bn_only_namespace(c, rows);
	return bn_out(c, rows, cols, NULL);
}

int bn_cmd_endpoint_list(struct bn_cli *c)
{
	static const struct bn_col cols[] = {
		{ "NAMESPACE", "namespace", 0 },
		{ "NAME", "name", 0 },
		{ "INTERFACE", "interface", 0 },
		{ "ADDRESSES", "addresses", 0 },
		{ "INGRESS", "ingress", 0 },
		{ "EGRESS", "egress", 0 },
		{ "SLOT", "slot", BN_COL_WIDE | BN_COL_RIGHT },
		{ "IFINDEX", "ifindex", BN_COL_WIDE | BN_COL_RIGHT },
		{ "FOUND BY", "foundBy", BN_COL_WIDE },
		{ "BYPASS", "bypass", BN_COL_WIDE },
		{ 0 },
	};

	return list(c, "endpoint.list", cols);
}

int bn_cmd_identity_list(struct bn_cli *c)
{
	static const struct bn_col cols[] = {
		{ "IDENTITY", "identity", BN_COL_RIGHT },
		{ "KIND", "kind", 0 },
		{ "ADDRESSES", "addresses", BN_COL_RIGHT },
		{ "PODS", "labels", 0 },
		{ "CIDRS", "cidrs", 0 },
		{ "NAMED PORTS", "namedPorts", BN_COL_WIDE | BN_COL_RIGHT },
		{ 0 },
	};

	return list(c, "identity.list", cols);
}

int bn_cmd_policy_list(struct bn_cli *c)
{
	static const struct bn_col cols[] = {
		{ "NAMESPACE", "namespace", 0 },
		{ "NAME", "name", 0 },
		{ "KIND", "kind", BN_COL_WIDE },
		{ "DIRECTIONS", "directions", 0 },
		{ "PODS", "pods", BN_COL_RIGHT },
		{ "RULES", "rules", BN_COL_RIGHT },
		{ "PACKETS", "packets", BN_COL_RIGHT },
		{ "CONNECTIONS", "connections", BN_COL_RIGHT },
		{ "ERROR", "error", 0 },
		{ 0 },
	};

	return list(c, "policy.list", cols);
}

int bn_cmd_policy_lint(struct bn_cli *c)
{
	static const struct bn_col cols[] = {
		{ "NAMESPACE", "namespace", 0 },
		{ "NAME", "name", 0 },
		{ "RULE", "rule", 0 },
		{ "KIND", "kind", BN_COL_WIDE },
		{ "CODE", "finding", BN_COL_WIDE },
		{ "FINDING", "message", 0 },
		{ 0 },
	};

	return list(c, "policy.lint", cols);
}

int bn_cmd_policy_show(struct bn_cli *c)
{
	_cleanup_(json_decrefp) json_t *pol = NULL;
	_cleanup_(freep) char *ns = NULL;
	const char *name;
	int r;

	if (bn_cli_split_name(c->args[0], &ns, &name) < 0)
		return BN_EXIT_ERROR;
	r = bn_ask(c, "policy.show", json_pack("{ss ss}", "namespace", ns, "name", name), &pol);
	if (r)
		return r;
	/* A policy is a tree: for people, too, YAML shows it best. */
	if (c->format == BN_JSON)
		return bn_out_object(c, pol, NULL);
	r = bn_out_yaml(stdout, pol);
	return r < 0 ? bn_cli_fail("cannot write the output: %s", strerror(-r)) : BN_EXIT_OK;
}
