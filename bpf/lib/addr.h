/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_ADDR_H
#define BN_BPF_ADDR_H

/* Who an address is: identity for policy, and where it lives if it is a pod of this node. Elements
 * of a hash are reused under a reader, so what it names is compared with what was asked
 * (maps/ep.h).
 */

#include "bpf/lib/pkt.h"
#include "bpf/lib/priv.h"

struct bn_who {
	__u32 identity;
	__u32 slot;    /* local pod, 0: none */
	__u32 ifindex; /* its host-side interface */
	__u16 flags;   /* BN_ADDR_F_* */
	__u16 known;   /* it is an address of its own, not one of a range */
};

static __always_inline const struct bn_ep *bn_addr_ep(const struct bn_addr *a)
{
	struct bn_addr key =
		*a; /* 6.1: "R2 type=mem expected=fp, ..." for what a caller handed in */

	for (int i = 0; i < 2; i++) {
		__u32 *idx = bpf_map_lookup_elem(&addrs, &key);
		const struct bn_ep *ep;
		__u32 at;

		if (!idx)
			return NULL;
		at = *(volatile __u32 *)idx;
		ep = bpf_map_lookup_elem(&eps, &at);
		if (ep && bn_addr_eq(&ep->addr, &key))
			return ep;
	}
	return NULL;
}

/* Slot of the local pod that has this address; 0: none. */
static __always_inline __u32 bn_addr_slot(const struct bn_addr *a)
{
	const struct bn_ep *ep = bn_addr_ep(a);

	return ep ? BN_EP_SLOT(*(volatile __u64 *)&ep->word) : 0;
}

static __always_inline bool bn_addr_is_host(const struct bn_addr *a)
{
	const struct bn_ep *ep = bn_addr_ep(a);

	return ep && (ep->flags & BN_ADDR_F_HOST);
}

__noinline int bn_addr_who(const struct bn_addr *a, struct bn_who *w)
{
	const struct bn_ep *ep;
	struct bn_lpm_key key;
	__u32 *id;

	if (!a || !w)
		return -BN_DROP_INTERNAL;
	__builtin_memset(w, 0, sizeof(*w));
	ep = bn_addr_ep(a);
	if (ep) {
		__u64 word = *(volatile __u64 *)&ep->word;

		w->identity = BN_EP_IDENTITY(word);
		w->slot = BN_EP_SLOT(word);
		w->ifindex = ep->ifindex;
		w->flags = ep->flags;
		w->known = 1;
		return 0;
	}
	key.prefixlen = 128;
	key.addr = *a;
	id = bpf_map_lookup_elem(&cidrs, &key);
	w->identity = id ? *(volatile __u32 *)id : BN_ID_WORLD;
	return 0;
}

/* The interface's element, NULL if it has none. */
static __always_inline const struct bn_iface *bn_iface_get(__u32 ifindex)
{
	const struct bn_iface *f = bpf_map_lookup_elem(&ifaces, &ifindex);

	return f && f->ifindex == ifindex ? f : NULL;
}

#endif
