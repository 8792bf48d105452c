/* SPDX-License-Identifier: MIT */
#ifndef BN_TEST_HTTP_ENV_H
#define BN_TEST_HTTP_ENV_H

/* Pod A has HTTP rules on every port; connections from the outside to it, a segment at a time. */

#include "maps/http_access.h"
#include "tests/bpf/pod_env.h"
#include "tests/unit/http_policy.h"

#define SET 7
#define PORT 80
#define FIRST 1000u /* of the client's bytes */
#define SRV 5000u   /* of the server's */
#define STATS 100

struct conn {
	struct env *e;
	int v6;
	uint16_t sport;
	uint32_t ack;
	enum { RIGHT, DAMAGED, PARTIAL } sum; /* what the checksum field of the segments says */
	enum who pod;			      /* the server */
};

static struct bn_http_rules *rules;

static _unused_ struct env *http_env_with(const char *text, uint32_t conns, const struct env_opts *opts)
{
	struct bn_maps_sizes sz = {.entries[BN_MAP_http_conns] = conns};
	struct env *e = calloc(1, sizeof(*e));
	struct bn_netpol *np = netpol(text);
	struct bn_http_view v;
	struct bn_http_image i;
	uint32_t set = SET, id = 16;
	struct bn_peer_key k = {.policy = id, .identity = 310};
	struct bn_peer_val row = {.row = 0, .check = BN_PEER_CHECK(id, 310)};

	assert_non_null(e);
	assert_int_equal(bn_maps_create(&sz, &e->m), 0);
	assert_int_equal(pod_load(e->m, opts, &e->skel), 0);
	cluster(e, false);
	rules = rules_of(np);
	bn_http_rules_view(rules, &v);
	i = (struct bn_http_image){.tab = v.tab, .cells = v.cells, .words = v.words, .ncells = v.ncells,
				   .nwords = v.nwords, .gen = 3, .stats = STATS};
	assert_int_equal(bn_http_sets_put(e->m, &set, &i, 1), 0);
	*(struct bn_pol *)bn_map_at(e->m, BN_MAP_pols, id) =
		(struct bn_pol){.nports = 1, .nclasses = 1, .check = id, .ports = 0, .cells = 0};
	*(uint32_t *)bn_map_at(e->m, BN_MAP_pol_ports, 0) = BN_PORT_START(0, 0);
	*(struct bn_cell *)bn_map_at(e->m, BN_MAP_pol_cells, 0) =
		(struct bn_cell){.action = BN_ACT_HTTP, .rule = 1, .http = SET};
	assert_int_equal(bn_map_put(e->m, BN_MAP_pol_peers, &k, &row), 0);
	pod_of(e, 1)->word = BN_POD_WORD(id, BN_POL_OPEN);
	state_of(e)->epoch++;
	return e;
}

static _unused_ struct env *http_env_of(const char *text, uint32_t conns)
{
	const struct env_opts opts = {};

	return http_env_with(text, conns, &opts);
}

static _unused_ void tell(const char *what, uint32_t at, size_t n, const struct result *r)
{
	for (uint32_t i = 1; i < BN_DROP__MAX && getenv("DBG"); i++)
		if (r->drops[i])
			printf("%s at %u n %zu: verdict %d drop %s\n", what, at, n, r->verdict, drop_name(i));
}

/* The payload was written after the checksum. */
static _unused_ void sum_put(struct conn *c, const struct pk *p, struct frame *f)
{
	struct bn_addr s = addr_of(p->s, c->v6), d = addr_of(p->d, c->v6);
	uint32_t sum = pseudo(&s, &d, c->v6, TCP, f->len - f->l4);
	uint8_t *h = f->b + f->l4;

	h[16] = h[17] = 0;
	sum = c->sum == PARTIAL ? sum16(h, 0, sum) : ~sum16(h, f->len - f->l4, sum);
	sum ^= c->sum == DAMAGED ? 0x400 : 0;
	h[16] = (uint8_t)(sum >> 8);
	h[17] = (uint8_t)sum;
}

