/* SPDX-License-Identifier: MIT */
#include "policy/object.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/http.h"
#include "policy/intern.h"
#include "policy/object_read.h"

static int parse_service(struct bn_rd *rd, const json_t *json, struct bn_obj *o)
{
	return bn_parse_service(rd, json, (struct bn_service *)o);
}

static int parse_slice(struct bn_rd *rd, const json_t *json, struct bn_obj *o)
{
	return bn_parse_slice(rd, json, (struct bn_slice *)o);
}

static int parse_pod(struct bn_rd *rd, const json_t *json, struct bn_obj *o)
{
	return bn_parse_pod(rd, json, (struct bn_pod *)o);
}

static int parse_namespace(struct bn_rd *rd, const json_t *json, struct bn_obj *o)
{
	return bn_parse_namespace(rd, json, (struct bn_namespace *)o);
}

static int parse_node(struct bn_rd *rd, const json_t *json, struct bn_obj *o)
{
	return bn_parse_node(rd, json, (struct bn_node *)o);
}

static int parse_netpol(struct bn_rd *rd, const json_t *json, struct bn_obj *o)
{
	return bn_parse_netpol(rd, json, (struct bn_netpol *)o);
}

static const struct kind {
	const char *name, *plural, *version;
	bool cluster;
	size_t size;
	int (*parse)(struct bn_rd *rd, const json_t *json, struct bn_obj *o);
} kinds[BN_KIND__MAX] = {
	[BN_KIND_SERVICE] = { "Service", "services", "v1", false, sizeof(struct bn_service),
			      parse_service },
	[BN_KIND_ENDPOINTSLICE] = { "EndpointSlice", "endpointslices", "discovery.k8s.io/v1", false,
				    sizeof(struct bn_slice), parse_slice },
	[BN_KIND_POD] = { "Pod", "pods", "v1", false, sizeof(struct bn_pod), parse_pod },
	[BN_KIND_NAMESPACE] = { "Namespace", "namespaces", "v1", true, sizeof(struct bn_namespace),
				parse_namespace },
	[BN_KIND_NODE] = { "Node", "nodes", "v1", true, sizeof(struct bn_node), parse_node },
	[BN_KIND_NETPOL] = { "NetworkPolicy", "networkpolicies", "networking.k8s.io/v1", false,
			     sizeof(struct bn_netpol), parse_netpol },
	[BN_KIND_HTTPNETPOL] = { "HTTPNetworkPolicy", "httpnetworkpolicies", "bpfnet.io/v1alpha1",
				 false, sizeof(struct bn_netpol), parse_netpol },
};

const char *bn_kind_name(enum bn_kind kind)
{
	return (unsigned)kind < BN_KIND__MAX ? kinds[kind].name : NULL;
}

const char *bn_kind_plural(enum bn_kind kind)
{
	return (unsigned)kind < BN_KIND__MAX ? kinds[kind].plural : NULL;
}

bool bn_kind_namespaced(enum bn_kind kind)
{
	return (unsigned)kind < BN_KIND__MAX && !kinds[kind].cluster;
}

/* --- life ------------------------------------------------------------------------------------- */

struct bn_obj *bn_obj_ref(struct bn_obj *o)
{
	if (o)
		o->refs++;
	return o;
}

void bn_obj_unref(struct bn_obj *o)
{
	if (!o || --o->refs)
		return;
	bn_rd_release(o);
	freep(&o->origin);
	freep(&o);
}

void bn_obj_unrefp(struct bn_obj **o)
{
	bn_obj_unref(*o);
	*o = NULL;
}

bool bn_obj_equal(const struct bn_obj *a, const struct bn_obj *b)
{
	return a == b || (a->kind == b->kind && a->digest && a->digest == b->digest &&
			  a->size == b->size);
}

int bn_obj_set_origin(struct bn_obj *o, const char *file, unsigned line)
{
	char *s;

	if (asprintf(&s, "%s:%u", file, line) < 0)
		return -ENOMEM;
	freep(&o->origin);
	o->origin = s;
	return 0;
}

void bn_obj_move_origin(struct bn_obj *to, struct bn_obj *from)
{
	char *s = to->origin;

	to->origin = from->origin;
	from->origin = s;
}

const char *bn_labels_get(const struct bn_labels *l, const char *interned_key)
{
	uint32_t i;

	for (i = 0; i < l->n; i++) {
		if (l->v[i].key == interned_key)
			return l->v[i].val;
	}
	return NULL;
}

