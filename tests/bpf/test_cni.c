/* SPDX-License-Identifier: MIT */
/* bpfnet-cni, the real binary, on a node that is a namespace: with the daemon down (its pins are
 * there) and with its endpoint model running in this process. Needs root.
 */
#include <event2/event.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "loader/kernel/kernel.h"
#include "loader/model/endpoints.h"
#include "maps/ep_access.h"
#include "maps/maps.h"
#include "policy/store.h"

static char tag[32], bpffs[64], run[64], conf_prev[2048];
static struct bn_opts opts;
static int home = -1;

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

static int setup(void **state _unused_)
{
	char path[128];
	_cleanup_(closep) int fd = -1;

	snprintf(tag, sizeof(tag), "netcni%d", getpid());
	snprintf(bpffs, sizeof(bpffs), "/sys/fs/bpf/%s", tag);
	snprintf(run, sizeof(run), "/tmp/%s-run", tag);
	memset(&opts, 0, sizeof(opts));
	opts.bpffs = bpffs;
	opts.run_dir = run;
	opts.cni_cache = "/nonexistent";
	snprintf(opts.node_name, sizeof(opts.node_name), "node1");
	sh("ip netns add %s-n && ip -n %s-n link set lo up", tag, tag);
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/var/run/netns/%s-n", tag);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(setns(fd, CLONE_NEWNET), 0);
	return 0;
}

static int teardown(void **state _unused_)
{
	assert_int_equal(setns(home, CLONE_NEWNET), 0);
	closep(&home);
	sh("for n in $(ip netns list | awk '{print $1}' | grep '^%s-'); do ip netns del $n; done",
	   tag);
	sh("rm -rf %s %s", bpffs, run);
	return 0;
}

static struct bn_kernel *daemon_up(void)
{
	struct bn_kernel *k = NULL;
	char *err = NULL;

	if (bn_kernel_open(&opts, &k, &err) < 0)
		fail_msg("%s", err);
	return k;
}

static void pod_ns(const char *name)
{
	sh("ip netns add %s-%s && ip -n %s-n link add v%s type veth peer name eth0 netns %s-%s && "
	   "ip -n %s-n link set v%s up && ip -n %s-%s link set eth0 up",
	   tag, name, tag, name, tag, name, tag, name, tag, name);
}

static const char *conf(const char *extra)
{
	snprintf(conf_prev, sizeof(conf_prev),
		 "{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"type\":\"bpfnet-cni\",\"runDir\":\"%"
		 "s\"%s,"
		 "\"prevResult\":{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"x\"}],"
		 "\"ips\":[{\"address\":\"10.1.0.5/24\"},{\"address\":\"fd00:1::5/"
		 "64\"}],\"dns\":{}}}",
		 run, extra);
	return conf_prev;
}

/* Runs the plugin as a runtime does; turns the loop meanwhile. Its output; *rc its status. */
static json_t *plugin(const char *command, const char *pod, const char *ifname, const char *in,
		      struct event_base *base, struct bn_endpoints *ep, int *rc)
{
	char cmd[1024], out[4096] = "";
	FILE *f;
	size_t n = 0;
	ssize_t got;
	int fd;

	snprintf(cmd, sizeof(cmd), "/tmp/%s.conf", tag);
	f = fopen(cmd, "we");
	assert_non_null(f);
	fputs(in, f);
	fclose(f);
	snprintf(cmd, sizeof(cmd),
		 "CNI_COMMAND=%s CNI_CONTAINERID=c%s CNI_NETNS=/var/run/netns/%s-%s CNI_IFNAME=%s "
		 "CNI_PATH=/x CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE=d;K8S_POD_NAME=%s' "
		 "exec build/%sbpfnet-cni < /tmp/%s.conf",
		 command, pod, tag, pod, ifname, pod,
#ifdef __SANITIZE_ADDRESS__
		 "san/",
#else
		 "",
#endif
		 tag);
	f = popen(cmd, "re");
	assert_non_null(f);
	fd = fileno(f);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (;;) {
		got = read(fd, out + n, sizeof(out) - 1 - n);
		if (got == 0)
			break;
		n += got > 0 ? got : 0;
		if (base) {
			event_base_loop(base, EVLOOP_NONBLOCK);
			assert_int_equal(bn_endpoints_sync(ep), 0);
		}
		usleep(1000);
	}
	*rc = WEXITSTATUS(pclose(f));
	snprintf(cmd, sizeof(cmd), "/tmp/%s.conf", tag);
	unlink(cmd);
	return n ? json_loads(out, 0, NULL) : json_null();
}

