/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/reflector_int.h"

/* How often a CRD that is not there is looked for. */
#define ABSENT_MS 10000
/* A CRD that had objects must be missing this often, this far apart, before they are forgotten: an
 * API server that starts may not know its CRDs yet, and fewer policies mean an open door.
 */
#define MISSING_TIMES 3
#define MISSING_MS 2000

int bn_refl_item(void *data, const char *p, size_t n)
{
	struct bn_reflector *r = data;

	return bn_intake_item(&r->in, p, n);
}

/* --- a list is complete ----------------------------------------------------------------------- */

static void list_complete(struct bn_reflector *r, const char *rv)
{
	struct bn_source_state *st = &r->env.source->state[r->env.kind];

	if (bn_intake_list_end(&r->in) < 0) {
		bn_refl_error(r, "%s: no memory for the list", bn_kind_plural(r->env.kind));
		bn_refl_retry(r, 0);
		return;
	}
	snprintf(r->rv, sizeof(r->rv), "%s", rv);
	r->need_list = r->unpaged = false;
	r->watch_failures = r->missing = 0;
	/* With a watch that keeps failing, the list alone does not make things right again. */
	if (!st->synced || !st->error[0] || !r->failures) {
		bn_refl_synced(r);
	} else {
		st->synced_ns = bn_source_now();
		bn_refl_changed(r);
	}
}

