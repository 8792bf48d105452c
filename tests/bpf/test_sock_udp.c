// SPDX-License-Identifier: MIT
/* Socket hooks and what sockets keep: datagrams both ways, connected and not, sockets without storage, affinity. */
#include "tests/bpf/sock_env.h"

/* The server answers; the client sees whom it asked. */
static void udp_echo(int server_fd, int client, enum form f, const struct bn_addr *vip,
		     uint16_t port)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	char buf[8];

	assert_true(readable(server_fd));
	assert_int_equal(recvfrom(server_fd, buf, sizeof(buf), 0, (void *)&from, &len), 1);
	assert_int_equal(sendto(server_fd, "y", 1, 0, (void *)&from, len), 1);
	assert_true(readable(client));
	len = sizeof(from);
	assert_int_equal(recvfrom(client, buf, sizeof(buf), 0, (void *)&from, &len), 1);
	assert_is(&from, f, vip, port);
}

static void udp_both_ways(void **state _unused_)
{
	for (enum form f = 0; f < FORM__MAX; f++) {
		struct bn_addr vip = addr(f, "10.96.0.11", "fd00:96::11");
		struct bn_addr be = addr(f, "10.99.0.5", "fd00:99::5");
		_cleanup_(closep) int s = server(f, SOCK_DGRAM, &be, 5353), c = -1, u = -1, ps = -1;
		_cleanup_(closep) int pu = -1, pc = -1;

		service1(&vip, 53, BN_PROTO_UDP, &be, 5353);
		u = sock_new(f, SOCK_DGRAM);
		assert_int_equal(say(u, f, &vip, 53), 0);
		udp_echo(s, u, f, &vip, 53);
		/* The backend asked by its own name shows its own name, on the same socket. */
		assert_int_equal(say(u, f, &be, 5353), 0);
		udp_echo(s, u, f, &be, 5353);
		assert_int_equal(say(u, f, &vip, 53), 0);
		udp_echo(s, u, f, &vip, 53);

		c = sock_new(f, SOCK_DGRAM);
		assert_int_equal(dial(c, f, &vip, 53), 0);
		peer_is(c, f, &vip, 53);
		assert_int_equal(send(c, "x", 1, 0), 1);
		udp_echo(s, c, f, &vip, 53);
		/* Connected anew, to the backend itself. */
		assert_int_equal(dial(c, f, &be, 5353), 0);
		peer_is(c, f, &be, 5353);
		assert_int_equal(dial(c, f, &vip, 53), 0);
		peer_is(c, f, &vip, 53);

		enter(w.pod);
		ps = server(f, SOCK_DGRAM, &be, 5353);
		pu = sock_new(f, SOCK_DGRAM);
		assert_int_equal(say(pu, f, &vip, 53), 0);
		udp_echo(ps, pu, f, &vip, 53);
		pc = sock_new(f, SOCK_DGRAM);
		assert_int_equal(dial(pc, f, &vip, 53), -ENETUNREACH);
		enter(w.node);
	}
}

/* What a pod connected is never translated behind its back, whatever its sends look like here. */
static void connected_of_pods_stays(void **state _unused_)
{
	enter(w.pod);
	for (enum form f = 0; f < FORM__MAX; f++) {
		struct bn_addr vip = addr(f, "10.96.0.20", "fd00:96::20");
		struct bn_addr be = addr(f, "10.99.0.5", "fd00:99::5");
		_cleanup_(closep) int s = server(f, SOCK_DGRAM, &vip, 53), c = sock_new(f, SOCK_DGRAM);

		service1(&vip, 53, BN_PROTO_UDP, &be, 5353);
		assert_int_equal(dial(c, f, &vip, 53), 0);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(send(c, "x", 1, 0), 1);
			udp_echo(s, c, f, &vip, 53);
		}
		assert_int_equal(say(c, f, &vip, 53), 0);
		udp_echo(s, c, f, &vip, 53);
	}
	enter(w.node);
}

static void disconnect_and_again(void **state _unused_)
{
	struct bn_addr vip = addr(V4, "10.96.0.12", ""), be = addr(V4, "10.99.0.5", "");
	_cleanup_(closep) int s = server(V4, SOCK_DGRAM, &be, 5354), c = sock_new(V4, SOCK_DGRAM);
	struct sockaddr none = {.sa_family = AF_UNSPEC};

	service1(&vip, 53, BN_PROTO_UDP, &be, 5354);
	assert_int_equal(dial(c, V4, &vip, 53), 0);
	assert_int_equal(connect(c, &none, sizeof(none)), 0);
	assert_int_equal(send(c, "x", 1, 0), -1);
	assert_int_equal(errno, EDESTADDRREQ);
	assert_int_equal(say(c, V4, &vip, 53), 0);
	udp_echo(s, c, V4, &vip, 53);
}

