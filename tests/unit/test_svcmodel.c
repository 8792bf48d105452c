/* SPDX-License-Identifier: MIT */
/* SEMANTICS 2, facts 1 to 8, and what section 7 chooses: a row per fact, in both families. */
#include "tests/svc_fixture.h"

#include <endian.h>

#include "policy/intern.h"

/* In every text below "@" becomes the family's prefix: "10.0.0." or "fd00::". */
static char *in_family(const char *text, bool v4)
{
	size_t len;
	char *out = NULL;
	FILE *f = open_memstream(&out, &len);

	for (; *text; text++)
		if (*text == '@')
			fputs(v4 ? "10.0.0." : "fd00::", f);
		else if (*text == '~')
			fputs(v4 ? "IPv4" : "IPv6", f);
		else
			fputc(*text, f);
	fclose(f);
	return out;
}

/* Endpoints in short: "1 n1 r" = address @1 on node n1, ready; letters: r ready, s serving, t
 * terminating (r alone is r and s); z:A and n:A are hints.
 */
static void ep_json(FILE *f, char *ep, bool first)
{
	char *save, *host = strtok_r(ep, " ", &save), *node = strtok_r(NULL, " ", &save),
		    *cond = strtok_r(NULL, " ", &save), *hint;
	bool nodes = false, zones = false;

	fprintf(f, "%s{'addresses':['@%s']", first ? "" : ",", host);
	if (strcmp(node, "-"))
		fprintf(f, ",'nodeName':'%s'", node);
	if (strcmp(cond, "-"))
		fprintf(f, ",'conditions':{'ready':%s,'serving':%s,'terminating':%s}",
			strchr(cond, 'r') ? "true" : "false",
			strpbrk(cond, "rs") ? "true" : "false",
			strchr(cond, 't') ? "true" : "false");
	fprintf(f, ",'hints':{");
	while ((hint = strtok_r(NULL, " ", &save))) {
		bool zone = hint[0] == 'z';

		fprintf(f, "%s'%s':[{'name':'%s'}]", nodes || zones ? "," : "",
			zone ? "forZones" : "forNodes", hint + 2);
		*(zone ? &zones : &nodes) = true;
	}
	fprintf(f, "}}");
}

static struct bn_slice *slice_of(const char *name, const char *ports, const char *eps, bool v4)
{
	_cleanup_(freep) char *text = NULL, *json = NULL, *copy = strdup(eps);
	char *save, *ep;
	bool first = true;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	fprintf(f,
		"{'apiVersion':'discovery.k8s.io/"
		"v1','kind':'EndpointSlice','metadata':{'namespace':'d',"
		"'name':'%s','labels':{'kubernetes.io/service-name':'web'}},'addressType':'~',"
		"'ports':[%s],'endpoints':[",
		name, ports);
	for (ep = strtok_r(copy, ",", &save); ep; ep = strtok_r(NULL, ",", &save), first = false)
		ep_json(f, ep, first);
	fprintf(f, "]}");
	fclose(f);
	json = in_family(text, v4);
	return (struct bn_slice *)fx_parse(json);
}

static struct bn_service *service_of(const char *spec, bool v4)
{
	_cleanup_(freep) char *text = NULL, *json = NULL;

	assert_true(asprintf(&text,
			     "{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','"
			     "name':'web'},"
			     "'spec':{'clusterIP':'@100',%s}}",
			     spec) > 0);
	json = in_family(text, v4);
	return (struct bn_service *)fx_parse(json);
}

#define HTTP  "'ports':[{'name':'http','port':80}]"
#define P8080 FX_PORT("http", "TCP", 8080)

struct row {
	const char *what, *spec;
	const char *eps[2];	     /* of two slices, NULL: no such slice */
	const char *cluster, *local; /* hosts of the lists */
	const char *
		fronts; /* "C" kind's letter, list, list for insiders where it differs; per front */
};

static const char *list_letter(uint8_t list)
{
	static const char *const l[] = {"reject", "drop", "cluster", "local"};

	return l[list];
}

