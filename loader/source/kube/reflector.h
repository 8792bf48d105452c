/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_REFLECTOR_H
#define BN_KUBE_REFLECTOR_H

/* Keeps one kind of the store equal to what the API server has: lists it (streamed where the server
 * can, else in pages), watches it, lists it again when the watch has lost its place. Never a hot
 * loop, whatever the server does: what fails early is tried again after 0.5 s, doubling to 30 s.
 *
 * Objects are put while a list is read; those that are no more are removed at its end. A list that
 * fails, or in which an object has no readable name, removes nothing.
 */

#include <event2/event.h>

#include "loader/source/kube/rest.h"
#include "loader/source/source.h"

/* Why a kind was listed: the causes counted by metrics. */
#define BN_RELIST_LIST(X)                                                                          \
	X(START, "start")                                                                          \
	X(EXPIRED, "expired")	  /* 410: the watch's place is compacted */                        \
	X(ERROR_EVENT, "error-event")                                                              \
	X(GARBAGE, "garbage")                                                                      \
	X(WATCH_FAILED, "watch-failed")                                                            \
	X(WENT_BACK, "went-back") /* the server's versions are behind ours: another etcd */       \
	X(ABSENT, "absent")	  /* the kind did not exist */
#define X(name, text) BN_RELIST_##name,
enum bn_relist { BN_RELIST_LIST(X) BN_RELIST__MAX };
#undef X
const char *bn_relist_name(enum bn_relist cause);

struct bn_reflector_stats {
	uint64_t relists[BN_RELIST__MAX];
	uint64_t events, bookmarks, bytes;
	uint64_t held; /* watches that were begun anew because somebody held them back */
	int64_t watch_since_ms; /* CLOCK_BOOTTIME; 0: not watching */
};

struct bn_reflector_env {
	struct event_base *base;
	struct bn_rest *http;
	struct bn_source *source;
	enum bn_kind kind;
	const char *label_selector; /* NULL: all */
	bool streaming;		    /* try streaming lists */
	/* There is something for source->cb.changed; may be called often, from within libcurl. */
	void (*changed)(void *data);
	void *data;
};

struct bn_reflector;

int bn_reflector_new(const struct bn_reflector_env *env, struct bn_reflector **ret);
void bn_reflector_freep(struct bn_reflector **r);
void bn_reflector_start(struct bn_reflector *r);
/* The server is there again: what waits because it was not need not wait to the end. */
void bn_reflector_wake(struct bn_reflector *r);
/* The connection is alive: what is watched is up to date. */
void bn_reflector_alive(struct bn_reflector *r);
/* The server has been silent since then (bn_source_now's clock). */
void bn_reflector_silent(struct bn_reflector *r, unsigned seconds);
/* Every few seconds: a request that is not answered is said (bn_source_state.error), and a watch that somebody holds
 * back, because bookmarks of the server's do not come any more, is begun anew.
 */
void bn_reflector_look(struct bn_reflector *r);
const struct bn_reflector_stats *bn_reflector_stats(const struct bn_reflector *r);

#endif
