// SPDX-License-Identifier: MIT
#include "loader/model/httpsets.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "loader/log.h"
#include "loader/model/httpsets_priv.h"
#include "maps/util.h"
#include "policy/table.h"

/* Part of each set's content: another number when the same rules make other tables or counters. */
#define TABLES_VERSION 2

enum state {
	PENDING, /* being compiled */
	READY,	 /* in the maps, open */
	FAILED,	 /* no tables: the kernel denies on it */
};

struct set {
	struct bn_hnode h; /* by digest */
	unsigned refs;
	struct bn_httpplace at;
	enum state state;
	bool adopted; /* of an earlier daemon, nobody has asked for it yet: no origins */
	uint32_t norigins;
	struct bn_httpset_origin *origins; /* what each match stands for */
	struct bn_httpjob *job;		/* PENDING, FAILED */
	bool busy;			/* the worker has it */
	uint64_t rest_until_ns;		/* READY without refs */
	char *error;
};

struct bn_httpsets {
	struct bn_maps *maps;
	struct bn_httpplaces *places;
	struct bn_httpwork *work;
	struct bn_sipkey key;
	uint64_t grace_ns;
	struct bn_htab by_digest;
	BN_VEC(struct set *) by_id;
	BN_VEC(struct bn_http_count) past; /* by rule number: of sets that are gone */
	struct bn_httpsets_stats stats;
	uint64_t retry_ns;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* --- what a set is made from ---------------------------------------------------------------------- */

static void put_text(FILE *f, const char *s)
{
	fprintf(f, "%zu:%s,", s ? strlen(s) + 1 : 0, s ?: "");
}

static void put_kvs(FILE *f, const struct bn_http_kv *kv, uint32_t n)
{
	fprintf(f, "%" PRIu32 ";", n);
	for (uint32_t k = 0; k < n; k++) {
		fprintf(f, "%d", (int)kv[k].type);
		put_text(f, kv[k].name);
		put_text(f, kv[k].value);
	}
}

/* Everything of a match that the tables depend on, in a form that no two matches share. */
static void put_match(FILE *f, const struct bn_http_match *m)
{
	put_text(f, m->method);
	fprintf(f, "%d", m->has_path ? (int)m->path_type : -1);
	put_text(f, m->has_path ? m->path : NULL);
	fprintf(f, "%" PRIu32 ";", m->nhosts);
	for (uint32_t k = 0; k < m->nhosts; k++)
		put_text(f, m->hosts[k]);
	put_kvs(f, m->headers, m->nheaders);
	put_kvs(f, m->queries, m->nqueries);
}

static int digest_of(const struct bn_httpsets *h, const struct bn_rule_ref *rules, size_t n, uint64_t *ret)
{
	_cleanup_(freep) char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return -ENOMEM;
	fprintf(f, "bpfnet http tables %d\n", TABLES_VERSION);
	for (size_t k = 0; k < n; k++)
		for (uint32_t i = 0; i < rules[k].rule->nhttp; i++)
			put_match(f, &rules[k].rule->http[i]);
	if (fclose(f) != 0 || !text)
		return -ENOMEM;
	*ret = bn_siphash(&h->key, text, len);
	return 0;
}

static int origins_of(const struct bn_rule_ref *rules, const uint32_t *ids, size_t n,
		      struct bn_httpset_origin **ret, uint32_t *count)
{
	struct bn_httpset_origin *v;
	uint32_t at = 0;

