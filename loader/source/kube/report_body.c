/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "loader/source/kube/kinds.h"
#include "loader/source/kube/report.h"
#include "policy/siphash.h"

/* Longer names leave no room for the hash. */
#define NAME_PART 230
#define NOTE_MAX 1024

static void rfc3339(time_t t, char ret[static 32])
{
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key)) ?: "";
}

/* --- conditions ------------------------------------------------------------------------------- */

static const json_t *accepted_of(const json_t *conditions)
{
	json_t *c;
	size_t i;

	json_array_foreach(conditions, i, c)
		if (!strcmp(text_of(c, "type"), "Accepted"))
			return c;
	return NULL;
}

static bool same(const json_t *a, const json_t *b, const char *key)
{
	const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);

	return x == y || (x && y && json_equal(x, y));
}

static json_t *wanted(const json_t *meta, const struct bn_err *err, const char *node_name)
{
	json_t *generation = json_object_get(meta, "generation");
	char message[sizeof(err->field) + sizeof(err->msg) + 300];

	if (err)
		snprintf(message, sizeof(message), "%s%.253s%s%s%s%s", err->closed ? "node " : "",
			 err->closed ? node_name : "", err->closed ? ": " : "", err->field, *err->field ? ": " : "",
			 err->msg);
	else
		snprintf(message, sizeof(message), "The policy is valid.");
	return json_pack("{s:s,s:s,s:s,s:s,s:O*}", "type", "Accepted", "status",
			 err ? "False" : "True", "reason",
			 !err ? "Accepted" : err->closed ? "Unsupported" : "Invalid", "message",
			 message, "observedGeneration",
			 json_is_integer(generation) ? generation : NULL);
}

/* Another node's kernel cannot enforce this generation. */
static bool others_cannot(const json_t *before, const json_t *want, const char *node_name)
{
	char own[300];

	snprintf(own, sizeof(own), "node %.253s: ", node_name);
	return !strcmp(text_of(before, "reason"), "Unsupported") && same(before, want, "observedGeneration") &&
	       strncmp(text_of(before, "message"), own, strlen(own));
}

char *bn_report_condition(const json_t *object, const struct bn_err *err, const char *node_name, time_t now)
{
	static const char *const keys[] = { "status", "reason", "message", "observedGeneration" };
	const json_t *meta = json_object_get(object, "metadata");
	const json_t *have =
		json_object_get(json_object_get(object, "status"), "conditions");
	const json_t *before = accepted_of(have);
	json_t *want = wanted(meta, err, node_name), *list, *c, *patch;
	char stamp[32], *text;
	bool equal = before && want;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++)
		equal = equal && same(before, want, keys[i]);
	if (equal || !want || ((!err || err->closed) && before && others_cannot(before, want, node_name))) {
		json_decref(want);
		return NULL;
	}
	rfc3339(now, stamp);
	/* the time of the last change of True and False, not of the words */
	if (before && same(before, want, "status") && *text_of(before, "lastTransitionTime"))
		snprintf(stamp, sizeof(stamp), "%s", text_of(before, "lastTransitionTime"));
	json_object_set_new(want, "lastTransitionTime", json_string(stamp));
	list = json_array();
	json_array_foreach(have, i, c)
		if (c != before)
			json_array_append(list, c);
	json_array_append_new(list, want);
	patch = json_pack("{s:{s:O*},s:{s:o}}", "metadata", "resourceVersion",
			  json_object_get(meta, "resourceVersion"), "status", "conditions", list);
	text = patch ? json_dumps(patch, JSON_COMPACT) : NULL;
	json_decref(patch);
	return text;
}

/* --- events ----------------------------------------------------------------------------------- */

static void event_name(const json_t *meta, const struct bn_source_id *id, const char *note,
		       char name[static 254])
{
	static const struct bn_sipkey key = { { 0x62706e6574, 0x6576656e74 } };
	char said[NOTE_MAX + 512];
	size_t n;

	snprintf(said, sizeof(said), "%s %s %lld %s", bn_kind_name(id->kind), text_of(meta, "uid"),
		 json_integer_value(json_object_get(meta, "generation")), note);
	n = strnlen(id->name, NAME_PART);
	while (n && !isalnum((unsigned char)id->name[n - 1]))
		n--;
	snprintf(name, 254, "%.*s.%016llx", (int)n, id->name,
		 (unsigned long long)bn_siphash(&key, said, strlen(said)));
}

char *bn_report_event(const json_t *object, const struct bn_source_id *id,
		      const struct bn_err *err, const char *node_name, char name[static 254])
{
	const json_t *meta = json_object_get(object, "metadata");
	char note[NOTE_MAX], when[64], *text;
	struct timespec ts;
	struct tm tm;
	json_t *o;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + strlen(when), sizeof(when) - strlen(when), ".%06ldZ", ts.tv_nsec / 1000);
	snprintf(note, sizeof(note), "refused by bpfnet: %s%s%s. %s.", err->field, *err->field ? ": " : "", err->msg,
		 err->closed ? "It isolates what it selects and allows nothing"
		 : id->kind == BN_KIND_SERVICE
			 ? "The last good version stays in force"
			 : "The last good version stays in force; without one it isolates what it selects");
	event_name(meta, id, note, name);
	o = json_pack("{s:s,s:s,s:{s:s,s:s},s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:{s:s,s:s,s:s,s:s,s:O*,s:O*}}",
		      "apiVersion", "events.k8s.io/v1", "kind", "Event", "metadata", "name", name,
		      "namespace", id->ns, "eventTime", when, "type", "Warning", "reason", "Refused",
		      "action", "Enforce", "reportingController", "bpfnet.io/bpfnetd",
		      "reportingInstance", node_name, "note", note, "regarding", "apiVersion",
		      bn_kube_kinds[id->kind].api_version, "kind", bn_kind_name(id->kind),
		      "namespace", id->ns, "name", id->name, "uid", json_object_get(meta, "uid"),
		      "resourceVersion", json_object_get(meta, "resourceVersion"));
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	return text;
}
