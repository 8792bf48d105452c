// SPDX-License-Identifier: MIT
/* loader/kernel: the pin directory, adoption, attachment and clean-up, on the real kernel. As root. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "tests/bpf/kern_env.h"

/* Files in a directory, but for the programs kept for bpfnet-cni. */
static int entries(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int n = 0;

	if (!d)
		return -1;
	while ((e = readdir(d)))
		n += e->d_name[0] != '.' && strncmp(e->d_name, "prog_", 5) && strncmp(e->d_name, "jump_", 5);
	closedir(d);
	return n;
}

static uint32_t veth(const char *name)
{
	assert_int_equal(sh("ip link add %s type veth peer name %s-p && ip link set %s up && "
			    "ip link set %s-p up", name, name, name, name), 0);
	return if_nametoindex(name);
}

static void del(const char *name)
{
	assert_int_equal(sh("ip link del %s", name), 0);
}

/* The filter under our handle, as programs() gives it. */
static int filter(uint32_t ifindex, uint32_t type, __u32 *id)
{
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = BN_TC_HANDLE, .priority = BN_TC_PRIO);
	LIBBPF_OPTS(bpf_tc_hook, h, .ifindex = ifindex,
		    .attach_point = type == BN_TCX_INGRESS ? BPF_TC_INGRESS : BPF_TC_EGRESS);

	if (bpf_tc_query(&h, &o) < 0)
		return 0;
	*id = o.prog_id;
	return 1;
}

/* Names of the programs at a hook, first first; only their number when names is NULL. Of clsact filters:
 * the one that is ours.
 */
static int programs(uint32_t ifindex, uint32_t type, char names[][16], uint32_t *id)
{
	__u32 ids[16], n = ARRAY_SIZE(ids), flags;

	if (!kenv_tcx())
		n = filter(ifindex, type, ids);
	else if (bpf_prog_query(ifindex, type, 0, &flags, ids, &n) < 0)
		return -errno;
	for (__u32 i = 0; names && i < n; i++)
		assert_int_equal(bn_prog_name(ids[i], names[i]), 0);
	if (id && n)
		*id = ids[0];
	return n;
}

static void cleanup(struct kenv *e)
{
	_cleanup_(freep) char *err = NULL;
	json_t *report = NULL;
	int r = bn_kernel_cleanup(e->run, NULL, &report, &err);

	if (r < 0)
		fprintf(stderr, "cleanup: %s\n", err);
	assert_int_equal(r, 0);
	json_decref(report);
	assert_int_equal(access(e->pins, F_OK), -1);
	assert_int_equal(access(e->run, F_OK), -1);
}

/* Since when Linux has tcx. */
static bool kernel_has_tcx(void)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	assert_int_equal(uname(&u), 0);
	assert_int_equal(sscanf(u.release, "%u.%u", &major, &minor), 2);
	return major > 6 || (major == 6 && minor >= 6);
}

static void opens_and_locks(void **state)
{
	struct kenv *e = *state;
	_cleanup_(bn_kernel_closep) struct bn_kernel *k = kenv_open(e);
	_cleanup_(freep) char *err = NULL;
	struct bn_kernel *second = NULL;
	json_t *f = bn_kernel_features(k), *report = NULL;

	assert_int_equal(bn_kernel_open(&e->opts, &second, &err), -EBUSY);
	assert_non_null(strstr(err, "another bpfnetd"));
	assert_null(second);
	/* From another network namespace too. */
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	assert_int_equal(bn_kernel_open(&e->opts, &second, NULL), -EBUSY);
	assert_int_equal(bn_kernel_cleanup(e->run, NULL, &report, &err), -EBUSY);
	assert_non_null(strstr(err, "stop it first"));
	assert_null(report);

	assert_true(json_is_string(json_object_get(f, "kernel")));
	assert_int_equal(json_is_true(json_object_get(f, "tcx")), kernel_has_tcx());
	assert_string_equal(json_string_value(json_object_get(f, "attach")),
			    kenv_tcx() ? "tcx" : "clsact");
	assert_true(json_is_true(json_object_get(f, "redirectPeer")));
	assert_true(json_is_boolean(json_object_get(f, "netkit"))); /* a module */
	json_decref(f);
	bn_kernel_closep(&k);
	cleanup(e);
}

