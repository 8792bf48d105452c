/* SPDX-License-Identifier: MIT */
#ifndef BN_TEST_SOCK_ENV_H
#define BN_TEST_SOCK_ENV_H

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

static _unused_ struct world w;

static _unused_ void enter(int ns)
{
	assert_int_equal(setns(ns, CLONE_NEWNET), 0);
}

static _unused_ void join_cgroup(const char *dir)
{
	_cleanup_(fclosep) FILE *f = NULL;
	char path[256];

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fprintf(f, "%d", getpid()) > 0);
	assert_int_equal(fflush(f), 0);
}

static _unused_ void addresses(void)
{
	assert_int_equal(sh("ip link set lo up && ip link set lo mtu 1500"), 0);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(sh("ip addr add 10.99.0.%d/32 dev lo && "
				    "ip addr add fd00:99::%d/128 dev lo nodad", i, i), 0);
}

static _unused_ int setup(void **state)
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

static _unused_ int teardown(void **state)
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
static _unused_ const char *const form_name[] = {"v4", "v6", "v4-mapped"};

static _unused_ struct bn_addr addr(enum form f, const char *v4, const char *v6)
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

static _unused_ socklen_t sockaddr(enum form f, const struct bn_addr *a, uint16_t port,
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

static _unused_ void assert_is(const struct sockaddr_storage *got, enum form f, const struct bn_addr *a,
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

static _unused_ int sock_new(enum form f, int type)
{
	int fd = socket(f == V4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

static _unused_ int server(enum form f, int type, const struct bn_addr *a, uint16_t port)
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
static _unused_ int dial(int fd, enum form f, const struct bn_addr *a, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr(f, a, port, &ss);

	return connect(fd, (void *)&ss, len) < 0 ? -errno : 0;
}

static _unused_ int say(int fd, enum form f, const struct bn_addr *a, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr(f, a, port, &ss);

	return sendto(fd, "x", 1, 0, (void *)&ss, len) < 0 ? -errno : 0;
}

static _unused_ bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 5000) == 1; /* the machine may be busy */
}

static _unused_ void peer_is(int fd, enum form f, const struct bn_addr *a, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	assert_int_equal(getpeername(fd, (void *)&ss, &len), 0);
	assert_is(&ss, f, a, port);
}

/* --- Services, written straight into the maps --------------------------------------------------- */

static _unused_ struct bn_front_key front(const struct bn_addr *a, uint16_t port, uint8_t proto)
{
	return (struct bn_front_key){.addr = *a, .port = htons(port), .proto = proto};
}

static _unused_ void set_range(struct bn_svc *s, const struct bn_addr *be, const uint16_t *ports, unsigned n)
{
	uint32_t base = w.next_slot;

	w.next_slot += n;
	for (unsigned i = 0; i < n; i++) {
		struct bn_backend *b = bn_map_at(w.k->maps, BN_MAP_slots, base + i);

		*b = (struct bn_backend){.addr = be[i], .port = htons(ports[i])};
	}
	s->range = s->range_int = n ? BN_RANGE(base, n, 1) : BN_RANGE(BN_RANGE_REJECT, 0, 1);
}

static _unused_ struct bn_svc *service(struct bn_front_key key, const struct bn_addr *be,
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

static _unused_ struct bn_svc *service1(const struct bn_addr *vip, uint16_t port, uint8_t proto,
			       const struct bn_addr *be, uint16_t be_port)
{
	return service(front(vip, port, proto), be, &be_port, 1);
}

static _unused_ void host_address(const struct bn_addr *a, uint16_t flags)
{
	static __u32 idx;
	struct bn_ep *ep;

	idx++;
	ep = bn_map_at(w.k->maps, BN_MAP_eps, idx);
	*ep = (struct bn_ep){.addr = *a, .flags = flags};
	assert_int_equal(bn_map_put(w.k->maps, BN_MAP_addrs, a, &idx), 0);
}

#endif
