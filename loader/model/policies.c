// SPDX-License-Identifier: MIT
#include "loader/model/policies.h"

#include <string.h>
#include <time.h>

#include "loader/log.h"
#include "loader/model/policies_priv.h"
#include "maps/util.h"
#include "policy/intern.h"

uint64_t bn_pol_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* --- slots ------------------------------------------------------------------------------------ */

static uint32_t name_hash(const char *ns, const char *name)
{
	const void *part[2] = {ns, name};

	return bn_hash_bytes(part, sizeof(part));
}

static struct pol_slot *slot_named(const struct bn_policies *p, const char *ns, const char *name)
{
	struct bn_hnode *n = bn_htab_first(&p->by_name, name_hash(ns, name));

	for (; n; n = bn_htab_next(n)) {
		struct pol_slot *s = bn_container(n, struct pol_slot, h);

		if (s->ns == ns && s->name == name)
			return s;
	}
	return NULL;
}

void bn_pol_mark(struct bn_policies *p, struct pol_slot *s)
{
	p->changed = true;
	if (s->dirty)
		return;
	s->dirty = !bn_vec_push(&p->dirty, s->slot);
	if (!s->dirty)
		p->err = -ENOMEM;
}

const struct bn_pod *bn_pol_slot_pod(const struct bn_policies *p, const struct pol_slot *s)
{
	return (const struct bn_pod *)bn_store_get(p->store, BN_KIND_POD, s->ns, s->name);
}

static void slot_clear(struct bn_policies *p, struct pol_slot *s)
{
	if (!s->used)
		return;
	bn_htab_del(&p->by_name, &s->h);
	for (enum bn_dir d = 0; d < BN_DIRS; d++) {
		bn_matrix_unrefp(&s->m[d]);
		bn_matrix_unrefp(&s->next[d]);
	}
	bn_intern_unref(s->ns);
	bn_intern_unref(s->name);
	p->nwaiting -= s->waiting;
	free(s->error);
	*s = (struct pol_slot){.slot = s->slot, .dirty = s->dirty};
	p->changed = true;
}

int bn_policies_slot(struct bn_policies *p, uint32_t slot, const char *ns, const char *name,
		     bool adopted)
{
	const uint32_t id = bn_policies_unenforced(p) ? BN_POL_OPEN : BN_POL_CLOSED;
	struct pol_slot *s;
	int r;

	if (!slot || slot >= p->nslots)
		return -EINVAL;
	s = &p->slots[slot];
	ns = bn_intern(ns);
	name = bn_intern(name);
	if (!ns || !name)
		return -ENOMEM;
	if (s->used && s->ns == ns && s->name == name)
		return 0;
	if (!adopted)
		bn_pols_set_word(p->pols, slot, BN_POD_WORD(id, id));
	slot_clear(p, s);
	s->ns = bn_intern_ref(ns);
	s->name = bn_intern_ref(name);
	s->word = bn_pols_word(p->pols, slot);
	r = bn_htab_add(&p->by_name, &s->h, name_hash(ns, name));
	if (r < 0)
		return r;
	s->used = true;
	bn_pol_mark(p, s);
	return 0;
}

void bn_policies_slot_gone(struct bn_policies *p, uint32_t slot)
{
	if (!slot || slot >= p->nslots || !p->slots[slot].used)
		return;
	bn_pols_set_word(p->pols, slot, BN_POD_WORD(BN_POL_CLOSED, BN_POL_CLOSED));
	slot_clear(p, &p->slots[slot]);
}

int bn_policies_host(struct bn_policies *p, const struct bn_addr *addrs, size_t n)
{
	p->changed = true;
	return bn_idents_host(p->ids, addrs, n);
}

/* --- the store -------------------------------------------------------------------------------- */

static bool selects(const struct bn_netpol *np, const struct bn_pod *pod)
{
	return np && (np->o.refused || bn_selector_match(&np->pods, &pod->o.labels));
}

static void mark_policy(struct bn_policies *p, const struct bn_netpol *old,
			const struct bn_netpol *new)
{
	const char *ns = old ? old->o.ns : new->o.ns;

	for (uint32_t k = 0; k < p->nslots; k++) {
		struct pol_slot *s = &p->slots[k];
		const struct bn_pod *pod;

		if (!s->used || s->ns != ns || s->dirty)
			continue;
		pod = bn_pol_slot_pod(p, s);
		if (!pod || selects(old, pod) || selects(new, pod))
			bn_pol_mark(p, s);
	}
}

static void mark_namespace(struct bn_policies *p, const char *ns)
{
	for (uint32_t k = 0; k < p->nslots; k++)
		if (p->slots[k].used && p->slots[k].ns == ns)
			bn_pol_mark(p, &p->slots[k]);
}

