// SPDX-License-Identifier: MIT
/* Bytes of a connection's request direction against a few sets of rules: the first byte says which, and where
 * the stream is cut. The verdict must not depend on the cuts; what is allowed under a set of rules must be
 * allowed where all requests are; nothing may be read outside the tables.
 */
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/http.h"
#include "tests/fuzz/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

const char *const bn_fuzz_words[] = {
	"\r\n", "\r\n\r\n", "\n", "GET ", "POST ", "OPTIONS ", "CONNECT ", " HTTP/1.1\r\n", " HTTP/1.0\r\n",
	"Host: api.shop\r\n", "Host: a\r\nHost: b\r\n", "Content-Length: 5\r\n", "Content-Length: 0\r\n",
	"Transfer-Encoding: chunked\r\n", "Transfer-Encoding: ", "chunked", "5\r\nhello\r\n", "0\r\n\r\n",
	"Upgrade: websocket\r\n", "X-Team: checkout\r\n", "X-Team: a, b\r\n", "/v1/items", "/v1/orders/17", "/../",
	"/./", "//", "%2e", "%2f", "%00", "?team=a+b", "&team=", "http://", "x.example.org", ";", " ", "\t", NULL,
};

#define SETS 3

static struct bn_http_rules *set(unsigned which)
{
	static struct bn_http_rules *sets[SETS];
	static struct bn_http_kv team = { BN_MATCH_REGEX, "x-team", "a(, b)*|checkout" };
	static struct bn_http_kv upgrade = { BN_MATCH_EXACT, "upgrade", "websocket" };
	static struct bn_http_kv query = { BN_MATCH_EXACT, "team", "a b" };
	static const char *hosts[] = { "api.shop", "*.example.org" };
	static struct bn_http_match some[] = {
		{ .method = "GET", .has_path = true, .path_type = BN_MATCH_PREFIX, .path = "/v1/items" },
		{ .has_path = true, .path_type = BN_MATCH_REGEX, .path = "/v1/orders/[0-9]+", .nheaders = 1,
		  .headers = &team },
		{ .nhosts = 2, .hosts = hosts, .nqueries = 1, .queries = &query },
		{ .nheaders = 1, .headers = &upgrade },
		{ .method = "CONNECT" },
	}, all[] = { {}, { .method = "CONNECT" }, { .nheaders = 1, .headers = &upgrade } },
	  one[] = { { .method = "POST", .has_path = true, .path_type = BN_MATCH_EXACT, .path = "/v1/items" } };
	static const struct bn_rule rules[SETS] = {
		{ .has_http = true, .nhttp = ARRAY_SIZE(all), .http = all },
		{ .has_http = true, .nhttp = ARRAY_SIZE(some), .http = some },
		{ .has_http = true, .nhttp = ARRAY_SIZE(one), .http = one },
	};
	const struct bn_rule *r = &rules[which];
	struct bn_err err;

	if (!sets[which])
		MUST(bn_http_compile(&r, 1, &sets[which], &err) == 0);
	return sets[which];
}

static void feed(const struct bn_http_rules *r, struct bn_http_state *s, const uint8_t *p, size_t n)
{
	size_t used, i = 0;

	while (i < n) {
		int v = bn_http_feed(r, s, p + i, n - i, &used);

		MUST(used <= n - i && (v < 0 || used));
		MUST(v < 0 ? s->reason == -v : !s->reason);
		if (v < 0)
			return;
		i += used;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bn_http_state whole = {}, cut = {}, free_for_all = {};
	const struct bn_http_rules *r;
	size_t step, i;

	if (!size)
		return 0;
	r = set(data[0] % SETS);
	step = 1 + data[0] / SETS % 16;
	data++;
	size--;
	feed(r, &whole, data, size);
	for (i = 0; i < size; i += step)
		feed(r, &cut, data + i, step < size - i ? step : size - i);
	MUST(!memcmp(&whole, &cut, sizeof(whole)));
	feed(set(0), &free_for_all, data, size);
	MUST(free_for_all.requests >= whole.requests);
	MUST(free_for_all.reason == BN_HTTP_OK || whole.reason != BN_HTTP_OK);
	return 0;
}
