/* SPDX-License-Identifier: MIT */
/* The control socket: whatever a client sends, cut wherever (a byte 1 lets the loop run), every line of
 * the answer is an object that says "ok" or a line of a stream, every subscriber is let go exactly
 * once, and the next client is served.
 */
#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "loader/serve/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char *const bn_fuzz_words[];

const char *const bn_fuzz_words[] = {
	"\n", "\001", "{\"cmd\":\"echo\"}\n", "{\"cmd\":\"events\",\"args\":{\"n\":2}}\n",
	"{\"cmd\":\"big\",\"args\":{\"n\":2000}}\n", "\"args\":null", "\"cmd\":", "\\u0000", "\\ud800", NULL,
};

static struct event_base *base;
static struct bn_control *control;
static int open_streams;
static char dir[] = "/tmp/fuzz-control-XXXXXX";

static int echo(const json_t *args, struct bn_reply *r, _unused_ void *data)
{
	r->data = json_deep_copy(args);
	return 0;
}

static int fail(_unused_ const json_t *args, struct bn_reply *r, _unused_ void *data)
{
	return bn_reply_error(r, EIO, "failed");
}

static int big(const json_t *args, struct bn_reply *r, _unused_ void *data)
{
	json_int_t n = json_integer_value(json_object_get(args, "n"));

	r->data = json_array();
	for (json_int_t i = 0; i < n && i < 3000; i++)
		json_array_append_new(r->data, json_string("0123456789012345678901234567890123456789"
							   "0123456789012345678901234567890123456789"));
	return 0;
}

static void on_close(_unused_ void *data)
{
	open_streams--;
}

static int events(struct bn_control_stream *s, const json_t *args, struct bn_reply *r,
		  _unused_ void *data)
{
	json_int_t n = json_integer_value(json_object_get(args, "n"));
	json_t *o;

	if (json_object_get(args, "refuse"))
		return bn_reply_error(r, EPERM, "refused");
	bn_stream_on_close(s, on_close, NULL);
	open_streams++;
	o = json_pack("{si}", "event", 1);
	for (json_int_t i = 0; i < n && i < 100; i++)
		bn_stream_send(s, o);
	json_decref(o);
	if (json_is_true(json_object_get(args, "end")))
		bn_stream_end(s);
	return 0;
}

static void finish(void)
{
	bn_control_freep(&control);
	event_base_free(base);
	if (rmdir(dir) < 0)
		abort();
}

static void start(void)
{
	if (!mkdtemp(dir))
		abort();
	base = event_base_new();
	if (bn_control_new(base, dir, &control) < 0 || bn_control_handle(control, "echo", echo, NULL) < 0 ||
	    bn_control_handle(control, "fail", fail, NULL) < 0 ||
	    bn_control_handle(control, "big", big, NULL) < 0 ||
	    bn_control_handle_stream(control, "events", events, NULL) < 0)
		abort();
	atexit(finish);
}

static void check_line(const char *line, size_t len)
{
	json_t *o = json_loadb(line, len, 0, NULL);

	if (!json_is_object(o) ||
	    (!json_is_boolean(json_object_get(o, "ok")) && !json_object_get(o, "event")))
		abort();
	json_decref(o);
}

static char answer[1 << 22];
static size_t have;

/* Reads what is there and looks at whole lines; false when the server has closed. */
static bool receive(int fd)
{
	ssize_t k;
	char *nl;

	while ((k = recv(fd, answer + have, sizeof(answer) - have, MSG_DONTWAIT)) > 0) {
		have += k;
		while ((nl = memchr(answer, '\n', have))) {
			check_line(answer, nl - answer);
			have -= nl + 1 - answer;
			memmove(answer, nl + 1, have);
		}
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	return k < 0 && (errno == EAGAIN || errno == EINTR);
}

static int dial(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/control.sock", dir);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		abort();
	have = 0;
	return fd;
}

/* An honest client afterwards. */
static void probe(void)
{
	int fd = dial();

	if (send(fd, "{\"cmd\":\"echo\"}\n", 15, MSG_NOSIGNAL) != 15)
		abort();
	for (int i = 0; i < 4; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	if (recv(fd, answer, sizeof(answer), MSG_DONTWAIT) != 22 || memcmp(answer, "{\"ok\":true,\"data\":{}}\n", 22))
		abort();
	close(fd);
	for (int i = 0; i < 4; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool half = size && data[size - 1] % 2;
	int fd;

	if (!base)
		start();
	fd = dial();
	for (size_t i = 0, n; i < size; i += n + 1) {
		const uint8_t *cut = memchr(data + i, 1, size - i);

		n = cut ? (size_t)(cut - data) - i : size - i;
		if (n && send(fd, data + i, n, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != EAGAIN)
			abort();
		event_base_loop(base, EVLOOP_NONBLOCK);
		if (cut && !receive(fd))
			break;
	}
	if (half)
		shutdown(fd, SHUT_WR);
	for (int i = 0; i < 3; i++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		receive(fd);
	}
	close(fd);
	for (int i = 0; i < 4; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	if (open_streams)
		abort();
	probe();
	return 0;
}
