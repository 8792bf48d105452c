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
		cmocka_unit_test(test_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
