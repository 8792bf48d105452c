/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "loader/daemon.h"
#include "loader/log.h"

/* What the control socket answers (loader/serve/control.h lists the commands). Arguments come from
 * root only, but are checked all the same.
 */

static int status(const json_t *args _unused_, struct bn_reply *r, void *data)
{
	r->data = bn_daemon_status(data);
	return r->data ? 0 : -ENOMEM;
}

static json_t *svc_row(const json_t *name, void *data)
{
	return bn_services_row(((struct bn_daemon *)data)->services, json_string_value(name));
}

/* Either what is pinned in full, or what is in force in full: never a part. Row by row: 10,000
 * services are 100 MB as one value.
 */
static int svc_list(const json_t *args _unused_, struct bn_reply *r, void *data)
{
	struct bn_daemon *d = data;

	r->data = bn_services_names(d->services);
	r->row = svc_row;
	r->row_data = d;
	return r->data ? 0 : -ENOMEM;
}

static int names(const json_t *args, struct bn_reply *r, const char **ns, const char **name)
{
	*ns = json_string_value(json_object_get(args, "namespace"));
	*name = json_string_value(json_object_get(args, "name"));
	if (!*ns || !*name)
		return bn_reply_error(r, EINVAL, "namespace and name are needed");
	return 0;
}

/* Whose the addresses are is asked when somebody wants to see it: the slices' own word for it would be
 * a name for each endpoint in memory.
 */
static void add_pods(struct bn_daemon *d, json_t *show)
{
	json_t *port, *ep;
	size_t i, k;

	json_array_foreach(json_object_get(show, "ports"), i, port)
		json_array_foreach(json_object_get(port, "endpoints"), k, ep) {
			const struct bn_pod *pod = NULL;
			struct bn_addr a;

			if (!bn_addr_parse(json_string_value(json_object_get(ep, "address")), &a))
				pod = bn_policies_pod_at(d->policies, &a);
			if (pod)
				json_object_set_new(ep, "pod", json_string(pod->o.name));
		}
}

/* Of an object that is not there because it was refused: the field and what is wrong. */
static char *refused_because(struct bn_daemon *d, const char *kind, const char *ns, const char *name)
{
	_cleanup_(json_decrefp) json_t *list = d->source ? bn_source_rejected_json(d->source) : NULL;
	const char *k, *s, *n, *field = NULL, *message = NULL;
	char *text = NULL;
	json_t *row;
	size_t i;

	json_array_foreach(list, i, row) {
		if (json_unpack(row, "{s:s, s:s, s:s, s?s, s?s}", "kind", &k, "namespace", &s, "name", &n,
				"field", &field, "message", &message) < 0 ||
		    strcmp(k, kind) || strcmp(s, ns) || strcmp(n, name))
			continue;
		if (asprintf(&text, "%s %s", field ?: "", message ?: "") < 0)
			return NULL;
		return text;
	}
	return NULL;
}

static int svc_show(const json_t *args, struct bn_reply *r, void *data)
{
	struct bn_daemon *d = data;
	const char *ns, *name;
	int err = names(args, r, &ns, &name);

	if (err)
		return err;
	r->data = bn_services_show(d->services, ns, name);
	if (!r->data) {
		_cleanup_(freep) char *why = refused_because(d, "Service", ns, name);

		return bn_reply_error(r, ENOENT, "no service %s/%s in force%s%s", ns, name,
				      why ? "; it was refused: " : "", why ?: "");
	}
	add_pods(d, r->data);
	return 0;
}

static int endpoint_list(const json_t *args _unused_, struct bn_reply *r, void *data)
{
	return bn_endpoints_json(((struct bn_daemon *)data)->endpoints, &r->data);
}

static int policy_list(const json_t *args _unused_, struct bn_reply *r, void *data)
{
	return bn_policies_list(((struct bn_daemon *)data)->policies, &r->data);
}

static int policy_lint(const json_t *args _unused_, struct bn_reply *r, void *data)
{
	return bn_policies_lint(((struct bn_daemon *)data)->policies, &r->data);
}

static int identity_list(const json_t *args _unused_, struct bn_reply *r, void *data)
{
	return bn_policies_identities(((struct bn_daemon *)data)->policies, &r->data);
}

static int policy_show(const json_t *args, struct bn_reply *r, void *data)
{
	struct bn_daemon *d = data;
	const char *ns, *name;
	int err = names(args, r, &ns, &name);

	if (err)
		return err;
	err = bn_policies_show(d->policies, ns, name, &r->data);
	return err == -ENOENT ? bn_reply_error(r, ENOENT, "no policy %s/%s", ns, name) : err;
}

/* "GET /path" into its two halves; the caller frees *copy. */
static int split_http(const char *text, struct bn_trace_query *q, char **copy)
{
	char *space;

	*copy = strdup(text);
	if (!*copy)
		return -ENOMEM;
	space = strchr(*copy, ' ');
	if (!space || space == *copy || !space[1])
		return -EINVAL;
	*space = '\0';
	q->http_method = *copy;
	q->http_target = space + 1;
	return 0;
}

