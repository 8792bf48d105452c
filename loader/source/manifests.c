/* SPDX-License-Identifier: MIT */
#include "loader/source/manifests.h"

#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>

#include "loader/hold.h"
#include "loader/log.h"
#include "loader/source/files.h"
#include "maps/util.h"
#include "policy/manifest.h"

/* Written files are read when they are closed, not while they are written. */
#define WATCH                                                                                      \
	(IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_ATTRIB |        \
	 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

/* Events of one change come together, and one reading is done for all: of a change alone after a
 * few milliseconds, which is most of what it takes until it is in force; of a train of them later.
 */
static const struct timeval settle_alone = { 0, 4000 };
static const struct timeval settle = { 0, 20000 };
#define ALONE_NS 100000000ull /* nothing was read for so long */
/* The directory itself: made, removed, swapped by a symlink above it, which inotify does not say. */
static const struct timeval look_again = { 0, 500000 };

struct bn_manifests {
	struct bn_source source;
	struct bn_files files;
	char *dir;
	int inotify;
	int watch; /* -1: the directory is not there */
	struct stat dir_stat;
	struct event *readable, *due, *check;
	uint64_t read_ns; /* when something was read last, monotonic */
	bool rescan, pending;
};

static struct bn_manifests *of_source(struct bn_source *s)
{
	return (struct bn_manifests *)s; /* its first member */
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void plan(struct bn_manifests *m)
{
	/* not put off by further events: what is seen is in force soon whatever comes */
	if (!m->pending)
		event_add(m->due, now_ns() - m->read_ns > ALONE_NS ? &settle_alone : &settle);
	m->pending = true;
}

static void set_states(struct bn_manifests *m, const char *name, const char *why)
{
	int k;

	for (k = 0; k < BN_KIND__MAX; k++) {
		if (why)
			bn_source_set_error(&m->source, k, "%.150s: %.100s", name, why);
		else
			bn_source_set_synced(&m->source, k);
	}
}

static void lost(struct bn_manifests *m, int err)
{
	bool news = m->watch >= 0 || !m->source.state[0].error[0];

	if (m->watch >= 0)
		inotify_rm_watch(m->inotify, m->watch);
	m->watch = -1;
	if (!news)
		return;
	log_error("manifests: %s: %s; what it last said stays in force", m->dir, strerror(err));
	set_states(m, m->dir, strerror(err));
	m->source.cb.changed(m->source.cb.data);
}

/* --- reading ------------------------------------------------------------------------------------- */

static void update_states(struct bn_manifests *m)
{
	const char *name;
	int err = 0;

	name = bn_files_unreadable(&m->files, &err);
	set_states(m, name, name ? strerror(-err) : NULL);
}

static void on_due(evutil_socket_t fd _unused_, short what _unused_, void *data)
{
	_cleanup_(closep) int dirfd = -1;
	struct bn_manifests *m = data;
	uint64_t began = bn_hold_begin();
	struct stat st;
	size_t work;
	int r = 0;

	m->pending = false;
	if (m->watch < 0)
		return;
	dirfd = open(m->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0) {
		lost(m, errno);
		return;
	}
	/* before anything is read: what comes later is seen again */
	if (fstat(dirfd, &st) == 0 && st.st_ino == m->dir_stat.st_ino)
		m->dir_stat.st_mtim = st.st_mtim;
	if (m->rescan) {
		r = bn_files_mark_all(&m->files, dirfd);
		m->rescan = r < 0;
	}
	work = m->files.npending;
	r = r ?: bn_files_process(&m->files, dirfd);
	if (r < 0) {
		log_err_r(r, "manifests: %s, trying again", m->dir);
		plan(m);
	} else {
		if (!m->source.state[0].synced)
			bn_files_restore(&m->files);
		update_states(m);
	}
	if (m->source.last)
		bn_laststate_flush(m->source.last);
	if (work > 1000)
		malloc_trim(0);
	m->read_ns = now_ns();
	m->source.cb.changed(m->source.cb.data);
	bn_hold_end(BN_WORK_READ, began);
}

/* --- watching ------------------------------------------------------------------------------------ */

static bool is_link(const struct bn_manifests *m, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	if (snprintf(path, sizeof(path), "%s/%s", m->dir, name) >= (int)sizeof(path))
		return false;
	return lstat(path, &st) == 0 && (S_ISLNK(st.st_mode) || st.st_nlink > 1);
}

static void on_event(struct bn_manifests *m, const struct inotify_event *e)
{
	if (e->mask & IN_Q_OVERFLOW) {
		m->rescan = true;
		plan(m);
		return;
	}
	if (e->wd != m->watch)
		return; /* of a watch that is removed */
	if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)) {
		lost(m, ENOENT);
		event_add(m->check, &settle);
		return;
	}
	if (!e->len)
		return;
	if (e->name[0] == '.') {
		/* a mounted ConfigMap swaps the symlink ..data, which all files go through */
		if (e->mask & IN_MOVED_TO) {
			m->rescan = true;
			plan(m);
		}
		return;
	}
	if (!bn_manifest_name(e->name))
		return;
	/* a file that is created is empty yet, and will be closed, unless it is a link */
	if (e->mask & IN_CREATE && !is_link(m, e->name))
		return;
	if (bn_files_mark(&m->files, e->name) < 0)
		m->rescan = true;
	plan(m);
}

