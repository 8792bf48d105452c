/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_COMMANDS_H
#define BN_LOADER_COMMANDS_H

/* The commands of the control socket that only pass a model's answer on. The daemon registers
 * `status`, which needs all of its parts, itself; the flow log registers `flows`.
 */

#include "loader/serve/control.h"
#include "loader/serve/metrics.h"

struct bn_endpoints;
struct bn_policies;
struct bn_services;

struct bn_commands {
	struct bn_services *services;
	struct bn_endpoints *endpoints;
	struct bn_policies *policies;
	struct bn_metrics *metrics;
};

/* env must live as long as the socket; a NULL member leaves its commands out. */
int bn_commands_register(struct bn_control *c, const struct bn_commands *env);

#endif
