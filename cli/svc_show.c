/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/out.h"
#include "cli/pinned.h"
#include "cli/svc_pinned.h"
#include "maps/aff_access.h"
#include "maps/ct_access.h"
#include "maps/sk_list.h"
#include "policy/object.h"

static const struct bn_col backend_cols[] = {
	{ "BACKEND", "address", 0 },
	{ "PORT", "port", BN_COL_RIGHT },
	{ "STATE", "state", 0 },
	{ "LOCAL", "local", 0 },
	{ "CONNECTIONS", "connections", BN_COL_RIGHT },
	{ "SOCKETS", "sockets", BN_COL_RIGHT },
	{ "MASQUERADED", "masqueraded", BN_COL_RIGHT },
	{ 0 },
};

static const struct bn_col affinity_cols[] = {
	{ "CLIENT", "client", 0 },
	{ "BACKEND", "backend", 0 },
	{ "PORT", "port", BN_COL_RIGHT },
	{ "IDLE", "idleSeconds", BN_COL_RIGHT },
	{ "EXPIRES", "expiresSeconds", BN_COL_RIGHT },
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

/* Of one backend of one frontend. */
struct count {
	struct end end;
	size_t connections, sockets, masqueraded;
};

struct front {
	struct end self;
	bool node_port;
	uint8_t proto;
	struct count *v;
	size_t n;
	json_t *json; /* borrowed */
};

struct show {
	struct front *fronts;
	size_t n;
	json_t *affinity; /* borrowed */
	uint32_t *ids;	  /* service ports with affinity, and for how long it lasts */
	uint32_t *lasts;
	size_t nids;
};

static void show_done(struct show *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->fronts[i].v);
	free(w->fronts);
	free(w->ids);
	free(w->lasts);
}

static bool read_end(const json_t *o, struct end *e)
{
	const char *addr = json_string_value(json_object_get(o, "address"));

	e->port = htons(json_integer_value(json_object_get(o, "port")));
	return addr && !bn_addr_parse(addr, &e->addr);
}

static bool read_front(json_t *front, struct front *f)
{
	const char *kind = json_string_value(json_object_get(front, "kind")) ?: "";
	const char *text = json_string_value(json_object_get(front, "protocol")) ?: "";
	json_t *backends = json_object_get(front, "backends"), *b;
	size_t i;

	f->json = front;
	f->node_port = !strcmp(kind, "NodePort");
	f->n = json_array_size(backends);
	f->v = calloc(f->n + 1, sizeof(*f->v));
	if (!f->v || !read_end(front, &f->self) || bn_proto_parse(text, &f->proto) < 0)
		return false;
	json_array_foreach(backends, i, b)
		if (!read_end(b, &f->v[i].end))
			return false;
	return true;
}

static void count(struct show *w, uint8_t proto, const struct end *to, const struct end *backend,
		  const struct count *by)
{
	for (size_t i = 0; i < w->n; i++) {
		struct front *f = &w->fronts[i];

		if (f->proto != proto || f->self.port != to->port ||
		    !(f->node_port ? bn_addr_is_v4(&f->self.addr) == bn_addr_is_v4(&to->addr)
				   : bn_addr_eq(&f->self.addr, &to->addr)))
			continue;
		for (size_t k = 0; k < f->n; k++)
			if (f->v[k].end.port == backend->port &&
			    bn_addr_eq(&f->v[k].end.addr, &backend->addr)) {
				f->v[k].connections += by->connections;
				f->v[k].sockets += by->sockets;
				f->v[k].masqueraded += by->masqueraded;
			}
	}
}

