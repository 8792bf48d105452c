/* SPDX-License-Identifier: MIT */
/* Kubeconfig files, read as client-go reads them. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "loader/source/kube/config.h"
#include "loader/source/kube/exec.h"
#include "loader/source/kube/rest_setup.h"

static char dir[64];

static char *put_file(const char *name, const char *text)
{
	static char path[4][160];
	static unsigned i;
	char *p = path[i++ % 4];
	FILE *f;

	snprintf(p, 160, "%s/%s", dir, name);
	f = fopen(p, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	fclose(f);
	return p;
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/kube-config-XXXXXX");
	assert_non_null(mkdtemp(dir));
	unsetenv("KUBERNETES_MASTER");
	unsetenv("KUBERNETES_SERVICE_HOST");
	unsetenv("KUBERNETES_SERVICE_PORT");
	unsetenv("HTTPS_PROXY");
	unsetenv("https_proxy");
	unsetenv("NO_PROXY");
	unsetenv("no_proxy");
	put_file("ca.pem", "the ca");
	put_file("token", " tok \n");
	put_file("crt.pem", "c");
	put_file("key.pem", "k");
	return 0;
}

static int teardown(void **state)
{
	char cmd[96];

	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

#define HEAD                                                                                       \
	"apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: "       \
	"{cluster: k, user: u}\n"

static int load(const char *path, const char *master, struct bn_kube_config **c, char *err)
{
	const struct bn_kube_config_opts o = { path, master, dir };

	*c = NULL;
	err[0] = 0;
	return bn_kube_config_load(&o, c, err);
}

static void test_whole(void **state)
{
	_cleanup_(bn_kube_config_freep) struct bn_kube_config *c = NULL;
	char err[512], want[160];

	(void)state;
	put_file("config", HEAD
		 "clusters:\n- name: other\n  cluster: {server: 'https://wrong'}\n"
		 "- name: k\n  cluster:\n    server: https://api.example:6443/\n"
		 "    certificate-authority: ca.pem\n    tls-server-name: kubernetes\n"
		 "    proxy-url: socks5://proxy:1080\n"
		 "    extensions:\n    - name: client.authentication.k8s.io/exec\n"
		 "      extension: {audience: \"me\"}\n"
		 "users:\n- name: u\n  user:\n    client-certificate: crt.pem\n"
		 "    client-key: key.pem\n    as: jane\n    as-groups: [a, b]\n    as-uid: '7'\n"
		 "    as-user-extra: {reason: [x, y]}\n"
		 "    exec:\n      apiVersion: client.authentication.k8s.io/v1\n"
		 "      command: ./bin/plugin\n      args: [--a, '1']\n      env:\n"
		 "      - {name: REGION, value: eu}\n      interactiveMode: IfAvailable\n"
		 "      provideClusterInfo: true\n");
	snprintf(want, sizeof(want), "%s/config", dir);
	assert_int_equal(load(want, NULL, &c, err), 0);
	assert_string_equal(c->server, "https://api.example:6443");
	snprintf(want, sizeof(want), "%s/ca.pem", dir);
	assert_string_equal(c->ca_file, want);
	assert_string_equal(c->tls_server_name, "kubernetes");
	assert_string_equal(c->proxy_url, "socks5://proxy:1080");
	assert_string_equal(c->as, "jane");
	assert_string_equal(c->as_groups[1], "b");
	assert_null(c->as_groups[2]);
	assert_string_equal(c->as_uid, "7");
	assert_int_equal(c->nas_extra, 2);
	assert_string_equal(c->as_extra[1].value, "y");
	snprintf(want, sizeof(want), "%s/./bin/plugin", dir);
	assert_string_equal(c->exec->command, want);
	assert_string_equal(c->exec->args[1], "1");
	assert_string_equal(c->exec->env[0], "REGION=eu");
	assert_true(c->exec->cluster_info);
	assert_string_equal(json_string_value(json_object_get(c->exec->cluster_config, "audience")),
			    "me");
}

static void test_data_wins_over_file(void **state)
{
	_cleanup_(bn_kube_config_freep) struct bn_kube_config *c = NULL;
	char err[512];

	(void)state;
	assert_int_equal(load(put_file("config", HEAD
		"clusters: [{name: k, cluster: {server: 'https://h', certificate-authority: nowhere, "
		"certificate-authority-data: aGVsbG8=}}]\n"
		"users: [{name: u, user: {client-certificate: nowhere, client-certificate-data: YQ==,"
		" client-key-data: 'YWI='}}]\n"), NULL, &c, err), 0);
	assert_memory_equal(c->ca.p, "hello", 6);
	assert_null(c->ca_file);
	assert_int_equal(c->cert.n, 1);
	assert_int_equal(c->key.n, 2);
}

#define KU                                                                                         \
	HEAD "clusters: [{name: k, cluster: {server: 'https://h'}}]\nusers: [{name: u, user: %s}]\n"

static const struct {
	const char *text, *says; /* the whole file, or with KU just the user */
	bool user;
} bad[] = {
	{ "{token: [1]}", "context 'c': users[u].user.token: must be a string", true },
	{ "{token: \"a\\nb\"}", "users[u].user.token: holds a control character", true },
	{ "{client-certificate-data: '!!'}", "client-certificate-data: is not base64", true },
	{ "{client-certificate-data: 'YQ='}", "client-certificate-data: is not base64", true },
	{ "{client-certificate: crt.pem}", "client-key: is missing", true },
	{ "{client-certificate: missing.pem, client-key: key.pem}", "No such file", true },
	{ "{tokenFile: missing}", "tokenFile '", true },
	{ "{as-groups: [x]}", "as: is missing", true },
	{ "{as: a, as-groups: x}", "as-groups: must be a list of strings", true },
	{ "{auth-provider: {name: gcp}}", "auth-provider: is gone", true },
	{ "{exec: {command: x, apiVersion: client.authentication.k8s.io/v1alpha1}}",
	  "exec.apiVersion: must be", true },
	{ "{exec: {apiVersion: client.authentication.k8s.io/v1beta1}}", "exec.command: is missing",
	  true },
	{ "{exec: {command: x, apiVersion: client.authentication.k8s.io/v1}}",
	  "exec.interactiveMode: is missing", true },
	{ "{exec: {command: x, apiVersion: client.authentication.k8s.io/v1, interactiveMode: "
	  "Always}}", "a daemon has no terminal", true },
	{ "{username: a, token: b}", "more than one way", true },
	{ "{", "line ", false },
	{ "- a\n", "not a mapping", false },
	{ "a: 1\na: 2\n", "stands twice", false },
	{ "apiVersion: v1\n", "current-context is not set", false },
	{ "current-context: x\n", "current-context 'x' is not in contexts", false },
	{ "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\n",
	  "context 'c' names the cluster 'k', which is not in clusters", false },
	{ "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\n"
	  "clusters: [{name: k, cluster: {}}]\n", "context 'c': the cluster has no server", false },
	{ "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\n"
	  "clusters: [{name: k, cluster: {server: 'ftp://x'}}]\n", "must be http:// or https://",
	  false },
	{ "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\n"
	  "clusters: [{name: k, cluster: {server: 'https://x', insecure-skip-tls-verify: true, "
	  "certificate-authority: ca.pem}}]\n", "cannot be true beside", false },
	{ "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\n"
	  "clusters: [{name: k, cluster: {server: 'https://x', insecure-skip-tls-verify: 1}}]\n",
	  "must be true or false", false },
	{ "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\n"
	  "clusters: [{name: k, cluster: {server: 'https://x', proxy-url: 'ftp://x'}}]\n",
	  "proxy-url: must begin with", false },
};

