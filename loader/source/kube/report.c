/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/report.h"

#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#include "loader/log.h"
#include "loader/source/kube/intake.h"
#include "loader/source/kube/kinds.h"
#include "loader/source/kube/reflector_int.h"

#define SPREAD_PER_NODE_MS 20
#define SPREAD_MAX_MS 30000
#define GAP_MS 200 /* between requests, in the long run */
#define BURST 10
#define TRIES 8
#define BACKOFF_MAX_MS 60000
#define FORBIDDEN_MS 600000
#define TIMEOUT_S 30
/* Of either kind; what is beyond is not reported. */
#define QUEUE_MAX 2048
#define DONE_MAX 4096

enum what { STATUS, EVENT, WHAT__MAX };

struct job {
	TAILQ_ENTRY(job) link;
	UT_hash_handle hh;
	char *key; /* "Kind/namespace/name", or an event's name after '!' */
	char *path, *body;
	enum what what;
	int64_t due_ms;
	uint64_t mark;
	unsigned tries;
};

TAILQ_HEAD(jobs, job);

struct done { /* what was written for it: once is enough, whatever others write over it */
	char *key;
	uint64_t mark;
	UT_hash_handle hh;
};

struct bn_report {
	struct bn_rest *http;
	const struct bn_source *source;
	const char *node_name;
	struct event *timer;
	struct jobs queue;
	struct job *by_key, *sent; /* sent: under way, in neither */
	unsigned n[WHAT__MAX];
	struct done *done;
	struct bn_rest_req *req;
	int64_t allowed_ms; /* when the next request would be due at an even pace */
	int64_t forbidden_until_ms[WHAT__MAX];
	bool said[WHAT__MAX];
};

static const char *const names[] = { [STATUS] = "conditions", [EVENT] = "events" };

/* --- the queue -------------------------------------------------------------------------------- */

static void job_free(struct job *j)
{
	if (!j)
		return;
	free(j->key);
	free(j->path);
	free(j->body);
	free(j);
}

static void job_unlink(struct bn_report *r, struct job *j)
{
	TAILQ_REMOVE(&r->queue, j, link);
	HASH_DEL(r->by_key, j);
	r->n[j->what]--;
}

static void job_link(struct bn_report *r, struct job *j)
{
	TAILQ_INSERT_TAIL(&r->queue, j, link);
	HASH_ADD_KEYPTR(hh, r->by_key, j->key, strlen(j->key), j);
	r->n[j->what]++;
}

static void forget(struct bn_report *r, const char *key)
{
	struct job *j;

	HASH_FIND_STR(r->by_key, key, j);
	if (!j)
		return;
	job_unlink(r, j);
	job_free(j);
}

static void done_clear(struct bn_report *r)
{
	struct done *d, *next;

	HASH_ITER(hh, r->done, d, next) {
		HASH_DEL(r->done, d);
		free(d->key);
		free(d);
	}
}

static bool is_done(struct bn_report *r, const char *key, uint64_t mark)
{
	struct done *d;

	HASH_FIND_STR(r->done, key, d);
	return d && d->mark == mark;
}

/* Takes the key. */
static void set_done(struct bn_report *r, struct job *j)
{
	struct done *d;

	HASH_FIND_STR(r->done, j->key, d);
	if (!d) {
		if (HASH_COUNT(r->done) >= DONE_MAX)
			done_clear(r);
		d = calloc(1, sizeof(*d));
		if (!d)
			return;
		d->key = TAKE_PTR(j->key);
		HASH_ADD_KEYPTR(hh, r->done, d->key, strlen(d->key), d);
	}
	d->mark = j->mark;
}

/* --- sending ---------------------------------------------------------------------------------- */

static int64_t when(const struct bn_report *r, const struct job *j)
{
	int64_t t = j->due_ms;

	return t < r->forbidden_until_ms[j->what] ? r->forbidden_until_ms[j->what] : t;
}

