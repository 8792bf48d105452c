/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_SERVE_FLOWS_PRIV_H
#define BN_LOADER_SERVE_FLOWS_PRIV_H

/* Inside of the flow log: flows.c keeps and hands out, flows_http.c reads requests. */

#include "loader/serve/flows.h"

/* Sets policy, rule and http of the object of an event. */
void bn_flows_http(const struct bn_flows_env *env, const struct bn_http_event *e, json_t *o);

#endif
