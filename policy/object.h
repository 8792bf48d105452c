/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_OBJECT_H
#define BN_POLICY_OBJECT_H

/* The Kubernetes objects bpfnet acts on, holding only the fields that it reads (SEMANTICS 1e).
 *
 * An object is immutable once parsed and reference counted: a change is a new object. All strings
 * are interned (policy/intern.h): compare pointers; only resource_version, origin and a pod's uid,
 * which never repeat, are the object's own. Ports are host order. Arrays are owned by the object,
 * which is one block of memory. "Missing", "null" and, where the API says so, "empty" are told apart
 * by the has_ fields.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "maps/types.h"

enum bn_kind {
	BN_KIND_SERVICE,
	BN_KIND_ENDPOINTSLICE,
	BN_KIND_POD,
	BN_KIND_NAMESPACE,
	BN_KIND_NODE,
	BN_KIND_NETPOL,	    /* networking.k8s.io/v1 NetworkPolicy */
	BN_KIND_HTTPNETPOL, /* bpfnet.io/v1alpha1 HTTPNetworkPolicy */
	BN_KIND__MAX,
};

/* "Service", and "services" as in URLs and in status; NULL outside the range. */
const char *bn_kind_name(enum bn_kind kind);
const char *bn_kind_plural(enum bn_kind kind);
bool bn_kind_namespaced(enum bn_kind kind);
/* The kind by apiVersion and kind; -EOPNOTSUPP for what bpfnet does not act on. */
int bn_kind_of(const json_t *json, enum bn_kind *ret);

struct bn_label {
	const char *key, *val;
};

struct bn_labels { /* sorted by strcmp of key, keys unique */
	uint32_t n;
	struct bn_label *v;
};

struct bn_cidr {
	struct bn_addr addr; /* host bits cleared */
	uint8_t prefix;	     /* 0..128, of the v4-mapped form: an IPv4 /24 is 120 */
};

struct bn_obj {
	enum bn_kind kind;
	unsigned refs;
	const char *ns; /* "" for cluster-scoped objects */
	const char *name;
	const char *resource_version; /* NULL from manifests */
	char *origin; /* "file:line" from manifests, else NULL; set by bn_obj_set_origin only */
	struct bn_labels labels;
	uint64_t digest; /* of the content, without resource_version and origin; 0: unknown */
	uint32_t size;	 /* bytes of the content; 0: made by hand, refers to no strings */
	bool refused; /* parsed no further than its selector: isolates, allows nothing */
};

struct bn_obj *bn_obj_ref(struct bn_obj *o);
void bn_obj_unref(struct bn_obj *o); /* NULL is fine */
void bn_obj_unrefp(struct bn_obj **o);

/* True if both say the same; resource_version and origin do not count. */
bool bn_obj_equal(const struct bn_obj *a, const struct bn_obj *b);
int bn_obj_set_origin(struct bn_obj *o, const char *file, unsigned line);
/* Gives `to` the origin of `from`, which gets the old one: for equal objects from another place. */
void bn_obj_move_origin(struct bn_obj *to, struct bn_obj *from);

/* --- Service --------------------------------------------------------------------------------- */

enum bn_svc_type {
	BN_SVC_CLUSTERIP,
	BN_SVC_NODEPORT,
	BN_SVC_LOADBALANCER,
	BN_SVC_EXTERNALNAME,
	BN_SVC_TYPE__MAX,
};

struct bn_service_port {
	const char *name; /* "" when unnamed */
	uint8_t proto;	  /* enum bn_proto */
	uint16_t port;
	uint16_t node_port; /* 0: none */
};

struct bn_service {
	struct bn_obj o;
	enum bn_svc_type type;
	bool headless; /* clusterIP None or empty */
	bool etp_local, itp_local;
	bool affinity_client_ip;
	uint32_t affinity_timeout_s; /* default 10800 */
	uint16_t health_node_port;
	const char *proxy_name; /* label service.kubernetes.io/service-proxy-name, NULL when absent */
	const char *lb_algorithm; /* annotation bpfnet.io/lb-algorithm: "random" | "maglev" | NULL */
	uint32_t ncluster_ips, nexternal_ips, nlb_ips, nsrc_ranges, nports;
	struct bn_addr *cluster_ips;
	struct bn_addr *external_ips;
	struct bn_addr *lb_ips; /* status.loadBalancer.ingress with an ip and ipMode VIP */
	struct bn_cidr *src_ranges;
	bool has_src_ranges; /* some were given, even if none is of a family in use */
	struct bn_service_port *ports;
};

