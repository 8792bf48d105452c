/* SPDX-License-Identifier: MIT */
#include "policy/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/yaml.h"

static unsigned count_lines(const char *from, const char *to)
{
	unsigned n = 0;

	while (from < to && (from = memchr(from, '\n', (size_t)(to - from)))) {
		from++;
		n++;
	}
	return n;
}

static const char *skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

static bool is_list_kind(const char *kind)
{
	size_t n = kind ? strlen(kind) : 0;

	return n >= 4 && !strcmp(kind + n - 4, "List");
}

/* --- JSON, by its brackets --------------------------------------------------------------------- */

/* The end of the JSON value at p, or NULL when it does not end. Only brackets and strings are
 * looked at: whoever parses it finds the rest.
 */
static const char *json_end(const char *p, const char *end)
{
	size_t depth = 0;

	for (; p < end; p++) {
		if (*p == '"') {
			for (p++; p < end && *p != '"'; p++)
				p += *p == '\\';
			if (p >= end)
				return NULL;
		} else if (*p == '{' || *p == '[') {
			depth++;
		} else if (*p == '}' || *p == ']') {
			if (!depth)
				return NULL;
			depth--;
		}
		if (!depth)
			return p + 1;
	}
	return NULL;
}

/* The array of the only member "items" of the object at p, else NULL. */
static const char *find_items(const char *p, const char *end)
{
	const char *found = NULL, *key;
	bool is_key = true;
	size_t keylen;

	for (p++; p < end; p++) {
		if (*p == '"' && is_key) {
			key = p + 1;
			p = json_end(p, end);
			if (!p)
				return NULL;
			keylen = (size_t)(p - 1 - key);
			p = skip_space(p, end);
			if (p >= end || *p != ':')
				return NULL;
			p = skip_space(p + 1, end);
			if (keylen == 5 && !memcmp(key, "items", 5)) {
				if (found || p >= end || *p != '[')
					return NULL;
				found = p;
			}
			is_key = false;
			p--;
		} else if (*p == ',') {
			is_key = true;
		} else if (*p == '{' || *p == '[' || *p == '"') {
			p = json_end(p, end);
			if (!p)
				return NULL;
			p--;
		}
	}
	return found;
}

struct list_head {
	char kind[96];
	char version[96];
};

/* What is around the array must be a good object, and says what the members are. */
static bool read_head(const char *text, const char *items, const char *items_end, const char *end,
		      struct list_head *ret)
{
	size_t before = (size_t)(items - text), after = (size_t)(end - items_end);
	_cleanup_(freep) char *head = NULL;
	json_error_t e;
	json_t *j;

	if (before + after > 1 << 20)
		return false;
	head = malloc(before + after + 2);
	if (!head)
		return false;
	memcpy(head, text, before);
	memcpy(head + before, "[]", 2);
	memcpy(head + before + 2, items_end, after);
	j = json_loadb(head, before + after + 2, JSON_REJECT_DUPLICATES, &e);
	snprintf(ret->kind, sizeof(ret->kind), "%s",
		 json_string_value(json_object_get(j, "kind")) ?: "");
	snprintf(ret->version, sizeof(ret->version), "%s",
		 json_string_value(json_object_get(j, "apiVersion")) ?: "");
	json_decref(j);
	return j && is_list_kind(ret->kind);
}

/* Members must be separated by one comma each: checked before any is handed out. */
static const char *next_member(const char *p, const char *end, bool first)
{
	p = skip_space(p, end);
	if (p < end && *p == ']')
		return p;
	if (!first) {
		if (p >= end || *p != ',')
			return NULL;
		p = skip_space(p + 1, end);
	}
	return p < end && *p == '{' ? p : NULL;
}

static bool members_good(const char *p, const char *end)
{
	bool first = true;

	for (; (p = next_member(p, end, first)) && *p != ']'; first = false) {
		p = json_end(p, end);
		if (!p)
			return false;
	}
	return p;
}

typedef int (*chunk_fn)(const struct bn_chunk *c, void *data);

