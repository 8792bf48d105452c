/* SPDX-License-Identifier: MIT */
/* Interfaces to pods, with real veths and namespaces. Needs root. */
#include "tests/bpf/ep_world.h"

static void routed_dual_stack(void **state _unused_)
{
	struct bn_iface v;
	struct bn_ep ep;
	struct bn_addr a;

	ready();
	pod("a", "10.1.0.5", "fd00:1::5");
	veth("a");
	inside("a", "10.1.0.5/32");
	inside("a", "fd00:1::5/128");
	eventually(mapped("a", "va"));
	a = addr("10.1.0.5");
	assert_int_equal(bn_eps_get(w.eps, &a, &ep), 0);
	assert_int_equal(ep.ifindex, iface("va")->ifindex);
	assert_true(ep.mac[0] | ep.mac[1] | ep.mac[2] | ep.mac[5]);
	assert_true(ep.flags & BN_ADDR_F_POD);
	assert_int_equal(slot_at("fd00:1::5"), pod_of("a")->slot);
	assert_int_equal(bn_pods_iface(w.ep->pods, iface("va")->ifindex, &v), 0);
	assert_true(v.flags & BN_IF_F_PEER);
	assert_int_equal(v.l2_len, 14);
	eventually(bn_endpoints_settled(w.ep));
	/* the pod goes, its interface stays: closed, and its addresses are nobody's */
	assert_int_equal(bn_store_del(w.store, BN_KIND_POD, "d", "a"), 0);
	turn();
	assert_int_equal(slot_at("10.1.0.5"), 0);
	assert_int_equal(bn_pods_iface(w.ep->pods, iface("va")->ifindex, &v), 0);
	assert_int_equal(v.slot, 0);
	assert_false(v.flags & BN_IF_F_OPEN);
	assert_int_equal(bn_pods_used(w.ep->pods), 0);
}

static void interface_first(void **state _unused_)
{
	struct bn_iface v;

	ready();
	veth("a");
	inside("a", "10.1.0.5/32");
	eventually(iface("va") && iface("va")->nids == 1);
	assert_int_equal(bn_pods_iface(w.ep->pods, iface("va")->ifindex, &v), 0);
	assert_int_equal(v.role, BN_ROLE_POD);
	assert_int_equal(v.slot, 0);
	assert_false(v.flags & BN_IF_F_OPEN);
	pod("a", NULL, NULL);
	turn();
	assert_false(mapped("a", "va"));
	pod("a", "10.1.0.5", NULL);
	turn();
	assert_true(mapped("a", "va"));
}

/* Addresses are often given long after the link came up. */
static void address_late(void **state _unused_)
{
	double t;

	ready();
	pod("a", "10.1.0.5", "fd00:1::5");
	veth("a");
	eventually(iface("va") && iface("va")->asked);
	usleep(300000);
	turn();
	inside("a", "fd00:1::5/128");
	t = now_s();
	eventually(mapped("a", "va"));
	assert_true(now_s() - t < 0.5); /* told by multicast, not by the back-off */
	assert_int_equal(slot_at("10.1.0.5"), pod_of("a")->slot);
}

static void bridged(void **state _unused_)
{
	struct bn_iface v;

	node("node1", "192.0.2.1", "10.244.1.0/24");
	ready();
	sh("ip -n %s-n link add cni0 type bridge && ip -n %s-n addr add 10.244.1.1/24 dev cni0 && "
	   "ip -n %s-n link set cni0 up",
	   w.tag, w.tag, w.tag);
	pod("a", "10.244.1.5", "fd00:1::5");
	pod("b", "10.244.1.6", NULL);
	veth("a");
	veth("b");
	sh("ip -n %s-n link set va master cni0; ip -n %s-n link set vb master cni0", w.tag, w.tag);
	inside("a", "10.244.1.5/24");
	inside("a", "fd00:1::5/64");
	inside("b", "10.244.1.6/24");
	eventually(mapped("a", "va") && mapped("b", "vb"));
	eventually(!bn_pods_iface(w.ep->pods, iface("va")->ifindex, &v) &&
		   v.flags & BN_IF_F_BRIDGE);
	assert_int_equal(iface("cni0")->role, BN_ROLE_NONE);
	assert_true(flags_at("10.244.1.1") & BN_ADDR_F_HOST);
	assert_true(flags_at("10.244.1.1") & BN_ADDR_F_NODEPORT);
}

