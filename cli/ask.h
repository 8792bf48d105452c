/* SPDX-License-Identifier: MIT */
#ifndef BN_CLI_ASK_H
#define BN_CLI_ASK_H

/* Asking the daemon, for commands that have nothing to say without it. */

#include "cli/cli.h"

/* args: a reference that is taken, NULL for none. BN_EXIT_OK and a new reference, or another exit
 * status after saying why: BN_EXIT_NO when the daemon knows of no such thing.
 */
int bn_ask(const struct bn_cli *c, const char *cmd, json_t *args, json_t **ret);

/* Removes the elements of an array whose "namespace" is not what --namespace asks for. */
void bn_only_namespace(const struct bn_cli *c, json_t *rows);

#endif
