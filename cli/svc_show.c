/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/pinned.h"
#include "maps/ct_access.h"
#include "policy/object.h"

static const struct bn_col backend_cols[] = {
	{ "BACKEND", "address", 0 },
	{ "PORT", "port", BN_COL_RIGHT },
	{ "STATE", "state", 0 },
	{ "LOCAL", "local", 0 },
	{ "CONNECTIONS", "connections", BN_COL_RIGHT },
	{ 0 },
};

static const struct bn_col endpoint_cols[] = {
	{ "ENDPOINT", "address", 0 },
	{ "PORT", "port", BN_COL_RIGHT },
	{ "READY", "ready", 0 },
	{ "SERVING", "serving", 0 },
	{ "TERMINATING", "terminating", 0 },
	{ "LOCAL", "local", 0 },
	{ "CHOSEN", "chosen", 0 },
	{ "NODE", "node", 0 },
	{ "ZONE", "zone", 0 },
	{ "POD", "pod", 0 },
	{ 0 },
};

/* --- live connections --------------------------------------------------------------------------- */

struct end {
	struct bn_addr addr;
	__be16 port;
};

static bool read_end(const json_t *o, struct end *e)
{
	const char *addr = json_string_value(json_object_get(o, "address"));

	e->port = htons(json_integer_value(json_object_get(o, "port")));
	return addr && !bn_addr_parse(addr, &e->addr);
}

static bool to_front(const struct bn_ct_flow *f, const struct end *front, bool node_port, uint8_t proto)
{
	return f->translated && f->proto == proto && f->dport == front->port &&
	       (node_port || bn_addr_eq(&f->dst, &front->addr));
}

static void count_front(json_t *front, const struct bn_ct_flow *flows, size_t n)
{
	const char *kind = json_string_value(json_object_get(front, "kind")) ?: "";
	const char *text = json_string_value(json_object_get(front, "protocol")) ?: "";
	json_t *backends = json_object_get(front, "backends"), *b;
	size_t nb = json_array_size(backends), i;
	_cleanup_(freep) struct end *ends = calloc(nb + 1, sizeof(*ends));
	_cleanup_(freep) size_t *counts = calloc(nb + 1, sizeof(*counts));
	struct end self;
	uint8_t proto;

	if (!ends || !counts || !read_end(front, &self) || bn_proto_parse(text, &proto) < 0)
		return;
	json_array_foreach(backends, i, b)
		if (!read_end(b, &ends[i]))
			return;
	for (size_t k = 0; k < n; k++) {
		if (!to_front(&flows[k], &self, !strcmp(kind, "NodePort"), proto))
			continue;
		for (i = 0; i < nb; i++)
			if (ends[i].port == flows[k].backend_port &&
			    bn_addr_eq(&ends[i].addr, &flows[k].backend))
				counts[i]++;
	}
	json_array_foreach(backends, i, b)
		json_object_set_new(b, "connections", json_integer(counts[i]));
}

/* Connections of packets; those that a socket hook translated are not in the table. Without the right
 * to read the maps there are no counts, and that is no error.
 */
static void count_connections(const struct bn_cli *c, json_t *svc)
{
	_cleanup_(bn_maps_freep) struct bn_maps *maps = NULL;
	_cleanup_(freep) struct bn_ct_flow *flows = NULL;
	char dir[4096];
	json_t *front;
	size_t n, i;

	bn_pinned_dir(c, dir, sizeof(dir));
	if (bn_maps_open(dir, false, &maps) < 0 || bn_ct_flows(maps, &flows, &n) < 0)
		return;
	json_array_foreach(json_object_get(svc, "frontends"), i, front)
		count_front(front, flows, n);
}

/* --- text ---------------------------------------------------------------------------------------- */

static bool is_list(const json_t *v)
{
	return json_is_array(v) && json_is_object(json_array_get(v, 0));
}

/* The scalars of an object, one a line; lists of objects have tables of their own. */
static void print_scalars(const json_t *o)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)o, key, v) {
		_cleanup_(freep) char *text = NULL;

		if (is_list(v) || json_is_object(v) || (json_is_array(v) && !json_array_size(v)))
			continue;
		text = bn_out_cell(o, key);
		printf("%-26s %s\n", key, text ?: "?");
	}
}

/* Leaves out the columns of which no row says anything. */
static int print_table(const json_t *list, const struct bn_col *all)
{
	struct bn_col cols[16];
	const json_t *row;
	size_t n = 0, i;

	for (const struct bn_col *k = all; k->title && n < ARRAY_SIZE(cols) - 1; k++) {
		bool have = false;

		json_array_foreach(list, i, row)
			have = have || json_object_get(row, k->key);
		if (have)
			cols[n++] = *k;
	}
	cols[n] = (struct bn_col){ 0 };
	return n ? bn_out_table(stdout, list, cols, true) : 0;
}

static int print_blocks(const json_t *list, const char *rows, const struct bn_col *cols)
{
	const json_t *o;
	size_t i;
	int r = 0;

	json_array_foreach(list, i, o) {
		putchar('\n');
		print_scalars(o);
		r = r ?: print_table(json_object_get(o, rows), cols);
	}
	return r;
}

int bn_cmd_svc_show(struct bn_cli *c)
{
	_cleanup_(json_decrefp) json_t *svc = NULL;
	_cleanup_(freep) char *ns = NULL;
	const char *name;
	int r;

	if (bn_cli_split_name(c->args[0], &ns, &name) < 0)
		return BN_EXIT_ERROR;
	r = bn_ask(c, "svc.show", json_pack("{ss ss}", "namespace", ns, "name", name), &svc);
	if (r)
		return r;
	count_connections(c, svc);
	if (c->format == BN_JSON || c->format == BN_YAML)
		return bn_out_object(c, svc, NULL);
	print_scalars(svc);
	r = print_blocks(json_object_get(svc, "frontends"), "backends", backend_cols);
	r = r ?: print_blocks(json_object_get(svc, "ports"), "endpoints", endpoint_cols);
	return r < 0 ? bn_cli_fail("cannot write the output: %s", strerror(-r)) : BN_EXIT_OK;
}
