// SPDX-License-Identifier: MIT
/* Admission: proof of sender, unknown pods, the policy matrix at both ends, epochs, replies, what is
 * always allowed, mid-stream, ICMP errors, deny answers and audit.
 */
#include "pod_errors.h"

/* clang-format off: rows are tables */

/* A compiled policy: starts (proto index, port, class), a default row, one row for one identity. */
struct start {
	uint8_t pi;
	uint16_t port, cls;
};
struct pol {
	uint32_t id;
	const struct start *starts;
	uint16_t nstarts, nclasses;
	uint32_t identity;     /* has row 1; everyone else row 0 */
	const uint8_t *cells; /* 2 * nclasses */
};

static void pol_put(struct env *e, const struct pol *p)
{
	static uint32_t ports, cells;
	struct bn_peer_key k = {.policy = p->id, .identity = p->identity};
	struct bn_peer_val v = {.row = 1, .check = BN_PEER_CHECK(p->id, p->identity)};
	struct bn_pol *pol = bn_map_at(e->m, BN_MAP_pols, p->id);

	*pol = (struct bn_pol){.ports = ports, .cells = cells, .nports = p->nstarts,
			       .nclasses = p->nclasses, .check = p->id};
	for (int i = 0; i < p->nstarts; i++) {
		const struct start *s = &p->starts[i];

		*(uint32_t *)bn_map_at(e->m, BN_MAP_pol_ports, ports++) =
			BN_PORT_START(BN_PORT_KEY(s->pi, s->port), s->cls);
	}
	for (int i = 0; i < 2 * p->nclasses; i++)
		*(struct bn_cell *)bn_map_at(e->m, BN_MAP_pol_cells, cells++) =
			(struct bn_cell){.action = p->cells[i], .rule = p->id * 4 + i};
	assert_int_equal(bn_map_put(e->m, BN_MAP_pol_peers, &k, &v), 0);
}

/* Allows TCP 80..90 and UDP 53 for `identity`, nobody else anything. */
static void pol_ports(struct env *e, uint32_t id, uint32_t identity)
{
	static const struct start s[] = {{0, 0, 0},  {1, 0, 0},	 {1, 80, 1}, {1, 91, 0},
					 {2, 53, 1}, {2, 54, 0}, {3, 80, 1}, {3, 81, 0}};
	static const uint8_t cells[] = {BN_ACT_DENY, BN_ACT_DENY, BN_ACT_DENY, BN_ACT_ALLOW};

	pol_put(e, &(struct pol){id, s, ARRAY_SIZE(s), 2, identity, cells});
}

/* Everything for `identity`. */
static void pol_peer(struct env *e, uint32_t id, uint32_t identity)
{
	static const struct start s[] = {{0, 0, 0}};
	static const uint8_t cells[] = {BN_ACT_DENY, BN_ACT_ALLOW};

	pol_put(e, &(struct pol){id, s, 1, 1, identity, cells});
}

enum { ID_A = 300, ID_B, ID_C, ID_REMOTE = 310 };

static void pods_set(struct env *e, uint32_t slot, uint32_t in, uint32_t out)
{
	pod_of(e, slot)->word = BN_POD_WORD(in, out);
	state_of(e)->epoch++;
}

