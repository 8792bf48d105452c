/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_CONN_H
#define BN_BPF_HTTP_CONN_H

/* A followed connection's life: begun once with the client's first byte, held by one CPU at a time, forgotten
 * when both ends are through with it. Never made anew in mid-stream: the flow's entry remembers.
 */

#include "bpf/lib/http_feed.h"

#define BN_HTTP_SPINS 4000

static __always_inline struct bn_http_conn *bn_http_conn_get(struct bn_http_work *w)
{
	return bpf_map_lookup_elem(&http_conns, &w->key);
}

static __always_inline bool bn_http_conn_is(const struct bn_pkt *p, const struct bn_http_conn *c)
{
	return c->id && c->first == p->first && c->srv_first == p->srv_first && !*(volatile __u32 *)&c->lost;
}

static long bn_http_spin(__u32 i, struct bn_http_loop *l)
{
	return !l->c || !*(volatile __u32 *)&l->c->claim;
}

__noinline int bn_http_claim_wait(struct bn_http_conn *c)
{
	__u32 me = bpf_get_smp_processor_id() + 1;
	struct bn_http_loop l = {.c = c};

	if (!c)
		return -BN_DROP_INTERNAL;
	for (int i = 0; i < 8; i++) {
		bpf_loop(BN_HTTP_SPINS, bn_http_spin, &l, 0);
		if (!__sync_val_compare_and_swap(&c->claim, 0, me))
			return 0;
	}
	return -BN_DROP_HTTP_BUSY;
}

/* Elements of the map are reused at once: what was claimed may have become another connection's. */
static __always_inline int bn_http_claim(struct bn_pkt *p, struct bn_http_conn *c)
{
	if (__sync_val_compare_and_swap(&c->claim, 0, bpf_get_smp_processor_id() + 1) && bn_http_claim_wait(c))
		return -BN_DROP_HTTP_BUSY;
	if (bn_http_conn_is(p, c))
		return 0;
	*(volatile __u32 *)&c->claim = 0;
	return -BN_DROP_HTTP_BUSY;
}

static __always_inline void bn_http_free(struct bn_http_conn *c)
{
	bn_fence();
	*(volatile __u32 *)&c->claim = 0;
}

/* A connection more (1) or less (-1). */
static __always_inline void bn_http_count_conn(__u32 slot, __u32 n)
{
	struct bn_http_share *all = bn_http_share(0), *own = bn_http_share(slot);

	if (!slot || !all || !own)
		return;
	__sync_fetch_and_add(&all->conns, n);
	__sync_fetch_and_add(&own->conns, n);
}

static __always_inline bool bn_http_may_follow(__u32 slot)
{
	struct bn_http_share *all = bn_http_share(0), *own = bn_http_share(slot);

	return all && own && *(volatile __u32 *)&own->conns + *(volatile __u32 *)&all->conns < cfg_http_conns;
}

static __always_inline bool bn_http_full(void)
{
	struct bn_http_share *all = bn_http_share(0);

	return !all || *(volatile __u32 *)&all->conns >= cfg_http_conns;
}

/* The connection is over. The caller holds the claim, and must not touch it any more. */
__noinline int bn_http_forget(struct bn_http_conn *c)
{
	struct bn_http_work *w = bn_http_work_get();
	__u32 slot;

	if (!w || !c)
		return 0;
	if (c->nblocks)
		bn_http_release(c, 1);
	slot = c->slot;
	c->id = 0;
	bn_http_free(c);
	if (!bpf_map_delete_elem(&http_conns, &w->key))
		bn_http_count_conn(slot, -1);
	return 0;
}

static __always_inline void bn_http_note_one(struct bn_ct_entry *e, const struct bn_http_work *w, __u32 made)
{
	if (made) {
		__sync_fetch_and_or(&e->http, made);
	} else {
		e->first = w->ack;
		e->srv_first = w->seq + 1;
	}
}

/* Into both entries of the flow: that the judges' state was made; or (made 0) from the server's SYN-ACK where
 * both streams begin.
 */
__noinline int bn_http_note(struct bn_pkt *p, __u32 made)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_scratch *s = bn_scratch_get();
	struct bn_ct_hit hit;
	__u32 flags;

	if (!p || !w || !s)
		return -BN_DROP_INTERNAL;
	bn_ct_ref(&s->ref, &p->t, BN_PROTO_TCP, p->zone);
	bn_ct_find(&s->ref, &hit);
	if (!hit.e)
		return -BN_DROP_INTERNAL;
	bn_http_note_one(hit.e, w, made);
	flags = hit.e->flags;
	if (!(flags & BN_CT_F_NAT))
		return 0;
	bn_ct_other(hit.e, &s->ends.t);
	bn_ct_ref(&s->ref, &s->ends.t, BN_PROTO_TCP,
		  (flags & (BN_CT_F_SHIFTED | BN_CT_F_ALIAS)) == BN_CT_F_SHIFTED ? BN_CT_ZONE_SHIFTED
										  : BN_CT_ZONE_MAIN);
	bn_ct_find(&s->ref, &hit);
	if (hit.e)
		bn_http_note_one(hit.e, w, made);
	return 0;
}

