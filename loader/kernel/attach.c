// SPDX-License-Identifier: MIT
/* Programs on interfaces. A tcx link is pinned as links/tcx_<netns cookie>_<ifindex>_<in|out>: the
 * cookie is never used twice in a boot, an interface index is, so what a pin says is checked against
 * the link itself. Descriptors are not kept: with thousands of pods the pins are enough.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "loader/kernel/internal.h"

struct hook {
	const char *prog;
	const char *suffix; /* of the pin */
	uint32_t attach_type;
	enum bn_dir_tc dir;
};

static const struct hook pod_hooks[] = {
	{"from_pod", "in", BN_TCX_INGRESS, BN_TC_IN},
	{"to_pod", "out", BN_TCX_EGRESS, BN_TC_OUT},
};

static const struct hook net_hooks[] = {
	{"from_net", "in", BN_TCX_INGRESS, BN_TC_IN},
	{"to_net", "out", BN_TCX_EGRESS, BN_TC_OUT},
};

static const struct hook *hooks_of(enum bn_role role)
{
	return role == BN_ROLE_POD ? pod_hooks : net_hooks;
}

void bn_pin_name(const struct bn_kernel *k, char *buf, size_t n, const char *kind, uint32_t ifindex,
		 const char *suffix)
{
	snprintf(buf, n, "%s_%" PRIx64 "_%u_%s", kind, k->p->netns_cookie, ifindex, suffix);
}

/* --- Which interfaces this process attached: a sorted array ------------------------------------ */

static uint32_t ifs_pos(const struct bn_kernel_priv *p, uint32_t ifindex)
{
	uint32_t lo = 0, hi = p->nifs;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (p->ifs[mid] < ifindex)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool ifs_has(const struct bn_kernel_priv *p, uint32_t ifindex)
{
	uint32_t i = ifs_pos(p, ifindex);

	return i < p->nifs && p->ifs[i] == ifindex;
}

static int ifs_add(struct bn_kernel_priv *p, uint32_t ifindex)
{
	uint32_t i = ifs_pos(p, ifindex);

	if (i < p->nifs && p->ifs[i] == ifindex)
		return 0;
	if (p->nifs == p->ifs_room) {
		uint32_t room = p->ifs_room ? p->ifs_room * 2 : 64;
		uint32_t *ifs = reallocarray(p->ifs, room, sizeof(*ifs));

		if (!ifs)
			return -ENOMEM;
		p->ifs = ifs;
		p->ifs_room = room;
	}
	memmove(&p->ifs[i + 1], &p->ifs[i], (p->nifs - i) * sizeof(*p->ifs));
	p->ifs[i] = ifindex;
	p->nifs++;
	return 0;
}

static void ifs_del(struct bn_kernel_priv *p, uint32_t ifindex)
{
	uint32_t i = ifs_pos(p, ifindex);

	if (i == p->nifs || p->ifs[i] != ifindex)
		return;
	p->nifs--;
	memmove(&p->ifs[i], &p->ifs[i + 1], (p->nifs - i) * sizeof(*p->ifs));
}

/* --- Links ------------------------------------------------------------------------------------- */

static uint32_t prog_id(int prog_fd)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	return bpf_obj_get_info_by_fd(prog_fd, &info, &len) < 0 ? 0 : info.id;
}

/* Puts the program into the pinned link, if that is a link of this interface. -ENOENT: there is none
 * (any more), make a new one.
 */
static int link_replace(struct bn_kernel *k, const char *pin, uint32_t ifindex, uint32_t type,
			int prog_fd)
{
	_cleanup_(closep) int fd = -1;
	struct bn_link info;
	char path[4096];
	int r;

	r = bn_link_path(k, path, sizeof(path), pin);
	if (r < 0)
		return r;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -errno;
	r = bn_link_info(fd, &info);
	if (r < 0)
		return r;
	if (info.ifindex != ifindex || info.attach_type != type) {
		bn_link_drop(path); /* of an interface that had this number before */
		return -ENOENT;
	}
	if (info.prog_id == prog_id(prog_fd))
		return 0;
	return bpf_link_update(fd, prog_fd, NULL) < 0 ? -errno : 0;
}

int bn_link_attach(struct bn_kernel *k, const char *pin, uint32_t ifindex, uint32_t type,
		   uint32_t flags, int prog_fd)
{
	LIBBPF_OPTS(bpf_link_create_opts, o, .flags = flags);
	_cleanup_(closep) int fd = -1;
	int r;

	r = link_replace(k, pin, ifindex, type, prog_fd);
	if (r != -ENOENT)
		return r;
	fd = bpf_link_create(prog_fd, ifindex, type, &o);
	if (fd < 0)
		return -errno;
	return bn_link_put(k, fd, pin);
}

