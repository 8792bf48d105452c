/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_BIND_H
#define BN_LOADER_BIND_H

/* Addresses that servers listen on, read as Go's net.Listen("tcp", ...) reads them. */

#include <stdbool.h>
#include <sys/socket.h>

struct bn_bind_addr {
	struct sockaddr_storage ss;
	socklen_t len;
	bool wildcard; /* of either family or none: both are listened on */
};

/* "host:port" with a literal address or "localhost", "[v6]:port", ":port". -EINVAL. */
int bn_bind_parse(const char *text, struct bn_bind_addr *ret);

/* Returns a listening, non-blocking descriptor or negative errno. */
int bn_bind_listen(const struct bn_bind_addr *a);

#endif
