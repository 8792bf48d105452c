// SPDX-License-Identifier: MIT
#include "loader/model/verify_priv.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <signal.h>
#include <string.h>

#include "maps/drop.h"
#include "maps/ep.h"
#include "maps/maps.h"
#include "maps/pol_access.h"
#include "maps/util.h"

/* --- the packet ------------------------------------------------------------------------------- */

static uint32_t crc32c(const uint8_t *m, size_t n)
{
	uint32_t c = ~0u;

	for (size_t i = 0; i < n; i++) {
		c ^= m[i];
		for (int k = 0; k < 8; k++)
			c = (c >> 1) ^ (0x82f63b78u & -(c & 1));
	}
	return ~c;
}

/* The first packet of a flow: SYN, INIT, a datagram, an echo request. */
static size_t put_l4(uint8_t *h, uint8_t proto, uint16_t sport, uint16_t dport, uint32_t pseudo)
{
	size_t n = 8;
	uint32_t crc;

	memset(h, 0, 32);
	bn_verify_put16(h, sport);
	bn_verify_put16(h + 2, dport);
	switch (proto) {
	case BN_PROTO_TCP:
		n = 20;
		h[12] = 5 << 4;
		h[13] = 2;
		bn_verify_put16(h + 14, 1024);
		bn_verify_put16(h + 16, bn_verify_fold(bn_verify_sum(h, n, pseudo + proto + n)));
		break;
	case BN_PROTO_UDP:
		bn_verify_put16(h + 4, (uint16_t)n);
		bn_verify_put16(h + 6, bn_verify_fold(bn_verify_sum(h, n, pseudo + proto + n)) ?: 0xffff);
		break;
	case BN_PROTO_SCTP:
		n = 12 + 20;
		h[12] = 1;
		bn_verify_put16(h + 14, 20);
		bn_verify_put16(h + 18, 1);
		bn_verify_put16(h + 24, 1);
		bn_verify_put16(h + 26, 1);
		crc = crc32c(h, n);
		memcpy(h + 8, &crc, 4);
		break;
	default:
		h[0] = proto == BN_PROTO_ICMP6 ? 128 : 8;
		h[1] = 0;
		bn_verify_put16(h + 2, 0);
		bn_verify_put16(h + 4, sport);
		bn_verify_put16(h + 2, bn_verify_fold(bn_verify_sum(h, n, proto == BN_PROTO_ICMP6 ? pseudo + proto + n : 0)));
	}
	return n;
}

static void make(struct bn_verify *v, struct packet *p, const struct bn_addr *src,
		 const struct bn_addr *dst, uint8_t proto, uint16_t port, const uint8_t *mac)
{
	bool v4 = bn_addr_is_v4(src);
	size_t alen = v4 ? 4 : 16, l3 = sizeof(struct eth_h), hdr = v4 ? 20 : 40, n;
	struct eth_h *eth = (struct eth_h *)p->b;
	uint32_t pseudo;

	memset(p, 0, sizeof(*p));
	if (!bn_proto_index(proto))
		proto = v4 ? BN_PROTO_ICMP : BN_PROTO_ICMP6;
	memcpy(eth->src, mac, 6);
	memcpy(eth->dst, (uint8_t[]){2, 0, 0, 0, 0, 1}, 6);
	eth->proto = htons(v4 ? ETH_P_IP : ETH_P_IPV6);
	pseudo = bn_verify_sum(src->b + 16 - alen, alen, 0);
	pseudo = bn_verify_sum(dst->b + 16 - alen, alen, pseudo);
	n = put_l4(p->b + l3 + hdr, proto, bn_verify_sport(v), port, pseudo);
	if (v4) {
		struct ip4_h *ip = (struct ip4_h *)(p->b + l3);

		*ip = (struct ip4_h){.ver_ihl = 0x45,
				     .len = htons((uint16_t)(hdr + n)),
				     .ttl = 64,
				     .proto = proto,
				     .src = src->w[3],
				     .dst = dst->w[3]};
		bn_verify_put16(p->b + l3 + 10, bn_verify_fold(bn_verify_sum(ip, hdr, 0)));
	} else {
		struct ip6_h *ip = (struct ip6_h *)(p->b + l3);

		*ip = (struct ip6_h){.vcf = htonl(0x60000000),
				     .len = htons((uint16_t)n),
				     .next = proto,
				     .hops = 64};
		memcpy(ip->src, src, 16);
		memcpy(ip->dst, dst, 16);
	}
	p->len = l3 + hdr + n;
}