/* 1: it is no list that can be cut. */
static int split_list(const char *text, const char *end, unsigned line, chunk_fn fn, void *data)
{
	const char *items = find_items(text, end), *items_end, *p, *q;
	struct bn_chunk c = { 0 };
	struct list_head head;
	bool first = true;
	int r = 0;

	items_end = items ? json_end(items, end) : NULL;
	if (!items_end || !read_head(text, items, items_end, end, &head) ||
	    !members_good(items + 1, items_end))
		return 1;
	c.list_kind = head.kind;
	c.list_version = head.version;
	for (p = items + 1, q = text; !r && *(p = next_member(p, items_end, first)) != ']';
	     first = false) {
		line += count_lines(q, p);
		q = p;
		p = json_end(p, items_end);
		c.text = q;
		c.len = (size_t)(p - q);
		c.line = line;
		r = fn(&c, data);
	}
	return r;
}

static int split_json(const char *text, const char *end, unsigned line, chunk_fn fn, void *data)
{
	const char *p = text, *next;
	struct bn_chunk c = { 0 };
	int r;

	while ((p = skip_space(p, end)) < end) {
		line += count_lines(text, p);
		text = p;
		next = *p == '{' ? json_end(p, end) : NULL;
		r = next ? split_list(p, next, line, fn, data) : 1;
		if (r < 0)
			return r;
		next = next ?: end;
		if (r > 0) {
			c.text = p;
			c.len = (size_t)(next - p);
			c.line = line;
			r = fn(&c, data);
			if (r)
				return r;
		}
		p = next;
	}
	return 0;
}

/* --- YAML, by its separators -------------------------------------------------------------------- */

static bool is_separator(const char *p, const char *end)
{
	return end - p >= 3 && !memcmp(p, "---", 3) && (end - p == 3 || strchr(" \t\r\n", p[3]));
}

/* Nothing but blank lines, comments and, before a document, directives. */
static bool is_blank(const char *p, const char *end, bool *directive)
{
	for (*directive = false; (p = skip_space(p, end)) < end;) {
		if (*p == '%')
			*directive = true;
		else if (*p != '#')
			return false;
		p = memchr(p, '\n', (size_t)(end - p)) ?: end;
	}
	return true;
}

/* A brace alone also begins a mapping of YAML in flow style. */
static bool begins_json(const char *p, const char *end)
{
	if (p >= end || *p != '{')
		return false;
	p = skip_space(p + 1, end);
	return p < end && (*p == '"' || *p == '}');
}

static int split_document(const char *p, const char *end, unsigned line, chunk_fn fn, void *data)
{
	const char *content = p;
	struct bn_chunk c = { 0 };
	bool directive;

	if (is_blank(p, end, &directive) && !directive)
		return 0;
	if (is_separator(p, end))
		content = p + 3;
	content = skip_space(content, end);
	if (begins_json(content, end))
		return split_json(content, end, line + count_lines(p, content), fn, data);
	c.text = p;
	c.len = (size_t)(end - p);
	c.line = line;
	return fn(&c, data);
}

int bn_manifest_split(const char *text, size_t len, chunk_fn fn, void *data)
{
	const char *end = text + len, *start, *p;
	unsigned line = 1, n = 1;
	bool directive;
	int r;

	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		text += 3;
	for (start = p = text; p < end;) {
		p = memchr(p, '\n', (size_t)(end - p));
		p = p ? p + 1 : end;
		n++;
		if (p < end && !is_separator(p, end))
			continue;
		if (p < end && is_blank(start, p, &directive) && directive)
			continue; /* belongs to the document that begins here */
		r = split_document(start, p, line, fn, data);
		if (r)
			return r;
		start = p;
		line = n;
	}
	return 0;
}

/* --- objects ------------------------------------------------------------------------------------ */

struct out {
	const struct bn_chunk *chunk;
	int (*fn)(json_t *obj, unsigned line, void *data);
	void *data;
	struct bn_manifest_err *err;
	unsigned *item_lines; /* of items that are not handed out yet */
	size_t nitems;
};

