/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_SVC_PRIV_H
#define BN_MAPS_SVC_PRIV_H

/* Inside of maps/svc_*.c only: the mirror of the service maps. What is in mapped memory (records,
 * slots) is not copied: the mirror holds who owns what, and what is free.
 */

#include "maps/htab.h"
#include "maps/ranges.h"
#include "maps/reclaim.h"
#include "maps/svc_access.h"
#include "maps/util.h"

/* A service port of an owner: one svc_id, one entry of svc_names. */
struct sv_port {
	struct sv_port *next;
	uint32_t id, refs; /* records that carry the id */
	uint32_t mark;	   /* taken by a wanted port in this round of apply */
	uint8_t type;
	char *name;
};

/* One prefix set of src_ranges. */
struct sv_set {
	struct bn_hnode h; /* by id */
	uint32_t id, refs; /* records */
	uint32_t n;
	struct bn_want_src *v; /* sorted, unique */
};

/* A frontend in force: record idx. Its key, flags and range words are in svcs[idx]. */
struct sv_rec {
	struct bn_hnode h;	     /* by key */
	struct sv_rec *next, **prev; /* of the owner */
	struct bn_svc_owner *owner;
	struct sv_port *port;
	struct sv_set *set;
	uint32_t idx;
	uint32_t mark; /* round of apply that wanted it */
};

/* What may be short. */
enum sv_room {
	SV_SLOTS,
	SV_RECORDS,
	SV_NAMES,
	SV_ROOM__MAX,
};

/* A namespace, and what it has of each. */
struct sv_ns {
	struct bn_hnode h; /* by name */
	char *name;
	uint32_t owners, used[SV_ROOM__MAX];
	uint16_t id; /* 0: more namespaces than numbers; what it has is not counted */
};

struct bn_svc_owner {
	struct bn_hnode h; /* by name */
	struct sv_ns *ns;
	struct sv_rec *recs;
	struct sv_port *ports;
	char *name;
};

/* An address with a BN_SCOPE_ADDR entry. */
struct sv_addr {
	struct bn_hnode h;
	struct bn_addr addr;
	uint32_t refs[2]; /* by BN_FRONT_IDX_*: ClusterIPs, external ones */
	int have;	  /* what the map says: BN_FRONT_IDX_*, -1 nothing */
};

/* Waits for a grace period. */
struct sv_pend {
	enum {
		SV_PEND_IDX,
		SV_PEND_RANGE,
		SV_PEND_SET,
	} what;
	uint32_t a, n;
	struct sv_set *set;
};

struct bn_svcmap {
	struct bn_maps *maps;
	struct sv_rec **by_idx;
	uint64_t *busy; /* records that may not be handed out: in force or pending */
	uint32_t idx_max, idx_hint, idx_used;
	struct bn_htab recs, owners, addrs, sets, by_ns;
	struct sv_ns **spaces; /* by id */
	uint32_t nspaces;
	uint16_t *range_ns; /* by base: whose it is */
	uint32_t nports;
	struct bn_ranges *ra;
	uint32_t *refs; /* by base: records (times words) that point at the range */
	uint32_t slots_max, slots_pending;
	struct sv_pend *pend;
	uint32_t npend, pend_max, idx_pending;
	bool short_of; /* somebody was refused: what waits for a grace period is worth one */
	uint32_t next_svc_id, next_set, round;
	struct sv_broken { /* found at the start, for bn_svcmap_repair */
		struct bn_front_key *fronts;
		uint32_t *names, *records;
		uint32_t nfronts, nnames, nrecords;
		bool any;
	} broken;
	struct bn_reclaim *reclaim;
	uint64_t ticket;  /* of the grace period of the first nsealed in pend */
	uint32_t nsealed; /* 0: none is asked for */
	int (*grace)(void *data); /* tests: instead of reclaim, and waited for; else NULL */
	void *grace_data;
	uint64_t writes, graces, compactions;
	uint32_t compact_skip; /* failures to take before compaction is tried again */
};

/* --- svc_store.c: elements, references, what is free ------------------------------------------ */