static void senders(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	ROWS(e,
	     {"own address", OUT_OF(IF_A), {A, OUT, 1, 2, UDP}, PASS},
	     {"another pod's", OUT_OF(IF_A), {B, OUT, 1, 2, UDP}, SHOT, BN_DROP_SPOOFED},
	     {"the node's", OUT_OF(IF_A), {HOST, OUT, 1, 2, UDP}, SHOT, BN_DROP_SPOOFED},
	     {"the world's", OUT_OF(IF_A), {OUT, B, 1, 2, UDP}, SHOT, BN_DROP_SPOOFED},
	     {"a service's", OUT_OF(IF_A), {VIP, B, 1, 2, UDP}, SHOT, BN_DROP_SPOOFED},
	     {"none", OUT_OF(IF_A), {ZERO, B, 1, 2, UDP}, SHOT, BN_DROP_SPOOFED},
	     {"link local", OUT_OF(IF_A), {LINKLOCAL, B, 1, 2, UDP}, SHOT, BN_DROP_SPOOFED},
	     {"an error with another's", OUT_OF(IF_A), {B, OUT, 11, 2, ICMP}, SHOT, BN_DROP_SPOOFED},
	     /* Another pod's flow does not prove the sender. */
	     {"flow of A", OUT_OF(IF_A), {A, B, 5, 6, UDP}, PASS},
	     {"the same from B", OUT_OF(IF_B), {A, B, 5, 6, UDP}, SHOT, BN_DROP_SPOOFED},
	     {"its reply from C", OUT_OF(IF_C), {B, A, 6, 5, UDP}, SHOT, BN_DROP_SPOOFED},
	     {"its reply from B", OUT_OF(IF_B), {B, A, 6, 5, UDP}, PASS},
	     {"its reply from C again", OUT_OF(IF_C), {B, A, 6, 5, UDP}, SHOT, BN_DROP_SPOOFED},
	     {"unknown pod sends", OUT_OF(IF_NEW), {UNKNOWN, B, 1, 2, UDP}, SHOT, BN_DROP_UNKNOWN_POD},
	     {"unknown pod with a known address", OUT_OF(IF_NEW), {A, B, 1, 2, UDP}, SHOT,
	      BN_DROP_UNKNOWN_POD},
	     {"interface that nobody described", OUT_OF(IF_UP), {UNKNOWN, B, 1, 2, UDP}, SHOT,
	      BN_DROP_UNKNOWN_POD},
	     {"unknown pod gets", INTO(IF_NEW, IF_UP), {OUT, UNKNOWN, 1, 2, UDP}, SHOT,
	      BN_DROP_UNKNOWN_POD},
	     {"no pod of Kubernetes sends", OUT_OF(IF_OPEN), {UNKNOWN, B, 1, 3, UDP}, PASS},
	     {"and gets", INTO(IF_OPEN, IF_UP), {OUT, UNKNOWN, 1, 3, UDP}, PASS});
	state_of(e)->flags = BN_STATE_F_UNKNOWN_ALLOW;
	ROWS(e,
	     {"unknown pods allowed: sends", OUT_OF(IF_NEW), {UNKNOWN, B, 1, 4, UDP}, PASS},
	     {"unknown pods allowed: gets", INTO(IF_NEW, IF_UP), {OUT, UNKNOWN, 1, 4, UDP}, PASS});
	env_free(e);
}

/* Neighbour discovery, ARP and DHCP work for pods that are unknown, closed or without address. */
static void always_passes(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	static const uint8_t types[] = {133, 134, 135, 136, 130, 131, 132, 143};

	(void)state;
	pods_set(e, 1, BN_POL_CLOSED, BN_POL_CLOSED);
	for (uint32_t ifi = IF_A; ifi <= IF_NEW; ifi += IF_NEW - IF_A) {
		for (size_t i = 0; i < sizeof(types); i++) {
			bool mld = i >= 4;

			for (int src = 0; src < 3; src++) {
				enum who s = src == 0 ? LINKLOCAL : src == 1 ? ZERO : A;
				struct pk p = {s, mld ? ALLNODES : B, types[i], 0, ICMP,
					       .ttl = mld ? 1 : 255};
				struct frame f;

				build(&f, &p, 1);
				expect(e, "discovery out", &(struct run)OUT_OF(ifi), &f, PASS, 0, &f);
				expect(e, "discovery in", &(struct run)INTO(ifi, IF_UP), &f, PASS, 0, &f);
				p.ttl = 64; /* came through a router: no discovery */
				build(&f, &p, 1);
				expect(e, "far discovery", &(struct run)OUT_OF(ifi), &f, SHOT,
				       ifi == IF_NEW ? BN_DROP_UNKNOWN_POD
				       : s == A	     ? BN_DROP_POLICY_EGRESS
						     : BN_DROP_SPOOFED, NULL);
			}
		}
	}
	env_free(e);
}

static void discovery_in_anothers_name(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	struct frame f;

	(void)state;
	for (uint8_t type = 133; type <= 136; type++) {
		build(&f, &(struct pk){B, ALLNODES, type, 0, ICMP, .ttl = 255}, 1);
		expect(e, "another's", &(struct run)OUT_OF(IF_A), &f, SHOT, BN_DROP_SPOOFED, NULL);
		expect(e, "its own", &(struct run)OUT_OF(IF_B), &f, PASS, 0, &f);
	}
	env_free(e);
}

