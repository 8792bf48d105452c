/* SPDX-License-Identifier: MIT */
/* What one endpoint change costs, at 1,000, 10,000 and 50,000 services of 10 endpoints: from the
 * store's event to in force, and of that the part that touches the maps. It must not depend on the
 * number of services.
 */
#include "tests/svc_fixture.h"

#include <errno.h>
#include <sys/resource.h>
#include <time.h>

#include "loader/log.h"
#include "loader/model/services.h"
#include "maps/svc_access.h"
#include "policy/intern.h"

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double cpu_ms(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

static long rss_kb(void)
{
	long pages = 0, x;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f && fscanf(f, "%ld %ld", &x, &pages) != 2)
		pages = 0;
	fclosep(&f);
	return pages * 4;
}

static int cmp(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static struct bn_obj *service(unsigned i)
{
	_cleanup_(freep) char *text = NULL;

	assert_true(
		asprintf(&text,
			 FX_SVC("d", "s%u",
				"'clusterIP':'10.%u.%u.%u','ports':[{'name':'http','port':80}]"),
			 i, 64 + (i >> 16), i >> 8 & 255, i & 255) > 0);
	return fx_parse(text);
}

/* n endpoints; the version moves the last one. */
static struct bn_obj *slice(unsigned i, unsigned n, unsigned version)
{
	_cleanup_(freep) char *text = NULL;
	struct bn_obj *o;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	fprintf(f,
		"{'apiVersion':'discovery.k8s.io/"
		"v1','kind':'EndpointSlice','metadata':{'namespace':'d',"
		"'name':'s%u-1','labels':{'kubernetes.io/"
		"service-name':'s%u'}},'addressType':'IPv4',"
		"'ports':[" FX_PORT("http", "TCP", 8080) "],'endpoints':[",
		i, i);
	for (unsigned j = 0; j < n; j++)
		fprintf(f, "%s{'addresses':['10.%u.%u.%u'],'nodeName':'n%u'}", j ? "," : "",
			128 + j + (j + 1 == n ? version % 64 : 0), i >> 8, i & 255, j);
	fprintf(f, "]}");
	fclose(f);
	o = fx_parse(text);
	return o;
}

static void fill(struct bn_store *s, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		struct bn_obj *a = service(i), *b = slice(i, 10, 0);

		bn_store_put(s, a);
		bn_store_put(s, b);
		bn_obj_unref(a);
		bn_obj_unref(b);
	}
}

#define CHANGES 2000

static double changes(struct bn_store *store, struct bn_services *svc, unsigned n)
{
	static double took[CHANGES];
	static struct bn_obj *o[CHANGES];
	double p99;

	for (unsigned i = 0; i < CHANGES; i++)
		o[i] = slice(i * 7919u % n, 10, 1 + i / n + i % 3);
	for (unsigned i = 0; i < CHANGES; i++) {
		double t = now_us();

		bn_store_put(store, o[i]);
		assert_int_equal(bn_services_sync(svc), 0);
		took[i] = now_us() - t;
		bn_obj_unref(o[i]);
	}
	qsort(took, CHANGES, sizeof(*took), cmp);
	p99 = took[CHANGES * 99 / 100];
	print_message("  one endpoint of 10 changes, event to in force: p50 %.1f us, p99 %.1f us, "
		      "max %.1f us\n",
		      took[CHANGES / 2], p99, took[CHANGES - 1]);
	return p99;
}

