// SPDX-License-Identifier: MIT
/* Flows to services at a pod's interface: their backend leaves, the same tuple begins anew, tuples that conflict,
 * with other services' and with what goes to the backend directly.
 */
#include "pod_env.h"
#include "maps/ct_access.h"

/* clang-format off: rows are tables */

static const uint8_t protos[] = {TCP, UDP, SCTP};
static const struct be to_remote[] = {{REMOTE, 8080}};
static const struct be to_remote2[] = {{REMOTE2, 8080}};
static const struct be to_both[] = {{REMOTE, 8080}, {REMOTE2, 8080}};

static void backend_leaves(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	uint32_t svc[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		uint8_t p = protos[i];
		bool moves = p == UDP;

		svc[i] = svc_put(e, VIP, 80, p, 0, to_remote, 1);
		ROWS(e,
		     {"first", OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN}, PASS, 0,
		      {A, REMOTE, 1000, 8080, p, SYN}},
		     {"reply", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1000, p, SYN | ACK}, PASS, 0,
		      {VIP, A, 80, 1000, p, SYN | ACK}});
		svc_set(e, svc[i], to_both, 2, 0);
		ROWS(e, {"set grows", OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK}, PASS, 0,
			 {A, REMOTE, 1000, 8080, p, ACK}});
		svc_set(e, svc[i], to_remote2, 1, 0);
		ROWS(e,
		     {"backend left", OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK}, PASS, 0,
		      {A, moves ? REMOTE2 : REMOTE, 1000, 8080, p, ACK}},
		     {"its replies", INTO(IF_A, IF_UP),
		      {moves ? REMOTE2 : REMOTE, A, 8080, 1000, p, ACK}, PASS, 0,
		      {VIP, A, 80, 1000, p, ACK}});
		svc_set(e, svc[i], NULL, 0, BN_RANGE_REJECT);
		if (moves)
			ROWS(e, {"none left", OUT_OF(IF_A), {A, VIP, 1000, 80, p}, REDIR,
				 BN_DROP_NO_BACKEND, .refused = 1});
		else
			ROWS(e, {"none left", OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK}, PASS, 0,
				 {A, REMOTE, 1000, 8080, p, ACK}});
		svc_set(e, svc[i], to_remote, 1, 0);
		ROWS(e, {"one again", OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK}, PASS, 0,
			 {A, REMOTE, 1000, 8080, p, ACK}});
		svc_del(e, svc[i]);
		if (moves)
			/* Then it is an address like any other: the flow is not held to its past. */
			ROWS(e, {"service deleted", OUT_OF(IF_A), {A, VIP, 1000, 80, p}, PASS},
			     {"and again", OUT_OF(IF_A), {A, VIP, 1000, 80, p}, PASS});
		else
			ROWS(e, {"service deleted", OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK}, PASS,
				 0, {A, REMOTE, 1000, 8080, p, ACK}});
	}
	env_free(e);
}

/* A TCP client that begins again from the same port gets a backend of today. */
static void new_life_new_backend(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	uint32_t svc = svc_put(e, VIP, 80, TCP, 0, to_remote, 1);

	(void)state;
	ROWS(e,
	     {"syn", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, SYN}, PASS, 0, {A, REMOTE, 1000, 8080, TCP, SYN}},
	     {"syn ack", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1000, TCP, SYN | ACK}, PASS, 0,
	      {VIP, A, 80, 1000, TCP, SYN | ACK}},
	     {"ack", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, ACK}, PASS, 0, {A, REMOTE, 1000, 8080, TCP, ACK}},
	     {"fin", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, FIN | ACK}, PASS, 0,
	      {A, REMOTE, 1000, 8080, TCP, FIN | ACK}},
	     {"fin back", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1000, TCP, FIN | ACK}, PASS, 0,
	      {VIP, A, 80, 1000, TCP, FIN | ACK}},
	     {"last ack", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, ACK}, PASS, 0, {A, REMOTE, 1000, 8080, TCP, ACK}});
	svc_set(e, svc, to_remote2, 1, 0);
	ROWS(e,
	     {"new life", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, SYN}, PASS, 0, {A, REMOTE2, 1000, 8080, TCP, SYN}},
	     {"its reply", INTO(IF_A, IF_UP), {REMOTE2, A, 8080, 1000, TCP, SYN | ACK}, PASS, 0,
	      {VIP, A, 80, 1000, TCP, SYN | ACK}},
	     {"reset", INTO(IF_A, IF_UP), {REMOTE2, A, 8080, 1000, TCP, RST}, PASS, 0,
	      {VIP, A, 80, 1000, TCP, RST}});
	svc_set(e, svc, to_remote, 1, 0);
	ROWS(e, {"after a reset", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, SYN}, PASS, 0,
		 {A, REMOTE, 1000, 8080, TCP, SYN}});
	svc_set(e, svc, to_remote2, 1, 0);
	ROWS(e, {"backend gone while half-open", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, SYN}, PASS, 0,
		 {A, REMOTE2, 1000, 8080, TCP, SYN}});
	env_free(e);
}

