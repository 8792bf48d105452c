// SPDX-License-Identifier: MIT
/* The connection table's own logic (bpf/lib/ct.h, ct_state.h), compiled for user space: floods, full tables,
 * eviction order, state and expiry, with a map and a lock of its own. Run it with SAN=1 too.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "maps/ct.h"
#include "maps/drop.h"

/* What BPF gives: the map, the lock, the names of its compiler. */
#define BN_BPF_PRIV_H
#define BN_BPF_CFG_H
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#pragma GCC diagnostic ignored "-Wunused-function"

static uint64_t cfg_ct_seed[16];
static uint32_t cfg_ct_buckets;
static bool cfg_weak_order = true; /* this processor's order is not the compiler's promise */
static struct bn_ct_bucket *ct_mem;
static struct bn_ct_head *heads_mem;
static char ct, ct_heads; /* the maps: only their addresses count */
static int locked;

static void *table_at(const void *map, uint32_t idx)
{
	if (idx >= cfg_ct_buckets)
		return NULL;
	return map == &ct ? (void *)&ct_mem[idx] : &heads_mem[idx];
}
#define bpf_map_lookup_elem(map, key) table_at(map, *(key))
#define bpf_spin_lock(l) assert_int_equal(locked++, 0)
#define bpf_spin_unlock(l) assert_int_equal(--locked, 0)

#include "bpf/lib/ct_state.h"

static unsigned rnd = 1;

static void table_new(uint32_t buckets)
{
	free(ct_mem);
	free(heads_mem);
	ct_mem = calloc(buckets, sizeof(*ct_mem));
	heads_mem = calloc(buckets, sizeof(*heads_mem));
	assert_non_null(ct_mem);
	assert_non_null(heads_mem);
	cfg_ct_buckets = buckets;
	for (int i = 0; i < 16; i++)
		cfg_ct_seed[i] = (uint64_t)rand_r(&rnd) << 42 ^ (uint64_t)rand_r(&rnd) << 21 ^ rand_r(&rnd);
}

static struct bn_tuple tuple(uint32_t n)
{
	struct bn_tuple t = {};

	bn_addr_v4(&t.src, 0x0100000a);
	bn_addr_v4(&t.dst, 0x0200000a + (n >> 16 << 8));
	t.sport = n;
	t.dport = 80;
	return t;
}

static void fill(struct bn_ct_new *n, const struct bn_tuple *t, uint8_t proto, uint32_t flags,
		 uint16_t slot, uint32_t now)
{
	struct bn_ct_ref r;

	memset(n, 0, sizeof(*n));
	bn_ct_ref(&r, t, proto, 0);
	n->e.key = r.key;
	n->h = r.h;
	n->now_s = now;
	n->e.flags = flags | (r.swapped ? 0 : BN_CT_F_ORIG_A);
	n->e.created = now;
	n->e.slot = slot;
	n->e.expires = now + bn_ct_lifetime(flags, proto);
	n->e.eg_stamp = 5;
}

static int put(const struct bn_tuple *t, uint32_t flags, uint16_t slot, uint32_t now)
{
	struct bn_ct_new n;

	fill(&n, t, BN_PROTO_TCP, flags, slot, now);
	return bn_ct_insert(&n);
}

static struct bn_ct_entry *get(const struct bn_tuple *t, struct bn_ct_hit *hit)
{
	struct bn_ct_hit mine;
	struct bn_ct_ref r;

	hit = hit ? hit : &mine;
	bn_ct_ref(&r, t, BN_PROTO_TCP, 0);
	bn_ct_find(&r, hit);
	return hit->e;
}

static struct bn_tuple flip(const struct bn_tuple *t)
{
	return (struct bn_tuple){t->dst, t->src, t->dport, t->sport, 0};
}

static void both_directions_find_it(void **state)
{
	(void)state;
	table_new(101);
	for (uint32_t i = 1; i < 300; i++) {
		struct bn_tuple t = tuple(i * 7919), back;
		struct bn_ct_hit hit = {};

		if (i & 1)
			t = flip(&t);
		back = flip(&t);
		assert_null(get(&t, NULL));
		assert_int_equal(put(&t, 0, 1, 100), 0);
		assert_non_null(get(&t, &hit));
		assert_false(hit.reply);
		assert_true(bn_ct_same(&hit));
		assert_true(hit.e->eg_stamp == BN_CT_STAMP(5, hit.gen));
		assert_non_null(get(&back, &hit));
		assert_true(hit.reply);
		assert_int_equal(put(&t, 0, 1, 100), 1); /* there already */
	}
}

