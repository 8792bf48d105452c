/* SPDX-License-Identifier: MIT */
#ifndef BN_TEST_POD_ENV_H
#define BN_TEST_POD_ENV_H

/* What the tests of the packet programs share: private maps, the loaded object, a little cluster in
 * them, packets from packed structs, and one step: run a packet, compare verdict, every drop
 * counter and the whole packet that comes out. Every step is written once and run for both
 * families.
 *
 * BPF_PROG_TEST_RUN wants interfaces that exist: the test makes veths in a namespace of its own.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <sched.h>
#include <string.h>

#include "maps/maps.h"
#include "maps/util.h"
#include "pod.skel.h"
#include "tests/bpf/ct_full.h"
#include "tests/bpf/pod_packets.h"

#define PASS  (-1)
#define SHOT  2
#define REDIR 7

enum { /* interfaces; pods A, B, C behind the first three */
       IF_A = 11,
       IF_B = 12,
       IF_C = 13,
       IF_NEW = 14,  /* no pod yet */
       IF_OPEN = 15, /* no pod of Kubernetes */
       IF_UP = 16,   /* where the outside comes from */
};

struct env {
	struct bn_maps *m;
	struct pod_bpf *skel;
	uint32_t next_ep, next_svc, next_slot, next_gen;
};

/* --- The maps -------------------------------------------------------------------------------- */

static _unused_ void ep_put(struct env *e, enum who w, uint32_t identity, uint32_t slot,
			    uint32_t ifindex, uint16_t flags)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct bn_addr a = addr_of(w, v6);
		uint32_t idx;
		struct bn_ep *ep;

		if (bn_map_get(e->m, BN_MAP_addrs, &a, &idx) < 0)
			idx = ++e->next_ep;
		ep = bn_map_at(e->m, BN_MAP_eps, idx);
		*ep = (struct bn_ep){.word = BN_EP_WORD(identity, slot),
				     .addr = a,
				     .ifindex = ifindex,
				     .flags = flags};
		assert_int_equal(bn_map_put(e->m, BN_MAP_addrs, &a, &idx), 0);
	}
}

static _unused_ void iface_put(struct env *e, uint32_t ifindex, uint32_t slot, uint16_t flags)
{
	struct bn_iface f = {.slot = slot,
			     .role = BN_ROLE_POD,
			     .l2_len = 14,
			     .flags = flags,
			     .ifindex = ifindex};

	assert_int_equal(bn_map_put(e->m, BN_MAP_ifaces, &ifindex, &f), 0);
}

static _unused_ void iface_mtu(struct env *e, uint32_t ifindex, uint16_t mtu)
{
	struct bn_iface f;

	assert_int_equal(bn_map_get(e->m, BN_MAP_ifaces, &ifindex, &f), 0);
	f.mtu = mtu;
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
static _unused_ uint32_t svc_put(struct env *e, enum who vip, uint16_t port, uint8_t proto,
				 uint32_t flags, const struct be *bes, uint32_t n)
{
	uint32_t first = e->next_svc + 1;

	for (int v6 = 0; v6 < 2; v6++) {
		uint32_t idx = ++e->next_svc, base = e->next_slot;
		struct bn_svc *s = bn_map_at(e->m, BN_MAP_svcs, idx);
		struct bn_front_val v = {.idx = idx};
		struct bn_front_key any = {.addr = addr_of(vip, v6), .scope = BN_SCOPE_ADDR};
		struct bn_front_val kind = {.idx = flags & BN_SVC_F_EXTERNAL
							   ? BN_FRONT_IDX_EXTERNAL
							   : BN_FRONT_IDX_CLUSTERIP};

		memset(s, 0, sizeof(*s));
		s->key = (struct bn_front_key){
			.addr = addr_of(vip, v6), .port = htons(port), .proto = proto};
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
static _unused_ void svc_set(struct env *e, uint32_t first, const struct be *bes, uint32_t n,
			     uint32_t none)
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
	bool bypass, no_events, no_http;
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
	s->rodata->cfg_http_conns = m->entries[BN_MAP_http_conns];
	s->rodata->cfg_bypass = o->bypass;
	s->rodata->cfg_events = !o->no_events;
	s->rodata->cfg_http = !o->no_http;
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
	sz.entries[BN_MAP_slots] = sz.entries[BN_MAP_pol_cells] = sz.entries[BN_MAP_pol_ports] =
		65536;
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
		snprintf(cmd, sizeof(cmd),
			 "ip link add dpv%d index %d type veth peer name dpp%d && "
			 "ip link set dpv%d address 02:00:00:00:00:01",
			 i, i, i, i);
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
	struct __sk_buff ctx = {
		.ifindex = r->ifindex, .ingress_ifindex = r->in_ifindex, .gso_size = r->gso_size};
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f->b, .data_size_in = f->len,
		    .data_out = ret->out.b, .data_size_out = sizeof(ret->out.b), .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = 1);
	uint64_t before[BN_DROP__MAX];
	int err;

	for (uint32_t i = 1; i < BN_DROP__MAX; i++)
		before[i] = drops_of(e, i);
	err = bpf_prog_test_run_opts(
		bpf_program__fd(r->to_pod ? e->skel->progs.to_pod : e->skel->progs.from_pod), &o);
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
	static const char *const names[] = {"NONE",
#define X(name, text) #name,
					    BN_DROP_LIST(X)
#undef X
	};

	return r < BN_DROP__MAX ? names[r] : "?";
}

/* Runs f and fails unless verdict, counters and packet are as wanted (out NULL: not compared). */
static _unused_ void expect(struct env *e, const char *name, const struct run *r,
			    const struct frame *f, int verdict, uint32_t drop,
			    const struct frame *out)
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
	struct pk out;	 /* s == d: as it came in */
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

#define OUT_OF(i)                                                                                  \
	{                                                                                          \
		.ifindex = (i)                                                                     \
	}
#define INTO(i, from)                                                                              \
	{                                                                                          \
		.to_pod = true, .ifindex = (i), .in_ifindex = (from)                               \
	}
#define TCP  BN_PROTO_TCP
#define UDP  BN_PROTO_UDP
#define SCTP BN_PROTO_SCTP
#define ICMP BN_PROTO_ICMP

#endif
