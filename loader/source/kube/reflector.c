/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/reflector.h"

#include <stdarg.h>
#include <sys/random.h>

#include "loader/source/kube/reflector_int.h"

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
/* How long streamed lists are not tried where they came to no end. */
#define NO_STREAM_MS 600000

static const char *const relist_names[] = {
#define X(name, text) [BN_RELIST_##name] = text,
	BN_RELIST_LIST(X)
#undef X
};

const char *bn_relist_name(enum bn_relist cause)
{
	return (unsigned)cause < BN_RELIST__MAX ? relist_names[cause] : NULL;
}

unsigned bn_refl_between(unsigned lo, unsigned hi)
{
	uint32_t x = 0;

	if (getrandom(&x, sizeof(x), GRND_NONBLOCK) != sizeof(x))
		x = bn_refl_now_ms() * 2654435761u;
	return lo + x % (hi - lo + 1);
}

void bn_refl_timer(struct bn_reflector *r, unsigned ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	evtimer_add(r->timer, &tv);
}

void bn_refl_wait(struct bn_reflector *r, unsigned ms)
{
	r->state = WAITING;
	bn_refl_timer(r, ms);
}

/* Half of it is random, so that the nodes of a cluster do not come back together. */
static unsigned backoff_ms(unsigned failures)
{
	unsigned ms = BACKOFF_MAX_MS;

	if (!failures)
		return 0;
	if (failures < 7)
		ms = BACKOFF_MIN_MS << (failures - 1);
	return bn_refl_between(ms / 2, ms);
}

void bn_refl_changed(struct bn_reflector *r)
{
	r->in.changed = false;
	r->env.changed(r->env.data);
}

_printf_(2, 3) void bn_refl_error(struct bn_reflector *r, const char *fmt, ...)
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
	bn_refl_changed(r);
}

void bn_refl_synced(struct bn_reflector *r)
{
	struct bn_source_state *st = &r->env.source->state[r->env.kind];

	if (st->error[0])
		log_info("%s: read again", bn_kind_plural(r->env.kind));
	st->used = true;
	bn_source_set_synced(r->env.source, r->env.kind);
	bn_refl_changed(r);
}

void bn_refl_relist(struct bn_reflector *r, enum bn_relist cause)
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

/* query NULL: asks for the kind's group instead. */
static void send_request(struct bn_reflector *r, enum state state, const char *query,
			 unsigned timeout_s, unsigned stall_s)
{
	_cleanup_(freep) char *sel = encode(r->env.label_selector ?: ""), *path = NULL;
	struct bn_rest_request rq = {
		.timeout_s = timeout_s,
		.stall_s = stall_s,
		.handler = &bn_refl_handler,
		.data = r,
	};
	int e = -ENOMEM;

	if (!query)
		path = strdup(r->k->group);
	else if (sel && asprintf(&path, "%s?%s%s%s", r->k->path, query,
				 *sel ? "&labelSelector=" : "", sel) < 0)
		path = NULL;
	rq.path = path;
	if (path)
		e = bn_rest_send(r->env.http, &rq, &r->req);
	if (e < 0) {
		r->req = NULL;
		bn_refl_wait(r, BACKOFF_MAX_MS);
		return;
	}
	r->state = state;
	r->settled = false;
	r->has_error = r->headed = false;
	r->started_ms = r->heard_ms = bn_refl_now_ms();
	r->mark_ms = 0;
}

void bn_refl_page(struct bn_reflector *r)
{
	_cleanup_(freep) char *token = encode(r->cont ?: ""), *query = NULL;

	if (!r->cont) {
		bn_intake_list_begin(&r->in);
		r->list_rv[0] = 0;
	}
	bn_split_clear(&r->split);
	bn_split_init(&r->split, true, bn_refl_item, r);
	if (!token || (r->unpaged ? asprintf(&query, "limit=0") :
		       asprintf(&query, "limit=%d%s%s", PAGE_LIMIT, r->cont ? "&continue=" : "",
				token)) < 0) {
		bn_refl_wait(r, BACKOFF_MAX_MS);
		return;
	}
	send_request(r, LISTING, query, PAGE_TIMEOUT_S, STALL_S);
}

void bn_refl_watch(struct bn_reflector *r, bool streaming)
{
	unsigned timeout_s = bn_refl_between(WATCH_MIN_S, WATCH_MAX_S);
	_cleanup_(freep) char *rv = encode(r->rv), *query = NULL;
	int n;

	bn_split_clear(&r->split);
	bn_split_init(&r->split, false, bn_refl_event, r);
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
		bn_refl_wait(r, BACKOFF_MAX_MS);
		return;
	}
	send_request(r, streaming ? STREAMING : WATCHING, query, timeout_s + WATCH_GRACE_S, 0);
	if (r->state == STREAMING)
		bn_refl_timer(r, STREAM_STALL_MS);
}

/* Who may not list does not know whether there is anything to list: authorization comes first. But
 * everyone may ask which groups there are.
 */
void bn_refl_probe(struct bn_reflector *r)
{
	send_request(r, PROBING, NULL, STALL_S, 0);
}

void bn_refl_no_stream(struct bn_reflector *r)
{
	r->pages_until_ms = bn_refl_now_ms() + NO_STREAM_MS;
}