#define NBE 8
struct spread {
	struct bn_addr be[NBE];
	uint16_t port[NBE];
	int fd[NBE];
};

static void spread_open(struct spread *s, int type, uint16_t port)
{
	for (int i = 0; i < NBE; i++) {
		char v4[32];

		snprintf(v4, sizeof(v4), "10.99.0.%d", i + 1);
		s->be[i] = addr(V4, v4, "");
		s->port[i] = port;
		s->fd[i] = server(V4, type, &s->be[i], port);
	}
}

static void spread_close(struct spread *s)
{
	for (int i = 0; i < NBE; i++)
		closep(&s->fd[i]);
}

/* Which backend has something to read: takes it. */
static int who_got(struct spread *s, int type)
{
	struct pollfd p[NBE];
	char buf[8];

	for (int i = 0; i < NBE; i++)
		p[i] = (struct pollfd){.fd = s->fd[i], .events = POLLIN};
	assert_int_equal(poll(p, NBE, 1000), 1);
	for (int i = 0; i < NBE; i++) {
		if (!(p[i].revents & POLLIN))
			continue;
		if (type == SOCK_STREAM)
			close(accept(s->fd[i], NULL, NULL));
		else
			assert_int_equal(recv(s->fd[i], buf, sizeof(buf), 0), 1);
		return i;
	}
	return -1;
}

static int dial_who(struct spread *s, const struct bn_addr *vip, uint16_t port)
{
	_cleanup_(closep) int c = sock_new(V4, SOCK_STREAM);

	assert_int_equal(dial(c, V4, vip, port), 0);
	return who_got(s, SOCK_STREAM);
}

static void datagrams_stay(void **state _unused_)
{
	struct bn_addr vip = addr(V4, "10.96.0.13", "");
	struct bn_addr left[NBE];
	struct spread s;
	struct bn_svc *svc;
	unsigned hit[NBE] = {}, used = 0, n = 0;
	int first = -1;

	spread_open(&s, SOCK_DGRAM, 5355);
	svc = service(front(&vip, 53, BN_PROTO_UDP), s.be, s.port, NBE);
	{
		_cleanup_(closep) int u = sock_new(V4, SOCK_DGRAM);

		for (int i = 0; i < 64; i++) {
			int got;

			assert_int_equal(say(u, V4, &vip, 53), 0);
			got = who_got(&s, SOCK_DGRAM);
			first = first < 0 ? got : first;
			assert_int_equal(got, first);
		}
		/* Its backend goes: the next datagram goes elsewhere, and stays there. */
		for (int i = 0; i < NBE; i++)
			if (i != first)
				left[n++] = s.be[i];
		set_range(svc, left, s.port, n);
		assert_int_equal(say(u, V4, &vip, 53), 0);
		assert_int_not_equal(who_got(&s, SOCK_DGRAM), first);
	}
	set_range(svc, s.be, s.port, NBE);
	for (int i = 0; i < 200; i++) {
		_cleanup_(closep) int u = sock_new(V4, SOCK_DGRAM);

		assert_int_equal(say(u, V4, &vip, 53), 0);
		hit[who_got(&s, SOCK_DGRAM)]++;
	}
	for (int i = 0; i < NBE; i++)
		used += hit[i] > 5; /* 25 expected; fewer than 6 has a chance below 1e-6 */
	assert_int_equal(used, NBE);
	spread_close(&s);
}

/* Does a filter of n loads of the first byte, which lets everything pass, fit the socket's option memory? */
static bool filter_fits(int fd, unsigned n)
{
	static struct sock_filter f[4096];
	struct sock_fprog p = {.len = n + 1, .filter = f};

	for (unsigned i = 0; i < n; i++)
		f[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0);
	f[n] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, ~0u);
	setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &n, sizeof(n));
	return !setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p));
}

/* A socket that the kernel gives no storage: the largest filter that fits has taken its option memory. */
static int sock_full(int type)
{
	int fd = sock_new(V4, type);
	unsigned lo = 1, hi = 4095;

	assert_false(filter_fits(fd, hi));
	while (lo + 1 < hi) {
		unsigned mid = (lo + hi) / 2;

		if (filter_fits(fd, mid))
			lo = mid;
		else
			hi = mid;
	}
	assert_true(filter_fits(fd, lo));
	return fd;
}

