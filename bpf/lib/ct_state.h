/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_CT_STATE_H
#define BN_BPF_CT_STATE_H

/* What a packet does to its flow's entry: state, expiry, counters, for both entries of a translated
 * flow. Windows are not followed: a packet that the receiver will not believe may change a state,
 * so none of these changes cuts a flow off for good (a flow that is closed comes back to life with
 * its next packet, unless another one needed the room).
 */

#include "bpf/lib/ct_insert.h"

#define BN_CT_T_HALF_S	      60
#define BN_CT_T_TCP_S	      86400
#define BN_CT_T_FIN_S	      3600
#define BN_CT_T_UDP_STREAM_S  180
#define BN_CT_T_ICMP_S	      30
#define BN_CT_T_OTHER_S	      600
/* Of DSR one direction is seen only: not that the server has closed. */
#define BN_CT_T_DSR_TCP_S     14400
#define BN_CT_T_DSR_FIN_S     60

static __always_inline __u32 bn_ct_lifetime(__u32 flags, __u8 proto)
{
	if (flags & BN_CT_F_CLOSED)
		return BN_CT_T_CLOSED_S;
	if (proto == BN_PROTO_TCP) {
		if (!(flags & BN_CT_F_ASSURED))
			return BN_CT_T_HALF_S;
		if (flags & (BN_CT_F_FIN_ORIG | BN_CT_F_FIN_REPLY))
			return flags & BN_CT_F_DSR ? BN_CT_T_DSR_FIN_S : BN_CT_T_FIN_S;
		return flags & BN_CT_F_DSR ? BN_CT_T_DSR_TCP_S : BN_CT_T_TCP_S;
	}
	if (proto == BN_PROTO_UDP) {
		if (flags & BN_CT_F_ASSURED)
			return BN_CT_T_UDP_STREAM_S;
		return flags & BN_CT_F_REPLIED ? BN_CT_T_UDP_REPLIED_S : BN_CT_T_UDP_S;
	}
	if (proto == BN_PROTO_ICMP || proto == BN_PROTO_ICMP6)
		return BN_CT_T_ICMP_S;
	return flags & BN_CT_F_ASSURED ? BN_CT_T_OTHER_S : BN_CT_T_HALF_S;
}

static __always_inline __u32 bn_ct_next_tcp(__u32 f, __u8 tcp, bool reply)
{
	const __u32 fins = BN_CT_F_FIN_ORIG | BN_CT_F_FIN_REPLY;

	if (tcp & BN_TCP_RST)
		return f | BN_CT_F_CLOSED;
	if (tcp & BN_TCP_FIN)
		f |= reply ? BN_CT_F_FIN_REPLY : BN_CT_F_FIN_ORIG;
	if (reply)
		f |= BN_CT_F_REPLIED;
	else if ((f & BN_CT_F_REPLIED) && (tcp & BN_TCP_ACK) && !(tcp & BN_TCP_SYN))
		f |= BN_CT_F_ASSURED;
	if ((f & fins) == fins)
		return f | BN_CT_F_CLOSED;
	/* Life after a reset: its receiver did not believe it (RFC 5961). */
	if ((f & BN_CT_F_CLOSED) && !(tcp & BN_TCP_SYN))
		f &= ~BN_CT_F_CLOSED;
	return f;
}

static __always_inline __u32 bn_ct_next(const struct bn_ct_entry *e, __u32 f,
					const struct bn_pkt *p, bool reply)
{
	/* DSR: that the client goes on has to do for an answer. */
	if (f & BN_CT_F_DSR)
		reply = p->proto == BN_PROTO_TCP ? !(f & BN_CT_F_REPLIED) && (p->tcp & BN_TCP_ACK) &&
							   !(p->tcp & BN_TCP_FIN)
						 : p->now_s - e->created > 2;
	if (p->proto == BN_PROTO_TCP)
		return bn_ct_next_tcp(f, p->tcp, reply);
	if (p->proto == BN_PROTO_SCTP) {
		if (p->tcp & BN_TCP_RST)
			return f | BN_CT_F_CLOSED;
		f &= ~BN_CT_F_CLOSED;
	}
	if (reply)
		f |= BN_CT_F_REPLIED;
	if (p->proto == BN_PROTO_ICMP || p->proto == BN_PROTO_ICMP6)
		return f; /* never assured: an echo is over when it is answered */
	if ((f & BN_CT_F_REPLIED) && (p->proto != BN_PROTO_UDP || p->now_s - e->created > 2))
		f |= BN_CT_F_ASSURED;
	return f;
}

