// SPDX-License-Identifier: MIT
/* Socket hooks and connections: services, NodePorts, source ranges, what is refused, what it costs. */
#include "tests/bpf/sock_env.h"

static void tcp_reaches(int ns, enum form f, const struct bn_addr *vip, uint16_t port, int listener)
{
	_cleanup_(closep) int c = -1, s = -1;

	enter(ns);
	c = sock_new(f, SOCK_STREAM);
	assert_int_equal(dial(c, f, vip, port), 0);
	assert_true(readable(listener));
	s = accept(listener, NULL, NULL);
	assert_true(s >= 0);
	peer_is(c, f, vip, port);
	enter(w.node);
}

static void tcp_is_translated(void **state _unused_)
{
	for (enum form f = 0; f < FORM__MAX; f++) {
		struct bn_addr vip = addr(f, "10.96.0.1", "fd00:96::1");
		struct bn_addr be = addr(f, "10.99.0.1", "fd00:99::1");
		_cleanup_(closep) int on_node = server(f, SOCK_STREAM, &be, 8080), in_pod = -1;

		service1(&vip, 80, BN_PROTO_TCP, &be, 8080);
		tcp_reaches(w.node, f, &vip, 80, on_node);
		enter(w.pod);
		in_pod = server(f, SOCK_STREAM, &be, 8080);
		tcp_reaches(w.pod, f, &vip, 80, in_pod);
		print_message("%s: ok\n", form_name[f]);
	}
}

/* How many places of map sk_tcp are taken; `all`: takes those that are free, in the name of nobody, or gives them. */
static unsigned places(int all)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < BN_SK_TCPS; i++) {
		struct bn_sk_tcp t;

		assert_int_equal(bn_map_get(w.k->maps, BN_MAP_sk_tcp, &i, &t), 0);
		if (all >= 0 && (!t.cookie || t.cookie == UINT64_MAX)) {
			t.cookie = all ? UINT64_MAX : 0;
			assert_int_equal(bn_map_put(w.k->maps, BN_MAP_sk_tcp, &i, &t), 0);
		}
		n += t.cookie != 0;
	}
	return n;
}

/* A socket gives its place back when the last descriptor of it goes, and finds one elsewhere if both are taken. */
static void places_come_and_go(void **state _unused_)
{
	unsigned before = places(-1);

	for (enum form f = 0; f < FORM__MAX; f++) {
		struct bn_addr vip = addr(f, "10.96.0.2", "fd00:96::2"), vip2 = addr(f, "10.96.0.3", "fd00:96::3");
		struct bn_addr be = addr(f, "10.99.0.1", "fd00:99::1"), none = addr(f, "10.99.0.2", "fd00:99::2");
		_cleanup_(closep) int s = server(f, SOCK_STREAM, &be, 8080);
		int c = sock_new(f, SOCK_STREAM), twin = -1, more = -1;
		struct sockaddr unspec = {.sa_family = AF_UNSPEC};

		service1(&vip, 80, BN_PROTO_TCP, &be, 8080);
		service1(&vip2, 80, BN_PROTO_TCP, &none, 8080);
		assert_int_equal(dial(c, f, &vip2, 80), -ECONNREFUSED);
		assert_int_equal(dial(c, f, &vip, 80), 0);
		assert_int_equal(places(-1), before + 1);
		peer_is(c, f, &vip, 80);
		twin = dup(c);
		close(c);
		assert_int_equal(places(-1), before + 1);
		peer_is(twin, f, &vip, 80);

		assert_int_equal(places(1), BN_SK_TCPS);
		more = sock_new(f, SOCK_STREAM);
		assert_int_equal(dial(more, f, &vip, 80), 0);
		peer_is(more, f, &vip, 80);
		peer_is(twin, f, &vip, 80);
		assert_int_equal(places(0), before + 1);
		/* What it has once stays where it is. */
		assert_int_equal(connect(more, &unspec, sizeof(unspec)), 0);
		assert_int_equal(dial(more, f, &vip, 80), 0);
		assert_int_equal(places(-1), before + 1);
		peer_is(more, f, &vip, 80);
		close(twin);
		close(more);
		assert_int_equal(places(-1), before);
	}
}

