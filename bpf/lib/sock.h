/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_SOCK_H
#define BN_BPF_SOCK_H

/* Service translation at the socket: once a connection instead of twice a packet.
 *
 * Translated are TCP and unconnected UDP of every socket below --cgroup, and connected UDP of the
 * node's own namespace. Left alone, for the packet programs to decide, is
 *  - connected UDP of pods: a connected socket never asks again, so it would stay with a backend
 *    that is gone; as a packet flow it is moved at its next packet. It costs the translation of
 *    each packet (docs/ARCHITECTURE.md has the figure). The node's own sockets have no such
 *    choice: their packets to a local pod meet no hook of ours before they are routed;
 *  - UDP of pods to a service with affinity, so that connected and unconnected sockets of a pod share
 *    one memory (here only the namespace is known, there the address);
 *  - what would be dropped (a Local policy without local endpoint), and sources outside
 *    loadBalancerSourceRanges: the packet leaves and is dropped as a packet;
 *  - with --masquerade-all, what pods send to a ClusterIP: only a packet can be masqueraded;
 *  - ports of service addresses that are no frontend;
 *  - UDP of pods, when the kernel gives the socket no storage (out of memory, net.core.optmem_max used up,
 *    or Linux 6.19 and later on processors without a 16-byte compare and exchange). The node's own are
 *    translated all the same: sk_rev remembers, and the socket's cookie chooses, so that its datagrams
 *    stay with one backend.
 */

#include <linux/in.h>

#include "bpf/lib/cfg.h"
#include "bpf/lib/select.h"

#define BN_ECONNREFUSED 111
#define BN_SOCK_UDP_IDLE_S 120 /* after this a datagram may get another backend */

const volatile __u64 cfg_netns_cookie; /* of the node's own network namespace */
const volatile bool cfg_socket_lb_pods = true;

/* A socket was translated without storage: reverse look-ups without it are worth a look. */
static volatile __u32 bn_sock_bare;

enum bn_sock_op {
	BN_SOCK_CONNECT,
	BN_SOCK_SENDMSG,
};

/* One call: what the application named, and what it gets instead. */
struct bn_sock_call {
	struct bn_addr addr;
	__be16 port;
	__u8 proto;
	bool host; /* the node's own namespace */
	__u64 netns;
	struct bn_backend be;
};

static __always_inline __u32 bn_sock_now_s(void)
{
	return bpf_ktime_get_boot_ns() / 1000000000ull;
}

static __always_inline bool bn_sock_is_loopback(const struct bn_addr *a)
{
	if (bn_addr_is_v4(a))
		return a->b[12] == 127 || !a->w[3];
	return !a->w[0] && !a->w[1] && !a->w[2] && (a->w[3] == bpf_htonl(1) || !a->w[3]);
}

/* Has the address any frontend? What a server answers goes to {client, port}, a new place of `fronts` each time,
 * and from memory; that the client's address is nobody's service is one place, and cached.
 */
static __always_inline bool bn_sock_fronted(const struct bn_sock_call *c)
{
	struct bn_front_key key = {
		.addr = c->addr,
		.scope = BN_SCOPE_ADDR,
	};

	return bpf_map_lookup_elem(&fronts, &key) != NULL;
}

static __always_inline struct bn_svc *bn_sock_service(const struct bn_sock_call *c, enum bn_sock_op op, __u32 *idx)
{
	struct bn_front_key key = {
		.addr = c->addr,
		.port = c->port,
		.proto = c->proto,
		.scope = BN_SCOPE_EXACT,
	};
	struct bn_svc *svc = NULL;

	if (op == BN_SOCK_CONNECT || bn_sock_fronted(c))
		svc = bn_sel_front(&key, idx);
	if (svc)
		return svc;
	/* A pod's loopback is its own. */
	if (bn_sock_is_loopback(&c->addr) ? c->host : bn_sel_answers_nodeports(&c->addr))
		return bn_sel_nodeport(&c->addr, c->port, c->proto, idx);
	return NULL;
}

/* Of a pod the address is not known here; of the node it is one of two. */
static __always_inline bool bn_sock_source_ok(const struct bn_sock_call *c, const struct bn_svc *svc)
{
	__u32 zero = 0;
	struct bn_state *st;

	if (!(svc->flags & BN_SVC_F_SRC_RANGES))
		return true;
	st = bpf_map_lookup_elem(&state, &zero);
	if (!st || !c->host)
		return false;
	return bn_sel_source_ok(svc, bn_addr_is_v4(&c->addr) ? &st->node4 : &st->node6);
}

static __always_inline bool bn_sock_is_front(const struct bn_sk_peer *p,
					     const struct bn_sock_call *c)
{
	return p->front_port == c->port && bn_addr_eq(&p->front, &c->addr);
}