static __always_inline void bn_ct_apply(struct bn_ct_entry *e, __u32 old, __u32 new, __u32 expires)
{
	/* Not atomic on purpose: the flags are monotonic but for CLOSED, and what two CPUs may lose
	 * of one flow its next packet brings back.
	 */
	if (new != old)
		*(volatile __u32 *)&e->flags = (e->flags | new) & ~(old & ~new);
	if (e->expires != expires)
		*(volatile __u32 *)&e->expires = expires;
}

#define BN_CT_SHARED                                                                               \
	(BN_CT_F_REPLIED | BN_CT_F_ASSURED | BN_CT_F_FIN_ORIG | BN_CT_F_FIN_REPLY | BN_CT_F_CLOSED)

/* The same number, of which the verifier knows nothing any more: ways that meet are one to it then. `any`: a number
 * of which it does not know anything.
 */
static __always_inline __u32 bn_ct_forget(__u32 n, __u32 any)
{
	n += any;
	BN_OPAQUE(n);
	return n - any;
}

/* A packet of this flow passes: state and expiry, of the flow's other entry too. Returns 1 when
 * that is gone (flows that are not established yet are given up one entry at a time).
 */
__noinline int bn_ct_track(struct bn_ct_entry *e, struct bn_pkt *p, __u32 flags, __u32 reply)
{
	struct bn_ct_ref other;
	struct bn_ct_hit hit;
	struct bn_tuple t;
	__u32 next, expires;

	if (!e || !p)
		return 0;
	next = bn_ct_forget(bn_ct_next(e, flags, p, reply), flags);
	expires = bn_ct_forget(p->now_s + bn_ct_lifetime(next, p->proto), flags);
	/* As the packet before it in this second left it, or this packet itself at the other pod's hook: then the
	 * flow's other entry says the same. Whether that is still there a client finds out that asks again.
	 */
	if (next == flags && *(volatile __u32 *)&e->expires == expires &&
	    (flags & (BN_CT_F_ALIAS | BN_CT_F_REPLIED)) != BN_CT_F_ALIAS)
		return 0;
	bn_ct_apply(e, flags, next, expires);
	if (!(flags & BN_CT_F_NAT))
		return 0;
	bn_ct_other(e, &t);
	/* The direct flow that was moved aside has its own packets in the other zone. */
	bn_ct_ref(&other, &t, p->proto,
		  (flags & (BN_CT_F_SHIFTED | BN_CT_F_ALIAS)) == BN_CT_F_SHIFTED
			  ? BN_CT_ZONE_SHIFTED
			  : BN_CT_ZONE_MAIN);
	if (p->proto != BN_PROTO_TCP || (p->tcp & BN_TCP_SYN))
		bn_ct_fetch(&other.h);
	bn_ct_find(&other, &hit);
	if (!hit.e || !(hit.flags & BN_CT_F_NAT))
		return 1;
	bn_ct_apply(hit.e, hit.flags, (hit.flags & ~BN_CT_SHARED) | (next & BN_CT_SHARED), expires);
	return 0;
}

/* Is there anything to write down about this packet? Established flows: once a second. */
static __always_inline bool bn_ct_due(const struct bn_ct_hit *hit, const struct bn_pkt *p)
{
	const __u32 plain = BN_CT_F_ASSURED;
	const __u32 any = BN_CT_F_ASSURED | BN_CT_F_CLOSED | BN_CT_F_FIN_ORIG | BN_CT_F_FIN_REPLY;

	if ((hit->flags & any) != plain || (p->tcp & (BN_TCP_SYN | BN_TCP_FIN | BN_TCP_RST)))
		return true;
	return hit->e->expires != p->now_s + bn_ct_lifetime(plain, p->proto);
}

/* May a client's SYN begin this tuple anew? Where one end only has closed the other may go on for long, and the SYN be
 * the connection's own: doubled by a link, late. So not before nothing was heard of it for 1 to 2 s (DSR: of the
 * server nothing is heard in any case).
 */
static __always_inline bool bn_ct_over(const struct bn_ct_hit *hit, __u32 now_s)
{
	if (hit->flags & BN_CT_F_CLOSED)
		return true;
	if (!(hit->flags & (BN_CT_F_FIN_ORIG | BN_CT_F_FIN_REPLY)))
		return false;
	return (hit->flags & BN_CT_F_DSR) ||
	       (__s32)(*(volatile __u32 *)&hit->e->expires - now_s) <= BN_CT_T_FIN_S - BN_CT_STALE_S;
}

static __always_inline void bn_ct_count(struct bn_ct_entry *e, const struct bn_pkt *p, bool reply)
{
	if (reply) {
		e->bytes[1] += p->len;
		e->packets[1]++;
	} else {
		e->bytes[0] += p->len;
		e->packets[0]++;
	}
}

#endif
