/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/out.h"
#include "loader/model/verify.h"
#include "policy/manifest.h"
#include "policy/trace.h"

enum { LOAD_TRIES = 100, LOAD_WAIT_US = 300000 };

/* Who answers: the daemon, or a tracer of our own over manifests. */
struct answerer {
	struct bn_client *client;
	struct bn_store *store;
	struct bn_tracer *tracer;
	struct bn_verify *kernel; /* of manifests: programs loaded for the question alone */
	bool verify;
};

static void answerer_done(struct answerer *a)
{
	bn_client_freep(&a->client);
	bn_tracer_freep(&a->tracer);
	bn_verify_freep(&a->kernel);
	bn_store_freep(&a->store);
}

static void report(const char *where, const char *object, const struct bn_err *err, _unused_ void *data)
{
	bn_cli_say("%s: %s: %s%s%s", where, object, err->field, err->field[0] ? ": " : "", err->msg);
}

static int answerer_init(const struct bn_cli *c, struct answerer *a)
{
	const char *dir = bn_cli_opt(c, "manifests");
	char err[640] = "";
	int r;

	a->verify = bn_cli_opt(c, "verify");
	if (!dir) {
		r = bn_client_new(c->run_dir, &a->client, err, sizeof(err));
		if (r < 0)
			bn_cli_say("%s%s", err, bn_client_down(r) ? "; --manifests needs none" : "");
		return r;
	}
	r = bn_store_new(&a->store);
	if (r < 0)
		return r;
	r = bn_manifest_load_dir(dir, a->store, report, NULL);
	if (r < 0) {
		bn_cli_say("--manifests %s: %s", dir, strerror(-r));
		return r;
	}
	r = bn_tracer_new(a->store, &a->tracer);
	if (r < 0) {
		bn_cli_say("--manifests %s: cannot compile: %s", dir, strerror(-r));
		return r;
	}
	if (!a->verify)
		return 0;
	r = bn_verify_new(NULL, -1, -1, &a->kernel);
	if (r < 0)
		return r;
	bn_tracer_verify(a->tracer, bn_verify_ops(a->kernel));
	return 0;
}

static json_t *query_json(const struct bn_trace_query *q, bool verify)
{
	json_t *o = json_pack("{ss* ss* ss* si sb}", "from", q->from, "to", q->to, "proto",
			      bn_proto_name(q->proto), "port", q->port, "verify", verify);
	json_t *headers = json_array();

	if (!o) {
		json_decref(headers);
		return NULL;
	}
	if (q->http_method)
		json_object_set_new(o, "http",
				    json_sprintf("%s %s", q->http_method, q->http_target ?: "/"));
	if (q->http_host)
		json_object_set_new(o, "host", json_string(q->http_host));
	for (size_t i = 0; i < q->nheaders; i++)
		json_array_append_new(headers, json_string(q->headers[i]));
	json_object_set_new(o, "headers", headers);
	return o;
}

/* Does any part of the answer say "retry"? */
static bool to_retry(const json_t *o)
{
	const char *key;
	json_t *v;
	size_t i;

	if (json_is_true(json_object_get(o, "retry")))
		return true;
	json_object_foreach((json_t *)o, key, v)
		if (to_retry(v))
			return true;
	json_array_foreach(o, i, v)
		if (to_retry(v))
			return true;
	return false;
}

/* 0 allow, 1 deny, negative: then *ret is {"error": "..."}. */
static int answer(const struct answerer *a, const struct bn_trace_query *q, json_t **ret)
{
	_cleanup_(json_decrefp) json_t *args = NULL;
	char err[640] = "";
	const char *verdict;
	int r;

	if (a->tracer)
		return bn_tracer_run(a->tracer, q, ret);
	args = query_json(q, a->verify);
	if (!args) {
		*ret = json_pack("{ss}", "error", "the query is not valid UTF-8");
		return -EINVAL;
	}
	r = bn_client_call(a->client, "policy.trace", args, ret, err, sizeof(err));
	/* The daemon loads programs for --verify beside its work: seconds, once in its life. */
	for (unsigned k = 0; !r && a->verify && k < LOAD_TRIES && to_retry(*ret); k++) {
		json_decref(*ret);
		*ret = NULL;
		usleep(LOAD_WAIT_US);
		r = bn_client_call(a->client, "policy.trace", args, ret, err, sizeof(err));
	}
	if (r < 0) {
		*ret = json_pack("{ss}", "error", err);
		return r;
	}
	verdict = json_string_value(json_object_get(*ret, "verdict"));
	return verdict && !strcmp(verdict, "allow") ? 0 : verdict ? 1 : -EPROTO;
}

static int put_line(const json_t *o)
{
	if (!o || json_dumpf(o, stdout, JSON_COMPACT) < 0 || putchar('\n') == EOF ||
	    fflush(stdout)) /* who asks line by line waits for it */
		return -EIO;
	return 0;
}