static void on_change(const struct bn_obj *old, const struct bn_obj *new, void *data)
{
	const struct bn_obj *o = new ?: old;
	struct bn_policies *p = data;
	struct pol_slot *s;
	int r = 0;

	switch (o->kind) {
	case BN_KIND_POD:
		r = bn_idents_pod(p->ids, (const struct bn_pod *)old, (const struct bn_pod *)new);
		s = slot_named(p, o->ns, o->name);
		if (s)
			bn_pol_mark(p, s);
		break;
	case BN_KIND_NAMESPACE:
		r = bn_idents_namespace(p->ids, (const struct bn_namespace *)old,
					(const struct bn_namespace *)new);
		if (!old || !new ||
		    ((const struct bn_namespace *)old)->audit !=
			    ((const struct bn_namespace *)new)->audit)
			mark_namespace(p, o->name);
		break;
	case BN_KIND_NODE:
		r = bn_idents_node(p->ids, (const struct bn_node *)old,
				   (const struct bn_node *)new);
		break;
	case BN_KIND_NETPOL:
	case BN_KIND_HTTPNETPOL:
		r = bn_compiler_policy(p->c, (const struct bn_netpol *)old,
				       (const struct bn_netpol *)new);
		mark_policy(p, (const struct bn_netpol *)old, (const struct bn_netpol *)new);
		break;
	default:
		return;
	}
	p->changed = true;
	p->err = p->err ?: r;
}

static int load(struct bn_obj *o, void *data)
{
	on_change(NULL, o, data);
	return 0;
}

/* --- sync ------------------------------------------------------------------------------------- */

static bool due(const struct bn_policies *p)
{
	return p->changed || p->dirty.n > p->nwaiting || bn_idents_dirty(p->ids) ||
	       (p->addrs_failed && bn_pol_now_ns() >= p->retry_ns);
}

static int sync_changes(struct bn_policies *p)
{
	uint64_t began = bn_pol_now_ns();
	int r;

	r = p->err;
	p->err = 0;
	if (r < 0)
		return r;
	if (!p->first_done) {
		r = bn_pol_adopt_begin(p);
		if (r < 0)
			return r;
	}
	r = bn_pol_apply(p);
	if (r < 0)
		return r;
	p->first_done = true;
	p->changed = false;
	p->stats.syncs++;
	p->stats.last_sync_ns = bn_pol_now_ns() - began;
	return 0;
}

int bn_policies_sync(struct bn_policies *p)
{
	int r;

	r = bn_pols_reclaim(p->pols);
	if (!r && p->http) {
		r = bn_httpsets_poll(p->http, 0);
		p->changed |= r > 0;
		r = r < 0 ? r : 0;
	}
	if (!p->ready)
		return r;
	if (!r && (due(p) || !p->first_done))
		r = sync_changes(p);
	if (!r)
		r = bn_pol_collect(p);
	if (!r && p->adopt_until_ns)
		r = bn_pol_adopt_end(p);
	p->in_force = !r;
	return r;
}

void bn_policies_set_ready(struct bn_policies *p, bool ready)
{
	/* What is in force stays so when a source fails later; its changes come when it is back. */
	if (ready && !p->ready)
		p->ready = p->changed = true;
}

bool bn_policies_ever(const struct bn_policies *p)
{
	return bn_pols_epoch(p->pols) > 1;
}

bool bn_policies_unenforced(const struct bn_policies *p)
{
	return !p->ready && p->unenforced;
}

void bn_policies_set_unenforced(struct bn_policies *p)
{
	const uint64_t closed = BN_POD_WORD(BN_POL_CLOSED, BN_POL_CLOSED);

	if (p->ready || p->unenforced)
		return;
	p->unenforced = true;
	for (uint32_t k = 1; k < p->nslots; k++) {
		struct pol_slot *s = &p->slots[k];

		if (!s->used || s->word != closed)
			continue;
		s->word = BN_POD_WORD(BN_POL_OPEN, BN_POL_OPEN);
		bn_pols_set_word(p->pols, k, s->word);
	}
}

bool bn_policies_in_force(const struct bn_policies *p)
{
	struct bn_httpsets_stats http = {};

	if (p->http)
		bn_httpsets_stats(p->http, &http);
	return p->ready && p->first_done && p->in_force && !p->changed && !p->dirty.n && !http.pending;
}

/* --- questions -------------------------------------------------------------------------------- */

bool bn_policies_could_select_unknown(const struct bn_policies *p, const char *ns)
{
	ns = ns ? bn_intern(ns) : NULL;
	if (!p->ready)
		return !p->unenforced;
	return bn_compiler_count(p->c, ns);
}

bool bn_policies_isolated(const struct bn_policies *p, uint32_t slot, bool *ingress, bool *egress)
{
	uint64_t word = bn_pols_word(p->pols, slot);

	if (!slot || slot >= p->nslots || !p->slots[slot].used)
		return false;
	*ingress = BN_POD_INGRESS(word) != BN_POL_OPEN;
	*egress = BN_POD_EGRESS(word) != BN_POL_OPEN;
	return true;
}