	for (size_t k = 0; k < n; k++)
		at += rules[k].rule->nhttp;
	v = calloc(at + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	*count = at;
	at = 0;
	for (size_t k = 0; k < n; k++)
		for (uint32_t i = 0; i < rules[k].rule->nhttp; i++)
			v[at++] = (struct bn_httpset_origin){.rule = ids[k], .index = i};
	*ret = v;
	return 0;
}

/* --- sets ------------------------------------------------------------------------------------------- */

static void set_freep(struct set **sp)
{
	struct set *s = *sp;

	if (!s)
		return;
	*sp = NULL;
	if (!s->busy)
		bn_httpjob_freep(&s->job);
	free(s->origins);
	free(s->error);
	free(s);
}

static int set_add(struct bn_httpsets *h, struct set *s)
{
	int r = 0;

	while (!r && h->by_id.n <= s->at.id)
		r = bn_vec_push(&h->by_id, NULL);
	r = r ?: bn_htab_add(&h->by_digest, &s->h, bn_hash_bytes(&s->at.digest, sizeof(s->at.digest)));
	if (r < 0)
		return r;
	h->by_id.v[s->at.id] = s;
	h->stats.sets++;
	return 0;
}

/* The worker erases it; the place is free when it has. */
static void erase(struct bn_httpsets *h, const struct bn_httpplace *at)
{
	_cleanup_(bn_httpjob_freep) struct bn_httpjob *j = calloc(1, sizeof(*j));

	if (j) {
		j->erase = true;
		j->place = *at;
	}
	if (j && bn_httpwork_push(h->work, j) == 0) {
		j = NULL;
		return;
	}
	if (bn_http_set_del(h->maps, at->id) == 0) /* no thread: here, then */
		bn_httpplaces_give(h->places, at);
}

static void add_counts(const struct bn_httpsets *h, const struct set *s, struct bn_http_count *v, uint32_t n)
{
	if (!s->at.stats || !s->norigins)
		return;
	if (s->origins[0].rule < n)
		v[s->origins[0].rule].denied += bn_http_stat(h->maps, s->at.stats);
	for (uint32_t k = 0; k < s->norigins && k + 1 < s->at.nstats; k++)
		if (s->origins[k].rule < n)
			v[s->origins[k].rule].allowed += bn_http_stat(h->maps, s->at.stats + 1 + k);
	if (s->origins[0].rule < n && s->at.nstats == s->norigins + 2)
		v[s->origins[0].rule].audited += bn_http_stat(h->maps, s->at.stats + s->at.nstats - 1);
}

/* What a set has counted outlives it. */
static void keep_counts(struct bn_httpsets *h, const struct set *s)
{
	uint32_t top = 0;

	for (uint32_t k = 0; k < s->norigins; k++)
		top = s->origins[k].rule > top ? s->origins[k].rule : top;
	while (h->past.n <= top)
		if (bn_vec_push(&h->past, (struct bn_http_count){}) < 0)
			return;
	add_counts(h, s, h->past.v, h->past.n);
}

void bn_httpsets_counts(const struct bn_httpsets *h, struct bn_http_count *counts, uint32_t n)
{
	memset(counts, 0, n * sizeof(*counts));
	bn_copy(counts, h->past.v, (n < h->past.n ? n : h->past.n) * sizeof(*counts));
	for (uint32_t k = 0; k < h->by_id.n; k++)
		if (h->by_id.v[k] && h->by_id.v[k]->state == READY)
			add_counts(h, h->by_id.v[k], counts, n);
}

void bn_httpsets_rule_new(struct bn_httpsets *h, uint32_t rule)
{
	if (rule < h->past.n)
		h->past.v[rule] = (struct bn_http_count){};
}

static void set_drop(struct bn_httpsets *h, struct set *s)
{
	if (s->state == READY)
		keep_counts(h, s);
	bn_htab_del(&h->by_digest, &s->h);
	h->by_id.v[s->at.id] = NULL;
	h->stats.sets--;
	if (s->busy && bn_httpwork_cancel(h->work, s->job))
		s->busy = false;
	if (s->state == READY)
		erase(h, &s->at);
	else if (!s->busy) /* else its place is seen to when it comes back */
		bn_httpplaces_give(h->places, &s->at);
	set_freep(&s);
}

static bool same_origins(const struct set *s, const struct bn_httpset_origin *v, uint32_t n)
{
	return !s->adopted && s->norigins == n && bn_same(s->origins, v, n * sizeof(*v));
}

/* One for these rules; failing that, one that nobody has any more (an earlier daemon's, or of a policy that
 * went and came back) for rules that say the same.
 */
static struct set *find(const struct bn_httpsets *h, uint64_t digest, const struct bn_httpset_origin *v, uint32_t nv)
{
	struct bn_hnode *n = bn_htab_first(&h->by_digest, bn_hash_bytes(&digest, sizeof(digest)));
	struct set *old = NULL;