static int code_of(json_t *j)
{
	return json_integer_value(json_object_get(j, "code"));
}

static struct bn_iface iface_of(const char *pod)
{
	_cleanup_(bn_maps_freep) struct bn_maps *m = NULL;
	struct bn_iface v = {};
	char path[256], buf[16] = "";
	uint32_t ifindex;
	FILE *f;

	snprintf(path, sizeof(path), "ip -n %s-n -o link show v%s | cut -d: -f1", tag, pod);
	f = popen(path, "re");
	assert_non_null(fgets(buf, sizeof(buf), f));
	pclose(f);
	ifindex = atoi(buf);
	assert_int_equal(bn_maps_open(bpffs, false, &m), 0);
	bn_map_get(m, BN_MAP_ifaces, &ifindex, &v);
	return v;
}

/* Is traffic through the interface stopped? A ping between the two ends. */
static bool passes(const char *pod)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd),
		 "nsenter --net=/var/run/netns/%s-%s ping -c1 -W1 10.9.9.1 >/dev/null 2>&1", tag,
		 pod);
	return system(cmd) == 0;
}

static void daemon_down(void **state _unused_)
{
	struct bn_kernel *k;
	struct bn_iface v;
	json_t *j;
	int rc;

	pod_ns("a");
	sh("ip -n %s-n addr add 10.9.9.1/24 dev va && ip -n %s-a addr add 10.9.9.2/24 dev eth0",
	   tag, tag);
	/* it has never run: nothing can isolate */
	j = plugin("ADD", "a", "eth0", conf(""), NULL, NULL, &rc);
	assert_int_equal(rc, 1);
	assert_int_equal(code_of(j), 11);
	json_decref(j);
	j = plugin("STATUS", "a", "eth0", conf(""), NULL, NULL, &rc);
	assert_int_equal(code_of(j), 50);
	json_decref(j);
	k = daemon_up();
	bn_kernel_close(k);
	assert_true(passes("a"));
	j = plugin("STATUS", "a", "eth0", conf(""), NULL, NULL, &rc);
	assert_int_equal(rc, 0);
	json_decref(j);
	j = plugin("CHECK", "a", "eth0", conf(""), NULL, NULL, &rc);
	assert_int_equal(rc, 1);
	json_decref(j);
	j = plugin("ADD", "a", "eth0", conf(""), NULL, NULL, &rc);
	assert_int_equal(rc, 0);
	assert_string_equal(json_string_value(json_object_get(
				    json_array_get(json_object_get(j, "ips"), 0), "address")),
			    "10.1.0.5/24");
	json_decref(j);
	v = iface_of("a");
	assert_int_equal(v.role, BN_ROLE_POD);
	assert_int_equal(v.slot, 0);
	assert_false(passes("a"));
	j = plugin("CHECK", "a", "eth0", conf(""), NULL, NULL, &rc);
	assert_int_equal(rc, 0);
	json_decref(j);
	j = plugin("ADD", "a", "eth0", conf(""), NULL, NULL, &rc); /* again: the same */
	assert_int_equal(rc, 0);
	json_decref(j);
	sh("test -f %s/cni/ca-eth0", run);
	j = plugin("DEL", "a", "eth0", conf(""), NULL, NULL, &rc);
	assert_int_equal(rc, 0);
	json_decref(j);
	sh("test ! -e %s/cni/ca-eth0", run);
}

static void put_pod(struct bn_store *store, const char *name)
{
	_cleanup_(bn_obj_unrefp) struct bn_obj *o = NULL;
	struct bn_err err;
	json_t *j = json_pack("{s:s,s:s,s:{s:s,s:s},s:{s:s},s:{}}", "apiVersion", "v1", "kind",
			      "Pod", "metadata", "namespace", "d", "name", name, "spec", "nodeName",
			      "node1", "status");

	assert_int_equal(bn_object_parse(j, &o, &err), 0);
	assert_int_equal(bn_store_put(store, o), 0);
	json_decref(j);
}

