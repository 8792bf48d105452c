/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/intake.h"

#include <string.h>

#include "policy/intern.h"

void bn_intake_list_begin(struct bn_intake *in)
{
	bn_seen_clear(&in->seen);
	in->unreadable = 0;
	in->listing = true;
}

void bn_intake_list_abort(struct bn_intake *in)
{
	bn_seen_clear(&in->seen);
	in->listing = false;
}

struct sweep {
	struct bn_intake *in;
	struct bn_seen gone;
	int r;
};

static int find_gone(struct bn_obj *o, void *data)
{
	struct sweep *s = data;

	if (!bn_seen_has(&s->in->seen, o->ns, o->name))
		s->r = bn_seen_add(&s->gone, o->ns, o->name);
	return s->r;
}

/* Refused objects may have nothing in the store. */
static int find_gone_rejected(struct sweep *s)
{
	json_t *list = bn_source_rejected_json(s->in->source), *e;
	size_t i;

	json_array_foreach(list, i, e)
	{
		const char *kind = json_string_value(json_object_get(e, "kind"));
		const char *ns = bn_intern(json_string_value(json_object_get(e, "namespace")));
		const char *name = bn_intern(json_string_value(json_object_get(e, "name")));

		if (kind && ns && name && *name && !strcmp(kind, bn_kind_name(s->in->kind)) &&
		    !bn_seen_has(&s->in->seen, ns, name) && !s->r)
			s->r = bn_seen_add(&s->gone, ns, name);
	}
	json_decref(list);
	return s->r;
}

int bn_intake_list_end(struct bn_intake *in)
{
	struct sweep s = { .in = in };
	int r;

	in->listing = false;
	if (in->unreadable) {
		bn_seen_clear(&in->seen);
		return 0;
	}
	bn_source_all_named(in->source, in->kind);
	r = bn_store_each(in->source->store, in->kind, find_gone, &s) ?: find_gone_rejected(&s);
	for (size_t i = 0; r == 0 && i < s.gone.cap; i++) {
		struct bn_source_id id = { in->kind, s.gone.v[i].ns, s.gone.v[i].name };

		if (!id.name)
			continue;
		bn_source_gone(in->source, &id);
		in->changed = true;
	}
	bn_seen_clear(&s.gone);
	bn_seen_clear(&in->seen);
	return r;
}

/* --- objects ---------------------------------------------------------------------------------- */

static const struct bn_json_mask names[] = { { "name", NULL },
					     { "namespace", NULL },
					     { "resourceVersion", NULL },
					     { "generation", NULL },
					     { "uid", NULL },
					     { NULL, NULL } };
/* What is needed to say which object it is that cannot be read, and to say it in its conditions. */
static const struct bn_json_mask named_object[] = { { "metadata", names }, { "status", NULL }, { NULL, NULL } };
static const struct bn_json_mask named_event[] = { { "type", NULL },
						   { "object", named_object },
						   { NULL, NULL } };

static const char unreadable[] = "is not valid JSON, has a NUL in a name of a field, or is nested deeper than 128";

/* believed: its name is of an object of this kind. */
static int note(struct bn_intake *in, const struct bn_source_id *id, bool believed)
{
	in->changed = true;
	if (!in->listing)
		return 0;
	in->unreadable += !id->name || !believed;
	return id->name ? bn_seen_add(&in->seen, id->ns, id->name) : 0;
}

/* o says what is known of an object that cannot be read (NULL: nothing). */
static int broken(struct bn_intake *in, const json_t *o, const char *field, const char *msg,
		  bool believed)
{
	json_t *meta = json_object_get(o, "metadata"), *status = json_object_get(o, "status"), *stub;
	struct bn_source_id id;
	struct bn_err err = {};
	int r;

	stub = json_pack("{s:s,s:s,s:O*,s:O*,s:s}", "kind", bn_kind_name(in->kind), "apiVersion",
			 bn_kube_kinds[in->kind].api_version, "metadata", meta, "status", status, "spec",
			 "unreadable");
	if (!stub)
		return -ENOMEM;
	snprintf(err.field, sizeof(err.field), "%s", field);
	snprintf(err.msg, sizeof(err.msg), "%s", msg);
	r = bn_source_apply_broken(in->source, stub, &err, &id);
	json_decref(stub);
	return r == -ENOMEM ? r : note(in, &id, believed);
}

/* The items of a list do not say what they are; what they say must be what was asked for. */
static int say(json_t *o, const char *key, const char *want)
{
	const json_t *v = json_object_get(o, key);

	if (!v)
		return json_object_set_new(o, key, json_string(want)) ? -ENOMEM : 0;
	return json_is_string(v) && !strcmp(json_string_value(v), want) ? 0 : -EBADMSG;
}

static int apply(struct bn_intake *in, json_t *o)
{
	static const char *const keys[] = { "kind", "apiVersion" };
	const char *want[] = { bn_kind_name(in->kind), bn_kube_kinds[in->kind].api_version };
	struct bn_source_id id = { 0 };
	char msg[120];
	int r;

	if (!json_is_object(o))
		return broken(in, NULL, "", "the server's answer holds something that is no object",
			      false);
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		r = say(o, keys[i], want[i]);
		if (r == -ENOMEM)
			return r;
		snprintf(msg, sizeof(msg), "must be %s, which was asked for", want[i]);
		if (r < 0)
			return broken(in, o, keys[i], msg, false);
	}
	r = bn_source_apply(in->source, o, NULL, 0, &id);
	return r == -ENOMEM ? r : note(in, &id, true);
}

