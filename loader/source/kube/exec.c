/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/exec.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define OUTPUT_MAX (1u << 20)
#define STDERR_MAX 300
#define TIMEOUT_S 60

struct bn_exec {
	const struct bn_kube_config *c;
	void (*fn)(struct bn_exec_result *r, void *data);
	void *data;
	pid_t pid;
	int pidfd, out, err;
	struct event *out_ev, *err_ev, *pid_ev, *timer;
	struct bn_secret buf; /* of OUTPUT_MAX + 1, `len` used */
	size_t len;
	char words[STDERR_MAX + 1]; /* the beginning of its stderr */
	size_t nwords;
	bool out_done, exited;
	int status;
	struct bn_exec_result res;
};

extern char **environ;

int bn_kube_parse_time(const char *text, int64_t *ret)
{
	struct tm tm = { 0 };
	const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int h, m, end = 0;

	if (!p)
		return -EINVAL;
	if (*p == '.')
		p += 1 + strspn(p + 1, "0123456789");
	if ((*p == 'Z' || *p == 'z') && !p[1]) {
		*ret = timegm(&tm);
		return 0;
	}
	if ((*p != '+' && *p != '-') || sscanf(p + 1, "%2d:%2d%n", &h, &m, &end) != 2 || p[1 + end])
		return -EINVAL;
	*ret = timegm(&tm) - (*p == '+' ? 1 : -1) * (h * 3600 + m * 60);
	return 0;
}

static void event_freep(struct event **e)
{
	if (*e)
		event_free(*e);
	*e = NULL;
}

void bn_exec_freep(struct bn_exec **xp)
{
	struct bn_exec *x = *xp;

	if (!x)
		return;
	event_freep(&x->out_ev);
	event_freep(&x->err_ev);
	event_freep(&x->pid_ev);
	event_freep(&x->timer);
	if (x->pid > 0 && !x->exited) {
		kill(-x->pid, SIGKILL);
		waitpid(x->pid, NULL, 0);
	}
	closep(&x->pidfd);
	closep(&x->out);
	closep(&x->err);
	bn_secret_clear(&x->buf);
	bn_secret_clear(&x->res.token);
	bn_secret_clear(&x->res.cert);
	bn_secret_clear(&x->res.key);
	free(x);
	*xp = NULL;
}

_printf_(3, 4) static void set_error(struct bn_exec *x, int err, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (x->res.err)
		return;
	x->res.err = err;
	n = snprintf(x->res.message, sizeof(x->res.message), "exec plugin '%s': ",
		     x->c->exec->command);
	if (n < 0 || (size_t)n >= sizeof(x->res.message))
		return;
	va_start(ap, fmt);
	vsnprintf(x->res.message + n, sizeof(x->res.message) - n, fmt, ap);
	va_end(ap);
}

/* What the plugin printed is never quoted: it is the secret. */
static void read_credential(struct bn_exec *x, const json_t *cred)
{
	const char *version = json_string_value(json_object_get(cred, "apiVersion"));
	const char *kind = json_string_value(json_object_get(cred, "kind"));
	const json_t *st = json_object_get(cred, "status");
	const char *token = json_string_value(json_object_get(st, "token"));
	const char *cert = json_string_value(json_object_get(st, "clientCertificateData"));
	const char *key = json_string_value(json_object_get(st, "clientKeyData"));
	const char *when = json_string_value(json_object_get(st, "expirationTimestamp"));
	struct bn_exec_result *r = &x->res;

	if (!kind || strcmp(kind, "ExecCredential")) {
		set_error(x, -EPROTO, "its output is not an ExecCredential");
		return;
	}
	if (!version || strcmp(version, x->c->exec->api_version)) {
		set_error(x, -EPROTO, "it answered with another apiVersion than %s",
			  x->c->exec->api_version);
		return;
	}
	if ((!token || !*token) && !cert) {
		set_error(x, -EPROTO, "it gave neither a token nor a client certificate");
		return;
	}
	if (!cert != !key) {
		set_error(x, -EPROTO, "a client certificate and its key must come together");
		return;
	}
	if (when && bn_kube_parse_time(when, &r->expires_s) < 0) {
		set_error(x, -EPROTO, "expirationTimestamp is not a time");
		return;
	}
	if ((token && bn_secret_set(&r->token, token, strlen(token)) < 0) ||
	    (cert && bn_secret_set(&r->cert, cert, strlen(cert)) < 0) ||
	    (key && bn_secret_set(&r->key, key, strlen(key)) < 0))
		set_error(x, -ENOMEM, "no memory");
	bn_secret_trim(&r->token);
	for (size_t i = 0; i < r->token.n; i++)
		if ((unsigned char)r->token.p[i] < 0x20 || r->token.p[i] == 0x7f)
			set_error(x, -EPROTO, "the token holds a control character");
}