static void without_storage(void **state _unused_)
{
	struct bn_addr vip = addr(V4, "10.96.0.21", "");
	_cleanup_(closep) int u = sock_full(SOCK_DGRAM), t = sock_full(SOCK_STREAM), p = -1, l = -1;
	struct spread s;
	int first;

	spread_open(&s, SOCK_DGRAM, 5356);
	service(front(&vip, 53, BN_PROTO_UDP), s.be, s.port, NBE);
	/* The node's own: one backend, shown under the name that was asked. */
	assert_int_equal(say(u, V4, &vip, 53), 0);
	first = who_got(&s, SOCK_DGRAM);
	for (int i = 0; i < 32; i++) {
		assert_int_equal(say(u, V4, &vip, 53), 0);
		udp_echo(s.fd[first], u, V4, &vip, 53);
	}
	assert_int_equal(say(u, V4, &s.be[first], 5356), 0);
	udp_echo(s.fd[first], u, V4, &s.be[first], 5356);
	l = server(V4, SOCK_STREAM, &s.be[0], 8087);
	service1(&vip, 80, BN_PROTO_TCP, &s.be[0], 8087);
	assert_int_equal(dial(t, V4, &vip, 80), 0);
	peer_is(t, V4, &vip, 80);
	/* A pod's: left to the packets. */
	enter(w.pod);
	p = sock_full(SOCK_DGRAM);
	assert_int_equal(say(p, V4, &vip, 53), -ENETUNREACH);
	enter(w.node);
	spread_close(&s);
}

static void many_frontends_one_socket(void **state _unused_)
{
	struct bn_addr vip[12], be = addr(V4, "10.99.0.6", "");
	_cleanup_(closep) int u = sock_new(V4, SOCK_DGRAM);
	int s[12];

	for (int i = 0; i < 12; i++) {
		char v4[32];

		snprintf(v4, sizeof(v4), "10.96.1.%d", i + 1);
		vip[i] = addr(V4, v4, "");
		s[i] = server(V4, SOCK_DGRAM, &be, 6000 + i);
		service1(&vip[i], 53, BN_PROTO_UDP, &be, 6000 + i);
		assert_int_equal(say(u, V4, &vip[i], 53), 0);
	}
	/* Answers come after all were asked, so most of them are no longer in the socket's own memory. */
	for (int i = 0; i < 12; i++) {
		udp_echo(s[i], u, V4, &vip[i], 53);
		close(s[i]);
	}
}

static void affinity_holds(void **state _unused_)
{
	struct bn_addr vip = addr(V4, "10.96.0.14", ""), left[NBE];
	struct spread s;
	struct bn_svc *svc;
	unsigned n = 0, others = 0;
	int first;

	spread_open(&s, SOCK_STREAM, 8081);
	svc = service(front(&vip, 80, BN_PROTO_TCP), s.be, s.port, NBE);
	svc->affinity_s = 3;
	first = dial_who(&s, &vip, 80);
	for (int i = 0; i < 40; i++)
		assert_int_equal(dial_who(&s, &vip, 80), first);
	/* Another backend comes or goes: nothing changes. This one goes: another, for good. */
	for (int i = 0; i < NBE; i++)
		if (i == first || n < 3)
			left[n++] = s.be[i];
	set_range(svc, left, s.port, n);
	for (int i = 0; i < 20; i++)
		assert_int_equal(dial_who(&s, &vip, 80), first);
	n = 0;
	for (int i = 0; i < NBE; i++)
		if (i != first)
			left[n++] = s.be[i];
	set_range(svc, left, s.port, n);
	first = dial_who(&s, &vip, 80);
	for (int i = 0; i < 20; i++)
		assert_int_equal(dial_who(&s, &vip, 80), first);
	/* Expired: each wait gives a fresh choice of 7; five times the same has a chance of 6e-5. */
	for (int i = 0; i < 5; i++) {
		usleep(4100000);
		others += dial_who(&s, &vip, 80) != first;
	}
	assert_true(others > 0);
	spread_close(&s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(udp_both_ways),
		cmocka_unit_test(connected_of_pods_stays),
		cmocka_unit_test(disconnect_and_again),
		cmocka_unit_test(datagrams_stay),
		cmocka_unit_test(without_storage),
		cmocka_unit_test(many_frontends_one_socket),
		cmocka_unit_test(affinity_holds),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]); /* one of them, "*" and "?" match */
	return cmocka_run_group_tests_name("sock_udp", tests, setup, teardown);
}
