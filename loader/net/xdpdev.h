/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_NET_XDPDEV_H
#define BN_LOADER_NET_XDPDEV_H

/* What the drivers of this namespace's devices can do with XDP, and what a program would cost. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BN_XDP_CAN_BASIC = 1 << 0, /* native: drop, pass, send back */
	BN_XDP_CAN_XMIT = 1 << 2,  /* takes other devices' frames, as it is set up now */
};

struct bn_xdp_dev {
	uint32_t ifindex;
	uint32_t can; /* BN_XDP_CAN_* */
};

/* *ret: array of *n by ifindex, to be freed. -EOPNOTSUPP: the kernel does not tell (before 6.3). */
int bn_xdp_devices(struct bn_xdp_dev **ret, size_t *n);

/* Does the hardware put segments together (LRO, GRO_HW)? Drivers turn that off under XDP. */
bool bn_xdp_costs_offloads(const char *ifname);

#endif
