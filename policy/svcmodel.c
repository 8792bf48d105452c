/* SPDX-License-Identifier: MIT */
#include "policy/svcmodel.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "maps/util.h"
#include "policy/svcmodel_priv.h"

const char *bn_front_kind_name(enum bn_front_kind kind)
{
	static const char *const names[BN_FRONT__MAX] = {
		[BN_FRONT_CLUSTERIP] = "ClusterIP",
		[BN_FRONT_LOADBALANCER] = "LoadBalancer",
		[BN_FRONT_EXTERNALIP] = "ExternalIP",
		[BN_FRONT_NODEPORT] = "NodePort",
	};

	return kind < BN_FRONT__MAX ? names[kind] : "unknown";
}

const char *bn_svc_type_name(enum bn_svc_type type)
{
	static const char *const names[BN_SVC_TYPE__MAX] = {
		[BN_SVC_CLUSTERIP] = "ClusterIP",
		[BN_SVC_NODEPORT] = "NodePort",
		[BN_SVC_LOADBALANCER] = "LoadBalancer",
		[BN_SVC_EXTERNALNAME] = "ExternalName",
	};

	return type < BN_SVC_TYPE__MAX ? names[type] : "unknown";
}

bool bn_service_ours(const struct bn_service *svc, const struct bn_svc_env *env)
{
	if (svc->proxy_name && !sm_streq(svc->proxy_name, env->proxy_name))
		return false;
	return svc->type != BN_SVC_EXTERNALNAME && !svc->headless && svc->ncluster_ips &&
	       !svc->o.refused;
}

bool bn_slice_usable(const struct bn_slice *slice)
{
	return slice->service && *slice->service && !slice->headless && !slice->fqdn &&
	       !slice->o.refused;
}

int bn_front_precedence(enum bn_front_kind ka, const struct bn_obj *a, enum bn_front_kind kb,
			const struct bn_obj *b)
{
	int r;

	if (ka != kb)
		return ka < kb ? -1 : 1;
	r = strcmp(a->ns, b->ns);
	return r ? r : strcmp(a->name, b->name);
}

/* --- frontends ------------------------------------------------------------------------------- */

static uint8_t list_cluster(const struct bn_sm_port *p)
{
	return p->ncluster ? BN_LIST_CLUSTER : BN_LIST_REJECT;
}

/* Fact 6. ncluster is 0 exactly if no endpoint anywhere can be used. */
static uint8_t list_local(const struct bn_sm_port *p)
{
	if (p->nlocal)
		return BN_LIST_LOCAL;
	return p->ncluster ? BN_LIST_DROP : BN_LIST_REJECT;
}

static void port_front(struct bn_sm_port *p, const struct bn_svcmodel *m, enum bn_front_kind kind,
		       const struct bn_addr *addr)
{
	static const uint32_t kind_flags[BN_FRONT__MAX] = {
		[BN_FRONT_LOADBALANCER] = BN_SVC_F_EXTERNAL | BN_SVC_F_LOADBALANCER,
		[BN_FRONT_EXTERNALIP] = BN_SVC_F_EXTERNAL,
		[BN_FRONT_NODEPORT] = BN_SVC_F_EXTERNAL | BN_SVC_F_NODEPORT,
	};
	struct bn_sm_front *f = &p->fronts[p->nfronts++];
	bool local = kind == BN_FRONT_CLUSTERIP ? m->svc->itp_local : m->svc->etp_local;

	f->kind = kind;
	f->flags = kind_flags[kind] | (p->maglev ? BN_SVC_F_MAGLEV : 0);
	if (kind == BN_FRONT_NODEPORT)
		bn_front_nodeport(&f->key, addr, htobe16(p->node_port), p->proto);
	else
		f->key = (struct bn_front_key){
			.addr = *addr,
			.port = htobe16(p->port),
			.proto = p->proto,
			.scope = BN_SCOPE_EXACT,
		};
	if (kind == BN_FRONT_LOADBALANCER && m->nsrc[p->v4])
		f->flags |= BN_SVC_F_SRC_RANGES;
	f->list = local ? list_local(p) : list_cluster(p);
	f->list_int = f->list;
	if (!local)
		return;
	if (kind == BN_FRONT_CLUSTERIP) {
		f->flags |= BN_SVC_F_ITP_LOCAL;
	} else { /* fact 7: this node's own clients get all endpoints */
		f->flags |= BN_SVC_F_ETP_LOCAL | BN_SVC_F_SPLIT;
		f->list_int = list_cluster(p);
	}
}

static uint32_t count_family(const struct bn_addr *v, uint32_t n, bool v4)
{
	uint32_t k = 0;

	for (uint32_t i = 0; i < n; i++)
		k += !!bn_addr_is_v4(&v[i]) == v4;
	return k;
}

