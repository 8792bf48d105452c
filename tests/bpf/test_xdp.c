// SPDX-License-Identifier: MIT
/* XDP and TC give the same answer. Two worlds with maps of their own get the same packets: in one
 * there is from_net alone, in the other xdp_net before it. After every packet the verdict, what leaves, the
 * drop counters, the connection table and the affinity table have to agree; only the ports that sources
 * are translated to are random, and compared as such.
 *
 * What XDP itself does is part of each row, so that the test is not one of two TC programs.
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

static void uplink_put(struct env *e, uint32_t ifindex, uint16_t flags, struct bn_addr a4, struct bn_addr a6)
{
	struct bn_iface f = {.role = BN_ROLE_UPLINK, .l2_len = 14, .flags = flags, .addr4 = a4, .addr6 = a6,
			     .ifindex = ifindex};

	assert_int_equal(bn_map_put(e->m, BN_MAP_ifaces, &ifindex, &f), 0);
}

static const struct be to_remote[] = {{REMOTE, 8080}}, to_remote2[] = {{REMOTE2, 8080}}, to_a[] = {{A, 8080}};
static const struct be to_unknown[] = {{UNKNOWN, 8080}};
static const struct be to_all[] = {{REMOTE, 8080}, {A, 8080}, {REMOTE2, 8080}};

enum { NP_REMOTE = 30080, NP_REMOTE2, NP_LOCAL, NP_NO_NEIGH, NP_NONE, NP_DROP, NP_AFF, NP_MAGLEV, NP_NOWHERE };

static uint32_t last_udp_svc;

static void services(struct env *e, uint8_t p)
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

static void world_make(struct world *w, bool xdp, bool dsr)
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

static struct pair *pair_new_mode(bool dsr)
{
	struct pair *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	world_make(&p->w[0], false, dsr);
	world_make(&p->w[1], true, dsr);
	return p;
}

static struct pair *pair_new(void)
{
	return pair_new_mode(false);
}

static void pair_free(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		net_bpf__destroy(p->w[i].net);
		xdp_bpf__destroy(p->w[i].xdp);
		bn_maps_freep(&p->w[i].e.m);
	}
	free(p);
}

/* Interfaces that are up, routes, neighbours: bpf_fib_lookup asks the namespace. */
static int setup(void **state)
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

static int test_run(int fd, const struct frame *in, void *ctx, size_t size, struct frame *out)
{
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = in->b, .data_size_in = in->len, .data_out = out->b,
		    .data_size_out = sizeof(out->b), .ctx_in = ctx, .ctx_size_in = size, .repeat = 1);
	int r = bpf_prog_test_run_opts(fd, &o);

	if (r)
		fail_msg("test run of %zu bytes: %d", in->len, r);
	out->len = o.data_size_out;
	return (int)o.retval;
}

static void run_tc(struct world *w, const struct run *r, const struct frame *in, struct out *ret)
{
	struct __sk_buff ctx = {.ifindex = r->ifindex, .ingress_ifindex = r->in_ifindex};

	ret->verdict = test_run(bpf_program__fd(r->to_pod ? w->net->progs.to_net : w->net->progs.from_net), in,
				&ctx, sizeof(ctx), &ret->f);
}

static void run_world(struct world *w, const struct run *r, const struct frame *in, struct out *ret)
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

static bool is_ours(const void *a, int v6)
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
static void plain_frame(struct world *w, struct frame *f)
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

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct bn_ct_entry));
}

static void plain_port(const struct bn_addr *a, __be16 *port)
{
	bool v4 = bn_addr_is_v4(a);

	if (is_ours(v4 ? (const void *)&a->w[3] : a, !v4) && ntohs(*port) >= 32768)
		*port = 0;
}

/* Which of two equal ends comes first depends on the port only; they never are equal here. The worlds see a packet
 * one after the other, and on a slow machine the second changes between: every flow is made an hour old with an hour
 * to live, or UDP's states (a stream after two seconds), and which flows are expired, would differ.
 */
static void entries_of(struct env *e, struct entries *ret)
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

