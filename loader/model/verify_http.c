// SPDX-License-Identifier: MIT
/* What the kernel's program makes of a request: a connection to a pod whose port has just these HTTP rules, with
 * programs and maps of our own. Addresses are of the loopback: a 403 that the program sends meets nobody.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <stdio.h>
#include <string.h>

#include "loader/model/verify_priv.h"
#include "maps/ep.h"
#include "maps/http_access.h"
#include "maps/pol_access.h"
#include "maps/util.h"

#define SET	1
#define PORT	80
#define SEGMENT 1024

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

struct seg {
	const struct bn_addr *src, *dst;
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t flags;
	const char *data;
	size_t n;
};

static size_t make(uint8_t *b, const struct seg *s, const uint8_t *smac)
{
	struct eth_h *eth = (struct eth_h *)b;
	struct ip4_h *ip = (struct ip4_h *)(eth + 1);
	uint8_t *tcp = (uint8_t *)(ip + 1);
	uint32_t pseudo = bn_verify_sum(s->src->b + 12, 4, 0), seq = htonl(s->seq), ack = htonl(s->ack);
	size_t n = 20 + s->n;

	memset(b, 0, sizeof(*eth) + sizeof(*ip) + 20);
	memcpy(eth->src, smac, 6);
	memcpy(eth->dst, (uint8_t[]){2, 0, 0, 0, 0, 1}, 6);
	eth->proto = htons(ETH_P_IP);
	*ip = (struct ip4_h){.ver_ihl = 0x45, .len = htons((uint16_t)(20 + n)), .ttl = 64, .proto = BN_PROTO_TCP,
			     .src = s->src->w[3], .dst = s->dst->w[3]};
	bn_verify_put16((uint8_t *)&ip->csum, bn_verify_fold(bn_verify_sum(ip, 20, 0)));
	bn_verify_put16(tcp, s->sport);
	bn_verify_put16(tcp + 2, s->dport);
	memcpy(tcp + 4, &seq, 4);
	memcpy(tcp + 8, &ack, 4);
	tcp[12] = 5 << 4;
	tcp[13] = s->flags;
	bn_verify_put16(tcp + 14, 64000);
	if (s->n)
		memcpy(tcp + 20, s->data, s->n);
	pseudo = bn_verify_sum(s->dst->b + 12, 4, pseudo) + BN_PROTO_TCP + (uint32_t)n;
	bn_verify_put16(tcp + 16, bn_verify_fold(bn_verify_sum(tcp, n, pseudo)));
	return sizeof(*eth) + sizeof(*ip) + n;
}

static int run(struct bn_verify *v, bool from, const struct seg *s)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 2};
	struct __sk_buff ctx = {.ifindex = BN_VERIFY_IFINDEX, .ingress_ifindex = from ? 0 : BN_VERIFY_IN_IFINDEX};
	uint8_t in[2048], out[4096];
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = in, .data_size_in = (uint32_t)make(in, s, mac), .data_out = out,
		    .data_size_out = sizeof(out), .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = 1);

	return bpf_prog_test_run_opts(bpf_program__fd(from ? v->skel->progs.from_pod : v->skel->progs.to_pod), &o);
}

/* One port class for everything, judged by the set. */
static int place(struct bn_verify *v, uint32_t *ret)
{
	const uint32_t port = BN_PORT_START(BN_PORT_KEY(0, 0), 0);
	const struct bn_cell cell = {.action = BN_ACT_HTTP, .rule = 1, .http = SET};
	const struct bn_pol_def def = {.nports = 1, .nclasses = 1, .nrows = 1, .row_room = 1, .ports = &port,
				       .cells = &cell};
	int r = bn_pols_reclaim(v->pols);

	return r ?: bn_pols_add(v->pols, &def, ret);
}

static int write_set(struct bn_verify *v, const struct bn_rule *const *rules, size_t n)
{
	_cleanup_(bn_http_rules_freep) struct bn_http_rules *c = NULL;
	const uint32_t id = SET;
	struct bn_http_image image;
	struct bn_http_view t;
	struct bn_err err;
	int r;

	r = bn_http_compile(rules, n, &c, &err);
	if (r < 0)
		return r;
	bn_http_rules_view(c, &t);
	image = (struct bn_http_image){.tab = t.tab, .cells = t.cells, .words = t.words, .ncells = t.ncells,
				       .nwords = t.nwords, .gen = ++v->http_gen};
	return bn_http_sets_put(v->own, &id, &image, 1);
}

