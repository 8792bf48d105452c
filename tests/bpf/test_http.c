// SPDX-License-Identifier: MIT
/* HTTP rules in the kernel programs: streams cut at every position come to what the parser says of the whole,
 * and what TCP allows a hostile client does not bring other bytes past it.
 */
#include "tests/bpf/http_env.h"

static const char rules_text[] =
	"[{\"method\":\"GET\",\"path\":{\"type\":\"PathPrefix\",\"value\":\"/ok\"}},"
	"{\"method\":\"POST\",\"path\":{\"type\":\"PathPrefix\",\"value\":\"/ok\"},"
	"\"headers\":[{\"name\":\"X-Team\",\"value\":\"red\"}]},"
	"{\"method\":\"HEAD\",\"path\":{\"type\":\"RegularExpression\",\"value\":\"/[a-c]+\"}}]";

static const char rules_upgrade[] =
	"[{\"method\":\"GET\",\"path\":{\"type\":\"PathPrefix\",\"value\":\"/ok\"}},"
	"{\"path\":{\"value\":\"/ws\"},\"headers\":[{\"name\":\"Upgrade\",\"value\":\"websocket\"}]}]";

static struct env *http_env(void)
{
	return http_env_of(rules_text, 0);
}

/* --- Streams ---------------------------------------------------------------------------------- */

#define H "Host: a\r\n"
static const char *const streams[] = {
	"GET /ok HTTP/1.1\r\n" H "\r\n",
	"GET /ok/x?y=1 HTTP/1.1\r\n" H "A: b\r\n\r\nGET /ok HTTP/1.1\r\n" H "\r\n",
	"GET /okay HTTP/1.1\r\n" H "\r\n",
	"GET /no HTTP/1.1\r\n" H "\r\n",
	"GET /ok/../no HTTP/1.1\r\n" H "\r\n",
	"GET /ok%2fx HTTP/1.1\r\n" H "\r\n",
	"PUT /ok HTTP/1.1\r\n" H "\r\n",
	"POST /ok HTTP/1.1\r\n" H "X-Team: red\r\nContent-Length: 5\r\n\r\nhelloGET /ok HTTP/1.1\r\n" H "\r\n",
	"POST /ok HTTP/1.1\r\n" H "X-Team: blue\r\nContent-Length: 5\r\n\r\nhello",
	"POST /ok HTTP/1.1\r\n" H "X-Team: red\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\nT: 1\r\n\r\n"
	"GET /ok HTTP/1.1\r\n" H "\r\n",
	"POST /ok HTTP/1.1\r\n" H "X-Team: red\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwikixx",
	"POST /ok HTTP/1.1\r\n" H "X-Team: red\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
	"GET /ok HTTP/1.1\r\n" H "\r\nGET /no HTTP/1.1\r\n" H "\r\n",
	"GET /ok HTTP/1.1\r\n\r\n",
	"GET /ok HTTP/1.1\r\n" H " folded\r\n\r\n",
	"GET /ok HTTP/1.1\n" H "\r\n",
	"GET /ok HTTP/1.1\r\n" H "A : b\r\n\r\n",
	"HEAD /abc HTTP/1.1\r\n" H "\r\n",
	"HEAD /abd HTTP/1.1\r\n" H "\r\n",
	"GET /ok HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"CONNECT a:1 HTTP/1.1\r\n" H "\r\n",
	"GET http://a/ok HTTP/1.1\r\n" H "\r\n",
	"\r\nGET /ok HTTP/1.0\r\n\r\n",
};

static void compare(struct conn *c, const struct outcome *want, const char *text, size_t cut)
{
	struct bn_http_conn f;

	if (followed(c, &f) < 0)
		fail_msg("cut at %zu: not followed: %s", cut, text);
	if (f.st.requests != want->allowed || f.reason != want->reason || (f.phase != BN_HTTP_FOLLOWED) != !!want->reason)
		fail_msg("v%d cut at %zu: %u allowed, reason %u, phase %u; wanted %u, reason %u: %s", c->v6 ? 6 : 4, cut,
			 f.st.requests, f.reason, f.phase, want->allowed, want->reason, text);
	/* Over what is left of a body the programs are already. */
	if (!want->reason && !want->left && (f.st.at != want->at || f.st.left != want->left || f.st.match != want->match))
		fail_msg("cut at %zu: in another state: %s", cut, text);
	if (f.nblocks)
		assert_true(bn_map_count(c->e->m, BN_MAP_http_blocks) >= f.nblocks);
}

