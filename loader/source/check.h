/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_SOURCE_CHECK_H
#define BN_LOADER_SOURCE_CHECK_H

/* Objects whose HTTP rules take longer to check than the loop may be held: a thread does it (loader/slow.h), and
 * what is in force stays until it has. Of each object the latest version counts. Inside of the source.
 */

#include "loader/source/source.h"

/* Takes references. origin: "file:line", or NULL. -errno: there is no thread. */
int bn_check_begin(struct bn_source *s, const struct bn_source_id *id, struct bn_obj *o, json_t *json,
		   const char *origin);
/* The same object is being checked already: json, which may say more of its status, takes the earlier one's place. */
bool bn_check_goes_on(struct bn_source *s, const struct bn_source_id *id, const struct bn_obj *o, json_t *json);
/* There is another version, or none any more. */
void bn_check_forget(struct bn_source *s, const struct bn_source_id *id);

/* [{"kind","namespace","name","seconds"}] */
json_t *bn_check_json(const struct bn_source *s);

/* source.c: what the check said of it. err: NULL when it is right. */
int bn_source_checked(struct bn_source *s, struct bn_obj *o, json_t *json, const char *origin, const struct bn_err *err);

#endif