static int attach_hook(struct bn_kernel *k, uint32_t ifindex, const struct hook *h, int prog_fd)
{
	char pin[64];

	if (k->p->clsact)
		return bn_clsact_attach(ifindex, h->dir, prog_fd);
	bn_pin_name(k, pin, sizeof(pin), "tcx", ifindex, h->suffix);
	return bn_link_attach(k, pin, ifindex, h->attach_type, BN_F_BEFORE, prog_fd);
}

static int hook_error(uint32_t ifindex, const struct hook *h, int r, char **err)
{
	char name[IF_NAMESIZE];

	if (r == -ENODEV || r == -ENXIO || !if_indextoname(ifindex, name))
		return bn_kerr(err, -ENODEV, "interface %u is gone", ifindex);
	if (r == -EADDRINUSE)
		return bn_kerr(err, r, "another program's filter stands at prio %d handle 0x%x of %s of "
			       "interface '%s': delete it (tc filter del dev %s ...)", BN_TC_PRIO,
			       BN_TC_HANDLE, h->dir == BN_TC_IN ? "ingress" : "egress", name, name);
	return bn_kerr(err, r, "cannot attach '%s' to %s of interface '%s': %s", h->prog,
		       h->dir == BN_TC_IN ? "ingress" : "egress", name, strerror(-r));
}

/* Has it programs of the other version, which go on until the maps are complete? */
static bool is_served(const struct bn_kernel *k, uint32_t ifindex)
{
	for (int i = 0; i < BN_TC__MAX; i++) {
		char pin[64], path[4096];

		bn_pin_name(k, pin, sizeof(pin), "tcx", ifindex, pod_hooks[i].suffix);
		if (k->p->clsact ? bn_clsact_there(ifindex, i) :
		    bn_link_path(k, path, sizeof(path), pin) == 0 && bn_link_is_on(path, ifindex))
			return true;
	}
	return false;
}

int bn_kernel_attach_iface(struct bn_kernel *k, uint32_t ifindex, enum bn_role role, char **err)
{
	const struct hook *hooks = hooks_of(role);
	int r;

	if (role <= BN_ROLE_NONE || role >= BN_ROLE__MAX)
		return bn_kerr(err, -EINVAL, "interface %u has no role", ifindex);
	r = ifs_add(k->p, ifindex);
	if (r < 0)
		return bn_kerr(err, r, "out of memory");
	if (k->p->beside && !k->p->switching && is_served(k, ifindex))
		return bn_carry_later(k, ifindex, role) < 0 ? bn_kerr(err, -ENOMEM, "out of memory") : 0;
	/* Egress first: no packet comes in through our service path whose reply would pass without. */
	for (int i = BN_TC__MAX - 1; i >= 0; i--) {
		int fd = bn_kernel_prog_fd(k, hooks[i].prog);

		if (fd < 0)
			continue;
		r = attach_hook(k, ifindex, &hooks[i], fd);
		if (r < 0) {
			if (r == -ENODEV)
				bn_kernel_detach_iface(k, ifindex);
			return hook_error(ifindex, &hooks[i], r, err);
		}
	}
	return 0;
}

int bn_attach_pod(struct bn_kernel *k, uint32_t ifindex, int from_pod, int to_pod)
{
	int fds[] = {[BN_TC_IN] = from_pod, [BN_TC_OUT] = to_pod}, r = 0;

	for (int i = BN_TC__MAX - 1; i >= 0 && !r; i--)
		r = attach_hook(k, ifindex, &pod_hooks[i], fds[i]);
	return r;
}

int bn_programs_pin(struct bn_kernel *k)
{
	char pin[32];
	int r = 0;

	for (int i = 0; i < BN_TC__MAX && !r; i++) {
		int fd = bn_kernel_prog_fd(k, pod_hooks[i].prog);

		snprintf(pin, sizeof(pin), "prog_%s", pod_hooks[i].prog);
		r = fd < 0 ? 0 : bn_link_put(k, fd, pin);
	}
	return r;
}

int bn_kernel_detach_iface(struct bn_kernel *k, uint32_t ifindex)
{
	struct bn_map_ids ours;
	char pin[64], path[4096];
	int found = 0, r = 0;

	if (k->p->clsact)
		bn_map_ids(k->maps, &ours);

	ifs_del(k->p, ifindex);
	found += bn_kernel_detach_xdp(k, ifindex) == 0;
	for (int i = 0; i < BN_TC__MAX; i++) {
		bn_pin_name(k, pin, sizeof(pin), "tcx", ifindex, pod_hooks[i].suffix);
		r = bn_link_path(k, path, sizeof(path), pin);
		if (r < 0)
			return r;
		found += bn_link_drop(path) == 0;
		if (k->p->clsact)
			found += bn_clsact_detach(ifindex, i, &ours) == 0;
	}
	return found ? 0 : -ENOENT;
}

