/* SPDX-License-Identifier: MIT */
#include "policy/yaml.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "maps/util.h"

struct frame {
	json_t *node;  /* object or array, owned */
	json_t *merge; /* what "<<" names, owned: an array of objects */
	char *key;     /* of the value that comes next, owned; NULL: a key comes next */
	char *anchor;
	size_t nodes; /* in it, aliases expanded */
	unsigned line;
};

struct anchor {
	char *name;
	json_t *node;
	size_t nodes;
};

struct build {
	yaml_parser_t parser;
	struct frame stack[BN_YAML_DEPTH_MAX];
	unsigned depth;
	struct anchor anchors[BN_YAML_ANCHORS_MAX];
	unsigned nanchors;
	size_t aliased;
	json_t *root;
	unsigned root_line;
	bn_yaml_fn fn;
	void *data;
	struct bn_yaml_err *err;
};

static int fail(struct build *b, unsigned line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(struct build *b, unsigned line, const char *fmt, ...)
{
	va_list ap;
	char *p;

	b->err->line = line;
	va_start(ap, fmt);
	vsnprintf(b->err->msg, sizeof(b->err->msg), fmt, ap);
	va_end(ap);
	for (p = b->err->msg; *p; p++) {
		if (*p < ' ' || *p > '~')
			*p = '?';
	}
	return -EINVAL;
}

/* --- scalars ---------------------------------------------------------------------------------- */

static bool one_of(const char *s, const char *const *list)
{
	for (; *list; list++) {
		if (!strcmp(s, *list))
			return true;
	}
	return false;
}

static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
static const char *const trues[] = { "yes",  "Yes",  "YES", "true", "True",
				     "TRUE", "on",   "On",  "ON",   NULL };
static const char *const falses[] = { "no",    "No",	"NO",  "false", "False",
				      "FALSE", "off",	"Off", "OFF",	NULL };
static const char *const infinite[] = { ".inf",	 ".Inf",  ".INF",  "+.inf", "+.Inf", "+.INF", "-.inf",
					"-.Inf", "-.INF", ".nan",  ".NaN",  ".NAN",  NULL };

/* Integers as Go's ParseInt with base 0 reads them. */
static bool parse_int(const char *s, json_int_t *ret)
{
	const char *p = s + (*s == '-' || *s == '+');
	int base = 10;
	char *end;

	if (*p == '0' && p[1]) {
		int c = p[1] | 0x20;

		base = c == 'x' ? 16 : (c == 'b' ? 2 : 8);
		p += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
	}
	if (!strchr("0123456789abcdefABCDEF", *p) || !*p)
		return false;
	errno = 0;
	*ret = strtoll(p, &end, base);
	if (*end || errno)
		return false;
	if (*s == '-')
		*ret = -*ret;
	return true;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? and nothing else that strtod takes */
static bool parse_float(const char *s, double *ret)
{
	const char *p = s + (*s == '-' || *s == '+');
	size_t digits, more = 0;
	char *end;

	digits = strspn(p, "0123456789");
	p += digits;
	if (*p == '.') {
		more = strspn(p + 1, "0123456789");
		p += 1 + more;
	}
	if (!digits && !more)
		return false;
	if (*p == 'e' || *p == 'E') {
		p += 1 + (p[1] == '-' || p[1] == '+');
		digits = strspn(p, "0123456789");
		if (!digits)
			return false;
		p += digits;
	}
	if (*p)
		return false;
	*ret = strtod(s, &end);
	return !*end;
}

static json_t *number(const char *text, bool *bad)
{
	char buf[64];
	size_t n = 0;
	json_int_t i;
	double d;

	*bad = false;
	if (!*text || !strchr("+-.0123456789", *text) || strlen(text) >= sizeof(buf))
		return NULL;
	for (; *text; text++) {
		if (*text != '_')
			buf[n++] = *text;
	}
	buf[n] = 0;
	if (parse_int(buf, &i))
		return json_integer(i);
	if (!parse_float(buf, &d))
		return NULL;
	*bad = !isfinite(d);
	/* as encoding/json writes it: 80.0 is 80 */
	if (!*bad && d == floor(d) && fabs(d) < 9007199254740992.0)
		return json_integer((json_int_t)d);
	return *bad ? NULL : json_real(d);
}

/* *ret stays NULL for what is a string. */
static int plain_value(struct build *b, const char *s, unsigned line, json_t **ret)
{
	bool bad;

	if (one_of(s, nulls))
		*ret = json_null();
	else if (one_of(s, trues))
		*ret = json_true();
	else if (one_of(s, falses))
		*ret = json_false();
	else
		*ret = number(s, &bad);
	if (!*ret && (one_of(s, infinite) || (*s && strchr("+-.0123456789", *s) && bad)))
		return fail(b, line, "'%.32s' is not finite", s);
	return 0;
}

static int scalar(struct build *b, const yaml_event_t *e, json_t **ret)
{
	const char *text = (const char *)e->data.scalar.value;
	const char *tag = (const char *)e->data.scalar.tag;
	unsigned line = (unsigned)e->start_mark.line + 1;
	size_t len = e->data.scalar.length;
	bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	json_t *v = NULL;
	int r;

	if (tag && !strcmp(tag, YAML_STR_TAG))
		plain = false;
	else if (tag && (!strcmp(tag, YAML_INT_TAG) || !strcmp(tag, YAML_BOOL_TAG) ||
			 !strcmp(tag, YAML_FLOAT_TAG) || !strcmp(tag, YAML_NULL_TAG)))
		plain = true;
	else if (tag && !strcmp(tag, "!"))
		plain = false;
	else if (tag)
		return fail(b, line, "the tag '%.64s' is not understood", tag);
	if (plain && strlen(text) == len) {
		r = plain_value(b, text, line, &v);
		if (r < 0)
			return r;
	}
	if (tag && plain && !v)
		return fail(b, line, "'%.64s' is not what its tag says", text);
	v = v ?: json_stringn(text, len);
	if (!v)
		return fail(b, line, "the text is not valid UTF-8");
	*ret = v;
	return 0;
}

/* --- structure -------------------------------------------------------------------------------- */

static void frame_drop(struct frame *f)
{
	json_decref(f->node);
	json_decref(f->merge);
	freep(&f->key);
	freep(&f->anchor);
	*f = (struct frame){ 0 };
}

static void build_clear(struct build *b)
{
	unsigned i;

	while (b->depth)
		frame_drop(&b->stack[--b->depth]);
	for (i = 0; i < b->nanchors; i++) {
		freep(&b->anchors[i].name);
		json_decref(b->anchors[i].node);
	}
	b->nanchors = 0;
	b->aliased = 0;
	json_decref(b->root);
	b->root = NULL;
}

static int remember(struct build *b, const char *name, json_t *node, size_t nodes, unsigned line)
{
	struct anchor *a;
	unsigned i;

	if (!name)
		return 0;
	for (i = 0; i < b->nanchors && strcmp(b->anchors[i].name, name); i++)
		;
	if (i == BN_YAML_ANCHORS_MAX)
		return fail(b, line, "more than %d anchors", BN_YAML_ANCHORS_MAX);
	a = &b->anchors[i];
	if (i == b->nanchors) {
		a->name = strdup(name);
		if (!a->name)
			return -ENOMEM;
		b->nanchors++;
	} else {
		json_decref(a->node);
	}
	a->node = json_incref(node);
	a->nodes = nodes;
	return 0;
}

/* Notes what "<<" brings; it is added when the mapping ends, where it does not say otherwise. */
static int add_merge(struct build *b, struct frame *f, json_t *v, unsigned line)
{
	json_t *e;
	size_t i;

	if (!f->merge && !(f->merge = json_array()))
		return -ENOMEM;
	if (json_is_object(v))
		return json_array_append(f->merge, v) ? -ENOMEM : 0;
	if (!json_is_array(v))
		return fail(b, line, "'<<' needs a mapping or a list of them");
	json_array_foreach(v, i, e) {
		if (!json_is_object(e))
			return fail(b, line, "'<<' needs a mapping or a list of them");
		if (json_array_append(f->merge, e))
			return -ENOMEM;
	}
	return 0;
}

/* A value is complete: it goes where the innermost open node expects it. Takes v. */
static int place(struct build *b, json_t *v, size_t nodes, unsigned line)
{
	struct frame *f = b->depth ? &b->stack[b->depth - 1] : NULL;
	int r = 0;

	if (!f) {
		b->root = v;
		b->root_line = line;
		return 0;
	}
	f->nodes += nodes;
	if (json_is_array(f->node)) {
		r = json_array_append_new(f->node, v);
		return r ? -ENOMEM : 0;
	}
	if (!f->key) {
		json_decref(v);
		return fail(b, line, "a key must be a scalar");
	}
	if (!strcmp(f->key, "<<")) {
		r = add_merge(b, f, v, line);
		json_decref(v);
	} else {
		r = json_object_set_new(f->node, f->key, v) ? -ENOMEM : 0;
	}
	freep(&f->key);
	return r;
}

static int take_key(struct build *b, struct frame *f, const yaml_event_t *e)
{
	const char *text = (const char *)e->data.scalar.value;
	unsigned line = (unsigned)e->start_mark.line + 1;

	if (strlen(text) != e->data.scalar.length)
		return fail(b, line, "a key holds a NUL byte");
	if (json_object_get(f->node, text))
		return fail(b, line, "the key '%.64s' stands twice", text);
	if (e->data.scalar.anchor)
		return fail(b, line, "a key cannot have an anchor");
	f->key = strdup(text);
	return f->key ? 0 : -ENOMEM;
}

static int on_scalar(struct build *b, const yaml_event_t *e)
{
	struct frame *f = b->depth ? &b->stack[b->depth - 1] : NULL;
	unsigned line = (unsigned)e->start_mark.line + 1;
	json_t *v = NULL;
	int r;

	if (f && json_is_object(f->node) && !f->key)
		return take_key(b, f, e);
	r = scalar(b, e, &v);
	if (r < 0)
		return r;
	r = remember(b, (const char *)e->data.scalar.anchor, v, 1, line);
	if (r < 0) {
		json_decref(v);
		return r;
	}
	return place(b, v, 1, line);
}

static int on_alias(struct build *b, const yaml_event_t *e)
{
	const char *name = (const char *)e->data.alias.anchor;
	unsigned line = (unsigned)e->start_mark.line + 1, i;

	for (i = 0; i < b->nanchors && strcmp(b->anchors[i].name, name); i++)
		;
	if (i == b->nanchors)
		return fail(b, line, "the alias '*%.64s' has no anchor before it", name);
	b->aliased += b->anchors[i].nodes;
	if (b->aliased > BN_YAML_ALIASED_MAX)
		return fail(b, line, "aliases expand to more than %d nodes", BN_YAML_ALIASED_MAX);
	return place(b, json_incref(b->anchors[i].node), b->anchors[i].nodes, line);
}

static int on_open(struct build *b, const yaml_event_t *e, bool map)
{
	const char *tag = (const char *)(map ? e->data.mapping_start.tag :
					       e->data.sequence_start.tag);
	const char *anchor = (const char *)(map ? e->data.mapping_start.anchor :
						  e->data.sequence_start.anchor);
	unsigned line = (unsigned)e->start_mark.line + 1;
	struct frame *up = b->depth ? &b->stack[b->depth - 1] : NULL, *f;

	if (b->depth == BN_YAML_DEPTH_MAX)
		return fail(b, line, "nested deeper than %d", BN_YAML_DEPTH_MAX);
	if (up && json_is_object(up->node) && !up->key)
		return fail(b, line, "a key must be a scalar");
	if (tag && strcmp(tag, map ? YAML_MAP_TAG : YAML_SEQ_TAG) && strcmp(tag, "!"))
		return fail(b, line, "the tag '%.64s' is not understood", tag);
	f = &b->stack[b->depth++];
	*f = (struct frame){ .line = line, .nodes = 1 };
	f->node = map ? json_object() : json_array();
	f->anchor = anchor ? strdup(anchor) : NULL;
	return f->node && (!anchor || f->anchor) ? 0 : -ENOMEM;
}

/* A member of `items` at the top of the document, which may be handed out at once. */
static bool is_item(const struct build *b, const struct frame *f)
{
	return b->depth == 2 && json_is_object(f->node) && json_is_array(b->stack[1].node) &&
	       json_is_object(b->stack[0].node) && b->stack[0].key &&
	       !strcmp(b->stack[0].key, "items");
}

static int on_close(struct build *b)
{
	struct frame f = b->stack[--b->depth];
	json_t *e;
	size_t i;
	int r = 0;

	b->stack[b->depth] = (struct frame){ 0 };
	json_array_foreach(f.merge, i, e) {
		if (json_object_update_missing(f.node, e))
			r = -ENOMEM;
	}
	r = r ?: remember(b, f.anchor, f.node, f.nodes, f.line);
	if (!r && is_item(b, &f))
		r = b->fn(f.node, f.line, true, b->data);
	if (r > 0) {
		json_decref(f.node);
		f.node = json_null();
		r = 0;
	}
	r = r ?: place(b, TAKE_PTR(f.node), f.nodes, f.line);
	frame_drop(&f);
	return r;
}

static int on_event(struct build *b, const yaml_event_t *e)
{
	int r = 0;

	switch (e->type) {
	case YAML_DOCUMENT_START_EVENT:
		build_clear(b);
		break;
	case YAML_DOCUMENT_END_EVENT:
		if (b->root && !json_is_null(b->root))
			r = b->fn(b->root, b->root_line, false, b->data);
		r = r < 0 ? r : 0;
		build_clear(b);
		break;
	case YAML_SCALAR_EVENT:
		r = on_scalar(b, e);
		break;
	case YAML_ALIAS_EVENT:
		r = on_alias(b, e);
		break;
	case YAML_SEQUENCE_START_EVENT:
		r = on_open(b, e, false);
		break;
	case YAML_MAPPING_START_EVENT:
		r = on_open(b, e, true);
		break;
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		r = on_close(b);
		break;
	default:
		break;
	}
	return r;
}

static int syntax_error(struct build *b)
{
	const yaml_parser_t *p = &b->parser;
	unsigned line = (unsigned)p->problem_mark.line + 1;

	if (p->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (p->error == YAML_READER_ERROR) {
		const char *c;

		/* the reader knows the byte only */
		for (line = 1, c = (const char *)p->input.string.start;
		     c < (const char *)p->input.string.end &&
		     c < (const char *)p->input.string.start + p->problem_offset; c++)
			line += *c == '\n';
		return fail(b, line, "%s", p->problem ?: "not readable");
	}
	if (p->context && p->context_mark.line != p->problem_mark.line)
		return fail(b, line, "%s (%s, line %zu)", p->problem ?: "bad YAML", p->context,
			    p->context_mark.line + 1);
	return fail(b, line, "%s", p->problem ?: "bad YAML");
}

int bn_yaml_parse(const char *text, size_t len, bn_yaml_fn fn, void *data, struct bn_yaml_err *err)
{
	_cleanup_(freep) struct build *b = calloc(1, sizeof(*b));
	yaml_event_t e;
	bool end = false;
	int r = 0;

	*err = (struct bn_yaml_err){ 0 };
	if (!b || !yaml_parser_initialize(&b->parser))
		return -ENOMEM;
	b->fn = fn;
	b->data = data;
	b->err = err;
	yaml_parser_set_input_string(&b->parser, (const unsigned char *)text, len);
	while (!r && !end) {
		if (!yaml_parser_parse(&b->parser, &e)) {
			r = syntax_error(b);
			break;
		}
		end = e.type == YAML_STREAM_END_EVENT;
		r = on_event(b, &e);
		yaml_event_delete(&e);
	}
	build_clear(b);
	yaml_parser_delete(&b->parser);
	return r;
}
