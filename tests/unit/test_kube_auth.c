/* SPDX-License-Identifier: MIT */
/* Who we are to the API server, and who it is to us: tokens, certificates, plugins, names, proxies. */
#include <sys/prctl.h>

#include "tests/apiserver/harness.h"

static void put_text(struct cluster *c, const char *name, mode_t mode, const char *fmt, ...)
{
	char path[160], tmp[168];
	va_list ap;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", c->api.dir, name);
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	f = fopen(tmp, "we");
	assert_non_null(f);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	fclose(f);
	assert_int_equal(chmod(tmp, mode), 0);
	assert_int_equal(rename(tmp, path), 0);
}

/* A kubeconfig beside the server's own, with this in cluster and user (JSON without braces). */
static void config(struct cluster *c, const char *cluster, const char *user)
{
	put_text(c, "config", 0600,
		 "{\"current-context\":\"t\",\"contexts\":[{\"name\":\"t\",\"context\":{\"cluster\":"
		 "\"k\",\"user\":\"u\"}}],\"clusters\":[{\"name\":\"k\",\"cluster\":{\"server\":\"%s\""
		 "%s%s}}],\"users\":[{\"name\":\"u\",\"user\":{%s}}]}",
		 c->api.url, *cluster ? "," : "", cluster, user);
}

#define CA "\"certificate-authority\":\"ca.crt\""

static void source(struct cluster *c)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/config", c->api.dir);
	cluster_source(c, (struct bn_kube_opts){ .kubeconfig = path });
}

/* The user that the server saw in its last request for services. */
static void assert_user(struct cluster *c, const char *want)
{
	json_t *o = api_ask(&c->api, "{\"cmd\":\"requests\",\"resource\":\"services\"}");
	json_t *list = json_object_get(o, "requests");
	const char *user = json_string_value(json_object_get(
		json_array_get(list, json_array_size(list) - 1), "user"));

	if (!user || strcmp(user, want))
		fail_msg("user '%s', not '%s'", user ?: "(none)", want);
	json_decref(o);
}

static void test_token_file(void **state)
{
	struct cluster c;

	(void)state;
	cluster_start(&c, (const char *[]){ "--token", "one", NULL });
	put_text(&c, "token", 0600, "one\n");
	config(&c, CA, "\"tokenFile\":\"token\",\"token\":\"loses\"");
	source(&c);
	wait_for(&c, synced(&c));
	/* rotated: the new one is read at once after a 401 */
	put_text(&c, "token", 0600, "two\n");
	api(&c.api, "{\"cmd\":\"tokens\",\"tokens\":[\"two\"]}");
	api(&c.api, "{\"cmd\":\"drop\"}");
	api_service(&c.api, "after", "10.96.0.9");
	wait_for_s(&c, 5, has(&c, BN_KIND_SERVICE, "after"));
	/* none that is good: said, and the store stays */
	api(&c.api, "{\"cmd\":\"tokens\",\"tokens\":[\"three\"]}");
	api(&c.api, "{\"cmd\":\"drop\"}");
	wait_for(&c, strstr(error_of(&c, BN_KIND_SERVICE), "services: watch unauthorized (401)"));
	assert_true(has(&c, BN_KIND_SERVICE, "after"));
	/* a token file that is gone leaves the last token in use */
	put_text(&c, "token", 0600, "three\n");
	wait_for_s(&c, 40, !*error_of(&c, BN_KIND_SERVICE));
	cluster_stop(&c);
}

static void test_in_cluster(void **state)
{
	struct cluster c;
	char *port;

	(void)state;
	cluster_start(&c, (const char *[]){ "--token", "sa", "--address", "::1", NULL });
	put_text(&c, "token", 0600, "sa");
	port = strrchr(c.api.url, ':') + 1;
	setenv("KUBERNETES_SERVICE_HOST", "::1", 1);
	setenv("KUBERNETES_SERVICE_PORT", port, 1);
	cluster_source(&c, (struct bn_kube_opts){ .sa_dir = c.api.dir });
	unsetenv("KUBERNETES_SERVICE_HOST");
	unsetenv("KUBERNETES_SERVICE_PORT");
	wait_for(&c, synced(&c));
	assert_user(&c, "system:token");
	/* tokens, keys and passwords are in this process: it leaves no core */
	assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
	cluster_stop(&c);
}

