/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_SVCMODEL_PRIV_H
#define BN_POLICY_SVCMODEL_PRIV_H

/* Inside of policy/svcmodel*.c only. */

#include <string.h>

#include "policy/svcmodel.h"

/* Interned strings are equal by pointer; the environment's are not interned. */
static inline bool sm_streq(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* One port of one slice that counts. */
struct sm_source {
	const char *name;
	const struct bn_slice *slice;
	uint16_t port;
	uint8_t proto;
	bool v4;
};

/* The ports of all usable slices, sorted so that those of one service port lie together. */
struct sm_sources {
	size_t n;
	struct sm_source *v;
};

int sm_sources_collect(struct sm_sources *s, const struct bn_slice *const *slices, uint32_t n);

/* Fills eps, neps, ncluster and nlocal of a port whose name, proto and v4 are set: facts 1 to 4. */
int sm_port_endpoints(struct bn_sm_port *p, const struct sm_sources *s,
		      const struct bn_svc_env *env);

#endif
