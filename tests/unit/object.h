/* SPDX-License-Identifier: MIT */
#ifndef BN_TEST_OBJECT_H
#define BN_TEST_OBJECT_H

/* Texts given to bn_object_parse, and what becomes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/object.h"

/* JSON with ' for " so that cases can be read. */
static _unused_ json_t *quoted(const char *text)
{
	char *s = strdup(text), *p;
	json_error_t e;
	json_t *j;

	for (p = s; *p; p++) {
		if (*p == '\'')
			*p = '"';
	}
	j = json_loads(s, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
	if (!j)
		fail_msg("%s in %s", e.text, s);
	free(s);
	return j;
}

static _unused_ int parse(const char *text, struct bn_obj **ret, struct bn_err *err)
{
	json_t *j = quoted(text);
	int r = bn_object_parse(j, ret, err);

	json_decref(j);
	return r;
}

struct verdict {
	const char *what;  /* put into the template */
	const char *field; /* NULL: good */
};

/* fmt has one %s for what is judged. */
static _unused_ void judge(const char *fmt, const struct verdict *v, size_t n)
{
	char text[8192];
	size_t i;

	for (i = 0; i < n; i++) {
		struct bn_obj *o = NULL;
		struct bn_err err;
		int r;

		snprintf(text, sizeof(text), fmt, v[i].what);
		r = parse(text, &o, &err);
		if (v[i].field ? r != -EINVAL || strcmp(err.field, v[i].field) : r != 0)
			fail_msg("%s: %d, field '%s' (%s), not '%s'", v[i].what, r, err.field, err.msg,
				 v[i].field ?: "good");
		if (v[i].field)
			assert_true(err.msg[0]);
		bn_obj_unref(o);
	}
}

#define JUDGE(fmt, v) judge(fmt, v, ARRAY_SIZE(v))

static _unused_ void *good(const char *text)
{
	struct bn_obj *o = NULL;
	struct bn_err err;

	if (parse(text, &o, &err))
		fail_msg("%s: %s: %s", text, err.field, err.msg);
	return o;
}

static _unused_ void assert_addr(const struct bn_addr *a, const char *text)
{
	char buf[BN_ADDR_STRLEN];

	assert_string_equal(bn_addr_format(a, buf), text);
}

#endif
