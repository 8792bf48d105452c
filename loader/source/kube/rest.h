/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_REST_H
#define BN_KUBE_REST_H

/* Requests to one API server, in the daemon's event loop: HTTP/2 with all requests on one
 * connection where the server speaks it, HTTP/1.1 otherwise. Adds the credentials, asks again once
 * after a 401 when they changed, finds a silent peer (a small request every 10 s of silence; after
 * 30 s without an answer every request fails and the connection is given up).
 */

#include <event2/event.h>

#include "loader/source/kube/config.h"

/* Of an answer other than 200, this much is kept. */
#define BN_REST_ERROR_BODY (64u << 10)

struct bn_rest_result {
	int err;	      /* 0: `status` and the whole body came; else negative errno */
	long status;	      /* 0: no answer */
	const char *error;    /* words for err; "" when err is 0 */
	const char *body;     /* of an answer other than 200; NUL-terminated */
	size_t body_len;
	unsigned retry_after_s;
	bool retry_after;     /* the header was there */
};

struct bn_rest_handler {
	void (*head)(void *data);			      /* 200, before its body; may be NULL */
	int (*body)(void *data, const char *p, size_t n);     /* negative ends the request with it */
	void (*done)(void *data, const struct bn_rest_result *r); /* always last, always once */
};

struct bn_rest_request {
	const char *method; /* NULL: GET */
	const char *path;  /* "/api/v1/pods?limit=500" */
	const char *body;   /* text, copied; NULL: none */
	const char *content_type;
	unsigned timeout_s; /* of the whole request; 0: none */
	unsigned stall_s;   /* without a byte; 0: none (watches: a silent peer is found anyway) */
	const struct bn_rest_handler *handler;
	void *data;
};

struct bn_rest_hooks { /* any may be NULL */
	/* One finished request. method: a literal. code: "200", or "<error>" without an answer. seconds: to the head. */
	void (*observe)(void *data, const char *code, const char *host, const char *method,
			double seconds);
	/* The server answered something after it could not be reached. */
	void (*reachable)(void *data);
	/* It has been asked for a sign of life and said nothing for so long; 0: it speaks again. Comes
	 * every few seconds while it lasts.
	 */
	void (*silent)(void *data, unsigned seconds);
	void *data;
};

struct bn_rest;
struct bn_rest_req;

/* c must outlive it. */
int bn_rest_new(struct event_base *base, const struct bn_kube_config *c,
		const struct bn_rest_hooks *hooks, struct bn_rest **ret);
void bn_rest_freep(struct bn_rest **h); /* requests under way end without a call */

/* Starts from the loop's next turn on; no call of the handler happens within it. *ret is valid until
 * done was called or the request was cancelled.
 */
int bn_rest_send(struct bn_rest *h, const struct bn_rest_request *rq, struct bn_rest_req **ret);
/* done is not called any more. May be called from within any handler. */
void bn_rest_cancel(struct bn_rest_req *r);

const char *bn_rest_host(const struct bn_rest *h);
/* Connections opened so far: tests see by it that requests share one. */
unsigned bn_rest_connections(const struct bn_rest *h);

#endif
