/* SPDX-License-Identifier: MIT */
#ifndef BN_CLI_SVC_PINNED_H
#define BN_CLI_SVC_PINNED_H

/* Services without a daemon: the pinned maps say what is in force. */

#include "cli/cli.h"

/* Is r, of bn_client_ask, a reason to read the maps? */
bool bn_svc_without_daemon(int r);

/* `svc list` of the pinned maps, in full, after saying why they are read. BN_EXIT_OK or BN_EXIT_ERROR. */
int bn_svc_pinned(const struct bn_cli *c, const char *why, json_t **ret);

#endif
