/* SPDX-License-Identifier: MIT */
#include "policy/object_read.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/siphash.h"

/* One object's content; address space only until it is used. The API server's own limit for an
 * object is 1.5 MB of JSON.
 */
#define SCRATCH_SIZE (16u << 20)
#define SCRATCH_KEEP (256u << 10)

static struct {
	char *mem;
	uint32_t *reloc;
	const char **strings;
	size_t max_reloc, max_strings, dirty;
} scratch;

int bn_rd_begin(struct bn_rd *rd, struct bn_err *err, size_t size, struct bn_obj **ret)
{
	if (!scratch.mem) {
		void *p = mmap(NULL, SCRATCH_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED)
			return -ENOMEM;
		scratch.mem = p;
	}
	/* a giant is not remembered in memory; the address stays, the digest depends on it */
	if (scratch.dirty > SCRATCH_KEEP && madvise(scratch.mem, SCRATCH_SIZE, MADV_DONTNEED) == 0)
		scratch.dirty = 0;
	memset(scratch.mem, 0, scratch.dirty);
	scratch.dirty = (size + 7) & ~(size_t)7;
	*rd = (struct bn_rd){
		.mem = scratch.mem,
		.used = scratch.dirty,
		.err = err,
	};
	*ret = (struct bn_obj *)rd->mem;
	return 0;
}

static int too_large(struct bn_rd *rd)
{
	return bn_rd_fail(rd, NULL, "the object is too large");
}

static void *rd_alloc(struct bn_rd *rd, size_t size)
{
	char *p;

	size = (size + 7) & ~(size_t)7;
	if (size > SCRATCH_SIZE - rd->used)
		return NULL;
	p = rd->mem + rd->used;
	rd->used += size;
	scratch.dirty = rd->used;
	return p;
}

static int add_reloc(struct bn_rd *rd, const void *slot)
{
	if (rd->nreloc == scratch.max_reloc) {
		size_t n = scratch.max_reloc ? scratch.max_reloc * 2 : 256;
		uint32_t *p = realloc(scratch.reloc, n * sizeof(*p));

		if (!p)
			return -ENOMEM;
		scratch.reloc = p;
		scratch.max_reloc = n;
	}
	scratch.reloc[rd->nreloc++] = (uint32_t)((const char *)slot - rd->mem);
	return 0;
}

int bn_rd_array(struct bn_rd *rd, void *slot, size_t n, size_t size)
{
	void *p = NULL;

	if (n) {
		if (n > SCRATCH_SIZE / size)
			return too_large(rd);
		p = rd_alloc(rd, n * size);
		if (!p)
			return too_large(rd);
		if (add_reloc(rd, slot) < 0)
			return -ENOMEM;
	}
	memcpy(slot, &p, sizeof(p));
	return 0;
}

int bn_rd_copy(struct bn_rd *rd, const char **slot, const char *s)
{
	int r = bn_rd_array(rd, slot, strlen(s) + 1, 1);

	if (!r)
		memcpy((char *)*slot, s, strlen(s));
	return r;
}

/* --- the strings of an object ----------------------------------------------------------------
 *
 * Behind the content stands a bit for each of its words that is an interned string, so that the object
 * can let go of what it refers to without anybody listing its fields. Which words those are is decided
 * once, here; an address that happens to look like one of the object's strings counts as a reference
 * too many from here to the end.
 */

static size_t bits_size(size_t used)
{
	return (used / sizeof(char *) + 7) / 8;
}

static int ptr_cmp(const void *a, const void *b)
{
	const char *x = *(const char *const *)a, *y = *(const char *const *)b;

	return (x > y) - (x < y);
}

