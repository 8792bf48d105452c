// SPDX-License-Identifier: MIT
/* Random TCP against HTTP rules, with a model of the server: segments of any cut, in any order, twice, overlapping,
 * with other bytes than before, some of which the server does not take (a wrong checksum). What the server's application
 * then reads is judged by the parser once more: nothing that it denies may be in it. And the honest half: of what is
 * allowed everything arrives, whatever is lost. BN_SEED and BN_CONNS choose; a failure names the seed of its connection.
 */
#include <stdlib.h>

#include "tests/bpf/http_env.h"

#define TEXT_MAX 12000

static const char plain_text[] =
	"[{\"method\":\"GET\",\"path\":{\"value\":\"/ok\"}},"
	"{\"method\":\"POST\",\"path\":{\"value\":\"/ok\"},\"headers\":[{\"name\":\"X-Team\",\"value\":\"red\"}]},"
	"{\"method\":\"HEAD\",\"path\":{\"value\":\"/ok\"}}]";
static const char switch_text[] =
	"[{\"method\":\"GET\",\"path\":{\"value\":\"/ok\"}},"
	"{\"method\":\"POST\",\"path\":{\"value\":\"/ok\"},\"headers\":[{\"name\":\"X-Team\",\"value\":\"red\"}]},"
	"{\"method\":\"HEAD\",\"path\":{\"value\":\"/ok\"}},"
	"{\"path\":{\"value\":\"/ws\"},\"headers\":[{\"name\":\"Upgrade\",\"value\":\"websocket\"}]}]";

struct text {
	uint8_t b[TEXT_MAX];
	uint32_t n;
	uint32_t upgrade; /* end of the Upgrade, which the honest client waits behind; 0: none */
	bool switches;
};

/* The server: takes what passes, in turn, and answers. */
struct server {
	struct bn_http_state ref;
	uint8_t b[2 * TEXT_MAX];
	uint8_t known[2 * TEXT_MAX];
	uint32_t next;	/* the first byte that it has not got */
	uint32_t begin; /* of the request in progress */
	uint32_t heads, answered;
	char kinds[TEXT_MAX / 16];
	uint8_t ends[2 * TEXT_MAX]; /* a FIN in this place */
	bool last_wins, dead, switched, ended;
};

struct game {
	struct conn c;
	struct text *s, *other;
	struct server srv;
	uint32_t seed, rnd, acked; /* acked: of the server's bytes */
	bool honest;
};

static uint32_t rnd(struct game *g, uint32_t below)
{
	g->rnd = g->rnd * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)g->rnd * below >> 32);
}

/* --- Streams ----------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf((char *)t->b + t->n, TEXT_MAX - t->n, fmt, ap);
	va_end(ap);
	if (n > 0 && t->n + (uint32_t)n < TEXT_MAX)
		t->n += (uint32_t)n;
}

static void chunks(struct game *g, struct text *t)
{
	for (uint32_t k = rnd(g, 30); k; k--) {
		uint32_t n = 1 + rnd(g, 40);

		put(t, rnd(g, 2) ? "%x\r\n%.*s\r\n" : "0%X;e\r\n%.*s\r\n", n, (int)n,
		    "GET /no HTTP/1.1\r\nHost: a\r\n\r\nGET /no HTTP/1.1\r\n");
	}
	put(t, "0\r\n%s\r\n", rnd(g, 2) ? "T: 1\r\n" : "");
}

static void request(struct game *g, struct text *t, bool ws)
{
	switch (rnd(g, g->honest ? 7 : 11)) {
	case 0:
	case 1:
		put(t, "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n");
		break;
	case 2:
		put(t, "POST /ok HTTP/1.1\r\nHost: a\r\nX-Team: red\r\nContent-Length: 35\r\n\r\n"
		       "GET /no HTTP/1.1\r\nHost: aaaaaaaaa\r\n\r\n");
		break;
	case 3:
		put(t, "POST /ok HTTP/1.1\r\nHost: a\r\nX-Team: red\r\nTransfer-Encoding: chunked\r\n\r\n");
		chunks(g, t);
		break;
	case 4:
		put(t, "HEAD /ok HTTP/1.1\r\nHost: a\r\n\r\n");
		break;
	case 5:
		put(t, "GET /ok HTTP/1.1\r\nHost: a\r\nX: %0*u\r\nY: %0*u\r\n\r\n", (int)rnd(g, 900), 1, (int)rnd(g, 900), 2);
		break;
	case 6:
		if (!ws || t->upgrade)
			break;
		put(t, "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
		t->upgrade = t->n;
		t->switches = rnd(g, 2);
		if (t->switches)
			put(t, "%0*u not HTTP at all \r\n\r\n", (int)rnd(g, 400), 3);
		break;
	case 7:
		put(t, "GET /no HTTP/1.1\r\nHost: a\r\n\r\n");
		break;
	case 8:
		put(t, "POST /ok HTTP/1.1\r\nHost: a\r\nX-Team: blue\r\nContent-Length: 3\r\n\r\nyes");
		break;
	case 9:
		put(t, "GET /ok HTTP/1.1\r\nHost: a\nX: y\r\n\r\n");
		break;
	default:
		put(t, "POST /ok HTTP/1.1\r\nHost: a\r\nX-Team: red\r\nContent-Length: 999\r\n\r\n");
	}
}

static void stream(struct game *g, struct text *t, bool ws)
{
	t->n = t->upgrade = 0;
	t->switches = false;
	do {
		request(g, t, ws);
	} while (rnd(g, 5) && t->n < TEXT_MAX - 3000 && !(t->upgrade && t->switches));
}

/* --- The server's side --------------------------------------------------------------------------- */

