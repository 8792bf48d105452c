/* SPDX-License-Identifier: MIT */
#include "loader/source/laststate.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#include "loader/log.h"
#include "maps/util.h"
#include "policy/http.h"
#include "policy/intern.h"
#include "policy/siphash.h"

/* A line: "<hash of the rest, 16 hex digits> <kind> <namespace or -> <name> <JSON or ->\n". The hash
 * finds lines that a crash has torn; the names make the JSON unread until it is wanted.
 */
#define KINDS (1u << BN_KIND_SERVICE | 1u << BN_KIND_NETPOL | 1u << BN_KIND_HTTPNETPOL)
#define LINE_MAX_LEN (8u << 20)
#define BACKLOG_MAX (1u << 20) /* lines kept in memory while the disk is full */
#define SLACK (1u << 20) /* dead bytes that are no reason to rewrite */

struct key {
	uintptr_t kind;
	const char *ns, *name;
};

struct entry {
	struct key key;
	uint64_t hash;
	off_t off; /* of the line */
	uint32_t len;
	bool seen;
	UT_hash_handle hh;
};

struct bn_laststate {
	char *path;
	int fd; /* -1: nothing is kept */
	struct entry *entries;
	char *buf; /* lines not yet written */
	size_t used, size;
	off_t end;  /* of what is written */
	off_t live; /* bytes of lines that count */
	bool warned;
};

/* Not secret: the hash is there against accidents. */
static const struct bn_sipkey fixed_key = { { 0x62706e6574, 0x6c617374 } };

static void give_up(struct bn_laststate *l, int err, const char *what)
{
	if (!l->warned)
		log_warn("%s: %s: %s; last good versions will not survive a restart", l->path,
			 what, strerror(err));
	l->warned = true;
}

static struct entry *find(struct bn_laststate *l, enum bn_kind kind, const char *ns,
			  const char *name)
{
	struct key key = { kind, bn_intern_find(ns), bn_intern_find(name) };
	struct entry *e = NULL;

	if (key.ns && key.name)
		HASH_FIND(hh, l->entries, &key, sizeof(key), e);
	return e;
}

static void entry_free(struct entry *e)
{
	bn_intern_unref(e->key.ns);
	bn_intern_unref(e->key.name);
	freep(&e);
}

static struct entry *find_or_add(struct bn_laststate *l, enum bn_kind kind, const char *ns,
				 const char *name)
{
	struct entry *e = find(l, kind, ns, name);

	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->key = (struct key){ kind, bn_intern_ref(bn_intern(ns)), bn_intern_ref(bn_intern(name)) };
	if (!e->key.ns || !e->key.name) {
		entry_free(e);
		return NULL;
	}
	HASH_ADD(hh, l->entries, key, sizeof(e->key), e);
	return e;
}

static void drop(struct bn_laststate *l, struct entry *e)
{
	l->live -= e->len;
	HASH_DEL(l->entries, e);
	entry_free(e);
}

/* --- writing ------------------------------------------------------------------------------------- */

static int write_all(int fd, const char *p, size_t n, off_t off)
{
	while (n) {
		ssize_t r = pwrite(fd, p, n, off);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		p += r;
		off += r;
		n -= (size_t)r;
	}
	return 0;
}

/* What was to be written will not be: nobody may look for it there. */
static void lose_buf(struct bn_laststate *l)
{
	struct entry *e, *next;

	HASH_ITER(hh, l->entries, e, next) {
		if (!e->len || e->off < l->end)
			continue;
		l->live -= e->len;
		e->len = 0;
	}
	l->used = 0;
}

static int write_buf(struct bn_laststate *l)
{
	int r;

	if (!l->used)
		return 0;
	r = l->fd < 0 ? -EBADF : write_all(l->fd, l->buf, l->used, l->end);
	if (r < 0) {
		/* kept in memory, tried again with the next change, as long as that is no burden */
		if (l->fd >= 0)
			give_up(l, -r, "write");
		if (l->used >= BACKLOG_MAX || l->fd < 0)
			lose_buf(l);
		return r;
	}
	if (l->warned)
		log_info("%s: can be written again", l->path);
	l->warned = false;
	l->end += (off_t)l->used;
	l->used = 0;
	/* the first filling is large, what follows is not */
	if (l->size > 65536) {
		freep(&l->buf);
		l->size = 0;
	}
	return 0;
}

