/* SPDX-License-Identifier: MIT */
/* The control socket against clients of every kind, in one process: the loop runs between steps. */
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "cli/control_client.h"
#include "loader/serve/control.h"

struct fixture {
	struct event_base *base;
	struct bn_control *c;
	char dir[64];
	struct bn_control_stream *stream;
	int closed;
};

static int echo(const json_t *args, struct bn_reply *r, _unused_ void *data)
{
	r->data = json_deep_copy(args);
	return 0;
}

static int refuse(_unused_ const json_t *args, struct bn_reply *r, _unused_ void *data)
{
	return bn_reply_error(r, ENOENT, "no %s like that", "thing");
}

static int fail_silently(_unused_ const json_t *args, _unused_ struct bn_reply *r, _unused_ void *data)
{
	return -ENOMEM;
}

/* n objects of about 100 bytes: more than is ever queued at once. */
static int big(const json_t *args, struct bn_reply *r, _unused_ void *data)
{
	json_int_t n = json_integer_value(json_object_get(args, "n"));

	r->data = json_array();
	for (json_int_t i = 0; i < n; i++)
		json_array_append_new(r->data,
				      json_pack("{sI ss}", "i", i, "pad",
						"0123456789012345678901234567890123456789"
						"0123456789012345678901234567890123456789"));
	return 0;
}

static void on_close(void *data)
{
	struct fixture *f = data;

	f->closed++;
	f->stream = NULL;
}

static int subscribe(struct bn_control_stream *s, const json_t *args, struct bn_reply *r, void *data)
{
	struct fixture *f = data;

	if (json_object_get(args, "refuse"))
		return bn_reply_error(r, EPERM, "refused");
	f->stream = s;
	bn_stream_on_close(s, on_close, f);
	return 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/cli-control-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->base = event_base_new();
	assert_int_equal(bn_control_new(f->base, f->dir, &f->c), 0);
	assert_int_equal(bn_control_handle(f->c, "echo", echo, f), 0);
	assert_int_equal(bn_control_handle(f->c, "fail", refuse, f), 0);
	assert_int_equal(bn_control_handle(f->c, "silent", fail_silently, f), 0);
	assert_int_equal(bn_control_handle(f->c, "big", big, f), 0);
	assert_int_equal(bn_control_handle_stream(f->c, "events", subscribe, f), 0);
	assert_int_equal(bn_control_handle(f->c, "echo", echo, f), -EEXIST);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char path[128];

	bn_control_freep(&f->c);
	event_base_free(f->base);
	snprintf(path, sizeof(path), "%s/control.sock", f->dir);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(rmdir(f->dir), 0); /* nothing else was left */
	free(f);
	return 0;
}

static void turn(struct fixture *f, int ms)
{
	struct timeval tv = { .tv_usec = ms * 1000 };

	event_base_loopexit(f->base, &tv);
	event_base_dispatch(f->base);
}

static int dial(struct fixture *f)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/control.sock", f->dir);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void put(int fd, const char *s)
{
	assert_int_equal(send(fd, s, strlen(s), MSG_NOSIGNAL), strlen(s));
}

/* Everything up to and with a newline, running the loop meanwhile; NULL: the connection ended. */
static char *line(struct fixture *f, int fd)
{
	size_t n = 0, room = 256;
	char *buf = malloc(room);

	for (int i = 0; i < 400000; i++) {
		ssize_t k;

		if (n + 1 >= room)
			buf = realloc(buf, room *= 2);
		k = recv(fd, buf + n, 1, 0);
		if (k == 1 && buf[n] == '\n') {
			buf[n] = '\0';
			return buf;
		}
		if (k == 1) {
			n++;
			i = 0;
			continue;
		}
		if (k == 0)
			break;
		assert_int_equal(errno, EAGAIN);
		turn(f, 1);
		assert_true(i < 2000);
	}
	free(buf);
	return NULL;
}

static void expect(struct fixture *f, int fd, const char *want)
{
	char *got = line(f, fd);

	assert_non_null(got);
	assert_string_equal(got, want);
	free(got);
}

static void expect_closed(struct fixture *f, int fd)
{
	assert_null(line(f, fd));
	close(fd);
}

static void test_requests(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	put(fd, "{\"cmd\":\"echo\",\"args\":{\"a\":[1,\"\xc3\xa4\"]}}\n");
	expect(f, fd, "{\"ok\":true,\"data\":{\"a\":[1,\"\xc3\xa4\"]}}");
	/* the same connection again, in pieces, with CR LF, args null and missing */
	put(fd, "{\"cmd\":\"ec");
	turn(f, 5);
	put(fd, "ho\",\"args\":null}\r\n");
	expect(f, fd, "{\"ok\":true,\"data\":{}}");
	put(fd, "{\"cmd\":\"echo\"}\n{\"cmd\":\"echo\",\"args\":{\"second\":1}}\n");
	expect(f, fd, "{\"ok\":true,\"data\":{}}");
	expect(f, fd, "{\"ok\":true,\"data\":{\"second\":1}}");
	close(fd);
}