static void hooks_of(struct world *w, uint64_t ret[3])
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

static void same_tables(const char *name, struct pair *p)
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

static int affinity_differs(const void *key, const void *val, void *data)
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
static void compare(const char *name, struct pair *p, const struct run *r, const struct frame in[2], enum act act,
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

static void step(struct pair *p, const struct step *s, int v6)
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

/* --- The corpus ---------------------------------------------------------------------------------- */

static const uint8_t protos[] = {TCP, UDP, SCTP};

static void remote_backends(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct pair *w = pair_new();
		uint8_t p = protos[i];

		STEPS(w,
		      {"SYN", IN, {OUT, HOST, 1000, NP_REMOTE, p, SYN}, TX, REDIR, 0x22},
		      {"SYN-ACK", IN, {REMOTE, HOST, 8080, SNAT, p, SYN | ACK}, TX, REDIR, 0x44},
		      {"ACK", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .len = NOPAYLOAD}, TX, REDIR, 0x22},
		      {"data", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .len = 1301}, TX, REDIR, 0x22},
		      {"answer", IN, {REMOTE, HOST, 8080, SNAT, p, ACK, .len = 77}, TX, REDIR, 0x44},
		      {"answer with options", IN, {REMOTE, HOST, 8080, SNAT, p, ACK, .len = 77, .ext = 2}, TX, REDIR, 0x44},
		      {"hop limit used up", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .ttl = 1}, UP, REDIR},
		      {"too long", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .len = 1600}, UP, REDIR},
		      {"in a VLAN", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .vlan = 1}, UP, PASS},
		      {"its first fragment", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .frag = 0x2000, .id = 7, .len = p == TCP ? 36 : 32}, UP, p == SCTP ? SHOT : REDIR},
		      {"its second one", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .frag = 5, .id = 7}, UP, REDIR},
		      {"client's FIN", IN, {OUT, HOST, 1000, NP_REMOTE, p, FIN | ACK}, TX, REDIR, 0x22},
		      {"server's FIN", IN, {REMOTE, HOST, 8080, SNAT, p, FIN | ACK}, TX, REDIR, 0x44},
		      {"last ACK", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .len = NOPAYLOAD}, TX, REDIR, 0x22},
		      {"reset", IN, {OUT, HOST, 1000, NP_REMOTE, p, RST}, TX, REDIR, 0x22},
		      {"a new life of the tuple", IN, {OUT, HOST, 1000, NP_REMOTE, p, SYN}, TX, REDIR, 0x22},
		      {"and its answer", IN, {REMOTE, HOST, 8080, SNAT, p, SYN | ACK}, TX, REDIR, 0x44},
		      {"by another device", IN, {OUT, HOST, 1001, NP_REMOTE2, p, SYN}, OUT_BY, REDIR, 0x33},
		      {"back from it", IN2, {REMOTE2, HOST, 8080, 1, p, SYN | ACK}, UP, PASS},
		      {"load balancer", IN, {OUT, LB, 1002, 80, p, SYN}, TX, REDIR, 0x22},
		      {"its answer", IN, {REMOTE, HOST, 8080, SNAT, p, SYN | ACK}, TX, REDIR, 0x44},
		      {"ClusterIP", IN, {OUT, VIP, 1003, 80, p, SYN}, TX, REDIR, 0x22},
		      {"no neighbour", IN, {OUT, HOST, 1004, NP_NO_NEIGH, p, SYN}, UP, REDIR},
		      {"still none", IN, {OUT, HOST, 1004, NP_NO_NEIGH, p, ACK}, UP, REDIR},
		      {"new, hop limit used up", IN, {OUT, HOST, 1005, NP_REMOTE, p, SYN, .ttl = 1}, UP, REDIR},
		      {"new, with options", IN, {OUT, HOST, 1006, NP_REMOTE, p, SYN, .ext = 3}, TX, REDIR, 0x22});
		pair_free(w);
	}
}

