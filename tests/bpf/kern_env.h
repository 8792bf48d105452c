/* SPDX-License-Identifier: MIT */
#ifndef BN_TESTS_KERN_ENV_H
#define BN_TESTS_KERN_ENV_H

/* A place for one kernel test: its own bpffs mount, run directory and network namespaces, all named
 * after the test's process, removed at the end. Includes cmocka and what it needs.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "loader/kernel/internal.h"

struct kenv {
	char root[64];	/* /tmp/kern-<pid> */
	char fs[80];	/* bpffs mount */
	char pins[96], run[96], cgroup[128];
	int home;	/* the network namespace we came from */
	bool clsact;	/* asked for by the environment */
	int fresh;	/* how many times kenv_fresh was called */
	struct bn_opts opts;
};

static inline int sh(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	int st;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	st = system(cmd);
	return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

/* A private mount namespace, so that nothing is left whatever happens, and a network namespace. */
static inline int kenv_setup(void **state)
{
	struct kenv *e = calloc(1, sizeof(*e));
	_cleanup_(freep) char *cg = NULL;

	snprintf(e->root, sizeof(e->root), "/tmp/kern-%d", getpid());
	snprintf(e->fs, sizeof(e->fs), "%s/bpf", e->root);
	snprintf(e->pins, sizeof(e->pins), "%s/pins", e->fs);
	snprintf(e->run, sizeof(e->run), "%s/run", e->root);
	e->clsact = getenv("BPFNET_TC");
	e->home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (e->home < 0 || unshare(CLONE_NEWNS | CLONE_NEWNET) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	if (bn_mkdir_p(e->root, 0700) < 0 || mount("tmp", e->root, "tmpfs", 0, NULL) < 0 ||
	    bn_mkdir_p(e->fs, 0700) < 0 || mount("bpf", e->fs, "bpf", 0, NULL) < 0)
		return -1;
	if (bn_cgroup2_find(&cg) < 0)
		return -1;
	snprintf(e->cgroup, sizeof(e->cgroup), "%.80s/kern-%d", cg, getpid());
	if (mkdir(e->cgroup, 0755) < 0 || sh("ip link set lo up"))
		return -1;
	e->opts.bpffs = e->pins;
	e->opts.run_dir = e->run;
	e->opts.cgroup = e->cgroup;
	e->opts.socket_lb_pods = true;
	e->opts.ct_flows = 4096;
	e->opts.max_backends = 4096;
	*state = e;
	return 0;
}

static inline int kenv_teardown(void **state)
{
	struct kenv *e = *state;
	int r = rmdir(e->cgroup);

	umount(e->fs);
	umount2(e->root, MNT_DETACH);
	rmdir(e->root);
	close(e->home);
	free(e);
	return r;
}

/* Set-up of a single test: directories of its own. One that failed still holds its lock, by whatever it
 * had open, and its interfaces.
 */
static inline int kenv_fresh(void **state)
{
	struct kenv *e = *state;

	e->fresh++;
	snprintf(e->pins, sizeof(e->pins), "%s/pins%d", e->fs, e->fresh);
	snprintf(e->run, sizeof(e->run), "%s/run%d", e->root, e->fresh);
	e->opts.ct_flows = 4096;
	e->opts.max_backends = 4096;
	if (e->clsact ? setenv("BPFNET_TC", "clsact", 1) : unsetenv("BPFNET_TC"))
		return -1;
	if (setns(e->home, CLONE_NEWNET) < 0 || unshare(CLONE_NEWNET) < 0)
		return -1;
	return sh("ip link set lo up");
}

/* What the daemon will attach by, here and now. */
static inline bool kenv_tcx(void)
{
	const char *tc = getenv("BPFNET_TC");

	return !(tc && !strcmp(tc, "clsact")) && bn_probe_tcx();
}

static inline struct bn_kernel *kenv_open(struct kenv *e)
{
	_cleanup_(freep) char *err = NULL;
	struct bn_kernel *k = NULL;
	int r = bn_kernel_open(&e->opts, &k, &err);

	if (r < 0)
		fprintf(stderr, "bn_kernel_open: %d %s\n", r, err ? err : ""); /* cmocka cuts */
	assert_int_equal(r, 0);
	return k;
}

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

#endif
