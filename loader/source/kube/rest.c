/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/rest_int.h"

#include <string.h>

#include "loader/hold.h"

static void drive(struct bn_rest *h, curl_socket_t fd, int mask);

/* --- libcurl's sockets and timer in the loop -------------------------------------------------- */

static void on_socket(evutil_socket_t fd, short what, void *data)
{
	drive(data, fd, (what & EV_READ ? CURL_CSELECT_IN : 0) |
				(what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static int socket_cb(CURL *easy, curl_socket_t fd, int what, void *data, void *sockp)
{
	struct bn_rest *h = data;
	struct event *ev = sockp;
	short flags = EV_PERSIST | (what & CURL_POLL_IN ? EV_READ : 0) |
		      (what & CURL_POLL_OUT ? EV_WRITE : 0);

	(void)easy;
	if (ev)
		event_free(ev);
	ev = NULL;
	if (what != CURL_POLL_REMOVE) {
		ev = event_new(h->base, fd, flags, on_socket, h);
		if (ev)
			event_add(ev, NULL);
	}
	curl_multi_assign(h->multi, fd, ev);
	return 0;
}

static int timer_cb(CURLM *multi, long timeout_ms, void *data)
{
	struct bn_rest *h = data;
	struct timeval tv = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };

	(void)multi;
	if (timeout_ms < 0)
		evtimer_del(h->timer);
	else
		evtimer_add(h->timer, &tv);
	return 0;
}

static void on_timer(evutil_socket_t fd, short what, void *data)
{
	(void)fd;
	(void)what;
	drive(data, CURL_SOCKET_TIMEOUT, 0);
}

int bn_rest_make_multi(struct bn_rest *h)
{
	h->multi = curl_multi_init();
	if (!h->multi)
		return -ENOMEM;
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, socket_cb);
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, timer_cb);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
	return 0;
}

/* --- one request ------------------------------------------------------------------------------ */

static void kick(struct bn_rest *h)
{
	event_active(h->kick, EV_TIMEOUT, 1);
}

void bn_rest_detach(struct bn_rest_req *r)
{
	struct bn_rest *h = r->h;

	if (r->easy) {
		curl_multi_remove_handle(h->multi, r->easy);
		curl_easy_reset(r->easy);
		if (h->nspare < ARRAY_SIZE(h->spare))
			h->spare[h->nspare++] = r->easy;
		else
			curl_easy_cleanup(r->easy);
	}
	r->easy = NULL;
	bn_rest_headers_free(r->headers);
	curl_slist_free_all(r->connect_to);
	r->headers = r->connect_to = NULL;
}

void bn_rest_free_req(struct bn_rest_req *r)
{
	bn_rest_detach(r);
	TAILQ_REMOVE(&r->h->reqs, r, link);
	free(r->path);
	free(r->send);
	free(r->body);
	free(r);
}

static void observe(struct bn_rest_req *r)
{
	char code[16] = "<error>";

	if (r->observed)
		return;
	r->observed = true;
	if (r->status)
		snprintf(code, sizeof(code), "%ld", r->status);
	if (r->h->hooks.observe)
		r->h->hooks.observe(r->h->hooks.data, code, r->h->target.host, r->method,
				    (bn_rest_now_ms() - r->start_ms) / 1e3);
}

static size_t header_cb(char *p, size_t size, size_t n, void *data)
{
	struct bn_rest_req *r = data;

	n *= size;
	bn_rest_heard(r->h);
	if (r->state == DEAD)
		return 0;
	if (n > 2 || (n && p[0] != '\r' && p[0] != '\n'))
		return n;
	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->status);
	if (r->status >= 200) {
		observe(r);
		if (r->status == 200 && r->handler->head)
			r->handler->head(r->data);
	}
	return n;
}

static size_t body_cb(char *p, size_t size, size_t n, void *data)
{
	struct bn_rest_req *r = data;
	size_t room;

	n *= size;
	bn_rest_heard(r->h);
	if (r->state == DEAD)
		return 0;
	if (r->status == 200) {
		r->body_err = r->handler->body ? r->handler->body(r->data, p, n) : 0;
		return r->body_err < 0 || r->state == DEAD ? 0 : n;
	}
	if (!r->body)
		r->body = malloc(BN_REST_ERROR_BODY + 1);
	if (!r->body)
		return 0;
	room = BN_REST_ERROR_BODY - r->body_len;
	if (room > n)
		room = n;
	memcpy(r->body + r->body_len, p, room);
	r->body_len += room;
	r->body[r->body_len] = 0;
	return n; /* the rest is not worth reading, but the connection is worth keeping */
}