static void count_flows(struct show *w, const struct bn_maps *maps)
{
	_cleanup_(freep) struct bn_ct_flow *v = NULL;
	size_t n;

	if (bn_ct_flows(maps, &v, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (v[i].translated && !(v[i].flags & BN_CT_F_CLOSED))
			count(w, v[i].proto, &(struct end){ v[i].dst, v[i].dport },
			      &(struct end){ v[i].backend, v[i].backend_port },
			      &(struct count){ .connections = 1, .masqueraded = v[i].snat });
}

static int count_socket(const struct bn_sk_rec *r, void *data)
{
	const struct bn_sk_peer *p = bn_sk_connected_by(r);

	if (p)
		count(data, r->proto, &(struct end){ p->front, p->front_port },
		      &(struct end){ p->back, p->back_port },
		      &(struct count){ .connections = 1, .sockets = 1 });
	return 0;
}

static void write_counts(const struct show *w)
{
	for (size_t i = 0; i < w->n; i++) {
		json_t *backends = json_object_get(w->fronts[i].json, "backends"), *b;
		size_t k;

		json_array_foreach(backends, k, b) {
			const struct count *c = &w->fronts[i].v[k];

			json_object_set_new(b, "connections", json_integer(c->connections));
			json_object_set_new(b, "sockets", json_integer(c->sockets));
			json_object_set_new(b, "masqueraded", json_integer(c->masqueraded));
		}
	}
}

/* --- affinity ------------------------------------------------------------------------------------ */

static bool id_known(const struct show *w, uint32_t id, uint32_t *lasts)
{
	for (size_t i = 0; i < w->nids; i++)
		if (w->ids[i] == id) {
			*lasts = w->lasts[i];
			return true;
		}
	return false;
}

static void find_ids(struct show *w, const struct bn_maps *maps)
{
	w->ids = calloc(w->n + 1, sizeof(*w->ids));
	w->lasts = calloc(w->n + 1, sizeof(*w->lasts));
	for (size_t i = 0; w->ids && w->lasts && i < w->n; i++) {
		const struct front *f = &w->fronts[i];
		struct bn_front_key key = {
			.addr = f->self.addr,
			.port = f->self.port,
			.proto = f->proto,
			.scope = f->node_port ? BN_SCOPE_NODEPORT : BN_SCOPE_EXACT,
		};
		uint32_t id, lasts, had;

		if (bn_aff_of(maps, &key, &id, &lasts) < 0 || !lasts || id_known(w, id, &had))
			continue;
		w->ids[w->nids] = id;
		w->lasts[w->nids++] = lasts;
	}
}

static int add_affinity(const struct bn_aff_entry *e, void *data)
{
	char client[BN_ADDR_STRLEN + 24], backend[BN_ADDR_STRLEN];
	const struct show *w = data;
	uint32_t lasts;

	if (!id_known(w, e->svc_id, &lasts) || e->idle_s >= lasts)
		return 0;
	if (bn_addr_is_zero(&e->client))
		snprintf(client, sizeof(client), "namespace %u", e->netns);
	else
		bn_addr_format(&e->client, client);
	json_array_append_new(w->affinity,
			      json_pack("{ss ss si si si}", "client", client, "backend",
					bn_addr_format(&e->backend, backend), "port", ntohs(e->port),
					"idleSeconds", (int)e->idle_s, "expiresSeconds",
					(int)(lasts - e->idle_s)));
	return 0;
}

/* Adds to the service what the maps know. Without the right to read them there is nothing to add, and
 * that is no error; nor is a kernel that lets no program list sockets.
 */
static void add_live(const struct bn_cli *c, json_t *svc)
{
	_cleanup_(bn_maps_freep) struct bn_maps *maps = NULL;
	_cleanup_(bn_sk_list_freep) struct bn_sk_list *socks = NULL;
	_cleanup_(show_done) struct show w = { 0 };
	json_t *fronts = json_object_get(svc, "frontends"), *front;
	char dir[4096];
	size_t i;

	bn_pinned_dir(c, dir, sizeof(dir));
	if (bn_maps_open(dir, false, &maps) < 0)
		return;
	w.fronts = calloc(json_array_size(fronts) + 1, sizeof(*w.fronts));
	if (!w.fronts)
		return;
	json_array_foreach(fronts, i, front)
		if (!read_front(front, &w.fronts[w.n++]))
			return;
	count_flows(&w, maps);
	if (!bn_sk_list_new(maps, true, &socks))
		bn_sk_each(socks, count_socket, &w);
	write_counts(&w);
	find_ids(&w, maps);
	if (!w.nids)
		return;
	w.affinity = json_array();
	json_object_set_new(svc, "affinityEntries", w.affinity);
	bn_aff_each(maps, add_affinity, &w);
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

		if (is_list(v) || json_is_object(v) || !strcmp(key, "problems") || (json_is_array(v) && !json_array_size(v)))
			continue;
		text = bn_out_cell(o, key);
		printf("%-26s %s\n", key, text ?: "?");
	}
}

/* Why it does not answer: first of all. */
static void print_problems(const json_t *svc)
{
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(svc, "problems"), i, v)
		printf("%-26s %s\n", "PROBLEM", json_string_value(v) ?: "?");
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

/* The daemon knows more (endpoints, policies, problems); without it there is what the kernel does. */
static int ask(const struct bn_cli *c, const char *ns, const char *name, json_t **ret)
{
	_cleanup_(json_decrefp) json_t *args = json_pack("{ss ss}", "namespace", ns, "name", name), *all = NULL;
	char err[640] = "";
	int r = bn_client_ask(c->run_dir, "svc.show", args, ret, err, sizeof(err));
	json_t *svc;
	size_t i;

	if (r < 0 && !bn_svc_without_daemon(r)) {
		bn_cli_say("%s", err);
		return r == -ESRCH ? BN_EXIT_NO : BN_EXIT_ERROR;
	}
	if (r < 0 && bn_svc_pinned(c, err, &all))
		return BN_EXIT_ERROR;
	json_array_foreach(all, i, svc)
		if (!strcmp(json_string_value(json_object_get(svc, "namespace")), ns) &&
		    !strcmp(json_string_value(json_object_get(svc, "name")), name))
			*ret = json_incref(svc);
	if (*ret)
		return BN_EXIT_OK;
	bn_cli_say("no service %s/%s in force", ns, name);
	return BN_EXIT_NO;
}

int bn_cmd_svc_show(struct bn_cli *c)
{
	_cleanup_(json_decrefp) json_t *svc = NULL;
	_cleanup_(freep) char *ns = NULL;
	const char *name;
	int r;

	if (bn_cli_split_name(c->args[0], &ns, &name) < 0)
		return BN_EXIT_ERROR;
	r = ask(c, ns, name, &svc);
	if (r)
		return r;
	add_live(c, svc);
	if (c->format == BN_JSON || c->format == BN_YAML)
		return bn_out_object(c, svc, NULL);
	print_problems(svc);
	print_scalars(svc);
	r = print_blocks(json_object_get(svc, "frontends"), "backends", backend_cols);
	r = r ?: print_blocks(json_object_get(svc, "ports"), "endpoints", endpoint_cols);
	if (json_array_size(json_object_get(svc, "affinityEntries"))) {
		putchar('\n');
		r = r ?: print_table(json_object_get(svc, "affinityEntries"), affinity_cols);
	}
	return r < 0 ? bn_cli_fail("cannot write the output: %s", strerror(-r)) : BN_EXIT_OK;
}
