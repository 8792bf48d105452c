// SPDX-License-Identifier: MIT
/* What the parser believes: fragments, extension headers, tags, lengths that lie, a corpus of broken
 * packets, and random damage to good ones.
 */
#include "pod_env.h"

/* clang-format off: rows are tables */

static void fragments(void **state)
{
	static const struct be to_remote[] = {{REMOTE, 8080}};
	struct env *e = env_new(&(struct env_opts){});

	(void)state;
	svc_put(e, VIP, 80, UDP, 0, to_remote, 1);
	svc_put(e, VIP, 80, TCP, 0, to_remote, 1);
	ROWS(e,
	     {"later one first", OUT_OF(IF_A),
	      {A, VIP, .proto = UDP, .frag = 5, .id = 7}, SHOT, BN_DROP_FRAGMENT},
	     {"first one", OUT_OF(IF_A), {A, VIP, 1000, 80, UDP, .frag = 0x2000, .id = 8}, PASS, 0,
	      {A, REMOTE, 1000, 8080, UDP, .frag = 0x2000, .id = 8}},
	     {"its later one", OUT_OF(IF_A), {A, VIP, .proto = UDP, .frag = 5 | 0x2000, .id = 8}, PASS,
	      0, {A, REMOTE, .proto = UDP, .frag = 5 | 0x2000, .id = 8}},
	     {"its last one", OUT_OF(IF_A), {A, VIP, .proto = UDP, .frag = 9, .id = 8, .len = 3}, PASS,
	      0, {A, REMOTE, .proto = UDP, .frag = 9, .id = 8, .len = 3}},
	     {"another packet's", OUT_OF(IF_A), {A, VIP, .proto = UDP, .frag = 5, .id = 9}, SHOT,
	      BN_DROP_FRAGMENT},
	     {"another interface's", INTO(IF_A, IF_UP), {A, VIP, .proto = UDP, .frag = 5, .id = 8}, SHOT,
	      BN_DROP_FRAGMENT},
	     {"reply, first", INTO(IF_A, IF_UP),
	      {REMOTE, A, 8080, 1000, UDP, .frag = 0x2000, .id = 8}, PASS, 0,
	      {VIP, A, 80, 1000, UDP, .frag = 0x2000, .id = 8}},
	     {"reply, later", INTO(IF_A, IF_UP), {REMOTE, A, .proto = UDP, .frag = 5, .id = 8}, PASS, 0,
	      {VIP, A, .proto = UDP, .frag = 5, .id = 8}},
	     {"TCP", OUT_OF(IF_A), {A, VIP, 1000, 80, TCP, SYN, .frag = 0x2000, .id = 10, .len = 36},
	      PASS, 0, {A, REMOTE, 1000, 8080, TCP, SYN, .frag = 0x2000, .id = 10, .len = 36}},
	     {"TCP, over its own header", OUT_OF(IF_A), {A, VIP, .proto = TCP, .frag = 1, .id = 10},
	      SHOT, BN_DROP_BAD_HEADER},
	     {"TCP, over its checksum", OUT_OF(IF_A), {A, VIP, .proto = TCP, .frag = 2, .id = 10}, SHOT,
	      BN_DROP_BAD_HEADER},
	     {"TCP, later", OUT_OF(IF_A), {A, VIP, .proto = TCP, .frag = 7, .id = 10}, PASS, 0,
	      {A, REMOTE, .proto = TCP, .frag = 7, .id = 10}},
	     {"beyond 64 KiB", OUT_OF(IF_A), {A, VIP, .proto = UDP, .frag = 0x1fff, .id = 8}, SHOT,
	      BN_DROP_BAD_HEADER},
	     {"odd length, more follow", OUT_OF(IF_A),
	      {A, VIP, .proto = UDP, .frag = 5 | 0x2000, .id = 8, .len = 33}, SHOT, BN_DROP_BAD_HEADER},
	     {"first one without a whole header", OUT_OF(IF_A),
	      {A, VIP, .proto = 47, .frag = 0x2000, .id = 11, .len = 8}, SHOT, BN_DROP_UNSUPPORTED},
	     {"no ports: no first one needed", OUT_OF(IF_A),
	      {A, OUT, .proto = 47, .frag = 5, .id = 12}, PASS},
	     {"ping", OUT_OF(IF_A), {A, OUT, 8, 99, ICMP, .frag = 0x2000, .id = 13}, PASS},
	     {"ping, later", OUT_OF(IF_A), {A, OUT, .proto = ICMP, .frag = 5, .id = 13}, PASS},
	     {"behind extension headers", OUT_OF(IF_A),
	      {A, VIP, 1001, 80, UDP, .frag = 0x2000, .id = 14, .ext = 2}, PASS, 0,
	      {A, REMOTE, 1001, 8080, UDP, .frag = 0x2000, .id = 14, .ext = 2}},
	     {"later, behind them", OUT_OF(IF_A),
	      {A, VIP, .proto = UDP, .frag = 6, .id = 14, .ext = 2}, PASS, 0,
	      {A, REMOTE, .proto = UDP, .frag = 6, .id = 14, .ext = 2}});
	svc_put(e, VIP, 80, SCTP, 0, to_remote, 1);
	ROWS(e, {"SCTP's sum over a fragment cannot be known", OUT_OF(IF_A),
		 {A, VIP, 1000, 80, SCTP, SYN, .frag = 0x2000, .id = 15, .len = 48}, SHOT,
		 BN_DROP_NAT_WRITE});
	env_free(e);
}