static void cut_anywhere(void **state)
{
	struct env *e = http_env();

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(streams); s++) {
		size_t n = strlen(streams[s]);
		struct outcome want;

		if (streams[s][0] == 0x16)
			n = 11;
		want = outcome(rules, streams[s], n);
		for (int v6 = 0; v6 < 2; v6++) {
			for (size_t cut = 1; cut <= n; cut++) {
				struct conn c = begin(e, v6);

				data(&c, 0, streams[s], cut, ACK);
				if (cut < n)
					data(&c, (uint32_t)cut, streams[s] + cut, n - cut, ACK);
				compare(&c, &want, streams[s], cut);
				over(&c);
			}
		}
	}
	assert_int_equal(bn_map_count(e->m, BN_MAP_http_blocks), 0);
	env_free(e);
}

/* Hosts and parameters that rules look at. */
static const char rules_query[] =
	"[{\"method\":\"GET\",\"path\":{\"type\":\"PathPrefix\",\"value\":\"/ok/a-b_c.d\"},"
	"\"queryParams\":[{\"name\":\"x\",\"value\":\"1\"}],\"hostnames\":[\"api.shop\",\"*.example.org\"]},"
	"{\"method\":\"GET\",\"path\":{\"type\":\"PathPrefix\",\"value\":\"/ok\"},\"hostnames\":[\"a\",\"api.shop\"]},"
	"{\"method\":\"POST\",\"headers\":[{\"name\":\"X-Team\",\"value\":\"red\"}]},{\"method\":\"HEAD\"}]";

/* More matches than one word holds, and more cells than the first page. */
static const char *rules_many(void)
{
	static char text[65536];
	size_t n = 0;

	for (int i = 0; i < 300; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n,
				      "%s{\"path\":{\"type\":\"RegularExpression\",\"value\":\"/r%d/[a-z0-9-]+(/.*)?\"}}", i ? "," : "[", i);
	snprintf(text + n, sizeof(text) - n, ",{\"method\":\"GET\",\"path\":{\"type\":\"PathPrefix\",\"value\":\"/ok\"}}]");
	return text;
}

/* Bytes changed, put in, taken out, at random: the programs' short cuts come to what the parser comes to. */
static void change_anywhere(const char *of)
{
	static const char alphabet[] = "aZ09-_.~/%?&=;: \t\r\n\x01\x7f\x80xHTTP/1.1";
	static const char *const more[] = {
		"GET /ok/a-b_c.d/e?x=1&y=%20z&w HTTP/1.1\r\nHost: api.shop:80\r\nUser-Agent: a long value, 64 bytes and more, "
		"so that it is not through at once\r\nEmpty:\r\nTab:\tx\r\nX-Team: red\r\n\r\n",
		"POST /ok HTTP/1.1\r\nContent-Length: 3\r\nHOST: [::1]:80\r\nx-team:red \r\n\r\nabcGET /ok HTTP/1.0\r\n\r\n",
	};
	struct env *e = http_env_of(of, 0);
	unsigned seed = 7;
	char text[600];

	for (int i = 0; i < 4000; i++) {
		const size_t all = ARRAY_SIZE(streams) + ARRAY_SIZE(more);
		size_t k = (size_t)rand_r(&seed) % all, n, at, cut;
		const char *s = k < ARRAY_SIZE(streams) ? streams[k] : more[k - ARRAY_SIZE(streams)];
		struct conn c = begin(e, i & 1);
		struct outcome want;

		n = strlen(s);
		memcpy(text, s, n);
		for (int m = rand_r(&seed) % 3; m >= 0; m--) {
			at = (size_t)rand_r(&seed) % n;
			if (rand_r(&seed) % 4)
				text[at] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
			else if (n > 8 && rand_r(&seed) % 2)
				memmove(text + at, text + at + 1, --n - at);
			else
				memmove(text + at + 1, text + at, n++ - at);
		}
		text[n] = 0;
		want = outcome(rules, text, n);
		cut = 1 + (size_t)rand_r(&seed) % n;
		data(&c, 0, text, cut, ACK);
		if (cut < n)
			data(&c, (uint32_t)cut, text + cut, n - cut, ACK);
		compare(&c, &want, text, cut);
		over(&c);
	}
	env_free(e);
}

