/* SPDX-License-Identifier: MIT */
/* The service model against a second evaluator that is slow and obvious: for random services and
 * slices it asks of every address and port, by the words of SEMANTICS 2, whether it is in the list.
 */
#include "tests/svc_fixture.h"

#include <endian.h>

#define MAX_EPS	   8
#define MAX_SLICES 4

static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

static const char *const nodes[] = {"n1", "n2", "n3", NULL};
static const char *const zones[] = {"a", "b", "c"};
static const char *const names[] = {"http", "dns", ""};
static const uint8_t protos[] = {BN_PROTO_TCP, BN_PROTO_UDP};

struct world {
	struct bn_service svc;
	struct bn_service_port ports[2];
	struct bn_addr cips[2], ext[2], lb[2];
	struct bn_slice slices[MAX_SLICES];
	const struct bn_slice *ps[MAX_SLICES];
	struct bn_slice_port sports[MAX_SLICES][2];
	struct bn_endpoint eps[MAX_SLICES][MAX_EPS];
	const char *hints[MAX_SLICES][MAX_EPS][2][2];
	uint32_t nslices;
	struct bn_svc_env env;
};

static struct bn_addr addr(bool v4, uint8_t net, uint8_t host)
{
	struct bn_addr a = {.b = {0xfd, [13] = net, [15] = host}};

	if (v4)
		bn_addr_v4(&a, htobe32(10u << 24 | (uint32_t)net << 16 | host));
	return a;
}

static void make_ep(struct world *w, uint32_t s, uint32_t i, bool hints)
{
	struct bn_endpoint *e = &w->eps[s][i];

	*e = (struct bn_endpoint){
		.addr = addr(w->slices[s].v4, 1, (uint8_t)rnd(6)),
		.cond = (uint8_t)rnd(8),
		.node = nodes[rnd(4)],
		.hint_zones = w->hints[s][i][0],
		.hint_nodes = w->hints[s][i][1],
	};
	if (rnd(2))
		e->cond |= BN_EP_READY | BN_EP_SERVING;
	if (!hints && rnd(4))
		return;
	e->nhint_zones = rnd(8) ? 1 + rnd(2) : 0;
	e->nhint_nodes = rnd(3) ? rnd(3) : 1;
	for (int j = 0; j < 2; j++) {
		w->hints[s][i][0][j] = zones[rnd(3)];
		w->hints[s][i][1][j] = nodes[rnd(3)];
	}
}

static void make(struct world *w)
{
	bool hints = rnd(2);

	memset(w, 0, sizeof(*w));
	w->env = (struct bn_svc_env){.node_name = "n1", .zone = rnd(4) ? "a" : NULL};
	w->svc = (struct bn_service){
		.o = {.kind = BN_KIND_SERVICE, .ns = "d", .name = "s"},
		.type = BN_SVC_LOADBALANCER,
		.etp_local = rnd(2),
		.itp_local = rnd(2),
		.ports = w->ports,
		.nports = 1 + rnd(2),
		.cluster_ips = w->cips,
		.external_ips = w->ext,
		.lb_ips = w->lb,
		.nexternal_ips = rnd(3),
		.nlb_ips = rnd(3),
	};
	for (uint32_t i = 0; i < 2; i++) {
		w->ports[i] =
			(struct bn_service_port){names[rnd(3)], protos[rnd(2)], (uint16_t)(80 + i),
						 (uint16_t)(rnd(2) ? 30000 + i : 0)};
		w->ext[i] = addr(rnd(2), 8, (uint8_t)(1 + i));
		w->lb[i] = addr(rnd(2), 9, (uint8_t)(1 + i));
	}
	w->cips[w->svc.ncluster_ips++] = addr(rnd(2), 0, 1);
	if (rnd(2)) {
		w->cips[1] = addr(!bn_addr_is_v4(&w->cips[0]), 0, 1);
		w->svc.ncluster_ips++;
	}
	w->nslices = rnd(MAX_SLICES + 1);
	for (uint32_t s = 0; s < w->nslices; s++) {
		w->slices[s] = (struct bn_slice){
			.o = {.kind = BN_KIND_ENDPOINTSLICE, .ns = "d", .name = "x"},
			.service = "s",
			.v4 = rnd(2),
			.headless = !rnd(10),
			.fqdn = !rnd(20),
			.nports = rnd(3),
			.nendpoints = rnd(MAX_EPS + 1),
			.ports = w->sports[s],
			.endpoints = w->eps[s],
		};
		for (uint32_t i = 0; i < 2; i++)
			w->sports[s][i] = (struct bn_slice_port){names[rnd(3)], protos[rnd(2)],
								 (uint16_t)(8000 + rnd(2))};
		for (uint32_t i = 0; i < MAX_EPS; i++)
			make_ep(w, s, i, hints);
		w->ps[s] = &w->slices[s];
	}
}

