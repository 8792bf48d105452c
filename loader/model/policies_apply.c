// SPDX-License-Identifier: MIT
/* From what is wanted to the maps. The order is what makes a change whole for every packet:
 *
 *   1. identities that are new get their rows in all matrices in force;
 *   2. matrices that are new are written, nobody has them yet;
 *   3. pods whose matrix could not take a new identity get the new one, of the same rules (it knows
 * the identities of before and after);
 *   4. addresses flip to their identities;
 *   5. the other pods' words are swapped (the kernel reads the word before the identity, so who
 * sees the new rules sees the new identities);
 *   6. the epoch is raised: flows that are going on are judged again;
 *   7. after a grace period, what nobody names any more is taken back.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "loader/log.h"
#include "loader/model/policies_priv.h"
#include "maps/util.h"

/* A matrix's place in the maps, as its user data. */
struct place {
	struct bn_policies *p;
	uint32_t id;
	uint16_t flags;
};

uint32_t bn_pol_matrix_id(const struct bn_matrix *m)
{
	const struct place *at = m ? bn_matrix_user(m) : NULL;

	return at ? at->id : 0;
}

static void place_gone(void *user)
{
	struct place *at = user;

	bn_pols_retire(at->p->pols, at->id);
	free(at);
}

/* --- 1: rows for new identities --------------------------------------------------------------- */

static int add_row(struct bn_matrix *m, uint32_t identity, uint32_t row, bool new_row, void *data)
{
	struct bn_policies *p = data;
	struct bn_matrix_view v;
	uint32_t id = bn_pol_matrix_id(m);
	int r = 0;

	if (!id) /* of a trace: in memory only */
		return 0;
	bn_matrix_view(m, &v);
	if (new_row)
		r = bn_pols_put_row(p->pols, id, row, v.cells + (size_t)row * v.nclasses);
	p->stats.rows_written++;
	return r ?: bn_pols_put_peer(p->pols, id, identity, row);
}

static int add_identities(struct bn_policies *p, const struct bn_ident_diff *d)
{
	int r = 0;

	for (size_t k = 0; k < d->nadded && !r; k++)
		r = bn_compiler_identity_added(p->c, d->added[k], add_row, p);
	if (d->nadded && !r && p->adopt_until_ns)
		r = bn_pol_adopt_alias(p);
	for (uint32_t k = 0; d->nadded && k < p->nslots; k++) {
		struct pol_slot *s = &p->slots[k];
		struct bn_matrix_view v;

		for (enum bn_dir x = 0; s->used && x < BN_DIRS; x++) {
			if (!s->m[x])
				continue;
			bn_matrix_view(s->m[x], &v);
			s->early |= v.stale;
			if (v.stale)
				bn_pol_mark(p, s);
		}
	}
	return r;
}

/* --- 2: matrices ------------------------------------------------------------------------------ */

static uint16_t flags_of(const struct bn_policies *p, const struct bn_matrix_view *v)
{
	const struct bn_obj *ns =
		bn_store_get(p->store, BN_KIND_NAMESPACE, "", v->policies[0]->o.ns);
	bool audit = v->audit || (ns && ((const struct bn_namespace *)ns)->audit);

	return audit ? BN_POL_F_AUDIT : 0;
}

static int place_write(struct bn_policies *p, struct bn_matrix *m, struct place *at)
{
	_cleanup_(freep) uint32_t *identities = NULL, *rows = NULL;
	size_t n = bn_matrix_npeers(m);
	struct bn_matrix_view v;
	struct bn_pol_def def;
	const uint32_t *rules;

	identities = calloc(n + 1, sizeof(*identities));
	rows = calloc(n + 1, sizeof(*rows));
	if (!identities || !rows)
		return -ENOMEM;
	bn_matrix_view(m, &v);
	at->flags = flags_of(p, &v);
	def = (struct bn_pol_def){
		.nports = v.nports,
		.nclasses = v.nclasses,
		.default_row = v.default_row,
		.flags = at->flags,
		.nrows = v.nrows,
		.row_room = v.row_room,
		.ports = v.ports,
		.cells = v.cells,
		.npeers = bn_matrix_peers(m, identities, rows),
		.identities = identities,
		.rows = rows,
	};
	n = bn_compiler_new_rules(p->c, &rules);
	for (size_t k = 0; k < n; k++) {
		bn_pols_stat_clear(p->pols, rules[k]);
		if (p->http)
			bn_httpsets_rule_new(p->http, rules[k]);
	}
	p->stats.rows_written += def.npeers;
	return bn_pols_add(p->pols, &def, &at->id);
}

