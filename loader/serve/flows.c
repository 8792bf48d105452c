/* SPDX-License-Identifier: MIT */
#include "loader/serve/flows_priv.h"

#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "loader/log.h"
#include "maps/state.h"
#include "policy/object.h"

struct subscriber {
	TAILQ_ENTRY(subscriber) list;
	struct bn_flows *f;
	struct bn_control_stream *stream;
	bool drop;
	char *pod; /* NULL: all */
};

/* As text: a fifth of the memory of the object. */
struct kept {
	uint64_t seq;
	char *text;
};

struct bn_flows {
	struct bn_flows_env env;
	struct ring_buffer *ring;
	struct event *event;
	struct bn_metric *events, *suppressed;
	unsigned turn;
	struct ring {
		size_t size, n, next;
		struct kept *v;
	} rings[2]; /* [1]: requests that were allowed */
	uint64_t seq;
	TAILQ_HEAD(, subscriber) subs;
	bool followed;
};

static const char *const verdicts[] = {
	[BN_EV_ALLOWED] = "allowed",
	[BN_EV_DENIED] = "denied",
	[BN_EV_DROPPED] = "dropped",
	[BN_EV_AUDIT] = "allowed", /* and "audit": true */
};
_Static_assert(ARRAY_SIZE(verdicts) == BN_EV__MAX, "a text per verdict");

static const char *const reasons[] = {
	[BN_DROP_NONE] = "",
#define X(name, text) [BN_DROP_##name] = #name,
	BN_DROP_LIST(X)
#undef X
};

static json_t *json_time(uint64_t boot_ns)
{
	struct timespec wall, boot;
	int64_t ns;
	char buf[64];
	struct tm tm;
	time_t s;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	ns = (wall.tv_sec - boot.tv_sec) * 1000000000ll + wall.tv_nsec - boot.tv_nsec + (int64_t)boot_ns;
	s = ns / 1000000000;
	gmtime_r(&s, &tm);
	n = strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, sizeof(buf) - n, ".%03dZ", (int)(ns % 1000000000 / 1000000));
	return json_string(buf);
}

static json_t *json_addr(const struct bn_addr *a)
{
	char buf[BN_ADDR_STRLEN];

	return json_string(bn_addr_format(a, buf));
}

/* Bytes of a packet as text: what is not plain ASCII is written as in a URL. */
static json_t *json_bytes(const char *s, size_t max)
{
	char buf[3 * 96 + 1];
	size_t n = 0;

	for (size_t i = 0; i < max && s[i] && n + 4 <= sizeof(buf); i++) {
		unsigned char c = s[i];

		if (c > 0x20 && c < 0x7f)
			buf[n++] = c;
		else
			n += snprintf(buf + n, sizeof(buf) - n, "%%%02X", c);
	}
	return json_stringn(buf, n);
}

/* The pod at one end. The pod that the event concerns is known by its interface, which cannot be
 * forged; the other one only by its address.
 */
static json_t *json_pod(const struct bn_flows *f, const struct bn_event *e, bool source)
{
	const struct bn_addr *a = source ? &e->src : &e->dst;
	bool own = source == (e->direction == BN_DIR_EGRESS);
	char buf[BN_FLOWS_NAME];

	if (own && e->slot && f->env.slot_pod &&
	    f->env.slot_pod(f->env.data, e->slot, buf, sizeof(buf)))
		return json_string(buf);
	if (f->env.pod_at && f->env.pod_at(f->env.data, a, buf, sizeof(buf)))
		return json_string(buf);
	return json_null();
}

/* The name of a service, where the packet was on its way to one: the pod's address is not its destination yet. */
static void set_service(const struct bn_flows *f, const struct bn_event *e, json_t *o)
{
	bool no_backend = e->reason == BN_DROP_NO_BACKEND || e->reason == BN_DROP_NO_LOCAL_BACKEND;
	char buf[BN_FLOWS_NAME];

	if (f->env.service_at &&
	    f->env.service_at(f->env.data, &e->dst, e->dport, e->proto, no_backend, buf, sizeof(buf)))
		json_object_set_new(o, "destinationService", json_string(buf));
}

