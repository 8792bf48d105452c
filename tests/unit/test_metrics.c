/* SPDX-License-Identifier: MIT */
/* The registry's text, judged byte by byte and by promtool; the HTTP server and the health answers
 * over real connections to ports that the kernel chose.
 */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "loader/serve/bind.h"
#include "loader/serve/health.h"
#include "loader/serve/http.h"
#include "loader/serve/kubeproxy.h"
#include "loader/serve/metrics.h"

static char *text_of(struct bn_metrics *m)
{
	struct evbuffer *b = evbuffer_new();
	size_t n;
	char *s;

	assert_int_equal(bn_metrics_text(m, b), 0);
	n = evbuffer_get_length(b);
	s = calloc(1, n + 1);
	evbuffer_remove(b, s, n);
	evbuffer_free(b);
	return s;
}

static void expect_text(struct bn_metrics *m, const char *want)
{
	char *got = text_of(m);

	assert_string_equal(got, want);
	free(got);
}

/* promtool finds nothing wrong but with the families named in allowed. */
static void promtool(struct bn_metrics *m, const char *allowed)
{
	char path[] = "/tmp/cli-metrics-XXXXXX", cmd[128], said[4096] = "";
	char *text = text_of(m);
	int fd = mkstemp(path);
	size_t n;
	FILE *p;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	snprintf(cmd, sizeof(cmd), "promtool check metrics <%s 2>&1", path);
	p = popen(cmd, "r");
	n = fread(said, 1, sizeof(said) - 1, p);
	said[n] = '\0';
	n = pclose(p);
	unlink(path);
	free(text);
	/* A line begins with the name of the family that it complains about. */
	for (char *save = NULL, *l = strtok_r(said, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		l[strcspn(l, " ")] = '\0';
		if (!strstr(allowed, l))
			fail_msg("promtool complains about %s", l);
	}
	if (!*allowed)
		assert_int_equal(n, 0);
}

static void test_text(_unused_ void **state)
{
	_cleanup_(bn_metrics_freep) struct bn_metrics *m = NULL;
	const double bounds[] = { 0.25, 1, 2.5 };
	struct bn_metric *c, *g, *h;

	assert_int_equal(bn_metrics_new(&m), 0);
	expect_text(m, "");
	c = bn_metrics_counter(m, "a_total", "Counts\nthings \\ \"quoted\".", "code,path");
	g = bn_metrics_gauge(m, "b", "A gauge.", "");
	h = bn_metrics_histogram(m, "h_seconds", "Times.", "op", bounds, 3);
	expect_text(m, ""); /* no series, no family */
	bn_metric_inc(c, "200", "/a\"b\\c\nd");
	bn_metric_inc(c, "200", "/a\"b\\c\nd");
	bn_metric_add(c, 0.5, "404", "\xc3\xa4");
	bn_metric_set(g, -1.5);
	bn_metric_observe(h, 0.25, "x"); /* the bound itself belongs to the bucket */
	bn_metric_observe(h, 0.26, "x");
	bn_metric_observe(h, 99, "x");
	bn_metric_observe(h, NAN, "x");
	expect_text(m,
		    "# HELP a_total Counts\\nthings \\\\ \"quoted\".\n"
		    "# TYPE a_total counter\n"
		    "a_total{code=\"200\",path=\"/a\\\"b\\\\c\\nd\"} 2\n"
		    "a_total{code=\"404\",path=\"\xc3\xa4\"} 0.5\n"
		    "# HELP b A gauge.\n# TYPE b gauge\nb -1.5\n"
		    "# HELP h_seconds Times.\n# TYPE h_seconds histogram\n"
		    "h_seconds_bucket{op=\"x\",le=\"0.25\"} 1\n"
		    "h_seconds_bucket{op=\"x\",le=\"1\"} 2\n"
		    "h_seconds_bucket{op=\"x\",le=\"2.5\"} 2\n"
		    "h_seconds_bucket{op=\"x\",le=\"+Inf\"} 3\n"
		    "h_seconds_sum{op=\"x\"} 99.510000000000005\n"
		    "h_seconds_count{op=\"x\"} 3\n");
	promtool(m, "");
	/* the same name again is the same family; with another type it is nobody's */
	assert_ptr_equal(bn_metrics_gauge(m, "b", "other", ""), g);
	assert_null(bn_metrics_counter(m, "b", "other", ""));
	bn_metric_clear(c);
	bn_metric_clear(h);
	expect_text(m, "# HELP b A gauge.\n# TYPE b gauge\nb -1.5\n");
}

static void test_values(_unused_ void **state)
{
	static const struct {
		double v;
		const char *text;
	} rows[] = {
		{ 0, "g 0\n" }, { 1e14, "g 100000000000000\n" }, { 12345678901, "g 12345678901\n" },
		{ INFINITY, "g +Inf\n" }, { -INFINITY, "g -Inf\n" }, { NAN, "g NaN\n" },
		{ 0.1, "g 0.10000000000000001\n" }, { 1e300, "g 1.0000000000000001e+300\n" },
		{ 1795411970.5, "g 1795411970.5\n" },
	};
	_cleanup_(bn_metrics_freep) struct bn_metrics *m = NULL;
	struct bn_metric *g;

	assert_int_equal(bn_metrics_new(&m), 0);
	g = bn_metrics_gauge(m, "g", "G.", "");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *got;

		bn_metric_set(g, rows[i].v);
		got = text_of(m);
		assert_string_equal(strrchr(got, 'g'), rows[i].text);
		free(got);
	}
}

