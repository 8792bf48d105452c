/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/json.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "maps/util.h"

/* The API's own types are at most about 15 deep; CRDs may be deeper, but not without limit. */
#define DEPTH_MAX 128

struct in {
	const char *p, *end;
	char *tmp; /* unescaped strings; of cap bytes */
	size_t cap;
	int err; /* why NULL was returned */
};

static void space(struct in *in)
{
	while (in->p < in->end &&
	       (*in->p == ' ' || *in->p == '\n' || *in->p == '\t' || *in->p == '\r'))
		in->p++;
}

static void *bad(struct in *in)
{
	if (!in->err)
		in->err = -EBADMSG;
	return NULL;
}

static void *no_memory(struct in *in)
{
	in->err = -ENOMEM;
	return NULL;
}

static int hex4(const char *p, const char *end)
{
	int v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = p[i];

		v <<= 4;
		if (c >= '0' && c <= '9')
			v |= c - '0';
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			v |= (c | 32) - 'a' + 10;
		else
			return -1;
	}
	return v;
}

static char *put_utf8(char *q, uint32_t c)
{
	if (c < 0x80) {
		*q++ = c;
	} else if (c < 0x800) {
		*q++ = 0xc0 | c >> 6;
		*q++ = 0x80 | (c & 63);
	} else if (c < 0x10000) {
		*q++ = 0xe0 | c >> 12;
		*q++ = 0x80 | (c >> 6 & 63);
		*q++ = 0x80 | (c & 63);
	} else {
		*q++ = 0xf0 | c >> 18;
		*q++ = 0x80 | (c >> 12 & 63);
		*q++ = 0x80 | (c >> 6 & 63);
		*q++ = 0x80 | (c & 63);
	}
	return q;
}

/* Four hex digits, and four more when they are half of a pair. A NUL is the reader's of the string to refuse,
 * who can name the field.
 */
static bool unescape_u(struct in *in, char **q)
{
	int c = hex4(in->p, in->end), lo;

	if (c < 0 || (c >= 0xdc00 && c < 0xe000))
		return false;
	in->p += 4;
	if (c >= 0xd800 && c < 0xdc00) {
		if (in->end - in->p < 6 || in->p[0] != '\\' || in->p[1] != 'u')
			return false;
		lo = hex4(in->p + 2, in->end);
		if (lo < 0xdc00 || lo > 0xdfff)
			return false;
		in->p += 6;
		c = 0x10000 + ((c - 0xd800) << 10) + (lo - 0xdc00);
	}
	*q = put_utf8(*q, c);
	return true;
}

