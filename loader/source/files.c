/* SPDX-License-Identifier: MIT */
#include "loader/source/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#include "loader/log.h"
#include "maps/util.h"
#include "policy/intern.h"
#include "policy/manifest.h"
#include "policy/siphash.h"

struct id {
	struct bn_source_id object;
	unsigned line;
};

/* What a piece of the file's text gave. */
struct chunk {
	uint64_t hash;
	unsigned line;
	uint32_t first, n; /* of the file's ids */
	bool again; /* something in it was refused: read it again the next time */
};

/* Told apart without reading: the kernel changes one of these with every change. */
struct sig {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

/* What is known from one reading. */
struct content {
	struct id *ids;
	struct chunk *chunks; /* sorted by hash once the reading is done */
	char **rejects;	      /* keys of what was refused, besides objects */
	size_t nids, nchunks, nrejects;
	size_t max_ids, max_chunks, max_rejects;
};

struct bn_file {
	char *name;
	struct sig sig;
	struct content c;
	bool marked, gone;
	bool force; /* what did not change counts, too: an object became ours */
	int error;  /* why it cannot be read */
	UT_hash_handle hh;
};

struct claim_key {
	uintptr_t kind;
	const char *ns, *name; /* interned */
};

/* Who says that an object exists. */
struct bn_claim {
	struct claim_key key;
	struct bn_file *owner, **files;
	uint32_t nfiles;
	unsigned line;	/* in the owner */
	uint64_t pass;	/* the reading that saw it last */
	UT_hash_handle hh;
};

/* One reading of one file. */
struct reading {
	struct bn_files *fs;
	struct bn_file *file;
	struct content c;
	struct chunk *chunk;
	bool unreadable; /* a part of it: what is missing may stand there */
	int err;
};

/* --- content ------------------------------------------------------------------------------------- */

static void content_free(struct content *c)
{
	size_t i;

	for (i = 0; i < c->nrejects; i++)
		freep(&c->rejects[i]);
	freep(&c->rejects);
	freep(&c->ids);
	freep(&c->chunks);
	*c = (struct content){ 0 };
}

/* Room for one more. */
static int grow(void *array, size_t n, size_t *max, size_t size)
{
	size_t more = *max ? *max + *max / 2 : 4;
	void *p;

	if (n < *max)
		return 0;
	memcpy(&p, array, sizeof(p));
	p = reallocarray(p, more, size);
	if (!p)
		return -ENOMEM;
	memcpy(array, &p, sizeof(p));
	*max = more;
	return 0;
}

static int add_id(struct content *c, const struct bn_source_id *object, unsigned line)
{
	int r = grow(&c->ids, c->nids, &c->max_ids, sizeof(*c->ids));

	if (!r)
		c->ids[c->nids++] = (struct id){ *object, line };
	return r;
}

static int add_reject(struct content *c, const char *key)
{
	int r = grow(&c->rejects, c->nrejects, &c->max_rejects, sizeof(*c->rejects));

	if (r < 0)
		return r;
	c->rejects[c->nrejects] = strdup(key);
	return c->rejects[c->nrejects++] ? 0 : -ENOMEM;
}

static int cmp_hash(const void *a, const void *b)
{
	const struct chunk *x = a, *y = b;

	return x->hash < y->hash ? -1 : x->hash > y->hash;
}

/* The chunk that the file had before and that need not be parsed again. */
static const struct chunk *old_chunk(const struct bn_file *f, uint64_t hash)
{
	struct chunk key = { .hash = hash }, *c;

	if (f->force || !f->c.nchunks)
		return NULL;
	c = bsearch(&key, f->c.chunks, f->c.nchunks, sizeof(key), cmp_hash);
	return c && !c->again ? c : NULL;
}

/* --- claims -------------------------------------------------------------------------------------- */

static void mark(struct bn_files *fs, struct bn_file *f, bool force)
{
	fs->npending += !f->marked;
	f->marked = true;
	f->force |= force;
}

static struct bn_claim *find_claim(struct bn_files *fs, const struct bn_source_id *id)
{
	struct claim_key key = { id->kind, id->ns, id->name };
	struct bn_claim *c;

