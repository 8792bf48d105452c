/* SPDX-License-Identifier: MIT */
/* testrun FROM_POD TO_POD CLIENT_IF SERVER_IF CLIENT SERVER VIP VPORT PORT COUNT
 *
 * Runs packets between two pods of a node through the pinned programs of its daemon, one packet a
 * BPF_PROG_TEST_RUN, in the node's network namespace: what the maps hold is what is met. Prints a JSON
 * object {case: [ns...]}, of GROUPS groups the mean of all but the slowest tenth; `base` is a packet that is not IP, most of which is
 * the test run's own.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "maps/util.h"

#define GROUPS 7

enum { FIN = 1, SYN = 2, ACK = 16 };

struct __attribute__((packed)) frame {
	uint8_t dst[6], src[6];
	uint16_t eth;
	uint8_t ver, tos;
	uint16_t len, id, frag;
	uint8_t ttl, proto;
	uint16_t sum;
	uint32_t saddr, daddr;
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t doff, flags;
	uint16_t win, csum, urg;
	uint8_t data[32];
};

static struct {
	int from, to;
	uint32_t client_if, server_if, client, server, vip;
	uint16_t vport, port;
	unsigned count;
	const char *comma;
} t;

static uint16_t ip_sum(const void *h)
{
	const uint8_t *b = h;
	uint32_t s = 0;

	for (int i = 0; i < 20; i += 2)
		s += (uint32_t)b[i] << 8 | b[i + 1];
	s = (s & 0xffff) + (s >> 16);
	return htons((uint16_t)~(s + (s >> 16)));
}

static struct frame packet(uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport, uint8_t flags)
{
	struct frame f = {
		.dst = { 0xee, 0xee, 0xee, 0xee, 0xee, 0xee },
		.src = { 2, 0, 0, 0, 0, 1 },
		.eth = htons(0x0800),
		.ver = 0x45,
		.len = htons(sizeof(f) - 14),
		.ttl = 64,
		.proto = 6,
		.saddr = src,
		.daddr = dst,
		.sport = htons(sport),
		.dport = htons(dport),
		.seq = htonl(1000),
		.ack = flags & ACK ? htonl(1000) : 0,
		.doff = 5 << 4,
		.flags = flags,
		.win = htons(1000),
	};

	f.sum = ip_sum(&f.ver);
	return f;
}

/* Nanoseconds of one run; a packet that the programs refuse ends everything. */
static uint32_t run(int prog, uint32_t ifindex, uint32_t in, const struct frame *f)
{
	struct __sk_buff ctx = { .ifindex = ifindex, .ingress_ifindex = in };
	uint8_t out[256];
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = f, .data_size_in = sizeof(*f), .data_out = out,
		    .data_size_out = sizeof(out), .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = 1);
	int r = bpf_prog_test_run_opts(prog, &o);

	if (r < 0 || o.retval == 2) {
		fprintf(stderr, "testrun: %s\n", r < 0 ? strerror(-r) : "the packet was dropped");
		exit(1);
	}
	return o.duration;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* The clock has steps of 10 ns on some machines: a mean is finer than a median. */
static void say(const char *name, uint32_t *ns)
{
	unsigned n = t.count / GROUPS, kept = n - n / 10;

	printf("%s\"%s\": [", t.comma, name);
	for (unsigned g = 0; g < GROUPS; g++) {
		double sum = 0;

		qsort(ns + g * n, n, sizeof(*ns), by_value);
		for (unsigned i = 0; i < kept; i++)
			sum += ns[g * n + i];
		printf("%s%.1f", g ? ", " : "", sum / kept);
	}
	printf("]");
	t.comma = ", ";
}

static void new_flows(const char *egress, const char *ingress, uint32_t dst, uint16_t dport, uint16_t first)
{
	uint32_t *out = calloc(t.count, sizeof(*out)), *in = calloc(t.count, sizeof(*in));

	if (!out || !in)
		exit(1);
	for (unsigned i = 0; i < t.count; i++) {
		struct frame f = packet(t.client, first + i, dst, dport, SYN);

		out[i] = run(t.from, t.client_if, 0, &f);
		if (!ingress)
			continue;
		in[i] = run(t.to, t.server_if, t.client_if, &f);
	}
	say(egress, out);
	if (ingress)
		say(ingress, in);
	free(out);
	free(in);
}