static bool req_match(const struct bn_sel_req *q, const struct bn_labels *l)
{
	const char *val = bn_labels_get(l, q->key);
	bool in = false;
	uint32_t i;

	for (i = 0; val && i < q->nvals; i++)
		in |= q->vals[i] == val;
	switch (q->op) {
	case BN_SEL_IN:
		return in;
	case BN_SEL_NOT_IN:
		return !in; /* also without the label */
	case BN_SEL_EXISTS:
		return val;
	case BN_SEL_NOT_EXISTS:
		return !val;
	default:
		return false;
	}
}

bool bn_selector_match(const struct bn_selector *s, const struct bn_labels *l)
{
	uint32_t i;

	for (i = 0; i < s->n; i++) {
		if (!req_match(&s->reqs[i], l))
			return false;
	}
	return true;
}

/* --- parsing ---------------------------------------------------------------------------------- */

static const char *str_of(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key));
}

int bn_kind_of(const json_t *json, enum bn_kind *ret)
{
	const char *version = str_of(json, "apiVersion"), *name = str_of(json, "kind");
	int k;

	if (!version || !name)
		return -EOPNOTSUPP;
	for (k = 0; k < BN_KIND__MAX; k++) {
		if (!strcmp(name, kinds[k].name) && !strcmp(version, kinds[k].version)) {
			*ret = k;
			return 0;
		}
	}
	return -EOPNOTSUPP;
}

static int parse_name(struct bn_rd *rd, const json_t *json, struct bn_obj *o, bool cluster);

static size_t group_len(const char *version)
{
	const char *slash = strchr(version, '/');

	return slash ? (size_t)(slash - version) : 0;
}

/* A kind of ours in a version that is not: an old one, or none given. Kinds of the same name in
 * other groups (Knative's Service) are none of our business.
 */
static bool wrong_version(const json_t *json, enum bn_kind *ret)
{
	const char *version = str_of(json, "apiVersion") ?: "", *name = str_of(json, "kind");
	int k;

	for (k = 0; name && k < BN_KIND__MAX; k++) {
		size_t n = group_len(kinds[k].version);

		if (strcmp(name, kinds[k].name))
			continue;
		if (!*version || !strcmp(version, "extensions/v1beta1") ||
		    (group_len(version) == n && !strncmp(version, kinds[k].version, n))) {
			*ret = k;
			return true;
		}
	}
	return false;
}

int bn_object_id(const json_t *json, enum bn_kind *kind, const char **ns, const char **name)
{
	struct bn_obj o = { 0 };
	struct bn_err err;
	struct bn_rd rd = { .err = &err };
	int r;

	*kind = BN_KIND__MAX;
	*ns = *name = NULL;
	if (bn_kind_of(json, kind) < 0 && !wrong_version(json, kind))
		return -EINVAL;
	r = parse_name(&rd, json, &o, kinds[*kind].cluster);
	if (r < 0)
		return r;
	*ns = o.ns;
	*name = o.name;
	return 0;
}

const char *bn_meta_annotation(const json_t *json, const char *key)
{
	return str_of(json_object_get(json_object_get(json, "metadata"), "annotations"), key);
}

/* What messages and the store are keyed by: must work for objects that are otherwise broken. */
static int parse_name(struct bn_rd *rd, const json_t *json, struct bn_obj *o, bool cluster)
{
	const struct bn_at *at = BN_AT(NULL, "metadata");
	const char *name, *ns;
	const json_t *meta;
	int r;

	r = bn_rd_get(rd, NULL, json, "metadata", JSON_OBJECT, &meta);
	r = r ?: bn_rd_str(rd, at, meta, "name", BN_STR_MAX, &name);
	if (r < 0)
		return r;
	if (!name || !*name)
		return bn_rd_fail(rd, BN_AT(at, "name"), "is required");
	if (!bn_dns_subdomain(name))
		return bn_rd_fail(rd, BN_AT(at, "name"), "'%.64s' is not an object's name", name);
	r = bn_rd_str(rd, at, meta, "namespace", BN_STR_MAX, &ns);
	if (r < 0)
		return r;
	if (cluster)
		ns = "";
	else if (!ns || !*ns)
		ns = "default";
	else if (!bn_dns_label(ns))
		return bn_rd_fail(rd, BN_AT(at, "namespace"), "'%.64s' is not a namespace", ns);
	return bn_rd_intern(rd, name, &o->name) ?: bn_rd_intern(rd, ns, &o->ns);
}

