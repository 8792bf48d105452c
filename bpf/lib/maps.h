/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_MAPS_H
#define BN_BPF_MAPS_H

/* Definitions of every shared map, from the one list (maps/list.h). Each object has all of them;
 * the loader gives each object the pinned ones and never creates those that an object does not use.
 */

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/list.h"

#define X(name_, type_, key_, val_, entries_, flags_)                                              \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_##type_);                                                \
		__uint(max_entries, entries_);                                                     \
		__uint(map_flags, flags_);                                                         \
		__type(key, key_);                                                                 \
		__type(value, val_);                                                               \
	} name_ SEC(".maps");
BN_MAP_LIST(X)
#undef X

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, BN_EVENTS_BYTES);
} events SEC(".maps");

/* BPF_F_INNER_MAP: each set has as many pages as it needs. Sizes instead of types: of what only an inner
 * map names clang 16 leaves the struct out of BTF.
 */
struct bn_http_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_INNER_MAP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct bn_http_page));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, BN_HTTP_SETS);
	__type(key, __u32);
	__array(values, struct bn_http_inner);
} http_sets SEC(".maps");

#endif
