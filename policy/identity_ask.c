// SPDX-License-Identifier: MIT
/* Questions about identities. */
#include <stdio.h>

#include "maps/util.h"
#include "policy/identity_priv.h"

static const struct ident *ident(const struct bn_idents *i, uint32_t id)
{
	return id < i->by_id.n ? i->by_id.v[id] : NULL;
}

void bn_idents_whois(const struct bn_idents *i, const struct bn_addr *a, struct bn_whois *ret)
{
	const struct ent *e = bn_ident_addr(i, a);
	int low = bn_addr_is_v4(a) ? 96 : 0;

	*ret = (struct bn_whois){.who = BN_WHO_WORLD, .identity = BN_ID_WORLD};
	if (e && e->id) {
		const struct podrec *p = bn_ident_winner(e);

		ret->who = p ? BN_WHO_POD : BN_WHO_NODE;
		ret->pod = p ? p->pod : NULL;
		ret->node = e->nodes.n ? e->nodes.v[0]->node : NULL;
		ret->flags = e->flags;
		ret->identity = e->id;
		return;
	}
	for (int len = 128; len >= low; len--) {
		struct bn_cidr c = {.addr = *a, .prefix = (uint8_t)len};

		if (!i->lens[len])
			continue;
		bn_ident_mask(&c.addr, c.prefix);
		e = bn_ident_prefix(i, &c);
		if (e && e->id) {
			ret->identity = e->id;
			return;
		}
	}
}

size_t bn_idents_atoms(const struct bn_idents *i, uint32_t identity, const uint32_t **ret)
{
	const struct ident *x = ident(i, identity);

	*ret = x ? x->atoms : NULL;
	return x ? x->natoms : 0;
}

size_t bn_idents_nports(const struct bn_idents *i, uint32_t identity)
{
	const struct ident *x = ident(i, identity);

	return x ? x->nports : 0;
}

bool bn_idents_port(const struct bn_idents *i, uint32_t identity, const char *name, uint8_t proto,
		    uint16_t *ret)
{
	const struct portname *p = bn_ident_portname(i, name, proto);
	const struct ident *x = ident(i, identity);

	for (uint32_t k = 0; p && x && k < x->nports; k++) {
		if (x->ports[k].name == p->id) {
			*ret = (uint16_t)x->ports[k].port;
			return true;
		}
	}
	return false;
}

bool bn_idents_atom_is_pods(const struct bn_idents *i, uint32_t atom)
{
	const struct atom *a = bn_ident_atom(i, atom);

	return a && a->kind == ATOM_PODS;
}

size_t bn_idents_of_atom(const struct bn_idents *i, uint32_t atom, const uint32_t **ret)
{
	const struct atom *a = bn_ident_atom(i, atom);

	*ret = a ? a->idents.v : NULL;
	return a ? a->idents.n : 0;
}

int bn_idents_each_of_name(const struct bn_idents *i, const char *name, uint8_t proto,
			   int (*fn)(uint32_t identity, void *data), void *data)
{
	uint16_t port;
	int r = 0;

	for (uint32_t id = BN_ID_FIRST; id < i->by_id.n && !r; id++)
		if (i->by_id.v[id] && i->by_id.v[id]->nports &&
		    bn_idents_port(i, id, name, proto, &port))
			r = fn(id, data);
	return r;
}

int bn_idents_each(const struct bn_idents *i,
		   int (*fn)(uint32_t identity, size_t members, void *data), void *data)
{
	int r = 0;

	for (uint32_t id = 0; id < i->by_id.n && !r; id++)
		if (i->by_id.v[id])
			r = fn(id, i->by_id.v[id]->members, data);
	return r;
}

int bn_idents_each_pod(const struct bn_idents *i, const char *ns,
		       int (*fn)(const struct bn_pod *pod, void *data), void *data)
{
	const struct nspace *s = bn_ident_nspace_find(i, ns);
	int r = 0;

	for (uint32_t k = 0; s && k < s->pods.n && !r; k++)
		r = fn(s->pods.v[k]->pod, data);
	return r;
}

int bn_idents_each_addr(const struct bn_idents *i,
			int (*fn)(const struct bn_ident_addr *a, void *data), void *data)
{
	int r = 0;

	bn_htab_each(&i->ents[IDENT_ADDRS], n)
	{
		const struct ent *e = bn_container(n, struct ent, h);
		struct bn_ident_addr a = {e->at.addr, e->id, e->flags};

		if (e->id && !r)
			r = fn(&a, data);
	}
	return r;
}

int bn_idents_each_prefix(const struct bn_idents *i,
			  int (*fn)(const struct bn_ident_prefix *p, void *data), void *data)
{
	int r = 0;

	bn_htab_each(&i->ents[IDENT_PREFIXES], n)
	{
		const struct ent *e = bn_container(n, struct ent, h);
		struct bn_ident_prefix p = {e->at, e->id};

		if (e->id && !r)
			r = fn(&p, data);
	}
	return r;
}

int bn_idents_each_adopted(const struct bn_idents *i,
			   int (*fn)(uint32_t identity, uint32_t old, void *data), void *data)
{
	int r = 0;

	for (uint32_t k = 0; k < i->atom_by_id.n; k++) {
		const struct atom *a = i->atom_by_id.v[k];

		for (uint32_t j = 0; a && a->kind == ATOM_WAS && j < a->idents.n && !r; j++)
			r = fn(a->idents.v[j], a->was, data);
	}
	return r;
}

char *bn_idents_atom_describe(const struct bn_idents *i, uint32_t atom, char *buf, size_t len)
{
	const struct atom *a = bn_ident_atom(i, atom);
	struct bn_peer p = {};

	if (a && (a->kind == ATOM_PODS || a->kind == ATOM_BLOCK)) {
		p.has_block = a->kind == ATOM_BLOCK;
		p.block = a->block;
		p.nexcept = a->nexcept;
		p.except = a->except;
		p.has_ns = a->kind == ATOM_PODS && !a->ns;
		p.ns = a->nssel;
		p.has_pod = a->kind == ATOM_PODS;
		p.pod = a->pods;
		return bn_peer_describe(a->ns, &p, buf, len);
	}
	if (len)
		snprintf(buf, len, "%s", a && a->kind == ATOM_WAS ? "taken over" : "nothing");
	return buf;
}

void bn_idents_stats(const struct bn_idents *i, struct bn_idents_stats *ret)
{
	*ret = (struct bn_idents_stats){
		.atoms = i->atoms.n,
		.addresses = i->ents[IDENT_ADDRS].n,
		.prefixes = i->ents[IDENT_PREFIXES].n,
		.pods = i->pods.n,
	};
	for (uint32_t id = 0; id < i->by_id.n; id++)
		ret->identities += i->by_id.v[id] && i->by_id.v[id]->members;
}
