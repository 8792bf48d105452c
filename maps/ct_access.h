/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_CT_ACCESS_H
#define BN_MAPS_CT_ACCESS_H

/* The connection table as people want it: each flow once, translated or not. Nothing here writes
 * entries: the table is the kernel side's alone (locks in buckets, seqcounts in entries).
 */

#include "maps/ct_carry.h"
#include "maps/ct_flush.h"
#include "maps/ct_import.h"
#include "maps/maps.h"

struct bn_ct_flow {
	struct bn_addr src, dst, backend; /* backend: dst again when nothing was translated */
	struct bn_addr nat_src;		  /* what the server sees as the source */
	__be16 sport, dport, backend_port, nat_sport;
	uint8_t proto;
	bool translated, snat; /* by a service; the source, too */
	uint32_t flags; /* BN_CT_F_* */
	uint32_t expires_s, age_s; /* from now; since it was created */
	uint32_t svc_idx, slot, ifindex;
	uint64_t packets[2], bytes[2]; /* original, reply */
	struct bn_ct_victim place[2]; /* its entries */
	unsigned nplaces;
};

/* All flows that have not expired, in no order; free(*ret). The table is not stopped meanwhile: a flow
 * that begins or ends during the walk may be missing.
 */
int bn_ct_flows(const struct bn_maps *m, struct bn_ct_flow **ret, size_t *n);

/* Forgets these flows; *gone: entries taken out (a translated flow has two). One that was taken over
 * by another flow since it was read is left alone. Needs the right to load a program.
 */
int bn_ct_flush(const struct bn_maps *m, const struct bn_ct_flow *flows, size_t n, size_t *gone);

/* Enters flows that the kernel's own conntrack translates. done: entered now; known: one of its tuples is
 * that of a translated flow already; full: no room. Needs the right to load a program.
 */
struct bn_ct_imported {
	size_t done, known, full;
};
int bn_ct_import(const struct bn_maps *m, const struct bn_ct_foreign *flows, size_t n,
		 struct bn_ct_imported *ret);

/* Puts what lives in another table of this layout (its two maps, of so many buckets) into m's. What m's has
 * already stays, and learns what became of it since. Without `same` the other maps around it are others: the flows
 * keep their translation and nothing else, policies judge them anew; UDP flows, which can begin anew, and those
 * whose requests are judged are left behind. Needs the right to load a program.
 */
struct bn_ct_carried {
	size_t done, known, full;
};
int bn_ct_carry(const struct bn_maps *m, int heads, int ct, uint32_t buckets, bool same, struct bn_ct_carried *ret);

/* "ESTABLISHED", "SYN_SENT", "FIN_WAIT", "CLOSED"; other protocols "REPLIED", "UNREPLIED". */
const char *bn_ct_state(const struct bn_ct_flow *f);

/* How many of the table's entries are in use, and of how many: counted in a random sample of about
 * `buckets` of them, so that a scrape costs the same for every size of the table.
 */
int bn_ct_fill(const struct bn_maps *m, uint32_t buckets, uint64_t *used, uint64_t *max);

#endif
