/* SPDX-License-Identifier: MIT */
/* Servers and clients for the benchmark: as little work of their own as possible, latencies kept.
 *
 *	load serve PORT [NAME]                   TCP and UDP, both families; answers each request
 *	load tcp-new|udp-new|tcp-kept|bulk|packets ADDR PORT SECONDS [SIZE]
 *	load watch ADDR PORT SECONDS             who answers, a line with the time at each change
 *	load flows ADDR PORT COUNT [SIZE [FIRST]] one UDP exchange from each of COUNT ports, FIRST (1024) and up
 *
 * A TCP connection is closed by the server first, so that the client's ports are free again at once
 * and TIME_WAIT stays where it does not limit the rate. The client prints one JSON object. An
 * operation is a request with its answer; a byte that the server has read (bulk); a packet that the
 * server has read (packets: datagrams of one flow, WINDOW of them, then a question how many came).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define MAX_LAT 4000000
#define WINDOW	64

static uint32_t *lat; /* ns of each operation */
static size_t nlat;
static const char *name = "server";

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int listen_on(int type, uint16_t port)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(AF_INET6, type | SOCK_NONBLOCK, 0), on = 1;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (void *)&a, sizeof(a)) < 0)
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 1024) < 0)
		die("listen");
	return fd;
}

/* First byte of what comes: 'c' answer and close, 'k' answer and keep, 'b' read and say nothing. */
static void serve_conn(int ep, int fd)
{
	static char buf[1 << 18];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);

	if (n > 0 && buf[0] == 'b')
		return;
	if (n > 0 && send(fd, buf, n, MSG_NOSIGNAL) == n && buf[0] == 'k')
		return;
	epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL);
	close(fd);
}

/* 's' count and read on, 'q' tell the count since the last question, 'i' tell the name; else answer
 * the same.
 */
static void serve_udp(int udp)
{
	static uint64_t counted;
	static char buf[65536];
	struct sockaddr_in6 p;
	socklen_t l = sizeof(p);
	ssize_t r;

	for (;;) {
		r = recvfrom(udp, buf, sizeof(buf), 0, (void *)&p, &l);
		if (r <= 0)
			return;
		if (buf[0] == 's') {
			counted++;
			continue;
		}
		if (buf[0] == 'q') {
			r = snprintf(buf, sizeof(buf), "%llu", (unsigned long long)counted);
			counted = 0;
		} else if (buf[0] == 'i') {
			r = snprintf(buf, sizeof(buf), "%s", name);
		}
		sendto(udp, buf, r, 0, (void *)&p, l);
		return;
	}
}

static int serve(uint16_t port)
{
	int tcp = listen_on(SOCK_STREAM, port), udp = listen_on(SOCK_DGRAM, port);
	int ep = epoll_create1(0), on = 1;
	struct epoll_event e = { .events = EPOLLIN }, ev[64];

	e.data.fd = tcp;
	epoll_ctl(ep, EPOLL_CTL_ADD, tcp, &e);
	e.data.fd = udp;
	epoll_ctl(ep, EPOLL_CTL_ADD, udp, &e);
	for (;;) {
		int n = epoll_wait(ep, ev, 64, -1);

		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;

			if (fd == tcp) {
				int c = accept4(tcp, NULL, NULL, SOCK_NONBLOCK);

				if (c < 0)
					continue;
				setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
				e.data.fd = c;
				epoll_ctl(ep, EPOLL_CTL_ADD, c, &e);
			} else if (fd == udp) {
				serve_udp(udp);
			} else {
				serve_conn(ep, fd);
			}
		}
	}
	return 0;
}

static socklen_t address(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *a6 = (void *)ret;
	struct sockaddr_in *a4 = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &a4->sin_addr) == 1) {
		a4->sin_family = AF_INET;
		a4->sin_port = htons(port);
		return sizeof(*a4);
	}
	if (inet_pton(AF_INET6, text, &a6->sin6_addr) != 1) {
		errno = EINVAL;
		die(text);
	}
	a6->sin6_family = AF_INET6;
	a6->sin6_port = htons(port);
	return sizeof(*a6);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double pct(double p)
{
	return nlat ? lat[(size_t)(p * (nlat - 1))] / 1e9 : 0;
}

