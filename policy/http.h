/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_HTTP_H
#define BN_POLICY_HTTP_H

/* HTTP rules to tables (maps/http.h), and the verdict of the tables over a request. Pure: no kernel.
 *
 * What is matched: the method as it is; the path normalised (%XX of unreserved bytes decoded, other hex
 * digits in upper case; empty and dot segments, encoded '/' and '\\' never get so far) and without the query;
 * the host in lower case without its port; a header's values without white space around them, joined by ", "
 * when it comes more than once; each query parameter decoded, all of one name have to match.
 *
 * Regular expressions: POSIX extended as libfa reads it, anchored at both ends, bytes not characters: . [] [^]
 * () | * + ? {n} {n,} {n,m} and \ before punctuation. Anchors (^ $), classes by name ([:alpha:], \d, \w),
 * (?...), back references, a backslash inside brackets and a repetition of a repetition are refused. For paths they
 * see the normalised path.
 *
 * Limits, each an error that names the field: 1,024 matches, 16 header names and 16 query parameter names of
 * all rules on one port, 512 bytes of a regular expression and 4,096 positions once its counts are spelled
 * out, 32,768 states and 1,048,576 cells of an automaton, 16 million steps to make all of a set, and all of an
 * object.
 */

#include "maps/http.h"
#include "policy/object.h"

enum {
	BN_HTTP_REGEX_MAX = 512,
	BN_HTTP_POSITIONS_MAX = 4096,
	BN_HTTP_STATES_MAX = 32768,
	BN_HTTP_CELLS_MAX = 1 << 20,
	BN_HTTP_WORK_MAX = 16 << 20, /* steps of some 0.1 us: of a set, and of an object */
	BN_HTTP_WORK_NOW = 32 << 10, /* what the daemon's loop may spend on one: a few milliseconds */
};

struct bn_http_rules; /* immutable, the same bytes for the same rules */

/* Compiles rules with http, of which any may allow a request. Match k of the tables is bn_http_rules_match.
 * -EINVAL, -E2BIG: err->field is like "rule 3: http[0].path.value".
 */
int bn_http_compile(const struct bn_rule *const *rules, size_t n, struct bn_http_rules **ret,
		    struct bn_err *err);
/* The same with so many steps: -EAGAIN when they are too few to tell. */
int bn_http_compile_some(const struct bn_rule *const *rules, size_t n, uint64_t steps, struct bn_http_rules **ret,
			 struct bn_err *err);
void bn_http_rules_freep(struct bn_http_rules **r);
/* Rule (index into `rules`) and entry of its http list that match k stands for. */
void bn_http_rules_match(const struct bn_http_rules *r, uint32_t k, uint32_t *rule, uint32_t *index);

/* The tables as they would go into maps. */
struct bn_http_view {
	const struct bn_http_tab *tab;
	const uint16_t *cells;
	const uint64_t *words;
	size_t ncells, nwords;
};
void bn_http_rules_view(const struct bn_http_rules *r, struct bn_http_view *ret);

/* Are all HTTP rules of the policy such that they can be enforced? err->field as spec.ingress[0].http[1].path */
int bn_http_check(const struct bn_netpol *np, struct bn_err *err);
/* The same with so many steps: -EAGAIN when they are too few to tell. */
int bn_http_check_some(const struct bn_netpol *np, uint64_t steps, struct bn_err *err);

/* Feeds bytes of a connection's request direction: n of them, or fewer when a head is allowed or something is
 * denied. Returns as bn_http_byte, and goes on behind an offer of HTTP/2; *used counts the bytes that were taken.
 */
int bn_http_feed(const struct bn_http_rules *r, struct bn_http_state *s, const void *bytes, size_t n,
		 size_t *used);
bool bn_http_feed_idle(const struct bn_http_state *s); /* between requests */
/* The client says no more: 0, or denied as bn_http_byte. */
int bn_http_feed_end(struct bn_http_state *s);
/* The server's answer to an allowed Upgrade or CONNECT: did it switch? */
void bn_http_feed_answer(struct bn_http_state *s, bool switched);
const char *bn_http_reason_name(enum bn_http_reason reason);
const char *bn_http_reason_text(enum bn_http_reason reason);

struct bn_http_request {
	const char *method, *target;
	const char *host; /* NULL: what a header Host says, or "localhost" */
	size_t nheaders;
	const char *const *headers; /* "Name: value" */
};

/* As HTTP/1.1. The caller frees *ret. */
int bn_http_request_text(const struct bn_http_request *q, char **ret, size_t *len);

struct bn_http_verdict {
	bool allow;
	enum bn_http_reason reason; /* when denied */
	uint32_t rule, match;	    /* that allows; when none does, the one that comes nearest */
	bool nearest;
	char field[160]; /* of the nearest one: which does not hold, like "path.value" */
};

/* One request, as HTTP/1.1. With 1,000 rules a denial takes some milliseconds to explain. */
int bn_http_judge(const struct bn_rule *const *rules, size_t n, const struct bn_http_request *q,
		  struct bn_http_verdict *ret);

#endif
