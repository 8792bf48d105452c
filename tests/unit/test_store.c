/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/index.h"
#include "policy/intern.h"
#include "policy/store.h"

struct log {
	char text[512];
};

static void listen(const struct bn_obj *old, const struct bn_obj *new, void *data)
{
	struct log *log = data;
	size_t n = strlen(log->text);

	snprintf(log->text + n, sizeof(log->text) - n, "%c%s/%s ",
		 !old ? '+' : (new ? '~' : '-'), (new ?: old)->ns, (new ?: old)->name);
}

static struct bn_obj *ns_obj(const char *name, const char *label, const char *rv)
{
	json_t *j = json_pack("{s:s,s:s,s:{s:s,s:s,s:{s:s}}}", "apiVersion", "v1", "kind",
			      "Namespace", "metadata", "name", name, "resourceVersion", rv,
			      "labels", "team", label);
	struct bn_obj *o = NULL;
	struct bn_err err;

	assert_int_equal(bn_object_parse(j, &o, &err), 0);
	json_decref(j);
	return o;
}

static int count(struct bn_obj *o, void *data)
{
	(void)o;
	return ++*(int *)data == 2 ? 7 : 0;
}

static void test_put_del(void **state)
{
	struct bn_obj *a = ns_obj("a", "x", "1"), *same = ns_obj("a", "x", "2");
	struct bn_obj *other = ns_obj("a", "y", "3"), *b = ns_obj("b", "x", "4");
	struct log log = { "" };
	struct bn_store *s = NULL;
	int n = 0;

	(void)state;
	assert_int_equal(bn_store_new(&s), 0);
	assert_int_equal(bn_store_listen(s, listen, &log), 0);
	assert_int_equal(bn_store_put(s, a), 0);
	assert_string_equal(log.text, "+/a ");
	assert_int_equal(bn_store_put(s, a), 0);
	assert_int_equal(bn_obj_set_origin(same, "f.yaml", 3), 0);
	assert_int_equal(bn_store_put(s, same), 0); /* another version of the same content */
	assert_string_equal(log.text, "+/a ");
	assert_string_equal(bn_store_get(s, BN_KIND_NAMESPACE, "", "a")->origin, "f.yaml:3");
	assert_int_equal(bn_store_put(s, other), 0);
	assert_int_equal(bn_store_put(s, b), 0);
	assert_string_equal(log.text, "+/a ~/a +/b ");
	assert_ptr_equal(bn_store_get(s, BN_KIND_NAMESPACE, "", "a"), other);
	assert_null(bn_store_get(s, BN_KIND_NAMESPACE, "", "never-seen"));
	assert_null(bn_store_get(s, BN_KIND_POD, "", "a"));
	assert_int_equal(bn_store_count(s, BN_KIND_NAMESPACE), 2);
	assert_int_equal(bn_store_each(s, BN_KIND_NAMESPACE, count, &n), 7);
	assert_int_equal(n, 2);
	assert_int_equal(bn_store_del(s, BN_KIND_NAMESPACE, "", "a"), 0);
	assert_int_equal(bn_store_del(s, BN_KIND_NAMESPACE, "", "a"), -ENOENT);
	assert_string_equal(log.text, "+/a ~/a +/b -/a ");
	assert_int_equal(bn_store_count(s, BN_KIND_NAMESPACE), 1);
	bn_store_freep(&s);
	assert_int_equal(a->refs, 1);
	assert_int_equal(b->refs, 1);
	bn_obj_unref(a);
	bn_obj_unref(same);
	bn_obj_unref(other);
	bn_obj_unref(b);
	bn_intern_reset();
}

static uint32_t next(uint32_t *x)
{
	return *x = *x * 1664525 + 1013904223, *x >> 8;
}

/* Names come, are referred to and let go at random: who has a reference keeps his string, the others
 * are gone, and the room they had is used again.
 */
static void test_intern_collect(void **state)
{
	enum { N = 3000 };
	static const char *p[N];
	static unsigned refs[N];
	char buf[800];
	uint32_t x = 1;
	size_t bytes = 0;

	(void)state;
	for (int round = 0; round < 60; round++) {
		for (int k = 0; k < N; k++) {
			uint32_t i = next(&x) % N;

			if (refs[i] && next(&x) % 3) {
				bn_intern_unref(p[i]);
				refs[i]--;
				continue;
			}
			snprintf(buf, sizeof(buf), "%0*d-%d", 1 + i % 700, i, refs[i] ? 0 : round);
			if (!refs[i])
				p[i] = bn_intern(buf);
			bn_intern_ref(p[i]);
			refs[i]++;
		}
		assert_non_null(bn_intern("passing"));
		bn_intern_collect();
		assert_null(bn_intern_find("passing"));
		size_t n = 0;

		for (int i = 0; i < N; i++) {
			n += refs[i] > 0;
			assert_true(!refs[i] || bn_intern_find(p[i]) == p[i]);
		}
		assert_int_equal(bn_intern_count(), n);
		if (round == 20)
			bytes = bn_intern_bytes();
	}
	assert_true(bn_intern_bytes() < bytes + bytes / 4);
	for (int i = 0; i < N; i++)
		for (; refs[i]; refs[i]--)
			bn_intern_unref(p[i]);
	bn_intern_collect();
	assert_int_equal(bn_intern_count(), 0);
	bn_intern_reset();
}

