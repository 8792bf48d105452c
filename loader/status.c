/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "loader/daemon.h"
#include "loader/source/check.h"
#include "maps/http_access.h"

/* A source may fail this long before `status` says so; the contract is 20 s at most. */
#define BN_FAILING_S 15

static unsigned used(const struct bn_daemon *d, unsigned kinds)
{
	for (int k = 0; k < BN_KIND__MAX; k++)
		if (!d->source->state[k].used)
			kinds &= ~(1u << k);
	return kinds;
}

unsigned bn_daemon_service_kinds(const struct bn_daemon *d _unused_)
{
	return 1u << BN_KIND_SERVICE | 1u << BN_KIND_ENDPOINTSLICE | 1u << BN_KIND_NODE;
}

unsigned bn_daemon_policy_kinds(const struct bn_daemon *d)
{
	return 1u << BN_KIND_POD | 1u << BN_KIND_NAMESPACE | 1u << BN_KIND_NETPOL |
	       used(d, 1u << BN_KIND_HTTPNETPOL);
}

bool bn_daemon_ready(const struct bn_daemon *d)
{
	return bn_daemon_complete(d) && !bn_kernel_beside(d->kernel);
}

bool bn_daemon_complete(const struct bn_daemon *d)
{
	unsigned all;

	if (!d->source)
		return false;
	all = bn_daemon_service_kinds(d) | bn_daemon_policy_kinds(d);
	return bn_source_synced(d->source, all) &&
	       !bn_source_failing(d->source, all, BN_FAILING_S) &&
	       bn_services_in_force(d->services) && bn_policies_in_force(d->policies) &&
	       bn_endpoints_settled(d->endpoints);
}

static json_t *endpoints_json(struct bn_daemon *d)
{
	struct bn_endpoints_stats s;

	bn_endpoints_stats(d->endpoints, &s);
	return json_pack("{si si si si si si si si}", "pods", s.pods, "unknown", s.unknown, "closed",
			 s.closed, "unenforced", s.unenforced, "unmanaged", s.unmanaged, "uplinks",
			 s.uplinks, "tunnels", s.tunnels, "attachErrors", s.attach_errors);
}

/* Pods that were refused room for HTTP connections lately. */
#define BN_REFUSED_S 600
static json_t *http_refused_json(struct bn_daemon *d)
{
	const struct bn_maps *m = d->kernel->maps;
	struct timespec now;
	json_t *a = json_array();

	clock_gettime(CLOCK_BOOTTIME, &now);
	for (uint32_t slot = 1; slot < m->entries[BN_MAP_http_shares]; slot++) {
		struct bn_http_share s = bn_http_share_get(m, slot);
		const char *ns, *name;

		if (!s.refused_s || now.tv_sec - s.refused_s > BN_REFUSED_S ||
		    !bn_endpoints_slot_pod(d->endpoints, slot, &ns, &name))
			continue;
		json_array_append_new(a, json_pack("{ss ss si si si}", "namespace", ns, "name", name, "connections",
						   s.conns, "blocks", s.blocks, "refused", s.refused));
	}
	return a;
}

static json_t *http_json(const struct bn_daemon *d)
{
	struct bn_http_share s = bn_http_share_get(d->kernel->maps, 0);

	return json_pack("{si si si si ss*}", "connections", s.conns, "connectionsMax",
			 d->kernel->maps->entries[BN_MAP_http_conns], "blocks", s.blocks, "blocksMax",
			 d->kernel->maps->entries[BN_MAP_http_blocks], "unsupported", bn_kernel_no_http(d->kernel));
}

/* What does not fit, or did not lately: it is no reason not to be ready, and no secret either. */
static json_t *limits_json(struct bn_daemon *d)
{
	const struct bn_services_stats *s = bn_services_stats(d->services);
	struct timespec now;
	json_t *a;

	clock_gettime(CLOCK_BOOTTIME, &now);
	a = bn_limits_json(&d->limits, now.tv_sec * 1000000000ull + now.tv_nsec);
	if (s->refused)
		json_array_append_new(a, json_pack("{ss so ss}", "reason", "SERVICES", "what",
						   json_sprintf("%" PRIu64 " addresses or backend lists of services found no room: they are "
								"not in force as they should be", s->refused), "advice",
						   "the log and 'bpfnet svc show' say which; --max-backends"));
	return a;
}

/* Which kinds of objects, and for how long. */
static void waiting_sources(const struct bn_daemon *d, json_t *a)
{
	uint64_t now = bn_source_now();

	for (int k = 0; k < BN_KIND__MAX; k++) {
		const struct bn_source_state *st = &d->source->state[k];
		uint64_t since = st->synced ? st->failing_ns : d->started_ns;

		if (!st->used || (st->synced && !st->failing_ns))
			continue;
		json_array_append_new(a, json_sprintf("%s: %s for %llu s%s%s", bn_kind_plural(k),
						      st->synced ? "cannot be read" : "not read yet",
						      (unsigned long long)(now - since) / 1000000000,
						      *st->error ? ": " : "", st->error));
	}
}

