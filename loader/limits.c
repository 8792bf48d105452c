// SPDX-License-Identifier: MIT
#include "loader/limits.h"

#include <inttypes.h>

#include "loader/log.h"
#include "maps/util.h"

#define AGAIN_NS (60 * 1000000000ull)

static const struct {
	enum bn_drop why;
	const char *what, *advice;
} limits[] = {
	{BN_DROP_CT_FULL, "the connection table is full: new flows are refused, established ones go on",
	 "'bpfnet ct list' says whose they are; --ct-max"},
	{BN_DROP_NAT_PORTS, "no port of this node was free for a flow to a backend elsewhere",
	 "'bpfnet svc show' counts the flows that take one"},
	{BN_DROP_HTTP_FULL, "no room to follow another HTTP connection", "fewer connections under HTTP rules"},
	{BN_DROP_HTTP_SHARE, "a pod takes more of the room for HTTP connections than is left for all others",
	 "'bpfnet ct list' says which"},
	{BN_DROP_HTTP_KEEP, "no room to keep copies of what passes of HTTP connections",
	 "fewer connections under HTTP rules"},
	{BN_DROP_REJECT_RATE, "refusals are limited: some clients got no answer", "a scan, or a service without endpoints"},
};

int bn_limits_tick(struct bn_limits *l, const struct bn_maps *m, uint64_t now_ns)
{
	int said = 0;

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		enum bn_drop why = limits[i].why;
		struct bn_drop_stat s = {};
		uint64_t more;

		if (bn_map_percpu_sum(m, BN_MAP_drops, why, (uint64_t *)&s) < 0)
			continue;
		more = s.packets - l->seen[why];
		if (!l->primed || !more || (l->said_ns[why] && now_ns - l->said_ns[why] < AGAIN_NS)) {
			if (!l->primed)
				l->seen[why] = s.packets;
			continue;
		}
		log_warn("%s (%" PRIu64 " packets; %s)", limits[i].what, more, limits[i].advice);
		l->seen[why] = s.packets;
		l->said_ns[why] = now_ns;
		said++;
	}
	l->primed = true;
	return said;
}
