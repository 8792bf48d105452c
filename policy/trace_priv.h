/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_TRACE_PRIV_H
#define BN_POLICY_TRACE_PRIV_H

/* Inside of the trace: trace.c resolves the two ends and asks the matrices, trace_explain.c judges
 * and explains from the objects alone, trace_svc.c knows services, trace_text.c batches and prints.
 */

#include "policy/table.h"
#include "policy/trace.h"

struct bn_svcindex;

struct bn_tracer {
	const struct bn_store *store;
	struct bn_idents *ids;
	struct bn_compiler *c;
	struct bn_idents *own_ids;
	struct bn_compiler *own_c;
	struct bn_svcindex *svcs;
	const char *proxy_name; /* borrowed; NULL: the Services without that label */
	BN_VEC(struct bn_matrix *) held; /* so that a batch compiles each matrix once */
	const struct bn_verify_ops *verify;
	bool audit; /* of all pods */
};

/* One end of the connection. */
struct bn_side {
	const struct bn_pod *pod;      /* a pod with an address of its own */
	const struct bn_pod *host_pod; /* named as a pod of the host network: its node's address */
	const char *node;	       /* the node whose address it is, else NULL */
	uint32_t nips;
	const struct bn_addr *ips;
	struct bn_addr addr; /* the one that is used */
	struct bn_whois who;
};

/* A connection between two addresses: what is judged. */
struct bn_flow {
	struct bn_side from, to;
	uint8_t proto;
	uint16_t port;
	const struct bn_trace_query *q;
};

/* trace_explain.c: the verdict of one direction from the objects. `pod` is the isolated one. */
struct bn_explain {
	enum bn_action action;		/* DENY, ALLOW, HTTP */
	const struct bn_netpol *policy; /* of the rule that allows, or comes nearest */
	uint32_t index;
	bool nearest;
	const char *failed; /* "port", "peer" */
	char reason[400];
};
void bn_explain(const struct bn_flow *f, enum bn_dir dir, const struct bn_netpol *const *policies,
		size_t n, const struct bn_store *store, struct bn_explain *ret);
/* Does a rule of the object allow the connection? */
bool bn_explain_rule(const struct bn_flow *f, enum bn_dir dir, const struct bn_netpol *p,
		     const struct bn_rule *r, const struct bn_store *store);

/* trace.c */
int bn_trace_fail(json_t **ret, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int bn_trace_side(struct bn_tracer *t, const char *text, struct bn_side *ret, json_t **err);
/* 0 allow, 1 deny: *eg and *in are new references. */
int bn_trace_flow(struct bn_tracer *t, struct bn_flow *f, json_t **eg, json_t **in, json_t **err);
json_t *bn_trace_side_json(const struct bn_side *s);
bool bn_trace_family(const struct bn_side *from, struct bn_side *to, struct bn_addr *src);

json_t *bn_trace_rule_json(const struct bn_netpol *p, enum bn_dir dir, uint32_t index);

/* trace_http.c: the cell's HTTP rules over the request of the query; *allow, and into j what decided. */
int bn_trace_http(struct bn_tracer *t, const struct bn_cell *cell, const struct bn_flow *f, bool *allow,
		  json_t *j);
/* The loaded program's verdict over the request: 1, 0, negative errno. */
int bn_trace_http_verify(struct bn_tracer *t, const struct bn_cell *cell, const struct bn_flow *f, char *reason,
			 size_t len);
/* Allowed without a look at requests: does an HTTP rule say the same with one? Then j says that it is moot. */
int bn_trace_moot(const struct bn_tracer *t, const struct bn_matrix_view *v, const struct bn_flow *f, enum bn_dir dir,
		  json_t *j);
/* What to add to the reason of an answer that HTTP rules have a part in, or "". */
/* Is it a question that can be asked? */
int bn_trace_check(const struct bn_trace_query *q, json_t **err);
const char *bn_trace_http_note(const struct bn_trace_query *q, const json_t *eg, const json_t *in);

/* trace_svc.c: is `to` a service? 0: no; 1: yes, *svc describes the backends and their verdicts,
 * *allow says whether all allow; negative: *err.
 */
int bn_trace_service(struct bn_tracer *t, const struct bn_side *from,
		     const struct bn_trace_query *q, json_t **svc, bool *allow, json_t **eg,
		     json_t **in, json_t **err);
int bn_trace_svc_open(struct bn_tracer *t);
void bn_trace_svc_close(struct bn_tracer *t);

#endif
