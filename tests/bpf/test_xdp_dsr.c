// SPDX-License-Identifier: MIT
/* XDP and TC give the same answer in direct server return: packets that leave packed, and what comes packed. */
#include "xdp_env.h"

/* clang-format off: rows are tables */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dsr_packs),
		cmocka_unit_test(dsr_unpacks),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