static bool buf_add(struct bn_laststate *l, const char *p, size_t n)
{
	if (l->size - l->used < n) {
		size_t size = (l->used + n) * 2;
		char *b = realloc(l->buf, size);

		if (!b)
			return false;
		l->buf = b;
		l->size = size;
	}
	memcpy(l->buf + l->used, p, n);
	l->used += n;
	return true;
}

/* Appends the line that begins with body, which ends in a newline. */
static void append(struct bn_laststate *l, const char *body, size_t n, struct entry *e)
{
	uint64_t hash = bn_siphash(&fixed_key, body, n);
	char head[24];
	size_t before = l->used;

	if (e && e->len && e->hash == hash)
		return;
	snprintf(head, sizeof(head), "%016llx ", (unsigned long long)hash);
	if (n > LINE_MAX_LEN || !buf_add(l, head, 17) || !buf_add(l, body, n)) {
		l->used = before;
		return;
	}
	if (!e)
		return;
	l->live += (off_t)(17 + n) - e->len;
	e->hash = hash;
	e->off = l->end + (off_t)before;
	e->len = (uint32_t)(17 + n);
}

static int copy_live(struct bn_laststate *l, int to)
{
	struct entry *e, *next;
	off_t end = 0;
	int r;

	HASH_ITER(hh, l->entries, e, next) {
		_cleanup_(freep) char *line = e->len ? malloc(e->len) : NULL;

		if (!e->len)
			continue;
		if (!line || pread(l->fd, line, e->len, e->off) != (ssize_t)e->len)
			return line ? -EIO : -ENOMEM;
		r = write_all(to, line, e->len, end);
		if (r < 0)
			return r;
		end += e->len;
	}
	return fdatasync(to) < 0 ? -errno : 0;
}

/* The lines that count, in a new file under the old name. */
static void rewrite(struct bn_laststate *l)
{
	_cleanup_(freep) char *tmp = NULL;
	_cleanup_(closep) int fd = -1;
	struct entry *e, *next;
	int r;

	if (asprintf(&tmp, "%s.tmp", l->path) < 0) {
		tmp = NULL;
		return;
	}
	fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = fd < 0 ? -errno : copy_live(l, fd);
	if (!r && rename(tmp, l->path) < 0)
		r = -errno;
	if (r < 0) {
		give_up(l, -r, "rewrite");
		if (fd >= 0)
			unlink(tmp);
		return;
	}
	l->end = 0;
	HASH_ITER(hh, l->entries, e, next) {
		if (!e->len)
			continue;
		e->off = l->end;
		l->end += e->len;
	}
	closep(&l->fd);
	l->fd = TAKE_FD(fd);
}

void bn_laststate_flush(struct bn_laststate *l)
{
	if (!l || write_buf(l) < 0)
		return;
	if (l->fd >= 0 && l->end - l->live > l->live + SLACK)
		rewrite(l);
}

/* --- reading ------------------------------------------------------------------------------------- */

static int kind_parse(const char *s)
{
	int k;

	for (k = 0; k < BN_KIND__MAX; k++) {
		if (!strcmp(s, bn_kind_name(k)))
			return k;
	}
	return -1;
}

static void load_line(struct bn_laststate *l, char *line, size_t len, off_t off)
{
	char *rest, *kind, *ns, *name, *end;
	struct entry *e;
	uint64_t hash;
	int k;

	if (len < 20 || line[len - 1] != '\n' || line[16] != ' ')
		return;
	hash = strtoull(line, &end, 16);
	if (end != line + 16 || bn_siphash(&fixed_key, line + 17, len - 17) != hash)
		return;
	rest = line + 17;
	kind = strsep(&rest, " ");
	ns = strsep(&rest, " ");
	name = strsep(&rest, " ");
	k = kind_parse(kind);
	if (!rest || k < 0 || !(KINDS & 1u << k))
		return;
	e = find_or_add(l, k, strcmp(ns, "-") ? ns : "", name);
	if (!e)
		return;
	l->live -= e->len;
	e->len = 0;
	if (*rest == '-') {
		drop(l, e);
		return;
	}
	e->hash = hash;
	e->off = off;
	e->len = (uint32_t)len;
	l->live += e->len;
}