static void daemon_running(void **state _unused_)
{
	struct bn_kernel *k = daemon_up();
	struct event_base *base = event_base_new();
	struct bn_endpoints *ep = NULL;
	struct bn_store *store = NULL;
	struct bn_eps *eps = NULL;
	struct bn_endpoints_env env = {.base = base, .maps = k->maps, .kernel = k, .opts = &opts};
	struct bn_addr a;
	struct bn_iface v;
	struct bn_ep e;
	json_t *j;
	int rc;

	assert_int_equal(bn_store_new(&store), 0);
	assert_int_equal(bn_eps_new(k->maps, &eps), 0);
	env.store = store;
	env.eps = eps;
	assert_int_equal(bn_endpoints_new(&env, &ep), 0);
	bn_endpoints_set_ready(ep, true);
	put_pod(store, "a"); /* known, without an address, as when its sandbox is made */
	assert_int_equal(bn_endpoints_sync(ep), 0);
	pod_ns("a");
	j = plugin("ADD", "a", "eth0", conf(""), base, ep, &rc);
	assert_int_equal(rc, 0);
	json_decref(j);
	v = iface_of("a");
	assert_true(v.slot > 0); /* found before ADD returned */
	assert_int_equal(bn_addr_parse("10.1.0.5", &a), 0);
	assert_int_equal(bn_eps_get(eps, &a, &e), 0);
	assert_int_equal(BN_EP_SLOT(e.word), v.slot);
	assert_int_equal(bn_addr_parse("fd00:1::5", &a), 0);
	assert_int_equal(bn_eps_get(eps, &a, &e), 0);
	/* one that the daemon does not know: closed, and ADD succeeds */
	pod_ns("b");
	j = plugin("ADD", "b", "eth0", conf(""), base, ep, &rc);
	assert_int_equal(rc, 0);
	json_decref(j);
	assert_int_equal(iface_of("b").slot, 0);
	assert_false(iface_of("b").flags & BN_IF_F_OPEN);
	/* GC keeps what is listed */
	j = plugin("GC", "b", "eth0",
		   conf(",\"cni.dev/"
			"valid-attachments\":[{\"containerID\":\"cb\",\"ifname\":\"eth0\"}]"),
		   base, ep, &rc);
	assert_int_equal(rc, 0);
	json_decref(j);
	sh("test ! -e %s/cni/ca-eth0 && test -e %s/cni/cb-eth0", run, run);
	bn_endpoints_freep(&ep);
	bn_eps_freep(&eps);
	bn_store_freep(&store);
	event_base_free(base);
	bn_kernel_close(k);
}

static void refusals(void **state _unused_)
{
	struct bn_kernel *k = daemon_up();
	json_t *j;
	int rc;

	bn_kernel_close(k);
	pod_ns("a");
	sh("ip -n %s-n link add m0 link va type macvlan && ip -n %s-n link set m0 netns %s-a name "
	   "eth1",
	   tag, tag, tag);
	j = plugin("ADD", "a", "eth1", conf(""), NULL, NULL, &rc);
	assert_int_equal(rc, 1);
	assert_int_equal(code_of(j), 100);
	json_decref(j);
	j = plugin("ADD", "a", "eth1", conf(",\"allowUnenforced\":true"), NULL, NULL, &rc);
	assert_int_equal(rc, 0);
	json_decref(j);
	j = plugin("ADD", "a", "eth9", conf(""), NULL, NULL, &rc);
	assert_int_equal(rc, 1);
	json_decref(j);
	j = plugin("ADD", "a", "../eth0", conf(""), NULL, NULL, &rc);
	assert_int_equal(rc, 1);
	json_decref(j);
	j = plugin("ADD", "a", "eth0", "{\"cniVersion\":\"0.1.0\"}", NULL, NULL, &rc);
	assert_int_equal(code_of(j), 1);
	json_decref(j);
	j = plugin("ADD", "a", "eth0", "{\"cniVersion\":\"1.0.0\"}", NULL, NULL, &rc);
	assert_int_equal(code_of(j), 7);
	json_decref(j);
	j = plugin("ADD", "a", "eth0", "nonsense", NULL, NULL, &rc);
	assert_int_equal(code_of(j), 6);
	json_decref(j);
	j = plugin("EAT", "a", "eth0", conf(""), NULL, NULL, &rc);
	assert_int_equal(code_of(j), 4);
	json_decref(j);
	j = plugin("VERSION", "a", "eth0", "", NULL, NULL, &rc);
	assert_int_equal(rc, 0);
	assert_true(json_array_size(json_object_get(j, "supportedVersions")) >= 3);
	json_decref(j);
	j = plugin("DEL", "gone", "eth0", conf(""), NULL, NULL, &rc);
	assert_int_equal(rc, 0);
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(daemon_down, setup, teardown),
		cmocka_unit_test_setup_teardown(daemon_running, setup, teardown),
		cmocka_unit_test_setup_teardown(refusals, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
