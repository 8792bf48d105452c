/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_SLOW_H
#define BN_LOADER_SLOW_H

/* A thread for what takes longer than the loop, or the work of others, may be held: HTTP rules of hundreds of
 * milliseconds and more. It is nicer than the rest of the daemon, and namespaces take turns: whoever asks for
 * much waits for himself.
 */

#include <stdbool.h>
#include <stdint.h>

struct bn_slow;

struct bn_slow_job {
	const char *ns; /* interned, alive as long as the job: whose turn it takes */
	void (*run)(struct bn_slow_job *j);  /* in the thread, on what nobody changes */
	void (*done)(struct bn_slow_job *j); /* in the loop; the job is its owner's again */
	void (*drop)(struct bn_slow_job *j); /* instead of done, when the thread ends before */
	/* for slow.c */
	struct bn_slow_job *next;
	uint64_t round;
};

/* wake: any thread; a job is done, and bn_slow_collect wants to be called. */
int bn_slow_new(void (*wake)(void *data), void *data, struct bn_slow **ret);
/* Waits for the job that is under way; drops all that are left. NULL is fine. */
void bn_slow_freep(struct bn_slow **s);

/* Takes the job; -errno: it does not, there is no thread. */
int bn_slow_push(struct bn_slow *s, struct bn_slow_job *j);
/* Takes a job that waits back: true, and it is the caller's. False: it is under way, or done. */
bool bn_slow_cancel(struct bn_slow *s, struct bn_slow_job *j);
/* Calls done for each job that is. */
void bn_slow_collect(struct bn_slow *s);

#endif
