// SPDX-License-Identifier: MIT
/* One direction, judged a second time from the objects alone, and put into words. */
#include <stdio.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/select.h"
#include "policy/trace_priv.h"

enum rank { /* how near a rule came */
	    RANK_NOTHING,
	    RANK_PEER_FAR,  /* neither namespace nor labels, no block */
	    RANK_NAMESPACE, /* labels match, namespace differs */
	    RANK_LABELS,    /* namespace matches, labels differ */
	    RANK_PORT,	    /* the peer matches, the port does not */
	    RANK_MATCH,
};

struct verdict {
	enum rank rank;
	char reason[400];
};

static const struct bn_labels *ns_labels(const struct bn_store *store, const char *ns,
					 struct bn_labels *tmp, struct bn_label *one)
{
	const struct bn_obj *o = bn_store_get(store, BN_KIND_NAMESPACE, "", ns);

	if (o)
		return &o->labels;
	*one = (struct bn_label){bn_intern("kubernetes.io/metadata.name"), ns};
	*tmp = (struct bn_labels){1, one};
	return tmp;
}

static void say_req(char *buf, size_t len, const char *whose, const struct bn_sel_req *q,
		    const struct bn_labels *l)
{
	struct bn_selector one = {1, (struct bn_sel_req *)q};
	const char *val = bn_labels_get(l, q->key);
	char want[200];

	bn_selector_describe(&one, want, sizeof(want));
	if (val)
		snprintf(buf, len, "%s %s=%s, the rule wants %s", whose, q->key, val, want);
	else
		snprintf(buf, len, "%s no label %s, the rule wants %s", whose, q->key, want);
}

static enum rank peer_pods(const struct bn_side *s, const struct bn_netpol *p,
			   const struct bn_peer *peer, const struct bn_store *store, char *why,
			   size_t len)
{
	struct bn_label one;
	struct bn_labels tmp;
	const struct bn_labels *nsl;
	const struct bn_sel_req *bad_ns = NULL, *bad_pod = NULL;
	bool ns_ok;

	if (!s->pod) {
		snprintf(why, len,
			 "the peer is not a pod with an address of its own, the rule wants "
			 "pods");
		return RANK_PEER_FAR;
	}
	nsl = ns_labels(store, s->pod->o.ns, &tmp, &one);
	if (peer->has_ns)
		bad_ns = bn_selector_failed(&peer->ns, nsl);
	ns_ok = peer->has_ns ? !bad_ns : s->pod->o.ns == p->o.ns;
	if (peer->has_pod)
		bad_pod = bn_selector_failed(&peer->pod, &s->pod->o.labels);
	if (ns_ok && !bad_pod)
		return RANK_MATCH;
	if (!ns_ok && bad_ns)
		say_req(why, len, "namespace of the peer has", bad_ns, nsl);
	else if (!ns_ok)
		snprintf(why, len, "the peer is in namespace %s, the rule wants namespace %s",
			 s->pod->o.ns, p->o.ns);
	else
		say_req(why, len, "the peer has", bad_pod, &s->pod->o.labels);
	return ns_ok ? RANK_LABELS : !bad_pod ? RANK_NAMESPACE : RANK_PEER_FAR;
}

static char *cidr_text(const struct bn_cidr *c, char *buf, size_t len)
{
	bool v4 = bn_addr_is_v4(&c->addr) && c->prefix >= 96;
	char text[BN_ADDR_STRLEN];

	snprintf(buf, len, "%s/%u", bn_addr_format(&c->addr, text),
		 v4 ? c->prefix - 96 : c->prefix);
	return buf;
}

static enum rank peer_block(const struct bn_side *s, const struct bn_peer *peer, char *why,
			    size_t len)
{
	char a[BN_ADDR_STRLEN], b[BN_ADDR_STRLEN + 5];

	if (bn_peer_block_match(peer, &s->addr))
		return RANK_MATCH;
	for (uint32_t k = 0; k < peer->nexcept; k++) {
		if (!bn_cidr_contains(&peer->block, &s->addr) ||
		    !bn_cidr_contains(&peer->except[k], &s->addr))
			continue;
		snprintf(why, len, "%s is in the block's except %s", bn_addr_format(&s->addr, a),
			 cidr_text(&peer->except[k], b, sizeof(b)));
		return RANK_LABELS;
	}
	snprintf(why, len, "block %s does not contain %s", cidr_text(&peer->block, b, sizeof(b)),
		 bn_addr_format(&s->addr, a));
	return RANK_PEER_FAR;
}

/* The best of the rule's peers. *pods: some peer that looks at pods matches, or there are no peers.
 */
static enum rank match_peers(const struct bn_side *s, const struct bn_netpol *p,
			     const struct bn_rule *r, const struct bn_store *store, bool *pods,
			     char *why, size_t len)
{
	enum rank best = r->npeers ? RANK_NOTHING : RANK_MATCH;
	char text[400];

	*pods = !r->npeers;
	for (uint32_t k = 0; k < r->npeers; k++) {
		const struct bn_peer *peer = &r->peers[k];
		enum rank rank = RANK_NOTHING;

		snprintf(text, sizeof(text), "the peer of the rule can match nothing");
		if (peer->has_block && !peer->has_pod && !peer->has_ns)
			rank = peer_block(s, peer, text, sizeof(text));
		else if (!peer->has_block && (peer->has_pod || peer->has_ns))
			rank = peer_pods(s, p, peer, store, text, sizeof(text));
		if (rank == RANK_MATCH && !peer->has_block)
			*pods = true;
		if (k && rank <= best)
			continue;
		best = rank;
		snprintf(why, len, "%s", text);
	}
	return best;
}