/* 100,000 pods, each with a name that never was before, 50 at a time. */
static void test_intern_churn(void **state)
{
	struct bn_obj *o[50] = { 0 };
	struct bn_store *s;
	size_t bytes = 0;

	(void)state;
	assert_int_equal(bn_store_new(&s), 0);
	for (int i = 0; i < 100000; i++) {
		struct bn_obj **at = &o[i % 50];
		struct bn_err err;
		json_t *j = json_pack("{s:s,s:s,s:{s:s,s:o,s:{s:s,s:o}}}", "apiVersion", "v1", "kind", "Pod",
				      "metadata", "namespace", "ns", "name",
				      json_sprintf("web-%08x-%05d", i * 2654435761u, i), "labels", "app", "web",
				      "hash", json_sprintf("%08x", i * 2246822519u));

		if (*at)
			assert_int_equal(bn_store_del(s, BN_KIND_POD, (*at)->ns, (*at)->name), 0);
		bn_obj_unrefp(at);
		assert_int_equal(bn_object_parse(j, at, &err), 0);
		assert_int_equal(bn_store_put(s, *at), 0);
		json_decref(j);
		if (i % 10 == 0)
			bn_intern_collect();
		if (i == 1000)
			bytes = bn_intern_bytes();
	}
	bn_intern_collect();
	assert_int_equal(bn_intern_bytes(), bytes);
	assert_ptr_equal(bn_store_get(s, BN_KIND_POD, "ns", o[7]->name), o[7]);
	bn_store_freep(&s);
	for (int i = 0; i < 50; i++)
		bn_obj_unrefp(&o[i]);
	bn_intern_collect();
	assert_int_equal(bn_intern_count(), 0);
	bn_intern_reset();
}

static void test_intern(void **state)
{
	const char *a = bn_intern("alpha"), *p[5000];
	char buf[300];
	int i;

	(void)state;
	assert_ptr_equal(bn_intern("alpha"), a);
	assert_ptr_equal(bn_intern_n("alphabet", 5), a);
	assert_ptr_not_equal(bn_intern("alphabet"), a);
	assert_null(bn_intern(NULL));
	assert_null(bn_intern_find("beta"));
	assert_ptr_equal(bn_intern_find("alpha"), a);
	assert_non_null(bn_intern(""));
	for (i = 0; i < 5000; i++) {
		snprintf(buf, sizeof(buf), "%0*d", 1 + i % 250, i);
		p[i] = bn_intern(buf);
	}
	for (i = 0; i < 5000; i++) {
		snprintf(buf, sizeof(buf), "%0*d", 1 + i % 250, i);
		assert_ptr_equal(bn_intern_find(buf), p[i]);
		assert_string_equal(p[i], buf);
	}
	bn_intern_collect();
	assert_int_equal(bn_intern_count(), 0);
	bn_intern_reset();
	assert_null(bn_intern_find("alpha"));
	assert_int_equal(bn_intern_count(), 0);
}

/* Thousands of additions, removals and moves against a plain array of flags. */
#define NKEYS 700

static struct bn_index_key key_of(const void *array, uint32_t entry)
{
	const unsigned *which = array;
	static char names[NKEYS];

	return (struct bn_index_key){ "ns", &names[which[entry]], which[entry] % 3 };
}

static void test_index(void **state)
{
	struct bn_index x = { .key = key_of };
	unsigned where[NKEYS], array[NKEYS], n = 0, i, k, round;
	uint64_t seed = 1;

	(void)state;
	memset(where, 0xff, sizeof(where));
	for (round = 0; round < 60000; round++) {
		struct bn_index_key key;
		unsigned probe = NKEYS - 1;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		k = (unsigned)(seed >> 33) % NKEYS;
		if (where[k] == BN_INDEX_NONE) {
			array[n] = k;
			assert_int_equal(bn_index_add(&x, array, n), 0);
			where[k] = n++;
		} else {
			i = where[k];
			bn_index_del(&x, array, i);
			where[k] = BN_INDEX_NONE;
			if (i != --n) {
				bn_index_move(&x, array, n, i);
				array[i] = array[n];
				where[array[i]] = i;
			}
		}
		assert_int_equal(x.count, n);
		for (; probe < NKEYS; probe -= 97) {
			unsigned one[] = { probe };

			key = key_of(one, 0);
			assert_int_equal(bn_index_find(&x, array, &key), where[probe]);
		}
	}
	assert_true(x.mask < 8192); /* what is gone is not kept for ever */
	bn_index_clear(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_del),
		cmocka_unit_test(test_intern),
		cmocka_unit_test(test_intern_collect),
		cmocka_unit_test(test_intern_churn),
		cmocka_unit_test(test_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