static void put_segment(struct game *g, bool to_pod, uint32_t at, const void *bytes, uint32_t n, uint8_t flags,
			struct frame *out, int *verdict)
{
	struct pk p = {to_pod ? REMOTE : A, to_pod ? A : REMOTE, to_pod ? g->c.sport : PORT, to_pod ? PORT : g->c.sport,
		       TCP, flags, .len = n ? (uint16_t)n : NOPAYLOAD};
	struct __sk_buff ctx = {.ifindex = IF_A, .ingress_ifindex = to_pod ? IF_UP : 0};
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_out = out->b, .data_size_out = sizeof(out->b), .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = 1);
	struct frame f;

	p.seq = to_pod ? FIRST + at : g->c.ack;
	p.ack = to_pod ? g->acked : FIRST + g->srv.next;
	build(&f, &p, g->c.v6);
	if (n)
		memcpy(f.b + f.l4 + 20, bytes, n);
	sum_put(&g->c, &p, &f);
	o.data_in = f.b;
	o.data_size_in = (uint32_t)f.len;
	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(to_pod ? g->c.e->skel->progs.to_pod
									: g->c.e->skel->progs.from_pod), &o), 0);
	out->len = o.data_size_out;
	out->l4 = f.l4;
	*verdict = (int)o.retval;
	if (!to_pod)
		g->c.ack += n;
}

/* What the application reads. */
static void reads(struct game *g)
{
	struct server *s = &g->srv;

	for (; !s->ended && (s->known[s->next] || s->ends[s->next]); s->next++) {
		size_t used;
		int r;

		if (s->ends[s->next]) { /* what came from behind it is thrown away */
			s->ended = true;
			if (bn_http_feed_end(&s->ref) < 0)
				fail_msg("seed %u: the server reads the end at %u, inside a head: %.*s", g->seed, s->next,
					 (int)(s->next - s->begin), s->b + s->begin);
			return;
		}
		r = bn_http_feed(rules, &s->ref, s->b + s->next, 1, &used);

		if (r < 0)
			fail_msg("seed %u: the server has read what is denied (%s) at %u: ...%.*s", g->seed,
				 bn_http_reason_name((enum bn_http_reason)-r), s->next, (int)(s->next - s->begin) + 1,
				 s->b + s->begin);
		if (r > 0)
			s->kinds[s->heads++] = memcmp(s->b + s->begin, "GET /ws", 7) ? (char)s->b[s->begin] : 'U';
		if (bn_http_feed_idle(&s->ref))
			s->begin = s->next + 1;
	}
}