/* The kind does not exist. */
static void absent(struct bn_reflector *r)
{
	struct bn_source *s = r->env.source;
	bool had = bn_store_count(s->store, r->env.kind) > 0;

	bn_refl_relist(r, BN_RELIST_ABSENT);
	if (had && ++r->missing < MISSING_TIMES) {
		bn_refl_wait(r, MISSING_MS);
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
	bn_refl_changed(r);
	bn_refl_wait(r, bn_refl_between(ABSENT_MS * 9 / 10, ABSENT_MS * 11 / 10));
}

/* --- answers ---------------------------------------------------------------------------------- */

/* A server that has just come back may not be ready yet, but will be soon. */
static void answered(struct bn_reflector *r)
{
	if (r->unreachable && r->failures > 1)
		r->failures = 1;
	r->unreachable = false;
}

static void on_head(void *data)
{
	struct bn_reflector *r = data;

	answered(r);
	r->headed = true;
	r->heard_ms = bn_refl_now_ms();
	if (r->state != WATCHING)
		return;
	r->st.watch_since_ms = bn_refl_now_ms();
	bn_refl_timer(r, SETTLE_MS);
}

/* Versions are numbers that only grow, unless etcd was restored or replaced: then a watch from our
 * place would wait for a future that was elsewhere.
 */
static bool went_back(const char *now, const char *before)
{
	size_t n = strlen(now), m = strlen(before);

	if (strspn(now, "0123456789") != n || strspn(before, "0123456789") != m)
		return false;
	return n != m ? n < m : strcmp(now, before) < 0;
}

static void note_bookmark(struct bn_reflector *r)
{
	int64_t now = bn_refl_now_ms();

	r->st.bookmarks++;
	if (r->mark_ms && now - r->mark_ms > r->mark_gap_ms)
		r->mark_gap_ms = now - r->mark_ms;
	r->mark_ms = now;
}

int bn_refl_event(void *data, const char *p, size_t n)
{
	struct bn_reflector *r = data;
	struct bn_event ev;
	int e;

	e = bn_intake_event(&r->in, p, n, &ev);
	if (e < 0)
		return e;
	r->st.events += ev.type == BN_EVENT_OBJECT;
	if (ev.type == BN_EVENT_BOOKMARK)
		note_bookmark(r);
	if (ev.type == BN_EVENT_ERROR) {
		r->error = ev;
		r->has_error = true;
		return -ECANCELED;
	}
	if (r->state == STREAMING) {
		if (ev.type != BN_EVENT_INITIAL_END)
			return 0;
		r->state = WATCHING;
		r->started_ms = r->st.watch_since_ms = bn_refl_now_ms();
		bn_refl_timer(r, SETTLE_MS);
		list_complete(r, ev.rv);
		return r->state == WATCHING ? 0 : -ECANCELED;
	}
	if (went_back(ev.rv, r->rv)) {
		bn_refl_relist(r, BN_RELIST_WENT_BACK);
		return -ESTALE;
	}
	memcpy(r->rv, ev.rv, sizeof(r->rv));
	return 0;
}

static int on_body(void *data, const char *p, size_t n)
{
	struct bn_reflector *r = data;
	struct bn_source *s = r->env.source;
	uint64_t began = bn_source_now();
	int e;

	r->st.bytes += n;
	r->heard_ms = began / 1000000;
	if (r->state == PROBING)
		return 0;
	e = bn_split_feed(&r->split, p, n);
	if (s->pending_ns > began) /* the time it takes to read it counts */
		s->pending_ns = began;
	if (r->state == WATCHING && r->in.changed) {
		s->state[r->env.kind].synced_ns = bn_source_now();
		bn_refl_changed(r);
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

/* Once is no fault: the place was compacted while we were away. The list follows at once, however long
 * the server could not be reached before. 410 after that list is one.
 */
static bool first_expiry(struct bn_reflector *r)
{
	if (r->expired)
		return false;
	r->expired = true;
	r->failures++;
	bn_refl_next(r);
	return true;
}

static void note_forbidden(struct bn_reflector *r, bool forbidden)
{
	struct bn_source_state *st = &r->env.source->state[r->env.kind];

	if (!forbidden)
		st->forbidden_ns = 0;
	else if (!st->forbidden_ns)
		st->forbidden_ns = bn_source_now();
}

/* The group is served: then it is the right that is missing. */
static void probed(struct bn_reflector *r)
{
	note_forbidden(r, true);
	bn_refl_error(r, "%s", r->forbidden);
	bn_refl_retry(r, 0);
}

/* The server answered, but not with 200. */
static void refused(struct bn_reflector *r, const struct bn_rest_result *res, enum state was)
{
	bool watch = was == WATCHING || was == STREAMING;
	char words[200];

	answered(r);
	if (res->status == 404 && r->k->optional) {
		absent(r);
		return;
	}
	/* A server that cannot stream lists says 400, 403 or 422; an odd one 405 or 406. The next one may
	 * be able to: it is asked again with the next list.
	 */
	if (was == STREAMING && res->status >= 400 && res->status < 500 && res->status != 401 &&
	    res->status != 410 && res->status != 429) {
		bn_refl_page(r);
		return;
	}
	if (was == PROBING) {
		probed(r);
		return;
	}
	if (was == LISTING && res->status == 403 && r->k->optional) {
		bn_status_words(res->body, res->body_len, words, sizeof(words));
		snprintf(r->forbidden, sizeof(r->forbidden), "%s: list forbidden (403): %s",
			 bn_kind_plural(r->env.kind), words);
		bn_refl_probe(r);
		return;
	}
	if (was == LISTING && res->status == 410 && r->cont) {
		/* The pages took too long: all at once then, as client-go does. */
		r->unpaged = true;
		bn_refl_relist(r, BN_RELIST_EXPIRED);
		bn_refl_retry(r, res->retry_after_s);
		return;
	}
	note_forbidden(r, res->status == 403);
	if (res->status == 410 || (watch && res->status == 400))
		bn_refl_relist(r, BN_RELIST_EXPIRED);
	else if (watch && ++r->watch_failures >= 3 && res->status != 429 && res->status != 401)
		bn_refl_relist(r, BN_RELIST_WATCH_FAILED);
	bn_status_words(res->body, res->body_len, words, sizeof(words));
	if (res->status == 410 && watch && first_expiry(r))
		return;
	bn_refl_error(r, "%s: %s %s (%ld)%s%s", bn_kind_plural(r->env.kind),
		  watch ? "watch" : "list", status_name(res->status), res->status,
		  *words ? ": " : "", words);
	bn_refl_retry(r, res->retry_after_s);
}

/* No whole answer: nobody there, cut off, or not what was asked for. */
static void broken(struct bn_reflector *r, const struct bn_rest_result *res, enum state was)
{
	const char *verb = was == LISTING ? "list" : "watch", *plural = bn_kind_plural(r->env.kind);

	note_forbidden(r, false);
	if (was == STREAMING && r->headed && r->failures) /* twice: rather pages */
		bn_refl_no_stream(r);
	if (!*res->error && (res->err == -EBADMSG || res->err == -EFBIG)) {
		bn_refl_relist(r, BN_RELIST_GARBAGE);
		bn_refl_error(r, "%s: %s: the server's answer is %s", plural, verb,
			  res->err == -EFBIG ? "too large" : "garbage");
	} else if (res->err == -ESTALE) {
		bn_refl_error(r, "%s: watch: the server's versions went back: another etcd?", plural);
	} else {
		r->unreachable = true;
		bn_refl_error(r, "%s: %s: %s", plural, verb, *res->error ? res->error
								     : strerror(-res->err));
	}
	bn_refl_retry(r, 0);
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
		bn_refl_relist(r, BN_RELIST_GARBAGE);
		bn_refl_error(r, "%s: list: the server's answer is %s", plural,
			  whole ? "not a list" : "cut off or garbage");
		bn_intake_list_abort(&r->in);
		bn_refl_retry(r, 0);
		return;
	}
	if (!r->list_rv[0])
		snprintf(r->list_rv, sizeof(r->list_rv), "%s", rv);
	free(r->cont);
	r->cont = cont && *cont ? strdup(cont) : NULL;
	json_decref(rest);
	if (r->cont) {
		bn_refl_page(r);
		return;
	}
	list_complete(r, r->list_rv);
	if (!r->need_list)
		bn_refl_watch(r, false);
}

/* The stream ended as streams do, by the server's time limit or by an ERROR event. */
static void watch_ended(struct bn_reflector *r, enum state was)
{
	const char *plural = bn_kind_plural(r->env.kind);
	int64_t lived_ms = bn_refl_now_ms() - r->started_ms;

	if (r->has_error) {
		if (r->error.code == 410)
			bn_refl_relist(r, BN_RELIST_EXPIRED);
		else if (r->error.code != 429 && r->error.code < 500)
			bn_refl_relist(r, BN_RELIST_ERROR_EVENT);
		else if (++r->watch_failures >= 3)
			bn_refl_relist(r, BN_RELIST_WATCH_FAILED);
		if (r->error.code == 410 && first_expiry(r))
			return;
		bn_refl_error(r, "%s: watch %s (%ld): %s", plural, status_name(r->error.code),
			  r->error.code, r->error.message);
		bn_refl_retry(r, r->error.retry_after_s);
		return;
	}
	if (was == STREAMING) {
		bn_refl_error(r, "%s: watch: it ended before the list in it was complete", plural);
		if (r->failures) /* twice: rather pages */
			bn_refl_no_stream(r);
		bn_refl_retry(r, 0);
		return;
	}
	if (r->settled || lived_ms >= SETTLE_MS) {
		bn_refl_next(r);
		return;
	}
	if (r->failures) /* once may be bad luck */
		bn_refl_error(r, "%s: watch: it ended after %lld ms, again", plural,
			  (long long)lived_ms);
	bn_refl_retry(r, 0);
}

static void on_done(void *data, const struct bn_rest_result *res)
{
	struct bn_reflector *r = data;
	enum state was = r->state;

	r->req = NULL;
	r->st.watch_since_ms = 0;
	evtimer_del(r->timer);
	if (was == STREAMING && r->in.listing)
		bn_intake_list_abort(&r->in);
	if (r->in.changed)
		bn_refl_changed(r);
	if (res->status && res->status != 200)
		refused(r, res, was);
	else if (r->has_error)
		watch_ended(r, was);
	else if (res->err < 0)
		broken(r, res, was);
	else if (was == PROBING)
		probed(r);
	else if (was == LISTING)
		list_page_done(r);
	else if (!bn_split_complete(&r->split))
		broken(r, &(struct bn_rest_result){ .err = -EIO, .error = "cut off in an event" },
		       was);
	else
		watch_ended(r, was);
}

const struct bn_rest_handler bn_refl_handler = {
	.head = on_head,
	.body = on_body,
	.done = on_done,
};