static __always_inline bool bn_sock_is_back(const struct bn_sk_peer *p, const struct bn_addr *addr,
					    __be16 port)
{
	return p->front_port && p->back_port == port && bn_addr_eq(&p->back, addr);
}

/* A datagram of an unconnected socket keeps the backend of the one before, while that serves. */
static __always_inline bool bn_sock_sticky(struct bn_sk_peers *ps, struct bn_sock_call *c,
					   struct bn_svc *svc, __u32 now_s)
{
	for (int i = 0; i < BN_SK_PEERS; i++) {
		struct bn_sk_peer *p = &ps->p[i];

		if (!bn_sock_is_front(p, c))
			continue;
		if (now_s - p->used_s > BN_SOCK_UDP_IDLE_S ||
		    !bn_sel_member(bn_sel_range(svc, true), &p->back, p->back_port, false, &c->be))
			return false;
		p->used_s = now_s;
		return true;
	}
	return false;
}

/* --- The peer of a TCP socket (map sk_tcp) -------------------------------------------------------- */

/* The socket's place, NULL if it has none. */
static __always_inline struct bn_sk_tcp *bn_sk_tcp_of(__u64 cookie)
{
	for (int i = 0; i < 2; i++) {
		__u32 at = bn_sk_tcp_place(cookie, i);
		struct bn_sk_tcp *t = bpf_map_lookup_elem(&sk_tcp, &at);

		if (t && *(volatile __u64 *)&t->cookie == cookie)
			return t;
	}
	return NULL;
}

/* Its place, or a free one that is now its own; NULL: both are taken. */
static __always_inline struct bn_sk_tcp *bn_sk_tcp_take(__u64 cookie)
{
	struct bn_sk_tcp *t = bn_sk_tcp_of(cookie);

	for (int i = 0; !t && i < 2; i++) {
		__u32 at = bn_sk_tcp_place(cookie, i);
		struct bn_sk_tcp *free = bpf_map_lookup_elem(&sk_tcp, &at);

		if (free && !*(volatile __u64 *)&free->cookie &&
		    !__sync_val_compare_and_swap(&free->cookie, 0, cookie))
			t = free;
	}
	return t;
}

static __always_inline void bn_sk_tcp_give(__u64 cookie)
{
	struct bn_sk_tcp *t = bn_sk_tcp_of(cookie);

	if (!t)
		return;
	*(volatile __be16 *)&t->p.front_port = 0;
	__sync_lock_test_and_set(&t->cookie, 0); /* what stands before it is seen before it */
}

/* --- Peers --------------------------------------------------------------------------------------- */

static __always_inline void bn_sock_spill(struct bpf_sock_addr *ctx, const struct bn_addr *back,
					  __be16 back_port, const struct bn_addr *front,
					  __be16 front_port, __u8 proto)
{
	struct bn_skrev_key key = {
		.cookie = bpf_get_socket_cookie(ctx),
		.addr = *back,
		.port = back_port,
		.proto = proto,
	};
	struct bn_skrev_val val = {
		.addr = *front,
		.port = front_port,
	};

	bpf_map_update_elem(&sk_rev, &key, &val, BPF_ANY);
}

/* A call of a socket that has no storage. */
static __always_inline void bn_sock_note_bare(struct bpf_sock_addr *ctx, const struct bn_sock_call *c)
{
	bn_sock_spill(ctx, &c->be.addr, c->be.port, &c->addr, c->port, c->proto);
	bn_sock_bare = 1;
}

static __always_inline void bn_sock_write(struct bn_sk_peer *p, const struct bn_sock_call *c, __u32 now_s)
{
	*(volatile __be16 *)&p->front_port = 0;
	p->front = c->addr;
	p->back = c->be.addr;
	p->back_port = c->be.port;
	p->used_s = now_s;
	*(volatile __be16 *)&p->front_port = c->port;
}

/* Notes frontend and backend of a call in the socket's storage. A function of its own: verified once. */
__noinline int bn_sock_note(struct bpf_sock_addr *ctx, struct bn_sk_peers *ps, const struct bn_sock_call *c,
			    __u32 now_s)
{
	__u32 oldest = 0, age = 0;
	struct bn_sk_peer *p;

	if (!ps || !c)
		return 0;
	for (__u32 i = 0; i < BN_SK_PEERS; i++) {
		p = &ps->p[i];
		if (!p->front_port || bn_sock_is_front(p, c)) {
			oldest = i;
			break;
		}
		if (now_s - p->used_s >= age) {
			age = now_s - p->used_s;
			oldest = i;
		}
	}
	p = &ps->p[oldest & (BN_SK_PEERS - 1)];
	if (p->front_port && !bn_sock_is_front(p, c)) {
		bn_sock_spill(ctx, &p->back, p->back_port, &p->front, p->front_port, c->proto);
		ps->spilled = 1;
	}
	bn_sock_write(p, c, now_s);
	return 0;
}