/* The rest of a string that has escapes, from the first one on. */
static const char *unescape(struct in *in, const char *from, size_t *n)
{
	static const char letters[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
	size_t room = in->end - from;
	const char *l;
	char *q;

	if (in->cap < room) { /* an escape is never shorter than what it stands for */
		q = realloc(in->tmp, room);
		if (!q)
			return no_memory(in);
		in->tmp = q;
		in->cap = room;
	}
	memcpy(in->tmp, from, in->p - from);
	q = in->tmp + (in->p - from);
	while (in->p < in->end) {
		unsigned char c = *in->p++;

		if (c == '"') {
			*n = q - in->tmp;
			return in->tmp;
		}
		if (c < 0x20)
			break;
		if (c != '\\') {
			*q++ = c;
			continue;
		}
		if (in->p == in->end)
			break;
		c = *in->p++;
		if (c == 'u') {
			if (!unescape_u(in, &q))
				break;
			continue;
		}
		for (l = letters; *l && (unsigned char)*l != c; l += 2)
			;
		if (!*l)
			break;
		*q++ = l[1];
	}
	return bad(in);
}

/* After the opening quote. Points into the text, or into tmp until the next string. */
static const char *string(struct in *in, size_t *n, bool *ascii)
{
	const char *from = in->p;
	unsigned char all = 0;

	for (; in->p < in->end; in->p++) {
		unsigned char c = *in->p;

		if (c == '"') {
			*ascii = all < 0x80;
			*n = in->p++ - from;
			return from;
		}
		if (c == '\\') {
			*ascii = false;
			return unescape(in, from, n);
		}
		if (c < 0x20)
			break;
		all |= c;
	}
	return bad(in);
}

/* Steps over a value that nobody wants: balanced brackets, whole strings. */
static bool skip(struct in *in)
{
	unsigned depth = 0;

	for (; in->p < in->end; in->p++) {
		switch (*in->p) {
		case '"':
			for (in->p++; in->p < in->end && *in->p != '"'; in->p++)
				if (*in->p == '\\')
					in->p++;
			if (in->p >= in->end)
				return bad(in);
			break;
		case '{':
		case '[':
			depth++;
			break;
		case '}':
		case ']':
			if (!depth)
				return true;
			depth--;
			break;
		case ',':
			if (!depth)
				return true;
			break;
		}
	}
	return bad(in);
}

static json_t *value(struct in *in, const struct bn_json_mask *mask, unsigned depth);

/* The mask's entry for a key; NULL when it is not wanted. */
static const struct bn_json_mask *wanted(const struct bn_json_mask *mask, const char *key, size_t n)
{
	for (; mask->key; mask++)
		if ((!strncmp(mask->key, key, n) && !mask->key[n]) || !strcmp(mask->key, BN_JSON_OTHERS))
			return mask;
	return NULL;
}

/* One member after its opening quote. False on error. */
static bool member(struct in *in, const struct bn_json_mask *mask, unsigned depth, json_t *o)
{
	const struct bn_json_mask *sub = NULL;
	_cleanup_(freep) char *copy = NULL;
	const char *key;
	json_t *v;
	size_t n;
	bool ascii;
	int r;

	key = string(in, &n, &ascii);
	if (!key)
		return false;
	if (memchr(key, 0, n))
		return bad(in);
	space(in);
	if (in->p == in->end || *in->p++ != ':')
		return bad(in);
	if (mask && !(sub = wanted(mask, key, n)))
		return skip(in);
	if (key == in->tmp) { /* a string in the value would overwrite it */
		key = copy = strndup(key, n);
		if (!copy)
			return no_memory(in);
	}
	v = value(in, sub ? sub->sub : NULL, depth + 1);
	if (!v)
		return false;
	r = ascii ? json_object_setn_new_nocheck(o, key, n, v) : json_object_setn_new(o, key, n, v);
	return r ? bad(in) != NULL : true;
}

static json_t *object(struct in *in, const struct bn_json_mask *mask, unsigned depth)
{
	json_t *o = json_object();

	if (!o)
		return no_memory(in);
	space(in);
	if (in->p < in->end && *in->p == '}') {
		in->p++;
		return o;
	}
	while (in->p < in->end) {
		space(in);
		if (in->p == in->end || *in->p++ != '"' || !member(in, mask, depth, o))
			break;
		space(in);
		if (in->p == in->end)
			break;
		if (*in->p == '}') {
			in->p++;
			return o;
		}
		if (*in->p++ != ',')
			break;
	}
	json_decref(o);
	return bad(in);
}

static json_t *array(struct in *in, const struct bn_json_mask *mask, unsigned depth)
{
	json_t *a = json_array(), *v;

	if (!a)
		return no_memory(in);
	space(in);
	if (in->p < in->end && *in->p == ']') {
		in->p++;
		return a;
	}
	while ((v = value(in, mask, depth + 1))) {
		if (json_array_append_new(a, v)) {
			in->err = -ENOMEM;
			break;
		}
		space(in);
		if (in->p == in->end)
			break;
		if (*in->p == ']') {
			in->p++;
			return a;
		}
		if (*in->p++ != ',')
			break;
	}
	json_decref(a);
	return bad(in);
}

static json_t *number(struct in *in)
{
	const char *from = in->p, *p = in->p;
	bool real = false;
	char buf[64];
	json_t *v;
	size_t n;

	while (p < in->end && strchr("+-0123456789.eE", *p) && *p)
		real |= strchr(".eE", *p++) != NULL;
	n = p - from;
	in->p = p;
	/* Few and short: jansson decides what is a number. */
	if (!n || n >= sizeof(buf))
		return bad(in);
	if (!real && n < 18) {
		const char *d = from + (*from == '-');
		int64_t i = 0;

		if (d == p || (*d == '0' && d + 1 < p))
			return bad(in);
		for (; d < p; d++) {
			if (*d < '0' || *d > '9')
				return bad(in);
			i = i * 10 + (*d - '0');
		}
		return json_integer(*from == '-' ? -i : i) ?: no_memory(in);
	}
	v = json_loadb(from, n, JSON_DECODE_ANY, NULL);
	return v ?: bad(in);
}

static json_t *word(struct in *in, const char *text, json_t *v)
{
	size_t n = strlen(text);

	if ((size_t)(in->end - in->p) < n || memcmp(in->p, text, n))
		return bad(in);
	in->p += n;
	return v;
}

static json_t *value(struct in *in, const struct bn_json_mask *mask, unsigned depth)
{
	const char *s;
	json_t *v;
	size_t n;
	bool ascii;

	space(in);
	if (in->p == in->end || depth > DEPTH_MAX)
		return bad(in);
	switch (*in->p) {
	case '{':
		in->p++;
		return object(in, mask, depth);
	case '[':
		in->p++;
		return array(in, mask, depth);
	case '"':
		in->p++;
		s = string(in, &n, &ascii);
		if (!s)
			return NULL;
		v = ascii ? json_stringn_nocheck(s, n) : json_stringn(s, n);
		return v ?: bad(in);
	case 't':
		return word(in, "true", json_true());
	case 'f':
		return word(in, "false", json_false());
	case 'n':
		return word(in, "null", json_null());
	default:
		return number(in);
	}
}

int bn_json_load(const char *p, size_t n, const struct bn_json_mask *mask, json_t **ret)
{
	struct in in = { .p = p, .end = p + n };
	json_t *v;

	v = value(&in, mask, 0);
	space(&in);
	free(in.tmp);
	if (v && in.p != in.end) {
		json_decref(v);
		v = NULL;
	}
	if (!v)
		return in.err ?: -EBADMSG;
	*ret = v;
	return 0;
}
