/* SPDX-License-Identifier: MIT */
#include "loader/serve/bind.h"

#include <arpa/inet.h>
#include <string.h>

#include "maps/util.h"

static int parse_port(const char *s, in_port_t *ret)
{
	unsigned v = 0;

	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		v = v * 10 + (*s - '0');
		if (v > 65535)
			return -EINVAL;
	}
	*ret = htons(v);
	return 0;
}

int bn_bind_parse(const char *text, struct bn_bind_addr *ret)
{
	const char *colon = strrchr(text, ':');
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in s4 = { .sin_family = AF_INET };
	char host[INET6_ADDRSTRLEN + 2];
	size_t n;

	if (!colon || parse_port(colon + 1, &s4.sin_port) < 0)
		return -EINVAL;
	s6.sin6_port = s4.sin_port;
	n = colon - text;
	if (n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = '\0';
	memset(ret, 0, sizeof(*ret));
	if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		if (inet_pton(AF_INET6, host + 1, &s6.sin6_addr) != 1)
			return -EINVAL;
	} else if (!n) {
		s6.sin6_addr = in6addr_any;
	} else if (inet_pton(AF_INET, strcmp(host, "localhost") ? host : "127.0.0.1",
			     &s4.sin_addr) == 1) {
		ret->wildcard = s4.sin_addr.s_addr == INADDR_ANY;
		memcpy(&ret->ss, &s4, sizeof(s4));
		ret->len = sizeof(s4);
		return 0;
	} else {
		return -EINVAL;
	}
	ret->wildcard = IN6_IS_ADDR_UNSPECIFIED(&s6.sin6_addr);
	memcpy(&ret->ss, &s6, sizeof(s6));
	ret->len = sizeof(s6);
	return 0;
}

static in_port_t port_of(const struct bn_bind_addr *a)
{
	return a->ss.ss_family == AF_INET ? ((const struct sockaddr_in *)&a->ss)->sin_port :
					    ((const struct sockaddr_in6 *)&a->ss)->sin6_port;
}

static int listen_on(const struct sockaddr *sa, socklen_t len, bool v6only)
{
	_cleanup_(closep) int fd = -1;
	int on = 1, only = v6only;

	fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (sa->sa_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)) < 0)
		return -errno;
	if (bind(fd, sa, len) < 0 || listen(fd, 128) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int bn_bind_listen(const struct bn_bind_addr *a)
{
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_port = port_of(a) };
	struct sockaddr_in any4 = { .sin_family = AF_INET, .sin_port = port_of(a) };
	int fd;

	if (!a->wildcard)
		return listen_on((const struct sockaddr *)&a->ss, a->len, true);
	fd = listen_on((struct sockaddr *)&any6, sizeof(any6), false);
	/* A kernel without IPv6: what is left of "both". */
	if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)
		fd = listen_on((struct sockaddr *)&any4, sizeof(any4), false);
	return fd;
}
