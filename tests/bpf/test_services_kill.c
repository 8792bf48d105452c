/* SPDX-License-Identifier: MIT */
/* The daemon is killed at any instant while it writes: what is pinned must be whole (every service
 * there, each list of one version), the next daemon must bring it to what the objects say, and the
 * one after that must find nothing to write.
 */
#include "tests/svc_fixture.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "loader/log.h"
#include "loader/model/services.h"
#include "policy/intern.h"

#define SERVICES 12
#define STABLE	 8 /* always there */
#define KILLS	 60

static const struct bn_svc_env env = {.node_name = "n1"};

/* version 0..: as many endpoints as the version says, each naming it. */
static void put(struct bn_store *s, unsigned k, unsigned version)
{
	_cleanup_(freep) char *eps = NULL;
	size_t len;
	FILE *f = open_memstream(&eps, &len);

	fx_put(s,
	       "{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','name':'s%u'},'"
	       "spec':{"
	       "'type':'LoadBalancer','clusterIPs':['10.0.0.%u','fd00::%u'],'externalTrafficPolicy'"
	       ":'%s',%s"
	       "'loadBalancerSourceRanges':['10.%u.0.0/"
	       "16'],'ports':[{'name':'a','port':80,'nodePort':%u}]},"
	       "'status':{'loadBalancer':{'ingress':[{'ip':'192.0.2.%u'}]}}}",
	       k, k + 1, k + 1, version % 5 ? "Cluster" : "Local",
	       version % 7 ? "" : "'sessionAffinity':'ClientIP',", version % 4, 30000 + k, k + 1);
	for (unsigned i = 0; i < 1 + version % 6; i++)
		fprintf(f, "%s{'addresses':['10.%u.%u.%u'],'nodeName':'n%u'}", i ? "," : "",
			1 + version % 200, k, i + 1, 1 + i % 2);
	fclose(f);
	fx_put(s, FX_SLICE("d", "s%u", "s%u", "IPv4", FX_PORT("a", "TCP", 80), "%s"), k, k, eps);
}

static void fill(struct bn_store *s, unsigned version)
{
	for (unsigned k = 0; k < SERVICES; k++)
		put(s, k, version);
}

/* The daemon: changes without end. */
static uint32_t *progress; /* shared with the child: its changes so far */

static void child(struct bn_maps *maps, unsigned round)
{
	struct bn_store *store;
	struct bn_services *svc;
	char name[16];

	srand(round);
	if (bn_store_new(&store) < 0)
		_exit(1);
	fill(store, 1000 + round);
	if (bn_services_new(store, maps, &env, &svc) < 0)
		_exit(2);
	bn_services_set_ready(svc, true);
	for (unsigned version = 0;; version++) {
		unsigned k = (unsigned)rand() % SERVICES;

		snprintf(name, sizeof(name), "s%u", k);
		if (k >= STABLE && rand() % 2)
			(void)bn_store_del(store, BN_KIND_SERVICE, "d", name);
		else
			put(store, k, version);
		if (bn_services_sync(svc) < 0)
			_exit(3);
		__atomic_add_fetch(progress, 1, __ATOMIC_RELEASE);
	}
}

/* All backends of one service and family are of one version: of its lists and of all its fronts but
 * the two words of a record change one after the other, so fronts may differ by what is in flight.
 */
static unsigned check_front(json_t *front)
{
	json_t *b;
	size_t i;
	int version = -1, v, k, e;

	json_array_foreach (json_object_get(front, "backends"), i, b) {
		assert_int_equal(sscanf(json_string_value(json_object_get(b, "address")),
					"10.%d.%d.%d", &v, &k, &e),
				 3);
		if (version < 0)
			version = v;
		/* a Local front lists the words for outside and inside together */
		if (strcmp(json_string_value(json_object_get(front, "kind")), "ClusterIP") == 0)
			assert_int_equal(v, version);
	}
	return (unsigned)i;
}

static void check_pinned(struct bn_maps *maps)
{
	unsigned seen = 0, backends = 0;
	json_t *list = NULL, *s, *f;
	size_t i, j;

	assert_int_equal(bn_svc_list_pinned(maps, &list), 0);
	json_array_foreach (list, i, s) {
		unsigned k = (unsigned)atoi(json_string_value(json_object_get(s, "name")) + 1);
		size_t fronts = json_array_size(json_object_get(s, "frontends"));

		if (k >= STABLE)
			continue;
		seen++;
		/* ClusterIPs and NodePorts of two families and one address of the balancer */
		assert_int_equal(fronts, 5);
		json_array_foreach (json_object_get(s, "frontends"), j, f)
			backends += check_front(f);
	}
	assert_int_equal(seen, STABLE);
	assert_true(backends >= STABLE);
	json_decref(list);
}

static json_t *run_once(struct bn_maps *maps, unsigned version, uint64_t *writes)
{
	struct bn_store *store;
	struct bn_services *svc;
	json_t *list;

	assert_int_equal(bn_store_new(&store), 0);
	fill(store, version);
	assert_int_equal(bn_services_new(store, maps, &env, &svc), 0);
	bn_services_set_ready(svc, true);
	assert_int_equal(bn_services_sync(svc), 0);
	list = bn_services_json(svc);
	*writes = bn_services_stats(svc)->writes;
	bn_services_freep(&svc);
	bn_store_freep(&store);
	return list;
}

static void test_kill(void **state _unused_)
{
	struct bn_maps_sizes small = {0};
	json_t *first = NULL, *again;
	struct bn_maps *maps;
	uint64_t writes, repaired = 0;

	progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(progress, MAP_FAILED);
	small.entries[BN_MAP_slots] = 600; /* so that slots are reused all the time */
	assert_int_equal(bn_maps_create(&small, &maps), 0);
	json_decref(run_once(maps, 1, &writes));
	for (unsigned i = 0; i < KILLS; i++) {
		struct timespec t = {.tv_nsec = (i * 7919 % 23) * 100000 + i * 131};
		pid_t pid;
		int status;

		*progress = 0;
		pid = fork();
		if (!pid)
			child(maps, i);
		while (__atomic_load_n(progress, __ATOMIC_ACQUIRE) < 1 + i % 7)
			usleep(500);
		nanosleep(&t, NULL);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status)); /* it did not end by itself */
		check_pinned(maps);
		again = run_once(maps, 1, &writes);
		repaired += writes;
		if (first)
			assert_true(json_equal(first, again));
		json_decref(first);
		first = again;
		json_decref(run_once(maps, 1, &writes));
		assert_int_equal(writes, 0);
		assert_int_equal(bn_map_count(maps, BN_MAP_svc_names), SERVICES);
		assert_int_equal(bn_map_count(maps, BN_MAP_src_ranges), SERVICES);
	}
	json_decref(first);
	print_message("%d kills, %lu writes to make good what they left\n", KILLS, repaired);
	assert_true(repaired > 0);
	bn_maps_freep(&maps);
	bn_intern_reset();
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill)};

	bn_log_setup("error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
