// SPDX-License-Identifier: MIT
#include "maps/reclaim.h"

#include <pthread.h>
#include <signal.h>

#include "maps/maps.h"
#include "maps/util.h"

struct bn_reclaim {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t asked, finished;
	uint64_t want, done; /* tickets */
	int err;	     /* of the last grace period */
	bool running, stop;
};

static void *work(void *data)
{
	struct bn_reclaim *r = data;

	pthread_mutex_lock(&r->lock);
	while (!r->stop) {
		uint64_t ticket = r->want;
		int err;

		if (ticket == r->done) {
			pthread_cond_wait(&r->asked, &r->lock);
			continue;
		}
		pthread_mutex_unlock(&r->lock);
		err = bn_maps_grace();
		pthread_mutex_lock(&r->lock);
		r->err = err;
		if (!err)
			r->done = ticket;
		pthread_cond_broadcast(&r->finished);
		if (err) /* out of memory or descriptors: the next ticket tries again */
			r->want = r->done;
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* Signals are the loop's. */
static int start(struct bn_reclaim *r)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&r->thread, NULL, work, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	r->running = !err;
	return -err;
}

int bn_reclaim_new(struct bn_reclaim **ret)
{
	struct bn_reclaim *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->asked, NULL);
	pthread_cond_init(&r->finished, NULL);
	*ret = r;
	return 0;
}

void bn_reclaim_freep(struct bn_reclaim **rp)
{
	struct bn_reclaim *r = *rp;

	if (!r)
		return;
	*rp = NULL;
	if (r->running) {
		pthread_mutex_lock(&r->lock);
		r->stop = true;
		pthread_cond_signal(&r->asked);
		pthread_mutex_unlock(&r->lock);
		pthread_join(r->thread, NULL);
	}
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->asked);
	pthread_cond_destroy(&r->finished);
	free(r);
}

uint64_t bn_reclaim_ask(struct bn_reclaim *r)
{
	uint64_t ticket;

	pthread_mutex_lock(&r->lock);
	/* The one that is under way began too early to count for this caller. */
	ticket = (r->want > r->done ? r->want : r->done) + 1;
	r->want = ticket;
	pthread_cond_signal(&r->asked);
	pthread_mutex_unlock(&r->lock);
	if (!r->running)
		start(r); /* without a thread, bn_reclaim_wait does the work */
	return ticket;
}

bool bn_reclaim_done(struct bn_reclaim *r, uint64_t ticket)
{
	bool done;

	pthread_mutex_lock(&r->lock);
	done = r->done >= ticket;
	if (!done && r->want < ticket) { /* it failed: ask again */
		r->want = ticket;
		pthread_cond_signal(&r->asked);
	}
	pthread_mutex_unlock(&r->lock);
	return done;
}

int bn_reclaim_wait(struct bn_reclaim *r, uint64_t ticket)
{
	int err = 0;

	if (!r->running) {
		err = bn_maps_grace();
		if (!err)
			r->done = r->want = ticket > r->want ? ticket : r->want;
		return err;
	}
	pthread_mutex_lock(&r->lock);
	if (r->want < ticket) {
		r->want = ticket;
		pthread_cond_signal(&r->asked);
	}
	while (r->done < ticket && !err) {
		pthread_cond_wait(&r->finished, &r->lock);
		if (r->done < ticket && r->want < ticket)
			err = r->err;
	}
	pthread_mutex_unlock(&r->lock);
	return err;
}
