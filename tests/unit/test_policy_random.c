// SPDX-License-Identifier: MIT
/* Random clusters: what the matrices say, what the trace says and what the plain reading of the API
 * says must be the same. BN_SEED and BN_ROUNDS choose others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/trace.h"
#include "tests/unit/cluster.h"
#include "tests/unit/oracle.h"

static uint64_t env_num(const char *name, uint64_t def)
{
	const char *s = getenv(name);

	return s ? strtoull(s, NULL, 0) : def;
}

static bool same_family(json_t *answer)
{
	const char *e = json_string_value(json_object_get(answer, "error"));

	return !e || !strstr(e, "no address family in common");
}

static const char *dir_verdict(json_t *answer, const char *dir)
{
	return json_string_value(json_object_get(json_object_get(answer, dir), "verdict"));
}

/* The oracle looks at first addresses; the trace chooses a family that both have. So ask it about
 * the addresses that were chosen.
 */
static void check(struct bn_tracer *t, json_t *cluster, const char *from, const char *to,
		  const char *proto, int port, unsigned *checked)
{
	static const char *const dirs[] = {"egress", "ingress"};
	struct bn_trace_query q = {.from = from, .to = to, .port = (uint16_t)port};
	json_t *answer = NULL;
	const char *a, *b;
	int r;

	assert_int_equal(bn_proto_parse(proto, &q.proto), 0);
	r = bn_tracer_run(t, &q, &answer);
	assert_non_null(answer);
	if (oracle_allows(cluster, from, to, proto, port) < 0) {
		assert_true(r < 0);
		json_decref(answer);
		return;
	}
	if (r < 0 && !same_family(answer)) {
		json_decref(answer);
		return;
	}
	if (r < 0)
		print_error("%s -> %s %s %d: %s\n", from, to, proto, port, json_dumps(answer, 0));
	assert_true(r >= 0);
	a = json_string_value(json_object_get(json_object_get(answer, "from"), "address"));
	b = json_string_value(json_object_get(json_object_get(answer, "to"), "address"));
	/* A pod of the host network is its node, also for the rule about the own node. */
	if (!strcmp(json_string_value(json_object_get(json_object_get(answer, "from"), "kind")),
		    "host-network pod"))
		a = from;
	for (unsigned d = 0; d < 2; d++) {
		int want = oracle_direction(cluster, dirs[d], a, b, proto, port);
		bool got = !strcmp(dir_verdict(answer, dirs[d]), "allow");

		if (want != got)
			print_error("%s: %s -> %s %s %d: oracle %d\n%s\n", dirs[d], a, b, proto,
				    port, want, json_dumps(answer, JSON_INDENT(1)));
		assert_int_equal(want, got);
	}
	json_decref(answer);
	++*checked;
}

static void random_clusters(void **state _unused_)
{
	uint64_t seed = env_num("BN_SEED", 7), rounds = env_num("BN_ROUNDS", 1500);
	unsigned checked = 0;

	for (uint64_t n = 0; n < rounds; n++) {
		struct rng r = {.s = seed * 1000003 + n};
		_cleanup_(bn_store_freep) struct bn_store *s = NULL;
		_cleanup_(bn_tracer_freep) struct bn_tracer *t = NULL;
		json_t *cluster = cluster_random(&r, 3 + rng_below(&r, 14), rng_below(&r, 12));

		assert_int_equal(bn_store_new(&s), 0);
		cluster_load(s, cluster);
		assert_int_equal(bn_tracer_new(s, &t), 0);
		for (unsigned k = 0; k < 200; k++) {
			char from[64], to[64];
			const char *proto;
			int port;

			cluster_endpoint(&r, cluster, from);
			cluster_endpoint(&r, cluster, to);
			cluster_port(&r, &proto, &port);
			check(t, cluster, from, to, proto, port, &checked);
		}
		json_decref(cluster);
	}
	print_message("%u questions agree\n", checked);
	assert_true(checked > rounds * 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_clusters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
