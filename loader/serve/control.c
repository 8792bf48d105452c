/* SPDX-License-Identifier: MIT */
#include "loader/serve/control.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "loader/hold.h"
#include "loader/log.h"
#include "loader/serve/control_file.h"

#define MAX_COMMANDS 64
/* A reply is written ahead of its reader by at most this, a stream queues at most this. */
#define OUT_HIGH (256 * 1024)
#define OUT_LOW (64 * 1024)
#define STREAM_MAX (1024 * 1024)

struct command {
	const char *name;
	bn_control_fn fn;
	bn_stream_fn stream;
	void *data;
};

struct bn_control_stream {
	TAILQ_ENTRY(bn_control_stream) list;
	struct bn_control *c;
	struct bufferevent *bev;
	struct event *deadline;
	bool busy;    /* a reply or a stream is under way: no further request is read */
	bool closing; /* free when the output is written */
	bool streaming;
	bool eof; /* the client shut its sending side down */
	struct evbuffer *held; /* what a stream's handler sends before it has accepted */
	json_t *rows; /* array that is written piece by piece */
	size_t row;
	json_t *(*make_row)(const json_t *element, void *data);
	void *make_row_data;
	bool some_row; /* one was written: the next needs a comma */
	unsigned long lost;
	void (*on_close)(void *data);
	void *on_close_data;
};

struct bn_control {
	struct event_base *base;
	struct evconnlistener *listener;
	struct event *relisten;
	struct bn_control_file file;
	unsigned request_ms, reply_ms;
	size_t nclients, nstreams, ncommands;
	struct command commands[MAX_COMMANDS];
	TAILQ_HEAD(, bn_control_stream) conns;
};

int bn_reply_error(struct bn_reply *r, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->error, sizeof(r->error), fmt, ap);
	va_end(ap);
	return err > 0 ? -err : err ? err : -EIO;
}

static void conn_free(struct bn_control_stream *s)
{
	struct bn_control *c = s->c;

	TAILQ_REMOVE(&c->conns, s, list);
	c->nclients--;
	if (s->streaming)
		c->nstreams--;
	if (s->on_close)
		s->on_close(s->on_close_data);
	json_decref(s->rows);
	if (s->deadline)
		event_free(s->deadline);
	if (s->bev)
		bufferevent_free(s->bev);
	free(s);
}

static struct evbuffer *conn_out(struct bn_control_stream *s)
{
	return bufferevent_get_output(s->bev);
}

static void conn_deadline(struct bn_control_stream *s, unsigned ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	event_add(s->deadline, &tv);
}

static int dump_cb(const char *buf, size_t len, void *data)
{
	return evbuffer_add(data, buf, len);
}

static int dump(struct evbuffer *out, const json_t *v)
{
	return json_dump_callback(v, dump_cb, out, JSON_COMPACT | JSON_ENCODE_ANY) ? -ENOMEM : 0;
}

static void send_error(struct bn_control_stream *s, int err, const char *text)
{
	json_t *o = json_pack("{sb ss* si}", "ok", 0, "error", text, "errno", err);

	if (!o || !json_object_get(o, "error")) { /* not UTF-8 */
		json_decref(o);
		o = json_pack("{sb ss si}", "ok", 0, "error", "(message with invalid UTF-8)", "errno",
			      err);
	}
	if (o && !dump(conn_out(s), o))
		evbuffer_add(conn_out(s), "\n", 1);
	json_decref(o);
}

/* Writes on with the array of a reply while little is queued; true when the reply is complete. */
static bool pump_rows(struct bn_control_stream *s)
{
	struct evbuffer *out = conn_out(s);
	size_t n = json_array_size(s->rows);

	while (s->row < n && evbuffer_get_length(out) < OUT_HIGH) {
		json_t *row = json_array_get(s->rows, s->row++);

		row = s->make_row ? s->make_row(row, s->make_row_data) : json_incref(row);
		if (!row)
			continue;
		if (s->some_row)
			evbuffer_add(out, ",", 1);
		s->some_row = true;
		if (dump(out, row) < 0)
			evbuffer_add(out, "null", 4);
		json_decref(row);
	}
	if (s->row < n)
		return false;
	evbuffer_add(out, "]}\n", 3);
	json_decref(s->rows);
	s->rows = NULL;
	return true;
}

