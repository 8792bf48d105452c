/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_FIELDS_H
#define BN_KUBE_FIELDS_H

/* Reading the fields of one kubeconfig entry. The first error is kept, as
 * "FILE: users[admin].user.token: must be a string"; after it every call does nothing.
 */

#include "loader/source/kube/config.h"

struct bn_fields {
	const char *file;  /* where the entry is written; its folder is what paths are relative to */
	const char *where; /* "users[admin].user" */
	char *err;	   /* of 512 bytes */
	int r;
};

_printf_(3, 4) void bn_fields_fail(struct bn_fields *f, const char *field, const char *fmt, ...);
/* NULL when the field is missing, null or empty. Borrowed from o. */
const char *bn_fields_text(struct bn_fields *f, const json_t *o, const char *field);
bool bn_fields_bool(struct bn_fields *f, const json_t *o, const char *field);
void bn_fields_str(struct bn_fields *f, const json_t *o, const char *field, char **ret);
/* As _str; a relative path is made relative to the folder of the kubeconfig. */
void bn_fields_path(struct bn_fields *f, const json_t *o, const char *field, char **ret);
void bn_fields_secret(struct bn_fields *f, const json_t *o, const char *field,
		      struct bn_secret *ret);
void bn_fields_base64(struct bn_fields *f, const json_t *o, const char *field,
		      struct bn_secret *ret);
/* A list of strings, NULL-terminated; *ret stays NULL when there is none. */
void bn_fields_list(struct bn_fields *f, const json_t *o, const char *field, char ***ret);

char *bn_kube_path_beside(const char *file, const char *path);
void bn_strv_freep(char ***v);

/* The two halves of a context, in entries.c. */
int bn_kube_read_cluster(struct bn_fields *f, const json_t *cluster, struct bn_kube_config *c);
int bn_kube_read_user(struct bn_fields *f, const json_t *user, struct bn_kube_config *c);
void bn_kube_exec_freep(struct bn_kube_exec **e);

#endif
