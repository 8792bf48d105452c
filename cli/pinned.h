/* SPDX-License-Identifier: MIT */
#ifndef BN_CLI_PINNED_H
#define BN_CLI_PINNED_H

/* The pinned maps, for commands that work with the daemon down. */

#include "cli/cli.h"
#include "maps/maps.h"

#define BN_PINNED_DEFAULT "/sys/fs/bpf/bpfnet"

/* Where they are pinned: --bpffs, else what the daemon recorded in its run dir, else the default. */
void bn_pinned_dir(const struct bn_cli *c, char *buf, size_t len);

/* Opens them to read. BN_EXIT_OK, or another exit status after saying why not. */
int bn_pinned_open(const struct bn_cli *c, struct bn_maps **ret);

#endif
