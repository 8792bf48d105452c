// SPDX-License-Identifier: MIT
/* HTTP rules under audit: whatever a client does, no packet is dropped, answered or changed for it; what would
 * have been denied is reported and counted; and what passed that way is not followed when rules are enforced again.
 */
#include "tests/bpf/http_env.h"

#define H "Host: a\r\n"
#define OK "GET /ok HTTP/1.1\r\n" H "\r\n"
#define NO "GET /no HTTP/1.1\r\n" H "\r\n"
#define LEN(s) (sizeof(s) - 1)
#define MATCHES 3
#define URG 32

static const char rules_text[] =
	"[{\"method\":\"GET\",\"path\":{\"type\":\"PathPrefix\",\"value\":\"/ok\"},\"queryParams\":[]},"
	"{\"method\":\"POST\",\"path\":{\"type\":\"PathPrefix\",\"value\":\"/ok\"},"
	"\"headers\":[{\"name\":\"X-Team\",\"value\":\"red\"}],\"hostnames\":[\"a\"]},"
	"{\"path\":{\"value\":\"/ws\"},\"headers\":[{\"name\":\"Upgrade\",\"value\":\"websocket\"}]}]";

static void audit(struct env *e, bool on)
{
	state_of(e)->flags = (state_of(e)->flags & ~BN_STATE_F_AUDIT) | (on ? BN_STATE_F_AUDIT : 0);
	state_of(e)->epoch++;
}

static struct env *audit_env(uint32_t conns)
{
	struct env *e = http_env_of(rules_text, conns);

	audit(e, true);
	return e;
}

/* --- Events ----------------------------------------------------------------------------------- */

static struct {
	uint32_t n, reason[BN_DROP__MAX], denied;
	struct bn_http_event last; /* of those about requests */
} seen;

static int on_event(void *data, void *sample, size_t len)
{
	const struct bn_event *ev = sample;

	(void)data;
	if (ev->verdict == BN_EV_DENIED || ev->verdict == BN_EV_DROPPED)
		seen.denied++;
	if (ev->verdict != BN_EV_AUDIT)
		return 0;
	seen.n++;
	seen.reason[ev->reason]++;
	if (len >= sizeof(seen.last))
		memcpy(&seen.last, sample, sizeof(seen.last));
	return 0;
}

/* What came since the last time. */
static void events(struct env *e)
{
	struct ring_buffer *rb = ring_buffer__new(e->m->fd[BN_MAP_events], on_event, NULL, NULL);

	assert_non_null(rb);
	memset(&seen, 0, sizeof(seen));
	ring_buffer__consume(rb);
	ring_buffer__free(rb);
}

/* This since the last time, and nothing else. */
static void recorded(struct env *e, enum bn_drop reason)
{
	events(e);
	if (seen.n != !!reason || (reason && seen.reason[reason] != 1) || seen.denied)
		fail_msg("%u events, %u of %s, %u denials", seen.n, seen.reason[reason], drop_name(reason), seen.denied);
}

static void requests(struct env *e, uint64_t allowed, uint64_t audited)
{
	uint64_t sum = 0, reasons[BN_HTTP__MAX];
	static uint64_t before, audited_before;

	for (uint32_t k = 0; k < MATCHES; k++)
		sum += bn_http_stat(e->m, STATS + 1 + k);
	assert_int_equal(sum, allowed);
	assert_int_equal(bn_http_stat(e->m, STATS), 0);
	assert_int_equal(bn_http_stat(e->m, STATS + 1 + MATCHES), audited);
	assert_int_equal(bn_http_reason_counts(e->m, reasons), 0);
	assert_int_equal(reasons[BN_HTTP_OK] - before, allowed);
	before = reasons[BN_HTTP_OK];
	for (uint32_t k = 1; k < BN_HTTP__MAX; k++)
		assert_int_equal(reasons[k], 0);
	assert_int_equal(bn_http_audit_counts(e->m, reasons), 0);
	for (uint32_t k = sum = 0; k < BN_HTTP__MAX; k++)
		sum += reasons[k];
	assert_int_equal(sum - audited_before, audited);
	audited_before = sum;
	for (uint32_t k = 0; k < MATCHES + 2; k++)
		bn_http_stat_clear(e->m, STATS + k);
}