/* How full it gets before anything is refused. */
static void load_factor(void **state)
{
	uint32_t i, n = 0;

	(void)state;
	table_new(4096);
	for (i = 1; i < 2 * 4096 * BN_CT_WAYS; i++) {
		struct bn_tuple t = tuple(i);

		if (put(&t, BN_CT_F_ASSURED, 1, 100) < 0)
			break;
		n++;
	}
	print_message("first refusal of an established flow at %.1f %% of the table\n",
		      100.0 * n / (4096 * BN_CT_WAYS));
	assert_in_range(n, 4096 * BN_CT_WAYS * 80 / 100, 4096 * BN_CT_WAYS);
}

/* A million SYNs of one pod: not one established flow of others is lost, nor are their new flows
 * refused, and their half-open ones live on.
 */
static void flood(void **state)
{
	uint32_t est = 0, half = 0, fresh = 0, lost = 0;

	(void)state;
	table_new(4096);
	for (uint32_t i = 1; i <= 4096 * BN_CT_WAYS / 2; i++) { /* half of the table */
		struct bn_tuple t = tuple(i);

		assert_int_equal(put(&t, BN_CT_F_ASSURED | BN_CT_F_REPLIED, 1, 100), 0);
	}
	for (uint32_t i = 1; i <= 1000000; i++) {
		struct bn_tuple t = tuple(0x100000 + i);

		assert_in_range((uint32_t)-put(&t, 0, 66, 100 + i / 100000), 0, BN_DROP_CT_FULL);
		if (i % 1000 == 0) { /* a good pod's connection attempts meanwhile */
			struct bn_tuple g = tuple(0x4000000 + i / 1000);

			fresh += !put(&g, 0, 2, 100 + i / 100000);
		}
	}
	for (uint32_t i = 1; i <= 4096 * BN_CT_WAYS / 2; i++) {
		struct bn_tuple t = tuple(i);

		est += !!get(&t, NULL);
	}
	for (uint32_t i = 1; i <= 1000; i++) {
		struct bn_tuple g = tuple(0x4000000 + i);

		half += !!get(&g, NULL);
	}
	lost = fresh - half;
	print_message("flood: %u of %u established, %u of 1000 begun, %u of those lost\n", est, 4096 * BN_CT_WAYS / 2,
		      fresh, lost);
	assert_int_equal(est, 4096 * BN_CT_WAYS / 2);
	assert_true(fresh >= 990);
	assert_true(lost <= 10);
}

static void eviction_order(void **state)
{
	struct bn_tuple t[BN_CT_WAYS];
	struct bn_tuple x = tuple(999);

	(void)state;
	table_new(1); /* both candidates are the one bucket */
	for (int i = 0; i < BN_CT_WAYS; i++) {
		t[i] = tuple(i + 1);
		assert_int_equal(put(&t[i], BN_CT_F_ASSURED, 1, 100), 0);
	}
	assert_int_equal(put(&x, 0, 2, 100), -BN_DROP_CT_FULL);
	/* Half-open ones: of the pod that has most, the oldest. */
	get(&t[2], NULL)->flags &= ~BN_CT_F_ASSURED;
	get(&t[2], NULL)->slot = 7;
	get(&t[3], NULL)->flags &= ~BN_CT_F_ASSURED;
	get(&t[3], NULL)->slot = 8;
	get(&t[3], NULL)->created = 90;
	get(&t[4], NULL)->flags &= ~BN_CT_F_ASSURED;
	get(&t[4], NULL)->slot = 8;
	get(&t[4], NULL)->created = 80;
	assert_int_equal(put(&x, 0, 2, 100), 0);
	assert_null(get(&t[4], NULL));
	assert_non_null(get(&t[3], NULL));
	/* On a tie its own. */
	get(&x, NULL)->flags |= BN_CT_F_ASSURED;
	x = tuple(1000);
	assert_int_equal(put(&x, 0, 7, 100), 0);
	assert_null(get(&t[2], NULL));
	assert_non_null(get(&t[3], NULL));
	/* A closed one before a half-open one, an expired one before that, a free one first. */
	x = tuple(1001);
	get(&t[5], NULL)->flags |= BN_CT_F_CLOSED;
	assert_int_equal(put(&x, 0, 9, 100), 0);
	assert_null(get(&t[5], NULL));
	x = tuple(1002);
	get(&t[1], NULL)->flags |= BN_CT_F_CLOSED;
	get(&t[6], NULL)->expires = 100;
	assert_int_equal(put(&x, 0, 9, 100), 0);
	assert_null(get(&t[6], NULL));
	assert_non_null(get(&t[1], NULL));
	x = tuple(1003);
	heads_mem[0].tag[get(&t[7], NULL) - ct_mem[0].e] = 0;
	assert_int_equal(put(&x, 0, 9, 100), 0);
	assert_non_null(get(&t[1], NULL));
}

