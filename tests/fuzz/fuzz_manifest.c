/* SPDX-License-Identifier: MIT */
/* Text to objects: chunks lie in the text, in order, with the lines that they stand in. */
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/manifest.h"
#include "tests/fuzz/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct ctx {
	const char *text, *last;
	size_t size;
	unsigned last_line;
};

static int on_object(json_t *obj, unsigned line, void *data)
{
	_cleanup_(bn_obj_unrefp) struct bn_obj *o = NULL;
	struct bn_err err;

	(void)data;
	if (!line || !json_is_object(obj))
		abort();
	bn_object_parse(obj, &o, &err);
	return 0;
}

static int on_chunk(const struct bn_chunk *c, void *data)
{
	struct ctx *x = data;
	struct bn_manifest_err err;
	const char *p;
	int r;

	if (c->text < x->last || c->text + c->len > x->text + x->size)
		abort();
	for (p = x->last; p < c->text; p++)
		x->last_line += *p == '\n';
	x->last = c->text;
	if (c->line != x->last_line)
		abort();
	r = bn_manifest_parse(c, on_object, NULL, &err);
	if (r && (r != -EINVAL || !err.msg[0] || err.line < c->line))
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ctx x = { (const char *)data, (const char *)data, size, 1 };

	if (bn_manifest_split((const char *)data, size, on_chunk, &x))
		abort();
	if (bn_intern_bytes() > 64 << 20)
		bn_intern_reset();
	return 0;
}
