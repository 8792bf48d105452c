// SPDX-License-Identifier: GPL-2.0-only
/* Both directions of a pod's host-side interface. from_pod: what the pod sends (proof of sender,
 * services, egress policy); to_pod: what it gets (ingress policy, translation of replies). A packet
 * that from_pod hands to a local pod past the stack has been through that pod's stages here.
 */

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "bpf/lib/entry.h"
#include "bpf/lib/flow_new.h"
#include "bpf/lib/http.h"
#include "bpf/lib/icmp.h"
#include "bpf/lib/partial.h"

/* A pod without an address yet asks for one: 0.0.0.0:68 -> 255.255.255.255:67. */
static __always_inline bool bn_pod_dhcp(const struct bn_pkt *p)
{
	return !(p->flags & BN_PKT_F_V6) && !p->t.src.w[3] && p->t.dst.w[3] == 0xffffffff &&
	       p->proto == BN_PROTO_UDP && p->t.sport == bpf_htons(68) &&
	       p->t.dport == bpf_htons(67);
}

/* Must a packet that has an entry begin a new flow all the same? A SYN does, where the old life of
 * the tuple is over, where it comes from the server, or where the flow was taken for one in
 * mid-stream: such a flow was admitted because nothing can begin with it.
 */
static __always_inline bool bn_pod_reborn(const struct bn_ct_hit *hit, const struct bn_pkt *p)
{
	if ((p->proto != BN_PROTO_TCP && p->proto != BN_PROTO_SCTP) ||
	    (p->tcp & (BN_TCP_SYN | BN_TCP_ACK)) != BN_TCP_SYN)
		return false;
	return hit->reply || (hit->flags & BN_CT_F_MID) || bn_ct_over(hit, p->now_s);
}

/* A UDP flow whose backend left its service begins anew at once, and so does one whose service is gone:
 * its destination is an address like any other then. So is a TCP client that begins anew.
 */
static __always_inline int bn_pod_moved(struct __sk_buff *skb, struct bn_pkt *p, struct bn_ct_hit *hit)
{
	struct bn_ct_entry *e = hit->e;
	struct bn_scratch *s;

	if (!bn_svc_changed(p, e->svc_idx, e->svc_gen, true))
		return 0;
	s = bn_scratch_get();
	if (!s)
		return -BN_DROP_INTERNAL;
	s->svc.be.addr = e->xd;
	s->svc.be.port = e->xdp;
	s->svc.idx = 0;
	if (bn_svc_still(p, &s->svc, 1)) {
		e->svc_idx = s->svc.idx;
		e->svc_gen = s->svc.gen;
		return 0;
	}
	if ((hit->flags & BN_CT_F_FOREIGN) && !s->svc.idx)
		return 0; /* through a rule that was none of a service's */
	p->rnd = bpf_get_prandom_u32();
	return bn_flow_out(skb, p, 0, hit->gen) ?: BN_DONE_PASS;
}

/* A flow that was never answered, to an address that is a service's now: it began before the
 * service was known, and its client may never use another port.
 */
__noinline int bn_pod_unserved(struct bn_pkt *p)
{
	__u32 idx;

	return p && bn_pkt_has_ports(p) && !(p->flags & BN_PKT_F_LATER) &&
	       (p->proto != BN_PROTO_TCP || !bn_flow_mid(p)) && bn_svc_front(p, &idx);
}

