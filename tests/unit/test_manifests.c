/* SPDX-License-Identifier: MIT */
/* The manifests source, driven through real files and its event loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "loader/log.h"
#include "loader/source/files.h"
#include "loader/source/manifests.h"
#include "maps/util.h"
#include "policy/intern.h"
#include "policy/manifest.h"

struct env {
	char dir[64], state[80];
	struct event_base *base;
	struct bn_store *store;
	struct bn_laststate *last;
	struct bn_source *src;
	unsigned changes, calls;
};

static void on_store(const struct bn_obj *old, const struct bn_obj *new, void *data)
{
	(void)old;
	(void)new;
	((struct env *)data)->changes++;
}

static void on_changed(void *data)
{
	((struct env *)data)->calls++;
}

static void run(struct env *e, unsigned ms)
{
	struct timeval tv = { ms / 1000, (ms % 1000) * 1000 };

	bn_intern_collect();
	event_base_loopexit(e->base, &tv);
	event_base_dispatch(e->base);
}

/* Long enough for the event and the delay after it; what is awaited is polled for. */
static bool wait_for(struct env *e, bool (*fn)(struct env *e, const char *arg), const char *arg)
{
	int i;

	for (i = 0; i < 300; i++) {
		if (fn(e, arg))
			return true;
		run(e, 10);
	}
	return false;
}

static void start(struct env *e)
{
	const struct bn_source_callbacks cb = { on_changed, e };

	assert_int_equal(bn_store_new(&e->store), 0);
	bn_store_listen(e->store, on_store, e);
	assert_int_equal(bn_laststate_open(e->state, "/sys/fs/bpf/test", &e->last), 0);
	assert_int_equal(bn_manifests_new(e->base, e->dir, e->last, e->store, &cb, &e->src), 0);
	assert_int_equal(bn_source_start(e->src), 0);
}

static void stop(struct env *e)
{
	bn_source_freep(&e->src);
	bn_laststate_freep(&e->last);
	bn_store_freep(&e->store);
}

static int setup(void **state)
{
	struct env *e = calloc(1, sizeof(*e));

	strcpy(e->dir, "/tmp/bn-manifests-XXXXXX");
	assert_non_null(mkdtemp(e->dir));
	snprintf(e->state, sizeof(e->state), "%s/.state/deep", e->dir);
	e->base = event_base_new();
	start(e);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;
	char cmd[200];

	stop(e);
	event_base_free(e->base);
	snprintf(cmd, sizeof(cmd), "chmod -R u+rwx '%s'; rm -rf '%s'", e->dir, e->dir);
	assert_int_equal(system(cmd), 0);
	free(e);
	bn_intern_reset();
	return 0;
}

