/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/object_read.h"

enum { V4, V6, FQDN };
static const char *const families[] = { [V4] = "IPv4", [V6] = "IPv6", [FQDN] = "FQDN" };

/* As RFC 3339 has it, with any number of digits of the second; 0 for anything else: the time is
 * only measured with.
 */
static uint64_t parse_time(const char *s)
{
	struct tm tm = { 0 };
	uint64_t ns = 0, digit;
	const char *p;
	time_t t;
	int hours, minutes, sign;

	p = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!p)
		return 0;
	if (*p == '.') {
		for (p++, digit = 100000000; *p >= '0' && *p <= '9'; p++, digit /= 10)
			ns += (uint64_t)(*p - '0') * digit;
	}
	t = timegm(&tm);
	if (*p == '+' || *p == '-') {
		sign = *p == '+' ? -1 : 1;
		if (sscanf(p + 1, "%2d:%2d", &hours, &minutes) != 2)
			return 0;
		t += sign * (hours * 3600 + minutes * 60);
	} else if (*p != 'Z') {
		return 0;
	}
	/* beyond 2554 there are no nanoseconds in 64 bits */
	return t > 0 && t < 18000000000 ? (uint64_t)t * 1000000000 + ns : 0;
}

static int parse_ports(struct bn_rd *rd, const json_t *json, struct bn_slice *sl)
{
	const json_t *list;
	size_t n, i;
	int r;

	r = bn_rd_list(rd, NULL, json, "ports", 20000, &list, &n);
	r = r ?: bn_rd_array(rd, &sl->ports, n, sizeof(*sl->ports));
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *at = BN_AT_I(BN_AT(NULL, "ports"), i);
		struct bn_slice_port *p = &sl->ports[sl->nports];
		const json_t *e = json_array_get(list, i);
		const char *name;
		long port;
		bool has;

		if (!json_is_object(e))
			return bn_rd_fail(rd, at, "must be an object");
		r = bn_rd_str(rd, at, e, "name", 63, &name);
		r = r ?: bn_rd_intern(rd, name ?: "", &p->name);
		r = r ?: bn_rd_proto(rd, at, e, &p->proto);
		r = r ?: bn_rd_int(rd, at, e, "port", 0, 65535, &has, &port);
		p->port = r < 0 ? 0 : (uint16_t)port;
		if (p->port)
			sl->nports++;
		else
			*p = (struct bn_slice_port){ 0 };
	}
	return r;
}

static int parse_addr(struct bn_rd *rd, const struct bn_at *at, const json_t *e, bool v4,
		      struct bn_endpoint *ep)
{
	const json_t *list;
	const char *s, *why;
	struct bn_addr a;
	size_t n, i;
	int r;

	r = bn_rd_list(rd, at, e, "addresses", 100, &list, &n);
	if (r < 0)
		return r;
	if (!n)
		return bn_rd_fail(rd, BN_AT(at, "addresses"), "is required");
	for (i = 0; i < n; i++) {
		const struct bn_at *here = BN_AT_I(BN_AT(at, "addresses"), i);

		r = bn_rd_text(rd, here, json_array_get(list, i), BN_STR_MAX, &s);
		r = r ?: bn_rd_addr(rd, here, s, &a);
		if (r < 0)
			return r;
		if (!bn_addr_is_v4(&a) != !v4)
			return bn_rd_fail(rd, here, "'%.64s' is not of the slice's addressType", s);
		if (bn_addr_unusable(&a, &why))
			return bn_rd_fail(rd, here, "'%.64s' is %s: it can be no endpoint", s, why);
		if (!i)
			ep->addr = a;
	}
	return 0;
}

static int parse_conditions(struct bn_rd *rd, const struct bn_at *up, const json_t *e,
			    struct bn_endpoint *ep)
{
	const struct bn_at *at = BN_AT(up, "conditions");
	bool ready, serving, terminating;
	const json_t *c;
	int r;

