/* SPDX-License-Identifier: MIT */
/* What comes from outside to loader/net: the first byte says what the rest is. '{' begins a file of
 * libcni's cache (the byte belongs to it); anything else a netlink message, aligned as the
 * kernel's.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "loader/net/cnicache.h"
#include "loader/net/nlmsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char *const bn_fuzz_words[];

const char *const bn_fuzz_words[] = {
	"\"kind\":\"cniCacheV1\"",
	"\"ifName\":\"eth0\"",
	"\"cniArgs\":[[",
	"\"K8S_POD_NAMESPACE\",\"d\"",
	"\"K8S_POD_NAME\",\"p\"",
	"\"result\":{",
	"\"interfaces\":[{\"name\":\"v\"}]",
	"\"ips\":[{\"address\":\"10.0.0.1/8\"}]",
	"\"ip4\":{\"ip\":\"::1\"}",
	NULL,
};

static void check(int ok)
{
	if (!ok)
		abort();
}

static void cache(const uint8_t *data, size_t size)
{
	struct bn_cni_entry e;

	if (bn_cni_parse((const char *)data, size, &e))
		return;
	check(e.ns[0] && e.pod[0] && e.ifname[0]);
	check(!strchr(e.ns, '/') && !strchr(e.pod, '/') && !strchr(e.ifname, '/'));
	check(e.naddrs <= BN_CNI_ADDRS && e.nhostifs <= BN_CNI_HOSTIFS);
}

static void message(const uint8_t *data, size_t size)
{
	struct nlmsghdr *h;
	struct bn_nl_link l;
	struct bn_nl_addr a;
	struct bn_nl_route r;
	struct bn_nl_neigh n;

	if (size < sizeof(*h))
		return;
	h = malloc(size); /* exactly as long: ASan sees one byte too many */
	if (!h)
		return;
	memcpy(h, data, size);
	h->nlmsg_len = size;
	if (!bn_nl_parse_link(h, &l))
		check(l.ifindex && l.link_nsid >= -1 && memchr(l.name, 0, sizeof(l.name)));
	if (!bn_nl_parse_addr(h, &a))
		check(a.ifindex && a.prefix <= 128);
	if (!bn_nl_parse_route(h, &r)) {
		check(r.prefix <= 128 && r.noifs <= BN_NL_OIFS);
		check(!bn_nl_is_host_route(&r) || r.oifs[0]);
	}
	if (!bn_nl_parse_neigh(h, &n))
		check(n.ifindex);
	free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size && data[0] == '{')
		cache(data, size);
	else if (size)
		message(data + 1, size - 1);
	return 0;
}