static void schedule(struct bn_report *r)
{
	int64_t now = bn_refl_now_ms(), first = INT64_MAX;
	const struct job *j;
	struct timeval tv;

	if (r->sent)
		return;
	TAILQ_FOREACH(j, &r->queue, link)
		if (when(r, j) < first)
			first = when(r, j);
	if (first == INT64_MAX) {
		evtimer_del(r->timer);
		return;
	}
	if (first < r->allowed_ms - (BURST - 1) * GAP_MS)
		first = r->allowed_ms - (BURST - 1) * GAP_MS;
	first = first > now ? first - now : 0;
	tv = (struct timeval){ first / 1000, first % 1000 * 1000 };
	evtimer_add(r->timer, &tv);
}

static void again(struct bn_report *r, struct job *j, unsigned retry_after_s)
{
	unsigned ms = 1000u << j->tries;

	if (++j->tries >= TRIES) {
		job_free(j);
		return;
	}
	if (retry_after_s && ms < retry_after_s * 1000)
		ms = retry_after_s * 1000;
	if (ms > BACKOFF_MAX_MS)
		ms = BACKOFF_MAX_MS;
	j->due_ms = bn_refl_now_ms() + bn_refl_between(ms / 2, ms);
	job_link(r, j);
}

/* A namespace that is going away takes no events: no question of rights. */
static void forbidden(struct bn_report *r, struct job *j, const struct bn_rest_result *res)
{
	char words[200];

	if (strstr(res->body, "NamespaceTerminating") || strstr(res->body, "being terminated")) {
		job_free(j);
		return;
	}
	bn_status_words(res->body, res->body_len, words, sizeof(words));
	if (!r->said[j->what])
		log_info("no right to write %s, which is optional: %s", names[j->what], words);
	r->said[j->what] = true;
	r->forbidden_until_ms[j->what] = bn_refl_now_ms() + FORBIDDEN_MS;
	job_link(r, j);
}

static void on_done(void *data, const struct bn_rest_result *res)
{
	struct bn_report *r = data;
	struct job *j = TAKE_PTR(r->sent), *newer;
	char words[200];

	r->req = NULL;
	HASH_FIND_STR(r->by_key, j->key, newer);
	if (res->status >= 200 && res->status < 300) {
		r->said[j->what] = false;
		if (newer && newer->mark == j->mark) /* written over meanwhile: that is no reason */
			forget(r, j->key);
	} else if (newer) {
		job_free(j); /* overtaken: the newer one says it */
		schedule(r);
		return;
	}
	if (res->err < 0 || res->status == 401 || res->status == 429 || res->status >= 500) {
		again(r, j, res->retry_after_s);
	} else if (res->status == 403) {
		forbidden(r, j, res);
	} else if (res->status == 409 && j->what == STATUS) {
		job_free(j); /* the object has changed: it is on its way here, and is judged again */
	} else {
		if (res->status >= 300 && res->status != 404 && res->status != 409) {
			bn_status_words(res->body, res->body_len, words, sizeof(words));
			log_warn("%s of %s: refused by the API server (%ld): %s", names[j->what],
				 j->key, res->status, words);
		}
		set_done(r, j);
		job_free(j);
	}
	schedule(r);
}

static const struct bn_rest_handler handler = { .done = on_done };

static void on_timer(evutil_socket_t fd, short what, void *data)
{
	struct bn_report *r = data;
	int64_t now = bn_refl_now_ms();
	struct job *j;

	(void)fd;
	(void)what;
	TAILQ_FOREACH(j, &r->queue, link)
		if (when(r, j) <= now)
			break;
	if (!r->sent && j && now >= r->allowed_ms - (BURST - 1) * GAP_MS) {
		const struct bn_rest_request rq = {
			.method = j->what == STATUS ? "PATCH" : "POST",
			.path = j->path,
			.body = j->body,
			.content_type = j->what == STATUS ? "application/merge-patch+json"
							  : "application/json",
			.timeout_s = TIMEOUT_S,
			.handler = &handler,
			.data = r,
		};

		r->allowed_ms = (r->allowed_ms > now ? r->allowed_ms : now) + GAP_MS;
		job_unlink(r, j);
		if (bn_rest_send(r->http, &rq, &r->req) < 0)
			again(r, j, 0);
		else
			r->sent = j;
	}
	schedule(r);
}

/* --- what is to be said ----------------------------------------------------------------------- */

