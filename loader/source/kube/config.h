/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_CONFIG_H
#define BN_KUBE_CONFIG_H

/* How to reach the API server and as whom, read as client-go reads it: kubeconfig files, the
 * service account of a pod, --master and the environment. Reading opens files and nothing else; the
 * files that may change while the daemon runs are read again by auth.h.
 *
 * Every error names the file, the context or entry, and the field. No message holds a secret.
 */

#include <jansson.h>

#include "loader/source/kube/secret.h"

#define BN_KUBE_SA_DIR "/var/run/secrets/kubernetes.io/serviceaccount"
#define BN_KUBE_FILE_MAX (4u << 20)

struct bn_kube_exec {
	char *command; /* absolute, or a bare name that is looked up in $PATH */
	char **args;   /* NULL-terminated, without the command; NULL when there are none */
	char **env;    /* NULL-terminated "NAME=value", added to ours; NULL when there are none */
	char *api_version, *install_hint;
	bool cluster_info;	 /* provideClusterInfo */
	json_t *cluster_config; /* the cluster's extension client.authentication.k8s.io/exec */
};

struct bn_kube_extra {
	char *key, *value;
};

struct bn_kube_config {
	char *origin;	 /* for messages: "FILE, context NAME" or "in-cluster" */
	char *server;	 /* "https://host:port/prefix", no slash at the end */
	char *ca_file;	 /* read again when it changes; NULL: see ca */
	struct bn_secret ca; /* PEM; empty and no ca_file: the system's authorities */
	bool insecure;
	char *tls_server_name, *proxy_url;
	char *cert_file, *key_file;
	struct bn_secret cert, key; /* PEM */
	char *token_file;	    /* wins over token */
	struct bn_secret token;
	char *username;
	struct bn_secret password;
	char *as, *as_uid;
	char **as_groups; /* NULL-terminated, or NULL */
	struct bn_kube_extra *as_extra;
	size_t nas_extra;
	struct bn_kube_exec *exec; /* NULL: none */
	char *warning;		   /* to be logged once; NULL: none */
};

struct bn_kube_config_opts {
	const char *kubeconfig; /* one file, or a list with colons as $KUBECONFIG; NULL: in-cluster */
	const char *master;	/* overrides the server's address; NULL: $KUBERNETES_MASTER applies */
	const char *sa_dir;	/* NULL: BN_KUBE_SA_DIR */
};

/* 0, or -EINVAL, -ENOENT, -ENOMEM,... with err filled. */
int bn_kube_config_load(const struct bn_kube_config_opts *o, struct bn_kube_config **ret,
			char err[static 512]);
void bn_kube_config_freep(struct bn_kube_config **c);

#endif