static void everything_else(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct pair *w = pair_new();
		uint8_t p = protos[i];
		int mid = p == TCP ? REDIR : ANY;

		STEPS(w,
		      {"local backend", IN, {OUT, HOST, 1000, NP_LOCAL, p, SYN}, UP, PASS},
		      {"its answer leaves", LEAVES(IF_A), {A, OUT, 8080, 1000, p, SYN | ACK}, UP, PASS},
		      {"local backend again", IN, {OUT, HOST, 1000, NP_LOCAL, p, ACK}, UP, PASS},
		      {"a pod itself", IN, {OUT, A, 1001, 8080, p, SYN}, UP, PASS},
		      {"no such port", IN, {OUT, HOST, 1001, 22, p, SYN}, UP, PASS},
		      {"no such port of a ClusterIP", IN, {OUT, VIP, 1001, 22, p, SYN}, UP, REDIR},
		      {"no such port of a load balancer", IN, {OUT, LB, 1001, 22, p, SYN}, UP, PASS},
		      {"no backend", IN, {OUT, HOST, 1001, NP_NONE, p, SYN}, UP, REDIR},
		      {"no local backend", IN, {OUT, HOST, 1001, NP_DROP, p, SYN}, GONE, SHOT},
		      {"outside the source ranges", IN, {OUT, LB, 1001, 81, p, SYN}, GONE, SHOT},
		      {"a pod's address from outside", IN, {A, HOST, 1001, NP_REMOTE, p, SYN}, GONE, SHOT},
		      {"our own, too", IN, {HOST, HOST, 1001, NP_REMOTE, p, SYN}, GONE, SHOT},
		      {"to no service", IN, {A, OUT, 1001, 80, p, SYN}, UP, SHOT},
		      {"in mid-stream", IN, {OUT, HOST, 1009, NP_REMOTE, p, ACK}, mid == ANY ? TX : UP, REDIR},
		      {"a reset", IN, {OUT, HOST, 1008, NP_REMOTE, p, RST}, mid == ANY ? TX : UP, p == TCP ? SHOT : REDIR},
		      {"affinity, a first time", IN, {OUT, HOST, 1010, NP_AFF, p, SYN}, ANY},
		      {"and more", IN, {OUT, HOST, 1011, NP_AFF, p, SYN}, ANY},
		      {"and more", IN, {OUT, HOST, 1012, NP_AFF, p, SYN}, ANY},
		      {"Maglev", IN, {OUT, HOST, 1040, NP_MAGLEV, p, SYN}, ANY},
		      {"Maglev", IN, {OUT, HOST, 1041, NP_MAGLEV, p, SYN}, ANY},
		      {"Maglev", IN, {OUT, HOST, 1042, NP_MAGLEV, p, SYN}, ANY},
		      {"Maglev", IN, {OUT, HOST, 1043, NP_MAGLEV, p, SYN}, ANY},
		      {"Maglev", IN, {OUT, HOST, 1044, NP_MAGLEV, p, SYN}, ANY},
		      {"the node's own flow", LEAVES(0), {HOST, VIP, 1020, 80, p, SYN}, UP, REDIR},
		      {"its answer", IN, {REMOTE, HOST, 8080, 1020, p, SYN | ACK}, UP, PASS},
		      {"a guess at a translated port", IN, {REMOTE, HOST, 8080, 50000, p, SYN | ACK}, UP, PASS},
		      {"forwarded", IN, {OUT, REMOTE, 1000, 8080, p, SYN}, UP, PASS},
		      {"multicast", IN, {OUT, MCAST, 1000, 8080, p, SYN}, UP, PASS},
		      {"echo request", IN, {OUT, HOST, 8, 7, ICMP}, UP, PASS},
		      {"echo request to a ClusterIP", IN, {OUT, VIP, 8, 7, ICMP}, UP, SHOT},
		      {"UDP without checksum", IN, {OUT, HOST, 1030, NP_REMOTE, UDP, .nocsum = 1}, TX, REDIR, 0x22},
		      {"empty datagram", IN, {OUT, HOST, 1031, NP_REMOTE, UDP, .len = NOPAYLOAD}, TX, REDIR, 0x22});
		pair_free(w);
	}
}