static void changed_anywhere(void **state)
{
	(void)state;
	change_anywhere(rules_text);
	change_anywhere(rules_query);
	change_anywhere(rules_many());
}

/* The second part comes first: kept, and judged when the first one is there. */
static void out_of_order(void **state)
{
	struct env *e = http_env();

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(streams); s++) {
		size_t n = strlen(streams[s]);
		struct outcome want;

		if (streams[s][0] == 0x16 || n < 12)
			continue;
		want = outcome(rules, streams[s], n);
		for (size_t cut = 4; cut < n - 1; cut++) {
			struct conn c = begin(e, 0);
			struct bn_http_conn f;

			data(&c, 0, streams[s], 1, ACK); /* only the very first byte begins a connection */
			if (followed(&c, &f) < 0 || f.phase)
				break;
			assert_int_equal(data(&c, (uint32_t)cut, streams[s] + cut, n - cut, ACK)->verdict, PASS);
			data(&c, 1, streams[s] + 1, cut - 1, ACK);
			compare(&c, &want, streams[s], cut);
			over(&c);
		}
	}
	assert_int_equal(bn_map_count(e->m, BN_MAP_http_blocks), 0);
	env_free(e);
}

/* --- Hostile TCP ------------------------------------------------------------------------------ */

static void changed_bytes(void **state)
{
	static const char good[] = "GET /ok HTTP/1.1\r\n" H "\r\n", bad[] = "GET /no HTTP/1.1\r\n" H "\r\n";
	char big[1400];
	struct env *e = http_env();

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct conn c = begin(e, v6);
		struct result *r;

		assert_int_equal(data(&c, 0, good, sizeof(good) - 1, ACK)->verdict, PASS);
		assert_int_equal(data(&c, 0, good, sizeof(good) - 1, ACK)->verdict, PASS); /* the same again */
		assert_int_equal(data(&c, 5, good + 5, 3, ACK)->verdict, PASS);	    /* a part */
		r = data(&c, 0, bad, sizeof(bad) - 1, ACK);
		DROPS(r, HTTP_CHANGED);
		r = data(&c, 5, bad + 5, 2, ACK);
		DROPS(r, HTTP_CHANGED);
		/* Overlap, with another request behind. */
		r = data(&c, 5, "no HTTP/1.1\r\n" H "\r\nGET /ok HTTP/1.1\r\n", 50, ACK);
		DROPS(r, HTTP_CHANGED);
		/* Acknowledged: nobody reads it again. */
		answer(&c, sizeof(good) - 1, "HTTP/1.1 200 OK\r\n", 17, ACK);
		assert_int_equal(data(&c, 0, bad, sizeof(bad) - 1, ACK)->verdict, PASS);
		over(&c);

		/* A head that does not fit into the connection's own memory. */
		c = begin(e, v6);
		memset(big, 'x', sizeof(big));
		memcpy(big, "GET /ok HTTP/1.1\r\n" H "A: ", 30);
		assert_int_equal(data(&c, 0, big, sizeof(big), ACK)->verdict, PASS);
		assert_int_equal(data(&c, 700, big + 700, 700, ACK)->verdict, PASS);
		big[900] = 'y';
		r = data(&c, 700, big + 700, 700, ACK);
		DROPS(r, HTTP_CHANGED);
		assert_int_equal(data(&c, 901, big + 901, 99, ACK)->verdict, PASS);
		over(&c);

		/* What came early is kept as it was, too. */
		c = begin(e, v6);
		assert_int_equal(data(&c, 0, good, 1, ACK)->verdict, PASS);
		assert_int_equal(data(&c, 5, good + 5, 20, ACK)->verdict, PASS);
		r = data(&c, 1, bad + 1, sizeof(bad) - 2, ACK);
		DROPS(r, HTTP_CHANGED);
		assert_int_equal(data(&c, 1, good + 1, sizeof(good) - 2, ACK)->verdict, PASS);
		over(&c);
	}
	env_free(e);
}

