// SPDX-License-Identifier: MIT
/* loader/model/dsr.c: which nodes and pods stand in map dsr, as Nodes and Pods come, change and go. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/model/dsr.h"
#include "maps/util.h"

static struct {
	struct bn_maps *maps;
	struct bn_store *store;
	struct bn_opts opts;
	struct bn_dsr *dsr;
} w;

static struct bn_addr addr(const char *text)
{
	struct bn_addr a;
	struct in_addr v4;

	memset(&a, 0, sizeof(a));
	if (inet_pton(AF_INET, text, &v4) == 1)
		bn_addr_v4(&a, v4.s_addr);
	else
		assert_int_equal(inet_pton(AF_INET6, text, &a), 1);
	return a;
}

static void put(json_t *json)
{
	_cleanup_(bn_obj_unrefp) struct bn_obj *o = NULL;
	struct bn_err err = {};

	assert_non_null(json);
	assert_int_equal(bn_object_parse(json, &o, &err), 0);
	json_decref(json);
	assert_int_equal(bn_store_put(w.store, o), 0);
}

static void node(const char *name, const char *dsr, const char *ip4, const char *ip6)
{
	put(json_pack("{s:s, s:s, s:{s:s, s:{s:s*}}, s:{s:[{s:s, s:s}, {s:s, s:s}]}}", "apiVersion", "v1", "kind", "Node",
		      "metadata", "name", name, "annotations", "bpfnet.io/dsr", dsr, "status", "addresses", "type",
		      "InternalIP", "address", ip4, "type", "InternalIP", "address", ip6 ?: ip4));
}

static void pod(const char *name, const char *on, const char *phase, bool host, const char *ip4, const char *ip6)
{
	put(json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:b}, s:{s:s, s:[{s:s}, {s:s}]}}", "apiVersion", "v1", "kind", "Pod",
		      "metadata", "namespace", "d", "name", name, "spec", "nodeName", on, "hostNetwork", host, "status",
		      "phase", phase, "podIPs", "ip", ip4, "ip", ip6));
}

/* Is `a` in the map as reached by `by`, with these flags? by NULL: it is not there. */
static void at(const char *a, const char *by, uint32_t flags)
{
	struct bn_addr key = addr(a), node_addr;
	struct bn_dsr_peer v;
	int r = bn_map_get(w.maps, BN_MAP_dsr, &key, &v);

	if (!by) {
		assert_int_equal(r, -ENOENT);
		return;
	}
	assert_int_equal(r, 0);
	node_addr = addr(by);
	assert_memory_equal(&v.node, &node_addr, sizeof(node_addr));
	assert_int_equal(v.flags, flags);
}

static void again(enum bn_lb_mode mode)
{
	bn_dsr_freep(&w.dsr);
	w.opts.lb_mode = mode;
	assert_int_equal(bn_dsr_new(w.store, w.maps, &w.opts, &w.dsr), 0);
}

static int setup(void **state _unused_)
{
	struct bn_maps_sizes sizes = {0};

	memset(&w, 0, sizeof(w));
	assert_int_equal(bn_maps_create(&sizes, &w.maps), 0);
	assert_int_equal(bn_store_new(&w.store), 0);
	snprintf(w.opts.node_name, sizeof(w.opts.node_name), "n1");
	again(BN_LB_DSR);
	return 0;
}

static int teardown(void **state _unused_)
{
	bn_dsr_freep(&w.dsr);
	bn_store_freep(&w.store);
	bn_maps_freep(&w.maps);
	return 0;
}

static void nodes_and_pods(void **state _unused_)
{
	const uint32_t both = BN_DSR_F_NODE | BN_DSR_F_BACKEND;

	node("n1", "v1", "192.0.2.1", "2001:db8::1"); /* this one */
	node("n2", "v1", "192.0.2.2", "2001:db8::2");
	node("n3", NULL, "192.0.2.3", "2001:db8::3");
	node("n4", "v2", "192.0.2.4", "2001:db8::4"); /* another version is none that we know */
	node("n5", "v1", "192.0.2.5", NULL);	      /* no IPv6: its pods' are reached otherwise */
	pod("a", "n1", "Running", false, "10.0.1.1", "fd00:1::1");
	pod("b", "n2", "Running", false, "10.0.2.1", "fd00:2::1");
	pod("c", "n3", "Running", false, "10.0.3.1", "fd00:3::1");
	pod("d", "n5", "Running", false, "10.0.5.1", "fd00:5::1");
	pod("e", "n2", "Succeeded", false, "10.0.2.2", "fd00:2::2");
	pod("f", "n2", "Running", true, "192.0.2.2", "2001:db8::2");
	assert_int_equal(bn_dsr_sync(w.dsr, true), 0);
	at("192.0.2.1", NULL, 0);
	at("192.0.2.2", "192.0.2.2", both);
	at("2001:db8::2", "2001:db8::2", both);
	at("192.0.2.3", NULL, 0);
	at("192.0.2.4", NULL, 0);
	at("192.0.2.5", "192.0.2.5", both);
	at("10.0.1.1", NULL, 0);
	at("10.0.2.1", "192.0.2.2", BN_DSR_F_BACKEND);
	at("fd00:2::1", "2001:db8::2", BN_DSR_F_BACKEND);
	at("10.0.3.1", NULL, 0);
	at("10.0.5.1", "192.0.2.5", BN_DSR_F_BACKEND);
	at("fd00:5::1", NULL, 0);
	at("10.0.2.2", NULL, 0);
	/* A pod that comes later is there at once, one whose address was on another node, too. */
	pod("g", "n2", "Running", false, "10.0.2.9", "fd00:2::9");
	at("10.0.2.9", "192.0.2.2", BN_DSR_F_BACKEND);
	pod("h", "n3", "Running", false, "10.0.2.9", "fd00:2::9");
	at("10.0.2.9", NULL, 0);
	pod("i", "n5", "Running", false, "10.0.2.1", "fd00:2::1");
	at("10.0.2.1", "192.0.2.5", BN_DSR_F_BACKEND);
	at("fd00:2::1", NULL, 0);
}