static const char *const drop_names[] = {"",
#define X(name, text) #name,
					 BN_DROP_LIST(X)
#undef X
};

/* Which drop counter rose tells what the program thought. */
static int run(const struct bn_maps *m, int fd, uint32_t ifindex, uint32_t in_ifindex,
	       const struct packet *p, enum bn_dir dir, char *reason, size_t len)
{
	struct __sk_buff ctx = {.ifindex = ifindex, .ingress_ifindex = in_ifindex};
	uint8_t out[2048];
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = p->b, .data_size_in = (uint32_t)p->len,
		    .data_out = out, .data_size_out = sizeof(out), .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = 1);
	uint64_t before[BN_DROP__MAX], now[2];
	enum bn_drop why = BN_DROP_NONE, mine, other;
	int r;

	for (uint32_t i = 1; i < BN_DROP__MAX; i++) {
		r = bn_map_percpu_sum(m, BN_MAP_drops, i, now);
		if (r < 0)
			return r;
		before[i] = now[0];
	}
	r = bpf_prog_test_run_opts(fd, &o);
	if (r)
		return r;
	mine = dir == BN_EGRESS ? BN_DROP_POLICY_EGRESS : BN_DROP_POLICY_INGRESS;
	other = dir == BN_EGRESS ? BN_DROP_POLICY_INGRESS : BN_DROP_POLICY_EGRESS;
	for (uint32_t i = 1; i < BN_DROP__MAX;
	     i++) { /* of what rose, policy is what is asked for */
		r = bn_map_percpu_sum(m, BN_MAP_drops, i, now);
		if (r < 0)
			return r;
		if (now[0] != before[i] && why != mine)
			why = i;
	}
	snprintf(reason, len, "%s", drop_names[why]);
	if (why == mine)
		return 0;
	/* The other end's policy comes after this one; anything else is no verdict of a policy. */
	if ((int)o.retval != TC_SHOT || why == other)
		return 1;
	return why == BN_DROP_NONE ? -EPROTO : 0;
}

/* --- maps of our own -------------------------------------------------------------------------- */

static int load(struct bn_verify *v)
{
	struct bn_maps_sizes sz = {};
	struct bn_meta_val meta;
	__u32 zero = 0;
	int r;

	sz.entries[BN_MAP_ct] = 127;
	sz.entries[BN_MAP_eps] = sz.entries[BN_MAP_pods] = sz.entries[BN_MAP_svcs] = 16;
	sz.entries[BN_MAP_slots] = 16;
	r = bn_maps_create(&sz, &v->own);
	r = r ?: bn_map_get(v->own, BN_MAP_meta, &zero, &meta);
	r = r ?: bn_pols_new(v->own, &v->pols);
	if (r < 0)
		return r;
	v->skel = pod_bpf__open();
	if (!v->skel)
		return -errno;
	for (int i = 0; i < BN_MAP__MAX; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(v->skel->obj, bn_map_name(i));

		if (map && bpf_map__reuse_fd(map, v->own->fd[i]) < 0)
			return -errno;
	}
	memcpy((void *)v->skel->rodata->cfg_ct_seed, meta.seed, sizeof(meta.seed));
	v->skel->rodata->cfg_ct_buckets = meta.ct_buckets;
	v->skel->rodata->cfg_weak_order = bn_weak_order();
	v->skel->rodata->cfg_events = false;
	r = pod_bpf__load(v->skel);
	if (r < 0) {
		pod_bpf__destroy(v->skel);
		v->skel = NULL;
	}
	return r;
}

