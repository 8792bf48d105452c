/* SPDX-License-Identifier: MIT */
#ifndef BN_TEST_POD_ENV_H
#define BN_TEST_POD_ENV_H

/* What the tests of the packet programs share: private maps, the loaded object, a little cluster in
 * them, packets from packed structs, and one step: run a packet, compare verdict, every drop counter
 * and the whole packet that comes out. Every step is written once and run for both families.
 *
 * BPF_PROG_TEST_RUN wants interfaces that exist: the test makes veths in a namespace of its own.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <sched.h>
#include <string.h>

#include "maps/maps.h"
#include "maps/util.h"
#include "pod.skel.h"

/* A row names what matters; the rest is 0. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define PASS (-1)
#define SHOT 2
#define REDIR 7

/* Addresses of the little cluster, of either family. */
enum who {
	A, /* pods of this node */
	B,
	C,
	UNKNOWN, /* behind an interface that is mapped to no pod yet */
	REMOTE,	 /* pod of another node */
	REMOTE2,
	HOST, /* this node; answers NodePorts; source of hairpin flows */
	NODE, /* another node */
	OUT,  /* the world */
	VIP,  /* ClusterIP */
	VIP2,
	LB,
	MCAST,
	ZERO,
	LINKLOCAL,
	ALLNODES,
	WHO__MAX,
};

static const char *const who_addr[WHO__MAX][2] = {
	[A] = {"10.1.0.1", "fd00:1::1"},
	[B] = {"10.1.0.2", "fd00:1::2"},
	[C] = {"10.1.0.3", "fd00:1::3"},
	[UNKNOWN] = {"10.1.0.9", "fd00:1::9"},
	[REMOTE] = {"10.2.0.1", "fd00:2::1"},
	[REMOTE2] = {"10.2.0.2", "fd00:2::2"},
	[HOST] = {"192.0.2.1", "2001:db8::1"},
	[NODE] = {"192.0.2.2", "2001:db8::2"},
	[OUT] = {"198.51.100.7", "2001:db8:f::7"},
	[VIP] = {"10.96.0.10", "fd00:96::10"},
	[VIP2] = {"10.96.0.11", "fd00:96::11"},
	[LB] = {"203.0.113.5", "2001:db8:5::5"},
	[MCAST] = {"224.0.0.251", "ff02::fb"},
	[ZERO] = {"0.0.0.0", "::"},
	[LINKLOCAL] = {"169.254.3.4", "fe80::1234"},
	[ALLNODES] = {"255.255.255.255", "ff02::1"},
};

enum { /* interfaces; pods A, B, C behind the first three */
	IF_A = 11,
	IF_B = 12,
	IF_C = 13,
	IF_NEW = 14,  /* no pod yet */
	IF_OPEN = 15, /* no pod of Kubernetes */
	IF_UP = 16,   /* where the outside comes from */
};

enum {
	FIN = 1,
	SYN = 2,
	RST = 4,
	ACK = 16,
};

struct env {
	struct bn_maps *m;
	struct pod_bpf *skel;
	uint32_t next_ep, next_svc, next_slot, next_gen;
};

static struct bn_addr addr_of(enum who w, int v6)
{
	struct bn_addr a = {};
	struct in_addr v4;

	if (v6) {
		assert_int_equal(inet_pton(AF_INET6, who_addr[w][1], &a), 1);
	} else {
		assert_int_equal(inet_pton(AF_INET, who_addr[w][0], &v4), 1);
		bn_addr_v4(&a, v4.s_addr);
	}
	return a;
}

/* --- Packets --------------------------------------------------------------------------------- */

struct pk {
	enum who s, d;
	uint16_t sp, dp; /* ICMP: sp is the type (v4; v6 is derived), dp the identifier */
	uint8_t proto;	 /* BN_PROTO_ICMP means ICMPv6 in IPv6 */
	uint8_t flags;	 /* TCP */
	uint8_t ttl;	 /* 0: 64 */
	uint8_t vlan;	 /* tags in the frame */
	uint16_t frag;	 /* IPv4 notation: offset / 8, 0x2000 more follow */
	uint16_t id;
	uint16_t len;	 /* payload, 0: 32; NOPAYLOAD */
	uint8_t nocsum;	 /* UDP without checksum */
	uint8_t ext;	 /* IPv6 extension headers (IPv4: words of options) */
	uint32_t seq, ack;
	uint8_t shift; /* payload begins at this byte of the pattern (fragments) */
};
#define NOPAYLOAD 0xffff
#define ICMP_PROTO BN_PROTO_ICMP