	for (; n; n = bn_htab_next(n)) {
		struct set *s = bn_container(n, struct set, h);

		if (s->at.digest != digest)
			continue;
		if (same_origins(s, v, nv))
			return s;
		if (!s->refs)
			old = s;
	}
	return old;
}

static int job_new(const struct bn_rule_ref *rules, size_t n, struct bn_httpjob **ret)
{
	_cleanup_(bn_httpjob_freep) struct bn_httpjob *j = calloc(1, sizeof(*j));

	if (!j)
		return -ENOMEM;
	j->rules = calloc(n, sizeof(*j->rules));
	j->policies = calloc(n, sizeof(*j->policies));
	if (!j->rules || !j->policies)
		return -ENOMEM;
	j->n = n;
	for (size_t k = 0; k < n; k++) {
		j->rules[k] = rules[k].rule;
		j->policies[k] = (struct bn_netpol *)bn_obj_ref((struct bn_obj *)rules[k].policy);
	}
	*ret = TAKE_PTR(j);
	return 0;
}

static void set_failed(struct set *s, const char *why)
{
	s->state = FAILED;
	free(s->error);
	s->error = strdup(why);
}

static void work_on(struct bn_httpsets *h, struct set *s)
{
	s->job->compiled = false;
	s->busy = bn_httpwork_push(h->work, s->job) == 0;
	if (!s->busy)
		set_failed(s, "no thread to compile the rules");
}

/* *sp is taken over on success. */
static int set_new(struct bn_httpsets *h, struct set **sp, const struct bn_rule_ref *rules, size_t n, uint32_t *ret)
{
	struct set *s = *sp;
	int r;

	r = job_new(rules, n, &s->job);
	r = r ?: bn_httpplaces_take(h->places, s->norigins, s->at.digest, &s->at);
	if (r < 0)
		return r;
	r = set_add(h, s);
	if (r < 0) {
		bn_httpplaces_give(h->places, &s->at);
		return r;
	}
	*sp = NULL;
	*ret = s->at.id;
	s->refs = 1;
	s->job->place = s->at;
	work_on(h, s);
	return 0;
}

static int get(void *data, const struct bn_rule_ref *rules, const uint32_t *ids, size_t n, uint32_t *ret)
{
	_cleanup_(set_freep) struct set *s = calloc(1, sizeof(*s));
	struct bn_httpsets *h = data;
	struct set *old;
	int r;

	if (!s)
		return -ENOMEM;
	r = digest_of(h, rules, n, &s->at.digest);
	r = r ?: origins_of(rules, ids, n, &s->origins, &s->norigins);
	if (r < 0)
		return r;
	old = find(h, s->at.digest, s->origins, s->norigins);
	if (!old)
		return set_new(h, &s, rules, n, ret);
	if (!same_origins(old, s->origins, s->norigins)) {
		free(old->origins);
		old->norigins = s->norigins;
		old->origins = TAKE_PTR(s->origins);
	}
	h->stats.adopted += old->adopted;
	old->adopted = false;
	old->refs++;
	*ret = old->at.id;
	return 0;
}

static void put(void *data, uint32_t id)
{
	struct bn_httpsets *h = data;
	struct set *s = id < h->by_id.n ? h->by_id.v[id] : NULL;

	if (!s || --s->refs)
		return;
	if (s->state == READY)
		s->rest_until_ns = now_ns() + h->grace_ns;
	else
		set_drop(h, s);
}

void bn_httpsets_ops(struct bn_httpsets *h, struct bn_http_sets *ret)
{
	*ret = (struct bn_http_sets){.get = get, .put = put, .data = h};
}

/* --- what comes back from the worker ----------------------------------------------------------------- */

static struct set *owner(const struct bn_httpsets *h, const struct bn_httpjob *j)
{
	struct set *s = j->place.id < h->by_id.n ? h->by_id.v[j->place.id] : NULL;

	return s && s->job == j ? s : NULL;
}

/* Nobody wants it any more. */
static void orphan(struct bn_httpsets *h, struct bn_httpjob *j)
{
	if (j->erase && j->result < 0)
		log_err_r(j->result, "http: set %" PRIu32 " could not be erased: its room is lost", j->place.id);
	else if (j->written)
		erase(h, &j->place);
	else
		bn_httpplaces_give(h->places, &j->place);
	bn_httpjob_freep(&j);
}

static void failed(struct bn_httpsets *h, struct set *s)
{
	const struct bn_httpjob *j = s->job;
	const struct bn_obj *o = &j->policies[0]->o;
	char why[500];

	if (*j->err.msg)
		snprintf(why, sizeof(why), "%s%s%s", j->err.field, *j->err.field ? ": " : "", j->err.msg);
	else
		snprintf(why, sizeof(why), "the HTTP rules could not be written: %s", strerror(-j->result));
	if (!s->error || strcmp(s->error, why) != 0)
		log_error("HTTPNetworkPolicy %s/%s (%zu rules of its port in all): %s; requests to it are denied",
			  o->ns, o->name, j->n, why);
	set_failed(s, why);
	h->retry_ns = now_ns() + 2000000000ull;
}

static void take_in(struct bn_httpsets *h, struct bn_httpjob *j)
{
	struct set *s = owner(h, j);

	if (!s) {
		orphan(h, j);
		return;
	}
	s->busy = false;
	if (j->compiled) {
		h->stats.compiled++;
		h->stats.last_compile_ns = j->took_ns;
	}
	if (!j->written) {
		failed(h, s); /* keeps the job: it names the policies, and may be tried again */
		return;
	}
	bn_httpjob_freep(&s->job);
	free(s->error);
	s->error = NULL;
	s->state = READY;
}

/* What rested long enough goes; what found no room tries again. */
static void tend(struct bn_httpsets *h)
{
	uint64_t now = now_ns();
	bool retry = h->retry_ns && now >= h->retry_ns;

	if (retry)
		h->retry_ns = 0;
	for (uint32_t k = 0; k < h->by_id.n; k++) {
		struct set *s = h->by_id.v[k];

		if (!s)
			continue;
		if (!s->refs && !s->adopted && s->state == READY && now >= s->rest_until_ns)
			set_drop(h, s);
		else if (retry && s->state == FAILED && !s->busy && s->job->tables)
			work_on(h, s); /* room in the kernel may have come free */
	}
}

int bn_httpsets_poll(struct bn_httpsets *h, unsigned wait_ms)
{
	struct bn_httpjob *j;
	int some = 0;

	while ((j = bn_httpwork_pop(h->work, wait_ms))) {
		some |= !j->erase;
		take_in(h, j);
	}
	tend(h);
	return some;
}

bool bn_httpsets_pending(const struct bn_httpsets *h, uint32_t set)
{
	return set < h->by_id.n && h->by_id.v[set] && h->by_id.v[set]->state == PENDING;
}

void bn_httpsets_adopt_done(struct bn_httpsets *h)
{
	uint64_t until = now_ns() + h->grace_ns;

	for (uint32_t k = 0; k < h->by_id.n; k++) {
		struct set *s = h->by_id.v[k];

		if (!s || !s->adopted)
			continue;
		s->adopted = false;
		s->rest_until_ns = until;
	}
}

const char *bn_httpsets_error(const struct bn_httpsets *h, const struct bn_netpol *np)
{
	for (uint32_t k = 0; k < h->by_id.n; k++) {
		const struct set *s = h->by_id.v[k];

		if (!s || s->state != FAILED)
			continue;
		for (size_t i = 0; i < s->job->n; i++)
			if (s->job->policies[i]->o.ns == np->o.ns && s->job->policies[i]->o.name == np->o.name)
				return s->error;
	}
	return NULL;
}

int bn_httpsets_origin(const struct bn_httpsets *h, uint32_t set, uint32_t gen, uint32_t match,
		       struct bn_httpset_origin *ret)
{
	const struct set *s = set < h->by_id.n ? h->by_id.v[set] : NULL;

