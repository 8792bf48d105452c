// SPDX-License-Identifier: MIT
/* Byte streams and their verdicts, however they are cut. */
#include "tests/unit/http_policy.h"

#define H "Host: a\r\n"
#define END "\r\n"
#define GET "GET / HTTP/1.1\r\n" H

/* Everything but CONNECT and Upgrade is allowed: what is denied is denied for its form. */
static const struct {
	const char *name, *bytes;
	uint32_t allowed;
	enum bn_http_reason reason;
} streams[] = {
	{ "plain", GET END, 1, 0 },
	{ "nothing yet", "", 0, 0 },
	{ "half a head", "GET / HTTP/1.1\r\nHo", 0, 0 },
	{ "all but the last byte", "GET / HTTP/1.1\r\nHost: a\r\n\r", 0, 0 },
	{ "keep-alive", GET END GET END GET END, 3, 0 },
	{ "an empty line before", "\r\n" GET END "\r\n" GET END, 2, 0 },
	{ "two empty lines before", "\r\n\r\n" GET END, 0, BN_HTTP_METHOD },
	{ "HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 1, 0 },
	{ "body", "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello" GET END, 2, 0 },
	{ "body that looks like a request", "POST / HTTP/1.1\r\n" H "Content-Length: 22\r\n\r\nXX / HTTP/9\n\n\r\n\r\nxyz!!" GET END, 2, 0 },
	{ "GET with a body", "GET / HTTP/1.1\r\n" H "content-length:\t3 \t\r\n\r\nabc" GET END, 2, 0 },
	{ "length 0", "POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n" GET END, 2, 0 },
	{ "chunked", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=\"y\"\r\n0123456789"
		     "\r\n0\r\n\r\n" GET END, 2, 0 },
	{ "trailers", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: CHUNKED \r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n" GET END,
	  2, 0 },
	{ "obs-text and tabs", "GET / HTTP/1.1\r\n" H "X:\t\xc3\xa9 \xff\ty\t\r\nEmpty:\r\nBlank:  \r\n\r\n", 1, 0 },
	{ "absolute form", "GET http://a:80/x?y HTTP/1.1\r\n" H END, 1, 0 },
	{ "absolute form without path", "GET HTTP://a HTTP/1.1\r\n" H END, 1, 0 },
	{ "absolute form, query only", "GET http://a?q HTTP/1.1\r\n" H END, 1, 0 },
	{ "OPTIONS *", "OPTIONS * HTTP/1.1\r\n" H END, 1, 0 },
	{ "Host with port", "GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n", 1, 0 },
	{ "Host IPv6", "GET / HTTP/1.1\r\nHost: [fd00::1]:8080\r\n\r\n", 1, 0 },
	{ "Host IPv6 with IPv4 in it", "GET / HTTP/1.1\r\nHost: [::ffff:10.0.0.1]\r\n\r\n", 1, 0 },
	{ "Host in brackets", "GET / HTTP/1.1\r\nHost: [api.shop]\r\n\r\n", 0, BN_HTTP_HOST },
	{ "Host of a later kind", "GET / HTTP/1.1\r\nHost: [v1.a]\r\n\r\n", 0, BN_HTTP_HOST },
	{ "empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 1, 0 },
	{ "Expect", "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nok" GET END, 2, 0 },
	{ "encoded query", "GET /?a=%2f%zz&b=100% HTTP/1.1\r\n" H END, 1, 0 },
	{ "trailing slash", "GET /a/ HTTP/1.1\r\n" H END, 1, 0 },
	{ "dots in names", "GET /.a/..b/c../... HTTP/1.1\r\n" H END, 1, 0 },

	{ "bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 0, BN_HTTP_BARE_LF },
	{ "bare LF behind a field", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 0, BN_HTTP_BARE_LF },
	{ "bare LF at the end", GET "\n", 0, BN_HTTP_BARE_LF },
	{ "bare CR in a value", "GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n", 0, BN_HTTP_BARE_CR },
	{ "CR CR LF", "GET / HTTP/1.1\r\n" H "\r\r\n", 0, BN_HTTP_BARE_CR },
	{ "control byte in a value", "GET / HTTP/1.1\r\n" H "X: \x01\r\n\r\n", 0, BN_HTTP_VALUE },
	{ "DEL in a value", "GET / HTTP/1.1\r\n" H "X: \x7f\r\n\r\n", 0, BN_HTTP_VALUE },
	{ "folded", "GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n", 0, BN_HTTP_OBS_FOLD },
	{ "folded first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 0, BN_HTTP_OBS_FOLD },
	{ "folded by tab", "GET / HTTP/1.1\r\n" H "X: a\r\n\tb\r\n\r\n", 0, BN_HTTP_OBS_FOLD },
	{ "blank before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 0, BN_HTTP_NAME },
	{ "tab before the colon", "POST / HTTP/1.1\r\n" H "Content-Length\t: 5\r\n\r\n", 0, BN_HTTP_NAME },
	{ "no name", "GET / HTTP/1.1\r\n" H ": x\r\n\r\n", 0, BN_HTTP_NAME },
	{ "no colon", "GET / HTTP/1.1\r\n" H "Xy\r\n\r\n", 0, BN_HTTP_NAME },
	{ "name beyond ASCII", "GET / HTTP/1.1\r\n" H "X\xc3: y\r\n\r\n", 0, BN_HTTP_NAME },
	{ "name with brackets", "GET / HTTP/1.1\r\n" H "X(y): y\r\n\r\n", 0, BN_HTTP_NAME },
	{ "two equal lengths", "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 0,
	  BN_HTTP_LENGTH_TWICE },
	{ "two lengths", "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-length: 6\r\n\r\n", 0, BN_HTTP_LENGTH_TWICE },
	{ "list of lengths", "POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n", 0, BN_HTTP_LENGTH },
	{ "length +5", "POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n", 0, BN_HTTP_LENGTH },
	{ "length -1", "POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", 0, BN_HTTP_LENGTH },
	{ "length 0x5", "POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n", 0, BN_HTTP_LENGTH },
	{ "length 5 6", "POST / HTTP/1.1\r\n" H "Content-Length: 5 6\r\n\r\n", 0, BN_HTTP_LENGTH },
	{ "length too long", "POST / HTTP/1.1\r\n" H "Content-Length: 9999999999999999999\r\n\r\n", 0, BN_HTTP_LENGTH },
	{ "empty length", "POST / HTTP/1.1\r\n" H "Content-Length: \r\n\r\n", 0, BN_HTTP_LENGTH },
	{ "encoding and length", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 0,
	  BN_HTTP_ENCODING_LENGTH },
	{ "length and encoding", "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 0,
	  BN_HTTP_ENCODING_LENGTH },
	{ "encoding in 1.0", "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 0, BN_HTTP_ENCODING_10 },
	{ "unknown encoding", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n", 0, BN_HTTP_ENCODING },
	{ "gzip, chunked", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 0, BN_HTTP_ENCODING },
	{ "chunked, identity", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n", 0, BN_HTTP_ENCODING },
	{ "xchunked", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", 0, BN_HTTP_ENCODING },
	{ "chunked twice", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 0,
	  BN_HTTP_ENCODING },
	{ "chun ked", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chun ked\r\n\r\n", 0, BN_HTTP_ENCODING },
	{ "vertical tab chunked", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \x0b" "chunked\r\n\r\n", 0, BN_HTTP_VALUE },
	{ "empty encoding", "POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", 0, BN_HTTP_ENCODING },
	{ "no Host", "GET / HTTP/1.1\r\n\r\n", 0, BN_HTTP_HOST },
	{ "two Hosts", "GET / HTTP/1.1\r\n" H H END, 0, BN_HTTP_HOST },
	{ "two Hosts in 1.0", "GET / HTTP/1.0\r\n" H H END, 0, BN_HTTP_HOST },
	{ "Host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 0, BN_HTTP_HOST },
	{ "Host with user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 0, BN_HTTP_HOST },
	{ "Host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 0, BN_HTTP_HOST },
	{ "Host with a word as port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 0, BN_HTTP_HOST },
	{ "fragment", "GET /#a HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "backslash", "GET /a\\b HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "control byte in the target", "GET /a\x01 HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "tab in the target", "GET /a\tb HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "byte beyond ASCII in the target", "GET /\xc3\xa9 HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "backslash in the query", "GET /?\\ HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "fragment in the query", "GET /?a#b HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "%00 in the query", "GET /?a=%00 HTTP/1.1\r\n" H END, 0, BN_HTTP_PERCENT },
	{ "asterisk", "GET * HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "no slash", "GET a HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "https", "GET https://a/ HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "user in the target", "GET http://u@a/ HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "no authority", "GET http:///a HTTP/1.1\r\n" H END, 0, BN_HTTP_TARGET },
	{ "%00", "GET /a%00 HTTP/1.1\r\n" H END, 0, BN_HTTP_PERCENT },
	{ "bad percent", "GET /%zz HTTP/1.1\r\n" H END, 0, BN_HTTP_PERCENT },
	{ "cut percent", "GET /%4 HTTP/1.1\r\n" H END, 0, BN_HTTP_PERCENT },
	{ "encoded slash", "GET /a%2Fb HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "encoded backslash", "GET /a%5cb HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "empty segment", "GET //a HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "dot segment", "GET /a/./b HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "dots segment", "GET /a/../b HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "dots at the end", "GET /a/.. HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "dots before the query", "GET /a/..?x HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "encoded dots", "GET /a/%2e%2E/b HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "half encoded dots", "GET /a/.%2e/b HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "dots with a parameter", "GET /a/..;x/b HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "dots with an encoded one", "GET /a/..%3bx/b HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "dots in absolute form", "GET http://a/../b HTTP/1.1\r\n" H END, 0, BN_HTTP_PATH },
	{ "CONNECT", "CONNECT a:80 HTTP/1.1\r\n" H END, 0, BN_HTTP_CONNECT },
	{ "HTTP/0.9", "GET /\r\n", 0, BN_HTTP_HTTP09 },
	{ "HTTP/0.9 with a blank", "GET / \r\n", 0, BN_HTTP_HTTP09 },
	{ "HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, BN_HTTP_HTTP2 },
	{ "HTTP/2 in the line", "GET / HTTP/2.0\r\n", 0, BN_HTTP_HTTP2 },
	{ "TLS", "\x16\x03\x01\x02", 0, BN_HTTP_TLS },
	{ "HTTP/1.2", "GET / HTTP/1.2\r\n", 0, BN_HTTP_VERSION },
	{ "HTTP/1.10", "GET / HTTP/1.10\r\n", 0, BN_HTTP_VERSION },
	{ "http/1.1", "GET / http/1.1\r\n", 0, BN_HTTP_VERSION },
	{ "blank behind the version", "GET / HTTP/1.1 \r\n", 0, BN_HTTP_VERSION },
	{ "two blanks", "GET /  HTTP/1.1\r\n", 0, BN_HTTP_VERSION },
	{ "blank first", " GET / HTTP/1.1\r\n", 0, BN_HTTP_METHOD },
	{ "method with brackets", "G(T / HTTP/1.1\r\n", 0, BN_HTTP_METHOD },
	{ "long method", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ / HTTP/1.1\r\n", 0, BN_HTTP_METHOD },
	{ "Upgrade that no rule names", "GET / HTTP/1.1\r\n" H "Upgrade: other\r\n\r\n", 0, BN_HTTP_UPGRADE },
	{ "an offer of HTTP/2", "GET / HTTP/1.1\r\n" H "Upgrade: h2c\r\n\r\n", 1, BN_HTTP_OK },
	{ "two requests that offer it", "GET / HTTP/1.1\r\n" H "UPGRADE:\tH2C \t\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n" H
	  "upgrade:h2c\r\n\r\n", 2, BN_HTTP_OK },
	{ "an offer taken up", "GET / HTTP/1.1\r\n" H "Upgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n", 1, BN_HTTP_HTTP2 },
	{ "an offer twice", "GET / HTTP/1.1\r\n" H "Upgrade: h2c\r\nUpgrade: h2c\r\n\r\n", 0, BN_HTTP_UPGRADE },
	{ "an offer and another protocol", "GET / HTTP/1.1\r\n" H "Upgrade: h2c\r\nUpgrade: x\r\n\r\n", 0, BN_HTTP_UPGRADE },
	{ "another protocol and an offer", "GET / HTTP/1.1\r\n" H "Upgrade: x\r\nUpgrade: h2c\r\n\r\n", 0, BN_HTTP_UPGRADE },
	{ "an offer in a list", "GET / HTTP/1.1\r\n" H "Upgrade: h2c, x\r\n\r\n", 0, BN_HTTP_UPGRADE },
	{ "no offer: h2", "GET / HTTP/1.1\r\n" H "Upgrade: h2\r\n\r\n", 0, BN_HTTP_UPGRADE },
	{ "no offer: h2 c", "GET / HTTP/1.1\r\n" H "Upgrade: h2 c\r\n\r\n", 0, BN_HTTP_UPGRADE },
	{ "no offer: h2c c", "GET / HTTP/1.1\r\n" H "Upgrade: h2c c\r\n\r\n", 0, BN_HTTP_UPGRADE },
	{ "no offer: nothing", "GET / HTTP/1.1\r\n" H "Upgrade: \r\n\r\n", 0, BN_HTTP_UPGRADE },
	{ "no offer, longer", "GET / HTTP/1.1\r\n" H "Upgrade: " "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" "h2c\r\n\r\n", 0, BN_HTTP_UPGRADE },
	{ "chunk without size", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n\r\n", 1, BN_HTTP_CHUNK },
	{ "chunk size with blank", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5 \r\n", 1, BN_HTTP_CHUNK },
	{ "chunk size 0x5", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0x5\r\n", 1, BN_HTTP_CHUNK },
	{ "chunk size too large", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 1,
	  BN_HTTP_CHUNK },
	{ "bare LF behind a chunk size", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\nhello", 1,
	  BN_HTTP_BARE_LF },
	{ "bare LF in an extension", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5;x\nhello", 1,
	  BN_HTTP_BARE_LF },
	{ "chunk longer than its size", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", 1,
	  BN_HTTP_CHUNK },
	{ "length in a trailer", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n", 1,
	  BN_HTTP_TRAILER },
	{ "allowed, then denied", GET END "GET //x HTTP/1.1\r\n" H END GET END, 1, BN_HTTP_PATH },
};

static void check(const struct bn_http_rules *c, const char *name, const char *p, size_t n, uint32_t allowed,
		  enum bn_http_reason reason)
{
	struct outcome whole = outcome(c, p, n), o;
	struct bn_http_state s = {};

	if (whole.allowed != allowed || whole.reason != reason)
		fail_msg("%s: %u allowed, %s instead of %u, %s", name, whole.allowed,
			 bn_http_reason_name(whole.reason), allowed, bn_http_reason_name(reason));
	for (size_t cut = 1; cut < n; cut++) {
		s = (struct bn_http_state){};
		feed(c, &s, p, cut);
		feed(c, &s, p + cut, n - cut);
		o = outcome_of(&s);
		if (!same_outcome(whole, o))
			fail_msg("%s: cut at %zu: %u allowed, %s", name, cut, o.allowed, bn_http_reason_name(o.reason));
	}
	s = (struct bn_http_state){};
	for (size_t k = 0; k < n; k++)
		feed(c, &s, p + k, 1);
	assert_true(same_outcome(whole, outcome_of(&s)));
}

static void test_streams(void **unused _unused_)
{
	struct bn_netpol *np = netpol("[{}]");
	struct bn_http_rules *c = rules_of(np);
	bool seen[BN_HTTP__MAX] = {};

	for (size_t k = 0; k < ARRAY_SIZE(streams); k++) {
		check(c, streams[k].name, streams[k].bytes, strlen(streams[k].bytes), streams[k].allowed,
		      streams[k].reason);
		seen[streams[k].reason] = true;
	}
	static const char nul[] = "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n";

	check(c, "NUL in a value", nul, sizeof(nul) - 1, 0, BN_HTTP_NUL);
	static const char nul_target[] = "GET /\0 HTTP/1.1\r\n";

	check(c, "NUL in the target", nul_target, sizeof(nul_target) - 1, 0, BN_HTTP_NUL);
	/* What these streams leave out has tests of its own below. */
	for (int k = 1; k < BN_HTTP__MAX; k++) {
		bool own = k == BN_HTTP_NO_MATCH || k == BN_HTTP_TOO_LARGE || k == BN_HTTP_EARLY_DATA ||
			   k == BN_HTTP_TABLE || k == BN_HTTP_NUL || k == BN_HTTP_CUT;

		if (seen[k] == own)
			fail_msg("%s", bn_http_reason_name((enum bn_http_reason)k));
	}
	bn_http_rules_freep(&c);
	bn_obj_unref(&np->o);
}

/* The client says no more: nothing that has begun is left without a verdict. */
static void test_ends(void **unused _unused_)
{
	static const struct {
		const char *bytes;
		enum bn_http_reason reason;
	} rows[] = {
		{ "", 0 }, { "\r\n", 0 }, { "\r", 0 }, { "G", BN_HTTP_CUT }, { "GET /", BN_HTTP_CUT }, { "GET / HTTP/1.1\r\n", BN_HTTP_CUT },
		{ GET, BN_HTTP_CUT }, { GET "\r", BN_HTTP_CUT }, { GET END, 0 }, { GET END "G", BN_HTTP_CUT },
		{ "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhel", 0 }, { "POST / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nhG", BN_HTTP_CUT },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nh", 0 },
		{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n", 0 }, { "GET /%", BN_HTTP_CUT }, { "GET //", BN_HTTP_PATH },
	};
	struct bn_netpol *np = netpol("[{}]");
	struct bn_http_rules *c = rules_of(np);

	for (size_t k = 0; k < ARRAY_SIZE(rows); k++) {
		struct bn_http_state s = {};

		feed(c, &s, rows[k].bytes, strlen(rows[k].bytes));
		if (bn_http_feed_end(&s) > 0 || s.reason != rows[k].reason)
			fail_msg("'%s': %s", rows[k].bytes, bn_http_reason_name((enum bn_http_reason)s.reason));
	}
	bn_http_rules_freep(&c);
	bn_obj_unref(&np->o);
}

static void big(const struct bn_http_rules *c, size_t fields, size_t target, size_t value,
		enum bn_http_reason reason)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct outcome o;

	assert_non_null(f);
	fputs("GET /", f);
	while (target--)
		fputc('a', f);
	fputs(" HTTP/1.1\r\n" H, f);
	while (fields--)
		fputs("x: y\r\n", f);
	fputs("V: ", f);
	while (value--)
		fputc('v', f);
	fputs("\r\n\r\n", f);
	fclose(f);
	o = outcome(c, text, len);
	assert_int_equal(o.reason, reason);
	assert_int_equal(o.allowed, !reason);
	free(text);
}

static void test_large(void **unused _unused_)
{
	struct bn_netpol *np = netpol("[{}]");
	struct bn_http_rules *c = rules_of(np);

	big(c, 0, 3000, 10, 0);
	big(c, 200, 10, 16000, 0);
	big(c, 254, 10, 10, 0);
	big(c, 255, 10, 10, BN_HTTP_TOO_LARGE);
	big(c, 1, 10, 32700, 0);
	big(c, 1, 10, 32800, BN_HTTP_TOO_LARGE);
	big(c, 1, 40000, 1, BN_HTTP_TOO_LARGE);
	bn_http_rules_freep(&c);
	bn_obj_unref(&np->o);
}

static void opaque(const char *http, const char *head)
{
	struct bn_netpol *np = netpol(http);
	struct bn_http_rules *c = rules_of(np);

	for (int how = 0; how < 3; how++) { /* data at once, behind a refusal, behind the switch */
		struct bn_http_state s = {};

		feed(c, &s, head, strlen(head));
		assert_int_equal(s.requests, 1);
		if (how)
			bn_http_feed_answer(&s, how == 2);
		feed(c, &s, "\x81\x05 no HTTP", 10);
		assert_int_equal(s.reason, how == 0 ? BN_HTTP_EARLY_DATA : how == 1 ? BN_HTTP_METHOD : BN_HTTP_OK);
	}
	bn_http_rules_freep(&c);
	bn_obj_unref(&np->o);
}

static void test_opaque(void **unused _unused_)
{
	opaque("[{\"headers\":[{\"name\":\"Upgrade\",\"value\":\"websocket\"}]}]",
	       "GET /chat HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n");
	opaque("[{\"method\":\"CONNECT\",\"hostnames\":[\"a\"]}]", "CONNECT a:443 HTTP/1.1\r\n" H END);
}

/* Audit goes on behind what no rule allows. It must not read anything else than who allows everything: the same
 * requests, with the same ends, and the same streams that nobody can read with certainty.
 */
static uint32_t same_reading(const struct bn_http_rules *all, const struct bn_http_rules *few, const char *p, size_t n)
{
	struct bn_http_state strict = {}, lax = {.lax = 1};
	uint32_t unmatched = 0;
	size_t used;

	for (size_t k = 0; k < n; k++) {
		int a = bn_http_feed(all, &strict, p + k, 1, &used), b = bn_http_feed(few, &lax, p + k, 1, &used);

		unmatched += b == 2;
		/* An Upgrade is the last of an audited connection unless a rule names it. */
		if (a == -BN_HTTP_UPGRADE && b == -BN_HTTP_NO_MATCH)
			return unmatched;
		if (a == 1 ? b != 1 && b != 2 : a != b)
			fail_msg("%d and %d at %zu: %.*s", a, b, k, (int)n, p);
		if (a < 0)
			return unmatched;
		if (strict.at != lax.at || strict.left != lax.left || strict.requests != lax.requests + unmatched)
			fail_msg("other states at %zu: %.*s", k, (int)n, p);
	}
	return unmatched;
}

static void test_lax(void **unused _unused_)
{
	static const char bytes[] = "aZ09-_.~/%?&=;: \t\r\n\x01\x7f\x80xHTTP/1.1";
	static const char *const rules[] = {
		"[]", "[{\"method\":\"PUT\"}]", "[{\"path\":{\"value\":\"/x\"},\"hostnames\":[\"b\"]}]",
		"[{\"path\":{\"type\":\"RegularExpression\",\"value\":\"/a.*c\"},"
		"\"queryParams\":[{\"name\":\"x\",\"value\":\"1\"}]}]",
	};
	struct bn_netpol *np = netpol("[{}]");
	struct bn_http_rules *all = rules_of(np);
	unsigned seed = 5;
	char text[1024];

	for (size_t r = 0; r < ARRAY_SIZE(rules); r++) {
		struct bn_netpol *np2 = netpol(rules[r]);
		struct bn_http_rules *few = rules_of(np2);
		uint32_t unmatched = 0;

		for (int i = 0; i < 20000; i++) {
			const char *s = streams[(size_t)i % ARRAY_SIZE(streams)].bytes;
			size_t n = strlen(s), at;

			memcpy(text, s, n);
			memcpy(text + n, GET END, strlen(GET END));
			n += strlen(GET END);
			for (int m = i < (int)ARRAY_SIZE(streams) ? 0 : rand_r(&seed) % 3; m > 0; m--) {
				at = (size_t)rand_r(&seed) % n;
				if (rand_r(&seed) % 4)
					text[at] = bytes[(size_t)rand_r(&seed) % (sizeof(bytes) - 1)];
				else if (rand_r(&seed) % 2)
					memmove(text + at, text + at + 1, --n - at);
				else
					memmove(text + at + 1, text + at, n++ - at);
			}
			unmatched += same_reading(all, few, text, n);
		}
		assert_in_range(unmatched, 5000, 100000);
		bn_http_rules_freep(&few);
		bn_obj_unref(&np2->o);
	}
	bn_http_rules_freep(&all);
	bn_obj_unref(&np->o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lax), cmocka_unit_test(test_streams), cmocka_unit_test(test_ends),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_opaque),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
