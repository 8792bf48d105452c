/* SPDX-License-Identifier: MIT */
/* What is known of services and what is dirty; see loader/model/services.h. */
#include "loader/model/services.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "loader/log.h"
#include "loader/model/services_priv.h"
#include "policy/intern.h"

#define RETRY_NS 5000000000ull

uint64_t services_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t services_unix_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

const char *services_full_name(const struct svc_ent *e, char buf[static SVC_NAME_MAX])
{
	snprintf(buf, SVC_NAME_MAX, "%s/%s", e->ns, e->name);
	return buf;
}

/* --- entries --------------------------------------------------------------------------------- */

static uint32_t ent_hash(const char *ns, const char *name)
{
	return bn_hash_bytes(ns, strlen(ns)) * 31 + bn_hash_bytes(name, strlen(name));
}

struct svc_ent *services_find(const struct bn_services *s, const char *ns, const char *name)
{
	struct bn_hnode *n;

	for (n = bn_htab_first(&s->ents, ent_hash(ns, name)); n; n = bn_htab_next(n)) {
		struct svc_ent *e = bn_container(n, struct svc_ent, h);

		if (!strcmp(e->name, name) && !strcmp(e->ns, ns))
			return e;
	}
	return NULL;
}

/* Of an entry that is in no table and no list any more. */
static void ent_release(struct bn_services *s, struct svc_ent *e)
{
	if (e->space)
		services_space_put(s, e->space);
	if (e->svc)
		bn_obj_unref(&e->svc->o);
	for (uint32_t i = 0; i < e->nslices; i++)
		bn_obj_unref(&e->slices[i]->o);
	free(e->slices);
	bn_intern_unref(e->ns);
	bn_intern_unref(e->name);
	free(e);
}

struct svc_ent *services_get(struct bn_services *s, const char *ns, const char *name)
{
	struct svc_ent *e = services_find(s, ns, name);

	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->ns = bn_intern_ref(bn_intern(ns));
	e->name = bn_intern_ref(bn_intern(name));
	e->space = e->ns ? services_space(s, e->ns) : NULL;
	if (!e->space || !e->name || bn_htab_add(&s->ents, &e->h, ent_hash(ns, name)) < 0) {
		ent_release(s, e);
		return NULL;
	}
	return e;
}

static void ent_free(struct bn_services *s, struct svc_ent *e)
{
	services_losses_drop(s, e);
	if (e->health_prev) {
		*e->health_prev = e->health_next;
		if (e->health_next)
			e->health_next->health_prev = e->health_prev;
	}
	bn_htab_del(&s->ents, &e->h);
	ent_release(s, e);
}

void services_dirty_all(struct bn_services *s)
{
	for (struct bn_hnode *n = bn_htab_head(&s->ents); n; n = bn_htab_after(&s->ents, n))
		services_dirty(s, bn_container(n, struct svc_ent, h));
}

/* --- the store ------------------------------------------------------------------------------- */

static void on_service(struct bn_services *s, const struct bn_obj *old, const struct bn_obj *new)
{
	const struct bn_obj *o = new ? new : old;
	struct svc_ent *e = services_get(s, o->ns, o->name);

	if (!e) {
		log_error("service %s/%s: out of memory, not applied", o->ns, o->name);
		return;
	}
	if (e->svc)
		bn_obj_unref(&e->svc->o);
	e->svc = new ? (struct bn_service *)bn_obj_ref((struct bn_obj *)new) : NULL;
	services_dirty(s, e);
	s->stats.service_changes++;
	s->stats.service_pending++;
}

static void slice_drop(struct bn_services *s, const struct bn_slice *slice)
{
	struct svc_ent *e;

	if (!bn_slice_usable(slice))
		return;
	e = services_find(s, slice->o.ns, slice->service);
	for (uint32_t i = 0; e && i < e->nslices; i++) {
		if (e->slices[i] != slice)
			continue;
		e->slices[i] = e->slices[--e->nslices];
		services_dirty(s, e);
		bn_obj_unref((struct bn_obj *)&slice->o);
		return;
	}
}