void bn_refl_next(struct bn_reflector *r)
{
	if (!r->need_list) {
		bn_refl_watch(r, false);
		return;
	}
	r->st.relists[r->cause]++;
	free(r->cont);
	r->cont = NULL;
	if (r->env.streaming && bn_refl_now_ms() >= r->pages_until_ms)
		bn_refl_watch(r, true);
	else
		bn_refl_page(r);
}

void bn_refl_retry(struct bn_reflector *r, unsigned retry_after_s)
{
	unsigned ms;

	r->failures++;
	ms = backoff_ms(r->failures);
	if (retry_after_s > RETRY_AFTER_MAX_S)
		retry_after_s = RETRY_AFTER_MAX_S;
	if (retry_after_s && ms < retry_after_s * 1000)
		ms = retry_after_s * 1000 + bn_refl_between(0, 500);
	bn_refl_wait(r, ms);
}

static void on_timer(evutil_socket_t fd, short what, void *data)
{
	struct bn_reflector *r = data;

	(void)fd;
	(void)what;
	switch (r->state) {
	case WAITING:
		bn_refl_next(r);
		break;
	case STREAMING:
		if (bn_refl_now_ms() - r->heard_ms < (r->headed ? STREAM_STALL_MS : STREAM_HEAD_MS)) {
			bn_refl_timer(r, STREAM_STALL_MS);
			break;
		}
		/* Connected or not, the list does not come this way: ask for pages. */
		bn_rest_cancel(r->req);
		bn_refl_no_stream(r);
		bn_refl_page(r);
		break;
	case WATCHING:
		r->settled = true;
		r->failures = r->watch_failures = 0;
		r->expired = false;
		bn_refl_synced(r);
		break;
	case LISTING:
	case PROBING:
		break;
	}
}

/* --- outside ---------------------------------------------------------------------------------- */

void bn_reflector_start(struct bn_reflector *r)
{
	bn_refl_relist(r, BN_RELIST_START);
	bn_refl_wait(r, 0);
}

void bn_reflector_wake(struct bn_reflector *r)
{
	if (r->state == WAITING && r->unreachable)
		bn_refl_wait(r, bn_refl_between(0, 200));
}

void bn_reflector_alive(struct bn_reflector *r)
{
	struct bn_source_state *st = &r->env.source->state[r->env.kind];

	if (r->state == WATCHING && r->settled && !st->error[0])
		st->synced_ns = bn_source_now();
	else if (r->state == WATCHING && r->settled)
		bn_refl_synced(r);
}

void bn_reflector_silent(struct bn_reflector *r, unsigned seconds)
{
	struct bn_source_state *st = &r->env.source->state[r->env.kind];
	uint64_t since = bn_source_now() - seconds * 1000000000ull;

	if (r->state == WAITING)
		return;
	if (!st->error[0])
		bn_refl_error(r, "%s: the server has been silent for %u s", bn_kind_plural(r->env.kind),
			  seconds);
	if (st->failing_ns > since) {
		st->failing_ns = since;
		if (st->synced && st->synced_ns > since)
			st->synced_ns = since;
	}
}

static void late(struct bn_reflector *r, int64_t quiet_ms)
{
	struct bn_source_state *st = &r->env.source->state[r->env.kind];

	if (st->error[0])
		return;
	bn_refl_error(r, "%s: %s: the server takes the request, and has not answered for more than %d s",
		      bn_kind_plural(r->env.kind), r->state == WATCHING ? "watch" : "list", LATE_MS / 1000);
	st->failing_ns -= (uint64_t)quiet_ms * 1000000;
}

/* Proxies: the head of an answer came through, and then nothing. */
static bool held_back(const struct bn_reflector *r, int64_t quiet_ms)
{
	return r->headed && r->mark_gap_ms && quiet_ms > MARKS_MISSED * r->mark_gap_ms && quiet_ms > MARKS_MIN_MS;
}

static void give_up(struct bn_reflector *r)
{
	evtimer_del(r->timer);
	bn_rest_cancel(r->req);
	r->req = NULL;
	r->st.watch_since_ms = 0;
}

void bn_reflector_look(struct bn_reflector *r)
{
	int64_t quiet_ms = bn_refl_now_ms() - r->heard_ms;

	if (r->state == WAITING || !r->req || (r->state != WATCHING && quiet_ms < LATE_MS))
		return;
	if (r->state != WATCHING || (!r->headed && quiet_ms >= LATE_MS))
		late(r, quiet_ms);
	if (r->state != WATCHING)
		return;
	if (!r->headed && quiet_ms >= STREAM_HEAD_MS) {
		give_up(r);
		bn_refl_retry(r, 0);
	} else if (held_back(r, quiet_ms)) {
		log_warn("%s: watch: nothing for %lld s, though the server sends bookmarks every %lld s: asked again",
			 bn_kind_plural(r->env.kind), (long long)quiet_ms / 1000, (long long)r->mark_gap_ms / 1000);
		r->st.held++;
		give_up(r);
		bn_refl_next(r);
	}
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
		bn_rest_cancel(r->req);
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
	env->source->state[env->kind].live = true;
	r->timer = evtimer_new(env->base, on_timer, r);
	if (!r->timer)
		return -ENOMEM;
	*ret = TAKE_PTR(r);
	return 0;
}
