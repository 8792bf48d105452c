/* SPDX-License-Identifier: MIT */
#ifndef BN_TESTS_EP_WORLD_H
#define BN_TESTS_EP_WORLD_H

/* A node that is a namespace, for tests of the endpoint model: it runs in this process, inside that
 * namespace, over private maps, without programs. Needs root.
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

static _unused_ void sh(const char *fmt, ...) _printf_(1, 2);
static _unused_ void sh(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd))
		fail_msg("failed: %s", cmd);
}

static _unused_ void start(void)
{
	struct bn_endpoints_env env = {
		.base = w.base, .store = w.store, .maps = w.maps, .eps = w.eps, .opts = &w.opts};

	assert_int_equal(bn_endpoints_new(&env, &w.ep), 0);
}

static _unused_ void turn(void)
{
	event_base_loop(w.base, EVLOOP_NONBLOCK);
	assert_int_equal(bn_endpoints_sync(w.ep), 0);
}

static _unused_ void open_world(void)
{
	assert_int_equal(bn_store_new(&w.store), 0);
	w.base = event_base_new();
	assert_non_null(w.base);
	assert_int_equal(bn_eps_new(w.maps, &w.eps), 0);
	start();
}

static _unused_ void close_world(void)
{
	bn_endpoints_freep(&w.ep);
	bn_eps_freep(&w.eps);
	bn_store_freep(&w.store);
	event_base_free(w.base);
}

static _unused_ void enter(const char *ns)
{
	char path[128];
	_cleanup_(closep) int fd = -1;

	snprintf(path, sizeof(path), "/var/run/netns/%s", ns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(setns(fd, CLONE_NEWNET), 0);
}

static _unused_ int setup(void **state _unused_)
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

static _unused_ int teardown(void **state _unused_)
{
	close_world();
	bn_maps_freep(&w.maps);
	assert_int_equal(setns(w.home, CLONE_NEWNET), 0);
	closep(&w.home);
	sh("for n in $(ip netns list | awk '{print $1}' | grep '^%s-'); do ip netns del $n; done",
	   w.tag);
	sh("rm -rf %s", w.cache);
	return 0;
}

/* --- objects --------------------------------------------------------------------------------- */

static _unused_ void put(const char *fmt, ...) _printf_(1, 2);
static _unused_ void put(const char *fmt, ...)
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
static _unused_ void pod(const char *name, const char *ip4, const char *ip6)
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

static _unused_ void node(const char *name, const char *ip, const char *cidr)
{
	put("{'apiVersion':'v1','kind':'Node','metadata':{'name':'%s'},'spec':{'podCIDRs':['%s']},"
	    "'status':{'addresses':[{'type':'InternalIP','address':'%s'}]}}",
	    name, cidr, ip);
}

/* --- looking --------------------------------------------------------------------------------- */

static _unused_ struct ep_pod *pod_of(const char *name)
{
	size_t i;

	for (i = 0; i < w.ep->nlpods; i++)
		if (!strcmp(w.ep->lpods[i]->obj->o.name, name))
			return w.ep->lpods[i];
	return NULL;
}

static _unused_ struct ep_if *iface(const char *name)
{
	size_t i;

	for (i = 0; i < w.ep->nifs; i++)
		if (!strcmp(w.ep->ifs[i]->l->name, name))
			return w.ep->ifs[i];
	return NULL;
}

static _unused_ bool mapped(const char *name, const char *ifname)
{
	struct ep_pod *p = pod_of(name);
	struct ep_if *f = iface(ifname);
	struct bn_iface v;

	return p && f && p->slot && f->pod == p && !bn_pods_iface(w.ep->pods, f->ifindex, &v) &&
	       v.slot == p->slot && v.role == BN_ROLE_POD;
}

static _unused_ struct bn_addr addr(const char *text)
{
	struct bn_addr a;

	assert_int_equal(bn_addr_parse(text, &a), 0);
	return a;
}

static _unused_ uint32_t slot_at(const char *text)
{
	struct bn_addr a = addr(text);
	struct bn_ep ep;

	return bn_eps_get(w.eps, &a, &ep) ? 0 : BN_EP_SLOT(ep.word);
}

static _unused_ uint16_t flags_at(const char *text)
{
	struct bn_addr a = addr(text);
	struct bn_ep ep;

	return bn_eps_get(w.eps, &a, &ep) ? 0 : ep.flags;
}

static _unused_ double now_s(void)
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
static _unused_ void veth(const char *name)
{
	sh("ip netns add %s-%s && ip -n %s-n link add v%s type veth peer name eth0 netns %s-%s && "
	   "ip -n %s-n link set v%s up && ip -n %s-%s link set eth0 up",
	   w.tag, name, w.tag, name, w.tag, name, w.tag, name, w.tag, name);
}

static _unused_ void inside(const char *name, const char *a)
{
	sh("ip -n %s-%s addr add %s dev eth0 nodad 2>/dev/null || ip -n %s-%s addr add %s dev eth0",
	   w.tag, name, a, w.tag, name, a);
}

static _unused_ void ready(void)
{
	bn_endpoints_set_ready(w.ep, true);
}

static _unused_ uint64_t writes(void)
{
	return bn_eps_writes(w.eps) + bn_pods_writes(w.ep->pods);
}

#endif
