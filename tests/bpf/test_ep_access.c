/* SPDX-License-Identifier: MIT */
/* The registries of addresses, interfaces and slots: owners, adoption, indices, and what a reader
 * in another thread sees while they are written. Needs root (maps).
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "maps/ep_access.h"
#include "maps/maps.h"
#include "maps/pod_access.h"

static struct bn_maps *maps;

static int setup(void **state _unused_)
{
	struct bn_maps_sizes s = {};

	s.entries[BN_MAP_eps] = 64;
	s.entries[BN_MAP_pods] = 8;
	assert_int_equal(bn_maps_create(&s, &maps), 0);
	return 0;
}

static int teardown(void **state _unused_)
{
	bn_maps_freep(&maps);
	return 0;
}

/* Both families: an even number is IPv4, an odd one IPv6. */
static struct bn_addr addr(unsigned n)
{
	struct bn_addr a = {.b = {0xfd, [14] = n >> 8, [15] = n}};

	if (!(n & 1))
		bn_addr_v4(&a, __builtin_bswap32(0x0a000000 + n));
	return a;
}

static uint64_t word(const struct bn_eps *e, unsigned n)
{
	struct bn_addr a = addr(n);
	struct bn_ep ep;

	return bn_eps_get(e, &a, &ep) ? 0 : ep.word;
}

/* What the kernel side sees: hash, then the element, then the comparison. */
static int seen(unsigned n, struct bn_ep *ret)
{
	struct bn_addr a = addr(n);
	const struct bn_ep *ep;
	uint32_t idx;

	if (bn_map_get(maps, BN_MAP_addrs, &a, &idx))
		return -ENOENT;
	ep = bn_map_at(maps, BN_MAP_eps, idx);
	*ret = *ep;
	return bn_addr_eq(&ret->addr, &a) ? (int)idx : -EBADMSG;
}

static void owners(void **state _unused_)
{
	_cleanup_(bn_eps_freep) struct bn_eps *e = NULL;
	struct bn_ep_local l = {3, 77, {2, 0, 0, 0, 0, 9}};
	struct bn_addr zero = {};
	struct bn_ep ep;
	unsigned n;

	assert_int_equal(bn_eps_new(maps, &e), 0);
	assert_int_equal(bn_eps_set_identity(e, &zero, 300, 0), -EINVAL);
	for (n = 4; n < 6; n++) {
		struct bn_addr a = addr(n);

		assert_int_equal(bn_eps_set_identity(e, &a, BN_ID_UNKNOWN, 0), -EINVAL);
		assert_int_equal(bn_eps_set_identity(e, &a, 300, BN_ADDR_F_HOST), -EINVAL);
		assert_int_equal(seen(n, &ep), -ENOENT);
		assert_int_equal(bn_eps_set_local(e, &a, &l), 0);
		assert_true(seen(n, &ep) > 0);
		assert_int_equal(ep.word, BN_EP_WORD(BN_ID_UNKNOWN, 3));
		assert_int_equal(ep.flags, BN_ADDR_F_POD);
		assert_int_equal(bn_eps_set_identity(e, &a, 300, BN_ADDR_F_POD), 0);
		assert_int_equal(word(e, n), BN_EP_WORD(300, 3));
		assert_int_equal(bn_eps_clear(e, &a, BN_EPS_LOCAL), 0);
		assert_int_equal(word(e, n), BN_EP_WORD(300, 0));
		assert_int_equal(bn_eps_set_host(e, &a, true), 0);
		assert_int_equal(bn_eps_clear(e, &a, BN_EPS_IDENTITY), 0);
		assert_true(seen(n, &ep) > 0);
		assert_int_equal(ep.word, BN_EP_WORD(BN_ID_HOST, 0));
		assert_int_equal(ep.flags, BN_ADDR_F_HOST | BN_ADDR_F_NODEPORT);
		assert_int_equal(bn_eps_set_host(e, &a, false), 0);
		assert_true(seen(n, &ep) > 0);
		assert_int_equal(ep.flags, BN_ADDR_F_HOST);
		assert_int_equal(bn_eps_clear(e, &a, BN_EPS_HOST), 0);
		assert_int_equal(seen(n, &ep), -ENOENT);
		assert_int_equal(bn_eps_clear(e, &a, BN_EPS_HOST), 0);
	}
	assert_int_equal(bn_eps_count(e), 0);
}