static void test_errors(void **state)
{
	static const struct {
		const char *request, *reply;
	} rows[] = {
		{ "{\"cmd\":\"fail\"}\n", "{\"ok\":false,\"error\":\"no thing like that\",\"errno\":2}" },
		{ "{\"cmd\":\"silent\"}\n",
		  "{\"ok\":false,\"error\":\"Cannot allocate memory\",\"errno\":12}" },
		{ "{\"cmd\":\"nosuch\"}\n",
		  "{\"ok\":false,\"error\":\"unknown command 'nosuch'\",\"errno\":95}" },
		{ "[]\n", "{\"ok\":false,\"error\":\"a request is "
			  "{\\\"cmd\\\":\\\"...\\\",\\\"args\\\":{...}}\",\"errno\":22}" },
		{ "{\"cmd\":\"echo\",\"args\":[]}\n",
		  "{\"ok\":false,\"error\":\"a request is "
		  "{\\\"cmd\\\":\\\"...\\\",\\\"args\\\":{...}}\",\"errno\":22}" },
		{ "{\"cmd\":7}\n", "{\"ok\":false,\"error\":\"a request is "
				   "{\\\"cmd\\\":\\\"...\\\",\\\"args\\\":{...}}\",\"errno\":22}" },
		{ "{\"cmd\":\"events\",\"args\":{\"refuse\":1}}\n",
		  "{\"ok\":false,\"error\":\"refused\",\"errno\":1}" },
	};
	struct fixture *f = *state;
	int fd = dial(f);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		put(fd, rows[i].request);
		expect(f, fd, rows[i].reply);
	}
	close(fd);
}

static void test_garbage(void **state)
{
	static const char *const rows[] = { "\n", "{\n", "\xff\xfe\n", "{\"cmd\":\"\xff\"}\n",
					    "{\"cmd\":\"echo\",\"cmd\":\"echo\"}\n", "GET / HTTP/1.1\r\n" };
	struct fixture *f = *state;
	int fd = dial(f);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *got;

		put(fd, rows[i]);
		got = line(f, fd);
		assert_non_null(got);
		assert_non_null(strstr(got, "\"ok\":false"));
		free(got);
	}
	/* NUL bytes are no end of the line */
	assert_int_equal(send(fd, "{}\0{}\n", 6, MSG_NOSIGNAL), 6);
	char *got = line(f, fd);
	assert_non_null(strstr(got, "\"ok\":false"));
	free(got);
	/* nested deeply */
	char deep[20001];

	memset(deep, '[', 20000);
	deep[20000] = '\0';
	put(fd, deep);
	put(fd, "\n");
	got = line(f, fd);
	assert_non_null(strstr(got, "\"ok\":false"));
	free(got);
	close(fd);
}

static void test_request_too_long(void **state)
{
	struct fixture *f = *state;
	char junk[4096];
	int fd = dial(f);
	size_t sent = 0;

	memset(junk, 'x', sizeof(junk));
	for (int i = 0; i < 200; i++) {
		ssize_t k = send(fd, junk, sizeof(junk), MSG_NOSIGNAL);

		if (k > 0)
			sent += k;
		turn(f, 1);
	}
	/* Reading stopped at the limit: what the socket buffers hold is all that was taken. */
	assert_true(sent < 4 * 1024 * 1024);
	expect(f, fd, "{\"ok\":false,\"error\":\"request too long\",\"errno\":90}");
	expect_closed(f, fd);
}

static void test_half_close(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	put(fd, "{\"cmd\":\"echo\"}\n");
	shutdown(fd, SHUT_WR);
	expect(f, fd, "{\"ok\":true,\"data\":{}}");
	expect_closed(f, fd);
	/* a large reply after a half close comes whole */
	fd = dial(f);
	put(fd, "{\"cmd\":\"big\",\"args\":{\"n\":20000}}\n");
	shutdown(fd, SHUT_WR);
	char *got = line(f, fd);
	assert_non_null(got);
	json_t *o = json_loads(got, 0, NULL);
	assert_int_equal(json_array_size(json_object_get(o, "data")), 20000);
	json_decref(o);
	free(got);
	expect_closed(f, fd);
	/* half a request, then the end */
	fd = dial(f);
	put(fd, "{\"cmd\":");
	shutdown(fd, SHUT_WR);
	expect_closed(f, fd);
}

