// SPDX-License-Identifier: GPL-2.0-only
/* Both directions of the node's uplinks and tunnels. from_net: outside clients of NodePorts,
 * LoadBalancer and external addresses and ClusterIPs, and the replies of remote backends; to_net: the
 * replies of local backends, and the node's own packets to services.
 */

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "bpf/lib/entry.h"
#include "bpf/lib/net.h"

static __always_inline struct bn_pkt *bn_net_pkt(__u8 hook, __u8 dir)
{
	struct bn_scratch *s = bn_scratch_get();

	if (!s)
		return NULL;
	__builtin_memset(&s->p, 0, sizeof(s->p));
	s->p.hook = hook;
	s->p.dir = dir;
	return &s->p;
}
