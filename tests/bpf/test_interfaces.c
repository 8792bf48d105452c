/* SPDX-License-Identifier: MIT */
/* What an interface is: uplinks, tunnels, containers of others, the short cut past the host's
 * stack, and a kernel that says more than can be heard. Needs root.
 */
#include "tests/bpf/ep_world.h"

/* Containers of others on a bridge of their own stay open; an unknown pod beside them is closed. */
static void unmanaged(void **state _unused_)
{
	struct bn_iface v;

	node("node1", "192.0.2.1", "10.244.1.0/24");
	ready();
	sh("ip -n %s-n link add docker0 type bridge && ip -n %s-n addr add 172.17.0.1/16 dev "
	   "docker0 && "
	   "ip -n %s-n link set docker0 up",
	   w.tag, w.tag, w.tag);
	veth("a");
	sh("ip -n %s-n link set va master docker0", w.tag);
	inside("a", "172.17.0.2/16");
	veth("b");
	inside("b", "10.244.1.9/32");
	eventually(iface("va") && iface("va")->unmanaged);
	assert_int_equal(bn_pods_iface(w.ep->pods, iface("va")->ifindex, &v), 0);
	assert_true(v.flags & BN_IF_F_OPEN);
	eventually(iface("vb") && iface("vb")->nids);
	assert_int_equal(bn_pods_iface(w.ep->pods, iface("vb")->ifindex, &v), 0);
	assert_false(v.flags & BN_IF_F_OPEN);
	w.opts.unknown_pods = BN_UNKNOWN_ALLOW;
	ep_dirty(w.ep);
	turn();
	assert_int_equal(bn_pods_iface(w.ep->pods, iface("vb")->ifindex, &v), 0);
	assert_true(v.flags & BN_IF_F_OPEN);
}

/* Veths between nodes are uplinks; so is one to a network of its own; a pod's is not. */
static void uplinks(void **state _unused_)
{
	struct bn_iface v;

	node("node1", "192.0.2.1", "10.244.1.0/24");
	node("node2", "192.0.2.2", "10.244.2.0/24");
	sh("ip netns add %s-f", w.tag);
	sh("ip -n %s-n link add up0 type veth peer name p0 netns %s-f && "
	   "ip -n %s-n link set up0 up && ip -n %s-n addr add 192.0.2.1/24 dev up0 && "
	   "ip -n %s-f link set p0 up && ip -n %s-f addr add 192.0.2.2/24 dev p0 && "
	   "ip -n %s-n route add 10.244.2.0/24 via 192.0.2.2",
	   w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag);
	sh("ip -n %s-n link add out0 type veth peer name p1 netns %s-f && "
	   "ip -n %s-n link set out0 up && ip -n %s-n addr add 198.51.100.1/24 dev out0 && "
	   "ip -n %s-f link set p1 up && ip -n %s-f addr add 198.51.100.9/24 dev p1",
	   w.tag, w.tag, w.tag, w.tag, w.tag, w.tag);
	pod("a", "10.244.1.5", NULL);
	ready();
	veth("a");
	inside("a", "10.244.1.5/32");
	eventually(iface("up0") && iface("up0")->role == BN_ROLE_UPLINK);
	eventually(iface("out0") && iface("out0")->role == BN_ROLE_UPLINK);
	eventually(mapped("a", "va"));
	assert_int_equal(bn_pods_iface(w.ep->pods, iface("up0")->ifindex, &v), 0);
	assert_int_equal(v.role, BN_ROLE_UPLINK);
	assert_int_equal(v.addr4.b[15], 1);
	assert_true(bn_addr_is_v4(&v.addr4));
	assert_string_equal(bn_endpoints_devices(w.ep)[0], "up0");
	assert_true(flags_at("198.51.100.1") & BN_ADDR_F_HOST);
}

