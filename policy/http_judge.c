// SPDX-License-Identifier: MIT
/* Compiled rules over bytes, by the parser that the kernel side uses too, and answers for people. */
#include <stdio.h>

#include "maps/util.h"
#include "policy/http_priv.h"

static inline uint32_t bn_http_cell(const struct bn_http_tab *t, uint32_t i)
{
	const struct bn_http_rules *r = bn_container(t, const struct bn_http_rules, tab);

	return i < r->cells.n ? r->cells.v[i] : 0;
}

static inline uint64_t bn_http_word(const struct bn_http_tab *t, uint32_t i)
{
	const struct bn_http_rules *r = bn_container(t, const struct bn_http_rules, tab);

	return i < r->words.n ? r->words.v[i] : 0;
}

typedef struct bn_http_tab bn_http_t;
#define BN_HTTP_FN BN_INLINE

#include "bpf/lib/http_parse.h"

int bn_http_feed(const struct bn_http_rules *r, struct bn_http_state *s, const void *bytes, size_t n,
		 size_t *used)
{
	const uint8_t *p = bytes;
	size_t i = 0;
	int verdict = 0;

	while (i < n && !verdict) {
		if (s->left && (s->at == BN_HTTP_AT_BODY || s->at == BN_HTTP_AT_CHUNK)) {
			size_t skip = s->left < n - i ? (size_t)s->left : n - i;

			bn_http_skip(s, skip);
			i += skip;
		} else {
			verdict = bn_http_byte(&r->tab, s, p[i++]);
			verdict = verdict == 3 ? 0 : verdict;
		}
	}
	*used = i;
	return verdict;
}

bool bn_http_feed_idle(const struct bn_http_state *s)
{
	return bn_http_idle(s);
}

int bn_http_feed_end(struct bn_http_state *s)
{
	return bn_http_end(s);
}

void bn_http_feed_answer(struct bn_http_state *s, bool switched)
{
	bn_http_answered(s, switched);
}

const char *bn_http_reason_name(enum bn_http_reason reason)
{
	static const char *const names[BN_HTTP__MAX] = {
		[BN_HTTP_OK] = "OK",
#define X(name, text) [BN_HTTP_##name] = #name,
		BN_HTTP_LIST(X)
#undef X
	};

	return (unsigned)reason < BN_HTTP__MAX ? names[reason] : "?";
}

const char *bn_http_reason_text(enum bn_http_reason reason)
{
	static const char *const texts[BN_HTTP__MAX] = {
		[BN_HTTP_OK] = "allowed",
#define X(name, text) [BN_HTTP_##name] = text,
		BN_HTTP_LIST(X)
#undef X
	};

	return (unsigned)reason < BN_HTTP__MAX ? texts[reason] : "?";
}

/* --- check --------------------------------------------------------------------------------------- */

static int check_rules(const char *dir, const struct bn_rule *rules, uint32_t n, uint64_t *left, struct bn_err *err)
{
	for (uint32_t k = 0; k < n; k++) {
		_cleanup_(bn_http_rules_freep) struct bn_http_rules *c = NULL;
		const struct bn_rule *one = &rules[k];
		struct bn_err e;
		size_t at;
		int r;

		if (!one->has_http)
			continue;
		r = bn_http_compile_with(&one, 1, left, &c, &e);
		if (r >= 0)
			continue;
		*err = e;
		at = strncmp(e.field, "rule 0: ", 8) ? 0 : 8;
		snprintf(err->field, sizeof(err->field), "spec.%s[%u].%.120s", dir, k, e.field + at);
		return r;
	}
	return 0;
}

int bn_http_check_some(const struct bn_netpol *np, uint64_t steps, struct bn_err *err)
{
	uint64_t left = steps;
	int r = check_rules("ingress", np->in, np->ningress, &left, err);

	r = r ?: check_rules("egress", np->out, np->negress, &left, err);
	return !left && steps < BN_HTTP_WORK_MAX ? -EAGAIN : r;
}

int bn_http_check(const struct bn_netpol *np, struct bn_err *err)
{
	return bn_http_check_some(np, BN_HTTP_WORK_MAX, err);
}

/* --- one request ---------------------------------------------------------------------------------- */

