/* SPDX-License-Identifier: MIT */
/* Addresses, ranges, protocols and names as text. */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "maps/util.h"
#include "policy/object_read.h"

int bn_addr_parse(const char *text, struct bn_addr *ret)
{
	struct bn_addr a;
	__be32 v4;

	/* inet_pton takes no leading zeros, no short forms and no white space */
	if (inet_pton(AF_INET, text, &v4) == 1) {
		bn_addr_v4(&a, v4);
	} else if (inet_pton(AF_INET6, text, &a) == 1) {
		/* ::ffff:1.2.3.4 would be an IPv4 address to us and an IPv6 one to others */
		if (bn_addr_is_v4(&a))
			return -EINVAL;
	} else {
		return -EINVAL;
	}
	*ret = a;
	return 0;
}

static void clear_host_bits(struct bn_addr *a, unsigned prefix)
{
	unsigned i;

	for (i = 0; i < 16; i++) {
		unsigned bits = prefix > i * 8 ? prefix - i * 8 : 0;

		if (bits < 8)
			a->b[i] &= (__u8)(0xff00 >> bits);
	}
}

int bn_cidr_parse(const char *text, struct bn_cidr *ret)
{
	const char *slash = strchr(text, '/');
	char buf[INET6_ADDRSTRLEN];
	struct bn_cidr c = { 0 };
	unsigned n = 0, max;
	const char *p;

	if (!slash || (size_t)(slash - text) >= sizeof(buf))
		return -EINVAL;
	memcpy(buf, text, (size_t)(slash - text));
	buf[slash - text] = 0;
	if (bn_addr_parse(buf, &c.addr) < 0)
		return -EINVAL;
	for (p = slash + 1; isdigit((unsigned char)*p) && p < slash + 4; p++)
		n = n * 10 + (unsigned)(*p - '0');
	max = bn_addr_is_v4(&c.addr) ? 32 : 128;
	if (*p || p == slash + 1 || n > max || (slash[1] == '0' && p > slash + 2))
		return -EINVAL;
	c.prefix = (uint8_t)(n + 128 - max);
	clear_host_bits(&c.addr, c.prefix);
	*ret = c;
	return 0;
}

bool bn_cidr_contains(const struct bn_cidr *c, const struct bn_addr *a)
{
	struct bn_addr t = *a;

	/* ::/0 covers no IPv4 address although the mapped form lies in it */
	if (!bn_addr_is_v4(&c->addr) != !bn_addr_is_v4(a))
		return false;
	clear_host_bits(&t, c->prefix);
	return bn_addr_eq(&t, &c->addr);
}

char *bn_addr_format(const struct bn_addr *a, char buf[static BN_ADDR_STRLEN])
{
	if (bn_addr_is_v4(a))
		inet_ntop(AF_INET, &a->b[12], buf, BN_ADDR_STRLEN);
	else
		inet_ntop(AF_INET6, a, buf, BN_ADDR_STRLEN);
	return buf;
}

bool bn_addr_unusable(const struct bn_addr *a, const char **why)
{
	static const struct {
		const char *cidr, *why;
	} list[] = {
		{ "0.0.0.0/8", "unspecified" },	     { "::/128", "unspecified" },
		{ "127.0.0.0/8", "loopback" },	     { "::1/128", "loopback" },
		{ "224.0.0.0/4", "multicast" },	     { "ff00::/8", "multicast" },
		{ "255.255.255.255/32", "broadcast" },
	};
	static struct bn_cidr parsed[ARRAY_SIZE(list)];
	static bool done;
	size_t i;

	for (i = 0; !done && i < ARRAY_SIZE(list); i++)
		bn_cidr_parse(list[i].cidr, &parsed[i]);
	done = true;
	for (i = 0; i < ARRAY_SIZE(list); i++) {
		if (bn_cidr_contains(&parsed[i], a)) {
			*why = list[i].why;
			return true;
		}
	}
	return false;
}

const char *bn_proto_name(uint8_t proto)
{
	static char numbers[256][4];

	switch (proto) {
	case BN_PROTO_TCP:
		return "TCP";
	case BN_PROTO_UDP:
		return "UDP";
	case BN_PROTO_SCTP:
		return "SCTP";
	case BN_PROTO_ICMP:
		return "ICMP";
	case BN_PROTO_ICMP6:
		return "ICMPv6";
	}
	snprintf(numbers[proto], sizeof(numbers[proto]), "%u", proto);
	return numbers[proto];
}

int bn_proto_parse(const char *text, uint8_t *ret)
{
	static const uint8_t known[] = { BN_PROTO_TCP, BN_PROTO_UDP, BN_PROTO_SCTP, BN_PROTO_ICMP,
					 BN_PROTO_ICMP6 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(known); i++) {
		if (!strcasecmp(text, bn_proto_name(known[i]))) {
			*ret = known[i];
			return 0;
		}
	}
	return -EINVAL;
}

static bool alnum_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* One label of a DNS name at s, at most 63 bytes; returns its length or 0. */
static size_t dns_label_len(const char *s)
{
	size_t n = 0;

	while (alnum_lower(s[n]) || s[n] == '-')
		n++;
	if (!n || n > 63 || s[0] == '-' || s[n - 1] == '-')
		return 0;
	return n;
}

bool bn_dns_label(const char *s)
{
	size_t n = dns_label_len(s);

	return n && !s[n];
}

bool bn_dns_subdomain(const char *s)
{
	const char *p = s;
	size_t n;

	/* The API lets a part of an object's name be longer than 63: only the whole is bounded. */
	if (strlen(s) > 253)
		return false;
	for (;;) {
		for (n = 0; alnum_lower(p[n]) || p[n] == '-'; n++)
			;
		if (!n || p[0] == '-' || p[n - 1] == '-')
			return false;
		if (!p[n])
			return true;
		if (p[n] != '.')
			return false;
		p += n + 1;
	}
}

/* [A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?, at most 63 bytes */
static bool label_part(const char *s)
{
	size_t n = strlen(s), i;

	if (!n || n > 63 || !isalnum((unsigned char)s[0]) || !isalnum((unsigned char)s[n - 1]))
		return false;
	for (i = 0; i < n; i++) {
		if (!isalnum((unsigned char)s[i]) && !strchr("-_.", s[i]))
			return false;
	}
	return true;
}

bool bn_label_key(const char *s)
{
	const char *slash = strchr(s, '/');
	char prefix[254];
	size_t n = slash ? (size_t)(slash - s) : 0;

	if (!slash)
		return label_part(s);
	if (n >= sizeof(prefix))
		return false;
	memcpy(prefix, s, n);
	prefix[n] = 0;
	return bn_dns_subdomain(prefix) && label_part(slash + 1);
}

bool bn_label_value(const char *s)
{
	return !*s || label_part(s);
}

bool bn_port_name(const char *s)
{
	bool letter = false;
	size_t n;

	for (n = 0; alnum_lower(s[n]) || s[n] == '-'; n++) {
		letter |= s[n] >= 'a' && s[n] <= 'z';
		if (s[n] == '-' && (!n || s[n - 1] == '-' || !s[n + 1]))
			return false;
	}
	return n && n <= 15 && !s[n] && letter;
}