static void on_readable(evutil_socket_t fd, short what _unused_, void *data)
{
	struct bn_manifests *m = data;
	_Alignas(struct inotify_event) char buf[16384];
	ssize_t n, off;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (off = 0; off < n;) {
			const struct inotify_event *e = (const void *)(buf + off);

			on_event(m, e);
			off += (ssize_t)(sizeof(*e) + e->len);
		}
	}
}

static void found(struct bn_manifests *m, const struct stat *st)
{
	int wd = inotify_add_watch(m->inotify, m->dir, WATCH);

	if (wd < 0) {
		lost(m, errno);
		return;
	}
	if (m->watch >= 0 && m->watch != wd)
		inotify_rm_watch(m->inotify, m->watch);
	m->watch = wd;
	m->dir_stat = *st;
	m->rescan = true;
	plan(m);
}

static void on_check(evutil_socket_t fd _unused_, short what _unused_, void *data)
{
	struct bn_manifests *m = data;
	struct stat st;

	event_add(m->check, &look_again);
	if (stat(m->dir, &st) < 0)
		lost(m, errno);
	else if (!S_ISDIR(st.st_mode))
		lost(m, ENOTDIR);
	else if (m->watch < 0 || st.st_dev != m->dir_stat.st_dev ||
		 st.st_ino != m->dir_stat.st_ino)
		found(m, &st);
	else if (memcmp(&st.st_mtim, &m->dir_stat.st_mtim, sizeof(st.st_mtim)) && !m->pending)
		found(m, &st); /* a file system that does not tell inotify, as over a network */
}

/* --- life ---------------------------------------------------------------------------------------- */

static int manifests_start(struct bn_source *s)
{
	const struct timeval now = { 0, 0 };
	struct bn_manifests *m = of_source(s);

	if (event_add(m->readable, NULL) < 0 || event_add(m->check, &now) < 0)
		return -ENOMEM;
	return 0;
}

static void manifests_stop(struct bn_source *s)
{
	struct bn_manifests *m = of_source(s);

	event_del(m->readable);
	event_del(m->due);
	event_del(m->check);
	if (s->last)
		bn_laststate_flush(s->last);
}

static void manifests_free(struct bn_source *s)
{
	struct bn_manifests *m = of_source(s);

	if (m->readable)
		event_free(m->readable);
	if (m->due)
		event_free(m->due);
	if (m->check)
		event_free(m->check);
	bn_files_clear(&m->files);
	closep(&m->inotify);
	freep(&m->dir);
	freep(&m);
}

static const struct bn_source_ops ops = {
	.start = manifests_start,
	.stop = manifests_stop,
	.free = manifests_free,
};

static void no_callback(void *data _unused_)
{
}

int bn_manifests_new(struct event_base *base, const char *dir, struct bn_laststate *last,
		     struct bn_store *store, const struct bn_source_callbacks *cb,
		     struct bn_source **ret)
{
	struct bn_manifests *m = calloc(1, sizeof(*m));
	int k, r = 0;

	if (!m)
		return -ENOMEM;
	bn_source_init(&m->source, "manifests", &ops, store, cb);
	if (!m->source.cb.changed)
		m->source.cb.changed = no_callback;
	for (k = 0; k < BN_KIND__MAX; k++)
		m->source.state[k].live = true;
	m->source.last = last;
	bn_files_init(&m->files, &m->source);
	m->watch = -1;
	m->dir = strdup(dir);
	m->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (m->inotify < 0)
		r = -errno;
	m->readable = event_new(base, m->inotify, EV_READ | EV_PERSIST, on_readable, m);
	m->due = evtimer_new(base, on_due, m);
	m->check = evtimer_new(base, on_check, m);
	if (!r && (!m->dir || !m->readable || !m->due || !m->check))
		r = -ENOMEM;
	if (r < 0) {
		manifests_free(&m->source);
		return r;
	}
	*ret = &m->source;
	return 0;
}
