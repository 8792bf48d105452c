/* SPDX-License-Identifier: MIT */
#ifndef BN_CLI_CONTROL_CLIENT_H
#define BN_CLI_CONTROL_CLIENT_H

/* The client's side of loader/serve/control.h: blocking, with time-outs. Nothing here prints. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define BN_CLIENT_TIMEOUT_MS 15000 /* without a byte from the daemon */

struct bn_client;

/* err gets a sentence for people. -ENOENT or -ECONNREFUSED: no daemon listens (bn_client_down). */
int bn_client_new(const char *run_dir, struct bn_client **ret, char *err, size_t errlen);
void bn_client_freep(struct bn_client **c);

/* No daemon is there, as opposed to one that fails. */
bool bn_client_down(int r);

/* One request. args is borrowed, NULL for none. Returns 0 and a new reference in *ret, or negative
 * errno and a sentence in err: -ESRCH when the daemon knows of no such thing. For a stream *ret is null, and its lines
 * are read with bn_client_next.
 */
int bn_client_call(struct bn_client *c, const char *cmd, const json_t *args, json_t **ret, char *err,
		   size_t errlen);

/* The next line of a stream: 1 and a new reference, 0 when it ended, negative errno. Waits for ever. */
int bn_client_next(struct bn_client *c, json_t **ret, char *err, size_t errlen);

/* new and call in one. */
int bn_client_ask(const char *run_dir, const char *cmd, const json_t *args, json_t **ret, char *err,
		  size_t errlen);

#endif
