/* SPDX-License-Identifier: MIT */
/* The http part of a rule of an HTTPNetworkPolicy, in the words of Gateway API's HTTPRouteMatch.
 * What could never match, or not mean what it seems to, is refused.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/object_read.h"

enum {
	METHOD_MAX = 32,
	PATH_MAX_LEN = 1024,
	NAME_MAX_LEN = 256,
	FIELDS_MAX = 16, /* headers, query parameters, host names of one match */
};

static bool is_token(const char *s)
{
	size_t n = 0;

	for (; s[n]; n++) {
		if (!isalnum((unsigned char)s[n]) && !strchr("!#$%&'*+-.^_`|~", s[n]))
			return false;
	}
	return n;
}

static bool printable(const char *s)
{
	for (; *s; s++) {
		if (*s <= ' ' || *s > '~')
			return false;
	}
	return true;
}

static int intern_lower(struct bn_rd *rd, const char *s, const char **ret)
{
	char buf[NAME_MAX_LEN + 1];
	size_t i;

	for (i = 0; s[i] && i < NAME_MAX_LEN; i++)
		buf[i] = (char)tolower((unsigned char)s[i]);
	buf[i] = 0;
	return bn_rd_intern(rd, buf, ret);
}

/* A path as requests are matched with it: %XX of unreserved bytes decoded. s begins with '/' and is printable. */
static int normal_path(struct bn_rd *rd, const struct bn_at *at, const char *s, char buf[static PATH_MAX_LEN + 1])
{
	static const char digits[] = "0123456789abcdefABCDEF";
	unsigned byte;
	size_t n = 0;

	for (; *s; s++) {
		buf[n++] = *s;
		if (strchr("?#\\", *s))
			return bn_rd_fail(rd, at, "holds '%c', which no normalised path has", *s);
		if (*s != '%')
			continue;
		if (!s[1] || !strchr(digits, s[1]) || !s[2] || !strchr(digits, s[2]))
			return bn_rd_fail(rd, at, "holds a '%%' without two hexadecimal digits behind it");
		sscanf(s + 1, "%2x", &byte);
		if (!byte || byte == '/' || byte == '\\')
			return bn_rd_fail(rd, at, "holds '%.3s', which no normalised path has", s);
		if (byte > '~' || (!isalnum((int)byte) && !strchr("-._~", (int)byte)))
			continue;
		buf[n - 1] = (char)byte;
		s += 2;
	}
	buf[n] = 0;
	return 0;
}

/* Requests with an element that is empty, but for the last, or a dot segment are denied before they are matched;
 * what stands behind ';' in it does not count.
 */
static int check_path(struct bn_rd *rd, const struct bn_at *at, const char *s)
{
	char buf[PATH_MAX_LEN + 1];
	const char *p, *end;
	int r;

	if (*s != '/')
		return bn_rd_fail(rd, at, "must begin with '/'");
	if (!printable(s))
		return bn_rd_fail(rd, at, "holds white space or bytes beyond ASCII: encode them");
	r = normal_path(rd, at, s, buf);
	for (p = buf; !r && *p == '/'; p = end) {
		size_t name;

		p++;
		end = p + strcspn(p, "/");
		for (name = 0; p + name < end; name++)
			if (p[name] == ';' || !strncasecmp(p + name, "%3b", 3))
				break;
		if ((name == 1 && *p == '.') || (name == 2 && !strncmp(p, "..", 2)))
			r = bn_rd_fail(rd, at, "holds a dot segment, which no normalised path has");
		else if (!name && (p != end || *end))
			r = bn_rd_fail(rd, at, "holds an empty element, which no normalised path has");
	}
	return r;
}

static int parse_path(struct bn_rd *rd, const struct bn_at *up, const json_t *json,
		      struct bn_http_match *m)
{
	static const char *const types[] = {
		[BN_MATCH_EXACT] = "Exact",
		[BN_MATCH_PREFIX] = "PathPrefix",
		[BN_MATCH_REGEX] = "RegularExpression",
	};
	static const char *const known[] = { "type", "value", NULL };
	const struct bn_at *at = BN_AT(up, "path");
	const json_t *path;
	const char *s;
	int r, type;