/* "1,2": the last byte of each address of a list. */
static char *hosts_of(const struct bn_sm_port *p, uint8_t bit)
{
	size_t len;
	char *out = NULL;
	FILE *f = open_memstream(&out, &len);
	bool first = true;

	for (uint32_t i = 0; i < p->neps; i++)
		if (p->eps[i].flags & bit) {
			fprintf(f, "%s%x", first ? "" : ",", p->eps[i].addr.b[15]);
			first = false;
		}
	fclose(f);
	return out;
}

static char *fronts_of(const struct bn_sm_port *p)
{
	size_t len;
	char *out = NULL;
	FILE *f = open_memstream(&out, &len);

	for (uint32_t i = 0; i < p->nfronts; i++) {
		const struct bn_sm_front *fr = &p->fronts[i];

		fprintf(f, "%s%c %s", i ? "; " : "", "CLEN"[fr->kind], list_letter(fr->list));
		if (fr->flags & BN_SVC_F_SPLIT)
			fprintf(f, "|%s", list_letter(fr->list_int));
		else
			assert_int_equal(fr->list, fr->list_int);
	}
	fclose(f);
	return out;
}

static const struct bn_svc_env env = {.node_name = "n1", .zone = "a"};

static void run_row(const struct row *r, bool v4)
{
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;
	_cleanup_(freep) char *cluster = NULL, *local = NULL, *fronts = NULL;
	struct bn_service *svc = service_of(r->spec, v4);
	struct bn_slice *slices[2];
	uint32_t n = 0;

	for (int i = 0; i < 2; i++)
		if (r->eps[i])
			slices[n++] = slice_of(i ? "b" : "a", P8080, r->eps[i], v4);
	assert_int_equal(
		bn_svcmodel_build(svc, (const struct bn_slice *const *)slices, n, &env, &m), 0);
	assert_int_equal(m->nports, 1);
	cluster = hosts_of(&m->ports[0], BN_SM_CLUSTER);
	local = hosts_of(&m->ports[0], BN_SM_NEAR);
	fronts = fronts_of(&m->ports[0]);
	if (strcmp(cluster, r->cluster) || strcmp(local, r->local) || strcmp(fronts, r->fronts))
		fail_msg("%s (%s):\n  cluster %s, want %s\n  local %s, want %s\n  fronts %s, want "
			 "%s",
			 r->what, v4 ? "IPv4" : "IPv6", cluster, r->cluster, local, r->local,
			 fronts, r->fronts);
	for (uint32_t i = 0; i < n; i++)
		bn_obj_unref(&slices[i]->o);
	bn_obj_unref(&svc->o);
}

#define ETP                                                                                        \
	"'type':'NodePort','externalTrafficPolicy':'Local','externalIPs':['@90'],"                 \
	"'ports':[{'name':'http','port':80,'nodePort':30080}]"
#define NP                                                                                         \
	"'type':'NodePort','externalIPs':['@90'],'ports':[{'name':'http','port':80,'nodePort':"    \
	"30080}]"
#define ITP "'internalTrafficPolicy':'Local',"