static void put(struct env *e, const char *name, const char *text)
{
	char path[200], tmp[200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", e->dir, name);
	snprintf(tmp, sizeof(tmp), "%s/.tmp", e->dir);
	f = fopen(tmp, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(rename(tmp, path), 0);
}

static void del(struct env *e, const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", e->dir, name);
	assert_int_equal(unlink(path), 0);
}

static bool has_ns(struct env *e, const char *name)
{
	return bn_store_get(e->store, BN_KIND_NAMESPACE, "", name);
}

static bool no_ns(struct env *e, const char *name)
{
	return !has_ns(e, name);
}

/* "name=team" */
static bool ns_team(struct env *e, const char *arg)
{
	const char *eq = strchr(arg, '='), *team;
	char name[64];
	struct bn_obj *o;

	snprintf(name, sizeof(name), "%.*s", (int)(eq - arg), arg);
	o = bn_store_get(e->store, BN_KIND_NAMESPACE, "", name);
	team = o ? bn_labels_get(&o->labels, bn_intern("team")) : NULL;
	return team && !strcmp(team, eq + 1);
}

static bool rejected(struct env *e, const char *text)
{
	json_t *list = bn_source_rejected_json(e->src);
	char *s = json_dumps(list, 0);
	bool found = strstr(s, text);

	free(s);
	json_decref(list);
	return found;
}

static bool none_rejected(struct env *e, const char *arg)
{
	(void)arg;
	return rejected(e, "[]");
}

static bool synced(struct env *e, const char *arg)
{
	(void)arg;
	return bn_source_synced(e->src, ~0u) && !bn_source_failing(e->src, ~0u, 0);
}

static bool failing(struct env *e, const char *arg)
{
	json_t *list = bn_source_json(e->src);
	char *s = json_dumps(list, 0);
	bool found = bn_source_failing(e->src, ~0u, 0) && strstr(s, arg);

	free(s);
	json_decref(list);
	return found;
}

#define NS(name, team)                                                                             \
	"apiVersion: v1\nkind: Namespace\nmetadata: {name: " name ", labels: {team: " team "}}\n"
#define POLICY(name, type)                                                                         \
	"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: " name            \
	"}\nspec: {podSelector: {matchLabels: {a: b}}, policyTypes: [" type "]}\n"

static void test_life(void **state)
{
	struct env *e = *state;
	unsigned before;

	assert_true(wait_for(e, synced, NULL));
	put(e, "empty.yaml", "");
	put(e, ".hidden.yaml", NS("hidden", "x"));
	put(e, "text.txt", NS("text", "x"));
	put(e, "a.yaml", NS("one", "x") "---\n" NS("two", "x"));
	put(e, "b.json", "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\","
			 "\"kind\":\"Namespace\",\"metadata\":{\"name\":\"three\"}}]}");
	assert_true(wait_for(e, has_ns, "two"));
	assert_true(wait_for(e, has_ns, "three"));
	assert_true(has_ns(e, "one"));
	assert_false(has_ns(e, "hidden"));
	assert_false(has_ns(e, "text"));
	assert_true(none_rejected(e, NULL));

	before = e->changes;
	put(e, "a.yaml", NS("one", "x") "---\n# moved\n" NS("two", "y"));
	assert_true(wait_for(e, ns_team, "two=y"));
	assert_int_equal(e->changes, before + 1); /* one did not change */
	put(e, "a.yaml", "# first line\n" NS("one", "x") "---\n" NS("two", "y"));
	run(e, 100);
	assert_int_equal(e->changes, before + 1);
	put(e, "a.yaml", NS("two", "y"));
	assert_true(wait_for(e, no_ns, "one"));
	del(e, "a.yaml");
	assert_true(wait_for(e, no_ns, "two"));
	assert_true(has_ns(e, "three"));
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* A change that comes alone is read within milliseconds; several soon after another are read at once. */
static void test_soon(void **state)
{
	struct env *e = *state;
	uint64_t best = UINT64_MAX, began;
	char text[128], arg[16];
	unsigned i, calls;

	for (i = 0; i < 8; i++) {
		snprintf(arg, sizeof(arg), "ns%u", i);
		snprintf(text, sizeof(text),
			 "{apiVersion: v1, kind: Namespace, metadata: {name: %s}}\n", arg);
		run(e, 150); /* nothing for a while */
		put(e, "a.yaml", text);
		began = now_us();
		while (!has_ns(e, arg) && now_us() - began < 1000000)
			run(e, 1);
		assert_true(has_ns(e, arg));
		if (now_us() - began < best)
			best = now_us() - began;
	}
	if (best > 15000)
		fail_msg("a lone change took %llu us, at best", (unsigned long long)best);
	calls = e->calls;
	for (i = 0; i < 8; i++) {
		put(e, "a.yaml", text);
		run(e, 1);
	}
	run(e, 40);
	assert_in_range(e->calls - calls, 1, 5);
}

static void test_bad_text(void **state)
{
	struct env *e = *state;

	put(e, "a.yaml", NS("one", "x") "---\n" NS("two", "x"));
	assert_true(wait_for(e, has_ns, "two"));
	/* half written: nothing of it is lost, what is good is applied */
	put(e, "a.yaml", NS("one", "y") "---\napiVersion: v1\nkind: [\n");
	assert_true(wait_for(e, ns_team, "one=y"));
	assert_true(has_ns(e, "two"));
	assert_true(rejected(e, "a.yaml:"));
	put(e, "a.yaml", NS("one", "z"));
	assert_true(wait_for(e, ns_team, "one=z"));
	assert_true(wait_for(e, no_ns, "two"));
	assert_true(none_rejected(e, NULL));
}

static void test_bad_object(void **state)
{
	struct env *e = *state;
	struct bn_obj *o;

	put(e, "p.yaml", POLICY("good", "Ingress"));
	run(e, 100);
	put(e, "p.yaml", POLICY("good", "Sideways") "---\n" POLICY("new", "Up") "---\n" NS("n", "x"));
	assert_true(wait_for(e, has_ns, "n"));
	o = bn_store_get(e->store, BN_KIND_NETPOL, "default", "good");
	assert_non_null(o);
	assert_false(o->refused);
	o = bn_store_get(e->store, BN_KIND_NETPOL, "default", "new");
	assert_non_null(o);
	assert_true(o->refused);
	assert_true(rejected(e, "p.yaml:1"));
	assert_true(rejected(e, "p.yaml:6"));
	assert_true(rejected(e, "spec.policyTypes[0]"));
	assert_true(rejected(e, "last good version"));
	assert_true(rejected(e, "isolation only"));
	/* a restart keeps the one that was good */
	stop(e);
	start(e);
	assert_true(wait_for(e, has_ns, "n"));
	o = bn_store_get(e->store, BN_KIND_NETPOL, "default", "good");
	assert_non_null(o);
	assert_false(o->refused);
	assert_true(bn_store_get(e->store, BN_KIND_NETPOL, "default", "new")->refused);
	put(e, "p.yaml", POLICY("new", "Egress"));
	assert_true(wait_for(e, no_ns, "n"));
	assert_null(bn_store_get(e->store, BN_KIND_NETPOL, "default", "good"));
	assert_false(bn_store_get(e->store, BN_KIND_NETPOL, "default", "new")->refused);
	assert_true(none_rejected(e, NULL));
	/* and does not bring back what was gone */
	stop(e);
	put(e, "p.yaml", POLICY("good", "Sideways"));
	start(e);
	assert_true(wait_for(e, synced, NULL));
	assert_true(bn_store_get(e->store, BN_KIND_NETPOL, "default", "good")->refused);
}

/* At start a text that cannot be read hides what may be policies: what they were stays in force. */
static void test_bad_text_at_start(void **state)
{
	struct env *e = *state;
	struct bn_obj *o;

	put(e, "a.yaml", POLICY("first", "Ingress") "---\n" POLICY("second", "Egress"));
	put(e, "b.yaml", NS("one", "x"));
	assert_true(wait_for(e, has_ns, "one"));
	stop(e);
	put(e, "a.yaml", POLICY("first", "Ingress") "---\nkind: [\n");
	start(e);
	assert_true(wait_for(e, has_ns, "one"));
	assert_true(wait_for(e, synced, NULL));
	o = bn_store_get(e->store, BN_KIND_NETPOL, "default", "second");
	assert_non_null(o);
	assert_false(o->refused);
	assert_true(((struct bn_netpol *)o)->egress);
	put(e, "b.yaml", NS("two", "x"));
	assert_true(wait_for(e, no_ns, "one"));
	assert_non_null(bn_store_get(e->store, BN_KIND_NETPOL, "default", "second"));
	put(e, "a.yaml", POLICY("first", "Ingress") "---\n" NS("three", "x"));
	assert_true(wait_for(e, has_ns, "three"));
	assert_null(bn_store_get(e->store, BN_KIND_NETPOL, "default", "second"));
	assert_non_null(bn_store_get(e->store, BN_KIND_NETPOL, "default", "first"));
	assert_true(none_rejected(e, NULL));
}

static void test_copies(void **state)
{
	struct env *e = *state;
	unsigned before;

	put(e, "b.yaml", NS("one", "b"));
	assert_true(wait_for(e, ns_team, "one=b"));
	put(e, "c.yaml", NS("one", "c"));
	run(e, 100);
	assert_true(ns_team(e, "one=b"));
	assert_true(rejected(e, "c.yaml:1"));
	assert_true(rejected(e, "stands in b.yaml, too"));
	put(e, "a.yaml", NS("one", "a"));
	assert_true(wait_for(e, ns_team, "one=a"));
	assert_true(rejected(e, "b.yaml:1"));
	del(e, "a.yaml");
	assert_true(wait_for(e, ns_team, "one=b"));
	assert_false(rejected(e, "b.yaml:1"));
	del(e, "b.yaml");
	assert_true(wait_for(e, ns_team, "one=c"));
	assert_true(none_rejected(e, NULL));
	before = e->changes;
	/* moved to another file: never away */
	put(e, "d.yaml", NS("one", "c"));
	del(e, "c.yaml");
	run(e, 100);
	assert_int_equal(e->changes, before);
	assert_true(none_rejected(e, NULL));
	put(e, "d.yaml", NS("one", "c") "---\n" NS("one", "d"));
	run(e, 100);
	assert_true(ns_team(e, "one=c"));
	assert_true(rejected(e, "stands twice in this file; the one in line 1 counts"));
}

static void link_data(struct env *e, const char *version)
{
	char path[200], tmp[200];

	snprintf(tmp, sizeof(tmp), "%s/..data_tmp", e->dir);
	snprintf(path, sizeof(path), "%s/..data", e->dir);
	assert_int_equal(symlink(version, tmp), 0);
	assert_int_equal(rename(tmp, path), 0);
}

static void test_configmap(void **state)
{
	struct env *e = *state;
	char path[200];

	snprintf(path, sizeof(path), "%s/..v1", e->dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/..v2", e->dir);
	mkdir(path, 0755);
	put(e, "..v1/a.yaml", NS("one", "v1"));
	put(e, "..v2/a.yaml", NS("one", "v2"));
	link_data(e, "..v1");
	snprintf(path, sizeof(path), "%s/a.yaml", e->dir);
	assert_int_equal(symlink("..data/a.yaml", path), 0);
	assert_true(wait_for(e, ns_team, "one=v1"));
	link_data(e, "..v2");
	assert_true(wait_for(e, ns_team, "one=v2"));
	del(e, "..data");
	del(e, "a.yaml");
	assert_true(wait_for(e, no_ns, "one"));
}

static void test_directory(void **state)
{
	struct env *e = *state;
	char away[100];

	put(e, "a.yaml", NS("one", "x"));
	assert_true(wait_for(e, has_ns, "one"));
	snprintf(away, sizeof(away), "%s-away", e->dir);
	assert_int_equal(rename(e->dir, away), 0);
	assert_true(wait_for(e, failing, e->dir));
	assert_true(has_ns(e, "one"));
	assert_int_equal(mkdir(e->dir, 0755), 0);
	put(e, "b.yaml", NS("two", "x"));
	assert_true(wait_for(e, has_ns, "two"));
	assert_true(wait_for(e, no_ns, "one"));
	assert_true(wait_for(e, synced, NULL));
	/* deleted and made again with the same name at once */
	del(e, "b.yaml");
	assert_int_equal(rmdir(e->dir), 0);
	assert_int_equal(rename(away, e->dir), 0);
	assert_true(wait_for(e, has_ns, "one"));
}

static void test_unreadable(void **state)
{
	struct env *e = *state;
	char path[200];

	put(e, "a.yaml", NS("one", "x"));
	assert_true(wait_for(e, has_ns, "one"));
	snprintf(path, sizeof(path), "%s/loop.yaml", e->dir);
	assert_int_equal(symlink("loop.yaml", path), 0);
	assert_true(wait_for(e, failing, "loop.yaml"));
	assert_true(rejected(e, "loop.yaml"));
	assert_int_equal(unlink(path), 0);
	assert_true(wait_for(e, synced, NULL));
	assert_true(none_rejected(e, NULL));
	snprintf(path, sizeof(path), "%s/fifo.yaml", e->dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	put(e, "b.yaml", NS("two", "x"));
	assert_true(wait_for(e, has_ns, "two"));
}

/* --- the same as reading the directory at once ---------------------------------------------------- */

static uint64_t seed = 42;

static unsigned rnd(unsigned below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)((seed * 0x9e3779b97f4a7c15ull >> 33) % below);
}

static void random_file(struct env *e, const char *name)
{
	unsigned n = rnd(5), json = rnd(2);
	char text[2048] = "";
	size_t len = 0;

	if (json)
		len += (size_t)sprintf(text, "{\"kind\":\"NamespaceList\",\"apiVersion\":\"v1\",\"items\":[");
	while (n--) {
		unsigned who = rnd(6), team = rnd(3);

		if (json)
			len += (size_t)sprintf(text + len, "%s\n{\"metadata\":{\"name\":\"n%u\",\"labels\":"
					       "{\"team\":\"t%u\"}}}", text[len - 1] == '[' ? "" : ",", who, team);
		else
			len += (size_t)sprintf(text + len, "---\nkind: Namespace\napiVersion: v1\nmetadata:\n"
					       "  name: n%u\n  labels: {team: t%u}\n", who, team);
	}
	if (json)
		strcpy(text + len, "]}");
	put(e, name, text);
}

static int same_in(struct bn_obj *o, void *data)
{
	const struct bn_obj *p = bn_store_get(data, o->kind, o->ns, o->name);

	if (!p || !bn_obj_equal(o, p) || strcmp(o->origin, p->origin))
		fail_msg("%s: %s, and %s", o->name, o->origin, p ? p->origin : "not there");
	return 0;
}

/* Thousands of copies are refused, and said: not to be read by anybody. */
static int process_quietly(struct bn_files *files, int dirfd)
{
	int err = dup(2), null = open("/dev/null", O_WRONLY), r;

	if (!getenv("BN_TEST_LOG"))
		dup2(null, 2);
	r = bn_files_process(files, dirfd);
	dup2(err, 2);
	close(err);
	close(null);
	return r;
}

static void test_random(void **state)
{
	static const char *const names[] = { "a.yaml", "b.json", "c.yml", "d.yaml" };
	struct env *e = *state;
	struct bn_source src = { .name = "random", .store = e->store };
	struct bn_files files;
	int dirfd, round, i;
	unsigned notified = 0;

	bn_files_init(&files, &src);
	dirfd = open(e->dir, O_RDONLY | O_DIRECTORY);
	for (round = 0; round < 1500; round++) {
		_cleanup_(bn_store_freep) struct bn_store *want = NULL;
		int ops = 1 + (int)rnd(3);

		for (i = 0; i < ops; i++) {
			const char *name = names[rnd(ARRAY_SIZE(names))];

			if (rnd(4))
				random_file(e, name);
			else
				unlinkat(dirfd, name, 0);
			assert_int_equal(bn_files_mark(&files, name), 0);
		}
		assert_int_equal(process_quietly(&files, dirfd), 0);
		assert_int_equal(files.npending, 0);
		notified += e->changes > 0;
		assert_int_equal(bn_store_new(&want), 0);
		assert_int_equal(bn_manifest_load_dir(e->dir, want, NULL, NULL), 0);
		bn_store_each(want, BN_KIND_NAMESPACE, same_in, e->store);
		assert_int_equal(bn_store_count(e->store, BN_KIND_NAMESPACE),
				 bn_store_count(want, BN_KIND_NAMESPACE));
	}
	assert_true(notified > 0);
	for (i = 0; i < (int)ARRAY_SIZE(names); i++) {
		unlinkat(dirfd, names[i], 0);
		bn_files_mark(&files, names[i]);
	}
	assert_int_equal(bn_files_process(&files, dirfd), 0);
	assert_int_equal(bn_store_count(e->store, BN_KIND_NAMESPACE), 0);
	assert_null(src.rejects); /* nothing is refused for ever */
	assert_int_equal(files.nclaims, 0);
	bn_files_clear(&files);
	close(dirfd);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_life),	   T(test_bad_text),  T(test_bad_object), T(test_copies),
		T(test_bad_text_at_start), T(test_soon),
		T(test_configmap), T(test_directory), T(test_unreadable), T(test_random),
	};

	bn_log_setup(getenv("BN_TEST_LOG") ?: "error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