static void test_bad(void **state)
{
	char text[1024], err[512];
	struct bn_kube_config *c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (bad[i].user)
			snprintf(text, sizeof(text), KU, bad[i].text);
		else
			snprintf(text, sizeof(text), "%s", bad[i].text);
		assert_true(load(put_file("config", text), NULL, &c, err) < 0);
		assert_null(c);
		if (!strstr(err, bad[i].says) || !strstr(err, dir))
			fail_msg("%s\nsays '%s', not '%s'", text, err, bad[i].says);
	}
}

/* $KUBECONFIG as a list: what is missing is skipped, the first that has a name wins. */
static void test_list(void **state)
{
	_cleanup_(bn_kube_config_freep) struct bn_kube_config *c = NULL;
	char list[512], err[512];

	(void)state;
	assert_int_equal(mkdir(strcat(strcpy(list, dir), "/sub"), 0700), 0);
	put_file("sub/t", "x");
	put_file("a", "current-context: c\nclusters: [{name: k, cluster: {server: 'https://a'}}]\n");
	put_file("sub/b", HEAD "clusters: [{name: k, cluster: {server: 'https://b'}}]\n"
			       "users: [{name: u, user: {tokenFile: t}}]\n");
	snprintf(list, sizeof(list), "%s/missing:%s/a:%s/sub/b", dir, dir, dir);
	assert_int_equal(load(list, NULL, &c, err), 0);
	assert_string_equal(c->server, "https://a");
	snprintf(list, sizeof(list), "%s/sub/t", dir); /* relative to its own file */
	assert_string_equal(c->token_file, list);
	snprintf(list, sizeof(list), "%s/x:%s/y", dir, dir);
	bn_kube_config_freep(&c);
	assert_int_equal(load(list, NULL, &c, err), -ENOENT);
	assert_non_null(strstr(err, "none of these files exists"));
	snprintf(list, sizeof(list), "%s/x", dir);
	assert_int_equal(load(list, NULL, &c, err), -ENOENT);
	assert_non_null(strstr(err, list));
}

