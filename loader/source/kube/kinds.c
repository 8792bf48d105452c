/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/kinds.h"

/* Below metadata, everywhere. The annotations are those that bpfnet reads, and the one that ends
 * the first part of a streamed list.
 */
static const struct bn_json_mask annotations[] = {
	{ "endpoints.kubernetes.io/last-change-trigger-time", NULL },
	{ "k8s.io/initial-events-end", NULL },
	{ "bpfnet.io/lb-algorithm", NULL },
	{ "bpfnet.io/policy-audit", NULL },
	{ "bpfnet.io/dsr", NULL },
	{ NULL, NULL },
};

static const struct bn_json_mask metadata[] = {
	{ "name", NULL },
	{ "namespace", NULL },
	{ "uid", NULL },
	{ "resourceVersion", NULL },
	{ "generation", NULL },
	{ "labels", NULL },
	{ "annotations", annotations },
	{ "deletionTimestamp", NULL },
	{ NULL, NULL },
};

static const struct bn_json_mask service_spec[] = {
	{ "type", NULL },
	{ "clusterIP", NULL },
	{ "clusterIPs", NULL },
	{ "externalIPs", NULL },
	{ "ports", NULL },
	{ "sessionAffinity", NULL },
	{ "sessionAffinityConfig", NULL },
	{ "loadBalancerSourceRanges", NULL },
	{ "externalTrafficPolicy", NULL },
	{ "internalTrafficPolicy", NULL },
	{ "healthCheckNodePort", NULL },
	{ NULL, NULL },
};
static const struct bn_json_mask service_status[] = { { "loadBalancer", NULL }, { NULL, NULL } };

static const struct bn_json_mask endpoint[] = {
	{ "addresses", NULL },
	{ "conditions", NULL },
	{ "nodeName", NULL },
	{ "zone", NULL },
	{ "hints", NULL },
	{ NULL, NULL },
};

static const struct bn_json_mask container[] = {
	{ "name", NULL },
	{ "ports", NULL },
	{ "restartPolicy", NULL },
	{ NULL, NULL },
};
static const struct bn_json_mask pod_spec[] = {
	{ "nodeName", NULL },
	{ "hostNetwork", NULL },
	{ "containers", container },
	{ "initContainers", container },
	{ NULL, NULL },
};
static const struct bn_json_mask pod_status[] = {
	{ "phase", NULL },
	{ "podIP", NULL },
	{ "podIPs", NULL },
	{ NULL, NULL },
};

static const struct bn_json_mask node_spec[] = {
	{ "podCIDR", NULL },
	{ "podCIDRs", NULL },
	{ "taints", NULL },
	{ NULL, NULL },
};
static const struct bn_json_mask node_status[] = { { "addresses", NULL }, { NULL, NULL } };

/* code, reason, message, details: of the Status that an ERROR event carries. */
#define OBJECT(...)                                                                                \
	{ "apiVersion", NULL }, { "kind", NULL }, { "metadata", metadata }, { "code", NULL },      \
		{ "reason", NULL }, { "message", NULL }, { "details", NULL }, __VA_ARGS__,         \
		{ NULL, NULL }

static const struct bn_json_mask service[] = { OBJECT({ "spec", service_spec },
						      { "status", service_status }) };
static const struct bn_json_mask slice[] = { OBJECT({ "addressType", NULL }, { "ports", NULL },
						    { "endpoints", endpoint }) };
static const struct bn_json_mask pod[] = { OBJECT({ "spec", pod_spec }, { "status", pod_status }) };
static const struct bn_json_mask node[] = { OBJECT({ "spec", node_spec },
						   { "status", node_status }) };
static const struct bn_json_mask bare[] = { OBJECT({ "type", NULL }) };
/* Policies: a field that is not known must be seen, for it to be refused. Beside spec, too, where there is no
 * schema that prunes: an `egress` that lost its indentation would otherwise restrict nothing.
 */
static const struct bn_json_mask policy[] = { OBJECT({ "spec", NULL }) };
static const struct bn_json_mask conditions[] = { { "conditions", NULL }, { NULL, NULL } };
static const struct bn_json_mask http_policy[] = { OBJECT({ "spec", NULL },
							  { "status", conditions },
							  { BN_JSON_OTHERS, NULL }) };

#define EVENT(name)                                                                                \
	static const struct bn_json_mask name##_event[] = { { "type", NULL },                      \
							    { "object", name },                    \
							    { NULL, NULL } }
EVENT(service);
EVENT(slice);
EVENT(pod);
EVENT(node);
EVENT(bare);
EVENT(policy);
EVENT(http_policy);

#define CORE "/api/v1"
#define DISCOVERY "/apis/discovery.k8s.io/v1"
#define NETWORKING "/apis/networking.k8s.io/v1"
#define OURS "/apis/bpfnet.io/v1alpha1"

const struct bn_kube_kind bn_kube_kinds[BN_KIND__MAX] = {
	[BN_KIND_SERVICE] = { CORE "/services", CORE, "v1", false, service, service_event },
	[BN_KIND_ENDPOINTSLICE] = { DISCOVERY "/endpointslices", DISCOVERY, "discovery.k8s.io/v1",
				    false, slice, slice_event },
	[BN_KIND_POD] = { CORE "/pods", CORE, "v1", false, pod, pod_event },
	[BN_KIND_NAMESPACE] = { CORE "/namespaces", CORE, "v1", false, bare, bare_event },
	[BN_KIND_NODE] = { CORE "/nodes", CORE, "v1", false, node, node_event },
	[BN_KIND_NETPOL] = { NETWORKING "/networkpolicies", NETWORKING, "networking.k8s.io/v1",
			     false, policy, policy_event },
	[BN_KIND_HTTPNETPOL] = { OURS "/httpnetworkpolicies", OURS, "bpfnet.io/v1alpha1", true,
				 http_policy, http_policy_event },
};