struct target {
	struct sockaddr_storage a;
	socklen_t len;
	size_t size;
	int kept; /* connection of tcp-kept */
};

static bool once(const char *mode, struct target *t, char *buf)
{
	bool tcp = mode[0] == 't', kept = !strcmp(mode, "tcp-kept");
	struct timeval tv = { 1, 0 };
	int on = 1, fd = t->kept;
	size_t got = 0;
	ssize_t n;

	if (fd < 0) {
		fd = socket(t->a.ss_family, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
		if (fd < 0)
			return false;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)); /* of connect, too */
		if (tcp)
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (connect(fd, (void *)&t->a, t->len) < 0) {
			close(fd);
			return false;
		}
		if (kept)
			t->kept = fd;
	}
	buf[0] = kept ? 'k' : 'c';
	if (send(fd, buf, t->size, MSG_NOSIGNAL) != (ssize_t)t->size)
		goto bad;
	while (got < t->size) {
		n = recv(fd, buf, 65536, 0);
		if (n <= 0)
			goto bad;
		got += n;
	}
	if (tcp && !kept && recv(fd, buf, 1, 0) != 0) /* the server closes first */
		goto bad;
	if (!kept)
		close(fd);
	return true;
bad:
	close(fd);
	t->kept = -1;
	return false;
}

/* One connection, as much as goes; what is counted has been read by the server, which then closes. */
static uint64_t bulk(struct target *t, char *buf, uint64_t end)
{
	int fd = socket(t->a.ss_family, SOCK_STREAM, 0);
	struct timeval tv = { 2, 0 };
	uint64_t sent = 0;
	ssize_t n = 0;

	if (fd < 0 || connect(fd, (void *)&t->a, t->len) < 0)
		die("connect");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	memset(buf, 'b', t->size);
	while (now_ns() < end && (n = send(fd, buf, t->size, MSG_NOSIGNAL)) > 0)
		sent += n;
	if (n <= 0 || shutdown(fd, SHUT_WR) < 0 || recv(fd, buf, 1, 0) != 0)
		sent = 0;
	close(fd);
	return sent;
}

/* WINDOW datagrams, then the question how many came: nothing is lost by being faster than the
 * reader. Returns what came; *lost is what did not.
 */
static uint64_t packets(struct target *t, char *buf, uint64_t end, uint64_t *lost)
{
	int fd = socket(t->a.ss_family, SOCK_DGRAM, 0);
	struct mmsghdr m[WINDOW] = {};
	struct iovec iov = { .iov_base = buf, .iov_len = t->size };
	struct timeval tv = { 1, 0 };
	uint64_t came = 0, n;

	if (fd < 0 || connect(fd, (void *)&t->a, t->len) < 0)
		die("connect");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	for (int i = 0; i < WINDOW; i++)
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
	while (now_ns() < end) {
		char answer[32];
		ssize_t r;

		buf[0] = 's';
		for (int done = 0; done < WINDOW;) {
			int k = sendmmsg(fd, m + done, WINDOW - done, 0);

			if (k <= 0)
				die("sendmmsg");
			done += k;
		}
		if (send(fd, "q", 1, 0) != 1 || (r = recv(fd, answer, sizeof(answer) - 1, 0)) <= 0) {
			*lost += WINDOW;
			continue;
		}
		answer[r] = 0;
		n = strtoull(answer, NULL, 10);
		came += n;
		*lost += n < WINDOW ? WINDOW - n : 0;
	}
	close(fd);
	return came;
}

/* A new flow a question, as fast as goes: a line with the time (s, CLOCK_MONOTONIC, of the question
 * that was first answered so) whenever another one answers, "-" for none within 50 ms.
 */
