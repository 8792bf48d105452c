/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/pinned.h"
#include "maps/ct_access.h"
#include "maps/sk_list.h"
#include "policy/object.h"

static const struct bn_col cols[] = {
	{ "PROTOCOL", "protocol", 0 },
	{ "SOURCE", "source", 0 },
	{ "SPORT", "sourcePort", BN_COL_RIGHT },
	{ "DESTINATION", "destination", 0 },
	{ "DPORT", "destinationPort", BN_COL_RIGHT },
	{ "BACKEND", "backend", 0 },
	{ "BPORT", "backendPort", BN_COL_RIGHT },
	{ "STATE", "state", 0 },
	{ "PACKETS", "packets", BN_COL_RIGHT },
	{ "BYTES", "bytes", BN_COL_RIGHT },
	{ "EXPIRES", "expiresSeconds", BN_COL_WIDE | BN_COL_RIGHT },
	{ "AGE", "ageSeconds", BN_COL_WIDE | BN_COL_RIGHT },
	{ "MASQUERADE", "masqueradeAddress", BN_COL_WIDE },
	{ "MPORT", "masqueradePort", BN_COL_WIDE | BN_COL_RIGHT },
	{ 0 },
};

struct filter {
	struct bn_addr addrs[32]; /* any of them; at either end, the frontend included */
	size_t naddrs;
	int proto; /* -1: any */
	long port; /* -1: any */
};

static int pod_addrs(const struct bn_cli *c, const char *pod, struct filter *f)
{
	_cleanup_(json_decrefp) json_t *eps = NULL;
	_cleanup_(freep) char *ns = NULL;
	const char *name, *s;
	const json_t *ep, *a;
	size_t i, k;

	if (bn_cli_split_name(pod, &ns, &name) < 0 || bn_ask(c, "endpoint.list", NULL, &eps))
		return -EINVAL;
	json_array_foreach(eps, i, ep) {
		s = json_string_value(json_object_get(ep, "namespace"));
		if (!s || strcmp(s, ns))
			continue;
		s = json_string_value(json_object_get(ep, "name"));
		if (!s || strcmp(s, name))
			continue;
		json_array_foreach(json_object_get(ep, "addresses"), k, a)
			if (json_is_string(a) && f->naddrs < ARRAY_SIZE(f->addrs) &&
			    !bn_addr_parse(json_string_value(a), &f->addrs[f->naddrs]))
				f->naddrs++;
		if (f->naddrs)
			return 0;
	}
	bn_cli_say("no pod %s with an address on this node", pod);
	return -ENOENT;
}

static int parse_proto(const char *text)
{
	long n;
	uint8_t proto;

	if (!strcasecmp(text, "icmp"))
		return BN_PROTO_ICMP;
	if (!strcasecmp(text, "icmpv6") || !strcasecmp(text, "icmp6"))
		return BN_PROTO_ICMP6;
	if (!bn_proto_parse(text, &proto))
		return proto;
	return bn_cli_number("--proto (tcp, udp, sctp, icmp, icmpv6)", text, 0, 255, &n) < 0 ? -EINVAL : n;
}

static int parse_filter(const struct bn_cli *c, struct filter *f)
{
	const char *addr = bn_cli_opt(c, "addr"), *proto = bn_cli_opt(c, "proto");
	const char *port = bn_cli_opt(c, "port"), *pod = bn_cli_opt(c, "pod");

	*f = (struct filter){ .proto = -1, .port = -1 };
	if (addr && pod) {
		bn_cli_say("--addr and --pod exclude each other");
		return -EINVAL;
	}
	if (addr && bn_addr_parse(addr, &f->addrs[f->naddrs++]) < 0) {
		bn_cli_say("--addr: '%s' is not an address", addr);
		return -EINVAL;
	}
	if (proto) {
		f->proto = parse_proto(proto);
		if (f->proto < 0)
			return -EINVAL;
	}
	if (port && bn_cli_number("--port", port, 0, 65535, &f->port) < 0)
		return -EINVAL;
	return pod ? pod_addrs(c, pod, f) : 0;
}

static bool matches(const struct bn_ct_flow *fl, const struct filter *f)
{
	bool hit = !f->naddrs;

	if (f->proto >= 0 && fl->proto != f->proto)
		return false;
	if (f->port >= 0 && ntohs(fl->dport) != f->port && ntohs(fl->backend_port) != f->port)
		return false;
	for (size_t i = 0; i < f->naddrs && !hit; i++)
		hit = bn_addr_eq(&fl->src, &f->addrs[i]) || bn_addr_eq(&fl->dst, &f->addrs[i]) ||
		      bn_addr_eq(&fl->backend, &f->addrs[i]);
	return hit;
}

static json_t *flow_json(const struct bn_ct_flow *f)
{
	char src[BN_ADDR_STRLEN], dst[BN_ADDR_STRLEN], be[BN_ADDR_STRLEN], nat[BN_ADDR_STRLEN];
	json_t *o;

	o = json_pack("{ss ss si ss si ss si ss sI sI si si si}", "protocol", bn_proto_name(f->proto),
		      "source", bn_addr_format(&f->src, src), "sourcePort", ntohs(f->sport),
		      "destination", bn_addr_format(&f->dst, dst), "destinationPort", ntohs(f->dport),
		      "backend", bn_addr_format(&f->backend, be), "backendPort",
		      ntohs(f->backend_port), "state", bn_ct_state(f), "packets",
		      (json_int_t)(f->packets[0] + f->packets[1]), "bytes",
		      (json_int_t)(f->bytes[0] + f->bytes[1]), "expiresSeconds", f->expires_s,
		      "ageSeconds", f->age_s, "slot", f->slot);
	if (o)
		json_object_set_new(o, "translated", json_boolean(f->translated));
	if (o && f->snat) {
		json_object_set_new(o, "masqueradeAddress", json_string(bn_addr_format(&f->nat_src, nat)));
		json_object_set_new(o, "masqueradePort", json_integer(ntohs(f->nat_sport)));
	}
	return o;
}

