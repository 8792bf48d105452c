/* SPDX-License-Identifier: MIT */
/* Requests in the flow log: the kernel sends the first bytes of a head as they came. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "loader/serve/flows_priv.h"

struct span {
	const char *s;
	size_t n;
};

struct head {
	struct span method, path, host;
};

static bool is_token(struct span t)
{
	for (size_t i = 0; i < t.n; i++)
		if (!isalnum((unsigned char)t.s[i]) && !memchr("!#$%&'*+-.^_`|~", t.s[i], 15))
			return false;
	return t.n && t.n <= BN_HTTP_METHOD_MAX;
}

/* What stands before the first of these bytes. */
static struct span until(const char *s, const char *end, const char *stops)
{
	struct span t = { s, 0 };

	while (s + t.n < end && s[t.n] && !strchr(stops, s[t.n]))
		t.n++;
	return t;
}

static struct span trim(struct span t)
{
	while (t.n && (*t.s == ' ' || *t.s == '\t')) {
		t.s++;
		t.n--;
	}
	while (t.n && (t.s[t.n - 1] == ' ' || t.s[t.n - 1] == '\t'))
		t.n--;
	return t;
}

/* The target without its query: what people put there is not for logs. */
static void read_target(struct span t, struct head *h)
{
	const char *end = t.s + t.n;

	if (t.n > 7 && !strncasecmp(t.s, "http://", 7)) {
		h->host = until(t.s + 7, end, "/?");
		h->path = until(h->host.s + h->host.n, end, "?");
		if (!h->path.n)
			h->path = (struct span){ "/", 1 };
		return;
	}
	h->path = until(t.s, end, "?");
}

static void read_host(const char *s, const char *end, struct head *h)
{
	while (s < end) {
		struct span line = until(s, end, "\r\n"), name = until(line.s, line.s + line.n, ":");

		if (!line.n) /* the empty line, or what is no head */
			return;
		if (name.n == 4 && name.n < line.n && !strncasecmp(name.s, "host", 4)) {
			h->host = trim((struct span){ name.s + 5, line.n - 5 });
			return;
		}
		s += line.n;
		if (s < end && *s == '\r')
			s++;
		if (s < end && *s == '\n')
			s++;
	}
}

static void read_head(const uint8_t *bytes, size_t n, struct head *h)
{
	const char *s = (const char *)bytes, *end = s + n;
	struct span t;

	*h = (struct head){};
	while (s < end && (*s == '\r' || *s == '\n'))
		s++;
	t = until(s, end, " \r\n");
	if (!is_token(t))
		return;
	h->method = t;
	s += t.n;
	if (s == end || *s != ' ')
		return;
	t = until(s + 1, end, " \r\n");
	read_target(t, h);
	s = t.s + t.n;
	t = until(s, end, "\r\n");
	s = t.s + t.n;
	while (s < end && (*s == '\r' || *s == '\n') && s - (t.s + t.n) < 2)
		s++;
	if (!h->host.s)
		read_host(s, end, h);
}

/* Cut, and what is not plain ASCII written as in a URL. */
static json_t *text(struct span t, size_t max)
{
	char buf[3 * 256 + 4];
	size_t n = 0, i;

	for (i = 0; i < t.n && i < max && n + 7 < sizeof(buf); i++) {
		unsigned char c = (unsigned char)t.s[i];

		if (c > 0x20 && c < 0x7f)
			buf[n++] = (char)c;
		else
			n += (size_t)snprintf(buf + n, sizeof(buf) - n, "%%%02X", c);
	}
	if (i < t.n) {
		memcpy(buf + n, "...", 3);
		n += 3;
	}
	return json_stringn(buf, n);
}

void bn_flows_http(const struct bn_flows_env *env, const struct bn_http_event *e, json_t *o)
{
	static const char *const names[] = {
		[BN_HTTP_OK] = "",
#define X(name, text) [BN_HTTP_##name] = #name,
		BN_HTTP_LIST(X)
#undef X
	}, *const texts[] = {
		[BN_HTTP_OK] = "",
#define X(name, text) [BN_HTTP_##name] = text,
		BN_HTTP_LIST(X)
#undef X
	};
	struct bn_flows_match m = { .rule = -1 };
	json_t *http = json_object();
	struct head h;

	read_head(e->head, e->len < sizeof(e->head) ? e->len : sizeof(e->head), &h);
	json_object_set_new(http, "method", h.method.s ? text(h.method, 32) : json_null());
	json_object_set_new(http, "path", h.path.s ? text(h.path, 256) : json_null());
	json_object_set_new(http, "host", h.host.s ? text(h.host, 128) : json_null());
	if (e->http && e->http < BN_HTTP__MAX) {
		json_object_set_new(http, "reason", json_string(names[e->http]));
		json_object_set_new(http, "message", json_string(texts[e->http]));
	}
	if (env->match && env->match(env->data, e, &m)) {
		json_object_set_new(o, "policy", json_string(m.policy));
		if (m.rule >= 0) {
			json_object_set_new(o, "rule", json_integer(m.rule));
			json_object_set_new(http, "match", json_integer(m.entry));
		}
	}
	json_object_set_new(o, "http", http);
}
