// SPDX-License-Identifier: MIT
/* Services at a pod's interface: translation both ways in each protocol, no backend, hairpin,
 * NodePorts, affinity, Maglev.
 */
#include "pod_env.h"
#include "maps/ct_access.h"

/* clang-format off: rows are tables */

static const uint8_t protos[] = {TCP, UDP, SCTP};
static const struct be to_remote[] = {{REMOTE, 8080}};
static const struct be to_remote2[] = {{REMOTE2, 8080}};
static const struct be to_both[] = {{REMOTE, 8080}, {REMOTE2, 8080}};
static const struct be to_b[] = {{B, 8080}};
static const struct be to_a[] = {{A, 8080}};
static const struct be same_port[] = {{REMOTE, 80}};

static void translation(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	for (int i = 0; i < 3; i++) {
		uint8_t p = protos[i];

		svc_put(e, VIP, 80, p, 0, to_remote, 1);
		svc_put(e, VIP2, 80, p, 0, same_port, 1);
		ROWS(e,
		     {"first packet", OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN}, PASS, 0,
		      {A, REMOTE, 1000, 8080, p, SYN}},
		     {"reply", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1000, p, SYN | ACK}, PASS, 0,
		      {VIP, A, 80, 1000, p, SYN | ACK}},
		     {"second packet", OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK}, PASS, 0,
		      {A, REMOTE, 1000, 8080, p, ACK}},
		     {"second reply", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1000, p, ACK, .len = 77},
		      PASS, 0, {VIP, A, 80, 1000, p, ACK, .len = 77}},
		     {"odd length", OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK, .len = 1301}, PASS, 0,
		      {A, REMOTE, 1000, 8080, p, ACK, .len = 1301}},
		     {"same port", OUT_OF(IF_A), {A, VIP2, 1002, 80, p, SYN}, PASS, 0,
		      {A, REMOTE, 1002, 80, p, SYN}},
		     {"ttl is kept for the stack", OUT_OF(IF_A),
		      {A, VIP, 1003, 80, p, SYN, .ttl = 1}, PASS, 0,
		      {A, REMOTE, 1003, 8080, p, SYN, .ttl = 1}},
		     {"in a VLAN", OUT_OF(IF_A), {A, VIP, 1004, 80, p, SYN, .vlan = 1}, PASS, 0,
		      {A, REMOTE, 1004, 8080, p, SYN, .vlan = 1}},
		     {"in two VLANs", OUT_OF(IF_A), {A, VIP, 1004, 80, p, SYN, .vlan = 2}, PASS, 0,
		      {A, REMOTE, 1004, 8080, p, SYN, .vlan = 2}},
		     {"options, extension headers", OUT_OF(IF_A),
		      {A, VIP, 1005, 80, p, SYN, .ext = 3}, PASS, 0,
		      {A, REMOTE, 1005, 8080, p, SYN, .ext = 3}},
		     {"no service", OUT_OF(IF_A), {A, REMOTE, 1001, 8080, p, SYN}, PASS, 0},
		     {"reply of it", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1001, p, SYN | ACK}, PASS});
	}
	ROWS(e,
	     {"UDP without checksum", OUT_OF(IF_A), {A, VIP, 1010, 80, UDP, .nocsum = 1}, PASS, 0,
	      {A, REMOTE, 1010, 8080, UDP, .nocsum = 1}},
	     {"its reply", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1010, UDP, .nocsum = 1}, PASS, 0,
	      {VIP, A, 80, 1010, UDP, .nocsum = 1}},
	     {"empty datagram", OUT_OF(IF_A), {A, VIP, 1011, 80, UDP, .len = NOPAYLOAD}, PASS, 0,
	      {A, REMOTE, 1011, 8080, UDP, .len = NOPAYLOAD}});
	env_free(e);
}