/* Puts a matrix into the maps unless it is there. */
static int place(struct bn_policies *p, struct bn_matrix *m)
{
	struct place *at = bn_matrix_user(m);
	struct bn_matrix_view v;
	int r;

	if (at) {
		bn_matrix_view(m, &v);
		if (flags_of(p, &v) == at->flags)
			return 0;
		at->flags = flags_of(p, &v);
		return bn_pols_set_flags(p->pols, at->id, at->flags);
	}
	at = calloc(1, sizeof(*at));
	if (!at)
		return -ENOMEM;
	at->p = p;
	r = place_write(p, m, at);
	if (r < 0) {
		free(at);
		return r;
	}
	bn_matrix_set_user(m, at, place_gone);
	return 0;
}

static void fail(struct pol_slot *s, enum bn_dir dir, const char *fmt, ...) _printf_(3, 4);

static void fail(struct pol_slot *s, enum bn_dir dir, const char *fmt, ...)
{
	char why[400], text[700];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "pod %s/%s: closed for %s: %s", s->ns, s->name,
		 dir == BN_INGRESS ? "ingress" : "egress", why);
	if (!s->error || strcmp(s->error, text))
		log_error("%s", text);
	free(s->error);
	s->error = strdup(text);
	s->failed = true;
}

/* Which compiled policy the pod gets in one direction. What cannot be had closes the pod. */
static int plan_dir(struct bn_policies *p, struct pol_slot *s, const struct bn_pod *pod,
		    enum bn_dir dir, uint32_t *id)
{
	_cleanup_(bn_matrix_unrefp) struct bn_matrix *m = NULL;
	int r;

	*id = BN_POL_CLOSED;
	if (!pod) { /* its labels are not known: open only if no policy could select it */
		if (!bn_compiler_count(p->c, s->ns))
			*id = BN_POL_OPEN;
		return 0;
	}
	r = bn_compiler_get(p->c, pod, dir, &m);
	if (!r && !m) {
		*id = BN_POL_OPEN;
		return 0;
	}
	if (!r)
		r = place(p, m);
	if (r == -E2BIG) {
		fail(s, dir, "%s", bn_compiler_error(p->c));
		return 0;
	}
	if (r == -ENOSPC) {
		struct bn_matrix_view v;

		bn_matrix_view(m, &v);
		fail(s, dir, "no room in map %s for policy %s/%s (and %u more of the pod)",
		     bn_pols_full(p->pols), v.policies[0]->o.ns, v.policies[0]->o.name,
		     v.npolicies - 1);
		return 0;
	}
	if (r < 0)
		return r;
	*id = bn_pol_matrix_id(m);
	s->next[dir] = TAKE_PTR(m);
	return 0;
}

static int plan(struct bn_policies *p, struct pol_slot *s)
{
	const struct bn_pod *pod = bn_pol_slot_pod(p, s);
	struct bn_matrix *before[BN_DIRS];
	uint32_t id[BN_DIRS];
	int r = 0;

	s->failed = false;
	for (enum bn_dir d = 0; d < BN_DIRS && !r; d++) {
		before[d] = s->next[d];
		s->next[d] = NULL;
		r = plan_dir(p, s, pod, d, &id[d]);
		/* Not earlier: HTTP rules that nobody wants for an instant would be compiled anew. */
		bn_matrix_unref(before[d]);
	}
	if (!s->failed) {
		free(s->error);
		s->error = NULL;
	}
	s->next_word = BN_POD_WORD(id[BN_INGRESS], id[BN_EGRESS]);
	s->planned = !r;
	return r;
}

