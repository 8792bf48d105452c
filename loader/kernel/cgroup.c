// SPDX-License-Identifier: MIT
/* The socket hooks: one pinned link for each program of the object `sock`, as links/cg_<program>. */
#include <bpf/bpf.h>
#include <fcntl.h>
#include <string.h>

#include "loader/kernel/internal.h"

/* Puts this version's program into a link that an earlier daemon left, on whatever cgroup. */
void bn_cgroup_update(struct bn_kernel *k, const char *path, const char *prog)
{
	_cleanup_(closep) int fd = bpf_obj_get(path);
	int ours = bn_kernel_prog_fd(k, prog);

	if (ours < 0)
		bn_link_drop(path); /* this version has no such hook */
	else if (fd >= 0 && bpf_link_update(fd, ours, NULL) < 0)
		bn_knote(k, "socket hook '%s' keeps the earlier version's program: %s", prog,
			 strerror(errno));
}

/* 1: the pinned link is on this cgroup; 0: there is none, or on another. */
static int is_on(const char *path, uint64_t cgroup_id)
{
	_cleanup_(closep) int fd = bpf_obj_get(path);
	struct bn_link info;

	return fd >= 0 && bn_link_info(fd, &info) == 0 && info.cgroup_id == cgroup_id;
}

static int attach_one(struct bn_kernel *k, struct bpf_program *p, int cgroup, uint64_t id)
{
	_cleanup_(closep) int fd = -1;
	char pin[64], path[4096];
	int r;

	snprintf(pin, sizeof(pin), "cg_%s", bpf_program__name(p));
	r = bn_link_path(k, path, sizeof(path), pin);
	if (r < 0)
		return r;
	if (is_on(path, id))
		return 0; /* bn_attach_open has updated it */
	fd = bpf_link_create(bpf_program__fd(p), cgroup, bpf_program__expected_attach_type(p), NULL);
	if (fd < 0)
		return -errno;
	return bn_link_put(k, fd, pin); /* takes the place of one on another cgroup */
}

int bn_kernel_attach_cgroup(struct bn_kernel *k, char **err)
{
	_cleanup_(closep) int cgroup = -1;
	struct bpf_program *p;
	uint64_t id;
	int r;

	if (!k->p->obj[BN_OBJ_SOCK])
		return 0;
	if (!k->p->cgroup && bn_cgroup2_find(&k->p->cgroup) < 0)
		return bn_kerr(err, -ENOENT,
			       "no cgroup2 file system is mounted, which the socket hooks need: mount one "
			       "(mount -t cgroup2 none /sys/fs/cgroup/unified) or give --cgroup");
	r = bn_cgroup_check(k->p->cgroup, &id, err);
	if (r < 0)
		return r;
	cgroup = open(k->p->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup < 0)
		return bn_kerr(err, -errno, "--cgroup '%s': %s", k->p->cgroup, strerror(errno));
	bpf_object__for_each_program(p, k->p->obj[BN_OBJ_SOCK]) {
		r = attach_one(k, p, cgroup, id);
		if (r < 0)
			return bn_kerr(err, r, "cannot attach the socket hook '%s' to '%s': %s",
				       bpf_program__name(p), k->p->cgroup, strerror(-r));
	}
	json_object_set_new(k->p->features, "socketHooks", json_true());
	return 0;
}