/* A checksum that was wrong must stay wrong. */
static void wrong_checksums_stay_wrong(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	static const int at[] = {16, 6, 8};

	(void)state;
	for (int i = 0; i < 3; i++) {
		svc_put(e, VIP, 80, protos[i], 0, to_remote, 1);
		for (int v6 = 0; v6 < 2; v6++) {
			struct pk in = {A, VIP, 1000, 80, protos[i], SYN};
			struct pk out = {A, REMOTE, 1000, 8080, protos[i], SYN};
			struct run r = OUT_OF(IF_A);
			struct frame f, good;
			struct result res;

			build(&f, &in, v6);
			build(&good, &out, v6);
			f.b[f.l4 + at[i]] ^= 0x55;
			run_frame(e, &r, &f, &res);
			assert_int_equal(res.verdict, PASS);
			assert_int_equal(res.out.len, good.len);
			assert_memory_not_equal(res.out.b + f.l4 + at[i], good.b + f.l4 + at[i],
						protos[i] == SCTP ? 4 : 2);
		}
	}
	env_free(e);
}

static void no_backend(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	uint32_t svc[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		uint8_t p = protos[i];

		svc[i] = svc_put(e, VIP, 80, p, 0, NULL, 0);
		svc_set(e, svc[i], NULL, 0, BN_RANGE_REJECT);
		ROWS(e,
		     {"refused", OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN, .seq = 0x01020304}, REDIR,
		      BN_DROP_NO_BACKEND, .refused = 1},
		     {"refused, long", OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN, .len = 900}, REDIR,
		      BN_DROP_NO_BACKEND, .refused = 1},
		     {"refused, short", OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN, .len = NOPAYLOAD},
		      REDIR, BN_DROP_NO_BACKEND, .refused = 1},
		     {"other port of the address", OUT_OF(IF_A), {A, VIP, 1000, 81, p, SYN}, REDIR,
		      BN_DROP_OTHER_PORT, .refused = 1});
		svc_set(e, svc[i], NULL, 0, BN_RANGE_DROP);
		ROWS(e, {"dropped", OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN}, SHOT,
			 BN_DROP_NO_LOCAL_BACKEND});
		svc_set(e, svc[i], to_remote, 1, 0);
		ROWS(e, {"there is one again", OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN}, PASS, 0,
			 {A, REMOTE, 1000, 8080, p, SYN}});
	}
	ROWS(e,
	     {"TCP in mid-stream is reset", OUT_OF(IF_A),
	      {A, VIP, 1001, 80, TCP, ACK, .seq = 5, .ack = 0x11223344}, REDIR,
	      BN_DROP_CT_MIDSTREAM, .refused = 1},
	     {"FIN in mid-stream is reset", OUT_OF(IF_A),
	      {A, VIP, 1001, 80, TCP, FIN | ACK, .ack = 9}, REDIR, BN_DROP_CT_MIDSTREAM,
	      .refused = 1},
	     {"no reset for a reset", OUT_OF(IF_A), {A, VIP, 1001, 80, TCP, RST}, SHOT,
	      BN_DROP_CT_MIDSTREAM},
	     {"echo request", OUT_OF(IF_A), {A, VIP, 8, 77, ICMP}, SHOT, BN_DROP_UNSUPPORTED},
	     {"other protocol", OUT_OF(IF_A), {A, VIP, 0, 0, 47}, SHOT, BN_DROP_UNSUPPORTED});
	svc_put(e, LB, 80, TCP, BN_SVC_F_EXTERNAL | BN_SVC_F_LOADBALANCER, to_remote, 1);
	ROWS(e,
	     {"LoadBalancer from a pod", OUT_OF(IF_A), {A, LB, 1100, 80, TCP, SYN}, PASS, 0,
	      {A, REMOTE, 1100, 8080, TCP, SYN}},
	     {"other port of it is left alone", OUT_OF(IF_A), {A, LB, 1000, 81, TCP, SYN}, PASS},
	     {"and so is ping", OUT_OF(IF_A), {A, LB, 8, 77, ICMP}, PASS});
	env_free(e);
}

/* Refusals are limited; beyond, the packet is dropped and counted. */
static void refusals_are_limited(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	struct pk p = {A, VIP, 1000, 80, UDP};
	struct run r = OUT_OF(IF_A);
	uint32_t answered = 0, over = 0;
	struct frame f;

	(void)state;
	svc_set(e, svc_put(e, VIP, 80, UDP, 0, NULL, 0), NULL, 0, BN_RANGE_REJECT);
	build(&f, &p, 0);
	for (int i = 0; i < 3000; i++) {
		struct __sk_buff ctx = {.ifindex = r.ifindex};
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f.b, .data_size_in = f.len,
			    .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = 1);

		assert_int_equal(bpf_prog_test_run_opts(
			bpf_program__fd(e->skel->progs.from_pod), &o), 0);
		answered += o.retval == REDIR;
		over += o.retval == SHOT;
	}
	assert_int_equal(answered + over, 3000);
	assert_true(answered >= 200);
	assert_true(over > 0);
	assert_int_equal(drops_of(e, BN_DROP_REJECT_RATE), over);
	assert_int_equal(drops_of(e, BN_DROP_NO_BACKEND), answered);
	env_free(e);
}