/* Addresses of the port's family, as many as *room allows. */
static void port_addrs(struct bn_sm_port *p, struct bn_svcmodel *m, enum bn_front_kind kind,
		       const struct bn_addr *v, uint32_t n, uint32_t *room)
{
	for (uint32_t i = 0; i < n; i++) {
		if (!!bn_addr_is_v4(&v[i]) != p->v4)
			continue;
		if (*room) {
			port_front(p, m, kind, &v[i]);
			--*room;
		} else {
			m->left_out++;
		}
	}
}

static int port_fronts(struct bn_sm_port *p, struct bn_svcmodel *m, const struct bn_addr *cip,
		       uint32_t *room)
{
	const struct bn_service *s = m->svc;
	uint32_t want = count_family(s->lb_ips, s->nlb_ips, p->v4) +
			count_family(s->external_ips, s->nexternal_ips, p->v4);

	p->fronts = calloc(2 + (size_t)(want < *room ? want : *room), sizeof(*p->fronts));
	if (!p->fronts)
		return -ENOMEM;
	port_front(p, m, BN_FRONT_CLUSTERIP, cip);
	port_addrs(p, m, BN_FRONT_LOADBALANCER, s->lb_ips, s->nlb_ips, room);
	port_addrs(p, m, BN_FRONT_EXTERNALIP, s->external_ips, s->nexternal_ips, room);
	if (p->node_port)
		port_front(p, m, BN_FRONT_NODEPORT, cip);
	return 0;
}

struct front_ref {
	const struct bn_front_key *key;
	uint32_t port, front;
	enum bn_front_kind kind;
	bool dup;
};

static int ref_cmp(const void *pa, const void *pb)
{
	const struct front_ref *a = pa, *b = pb;
	int r = memcmp(a->key, b->key, sizeof(*a->key));

	if (!r)
		r = (int)a->kind - (int)b->kind;
	if (!r)
		r = a->port < b->port ? -1 : a->port > b->port;
	return r ? r : a->front < b->front ? -1 : a->front > b->front;
}

static int ref_cmp_place(const void *pa, const void *pb)
{
	const struct front_ref *a = pa, *b = pb;

	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	return a->front < b->front ? -1 : a->front > b->front;
}

/* One address given twice (as LoadBalancer and as external IP, by two ports with one number): the
 * first by kind and port stays. Sorted, as a hostile object may have thousands.
 */
static int model_unique(struct bn_svcmodel *m)
{
	_cleanup_(freep) struct front_ref *refs = NULL;
	size_t n = 0, k = 0;

	for (uint32_t i = 0; i < m->nports; i++)
		n += m->ports[i].nfronts;
	if (n < 2)
		return 0;
	refs = calloc(n, sizeof(*refs));
	if (!refs)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->nports; i++)
		for (uint32_t j = 0; j < m->ports[i].nfronts; j++, k++)
			refs[k] = (struct front_ref){&m->ports[i].fronts[j].key, i, j,
						     m->ports[i].fronts[j].kind, false};
	qsort(refs, n, sizeof(*refs), ref_cmp);
	for (k = 1; k < n; k++)
		refs[k].dup = !memcmp(refs[k].key, refs[k - 1].key, sizeof(*refs[k].key));
	qsort(refs, n, sizeof(*refs), ref_cmp_place);
	k = 0;
	for (uint32_t i = 0; i < m->nports; i++) {
		struct bn_sm_port *p = &m->ports[i];
		uint32_t w = 0, all = p->nfronts;

		for (uint32_t j = 0; j < all; j++, k++)
			if (!refs[k].dup)
				p->fronts[w++] = p->fronts[j];
		p->nfronts = w;
	}
	return 0;
}

/* Fact 10. Only prefixes of a family restrict that family. A node that is inside a range may use
 * the VIP as its own source (the VIP is often an address of the node).
 */
static int model_sources(struct bn_svcmodel *m, const struct bn_svc_env *env)
{
	const struct bn_service *s = m->svc;

	for (int v4 = 0; v4 < 2; v4++) {
		const struct bn_addr *node = v4 ? &env->node4 : &env->node6;
		bool node_in = false;

		if (!s->nsrc_ranges || !s->nlb_ips)
			continue;
		m->src[v4] = calloc((size_t)s->nsrc_ranges + s->nlb_ips, sizeof(*m->src[v4]));
		if (!m->src[v4])
			return -ENOMEM;
		for (uint32_t i = 0; i < s->nsrc_ranges; i++) {
			const struct bn_cidr *c = &s->src_ranges[i];

			if ((c->prefix >= 96 && bn_addr_is_v4(&c->addr)) != v4)
				continue;
			m->src[v4][m->nsrc[v4]++] = *c;
			node_in |= !bn_addr_is_zero(node) && bn_cidr_contains(c, node);
		}
		for (uint32_t i = 0; node_in && i < s->nlb_ips; i++)
			if (!!bn_addr_is_v4(&s->lb_ips[i]) == v4)
				m->src[v4][m->nsrc[v4]++] = (struct bn_cidr){s->lb_ips[i], 128};
	}
	return 0;
}