/* A packet of the original direction, of a flow that is known. */
static __always_inline int bn_pod_out_orig(struct __sk_buff *skb, struct bn_pkt *p, struct bn_ct_hit *hit)
{
	struct bn_ct_entry *e = hit->e;
	__u32 need = 0;
	int r;

	if (e->ifindex != p->ifindex)
		need |= BN_NEED_SENDER;
	if (!bn_flow_fits(p, e, hit->gen, BN_DIR_EGRESS))
		need |= BN_NEED_EGRESS;
	if ((hit->flags & BN_CT_F_BYPASS) && !bn_flow_fits(p, e, hit->gen, BN_DIR_INGRESS))
		need |= BN_NEED_INGRESS;
	if (need) {
		r = bn_flow_prove(p, e, hit->gen, need | BN_NEED_SENDER);
		if (r)
			return r;
		hit->flags = *(volatile __u32 *)&e->flags;
	}
	if (!(hit->flags & (BN_CT_F_NAT | BN_CT_F_REPLIED)) && bn_pod_unserved(p)) {
		p->rnd = bpf_get_prandom_u32();
		return bn_flow_out(skb, p, 0, hit->gen) ?: BN_DONE_PASS;
	}
	if (hit->flags & BN_CT_F_ALIAS) {
		if ((e->svc_idx || (hit->flags & BN_CT_F_FOREIGN)) &&
		    (p->proto == BN_PROTO_UDP || (p->tcp & BN_TCP_SYN))) {
			r = bn_pod_moved(skb, p, hit);
			if (r)
				return r;
		}
		if (!(hit->flags & BN_CT_F_FOREIGN)) {
			bn_ct_other(e, &p->x);
			p->todo |= BN_DO_NAT;
		}
	}
	if (hit->flags & BN_CT_F_HAIRPIN)
		p->todo |= BN_DO_BACK;
	else if (hit->flags & BN_CT_F_MASQ)
		p->todo |= BN_DO_ROUTED;
	p->to_ifindex = e->rifindex;
	return 0;
}

/* A packet of the reply direction: this pod is the server. */
static __always_inline int bn_pod_out_reply(struct bn_pkt *p, struct bn_ct_hit *hit)
{
	const __u32 bypassed = cfg_bypass ? BN_CT_F_BYPASS : 0;
	struct bn_ct_entry *e = hit->e;
	__u32 need = BN_NEED_REPLY;
	int r;

	/* The client's own tuple, seen from outside: no pod has a service's address. */
	if ((hit->flags & BN_CT_F_ALIAS) || e->rifindex != p->ifindex)
		need |= BN_NEED_SENDER;
	p->flags |= BN_PKT_F_REPLY;
	if (!bn_flow_fits(p, e, hit->gen, BN_DIR_INGRESS))
		need |= BN_NEED_INGRESS;
	if ((hit->flags & BN_CT_F_BYPASS) && !bn_flow_fits(p, e, hit->gen, BN_DIR_EGRESS))
		need |= BN_NEED_EGRESS;
	if (need != BN_NEED_REPLY) {
		r = bn_flow_prove(p, e, hit->gen, need | BN_NEED_SENDER);
		if (r)
			return r;
		hit->flags = *(volatile __u32 *)&e->flags;
	}
	if ((hit->flags & (BN_CT_F_NAT | BN_CT_F_ALIAS | BN_CT_F_FOREIGN)) == BN_CT_F_NAT &&
	    ((hit->flags & (bypassed | BN_CT_F_HAIRPIN | BN_CT_F_MASQ)) ||
	     (!e->ifindex && !(hit->flags & BN_CT_F_NET)))) {
		p->x.src = e->xd;
		p->x.dst = e->xs;
		p->x.sport = e->xdp;
		p->x.dport = e->xsp;
		p->todo |= BN_DO_NAT;
	}
	if (hit->flags & BN_CT_F_HAIRPIN)
		p->todo |= BN_DO_BACK;
	else if (hit->flags & BN_CT_F_MASQ)
		p->todo |= BN_DO_ROUTED;
	p->to_ifindex = e->ifindex;
	return 0;
}

static __always_inline void bn_pod_bypass(struct bn_pkt *p, const struct bn_ct_hit *hit)
{
	if (!cfg_bypass || !(hit->flags & BN_CT_F_BYPASS) || !p->to_ifindex)
		return;
	if (p->ttl <= 1) { /* the stack says so to the sender */
		if (hit->reply && !(hit->flags & BN_CT_F_MASQ))
			p->todo &= ~BN_DO_NAT;
		return;
	}
	p->todo |= BN_DO_DELIVER;
	if (!(hit->flags & BN_CT_F_BRIDGED))
		p->todo |= BN_DO_ROUTED;
}

/* What policy refused as an answer may be a question in its own right, where the protocol does not
 * tell them apart and nothing was answered yet.
 */
static __always_inline bool bn_pod_turns(const struct bn_pkt *p, const struct bn_ct_hit *hit, int r)
{
	return (r == -BN_DROP_POLICY_EGRESS || r == -BN_DROP_POLICY_INGRESS) && hit->reply &&
	       p->proto != BN_PROTO_TCP && !(hit->flags & (BN_CT_F_NAT | BN_CT_F_REPLIED));
}

