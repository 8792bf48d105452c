/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_CT_FLUSH_H
#define BN_MAPS_CT_FLUSH_H

/* What bpf/ctl.bpf.c is told: entries of the connection table to take out, by place and generation. */

#include "maps/ct.h"

#define BN_CT_FLUSH_MAX 1024

BN_ABI_BEGIN
struct bn_ct_victim {
	__u32 bucket, way, gen;
};

struct bn_ct_flush {
	struct bn_ct_victim v[BN_CT_FLUSH_MAX];
	__u32 n;
	__u32 gone; /* by the program: how many were taken out */
};
BN_ABI_END

#endif
