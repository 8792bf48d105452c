/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_HOLD_H
#define BN_LOADER_HOLD_H

/* How long one piece of work keeps everything else in the event loop waiting: by the wall, because waiting for
 * the kernel or the disk holds the loop as computing does. One loop, one thread: no locks.
 */

#include <stdint.h>

#include "loader/serve/metrics.h"

enum bn_work {
	BN_WORK_READ,	/* objects from the source */
	BN_WORK_SYNC,	/* the models, and what they write to the kernel */
	BN_WORK_ANSWER, /* the control socket, metrics */
	BN_WORK__MAX,
};

/* Only around what the loop itself calls: pieces do not nest. */
uint64_t bn_hold_begin(void); /* CLOCK_MONOTONIC, in nanoseconds */
void bn_hold_end(enum bn_work work, uint64_t began);

/* Of the process, since it began. */
uint64_t bn_hold_longest_ns(enum bn_work work);

/* bpfnet_loop_hold_seconds and bpfnet_loop_longest_seconds; call it before each exposition. */
void bn_hold_metrics(struct bn_metrics *m);

#endif