/* One that needs room frees what was closed a while ago along with what it takes; not what was closed
 * just now, whose last packets are still under way, and nothing that lives.
 */
static void closed_ones_go_together(void **state)
{
	struct bn_tuple x = tuple(999), t[BN_CT_WAYS];

	(void)state;
	table_new(1);
	for (int i = 0; i < BN_CT_WAYS; i++) {
		struct bn_ct_entry *e;

		t[i] = tuple(i + 1);
		assert_int_equal(put(&t[i], BN_CT_F_ASSURED, 1, 100), 0);
		e = get(&t[i], NULL);
		if (i < 6) { /* closed at 100, 101, ... */
			e->flags |= BN_CT_F_CLOSED;
			e->expires = 100 + i + BN_CT_T_CLOSED_S;
		}
	}
	assert_int_equal(put(&x, 0, 2, 106), 0);
	assert_non_null(get(&x, NULL));
	for (int i = 0; i < 6; i++)
		if (i < 3) /* 6, 5, 4 seconds ago */
			assert_null(get(&t[i], NULL));
		else if (!get(&t[i], NULL)) /* at most the one that was taken */
			assert_int_equal(i, 5);
	for (int i = 6; i < BN_CT_WAYS; i++)
		assert_non_null(get(&t[i], NULL));
}

/* Whoever still holds an entry that another flow has taken notices, and its stamp admits nobody. */
static void taken_over(void **state)
{
	struct bn_tuple a = tuple(1), b = tuple(2);
	struct bn_ct_hit hit, now;

	(void)state;
	table_new(1);
	assert_int_equal(put(&a, 0, 1, 100), 0);
	assert_non_null(get(&a, &hit));
	for (uint32_t i = 0; i < BN_CT_WAYS; i++) {
		b = tuple(i + 2);
		assert_int_equal(put(&b, BN_CT_F_ASSURED, 1, 101), 0);
	}
	assert_null(get(&a, NULL));
	assert_false(bn_ct_same(&hit));
	hit.e->in_stamp = BN_CT_STAMP(9, hit.gen); /* the late writer */
	for (uint32_t i = 0; i < BN_CT_WAYS; i++) {
		b = tuple(i + 2);
		if (get(&b, &now) == hit.e)
			assert_true(hit.e->in_stamp != BN_CT_STAMP(9, now.gen));
	}
}

struct seen {
	uint8_t tcp;
	bool reply;
	uint32_t at;	/* seconds */
	uint32_t flags; /* afterwards, of those that are shared */
	uint32_t left;	/* lifetime */
};

static void states(uint8_t proto, const struct seen *s, size_t n)
{
	struct bn_tuple t = tuple(77);
	struct bn_pkt p = {.proto = proto};
	struct bn_ct_new new;
	struct bn_ct_ref r;
	struct bn_ct_hit hit = {};

	table_new(7);
	fill(&new, &t, proto, 0, 1, 1000);
	assert_int_equal(bn_ct_insert(&new), 0);
	for (size_t i = 0; i < n; i++) {
		bn_ct_ref(&r, &t, proto, 0);
		bn_ct_find(&r, &hit);
		assert_non_null(hit.e);
		p.tcp = s[i].tcp;
		p.now_s = 1000 + s[i].at;
		if (bn_ct_due(&hit, &p))
			bn_ct_track(hit.e, &p, hit.flags, s[i].reply);
		if ((hit.e->flags & BN_CT_SHARED) != s[i].flags || hit.e->expires - p.now_s != s[i].left)
			fail_msg("protocol %d step %zu: flags %x, %u s", proto, i,
				 hit.e->flags & BN_CT_SHARED, hit.e->expires - p.now_s);
	}
}