static void send_data(struct bn_control_stream *s, const struct bn_reply *r)
{
	struct evbuffer *out = conn_out(s);
	json_t *data = r->data;

	evbuffer_add_printf(out, "{\"ok\":true,\"data\":");
	if (json_is_array(data)) {
		evbuffer_add(out, "[", 1);
		s->rows = data;
		s->row = 0;
		s->some_row = false;
		s->make_row = r->row;
		s->make_row_data = r->row_data;
		pump_rows(s);
		return;
	}
	if (!data || dump(out, data) < 0)
		evbuffer_add(out, "null", 4);
	evbuffer_add(out, "}\n", 2);
	json_decref(data);
}

static const struct command *find_command(struct bn_control *c, const char *name)
{
	for (size_t i = 0; i < c->ncommands; i++)
		if (!strcmp(c->commands[i].name, name))
			return &c->commands[i];
	return NULL;
}

static void start_stream(struct bn_control_stream *s, const struct command *cmd, const json_t *args)
{
	struct bn_reply r = { 0 };
	int err;

	if (s->c->nstreams >= BN_CONTROL_MAX_STREAMS) {
		send_error(s, EAGAIN, "too many subscribers; end one of them first");
		return;
	}
	s->held = evbuffer_new();
	if (!s->held) {
		send_error(s, ENOMEM, strerror(ENOMEM));
		return;
	}
	s->streaming = true;
	s->c->nstreams++;
	event_del(s->deadline);
	err = cmd->stream(s, args, &r, cmd->data);
	if (err < 0) {
		s->streaming = s->closing = false;
		s->c->nstreams--;
		s->on_close = NULL;
		conn_deadline(s, s->c->reply_ms);
		send_error(s, -err, r.error[0] ? r.error : strerror(-err));
	} else {
		evbuffer_add_printf(conn_out(s), "{\"ok\":true,\"stream\":true}\n");
		evbuffer_add_buffer(conn_out(s), s->held);
	}
	evbuffer_free(s->held);
	s->held = NULL;
}

static void dispatch(struct bn_control_stream *s, const json_t *req)
{
	const char *name = json_string_value(json_object_get(req, "cmd"));
	json_t *args = json_object_get(req, "args");
	_cleanup_(json_decrefp) json_t *none = json_object();
	const struct command *cmd;
	struct bn_reply r = { 0 };
	char text[160];
	int err;

	if (!name || (args && !json_is_object(args) && !json_is_null(args))) {
		send_error(s, EINVAL, "a request is {\"cmd\":\"...\",\"args\":{...}}");
		return;
	}
	cmd = find_command(s->c, name);
	if (!cmd) {
		snprintf(text, sizeof(text), "unknown command '%.80s'", name);
		send_error(s, EOPNOTSUPP, text);
		return;
	}
	if (!json_is_object(args))
		args = none;
	if (cmd->stream) {
		start_stream(s, cmd, args);
		return;
	}
	err = cmd->fn(args, &r, cmd->data);
	if (err < 0) {
		json_decref(r.data);
		send_error(s, -err, r.error[0] ? r.error : strerror(-err));
		return;
	}
	send_data(s, &r);
}

static void conn_request(struct bn_control_stream *s, const char *line, size_t len)
{
	_cleanup_(json_decrefp) json_t *req = NULL;
	json_error_t je;
	uint64_t began;
	char text[320];

	s->busy = true;
	conn_deadline(s, s->c->reply_ms);
	req = json_loadb(line, len, JSON_REJECT_DUPLICATES, &je);
	if (!req) {
		snprintf(text, sizeof(text), "request is not JSON: %s", je.text);
		send_error(s, EINVAL, text);
		return;
	}
	began = bn_hold_begin();
	dispatch(s, req);
	bn_hold_end(BN_WORK_ANSWER, began);
}