int bn_intake_item(struct bn_intake *in, const char *p, size_t n)
{
	json_t *o = NULL;
	int r;

	r = bn_json_load(p, n, bn_kube_kinds[in->kind].object, &o);
	if (r == -EBADMSG) {
		if (bn_json_load(p, n, named_object, &o) == -ENOMEM)
			return -ENOMEM;
		r = broken(in, o, "", unreadable, true);
	} else if (r == 0) {
		r = apply(in, o);
	}
	json_decref(o);
	return r;
}

static int gone(struct bn_intake *in, const json_t *o)
{
	const json_t *meta = json_object_get(o, "metadata");
	const char *ns = json_string_value(json_object_get(meta, "namespace"));
	const char *name = json_string_value(json_object_get(meta, "name"));
	struct bn_source_id id = { .kind = in->kind };

	if (!name || !*name)
		return -EBADMSG;
	id.name = bn_intern(name);
	id.ns = bn_intern(ns ?: "");
	if (!id.name || !id.ns)
		return -ENOMEM;
	bn_source_gone(in->source, &id);
	in->changed = true;
	return 0;
}

/* What a terminal or a log line can bear. */
static void printable(char *ret, size_t len, const char *s, size_t n)
{
	size_t i;

	for (i = 0; i < n && i + 1 < len && s[i]; i++)
		ret[i] = (unsigned char)s[i] < 0x20 || s[i] == 0x7f ? ' ' : s[i];
	while (i && (unsigned char)ret[i - 1] >= 0x80 && i + 1 == len)
		i--; /* no half of a character */
	while (i && ret[i - 1] == ' ')
		i--;
	ret[i] = 0;
}

void bn_status_words(const char *body, size_t n, char *ret, size_t len)
{
	json_t *o = NULL;
	const char *msg = NULL;

	if (bn_json_load(body, n, NULL, &o) == 0)
		msg = json_string_value(json_object_get(o, "message"));
	if (msg)
		printable(ret, len, msg, strlen(msg));
	else
		printable(ret, len, body, n < 120 ? n : 120);
	json_decref(o);
}

static void read_error(const json_t *o, struct bn_event *ret)
{
	const json_t *details = json_object_get(o, "details");
	const char *msg = json_string_value(json_object_get(o, "message"));
	const char *reason = json_string_value(json_object_get(o, "reason"));
	json_int_t after = json_integer_value(json_object_get(details, "retryAfterSeconds"));

	ret->type = BN_EVENT_ERROR;
	ret->code = json_integer_value(json_object_get(o, "code"));
	/* Some proxies lose the code, none the reason. */
	if (reason && (!strcmp(reason, "Expired") || !strcmp(reason, "Gone")))
		ret->code = 410;
	ret->retry_after_s = after > 0 && after < 86400 ? after : 0;
	msg = msg ?: reason ?: "";
	printable(ret->message, sizeof(ret->message), msg, strlen(msg));
}

/* readable: else only what stands in named_event can be had of it. */
static int read_event(struct bn_intake *in, json_t *ev, bool readable, struct bn_event *ret)
{
	const char *type = json_string_value(json_object_get(ev, "type"));
	json_t *o = json_object_get(ev, "object"), *meta;
	const char *rv, *end;

	if (!type || !json_is_object(o))
		return -EBADMSG;
	if (!strcmp(type, "ERROR") && readable) {
		read_error(o, ret);
		return 0;
	}
	meta = json_object_get(o, "metadata");
	rv = json_string_value(json_object_get(meta, "resourceVersion"));
	if (!rv || !*rv || strlen(rv) > BN_RV_MAX)
		return -EBADMSG;
	memcpy(ret->rv, rv, strlen(rv) + 1);
	if (!strcmp(type, "BOOKMARK") && readable) {
		end = json_string_value(json_object_get(json_object_get(meta, "annotations"),
							"k8s.io/initial-events-end"));
		ret->type = end && !strcmp(end, "true") ? BN_EVENT_INITIAL_END : BN_EVENT_BOOKMARK;
		return 0;
	}
	ret->type = BN_EVENT_OBJECT;
	if (!strcmp(type, "DELETED"))
		return gone(in, o);
	if (strcmp(type, "ADDED") && strcmp(type, "MODIFIED"))
		return -EBADMSG;
	return readable ? apply(in, o) : broken(in, o, "", unreadable, true);
}

int bn_intake_event(struct bn_intake *in, const char *p, size_t n, struct bn_event *ret)
{
	bool readable = true;
	json_t *ev;
	int r;

	*ret = (struct bn_event){ 0 };
	r = bn_json_load(p, n, bn_kube_kinds[in->kind].event, &ev);
	if (r == -EBADMSG) {
		readable = false;
		r = bn_json_load(p, n, named_event, &ev);
	}
	if (r < 0)
		return r;
	r = read_event(in, ev, readable, ret);
	json_decref(ev);
	return r;
}