static int bad(struct out *o, unsigned line, const char *msg)
{
	char *p;

	o->err->line = line;
	snprintf(o->err->msg, sizeof(o->err->msg), "%s", msg);
	for (p = o->err->msg; *p; p++) {
		if (*p < ' ' || *p > '~')
			*p = '?';
	}
	return -EINVAL;
}

/* A member of a ServiceList need not say that it is a Service. */
static int hand_out_member(struct out *o, json_t *item, const char *kind, const char *version,
			   unsigned line)
{
	_cleanup_(freep) char *name = NULL;
	json_t *copy;
	int r;

	if (!json_is_object(item))
		return bad(o, line, "a member of the list is not an object");
	if (json_object_get(item, "kind") || !is_list_kind(kind) || !strcmp(kind, "List"))
		return o->fn(item, line, o->data);
	name = strndup(kind, strlen(kind) - 4);
	copy = json_copy(item); /* an alias may share it */
	if (!name || !copy || json_object_set_new(copy, "kind", json_string(name)) ||
	    (!json_object_get(copy, "apiVersion") &&
	     json_object_set_new(copy, "apiVersion", json_string(version ?: "")))) {
		json_decref(copy);
		return -ENOMEM;
	}
	r = o->fn(copy, line, o->data);
	json_decref(copy);
	return r;
}

static int hand_out(struct out *o, json_t *doc, unsigned line)
{
	const char *kind = json_string_value(json_object_get(doc, "kind"));
	const char *version = json_string_value(json_object_get(doc, "apiVersion"));
	json_t *items = json_object_get(doc, "items"), *item;
	size_t i;
	int r = 0;

	if (!json_is_object(doc))
		return bad(o, line, "the document is not an object");
	if (!is_list_kind(kind))
		return o->fn(doc, line, o->data);
	if (items && !json_is_null(items) && !json_is_array(items))
		return bad(o, line, "'items' is not a list");
	json_array_foreach(items, i, item) {
		/* null: handed out while the list was read */
		if (!json_is_null(item))
			r = hand_out_member(o, item, kind, version,
					    i < o->nitems ? o->item_lines[i] : line);
		if (r)
			return r;
	}
	return 0;
}

static int on_yaml(json_t *node, unsigned line, bool item, void *data)
{
	struct out *o = data;
	unsigned *lines;
	int r;

	line += o->chunk->line - 1;
	if (!item) {
		r = hand_out(o, node, line);
		o->nitems = 0;
		return r;
	}
	lines = reallocarray(o->item_lines, o->nitems + 1, sizeof(*lines));
	if (!lines)
		return -ENOMEM;
	o->item_lines = lines;
	lines[o->nitems++] = line;
	if (!json_object_get(node, "kind"))
		return 0;
	r = o->fn(node, line, o->data);
	return r < 0 ? r : 1;
}

static int parse_yaml(struct out *o)
{
	struct bn_yaml_err ye;
	int r = bn_yaml_parse(o->chunk->text, o->chunk->len, on_yaml, o, &ye);

	freep(&o->item_lines);
	if (r == -EINVAL && ye.line)
		return bad(o, o->chunk->line + ye.line - 1, ye.msg);
	return r;
}

int bn_manifest_parse(const struct bn_chunk *c, int (*fn)(json_t *obj, unsigned line, void *data),
		      void *data, struct bn_manifest_err *err)
{
	struct out o = { .chunk = c, .fn = fn, .data = data, .err = err };
	json_error_t je;
	json_t *j;
	int r;

	*err = (struct bn_manifest_err){ 0 };
	if (!c->len || *c->text != '{')
		return parse_yaml(&o);
	j = json_loadb(c->text, c->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je);
	if (!j) {
		/* { also begins a mapping of YAML in flow style; if it is none, JSON was meant */
		r = parse_yaml(&o);
		if (r == -EINVAL)
			r = bad(&o, c->line + (unsigned)(je.line > 0 ? je.line - 1 : 0), je.text);
		return r;
	}
	if (c->list_kind)
		r = hand_out_member(&o, j, c->list_kind, c->list_version, c->line);
	else
		r = hand_out(&o, j, c->line);
	json_decref(j);
	return r;
}
