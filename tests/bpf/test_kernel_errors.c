// SPDX-License-Identifier: MIT
/* What can be wrong with a node, one by one: each gives one sentence that says what to do. As root. */
#include <sys/capability.h>
#include <sys/prctl.h>

#include "tests/bpf/kern_env.h"

/* bn_kernel_open has to fail with r, and say every one of the words. */
static void fails(const struct bn_opts *o, int want, const char *w1, const char *w2)
{
	_cleanup_(freep) char *err = NULL;
	struct bn_kernel *k = NULL;
	int r = bn_kernel_open(o, &k, &err);

	if (r != want || !err || !strstr(err, w1) || !strstr(err, w2))
		fprintf(stderr, "%d: %s\n", r, err ? err : "(no text)");
	else
		print_message("%s\n", err);
	assert_int_equal(r, want);
	assert_null(k);
	assert_non_null(err);
	assert_non_null(strstr(err, w1));
	assert_non_null(strstr(err, w2));
	assert_null(strchr(err, '\n'));
}

static void works(const struct bn_opts *o)
{
	_cleanup_(freep) char *err = NULL;
	struct bn_kernel *k = NULL;
	json_t *report;

	if (bn_kernel_open(o, &k, &err) < 0)
		fprintf(stderr, "%s\n", err);
	assert_non_null(k);
	bn_kernel_closep(&k);
	assert_int_equal(bn_kernel_cleanup(o->run_dir, NULL, &report, NULL), 0);
	json_decref(report);
}

static void kernel_release(void **state _unused_)
{
	_cleanup_(freep) char *err = NULL;

	assert_int_equal(bn_probe_release("5.10.0-28-amd64", &err), -ENOSYS);
	assert_non_null(strstr(err, "5.10.0-28-amd64"));
	assert_non_null(strstr(err, "6.1"));
	assert_int_equal(bn_probe_release("6.0.19", NULL), -ENOSYS);
	assert_int_equal(bn_probe_release("6.1.0-17-amd64", NULL), 0);
	assert_int_equal(bn_probe_release("7.2", NULL), 0);
	assert_int_equal(bn_probe_release("10.0.1", NULL), 0);
	assert_int_equal(bn_probe_release("custom", NULL), 0);
}