/* --- Packets ---------------------------------------------------------------------------------- */

/* As it came, and nothing counted as a drop. */
static void passes(struct env *e, const struct run *r, const struct frame *f)
{
	expect(e, "audit", r, f, PASS, 0, f);
}

static void to_server(struct conn *c, uint32_t at, const void *bytes, size_t n, uint8_t flags)
{
	struct frame f;

	segment(c, at, bytes, n, flags, &f);
	passes(c->e, &(struct run){.to_pod = true, .ifindex = IF_A + c->pod, .in_ifindex = IF_UP}, &f);
}

static void from_server(struct conn *c, uint32_t at, const void *bytes, size_t n, uint8_t flags)
{
	struct pk p = {c->pod, REMOTE, PORT, c->sport, TCP, flags, .len = n ? (uint16_t)n : NOPAYLOAD, .seq = c->ack,
		       .ack = FIRST + at};
	struct frame f;

	build(&f, &p, c->v6);
	if (n)
		memcpy(f.b + f.l4 + 20, bytes, n);
	sum_put(c, &p, &f);
	passes(c->e, &(struct run){.ifindex = IF_A + c->pod}, &f);
	c->ack += (uint32_t)n;
}

static void replied(struct conn *c, uint32_t at)
{
	from_server(c, at, "HTTP/1.1 204 No\r\n\r\n", 19, ACK);
}

/* With rules enforced: the connection is reset as one in mid-stream. */
static void is_reset(struct conn *c, uint32_t at)
{
	struct result *r = data(c, at, OK, LEN(OK), ACK);

	assert_int_equal(r->drops[BN_DROP_HTTP_MIDSTREAM], 1);
	assert_int_equal(r->out.b[(c->v6 ? 54 : 34) + 13] & RST, RST);
}

/* --- Tests ------------------------------------------------------------------------------------ */

/* Streams in two segments, cut anywhere: how many requests are allowed, and how many would have been denied, up to
 * where nobody can say any more what follows.
 */
static void cut_anywhere(void **state)
{
	static const struct {
		const char *text;
		uint32_t allowed, audited;
		bool followed;
	} rows[] = {
		{OK, 1, 0, true},
		{OK OK, 2, 0, true},
		{NO OK, 1, 1, true},
		{NO NO NO OK NO, 1, 4, true},
		{"DELETE /ok HTTP/1.1\r\n" H "\r\n" OK, 1, 1, true},
		{"GET /no/%2d/a?b=c%20&d HTTP/1.1\r\n" H "A: b\r\n\r\n" OK, 1, 1, true},
		{"GET http://b/no HTTP/1.1\r\n" H "\r\n" OK, 1, 1, true},
		{"POST /ok HTTP/1.1\r\nHost: b\r\nX-Team: red\r\n\r\n" OK, 1, 1, true},
		{"GET /no HTTP/1.0\r\n\r\n" OK, 1, 1, true},
		{"POST /ok HTTP/1.1\r\n" H "X-Team: blue\r\nContent-Length: 5\r\n\r\nhello" OK, 1, 1, true},
		{"POST /no HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\nT: 1\r\n\r\n" OK, 1, 1, true},
		{"HEAD /no HTTP/1.1\r\n" H "\r\n" OK, 1, 1, true},
		/* Read in two ways: not gone on with. */
		{"GET /ok HTTP/1.1\r\n\r\n" OK, 0, 1, false},
		{"GET /no HTTP/1.1\r\n" H " folded\r\n\r\n" OK, 0, 1, false},
		{"GET /no/../ok HTTP/1.1\r\n" H "\r\n" OK, 0, 1, false},
		{"GET /ok HTTP/1.1\n" H "\r\n" OK, 0, 1, false},
		{"POST /no HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx" OK, 0, 1, false},
		{OK "\x16\x03\x01\x02", 1, 1, false},
		{"CONNECT a:1 HTTP/1.1\r\n" H "\r\n" OK, 0, 1, false},
		{"GET /ok HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n" OK, 0, 1, false},
		{"GET /no HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n" OK, 0, 1, false},
		{"PUT /ok HTTP/1.1\r\n" H "Upgrade: other\r\n\r\n" OK, 0, 1, false},
	};
	struct env *e = audit_env(0);
	struct bn_http_conn f;

	(void)state;
	events(e);
	for (size_t k = 0; k < ARRAY_SIZE(rows); k++) {
		size_t n = strlen(rows[k].text);

		for (size_t cut = 1; cut <= n; cut++) {
			struct conn c = begin(e, cut & 1);

			to_server(&c, 0, rows[k].text, cut, ACK);
			if (cut < n)
				to_server(&c, (uint32_t)cut, rows[k].text + cut, n - cut, ACK);
			to_server(&c, 0, rows[k].text, n, ACK); /* again */
			events(e);
			if (seen.reason[BN_DROP_HTTP_DENIED] != rows[k].audited || seen.n != rows[k].audited || seen.denied)
				fail_msg("%zu events at %zu: %s", (size_t)seen.n, cut, rows[k].text);
			requests(e, rows[k].allowed, rows[k].audited);
			if ((followed(&c, &f) == 0) != rows[k].followed)
				fail_msg("followed, or not, at %zu: %s", cut, rows[k].text);
			from_server(&c, (uint32_t)n, NULL, 0, RST | ACK);
		}
	}
	assert_int_equal(bn_map_count(e->m, BN_MAP_http_conns), 0);
	assert_int_equal(bn_map_count(e->m, BN_MAP_http_blocks), 0);
	assert_int_equal(bn_http_share_get(e->m, 0).conns, 0);
	env_free(e);
}

