/* SPDX-License-Identifier: MIT */
/* The set of files. */
#include "loader/source/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/source/files_priv.h"
#include "maps/util.h"
#include "policy/manifest.h"

/* --- the set of files ---------------------------------------------------------------------------- */

void bn_file_mark(struct bn_files *fs, struct bn_file *f, bool force)
{
	fs->npending += !f->marked;
	f->marked = true;
	f->force |= force;
}

static int make_file(struct bn_files *fs, const char *name, struct bn_file **ret)
{
	struct bn_file *f;

	HASH_FIND_STR(fs->files, name, f);
	if (!f) {
		f = calloc(1, sizeof(*f));
		if (!f)
			return -ENOMEM;
		f->name = strdup(name);
		if (!f->name) {
			freep(&f);
			return -ENOMEM;
		}
		HASH_ADD_KEYPTR(hh, fs->files, f->name, strlen(f->name), f);
	}
	*ret = f;
	return 0;
}

static void drop_file(struct bn_files *fs, struct bn_file *f)
{
	struct content none = { 0 };
	size_t i;

	for (i = 0; i < f->c.nids; i++)
		bn_claim_release(fs, &f->c.ids[i].object, f);
	bn_file_settle_rejects(fs, f, &none);
	bn_content_free(&f->c);
	fs->npending -= f->marked;
	HASH_DEL(fs->files, f);
	freep(&f->name);
	freep(&f);
}

int bn_files_mark(struct bn_files *fs, const char *name)
{
	struct bn_file *f;
	int r = make_file(fs, name, &f);

	if (!r)
		bn_file_mark(fs, f, false);
	return r;
}

static int look(int dirfd, const char *name, struct sig *ret)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, 0) < 0)
		return -errno;
	/* no holes to compare: sig is zeroed and filled field by field */
	memset(ret, 0, sizeof(*ret));
	ret->dev = st.st_dev;
	ret->ino = st.st_ino;
	ret->size = st.st_size;
	ret->mtime = st.st_mtim;
	ret->ctime = st.st_ctim;
	return S_ISDIR(st.st_mode) ? -EISDIR : 0;
}

int bn_files_mark_all(struct bn_files *fs, int dirfd)
{
	int r = 0, fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct bn_file *f, *next;
	struct dirent *e;
	DIR *d;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (!r && (e = readdir(d))) {
		if (!bn_manifest_name(e->d_name))
			continue;
		HASH_FIND_STR(fs->files, e->d_name, f);
		if (!f)
			r = bn_files_mark(fs, e->d_name);
	}
	closedir(d);
	HASH_ITER(hh, fs->files, f, next) {
		struct sig sig;

		if (f->error || look(dirfd, f->name, &sig) < 0 ||
		    memcmp(&sig, &f->sig, sizeof(sig)))
			bn_file_mark(fs, f, false);
	}
	return r;
}

static int cmp_name(const void *a, const void *b)
{
	return strcmp((*(struct bn_file *const *)a)->name, (*(struct bn_file *const *)b)->name);
}

static struct bn_file **list_marked(struct bn_files *fs, size_t *n)
{
	struct bn_file **list = malloc((fs->npending + 1) * sizeof(*list)), *f, *next;

	*n = 0;
	if (!list)
		return NULL;
	HASH_ITER(hh, fs->files, f, next) {
		if (f->marked)
			list[(*n)++] = f;
	}
	qsort(list, *n, sizeof(*list), cmp_name);
	return list;
}

/* What is gone is known before anything is read, and let go after: an object that moved to another
 * file is never away.
 */
static int process_marked(struct bn_files *fs, int dirfd)
{
	_cleanup_(freep) struct bn_file **list = NULL;
	size_t n, i;
	int r = 0;

	list = list_marked(fs, &n);
	if (!list)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		int err = look(dirfd, list[i]->name, &list[i]->sig);

		list[i]->gone = err == -ENOENT || err == -EISDIR || err == -ENOTDIR;
	}
	for (i = 0; i < n; i++) {
		if (list[i]->gone)
			continue;
		list[i]->marked = false;
		fs->npending--;
		r = bn_file_read(fs, list[i], dirfd);
		if (r == -ENOENT)
			list[i]->gone = true;
		else if (r < 0)
			bn_file_mark(fs, list[i], true);
		if (r == -ENOMEM)
			return r;
	}
	for (i = 0; i < n; i++) {
		if (list[i]->gone)
			drop_file(fs, list[i]);
	}
	return 0;
}

int bn_files_process(struct bn_files *fs, int dirfd)
{
	int r = 0, rounds;

	/* a round can mark files that were read before it; each object changes hands once */
	for (rounds = 0; !r && fs->npending && rounds < 8; rounds++)
		r = process_marked(fs, dirfd);
	return r;
}

const char *bn_files_unreadable(const struct bn_files *fs, int *err)
{
	struct bn_file *f, *next;

	HASH_ITER(hh, fs->files, f, next) {
		if (f->error) {
			*err = f->error;
			return f->name;
		}
	}
	return NULL;
}

void bn_files_clear(struct bn_files *fs)
{
	struct bn_file *f, *fnext;

	bn_claims_clear(fs);
	HASH_ITER(hh, fs->files, f, fnext) {
		bn_content_free(&f->c);
		HASH_DEL(fs->files, f);
		freep(&f->name);
		freep(&f);
	}
}
