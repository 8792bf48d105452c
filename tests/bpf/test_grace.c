// SPDX-License-Identifier: MIT
/* bn_maps_grace returns only when a program that had begun is through: in a system call and in softirq
 * on the other CPU. (Preempted on this one it cannot be caught where the kernel does not preempt.)
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "grace.skel.h"
#include "tests/bpf/kern_env.h"

#define ROUNDS 10

static struct grace_bpf *g;
static volatile bool stop;

static int setup(void **state)
{
	if (kenv_setup(state) < 0)
		return -1;
	g = grace_bpf__open_and_load();
	return g ? 0 : -1;
}

static int teardown(void **state)
{
	grace_bpf__destroy(g);
	return kenv_teardown(state);
}

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	assert_int_equal(pthread_setaffinity_np(pthread_self(), sizeof(set), &set), 0);
}

static void *by_syscall(void *arg)
{
	char pkt[64] = {};
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = pkt, .data_size_in = sizeof(pkt), .repeat = 1);

	pin_to((long)arg);
	while (!stop)
		bpf_prog_test_run_opts(bpf_program__fd(g->progs.slow), &o);
	return NULL;
}

static void *by_softirq(void *arg)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	pin_to((long)arg);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	while (!stop)
		sendto(fd, "x", 1, 0, (void *)&a, sizeof(a));
	close(fd);
	return NULL;
}

static void rounds(void *(*load)(void *), long cpu)
{
	double waited = 0;
	pthread_t t;

	stop = false;
	assert_int_equal(pthread_create(&t, NULL, load, (void *)cpu), 0);
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t before;
		double begin;

		/* Caught in the middle: by then this run is number before + 1. */
		begin = now();
		while (!g->bss->running)
			assert_true(now() - begin < 10);
		before = g->bss->runs;
		begin = now();
		assert_int_equal(bn_maps_grace(), 0);
		waited += now() - begin;
		assert_true(g->bss->runs > before || !g->bss->running);
	}
	stop = true;
	pthread_join(t, NULL);
	print_message("cpu %ld: %.1f ms each\n", cpu, waited / ROUNDS * 1e3);
}

static void system_calls(void **state _unused_)
{
	pin_to(0);
	rounds(by_syscall, 1);
}

static void softirqs(void **state _unused_)
{
	LIBBPF_OPTS(bpf_tc_opts, o, .prog_fd = bpf_program__fd(g->progs.slow));
	LIBBPF_OPTS(bpf_tc_hook, h, .ifindex = if_nametoindex("lo"), .attach_point = BPF_TC_INGRESS);

	assert_int_equal(bpf_tc_hook_create(&h), 0);
	assert_int_equal(bpf_tc_attach(&h, &o), 0);
	pin_to(0);
	rounds(by_softirq, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(system_calls),
		cmocka_unit_test(softirqs),
	};

	return cmocka_run_group_tests_name("grace", tests, setup, teardown);
}