static void refer(const struct bn_rd *rd, unsigned char *bits)
{
	size_t n = rd->nstrings;
	const char *p;

	if (!n)
		return;
	qsort(scratch.strings, n, sizeof(*scratch.strings), ptr_cmp);
	for (size_t i = 0; i < rd->used / sizeof(p); i++) {
		memcpy(&p, rd->mem + i * sizeof(p), sizeof(p));
		if (p < scratch.strings[0] || p > scratch.strings[n - 1] ||
		    !bsearch(&p, scratch.strings, n, sizeof(p), ptr_cmp))
			continue;
		bits[i / 8] |= 1u << i % 8;
		bn_intern_ref(p);
	}
}

void bn_rd_release(const struct bn_obj *o)
{
	const unsigned char *bits = (const unsigned char *)o + o->size;
	const char *p;

	for (size_t i = 0; i < bits_size(o->size); i++) {
		for (unsigned b = bits[i]; b; b &= b - 1) {
			memcpy(&p, (const char *)o + (i * 8 + __builtin_ctz(b)) * sizeof(p), sizeof(p));
			bn_intern_unref(p);
		}
	}
}

int bn_rd_finish(struct bn_rd *rd, const char *rv, struct bn_obj **ret)
{
	size_t i, rvlen = rv ? strlen(rv) + 1 : 0, nbits = bits_size(rd->used);
	struct bn_obj *o = (struct bn_obj *)rd->mem;
	char *block, *p;

	o->size = (uint32_t)rd->used;
	/* mem is always at the same place, so that equal content gives equal pointers, too */
	o->digest = bn_siphash(bn_sipkey(), rd->mem, rd->used) | 1;
	block = malloc(rd->used + nbits + rvlen);
	if (!block)
		return -ENOMEM;
	memcpy(block, rd->mem, rd->used);
	memset(block + rd->used, 0, nbits);
	refer(rd, (unsigned char *)block + rd->used);
	for (i = 0; i < rd->nreloc; i++) {
		char *slot = block + scratch.reloc[i];

		/* a slot may have been cleared since, or stand in the list twice */
		memcpy(&p, slot, sizeof(p));
		if ((uintptr_t)p - (uintptr_t)rd->mem >= rd->used)
			continue;
		p = block + (p - rd->mem);
		memcpy(slot, &p, sizeof(p));
	}
	o = (struct bn_obj *)block;
	o->refs = 1;
	if (rv)
		o->resource_version = memcpy(block + rd->used + nbits, rv, rvlen);
	*ret = o;
	return 0;
}

static size_t put_path(const struct bn_at *at, char *buf, size_t len)
{
	size_t n = at->up ? put_path(at->up, buf, len) : 0;
	int r;

	if (n >= len)
		return n;
	if (!at->key)
		r = snprintf(buf + n, len - n, "[%zu]", at->index);
	else if (at->in_map)
		r = snprintf(buf + n, len - n, "[%s]", at->key);
	else
		r = snprintf(buf + n, len - n, "%s%s", n ? "." : "", at->key);
	return n + (r < 0 ? 0 : (size_t)r);
}

/* Messages end in logs, terminals and JSON: nothing of the object may act there. */
static void plain(char *s)
{
	for (; *s; s++) {
		if (*s < ' ' || *s > '~')
			*s = '?';
	}
}

int bn_rd_fail(struct bn_rd *rd, const struct bn_at *at, const char *fmt, ...)
{
	va_list ap;

	rd->err->field[0] = 0;
	if (at)
		put_path(at, rd->err->field, sizeof(rd->err->field));
	va_start(ap, fmt);
	vsnprintf(rd->err->msg, sizeof(rd->err->msg), fmt, ap);
	va_end(ap);
	plain(rd->err->field);
	plain(rd->err->msg);
	return -EINVAL;
}

static const char *type_name(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a number with a fraction";
	case JSON_NULL:
		return "null";
	default:
		return "a boolean";
	}
}

static int wrong_type(struct bn_rd *rd, const struct bn_at *at, const char *want, const json_t *v)
{
	return bn_rd_fail(rd, at, "must be %s, not %s", want, type_name(v));
}