/* ifindex and mac never change under a slot: the address moves. */
static void moves(void **state _unused_)
{
	_cleanup_(bn_eps_freep) struct bn_eps *e = NULL;
	struct bn_ep_local l = {3, 77, {2, 0, 0, 0, 0, 9}};
	struct bn_addr a = addr(4);
	struct bn_ep ep, old;
	int i, k;

	assert_int_equal(bn_eps_new(maps, &e), 0);
	assert_int_equal(bn_eps_set_identity(e, &a, 300, BN_ADDR_F_POD), 0);
	assert_int_equal(bn_eps_set_local(e, &a, &l), 0);
	i = seen(4, &old);
	l.ifindex = 78;
	assert_int_equal(bn_eps_set_local(e, &a, &l), 0);
	k = seen(4, &ep);
	assert_int_not_equal(i, k);
	assert_int_equal(ep.ifindex, 78);
	assert_int_equal(ep.word, BN_EP_WORD(300, 3));
	assert_memory_equal(bn_map_at(maps, BN_MAP_eps, i), &old, sizeof(old));
	assert_int_equal(bn_eps_count(e), 1);
	assert_int_equal(bn_eps_clear(e, &a, BN_EPS_LOCAL), 0);
	l.slot = 5;
	assert_int_equal(bn_eps_set_local(e, &a, &l),
			 0); /* what it said before may still be read */
	assert_int_not_equal(seen(4, &ep), k);
}

static void adoption(void **state _unused_)
{
	struct bn_ep_local l = {3, 77, {2, 0, 0, 0, 0, 9}};
	struct bn_eps *e = NULL;
	struct bn_addr a;
	uint32_t idx = 9;
	unsigned n;

	assert_int_equal(bn_eps_new(maps, &e), 0);
	for (n = 1; n <= 20; n++) {
		a = addr(n);
		if (n % 3)
			assert_int_equal(bn_eps_set_identity(e, &a, 300 + n, BN_ADDR_F_POD), 0);
		if (n % 3 == 0 || n == 4)
			assert_int_equal(bn_eps_set_host(e, &a, true), 0);
		if (n % 5 == 0)
			assert_int_equal(bn_eps_set_local(e, &a, &l), 0);
	}
	bn_eps_freep(&e);
	/* a key that points at another address's element, and one far outside */
	a = addr(50);
	assert_int_equal(bn_map_put(maps, BN_MAP_addrs, &a, &idx), 0);
	a = addr(51);
	idx = 1u << 30;
	assert_int_equal(bn_map_put(maps, BN_MAP_addrs, &a, &idx), 0);
	assert_int_equal(bn_eps_new(maps, &e), 0);
	assert_int_equal(bn_eps_count(e), 20);
	assert_int_equal(bn_map_count(maps, BN_MAP_addrs), 20);
	assert_int_equal(bn_eps_writes(e), 2);
	for (n = 1; n <= 20; n++) { /* the same again: nothing is written */
		a = addr(n);
		if (n % 3 && n != 7)
			assert_int_equal(bn_eps_set_identity(e, &a, 300 + n, BN_ADDR_F_POD), 0);
		if (n % 3 == 0 || n == 4)
			assert_int_equal(bn_eps_set_host(e, &a, true), 0);
		if (n % 5 == 0 && n != 10)
			assert_int_equal(bn_eps_set_local(e, &a, &l), 0);
	}
	assert_int_equal(bn_eps_writes(e), 2);
	assert_int_equal(bn_eps_settle(e, BN_EPS_HOST), 0);
	assert_int_equal(bn_eps_writes(e), 2);
	assert_int_equal(bn_eps_settle(e, BN_EPS_IDENTITY), 0);
	assert_int_equal(bn_eps_settle(e, BN_EPS_LOCAL), 0);
	a = addr(7);
	assert_int_equal(bn_map_get(maps, BN_MAP_addrs, &a, &idx), -ENOENT);
	assert_int_equal(word(e, 10), BN_EP_WORD(310, 0));
	assert_int_equal(word(e, 20), BN_EP_WORD(320, 3));
	assert_int_equal(word(e, 4), BN_EP_WORD(304, 0));
	bn_eps_freep(&e);
}

/* Full, emptied and filled again, many times: indices come back, none is lost. */
static void full(void **state _unused_)
{
	_cleanup_(bn_eps_freep) struct bn_eps *e = NULL;
	struct bn_addr a;
	struct bn_ep ep;
	unsigned round, n;

	assert_int_equal(bn_eps_new(maps, &e), 0);
	for (round = 0; round < 20; round++) {
		for (n = 1; n < 64; n++) {
			a = addr(n + round);
			assert_int_equal(bn_eps_set_identity(e, &a, 300 + n, BN_ADDR_F_POD), 0);
		}
		a = addr(500);
		assert_int_equal(bn_eps_set_identity(e, &a, 999, 0), -ENOSPC);
		for (n = 1; n < 64; n++) {
			assert_true(seen(n + round, &ep) > 0);
			assert_int_equal(BN_EP_IDENTITY(ep.word), 300 + n);
		}
		for (n = 1; n < 64; n++) {
			a = addr(n + round);
			assert_int_equal(bn_eps_clear(e, &a, BN_EPS_IDENTITY), 0);
		}
		assert_int_equal(bn_eps_count(e), 0);
	}
}

