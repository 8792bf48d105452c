/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/rest_int.h"

/* Silence after which the server is asked for a sign of life, and after which it is given up. */
#define PING_AFTER_MS 10000
#define PING_LATE_MS 5000
#define GIVE_UP_MS 30000
#define TICK_MS 2500

void bn_rest_heard(struct bn_rest *h)
{
	h->last_rx_ms = bn_rest_now_ms();
	h->ping_at_ms = 0;
	if (!h->was_silent)
		return;
	h->was_silent = false;
	if (h->hooks.silent)
		h->hooks.silent(h->hooks.data, 0);
}

int bn_rest_watch_silence(struct bn_rest *h)
{
	static const struct timeval tick = { TICK_MS / 1000, TICK_MS % 1000 * 1000 };
	struct timeval idle = { PING_AFTER_MS / 1000, 0 };
	int64_t quiet = bn_rest_now_ms() - h->last_rx_ms;

	if (!h->ping_at_ms && quiet < PING_AFTER_MS) {
		idle.tv_sec = (PING_AFTER_MS - quiet) / 1000;
		idle.tv_usec = (PING_AFTER_MS - quiet) % 1000 * 1000;
		return evtimer_add(h->watchdog, &idle);
	}
	return evtimer_add(h->watchdog, &tick);
}

static void ping_done(void *data, const struct bn_rest_result *res)
{
	struct bn_rest *h = data;

	(void)res; /* any answer was heard; no answer leaves ping_at_ms as it is */
	h->ping = NULL;
}

static int ping_body(void *data, const char *p, size_t n)
{
	(void)data;
	(void)p;
	(void)n;
	return 0;
}

static const struct bn_rest_handler ping_handler = { .body = ping_body, .done = ping_done };

/* A connection that answers nothing is given up with everything on it: a new request would only
 * queue behind the others. Closing libcurl's multi handle is what closes its connections.
 */
static void give_up(struct bn_rest *h)
{
	struct bn_rest_req *r, *next;

	h->unreachable = true;
	for (r = TAILQ_FIRST(&h->reqs); r; r = next) {
		next = TAILQ_NEXT(r, link);
		if (r->state == ACTIVE)
			bn_rest_detach(r);
		else if (r->state == DEAD)
			bn_rest_free_req(r);
	}
	curl_multi_cleanup(h->multi);
	if (bn_rest_make_multi(h) < 0)
		abort();
	h->last_rx_ms = bn_rest_now_ms();
	h->ping_at_ms = 0;
	h->was_silent = false;
	do {
		TAILQ_FOREACH(r, &h->reqs, link)
			if (r->state == ACTIVE && !r->easy)
				break;
		if (r)
			bn_rest_finish(r, -ETIMEDOUT, "the server has been silent for 30 s");
	} while (r);
}

void bn_rest_on_watchdog(evutil_socket_t fd, short what, void *data)
{
	struct bn_rest *h = data;
	const struct bn_rest_request rq = {
		.path = "/version",
		.timeout_s = GIVE_UP_MS / 1000,
		.handler = &ping_handler,
		.data = h,
	};
	int64_t quiet = bn_rest_now_ms() - h->last_rx_ms;
	struct bn_rest_req *r;

	(void)fd;
	(void)what;
	TAILQ_FOREACH(r, &h->reqs, link)
		if (r->state == ACTIVE && r != h->ping)
			break;
	if (!r) { /* nobody waits for an answer: nothing to find out */
		h->ping_at_ms = 0;
		if (TAILQ_EMPTY(&h->reqs))
			return;
		h->last_rx_ms = bn_rest_now_ms();
	} else if (quiet >= GIVE_UP_MS && h->ping_at_ms) {
		give_up(h);
	} else if (quiet >= PING_AFTER_MS) {
		if (!h->ping_at_ms)
			h->ping_at_ms = bn_rest_now_ms();
		if (!h->ping)
			h->ping = bn_rest_queue(h, &rq);
		if (bn_rest_now_ms() - h->ping_at_ms >= PING_LATE_MS && h->hooks.silent) {
			h->was_silent = true;
			h->hooks.silent(h->hooks.data, quiet / 1000);
		}
	}
	bn_rest_watch_silence(h);
}

