/* SPDX-License-Identifier: MIT */
/* Interfaces to pods, with real veths and namespaces: the model runs in this process, inside a
 * node's namespace, over private maps, without programs. Needs root.
 */
#include <event2/event.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "loader/log.h"
#include "loader/model/endpoints.h"
#include "loader/model/endpoints_priv.h"
#include "maps/ep_access.h"
#include "maps/maps.h"
#include "policy/store.h"

#define PFX "netep"

static struct world {
	struct event_base *base;
	struct bn_store *store;
	struct bn_maps *maps;
	struct bn_eps *eps;
	struct bn_endpoints *ep;
	struct bn_opts opts;
	char tag[32], cache[128];
	int home;
} w;

static void sh(const char *fmt, ...) _printf_(1, 2);
static void sh(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd))
		fail_msg("failed: %s", cmd);
}

static void start(void)
{
	struct bn_endpoints_env env = { .base = w.base, .store = w.store, .maps = w.maps,
					.eps = w.eps, .opts = &w.opts };

	assert_int_equal(bn_endpoints_new(&env, &w.ep), 0);
}

static void turn(void)
{
	event_base_loop(w.base, EVLOOP_NONBLOCK);
	assert_int_equal(bn_endpoints_sync(w.ep), 0);
}

static void open_world(void)
{
	assert_int_equal(bn_store_new(&w.store), 0);
	w.base = event_base_new();
	assert_non_null(w.base);
	assert_int_equal(bn_eps_new(w.maps, &w.eps), 0);
	start();
}

static void close_world(void)
{
	bn_endpoints_freep(&w.ep);
	bn_eps_freep(&w.eps);
	bn_store_freep(&w.store);
	event_base_free(w.base);
}

