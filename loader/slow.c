/* SPDX-License-Identifier: MIT */
#include "loader/slow.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "policy/siphash.h"

#define NICE 10

struct bn_slow {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t asked;
	struct bn_slow_job *todo, *done;
	const char *last_ns; /* compared, never read: whose job was begun last, */
	uint64_t last_round; /* and in which round */
	bool running, stop;
	void (*wake)(void *data);
	void *data;
};

static void append(struct bn_slow_job **at, struct bn_slow_job *j)
{
	while (*at)
		at = &(*at)->next;
	j->next = NULL;
	*at = j;
}

/* A namespace has one job in each round: its next one is behind those of all others that wait. */
static uint64_t round_of(const struct bn_slow *s, const char *ns)
{
	uint64_t round = s->last_round + (ns == s->last_ns);

	for (const struct bn_slow_job *j = s->todo; j; j = j->next)
		if (j->ns == ns && j->round >= round)
			round = j->round + 1;
	return round;
}

/* The first of the lowest round. */
static struct bn_slow_job *take(struct bn_slow *s)
{
	struct bn_slow_job **best = &s->todo, *j;

	for (struct bn_slow_job **at = &s->todo; *at; at = &(*at)->next)
		if ((*at)->round < (*best)->round)
			best = at;
	j = *best;
	if (!j)
		return NULL;
	*best = j->next;
	s->last_ns = j->ns;
	s->last_round = j->round;
	return j;
}

static void *work(void *data)
{
	struct bn_slow *s = data;

	/* Of this thread alone, on Linux. Where it is forbidden the work is done all the same. */
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		struct bn_slow_job *j = take(s);

		if (!j) {
			pthread_cond_wait(&s->asked, &s->lock);
			continue;
		}
		pthread_mutex_unlock(&s->lock);
		j->run(j);
		pthread_mutex_lock(&s->lock);
		append(&s->done, j);
		if (!s->stop)
			s->wake(s->data);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Signals are the loop's. */
static int start(struct bn_slow *s)
{
	sigset_t all, old;
	int err;

	if (s->running)
		return 0;
	bn_sipkey(); /* made at its first use: here, while this thread is not there */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&s->thread, NULL, work, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	s->running = !err;
	return -err;
}

int bn_slow_new(void (*wake)(void *data), void *data, struct bn_slow **ret)
{
	struct bn_slow *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->wake = wake;
	s->data = data;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->asked, NULL);
	*ret = s;
	return 0;
}

static void drop_all(struct bn_slow_job *j)
{
	struct bn_slow_job *next;

	for (; j; j = next) {
		next = j->next;
		j->drop(j);
	}
}

void bn_slow_freep(struct bn_slow **sp)
{
	struct bn_slow *s = *sp;

	if (!s)
		return;
	*sp = NULL;
	if (s->running) {
		pthread_mutex_lock(&s->lock);
		s->stop = true;
		pthread_cond_signal(&s->asked);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	drop_all(s->todo);
	drop_all(s->done);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->asked);
	free(s);
}

int bn_slow_push(struct bn_slow *s, struct bn_slow_job *j)
{
	int r = start(s);

	if (r < 0)
		return r;
	pthread_mutex_lock(&s->lock);
	j->round = round_of(s, j->ns);
	append(&s->todo, j);
	pthread_cond_signal(&s->asked);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

bool bn_slow_cancel(struct bn_slow *s, struct bn_slow_job *j)
{
	struct bn_slow_job **at = &s->todo;
	bool found;

	pthread_mutex_lock(&s->lock);
	while (*at && *at != j)
		at = &(*at)->next;
	found = *at;
	if (found)
		*at = j->next;
	pthread_mutex_unlock(&s->lock);
	return found;
}

void bn_slow_collect(struct bn_slow *s)
{
	struct bn_slow_job *j, *next;

	pthread_mutex_lock(&s->lock);
	j = s->done;
	s->done = NULL;
	pthread_mutex_unlock(&s->lock);
	for (; j; j = next) {
		next = j->next;
		j->done(j);
	}
}
