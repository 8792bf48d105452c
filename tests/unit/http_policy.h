/* SPDX-License-Identifier: MIT */
#ifndef BN_TESTS_HTTP_POLICY_H
#define BN_TESTS_HTTP_POLICY_H

/* Rules from the text of an `http:` list, through the object parser; and verdicts over bytes. */

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/http.h"

static inline int netpol_parse(const char *http, struct bn_obj **ret, struct bn_err *err)
{
	char *text = NULL;
	json_t *j;
	int r;

	assert_true(asprintf(&text,
			     "{\"apiVersion\":\"bpfnet.io/v1alpha1\",\"kind\":\"HTTPNetworkPolicy\","
			     "\"metadata\":{\"name\":\"p\",\"namespace\":\"n\"},\"spec\":{\"podSelector\":{},"
			     "\"policyTypes\":[\"Ingress\"],\"ingress\":[{\"ports\":[{\"port\":80}],\"http\":%s}]}}",
			     http) > 0);
	j = json_loads(text, 0, NULL);
	if (!j)
		fail_msg("not JSON: %s", text);
	r = bn_object_parse(j, ret, err);
	json_decref(j);
	free(text);
	return r;
}

static inline struct bn_netpol *netpol(const char *http)
{
	struct bn_obj *o = NULL;
	struct bn_err err = {};

	if (netpol_parse(http, &o, &err) < 0)
		fail_msg("%s: %s %s", http, err.field, err.msg);
	return (struct bn_netpol *)o;
}

static inline struct bn_http_rules *rules_of(const struct bn_netpol *np)
{
	const struct bn_rule *one = &np->in[0];
	struct bn_http_rules *c = NULL;
	struct bn_err err;

	if (bn_http_compile(&one, 1, &c, &err) < 0)
		fail_msg("%s: %s", err.field, err.msg);
	return c;
}

/* What comes of a stream: how many requests were allowed, and the reason if one was denied. */
struct outcome {
	uint32_t allowed;
	enum bn_http_reason reason;
	uint64_t left;
	uint8_t at;
	uint16_t match;
};

static inline void feed(const struct bn_http_rules *r, struct bn_http_state *s, const char *p, size_t n)
{
	uint8_t *exact = malloc(n ? n : 1); /* so that ASan sees one byte too many */
	size_t used, i = 0;

	assert_non_null(exact);
	memcpy(exact, p, n);
	while (i < n) {
		if (bn_http_feed(r, s, exact + i, n - i, &used) < 0)
			break;
		i += used;
	}
	free(exact);
}

static inline struct outcome outcome_of(const struct bn_http_state *s)
{
	return (struct outcome){ s->requests, s->reason, s->left, s->at, s->match };
}

static inline struct outcome outcome(const struct bn_http_rules *r, const char *p, size_t n)
{
	struct bn_http_state s = {};

	feed(r, &s, p, n);
	return outcome_of(&s);
}

static inline bool same_outcome(struct outcome a, struct outcome b)
{
	return a.allowed == b.allowed && a.reason == b.reason && a.left == b.left && a.at == b.at &&
	       a.match == b.match;
}

#endif