/* Overlays: found by the routes to other nodes' pods, with and without an Ethernet header. */
static void tunnels(void **state _unused_)
{
	struct bn_iface v;

	node("node1", "192.0.2.1", "10.244.1.0/24");
	node("node2", "192.0.2.2", "10.244.2.0/24");
	sh("ip -n %s-n link add up0 type veth peer name up1 && ip -n %s-n link set up0 up && "
	   "ip -n %s-n link set up1 up && ip -n %s-n addr add 192.0.2.1/24 dev up0 && "
	   "ip -n %s-n link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.1 nolearning "
	   "&& "
	   "ip -n %s-n addr add 10.244.1.0/32 dev flannel.1 && ip -n %s-n link set flannel.1 up && "
	   "ip -n %s-n route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink && "
	   "ip -n %s-n tuntap add t0 mode tun && "
	   "ip -n %s-n link set t0 up && ip -n %s-n route add 10.99.0.0/16 dev t0",
	   w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag);
	ready();
	eventually(iface("flannel.1") && iface("flannel.1")->role == BN_ROLE_TUNNEL);
	eventually(iface("t0") && iface("t0")->role == BN_ROLE_TUNNEL);
	eventually(iface("up0") && iface("up0")->role == BN_ROLE_UPLINK);
	assert_int_equal(bn_pods_iface(w.ep->pods, iface("flannel.1")->ifindex, &v), 0);
	assert_int_equal(v.l2_len, 14);
	assert_int_equal(v.addr4.b[13], 244);
	assert_int_equal(bn_pods_iface(w.ep->pods, iface("t0")->ifindex, &v), 0);
	assert_int_equal(v.l2_len, 0);
}

static void devices_override(void **state _unused_)
{
	const char *pattern = "up*";

	w.opts.ndevices = 1;
	w.opts.devices = &pattern;
	sh("ip netns add %s-f", w.tag);
	sh("ip -n %s-n link add up0 type veth peer name p0 netns %s-f && ip -n %s-n link set up0 "
	   "up && "
	   "ip -n %s-n link add wg0 type vxlan id 9 dstport 4789 local 127.0.0.1 && "
	   "ip -n %s-n addr add 10.9.9.1/24 dev wg0",
	   w.tag, w.tag, w.tag, w.tag, w.tag);
	ready();
	eventually(iface("up0") && iface("up0")->role == BN_ROLE_UPLINK);
	assert_int_equal(iface("wg0")->role, BN_ROLE_NONE);
	w.opts.ndevices = 0;
	ep_dirty(w.ep);
	turn();
	assert_int_equal(iface("wg0")->role, BN_ROLE_TUNNEL);
}

/* Without Node objects: a node's veth lies in a network without pods, though near them. */
static void no_nodes(void **state _unused_)
{
	pod("a", "10.0.1.5", NULL);
	put("{'apiVersion':'v1','kind':'Pod','metadata':{'namespace':'d','name':'far'},"
	    "'spec':{'nodeName':'node2'},'status':{'podIPs':[{'ip':'10.0.2.5'}]}}");
	sh("ip netns add %s-f && ip -n %s-n link add up0 type veth peer name p0 netns %s-f && "
	   "ip -n %s-n link set up0 up && ip -n %s-n addr add 10.0.0.1/24 dev up0 && "
	   "ip -n %s-f link set p0 up && ip -n %s-f addr add 10.0.0.2/24 dev p0",
	   w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag);
	sh("ip netns add %s-g && ip -n %s-n link add gw0 type veth peer name p0 netns %s-g && "
	   "ip -n %s-n link set gw0 up && "
	   "ip -n %s-g link set p0 up && ip -n %s-g addr add 10.0.3.2/32 dev p0 && "
	   "ip -n %s-n route add 10.0.3.2 dev gw0 && ip -n %s-n route add 10.0.4.0/24 via 10.0.3.2",
	   w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag);
	ready();
	veth("a");
	inside("a", "10.0.1.5/32");
	veth("b");
	inside("b", "10.0.1.6/32"); /* nobody's, but among pods */
	eventually(mapped("a", "va"));
	eventually(iface("vb") && iface("vb")->nids);
	stays(iface("up0")->role == BN_ROLE_UPLINK && iface("gw0")->role == BN_ROLE_UPLINK &&
	      iface("vb")->role == BN_ROLE_POD && !iface("vb")->open && !iface("vb")->unmanaged);
}

