/* SPDX-License-Identifier: MIT */
/* Wanted state to maps, programs and policies. Add before delete: slots and addresses first, then
 * the interfaces that name them, then programs; what is no longer wanted goes last.
 */
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <string.h>

#include "loader/kernel/kernel.h"
#include "loader/log.h"
#include "loader/model/endpoints_priv.h"
#include "loader/model/policies.h"

#define RETRY_NS 2000000000ull

/* --- what an earlier daemon left ------------------------------------------------------------- */

struct slot_addrs {
	uint32_t slot, n;
	struct bn_addr addrs[64];
};

static int of_slot(const struct bn_ep *ep, void *data)
{
	struct slot_addrs *s = data;

	if (BN_EP_SLOT(ep->word) == s->slot && s->n < ARRAY_SIZE(s->addrs))
		s->addrs[s->n++] = ep->addr;
	return 0;
}

/* No address may name a slot that is given away. */
static void clear_slot(struct bn_endpoints *e, uint32_t slot)
{
	struct slot_addrs s = {.slot = slot};
	uint32_t i;

	do {
		s.n = 0;
		bn_eps_each(e->env.eps, of_slot, &s);
		for (i = 0; i < s.n; i++)
			if (bn_eps_clear(e->env.eps, &s.addrs[i], BN_EPS_LOCAL) < 0)
				return;
	} while (s.n == ARRAY_SIZE(s.addrs));
}

void ep_drop_adopted(struct bn_endpoints *e, struct ep_if *f)
{
	uint32_t slot = f->adopted_slot;
	size_t i;

	f->adopted_slot = 0;
	if (!slot)
		return;
	for (i = 0; i < e->nifs; i++)
		if (e->ifs[i] != f && e->ifs[i]->adopted_slot == slot)
			return; /* the pod's other interface still has it */
	clear_slot(e, slot);
	bn_pods_release(e->pods, slot);
}

/* --- slots ----------------------------------------------------------------------------------- */

static int give_slot(struct bn_endpoints *e, struct ep_pod *p)
{
	struct ep_if *f = ep_if_get(e, p->ifindex);
	bool adopted = f->adopted_slot != 0;
	uint32_t slot = f->adopted_slot;
	size_t i;
	int r;

	if (!adopted) {
		r = bn_pods_alloc(e->pods, p->ifindex, &slot);
		if (r < 0) {
			log_err_r(r, "pod %s/%s gets no slot: it stays closed", p->obj->o.ns,
				  p->obj->o.name);
			return r;
		}
	}
	if (e->env.policies) {
		r = bn_policies_slot(e->env.policies, slot, p->obj->o.ns, p->obj->o.name, adopted);
		if (r < 0) {
			if (!adopted)
				bn_pods_release(e->pods, slot);
			return log_err_r(r, "pod %s/%s gets no policies: it stays closed",
					 p->obj->o.ns, p->obj->o.name);
		}
	}
	for (i = 0; i < e->nifs; i++)
		if (e->ifs[i]->adopted_slot == slot)
			e->ifs[i]->adopted_slot = 0;
	p->slot = slot;
	p->slot_if = p->ifindex;
	return 0;
}

static void take_slot(struct bn_endpoints *e, uint32_t slot)
{
	if (e->env.policies)
		bn_policies_slot_gone(e->env.policies, slot);
	bn_pods_release(e->pods, slot);
}

/* --- addresses of local pods ----------------------------------------------------------------- */

/* The pod's interface that has the address: on its peer, by a host route, else the first one. */
static const struct ep_if *iface_of(const struct bn_endpoints *e, const struct ep_pod *p,
				    const struct bn_addr *a)
{
	const struct ep_if *f = ep_if_get(e, bn_netstate_hroute(e->net, a));
	uint32_t k;
	size_t i;

	if (f && f->pod == p)
		return f;
	for (i = 0; i < e->nifs; i++)
		for (k = 0; e->ifs[i]->pod == p && k < e->ifs[i]->nids; k++)
			if (e->ifs[i]->on_peer[k] && bn_addr_eq(&e->ifs[i]->ids[k], a))
				return e->ifs[i];
	return ep_if_get(e, p->ifindex);
}

static void want_addr(const struct bn_endpoints *e, const struct ep_pod *p, const struct bn_addr *a,
		      struct ep_local *v, uint32_t *n, uint32_t max)
{
	const struct ep_if *f;
	uint32_t i;

