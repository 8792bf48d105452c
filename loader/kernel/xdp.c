// SPDX-License-Identifier: MIT
/* XDP on uplinks, in native mode. (In generic mode Linux 6.18 hands frames to TC without their Ethernet
 * header: what copies the packet to make headroom forgets mac_len.)
 */
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <string.h>

#include "loader/kernel/internal.h"

static void pin(const struct bn_kernel *k, uint32_t ifindex, char *buf, size_t n)
{
	bn_pin_name(k, buf, n, "xdp", ifindex, "in");
}

int bn_kernel_attach_xdp(struct bn_kernel *k, uint32_t ifindex, char **err)
{
	int fd = bn_objects_prog(k, "xdp_net", err), r;
	char name[IF_NAMESIZE], at[64], path[4096];

	if (fd < 0)
		return err && *err ? fd : bn_kerr(err, fd, "this build has no XDP program");
	pin(k, ifindex, at, sizeof(at));
	/* The other version's is replaced with all others. */
	if (k->p->beside && bn_link_path(k, path, sizeof(path), at) == 0 && bn_link_is_on(path, ifindex))
		return 0;
	r = bn_link_attach(k, at, ifindex, BPF_XDP, XDP_FLAGS_DRV_MODE, fd);
	if (r >= 0)
		return 0;
	if (r == -ENODEV || !if_indextoname(ifindex, name))
		return bn_kerr(err, -ENODEV, "interface %u is gone", ifindex);
	if (r == -EBUSY || r == -EEXIST)
		return bn_kerr(err, -EBUSY, "another XDP program is on '%s', and stays", name);
	if (r == -EOPNOTSUPP)
		return bn_kerr(err, r, "the driver of '%s' has no native XDP", name);
	return bn_kerr(err, r, "the driver of '%s' does not take an XDP program as it is set up: %s", name,
		       strerror(-r));
}

int bn_kernel_detach_xdp(struct bn_kernel *k, uint32_t ifindex)
{
	char at[64], path[4096];
	int r;

	pin(k, ifindex, at, sizeof(at));
	r = bn_link_path(k, path, sizeof(path), at);
	return r ?: bn_link_drop(path);
}