struct frame {
	size_t len, l3, l4;
	uint8_t b[2048];
};

struct __attribute__((packed)) w_eth {
	uint8_t dst[6], src[6];
	uint16_t proto;
};
struct __attribute__((packed)) w_ip4 {
	uint8_t ver_ihl, tos;
	uint16_t len, id, frag;
	uint8_t ttl, proto;
	uint16_t csum;
	uint32_t src, dst;
};
struct __attribute__((packed)) w_ip6 {
	uint32_t vcf;
	uint16_t len;
	uint8_t next, hops, src[16], dst[16];
};
struct __attribute__((packed)) w_tcp {
	uint16_t sp, dp;
	uint32_t seq, ack;
	uint8_t doff, flags;
	uint16_t win, csum, urg;
};
struct __attribute__((packed)) w_udp {
	uint16_t sp, dp, len, csum;
};
struct __attribute__((packed)) w_sctp {
	uint16_t sp, dp;
	uint32_t tag, crc;
	uint8_t type, cflags;
	uint16_t clen;
};
struct __attribute__((packed)) w_icmp {
	uint8_t type, code;
	uint16_t csum, id, seq;
};

static _unused_ uint32_t sum16(const void *p, size_t n, uint32_t s)
{
	const uint8_t *b = p;

	for (size_t i = 0; i + 1 < n; i += 2)
		s += b[i] << 8 | b[i + 1];
	if (n & 1)
		s += b[n - 1] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

static _unused_ uint32_t crc32c(const uint8_t *m, size_t n)
{
	uint32_t c = ~0u;

	for (size_t i = 0; i < n; i++) {
		c ^= m[i];
		for (int k = 0; k < 8; k++)
			c = (c >> 1) ^ (0x82f63b78u & -(c & 1));
	}
	return ~c;
}

static _unused_ uint8_t wire_proto(const struct pk *p, int v6)
{
	return p->proto == BN_PROTO_ICMP && v6 ? BN_PROTO_ICMP6 : p->proto;
}

/* Sum of the pseudo header (the protocol as an even byte pair). */
static _unused_ uint32_t pseudo(const struct bn_addr *s, const struct bn_addr *d, int v6, uint8_t proto,
			    size_t len)
{
	uint32_t sum = sum16(v6 ? s->b : s->b + 12, v6 ? 16 : 4, 0);

	sum = sum16(v6 ? d->b : d->b + 12, v6 ? 16 : 4, sum);
	return sum + proto + len;
}

/* L4 header and payload of a whole packet at `h`; returns their length. */
static _unused_ size_t build_l4(uint8_t *h, const struct pk *p, int v6)
{
	struct bn_addr s = addr_of(p->s, v6), d = addr_of(p->d, v6);
	size_t pay = p->len == NOPAYLOAD ? 0 : p->len ? p->len : 32, hdr = 0, n;
	uint8_t proto = wire_proto(p, v6);
	uint16_t *csum = NULL;
	uint32_t sum;

	if (proto == BN_PROTO_TCP) {
		struct w_tcp *t = (void *)h;

		hdr = sizeof(*t);
		*t = (struct w_tcp){htons(p->sp), htons(p->dp), htonl(p->seq), htonl(p->ack), 5 << 4,
				    p->flags,	  htons(1000),	0,		0};
		csum = (void *)(h + offsetof(struct w_tcp, csum));
	} else if (proto == BN_PROTO_UDP) {
		struct w_udp *u = (void *)h;

		hdr = sizeof(*u);
		*u = (struct w_udp){htons(p->sp), htons(p->dp), htons(hdr + pay), 0};
		csum = p->nocsum ? NULL : (void *)(h + 6);
	} else if (proto == BN_PROTO_SCTP) {
		struct w_sctp *c = (void *)h;

		hdr = sizeof(*c);
		*c = (struct w_sctp){htons(p->sp), htons(p->dp),
				     htonl(7),	   0,
				     p->flags == SYN   ? 1
				     : p->flags == RST ? 6
						       : 0,
				     0,		   htons(4 + pay)};
	} else if (proto == BN_PROTO_ICMP || proto == BN_PROTO_ICMP6) {
		struct w_icmp *i = (void *)h;
		uint8_t type = p->sp;

		if (v6 && (type == 8 || type == 0))
			type = type == 8 ? 128 : 129;
		hdr = sizeof(*i);
		*i = (struct w_icmp){type, 0, 0, htons(p->dp), htons(1)};
		csum = (void *)(h + 2);
	}
	for (size_t i = 0; i < pay; i++)
		h[hdr + i] = (i + p->shift) * 7 + 1;
	n = hdr + pay;
	if (csum) {
		sum = proto == BN_PROTO_ICMP ? 0 : pseudo(&s, &d, v6, proto, n);
		sum = ~sum16(h, n, sum) & 0xffff;
		if (!sum && proto == BN_PROTO_UDP)
			sum = 0xffff;
		((uint8_t *)csum)[0] = sum >> 8;
		((uint8_t *)csum)[1] = sum;
	}
	if (proto == BN_PROTO_SCTP) {
		uint32_t c = crc32c(h, n);

		memcpy(h + 8, &c, 4);
	}
	return n;
}

static _unused_ size_t build_l3(uint8_t *h, const struct pk *p, int v6, const uint8_t *l4, size_t n)
{
	struct bn_addr s = addr_of(p->s, v6), d = addr_of(p->d, v6);
	uint8_t ttl = p->ttl ? p->ttl : 64;
	size_t hdr;

	if (!v6) {
		struct w_ip4 *ip = (void *)h;

		hdr = 20 + p->ext * 4;
		*ip = (struct w_ip4){0x40 | hdr / 4, 0,	  htons(hdr + n),
				     htons(p->id),	 htons(p->frag), ttl,
				     wire_proto(p, v6),	 0,		 s.w[3], d.w[3]};
		memset(h + 20, 1, p->ext * 4); /* no operation */
		ip->csum = htons(~sum16(h, hdr, 0));
	} else {
		struct w_ip6 *ip = (void *)h;
		uint8_t *next = &ip->next;

		hdr = sizeof(*ip);
		ip->vcf = htonl(0x60000000);
		ip->hops = ttl;
		memcpy(ip->src, &s, 16);
		memcpy(ip->dst, &d, 16);
		for (int i = 0; i < p->ext; i++) {
			*next = 60; /* destination options: PadN */
			memcpy(h + hdr, (uint8_t[]){0, 0, 1, 4, 0, 0, 0, 0}, 8);
			next = h + hdr;
			hdr += 8;
		}
		if (p->frag) {
			uint32_t id = htonl(p->id);

			*next = 44;
			memset(h + hdr, 0, 8);
			h[hdr + 2] = (p->frag & 0x1fff) >> 5;
			h[hdr + 3] = (p->frag & 0x1fff) << 3 | !!(p->frag & 0x2000);
			memcpy(h + hdr + 4, &id, 4);
			next = h + hdr;
			hdr += 8;
		}
		*next = wire_proto(p, v6);
		ip->len = htons(hdr - sizeof(*ip) + n);
	}
	memcpy(h + hdr, l4, n);
	return hdr;
}

static _unused_ void build(struct frame *f, const struct pk *p, int v6)
{
	uint8_t l4[2048];
	struct w_eth *eth = (void *)f->b;
	size_t n = build_l4(l4, p, v6), off = p->frag & 0x1fff;

	memset(f, 0, sizeof(*f));
	*eth = (struct w_eth){{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}, htons(v6 ? 0x86dd : 0x0800)};
	f->l3 = sizeof(*eth);
	for (int i = 0; i < p->vlan; i++) {
		uint8_t *tag = f->b + f->l3 - 2;

		memcpy(tag, (uint8_t[]){0x81, 0, 0, 5 + i}, 4);
		memcpy(tag + 4, v6 ? (uint8_t[]){0x86, 0xdd} : (uint8_t[]){8, 0}, 2);
		f->l3 += 4;
	}
	if (off) { /* a later fragment: payload only */
		n = p->len ? p->len : 32;
		for (size_t i = 0; i < n; i++)
			l4[i] = (i + p->shift) * 7 + 1;
	}
	f->l4 = f->l3 + build_l3(f->b + f->l3, p, v6, l4, n);
	f->len = f->l4 + n;
}

/* An ICMP error (v4 type and code; IPv6's given too) from s to d that quotes the first `n` bytes of
 * `in` from its IP header on.
 */
struct icmp_err {
	enum who s, d;
	uint8_t type4, code4, type6, code6, ttl;
	uint32_t rest; /* pointer or MTU */
	uint16_t quote;
};

static _unused_ void build_icmp_err(struct frame *f, const struct icmp_err *x, const struct frame *in,
				    int v6)
{
	struct bn_addr s = addr_of(x->s, v6), d = addr_of(x->d, v6);
	struct pk p = {.s = x->s, .d = x->d, .proto = ICMP_PROTO, .ttl = x->ttl};
	uint32_t rest = htonl(x->rest);
	uint8_t l4[2048] = {};
	size_t n = in->len - in->l3;
	uint16_t sum;

	if (n > x->quote)
		n = x->quote;
	l4[0] = v6 ? x->type6 : x->type4;
	l4[1] = v6 ? x->code6 : x->code4;
	memcpy(l4 + 4, &rest, 4);
	memcpy(l4 + 8, in->b + in->l3, n);
	sum = ~sum16(l4, n + 8, v6 ? pseudo(&s, &d, 1, BN_PROTO_ICMP6, n + 8) : 0);
	l4[2] = sum >> 8;
	l4[3] = sum;
	build(f, &p, v6);
	f->l3 = 14;
	f->l4 = f->l3 + build_l3(f->b + f->l3, &p, v6, l4, n + 8);
	f->len = f->l4 + n + 8;
}

static _unused_ void swap_macs(struct frame *f)
{
	uint8_t mac[6];

	memcpy(mac, f->b, 6);
	memcpy(f->b, f->b + 6, 6);
	memcpy(f->b + 6, mac, 6);
}

/* What refuses `p`: a reset, or an ICMP error (admin: "administratively prohibited"). */
static _unused_ void build_refusal(struct frame *f, const struct pk *p, int v6, bool admin)
{
	struct frame in;

	build(&in, p, v6);
	if (p->proto == BN_PROTO_TCP) {
		struct pk r = {p->d, p->s, p->dp, p->sp, BN_PROTO_TCP, .len = NOPAYLOAD};
		size_t pay = p->len == NOPAYLOAD ? 0 : p->len ? p->len : 32;

		r.flags = p->flags & ACK ? RST : RST | ACK;
		r.seq = p->flags & ACK ? p->ack : 0;
		r.ack = p->flags & ACK ? 0 : p->seq + pay + !!(p->flags & SYN) + !!(p->flags & FIN);
		build(f, &r, v6);
		f->b[f->l4 + 14] = f->b[f->l4 + 15] = 0; /* no window */
		f->b[f->l4 + 16] = f->b[f->l4 + 17] = 0;
		{
			struct bn_addr s = addr_of(p->d, v6), d = addr_of(p->s, v6);
			uint16_t c = ~sum16(f->b + f->l4, 20, pseudo(&s, &d, v6, 6, 20));

			f->b[f->l4 + 16] = c >> 8;
			f->b[f->l4 + 17] = c;
		}
	} else {
		struct icmp_err x = {p->d, p->s, 3, admin ? 13 : 3, 1, admin ? 1 : 4, .quote = 128};

		build_icmp_err(f, &x, &in, v6);
	}
	if (!v6) { /* don't fragment */
		f->b[f->l3 + 6] = 0x40;
		f->b[f->l3 + 10] = f->b[f->l3 + 11] = 0;
		{
			uint16_t c = ~sum16(f->b + f->l3, 20, 0);

			f->b[f->l3 + 10] = c >> 8;
			f->b[f->l3 + 11] = c;
		}
	}
	swap_macs(f);
}

/* --- The maps -------------------------------------------------------------------------------- */

static _unused_ void ep_put(struct env *e, enum who w, uint32_t identity, uint32_t slot, uint32_t ifindex,
			uint16_t flags)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct bn_addr a = addr_of(w, v6);
		uint32_t idx;
		struct bn_ep *ep;

		if (bn_map_get(e->m, BN_MAP_addrs, &a, &idx) < 0)
			idx = ++e->next_ep;
		ep = bn_map_at(e->m, BN_MAP_eps, idx);
		*ep = (struct bn_ep){.word = BN_EP_WORD(identity, slot), .addr = a,
				     .ifindex = ifindex, .flags = flags};
		assert_int_equal(bn_map_put(e->m, BN_MAP_addrs, &a, &idx), 0);
	}
}