static void slice_add(struct bn_services *s, const struct bn_slice *slice)
{
	struct svc_ent *e;

	if (!bn_slice_usable(slice))
		return;
	e = services_get(s, slice->o.ns, slice->service);
	if (e && e->nslices == e->max_slices) {
		uint32_t max = e->max_slices ? e->max_slices * 2 : 1;
		struct bn_slice **v = reallocarray(e->slices, max, sizeof(*v));

		if (v) {
			e->slices = v;
			e->max_slices = max;
		}
	}
	if (!e || e->nslices == e->max_slices) {
		log_error("endpointslice %s/%s: out of memory, not applied", slice->o.ns,
			  slice->o.name);
		return;
	}
	e->slices[e->nslices++] = (struct bn_slice *)bn_obj_ref((struct bn_obj *)&slice->o);
	services_dirty(s, e);
}

/* For the latency from a change in the cluster to the kernel; older ones are not our doing. */
static void trigger_note(struct bn_services *s, const struct bn_slice *slice)
{
	if (slice->trigger_time_ns <= s->start_unix_ns)
		return;
	if (s->ntriggers == s->max_triggers) {
		uint32_t max = s->max_triggers ? s->max_triggers * 2 : 64;
		uint64_t *v = max > 1 << 20 ? NULL : reallocarray(s->triggers, max, sizeof(*v));

		if (!v)
			return;
		s->triggers = v;
		s->max_triggers = max;
	}
	s->triggers[s->ntriggers++] = slice->trigger_time_ns;
}

static void on_slice(struct bn_services *s, const struct bn_obj *old, const struct bn_obj *new)
{
	/* The new one first: an entry that only its slices keep must not go in between. */
	if (new)
		slice_add(s, (const struct bn_slice *)new);
	if (old)
		slice_drop(s, (const struct bn_slice *)old);
	if (new)
		trigger_note(s, (const struct bn_slice *)new);
	s->stats.endpoint_changes++;
	s->stats.endpoint_pending++;
}