/* The bridge of the pods goes on into another namespace's bridge: that port is no pod's. */
static void trunk(void **state _unused_)
{
	node("node1", "192.0.2.1", "10.244.1.0/24");
	pod("a", "10.244.1.5", NULL);
	ready();
	sh("ip -n %s-n link add br0 type bridge && ip -n %s-n addr add 10.244.1.1/24 dev br0 && "
	   "ip -n %s-n link set br0 up && ip netns add %s-f && "
	   "ip -n %s-f link add br1 type bridge && ip -n %s-f addr add 10.244.1.2/24 dev br1 && "
	   "ip -n %s-n link add t0 type veth peer name t1 netns %s-f && "
	   "ip -n %s-n link set t0 master br0 up && ip -n %s-f link set t1 master br1 up",
	   w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag, w.tag);
	veth("a");
	sh("ip -n %s-n link set va master br0", w.tag);
	inside("a", "10.244.1.5/24");
	eventually(mapped("a", "va"));
	eventually(iface("t0") && iface("t0")->role == BN_ROLE_NONE);
}

/* More notifications than the socket holds: everything is read again, nothing is missed. */
static void overrun(void **state _unused_)
{
	struct bn_endpoints_stats s;

	ready();
	pod("a", "10.1.0.5", NULL);
	turn();
	veth("a");
	inside("a", "10.1.0.5/32");
	sh("for i in $(seq 0 19999); do echo addr add 10.77.$((i/250)).$((i%%250))/32 dev lo; done "
	   "| "
	   "ip -n %s-n -batch -",
	   w.tag);
	eventually(mapped("a", "va") && flags_at("10.77.79.249") & BN_ADDR_F_HOST);
	assert_true(flags_at("10.77.0.0") & BN_ADDR_F_HOST);
	bn_endpoints_stats(w.ep, &s);
	assert_true(s.resyncs > 0);
	sh("ip -n %s-n addr del 10.77.0.0/32 dev lo", w.tag);
	eventually(!flags_at("10.77.0.0"));
}

/* A pod that changes its addresses without end: others are found all the same, and soon. */
static void noise(void **state _unused_)
{
	char script[64], cmd[512];
	double t, worst = 0;
	FILE *f;
	int i;

	ready();
	pod("a", "10.1.0.5", NULL);
	veth("a");
	veth("x"); /* stays unknown, so that namespaces are listened to */
	inside("a", "10.1.0.5/32");
	eventually(mapped("a", "va"));
	snprintf(script, sizeof(script), "/tmp/%s-noise", w.tag);
	sh("i=0; while [ $i -lt 300 ]; do echo addr add 10.8.0.1/32 dev eth0; "
	   "echo addr del 10.8.0.1/32 dev eth0; i=$((i+1)); done > %s",
	   script);
	snprintf(cmd, sizeof(cmd),
		 "for n in a x; do (while test -e %s; do ip -n %s-$n -batch %s; done) "
		 ">/dev/null 2>&1 & done; wait",
		 script, w.tag, script);
	f = popen(cmd, "re");
	assert_non_null(f);
	for (i = 0; i < 5; i++) {
		char name[8], ip[32], ifname[16];

		snprintf(name, sizeof(name), "n%d", i);
		snprintf(ifname, sizeof(ifname), "vn%d", i);
		snprintf(ip, sizeof(ip), "10.1.0.%d", 50 + i);
		pod(name, ip, NULL);
		veth(name);
		inside(name, ip);
		t = now_s();
		eventually(mapped(name, ifname));
		worst = now_s() - t > worst ? now_s() - t : worst;
	}
	unlink(script);
	pclose(f);
	print_message("found beside the noise in at most %.3f s\n", worst);
	assert_true(worst < 2);
}

static bool has_flag(const char *ifname, uint16_t flag)
{
	struct bn_iface v;

	return iface(ifname) && !bn_pods_iface(w.ep->pods, iface(ifname)->ifindex, &v) &&
	       v.flags & flag;
}