	HASH_FIND(hh, fs->claims, &key, sizeof(key), c);
	return c;
}

/* NULL: no memory. */
static struct bn_claim *make_claim(struct bn_files *fs, const struct bn_source_id *id,
				   struct bn_file *f)
{
	struct bn_claim *c = find_claim(fs, id);
	struct bn_file **files;
	uint32_t i;

	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return NULL;
		c->key = (struct claim_key){ id->kind, id->ns, id->name };
		HASH_ADD(hh, fs->claims, key, sizeof(c->key), c);
	}
	for (i = 0; i < c->nfiles; i++) {
		if (c->files[i] == f)
			return c;
	}
	files = reallocarray(c->files, c->nfiles + 1, sizeof(*files));
	if (!files)
		return NULL;
	c->files = files;
	files[c->nfiles++] = f;
	return c;
}

static void drop_claim(struct bn_files *fs, struct bn_claim *c)
{
	HASH_DEL(fs->claims, c);
	freep(&c->files);
	freep(&c);
}

/* The file does not have the object any more: another one's turn, or it is gone. */
static void release(struct bn_files *fs, const struct bn_source_id *id, struct bn_file *f)
{
	struct bn_claim *c = find_claim(fs, id);
	struct bn_file *next = NULL;
	uint32_t i, n = 0;

	if (!c)
		return;
	for (i = 0; i < c->nfiles; i++) {
		struct bn_file *g = c->files[i];

		if (g == f)
			continue;
		c->files[n++] = g;
		if (!g->gone && (!next || strcmp(g->name, next->name) < 0))
			next = g;
	}
	c->nfiles = n;
	if (c->owner != f)
		return;
	c->owner = next;
	if (next) {
		mark(fs, next, true);
		return;
	}
	bn_source_gone(fs->source, id);
	if (!n)
		drop_claim(fs, c);
}

static int reject_copy(struct reading *rd, const struct bn_source_id *id, unsigned line,
		       const struct bn_claim *c)
{
	struct bn_err err = { 0 };
	char key[1024], origin[400];
	int r;

	if (c->owner == rd->file)
		snprintf(err.msg, sizeof(err.msg),
			 "stands twice in this file; the one in line %u counts", c->line);
	else
		snprintf(err.msg, sizeof(err.msg), "stands in %.160s, too, which counts",
			 c->owner->name);
	snprintf(origin, sizeof(origin), "%s:%u", rd->file->name, line);
	snprintf(key, sizeof(key), "copy %s %u/%s/%s", origin, id->kind, id->ns, id->name);
	rd->chunk->again = true;
	r = add_reject(&rd->c, key);
	return r ?: bn_source_reject(rd->fs->source, key, id, origin, &err, "the other one");
}

/* The file says something of the object; *counts tells whether that is what is in force. What a
 * file said before without being refused, it owns: a chunk that did not change needs no more.
 */
static int claim(struct reading *rd, const struct bn_source_id *id, unsigned line, bool *counts)
{
	struct bn_claim *c = make_claim(rd->fs, id, rd->file);
	bool twice;
	int r;

	*counts = false;
	if (!c)
		return -ENOMEM;
	r = add_id(&rd->c, id, line);
	if (r < 0)
		return r;
	twice = c->owner == rd->file && c->pass == rd->fs->pass;
	c->pass = rd->fs->pass;
	if (c->owner && !c->owner->gone && c->owner != rd->file &&
	    strcmp(rd->file->name, c->owner->name) < 0) {
		mark(rd->fs, c->owner, true); /* to say that it no longer counts */
		c->owner = NULL;
	}
	if (!c->owner || c->owner->gone)
		c->owner = rd->file;
	if (c->owner != rd->file || twice)
		return reject_copy(rd, id, line, c);
	c->line = line;
	*counts = true;
	return 0;
}

