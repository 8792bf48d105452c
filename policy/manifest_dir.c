/* SPDX-License-Identifier: MIT */
/* Manifest files on disk, and a directory of them read once. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "maps/util.h"
#include "policy/manifest.h"

bool bn_manifest_name(const char *name)
{
	const char *dot = strrchr(name, '.');

	return *name != '.' && dot &&
	       (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml") || !strcmp(dot, ".json"));
}

int bn_manifest_slurp(int dirfd, const char *name, char **ret, size_t *len)
{
	/* O_NONBLOCK: a FIFO must not stop the daemon */
	_cleanup_(closep) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	_cleanup_(freep) char *text = NULL;
	size_t size, n = 0;
	struct stat st;
	ssize_t got;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if (st.st_size > BN_MANIFEST_MAX)
		return -EFBIG;
	size = (size_t)st.st_size + 1;
	text = malloc(size);
	if (!text)
		return -ENOMEM;
	/* it may grow while it is read: what is there at the end is what counts */
	while ((got = read(fd, text + n, size - n)) != 0) {
		char *more;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		n += (size_t)got;
		if (n < size)
			continue;
		if (size > BN_MANIFEST_MAX)
			return -EFBIG;
		size *= 2;
		more = realloc(text, size);
		if (!more)
			return -ENOMEM;
		text = more;
	}
	text[n] = 0;
	*ret = TAKE_PTR(text);
	*len = n;
	return 0;
}

/* --- once, without a daemon --------------------------------------------------------------------- */

struct load {
	const char *file;
	struct bn_store *store;
	void (*report)(const char *where, const char *object, const struct bn_err *err, void *data);
	void *data;
};

static void report(struct load *l, unsigned line, const char *object, const struct bn_err *err)
{
	char where[512];

	snprintf(where, sizeof(where), "%s:%u", l->file, line);
	if (l->report)
		l->report(where, object, err, l->data);
}

static int load_object(json_t *json, unsigned line, void *data)
{
	_cleanup_(bn_obj_unrefp) struct bn_obj *o = NULL;
	struct load *l = data;
	struct bn_obj *first;
	struct bn_err err;
	char what[400];
	int r;

	r = bn_object_parse(json, &o, &err);
	if (r == -EOPNOTSUPP)
		return 0;
	bn_object_describe(json, what, sizeof(what));
	if (r == -EINVAL)
		report(l, line, what, &err);
	if (r == -ENOMEM || !o)
		return r == -ENOMEM ? r : 0;
	first = bn_store_get(l->store, o->kind, o->ns, o->name);
	if (first) {
		err.field[0] = 0;
		snprintf(err.msg, sizeof(err.msg), "stands in %.200s, too, which counts",
			 first->origin ?: "another place");
		report(l, line, what, &err);
		return 0;
	}
	r = bn_obj_set_origin(o, l->file, line);
	return r ?: bn_store_put(l->store, o);
}

static int load_chunk(const struct bn_chunk *c, void *data)
{
	struct load *l = data;
	struct bn_manifest_err me;
	struct bn_err err = { 0 };
	int r;

	r = bn_manifest_parse(c, load_object, l, &me);
	if (r != -EINVAL)
		return r;
	snprintf(err.msg, sizeof(err.msg), "%s", me.msg);
	report(l, me.line, "", &err);
	return 0;
}

static int load_file(int dirfd, struct load *l)
{
	_cleanup_(freep) char *text = NULL;
	struct bn_err err = { 0 };
	size_t len;
	int r;

	r = bn_manifest_slurp(dirfd, l->file, &text, &len);
	if (r == -ENOENT || r == -EISDIR)
		return 0;
	if (r < 0) {
		snprintf(err.msg, sizeof(err.msg), "cannot be read: %s", strerror(-r));
		report(l, 0, "", &err);
		return r == -ENOMEM ? r : 0;
	}
	return bn_manifest_split(text, len, load_chunk, l);
}

static int is_manifest(const struct dirent *e)
{
	return bn_manifest_name(e->d_name);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int bn_manifest_load_dir(const char *dir, struct bn_store *store,
			 void (*fn)(const char *where, const char *object,
				    const struct bn_err *err, void *data),
			 void *data)
{
	_cleanup_(closep) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct load l = { .store = store, .report = fn, .data = data };
	struct dirent **list;
	int i, n, r = 0;

	if (fd < 0)
		return -errno;
	n = scandirat(fd, ".", &list, is_manifest, by_name);
	if (n < 0)
		return -errno;
	for (i = 0; i < n; i++) {
		l.file = list[i]->d_name;
		r = r ?: load_file(fd, &l);
		freep(&list[i]);
	}
	freep(&list);
	return r;
}
