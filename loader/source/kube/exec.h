/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_EXEC_H
#define BN_KUBE_EXEC_H

/* Runs one credential plugin (client.authentication.k8s.io) in a child of its own process group,
 * without blocking the loop: its stdout is bounded, it has a minute, it has no terminal and none of
 * our descriptors.
 */

#include <event2/event.h>

#include "loader/source/kube/config.h"

struct bn_exec_result {
	int err;	/* 0, or negative with `message` */
	char message[400];
	struct bn_secret token, cert, key; /* any may be empty; fn may take them */
	int64_t expires_s;		   /* unix; 0: never */
};

struct bn_exec;

/* fn is called once, from the loop, never from within bn_exec_start; the result is cleared after it. */
int bn_exec_start(struct event_base *base, const struct bn_kube_config *c,
		  void (*fn)(struct bn_exec_result *r, void *data), void *data,
		  struct bn_exec **ret);
/* Kills what still runs; fn is not called any more. */
void bn_exec_freep(struct bn_exec **x);

/* An RFC 3339 time as unix seconds (fractions are dropped). -EINVAL. */
int bn_kube_parse_time(const char *text, int64_t *ret);

#endif