static _unused_ void iface_put(struct env *e, uint32_t ifindex, uint32_t slot, uint16_t flags)
{
	struct bn_iface f = {.slot = slot, .role = BN_ROLE_POD, .l2_len = 14, .flags = flags,
			     .ifindex = ifindex};

	assert_int_equal(bn_map_put(e->m, BN_MAP_ifaces, &ifindex, &f), 0);
}

static _unused_ struct bn_state *state_of(struct env *e)
{
	return e->m->mem[BN_MAP_state];
}

static _unused_ struct bn_pod_slot *pod_of(struct env *e, uint32_t slot)
{
	return bn_map_at(e->m, BN_MAP_pods, slot);
}

struct be {
	enum who w;
	uint16_t port;
};

/* A service with this front in both families; returns the index of the IPv4 record (IPv6: + 1). */
static _unused_ uint32_t svc_put(struct env *e, enum who vip, uint16_t port, uint8_t proto, uint32_t flags,
			     const struct be *bes, uint32_t n)
{
	uint32_t first = e->next_svc + 1;

	for (int v6 = 0; v6 < 2; v6++) {
		uint32_t idx = ++e->next_svc, base = e->next_slot;
		struct bn_svc *s = bn_map_at(e->m, BN_MAP_svcs, idx);
		struct bn_front_val v = {.idx = idx};
		struct bn_front_key any = {.addr = addr_of(vip, v6), .scope = BN_SCOPE_ADDR};
		struct bn_front_val kind = {.idx = flags & BN_SVC_F_EXTERNAL ? BN_FRONT_IDX_EXTERNAL
									    : BN_FRONT_IDX_CLUSTERIP};

		memset(s, 0, sizeof(*s));
		s->key = (struct bn_front_key){.addr = addr_of(vip, v6), .port = htons(port),
					       .proto = proto};
		if (flags & BN_SVC_F_NODEPORT)
			bn_front_nodeport(&s->key, &s->key.addr, htons(port), proto);
		s->flags = flags;
		s->svc_id = idx;
		for (uint32_t i = 0; i < n; i++) {
			struct bn_backend *b = bn_map_at(e->m, BN_MAP_slots, e->next_slot++);

			*b = (struct bn_backend){.addr = addr_of(bes[i].w, v6),
						 .port = htons(bes[i].port)};
		}
		s->range = s->range_int = BN_RANGE(base, n, 1);
		assert_int_equal(bn_map_put(e->m, BN_MAP_fronts, &s->key, &v), 0);
		if (!(flags & BN_SVC_F_NODEPORT))
			assert_int_equal(bn_map_put(e->m, BN_MAP_fronts, &any, &kind), 0);
	}
	return first;
}

