// SPDX-License-Identifier: MIT
/* Attaching by clsact filters, for kernels without tcx (before 6.6). A filter outlives its loader and
 * every pin: it is removed only by name (prio and handle), which cleanup does.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <string.h>

#include "loader/kernel/internal.h"

static void hook_of(struct bpf_tc_hook *h, uint32_t ifindex, enum bn_dir_tc dir)
{
	*h = (struct bpf_tc_hook){
		.sz = sizeof(*h),
		.ifindex = ifindex,
		.attach_point = dir == BN_TC_IN ? BPF_TC_INGRESS : BPF_TC_EGRESS,
	};
}

/* Somebody else's program, by name: an earlier bpfnet's maps may be lost with its bpffs, the filter is
 * not. Without CAP_SYS_ADMIN no name can be read, and it is taken for ours.
 */
static bool is_foreign(uint32_t prog_id)
{
	static const char *const names[] = {"from_pod", "to_pod", "from_net", "to_net"};
	char name[16];
	size_t i;

	if (bn_prog_name(prog_id, name) < 0)
		return false;
	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return false;
	return true;
}

/* Is what stands under our priority and handle somebody else's? Replacing would take it away. */
static bool is_taken(struct bpf_tc_hook *h)
{
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = BN_TC_HANDLE, .priority = BN_TC_PRIO);

	return bpf_tc_query(h, &o) == 0 && is_foreign(o.prog_id);
}

bool bn_clsact_there(uint32_t ifindex, enum bn_dir_tc dir)
{
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = BN_TC_HANDLE, .priority = BN_TC_PRIO);
	struct bpf_tc_hook h;

	hook_of(&h, ifindex, dir);
	return bpf_tc_query(&h, &o) == 0 && !is_foreign(o.prog_id);
}

int bn_clsact_attach(uint32_t ifindex, enum bn_dir_tc dir, int prog_fd)
{
	LIBBPF_OPTS(bpf_tc_opts, o, .prog_fd = prog_fd, .flags = BPF_TC_F_REPLACE,
		    .handle = BN_TC_HANDLE, .priority = BN_TC_PRIO);
	struct bpf_tc_hook both, h;
	int r;

	hook_of(&both, ifindex, dir);
	both.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS;
	r = bpf_tc_hook_create(&both);
	if (r < 0 && r != -EEXIST)
		return r;
	hook_of(&h, ifindex, dir);
	if (r == -EEXIST && is_taken(&h))
		return -EADDRINUSE;
	return bpf_tc_attach(&h, &o);
}

int bn_clsact_detach(uint32_t ifindex, enum bn_dir_tc dir, const struct bn_map_ids *ours)
{
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = BN_TC_HANDLE, .priority = BN_TC_PRIO);
	struct bpf_tc_hook h;
	int r;

	/* Only a BPF filter under our handle can be ours, and programs of another bpfnet in this
	 * namespace stand there too: the maps tell. The qdisc may be shared and stays.
	 */
	hook_of(&h, ifindex, dir);
	r = bpf_tc_query(&h, &o);
	if (r < 0)
		return r == -EINVAL ? -ENOENT : r;
	if (!bn_prog_uses(o.prog_id, ours))
		return -ENOENT;
	o.prog_fd = 0;
	o.prog_id = 0;
	o.flags = 0;
	return bpf_tc_detach(&h, &o);
}
