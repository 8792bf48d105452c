/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "loader/model/endpoints_priv.h"
#include "loader/model/policies.h"

#define PATIENCE_NS	1000000000ull /* for a pod with an address and no interface in sight */
#define PATIENCE_MAX_NS 5000000000ull /* while some interface is still unknown */

static bool some_unknown(const struct bn_endpoints *e)
{
	size_t i;

	for (i = 0; i < e->nifs; i++)
		if (e->ifs[i]->role == BN_ROLE_POD && !e->ifs[i]->pod && !e->ifs[i]->unmanaged)
			return true;
	return false;
}

/* A pod with an address that no interface leads to is not missed at once: the two are told by
 * different parties, in any order.
 */
static uint64_t patience(const struct bn_endpoints *e)
{
	return some_unknown(e) ? PATIENCE_MAX_NS : PATIENCE_NS;
}

static bool missing(const struct ep_pod *p)
{
	return ep_pod_wants(p) && !(p->ifindex && p->slot);
}

static bool unenforced(const struct ep_pod *p, uint64_t now, uint64_t patience_ns)
{
	return missing(p) && now - p->since_ns >= patience_ns;
}

bool bn_endpoints_settled(const struct bn_endpoints *e)
{
	uint64_t now = ep_now(), wait = patience(e);
	size_t i;

	if (!e->ready || !e->settled || e->dirty)
		return false;
	for (i = 0; i < e->nlpods; i++)
		if (missing(e->lpods[i]) && !unenforced(e->lpods[i], now, wait))
			return false;
	for (i = 0; i < e->nifs; i++)
		if (e->ifs[i]->role && e->ifs[i]->attach_err)
			return false;
	return true;
}

static const char *const evidence[EP_BY__MAX] = {"none",      "cni",	 "route",
						 "namespace", "sibling", "bridge"};

static int pod_json(struct bn_endpoints *e, const struct ep_pod *p, json_t **ret)
{
	const struct ep_if *f = ep_if_get(e, p->ifindex);
	bool in = true, out = true; /* closed until the policies say otherwise */
	char buf[BN_ADDR_STRLEN];
	json_t *addrs, *j;
	uint32_t i;

	if (e->env.policies)
		bn_policies_isolated(e->env.policies, p->slot, &in, &out);
	addrs = json_array();
	for (i = 0; addrs && i < p->nhave; i++)
		json_array_append_new(addrs, json_string(bn_addr_format(&p->have[i].addr, buf)));
	j = json_pack("{s:s, s:s, s:s, s:o, s:s, s:s, s:i, s:i, s:s, s:b}", "namespace",
		      p->obj->o.ns, "name", p->obj->o.name, "interface", f->l->name, "addresses",
		      addrs, "ingress", in ? "isolated" : "open", "egress",
		      out ? "isolated" : "open", "ifindex", (int)f->ifindex, "slot", (int)p->slot,
		      "foundBy", evidence[f->by], "bypass", ep_bypass(e, f));
	if (!j)
		return -ENOMEM;
	*ret = j;
	return 0;
}

static int pod_cmp(const void *a, const void *b)
{
	const struct ep_pod *p = *(struct ep_pod *const *)a, *q = *(struct ep_pod *const *)b;
	int r = strcmp(p->obj->o.ns, q->obj->o.ns);

	return r ? r : strcmp(p->obj->o.name, q->obj->o.name);
}

/* Local pods sorted by name; NULL without memory. */
static struct ep_pod **sorted(const struct bn_endpoints *e)
{
	struct ep_pod **v = calloc(e->nlpods + 1, sizeof(struct ep_pod *));

	if (!v)
		return NULL;
	if (e->nlpods)
		memcpy(v, e->lpods, e->nlpods * sizeof(struct ep_pod *));
	qsort(v, e->nlpods, sizeof(struct ep_pod *), pod_cmp);
	return v;
}

