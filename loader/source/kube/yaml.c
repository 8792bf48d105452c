/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <yaml.h>

#include "loader/source/kube/config.h"

/* Deep enough for any kubeconfig, and the recursion stays far from the stack's end. */
#define DEPTH_MAX 64

struct loader {
	yaml_parser_t p;
	char *err;
};

static int fail(struct loader *l, const yaml_event_t *ev, const char *what)
{
	size_t line = ev ? ev->start_mark.line : l->p.problem_mark.line;

	snprintf(l->err, 256, "line %zu: %s", line + 1, what);
	return -EINVAL;
}

static int next(struct loader *l, yaml_event_t *ev)
{
	if (!yaml_parser_parse(&l->p, ev))
		return fail(l, NULL, l->p.problem ?: "not YAML");
	return 0;
}

static json_t *scalar(const yaml_event_t *ev)
{
	const char *s = (const char *)ev->data.scalar.value;
	size_t n = ev->data.scalar.length;

	if (ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return json_stringn(s, n);
	if (!n || !strcmp(s, "~") || !strcasecmp(s, "null"))
		return json_null();
	if (!strcasecmp(s, "true") || !strcasecmp(s, "false"))
		return json_boolean(!strcasecmp(s, "true"));
	/* Numbers stay text: no field of a kubeconfig that we read is one, and a token may look so. */
	return json_stringn(s, n);
}

static int value(struct loader *l, yaml_event_t *ev, unsigned depth, json_t **ret);

static int mapping(struct loader *l, unsigned depth, json_t *obj)
{
	for (;;) {
		_cleanup_(bn_wipe_freep) char *key = NULL;
		json_t *val = NULL;
		yaml_event_t ev;
		int r = next(l, &ev);

		if (r < 0)
			return r;
		if (ev.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&ev);
			return 0;
		}
		if (ev.type == YAML_SCALAR_EVENT)
			key = strdup((const char *)ev.data.scalar.value);
		else
			r = fail(l, &ev, "a key must be a plain value");
		yaml_event_delete(&ev);
		if (!key)
			return r ?: -ENOMEM;
		if (json_object_get(obj, key))
			return fail(l, NULL, "a key is given twice");
		r = next(l, &ev);
		if (r < 0)
			return r;
		r = value(l, &ev, depth + 1, &val);
		yaml_event_delete(&ev);
		if (r < 0)
			return r;
		if (json_object_set_new(obj, key, val))
			return fail(l, NULL, "a key that is not UTF-8");
	}
}

static int sequence(struct loader *l, unsigned depth, json_t *arr)
{
	for (;;) {
		json_t *val = NULL;
		yaml_event_t ev;
		int r = next(l, &ev);

		if (r < 0)
			return r;
		if (ev.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&ev);
			return 0;
		}
		r = value(l, &ev, depth + 1, &val);
		yaml_event_delete(&ev);
		if (r < 0)
			return r;
		if (json_array_append_new(arr, val))
			return -ENOMEM;
	}
}

static int value(struct loader *l, yaml_event_t *ev, unsigned depth, json_t **ret)
{
	json_t *v = NULL;
	int r = 0;

	if (depth > DEPTH_MAX)
		return fail(l, ev, "nested too deeply");
	switch (ev->type) {
	case YAML_SCALAR_EVENT:
		v = scalar(ev);
		if (!v)
			return fail(l, ev, "a value that is not UTF-8");
		break;
	case YAML_MAPPING_START_EVENT:
		v = json_object();
		r = v ? mapping(l, depth, v) : -ENOMEM;
		break;
	case YAML_SEQUENCE_START_EVENT:
		v = json_array();
		r = v ? sequence(l, depth, v) : -ENOMEM;
		break;
	case YAML_ALIAS_EVENT:
		return fail(l, ev, "aliases are not supported here");
	default:
		return fail(l, ev, "unexpected end");
	}
	if (r < 0) {
		json_decref(v);
		return r;
	}
	*ret = v;
	return 0;
}

int bn_kube_yaml_load(const char *text, size_t n, json_t **ret, char err[static 256])
{
	struct loader l = { .err = err };
	bool done = false;
	int r;

	if (!yaml_parser_initialize(&l.p))
		return -ENOMEM;
	yaml_parser_set_input_string(&l.p, (const unsigned char *)text, n);
	*ret = NULL;
	do {
		yaml_event_t ev;

		r = next(&l, &ev);
		if (r < 0)
			break;
		switch (ev.type) {
		case YAML_STREAM_START_EVENT:
		case YAML_DOCUMENT_START_EVENT:
			break;
		case YAML_DOCUMENT_END_EVENT: /* further documents are not read, as client-go */
		case YAML_STREAM_END_EVENT:
			done = true;
			break;
		default:
			r = value(&l, &ev, 0, ret);
		}
		yaml_event_delete(&ev);
	} while (r == 0 && !done);
	yaml_parser_delete(&l.p);
	if (r == 0 && !*ret)
		*ret = json_object();
	if (r < 0) {
		json_decref(*ret);
		*ret = NULL;
	}
	return r;
}
