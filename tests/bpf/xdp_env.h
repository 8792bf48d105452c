/* SPDX-License-Identifier: MIT */
#ifndef BN_TEST_XDP_ENV_H
#define BN_TEST_XDP_ENV_H

/* Two worlds with maps of their own that get the same packets: in one there is from_net alone, in the other xdp_net before
 * it. After every packet the verdict, what leaves, the drop counters, the connection table and the affinity table have to
 * agree; only the ports that sources are translated to are random, and compared as such.
 *
 * What XDP itself does is part of each row, so that a test is not one of two TC programs.
 */
#include <time.h>

#include "pod_env.h"

#include "net.skel.h"
#include "xdp.skel.h"

/* clang-format off: rows are tables */

enum { IF_UP2 = 17, IF_MAX = IF_UP2 };
enum act { UP = XDP_PASS, TX = XDP_TX, OUT_BY = XDP_REDIRECT, GONE = XDP_DROP, ANY = -1 };
#define SNAT 9 /* stands for the port that the source was translated to */

struct world {
	struct env e;
	struct net_bpf *net;
	struct xdp_bpf *xdp; /* NULL: TC alone */
	uint16_t snat;	     /* the last one seen */
	uint64_t hooks[3];   /* packets, translated, flows: of from_net and xdp_net together */
};

struct pair {
	struct world w[2];
};

#define LOAD(kind, w_, ret)                                                                        \
	do {                                                                                       \
		struct kind##_bpf *s_ = kind##_bpf__open();                                        \
		struct bn_meta_val meta_;                                                          \
		__u32 zero_ = 0;                                                                   \
                                                                                                   \
		assert_non_null(s_);                                                               \
		for (int i_ = 0; i_ < BN_MAP__MAX; i_++)                                           \
			assert_int_equal(bpf_map__reuse_fd(bpf_object__find_map_by_name(           \
						 s_->obj, bn_map_name(i_)), (w_)->e.m->fd[i_]), 0); \
		assert_int_equal(bn_map_get((w_)->e.m, BN_MAP_meta, &zero_, &meta_), 0);           \
		memcpy((void *)s_->rodata->cfg_ct_seed, meta_.seed, sizeof(meta_.seed));           \
		s_->rodata->cfg_ct_buckets = meta_.ct_buckets;                                     \
		s_->rodata->cfg_dsr_tcp = s_->rodata->cfg_dsr_other = dsr;                         \
		assert_int_equal(kind##_bpf__load(s_), 0);                                         \
		*(ret) = s_;                                                                       \
	} while (0)

static _unused_ void uplink_put(struct env *e, uint32_t ifindex, uint16_t flags, struct bn_addr a4, struct bn_addr a6)
{
	struct bn_iface f = {.role = BN_ROLE_UPLINK, .l2_len = 14, .flags = flags, .addr4 = a4, .addr6 = a6,
			     .ifindex = ifindex};

	assert_int_equal(bn_map_put(e->m, BN_MAP_ifaces, &ifindex, &f), 0);
}

static _unused_ const struct be to_remote[] = {{REMOTE, 8080}}, to_remote2[] = {{REMOTE2, 8080}}, to_a[] = {{A, 8080}};
static _unused_ const struct be to_unknown[] = {{UNKNOWN, 8080}};
static _unused_ const struct be to_all[] = {{REMOTE, 8080}, {A, 8080}, {REMOTE2, 8080}};

enum { NP_REMOTE = 30080, NP_REMOTE2, NP_LOCAL, NP_NO_NEIGH, NP_NONE, NP_DROP, NP_AFF, NP_MAGLEV, NP_NOWHERE };

static _unused_ uint32_t last_udp_svc;

static _unused_ void services(struct env *e, uint8_t p)
{
	uint32_t np = BN_SVC_F_NODEPORT | BN_SVC_F_EXTERNAL, s;

	s = svc_put(e, HOST, NP_REMOTE, p, np, to_remote, 1);
	if (p == UDP)
		last_udp_svc = s;
	svc_put(e, HOST, NP_REMOTE2, p, np, to_remote2, 1);
	svc_put(e, HOST, NP_LOCAL, p, np, to_a, 1);
	svc_put(e, HOST, NP_NO_NEIGH, p, np, to_unknown, 1);
	svc_set(e, svc_put(e, HOST, NP_NONE, p, np, to_a, 1), NULL, 0, BN_RANGE_REJECT);
	svc_set(e, svc_put(e, HOST, NP_DROP, p, np, to_a, 1), NULL, 0, BN_RANGE_DROP);
	s = svc_put(e, HOST, NP_AFF, p, np | BN_SVC_F_MAGLEV, to_all, 3);
	for (int v6 = 0; v6 < 2; v6++)
		((struct bn_svc *)bn_map_at(e->m, BN_MAP_svcs, s + v6))->affinity_s = 100;
	svc_put(e, HOST, NP_MAGLEV, p, np | BN_SVC_F_MAGLEV, to_all, 3);
	svc_put(e, LB, 80, p, BN_SVC_F_EXTERNAL, to_remote, 1);
	s = svc_put(e, LB, 81, p, BN_SVC_F_EXTERNAL | BN_SVC_F_SRC_RANGES, to_remote, 1);
	for (int v6 = 0; v6 < 2; v6++)
		((struct bn_svc *)bn_map_at(e->m, BN_MAP_svcs, s + v6))->src_set = 77;
	svc_put(e, VIP, 80, p, 0, to_remote, 1);
}

static _unused_ void world_make(struct world *w, bool xdp, bool dsr)
{
	const uint16_t both = BN_IF_F_XDP_TX | BN_IF_F_XDP_XMIT;
	struct bn_maps_sizes sz = {};
	struct bn_addr b4 = {}, b6 = {};

	sz.entries[BN_MAP_ct] = sz.entries[BN_MAP_ct_heads] = 521;
	sz.entries[BN_MAP_svcs] = sz.entries[BN_MAP_eps] = 1024;
	sz.entries[BN_MAP_slots] = sz.entries[BN_MAP_pol_cells] = sz.entries[BN_MAP_pol_ports] = 4096;
	assert_int_equal(bn_maps_create(&sz, &w->e.m), 0);
	LOAD(net, w, &w->net);
	if (xdp)
		LOAD(xdp, w, &w->xdp);
	cluster(&w->e, false);
	ep_put(&w->e, UNKNOWN, 312, 0, 0, BN_ADDR_F_POD);
	uplink_put(&w->e, IF_UP, both, addr_of(HOST, 0), addr_of(HOST, 1));
	bn_addr_v4(&b4, inet_addr("10.9.0.1"));
	inet_pton(AF_INET6, "fd00:9::1", &b6);
	uplink_put(&w->e, IF_UP2, BN_IF_F_XDP_XMIT, b4, b6);
	services(&w->e, TCP);
	services(&w->e, UDP);
	services(&w->e, SCTP);
}

static _unused_ struct pair *pair_new_mode(bool dsr)
{
	struct pair *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	world_make(&p->w[0], false, dsr);
	world_make(&p->w[1], true, dsr);
	return p;
}

static _unused_ struct pair *pair_new(void)
{
	return pair_new_mode(false);
}

static _unused_ void pair_free(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		net_bpf__destroy(p->w[i].net);
		xdp_bpf__destroy(p->w[i].xdp);
		bn_maps_freep(&p->w[i].e.m);
	}
	free(p);
}