static void refused_is_econnrefused(void **state _unused_)
{
	int ns[] = {w.node, w.pod};

	for (enum form f = 0; f < FORM__MAX; f++) {
		struct bn_addr vip = addr(f, "10.96.0.2", "fd00:96::2");
		struct bn_drop_stat before, after;

		service(front(&vip, 80, BN_PROTO_TCP), NULL, NULL, 0);
		service(front(&vip, 53, BN_PROTO_UDP), NULL, NULL, 0);
		assert_int_equal(bn_map_percpu_sum(w.k->maps, BN_MAP_drops, BN_DROP_NO_BACKEND,
						   (uint64_t *)&before), 0);
		for (int i = 0; i < 2; i++) {
			_cleanup_(closep) int t = -1, u = -1;

			enter(ns[i]);
			t = sock_new(f, SOCK_STREAM);
			u = sock_new(f, SOCK_DGRAM);
			assert_int_equal(dial(t, f, &vip, 80), -ECONNREFUSED);
			assert_int_equal(say(u, f, &vip, 53), -ECONNREFUSED);
			/* Connected UDP waits for an endpoint as packets do: here there is no route. */
			assert_int_equal(dial(u, f, &vip, 53), -ENETUNREACH);
			enter(w.node);
		}
		assert_int_equal(bn_map_percpu_sum(w.k->maps, BN_MAP_drops, BN_DROP_NO_BACKEND,
						   (uint64_t *)&after), 0);
		assert_int_equal(after.packets - before.packets, 4);
	}
}

/* Where a packet has to be dropped, and where the port is no frontend, nothing is decided here. */
static void others_are_left_alone(void **state _unused_)
{
	for (enum form f = 0; f < FORM__MAX; f++) {
		struct bn_addr vip = addr(f, "10.96.0.3", "fd00:96::3");
		struct bn_addr be = addr(f, "10.99.0.1", "fd00:99::1");
		_cleanup_(closep) int a = sock_new(f, SOCK_STREAM), b = sock_new(f, SOCK_STREAM);
		_cleanup_(closep) int c = sock_new(f, SOCK_STREAM), d = -1, direct = -1;
		struct bn_svc *s;

		s = service1(&vip, 80, BN_PROTO_TCP, &be, 8080);
		s->range = s->range_int = BN_RANGE(BN_RANGE_DROP, 0, 1);
		assert_int_equal(dial(a, f, &vip, 80), -ENETUNREACH);
		assert_int_equal(dial(b, f, &vip, 81), -ENETUNREACH);
		/* The front's element shows another service's record: the record says so. */
		s->key.port = htons(1);
		assert_int_equal(dial(c, f, &vip, 80), -ENETUNREACH);
		d = server(f, SOCK_STREAM, &be, 8080);
		direct = sock_new(f, SOCK_STREAM);
		assert_int_equal(dial(direct, f, &be, 8080), 0);
		peer_is(direct, f, &be, 8080);
	}
}

static void local_policy_splits(void **state _unused_)
{
	struct bn_addr vip = addr(V4, "10.96.0.9", ""), be = addr(V4, "10.99.0.2", "");
	_cleanup_(closep) int l = server(V4, SOCK_STREAM, &be, 8080);
	struct bn_svc *s = service1(&vip, 80, BN_PROTO_TCP, &be, 8080);

	/* Outside clients have nothing here; this node's own processes get every endpoint. */
	s->flags = BN_SVC_F_SPLIT | BN_SVC_F_ETP_LOCAL | BN_SVC_F_EXTERNAL;
	s->range = BN_RANGE(BN_RANGE_DROP, 0, 1);
	tcp_reaches(w.node, V4, &vip, 80, l);
}

static void nodeports(void **state _unused_)
{
	for (enum form f = 0; f < FORM__MAX; f++) {
		struct bn_addr be = addr(f, "10.99.0.3", "fd00:99::3");
		struct bn_addr host = addr(f, "10.99.0.7", "fd00:99::7");
		struct bn_addr other = addr(f, "10.99.0.8", "fd00:99::8");
		struct bn_addr lo = addr(f, "127.0.0.1", "::1");
		_cleanup_(closep) int l = server(f, SOCK_STREAM, &be, 8080), pl = -1, ol = -1, ll = -1;
		struct bn_front_key k;
		uint16_t port = 8080;

		bn_front_nodeport(&k, &be, htons(30080), BN_PROTO_TCP);
		service(k, &be, &port, 1);
		host_address(&host, BN_ADDR_F_HOST | BN_ADDR_F_NODEPORT);
		host_address(&other, BN_ADDR_F_HOST);
		tcp_reaches(w.node, f, &host, 30080, l);
		tcp_reaches(w.node, f, &lo, 30080, l);
		/* An address that does not answer NodePorts is an address like any other. */
		ol = server(f, SOCK_STREAM, &other, 30080);
		tcp_reaches(w.node, f, &other, 30080, ol);
		/* A pod's loopback is its own; the node's address is the node's. */
		enter(w.pod);
		ll = server(f, SOCK_STREAM, &lo, 30080);
		tcp_reaches(w.pod, f, &lo, 30080, ll);
		enter(w.pod);
		pl = server(f, SOCK_STREAM, &be, 8080);
		tcp_reaches(w.pod, f, &host, 30080, pl);
	}
}