static int world(struct bn_verify *v, const struct bn_addr *client, const struct bn_addr *server)
{
	struct bn_iface iface = {.slot = BN_VERIFY_SLOT, .role = BN_ROLE_POD, .l2_len = 14,
				 .ifindex = BN_VERIFY_IFINDEX};
	uint32_t key = BN_VERIFY_IFINDEX, pol = 0;
	int r;

	for (uint32_t k = 1; k <= 2; k++) /* of the question before */
		bn_map_del(v->own, BN_MAP_addrs, &((struct bn_ep *)bn_map_at(v->own, BN_MAP_eps, k))->addr);
	r = bn_verify_addr(v, 2, client, BN_ID_UNMANAGED, 0, 0);
	r = r ?: bn_verify_addr(v, 1, server, BN_ID_UNMANAGED, BN_VERIFY_SLOT, BN_VERIFY_IFINDEX);
	r = r ?: bn_map_put(v->own, BN_MAP_ifaces, &key, &iface);
	r = r ?: place(v, &pol);
	if (r < 0)
		return r;
	if (v->placed)
		bn_pols_retire(v->pols, v->placed);
	v->placed = pol;
	((struct bn_pod_slot *)bn_map_at(v->own, BN_MAP_pods, BN_VERIFY_SLOT))->ifindex = BN_VERIFY_IFINDEX;
	bn_pols_set_word(v->pols, BN_VERIFY_SLOT, BN_POD_WORD(pol, BN_POL_OPEN));
	bn_pols_raise_epoch(v->pols);
	bn_pols_seal(v->pols);
	return 0;
}

static int send_request(struct bn_verify *v, const struct bn_addr *client, const struct bn_addr *server,
			const char *text, size_t len)
{
	/* Of both; ports come again soon, and with the same numbers it would be the connection of then. */
	const uint32_t isn = v->http_gen << 16;
	struct seg c = {.src = client, .dst = server, .dport = PORT, .seq = isn, .flags = SYN};
	struct seg s = {.src = server, .dst = client, .sport = PORT, .seq = isn, .ack = isn + 1, .flags = SYN | ACK};
	int r;

	c.sport = s.dport = bn_verify_sport(v);
	r = run(v, false, &c);
	r = r ?: run(v, true, &s);
	c.flags = ACK | PSH;
	c.ack = c.seq = isn + 1;
	for (size_t at = 0; at < len && !r; at += c.n) {
		c.data = text + at;
		c.n = len - at < SEGMENT ? len - at : SEGMENT;
		r = run(v, false, &c);
		c.seq += (uint32_t)c.n;
	}
	/* Over, so that it does not count as one that a pod has. */
	c.flags = RST | ACK;
	c.n = 0;
	return r ?: run(v, false, &c);
}

int bn_verify_request(void *data, const struct bn_rule *const *rules, size_t n, const struct bn_http_request *q,
		      char *reason, size_t len)
{
	uint64_t before[BN_HTTP__MAX], after[BN_HTTP__MAX];
	_cleanup_(freep) char *text = NULL;
	struct bn_addr client, server;
	struct bn_verify *v = data;
	size_t size;
	int r;

	bn_addr_parse("127.77.0.1", &client);
	bn_addr_parse("127.77.0.2", &server);
	r = bn_http_request_text(q, &text, &size);
	r = r ?: bn_verify_load(v);
	r = r ?: write_set(v, rules, n);
	r = r ?: world(v, &client, &server);
	r = r ?: bn_http_reason_counts(v->own, before);
	r = r ?: send_request(v, &client, &server, text, size);
	r = r ?: bn_http_reason_counts(v->own, after);
	if (r < 0)
		return r;
	for (int k = 0; k < BN_HTTP__MAX; k++) {
		if (after[k] == before[k])
			continue;
		snprintf(reason, len, "%s", k ? bn_http_reason_name((enum bn_http_reason)k) : "");
		return !k;
	}
	return -EPROTO; /* it judged no request */
}