/* Room for new connections, at most once a second: those that are over, or were never used. */
static long bn_http_sweep_one(void *map, const void *key, struct bn_http_conn *c, __u32 *now_s)
{
	__u32 idle, slot;

	if (!c || !now_s)
		return 1;
	idle = *now_s - c->seen_s;
	if (idle < BN_CT_T_TCP_S && !(idle >= 60 && (c->phase != BN_HTTP_FOLLOWED || c->next == c->first)) &&
	    !(idle >= 60 && (c->flags & (BN_HTTP_CONN_F_FIN | BN_HTTP_CONN_F_SRV_FIN))) &&
	    !(idle >= 5 && (c->flags & BN_HTTP_CONN_F_CLOSED)))
		return 0;
	if (__sync_val_compare_and_swap(&c->claim, 0, bpf_get_smp_processor_id() + 1))
		return 0;
	if (c->nblocks)
		bn_http_release(c, 1);
	slot = c->slot;
	c->id = 0;
	bn_http_free(c);
	if (!bpf_map_delete_elem(map, key))
		bn_http_count_conn(slot, -1);
	return 0;
}

static __u32 bn_http_swept_s;

__noinline int bn_http_sweep(struct bn_pkt *p)
{
	__u32 last = bn_http_swept_s, now_s;

	if (!p)
		return 0;
	now_s = p->now_s;
	if (now_s == last || __sync_val_compare_and_swap(&bn_http_swept_s, last, now_s) != last)
		return 0;
	bpf_for_each_map_elem(&http_conns, bn_http_sweep_one, &now_s, 0);
	return 0;
}

/* Whose rules judge: its pod takes the room. */
static __always_inline __u32 bn_http_slot(const struct bn_http_work *w)
{
	return bn_addr_slot(w->side == BN_DIR_EGRESS ? &w->key.client : &w->key.server);
}

/* For `bpfnet status`: the pod asked for more than its share. */
static __always_inline void bn_http_refused(const struct bn_pkt *p, const struct bn_http_work *w)
{
	struct bn_http_share *own = bn_http_share(bn_http_slot(w));

	if (!own)
		return;
	own->refused_s = p->now_s;
	__sync_fetch_and_add(&own->refused, 1);
}

/* The first byte of either is here: from now on the connection is followed. Once in a flow's life. */
__noinline int bn_http_begin_conn(struct bn_pkt *p)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_conn *c;
	__u32 slot;

	if (!p || !w)
		return -BN_DROP_INTERNAL;
	c = &w->fresh;
	__builtin_memset(c, 0, offsetof(struct bn_http_conn, recent));
	c->id = bpf_ktime_get_ns() << 8 | (bpf_get_smp_processor_id() & 0xff);
	c->seen_s = p->now_s;
	c->next = c->una = c->kept = c->end = c->head = c->recent_from = c->recent_to = c->top = p->first;
	c->slot = bn_http_slot(w);
	c->first = p->first;
	c->srv_first = p->srv_first;
	c->srv_end = c->srv_acked = c->srv_base = p->flags & BN_PKT_F_REPLY ? w->end : w->ack;
	/* Of an earlier connection with these ports: its flow is gone. Or another CPU has just made this one's. */
	c = bn_http_conn_get(w);
	if (c) {
		if (bn_http_conn_is(p, c))
			return -BN_DROP_HTTP_BUSY;
		if (__sync_val_compare_and_swap(&c->claim, 0, bpf_get_smp_processor_id() + 1))
			return -BN_DROP_HTTP_BUSY;
		bn_http_forget(c);
	}
	slot = w->fresh.slot;
	if (!bn_http_may_follow(slot)) {
		bn_http_sweep(p);
		if (!bn_http_may_follow(slot))
			return bn_http_full() ? -BN_DROP_HTTP_FULL : -BN_DROP_HTTP_SHARE;
	}
	if (bpf_map_update_elem(&http_conns, &w->key, &w->fresh, BPF_NOEXIST))
		return -BN_DROP_HTTP_FULL;
	bn_http_count_conn(slot, 1);
	return bn_http_note(p, BN_CT_HTTP_MADE << BN_CT_HTTP_SHIFT(w->side));
}

#endif