static int parse_meta(struct bn_rd *rd, const json_t *json, struct bn_obj *o)
{
	const struct bn_at *at = BN_AT(NULL, "metadata");
	const json_t *meta = json_object_get(json, "metadata"), *labels, *annotations;
	int r;

	r = bn_rd_get(rd, at, meta, "labels", JSON_OBJECT, &labels);
	r = r ?: bn_rd_get(rd, at, meta, "annotations", JSON_OBJECT, &annotations);
	/* Nothing looks at the labels of policies: they would only make them differ. */
	if (r < 0 || o->kind == BN_KIND_NETPOL || o->kind == BN_KIND_HTTPNETPOL)
		return r;
	return bn_rd_labels(rd, BN_AT(at, "labels"), labels, &o->labels);
}

static const char *resource_version(const json_t *json)
{
	const json_t *v = json_object_get(json_object_get(json, "metadata"), "resourceVersion");
	const char *s = json_string_value(v);

	return s && json_string_length(v) <= 128 && strlen(s) == json_string_length(v) ? s : NULL;
}

static int parse_stub(const json_t *json, enum bn_kind kind, struct bn_obj **ret)
{
	struct bn_err ignored;
	struct bn_obj *o;
	struct bn_rd rd;
	int r;

	r = bn_rd_begin(&rd, &ignored, kinds[kind].size, &o);
	if (r < 0)
		return r;
	o->kind = kind;
	o->refused = true;
	r = parse_name(&rd, json, o, kinds[kind].cluster);
	r = r ?: bn_parse_netpol_stub(&rd, json, (struct bn_netpol *)o);
	return r ?: bn_rd_finish(&rd, resource_version(json), ret);
}

int bn_object_stub(const json_t *json, struct bn_obj **ret)
{
	enum bn_kind kind;
	int r = bn_kind_of(json, &kind);

	if (r < 0)
		return r;
	return kind == BN_KIND_NETPOL || kind == BN_KIND_HTTPNETPOL ? parse_stub(json, kind, ret) : -EINVAL;
}

/* HTTP rules that cannot be enforced, like a bad regular expression, are errors of the object. */
static int check_http(const struct bn_obj *o, uint64_t steps, bool *later, struct bn_err *err)
{
	int r;

	if (o->kind != BN_KIND_HTTPNETPOL)
		return 0;
	r = bn_http_check_some((const struct bn_netpol *)o, steps, err);
	*later = r == -EAGAIN;
	return r == -EAGAIN ? 0 : r == -E2BIG ? -EINVAL : r;
}

int bn_object_read(const json_t *json, uint64_t steps, struct bn_obj **ret, struct bn_err *err)
{
	bool later = false;
	enum bn_kind kind;
	struct bn_obj *o;
	struct bn_rd rd;
	int r, version;

	*err = (struct bn_err){ 0 };
	version = bn_kind_of(json, &kind);
	if (version < 0 && str_of(json, "kind") && !wrong_version(json, &kind))
		return version;
	*ret = NULL;
	if (!str_of(json, "kind")) {
		snprintf(err->field, sizeof(err->field), "kind");
		snprintf(err->msg, sizeof(err->msg), "is required");
		return -EINVAL;
	}
	r = bn_rd_begin(&rd, err, kinds[kind].size, &o);
	if (r < 0)
		return r;
	o->kind = kind;
	r = parse_name(&rd, json, o, kinds[kind].cluster);
	if (r < 0)
		return r;
	if (version < 0)
		r = bn_rd_fail(&rd, BN_AT(NULL, "apiVersion"), "must be %s", kinds[kind].version);
	r = r ?: parse_meta(&rd, json, o);
	r = r ?: kinds[kind].parse(&rd, json, o);
	r = r ?: check_http(o, steps, &later, err);
	r = r ?: bn_rd_finish(&rd, resource_version(json), ret);
	if (r == -EINVAL && (kind == BN_KIND_NETPOL || kind == BN_KIND_HTTPNETPOL) &&
	    parse_stub(json, kind, ret) == -ENOMEM)
		return -ENOMEM;
	return r ?: later;
}

int bn_object_parse(const json_t *json, struct bn_obj **ret, struct bn_err *err)
{
	return bn_object_read(json, BN_HTTP_WORK_MAX, ret, err);
}

char *bn_object_describe(const json_t *json, char *buf, size_t len)
{
	const json_t *meta = json_object_get(json, "metadata");
	const char *kind = str_of(json, "kind"), *ns = str_of(meta, "namespace");
	const char *name = str_of(meta, "name");
	char *p;

	snprintf(buf, len, "%.64s%s%.63s%s%.253s", kind ?: "object", name || ns ? " " : "",
		 ns ?: "", ns ? "/" : "", name ?: (ns ? "?" : ""));
	for (p = buf; *p; p++) {
		if (*p < ' ' || *p > '~')
			*p = '?';
	}
	return buf;
}