int bn_rd_get(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	      json_type type, const json_t **ret)
{
	const json_t *v = json_object_get(obj, key);

	*ret = NULL;
	if (!v || json_is_null(v))
		return 0;
	if (json_typeof(v) != type)
		return wrong_type(rd, BN_AT(up, key), type == JSON_ARRAY ? "a list" : "an object",
				  v);
	*ret = v;
	return 0;
}

int bn_rd_list(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	       size_t max, const json_t **ret, size_t *n)
{
	int r = bn_rd_get(rd, up, obj, key, JSON_ARRAY, ret);

	*n = 0;
	if (r < 0)
		return r;
	*n = json_array_size(*ret);
	if (*n > max) {
		r = bn_rd_fail(rd, BN_AT(up, key), "%zu elements, more than the %zu allowed", *n,
			       max);
		*n = 0;
	}
	return r;
}

int bn_rd_text(struct bn_rd *rd, const struct bn_at *at, const json_t *v, size_t max,
	       const char **ret)
{
	size_t len;

	if (!json_is_string(v))
		return wrong_type(rd, at, "a string", v);
	len = json_string_length(v);
	if (len > max)
		return bn_rd_fail(rd, at, "%zu bytes, more than the %zu allowed", len, max);
	if (memchr(json_string_value(v), 0, len))
		return bn_rd_fail(rd, at, "holds a NUL byte");
	*ret = json_string_value(v);
	return 0;
}

int bn_rd_str(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	      size_t max, const char **ret)
{
	const json_t *v = json_object_get(obj, key);

	*ret = NULL;
	if (!v || json_is_null(v))
		return 0;
	return bn_rd_text(rd, BN_AT(up, key), v, max, ret);
}

int bn_rd_intern(struct bn_rd *rd, const char *s, const char **ret)
{
	if (s && rd->nstrings == scratch.max_strings) {
		size_t n = scratch.max_strings ? scratch.max_strings * 2 : 256;
		const char **p = realloc(scratch.strings, n * sizeof(*p));

		if (!p)
			return -ENOMEM;
		scratch.strings = p;
		scratch.max_strings = n;
	}
	*ret = bn_intern(s);
	if (s && !*ret)
		return -ENOMEM;
	if (s)
		scratch.strings[rd->nstrings++] = *ret;
	return 0;
}

int bn_rd_istr(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	       size_t max, const char **ret)
{
	int r = bn_rd_str(rd, up, obj, key, max, ret);

	return r < 0 ? r : bn_rd_intern(rd, *ret, ret);
}

int bn_rd_bool(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	       bool def, bool *ret)
{
	const json_t *v = json_object_get(obj, key);

	*ret = def;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_boolean(v))
		return wrong_type(rd, BN_AT(up, key), "a boolean", v);
	*ret = json_is_true(v);
	return 0;
}

int bn_rd_int(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	      long lo, long hi, bool *has, long *ret)
{
	const json_t *v = json_object_get(obj, key);

	*has = v && !json_is_null(v);
	*ret = 0;
	if (!*has)
		return 0;
	if (!json_is_integer(v))
		return wrong_type(rd, BN_AT(up, key), "an integer", v);
	if (json_integer_value(v) < lo || json_integer_value(v) > hi)
		return bn_rd_fail(rd, BN_AT(up, key), "%lld is not within %ld to %ld",
				  (long long)json_integer_value(v), lo, hi);
	*ret = (long)json_integer_value(v);
	return 0;
}

int bn_rd_enum(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	       const char *const *names, size_t n, int def, int *ret)
{
	char list[160] = "";
	size_t i, len = 0;
	const char *s;
	int r = bn_rd_str(rd, up, obj, key, BN_STR_MAX, &s);

	if (r < 0)
		return r;
	if ((!s || !*s) && def >= 0) {
		*ret = def;
		return 0;
	}
	if (!s)
		return bn_rd_fail(rd, BN_AT(up, key), "is required");
	for (i = 0; i < n; i++) {
		if (names[i] && !strcmp(s, names[i])) {
			*ret = (int)i;
			return 0;
		}
		if (names[i] && len < sizeof(list))
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s",
						len ? ", " : "", names[i]);
	}
	return bn_rd_fail(rd, BN_AT(up, key), "'%.64s' is not one of %s", s, list);
}