static void test_master(void **state)
{
	_cleanup_(bn_kube_config_freep) struct bn_kube_config *c = NULL;
	char *path, err[512];

	(void)state;
	path = put_file("config", HEAD "clusters: [{name: k, cluster: {server: 'https://h', "
				       "certificate-authority: ca.pem}}]\nusers: [{name: u, user: {}}]\n");
	assert_int_equal(load(path, "10.0.0.1:6443", &c, err), 0);
	assert_string_equal(c->server, "https://10.0.0.1:6443");
	bn_kube_config_freep(&c);
	/* $KUBERNETES_MASTER only where the config has no server */
	setenv("KUBERNETES_MASTER", "https://env:1", 1);
	assert_int_equal(load(path, NULL, &c, err), 0);
	assert_string_equal(c->server, "https://h");
	bn_kube_config_freep(&c);
	path = put_file("config", HEAD "clusters: [{name: k, cluster: {}}]\nusers: [{name: u, user: "
				       "{}}]\n");
	assert_int_equal(load(path, NULL, &c, err), 0);
	assert_string_equal(c->server, "https://env:1");
	unsetenv("KUBERNETES_MASTER");
	bn_kube_config_freep(&c);
	/* the service account goes along with an address, but never in clear text */
	put_file("ca.crt", "x");
	assert_int_equal(load(NULL, "https://1.2.3.4", &c, err), 0);
	assert_non_null(c->token_file);
	assert_non_null(c->ca_file);
	bn_kube_config_freep(&c);
	assert_int_equal(load(NULL, "http://1.2.3.4", &c, err), 0);
	assert_null(c->token_file);
}

static void test_in_cluster(void **state)
{
	_cleanup_(bn_kube_config_freep) struct bn_kube_config *c = NULL;
	char err[512];

	(void)state;
	assert_int_equal(load(NULL, NULL, &c, err), -EINVAL);
	assert_non_null(strstr(err, "KUBERNETES_SERVICE_HOST"));
	setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
	setenv("KUBERNETES_SERVICE_PORT", "443", 1);
	assert_int_equal(load(NULL, NULL, &c, err), 0);
	assert_string_equal(c->server, "https://[fd00::1]:443");
	assert_non_null(strstr(c->token_file, "/token"));
	assert_null(c->ca_file); /* missing: said, no error */
	assert_non_null(strstr(c->warning, "ca.crt"));
	bn_kube_config_freep(&c);
	setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1", 1);
	put_file("ca.crt", "x");
	assert_int_equal(load(NULL, NULL, &c, err), 0);
	assert_string_equal(c->server, "https://10.96.0.1:443");
	assert_null(c->warning);
	bn_kube_config_freep(&c);
	snprintf(err, sizeof(err), "%s/token", dir);
	unlink(err);
	assert_int_equal(load(NULL, NULL, &c, err), -ENOENT);
	assert_non_null(strstr(err, "/token"));
}