static void hairpin(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	for (int i = 0; i < 3; i++) {
		uint8_t p = protos[i];

		svc_put(e, VIP, 80, p, 0, to_a, 1);
		ROWS(e,
		     {"to itself", OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN}, REDIR, 0,
		      {HOST, A, 1000, 8080, p, SYN}, .refused = 3},
		     {"its reply", OUT_OF(IF_A), {A, HOST, 8080, 1000, p, SYN | ACK}, REDIR, 0,
		      {VIP, A, 80, 1000, p, SYN | ACK}, .refused = 3},
		     {"again", OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK}, REDIR, 0,
		      {HOST, A, 1000, 8080, p, ACK}, .refused = 3},
		     {"another pod", OUT_OF(IF_B), {B, VIP, 1000, 80, p, SYN}, PASS, 0,
		      {B, A, 1000, 8080, p, SYN}},
		     {"comes back by the same interface", INTO(IF_A, IF_A),
		      {HOST, A, 1000, 8080, p, ACK}, PASS});
	}
	memset(&state_of(e)->node4, 0, 16);
	memset(&state_of(e)->node6, 0, 16);
	ROWS(e, {"no address to translate to", OUT_OF(IF_A), {A, VIP, 1001, 80, TCP, SYN}, SHOT,
		 BN_DROP_NAT_PORTS});
	env_free(e);
}

static void nodeport(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	for (int i = 0; i < 3; i++) {
		uint8_t p = protos[i];

		svc_put(e, HOST, 30080, p, BN_SVC_F_NODEPORT | BN_SVC_F_EXTERNAL, to_remote, 1);
		ROWS(e,
		     {"NodePort of this node", OUT_OF(IF_A), {A, HOST, 1000, 30080, p, SYN}, PASS, 0,
		      {A, REMOTE, 1000, 8080, p, SYN}},
		     {"reply", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1000, p, ACK}, PASS, 0,
		      {HOST, A, 30080, 1000, p, ACK}},
		     {"again", OUT_OF(IF_A), {A, HOST, 1000, 30080, p, ACK}, PASS, 0,
		      {A, REMOTE, 1000, 8080, p, ACK}},
		     {"another node's is its own", OUT_OF(IF_A), {A, NODE, 1000, 30080, p, SYN}, PASS},
		     {"another port", OUT_OF(IF_A), {A, HOST, 1000, 30081, p, SYN}, PASS});
	}
	env_free(e);
}

static enum who backend_of(struct env *e, const struct pk *p, int v6)
{
	struct run r = OUT_OF(IF_A);
	struct bn_addr a = {};
	struct frame f;
	struct result res;

	if (p->s == B)
		r.ifindex = IF_B;
	build(&f, p, v6);
	run_frame(e, &r, &f, &res);
	assert_int_equal(res.verdict, PASS);
	if (v6)
		memcpy(&a, res.out.b + 14 + 24, 16);
	else
		bn_addr_v4(&a, *(uint32_t *)(res.out.b + 14 + 16));
	for (enum who w = 0; w < WHO__MAX; w++) {
		struct bn_addr b = addr_of(w, v6);

		if (bn_addr_eq(&a, &b))
			return w;
	}
	fail();
	return 0;
}