static int plan_all(struct bn_policies *p)
{
	uint64_t refusals;
	int r = 0;

	do { /* a policy that is refused now concerns pods that were planned before */
		refusals = bn_compiler_refusals(p->c);
		for (uint32_t k = 0; k < p->dirty.n && !r; k++)
			if (p->slots[p->dirty.v[k]].used)
				r = plan(p, &p->slots[p->dirty.v[k]]);
		if (bn_compiler_refusals(p->c) == refusals)
			break;
		for (uint32_t k = 0; k < p->nslots; k++)
			if (p->slots[k].used)
				bn_pol_mark(p, &p->slots[k]);
	} while (!r);
	return r;
}

/* --- HTTP rules --------------------------------------------------------------------------------- */

/* Rules that take longer to compile are waited for by other means than standing still. */
#define HTTP_WAIT_MS 5

static int is_pending(uint32_t set, void *data)
{
	return bn_httpsets_pending(data, set);
}

/* Does it have to keep what it has, because its new HTTP rules are not in the maps yet? Not a pod that is
 * closed: everything but the HTTP ports can be opened already. Nor one whose matrix cannot take a new
 * identity: with the old one it would be closed to pods that it knew before.
 */
static bool must_wait(const struct bn_policies *p, const struct pol_slot *s)
{
	const uint64_t closed = BN_POD_WORD(BN_POL_CLOSED, BN_POL_CLOSED);

	if (!p->http || !s->used || !s->planned || s->early || s->word == closed)
		return false;
	for (enum bn_dir d = 0; d < BN_DIRS; d++)
		if (s->next[d] && s->next[d] != s->m[d] && bn_matrix_each_http(s->next[d], is_pending, p->http))
			return true;
	return false;
}

static int await_http(struct bn_policies *p)
{
	struct bn_httpsets_stats st;
	int r;

	if (!p->http)
		return 0;
	bn_httpsets_stats(p->http, &st);
	if (!st.pending)
		return 0;
	r = bn_httpsets_poll(p->http, HTTP_WAIT_MS);
	return r < 0 ? r : 0;
}

/* --- 3 to 6 ----------------------------------------------------------------------------------- */

static void swap(struct bn_policies *p, struct pol_slot *s)
{
	if (!s->planned)
		return;
	bn_pols_set_word(p->pols, s->slot, s->next_word);
	s->word = s->next_word;
	for (enum bn_dir d = 0; d < BN_DIRS; d++) {
		bn_matrix_unref(s->m[d]);
		s->m[d] = s->next[d];
		s->next[d] = NULL;
	}
	s->planned = s->early = false;
}

static int flip_addr(struct bn_policies *p, const struct bn_ident_addr *a)
{
	int r;

	if (a->identity)
		r = bn_eps_set_identity(p->eps, &a->addr, a->identity,
					a->flags & (BN_ADDR_F_POD | BN_ADDR_F_NODE));
	else
		r = bn_eps_clear(p->eps, &a->addr, BN_EPS_IDENTITY);
	bn_pols_step(p->pols);
	if (r == -ENOSPC) {
		if (!p->addrs_failed)
			log_error("no room in map eps for the identity of more addresses: policies "
				  "judge them as addresses outside of the cluster");
		p->addrs_failed = true;
		p->retry_ns = bn_pol_now_ns() + 5000000000ull;
		return 0;
	}
	return r;
}

static int rewrite_addr(const struct bn_ident_addr *a, void *data)
{
	return flip_addr(data, a);
}

