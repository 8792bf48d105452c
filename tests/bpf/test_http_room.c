// SPDX-License-Identifier: MIT
/* The room for HTTP connections and for what is kept of them, and each pod's share of it. */
#include "tests/bpf/http_env.h"

#define H "Host: a\r\n"
static const char rules_text[] = "[{\"method\":\"GET\",\"path\":{\"type\":\"PathPrefix\",\"value\":\"/ok\"}}]";

/* All three pods have the rules. */
static struct env *three_pods(uint32_t conns)
{
	struct env *e = http_env_of(rules_text, conns);

	for (uint32_t slot = 2; slot <= 3; slot++)
		pod_of(e, slot)->word = pod_of(e, 1)->word;
	state_of(e)->epoch++;
	return e;
}

/* No room: the connection is refused, those that are followed go on, and what ends makes room. However many
 * a pod asks for, it gets no more than is left.
 */
static void table_full(void **state)
{
	struct env *e = three_pods(8);
	struct bn_http_share s;
	struct conn c[10];

	(void)state;
	for (int i = 0; i < 8; i++) {
		c[i] = begin_to(e, i & 1, i < 4 ? A : i < 6 ? B : C);
		assert_int_equal(data(&c[i], 0, "GET /", 5, ACK)->verdict, i == 7 ? SHOT : PASS);
		if (i != 3)
			continue;
		c[8] = begin(e, 0);
		DROPS(data(&c[8], 0, "GET /", 5, ACK), HTTP_SHARE);
	}
	assert_int_equal(bn_http_conns_count(e->m), 7);
	s = bn_http_share_get(e->m, 1);
	assert_int_equal(s.conns, 4);
	assert_int_equal(s.refused, 1);
	assert_true(s.refused_s);
	assert_int_equal(bn_http_share_get(e->m, 0).conns, 7);
	assert_int_equal(data(&c[3], 5, "ok HTTP/1.1\r\n" H "\r\n", 24, ACK)->verdict, PASS);
	for (int i = 0; i < 3; i++)
		over(&c[i]);
	assert_int_equal(bn_http_share_get(e->m, 1).conns, 1);
	assert_int_equal(data(&c[8], 0, "GET /", 5, ACK)->verdict, PASS);
	DROPS(data(&c[8], 0, "PUT /", 5, ACK), HTTP_CHANGED);
	for (int i = 3; i < 9; i++)
		if (i != 7)
			over(&c[i]);
	assert_int_equal(bn_http_share_get(e->m, 0).conns, 0);
	env_free(e);
}

/* A pod whose clients leave gaps: others have room for theirs, and the pod itself for heads in sequence. */
static void blocks_shared(void **state)
{
	static const char good[] = "GET /ok HTTP/1.1\r\n" H "\r\n";
	char many[1280] = {}, large[1400];
	struct env *e = three_pods(0);
	struct conn hog[2], c;
	uint32_t at, n = 0;

	(void)state;
	for (int i = 0; i < 2; i++) {
		hog[i] = begin(e, i);
		assert_int_equal(data(&hog[i], 0, "G", 1, ACK)->verdict, PASS);
	}
	for (; n < 2; n++)
		for (at = 256; at < 4 << 20 && data(&hog[n], at, many, sizeof(many), ACK)->verdict == PASS; at += sizeof(many))
			;
	n = bn_http_share_get(e->m, 1).blocks;
	assert_in_range(n, 65536 / 3 - 8, 65536 / 3 + 8);
	DROPS(data(&hog[1], at, many, sizeof(many), ACK), HTTP_SHARE);
	assert_int_equal(bn_http_share_get(e->m, 1).refused, 2);
	assert_int_equal(bn_map_count(e->m, BN_MAP_http_blocks), n);
	memset(large, 'x', sizeof(large));
	memcpy(large, "GET /ok HTTP/1.1\r\n" H "A: ", 30);
	c = begin(e, 0);
	assert_int_equal(data(&c, 0, large, sizeof(large), ACK)->verdict, PASS);
	over(&c);
	c = begin_to(e, 1, B);
	assert_int_equal(data(&c, 0, good, 1, ACK)->verdict, PASS);
	assert_int_equal(data(&c, 5, good + 5, 20, ACK)->verdict, PASS);
	over(&c);
	over(&hog[0]);
	over(&hog[1]);
	assert_int_equal(bn_http_share_get(e->m, 0).blocks, 0);
	assert_int_equal(bn_http_share_get(e->m, 1).blocks, 0);
	assert_int_equal(bn_map_count(e->m, BN_MAP_http_blocks), 0);
	env_free(e);
}

