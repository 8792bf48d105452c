/* SPDX-License-Identifier: MIT */
/* The emitter: tables, JSON, and YAML that is read back by the project's own reader (typed as kubectl
 * types it) and must be the same value; and the script that takes kube-proxy's rules out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "cli/kubeproxy.h"
#include "cli/out.h"
#include "policy/yaml.h"

static const struct bn_col cols[] = {
	{ "NAME", "name", 0 },
	{ "N", "n", BN_COL_RIGHT },
	{ "PATH", "http.path", BN_COL_WIDE },
	{ "LIST", "list", 0 },
	{ 0 },
};

static void expect_table(const char *json, bool wide, const char *want)
{
	json_t *rows = json_loads(json, 0, NULL);
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(rows);
	assert_int_equal(bn_out_table(f, rows, cols, wide), 0);
	fclose(f);
	assert_string_equal(text, want);
	free(text);
	json_decref(rows);
}

static void test_table(_unused_ void **state)
{
	const char *rows = "[{\"name\":\"a\",\"n\":5,\"http\":{\"path\":\"/x\"},\"list\":[\"p\",2]},"
			   "{\"name\":\"longer\",\"n\":1234,\"list\":[]},{\"name\":\"\",\"n\":null}]";

	expect_table(rows, false,
		     "NAME       N  LIST\n"
		     "a          5  p,2\n"
		     "longer  1234  -\n"
		     "-          -  -\n");
	expect_table(rows, true,
		     "NAME       N  PATH  LIST\n"
		     "a          5  /x    p,2\n"
		     "longer  1234  -     -\n"
		     "-          -  -     -\n");
	/* what others wrote cannot steer the terminal */
	expect_table("[{\"name\":\"a\\u001b[31m\\nb\",\"n\":true,\"list\":{\"k\":[1]}}]", false,
		     "NAME              N  LIST\n"
		     "a\\x1b[31m\\x0ab  yes  {\"k\":[1]}\n");
}

static void test_cell(_unused_ void **state)
{
	static const struct {
		const char *json, *key, *text;
	} rows[] = {
		{ "{\"a\":1}", "a", "1" },
		{ "{\"a\":1.5}", "a", "1.5" },
		{ "{\"a\":false}", "a", "no" },
		{ "{\"a\":{\"b\":{\"c\":\"x\"}}}", "a.b.c", "x" },
		{ "{\"a\":{\"b\":1}}", "a.c", "-" },
		{ "{\"a\":\"x\"}", "a.b", "-" },
		{ "{}", "a", "-" },
		{ "[]", "a", "-" },
		{ "{\"a\":[[1,2],[],null]}", "a", "1,2,-,-" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		json_t *o = json_loads(rows[i].json, 0, NULL);
		char *text = bn_out_cell(o, rows[i].key);

		assert_string_equal(text, rows[i].text);
		free(text);
		json_decref(o);
	}
}

static char *yaml_of(const json_t *v)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_int_equal(bn_out_yaml(f, v), 0);
	fclose(f);
	return text;
}

static int take(json_t *node, _unused_ unsigned line, bool item, void *data)
{
	json_t **ret = data;

	if (item)
		return 0;
	*ret = json_deep_copy(node);
	return 0;
}

static void same_value(const json_t *v)
{
	char *text = yaml_of(v);
	struct bn_yaml_err err = { 0 };
	json_t *back = NULL;

	if (bn_yaml_parse(text, strlen(text), take, &back, &err) < 0)
		fail_msg("line %u: %s in\n%s", err.line, err.msg, text);
	if (!json_is_null(v) && !json_equal(v, back))
		fail_msg("not the same:\n%s", text);
	json_decref(back);
	free(text);
}

static void test_yaml_text(_unused_ void **state)
{
	json_t *v = json_loads("{\"a\":[{\"b\":1,\"c\":\"10.0.0.1\"},\"web\"],\"e\":[],\"o\":{},"
			       "\"t\":true,\"n\":null,\"s\":\"yes\",\"port\":\"80\"}", 0, NULL);
	char *text = yaml_of(v);

	assert_string_equal(text, "a:\n- b: 1\n  c: \"10.0.0.1\"\n- web\ne: []\no: {}\nt: true\n"
				  "\"n\": null\ns: \"yes\"\nport: \"80\"\n");
	free(text);
	json_decref(v);
}

/* Strings that some reader takes for something else, or that break the syntax. */
static void test_yaml_strings(_unused_ void **state)
{
	static const char *const words[] = {
		"", " ", "a b", "a: b", "a #b", "#a", "- a", "-", "?", "[", "]", "{", "}", ",", "&a", "*a",
		"!a", "|", ">", "'", "\"", "%a", "@a", "`a", "~", "null", "NULL", "true", "True", "yes", "No",
		"on", "OFF", "y", "N", "1", "0x1f", "0o7", "017", "1_000", "1e3", "1.5", ".5", ".inf", ".NaN",
		"nan", "Infinity", "2026-11-23", "2026-11-23T02:48:50Z", "12:30", "::1", "10.0.0.1", "a\nb", "a\n",
		"\n", "a\tb", "a\rb", "\x01", "\x7f", "\xc2\x85", "\xe2\x80\xa8", "\xef\xbb\xbf",
		"\xf0\x9f\x90\x9d", "a\\b", "---", "...", "=", "a:", ":a", "kube-system/coredns",
		"app.kubernetes.io/name", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbb"
		"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb ccccccccccccccccccccccc ddddddddddddddd",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		json_t *v = json_string(words[i]);
		json_t *o = json_pack("{s{ss so} s[sO]}", "x", "a", words[i], words[i], json_string("v"),
				      "l", "b", v);

		assert_non_null(v);
		same_value(o);
		json_decref(o);
		json_decref(v);
	}
}

