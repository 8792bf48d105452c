/* SPDX-License-Identifier: MIT */
/* The connection table as `ct list` and `ct flush` see it, on a table of our own. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "maps/ct_access.h"
#include "tests/bpf/ct_full.h"
#include "maps/util.h"
#include "policy/object.h"

#define BUCKETS 64

static uint32_t now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec;
}

static int setup(void **state)
{
	struct bn_maps_sizes sizes = { .entries = { [BN_MAP_ct] = BUCKETS } };
	struct bn_maps *m = NULL;

	assert_int_equal(bn_maps_create(&sizes, &m), 0);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct bn_maps *m = *state;

	bn_maps_freep(&m);
	return 0;
}

static void put(struct bn_maps *m, uint32_t bucket, unsigned way, const struct bn_ct_entry *e)
{
	struct ct_full b;

	ct_get(m, bucket, &b);
	b.tag[way] = 0x1235;
	b.e[way] = *e;
	ct_put(m, bucket, &b);
}

static struct bn_addr addr(const char *s)
{
	struct bn_addr a;

	assert_int_equal(bn_addr_parse(s, &a), 0);
	return a;
}

/* An entry under src -> dst, key sorted as the kernel side does. */
static struct bn_ct_entry entry(const char *src, unsigned sport, const char *dst, unsigned dport,
				uint8_t proto, uint32_t flags)
{
	struct bn_addr s = addr(src), d = addr(dst);
	struct bn_ct_entry e = {
		.key = { .a = s, .ap = htons(sport), .b = d, .bp = htons(dport), .proto = proto },
		.flags = flags | BN_CT_F_ORIG_A, .gen = 4, .expires = now_s() + 100,
		.created = now_s() - 3,
	};
	int c = memcmp(&s, &d, sizeof(s));

	if (c > 0 || (!c && sport > dport)) {
		e.key.a = d;
		e.key.b = s;
		e.key.ap = htons(dport);
		e.key.bp = htons(sport);
		e.flags &= ~BN_CT_F_ORIG_A;
	}
	return e;
}

static void set_other(struct bn_ct_entry *e, const char *src, unsigned sport, const char *dst,
		      unsigned dport)
{
	e->xs = addr(src);
	e->xd = addr(dst);
	e->xsp = htons(sport);
	e->xdp = htons(dport);
	e->flags |= BN_CT_F_NAT;
}

static const struct bn_ct_flow *find(const struct bn_ct_flow *f, size_t n, const char *src,
				     unsigned sport)
{
	struct bn_addr a = addr(src);

	for (size_t i = 0; i < n; i++)
		if (bn_addr_eq(&f[i].src, &a) && f[i].sport == htons(sport))
			return &f[i];
	return NULL;
}

static void check(const struct bn_ct_flow *f, const char *dst, unsigned dport, const char *backend,
		  unsigned bport, const char *state)
{
	struct bn_addr d = addr(dst), b = addr(backend);

	assert_non_null(f);
	assert_memory_equal(&f->dst, &d, sizeof(d));
	assert_int_equal(ntohs(f->dport), dport);
	assert_memory_equal(&f->backend, &b, sizeof(b));
	assert_int_equal(ntohs(f->backend_port), bport);
	assert_string_equal(bn_ct_state(f), state);
}