static const struct row rows[] = {
	{"1 nil conditions mean ready", HTTP, {"1 n2 -"}, "1", "", "C cluster"},
	{"1 ready false, rest nil is not used", HTTP, {"1 n2 x,2 n2 r"}, "2", "", "C cluster"},
	{"1 duplicate: not terminating wins", HTTP, {"1 n1 st", "1 n2 r"}, "1", "", "C cluster"},
	{"1 duplicate: not terminating wins, though not ready",
	 HTTP,
	 {"1 n1 st,2 n2 r", "1 n2 s"},
	 "2",
	 "",
	 "C cluster"},
	{"1 duplicate: among equals the local one",
	 HTTP,
	 {"1 n2 r", "1 n1 r"},
	 "1",
	 "1",
	 "C cluster"},
	{"1 duplicate: local first, other order",
	 HTTP,
	 {"1 n1 r", "1 n2 r"},
	 "1",
	 "1",
	 "C cluster"},
	{"2 ready ones only", HTTP, {"1 n2 r,2 n2 st,3 n2 s"}, "1", "", "C cluster"},
	{"2 none ready: serving and terminating",
	 HTTP,
	 {"1 n2 st,2 n2 t,3 n2 s"},
	 "1",
	 "",
	 "C cluster"},
	{"2 terminating and not serving never", HTTP, {"1 n1 t"}, "", "", "C reject"},
	{"2 serving, neither ready nor terminating: never", HTTP, {"1 n1 s"}, "", "", "C reject"},
	{"2 lists fall back independently", HTTP, {"1 n2 r,2 n1 st"}, "1", "2", "C cluster"},
	{"2 local ready beats local terminating", HTTP, {"1 n1 r,2 n1 st"}, "1", "1", "C cluster"},
	{"2 fall-back ignores hints", HTTP, {"1 n2 st z:b,2 n2 st z:a"}, "1,2", "", "C cluster"},
	{"3 zone hints", HTTP, {"1 n2 r z:a,2 n2 r z:b"}, "1", "", "C cluster"},
	{"3 node hints before zones",
	 HTTP,
	 {"1 n2 r z:a n:n2,2 n2 r z:b n:n1"},
	 "2",
	 "",
	 "C cluster"},
	{"3 no endpoint for this node: zones",
	 HTTP,
	 {"1 n2 r z:a n:n2,2 n2 r z:b n:n3"},
	 "1",
	 "",
	 "C cluster"},
	{"3 one ready without node hint: zones",
	 HTTP,
	 {"1 n2 r z:a,2 n1 r z:b n:n1"},
	 "1",
	 "2",
	 "C cluster"},
	{"3 one ready without any hint: all",
	 HTTP,
	 {"1 n2 r z:a n:n1,2 n2 r"},
	 "1,2",
	 "",
	 "C cluster"},
	{"3 unready without hints does not matter",
	 HTTP,
	 {"1 n2 r z:a,2 n2 r z:b,3 n2 s"},
	 "1",
	 "",
	 "C cluster"},
	{"3 no endpoint for this zone: all",
	 HTTP,
	 {"1 n2 r z:b,2 n2 r z:c"},
	 "1,2",
	 "",
	 "C cluster"},
	{"3 hints never apply to Local", ITP HTTP, {"1 n1 r z:b,2 n2 r z:a"}, "2", "1", "C local"},
	{"4 no node name is never local", ITP HTTP, {"1 - r"}, "1", "", "C drop"},
	{"5 internal Local", ITP HTTP, {"1 n1 r,2 n2 r"}, "1,2", "1", "C local"},
	{"5 internal Local leaves outside alone",
	 ITP NP,
	 {"1 n2 r"},
	 "1",
	 "",
	 "C drop; E cluster; N cluster"},
	{"6 nothing anywhere", NP, {""}, "", "", "C reject; E reject; N reject"},
	{"6 no slice", NP, {NULL}, "", "", "C reject; E reject; N reject"},
	{"6 external Local, none local: outside dropped, inside served",
	 ETP,
	 {"1 n2 r"},
	 "1",
	 "",
	 "C cluster; E drop|cluster; N drop|cluster"},
	{"6 external Local, nothing anywhere",
	 ETP,
	 {"1 n1 t"},
	 "",
	 "",
	 "C reject; E reject|reject; N reject|reject"},
	{"6 internal Local, nothing anywhere", ITP HTTP, {"1 n1 t"}, "", "", "C reject"},
	{"6 both Local", ITP ETP, {"1 n2 r"}, "1", "", "C drop; E drop|cluster; N drop|cluster"},
	{"6 remote terminating still counts as an endpoint",
	 ITP HTTP,
	 {"1 n2 st"},
	 "1",
	 "",
	 "C drop"},
	{"7 external Local with a local one",
	 ETP,
	 {"1 n2 r,2 n1 r"},
	 "1,2",
	 "2",
	 "C cluster; E local|cluster; N local|cluster"},
	{"2 two slices add up", HTTP, {"1 n2 r", "2 n2 r"}, "1,2", "", "C cluster"},
};

static void test_rows(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		run_row(&rows[i], true);
		run_row(&rows[i], false);
	}
	bn_intern_reset();
}

