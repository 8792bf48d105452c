/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "cli/out.h"

static int write_cb(void *data, unsigned char *buf, size_t len)
{
	return fwrite(buf, 1, len, data) == len;
}

/* May this string stand without quotes and still be read as a string, by YAML 1.1 and 1.2 parsers?
 * Letters first rules numbers, dates and addresses out; the words below are other types to somebody.
 */
static bool plain(const char *s)
{
	static const char *const words[] = { "y",  "n",	  "yes", "no",	 "on", "off", "true",
					     "false", "null", "nan", "inf", "infinity" };

	if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcasecmp(s, words[i]))
			return false;
	for (; *s; s++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./", *s))
			return false;
	return true;
}

static int put_scalar(yaml_emitter_t *e, const char *text, bool quoted)
{
	yaml_event_t ev;

	if (!yaml_scalar_event_initialize(&ev, NULL, NULL, (yaml_char_t *)text, strlen(text), !quoted,
					  quoted,
					  quoted ? YAML_DOUBLE_QUOTED_SCALAR_STYLE :
						   YAML_PLAIN_SCALAR_STYLE))
		return -ENOMEM;
	return yaml_emitter_emit(e, &ev) ? 0 : -EIO;
}

static int put_string(yaml_emitter_t *e, const char *s)
{
	return put_scalar(e, s, !plain(s));
}

static int put(yaml_emitter_t *e, const json_t *v);

static int put_array(yaml_emitter_t *e, const json_t *v)
{
	yaml_event_t ev;
	const json_t *x;
	size_t i;
	int r;

	yaml_sequence_start_event_initialize(&ev, NULL, NULL, 1,
					     json_array_size(v) ? YAML_BLOCK_SEQUENCE_STYLE :
								  YAML_FLOW_SEQUENCE_STYLE);
	if (!yaml_emitter_emit(e, &ev))
		return -EIO;
	json_array_foreach(v, i, x) {
		r = put(e, x);
		if (r < 0)
			return r;
	}
	yaml_sequence_end_event_initialize(&ev);
	return yaml_emitter_emit(e, &ev) ? 0 : -EIO;
}

static int put_object(yaml_emitter_t *e, const json_t *v)
{
	yaml_event_t ev;
	const char *key;
	json_t *x;
	int r;

	yaml_mapping_start_event_initialize(&ev, NULL, NULL, 1,
					    json_object_size(v) ? YAML_BLOCK_MAPPING_STYLE :
								  YAML_FLOW_MAPPING_STYLE);
	if (!yaml_emitter_emit(e, &ev))
		return -EIO;
	json_object_foreach((json_t *)v, key, x) {
		r = put_string(e, key);
		r = r ?: put(e, x);
		if (r < 0)
			return r;
	}
	yaml_mapping_end_event_initialize(&ev);
	return yaml_emitter_emit(e, &ev) ? 0 : -EIO;
}

static int put(yaml_emitter_t *e, const json_t *v)
{
	char buf[64];

	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return put_object(e, v);
	case JSON_ARRAY:
		return put_array(e, v);
	case JSON_STRING:
		return put_string(e, json_string_value(v));
	case JSON_INTEGER:
		snprintf(buf, sizeof(buf), "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		return put_scalar(e, buf, false);
	case JSON_REAL:
		snprintf(buf, sizeof(buf), "%.15g", json_real_value(v));
		if (!strpbrk(buf, ".en"))
			strcat(buf, ".0");
		return put_scalar(e, buf, false);
	case JSON_TRUE:
		return put_scalar(e, "true", false);
	case JSON_FALSE:
		return put_scalar(e, "false", false);
	case JSON_NULL:
		break;
	}
	return put_scalar(e, "null", false);
}

int bn_out_yaml(FILE *out, const json_t *data)
{
	yaml_emitter_t e;
	yaml_event_t ev;
	int r = -EIO;

	if (!yaml_emitter_initialize(&e))
		return -ENOMEM;
	yaml_emitter_set_output(&e, write_cb, out);
	yaml_emitter_set_unicode(&e, 1);
	yaml_emitter_set_width(&e, -1);
	yaml_stream_start_event_initialize(&ev, YAML_UTF8_ENCODING);
	if (!yaml_emitter_emit(&e, &ev))
		goto out;
	yaml_document_start_event_initialize(&ev, NULL, NULL, NULL, 1);
	if (!yaml_emitter_emit(&e, &ev))
		goto out;
	r = put(&e, data);
	yaml_document_end_event_initialize(&ev, 1);
	if (!yaml_emitter_emit(&e, &ev))
		r = r ?: -EIO;
	yaml_stream_end_event_initialize(&ev);
	if (!yaml_emitter_emit(&e, &ev) || !yaml_emitter_flush(&e))
		r = r ?: -EIO;
out:
	yaml_emitter_delete(&e);
	return r;
}
