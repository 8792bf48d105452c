/* SPDX-License-Identifier: MIT */
/* Which file an object is from. */
#include <stdio.h>
#include <string.h>

#include "loader/source/files_priv.h"
#include "maps/util.h"
#include "policy/intern.h"

/* --- content ------------------------------------------------------------------------------------- */

static void trim(void *array, size_t n, size_t *max, size_t size)
{
	void *p;

	if (!n || n == *max)
		return;
	memcpy(&p, array, sizeof(p));
	p = reallocarray(p, n, size);
	if (!p)
		return; /* it stays as long as it was */
	memcpy(array, &p, sizeof(p));
	*max = n;
}

void bn_content_trim(struct content *c)
{
	trim(&c->ids, c->nids, &c->max_ids, sizeof(*c->ids));
	trim(&c->chunks, c->nchunks, &c->max_chunks, sizeof(*c->chunks));
	trim(&c->rejects, c->nrejects, &c->max_rejects, sizeof(*c->rejects));
}

void bn_content_free(struct content *c)
{
	size_t i;

	for (i = 0; i < c->nrejects; i++)
		freep(&c->rejects[i]);
	freep(&c->rejects);
	for (i = 0; i < c->nids; i++) {
		bn_intern_unref(c->ids[i].object.ns);
		bn_intern_unref(c->ids[i].object.name);
	}
	freep(&c->ids);
	freep(&c->chunks);
	*c = (struct content){ 0 };
}

/* Room for one more. */
static int grow(void *array, size_t n, size_t *max, size_t size)
{
	size_t more = *max + *max / 2 + 4;
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

	if (r < 0)
		return r;
	c->ids[c->nids++] = (struct id){ *object, line };
	bn_intern_ref(object->ns);
	bn_intern_ref(object->name);
	return 0;
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

static struct bn_index_key claim_key(const void *array, uint32_t entry)
{
	const struct bn_claim *c = (const struct bn_claim *)array + entry;

	return (struct bn_index_key){ c->ns, c->name, c->kind };
}

void bn_files_init(struct bn_files *fs, struct bn_source *source)
{
	*fs = (struct bn_files){ .source = source, .claim_index.key = claim_key };
}

struct bn_claim *bn_claim_find(struct bn_files *fs, const struct bn_source_id *id)
{
	struct bn_index_key key = { id->ns, id->name, id->kind };
	uint32_t i = bn_index_find(&fs->claim_index, fs->claims, &key);

	return i == BN_INDEX_NONE ? NULL : &fs->claims[i];
}

static struct bn_claim *new_claim(struct bn_files *fs, const struct bn_source_id *id)
{
	struct bn_claim *c;

	if (fs->nclaims == fs->max_claims) {
		uint32_t n = fs->max_claims + fs->max_claims / 2 + 16;

		c = reallocarray(fs->claims, n, sizeof(*c));
		if (!c)
			return NULL;
		fs->claims = c;
		fs->max_claims = n;
	}
	c = &fs->claims[fs->nclaims];
	*c = (struct bn_claim){ .ns = id->ns, .name = id->name, .kind = (uint16_t)id->kind };
	if (bn_index_add(&fs->claim_index, fs->claims, fs->nclaims) < 0)
		return NULL;
	bn_intern_ref(c->ns);
	bn_intern_ref(c->name);
	fs->nclaims++;
	return c;
}

/* The last one takes its place. */
static void drop_claim(struct bn_files *fs, struct bn_claim *c)
{
	uint32_t i = (uint32_t)(c - fs->claims), last = fs->nclaims - 1;

	freep(&c->others);
	bn_index_del(&fs->claim_index, fs->claims, i);
	bn_intern_unref(c->ns);
	bn_intern_unref(c->name);
	if (i != last) {
		bn_index_move(&fs->claim_index, fs->claims, last, i);
		fs->claims[i] = fs->claims[last];
	}
	fs->nclaims--;
}

void bn_claims_clear(struct bn_files *fs)
{
	uint32_t i;

	for (i = 0; i < fs->nclaims; i++) {
		freep(&fs->claims[i].others);
		bn_intern_unref(fs->claims[i].ns);
		bn_intern_unref(fs->claims[i].name);
	}
	freep(&fs->claims);
	bn_index_clear(&fs->claim_index);
	fs->nclaims = fs->max_claims = 0;
}

static int add_other(struct bn_claim *c, struct bn_file *f)
{
	struct bn_file **files;

	if (c->nothers == UINT16_MAX)
		return -ENOMEM;
	files = reallocarray(c->others, c->nothers + 1u, sizeof(*files));
	if (!files)
		return -ENOMEM;
	c->others = files;
	files[c->nothers++] = f;
	return 0;
}

static void del_other(struct bn_claim *c, const struct bn_file *f)
{
	uint16_t i, n = 0;

	for (i = 0; i < c->nothers; i++) {
		if (c->others[i] != f)
			c->others[n++] = c->others[i];
	}
	c->nothers = n;
	if (!n)
		freep(&c->others);
}

/* NULL: no memory. */
static struct bn_claim *make_claim(struct bn_files *fs, const struct bn_source_id *id,
				   struct bn_file *f)
{
	struct bn_claim *c = bn_claim_find(fs, id);
	uint16_t i;

	c = c ?: new_claim(fs, id);
	if (!c || c->owner == f)
		return c;
	for (i = 0; i < c->nothers; i++) {
		if (c->others[i] == f)
			return c;
	}
	return add_other(c, f) < 0 ? NULL : c;
}

/* The first of those that are there owns it. Who loses it is read again to say so, who gets it to
 * take it, but for the one that is being read.
 */
static int settle_owner(struct bn_files *fs, struct bn_claim *c, const struct bn_file *reading)
{
	struct bn_file *best = c->owner && !c->owner->gone ? c->owner : NULL, *old = c->owner;
	uint16_t i;
	int r;

	for (i = 0; i < c->nothers; i++) {
		struct bn_file *f = c->others[i];

		if (!f->gone && (!best || strcmp(f->name, best->name) < 0))
			best = f;
	}
	if (best == old)
		return 0;
	r = old ? add_other(c, old) : 0;
	if (r < 0)
		return r;
	if (best)
		del_other(c, best);
	if (old && !old->gone && old != reading)
		bn_file_mark(fs, old, true);
	if (best && best != reading)
		bn_file_mark(fs, best, true);
	c->owner = best;
	return 0;
}

int bn_claim_restore(struct bn_files *fs, const struct bn_source_id *id, struct bn_file *f)
{
	struct bn_claim *c;
	int r = bn_content_add_id(&f->c, id, 0);

	c = r < 0 ? NULL : make_claim(fs, id, f);
	return c ? settle_owner(fs, c, f) : -ENOMEM;
}

void bn_claim_release(struct bn_files *fs, const struct bn_source_id *id, struct bn_file *f)
{
	struct bn_claim *c = bn_claim_find(fs, id);

	if (!c)
		return;
	if (c->owner == f)
		c->owner = NULL;
	else
		del_other(c, f);
	settle_owner(fs, c, NULL); /* without an owner before, it cannot fail */
	if (c->owner)
		return;
	bn_source_gone(fs->source, id);
	if (!c->nothers)
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
	r = settle_owner(rd->fs, c, rd->file);
	if (r < 0)
		return r;
	if (c->owner != rd->file || twice)
		return reject_copy(rd, id, line, c);
	c->line = line;
	*counts = true;
	return 0;
}