/* --- ports, families, kinds ------------------------------------------------------------------ */

static struct bn_svcmodel *model(struct bn_service **svc, const char *json)
{
	struct bn_svcmodel *m = NULL;

	*svc = (struct bn_service *)fx_parse(json);
	assert_int_equal(bn_svcmodel_build(*svc, NULL, 0, &env, &m), 0);
	return m;
}

static void test_ports(void **state _unused_)
{
	struct bn_service *svc = service_of(
		"'ports':[{'name':'dns','port':53,'protocol':'UDP'},{'name':'dns-tcp','port':53},"
		"{'name':'web','port':80}]",
		true);
	struct bn_slice *s[2] = {
		slice_of("a",
			 FX_PORT("dns", "UDP", 1053) "," FX_PORT("dns", "TCP", 2053) "," FX_PORT(
				 "dns-tcp", "TCP",
				 1054) ",{'port':99},{'name':'web'},{'name':'web','port':0}",
			 "1 n1 r", true),
		slice_of("b", FX_PORT("web", "TCP", 8081), "1 n1 r,2 n2 r", true),
	};
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;

	assert_int_equal(bn_svcmodel_build(svc, (const struct bn_slice *const *)s, 2, &env, &m), 0);
	assert_int_equal(m->nports, 3);
	assert_int_equal(m->ports[0].neps, 1); /* by name AND protocol */
	assert_int_equal(m->ports[0].eps[0].port, 1053);
	assert_int_equal(m->ports[1].neps, 1);
	assert_int_equal(m->ports[1].eps[0].port, 1054);
	assert_int_equal(m->ports[2].neps, 2); /* ports without a number are skipped */
	assert_int_equal(m->ports[2].eps[0].port, 8081);
	bn_svcmodel_freep(&m);
	bn_obj_unref(&s[0]->o);
	bn_obj_unref(&s[1]->o);
	bn_obj_unref(&svc->o);
	bn_intern_reset();
}

static void test_one_address_two_ports(void **state _unused_)
{
	struct bn_service *svc = service_of(HTTP, false);
	struct bn_slice *s[2] = {slice_of("a", P8080, "1 n1 r", false),
				 slice_of("b", FX_PORT("http", "TCP", 9090), "1 n1 r", false)};
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;

	assert_int_equal(bn_svcmodel_build(svc, (const struct bn_slice *const *)s, 2, &env, &m), 0);
	assert_int_equal(m->ports[0].neps, 2);
	assert_int_equal(m->ports[0].eps[0].port, 8080);
	assert_int_equal(m->ports[0].eps[1].port, 9090);
	bn_svcmodel_freep(&m);
	bn_obj_unref(&s[0]->o);
	bn_obj_unref(&s[1]->o);
	bn_obj_unref(&svc->o);
	bn_intern_reset();
}

static void test_families(void **state _unused_)
{
	struct bn_service *svc = (struct bn_service *)fx_parse(
		FX_SVC("d", "web",
		       "'type':'LoadBalancer','clusterIPs':['10.0.0.1','fd00::1'],'externalIPs':['"
		       "192.0.2.1','2001:db8::1'],"
		       "'ports':[{'name':'http','port':80,'nodePort':30080}]"));
	struct bn_slice *s[2] = {slice_of("a", P8080, "1 n1 r", true),
				 slice_of("b", P8080, "2 n1 r,3 n2 r", false)};
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;
	struct bn_front_key k;

	assert_int_equal(bn_svcmodel_build(svc, (const struct bn_slice *const *)s, 2, &env, &m), 0);
	assert_int_equal(m->nports, 2);
	for (int i = 0; i < 2; i++) {
		const struct bn_sm_port *p = &m->ports[i];

		assert_int_equal(p->v4, !i);
		assert_int_equal(p->neps, i + 1);
		assert_int_equal(p->nfronts, 3);
		for (uint32_t j = 0; j < p->nfronts; j++)
			assert_int_equal(!!bn_addr_is_v4(&p->fronts[j].key.addr), p->v4);
		bn_front_nodeport(&k, &p->fronts[0].key.addr, htobe16(30080), BN_PROTO_TCP);
		assert_memory_equal(&p->fronts[2].key, &k, sizeof(k));
		assert_int_equal(k.scope, BN_SCOPE_NODEPORT);
	}
	bn_svcmodel_freep(&m);
	bn_obj_unref(&s[0]->o);
	bn_obj_unref(&s[1]->o);
	bn_obj_unref(&svc->o);
	bn_intern_reset();
}

