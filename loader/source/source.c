/* SPDX-License-Identifier: MIT */
#include "loader/source/source.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "loader/log.h"
#include "loader/source/check.h"
#include "loader/source/laststate.h"
#include "maps/util.h"
#include "policy/http.h"
#include "policy/intern.h"

struct bn_reject {
	char *key;
	char *kind, *ns, *name, *origin;
	struct bn_err err;
	const char *in_force;
	uint64_t digest; /* of the object whose check took long; 0: of another one */
	time_t since;
	UT_hash_handle hh;
};

uint64_t bn_source_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void bn_source_init(struct bn_source *s, const char *name, const struct bn_source_ops *ops,
		    struct bn_store *store, const struct bn_source_callbacks *cb)
{
	int k;

	*s = (struct bn_source){ .name = name, .ops = ops, .store = store };
	if (cb)
		s->cb = *cb;
	for (k = 0; k < BN_KIND__MAX; k++)
		s->state[k].used = true;
}

int bn_source_start(struct bn_source *s)
{
	return s->ops->start(s);
}

static void reject_drop(struct bn_source *s, struct bn_reject *e)
{
	HASH_DEL(s->rejects, e);
	freep(&e->key);
	freep(&e->kind);
	freep(&e->ns);
	freep(&e->name);
	freep(&e->origin);
	freep(&e);
}

void bn_source_freep(struct bn_source **sp)
{
	struct bn_source *s = *sp;
	struct bn_reject *e, *next;

	if (!s)
		return;
	s->ops->stop(s);
	HASH_ITER(hh, s->rejects, e, next)
		reject_drop(s, e);
	s->ops->free(s);
	*sp = NULL;
}

/* --- states ------------------------------------------------------------------------------------ */

/* So long others wait for the checks of the first reading. */
#define FIRST_CHECKS_S 5

bool bn_source_synced(const struct bn_source *s, unsigned kinds)
{
	const struct bn_source_state *http = &s->state[BN_KIND_HTTPNETPOL];
	int k;

	if (kinds & 1u << BN_KIND_HTTPNETPOL && s->nfirst_checks && http->synced &&
	    bn_source_now() - http->first_ns < FIRST_CHECKS_S * 1000000000ull)
		return false;

	for (k = 0; k < BN_KIND__MAX; k++) {
		if ((kinds & 1u << k) && s->state[k].used && !s->state[k].synced)
			return false;
	}
	return true;
}

bool bn_source_failing(const struct bn_source *s, unsigned kinds, unsigned seconds)
{
	uint64_t now = bn_source_now();
	int k;

	for (k = 0; k < BN_KIND__MAX; k++) {
		const struct bn_source_state *st = &s->state[k];

		if ((kinds & 1u << k) && st->used && st->failing_ns &&
		    now - st->failing_ns >= seconds * 1000000000ull)
			return true;
	}
	return false;
}

unsigned bn_source_forbidden(const struct bn_source *s, unsigned seconds)
{
	uint64_t now = bn_source_now();
	unsigned kinds = 0;

	for (int k = 0; k < BN_KIND__MAX; k++) {
		const struct bn_source_state *st = &s->state[k];

		if (st->used && !st->synced && st->forbidden_ns &&
		    now - st->forbidden_ns >= seconds * 1000000000ull)
			kinds |= 1u << k;
	}
	return kinds;
}

void bn_source_set_synced(struct bn_source *s, enum bn_kind kind)
{
	struct bn_source_state *st = &s->state[kind];

	/* What the state directory has and the first full reading has not is gone. */
	if (!st->synced && s->last)
		bn_laststate_prune(s->last, kind);
	if (!st->synced)
		st->first_ns = bn_source_now();
	st->used = st->synced = true;
	st->synced_ns = bn_source_now();
	st->failing_ns = st->forbidden_ns = 0;
	st->error[0] = 0;
}

void bn_source_set_error(struct bn_source *s, enum bn_kind kind, const char *fmt, ...)
{
	struct bn_source_state *st = &s->state[kind];
	va_list ap;

	/* the state is as old as the last moment without an error */
	if (!st->failing_ns) {
		st->failing_ns = bn_source_now();
		if (st->live && st->synced)
			st->synced_ns = st->failing_ns;
	}
	va_start(ap, fmt);
	vsnprintf(st->error, sizeof(st->error), fmt, ap);
	va_end(ap);
}

/* --- what was refused ---------------------------------------------------------------------------- */

static const char *kind_text(enum bn_kind kind)
{
	return bn_kind_name(kind) ?: "";
}

static void reject_log(const struct bn_reject *e)
{
	log_error("%s: %s%s%s%s%s%s%s%s%s; in force: %s", e->origin, e->kind, *e->kind ? " " : "",
		  e->ns, *e->ns ? "/" : "", e->name, *e->kind || *e->name ? ": " : "",
		  e->err.field, e->err.field[0] ? ": " : "", e->err.msg, e->in_force);
}

