/* SPDX-License-Identifier: MIT */
#include "cli/control_client.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "loader/serve/control.h"
#include "maps/util.h"

#define MAX_REPLY (1024u * 1024 * 1024)

struct bn_client {
	int fd;
	char *buf;
	size_t len, cap, seen; /* seen: without a newline so far */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

bool bn_client_down(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED;
}

static int connect_error(int e, const char *path, char *err, size_t errlen)
{
	if (bn_client_down(-e))
		snprintf(err, errlen, "no daemon listens at %s (is bpfnetd running, with this --run-dir?)",
			 path);
	else if (e == EACCES || e == EPERM)
		snprintf(err, errlen, "%s: not allowed; run as root", path);
	else
		snprintf(err, errlen, "%s: %s", path, strerror(e));
	return -e;
}

int bn_client_new(const char *run_dir, struct bn_client **ret, char *err, size_t errlen)
{
	_cleanup_(bn_client_freep) struct bn_client *c = calloc(1, sizeof(*c));
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = BN_CLIENT_TIMEOUT_MS / 1000 };

	if (!c)
		return -ENOMEM;
	c->fd = -1;
	if ((size_t)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/" BN_CONTROL_SOCKET, run_dir) >=
	    sizeof(sa.sun_path)) {
		snprintf(err, errlen, "--run-dir '%.60s...' is too long for a socket path", run_dir);
		return -ENAMETOOLONG;
	}
	memcpy(c->path, sa.sun_path, sizeof(c->path));
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		snprintf(err, errlen, "socket: %m");
		return -errno;
	}
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return connect_error(errno, c->path, err, errlen);
	*ret = TAKE_PTR(c);
	return 0;
}

void bn_client_freep(struct bn_client **cp)
{
	struct bn_client *c = *cp;

	if (!c)
		return;
	closep(&c->fd);
	free(c->buf);
	free(c);
	*cp = NULL;
}

static int grow(struct bn_client *c)
{
	size_t cap = c->cap ? c->cap * 2 : 16384;
	char *p;

	if (c->cap - c->len >= 4096)
		return 0;
	if (cap > MAX_REPLY)
		return -EMSGSIZE;
	p = realloc(c->buf, cap);
	if (!p)
		return -ENOMEM;
	c->buf = p;
	c->cap = cap;
	return 0;
}

/* Reads until a line is complete: its length without the newline in *len. 0 at the end, 1, or -errno */
static int read_line(struct bn_client *c, int timeout_ms, size_t *len)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	ssize_t n;
	int r;

	for (;;) {
		char *nl = c->len > c->seen ? memchr(c->buf + c->seen, '\n', c->len - c->seen) : NULL;

		if (nl) {
			*len = nl - c->buf;
			return 1;
		}
		c->seen = c->len;
		r = grow(c);
		if (r < 0)
			return r;
		r = poll(&p, 1, timeout_ms);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r ? -errno : -ETIMEDOUT;
		n = recv(c->fd, c->buf + c->len, c->cap - c->len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : 0;
		c->len += n;
	}
}

static int read_json(struct bn_client *c, int timeout_ms, json_t **ret, char *err, size_t errlen)
{
	json_error_t je;
	size_t len = 0;
	int r = read_line(c, timeout_ms, &len);

	if (r == -ETIMEDOUT)
		snprintf(err, errlen, "the daemon at %s does not answer (%d s): it hangs, or is overloaded; what is in force stays", c->path,
			 timeout_ms / 1000);
	else if (r < 0)
		snprintf(err, errlen, "%s: %s", c->path, strerror(-r));
	if (r <= 0)
		return r;
	*ret = json_loadb(c->buf, len, JSON_DECODE_ANY, &je);
	memmove(c->buf, c->buf + len + 1, c->len - len - 1);
	c->len -= len + 1;
	c->seen = 0;
	if (*ret)
		return 1;
	snprintf(err, errlen, "%s: the answer is not JSON: %s", c->path, je.text);
	return -EPROTO;
}

static int send_all(struct bn_client *c, const char *p, size_t n)
{
	while (n) {
		ssize_t k = send(c->fd, p, n, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		p += k;
		n -= k;
	}
	return 0;
}

static int send_request(struct bn_client *c, const char *cmd, const json_t *args)
{
	_cleanup_(json_decrefp) json_t *req =
		json_pack("{ss sO*}", "cmd", cmd, "args", (json_t *)args);
	_cleanup_(freep) char *text = req ? json_dumps(req, JSON_COMPACT) : NULL;
	int r;

	if (!text)
		return -EINVAL; /* most likely an argument that is not UTF-8 */
	r = send_all(c, text, strlen(text));
	return r ?: send_all(c, "\n", 1);
}

int bn_client_call(struct bn_client *c, const char *cmd, const json_t *args, json_t **ret, char *err,
		   size_t errlen)
{
	_cleanup_(json_decrefp) json_t *reply = NULL;
	const char *text;
	json_t *data;
	int r;

	r = send_request(c, cmd, args);
	if (r == -EINVAL)
		snprintf(err, errlen, "the arguments are not valid UTF-8");
	else if (r < 0 && r != -EPIPE)
		snprintf(err, errlen, "%s: %s", c->path, strerror(-r));
	if (r < 0 && r != -EPIPE)
		return r;
	/* After EPIPE there may still be a line that says why. */
	r = read_json(c, BN_CLIENT_TIMEOUT_MS, &reply, err, errlen);
	if (!r) {
		snprintf(err, errlen, "the daemon at %s closed the connection", c->path);
		return -EPIPE;
	}
	if (r < 0)
		return r;
	if (!json_is_true(json_object_get(reply, "ok"))) {
		text = json_string_value(json_object_get(reply, "error"));
		snprintf(err, errlen, "%s", text ?: "the daemon refused without a reason");
		r = -(int)json_integer_value(json_object_get(reply, "errno"));
		/* Nobody may take the daemon's own ENOENT for "no daemon". */
		if (r == -ENOENT)
			return -ESRCH;
		return r >= 0 || r == -ECONNREFUSED ? -EREMOTEIO : r;
	}
	data = json_object_get(reply, "data");
	*ret = data ? json_incref(data) : json_null();
	return 0;
}

int bn_client_next(struct bn_client *c, json_t **ret, char *err, size_t errlen)
{
	return read_json(c, -1, ret, err, errlen);
}

int bn_client_ask(const char *run_dir, const char *cmd, const json_t *args, json_t **ret, char *err,
		  size_t errlen)
{
	_cleanup_(bn_client_freep) struct bn_client *c = NULL;
	int r = bn_client_new(run_dir, &c, err, errlen);

	return r < 0 ? r : bn_client_call(c, cmd, args, ret, err, errlen);
}