static void test_client_certificate(void **state)
{
	struct cluster c;

	(void)state;
	cluster_start(&c, (const char *[]){ "--token", "x", NULL });
	config(&c, CA, "\"client-certificate\":\"client.crt\",\"client-key\":\"client.key\"");
	source(&c);
	wait_for(&c, synced(&c));
	assert_user(&c, "system:node:test");
	cluster_stop(&c);
}

static void test_basic_and_impersonation(void **state)
{
	struct cluster c;
	json_t *o;
	char *text;

	(void)state;
	cluster_start(&c, (const char *[]){ "--token", "x", NULL });
	config(&c, CA, "\"username\":\"joe\",\"password\":\"p:w\",\"as\":\"jane\",\"as-groups\":"
		       "[\"a\",\"b\"],\"as-uid\":\"7\",\"as-user-extra\":{\"Scope/x\":[\"y\"]}");
	source(&c);
	wait_for(&c, synced(&c));
	assert_user(&c, "joe");
	o = api_ask(&c.api, "{\"cmd\":\"requests\",\"resource\":\"services\"}");
	text = json_dumps(o, JSON_COMPACT);
	assert_non_null(strstr(text, "[\"impersonate-user\",\"jane\"]"));
	assert_non_null(strstr(text, "[\"impersonate-group\",\"a\"]"));
	assert_non_null(strstr(text, "[\"impersonate-group\",\"b\"]"));
	assert_non_null(strstr(text, "[\"impersonate-uid\",\"7\"]"));
	assert_non_null(strstr(text, "[\"impersonate-extra-scope%2fx\",\"y\"]"));
	free(text);
	json_decref(o);
	cluster_stop(&c);
}

/* --- exec plugins --------------------------------------------------------------------------------- */

#define EXEC(version, more)                                                                        \
	"\"exec\":{\"apiVersion\":\"client.authentication.k8s.io/" version "\",\"command\":"       \
	"\"./plugin\",\"interactiveMode\":\"Never\"" more "}"

