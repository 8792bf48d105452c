/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_FRAG_H
#define BN_BPF_FRAG_H

/* Fragments at TC: the first one is remembered, later ones take their ports from it. */

#include "bpf/lib/parse.h"

/* First fragments, so that later ones (which carry no ports) find their flow. Private to the object
 * and to one direction of one interface: no pod can write what another's fragments are judged by.
 */
struct bn_frag_key {
	struct bn_addr src, dst;
	__u32 id;
	__u32 ifindex;
	__u8 proto;
	__u8 hook;
	__u8 pad[6];
};

struct bn_frag_val {
	__be16 sport, dport;
	__u32 seen_s;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct bn_frag_key);
	__type(value, struct bn_frag_val);
	__uint(max_entries, 8192);
} frags SEC(".maps");

static __always_inline int bn_parse_frag(bn_ctx *ctx, struct bn_pkt *p, const struct bn_frag *f)
{
	struct bn_frag_key key;
	struct bn_frag_val *v, new = {};
	int r;

	__builtin_memset(&key, 0, sizeof(key));
	key.src = p->t.src;
	key.dst = p->t.dst;
	key.id = f->id;
	key.ifindex = p->ifindex;
	key.proto = p->proto;
	key.hook = p->hook;
	p->flags |= BN_PKT_F_FRAG;
	if (f->off + p->l4_len > 65535 || !p->l4_len || (f->more && (p->l4_len & 7)))
		return -BN_DROP_BAD_HEADER;
	if (!f->off) {
		r = bn_parse_l4(ctx, p);
		if (r)
			return r;
		new.sport = p->t.sport;
		new.dport = p->t.dport;
		new.seen_s = p->now_s;
		bpf_map_update_elem(&frags, &key, &new, BPF_ANY);
		return 0;
	}
	p->flags |= BN_PKT_F_LATER;
	p->tcp = BN_TCP_ACK;
	if (p->proto == BN_PROTO_TCP && f->off < 20)
		return -BN_DROP_BAD_HEADER; /* would be written over the header that was judged */
	if (!bn_pkt_has_ports(p) && p->proto != BN_PROTO_ICMP && p->proto != BN_PROTO_ICMP6)
		return 0;
	v = bpf_map_lookup_elem(&frags, &key);
	if (!v || p->now_s - v->seen_s > 60)
		return -BN_DROP_FRAGMENT;
	p->t.sport = v->sport;
	p->t.dport = v->dport;
	return 0;
}

#endif