static void links(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	struct frame f = {.len = 60};

	(void)state;
	pods_set(e, 1, BN_POL_CLOSED, BN_POL_CLOSED);
	memcpy(f.b, "\xff\xff\xff\xff\xff\xff\2\0\0\0\0\2\x08\x06", 14);
	expect(e, "ARP out", &(struct run)OUT_OF(IF_A), &f, PASS, 0, &f);
	expect(e, "ARP in", &(struct run)INTO(IF_A, IF_UP), &f, PASS, 0, &f);
	expect(e, "ARP of an unknown pod", &(struct run)OUT_OF(IF_NEW), &f, PASS, 0, &f);
	for (uint32_t ifi = IF_A; ifi <= IF_NEW; ifi += IF_NEW - IF_A) {
		build(&f, &(struct pk){ZERO, ALLNODES, 68, 67, UDP}, 0);
		expect(e, "DHCP", &(struct run)OUT_OF(ifi), &f, PASS, 0, &f);
		build(&f, &(struct pk){ZERO, ALLNODES, 68, 68, UDP}, 0);
		expect(e, "not DHCP", &(struct run)OUT_OF(ifi), &f, SHOT,
		       ifi == IF_A ? BN_DROP_SPOOFED : BN_DROP_UNKNOWN_POD, NULL);
	}
	env_free(e);
}

static void cells(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	pol_ports(e, 16, ID_REMOTE);
	pods_set(e, 1, BN_POL_OPEN, 16);
	pods_set(e, 2, 16, BN_POL_OPEN);
	ROWS(e,
	     {"first port", OUT_OF(IF_A), {A, REMOTE, 1000, 80, TCP, SYN}, PASS},
	     {"last port", OUT_OF(IF_A), {A, REMOTE, 1000, 90, TCP, SYN}, PASS},
	     {"below", OUT_OF(IF_A), {A, REMOTE, 1000, 79, TCP, SYN}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"above", OUT_OF(IF_A), {A, REMOTE, 1000, 91, TCP, SYN}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"0", OUT_OF(IF_A), {A, REMOTE, 1000, 0, TCP, SYN}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"65535", OUT_OF(IF_A), {A, REMOTE, 1000, 65535, TCP, SYN}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"other protocol", OUT_OF(IF_A), {A, REMOTE, 1000, 80, UDP}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"its own port", OUT_OF(IF_A), {A, REMOTE, 1000, 53, UDP}, PASS},
	     {"SCTP", OUT_OF(IF_A), {A, REMOTE, 1000, 80, SCTP, SYN}, PASS},
	     {"SCTP, other", OUT_OF(IF_A), {A, REMOTE, 1000, 81, SCTP, SYN}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"no ports", OUT_OF(IF_A), {A, REMOTE, 8, 80, ICMP}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"GRE", OUT_OF(IF_A), {A, REMOTE, 0, 0, 47}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"other peer", OUT_OF(IF_A), {A, REMOTE2, 1000, 80, TCP, SYN}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"the world", OUT_OF(IF_A), {A, OUT, 1000, 80, TCP, SYN}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"multicast", OUT_OF(IF_A), {A, MCAST, 1000, 5353, UDP}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"ingress", INTO(IF_B, IF_UP), {REMOTE, B, 1000, 80, TCP, SYN}, PASS},
	     {"ingress, other port", INTO(IF_B, IF_UP), {REMOTE, B, 1000, 91, TCP, SYN}, SHOT,
	      BN_DROP_POLICY_INGRESS},
	     {"ingress, other peer", INTO(IF_B, IF_UP), {OUT, B, 1000, 80, TCP, SYN}, SHOT,
	      BN_DROP_POLICY_INGRESS},
	     {"from the node, which routes it", INTO(IF_B, IF_UP), {HOST, B, 1000, 80, TCP, SYN}, SHOT,
	      BN_DROP_POLICY_INGRESS},
	     {"from this node itself", INTO(IF_B, 0), {HOST, B, 1001, 99, TCP, SYN}, PASS},
	     {"and the reply to it", OUT_OF(IF_B), {B, HOST, 99, 1001, TCP, SYN | ACK}, PASS},
	     {"from this node with another's address", INTO(IF_B, 0), {NODE, B, 1002, 99, TCP, SYN},
	      SHOT, BN_DROP_POLICY_INGRESS},
	     {"ping from this node", INTO(IF_B, 0), {HOST, B, 8, 9, ICMP}, PASS});
	pods_set(e, 2, BN_POL_OPEN, BN_POL_OPEN);
	ROWS(e, {"a local packet of another address", INTO(IF_B, 0), {NODE, B, 1003, 99, UDP}, PASS},
	     {"and of our own", INTO(IF_B, 0), {HOST, B, 1003, 99, UDP}, PASS});
	pods_set(e, 2, BN_POL_CLOSED, BN_POL_CLOSED);
	ROWS(e, {"judged again: another's", INTO(IF_B, 0), {NODE, B, 1003, 99, UDP}, SHOT,
		 BN_DROP_POLICY_INGRESS},
	     {"judged again: ours", INTO(IF_B, 0), {HOST, B, 1003, 99, UDP}, PASS});
	env_free(e);
}

