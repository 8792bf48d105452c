/* SPDX-License-Identifier: MIT */
/* What an API server may send: list bodies and watch streams, in any pieces. However the bytes are
 * cut, the same objects, versions and errors must come out; the JSON parser must agree with jansson;
 * and a mask must never turn what is JSON into what is not.
 *
 * The first byte says which kind and whether a list or a watch, the second how it is cut.
 */
#include <stdio.h>
#include <string.h>

#include "loader/source/kube/intake.h"
#include "loader/source/kube/split.h"
#include "maps/util.h"
#include "policy/intern.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
	struct bn_source s;
	struct bn_intake in;
	struct bn_split split;
	uint64_t digest; /* of all that was handed out */
	unsigned items;
};

static void digest(struct run *r, const void *p, size_t n)
{
	const unsigned char *c = p;

	while (n--)
		r->digest = (r->digest ^ *c++) * 0x100000001b3u;
}

/* Ours ends at 128, jansson's at 2048. */
static bool deep(const char *p, size_t n)
{
	unsigned depth = 0;

	for (size_t i = 0; i < n; i++)
		if ((p[i] == '{' || p[i] == '[') && ++depth > 100)
			return true;
	return false;
}

static void check_json(const char *p, size_t n, const struct bn_json_mask *mask)
{
	json_t *ours = NULL, *theirs, *masked = NULL;
	int e;

	/* jansson overlooks a NUL after a number */
	if (deep(p, n) || memchr(p, 0, n))
		return;
	theirs = json_loadb(p, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	e = bn_json_load(p, n, NULL, &ours);
	MUST((e == 0) == (theirs != NULL));
	MUST(!theirs || json_equal(ours, theirs));
	e = bn_json_load(p, n, mask, &masked);
	MUST(e == 0 || !theirs);
	json_decref(ours);
	json_decref(theirs);
	json_decref(masked);
}

static int on_item(void *data, const char *p, size_t n)
{
	struct run *r = data;

	MUST(n >= 1 && !strchr(",:]}", p[0]));
	r->items++;
	digest(r, p, n);
	check_json(p, n, bn_kube_kinds[r->in.kind].object);
	return bn_intake_item(&r->in, p, n);
}

static int on_event(void *data, const char *p, size_t n)
{
	struct run *r = data;
	struct bn_event ev;
	int e;

	r->items++;
	digest(r, p, n);
	check_json(p, n, bn_kube_kinds[r->in.kind].event);
	e = bn_intake_event(&r->in, p, n, &ev);
	if (e == 0)
		digest(r, &ev, sizeof(ev));
	return e == 0 && ev.type == BN_EVENT_ERROR ? -ECANCELED : e;
}

/* In any order: that of the store is its own. */
static int digest_object(struct bn_obj *o, void *data)
{
	struct run *r = data, one = { 0 };

	MUST(o->refs >= 1 && *o->name);
	digest(&one, o->ns, strlen(o->ns));
	digest(&one, o->name, strlen(o->name));
	if (o->resource_version)
		digest(&one, o->resource_version, strlen(o->resource_version));
	r->digest += one.digest;
	return 0;
}

static void nothing(struct bn_source *s)
{
	(void)s;
}

static const struct bn_source_ops ops = { .stop = nothing, .free = nothing };

/* Returns what the stream came to. step 0: all of it at once. */
static uint64_t consume(const uint8_t *data, size_t size, enum bn_kind kind, bool list, unsigned step)
{
	struct run r = { .digest = 0xcbf29ce484222325u };
	uint64_t x = step;
	int e = 0;

	struct bn_source *s = &r.s;

	bn_source_init(s, "fuzz", &ops, NULL, NULL);
	MUST(bn_store_new(&r.s.store) == 0);
	r.in = (struct bn_intake){ .source = &r.s, .kind = kind };
	bn_split_init(&r.split, list, list ? on_item : on_event, &r);
	if (list)
		bn_intake_list_begin(&r.in);
	for (size_t at = 0; e == 0 && at < size;) {
		size_t n = size - at;

		x = x * 6364136223846793005u + 1;
		if (step && n > (x >> 33) % step + 1)
			n = (x >> 33) % step + 1;
		/* exactly as long as it is, for ASan */
		_cleanup_(freep) char *piece = malloc(n);

		memcpy(piece, data + at, n);
		e = bn_split_feed(&r.split, piece, n);
		at += n;
	}
	digest(&r, &e, sizeof(e));
	if (e == 0 && bn_split_complete(&r.split)) {
		if (list)
			check_json(r.split.rest.p, r.split.rest.n, NULL);
		digest(&r, &r.items, sizeof(r.items));
	}
	if (list && e == 0)
		MUST(bn_intake_list_end(&r.in) == 0);
	bn_store_each(r.s.store, kind, digest_object, &r);
	for (int k = 0; k < BN_KIND__MAX; k++)
		MUST(k == (int)kind || !bn_store_count(r.s.store, k));
	bn_intake_list_abort(&r.in);
	bn_split_clear(&r.split);
	bn_store_freep(&r.s.store);
	bn_source_freep(&s);
	return r.digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static FILE *quiet;
	enum bn_kind kind;
	uint64_t whole;
	bool list;

	if (!quiet) { /* refused objects are logged; the sanitizers write to the descriptor */
		quiet = fopen("/dev/null", "we");
		stderr = quiet;
	}
	if (size < 3)
		return 0;
	kind = data[0] % 8 % BN_KIND__MAX;
	list = data[0] & 8;
	whole = consume(data + 2, size - 2, kind, list, 0);
	MUST(consume(data + 2, size - 2, kind, list, data[1] + 1) == whole);
	MUST(consume(data + 2, size - 2, kind, list, 1) == whole);
	bn_intern_collect();
	MUST(!bn_intern_count());
	return 0;
}
