/* SPDX-License-Identifier: MIT */
/* Policies whose HTTP rules take long to check: what stays in force meanwhile, and whose turn it is. */
#include "tests/unit/object.h"

#include <poll.h>
#include <semaphore.h>
#include <sys/eventfd.h>

#include "loader/slow.h"
#include "loader/source/check.h"
#include "loader/source/laststate.h"

static int wake_fd;

static void on_wake(void *data _unused_)
{
	assert_int_equal(eventfd_write(wake_fd, 1), 0);
}

struct env {
	struct bn_slow *slow;
	struct bn_store *store;
	struct bn_source source;
	unsigned taken, refused;
};

static struct env *judging;

static void on_judged(struct bn_source *s _unused_, const struct bn_source_id *id _unused_,
		      const json_t *json _unused_, const struct bn_err *err)
{
	judging->taken += !err;
	judging->refused += err != NULL;
}

static void open_env(struct env *e, bool synced)
{
	*e = (struct env){};
	judging = e;
	assert_int_equal(bn_store_new(&e->store), 0);
	assert_int_equal(bn_slow_new(on_wake, NULL, &e->slow), 0);
	bn_source_init(&e->source, "test", NULL, e->store, NULL);
	e->source.slow = e->slow;
	e->source.judged = on_judged;
	if (synced)
		bn_source_set_synced(&e->source, BN_KIND_HTTPNETPOL);
}

static void close_env(struct env *e)
{
	json_t *rejected = bn_source_rejected_json(&e->source), *o;
	size_t i;

	bn_slow_freep(&e->slow);
	json_array_foreach(rejected, i, o) {
		struct bn_source_id id = { BN_KIND_HTTPNETPOL, bn_intern("n"),
					   bn_intern(json_string_value(json_object_get(o, "name"))) };

		bn_source_gone(&e->source, &id);
	}
	json_decref(rejected);
	assert_null(e->source.checks);
	bn_store_freep(&e->store);
}

/* Waits for a job that is done. */
static void collect(struct env *e)
{
	struct pollfd p = { .fd = wake_fd, .events = POLLIN };
	eventfd_t n;

	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_int_equal(eventfd_read(wake_fd, &n), 0);
	bn_slow_collect(e->slow);
}

static void settle(struct env *e)
{
	while (e->source.checks)
		collect(e);
}

static json_t *policy(const char *name, const char *path, unsigned port)
{
	json_t *j = json_pack("{ssss s{ssss} s{s{}s[{s[{si}]s[{s{ssss}}]}]}}", "apiVersion", "bpfnet.io/v1alpha1", "kind",
			      "HTTPNetworkPolicy", "metadata", "namespace", "n", "name", name, "spec", "podSelector",
			      "ingress", "ports", "port", port, "http", "path", "type", "RegularExpression", "value", path);

	assert_non_null(j);
	return j;
}

/* HEAVY: fine, after some 100,000 steps. BAD: after all that there are. */
#define LIGHT "/a[0-9]+"
#define HEAVY "/.*a.{10}"
#define BAD "/.*a.{24}"

static int apply(struct env *e, const char *name, const char *path, unsigned port)
{
	json_t *j = policy(name, path, port);
	int r = bn_source_apply(&e->source, j, NULL, 0, NULL);

	json_decref(j);
	return r;
}

/* The port of its rule; -1: a stub; 0: there is none. */
static int in_force(const struct env *e, const char *name)
{
	const struct bn_netpol *np = (const struct bn_netpol *)bn_store_get(e->store, BN_KIND_HTTPNETPOL, "n", name);

	return !np ? 0 : np->o.refused ? -1 : np->in[0].ports[0].port;
}

static void test_stays(void **state _unused_)
{
	struct env e;
	json_t *list;

	open_env(&e, true);
	assert_int_equal(apply(&e, "a", LIGHT, 1), 0);
	assert_int_equal(apply(&e, "a", HEAVY, 2), 1);
	assert_int_equal(in_force(&e, "a"), 1);
	list = bn_check_json(&e.source);
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "name")), "a");
	json_decref(list);
	settle(&e);
	assert_int_equal(in_force(&e, "a"), 2);
	assert_int_equal(e.taken, 2);

	/* the same again, as after its status was written: known */
	assert_int_equal(apply(&e, "a", HEAVY, 2), 0);
	assert_null(e.source.checks);

	assert_int_equal(apply(&e, "a", BAD, 3), 1);
	settle(&e);
	assert_int_equal(in_force(&e, "a"), 2);
	assert_int_equal(e.refused, 1);
	list = bn_source_rejected_json(&e.source);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "field")), "spec.ingress[0].http[0].path");
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "inForce")), "last good version");
	json_decref(list);
	assert_int_equal(apply(&e, "a", BAD, 3), -EINVAL); /* known, too */
	assert_null(e.source.checks);

	/* another one that never was good */
	assert_int_equal(apply(&e, "b", BAD, 3), 1);
	assert_int_equal(in_force(&e, "b"), 0);
	settle(&e);
	assert_int_equal(in_force(&e, "b"), -1);
	close_env(&e);
}

