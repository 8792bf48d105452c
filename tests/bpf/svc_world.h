/* SPDX-License-Identifier: MIT */
#ifndef BN_TEST_SVC_WORLD_H
#define BN_TEST_SVC_WORLD_H

/* The services model on maps of its own, and how they are read: as a list, and as a program reads them. */
#include "tests/slow.h"
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

static _unused_ const struct bn_svc_env env = {.node_name = "n1"};

static _unused_ void world_start(struct world *w, const struct bn_svc_env *e)
{
	assert_int_equal(bn_services_new(w->store, w->maps, e, &w->svc), 0);
}

static _unused_ void world_open(struct world *w, const struct bn_maps_sizes *sizes)
{
	*w = (struct world){0};
	assert_int_equal(bn_store_new(&w->store), 0);
	assert_int_equal(bn_maps_create(sizes, &w->maps), 0);
	world_start(w, &env);
	bn_services_set_ready(w->svc, true);
}

/* The daemon ends and starts anew: another model and another store with the same objects. */
static _unused_ int copy_obj(struct bn_obj *o, void *data)
{
	return bn_store_put(data, o);
}

static _unused_ void world_down(struct world *w)
{
	struct bn_store *store;

	bn_services_freep(&w->svc);
	assert_int_equal(bn_store_new(&store), 0);
	for (int k = 0; k < BN_KIND__MAX; k++)
		bn_store_each(w->store, k, copy_obj, store);
	bn_store_freep(&w->store);
	w->store = store;
}

static _unused_ void world_restart(struct world *w)
{
	world_down(w);
	world_start(w, &env);
}

static _unused_ void world_close(struct world *w)
{
	bn_services_freep(&w->svc);
	bn_store_freep(&w->store);
	bn_maps_freep(&w->maps);
	bn_intern_reset();
}

/* "ns/name kind addr:port/proto=backend,backend;..." in one line, of what is listed. */
static _unused_ char *list_text(json_t *list)
{
	char *out = NULL;
	size_t len, i, j, k, i0 = 0;
	FILE *f = open_memstream(&out, &len);
	json_t *s, *fr, *b;

	assert_non_null(list);
	json_array_foreach (list, i, s)
		json_array_foreach (json_object_get(s, "frontends"), j, fr) {
			const char *none = json_string_value(json_object_get(fr, "noBackends"));

			fprintf(f, "%s%s/%s %s %s:%d/%s=", i0++ ? "; " : "",
				json_string_value(json_object_get(s, "namespace")),
				json_string_value(json_object_get(s, "name")),
				json_string_value(json_object_get(fr, "kind")),
				json_string_value(json_object_get(fr, "address")),
				(int)json_integer_value(json_object_get(fr, "port")),
				json_string_value(json_object_get(fr, "protocol")));
			json_array_foreach (json_object_get(fr, "backends"), k, b)
				fprintf(f, "%s%s:%d%s%s", k ? "," : "",
					json_string_value(json_object_get(b, "address")),
					(int)json_integer_value(json_object_get(b, "port")),
					json_is_true(json_object_get(b, "local")) ? "L" : "",
					strcmp(json_string_value(json_object_get(b, "state")),
					       "active")
						? "T"
						: "");
			if (none)
				fprintf(f, "!%s", none);
		}
	fclose(f);
	json_decref(list);
	return out;
}

static _unused_ void expect_list(struct world *w, const char *want)
{
	_cleanup_(freep) char *have = NULL, *pinned = NULL;
	json_t *list = NULL;

	have = list_text(bn_services_json(w->svc));
	assert_string_equal(have, want);
	assert_int_equal(bn_svc_list_pinned(w->maps, &list), 0);
	pinned = list_text(list);
	assert_string_equal(pinned, want);
}

static _unused_ uint64_t writes(struct world *w)
{
	return bn_services_stats(w->svc)->writes;
}

static _unused_ void sync_ok(struct world *w)
{
	assert_int_equal(bn_services_sync(w->svc), 0);
	bn_intern_collect();
	assert_true(bn_services_in_force(w->svc));
}

#define WEB FX_SVC("d", "web", "'clusterIP':'10.0.0.1','ports':[{'name':'http','port':80}]")
#define WEB1                                                                                       \
	FX_SLICE("d", "web-1", "web", "IPv4", FX_PORT("http", "TCP", 8080),                        \
		 FX_EP("10.1.0.1", FX_ON("n1")) "," FX_EP("10.1.0.2", FX_ON("n2")))
#define WEB1_LESS                                                                                  \
	FX_SLICE("d", "web-1", "web", "IPv4", FX_PORT("http", "TCP", 8080),                        \
		 FX_EP("10.1.0.2", FX_ON("n2")))
#define WEB_FRONT "d/web ClusterIP 10.0.0.1:80/TCP="

static _unused_ const struct bn_svc *raw(struct world *w, const char *addr, uint16_t port, uint8_t proto,
				uint8_t scope)
{
	struct bn_front_key k = {.port = htobe16(port), .proto = proto, .scope = scope};
	struct bn_front_val v;
	const struct bn_svc *s;

	assert_int_equal(bn_addr_parse(addr, &k.addr), 0);
	if (bn_map_get(w->maps, BN_MAP_fronts, &k, &v) < 0)
		return NULL;
	s = bn_map_at(w->maps, BN_MAP_svcs, v.idx);
	assert_memory_equal(&s->key, &k, sizeof(k));
	return s;
}

static _unused_ const struct bn_backend *raw_slots(struct world *w, uint64_t word)
{
	return bn_map_at(w->maps, BN_MAP_slots, BN_RANGE_BASE(word));
}

static _unused_ int addr_entry(struct world *w, const char *addr)
{
	struct bn_front_key k = {.scope = BN_SCOPE_ADDR};
	struct bn_front_val v;

	assert_int_equal(bn_addr_parse(addr, &k.addr), 0);
	return bn_map_get(w->maps, BN_MAP_fronts, &k, &v) < 0 ? -1 : (int)v.idx;
}

static int count_src(const void *key _unused_, const void *val _unused_, void *data)
{
	++*(int *)data;
	return 0;
}

static _unused_ int n_src(struct world *w)
{
	int n = 0;

	bn_map_each(w->maps, BN_MAP_src_ranges, count_src, &n);
	return n;
}

#endif