/* What TCP allows a hostile client, and loses by itself, is recorded once, passes, and ends the judging. */
static void oddities(void **state)
{
	static const char bad[] = NO;
	struct env *e = audit_env(0);
	struct bn_http_conn f;

	(void)state;
	for (int k = 0; k < 9; k++) {
		struct conn c;

		audit(e, true);
		c = begin(e, k & 1);
		events(e);
		if (k > 1)
			to_server(&c, 0, OK, 9, ACK);
		switch (k) {
		case 0: /* the first segment is lost */
			to_server(&c, 9, OK + 9, LEN(OK) - 9, ACK);
			recorded(e, BN_DROP_HTTP_MIDSTREAM);
			break;
		case 1:
			to_server(&c, 0, OK, 9, ACK | URG);
			recorded(e, BN_DROP_HTTP_URGENT);
			break;
		case 2:
			to_server(&c, 0, bad, 9, ACK);
			recorded(e, BN_DROP_HTTP_CHANGED);
			break;
		case 3:
			to_server(&c, 9, OK + 9, 9, SYN | ACK);
			recorded(e, BN_DROP_HTTP_SYN_DATA);
			break;
		case 4:
			/* By itself that costs nothing: nobody reads it, and the right bytes come again. */
			c.sum = DAMAGED;
			to_server(&c, 9, "\n\n", 2, ACK);
			to_server(&c, 0, "\n\n", 2, ACK);
			to_server(&c, 5u << 20, OK, 9, ACK);
			from_server(&c, 5000, NULL, 0, ACK);
			c.sum = RIGHT;
			recorded(e, BN_DROP_NONE);
			assert_int_equal(followed(&c, &f), 0);
			to_server(&c, 9, OK NO + 9, LEN(OK NO) - 9, ACK);
			recorded(e, BN_DROP_HTTP_DENIED);
			assert_int_equal(followed(&c, &f), 0);
			to_server(&c, LEN(OK NO), "\n\n", 2, ACK);
			recorded(e, BN_DROP_HTTP_DENIED);
			break;
		case 5: /* beyond what can be kept */
			to_server(&c, 5u << 20, OK, 9, ACK);
			recorded(e, BN_DROP_HTTP_KEEP);
			break;
		case 6:
			from_server(&c, 5000, NULL, 0, ACK);
			recorded(e, BN_DROP_HTTP_MIDSTREAM);
			break;
		case 7:
			to_server(&c, 9, OK + 9, 9, FIN);
			recorded(e, BN_DROP_HTTP_SYN_DATA);
			break;
		case 8: /* two bytes of a denied request, between what came early: the gap is closed */
			to_server(&c, 12, "x HTTP", 6, ACK);
			to_server(&c, 9, "\n\nx", 3, ACK);
			recorded(e, BN_DROP_HTTP_DENIED);
			break;
		}
		assert_int_equal(followed(&c, &f), -ENOENT);
		to_server(&c, 0, NO, LEN(NO), ACK);
		to_server(&c, LEN(NO), "\n\n\n", 3, ACK | URG);
		replied(&c, LEN(NO) + 3);
		recorded(e, BN_DROP_NONE); /* once */
		audit(e, false);
		is_reset(&c, LEN(NO) + 3);
	}
	assert_int_equal(bn_map_count(e->m, BN_MAP_http_blocks), 0);
	env_free(e);
}

