/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/fields.h"

#include <stdarg.h>
#include <string.h>

void bn_fields_fail(struct bn_fields *f, const char *field, const char *fmt, ...)
{
	char msg[200];
	va_list ap;

	if (f->r < 0)
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	snprintf(f->err, 512, "%s: %s%s%s: %s", f->file, f->where, *field ? "." : "", field, msg);
	f->r = -EINVAL;
}

const char *bn_fields_text(struct bn_fields *f, const json_t *o, const char *field)
{
	const json_t *v = json_object_get(o, field);

	if (!v || json_is_null(v) || f->r < 0)
		return NULL;
	if (!json_is_string(v)) {
		bn_fields_fail(f, field, "must be a string");
		return NULL;
	}
	if (strlen(json_string_value(v)) != json_string_length(v)) {
		bn_fields_fail(f, field, "holds a NUL byte");
		return NULL;
	}
	return json_string_length(v) ? json_string_value(v) : NULL;
}

bool bn_fields_bool(struct bn_fields *f, const json_t *o, const char *field)
{
	const json_t *v = json_object_get(o, field);

	if (v && !json_is_null(v) && !json_is_boolean(v))
		bn_fields_fail(f, field, "must be true or false");
	return json_is_true(v);
}

void bn_fields_str(struct bn_fields *f, const json_t *o, const char *field, char **ret)
{
	const char *s = bn_fields_text(f, o, field);

	if (!s)
		return;
	*ret = strdup(s);
	if (!*ret)
		f->r = -ENOMEM;
}

char *bn_kube_path_beside(const char *file, const char *path)
{
	const char *slash = strrchr(file, '/');
	char *out = NULL;

	if (path[0] == '/' || !slash)
		return strdup(path);
	if (asprintf(&out, "%.*s/%s", (int)(slash - file), file, path) < 0)
		return NULL;
	return out;
}

void bn_fields_path(struct bn_fields *f, const json_t *o, const char *field, char **ret)
{
	const char *s = bn_fields_text(f, o, field);

	if (!s)
		return;
	*ret = bn_kube_path_beside(f->file, s);
	if (!*ret)
		f->r = -ENOMEM;
}

void bn_fields_secret(struct bn_fields *f, const json_t *o, const char *field,
		      struct bn_secret *ret)
{
	const char *s = bn_fields_text(f, o, field);

	if (!s)
		return;
	/* They end up in a header: a line break would add another one. */
	for (const char *p = s; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			bn_fields_fail(f, field, "holds a control character");
			return;
		}
	if (bn_secret_set(ret, s, strlen(s)) < 0)
		f->r = -ENOMEM;
}

void bn_fields_base64(struct bn_fields *f, const json_t *o, const char *field,
		      struct bn_secret *ret)
{
	const char *s = bn_fields_text(f, o, field);

	if (s && bn_secret_set_base64(ret, s) < 0)
		bn_fields_fail(f, field, "is not base64");
}

void bn_fields_list(struct bn_fields *f, const json_t *o, const char *field, char ***ret)
{
	const json_t *v = json_object_get(o, field), *item;
	size_t i, n = json_array_size(v);

	if (!v || json_is_null(v) || f->r < 0)
		return;
	if (!json_is_array(v)) {
		bn_fields_fail(f, field, "must be a list of strings");
		return;
	}
	if (!n)
		return;
	_cleanup_(bn_strv_freep) char **out = calloc(n + 1, sizeof(*out));

	if (!out) {
		f->r = -ENOMEM;
		return;
	}
	json_array_foreach((json_t *)v, i, item)
	{
		if (!json_is_string(item)) {
			bn_fields_fail(f, field, "must be a list of strings");
			return;
		}
		out[i] = strdup(json_string_value(item));
		if (!out[i]) {
			f->r = -ENOMEM;
			return;
		}
	}
	*ret = TAKE_PTR(out);
}

void bn_strv_freep(char ***v)
{
	for (char **s = *v; s && *s; s++)
		bn_wipe_freep(s);
	free(*v);
	*v = NULL;
}