/* Which of the conditions of `ready` do not hold, in words. */
static json_t *waiting_json(struct bn_daemon *d)
{
	json_t *a = json_array();

	if (!d->source)
		return a;
	if (!bn_source_synced(d->source, bn_daemon_service_kinds(d)))
		json_array_append_new(a, json_string("services, endpointslices or nodes have not been read in full"));
	else if (!bn_services_in_force(d->services))
		json_array_append_new(a, json_string("not all services are in the kernel"));
	if (!bn_source_synced(d->source, bn_daemon_policy_kinds(d)))
		json_array_append_new(a, json_string(bn_policies_unenforced(d->policies)
			? "pods, namespaces or policies may not be read: no policy is enforced"
			: "pods, namespaces or policies have not been read in full"));
	else if (!bn_policies_in_force(d->policies))
		json_array_append_new(a, json_string("not all policies are in the kernel"));
	if (bn_source_failing(d->source, bn_daemon_service_kinds(d) | bn_daemon_policy_kinds(d), BN_FAILING_S))
		json_array_append_new(a, json_string("the source cannot be read: what is in force is as old as AGE says"));
	if (!bn_endpoints_settled(d->endpoints) && bn_source_synced(d->source, 1u << BN_KIND_POD))
		json_array_append_new(a, json_string("the interfaces of some local pods are not mapped"));
	if (bn_kernel_beside(d->kernel))
		json_array_append_new(a, json_string("another version's programs and maps are in force until all of "
						     "the above is there (20 s for what was read)"));
	waiting_sources(d, a);
	return a;
}

bool bn_daemon_readyz(struct evbuffer *out, void *data)
{
	json_t *waiting = waiting_json(data), *v;
	bool ready = bn_daemon_ready(data);
	size_t i;

	if (ready)
		evbuffer_add_printf(out, "ok\n");
	json_array_foreach(waiting, i, v)
		evbuffer_add_printf(out, "%s\n", json_string_value(v));
	json_decref(waiting);
	return ready;
}

/* Kernel memory of the pinned maps, in bytes: of all, and of each that has any. */
static void memory_json(const struct bn_daemon *d, json_t *o)
{
	json_t *each = json_object();
	uint64_t sum = 0;

	for (int i = 0; i < BN_MAP__MAX; i++) {
		uint64_t n = bn_map_memory(d->kernel->maps, i);

		sum += n;
		if (n)
			json_object_set_new(each, bn_map_name(i), json_integer(n));
	}
	json_object_set_new(o, "mapBytesTotal", json_integer(sum));
	json_object_set_new(o, "mapBytes", each);
}

json_t *bn_daemon_status(struct bn_daemon *d)
{
	const char *routing, *because = "";
	struct utsname u;
	json_t *o, *errors = NULL, *order = NULL, *problems = NULL;

	uname(&u);
	o = json_pack("{sb ss ss ss ss}", "ready", bn_daemon_ready(d), "version", BN_VERSION,
		      "kernel", u.release, "node", d->opts->node_name, "source",
		      d->source ? d->source->name : "");
	if (!o || !d->source)
		return o;
	json_object_set_new(o, "sources", bn_source_json(d->source));
	json_object_set_new(o, "rejected", bn_source_rejected_json(d->source));
	json_object_set_new(o, "checking", bn_check_json(d->source));
	json_object_set_new(o, "waiting", waiting_json(d));
	json_object_set_new(o, "limits", limits_json(d));
	json_object_set_new(o, "endpoints", endpoints_json(d));
	if (bn_endpoints_problems(d->endpoints, &problems) == 0)
		json_object_set_new(o, "endpointProblems", problems);
	routing = bn_endpoints_host_routing(d->endpoints, &because);
	json_object_set_new(o, "hostRouting", json_pack("{ss ss}", "mode", routing, "because", because));
	json_object_set_new(o, "lbMode", bn_dsr_json(d->dsr));
	json_object_set_new(o, "xdp", bn_endpoints_xdp(d->endpoints));
	json_object_set_new(o, "features", bn_kernel_features(d->kernel));
	if (d->opts->policy_audit)
		json_object_set_new(o, "policyAudit", json_string("denials are recorded, and pass"));
	json_object_set_new(o, "http", http_json(d));
	json_object_set_new(o, "httpRefused", http_refused_json(d));
	json_object_set_new(o, "socketHooks", json_boolean(d->cgroup_attached));
	memory_json(d, o);
	if (bn_policies_errors(d->policies, &errors) == 0)
		json_object_set_new(o, "policyErrors", errors);
	if (bn_kernel_check_order(d->kernel, &order) == 0)
		json_object_set_new(o, "programsBeforeOurs", order);
	return o;
}