static void takes(struct game *g, const struct frame *f)
{
	struct server *s = &g->srv;
	uint32_t seq, at, n;

	memcpy(&seq, f->b + f->l4 + 4, 4);
	at = ntohl(seq) - FIRST;
	if (f->b[f->l4 + 13] & RST) {
		s->dead |= at == s->next;
		return;
	}
	n = (uint32_t)(f->len - f->l4 - (f->b[f->l4 + 12] >> 4) * 4u);
	for (uint32_t k = 0; k < n && !s->dead; k++) {
		uint32_t i = at + k;

		if (i < s->next || i >= TEXT_MAX || (s->known[i] && !s->last_wins))
			continue;
		s->b[i] = f->b[f->len - n + k];
		s->known[i] = 1;
	}
	if ((f->b[f->l4 + 13] & FIN) && at + n >= s->next && at + n < TEXT_MAX)
		s->ends[at + n] = 1;
	reads(g);
}

/* The next answer that is due, or an acknowledgement. */
static void says(struct game *g)
{
	static const char trap[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
	struct server *s = &g->srv;
	struct frame out;
	char text[200] = "";
	int verdict;
	char kind = s->answered < s->heads ? s->kinds[s->answered] : 0;
	bool complete = s->answered + 1 < s->heads || bn_http_feed_idle(&s->ref) || kind == 'U';

	if (s->dead)
		return;
	if (kind && complete && rnd(g, 3)) {
		bool sw = kind == 'U' && (g->honest ? g->s->switches : rnd(g, 2));

		if (sw)
			strcpy(text, trap);
		else if (kind == 'H')
			snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", strlen(trap));
		else if (rnd(g, 2))
			snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(trap), trap);
		else
			snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n%s\r\n0\r\n\r\n",
				 strlen(trap), trap);
		s->answered++;
		if (kind == 'U') {
			bn_http_feed_answer(&s->ref, sw);
			s->switched |= sw;
			s->begin = s->next;
		}
	}
	put_segment(g, false, 0, text, (uint32_t)strlen(text), ACK, &out, &verdict);
	if (rnd(g, 2))
		g->acked = g->c.ack;
}

/* --- The client's side --------------------------------------------------------------------------- */

static void one_segment(struct game *g)
{
	struct text *t = g->honest || rnd(g, 3) ? g->s : g->other;
	uint32_t near = rnd(g, 3) ? g->srv.next : 0, at, n, end = t->n;
	struct frame out;
	int verdict;
	bool fin;

	if (g->honest && t->upgrade && g->srv.next <= t->upgrade && !(g->srv.answered && g->srv.kinds[g->srv.answered - 1] == 'U'))
		end = t->upgrade;
	at = near + (rnd(g, 2) ? 0 : rnd(g, rnd(g, 2) ? 60 : 2000));
	if (at >= end)
		at = near < end ? near : 0;
	n = 1 + rnd(g, rnd(g, 2) ? 30 : 1300);
	if (n > end - at)
		n = end - at;
	if (!rnd(g, 10))
		g->acked = g->c.ack;
	if (g->honest && g->srv.next == t->n && rnd(g, 2)) {
		at = t->n;
		n = 0;
	}
	fin = g->honest ? at + n == t->n && rnd(g, 2) : !rnd(g, 20);
	put_segment(g, true, at, n ? t->b + at : NULL, n, fin ? ACK | FIN : ACK, &out, &verdict);
	if (verdict == PASS && rnd(g, 4))
		takes(g, &out);
}

/* What makes those on the way believe that the connection ends or begins, and the server not: it is nowhere near. */
static void pretends(struct game *g)
{
	static const uint8_t kinds[] = {RST, RST | ACK, SYN, SYN | ACK, FIN | ACK, FIN | ACK, ACK};
	uint32_t at = rnd(g, 2) ? rnd(g, 3) ? rnd(g, 3000) : g->srv.next : 0x40000000 + rnd(g, 9);
	struct frame out;
	int verdict;

	put_segment(g, true, at, NULL, 0, kinds[rnd(g, ARRAY_SIZE(kinds))], &out, &verdict);
	if (verdict == PASS && (out.b[out.l4 + 13] & (RST | FIN)))
		takes(g, &out);
}