struct bn_svc *sv_svc(const struct bn_svcmap *m, uint32_t idx);
/* The slots of a range in force, or of one that was made ready to be written. */
struct bn_backend *sv_slot(const struct bn_svcmap *m, uint32_t base);
struct bn_backend *sv_slots(const struct bn_svcmap *m, uint32_t base, uint32_t len);
/* Slots that a range takes, members included. */
uint32_t sv_range_len(const struct bn_svcmap *m, uint64_t word);

int sv_put(struct bn_svcmap *m, enum bn_map map, const void *key, const void *val);
int sv_del(struct bn_svcmap *m, enum bn_map map, const void *key);

int sv_idx_take(struct bn_svcmap *m, uint32_t *ret);
int sv_range_take(struct bn_svcmap *m, uint32_t len, uint32_t *ret);
void sv_pend(struct bn_svcmap *m, struct sv_pend p);
int sv_grace(struct bn_svcmap *m); /* waits */

/* Points one of the two words (range_int: which 1) of a record at a range of `count`, or says what
 * an empty one means; counts the references. False: it was so already.
 */
bool sv_word_set(struct bn_svcmap *m, uint32_t idx, int which, uint32_t base, uint32_t count);
void sv_word_ref(struct bn_svcmap *m, uint64_t word);
void sv_word_unref(struct bn_svcmap *m, uint64_t word);

int sv_addr_ref(struct bn_svcmap *m, const struct bn_addr *a, bool external);
void sv_addr_unref(struct bn_svcmap *m, const struct bn_addr *a, bool external);
struct sv_addr *sv_addr_get(struct bn_svcmap *m, const struct bn_addr *a);
/* Brings the map's entry of the address to what the references say. */
int sv_addr_write(struct bn_svcmap *m, struct sv_addr *a);

struct sv_rec *sv_rec_find(const struct bn_svcmap *m, const struct bn_front_key *key);
/* A new rec of svcs[idx], whose key is written, in the owner's list. NULL: no memory. */
struct sv_rec *sv_rec_new(struct bn_svcmap *m, struct bn_svc_owner *o, uint32_t idx);
void sv_rec_unlink(struct bn_svcmap *m, struct sv_rec *r); /* from its owner's list */
void sv_rec_link(struct sv_rec *r, struct bn_svc_owner *o);

struct sv_port *sv_port_new(struct bn_svcmap *m, struct bn_svc_owner *o, uint32_t id,
			    const char *name, uint8_t type);
void sv_port_free(struct bn_svcmap *m, struct bn_svc_owner *o, struct sv_port *p);
void sv_owner_free(struct bn_svcmap *m, struct bn_svc_owner *o);

struct sv_set *sv_set_new(struct bn_svcmap *m, uint32_t id);
struct sv_set *sv_set_find(const struct bn_svcmap *m, uint32_t id);
void sv_set_free(struct bn_svcmap *m, struct sv_set *s);
void sv_src_key(uint32_t set, const struct bn_want_src *v, struct bn_src_key *ret);

BN_INLINE bool sv_external(uint32_t flags)
{
	return flags & BN_SVC_F_EXTERNAL;
}

/* --- svc_share.c ----------------------------------------------------------------------------- */

struct sv_ns *sv_ns_get(struct bn_svcmap *m, const char *name); /* of an owner's name: one owner more. NULL: no memory */
void sv_ns_put(struct bn_svcmap *m, struct sv_ns *ns);		/* one less */
void sv_ns_free_all(struct bn_svcmap *m);
void sv_ns_add(struct sv_ns *ns, enum sv_room what, uint32_t n);
void sv_ns_sub(struct bn_svcmap *m, struct sv_ns *ns, enum sv_room what, uint32_t n);
/* 0; -EDQUOT: what room there is, is for others. */
int sv_ns_may(struct bn_svcmap *m, const struct sv_ns *ns, enum sv_room what, uint32_t n);
void sv_range_own(struct bn_svcmap *m, uint32_t base, uint32_t len, struct sv_ns *ns);
void sv_range_disown(struct bn_svcmap *m, uint32_t base, uint32_t len);

/* --- svc_compact.c: makes a free run of at least len; 0 or -ENOSPC, -ENOMEM. Nothing may be
 * pending. */

int sv_compact(struct bn_svcmap *m, uint32_t len);

/* --- svc_adopt.c ----------------------------------------------------------------------------- */

int sv_adopt(struct bn_svcmap *m);

#endif
