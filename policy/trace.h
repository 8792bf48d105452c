/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_TRACE_H
#define BN_POLICY_TRACE_H

/* Why is this connection allowed or denied: the answer for the whole cluster (egress at the
 * source, ingress at the destination, on whatever nodes they are), from the compiled matrices that
 * the kernel uses, explained from the objects. The two must agree: a difference is an error, not an
 * answer.
 */

#include <stdio.h>

#include "policy/compile.h"
#include "policy/http.h"
#include "policy/store.h"

struct bn_trace_query {
	const char *from; /* NS/POD or an address */
	const char *to;	  /* NS/POD, NS/svc:NAME or an address */
	uint8_t proto;	  /* enum bn_proto; protocols without ports: port 0 */
	uint16_t port;
	/* HTTP, all optional: without a method the connection is judged, not a request. The verdict of a
	 * request is that of the rules; the kernel of this version refuses the port, and the reason says so.
	 */
	const char *http_method, *http_target, *http_host;
	size_t nheaders;
	const char **headers; /* "Name: value" */
};

struct bn_tracer;

/* Compiles everything of the store (offline), or looks at what the daemon has compiled. The store
 * and what is borrowed must not change while the tracer is used.
 */
int bn_tracer_new(const struct bn_store *store, struct bn_tracer **ret);
int bn_tracer_borrow(const struct bn_store *store, struct bn_idents *ids, struct bn_compiler *c,
		     struct bn_tracer **ret);
void bn_tracer_freep(struct bn_tracer **t);

/* The kernel's own verdict, for --verify: judges a synthetic packet with the loaded program
 * (loader/kernel) and returns 1 allowed, 0 denied, negative errno. reason is a name of maps/drop.h
 * or
 * "". src and dst are addresses after translation; m NULL: the pod is not isolated.
 */
struct bn_verify_ops {
	int (*judge)(void *data, enum bn_dir dir, const struct bn_matrix *m,
		     const struct bn_addr *src, const struct bn_addr *dst, uint32_t peer_identity,
		     uint8_t proto, uint16_t port, char *reason, size_t len);
	/* One request on a connection that is let in, by the cell's HTTP rules. reason: of maps/http.h. */
	int (*request)(void *data, const struct bn_rule *const *rules, size_t n, const struct bn_http_request *q,
		       char *reason, size_t len);
	void *data;
};
void bn_tracer_verify(struct bn_tracer *t, const struct bn_verify_ops *ops);
/* --service-proxy-name: whose Services are asked about; borrowed. Only before the first query. */
int bn_tracer_proxy(struct bn_tracer *t, const char *name);
void bn_tracer_audit(struct bn_tracer *t, bool audit); /* --policy-audit: what is denied passes on every node */

/* Returns 0 (allow), 1 (deny), or negative: then *ret is {"error": "..."}: a name that is not known
 * (-ENOENT), nonsense (-EINVAL). *ret is always set unless memory is out.
 *
 * {"verdict": "allow"|"deny", "from": {...}, "to": {...}, "protocol", "port",
 *  "egress":  {"verdict", "isolated": true|false, "policies": [{"namespace","name"}],
 *              "rule": {"kind","namespace","name","direction","index"} | null,
 *              "nearest": {... the rule that came closest, "failed": "port"|"peer", "reason":
 * "..."}}, "ingress": the same, "service":
 * {"namespace","name","port","backends":[{"address","port","pod","verdict", "egress","ingress"}],
 * "partial": true when they differ} | null, "reason": one sentence, "kernel": {"verdict","agrees"}
 * or {"error"} with --verify (each direction has its own, too, except for traffic of a pod with
 * itself or its node, which no policy judges)}
 *
 * "audit": true beside a direction's verdict "deny": it is recorded, and passes.
 *
 * A request that HTTP rules judged: "rule" or "nearest" has "match" (entry of its http list), "failed"
 * is like "http[0].path". Without a request the answer is about the connection, and says that each request will be
 * judged. "moot": an HTTP rule that restricts nothing, because another rule allows the same without a look.
 *
 * To a service the verdict is "allow" only if every backend is allowed.
 */
int bn_tracer_run(struct bn_tracer *t, const struct bn_trace_query *q, json_t **ret);
/* One query: bn_tracer_new and bn_tracer_run. */
int bn_trace(const struct bn_store *store, const struct bn_trace_query *q, json_t **ret);

/* A line of a batch, `from to proto port [http...]`, is cut in place: pointers of *q point into it
 * (headers are owned by q: bn_trace_query_done). http: METHOD TARGET [host=H] [header="K: V"]...
 * 0; 1 for an empty line or a comment; -EINVAL with a message in err.
 */
int bn_trace_parse_line(char *line, struct bn_trace_query *q, char *err, size_t errlen);
void bn_trace_query_done(struct bn_trace_query *q);
/* Runs a batch: one compact JSON object a line on out. 0, or negative when in or out fails. */
int bn_tracer_batch(struct bn_tracer *t, FILE *in, FILE *out);

/* For people: the same object as text. */
void bn_trace_print(FILE *out, const json_t *answer);

#endif