/* --- What an earlier daemon left ---------------------------------------------------------------- */

struct pinned {
	char kind[8];
	uint64_t cookie;
	uint32_t ifindex;
};

static bool parse_pin(const char *name, struct pinned *ret)
{
	char suffix[8];

	return sscanf(name, "%7[a-z]_%" SCNx64 "_%u_%7s", ret->kind, &ret->cookie, &ret->ifindex,
		      suffix) == 4;
}

static void adopt_link(struct bn_kernel *k, const char *name, const char *path)
{
	_cleanup_(closep) int fd = bpf_obj_get(path);
	struct bn_link info;
	struct pinned pin;
	char prog[16];
	int ours;

	if (!parse_pin(name, &pin))
		return;
	if (fd < 0 || bn_link_info(fd, &info) < 0)
		return;
	if (pin.cookie != k->p->netns_cookie) {
		bn_knote(k, "link '%s' was attached in another network namespace: detached", name);
		bn_link_drop(path);
		return;
	}
	if (info.ifindex != pin.ifindex || (k->p->clsact && info.attach_type != BPF_XDP)) {
		bn_link_drop(path); /* the interface is gone */
		return;
	}
	if (bn_prog_name(info.prog_id, prog) < 0)
		return;
	ours = bn_kernel_prog_fd(k, prog);
	if (ours >= 0 && bpf_link_update(fd, ours, NULL) < 0)
		bn_knote(k, "link '%s' keeps the earlier version's program: %s", name, strerror(errno));
}

/* The array through which the programs reach the one that judges HTTP requests is of their version. Without
 * a descriptor or a pin the kernel empties it, so the pin is what lets HTTP rules outlive the daemon; and the
 * earlier version's stays until no interface has its programs any more.
 */
static int jump_pin(struct bn_kernel *k)
{
	char path[4096], old[4096];
	int r;

	r = bn_link_path(k, path, sizeof(path), "jump_http");
	r = r ?: bn_link_path(k, old, sizeof(old), "jump_http_old");
	if (r < 0)
		return r;
	if (rename(path, old) < 0 && errno != ENOENT)
		return -errno;
	return bn_link_put(k, k->p->jump, "jump_http");
}

int bn_attach_open(struct bn_kernel *k, char **err)
{
	DIR *d = opendir(k->p->links);
	struct dirent *e;

	int r;

	if (!d)
		return bn_kerr(err, -errno, "cannot read '%s': %s", k->p->links, strerror(errno));
	r = jump_pin(k);
	if (r < 0) {
		closedir(d);
		return bn_kerr(err, r, "cannot pin '%s/jump_http': %s", k->p->links, strerror(-r));
	}
	while ((e = readdir(d))) {
		char path[4096];

		if (e->d_name[0] == '.' || bn_link_path(k, path, sizeof(path), e->d_name) < 0)
			continue;
		if (!strncmp(e->d_name, "tmp_", 4))
			unlink(path);
		else if (!strncmp(e->d_name, "cg_", 3))
			bn_cgroup_update(k, path, e->d_name + 3);
		else
			adopt_link(k, e->d_name, path);
	}
	closedir(d);
	return 0;
}

static int sweep_filters(struct bn_kernel *k)
{
	struct if_nameindex *all = if_nameindex();
	struct bn_map_ids ours;
	int n = 0;

	bn_map_ids(k->maps, &ours);
	for (struct if_nameindex *i = all; i && i->if_index; i++) {
		bool found = false;

		if (ifs_has(k->p, i->if_index) && k->p->clsact)
			continue;
		for (int dir = 0; dir < BN_TC__MAX; dir++)
			found |= bn_clsact_detach(i->if_index, dir, &ours) == 0;
		n += found;
	}
	if (all)
		if_freenameindex(all);
	return n;
}

int bn_kernel_sweep(struct bn_kernel *k)
{
	DIR *d = opendir(k->p->links);
	char old[4096];
	struct dirent *e;
	int n = 0;

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		struct pinned pin;
		char path[4096];

		if (!parse_pin(e->d_name, &pin) || ifs_has(k->p, pin.ifindex) ||
		    bn_link_path(k, path, sizeof(path), e->d_name) < 0)
			continue;
		n += bn_link_drop(path) == 0;
	}
	closedir(d);
	if (bn_link_path(k, old, sizeof(old), "jump_http_old") == 0)
		unlink(old); /* its programs are replaced or detached by now */
	/* Filters of a start that was made to use clsact, or of this one's interfaces gone by. */
	return n + sweep_filters(k);
}