static int watch(struct target *t, uint64_t end)
{
	char last[64] = "", buf[64];
	struct timeval tv = { 0, 50000 };

	for (uint64_t now; (now = now_ns()) < end;) {
		int fd = socket(t->a.ss_family, SOCK_DGRAM, 0);
		ssize_t n = -1;

		if (fd < 0)
			die("socket");
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		if (!connect(fd, (void *)&t->a, t->len) && send(fd, "i", 1, 0) == 1)
			n = recv(fd, buf, sizeof(buf) - 1, 0);
		close(fd);
		if (n < 0)
			n = snprintf(buf, sizeof(buf), "-");
		buf[n] = 0;
		if (!strcmp(buf, last))
			continue;
		strcpy(last, buf);
		printf("%llu.%09llu %s\n", (unsigned long long)now / 1000000000,
		       (unsigned long long)now % 1000000000, buf);
		fflush(stdout);
	}
	return 0;
}

/* As many UDP flows as that in the tables; returns how many were answered. */
static uint64_t flows(struct target *t, unsigned count, unsigned first)
{
	struct sockaddr_in6 own = { .sin6_family = t->a.ss_family }; /* the port is where IPv4 has it */
	struct timeval tv = { 1, 0 };
	uint64_t answered = 0;
	char buf[8];

	for (unsigned i = 0; i < count && first + i < 65536; i++) {
		int fd = socket(t->a.ss_family, SOCK_DGRAM, 0);

		own.sin6_port = htons(first + i);
		if (fd < 0)
			die("socket");
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		if (!bind(fd, (void *)&own, t->len) && !connect(fd, (void *)&t->a, t->len) && send(fd, "e", 1, 0) == 1 &&
		    recv(fd, buf, sizeof(buf), 0) == 1)
			answered++;
		close(fd);
	}
	return answered;
}

static uint64_t requests(const char *mode, struct target *t, char *buf, uint64_t end, uint64_t *failed)
{
	for (uint64_t a = now_ns(), b; a < end; a = b) {
		bool ok = once(mode, t, buf);

		b = now_ns();
		if (!ok && ++*failed < 5)
			end += b - a; /* one time-out is not the end of what is measured */
		else if (ok && nlat < MAX_LAT)
			lat[nlat++] = b - a;
	}
	qsort(lat, nlat, sizeof(*lat), by_value);
	return nlat;
}

int main(int argc, char **argv)
{
	static char buf[65536];
	struct target t = { .kept = -1, .size = 64 };
	uint64_t end, begin, failed = 0, ops;
	const char *mode = argc > 1 ? argv[1] : "";

	if (argc >= 3 && !strcmp(mode, "serve")) {
		name = argc > 3 ? argv[3] : name;
		return serve(atoi(argv[2]));
	}
	if (argc < 5) {
		fprintf(stderr, "usage: load serve PORT [NAME] | tcp-new|udp-new|tcp-kept|bulk|packets|watch|flows "
				"ADDR PORT SECONDS [SIZE]\n");
		return 2;
	}
	t.len = address(argv[2], atoi(argv[3]), &t.a);
	if (argc > 5)
		t.size = strtoul(argv[5], NULL, 10);
	else if (!strcmp(mode, "bulk"))
		t.size = sizeof(buf);
	if (!t.size || t.size > sizeof(buf))
		return 2;
	lat = malloc(MAX_LAT * sizeof(*lat));
	if (!lat)
		die("memory");
	begin = now_ns();
	end = begin + (uint64_t)(atof(argv[4]) * 1e9);
	if (!strcmp(mode, "watch"))
		return watch(&t, end);
	if (!strcmp(mode, "flows"))
		ops = flows(&t, (unsigned)atoi(argv[4]), argc > 6 ? (unsigned)atoi(argv[6]) : 1024);
	else if (!strcmp(mode, "bulk"))
		ops = bulk(&t, buf, end);
	else if (!strcmp(mode, "packets"))
		ops = packets(&t, buf, end, &failed);
	else
		ops = requests(mode, &t, buf, end, &failed);
	printf("{\"ops\": %llu, \"failed\": %llu, \"seconds\": %.6f, \"p50\": %.9f, \"p99\": %.9f, \"p999\": %.9f}\n",
	       (unsigned long long)ops, (unsigned long long)failed, (now_ns() - begin) / 1e9, pct(0.5),
	       pct(0.99), pct(0.999));
	return ops ? 0 : 1;
}