/* Errors of a line are answers, too: the caller counts on a line for each query. */
static int batch_line(const struct answerer *a, char *line)
{
	_cleanup_(json_decrefp) json_t *o = NULL;
	struct bn_trace_query q = { 0 };
	char err[256] = "";
	int r;

	r = bn_trace_parse_line(line, &q, err, sizeof(err));
	if (r == 1)
		return 0;
	if (r < 0) {
		o = json_pack("{ss}", "error", err[0] ? err : strerror(-r));
		return put_line(o);
	}
	r = answer(a, &q, &o);
	bn_trace_query_done(&q);
	/* With the connection gone every further line would fail alike. */
	if (r == -EPIPE || r == -ETIMEDOUT || r == -ENOMEM)
		return bn_cli_fail("%s", json_string_value(json_object_get(o, "error")) ?:
						 strerror(-r)),
		       r;
	return put_line(o);
}

static int batch(const struct answerer *a, const char *path)
{
	_cleanup_(fclosep) FILE *file = NULL;
	_cleanup_(freep) char *line = NULL;
	size_t room = 0;
	ssize_t n;
	int r = 0;
	FILE *in = stdin;

	if (strcmp(path, "-")) {
		in = file = fopen(path, "re");
		if (!file)
			return bn_cli_fail("--batch %s: %s", path, strerror(errno));
	}
	while (!r && (n = getline(&line, &room, in)) >= 0) {
		if (n && line[n - 1] == '\n')
			line[--n] = '\0';
		if ((size_t)n != strlen(line)) {
			r = put_line(json_pack("{ss}", "error", "a NUL byte in the line"));
			continue;
		}
		r = batch_line(a, line);
	}
	if (ferror(in))
		return bn_cli_fail("--batch %s: %s", path, strerror(errno));
	return r ? BN_EXIT_ERROR : BN_EXIT_OK;
}

/* The options as a query; http_method points into http, which is cut. */
static int parse_query(const struct bn_cli *c, char *http, struct bn_trace_query *q)
{
	const char *proto = bn_cli_opt(c, "proto") ?: "tcp", *port = bn_cli_opt(c, "port"), *h;
	long n = 0;
	char *space;

	q->from = bn_cli_opt(c, "from");
	q->to = bn_cli_opt(c, "to");
	if (!q->from || !q->to) {
		bn_cli_say("policy trace wants --from and --to (or --batch)");
		return -EINVAL;
	}
	if (bn_proto_parse(proto, &q->proto) < 0) {
		bn_cli_say("--proto: '%s' is not tcp, udp, sctp or icmp", proto);
		return -EINVAL;
	}
	if (!port && bn_proto_index(q->proto)) {
		bn_cli_say("policy trace wants --port");
		return -EINVAL;
	}
	if (port && bn_cli_number("--port", port, 0, 65535, &n) < 0)
		return -EINVAL;
	q->port = n;
	q->http_host = bn_cli_opt(c, "host");
	for (size_t i = 0; (h = bn_cli_opt_at(c, "header", i)); i++)
		q->headers[q->nheaders++] = h;
	if (!http) {
		if (q->http_host || q->nheaders) {
			bn_cli_say("--host and --header belong to --http");
			return -EINVAL;
		}
		return 0;
	}
	space = strchr(http, ' ');
	if (!space || space == http || !space[1]) {
		bn_cli_say("--http wants 'METHOD TARGET', as 'GET /path'");
		return -EINVAL;
	}
	*space = '\0';
	q->http_method = http;
	q->http_target = space + 1;
	return 0;
}

static int show(const struct bn_cli *c, const json_t *o, int verdict)
{
	if (verdict < 0 && c->format != BN_JSON && c->format != BN_YAML)
		return bn_cli_fail("%s", json_string_value(json_object_get(o, "error")) ?:
						 strerror(-verdict));
	if (c->format == BN_JSON || c->format == BN_YAML) {
		if (bn_out_object(c, o, NULL) != BN_EXIT_OK)
			return BN_EXIT_ERROR;
	} else {
		bn_trace_print(stdout, o);
	}
	return verdict < 0 ? BN_EXIT_ERROR : verdict ? BN_EXIT_NO : BN_EXIT_OK;
}

int bn_cmd_policy_trace(struct bn_cli *c)
{
	_cleanup_(answerer_done) struct answerer a = { 0 };
	_cleanup_(freep) const char **headers = calloc(c->nvals + 1, sizeof(*headers));
	_cleanup_(json_decrefp) json_t *o = NULL;
	_cleanup_(freep) char *http = NULL;
	struct bn_trace_query q = { .headers = headers };
	int r;

	if (bn_cli_opt(c, "http"))
		http = strdup(bn_cli_opt(c, "http"));
	if (!headers || (bn_cli_opt(c, "http") && !http))
		return bn_cli_fail("out of memory");
	if (!bn_cli_opt(c, "batch") && parse_query(c, http, &q) < 0)
		return BN_EXIT_ERROR;
	if (answerer_init(c, &a) < 0)
		return BN_EXIT_ERROR;
	if (bn_cli_opt(c, "batch"))
		return batch(&a, bn_cli_opt(c, "batch"));
	r = answer(&a, &q, &o);
	if (!o)
		return bn_cli_fail("out of memory");
	return show(c, o, r);
}
