/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/split.h"

#include <string.h>

/* A buffer that one huge object made is not kept for the small ones after it. */
#define KEEP_MAX (256u << 10)

static int append(struct bn_buf *b, const char *p, size_t n, size_t max)
{
	size_t cap = b->cap ?: 8192;
	char *q;

	if (b->n + n > max)
		return -EFBIG;
	while (cap < b->n + n)
		cap *= 2;
	if (cap != b->cap) {
		q = realloc(b->p, cap);
		if (!q)
			return -ENOMEM;
		b->p = q;
		b->cap = cap;
	}
	memcpy(b->p + b->n, p, n);
	b->n += n;
	return 0;
}

static void buf_clear(struct bn_buf *b)
{
	free(b->p);
	*b = (struct bn_buf){ 0 };
}

void bn_split_init(struct bn_split *s, bool list,
		   int (*item)(void *data, const char *p, size_t n), void *data)
{
	*s = (struct bn_split){ .list = list, .item = item, .data = data };
}

void bn_split_clear(struct bn_split *s)
{
	buf_clear(&s->part);
	buf_clear(&s->rest);
}

bool bn_split_complete(const struct bn_split *s)
{
	return s->list ? s->ended : !s->in_item;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The element that began in this piece at `from`, or in an earlier one, ends before `end`. */
static int emit(struct bn_split *s, const char *from, const char *end)
{
	int r;

	if (!s->part.n)
		return s->item(s->data, from, end - from);
	r = append(&s->part, from, end - from, BN_SPLIT_ITEM_MAX);
	if (r == 0)
		r = s->item(s->data, s->part.p, s->part.n);
	s->part.n = 0;
	if (s->part.cap > KEEP_MAX)
		buf_clear(&s->part);
	return r;
}

/* A string goes on to its end or to that of the piece. */
static const char *skip_string(struct bn_split *s, const char *p, const char *end)
{
	for (; p < end; p++) {
		if (s->escaped) {
			s->escaped = false;
		} else if (*p == '\\') {
			s->escaped = true;
		} else if (*p == '"') {
			s->in_string = false;
			return p + 1;
		}
	}
	return p;
}

/* Inside an element. Returns where it stopped, with in_item cleared when the element is whole. Without
 * brackets (depth 0) it ends before what separates it from the next.
 */
static const char *skip_item(struct bn_split *s, const char *p, const char *end)
{
	while (p < end) {
		if (s->in_string) {
			p = skip_string(s, p, end);
			continue;
		}
		if (!s->depth && (is_space(*p) || *p == ',' || *p == ']' || *p == '}')) {
			s->in_item = false;
			return p;
		}
		switch (*p++) {
		case '"':
			s->in_string = true;
			break;
		case '{':
		case '[':
			s->depth++;
			break;
		case '}':
		case ']':
			if (!--s->depth) { /* was not 0, see above */
				s->in_item = false;
				return p;
			}
			break;
		}
	}
	return p;
}

/* Items that are no objects are handed out as well: the others must not suffer for them. */
static bool item_begins(const struct bn_split *s, char c)
{
	if (c == '{')
		return s->in_items || !s->list;
	return s->in_items && (c == '[' || c == '"' || c == '-' || (c >= '0' && c <= '9') ||
			       ((c | 32) >= 'a' && (c | 32) <= 'z'));
}

static void item_begin(struct bn_split *s, char c)
{
	s->in_item = true;
	s->depth = c == '{' || c == '[';
	s->in_string = c == '"';
}

static bool last_string_is_items(const struct bn_split *s)
{
	static const char items[] = "items\"";

	return s->rest.n - s->string_at == strlen(items) &&
	       !memcmp(s->rest.p + s->string_at, items, strlen(items));
}

/* One character of the list outside its items: all of it is kept, but for white space. */
static int frame(struct bn_split *s, char c)
{
	bool items_key = s->items_key;
	int r;

	if (s->in_items && c == ',')
		return 0;
	if (s->in_items && c != ']')
		return -EBADMSG;
	if (s->ended || (!s->frame_depth && c != '{'))
		return -EBADMSG;
	r = append(&s->rest, &c, 1, BN_SPLIT_REST_MAX);
	if (r < 0)
		return r;
	s->items_key = items_key && c == ':';
	switch (c) {
	case '"':
		s->in_string = true;
		s->string_at = s->rest.n;
		break;
	case '[':
		s->in_items = items_key && s->frame_depth == 1;
		s->had_items |= s->in_items;
		if (!s->in_items)
			s->frame_depth++;
		break;
	case '{':
		s->frame_depth++;
		break;
	case ']':
		if (s->in_items) {
			s->in_items = false;
			break;
		}
		/* fall through */
	case '}':
		s->ended = !--s->frame_depth;
		break;
	}
	return 0;
}

/* The frame's strings, byte by byte into rest. Returns the bytes used, or an error. */
static ssize_t frame_string(struct bn_split *s, const char *p, const char *end)
{
	const char *stop = skip_string(s, p, end);
	int r = append(&s->rest, p, stop - p, BN_SPLIT_REST_MAX);

	if (r < 0)
		return r;
	if (!s->in_string)
		s->items_key = s->frame_depth == 1 && last_string_is_items(s);
	return stop - p;
}

int bn_split_feed(struct bn_split *s, const char *p, size_t n)
{
	const char *end = p + n, *from;
	ssize_t used;
	int r;

	while (p < end) {
		if (s->in_item) {
			from = p;
			p = skip_item(s, p, end);
			r = s->in_item ? append(&s->part, from, p - from, BN_SPLIT_ITEM_MAX)
				       : emit(s, from, p);
			if (r < 0)
				return r;
			continue;
		}
		if (s->in_string) {
			used = frame_string(s, p, end);
			if (used < 0)
				return used;
			p += used;
			continue;
		}
		if (is_space(*p)) {
			p++;
			continue;
		}
		if (item_begins(s, *p)) {
			item_begin(s, *p);
			from = p++;
			p = skip_item(s, p, end);
			r = s->in_item ? append(&s->part, from, p - from, BN_SPLIT_ITEM_MAX)
				       : emit(s, from, p);
		} else if (s->list) {
			r = frame(s, *p++);
		} else {
			r = -EBADMSG;
		}
		if (r < 0)
			return r;
	}
	return 0;
}