static void v6_packet(struct frame *f, uint8_t next, const uint8_t *rest, size_t n)
{
	struct pk p = {A, OUT, .proto = next};

	build(f, &p, 1);
	memcpy(f->b + f->l3 + 40, rest, n);
	f->len = f->l3 + 40 + n;
	f->b[f->l3 + 4] = n >> 8;
	f->b[f->l3 + 5] = n;
}

static void extension_headers(void **state)
{
	static const struct be to_remote[] = {{REMOTE, 8080}};
	struct env *e = env_new(&(struct env_opts){});
	struct run r = OUT_OF(IF_A);
	uint8_t b[512];
	struct frame f;

	(void)state;
	svc_put(e, VIP, 80, UDP, 0, to_remote, 1);
	for (int n = 1; n <= 10; n++) {
		struct pk in = {A, VIP, 2000 + n, 80, UDP, .ext = n};
		struct pk out = {A, REMOTE, 2000 + n, 8080, UDP, .ext = n};
		struct frame w;

		build(&f, &in, 1);
		build(&w, &out, 1);
		if (n <= 8)
			expect(e, "extension headers", &r, &f, PASS, 0, &w);
		else
			expect(e, "too many", &r, &f, SHOT, BN_DROP_EXT_HEADERS, NULL);
	}
	memset(b, 0, sizeof(b));
	b[0] = UDP; /* a long one */
	b[1] = 31;
	v6_packet(&f, 60, b, 256);
	expect(e, "nothing behind it", &r, &f, SHOT, BN_DROP_BAD_HEADER, NULL);
	b[1] = 32;
	expect(e, "longer than the packet", &r, (v6_packet(&f, 60, b, 256), &f), SHOT,
	       BN_DROP_BAD_HEADER, NULL);
	v6_packet(&f, 60, b, 7);
	expect(e, "cut short", &r, &f, SHOT, BN_DROP_BAD_HEADER, NULL);
	memset(b, 0, sizeof(b));
	b[0] = 59;
	v6_packet(&f, 0, b, 8);
	expect(e, "hop by hop, nothing behind", &r, &f, PASS, 0, &f);
	b[0] = 0;
	b[8] = 59;
	v6_packet(&f, 60, b, 16);
	expect(e, "hop by hop in second place", &r, &f, SHOT, BN_DROP_BAD_HEADER, NULL);
	b[0] = 59;
	v6_packet(&f, 43, b, 8);
	expect(e, "routing header of type 0", &r, &f, SHOT, BN_DROP_BAD_HEADER, NULL);
	b[2] = 4;
	v6_packet(&f, 43, b, 8);
	expect(e, "routing header of another type", &r, &f, PASS, 0, &f);
	memset(b, 0, sizeof(b));
	v6_packet(&f, 50, b, 40);
	expect(e, "ESP", &r, &f, PASS, 0, &f);
	v6_packet(&f, 51, b, 40);
	expect(e, "AH", &r, &f, PASS, 0, &f);
	v6_packet(&f, 253, b, 40);
	expect(e, "what nobody knows", &r, &f, PASS, 0, &f);
	b[0] = 44;
	b[3] = 1; /* fragment of a fragment */
	b[8] = UDP;
	b[11] = 1;
	v6_packet(&f, 44, b, 40);
	expect(e, "two fragment headers", &r, &f, SHOT, BN_DROP_BAD_HEADER, NULL);
	memset(b, 0, sizeof(b));
	b[0] = 59; /* atomic fragment */
	v6_packet(&f, 44, b, 8);
	expect(e, "atomic fragment", &r, &f, PASS, 0, &f);
	env_free(e);
}