static int run(const struct bn_rule *const *rules, size_t n, const char *text, size_t len,
	       struct bn_http_verdict *ret)
{
	_cleanup_(bn_http_rules_freep) struct bn_http_rules *c = NULL;
	struct bn_http_state s = {};
	struct bn_err err;
	size_t used;
	int r;

	r = bn_http_compile(rules, n, &c, &err);
	if (r < 0)
		return r;
	r = bn_http_feed(c, &s, text, len, &used);
	*ret = (struct bn_http_verdict){ .allow = r == 1 && used == len };
	if (ret->allow)
		bn_http_rules_match(c, s.match, &ret->rule, &ret->match);
	else
		ret->reason = r < 0 ? (enum bn_http_reason)-r : BN_HTTP_METHOD;
	return 0;
}

/* The parts of a match, one at a time: the first that does not hold, and how many do not. */
static int failing(const struct bn_http_match *m, const char *text, size_t len, char *field, size_t flen)
{
	int count = 0;

	for (uint32_t k = 0; k < 3 + m->nheaders + m->nqueries; k++) {
		struct bn_http_match part = {};
		struct bn_rule rule = { .has_http = true, .nhttp = 1, .http = &part };
		const struct bn_rule *one = &rule;
		struct bn_http_verdict v;
		char name[64] = "";

		if (k == 0 && m->method) {
			part.method = m->method;
			snprintf(name, sizeof(name), "method");
		} else if (k == 1 && m->has_path) {
			part.has_path = true;
			part.path_type = m->path_type;
			part.path = m->path;
			snprintf(name, sizeof(name), "path");
		} else if (k == 2 && m->nhosts) {
			part.nhosts = m->nhosts;
			part.hosts = m->hosts;
			snprintf(name, sizeof(name), "hostnames");
		} else if (k >= 3 && k - 3 < m->nheaders) {
			part.nheaders = 1;
			part.headers = &m->headers[k - 3];
			snprintf(name, sizeof(name), "headers[%u]", k - 3);
		} else if (k >= 3) {
			part.nqueries = 1;
			part.queries = &m->queries[k - 3 - m->nheaders];
			snprintf(name, sizeof(name), "queryParams[%u]", k - 3 - m->nheaders);
		}
		if (!*name || run(&one, 1, text, len, &v) < 0 || v.allow || v.reason != BN_HTTP_NO_MATCH)
			continue;
		if (!count++)
			snprintf(field, flen, "%s", name);
	}
	return count;
}

static void nearest(const struct bn_rule *const *rules, size_t n, const char *text, size_t len,
		    struct bn_http_verdict *v)
{
	int best = 0;

	for (uint32_t k = 0; k < n; k++) {
		for (uint32_t i = 0; i < rules[k]->nhttp; i++) {
			char field[sizeof(v->field)] = "";
			int count = failing(&rules[k]->http[i], text, len, field, sizeof(field));

			if (!count || (v->nearest && count >= best))
				continue;
			best = count;
			v->nearest = true;
			v->rule = k;
			v->match = i;
			memcpy(v->field, field, sizeof(field));
		}
	}
}

int bn_http_request_text(const struct bn_http_request *q, char **ret, size_t *len)
{
	FILE *f = open_memstream(ret, len);
	bool named = false;

	if (!f)
		return -ENOMEM;
	fprintf(f, "%s %s HTTP/1.1\r\n", q->method, q->target);
	for (size_t k = 0; k < q->nheaders; k++)
		named |= !strncasecmp(q->headers[k], "Host:", 5);
	if (q->host || !named)
		fprintf(f, "Host: %s\r\n", q->host ?: "localhost");
	for (size_t k = 0; k < q->nheaders; k++)
		fprintf(f, "%s\r\n", q->headers[k]);
	fputs("\r\n", f);
	return fclose(f) ? -ENOMEM : 0;
}

int bn_http_judge(const struct bn_rule *const *rules, size_t n, const struct bn_http_request *q,
		  struct bn_http_verdict *ret)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	r = bn_http_request_text(q, &text, &len);
	r = r ?: run(rules, n, text, len, ret);
	if (!r && !ret->allow && ret->reason == BN_HTTP_NO_MATCH)
		nearest(rules, n, text, len, ret);
	return r;
}
