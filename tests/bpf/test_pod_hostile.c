// SPDX-License-Identifier: MIT
/* What a hostile pod tries against admission: mid-stream packets as door openers, ICMP errors and
 * floods that have another pod's policy asked, its victim's own address, flows older than a service.
 */
#include "pod_errors.h"

/* clang-format off: rows are tables */

static void pods_set(struct env *e, uint32_t slot, uint32_t in, uint32_t out)
{
	pod_of(e, slot)->word = BN_POD_WORD(in, out);
	state_of(e)->epoch++;
}

/* B's ingress is closed, its egress open: a packet in mid-stream passes, and no SYN after it. */
static void a_syn_behind_an_ack(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	pods_set(e, 2, BN_POL_CLOSED, BN_POL_OPEN);
	ROWS(e,
	     {"SYN", INTO(IF_B, IF_UP), {REMOTE, B, 1000, 80, TCP, SYN}, SHOT, BN_DROP_POLICY_INGRESS},
	     {"ACK", INTO(IF_B, IF_UP), {REMOTE, B, 1000, 80, TCP, ACK}, PASS},
	     {"SYN behind it", INTO(IF_B, IF_UP), {REMOTE, B, 1000, 80, TCP, SYN}, SHOT,
	      BN_DROP_POLICY_INGRESS},
	     {"SYN-ACK", INTO(IF_B, IF_UP), {REMOTE, B, 1001, 80, TCP, SYN | ACK}, PASS},
	     {"SYN behind that", INTO(IF_B, IF_UP), {REMOTE, B, 1001, 80, TCP, SYN}, SHOT,
	      BN_DROP_POLICY_INGRESS},
	     {"a pod's ACK", OUT_OF(IF_A), {A, B, 1002, 80, TCP, ACK}, PASS},
	     {"comes in", INTO(IF_B, IF_A), {A, B, 1002, 80, TCP, ACK}, PASS},
	     {"its SYN", OUT_OF(IF_A), {A, B, 1002, 80, TCP, SYN}, PASS},
	     {"does not", INTO(IF_B, IF_A), {A, B, 1002, 80, TCP, SYN}, SHOT,
	      BN_DROP_POLICY_INGRESS});
	env_free(e);
}

/* A's flow to B is revoked; neither A nor C may have it admitted again by their own policies. */
static void errors_about_others(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	struct pk sent = {A, B, 1000, 80, UDP}, ans = {B, A, 80, 1000, UDP};

	(void)state;
	for (int i = 0; i < 2; i++) { /* once for each family */
		pods_set(e, 2, BN_POL_OPEN, BN_POL_OPEN);
		ROWS(e, {"flow", OUT_OF(IF_A), sent, PASS}, {"flow in", INTO(IF_B, IF_A), sent, PASS},
		     {"reply", OUT_OF(IF_B), ans, PASS}, {"reply in", INTO(IF_A, IF_B), ans, PASS});
		pods_set(e, 2, BN_POL_CLOSED, BN_POL_OPEN);
		err_run(e, &(struct err_row){"about its own packet", OUT_OF(IF_A), {A, B}, sent, PASS}, i);
		err_run(e, &(struct err_row){"to itself", OUT_OF(IF_A), {A, A}, sent, PASS}, i);
		err_run(e, &(struct err_row){"of a third", OUT_OF(IF_C), {C, A}, sent, PASS}, i);
		row_run(e, &(struct row){"still revoked", INTO(IF_B, IF_A), sent, SHOT,
					 BN_DROP_POLICY_INGRESS}, i);
	}
	env_free(e);
}

/* A bridge floods A's frame for B (to a MAC that nobody has) to C, too. */
static void floods(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	struct pk sent = {A, B, 1000, 80, UDP}, ans = {B, A, 80, 1000, UDP};
	struct pk in = {REMOTE, B, 1000, 80, UDP}, out = {B, REMOTE, 80, 1000, UDP};

	(void)state;
	for (int i = 0; i < 2; i++) {
		pods_set(e, 2, BN_POL_OPEN, BN_POL_OPEN);
		ROWS(e, {"flow", OUT_OF(IF_A), sent, PASS}, {"flow in", INTO(IF_B, IF_A), sent, PASS},
		     {"reply", OUT_OF(IF_B), ans, PASS}, {"reply in", INTO(IF_A, IF_B), ans, PASS});
		pods_set(e, 2, BN_POL_CLOSED, BN_POL_CLOSED);
		row_run(e, &(struct row){"out", OUT_OF(IF_A), sent, PASS}, i);
		row_run(e, &(struct row){"flooded", INTO(IF_C, IF_A), sent, PASS}, i);
		row_run(e, &(struct row){"still revoked", INTO(IF_B, IF_A), sent, SHOT,
					 BN_DROP_POLICY_INGRESS}, i);
		row_run(e, &(struct row){"a new one flooded", INTO(IF_C, IF_UP), in, PASS}, i);
		row_run(e, &(struct row){"B answers none", OUT_OF(IF_B), out, SHOT,
					 BN_DROP_POLICY_EGRESS}, i);
	}
	env_free(e);
}

