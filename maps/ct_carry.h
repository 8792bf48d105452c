/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_CT_CARRY_H
#define BN_MAPS_CT_CARRY_H

/* Entries of another connection table, as bpf/ctl.bpf.c is told of them. */

#include "maps/ct.h"

#define BN_CT_CARRY_MAX 256

BN_ABI_BEGIN
struct bn_ct_carry {
	struct bn_ct_entry v[BN_CT_CARRY_MAX];
	__u32 n;
	__u32 done, known, full; /* by the program: entered, there already, no room */
};
BN_ABI_END

#endif
