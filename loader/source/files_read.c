/* SPDX-License-Identifier: MIT */
/* One reading of one file. */
#include <stdio.h>
#include <string.h>

#include "loader/log.h"
#include "loader/source/files_priv.h"
#include "loader/source/laststate.h"
#include "maps/util.h"
#include "policy/intern.h"
#include "policy/manifest.h"
#include "policy/siphash.h"

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

/* --- reading ------------------------------------------------------------------------------------- */

static void say_ignored(struct bn_files *fs, const json_t *json)
{
	const char *kind = bn_intern(json_string_value(json_object_get(json, "kind")));
	unsigned i;

	for (i = 0; i < fs->nothers && fs->others[i] != kind; i++)
		;
	if (i < fs->nothers || i == ARRAY_SIZE(fs->others) || !kind)
		return;
	fs->others[fs->nothers++] = bn_intern_ref(kind);
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
	return bn_content_add_reject(&rd->c, key) ?:
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
	r = bn_claim(rd, &id, line, &counts);
	if (r < 0 || !counts)
		return r;
	r = bn_source_apply(rd->fs->source, json, rd->file->name, line, NULL);
	if (r == -EINVAL || r > 0)
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

		r = bn_claim(rd, &id->object, now, &counts);
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

	r = bn_content_add_chunk(&rd->c, &rd->chunk);
	if (r < 0)
		return r;
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
		struct bn_claim *c = bn_claim_find(rd->fs, &old->ids[i].object);

		if (!c || c->pass == rd->fs->pass)
			continue;
		if (rd->unreadable) {
			c->pass = rd->fs->pass;
			r = bn_content_add_id(&rd->c, &old->ids[i].object, old->ids[i].line);
		} else {
			bn_claim_release(rd->fs, &old->ids[i].object, rd->file);
		}
	}
	return r;
}

static int cmp_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void bn_file_settle_rejects(struct bn_files *fs, struct bn_file *f, const struct content *now)
{
	size_t i;

	if (f->c.nrejects && now->nrejects)
		qsort(now->rejects, now->nrejects, sizeof(*now->rejects), cmp_text);
	for (i = 0; i < f->c.nrejects; i++) {
		char **key = &f->c.rejects[i];

		if (!now->nrejects ||
		    !bsearch(key, now->rejects, now->nrejects, sizeof(*key), cmp_text))
			bn_source_unreject(fs->source, *key);
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

int bn_file_read(struct bn_files *fs, struct bn_file *f, int dirfd)
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
		bn_content_free(&rd.c);
		return r;
	}
	bn_file_settle_rejects(fs, f, &rd.c);
	bn_content_free(&f->c);
	bn_content_trim(&rd.c);
	f->c = rd.c;
	if (f->c.nchunks)
		qsort(f->c.chunks, f->c.nchunks, sizeof(*f->c.chunks), cmp_hash);
	f->unreadable = rd.unreadable;
	f->force = false;
	return 0;
}

struct restore {
	struct bn_files *fs;
	struct bn_file *file;
};

static void restore_one(struct bn_obj *o, void *data)
{
	struct restore *r = data;
	struct bn_source_id id = { o->kind, o->ns, o->name };

	if (bn_claim_restore(r->fs, &id, r->file) < 0 || bn_obj_set_origin(o, r->file->name, 0) < 0 ||
	    bn_store_put(r->fs->source->store, o) < 0)
		log_warn("manifests: %s %s/%s could not be restored: no memory",
			 bn_kind_name(o->kind), o->ns, o->name);
}

void bn_files_restore(struct bn_files *fs)
{
	struct restore r = { .fs = fs };
	struct bn_file *f, *next;

	HASH_ITER(hh, fs->files, f, next) {
		if (f->unreadable && (!r.file || strcmp(f->name, r.file->name) < 0))
			r.file = f;
	}
	if (r.file && fs->source->last)
		bn_laststate_unseen(fs->source->last, restore_one, &r);
}