/* The flows that the options select, at the front of *ret. BN_EXIT_OK or an error that was told. */
static int select_flows(const struct bn_cli *c, struct bn_maps **maps, struct bn_ct_flow **ret,
			size_t *n)
{
	struct filter f;
	size_t all, k = 0;
	int r;

	if (parse_filter(c, &f) < 0 || bn_pinned_open(c, maps))
		return BN_EXIT_ERROR;
	r = bn_ct_flows(*maps, ret, &all);
	if (r < 0)
		return bn_cli_fail("connection table: %s", strerror(-r));
	for (size_t i = 0; i < all; i++)
		if (matches(&(*ret)[i], &f))
			(*ret)[k++] = (*ret)[i];
	*n = k;
	return BN_EXIT_OK;
}

struct socks {
	const struct filter *f;
	json_t *rows;
};

/* As a row: what the application asked for, and where the socket is connected. */
static int add_socket(const struct bn_sk_rec *r, void *data)
{
	const struct bn_sk_peer *p = bn_sk_connected_by(r);
	char src[BN_ADDR_STRLEN], dst[BN_ADDR_STRLEN], be[BN_ADDR_STRLEN];
	struct bn_ct_flow f = { .proto = r->proto, .src = r->src, .sport = r->sport };
	const struct socks *s = data;

	if (!p)
		return 0;
	f.dst = p->front;
	f.dport = p->front_port;
	f.backend = p->back;
	f.backend_port = p->back_port;
	if (matches(&f, s->f))
		json_array_append_new(
			s->rows, json_pack("{ss ss si ss si ss si ss si si sb}", "protocol",
					   bn_proto_name(f.proto), "source", bn_addr_format(&f.src, src),
					   "sourcePort", ntohs(f.sport), "destination",
					   bn_addr_format(&f.dst, dst), "destinationPort", ntohs(f.dport),
					   "backend", bn_addr_format(&f.backend, be), "backendPort",
					   ntohs(f.backend_port), "state", "SOCKET", "packets", 0, "bytes",
					   0, "translated", 1));
	return 0;
}

static int add_sockets(const struct bn_cli *c, const struct bn_maps *maps, json_t *rows)
{
	_cleanup_(bn_sk_list_freep) struct bn_sk_list *list = NULL;
	struct filter f;
	struct socks s = { &f, rows };
	int r;

	if (parse_filter(c, &f) < 0)
		return BN_EXIT_ERROR;
	r = bn_sk_list_new(maps, true, &list);
	r = r ? r : bn_sk_each(list, add_socket, &s);
	return r < 0 ? bn_cli_fail("list of sockets: %s", strerror(-r)) : BN_EXIT_OK;
}

int bn_cmd_ct_list(struct bn_cli *c)
{
	_cleanup_(bn_maps_freep) struct bn_maps *maps = NULL;
	_cleanup_(freep) struct bn_ct_flow *flows = NULL;
	_cleanup_(json_decrefp) json_t *rows = json_array();
	const char *text = bn_cli_opt(c, "limit");
	long limit = -1;
	size_t n;

	if (text && bn_cli_number("--limit", text, 0, 1L << 31, &limit) < 0)
		return BN_EXIT_ERROR;
	if (select_flows(c, &maps, &flows, &n))
		return BN_EXIT_ERROR;
	if (limit >= 0 && (size_t)limit < n) {
		bn_cli_say("showing %ld of %zu", limit, n);
		n = limit;
	}
	for (size_t i = 0; i < n; i++)
		json_array_append_new(rows, flow_json(&flows[i]));
	if (bn_cli_opt(c, "sockets") && add_sockets(c, maps, rows))
		return BN_EXIT_ERROR;
	return bn_out(c, rows, cols, NULL);
}

int bn_cmd_ct_flush(struct bn_cli *c)
{
	_cleanup_(bn_maps_freep) struct bn_maps *maps = NULL;
	_cleanup_(freep) struct bn_ct_flow *flows = NULL;
	bool all = bn_cli_opt(c, "all"), some = bn_cli_opt(c, "pod") || bn_cli_opt(c, "addr") ||
						bn_cli_opt(c, "proto") || bn_cli_opt(c, "port");
	_cleanup_(json_decrefp) json_t *done = NULL;
	size_t n, gone;
	int r;

	if (all == some)
		return bn_cli_fail("ct flush wants --all, or what to forget: --pod, --addr, --proto, --port");
	if (select_flows(c, &maps, &flows, &n))
		return BN_EXIT_ERROR;
	r = bn_ct_flush(maps, flows, n, &gone);
	if (r < 0)
		return bn_cli_fail("ct flush: %s", strerror(-r));
	if (c->format == BN_JSON || c->format == BN_YAML) {
		done = json_pack("{sI}", "forgotten", (json_int_t)n);
		return bn_out_object(c, done, NULL);
	}
	printf("%zu flows forgotten\n", n);
	return BN_EXIT_OK;
}