/* --- reading ------------------------------------------------------------------------------------- */

static void say_ignored(struct bn_files *fs, const json_t *json)
{
	const char *kind = bn_intern(json_string_value(json_object_get(json, "kind")));
	unsigned i;

	for (i = 0; i < fs->nothers && fs->others[i] != kind; i++)
		;
	if (i < fs->nothers || i == ARRAY_SIZE(fs->others) || !kind)
		return;
	fs->others[fs->nothers++] = kind;
	log_debug("manifests: objects of kind %.64s are ignored", kind);
}

/* Something that has no name to be remembered by. */
static int unreadable(struct reading *rd, unsigned line, const char *msg)
{
	struct bn_source_id id = { .kind = BN_KIND__MAX };
	struct bn_err err = { 0 };
	char origin[400], key[410];

	rd->unreadable = true;
	if (rd->chunk)
		rd->chunk->again = true;
	snprintf(err.msg, sizeof(err.msg), "%.200s", msg);
	snprintf(origin, sizeof(origin), line ? "%s:%u" : "%s", rd->file->name, line);
	snprintf(key, sizeof(key), "text %s", origin);
	return add_reject(&rd->c, key) ?:
	       bn_source_reject(rd->fs->source, key, &id, origin, &err,
				"what the file said before");
}

static int on_object(json_t *json, unsigned line, void *data)
{
	struct reading *rd = data;
	struct bn_source_id id;
	char msg[200], what[120];
	bool counts;
	int r;

	r = bn_object_id(json, &id.kind, &id.ns, &id.name);
	if (r == -ENOMEM)
		return r;
	if (r < 0 && id.kind == BN_KIND__MAX && json_string_value(json_object_get(json, "kind"))) {
		say_ignored(rd->fs, json);
		return 0;
	}
	if (r < 0) {
		bn_object_describe(json, what, sizeof(what));
		snprintf(msg, sizeof(msg), "%s: %s", what,
			 id.kind == BN_KIND__MAX ? "kind: is required" :
			 "metadata: name and namespace cannot be read");
		return unreadable(rd, line, msg);
	}
	r = claim(rd, &id, line, &counts);
	if (r < 0 || !counts)
		return r;
	r = bn_source_apply(rd->fs->source, json, rd->file->name, line, NULL);
	if (r == -EINVAL)
		rd->chunk->again = true;
	return r == -ENOMEM ? r : 0;
}

/* Objects moved within the file: messages name the line. */
static int update_line(struct bn_files *fs, const struct bn_file *f, const struct bn_source_id *id,
		       unsigned line)
{
	struct bn_obj *o = bn_store_get(fs->source->store, id->kind, id->ns, id->name);

	return o ? bn_obj_set_origin(o, f->name, line) : 0;
}

static int keep_chunk(struct reading *rd, const struct chunk *old, unsigned line)
{
	uint32_t i;
	int r = 0;

	for (i = 0; !r && i < old->n; i++) {
		const struct id *id = &rd->file->c.ids[old->first + i];
		unsigned now = id->line - old->line + line;
		bool counts;

		r = claim(rd, &id->object, now, &counts);
		if (!r && counts && now != id->line)
			r = update_line(rd->fs, rd->file, &id->object, now);
	}
	return r;
}

static uint64_t chunk_hash(const struct bn_chunk *c)
{
	uint64_t h[3] = { bn_siphash(bn_sipkey(), c->text, c->len), 0, 0 };

	if (!c->list_kind)
		return h[0];
	h[1] = bn_siphash(bn_sipkey(), c->list_kind, strlen(c->list_kind));
	h[2] = bn_siphash(bn_sipkey(), c->list_version, strlen(c->list_version));
	return bn_siphash(bn_sipkey(), h, sizeof(h));
}

