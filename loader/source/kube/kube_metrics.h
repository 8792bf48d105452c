/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_METRICS_H
#define BN_KUBE_METRICS_H

/* client-go's metrics under its names, and ours of each resource. A zeroed struct measures nothing. */

#include "loader/serve/metrics.h"
#include "loader/source/kube/reflector.h"

struct bn_kube_metrics {
	struct bn_metric *requests, *duration;
	struct bn_metric *relists, *events, *bytes, *watch_age, *objects, *age;
	const struct bn_source *source;
	struct bn_reflector *const *refl; /* of BN_KIND__MAX; elements may become NULL */
};

/* m, source and refl must outlive the registry's use. */
int bn_kube_metrics_init(struct bn_kube_metrics *k, struct bn_metrics *m,
			 const struct bn_source *source, struct bn_reflector *const *refl);
void bn_kube_metrics_observe(struct bn_kube_metrics *k, const char *code, const char *host,
			     const char *method, double seconds);

#endif