static void choice(void **state)
{
	struct env *e = env_new(&(struct env_opts){.buckets = 8191});
	uint32_t rnd = svc_put(e, VIP, 80, UDP, 0, to_both, 2);
	uint32_t aff = svc_put(e, VIP2, 80, UDP, 0, to_both, 2);
	uint32_t mag = svc_put(e, LB, 80, UDP, BN_SVC_F_MAGLEV | BN_SVC_F_EXTERNAL, to_both, 2);

	(void)state;
	(void)rnd;
	for (int v6 = 0; v6 < 2; v6++) {
		enum who first, again[64];
		int n[WHO__MAX] = {}, a[WHO__MAX] = {}, m[WHO__MAX] = {};

		((struct bn_svc *)bn_map_at(e->m, BN_MAP_svcs, aff + v6))->affinity_s = 100;
		first = backend_of(e, &(struct pk){A, VIP2, 999, 80, UDP}, v6);
		for (int i = 0; i < 1000; i++) {
			n[backend_of(e, &(struct pk){A, VIP, 1000 + i, 80, UDP}, v6)]++;
			a[backend_of(e, &(struct pk){A, VIP2, 1000 + i, 80, UDP}, v6)]++;
		}
		assert_int_equal(n[REMOTE] + n[REMOTE2], 1000);
		assert_in_range(n[REMOTE], 400, 600);
		assert_int_equal(a[first], 1000);
		/* Maglev: by the flow alone; a record of the same backends elsewhere agrees. */
		for (int i = 0; i < 64; i++)
			m[again[i] = backend_of(e, &(struct pk){A, LB, 1000 + i, 80, UDP}, v6)]++;
		assert_in_range(m[REMOTE], 16, 48);
		(void)mag;
		for (int i = 0; i < 64; i++) {
			struct env *o = i ? NULL : env_new(&(struct env_opts){});

			if (!o)
				break;
			svc_put(o, LB, 80, UDP, BN_SVC_F_MAGLEV | BN_SVC_F_EXTERNAL, to_both, 2);
			for (int k = 0; k < 64; k++)
				assert_int_equal(backend_of(o, &(struct pk){A, LB, 1000 + k, 80, UDP}, v6),
						 again[k]);
			env_free(o);
		}
		/* The chosen one leaves the set: affinity goes to the other. */
		svc_set(e, aff, first == REMOTE ? to_remote2 : to_remote, 1, 0);
		assert_int_not_equal(backend_of(e, &(struct pk){A, VIP2, 5000, 80, UDP}, v6), first);
		svc_set(e, aff, to_both, 2, 0);
		assert_int_not_equal(backend_of(e, &(struct pk){A, VIP2, 5001, 80, UDP}, v6), first);
	}
	env_free(e);
}

static void split_and_ranges(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	uint32_t svc = svc_put(e, LB, 80, TCP,
			       BN_SVC_F_EXTERNAL | BN_SVC_F_SPLIT | BN_SVC_F_SRC_RANGES, to_remote, 1);

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct bn_svc *s = bn_map_at(e->m, BN_MAP_svcs, svc + v6);
		struct bn_src_key k = {.prefixlen = 32 + (v6 ? 64 : 120), .src_set = 5,
				       .addr = addr_of(A, v6)};
		uint32_t one = 1;

		s->range = BN_RANGE(BN_RANGE_DROP, 0, 3); /* outside clients: no local endpoint */
		s->src_set = 5;
		memset(k.addr.b + (v6 ? 8 : 15), 0, v6 ? 8 : 1);
		assert_int_equal(bn_map_put(e->m, BN_MAP_src_ranges, &k, &one), 0);
	}
	ROWS(e, {"a pod gets any endpoint", OUT_OF(IF_A), {A, LB, 1000, 80, TCP, SYN}, PASS, 0,
		 {A, REMOTE, 1000, 8080, TCP, SYN}});
	for (int v6 = 0; v6 < 2; v6++)
		((struct bn_svc *)bn_map_at(e->m, BN_MAP_svcs, svc + v6))->src_set = 6;
	ROWS(e, {"outside its source ranges", OUT_OF(IF_A), {A, LB, 1001, 80, TCP, SYN}, SHOT,
		 BN_DROP_SOURCE_RANGE});
	env_free(e);
}