/* An admission at one end is none at the other; a change of policy is in force at the next packet. */
static void both_ends_and_epochs(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	pol_peer(e, 16, ID_B); /* A may send to B */
	pol_peer(e, 17, ID_A); /* B may get from A */
	pol_peer(e, 18, ID_C);
	for (int n = 0; n < 2; n++) { /* TCP, then UDP */
		uint8_t p = n ? UDP : TCP;
		uint16_t sp = 1000 + n;

		pods_set(e, 1, BN_POL_CLOSED, 16);
		pods_set(e, 2, BN_POL_CLOSED, BN_POL_CLOSED);
		ROWS(e,
		     {"egress allowed", OUT_OF(IF_A), {A, B, sp, 80, p, SYN}, PASS},
		     {"ingress is not", INTO(IF_B, IF_A), {A, B, sp, 80, p, SYN}, SHOT,
		      BN_DROP_POLICY_INGRESS},
		     {"still not", INTO(IF_B, IF_A), {A, B, sp, 80, p, SYN}, SHOT,
		      BN_DROP_POLICY_INGRESS},
		     {"nor may it answer", OUT_OF(IF_B), {B, A, 80, sp, p, SYN | ACK}, SHOT,
		      n ? BN_DROP_POLICY_EGRESS : BN_DROP_POLICY_INGRESS});
		pods_set(e, 2, 17, BN_POL_CLOSED);
		ROWS(e,
		     {"now it is", INTO(IF_B, IF_A), {A, B, sp, 80, p, SYN}, PASS},
		     {"the reply passes the closed egress", OUT_OF(IF_B), {B, A, 80, sp, p, SYN | ACK}, PASS},
		     {"and the closed ingress", INTO(IF_A, IF_B), {B, A, 80, sp, p, SYN | ACK}, PASS},
		     {"established", OUT_OF(IF_A), {A, B, sp, 80, p, ACK}, PASS},
		     {"established, in", INTO(IF_B, IF_A), {A, B, sp, 80, p, ACK}, PASS});
		pods_set(e, 2, 18, BN_POL_CLOSED);
		ROWS(e,
		     {"ingress closed: in", INTO(IF_B, IF_A), {A, B, sp, 80, p, ACK}, SHOT,
		      BN_DROP_POLICY_INGRESS},
		     {"ingress closed: reply", OUT_OF(IF_B), {B, A, 80, sp, p, ACK}, SHOT,
		      BN_DROP_POLICY_INGRESS},
		     {"the client's side is as it was", OUT_OF(IF_A), {A, B, sp, 80, p, ACK}, PASS});
		pods_set(e, 2, 17, BN_POL_CLOSED);
		pods_set(e, 1, BN_POL_CLOSED, 18);
		ROWS(e,
		     {"egress closed: out", OUT_OF(IF_A), {A, B, sp, 80, p, ACK}, SHOT,
		      BN_DROP_POLICY_EGRESS},
		     {"egress closed: reply", INTO(IF_A, IF_B), {B, A, 80, sp, p, ACK}, SHOT,
		      BN_DROP_POLICY_EGRESS});
		pods_set(e, 1, BN_POL_CLOSED, 16);
		ROWS(e, {"open again", OUT_OF(IF_A), {A, B, sp, 80, p, ACK}, PASS},
		     {"reply again", INTO(IF_A, IF_B), {B, A, 80, sp, p, ACK}, PASS});
	}
	env_free(e);
}

