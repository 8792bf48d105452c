// SPDX-License-Identifier: MIT
/* The connection table under the real programs: lifetimes, full tables, floods; and that the object
 * loads with every flag both ways.
 */
#include "pod_env.h"

/* clang-format off: rows are tables */

/* Makes every entry look `s` seconds older. */
static void age(struct env *e, uint32_t s)
{
	for (uint32_t i = 0; i < e->m->entries[BN_MAP_ct]; i++) {
		struct ct_full b;
		bool any = false;

		ct_get(e->m, i, &b);
		for (int k = 0; k < BN_CT_WAYS; k++) {
			if (!b.tag[k])
				continue;
			b.e[k].expires -= s;
			b.e[k].created -= s;
			any = true;
		}
		if (any)
			ct_put(e->m, i, &b);
	}
}

static uint32_t entries(struct env *e)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < e->m->entries[BN_MAP_ct]; i++) {
		struct ct_full b;

		ct_get(e->m, i, &b);
		for (int k = 0; k < BN_CT_WAYS; k++)
			n += !!b.tag[k];
	}
	return n;
}

static const struct be to_remote[] = {{REMOTE, 8080}};
static const struct be to_remote2[] = {{REMOTE2, 8080}};

/* What a flow still knows after s seconds without a packet: does it keep its (former) backend? */
static void lifetimes(void **state)
{
	static const struct {
		const char *name;
		uint8_t proto;
		int packets; /* 1: one, 2: and an answer, 3: and another */
		uint32_t lives, dead;
	} rows[] = {
		{"TCP, SYN only", TCP, 1, 57, 62},
		{"TCP, half-open", TCP, 2, 57, 62},
		{"TCP, established", TCP, 3, 86390, 86402},
		{"SCTP, begun", SCTP, 1, 57, 62},
		{"SCTP, up", SCTP, 3, 590, 602},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (int dead = 0; dead < 2; dead++) {
			struct env *e = env_new(&(struct env_opts){.buckets = 61});
			uint8_t p = rows[i].proto;
			uint32_t svc = svc_put(e, VIP, 80, p, 0, to_remote, 1);

			for (int v6 = 0; v6 < 2; v6++) {
				const struct row r[] = {
					{rows[i].name, OUT_OF(IF_A), {A, VIP, 1000, 80, p, SYN}, PASS, 0,
					 {A, REMOTE, 1000, 8080, p, SYN}},
					{rows[i].name, INTO(IF_A, IF_UP),
					 {REMOTE, A, 8080, 1000, p, SYN | ACK}, PASS, 0,
					 {VIP, A, 80, 1000, p, SYN | ACK}},
					{rows[i].name, OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK}, PASS, 0,
					 {A, REMOTE, 1000, 8080, p, ACK}},
				};

				for (int k = 0; k < rows[i].packets; k++)
					row_run(e, &r[k], v6);
			}
			svc_set(e, svc, to_remote2, 1, 0);
			age(e, dead ? rows[i].dead : rows[i].lives);
			if (p == TCP && dead)
				ROWS(e, {rows[i].name, OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK, .ack = 1},
					 REDIR, BN_DROP_CT_MIDSTREAM, .refused = 1});
			else
				ROWS(e, {rows[i].name, OUT_OF(IF_A), {A, VIP, 1000, 80, p, ACK}, PASS, 0,
					 {A, dead ? REMOTE2 : REMOTE, 1000, 8080, p, ACK}});
			env_free(e);
		}
	}
}

/* An entry that is not used goes away by itself, and its room is used again. */
static void room_is_reused(void **state)
{
	struct env *e = env_new(&(struct env_opts){.buckets = 16, .no_events = true});
	struct run r = OUT_OF(IF_A);
	uint32_t refused[2] = {};

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 1000; i++) {
			struct pk p = {A, OUT, 1000 + i, 80, UDP};
			struct result res;
			struct frame f;

			build(&f, &p, i & 1);
			run_frame(e, &r, &f, &res);
			refused[round] += res.verdict == SHOT;
		}
		assert_int_equal(refused[round], 0); /* one-packet flows give way to newer ones */
		age(e, 40);
	}
	assert_in_range(entries(e), 16 * BN_CT_WAYS / 2, 16 * BN_CT_WAYS);
	env_free(e);
}

