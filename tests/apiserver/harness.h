/* SPDX-License-Identifier: MIT */
#ifndef BN_TEST_APISERVER_H
#define BN_TEST_APISERVER_H

/* Runs apiserver.py as a child and the real source against it, in one event loop. Every wait is for
 * a condition with a time limit that only a fault reaches.
 */

#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/log.h"
#include "loader/source/kube/kube.h"
#include "policy/intern.h"

#define WAIT_S 30

struct api {
	char dir[64], url[128];
	pid_t pid;
	int in, out, control;
};

struct cluster {
	struct api api;
	struct event_base *base;
	struct bn_store *store;
	struct bn_source *src;
	unsigned changed, puts, dels;
};

static inline double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* What speaks for the server; real.py has a real one behind it. */
static const char *api_program = "tests/apiserver/apiserver.py";

/* dir: made by the caller, removed by api_stop. */
static inline void api_start_in(struct api *a, const char *dir, const char *const *extra)
{
	const char *argv[24] = { "/usr/bin/python3", api_program, "--dir" };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int in[2], out[2], n = 3;
	ssize_t got = 0;

	snprintf(a->dir, sizeof(a->dir), "%s", dir);
	argv[n++] = a->dir;
	while (extra && *extra)
		argv[n++] = *extra++;
	assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
	a->pid = fork();
	assert_true(a->pid >= 0);
	if (!a->pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execv(argv[0], (char **)argv);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	a->in = in[1];
	a->out = out[0];
	while (got < (ssize_t)sizeof(a->url) - 1 && read(a->out, a->url + got, 1) == 1 &&
	       a->url[got] != '\n')
		got++;
	a->url[got] = 0;
	assert_true(got > 8); /* else it did not start: what it said is above */
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/control", a->dir);
	a->control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(a->control, (void *)&sa, sizeof(sa)), 0);
}

/* What a test that failed left behind. */
static inline void remove_dirs(void)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -rf /tmp/kube-test-%d-*", getpid());
	if (system(cmd))
		fprintf(stderr, "%s: failed\n", cmd);
}

static inline void api_start(struct api *a, const char *const *extra)
{
	static bool once;
	char dir[48];

	if (!once)
		atexit(remove_dirs);
	once = true;
	snprintf(dir, sizeof(dir), "/tmp/kube-test-%d-XXXXXX", getpid());
	assert_non_null(mkdtemp(dir));
	api_start_in(a, dir, extra);
}

static inline void api_stop(struct api *a)
{
	char cmd[128];

	close(a->in);
	close(a->out);
	close(a->control);
	/* it ends with its input, and ends what it started; a stopped one does not */
	for (int i = 0; i < 500 && waitpid(a->pid, NULL, WNOHANG) == 0; i++)
		usleep(10000);
	if (kill(a->pid, SIGKILL) == 0)
		waitpid(a->pid, NULL, 0);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", a->dir);
	assert_int_equal(system(cmd), 0);
}

/* One command; the answer belongs to the caller. A command that fails is a fault of the test. */
static inline json_t *api_ask(struct api *a, const char *fmt, ...)
{
	_cleanup_(freep) char *text = NULL;
	size_t n = 0, cap = 1 << 20;
	char *buf = malloc(cap);
	json_t *o;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vasprintf(&text, fmt, ap);
	va_end(ap);
	assert_true(len > 0);
	assert_int_equal(write(a->control, text, len), len);
	assert_int_equal(write(a->control, "\n", 1), 1);
	while (n < cap - 1 && read(a->control, buf + n, 1) == 1 && buf[n] != '\n')
		n++;
	o = json_loadb(buf, n, JSON_ALLOW_NUL, NULL);
	free(buf);
	if (!json_is_true(json_object_get(o, "ok")))
		fail_msg("command %s: %s", text,
			 json_string_value(json_object_get(o, "error")) ?: "no answer");
	return o;
}

