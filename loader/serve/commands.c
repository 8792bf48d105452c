/* SPDX-License-Identifier: MIT */
#include "loader/serve/commands.h"

#include <event2/buffer.h>
#include <string.h>

#include "loader/model/endpoints.h"
#include "loader/model/policies.h"
#include "loader/model/services.h"

static const char *arg(const json_t *args, const char *name)
{
	return json_string_value(json_object_get(args, name));
}

static int need_name(const json_t *args, struct bn_reply *r, const char **ns, const char **name)
{
	*ns = arg(args, "namespace");
	*name = arg(args, "name");
	if (*ns && *name)
		return 0;
	return bn_reply_error(r, EINVAL, "'namespace' and 'name' are needed");
}

static int svc_list(_unused_ const json_t *args, struct bn_reply *r, void *data)
{
	const struct bn_commands *c = data;

	r->data = bn_services_json(c->services);
	return r->data ? 0 : -ENOMEM;
}

static int svc_show(const json_t *args, struct bn_reply *r, void *data)
{
	const struct bn_commands *c = data;
	const char *ns, *name;
	int k = need_name(args, r, &ns, &name);

	if (k < 0)
		return k;
	errno = 0;
	r->data = bn_services_show(c->services, ns, name);
	if (r->data)
		return 0;
	return errno == ENOENT ? bn_reply_error(r, ENOENT, "no service %s/%s is in force", ns, name) :
				 -ENOMEM;
}

static int endpoint_list(_unused_ const json_t *args, struct bn_reply *r, void *data)
{
	const struct bn_commands *c = data;

	return bn_endpoints_json(c->endpoints, &r->data);
}

static int policy_list(_unused_ const json_t *args, struct bn_reply *r, void *data)
{
	const struct bn_commands *c = data;

	return bn_policies_list(c->policies, &r->data);
}

static int policy_show(const json_t *args, struct bn_reply *r, void *data)
{
	const struct bn_commands *c = data;
	const char *ns, *name;
	int k = need_name(args, r, &ns, &name);

	if (k < 0)
		return k;
	k = bn_policies_show(c->policies, ns, name, &r->data);
	return k == -ENOENT ? bn_reply_error(r, ENOENT, "no policy %s/%s", ns, name) : k;
}

static int policy_lint(_unused_ const json_t *args, struct bn_reply *r, void *data)
{
	const struct bn_commands *c = data;

	return bn_policies_lint(c->policies, &r->data);
}

static int identity_list(_unused_ const json_t *args, struct bn_reply *r, void *data)
{
	const struct bn_commands *c = data;

	return bn_policies_identities(c->policies, &r->data);
}

/* The request as a query. http is cut: "GET /path" -> method and target. */
static int trace_query(const json_t *args, char *http, const char **headers, struct bn_trace_query *q,
		       struct bn_reply *r)
{
	const json_t *port = json_object_get(args, "port"), *h;
	char *space;
	size_t i;

	*q = (struct bn_trace_query){
		.from = arg(args, "from"), .to = arg(args, "to"), .headers = headers,
		.http_host = arg(args, "host"), .proto = BN_PROTO_TCP,
	};
	if (!q->from || !q->to)
		return bn_reply_error(r, EINVAL, "'from' and 'to' are needed");
	if (arg(args, "proto") && bn_proto_parse(arg(args, "proto"), &q->proto) < 0)
		return bn_reply_error(r, EINVAL, "unknown protocol '%.40s'", arg(args, "proto"));
	if (port && (!json_is_integer(port) || json_integer_value(port) < 0 ||
		     json_integer_value(port) > 65535))
		return bn_reply_error(r, EINVAL, "'port' is no port");
	q->port = json_integer_value(port);
	json_array_foreach(json_object_get(args, "headers"), i, h) {
		if (!json_is_string(h))
			return bn_reply_error(r, EINVAL, "'headers' are strings");
		headers[q->nheaders++] = json_string_value(h);
	}
	if (!http)
		return 0;
	space = strchr(http, ' ');
	if (!space || space == http || !space[1])
		return bn_reply_error(r, EINVAL, "'http' is 'METHOD TARGET'");
	*space = '\0';
	q->http_method = http;
	q->http_target = space + 1;
	return 0;
}

static int policy_trace(const json_t *args, struct bn_reply *r, void *data)
{
	const struct bn_commands *c = data;
	_cleanup_(freep) const char **headers = NULL;
	_cleanup_(json_decrefp) json_t *o = NULL;
	_cleanup_(freep) char *http = NULL;
	struct bn_trace_query q;
	const char *why;
	int k;

	headers = calloc(json_array_size(json_object_get(args, "headers")) + 1, sizeof(*headers));
	if (arg(args, "http"))
		http = strdup(arg(args, "http"));
	if (!headers || (arg(args, "http") && !http))
		return -ENOMEM;
	k = trace_query(args, http, headers, &q, r);
	if (k < 0)
		return k;
	k = bn_policies_trace(c->policies, &q, json_is_true(json_object_get(args, "verify")), &o);
	if (k >= 0) {
		r->data = TAKE_PTR(o);
		return 0;
	}
	why = json_string_value(json_object_get(o, "error"));
	/* A name that is not known is no answer to this question: an error, whatever its number. */
	return bn_reply_error(r, k == -ENOENT ? EINVAL : k, "%s", why ?: strerror(-k));
}

static int metrics(_unused_ const json_t *args, struct bn_reply *r, void *data)
{
	const struct bn_commands *c = data;
	struct evbuffer *text = evbuffer_new();
	size_t len;

	if (!text)
		return -ENOMEM;
	if (bn_metrics_text(c->metrics, text) == 0) {
		len = evbuffer_get_length(text);
		r->data = json_stringn((const char *)evbuffer_pullup(text, -1) ?: "", len);
	}
	evbuffer_free(text);
	return r->data ? 0 : -ENOMEM;
}

int bn_commands_register(struct bn_control *c, const struct bn_commands *env)
{
	const struct {
		const char *name;
		bn_control_fn fn;
		const void *model;
	} list[] = {
		{ "svc.list", svc_list, env->services },
		{ "svc.show", svc_show, env->services },
		{ "endpoint.list", endpoint_list, env->endpoints },
		{ "policy.list", policy_list, env->policies },
		{ "policy.show", policy_show, env->policies },
		{ "policy.lint", policy_lint, env->policies },
		{ "policy.trace", policy_trace, env->policies },
		{ "identity.list", identity_list, env->policies },
		{ "metrics", metrics, env->metrics },
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(list) && !r; i++)
		if (list[i].model)
			r = bn_control_handle(c, list[i].name, list[i].fn, (void *)env);
	return r;
}