/* The entry for the replies was given up before the flow was established: may it begin again? */
static __always_inline bool bn_pod_begins(const struct bn_ct_hit *hit, const struct bn_pkt *p)
{
	return (hit->flags & BN_CT_F_ALIAS) && !hit->reply && !(p->flags & BN_PKT_F_LATER) &&
	       (p->proto != BN_PROTO_TCP || !bn_flow_mid(p));
}

static __always_inline int bn_pod_known(struct __sk_buff *skb, struct bn_pkt *p, struct bn_ct_hit *hit)
{
	int r = hit->reply ? bn_pod_out_reply(p, hit) : bn_pod_out_orig(skb, p, hit);

	if (bn_pod_turns(p, hit, r))
		return bn_flow_out(skb, p, 0, hit->gen);
	if (r)
		return r == BN_DONE_PASS ? 0 : r;
	if (!bn_ct_same(hit))
		return -BN_DROP_INTERNAL;
	if (bn_ct_due(hit, p) && bn_ct_track(hit->e, p, hit->flags, hit->reply) &&
	    bn_pod_begins(hit, p)) {
		p->todo = 0;
		p->rnd = bpf_get_prandom_u32();
		return bn_flow_out(skb, p, !!(hit->flags & BN_CT_F_SHIFTED), hit->gen);
	}
	bn_pod_bypass(p, hit);
	bn_ct_count(hit->e, p, hit->reply);
	return 0;
}

/* The flow that another CPU has just begun (BN_DONE_AGAIN), with this pod's other packet: what was found out about
 * that one holds. What it does not know yet is for the pod to send again.
 */
__noinline int bn_pod_again(struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit = {};

	if (!p || !s)
		return -BN_DROP_INTERNAL;
	bn_net_find(s, p, &p->t, p->proto, p->zone, &hit);
	if (!hit.e || hit.reply || !(hit.flags & BN_CT_F_ALIAS) || !bn_flow_fits(p, hit.e, hit.gen, BN_DIR_EGRESS) ||
	    ((hit.flags & BN_CT_F_BYPASS) && !bn_flow_fits(p, hit.e, hit.gen, BN_DIR_INGRESS)))
		return -BN_DROP_INTERNAL;
	bn_ct_other(hit.e, &p->x);
	p->todo = BN_DO_NAT;
	if (hit.flags & BN_CT_F_HAIRPIN)
		p->todo |= BN_DO_BACK;
	else if (hit.flags & BN_CT_F_MASQ)
		p->todo |= BN_DO_ROUTED;
	p->to_ifindex = hit.e->rifindex;
	if (!bn_ct_same(&hit))
		return -BN_DROP_INTERNAL;
	bn_pod_bypass(p, &hit);
	bn_ct_count(hit.e, p, false);
	return 0;
}

static __always_inline int bn_pod_out(struct __sk_buff *skb, struct bn_pkt *p)
{
	struct bn_ct_ref ref;
	struct bn_ct_hit hit;
	bool shifted = false, taken;
	__u32 outlived = 0;

	if (p->flags & BN_PKT_F_ICMP_ERR) {
		int r = bn_flow_out(skb, p, 0, 0);

		return r == -BN_DROP_UNSUPPORTED ? -BN_DROP_ICMP_UNRELATED : r;
	}
	bn_ct_ref(&ref, &p->t, p->proto, BN_CT_ZONE_MAIN);
	if (!bn_flow_mid(p))
		bn_ct_fetch(&ref.h);
	bn_ct_find(&ref, &hit);
	if (hit.e && bn_ct_expired(hit.e, p->now_s))
		hit.e = NULL;
	taken = hit.e && !hit.reply && (hit.flags & (BN_CT_F_NAT | BN_CT_F_ALIAS)) == BN_CT_F_NAT;
	if (taken || (!hit.e && bn_flow_started(p))) {
		/* The pod's own packets never have a translated flow's tuple: a direct flow that
		 * happens to have the same ports as one through a service. It stands in the other
		 * zone, and is to be found there when the one that pushed it aside has ended.
		 */
		if (taken && bn_ct_stale(hit.e, hit.flags, p->now_s))
			outlived = hit.gen; /* and has its port back */
		bn_ct_ref(&ref, &p->t, p->proto, BN_CT_ZONE_SHIFTED);
		bn_ct_find(&ref, &hit);
		if (hit.e && (bn_ct_expired(hit.e, p->now_s) || (!taken && hit.reply)))
			hit.e = NULL;
		shifted = hit.e || (taken && !outlived);
		p->zone = shifted ? BN_CT_ZONE_SHIFTED : BN_CT_ZONE_MAIN;
	}
	if (!hit.e || bn_pod_reborn(&hit, p)) {
		int r;

		p->rnd = bpf_get_prandom_u32();
		r = bn_flow_out(skb, p, shifted, hit.e ? hit.gen : outlived);
		if (r != -BN_DROP_NAT_PORTS || p->proto != BN_PROTO_UDP || !taken || !shifted)
			return r;
		p->zone = BN_CT_ZONE_MAIN;
		p->todo = 0;
		return bn_flow_out(skb, p, 0, 1); /* no port left: its own */
	}
	return bn_pod_known(skb, p, &hit);
}