static void slots(void **state _unused_)
{
	struct bn_iface v = {.role = BN_ROLE_POD, .l2_len = 14}, got;
	struct bn_pods *p = NULL;
	uint32_t s[8], n, again;
	struct bn_pod_slot *m;

	assert_int_equal(bn_pods_new(maps, &p), 0);
	for (n = 0; n < 7; n++) {
		assert_int_equal(bn_pods_alloc(p, 100 + n, &s[n]), 0);
		assert_true(s[n] > 0 && s[n] < 8);
		v.slot = s[n];
		assert_int_equal(bn_pods_set_iface(p, 100 + n, &v), 0);
		m = bn_map_at(maps, BN_MAP_pods, s[n]);
		m->word = 55;
	}
	assert_int_equal(bn_pods_alloc(p, 200, &again), -ENOSPC);
	assert_int_equal(bn_pods_del_iface(p, 103), 0);
	bn_pods_release(p, s[3]);
	assert_int_equal(bn_pods_used(p), 6);
	assert_int_equal(bn_pods_alloc(p, 200, &again), 0);
	assert_int_equal(again, s[3]);
	m = bn_map_at(maps, BN_MAP_pods, again);
	assert_int_equal(m->word, 0);
	assert_int_equal(m->ifindex, 200);
	/* given out, but no interface names it yet when the daemon dies: free again */
	bn_pods_freep(&p);
	/* a second interface of the pod in slot s[0]; and one that claims a slot made for another
	 */
	v.slot = s[0];
	v.ifindex = 300;
	n = 300;
	assert_int_equal(bn_map_put(maps, BN_MAP_ifaces, &n, &v), 0);
	v.slot = again;
	v.ifindex = n = 301;
	assert_int_equal(bn_map_put(maps, BN_MAP_ifaces, &n, &v), 0);
	v.ifindex = 1; /* not its own */
	n = 302;
	assert_int_equal(bn_map_put(maps, BN_MAP_ifaces, &n, &v), 0);
	assert_int_equal(bn_pods_new(maps, &p), 0);
	assert_int_equal(bn_pods_used(p), 6);
	assert_int_equal(bn_pods_iface(p, 101, &got), 0);
	assert_int_equal(got.slot, s[1]);
	assert_int_equal(bn_pods_iface(p, 300, &got), 0);
	assert_int_equal(got.slot, s[0]);
	assert_int_equal(bn_pods_iface(p, 301, &got), 0);
	assert_int_equal(got.slot, 0);
	assert_int_equal(bn_pods_iface(p, 302, &got), -ENOENT);
	bn_pods_freep(&p);
}

static bool stop;

/* Reads as the programs do: an element that it got by an address must be of a whole state of it. */
static void *reader(void *data)
{
	unsigned long *bad = data;
	struct bn_addr a = addr(8);
	uint32_t idx, again;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		const volatile struct bn_ep *ep;
		uint64_t w;

		if (bn_map_get(maps, BN_MAP_addrs, &a, &idx))
			continue;
		ep = bn_map_at(maps, BN_MAP_eps, idx);
		w = __atomic_load_n(&ep->word, __ATOMIC_ACQUIRE);
		if (!BN_EP_SLOT(w) ||
		    (ep->ifindex == 1000 + BN_EP_SLOT(w) && ep->mac[5] == BN_EP_SLOT(w)))
			continue;
		/* No grace period waits for this thread, which may have slept meanwhile: only what
		 * the map still says counts.
		 */
		if (!bn_map_get(maps, BN_MAP_addrs, &a, &again) && again == idx && ep->word == w)
			++*bad;
	}
	return NULL;
}

static void under_a_reader(void **state _unused_)
{
	_cleanup_(bn_eps_freep) struct bn_eps *e = NULL;
	struct bn_addr a = addr(8);
	unsigned long bad = 0;
	pthread_t t;
	int i;

	assert_int_equal(bn_eps_new(maps, &e), 0);
	assert_int_equal(pthread_create(&t, NULL, reader, &bad), 0);
	for (i = 0; i < 3000; i++) { /* one address only: the reader compares no addresses */
		struct bn_ep_local l = {1 + i % 7, 1001 + i % 7, {2, 0, 0, 0, 0, 1 + i % 7}};

		assert_int_equal(bn_eps_set_local(e, &a, &l), 0);
		assert_int_equal(bn_eps_set_identity(e, &a, 300 + i % 3, BN_ADDR_F_POD), 0);
		if (i % 5 == 0)
			assert_int_equal(bn_eps_clear(e, &a, BN_EPS_LOCAL), 0);
		if (i % 11 == 0)
			assert_int_equal(bn_eps_clear(e, &a, BN_EPS_IDENTITY), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	assert_int_equal(bad, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(owners, setup, teardown),
		cmocka_unit_test_setup_teardown(moves, setup, teardown),
		cmocka_unit_test_setup_teardown(adoption, setup, teardown),
		cmocka_unit_test_setup_teardown(full, setup, teardown),
		cmocka_unit_test_setup_teardown(slots, setup, teardown),
		cmocka_unit_test_setup_teardown(under_a_reader, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
