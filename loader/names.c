/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "loader/daemon.h"
#include "loader/log.h"

/* What needs all of the daemon's parts: `status`, and the names in the flow log. */

static int status(const json_t *args _unused_, struct bn_reply *r, void *data)
{
	r->data = bn_daemon_status(data);
	return r->data ? 0 : -ENOMEM;
}

static bool pod_at(void *data, const struct bn_addr *a, char *buf, size_t len)
{
	const struct bn_pod *p = bn_policies_pod_at(((struct bn_daemon *)data)->policies, a);

	if (!p)
		return false;
	snprintf(buf, len, "%s/%s", p->o.ns, p->o.name);
	return true;
}

static bool slot_pod(void *data, uint32_t slot, char *buf, size_t len)
{
	const char *ns, *name;

	if (!bn_endpoints_slot_pod(((struct bn_daemon *)data)->endpoints, slot, &ns, &name))
		return false;
	snprintf(buf, len, "%s/%s", ns, name);
	return true;
}

static bool rule_of(void *data, uint32_t rule, char *buf, size_t len, uint32_t *index)
{
	struct bn_rule_ref ref;

	if (bn_policies_rule(((struct bn_daemon *)data)->policies, rule, &ref) < 0)
		return false;
	snprintf(buf, len, "%s/%s", ref.policy->o.ns, ref.policy->o.name);
	*index = ref.index;
	return true;
}

static int open_flows(struct bn_daemon *d)
{
	const struct bn_flows_env env = {
		.pod_at = pod_at, .slot_pod = slot_pod, .rule = rule_of, .data = d
	};
	int r;

	r = bn_flows_new(d->base, d->kernel->maps->fd[BN_MAP_events], &env, d->metrics, &d->flows);
	if (!r)
		r = bn_flows_register(d->flows, d->control);
	return r < 0 ? log_err_r(r, "flow log") : 0;
}

int bn_daemon_commands(struct bn_daemon *d)
{
	int r = bn_control_handle(d->control, "status", status, d);

	d->commands = (struct bn_commands){
		.services = d->services,
		.endpoints = d->endpoints,
		.policies = d->policies,
		.metrics = d->metrics,
	};
	if (!r)
		r = bn_commands_register(d->control, &d->commands);
	return r < 0 ? log_err_r(r, "commands of the control socket") : open_flows(d);
}
