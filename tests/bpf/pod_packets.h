/* SPDX-License-Identifier: MIT */
#ifndef BN_TEST_POD_PACKETS_H
#define BN_TEST_POD_PACKETS_H

/* Packets from packed structs, with every length and checksum right, between the named addresses of
 * a little cluster: what goes in, and what has to come out (translated, refused, an ICMP error).
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

#include "maps/types.h"
#include "maps/util.h"

/* A row names what matters; the rest is 0. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

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

enum {
	FIN = 1,
	SYN = 2,
	RST = 4,
	PSH = 8,
	ACK = 16,
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
	uint16_t len;	/* payload, 0: 32; NOPAYLOAD */
	uint8_t nocsum; /* UDP without checksum */
	uint8_t ext;	/* IPv6 extension headers (IPv4: words of options) */
	uint32_t seq, ack;
	uint8_t shift; /* payload begins at this byte of the pattern (fragments) */
};
#define NOPAYLOAD  0xffff
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
static _unused_ uint32_t pseudo(const struct bn_addr *s, const struct bn_addr *d, int v6,
				uint8_t proto, size_t len)
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
		*t = (struct w_tcp){htons(p->sp),
				    htons(p->dp),
				    htonl(p->seq),
				    htonl(p->ack),
				    5 << 4,
				    p->flags,
				    htons(1000),
				    0,
				    0};
		csum = (void *)(h + offsetof(struct w_tcp, csum));
	} else if (proto == BN_PROTO_UDP) {
		struct w_udp *u = (void *)h;

		hdr = sizeof(*u);
		*u = (struct w_udp){htons(p->sp), htons(p->dp), htons(hdr + pay), 0};
		csum = p->nocsum ? NULL : (void *)(h + 6);
	} else if (proto == BN_PROTO_SCTP) {
		struct w_sctp *c = (void *)h;

		hdr = sizeof(*c);
		*c = (struct w_sctp){htons(p->sp),
				     htons(p->dp),
				     htonl(7),
				     0,
				     p->flags == SYN ? 1 : p->flags == RST ? 6 : 0,
				     0,
				     htons(4 + pay)};
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
		*ip = (struct w_ip4){0x40 | hdr / 4, 0,	    htons(hdr + n),    htons(p->id),
				     htons(p->frag), ttl,   wire_proto(p, v6), 0,
				     s.w[3],	     d.w[3]};
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

static _unused_ void build_icmp_err(struct frame *f, const struct icmp_err *x,
				    const struct frame *in, int v6)
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

#endif
