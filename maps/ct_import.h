/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_CT_IMPORT_H
#define BN_MAPS_CT_IMPORT_H

/* Flows that the kernel's own conntrack translates (kube-proxy's), as bpf/ctl.bpf.c is told of them. */

#include "maps/ct.h"

#define BN_CT_IMPORT_MAX 512

BN_ABI_BEGIN
struct bn_ct_foreign {
	struct bn_addr src, dst; /* as the client sends */
	struct bn_addr xs, xd;	 /* as the server gets it */
	__be16 sport, dport, xsp, xdp;
	__u32 flags; /* BN_CT_F_REPLIED, ASSURED */
	__u32 life_s;
	__u8 proto;
	__u8 pad[7];
};

struct bn_ct_import {
	struct bn_ct_foreign v[BN_CT_IMPORT_MAX];
	__u32 n;
	__u32 done, known, full; /* by the program: entered, there already, no room */
};
BN_ABI_END

#endif
