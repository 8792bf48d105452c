/* SPDX-License-Identifier: MIT */
/* The flow log: from events to the contract's objects, filters, memory of the last ones, subscribers
 * through a real control socket. Events are fed; reading the kernel's ring is for the end-to-end tests.
 */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <cmocka.h>

#include "loader/serve/flows.h"
#include "maps/state.h"
#include "policy/object.h"

struct fixture {
	struct event_base *base;
	struct bn_control *c;
	struct bn_flows *f;
	struct bn_metrics *m;
	char dir[64];
};

static bool pod_at(_unused_ void *data, const struct bn_addr *a, char *buf, size_t len)
{
	char text[BN_ADDR_STRLEN];

	bn_addr_format(a, text);
	if (strcmp(text, "10.0.0.1") && strcmp(text, "2001:db8::1"))
		return false;
	snprintf(buf, len, "shop/web");
	return true;
}

static bool slot_pod(_unused_ void *data, uint32_t slot, char *buf, size_t len)
{
	if (slot != 7)
		return false;
	snprintf(buf, len, "shop/db");
	return true;
}

static bool rule(_unused_ void *data, uint32_t id, char *buf, size_t len, uint32_t *index)
{
	if (id != 42)
		return false;
	snprintf(buf, len, "shop/deny-some");
	*index = 3;
	return true;
}

static bool match(_unused_ void *data, const struct bn_http_event *e, struct bn_flows_match *ret)
{
	if (e->set != 5)
		return false;
	snprintf(ret->policy, sizeof(ret->policy), "shop/api");
	ret->rule = e->ev.verdict == BN_EV_ALLOWED ? 2 : -1;
	ret->entry = e->match;
	return true;
}

static int followed_now;

static void followed(_unused_ void *data, bool yes)
{
	followed_now = yes;
}