int bn_endpoints_json(struct bn_endpoints *e, json_t **ret)
{
	_cleanup_(freep) struct ep_pod **v = sorted(e);
	_cleanup_(json_decrefp) json_t *list = json_array();
	json_t *j;
	size_t i;
	int r;

	if (!v || !list)
		return -ENOMEM;
	for (i = 0; i < e->nlpods; i++) {
		if (!v[i]->ifindex || !v[i]->slot)
			continue;
		r = pod_json(e, v[i], &j);
		if (r < 0)
			return r;
		if (json_array_append_new(list, j))
			return -ENOMEM;
	}
	*ret = TAKE_PTR(list);
	return 0;
}

/* Interfaces of role pod without a pod, and pods without an interface. */
int bn_endpoints_problems(struct bn_endpoints *e, json_t **ret)
{
	_cleanup_(freep) struct ep_pod **v = sorted(e);
	_cleanup_(json_decrefp) json_t *list = json_array();
	uint64_t now = ep_now(), wait = patience(e);
	json_t *j, *addrs;
	char buf[BN_ADDR_STRLEN];
	uint32_t k;
	size_t i;

	if (!v || !list)
		return -ENOMEM;
	for (i = 0; i < e->nlpods; i++) {
		if (!e->ready || !unenforced(v[i], now, wait))
			continue;
		j = json_pack("{s:s, s:s, s:s}", "kind", "unenforced", "namespace", v[i]->obj->o.ns,
			      "name", v[i]->obj->o.name);
		if (json_array_append_new(list, j))
			return -ENOMEM;
	}
	for (i = 0; i < e->nifs; i++) {
		const struct ep_if *f = e->ifs[i];

		if (f->role != BN_ROLE_POD || f->pod)
			continue;
		addrs = json_array();
		for (k = 0; addrs && k < f->nids; k++)
			json_array_append_new(addrs, json_string(bn_addr_format(&f->ids[k], buf)));
		j = json_pack("{s:s, s:s, s:o, s:b}", "kind",
			      f->unmanaged ? "unmanaged" : "unknown", "interface", f->l->name,
			      "addresses", addrs, "closed", !f->open);
		if (json_array_append_new(list, j))
			return -ENOMEM;
	}
	*ret = TAKE_PTR(list);
	return 0;
}

void bn_endpoints_stats(const struct bn_endpoints *e, struct bn_endpoints_stats *ret)
{
	struct bn_endpoints_stats s = {.resyncs = bn_netstate_resyncs(e->net)};
	uint64_t now = ep_now(), wait = patience(e);
	size_t i;

	for (i = 0; i < e->nlpods; i++) {
		s.pods += e->lpods[i]->ifindex && e->lpods[i]->slot;
		s.unenforced += e->ready && unenforced(e->lpods[i], now, wait);
	}
	for (i = 0; i < e->nifs; i++) {
		const struct ep_if *f = e->ifs[i];

		s.uplinks += f->role == BN_ROLE_UPLINK;
		s.tunnels += f->role == BN_ROLE_TUNNEL;
		s.attach_errors += f->attach_err != 0;
		if (f->role != BN_ROLE_POD || f->pod)
			continue;
		s.unmanaged += f->unmanaged;
		s.unknown += !f->unmanaged;
		s.closed += !f->open;
	}
	*ret = s;
}

bool bn_endpoints_slot_pod(const struct bn_endpoints *e, uint32_t slot, const char **ns,
			   const char **name)
{
	size_t i;

	for (i = 0; slot && i < e->nlpods; i++) {
		if (e->lpods[i]->slot != slot)
			continue;
		*ns = e->lpods[i]->obj->o.ns;
		*name = e->lpods[i]->obj->o.name;
		return true;
	}
	return false;
}

const char *const *bn_endpoints_devices(const struct bn_endpoints *e)
{
	static const char *const none[] = {NULL};

	return e->devices ? (const char *const *)e->devices : none;
}