/* UDP has no direction of its own: what was refused as an answer may be a flow in its own right. */
static void answer_or_question(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	pol_peer(e, 16, ID_A);
	pods_set(e, 2, BN_POL_CLOSED, 16); /* B may send to A, nobody to B */
	ROWS(e,
	     {"question", OUT_OF(IF_A), {A, B, 1000, 80, UDP}, PASS},
	     {"is refused", INTO(IF_B, IF_A), {A, B, 1000, 80, UDP}, SHOT, BN_DROP_POLICY_INGRESS},
	     {"the other's question", OUT_OF(IF_B), {B, A, 80, 1000, UDP}, PASS},
	     {"comes in", INTO(IF_A, IF_B), {B, A, 80, 1000, UDP}, PASS},
	     {"is answered", OUT_OF(IF_A), {A, B, 1000, 80, UDP}, PASS},
	     {"as an answer", INTO(IF_B, IF_A), {A, B, 1000, 80, UDP}, PASS},
	     {"TCP has", OUT_OF(IF_A), {A, B, 1000, 80, TCP, SYN}, PASS},
	     {"TCP is refused", INTO(IF_B, IF_A), {A, B, 1000, 80, TCP, SYN}, SHOT, BN_DROP_POLICY_INGRESS},
	     {"TCP answer", OUT_OF(IF_B), {B, A, 80, 1000, TCP, SYN | ACK}, SHOT, BN_DROP_POLICY_INGRESS},
	     {"TCP question", OUT_OF(IF_B), {B, A, 80, 1000, TCP, SYN}, PASS});
	env_free(e);
}

/* Through a service the backend is judged, by the original tuple, on both entries. */
static void through_services(void **state)
{
	static const struct be to_b[] = {{B, 8080}};
	static const struct be to_a[] = {{A, 8080}};
	static const struct start s[] = {{0, 0, 0}, {1, 8080, 1}, {1, 8081, 0}};
	static const uint8_t c[] = {BN_ACT_DENY, BN_ACT_DENY, BN_ACT_DENY, BN_ACT_ALLOW};

	(void)state;
	for (int bypass = 0; bypass < 2; bypass++) {
		struct env *e = env_new(&(struct env_opts){.bypass = bypass});
		int go = bypass ? REDIR : PASS;
		struct pk thru = {A, B, 1000, 8080, TCP, SYN, .ttl = bypass ? 63 : 64};

		svc_put(e, VIP, 80, TCP, 0, to_b, 1);
		svc_put(e, VIP2, 80, TCP, 0, to_a, 1);
		pol_put(e, &(struct pol){16, s, 3, 2, ID_B, c}); /* to B's 8080 */
		pol_put(e, &(struct pol){17, s, 3, 2, ID_A, c}); /* from A on 8080 */
		pol_peer(e, 18, ID_C);
		pods_set(e, 1, BN_POL_CLOSED, 18);
		ROWS(e, {"not the backend", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, SYN}, SHOT,
			 BN_DROP_POLICY_EGRESS});
		pods_set(e, 1, BN_POL_CLOSED, 16);
		pods_set(e, 2, 17, BN_POL_CLOSED);
		ROWS(e, {"the backend", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, SYN}, go, 0, thru},
		     {"itself through a service: exempt", OUT_OF(IF_A), {A, VIP2, 1000, 80, TCP, SYN},
		      REDIR, 0, {HOST, A, 1000, 8080, TCP, SYN}, .refused = 3});
		if (bypass) {
			ROWS(e, {"reply", OUT_OF(IF_B), {B, A, 8080, 1000, TCP, SYN | ACK}, REDIR, 0,
				 {VIP, A, 80, 1000, TCP, SYN | ACK, .ttl = 63}});
			pods_set(e, 2, 18, BN_POL_CLOSED);
			ROWS(e,
			     {"ingress closed, at the client's", OUT_OF(IF_A),
			      {A, VIP, 1000, 80, TCP, ACK}, SHOT, BN_DROP_POLICY_INGRESS},
			     {"a new flow too", OUT_OF(IF_A), {A, VIP, 1001, 80, TCP, SYN}, SHOT,
			      BN_DROP_POLICY_INGRESS},
			     {"and the replies", OUT_OF(IF_B), {B, A, 8080, 1000, TCP, ACK}, SHOT,
			      BN_DROP_POLICY_INGRESS});
			pods_set(e, 2, 17, BN_POL_CLOSED);
			pods_set(e, 1, BN_POL_CLOSED, 18);
			ROWS(e, {"egress closed, at the server's", OUT_OF(IF_B),
				 {B, A, 8080, 1000, TCP, ACK}, SHOT, BN_DROP_POLICY_EGRESS});
		} else {
			ROWS(e,
			     {"in at the backend", INTO(IF_B, IF_A), {A, B, 1000, 8080, TCP, SYN}, PASS},
			     {"reply out", OUT_OF(IF_B), {B, A, 8080, 1000, TCP, SYN | ACK}, PASS},
			     {"reply in", INTO(IF_A, IF_B), {B, A, 8080, 1000, TCP, SYN | ACK}, PASS, 0,
			      {VIP, A, 80, 1000, TCP, SYN | ACK}});
			pods_set(e, 1, BN_POL_CLOSED, 18);
			ROWS(e,
			     {"egress closed: alias", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, ACK}, SHOT,
			      BN_DROP_POLICY_EGRESS},
			     {"egress closed: reply", INTO(IF_A, IF_B), {B, A, 8080, 1000, TCP, ACK},
			      SHOT, BN_DROP_POLICY_EGRESS});
		}
		env_free(e);
	}
}

