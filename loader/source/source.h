/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_SOURCE_SOURCE_H
#define BN_LOADER_SOURCE_SOURCE_H

/* The one interface of what fills the store: a directory of manifests, or the Kubernetes API.
 *
 * A source puts and deletes in the store from the daemon's event loop only. A batch of changes ends
 * with one call of `changed`; each change of a kind's state (synced, error) with one, too. Models
 * are told of objects by the store; `changed` is where the daemon runs their sync.
 *
 * Time is CLOCK_MONOTONIC in nanoseconds.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "policy/store.h"

struct bn_source;

/* What is known of one kind. */
struct bn_source_state {
	bool used;   /* the source reads this kind; false: a CRD that is not there */
	bool synced; /* read in full at least once */
	bool live;   /* changes are pushed to us: while there is no error it is up to date */
	uint64_t first_ns;	/* when it was read in full for the first time */
	uint64_t synced_ns;	/* when it was last known to be up to date; 0: never */
	uint64_t failing_ns;	/* since when it cannot be read; 0: it can */
	uint64_t forbidden_ns;	/* since when the answer is that we may not; 0: it is not */
	char error[256];	/* why; "" while it can be read */
};

struct bn_source_callbacks {
	/* After a batch of changes to the store, to the states, or to the rejected list. */
	void (*changed)(void *data);
	void *data;
};

struct bn_source_ops {
	int (*start)(struct bn_source *s);
	void (*stop)(struct bn_source *s); /* no call-back afterwards; the store stays as it is */
	void (*free)(struct bn_source *s);
};

struct bn_source_id {
	enum bn_kind kind;
	const char *ns, *name; /* interned; NULL when unreadable */
};

/* The first member of each source's own struct, which is filled by bn_source_init. */
struct bn_source {
	const char *name; /* "manifests", "kubernetes" */
	const struct bn_source_ops *ops;
	struct bn_store *store;
	struct bn_source_callbacks cb;
	struct bn_source_state state[BN_KIND__MAX];
	struct bn_reject *rejects; /* by key */
	uint64_t pending_ns; /* when the first change came that is not in the kernel; 0: none */
	const char *no_http; /* why this kernel cannot judge requests; NULL: it can. Borrowed */
	struct bn_laststate *last; /* loader/source/laststate.h; NULL: nothing is kept */
	/* Where objects are checked that take long (loader/slow.h); it ends before the source does. NULL: in the loop. */
	struct bn_slow *slow;
	struct bn_check *checks; /* loader/source/check.h */
	unsigned nfirst_checks;	 /* of these, of the first full reading */
	/* Told of each object that was taken, err NULL, or refused. NULL: nobody wants to know. */
	void (*judged)(struct bn_source *s, const struct bn_source_id *id, const json_t *json,
		       const struct bn_err *err);
};

void bn_source_init(struct bn_source *s, const char *name, const struct bn_source_ops *ops,
		    struct bn_store *store, const struct bn_source_callbacks *cb);
int bn_source_start(struct bn_source *s);
void bn_source_freep(struct bn_source **s); /* stops it first; NULL is fine */

uint64_t bn_source_now(void);

/* True when every one of the kinds (bit mask, 1 << kind) has been read in full. HTTP rules of the first reading that are
 * still being checked are waited for, but not for ever: what is not checked by then isolates, or is as it was before.
 */
bool bn_source_synced(const struct bn_source *s, unsigned kinds);
/* True when one of the kinds that are used cannot be read for longer than `seconds`. */
bool bn_source_failing(const struct bn_source *s, unsigned kinds, unsigned seconds);
/* The kinds that were never read, because the answer has been for `seconds` that we may not. */
unsigned bn_source_forbidden(const struct bn_source *s, unsigned seconds);

/* For sources: state changes. None of them calls `changed`. */
void bn_source_set_synced(struct bn_source *s, enum bn_kind kind); /* clears the error */
void bn_source_set_error(struct bn_source *s, enum bn_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* For sources: takes one object as it came, wherever from. Parses it and puts it; what is bad goes
 * on the rejected list and is logged once, while its last good version stays in force: the one in
 * the store, else the one that --state-dir kept, else, for a policy, the stub that isolates. A good
 * one takes an earlier entry off the list. A policy with HTTP rules that this kernel cannot enforce is
 * rejected, too, but nothing earlier takes its place: it isolates and allows nothing.
 *
 * Where that takes long, what is in force stays until a thread has looked at it; with nothing in force before the
 * first full reading a stub isolates.
 *
 * origin_file NULL: none. Returns 0; 1: it is being checked; -EOPNOTSUPP for other kinds; -EINVAL when it was
 * rejected; -ENOMEM. ret, if not NULL, tells what the object is called, also when it was rejected.
 */
int bn_source_apply(struct bn_source *s, json_t *json, const char *origin_file,
		    unsigned line, struct bn_source_id *ret);
/* An object that cannot be read at all; json has what is known of it: apiVersion and kind, which are
 * right, and of its name what there is. As bn_source_apply does with a bad one: -EINVAL.
 */
int bn_source_apply_broken(struct bn_source *s, const json_t *json, const struct bn_err *err,
			   struct bn_source_id *ret);
/* Of this kind there is no object any more whose name cannot be read. */
void bn_source_all_named(struct bn_source *s, enum bn_kind kind);
/* It is gone: from the store, the rejected list and the state directory. */
void bn_source_gone(struct bn_source *s, const struct bn_source_id *id);

/* The rejected list, for what bn_source_apply does not see; key names the entry, and a text equal to
 * the one before is logged once only. kind may be BN_KIND__MAX, ns and name NULL; field may be "".
 */
int bn_source_reject(struct bn_source *s, const char *key, const struct bn_source_id *id,
		     const char *origin, const struct bn_err *err, const char *in_force);
void bn_source_unreject(struct bn_source *s, const char *key);

/* For status: [{"name":"services","synced":true,"ageSeconds":1.5,"failingSeconds":null,"error":null,"objects":3}] and
 * [{"kind","namespace","name","origin","field","message","since","inForce"}]. NULL: no memory.
 */
json_t *bn_source_json(const struct bn_source *s);
json_t *bn_source_rejected_json(const struct bn_source *s);

#endif