static void load(struct bn_laststate *l)
{
	int fd = dup(l->fd);
	_cleanup_(fclosep) FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	_cleanup_(freep) char *line = NULL;
	size_t size = 0;
	off_t off = 0;
	ssize_t n;

	if (!f) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((n = getline(&line, &size, f)) > 0) {
		if ((size_t)n <= LINE_MAX_LEN + 64)
			load_line(l, line, (size_t)n, off);
		off += n;
	}
	l->end = off;
	/* a line that was torn must not swallow the next one */
	if (off && line && pread(l->fd, line, 1, off - 1) == 1 && *line != '\n')
		buf_add(l, "\n", 1);
}

int bn_laststate_get(struct bn_laststate *l, enum bn_kind kind, const char *ns, const char *name,
		     struct bn_obj **ret)
{
	_cleanup_(bn_obj_unrefp) struct bn_obj *o = NULL;
	struct entry *e = find(l, kind, ns, name);
	_cleanup_(freep) char *line = NULL;
	const char *json = NULL;
	struct bn_err err;
	json_t *j;
	int i, r;

	if (!e || !e->len || l->fd < 0 || (e->off >= l->end && write_buf(l) < 0))
		return -ENOENT;
	line = malloc(e->len + 1u);
	if (!line || pread(l->fd, line, e->len, e->off) != (ssize_t)e->len)
		return -ENOENT;
	line[e->len] = 0;
	for (i = 0, json = line; i < 4 && json; i++) {
		json = strchr(json, ' ');
		json = json ? json + 1 : NULL;
	}
	if (!json)
		return -ENOENT;
	j = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
	r = j ? bn_object_read(j, BN_HTTP_WORK_NOW, &o, &err) : -EINVAL; /* it was checked when it was put */
	json_decref(j);
	/* a newer daemon may refuse what an older one took */
	if (r < 0 || o->kind != kind || strcmp(o->ns, ns) || strcmp(o->name, name))
		return -ENOENT;
	*ret = TAKE_PTR(o);
	return 0;
}

/* --- objects ------------------------------------------------------------------------------------- */

/* What bpfnet reads of these kinds, without what makes API objects long. */
static json_t *slim(const json_t *json, enum bn_kind kind)
{
	const json_t *meta = json_object_get(json, "metadata");
	json_t *labels = json_object_get(meta, "labels"), *v;
	json_t *out = json_pack("{s:O?,s:O?,s:O?,s:{s:O?,s:O?}}", "apiVersion",
				json_object_get(json, "apiVersion"), "kind",
				json_object_get(json, "kind"), "spec", json_object_get(json, "spec"),
				"metadata", "name", json_object_get(meta, "name"), "namespace",
				json_object_get(meta, "namespace"));
	json_t *kept = json_object(), *to = json_object_get(out, "metadata");
	const char *key;

	json_object_foreach(json_object_get(meta, "annotations"), key, v) {
		if (!strncmp(key, "bpfnet.io/", 10))
			json_object_set(kept, key, v);
	}
	json_object_set_new(to, "annotations", kept);
	if (kind == BN_KIND_SERVICE) {
		json_object_set(to, "labels", labels);
		json_object_set(out, "status", json_object_get(json, "status"));
	}
	return out;
}

static bool kept(enum bn_kind kind)
{
	return (unsigned)kind < BN_KIND__MAX && (KINDS & 1u << kind);
}

void bn_laststate_put(struct bn_laststate *l, enum bn_kind kind, const char *ns, const char *name,
		      const json_t *json)
{
	_cleanup_(freep) char *text = NULL;
	_cleanup_(freep) char *line = NULL;
	struct entry *e;
	json_t *j;
	int n;

	if (!kept(kind) || l->fd < 0)
		return;
	e = find_or_add(l, kind, ns, name);
	j = slim(json, kind);
	text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	if (!e || !text)
		return;
	e->seen = true;
	n = asprintf(&line, "%s %s %s %s\n", bn_kind_name(kind), *ns ? ns : "-", name, text);
	if (n < 0)
		line = NULL;
	else
		append(l, line, (size_t)n, e);
}

static void forget(struct bn_laststate *l, struct entry *e)
{
	char line[700];
	int n;

	if (e->len) {
		n = snprintf(line, sizeof(line), "%s %s %s -\n", bn_kind_name((int)e->key.kind),
			     *e->key.ns ? e->key.ns : "-", e->key.name);
		append(l, line, (size_t)n, NULL);
	}
	drop(l, e);
}

void bn_laststate_del(struct bn_laststate *l, enum bn_kind kind, const char *ns, const char *name)
{
	struct entry *e = kept(kind) ? find(l, kind, ns, name) : NULL;

	if (e)
		forget(l, e);
}