struct bad {
	const char *name;
	struct pk p;
	int v6;
	int at; /* from the IP header */
	uint8_t val[4];
	int n;
	int cut; /* bytes taken off the end */
	uint32_t drop;
};

static void malformed(void **state)
{
	static const struct bad rows[] = {
		{"IPv4 version", {A, OUT, 1, 2, UDP}, 0, 0, {0x55}, 1, 0, BN_DROP_BAD_HEADER},
		{"IPv4 header length 4", {A, OUT, 1, 2, UDP}, 0, 0, {0x44}, 1, 0, BN_DROP_BAD_HEADER},
		{"IPv4 header length 0", {A, OUT, 1, 2, UDP}, 0, 0, {0x40}, 1, 0, BN_DROP_BAD_HEADER},
		{"IPv4 header beyond total", {A, OUT, 1, 2, UDP}, 0, 0, {0x4f}, 1, 0, BN_DROP_BAD_HEADER},
		{"IPv4 total 0", {A, OUT, 1, 2, UDP}, 0, 2, {0, 0}, 2, 0, BN_DROP_BAD_HEADER},
		{"IPv4 total 19", {A, OUT, 1, 2, UDP}, 0, 2, {0, 19}, 2, 0, BN_DROP_BAD_HEADER},
		{"IPv4 total 27", {A, OUT, 1, 2, UDP}, 0, 2, {0, 27}, 2, 0, BN_DROP_BAD_HEADER},
		{"IPv4 total beyond the frame", {A, OUT, 1, 2, UDP}, 0, 2, {0, 61}, 2, 0, BN_DROP_BAD_HEADER},
		/* Behind a tag: the kernel itself runs no test on an untagged one. */
		{"IPv4 cut in the header", {A, OUT, 1, 2, UDP, .vlan = 1}, 0, 0, {0x45}, 1, 45, BN_DROP_BAD_HEADER},
		{"IPv6 version", {A, OUT, 1, 2, UDP}, 1, 0, {0x40}, 1, 0, BN_DROP_BAD_HEADER},
		{"IPv6 length beyond", {A, OUT, 1, 2, UDP}, 1, 4, {0, 41}, 2, 0, BN_DROP_BAD_HEADER},
		{"IPv6 length 0", {A, OUT, 1, 2, UDP}, 1, 4, {0, 0}, 2, 0, BN_DROP_BAD_HEADER},
		{"IPv6 length 7", {A, OUT, 1, 2, UDP}, 1, 4, {0, 7}, 2, 0, BN_DROP_BAD_HEADER},
		{"IPv6 cut in the header", {A, OUT, 1, 2, UDP, .vlan = 1}, 1, 0, {0x60}, 1, 45, BN_DROP_BAD_HEADER},
		{"UDP length 7", {A, OUT, 1, 2, UDP}, 0, 24, {0, 7}, 2, 0, BN_DROP_BAD_HEADER},
		{"UDP length beyond", {A, OUT, 1, 2, UDP}, 0, 24, {0, 41}, 2, 0, BN_DROP_BAD_HEADER},
		{"UDP length less than the packet", {A, OUT, 1, 2, UDP}, 0, 24, {0, 39}, 2, 0, 0},
		{"UDP length 7, IPv6", {A, OUT, 1, 2, UDP}, 1, 44, {0, 7}, 2, 0, BN_DROP_BAD_HEADER},
		{"TCP offset 4", {A, OUT, 1, 2, TCP, SYN}, 0, 32, {0x40}, 1, 0, BN_DROP_BAD_HEADER},
		{"TCP offset beyond", {A, OUT, 1, 2, TCP, SYN}, 0, 32, {0xf0}, 1, 0, BN_DROP_BAD_HEADER},
		{"TCP cut", {A, OUT, 1, 2, TCP, SYN}, 0, 2, {0, 39}, 2, 0, BN_DROP_BAD_HEADER},
		{"TCP offset 4, IPv6", {A, OUT, 1, 2, TCP, SYN}, 1, 52, {0x40}, 1, 0, BN_DROP_BAD_HEADER},
		{"TCP without flags", {A, OUT, 1, 2, TCP}, 0, 0, {0x45}, 1, 0, BN_DROP_BAD_HEADER},
		{"TCP SYN FIN", {A, OUT, 1, 2, TCP, SYN | FIN}, 0, 0, {0x45}, 1, 0, BN_DROP_BAD_HEADER},
		{"TCP SYN RST", {A, OUT, 1, 2, TCP, SYN | RST}, 1, 0, {0x60}, 1, 0, BN_DROP_BAD_HEADER},
		{"SCTP cut", {A, OUT, 1, 2, SCTP}, 0, 2, {0, 31}, 2, 0, BN_DROP_BAD_HEADER},
		{"ICMP cut", {A, OUT, 8, 2, ICMP}, 0, 2, {0, 27}, 2, 0, BN_DROP_BAD_HEADER},
		{"a tag and no more", {A, OUT, 1, 2, UDP}, 0, -2, {0x81, 0}, 2, 58, BN_DROP_BAD_HEADER},
	};
	struct env *e = env_new(&(struct env_opts){});
	struct frame f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct bad *b = &rows[i];

		build(&f, &b->p, b->v6);
		memcpy(f.b + f.l3 + b->at, b->val, b->n);
		f.len -= b->cut;
		expect(e, b->name, &(struct run)OUT_OF(IF_A), &f, b->drop ? SHOT : PASS, b->drop,
		       b->drop ? NULL : &f);
		if (b->drop)
			expect(e, b->name, &(struct run)INTO(IF_A, IF_UP), &f, SHOT, b->drop, NULL);
	}
	ROWS(e, {"three tags", OUT_OF(IF_A), {A, OUT, 1, 2, UDP, .vlan = 3}, SHOT, BN_DROP_BAD_HEADER});
	build(&f, &(struct pk){A, OUT, 1, 2, UDP}, 1);
	memcpy(f.b + f.l3 + 8, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\1\0\1", 16);
	expect(e, "mapped source", &(struct run)OUT_OF(IF_A), &f, SHOT, BN_DROP_V4_MAPPED, NULL);
	build(&f, &(struct pk){A, OUT, 1, 2, UDP}, 1);
	memcpy(f.b + f.l3 + 24, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\1\0\1", 16);
	expect(e, "mapped destination", &(struct run)OUT_OF(IF_A), &f, SHOT, BN_DROP_V4_MAPPED, NULL);
	/* Padding behind the IP packet is no part of it. */
	build(&f, &(struct pk){A, OUT, 1, 2, UDP, .len = NOPAYLOAD}, 0);
	f.len = 60;
	expect(e, "padded frame", &(struct run)OUT_OF(IF_A), &f, PASS, 0, &f);
	env_free(e);
}

/* Damage to good packets: every verdict is one of ours, what is dropped is counted once, and what
 * passes from a pod to no service passes unchanged.
 */
static void damaged(void **state)
{
	struct env *e = env_new(&(struct env_opts){.no_events = true});
	static const uint8_t protos[] = {TCP, UDP, SCTP, ICMP};
	unsigned seed = 12345, passed = 0, dropped = 0;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		int v6 = rand_r(&seed) & 1, to = rand_r(&seed) & 1;
		uint8_t proto = protos[rand_r(&seed) % 4];
		struct pk p = {A, OUT, proto == ICMP ? 8 : rand_r(&seed) % 65536, rand_r(&seed) % 65536,
			       proto, ACK, .ext = rand_r(&seed) % 4, .vlan = rand_r(&seed) % 3,
			       .frag = rand_r(&seed) % 4 ? 0 : 0x2000};
		struct run r = {.to_pod = to, .ifindex = IF_A, .in_ifindex = to ? IF_UP : 0};
		uint64_t counted = 0;
		struct frame f;
		struct result res;

		build(&f, &p, v6);
		for (int k = rand_r(&seed) % 4; k >= 0; k--)
			f.b[14 + rand_r(&seed) % (f.len - 14)] = rand_r(&seed);
		if (rand_r(&seed) % 3 == 0)
			f.len = (p.vlan ? 18 : 54) + rand_r(&seed) % (f.len - (p.vlan ? 18 : 54));
		run_frame(e, &r, &f, &res);
		for (int d = 1; d < BN_DROP__MAX; d++)
			counted += res.drops[d];
		assert_int_equal(drops_of(e, BN_DROP_INTERNAL), 0);
		if (res.verdict == PASS) {
			assert_int_equal(counted, 0);
			assert_int_equal(res.out.len, f.len);
			assert_memory_equal(res.out.b, f.b, f.len);
			passed++;
		} else {
			assert_int_equal(res.verdict, SHOT);
			assert_int_equal(counted, 1);
			dropped++;
		}
	}
	print_message("damaged packets: %u passed, %u dropped\n", passed, dropped);
	assert_true(passed > 1000 && dropped > 1000);
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fragments),
		cmocka_unit_test(extension_headers),
		cmocka_unit_test(malformed),
		cmocka_unit_test(damaged),
	};

	return cmocka_run_group_tests(tests, net_setup, NULL);
}
