/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/reflector.h"

#include <stdarg.h>
#include <string.h>
#include <sys/random.h>

#include "loader/log.h"
#include "loader/source/kube/intake.h"
#include "loader/source/kube/split.h"

#define PAGE_LIMIT 500
#define PAGE_TIMEOUT_S 300
#define STALL_S 30
#define WATCH_MIN_S 300
#define WATCH_MAX_S 600
/* What a watch lives longer than its timeoutSeconds before we end it ourselves. */
#define WATCH_GRACE_S 30
#define BACKOFF_MIN_MS 500
#define BACKOFF_MAX_MS 30000
#define RETRY_AFTER_MAX_S 120
/* A watch that lived this long works: errors before it are forgotten. */
#define SETTLE_MS 2000
/* A streamed list that says nothing for so long will not come: some servers never end it. */
#define STREAM_STALL_MS 10000
/* How often a CRD that is not there is looked for. */
#define ABSENT_MS 10000
/* A CRD that had objects must be missing this often, this far apart, before they are forgotten: an
 * API server that starts may not know its CRDs yet, and fewer policies mean an open door.
 */
#define MISSING_TIMES 3
#define MISSING_MS 2000

enum state {
	WAITING, /* the timer will start the next request */
	LISTING, /* one page of a list */
	STREAMING, /* a watch whose first part is the list */
	WATCHING,
};

struct bn_reflector {
	struct bn_reflector_env env;
	const struct bn_kube_kind *k;
	struct bn_intake in;
	struct bn_reflector_stats st;
	enum state state;
	struct bn_http_req *req;
	struct bn_split split;
	struct event *timer;
	bool streaming, unpaged; /* unpaged: after an expired continue token */
	bool need_list, settled, unreachable;
	enum bn_relist cause;
	char rv[BN_RV_MAX + 1];	     /* where the next watch begins */
	char list_rv[BN_RV_MAX + 1]; /* of the first page */
	char *cont;		     /* continue token of the next page */
	unsigned failures, watch_failures, missing;
	int64_t started_ms, heard_ms;
	struct bn_event error; /* what ended the watch: type BN_EVENT_ERROR */
	bool has_error;
};

static const char *const relist_names[] = {
#define X(name, text) [BN_RELIST_##name] = text,
	BN_RELIST_LIST(X)
#undef X
};

const char *bn_relist_name(enum bn_relist cause)
{
	return (unsigned)cause < BN_RELIST__MAX ? relist_names[cause] : NULL;
}

static int64_t now_ms(void)
{
	return bn_source_now() / 1000000;
}

/* Evenly spread in [lo, hi]. */
static unsigned between(unsigned lo, unsigned hi)
{
	uint32_t x = 0;

	if (getrandom(&x, sizeof(x), GRND_NONBLOCK) != sizeof(x))
		x = now_ms() * 2654435761u;
	return lo + x % (hi - lo + 1);
}

static void wait_ms(struct bn_reflector *r, unsigned ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	r->state = WAITING;
	evtimer_add(r->timer, &tv);
}

/* Half of it is random, so that the nodes of a cluster do not come back together. */
static unsigned backoff_ms(unsigned failures)
{
	unsigned ms = BACKOFF_MAX_MS;

	if (!failures)
		return 0;
	if (failures < 7)
		ms = BACKOFF_MIN_MS << (failures - 1);
	return between(ms / 2, ms);
}

static void changed(struct bn_reflector *r)
{
	r->in.changed = false;
	r->env.changed(r->env.data);
}

