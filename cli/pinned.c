/* SPDX-License-Identifier: MIT */
#include "cli/pinned.h"

#include <string.h>

#include "loader/kernel/kernel.h"

void bn_pinned_dir(const struct bn_cli *c, char *buf, size_t len)
{
	_cleanup_(bn_record_done) struct bn_record rec = { 0 };
	const char *given = bn_cli_opt(c, "bpffs");

	if (!given && bn_record_read(c->run_dir, &rec, NULL) == 0)
		given = rec.bpffs;
	snprintf(buf, len, "%s", given ?: BN_PINNED_DEFAULT);
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