static void *load_thread(void *data)
{
	struct bn_verify *v = data;

	v->result = load(v);
	v->loaded = true;
	return NULL;
}

int bn_verify_load(struct bn_verify *v)
{
	sigset_t all, old;
	int r;

	if (v->loading) {
		if (!v->loaded)
			return -EAGAIN;
		pthread_join(v->thread, NULL);
		v->loading = false;
		return v->result;
	}
	if (v->skel)
		return 0;
	if (!v->live)
		return load(v);
	v->loaded = false;
	sigfillset(&all); /* they are the main thread's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&v->thread, NULL, load_thread, v);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	v->loading = !r;
	return r ? -r : -EAGAIN;
}

/* Anew for each packet: identities may have been added to the matrix in the meantime. */
static int place(struct bn_verify *v, const struct bn_matrix *m)
{
	size_t n = m ? bn_matrix_npeers(m) : 0;
	_cleanup_(freep) uint32_t *ids = calloc(n + 1, sizeof(*ids)),
				  *rows = calloc(n + 1, sizeof(*rows));
	struct bn_matrix_view view;
	struct bn_pol_def def;
	int r;

	if (!ids || !rows)
		return -ENOMEM;
	r = bn_pols_reclaim(v->pols);
	if (v->placed) {
		bn_pols_retire(v->pols, v->placed);
		bn_pols_seal(v->pols);
		v->placed = 0;
	}
	if (!m) /* BN_POL_OPEN */
		return r;
	bn_matrix_view(m, &view);
	def = (struct bn_pol_def){
		.nports = view.nports,
		.nclasses = view.nclasses,
		.default_row = view.default_row,
		.nrows = view.nrows,
		.row_room = view.nrows,
		.ports = view.ports,
		.cells = view.cells,
		.npeers = bn_matrix_peers(m, ids, rows),
		.identities = ids,
		.rows = rows,
	};
	return r ?: bn_pols_add(v->pols, &def, &v->placed);
}

int bn_verify_addr(struct bn_verify *v, uint32_t idx, const struct bn_addr *a, uint32_t identity,
		    uint32_t slot, uint32_t ifindex)
{
	struct bn_ep *ep = bn_map_at(v->own, BN_MAP_eps, idx);

	*ep = (struct bn_ep){.word = BN_EP_WORD(identity, slot),
			     .addr = *a,
			     .ifindex = ifindex,
			     .flags = slot ? BN_ADDR_F_POD : 0};
	return bn_map_put(v->own, BN_MAP_addrs, a, &idx);
}

static int judge_own(struct bn_verify *v, enum bn_dir dir, const struct bn_matrix *m,
		     const struct bn_addr *src, const struct bn_addr *dst, uint32_t peer,
		     uint8_t proto, uint16_t port, char *reason, size_t len)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 2};
	struct bn_iface iface = {
		.slot = BN_VERIFY_SLOT, .role = BN_ROLE_POD, .l2_len = 14, .ifindex = BN_VERIFY_IFINDEX};
	const struct bn_addr *pod = dir == BN_EGRESS ? src : dst,
			     *other = dir == BN_EGRESS ? dst : src;
	uint32_t key = BN_VERIFY_IFINDEX;
	struct packet p;
	int r;

	r = bn_verify_load(v);
	for (uint32_t k = 1; !r && k <= 2; k++) /* of the packet before */
		bn_map_del(v->own, BN_MAP_addrs,
			   &((struct bn_ep *)bn_map_at(v->own, BN_MAP_eps, k))->addr);
	r = r ?: place(v, m);
	r = r ?: bn_verify_addr(v, 2, other, peer, 0, 0);
	r = r ?: bn_verify_addr(v, 1, pod, BN_ID_UNMANAGED, BN_VERIFY_SLOT, BN_VERIFY_IFINDEX);
	r = r ?: bn_map_put(v->own, BN_MAP_ifaces, &key, &iface);
	if (r < 0)
		return r;
	((struct bn_pod_slot *)bn_map_at(v->own, BN_MAP_pods, BN_VERIFY_SLOT))->ifindex = BN_VERIFY_IFINDEX;
	bn_pols_set_word(v->pols, BN_VERIFY_SLOT,
			 dir == BN_EGRESS ? BN_POD_WORD(BN_POL_OPEN, v->placed)
					  : BN_POD_WORD(v->placed, BN_POL_OPEN));
	bn_pols_raise_epoch(v->pols);
	make(v, &p, src, dst, proto, port, mac);
	return run(
		v->own,
		bpf_program__fd(dir == BN_EGRESS ? v->skel->progs.from_pod : v->skel->progs.to_pod),
		BN_VERIFY_IFINDEX, dir == BN_EGRESS ? 0 : BN_VERIFY_IN_IFINDEX, &p, dir, reason, len);
}

