/* SPDX-License-Identifier: MIT */
/* YAML to JSON, and manifest texts to objects with their lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/manifest.h"
#include "policy/yaml.h"

struct out {
	char text[4096];
	size_t len;
	bool take_items;
};

static int on_node(json_t *node, unsigned line, bool item, void *data)
{
	struct out *o = data;
	char *s;

	if (item && !o->take_items)
		return 0;
	s = json_dumps(node, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
	assert_non_null(s);
	o->len += (size_t)snprintf(o->text + o->len, sizeof(o->text) - o->len, "%s%u:%s",
				   o->len ? " " : "", line, s);
	free(s);
	return item;
}

static void test_documents(void **state)
{
	static const struct {
		const char *yaml, *want;
	} t[] = {
		{ "", "" },
		{ "# comment\n", "" },
		{ "a: 1", "1:{\"a\":1}" },
		{ "\n\na: {b: [1, x]}\n---\n---\n- y", "3:{\"a\":{\"b\":[1,\"x\"]}} 6:[\"y\"]" },
		{ "a: &x {b: 1}\nc: *x\n", "1:{\"a\":{\"b\":1},\"c\":{\"b\":1}}" },
		{ "a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  b: 3\n",
		  "1:{\"a\":{\"b\":1,\"c\":2},\"d\":{\"b\":3,\"c\":2}}" },
		{ "d:\n  <<: [{a: 1}, {a: 2, b: 3}]\n", "1:{\"d\":{\"a\":1,\"b\":3}}" },
		{ "a: |\n  x\n  y\nb: >-\n  x\n  y\n", "1:{\"a\":\"x\\ny\\n\",\"b\":\"x y\"}" },
		{ "%YAML 1.1\n---\na: b\n...\n", "3:{\"a\":\"b\"}" },
		{ "{\"a\": [1, null, true]}", "1:{\"a\":[1,null,true]}" },
		{ "a: \"x\\0y\"", "1:{\"a\":\"x\\u0000y\"}" },
		{ "yes: 1\n2: x\ntrue: y", "1:{\"2\":\"x\",\"true\":\"y\",\"yes\":1}" },
		{ "a: !!str 1\nb: !!int \"2\"\nc: ! 3", "1:{\"a\":\"1\",\"b\":2,\"c\":\"3\"}" },
	};
	struct bn_yaml_err err;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		struct out o = { .len = 0 };
		int r = bn_yaml_parse(t[i].yaml, strlen(t[i].yaml), on_node, &o, &err);

		if (r || strcmp(o.text, t[i].want))
			fail_msg("%s: %d line %u %s: %s", t[i].yaml, r, err.line, err.msg, o.text);
	}
}

static void test_scalars(void **state)
{
	static const struct {
		const char *yaml, *want;
	} t[] = {
		{ "~", "null" },	    { "null", "null" },	       { "Null", "null" },
		{ "nULL", "\"nULL\"" },	    { "", "null" },	       { "true", "true" },
		{ "True", "true" },	    { "tRUE", "\"tRUE\"" },    { "yes", "true" },
		{ "Off", "false" },	    { "n", "\"n\"" },	       { "Y", "\"Y\"" },
		{ "'yes'", "\"yes\"" },	    { "\"1\"", "\"1\"" },      { "1", "1" },
		{ "-7", "-7" },		    { "+7", "7" },	       { "0x1f", "31" },
		{ "0o17", "15" },	    { "017", "15" },	       { "0b11", "3" },
		{ "1_000", "1000" },	    { "08", "8" },	       { "1.5", "1.5" },
		{ "80.0", "80" },	    { "1e3", "1000" },	       { ".5", "0.5" },
		{ "1.2.3", "\"1.2.3\"" },   { "10.0.0.1", "\"10.0.0.1\"" },
		{ "1:30", "\"1:30\"" },	    { "2026-01-01", "\"2026-01-01\"" },
		{ "0x", "\"0x\"" },	    { "-", "\"-\"" },	       { "1e", "\"1e\"" },
		{ ".2_5", "0.25" },	    { "0x1p3", "\"0x1p3\"" },  { "nan", "\"nan\"" },
		{ "infinity", "\"infinity\"" },			       { ".inf", NULL },
		{ "-.INF", NULL },	    { ".nan", NULL },	       { "1e999", NULL },
		{ "9223372036854775807", "9223372036854775807" },      { "!!binary aGk=", NULL },
		{ "!!int x", NULL },	    { "!mine x", NULL },       { "fd00::1", "\"fd00::1\"" },
		{ "-x", "\"-x\"" },	    { "+", "\"+\"" },	       { ".", "\".\"" },
	};
	struct bn_yaml_err err;
	char yaml[80], want[100];
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		struct out o = { .len = 0 };
		int r;

		snprintf(yaml, sizeof(yaml), "[a, %s]", t[i].yaml);
		if (!*t[i].yaml)
			snprintf(yaml, sizeof(yaml), "[a, !!null ]");
		snprintf(want, sizeof(want), "1:[\"a\",%s]", t[i].want ?: "");
		r = bn_yaml_parse(yaml, strlen(yaml), on_node, &o, &err);
		if (t[i].want ? r || strcmp(o.text, want) : r != -EINVAL)
			fail_msg("%s: %d %s: %s", t[i].yaml, r, err.msg, o.text);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *yaml;
		unsigned line;
		const char *msg;
	} t[] = {
		{ "a: 1\na: 2", 2, "the key 'a' stands twice" },
		{ "a:\n\tb: 1", 2, "cannot start any token" },
		{ "a: [1", 1, "flow sequence" },
		{ "a: 1\nb: *x", 2, "alias '*x'" },
		{ "a: &x [*x]", 1, "alias '*x'" },
		{ "? [1]\n: 2", 1, "key must be a scalar" },
		{ "a: 1\n<<: 3", 2, "'<<' needs" },
		{ "a: \"\\ud800\"", 1, "escape" },
		{ "a: \xff", 1, "UTF-8" },
		{ "x: 1\ny: \x01", 2, "control characters" },
	};
	struct bn_yaml_err err;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		struct out o = { .len = 0 };
		int r = bn_yaml_parse(t[i].yaml, strlen(t[i].yaml), on_node, &o, &err);

		if (r != -EINVAL || !strstr(err.msg, t[i].msg) || err.line < t[i].line)
			fail_msg("%s: %d line %u %s", t[i].yaml, r, err.line, err.msg);
	}
}

static void test_bounds(void **state)
{
	char text[4096] = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
	struct bn_yaml_err err;
	struct out o = { .len = 0 };
	size_t n = strlen(text);
	int i;

	(void)state;
	for (i = 1; i < 12; i++)
		n += (size_t)sprintf(text + n, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i,
				     i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	assert_int_equal(bn_yaml_parse(text, n, on_node, &o, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "aliases expand"));
	memset(text, '[', BN_YAML_DEPTH_MAX);
	memset(text + BN_YAML_DEPTH_MAX, ']', BN_YAML_DEPTH_MAX);
	assert_int_equal(bn_yaml_parse(text, 2 * BN_YAML_DEPTH_MAX, on_node, &o, &err), 0);
	memset(text, '[', BN_YAML_DEPTH_MAX + 1);
	memset(text + BN_YAML_DEPTH_MAX + 1, ']', BN_YAML_DEPTH_MAX + 1);
	assert_int_equal(bn_yaml_parse(text, 2 * BN_YAML_DEPTH_MAX + 2, on_node, &o, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "deeper"));
	for (n = 0, i = 0; i <= BN_YAML_ANCHORS_MAX; i++)
		n += (size_t)sprintf(text + n, "- &a%d 1\n", i);
	assert_int_equal(bn_yaml_parse(text, n, on_node, &o, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "anchors"));
}

/* --- manifests ----------------------------------------------------------------------------------- */