/* Both pods here and the bypass allowed: straight to the other pod, replies straight back. */
static void bypass(void **state)
{
	struct env *e = env_new(&(struct env_opts){.bypass = true});

	(void)state;
	for (int i = 0; i < 3; i++) {
		uint8_t p = protos[i];

		svc_put(e, VIP, 80, p, 0, to_b, 1);
		ROWS(e,
		     {"to a local pod", OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN}, REDIR, 0,
		      {A, B, 1000, 8080, p, SYN, .ttl = 63}},
		     {"its reply", OUT_OF(IF_B), {B, A, 8080, 1000, p, SYN | ACK}, REDIR, 0,
		      {VIP, A, 80, 1000, p, SYN | ACK, .ttl = 63}},
		     {"again", OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK}, REDIR, 0,
		      {A, B, 1000, 8080, p, ACK, .ttl = 63}},
		     {"at its last hop: the stack says so", OUT_OF(IF_A),
		      {A, VIP, 1000, 80, p, ACK, .ttl = 1}, PASS, 0,
		      {A, B, 1000, 8080, p, ACK, .ttl = 1}},
		     {"the reply at its last hop", OUT_OF(IF_B),
		      {B, A, 8080, 1000, p, ACK, .ttl = 1}, PASS},
		     {"begins at its last hop: the stack", OUT_OF(IF_A),
		      {A, VIP, 1009, 80, p, SYN, .ttl = 1}, PASS, 0,
		      {A, B, 1009, 8080, p, SYN, .ttl = 1}},
		     {"direct", OUT_OF(IF_A), {A, B, 1001, 8080, p, SYN}, REDIR, 0,
		      {A, B, 1001, 8080, p, SYN, .ttl = 63}},
		     {"direct reply", OUT_OF(IF_B), {B, A, 8080, 1001, p, SYN | ACK}, REDIR, 0,
		      {B, A, 8080, 1001, p, SYN | ACK, .ttl = 63}},
		     {"to the outside: the stack", OUT_OF(IF_A), {A, OUT, 1002, 80, p, SYN}, PASS});
	}
	/* The pod comes back behind another interface, then goes for good. */
	iface_put(e, IF_UP, 2, BN_IF_F_PEER | BN_IF_F_BYPASS);
	ep_put(e, B, 301, 2, IF_UP, BN_ADDR_F_POD);
	state_of(e)->epoch++;
	ROWS(e,
	     {"to its new interface", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, ACK}, REDIR, 0,
	      {A, B, 1000, 8080, TCP, ACK, .ttl = 63}},
	     {"its reply from there", OUT_OF(IF_UP), {B, A, 8080, 1000, TCP, ACK}, REDIR, 0,
	      {VIP, A, 80, 1000, TCP, ACK, .ttl = 63}},
	     {"which proves no other sender", OUT_OF(IF_C), {B, A, 8080, 1000, TCP, ACK}, SHOT,
	      BN_DROP_SPOOFED});
	ep_put(e, B, 301, 0, 0, 0);
	state_of(e)->epoch++;
	ROWS(e, {"gone: the stack says so", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, ACK}, PASS, 0,
		 {A, B, 1000, 8080, TCP, ACK}});
	ep_put(e, B, 301, 2, IF_B, BN_ADDR_F_POD);
	state_of(e)->epoch++;
	iface_put(e, IF_A, 1, BN_IF_F_PEER | BN_IF_F_BYPASS | BN_IF_F_BRIDGE);
	iface_put(e, IF_B, 2, BN_IF_F_PEER | BN_IF_F_BYPASS | BN_IF_F_BRIDGE);
	iface_mtu(e, IF_B, 1400);
	ROWS(e, {"the receiver's MTU is smaller: the stack", OUT_OF(IF_A), {A, VIP, 1020, 80, TCP, SYN}, PASS, 0,
		 {A, B, 1020, 8080, TCP, SYN}},
	     {"the sender's is smaller: what comes back may not fit", OUT_OF(IF_B), {B, A, 1020, 80, UDP}, PASS});
	iface_mtu(e, IF_B, 0);
	ROWS(e,
	     {"bridged: no hop", OUT_OF(IF_A), {A, B, 2001, 8080, TCP, SYN}, REDIR},
	     {"bridged reply", OUT_OF(IF_B), {B, A, 8080, 2001, TCP, SYN | ACK}, REDIR},
	     {"bridged, through the service: a hop", OUT_OF(IF_A), {A, VIP, 2002, 80, TCP, SYN},
	      REDIR, 0, {A, B, 2002, 8080, TCP, SYN, .ttl = 63}});
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(translation),
		cmocka_unit_test(wrong_checksums_stay_wrong),
		cmocka_unit_test(no_backend),
		cmocka_unit_test(refusals_are_limited),
		cmocka_unit_test(hairpin),
		cmocka_unit_test(nodeport),
		cmocka_unit_test(choice),
		cmocka_unit_test(split_and_ranges),
		cmocka_unit_test(bypass),
	};

	return cmocka_run_group_tests(tests, net_setup, NULL);
}