/* A CPU that does not get the claim passes what it has, and nobody follows the connection any more. */
static void busy(void **state)
{
	struct env *e = audit_env(0);
	struct conn c = begin(e, 0);
	struct bn_http_key k = {.client = addr_of(REMOTE, 0), .server = addr_of(A, 0), .cport = htons(c.sport),
				.sport = htons(PORT), .side = BN_DIR_INGRESS};
	struct bn_http_conn f;

	(void)state;
	to_server(&c, 0, OK, 9, ACK);
	assert_int_equal(followed(&c, &f), 0);
	f.claim = 77;
	assert_int_equal(bn_map_put(e->m, BN_MAP_http_conns, &k, &f), 0);
	events(e);
	to_server(&c, 9, "x", 1, ACK);
	recorded(e, BN_DROP_HTTP_BUSY);
	assert_int_equal(followed(&c, &f), 0);
	assert_true(f.lost);
	to_server(&c, 10, OK, 9, ACK);
	f.claim = 0;
	assert_int_equal(bn_map_put(e->m, BN_MAP_http_conns, &k, &f), 0);
	to_server(&c, 19, OK, 9, ACK);
	assert_int_equal(followed(&c, &f), -ENOENT);
	assert_int_equal(bn_http_share_get(e->m, 0).conns, 0);
	recorded(e, BN_DROP_NONE);
	audit(e, false);
	is_reset(&c, 28);
	env_free(e);
}

/* Rules enforced after audit: who has been followed is, from the next request on; a head that began under audit is
 * denied at its end; and the other way round nothing is reset.
 */
static void toggled(void **state)
{
	struct env *e = audit_env(0);
	struct bn_http_conn f;
	struct conn c = begin(e, 0);
	uint32_t at = 0;

	(void)state;
	to_server(&c, at, NO OK, LEN(NO OK), ACK);
	at += LEN(NO OK);
	replied(&c, at);
	replied(&c, at);
	audit(e, false);
	assert_int_equal(data(&c, at, OK, LEN(OK), ACK)->verdict, PASS);
	at += LEN(OK);
	answer(&c, at, "HTTP/1.1 204 No\r\n\r\n", 19, ACK);
	data(&c, at, NO, LEN(NO), ACK);
	assert_int_equal(followed(&c, &f), 0);
	assert_int_equal(f.phase, BN_HTTP_ANSWERED);
	/* It has its 403; audit does not bring it back to life. */
	audit(e, true);
	DROPS(data(&c, at, NULL, 0, ACK), HTTP_CLOSING);

	/* In the middle of a head. */
	c = begin(e, 1);
	to_server(&c, 0, NO, LEN(NO) - 1, ACK);
	assert_int_equal(followed(&c, &f), 0);
	audit(e, false);
	data(&c, LEN(NO) - 1, NO + LEN(NO) - 1, 1, ACK);
	assert_int_equal(followed(&c, &f), 0);
	assert_int_equal(f.phase, BN_HTTP_ANSWERED);
	assert_int_equal(f.reason, BN_HTTP_NO_MATCH);

	/* Enforced in the middle of a head, then audit: known to be denied at once, and passes. */
	c = begin(e, 0);
	assert_int_equal(data(&c, 0, NO, 5, ACK)->verdict, PASS);
	audit(e, true);
	events(e);
	to_server(&c, 5, NO + 5, LEN(NO) - 5, ACK);
	recorded(e, BN_DROP_HTTP_DENIED);
	assert_int_equal(followed(&c, &f), -ENOENT);

	/* A denied request that waits for its turn goes on. */
	audit(e, false);
	c = begin(e, 0);
	assert_int_equal(data(&c, 0, OK NO, LEN(OK NO), ACK)->verdict, PASS);
	assert_int_equal(followed(&c, &f), 0);
	assert_int_equal(f.phase, BN_HTTP_WAITING);
	audit(e, true);
	to_server(&c, LEN(OK), NO, LEN(NO), ACK);
	replied(&c, LEN(OK NO));
	assert_int_equal(followed(&c, &f), -ENOENT);
	audit(e, false);
	is_reset(&c, LEN(OK NO));
	env_free(e);
}