/* ... of a TCP socket, which has one peer at a time. Storage that it was given once stays the place. */
static __always_inline void bn_sock_note_tcp(struct bpf_sock_addr *ctx, const struct bn_sock_call *c, __u32 now_s)
{
	struct bn_sk_peers *ps;
	struct bn_sk_tcp *t;

	if (!ctx->sk)
		return;
	ps = bpf_sk_storage_get(&sk_peers, ctx->sk, NULL, 0);
	if (!ps) {
		t = bn_sk_tcp_take(bpf_get_socket_cookie(ctx));
		if (t) {
			bn_sock_write(&t->p, c, now_s);
			return;
		}
		ps = bpf_sk_storage_get(&sk_peers, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	}
	if (ps)
		bn_sock_note(ctx, ps, c, now_s);
	else
		bn_sock_note_bare(ctx, c);
}

/* The application turned to this address itself: what comes from it is shown as it is. */
static __always_inline void bn_sock_forget(struct bpf_sock_addr *ctx, const struct bn_sock_call *c)
{
	struct bn_skrev_key key = {
		.addr = c->addr,
		.port = c->port,
		.proto = c->proto,
	};
	struct bn_sk_peers *ps;

	if (!ctx->sk)
		return;
	ps = bpf_sk_storage_get(&sk_peers, ctx->sk, NULL, 0);
	for (int i = 0; ps && i < BN_SK_PEERS; i++)
		if (bn_sock_is_back(&ps->p[i], &c->addr, c->port))
			ps->p[i].front_port = 0;
	if (ps ? ps->spilled : bn_sock_bare) {
		key.cookie = bpf_get_socket_cookie(ctx);
		bpf_map_delete_elem(&sk_rev, &key);
	}
}

static __always_inline void bn_sock_count(enum bn_drop reason)
{
	__u32 key = reason;

	if (reason) {
		struct bn_drop_stat *d = bpf_map_lookup_elem(&drops, &key);

		if (d)
			d->packets++;
	} else {
		struct bn_hook_stat *h;

		key = BN_HOOK_SOCK;
		h = bpf_map_lookup_elem(&hook_stats, &key);
		if (h) {
			h->translated++;
			h->flows++;
		}
	}
}

static __always_inline bool bn_sock_left_to_packets(const struct bn_sock_call *c,
						    const struct bn_svc *svc, enum bn_sock_op op)
{
	if (!c->host && c->proto == IPPROTO_UDP && svc->affinity_s)
		return true;
	if (cfg_masquerade_all && !c->host && !(svc->flags & BN_SVC_F_EXTERNAL))
		return true;
	return !bn_sock_source_ok(c, svc);
}

/* A datagram to the socket's own connected peer. The application needs not have named it: on an
 * AF_INET6 socket connected to IPv4 every send comes to sendmsg4, with the peer as its address. A
 * socket whose connect() was left to the packets has to go on so, or answers would not fit its peer.
 */
static __always_inline bool bn_sock_to_peer(struct bpf_sock_addr *ctx, const struct bn_sock_call *c)
{
	struct bpf_sock *sk = ctx->sk;
	__u32 v4, v6[4];

	if (!sk || sk->state != BPF_TCP_ESTABLISHED || sk->dst_port != c->port)
		return false;
	/* Each with a load of its own: where branches share one, clang 16 computes the address first,
	 * "R5 pointer arithmetic on sock prohibited".
	 */
	v4 = *(volatile __u32 *)&sk->dst_ip4;
	for (int i = 0; i < 4; i++)
		v6[i] = *(volatile __u32 *)&sk->dst_ip6[i];
	if (bn_addr_is_v4(&c->addr))
		return v4 == c->addr.w[3];
	return v6[0] == c->addr.w[0] && v6[1] == c->addr.w[1] && v6[2] == c->addr.w[2] &&
	       v6[3] == c->addr.w[3];
}

/* connect() of UDP while there is no endpoint: the socket keeps the frontend itself as its peer. Its datagrams
 * are refused as packets, and translated as packets once an endpoint comes; a socket that is not connected, or
 * ended, would never learn of that one. Packets to an address of this node pass no hook that could do it: there
 * only sockets wait that had a backend, whom the daemon connects again (loader/model/udpsocks.h).
 */
static __always_inline bool bn_sock_may_wait(const struct bn_sk_peers *ps, const struct bn_sock_call *c,
					     enum bn_sock_op op)
{
	if (op != BN_SOCK_CONNECT || c->proto != IPPROTO_UDP || !c->host)
		return false;
	for (int i = 0; ps && i < BN_SK_PEERS; i++)
		if (bn_sock_is_front(&ps->p[i], c))
			return true;
	return !bn_sock_is_loopback(&c->addr) && !bn_sel_answers_nodeports(&c->addr);
}

enum bn_sock_answer {
	BN_SOCK_ASIS,	   /* the call goes on with the address it has */
	BN_SOCK_TRANSLATE, /* c->be is the address it gets */
	BN_SOCK_REFUSE,
};

static __always_inline enum bn_sock_answer bn_sock_forward(struct bpf_sock_addr *ctx,
							   struct bn_sock_call *c, enum bn_sock_op op)
{
	struct bn_sel_who who = {.internal = true};
	struct bn_sk_peers *ps = NULL;
	struct bn_svc *svc;
	__u32 idx;

	c->proto = ctx->protocol;
	if (c->proto != IPPROTO_TCP && c->proto != IPPROTO_UDP)
		return BN_SOCK_ASIS;
	if (op == BN_SOCK_SENDMSG && bn_sock_to_peer(ctx, c))
		return BN_SOCK_ASIS;
	c->netns = bpf_get_netns_cookie(ctx);
	c->host = c->netns == cfg_netns_cookie;
	if (!c->host && !cfg_socket_lb_pods)
		return BN_SOCK_ASIS;
	/* A pod's connected UDP is the packets', whatever it is connected to. */
	svc = c->host || c->proto == IPPROTO_TCP || op != BN_SOCK_CONNECT ? bn_sock_service(c, op, &idx) : NULL;
	if (!svc || bn_sock_left_to_packets(c, svc, op)) {
		if (c->proto == IPPROTO_UDP)
			bn_sock_forget(ctx, c);
		return BN_SOCK_ASIS;
	}
	who.now_s = bn_sock_now_s();
	if (c->proto == IPPROTO_UDP && ctx->sk)
		ps = bpf_sk_storage_get(&sk_peers, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (op == BN_SOCK_SENDMSG && ps && bn_sock_sticky(ps, c, svc, who.now_s))
		return BN_SOCK_TRANSLATE;
	if (c->proto == IPPROTO_UDP && !ps && !c->host)
		return BN_SOCK_ASIS;
	who.netns = c->netns;
	who.rnd = c->proto == IPPROTO_UDP && !ps ? (__u32)bpf_get_socket_cookie(ctx) * 2654435761u
						 : bpf_get_prandom_u32();
	switch (bn_sel_backend(svc, &who, &c->be)) {
	case BN_SEL_OK:
		break;
	case BN_SEL_DROP:
		return BN_SOCK_ASIS;
	default:
		if (bn_sock_may_wait(ps, c, op))
			return BN_SOCK_ASIS;
		bn_sock_count(BN_DROP_NO_BACKEND);
		return BN_SOCK_REFUSE;
	}
	if (bn_addr_is_v4(&c->be.addr) != bn_addr_is_v4(&c->addr))
		return BN_SOCK_ASIS;
	/* clang 16 would take "is there storage" from a flag that it made above; 6.1 only believes a test of the
	 * pointer: "R1 invalid mem access 'scalar'".
	 */
	asm volatile("" : "+r"(ps));
	if (c->proto == IPPROTO_TCP)
		bn_sock_note_tcp(ctx, c, who.now_s);
	else if (ps)
		bn_sock_note(ctx, ps, c, who.now_s);
	else
		bn_sock_note_bare(ctx, c);
	bn_sock_count(BN_DROP_NONE);
	return BN_SOCK_TRANSLATE;
}

/* What the application asked for, when it is shown who answers: true if *c was changed. */
static __always_inline bool bn_sock_reverse(struct bpf_sock_addr *ctx, struct bn_sock_call *c)
{
	struct bn_skrev_key key = {};
	struct bn_sk_peers *ps;
	struct bn_skrev_val *v;
	struct bn_sk_tcp *t;

	if (!ctx->sk)
		return false;
	t = ctx->protocol == IPPROTO_TCP ? bn_sk_tcp_of(bpf_get_socket_cookie(ctx)) : NULL;
	if (t && bn_sock_is_back(&t->p, &c->addr, c->port)) {
		c->addr = t->p.front;
		c->port = t->p.front_port;
		return true;
	}
	ps = bpf_sk_storage_get(&sk_peers, ctx->sk, NULL, 0);
	for (int i = 0; ps && i < BN_SK_PEERS; i++) {
		struct bn_sk_peer *p = &ps->p[i];

		if (bn_sock_is_back(p, &c->addr, c->port)) {
			c->addr = p->front;
			c->port = p->front_port;
			return true;
		}
	}
	if (!(ps ? ps->spilled : bn_sock_bare))
		return false;
	key.cookie = bpf_get_socket_cookie(ctx);
	key.addr = c->addr;
	key.port = c->port;
	key.proto = ctx->protocol;
	v = bpf_map_lookup_elem(&sk_rev, &key);
	if (!v)
		return false;
	c->addr = v->addr;
	c->port = v->port;
	return true;
}

#endif
