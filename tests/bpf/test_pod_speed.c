// SPDX-License-Identifier: MIT
/* What a packet costs in the program alone (BPF_PROG_TEST_RUN, caches warm). The figures are printed;
 * the limits only catch a mistake of an order of magnitude, on a busy machine too.
 */
#include "pod_env.h"

static double cost_frame(struct env *e, const struct run *r, const struct frame *in)
{
	struct frame f = *in, out;
	struct __sk_buff ctx = {.ifindex = r->ifindex, .ingress_ifindex = r->in_ifindex};
	double best = 1e9;

	for (int i = 0; i < 7; i++) {
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f.b, .data_size_in = f.len,
			    .data_out = out.b, .data_size_out = sizeof(out.b), .ctx_in = &ctx,
			    .ctx_size_in = sizeof(ctx), .repeat = 200000);

		assert_int_equal(bpf_prog_test_run_opts(
			bpf_program__fd(r->to_pod ? e->skel->progs.to_pod : e->skel->progs.from_pod), &o), 0);
		assert_int_not_equal(o.retval, SHOT);
		if (o.duration < best)
			best = o.duration;
	}
	return best;
}

static double cost(struct env *e, const struct run *r, const struct pk *p, int v6)
{
	struct frame f;

	build(&f, p, v6);
	return cost_frame(e, r, &f);
}

static void not_ip(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	struct frame f = {.len = 60};

	(void)state;
	memcpy(f.b, "\xff\xff\xff\xff\xff\xff\2\0\0\0\0\2\x08\x06", 14);
	print_message("ARP: %.0f ns\n", cost_frame(e, &(struct run)OUT_OF(IF_A), &f));
	env_free(e);
}

/* One packet is run over and over as it comes out of the last run: let what the translation makes of
 * it be translated back by the same path.
 */
static void ping_pong(struct env *e)
{
	struct ct_full b;
	uint32_t zero = 0;

	ct_get(e->m, zero, &b);
	for (int i = 0; i < BN_CT_WAYS; i++)
		if (b.tag[i] && (b.e[i].flags & BN_CT_F_NAT))
			b.e[i].flags |= BN_CT_F_ALIAS;
	ct_put(e->m, zero, &b);
}

static void established(void **state)
{
	static const struct be there[] = {{VIP2, 81}};
	struct env *e = env_new(&(struct env_opts){.buckets = 1});
	double ns;

	(void)state;
	svc_put(e, VIP, 80, TCP, 0, there, 1);
	for (int v6 = 0; v6 < 2; v6++) {
		struct run out = OUT_OF(IF_A), in = INTO(IF_A, IF_UP);
		struct pk syn = {A, VIP, 1000, 80, TCP, SYN}, ack = {A, VIP, 1000, 80, TCP, ACK};
		struct pk sa = {VIP2, A, 81, 1000, TCP, SYN | ACK}, data = {VIP2, A, 81, 1000, TCP, ACK};
		struct pk dsyn = {A, REMOTE, 2000, 80, TCP, SYN}, dack = {A, REMOTE, 2000, 80, TCP, ACK};
		struct pk dsa = {REMOTE, A, 80, 2000, TCP, SYN | ACK}, ddata = {REMOTE, A, 80, 2000, TCP, ACK};
		struct frame f;
		struct result res;

		build(&f, &syn, v6);
		run_frame(e, &out, &f, &res);
		build(&f, &sa, v6);
		run_frame(e, &in, &f, &res);
		build(&f, &ack, v6);
		run_frame(e, &out, &f, &res);
		ping_pong(e);
		build(&f, &dsyn, v6);
		run_frame(e, &out, &f, &res);
		build(&f, &dsa, v6);
		run_frame(e, &in, &f, &res);
		ns = cost(e, &out, &ack, v6);
		print_message("v%d from_pod, established, translated: %.0f ns\n", v6 ? 6 : 4, ns);
		assert_true(ns < 2000);
		(void)data;
		print_message("v%d from_pod, established, direct: %.0f ns\n", v6 ? 6 : 4,
			      cost(e, &out, &dack, v6));
		print_message("v%d to_pod, direct: %.0f ns\n", v6 ? 6 : 4, cost(e, &in, &ddata, v6));
	}
	env_free(e);
}

/* New flows: a test run each, so that what is printed is the difference between two kinds. */
static double first_packets(struct env *e, enum who dst, uint16_t dport, uint8_t proto)
{
	struct __sk_buff ctx = {.ifindex = IF_A};
	struct frame f, out;
	uint64_t ns = 0;
	int n = 0;

	for (int i = 0; i < 20000; i++) {
		struct pk p = {A, dst, 1000 + i, dport, proto, SYN};
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f.b, .data_out = out.b,
			    .data_size_out = sizeof(out.b), .ctx_in = &ctx, .ctx_size_in = sizeof(ctx),
			    .repeat = 1);

		build(&f, &p, 0);
		o.data_size_in = f.len;
		assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(e->skel->progs.from_pod), &o), 0);
		if (o.duration < 5000) { /* not interrupted */
			ns += o.duration;
			n++;
		}
	}
	assert_true(n > 10000);
	return (double)ns / n;
}

static void new_flows(void **state)
{
	static const struct be to_remote[] = {{REMOTE, 8080}};
	struct env *e = env_new(&(struct env_opts){.buckets = 40961});

	(void)state;
	svc_put(e, VIP, 80, TCP, 0, to_remote, 1);
	print_message("new flow, direct: %.0f ns\n", first_packets(e, REMOTE2, 80, TCP));
	print_message("new flow, through a service: %.0f ns\n", first_packets(e, VIP, 80, TCP));
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(not_ip),
		cmocka_unit_test(established),
		cmocka_unit_test(new_flows),
	};

	return cmocka_run_group_tests(tests, net_setup, NULL);
}