static void set_policy(const struct bn_flows *f, const struct bn_event *e, json_t *o)
{
	char buf[BN_FLOWS_NAME];
	uint32_t index;

	if (e->rule && f->env.rule && f->env.rule(f->env.data, e->rule, buf, sizeof(buf), &index)) {
		json_object_set_new(o, "policy", json_string(buf));
		json_object_set_new(o, "rule", json_integer(index));
		return;
	}
	if (!e->rule && (e->reason == BN_DROP_POLICY_EGRESS || e->reason == BN_DROP_POLICY_INGRESS))
		json_object_set_new(o, "policy", json_string("no rule matched"));
	else
		json_object_set_new(o, "policy", json_null());
}

static json_t *flow_json(const struct bn_flows *f, const struct bn_event *e)
{
	static const char *const hooks[] = {
#define X(name, text) [BN_HOOK_##name] = text,
		BN_HOOK_LIST(X)
#undef X
	};
	json_t *o = json_object();

	json_object_set_new(o, "time", json_time(e->time_ns));
	json_object_set_new(o, "verdict", json_string(verdicts[e->verdict]));
	if (e->verdict == BN_EV_AUDIT)
		json_object_set_new(o, "audit", json_true());
	json_object_set_new(o, "reason", json_string(reasons[e->reason]));
	json_object_set_new(o, "direction",
			    json_string(e->direction == BN_DIR_EGRESS ? "egress" : "ingress"));
	json_object_set_new(o, "source", json_addr(&e->src));
	json_object_set_new(o, "sourcePort", json_integer(ntohs(e->sport)));
	json_object_set_new(o, "destination", json_addr(&e->dst));
	json_object_set_new(o, "destinationPort", json_integer(ntohs(e->dport)));
	json_object_set_new(o, "sourcePod", json_pod(f, e, true));
	json_object_set_new(o, "destinationPod", json_pod(f, e, false));
	set_service(f, e, o);
	json_object_set_new(o, "protocol", json_string(bn_proto_name(e->proto)));
	set_policy(f, e, o);
	json_object_set_new(o, "http", json_null());
	if (e->method[0] || e->path[0])
		json_object_set_new(o, "http",
				    json_pack("{so* so* so*}", "method",
					      json_bytes(e->method, sizeof(e->method)), "path",
					      json_bytes(e->path, sizeof(e->path)), "host",
					      json_bytes(e->host, sizeof(e->host))));
	json_object_set_new(o, "hook", json_string(e->hook < BN_HOOK__MAX ? hooks[e->hook] : ""));
	json_object_set_new(o, "length", json_integer(e->len));
	if (e->suppressed)
		json_object_set_new(o, "suppressed", json_integer(e->suppressed));
	return o;
}

/* --- subscribers ------------------------------------------------------------------------------- */

static bool wanted(const struct subscriber *s, const json_t *o)
{
	const char *verdict = json_string_value(json_object_get(o, "verdict")) ?: "";
	const char *src = json_string_value(json_object_get(o, "sourcePod")) ?: "";
	const char *dst = json_string_value(json_object_get(o, "destinationPod")) ?: "";

	if (s->drop && !strcmp(verdict, "allowed"))
		return false;
	return !s->pod || !strcmp(s->pod, src) || !strcmp(s->pod, dst);
}

static void deliver(struct subscriber *s, const json_t *o)
{
	_cleanup_(json_decrefp) json_t *with = NULL;
	unsigned long lost;

	if (!wanted(s, o))
		return;
	lost = bn_stream_lost(s->stream);
	if (lost) {
		with = json_copy((json_t *)o);
		json_object_set_new(with, "lost", json_integer(lost));
	}
	if (bn_stream_send(s->stream, with ?: o) < 0)
		bn_stream_add_lost(s->stream, lost);
}

static void tell_followed(struct bn_flows *f)
{
	const struct subscriber *s;
	bool yes = false;

	TAILQ_FOREACH(s, &f->subs, list)
		yes |= !s->drop;
	if (yes != f->followed && f->env.followed)
		f->env.followed(f->env.data, yes);
	f->followed = yes;
}

