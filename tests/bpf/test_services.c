/* SPDX-License-Identifier: MIT */
/* The services model against real maps: what is written, what is not, what is listed. */
#include "tests/svc_fixture.h"

#include <endian.h>
#include <errno.h>
#include <time.h>

#include "loader/log.h"
#include "loader/model/services.h"
#include "maps/maps.h"
#include "policy/intern.h"

struct world {
	struct bn_store *store;
	struct bn_maps *maps;
	struct bn_services *svc;
};

static const struct bn_svc_env env = { .node_name = "n1" };

static void world_start(struct world *w, const struct bn_svc_env *e)
{
	assert_int_equal(bn_services_new(w->store, w->maps, e, &w->svc), 0);
}

static void world_open(struct world *w, const struct bn_maps_sizes *sizes)
{
	*w = (struct world){ 0 };
	assert_int_equal(bn_store_new(&w->store), 0);
	assert_int_equal(bn_maps_create(sizes, &w->maps), 0);
	world_start(w, &env);
	bn_services_set_ready(w->svc, true);
}

/* The daemon ends and starts anew: another model and another store with the same objects. */
static int copy_obj(struct bn_obj *o, void *data)
{
	return bn_store_put(data, o);
}

static void world_down(struct world *w)
{
	struct bn_store *store;

	bn_services_freep(&w->svc);
	assert_int_equal(bn_store_new(&store), 0);
	for (int k = 0; k < BN_KIND__MAX; k++)
		bn_store_each(w->store, k, copy_obj, store);
	bn_store_freep(&w->store);
	w->store = store;
}

static void world_restart(struct world *w)
{
	world_down(w);
	world_start(w, &env);
}

static void world_close(struct world *w)
{
	bn_services_freep(&w->svc);
	bn_store_freep(&w->store);
	bn_maps_freep(&w->maps);
	bn_intern_reset();
}

/* "ns/name kind addr:port/proto=backend,backend;..." in one line, of what is listed. */
static char *list_text(json_t *list)
{
	char *out = NULL;
	size_t len, i, j, k, i0 = 0;
	FILE *f = open_memstream(&out, &len);
	json_t *s, *fr, *b;

	assert_non_null(list);
	json_array_foreach(list, i, s)
		json_array_foreach(json_object_get(s, "frontends"), j, fr) {
			const char *none = json_string_value(json_object_get(fr, "noBackends"));

			fprintf(f, "%s%s/%s %s %s:%d/%s=", i0++ ? "; " : "",
				json_string_value(json_object_get(s, "namespace")),
				json_string_value(json_object_get(s, "name")),
				json_string_value(json_object_get(fr, "kind")),
				json_string_value(json_object_get(fr, "address")),
				(int)json_integer_value(json_object_get(fr, "port")),
				json_string_value(json_object_get(fr, "protocol")));
			json_array_foreach(json_object_get(fr, "backends"), k, b)
				fprintf(f, "%s%s:%d%s%s", k ? "," : "",
					json_string_value(json_object_get(b, "address")),
					(int)json_integer_value(json_object_get(b, "port")),
					json_is_true(json_object_get(b, "local")) ? "L" : "",
					strcmp(json_string_value(json_object_get(b, "state")), "active") ? "T" : "");
			if (none)
				fprintf(f, "!%s", none);
		}
	fclose(f);
	json_decref(list);
	return out;
}

static void expect_list(struct world *w, const char *want)
{
	_cleanup_(freep) char *have = NULL, *pinned = NULL;
	json_t *list = NULL;

	have = list_text(bn_services_json(w->svc));
	assert_string_equal(have, want);
	assert_int_equal(bn_svc_list_pinned(w->maps, &list), 0);
	pinned = list_text(list);
	assert_string_equal(pinned, want);
}

static uint64_t writes(struct world *w)
{
	return bn_services_stats(w->svc)->writes;
}

static void sync_ok(struct world *w)
{
	assert_int_equal(bn_services_sync(w->svc), 0);
	assert_true(bn_services_in_force(w->svc));
}

#define WEB FX_SVC("d", "web", "'clusterIP':'10.0.0.1','ports':[{'name':'http','port':80}]")
#define WEB1                                                                                       \
	FX_SLICE("d", "web-1", "web", "IPv4", FX_PORT("http", "TCP", 8080),                       \
		 FX_EP("10.1.0.1", FX_ON("n1")) "," FX_EP("10.1.0.2", FX_ON("n2")))
#define WEB1_LESS                                                                                  \
	FX_SLICE("d", "web-1", "web", "IPv4", FX_PORT("http", "TCP", 8080),                       \
		 FX_EP("10.1.0.2", FX_ON("n2")))
#define WEB_FRONT "d/web ClusterIP 10.0.0.1:80/TCP="

static void test_basic(void **state _unused_)
{
	struct world w;

	world_open(&w, NULL);
	fx_put(w.store, WEB);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "!reject");
	fx_put(w.store, WEB1);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "10.1.0.1:8080L,10.1.0.2:8080");
	fx_put(w.store, WEB1_LESS);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "10.1.0.2:8080");
	assert_int_equal(bn_store_del(w.store, BN_KIND_ENDPOINTSLICE, "d", "web-1"), 0);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "!reject");
	assert_int_equal(bn_store_del(w.store, BN_KIND_SERVICE, "d", "web"), 0);
	sync_ok(&w);
	expect_list(&w, "");
	assert_int_equal(bn_map_count(w.maps, BN_MAP_fronts), 0);
	assert_int_equal(bn_map_count(w.maps, BN_MAP_svc_names), 0);
	world_close(&w);
}

static void test_not_ready(void **state _unused_)
{
	struct world w;

	world_open(&w, NULL);
	bn_services_set_ready(w.svc, false);
	fx_put(w.store, WEB);
	fx_put(w.store, WEB1);
	assert_int_equal(bn_services_sync(w.svc), 0);
	assert_false(bn_services_in_force(w.svc));
	assert_int_equal(writes(&w), 0);
	expect_list(&w, "");
	world_close(&w);
}

static void test_restart(void **state _unused_)
{
	struct world w;
	const char *both = WEB_FRONT "10.1.0.1:8080L,10.1.0.2:8080; "
				     "d/zoo ClusterIP fd00::9:53/UDP=!reject";

	world_open(&w, NULL);
	fx_put(w.store, WEB);
	fx_put(w.store, WEB1);
	fx_put(w.store, FX_SVC("d", "zoo",
			       "'clusterIP':'fd00::9','ports':[{'port':53,'protocol':'UDP'}]"));
	sync_ok(&w);
	expect_list(&w, both);
	world_restart(&w);
	/* before the first list: in full; and nothing is written once it is there */
	expect_list(&w, both);
	bn_services_set_ready(w.svc, true);
	sync_ok(&w);
	assert_int_equal(writes(&w), 0);
	expect_list(&w, both);
	/* what changed while it was down, and only that */
	world_down(&w);
	fx_put(w.store, WEB1_LESS);
	assert_int_equal(bn_store_del(w.store, BN_KIND_SERVICE, "d", "zoo"), 0);
	world_start(&w, &env);
	expect_list(&w, both);
	bn_services_set_ready(w.svc, true);
	sync_ok(&w);
	expect_list(&w, WEB_FRONT "10.1.0.2:8080");
	assert_in_range(writes(&w), 5, 12);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_basic),
		cmocka_unit_test(test_not_ready),
		cmocka_unit_test(test_restart),
	};

	bn_log_setup("error", "text");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