static int on_chunk(const struct bn_chunk *c, void *data)
{
	struct reading *rd = data;
	const struct chunk *old;
	struct bn_manifest_err err;
	int r;

	r = grow(&rd->c.chunks, rd->c.nchunks, &rd->c.max_chunks, sizeof(*rd->c.chunks));
	if (r < 0)
		return r;
	rd->chunk = &rd->c.chunks[rd->c.nchunks++];
	*rd->chunk = (struct chunk){
		.hash = chunk_hash(c),
		.line = c->line,
		.first = (uint32_t)rd->c.nids,
	};
	old = old_chunk(rd->file, rd->chunk->hash);
	if (old) {
		r = keep_chunk(rd, old, c->line);
	} else {
		r = bn_manifest_parse(c, on_object, rd, &err);
		if (r == -EINVAL)
			r = unreadable(rd, err.line, err.msg);
	}
	rd->chunk->n = (uint32_t)rd->c.nids - rd->chunk->first;
	return r;
}

/* What the file had and has no more. If a part of it cannot be read, it may stand there. */
static int settle_missing(struct reading *rd)
{
	struct content *old = &rd->file->c;
	size_t i;
	int r = 0;

	for (i = 0; !r && i < old->nids; i++) {
		struct bn_claim *c = find_claim(rd->fs, &old->ids[i].object);

		if (!c || c->pass == rd->fs->pass)
			continue;
		if (rd->unreadable) {
			c->pass = rd->fs->pass;
			r = add_id(&rd->c, &old->ids[i].object, old->ids[i].line);
		} else {
			release(rd->fs, &old->ids[i].object, rd->file);
		}
	}
	return r;
}

static bool has_reject(const struct content *c, const char *key)
{
	size_t i;

	for (i = 0; i < c->nrejects; i++) {
		if (!strcmp(c->rejects[i], key))
			return true;
	}
	return false;
}

static void settle_rejects(struct bn_files *fs, struct bn_file *f, const struct content *now)
{
	size_t i;

	for (i = 0; i < f->c.nrejects; i++) {
		if (!has_reject(now, f->c.rejects[i]))
			bn_source_unreject(fs->source, f->c.rejects[i]);
	}
}

static const char *error_text(int err)
{
	switch (err) {
	case -EFBIG:
		return "cannot be read: it is too large";
	case -EINVAL:
		return "cannot be read: it is not a regular file";
	}
	return strerror(-err);
}

static int read_file(struct bn_files *fs, struct bn_file *f, int dirfd)
{
	struct reading rd = { .fs = fs, .file = f };
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	fs->pass++;
	f->error = bn_manifest_slurp(dirfd, f->name, &text, &len);
	if (f->error == -ENOMEM || f->error == -ENOENT)
		r = f->error;
	else if (f->error < 0)
		r = unreadable(&rd, 0, error_text(f->error));
	else
		r = bn_manifest_split(text, len, on_chunk, &rd);
	r = r ?: settle_missing(&rd);
	if (r < 0) {
		content_free(&rd.c);
		return r;
	}
	settle_rejects(fs, f, &rd.c);
	content_free(&f->c);
	f->c = rd.c;
	if (f->c.nchunks)
		qsort(f->c.chunks, f->c.nchunks, sizeof(*f->c.chunks), cmp_hash);
	f->force = false;
	return 0;
}

/* --- the set of files ---------------------------------------------------------------------------- */

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
		release(fs, &f->c.ids[i].object, f);
	settle_rejects(fs, f, &none);
	content_free(&f->c);
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
		mark(fs, f, false);
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
			mark(fs, f, false);
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
		r = read_file(fs, list[i], dirfd);
		if (r == -ENOENT)
			list[i]->gone = true;
		else if (r < 0)
			mark(fs, list[i], true);
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
	struct bn_claim *c, *cnext;
	struct bn_file *f, *fnext;

	HASH_ITER(hh, fs->claims, c, cnext)
		drop_claim(fs, c);
	HASH_ITER(hh, fs->files, f, fnext) {
		content_free(&f->c);
		HASH_DEL(fs->files, f);
		freep(&f->name);
		freep(&f);
	}
}
