// SPDX-License-Identifier: MIT
/* From many patterns to one deterministic automaton: the subset construction over all of them at once, then
 * states that nothing tells apart become one.
 */
#include "maps/util.h"
#include "policy/http_priv.h"

enum { MINIMISE_MAX = 64 << 20 }; /* cells looked at */

int bn_http_spend(uint64_t *left, uint64_t work)
{
	bool enough = *left >= work;

	*left = enough ? *left - work : 0;
	return enough ? 0 : -E2BIG;
}

/* --- pool ------------------------------------------------------------------------------------- */

const uint32_t *bn_pool_at(const struct bn_pool *p, uint32_t k, uint32_t *n)
{
	uint32_t from = k ? p->ends.v[k - 1] : 0;

	*n = p->ends.v[k] - from;
	return p->data.v + from;
}

static void place(struct bn_pool *p, uint32_t k)
{
	uint32_t n, i;
	const uint32_t *v = bn_pool_at(p, k, &n);

	i = (uint32_t)bn_hash(v, n * sizeof(*v)) & (p->nslots - 1);
	while (p->slots[i])
		i = (i + 1) & (p->nslots - 1);
	p->slots[i] = k + 1;
}

static int grow(struct bn_pool *p)
{
	uint32_t n = p->nslots ? p->nslots * 2 : 64;
	uint32_t *slots = calloc(n, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	free(p->slots);
	p->slots = slots;
	p->nslots = n;
	for (uint32_t k = 0; k < p->ends.n; k++)
		place(p, k);
	return 0;
}

int bn_pool_get(struct bn_pool *p, const uint32_t *v, uint32_t n, uint32_t *ret)
{
	uint32_t i, len;
	int r = 0;

	if (p->ends.n * 2 >= p->nslots)
		r = grow(p);
	if (r < 0)
		return r;
	i = (uint32_t)bn_hash(v, n * sizeof(*v)) & (p->nslots - 1);
	for (; p->slots[i]; i = (i + 1) & (p->nslots - 1)) {
		const uint32_t *have = bn_pool_at(p, p->slots[i] - 1, &len);

		if (len == n && bn_same(have, v, n * sizeof(*v))) {
			*ret = p->slots[i] - 1;
			return 0;
		}
	}
	for (uint32_t k = 0; k < n && !r; k++)
		r = bn_vec_push(&p->data, v[k]);
	r = r ?: bn_vec_push(&p->ends, p->data.n);
	if (r < 0)
		return r;
	*ret = p->ends.n - 1;
	p->slots[i] = *ret + 1;
	return 0;
}

void bn_pool_done(struct bn_pool *p)
{
	bn_vec_done(&p->data);
	bn_vec_done(&p->ends);
	free(p->slots);
	p->slots = NULL;
	p->nslots = 0;
}

/* --- subset construction ------------------------------------------------------------------------ */

struct build {
	const struct bn_nfa *n;
	struct bn_pool sets; /* of states of n: one for each state of the result */
	struct bn_u32s trans, ends;
	struct bn_u32s next[256]; /* by class: where the current state leads */
	uint8_t cls[256];
	uint32_t classes;
};

static void build_done(struct build *b)
{
	bn_pool_done(&b->sets);
	bn_vec_done(&b->trans);
	bn_vec_done(&b->ends);
	for (size_t k = 0; k < ARRAY_SIZE(b->next); k++)
		bn_vec_done(&b->next[k]);
}

/* Bytes that no edge tells apart are one class. */
static void classes(struct build *b)
{
	bool begins[257] = {};

	for (uint32_t k = 0; k < b->n->edges.n; k++) {
		begins[b->n->edges.v[k].lo] = true;
		begins[b->n->edges.v[k].hi + 1] = true;
	}
	for (unsigned c = 0; c < 256; c++) {
		if (c && begins[c])
			b->classes++;
		b->cls[c] = (uint8_t)b->classes;
	}
	b->classes++;
}

static int step(struct build *b, uint32_t state)
{
	uint32_t n, end;
	const uint32_t *set = bn_pool_at(&b->sets, state, &n);
	int r = 0;

	for (uint32_t c = 0; c < b->classes; c++)
		b->next[c].n = 0;
	for (uint32_t k = 0; k < n; k++) {
		const struct bn_nfa_state *s = &b->n->states.v[set[k]];

		end = set[k] + 1 < b->n->states.n ? s[1].first : b->n->edges.n;
		for (uint32_t e = s->first; e < end; e++) {
			const struct bn_nfa_edge *edge = &b->n->edges.v[e];

			if (bn_http_spend(b->n->left, 1u + b->cls[edge->hi] - b->cls[edge->lo]) < 0)
				return -E2BIG;
			for (uint32_t c = b->cls[edge->lo]; c <= b->cls[edge->hi] && !r; c++)
				r = bn_vec_push(&b->next[c], edge->to);
		}
	}
	if (bn_http_spend(b->n->left, b->classes) < 0)
		return -E2BIG;
	for (uint32_t c = 0; c < b->classes && !r; c++) {
		uint32_t to;

		bn_u32s_sort(&b->next[c]);
		r = bn_pool_get(&b->sets, b->next[c].v, b->next[c].n, &to);
		r = r ?: bn_vec_push(&b->trans, to);
	}
	if (b->sets.ends.n > BN_HTTP_STATES_MAX)
		return -E2BIG;
	return r;
}

static int ends(struct build *b, int (*end)(void *, const uint32_t *, uint32_t, uint32_t *), void *data)
{
	struct bn_u32s patterns = {};
	int r = 0;

	for (uint32_t s = 0; s < b->sets.ends.n && !r; s++) {
		uint32_t n, what;
		const uint32_t *set = bn_pool_at(&b->sets, s, &n);

		patterns.n = 0;
		for (uint32_t k = 0; k < n && !r; k++) {
			if (b->n->states.v[set[k]].pattern)
				r = bn_vec_push(&patterns, b->n->states.v[set[k]].pattern - 1);
		}
		bn_u32s_sort(&patterns);
		r = r ?: end(data, patterns.v, patterns.n, &what);
		r = r ?: bn_vec_push(&b->ends, what);
	}
	bn_vec_done(&patterns);
	return r;
}

/* --- minimisation (Moore) ----------------------------------------------------------------------- */

/* One round: states are of one block if they end the same and lead to the same blocks. */
static int refine(const struct build *b, const uint32_t *part, uint32_t *sig, uint32_t *next, uint32_t *nparts)
{
	struct bn_pool sigs = {};
	uint32_t n = b->ends.n;
	int r = 0;

	for (uint32_t s = 0; s < n && !r; s++) {
		sig[0] = part[s];
		for (uint32_t c = 0; c < b->classes; c++)
			sig[c + 1] = part[b->trans.v[s * b->classes + c]];
		r = bn_pool_get(&sigs, sig, b->classes + 1, &next[s]);
	}
	*nparts = sigs.ends.n;
	bn_pool_done(&sigs);
	return r;
}

/* part[s]: the block of s; 0 is that of the start, for blocks are numbered as they are met. Beyond the
 * budget every state stays its own: larger, and as right.
 */
static int minimise(const struct build *b, uint32_t *part, uint32_t *nparts)
{
	_cleanup_(freep) uint32_t *next = calloc(b->ends.n, sizeof(*next));
	uint32_t sig[257], count = 0, n = b->ends.n;
	uint64_t work = 0;
	int r = 0;

	if (!next)
		return -ENOMEM;
	memcpy(part, b->ends.v, n * sizeof(*part));
	while (!r) {
		r = refine(b, part, sig, next, nparts);
		memcpy(part, next, n * sizeof(*part));
		if (r < 0 || *nparts == count)
			return r;
		count = *nparts;
		work += (uint64_t)n * b->classes;
		if (work > MINIMISE_MAX || bn_http_spend(b->n->left, (uint64_t)n * b->classes / 8) < 0)
			break;
	}
	for (uint32_t s = 0; s < n; s++)
		part[s] = s;
	*nparts = n;
	return r;
}

/* Classes whose columns are equal become one. */
static uint32_t merge_classes(const struct build *b, const uint32_t *part, uint8_t *map, uint8_t *first)
{
	uint32_t n = 0;

	for (uint32_t c = 0; c < b->classes; c++) {
		uint32_t k, s;

		for (k = 0; k < n; k++) {
			for (s = 0; s < b->ends.n; s++) {
				const uint32_t *row = &b->trans.v[s * b->classes];

				if (part[row[c]] != part[row[first[k]]])
					break;
			}
			if (s == b->ends.n)
				break;
		}
		map[c] = (uint8_t)k;
		if (k == n)
			first[n++] = (uint8_t)c;
	}
	return n;
}

static int finish(const struct build *b, const uint32_t *part, uint32_t nparts, struct bn_dfa *ret)
{
	uint8_t map[256], first[256];

	ret->n = nparts;
	ret->classes = merge_classes(b, part, map, first);
	if ((uint64_t)nparts * ret->classes > BN_HTTP_CELLS_MAX)
		return -E2BIG;
	ret->trans = calloc((size_t)nparts * ret->classes, sizeof(*ret->trans));
	ret->ends = calloc(nparts, sizeof(*ret->ends));
	if (!ret->trans || !ret->ends)
		return -ENOMEM;
	for (unsigned c = 0; c < 256; c++)
		ret->cls[c] = map[b->cls[c]];
	for (uint32_t s = 0; s < b->ends.n; s++) {
		ret->ends[part[s]] = b->ends.v[s];
		for (uint32_t k = 0; k < ret->classes; k++)
			ret->trans[part[s] * ret->classes + k] =
				(uint16_t)part[b->trans.v[s * b->classes + first[k]]];
	}
	return 0;
}

int bn_dfa_make(const struct bn_nfa *n,
		int (*end)(void *data, const uint32_t *patterns, uint32_t count, uint32_t *ret), void *data,
		struct bn_dfa *ret)
{
	_cleanup_(build_done) struct build b = { .n = n };
	_cleanup_(freep) uint32_t *part = NULL;
	struct bn_u32s starts = {};
	uint32_t k, nparts;
	int r = 0;

	classes(&b);
	for (k = 0; k < n->starts.n && !r; k++)
		r = bn_vec_push(&starts, n->starts.v[k]);
	bn_u32s_sort(&starts);
	r = r ?: bn_pool_get(&b.sets, starts.v, starts.n, &k);
	bn_vec_done(&starts);
	for (k = 0; !r && k < b.sets.ends.n; k++)
		r = step(&b, k);
	r = r ?: ends(&b, end, data);
	if (r < 0)
		return r;
	part = calloc(b.ends.n, sizeof(*part));
	if (!part)
		return -ENOMEM;
	r = minimise(&b, part, &nparts);
	r = r ?: finish(&b, part, nparts, ret);
	if (r < 0)
		bn_dfa_done(ret);
	return r;
}

void bn_dfa_done(struct bn_dfa *d)
{
	free(d->trans);
	free(d->ends);
	*d = (struct bn_dfa){};
}
