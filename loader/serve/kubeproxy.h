/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_KUBEPROXY_H
#define BN_LOADER_KUBEPROXY_H

/* kube-proxy's metrics as kube-proxy defines them (SEMANTICS 5): names, help, labels and buckets, so
 * that dashboards and alerts made for it work unchanged. Registered in one place, with the series
 * that kube-proxy shows from its start; whoever knows a value looks the family up by name and sets
 * it. What bpfnet has no counterpart of (iptables rules, restore failures) stays 0, which is true.
 */

#include "loader/serve/metrics.h"

#define BN_KP_SYNC_BUCKETS 15
#define BN_KP_PROGRAMMING_BUCKETS 80
extern const double bn_kp_sync_bounds[BN_KP_SYNC_BUCKETS];
/* .25, .5, 1 to 59, 60 to 115 by 5, 120 to 300 by 30; filled in by bn_kubeproxy_metrics. */
extern double bn_kp_programming_bounds[BN_KP_PROGRAMMING_BUCKETS];

/* Before anybody else registers one of these names: the first help text counts. */
int bn_kubeproxy_metrics(struct bn_metrics *m);

#endif