/* A family without a ClusterIP is not served, whatever external addresses it has. */
static void test_family_without_cluster_ip(void **state _unused_)
{
	struct bn_service *svc;
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m =
		model(&svc, FX_SVC("d", "web",
				   "'clusterIP':'10.0.0.1','externalIPs':['2001:db8::1']," HTTP));

	assert_int_equal(m->nports, 1);
	assert_int_equal(m->ports[0].nfronts, 1);
	bn_svcmodel_freep(&m);
	bn_obj_unref(&svc->o);
	bn_intern_reset();
}

static void test_ignored(void **state _unused_)
{
	static const char *const specs[] = {
		FX_SVC("d", "web", "'clusterIP':'None'," HTTP),
		FX_SVC("d", "web", "'clusterIP':''," HTTP),
		FX_SVC("d", "web", "'type':'ExternalName','externalName':'x.example'"),
		"{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','name':'web','"
		"labels':"
		"{'service.kubernetes.io/"
		"service-proxy-name':'other'}},'spec':{'clusterIP':'10.0.0.1'," HTTP "}}",
	};
	const struct bn_svc_env other = {.node_name = "n1", .proxy_name = "other"};

	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct bn_service *svc;
		_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = model(&svc, specs[i]);

		assert_int_equal(m->nports, 0);
		bn_svcmodel_freep(&m);
		assert_int_equal(bn_svcmodel_build(svc, NULL, 0, &other, &m), 0);
		assert_int_equal(m->nports, i == 3); /* it is ours by name */
		bn_svcmodel_freep(&m);
		bn_obj_unref(&svc->o);
	}
	bn_intern_reset();
}

static void test_slices_ignored(void **state _unused_)
{
	static const char *const text[] = {
		"{'apiVersion':'discovery.k8s.io/"
		"v1','kind':'EndpointSlice','metadata':{'namespace':'d','name':'a',"
		"'labels':{'kubernetes.io/service-name':'web','service.kubernetes.io/"
		"headless':''}},"
		"'addressType':'IPv4','ports':[" P8080 "],'endpoints':[" FX_EP("10.0.0.1", "") "]}",
		FX_SLICE("d", "a", "web", "FQDN", P8080, FX_EP("a.example", "")),
		"{'apiVersion':'discovery.k8s.io/"
		"v1','kind':'EndpointSlice','metadata':{'namespace':'d','name':'a'},"
		"'addressType':'IPv4','ports':[" P8080 "],'endpoints':[" FX_EP("10.0.0.1", "") "]}",
	};
	struct bn_service *svc = service_of(HTTP, true);

	for (size_t i = 0; i < ARRAY_SIZE(text); i++) {
		_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = NULL;
		struct bn_slice *s = (struct bn_slice *)fx_parse(text[i]);

		assert_false(bn_slice_usable(s));
		assert_int_equal(
			bn_svcmodel_build(svc, (const struct bn_slice *const *)&s, 1, &env, &m), 0);
		assert_int_equal(m->ports[0].neps, 0);
		bn_svcmodel_freep(&m);
		bn_obj_unref(&s->o);
	}
	bn_obj_unref(&svc->o);
	bn_intern_reset();
}

#define LB(more, ingress)                                                                          \
	"{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','name':'web'},'spec':{'"  \
	"type':"                                                                                   \
	"'LoadBalancer','clusterIPs':['10.0.0.1','fd00::1']," more HTTP                            \
	"},'status':{'loadBalancer':"                                                              \
	"{'ingress':[" ingress "]}}}"

