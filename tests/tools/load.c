/* SPDX-License-Identifier: MIT */
/* Servers and clients for the benchmark: as little work of their own as possible, latencies kept.
 *
 *	load serve PORT                          TCP and UDP, both families; answers each request
 *	load tcp-new|udp-new|tcp-kept ADDR PORT SECONDS [SIZE]
 *
 * A TCP connection is closed by the server first, so that the client's ports are free again at once
 * and TIME_WAIT stays where it does not limit the rate. The client prints one JSON object.
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

static uint32_t *lat; /* ns of each operation */
static size_t nlat;

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

/* First byte of a request: 'c' answer and close, 'k' answer and keep. */
static void serve_conn(int ep, int fd)
{
	char buf[65536];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);

	if (n > 0 && send(fd, buf, n, MSG_NOSIGNAL) == n && buf[0] == 'k')
		return;
	epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL);
	close(fd);
}

static int serve(uint16_t port)
{
	int tcp = listen_on(SOCK_STREAM, port), udp = listen_on(SOCK_DGRAM, port);
	int ep = epoll_create1(0), on = 1;
	struct epoll_event e = { .events = EPOLLIN }, ev[64];
	char buf[65536];

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
				struct sockaddr_in6 p;
				socklen_t l = sizeof(p);
				ssize_t r = recvfrom(udp, buf, sizeof(buf), 0, (void *)&p, &l);

				if (r > 0)
					sendto(udp, buf, r, 0, (void *)&p, l);
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

int main(int argc, char **argv)
{
	static char buf[65536];
	struct target t = { .kept = -1, .size = 64 };
	uint64_t end, begin, failed = 0;

	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]));
	if (argc < 5) {
		fprintf(stderr, "usage: load serve PORT | tcp-new|udp-new|tcp-kept ADDR PORT SECONDS [SIZE]\n");
		return 2;
	}
	t.len = address(argv[2], atoi(argv[3]), &t.a);
	if (argc > 5)
		t.size = strtoul(argv[5], NULL, 10);
	if (!t.size || t.size > sizeof(buf))
		return 2;
	lat = malloc(MAX_LAT * sizeof(*lat));
	if (!lat)
		die("memory");
	begin = now_ns();
	end = begin + (uint64_t)(atof(argv[4]) * 1e9);
	for (uint64_t a = begin, b; a < end; a = b) {
		bool ok = once(argv[1], &t, buf);

		b = now_ns();
		if (!ok)
			failed++;
		else if (nlat < MAX_LAT)
			lat[nlat++] = b - a;
	}
	qsort(lat, nlat, sizeof(*lat), by_value);
	printf("{\"ops\": %zu, \"failed\": %llu, \"seconds\": %.6f, \"p50\": %.9f, \"p99\": %.9f, \"p999\": %.9f}\n",
	       nlat, (unsigned long long)failed, (now_ns() - begin) / 1e9, pct(0.5), pct(0.99), pct(0.999));
	return nlat ? 0 : 1;
}
