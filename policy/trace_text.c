// SPDX-License-Identifier: MIT
/* Batches, and answers for people. */
#include <stdarg.h>
#include <stdio.h>

#include "maps/util.h"
#include "policy/trace_priv.h"

int bn_trace_fail(json_t **ret, int err, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_decref(*ret);
	*ret = json_pack("{s:s+}", "error", text, "");
	if (!*ret) /* bytes that are not UTF-8 */
		*ret = json_pack("{s:s}", "error", "query is not valid UTF-8");
	return err;
}

/* The next word; quotes keep blanks together as in a shell: within double ones a backslash takes the
 * next byte as it is.
 */
static char *word(char **at)
{
	char *in = *at, *out, *start, quote = 0;

	while (*in == ' ' || *in == '\t')
		in++;
	if (!*in)
		return NULL;
	start = out = in;
	for (; *in && (quote || (*in != ' ' && *in != '\t')); in++) {
		if (quote ? *in == quote : *in == '"' || *in == '\'') {
			quote = quote ? 0 : *in;
			continue;
		}
		if (quote == '"' && *in == '\\' && in[1])
			in++;
		*out++ = *in;
	}
	*at = *in ? in + 1 : in;
	*out = 0;
	return start;
}

/* METHOD TARGET as two words, or as one that was quoted. */
static int request_line(char *w, char **at, struct bn_trace_query *q)
{
	char *blank = strchr(w, ' ');

	q->http_method = w;
	if (blank)
		*blank++ = 0;
	q->http_target = blank ?: word(at);
	return q->http_target && *q->http_target ? 0 : -EINVAL;
}

/* The value of name=... or of --name ...; NULL: w is neither. */
static char *value_of(const char *name, char *w, char **at)
{
	size_t n = strlen(name);
	bool dashes = !strncmp(w, "--", 2);

	if (dashes)
		w += 2;
	if (strncmp(w, name, n))
		return NULL;
	if (w[n] == '=')
		return w + n + 1;
	return dashes && !w[n] ? word(at) : NULL;
}

/* METHOD TARGET host=H header="K: V", or what the command line takes: --http 'METHOD TARGET' ... */
static int http_words(char **at, struct bn_trace_query *q, char *err, size_t len)
{
	BN_VEC(const char *) headers = {};
	const char *host;
	char *w, *v;
	int r = 0;

	while (!r && (w = word(at))) {
		v = value_of("http", w, at);
		if (!q->http_method && (v || *w != '-')) {
			r = request_line(v ?: w, at, q);
			if (r < 0)
				snprintf(err, len, "METHOD is not followed by a target");
		} else if ((host = value_of("host", w, at))) {
			q->http_host = host;
		} else if ((v = value_of("header", w, at)) && strchr(v, ':')) {
			r = bn_vec_push(&headers, v);
		} else {
			snprintf(err, len, "'%s' is neither host=... nor header=\"Name: value\"",
				 w);
			r = -EINVAL;
		}
	}
	if (!r && !q->http_method && (q->http_host || headers.n)) {
		snprintf(err, len, "METHOD TARGET is missing");
		r = -EINVAL;
	}
	q->headers = headers.v;
	q->nheaders = headers.n;
	return r;
}

int bn_trace_parse_line(char *line, struct bn_trace_query *q, char *err, size_t errlen)
{
	char *proto, *port, *end;
	unsigned long n;

	*q = (struct bn_trace_query){};
	line[strcspn(line, "\r\n")] = 0;
	q->from = word(&line);
	if (!q->from || *q->from == '#')
		return 1;
	q->to = word(&line);
	proto = word(&line);
	port = word(&line);
	if (!q->to || !proto || !port) {
		snprintf(err, errlen,
			 "a query is: from to proto port [METHOD TARGET [host=H] [header=...]]");
		return -EINVAL;
	}
	if (bn_proto_parse(proto, &q->proto) < 0) {
		snprintf(err, errlen, "'%s' is no protocol: tcp, udp or sctp", proto);
		return -EINVAL;
	}
	n = strtoul(port, &end, 10);
	if (*end || end == port || *port == '-' || *port == '+' || n > 65535) {
		snprintf(err, errlen, "'%s' is no port", port);
		return -EINVAL;
	}
	q->port = (uint16_t)n;
	return http_words(&line, q, err, errlen);
}

void bn_trace_query_done(struct bn_trace_query *q)
{
	free(q->headers);
	q->headers = NULL;
	q->nheaders = 0;
}

int bn_tracer_batch(struct bn_tracer *t, FILE *in, FILE *out)
{
	_cleanup_(freep) char *line = NULL;
	size_t cap = 0;
	int r = 0;

	while (r >= 0 && getline(&line, &cap, in) >= 0) {
		struct bn_trace_query q;
		json_t *answer = NULL;
		char err[256] = "";

		r = bn_trace_parse_line(line, &q, err, sizeof(err));
		if (r < 0)
			bn_trace_fail(&answer, r, "%s", err);
		else if (!r)
			bn_tracer_run(t, &q, &answer);
		bn_trace_query_done(&q);
		r = 0;
		if (!answer)
			continue;
		r = json_dumpf(answer, out, JSON_COMPACT) < 0 || fputc('\n', out) == EOF ? -EIO : 0;
		json_decref(answer);
	}
	return r < 0 ? r : ferror(in) || fflush(out) ? -EIO : 0;
}

/* --- text ------------------------------------------------------------------------------------- */

static const char *str(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key)) ?: "";
}

