// SPDX-License-Identifier: MIT
/* Programs are replaced under traffic: no packet is lost, none passes unseen. A pod sends to its node
 * through a veth, with several packets in flight, while the program is exchanged and while whole
 * daemons stop and start. As root.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "tests/bpf/kern_env.h"

#define WINDOW 8
#define EXCHANGES 200
#define RESTARTS 10

static struct traffic {
	int echo, client;
	volatile bool stop, stop_echo; /* the echo goes on until the last answer is back */
	uint64_t sent, back, lost; /* round trips; lost: no answer within a second */
} t;

static void *echo_loop(void *arg _unused_)
{
	struct pollfd p = {.fd = t.echo, .events = POLLIN};

	while (!t.stop_echo) {
		struct sockaddr_in6 from;
		socklen_t len = sizeof(from);
		char buf[64];
		ssize_t n;

		if (poll(&p, 1, 100) <= 0)
			continue;
		n = recvfrom(t.echo, buf, sizeof(buf), 0, (void *)&from, &len);
		if (n > 0)
			sendto(t.echo, buf, n, 0, (void *)&from, len);
	}
	return NULL;
}

static void *client_loop(void *arg _unused_)
{
	struct pollfd p = {.fd = t.client, .events = POLLIN};

	while (!t.stop) {
		uint64_t in_flight = t.sent - t.back - t.lost;

		if (in_flight < WINDOW && send(t.client, &t.sent, 8, 0) == 8) {
			t.sent++;
			continue;
		}
		if (poll(&p, 1, 1000) == 1 && recv(t.client, &(uint64_t){0}, 8, 0) == 8)
			t.back++;
		else
			t.lost = t.sent - t.back;
	}
	while (t.back + t.lost < t.sent) {
		if (poll(&p, 1, 1000) == 1 && recv(t.client, &(uint64_t){0}, 8, 0) == 8)
			t.back++;
		else
			t.lost = t.sent - t.back;
	}
	return NULL;
}

static int udp6(const char *bind_to, const char *connect_to)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(7777)};
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const char *s = bind_to ? bind_to : connect_to;

	assert_true(fd >= 0);
	assert_int_equal(inet_pton(AF_INET6, s, &a.sin6_addr), 1);
	if (bind_to)
		assert_int_equal(bind(fd, (void *)&a, sizeof(a)), 0);
	else
		assert_int_equal(connect(fd, (void *)&a, sizeof(a)), 0);
	return fd;
}

/* The interface of no Kubernetes pod: everything passes, and is counted. */
static void open_iface(struct bn_kernel *k, uint32_t ifindex)
{
	struct bn_iface f = {.role = BN_ROLE_POD, .l2_len = 14, .flags = BN_IF_F_OPEN,
			     .ifindex = ifindex};

	assert_int_equal(bn_map_put(k->maps, BN_MAP_ifaces, &ifindex, &f), 0);
}

static uint64_t seen(struct bn_kernel *k, enum bn_hook hook)
{
	struct bn_hook_stat s;

	assert_int_equal(bn_map_percpu_sum(k->maps, BN_MAP_hook_stats, hook, (uint64_t *)&s), 0);
	return s.packets;
}

static void print_drops(struct bn_kernel *k)
{
#define X(name, text) "" #name,
	static const char *const names[] = {"NONE", BN_DROP_LIST(X)};
#undef X
	for (int i = 0; i < BN_DROP__MAX; i++) {
		struct bn_drop_stat d;

		bn_map_percpu_sum(k->maps, BN_MAP_drops, i, (uint64_t *)&d);
		if (d.packets)
			print_message("dropped as %s: %llu\n", names[i], d.packets);
	}
}

