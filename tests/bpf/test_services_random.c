/* SPDX-License-Identifier: MIT */
/* Random changes to a small cluster full of conflicts: after every batch the maps must say what a
 * model that sees the objects for the first time would put there, a restart must write nothing, and
 * at the end nothing may be left.
 */
#include "tests/svc_fixture.h"

#include <errno.h>

#include "loader/log.h"
#include "loader/model/services.h"
#include "policy/intern.h"

static uint64_t seed = 4;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

static const struct bn_svc_env env = {.node_name = "n1"};

struct world {
	struct bn_store *store;
	struct bn_maps *maps;
	struct bn_services *svc;
};

static struct bn_maps *small_maps(void)
{
	struct bn_maps_sizes s = {0};
	struct bn_maps *m;

	s.entries[BN_MAP_ct] = 64;
	s.entries[BN_MAP_affinity] = 64;
	s.entries[BN_MAP_pol_cells] = 64;
	s.entries[BN_MAP_pol_ports] = 64;
	s.entries[BN_MAP_rule_stats] = 64;
	s.entries[BN_MAP_eps] = 64;
	s.entries[BN_MAP_fronts] = 1024;
	s.entries[BN_MAP_svcs] = 512;
	s.entries[BN_MAP_slots] = 16384;
	s.entries[BN_MAP_svc_names] = 512;
	s.entries[BN_MAP_src_ranges] = 512;
	assert_int_equal(bn_maps_create(&s, &m), 0);
	return m;
}

static const char *yes(const char *text)
{
	return rnd(2) ? text : "";
}

static void put_service(struct world *w)
{
	static const char *const types[] = {"ClusterIP", "NodePort", "LoadBalancer"};
	char node[40] = "", lb[200] = "", ext[100] = "";
	uint32_t k = rnd(8), type = rnd(3);

	if (type && rnd(3))
		snprintf(node, sizeof(node), ",'nodePort':%u", 30000 + rnd(3));
	if (rnd(2))
		snprintf(ext, sizeof(ext), "'externalIPs':['192.0.2.%u','2001:db8::%u'],",
			 1 + rnd(3), 1 + rnd(3));
	if (type == 2)
		snprintf(lb, sizeof(lb),
			 ",'status':{'loadBalancer':{'ingress':[{'ip':'192.0.2.%u'}]}}",
			 1 + rnd(3));
	fx_put(w->store,
	       "{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','name':'s%u','"
	       "annotations':{%s}},"
	       "'spec':{'type':'%s',%s%s%s%s'clusterIPs':['10.0.0.%u'%s],'ports':["
	       "{'name':'a','port':80,'protocol':'%s'%s},{'name':'b','port':%u}]}%s}",
	       k, yes("'bpfnet.io/lb-algorithm':'maglev'"), types[type], ext,
	       yes("'sessionAffinity':'ClientIP',"), yes("'internalTrafficPolicy':'Local',"),
	       type ? yes("'externalTrafficPolicy':'Local',"
			  "'loadBalancerSourceRanges':['10.0.0.0/8'],")
		    : "",
	       1 + k - (k && !rnd(6)), yes(",'fd00::1'"), rnd(2) ? "TCP" : "UDP", node, 81 + rnd(2),
	       lb);
}

static void put_slice(struct world *w)
{
	_cleanup_(freep) char *eps = NULL;
	uint32_t k = rnd(8), n = rnd(6), v4 = rnd(3);
	size_t len;
	FILE *f = open_memstream(&eps, &len);

	for (uint32_t i = 0; i < n; i++)
		fprintf(f,
			"%s{'addresses':['%s%u'],'nodeName':'n%u','conditions':{'ready':%s,'"
			"serving':%s,"
			"'terminating':%s}}",
			i ? "," : "", v4 ? "10.1.0." : "fd01::", 1 + rnd(6), 1 + rnd(2),
			rnd(3) ? "true" : "false", rnd(2) ? "true" : "false",
			rnd(3) ? "false" : "true");
	fclose(f);
	fx_put(w->store,
	       FX_SLICE(
		       "d", "s%u-%u", "s%u", "%s",
		       FX_PORT("a", "TCP", 1) "," FX_PORT("a", "UDP", 2) "," FX_PORT("b", "TCP", 3),
		       "%s"),
	       k, rnd(2), k, v4 ? "IPv4" : "IPv6", eps);
}

static void change(struct world *w)
{
	char name[32];

	switch (rnd(8)) {
	case 0:
		snprintf(name, sizeof(name), "s%u", rnd(8));
		(void)bn_store_del(w->store, BN_KIND_SERVICE, "d", name);
		break;
	case 1:
		snprintf(name, sizeof(name), "s%u-%u", rnd(8), rnd(2));
		(void)bn_store_del(w->store, BN_KIND_ENDPOINTSLICE, "d", name);
		break;
	case 2:
	case 3:
	case 4:
		put_service(w);
		break;
	default:
		put_slice(w);
	}
}

