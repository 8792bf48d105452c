/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_SOURCE_MANIFESTS_H
#define BN_LOADER_SOURCE_MANIFESTS_H

/* The source that reads a directory of manifests and follows it by inotify.
 *
 * What a file says is in force about 20 ms after it was closed, renamed into place or deleted.
 * While a file is being written nothing is read; a text that does not parse leaves each object of
 * that file as it was. While the directory is away, what it last said stays in force.
 */

#include <event2/event.h>

#include "loader/source/laststate.h"
#include "loader/source/source.h"

/* last may be NULL and is borrowed, like store and base; dir is copied. Nothing is read before
 * bn_source_start, and then from the event loop.
 */
int bn_manifests_new(struct event_base *base, const char *dir, struct bn_laststate *last,
		     struct bn_store *store, const struct bn_source_callbacks *cb,
		     struct bn_source **ret);

#endif
