// SPDX-License-Identifier: MIT
/* The thread that compiles HTTP rule sets and puts them into the maps: a thousand rules take tens of
 * milliseconds, expressions of an adversary a second, and each change of http_sets a grace period of the kernel.
 * Services must not wait for that, nor the rules of others for an adversary's: those are left to bn_slow, and come
 * back to be written.
 */
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "loader/model/httpsets_priv.h"
#include "maps/util.h"
#include "policy/siphash.h"

struct queue {
	struct bn_httpjob *first, **last;
};

#define BATCH 32 /* sets written at once, for one grace period */
#define HEAVY (8 * BN_HTTP_WORK_NOW) /* steps that others wait for: some 30 ms */

struct bn_httpwork {
	const struct bn_maps *maps;
	struct bn_slow *slow;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t asked, finished;
	struct queue todo, done;
	unsigned under_way; /* pushed, not popped */
	bool running, stop;
	void (*wake)(void *data);
	void *data;
};

void bn_httpjob_freep(struct bn_httpjob **jp)
{
	struct bn_httpjob *j = *jp;

	if (!j)
		return;
	*jp = NULL;
	for (size_t k = 0; j->policies && k < j->n; k++)
		bn_obj_unref((struct bn_obj *)j->policies[k]);
	free(j->policies);
	free(j->rules);
	bn_http_rules_freep(&j->tables);
	free(j);
}

static void queue_put(struct queue *q, struct bn_httpjob *j)
{
	j->next = NULL;
	*q->last = j;
	q->last = &j->next;
}

static struct bn_httpjob *queue_get(struct queue *q)
{
	struct bn_httpjob *j = q->first;