static uint16_t mtu_of(const char *ifname)
{
	struct bn_iface v = {};

	return iface(ifname) && !bn_pods_iface(w.ep->pods, iface(ifname)->ifindex, &v) ? v.mtu : 0;
}

/* What holds as soon as it is looked for, which is otherwise every two seconds. */
#define now(cond)                                                                                  \
	do {                                                                                       \
		w.ep->look_ns = 1;                                                                 \
		ep_dirty(w.ep);                                                                    \
		turn();                                                                            \
		assert_true(cond);                                                                 \
	} while (0)

static void bypass(void **state _unused_)
{
	uint64_t before;

	ready();
	pod("a", "10.1.0.5", NULL);
	pod("b", "10.1.0.6", NULL);
	veth("a");
	veth("b");
	inside("a", "10.1.0.5/32");
	inside("b", "10.1.0.6/32");
	eventually(has_flag("va", BN_IF_F_BYPASS) && has_flag("vb", BN_IF_F_BYPASS));
	assert_int_equal(mtu_of("va"), 1500);
	sh("ip -n %s-n link set va mtu 1400", w.tag);
	eventually(mtu_of("va") == 1400);
	assert_int_equal(mtu_of("vb"), 1500);
	sh("tc -n %s-n qdisc add dev va root tbf rate 1mbit burst 10k latency 50ms", w.tag);
	now(!has_flag("va", BN_IF_F_BYPASS) && has_flag("vb", BN_IF_F_BYPASS));
	sh("tc -n %s-n qdisc del dev va root", w.tag);
	sh("tc -n %s-n qdisc add dev vb clsact && tc -n %s-n filter add dev vb egress bpf bytecode "
	   "'1,6 0 0 0,'",
	   w.tag, w.tag);
	now(has_flag("va", BN_IF_F_BYPASS) && !has_flag("vb", BN_IF_F_BYPASS));
	sh("tc -n %s-n qdisc del dev vb clsact", w.tag);
	sh("nft add table ip x; nft 'add chain ip x f { type filter hook input priority 0; }'; "
	   "nft add rule ip x f counter");
	now(has_flag("vb", BN_IF_F_BYPASS)); /* input is not on the way */
	sh("nft 'add chain ip x g { type filter hook forward priority 0; }'; nft add rule ip x g "
	   "counter");
	now(!has_flag("va", BN_IF_F_BYPASS) && !has_flag("vb", BN_IF_F_BYPASS));
	sh("nft delete table ip x");
	now(has_flag("va", BN_IF_F_BYPASS));
	sh("iptables-legacy -P FORWARD DROP");
	now(!has_flag("va", BN_IF_F_BYPASS));
	sh("iptables-legacy -P FORWARD ACCEPT");
	now(has_flag("va", BN_IF_F_BYPASS));
	sh("ip6tables-legacy -A FORWARD -j ACCEPT");
	now(!has_flag("va", BN_IF_F_BYPASS));
	sh("ip6tables-legacy -F");
	now(has_flag("va", BN_IF_F_BYPASS));
	/* a restart finds all as it was */
	close_world();
	open_world();
	pod("a", "10.1.0.5", NULL);
	pod("b", "10.1.0.6", NULL);
	before = writes();
	ready();
	eventually(bn_endpoints_settled(w.ep));
	assert_int_equal(writes(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(unmanaged, setup, teardown),
		cmocka_unit_test_setup_teardown(uplinks, setup, teardown),
		cmocka_unit_test_setup_teardown(tunnels, setup, teardown),
		cmocka_unit_test_setup_teardown(devices_override, setup, teardown),
		cmocka_unit_test_setup_teardown(no_nodes, setup, teardown),
		cmocka_unit_test_setup_teardown(trunk, setup, teardown),
		cmocka_unit_test_setup_teardown(overrun, setup, teardown),
		cmocka_unit_test_setup_teardown(noise, setup, teardown),
		cmocka_unit_test_setup_teardown(bypass, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
