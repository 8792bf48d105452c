/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_KINDS_H
#define BN_KUBE_KINDS_H

/* What the API calls each kind, and which of its fields are worth memory. */

#include "loader/source/kube/json.h"
#include "policy/object.h"

struct bn_kube_kind {
	const char *path;	 /* "/api/v1/pods" */
	const char *group;	 /* "/api/v1" */
	const char *api_version; /* "v1": items of a list do not say it */
	bool optional;		 /* a CRD that may not be there */
	const struct bn_json_mask *object;
	const struct bn_json_mask *event; /* the same, inside of a watch event */
};

extern const struct bn_kube_kind bn_kube_kinds[BN_KIND__MAX];

#endif
