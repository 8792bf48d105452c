/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_REST_INT_H
#define BN_KUBE_REST_INT_H

/* Inside of the client: rest.c makes requests, rest_silence.c looks after a server that says nothing. */

#include <sys/queue.h>
#include <time.h>

#include "loader/source/kube/rest.h"
#include "loader/source/kube/rest_setup.h"

enum bn_rest_state {
	QUEUED, /* waits for credentials, or for the loop's next turn */
	ACTIVE, /* libcurl has it */
	DEAD,	/* cancelled: to be freed outside libcurl */
};

struct bn_rest_req {
	TAILQ_ENTRY(bn_rest_req) link;
	struct bn_rest *h;
	const struct bn_rest_handler *handler;
	void *data;
	char *path;
	const char *method; /* literal */
	char *send;	    /* body of the request, or NULL */
	const char *content_type;
	unsigned timeout_s, stall_s;
	enum bn_rest_state state;
	CURL *easy;
	struct curl_slist *headers, *connect_to;
	uint64_t generation; /* of the credentials it was sent with */
	bool retried, observed;
	int body_err;
	long status;
	char *body; /* of an answer other than 200 */
	size_t body_len;
	int64_t start_ms;
	char errbuf[CURL_ERROR_SIZE];
};

TAILQ_HEAD(req_list, bn_rest_req);

struct bn_rest {
	struct event_base *base;
	const struct bn_kube_config *c;
	struct bn_rest_hooks hooks;
	struct bn_rest_target target;
	struct bn_auth *auth;
	CURLM *multi;
	struct event *timer, *kick, *watchdog;
	struct req_list reqs;
	CURL *spare[8]; /* handles for the next requests */
	unsigned nspare, connections;
	int64_t last_rx_ms, ping_at_ms; /* 0: no ping unanswered */
	struct bn_rest_req *ping;
	bool was_silent;  /* and the hook was told */
	bool unreachable; /* the last thing we saw of the server was a failure to reach it */
};

static inline int64_t bn_rest_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

/* In rest.c. */
int bn_rest_make_multi(struct bn_rest *h);
struct bn_rest_req *bn_rest_queue(struct bn_rest *h, const struct bn_rest_request *rq);
void bn_rest_detach(struct bn_rest_req *r); /* gives libcurl's handle back; never from within libcurl */
void bn_rest_finish(struct bn_rest_req *r, int err, const char *words);
void bn_rest_free_req(struct bn_rest_req *r);

/* In rest_silence.c. */
void bn_rest_heard(struct bn_rest *h); /* the server said something */
int bn_rest_watch_silence(struct bn_rest *h);
void bn_rest_on_watchdog(evutil_socket_t fd, short what, void *data);

#endif