/* Interfaces that are up, routes, neighbours: bpf_fib_lookup asks the namespace. */
static _unused_ int setup(void **state)
{
	static const char script[] =
		"set -e; sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1\n"
		"ip link add dpv17 index 17 type veth peer name dpp17; ip link set dpv17 address 02:00:00:00:00:11\n"
		"for i in dpv16 dpp16 dpv17 dpp17; do ip link set $i up; done\n"
		"ip addr add 192.0.2.1/24 dev dpv16; ip addr add 2001:db8::1/64 dev dpv16 nodad\n"
		"ip addr add 10.9.0.1/24 dev dpv17; ip addr add fd00:9::1/64 dev dpv17 nodad\n"
		"r() { ip route add $1 via $2; ip neigh replace $2 lladdr $3 dev $4 nud permanent; }\n"
		"r 10.2.0.1/32 192.0.2.2 02:00:00:00:00:22 dpv16; r fd00:2::1/128 2001:db8::2 02:00:00:00:00:22 dpv16\n"
		"r 10.2.0.2/32 10.9.0.2 02:00:00:00:00:33 dpv17; r fd00:2::2/128 fd00:9::2 02:00:00:00:00:33 dpv17\n"
		"r 198.51.100.0/24 192.0.2.254 02:00:00:00:00:44 dpv16; r 2001:db8:f::/64 2001:db8::fe 02:00:00:00:00:44 dpv16\n"
		"ip route add 10.1.0.9/32 via 192.0.2.77; ip route add fd00:1::9/128 via 2001:db8::77\n"
		"ip link set dpv11 up; ip link set dpp11 up; ip route add 10.1.0.0/24 dev dpv11\n";

	return net_setup(state) ?: system(script);
}

