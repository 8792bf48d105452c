/* SPDX-License-Identifier: MIT */
/* Which file an object is from. */
#include <stdio.h>
#include <string.h>

#include "loader/source/files_priv.h"
#include "maps/util.h"

/* --- content ------------------------------------------------------------------------------------- */

void bn_content_free(struct content *c)
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

int bn_content_add_id(struct content *c, const struct bn_source_id *object, unsigned line)
{
	int r = grow(&c->ids, c->nids, &c->max_ids, sizeof(*c->ids));

	if (!r)
		c->ids[c->nids++] = (struct id){ *object, line };
	return r;
}

int bn_content_add_reject(struct content *c, const char *key)
{
	int r = grow(&c->rejects, c->nrejects, &c->max_rejects, sizeof(*c->rejects));

	if (r < 0)
		return r;
	c->rejects[c->nrejects] = strdup(key);
	return c->rejects[c->nrejects++] ? 0 : -ENOMEM;
}

int bn_content_add_chunk(struct content *c, struct chunk **ret)
{
	int r = grow(&c->chunks, c->nchunks, &c->max_chunks, sizeof(*c->chunks));

	if (!r)
		*ret = &c->chunks[c->nchunks++];
	return r;
}

/* --- claims -------------------------------------------------------------------------------------- */

struct bn_claim *bn_claim_find(struct bn_files *fs, const struct bn_source_id *id)
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
	struct bn_claim *c = bn_claim_find(fs, id);
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

void bn_claim_drop(struct bn_files *fs, struct bn_claim *c)
{
	HASH_DEL(fs->claims, c);
	freep(&c->files);
	freep(&c);
}

/* The first of those that are there owns it. Who loses it is read again to say so, who gets it to
 * take it, but for the one that is being read.
 */
static void settle_owner(struct bn_files *fs, struct bn_claim *c, const struct bn_file *reading)
{
	struct bn_file *best = NULL;
	uint32_t i;

	for (i = 0; i < c->nfiles; i++) {
		struct bn_file *f = c->files[i];

		if (!f->gone && (!best || strcmp(f->name, best->name) < 0))
			best = f;
	}
	if (best == c->owner)
		return;
	if (c->owner && !c->owner->gone && c->owner != reading)
		bn_file_mark(fs, c->owner, true);
	if (best && best != reading)
		bn_file_mark(fs, best, true);
	c->owner = best;
}

void bn_claim_release(struct bn_files *fs, const struct bn_source_id *id, struct bn_file *f)
{
	struct bn_claim *c = bn_claim_find(fs, id);
	uint32_t i, n = 0;

	if (!c)
		return;
	for (i = 0; i < c->nfiles; i++) {
		if (c->files[i] != f)
			c->files[n++] = c->files[i];
	}
	c->nfiles = n;
	if (c->owner == f)
		c->owner = NULL;
	settle_owner(fs, c, NULL);
	if (c->owner)
		return;
	bn_source_gone(fs->source, id);
	if (!n)
		bn_claim_drop(fs, c);
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
	r = bn_content_add_reject(&rd->c, key);
	return r ?: bn_source_reject(rd->fs->source, key, id, origin, &err, "the other one");
}

int bn_claim(struct reading *rd, const struct bn_source_id *id, unsigned line, bool *counts)
{
	struct bn_claim *c = make_claim(rd->fs, id, rd->file);
	bool twice;
	int r;

	*counts = false;
	if (!c)
		return -ENOMEM;
	r = bn_content_add_id(&rd->c, id, line);
	if (r < 0)
		return r;
	twice = c->owner == rd->file && c->pass == rd->fs->pass;
	c->pass = rd->fs->pass;
	settle_owner(rd->fs, c, rd->file);
	if (c->owner != rd->file || twice)
		return reject_copy(rd, id, line, c);
	c->line = line;
	*counts = true;
	return 0;
}
