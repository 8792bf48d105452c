/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_SERVICES_PRIV_H
#define BN_LOADER_MODEL_SERVICES_PRIV_H

/* Inside of loader/model/services*.c only. */

#include "loader/model/services.h"
#include "maps/htab.h"
#include "maps/svc_access.h"
#include "maps/util.h"

#define SVC_NAME_MAX 600 /* "namespace/name" */

/* A frontend that this entry wants and another one has. */
struct svc_loss {
	struct bn_hnode h; /* by key */
	struct bn_front_key key;
	struct svc_ent *ent;
	struct svc_loss *next; /* of the entry */
};

/* What an entry adds to the totals. */
struct svc_sums {
	uint32_t ports, endpoints, no_local_int, no_local_ext, refused, conflicts, plain, retry;
};

/* Namespaces take turns, so that whoever changes ten thousand services waits for himself. */
struct svc_ns {
	struct bn_hnode h; /* by name */
	const char *name;  /* interned */
	uint32_t ents;	   /* entries of it */
	struct svc_ent *dirty_head, **dirty_tail;
	struct svc_ns *turn_next; /* among those with something dirty */
	unsigned complaints; /* of its services that found no room: written to the log in the last minute */
	uint64_t complained_ns;
};

/* A service by name, as far as anything of it is known: the object, its slices, or frontends that
 * an earlier daemon left.
 */
struct svc_ent {
	struct bn_hnode h;	  /* by ns and name */
	const char *ns, *name;	  /* interned */
	struct svc_ns *space;
	struct bn_service *svc;	  /* a reference, or NULL */
	struct bn_slice **slices; /* references */
	uint32_t nslices, max_slices;
	struct svc_ent *dirty_next;
	bool dirty, complained;
	bool udp; /* has had UDP ports in force */
	struct svc_loss *losses;
	struct svc_sums sums;
	uint64_t retry_ns; /* sums.retry: not before then, unless much room came free; */
	unsigned retries;  /* and how often in vain */
	struct svc_ent *health_next, **health_prev; /* prev NULL: not in the list */
	uint16_t health_port;
	uint32_t health_local[2];
};

struct bn_services {
	struct bn_store *store;
	struct bn_svcmap *map;
	struct bn_svc_env env; /* strings are owned (node_name, proxy_name) or interned (zone) */
	char *node_name, *proxy_name;
	struct bn_htab ents, losses, spaces;
	struct svc_ns *turn_head, **turn_tail;
	uint64_t slice_ns; /* so long a sync may go on; 0: until all is done */
	struct svc_ent *health;
	uint64_t health_gen, udp_gen, udp_came;
	bool ready, started;
	uint64_t dirty_since_ns, retry_ns; /* CLOCK_MONOTONIC */
	uint64_t start_unix_ns;
	uint64_t *triggers; /* last-change-trigger-times of changes since the last sync */
	uint32_t ntriggers, max_triggers;
	struct svc_sums sums;
	struct bn_services_stats stats;
};

/* --- services.c ------------------------------------------------------------------------------ */

struct svc_ent *services_find(const struct bn_services *s, const char *ns, const char *name);
struct svc_ent *services_get(struct bn_services *s, const char *ns, const char *name);
void services_dirty(struct bn_services *s, struct svc_ent *e);
void services_dirty_all(struct bn_services *s);
/* services_turns.c: takes the next entry whose turn it is from the dirty ones; NULL: none is. */
struct svc_ent *services_next(struct bn_services *s);
struct svc_ns *services_space(struct bn_services *s, const char *ns); /* one more entry; NULL: no memory */
void services_space_put(struct bn_services *s, struct svc_ns *n);     /* one less */
void services_refused(struct svc_ent *e, bool refused, uint64_t now); /* when to try again */
const char *services_full_name(const struct svc_ent *e, char buf[static SVC_NAME_MAX]);
uint64_t services_now_ns(void); /* CLOCK_MONOTONIC */
uint64_t services_unix_ns(void);

/* --- services_apply.c ------------------------------------------------------------------------ */

/* Brings what is in the maps of one entry to what its objects say. */
int services_apply(struct bn_services *s, struct svc_ent *e);

/* --- services_conflict.c --------------------------------------------------------------------- */

enum bn_front_kind services_kind(uint32_t flags); /* of BN_SVC_F_* */
/* Leaves out the fronts that another service has with better right, and notes that e waits for
 * them; the others may be taken from whoever has them.
 */
int services_settle(struct bn_services *s, struct svc_ent *e, const struct bn_svc_owner *self,
		    struct bn_want_front *fronts, uint32_t *nfronts);
void services_losses_drop(struct bn_services *s, struct svc_ent *e);

/* The fronts of an entry for which others wait. */
struct svc_waiting {
	struct bn_services *s;
	struct svc_wait {
		struct bn_front_key key;
		enum bn_front_kind kind;
	} * v;
	uint32_t n;
};
/* Before e is applied (self NULL: it has none), and after: whoever waits for a front that e left,
 * or wants less than before, is made dirty. Frees w.
 */
int services_waiting(struct bn_services *s, const struct bn_svc_owner *self,
		     struct svc_waiting *ret);
void services_wake(struct bn_services *s, struct svc_ent *e, struct svc_waiting *w,
		   const struct bn_want_front *fronts, uint32_t nfronts);

/* --- services_stats.c ------------------------------------------------------------------------ */

void services_stats_init(struct bn_services_stats *st);
void services_observe(struct bn_histogram *h, double seconds);

#endif