static void annotation_comes_and_goes(void **state _unused_)
{
	node("n2", NULL, "192.0.2.2", "2001:db8::2");
	pod("b", "n2", "Running", false, "10.0.2.1", "fd00:2::1");
	assert_int_equal(bn_dsr_sync(w.dsr, true), 0);
	at("10.0.2.1", NULL, 0);
	node("n2", "v1", "192.0.2.2", "2001:db8::2");
	assert_int_equal(bn_dsr_sync(w.dsr, true), 0);
	at("10.0.2.1", "192.0.2.2", BN_DSR_F_BACKEND);
	node("n2", "v1", "192.0.2.22", "2001:db8::2"); /* its address changes */
	assert_int_equal(bn_dsr_sync(w.dsr, true), 0);
	at("10.0.2.1", "192.0.2.22", BN_DSR_F_BACKEND);
	at("192.0.2.2", NULL, 0);
	node("n2", NULL, "192.0.2.22", "2001:db8::2");
	assert_int_equal(bn_dsr_sync(w.dsr, true), 0);
	at("10.0.2.1", NULL, 0);
	at("192.0.2.22", NULL, 0);
	node("n2", "v1", "192.0.2.22", "2001:db8::2");
	assert_int_equal(bn_dsr_sync(w.dsr, true), 0);
	assert_int_equal(bn_store_del(w.store, BN_KIND_NODE, "", "n2"), 0);
	assert_int_equal(bn_dsr_sync(w.dsr, true), 0);
	at("10.0.2.1", NULL, 0);
	at("2001:db8::2", NULL, 0);
}

/* What is pinned stays until everything has been read; then what nobody wants goes, a deleted pod's later. */
static void restart_and_sweep(void **state _unused_)
{
	node("n2", "v1", "192.0.2.2", "2001:db8::2");
	pod("b", "n2", "Running", false, "10.0.2.1", "fd00:2::1");
	assert_int_equal(bn_dsr_sync(w.dsr, true), 0);
	for (int i = 0; i < 1200; i++) { /* of an earlier daemon, more than one round of the sweep */
		struct bn_addr key = addr("10.9.0.0");
		struct bn_dsr_peer v = {addr("192.0.2.9"), BN_DSR_F_BACKEND};

		key.b[14] = i >> 8;
		key.b[15] = i;
		assert_int_equal(bn_map_put(w.maps, BN_MAP_dsr, &key, &v), 0);
	}
	again(BN_LB_DSR);
	assert_int_equal(bn_dsr_sync(w.dsr, false), 0);
	at("10.9.4.175", "192.0.2.9", BN_DSR_F_BACKEND);
	at("10.0.2.1", "192.0.2.2", BN_DSR_F_BACKEND);
	assert_int_equal(bn_dsr_sync(w.dsr, true), 0);
	assert_int_equal(bn_map_count(w.maps, BN_MAP_dsr), 4);
	assert_int_equal(bn_store_del(w.store, BN_KIND_POD, "d", "b"), 0);
	for (int i = 0; i < 400; i++)
		assert_int_equal(bn_dsr_sync(w.dsr, true), 0);
	at("10.0.2.1", NULL, 0);
	/* snat: nodes alone, so that what they send is understood. */
	pod("b", "n2", "Running", false, "10.0.2.1", "fd00:2::1");
	again(BN_LB_SNAT);
	assert_int_equal(bn_dsr_sync(w.dsr, true), 0);
	at("192.0.2.2", "192.0.2.2", BN_DSR_F_NODE);
	at("10.0.2.1", NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nodes_and_pods, setup, teardown),
		cmocka_unit_test_setup_teardown(annotation_comes_and_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(restart_and_sweep, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
