/* SPDX-License-Identifier: MIT */
/* This node's own addresses, and which addresses pods have. */
#include <linux/rtnetlink.h>
#include <string.h>

#include "loader/model/endpoints_priv.h"
#include "loader/model/policies.h"

bool ep_global(const struct bn_nl_addr *a)
{
	return a->scope < RT_SCOPE_LINK && !(bn_addr_is_v4(&a->addr) && a->addr.b[12] == 127);
}

/* IPv4 /16, IPv6 /48: as far as the addresses of one cluster usually lie apart. */
static size_t near_bytes(const struct bn_addr *a)
{
	return bn_addr_is_v4(a) ? 14 : 6;
}

static void range_count(struct bn_endpoints *e, const struct bn_addr *a, int by)
{
	struct ep_range *r;
	size_t i;

	for (i = 0; i < e->nranges; i++) {
		r = &e->ranges[i];
		if (r->v4 == bn_addr_is_v4(a) && !memcmp(&r->addr, a, near_bytes(a))) {
			r->pods += by;
			if (!r->pods)
				*r = e->ranges[--e->nranges];
			return;
		}
	}
	if (by < 0 || ep_room(&e->ranges, e->nranges, &e->aranges, sizeof(*e->ranges)) < 0)
		return;
	e->ranges[e->nranges++] = (struct ep_range){*a, bn_addr_is_v4(a), 1};
}

void ep_ranges_pod(struct bn_endpoints *e, const struct bn_pod *p, int by)
{
	uint32_t i;

	for (i = 0; p && !p->host_network && i < p->nips; i++)
		range_count(e, &p->ips[i], by);
}

/* Node objects may name ranges that the CNI does not use: pods themselves count as well. */
int ep_pod_range(const struct bn_endpoints *e, const struct bn_addr *a)
{
	bool family = false;
	size_t i;

	for (i = 0; i < e->ncidrs; i++) {
		family |= bn_addr_is_v4(&e->cidrs[i].addr) == bn_addr_is_v4(a);
		if (bn_cidr_contains(&e->cidrs[i], a))
			return 1;
	}
	for (i = 0; i < e->nranges; i++) {
		if (e->ranges[i].v4 != bn_addr_is_v4(a))
			continue;
		family = true;
		if (!memcmp(&e->ranges[i].addr, a, near_bytes(a)))
			return 1;
	}
	return family ? 0 : -1;
}

struct subnet {
	struct bn_cidr c;
	bool hit;
};

static int pod_in_subnet(struct bn_obj *o, void *data)
{
	const struct bn_pod *p = (const struct bn_pod *)o;
	struct subnet *s = data;
	uint32_t i;

	for (i = 0; !p->host_network && !s->hit && i < p->nips; i++)
		s->hit = bn_cidr_contains(&s->c, &p->ips[i]);
	return s->hit;
}

bool ep_pods_in(const struct bn_endpoints *e, const struct bn_addr *a, uint8_t prefix)
{
	struct subnet s = {.c = {*a, prefix}};
	size_t i;

	for (i = 0; i < 16; i++) {
		if (i * 8 >= prefix)
			s.c.addr.b[i] = 0;
		else if (prefix - i * 8 < 8)
			s.c.addr.b[i] &= 0xff << (8 - (prefix - i * 8));
	}
	for (i = 0; i < e->ncidrs; i++)
		if (bn_cidr_contains(&e->cidrs[i], a))
			return true;
	bn_store_each(e->env.store, BN_KIND_POD, pod_in_subnet, &s);
	return s.hit;
}

static bool answers_nodeport(const struct bn_opts *o, const struct bn_addr *a)
{
	bool family = false;
	unsigned i;

	for (i = 0; i < o->nnodeport_cidrs; i++) {
		family |= bn_addr_is_v4(&o->nodeport_cidrs[i].addr) == bn_addr_is_v4(a);
		if (bn_cidr_contains(&o->nodeport_cidrs[i], a))
			return true;
	}
	return !family;
}

static int addr_cmp(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct bn_addr));
}

/* Everything this host answers to, but loopback and IPv6 link-local (every link has the same). */
static size_t own_addrs(const struct bn_endpoints *e, struct bn_addr *ret)
{
	const struct bn_nl_addr *a;
	size_t n = bn_netstate_addrs(e->net, &a), i, k = 0, m = 0;

	for (i = 0; i < n; i++) {
		const struct bn_addr *x = &a[i].addr;
		const struct ep_if *f = ep_if_get(e, a[i].ifindex);

		/* What kube-proxy's IPVS mode left behind holds the services' addresses. */
		if (f && !strcmp(f->l->name, "kube-ipvs0"))
			continue;

		if (bn_addr_is_v4(x) ? x->b[12] == 127 || !x->w[3] : a[i].scope >= RT_SCOPE_LINK)
			continue;
		ret[k++] = *x;
	}
	qsort(ret, k, sizeof(*ret), addr_cmp);
	for (i = 0; i < k; i++)
		if (!i || !bn_addr_eq(&ret[i], &ret[i - 1]))
			ret[m++] = ret[i];
	return m;
}

int ep_hosts(struct bn_endpoints *e)
{
	const struct bn_nl_addr *all;
	_cleanup_(freep) struct bn_addr *now =
		calloc(bn_netstate_addrs(e->net, &all) + 1, sizeof(*now));
	size_t n, i;
	int r, err = 0;

	if (!now)
		return -ENOMEM;
	n = own_addrs(e, now);
	for (i = 0; i < n; i++) {
		r = bn_eps_set_host(e->env.eps, &now[i], answers_nodeport(e->env.opts, &now[i]));
		err = err ?: r;
	}
	for (i = 0; i < e->nhosts; i++)
		if (!bsearch(&e->hosts[i], now, n, sizeof(*now), addr_cmp)) {
			r = bn_eps_clear(e->env.eps, &e->hosts[i], BN_EPS_HOST);
			err = err ?: r;
		}
	if (!e->hosts) {
		r = bn_eps_settle(e->env.eps, BN_EPS_HOST);
		err = err ?: r;
	}
	if (e->env.policies) {
		r = bn_policies_host(e->env.policies, now, n);
		err = err ?: r;
	}
	if (err < 0)
		return err;
	free(e->hosts);
	e->hosts = TAKE_PTR(now);
	e->nhosts = n;
	e->hosts_dirty = false;
	return 0;
}