	if (!j)
		return NULL;
	q->first = j->next;
	if (!q->first)
		q->last = &q->first;
	return j;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void compile(struct bn_httpjob *j, uint64_t steps)
{
	uint64_t began = now_ns();

	j->result = bn_http_compile_some(j->rules, j->n, steps, &j->tables, &j->err);
	j->took_ns = now_ns() - began;
	j->compiled = !j->result;
	j->heavy = j->result == -EAGAIN;
}

static void write_sets(const struct bn_httpwork *w, struct bn_httpjob **v, uint32_t n)
{
	struct bn_http_image images[BATCH];
	uint32_t ids[BATCH];
	int r;

	for (uint32_t k = 0; k < n; k++) {
		struct bn_http_view t;

		bn_http_rules_view(v[k]->tables, &t);
		ids[k] = v[k]->place.id;
		images[k] = (struct bn_http_image){
			.tab = t.tab, .cells = t.cells, .words = t.words, .ncells = t.ncells,
			.nwords = t.nwords, .gen = v[k]->place.gen, .stats = v[k]->place.stats,
			.digest = v[k]->place.digest,
		};
	}
	r = n ? bn_http_sets_put(w->maps, ids, images, n) : 0;
	if (r < 0 && n > 1) { /* which of them is it? */
		for (uint32_t k = 0; k < n; k++)
			write_sets(w, &v[k], 1);
		return;
	}
	for (uint32_t k = 0; k < n; k++) {
		v[k]->result = r;
		v[k]->written = !r;
	}
}

static void do_jobs(const struct bn_httpwork *w, struct bn_httpjob *first)
{
	struct bn_httpjob *v[BATCH];
	uint32_t n = 0;

	for (struct bn_httpjob *j = first; j; j = j->next) {
		if (j->erase) {
			j->result = bn_http_set_del(w->maps, j->place.id);
			continue;
		}
		if (!j->tables)
			compile(j, w->slow ? HEAVY : BN_HTTP_WORK_MAX);
		if (j->tables)
			v[n++] = j;
	}
	write_sets(w, v, n);
}

static void *work(void *data)
{
	struct bn_httpwork *w = data;

	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		struct queue some = { .last = &some.first };
		struct bn_httpjob *j;
		unsigned n = 0;

		while (n < BATCH && (j = queue_get(&w->todo))) {
			queue_put(&some, j);
			n++;
		}
		if (!n) {
			pthread_cond_wait(&w->asked, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		do_jobs(w, some.first);
		pthread_mutex_lock(&w->lock);
		while ((j = queue_get(&some)))
			queue_put(&w->done, j);
		pthread_cond_broadcast(&w->finished);
		if (!w->stop && w->wake)
			w->wake(w->data);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* Signals are the loop's. */
static int start(struct bn_httpwork *w)
{
	sigset_t all, old;
	int err;

	if (w->running)
		return 0;
	bn_sipkey(); /* made at its first use: here, while there is one thread */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&w->thread, NULL, work, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	w->running = !err;
	return -err;
}

int bn_httpwork_new(const struct bn_maps *maps, struct bn_slow *slow, void (*wake)(void *data), void *data,
		    struct bn_httpwork **ret)
{
	struct bn_httpwork *w = calloc(1, sizeof(*w));
	pthread_condattr_t attr;

	if (!w)
		return -ENOMEM;
	w->maps = maps;
	w->slow = slow;
	w->wake = wake;
	w->data = data;
	w->todo.last = &w->todo.first;
	w->done.last = &w->done.first;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->asked, NULL);
	pthread_cond_init(&w->finished, &attr);
	pthread_condattr_destroy(&attr);
	*ret = w;
	return 0;
}

void bn_httpwork_freep(struct bn_httpwork **wp)
{
	struct bn_httpwork *w = *wp;
	struct bn_httpjob *j;

	if (!w)
		return;
	*wp = NULL;
	if (w->running) {
		pthread_mutex_lock(&w->lock);
		w->stop = true;
		pthread_cond_signal(&w->asked);
		pthread_mutex_unlock(&w->lock);
		pthread_join(w->thread, NULL);
	}
	while ((j = queue_get(&w->todo)) || (j = queue_get(&w->done)))
		bn_httpjob_freep(&j);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->asked);
	pthread_cond_destroy(&w->finished);
	free(w);
}

/* --- what takes long ------------------------------------------------------------------------------- */

static struct bn_httpjob *of_slow(struct bn_slow_job *j)
{
	return (struct bn_httpjob *)j; /* its first member */
}

static void slow_run(struct bn_slow_job *s)
{
	compile(of_slow(s), BN_HTTP_WORK_MAX);
}

static void slow_done(struct bn_slow_job *s)
{
	struct bn_httpjob *j = of_slow(s);
	struct bn_httpwork *w = j->work;

	if (j->tables && bn_httpwork_push(w, j) == 0) /* to be written */
		return;
	pthread_mutex_lock(&w->lock);
	queue_put(&w->done, j);
	w->under_way++;
	pthread_mutex_unlock(&w->lock);
}

static void slow_drop(struct bn_slow_job *s)
{
	struct bn_httpjob *j = of_slow(s);

	bn_httpjob_freep(&j);
}

static bool slow_push(struct bn_httpwork *w, struct bn_httpjob *j)
{
	if (!j->heavy)
		return false;
	j->heavy = false;
	j->work = w;
	j->slow = (struct bn_slow_job){ .ns = j->policies[0]->o.ns, .run = slow_run, .done = slow_done, .drop = slow_drop };
	return bn_slow_push(w->slow, &j->slow) == 0;
}

bool bn_httpwork_cancel(struct bn_httpwork *w, struct bn_httpjob *j)
{
	return w->slow && bn_slow_cancel(w->slow, &j->slow);
}

/* --- the loop's side -------------------------------------------------------------------------------- */

int bn_httpwork_push(struct bn_httpwork *w, struct bn_httpjob *j)
{
	int r = start(w);

	if (r < 0)
		return r;
	pthread_mutex_lock(&w->lock);
	queue_put(&w->todo, j);
	w->under_way++;
	pthread_cond_signal(&w->asked);
	pthread_mutex_unlock(&w->lock);
	return 0;
}

/* One that is done, or NULL. */
static struct bn_httpjob *get_done(struct bn_httpwork *w, unsigned wait_ms)
{
	uint64_t until = now_ns() + wait_ms * 1000000ull;
	struct timespec ts = { (time_t)(until / 1000000000), (long)(until % 1000000000) };
	struct bn_httpjob *j;

	pthread_mutex_lock(&w->lock);
	while (!(j = queue_get(&w->done)) && w->under_way && wait_ms)
		if (pthread_cond_timedwait(&w->finished, &w->lock, &ts))
			wait_ms = 0;
	if (j)
		w->under_way--;
	pthread_mutex_unlock(&w->lock);
	return j;
}

struct bn_httpjob *bn_httpwork_pop(struct bn_httpwork *w, unsigned wait_ms)
{
	struct bn_httpjob *j;

	do
		j = get_done(w, wait_ms);
	while (j && slow_push(w, j));
	return j;
}