/* A restart with the same state writes nothing, and slots stay. */
static void restart(void **state _unused_)
{
	uint32_t slot;

	ready();
	pod("a", "10.1.0.5", "fd00:1::5");
	pod("b", "10.1.0.6", NULL);
	veth("a");
	veth("b");
	inside("a", "10.1.0.5/32");
	inside("b", "10.1.0.6/32");
	eventually(mapped("a", "va") && mapped("b", "vb"));
	slot = pod_of("a")->slot;
	close_world();
	open_world();
	stays(slot_at("10.1.0.5") == slot); /* nothing is read yet: what was in force stays */
	assert_int_equal(writes(), 0);
	pod("a", "10.1.0.5", "fd00:1::5");
	pod("b", "10.1.0.6", NULL);
	ready();
	eventually(mapped("a", "va") && mapped("b", "vb"));
	assert_int_equal(pod_of("a")->slot, slot);
	eventually(bn_endpoints_settled(w.ep));
	assert_int_equal(writes(), 0);
	/* and a pod that went meanwhile is cleaned up */
	close_world();
	open_world();
	pod("b", "10.1.0.6", NULL);
	ready();
	eventually(bn_endpoints_settled(w.ep));
	assert_int_equal(slot_at("10.1.0.5"), 0);
	assert_int_equal(slot_at("fd00:1::5"), 0);
	assert_int_equal(bn_pods_used(w.ep->pods), 1);
}

static void interface_replaced(void **state _unused_)
{
	uint32_t slot;

	ready();
	pod("a", "10.1.0.5", NULL);
	veth("a");
	inside("a", "10.1.0.5/32");
	eventually(mapped("a", "va"));
	slot = pod_of("a")->slot;
	sh("ip -n %s-n link del va", w.tag);
	eventually(!iface("va"));
	assert_int_equal(slot_at("10.1.0.5"), 0);
	assert_int_equal(bn_pods_used(w.ep->pods), 0);
	sh("ip netns del %s-a", w.tag);
	veth("a");
	inside("a", "10.1.0.5/32");
	eventually(mapped("a", "va"));
	assert_int_not_equal(pod_of("a")->slot, slot); /* no grace period was needed */
	assert_int_equal(slot_at("10.1.0.5"), pod_of("a")->slot);
	/* the new one before the old one goes */
	sh("ip netns add %s-a2 && ip -n %s-n link add va2 type veth peer name eth0 netns %s-a2 && "
	   "ip -n %s-a addr flush dev eth0",
	   w.tag, w.tag, w.tag, w.tag);
	inside("a2", "10.1.0.5/32");
	eventually(mapped("a", "va2"));
	assert_int_equal(bn_pods_used(w.ep->pods), 1);
}

static void address_reused(void **state _unused_)
{
	ready();
	pod("a", "10.1.0.5", NULL);
	veth("a");
	inside("a", "10.1.0.5/32");
	eventually(mapped("a", "va"));
	sh("ip netns del %s-a", w.tag);
	eventually(!iface("va"));
	pod("b", "10.1.0.5", NULL); /* a's object lingers with the same address */
	veth("b");
	inside("b", "10.1.0.5/32");
	eventually(mapped("b", "vb"));
	assert_int_equal(slot_at("10.1.0.5"), pod_of("b")->slot);
	assert_int_equal(bn_store_del(w.store, BN_KIND_POD, "d", "a"), 0);
	stays(slot_at("10.1.0.5") == pod_of("b")->slot);
}

/* A pod with NET_ADMIN gives itself the addresses of others. */
static void hostile(void **state _unused_)
{
	uint32_t b;

	ready();
	pod("a", "10.1.0.5", "fd00:1::5");
	pod("b", "10.1.0.6", NULL);
	veth("b");
	inside("b", "10.1.0.6/32");
	eventually(mapped("b", "vb"));
	b = pod_of("b")->slot;
	inside("b", "10.1.0.5/32");
	inside("b", "fd00:1::5/128");
	stays(slot_at("10.1.0.5") != b && slot_at("fd00:1::5") != b && mapped("b", "vb"));
	/* one whose own pod is not known yet, after it was given its address */
	veth("c");
	inside("c", "10.1.0.7/32");
	eventually(iface("vc") && iface("vc")->nids);
	inside("c", "10.1.0.5/32");
	stays(!iface("vc")->pod);
	veth("a");
	inside("a", "10.1.0.5/32");
	eventually(mapped("a", "va"));
	pod("c", "10.1.0.7", NULL);
	eventually(mapped("c", "vc"));
	assert_int_equal(slot_at("10.1.0.5"), pod_of("a")->slot);
	/* and one that shows nothing but another's, which has an interface */
	veth("d");
	inside("d", "10.1.0.5/32");
	eventually(iface("vd") && iface("vd")->nids);
	stays(!iface("vd")->pod && slot_at("10.1.0.5") == pod_of("a")->slot);
}

static void by_host_route(void **state _unused_)
{
	ready();
	pod("a", "10.1.0.5", "fd00:1::5");
	veth("a");
	sh("ip -n %s-n route add 10.1.0.5/32 dev va && ip -n %s-n -6 route add fd00:1::5/128 dev "
	   "va",
	   w.tag, w.tag);
	eventually(mapped("a", "va"));
	assert_int_equal(iface("va")->by, EP_BY_ROUTE);
}

