/* SPDX-License-Identifier: MIT */
#include "loader/serve/http.h"

#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "loader/log.h"
#include "loader/serve/bind.h"

struct conn {
	TAILQ_ENTRY(conn) list;
	struct bn_httpd *h;
	struct bufferevent *bev;
	struct event *deadline;
	bool answered;
};

struct bn_httpd {
	struct event_base *base;
	const char *what;
	char *bind;
	struct bn_bind_addr addr;
	bn_httpd_fn fn;
	void *data;
	struct evconnlistener *listener;
	struct event *retry;
	bool warned;
	size_t nclients;
	TAILQ_HEAD(, conn) conns;
};

static void conn_free(struct conn *c)
{
	TAILQ_REMOVE(&c->h->conns, c, list);
	c->h->nclients--;
	event_free(c->deadline);
	bufferevent_free(c->bev);
	free(c);
}

static const char *reason(int code)
{
	switch (code) {
	case 200: return "OK";
	case 400: return "Bad Request";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 431: return "Request Header Fields Too Large";
	case 503: return "Service Unavailable";
	default: return "Error";
	}
}

static void answer(struct conn *c, struct bn_httpd_response *r, bool head)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);

	c->answered = true;
	evbuffer_add_printf(out,
			    "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
			    "Connection: close\r\n%s\r\n",
			    r->code, reason(r->code), r->content_type,
			    evbuffer_get_length(r->body), r->headers ?: "");
	if (!head)
		evbuffer_add_buffer(out, r->body);
}

static void answer_error(struct conn *c, int code)
{
	struct bn_httpd_response r = {
		.code = code,
		.content_type = "text/plain; charset=utf-8",
		.headers = code == 405 ? "Allow: GET, HEAD\r\n" : NULL,
		.body = evbuffer_new(),
	};

	if (!r.body) {
		conn_free(c);
		return;
	}
	evbuffer_add_printf(r.body, "%d %s\n", code, reason(code));
	answer(c, &r, false);
	evbuffer_free(r.body);
}

/* line: "GET /path HTTP/1.1". An absolute form is cut to its path. */
static void handle(struct conn *c, char *line)
{
	struct bn_httpd_response r = { .code = 200, .content_type = "text/plain; charset=utf-8" };
	char *save = NULL;
	char *method = strtok_r(line, " ", &save);
	char *path = strtok_r(NULL, " ", &save);
	char *version = strtok_r(NULL, " ", &save);
	bool head;

	if (!method || !path || !version || strncmp(version, "HTTP/1.", 7) || *save) {
		answer_error(c, 400);
		return;
	}
	head = !strcmp(method, "HEAD");
	if (!head && strcmp(method, "GET")) {
		answer_error(c, 405);
		return;
	}
	if (!strncasecmp(path, "http://", 7))
		path = strchr(path + 7, '/') ?: (char *)"/";
	if (*path != '/') {
		answer_error(c, 400);
		return;
	}
	if (path[strcspn(path, "?#")]) /* the "/" above is not ours to write into */
		path[strcspn(path, "?#")] = '\0';
	r.body = evbuffer_new();
	if (!r.body) {
		conn_free(c);
		return;
	}
	c->h->fn(path, &r, c->h->data);
	answer(c, &r, head);
	evbuffer_free(r.body);
}

static void on_read(struct bufferevent *bev, void *data)
{
	struct evbuffer *in = bufferevent_get_input(bev);
	struct conn *c = data;
	struct evbuffer_ptr end;
	size_t len;

	if (c->answered) { /* a body, or a request that was pipelined: not read, not an error */
		evbuffer_drain(in, evbuffer_get_length(in));
		return;
	}
	end = evbuffer_search(in, "\r\n\r\n", 4, NULL);
	if (end.pos < 0)
		end = evbuffer_search(in, "\n\n", 2, NULL);
	if (end.pos < 0) {
		if (evbuffer_get_length(in) >= BN_HTTP_MAX_HEAD)
			answer_error(c, 431);
		return;
	}
	_cleanup_(freep) char *line = evbuffer_readln(in, &len, EVBUFFER_EOL_CRLF);

	if (!line || strlen(line) != len) /* a NUL inside */
		answer_error(c, 400);
	else
		handle(c, line);
}

/* All is written: close our side, and wait for the client's, so that bytes which we did not read
 * do not make the kernel reset the connection under the answer.
 */
