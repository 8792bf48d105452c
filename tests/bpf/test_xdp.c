// SPDX-License-Identifier: MIT
/* XDP and TC give the same answer: a corpus of packets through both (xdp_env.h). */
#include "xdp_env.h"

/* clang-format off: rows are tables */

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
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