/* Another set of backends for both records of a service: one flip each. */
static _unused_ void svc_set(struct env *e, uint32_t first, const struct be *bes, uint32_t n, uint32_t none)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct bn_svc *s = bn_map_at(e->m, BN_MAP_svcs, first + v6);
		uint32_t base = e->next_slot;

		for (uint32_t i = 0; i < n; i++) {
			struct bn_backend *b = bn_map_at(e->m, BN_MAP_slots, e->next_slot++);

			*b = (struct bn_backend){.addr = addr_of(bes[i].w, v6),
						 .port = htons(bes[i].port)};
		}
		s->range = s->range_int = BN_RANGE(n ? base : none, n, BN_RANGE_GEN(s->range) + 1);
	}
}

static _unused_ void svc_del(struct env *e, uint32_t first)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct bn_svc *s = bn_map_at(e->m, BN_MAP_svcs, first + v6);
		struct bn_front_key k = s->key;

		assert_int_equal(bn_map_del(e->m, BN_MAP_fronts, &k), 0);
		memset(s, 0, sizeof(*s));
		k.port = 0;
		k.proto = 0;
		k.scope = BN_SCOPE_ADDR;
		bn_map_del(e->m, BN_MAP_fronts, &k);
	}
}

/* --- Loading --------------------------------------------------------------------------------- */