static uint16_t sport_of(const struct frame *f)
{
	return f->b[f->l4] << 8 | f->b[f->l4 + 1];
}

/* Two flows of one pod that would be the same tuple behind the translation. */
static void tuple_conflicts(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	for (int i = 0; i < 3; i++) {
		uint8_t p = protos[i];

		svc_put(e, VIP, 80, p, 0, to_remote, 1);
		svc_put(e, VIP2, 80, p, 0, to_remote, 1);
		for (int v6 = 0; v6 < 2; v6++) {
			struct pk via1 = {A, VIP, 1000, 80, p, SYN}, via2 = {A, VIP2, 1000, 80, p, SYN};
			struct pk direct = {A, REMOTE, 1000, 8080, p, SYN};
			struct run out = OUT_OF(IF_A), in = INTO(IF_A, IF_UP);
			struct frame f, want;
			struct result res;
			uint16_t port[2];

			build(&f, &via1, v6);
			build(&want, &direct, v6);
			expect(e, "first", &out, &f, PASS, 0, &want);
			for (int k = 0; k < 2; k++) { /* the other service, then direct */
				struct pk got = direct, reply = {REMOTE, A, 8080, 0, p, ACK};
				struct pk back = {k ? REMOTE : VIP2, A, k ? 8080 : 80, 1000, p, ACK};

				build(&f, k ? &direct : &via2, v6);
				run_frame(e, &out, &f, &res);
				assert_int_equal(res.verdict, PASS);
				res.out.l4 = f.l4;
				port[k] = sport_of(&res.out);
				assert_int_not_equal(port[k], 1000);
				got.sp = port[k];
				build(&want, &got, v6);
				expect(e, "stays", &out, &f, PASS, 0, &want);
				reply.dp = port[k];
				build(&f, &reply, v6);
				build(&want, &back, v6);
				expect(e, "its reply", &in, &f, PASS, 0, &want);
			}
			assert_int_not_equal(port[0], port[1]);
			build(&f, &(struct pk){REMOTE, A, 8080, 1000, p, ACK}, v6);
			build(&want, &(struct pk){VIP, A, 80, 1000, p, ACK}, v6);
			expect(e, "reply of the first", &in, &f, PASS, 0, &want);
		}
	}
	env_free(e);
}

/* A direct flow first: the translated one leaves its port. */
static void conflict_with_direct(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	svc_put(e, VIP, 80, TCP, 0, to_remote, 1);
	for (int v6 = 0; v6 < 2; v6++) {
		struct pk direct = {A, REMOTE, 1000, 8080, TCP, SYN}, via = {A, VIP, 1000, 80, TCP, SYN};
		struct run out = OUT_OF(IF_A), in = INTO(IF_A, IF_UP);
		struct frame f, want;
		struct result res;

		build(&f, &direct, v6);
		expect(e, "direct", &out, &f, PASS, 0, &f);
		build(&f, &via, v6);
		run_frame(e, &out, &f, &res);
		assert_int_equal(res.verdict, PASS);
		res.out.l4 = f.l4;
		assert_int_not_equal(sport_of(&res.out), 1000);
		build(&f, &(struct pk){REMOTE, A, 8080, sport_of(&res.out), TCP, SYN | ACK}, v6);
		build(&want, &(struct pk){VIP, A, 80, 1000, TCP, SYN | ACK}, v6);
		expect(e, "reply", &in, &f, PASS, 0, &want);
		build(&f, &(struct pk){REMOTE, A, 8080, 1000, TCP, SYN | ACK}, v6);
		expect(e, "direct reply", &in, &f, PASS, 0, &f);
	}
	env_free(e);
}

/* The client port that a packet of A leaves with, which is answered; `back`: what the answer becomes. */
static uint16_t asked(struct env *e, struct pk q, struct pk back, int v6)
{
	struct run out = OUT_OF(IF_A), in = INTO(IF_A, IF_UP);
	struct frame f, want;
	struct result res;
	uint16_t port;

	build(&f, &q, v6);
	run_frame(e, &out, &f, &res);
	assert_int_equal(res.verdict, PASS);
	res.out.l4 = f.l4;
	port = sport_of(&res.out);
	build(&f, &(struct pk){REMOTE, A, 8080, port, UDP}, v6);
	build(&want, &back, v6);
	expect(e, "answered", &in, &f, PASS, 0, &want);
	return port;
}

/* UDP ports that were used for one question each, and are used for another one in another way: while the first may be
 * answered yet the second leaves its port; later it keeps it. A flow that lasts keeps its own.
 */