static void on_write(struct bufferevent *bev, void *data)
{
	struct conn *c = data;

	if (c->answered && !evbuffer_get_length(bufferevent_get_output(bev)))
		shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void on_event(_unused_ struct bufferevent *bev, short what, void *data)
{
	struct conn *c = data;

	/* Half-closed after the request: it still gets the answer; the deadline ends it. */
	if ((what & BEV_EVENT_EOF) && c->answered &&
	    evbuffer_get_length(bufferevent_get_output(c->bev)))
		return;
	conn_free(c);
}

static void on_deadline(_unused_ evutil_socket_t fd, _unused_ short what, void *data)
{
	conn_free(data);
}

static void on_accept(_unused_ struct evconnlistener *l, evutil_socket_t fd,
		      _unused_ struct sockaddr *sa, _unused_ int len, void *data)
{
	struct timeval tv = { .tv_sec = BN_HTTP_TIMEOUT_S };
	struct bn_httpd *h = data;
	struct conn *c = NULL;

	if (h->nclients < BN_HTTP_MAX_CLIENTS)
		c = calloc(1, sizeof(*c));
	if (c)
		c->deadline = evtimer_new(h->base, on_deadline, c);
	if (c && c->deadline)
		c->bev = bufferevent_socket_new(h->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c || !c->bev) {
		close(fd);
		if (c && c->deadline)
			event_free(c->deadline);
		free(c);
		return;
	}
	c->h = h;
	TAILQ_INSERT_TAIL(&h->conns, c, list);
	h->nclients++;
	bufferevent_setcb(c->bev, on_read, on_write, on_event, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, BN_HTTP_MAX_HEAD);
	event_add(c->deadline, &tv);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

static void retry_later(struct bn_httpd *h)
{
	struct timeval tv = { .tv_sec = BN_HTTP_RETRY_S };

	event_add(h->retry, &tv);
}

static void on_accept_error(struct evconnlistener *l, void *data)
{
	struct bn_httpd *h = data;

	if (bn_log_ratelimit(60))
		log_warn("%s: accept: %s", h->what, strerror(EVUTIL_SOCKET_ERROR()));
	evconnlistener_disable(l);
	retry_later(h);
}

static void try_listen(struct bn_httpd *h)
{
	int fd = bn_bind_listen(&h->addr);

	if (fd >= 0) {
		h->listener = evconnlistener_new(h->base, on_accept, h,
						 LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0,
						 fd);
		if (h->listener) {
			evconnlistener_set_error_cb(h->listener, on_accept_error);
			if (h->warned)
				log_info("%s: now listening on %s", h->what, h->bind);
			return;
		}
		close(fd);
		fd = -ENOMEM;
	}
	if (!h->warned)
		log_err_r(fd, "%s: listen on %s (trying again every %d s)", h->what, h->bind,
			  BN_HTTP_RETRY_S);
	h->warned = true;
	retry_later(h);
}

static void on_retry(_unused_ evutil_socket_t fd, _unused_ short what, void *data)
{
	struct bn_httpd *h = data;

	if (h->listener)
		evconnlistener_enable(h->listener);
	else
		try_listen(h);
}

int bn_httpd_new(struct event_base *base, const char *bind, const char *what, bn_httpd_fn fn,
		void *data, struct bn_httpd **ret)
{
	_cleanup_(bn_httpd_freep) struct bn_httpd *h = NULL;
	int r;

	*ret = NULL;
	if (!*bind || !strcmp(bind, "0"))
		return 0;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	*h = (struct bn_httpd){
		.base = base, .what = what, .fn = fn, .data = data, .bind = strdup(bind),
		.retry = evtimer_new(base, on_retry, h),
	};
	TAILQ_INIT(&h->conns);
	if (!h->bind || !h->retry)
		return -ENOMEM;
	r = bn_bind_parse(bind, &h->addr);
	if (r < 0)
		return log_err_r(r, "%s: '%s' is not HOST:PORT, [V6]:PORT or :PORT", what, bind);
	signal(SIGPIPE, SIG_IGN); /* as in control.c */
	try_listen(h);
	*ret = TAKE_PTR(h);
	return 0;
}

void bn_httpd_freep(struct bn_httpd **hp)
{
	struct bn_httpd *h = *hp;

	if (!h)
		return;
	while (!TAILQ_EMPTY(&h->conns))
		conn_free(TAILQ_FIRST(&h->conns));
	if (h->listener)
		evconnlistener_free(h->listener);
	if (h->retry)
		event_free(h->retry);
	free(h->bind);
	free(h);
	*hp = NULL;
}

unsigned bn_httpd_port(const struct bn_httpd *h)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	if (!h || !h->listener ||
	    getsockname(evconnlistener_get_fd(h->listener), (struct sockaddr *)&ss, &len) < 0)
		return 0;
	return ntohs(ss.ss_family == AF_INET ? ((struct sockaddr_in *)&ss)->sin_port :
					       ((struct sockaddr_in6 *)&ss)->sin6_port);
}
