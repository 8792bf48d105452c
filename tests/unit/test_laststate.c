/* SPDX-License-Identifier: MIT */
/* The journal of last good versions: what survives, what is forgotten, what a broken file does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "loader/log.h"
#include "loader/source/laststate.h"
#include "maps/util.h"
#include "policy/intern.h"

static char dir[64];

static struct bn_laststate *open_state(void)
{
	struct bn_laststate *l = NULL;

	assert_int_equal(bn_laststate_open(dir, "one", &l), 0);
	return l;
}

static void put(struct bn_laststate *l, const char *name, unsigned port)
{
	json_t *j = json_pack("{s:s,s:s,s:{s:s,s:s,s:{s:s}},s:{s:s,s:[{s:i}]}}", "apiVersion", "v1",
			      "kind", "Service", "metadata", "name", name, "namespace", "n",
			      "annotations", "note", "long text that nobody reads", "spec", "clusterIP",
			      "10.0.0.1", "ports", "port", port);

	assert_non_null(j);
	bn_laststate_put(l, BN_KIND_SERVICE, "n", name, j);
	json_decref(j);
}

/* The port, or 0 if it is not kept. */
static unsigned get(struct bn_laststate *l, const char *name)
{
	struct bn_obj *o = NULL;
	unsigned port;

	if (bn_laststate_get(l, BN_KIND_SERVICE, "n", name, &o) < 0)
		return 0;
	assert_string_equal(o->name, name);
	port = ((struct bn_service *)o)->ports[0].port;
	bn_obj_unref(o);
	return port;
}

static const char *file_name(void)
{
	static char path[256];
	char pattern[128];
	glob_t g;

	snprintf(pattern, sizeof(pattern), "%s/objects-*[0-9a-f]", dir);
	assert_int_equal(glob(pattern, 0, NULL, &g), 0);
	assert_int_equal(g.gl_pathc, 1);
	snprintf(path, sizeof(path), "%s", g.gl_pathv[0]);
	globfree(&g);
	return path;
}

static off_t file_size(void)
{
	struct stat st;

	assert_int_equal(stat(file_name(), &st), 0);
	return st.st_size;
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/bn-laststate-XXXXXX");
	assert_non_null(mkdtemp(dir));
	return 0;
}

static int teardown(void **state)
{
	char cmd[100];

	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	bn_intern_reset();
	return system(cmd);
}

static void test_survives(void **state)
{
	struct bn_laststate *l = open_state(), *other = NULL;
	off_t size;
	char *path;

	(void)state;
	put(l, "a", 80);
	put(l, "b", 81);
	put(l, "c", 82);
	put(l, "b", 83);
	bn_laststate_del(l, BN_KIND_SERVICE, "n", "c");
	bn_laststate_del(l, BN_KIND_SERVICE, "n", "never");
	assert_int_equal(get(l, "b"), 83);
	bn_laststate_flush(l);
	/* killed: what was flushed is there without a close */
	assert_int_equal(bn_laststate_open(dir, "one", &other), 0);
	assert_int_equal(get(other, "a"), 80);
	assert_int_equal(get(other, "b"), 83);
	assert_int_equal(get(other, "c"), 0);
	bn_laststate_freep(&other);
	assert_int_equal(bn_laststate_open(dir, "two", &other), 0);
	assert_int_equal(get(other, "a"), 0);
	assert_null(bn_laststate_cleanup(dir)); /* no note */
	bn_laststate_note(other, dir);
	bn_laststate_freep(&other);
	path = bn_laststate_cleanup(dir);
	assert_non_null(path);
	assert_int_equal(access(path, F_OK), -1);
	freep(&path);
	assert_null(bn_laststate_cleanup(dir));

	size = file_size();
	put(l, "a", 80); /* the same again costs nothing */
	bn_laststate_freep(&l);
	assert_int_equal(file_size(), size);
	l = open_state();
	put(l, "a", 80);
	bn_laststate_flush(l);
	assert_int_equal(file_size(), size);
	bn_laststate_prune(l, BN_KIND_SERVICE); /* b was neither put nor seen */
	assert_int_equal(get(l, "b"), 0);
	bn_laststate_freep(&l);
	l = open_state();
	assert_int_equal(get(l, "a"), 80);
	assert_int_equal(get(l, "b"), 0);
	bn_laststate_seen(l, BN_KIND_SERVICE, "n", "a");
	bn_laststate_prune(l, BN_KIND_SERVICE);
	assert_int_equal(get(l, "a"), 80);
	bn_laststate_freep(&l);
}

static void test_other_kinds(void **state)
{
	struct bn_laststate *l = open_state();
	json_t *j = json_pack("{s:s,s:s,s:{s:s}}", "apiVersion", "v1", "kind", "Pod", "metadata", "name",
			      "p");
	struct bn_obj *o = NULL;

	(void)state;
	bn_laststate_put(l, BN_KIND_POD, "default", "p", j);
	json_decref(j);
	assert_int_equal(bn_laststate_get(l, BN_KIND_POD, "default", "p", &o), -ENOENT);
	bn_laststate_freep(&l);
	assert_int_equal(file_size(), 0);
}