static unsigned long long rng = 88172645463325252ull;

static unsigned rnd(unsigned n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

static json_t *random_value(int depth)
{
	static const char alphabet[] = "ab1 .:-#\"'\n\t{}[],&*!|>%@`\\~yn0xe_/=<?";
	char s[12];
	size_t n = rnd(sizeof(s));
	json_t *v;

	switch (rnd(depth > 4 ? 5 : 7)) {
	case 0:
		return json_integer((json_int_t)rnd(1u << 31) - rnd(1u << 31));
	case 1:
		return json_boolean(rnd(2));
	case 2:
		return json_null();
	case 3:
	case 4:
		for (size_t i = 0; i < n; i++)
			s[i] = alphabet[rnd(sizeof(alphabet) - 1)];
		return json_stringn(s, n);
	case 5:
		v = json_array();
		for (unsigned i = rnd(5); i; i--)
			json_array_append_new(v, random_value(depth + 1));
		return v;
	default:
		v = json_object();
		for (unsigned i = rnd(5); i; i--) {
			for (size_t k = 0; k < sizeof(s) - 1; k++)
				s[k] = alphabet[rnd(sizeof(alphabet) - 1)];
			s[1 + rnd(sizeof(s) - 1)] = '\0';
			s[sizeof(s) - 1] = '\0';
			json_object_set_new(v, s, random_value(depth + 1));
		}
		return v;
	}
}

static void test_yaml_random(_unused_ void **state)
{
	for (int i = 0; i < 3000; i++) {
		json_t *v = json_pack("{so}", "v", random_value(0));

		same_value(v);
		json_decref(v);
	}
}

static void test_nearest(_unused_ void **state)
{
	static const char *const words[] = { "status", "svc", "list", "output", "manifests" };
	const size_t n = ARRAY_SIZE(words);

	assert_string_equal(bn_cli_nearest("statsu", words, n), "status");
	assert_string_equal(bn_cli_nearest("lsit", words, n), "list");
	assert_string_equal(bn_cli_nearest("manifest", words, n), "manifests");
	assert_null(bn_cli_nearest("zzz", words, n));
	assert_null(bn_cli_nearest("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", words, n));
}

static void test_kube_proxy(_unused_ void **state)
{
	char save[] = "# Generated by iptables-save\n"
		      "*mangle\n:PREROUTING ACCEPT [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"
		      "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-ABC - [0:0]\n"
		      ":KUBE-SEP-X - [0:0]\n:KUBE-MARK-DROP - [0:0]\n:KUBE-POD-FW-1 - [0:0]\n:DOCKER - [0:0]\n"
		      "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
		      "-A PREROUTING -m comment --comment \"see -j KUBE-SERVICES \" -j DOCKER\n"
		      "-A PREROUTING -m comment --comment \"a \\\" -j KUBE-SVC-ABC\" -j ACCEPT\n"
		      "-A OUTPUT -j KUBE-POD-FW-1\n"
		      "-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -j KUBE-SVC-ABC\n"
		      "-A KUBE-SVC-ABC -j KUBE-SEP-X\n-A DOCKER -g KUBE-SEP-X\nCOMMIT\n"
		      "*filter\n:KUBE-FORWARD - [0:0]\n:KUBE-FIREWALL - [0:0]\n"
		      "-A FORWARD -j KUBE-FORWARD\n-A INPUT -j KUBE-FIREWALL\nCOMMIT\n";
	char empty[] = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n";
	char cut[] = "*filter\n:KUBE-FORWARD - [0:0]";
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_int_equal(bn_kube_proxy_script(save, f), 4);
	assert_int_equal(bn_kube_proxy_script(empty, f), 0);
	assert_int_equal(bn_kube_proxy_script(cut, f), 1);
	fclose(f);
	assert_string_equal(text,
			    "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-ABC - [0:0]\n:KUBE-SEP-X - [0:0]\n"
			    "-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
			    "-D DOCKER -g KUBE-SEP-X\n"
			    "-X KUBE-SERVICES\n-X KUBE-SVC-ABC\n-X KUBE-SEP-X\nCOMMIT\n"
			    "*filter\n:KUBE-FORWARD - [0:0]\n-D FORWARD -j KUBE-FORWARD\n-X KUBE-FORWARD\nCOMMIT\n"
			    "*filter\n:KUBE-FORWARD - [0:0]\n-X KUBE-FORWARD\nCOMMIT\n");
	free(text);
	assert_false(bn_kube_proxy_chain("KUBE-SERVICES2"));
	assert_false(bn_kube_proxy_chain("KUBE-ROUTER-FORWARD"));
	assert_true(bn_kube_proxy_chain("KUBE-FW-ABC"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),	     cmocka_unit_test(test_cell),
		cmocka_unit_test(test_yaml_text),    cmocka_unit_test(test_yaml_strings),
		cmocka_unit_test(test_yaml_random),  cmocka_unit_test(test_nearest),
		cmocka_unit_test(test_kube_proxy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
