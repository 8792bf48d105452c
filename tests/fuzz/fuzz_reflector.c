/* SPDX-License-Identifier: MIT */
/* A whole conversation with an API server that says anything, in any order: the reflector must always
 * have exactly one thing under way (a request, or a timer), must never believe half a list, and must
 * come back once the server behaves.
 *
 * The first byte says which kind and whether streamed lists are tried; then, until a byte of 1 each:
 *	T the timer fires   H the head of a 200   B bytes of its body   D it ends well
 *	Snnn[body] another status   E no answer   A the connection is alive   I it is silent   W awake
 */
#include <string.h>

#include "loader/source/kube/reflector_int.h"
#include "loader/source/kube/report.h"
#include "policy/intern.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What stands in for the client: one request at most. */
struct bn_rest_req {
	const struct bn_rest_handler *handler;
	void *data;
	char path[2048];
	bool headed;
};
static struct bn_rest_req *under_way;

int bn_rest_send(struct bn_rest *h, const struct bn_rest_request *rq, struct bn_rest_req **ret)
{
	struct bn_rest_req *r = calloc(1, sizeof(*r));

	(void)h;
	MUST(r && !under_way && rq->path[0] == '/' && !rq->body);
	MUST(!strpbrk(rq->path, " \r\n\"<>"));
	*r = (struct bn_rest_req){ .handler = rq->handler, .data = rq->data };
	snprintf(r->path, sizeof(r->path), "%s", rq->path);
	*ret = under_way = r;
	return 0;
}

void bn_rest_cancel(struct bn_rest_req *r)
{
	MUST(r == under_way);
	free(r);
	under_way = NULL;
}

static void finish(const struct bn_rest_result *res)
{
	struct bn_rest_req *r = under_way;

	under_way = NULL;
	r->handler->done(r->data, res);
	free(r);
}

static void head(void)
{
	if (!under_way || under_way->headed)
		return;
	under_way->headed = true;
	if (under_way->handler->head)
		under_way->handler->head(under_way->data);
}

static void body(const char *p, size_t n)
{
	int e;

	head();
	if (!under_way)
		return;
	e = under_way->handler->body(under_way->data, p, n);
	if (e < 0 && under_way)
		finish(&(struct bn_rest_result){ .status = 200, .err = e, .error = "", .body = "" });
}

static void fire(struct event_base *base, struct bn_reflector *r)
{
	if (!evtimer_pending(r->timer, NULL))
		return;
	evtimer_del(r->timer);
	event_active(r->timer, EV_TIMEOUT, 1);
	event_base_loop(base, EVLOOP_NONBLOCK);
}

/* Whatever the server says, it is asked again within two minutes (Retry-After), or half a minute. */
static void check_timer(const struct bn_reflector *r)
{
	struct timeval at, now;

	if (!evtimer_pending(r->timer, &at))
		return;
	evutil_gettimeofday(&now, NULL);
	MUST(at.tv_sec - now.tv_sec <= 121);
}

static void step(struct event_base *base, struct bn_reflector *r, char op, const char *p, size_t n)
{
	char words[256];
	long status;

	snprintf(words, sizeof(words), "%.*s", (int)(n < 255 ? n : 255), p);
	if (op == 'T')
		fire(base, r);
	else if (op == 'H')
		head();
	else if (op == 'B')
		body(p, n);
	else if (op == 'A')
		bn_reflector_alive(r);
	else if (op == 'I')
		bn_reflector_silent(r, 20);
	else if (op == 'W')
		bn_reflector_wake(r);
	else if (!under_way)
		return;
	else if (op == 'D')
		finish(&(struct bn_rest_result){ .status = 200, .error = "", .body = "" });
	else if (op == 'E')
		finish(&(struct bn_rest_result){ .err = -EIO, .error = words, .body = "" });
	else if (op == 'S' && n >= 3 && (status = strtol(words, NULL, 10)) > 200 && status < 600)
		finish(&(struct bn_rest_result){ .status = status, .error = "", .body = words,
						 .body_len = strlen(words), .retry_after_s = n % 7 });
}

