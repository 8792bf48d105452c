/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_SOURCE_FILES_PRIV_H
#define BN_LOADER_SOURCE_FILES_PRIV_H

/* Shared by files.c (the set of files), files_read.c (one reading of one file) and files_claim.c
 * (which file an object is from); for nobody else.
 */

#include <sys/types.h>
#include <time.h>
#include <uthash.h>

#include "loader/source/files.h"

struct id {
	struct bn_source_id object;
	unsigned line;
};

/* What a piece of the file's text gave. */
struct chunk {
	uint64_t hash;
	unsigned line;
	uint32_t first, n; /* of the file's ids */
	bool again; /* something in it was refused: read it again the next time */
};

/* Told apart without reading: the kernel changes one of these with every change. */
struct sig {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

/* What is known from one reading. */
struct content {
	struct id *ids;
	struct chunk *chunks; /* sorted by hash once the reading is done */
	char **rejects;	      /* keys of what was refused, besides objects */
	size_t nids, nchunks, nrejects;
	size_t max_ids, max_chunks, max_rejects;
};

struct bn_file {
	char *name;
	struct sig sig;
	struct content c;
	bool marked, gone;
	bool force; /* what did not change counts, too: an object became ours */
	bool unreadable; /* a part of it */
	int error;	 /* why all of it cannot be read */
	UT_hash_handle hh;
};

/* Who says that an object exists. */
struct bn_claim {
	const char *ns, *name; /* interned */
	struct bn_file *owner;
	struct bn_file **others; /* those that are not the owner */
	uint16_t kind, nothers;
	unsigned line;	/* in the owner */
	uint64_t pass;	/* the reading that saw it last */
};

/* One reading of one file. */
struct reading {
	struct bn_files *fs;
	struct bn_file *file;
	struct content c;
	struct chunk *chunk;
	bool unreadable; /* a part of it: what is missing may stand there */
	int err;
};

void bn_content_free(struct content *c);
void bn_content_trim(struct content *c);
int bn_content_add_id(struct content *c, const struct bn_source_id *object, unsigned line);
int bn_content_add_chunk(struct content *c, struct chunk **ret);
int bn_content_add_reject(struct content *c, const char *key);

void bn_file_mark(struct bn_files *fs, struct bn_file *f, bool force);
/* -ENOENT when it is gone; f->error for what else prevents it. */
int bn_file_read(struct bn_files *fs, struct bn_file *f, int dirfd);
/* Takes what the reading before refused, and this one did not, off the list. */
void bn_file_settle_rejects(struct bn_files *fs, struct bn_file *f, const struct content *now);

/* Borrowed until the next claim is made or dropped; NULL: there is none. */
struct bn_claim *bn_claim_find(struct bn_files *fs, const struct bn_source_id *id);
void bn_claims_clear(struct bn_files *fs);
/* The file is taken to say what it cannot be asked for. */
int bn_claim_restore(struct bn_files *fs, const struct bn_source_id *id, struct bn_file *f);
/* The file does not have the object any more: another one's turn, or it is gone. */
void bn_claim_release(struct bn_files *fs, const struct bn_source_id *id, struct bn_file *f);
/* The file says something of the object; *counts tells whether that is what is in force. What a
 * file said before without being refused, it owns: a chunk that did not change needs no more.
 */
int bn_claim(struct reading *rd, const struct bn_source_id *id, unsigned line, bool *counts);

#endif
