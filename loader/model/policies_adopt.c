// SPDX-License-Identifier: MIT
/* Taking over from an earlier daemon without an instant in which anything opens or closes.
 *
 * The matrices in force know identities by the old numbers. New numbers begin above them, and each
 * new identity stands for exactly one old one (identity.h, adopting), so before any address flips
 * the old matrices are taught: judge the new number as you judge the old. From then on old and new
 * words, old and new numbers go together in every combination.
 */
#include <string.h>

#include "loader/model/policies_priv.h"
#include "maps/util.h"

/* Adopted policies of pods that nobody has claimed yet are kept this long. */
#define ADOPT_NS 30000000000ull

static int old_addr(const struct bn_ep *ep, void *data)
{
	struct bn_policies *p = data;

	return bn_idents_adopt_addr(p->ids, &ep->addr, BN_EP_IDENTITY(ep->word));
}

static int old_prefix(const struct bn_lpm_key *k, uint32_t identity, void *data)
{
	struct bn_policies *p = data;
	struct bn_cidr c;

	memset(&c, 0, sizeof(c));
	c.addr = k->addr;
	c.prefix = k->prefixlen > 128 ? 128 : (uint8_t)k->prefixlen;
	bn_idents_adopt_first(p->ids, identity + 1);
	return bn_idents_adopt_prefix(p->ids, &c, identity);
}

static int old_identity(uint32_t identity, void *data)
{
	struct bn_policies *p = data;

	bn_idents_adopt_first(p->ids, identity + 1);
	return bn_idents_adopt_identity(p->ids, identity);
}

static int old_first(const struct bn_ep *ep, void *data)
{
	struct bn_policies *p = data;

	bn_idents_adopt_first(p->ids, BN_EP_IDENTITY(ep->word) + 1);
	return 0;
}

int bn_pol_adopt_begin(struct bn_policies *p)
{
	struct bn_pols_stats s;
	int r;

	bn_pols_stats(p->pols, &s);
	p->adopt_until_ns = bn_pol_now_ns() + ADOPT_NS;
	r = bn_eps_each(p->eps, old_first, p);
	if (r < 0 || !s.adopted)
		return r;
	r = bn_pols_each_old_identity(p->pols, old_identity, p);
	r = r ?: bn_pols_each_old_cidr(p->pols, old_prefix, p);
	return r ?: bn_eps_each(p->eps, old_addr, p);
}

static int alias(uint32_t identity, uint32_t old, void *data)
{
	struct bn_policies *p = data;

	return bn_pols_alias(p->pols, identity, old);
}

int bn_pol_adopt_alias(struct bn_policies *p)
{
	return bn_idents_each_adopted(p->ids, alias, p);
}

/* Runs after each sync until nothing adopted is in force any more. */
int bn_pol_adopt_end(struct bn_policies *p)
{
	struct bn_pols_stats s;
	int r;

	r = bn_pols_adopt_done(p->pols);
	if (r < 0)
		return r;
	bn_pols_stats(p->pols, &s);
	if (s.adopted && bn_pol_now_ns() < p->adopt_until_ns)
		return 0;
	p->adopt_until_ns = 0;
	bn_idents_adopt_done(p->ids);
	if (p->http)
		bn_httpsets_adopt_done(p->http);
	p->collect_ticket = bn_pols_seal(p->pols);
	return bn_eps_settle(p->eps, BN_EPS_IDENTITY);
}