static void test_deadlines(void **state)
{
	struct fixture *f = *state;
	int idle, half, unread, stream;
	json_t *o = json_pack("{si}", "n", 3);

	bn_control_set_deadlines(f->c, 100, 200);
	idle = dial(f);
	half = dial(f);
	put(half, "{\"cmd\":");
	unread = dial(f); /* asks for more than the socket holds, and does not read it */
	put(unread, "{\"cmd\":\"big\",\"args\":{\"n\":50000}}\n");
	stream = dial(f);
	put(stream, "{\"cmd\":\"events\"}\n");
	for (int i = 0; i < 15; i++) {
		turn(f, 20);
		(void)!send(half, "x", 1, MSG_NOSIGNAL); /* dripping does not help */
	}
	expect_closed(f, idle);
	close(half);
	char *got = line(f, unread);
	assert_null(got); /* cut short */
	close(unread);
	/* a subscriber may wait for ever */
	expect(f, stream, "{\"ok\":true,\"stream\":true}");
	assert_int_equal(bn_stream_send(f->stream, o), 0);
	expect(f, stream, "{\"n\":3}");
	close(stream);
	json_decref(o);
}

static void test_empty_list(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	put(fd, "{\"cmd\":\"big\",\"args\":{\"n\":0}}\n");
	expect(f, fd, "{\"ok\":true,\"data\":[]}");
	close(fd);
}

/* A client that asks for much and reads nothing costs a bounded buffer, and nobody else's time. */
static void test_slow_reader(void **state)
{
	struct fixture *f = *state;
	int slow[8], fd;

	fd = dial(f);
	put(fd, "{\"cmd\":\"echo\"}\n");
	expect(f, fd, "{\"ok\":true,\"data\":{}}");
	for (size_t i = 0; i < ARRAY_SIZE(slow); i++) {
		slow[i] = dial(f);
		put(slow[i], "{\"cmd\":\"big\",\"args\":{\"n\":2000}}\n");
	}
	turn(f, 50);
	put(fd, "{\"cmd\":\"echo\"}\n");
	expect(f, fd, "{\"ok\":true,\"data\":{}}");
	close(slow[0]); /* goes away with most of its reply unread */
	turn(f, 5);
	for (size_t i = 1; i < ARRAY_SIZE(slow); i++) {
		char *got = line(f, slow[i]);
		json_t *o = json_loads(got, 0, NULL);

		assert_int_equal(json_array_size(json_object_get(o, "data")), 2000);
		json_decref(o);
		free(got);
		close(slow[i]);
	}
	close(fd);
}