int bn_policies_rule(const struct bn_policies *p, uint32_t rule, struct bn_rule_ref *ret)
{
	return bn_compiler_rule(p->c, rule, ret);
}

int bn_policies_http_rule(const struct bn_policies *p, uint32_t set, uint32_t gen, uint32_t match,
			  struct bn_rule_ref *ret, uint32_t *entry)
{
	struct bn_httpset_origin o;

	if (!p->http || bn_httpsets_origin(p->http, set, gen, match, &o) < 0)
		return -ENOENT;
	*entry = o.index;
	return bn_compiler_rule(p->c, o.rule, ret);
}

const struct bn_pod *bn_policies_pod_at(const struct bn_policies *p, const struct bn_addr *a)
{
	struct bn_whois who;

	bn_idents_whois(p->ids, a, &who);
	return who.pod;
}

void bn_policies_stats(const struct bn_policies *p, struct bn_policies_stats *ret)
{
	struct bn_pols_stats s;

	*ret = p->stats;
	bn_pols_stats(p->pols, &s);
	bn_compiler_stats(p->c, &ret->compile);
	bn_idents_stats(p->ids, &ret->idents);
	ret->words_written = s.words;
	ret->writes = s.writes;
	ret->epoch = bn_pols_epoch(p->pols);
	if (p->http)
		bn_httpsets_stats(p->http, &ret->http);
}

/* --- life ------------------------------------------------------------------------------------- */

static int open_parts(struct bn_policies *p, const struct bn_policies_env *env)
{
	struct bn_compile_limits lim = {};
	struct bn_http_sets http = {};
	int r;

	r = bn_idents_new(&p->ids);
	r = r ?: bn_pols_new(p->maps, &p->pols);
	if (r < 0)
		return r;
	bn_pols_set_step(p->pols, env->step, env->step_data);
	/* One matrix may take half of what there is. */
	lim.cells = p->maps->entries[BN_MAP_pol_cells] / 2;
	lim.peers = p->maps->entries[BN_MAP_pol_peers] / 2;
	lim.rules = bn_pols_max_rules(p->pols);
	if (!env->no_http) {
		const struct bn_httpsets_env http_env = {
			.wake = env->wake, .data = env->wake_data, .slow = env->slow, .grace_ms = env->http_grace_ms};

		r = bn_httpsets_new(p->maps, &http_env, &p->http);
		if (r < 0)
			return r;
		bn_httpsets_ops(p->http, &http);
	}
	r = bn_compiler_new(p->ids, &lim, &http, &p->c);
	r = r ?: bn_idents_set_node_name(p->ids, env->node_name);
	r = r ?: bn_tracer_borrow(p->store, p->ids, p->c, &p->tracer);
	r = r ?: bn_tracer_proxy(p->tracer, env->proxy_name);
	if (r < 0)
		return r;
	bn_tracer_audit(p->tracer, env->audit);
	p->nslots = bn_pols_slots(p->pols);
	p->slots = calloc(p->nslots, sizeof(*p->slots));
	if (!p->slots)
		return -ENOMEM;
	for (uint32_t k = 0; k < p->nslots; k++)
		p->slots[k].slot = k;
	return 0;
}

int bn_policies_new(struct bn_store *store, struct bn_maps *maps, const struct bn_policies_env *env,
		    struct bn_policies **ret)
{
	static const enum bn_kind kinds[] = {BN_KIND_NAMESPACE, BN_KIND_NODE, BN_KIND_POD,
					     BN_KIND_NETPOL, BN_KIND_HTTPNETPOL};
	_cleanup_(bn_policies_freep) struct bn_policies *p = NULL;
	int r;

	if (!env->eps)
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->store = store;
	p->maps = maps;
	p->eps = env->eps;
	p->verify = env->verify;
	p->no_http = env->no_http;
	p->node_name = bn_intern_ref(bn_intern(env->node_name));
	r = open_parts(p, env);
	for (size_t k = 0; k < ARRAY_SIZE(kinds) && !r; k++)
		r = bn_store_each(store, kinds[k], load, p);
	r = r ?: bn_store_listen(store, on_change, p);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(p);
	return 0;
}

void bn_policies_freep(struct bn_policies **pp)
{
	struct bn_policies *p = *pp;

	if (!p)
		return;
	*pp = NULL;
	bn_store_unlisten(p->store, on_change, p);
	bn_tracer_freep(&p->tracer);
	for (uint32_t k = 0; p->slots && k < p->nslots; k++)
		slot_clear(p, &p->slots[k]);
	free(p->slots);
	bn_htab_clear(&p->by_name);
	bn_compiler_freep(&p->c);
	bn_httpsets_freep(&p->http);
	bn_idents_freep(&p->ids);
	bn_pols_freep(&p->pols); /* retired above, reclaimed by nobody: words still name them */
	bn_vec_done(&p->dirty);
	bn_vec_done(&p->release);
	bn_intern_unref(p->node_name);
	free(p);
}
