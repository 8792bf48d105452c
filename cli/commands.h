/* SPDX-License-Identifier: MIT */
#ifndef BN_CLI_COMMANDS_H
#define BN_CLI_COMMANDS_H

/* What the table names: one function a command, one file a noun. */

#include "cli/cli.h"

int bn_cmd_status(struct bn_cli *c);
int bn_cmd_check(struct bn_cli *c);
int bn_cmd_svc_list(struct bn_cli *c);
int bn_cmd_svc_show(struct bn_cli *c);
int bn_cmd_endpoint_list(struct bn_cli *c);
int bn_cmd_policy_list(struct bn_cli *c);
int bn_cmd_policy_show(struct bn_cli *c);
int bn_cmd_policy_trace(struct bn_cli *c);
int bn_cmd_policy_lint(struct bn_cli *c);
int bn_cmd_identity_list(struct bn_cli *c);
int bn_cmd_ct_list(struct bn_cli *c);
int bn_cmd_ct_flush(struct bn_cli *c);
int bn_cmd_flows(struct bn_cli *c);
int bn_cmd_metrics(struct bn_cli *c);
int bn_cmd_cleanup(struct bn_cli *c);
int bn_cmd_version(struct bn_cli *c);
int bn_cmd_completion(struct bn_cli *c);
int bn_cmd_help(struct bn_cli *c);

#endif