static void play(struct env *e, uint32_t seed, bool honest, bool ws)
{
	static struct text s, other;
	struct game *g = calloc(1, sizeof(*g));
	struct bn_http_conn f;
	uint32_t steps = 0;

	assert_non_null(g);
	*g = (struct game){.s = &s, .other = &other, .seed = seed, .rnd = seed * 2654435761u, .honest = honest};
	g->srv.last_wins = rnd(g, 2);
	stream(g, &s, ws);
	stream(g, &other, ws);
	if (rnd(g, 2)) { /* the same but for a few bytes */
		other = s;
		for (uint32_t k = 1 + rnd(g, 4); k; k--)
			other.b[rnd(g, other.n ?: 1)] = (uint8_t)("/n\r\n :0G"[rnd(g, 8)]);
	}
	g->c = begin(e, seed & 1);
	g->acked = g->c.ack;
	while (!g->srv.dead && s.n && ++steps < (honest ? 4000u : 150u)) {
		if (honest && g->srv.next == s.n && g->srv.ended && g->srv.answered == g->srv.heads)
			break;
		if (!honest && !rnd(g, 12))
			pretends(g);
		else if (rnd(g, 4))
			one_segment(g);
		else
			says(g);
	}
	if (honest && s.n && (g->srv.dead || !g->srv.ended || g->srv.next != s.n))
		fail_msg("seed %u: %u of %u bytes arrived%s: %.*s", seed, g->srv.next, s.n, g->srv.dead ? ", then a reset" : "",
			 (int)s.n, s.b);
	g->c.ack = g->acked;
	answer(&g->c, g->srv.next, NULL, 0, RST | ACK);
	if (honest && !followed(&g->c, &f) && f.phase != BN_HTTP_ANSWERED)
		fail_msg("seed %u: still followed after the reset", seed);
	free(g);
}

static void games(bool honest, const char *text, bool ws)
{
	const char *seed = getenv("BN_SEED"), *conns = getenv("BN_CONNS");
	uint32_t first = seed ? (uint32_t)atoi(seed) : 1, n = conns ? (uint32_t)atoi(conns) : 600;
	struct env *e;

	bn_http_rules_freep(&rules);
	e = http_env_of(text, 0);
	for (uint32_t k = 0; k < n; k++)
		play(e, first + k, honest, ws);
	env_free(e);
}

static void hostile(void **state)
{
	(void)state;
	games(false, plain_text, false);
}

static void hostile_upgrade(void **state)
{
	(void)state;
	games(false, switch_text, true);
}

static void honest(void **state)
{
	(void)state;
	games(true, plain_text, false);
}

static void honest_upgrade(void **state)
{
	(void)state;
	games(true, switch_text, true);
}

/* More small pieces out of order than one run looks at, with the denied request behind them: the segment that closes
 * the gap does not pass.
 */
static void too_many(void **state)
{
	static const char head[] = "POST /ok HTTP/1.1\r\nHost: a\r\nX-Team: red\r\nTransfer-Encoding: chunked\r\n\r\n";
	static const char no[] = "0\r\n\r\nGET /no HTTP/1.1\r\nHost: a\r\n\r\n";
	const uint32_t count = 600000, size = 6 * count, first = 1400;
	struct game *g = calloc(1, sizeof(*g));
	char *b = malloc(sizeof(head) + size + sizeof(no));
	uint32_t at = sizeof(head) - 1, end;
	struct bn_http_conn f;
	struct frame out;
	int verdict;

	(void)state;
	assert_true(g && b);
	memcpy(b, head, at);
	for (uint32_t k = 0; k < count; k++, at += 6)
		memcpy(b + at, "1\r\nx\r\n", 6);
	memcpy(b + at, no, sizeof(no) - 1);
	end = at + (uint32_t)sizeof(no) - 1;
	bn_http_rules_freep(&rules);
	g->c = begin(http_env_of(plain_text, 0), 0);
	g->acked = g->c.ack;
	put_segment(g, true, 0, b, 1, ACK, &out, &verdict);
	for (at = first; at < end; at += 1400) {
		put_segment(g, true, at, b + at, end - at < 1400 ? end - at : 1400, ACK, &out, &verdict);
		assert_int_equal(verdict, PASS);
	}
	put_segment(g, true, 1, b + 1, first - 1, ACK, &out, &verdict);
	assert_true(verdict == SHOT || (out.b[out.l4 + 13] & RST));
	assert_int_equal(followed(&g->c, &f), 0);
	assert_int_equal(f.phase, BN_HTTP_ANSWERED);
	assert_int_equal(f.nblocks, 0);
	env_free(g->c.e);
	free(b);
	free(g);
}