/* --- EndpointSlice --------------------------------------------------------------------------- */

enum {
	BN_EP_READY = 1 << 0,	    /* nil means true */
	BN_EP_SERVING = 1 << 1,	    /* nil means true, as for kube-proxy (SEMANTICS 2, 1) */
	BN_EP_TERMINATING = 1 << 2, /* nil means false */
};

struct bn_endpoint {
	struct bn_addr addr; /* addresses[0] */
	uint8_t cond;	     /* BN_EP_* */
	uint8_t nhint_zones, nhint_nodes;
	const char *node; /* NULL: never local */
	const char *zone;
	const char **hint_zones;
	const char **hint_nodes;
};

struct bn_slice_port {
	const char *name; /* "" when empty */
	uint8_t proto;
	uint16_t port;
};

struct bn_slice {
	struct bn_obj o;
	const char *service; /* label kubernetes.io/service-name; NULL: ignore the slice */
	bool headless;	     /* label service.kubernetes.io/headless present */
	bool v4;	     /* addressType */
	bool fqdn;	     /* addressType FQDN: ignored */
	uint64_t trigger_time_ns; /* endpoints.kubernetes.io/last-change-trigger-time, unix; 0: none */
	uint32_t nports, nendpoints;
	/* Those with nil or 0 port are left out. A nil name is "", the API's default: kube-proxy
	 * skips nil names, but never sees one, because the API server has filled them in.
	 */
	struct bn_slice_port *ports;
	struct bn_endpoint *endpoints;
};

/* --- Pod, Namespace, Node -------------------------------------------------------------------- */

struct bn_pod_port {
	const char *name;
	uint8_t proto;
	uint16_t port;
};

struct bn_pod {
	struct bn_obj o;
	const char *node;  /* spec.nodeName, NULL while unscheduled */
	bool host_network;
	bool finished; /* phase Succeeded or Failed: its addresses are released */
	bool deleting; /* metadata.deletionTimestamp */
	const char *uid; /* NULL from manifests */
	uint32_t nips, nports;
	struct bn_addr *ips;
	struct bn_pod_port *ports; /* named ones only; containers and restartable init containers */
};

struct bn_namespace {
	struct bn_obj o; /* o.labels always has kubernetes.io/metadata.name */
	bool audit;	 /* annotation bpfnet.io/policy-audit: "true": of all its pods */
};

struct bn_node {
	struct bn_obj o;
	const char *zone; /* label topology.kubernetes.io/zone */
	bool deleting;
	bool dsr;	    /* annotation bpfnet.io/dsr: "v1" */
	bool to_be_deleted; /* taint ToBeDeletedByClusterAutoscaler */
	uint32_t nips, npod_cidrs;
	struct bn_addr *ips; /* InternalIP first, then ExternalIP */
	uint32_t ninternal;  /* how many of ips are InternalIP */
	struct bn_cidr *pod_cidrs;
};

/* --- NetworkPolicy and HTTPNetworkPolicy ----------------------------------------------------- */

enum bn_sel_op {
	BN_SEL_IN,
	BN_SEL_NOT_IN,
	BN_SEL_EXISTS,
	BN_SEL_NOT_EXISTS,
	BN_SEL_OP__MAX,
};

struct bn_sel_req {
	const char *key;
	enum bn_sel_op op;
	uint32_t nvals;
	const char **vals;
};

/* matchLabels are kept as In requirements with one value. No requirement selects everything. */
struct bn_selector {
	uint32_t n;
	struct bn_sel_req *reqs;
};

bool bn_selector_match(const struct bn_selector *s, const struct bn_labels *l);
const char *bn_labels_get(const struct bn_labels *l, const char *interned_key); /* or NULL */

struct bn_peer {
	bool has_pod, has_ns, has_block; /* nil differs from {} */
	struct bn_selector pod, ns;
	struct bn_cidr block;
	uint32_t nexcept;
	struct bn_cidr *except;
};