enum {
	RE = BN_CT_F_REPLIED,
	AS = BN_CT_F_REPLIED | BN_CT_F_ASSURED,
	FO = BN_CT_F_FIN_ORIG,
	FR = BN_CT_F_FIN_REPLY,
	CL = BN_CT_F_CLOSED,
	SYN = BN_TCP_SYN,
	ACK = BN_TCP_ACK,
	FIN = BN_TCP_FIN,
	RST = BN_TCP_RST,
};

static void tcp_states(void **state)
{
	static const struct seen normal[] = {
		{SYN, 0, 1, 0, 60},	       {SYN | ACK, 1, 2, RE, 60},
		{ACK, 0, 3, AS, 86400},	       {ACK, 1, 500, AS, 86400},
		{FIN | ACK, 0, 501, AS | FO, 3600}, {ACK, 1, 900, AS | FO, 3600},
		{FIN | ACK, 1, 901, AS | FO | FR | CL, 30}, {ACK, 0, 902, AS | FO | FR | CL, 30},
	};
	static const struct seen reset[] = {
		{SYN, 0, 1, 0, 60}, {RST | ACK, 1, 1, CL, 30},
	};
	static const struct seen false_reset[] = {
		{SYN, 0, 1, 0, 60},	  {SYN | ACK, 1, 2, RE, 60}, {ACK, 0, 3, AS, 86400},
		{RST, 1, 4, AS | CL, 30}, {ACK, 0, 5, AS, 86400},
	};
	static const struct seen unanswered[] = {
		{SYN, 0, 1, 0, 60}, {SYN, 0, 3, 0, 60}, {ACK, 0, 4, 0, 60},
	};

	(void)state;
	states(BN_PROTO_TCP, normal, sizeof(normal) / sizeof(*normal));
	states(BN_PROTO_TCP, reset, sizeof(reset) / sizeof(*reset));
	states(BN_PROTO_TCP, false_reset, sizeof(false_reset) / sizeof(*false_reset));
	states(BN_PROTO_TCP, unanswered, sizeof(unanswered) / sizeof(*unanswered));
}

static void other_states(void **state)
{
	static const struct seen dns[] = {{0, 0, 0, 0, 30}, {0, 1, 1, RE, 60}, {0, 0, 2, RE, 60}};
	static const struct seen stream[] = {
		{0, 0, 0, 0, 30}, {0, 1, 1, RE, 60}, {0, 0, 3, AS, 180}, {0, 1, 10, AS, 180}};
	static const struct seen echo[] = {{0, 0, 0, 0, 30}, {0, 1, 1, RE, 30}, {0, 0, 9, RE, 30}};
	static const struct seen gre[] = {{0, 0, 0, 0, 60}, {0, 1, 1, AS, 600}};
	static const struct seen sctp[] = {
		{SYN, 0, 0, 0, 60}, {ACK, 1, 0, AS, 600}, {RST, 0, 5, AS | CL, 30}};

	(void)state;
	states(BN_PROTO_UDP, dns, sizeof(dns) / sizeof(*dns));
	states(BN_PROTO_UDP, stream, sizeof(stream) / sizeof(*stream));
	states(BN_PROTO_ICMP, echo, sizeof(echo) / sizeof(*echo));
	states(BN_PROTO_ICMP6, echo, sizeof(echo) / sizeof(*echo));
	states(47, gre, sizeof(gre) / sizeof(*gre));
	states(BN_PROTO_SCTP, sctp, sizeof(sctp) / sizeof(*sctp));
}

