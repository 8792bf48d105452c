/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_INTAKE_H
#define BN_KUBE_INTAKE_H

/* What the server says of one kind, put into the source: list items, watch events, and the removal
 * of what a whole list did not name.
 */

#include "loader/source/kube/kinds.h"
#include "loader/source/kube/seen.h"
#include "loader/source/source.h"

#define BN_RV_MAX 128

enum bn_event_type {
	BN_EVENT_OBJECT,
	BN_EVENT_BOOKMARK,
	BN_EVENT_INITIAL_END, /* the bookmark after the first part of a streamed list */
	BN_EVENT_ERROR,
};

struct bn_event {
	enum bn_event_type type;
	char rv[BN_RV_MAX + 1]; /* "" in an error */
	long code;		/* of an error: as an HTTP status */
	unsigned retry_after_s;
	char message[200];
};

struct bn_intake {
	struct bn_source *source;
	enum bn_kind kind;
	bool listing;	     /* what comes is part of a list */
	struct bn_seen seen; /* by this list */
	unsigned unreadable; /* objects of this list whose names are not known, or not to be believed */
	bool changed;	     /* something was put or deleted since it was last cleared */
};

void bn_intake_list_begin(struct bn_intake *in);
/* Removes what the list did not name, unless it had objects without a readable name. */
int bn_intake_list_end(struct bn_intake *in);
/* It was never complete: forgets it. */
void bn_intake_list_abort(struct bn_intake *in);

/* 0, also for an object that was refused: one that cannot be read is named, as far as its name can be,
 * and its last good version stays; the others do not suffer. -EBADMSG: not an event; -ENOMEM.
 */
int bn_intake_item(struct bn_intake *in, const char *p, size_t n);
int bn_intake_event(struct bn_intake *in, const char *p, size_t n, struct bn_event *ret);

/* Reads a Status object's words into a printable line; falls back to the raw text. */
void bn_status_words(const char *body, size_t n, char *ret, size_t len);

#endif