	if (*n == max || bn_addr_is_zero(a) || ep_claimant(e, a) != p ||
	    bn_eps_owns(e->env.eps, a, BN_EPS_HOST))
		return;
	for (i = 0; i < *n; i++)
		if (bn_addr_eq(&v[i].addr, a))
			return;
	f = iface_of(e, p, a);
	v[*n] = (struct ep_local){*a, {.slot = p->slot, .ifindex = f->ifindex}};
	memcpy(v[*n].l.mac, f->peer_mac, 6);
	++*n;
}

/* Room for all that p may have; NULL without memory. */
static struct ep_local *wanted_addrs(const struct bn_endpoints *e, const struct ep_pod *p,
				     uint32_t *n)
{
	const struct bn_cni_entry *const *c = e->centries;
	size_t i;
	uint32_t max = p->obj->nips + 4 * BN_CNI_ADDRS, k;
	struct ep_local *v = calloc(max, sizeof(*v));

	*n = 0;
	if (!v || !p->slot || !p->ifindex)
		return v;
	for (k = 0; k < p->obj->nips; k++)
		want_addr(e, p, &p->obj->ips[k], v, n, max);
	for (i = 0; i < e->ncentries; i++)
		if (!strcmp(c[i]->ns, p->obj->o.ns) && !strcmp(c[i]->pod, p->obj->o.name))
			for (k = 0; k < c[i]->naddrs; k++)
				want_addr(e, p, &c[i]->addrs[k], v, n, max);
	return v;
}

static bool in_locals(const struct ep_local *v, uint32_t n, const struct bn_addr *a)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (bn_addr_eq(&v[i].addr, a))
			return true;
	return false;
}

/* What p had and does not want: unless another pod has taken the address over meanwhile. */
static int drop_addrs(struct bn_endpoints *e, const struct ep_pod *p, uint32_t slot,
		      const struct ep_local *want, uint32_t nwant)
{
	struct bn_ep ep;
	uint32_t i;
	int r;

	for (i = 0; i < p->nhave; i++) {
		if (in_locals(want, nwant, &p->have[i].addr) ||
		    bn_eps_get(e->env.eps, &p->have[i].addr, &ep) < 0 ||
		    BN_EP_SLOT(ep.word) != slot)
			continue;
		r = bn_eps_clear(e->env.eps, &p->have[i].addr, BN_EPS_LOCAL);
		if (r < 0)
			return r;
	}
	return 0;
}

struct step { /* of one pod, between the two halves of apply */
	struct ep_pod *pod;
	struct ep_local *want;
	uint32_t nwant, old_slot;
};

static int pod_begin(struct bn_endpoints *e, struct step *s)
{
	struct ep_pod *p = s->pod;
	uint32_t i;
	int r, err = 0;

	s->old_slot = p->slot;
	if (p->ifindex && p->slot && p->slot_if != p->ifindex)
		p->slot = 0;
	if (p->ifindex && !p->slot) {
		r = give_slot(e, p);
		if (r < 0)
			err = r;
	}
	s->want = wanted_addrs(e, p, &s->nwant);
	if (!s->want)
		return -ENOMEM;
	for (i = 0; i < s->nwant; i++) {
		r = bn_eps_set_local(e->env.eps, &s->want[i].addr, &s->want[i].l);
		err = err ?: r;
	}
	return err;
}

static int pod_end(struct bn_endpoints *e, struct step *s)
{
	struct ep_pod *p = s->pod;
	int r;

	r = drop_addrs(e, p, s->old_slot, s->want, s->nwant);
	if (r < 0)
		return r;
	free(p->have);
	p->have = TAKE_PTR(s->want);
	p->nhave = s->nwant;
	if (!p->ifindex)
		p->slot = 0;
	if (s->old_slot && s->old_slot != p->slot)
		take_slot(e, s->old_slot);
	return 0;
}

/* --- interfaces ------------------------------------------------------------------------------ */

static bool usable(const struct bn_nl_addr *a)
{
	return ep_global(a) &&
	       !(a->flags & (IFA_F_DEPRECATED | IFA_F_DADFAILED | IFA_F_TEMPORARY)) &&
	       (!(a->flags & IFA_F_TENTATIVE) || a->flags & IFA_F_OPTIMISTIC);
}

/* The first usable address of each family, as the kernel lists them: the primary one. */
static void primaries(const struct bn_endpoints *e, uint32_t ifindex, struct bn_addr *v4,
		      struct bn_addr *v6)
{
	const struct bn_nl_addr *a;
	size_t n = bn_netstate_addrs(e->net, &a), i;