/* A UDP flow's backend leaves: the next packet of the flow gets another, by XDP as by TC. */
static void moved(void **state)
{
	struct pair *w = pair_new();
	const struct step before = {"before", IN, {OUT, HOST, 1000, NP_REMOTE, UDP}, TX, REDIR, 0x22};
	const struct step reply = {"reply", IN, {REMOTE, HOST, 8080, SNAT, UDP}, TX, REDIR, 0x44};
	const struct step away = {"moved", IN, {OUT, HOST, 1000, NP_REMOTE, UDP}, OUT_BY, REDIR, 0x33};
	const struct step here = {"moved here", IN, {OUT, HOST, 1000, NP_REMOTE, UDP}, UP, PASS};
	const struct step none = {"no backend", IN, {OUT, HOST, 1000, NP_REMOTE, UDP}, UP, ANY};

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		step(w, &before, v6);
		step(w, &reply, v6);
	}
	for (int i = 0; i < 2; i++)
		svc_set(&w->w[i].e, last_udp_svc, to_remote2, 1, 0);
	for (int v6 = 0; v6 < 2; v6++)
		step(w, &away, v6);
	for (int i = 0; i < 2; i++)
		svc_set(&w->w[i].e, last_udp_svc, to_a, 1, 0);
	for (int v6 = 0; v6 < 2; v6++)
		step(w, &here, v6);
	for (int i = 0; i < 2; i++)
		svc_set(&w->w[i].e, last_udp_svc, NULL, 0, BN_RANGE_REJECT);
	for (int v6 = 0; v6 < 2; v6++) {
		struct step s = none;

		s.act = UP;
		s.verdict = REDIR;
		step(w, &s, v6);
	}
	pair_free(w);
}

/* --- Direct server return ------------------------------------------------------------------------ */

static void peer_put(struct pair *p, enum who w, enum who node, uint32_t flags)
{
	for (int i = 0; i < 2; i++)
		for (int v6 = 0; v6 < 2; v6++) {
			struct bn_addr a = addr_of(w, v6);
			struct bn_dsr_peer v = {addr_of(node, v6), flags};

			assert_int_equal(bn_map_put(p->w[i].e.m, BN_MAP_dsr, &a, &v), 0);
		}
}

/* What a peer sends for the backend a:port: the frame of `in` in UDP, from NODE to HOST. */
static void build_packed(struct frame *f, const struct frame *in, enum who backend, uint16_t port, int v6)
{
	struct pk k = {NODE, HOST, 50000, BN_DSR_PORT, UDP, .nocsum = 1};
	struct bn_dsr_head h = {.magic = htons(BN_DSR_MAGIC), .version = BN_DSR_VERSION, .port = htons(port),
				.addr = addr_of(backend, v6)};
	size_t n = in->len - in->l3;

	k.len = sizeof(h) + n;
	build(f, &k, v6);
	memcpy(f->b + f->l4 + 8, &h, sizeof(h));
	memcpy(f->b + f->l4 + 8 + sizeof(h), in->b + in->l3, n);
}