/* Takes the next request when none is under way. */
static void conn_read(struct bufferevent *bev, void *data)
{
	struct bn_control_stream *s = data;
	struct evbuffer *in = bufferevent_get_input(bev);
	size_t len;

	if (s->streaming || s->closing) {
		evbuffer_drain(in, evbuffer_get_length(in));
		return;
	}
	if (s->busy)
		return;
	_cleanup_(freep) char *line = evbuffer_readln(in, &len, EVBUFFER_EOL_LF);

	if (line) {
		conn_request(s, line, len);
	} else if (evbuffer_get_length(in) >= BN_CONTROL_MAX_REQUEST) {
		s->busy = s->closing = true;
		send_error(s, EMSGSIZE, "request too long");
	}
}

/* The output is (nearly) written. */
static void conn_write(struct bufferevent *bev, void *data)
{
	struct bn_control_stream *s = data;

	if (s->rows) {
		pump_rows(s);
		return;
	}
	if (evbuffer_get_length(conn_out(s)) > 0)
		return;
	if (s->closing) {
		conn_free(s);
		return;
	}
	if (s->streaming || !s->busy)
		return;
	s->busy = false;
	conn_deadline(s, s->c->request_ms);
	conn_read(bev, s);
	if (!s->busy && s->eof)
		conn_free(s);
}

static void conn_event(_unused_ struct bufferevent *bev, short what, void *data)
{
	struct bn_control_stream *s = data;

	/* A client may shut its sending side down after the request (socat does): it still gets its
	 * reply. For a subscriber it means that it has gone.
	 */
	if ((what & BEV_EVENT_EOF) && s->busy && !s->streaming)
		s->eof = true;
	else
		conn_free(s);
}

static void conn_timeout(_unused_ evutil_socket_t fd, _unused_ short what, void *data)
{
	conn_free(data);
}

static int conn_new(struct bn_control *c, evutil_socket_t fd)
{
	struct bn_control_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->c = c;
	s->bev = bufferevent_socket_new(c->base, fd, BEV_OPT_CLOSE_ON_FREE);
	s->deadline = evtimer_new(c->base, conn_timeout, s);
	if (!s->bev || !s->deadline) {
		if (s->deadline)
			event_free(s->deadline);
		if (s->bev) {
			bufferevent_free(s->bev);
			free(s);
			return 0; /* fd was closed with it */
		}
		free(s);
		return -ENOMEM;
	}
	TAILQ_INSERT_TAIL(&c->conns, s, list);
	c->nclients++;
	bufferevent_setcb(s->bev, conn_read, conn_write, conn_event, s);
	bufferevent_setwatermark(s->bev, EV_READ, 0, BN_CONTROL_MAX_REQUEST);
	bufferevent_setwatermark(s->bev, EV_WRITE, OUT_LOW, 0);
	conn_deadline(s, s->c->request_ms);
	bufferevent_enable(s->bev, EV_READ | EV_WRITE);
	return 0;
}