	for (i = 0; i < n; i++) {
		bool four = bn_addr_is_v4(&a[i].addr);

		if (a[i].ifindex != ifindex || !usable(&a[i]) ||
		    (four && a[i].flags & IFA_F_SECONDARY))
			continue;
		if (bn_addr_is_zero(four ? v4 : v6))
			*(four ? v4 : v6) = a[i].addr;
	}
}

/* Before the lists are read, what was in force stays; and a node that bpfnet has just come to is
 * not cut off from its pods.
 */
static bool leave_alone(const struct bn_endpoints *e, const struct ep_if *f)
{
	return !e->ready && !f->pod && !f->uplink && (f->adopted || (e->fresh && f->existed));
}

static void want_iface(const struct bn_endpoints *e, const struct ep_if *f, struct bn_iface *v)
{
	*v = (struct bn_iface){.role = f->role, .ifindex = f->ifindex};
	v->l2_len = f->l->type == ARPHRD_ETHER ? 14 : 0;
	v->mtu = f->l->mtu < UINT16_MAX ? f->l->mtu : UINT16_MAX;
	memcpy(v->mac, f->l->mac, sizeof(v->mac));
	if (f->role != BN_ROLE_POD) {
		primaries(e, f->ifindex, &v->addr4, &v->addr6);
		if (ep_bypass(e, f))
			v->flags |= BN_IF_F_BYPASS;
		v->flags |= ep_xdp_flags(e, f);
		return;
	}
	v->slot = f->pod ? f->pod->slot : 0;
	if (f->l->link_nsid >= 0)
		v->flags |= BN_IF_F_PEER;
	if (!strcmp(f->l->slave_kind, "bridge")) {
		v->flags |= BN_IF_F_BRIDGE;
		v->master = f->l->master;
	}
	if (!f->pod && f->open)
		v->flags |= BN_IF_F_OPEN;
	if (f->pod && ep_bypass(e, f))
		v->flags |= BN_IF_F_BYPASS;
}

static int attach(struct bn_endpoints *e, struct ep_if *f, enum bn_role role)
{
	_cleanup_(freep) char *err = NULL;
	int r;

	if (f->attached == role && !f->attach_err)
		return 0;
	if (f->attach_err && f->retry_ns > e->now_ns) {
		ep_wake(e, f->retry_ns);
		return 0;
	}
	r = e->env.kernel ? bn_kernel_attach_iface(e->env.kernel, f->ifindex, role, &err) : 0;
	if (r == -ENODEV)
		return 0; /* gone: the notification is on its way */
	if (r < 0) {
		if (!f->attach_err)
			log_error("interface %s: %s; trying again", f->l->name,
				  err ?: strerror(-r));
		f->attach_err = r;
		f->retry_ns = e->now_ns + RETRY_NS;
		ep_wake(e, f->retry_ns);
		return 0;
	}
	if (f->attach_err)
		log_info("interface %s: programs attached", f->l->name);
	f->attach_err = 0;
	f->attached = role;
	return 0;
}

static int detach(struct bn_endpoints *e, struct ep_if *f)
{
	int r;

	if (e->env.kernel) {
		r = bn_kernel_detach_iface(e->env.kernel, f->ifindex);
		if (r < 0 && r != -ENOENT && r != -ENODEV)
			return log_err_r(r, "taking the programs from interface %s", f->l->name);
	}
	f->attached = BN_ROLE_NONE;
	f->adopted = false;
	f->attach_err = 0;
	return bn_pods_del_iface(e->pods, f->ifindex);
}

/* After TC: what XDP hands up must meet it. */
static int apply_xdp(struct bn_endpoints *e, struct ep_if *f)
{
	struct bn_iface v;

	ep_xdp_attach(e, f);
	want_iface(e, f, &v);
	return bn_pods_set_iface(e->pods, f->ifindex, &v);
}

static int apply_iface(struct bn_endpoints *e, struct ep_if *f)
{
	struct bn_iface v;
	int r;

	if (leave_alone(e, f))
		return f->adopted && f->adopted_role ? attach(e, f, f->adopted_role) : 0;
	if (f->role == BN_ROLE_NONE) {
		if (f->attached || f->adopted || !bn_pods_iface(e->pods, f->ifindex, &v)) {
			r = detach(e, f);
			ep_drop_adopted(e, f);
			return r;
		}
		return 0;
	}
	want_iface(e, f, &v);
	r = bn_pods_set_iface(e->pods, f->ifindex, &v);
	if (r < 0)
		return log_err_r(r, "interface %s is not noted", f->l->name);
	ep_drop_adopted(e, f); /* named by nothing now, if no pod took it over */
	r = attach(e, f, f->role);
	return r < 0 || f->attached != f->role ? r : apply_xdp(e, f);
}