static void odd_packets(void **state)
{
	static const char good[] = "GET /ok HTTP/1.1\r\n" H "\r\n";
	struct env *e = http_env();
	struct bn_http_conn f;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct conn c = begin(e, v6);
		struct result *r = data(&c, 0, good, 10, ACK | 32);

		DROPS(r, HTTP_URGENT);
		r = data(&c, 0, good, 10, SYN | ACK);
		DROPS(r, HTTP_SYN_DATA);
		r = data(&c, 7, good + 7, 10, ACK); /* not the beginning */
		DROPS(r, HTTP_MIDSTREAM);
		assert_int_equal(data(&c, 0, good, 10, ACK)->verdict, PASS);
		assert_int_equal(followed(&c, &f), 0);
		/* Forgotten, and the flow is not over: never followed anew. */
		over(&c);
		assert_int_equal(followed(&c, &f), -ENOENT);
		r = data(&c, 0, good, 10, ACK);
		assert_int_equal(r->drops[BN_DROP_HTTP_MIDSTREAM], 1);
		assert_int_equal(r->verdict, PASS); /* as a reset */
		assert_int_equal(r->out.b[(v6 ? 54 : 34) + 13] & RST, RST);
		assert_int_equal(followed(&c, &f), -ENOENT);
	}
	env_free(e);
}

/* What a damaged segment says is not taken for what was said: the right bytes come again and pass. */
static void damaged(void **state)
{
	static const char good[] = "GET /ok HTTP/1.1\r\n" H "\r\n", hurt[] = "GET /ok HTTP/1.1\r\nHost: b\r\n\r\n";
	static const char post[] = "POST /ok HTTP/1.1\r\n" H "X-Team: red\r\nContent-Length: 9\r\n\r\n";
	const uint32_t n = sizeof(good) - 1;
	struct env *e = http_env();
	struct bn_http_conn f;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct conn c = begin(e, v6);

		c.sum = DAMAGED;
		DROPS(data(&c, 0, hurt, n, ACK), HTTP_CHECKSUM);
		c.sum = RIGHT;
		assert_int_equal(data(&c, 0, good, 1, ACK)->verdict, PASS);
		c.sum = DAMAGED; /* in front of a gap; all of it; and again what was let pass */
		DROPS(data(&c, 7, hurt + 7, n - 7, ACK), HTTP_CHECKSUM);
		DROPS(data(&c, 1, hurt + 1, n - 1, ACK), HTTP_CHECKSUM);
		c.sum = RIGHT;
		assert_int_equal(data(&c, 7, good + 7, n - 7, ACK)->verdict, PASS);
		assert_int_equal(data(&c, 1, good + 1, n - 1, ACK)->verdict, PASS);
		c.sum = DAMAGED;
		for (int i = 0; i < 9; i++)
			DROPS(data(&c, 0, hurt, n, ACK), HTTP_CHECKSUM);
		c.sum = RIGHT;
		assert_int_equal(data(&c, 0, good, n, ACK)->verdict, PASS);
		DROPS(data(&c, 0, hurt, n, ACK), HTTP_CHANGED);
		/* A sender on this machine leaves the sum to a device. */
		c.sum = PARTIAL;
		assert_int_equal(data(&c, n, post, sizeof(post) - 1, ACK)->verdict, PASS);
		c.sum = DAMAGED; /* nobody judges a body */
		assert_int_equal(data(&c, n + sizeof(post) - 1, "123456789", 9, ACK)->verdict, PASS);
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.st.requests, 2);
		assert_int_equal(f.phase, BN_HTTP_FOLLOWED);
		over(&c);
	}
	assert_int_equal(bn_map_count(e->m, BN_MAP_http_blocks), 0);
	env_free(e);
}

