/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_PKT_H
#define BN_BPF_PKT_H

/* One packet under way through the stages: parsed once, offsets instead of packet pointers (helpers
 * that resize the packet kill those), time and randomness filled in by the entry point.
 *
 * Stages return 0 (go on), a positive BN_DONE_x, or -BN_DROP_x. They count nothing and report
 * nothing themselves: what the one exit needs for it is left in the packet's `why` fields.
 */

#include <linux/types.h>
#include <stdbool.h>

#include "maps/drop.h"
#include "maps/event.h"
#include "maps/state.h"
#include "maps/types.h"

enum bn_done {
	BN_DONE_PASS = 1, /* nothing more to do: let it go on */
	BN_DONE_REDIRECT, /* given to bpf_redirect or bpf_redirect_peer */
	BN_DONE_AGAIN,	  /* another CPU has begun this flow meanwhile: it goes on as that one decided */
	BN_DONE__MAX,
};

enum {
	BN_PKT_F_V6 = 1 << 0,
	BN_PKT_F_FRAG = 1 << 1,	    /* any fragment */
	BN_PKT_F_LATER = 1 << 2,    /* not the first one: no L4 header, ports from the first */
	BN_PKT_F_ICMP_ERR = 1 << 3, /* carries the beginning of another packet */
	BN_PKT_F_ND = 1 << 4, /* neighbour or multicast listener discovery, hop limit as due */
	BN_PKT_F_REPLY = 1 << 5, /* of a flow that HTTP rules judge: its reply direction */
	BN_PKT_F_OURS = 1 << 6,	 /* made by us: HTTP rules do not judge it */
};

enum { /* of TCP; SCTP's INIT, ABORT and SHUTDOWN COMPLETE look like SYN and RST */
       BN_TCP_FIN = 1 << 0,
       BN_TCP_SYN = 1 << 1,
       BN_TCP_RST = 1 << 2,
       BN_TCP_ACK = 1 << 4,
};

enum {
	BN_DO_NAT = 1 << 0,	/* write `x` into the packet */
	BN_DO_DELIVER = 1 << 1, /* to the pod behind to_ifindex, past the host's stack */
	BN_DO_ROUTED = 1 << 2,	/* ... which counts as a hop */
	BN_DO_NEW = 1 << 3,	/* a flow began (statistics) */
	BN_DO_BACK = 1 << 4,	/* to_ifindex is where it came from */
	BN_DO_WAY = 1 << 5,	/* the way of x is known (bpf/lib/net.h) */
	BN_DO_UP = 1 << 6,	/* XDP: TC does it, and counts it */
	BN_DO_DSR = 1 << 7,	/* packed, to another node: x is the outer tuple */
};

enum bn_refuse {
	BN_REFUSE_NONE,
	BN_REFUSE_UNREACH,  /* port unreachable, or TCP RST */
	BN_REFUSE_PROHIBIT, /* administratively prohibited, or TCP RST */
	BN_REFUSE_TOO_BIG,  /* too big for the way on; always ICMP */
	BN_REFUSE_TTL,	    /* hop limit used up; always ICMP */
};

struct bn_tuple {
	struct bn_addr src, dst;
	__be16 sport, dport;
	__u32 pad;
};

struct bn_pkt {
	/* Set by the time anyone reads them; everything from `t` on is zeroed for each packet. */
	struct bn_tuple x; /* with BN_DO_NAT: as it shall leave */
	__u64 now_ns;
	__u32 now_s, rnd;
	struct bn_tuple t; /* as it came in; ICMP echo: both ports are the identifier */
	__u32 len;	   /* bytes of the frame */
	__u32 l4_len;	   /* bytes from the L4 header to the end of the IP packet */
	__u32 ifindex;	   /* of the interface that the hook is on */
	__u32 in_ifindex;
	__u32 epoch;
	__u32 state; /* BN_STATE_F_* */
	__u32 to_ifindex;
	__u16 l3, l4; /* offsets in the frame */
	__u16 mtu;	/* of that interface; set only where it is asked for */
	__u8 proto; /* L4 */
	__u8 ttl;
	__u8 flags; /* BN_PKT_F_* */
	__u8 tcp;   /* BN_TCP_* */
	__u8 icmp_type, icmp_code;
	__u8 todo;   /* BN_DO_* */
	__u8 hook;   /* enum bn_hook */
	__u8 refuse; /* enum bn_refuse: a drop is answered */
	__u8 audit;  /* enum bn_drop: would have been dropped for this */
	/* why */
	__u32 slot, policy, rule;
	__u8 dir; /* enum bn_event_dir */
	__u8 zone; /* of the flow's entry */
	__u8 pad[2];
	/* HTTP rules that this hook judges by, by enum bn_event_dir (BN_CT_HTTP_*), 0: none; of the flow's entry. */
	__u16 http[2];
	__u32 first, srv_first;
};

static __always_inline bool bn_pkt_has_ports(const struct bn_pkt *p)
{
	return p->proto == BN_PROTO_TCP || p->proto == BN_PROTO_UDP || p->proto == BN_PROTO_SCTP;
}

/* An address's halves: two compares instead of four or sixteen. */
typedef __u64 __attribute__((may_alias)) bn_u64a;

static __always_inline bool bn_addr_same(const struct bn_addr *a, const struct bn_addr *b)
{
	const bn_u64a *x = (const bn_u64a *)a, *y = (const bn_u64a *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/* bn_now_s: whole seconds of boot time, without a division (25 ns); exact to 1 s in 3 years. */
static __always_inline __u32 bn_seconds(__u64 ns)
{
	return (ns >> 24) * 72057594ULL >> 32;
}

/* 224.0.0.0/4, 255.255.255.255, ff00::/8 */
static __always_inline bool bn_addr_is_multi(const struct bn_addr *a)
{
	if (bn_addr_is_v4(a))
		return (a->b[12] & 0xf0) == 0xe0 || a->w[3] == 0xffffffff;
	return a->b[0] == 0xff;
}

#endif
