// SPDX-License-Identifier: MIT
/* HTTP rules and clients that end: a FIN passes where what was judged ends, and outside a head; what comes behind it. */
#include "tests/bpf/http_env.h"

#define H "Host: a\r\n"
static const char rules_text[] = "[{\"method\":\"GET\",\"path\":{\"value\":\"/ok\"}},"
				 "{\"method\":\"POST\",\"path\":{\"value\":\"/ok\"},"
				 "\"headers\":[{\"name\":\"X-Team\",\"value\":\"red\"}]}]";
static const char *const streams[] = {
	"GET /ok/x?y=1 HTTP/1.1\r\n" H "A: b\r\n\r\nGET /ok HTTP/1.1\r\n" H "\r\n",
	"GET /no HTTP/1.1\r\n" H "\r\n",
	"GET /ok%2fx HTTP/1.1\r\n" H "\r\n",
	"POST /ok HTTP/1.1\r\n" H "X-Team: red\r\nContent-Length: 5\r\n\r\nhelloGET /ok HTTP/1.1\r\n" H "\r\n",
	"POST /ok HTTP/1.1\r\n" H "X-Team: blue\r\nContent-Length: 5\r\n\r\nhello",
	"POST /ok HTTP/1.1\r\n" H "X-Team: red\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\nT: 1\r\n\r\n"
	"GET /ok HTTP/1.1\r\n" H "\r\n",
	"GET /ok HTTP/1.1\r\n" H "\r\nGET /no HTTP/1.1\r\n" H "\r\n",
	"\r\nGET /ok HTTP/1.0\r\n\r\n\r\n",
};

/* The client ends after so many bytes, with them or behind them: what is inside a head is denied. */
static void ended_anywhere(void **state)
{
	struct env *e = http_env_of(rules_text, 0);

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(streams); s++) {
		size_t n = strlen(streams[s]);

		for (size_t cut = 1; cut <= n; cut++) {
			for (int apart = 0; apart < 2; apart++) {
				struct conn c = begin(e, apart);
				struct bn_http_state p = {};
				struct bn_http_conn f;
				struct result *r;
				bool was;

				feed(rules, &p, streams[s], cut);
				was = p.reason;
				bn_http_feed_end(&p);
				r = data(&c, 0, streams[s], cut, apart ? ACK : ACK | FIN);
				/* Beyond what is due, and before what has passed: neither goes on. */
				if (apart && !was) {
					assert_int_not_equal(data(&c, (uint32_t)cut + 9, NULL, 0, ACK | FIN)->verdict, PASS);
					if (cut > 1 && p.reason == BN_HTTP_CUT)
						assert_int_not_equal(data(&c, (uint32_t)cut - 1, NULL, 0, ACK | FIN)->verdict, PASS);
				}
				if (apart && !was)
					r = data(&c, (uint32_t)cut, NULL, 0, ACK | FIN);
				if (followed(&c, &f) < 0 || f.reason != p.reason || (f.phase != BN_HTTP_FOLLOWED) != !!p.reason)
					fail_msg("ends at %zu%s: reason %u, phase %u; wanted %u: %s", cut, apart ? ", apart" : "",
						 f.reason, f.phase, p.reason, streams[s]);
				if (!p.reason)
					assert_int_equal(r->verdict, PASS);
				over(&c);
			}
		}
	}
	env_free(e);
}

/* The connection's own SYN, doubled and late, begins nothing: the half that is still open goes on. */
static void late_syn(void **state)
{
	static const char get[] = "GET /ok HTTP/1.1\r\n" H "\r\n";
	const uint32_t n = sizeof(get) - 1;
	struct env *e = http_env_of(rules_text, 0);
	struct bn_http_conn f;
	struct result *r;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct conn c = begin(e, v6);

		assert_int_equal(data(&c, 0, get, n, ACK | FIN)->verdict, PASS);
		assert_int_equal(data(&c, -1, NULL, 0, SYN)->verdict, PASS);
		r = data(&c, 0, get, n, ACK | FIN);
		assert_int_equal(r->verdict, PASS);
		assert_int_equal(r->drops[BN_DROP_HTTP_MIDSTREAM], 0); /* as it would say in telling both that this is over */
		assert_int_equal(followed(&c, &f), 0);
	}
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ended_anywhere),
		cmocka_unit_test(late_syn),
	};

	return cmocka_run_group_tests(tests, links_up, NULL);
}