static void test_exec_token(void **state)
{
	struct cluster c;
	char path[128], text[4096];
	FILE *f;

	(void)state;
	cluster_start(&c, (const char *[]){ "--token", "first", NULL });
	put_text(&c, "plugin-token", 0600, "first");
	put_text(&c, "plugin", 0700,
		 "#!/bin/sh\ncd %s\necho \"$1 $REGION $KUBERNETES_EXEC_INFO\" >> runs\n"
		 "printf '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/"
		 "v1\",\"status\":{\"token\":\"%%s\"}}' $(cat plugin-token)\n", c.api.dir);
	config(&c, CA, EXEC("v1", ",\"args\":[\"arg\"],\"env\":[{\"name\":\"REGION\",\"value\":"
				  "\"eu\"}],\"provideClusterInfo\":true"));
	source(&c);
	wait_for(&c, synced(&c));
	assert_user(&c, "system:token");
	/* rerun after a 401 */
	put_text(&c, "plugin-token", 0600, "second");
	api(&c.api, "{\"cmd\":\"tokens\",\"tokens\":[\"second\"]}");
	spin(&c, 2.5);
	api(&c.api, "{\"cmd\":\"drop\"}");
	api_service(&c.api, "after", "10.96.0.9");
	wait_for_s(&c, 10, has(&c, BN_KIND_SERVICE, "after"));
	snprintf(path, sizeof(path), "%s/runs", c.api.dir);
	f = fopen(path, "re");
	assert_non_null(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	assert_true(!strncmp(text, "arg eu {", 8));
	assert_non_null(strstr(text, "\"interactive\":false"));
	assert_non_null(strstr(text, c.api.url));
	assert_non_null(strstr(text, "certificate-authority-data"));
	/* once for all requests at the start, once for all after the 401 */
	assert_non_null(strchr(text, '\n'));
	assert_int_equal(strchr(strchr(text, '\n') + 1, '\n')[1], 0);
	cluster_stop(&c);
}

static void test_exec_expires(void **state)
{
	struct cluster c;

	(void)state;
	cluster_start(&c, (const char *[]){ "--token", "t", NULL });
	put_text(&c, "plugin", 0700,
		 "#!/bin/sh\ncd %s\necho x >> runs\n"
		 "printf '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/"
		 "v1beta1\",\"status\":{\"token\":\"t\",\"expirationTimestamp\":\"%%s\"}}' "
		 "$(date -u -d '+12 seconds' +%%Y-%%m-%%dT%%H:%%M:%%SZ)\n", c.api.dir);
	config(&c, CA, EXEC("v1beta1", ""));
	source(&c);
	wait_for(&c, synced(&c));
	spin(&c, 3); /* ten seconds before the end it is not used any more */
	api(&c.api, "{\"cmd\":\"drop\"}");
	spin(&c, 1);
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/runs", c.api.dir);
	assert_int_equal(stat(path, &st), 0);
	assert_in_range(st.st_size, 4, 8);
	wait_for(&c, !*error_of(&c, BN_KIND_SERVICE));
	cluster_stop(&c);
}

static void test_exec_certificate(void **state)
{
	struct cluster c;

	(void)state;
	cluster_start(&c, (const char *[]){ "--token", "x", NULL });
	put_text(&c, "plugin", 0700,
		 "#!/usr/bin/python3\nimport json\n"
		 "print(json.dumps({'kind':'ExecCredential','apiVersion':'client.authentication.k8s.io/"
		 "v1','status':{'clientCertificateData':open('%s/client.crt').read(),"
		 "'clientKeyData':open('%s/client.key').read()}}))\n", c.api.dir, c.api.dir);
	config(&c, CA, EXEC("v1", ""));
	source(&c);
	wait_for(&c, synced(&c));
	assert_user(&c, "system:node:test");
	cluster_stop(&c);
}

/* What a plugin may do wrong; its output is never shown. */
static void test_exec_fails(void **state)
{
	static const struct {
		const char *script, *says;
	} rows[] = {
		{ "#!/bin/sh\necho 'log in first' >&2\nexit 3\n", "ended with status 3: log in first" },
		{ "#!/bin/sh\nkill -9 $$\n", "killed by signal 9" },
		{ "#!/bin/sh\necho '{\"token\":\"s3cret\"'\n", "its output is not JSON" },
		{ "#!/bin/sh\necho '{\"token\":\"s3cret\"}'\n", "is not an ExecCredential" },
		{ "#!/bin/sh\nhead -c 2000000 /dev/zero\n", "bytes of output" },
		{ "#!/bin/sh\necho '{\"kind\":\"ExecCredential\",\"apiVersion\":\"v1\"}'\n",
		  "another apiVersion" },
		{ "#!/bin/sh\necho '{\"kind\":\"ExecCredential\",\"apiVersion\":"
		  "\"client.authentication.k8s.io/v1\",\"status\":{}}'\n",
		  "neither a token nor a client certificate" },
		{ "#!/nowhere/sh\n", "No such file" },
	};
	struct cluster c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		cluster_start(&c, (const char *[]){ "--token", "x", NULL });
		put_text(&c, "plugin", 0700, "%s", rows[i].script);
		config(&c, CA, EXEC("v1", ",\"installHint\":\"get it at example.org\""));
		source(&c);
		wait_for(&c, *error_of(&c, BN_KIND_SERVICE));
		if (!strstr(error_of(&c, BN_KIND_SERVICE), rows[i].says) ||
		    !strstr(error_of(&c, BN_KIND_SERVICE), "/plugin'"))
			fail_msg("'%s' does not say '%s'", error_of(&c, BN_KIND_SERVICE),
				 rows[i].says);
		assert_null(strstr(error_of(&c, BN_KIND_SERVICE), "s3cret"));
		cluster_stop(&c);
	}
}

/* --- the server's certificate --------------------------------------------------------------------- */