static void test_too_many_clients(void **state)
{
	int fds[BN_CONTROL_MAX_CLIENTS], fd;
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = dial(f);
	turn(f, 20);
	fd = dial(f);
	expect(f, fd, "{\"ok\":false,\"error\":\"too many clients\",\"errno\":11}");
	expect_closed(f, fd);
	close(fds[0]);
	turn(f, 20);
	fd = dial(f);
	put(fd, "{\"cmd\":\"echo\"}\n");
	expect(f, fd, "{\"ok\":true,\"data\":{}}");
	close(fd);
	for (size_t i = 1; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

static void test_stream(void **state)
{
	struct fixture *f = *state;
	json_t *o = json_pack("{si}", "n", 1);
	int fd = dial(f);

	put(fd, "{\"cmd\":\"events\"}\n");
	expect(f, fd, "{\"ok\":true,\"stream\":true}");
	assert_non_null(f->stream);
	assert_int_equal(bn_stream_send(f->stream, o), 0);
	assert_int_equal(bn_stream_send(f->stream, o), 0);
	expect(f, fd, "{\"n\":1}");
	expect(f, fd, "{\"n\":1}");
	/* what a subscriber says is not read as a request */
	put(fd, "{\"cmd\":\"echo\"}\n");
	turn(f, 5);
	assert_int_equal(bn_stream_send(f->stream, o), 0);
	expect(f, fd, "{\"n\":1}");
	close(fd);
	turn(f, 5);
	assert_int_equal(f->closed, 1);
	assert_null(f->stream);
	/* ended by the server, with and without something queued */
	for (int queued = 0; queued < 2; queued++) {
		fd = dial(f);
		put(fd, "{\"cmd\":\"events\"}\n");
		expect(f, fd, "{\"ok\":true,\"stream\":true}");
		turn(f, 2);
		if (queued)
			bn_stream_send(f->stream, o);
		bn_stream_end(f->stream);
		if (queued)
			expect(f, fd, "{\"n\":1}");
		expect_closed(f, fd);
		assert_int_equal(f->closed, 2 + queued);
	}
	json_decref(o);
}

/* A subscriber that does not read loses lines and is told how many; the daemon's memory is bounded. */
static void test_slow_subscriber(void **state)
{
	struct fixture *f = *state;
	json_t *o = json_pack("{ss}", "pad", "01234567890123456789012345678901234567890123456789");
	unsigned long sent = 0, lost = 0, got = 0;
	int fd = dial(f);
	char *l;

	put(fd, "{\"cmd\":\"events\"}\n");
	expect(f, fd, "{\"ok\":true,\"stream\":true}");
	for (int i = 0; i < 100000; i++)
		sent += bn_stream_send(f->stream, o) == 0;
	turn(f, 5);
	assert_true(sent < 100000);
	lost = bn_stream_lost(f->stream);
	assert_int_equal(sent + lost, 100000);
	assert_int_equal(bn_stream_lost(f->stream), 0);
	bn_stream_end(f->stream);
	while ((l = line(f, fd))) {
		got++;
		free(l);
	}
	assert_int_equal(got, sent);
	close(fd);
	json_decref(o);
}

static void test_many_streams(void **state)
{
	int fds[BN_CONTROL_MAX_STREAMS], fd;
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial(f);
		put(fds[i], "{\"cmd\":\"events\"}\n");
		expect(f, fds[i], "{\"ok\":true,\"stream\":true}");
	}
	fd = dial(f);
	put(fd, "{\"cmd\":\"events\"}\n");
	expect(f, fd, "{\"ok\":false,\"error\":\"too many subscribers; end one of them first\",\"errno\":11}");
	put(fd, "{\"cmd\":\"echo\"}\n");
	expect(f, fd, "{\"ok\":true,\"data\":{}}");
	close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	turn(f, 10);
	assert_int_equal(f->closed, BN_CONTROL_MAX_STREAMS);
}

/* --- the client ------------------------------------------------------------------------------- */

static void *client_thread(void *data)
{
	struct fixture *f = data;
	json_t *o = NULL, *args = json_pack("{si}", "n", 50000);
	struct bn_client *c = NULL;
	char err[640] = "";

	assert_int_equal(bn_client_new(f->dir, &c, err, sizeof(err)), 0);
	assert_int_equal(bn_client_call(c, "big", args, &o, err, sizeof(err)), 0);
	assert_int_equal(json_array_size(o), 50000);
	json_decref(o);
	json_decref(args);
	assert_int_equal(bn_client_call(c, "fail", NULL, &o, err, sizeof(err)), -ESRCH);
	assert_string_equal(err, "no thing like that");
	assert_int_equal(bn_client_call(c, "silent", NULL, &o, err, sizeof(err)), -ENOMEM);
	assert_int_equal(bn_client_call(c, "events", NULL, &o, err, sizeof(err)), 0);
	json_decref(o);
	assert_int_equal(bn_client_next(c, &o, err, sizeof(err)), 1);
	assert_int_equal(json_integer_value(json_object_get(o, "n")), 7);
	json_decref(o);
	assert_int_equal(bn_client_next(c, &o, err, sizeof(err)), 0);
	bn_client_freep(&c);
	return NULL;
}

static void test_client(void **state)
{
	struct fixture *f = *state;
	json_t *o = json_pack("{si}", "n", 7);
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, client_thread, f), 0);
	for (int i = 0; i < 2000 && !f->stream; i++)
		turn(f, 5);
	assert_non_null(f->stream);
	bn_stream_send(f->stream, o);
	bn_stream_end(f->stream);
	for (int i = 0; i < 1000 && !f->closed; i++)
		turn(f, 5);
	assert_int_equal(pthread_join(t, NULL), 0);
	json_decref(o);
}

static void test_client_no_daemon(_unused_ void **state)
{
	struct bn_client *c = NULL;
	char dir[300], err[640];
	int r;

	r = bn_client_new("/nonexistent/run", &c, err, sizeof(err));
	assert_true(bn_client_down(r));
	assert_non_null(strstr(err, "no daemon listens at /nonexistent/run/control.sock"));
	memset(dir, 'y', 250);
	dir[250] = '\0';
	assert_int_equal(bn_client_new(dir, &c, err, sizeof(err)), -ENAMETOOLONG);
	assert_false(bn_client_down(-ENAMETOOLONG));
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_requests), T(test_errors), T(test_garbage), T(test_request_too_long),
		T(test_half_close), T(test_deadlines),
		T(test_empty_list), T(test_slow_reader),
		T(test_too_many_clients), T(test_stream), T(test_slow_subscriber),
		T(test_many_streams), T(test_client),
		cmocka_unit_test(test_client_no_daemon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