static int on_obj(json_t *obj, unsigned line, void *data)
{
	struct out *o = data;
	const char *kind = json_string_value(json_object_get(obj, "kind"));
	const char *name = json_string_value(json_object_get(json_object_get(obj, "metadata"), "name"));

	o->len += (size_t)snprintf(o->text + o->len, sizeof(o->text) - o->len, "%u:%s/%s ", line,
				   kind ?: "?", name ?: "?");
	return 0;
}

static int on_chunk(const struct bn_chunk *c, void *data)
{
	struct bn_manifest_err err;
	struct out *o = data;
	int r = bn_manifest_parse(c, on_obj, o, &err);

	if (r == -EINVAL) {
		assert_true(err.msg[0]);
		o->len += (size_t)snprintf(o->text + o->len, sizeof(o->text) - o->len, "%u:! ", err.line);
	}
	return r == -EINVAL ? 0 : r;
}

static void test_manifests(void **state)
{
	static const struct {
		const char *text, *want;
	} t[] = {
		{ "", "" },
		{ "\n# nothing\n---\n# still\n---\n", "" },
		{ "kind: A\nmetadata: {name: x}", "1:A/x " },
		{ "\xef\xbb\xbfkind: A\nmetadata: {name: x}", "1:A/x " },
		{ "---\nkind: A\nmetadata: {name: x}\n---\nkind: B\nmetadata: {name: y}\n",
		  "2:A/x 5:B/y " },
		{ "kind: A\r\n---\r\nkind: B\r\n", "1:A/? 3:B/? " },
		{ "kind: A\n---\nkind: [\n---\nkind: C\n", "1:A/? 4:! 5:C/? " },
		{ "kind: A\n---\n- 1\n---\nx\n", "1:A/? 3:! 5:! " },
		{ "a: |\n  x\n  ---\n  y\nkind: A\n", "1:A/? " },
		{ "kind: A\n--- # next\nkind: B\n", "1:A/? 3:B/? " },
		{ "kind: A\n---x: 1\n", "1:A/? " },
		{ "%YAML 1.1\n---\nkind: A\n", "3:A/? " },
		{ "{\"kind\":\"A\"}", "1:A/? " },
		{ "{\"kind\":\"A\"}\n\n{\"kind\":\"B\"} {\"kind\":\"C\"}", "1:A/? 3:B/? 3:C/? " },
		{ "{\"kind\":\"A\"}\n---\nkind: B\n---\n{\"kind\":\"C\"}", "1:A/? 3:B/? 5:C/? " },
		{ "{kind: A, x: 'b}c'}", "1:A/? " },
		{ "{\"kind\":\"A\"\n,}", "1:A/? " }, /* YAML takes what JSON does not */
		{ "{\"kind\":\n\"A\" \"B\"}\n", "2:! " },
		{ "{\"kind\":\"A\"} x", "1:A/? 1:! " },
		{ "{\"kind\":\"A\",\"kind\":\"B\"}", "1:! " },
		{ "{\"kind\":\"List\",\"items\":[\n{\"kind\":\"A\"},\n\n{\"kind\":\"B\"}]}", "2:A/? 4:B/? " },
		{ "{\"items\":[{\"metadata\":{\"name\":\"x\"}},\n{\"kind\":\"P\"}],\"kind\":\"ServiceList\"}",
		  "1:Service/x 2:P/? " },
		{ "{\"kind\":\"List\",\"items\":[{\"kind\":\"A\"},{\"kind\":}, {\"kind\":\"C\"}]}",
		  "1:A/? 1:?/? 1:C/? " }, /* again, and then it has no kind */
		{ "{\"kind\":\"List\",\"items\":[{\"kind\":\"A\"},,{\"kind\":\"C\"}]}", "1:A/? 1:! " },
		{ "{\"kind\":\"List\",\"items\":[]}", "" },
		{ "{\"kind\":\"List\",\"items\":null}", "" },
		{ "{\"kind\":\"List\",\"items\":{}}", "1:! " },
		{ "{\"kind\":\"A\",\"items\":[{\"kind\":\"B\"}]}", "1:A/? " },
		{ "{\"kind\":\"List\",\"a\":\"\\\"items\\\":[{\",\"items\":[{\"kind\":\"}]\"}]}", "1:}]/? " },
		{ "kind: List\nitems:\n- kind: A\n- kind: B\n  metadata: {name: y}\n", "3:A/? 4:B/y " },
		{ "items:\n- metadata: {name: x}\n- metadata: {name: y}\nkind: PodList\napiVersion: v1\n",
		  "2:Pod/x 3:Pod/y " },
		{ "kind: List\nitems: 7\n", "1:! " },
		{ "kind: List\nitems: [7]\n", "1:! " },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		struct out o = { .len = 0 };

		assert_int_equal(bn_manifest_split(t[i].text, strlen(t[i].text), on_chunk, &o), 0);
		if (strcmp(o.text, t[i].want))
			fail_msg("%s: %s, not %s", t[i].text, o.text, t[i].want);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_true(bn_manifest_name("a.yaml") && bn_manifest_name("a.b.yml") &&
		    bn_manifest_name("x.json"));
	assert_false(bn_manifest_name(".a.yaml") || bn_manifest_name("a.yaml~") ||
		     bn_manifest_name("yaml") || bn_manifest_name("a.txt"));
}

#define T(fn) cmocka_unit_test(fn)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_documents), T(test_scalars),   T(test_bad),
		T(test_bounds),	   T(test_manifests), T(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
