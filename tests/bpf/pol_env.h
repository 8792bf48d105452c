/* SPDX-License-Identifier: MIT */
#ifndef BN_TESTS_POL_ENV_H
#define BN_TESTS_POL_ENV_H

/* The policy model over maps of its own, and what a packet would meet in them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "loader/log.h"
#include "loader/model/policies.h"
#include "maps/ep_access.h"
#include "maps/pol_access.h"
#include "maps/util.h"
#include "policy/intern.h"
#include "tests/unit/cluster.h"
#include "tests/unit/oracle.h"

struct world {
	struct bn_store *store;
	struct bn_maps *maps;
	struct bn_eps *eps;
	struct bn_policies *pol;
	json_t *cluster;
	unsigned npods;
	void (*step)(void *data);
};

static _unused_ void start(struct world *w)
{
	struct bn_policies_env env = {.node_name = "node0", .step = w->step, .step_data = w};

	assert_int_equal(bn_eps_new(w->maps, &w->eps), 0);
	env.eps = w->eps;
	assert_int_equal(bn_policies_new(w->store, w->maps, &env, &w->pol), 0);
}

static _unused_ void open_world(struct world *w, json_t *cluster, const struct bn_maps_sizes *sizes)
{
	*w = (struct world){.cluster = cluster, .step = NULL};
	assert_int_equal(bn_store_new(&w->store), 0);
	assert_int_equal(bn_maps_create(sizes, &w->maps), 0);
	start(w);
	cluster_load(w->store, cluster);
}

static _unused_ void close_world(struct world *w)
{
	bn_policies_freep(&w->pol);
	bn_eps_freep(&w->eps);
	bn_store_freep(&w->store);
	bn_maps_freep(&w->maps);
	json_decref(w->cluster);
}

static _unused_ void sync_world(struct world *w)
{
	assert_int_equal(bn_policies_sync(w->pol), 0);
	bn_intern_collect();
}

/* Turns of the loop until nothing is left to take back. */
static _unused_ void settle(struct world *w)
{
	for (unsigned k = 0; k < 6; k++) {
		struct timespec ts = {.tv_nsec = 20000000};

		nanosleep(&ts, NULL);
		sync_world(w);
	}
}

/* --- what a packet meets ---------------------------------------------------------------------- */

static _unused_ uint32_t identity_of(const struct bn_maps *m, const struct bn_addr *a)
{
	struct bn_lpm_key k = {.prefixlen = 128, .addr = *a};
	uint32_t idx, id;

	if (!bn_map_get(m, BN_MAP_addrs, a, &idx)) {
		const struct bn_ep *ep = bn_map_at(m, BN_MAP_eps, idx);

		assert_non_null(ep);
		if (bn_addr_eq(&ep->addr, a))
			return BN_EP_IDENTITY(ep->word);
	}
	return bn_map_get(m, BN_MAP_cidrs, &k, &id) ? BN_ID_WORLD : id;
}

static _unused_ int judge_word(const struct bn_maps *m, uint64_t word, enum bn_dir dir,
			       const struct bn_addr *peer, uint8_t proto, uint16_t port)
{
	uint32_t id = dir == BN_EGRESS ? BN_POD_EGRESS(word) : BN_POD_INGRESS(word);
	struct bn_peer_key k = {.policy = id, .identity = identity_of(m, peer)};
	const struct bn_pol *pol = bn_map_at(m, BN_MAP_pols, id);
	uint32_t key = BN_PORT_KEY(bn_proto_index(proto), port), cls = 0, row;
	struct bn_peer_val v;
	const struct bn_cell *c;

	if (id < BN_POL_FIRST)
		return id == BN_POL_OPEN;
	assert_int_equal(pol->check, id);
	for (uint32_t i = 0; i < pol->nports; i++) {
		uint32_t start = *(uint32_t *)bn_map_at(m, BN_MAP_pol_ports, pol->ports + i);

		if (BN_PORT_START_KEY(start) <= key)
			cls = BN_PORT_START_CLASS(start);
	}
	assert_true(cls < pol->nclasses);
	row = pol->default_row;
	if (!bn_map_get(m, BN_MAP_pol_peers, &k, &v)) {
		assert_int_equal(v.check, BN_PEER_CHECK(id, k.identity));
		row = v.row;
	}
	assert_true(row < pol->rows);
	c = bn_map_at(m, BN_MAP_pol_cells, pol->cells + row * pol->nclasses + cls);
	return c->action == BN_ACT_ALLOW;
}

static _unused_ uint64_t word_of(const struct bn_maps *m, uint32_t slot)
{
	return ((const struct bn_pod_slot *)bn_map_at(m, BN_MAP_pods, slot))->word;
}

static _unused_ int judge(const struct bn_maps *m, uint32_t slot, enum bn_dir dir,
			  const struct bn_addr *peer, uint8_t proto, uint16_t port)
{
	return judge_word(m, word_of(m, slot), dir, peer, proto, port);
}

static _unused_ const char *text(json_t *o, const char *a, const char *b)
{
	return json_string_value(json_object_get(json_object_get(o, a), b));
}

/* Every pod of the random cluster, whatever its node, gets a slot: its number plus one. */
static _unused_ void add_slots(struct world *w, bool adopted)
{
	json_t *o;
	size_t i;

	json_array_foreach (w->cluster, i, o) {
		unsigned n;

		if (strcmp(json_string_value(json_object_get(o, "kind")), "Pod"))
			continue;
		assert_int_equal(sscanf(text(o, "metadata", "name"), "pod%u", &n), 1);
		assert_int_equal(bn_policies_slot(w->pol, n + 1, text(o, "metadata", "namespace"),
						  text(o, "metadata", "name"), adopted),
				 0);
	}
}

#endif