/* --- One packet in one world --------------------------------------------------------------------- */

struct out {
	int act; /* XDP's */
	int verdict;
	struct frame f;
	uint64_t drops[BN_DROP__MAX];
};

static _unused_ int test_run(int fd, const struct frame *in, void *ctx, size_t size, struct frame *out)
{
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = in->b, .data_size_in = in->len, .data_out = out->b,
		    .data_size_out = sizeof(out->b), .ctx_in = ctx, .ctx_size_in = size, .repeat = 1);
	int r = bpf_prog_test_run_opts(fd, &o);

	if (r)
		fail_msg("test run of %zu bytes: %d", in->len, r);
	out->len = o.data_size_out;
	return (int)o.retval;
}

static _unused_ void run_tc(struct world *w, const struct run *r, const struct frame *in, struct out *ret)
{
	struct __sk_buff ctx = {.ifindex = r->ifindex, .ingress_ifindex = r->in_ifindex};

	ret->verdict = test_run(bpf_program__fd(r->to_pod ? w->net->progs.to_net : w->net->progs.from_net), in,
				&ctx, sizeof(ctx), &ret->f);
}

static _unused_ void run_world(struct world *w, const struct run *r, const struct frame *in, struct out *ret)
{
	struct xdp_md md = {.data_end = in->len, .ingress_ifindex = r->ifindex};
	struct frame up = *in;

	memset(ret, 0, sizeof(*ret));
	for (uint32_t i = 1; i < BN_DROP__MAX; i++)
		ret->drops[i] = -drops_of(&w->e, i);
	ret->act = XDP_PASS;
	if (w->xdp && !r->to_pod)
		ret->act = test_run(bpf_program__fd(w->xdp->progs.xdp_net), in, &md, sizeof(md), &up);
	if (ret->act == XDP_PASS) {
		if (up.len != in->len || memcmp(up.b, in->b, in->len))
			fail_msg("XDP handed up another packet than it got");
		run_tc(w, r, in, ret);
	} else {
		ret->f = up;
		ret->verdict = ret->act == XDP_DROP ? SHOT : REDIR;
	}
	for (uint32_t i = 1; i < BN_DROP__MAX; i++)
		ret->drops[i] += drops_of(&w->e, i);
}

/* --- What may differ, taken out ------------------------------------------------------------------ */

static _unused_ bool is_ours(const void *a, int v6)
{
	struct bn_addr x = {}, h = addr_of(HOST, v6);

	if (v6)
		memcpy(&x, a, 16);
	else
		bn_addr_v4(&x, *(const uint32_t *)a);
	return bn_addr_eq(&x, &h) || (v6 ? !memcmp(a, "\xfd\0\0\x09", 4) : !memcmp(a, "\x0a\x09\0\x01", 4));
}

/* The translated port of a packet that this node sends to a backend: noted, and made 0, the checksum by
 * its residue. Link layer: taken out (TC leaves it to redirect_neigh).
 */
static _unused_ void plain_frame(struct world *w, struct frame *f)
{
	int v6 = f->b[12] == 0x86;
	size_t l3 = 14, l4 = v6 ? 54 : 14 + (f->b[14] & 15) * 4, at;
	size_t end = l3 + (v6 ? 40 + (f->b[18] << 8 | f->b[19]) : f->b[16] << 8 | f->b[17]);
	uint8_t proto = f->b[v6 ? 20 : 23];
	uint16_t port;

	while (v6 && (proto == 60 || proto == 44) && f->len >= l4 + 8) {
		size_t n = proto == 44 ? 8 : (f->b[l4 + 1] + 1) * 8;

		proto = f->b[l4];
		l4 += n;
	}
	if (f->len < l4 + (proto == TCP ? 20 : proto == UDP ? 8 : 12) || f->b[13] != (v6 ? 0xdd : 0) ||
	    (proto != TCP && proto != UDP && proto != SCTP) || !is_ours(f->b + l3 + (v6 ? 8 : 12), v6))
		return;
	port = f->b[l4] << 8 | f->b[l4 + 1];
	if (port < 32768)
		return;
	w->snat = port;
	if (proto == SCTP) {
		uint32_t crc;

		memcpy(&crc, f->b + l4 + 8, 4);
		memset(f->b + l4 + 8, 0, 4);
		if (crc) /* 0: left to the device */
			crc ^= crc32c(f->b + l4, (end < f->len ? end : f->len) - l4);
		memcpy(f->b + l4 + 8, &crc, 4);
	} else {
		struct bn_addr s = {}, d = {};
		uint32_t sum;

		at = l4 + (proto == TCP ? 16 : 6);
		if (v6) {
			memcpy(&s, f->b + l3 + 8, 16);
			memcpy(&d, f->b + l3 + 24, 16);
		} else {
			bn_addr_v4(&s, *(uint32_t *)(f->b + l3 + 12));
			bn_addr_v4(&d, *(uint32_t *)(f->b + l3 + 16));
		}
		if (f->b[at] || f->b[at + 1]) {
			sum = sum16(f->b + l4, f->len - l4, pseudo(&s, &d, v6, proto, f->len - l4));
			while (sum >> 16)
				sum = (sum & 0xffff) + (sum >> 16);
			f->b[at] = sum >> 8;
			f->b[at + 1] = sum;
		}
	}
	f->b[l4] = f->b[l4 + 1] = 0;
}