static void dsr_packs(void **state)
{
	const struct run in = IN;

	(void)state;
	for (int i = 0; i < 3; i++)
		for (int v6 = 0; v6 < 2; v6++) {
			uint8_t p = protos[i];
			struct pair *w = pair_new_mode(true);
			struct pk k = {OUT, HOST, 1000, NP_REMOTE, p, SYN, .ttl = 63};
			const struct step steps[] = {
				{"first packet", IN, {OUT, HOST, 1000, NP_REMOTE, p, SYN}, UP, REDIR},
				{"the next one", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK}, UP, REDIR},
				{"too long when packed", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .len = 1430}, UP, REDIR},
				{"hop limit used up", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .ttl = 1}, UP, REDIR},
				{"first fragment", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .frag = 0x2000, .id = 7, .len = p == TCP ? 36 : 32}, UP, REDIR},
				{"second one", IN, {OUT, HOST, 1000, NP_REMOTE, p, ACK, .frag = 7, .id = 7}, UP, REDIR},
				{"reset", IN, {OUT, HOST, 1000, NP_REMOTE, p, RST}, UP, REDIR},
				{"no peer", IN, {OUT, HOST, 1001, NP_REMOTE2, p, SYN}, OUT_BY, REDIR, 0x33},
				{"a peer's own", IN, {NODE, HOST, 1002, NP_REMOTE, p, SYN}, TX, REDIR, 0x22},
			};
			struct frame want, got, inner;
			struct bn_addr node;
			struct out o;

			peer_put(w, REMOTE, NODE, BN_DSR_F_BACKEND);
			peer_put(w, NODE, NODE, BN_DSR_F_NODE);
			for (size_t n = 0; n < ARRAY_SIZE(steps); n++)
				step(w, &steps[n], v6);
			/* Byte for byte: the client's packet, one hop older, behind the head. */
			build(&inner, &k, v6);
			build_packed(&want, &inner, REMOTE, 8080, v6);
			k.ttl = 64;
			build(&got, &k, v6);
			run_world(&w->w[0], &in, &got, &o);
			assert_int_equal(o.f.len, got.len + (v6 ? BN_DSR_OVERHEAD6 : BN_DSR_OVERHEAD4));
			assert_memory_equal(o.f.b + want.l4 + 2, want.b + want.l4 + 2, want.len - want.l4 - 2);
			node = addr_of(NODE, v6);
			assert_memory_equal(o.f.b + (v6 ? 38 : 30), &node.b[v6 ? 0 : 12], v6 ? 16 : 4);
			pair_free(w);
		}
}

static void dsr_unpacks(void **state)
{
	const struct run in = IN, leaves = LEAVES(IF_A);

	(void)state;
	for (int i = 0; i < 3; i++)
		for (int v6 = 0; v6 < 2; v6++) {
			uint8_t p = protos[i];
			const struct {
				const char *name;
				struct pk in, out; /* out: s == d: dropped */
				enum who backend;
				uint16_t port;
				uint32_t drop;
			} rows[] = {
				{"to a backend here", {OUT, NODE, 1000, NP_LOCAL, p, SYN}, {OUT, A, 1000, 8080, p, SYN}, A, 8080, 0},
				{"and on", {OUT, NODE, 1000, NP_LOCAL, p, ACK}, {OUT, A, 1000, 8080, p, ACK}, A, 8080, 0},
				{"load balancer", {OUT, LB, 1001, 82, p, SYN}, {OUT, A, 1001, 8080, p, SYN}, A, 8080, 0},
				{"another port of the pod", {OUT, NODE, 1002, NP_LOCAL, p, SYN}, {}, A, 8081, BN_DROP_NO_BACKEND},
				{"another pod", {OUT, NODE, 1002, NP_LOCAL, p, SYN}, {}, B, 8080, BN_DROP_NO_BACKEND},
				{"a backend elsewhere", {OUT, NODE, 1002, NP_REMOTE, p, SYN}, {}, REMOTE, 8080, BN_DROP_DSR},
				{"no service", {OUT, NODE, 1002, 99, p, SYN}, {}, A, 8080, BN_DROP_DSR},
				{"a pod, past any service", {OUT, A, 1002, 8080, p, SYN}, {}, A, 8080, BN_DROP_DSR},
				{"from a pod of this node", {A, NODE, 1002, NP_LOCAL, p, SYN}, {}, A, 8080, BN_DROP_MARTIAN},
				{"from this node", {HOST, NODE, 1002, NP_LOCAL, p, SYN}, {}, A, 8080, BN_DROP_MARTIAN},
				{"outside the source ranges", {OUT, LB, 1002, 83, p, SYN}, {}, A, 8080, BN_DROP_SOURCE_RANGE},
			};
			struct pair *w = pair_new_mode(true);
			struct pk reply = {A, OUT, 8080, 1000, p, SYN | ACK}, as = {NODE, OUT, NP_LOCAL, 1000, p, SYN | ACK};
			struct frame inner, f[2], want;
			struct out o;

			peer_put(w, NODE, NODE, BN_DSR_F_NODE);
			for (int k = 0; k < 2; k++) {
				uint32_t s;

				svc_put(&w->w[k].e, LB, 82, p, BN_SVC_F_EXTERNAL, to_a, 1);
				s = svc_put(&w->w[k].e, LB, 83, p, BN_SVC_F_EXTERNAL | BN_SVC_F_SRC_RANGES, to_a, 1);
				for (int x = 0; x < 2; x++)
					((struct bn_svc *)bn_map_at(w->w[k].e.m, BN_MAP_svcs, s + x))->src_set = 77;
			}
			for (size_t n = 0; n < ARRAY_SIZE(rows); n++) {
				build(&inner, &rows[n].in, v6);
				build_packed(&f[0], &inner, rows[n].backend, rows[n].port, v6);
				f[1] = f[0];
				compare(rows[n].name, w, &in, f, UP, rows[n].drop ? SHOT : PASS, 0);
				run_world(&w->w[1], &in, &f[1], &o);
				run_world(&w->w[0], &in, &f[0], &o);
				if (rows[n].drop && o.drops[rows[n].drop] != 1)
					fail_msg("%s: not counted as %s", rows[n].name, drop_name(rows[n].drop));
				if (rows[n].drop)
					continue;
				build(&want, &rows[n].out, v6);
				assert_int_equal(o.f.len, want.len);
				assert_memory_equal(o.f.b + 14, want.b + 14, want.len - 14);
			}
			/* The pod's answer leaves in the name that the client asked. */
			build(&f[0], &reply, v6);
			run_world(&w->w[0], &leaves, &f[0], &o);
			build(&want, &as, v6);
			assert_int_equal(o.verdict, PASS);
			assert_memory_equal(o.f.b + 14, want.b + 14, want.len - 14);
			/* Who is no peer is not believed. */
			peer_put(w, NODE, NODE, BN_DSR_F_BACKEND);
			build(&inner, &rows[0].in, v6);
			build_packed(&f[0], &inner, A, 8080, v6);
			run_world(&w->w[0], &in, &f[0], &o);
			assert_int_equal(o.verdict, SHOT);
			assert_int_equal(o.drops[BN_DROP_DSR], 1);
			pair_free(w);
		}
}