int bn_pol_flip(struct bn_policies *p, const struct bn_ident_diff *d, bool removals)
{
	int r = 0;

	for (size_t k = 0; k < d->naddrs && !r; k++)
		r = flip_addr(p, &d->addrs[k]);
	for (size_t k = 0; k < d->nprefixes && !r; k++) {
		struct bn_lpm_key key = {.prefixlen = d->prefixes[k].cidr.prefix,
					 .addr = d->prefixes[k].cidr.addr};

		if (d->prefixes[k].identity)
			r = bn_pols_set_cidr(p->pols, &key, d->prefixes[k].identity);
		else if (removals)
			r = bn_pols_del_cidr(p->pols, &key);
	}
	return r;
}

static int retry_addrs(struct bn_policies *p)
{
	if (!p->addrs_failed || bn_pol_now_ns() < p->retry_ns)
		return 0;
	p->addrs_failed = false;
	return bn_idents_each_addr(p->ids, rewrite_addr, p);
}

int bn_pol_apply(struct bn_policies *p)
{
	const struct bn_ident_diff *d;
	uint32_t left = 0;
	int r;

	r = bn_idents_update(p->ids, &d);
	r = r ?: add_identities(p, d);
	r = r ?: plan_all(p);
	r = r ?: await_http(p);
	if (r < 0)
		return r;
	for (uint32_t k = 0; k < p->dirty.n; k++)
		if (p->slots[p->dirty.v[k]].early)
			swap(p, &p->slots[p->dirty.v[k]]);
	r = bn_pol_flip(p, d, false);
	r = r ?: retry_addrs(p);
	if (r < 0)
		return r;
	for (uint32_t k = 0; k < p->dirty.n; k++) {
		struct pol_slot *s = &p->slots[p->dirty.v[k]];

		s->waiting = must_wait(p, s);
		s->dirty = s->waiting;
		if (s->waiting)
			p->dirty.v[left++] = s->slot;
		else if (s->used)
			swap(p, s);
	}
	p->dirty.n = p->nwaiting = left;
	bn_pols_raise_epoch(p->pols);
	if (bn_pols_waiting(p->pols) || bn_idents_garbage(p->ids))
		p->collect_ticket = bn_pols_seal(p->pols);
	return 0;
}

/* --- 7 ---------------------------------------------------------------------------------------- */

static int forget_row(struct bn_matrix *m, uint32_t identity, uint32_t row _unused_,
		      bool new_row _unused_, void *data)
{
	struct bn_policies *p = data;
	uint32_t id = bn_pol_matrix_id(m);

	return id ? bn_pols_del_peer(p->pols, id, identity) : 0;
}

static void release_passed(struct bn_policies *p)
{
	uint32_t n = 0;

	for (uint32_t k = 0; k < p->release.n; k++) {
		if (bn_pols_passed(p->pols, p->release.v[k].ticket))
			bn_idents_release(p->ids, p->release.v[k].identity);
		else
			p->release.v[n++] = p->release.v[k];
	}
	p->release.n = n;
}

static void retry_failed(struct bn_policies *p)
{
	for (uint32_t k = 0; k < p->nslots; k++)
		if (p->slots[k].used && p->slots[k].failed)
			bn_pol_mark(p, &p->slots[k]);
}

int bn_pol_collect(struct bn_policies *p)
{
	const struct bn_ident_diff *d;
	uint64_t ticket;
	int r;

	release_passed(p);
	if (!p->collect_ticket || !bn_pols_passed(p->pols, p->collect_ticket) ||
	    bn_idents_dirty(p->ids))
		return 0;
	p->collect_ticket = 0;
	retry_failed(p); /* room may have come free */
	r = bn_idents_collect(p->ids, &d);
	r = r ?: add_identities(p, d);
	r = r ?: bn_pol_flip(p, d, true);
	for (size_t k = 0; k < d->nremoved && !r; k++)
		r = bn_compiler_identity_gone(p->c, d->removed[k], forget_row, p);
	if (r < 0 || !d->nremoved)
		return r;
	ticket = bn_pols_seal(p->pols);
	for (size_t k = 0; k < d->nremoved && !r; k++)
		r = bn_vec_push(&p->release, ((struct pol_release){d->removed[k], ticket}));
	return r;
}