struct entries {
	struct bn_ct_entry e[521 * BN_CT_WAYS];
	size_t n;
};

static _unused_ int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct bn_ct_entry));
}

static _unused_ void plain_port(const struct bn_addr *a, __be16 *port)
{
	bool v4 = bn_addr_is_v4(a);

	if (is_ours(v4 ? (const void *)&a->w[3] : a, !v4) && ntohs(*port) >= 32768)
		*port = 0;
}

/* Which of two equal ends comes first depends on the port only; they never are equal here. The worlds see a packet
 * one after the other, and on a slow machine the second changes between: every flow is made an hour old with an hour
 * to live, or UDP's states (a stream after two seconds), and which flows are expired, would differ.
 */
static _unused_ void entries_of(struct env *e, struct entries *ret)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	ret->n = 0;
	for (uint32_t i = 0; i < e->m->entries[BN_MAP_ct]; i++) {
		struct bn_ct_bucket b;
		struct bn_ct_head h;
		size_t before = ret->n;

		assert_int_equal(bn_map_get(e->m, BN_MAP_ct, &i, &b), 0);
		assert_int_equal(bn_map_get(e->m, BN_MAP_ct_heads, &i, &h), 0);
		for (int k = 0; k < BN_CT_WAYS; k++) {
			struct bn_ct_entry *x = &ret->e[ret->n];

			if (!h.tag[k])
				continue;
			assert_true(ret->n < ARRAY_SIZE(ret->e));
			ret->n++;
			b.e[k].created = now.tv_sec - 3600;
			b.e[k].expires = now.tv_sec + 3600;
			*x = b.e[k];
			x->gen = 0;
			x->expires = 0; /* of a second's precision; flags and protocol decide it */
			x->created = 0;
			x->eg_stamp = (uint32_t)x->eg_stamp;
			x->in_stamp = (uint32_t)x->in_stamp;
			plain_port(&x->key.a, &x->key.ap);
			plain_port(&x->key.b, &x->key.bp);
			plain_port(&x->xs, &x->xsp);
			plain_port(&x->xd, &x->xdp);
		}
		if (ret->n > before)
			assert_int_equal(bn_map_put(e->m, BN_MAP_ct, &i, &b), 0);
	}
	qsort(ret->e, ret->n, sizeof(ret->e[0]), by_bytes);
}

static _unused_ void hooks_of(struct world *w, uint64_t ret[3])
{
	memset(ret, 0, 3 * sizeof(*ret));
	for (int h = BN_HOOK_FROM_NET; h <= BN_HOOK_XDP_NET; h++) {
		uint64_t v[4];

		assert_int_equal(bn_map_percpu_sum(w->e.m, BN_MAP_hook_stats, h, v), 0);
		ret[0] += v[0];
		ret[1] += v[2];
		ret[2] += v[3];
	}
}

static _unused_ void same_tables(const char *name, struct pair *p)
{
	static struct entries a, b;
	uint64_t ha[3], hb[3];
	size_t i;

	entries_of(&p->w[0].e, &a);
	entries_of(&p->w[1].e, &b);
	if (a.n != b.n)
		fail_msg("%s: %zu entries by TC, %zu with XDP", name, a.n, b.n);
	for (i = 0; i < a.n; i++)
		if (by_bytes(&a.e[i], &b.e[i])) {
			const uint8_t *x = (void *)&a.e[i], *y = (void *)&b.e[i];
			size_t k = 0;

			while (x[k] == y[k])
				k++;
			fail_msg("%s: entry %zu differs from byte %zu on: %02x %02x", name, i, k, x[k], y[k]);
		}
	hooks_of(&p->w[0], ha);
	hooks_of(&p->w[1], hb);
	for (i = 0; i < 3; i++)
		if (ha[i] != hb[i])
			fail_msg("%s: hook statistics %zu: %llu by TC, %llu with XDP", name, i,
				 (unsigned long long)ha[i], (unsigned long long)hb[i]);
}