	if (!s || s->at.gen != gen || match >= s->norigins)
		return -ENOENT;
	*ret = s->origins[match];
	return 0;
}

void bn_httpsets_stats(const struct bn_httpsets *h, struct bn_httpsets_stats *ret)
{
	*ret = h->stats;
	for (uint32_t k = 0; k < h->by_id.n; k++) {
		const struct set *s = h->by_id.v[k];

		ret->pending += s && s->state == PENDING;
		ret->failed += s && s->state == FAILED;
		ret->resting += s && !s->refs && s->state == READY;
	}
}

/* --- life ------------------------------------------------------------------------------------------- */

/* Sets of an earlier daemon: in force as they are, until somebody asks for the same or nobody does. */
static int adopt(struct bn_httpsets *h)
{
	struct bn_httpplace at = {};
	int r = 0;

	while (!r && bn_httpplaces_next(h->places, at.id, &at)) {
		_cleanup_(set_freep) struct set *s = calloc(1, sizeof(*s));

		if (!s)
			return -ENOMEM;
		s->at = at;
		s->state = READY;
		s->adopted = true;
		r = set_add(h, s);
		if (!r)
			s = NULL;
	}
	return r;
}

int bn_httpsets_new(struct bn_maps *maps, const struct bn_httpsets_env *env, struct bn_httpsets **ret)
{
	_cleanup_(bn_httpsets_freep) struct bn_httpsets *h = calloc(1, sizeof(*h));
	struct bn_meta_val meta;
	uint32_t zero = 0;
	int r;

	if (!h)
		return -ENOMEM;
	h->maps = maps;
	r = bn_map_get(maps, BN_MAP_meta, &zero, &meta);
	if (r < 0)
		return r;
	/* As old as the pins and known to nobody: no two sets of rules can be made to look the same. */
	for (unsigned k = 0; k < 2; k++)
		h->key.k[k] = meta.seed[k] ^ meta.seed[14 + k] ^ 0x687474702d736574ull;
	h->grace_ns = env->grace_ms ? env->grace_ms * 1000000ull : BN_HTTPSETS_GRACE_S * 1000000000ull;
	r = bn_httpwork_new(maps, env->slow, env->wake, env->data, &h->work);
	r = r ?: bn_httpplaces_new(maps, &h->places);
	r = r ?: adopt(h);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

void bn_httpsets_freep(struct bn_httpsets **hp)
{
	struct bn_httpsets *h = *hp;

	if (!h)
		return;
	*hp = NULL;
	bn_httpwork_freep(&h->work); /* and the jobs that it has */
	for (uint32_t k = 0; k < h->by_id.n; k++)
		set_freep(&h->by_id.v[k]);
	bn_vec_done(&h->by_id);
	bn_vec_done(&h->past);
	bn_htab_clear(&h->by_digest);
	bn_httpplaces_freep(&h->places);
	free(h);
}