/* A packet of the node's own in mid-stream, of a flow that was moved aside for a pod's masqueraded one, which
 * has ended since.
 */
__noinline int bn_pod_aside(struct bn_pkt *p)
{
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit = {};

	if (!p || !s || !bn_pkt_has_ports(p) || !bn_flow_started(p))
		return 0;
	bn_net_find(s, p, &p->t, p->proto, BN_CT_ZONE_SHIFTED, &hit);
	return hit.e && !hit.reply;
}

static __always_inline int bn_pod_in(struct bn_pkt *p)
{
	struct bn_ct_ref ref;
	struct bn_ct_hit hit;
	struct bn_ct_entry *e;
	__u32 need = BN_NEED_HERE_IN;
	int r;

	if (p->flags & BN_PKT_F_ICMP_ERR)
		return bn_flow_in(p, 0);
	bn_ct_ref(&ref, &p->t, p->proto, BN_CT_ZONE_MAIN);
	bn_ct_find(&ref, &hit);
	if (!hit.e || bn_ct_expired(hit.e, p->now_s) ||
	    (!(hit.flags & BN_CT_F_NAT) && bn_pod_reborn(&hit, p))) {
		if (cfg_masquerade_all && !p->in_ifindex && bn_pod_aside(p))
			return bn_net_shift(p, 0);
		return bn_flow_in(p, hit.e ? hit.gen : 0);
	}
	/* The node's own, with the ports of a pod's masqueraded flow. It may reach its pods whatever their policy. */
	if (!p->in_ifindex && !hit.reply && (hit.flags & BN_CT_F_MASQ) && !(hit.flags & BN_CT_F_ALIAS))
		return bn_net_shift(p, 0);
	e = hit.e;
	if (hit.reply) {
		need |= BN_NEED_REPLY;
		p->flags |= BN_PKT_F_REPLY;
		if (!bn_flow_fits(p, e, hit.gen, BN_DIR_EGRESS) || e->ifindex != p->ifindex)
			need |= BN_NEED_EGRESS;
	} else if (!bn_flow_fits(p, e, hit.gen, BN_DIR_INGRESS) || e->rifindex != p->ifindex) {
		need |= BN_NEED_INGRESS;
	}
	if (need & (BN_NEED_EGRESS | BN_NEED_INGRESS)) {
		r = bn_flow_prove(p, e, hit.gen, need | (hit.reply ? 0 : BN_NEED_SENDER));
		if (bn_pod_turns(p, &hit, r))
			return bn_flow_in(p, hit.gen);
		if (r)
			return r;
	}
	if (hit.reply &&
	    (hit.flags & (BN_CT_F_NAT | BN_CT_F_ALIAS | BN_CT_F_FOREIGN)) == BN_CT_F_NAT) {
		p->x.src = e->xd;
		p->x.dst = e->xs;
		p->x.sport = e->xdp;
		p->x.dport = e->xsp;
		p->todo |= BN_DO_NAT;
	}
	if (!bn_ct_same(&hit))
		return -BN_DROP_INTERNAL;
	if (bn_ct_due(&hit, p))
		bn_ct_track(e, p, hit.flags, hit.reply);
	bn_ct_count(e, p, hit.reply);
	return 0;
}