/* Before it is known how many we are, a guess. */
static unsigned spread_ms(const struct bn_report *r)
{
	size_t nodes = bn_store_count(r->source->store, BN_KIND_NODE);

	if (!r->source->state[BN_KIND_NODE].synced)
		return 2000;
	if (nodes > SPREAD_MAX_MS / SPREAD_PER_NODE_MS)
		return SPREAD_MAX_MS;
	return (nodes ? nodes - 1 : 0) * SPREAD_PER_NODE_MS;
}

/* Takes path and body, either of which may be NULL: no memory. */
static void add(struct bn_report *r, enum what what, const char *key, uint64_t mark, char *path,
		char *body)
{
	struct job *j = calloc(1, sizeof(*j));

	forget(r, key);
	if (j)
		*j = (struct job){ .what = what, .mark = mark, .path = path, .body = body };
	if (j)
		j->key = strdup(key);
	if (!j || !j->key || !path || !body || r->n[what] >= QUEUE_MAX) {
		if (j)
			job_free(j);
		else {
			free(path);
			free(body);
		}
		return;
	}
	j->due_ms = bn_refl_now_ms() + bn_refl_between(0, spread_ms(r));
	job_link(r, j);
	schedule(r);
}

/* What may stand in a path as it is: every name that an API server takes. */
static bool plain(const char *s)
{
	return *s && *s != '.' && !s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-.")];
}

static void condition(struct bn_report *r, const struct bn_source_id *id, const json_t *json,
		      const struct bn_err *err)
{
	const json_t *generation =
		json_object_get(json_object_get(json, "metadata"), "generation");
	uint64_t mark = (uint64_t)json_integer_value(generation) << 1 | !err;
	char key[600], *body, *path = NULL;

	snprintf(key, sizeof(key), "%s/%s/%s", bn_kind_name(id->kind), id->ns, id->name);
	body = bn_report_condition(json, err, r->node_name, time(NULL));
	if (!body || is_done(r, key, mark)) {
		free(body);
		forget(r, key);
		return;
	}
	if (asprintf(&path, "%s/namespaces/%s/%s/%s/status", bn_kube_kinds[id->kind].group, id->ns,
		     bn_kind_plural(id->kind), id->name) < 0)
		path = NULL;
	add(r, STATUS, key, mark, path, body);
}

static void event(struct bn_report *r, const struct bn_source_id *id, const json_t *json,
		  const struct bn_err *err)
{
	char name[254], key[600], *path = NULL, *body;

	body = bn_report_event(json, id, err, r->node_name, name);
	snprintf(key, sizeof(key), "!%s/%s", id->ns, name);
	if (is_done(r, key, 0)) {
		free(body);
		return;
	}
	if (asprintf(&path, "/apis/events.k8s.io/v1/namespaces/%s/events", id->ns) < 0)
		path = NULL;
	add(r, EVENT, key, 0, path, body);
}

void bn_report_judged(struct bn_report *r, const struct bn_source_id *id, const json_t *json,
		      const struct bn_err *err)
{
	if (id->kind != BN_KIND_HTTPNETPOL &&
	    (!err || (id->kind != BN_KIND_NETPOL && id->kind != BN_KIND_SERVICE)))
		return;
	if (!plain(id->ns) || !plain(id->name))
		return;
	if (id->kind == BN_KIND_HTTPNETPOL)
		condition(r, id, json, err);
	if (err)
		event(r, id, json, err);
}

/* --- life ------------------------------------------------------------------------------------- */

void bn_report_freep(struct bn_report **rp)
{
	struct bn_report *r = *rp;
	struct job *j;

	if (!r)
		return;
	if (r->req)
		bn_rest_cancel(r->req);
	job_free(r->sent);
	while ((j = TAILQ_FIRST(&r->queue))) {
		job_unlink(r, j);
		job_free(j);
	}
	done_clear(r);
	if (r->timer)
		event_free(r->timer);
	free(r);
	*rp = NULL;
}

int bn_report_new(struct event_base *base, struct bn_rest *http, const struct bn_source *source,
		  const char *node_name, struct bn_report **ret)
{
	_cleanup_(bn_report_freep) struct bn_report *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	TAILQ_INIT(&r->queue);
	r->http = http;
	r->source = source;
	r->node_name = node_name;
	r->timer = evtimer_new(base, on_timer, r);
	if (!r->timer)
		return -ENOMEM;
	*ret = TAKE_PTR(r);
	return 0;
}