/* --- this node's own addresses, devices ------------------------------------------------------ */

static bool is_own(const struct bn_endpoints *e, const struct bn_addr *a)
{
	size_t i;

	for (i = 0; i < e->nhosts; i++)
		if (bn_addr_eq(&e->hosts[i], a))
			return true;
	return false;
}

static void apply_node(struct bn_endpoints *e)
{
	struct bn_addr v4 = {}, v6 = {};
	const struct bn_nl_route *rt;
	size_t n, i;

	if (is_own(e, &e->node4))
		v4 = e->node4;
	if (is_own(e, &e->node6))
		v6 = e->node6;
	n = bn_netstate_routes(e->net, &rt);
	for (i = 0; i < n; i++)
		if (bn_nl_is_default_route(&rt[i]))
			primaries(e, rt[i].oifs[0], &v4, &v6);
	for (i = 0; i < e->nifs; i++)
		if (e->ifs[i]->role == BN_ROLE_UPLINK)
			primaries(e, e->ifs[i]->ifindex, &v4, &v6);
	bn_pods_set_node(e->pods, &v4, &v6);
}

static int apply_devices(struct bn_endpoints *e)
{
	_cleanup_(freep) char **v = NULL;
	size_t i, n = 0, size = (e->nifs + 1) * (sizeof(char *) + IFNAMSIZ);
	bool same = true;
	char *text;

	v = calloc(1, size);
	if (!v)
		return -ENOMEM;
	text = (char *)(v + e->nifs + 1);
	for (i = 0; i < e->nifs; i++) {
		struct ep_if *f = e->ifs[i];

		if (f->role != BN_ROLE_UPLINK && f->role != BN_ROLE_TUNNEL)
			continue;
		v[n] = memcpy(text + n * IFNAMSIZ, f->l->name, IFNAMSIZ);
		same = same && e->devices && e->devices[n] && !strcmp(e->devices[n], v[n]);
		n++;
	}
	if (same && e->devices && !e->devices[n])
		return 0;
	free(e->devices);
	e->devices = TAKE_PTR(v);
	if (e->env.kernel)
		bn_kernel_record_devices(e->env.kernel, (const char *const *)e->devices, NULL);
	return 0;
}

/* --- all of it ------------------------------------------------------------------------------- */

static int apply_settle(struct bn_endpoints *e)
{
	int r;

	if (!e->ready)
		return 0;
	if (!e->settled) {
		r = bn_eps_settle(e->env.eps, BN_EPS_LOCAL);
		if (r < 0)
			return r;
		e->settled = true;
	}
	if (!e->swept && e->env.kernel) {
		r = bn_kernel_sweep(e->env.kernel);
		if (r < 0)
			return log_err_r(r, "taking away programs that an earlier daemon left");
		e->swept = true;
	}
	return 0;
}

/* Those that have or shall have something in the maps; s has room for all. */
static size_t concerned(const struct bn_endpoints *e, struct step *s)
{
	size_t n = 0, i;

	for (i = 0; i < e->nlpods; i++)
		if (e->lpods[i]->ifindex || e->lpods[i]->slot || e->lpods[i]->nhave)
			s[n++].pod = e->lpods[i];
	for (i = 0; i < e->ngone; i++)
		s[n++].pod = e->gone[i];
	return n;
}

int ep_apply(struct bn_endpoints *e)
{
	_cleanup_(freep) struct step *s = calloc(e->nlpods + e->ngone + 1, sizeof(*s));
	int r, err = 0, iferr = 0;
	size_t n, i;

	if (!s)
		return -ENOMEM;
	n = concerned(e, s);
	for (i = 0; i < n; i++) {
		r = pod_begin(e, &s[i]);
		err = err ?: r;
	}
	for (i = 0; i < e->nifs; i++) {
		r = apply_iface(e, e->ifs[i]);
		iferr = iferr ?: r;
	}
	for (i = 0; i < n; i++) {
		/* Not while an interface may still name what would be given back. */
		if (!iferr && s[i].want) {
			r = pod_end(e, &s[i]);
			err = err ?: r;
		}
		free(s[i].want);
	}
	err = err ?: iferr;
	if (err < 0)
		return err;
	for (i = 0; i < e->ngone; i++)
		ep_pod_free(e->gone[i]);
	e->ngone = 0;
	apply_node(e);
	r = apply_devices(e);
	return r < 0 ? r : apply_settle(e);
}