static _unused_ int affinity_differs(const void *key, const void *val, void *data)
{
	const struct bn_aff_val *v = val;
	struct bn_aff_val other;

	if (bn_map_get(data, BN_MAP_affinity, key, &other) < 0 || !bn_addr_eq(&other.addr, &v->addr) ||
	    other.port != v->port)
		return -EINVAL;
	return 0;
}

/* --- One step ------------------------------------------------------------------------------------ */

struct step {
	const char *name;
	struct run r;
	struct pk in;
	enum act act;
	int verdict;
	uint8_t mac; /* the next hop's last byte */
};

/* in[]: the packet as each world gets it (their translated ports differ). */
static _unused_ void compare(const char *name, struct pair *p, const struct run *r, const struct frame in[2], enum act act,
		    int verdict, uint8_t mac)
{
	static struct out o[2];
	static unsigned skipped;

	for (int i = 0; i < 2; i++)
		run_world(&p->w[i], r, &in[i], &o[i]);
	if (act != ANY && o[1].act != (int)act)
		fail_msg("%s: XDP says %d, wanted %d", name, o[1].act, act);
	if (act != ANY && o[0].verdict != verdict)
		fail_msg("%s: TC says %d, wanted %d", name, o[0].verdict, verdict);
	if (o[0].verdict != o[1].verdict)
		fail_msg("%s: TC says %d, with XDP %d (%d)", name, o[0].verdict, o[1].verdict, o[1].act);
	for (uint32_t d = 1; d < BN_DROP__MAX; d++)
		if (o[0].drops[d] != o[1].drops[d])
			fail_msg("%s: %s counted %lld by TC, %lld with XDP", name, drop_name(d),
				 (long long)o[0].drops[d], (long long)o[1].drops[d]);
	if (o[1].act == XDP_TX || o[1].act == XDP_REDIRECT) {
		if (mac && o[1].f.b[5] != mac)
			fail_msg("%s: to the neighbour ..:%02x", name, o[1].f.b[5]);
		memcpy(o[1].f.b, o[0].f.b, 12);
	}
	if (o[0].verdict != SHOT) {
		for (int i = 0; i < 2; i++)
			plain_frame(&p->w[i], &o[i].f);
		if (o[0].f.len != o[1].f.len || memcmp(o[0].f.b, o[1].f.b, o[0].f.len)) {
			dump("TC", &o[0].f);
			dump("XDP", &o[1].f);
			fail_msg("%s: packets differ", name);
		}
	}
	if (act == ANY && ++skipped % 32)
		return; /* a thousand system calls: not after each of thousands */
	same_tables(name, p);
	assert_int_equal(bn_map_each(p->w[0].e.m, BN_MAP_affinity, affinity_differs, p->w[1].e.m), 0);
	assert_int_equal(bn_map_each(p->w[1].e.m, BN_MAP_affinity, affinity_differs, p->w[0].e.m), 0);
}

static _unused_ void step(struct pair *p, const struct step *s, int v6)
{
	struct frame in[2];
	char name[160];

	snprintf(name, sizeof(name), "v%d, protocol %d: %s", v6 ? 6 : 4, s->in.proto, s->name);
	for (int i = 0; i < 2; i++) {
		struct pk k = s->in;

		if (k.dp == SNAT)
			k.dp = p->w[i].snat;
		build(&in[i], &k, v6);
	}
	compare(name, p, &s->r, in, s->act, s->verdict, s->mac);
}

#define IN {.ifindex = IF_UP}
#define IN2 {.ifindex = IF_UP2}
#define LEAVES(from) {.to_pod = true, .ifindex = IF_UP, .in_ifindex = (from)}
#define STEPS(p_, ...)                                                                             \
	do {                                                                                       \
		const struct step steps_[] = {__VA_ARGS__};                                        \
		for (int v6_ = 0; v6_ < 2; v6_++)                                                  \
			for (size_t i_ = 0; i_ < ARRAY_SIZE(steps_); i_++)                         \
				step(p_, &steps_[i_], v6_);                                        \
	} while (0)

static _unused_ const uint8_t protos[] = {TCP, UDP, SCTP};

#endif