/* Of more requests than the follower of the answers has bits for one is a HEAD: the length that its answer names is not
 * the length of a body, and what lies that far behind it, in the body of another answer, is not the server's 101.
 */
static void head_behind_many(void **state)
{
	static const char get[] = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n", head[] = "HEAD /ok HTTP/1.1\r\nHost: a\r\n\r\n";
	static const char ask[] = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
	static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	static const char to_head[] = "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n";
	static const char to_get[] = "HTTP/1.1 200 OK\r\nContent-Length: 75\r\n\r\nx" "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
				     "HTTP/1.1 101 Switching Protocols\r\n\r\n";
	static const char bad[] = "GET /no HTTP/1.1\r\nHost: a\r\n\r\n";
	static char text[64 * sizeof(get)];
	struct env *e;

	(void)state;
	bn_http_rules_freep(&rules);
	e = http_env_of(switch_text, 0);
	for (uint32_t many = 20; many < 80; many += 43) { /* 63: the HEAD is the first one without a bit */
		struct conn c = begin(e, 0);
		uint32_t at = 0, n = 0;
		struct bn_http_conn f;

		assert_int_equal(data(&c, at, get, sizeof(get) - 1, ACK)->verdict, PASS);
		at += (uint32_t)sizeof(get) - 1;
		for (uint32_t k = 0; k < many; k++)
			n += (uint32_t)sprintf(text + n, "%s", get);
		assert_int_equal(data(&c, at, text, n, ACK)->verdict, PASS);
		at += n;
		n = (uint32_t)sprintf(text, "%s%s%s", head, get, ask);
		assert_int_equal(data(&c, at, text, n, ACK)->verdict, PASS);
		at += n;
		for (uint32_t k = 0; k <= many; k++)
			assert_int_equal(answer(&c, at, ok, sizeof(ok) - 1, ACK)->verdict, PASS);
		assert_int_equal(answer(&c, at, to_head, sizeof(to_head) - 1, ACK)->verdict, PASS);
		assert_int_equal(answer(&c, at, to_get, sizeof(to_get) - 1, ACK)->verdict, PASS);
		assert_int_equal(answer(&c, at, ok, sizeof(ok) - 1, ACK)->verdict, PASS);
		data(&c, at, bad, sizeof(bad) - 1, ACK);
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.reason, BN_HTTP_NO_MATCH);
		over(&c);
	}
	env_free(e);
}

/* Both have closed, but the answer got lost: the request comes again, and passes. Then the client has everything. */
static void closed_and_lost(void **state)
{
	static const char get[] = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n", ok[] = "HTTP/1.1 200 OK\r\n\r\n";
	const uint32_t n = sizeof(get) - 1, m = sizeof(ok) - 1;
	struct bn_http_conn f;
	struct env *e;

	(void)state;
	bn_http_rules_freep(&rules);
	e = http_env_of(plain_text, 0);
	for (int v6 = 0; v6 < 2; v6++) {
		struct conn c = begin(e, v6);

		assert_int_equal(data(&c, 0, get, n, ACK | FIN)->verdict, PASS);
		assert_int_equal(answer(&c, n + 1, ok, m, ACK | FIN)->verdict, PASS);
		c.ack -= m;
		assert_int_equal(data(&c, 0, get, n, ACK | FIN)->verdict, PASS);
		c.ack += m + 1;
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(data(&c, n + 1, NULL, 0, ACK)->verdict, PASS);
		assert_int_equal(followed(&c, &f), -ENOENT);
	}
	env_free(e);
}