/* A child that dies by SIGKILL while it holds everything. */
static pid_t holder(struct kenv *e, const char *ifname)
{
	int p[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (!pid) {
		struct bn_kernel *k = NULL;
		int r = prctl(PR_SET_PDEATHSIG, SIGKILL) ?: bn_kernel_open(&e->opts, &k, NULL);

		r = r ?: bn_kernel_attach_iface(k, if_nametoindex(ifname), BN_ROLE_POD, NULL);
		r = r ?: bn_kernel_attach_cgroup(k, NULL);
		c = r ? 'n' : 'y';
		if (write(p[1], &c, 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(p[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	close(p[0]);
	close(p[1]);
	return pid;
}

#define SOCK_HOOKS 9 /* programs of bpf/sock.bpf.c */

static void kill_leaves_all_in_force(void **state)
{
	struct kenv *e = *state;
	uint32_t i = veth("kern0"), id1 = 0, id2 = 0, id3 = 0;
	struct bn_kernel *k = NULL;
	char links[128];
	pid_t pid = holder(e, "kern0");
	int n, st;

	assert_int_equal(bn_kernel_open(&e->opts, &k, NULL), -EBUSY);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &st, 0), pid);
	snprintf(links, sizeof(links), "%s/links", e->pins);
	n = entries(links);
	assert_int_equal(n, (kenv_tcx() ? 2 : 0) + SOCK_HOOKS);
	assert_int_equal(programs(i, BN_TCX_INGRESS, NULL, &id1), 1);
	assert_int_equal(programs(i, BN_TCX_EGRESS, NULL, &id2), 1);

	/* The lock is gone with it; the next one puts its own programs in, into filters only when it
	 * has found out that the interface is still a pod's.
	 */
	k = kenv_open(e);
	assert_int_equal(programs(i, BN_TCX_INGRESS, NULL, &id3), 1);
	if (kenv_tcx())
		assert_int_not_equal(id1, id3);
	else
		assert_int_equal(id1, id3);
	assert_int_equal(entries(links), n);
	/* It attaches nothing: the sweep takes what is on the interface, not the socket hooks. */
	assert_int_equal(bn_kernel_sweep(k), kenv_tcx() ? 2 : 1);
	assert_int_equal(programs(i, BN_TCX_INGRESS, NULL, NULL), 0);
	assert_int_equal(entries(links), SOCK_HOOKS);
	bn_kernel_closep(&k);
	cleanup(e);
	del("kern0");
}

static void adoption_keeps_content(void **state)
{
	struct kenv *e = *state;
	struct bn_kernel *k = kenv_open(e);
	struct bn_front_key key = {.port = htons(80), .proto = BN_PROTO_TCP};
	struct bn_front_val v = {.idx = 7};
	struct bn_meta_val m1, m2;
	struct bn_backend *b;
	uint32_t ct = k->maps->entries[BN_MAP_ct];
	__u32 zero = 0;

	assert_int_equal(json_array_size(bn_kernel_notices(k)), 0);
	assert_int_equal(bn_map_put(k->maps, BN_MAP_fronts, &key, &v), 0);
	b = bn_map_at(k->maps, BN_MAP_slots, 4095);
	b->port = 4242;
	assert_int_equal(bn_map_get(k->maps, BN_MAP_meta, &zero, &m1), 0);
	bn_kernel_closep(&k);

	/* Other sizes: both grow, and it is said. */
	e->opts.max_backends = 8192;
	e->opts.ct_flows = 8192;
	k = kenv_open(e);
	assert_int_equal(json_array_size(bn_kernel_notices(k)), 2);
	assert_true(k->maps->entries[BN_MAP_ct] > ct);
	ct = k->maps->entries[BN_MAP_ct];
	assert_int_equal(k->maps->entries[BN_MAP_slots], 8192);
	v.idx = 0;
	assert_int_equal(bn_map_get(k->maps, BN_MAP_fronts, &key, &v), 0);
	assert_int_equal(v.idx, 7);
	b = bn_map_at(k->maps, BN_MAP_slots, 4095);
	assert_int_equal(b->port, 4242);
	assert_int_equal(bn_map_get(k->maps, BN_MAP_meta, &zero, &m2), 0);
	assert_memory_not_equal(m1.seed, m2.seed, sizeof(m1.seed)); /* another table's */
	assert_int_equal(m2.ct_buckets, ct);
	bn_kernel_closep(&k);

	/* The pins are the grown ones, and a smaller wish does not shrink them. */
	e->opts.max_backends = 4096;
	e->opts.ct_flows = 4096;
	k = kenv_open(e);
	assert_int_equal(k->maps->entries[BN_MAP_slots], 8192);
	assert_int_equal(k->maps->entries[BN_MAP_ct], ct);
	assert_int_equal(json_array_size(bn_kernel_notices(k)), 2);
	assert_int_equal(bn_map_get(k->maps, BN_MAP_meta, &zero, &m1), 0);
	assert_memory_equal(&m1, &m2, sizeof(m1));
	b = bn_map_at(k->maps, BN_MAP_slots, 4095);
	assert_int_equal(b->port, 4242);
	bn_kernel_closep(&k);
	cleanup(e);
}

static void lost_pins_come_back(void **state)
{
	struct kenv *e = *state;
	struct bn_kernel *k = kenv_open(e);
	uint32_t i = veth("kern1");
	struct bn_front_key key = {.port = htons(81), .proto = BN_PROTO_TCP};
	struct bn_front_val v = {.idx = 9};
	char path[128];

	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	assert_int_equal(bn_kernel_attach_cgroup(k, NULL), 0);
	assert_int_equal(bn_map_put(k->maps, BN_MAP_fronts, &key, &v), 0);
	bn_kernel_closep(&k);
	snprintf(path, sizeof(path), "%s/fronts", e->pins);
	assert_int_equal(unlink(path), 0);
	k = kenv_open(e);
	v.idx = 0;
	assert_int_equal(bn_map_get(k->maps, BN_MAP_fronts, &key, &v), 0);
	assert_int_equal(v.idx, 9);
	assert_int_equal(json_array_size(bn_kernel_notices(k)), 1);
	assert_int_equal(access(path, F_OK), 0);
	bn_kernel_closep(&k);
	cleanup(e);
	del("kern1");
}

/* A killed start leaves a part of the pins, and temporary names. */
static void half_made_directory(void **state)
{
	struct kenv *e = *state;
	struct bn_kernel *k = kenv_open(e);
	char path[128];

	bn_kernel_closep(&k);
	snprintf(path, sizeof(path), "%s/meta", e->pins);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/svcs", e->pins);
	assert_int_equal(sh("mv %s/svcs %s/tmp_svcs", e->pins, e->pins), 0);
	k = kenv_open(e);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(path, sizeof(path), "%s/tmp_svcs", e->pins);
	assert_int_equal(access(path, F_OK), -1);
	bn_kernel_closep(&k);
	cleanup(e);
}

static int foreign_prog(const char *name)
{
	struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, name, "GPL", insns, 2, NULL);

	assert_true(fd >= 0);
	return fd;
}

/* Somebody was there before: we go to the head. Somebody comes to the head: it is said. */
static void order(void **state)
{
	struct kenv *e = *state;
	struct bn_kernel *k = kenv_open(e);
	uint32_t i = veth("kern2");
	LIBBPF_OPTS(bpf_link_create_opts, head, .flags = BN_F_BEFORE);
	_cleanup_(closep) int theirs = foreign_prog("theirs"), first = foreign_prog("first");
	_cleanup_(closep) int l1 = -1, l2 = -1;
	char names[16][16];
	json_t *o;

	l1 = bpf_link_create(theirs, i, BN_TCX_INGRESS, NULL);
	assert_true(l1 >= 0);
	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	assert_int_equal(programs(i, BN_TCX_INGRESS, names, NULL), 2);
	assert_string_equal(names[0], "from_pod");
	assert_int_equal(bn_kernel_check_order(k, &o), 0);
	if (json_array_size(o))
		json_dumpf(o, stderr, JSON_INDENT(1));
	assert_int_equal(json_array_size(o), 0);
	json_decref(o);
	l2 = bpf_link_create(first, i, BN_TCX_INGRESS, &head);
	assert_true(l2 >= 0);
	assert_int_equal(bn_kernel_check_order(k, &o), 0);
	assert_int_equal(json_array_size(o), 1);
	assert_string_equal(json_string_value(json_array_get(
		json_object_get(json_array_get(o, 0), "before"), 0)), "first");
	json_decref(o);

	/* Attaching again keeps one of each. */
	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	assert_int_equal(programs(i, BN_TCX_INGRESS, NULL, NULL), 3);
	del("kern2");
	bn_kernel_closep(&k);
	cleanup(e);
}

/* The interface goes and its number comes back: what we have of the old one is worth nothing. */
static void interface_reuse(void **state)
{
	struct kenv *e = *state;
	struct bn_kernel *k = kenv_open(e);
	uint32_t i = veth("kern2"), j;
	char path[128];

	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	assert_int_equal(programs(i, BN_TCX_INGRESS, NULL, NULL), 1);
	del("kern2");
	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), -ENODEV);
	assert_int_equal(sh("ip link add kern3 index %u type veth peer name kern3-p", i), 0);
	j = if_nametoindex("kern3");
	assert_int_equal(i, j);
	assert_int_equal(programs(j, BN_TCX_INGRESS, NULL, NULL), 0);
	assert_int_equal(bn_kernel_attach_iface(k, j, BN_ROLE_POD, NULL), 0);
	assert_int_equal(programs(j, BN_TCX_INGRESS, NULL, NULL), 1);
	assert_int_equal(programs(j, BN_TCX_EGRESS, NULL, NULL), 1);
	snprintf(path, sizeof(path), "%s/links", e->pins);
	assert_int_equal(entries(path), kenv_tcx() ? 2 : 0);
	assert_int_equal(bn_kernel_detach_iface(k, j), 0);
	assert_int_equal(bn_kernel_detach_iface(k, j), -ENOENT);
	assert_int_equal(programs(j, BN_TCX_INGRESS, NULL, NULL), 0);
	assert_int_equal(entries(path), 0);
	del("kern3");
	bn_kernel_closep(&k);
	cleanup(e);
}

/* An interface turns out to be something else: one program in place of the other, none beside it. */
static void roles(void **state)
{
	struct kenv *e = *state;
	double begin = now();
	struct bn_kernel *k = kenv_open(e);
	uint32_t i = veth("kern9"), type[] = {BN_TCX_INGRESS, BN_TCX_EGRESS};
	const char *const pod[] = {"from_pod", "to_pod"}, *const net[] = {"from_net", "to_net"};
	char names[16][16], path[128];

	print_message("open: %.0f ms\n", (now() - begin) * 1e3);
	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_NONE, NULL), -EINVAL);
	for (int round = 0; round < 4; round++) {
		const char *const *want = round & 1 ? net : pod;
		enum bn_role role = round == 1 ? BN_ROLE_UPLINK : round == 3 ? BN_ROLE_TUNNEL : BN_ROLE_POD;

		assert_int_equal(bn_kernel_attach_iface(k, i, role, NULL), 0);
		for (int d = 0; d < 2; d++) {
			assert_int_equal(programs(i, type[d], names, NULL), 1);
			assert_string_equal(names[0], want[d]);
		}
	}
	snprintf(path, sizeof(path), "%s/links", e->pins);
	assert_int_equal(entries(path), kenv_tcx() ? 2 : 0);
	/* A restart keeps the role. */
	bn_kernel_closep(&k);
	k = kenv_open(e);
	assert_int_equal(programs(i, type[0], names, NULL), 1);
	assert_string_equal(names[0], "from_net");
	bn_kernel_closep(&k);
	cleanup(e);
	del("kern9");
}

