/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/out.h"
#include "cli/pinned.h"
#include "cli/svc_pinned.h"
#include "loader/model/services.h"

static const struct bn_col list_cols[] = {
	{ "NAMESPACE", "namespace", 0 },
	{ "NAME", "name", 0 },
	{ "TYPE", "type", BN_COL_WIDE },
	{ "KIND", "kind", 0 },
	{ "ADDRESS", "address", 0 },
	{ "PORT", "port", BN_COL_RIGHT },
	{ "PROTOCOL", "protocol", 0 },
	{ "ACTIVE", "active", BN_COL_RIGHT },
	{ "BACKENDS", "backends", 0 },
	{ 0 },
};

#define SHOWN_BACKENDS 4

/* "10.0.0.1:80", "[2001:db8::1]:80"; a mark for those that are going. */
static json_t *backend_text(const json_t *b)
{
	const char *addr = json_string_value(json_object_get(b, "address")) ?: "?";
	const char *state = json_string_value(json_object_get(b, "state")) ?: "active";

	return json_sprintf(strchr(addr, ':') ? "[%s]:%lld%s" : "%s:%lld%s", addr,
			    (long long)json_integer_value(json_object_get(b, "port")),
			    strcmp(state, "active") ? " (terminating)" : "");
}

static json_t *front_row(const json_t *svc, const json_t *front, bool all)
{
	const json_t *backends = json_object_get(front, "backends");
	size_t n = json_array_size(backends), shown = all ? n : SHOWN_BACKENDS, i, active = 0;
	json_t *row = json_object(), *list = json_array(), *b;

	json_object_update(row, (json_t *)front);
	json_object_set(row, "namespace", json_object_get(svc, "namespace"));
	json_object_set(row, "name", json_object_get(svc, "name"));
	json_object_set(row, "type", json_object_get(svc, "type"));
	json_array_foreach(backends, i, b) {
		const char *state = json_string_value(json_object_get(b, "state"));

		active += !state || !strcmp(state, "active");
		if (i < shown)
			json_array_append_new(list, backend_text(b));
	}
	if (n > shown)
		json_array_append_new(list, json_sprintf("+%zu", n - shown));
	json_object_set_new(row, "backends", list);
	json_object_set_new(row, "active", json_integer(active));
	return row;
}

static json_t *front_rows(const json_t *svcs, bool all)
{
	json_t *rows = json_array();
	const json_t *svc, *front;
	size_t i, j;

	json_array_foreach(svcs, i, svc)
		json_array_foreach(json_object_get(svc, "frontends"), j, front)
			json_array_append_new(rows, front_row(svc, front, all));
	return rows;
}

static json_t *short_rows(const json_t *svcs)
{
	return front_rows(svcs, false);
}

static json_t *wide_rows(const json_t *svcs)
{
	return front_rows(svcs, true);
}

/* One that hangs can be asked as little as one that is not there. */
bool bn_svc_without_daemon(int r)
{
	return bn_client_down(r) || r == -ETIMEDOUT;
}

int bn_svc_pinned(const struct bn_cli *c, const char *why, json_t **ret)
{
	_cleanup_(bn_maps_freep) struct bn_maps *maps = NULL;
	int r;

	bn_cli_say("%s; reading the pinned maps", why);
	if (bn_pinned_open(c, &maps) != BN_EXIT_OK)
		return BN_EXIT_ERROR;
	r = bn_svc_list_pinned(maps, ret);
	if (r < 0)
		return bn_cli_fail("the pinned maps cannot be shown in full: %s", strerror(-r));
	return BN_EXIT_OK;
}

int bn_cmd_svc_list(struct bn_cli *c)
{
	_cleanup_(json_decrefp) json_t *svcs = NULL;
	char err[640] = "";
	int r = bn_client_ask(c->run_dir, "svc.list", NULL, &svcs, err, sizeof(err));

	if (bn_svc_without_daemon(r))
		r = bn_svc_pinned(c, err, &svcs);
	else if (r < 0)
		r = bn_cli_fail("%s", err);
	if (r)
		return BN_EXIT_ERROR;
	bn_only_namespace(c, svcs);
	return bn_out(c, svcs, list_cols, c->format == BN_WIDE ? wide_rows : short_rows);
}