/* What its acknowledgement says of bytes that were never sent is not believed; a damaged one is not even noted. */
static void server_acknowledges(void **state)
{
	static const char good[] = "GET /ok HTTP/1.1\r\n" H "\r\n";
	struct env *e = http_env();
	struct conn c = begin(e, 0);
	struct bn_http_conn f;

	(void)state;
	assert_int_equal(data(&c, 0, good, 10, ACK)->verdict, PASS);
	DROPS(answer(&c, 5000, NULL, 0, ACK), HTTP_MIDSTREAM);
	assert_int_equal(followed(&c, &f), 0);
	assert_int_equal(f.una, FIRST);
	assert_int_equal(f.phase, BN_HTTP_ANSWERED);
	env_free(e);
}

/* Data behind an Upgrade comes to an end, whatever is known of the answer. */
static void upgrade(void **state)
{
	static const char ask[] = "GET /ws HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n";
	static const char yes[] = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n";
	static const char good[] = "GET /ok HTTP/1.1\r\n" H "\r\n";
	const uint32_t n = sizeof(ask) - 1, m = sizeof(yes) - 1;
	struct env *e = http_env_of(rules_upgrade, 0);
	struct bn_http_conn f;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct conn c = begin(e, v6);

		assert_int_equal(data(&c, 0, ask, n, ACK)->verdict, PASS);
		DROPS(data(&c, n, "\x81\x01x", 3, ACK), HTTP_WAITING);
		c.ack += 20; /* the first part got lost: the others wait for it */
		DROPS(answer(&c, n, yes + 20, m - 20, ACK), HTTP_WAITING);
		c.ack -= m;
		assert_int_equal(answer(&c, n, yes, m, ACK)->verdict, PASS);
		assert_int_equal(data(&c, n, "\x81\x01x", 3, ACK)->verdict, PASS);
		assert_int_equal(data(&c, n + 3, "GET /no HTTP/1.1\r\n\r\n", 20, ACK)->verdict, PASS); /* opaque */
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.phase, BN_HTTP_FOLLOWED);
		over(&c);

		/* It never came again: what follows is judged, as if the server had not switched. */
		c = begin(e, v6);
		assert_int_equal(data(&c, 0, ask, n, ACK)->verdict, PASS);
		usleep(900000); /* the server takes its time */
		c.ack += 20;
		DROPS(answer(&c, n, yes + 20, m - 20, ACK), HTTP_WAITING);
		c.ack -= m - 20;
		usleep(1100000);
		assert_int_equal(answer(&c, n, yes + 20, m - 20, ACK)->verdict, PASS);
		assert_int_equal(data(&c, n, good, sizeof(good) - 1, ACK)->verdict, PASS);
		data(&c, n + (uint32_t)sizeof(good) - 1, "\x81\x01x", 3, ACK);
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.st.requests, 2);
		assert_int_equal(f.reason, BN_HTTP_METHOD);
		over(&c);
	}
	env_free(e);
}

/* A body of 5 GiB: the numbers of the head come again in the middle of it, and mean nothing then. */
static void long_body(void **state)
{
	static const char head[] = "POST /ok HTTP/1.1\r\n" H "X-Team: red\r\nContent-Length: 5368709120\r\n\r\n";
	char body[200];
	struct env *e = http_env();

	(void)state;
	memset(body, 'b', sizeof(body));
	for (int v6 = 0; v6 < 2; v6++) {
		struct conn c = begin(e, v6);
		struct bn_http_conn f;

		assert_int_equal(data(&c, 0, head, sizeof(head) - 1, ACK)->verdict, PASS);
		for (uint32_t k = 1; k <= 9; k++) {
			answer(&c, (k - 1) * (1u << 29) + (k == 1 ? (uint32_t)sizeof(head) - 1 : 200), NULL, 0, ACK);
			assert_int_equal(data(&c, k * (1u << 29), body, sizeof(body), ACK)->verdict, PASS);
			assert_int_equal(followed(&c, &f), 0);
			assert_int_equal(f.strikes, 0);
			assert_int_equal(f.phase, BN_HTTP_FOLLOWED);
		}
		over(&c);
	}
	env_free(e);
}