/* Attached, the number reused while no daemon ran, and then a start. */
static void stale_link_at_start(void **state)
{
	struct kenv *e = *state;
	struct bn_kernel *k = kenv_open(e);
	uint32_t i = veth("kern4");
	char path[128];

	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	bn_kernel_closep(&k);
	del("kern4");
	assert_int_equal(sh("ip link add kern5 index %u type veth peer name kern5-p", i), 0);
	k = kenv_open(e);
	snprintf(path, sizeof(path), "%s/links", e->pins);
	assert_int_equal(entries(path), 0);
	assert_int_equal(programs(i, BN_TCX_INGRESS, NULL, NULL), 0);
	bn_kernel_closep(&k);
	del("kern5");
	cleanup(e);
}

static int filters(const char *dev, const char *dir)
{
	return sh("exit $(tc filter show dev %s %s | grep -c direct-action)", dev, dir);
}

static void clsact_fallback(void **state)
{
	struct kenv *e = *state;
	struct bn_kernel *k;
	uint32_t i = veth("kern6"), j = veth("kern7");
	json_t *report;

	setenv("BPFNET_TC", "clsact", 1);
	k = kenv_open(e);
	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	assert_int_equal(bn_kernel_attach_iface(k, j, BN_ROLE_POD, NULL), 0);
	assert_int_equal(filters("kern6", "ingress"), 1);
	assert_int_equal(filters("kern6", "egress"), 1);
	assert_int_equal(bn_kernel_detach_iface(k, j), 0);
	assert_int_equal(filters("kern7", "ingress"), 0);
	assert_int_equal(bn_kernel_attach_iface(k, j, BN_ROLE_POD, NULL), 0);
	bn_kernel_closep(&k);
	assert_int_equal(filters("kern7", "egress"), 1);

	/* The next one replaces, and sweeps what it did not ask for. */
	k = kenv_open(e);
	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	assert_int_equal(filters("kern6", "ingress"), 1);
	assert_int_equal(bn_kernel_sweep(k), 1);
	assert_int_equal(filters("kern7", "ingress"), 0);
	assert_int_equal(filters("kern6", "ingress"), 1);
	bn_kernel_closep(&k);
	unsetenv("BPFNET_TC");

	/* tcx from now on: no packet is seen twice once the sweep is through. */
	if (kenv_tcx()) {
		k = kenv_open(e);
		assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
		assert_int_equal(bn_kernel_sweep(k), 1);
		assert_int_equal(filters("kern6", "ingress"), 0);
		assert_int_equal(programs(i, BN_TCX_INGRESS, NULL, NULL), 1);
		bn_kernel_closep(&k);
	}

	/* Clean-up from another namespace finds the daemon's. */
	setenv("BPFNET_TC", "clsact", 1);
	k = kenv_open(e);
	assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	bn_kernel_closep(&k);
	unsetenv("BPFNET_TC");
	{
		_cleanup_(closep) int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
		pid_t pid = fork();

		if (!pid) { /* somebody is in the namespace, under no name */
			pause();
			_exit(0);
		}
		assert_int_equal(unshare(CLONE_NEWNET), 0);
		assert_int_equal(bn_kernel_cleanup(e->run, NULL, &report, NULL), 0);
		json_decref(report);
		assert_int_equal(setns(here, CLONE_NEWNET), 0);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	assert_int_equal(filters("kern6", "ingress"), 0);
	assert_int_equal(filters("kern6", "egress"), 0);
	del("kern6");
	del("kern7");
}

static void clsact_leaves_others_alone(void **state)
{
	struct kenv *e = *state;
	struct bn_kernel *k;
	uint32_t i = veth("kern8");
	_cleanup_(closep) int fd = foreign_prog("theirs");
	_cleanup_(freep) char *err = NULL;
	char pin[128];

	/* Another's filter, even under our own handle. */
	snprintf(pin, sizeof(pin), "%s/theirs", e->fs);
	assert_int_equal(bpf_obj_pin(fd, pin), 0);
	assert_int_equal(sh("tc qdisc add dev kern8 clsact && tc filter add dev kern8 egress prio 1 "
			    "handle 0x%x bpf direct-action object-pinned %s", BN_TC_HANDLE, pin), 0);
	k = kenv_open(e);
	if (kenv_tcx()) {
		assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, NULL), 0);
	} else {
		assert_int_equal(bn_kernel_attach_iface(k, i, BN_ROLE_POD, &err), -EADDRINUSE);
		assert_non_null(strstr(err, "kern8"));
	}
	assert_int_equal(bn_kernel_sweep(k), 0);
	bn_kernel_closep(&k);
	cleanup(e);
	assert_int_equal(filters("kern8", "egress"), 1);
	assert_int_equal(sh("tc filter show dev kern8 egress | grep -q theirs"), 0);
	unlink(pin);
	del("kern8");
}