static void established(const char *name, uint32_t dst, uint16_t dport, uint16_t sport)
{
	struct frame syn = packet(t.client, sport, dst, dport, SYN);
	struct frame real = packet(t.client, sport, t.server, t.port, SYN);
	struct frame sa = packet(t.server, t.port, t.client, sport, SYN | ACK);
	struct frame data = packet(t.client, sport, dst, dport, ACK);
	struct frame in = packet(t.client, sport, t.server, t.port, ACK);
	struct frame back = packet(t.server, t.port, t.client, sport, ACK);
	struct {
		const char *what;
		int prog;
		uint32_t ifindex, in;
		const struct frame *f;
	} leg[] = {
		{ "egress", t.from, t.client_if, 0, &data },
		{ "ingress", t.to, t.server_if, t.client_if, &in },
		{ "reply-egress", t.from, t.server_if, 0, &back },
		{ "reply-ingress", t.to, t.client_if, t.server_if, &back },
	};
	uint32_t *ns[ARRAY_SIZE(leg)];

	for (size_t k = 0; k < ARRAY_SIZE(leg); k++) {
		ns[k] = calloc(t.count, sizeof(uint32_t));
		if (!ns[k])
			exit(1);
	}
	run(t.from, t.client_if, 0, &syn);
	run(t.to, t.server_if, t.client_if, &real);
	run(t.from, t.server_if, 0, &sa);
	run(t.to, t.client_if, t.server_if, &sa);
	for (unsigned i = 0; i < t.count; i++) /* as they come: one each way */
		for (size_t k = 0; k < ARRAY_SIZE(leg); k++)
			ns[k][i] = run(leg[k].prog, leg[k].ifindex, leg[k].in, leg[k].f);
	for (size_t k = 0; k < ARRAY_SIZE(leg); k++) {
		char id[64];

		snprintf(id, sizeof(id), "%s-%s", name, leg[k].what);
		say(id, ns[k]);
		free(ns[k]);
	}
}

static void base(void)
{
	struct frame f = packet(t.client, 1, t.server, 1, ACK);
	uint32_t *ns = calloc(t.count, sizeof(*ns));

	if (!ns)
		exit(1);
	f.eth = htons(0x0806);
	for (unsigned i = 0; i < t.count; i++)
		ns[i] = run(t.from, t.client_if, 0, &f);
	say("base", ns);
	free(ns);
}

int main(int argc, char **argv)
{
	if (argc != 11) {
		fprintf(stderr, "usage: testrun FROM_POD TO_POD CLIENT_IF SERVER_IF CLIENT SERVER VIP VPORT PORT COUNT\n");
		return 2;
	}
	t.from = bpf_obj_get(argv[1]);
	t.to = bpf_obj_get(argv[2]);
	t.client_if = if_nametoindex(argv[3]);
	t.server_if = if_nametoindex(argv[4]);
	t.vport = (uint16_t)atoi(argv[8]);
	t.port = (uint16_t)atoi(argv[9]);
	t.count = (unsigned)atoi(argv[10]);
	t.comma = "";
	if (t.from < 0 || t.to < 0 || !t.client_if || !t.server_if || inet_pton(AF_INET, argv[5], &t.client) != 1 ||
	    inet_pton(AF_INET, argv[6], &t.server) != 1 || inet_pton(AF_INET, argv[7], &t.vip) != 1 ||
	    t.count < GROUPS || t.count > 20000) {
		fprintf(stderr, "testrun: no such program, interface or address\n");
		return 2;
	}
	printf("{");
	base();
	new_flows("new-egress", "new-ingress", t.server, t.port, 10000);
	new_flows("new-service-egress", NULL, t.vip, t.vport, 33000);
	established("established", t.server, t.port, 9001);
	established("established-service", t.vip, t.vport, 9002);
	printf("}\n");
	return 0;
}