/* In a child without the capabilities: 0 when the answer names exactly this one. */
static int without(const struct bn_opts *o, const cap_value_t *drop, int n, const char *word)
{
	pid_t pid = fork();
	int st;

	if (!pid) {
		_cleanup_(freep) char *err = NULL;
		struct bn_kernel *k = NULL;
		cap_t caps = cap_get_proc();
		int r;

		cap_set_flag(caps, CAP_EFFECTIVE, n, drop, CAP_CLEAR);
		if (cap_set_proc(caps) < 0)
			_exit(3);
		r = bn_kernel_open(o, &k, &err);
		_exit(r != -EPERM ? 1 : !err || !strstr(err, word) ? 2 : 0);
	}
	waitpid(pid, &st, 0);
	return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

static void capabilities(void **state)
{
	struct kenv *e = *state;
	cap_value_t net[] = {CAP_NET_ADMIN}, bpf[] = {CAP_BPF, CAP_SYS_ADMIN};
	cap_value_t perf[] = {CAP_PERFMON, CAP_SYS_ADMIN};
	cap_value_t all[] = {CAP_BPF, CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_PERFMON};

	assert_int_equal(without(&e->opts, net, 1, "missing capabilities: CAP_NET_ADMIN;"), 0);
	assert_int_equal(without(&e->opts, bpf, 2, "missing capabilities: CAP_BPF;"), 0);
	assert_int_equal(without(&e->opts, perf, 2, "missing capabilities: CAP_PERFMON;"), 0);
	assert_int_equal(without(&e->opts, all, 4, "CAP_BPF CAP_NET_ADMIN CAP_PERFMON;"), 0);
}

/* With exactly the three: a start, attachment, and a second start over the first's pins. */
static int three_suffice(const struct bn_opts *o)
{
	cap_value_t keep[] = {CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON};
	uint32_t lo = if_nametoindex("lo");
	cap_t caps = cap_init();

	cap_set_flag(caps, CAP_EFFECTIVE, 3, keep, CAP_SET);
	cap_set_flag(caps, CAP_PERMITTED, 3, keep, CAP_SET);
	if (cap_set_proc(caps) < 0)
		return 3;
	for (int i = 0; i < 2; i++) {
		_cleanup_(freep) char *err = NULL;
		struct bn_kernel *k = NULL;
		json_t *order = NULL;
		int r = bn_kernel_open(o, &k, &err);

		r = r ?: bn_kernel_attach_iface(k, lo, BN_ROLE_POD, &err);
		r = r ?: bn_kernel_attach_cgroup(k, &err);
		r = r ?: bn_kernel_check_order(k, &order);
		if (r < 0 || json_array_size(order)) {
			fprintf(stderr, "start %d: %d %s\n", i, r, err ? err : "");
			return 1;
		}
		bn_kernel_close(k);
	}
	return 0;
}

static void least_capabilities(void **state)
{
	struct kenv *e = *state;
	json_t *report;
	pid_t pid = fork();
	int st;

	if (!pid)
		_exit(three_suffice(&e->opts));
	waitpid(pid, &st, 0);
	assert_true(WIFEXITED(st));
	assert_int_equal(WEXITSTATUS(st), 0);
	assert_int_equal(bn_kernel_cleanup(e->run, NULL, &report, NULL), 0);
	json_decref(report);
}

static void bpffs_places(void **state)
{
	struct kenv *e = *state;
	struct bn_opts o = e->opts;
	char path[128];

	snprintf(path, sizeof(path), "%s/none/pins", e->root);
	o.bpffs = path;
	fails(&o, -ENOTSUP, "not on a BPF file system", "mount -t bpf");
	assert_int_equal(access(path, F_OK), -1);
	o.bpffs = "relative/pins";
	fails(&o, -EINVAL, "relative/pins", "absolute");
	snprintf(path, sizeof(path), "%s/a.b", e->fs);
	o.bpffs = path;
	fails(&o, -EPERM, "a.b", "dot");
	snprintf(path, sizeof(path), "%s/deep/down/pins", e->fs);
	works(&o);

	/* Nothing on /sys/fs/bpf (in this mount namespace): the daemon mounts it. */
	while (umount2("/sys/fs/bpf", MNT_DETACH) == 0)
		;
	assert_false(bn_is_bpffs("/sys/fs/bpf"));
	o.bpffs = "/sys/fs/bpf/kern-test";
	works(&o);
	assert_true(bn_is_bpffs("/sys/fs/bpf"));
	assert_int_equal(umount("/sys/fs/bpf"), 0);
}

static void bpffs_read_only(void **state)
{
	struct kenv *e = *state;

	assert_int_equal(mount("bpf", e->fs, "bpf", MS_REMOUNT | MS_RDONLY, NULL), 0);
	fails(&e->opts, -EROFS, "read-only", "remount");
	assert_int_equal(mount("bpf", e->fs, "bpf", MS_REMOUNT, NULL), 0);
	works(&e->opts);
}

static void run_dirs(void **state)
{
	struct kenv *e = *state;
	struct bn_opts o = e->opts;
	struct bn_kernel *k = NULL;
	char path[128];

	snprintf(path, sizeof(path), "%s/file", e->root);
	assert_int_equal(sh("touch %s", path), 0);
	strcat(path, "/run");
	o.run_dir = path;
	fails(&o, -ENOTDIR, "--run-dir", path);

	/* A full disk: no record could be written, so nothing is pinned or left half-written. */
	snprintf(path, sizeof(path), "%s/small", e->root);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(mount("small", path, "tmpfs", 0, "size=4096"), 0);
	assert_int_equal(sh("dd if=/dev/zero of=%s/fill bs=4096 count=1 2>/dev/null", path), 0);
	fails(&o, -ENOSPC, "record.json", "make room");
	assert_int_equal(sh("test $(ls -A %s | wc -l) = 1", path), 0);
	assert_int_equal(access(o.bpffs, F_OK), 0);
	assert_int_equal(sh("test $(ls -A %s) = links", o.bpffs), 0);
	assert_int_equal(sh("rm %s/fill", path), 0);

	/* But a restart on a disk that has become full goes on. */
	assert_int_equal(bn_kernel_open(&o, &k, NULL), 0);
	bn_kernel_closep(&k);
	sh("dd if=/dev/zero of=%s/fill bs=4096 count=1 2>/dev/null", path);
	assert_int_equal(bn_kernel_open(&o, &k, NULL), 0);
	assert_int_equal(json_array_size(bn_kernel_notices(k)), 1);
	bn_kernel_closep(&k);
	o.cgroup = "/elsewhere";
	fails(&o, -ENOSPC, "record.json", "make room");
	o.cgroup = e->opts.cgroup;
	sh("rm %s/fill", path);
	works(&o);
	assert_int_equal(umount(path), 0);
}

static void cgroups(void **state)
{
	struct kenv *e = *state;
	_cleanup_(freep) char *err = NULL;
	struct bn_opts o = e->opts;
	struct bn_kernel *k;
	pid_t pid;
	int st;

	o.cgroup = "/tmp";
	assert_int_equal(bn_kernel_open(&o, &k, NULL), 0);
	assert_int_equal(bn_kernel_attach_cgroup(k, &err), -ENOTSUP);
	assert_non_null(strstr(err, "cgroup2"));
	bn_kernel_closep(&k);
	o.cgroup = "/nowhere";
	assert_int_equal(bn_kernel_open(&o, &k, NULL), 0);
	assert_int_equal(bn_kernel_attach_cgroup(k, &err), -ENOENT);
	assert_non_null(strstr(err, "/nowhere"));
	bn_kernel_closep(&k);

	/* No cgroup2 in sight. */
	pid = fork();
	if (!pid) {
		char *mnt;

		if (unshare(CLONE_NEWNS) < 0)
			_exit(9);
		while (bn_cgroup2_find(&mnt) == 0)
			if (umount2(mnt, MNT_DETACH) < 0)
				_exit(8);
		o.cgroup = NULL;
		if (bn_kernel_open(&o, &k, NULL) < 0)
			_exit(7);
		if (bn_kernel_attach_cgroup(k, &err) != -ENOENT)
			_exit(6);
		_exit(strstr(err, "mount -t cgroup2") ? 0 : 5);
	}
	waitpid(pid, &st, 0);
	assert_true(WIFEXITED(st));
	assert_int_equal(WEXITSTATUS(st), 0);
	works(&e->opts);
}

static void records(void **state)
{
	struct kenv *e = *state;
	_cleanup_(freep) char *err = NULL;
	struct bn_kernel *k;
	struct bn_record rec;
	json_t *report = NULL;
	char path[128];
	const char *devs[] = {"eth0", "eth1", NULL};

	assert_int_equal(bn_kernel_cleanup(e->run, NULL, &report, &err), -ENOENT);
	assert_non_null(strstr(err, "record"));
	k = kenv_open(e);
	assert_int_equal(bn_kernel_record_devices(k, devs, NULL), 0);
	bn_kernel_closep(&k);
	assert_int_equal(bn_record_read(e->run, &rec, NULL), 0);
	assert_string_equal(rec.bpffs, e->pins);
	assert_string_equal(rec.cgroup, e->cgroup);
	assert_int_equal(rec.pid, getpid());
	assert_int_equal(json_array_size(rec.devices), 2);
	assert_true(rec.netns_ino > 0);
	bn_record_done(&rec);

	/* Damaged: never guess. With --bpffs it can still be done. */
	snprintf(path, sizeof(path), "%s/record.json", e->run);
	assert_int_equal(sh("echo '{\"bpffs\": ' >%s", path), 0);
	assert_int_equal(bn_kernel_cleanup(e->run, NULL, &report, &err), -EBADMSG);
	assert_int_equal(access(e->pins, F_OK), 0);
	assert_int_equal(bn_kernel_cleanup(e->run, e->pins, &report, &err), 0);
	assert_null(err);
	json_decref(report);
	assert_int_equal(access(e->pins, F_OK), -1);
}

static void foreign_files_stay(void **state)
{
	struct kenv *e = *state;
	_cleanup_(freep) char *err = NULL;
	json_t *report = NULL;
	char path[128];

	bn_kernel_close(kenv_open(e));
	snprintf(path, sizeof(path), "%s/somebodys", e->pins);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(bn_kernel_cleanup(e->run, NULL, &report, &err), -ENOTEMPTY);
	assert_non_null(strstr(err, "not bpfnet's"));
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(bn_kernel_cleanup(e->run, NULL, &report, NULL), 0);
	json_decref(report);
}

/* Each object is verified with each of its switches both ways: dead code is not verified. */
static void switches_both_ways(void **state)
{
	struct kenv *e = *state;
	struct bn_opts o = e->opts;

	for (int i = 0; i < 4; i++) {
		o.host_routing = i & 1 ? BN_ROUTING_STACK : BN_ROUTING_AUTO;
		o.socket_lb_pods = i & 2;
		works(&o);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernel_release),   cmocka_unit_test(capabilities),
		cmocka_unit_test(least_capabilities),
		cmocka_unit_test(bpffs_places),	    cmocka_unit_test(bpffs_read_only),
		cmocka_unit_test(run_dirs),	    cmocka_unit_test(cgroups),
		cmocka_unit_test(records),	    cmocka_unit_test(foreign_files_stay),
		cmocka_unit_test(switches_both_ways),
	};

	return cmocka_run_group_tests_name("kernel errors", tests, kenv_setup, kenv_teardown);
}