/* An allowed Upgrade that the server accepts is opaque, as when it is enforced; data that is too early ends it. */
static void upgrades(void **state)
{
#define WS "GET /ws HTTP/1.1\r\n" H "Upgrade: websocket\r\nConnection: upgrade\r\n\r\n"
	static const char switched[] = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n";
	struct env *e = audit_env(0);
	struct bn_http_conn f;
	struct conn c = begin(e, 0);

	(void)state;
	to_server(&c, 0, WS, LEN(WS), ACK);
	from_server(&c, LEN(WS), switched, LEN(switched), ACK);
	to_server(&c, LEN(WS), "\x81\x01x\n\n", 5, ACK);
	assert_int_equal(followed(&c, &f), 0);
	audit(e, false);
	assert_int_equal(data(&c, LEN(WS) + 5, "\x81\x01y\n\n", 5, ACK)->verdict, PASS);

	audit(e, true);
	c = begin(e, 0);
	events(e);
	to_server(&c, 0, WS "early", LEN(WS "early"), ACK);
	recorded(e, BN_DROP_HTTP_WAITING);
	from_server(&c, LEN(WS), switched, LEN(switched), ACK);
	audit(e, false);
	is_reset(&c, LEN(WS) + 5);
	env_free(e);
}

/* Open before the rules; no room; a set that is not there; ports that no rule set can be for. */
static void not_followed(void **state)
{
	struct env *e = audit_env(2);
	struct conn c[3];
	uint64_t word;

	(void)state;
	audit(e, true);
	for (int k = 0; k < 3; k++)
		c[k] = begin(e, 0);
	events(e);
	to_server(&c[0], 0, OK, LEN(OK), ACK);
	recorded(e, BN_DROP_NONE);
	to_server(&c[1], 0, OK, LEN(OK), ACK);
	recorded(e, BN_DROP_HTTP_SHARE);
	assert_int_equal(bn_http_share_get(e->m, 1).refused, 1);
	to_server(&c[1], LEN(OK), NO, LEN(NO), ACK);
	recorded(e, BN_DROP_NONE);

	word = pod_of(e, 1)->word;
	pod_of(e, 1)->word = BN_POD_WORD(BN_POL_OPEN, BN_POL_OPEN);
	state_of(e)->epoch++;
	c[0] = begin(e, 1);
	to_server(&c[0], 0, OK, LEN(OK), ACK);
	pod_of(e, 1)->word = word;
	state_of(e)->epoch++;
	events(e);
	to_server(&c[0], LEN(OK), OK, LEN(OK), ACK);
	recorded(e, BN_DROP_HTTP_MIDSTREAM);
	to_server(&c[0], 2 * LEN(OK), NO, LEN(NO), ACK);
	recorded(e, BN_DROP_NONE);

	/* No entry at all: the daemon is new here. */
	c[0] = (struct conn){.e = e, .sport = 999, .ack = SRV, .pod = A};
	to_server(&c[0], 0, OK, LEN(OK), ACK);
	recorded(e, BN_DROP_HTTP_MIDSTREAM);
	to_server(&c[0], LEN(OK), OK, LEN(OK), ACK);
	recorded(e, BN_DROP_NONE);
	audit(e, false);
	assert_int_equal(data(&c[0], 2 * LEN(OK), OK, LEN(OK), ACK)->drops[BN_DROP_HTTP_MIDSTREAM], 1);

	/* Its rules are not compiled yet. */
	audit(e, true);
	*(struct bn_cell *)bn_map_at(e->m, BN_MAP_pol_cells, 0) =
		(struct bn_cell){.action = BN_ACT_HTTP, .rule = 1, .http = SET + 1};
	state_of(e)->epoch++;
	over(&c[2]);
	c[2] = begin(e, 0);
	events(e);
	to_server(&c[2], 0, OK, LEN(OK), ACK);
	events(e);
	assert_int_equal(seen.n, 1);
	env_free(e);
}

