// SPDX-License-Identifier: MIT
/* Two CPUs that have packets of one flow at the same moment, before anybody has an entry of it (a SYN and its
 * retransmission, a burst of datagrams): one backend, one port, one pair of entries.
 */
#include <pthread.h>
#include <time.h>

#include "pod_env.h"

enum { FLOWS = 3000, SECONDS = 8 };

struct side {
	struct env *e;
	pthread_t thread;
	int cpu;
	struct frame in, out;
	int verdict;
	unsigned seed;
};

static struct {
	unsigned turn, done; /* the flow that is due; sides that are through with it */
} sync_;

static void one(struct side *s)
{
	struct __sk_buff ctx = {.ifindex = IF_A};
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = s->in.b, .data_size_in = s->in.len, .data_out = s->out.b,
		    .data_size_out = sizeof(s->out.b), .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = 1);

	s->verdict = bpf_prog_test_run_opts(bpf_program__fd(s->e->skel->progs.from_pod), &o) ? -99 : (int)o.retval;
	s->out.len = o.data_size_out;
}

static void *work(void *arg)
{
	struct side *s = arg;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(s->cpu, &set);
	(void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	for (unsigned i = 1;; i++) {
		unsigned turn, spin = 0;

		while ((turn = __atomic_load_n(&sync_.turn, __ATOMIC_ACQUIRE)) < i)
			if (!(++spin % 4096))
				sched_yield();
		if (turn == UINT32_MAX)
			return NULL;
		for (volatile unsigned n = rand_r(&s->seed) % 2000; n; n--)
			;
		one(s);
		__atomic_fetch_add(&sync_.done, 1, __ATOMIC_RELEASE);
	}
}

struct count {
	unsigned pairs, alias, post, given_up;
};

/* What is in the table: live entries of each kind, and those that gave way to another CPU's. */
static void look(struct env *e, uint16_t vport, struct count *c)
{
	for (uint32_t i = 0; i < e->m->entries[BN_MAP_ct]; i++) {
		struct ct_full b;

		ct_get(e->m, i, &b);
		for (int k = 0; k < BN_CT_WAYS; k++) {
			const struct bn_ct_entry *x = &b.e[k];
			bool alias = x->flags & BN_CT_F_ALIAS;
			uint16_t ap = ntohs(x->key.ap), bp = ntohs(x->key.bp);

			if (!b.tag[k] || !(x->flags & BN_CT_F_NAT))
				continue;
			if (alias ? ap != vport && bp != vport : ntohs(x->xdp) != vport)
				continue;
			if ((int32_t)(x->expires - x->created) <= 0)
				c->given_up++;
			else if (alias)
				c->alias++;
			else
				c->post++;
		}
	}
}

/* FLOWS flows of A to VIP:vport, each begun on both CPUs at once. `direct`: A speaks to the backend itself from the
 * same port already, so that another one has to be chosen.
 */
static struct count race(struct env *e, uint8_t proto, uint16_t vport, bool direct, int v6)
{
	struct side s[2] = {{.e = e, .cpu = 0, .seed = 1}, {.e = e, .cpu = 1, .seed = 2}};
	struct count c = {};
	time_t end = time(NULL) + SECONDS;

	sync_.turn = sync_.done = 0;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&s[i].thread, NULL, work, &s[i]), 0);
	while (c.pairs < FLOWS && (time(NULL) < end || c.pairs < 100)) {
		struct pk pk = {A, VIP, 2000 + c.pairs, vport, proto, proto == UDP ? 0 : SYN};
		struct pk first = {A, REMOTE, 2000 + c.pairs, 8080, proto, proto == UDP ? 0 : SYN};

		if (direct) {
			struct side d = {.e = e};

			build(&d.in, &first, v6);
			one(&d);
			assert_int_equal(d.verdict, PASS);
		}
		build(&s[0].in, &pk, v6);
		s[1].in = s[0].in;
		sync_.done = 0;
		__atomic_store_n(&sync_.turn, ++c.pairs, __ATOMIC_RELEASE);
		while (__atomic_load_n(&sync_.done, __ATOMIC_ACQUIRE) < 2)
			sched_yield();
		assert_int_equal(s[0].verdict, PASS);
		assert_int_equal(s[1].verdict, PASS);
		/* One backend, one port: the packets are the same to the last byte. */
		assert_int_equal(s[0].out.len, s[1].out.len);
		if (memcmp(s[0].out.b, s[1].out.b, s[0].out.len)) {
			dump("on CPU 0", &s[0].out);
			dump("on CPU 1", &s[1].out);
			fail_msg("flow %u: two CPUs, two answers", c.pairs);
		}
		assert_memory_not_equal(s[0].out.b, s[0].in.b, s[0].in.len);
	}
	__atomic_store_n(&sync_.turn, UINT32_MAX, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++)
		pthread_join(s[i].thread, NULL);
	look(e, vport, &c);
	print_message("%u flows: %u and %u entries, %u given up\n", c.pairs, c.alias, c.post, c.given_up);
	assert_int_equal(c.alias, c.pairs);
	assert_int_equal(c.post, c.pairs);
	return c;
}

static void backends(void **state)
{
	struct be bes[16];
	unsigned met = 0;

	(void)state;
	for (int i = 0; i < 16; i++)
		bes[i] = (struct be){REMOTE, 8080 + i};
	for (int n = 0; n < 2; n++) {
		struct env *e = env_new(&(struct env_opts){.buckets = 4093, .no_events = true});
		const uint8_t proto = n ? UDP : TCP;

		svc_put(e, VIP, 80, proto, 0, bes, 16);
		met += race(e, proto, 80, false, n).given_up;
		env_free(e);
	}
	assert_true(met > 0); /* else nothing was tried */
}

/* The table is so full that a key's two buckets take turns in being the emptier one. */
static void in_a_full_table(void **state)
{
	struct be bes[16];
	struct env *e = env_new(&(struct env_opts){.buckets = FLOWS * 2 / 9, .no_events = true});

	(void)state;
	for (int i = 0; i < 16; i++)
		bes[i] = (struct be){REMOTE, 8080 + i};
	svc_put(e, VIP, 80, UDP, 0, bes, 16);
	race(e, UDP, 80, false, 0);
	env_free(e);
}

static void ports(void **state)
{
	static const struct be one_be[] = {{REMOTE, 8080}};
	unsigned met = 0;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct env *e = env_new(&(struct env_opts){.buckets = 4093, .no_events = true});

		svc_put(e, VIP, 80, UDP, 0, one_be, 1);
		met += race(e, UDP, 80, true, v6).given_up;
		env_free(e);
	}
	assert_true(met > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(backends),
		cmocka_unit_test(in_a_full_table),
		cmocka_unit_test(ports),
	};

	return cmocka_run_group_tests(tests, net_setup, NULL);
}