/* --- what is in force ------------------------------------------------------------------------- */

/* The local pod of an address, when its policy in this direction really denies what it denies. */
static bool live_pod(const struct bn_verify *v, const struct bn_addr *a, enum bn_dir dir,
		     struct bn_ep *ret)
{
	const struct bn_pod_slot *s;
	const struct bn_state *st;
	const struct bn_pol *pol;
	const struct bn_ep *ep;
	uint32_t idx, id;

	if (!v->live || bn_map_get(v->live, BN_MAP_addrs, a, &idx) < 0)
		return false;
	ep = bn_map_at(v->live, BN_MAP_eps, idx);
	if (!ep || !bn_addr_eq(&ep->addr, a) || !BN_EP_SLOT(ep->word) || !ep->ifindex)
		return false;
	s = bn_map_at(v->live, BN_MAP_pods, BN_EP_SLOT(ep->word));
	st = bn_map_at(v->live, BN_MAP_state, 0);
	if (!s || !st || (st->flags & BN_STATE_F_AUDIT))
		return false;
	id = dir == BN_EGRESS ? BN_POD_EGRESS(s->word) : BN_POD_INGRESS(s->word);
	pol = bn_map_at(v->live, BN_MAP_pols, id);
	*ret = *ep;
	return !pol || id < BN_POL_FIRST || !(pol->flags & BN_POL_F_AUDIT);
}

static int judge(void *data, enum bn_dir dir, const struct bn_matrix *m, const struct bn_addr *src,
		 const struct bn_addr *dst, uint32_t peer, uint8_t proto, uint16_t port,
		 char *reason, size_t len)
{
	struct bn_verify *v = data;
	struct packet p;
	struct bn_ep ep;

	if (v->live_fd[dir] < 0 || !live_pod(v, dir == BN_EGRESS ? src : dst, dir, &ep))
		return judge_own(v, dir, m, src, dst, peer, proto, port, reason, len);
	make(v, &p, src, dst, proto, port, ep.mac);
	return run(v->live, v->live_fd[dir], ep.ifindex, dir == BN_EGRESS ? 0 : BN_VERIFY_IN_IFINDEX, &p, dir,
		   reason, len);
}

/* --- life ------------------------------------------------------------------------------------- */

int bn_verify_new(struct bn_maps *live, int from_pod_fd, int to_pod_fd, struct bn_verify **ret)
{
	struct bn_verify *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->ops = (struct bn_verify_ops){.judge = judge, .request = bn_verify_request, .data = v};
	v->live = live;
	v->live_fd[BN_EGRESS] = from_pod_fd;
	v->live_fd[BN_INGRESS] = to_pod_fd;
	*ret = v;
	return 0;
}

void bn_verify_freep(struct bn_verify **vp)
{
	struct bn_verify *v = *vp;

	if (!v)
		return;
	*vp = NULL;
	if (v->loading)
		pthread_join(v->thread, NULL);
	bn_pols_freep(&v->pols);
	pod_bpf__destroy(v->skel);
	bn_maps_freep(&v->own);
	free(v);
}

const struct bn_verify_ops *bn_verify_ops(struct bn_verify *v)
{
	return &v->ops;
}
