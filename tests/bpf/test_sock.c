// SPDX-License-Identifier: MIT
/* Socket hooks with real sockets: this process sits in a cgroup of its own, in a "node" namespace, and
 * steps into a "pod" namespace for the pod's sockets. Backends are addresses on the loopback devices.
 */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "tests/bpf/kern_env.h"

struct world {
	struct kenv *e;
	struct bn_kernel *k;
	int node, pod; /* namespaces */
	uint32_t next_svc, next_slot;
};

static struct world w;

static void enter(int ns)
{
	assert_int_equal(setns(ns, CLONE_NEWNET), 0);
}

static void join_cgroup(const char *dir)
{
	_cleanup_(fclosep) FILE *f = NULL;
	char path[256];

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fprintf(f, "%d", getpid()) > 0);
	assert_int_equal(fflush(f), 0);
}

static void addresses(void)
{
	assert_int_equal(sh("ip link set lo up && ip link set lo mtu 1500"), 0);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(sh("ip addr add 10.99.0.%d/32 dev lo && "
				    "ip addr add fd00:99::%d/128 dev lo nodad", i, i), 0);
}

static int setup(void **state)
{
	struct kenv *e;

	if (kenv_setup(state) < 0)
		return -1;
	e = *state;
	w.e = e;
	w.node = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	addresses();
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	w.pod = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	addresses();
	/* A service's address that the pod has itself. Here, since on a busy machine a socket that connects to an
	 * IPv6 address right after it was added can be left without a route (Ip6OutNoRoutes).
	 */
	if (sh("ip addr add 10.96.0.20/32 dev lo && ip addr add fd00:96::20/128 dev lo nodad"))
		return -1;
	enter(w.node);
	w.k = kenv_open(e);
	w.next_svc = w.next_slot = 1;
	if (bn_kernel_attach_cgroup(w.k, NULL) < 0)
		return -1;
	join_cgroup(e->cgroup);
	return 0;
}

static int teardown(void **state)
{
	_cleanup_(freep) char *root = NULL;

	assert_int_equal(bn_cgroup2_find(&root), 0);
	join_cgroup(root);
	bn_kernel_closep(&w.k);
	close(w.node);
	close(w.pod);
	return kenv_teardown(state);
}

/* --- Addresses and sockets --------------------------------------------------------------------- */

enum form { V4, V6, MAPPED, FORM__MAX };
static const char *const form_name[] = {"v4", "v6", "v4-mapped"};

static struct bn_addr addr(enum form f, const char *v4, const char *v6)
{
	struct bn_addr a = {};
	__be32 v;

	if (f == V6) {
		assert_int_equal(inet_pton(AF_INET6, v6, &a), 1);
	} else {
		assert_int_equal(inet_pton(AF_INET, v4, &v), 1);
		bn_addr_v4(&a, v);
	}
	return a;
}

static socklen_t sockaddr(enum form f, const struct bn_addr *a, uint16_t port,
			  struct sockaddr_storage *ret)
{
	struct sockaddr_in *s4 = (void *)ret;
	struct sockaddr_in6 *s6 = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	if (f == V4) {
		s4->sin_family = AF_INET;
		s4->sin_port = htons(port);
		s4->sin_addr.s_addr = a->w[3];
		return sizeof(*s4);
	}
	s6->sin6_family = AF_INET6;
	s6->sin6_port = htons(port);
	memcpy(&s6->sin6_addr, a, 16);
	return sizeof(*s6);
}

static void assert_is(const struct sockaddr_storage *got, enum form f, const struct bn_addr *a,
		      uint16_t port)
{
	struct sockaddr_storage want;

	sockaddr(f, a, port, &want);
	assert_int_equal(got->ss_family, want.ss_family);
	if (f == V4)
		assert_memory_equal(got, &want, 8);
	else
		assert_memory_equal(got, &want, 24);
}

static int sock_new(enum form f, int type)
{
	int fd = socket(f == V4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

static int server(enum form f, int type, const struct bn_addr *a, uint16_t port)
{
	struct sockaddr_storage ss;
	int fd = sock_new(f, type | SOCK_NONBLOCK), one = 1;
	socklen_t len = sockaddr(f, a, port, &ss);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(fd, (void *)&ss, len), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 64), 0);
	return fd;
}

