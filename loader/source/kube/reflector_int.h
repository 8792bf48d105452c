/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_REFLECTOR_INT_H
#define BN_KUBE_REFLECTOR_INT_H

/* Inside of the reflector: reflector.c makes requests and waits, answer.c reads what comes back and
 * decides what is next.
 */

#include <string.h>

#include "loader/log.h"
#include "loader/source/kube/intake.h"
#include "loader/source/kube/reflector.h"
#include "loader/source/kube/split.h"

/* A watch that lived this long works: errors before it are forgotten. */
#define SETTLE_MS 2000
/* A streamed list that says nothing for so long will not come: some servers never end it. */
#define STREAM_STALL_MS 10000
/* One that is not even begun (behind a proxy that keeps the whole of an answer) neither; an API server
 * lets a request wait for 15 s at most.
 */
#define STREAM_HEAD_MS 20000
/* A server that has not begun to answer for so long is said to; a watch is given up after STREAM_HEAD_MS. */
#define LATE_MS 10000
/* So many bookmarks must be missing, and so much time go by, before a watch counts as held back. */
#define MARKS_MISSED 3
#define MARKS_MIN_MS 10000

enum state {
	WAITING, /* the timer will start the next request */
	LISTING, /* one page of a list */
	STREAMING, /* a watch whose first part is the list */
	WATCHING,
	PROBING, /* is there such a kind at all? */
};

struct bn_reflector {
	struct bn_reflector_env env;
	const struct bn_kube_kind *k;
	struct bn_intake in;
	struct bn_reflector_stats st;
	enum state state;
	struct bn_rest_req *req;
	struct bn_split split;
	struct event *timer;
	bool unpaged;		 /* after an expired continue token */
	int64_t pages_until_ms; /* streamed lists did not work: not before then */
	bool need_list, settled, unreachable;
	bool expired; /* 410 since a watch last worked */
	bool headed; /* the request under way was answered with 200 */
	enum bn_relist cause;
	char rv[BN_RV_MAX + 1];	     /* where the next watch begins */
	char list_rv[BN_RV_MAX + 1]; /* of the first page */
	char *cont;		     /* continue token of the next page */
	unsigned failures, watch_failures, missing;
	int64_t started_ms, heard_ms;
	int64_t mark_ms, mark_gap_ms; /* the last bookmark of this watch; the longest time between two, of any watch */
	struct bn_event error; /* what ended the watch: type BN_EVENT_ERROR */
	bool has_error;
	char forbidden[256]; /* what is said if the kind that is being probed for does exist */
};

extern const struct bn_rest_handler bn_refl_handler;

/* What a request's bytes are cut into: list items, watch events. */
int bn_refl_item(void *data, const char *p, size_t n);
int bn_refl_event(void *data, const char *p, size_t n);

static inline int64_t bn_refl_now_ms(void)
{
	return bn_source_now() / 1000000;
}

/* Evenly spread in [lo, hi]. */
unsigned bn_refl_between(unsigned lo, unsigned hi);

/* The next request, in ms from now; or at once: a list if one is needed, else a watch. */
void bn_refl_wait(struct bn_reflector *r, unsigned ms);
void bn_refl_timer(struct bn_reflector *r, unsigned ms);
void bn_refl_next(struct bn_reflector *r);
/* Something did not work: again, but not at once. */
void bn_refl_retry(struct bn_reflector *r, unsigned retry_after_s);
void bn_refl_page(struct bn_reflector *r);
/* Streamed lists do not work here: pages, for a while. */
void bn_refl_no_stream(struct bn_reflector *r);
void bn_refl_watch(struct bn_reflector *r, bool streaming);
void bn_refl_probe(struct bn_reflector *r);

void bn_refl_relist(struct bn_reflector *r, enum bn_relist cause);
void bn_refl_changed(struct bn_reflector *r);
void bn_refl_synced(struct bn_reflector *r);
_printf_(2, 3) void bn_refl_error(struct bn_reflector *r, const char *fmt, ...);

#endif