/* What makes it something else than a GET. */
static CURLcode set_body(struct bn_rest_req *r)
{
	if (!r->send)
		return CURLE_OK;
	return curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE, (long)strlen(r->send))
		?: curl_easy_setopt(r->easy, CURLOPT_POSTFIELDS, r->send)
		?: curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, r->method);
}

static int req_start(struct bn_rest_req *r)
{
	struct bn_rest *h = r->h;
	_cleanup_(freep) char *url = NULL;
	CURLcode cr;
	int e;

	r->easy = h->nspare ? h->spare[--h->nspare] : curl_easy_init();
	if (!r->easy || asprintf(&url, "%s%s", h->target.base, r->path) < 0)
		return -ENOMEM;
	r->generation = bn_auth_generation(h->auth);
	e = bn_rest_setup(r->easy, h->c, &h->target, h->auth)
		?: bn_rest_headers(h->c, &h->target, h->auth, r->content_type, &r->headers);
	if (e < 0)
		return e;
	if (h->target.connect_to) {
		r->connect_to = curl_slist_append(NULL, h->target.connect_to);
		if (!r->connect_to)
			return -ENOMEM;
	}
	cr = curl_easy_setopt(r->easy, CURLOPT_URL, url)
		?: set_body(r)
		?: curl_easy_setopt(r->easy, CURLOPT_OPENSOCKETDATA, &h->connections)
		?: curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers)
		?: curl_easy_setopt(r->easy, CURLOPT_CONNECT_TO, r->connect_to)
		?: curl_easy_setopt(r->easy, CURLOPT_HEADERFUNCTION, header_cb)
		?: curl_easy_setopt(r->easy, CURLOPT_HEADERDATA, r)
		?: curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, body_cb)
		?: curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r)
		?: curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->errbuf)
		?: curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r)
		?: curl_easy_setopt(r->easy, CURLOPT_TIMEOUT, (long)r->timeout_s)
		?: curl_easy_setopt(r->easy, CURLOPT_LOW_SPEED_TIME, (long)r->stall_s)
		?: curl_easy_setopt(r->easy, CURLOPT_LOW_SPEED_LIMIT, r->stall_s ? 1L : 0L);
	if (cr != CURLE_OK)
		return -EINVAL;
	r->state = ACTIVE;
	r->start_ms = bn_rest_now_ms();
	r->status = 0;
	r->observed = false;
	r->errbuf[0] = 0;
	return curl_multi_add_handle(h->multi, r->easy) == CURLM_OK ? 0 : -ENOMEM;
}

void bn_rest_finish(struct bn_rest_req *r, int err, const char *words)
{
	struct bn_rest_result res = {
		.err = err,
		.status = r->status,
		.error = err ? words : "",
		.body = r->body ?: "",
		.body_len = r->body_len,
	};
	const struct bn_rest_handler *handler = r->handler;
	void *data = r->data;
	curl_off_t after = 0;

	if (r->easy && !curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &after) && after > 0) {
		res.retry_after = true;
		res.retry_after_s = after > 86400 ? 86400 : after;
	}
	observe(r);
	handler->done(data, &res);
	bn_rest_free_req(r);
}

static int errno_of(CURLcode c)
{
	switch (c) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -ECONNREFUSED;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
		return -EKEYREJECTED;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

/* The whole answer is here, or there will be none. */
static void req_complete(struct bn_rest_req *r, CURLcode code)
{
	struct bn_rest *h = r->h;
	bool was = h->unreachable;

	if (r->state == DEAD) {
		bn_rest_free_req(r);
		return;
	}
	h->unreachable = !r->status && code != CURLE_OK;
	if (was && r->status && h->hooks.reachable)
		h->hooks.reachable(h->hooks.data);
	if (r->status == 401 && !r->retried && bn_auth_rejected(h->auth, r->generation)) {
		observe(r);
		bn_rest_detach(r);
		r->retried = true;
		r->state = QUEUED;
		r->body_len = 0;
		kick(h);
		return;
	}
	if (r->body_err < 0)
		bn_rest_finish(r, r->body_err, "");
	else
		bn_rest_finish(r, errno_of(code),
			   r->errbuf[0] ? r->errbuf : curl_easy_strerror(code));
}

static void drive(struct bn_rest *h, curl_socket_t fd, int mask)
{
	uint64_t began = bn_hold_begin();
	int running, left;
	CURLMsg *m;

	curl_multi_socket_action(h->multi, fd, mask, &running);
	while ((m = curl_multi_info_read(h->multi, &left))) {
		struct bn_rest_req *r = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &r);
		req_complete(r, m->data.result);
	}
	bn_hold_end(BN_WORK_READ, began);
}

