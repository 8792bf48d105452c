/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_OBJECT_READ_H
#define BN_POLICY_OBJECT_READ_H

/* Inside of bn_object_parse: typed, bounded reading of JSON into one block of memory.
 *
 * The object is built in a scratch area that every parse reuses, then copied into one block of its
 * exact size. Every pointer into the area that is stored in the area goes through bn_rd_array, so
 * that it can be moved. Readers give 0, -EINVAL with the error filled in, or -ENOMEM. Missing and
 * null are the same for all of them, and a missing parent has no members.
 */

#include "policy/object.h"

/* Where in the object we are, for messages: a list on the stack. */
struct bn_at {
	const struct bn_at *up;
	const char *key; /* NULL: index */
	size_t index;
	bool in_map; /* printed as [key] */
};

#define BN_AT(up_, key_) (&(const struct bn_at){ .up = (up_), .key = (key_) })
#define BN_AT_I(up_, i_) (&(const struct bn_at){ .up = (up_), .index = (i_) })
#define BN_AT_K(up_, key_) (&(const struct bn_at){ .up = (up_), .key = (key_), .in_map = true })

struct bn_rd {
	char *mem;	/* the object under construction is at its start */
	size_t used;
	uint32_t *reloc; /* offsets in mem of the pointers into mem */
	size_t nreloc, max_reloc, nstrings;
	struct bn_err *err;
};

#define BN_STR_MAX 4096	   /* bytes of any string without a limit of its own */
#define BN_LIST_MAX 16384  /* elements of any list without a limit of its own */

int bn_rd_begin(struct bn_rd *rd, struct bn_err *err, size_t size, struct bn_obj **ret);
/* Copies the object into a block of its own, with one reference. rv may be NULL. From then on the
 * object refers to its strings, until bn_rd_release.
 */
int bn_rd_finish(struct bn_rd *rd, const char *rv, struct bn_obj **ret);
void bn_rd_release(const struct bn_obj *o);

/* Room for n elements, zeroed; *slot, which lies in the area, is set to it. n 0 gives NULL. */
int bn_rd_array(struct bn_rd *rd, void *slot, size_t n, size_t size);
/* A copy of s in the area: for strings that are not worth interning. */
int bn_rd_copy(struct bn_rd *rd, const char **slot, const char *s);

/* Fills in the error and returns -EINVAL. */
int bn_rd_fail(struct bn_rd *rd, const struct bn_at *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

int bn_rd_get(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	      json_type type, const json_t **ret);
int bn_rd_list(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	       size_t max, const json_t **ret, size_t *n);
/* Checks one value that is known to be there: a string of at most max bytes, without NUL. */
int bn_rd_text(struct bn_rd *rd, const struct bn_at *at, const json_t *v, size_t max,
	       const char **ret);
int bn_rd_str(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	      size_t max, const char **ret);
int bn_rd_intern(struct bn_rd *rd, const char *s, const char **ret);
/* bn_rd_str, then interned; NULL when missing. */
int bn_rd_istr(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	       size_t max, const char **ret);
int bn_rd_bool(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	       bool def, bool *ret);
/* *has tells a value from a missing one, for which *ret is 0. */
int bn_rd_int(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	      long lo, long hi, bool *has, long *ret);
/* One of names[0..n); missing or "" gives def, or an error if def is negative. */
int bn_rd_enum(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, const char *key,
	       const char *const *names, size_t n, int def, int *ret);
int bn_rd_proto(struct bn_rd *rd, const struct bn_at *up, const json_t *obj, uint8_t *ret);
int bn_rd_addr(struct bn_rd *rd, const struct bn_at *at, const char *text, struct bn_addr *ret);
int bn_rd_cidr(struct bn_rd *rd, const struct bn_at *at, const char *text, struct bn_cidr *ret);
/* Error if obj has a member, other than a null, that is not in the list, which ends in NULL. */
int bn_rd_only(struct bn_rd *rd, const struct bn_at *at, const json_t *obj,
	       const char *const *known);
/* One label, checked and interned. */
int bn_rd_label(struct bn_rd *rd, const struct bn_at *at, const char *key, const json_t *v,
		struct bn_label *ret);
/* A map of strings as sorted labels; ret lies in the area. */
int bn_rd_labels(struct bn_rd *rd, const struct bn_at *at, const json_t *map,
		 struct bn_labels *ret);

/* True for an address that can never be a backend or front: unspecified, loopback, multicast,
 * broadcast; why says which.
 */
bool bn_addr_unusable(const struct bn_addr *a, const char **why);
bool bn_dns_subdomain(const char *s);
/* What the API takes as a label's key and value. */
bool bn_label_key(const char *s);
bool bn_label_value(const char *s);
bool bn_dns_label(const char *s);
bool bn_port_name(const char *s);

/* The kinds. spec is NULL when missing. */
int bn_parse_service(struct bn_rd *rd, const json_t *json, struct bn_service *svc);
int bn_parse_slice(struct bn_rd *rd, const json_t *json, struct bn_slice *sl);
int bn_parse_pod(struct bn_rd *rd, const json_t *json, struct bn_pod *pod);
int bn_parse_namespace(struct bn_rd *rd, const json_t *json, struct bn_namespace *ns);
int bn_parse_node(struct bn_rd *rd, const json_t *json, struct bn_node *node);
int bn_parse_netpol(struct bn_rd *rd, const json_t *json, struct bn_netpol *np);
/* Only what a refused policy needs in order to isolate; never refuses. */
int bn_parse_netpol_stub(struct bn_rd *rd, const json_t *json, struct bn_netpol *np);
/* The http list of a rule of an HTTPNetworkPolicy. */
int bn_parse_http(struct bn_rd *rd, const struct bn_at *at, const json_t *rule, struct bn_rule *r);

const char *bn_meta_annotation(const json_t *json, const char *key);

#endif
