/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_HTTP_H
#define BN_LOADER_HTTP_H

/* A small HTTP server for /metrics and the health endpoints: one request a connection, GET and HEAD,
 * no body read. Not evhttp, because that (2.1) cannot bound how many connections wait for their
 * request, and the health port is open to the network.
 *
 * Promises: at most BN_HTTP_MAX_CLIENTS connections, BN_HTTP_MAX_HEAD bytes and BN_HTTP_TIMEOUT_S
 * each; a bind that fails is logged once and tried again every BN_HTTP_RETRY_S, never fatal.
 */

#include <event2/buffer.h>
#include <event2/event.h>

#include "maps/util.h"

#define BN_HTTP_MAX_CLIENTS 64
#define BN_HTTP_MAX_HEAD 8192
#define BN_HTTP_TIMEOUT_S 10
#define BN_HTTP_RETRY_S 5

struct bn_httpd;

struct bn_httpd_response {
	int code;		  /* 200 on entry */
	const char *content_type; /* text/plain; charset=utf-8 on entry */
	const char *headers;	  /* further lines, each with \r\n; NULL: none */
	struct evbuffer *body;	  /* empty on entry */
};

/* path is decoded no further than cutting '?' and what follows. */
typedef void (*bn_httpd_fn)(const char *path, struct bn_httpd_response *r, void *data);

/* bind: "host:port", "[v6]:port", ":port". The wildcard of either family listens on both, as Go and
 * so kube-proxy does. "" and "0" are off: 0 with *ret NULL. -EINVAL for what cannot be parsed.
 * what names the server in messages and must live as long as it.
 */
int bn_httpd_new(struct event_base *base, const char *bind, const char *what, bn_httpd_fn fn,
		void *data, struct bn_httpd **ret);
void bn_httpd_freep(struct bn_httpd **h);

/* The port in use, 0 while not bound: for tests that bind port 0. */
unsigned bn_httpd_port(const struct bn_httpd *h);

#endif