static void wipe(json_t *v)
{
	const char *key;
	json_t *item;

	if (json_is_string(v))
		explicit_bzero((char *)json_string_value(v), json_string_length(v));
	json_object_foreach(v, key, item)
		wipe(item);
}

static void finish(struct bn_exec *x)
{
	json_t *cred;
	char *nl;

	if (!x->out_done || !x->exited)
		return;
	event_freep(&x->timer);
	event_freep(&x->err_ev);
	nl = strpbrk(x->words, "\r\n");
	if (nl)
		*nl = 0;
	if (WIFSIGNALED(x->status))
		set_error(x, -ECHILD, "killed by signal %d", WTERMSIG(x->status));
	else if (WEXITSTATUS(x->status))
		set_error(x, -ECHILD, "ended with status %d%s%s", WEXITSTATUS(x->status),
			  x->words[0] ? ": " : "", x->words);
	if (!x->res.err) {
		cred = json_loadb(x->buf.p, x->len, 0, NULL);
		if (cred)
			read_credential(x, cred);
		else
			set_error(x, -EPROTO, "its output is not JSON");
		wipe(cred);
		json_decref(cred);
	}
	bn_secret_clear(&x->buf);
	x->fn(&x->res, x->data);
}

static void give_up(struct bn_exec *x)
{
	kill(-x->pid, SIGKILL);
	event_del(x->out_ev);
	x->out_done = true;
}

static void on_out(evutil_socket_t fd, short what, void *data)
{
	struct bn_exec *x = data;
	ssize_t n = read(fd, x->buf.p + x->len, OUTPUT_MAX + 1 - x->len);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		x->len += n;
		if (x->len <= OUTPUT_MAX)
			return;
		set_error(x, -EFBIG, "more than %u bytes of output", OUTPUT_MAX);
		give_up(x);
	} else {
		event_del(x->out_ev);
		x->out_done = true;
	}
	finish(x);
}

static void on_err(evutil_socket_t fd, short what, void *data)
{
	struct bn_exec *x = data;
	char skip[512];
	ssize_t n;

	(void)what;
	if (x->nwords < STDERR_MAX) {
		n = read(fd, x->words + x->nwords, STDERR_MAX - x->nwords);
		if (n > 0)
			x->nwords += n;
	} else {
		n = read(fd, skip, sizeof(skip));
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		event_del(x->err_ev);
}

static void on_exit_event(evutil_socket_t fd, short what, void *data)
{
	struct bn_exec *x = data;

	(void)fd;
	(void)what;
	if (waitpid(x->pid, &x->status, WNOHANG) != x->pid)
		return;
	event_del(x->pid_ev);
	x->exited = true;
	/* What it wrote before it ended is in the pipe; a child of its that still holds the other
	 * end must not keep us waiting.
	 */
	while (!x->out_done && x->len <= OUTPUT_MAX) {
		ssize_t n = read(x->out, x->buf.p + x->len, OUTPUT_MAX + 1 - x->len);

		if (n <= 0)
			break;
		x->len += n;
	}
	if (x->len > OUTPUT_MAX)
		set_error(x, -EFBIG, "more than %u bytes of output", OUTPUT_MAX);
	if (!x->nwords) {
		ssize_t n = read(x->err, x->words, STDERR_MAX);

		x->nwords = n > 0 ? n : 0;
	}
	event_del(x->out_ev);
	x->out_done = true;
	finish(x);
}

static void on_timeout(evutil_socket_t fd, short what, void *data)
{
	struct bn_exec *x = data;

	(void)fd;
	(void)what;
	set_error(x, -ETIMEDOUT, "no answer within %d s", TIMEOUT_S);
	give_up(x);
	finish(x); /* or when the kill has been reaped */
}

/* KUBERNETES_EXEC_INFO: what the plugin may know of the cluster. */
static char *exec_info(const struct bn_kube_config *c)
{
	json_t *o = json_pack("{ss ss s{sb}}", "kind", "ExecCredential", "apiVersion",
			      c->exec->api_version, "spec", "interactive", 0);
	json_t *cl;
	char *text, *out = NULL;

	if (c->exec->cluster_info) {
		_cleanup_(freep) char *b64 = NULL;
		struct bn_secret ca = { 0 };

		cl = json_pack("{ss}", "server", c->server);
		if (c->tls_server_name)
			json_object_set_new(cl, "tls-server-name", json_string(c->tls_server_name));
		if (c->insecure)
			json_object_set_new(cl, "insecure-skip-tls-verify", json_true());
		if (c->proxy_url)
			json_object_set_new(cl, "proxy-url", json_string(c->proxy_url));
		if (c->ca.n)
			bn_secret_set(&ca, c->ca.p, c->ca.n);
		else if (c->ca_file)
			bn_secret_set_file(&ca, c->ca_file, BN_KUBE_FILE_MAX);
		b64 = ca.n ? bn_secret_base64(&ca) : NULL;
		if (b64)
			json_object_set_new(cl, "certificate-authority-data", json_string(b64));
		bn_secret_clear(&ca);
		if (c->exec->cluster_config)
			json_object_set(cl, "config", c->exec->cluster_config);
		json_object_set_new(json_object_get(o, "spec"), "cluster", cl);
	}
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	if (!text || asprintf(&out, "KUBERNETES_EXEC_INFO=%s", text) < 0)
		out = NULL;
	free(text);
	json_decref(o);
	return out;
}

/* Later ones win: the config's over ours. */
static bool overridden(const char *var, char *const *by)
{
	size_t n = strcspn(var, "=");

	for (; by && *by; by++)
		if (!strncmp(var, *by, n + 1))
			return true;
	return false;
}

static char **child_env(const struct bn_kube_exec *e, char *info)
{
	size_t n = 0, k = 0, own = 0;
	char **out;

	for (n = 0; environ[n]; n++)
		;
	for (own = 0; e->env && e->env[own]; own++)
		;
	out = calloc(n + own + 2, sizeof(*out));
	if (!out)
		return NULL;
	for (n = 0; environ[n]; n++)
		if (!overridden(environ[n], e->env) &&
		    strncmp(environ[n], "KUBERNETES_EXEC_INFO=", 21))
			out[k++] = environ[n];
	for (own = 0; e->env && e->env[own]; own++)
		out[k++] = e->env[own];
	out[k] = info;
	return out;
}

static int spawn(struct bn_exec *x, const struct bn_kube_exec *e, int out, int err)
{
	_cleanup_(freep) char *info = exec_info(x->c);
	_cleanup_(freep) char **envp = NULL;
	_cleanup_(freep) char **argv = NULL;
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none, all;
	size_t n = 0;
	int r;

	while (e->args && e->args[n])
		n++;
	envp = info ? child_env(e, info) : NULL;
	argv = calloc(n + 2, sizeof(*argv));
	if (!envp || !argv)
		return -ENOMEM;
	argv[0] = e->command;
	for (size_t i = 0; i < n; i++)
		argv[i + 1] = e->args[i];
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&fa);
	posix_spawnattr_init(&at);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, out, 1);
	posix_spawn_file_actions_adddup2(&fa, err, 2);
	posix_spawn_file_actions_addclosefrom_np(&fa, 3);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
					      POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&at, &none);
	posix_spawnattr_setsigdefault(&at, &all);
	r = -posix_spawnp(&x->pid, e->command, &fa, &at, argv, envp);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&at);
	if (r < 0)
		x->pid = 0;
	return r;
}