/* A connection that went on while no rules were in force is not followed any more: it is reset when they are again,
 * and nothing of it passes as if it had come out of order.
 */
static void off_and_on(void **state)
{
	static const char good[] = "GET /ok HTTP/1.1\r\n" H "\r\n", bad[] = "GET /no HTTP/1.1\r\n" H "\r\n";
	const uint32_t n = sizeof(good) - 1;
	struct env *e = http_env();

	(void)state;
	for (int used = 0; used < 2; used++) {
		struct conn c = begin(e, used);
		struct result *r;
		uint32_t at = 0;

		if (used) {
			assert_int_equal(data(&c, at, good, n, ACK)->verdict, PASS);
			at += n;
			answer(&c, at, "HTTP/1.1 204 No\r\n\r\n", 19, ACK);
		}
		pod_of(e, 1)->word = BN_POD_WORD(BN_POL_OPEN, BN_POL_OPEN);
		state_of(e)->epoch++;
		r = data(&c, at, bad, n, ACK);
		assert_int_equal(r->verdict, PASS);
		assert_int_equal(r->out.b[(c.v6 ? 54 : 34) + 13] & RST, 0);
		pod_of(e, 1)->word = BN_POD_WORD(16, BN_POL_OPEN);
		state_of(e)->epoch++;
		r = data(&c, at + n, bad, n, ACK);
		assert_int_equal(r->drops[BN_DROP_HTTP_MIDSTREAM], 1);
		assert_int_equal(r->out.b[(c.v6 ? 54 : 34) + 13] & RST, RST);
		answer(&c, at, NULL, 0, RST | ACK);
	}
	env_free(e);
}

/* The part before a denied request passes, the answer waits for those before it. */
static void pipelined(void **state)
{
	static const char two[] = "GET /ok HTTP/1.1\r\n" H "\r\nGET /no HTTP/1.1\r\n" H "\r\n";
	static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes";
	struct env *e = http_env();
	struct bn_http_conn f;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct conn c = begin(e, v6);
		struct result *r = data(&c, 0, two, sizeof(two) - 1, ACK);
		size_t head = v6 ? 74 : 54, ok = 29;

		assert_int_equal(r->verdict, PASS);
		assert_int_equal(r->out.len, head + ok);
		assert_memory_equal(r->out.b + head, two, ok);
		assert_int_equal(r->drops[BN_DROP_HTTP_DENIED], 1);
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.phase, BN_HTTP_WAITING);
		r = data(&c, (uint32_t)ok, two + ok, sizeof(two) - 1 - ok, ACK);
		DROPS(r, HTTP_WAITING);
		answer(&c, (uint32_t)ok, text, 20, ACK);
		data(&c, sizeof(two) - 1, NULL, 0, ACK); /* acknowledges half of the answer */
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.phase, BN_HTTP_WAITING);
		answer(&c, (uint32_t)ok, text + 20, sizeof(text) - 21, ACK);
		r = data(&c, sizeof(two) - 1, NULL, 0, ACK);
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.phase, BN_HTTP_ANSWERED);
		assert_int_equal(r->verdict, PASS); /* the server's reset */
		assert_int_equal(r->out.b[(v6 ? 54 : 34) + 13] & RST, RST);
		over(&c);
	}
	for (int v6 = 0; v6 < 2; v6++) { /* the same where it is denied in its body, behind a body */
		static const char body[] = "POST /ok HTTP/1.1\r\n" H "X-Team: red\r\nContent-Length: 3\r\n\r\nyes"
					   "POST /ok HTTP/1.1\r\n" H "X-Team: red\r\nTransfer-Encoding: chunked\r\n\r\n"
					   "3\r\nyes\r\n0\r\nHost: b\r\n\r\n";
		struct conn c = begin(e, v6);
		size_t ok = (size_t)(strstr(body, "yesPOST") + 3 - body);
		struct result *r = data(&c, 0, body, sizeof(body) - 1, ACK);

		assert_int_equal(r->verdict, PASS);
		assert_int_equal(r->out.len, (v6 ? 74 : 54) + ok);
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.phase, BN_HTTP_WAITING);
		over(&c);
	}
	assert_int_equal(bn_http_stat(e->m, STATS), 4);
	assert_int_equal(bn_http_stat(e->m, STATS + 1), 2);
	env_free(e);
}

