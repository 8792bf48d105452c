/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_OPTIONS_H
#define BN_BPF_HTTP_OPTIONS_H

/* Options of TCP under which what is read is not what stands in the segments one behind the other. A client asks
 * for them with its SYN: there they are blanked, and both ends do without, as behind any middlebox that does not
 * know them.
 *
 * - MPTCP (RFC 8684): mappings say where in the application's stream a segment's bytes belong, and other
 *   connections carry other parts. Servers in Go listen for it unasked.
 * - TCP Fast Open: data in a SYN does not pass; without a cookie no client sends any.
 * - the experimental ones: SMC, Fast Open as it was.
 */

#include "bpf/lib/http_work.h"

#define BN_TCP_OPTIONS 40

enum {
	BN_TCPOPT_EOL = 0,
	BN_TCPOPT_NOP = 1,
	BN_TCPOPT_MPTCP = 30,
	BN_TCPOPT_FASTOPEN = 34,
	BN_TCPOPT_EXP1 = 253,
	BN_TCPOPT_EXP2 = 254,
};

static __always_inline bool bn_http_option_bad(__u8 kind)
{
	return kind == BN_TCPOPT_MPTCP || kind == BN_TCPOPT_FASTOPEN || kind == BN_TCPOPT_EXP1 ||
	       kind == BN_TCPOPT_EXP2;
}

/* One byte of the `have` options in the work area's bytes: pos is the next option's first one, run whether this
 * one is to be blanked, fail how many were.
 */
static long bn_http_option_byte(__u32 k, void *unused)
{
	struct bn_http_work *w = bn_http_work_get();
	__u32 at = k;
	__u8 *b;

	BN_OPAQUE(at);
	if (!w || at >= BN_TCP_OPTIONS || at >= w->have)
		return 1;
	b = w->bytes + at;
	if (at == w->pos) {
		w->run = 0;
		w->pos = at + 1;
		if (*b == BN_TCPOPT_EOL)
			return 1;
		if (*b != BN_TCPOPT_NOP) {
			if (b[1] < 2)
				return 1;
			w->pos = at + b[1];
			w->run = bn_http_option_bad(*b);
		}
	}
	if (w->run) {
		*b = BN_TCPOPT_NOP;
		w->fail++;
	}
	return 0;
}

/* The options of the segment at hand without those: 0, or -BN_DROP_x. `look`: only looks; 1: there are some. */
__noinline int bn_http_options(bn_ctx *ctx, struct bn_pkt *p, __u32 look)
{
	struct bn_http_work *w = bn_http_work_get();
	__u32 n, last, at;
	__s64 sum;

	if (!w || !p)
		return -BN_DROP_INTERNAL;
	n = (w->tcp.doff >> 4) * 4 - sizeof(w->tcp);
	if (!n || n > BN_TCP_OPTIONS)
		return 0;
	at = p->l4 + sizeof(w->tcp);
	__builtin_memset(w->bytes, 0, BN_TCP_OPTIONS + 8);
	last = n - 1;
	BN_OPAQUE(last);
	if (last >= BN_TCP_OPTIONS)
		return 0;
	if (bpf_skb_load_bytes(ctx, at, w->bytes, last + 1))
		return -BN_DROP_BAD_HEADER;
	__builtin_memcpy(w->image, w->bytes, BN_TCP_OPTIONS);
	w->have = n;
	w->pos = w->run = w->fail = 0;
	bpf_loop(BN_TCP_OPTIONS, bn_http_option_byte, NULL, 0);
	if (!w->fail)
		return 0;
	if (look)
		return 1;
	sum = bpf_csum_diff((__be32 *)w->image, BN_TCP_OPTIONS, (__be32 *)w->bytes, BN_TCP_OPTIONS, 0);
	if (sum < 0 || bpf_l4_csum_replace(ctx, p->l4 + 16, 0, sum, 0) ||
	    bpf_skb_store_bytes(ctx, at, w->bytes, last + 1, 0))
		return -BN_DROP_NAT_WRITE;
	return 0;
}

#endif
