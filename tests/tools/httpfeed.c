// SPDX-License-Identifier: MIT
/* What the parser makes of byte streams, for tests that ask a real server about the same bytes.
 *
 * httpfeed RULES: RULES is the JSON of an `http:` list. Standard input: a stream after the other, each as four
 * bytes of length (big endian) and the bytes. Standard output, a line a stream: JSON with "reason" (OK: none
 * denied), "at" (bytes that were taken before the denial, or all), "requests": [[begin, end of the head, match]].
 */
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/http.h"

static struct bn_netpol *parse(const char *http)
{
	_cleanup_(freep) char *text = NULL;
	struct bn_obj *o = NULL;
	struct bn_err err;
	json_t *j;

	if (asprintf(&text, "{\"apiVersion\":\"bpfnet.io/v1alpha1\",\"kind\":\"HTTPNetworkPolicy\",\"metadata\":"
			    "{\"name\":\"p\",\"namespace\":\"n\"},\"spec\":{\"podSelector\":{},\"policyTypes\":[\"Ingress\"],"
			    "\"ingress\":[{\"http\":%s}]}}", http) < 0)
		return NULL;
	j = json_loads(text, 0, NULL);
	if (j && bn_object_parse(j, &o, &err) < 0) {
		fprintf(stderr, "httpfeed: %s %s\n", err.field, err.msg);
		o = NULL;
	}
	json_decref(j);
	return (struct bn_netpol *)o;
}

static void stream(const struct bn_http_rules *rules, const uint8_t *p, size_t n)
{
	struct bn_http_state s = {};
	json_t *list = json_array(), *out;
	size_t at = 0, begin = 0, used;
	int r = 0;

	while (at < n && r >= 0) {
		bool idle = bn_http_feed_idle(&s);

		if (idle)
			begin = at;
		r = bn_http_feed(rules, &s, p + at, 1, &used); /* byte by byte: where does the next one begin? */
		at += r < 0 ? used - 1 : used;
		if (r > 0)
			json_array_append_new(list, json_pack("[i,i,i]", (int)begin, (int)at, (int)s.match));
	}
	out = json_pack("{s:s,s:i,s:o}", "reason", bn_http_reason_name((enum bn_http_reason)s.reason), "at", (int)at,
			"requests", list);
	json_dumpf(out, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(out);
}

int main(int argc, char **argv)
{
	struct bn_netpol *np = argc == 2 ? parse(argv[1]) : NULL;
	const struct bn_rule *one = np ? &np->in[0] : NULL;
	struct bn_http_rules *rules = NULL;
	struct bn_err err;
	uint8_t len[4], *buf;

	if (!np || bn_http_compile(&one, 1, &rules, &err) < 0) {
		fprintf(stderr, "httpfeed: bad rules\n");
		return 2;
	}
	while (fread(len, sizeof(len), 1, stdin) == 1) {
		size_t n = (size_t)len[0] << 24 | (size_t)len[1] << 16 | (size_t)len[2] << 8 | len[3];

		buf = malloc(n + 1);
		if (!buf || fread(buf, 1, n, stdin) != n)
			return 2;
		stream(rules, buf, n);
		free(buf);
	}
	bn_http_rules_freep(&rules);
	bn_obj_unref(&np->o);
	return 0;
}
