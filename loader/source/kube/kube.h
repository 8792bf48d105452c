/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_KUBE_H
#define BN_KUBE_KUBE_H

/* The Kubernetes API as a source (loader/source/source.h): every kind is listed and watched over one
 * connection, each on its own, so that one that is forbidden or missing holds up no other.
 *
 * The daemon gives a model nothing before bn_source_synced says that all kinds it needs were read.
 * While the server is away the store stays as it is, and each kind's state says since when and why.
 */

#include <event2/event.h>

#include "loader/serve/metrics.h"
#include "loader/source/source.h"

struct bn_kube_opts {
	const char *kubeconfig; /* a file, or a list as $KUBECONFIG; NULL: in-cluster */
	const char *master;	/* NULL: what the config says */
	const char *sa_dir;	/* of the service account; NULL: where kubelet puts it */
	const char *service_proxy_name; /* Services that ask for another proxy are ignored */
	bool no_streaming;		/* pages only */
	const char *node_name;		/* who reports what is refused; NULL: nobody does */
	struct bn_metrics *metrics;	/* NULL: none */
};

/* Reads the configuration; what is wrong with it is in err (file, context and field). Nothing is
 * asked of the server before bn_source_start. Also makes the process undumpable: it holds secrets.
 */
int bn_kube_new(struct event_base *base, const struct bn_kube_opts *o, struct bn_store *store,
		const struct bn_source_callbacks *cb, struct bn_source **ret,
		char err[static 512]);

/* The address of the server as "host:port", for messages and status. */
const char *bn_kube_host(const struct bn_source *s);

#endif