static bool name_eq(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static void on_node(struct bn_services *s, const struct bn_node *n, bool gone)
{
	struct bn_addr v4 = {0}, v6 = {0};
	const char *zone = gone ? NULL : n->zone;

	if (!name_eq(n->o.name, s->node_name))
		return;
	for (uint32_t i = 0; !gone && i < n->nips; i++) {
		struct bn_addr *a = bn_addr_is_v4(&n->ips[i]) ? &v4 : &v6;

		if (bn_addr_is_zero(a))
			*a = n->ips[i];
	}
	if (name_eq(zone, s->env.zone) && bn_addr_eq(&v4, &s->env.node4) &&
	    bn_addr_eq(&v6, &s->env.node6))
		return;
	bn_intern_unref(s->env.zone);
	s->env.zone = bn_intern_ref(bn_intern(zone));
	s->env.node4 = v4;
	s->env.node6 = v6;
	services_dirty_all(s);
}

static void on_change(const struct bn_obj *old, const struct bn_obj *new, void *data)
{
	struct bn_services *s = data;
	const struct bn_obj *o = new ? new : old;

	switch (o->kind) {
	case BN_KIND_SERVICE:
		on_service(s, old, new);
		break;
	case BN_KIND_ENDPOINTSLICE:
		on_slice(s, old, new);
		break;
	case BN_KIND_NODE:
		on_node(s, (const struct bn_node *)o, !new);
		break;
	default:
		return;
	}
	s->stats.queued_last_s = (double)services_unix_ns() / 1e9;
}

static int replay(struct bn_obj *o, void *data)
{
	on_change(NULL, o, data);
	return 0;
}

/* --- sync ------------------------------------------------------------------------------------ */

/* Services that an earlier daemon served, and of which nothing is known any more. */
static int note_owner(struct bn_svc_owner *o _unused_, const char *name, void *data)
{
	struct bn_services *s = data;
	char buf[SVC_NAME_MAX], *slash;
	struct svc_ent *e;

	snprintf(buf, sizeof(buf), "%s", name);
	slash = strchr(buf, '/');
	if (!slash)
		return -EINVAL;
	*slash = '\0';
	e = services_get(s, buf, slash + 1);
	if (!e)
		return -ENOMEM;
	services_dirty(s, e);
	return 0;
}

static int services_start(struct bn_services *s)
{
	int r = bn_svcmap_repair(s->map);
	struct bn_svcmap_stats st;

	if (r < 0)
		return log_err_r(r, "services: cleaning up what an earlier daemon left");
	r = bn_svcmap_owners(s->map, note_owner, s);
	if (r < 0)
		return log_err_r(r, "services: taking over what is pinned");
	bn_svcmap_stats(s->map, &st);
	s->udp_gen += st.owners > 0; /* whatever left while no daemon ran */
	services_dirty_all(s);
	s->started = true;
	return 0;
}

/* So much room is worth a try for everybody. */
static bool roomy(const struct bn_services *s)
{
	struct bn_svcmap_stats st;

	bn_svcmap_stats(s->map, &st);
	return st.slots_used < st.slots_max / 4 * 3;
}

static void retry_refused(struct bn_services *s, uint64_t now)
{
	bool all;

	if (!s->sums.retry || now < s->retry_ns)
		return;
	s->retry_ns = now + RETRY_NS;
	all = roomy(s);
	for (struct bn_hnode *n = bn_htab_head(&s->ents); n; n = bn_htab_after(&s->ents, n)) {
		struct svc_ent *e = bn_container(n, struct svc_ent, h);

		if (e->sums.retry && (all || now >= e->retry_ns))
			services_dirty(s, e);
	}
}

/* until 0: all of it. */
static int sync_dirty(struct bn_services *s, uint64_t until)
{
	struct svc_ent *e;
	int r = 0, err;

	while ((e = services_next(s))) {
		err = services_apply(s, e);
		r = r ? r : err;
		if (!e->svc && !e->nslices && !e->dirty && !e->sums.retry)
			ent_free(s, e);
		if (until && services_now_ns() >= until)
			break;
	}
	return r;
}

static void sync_done(struct bn_services *s, uint64_t began, bool full)
{
	double took = (double)(services_now_ns() - began) / 1e9;
	uint64_t now = services_unix_ns();

	services_observe(&s->stats.sync, took);
	services_observe(full ? &s->stats.sync_full : &s->stats.sync_partial, took);
	for (uint32_t i = 0; i < s->ntriggers; i++)
		if (now > s->triggers[i])
			services_observe(&s->stats.programming,
					 (double)(now - s->triggers[i]) / 1e9);
	s->ntriggers = 0;
	s->stats.sync_last_s = (double)now / 1e9;
	s->health_gen++;
	if (s->turn_head)
		return;
	s->stats.service_pending = 0;
	s->stats.endpoint_pending = 0;
	s->dirty_since_ns = 0;
}

int bn_services_sync(struct bn_services *s)
{
	uint64_t began;
	bool full = !s->started;
	int r;

	if (!s->ready || (s->started && !s->turn_head && !s->sums.retry))
		return 0;
	began = services_now_ns();
	if (full) {
		r = services_start(s);
		if (r < 0)
			return r;
	}
	retry_refused(s, began);
	if (!s->turn_head && !full)
		return 0;
	r = sync_dirty(s, s->slice_ns && !full ? began + s->slice_ns : 0);
	sync_done(s, began, full);
	bn_svcmap_reclaim(s->map, false);
	return r;
}

void bn_services_set_ready(struct bn_services *s, bool ready)
{
	s->ready = ready;
}

bool bn_services_in_force(const struct bn_services *s)
{
	return s->ready && s->started && !s->turn_head;
}

void bn_services_set_slice(struct bn_services *s, uint64_t ns)
{
	s->slice_ns = ns;
}

bool bn_services_unfinished(const struct bn_services *s)
{
	return s->ready && s->started && s->turn_head;
}

uint64_t bn_services_pending_ns(const struct bn_services *s)
{
	return s->started && s->dirty_since_ns ? services_now_ns() - s->dirty_since_ns : 0;
}

/* --- life ------------------------------------------------------------------------------------ */

int bn_services_new(struct bn_store *store, struct bn_maps *maps, const struct bn_svc_env *env,
		    struct bn_services **ret)
{
	_cleanup_(bn_services_freep) struct bn_services *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->store = store;
	s->turn_tail = &s->turn_head;
	s->start_unix_ns = services_unix_ns();
	services_stats_init(&s->stats);
	s->node_name = strdup(env->node_name ? env->node_name : "");
	s->proxy_name = env->proxy_name ? strdup(env->proxy_name) : NULL;
	if (!s->node_name || (env->proxy_name && !s->proxy_name))
		return -ENOMEM;
	s->env = (struct bn_svc_env){
		.node_name = s->node_name,
		.proxy_name = s->proxy_name,
		.maglev = env->maglev,
	};
	r = bn_svcmap_open(maps, &s->map);
	if (r < 0)
		return r;
	/* What the store has already, then what comes. */
	(void)bn_store_each(store, BN_KIND_NODE, replay, s);
	(void)bn_store_each(store, BN_KIND_SERVICE, replay, s);
	(void)bn_store_each(store, BN_KIND_ENDPOINTSLICE, replay, s);
	r = bn_store_listen(store, on_change, s);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

void bn_services_freep(struct bn_services **p)
{
	struct bn_services *s = *p;
	struct bn_hnode *n;
	uint32_t at = 0;

	if (!s)
		return;
	while ((n = bn_htab_pop(&s->ents, &at))) {
		struct svc_ent *e = bn_container(n, struct svc_ent, h);

		services_losses_drop(s, e);
		ent_release(s, e);
	}
	bn_htab_clear(&s->ents);
	bn_htab_clear(&s->losses);
	bn_htab_clear(&s->spaces);
	if (s->started) /* leave nothing for the next daemon to clean up */
		bn_svcmap_reclaim(s->map, true);
	bn_svcmap_freep(&s->map);
	free(s->triggers);
	free(s->node_name);
	free(s->proxy_name);
	bn_intern_unref(s->env.zone);
	free(s);
	*p = NULL;
}

const char *bn_services_name(const struct bn_services *s, uint32_t svc_idx)
{
	return bn_svcmap_name_of(s->map, svc_idx);
}

uint64_t bn_services_udp_gen(const struct bn_services *s)
{
	return s->udp_gen;
}

uint64_t bn_services_udp_came(const struct bn_services *s)
{
	return s->udp_came;
}

/* The exact frontend first, as in the kernel. */
bool bn_services_udp_keeps(const struct bn_services *s, const struct bn_sk_peer *peer)
{
	struct bn_front_key key = {
		.addr = peer->front,
		.port = peer->front_port,
		.proto = BN_PROTO_UDP,
		.scope = BN_SCOPE_EXACT,
	};

	if (!bn_svcmap_holder(s->map, &key))
		bn_front_nodeport(&key, &peer->front, peer->front_port, BN_PROTO_UDP);
	return bn_svcmap_keeps(s->map, &key, &peer->back, peer->back_port);
}

bool bn_services_udp_nodeport(const struct bn_services *s, const struct bn_sk_peer *peer)
{
	struct bn_front_key key;

	bn_front_nodeport(&key, &peer->front, peer->front_port, BN_PROTO_UDP);
	return bn_svcmap_serves(s->map, &key);
}

uint64_t bn_services_health_gen(const struct bn_services *s)
{
	return s->health_gen;
}

void bn_services_health(const struct bn_services *s,
			void (*fn)(const struct bn_svc_health *h, void *data), void *data)
{
	for (const struct svc_ent *e = s->health; e; e = e->health_next) {
		struct bn_svc_health h = {
			.ns = e->ns,
			.name = e->name,
			.port = e->health_port,
			.local = {e->health_local[0], e->health_local[1]},
		};

		fn(&h, data);
	}
}