struct env_opts {
	uint32_t buckets;
	bool bypass, no_events;
};

static _unused_ int pod_load(struct bn_maps *m, const struct env_opts *o, struct pod_bpf **ret)
{
	struct pod_bpf *s = pod_bpf__open();
	struct bn_meta_val meta;
	__u32 zero = 0;

	if (!s)
		return -1;
	for (int i = 0; i < BN_MAP__MAX; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(s->obj, bn_map_name(i));

		if (!map || bpf_map__reuse_fd(map, m->fd[i]) < 0)
			return -1;
	}
	if (bn_map_get(m, BN_MAP_meta, &zero, &meta) < 0)
		return -1;
	memcpy((void *)s->rodata->cfg_ct_seed, meta.seed, sizeof(meta.seed));
	s->rodata->cfg_ct_buckets = meta.ct_buckets;
	s->rodata->cfg_bypass = o->bypass;
	s->rodata->cfg_events = !o->no_events;
	if (pod_bpf__load(s) < 0) {
		pod_bpf__destroy(s);
		return -1;
	}
	*ret = s;
	return 0;
}

static _unused_ void cluster(struct env *e, bool bypass)
{
	struct bn_state *st = state_of(e);
	uint16_t f = BN_IF_F_PEER | (bypass ? BN_IF_F_BYPASS : 0);

	for (uint32_t i = 0; i < 3; i++) {
		iface_put(e, IF_A + i, i + 1, f);
		ep_put(e, A + i, 300 + i, i + 1, IF_A + i, BN_ADDR_F_POD);
		pod_of(e, i + 1)->word = BN_POD_WORD(BN_POL_OPEN, BN_POL_OPEN);
		pod_of(e, i + 1)->ifindex = IF_A + i;
	}
	iface_put(e, IF_NEW, 0, 0);
	iface_put(e, IF_OPEN, 0, BN_IF_F_OPEN);
	ep_put(e, REMOTE, 310, 0, 0, BN_ADDR_F_POD);
	ep_put(e, REMOTE2, 311, 0, 0, BN_ADDR_F_POD);
	ep_put(e, HOST, BN_ID_HOST, 0, 0, BN_ADDR_F_HOST | BN_ADDR_F_NODEPORT);
	ep_put(e, NODE, BN_ID_NODE, 0, 0, BN_ADDR_F_NODE);
	st->node4 = addr_of(HOST, 0);
	st->node6 = addr_of(HOST, 1);
}