/* Established flows fill the table: the next one is refused and counted, they all go on. */
static void full(void **state)
{
	struct env *e = env_new(&(struct env_opts){.buckets = 16, .no_events = true});
	struct run out = OUT_OF(IF_A), in = INTO(IF_A, IF_UP), other = OUT_OF(IF_B);
	uint32_t ok[300], n = 0, refused = 0;
	struct result res;
	struct frame f;

	(void)state;
	for (int i = 0; i < 300; i++) {
		struct pk syn = {A, OUT, 1000 + i, 80, TCP, SYN}, sa = {OUT, A, 80, 1000 + i, TCP, SYN | ACK};
		struct pk ack = {A, OUT, 1000 + i, 80, TCP, ACK};

		build(&f, &syn, i & 1);
		run_frame(e, &out, &f, &res);
		if (res.verdict == SHOT) {
			assert_int_equal(res.drops[BN_DROP_CT_FULL], 1);
			refused++;
			continue;
		}
		build(&f, &sa, i & 1);
		expect(e, "syn ack", &in, &f, PASS, 0, &f);
		build(&f, &ack, i & 1);
		expect(e, "ack", &out, &f, PASS, 0, &f);
		ok[n++] = i;
	}
	assert_true(refused > 50);
	assert_in_range(n, 16 * BN_CT_WAYS * 3 / 4, 16 * BN_CT_WAYS);
	for (int i = 0; i < 2000; i++) { /* another pod's SYNs change nothing */
		struct pk syn = {B, OUT, 1000 + i, 80, TCP, SYN};

		build(&f, &syn, i & 1);
		run_frame(e, &other, &f, &res);
	}
	for (uint32_t i = 0; i < n; i++) {
		struct pk ack = {A, OUT, 1000 + ok[i], 80, TCP, ACK};

		build(&f, &ack, ok[i] & 1);
		expect(e, "lives", &out, &f, PASS, 0, &f);
	}
	env_free(e);
}

/* A flood of SYNs through the real program; the established flow of another pod keeps its backend. */
static void flood(void **state)
{
	struct env *e = env_new(&(struct env_opts){.buckets = 64, .no_events = true});
	uint32_t svc = svc_put(e, VIP, 80, TCP, 0, to_remote, 1);
	struct __sk_buff ctx = {.ifindex = IF_B};
	struct frame f;

	(void)state;
	ROWS(e,
	     {"syn", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, SYN}, PASS, 0, {A, REMOTE, 1000, 8080, TCP, SYN}},
	     {"syn ack", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1000, TCP, SYN | ACK}, PASS, 0,
	      {VIP, A, 80, 1000, TCP, SYN | ACK}},
	     {"ack", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, ACK}, PASS, 0, {A, REMOTE, 1000, 8080, TCP, ACK}});
	svc_set(e, svc, to_remote2, 1, 0);
	for (int i = 0; i < 100000; i++) {
		struct pk syn = {B, i & 1 ? OUT : VIP, i / 2, 80, TCP, SYN};
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f.b, .ctx_in = &ctx, .ctx_size_in = sizeof(ctx),
			    .repeat = 1);

		build(&f, &syn, i >> 1 & 1);
		o.data_size_in = f.len;
		assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(e->skel->progs.from_pod), &o), 0);
	}
	ROWS(e,
	     {"as before", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, ACK}, PASS, 0, {A, REMOTE, 1000, 8080, TCP, ACK}},
	     {"its reply", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1000, TCP, ACK}, PASS, 0,
	      {VIP, A, 80, 1000, TCP, ACK}},
	     {"a new one", OUT_OF(IF_A), {A, VIP, 2000, 80, TCP, SYN}, PASS, 0, {A, REMOTE2, 2000, 8080, TCP, SYN}});
	env_free(e);
}

/* Of a flow that is not established one of the two entries may be given up: its next packet makes the
 * flow anew, and replies are translated again.
 */