static void subscriber_free(void *data)
{
	struct subscriber *s = data;

	if (s->f) {
		TAILQ_REMOVE(&s->f->subs, s, list);
		tell_followed(s->f);
	}
	free(s->pod);
	free(s);
}

/* The i-th line that a ring remembers, 0 is the oldest. */
static const struct kept *kept_at(const struct ring *r, size_t i)
{
	return &r->v[(r->next + r->size - r->n + i) % r->size];
}

static bool wanted_text(const struct subscriber *s, const char *text)
{
	_cleanup_(json_decrefp) json_t *o = json_loads(text, 0, NULL);

	return o && wanted(s, o);
}

/* The last n lines that it wants, oldest first: from the newest backwards, how far do they reach? */
static void replay(struct bn_flows *f, struct subscriber *s, size_t n)
{
	size_t at[2] = { f->rings[0].n, f->rings[1].n }, seen = 0;

	while ((at[0] || at[1]) && seen < n) {
		const struct kept *a = at[0] ? kept_at(&f->rings[0], at[0] - 1) : NULL;
		const struct kept *b = at[1] ? kept_at(&f->rings[1], at[1] - 1) : NULL;
		bool second = !a || (b && b->seq > a->seq);

		seen += wanted_text(s, second ? b->text : a->text);
		at[second]--;
	}
	while (at[0] < f->rings[0].n || at[1] < f->rings[1].n) {
		const struct kept *a = at[0] < f->rings[0].n ? kept_at(&f->rings[0], at[0]) : NULL;
		const struct kept *b = at[1] < f->rings[1].n ? kept_at(&f->rings[1], at[1]) : NULL;
		bool second = !a || (b && b->seq < a->seq);
		_cleanup_(json_decrefp) json_t *o = json_loads(second ? b->text : a->text, 0, NULL);

		at[second]++;
		if (o)
			deliver(s, o);
	}
}

static int on_subscribe(struct bn_control_stream *stream, const json_t *args, struct bn_reply *r,
			void *data)
{
	const char *pod = json_string_value(json_object_get(args, "pod"));
	const json_t *last = json_object_get(args, "last");
	struct bn_flows *f = data;
	struct subscriber *s;

	if (last && (!json_is_integer(last) || json_integer_value(last) < 0))
		return bn_reply_error(r, EINVAL, "'last' is not a number");
	s = calloc(1, sizeof(*s));
	if (s && pod)
		s->pod = strdup(pod);
	if (!s || (pod && !s->pod)) {
		free(s);
		return -ENOMEM;
	}
	s->f = f;
	s->stream = stream;
	s->drop = json_is_true(json_object_get(args, "drop"));
	TAILQ_INSERT_TAIL(&f->subs, s, list);
	tell_followed(f);
	bn_stream_on_close(stream, subscriber_free, s);
	replay(f, s, last ? (size_t)json_integer_value(last) : BN_FLOWS_KEEP);
	if (json_is_false(json_object_get(args, "follow")))
		bn_stream_end(stream);
	return 0;
}

int bn_flows_register(struct bn_flows *f, struct bn_control *c)
{
	return bn_control_handle_stream(c, "flows", on_subscribe, f);
}

/* --- events ------------------------------------------------------------------------------------ */

static void keep(struct bn_flows *f, const json_t *o, bool allowed)
{
	struct ring *r = &f->rings[allowed];
	struct kept *k = &r->v[r->next];
	char *text = json_dumps(o, JSON_COMPACT);

	if (!text)
		return;
	free(k->text);
	*k = (struct kept){ f->seq++, text };
	r->next = (r->next + 1) % r->size;
	if (r->n < r->size)
		r->n++;
}