	r = bn_rd_get(rd, up, json, "path", JSON_OBJECT, &path);
	if (r < 0 || !path)
		return r;
	r = bn_rd_only(rd, at, path, known);
	r = r ?: bn_rd_enum(rd, at, path, "type", types, ARRAY_SIZE(types), BN_MATCH_PREFIX, &type);
	r = r ?: bn_rd_str(rd, at, path, "value", PATH_MAX_LEN, &s);
	if (r < 0)
		return r;
	s = s ?: "/";
	m->has_path = true;
	m->path_type = (enum bn_match_type)type;
	if (type != BN_MATCH_REGEX)
		r = check_path(rd, BN_AT(at, "value"), s);
	else if (!*s)
		r = bn_rd_fail(rd, BN_AT(at, "value"), "is required");
	return r ?: bn_rd_intern(rd, s, &m->path);
}

/* A request's header has no such value, once white space around it is gone. */
static int check_value(struct bn_rd *rd, const struct bn_at *at, const char *s)
{
	if (strchr(" \t", *s) || strchr(" \t", s[strlen(s) - 1]))
		return bn_rd_fail(rd, at, "begins or ends with white space, which is no part of a header's value");
	for (; *s; s++) {
		if ((*s >= 0 && *s < ' ' && *s != '\t') || *s == 127)
			return bn_rd_fail(rd, at, "holds a control byte, which no header's value has");
	}
	return 0;
}

static int parse_kv(struct bn_rd *rd, const struct bn_at *at, const json_t *json, bool header,
		    struct bn_http_kv *kv)
{
	static const char *const types[] = {
		[BN_MATCH_EXACT] = "Exact",
		[BN_MATCH_REGEX] = "RegularExpression",
	};
	static const char *const known[] = { "type", "name", "value", NULL };
	const char *name, *value;
	int r, type;

	if (!json_is_object(json))
		return bn_rd_fail(rd, at, "must be an object");
	r = bn_rd_only(rd, at, json, known);
	r = r ?: bn_rd_enum(rd, at, json, "type", types, ARRAY_SIZE(types), BN_MATCH_EXACT, &type);
	r = r ?: bn_rd_str(rd, at, json, "name", NAME_MAX_LEN, &name);
	r = r ?: bn_rd_str(rd, at, json, "value", BN_STR_MAX, &value);
	if (r < 0)
		return r;
	if (!name || !*name)
		return bn_rd_fail(rd, BN_AT(at, "name"), "is required");
	if (!is_token(name))
		return bn_rd_fail(rd, BN_AT(at, "name"), "'%.64s' is not a %s's name", name,
				  header ? "header" : "query parameter");
	if (!value || !*value)
		return bn_rd_fail(rd, BN_AT(at, "value"), "is required");
	kv->type = (enum bn_match_type)type;
	r = header && type == BN_MATCH_EXACT ? check_value(rd, BN_AT(at, "value"), value) : 0;
	if (r < 0)
		return r;
	r = header ? intern_lower(rd, name, &kv->name) : bn_rd_intern(rd, name, &kv->name);
	return r ?: bn_rd_intern(rd, value, &kv->value);
}

static int parse_kvs(struct bn_rd *rd, const struct bn_at *up, const json_t *json, bool header,
		     struct bn_http_match *m)
{
	struct bn_http_kv **kvs = header ? &m->headers : &m->queries;
	uint32_t *count = header ? &m->nheaders : &m->nqueries;
	const char *key = header ? "headers" : "queryParams";
	const json_t *list;
	size_t n, i, j;
	int r;

	r = bn_rd_list(rd, up, json, key, FIELDS_MAX, &list, &n);
	r = r ?: bn_rd_array(rd, kvs, n, sizeof(**kvs));
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *at = BN_AT_I(BN_AT(up, key), i);

