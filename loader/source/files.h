/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_SOURCE_FILES_H
#define BN_LOADER_SOURCE_FILES_H

/* Inside of manifests.c: what each file of the directory says, and which file an object is from.
 *
 * An object that stands in several files is taken from the first of them by name; the others are
 * refused, and take its place when it goes. Only files that are marked are read, only chunks of
 * them that differ are parsed.
 */

#include "loader/source/source.h"
#include "policy/index.h"

struct bn_files {
	struct bn_source *source;
	struct bn_file *files;	 /* by name */
	struct bn_claim *claims; /* by object */
	uint32_t nclaims, max_claims;
	struct bn_index claim_index;
	uint64_t pass;
	unsigned npending; /* files that are marked */
	const char *others[32]; /* kinds that were mentioned as ignored */
	unsigned nothers;
};

void bn_files_init(struct bn_files *fs, struct bn_source *source);
/* name must be read again; it need not exist any more. */
int bn_files_mark(struct bn_files *fs, const char *name);
/* Marks what is new, has changed or is gone in the directory. */
int bn_files_mark_all(struct bn_files *fs, int dirfd);
/* Reads what is marked and brings the store in line. Returns 0 or -ENOMEM: then what could not be
 * done stays marked.
 */
int bn_files_process(struct bn_files *fs, int dirfd);
/* After the first reading: if a text could not be read, what the state directory has and no file says
 * may stand there, and counts as said by it until it can be read.
 */
void bn_files_restore(struct bn_files *fs);
/* A file that cannot be read, or NULL; and why. */
const char *bn_files_unreadable(const struct bn_files *fs, int *err);
void bn_files_clear(struct bn_files *fs);

#endif