static void on_accept(_unused_ struct evconnlistener *l, evutil_socket_t fd,
		      _unused_ struct sockaddr *sa, _unused_ int len, void *data)
{
	static const char full[] = "{\"ok\":false,\"error\":\"too many clients\",\"errno\":11}\n";
	struct bn_control *c = data;

	if (c->nclients >= BN_CONTROL_MAX_CLIENTS) {
		(void)!send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	if (conn_new(c, fd) < 0)
		close(fd);
}

/* Out of descriptors: accept would fail again at once, and for ever. */
static void on_accept_error(struct evconnlistener *l, void *data)
{
	struct bn_control *c = data;
	struct timeval tv = { .tv_sec = 1 };

	if (bn_log_ratelimit(60))
		log_warn("control socket: accept: %s", strerror(EVUTIL_SOCKET_ERROR()));
	evconnlistener_disable(l);
	event_add(c->relisten, &tv);
}

static void on_relisten(_unused_ evutil_socket_t fd, _unused_ short what, void *data)
{
	struct bn_control *c = data;

	evconnlistener_enable(c->listener);
}

int bn_control_handle(struct bn_control *c, const char *name, bn_control_fn fn, void *data)
{
	if (find_command(c, name))
		return -EEXIST;
	if (c->ncommands == MAX_COMMANDS)
		return -ENOSPC;
	c->commands[c->ncommands++] = (struct command){ .name = name, .fn = fn, .data = data };
	return 0;
}

int bn_control_handle_stream(struct bn_control *c, const char *name, bn_stream_fn fn, void *data)
{
	int r = bn_control_handle(c, name, NULL, data);

	if (!r)
		c->commands[c->ncommands - 1].stream = fn;
	return r;
}

int bn_stream_send(struct bn_control_stream *s, const json_t *obj)
{
	struct evbuffer *out = s->held ?: conn_out(s);

	if (s->closing || evbuffer_get_length(out) >= STREAM_MAX) {
		s->lost++;
		return -ENOBUFS;
	}
	if (dump(out, obj) < 0)
		return -ENOMEM;
	return evbuffer_add(out, "\n", 1) ? -ENOMEM : 0;
}

unsigned long bn_stream_lost(struct bn_control_stream *s)
{
	unsigned long n = s->lost;

	s->lost = 0;
	return n;
}

void bn_stream_add_lost(struct bn_control_stream *s, unsigned long n)
{
	s->lost += n;
}

void bn_stream_on_close(struct bn_control_stream *s, void (*fn)(void *data), void *data)
{
	s->on_close = fn;
	s->on_close_data = data;
}

void bn_stream_end(struct bn_control_stream *s)
{
	s->closing = true;
	conn_deadline(s, s->c->reply_ms);
	/* With nothing queued no write event comes any more: the deadline, now, closes it. */
	if (!s->held && !evbuffer_get_length(conn_out(s)))
		conn_deadline(s, 0);
}

static int listen_at(struct bn_control *c, const char *run_dir)
{
	int fd = bn_control_file_new(run_dir, &c->file);

	if (fd < 0)
		return fd;
	c->listener = evconnlistener_new(c->base, on_accept, c,
					 LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!c->listener) {
		close(fd);
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(c->listener, on_accept_error);
	return 0;
}

void bn_control_set_deadlines(struct bn_control *c, unsigned request_ms, unsigned reply_ms)
{
	c->request_ms = request_ms;
	c->reply_ms = reply_ms;
}

int bn_control_new(struct event_base *base, const char *run_dir, struct bn_control **ret)
{
	_cleanup_(bn_control_freep) struct bn_control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	signal(SIGPIPE, SIG_IGN); /* libevent writes with writev, which cannot ask for EPIPE alone */
	TAILQ_INIT(&c->conns);
	c->base = base;
	bn_control_set_deadlines(c, BN_CONTROL_REQUEST_S * 1000, BN_CONTROL_REPLY_S * 1000);
	c->relisten = evtimer_new(base, on_relisten, c);
	if (!c->relisten)
		return -ENOMEM;
	r = listen_at(c, run_dir);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

void bn_control_freep(struct bn_control **cp)
{
	struct bn_control *c = *cp;

	if (!c)
		return;
	while (!TAILQ_EMPTY(&c->conns))
		conn_free(TAILQ_FIRST(&c->conns));
	if (c->listener)
		evconnlistener_free(c->listener);
	if (c->relisten)
		event_free(c->relisten);
	bn_control_file_remove(&c->file);
	free(c);
	*cp = NULL;
}