/* --- queue ------------------------------------------------------------------------------------ */

/* Handlers may add and cancel: the list is read again from its start after each that ran. */
static void on_kick(evutil_socket_t fd, short what, void *data)
{
	struct bn_rest *h = data;
	struct bn_rest_req *r, *next;
	int e;

	(void)fd;
	(void)what;
	for (r = TAILQ_FIRST(&h->reqs); r; r = next) {
		next = TAILQ_NEXT(r, link);
		if (r->state == DEAD) {
			bn_rest_free_req(r);
			continue;
		}
		if (r->state != QUEUED)
			continue;
		e = bn_auth_check(h->auth);
		if (e == -EINPROGRESS)
			continue;
		if (e < 0) {
			bn_rest_finish(r, e, bn_auth_error(h->auth));
			next = TAILQ_FIRST(&h->reqs);
			continue;
		}
		e = req_start(r);
		if (e < 0) {
			bn_rest_finish(r, e, "the request cannot be made");
			next = TAILQ_FIRST(&h->reqs);
		}
	}
}

static void on_auth(void *data)
{
	kick(data);
}

struct bn_rest_req *bn_rest_queue(struct bn_rest *h, const struct bn_rest_request *rq)
{
	struct bn_rest_req *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->path = strdup(rq->path);
	r->send = rq->body ? strdup(rq->body) : NULL;
	if (!r->path || (rq->body && !r->send)) {
		free(r->path);
		free(r);
		return NULL;
	}
	r->method = rq->method ?: "GET";
	r->content_type = rq->content_type;
	r->h = h;
	r->handler = rq->handler;
	r->data = rq->data;
	r->timeout_s = rq->timeout_s;
	r->stall_s = rq->stall_s;
	r->state = QUEUED;
	TAILQ_INSERT_TAIL(&h->reqs, r, link);
	kick(h);
	return r;
}

int bn_rest_send(struct bn_rest *h, const struct bn_rest_request *rq, struct bn_rest_req **ret)
{
	struct bn_rest_req *r = bn_rest_queue(h, rq);

	if (!r)
		return -ENOMEM;
	if (!evtimer_pending(h->watchdog, NULL)) {
		h->last_rx_ms = bn_rest_now_ms();
		bn_rest_watch_silence(h);
	}
	*ret = r;
	return 0;
}

void bn_rest_cancel(struct bn_rest_req *r)
{
	r->state = DEAD;
	kick(r->h);
}

/* --- life ------------------------------------------------------------------------------------- */

const char *bn_rest_host(const struct bn_rest *h)
{
	return h->target.host;
}

unsigned bn_rest_connections(const struct bn_rest *h)
{
	return h->connections;
}

void bn_rest_freep(struct bn_rest **hp)
{
	struct bn_rest *h = *hp;
	struct bn_rest_req *r;

	if (!h)
		return;
	while ((r = TAILQ_FIRST(&h->reqs)))
		bn_rest_free_req(r);
	while (h->nspare)
		curl_easy_cleanup(h->spare[--h->nspare]);
	if (h->multi)
		curl_multi_cleanup(h->multi);
	bn_auth_freep(&h->auth);
	if (h->timer)
		event_free(h->timer);
	if (h->kick)
		event_free(h->kick);
	if (h->watchdog)
		event_free(h->watchdog);
	bn_rest_target_clear(&h->target);
	free(h);
	*hp = NULL;
}

int bn_rest_new(struct event_base *base, const struct bn_kube_config *c,
		const struct bn_rest_hooks *hooks, struct bn_rest **ret)
{
	static bool once;
	_cleanup_(bn_rest_freep) struct bn_rest *h = NULL;
	int r;

	if (!once && curl_global_init(CURL_GLOBAL_DEFAULT))
		return -ENOMEM;
	once = true;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	TAILQ_INIT(&h->reqs);
	h->base = base;
	h->c = c;
	if (hooks)
		h->hooks = *hooks;
	h->timer = evtimer_new(base, on_timer, h);
	h->kick = event_new(base, -1, 0, on_kick, h);
	h->watchdog = evtimer_new(base, bn_rest_on_watchdog, h);
	if (!h->timer || !h->kick || !h->watchdog)
		return -ENOMEM;
	r = bn_rest_target_init(&h->target, c) ?: bn_auth_new(base, c, on_auth, h, &h->auth)
						     ?: bn_rest_make_multi(h);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}
