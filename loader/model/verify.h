/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_VERIFY_H
#define BN_LOADER_MODEL_VERIFY_H

/* The kernel's own verdict, for `policy trace --verify`: a synthetic packet through the packet
 * program with BPF_PROG_TEST_RUN.
 *
 * For a pod of this node it is the program and the maps that are in force (the packet makes an
 * entry in the connection table and, when denied, an event, as a real one would). For pods of other
 * nodes, and for policies in audit mode (which pass what they would deny), the same program is
 * loaded a second time with maps of its own, into which the compiled policy is put.
 */

#include "policy/trace.h"

struct bn_maps;
struct bn_verify;

/* live NULL: only maps of its own. The descriptors of the loaded programs are borrowed. */
int bn_verify_new(struct bn_maps *live, int from_pod_fd, int to_pod_fd, struct bn_verify **ret);
void bn_verify_freep(struct bn_verify **v);

/* Valid as long as v. */
const struct bn_verify_ops *bn_verify_ops(struct bn_verify *v);

#endif
