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

static int attach_one(struct bn_kernel *k, const struct bn_prog *p, int cgroup, uint64_t id)
{
	_cleanup_(closep) int fd = -1;
	char pin[64], path[4096];
	int r;

	snprintf(pin, sizeof(pin), "cg_%s", p->name);
	r = bn_link_path(k, path, sizeof(path), pin);
	if (r < 0)
		return r;
	if (is_on(path, id))
		return 0; /* bn_attach_open has updated it */
	fd = bpf_link_create(p->fd, cgroup, p->attach_type, NULL);
	if (fd < 0)
		return -errno;
	return bn_link_put(k, fd, pin); /* takes the place of one on another cgroup */
}

int bn_kernel_attach_cgroup(struct bn_kernel *k, char **err)
{
	_cleanup_(closep) int cgroup = -1;
	uint64_t id;
	int r;

	if (bn_kernel_prog_fd(k, "connect4") < 0 || k->p->beside)
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
	for (uint32_t i = 0; i < k->p->nprogs; i++) {
		const struct bn_prog *p = &k->p->progs[i];

		if (p->obj != BN_OBJ_SOCK)
			continue;
		r = attach_one(k, p, cgroup, id);
		if (r < 0)
			return bn_kerr(err, r, "cannot attach the socket hook '%s' to '%s': %s",
				       p->name, k->p->cgroup, strerror(-r));
	}
	json_object_set_new(k->p->features, "socketHooks", json_true());
	return 0;
}