/* Flows of every kind into the table; both families, both orders of the key. */
static void fill(struct bn_maps *m)
{
	const uint32_t est = BN_CT_F_REPLIED | BN_CT_F_ASSURED;
	struct bn_ct_entry e;

	e = entry("10.0.0.1", 1000, "10.0.0.2", 80, BN_PROTO_TCP, est);
	e.packets[0] = 3, e.packets[1] = 2, e.bytes[0] = 300, e.bytes[1] = 200;
	put(m, 0, 0, &e);
	e = entry("2001:db8::9", 1001, "2001:db8::2", 80, BN_PROTO_TCP, 0);
	put(m, 0, 7, &e);
	/* through a service: alias and translated entry */
	e = entry("10.0.0.1", 2000, "10.96.0.10", 53, BN_PROTO_UDP, BN_CT_F_REPLIED | BN_CT_F_ALIAS);
	set_other(&e, "10.0.0.1", 2000, "10.0.1.7", 5353);
	e.packets[0] = 5, e.bytes[0] = 500, e.svc_idx = 9;
	put(m, 3, 1, &e);
	e = entry("10.0.0.1", 2000, "10.0.1.7", 5353, BN_PROTO_UDP, BN_CT_F_REPLIED);
	set_other(&e, "10.0.0.1", 2000, "10.96.0.10", 53);
	e.packets[0] = 5, e.packets[1] = 4, e.bytes[0] = 500, e.bytes[1] = 400;
	put(m, 63, 7, &e);
	/* the same in IPv6, with a masqueraded source */
	e = entry("2001:db8::50", 2001, "fd00::10", 443, BN_PROTO_TCP, est | BN_CT_F_ALIAS | BN_CT_F_SNAT);
	set_other(&e, "2001:db8::1", 61000, "2001:db8::77", 8443);
	put(m, 4, 0, &e);
	e = entry("2001:db8::1", 61000, "2001:db8::77", 8443, BN_PROTO_TCP, est | BN_CT_F_SNAT);
	set_other(&e, "2001:db8::50", 2001, "fd00::10", 443);
	put(m, 5, 0, &e);
	/* halves whose other half is gone */
	e = entry("10.0.0.3", 3000, "10.96.0.1", 443, BN_PROTO_TCP, est | BN_CT_F_ALIAS | BN_CT_F_FIN_ORIG);
	set_other(&e, "10.0.0.3", 3000, "192.0.2.1", 6443);
	put(m, 6, 0, &e);
	e = entry("10.0.0.3", 3001, "192.0.2.1", 6443, BN_PROTO_TCP, est | BN_CT_F_FIN_REPLY);
	set_other(&e, "10.0.0.3", 3001, "10.96.0.1", 443);
	put(m, 6, 1, &e);
	/* not shown: expired; being written; a free way with old content */
	e = entry("10.0.0.4", 4000, "10.0.0.2", 80, BN_PROTO_TCP, est);
	e.expires = now_s() - 1;
	put(m, 7, 0, &e);
	e.expires = now_s() + 100, e.gen = 5;
	put(m, 7, 1, &e);
}

static void test_list(void **state)
{
	struct bn_maps *m = *state;
	struct bn_ct_flow *f = NULL;
	const struct bn_ct_flow *x;
	struct bn_addr nat;
	size_t n;

	assert_int_equal(bn_ct_flows(m, &f, &n), 0);
	assert_int_equal(n, 0);
	free(f);
	fill(m);
	assert_int_equal(bn_ct_flows(m, &f, &n), 0);
	assert_int_equal(n, 6);
	x = find(f, n, "10.0.0.1", 1000);
	check(x, "10.0.0.2", 80, "10.0.0.2", 80, "ESTABLISHED");
	assert_int_equal(x->packets[0] + x->packets[1], 5);
	assert_int_equal(x->bytes[0] + x->bytes[1], 500);
	assert_false(x->translated);
	assert_int_equal(x->nplaces, 1);
	assert_in_range(x->expires_s, 98, 100);
	assert_in_range(x->age_s, 3, 5);
	check(find(f, n, "2001:db8::9", 1001), "2001:db8::2", 80, "2001:db8::2", 80, "SYN_SENT");
	x = find(f, n, "10.0.0.1", 2000);
	check(x, "10.96.0.10", 53, "10.0.1.7", 5353, "REPLIED");
	assert_true(x->translated);
	assert_int_equal(x->packets[0], 5); /* seen by both entries, counted once */
	assert_int_equal(x->packets[1], 4);
	assert_int_equal(x->svc_idx, 9);
	assert_int_equal(x->nplaces, 2);
	x = find(f, n, "2001:db8::50", 2001);
	check(x, "fd00::10", 443, "2001:db8::77", 8443, "ESTABLISHED");
	assert_true(x->snat);
	nat = addr("2001:db8::1");
	assert_memory_equal(&x->nat_src, &nat, sizeof(nat));
	assert_int_equal(ntohs(x->nat_sport), 61000);
	check(find(f, n, "10.0.0.3", 3000), "10.96.0.1", 443, "192.0.2.1", 6443, "FIN_WAIT");
	check(find(f, n, "10.0.0.3", 3001), "10.96.0.1", 443, "192.0.2.1", 6443, "CLOSE_WAIT");
	free(f);
}

