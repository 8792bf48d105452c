// SPDX-License-Identifier: MIT
/* Waiting for programs that still run.
 *
 * Every program of ours runs inside an RCU read-side section: TC and XDP in softirq or with bottom
 * halves off (since Linux 5.0 a grace period waits for those too), cgroup hooks under
 * rcu_read_lock() but preemptible. So what is needed is synchronize_rcu(), seen from user space.
 *
 * membarrier(MEMBARRIER_CMD_GLOBAL) is not that, though it looks like it: it returns at once when
 * one CPU is online (a preempted cgroup program may be half-way through even then) and is refused
 * under nohz_full. Updating an element of a map of maps is: since 4.20 the kernel waits, before
 * the system call returns, for "any running BPF programs" to have finished (maybe_wait_bpf_programs),
 * precisely so that user space may reuse what the old element named. A scratch map serves.
 */
#include <bpf/bpf.h>
#include <linux/bpf.h>

#include "maps/maps.h"
#include "maps/util.h"

int bn_maps_grace(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, o);
	_cleanup_(closep) int outer = -1, inner = -1;
	__u32 zero = 0;

	inner = bpf_map_create(BPF_MAP_TYPE_ARRAY, "bn_grace_in", 4, 4, 1, NULL);
	if (inner < 0)
		return -errno;
	o.inner_map_fd = inner;
	outer = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "bn_grace", 4, 4, 1, &o);
	if (outer < 0)
		return -errno;
	return bpf_map_update_elem(outer, &zero, &inner, BPF_ANY) < 0 ? -errno : 0;
}