static _unused_ void env_free(struct env *e)
{
	pod_bpf__destroy(e->skel);
	bn_maps_freep(&e->m);
	free(e);
}

static _unused_ struct env *env_new(const struct env_opts *o)
{
	struct bn_maps_sizes sz = {};
	struct env *e = calloc(1, sizeof(*e));

	assert_non_null(e);
	sz.entries[BN_MAP_ct] = o->buckets ? o->buckets : 1021;
	sz.entries[BN_MAP_svcs] = sz.entries[BN_MAP_eps] = 1024;
	sz.entries[BN_MAP_slots] = sz.entries[BN_MAP_pol_cells] = sz.entries[BN_MAP_pol_ports] = 65536;
	assert_int_equal(bn_maps_create(&sz, &e->m), 0);
	assert_int_equal(pod_load(e->m, o, &e->skel), 0);
	cluster(e, o->bypass);
	return e;
}

/* The namespace with the interfaces; once per test program. */
static _unused_ int net_setup(void **state)
{
	char cmd[128];

	(void)state;
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	for (int i = IF_A; i <= IF_UP; i++) {
		snprintf(cmd, sizeof(cmd), "ip link add dpv%d index %d type veth peer name dpp%d && "
			 "ip link set dpv%d address 02:00:00:00:00:01", i, i, i, i);
		if (system(cmd))
			return -1;
	}
	return 0;
}

/* --- One step -------------------------------------------------------------------------------- */

static _unused_ uint64_t drops_of(struct env *e, uint32_t reason)
{
	uint64_t sum[2];

	assert_int_equal(bn_map_percpu_sum(e->m, BN_MAP_drops, reason, sum), 0);
	return sum[0];
}

struct run {
	bool to_pod;
	uint32_t ifindex, in_ifindex, gso_size;
};

struct result {
	int verdict;
	struct frame out;
	uint64_t drops[BN_DROP__MAX];
	uint32_t ns;
};