/* A pod is gone without a word to anybody: whoever gets its slot does not inherit what it took. */
static void slot_given_again(void **state)
{
	struct env *e = three_pods(0);
	struct bn_http_share s;
	struct conn c[9];
	char part[300];

	(void)state;
	memset(part, 'x', sizeof(part));
	for (int i = 0; i < 9; i++) {
		c[i] = begin_to(e, i & 1, i < 6 ? A : B);
		assert_int_equal(data(&c[i], 0, "GET /", 5, ACK)->verdict, PASS);
		for (uint32_t at = 600; at < 600 * (uint32_t)i; at += 600)
			assert_int_equal(data(&c[i], at, part, sizeof(part), ACK)->verdict, PASS);
	}
	((struct bn_http_share *)bn_map_at(e->m, BN_MAP_http_shares, 1))->refused = 3;
	((struct bn_http_share *)bn_map_at(e->m, BN_MAP_http_shares, 1))->refused_s = 5;
	assert_true(bn_http_share_get(e->m, 1).blocks > 10);
	assert_int_equal(bn_http_share_reset(e->m, 1), 0);
	s = bn_http_share_get(e->m, 1);
	assert_true(!s.conns && !s.blocks && !s.refused && !s.refused_s);
	s = bn_http_share_get(e->m, 0);
	assert_int_equal(s.conns, 3);
	assert_int_equal(bn_http_conns_count(e->m), 3);
	assert_int_equal(bn_map_count(e->m, BN_MAP_http_blocks), s.blocks);
	assert_int_equal(bn_http_share_get(e->m, 2).blocks, s.blocks);
	for (int i = 6; i < 9; i++)
		over(&c[i]);
	assert_int_equal(bn_http_share_get(e->m, 0).conns, 0);
	assert_int_equal(bn_http_share_get(e->m, 0).blocks, 0);
	env_free(e);
}

/* No room, and two connections that nobody has spoken on for longer than flows are kept: on one the server just did. */
static void idle(void **state)
{
	struct env *e = three_pods(8);
	struct bn_http_conn f;
	struct conn c[5];

	(void)state;
	for (int i = 0; i < 4; i++) {
		c[i] = begin(e, i & 1);
		assert_int_equal(data(&c[i], 0, "GET /ok HTTP/1.1\r\n" H "\r\n", 29, ACK)->verdict, PASS);
	}
	for (int i = 0; i < 2; i++) {
		struct bn_http_key k = {.client = addr_of(REMOTE, c[i].v6), .server = addr_of(A, c[i].v6),
					.cport = htons(c[i].sport), .sport = htons(PORT), .side = BN_DIR_INGRESS};

		assert_int_equal(bn_map_get(e->m, BN_MAP_http_conns, &k, &f), 0);
		f.seen_s -= 90000;
		assert_int_equal(bn_map_put(e->m, BN_MAP_http_conns, &k, &f), 0);
	}
	answer(&c[0], 29, "HTTP/1.1 200 OK\r\n", 17, ACK);
	c[4] = begin(e, 0);
	assert_int_equal(data(&c[4], 0, "GET /", 5, ACK)->verdict, PASS);
	assert_int_equal(followed(&c[0], &f), 0);
	assert_int_equal(followed(&c[1], &f), -ENOENT);
	assert_int_equal(followed(&c[4], &f), 0);
	assert_int_equal(bn_http_share_get(e->m, 1).conns, 4);
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(idle),
		cmocka_unit_test(table_full),
		cmocka_unit_test(slot_given_again),
		cmocka_unit_test(blocks_shared),
	};

	return cmocka_run_group_tests(tests, links_up, NULL);
}