static int reject_new(struct bn_source *s, const char *key, struct bn_reject **ret)
{
	struct bn_reject *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->key = strdup(key);
	if (!e->key) {
		freep(&e);
		return -ENOMEM;
	}
	HASH_ADD_KEYPTR(hh, s->rejects, e->key, strlen(e->key), e);
	*ret = e;
	return 0;
}

int bn_source_reject(struct bn_source *s, const char *key, const struct bn_source_id *id,
		     const char *origin, const struct bn_err *err, const char *in_force)
{
	struct bn_reject *e;
	bool again;
	int r;

	HASH_FIND_STR(s->rejects, key, e);
	if (!e) {
		r = reject_new(s, key, &e);
		if (r < 0)
			return r;
	}
	again = e->origin && !strcmp(e->err.msg, err->msg) && !strcmp(e->err.field, err->field) &&
		e->in_force == in_force;
	freep(&e->kind);
	freep(&e->ns);
	freep(&e->name);
	freep(&e->origin);
	e->kind = strdup(kind_text(id->kind));
	e->ns = strdup(id->ns ?: "");
	e->name = strdup(id->name ?: "");
	e->origin = strdup(origin ?: s->name);
	e->err = *err;
	e->in_force = in_force;
	e->digest = 0;
	if (!e->kind || !e->ns || !e->name || !e->origin) {
		reject_drop(s, e);
		return -ENOMEM;
	}
	if (!again) {
		e->since = time(NULL);
		reject_log(e);
	}
	return 0;
}

void bn_source_unreject(struct bn_source *s, const char *key)
{
	struct bn_reject *e;

	HASH_FIND_STR(s->rejects, key, e);
	if (!e)
		return;
	log_info("%s: %s%s%s%s%s no longer refused", e->origin, e->kind, *e->kind ? " " : "", e->ns,
		 *e->ns ? "/" : "", e->name);
	reject_drop(s, e);
}

/* --- objects ------------------------------------------------------------------------------------- */

static char *id_key(const struct bn_source_id *id, char *buf, size_t len)
{
	snprintf(buf, len, "%s/%s/%s", kind_text(id->kind), id->ns ?: "", id->name ?: "");
	return buf;
}

/* Finds what stays in force in place of a refused object. stub may be NULL. */
static int keep_last_good(struct bn_source *s, const struct bn_source_id *id, struct bn_obj *stub,
			  const char **in_force)
{
	_cleanup_(bn_obj_unrefp) struct bn_obj *old = NULL;
	struct bn_obj *now = bn_store_get(s->store, id->kind, id->ns, id->name);

	*in_force = "last good version";
	if (now && !now->refused)
		return 0;
	if (s->last && bn_laststate_get(s->last, id->kind, id->ns, id->name, &old) == 0)
		return bn_store_put(s->store, old);
	*in_force = stub ? "isolation only" : "nothing";
	return stub ? bn_store_put(s->store, stub) : 0;
}

/* What stays in force in place of a refused object. */
static int instead(struct bn_source *s, const struct bn_source_id *id, struct bn_obj *stub, const struct bn_err *err,
		   const char **in_force)
{
	if (!err->closed || !stub)
		return keep_last_good(s, id, stub, in_force);
	*in_force = "isolation only";
	return bn_store_put(s->store, stub);
}

static int apply_bad(struct bn_source *s, const struct bn_source_id *id, struct bn_obj *stub,
		     const char *origin, const struct bn_err *err)
{
	const char *in_force = "nothing";
	char key[512];
	int r = 0;

	if (s->last && id->name)
		bn_laststate_seen(s->last, id->kind, id->ns, id->name);
	if (id->name)
		r = instead(s, id, stub, err, &in_force);
	if (!r && !id->name)
		snprintf(key, sizeof(key), "?%s", origin ?: kind_text(id->kind));
	else if (!r)
		id_key(id, key, sizeof(key));
	r = r ?: bn_source_reject(s, key, id, origin, err, in_force);
	return r ?: -EINVAL;
}

static int apply_good(struct bn_source *s, const struct bn_source_id *id, const json_t *json,
		      struct bn_obj *o)
{
	const struct bn_obj *now = bn_store_get(s->store, id->kind, id->ns, id->name);
	bool same = now && bn_obj_equal(now, o);
	char key[512];
	int r;

	if (s->rejects)
		bn_source_unreject(s, id_key(id, key, sizeof(key)));
	r = bn_store_put(s->store, o);
	if (!r && !same && s->last)
		bn_laststate_put(s->last, id->kind, id->ns, id->name, json);
	return r;
}

