/* SPDX-License-Identifier: MIT */
#include "cli/pinned.h"

#include <string.h>

void bn_pinned_dir(const struct bn_cli *c, char *buf, size_t len)
{
	snprintf(buf, len, "%s", bn_cli_opt(c, "bpffs") ?: "/sys/fs/bpf/bpfnet");
}

int bn_pinned_open(const struct bn_cli *c, struct bn_maps **ret)
{
	char dir[4096];
	int r;

	bn_pinned_dir(c, dir, sizeof(dir));
	r = bn_maps_open(dir, false, ret);
	switch (r) {
	case 0:
		return BN_EXIT_OK;
	case -ENOENT:
		return bn_cli_fail("nothing is pinned at %s (--bpffs says where else)", dir);
	case -EACCES:
	case -EPERM:
		return bn_cli_fail("%s: not allowed; run as root", dir);
	case -EPROTONOSUPPORT:
	case -EMEDIUMTYPE:
		return bn_cli_fail("%s: pinned by another version of bpfnetd", dir);
	default:
		return bn_cli_fail("%s: %s", dir, strerror(-r));
	}
}