/* --- the naive evaluator ---------------------------------------------------------------------- */

struct fact { /* one address and port, duplicates settled */
	bool there, ready, serving, terminating, local;
	bool node_hints, zone_hints, our_node, our_zone;
};

static bool named(const char **v, uint32_t n, const char *what)
{
	bool yes = false;

	for (uint32_t i = 0; i < n; i++)
		yes = yes || (what && !strcmp(v[i], what));
	return yes;
}

static struct fact fact_of(const struct world *w, const struct bn_endpoint *e)
{
	return (struct fact){
		.there = true,
		.ready = e->cond & BN_EP_READY,
		.serving = e->cond & BN_EP_SERVING,
		.terminating = e->cond & BN_EP_TERMINATING,
		.local = e->node && !strcmp(e->node, "n1"),
		.node_hints = e->nhint_nodes,
		.zone_hints = e->nhint_zones,
		.our_node = named(e->hint_nodes, e->nhint_nodes, "n1"),
		.our_zone = named(e->hint_zones, e->nhint_zones, w->env.zone),
	};
}

/* Fact 1, and where it is silent what svcmodel.c promises: ready, then serving. */
static bool better(const struct fact *a, const struct fact *b)
{
	if (a->terminating != b->terminating)
		return !a->terminating;
	if (a->local != b->local)
		return a->local;
	if (a->ready != b->ready)
		return a->ready;
	return a->serving && !b->serving;
}

/* Duplicates that differ in hints only are not defined: told by *vague. */
static struct fact settle(const struct world *w, const struct bn_sm_port *p, uint8_t host,
			  uint16_t port, bool *vague)
{
	struct bn_addr a = addr(p->v4, 1, host);
	struct fact best = {0};

	for (uint32_t s = 0; s < w->nslices; s++)
		for (uint32_t j = 0; j < w->slices[s].nports; j++)
			for (uint32_t i = 0; i < w->slices[s].nendpoints; i++) {
				const struct bn_slice *sl = &w->slices[s];
				struct fact f = fact_of(w, &sl->endpoints[i]);

				if (sl->headless || sl->fqdn || sl->v4 != p->v4 ||
				    strcmp(sl->ports[j].name, p->name) ||
				    sl->ports[j].proto != p->proto || sl->ports[j].port != port ||
				    !bn_addr_eq(&sl->endpoints[i].addr, &a))
					continue;
				if (best.there && !better(&f, &best) && !better(&best, &f) &&
				    memcmp(&f, &best, sizeof(f)))
					*vague = true;
				if (!best.there || better(&f, &best))
					best = f;
			}
	return best;
}

#define HOSTS 6
#define PORTS 2

struct naive {
	struct fact f[HOSTS][PORTS];
	bool cluster[HOSTS][PORTS], near[HOSTS][PORTS];
	bool vague;
};

#define EACH(h, p)                                                                                 \
	for (uint32_t h = 0; h < HOSTS; h++)                                                       \
		for (uint32_t p = 0; p < PORTS; p++)