/* A policy that could be read, but not be enforced by this kernel, becomes its stub. */
static int check_kernel(const struct bn_source *s, const json_t *json, struct bn_obj **o, struct bn_err *err)
{
	const struct bn_netpol *np = (const struct bn_netpol *)*o;
	const struct bn_rule *rule;
	struct bn_obj *stub;
	bool in;
	int r;

	if (!s->no_http || np->o.kind != BN_KIND_HTTPNETPOL)
		return 0;
	rule = bn_netpol_http(np);
	if (!rule)
		return 0;
	in = rule >= np->in && rule < np->in + np->ningress;
	snprintf(err->field, sizeof(err->field), "spec.%s[%u].http", in ? "ingress" : "egress",
		 (unsigned)(rule - (in ? np->in : np->out)));
	r = bn_object_stub(json, &stub);
	if (r < 0)
		return r;
	bn_obj_unrefp(o);
	*o = stub;
	snprintf(err->msg, sizeof(err->msg), "%s", s->no_http);
	err->closed = true;
	return -EINVAL;
}

static void note_pending(struct bn_source *s)
{
	if (!s->pending_ns)
		s->pending_ns = bn_source_now();
}

/* --- HTTP rules that take long to check ---------------------------------------------------------- */

/* What a check said of the same content before: 1: nothing is known of it; else as it would. */
static int checked_before(struct bn_source *s, const struct bn_source_id *id, const struct bn_obj *o,
			  struct bn_err *err)
{
	const struct bn_obj *now = bn_store_get(s->store, id->kind, id->ns, id->name);
	_cleanup_(bn_obj_unrefp) struct bn_obj *kept = NULL;
	struct bn_reject *e;
	char key[512];

	if (now && !now->refused && bn_obj_equal(now, o))
		return 0;
	HASH_FIND_STR(s->rejects, id_key(id, key, sizeof(key)), e);
	if (e && e->digest == o->digest) {
		*err = e->err;
		return -EINVAL;
	}
	if (s->last && bn_laststate_get(s->last, id->kind, id->ns, id->name, &kept) == 0 && bn_obj_equal(kept, o))
		return 0;
	return 1;
}

static int note_refused(struct bn_source *s, const struct bn_source_id *id, uint64_t digest)
{
	struct bn_reject *e;
	char key[512];

	HASH_FIND_STR(s->rejects, id_key(id, key, sizeof(key)), e);
	if (e)
		e->digest = digest;
	return -EINVAL;
}

/* 1: it is being checked. Else as bn_object_read would have said with more steps. */
static int check_later(struct bn_source *s, const struct bn_source_id *id, struct bn_obj **o, json_t *json,
		       const char *origin, struct bn_err *err)
{
	_cleanup_(bn_obj_unrefp) struct bn_obj *stub = NULL;
	const char *in_force;
	int r = checked_before(s, id, *o, err);

	if (r == -EINVAL) {
		r = bn_object_stub(json, &stub);
		if (r < 0)
			return r;
		bn_obj_unrefp(o);
		*o = TAKE_PTR(stub);
		return -EINVAL;
	}
	if (r <= 0 || bn_check_goes_on(s, id, *o, json))
		return r;
	bn_check_forget(s, id);
	if (s->last)
		bn_laststate_seen(s->last, id->kind, id->ns, id->name);
	/* Before policies are in force for the first time, one that is not known yet must not leave a pod open. */
	if (!s->state[id->kind].synced) {
		r = bn_object_stub(json, &stub);
		r = r ?: keep_last_good(s, id, stub, &in_force);
	} else {
		r = 0;
	}
	r = r ?: bn_check_begin(s, id, *o, json, origin);
	return r ?: 1;
}

/* o: the object, or, when it is bad, its stub. */
static int settle(struct bn_source *s, const struct bn_source_id *id, struct bn_obj *o, const json_t *json,
		  const char *origin, const struct bn_err *err)
{
	int r = err ? apply_bad(s, id, o, origin, err) : apply_good(s, id, json, o);

	if (s->judged && id->name && r != -ENOMEM)
		s->judged(s, id, json, err);
	return r;
}

int bn_source_checked(struct bn_source *s, struct bn_obj *o, json_t *json, const char *origin, const struct bn_err *err)
{
	const struct bn_source_id id = { o->kind, o->ns, o->name };
	_cleanup_(bn_obj_unrefp) struct bn_obj *stub = NULL;
	int r;

	note_pending(s);
	if (!err)
		return settle(s, &id, o, json, origin, NULL);
	r = bn_object_stub(json, &stub);
	r = r ?: settle(s, &id, stub, json, origin, err);
	return r == -EINVAL ? note_refused(s, &id, o->digest) : r;
}

