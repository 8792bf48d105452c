/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_SCRATCH_H
#define BN_BPF_SCRATCH_H

/* The working memory of one packet under way, per CPU and object, and the clock. */

#include "bpf/lib/addr.h"
#include "bpf/lib/ct_state.h"
#include "bpf/lib/ctx.h"
#include "bpf/lib/policy.h"
#include "bpf/lib/svc.h"
#include "bpf/lib/tunnel.h"

#define BN_FLOW_PORT_TRIES 24

struct bn_ends {
	struct bn_tuple t; /* src: the real client, dst: the real server */
	__u32 slot;	   /* whose policy */
	__u32 ct_flags;	   /* BN_CT_F_* */
	__u32 fresh;
	__u8 proto;
	__u8 dir;  /* enum bn_event_dir */
	__u8 host; /* the client is this node itself */
	__u8 pad;
};

/* Working memory, the packet's description included: too big for the 512 bytes of stack that a
 * chain of functions shares. Our programs do not preempt each other on one CPU (bottom halves are
 * off), so one per CPU and object is enough.
 */
/* The packet that an ICMP error quotes (bpf/lib/icmp.h). */
struct bn_inner {
	struct bn_tuple t, x; /* as quoted, as it shall be */
	__u32 l3, l4;	      /* offsets in the frame */
	__u32 avail;	      /* bytes of the quote behind l4 */
	__u16 csum;	      /* of the IPv4 header */
	__u8 proto;
	__u8 pad;
};

struct bn_quote { /* an ICMP error */
	__u8 type, code;
	__u16 csum;
	__be32 rest;
	__u8 data[128];
};

struct bn_scratch {
	struct bn_pkt p;
	__u64 jiffies, now_ns;	   /* when this CPU last read the clock */
	struct bpf_fib_lookup fib; /* bpf/lib/net.h */
	struct bpf_redir_neigh nh;
	struct { /* the backend that another node has chosen */
		struct bn_addr addr;
		__be16 port;
		__u16 set;
	} dsr_in;
	__u32 dsr_tos;
	struct bn_tuple dsr_out;
	struct bn_addr dsr_key;
	__u32 xdp_tx; /* XDP: back by the device's own ring, not by redirect */
	struct bn_quote quote;
	struct bn_inner inner;
	struct bn_ct_new n;
	struct bn_ct_ref ref;
	struct bn_ask ask;
	struct bn_ends ends;
	struct bn_svc_hit svc;
	struct bn_who who;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct bn_scratch);
	__uint(max_entries, 1);
} scratch SEC(".maps");

static __always_inline struct bn_scratch *bn_scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

/* The boot-time clock, read at most once a tick and CPU: reading it costs 45 ns, jiffies cost 1. */
static __always_inline void bn_scratch_now(struct bn_scratch *s)
{
	__u64 j = bpf_jiffies64();

	if (s->jiffies != j) {
		s->jiffies = j;
		s->now_ns = bpf_ktime_get_boot_ns();
	}
	s->p.now_ns = s->now_ns;
	s->p.now_s = bn_seconds(s->now_ns);
}

static __always_inline void bn_ends_of(const struct bn_ct_entry *e, struct bn_ends *ends)
{
	bn_ct_tuple(e, &ends->t);
	ends->ct_flags = e->flags;
	ends->proto = e->key.proto;
	if (!(e->flags & BN_CT_F_NAT))
		return;
	if (e->flags & BN_CT_F_ALIAS) {
		ends->t.dst = e->xd;
		ends->t.dport = e->xdp;
	} else {
		ends->t.src = e->xs;
		ends->t.sport = e->xsp;
	}
}

#endif
