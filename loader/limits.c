// SPDX-License-Identifier: MIT
#include "loader/limits.h"

#include <inttypes.h>

#include "loader/log.h"
#include "maps/util.h"

#define AGAIN_NS (60 * 1000000000ull)
#define RECENT_NS (600 * 1000000000ull)

static const struct {
	enum bn_drop why;
	const char *name, *what, *advice;
} limits[] = {
#define WHY(n) BN_DROP_##n, #n
	{WHY(CT_FULL), "the connection table is full: new flows are refused, established ones go on",
	 "'bpfnet ct list' says whose they are; --ct-max"},
	{WHY(NAT_PORTS), "no port of this node was free for a flow to a backend elsewhere",
	 "'bpfnet svc show' counts the flows that take one"},
	{WHY(HTTP_FULL), "no room to follow another HTTP connection", "fewer connections under HTTP rules"},
	{WHY(HTTP_SHARE), "a pod takes more of the room for HTTP connections than is left for all others",
	 "'bpfnet ct list' says which"},
	{WHY(HTTP_KEEP), "no room to keep copies of what passes of HTTP connections",
	 "fewer connections under HTTP rules"},
	{WHY(REJECT_RATE), "refusals are limited: some clients got no answer", "a scan, or a service without endpoints"},
#undef WHY
};

json_t *bn_limits_json(const struct bn_limits *l, uint64_t now_ns)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		enum bn_drop why = limits[i].why;

		if (!l->last_ns[why] || now_ns - l->last_ns[why] > RECENT_NS)
			continue;
		json_array_append_new(list, json_pack("{ss ss sI sI ss}", "reason", limits[i].name, "what", limits[i].what,
						      "packets", (json_int_t)l->count[why], "secondsAgo",
						      (json_int_t)((now_ns - l->last_ns[why]) / 1000000000), "advice",
						      limits[i].advice));
	}
	return list;
}

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
		if (l->primed && s.packets != l->count[why])
			l->last_ns[why] = now_ns;
		l->count[why] = s.packets;
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