/* Before the Pod object has an address, and without asking the namespace. */
static void by_cache(void **state _unused_)
{
	ready();
	pod("a", NULL, NULL);
	pod("b", "10.1.0.6", NULL);
	veth("a");
	veth("b");
	eventually(iface("va") && iface("vb"));
	sh("cat > %s/.x <<'E'\n"
	   "{\"kind\":\"cniCacheV1\",\"containerId\":\"c1\",\"config\":\"e30=\",\"ifName\":"
	   "\"eth0\","
	   "\"networkName\":\"n\",\"cniArgs\":[[\"IgnoreUnknown\",\"1\"],[\"K8S_POD_NAMESPACE\","
	   "\"d\"],"
	   "[\"K8S_POD_NAME\",\"a\"]],\"result\":{\"cniVersion\":\"1.0.0\",\"interfaces\":["
	   "{\"name\":\"va\",\"mac\":\"02:00:00:00:00:01\"},{\"name\":\"eth0\",\"sandbox\":\"/"
	   "x\"}],"
	   "\"ips\":[{\"address\":\"10.1.0.5/24\",\"interface\":1},{\"address\":\"fd00:1::5/"
	   "64\"}]}}\n"
	   "E\nmv %s/.x %s/n-c1-eth0",
	   w.cache, w.cache, w.cache);
	eventually(mapped("a", "va"));
	assert_int_equal(iface("va")->by, EP_BY_CNI);
	assert_int_equal(slot_at("10.1.0.5"), pod_of("a")->slot);
	assert_int_equal(slot_at("fd00:1::5"), pod_of("a")->slot);
	/* a stale file cannot take an address that a Pod object has */
	sh("sed 's/\"va\"/\"vz\"/; s/10.1.0.5/10.1.0.6/' %s/n-c1-eth0 > %s/n-c2-eth0", w.cache,
	   w.cache);
	inside("b", "10.1.0.6/32");
	eventually(mapped("b", "vb"));
	stays(slot_at("10.1.0.6") == pod_of("b")->slot);
}

/* Both ends of the pair are made on the node and one is moved, as scripts do. */
static void moved_later(void **state _unused_)
{
	ready();
	pod("a", "10.1.0.5", NULL);
	sh("ip netns add %s-a && ip -n %s-n link add va type veth peer name eth0 && "
	   "ip -n %s-n link set va up",
	   w.tag, w.tag, w.tag);
	eventually(iface("va") && iface("eth0"));
	assert_int_equal(iface("va")->role, BN_ROLE_NONE);
	sh("ip -n %s-n link set eth0 netns %s-a && ip -n %s-a link set eth0 up", w.tag, w.tag,
	   w.tag);
	eventually(iface("va") && iface("va")->role == BN_ROLE_POD);
	inside("a", "10.1.0.5/32");
	eventually(mapped("a", "va"));
}

static void many(void **state _unused_)
{
	char name[16], ip[32];
	double t;
	int i, n = 0;

	ready();
	for (i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		snprintf(ip, sizeof(ip), "10.1.1.%d", i + 1);
		pod(name, ip, NULL);
	}
	sh("{ for i in $(seq 0 199); do echo \"netns add %s-m$i\"; done; } | ip -batch -", w.tag);
	sh("for i in $(seq 0 199); do echo \"link add vm$i type veth peer name eth0 netns "
	   "%s-m$i\"; "
	   "echo \"link set vm$i up\"; done | ip -n %s-n -batch -",
	   w.tag, w.tag);
	sh("for i in $(seq 0 199); do ip -n %s-m$i addr add 10.1.1.$((i+1))/32 dev eth0; done",
	   w.tag);
	t = now_s();
	eventually(bn_endpoints_settled(w.ep));
	for (i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		snprintf(ip, sizeof(ip), "vm%d", i);
		n += mapped(name, ip);
	}
	print_message("200 veths: %.3f s\n", now_s() - t);
	assert_int_equal(n, 200);
	t = now_s();
	for (i = 0; i < 100; i++) {
		ep_dirty(w.ep);
		turn();
	}
	print_message("a sync that finds nothing new: %.3f ms\n", (now_s() - t) * 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(routed_dual_stack, setup, teardown),
		cmocka_unit_test_setup_teardown(interface_first, setup, teardown),
		cmocka_unit_test_setup_teardown(address_late, setup, teardown),
		cmocka_unit_test_setup_teardown(bridged, setup, teardown),
		cmocka_unit_test_setup_teardown(restart, setup, teardown),
		cmocka_unit_test_setup_teardown(interface_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(address_reused, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile, setup, teardown),
		cmocka_unit_test_setup_teardown(by_host_route, setup, teardown),
		cmocka_unit_test_setup_teardown(by_cache, setup, teardown),
		cmocka_unit_test_setup_teardown(moved_later, setup, teardown),
		cmocka_unit_test_setup_teardown(many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
