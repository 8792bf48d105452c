/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_AUTH_H
#define BN_KUBE_AUTH_H

/* The credentials in force: token, client certificate, authorities. Files are read again when they
 * are more than 10 s old at the time of a request, and at once after a 401; an exec plugin runs
 * before the first request, when its credential has expired, and after a 401. A file that cannot be
 * read any more leaves what was read last in force.
 */

#include <event2/event.h>

#include "loader/source/kube/config.h"

struct bn_auth;

/* fn is called, from the loop, when bn_auth_check may have a new answer. c must outlive it. */
int bn_auth_new(struct event_base *base, const struct bn_kube_config *c,
		void (*fn)(void *data), void *data, struct bn_auth **ret);
void bn_auth_freep(struct bn_auth **a);

/* 0: what is below may be used; -EINPROGRESS: a plugin runs, fn will be called; else the reason why
 * there are no credentials, in words by bn_auth_error.
 */
int bn_auth_check(struct bn_auth *a);
const char *bn_auth_error(const struct bn_auth *a);

/* The server said 401 to what had this generation. True when it is worth asking again at once: the
 * credentials changed, or a plugin was started.
 */
bool bn_auth_rejected(struct bn_auth *a, uint64_t generation);
uint64_t bn_auth_generation(const struct bn_auth *a);

/* Borrowed, valid until the next bn_auth_check or _rejected. Empty when there is none. */
const struct bn_secret *bn_auth_token(const struct bn_auth *a);
const struct bn_secret *bn_auth_cert(const struct bn_auth *a);
const struct bn_secret *bn_auth_key(const struct bn_auth *a);
const struct bn_secret *bn_auth_ca(const struct bn_auth *a);

#endif