static void naive(const struct world *w, const struct bn_sm_port *sp, struct naive *n)
{
	bool every_node = true, some_node = false, every_zone = true, some_zone = false;
	bool any_ready = false, any_near = false;

	memset(n, 0, sizeof(*n));
	EACH(h, p) n->f[h][p] = settle(w, sp, (uint8_t)h, (uint16_t)(8000 + p), &n->vague);
	EACH(h, p)
	{
		const struct fact *f = &n->f[h][p];

		if (!f->there || !f->ready)
			continue;
		any_ready = true;
		any_near |= f->local;
		every_node &= f->node_hints;
		every_zone &= f->zone_hints;
		some_node |= f->our_node;
		some_zone |= f->our_zone;
	}
	EACH(h, p)
	{
		const struct fact *f = &n->f[h][p];
		bool fits = every_node && some_node   ? f->our_node
			    : every_zone && some_zone ? f->our_zone
						      : true;

		n->cluster[h][p] =
			f->there && (any_ready ? f->ready && fits : f->serving && f->terminating);
		n->near[h][p] = f->there && f->local &&
				(any_near ? f->ready : f->serving && f->terminating);
	}
}

static const struct bn_sm_ep *model_ep(const struct bn_sm_port *p, uint32_t host, uint32_t port)
{
	struct bn_addr a = addr(p->v4, 1, (uint8_t)host);

	for (uint32_t i = 0; i < p->neps; i++)
		if (bn_addr_eq(&p->eps[i].addr, &a) && p->eps[i].port == 8000 + port)
			return &p->eps[i];
	return NULL;
}

static void check_fronts(const struct world *w, const struct bn_sm_port *p, bool any, bool any_near)
{
	uint8_t cluster = any ? BN_LIST_CLUSTER : BN_LIST_REJECT;
	uint8_t local = any_near ? BN_LIST_LOCAL : any ? BN_LIST_DROP : BN_LIST_REJECT;

	for (uint32_t i = 0; i < p->nfronts; i++) {
		const struct bn_sm_front *f = &p->fronts[i];

		if (f->kind == BN_FRONT_CLUSTERIP) {
			assert_int_equal(f->list, w->svc.itp_local ? local : cluster);
			continue;
		}
		assert_int_equal(f->list, w->svc.etp_local ? local : cluster);
		assert_int_equal(f->list_int, cluster);
		assert_int_equal(!!(f->flags & BN_SVC_F_SPLIT), w->svc.etp_local);
	}
}

static bool check_port(const struct world *w, const struct bn_sm_port *p)
{
	bool any = false, any_near = false;
	struct naive n;

	naive(w, p, &n);
	if (n.vague)
		return false;
	EACH(h, q)
	{
		const struct bn_sm_ep *e = model_ep(p, h, q);

		assert_int_equal(e != NULL, n.f[h][q].there);
		assert_int_equal(e && (e->flags & BN_SM_CLUSTER), n.cluster[h][q]);
		assert_int_equal(e && (e->flags & BN_SM_NEAR), n.near[h][q]);
		any |= n.cluster[h][q];
		any_near |= n.near[h][q];
	}
	check_fronts(w, p, any, any_near);
	return true;
}

static void test_random(void **state _unused_)
{
	const uint32_t rounds = 200000;
	uint32_t judged = 0, vague = 0;
	struct world w;

	seed = 20261123;
	for (uint32_t i = 0; i < rounds; i++) {
		_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;

		make(&w);
		assert_int_equal(bn_svcmodel_build(&w.svc, w.ps, w.nslices, &w.env, &m), 0);
		assert_int_equal(m->nports, w.svc.nports * w.svc.ncluster_ips);
		for (uint32_t j = 0; j < m->nports; j++) {
			if (check_port(&w, &m->ports[j]))
				judged++;
			else
				vague++;
		}
	}
	print_message(
		"%u service ports judged, %u left out (duplicates that differ in hints only)\n",
		judged, vague);
	assert_true(judged > vague);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