/* Every beginning of a packet, and packets with a few bytes of the headers changed: where the parser says
 * no, both do, and what is translated all the same is translated alike.
 */
static void cut_and_changed(void **state)
{
	uint32_t seed = 20261123;

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct pair *w = pair_new();

		for (int v6 = 0; v6 < 2; v6++) {
			struct pk k = {OUT, HOST, 1000, NP_REMOTE, protos[i], SYN};
			const struct run r = IN;
			struct frame whole, in[2];
			char name[80];

			build(&whole, &k, v6);
			/* BPF_PROG_TEST_RUN takes no shorter ones. */
			for (size_t n = whole.l4; n < whole.len; n++) {
				snprintf(name, sizeof(name), "v%d, protocol %d: first %zu bytes", v6 ? 6 : 4, protos[i], n);
				in[0] = in[1] = whole;
				in[0].len = in[1].len = n;
				compare(name, w, &r, in, ANY, 0, 0);
			}
			for (int t = 0; t < 800; t++) {
				k.sp = 1000 + t % 16;
				build(&in[0], &k, v6);
				for (int c = 0; c < 1 + t % 3; c++) {
					seed = seed * 1664525u + 1013904223u;
					in[0].b[12 + (seed >> 8) % (in[0].l4 + 20 - 12)] = seed >> 24;
				}
				in[1] = in[0];
				snprintf(name, sizeof(name), "v%d, protocol %d: change %d", v6 ? 6 : 4, protos[i], t);
				compare(name, w, &r, in, ANY, 0, 0);
			}
		}
		same_tables("at the end", w);
		pair_free(w);
	}
}