static void mid_stream(void **state)
{
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	pol_ports(e, 16, ID_REMOTE); /* 80..90 */
	pods_set(e, 1, BN_POL_CLOSED, 16);
	pods_set(e, 2, 16, BN_POL_CLOSED);
	ROWS(e,
	     {"client of a connection that was there", OUT_OF(IF_A), {A, REMOTE, 1000, 80, TCP, ACK}, PASS},
	     {"its server's packets", INTO(IF_A, IF_UP), {REMOTE, A, 80, 1000, TCP, ACK}, PASS},
	     {"server speaks first", INTO(IF_A, IF_UP), {REMOTE, A, 80, 1001, TCP, ACK}, PASS},
	     {"then the client", OUT_OF(IF_A), {A, REMOTE, 1001, 80, TCP, ACK}, PASS},
	     {"as a server", OUT_OF(IF_B), {B, REMOTE, 80, 1000, TCP, ACK}, PASS},
	     {"its client", INTO(IF_B, IF_UP), {REMOTE, B, 1000, 80, TCP, ACK}, PASS},
	     {"as a server, client first", INTO(IF_B, IF_UP), {REMOTE, B, 1001, 80, TCP, ACK}, PASS},
	     {"what no policy would allow", OUT_OF(IF_A), {A, REMOTE, 1000, 79, TCP, ACK}, SHOT,
	      BN_DROP_POLICY_EGRESS},
	     {"nor in", INTO(IF_B, IF_UP), {REMOTE, B, 1000, 79, TCP, ACK}, SHOT, BN_DROP_POLICY_INGRESS},
	     {"a new one is not mid-stream", OUT_OF(IF_B), {B, REMOTE, 80, 1002, TCP, SYN}, SHOT,
	      BN_DROP_POLICY_EGRESS},
	     {"nor is UDP", OUT_OF(IF_B), {B, REMOTE, 80, 1002, UDP}, SHOT, BN_DROP_POLICY_EGRESS},
	     {"a SYN over an admitted flow from the server", INTO(IF_A, IF_UP),
	      {REMOTE, A, 80, 1000, TCP, SYN}, SHOT, BN_DROP_POLICY_INGRESS});
	env_free(e);
}