/* --- the model ------------------------------------------------------------------------------- */

static const struct bn_addr *family_ip(const struct bn_service *s, bool v4)
{
	for (uint32_t i = 0; i < s->ncluster_ips; i++)
		if (!!bn_addr_is_v4(&s->cluster_ips[i]) == v4)
			return &s->cluster_ips[i];
	return NULL;
}

static int model_port(struct bn_svcmodel *m, const struct bn_service_port *sp,
		      const struct bn_addr *cip, const struct sm_sources *sources,
		      const struct bn_svc_env *env, uint32_t *room)
{
	struct bn_sm_port *p = &m->ports[m->nports++];
	const struct bn_service *s = m->svc;
	int r;

	p->name = sp->name ? sp->name : "";
	p->proto = sp->proto;
	p->port = sp->port;
	p->node_port = sp->node_port;
	p->v4 = bn_addr_is_v4(cip);
	p->maglev = s->lb_algorithm ? sm_streq(s->lb_algorithm, "maglev") : env->maglev;
	p->affinity_s = s->affinity_client_ip ? s->affinity_timeout_s : 0;
	r = sm_port_endpoints(p, sources, env);
	return r ? r : port_fronts(p, m, cip, room);
}

static int addr_cmp(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct bn_addr));
}

/* Local ready endpoints, each address once whatever the number of ports. */
static int model_health(struct bn_svcmodel *m)
{
	_cleanup_(freep) struct bn_addr *v = NULL;
	size_t n = 0, max = 0;

	if (m->svc->type != BN_SVC_LOADBALANCER || !m->svc->etp_local || !m->svc->health_node_port)
		return 0;
	m->health_port = m->svc->health_node_port;
	for (uint32_t i = 0; i < m->nports; i++)
		max += m->ports[i].neps;
	v = calloc(max ? max : 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->nports; i++)
		for (uint32_t j = 0; j < m->ports[i].neps; j++) {
			const struct bn_sm_ep *e = &m->ports[i].eps[j];

			if ((e->flags & BN_SM_LOCAL) && (e->cond & BN_EP_READY))
				v[n++] = e->addr;
		}
	qsort(v, n, sizeof(*v), addr_cmp);
	for (size_t i = 0; i < n; i++)
		if (!i || addr_cmp(&v[i - 1], &v[i]))
			m->health_local[!!bn_addr_is_v4(&v[i])]++;
	return 0;
}

static int model_fill(struct bn_svcmodel *m, const struct sm_sources *sources,
		      const struct bn_svc_env *env)
{
	const struct bn_service *s = m->svc;
	uint32_t room = BN_SM_MAX_FRONTS;
	int r;

	m->ports = calloc(2 * (size_t)s->nports + 1, sizeof(*m->ports));
	if (!m->ports)
		return -ENOMEM;
	r = model_sources(m, env);
	/* IPv4 first; a family without a ClusterIP is not served at all, as in kube-proxy */
	for (int v4 = 1; v4 >= 0; v4--) {
		const struct bn_addr *cip = family_ip(s, v4);

		for (uint32_t i = 0; !r && cip && i < s->nports; i++)
			if (s->ports[i].port)
				r = model_port(m, &s->ports[i], cip, sources, env, &room);
	}
	r = r ? r : model_unique(m);
	return r ? r : model_health(m);
}

int bn_svcmodel_build(const struct bn_service *svc, const struct bn_slice *const *slices,
		      uint32_t nslices, const struct bn_svc_env *env, struct bn_svcmodel **ret)
{
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = calloc(1, sizeof(*m));
	struct sm_sources sources = {0};
	int r;

	if (!m)
		return -ENOMEM;
	m->svc = svc;
	if (bn_service_ours(svc, env)) {
		r = sm_sources_collect(&sources, slices, nslices);
		r = r ? r : model_fill(m, &sources, env);
		free(sources.v);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(m);
	return 0;
}

void bn_svcmodel_free(struct bn_svcmodel *m)
{
	if (!m)
		return;
	for (uint32_t i = 0; m->ports && i < m->nports; i++) {
		free(m->ports[i].fronts);
		free(m->ports[i].eps);
	}
	free(m->ports);
	free(m->src[0]);
	free(m->src[1]);
	free(m);
}

void bn_svcmodel_freep(struct bn_svcmodel **m)
{
	bn_svcmodel_free(*m);
	*m = NULL;
}