/* Cut and bent at every place, the file gives what is whole in it and takes more. */
static void test_broken(void **state)
{
	struct bn_laststate *l = open_state();
	_cleanup_(freep) char *text = NULL;
	char path[256];
	size_t size, i;
	FILE *f;

	(void)state;
	put(l, "a", 80);
	put(l, "b", 81);
	bn_laststate_freep(&l);
	snprintf(path, sizeof(path), "%s", file_name());
	size = (size_t)file_size();
	text = malloc(size);
	f = fopen(path, "r");
	assert_int_equal(fread(text, 1, size, f), size);
	fclose(f);
	for (i = 0; i < 2 * size; i++) {
		unsigned a, b;

		f = fopen(path, "w");
		if (i < size) {
			fwrite(text, 1, i, f);
		} else {
			text[i - size] ^= 4;
			fwrite(text, 1, size, f);
			text[i - size] ^= 4;
		}
		fclose(f);
		l = open_state();
		a = get(l, "a");
		b = get(l, "b");
		assert_true((a == 0 || a == 80) && (b == 0 || b == 81));
		if (i >= size && text[i - size] != '\n')
			assert_true(a || b); /* one line is bent, not both */
		put(l, "z", 99);
		bn_laststate_freep(&l);
		l = open_state();
		assert_int_equal(get(l, "z"), 99);
		/* a line that lacks its end only is whole with the one that put adds */
		assert_true(get(l, "a") == a || get(l, "a") == 80);
		assert_true(get(l, "b") == b || get(l, "b") == 81);
		bn_laststate_freep(&l);
	}
}

static void test_rewrite(void **state)
{
	struct bn_laststate *l = open_state();
	off_t biggest = 0;
	unsigned i, rewritten = 0;

	(void)state;
	put(l, "kept", 7);
	for (i = 0; i < 20000; i++) {
		off_t before = file_size();

		put(l, "a", 1 + i);
		put(l, i % 2 ? "b" : "c", 1 + i);
		bn_laststate_flush(l);
		rewritten += file_size() < before;
		biggest = file_size() > biggest ? file_size() : biggest;
		if (!(i % 1000))
			assert_int_equal(get(l, "kept"), 7);
	}
	assert_true(rewritten > 2);
	assert_true(biggest < 2 << 20);
	assert_int_equal(get(l, "a"), 20000);
	bn_laststate_freep(&l);
	l = open_state();
	assert_int_equal(get(l, "kept"), 7);
	assert_int_equal(get(l, "a"), 20000);
	assert_int_equal(get(l, "b"), 20000);
	assert_int_equal(get(l, "c"), 19999);
	bn_laststate_freep(&l);
}

static void limit_files(rlim_t bytes)
{
	struct rlimit rl = { bytes, RLIM_INFINITY };

	assert_int_equal(setrlimit(RLIMIT_FSIZE, &rl), 0);
}

/* The disk is full for a while: nothing ends, nothing wrong is read, and with room all is kept. */
static void test_full(void **state)
{
	struct bn_laststate *l = open_state(), *other;
	char name[16];
	unsigned i, n = 0;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	put(l, "before", 7);
	bn_laststate_flush(l);
	limit_files(2000);
	for (i = 1; i <= 50; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		put(l, name, i);
		bn_laststate_flush(l);
		assert_true(get(l, name) == i || get(l, name) == 0);
	}
	assert_int_equal(file_size(), 2000); /* the last line is torn */
	other = open_state();
	assert_int_equal(get(other, "before"), 7);
	for (i = 1; i <= 50; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		assert_true(get(other, name) == i || get(other, name) == 0);
		n += get(other, name) == i;
	}
	assert_in_range(n, 3, 20);
	bn_laststate_freep(&other);
	limit_files(RLIM_INFINITY);
	bn_laststate_freep(&l);
	l = open_state();
	for (i = 1; i <= 50; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		assert_int_equal(get(l, name), i);
	}
	/* for so long that lines are lost: those that come again are kept again */
	limit_files((rlim_t)file_size());
	for (i = 0; i < 20000; i++) {
		put(l, "lost", 1 + i);
		if (!(i % 100))
			bn_laststate_flush(l);
	}
	assert_true(get(l, "lost") == 0 || get(l, "lost") == 20000);
	limit_files(RLIM_INFINITY);
	put(l, "lost", 20000);
	put(l, "after", 8);
	bn_laststate_freep(&l);
	l = open_state();
	assert_int_equal(get(l, "lost"), 20000);
	assert_int_equal(get(l, "after"), 8);
	assert_int_equal(get(l, "s50"), 50);
	bn_laststate_freep(&l);
}

static void test_no_directory(void **state)
{
	struct bn_laststate *l = NULL;

	(void)state;
	assert_int_equal(bn_laststate_open("/dev/null/x", "one", &l), 0);
	put(l, "a", 80);
	bn_laststate_flush(l);
	assert_int_equal(get(l, "a"), 0);
	bn_laststate_freep(&l);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_survives), T(test_other_kinds),	T(test_broken),
		T(test_rewrite),  T(test_no_directory), T(test_full),
	};

	bn_log_setup("error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