_printf_(2, 3) static void set_error(struct bn_reflector *r, const char *fmt, ...)
{
	struct bn_source_state *st = &r->env.source->state[r->env.kind];
	char text[256], before[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(before, sizeof(before), "%s", st->error);
	bn_source_set_error(r->env.source, r->env.kind, "%s", text);
	if (strcmp(before, st->error))
		log_warn("%s", text);
	changed(r);
}

static void set_synced(struct bn_reflector *r)
{
	struct bn_source_state *st = &r->env.source->state[r->env.kind];

	if (st->error[0])
		log_info("%s: read again", bn_kind_plural(r->env.kind));
	st->used = true;
	bn_source_set_synced(r->env.source, r->env.kind);
	changed(r);
}

static void relist(struct bn_reflector *r, enum bn_relist cause)
{
	r->need_list = true;
	r->cause = cause;
}

/* --- requests --------------------------------------------------------------------------------- */

static char *encode(const char *s)
{
	char *out = malloc(strlen(s) * 3 + 1), *q = out;

	if (!out)
		return NULL;
	for (; *s; s++) {
		bool plain = (*s >= '0' && *s <= '9') || ((*s | 32) >= 'a' && (*s | 32) <= 'z') ||
			     strchr("-._~", *s);

		q += sprintf(q, plain ? "%c" : "%%%02X", (unsigned char)*s);
	}
	*q = 0;
	return out;
}

static const struct bn_http_handler handler;

static void send_request(struct bn_reflector *r, enum state state, const char *query,
			 unsigned timeout_s, unsigned stall_s)
{
	_cleanup_(freep) char *sel = encode(r->env.label_selector ?: ""), *path = NULL;
	struct bn_http_request rq = {
		.timeout_s = timeout_s,
		.stall_s = stall_s,
		.handler = &handler,
		.data = r,
	};
	int e = -ENOMEM;

	if (sel && asprintf(&path, "%s?%s%s%s", r->k->path, query,
			    *sel ? "&labelSelector=" : "", sel) < 0)
		path = NULL;
	rq.path = path;
	if (path)
		e = bn_http_get(r->env.http, &rq, &r->req);
	if (e < 0) {
		r->req = NULL;
		wait_ms(r, BACKOFF_MAX_MS);
		return;
	}
	r->state = state;
	r->settled = false;
	r->has_error = false;
	r->started_ms = r->heard_ms = now_ms();
}

static int list_item(void *data, const char *p, size_t n)
{
	struct bn_reflector *r = data;

	return bn_intake_item(&r->in, p, n);
}

static int watch_event(void *data, const char *p, size_t n);

static void start_page(struct bn_reflector *r)
{
	_cleanup_(freep) char *token = encode(r->cont ?: ""), *query = NULL;

	if (!r->cont) {
		bn_intake_list_begin(&r->in);
		r->list_rv[0] = 0;
	}
	bn_split_clear(&r->split);
	bn_split_init(&r->split, true, list_item, r);
	if (!token || (r->unpaged ? asprintf(&query, "limit=0") :
		       asprintf(&query, "limit=%d%s%s", PAGE_LIMIT, r->cont ? "&continue=" : "",
				token)) < 0) {
		wait_ms(r, BACKOFF_MAX_MS);
		return;
	}
	send_request(r, LISTING, query, PAGE_TIMEOUT_S, STALL_S);
}

static void start_watch(struct bn_reflector *r, bool streaming)
{
	unsigned timeout_s = between(WATCH_MIN_S, WATCH_MAX_S);
	_cleanup_(freep) char *rv = encode(r->rv), *query = NULL;
	struct timeval tv = { STREAM_STALL_MS / 1000, 0 };
	int n;

	bn_split_clear(&r->split);
	bn_split_init(&r->split, false, watch_event, r);
	if (streaming) {
		bn_intake_list_begin(&r->in);
		n = asprintf(&query, "watch=true&allowWatchBookmarks=true&sendInitialEvents=true"
				     "&resourceVersionMatch=NotOlderThan&timeoutSeconds=%u",
			     timeout_s);
	} else {
		n = asprintf(&query, "watch=true&allowWatchBookmarks=true&resourceVersion=%s"
				     "&timeoutSeconds=%u", rv ?: "", timeout_s);
	}
	if (n < 0 || !rv) {
		wait_ms(r, BACKOFF_MAX_MS);
		return;
	}
	send_request(r, streaming ? STREAMING : WATCHING, query, timeout_s + WATCH_GRACE_S, 0);
	if (r->state == STREAMING)
		evtimer_add(r->timer, &tv);
}

static void next(struct bn_reflector *r)
{
	if (!r->need_list) {
		start_watch(r, false);
		return;
	}
	r->st.relists[r->cause]++;
	free(r->cont);
	r->cont = NULL;
	if (r->streaming)
		start_watch(r, true);
	else
		start_page(r);
}

/* Something did not work: again, but not at once. */
static void retry(struct bn_reflector *r, unsigned retry_after_s)
{
	unsigned ms;

	r->failures++;
	ms = backoff_ms(r->failures);
	if (retry_after_s > RETRY_AFTER_MAX_S)
		retry_after_s = RETRY_AFTER_MAX_S;
	if (retry_after_s && ms < retry_after_s * 1000)
		ms = retry_after_s * 1000 + between(0, 500);
	wait_ms(r, ms);
}

/* --- a list is complete ----------------------------------------------------------------------- */

static void list_complete(struct bn_reflector *r, const char *rv)
{
	struct bn_source_state *st = &r->env.source->state[r->env.kind];

	if (bn_intake_list_end(&r->in) < 0) {
		set_error(r, "%s: no memory for the list", bn_kind_plural(r->env.kind));
		retry(r, 0);
		return;
	}
	snprintf(r->rv, sizeof(r->rv), "%s", rv);
	r->need_list = r->unpaged = false;
	r->watch_failures = r->missing = 0;
	/* With a watch that keeps failing, the list alone does not make things right again. */
	if (!st->synced || !st->error[0] || !r->failures) {
		set_synced(r);
	} else {
		st->synced_ns = bn_source_now();
		changed(r);
	}
}

/* The kind does not exist. */
static void absent(struct bn_reflector *r)
{
	struct bn_source *s = r->env.source;
	bool had = bn_store_count(s->store, r->env.kind) > 0;

	relist(r, BN_RELIST_ABSENT);
	if (had && ++r->missing < MISSING_TIMES) {
		wait_ms(r, MISSING_MS);
		return;
	}
	r->missing = 0;
	r->failures = 0;
	if (had)
		log_info("%s: the resource is gone, and its objects with it",
			 bn_kind_plural(r->env.kind));
	bn_intake_list_begin(&r->in);
	bn_intake_list_end(&r->in);
	bn_source_set_synced(s, r->env.kind);
	s->state[r->env.kind].used = false;
	changed(r);
	wait_ms(r, between(ABSENT_MS * 9 / 10, ABSENT_MS * 11 / 10));
}

/* --- answers ---------------------------------------------------------------------------------- */

static void on_head(void *data)
{
	struct bn_reflector *r = data;
	struct timeval tv = { SETTLE_MS / 1000, SETTLE_MS % 1000 * 1000 };

	r->unreachable = false;
	r->heard_ms = now_ms();
	if (r->state != WATCHING)
		return;
	r->st.watch_since_ms = now_ms();
	evtimer_add(r->timer, &tv);
}

static int watch_event(void *data, const char *p, size_t n)
{
	struct bn_reflector *r = data;
	struct timeval tv = { SETTLE_MS / 1000, SETTLE_MS % 1000 * 1000 };
	struct bn_event ev;
	int e;

	e = bn_intake_event(&r->in, p, n, &ev);
	if (e < 0)
		return e;
	r->st.events += ev.type == BN_EVENT_OBJECT;
	r->st.bookmarks += ev.type == BN_EVENT_BOOKMARK;
	if (ev.type == BN_EVENT_ERROR) {
		r->error = ev;
		r->has_error = true;
		return -ECANCELED;
	}
	if (r->state == STREAMING) {
		if (ev.type != BN_EVENT_INITIAL_END)
			return 0;
		r->state = WATCHING;
		r->started_ms = r->st.watch_since_ms = now_ms();
		evtimer_add(r->timer, &tv);
		list_complete(r, ev.rv);
		return r->state == WATCHING ? 0 : -ECANCELED;
	}
	memcpy(r->rv, ev.rv, sizeof(r->rv));
	return 0;
}

static int on_body(void *data, const char *p, size_t n)
{
	struct bn_reflector *r = data;
	int e;

	r->st.bytes += n;
	r->heard_ms = now_ms();
	e = bn_split_feed(&r->split, p, n);
	if (r->state == WATCHING && r->in.changed) {
		r->env.source->state[r->env.kind].synced_ns = bn_source_now();
		changed(r);
	}
	return e;
}

static const char *status_name(long status)
{
	switch (status) {
	case 400:
		return "bad request";
	case 401:
		return "unauthorized";
	case 403:
		return "forbidden";
	case 404:
		return "not found";
	case 410:
		return "expired";
	case 429:
		return "too many requests";
	default:
		return status >= 500 ? "server error" : "failed";
	}
}

/* The server answered, but not with 200. */
static void refused(struct bn_reflector *r, const struct bn_http_result *res, enum state was)
{
	bool watch = was != LISTING;
	char words[200];

	r->unreachable = false;
	if (res->status == 404 && r->k->optional) {
		absent(r);
		return;
	}
	/* A server that cannot stream lists says 400, 403 or 422; an odd one 405 or 406. */
	if (was == STREAMING && res->status >= 400 && res->status < 500 && res->status != 401 &&
	    res->status != 410 && res->status != 429) {
		r->streaming = false;
		start_page(r);
		return;
	}
	if (was == LISTING && res->status == 410 && r->cont) {
		/* The pages took too long: all at once then, as client-go does. */
		r->unpaged = true;
		relist(r, BN_RELIST_EXPIRED);
		retry(r, res->retry_after_s);
		return;
	}
	if (res->status == 410 || (watch && res->status == 400))
		relist(r, BN_RELIST_EXPIRED);
	else if (watch && ++r->watch_failures >= 3 && res->status != 429 && res->status != 401)
		relist(r, BN_RELIST_WATCH_FAILED);
	bn_status_words(res->body, res->body_len, words, sizeof(words));
	if (res->status == 410 && watch && !r->failures) {
		/* Once is no fault: the place was compacted. */
		r->failures++;
		next(r);
		return;
	}
	set_error(r, "%s: %s %s (%ld)%s%s", bn_kind_plural(r->env.kind),
		  watch ? "watch" : "list", status_name(res->status), res->status,
		  *words ? ": " : "", words);
	retry(r, res->retry_after_s);
}

/* No whole answer: nobody there, cut off, or not what was asked for. */
static void broken(struct bn_reflector *r, const struct bn_http_result *res, enum state was)
{
	const char *verb = was == LISTING ? "list" : "watch", *plural = bn_kind_plural(r->env.kind);

	if (res->err == -EBADMSG || res->err == -EFBIG) {
		relist(r, BN_RELIST_GARBAGE);
		set_error(r, "%s: %s: the server's answer is %s", plural, verb,
			  res->err == -EFBIG ? "too large" : "garbage");
	} else {
		r->unreachable = true;
		set_error(r, "%s: %s: %s", plural, verb, *res->error ? res->error
								     : strerror(-res->err));
	}
	retry(r, 0);
}

static void list_page_done(struct bn_reflector *r)
{
	const char *plural = bn_kind_plural(r->env.kind), *rv, *cont;
	json_t *rest = NULL, *meta;
	bool whole = bn_split_complete(&r->split) &&
		     bn_json_load(r->split.rest.p, r->split.rest.n, NULL, &rest) == 0;

	meta = json_object_get(rest, "metadata");
	rv = json_string_value(json_object_get(meta, "resourceVersion"));
	cont = json_string_value(json_object_get(meta, "continue"));
	/* A list without items, of anything, is still a list; a page of something else is not. */
	if (!whole || !rv || !*rv || strlen(rv) > BN_RV_MAX || !json_object_get(rest, "items")) {
		json_decref(rest);
		relist(r, BN_RELIST_GARBAGE);
		set_error(r, "%s: list: the server's answer is %s", plural,
			  whole ? "not a list" : "cut off or garbage");
		bn_intake_list_abort(&r->in);
		retry(r, 0);
		return;
	}
	if (!r->list_rv[0])
		snprintf(r->list_rv, sizeof(r->list_rv), "%s", rv);
	free(r->cont);
	r->cont = cont && *cont ? strdup(cont) : NULL;
	json_decref(rest);
	if (r->cont) {
		start_page(r);
		return;
	}
	list_complete(r, r->list_rv);
	if (!r->need_list)
		start_watch(r, false);
}

/* The stream ended as streams do, by the server's time limit or by an ERROR event. */
static void watch_ended(struct bn_reflector *r, enum state was)
{
	const char *plural = bn_kind_plural(r->env.kind);
	int64_t lived_ms = now_ms() - r->started_ms;

	if (r->has_error) {
		if (r->error.code == 410)
			relist(r, BN_RELIST_EXPIRED);
		else if (r->error.code != 429 && r->error.code < 500)
			relist(r, BN_RELIST_ERROR_EVENT);
		else if (++r->watch_failures >= 3)
			relist(r, BN_RELIST_WATCH_FAILED);
		if (r->error.code == 410 && !r->failures) {
			r->failures++;
			next(r);
			return;
		}
		set_error(r, "%s: watch %s (%ld): %s", plural, status_name(r->error.code),
			  r->error.code, r->error.message);
		retry(r, r->error.retry_after_s);
		return;
	}
	if (was == STREAMING) {
		set_error(r, "%s: watch: it ended before the list in it was complete", plural);
		if (r->failures) /* twice: rather pages */
			r->streaming = false;
		retry(r, 0);
		return;
	}
	if (r->settled || lived_ms >= SETTLE_MS) {
		next(r);
		return;
	}
	if (r->failures) /* once may be bad luck */
		set_error(r, "%s: watch: it ended after %lld ms, again", plural,
			  (long long)lived_ms);
	retry(r, 0);
}

static void on_done(void *data, const struct bn_http_result *res)
{
	struct bn_reflector *r = data;
	enum state was = r->state;

	r->req = NULL;
	r->st.watch_since_ms = 0;
	evtimer_del(r->timer);
	if (was != LISTING && r->in.listing)
		bn_intake_list_abort(&r->in);
	if (r->in.changed)
		changed(r);
	if (res->status && res->status != 200)
		refused(r, res, was);
	else if (r->has_error)
		watch_ended(r, was);
	else if (res->err < 0)
		broken(r, res, was);
	else if (was == LISTING)
		list_page_done(r);
	else if (!bn_split_complete(&r->split))
		broken(r, &(struct bn_http_result){ .err = -EIO, .error = "cut off in an event" },
		       was);
	else
		watch_ended(r, was);
}

static const struct bn_http_handler handler = {
	.head = on_head,
	.body = on_body,
	.done = on_done,
};

static void on_timer(evutil_socket_t fd, short what, void *data)
{
	struct bn_reflector *r = data;
	struct timeval tv = { STREAM_STALL_MS / 1000, 0 };

	(void)fd;
	(void)what;
	switch (r->state) {
	case WAITING:
		next(r);
		break;
	case STREAMING:
		if (now_ms() - r->heard_ms < STREAM_STALL_MS) {
			evtimer_add(r->timer, &tv);
			break;
		}
		/* Connected or not, the list does not come this way: ask for pages. */
		bn_http_cancel(r->req);
		r->streaming = false;
		start_page(r);
		break;
	case WATCHING:
		r->settled = true;
		r->failures = r->watch_failures = 0;
		set_synced(r);
		break;
	case LISTING:
		break;
	}
}

/* --- outside ---------------------------------------------------------------------------------- */

void bn_reflector_start(struct bn_reflector *r)
{
	relist(r, BN_RELIST_START);
	wait_ms(r, 0);
}

void bn_reflector_wake(struct bn_reflector *r)
{
	if (r->state == WAITING && r->unreachable)
		wait_ms(r, between(0, 200));
}

void bn_reflector_alive(struct bn_reflector *r)
{
	struct bn_source_state *st = &r->env.source->state[r->env.kind];

	if (r->state == WATCHING && r->settled && !st->error[0])
		st->synced_ns = bn_source_now();
	else if (r->state == WATCHING && r->settled)
		set_synced(r);
}

void bn_reflector_silent(struct bn_reflector *r, unsigned seconds)
{
	struct bn_source_state *st = &r->env.source->state[r->env.kind];
	uint64_t since = bn_source_now() - seconds * 1000000000ull;

	if (r->state == WAITING || r->state == LISTING)
		return;
	if (!st->error[0])
		set_error(r, "%s: the server has been silent for %u s", bn_kind_plural(r->env.kind),
			  seconds);
	if (st->failing_ns > since)
		st->failing_ns = since;
}

const struct bn_reflector_stats *bn_reflector_stats(const struct bn_reflector *r)
{
	return &r->st;
}

void bn_reflector_freep(struct bn_reflector **rp)
{
	struct bn_reflector *r = *rp;

	if (!r)
		return;
	if (r->req)
		bn_http_cancel(r->req);
	if (r->timer)
		event_free(r->timer);
	bn_split_clear(&r->split);
	bn_intake_list_abort(&r->in);
	free(r->cont);
	free(r);
	*rp = NULL;
}

int bn_reflector_new(const struct bn_reflector_env *env, struct bn_reflector **ret)
{
	_cleanup_(bn_reflector_freep) struct bn_reflector *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->env = *env;
	r->k = &bn_kube_kinds[env->kind];
	r->in.source = env->source;
	r->in.kind = env->kind;
	r->streaming = env->streaming;
	r->timer = evtimer_new(env->base, on_timer, r);
	if (!r->timer)
		return -ENOMEM;
	*ret = TAKE_PTR(r);
	return 0;
}