static int setup(void **state)
{
	const struct bn_flows_env env = { .pod_at = pod_at, .slot_pod = slot_pod, .rule = rule, .match = match,
					   .followed = followed };
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/cli-flows-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->base = event_base_new();
	assert_int_equal(bn_metrics_new(&f->m), 0);
	assert_int_equal(bn_control_new(f->base, f->dir, &f->c), 0);
	assert_int_equal(bn_flows_new(f->base, -1, &env, f->m, &f->f), 0);
	assert_int_equal(bn_flows_register(f->f, f->c), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	bn_flows_freep(&f->f);
	bn_control_freep(&f->c);
	bn_metrics_freep(&f->m);
	event_base_free(f->base);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static void turn(struct fixture *f, int ms)
{
	struct timeval tv = { .tv_usec = ms * 1000 };

	event_base_loopexit(f->base, &tv);
	event_base_dispatch(f->base);
}

static int subscribe(struct fixture *f, const char *args)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char req[256];

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/control.sock", f->dir);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	snprintf(req, sizeof(req), "{\"cmd\":\"flows\",\"args\":%s}\n", args);
	assert_int_equal(send(fd, req, strlen(req), MSG_NOSIGNAL), strlen(req));
	turn(f, 10);
	return fd;
}

/* The next line as an object; NULL: there is none. */
static json_t *next(struct fixture *f, int fd)
{
	static char buf[8192];
	size_t n = 0;

	for (int i = 0; i < 30; i++) {
		ssize_t k = recv(fd, buf + n, 1, 0);

		if (k == 1 && buf[n] == '\n') {
			json_t *o = json_loadb(buf, n, 0, NULL);

			assert_non_null(o);
			return o;
		}
		if (k == 1) {
			n++;
			i = 0;
		} else if (k == 0) {
			return NULL;
		} else {
			turn(f, 2);
		}
	}
	return NULL;
}

static void expect_started(struct fixture *f, int fd)
{
	json_t *o = next(f, fd);

	assert_true(json_is_true(json_object_get(o, "stream")));
	json_decref(o);
}

static struct bn_event event(uint8_t verdict, uint8_t reason, const char *src, const char *dst)
{
	struct timespec ts;
	struct bn_event e = {
		.verdict = verdict, .reason = reason, .proto = BN_PROTO_TCP, .sport = htons(40000),
		.dport = htons(80), .len = 60, .hook = BN_HOOK_TO_POD, .direction = BN_DIR_INGRESS,
	};

	clock_gettime(CLOCK_BOOTTIME, &ts);
	e.time_ns = ts.tv_sec * 1000000000ull + ts.tv_nsec;
	assert_int_equal(bn_addr_parse(src, &e.src), 0);
	assert_int_equal(bn_addr_parse(dst, &e.dst), 0);
	return e;
}

static void expect(struct fixture *f, int fd, const char *want)
{
	json_t *o = next(f, fd), *w = json_loads(want, 0, NULL);
	const char *t = json_string_value(json_object_get(o, "time"));
	struct tm tm = { 0 };
	char *text;

	assert_non_null(w);
	assert_non_null(t);
	assert_int_equal(strlen(t), strlen("2026-11-23T02:48:50.123Z"));
	assert_non_null(strptime(t, "%Y-%m-%dT%H:%M:%S", &tm));
	assert_in_range(timegm(&tm), time(NULL) - 5, time(NULL) + 1);
	json_object_del(o, "time");
	text = json_dumps(o, JSON_INDENT(1));
	if (!json_equal(o, w))
		fail_msg("got %s", text);
	free(text);
	json_decref(o);
	json_decref(w);
}

static void test_objects(void **state)
{
	struct fixture *f = *state;
	int fd = subscribe(f, "{}");
	struct bn_event e;

	expect_started(f, fd);
	e = event(BN_EV_DENIED, BN_DROP_POLICY_INGRESS, "10.0.0.1", "10.0.0.2");
	e.slot = 7;
	e.rule = 42;
	bn_flows_feed(f->f, &e);
	expect(f, fd, "{\"verdict\":\"denied\",\"reason\":\"POLICY_INGRESS\",\"direction\":\"ingress\","
		      "\"source\":\"10.0.0.1\",\"sourcePort\":40000,\"destination\":\"10.0.0.2\","
		      "\"destinationPort\":80,\"sourcePod\":\"shop/web\",\"destinationPod\":\"shop/db\","
		      "\"protocol\":\"TCP\",\"policy\":\"shop/deny-some\",\"rule\":3,\"http\":null,"
		      "\"hook\":\"to_pod\",\"length\":60}");
	/* no rule matched; IPv6; what is sent says less than the interface it came from */
	e = event(BN_EV_DENIED, BN_DROP_POLICY_EGRESS, "2001:db8::1", "2001:db8::2");
	e.slot = 7;
	e.direction = BN_DIR_EGRESS;
	e.hook = BN_HOOK_FROM_POD;
	e.proto = BN_PROTO_UDP;
	e.suppressed = 12;
	bn_flows_feed(f->f, &e);
	expect(f, fd, "{\"verdict\":\"denied\",\"reason\":\"POLICY_EGRESS\",\"direction\":\"egress\","
		      "\"source\":\"2001:db8::1\",\"sourcePort\":40000,\"destination\":\"2001:db8::2\","
		      "\"destinationPort\":80,\"sourcePod\":\"shop/db\",\"destinationPod\":null,"
		      "\"protocol\":\"UDP\",\"policy\":\"no rule matched\",\"http\":null,"
		      "\"hook\":\"from_pod\",\"length\":60,\"suppressed\":12}");
	/* audit passes; a rule that is gone by now; HTTP with bytes that are no text */
	e = event(BN_EV_AUDIT, BN_DROP_POLICY_INGRESS, "192.0.2.1", "10.0.0.2");
	e.rule = 43;
	strcpy(e.method, "GET");
	strcpy(e.path, "/a\x1b\xff%");
	memset(e.host, 'h', sizeof(e.host)); /* not terminated */
	bn_flows_feed(f->f, &e);
	expect(f, fd, "{\"verdict\":\"allowed\",\"audit\":true,\"reason\":\"POLICY_INGRESS\","
		      "\"direction\":\"ingress\",\"source\":\"192.0.2.1\",\"sourcePort\":40000,"
		      "\"destination\":\"10.0.0.2\",\"destinationPort\":80,\"sourcePod\":null,"
		      "\"destinationPod\":null,\"protocol\":\"TCP\",\"policy\":null,\"http\":{\"method\":"
		      "\"GET\",\"path\":\"/a%1B%FF%\",\"host\":"
		      "\"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh\"},"
		      "\"hook\":\"to_pod\",\"length\":60}");
	close(fd);
}

/* What can be read from the first bytes of a head, whatever they are. */
static const struct {
	const char *head, *method, *path, *host; /* NULL: not said */
} heads[] = {
	{ "GET /a/b?secret=1 HTTP/1.1\r\nX: y\r\nhOsT: \t api.shop:80 \r\n\r\n", "GET", "/a/b", "api.shop:80" },
	{ "\r\nPOST / HTTP/1.1\r\nHost:a\r\n\r\nbody", "POST", "/", "a" },
	{ "GET http://x.org:81/p?q HTTP/1.1\r\nHost: other\r\n\r\n", "GET", "/p", "x.org:81" },
	{ "GET HTTP://x.org HTTP/1.1\r\n", "GET", "/", "x.org" },
	{ "OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS", "*", NULL },
	{ "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "CONNECT", "a:443", "a:443" },
	{ "GET /cut", "GET", "/cut", NULL },
	{ "GET", "GET", NULL, NULL },
	{ "GET /a\x1b\xff HTTP/1.1\r\nHost: \x07\r\n", "GET", "/a%1B%FF", "%07" },
	{ "GET / HTTP/1.1\r\n\r\nHost: of-the-body\r\n", "GET", "/", NULL },
	{ "GET / HTTP/1.1\nHost: bare\n\n", "GET", "/", "bare" },
	{ "\x16\x03\x01\x02", NULL, NULL, NULL },
	{ "G(T / HTTP/1.1\r\n", NULL, NULL, NULL },
	{ "", NULL, NULL, NULL },
};

static struct bn_http_event http_event(uint8_t verdict, const char *head)
{
	bool denied = verdict == BN_EV_DENIED;
	struct bn_http_event e = {
		.ev = event(verdict, denied ? BN_DROP_HTTP_DENIED : BN_DROP_NONE, "10.0.0.1", "10.0.0.2"),
		.set = 5, .match = 9, .http = denied ? BN_HTTP_NO_MATCH : BN_HTTP_OK, .len = (uint32_t)strlen(head),
	};

	memcpy(e.head, head, e.len);
	return e;
}

static void expect_text(const json_t *o, const char *key, const char *want)
{
	const char *s = json_string_value(json_object_get(o, key));

	if (want)
		assert_string_equal(s ? s : "(null)", want);
	else
		assert_null(s);
}

static void test_requests(void **state)
{
	struct fixture *f = *state;
	int fd = subscribe(f, "{}");
	struct bn_http_event e;
	json_t *o, *http;
	char longest[600];

	expect_started(f, fd);
	for (size_t k = 0; k < ARRAY_SIZE(heads); k++) {
		e = http_event(k % 2 ? BN_EV_DENIED : BN_EV_ALLOWED, heads[k].head);
		bn_flows_feed_http(f->f, &e);
		o = next(f, fd);
		http = json_object_get(o, "http");
		expect_text(http, "method", heads[k].method);
		expect_text(http, "path", heads[k].path);
		expect_text(http, "host", heads[k].host);
		expect_text(o, "verdict", k % 2 ? "denied" : "allowed");
		expect_text(o, "reason", k % 2 ? "HTTP_DENIED" : "");
		expect_text(http, "reason", k % 2 ? "NO_MATCH" : NULL);
		expect_text(o, "policy", "shop/api");
		assert_int_equal(json_integer_value(json_object_get(o, "rule")), k % 2 ? 0 : 2);
		assert_int_equal(json_integer_value(json_object_get(http, "match")), k % 2 ? 0 : 9);
		json_decref(o);
	}
	/* Longer than what is shown, and than what the kernel sends; a set that is not known any more. */
	memset(longest, 'a', sizeof(longest));
	memcpy(longest, "GET /", 5);
	e = http_event(BN_EV_ALLOWED, "");
	memcpy(e.head, longest, sizeof(e.head));
	e.len = 60000;
	e.set = 6;
	bn_flows_feed_http(f->f, &e);
	o = next(f, fd);
	http = json_object_get(o, "http");
	assert_int_equal(json_string_length(json_object_get(http, "path")), 256 + 3);
	assert_true(json_is_null(json_object_get(o, "policy")));
	json_decref(o);
	close(fd);
}

static size_t count(struct fixture *f, int fd)
{
	size_t n = 0;
	json_t *o;

	while ((o = next(f, fd))) {
		json_decref(o);
		n++;
	}
	return n;
}

static void test_filters(void **state)
{
	static const struct {
		const char *args;
		size_t n;
	} rows[] = {
		{ "{\"follow\":false}", 4 },
		{ "{\"follow\":false,\"drop\":true}", 3 },
		{ "{\"follow\":false,\"pod\":\"shop/web\"}", 2 },
		{ "{\"follow\":false,\"pod\":\"shop/db\",\"drop\":true}", 1 },
		{ "{\"follow\":false,\"pod\":\"other/web\"}", 0 },
		{ "{\"follow\":false,\"last\":2}", 2 },
		{ "{\"follow\":false,\"last\":0}", 0 },
		{ "{\"follow\":false,\"last\":1,\"pod\":\"shop/web\"}", 1 },
	};
	struct fixture *f = *state;
	struct bn_event e;
	int fd;

	e = event(BN_EV_AUDIT, BN_DROP_POLICY_INGRESS, "10.0.0.1", "10.0.0.9");
	bn_flows_feed(f->f, &e);
	e = event(BN_EV_DROPPED, BN_DROP_SPOOFED, "10.0.0.8", "10.0.0.1");
	bn_flows_feed(f->f, &e);
	e = event(BN_EV_DENIED, BN_DROP_POLICY_INGRESS, "10.0.0.8", "10.0.0.9");
	e.slot = 7;
	bn_flows_feed(f->f, &e);
	e = event(BN_EV_DROPPED, BN_DROP_CT_FULL, "10.0.0.8", "10.0.0.9");
	bn_flows_feed(f->f, &e);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fd = subscribe(f, rows[i].args);
		expect_started(f, fd);
		assert_int_equal(count(f, fd), rows[i].n);
		assert_int_equal(recv(fd, (char[1]){ 0 }, 1, 0), 0); /* ended */
		close(fd);
	}
	/* followers get only what they asked for */
	fd = subscribe(f, "{\"last\":0,\"drop\":true,\"pod\":\"shop/web\"}");
	expect_started(f, fd);
	e = event(BN_EV_DROPPED, BN_DROP_SPOOFED, "10.0.0.8", "10.0.0.9");
	bn_flows_feed(f->f, &e);
	e = event(BN_EV_AUDIT, BN_DROP_POLICY_INGRESS, "10.0.0.1", "10.0.0.9");
	bn_flows_feed(f->f, &e);
	e = event(BN_EV_DROPPED, BN_DROP_SPOOFED, "10.0.0.1", "10.0.0.9");
	bn_flows_feed(f->f, &e);
	assert_int_equal(count(f, fd), 1);
	assert_int_equal(followed_now, 0); /* what is denied comes anyway */
	int all = subscribe(f, "{\"last\":0}");

	assert_int_equal(followed_now, 1);
	close(all);
	turn(f, 20);
	assert_int_equal(followed_now, 0);
	close(fd);
	fd = subscribe(f, "{\"last\":-1}");
	json_t *o = next(f, fd);
	assert_true(json_is_false(json_object_get(o, "ok")));
	json_decref(o);
	close(fd);
}

/* Requests that are allowed are many: what was denied is remembered beside them, in order. */
static void test_requests_memory(void **state)
{
	struct bn_http_event ok = http_event(BN_EV_ALLOWED, "GET / HTTP/1.1\r\n");
	struct bn_http_event denied = http_event(BN_EV_DENIED, "PUT / HTTP/1.1\r\n");
	struct fixture *f = *state;
	size_t n = 0, n_denied = 0;
	int fd, last = -1;
	json_t *o;

	for (int i = 0; i < 3000; i++) {
		struct bn_http_event *e = i % 300 ? &ok : &denied;

		e->ev.len = (uint32_t)i;
		bn_flows_feed_http(f->f, e);
	}
	fd = subscribe(f, "{\"follow\":false}");
	expect_started(f, fd);
	while ((o = next(f, fd))) {
		int len = (int)json_integer_value(json_object_get(o, "length"));

		assert_true(len > last);
		last = len;
		n_denied += !strcmp(json_string_value(json_object_get(o, "verdict")), "denied");
		n++;
		json_decref(o);
	}
	assert_int_equal(n_denied, 10);
	assert_int_equal(n, 10 + BN_FLOWS_KEEP_OK);
	close(fd);
	fd = subscribe(f, "{\"follow\":false,\"drop\":true,\"last\":4}");
	expect_started(f, fd);
	o = next(f, fd);
	assert_int_equal(json_integer_value(json_object_get(o, "length")), 1800);
	json_decref(o);
	assert_int_equal(count(f, fd), 3);
	close(fd);
}

static void test_memory(void **state)
{
	struct fixture *f = *state;
	struct bn_event e = event(BN_EV_DENIED, BN_DROP_POLICY_INGRESS, "10.0.0.1", "10.0.0.2");
	json_t *o;
	int fd;

	for (int i = 0; i < BN_FLOWS_KEEP + 100; i++) {
		e.len = i;
		bn_flows_feed(f->f, &e);
	}
	fd = subscribe(f, "{}");
	expect_started(f, fd);
	for (int i = 100; i < BN_FLOWS_KEEP + 100; i++) { /* the last ones, oldest first */
		o = next(f, fd);
		assert_int_equal(json_integer_value(json_object_get(o, "length")), i);
		json_decref(o);
	}
	assert_null(next(f, fd));
	close(fd);
	fd = subscribe(f, "{\"last\":3,\"follow\":false}");
	expect_started(f, fd);
	o = next(f, fd);
	assert_int_equal(json_integer_value(json_object_get(o, "length")), BN_FLOWS_KEEP + 97);
	json_decref(o);
	close(fd);
}

/* What a slow subscriber missed is in the next line it gets. */
static void test_lost(void **state)
{
	struct fixture *f = *state;
	struct bn_event e = event(BN_EV_DENIED, BN_DROP_POLICY_INGRESS, "10.0.0.1", "10.0.0.2");
	int fd = subscribe(f, "{\"last\":0}");
	unsigned long got = 0, lost = 0;
	json_t *o;

	expect_started(f, fd);
	for (int i = 0; i < 20000; i++) {
		bn_flows_feed(f->f, &e);
		if (i % 1000 == 0)
			turn(f, 1);
	}
	while ((o = next(f, fd))) {
		got++;
		lost += json_integer_value(json_object_get(o, "lost"));
		json_decref(o);
	}
	assert_true(got < 20000);
	bn_flows_feed(f->f, &e);
	o = next(f, fd);
	lost += json_integer_value(json_object_get(o, "lost"));
	json_decref(o);
	assert_int_equal(got + 1 + lost, 20001);
	close(fd);
}

static void test_foreign_events(void **state)
{
	struct fixture *f = *state;
	struct bn_event e;

	for (unsigned i = 0; i < 256; i++) { /* numbers of a newer program */
		e = event(i, BN_DROP_SPOOFED, "10.0.0.1", "10.0.0.2");
		e.hook = 1000 + i;
		e.direction = i;
		bn_flows_feed(f->f, &e);
		e = event(BN_EV_DROPPED, i, "10.0.0.1", "10.0.0.2");
		e.proto = i;
		bn_flows_feed(f->f, &e);
	}
	int fd = subscribe(f, "{\"follow\":false}");

	expect_started(f, fd);
	assert_int_equal(count(f, fd), BN_EV__MAX + BN_DROP__MAX);
	close(fd);
}

static void test_metrics(void **state)
{
	struct fixture *f = *state;
	struct bn_event e = event(BN_EV_DENIED, BN_DROP_POLICY_INGRESS, "10.0.0.1", "10.0.0.2");
	struct evbuffer *b = evbuffer_new();

	e.suppressed = 5;
	bn_flows_feed(f->f, &e);
	bn_flows_feed(f->f, &e);
	assert_int_equal(bn_metrics_text(f->m, b), 0);
	evbuffer_add(b, "", 1);
	const char *text = (const char *)evbuffer_pullup(b, -1);
	assert_non_null(strstr(text, "\nbpfnet_flow_events_total{verdict=\"denied\","
				     "reason=\"POLICY_INGRESS\"} 2\n"));
	assert_non_null(strstr(text, "\nbpfnet_flow_events_suppressed_total 10\n"));
	evbuffer_free(b);
}

/* The log goes before the socket: its subscribers are let go, not left hanging. */
static void test_end(void **state)
{
	struct fixture *f = *state;
	int fd = subscribe(f, "{}");

	expect_started(f, fd);
	bn_flows_freep(&f->f);
	assert_null(next(f, fd));
	assert_int_equal(recv(fd, (char[1]){ 0 }, 1, 0), 0);
	close(fd);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_objects), T(test_filters), T(test_memory),  T(test_lost),
		T(test_foreign_events), T(test_metrics), T(test_end),  T(test_requests), T(test_requests_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