/* Of an object the latest version counts, and none once it is gone. */
static void test_overtaken(void **state _unused_)
{
	const struct bn_source_id id = { BN_KIND_HTTPNETPOL, bn_intern("n"), bn_intern("a") };
	struct env e;

	open_env(&e, true);
	for (unsigned port = 1; port <= 20; port++)
		assert_int_equal(apply(&e, "a", HEAVY, port), 1);
	assert_int_equal(apply(&e, "a", HEAVY, 20), 1); /* goes on */
	settle(&e);
	assert_int_equal(in_force(&e, "a"), 20);
	assert_int_equal(e.taken, 1);
	assert_int_equal(apply(&e, "a", HEAVY, 21), 1);
	assert_int_equal(apply(&e, "a", LIGHT, 22), 0);
	assert_int_equal(in_force(&e, "a"), 22);
	assert_int_equal(apply(&e, "a", HEAVY, 23), 1);
	bn_source_gone(&e.source, &id);
	assert_int_equal(apply(&e, "b", HEAVY, 24), 1);
	settle(&e);
	assert_int_equal(in_force(&e, "a"), 0);
	assert_int_equal(in_force(&e, "b"), 24);
	assert_int_equal(apply(&e, "c", BAD, 25), 1); /* left under way */
	close_env(&e);
}

/* The first full reading waits, and closes what it does not know. */
static void test_first(void **state _unused_)
{
	struct env e;

	open_env(&e, false);
	assert_int_equal(apply(&e, "a", HEAVY, 1), 1);
	assert_int_equal(in_force(&e, "a"), -1);
	bn_source_set_synced(&e.source, BN_KIND_HTTPNETPOL);
	assert_false(bn_source_synced(&e.source, 1u << BN_KIND_HTTPNETPOL));
	assert_int_equal(apply(&e, "b", BAD, 1), 1); /* came later: nobody waits for it */
	while (e.source.nfirst_checks)
		collect(&e);
	assert_true(bn_source_synced(&e.source, 1u << BN_KIND_HTTPNETPOL));
	assert_int_equal(in_force(&e, "a"), 1);
	settle(&e);
	close_env(&e);

	open_env(&e, false);
	assert_int_equal(apply(&e, "a", BAD, 1), 1);
	bn_source_set_synced(&e.source, BN_KIND_HTTPNETPOL);
	assert_false(bn_source_synced(&e.source, 1u << BN_KIND_HTTPNETPOL));
	e.source.state[BN_KIND_HTTPNETPOL].first_ns -= 6000000000ull;
	assert_true(bn_source_synced(&e.source, 1u << BN_KIND_HTTPNETPOL)); /* not for ever */
	close_env(&e);
}

/* What the state directory says was in force need not be checked again by the next daemon. */
static void test_restart(void **state _unused_)
{
	char dir[] = "/tmp/bn-check-XXXXXX", cmd[64];
	struct env e;

	assert_non_null(mkdtemp(dir));
	for (int k = 0; k < 2; k++) {
		open_env(&e, false);
		assert_int_equal(bn_laststate_open(dir, "one", &e.source.last), 0);
		assert_int_equal(apply(&e, "a", HEAVY, 1), k ? 0 : 1);
		settle(&e);
		assert_int_equal(in_force(&e, "a"), 1);
		/* another version: what was good before is in force meanwhile, not the stub */
		assert_int_equal(apply(&e, "b", HEAVY, k + 1), 1);
		assert_int_equal(in_force(&e, "b"), k ? 1 : -1);
		settle(&e);
		bn_laststate_freep(&e.source.last);
		close_env(&e);
	}
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	assert_int_equal(system(cmd), 0);
}

/* --- turns ---------------------------------------------------------------------------------------- */

struct turn {
	struct bn_slow_job job;
	char ns;
};

static char order[64];
static unsigned nrun, ndone, ndropped;
static sem_t gate;

static void turn_run(struct bn_slow_job *j)
{
	struct turn *t = (struct turn *)j;

	if (t->ns == 'g')
		sem_wait(&gate);
	order[nrun++] = t->ns;
}

static void turn_done(struct bn_slow_job *j _unused_)
{
	ndone++;
}

static void turn_drop(struct bn_slow_job *j _unused_)
{
	ndropped++;
}

static void test_turns(void **state _unused_)
{
	static const char *const what = "gaaaaaabbc";
	static const char *names[256];
	struct turn t[20] = {};
	struct env e;

	open_env(&e, true);
	sem_init(&gate, 0, 0);
	for (unsigned k = 0; what[k]; k++) {
		names[(unsigned char)what[k]] = what + (strchr(what, what[k]) - what);
		t[k].ns = what[k];
		t[k].job = (struct bn_slow_job){ .ns = names[(unsigned char)what[k]], .run = turn_run, .done = turn_done,
						 .drop = turn_drop };
		assert_int_equal(bn_slow_push(e.slow, &t[k].job), 0);
		while (!k && bn_slow_cancel(e.slow, &t[0].job)) /* it has to be under way before the others come */
			assert_int_equal(bn_slow_push(e.slow, &t[0].job), 0);
	}
	assert_true(bn_slow_cancel(e.slow, &t[6].job)); /* an 'a' */
	sem_post(&gate);
	while (ndone < 9)
		collect(&e);
	assert_string_equal(order, "gabcabaaa");
	bn_slow_freep(&e.slow);
	assert_int_equal(ndropped, 0);
	close_env(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stays),	cmocka_unit_test(test_overtaken), cmocka_unit_test(test_first),
		cmocka_unit_test(test_restart), cmocka_unit_test(test_turns),
	};

	wake_fd = eventfd(0, EFD_CLOEXEC);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
