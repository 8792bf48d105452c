/* SPDX-License-Identifier: MIT */
/* --xdp: which uplinks get xdp_net. Whatever it does not do from_net does, so an uplink without it is
 * never wrong; one whose program sends frames into nothing is. So XDP sends only where the
 * kernel says that the driver takes them, looked at anew every few seconds: a veth, for one,
 * takes them only while its peer has a program or GRO (and what is sent back by XDP_TX waits there if
 * it has only the latter, so veths are sent to by redirect always).
 *
 * auto: hardware whose driver has native XDP and loses nothing by a program. veths lose TSO and large
 * MTUs, many drivers LRO or GRO in hardware. A VLAN on top of the device forbids it: drivers may
 * hide the tag from XDP.
 */
#include <linux/if_arp.h>
#include <string.h>

#include "loader/kernel/kernel.h"
#include "loader/log.h"
#include "loader/model/endpoints_priv.h"
#include "loader/net/xdpdev.h"

#define LOOK_NS	 2000000000ull
#define RETRY_NS 30000000000ull

static int by_index(const void *a, const void *b)
{
	const struct bn_xdp_dev *p = a, *q = b;

	return (p->ifindex > q->ifindex) - (p->ifindex < q->ifindex);
}

void ep_look_xdp(struct bn_endpoints *e)
{
	_cleanup_(freep) struct bn_xdp_dev *v = NULL;
	size_t n = 0, i;

	if (e->env.opts->xdp == BN_XDP_OFF)
		return;
	if (e->xdp_look_ns > e->now_ns) {
		ep_wake(e, e->xdp_look_ns);
		return;
	}
	e->xdp_known = bn_xdp_devices(&v, &n) == 0;
	for (i = 0; i < e->nifs; i++) {
		struct bn_xdp_dev key = {.ifindex = e->ifs[i]->ifindex}, *d;

		d = n ? bsearch(&key, v, n, sizeof(key), by_index) : NULL;
		e->ifs[i]->xdp_can = d ? d->can : 0;
	}
	if (!e->xdp_known) /* it will not learn it later */
		return;
	e->xdp_look_ns = e->now_ns + LOOK_NS;
	ep_wake(e, e->xdp_look_ns);
}

uint16_t ep_xdp_flags(const struct bn_endpoints *e, const struct ep_if *f)
{
	bool veth = !strcmp(f->l->kind, "veth");
	uint16_t flags = 0;

	if (e->env.opts->xdp == BN_XDP_OFF || f->role != BN_ROLE_UPLINK || f->l->type != ARPHRD_ETHER)
		return 0;
	if (f->xdp_on && !veth)
		flags |= BN_IF_F_XDP_TX;
	if (f->xdp_can & BN_XDP_CAN_XMIT)
		flags |= BN_IF_F_XDP_XMIT;
	return flags;
}

static bool has_vlans(const struct bn_endpoints *e, const struct ep_if *f)
{
	size_t i;

	for (i = 0; i < e->nifs; i++)
		if (!strcmp(e->ifs[i]->l->kind, "vlan") && e->ifs[i]->l->link == f->ifindex)
			return true;
	return false;
}

/* NULL: it shall have it. */
static const char *why_not(const struct bn_endpoints *e, const struct ep_if *f)
{
	enum bn_xdp mode = e->env.opts->xdp;

	if (mode == BN_XDP_OFF)
		return "--xdp off";
	if (f->l->type != ARPHRD_ETHER)
		return "not Ethernet";
	if (!strcmp(f->l->kind, "bond") || !strcmp(f->l->kind, "team"))
		return "a bond: XDP sees the frames of its ports";
	if (has_vlans(e, f))
		return "VLANs on top of it";
	if (mode != BN_XDP_AUTO)
		return NULL;
	if (f->l->kind[0])
		return "not hardware: --xdp native";
	if (e->xdp_known && !(f->xdp_can & BN_XDP_CAN_BASIC))
		return "no native XDP in its driver";
	if (!f->xdp_on && bn_xdp_costs_offloads(f->l->name))
		return "LRO or GRO in hardware would be lost: --xdp native";
	return NULL;
}

static void take_off(struct bn_endpoints *e, struct ep_if *f)
{
	if ((!f->xdp_on && f->xdp_looked) || !e->env.kernel)
		return;
	if (bn_kernel_detach_xdp(e->env.kernel, f->ifindex) == 0)
		log_info("interface %s: XDP program taken off: %s", f->l->name, f->xdp_why);
	f->xdp_on = false;
	f->xdp_looked = true;
}

void ep_xdp_attach(struct bn_endpoints *e, struct ep_if *f)
{
	const char *why = f->role == BN_ROLE_UPLINK ? why_not(e, f) : "not an uplink";
	_cleanup_(freep) char *err = NULL;
	int r;

	if (why) {
		snprintf(f->xdp_why, sizeof(f->xdp_why), "%s", why);
		f->xdp_retry_ns = 0;
		take_off(e, f);
		return;
	}
	if (f->xdp_on || !e->env.kernel)
		return;
	if (f->xdp_retry_ns > e->now_ns) {
		ep_wake(e, f->xdp_retry_ns);
		return;
	}
	r = bn_kernel_attach_xdp(e->env.kernel, f->ifindex, &err);
	if (r == -ENODEV)
		return;
	if (r < 0) {
		if (!f->xdp_retry_ns)
			log_warn("no XDP: %s; TC does its work", err ?: strerror(-r));
		snprintf(f->xdp_why, sizeof(f->xdp_why), "%s", err ?: strerror(-r));
		f->xdp_retry_ns = e->now_ns + RETRY_NS;
		ep_wake(e, f->xdp_retry_ns);
		return;
	}
	f->xdp_on = f->xdp_looked = true;
	f->xdp_why[0] = '\0';
	f->xdp_retry_ns = 0;
	e->xdp_look_ns = 0; /* drivers can do more once a program is there */
	ep_wake(e, e->now_ns + LOOK_NS / 10);
	log_info("interface %s: XDP program attached", f->l->name);
}

/* Where it may send: "back" where the frame came from, "out" of this interface whatever came in on
 * another; what may not is handed up to TC.
 */
static json_t *sends(uint16_t flags)
{
	json_t *a = json_array();

	if (flags & BN_IF_F_XDP_TX)
		json_array_append_new(a, json_string("back"));
	if (flags & BN_IF_F_XDP_XMIT)
		json_array_append_new(a, json_string("out"));
	return a;
}

json_t *bn_endpoints_xdp(const struct bn_endpoints *e)
{
	json_t *list = json_array();
	size_t i;

	for (i = 0; list && i < e->nifs; i++) {
		const struct ep_if *f = e->ifs[i];

		if (f->role == BN_ROLE_UPLINK)
			json_array_append_new(
				list, json_pack("{s:s, s:s, s:o, s:s}", "interface", f->l->name,
						"mode", f->xdp_on ? "native" : "off", "sends",
						sends(ep_xdp_flags(e, f)), "because", f->xdp_why));
	}
	return list;
}