static void feed(struct bn_flows *f, const struct bn_event *e, const struct bn_http_event *http)
{
	_cleanup_(json_decrefp) json_t *o = NULL;
	struct subscriber *s;

	if (e->verdict >= BN_EV__MAX || e->reason >= BN_DROP__MAX)
		return; /* from a program of another version */
	bn_metric_inc(f->events, e->verdict == BN_EV_AUDIT ? "audit" : verdicts[e->verdict],
		      reasons[e->reason]);
	bn_metric_add(f->suppressed, e->suppressed);
	o = flow_json(f, e);
	if (!o)
		return;
	if (http)
		bn_flows_http(&f->env, http, o);
	keep(f, o, e->verdict == BN_EV_ALLOWED);
	TAILQ_FOREACH(s, &f->subs, list)
		deliver(s, o);
}

void bn_flows_feed(struct bn_flows *f, const struct bn_event *e)
{
	feed(f, e, NULL);
}

void bn_flows_feed_http(struct bn_flows *f, const struct bn_http_event *e)
{
	feed(f, &e->ev, e);
}

static int on_sample(void *data, void *sample, size_t len)
{
	struct bn_flows *f = data;
	struct bn_http_event e;

	/* The ring is shared memory: read once. */
	if (len >= sizeof(e)) {
		memcpy(&e, sample, sizeof(e));
		bn_flows_feed_http(f, &e);
	} else if (len >= sizeof(e.ev)) {
		memcpy(&e.ev, sample, sizeof(e.ev));
		bn_flows_feed(f, &e.ev);
	}
	return ++f->turn >= BN_FLOWS_TURN ? -EAGAIN : 0;
}

/* What is left after BN_FLOWS_TURN events makes the descriptor readable again at once, after the
 * other events of the loop.
 */
static void on_readable(_unused_ evutil_socket_t fd, _unused_ short what, void *data)
{
	struct bn_flows *f = data;

	f->turn = 0;
	(void)ring_buffer__consume(f->ring);
}

int bn_flows_new(struct event_base *base, int events_fd, const struct bn_flows_env *env,
		 struct bn_metrics *metrics, struct bn_flows **ret)
{
	_cleanup_(bn_flows_freep) struct bn_flows *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	TAILQ_INIT(&f->subs);
	for (int i = 0; i < 2; i++) {
		f->rings[i].size = i ? BN_FLOWS_KEEP_OK : BN_FLOWS_KEEP;
		f->rings[i].v = calloc(f->rings[i].size, sizeof(*f->rings[i].v));
		if (!f->rings[i].v)
			return -ENOMEM;
	}
	if (env)
		f->env = *env;
	if (metrics) {
		f->events = bn_metrics_counter(metrics, "bpfnet_flow_events_total",
					       "Flow events read from the kernel.", "verdict,reason");
		f->suppressed = bn_metrics_counter(metrics, "bpfnet_flow_events_suppressed_total",
						   "Flow events that the kernel did not send, under load.",
						   "");
		bn_metric_add(f->suppressed, 0);
	}
	if (events_fd >= 0) {
		f->ring = ring_buffer__new(events_fd, on_sample, f, NULL);
		if (!f->ring)
			return log_err_r(errno, "flow events");
		f->event = event_new(base, ring_buffer__epoll_fd(f->ring), EV_READ | EV_PERSIST,
				     on_readable, f);
		if (!f->event || event_add(f->event, NULL) < 0)
			return -ENOMEM;
	}
	*ret = TAKE_PTR(f);
	return 0;
}

void bn_flows_freep(struct bn_flows **fp)
{
	struct bn_flows *f = *fp;
	struct subscriber *s;

	if (!f)
		return;
	while ((s = TAILQ_FIRST(&f->subs))) {
		TAILQ_REMOVE(&f->subs, s, list);
		s->f = NULL; /* freed when its stream closes */
		bn_stream_end(s->stream);
	}
	tell_followed(f);
	if (f->event)
		event_free(f->event);
	ring_buffer__free(f->ring);
	for (size_t i = 0; i < 2; i++) {
		for (size_t k = 0; f->rings[i].v && k < f->rings[i].n; k++)
			free(kept_at(&f->rings[i], k)->text);
		free(f->rings[i].v);
	}
	free(f);
	*fp = NULL;
}