static const char *const protos[] = { "TCP", "UDP", "SCTP" };
static const uint8_t proto_numbers[] = { BN_PROTO_TCP, BN_PROTO_UDP, BN_PROTO_SCTP };

int bn_rd_proto(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, uint8_t *ret)
{
	int i, r = bn_rd_enum(rd, up, obj, "protocol", protos, ARRAY_SIZE(protos), 0, &i);

	if (!r)
		*ret = proto_numbers[i];
	return r;
}

int bn_rd_addr(struct bn_rd *rd, const struct bn_at *at, const char *text, struct bn_addr *ret)
{
	if (bn_addr_parse(text, ret) < 0)
		return bn_rd_fail(rd, at, "'%.64s' is not an IP address", text);
	return 0;
}

int bn_rd_cidr(struct bn_rd *rd, const struct bn_at *at, const char *text, struct bn_cidr *ret)
{
	if (bn_cidr_parse(text, ret) < 0)
		return bn_rd_fail(rd, at, "'%.64s' is not an address range like 10.0.0.0/8", text);
	return 0;
}

int bn_rd_only(struct bn_rd *rd, const struct bn_at *at, const json_t *obj,
	       const char *const *known)
{
	const char *key;
	json_t *v;
	size_t i;

	json_object_foreach((json_t *)obj, key, v) {
		for (i = 0; known[i] && strcmp(key, known[i]); i++)
			;
		if (!known[i] && !json_is_null(v))
			return bn_rd_fail(rd, BN_AT(at, key), "is not a field that bpfnet knows");
	}
	return 0;
}

static int label_cmp(const void *a, const void *b)
{
	return strcmp(((const struct bn_label *)a)->key, ((const struct bn_label *)b)->key);
}

/* As lenient as can be without harm: what is printable and has the API's length. */
static bool label_text(const char *s, size_t max)
{
	size_t i;

	for (i = 0; s[i]; i++) {
		if (s[i] <= ' ' || s[i] > '~' || i >= max)
			return false;
	}
	return true;
}

int bn_rd_label(struct bn_rd *rd, const struct bn_at *at, const char *key, const json_t *v,
		struct bn_label *ret)
{
	const struct bn_at *here = BN_AT_K(at, key);
	const char *val = ""; /* what the API server makes of null */
	int r;

	if (!json_is_null(v)) {
		r = bn_rd_text(rd, here, v, BN_STR_MAX, &val);
		if (r < 0)
			return r;
	}
	if (!*key || !label_text(key, 253 + 1 + 63))
		return bn_rd_fail(rd, here, "is not a label key");
	if (!label_text(val, 63))
		return bn_rd_fail(rd, here, "'%.64s' is not a label value", val);
	return bn_rd_intern(rd, key, &ret->key) ?: bn_rd_intern(rd, val, &ret->val);
}

int bn_rd_labels(struct bn_rd *rd, const struct bn_at *at, const json_t *map, struct bn_labels *ret)
{
	size_t n = json_object_size(map);
	const char *key;
	json_t *v;
	int r;

	ret->n = 0;
	if (n > BN_LIST_MAX)
		return bn_rd_fail(rd, at, "%zu labels are too many", n);
	r = bn_rd_array(rd, &ret->v, n, sizeof(*ret->v));
	if (r < 0)
		return r;
	json_object_foreach((json_t *)map, key, v) {
		r = bn_rd_label(rd, at, key, v, &ret->v[ret->n++]);
		if (r < 0)
			return r;
	}
	if (n)
		qsort(ret->v, n, sizeof(*ret->v), label_cmp);
	return 0;
}