static void ones_own_address(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	pods_set(e, 2, BN_POL_CLOSED, BN_POL_OPEN);
	ROWS(e,
	     {"from outside", INTO(IF_B, IF_UP), {B, B, 1000, 80, UDP}, SHOT, BN_DROP_POLICY_INGRESS},
	     {"back to it", INTO(IF_B, IF_B), {B, B, 1000, 80, UDP}, PASS});
	env_free(e);
}

/* The first packet went out before the service was known; the socket keeps its port. */
static void older_than_the_service(void **state)
{
	static const struct be be[] = {{REMOTE, 8080}};
	static const uint8_t protos[] = {UDP, TCP, SCTP};

	(void)state;
	for (int i = 0; i < 3; i++) {
		uint8_t p = protos[i];
		struct env *e = env_new(&(struct env_opts){});

		ROWS(e, {"no service yet", OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN}, PASS});
		svc_put(e, VIP, 80, p, 0, be, 1);
		ROWS(e,
		     {"a service now", OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN}, PASS, 0,
		      {A, REMOTE, 1000, 8080, p, SYN}},
		     {"its reply", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1000, p, SYN | ACK}, PASS, 0,
		      {VIP, A, 80, 1000, p, SYN | ACK}});
		env_free(e);
	}
}

/* A solicitation with the hop limit that is due, to the other end of the world. */
static void discovery_that_is_none(void **state)
{
	static const enum who to[] = {OUT, REMOTE, B, HOST, LINKLOCAL, ALLNODES};
	struct env *e = env_new(&(struct env_opts){});
	struct frame f;

	(void)state;
	pods_set(e, 1, BN_POL_OPEN, BN_POL_CLOSED);
	for (size_t i = 0; i < ARRAY_SIZE(to); i++) {
		build(&f, &(struct pk){A, to[i], 135, 0, ICMP, .ttl = 255}, 1);
		if (i < 2)
			expect(e, "far", &(struct run)OUT_OF(IF_A), &f, SHOT, BN_DROP_POLICY_EGRESS, NULL);
		else
			expect(e, "near", &(struct run)OUT_OF(IF_A), &f, PASS, 0, &f);
	}
	env_free(e);
}

/* A packet in a packet, to what would unpack it: the source inside is whatever the pod likes. */
static void packets_in_packets(void **state)
{
	static const enum who nodes[] = {HOST, NODE, MCAST, LINKLOCAL, ALLNODES};
	static const enum who others[] = {B, REMOTE, OUT};
	static const struct {
		uint8_t proto;
		uint16_t port;
		int verdict;
	} kinds[] = {{UDP, 4789, SHOT}, {UDP, 8472, SHOT}, {UDP, 6081, SHOT}, {4, 0, SHOT},
		     {41, 0, SHOT},	{47, 0, SHOT},	   {UDP, 4790, PASS}, {50, 0, PASS}};
	struct env *e = env_new(&(struct env_opts){});
	struct frame f;

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
		for (int v6 = 0; v6 < 2; v6++) {
			for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
				bool only6 = nodes[i] == LINKLOCAL || nodes[i] == ALLNODES;
				int verdict = kinds[k].verdict;

				if (only6 && !v6)
					continue;
				build(&f, &(struct pk){A, nodes[i], 1000, kinds[k].port, kinds[k].proto}, v6);
				expect(e, "to a node", &(struct run)OUT_OF(IF_A), &f, verdict,
				       verdict == SHOT ? BN_DROP_TUNNEL : 0, verdict == SHOT ? NULL : &f);
			}
			for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
				build(&f, &(struct pk){A, others[i], 1000, kinds[k].port, kinds[k].proto}, v6);
				expect(e, "elsewhere", &(struct run)OUT_OF(IF_A), &f, PASS, 0, &f);
			}
		}
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_syn_behind_an_ack),
		cmocka_unit_test(errors_about_others),
		cmocka_unit_test(floods),
		cmocka_unit_test(ones_own_address),
		cmocka_unit_test(discovery_that_is_none),
		cmocka_unit_test(older_than_the_service),
		cmocka_unit_test(packets_in_packets),
	};

	return cmocka_run_group_tests(tests, net_setup, NULL);
}