void bn_laststate_seen(struct bn_laststate *l, enum bn_kind kind, const char *ns, const char *name)
{
	struct entry *e = kept(kind) ? find(l, kind, ns, name) : NULL;

	if (e)
		e->seen = true;
}

void bn_laststate_unseen(struct bn_laststate *l, void (*fn)(struct bn_obj *o, void *data),
			 void *data)
{
	struct entry *e, *next;

	HASH_ITER(hh, l->entries, e, next) {
		_cleanup_(bn_obj_unrefp) struct bn_obj *o = NULL;

		if (e->seen || bn_laststate_get(l, (int)e->key.kind, e->key.ns, e->key.name, &o) < 0)
			continue;
		e->seen = true;
		fn(o, data);
	}
}

bool bn_laststate_holds(const struct bn_laststate *l, unsigned kinds)
{
	const struct entry *e;

	for (e = l->entries; e; e = e->hh.next)
		if (e->len && kinds & 1u << e->key.kind)
			return true;
	return false;
}

void bn_laststate_prune(struct bn_laststate *l, enum bn_kind kind)
{
	struct entry *e, *next;

	HASH_ITER(hh, l->entries, e, next) {
		if (e->key.kind == (uintptr_t)kind && !e->seen)
			forget(l, e);
	}
}

/* --- life ---------------------------------------------------------------------------------------- */

static char *file_path(const char *dir, const char *instance)
{
	uint64_t h = bn_siphash(&fixed_key, instance, strlen(instance));
	char *path;

	if (asprintf(&path, "%s/objects-%016llx", dir, (unsigned long long)h) < 0)
		return NULL;
	return path;
}

static int make_dirs(const char *dir)
{
	_cleanup_(freep) char *path = strdup(dir);
	char *p;

	if (!path)
		return -ENOMEM;
	for (p = path + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(dir, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int bn_laststate_open(const char *dir, const char *instance, struct bn_laststate **ret)
{
	_cleanup_(bn_laststate_freep) struct bn_laststate *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->fd = -1;
	l->path = file_path(dir, instance);
	if (!l->path)
		return -ENOMEM;
	r = make_dirs(dir);
	if (!r) {
		l->fd = open(l->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		r = l->fd < 0 ? -errno : 0;
	}
	if (r < 0)
		give_up(l, -r, "open");
	else
		load(l);
	*ret = TAKE_PTR(l);
	return 0;
}

void bn_laststate_freep(struct bn_laststate **lp)
{
	struct bn_laststate *l = *lp;
	struct entry *e, *next;

	if (!l)
		return;
	bn_laststate_flush(l);
	if (l->fd >= 0)
		fdatasync(l->fd);
	HASH_ITER(hh, l->entries, e, next) {
		HASH_DEL(l->entries, e);
		entry_free(e);
	}
	closep(&l->fd);
	freep(&l->path);
	freep(&l->buf);
	freep(lp);
}

void bn_laststate_note(const struct bn_laststate *l, const char *run_dir)
{
	_cleanup_(freep) char *path = realpath(l->path, NULL);
	_cleanup_(fclosep) FILE *f = NULL;
	char note[PATH_MAX];

	if (l->fd < 0)
		return; /* said already */
	snprintf(note, sizeof(note), "%s/" BN_LASTSTATE_NOTE, run_dir);
	f = path ? fopen(note, "we") : NULL;
	if (!f || fputs(path, f) < 0)
		log_warn("%s: %s; 'bpfnet cleanup' will not find %s", note, strerror(errno), l->path);
}

char *bn_laststate_cleanup(const char *run_dir)
{
	_cleanup_(freep) char *path = calloc(1, PATH_MAX);
	_cleanup_(fclosep) FILE *f = NULL;
	char note[PATH_MAX], *slash;

	snprintf(note, sizeof(note), "%s/" BN_LASTSTATE_NOTE, run_dir);
	f = fopen(note, "re");
	if (!f || !path || !fgets(path, PATH_MAX, f))
		return NULL;
	unlink(note);
	/* whatever stands in the note, nothing but a journal is removed */
	slash = strrchr(path, '/');
	if (!slash || strncmp(slash, "/objects-", 9) || strlen(slash) != 9 + 16 || unlink(path) < 0)
		return NULL;
	*slash = 0;
	rmdir(path); /* only if it is empty */
	*slash = '/';
	return TAKE_PTR(path);
}
