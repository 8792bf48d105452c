/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_SOURCE_LASTSTATE_H
#define BN_LOADER_SOURCE_LASTSTATE_H

/* The last good version of what may be refused (policies and Services), kept across restarts in
 * --state-dir: a journal of JSON lines, one file for each instance of the daemon.
 *
 * The cost is that of the change: an object that is accepted and differs from what is kept adds a
 * line; the file is rewritten when more than half of it is dead. Lines reach the kernel at each
 * bn_laststate_flush, so that they survive the daemon; the disk is waited for only when the file is
 * rewritten and closed. What goes wrong with the directory is a warning, once, never an end.
 */

#include "policy/object.h"

struct bn_laststate;

/* instance tells daemons on one machine apart (the bpffs directory). Creates dir. Succeeds without a
 * usable directory, too: then what is put is not kept. -ENOMEM.
 */
int bn_laststate_open(const char *dir, const char *instance, struct bn_laststate **ret);
void bn_laststate_freep(struct bn_laststate **l);

/* Leaves word in the run directory where the journal is, and acts on it: `cleanup` removes it. */
#define BN_LASTSTATE_NOTE "journal"
void bn_laststate_note(const struct bn_laststate *l, const char *run_dir);
/* The path that was removed, for the caller to free, or NULL. */
char *bn_laststate_cleanup(const char *run_dir);

/* Kinds that are not kept are ignored by all of these. */
void bn_laststate_put(struct bn_laststate *l, enum bn_kind kind, const char *ns, const char *name,
		      const json_t *json);
void bn_laststate_del(struct bn_laststate *l, enum bn_kind kind, const char *ns, const char *name);
/* The object is still there, though refused: prune must not forget it. */
void bn_laststate_seen(struct bn_laststate *l, enum bn_kind kind, const char *ns, const char *name);
/* Calls fn with each kept object that was neither put nor seen since the open, which it is then; fn
 * takes its own reference.
 */
void bn_laststate_unseen(struct bn_laststate *l, void (*fn)(struct bn_obj *o, void *data),
			 void *data);
/* Forgets what was neither put nor seen since the open. */
void bn_laststate_prune(struct bn_laststate *l, enum bn_kind kind);
void bn_laststate_flush(struct bn_laststate *l);

/* Is anything kept of these kinds (bit mask, 1 << kind)? */
bool bn_laststate_holds(const struct bn_laststate *l, unsigned kinds);

/* 0 with a new reference, or -ENOENT. */
int bn_laststate_get(struct bn_laststate *l, enum bn_kind kind, const char *ns, const char *name,
		     struct bn_obj **ret);

#endif