/* A segment of the client into pod A. */
static _unused_ void segment(struct conn *c, uint32_t at, const void *bytes, size_t n, uint8_t flags, struct frame *f)
{
	struct pk p = {REMOTE, c->pod, c->sport, PORT, TCP, flags, .len = n ? (uint16_t)n : NOPAYLOAD,
		       .seq = FIRST + at, .ack = c->ack};

	build(f, &p, c->v6);
	if (n)
		memcpy(f->b + f->l4 + 20, bytes, n);
	sum_put(c, &p, f);
}

static _unused_ struct result *data(struct conn *c, uint32_t at, const void *bytes, size_t n, uint8_t flags)
{
	static struct result res;
	struct frame f;

	segment(c, at, bytes, n, flags, &f);
	run_frame(c->e, &(struct run){.to_pod = true, .ifindex = IF_A + c->pod, .in_ifindex = IF_UP}, &f, &res);
	tell("data", at, n, &res);
	return &res;
}

/* The server acknowledges up to `at` and says n bytes. */
static _unused_ struct result *answer(struct conn *c, uint32_t at, const void *bytes, size_t n, uint8_t flags)
{
	static struct result res;
	struct pk p = {c->pod, REMOTE, PORT, c->sport, TCP, flags, .len = n ? (uint16_t)n : NOPAYLOAD, .seq = c->ack,
		       .ack = FIRST + at};
	struct frame f;

	build(&f, &p, c->v6);
	if (n)
		memcpy(f.b + f.l4 + 20, bytes, n);
	sum_put(c, &p, &f);
	run_frame(c->e, &(struct run){.ifindex = IF_A + c->pod}, &f, &res);
	tell("answer", at, n, &res);
	c->ack += (uint32_t)n;
	return &res;
}

static _unused_ struct conn begin_to(struct env *e, int v6, enum who pod)
{
	static uint16_t sport = 1024;
	struct conn c = {e, v6, ++sport, 0, RIGHT, pod};
	struct pk p = {REMOTE, pod, c.sport, PORT, TCP, SYN, .len = NOPAYLOAD, .seq = FIRST - 1};
	static struct result res;
	struct frame f;

	build(&f, &p, v6);
	run_frame(e, &(struct run){.to_pod = true, .ifindex = IF_A + pod, .in_ifindex = IF_UP}, &f, &res);
	assert_int_equal(res.verdict, PASS);
	c.ack = SRV - 1;
	assert_int_equal(answer(&c, 0, NULL, 0, SYN | ACK)->verdict, PASS);
	c.ack = SRV;
	assert_int_equal(data(&c, 0, NULL, 0, ACK)->verdict, PASS);
	return c;
}

static _unused_ struct conn begin(struct env *e, int v6)
{
	return begin_to(e, v6, A);
}

static _unused_ int followed(struct conn *c, struct bn_http_conn *ret)
{
	struct bn_http_key k = {.client = addr_of(REMOTE, c->v6), .server = addr_of(c->pod, c->v6),
				.cport = htons(c->sport), .sport = htons(PORT), .side = BN_DIR_INGRESS};

	return bn_map_get(c->e->m, BN_MAP_http_conns, &k, ret);
}

/* The server ends it: what was answered 403 is kept for the client, everything else forgotten. */
static _unused_ void over(struct conn *c)
{
	struct bn_http_conn f;
	bool denied = followed(c, &f) == 0 && f.phase == BN_HTTP_ANSWERED;

	c->sum = RIGHT;
	answer(c, 0, NULL, 0, RST | ACK);
	if (denied)
		assert_int_equal(f.nblocks, 0);
	else
		assert_int_equal(followed(c, &f), -ENOENT);
}

#define DROPS(res, which)                                                                          \
	do {                                                                                       \
		const struct result *r_ = (res);                                                   \
		assert_int_equal(r_->verdict, SHOT);                                               \
		assert_int_equal(r_->drops[BN_DROP_##which], 1);                                   \
	} while (0)

/* A packet that re-enters does so only where the interface is up. */
static _unused_ int links_up(void **state)
{
	int r = net_setup(state);

	return r ?: system("ip link set dpv11 up && ip link set dpp11 up");
}

#endif