/* 10, 11: LoadBalancer addresses and their source ranges. */
static void test_load_balancer(void **state _unused_)
{
	static const struct bn_svc_env inside = {
		.node_name = "n1",
		.node4 = {.b = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 9}}};
	struct bn_service *svc;
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m = model(
		&svc,
		LB("'loadBalancerSourceRanges':[' 192.0.2.0/24 '],'externalIPs':['203.0.113.1'],",
		   "{'ip':'203.0.113.1'},{'ip':'203.0.113.2','ipMode':'Proxy'},{'hostname':'x'},"
		   "{'ip':'2001:db8::1','ipMode':'VIP'}"));
	const struct bn_sm_port *p4 = &m->ports[0], *p6 = &m->ports[1];

	/* the external IP that is the LoadBalancer's as well is one front; ranges stay on it */
	assert_int_equal(p4->nfronts, 2);
	assert_int_equal(p4->fronts[1].kind, BN_FRONT_LOADBALANCER);
	assert_true(p4->fronts[1].flags & BN_SVC_F_SRC_RANGES);
	assert_false(p4->fronts[0].flags & BN_SVC_F_SRC_RANGES);
	assert_int_equal(m->nsrc[1], 1);
	assert_int_equal(m->src[1][0].prefix, 96 + 24);
	/* no IPv6 range: IPv6 is open */
	assert_int_equal(p6->nfronts, 2);
	assert_int_equal(p6->fronts[1].kind, BN_FRONT_LOADBALANCER);
	assert_false(p6->fronts[1].flags & BN_SVC_F_SRC_RANGES);
	bn_svcmodel_freep(&m);
	/* a node inside the ranges may come from the VIP itself */
	assert_int_equal(bn_svcmodel_build(svc, NULL, 0, &inside, &m), 0);
	assert_int_equal(m->nsrc[1], 2);
	assert_int_equal(m->src[1][1].prefix, 128);
	bn_svcmodel_freep(&m);
	bn_obj_unref(&svc->o);
	bn_intern_reset();
}

static void test_flags(void **state _unused_)
{
	struct bn_service *svc;
	_cleanup_(bn_svcmodel_freep) struct bn_svcmodel *m =
		model(&svc, "{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'d','name'"
			    ":'web','annotations':"
			    "{'bpfnet.io/"
			    "lb-algorithm':'maglev'}},'spec':{'clusterIP':'10.0.0.1','"
			    "sessionAffinity':'ClientIP',"
			    "'externalIPs':['192.0.2.1','192.0.2.1']," ITP HTTP "}}");

	assert_int_equal(m->ports[0].nfronts, 2); /* the same external IP twice is one */
	assert_int_equal(m->ports[0].fronts[0].flags, BN_SVC_F_ITP_LOCAL | BN_SVC_F_MAGLEV);
	assert_int_equal(m->ports[0].fronts[1].flags, BN_SVC_F_EXTERNAL | BN_SVC_F_MAGLEV);
	assert_int_equal(m->ports[0].affinity_s, 10800);
	bn_svcmodel_freep(&m);
	bn_obj_unref(&svc->o);
	bn_intern_reset();
}

static void test_precedence(void **state _unused_)
{
	struct bn_obj a = {.ns = "a", .name = "z"}, b = {.ns = "b", .name = "a"},
		      c = {.ns = "b", .name = "b"};

	assert_true(bn_front_precedence(BN_FRONT_EXTERNALIP, &a, BN_FRONT_EXTERNALIP, &b) < 0);
	assert_true(bn_front_precedence(BN_FRONT_EXTERNALIP, &c, BN_FRONT_EXTERNALIP, &b) > 0);
	/* nobody takes a ClusterIP away by naming it as an external one */
	assert_true(bn_front_precedence(BN_FRONT_CLUSTERIP, &c, BN_FRONT_EXTERNALIP, &a) < 0);
	assert_int_equal(bn_front_precedence(BN_FRONT_NODEPORT, &a, BN_FRONT_NODEPORT, &a), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_one_address_two_ports),
		cmocka_unit_test(test_families),
		cmocka_unit_test(test_family_without_cluster_ip),
		cmocka_unit_test(test_ignored),
		cmocka_unit_test(test_slices_ignored),
		cmocka_unit_test(test_load_balancer),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_precedence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