static int line_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One sorted line per front: svc ids, and so the order of ports, are not part of the answer. */
static char *lines(json_t *list)
{
	char *v[1024], *out = NULL;
	size_t n = 0, i, j, len;
	json_t *s, *f;
	FILE *o;

	assert_non_null(list);
	json_array_foreach (list, i, s)
		json_array_foreach (json_object_get(s, "frontends"), j, f) {
			_cleanup_(freep) char *text = json_dumps(f, JSON_SORT_KEYS | JSON_COMPACT);

			assert_true(asprintf(&v[n++], "%s %s %s",
					     json_string_value(json_object_get(s, "name")),
					     json_string_value(json_object_get(s, "type")),
					     text) > 0);
		}
	json_decref(list);
	qsort(v, n, sizeof(*v), line_cmp);
	o = open_memstream(&out, &len);
	for (i = 0; i < n; i++) {
		fprintf(o, "%s\n", v[i]);
		free(v[i]);
	}
	fclose(o);
	return out;
}

static int copy_obj(struct bn_obj *o, void *data)
{
	return bn_store_put(data, o);
}

static struct bn_store *copy_store(const struct bn_store *from)
{
	struct bn_store *s;

	assert_int_equal(bn_store_new(&s), 0);
	for (int k = 0; k < BN_KIND__MAX; k++)
		bn_store_each(from, k, copy_obj, s);
	return s;
}

/* What a model that begins with these objects and empty maps says. */
static char *fresh(struct world *w)
{
	struct bn_store *store = copy_store(w->store);
	struct bn_maps *maps = small_maps();
	struct bn_services *svc;
	char *out;

	assert_int_equal(bn_services_new(store, maps, &env, &svc), 0);
	bn_services_set_ready(svc, true);
	assert_int_equal(bn_services_sync(svc), 0);
	out = lines(bn_services_json(svc));
	bn_services_freep(&svc);
	bn_maps_freep(&maps);
	bn_store_freep(&store);
	return out;
}

static void start(struct world *w)
{
	assert_int_equal(bn_services_new(w->store, w->maps, &env, &w->svc), 0);
}

static void down(struct world *w)
{
	struct bn_store *store = copy_store(w->store);

	bn_services_freep(&w->svc);
	bn_store_freep(&w->store);
	w->store = store;
}

/* The first line that is in one text only. */
static void show_difference(const char *have, const char *want)
{
	while (*have && *have == *want)
		have++, want++;
	fail_msg("from here on, have: %.300s\nwant: %.300s", have, want);
}

static void compare(struct world *w)
{
	_cleanup_(freep) char *have = lines(bn_services_json(w->svc)), *want = fresh(w),
			      *pinned = NULL;
	json_t *list = NULL;

	if (strcmp(have, want))
		show_difference(have, want);
	assert_int_equal(bn_svc_list_pinned(w->maps, &list), 0);
	pinned = lines(list);
	assert_string_equal(pinned, want);
	assert_int_equal(bn_services_stats(w->svc)->refused, 0);
}

static void test_random(void **state _unused_)
{
	const uint32_t rounds = 600;
	struct world w = {0};
	uint64_t conflicts = 0;
	char name[32];

	assert_int_equal(bn_store_new(&w.store), 0);
	w.maps = small_maps();
	start(&w);
	for (uint32_t i = 0; i < rounds; i++) {
		bn_services_set_ready(w.svc, true);
		for (uint32_t n = 1 + rnd(6); n; n--)
			change(&w);
		assert_int_equal(bn_services_sync(w.svc), 0);
		bn_intern_collect();
		if (!rnd(3))
			compare(&w); /* making maps takes 60 ms */
		conflicts += bn_services_stats(w.svc)->conflicts;
		if (rnd(5))
			continue;
		down(&w);
		if (rnd(2))
			change(&w); /* while it is down: the next compare judges */
		else {
			start(&w);
			bn_services_set_ready(w.svc, true);
			assert_int_equal(bn_services_sync(w.svc), 0);
			assert_int_equal(bn_services_stats(w.svc)->writes, 0);
			continue;
		}
		start(&w);
	}
	print_message("%u batches, %lu conflicting frontends seen\n", rounds, conflicts);
	assert_true(conflicts > rounds);
	bn_services_set_ready(w.svc, true);
	for (uint32_t k = 0; k < 8; k++) {
		snprintf(name, sizeof(name), "s%u", k);
		(void)bn_store_del(w.store, BN_KIND_SERVICE, "d", name);
	}
	assert_int_equal(bn_services_sync(w.svc), 0);
	assert_int_equal(bn_map_count(w.maps, BN_MAP_fronts), 0);
	assert_int_equal(bn_map_count(w.maps, BN_MAP_svc_names), 0);
	assert_int_equal(bn_services_stats(w.svc)->conflicts, 0);
	assert_int_equal(bn_services_stats(w.svc)->no_local_external, 0);
	down(&w);
	start(&w);
	assert_int_equal(bn_services_stats(w.svc)->slots_used, 0);
	assert_int_equal(bn_services_stats(w.svc)->records_used, 0);
	assert_int_equal(bn_map_count(w.maps, BN_MAP_src_ranges), 0);
	bn_services_freep(&w.svc);
	bn_store_freep(&w.store);
	bn_maps_freep(&w.maps);
	bn_intern_reset();
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	bn_log_setup("error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