		r = parse_kv(rd, at, json_array_get(list, i), header, &(*kvs)[i]);
		for (j = 0; !r && j < i; j++) {
			if ((*kvs)[j].name == (*kvs)[i].name)
				r = bn_rd_fail(rd, BN_AT(at, "name"), "'%.64s' stands twice",
					       (*kvs)[i].name);
		}
	}
	*count = (uint32_t)n;
	return r;
}

static int parse_hosts(struct bn_rd *rd, const struct bn_at *up, const json_t *json,
		       struct bn_http_match *m)
{
	const json_t *list;
	const char *s, *p;
	size_t n, i;
	int r;

	r = bn_rd_list(rd, up, json, "hostnames", FIELDS_MAX, &list, &n);
	r = r ?: bn_rd_array(rd, &m->hosts, n, sizeof(*m->hosts));
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *at = BN_AT_I(BN_AT(up, "hostnames"), i);

		r = bn_rd_text(rd, at, json_array_get(list, i), 253, &s);
		r = r ?: intern_lower(rd, s, &p);
		if (r < 0)
			return r;
		m->hosts[i] = p;
		if (!strncmp(p, "*.", 2))
			p += 2;
		if (!bn_dns_subdomain(p))
			return bn_rd_fail(rd, at, "'%.64s' is not a host name, without port and "
					  "with no more than one '*.' before it", s);
	}
	m->nhosts = (uint32_t)n;
	return r;
}

static int parse_match(struct bn_rd *rd, const struct bn_at *at, const json_t *json,
		       struct bn_http_match *m)
{
	static const char *const known[] = { "method", "path", "headers", "queryParams",
					     "hostnames", NULL };
	int r;

	if (!json_is_object(json))
		return bn_rd_fail(rd, at, "must be an object");
	r = bn_rd_only(rd, at, json, known);
	r = r ?: bn_rd_istr(rd, at, json, "method", METHOD_MAX, &m->method);
	if (r < 0)
		return r;
	if (m->method && !is_token(m->method))
		return bn_rd_fail(rd, BN_AT(at, "method"), "'%.32s' is not a method", m->method);
	if (m->method && !strcmp(m->method, "PRI"))
		return bn_rd_fail(rd, BN_AT(at, "method"), "'PRI' is how HTTP/2 begins, which is always denied");
	r = parse_path(rd, at, json, m);
	r = r ?: parse_kvs(rd, at, json, true, m);
	r = r ?: parse_kvs(rd, at, json, false, m);
	return r ?: parse_hosts(rd, at, json, m);
}

int bn_parse_http(struct bn_rd *rd, const struct bn_at *at, const json_t *json,
		  struct bn_rule *rule)
{
	const json_t *list;
	size_t n, i;
	int r;

	r = bn_rd_list(rd, at, json, "http", BN_LIST_MAX, &list, &n);
	if (r < 0 || !list)
		return r;
	for (i = 0; i < rule->nports; i++) {
		if (rule->ports[i].proto != BN_PROTO_TCP)
			return bn_rd_fail(rd, BN_AT(BN_AT_I(BN_AT(at, "ports"), i), "protocol"),
					  "must be TCP in a rule with http");
	}
	rule->has_http = true;
	rule->nhttp = (uint32_t)n;
	r = bn_rd_array(rd, &rule->http, n, sizeof(*rule->http));
	for (i = 0; !r && i < n; i++)
		r = parse_match(rd, BN_AT_I(BN_AT(at, "http"), i), json_array_get(list, i),
				&rule->http[i]);
	return r;
}

const struct bn_rule *bn_netpol_http(const struct bn_netpol *np)
{
	for (uint32_t k = 0; k < np->ningress; k++)
		if (np->in[k].has_http)
			return &np->in[k];
	for (uint32_t k = 0; k < np->negress; k++)
		if (np->out[k].has_http)
			return &np->out[k];
	return NULL;
}
