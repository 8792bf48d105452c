// SPDX-License-Identifier: MIT
/* Links by their pins. Struct bpf_link_info of the build's headers (6.1) does not have tcx, so the
 * kernel's layout stands here.
 */
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <string.h>

#include "loader/kernel/internal.h"

/* The head of struct bpf_link_info of Linux 6.6 and later; older kernels have the same without tcx. */
struct link_info {
	__u32 type, id, prog_id, pad;
	union {
		struct {
			__u64 id;
			__u32 attach_type;
		} cgroup;
		struct {
			__u32 ifindex, attach_type;
		} dev;
		__u64 room[8];
	};
};

int bn_link_info(int fd, struct bn_link *ret)
{
	struct link_info info = {};
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return -errno;
	memset(ret, 0, sizeof(*ret));
	ret->type = info.type;
	ret->id = info.id;
	ret->prog_id = info.prog_id;
	if (info.type == BPF_LINK_TYPE_CGROUP) {
		ret->cgroup_id = info.cgroup.id;
		ret->attach_type = info.cgroup.attach_type;
	} else if (info.type == BN_LINK_TYPE_TCX) {
		ret->ifindex = info.dev.ifindex;
		ret->attach_type = info.dev.attach_type;
	} else if (info.type == BPF_LINK_TYPE_XDP) {
		ret->ifindex = info.dev.ifindex;
		ret->attach_type = BPF_XDP;
	}
	return 0;
}

bool bn_link_is_on(const char *path, uint32_t ifindex)
{
	_cleanup_(closep) int fd = bpf_obj_get(path);
	struct bn_link info;

	return fd >= 0 && bn_link_info(fd, &info) == 0 && info.ifindex == ifindex;
}

int bn_prog_name(uint32_t prog_id, char name[16])
{
	_cleanup_(closep) int fd = bpf_prog_get_fd_by_id(prog_id);
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	if (fd < 0)
		return -errno;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return -errno;
	memcpy(name, info.name, sizeof(info.name));
	name[15] = '\0';
	return 0;
}

static uint32_t map_id(int fd)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) < 0 ? 0 : info.id;
}

void bn_map_ids(const struct bn_maps *m, struct bn_map_ids *ret)
{
	for (int i = 0; i < BN_MAP__MAX; i++)
		ret->id[i] = m->fd[i] < 0 ? 0 : map_id(m->fd[i]);
}

bool bn_prog_uses(uint32_t prog_id, const struct bn_map_ids *ours)
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
		for (int m = 0; m < BN_MAP__MAX; m++)
			if (ids[i] == ours->id[m])
				return true;
	return false;
}

int bn_link_path(const struct bn_kernel *k, char *buf, size_t n, const char *name)
{
	int len = snprintf(buf, n, "%s/%s", k->p->links, name);

	return len < 0 || (size_t)len >= n ? -ENAMETOOLONG : 0;
}

int bn_link_put(struct bn_kernel *k, int fd, const char *pin)
{
	char path[4096], tmp[4096], name[64];
	int r;

	snprintf(name, sizeof(name), "tmp_%.50s", pin);
	r = bn_link_path(k, path, sizeof(path), pin);
	r = r ?: bn_link_path(k, tmp, sizeof(tmp), name);
	if (r < 0)
		return r;
	unlink(tmp);
	if (bpf_obj_pin(fd, tmp) < 0 || rename(tmp, path) < 0)
		return -errno;
	return 0;
}

/* Removing the pin alone detaches too, but some time later (RCU and a work queue of the kernel). */
int bn_link_drop(const char *path)
{
	_cleanup_(closep) int fd = bpf_obj_get(path);

	if (fd >= 0)
		bpf_link_detach(fd); /* fails where its interface or cgroup is gone */
	return unlink(path) < 0 ? -errno : 0;
}