static int watch(struct bn_exec *x, struct event_base *base)
{
	static const struct timeval limit = { .tv_sec = TIMEOUT_S };

	fcntl(x->out, F_SETFL, O_NONBLOCK);
	fcntl(x->err, F_SETFL, O_NONBLOCK);
	x->pidfd = syscall(SYS_pidfd_open, x->pid, 0);
	if (x->pidfd < 0)
		return -errno;
	fcntl(x->pidfd, F_SETFD, FD_CLOEXEC);
	x->out_ev = event_new(base, x->out, EV_READ | EV_PERSIST, on_out, x);
	x->err_ev = event_new(base, x->err, EV_READ | EV_PERSIST, on_err, x);
	x->pid_ev = event_new(base, x->pidfd, EV_READ | EV_PERSIST, on_exit_event, x);
	x->timer = evtimer_new(base, on_timeout, x);
	if (!x->out_ev || !x->err_ev || !x->pid_ev || !x->timer)
		return -ENOMEM;
	if (event_add(x->out_ev, NULL) || event_add(x->err_ev, NULL) ||
	    event_add(x->pid_ev, NULL) || evtimer_add(x->timer, &limit))
		return -EIO;
	return 0;
}

int bn_exec_start(struct event_base *base, const struct bn_kube_config *c,
		  void (*fn)(struct bn_exec_result *r, void *data), void *data,
		  struct bn_exec **ret)
{
	_cleanup_(bn_exec_freep) struct bn_exec *x = calloc(1, sizeof(*x));
	int out[2] = { -1, -1 }, err[2] = { -1, -1 }, r;

	if (!x)
		return -ENOMEM;
	*x = (struct bn_exec){ .c = c, .fn = fn, .data = data, .pidfd = -1, .out = -1, .err = -1 };
	_cleanup_(freep) char *zero = calloc(1, OUTPUT_MAX + 1);

	if (!zero || bn_secret_set(&x->buf, zero, OUTPUT_MAX + 1) < 0)
		return -ENOMEM;
	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(err, O_CLOEXEC) < 0) {
		r = -errno;
		close(out[0]);
		close(out[1]);
		return r;
	}
	x->out = out[0];
	x->err = err[0];
	r = spawn(x, c->exec, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	r = r ?: watch(x, base);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(x);
	return 0;
}