/* A device that takes no frames from XDP, one that has no Ethernet header, one that is not known. */
static void narrow_ways(void **state)
{
	struct pair *w = pair_new();
	const struct step tx = {"back by redirect", IN, {OUT, HOST, 1000, NP_REMOTE, TCP, SYN}, OUT_BY, REDIR, 0x22};
	const struct step up = {"not at all", IN, {OUT, HOST, 1001, NP_REMOTE, TCP, SYN}, UP, REDIR};
	const struct step other = {"the other does not", IN, {OUT, HOST, 1002, NP_REMOTE2, TCP, SYN}, UP, REDIR};
	const struct step alien = {"not an uplink", {.ifindex = IF_OPEN + 3}, {OUT, HOST, 1003, NP_REMOTE, TCP, SYN}, UP, PASS};
	const uint16_t flags[] = {BN_IF_F_XDP_XMIT, 0};
	uint32_t gone = IF_UP2;

	(void)state;
	for (int k = 0; k < 2; k++) {
		for (int i = 0; i < 2; i++)
			uplink_put(&w->w[i].e, IF_UP, flags[k], addr_of(HOST, 0), addr_of(HOST, 1));
		for (int v6 = 0; v6 < 2; v6++)
			step(w, k ? &up : &tx, v6);
	}
	for (int i = 0; i < 2; i++)
		uplink_put(&w->w[i].e, IF_UP2, BN_IF_F_XDP_TX, addr_of(HOST, 0), addr_of(HOST, 1));
	for (int v6 = 0; v6 < 2; v6++)
		step(w, &other, v6);
	for (int i = 0; i < 2; i++)
		assert_int_equal(bn_map_del(w->w[i].e.m, BN_MAP_ifaces, &gone), 0);
	for (int v6 = 0; v6 < 2; v6++) {
		struct step s = alien;

		s.r.ifindex = IF_UP2;
		step(w, &s, v6);
	}
	pair_free(w);
}

/* What the kernel said about a way is kept for a tenth of a second: neighbour and route of a flow that goes on
 * change, and it follows.
 */
static void ways_change(void **state)
{
	static const struct {
		const char *script;
		struct step s;
	} rows[] = {
		{"true", {"as set up", IN, {OUT, HOST, 1000, NP_REMOTE, UDP}, TX, REDIR, 0x22}},
		{"ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:55 dev dpv16 nud permanent;"
		 "ip neigh replace 2001:db8::2 lladdr 02:00:00:00:00:55 dev dpv16 nud permanent",
		 {"another neighbour", IN, {OUT, HOST, 1000, NP_REMOTE, UDP}, TX, REDIR, 0x55}},
		{"ip route replace 10.2.0.1/32 via 10.9.0.2; ip route replace fd00:2::1/128 via fd00:9::2",
		 {"another interface", IN, {OUT, HOST, 1000, NP_REMOTE, UDP}, OUT_BY, REDIR, 0x33}},
		{"ip route del 10.2.0.1/32; ip route del fd00:2::1/128;"
		 "ip route add unreachable 10.2.0.1/32; ip route add unreachable fd00:2::1/128",
		 {"no route", IN, {OUT, HOST, 1000, NP_REMOTE, UDP}, GONE, SHOT}},
		{"ip route del unreachable 10.2.0.1/32; ip route del unreachable fd00:2::1/128;"
		 "ip route add 10.2.0.1/32 via 192.0.2.2; ip route add fd00:2::1/128 via 2001:db8::2;"
		 "ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:22 dev dpv16 nud permanent;"
		 "ip neigh replace 2001:db8::2 lladdr 02:00:00:00:00:22 dev dpv16 nud permanent",
		 {"as before", IN, {OUT, HOST, 1000, NP_REMOTE, UDP}, TX, REDIR, 0x22}},
	};
	struct pair *w = pair_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(system(rows[i].script), 0);
		usleep(150000);
		for (int v6 = 0; v6 < 2; v6++)
			for (int again = 0; again < 2; again++)
				step(w, &rows[i].s, v6);
	}
	pair_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remote_backends),
		cmocka_unit_test(everything_else),
		cmocka_unit_test(moved),
		cmocka_unit_test(cut_and_changed),
		cmocka_unit_test(narrow_ways),
		cmocka_unit_test(ways_change),
		cmocka_unit_test(dsr_packs),
		cmocka_unit_test(dsr_unpacks),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