static bool pod_port(const struct bn_pod *pod, const struct bn_policy_port *pp, uint16_t *ret)
{
	for (uint32_t k = 0; pod && k < pod->nports; k++) {
		if (pod->ports[k].name == pp->name && pod->ports[k].proto == pp->proto) {
			*ret = pod->ports[k].port;
			return true;
		}
	}
	return false;
}

static bool match_ports(const struct bn_flow *f, enum bn_dir dir, const struct bn_rule *r,
			bool pods, char *why, size_t len)
{
	FILE *out = fmemopen(why, len, "w");
	bool ok = !r->nports;

	if (out)
		fprintf(out, bn_proto_index(f->proto) ? "%s port %u is not one of the rule's:"
						       : "%s has no ports, and a rule with ports does not allow it:", bn_proto_name(f->proto),
			f->port);
	for (uint32_t k = 0; k < r->nports && !ok; k++) {
		const struct bn_policy_port *pp = &r->ports[k];
		uint16_t lo = pp->port, hi = pp->end_port, got;
		bool known = true;

		if (pp->any) {
			lo = 0;
			hi = 65535;
		} else if (pp->name) {
			known = (dir == BN_INGRESS || pods) && pod_port(f->to.pod, pp, &got);
			lo = hi = known ? got : 0;
		}
		ok = known && pp->proto == f->proto && lo <= f->port && f->port <= hi;
		if (!out || ok)
			continue;
		if (pp->name && known)
			fprintf(out, " %s %s (%u)", bn_proto_name(pp->proto), pp->name, lo);
		else if (pp->name)
			fprintf(out, " %s %s (unknown at the destination)",
				bn_proto_name(pp->proto), pp->name);
		else if (pp->any)
			fprintf(out, " %s any", bn_proto_name(pp->proto));
		else if (lo != hi)
			fprintf(out, " %s %u-%u", bn_proto_name(pp->proto), lo, hi);
		else
			fprintf(out, " %s %u", bn_proto_name(pp->proto), lo);
	}
	if (out)
		fclose(out);
	why[len - 1] = 0;
	return ok;
}

static enum rank judge(const struct bn_flow *f, enum bn_dir dir, const struct bn_netpol *p,
		       const struct bn_rule *r, const struct bn_store *store, struct verdict *v)
{
	const struct bn_side *peer = dir == BN_EGRESS ? &f->to : &f->from;
	char port[400] = "";
	bool pods;

	v->reason[0] = 0;
	v->rank = match_peers(peer, p, r, store, &pods, v->reason, sizeof(v->reason));
	if (v->rank != RANK_MATCH)
		return v->rank;
	if (!match_ports(f, dir, r, pods, port, sizeof(port))) {
		v->rank = RANK_PORT;
		memcpy(v->reason, port, sizeof(v->reason));
	} else if (r->has_http && f->proto != BN_PROTO_TCP) {
		v->rank = RANK_PORT;
		snprintf(v->reason, sizeof(v->reason), "a rule with http allows nothing but TCP");
	}
	return v->rank;
}

bool bn_explain_rule(const struct bn_flow *f, enum bn_dir dir, const struct bn_netpol *p,
		     const struct bn_rule *r, const struct bn_store *store)
{
	struct verdict v;

	return judge(f, dir, p, r, store, &v) == RANK_MATCH;
}

static void explain_policy(const struct bn_flow *f, enum bn_dir dir, const struct bn_netpol *p,
			   const struct bn_store *store, enum rank *best, struct bn_explain *ret)
{
	const struct bn_rule *rules = dir == BN_EGRESS ? p->out : p->in;
	uint32_t n = dir == BN_EGRESS ? p->negress : p->ningress;

	for (uint32_t k = 0; !p->o.refused && k < n; k++) {
		enum bn_action action = rules[k].has_http ? BN_ACT_HTTP : BN_ACT_ALLOW;
		struct verdict v;
		enum rank rank = judge(f, dir, p, &rules[k], store, &v);

		if (rank == RANK_MATCH) {
			if (ret->action == BN_ACT_ALLOW || ret->action == action)
				continue;
			*best = rank;
			*ret = (struct bn_explain){.action = action, .policy = p, .index = k};
			continue;
		}
		if (rank < *best || (ret->policy && rank == *best))
			continue;
		*best = rank;
		ret->policy = p;
		ret->index = k;
		ret->nearest = true;
		ret->failed = rank == RANK_PORT ? "port" : "peer";
		memcpy(ret->reason, v.reason, sizeof(ret->reason));
	}
}

void bn_explain(const struct bn_flow *f, enum bn_dir dir, const struct bn_netpol *const *policies,
		size_t n, const struct bn_store *store, struct bn_explain *ret)
{
	enum rank best = RANK_NOTHING;

	*ret = (struct bn_explain){.action = BN_ACT_DENY};
	for (size_t k = 0; k < n; k++)
		explain_policy(f, dir, policies[k], store, &best, ret);
}
