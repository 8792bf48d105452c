/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_DSR_H
#define BN_LOADER_MODEL_DSR_H

/* Who speaks DSR (map dsr): nodes whose Node object has the annotation bpfnet.io/dsr=v1, this one aside, and
 * in the modes dsr and hybrid the pods on them. What has no entry is reached by source translation.
 */

#include <jansson.h>

#include "loader/opts.h"
#include "maps/maps.h"
#include "policy/store.h"

struct bn_dsr;

/* What is handed in must live longer. What is pinned stays in force until the first sync that is ready. */
int bn_dsr_new(struct bn_store *store, const struct bn_maps *maps, const struct bn_opts *opts, struct bn_dsr **ret);
void bn_dsr_freep(struct bn_dsr **d);

/* Applies what changed. ready: nodes and pods have been read in full, what is not wanted may go. */
int bn_dsr_sync(struct bn_dsr *d, bool ready);

/* {"mode", "peers": nodes, "addresses": of them and their pods}; new reference. */
json_t *bn_dsr_json(const struct bn_dsr *d);

#endif
