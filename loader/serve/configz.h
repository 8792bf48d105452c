/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_CONFIGZ_H
#define BN_LOADER_CONFIGZ_H

/* What /configz shows: the options in force under kube-proxy's names where it has them, and all of
 * them under bpfnet's own.
 */

#include <jansson.h>

#include "loader/opts.h"

/* A new reference; NULL: no memory. */
json_t *bn_configz(const struct bn_opts *o);

#endif