static void answers_and_audit(void **state)
{
	struct env *e = env_new(&(struct env_opts){});
	struct bn_rule_stat *rs;

	(void)state;
	pol_ports(e, 16, ID_REMOTE);
	pods_set(e, 1, 16, 16);
	ROWS(e, {"allowed twice over", OUT_OF(IF_A), {A, REMOTE, 1000, 80, TCP, SYN}, PASS},
	     {"one flow", OUT_OF(IF_A), {A, REMOTE, 1000, 80, TCP, ACK}, PASS});
	rs = bn_map_at(e->m, BN_MAP_rule_stats, 16 * 4 + 3);
	assert_int_equal(rs->connections, 2); /* one of each family */
	assert_int_equal(rs->packets, 2);
	state_of(e)->flags = BN_STATE_F_DENY_REJECT;
	ROWS(e,
	     {"TCP is reset", OUT_OF(IF_A), {A, OUT, 1000, 80, TCP, SYN}, REDIR, BN_DROP_POLICY_EGRESS,
	      .refused = 2},
	     {"UDP is prohibited", OUT_OF(IF_A), {A, OUT, 1000, 80, UDP}, REDIR, BN_DROP_POLICY_EGRESS,
	      .refused = 2},
	     {"at ingress, sent back through the stack", INTO(IF_A, IF_UP), {OUT, A, 1000, 80, UDP},
	      REDIR, BN_DROP_POLICY_INGRESS, .refused = 2},
	     {"TCP at ingress", INTO(IF_A, IF_UP), {OUT, A, 1000, 80, TCP, SYN}, REDIR,
	      BN_DROP_POLICY_INGRESS, .refused = 2},
	     {"no answer to multicast", OUT_OF(IF_A), {A, MCAST, 1000, 80, UDP}, SHOT,
	      BN_DROP_POLICY_EGRESS});
	state_of(e)->flags = BN_STATE_F_AUDIT;
	ROWS(e, {"audit: passes", OUT_OF(IF_A), {A, OUT, 1001, 80, TCP, SYN}, PASS},
	     {"audit: in too", INTO(IF_A, IF_UP), {OUT, A, 1001, 80, TCP, SYN}, PASS});
	state_of(e)->flags = 0;
	state_of(e)->epoch++;
	ROWS(e, {"audit ends", OUT_OF(IF_A), {A, OUT, 1001, 80, TCP, ACK}, SHOT, BN_DROP_POLICY_EGRESS});
	env_free(e);
}

static void http_and_broken(void **state)
{
	static const struct start s[] = {{0, 0, 0}};
	static const uint8_t http[] = {BN_ACT_DENY, BN_ACT_HTTP};
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	pol_put(e, &(struct pol){16, s, 1, 1, ID_REMOTE, http});
	pods_set(e, 1, BN_POL_OPEN, 16);
	ROWS(e, {"HTTP rules without a rule set fail closed", OUT_OF(IF_A), {A, REMOTE, 1000, 80, TCP, SYN}, SHOT,
		 BN_DROP_HTTP_UNSUPPORTED});
	((struct bn_pol *)bn_map_at(e->m, BN_MAP_pols, 16))->check = 99;
	ROWS(e, {"a policy that is not the pod's", OUT_OF(IF_A), {A, REMOTE, 1000, 80, TCP, SYN}, SHOT,
		 BN_DROP_POLICY_EGRESS});
	pods_set(e, 1, BN_POL_OPEN, 5000);
	ROWS(e, {"a policy that does not exist", OUT_OF(IF_A), {A, REMOTE, 1000, 80, TCP, SYN}, SHOT,
		 BN_DROP_POLICY_EGRESS});
	pods_set(e, 1, BN_POL_OPEN, 0xffffffff);
	ROWS(e, {"nor can exist", OUT_OF(IF_A), {A, REMOTE, 1000, 80, TCP, SYN}, SHOT,
		 BN_DROP_POLICY_EGRESS});
	env_free(e);
}

/* --- ICMP errors ----------------------------------------------------------------------------- */

