/* SPDX-License-Identifier: MIT */
#ifndef BN_TESTS_SVC_FIXTURE_H
#define BN_TESTS_SVC_FIXTURE_H

/* Objects from short texts, for the tests of services. Single quotes stand for double ones. */

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "maps/util.h"
#include "policy/store.h"
#include "policy/svcmodel.h"

static inline struct bn_obj *fx_parse(const char *text)
{
	_cleanup_(freep) char *copy = strdup(text);
	struct bn_obj *o = NULL;
	struct bn_err err = { 0 };
	json_error_t je;
	json_t *j;
	int r;

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	j = json_loads(copy, 0, &je);
	if (!j)
		fail_msg("%s in: %s", je.text, text);
	r = bn_object_parse(j, &o, &err);
	json_decref(j);
	if (r < 0)
		fail_msg("%s: %s: %s", text, err.field, err.msg);
	return o;
}

static inline void fx_put(struct bn_store *s, const char *fmt, ...) _printf_(2, 3);
static inline void fx_put(struct bn_store *s, const char *fmt, ...)
{
	_cleanup_(freep) char *text = NULL;
	struct bn_obj *o;
	va_list ap;

	va_start(ap, fmt);
	assert_true(vasprintf(&text, fmt, ap) > 0);
	va_end(ap);
	o = fx_parse(text);
	assert_int_equal(bn_store_put(s, o), 0);
	bn_obj_unref(o);
}

/* spec: what stands in the braces of spec, beside ports; "" for a plain ClusterIP service. */
#define FX_SVC(ns, name, spec)                                                                     \
	"{'apiVersion':'v1','kind':'Service','metadata':{'namespace':'" ns "','name':'" name       \
	"'},'spec':{" spec "}}"
#define FX_SLICE(ns, name, svc, family, ports, eps)                                                \
	"{'apiVersion':'discovery.k8s.io/v1','kind':'EndpointSlice','metadata':{'namespace':'" ns   \
	"','name':'" name "','labels':{'kubernetes.io/service-name':'" svc "'}},'addressType':'"    \
	family "','ports':[" ports "],'endpoints':[" eps "]}"
#define FX_PORT(name, proto, port) "{'name':'" name "','protocol':'" proto "','port':" #port "}"
#define FX_EP(addr, more) "{'addresses':['" addr "']" more "}"
#define FX_ON(node) ",'nodeName':'" node "'"
#define FX_COND(ready, serving, terminating)                                                       \
	",'conditions':{'ready':" #ready ",'serving':" #serving ",'terminating':" #terminating "}"

#endif