/* 0 or -errno. */
static int dial(int fd, enum form f, const struct bn_addr *a, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr(f, a, port, &ss);

	return connect(fd, (void *)&ss, len) < 0 ? -errno : 0;
}

static int say(int fd, enum form f, const struct bn_addr *a, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr(f, a, port, &ss);

	return sendto(fd, "x", 1, 0, (void *)&ss, len) < 0 ? -errno : 0;
}

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 5000) == 1; /* the machine may be busy */
}

static void peer_is(int fd, enum form f, const struct bn_addr *a, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	assert_int_equal(getpeername(fd, (void *)&ss, &len), 0);
	assert_is(&ss, f, a, port);
}

/* --- Services, written straight into the maps --------------------------------------------------- */

static struct bn_front_key front(const struct bn_addr *a, uint16_t port, uint8_t proto)
{
	return (struct bn_front_key){.addr = *a, .port = htons(port), .proto = proto};
}

static void set_range(struct bn_svc *s, const struct bn_addr *be, const uint16_t *ports, unsigned n)
{
	uint32_t base = w.next_slot;

	w.next_slot += n;
	for (unsigned i = 0; i < n; i++) {
		struct bn_backend *b = bn_map_at(w.k->maps, BN_MAP_slots, base + i);

		*b = (struct bn_backend){.addr = be[i], .port = htons(ports[i])};
	}
	s->range = s->range_int = n ? BN_RANGE(base, n, 1) : BN_RANGE(BN_RANGE_REJECT, 0, 1);
}

static struct bn_svc *service(struct bn_front_key key, const struct bn_addr *be,
			      const uint16_t *ports, unsigned n)
{
	struct bn_front_val v = {.idx = w.next_svc++};
	struct bn_svc *s = bn_map_at(w.k->maps, BN_MAP_svcs, v.idx);

	memset(s, 0, sizeof(*s));
	set_range(s, be, ports, n);
	s->key = key;
	s->svc_id = v.idx;
	if (key.scope == BN_SCOPE_EXACT) { /* before the frontend, as maps/svc_store.c does */
		struct bn_front_key any = {.addr = key.addr, .scope = BN_SCOPE_ADDR};
		struct bn_front_val kind = {.idx = BN_FRONT_IDX_CLUSTERIP};

		assert_int_equal(bn_map_put(w.k->maps, BN_MAP_fronts, &any, &kind), 0);
	}
	assert_int_equal(bn_map_put(w.k->maps, BN_MAP_fronts, &key, &v), 0);
	return s;
}

static struct bn_svc *service1(const struct bn_addr *vip, uint16_t port, uint8_t proto,
			       const struct bn_addr *be, uint16_t be_port)
{
	return service(front(vip, port, proto), be, &be_port, 1);
}

static void host_address(const struct bn_addr *a, uint16_t flags)
{
	static __u32 idx;
	struct bn_ep *ep;

	idx++;
	ep = bn_map_at(w.k->maps, BN_MAP_eps, idx);
	*ep = (struct bn_ep){.addr = *a, .flags = flags};
	assert_int_equal(bn_map_put(w.k->maps, BN_MAP_addrs, a, &idx), 0);
}

/* --- TCP ---------------------------------------------------------------------------------------- */

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
			/* Connected UDP of a pod is judged as a packet: here there is no route. */
			assert_int_equal(dial(u, f, &vip, 53), i ? -ENETUNREACH : -ECONNREFUSED);
			enter(w.node);
		}
		assert_int_equal(bn_map_percpu_sum(w.k->maps, BN_MAP_drops, BN_DROP_NO_BACKEND,
						   (uint64_t *)&after), 0);
		assert_int_equal(after.packets - before.packets, 5);
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

/* --- UDP ---------------------------------------------------------------------------------------- */

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
		cmocka_unit_test(udp_both_ways),
		cmocka_unit_test(connected_of_pods_stays),
		cmocka_unit_test(disconnect_and_again),
		cmocka_unit_test(datagrams_stay),
		cmocka_unit_test(without_storage),
		cmocka_unit_test(many_frontends_one_socket),
		cmocka_unit_test(affinity_holds),
		cmocka_unit_test(cost),
		cmocka_unit_test(pods_only_by_packet),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]); /* one of them, "*" and "?" match */
	return cmocka_run_group_tests_name("sock", tests, setup, teardown);
}