/* A bit that flips on the wire makes no end, no acknowledgement and no gap. */
static void damaged_flags(void **state)
{
	static const char get[] = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
	const uint32_t n = sizeof(get) - 1;
	struct bn_http_conn f;
	struct env *e;

	(void)state;
	bn_http_rules_freep(&rules);
	e = http_env_of(plain_text, 0);
	for (int v6 = 0; v6 < 2; v6++) {
		struct conn c = begin(e, v6);

		c.sum = DAMAGED;
		c.ack += 1 << 11; /* nor does it choose another of the server's SYN-ACKs */
		DROPS(data(&c, 0, get, n, ACK), HTTP_CHECKSUM);
		c.ack -= 1 << 11;
		c.sum = RIGHT;
		assert_int_equal(data(&c, 0, get, n, ACK)->verdict, PASS);
		c.sum = DAMAGED;
		DROPS(answer(&c, n, NULL, 0, ACK | RST), HTTP_CHECKSUM);
		DROPS(answer(&c, n, NULL, 0, ACK | FIN), HTTP_CHECKSUM);
		DROPS(answer(&c, n, NULL, 0, ACK | SYN), HTTP_CHECKSUM);
		DROPS(data(&c, 0, NULL, 0, ACK | RST), HTTP_CHECKSUM);
		DROPS(data(&c, n, NULL, 0, ACK | FIN), HTTP_CHECKSUM);
		DROPS(data(&c, n + 5000, get, n, ACK), HTTP_CHECKSUM);
		c.ack += 1 << 20;
		DROPS(answer(&c, n, get, n, ACK), HTTP_CHECKSUM);
		c.ack -= (1 << 20) + n;
		c.sum = RIGHT;
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.flags, 0);
		assert_int_equal(f.top - FIRST, n);
		assert_int_equal(f.srv_end, c.ack);
		assert_int_equal(data(&c, n, get, n, ACK)->verdict, PASS);
		over(&c);
	}
	env_free(e);
}

/* A server that greets is followed from its first byte on. */
static void server_speaks_first(void **state)
{
	static const char good[] = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n", bad[] = "GET /no HTTP/1.1\r\nHost: a\r\n\r\n";
	const uint32_t n = sizeof(good) - 1;
	struct bn_http_conn f;
	struct env *e;

	(void)state;
	bn_http_rules_freep(&rules);
	e = http_env_of(plain_text, 0);
	for (int v6 = 0; v6 < 2; v6++) {
		struct conn c = begin(e, v6);

		assert_int_equal(answer(&c, 0, "220 hello\r\n", 11, ACK)->verdict, PASS);
		assert_int_equal(data(&c, 0, good, n, ACK)->verdict, PASS);
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.st.requests, 1);
		answer(&c, n, "HTTP/1.1 204 No\r\n\r\n", 19, ACK | PSH);
		data(&c, n, bad, n, ACK);
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.phase, BN_HTTP_ANSWERED);
		over(&c);
		/* What it writes goes on in the next segment: that is not the whole answer. */
		c = begin(e, v6);
		assert_int_equal(data(&c, 0, good, n, ACK)->verdict, PASS);
		answer(&c, n, "HTTP/1.1 204 No\r\n", 17, ACK);
		data(&c, n, bad, n, ACK);
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.phase, BN_HTTP_WAITING);
		answer(&c, n, "\r\n", 2, ACK | PSH);
		usleep(600000);
		data(&c, n, bad, n, ACK);
		assert_int_equal(followed(&c, &f), 0);
		assert_int_equal(f.phase, BN_HTTP_ANSWERED);
		over(&c);
		/* Not what it says it heard: another of its SYN-ACKs. */
		c = begin(e, v6);
		assert_int_equal(answer(&c, 9, "220 hello\r\n", 11, ACK)->verdict, PASS);
		assert_int_equal(followed(&c, &f), -ENOENT);
	}
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile),
		cmocka_unit_test(hostile_upgrade),
		cmocka_unit_test(honest),
		cmocka_unit_test(honest_upgrade),
		cmocka_unit_test(too_many),
		cmocka_unit_test(head_behind_many),
		cmocka_unit_test(closed_and_lost),
		cmocka_unit_test(damaged_flags),
		cmocka_unit_test(server_speaks_first),
	};

	return cmocka_run_group_tests(tests, links_up, NULL);
}