#define TEST(f) cmocka_unit_test_setup(f, kenv_fresh)

/* By tcx where the kernel has it, and by clsact everywhere: there the same holds. */
int main(void)
{
	const struct CMUnitTest both[] = {
		TEST(opens_and_locks),
		TEST(kill_leaves_all_in_force),
		TEST(adoption_keeps_content),
		TEST(lost_pins_come_back),
		TEST(half_made_directory),
		TEST(interface_reuse),
		TEST(roles),
		TEST(stale_link_at_start),
		TEST(clsact_fallback),
		TEST(clsact_leaves_others_alone),
	};
	const struct CMUnitTest tcx[] = {TEST(order)};
	const struct CMUnitTest filters_too[] = {
		TEST(opens_and_locks),
		TEST(kill_leaves_all_in_force),
		TEST(interface_reuse),
		TEST(roles),
		TEST(stale_link_at_start),
		TEST(clsact_leaves_others_alone),
	};
	int r = cmocka_run_group_tests_name("kernel", both, kenv_setup, kenv_teardown);

	if (!kenv_tcx())
		return r;
	r += cmocka_run_group_tests_name("tcx", tcx, kenv_setup, kenv_teardown);
	setenv("BPFNET_TC", "clsact", 1);
	r += cmocka_run_group_tests_name("clsact", filters_too, kenv_setup, kenv_teardown);
	return r;
}