static void test_refused(_unused_ void **state)
{
	static const char *const names[] = { "", "1a", "a-b", "a b", "a\n" };
	static const char *const labels[] = { "a:b", "1a", "a,b,c,d,e,f,g,h,i,j,k,l,m", "a b" };
	_cleanup_(bn_metrics_freep) struct bn_metrics *m = NULL;
	struct bn_metric *g;
	char value[16];

	assert_int_equal(bn_metrics_new(&m), 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_null(bn_metrics_gauge(m, names[i], "x", ""));
	for (size_t i = 0; i < ARRAY_SIZE(labels); i++)
		assert_null(bn_metrics_gauge(m, "ok", "x", labels[i]));
	bn_metric_set(NULL, 1);
	bn_metric_inc(NULL, "a");
	/* too few and too many label values: nothing happens */
	g = bn_metrics_gauge(m, "g", "x", "a");
	bn_metric_set(g, 1);
	bn_metric_set(g, 1, "a", "b");
	expect_text(m, "");
	/* a flood of label values is cut */
	for (int i = 0; i < BN_METRIC_MAX_SERIES + 100; i++) {
		snprintf(value, sizeof(value), "%d", i);
		bn_metric_set(g, i, value);
	}
	char *got = text_of(m);
	size_t lines = 0;

	for (const char *p = got; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, BN_METRIC_MAX_SERIES + 2);
	free(got);
}

static void collect(void *data)
{
	bn_metric_inc(data);
}

/* The order of first registration is the order of the text; collectors run at each one. */
static void test_collectors(_unused_ void **state)
{
	_cleanup_(bn_metrics_freep) struct bn_metrics *m = NULL;
	struct bn_metric *c;

	assert_int_equal(bn_metrics_new(&m), 0);
	c = bn_metrics_counter(m, "scrapes_total", "Scrapes.", "");
	assert_int_equal(bn_metrics_collect(m, collect, c), 0);
	expect_text(m, "# HELP scrapes_total Scrapes.\n# TYPE scrapes_total counter\nscrapes_total 1\n");
	expect_text(m, "# HELP scrapes_total Scrapes.\n# TYPE scrapes_total counter\nscrapes_total 2\n");
}

static void test_process(_unused_ void **state)
{
	_cleanup_(bn_metrics_freep) struct bn_metrics *m = NULL;
	const char *p;
	char *got;

	assert_int_equal(bn_metrics_new(&m), 0);
	assert_int_equal(bn_metrics_process(m), 0);
	got = text_of(m);
	p = strstr(got, "\nprocess_start_time_seconds ");
	assert_non_null(p);
	assert_in_range(strtod(p + 28, NULL), time(NULL) - 600, time(NULL));
	p = strstr(got, "\nprocess_resident_memory_bytes ");
	assert_non_null(p);
	assert_true(strtod(p + 31, NULL) > 100000);
	p = strstr(got, "\nprocess_open_fds ");
	assert_in_range(strtod(p + 18, NULL), 3, 1000);
	assert_non_null(strstr(got, "\nprocess_cpu_seconds_total "));
	assert_non_null(strstr(got, "\nprocess_virtual_memory_bytes "));
	assert_non_null(strstr(got, "\nprocess_max_fds "));
	free(got);
	promtool(m, "");
}

/* Names, labels and buckets of SEMANTICS 5, written down a second time. */
static void test_kube_proxy(_unused_ void **state)
{
	static const char *const lines[] = {
		"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.001\"} 0\n",
		"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv6\",le=\"16.384\"} 0\n",
		"kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 0\n",
		"kubeproxy_sync_partial_proxy_rules_duration_seconds_sum{ip_family=\"IPv6\"} 0\n",
		"kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.25\"} 0\n",
		"kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.5\"} 0\n",
		"kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"59\"} 0\n",
		"kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"115\"} 0\n",
		"kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"300\"} 0\n",
		"kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family=\"IPv4\"} 0\n",
		"# TYPE kubeproxy_sync_proxy_rules_last_timestamp_seconds gauge\n",
		"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 0\n",
		"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv6\"} 0\n",
		"\nkubeproxy_sync_proxy_rules_endpoint_changes_pending 0\n",
		"\nkubeproxy_sync_proxy_rules_service_changes_pending 0\n",
		"# TYPE kubeproxy_sync_proxy_rules_endpoint_changes_total counter\n",
		"\nkubeproxy_sync_proxy_rules_endpoint_changes_total 0\n",
		"\nkubeproxy_sync_proxy_rules_service_changes_total 0\n",
		"kubeproxy_sync_proxy_rules_iptables_total{ip_family=\"IPv4\",table=\"nat\"} 0\n",
		"kubeproxy_sync_proxy_rules_iptables_last{ip_family=\"IPv6\",table=\"filter\"} 0\n",
		"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\","
		"traffic_policy=\"internal\"} 0\n",
		"kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=\"IPv4\"} 0\n",
		"kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family=\"IPv4\"} 0\n",
		"kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 0\n",
		"kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family=\"IPv4\"} 0\n",
		"kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv6\"} 0\n",
		"\nkubeproxy_iptables_ct_state_invalid_dropped_packets_total 0\n",
		"\nkubeproxy_iptables_localhost_nodeports_accepted_packets_total 0\n",
	};
	_cleanup_(bn_metrics_freep) struct bn_metrics *m = NULL;
	char *got, *p, *end;
	size_t n = 0;

	assert_int_equal(bn_metrics_new(&m), 0);
	assert_int_equal(bn_kubeproxy_metrics(m), 0);
	got = text_of(m);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		if (!strstr(got, lines[i]))
			fail_msg("missing: %s", lines[i]);
	for (p = got; (p = strstr(p, "kubeproxy_network_programming_duration_seconds_bucket{ip_family="
				     "\"IPv6\""));
	     p++)
		n++;
	assert_int_equal(n, 2 + 59 + 12 + 7 + 1);
	/* HELP and TYPE once for each family, before its series */
	for (p = got; (p = strstr(p, "# TYPE ")); p = end) {
		char name[128];

		sscanf(p, "# TYPE %127s", name);
		end = p + 7;
		snprintf(name + strlen(name), 2, " ");
		assert_null(strstr(end + strlen(name), name[0] ? "# TYPE # " : name));
	}
	free(got);
	/* promtool wants no _total on gauges: kube-proxy's own names have it */
	promtool(m, "kubeproxy_sync_proxy_rules_no_local_endpoints_total "
		    "kubeproxy_sync_proxy_rules_iptables_total");
}

/* --- HTTP --------------------------------------------------------------------------------------- */

static void answer(const char *path, struct bn_httpd_response *r, void *data)
{
	int *calls = data;

	++*calls;
	if (!strcmp(path, "/big")) {
		for (int i = 0; i < 100000; i++)
			evbuffer_add_printf(r->body, "0123456789");
		return;
	}
	if (!strcmp(path, "/none")) {
		r->code = 404;
		r->headers = "X-A: b\r\n";
	}
	evbuffer_add_printf(r->body, "%s", path);
}

static void turn(struct event_base *base, int ms)
{
	struct timeval tv = { .tv_usec = ms * 1000 };

	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
}

static int dial(unsigned port, bool v6)
{
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6, .sin6_port = htons(port),
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in s4 = { .sin_family = AF_INET, .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = v6 ? connect(fd, (struct sockaddr *)&s6, sizeof(s6)) :
		     connect(fd, (struct sockaddr *)&s4, sizeof(s4));

	if (r < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Everything the server says until it ends; the loop runs meanwhile. */
static char *fetch(struct event_base *base, int fd, const char *request)
{
	char *buf = calloc(1, 2 << 20);
	size_t n = 0;
	ssize_t k;

	assert_true(fd >= 0);
	if (request)
		assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	for (int i = 0; i < 5000; i++) {
		k = recv(fd, buf + n, (2 << 20) - 1 - n, MSG_DONTWAIT);
		if (k > 0) {
			n += k;
			i = 0;
		} else if (k == 0 || (errno != EAGAIN && errno != EINTR)) {
			break;
		}
		turn(base, 1);
		assert_true(i < 4999);
	}
	close(fd);
	return buf;
}

static void expect_reply(struct event_base *base, int fd, const char *request, const char *want)
{
	char *got = fetch(base, fd, request);

	assert_string_equal(got, want);
	free(got);
}

#define HEAD(code, len)                                                                            \
	"HTTP/1.1 " code "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " len     \
	"\r\nConnection: close\r\n"

static void test_http(_unused_ void **state)
{
	static const struct {
		const char *request, *reply;
	} rows[] = {
		{ "GET /a?x=1#y HTTP/1.1\r\nHost: h\r\n\r\n", HEAD("200 OK", "2") "\r\n/a" },
		{ "GET /a HTTP/1.0\r\n\r\n", HEAD("200 OK", "2") "\r\n/a" },
		{ "GET /a HTTP/1.1\n\n", HEAD("200 OK", "2") "\r\n/a" },
		{ "HEAD /a HTTP/1.1\r\n\r\n", HEAD("200 OK", "2") "\r\n" },
		{ "GET http://x:1/a HTTP/1.1\r\n\r\n", HEAD("200 OK", "2") "\r\n/a" },
		{ "GET http://x HTTP/1.1\r\n\r\n", HEAD("200 OK", "1") "\r\n/" },
		{ "GET /none HTTP/1.1\r\n\r\n", HEAD("404 Not Found", "5") "X-A: b\r\n\r\n/none" },
		{ "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
		  HEAD("405 Method Not Allowed", "23") "Allow: GET, HEAD\r\n\r\n405 Method Not Allowed\n" },
		{ "GET\r\n\r\n", HEAD("400 Bad Request", "16") "\r\n400 Bad Request\n" },
		{ "GET a HTTP/1.1\r\n\r\n", HEAD("400 Bad Request", "16") "\r\n400 Bad Request\n" },
		{ "GET /a HTTP/1.1 x\r\n\r\n", HEAD("400 Bad Request", "16") "\r\n400 Bad Request\n" },
		{ "GET /a HTTP/2.0\r\n\r\n", HEAD("400 Bad Request", "16") "\r\n400 Bad Request\n" },
		{ "\r\n\r\n", HEAD("400 Bad Request", "16") "\r\n400 Bad Request\n" },
		{ "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n", HEAD("200 OK", "2") "\r\n/a" },
	};
	_cleanup_(bn_httpd_freep) struct bn_httpd *h = NULL;
	struct event_base *base = event_base_new();
	int calls = 0;
	char *got, huge[BN_HTTP_MAX_HEAD + 2];

	assert_int_equal(bn_httpd_new(base, "127.0.0.1:0", "test", answer, &calls, &h), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		expect_reply(base, dial(bn_httpd_port(h), false), rows[i].request, rows[i].reply);
	got = fetch(base, dial(bn_httpd_port(h), false), "GET /big HTTP/1.1\r\n\r\n");
	assert_int_equal(strlen(strstr(got, "\r\n\r\n") + 4), 1000000);
	free(got);
	memset(huge, 'x', sizeof(huge));
	huge[sizeof(huge) - 1] = '\0';
	expect_reply(base, dial(bn_httpd_port(h), false), huge,
		     HEAD("431 Request Header Fields Too Large", "36")
		     "\r\n431 Request Header Fields Too Large\n");
	assert_int_equal(dial(bn_httpd_port(h), true), -1); /* 127.0.0.1 only */
	bn_httpd_freep(&h);
	event_base_free(base);
}

static void test_http_limits(_unused_ void **state)
{
	_cleanup_(bn_httpd_freep) struct bn_httpd *h = NULL;
	struct event_base *base = event_base_new();
	int calls = 0, fds[BN_HTTP_MAX_CLIENTS];
	char *got;

	assert_int_equal(bn_httpd_new(base, "[::1]:0", "test", answer, &calls, &h), 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial(bn_httpd_port(h), true);
		turn(base, 1);
	}
	got = fetch(base, dial(bn_httpd_port(h), true), NULL); /* closed at once */
	assert_string_equal(got, "");
	free(got);
	close(fds[0]);
	turn(base, 10);
	expect_reply(base, dial(bn_httpd_port(h), true), "GET /a HTTP/1.1\r\n\r\n",
		     HEAD("200 OK", "2") "\r\n/a");
	for (size_t i = 1; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	bn_httpd_freep(&h);
	event_base_free(base);
}

static void test_bind(_unused_ void **state)
{
	static const char *const good[] = { "0.0.0.0:0", "[::]:0", ":0" };
	static const char *const bad[] = { "", "1", "127.0.0.1", "::1:80", "[::1:80", "127.0.0.1:65536",
					   "127.0.0.1:x", "host:80", "127.0.0.1:", "[1.2.3.4]:80",
					   "127.0.0.1:-1" };
	struct event_base *base = event_base_new();
	struct bn_httpd *h = NULL, *taken = NULL;
	struct bn_bind_addr a;
	int calls = 0;
	char text[32];

	/* the wildcard of either family is both */
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(bn_httpd_new(base, good[i], "test", answer, &calls, &h), 0);
		for (int v6 = 0; v6 < 2; v6++)
			expect_reply(base, dial(bn_httpd_port(h), v6), "GET /a HTTP/1.1\r\n\r\n",
				     HEAD("200 OK", "2") "\r\n/a");
		bn_httpd_freep(&h);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(bn_bind_parse(bad[i], &a), -EINVAL);
	assert_int_equal(bn_bind_parse("localhost:80", &a), 0);
	assert_int_equal(bn_httpd_new(base, "nonsense", "test", answer, &calls, &h), -EINVAL);
	assert_int_equal(bn_httpd_new(base, "", "test", answer, &calls, &h), 0);
	assert_null(h);
	assert_int_equal(bn_httpd_new(base, "0", "test", answer, &calls, &h), 0);
	assert_null(h);
	/* a port that is taken is no error: it is tried again */
	assert_int_equal(bn_httpd_new(base, "127.0.0.1:0", "test", answer, &calls, &taken), 0);
	snprintf(text, sizeof(text), "127.0.0.1:%u", bn_httpd_port(taken));
	assert_int_equal(bn_httpd_new(base, text, "second", answer, &calls, &h), 0);
	assert_int_equal(bn_httpd_port(h), 0);
	bn_httpd_freep(&taken);
	for (int i = 0; i < BN_HTTP_RETRY_S * 100 + 300 && !bn_httpd_port(h); i++)
		turn(base, 10);
	assert_int_not_equal(bn_httpd_port(h), 0);
	bn_httpd_freep(&h);
	event_base_free(base);
}

/* --- health ------------------------------------------------------------------------------------- */

static void get_health(struct event_base *base, struct bn_health *h, const char *path, const char *code,
		       bool same, const char *tail)
{
	char request[64], last[128] = "", now[128] = "", rest[64] = "", *got, *body;

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n\r\n", path);
	got = fetch(base, dial(bn_health_port(h), false), request);
	assert_memory_equal(got, "HTTP/1.1 ", 9);
	assert_memory_equal(got + 9, code, 3);
	assert_non_null(strstr(got, "\r\nContent-Type: application/json\r\n"));
	assert_non_null(strstr(got, "\r\nX-Content-Type-Options: nosniff\r\n"));
	body = strstr(got, "\r\n\r\n") + 4;
	assert_int_equal(sscanf(body, "{\"lastUpdated\": \"%127[^\"]\",\"currentTime\": \"%127[^\"]\"%63[^\n]",
				last, now, rest), 3);
	assert_string_equal(rest, tail);
	if (same)
		assert_string_equal(last, now);
	else
		assert_string_not_equal(last, now);
	assert_non_null(strstr(now, " +0000 UTC m=+"));
	free(got);
}

static void test_health(_unused_ void **state)
{
	_cleanup_(bn_metrics_freep) struct bn_metrics *m = NULL;
	_cleanup_(bn_health_freep) struct bn_health *h = NULL;
	struct event_base *base = event_base_new();

	assert_int_equal(bn_metrics_new(&m), 0);
	assert_int_equal(bn_health_new(base, "127.0.0.1:0", m, &h), 0);
	/* starting up is healthy */
	get_health(base, h, "/healthz", "200", true, ", \"nodeEligible\": true}");
	get_health(base, h, "/livez", "200", true, "}");
	/* a change that is young, then too old, then in force */
	bn_health_set_timeout_ms(h, 60000);
	bn_health_queued(h);
	get_health(base, h, "/healthz", "200", true, ", \"nodeEligible\": true}");
	assert_true(bn_health_ok(h));
	bn_health_set_timeout_ms(h, 30);
	usleep(50000);
	bn_health_queued(h); /* a later one does not make the oldest younger */
	assert_false(bn_health_ok(h));
	char *got = fetch(base, dial(bn_health_port(h), false), "GET /livez HTTP/1.1\r\n\r\n");
	assert_non_null(strstr(got, "503 Service Unavailable"));
	assert_non_null(strstr(got, "{\"lastUpdated\": \"0001-01-01 00:00:00 +0000 UTC\","));
	free(got);
	get_health(base, h, "/healthz", "503", false, ", \"nodeEligible\": true}");
	bn_health_updated(h);
	get_health(base, h, "/livez", "200", true, "}");
	/* a node that is going: /healthz only */
	bn_health_set_node_eligible(h, false);
	get_health(base, h, "/healthz", "503", false, ", \"nodeEligible\": false}");
	get_health(base, h, "/livez", "200", true, "}");
	bn_health_set_node_eligible(h, true);
	get_health(base, h, "/healthz", "200", true, ", \"nodeEligible\": true}");
	got = fetch(base, dial(bn_health_port(h), false), "GET / HTTP/1.1\r\n\r\n");
	assert_non_null(strstr(got, " 404 Not Found\r\n"));
	free(got);
	expect_text(m, "# HELP kubeproxy_proxy_healthz_total Cumulative proxy healthz HTTP status\n"
		       "# TYPE kubeproxy_proxy_healthz_total counter\n"
		       "kubeproxy_proxy_healthz_total{code=\"200\"} 3\n"
		       "kubeproxy_proxy_healthz_total{code=\"503\"} 2\n"
		       "# HELP kubeproxy_proxy_livez_total Cumulative proxy livez HTTP status\n"
		       "# TYPE kubeproxy_proxy_livez_total counter\n"
		       "kubeproxy_proxy_livez_total{code=\"200\"} 3\n"
		       "kubeproxy_proxy_livez_total{code=\"503\"} 1\n");
	bn_health_freep(&h);
	event_base_free(base);
}

static void test_go_time(_unused_ void **state)
{
	static const struct {
		long long sec;
		long nsec;
		long long mono;
		const char *text;
	} rows[] = {
		{ 0, 0, -1, "1970-01-01 00:00:00 +0000 UTC" },
		{ 1795402130, 100000000, 1500000000, "2026-11-23 02:48:50.1 +0000 UTC m=+1.500000000" },
		{ 1795402130, 1, 1, "2026-11-23 02:48:50.000000001 +0000 UTC m=+0.000000001" },
		{ 1795402130, 999999999, 0, "2026-11-23 02:48:50.999999999 +0000 UTC m=+0.000000000" },
		{ 5, -1, 3, "0001-01-01 00:00:00 +0000 UTC" },
	};
	char buf[96];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(bn_go_time(buf, sizeof(buf), rows[i].sec, rows[i].nsec, rows[i].mono),
				    rows[i].text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text), cmocka_unit_test(test_values),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_collectors),
		cmocka_unit_test(test_process), cmocka_unit_test(test_kube_proxy),
		cmocka_unit_test(test_http), cmocka_unit_test(test_http_limits),
		cmocka_unit_test(test_bind), cmocka_unit_test(test_health),
		cmocka_unit_test(test_go_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
