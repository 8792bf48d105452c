// SPDX-License-Identifier: MIT
/* What this process may do and what this kernel can: found by doing it, not by version, except for
 * the oldest kernel that the programs are made for.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "loader/kernel/internal.h"

#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#endif
#ifndef CAP_BPF
#define CAP_BPF 39
#endif

static bool have_cap(cap_t caps, cap_value_t v)
{
	cap_flag_value_t on = CAP_CLEAR;

	return cap_get_flag(caps, v, CAP_EFFECTIVE, &on) == 0 && on == CAP_SET;
}

int bn_probe_caps(char **err)
{
	cap_t caps = cap_get_proc();
	bool admin, net, bpf, perfmon;

	if (!caps)
		return bn_kerr(err, -errno, "cannot read the process's capabilities: %s",
			       strerror(errno));
	admin = have_cap(caps, CAP_SYS_ADMIN);
	net = have_cap(caps, CAP_NET_ADMIN);
	bpf = admin || have_cap(caps, CAP_BPF);
	perfmon = admin || have_cap(caps, CAP_PERFMON);
	cap_free(caps);
	if (net && bpf && perfmon)
		return 0;
	return bn_kerr(err, -EPERM,
		       "missing capabilities:%s%s%s; run as root or grant them "
		       "(CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON)", bpf ? "" : " CAP_BPF",
		       net ? "" : " CAP_NET_ADMIN", perfmon ? "" : " CAP_PERFMON");
}

int bn_probe_release(const char *release, char **err)
{
	unsigned major = 0, minor = 0;

	if (sscanf(release, "%u.%u", &major, &minor) != 2)
		return 0; /* a kernel that hides its version: the verifier will tell */
	if (major > 6 || (major == 6 && minor >= 1))
		return 0;
	return bn_kerr(err, -ENOSYS,
		       "Linux %s is too old: bpfnet needs 6.1 or later; boot a newer kernel", release);
}

/* return -1: TCX_NEXT, what a program does that leaves the packet to the next. */
static int load_pass(enum bpf_prog_type type, int answer)
{
	struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = answer},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int fd = bpf_prog_load(type, "bn_probe", "GPL", insns, ARRAY_SIZE(insns), NULL);

	return fd < 0 ? -errno : fd;
}

bool bn_probe_tcx(void)
{
	LIBBPF_OPTS(bpf_link_create_opts, o, .flags = BN_F_BEFORE);
	_cleanup_(closep) int prog = load_pass(BPF_PROG_TYPE_SCHED_CLS, -1), link = -1;
	unsigned lo = if_nametoindex("lo");

	if (prog < 0 || !lo)
		return false;
	link = bpf_link_create(prog, lo, BN_TCX_INGRESS, &o);
	return link >= 0;
}

/* Asking for the programs of a device of another kind is refused with ENXIO by kernels that know
 * netkit, and with EINVAL by others.
 */
static bool probe_netkit(void)
{
	__u32 flags, ids[1], n = 1;

	return bpf_prog_query(if_nametoindex("lo"), BN_NETKIT_PRIMARY, 0, &flags, ids, &n) == 0 ||
	       errno == ENXIO;
}

static bool probe_membarrier(void)
{
	long cmds = syscall(__NR_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	return cmds > 0 && cmds & MEMBARRIER_CMD_GLOBAL;
}

static bool helper(enum bpf_prog_type type, enum bpf_func_id id)
{
	return libbpf_probe_bpf_helper(type, id, NULL) == 1;
}

json_t *bn_probe_features(void)
{
	const enum bpf_prog_type tc = BPF_PROG_TYPE_SCHED_CLS, sa = BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
	struct utsname u = {};

	uname(&u);
	return json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b}", "kernel", u.release, "btf",
			 access("/sys/kernel/btf/vmlinux", R_OK) == 0, "tcx", bn_probe_tcx(),
			 "redirectPeer", helper(tc, BPF_FUNC_redirect_peer), "bpfLoop",
			 helper(tc, BPF_FUNC_loop), "socketRefuse", helper(sa, BPF_FUNC_set_retval),
			 "netkit", probe_netkit(), "membarrier", probe_membarrier(), "socketHooks", 0);
}

char *bn_no_http_text(int r)
{
	struct utsname u = {};
	char *text;

	uname(&u);
	if (asprintf(&text, "HTTP rules cannot be enforced: Linux %s refuses the program that judges requests (%s)",
		     u.release, strerror(-r)) < 0)
		return NULL;
	return text;
}
