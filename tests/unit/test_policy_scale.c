// SPDX-License-Identifier: MIT
/* 10,000 pods and 5,000 policies: how long, how many, how large. The figures are printed; the
 * bounds are far above what this takes on a quiet machine and only catch what grows faster than it
 * should.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "maps/util.h"
#include "policy/compile.h"
#include "policy/intern.h"
#include "tests/unit/cluster.h"

#define NAMESPACES SCALE_NAMESPACES
#define APPS	   SCALE_APPS

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

struct cluster {
	struct bn_store *store;
	struct bn_idents *ids;
	struct bn_compiler *c;
	struct bn_matrix **m;
	size_t n;
};

static int add(struct bn_obj *o, void *data)
{
	struct cluster *c = data;

	if (o->kind == BN_KIND_POD)
		return bn_idents_pod(c->ids, NULL, (struct bn_pod *)o);
	if (o->kind == BN_KIND_NAMESPACE)
		return bn_idents_namespace(c->ids, NULL, (struct bn_namespace *)o);
	return bn_compiler_policy(c->c, NULL, (struct bn_netpol *)o);
}

static int get(struct bn_obj *o, void *data)
{
	struct cluster *c = data;
	int r = 0;

	for (enum bn_dir d = 0; d < BN_DIRS && !r; d++)
		r = bn_compiler_get(c->c, (struct bn_pod *)o, d, &c->m[c->n++]);
	return r;
}

static double fill(struct cluster *c, unsigned pods, unsigned policies)
{
	json_t *all = scale_cluster(pods, policies);
	double t;

	cluster_load(c->store, all);
	json_decref(all);
	t = now_ms();
	bn_store_each(c->store, BN_KIND_NAMESPACE, add, c);
	bn_store_each(c->store, BN_KIND_POD, add, c);
	bn_store_each(c->store, BN_KIND_NETPOL, add, c);
	return t;
}

static void open_cluster(struct cluster *c, unsigned pods)
{
	*c = (struct cluster){.m = calloc(pods * 2, sizeof(void *))};
	assert_int_equal(bn_store_new(&c->store), 0);
	assert_int_equal(bn_idents_new(&c->ids), 0);
	assert_int_equal(bn_compiler_new(c->ids, NULL, NULL, &c->c), 0);
}

static void close_cluster(struct cluster *c)
{
	for (size_t k = 0; k < c->n; k++)
		bn_matrix_unref(c->m[k]);
	free(c->m);
	bn_compiler_freep(&c->c);
	bn_idents_freep(&c->ids);
	bn_store_freep(&c->store);
}

static void measure(unsigned pods, unsigned policies)
{
	struct bn_compile_stats s;
	struct bn_idents_stats is;
	const struct bn_ident_diff *d;
	struct cluster c;
	double t, signed_ms, all_ms;

	open_cluster(&c, pods);
	t = fill(&c, pods, policies);
	assert_int_equal(bn_idents_update(c.ids, &d), 0);
	signed_ms = now_ms() - t;
	assert_int_equal(bn_store_each(c.store, BN_KIND_POD, get, &c), 0);
	all_ms = now_ms() - t;
	bn_compiler_stats(c.c, &s);
	bn_idents_stats(c.ids, &is);
	print_message(
		"%u pods, %u policies: identities %.0f ms, all matrices of all pods %.0f ms\n",
		pods, policies, signed_ms, all_ms - signed_ms);
	print_message(
		"  %zu atoms, %zu identities, %zu prefixes; %zu matrices, %zu rows, %zu cells (%zu "
		"KiB), %zu peers\n",
		is.atoms, is.identities, is.prefixes, s.matrices, s.rows, s.cells,
		s.cells * sizeof(struct bn_cell) / 1024, s.peers);
	/* the law: identities do not follow the pods, peers are what peers match */
	assert_true(is.identities <= (size_t)NAMESPACES * APPS * 2 * 3 + is.prefixes + 8);
	assert_true(all_ms < 20000);
	close_cluster(&c);
}

static void compile_time(void **state _unused_)
{
	measure(1000, 500);
	measure(10000, 1000);
	measure(10000, 5000);
	measure(20000, 5000);
}

/* One policy changes, the pods that it selects get their new matrices. */
static void one_change(void **state _unused_)
{
	const struct bn_ident_diff *d;
	double worst = 0, sum = 0;
	struct cluster c;

	open_cluster(&c, 10000);
	fill(&c, 10000, 5000);
	assert_int_equal(bn_idents_update(c.ids, &d), 0);
	assert_int_equal(bn_store_each(c.store, BN_KIND_POD, get, &c), 0);
	for (unsigned k = 0; k < 50; k++) {
		unsigned i = k * 97 % 5000;
		json_t *j = scale_policy(i, 1 + k);
		struct bn_obj *o = NULL, *old;
		struct bn_err err;
		struct bn_matrix *m[4] = {};
		double t;
		char name[32], ns[32];

		assert_int_equal(bn_object_parse(j, &o, &err), 0);
		snprintf(name, sizeof(name), "policy-%u", i);
		snprintf(ns, sizeof(ns), "ns%u", i % NAMESPACES);
		old = bn_store_get(c.store, BN_KIND_NETPOL, ns, name);
		assert_non_null(old);
		t = now_ms();
		assert_int_equal(
			bn_compiler_policy(c.c, (struct bn_netpol *)old, (struct bn_netpol *)o), 0);
		assert_int_equal(bn_idents_update(c.ids, &d), 0);
		for (size_t a = 0; a < d->nadded; a++)
			assert_int_equal(bn_compiler_identity_added(c.c, d->added[a], NULL, NULL),
					 0);
		/* two local pods of it */
		for (unsigned p = 0; p < 2; p++) {
			snprintf(name, sizeof(name), "pod-%u",
				 i % NAMESPACES + NAMESPACES * (i / NAMESPACES % APPS + p * APPS));
			old = bn_store_get(c.store, BN_KIND_POD, ns, name);
			assert_non_null(old);
			assert_int_equal(
				bn_compiler_get(c.c, (struct bn_pod *)old, BN_INGRESS, &m[p * 2]),
				0);
			assert_int_equal(bn_compiler_get(c.c, (struct bn_pod *)old, BN_EGRESS,
							 &m[p * 2 + 1]),
					 0);
		}
		t = now_ms() - t;
		sum += t;
		worst = t > worst ? t : worst;
		assert_int_equal(bn_store_put(c.store, o), 0);
		bn_obj_unref(o);
		json_decref(j);
		for (unsigned p = 0; p < 4; p++)
			bn_matrix_unref(m[p]);
	}
	print_message(
		"one policy among 10,000 pods and 5,000 policies: mean %.2f ms, worst %.2f ms\n",
		sum / 50, worst);
	assert_true(worst < 200);
	close_cluster(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compile_time),
		cmocka_unit_test(one_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