struct bn_policy_port {
	uint8_t proto;	  /* default TCP */
	bool any;	  /* port missing: every port of proto */
	const char *name; /* named port, else NULL */
	uint16_t port, end_port; /* inclusive; end_port == port without endPort */
};

enum bn_match_type {
	BN_MATCH_EXACT,
	BN_MATCH_PREFIX, /* paths only, element-wise */
	BN_MATCH_REGEX,
	BN_MATCH_TYPE__MAX,
};

struct bn_http_kv {
	enum bn_match_type type;
	const char *name, *value; /* header names in lower case */
};

struct bn_http_match { /* all of it must hold */
	const char *method;   /* NULL: any */
	bool has_path;
	enum bn_match_type path_type;
	const char *path;
	uint32_t nhosts, nheaders, nqueries;
	const char **hosts; /* any of them; lower case; may begin with "*." */
	struct bn_http_kv *headers, *queries;
};

struct bn_rule {
	/* no peers: all peers; no ports: all ports and protocols */
	uint32_t npeers, nports, nhttp;
	struct bn_peer *peers;
	struct bn_policy_port *ports;
	bool has_http;		    /* HTTPNetworkPolicy: `http` was given (an empty list allows none) */
	struct bn_http_match *http; /* any of them */
};

struct bn_netpol {
	struct bn_obj o;
	struct bn_selector pods;
	bool ingress, egress; /* policyTypes, defaulted as the API says */
	uint32_t ningress, negress;
	struct bn_rule *in, *out;
	bool audit; /* annotation bpfnet.io/policy-audit: "true" on the policy */
};

/* The first rule with `http` of a policy, ingress before egress; NULL: it has none. */
const struct bn_rule *bn_netpol_http(const struct bn_netpol *np);

/* --- parsing --------------------------------------------------------------------------------- */

struct bn_err {
	char field[160]; /* as spec.ports[1].port; "" when it is the object itself */
	char msg[240];
	bool closed; /* it is well formed: no earlier version stays in force in its place */
};

/* Reads one API object. *ret is set on success (the caller owns a reference).
 *
 * Returns 0; -EOPNOTSUPP for a kind that bpfnet does not act on (*ret untouched), while one of
 * its kinds in an apiVersion of the same group that it cannot read is a bad object;
 * -EINVAL for a bad object: err says what is wrong, and for a policy whose namespace and name can
 * be read *ret is a stub with o.refused set, which isolates what the policy selects (everything in
 * the namespace if the selector itself is bad), else *ret is NULL; -ENOMEM.
 */
int bn_object_parse(const json_t *json, struct bn_obj **ret, struct bn_err *err);
/* The same, with so many steps for HTTP rules (policy/http.h). 1: *ret is the object, but whether its HTTP rules can
 * be enforced takes more; bn_http_check, on any thread, tells.
 */
int bn_object_read(const json_t *json, uint64_t steps, struct bn_obj **ret, struct bn_err *err);

/* The stub of a policy (json: a policy kind with a name) of which no more than that can be read. */
int bn_object_stub(const json_t *json, struct bn_obj **ret);

/* What an object is called, interned, also when the rest of it is bad; nil namespace is "default".
 * -EINVAL when that cannot be read: then what could be is set, the rest NULL.
 */
int bn_object_id(const json_t *json, enum bn_kind *kind, const char **ns, const char **name);

/* Kind, namespace and name of any object, for messages about those that cannot be parsed. Writes
 * "Service default/web" or as much of it as is there into buf; returns buf.
 */
char *bn_object_describe(const json_t *json, char *buf, size_t len);

int bn_addr_parse(const char *text, struct bn_addr *ret);  /* -EINVAL */
int bn_cidr_parse(const char *text, struct bn_cidr *ret);  /* clears host bits; -EINVAL */
bool bn_cidr_contains(const struct bn_cidr *c, const struct bn_addr *a);
#define BN_ADDR_STRLEN 46
char *bn_addr_format(const struct bn_addr *a, char buf[static BN_ADDR_STRLEN]);
const char *bn_proto_name(uint8_t proto); /* "TCP"; a number in a static table for others */
int bn_proto_parse(const char *text, uint8_t *ret); /* any case; -EINVAL */

#endif