int bn_source_apply(struct bn_source *s, json_t *json, const char *origin_file,
		    unsigned line, struct bn_source_id *ret)
{
	_cleanup_(bn_obj_unrefp) struct bn_obj *o = NULL;
	struct bn_source_id id = { .kind = BN_KIND__MAX };
	uint64_t digest = 0;
	struct bn_err err;
	char buf[400], *origin = origin_file ? buf : NULL;
	int r, parsed;

	note_pending(s);
	if (origin_file)
		snprintf(buf, sizeof(buf), "%s:%u", origin_file, line);
	parsed = bn_object_read(json, s->slow ? BN_HTTP_WORK_NOW : BN_HTTP_WORK_MAX, &o, &err);
	if (parsed >= 0)
		parsed = check_kernel(s, json, &o, &err) ?: parsed;
	if (parsed == -EOPNOTSUPP || parsed == -ENOMEM)
		return parsed;
	r = bn_object_id(json, &id.kind, &id.ns, &id.name);
	if (ret)
		*ret = id;
	if (r == -ENOMEM)
		return r;
	if (o && origin_file) {
		r = bn_obj_set_origin(o, origin_file, line);
		if (r < 0)
			return r;
	}
	if (parsed > 0) {
		digest = o->digest;
		parsed = check_later(s, &id, &o, json, origin, &err);
	} else if (s->checks && id.name) {
		bn_check_forget(s, &id);
	}
	if (parsed > 0 || parsed == -ENOMEM)
		return parsed;
	r = settle(s, &id, o, json, origin, parsed < 0 ? &err : NULL);
	return r == -EINVAL && digest ? note_refused(s, &id, digest) : r;
}

int bn_source_apply_broken(struct bn_source *s, const json_t *json, const struct bn_err *err,
			   struct bn_source_id *ret)
{
	_cleanup_(bn_obj_unrefp) struct bn_obj *stub = NULL;
	int r;

	note_pending(s);
	*ret = (struct bn_source_id){ 0 };
	r = bn_object_id(json, &ret->kind, &ret->ns, &ret->name);
	if (r == -ENOMEM)
		return r;
	if (s->checks && ret->name)
		bn_check_forget(s, ret);
	if (ret->name && bn_object_stub(json, &stub) == -ENOMEM)
		return -ENOMEM;
	r = apply_bad(s, ret, stub, NULL, err);
	if (s->judged && ret->name && r != -ENOMEM)
		s->judged(s, ret, json, err);
	return r;
}

void bn_source_all_named(struct bn_source *s, enum bn_kind kind)
{
	char key[80];

	snprintf(key, sizeof(key), "?%s", kind_text(kind));
	bn_source_unreject(s, key);
}

void bn_source_gone(struct bn_source *s, const struct bn_source_id *id)
{
	char key[512];

	if (!id->name)
		return;
	note_pending(s);
	bn_store_del(s->store, id->kind, id->ns, id->name);
	if (s->checks)
		bn_check_forget(s, id);
	if (s->rejects)
		bn_source_unreject(s, id_key(id, key, sizeof(key)));
	if (s->last)
		bn_laststate_del(s->last, id->kind, id->ns, id->name);
}

/* --- status -------------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *s)
{
	return *s ? json_string(s) : json_null();
}

json_t *bn_source_json(const struct bn_source *s)
{
	uint64_t now = bn_source_now();
	json_t *list = json_array();
	int k;

	for (k = 0; k < BN_KIND__MAX; k++) {
		const struct bn_source_state *st = &s->state[k];
		double failing = st->failing_ns ? (double)(now - st->failing_ns) / 1e9 : 0;
		double age = st->live && !st->failing_ns ? 0 : (double)(now - st->synced_ns) / 1e9;

		if (!st->used)
			continue;
		json_array_append_new(list, json_pack("{s:s,s:b,s:o,s:o,s:o,s:s,s:I}", "name",
						      bn_kind_plural(k), "synced", st->synced,
						      "ageSeconds",
						      st->synced ? json_real(age) : json_null(),
						      "failingSeconds",
						      st->failing_ns ? json_real(failing) : json_null(),
						      "error", text_or_null(st->error), "source",
						      s->name, "objects",
						      (json_int_t)bn_store_count(s->store, k)));
	}
	return list;
}

json_t *bn_source_rejected_json(const struct bn_source *s)
{
	json_t *list = json_array();
	struct bn_reject *e, *next;

	HASH_ITER(hh, s->rejects, e, next)
		json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:s}", "kind",
						      e->kind, "namespace", e->ns, "name", e->name,
						      "origin", e->origin, "field", e->err.field,
						      "message", e->err.msg, "since",
						      (json_int_t)e->since, "inForce",
						      e->in_force));
	return list;
}
