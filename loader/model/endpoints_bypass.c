/* SPDX-License-Identifier: MIT */
/* --host-routing auto: may packets of a pod skip the host's stack? Only when nobody else has put
 * anything in the way they would skip: no netfilter rule or policy on forwarded packets, no bridge or
 * netdev hooks, on the pod's interface no queueing discipline, no XDP, no filter of others.
 */
#include "loader/model/endpoints_priv.h"

#include <string.h>

bool ep_bypass(const struct bn_endpoints *e, const struct ep_if *f)
{
	switch (e->env.opts->host_routing) {
	case BN_ROUTING_BPF:
		return true;
	case BN_ROUTING_STACK:
		return false;
	case BN_ROUTING_AUTO:
		break;
	}
	return e->bypass && !f->l->xdp && (!f->l->qdisc[0] || !strcmp(f->l->qdisc, "noqueue"));
}