/* The part that touches the maps, alone: one list of ten replaced by another. */
static double kernel_part(struct bn_maps *maps)
{
	static double took[CHANGES];
	struct bn_backend v[10] = {0};
	struct bn_want_list list = {v, 10, 0};
	struct bn_want_port port = {"http", BN_PROTO_TCP};
	struct bn_want_front front = {.key = {.port = 80, .proto = BN_PROTO_TCP}};
	struct bn_svc_want want = {.nports = 1,
				   .nlists = 1,
				   .nfronts = 1,
				   .ports = &port,
				   .lists = &list,
				   .fronts = &front};
	struct bn_svc_applied done;
	struct bn_svcmap *m;

	assert_int_equal(bn_svcmap_open(maps, &m), 0);
	for (unsigned i = 0; i < CHANGES; i++) {
		double t;

		for (unsigned j = 0; j < 10; j++)
			v[j].addr.b[15] = (uint8_t)(j + i);
		t = now_us();
		assert_int_equal(bn_svcmap_apply(m, bn_svcmap_get(m, "x/x"), &want, &done), 0);
		took[i] = now_us() - t;
	}
	assert_int_equal(bn_svcmap_apply(m, bn_svcmap_get(m, "x/x"), NULL, &done), 0);
	bn_svcmap_freep(&m);
	qsort(took, CHANGES, sizeof(*took), cmp);
	print_message("  of that the maps: p50 %.1f us, p99 %.1f us, max %.1f us\n",
		      took[CHANGES / 2], took[CHANGES * 99 / 100], took[CHANGES - 1]);
	return took[CHANGES * 99 / 100];
}

/* As the control socket lists: row by row. */
static void listing(struct bn_services *svc, unsigned want)
{
	double t = now_us(), first;
	json_t *names = bn_services_names(svc), *name;
	unsigned n = 0;
	size_t i;

	assert_non_null(names);
	first = now_us() - t;
	json_array_foreach (names, i, name) {
		json_t *row = bn_services_row(svc, json_string_value(name));

		n += json_array_size(json_object_get(row, "frontends")) == 1;
		json_decref(row);
	}
	json_decref(names);
	assert_int_equal(n, want);
	print_message("  svc list: names in %.0f ms, rows in %.0f ms, RSS %ld MB\n", first / 1e3,
		      (now_us() - t) / 1e3, rss_kb() / 1024);
}

static void test_scale(void **state _unused_)
{
	static const unsigned sizes[] = {1000, 10000, 50000};
	const struct bn_svc_env env = {.node_name = "n1"};
	const struct bn_services_stats *st;
	struct bn_store *store;
	struct bn_services *svc;
	struct bn_maps *maps;
	unsigned have = 0;
	double p99 = 0, t, c;

	assert_int_equal(bn_store_new(&store), 0);
	assert_int_equal(bn_maps_create(NULL, &maps), 0);
	assert_int_equal(bn_services_new(store, maps, &env, &svc), 0);
	bn_services_set_ready(svc, true);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill(store, have, sizes[i]);
		t = now_us();
		c = cpu_ms();
		assert_int_equal(bn_services_sync(svc), 0);
		print_message("%u services x 10 endpoints: %u new ones into the maps in %.0f ms "
			      "(CPU %.0f ms), RSS %ld MB\n",
			      sizes[i], sizes[i] - have, (now_us() - t) / 1e3, cpu_ms() - c,
			      rss_kb() / 1024);
		have = sizes[i];
		p99 = changes(store, svc, have);
		assert_true(kernel_part(maps) < 100);
		listing(svc, have);
	}
	st = bn_services_stats(svc);
	print_message(
		"slots: %lu used, %lu free (longest run %lu), %lu pending; %lu grace periods\n",
		st->slots_used, st->slots_free, st->largest_free, st->slots_pending, st->graces);
	assert_int_equal(st->services, 50000);
	assert_int_equal(st->endpoints, 500000);
	assert_int_equal(st->refused, 0);
	assert_true(p99 < 1000);
	/* a restart over all of it writes nothing */
	t = now_us();
	bn_services_freep(&svc);
	assert_int_equal(bn_services_new(store, maps, &env, &svc), 0);
	print_message("adopted in %.0f ms", (now_us() - t) / 1e3);
	bn_services_set_ready(svc, true);
	t = now_us();
	assert_int_equal(bn_services_sync(svc), 0);
	print_message(", compared in %.0f ms, %lu writes\n", (now_us() - t) / 1e3,
		      bn_services_stats(svc)->writes);
	assert_int_equal(bn_services_stats(svc)->writes, 0);
	bn_services_freep(&svc);
	bn_store_freep(&store);
	bn_maps_freep(&maps);
	bn_intern_reset();
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_scale)};

	bn_log_setup("error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