static _unused_ void run_frame(struct env *e, const struct run *r, const struct frame *f,
			   struct result *ret)
{
	struct __sk_buff ctx = {.ifindex = r->ifindex, .ingress_ifindex = r->in_ifindex,
				.gso_size = r->gso_size};
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f->b, .data_size_in = f->len,
		    .data_out = ret->out.b, .data_size_out = sizeof(ret->out.b), .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = 1);
	uint64_t before[BN_DROP__MAX];
	int err;

	for (uint32_t i = 1; i < BN_DROP__MAX; i++)
		before[i] = drops_of(e, i);
	err = bpf_prog_test_run_opts(bpf_program__fd(r->to_pod ? e->skel->progs.to_pod
							       : e->skel->progs.from_pod), &o);
	if (err)
		fail_msg("test run of %zu bytes: %d", f->len, err);
	ret->verdict = (int)o.retval;
	ret->out.len = o.data_size_out;
	ret->ns = o.duration;
	for (uint32_t i = 1; i < BN_DROP__MAX; i++)
		ret->drops[i] = drops_of(e, i) - before[i];
}

static _unused_ void dump(const char *what, const struct frame *f)
{
	printf("%s (%zu):", what, f->len);
	for (size_t i = 0; i < f->len && i < 160; i++)
		printf("%s%02x", i % 16 ? " " : "\n  ", f->b[i]);
	printf("\n");
}

static _unused_ const char *drop_name(uint32_t r)
{
	static const char *const names[] = {
		"NONE",
#define X(name, text) #name,
		BN_DROP_LIST(X)
#undef X
	};

	return r < BN_DROP__MAX ? names[r] : "?";
}

/* Runs f and fails unless verdict, counters and packet are as wanted (out NULL: not compared). */
static _unused_ void expect(struct env *e, const char *name, const struct run *r, const struct frame *f,
			int verdict, uint32_t drop, const struct frame *out)
{
	struct result res;

	run_frame(e, r, f, &res);
	for (uint32_t i = 1; i < BN_DROP__MAX; i++)
		if (res.drops[i] != (i == drop))
			fail_msg("%s: %s counted %llu, wanted %s (verdict %d)", name, drop_name(i),
				 (unsigned long long)res.drops[i], drop_name(drop), res.verdict);
	if (res.verdict != verdict)
		fail_msg("%s: verdict %d, wanted %d", name, res.verdict, verdict);
	if (out && (res.out.len != out->len || memcmp(res.out.b, out->b, out->len))) {
		dump("in", f);
		dump("got", &res.out);
		dump("wanted", out);
		fail_msg("%s: packet differs", name);
	}
}

/* A packet, what becomes of it, and as which packet. */
struct row {
	const char *name;
	struct run r;
	struct pk in;
	int verdict;
	uint32_t drop;
	struct pk out; /* s == d: as it came in */
	uint8_t refused; /* 1: answered by a refusal, 2: "prohibited"; 3: `out` with swapped MACs */
};

static _unused_ void row_run(struct env *e, const struct row *w, int v6)
{
	struct frame in, out;
	char name[160];

	snprintf(name, sizeof(name), "v%d %s", v6 ? 6 : 4, w->name);
	build(&in, &w->in, v6);
	build(&out, w->out.s == w->out.d ? &w->in : &w->out, v6);
	if (w->refused == 3)
		swap_macs(&out);
	else if (w->refused)
		build_refusal(&out, &w->in, v6, w->refused == 2);
	expect(e, name, &w->r, &in, w->verdict, w->drop, w->verdict == SHOT ? NULL : &out);
}

/* All rows, in order, first for IPv4 and then for IPv6. */
static _unused_ void rows_run(struct env *e, const struct row *w, size_t n)
{
	for (int v6 = 0; v6 < 2; v6++)
		for (size_t i = 0; i < n; i++)
			row_run(e, &w[i], v6);
}
#define ROWS(e, ...)                                                                               \
	do {                                                                                       \
		const struct row rows_[] = {__VA_ARGS__};                                          \
		rows_run(e, rows_, ARRAY_SIZE(rows_));                                             \
	} while (0)

#define OUT_OF(i) {.ifindex = (i)}
#define INTO(i, from) {.to_pod = true, .ifindex = (i), .in_ifindex = (from)}
#define TCP BN_PROTO_TCP
#define UDP BN_PROTO_UDP
#define SCTP BN_PROTO_SCTP
#define ICMP BN_PROTO_ICMP

#endif
