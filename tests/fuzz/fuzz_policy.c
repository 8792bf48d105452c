// SPDX-License-Identifier: MIT
/* A list of objects: identities, matrices and traces of whatever comes out of the parser. The
 * compiled verdict must be the one that the objects give (the trace says so itself), in one piece
 * or object by object.
 */
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/intern.h"
#include "policy/lint.h"
#include "policy/trace.h"
#include "tests/fuzz/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

const char *const bn_fuzz_words[] = {
	"podSelector",
	"namespaceSelector",
	"ipBlock",
	"except",
	"cidr",
	"matchLabels",
	"matchExpressions",
	"policyTypes",
	"Egress",
	"Ingress",
	"endPort",
	"0.0.0.0/0",
	"::/0",
	"10.0.0.0/8",
	"fd00::/16",
	"hostNetwork",
	"NotIn",
	"DoesNotExist",
	"HTTPNetworkPolicy",
	"bpfnet.io/v1alpha1",
	"null",
	"[]",
	"{}",
	"65535",
	"SCTP",
	"\"http\"",
	NULL,
};

static void ask(struct bn_tracer *t, const char *from, const char *to, uint8_t proto, uint16_t port)
{
	struct bn_trace_query q = {.from = from, .to = to, .proto = proto, .port = port};
	json_t *answer = NULL;
	int r = bn_tracer_run(t, &q, &answer);

	MUST(r != -EUCLEAN);
	MUST(answer);
	json_decref(answer);
}

static int questions(struct bn_obj *o, void *data)
{
	char name[600];

	snprintf(name, sizeof(name), "%s/%s", o->ns, o->name);
	ask(data, name, "10.0.0.2", BN_PROTO_TCP, 80);
	ask(data, "203.0.113.9", name, BN_PROTO_UDP, 53);
	ask(data, name, "fd00::1", BN_PROTO_SCTP, 9000);
	ask(data, "10.0.0.1", name, BN_PROTO_ICMP, 0);
	ask(data, "192.168.0.1", name, BN_PROTO_TCP, 8080);
	return 0;
}

struct steps {
	struct bn_idents *ids;
	struct bn_compiler *c;
};

static int get(struct bn_obj *o, void *data)
{
	struct steps *s = data;

	for (enum bn_dir d = 0; d < BN_DIRS; d++) {
		struct bn_matrix *m = NULL;
		int r = bn_compiler_get(s->c, (struct bn_pod *)o, d, &m);

		MUST(!r || r == -E2BIG);
		bn_matrix_unref(m);
	}
	return 0;
}

/* As the daemon does it: a change, an update, matrices, now and then a collection. */
static void on_change(const struct bn_obj *old, const struct bn_obj *new, void *data)
{
	const struct bn_ident_diff *d;
	struct steps *s = data;
	int r = 0;

	switch ((new ?: old)->kind) {
	case BN_KIND_POD:
		r = bn_idents_pod(s->ids, (const void *)old, (const void *)new);
		break;
	case BN_KIND_NAMESPACE:
		r = bn_idents_namespace(s->ids, (const void *)old, (const void *)new);
		break;
	case BN_KIND_NODE:
		r = bn_idents_node(s->ids, (const void *)old, (const void *)new);
		break;
	case BN_KIND_NETPOL:
	case BN_KIND_HTTPNETPOL:
		r = bn_compiler_policy(s->c, (const void *)old, (const void *)new);
		break;
	default:
		return;
	}
	MUST(!r);
	r = new &&new->kind == BN_KIND_NODE ? bn_idents_collect(s->ids, &d)
					    : bn_idents_update(s->ids, &d);
	MUST(!r);
	for (size_t k = 0; k < d->nadded; k++)
		MUST(!bn_compiler_identity_added(s->c, d->added[k], NULL, NULL));
	for (size_t k = 0; k < d->nremoved; k++)
		MUST(!bn_compiler_identity_gone(s->c, d->removed[k], NULL, NULL));
}

static void judge_all(struct bn_store *store, struct steps *s)
{
	_cleanup_(bn_tracer_freep) struct bn_tracer *whole = NULL;
	struct bn_tracer *grown = NULL;
	json_t *list = NULL;

	MUST(!bn_tracer_new(store, &whole));
	bn_store_each(store, BN_KIND_POD, questions, whole);
	MUST(!bn_tracer_borrow(store, s->ids, s->c, &grown));
	bn_store_each(store, BN_KIND_POD, get, s);
	bn_store_each(store, BN_KIND_POD, questions, grown);
	bn_tracer_freep(&grown);
	MUST(!bn_policy_lint(s->ids, s->c, &list));
	json_decref(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *list = json_loadb((const char *)data, size, JSON_DISABLE_EOF_CHECK, NULL), *j;
	struct bn_store *store = NULL;
	struct steps s = {};
	size_t i;

	if (!json_is_array(list)) {
		json_decref(list);
		return 0;
	}
	MUST(!bn_store_new(&store) && !bn_idents_new(&s.ids));
	MUST(!bn_compiler_new(s.ids, NULL, NULL, &s.c));
	MUST(!bn_store_listen(store, on_change, &s));
	json_array_foreach (list, i, j) {
		struct bn_obj *o = NULL;
		struct bn_err err;

		bn_object_parse(j, &o, &err);
		if (o) /* also the stub of one that is refused */
			bn_store_put(store, o);
		bn_obj_unref(o);
	}
	judge_all(store, &s);
	bn_store_freep(&store);
	bn_compiler_freep(&s.c);
	bn_idents_freep(&s.ids);
	json_decref(list);
	return 0;
}