/* MPTCP is not declined; a connection that has it on both sides is not judged. */
static void options(void **state)
{
	static const uint8_t mptcp[12] = {30, 12, 1, 0x81, 1, 2, 3, 4, 5, 6, 7, 8};
	struct env *e = audit_env(0);
	struct bn_http_conn f;

	(void)state;
	for (int both = 0; both < 2; both++) {
		struct conn c = {e, both, (uint16_t)(900 + both), 0, RIGHT, A};

		for (int reply = 0; reply < 2; reply++) {
			struct pk p = {REMOTE, A, c.sport, PORT, TCP, SYN, .len = sizeof(mptcp), .seq = FIRST - 1};
			struct frame o;

			if (reply)
				p = (struct pk){A, REMOTE, PORT, c.sport, TCP, SYN | ACK, .len = sizeof(mptcp),
						.seq = SRV - 1, .ack = FIRST};
			build(&o, &p, c.v6);
			o.b[o.l4 + 12] = (20 + sizeof(mptcp)) / 4 << 4;
			memset(o.b + o.l4 + 20, 1, sizeof(mptcp));
			if (!reply || both)
				memcpy(o.b + o.l4 + 20, mptcp, sizeof(mptcp));
			sum_put(&c, &p, &o);
			passes(e, reply ? &(struct run){.ifindex = IF_A}
					: &(struct run){.to_pod = true, .ifindex = IF_A, .in_ifindex = IF_UP}, &o);
		}
		c.ack = SRV;
		events(e);
		to_server(&c, 0, NO, LEN(NO), ACK);
		recorded(e, both ? BN_DROP_HTTP_MIDSTREAM : BN_DROP_HTTP_DENIED);
		assert_int_equal(followed(&c, &f), both ? -ENOENT : 0);
	}
	env_free(e);
}

/* Anything, in any order, from both: nothing is ever held up. */
static void anything(void **state)
{
	static const char *const parts[] = {OK, NO, WS, "POST /ok HTTP/1.1\r\n" H "X-Team: red\r\nContent-Length: 9\r\n\r\n",
					    "Transfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "\r\n", "x", "\n",
					    "HTTP/1.1 101 S\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"};
	static const uint8_t odd[] = {ACK | FIN, ACK | PSH, ACK | URG, RST, RST | ACK, FIN};
	struct env *e = audit_env(16);
	unsigned seed = 11;

	(void)state;
	for (int game = 0; game < 1500; game++) {
		struct conn c = begin(e, game & 1);
		uint32_t at = 0;

		for (int k = 0; k < 12; k++) {
			const char *s = parts[(size_t)rand_r(&seed) % ARRAY_SIZE(parts)];
			size_t n = 1 + (size_t)rand_r(&seed) % strlen(s);
			uint32_t jump = rand_r(&seed) % 8 ? at : at + (uint32_t)(rand_r(&seed) % 64) - 32;
			uint8_t flags = rand_r(&seed) % 8 ? ACK : odd[(size_t)rand_r(&seed) % sizeof(odd)];

			c.sum = rand_r(&seed) % 16 ? RIGHT : rand_r(&seed) % 2 ? DAMAGED : PARTIAL;
			if (rand_r(&seed) % 3)
				to_server(&c, jump, s, n, flags);
			else
				from_server(&c, jump, s, n, rand_r(&seed) % 8 ? ACK : flags | ACK);
			if (jump == at)
				at += (uint32_t)n;
		}
	}
	assert_true(bn_map_count(e->m, BN_MAP_http_conns) <= 16);
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_anywhere), cmocka_unit_test(oddities),	cmocka_unit_test(toggled),
		cmocka_unit_test(upgrades),	cmocka_unit_test(not_followed), cmocka_unit_test(options),	cmocka_unit_test(busy),
		cmocka_unit_test(anything),
	};

	return cmocka_run_group_tests(tests, links_up, NULL);
}
