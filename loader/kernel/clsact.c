// SPDX-License-Identifier: MIT
/* Attaching by clsact filters, for kernels without tcx (before 6.6). A filter outlives its loader and
 * every pin: it is removed only by name (prio and handle), which cleanup does.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "loader/kernel/internal.h"

static void hook_of(struct bpf_tc_hook *h, uint32_t ifindex, enum bn_dir_tc dir)
{
	*h = (struct bpf_tc_hook){
		.sz = sizeof(*h),
		.ifindex = ifindex,
		.attach_point = dir == BN_TC_IN ? BPF_TC_INGRESS : BPF_TC_EGRESS,
	};
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
	return bpf_tc_attach(&h, &o);
}

uint32_t bn_map_id(int fd)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) < 0 ? 0 : info.id;
}

/* Programs of another bpfnet in this namespace stand under the same handle: the maps tell. */
static bool uses_map(uint32_t prog_id, uint32_t map_id)
{
	_cleanup_(closep) int fd = bpf_prog_get_fd_by_id(prog_id);
	struct bpf_prog_info info = {};
	__u32 ids[64], len = sizeof(info);

	if (fd < 0)
		return false;
	info.nr_map_ids = ARRAY_SIZE(ids);
	info.map_ids = (uintptr_t)ids;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return false;
	for (__u32 i = 0; i < info.nr_map_ids && i < ARRAY_SIZE(ids); i++)
		if (ids[i] == map_id)
			return true;
	return false;
}

int bn_clsact_detach(uint32_t ifindex, enum bn_dir_tc dir, uint32_t map_id)
{
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = BN_TC_HANDLE, .priority = BN_TC_PRIO);
	struct bpf_tc_hook h;
	int r;

	/* Only a BPF filter under our handle is ours; the qdisc may be shared and stays. */
	hook_of(&h, ifindex, dir);
	r = bpf_tc_query(&h, &o);
	if (r < 0)
		return r == -EINVAL ? -ENOENT : r;
	if (map_id && !uses_map(o.prog_id, map_id))
		return -ENOENT;
	o.prog_fd = 0;
	o.prog_id = 0;
	o.flags = 0;
	return bpf_tc_detach(&h, &o);
}
