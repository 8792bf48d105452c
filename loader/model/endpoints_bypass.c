/* SPDX-License-Identifier: MIT */
/* --host-routing auto: may packets of a pod skip the host's stack? Only when nobody else has put
 * anything in the way that they would skip: no netfilter rule or dropping policy on forwarded
 * packets, no bridge or netdev hooks; on the pod's interface no queueing discipline, no XDP, no
 * program and no filter of others. Looked at anew every few seconds; an interface counts as free
 * once it has been seen so after its CNI has had time to set it up. A flow that has begun keeps its
 * way.
 */
#include <string.h>

#include "loader/log.h"
#include "loader/model/endpoints_priv.h"
#include "loader/net/foreign.h"

#define LOOK_NS 2000000000ull

static int by_index(const void *a, const void *b)
{
	const struct bn_foreign_qdisc *p = a, *q = b;

	return (p->ifindex > q->ifindex) - (p->ifindex < q->ifindex);
}

static void look_at_ifaces(struct bn_endpoints *e)
{
	_cleanup_(freep) struct bn_foreign_qdisc *q = NULL;
	struct bn_nl *nl = bn_netstate_nl(e->net);
	size_t n = 0, i;
	int r;

	r = bn_foreign_qdiscs(nl, &q, &n);
	for (i = 0; i < e->nifs; i++) {
		struct ep_if *f = e->ifs[i];
		struct bn_foreign_qdisc key = {.ifindex = f->ifindex}, *d;

		d = n ? bsearch(&key, q, n, sizeof(key), by_index) : NULL;
		f->clear = r >= 0 && f->role == BN_ROLE_POD &&
			   (f->existed || e->now_ns - f->since_ns >= LOOK_NS / 2) &&
			   !(d && d->shaped) && !bn_foreign_filters(nl, f->ifindex, d && d->clsact);
	}
}

void ep_look_bypass(struct bn_endpoints *e)
{
	bool was = e->bypass, first = !e->look_ns;
	char why[96] = "";

	if (e->env.opts->host_routing != BN_ROUTING_AUTO)
		return;
	if (e->look_ns > e->now_ns) {
		ep_wake(e, e->look_ns);
		return;
	}
	e->look_ns = e->now_ns + LOOK_NS;
	ep_wake(e, e->look_ns);
	e->bypass = !bn_foreign_netfilter(why, sizeof(why));
	if (e->bypass)
		look_at_ifaces(e);
	memcpy(e->why_stack, why, sizeof(why));
	if (e->bypass != was || first)
		log_info(e->bypass ? "host routing: packets of pods go past the host's stack%s"
				   : "host routing: through the host's stack, because of %s",
			 why);
}

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
	return e->bypass && (f->role != BN_ROLE_POD || (f->clear && !f->l->xdp));
}

const char *bn_endpoints_host_routing(const struct bn_endpoints *e, const char **why)
{
	*why = "";
	if (e->env.opts->host_routing == BN_ROUTING_BPF ||
	    (e->env.opts->host_routing == BN_ROUTING_AUTO && e->bypass))
		return "bpf";
	*why = e->env.opts->host_routing == BN_ROUTING_STACK ? "--host-routing" : e->why_stack;
	return "stack";
}