/* The two entries of a translated flow share state and expiry, whichever sees a packet. */
static void partners(void **state)
{
	struct bn_tuple orig = tuple(1), post = tuple(2);
	struct bn_pkt p = {.proto = BN_PROTO_TCP};
	struct bn_ct_hit a, b;
	struct bn_ct_new n;

	(void)state;
	table_new(31);
	fill(&n, &post, BN_PROTO_TCP, BN_CT_F_NAT, 1, 1000);
	n.e.xs = orig.src, n.e.xd = orig.dst, n.e.xsp = orig.sport, n.e.xdp = orig.dport;
	assert_int_equal(bn_ct_insert(&n), 0);
	fill(&n, &orig, BN_PROTO_TCP, BN_CT_F_NAT | BN_CT_F_ALIAS, 1, 1000);
	n.e.xs = post.src, n.e.xd = post.dst, n.e.xsp = post.sport, n.e.xdp = post.dport;
	assert_int_equal(bn_ct_insert(&n), 0);
	p.tcp = SYN | ACK;
	p.now_s = 1001;
	get(&post, &b);
	bn_ct_track(b.e, &p, b.flags, 1);
	get(&orig, &a);
	assert_int_equal(a.flags & BN_CT_SHARED, RE);
	p.tcp = ACK;
	p.now_s = 1002;
	bn_ct_track(a.e, &p, a.flags, 0);
	get(&post, &b);
	assert_int_equal(b.flags & BN_CT_SHARED, AS);
	assert_int_equal(a.e->expires, 1002 + 86400);
	assert_int_equal(b.e->expires, 1002 + 86400);
	p.tcp = RST;
	bn_ct_track(b.e, &p, b.flags, 1);
	get(&orig, &a);
	assert_true(a.flags & CL);
	assert_int_equal(a.e->expires, 1002 + 30);
}

/* The keyed hash: flows that differ in one bit spread evenly over the buckets. */
static void spread(void **state)
{
	uint32_t n[64] = {}, m[64] = {};

	(void)state;
	table_new(64);
	for (uint32_t i = 0; i < 64000; i++) {
		struct bn_tuple t = tuple(i);
		struct bn_ct_ref r;

		bn_ct_ref(&r, &t, BN_PROTO_UDP, 0);
		n[r.h.bucket[0]]++;
		m[r.h.bucket[1]]++;
		assert_true(r.h.tag);
	}
	for (int i = 0; i < 64; i++) {
		assert_in_range(n[i], 700, 1300);
		assert_in_range(m[i], 700, 1300);
	}
}

static bool at_home(uint32_t i)
{
	struct bn_tuple t = tuple(i);
	struct bn_ct_entry *e = get(&t, NULL);
	struct bn_ct_ref r;

	assert_non_null(e);
	bn_ct_ref(&r, &t, BN_PROTO_TCP, 0);
	return e == &ct_mem[r.h.bucket[0]].e[bn_ct_home(r.h.tag)];
}

/* Where bn_ct_fetch looks before the tags are read: most flows of a table that is not full stand there, and
 * two thirds of those that are the first to come after all have expired (a flow whose first bucket is full goes
 * to the second one if that was swept already).
 */
static void homes(void **state)
{
	uint32_t there = 0, seen[BN_CT_WAYS] = {};
	const uint32_t n = 2800, late = 100 + 2 * BN_CT_T_HALF_S;

	(void)state;
	table_new(1000);
	for (uint32_t i = 1; i <= n; i++) {
		struct bn_tuple t = tuple(i);
		struct bn_ct_ref r;

		assert_int_equal(put(&t, 0, 1, 100), 0);
		bn_ct_ref(&r, &t, BN_PROTO_TCP, 0);
		assert_in_range(bn_ct_home(r.h.tag), 0, BN_CT_WAYS - 1);
		seen[bn_ct_home(r.h.tag)]++;
		bn_ct_fetch(&r.h);
		bn_ct_ahead(&r.h); /* of a way that is taken: changes nothing */
		there += at_home(i);
	}
	assert_in_range(there, n * 85 / 100, n);
	for (uint32_t w = 0; w < BN_CT_WAYS; w++)
		assert_in_range(seen[w], n / BN_CT_WAYS / 2, n / BN_CT_WAYS * 2);
	for (uint32_t i = n + 1; i <= 20 * n; i++) {
		struct bn_tuple t = tuple(i);

		put(&t, 0, 1, 100);
	}
	there = 0;
	for (uint32_t i = 100 * n; i < 101 * n; i++) {
		struct bn_tuple t = tuple(i);

		assert_int_equal(put(&t, 0, 1, late), 0);
		there += at_home(i);
	}
	assert_in_range(there, n * 60 / 100, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_directions_find_it),
		cmocka_unit_test(load_factor),
		cmocka_unit_test(flood),
		cmocka_unit_test(eviction_order),
		cmocka_unit_test(closed_ones_go_together),
		cmocka_unit_test(taken_over),
		cmocka_unit_test(tcp_states),
		cmocka_unit_test(other_states),
		cmocka_unit_test(partners),
		cmocka_unit_test(spread),
		cmocka_unit_test(homes),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	free(ct_mem);
	free(heads_mem);
	return r;
}