static void icmp_errors(void **state)
{
	static const struct be to_b[] = {{B, 8080}};
	struct env *e = env_new(&(struct env_opts){});
	static const uint8_t protos[] = {TCP, UDP};

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint8_t p = protos[i];
		struct pk ask = {A, VIP, 1000, 80, p, SYN}, sent = {A, B, 1000, 8080, p, SYN};
		struct pk ans = {B, A, 8080, 1000, p, ACK}, got = {VIP, A, 80, 1000, p, ACK};
		struct pk direct = {A, REMOTE, 1001, 80, p, SYN};
		struct pk other = {A, REMOTE, 4000, 80, p, SYN};

		svc_put(e, VIP, 80, p, 0, to_b, 1);
		pol_peer(e, 16, ID_B);
		pol_peer(e, 17, ID_A);
		pods_set(e, 1, BN_POL_CLOSED, BN_POL_OPEN);
		pods_set(e, 2, 17, BN_POL_CLOSED);
		ROWS(e, {"flow", OUT_OF(IF_A), ask, PASS, 0, sent},
		     {"flow in", INTO(IF_B, IF_A), sent, PASS},
		     {"reply", OUT_OF(IF_B), ans, PASS},
		     {"reply in", INTO(IF_A, IF_B), ans, PASS, 0, got},
		     {"direct", OUT_OF(IF_A), direct, PASS});
		for (int shrt = 0; shrt < 2; shrt++) {
			uint16_t n = shrt ? 48 : 0; /* IPv6: 40 + 8; IPv4: 20 + 28 */

			ERRS(e,
			     {"from a router, about what was sent", INTO(IF_A, IF_UP), {OUT, A}, sent,
			      PASS, 0, {OUT, A}, ask, n},
			     {"from this node", INTO(IF_A, 0), {HOST, A}, sent, PASS, 0, {HOST, A}, ask, n},
			     {"from the backend", INTO(IF_A, IF_B), {B, A}, sent, PASS, 0, {VIP, A}, ask, n},
			     {"as the backend sends it", OUT_OF(IF_B), {B, A}, sent, PASS, .quote = n},
			     {"from the client about a reply", OUT_OF(IF_A), {A, VIP}, got, PASS, 0,
			      {A, B}, ans, n},
			     {"which the backend gets", INTO(IF_B, IF_A), {A, B}, ans, PASS, .quote = n},
			     {"to the backend from a router", INTO(IF_B, IF_UP), {OUT, B}, ans, PASS,
			      .quote = n},
			     {"about a direct flow", INTO(IF_A, IF_UP), {OUT, A}, direct, PASS, .quote = n},
			     {"about none", INTO(IF_A, IF_UP), {OUT, A}, other, SHOT,
			      BN_DROP_POLICY_INGRESS, .quote = n},
			     {"about none, out", OUT_OF(IF_B), {B, OUT}, {OUT, B, 7, 7, p}, SHOT,
			      BN_DROP_POLICY_EGRESS, .quote = n},
			     {"to a service about none", OUT_OF(IF_A), {A, VIP}, {VIP, A, 80, 4000, p, ACK},
			      SHOT, BN_DROP_ICMP_UNRELATED, .quote = n},
			     {"quote too short", INTO(IF_A, IF_UP), {OUT, A}, sent, SHOT,
			      BN_DROP_POLICY_INGRESS, .quote = 24},
			     {"spoofed", OUT_OF(IF_C), {A, VIP}, got, SHOT, BN_DROP_SPOOFED, .quote = n});
		}
		pods_set(e, 1, BN_POL_CLOSED, 16);
		pods_set(e, 2, BN_POL_CLOSED, BN_POL_CLOSED);
		ERRS(e,
		     {"the client's side is still open", INTO(IF_A, IF_B), {B, A}, sent, PASS, 0, {VIP, A}, ask},
		     {"the server's is not", OUT_OF(IF_B), {B, A}, sent, SHOT, BN_DROP_POLICY_INGRESS});
	}
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(senders),
		cmocka_unit_test(always_passes),
		cmocka_unit_test(discovery_in_anothers_name),
		cmocka_unit_test(links),
		cmocka_unit_test(cells),
		cmocka_unit_test(both_ends_and_epochs),
		cmocka_unit_test(answer_or_question),
		cmocka_unit_test(through_services),
		cmocka_unit_test(mid_stream),
		cmocka_unit_test(answers_and_audit),
		cmocka_unit_test(http_and_broken),
		cmocka_unit_test(icmp_errors),
	};

	return cmocka_run_group_tests(tests, net_setup, NULL);
}