static void print_side(FILE *out, const char *label, const json_t *j)
{
	if (!json_is_object(j))
		return;
	fprintf(out, "%-9s", label);
	if (*str(j, "name"))
		fprintf(out, "%s/%s ", str(j, "namespace"), str(j, "name"));
	if (*str(j, "query"))
		fprintf(out, "%s ", str(j, "query"));
	if (*str(j, "address"))
		fprintf(out, "%s ", str(j, "address"));
	fprintf(out, "(%s%s%s)\n", str(j, "kind"), *str(j, "node") ? " on " : "", str(j, "node"));
}

static void print_rule(FILE *out, const char *what, const json_t *j)
{
	fprintf(out, "         %s %s %s/%s %s[%d]", what, str(j, "kind"), str(j, "namespace"),
		str(j, "name"), str(j, "direction"),
		(int)json_integer_value(json_object_get(j, "index")));
	if (*str(j, "reason"))
		fprintf(out, ": %s", str(j, "reason"));
	fputc('\n', out);
}

static void print_direction(FILE *out, const char *label, const json_t *j)
{
	const json_t *list = json_object_get(j, "policies"), *p, *k = json_object_get(j, "kernel");
	size_t i;

	if (!json_is_object(j))
		return;
	fprintf(out, "%-9s%s", label, str(j, "verdict"));
	if (*str(j, "reason"))
		fprintf(out, ": %s", str(j, "reason"));
	fputc('\n', out);
	if (json_array_size(list)) {
		fputs("         isolated by", out);
		json_array_foreach (list, i, p)
			fprintf(out, "%s %s/%s%s", i ? "," : "", str(p, "namespace"), str(p, "name"),
				json_is_true(json_object_get(p, "refused")) ? " (refused: it allows nothing; see bpfnet status)" : "");
		fputc('\n', out);
	}
	if (json_is_object(json_object_get(j, "rule")))
		print_rule(out, "decided by", json_object_get(j, "rule"));
	if (json_is_object(json_object_get(j, "nearest")))
		print_rule(out, "nearest:", json_object_get(j, "nearest"));
	if (json_is_true(json_object_get(j, "audit")))
		fputs("         audit mode: recorded and let through\n", out);
	if (json_is_object(k))
		fprintf(out, "         kernel says %s%s%s%s\n", str(k, "verdict"), *str(k, "reason") ? " " : "", str(k, "reason"),
			json_is_false(json_object_get(k, "agrees")) ? " (DISAGREES)" : "");
}

#define ALIKE 4

static bool same_judgement(const json_t *a, const json_t *b)
{
	return json_equal(json_object_get(a, "egress"), json_object_get(b, "egress")) &&
	       json_equal(json_object_get(a, "ingress"), json_object_get(b, "ingress"));
}

static void print_more(FILE *out, size_t *n)
{
	if (*n)
		fprintf(out, "  and %zu more like the last one\n", *n);
	*n = 0;
}

static void print_service(FILE *out, const json_t *svc)
{
	const json_t *list = json_object_get(svc, "backends"), *b;
	size_t i, more = 0;

	fprintf(out, "service  %s/%s %s %s port %d: %s\n", str(svc, "namespace"), str(svc, "name"),
		str(svc, "kind"), str(svc, "address"),
		(int)json_integer_value(json_object_get(svc, "port")), str(svc, "reason"));
	if (*str(svc, "note"))
		fprintf(out, "         %s\n", str(svc, "note"));
	json_array_foreach (list, i, b) {
		const json_t *same = i ? json_array_get(list, i - 1) : NULL;

		/* Of a hundred backends that are judged alike one is enough. */
		if (i >= ALIKE && same_judgement(b, same)) {
			more++;
			continue;
		}
		print_more(out, &more);
		fprintf(out, "  backend %s port %d%s%s: %s\n", str(b, "address"),
			(int)json_integer_value(json_object_get(b, "port")), *str(b, "pod") ? " " : "",
			str(b, "pod"), str(b, "verdict"));
		print_direction(out, " egress", json_object_get(b, "egress"));
		print_direction(out, " ingress", json_object_get(b, "ingress"));
	}
	print_more(out, &more);
}

void bn_trace_print(FILE *out, const json_t *answer)
{
	const json_t *svc = json_object_get(answer, "service");
	const json_t *other = json_object_get(answer, "otherFamily");

	if (json_object_get(answer, "error")) {
		fprintf(out, "error: %s\n", str(answer, "error"));
		return;
	}
	fprintf(out, "%s %s", str(answer, "verdict"), str(answer, "protocol"));
	if (json_integer_value(json_object_get(answer, "port")))
		fprintf(out, " port %d", (int)json_integer_value(json_object_get(answer, "port")));
	fprintf(out, ": %s\n", str(answer, "reason"));
	print_side(out, "from", json_object_get(answer, "from"));
	print_side(out, "to", json_object_get(answer, "to"));
	if (json_is_object(svc)) {
		print_service(out, svc);
		return;
	}
	print_direction(out, "egress", json_object_get(answer, "egress"));
	print_direction(out, "ingress", json_object_get(answer, "ingress"));
	if (!other || !strcmp(str(other, "verdict"), str(answer, "verdict")))
		return;
	fprintf(out, "but by the other family: %s: %s\n", str(other, "verdict"), str(other, "reason"));
	print_side(out, "from", json_object_get(other, "from"));
	print_side(out, "to", json_object_get(other, "to"));
	print_direction(out, "egress", json_object_get(other, "egress"));
	print_direction(out, "ingress", json_object_get(other, "ingress"));
}
