/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_SELECT_H
#define BN_POLICY_SELECT_H

/* Selectors beyond matching (bn_selector_match and bn_labels_get are in object.h). */

#include "policy/object.h"
#include "policy/table.h"

/* The same requirements in any order, with the same values in any order, are equal. */
int bn_selector_copy(const struct bn_selector *s, struct bn_selector *ret); /* in canonical order */
void bn_selector_done(struct bn_selector *s);
/* Both canonical. */
bool bn_selector_eq(const struct bn_selector *a, const struct bn_selector *b);
uint64_t bn_selector_hash(const struct bn_selector *s);
/* "app=web,tier in (a,b),!x"; "everything" when empty. */
char *bn_selector_describe(const struct bn_selector *s, char *buf, size_t len);

/* The first requirement that the labels fail, NULL: they match. */
const struct bn_sel_req *bn_selector_failed(const struct bn_selector *s, const struct bn_labels *l);

/* Does an address lie in the block: inside the CIDR and in none of the excepts. */
bool bn_peer_block_match(const struct bn_peer *p, const struct bn_addr *a);

/* "pods with app=web in namespace shop", "10.0.0.0/8 except 10.1.0.0/16". */
char *bn_peer_describe(const char *ns, const struct bn_peer *p, char *buf, size_t len);

#endif