#define api(a, ...) json_decref(api_ask(a, __VA_ARGS__))

/* How many requests of this kind there were. */
static inline long api_count(struct api *a, const char *resource, const char *verb)
{
	json_t *o = api_ask(a, "{\"cmd\":\"requests\",\"resource\":\"%s\",\"verb\":\"%s\"}", resource,
			    verb);
	long n = json_integer_value(json_object_get(o, "n"));

	json_decref(o);
	return n;
}

static inline void api_service(struct api *a, const char *name, const char *ip)
{
	api(a,
	    "{\"cmd\":\"put\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{"
	    "\"name\":\"%s\",\"namespace\":\"default\"},\"spec\":{\"type\":\"ClusterIP\","
	    "\"clusterIP\":\"%s\",\"ports\":[{\"port\":80,\"protocol\":\"TCP\"}]}}}",
	    name, ip);
}

static inline void on_store(const struct bn_obj *old, const struct bn_obj *new, void *data)
{
	struct cluster *c = data;

	(void)old;
	if (new)
		c->puts++;
	else
		c->dels++;
}

static inline void on_change(void *data)
{
	((struct cluster *)data)->changed++;
}

static inline void cluster_base(struct cluster *c)
{
	c->base = event_base_new();
	assert_non_null(c->base);
	assert_int_equal(bn_store_new(&c->store), 0);
	assert_int_equal(bn_store_listen(c->store, on_store, c), 0);
}

/* A source with the given options; kubeconfig NULL: the server's own. */
static inline void cluster_source(struct cluster *c, struct bn_kube_opts o)
{
	const struct bn_source_callbacks cb = { on_change, c };
	char path[128], err[512];

	snprintf(path, sizeof(path), "%s/kubeconfig", c->api.dir);
	if (!o.kubeconfig && !o.sa_dir)
		o.kubeconfig = path;
	if (bn_kube_new(c->base, &o, c->store, &cb, &c->src, err) < 0)
		fail_msg("%s", err);
	assert_int_equal(bn_source_start(c->src), 0);
}

static inline void cluster_start(struct cluster *c, const char *const *extra)
{
	memset(c, 0, sizeof(*c));
	api_start(&c->api, extra);
	cluster_base(c);
}

static inline void cluster_stop(struct cluster *c)
{
	bn_source_freep(&c->src);
	bn_store_freep(&c->store);
	event_base_free(c->base);
	api_stop(&c->api);
}

/* Lets the loop run for so long. */
static inline void spin(struct cluster *c, double seconds)
{
	struct timeval tv = { (long)seconds, (long)((seconds - (long)seconds) * 1e6) };

	bn_intern_collect();
	event_base_loopexit(c->base, &tv);
	event_base_dispatch(c->base);
}

#define wait_for_s(c, limit, cond)                                                                 \
	do {                                                                                       \
		double _until = now_s() + (limit);                                                 \
		while (!(cond) && now_s() < _until)                                                \
			spin(c, 0.005);                                                            \
		if (!(cond))                                                                       \
			fail_msg("%s:%d: not within %d s: %s; services: '%s'", __FILE__, __LINE__, \
				 (int)(limit), #cond,                                              \
				 (c)->src ? (c)->src->state[BN_KIND_SERVICE].error : "");          \
	} while (0)
#define wait_for(c, cond) wait_for_s(c, WAIT_S, cond)

#define ALL_KINDS ((1u << BN_KIND__MAX) - 1)
#define synced(c) bn_source_synced((c)->src, ALL_KINDS)
#define count(c, kind) bn_store_count((c)->store, kind)
#define has(c, kind, name) (bn_store_get((c)->store, kind, "default", name) != NULL)
#define error_of(c, kind) ((c)->src->state[kind].error)

static inline double cpu_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static inline long rss_kib(void)
{
	char line[256];
	long kib = 0;
	_cleanup_(fclosep) FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %ld", &kib) == 1)
			break;
	return kib;
}

#endif