/* `n` exchanges between two loads of the same programs, both with k's maps. */
static void exchange(struct kenv *e, struct bn_kernel *k, uint32_t ifindex, int n)
{
	struct bn_kernel other = {.maps = k->maps};
	struct bn_kernel_priv p = *k->p;
	const char *const progs[] = {"from_pod", "to_pod"};
	const char *const suffix[] = {"in", "out"};

	memset(p.obj, 0, sizeof(p.obj));
	other.p = &p;
	assert_int_equal(bn_objects_load(&other, &e->opts, NULL), 0);
	for (int i = 0; i < n; i++) {
		for (int d = 0; d < 2; d++) {
			_cleanup_(closep) int link = -1;
			char path[200];

			snprintf(path, sizeof(path), "%s/tcx_%lx_%u_%s", k->p->links,
				 (unsigned long)k->p->netns_cookie, ifindex, suffix[d]);
			link = bpf_obj_get(path);
			assert_true(link >= 0);
			assert_int_equal(bpf_link_update(link, bn_kernel_prog_fd(i & 1 ? k : &other,
										 progs[d]), NULL), 0);
		}
		usleep(2000);
	}
	bn_objects_free(&other);
}

static void del_veth(void)
{
	assert_int_equal(sh("ip link del kernr0"), 0);
}

static void run(struct kenv *e, bool clsact)
{
	_cleanup_(closep) int here = -1, pod = -1;
	pthread_t echo, client;
	struct bn_kernel *k;
	uint64_t in, out;
	uint32_t i;

	if (clsact)
		setenv("BPFNET_TC", "clsact", 1);
	here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	pod = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(sh("ip link add kernr0 type veth peer name eth0 && ip link set eth0 up && "
			    "ip addr add fd00:77::2/64 dev eth0 nodad && "
			    "ip link set kernr0 netns /proc/%d/fd/%d", getpid(), here), 0);
	assert_int_equal(setns(here, CLONE_NEWNET), 0);
	assert_int_equal(sh("ip addr add fd00:77::1/64 dev kernr0 nodad && ip link set kernr0 up"), 0);
	i = if_nametoindex("kernr0");
	k = kenv_open(e);
	open_iface(k, i);
	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);

	memset(&t, 0, sizeof(t));
	t.echo = udp6("fd00:77::1", NULL);
	assert_int_equal(setns(pod, CLONE_NEWNET), 0);
	t.client = udp6(NULL, "fd00:77::1");
	assert_int_equal(setns(here, CLONE_NEWNET), 0);
	pthread_create(&echo, NULL, echo_loop, NULL);
	pthread_create(&client, NULL, client_loop, NULL);
	if (!clsact)
		exchange(e, k, i, EXCHANGES);
	for (int r = 0; r < RESTARTS; r++) {
		bn_kernel_closep(&k);
		k = kenv_open(e);
		assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	}
	t.stop = true;
	pthread_join(client, NULL);
	t.stop_echo = true;
	pthread_join(echo, NULL);
	in = seen(k, BN_HOOK_FROM_POD);
	out = seen(k, BN_HOOK_TO_POD);
	print_message("%s: %lu round trips, %lu lost; seen from_pod %lu, to_pod %lu\n",
		      clsact ? "clsact" : "tcx", t.sent, t.lost, in, out);
	print_drops(k);
	assert_int_equal(t.lost, 0);
	assert_true(t.sent > 1000);
	assert_true(in >= t.sent);
	assert_true(out >= t.sent);
	close(t.echo);
	close(t.client);
	bn_kernel_closep(&k);
	assert_int_equal(bn_kernel_cleanup(e->run, NULL, &(json_t *){NULL}, NULL), 0);
	del_veth();
	unsetenv("BPFNET_TC");
}

static void tcx_without_loss(void **state)
{
	run(*state, false);
}

static void clsact_without_loss(void **state)
{
	run(*state, true);
}

int main(void)
{
	const struct CMUnitTest tcx[] = {cmocka_unit_test_setup(tcx_without_loss, kenv_fresh)};
	const struct CMUnitTest filters[] = {cmocka_unit_test_setup(clsact_without_loss, kenv_fresh)};
	int r = 0;

	if (kenv_tcx())
		r = cmocka_run_group_tests_name("replace", tcx, kenv_setup, kenv_teardown);
	return r + cmocka_run_group_tests_name("replace filters", filters, kenv_setup, kenv_teardown);
}