static void half_a_flow(void **state)
{
	static const uint8_t protos[] = {TCP, UDP, SCTP};
	struct env *e = env_new(&(struct env_opts){.buckets = 61});

	(void)state;
	for (int n = 0; n < 3; n++)
		svc_put(e, VIP, 80, protos[n], 0, to_remote, 1);
	for (int lose_alias = 0; lose_alias < 2; lose_alias++) {
		for (int n = 0; n < 3; n++) {
			uint8_t p = protos[n];
			uint16_t sp = 1000 + lose_alias;

			ROWS(e, {"first", OUT_OF(IF_A), {A, VIP, sp, 80, p, SYN}, PASS, 0,
				 {A, REMOTE, sp, 8080, p, SYN}});
			for (uint32_t i = 0; i < e->m->entries[BN_MAP_ct]; i++) {
				struct ct_full b;

				ct_get(e->m, i, &b);
				for (int k = 0; k < BN_CT_WAYS; k++)
					if (b.tag[k] && !!(b.e[k].flags & BN_CT_F_ALIAS) == lose_alias)
						b.tag[k] = 0;
				ct_put(e->m, i, &b);
			}
			ROWS(e,
			     {"again", OUT_OF(IF_A), {A, VIP, sp, 80, p, SYN}, PASS, 0,
			      {A, REMOTE, sp, 8080, p, SYN}},
			     {"reply", INTO(IF_A, IF_UP), {REMOTE, A, 8080, sp, p, SYN | ACK}, PASS, 0,
			      {VIP, A, 80, sp, p, SYN | ACK}});
		}
	}
	env_free(e);
}

/* Counters of an entry, and of the hook. */
static void counters(void **state)
{
	struct env *e = env_new(&(struct env_opts){.buckets = 1});
	struct ct_full b;
	uint64_t sum[4];
	uint32_t zero = 0;
	int seen = 0;

	(void)state;
	svc_put(e, VIP, 80, TCP, 0, to_remote, 1);
	row_run(e, &(struct row){"syn", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, SYN}, PASS, 0,
				 {A, REMOTE, 1000, 8080, TCP, SYN}}, 0);
	row_run(e, &(struct row){"syn ack", INTO(IF_A, IF_UP), {REMOTE, A, 8080, 1000, TCP, SYN | ACK},
				 PASS, 0, {VIP, A, 80, 1000, TCP, SYN | ACK}}, 0);
	row_run(e, &(struct row){"ack", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, ACK}, PASS, 0,
				 {A, REMOTE, 1000, 8080, TCP, ACK}}, 0);
	ct_get(e->m, zero, &b);
	for (int k = 0; k < BN_CT_WAYS; k++) {
		const struct bn_ct_entry *n = &b.e[k];

		if (!b.tag[k])
			continue;
		seen++;
		assert_true(n->flags & BN_CT_F_ASSURED);
		assert_int_equal(n->ifindex, IF_A);
		assert_int_equal(n->slot, 1);
		if (n->flags & BN_CT_F_ALIAS) { /* the first packet is counted too */
			assert_int_equal(n->packets[0], 2);
			assert_int_equal(n->bytes[0], 2 * (14 + 20 + 20 + 32));
		} else {
			assert_int_equal(n->packets[1], 1);
			assert_int_equal(n->bytes[1], 14 + 20 + 20 + 32);
		}
	}
	assert_int_equal(seen, 2);
	assert_int_equal(bn_map_percpu_sum(e->m, BN_MAP_hook_stats, BN_HOOK_FROM_POD, sum), 0);
	assert_int_equal(sum[0], 2);
	assert_int_equal(sum[1], 2 * 86);
	assert_int_equal(sum[2], 2);
	assert_int_equal(sum[3], 1);
	env_free(e);
}

/* A dead branch is not verified: the object has to load with each flag both ways. */
static void loads_either_way(void **state)
{
	struct bn_maps *m = NULL;

	(void)state;
	assert_int_equal(bn_maps_create(NULL, &m), 0);
	for (int i = 0; i < 4; i++) {
		struct env_opts o = {.bypass = i & 1, .no_events = i & 2};
		struct pod_bpf *s = NULL;

		assert_int_equal(pod_load(m, &o, &s), 0);
		pod_bpf__destroy(s);
	}
	bn_maps_freep(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lifetimes),
		cmocka_unit_test(room_is_reused),
		cmocka_unit_test(full),
		cmocka_unit_test(flood),
		cmocka_unit_test(half_a_flow),
		cmocka_unit_test(counters),
		cmocka_unit_test(loads_either_way),
	};

	return cmocka_run_group_tests(tests, net_setup, NULL);
}