static void test_states(_unused_ void **state)
{
	static const struct {
		uint8_t proto;
		uint32_t flags;
		const char *name;
	} rows[] = {
		{ BN_PROTO_TCP, 0, "SYN_SENT" },
		{ BN_PROTO_TCP, BN_CT_F_REPLIED, "SYN_RECV" },
		{ BN_PROTO_TCP, BN_CT_F_REPLIED | BN_CT_F_ASSURED, "ESTABLISHED" },
		{ BN_PROTO_TCP, BN_CT_F_ASSURED | BN_CT_F_FIN_ORIG, "FIN_WAIT" },
		{ BN_PROTO_TCP, BN_CT_F_ASSURED | BN_CT_F_FIN_REPLY, "CLOSE_WAIT" },
		{ BN_PROTO_TCP, BN_CT_F_CLOSED | BN_CT_F_FIN_ORIG | BN_CT_F_FIN_REPLY, "TIME_WAIT" },
		{ BN_PROTO_TCP, BN_CT_F_CLOSED, "CLOSED" },
		{ BN_PROTO_UDP, 0, "UNREPLIED" },
		{ BN_PROTO_UDP, BN_CT_F_REPLIED, "REPLIED" },
		{ BN_PROTO_SCTP, BN_CT_F_REPLIED | BN_CT_F_ASSURED, "REPLIED" },
		{ BN_PROTO_ICMP6, 0, "UNREPLIED" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bn_ct_flow f = { .proto = rows[i].proto, .flags = rows[i].flags };

		assert_string_equal(bn_ct_state(&f), rows[i].name);
	}
}

static void test_flush(void **state)
{
	struct bn_maps *m = *state;
	struct bn_ct_flow *f = NULL, chosen[2];
	struct ct_full before, after;
	uint32_t bucket = 63;
	size_t n, gone;

	fill(m);
	assert_int_equal(bn_ct_flows(m, &f, &n), 0);
	chosen[0] = *find(f, n, "10.0.0.1", 2000);
	chosen[1] = *find(f, n, "2001:db8::9", 1001);
	free(f);
	/* taken over by another flow meanwhile: stays */
	chosen[1].place[0].gen += 2;
	assert_int_equal(bn_ct_flush(m, chosen, 2, &gone), 0);
	assert_int_equal(gone, 2);
	ct_get(m, bucket, &after);
	assert_int_equal(after.tag[7], 0);
	assert_int_equal(after.e[7].expires, 0);
	assert_int_equal(after.e[7].gen, 6);
	assert_int_equal(bn_ct_flows(m, &f, &n), 0);
	assert_int_equal(n, 5);
	assert_null(find(f, n, "10.0.0.1", 2000));
	assert_non_null(find(f, n, "2001:db8::9", 1001));
	/* nothing to do is no error, and changes nothing */
	bucket = 0;
	ct_get(m, bucket, &before);
	assert_int_equal(bn_ct_flush(m, f, 0, &gone), 0);
	assert_int_equal(gone, 0);
	ct_get(m, bucket, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(bn_ct_flush(m, f, n, &gone), 0);
	free(f);
	assert_int_equal(bn_ct_flows(m, &f, &n), 0);
	assert_int_equal(n, 0);
	free(f);
}

/* More than one run of the program takes, in a table as large as the default one. */
static void test_flush_many(_unused_ void **state)
{
	struct bn_maps_sizes sizes = { .entries = { [BN_MAP_ct] = 4096 } };
	struct bn_maps *m = NULL;
	struct bn_ct_flow *f = NULL;
	uint64_t used, max;
	size_t n, gone;

	assert_int_equal(bn_maps_create(&sizes, &m), 0);
	for (uint32_t b = 0; b < 4096; b++) {
		struct ct_full v = { 0 };

		for (unsigned w = 0; w < BN_CT_WAYS; w++) {
			if (w % 2)
				continue;
			v.tag[w] = b + 1;
			v.e[w] = entry("10.0.0.1", b & 0xffff, "10.0.0.2", w, BN_PROTO_UDP, 0);
		}
		ct_put(m, b, &v);
	}
	for (int i = 0; i < 20; i++) { /* wherever the sample begins */
		assert_int_equal(bn_ct_fill(m, 100, &used, &max), 0);
		assert_int_equal(max, 4096 * BN_CT_WAYS);
		assert_int_equal(used, 4096 * BN_CT_WAYS / 2);
	}
	assert_int_equal(bn_ct_fill(m, 1000000, &used, &max), 0);
	assert_int_equal(used, 4096 * BN_CT_WAYS / 2);
	assert_int_equal(bn_ct_flows(m, &f, &n), 0);
	assert_int_equal(n, 4096 * BN_CT_WAYS / 2);
	assert_int_equal(bn_ct_flush(m, f, n, &gone), 0);
	assert_int_equal(gone, n);
	free(f);
	assert_int_equal(bn_ct_fill(m, 4096, &used, &max), 0);
	assert_int_equal(used, 0);
	bn_maps_freep(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_list, setup, teardown),
		cmocka_unit_test(test_states),
		cmocka_unit_test_setup_teardown(test_flush, setup, teardown),
		cmocka_unit_test(test_flush_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