static int policy_trace(const json_t *args, struct bn_reply *r, void *data)
{
	struct bn_daemon *d = data;
	_cleanup_(freep) char *http = NULL;
	_cleanup_(freep) const char **headers = NULL;
	const json_t *h = json_object_get(args, "headers");
	const char *proto = json_string_value(json_object_get(args, "proto"));
	const char *text = json_string_value(json_object_get(args, "http"));
	json_int_t port = json_integer_value(json_object_get(args, "port"));
	struct bn_trace_query q = {
		.from = json_string_value(json_object_get(args, "from")),
		.to = json_string_value(json_object_get(args, "to")),
		.http_host = json_string_value(json_object_get(args, "host")),
	};
	int err;

	if (!q.from || !q.to || !proto || bn_proto_parse(proto, &q.proto) < 0)
		return bn_reply_error(r, EINVAL, "from, to and proto (tcp, udp, sctp) are needed");
	if (port < 0 || port > 65535)
		return bn_reply_error(r, EINVAL, "port: must be 1 to 65535");
	q.port = port;
	if (text && split_http(text, &q, &http) < 0)
		return bn_reply_error(r, EINVAL, "http: '%s' is not METHOD TARGET", text);
	q.nheaders = json_array_size(h);
	if (q.nheaders) {
		headers = calloc(q.nheaders, sizeof(*headers));
		if (!headers)
			return -ENOMEM;
		for (size_t i = 0; i < q.nheaders; i++) {
			headers[i] = json_string_value(json_array_get(h, i));
			if (!headers[i])
				return bn_reply_error(r, EINVAL, "headers: must be strings");
		}
		q.headers = headers;
	}
	err = bn_policies_trace(d->policies, &q, json_is_true(json_object_get(args, "verify")),
				&r->data);
	/* A query that cannot be answered is an answer too: {"error": ...}. */
	return r->data ? 0 : err;
}

static int metrics(const json_t *args _unused_, struct bn_reply *r, void *data)
{
	struct bn_daemon *d = data;
	struct evbuffer *b = evbuffer_new();
	int err = b ? bn_metrics_text(d->metrics, b) : -ENOMEM;

	if (!err) {
		size_t n = evbuffer_get_length(b);

		r->data = json_stringn_nocheck((const char *)evbuffer_pullup(b, -1), n);
		if (!r->data)
			err = -ENOMEM;
	}
	if (b)
		evbuffer_free(b);
	return err;
}

static bool pod_at(void *data, const struct bn_addr *a, char *buf, size_t len)
{
	const struct bn_pod *p = bn_policies_pod_at(((struct bn_daemon *)data)->policies, a);

	if (!p)
		return false;
	snprintf(buf, len, "%s/%s", p->o.ns, p->o.name);
	return true;
}

static bool slot_pod(void *data, uint32_t slot, char *buf, size_t len)
{
	const char *ns, *name;

	if (!bn_endpoints_slot_pod(((struct bn_daemon *)data)->endpoints, slot, &ns, &name))
		return false;
	snprintf(buf, len, "%s/%s", ns, name);
	return true;
}

static bool service_at(void *data, const struct bn_addr *a, __be16 port, uint8_t proto, bool node_port,
		       char *buf, size_t len)
{
	const char *name = bn_services_name_at(((struct bn_daemon *)data)->services, a, port, proto, node_port);

	if (!name)
		return false;
	snprintf(buf, len, "%s", name);
	return true;
}

static bool rule_of(void *data, uint32_t rule, char *buf, size_t len, uint32_t *index)
{
	struct bn_rule_ref ref;

	if (bn_policies_rule(((struct bn_daemon *)data)->policies, rule, &ref) < 0)
		return false;
	snprintf(buf, len, "%s/%s", ref.policy->o.ns, ref.policy->o.name);
	*index = ref.index;
	return true;
}

static bool match_of(void *data, const struct bn_http_event *e, struct bn_flows_match *ret)
{
	bool allowed = e->ev.verdict == BN_EV_ALLOWED;
	struct bn_rule_ref ref;

	if (bn_policies_http_rule(((struct bn_daemon *)data)->policies, e->set, e->gen,
				  allowed ? e->match : 0, &ref, &ret->entry) < 0)
		return false;
	snprintf(ret->policy, sizeof(ret->policy), "%s/%s", ref.policy->o.ns, ref.policy->o.name);
	if (allowed)
		ret->rule = (int)ref.index;
	return true;
}

/* Allowed requests cost the programs and the loop something: only while they are wanted. */
static void followed(void *data, bool yes)
{
	struct bn_state *st = ((struct bn_daemon *)data)->kernel->maps->mem[BN_MAP_state];

	if (yes)
		__atomic_or_fetch(&st->flags, BN_STATE_F_HTTP_FLOWS, __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&st->flags, ~BN_STATE_F_HTTP_FLOWS, __ATOMIC_RELAXED);
}

static int open_flows(struct bn_daemon *d)
{
	const struct bn_flows_env env = {
		.pod_at = pod_at, .slot_pod = slot_pod, .service_at = service_at, .rule = rule_of, .followed = followed, .match = match_of,
		.data = d
	};
	int r;

	r = bn_flows_new(d->base, d->kernel->maps->fd[BN_MAP_events], &env, d->metrics, &d->flows);
	if (!r)
		r = bn_flows_register(d->flows, d->control);
	return r < 0 ? log_err_r(r, "flow log") : 0;
}

int bn_daemon_commands(struct bn_daemon *d)
{
	static const struct {
		const char *name;
		bn_control_fn fn;
	} list[] = {
		{ "status", status },
		{ "svc.list", svc_list },
		{ "svc.show", svc_show },
		{ "endpoint.list", endpoint_list },
		{ "policy.list", policy_list },
		{ "policy.lint", policy_lint },
		{ "policy.show", policy_show },
		{ "policy.trace", policy_trace },
		{ "identity.list", identity_list },
		{ "metrics", metrics },
	};

	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		int r = bn_control_handle(d->control, list[i].name, list[i].fn, d);

		if (r < 0)
			return log_err_r(r, "control command %s", list[i].name);
	}
	return open_flows(d);
}