static void port_used_again(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	svc_put(e, VIP, 80, UDP, 0, to_remote, 1);
	svc_put(e, VIP2, 80, UDP, 0, to_remote, 1);
#define DIRECT(port) asked(e, (struct pk){A, REMOTE, port, 8080, UDP}, (struct pk){REMOTE, A, 8080, port, UDP}, v6)
#define VIA(vip, port) asked(e, (struct pk){A, vip, port, 80, UDP}, (struct pk){vip, A, 80, port, UDP}, v6)
	for (int v6 = 0; v6 < 2; v6++) {
		for (uint16_t port = 1000; port < 1004; port++)
			assert_int_equal(DIRECT(port), port);
		for (uint16_t port = 2000; port < 2004; port++)
			assert_int_equal(VIA(VIP, port), port);
		assert_int_not_equal(VIA(VIP, 1000), 1000);
		assert_int_not_equal(DIRECT(2000), 2000);
		assert_int_not_equal(VIA(VIP2, 2000), 2000);
	}
	sleep(3);
	for (int v6 = 0; v6 < 2; v6++) { /* these have lasted */
		assert_int_equal(DIRECT(1003), 1003);
		assert_int_equal(VIA(VIP, 2003), 2003);
	}
	sleep(3);
	for (int v6 = 0; v6 < 2; v6++) {
		assert_int_equal(VIA(VIP, 1002), 1002);
		assert_int_not_equal(DIRECT(1002), 1002); /* another flow has it now */
		assert_int_equal(DIRECT(2002), 2002);
		assert_int_equal(VIA(VIP2, 2001), 2001);
		assert_int_not_equal(VIA(VIP, 1003), 1003);
		assert_int_not_equal(DIRECT(2003), 2003);
		assert_int_equal(DIRECT(1003), 1003);
		assert_int_equal(VIA(VIP, 2003), 2003);
	}
	env_free(e);
}

/* Every entry of flows to the address. */
static void forget(struct env *e, enum who to, int v6)
{
	struct bn_addr a = addr_of(to, v6);
	struct bn_ct_flow *v;
	size_t n, gone;

	assert_int_equal(bn_ct_flows(e->m, &v, &n), 0);
	for (size_t i = 0; i < n; i++)
		if (bn_addr_eq(&v[i].dst, &a))
			assert_int_equal(bn_ct_flush(e->m, &v[i], 1, &gone), 0);
	free(v);
}

/* A direct flow that was moved to another port stays there, also when whoever had its own port is gone. */
static void pushed_aside(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint8_t p = i ? SCTP : TCP;

		svc_put(e, VIP, 80, p, 0, to_remote, 1);
		for (int v6 = 0; v6 < 2; v6++) {
			struct pk via = {A, VIP, 1000, 80, p, SYN}, direct = {A, REMOTE, 1000, 8080, p, SYN};
			struct run out = OUT_OF(IF_A), in = INTO(IF_A, IF_UP);
			struct frame f, want;
			struct result res;
			uint16_t port;

			build(&f, &via, v6);
			build(&want, &(struct pk){A, REMOTE, 1000, 8080, p, SYN}, v6);
			expect(e, "through the service", &out, &f, PASS, 0, &want);
			build(&f, &direct, v6);
			run_frame(e, &out, &f, &res);
			assert_int_equal(res.verdict, PASS);
			res.out.l4 = f.l4;
			port = sport_of(&res.out);
			assert_int_not_equal(port, 1000);
			build(&f, &(struct pk){REMOTE, A, 8080, port, p, SYN | ACK}, v6);
			build(&want, &(struct pk){REMOTE, A, 8080, 1000, p, SYN | ACK}, v6);
			expect(e, "its answer", &in, &f, PASS, 0, &want);
			forget(e, VIP, v6);
			for (int k = 0; k < 2; k++) {
				build(&f, &(struct pk){A, REMOTE, 1000, 8080, p, ACK}, v6);
				build(&want, &(struct pk){A, REMOTE, port, 8080, p, ACK}, v6);
				expect(e, "alone now", &out, &f, PASS, 0, &want);
				build(&f, &(struct pk){REMOTE, A, 8080, port, p, ACK}, v6);
				build(&want, &(struct pk){REMOTE, A, 8080, 1000, p, ACK}, v6);
				expect(e, "answered", &in, &f, PASS, 0, &want);
			}
			build(&f, &direct, v6);
			expect(e, "a new connection has its own port", &out, &f, PASS, 0, &f);
		}
	}
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(backend_leaves),
		cmocka_unit_test(new_life_new_backend),
		cmocka_unit_test(tuple_conflicts),
		cmocka_unit_test(conflict_with_direct),
		cmocka_unit_test(port_used_again),
		cmocka_unit_test(pushed_aside),
	};

	return cmocka_run_group_tests(tests, net_setup, NULL);
}