/* From wherever it got to, a server that behaves gets it to the one object there is. */
static void recover(struct event_base *base, struct bn_reflector *r, struct bn_source *s)
{
	static const char item[] = "{\"metadata\":{\"name\":\"x\",\"namespace\":\"default\"}}";
	char rest[256];

	for (int i = 0; i < 64; i++) {
		if (!under_way) {
			fire(base, r);
			continue;
		}
		if (strstr(under_way->path, "watch=true")) {
			const char gone[] = "410 too old";

			if (r->state == WATCHING && r->settled && !s->state[r->env.kind].error[0] &&
			    bn_store_count(s->store, r->env.kind) <= 1)
				return;
			finish(&(struct bn_rest_result){ .status = i % 3 ? 410 : 422, .error = "",
							 .body = gone, .body_len = sizeof(gone) - 1 });
			if (under_way && strstr(under_way->path, "limit="))
				continue;
			if (under_way && !strstr(under_way->path, "sendInitialEvents")) {
				head();
				fire(base, r);
				if (r->settled && i > 4)
					break;
			}
		} else if (strstr(under_way->path, "&continue=")) {
			finish(&(struct bn_rest_result){ .status = 410, .error = "", .body = "" });
		} else if (strstr(under_way->path, "limit=")) {
			snprintf(rest, sizeof(rest), "{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[%s]}",
				 item);
			body(rest, strlen(rest));
			if (under_way)
				finish(&(struct bn_rest_result){ .status = 200, .error = "", .body = "" });
			if (under_way && strstr(under_way->path, "watch=true")) {
				MUST(strstr(under_way->path, "&resourceVersion="));
				head();
				fire(base, r);
				break;
			}
		} else {
			finish(&(struct bn_rest_result){ .status = 200, .error = "", .body = "" });
		}
	}
	MUST(s->state[r->env.kind].synced);
	MUST(!s->state[r->env.kind].error[0]);
	MUST(bn_store_count(s->store, r->env.kind) <= 1);
}

static void check_text(char *text)
{
	/* NUL: as it stood in the object, in a condition of somebody else for one. */
	json_t *o = text ? json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL) : NULL;

	MUST(!text || json_is_object(o));
	json_decref(o);
	free(text);
}

static void judged(struct bn_source *s, const struct bn_source_id *id, const json_t *json,
		   const struct bn_err *err)
{
	char name[254];

	(void)s;
	check_text(bn_report_condition(json, err, "node", 1));
	if (!err)
		return;
	check_text(bn_report_event(json, id, err, "node", name));
	MUST(strlen(name) > 17);
}

static void nothing(struct bn_source *s)
{
	(void)s;
}

static void changed(void *data)
{
	(void)data;
}

static const struct bn_source_ops ops = { .stop = nothing, .free = nothing };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct event_base *base;
	struct bn_source source, *s = &source;
	struct bn_reflector *r;
	const char *p = (const char *)data + 1, *end = (const char *)data + size;
	bool was_synced = false;

	if (!base) {
		base = event_base_new();
		bn_log_setup("error", "text");
		stderr = fopen("/dev/null", "we");
	}
	if (size < 2)
		return 0;
	bn_source_init(s, "fuzz", &ops, NULL, NULL);
	s->judged = judged;
	MUST(bn_store_new(&s->store) == 0);
	const struct bn_reflector_env env = { .base = base, .source = s, .changed = changed,
					      .kind = data[0] % 8 % BN_KIND__MAX,
					      .streaming = data[0] & 8 };
	MUST(bn_reflector_new(&env, &r) == 0);
	bn_reflector_start(r);
	fire(base, r);
	while (p < end) {
		const char *stop = memchr(p + 1, 1, end - p - 1) ?: end;
		_cleanup_(freep) char *piece = malloc(stop - p);

		memcpy(piece, p, stop - p); /* exactly as long as it is, for ASan */
		step(base, r, piece[0], piece + 1, stop - p - 1);
		bn_intern_collect();
		MUST(under_way || evtimer_pending(r->timer, NULL));
		check_timer(r);
		MUST((r->req != NULL) == (under_way != NULL));
		MUST(s->state[env.kind].synced >= was_synced);
		was_synced = s->state[env.kind].synced;
		for (int k = 0; k < BN_KIND__MAX; k++)
			MUST(k == (int)env.kind || !bn_store_count(s->store, k));
		p = stop + 1;
	}
	recover(base, r, s);
	bn_reflector_freep(&r);
	MUST(!under_way);
	bn_store_freep(&s->store);
	bn_source_freep(&s);
	bn_intern_collect();
	MUST(!bn_intern_count());
	return 0;
}