/* Which proxy, which name is checked, where the connection goes. */
static void test_target(void **state)
{
	static const struct {
		const char *server, *name, *proxy_url, *env, *no;
		const char *base, *connect_to, *proxy, *host;
	} rows[] = {
		{ "https://h:6443/p", NULL, NULL, NULL, NULL, "https://h:6443/p", NULL, "", "h:6443" },
		{ "https://[::1]:6443", NULL, NULL, "http://p", NULL, "https://[::1]:6443", NULL, "",
		  "[::1]:6443" },
		{ "https://127.0.0.1", NULL, NULL, "http://p", NULL, "https://127.0.0.1", NULL, "",
		  "127.0.0.1" },
		{ "https://h", NULL, NULL, "http://p", NULL, "https://h", NULL, "http://p", "h" },
		{ "https://h", NULL, "socks5://q:1", "http://p", NULL, "https://h", NULL,
		  "socks5h://q:1", "h" },
		{ "https://10.0.0.1:6443/x", "kubernetes", NULL, NULL, NULL,
		  "https://kubernetes:6443/x", "kubernetes:6443:10.0.0.1:6443", "",
		  "10.0.0.1:6443" },
		{ "https://[fd00::1]", "k", NULL, NULL, NULL, "https://k:443",
		  "k:443:[fd00::1]:443", "", "[fd00::1]" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct bn_kube_config c = {
			.server = (char *)rows[i].server,
			.tls_server_name = (char *)rows[i].name,
			.proxy_url = (char *)rows[i].proxy_url,
		};
		struct bn_rest_target t;

		if (rows[i].env)
			setenv("HTTPS_PROXY", rows[i].env, 1);
		assert_int_equal(bn_rest_target_init(&t, &c), 0);
		unsetenv("HTTPS_PROXY");
		assert_string_equal(t.base, rows[i].base);
		assert_string_equal(t.host, rows[i].host);
		assert_string_equal(t.proxy, rows[i].proxy);
		if (rows[i].connect_to)
			assert_string_equal(t.connect_to, rows[i].connect_to);
		else
			assert_null(t.connect_to);
		bn_rest_target_clear(&t);
	}
	static const char *const bad[] = { "https://user:pw@h", "https://", "http:///x", "https://:6443" };
	struct bn_kube_config c = { 0 };
	struct bn_rest_target t;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		c.server = (char *)bad[i];
		assert_int_equal(bn_rest_target_init(&t, &c), -EINVAL);
	}
}

static void test_time(void **state)
{
	int64_t t;

	(void)state;
	assert_int_equal(bn_kube_parse_time("2026-11-23T05:02:00Z", &t), 0);
	assert_int_equal(t, 1795410120);
	assert_int_equal(bn_kube_parse_time("2026-11-23T05:02:00.123456789Z", &t), 0);
	assert_int_equal(t, 1795410120);
	assert_int_equal(bn_kube_parse_time("2026-11-23T06:02:00+01:00", &t), 0);
	assert_int_equal(t, 1795410120);
	assert_true(bn_kube_parse_time("2026-11-23", &t) < 0);
	assert_true(bn_kube_parse_time("2026-11-23T05:02:00", &t) < 0);
	assert_true(bn_kube_parse_time("2026-11-23T05:02:00Zx", &t) < 0);
}

static void test_secret(void **state)
{
	struct bn_secret s = { 0 };
	_cleanup_(freep) char *b64 = NULL;

	(void)state;
	assert_int_equal(bn_secret_set_base64(&s, "YWJj\nZGU="), 0);
	assert_int_equal(s.n, 5);
	assert_memory_equal(s.p, "abcde", 6);
	b64 = bn_secret_base64(&s);
	assert_string_equal(b64, "YWJjZGU=");
	assert_int_equal(bn_secret_set_base64(&s, "YW=j"), -EINVAL);
	assert_int_equal(s.n, 5); /* unchanged */
	assert_int_equal(bn_secret_set(&s, " \n a b \r\n", 9), 0);
	bn_secret_trim(&s);
	assert_string_equal(s.p, "a b");
	assert_int_equal(bn_secret_set(&s, " ", 1), 0);
	bn_secret_trim(&s);
	assert_int_equal(s.n, 0);
	bn_secret_clear(&s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_data_wins_over_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list, setup, teardown),
		cmocka_unit_test_setup_teardown(test_master, setup, teardown),
		cmocka_unit_test_setup_teardown(test_in_cluster, setup, teardown),
		cmocka_unit_test_setup_teardown(test_target, setup, teardown),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_secret),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