static void enter(const char *ns)
{
	char path[128];
	_cleanup_(closep) int fd = -1;

	snprintf(path, sizeof(path), "/var/run/netns/%s", ns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(setns(fd, CLONE_NEWNET), 0);
}


static int setup(void **state _unused_)
{
	char node[64];

	memset(&w.opts, 0, sizeof(w.opts));
	snprintf(w.tag, sizeof(w.tag), PFX "%d", getpid());
	snprintf(w.cache, sizeof(w.cache), "/tmp/%s-cni", w.tag);
	snprintf(w.opts.node_name, sizeof(w.opts.node_name), "node1");
	snprintf(node, sizeof(node), "%s-n", w.tag);
	w.opts.cni_cache = w.cache;
	sh("rm -rf %s; mkdir -p %s", w.cache, w.cache);
	sh("ip netns add %s && ip -n %s link set lo up", node, node);
	w.home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	enter(node);
	assert_int_equal(bn_maps_create(NULL, &w.maps), 0);
	open_world();
	return 0;
}

static int teardown(void **state _unused_)
{
	close_world();
	bn_maps_freep(&w.maps);
	assert_int_equal(setns(w.home, CLONE_NEWNET), 0);
	closep(&w.home);
	sh("for n in $(ip netns list | awk '{print $1}' | grep '^%s-'); do ip netns del $n; done", w.tag);
	sh("rm -rf %s", w.cache);
	return 0;
}

/* --- objects --------------------------------------------------------------------------------- */

static void put(const char *fmt, ...) _printf_(1, 2);
static void put(const char *fmt, ...)
{
	_cleanup_(bn_obj_unrefp) struct bn_obj *o = NULL;
	_cleanup_(json_decrefp) json_t *j = NULL;
	struct bn_err err = {};
	char text[4096];
	va_list ap;
	char *c;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (c = text; *c; c++)
		if (*c == '\'')
			*c = '"';
	j = json_loads(text, 0, NULL);
	assert_non_null(j);
	assert_int_equal(bn_object_parse(j, &o, &err), 0);
	assert_int_equal(bn_store_put(w.store, o), 0);
}

/* ips: "'10.0.0.1'" or "{'ip':..},{'ip':..}" */
static void pod(const char *name, const char *ip4, const char *ip6)
{
	char ips[256] = "";

	if (ip4)
		snprintf(ips, sizeof(ips), "{'ip':'%s'}", ip4);
	if (ip6)
		snprintf(ips + strlen(ips), sizeof(ips) - strlen(ips), "%s{'ip':'%s'}",
			 ip4 ? "," : "", ip6);
	put("{'apiVersion':'v1','kind':'Pod','metadata':{'namespace':'d','name':'%s'},"
	    "'spec':{'nodeName':'node1'},'status':{'phase':'Running','podIPs':[%s]}}",
	    name, ips);
}

static void node(const char *name, const char *ip, const char *cidr)
{
	put("{'apiVersion':'v1','kind':'Node','metadata':{'name':'%s'},'spec':{'podCIDRs':['%s']},"
	    "'status':{'addresses':[{'type':'InternalIP','address':'%s'}]}}",
	    name, cidr, ip);
}

/* --- looking --------------------------------------------------------------------------------- */

static struct ep_pod *pod_of(const char *name)
{
	size_t i;

	for (i = 0; i < w.ep->nlpods; i++)
		if (!strcmp(w.ep->lpods[i]->obj->o.name, name))
			return w.ep->lpods[i];
	return NULL;
}

static struct ep_if *iface(const char *name)
{
	size_t i;

	for (i = 0; i < w.ep->nifs; i++)
		if (!strcmp(w.ep->ifs[i]->l->name, name))
			return w.ep->ifs[i];
	return NULL;
}

static bool mapped(const char *name, const char *ifname)
{
	struct ep_pod *p = pod_of(name);
	struct ep_if *f = iface(ifname);
	struct bn_iface v;

	return p && f && p->slot && f->pod == p && !bn_pods_iface(w.ep->pods, f->ifindex, &v) &&
	       v.slot == p->slot && v.role == BN_ROLE_POD;
}

static struct bn_addr addr(const char *text)
{
	struct bn_addr a;

	assert_int_equal(bn_addr_parse(text, &a), 0);
	return a;
}

static uint32_t slot_at(const char *text)
{
	struct bn_addr a = addr(text);
	struct bn_ep ep;

	return bn_eps_get(w.eps, &a, &ep) ? 0 : BN_EP_SLOT(ep.word);
}

static uint16_t flags_at(const char *text)
{
	struct bn_addr a = addr(text);
	struct bn_ep ep;

	return bn_eps_get(w.eps, &a, &ep) ? 0 : ep.flags;
}

static double now_s(void)
{
	return ep_now() / 1e9;
}

/* Turns the loop until it holds. */
#define eventually(cond)                                                                           \
	do {                                                                                       \
		double _end = now_s() + 10;                                                        \
		turn();                                                                            \
		while (!(cond)) {                                                                  \
			if (now_s() > _end)                                                        \
				fail_msg("never: %s", #cond);                                      \
			usleep(2000);                                                              \
			turn();                                                                    \
		}                                                                                  \
	} while (0)

/* Turns for a while: it must hold all the time. */
#define stays(cond)                                                                                \
	do {                                                                                       \
		double _end = now_s() + 0.3;                                                       \
		while (now_s() < _end) {                                                           \
			turn();                                                                    \
			assert_true(cond);                                                         \
			usleep(5000);                                                              \
		}                                                                                  \
	} while (0)

/* --- plumbing -------------------------------------------------------------------------------- */

/* A namespace with a veth to the node, as Calico makes them: v<name> on the node's side. */
static void veth(const char *name)
{
	sh("ip netns add %s-%s && ip -n %s-n link add v%s type veth peer name eth0 netns %s-%s && "
	   "ip -n %s-n link set v%s up && ip -n %s-%s link set eth0 up",
	   w.tag, name, w.tag, name, w.tag, name, w.tag, name, w.tag, name);
}

static void inside(const char *name, const char *a)
{
	sh("ip -n %s-%s addr add %s dev eth0 nodad 2>/dev/null || ip -n %s-%s addr add %s dev eth0", w.tag,
	   name, a, w.tag, name, a);
}

static void ready(void)
{
	bn_endpoints_set_ready(w.ep, true);
}

/* --- cases ----------------------------------------------------------------------------------- */

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
	eventually(!bn_pods_iface(w.ep->pods, iface("va")->ifindex, &v) && v.flags & BN_IF_F_BRIDGE);
	assert_int_equal(iface("cni0")->role, BN_ROLE_NONE);
	assert_true(flags_at("10.244.1.1") & BN_ADDR_F_HOST);
	assert_true(flags_at("10.244.1.1") & BN_ADDR_F_NODEPORT);
}

/* Containers of others on a bridge of their own stay open; an unknown pod beside them is closed. */
static void unmanaged(void **state _unused_)
{
	struct bn_iface v;

	node("node1", "192.0.2.1", "10.244.1.0/24");
	ready();
	sh("ip -n %s-n link add docker0 type bridge && ip -n %s-n addr add 172.17.0.1/16 dev docker0 && "
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
	   "ip -n %s-n link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.1 nolearning && "
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
	sh("ip -n %s-n link add up0 type veth peer name p0 netns %s-f && ip -n %s-n link set up0 up && "
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

static uint64_t writes(void)
{
	return bn_eps_writes(w.eps) + bn_pods_writes(w.ep->pods);
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
	sh("ip -n %s-n route add 10.1.0.5/32 dev va && ip -n %s-n -6 route add fd00:1::5/128 dev va", w.tag,
	   w.tag);
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
	   "{\"kind\":\"cniCacheV1\",\"containerId\":\"c1\",\"config\":\"e30=\",\"ifName\":\"eth0\","
	   "\"networkName\":\"n\",\"cniArgs\":[[\"IgnoreUnknown\",\"1\"],[\"K8S_POD_NAMESPACE\",\"d\"],"
	   "[\"K8S_POD_NAME\",\"a\"]],\"result\":{\"cniVersion\":\"1.0.0\",\"interfaces\":["
	   "{\"name\":\"va\",\"mac\":\"02:00:00:00:00:01\"},{\"name\":\"eth0\",\"sandbox\":\"/x\"}],"
	   "\"ips\":[{\"address\":\"10.1.0.5/24\",\"interface\":1},{\"address\":\"fd00:1::5/64\"}]}}\n"
	   "E\nmv %s/.x %s/n-c1-eth0",
	   w.cache, w.cache, w.cache);
	eventually(mapped("a", "va"));
	assert_int_equal(iface("va")->by, EP_BY_CNI);
	assert_int_equal(slot_at("10.1.0.5"), pod_of("a")->slot);
	assert_int_equal(slot_at("fd00:1::5"), pod_of("a")->slot);
	/* a stale file cannot take an address that a Pod object has */
	sh("sed 's/\"va\"/\"vz\"/; s/10.1.0.5/10.1.0.6/' %s/n-c1-eth0 > %s/n-c2-eth0", w.cache, w.cache);
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
	sh("ip -n %s-n link set eth0 netns %s-a && ip -n %s-a link set eth0 up", w.tag, w.tag, w.tag);
	eventually(iface("va") && iface("va")->role == BN_ROLE_POD);
	inside("a", "10.1.0.5/32");
	eventually(mapped("a", "va"));
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
	sh("for i in $(seq 0 19999); do echo addr add 10.77.$((i/250)).$((i%%250))/32 dev lo; done | "
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
	sh("i=0; while [ $i -lt 4000 ]; do echo addr add 10.8.0.1/32 dev eth0; "
	   "echo addr del 10.8.0.1/32 dev eth0; i=$((i+1)); done > %s",
	   script);
	snprintf(cmd, sizeof(cmd), "for n in a x; do (while test -e %s; do ip -n %s-$n -batch %s; done) "
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
	sh("tc -n %s-n qdisc add dev va root tbf rate 1mbit burst 10k latency 50ms", w.tag);
	now(!has_flag("va", BN_IF_F_BYPASS) && has_flag("vb", BN_IF_F_BYPASS));
	sh("tc -n %s-n qdisc del dev va root", w.tag);
	sh("tc -n %s-n qdisc add dev vb clsact && tc -n %s-n filter add dev vb egress bpf bytecode '1,6 0 0 0,'",
	   w.tag, w.tag);
	now(has_flag("va", BN_IF_F_BYPASS) && !has_flag("vb", BN_IF_F_BYPASS));
	sh("tc -n %s-n qdisc del dev vb clsact", w.tag);
	sh("nft add table ip x; nft 'add chain ip x f { type filter hook input priority 0; }'; "
	   "nft add rule ip x f counter");
	now(has_flag("vb", BN_IF_F_BYPASS)); /* input is not on the way */
	sh("nft 'add chain ip x g { type filter hook forward priority 0; }'; nft add rule ip x g counter");
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
	sh("for i in $(seq 0 199); do echo \"link add vm$i type veth peer name eth0 netns %s-m$i\"; "
	   "echo \"link set vm$i up\"; done | ip -n %s-n -batch -",
	   w.tag, w.tag);
	sh("for i in $(seq 0 199); do ip -n %s-m$i addr add 10.1.1.$((i+1))/32 dev eth0; done", w.tag);
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
		cmocka_unit_test_setup_teardown(unmanaged, setup, teardown),
		cmocka_unit_test_setup_teardown(uplinks, setup, teardown),
		cmocka_unit_test_setup_teardown(tunnels, setup, teardown),
		cmocka_unit_test_setup_teardown(devices_override, setup, teardown),
		cmocka_unit_test_setup_teardown(restart, setup, teardown),
		cmocka_unit_test_setup_teardown(interface_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(address_reused, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile, setup, teardown),
		cmocka_unit_test_setup_teardown(by_host_route, setup, teardown),
		cmocka_unit_test_setup_teardown(by_cache, setup, teardown),
		cmocka_unit_test_setup_teardown(moved_later, setup, teardown),
		cmocka_unit_test_setup_teardown(no_nodes, setup, teardown),
		cmocka_unit_test_setup_teardown(trunk, setup, teardown),
		cmocka_unit_test_setup_teardown(overrun, setup, teardown),
		cmocka_unit_test_setup_teardown(noise, setup, teardown),
		cmocka_unit_test_setup_teardown(bypass, setup, teardown),
		cmocka_unit_test_setup_teardown(many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
