/* SPDX-License-Identifier: MIT */
/* Why a service, or a port of it, answers nobody: in words, for svc show and the trace. */
#include <stdio.h>

#include "maps/util.h"
#include "policy/svcmodel_priv.h"

/* Names are data of others, may be cut within a character, and end up in JSON. */
static void plain(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e)
			*s = '?';
}

/* "80/TCP, 53/UDP"; what does not fit is left out. */
static void ports_text(const struct bn_service *svc, char *buf, size_t len)
{
	size_t n = 0;

	snprintf(buf, len, "none");
	for (uint32_t i = 0; i < svc->nports && n + 16 < len; i++)
		n += snprintf(buf + n, len - n, "%s%u/%s", i ? ", " : "", svc->ports[i].port,
			      bn_proto_name(svc->ports[i].proto));
}

void bn_svc_why_no_port(const struct bn_service *svc, uint16_t port, uint8_t proto, char *buf, size_t len)
{
	char have[128];

	ports_text(svc, have, sizeof(have));
	for (uint32_t i = 0; i < svc->nports; i++)
		if (port && svc->ports[i].node_port == port && svc->ports[i].proto == proto) {
			snprintf(buf, len, "%u is the node port of its port %u: ask for a node's address", port,
				 svc->ports[i].port);
			return;
		}
	snprintf(buf, len, "its ports: %s", have);
}

bool bn_svc_why_not_served(const struct bn_service *svc, const char *proxy_name, char *buf, size_t len)
{
	const struct bn_svc_env env = {.proxy_name = proxy_name};

	*buf = '\0';
	if (svc->o.refused)
		snprintf(buf, len, "the object was refused: bpfnet status says why");
	else if (svc->proxy_name && !sm_streq(svc->proxy_name, proxy_name))
		snprintf(buf, len, "its label service-proxy-name leaves it to the proxy '%s'", svc->proxy_name);
	else if (svc->type == BN_SVC_EXTERNALNAME)
		snprintf(buf, len, "ExternalName: a name in DNS, without an address to serve");
	else if (svc->headless || !svc->ncluster_ips)
		snprintf(buf, len, "%s: DNS gives its clients the pods' own addresses",
			 svc->headless ? "headless" : "no ClusterIP");
	plain(buf);
	return !bn_service_ours(svc, &env);
}

/* "'http' TCP, 'dns' UDP": of the slices of one family, each once where they lie together. */
static void slice_ports_text(const struct bn_slice *const *slices, uint32_t n, bool v4, char *buf, size_t len)
{
	const struct bn_slice_port *last = NULL;
	size_t at = 0;

	snprintf(buf, len, "no port");
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < slices[i]->nports && slices[i]->v4 == v4 && at + 40 < len; k++) {
			const struct bn_slice_port *p = &slices[i]->ports[k];

			if (last && last->proto == p->proto && sm_streq(last->name, p->name))
				continue;
			at += snprintf(buf + at, len - at, "%s'%.20s' %s", last ? ", " : "", p->name ?: "",
				       bn_proto_name(p->proto));
			last = p;
		}
}

void bn_svc_why_empty(const struct bn_sm_port *p, const struct bn_slice *const *slices, uint32_t n, char *buf,
		      size_t len)
{
	const char *family = p->v4 ? "IPv4" : "IPv6";
	uint32_t usable = 0, all = 0, of_family = 0;
	char have[160];

	for (uint32_t i = 0; i < n; i++) {
		if (!bn_slice_usable(slices[i]))
			continue;
		usable++;
		all += slices[i]->nendpoints;
		of_family += slices[i]->v4 == p->v4 ? slices[i]->nendpoints : 0;
	}
	if (p->ncluster)
		snprintf(buf, len, "%u of its %u endpoints can be used, none of them on this node", p->ncluster,
			 p->neps);
	else if (p->neps)
		snprintf(buf, len, "none of its %u endpoint%s is ready", p->neps, p->neps > 1 ? "s" : "");
	else if (!usable)
		snprintf(buf, len, "it has no EndpointSlice (does its selector match a pod?)");
	else if (!all)
		snprintf(buf, len, "its EndpointSlices are empty (does its selector match a running pod?)");
	else if (!of_family)
		snprintf(buf, len, "its EndpointSlices hold no %s address", family);
	else {
		slice_ports_text(slices, n, p->v4, have, sizeof(have));
		snprintf(buf, len, "no EndpointSlice has the port '%s' %s, but %s (have its pods the targetPort?)", p->name,
			 bn_proto_name(p->proto), have);
	}
	plain(buf);
}
