// SPDX-License-Identifier: MIT
#include "policy/select.h"

#include <stdio.h>

#include "maps/util.h"
#include "policy/intern.h"

const struct bn_sel_req *bn_selector_failed(const struct bn_selector *s, const struct bn_labels *l)
{
	for (uint32_t i = 0; i < s->n; i++) {
		struct bn_selector one = {.n = 1, .reqs = &s->reqs[i]};

		if (!bn_selector_match(&one, l))
			return &s->reqs[i];
	}
	return NULL;
}

bool bn_peer_block_match(const struct bn_peer *p, const struct bn_addr *a)
{
	if (!p->has_block || !bn_cidr_contains(&p->block, a))
		return false;
	for (uint32_t i = 0; i < p->nexcept; i++)
		if (bn_cidr_contains(&p->except[i], a))
			return false;
	return true;
}

static int ptr_cmp(const void *a, const void *b)
{
	const char *x = *(const char *const *)a, *y = *(const char *const *)b;

	return (x > y) - (x < y);
}

static int req_cmp(const void *a, const void *b)
{
	const struct bn_sel_req *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	if (x->op != y->op)
		return x->op < y->op ? -1 : 1;
	if (x->nvals != y->nvals)
		return x->nvals < y->nvals ? -1 : 1;
	for (uint32_t i = 0; i < x->nvals; i++)
		if (x->vals[i] != y->vals[i])
			return x->vals[i] < y->vals[i] ? -1 : 1;
	return 0;
}

void bn_selector_done(struct bn_selector *s)
{
	for (uint32_t i = 0; s->reqs && i < s->n; i++) {
		for (uint32_t j = 0; s->reqs[i].vals && j < s->reqs[i].nvals; j++)
			bn_intern_unref(s->reqs[i].vals[j]);
		bn_intern_unref(s->reqs[i].key);
		free(s->reqs[i].vals);
	}
	free(s->reqs);
	*s = (struct bn_selector){};
}

int bn_selector_copy(const struct bn_selector *s, struct bn_selector *ret)
{
	_cleanup_(bn_selector_done) struct bn_selector c = {};

	if (!s->n) {
		*ret = c;
		return 0;
	}
	c.reqs = calloc(s->n, sizeof(*c.reqs));
	if (!c.reqs)
		return -ENOMEM;
	c.n = s->n;
	for (uint32_t i = 0; i < s->n; i++) {
		c.reqs[i] = s->reqs[i];
		bn_intern_ref(c.reqs[i].key);
		c.reqs[i].vals = NULL;
		if (!s->reqs[i].nvals)
			continue;
		c.reqs[i].vals = calloc(s->reqs[i].nvals, sizeof(*c.reqs[i].vals));
		if (!c.reqs[i].vals)
			return -ENOMEM;
		for (uint32_t j = 0; j < s->reqs[i].nvals; j++)
			c.reqs[i].vals[j] = bn_intern_ref(s->reqs[i].vals[j]);
		qsort(c.reqs[i].vals, c.reqs[i].nvals, sizeof(*c.reqs[i].vals), ptr_cmp);
	}
	qsort(c.reqs, c.n, sizeof(*c.reqs), req_cmp);
	*ret = c;
	c = (struct bn_selector){};
	return 0;
}

bool bn_selector_eq(const struct bn_selector *a, const struct bn_selector *b)
{
	if (a->n != b->n)
		return false;
	for (uint32_t i = 0; i < a->n; i++)
		if (req_cmp(&a->reqs[i], &b->reqs[i]))
			return false;
	return true;
}

uint64_t bn_selector_hash(const struct bn_selector *s)
{
	uint64_t h = s->n;

	for (uint32_t i = 0; i < s->n; i++) {
		const struct bn_sel_req *q = &s->reqs[i];
		uint64_t part[3] = {h, (uintptr_t)q->key, (uint64_t)q->op << 32 | q->nvals};

		h = bn_hash(part, sizeof(part));
		for (uint32_t j = 0; j < q->nvals; j++) {
			uint64_t val[2] = {h, (uintptr_t)q->vals[j]};

			h = bn_hash(val, sizeof(val));
		}
	}
	return h;
}

static void req_describe(const struct bn_sel_req *q, FILE *f)
{
	if (q->op == BN_SEL_EXISTS || q->op == BN_SEL_NOT_EXISTS) {
		fprintf(f, "%s%s", q->op == BN_SEL_NOT_EXISTS ? "!" : "", q->key);
		return;
	}
	if (q->nvals == 1) {
		fprintf(f, "%s%s%s", q->key, q->op == BN_SEL_IN ? "=" : "!=", q->vals[0]);
		return;
	}
	fprintf(f, "%s %s (", q->key, q->op == BN_SEL_IN ? "in" : "not in");
	for (uint32_t i = 0; i < q->nvals; i++)
		fprintf(f, "%s%s", i ? "," : "", q->vals[i]);
	fputc(')', f);
}

/* Writes into buf, which is "" until then; NULL: there is no room, or no memory. */
static FILE *text_open(char *buf, size_t len)
{
	if (!len)
		return NULL;
	buf[0] = 0;
	return fmemopen(buf, len, "w");
}

char *bn_selector_describe(const struct bn_selector *s, char *buf, size_t len)
{
	FILE *f = text_open(buf, len);

	if (!f)
		return buf;
	if (!s->n)
		fputs("everything", f);
	for (uint32_t i = 0; i < s->n; i++) {
		if (i)
			fputc(',', f);
		req_describe(&s->reqs[i], f);
	}
	fclose(f);
	buf[len - 1] = 0;
	return buf;
}

static void block_describe(const struct bn_peer *p, FILE *f)
{
	char text[BN_ADDR_STRLEN];

	for (uint32_t k = 0; k <= p->nexcept; k++) {
		const struct bn_cidr *c = k ? &p->except[k - 1] : &p->block;
		bool v4 = bn_addr_is_v4(&c->addr) && c->prefix >= 96;

		fprintf(f, "%s%s/%u",
			k == 1 ? " except "
			: k    ? ","
			       : "",
			bn_addr_format(&c->addr, text), v4 ? c->prefix - 96 : c->prefix);
	}
}

char *bn_peer_describe(const char *ns, const struct bn_peer *p, char *buf, size_t len)
{
	FILE *f = text_open(buf, len);
	char text[256];

	if (!f)
		return buf;
	if (p->has_block) {
		block_describe(p, f);
	} else {
		fputs(p->has_pod && p->pod.n ? "pods with " : "pods", f);
		if (p->has_pod && p->pod.n)
			fputs(bn_selector_describe(&p->pod, text, sizeof(text)), f);
		if (!p->has_ns)
			fprintf(f, " in namespace %s", ns);
		else if (p->ns.n)
			fprintf(f, " in namespaces with %s",
				bn_selector_describe(&p->ns, text, sizeof(text)));
		else
			fputs(" in all namespaces", f);
	}
	fclose(f);
	buf[len - 1] = 0;
	return buf;
}