/* Not judged: what a request costs beside the same packet without HTTP rules. */
static void cost(void **state)
{
	static const char head[] = "GET /ok/a HTTP/1.1\r\nHost: api.shop\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
	char large[1200];
	struct env *e = http_env();

	(void)state;
	memset(large, 'x', sizeof(large));
	memcpy(large, "GET /ok/a HTTP/1.1\r\nHost: api.shop\r\nUser-Agent: ", 48);
	memcpy(large + sizeof(large) - 4, "\r\n\r\n", 4);
	for (int kind = 0; kind < 3; kind++) {
		const char *text = kind == 2 ? large : head;
		uint32_t n = kind == 2 ? sizeof(large) : sizeof(head) - 1, at = 0, best = ~0u, back = ~0u;
		struct conn c = begin(e, 0);

		if (!kind) {
			pod_of(e, 1)->word = BN_POD_WORD(BN_POL_OPEN, BN_POL_OPEN);
			state_of(e)->epoch++;
		}
		for (int i = 0; i < 3000; i++) {
			uint32_t ns = data(&c, at, text, n, ACK)->ns;

			best = ns < best ? ns : best;
			at += n;
			ns = answer(&c, at, "HTTP/1.1 204 No\r\n\r\n", 19, ACK)->ns;
			back = ns < back ? ns : back;
		}
		print_message("%s: %u ns for %u bytes of head, %u ns for the answer's packet\n",
			      kind ? "HTTP rules" : "no rules", best, n, back);
		over(&c);
		pod_of(e, 1)->word = BN_POD_WORD(16, BN_POL_OPEN);
		state_of(e)->epoch++;
	}
	env_free(e);
}

/* Programs for a kernel that cannot judge: not even a connection comes about, and one that was followed is over. */
static void unsupported(void **state)
{
	const struct env_opts opts = {.no_http = true};
	struct env *e = http_env_with(rules_text, 0, &opts);

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct pk syn = {REMOTE, A, 999, PORT, TCP, SYN, .len = NOPAYLOAD, .seq = FIRST - 1};
		const struct run r = {.to_pod = true, .ifindex = IF_A, .in_ifindex = IF_UP};
		const uint64_t open = BN_POD_WORD(BN_POL_OPEN, BN_POL_OPEN), rules_word = pod_of(e, 1)->word;
		struct result res;
		struct frame f;
		struct conn c;

		build(&f, &syn, v6);
		run_frame(e, &r, &f, &res);
		DROPS(&res, HTTP_UNSUPPORTED);
		pod_of(e, 1)->word = open;
		state_of(e)->epoch++;
		c = begin(e, v6);
		pod_of(e, 1)->word = rules_word;
		state_of(e)->epoch++;
		DROPS(data(&c, 0, "GET /ok HTTP/1.1\r\n" H "\r\n", 18 + sizeof(H) - 1 + 2, ACK), HTTP_UNSUPPORTED);
		DROPS(answer(&c, 0, "HTTP/1.1 200 OK\r\n", 17, ACK), HTTP_UNSUPPORTED);
	}
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_anywhere),	 cmocka_unit_test(changed_anywhere), cmocka_unit_test(out_of_order),
		cmocka_unit_test(changed_bytes), cmocka_unit_test(odd_packets), cmocka_unit_test(unsupported),	 cmocka_unit_test(pipelined),
		cmocka_unit_test(off_and_on),	 cmocka_unit_test(long_body),   
		cmocka_unit_test(damaged),
		cmocka_unit_test(server_acknowledges), cmocka_unit_test(upgrade),
		cmocka_unit_test(cost),
	};

	return cmocka_run_group_tests(tests, links_up, NULL);
}