static void source_ranges(void **state _unused_)
{
	struct bn_addr vip = addr(V4, "10.96.0.10", ""), be = addr(V4, "10.99.0.4", "");
	_cleanup_(closep) int l = server(V4, SOCK_STREAM, &be, 8080), c = -1, p = -1;
	struct bn_svc *s = service1(&vip, 80, BN_PROTO_TCP, &be, 8080);
	struct bn_state *st = bn_map_at(w.k->maps, BN_MAP_state, 0);
	struct bn_src_key key = {.prefixlen = 32 + 96 + 24, .src_set = 5};
	__u32 one = 1;

	s->flags = BN_SVC_F_SRC_RANGES | BN_SVC_F_LOADBALANCER | BN_SVC_F_EXTERNAL;
	s->src_set = 5;
	st->node4 = addr(V4, "192.0.2.1", "");
	c = sock_new(V4, SOCK_STREAM);
	assert_int_equal(dial(c, V4, &vip, 80), -ENETUNREACH);
	key.addr = addr(V4, "192.0.2.0", "");
	assert_int_equal(bn_map_put(w.k->maps, BN_MAP_src_ranges, &key, &one), 0);
	tcp_reaches(w.node, V4, &vip, 80, l);
	enter(w.pod); /* which address it will have is not known: a packet tells */
	p = sock_new(V4, SOCK_STREAM);
	assert_int_equal(dial(p, V4, &vip, 80), -ENETUNREACH);
	enter(w.node);
}

/* --- Cost: nanoseconds, the best of several rounds ---------------------------------------------- */

#define CALLS 5000
#define COST_ROUNDS 25
static double cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

/* `anew`: creation and close of a socket for each, its storage included. */
static void connects(const struct bn_addr *to, uint16_t port, bool anew, double *best)
{
	_cleanup_(closep) int u = sock_new(V4, SOCK_DGRAM);
	double begin = cpu_now(), each;

	for (int i = 0; i < CALLS; i++) {
		if (anew) {
			close(u);
			u = sock_new(V4, SOCK_DGRAM);
		}
		dial(u, V4, to, port);
	}
	each = (cpu_now() - begin) / CALLS;
	*best = !*best || each < *best ? each : *best;
}

static void cost(void **state _unused_)
{
	_cleanup_(freep) char *root = NULL;
	struct bn_addr vip = addr(V4, "10.96.0.30", ""), be = addr(V4, "10.99.0.1", "");
	double bare[2] = {}, other[2] = {}, svc[2] = {};

	assert_int_equal(bn_cgroup2_find(&root), 0);
	service1(&vip, 53, BN_PROTO_UDP, &be, 5353);
	for (int i = 0; i < COST_ROUNDS; i++) {
		for (int anew = 0; anew < 2; anew++) {
			connects(&be, 5353, anew, &other[anew]);
			connects(&vip, 53, anew, &svc[anew]);
			join_cgroup(root);
			connects(&be, 5353, anew, &bare[anew]);
			join_cgroup(w.e->cgroup);
		}
	}
	print_message("connect(): bare %.0f ns, hooked %.0f, to a service %.0f\n"
		      "socket, connect, close: bare %.0f ns, hooked %.0f, to a service %.0f\n", bare[0],
		      other[0], svc[0], bare[1], other[1], svc[1]);
	assert_true(other[0] < bare[0] + 3000);
	assert_true(svc[0] < bare[0] + 5000);
}

static void pods_only_by_packet(void **state _unused_)
{
	struct bn_addr vip = addr(V4, "10.96.0.15", ""), be = addr(V4, "10.99.0.1", "");
	_cleanup_(closep) int l = server(V4, SOCK_STREAM, &be, 8085), c = -1, pl = -1;

	service1(&vip, 80, BN_PROTO_TCP, &be, 8085);
	bn_kernel_closep(&w.k);
	w.e->opts.socket_lb_pods = false;
	w.k = kenv_open(w.e);
	assert_int_equal(bn_kernel_attach_cgroup(w.k, NULL), 0);
	tcp_reaches(w.node, V4, &vip, 80, l);
	enter(w.pod);
	pl = server(V4, SOCK_STREAM, &be, 8085);
	c = sock_new(V4, SOCK_STREAM);
	assert_int_equal(dial(c, V4, &vip, 80), -ENETUNREACH);
	enter(w.node);
	bn_kernel_closep(&w.k);
	w.e->opts.socket_lb_pods = true;
	w.k = kenv_open(w.e);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp_is_translated),
		cmocka_unit_test(places_come_and_go),
		cmocka_unit_test(refused_is_econnrefused),
		cmocka_unit_test(others_are_left_alone),
		cmocka_unit_test(local_policy_splits),
		cmocka_unit_test(nodeports),
		cmocka_unit_test(source_ranges),
		cmocka_unit_test(cost),
		cmocka_unit_test(pods_only_by_packet),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]); /* one of them, "*" and "?" match */
	return cmocka_run_group_tests_name("sock", tests, setup, teardown);
}