static void test_tls(void **state)
{
	static const struct {
		const char *cluster, *says; /* NULL: it works */
	} rows[] = {
		{ CA, NULL },
		{ "\"insecure-skip-tls-verify\":true", NULL },
		{ CA ",\"tls-server-name\":\"kubernetes.default.svc\"", NULL },
		{ CA ",\"tls-server-name\":\"other.example\"", "other.example" },
		{ "\"certificate-authority\":\"other.crt\"", "certificate" },
		{ "", "certificate" },
	};
	struct cluster c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char cmd[400];

		cluster_start(&c, (const char *[]){ "--token", "x", NULL });
		snprintf(cmd, sizeof(cmd),
			 "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "
			 "/CN=other -keyout /dev/null -out %s/other.crt 2>/dev/null", c.api.dir);
		assert_int_equal(system(cmd), 0);
		config(&c, rows[i].cluster, "\"token\":\"x\"");
		source(&c);
		if (rows[i].says)
			wait_for(&c, strstr(error_of(&c, BN_KIND_SERVICE), rows[i].says));
		else
			wait_for(&c, synced(&c));
		cluster_stop(&c);
	}
}

/* The authority's file is replaced: new connections trust the new one, without a restart. */
static void test_ca_rotated(void **state)
{
	struct cluster c;
	char cmd[400];

	(void)state;
	cluster_start(&c, (const char *[]){ "--token", "x", NULL });
	snprintf(cmd, sizeof(cmd), "cd %s && cp ca.crt good.crt && openssl req -x509 -newkey ec -pkeyopt "
		 "ec_paramgen_curve:P-256 -nodes -subj /CN=other -keyout /dev/null -out mine.crt "
		 "2>/dev/null", c.api.dir);
	assert_int_equal(system(cmd), 0);
	config(&c, "\"certificate-authority\":\"mine.crt\"", "\"token\":\"x\"");
	source(&c);
	wait_for(&c, strstr(error_of(&c, BN_KIND_SERVICE), "certificate"));
	snprintf(cmd, sizeof(cmd), "cd %s && mv good.crt mine.crt", c.api.dir);
	assert_int_equal(system(cmd), 0);
	wait_for_s(&c, 60, synced(&c));
	cluster_stop(&c);
}

/* --- proxies -------------------------------------------------------------------------------------- */

static void through_proxy(const char *scheme, const char *says)
{
	char buf[256], *argv[] = { "/usr/bin/python3", "tests/apiserver/proxy.py", NULL };
	int in[2], out[2], port, n;
	struct cluster c;
	pid_t pid;

	assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execv(argv[0], argv);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	n = read(out[0], buf, sizeof(buf) - 1);
	assert_true(n > 0);
	buf[n] = 0;
	port = atoi(buf);
	cluster_start(&c, (const char *[]){ "--token", "x", NULL });
	snprintf(buf, sizeof(buf), CA ",\"proxy-url\":\"%s://127.0.0.1:%d\"", scheme, port);
	config(&c, buf, "\"token\":\"x\"");
	source(&c);
	wait_for(&c, synced(&c));
	n = read(out[0], buf, sizeof(buf) - 1);
	assert_true(n > 0);
	buf[n] = 0;
	if (!strstr(buf, says))
		fail_msg("the proxy saw '%s'", buf);
	assert_non_null(strstr(buf, strrchr(c.api.url, '/') + 1)); /* host:port */
	cluster_stop(&c);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(in[1]);
	close(out[0]);
}

static void test_proxies(void **state)
{
	(void)state;
	through_proxy("http", "connect ");
	through_proxy("socks5", "socks ");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_token_file),
		cmocka_unit_test(test_in_cluster),
		cmocka_unit_test(test_client_certificate),
		cmocka_unit_test(test_basic_and_impersonation),
		cmocka_unit_test(test_exec_token),
		cmocka_unit_test(test_exec_expires),
		cmocka_unit_test(test_exec_certificate),
		cmocka_unit_test(test_exec_fails),
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_ca_rotated),
		cmocka_unit_test(test_proxies),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	bn_log_setup("error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