/* What was masqueraded, and answers to it, go on by their own route. */
__noinline int bn_pod_forward(struct __sk_buff *skb, struct bn_pkt *p)
{
	int r = 0;

	if (!p)
		return -BN_DROP_INTERNAL;
	if (!(p->todo & BN_DO_WAY))
		r = bn_net_way(skb, p);
	if (!r && (p->todo & BN_DO_NAT))
		r = bn_nat_write(skb, p, true);
	return r ?: bn_deliver_way(skb, p);
}

static __always_inline int bn_pod_deliver(struct __sk_buff *skb, struct bn_pkt *p)
{
	if ((p->todo & (BN_DO_ROUTED | BN_DO_DELIVER)) == BN_DO_ROUTED)
		return bn_pod_forward(skb, p);
	return bn_deliver(skb, p);
}

/* An ICMP error with its flow; BN_ICMP_OTHER: any other packet. */
static __always_inline int bn_pod_icmp(struct __sk_buff *skb, struct bn_pkt *p)
{
	return p->flags & BN_PKT_F_ICMP_ERR ? bn_icmp_error(skb, p) : BN_ICMP_OTHER;
}

/* The rest of from_pod or to_pod for a packet whose flow has HTTP rules: what they decided is in the scratch
 * memory, which all programs of this object share.
 */
SEC("tc")
int http_pod(struct __sk_buff *skb)
{
	struct bn_scratch *s = bn_scratch_get();
	int r;

	if (!s)
		return TC_ACT_SHOT;
	r = cfg_http ? bn_http_stage(skb, &s->p) : bn_flow_unfollowed(&s->p);
	return bn_entry_end(skb, &s->p, r ?: bn_pod_deliver(skb, &s->p));
}

/* Filled when the object is loaded, so that both programs and this one are of one version. The loader pins
 * it: without a descriptor or a pin the kernel empties it, and then such packets are dropped.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void));
} http_jump SEC(".maps") = {.values = {(void *)&http_pod}};

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct bn_pkt *p = bn_entry_pkt(BN_HOOK_FROM_POD, BN_DIR_EGRESS);
	int r;

	if (!p)
		return TC_ACT_SHOT;
	if (skb->mark == BN_MARK_ANSWER) { /* to_pod's own, on the pod's behalf */
		skb->mark = 0;
		return BN_TC_NEXT;
	}
	r = bn_entry_begin(skb, p, ETH_HLEN) ?: bn_partial(skb, p);
	if (skb->mark == BN_MARK_HTTP) { /* the HTTP stage's, on the pod's behalf */
		skb->mark = 0;
		p->flags |= BN_PKT_F_OURS;
	}
	if (!r && (p->flags & BN_PKT_F_ND))
		r = bn_flow_discovery(p);
	if (!r && bn_pod_dhcp(p))
		r = BN_DONE_PASS;
	if (!r)
		r = bn_pod_icmp(skb, p);
	if (r == BN_ICMP_OTHER)
		r = bn_pod_out(skb, p);
	if (r == BN_DONE_AGAIN)
		r = bn_pod_again(p);
	if (!r && (p->http[0] | p->http[1]) && (!(p->flags & BN_PKT_F_OURS) || (p->tcp & BN_TCP_RST))) {
		bpf_tail_call(skb, &http_jump, 0);
		r = bn_flow_unfollowed(p);
	}
	return bn_entry_end(skb, p, r ?: bn_pod_deliver(skb, p));
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	struct bn_pkt *p = bn_entry_pkt(BN_HOOK_TO_POD, BN_DIR_INGRESS);
	int r;

	if (!p)
		return TC_ACT_SHOT;
	r = bn_entry_begin(skb, p, ETH_HLEN);
	if (!r && (p->flags & BN_PKT_F_ND))
		r = BN_DONE_PASS;
	/* What the pod sent to itself (hairpin, refusals) was judged on its way out. */
	if (!r && p->in_ifindex == p->ifindex)
		r = BN_DONE_PASS;
	if (!r)
		r = bn_pod_icmp(skb, p);
	if (r == BN_ICMP_OTHER)
		r = bn_pod_in(p);
	if (!r && (p->http[0] | p->http[1])) {
		bpf_tail_call(skb, &http_jump, 0);
		r = bn_flow_unfollowed(p);
	}
	return bn_entry_end(skb, p, r ?: bn_pod_deliver(skb, p));
}

char LICENSE[] SEC("license") = "GPL";
