// SPDX-License-Identifier: MIT
/* Random clusters: the packet program's verdict on a packet is the compiler's, in both directions,
 * both families, with TCP, UDP, SCTP and ICMP. BN_SEED and BN_ROUNDS choose others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <bpf/libbpf.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "loader/model/verify.h"
#include "maps/util.h"
#include "policy/intern.h"
#include "policy/trace.h"
#include "tests/unit/cluster.h"

static uint64_t env_num(const char *name, uint64_t def)
{
	const char *s = getenv(name);

	return s ? strtoull(s, NULL, 0) : def;
}

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, fmt, ap) : 0;
}

static unsigned compare(json_t *answer, const char *dir)
{
	json_t *d = json_object_get(answer, dir), *k = json_object_get(d, "kernel");

	if (!k)
		return 0; /* own traffic, own node's, no pod */
	if (json_object_get(k, "error") || !json_is_true(json_object_get(k, "agrees")))
		print_error("%s: %s\n", dir, json_dumps(answer, JSON_INDENT(1)));
	assert_null(json_object_get(k, "error"));
	assert_true(json_is_true(json_object_get(k, "agrees")));
	return 1;
}

static void kernel_agrees(void **state _unused_)
{
	uint64_t seed = env_num("BN_SEED", 5), rounds = env_num("BN_ROUNDS", 60);
	_cleanup_(bn_verify_freep) struct bn_verify *v = NULL;
	unsigned checked = 0, denied = 0;

	assert_int_equal(bn_verify_new(NULL, -1, -1, &v), 0);
	for (uint64_t n = 0; n < rounds; n++) {
		struct rng r = {.s = seed * 424242 + n};
		_cleanup_(bn_store_freep) struct bn_store *s = NULL;
		_cleanup_(bn_tracer_freep) struct bn_tracer *t = NULL;
		json_t *cluster = cluster_random(&r, 4 + rng_below(&r, 12), 2 + rng_below(&r, 10));

		assert_int_equal(bn_store_new(&s), 0);
		cluster_load(s, cluster);
		assert_int_equal(bn_tracer_new(s, &t), 0);
		bn_tracer_verify(t, bn_verify_ops(v));
		for (unsigned k = 0; k < 40; k++) {
			struct bn_trace_query q = {};
			char from[64], to[64];
			json_t *answer = NULL;
			const char *proto;
			int port;

			q.from = cluster_endpoint(&r, cluster, from);
			q.to = cluster_endpoint(&r, cluster, to);
			cluster_port(&r, &proto, &port);
			assert_int_equal(bn_proto_parse(proto, &q.proto), 0);
			q.port = (uint16_t)port;
			if (rng_chance(&r, 10)) {
				q.proto = BN_PROTO_ICMP;
				q.port = 0;
			}
			if (bn_tracer_run(t, &q, &answer) >= 0) {
				checked += compare(answer, "egress") + compare(answer, "ingress");
				denied += !strcmp(
					json_string_value(json_object_get(answer, "verdict")),
					"deny");
			}
			json_decref(answer);
		}
		json_decref(cluster);
	}
	print_message("%u packets, the kernel agrees; %u connections denied\n", checked, denied);
	assert_true(checked > rounds * 5);
	assert_true(denied > rounds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernel_agrees),
	};

	libbpf_set_print(quiet);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