	r = bn_rd_get(rd, up, e, "conditions", JSON_OBJECT, &c);
	r = r ?: bn_rd_bool(rd, at, c, "ready", true, &ready);
	r = r ?: bn_rd_bool(rd, at, c, "serving", true, &serving);
	r = r ?: bn_rd_bool(rd, at, c, "terminating", false, &terminating);
	if (r < 0)
		return r;
	ep->cond = (uint8_t)((ready ? BN_EP_READY : 0) | (serving ? BN_EP_SERVING : 0) |
			     (terminating ? BN_EP_TERMINATING : 0));
	return 0;
}

static int parse_hint_list(struct bn_rd *rd, const struct bn_at *at, const json_t *hints,
			   const char *key, const char ***ret, uint8_t *nret)
{
	const json_t *list;
	size_t n, i;
	int r;

	r = bn_rd_list(rd, at, hints, key, 8, &list, &n);
	r = r ?: bn_rd_array(rd, ret, n, sizeof(**ret));
	for (i = 0; !r && i < n; i++) {
		const struct bn_at *here = BN_AT_I(BN_AT(at, key), i);
		const json_t *e = json_array_get(list, i);

		if (!json_is_object(e))
			return bn_rd_fail(rd, here, "must be an object");
		r = bn_rd_istr(rd, here, e, "name", 253, &(*ret)[i]);
		if (!r && (!(*ret)[i] || !*(*ret)[i]))
			return bn_rd_fail(rd, BN_AT(here, "name"), "is required");
	}
	*nret = (uint8_t)n;
	return r;
}

static int parse_endpoint(struct bn_rd *rd, const struct bn_at *at, const json_t *e, bool v4,
			  struct bn_endpoint *ep)
{
	const struct bn_at *hints_at = BN_AT(at, "hints");
	const json_t *hints;
	int r;

	if (!json_is_object(e))
		return bn_rd_fail(rd, at, "must be an object");
	r = parse_addr(rd, at, e, v4, ep);
	r = r ?: parse_conditions(rd, at, e, ep);
	r = r ?: bn_rd_istr(rd, at, e, "nodeName", 253, &ep->node);
	r = r ?: bn_rd_istr(rd, at, e, "zone", 253, &ep->zone);
	r = r ?: bn_rd_get(rd, at, e, "hints", JSON_OBJECT, &hints);
	r = r ?: parse_hint_list(rd, hints_at, hints, "forZones", &ep->hint_zones,
				 &ep->nhint_zones);
	r = r ?: parse_hint_list(rd, hints_at, hints, "forNodes", &ep->hint_nodes,
				 &ep->nhint_nodes);
	return r;
}

int bn_parse_slice(struct bn_rd *rd, const json_t *json, struct bn_slice *sl)
{
	const char *service, *headless, *s;
	const json_t *list;
	int r, family;
	size_t n, i;

	r = bn_rd_intern(rd, "kubernetes.io/service-name", &service);
	r = r ?: bn_rd_intern(rd, "service.kubernetes.io/headless", &headless);
	r = r ?: bn_rd_enum(rd, NULL, json, "addressType", families, ARRAY_SIZE(families), -1,
			    &family);
	if (r < 0)
		return r;
	sl->v4 = family == V4;
	sl->fqdn = family == FQDN;
	sl->headless = bn_labels_get(&sl->o.labels, headless);
	sl->service = bn_labels_get(&sl->o.labels, service);
	if (sl->service && !*sl->service)
		sl->service = NULL;
	/* What nothing routes to is kept without its endpoints: names in DNS, headless Services. */
	if (sl->fqdn || sl->headless)
		return 0;
	s = bn_meta_annotation(json, "endpoints.kubernetes.io/last-change-trigger-time");
	sl->trigger_time_ns = s ? parse_time(s) : 0;
	r = parse_ports(rd, json, sl);
	r = r ?: bn_rd_list(rd, NULL, json, "endpoints", 1000, &list, &n);
	r = r ?: bn_rd_array(rd, &sl->endpoints, n, sizeof(*sl->endpoints));
	for (i = 0; !r && i < n; i++)
		r = parse_endpoint(rd, BN_AT_I(BN_AT(NULL, "endpoints"), i),
				   json_array_get(list, i), sl->v4, &sl->endpoints[i]);
	sl->nendpoints = r < 0 ? 0 : (uint32_t)n;
	return r;
}
