/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_LIST_H
#define BN_MAPS_LIST_H

/* Every shared map, once: name (of the BPF symbol, of the pin, of the row in `bpfnet metrics`),
 * type, key, value, default number of entries, flags. bpf/lib/maps.h expands it into definitions,
 * user space into sizes and pins. The loader sets other sizes before it creates them.
 */

#include "maps/ct.h"
#include "maps/dsr.h"
#include "maps/ep.h"
#include "maps/event.h"
#include "maps/http_conn.h"
#include "maps/policy.h"
#include "maps/state.h"
#include "maps/svc.h"

#define BN_MMAP (1U << 10)	/* BPF_F_MMAPABLE */
#define BN_PAGES	BN_MMAP /* not to be mapped, but elements begin on a page: on a cache line */
#define BN_NOPREALLOC (1U << 0) /* BPF_F_NO_PREALLOC */

/* clang-format off */
#define BN_MAP_LIST(X)                                                                             \
	X(meta,       ARRAY,        __u32,               struct bn_meta_val,   1,       0)             \
	X(state,      ARRAY,        __u32,               struct bn_state,      1,       BN_MMAP)       \
	X(fronts,     HASH,         struct bn_front_key, struct bn_front_val,  262144,  BN_NOPREALLOC) \
	X(svcs,       ARRAY,        __u32,               struct bn_svc,        131072,  BN_MMAP)       \
	X(slots,      ARRAY,        __u32,               struct bn_backend,    524288,  BN_MMAP)       \
	X(svc_names,  HASH,         __u32,               struct bn_svc_name,   131072,  BN_NOPREALLOC) \
	X(affinity,   LRU_HASH,     struct bn_aff_key,   struct bn_aff_val,    16384,   0)             \
	X(src_ranges, LPM_TRIE,     struct bn_src_key,   __u32,                16384,   BN_NOPREALLOC) \
	X(sk_peers,   SK_STORAGE,   int,                 struct bn_sk_peers,   0,       BN_NOPREALLOC) \
	X(sk_tcp,     ARRAY,        __u32,               struct bn_sk_tcp,     BN_SK_TCPS, BN_PAGES)     \
	X(sk_rev,     LRU_HASH,     struct bn_skrev_key, struct bn_skrev_val,  4096,    0)             \
	X(ct_heads,   ARRAY,        __u32,               struct bn_ct_head,    20353,   BN_PAGES)      \
	X(ct,         ARRAY,        __u32,               struct bn_ct_bucket,  20353,   BN_PAGES)      \
	X(addrs,      HASH,         struct bn_addr,      __u32,                65536,   BN_NOPREALLOC) \
	X(eps,        ARRAY,        __u32,               struct bn_ep,         65536,   BN_MMAP)       \
	X(cidrs,      LPM_TRIE,     struct bn_lpm_key,   __u32,                65536,   BN_NOPREALLOC) \
	X(ifaces,     HASH,         __u32,               struct bn_iface,      4096,    BN_NOPREALLOC) \
	X(pods,       ARRAY,        __u32,               struct bn_pod_slot,   4096,    BN_MMAP)       \
	X(pols,       ARRAY,        __u32,               struct bn_pol,        16384,   BN_MMAP)       \
	X(pol_ports,  ARRAY,        __u32,               __u32,                131072,  BN_MMAP)       \
	X(pol_peers,  HASH,         struct bn_peer_key,  struct bn_peer_val,   262144,  BN_NOPREALLOC) \
	X(pol_cells,  ARRAY,        __u32,               struct bn_cell,       262144,  BN_MMAP)       \
	X(rule_stats, ARRAY,        __u32,               struct bn_rule_stat,  65536,   BN_MMAP)       \
	X(drops,      PERCPU_ARRAY, __u32,               struct bn_drop_stat,  BN_DROP__MAX, 0)        \
	X(hook_stats, PERCPU_ARRAY, __u32,               struct bn_hook_stat,  BN_HOOK__MAX, 0)        \
	X(dsr,        HASH,         struct bn_addr,      struct bn_dsr_peer,   BN_DSR_NODES, BN_NOPREALLOC) \
	X(http_conns, HASH,         struct bn_http_key,  struct bn_http_conn,  BN_HTTP_CONNS_ALL, BN_NOPREALLOC) \
	X(http_blocks, HASH,        struct bn_http_block_key, struct bn_http_block, BN_HTTP_BLOCKS_ALL, BN_NOPREALLOC) \
	X(http_shares, ARRAY,       __u32,               struct bn_http_share, 4096,    BN_MMAP)       \
	X(http_stats, ARRAY,        __u32,               __u64,                65536,   BN_MMAP)       \
	X(http_reasons, PERCPU_ARRAY, __u32,             __u64,                2 * BN_HTTP_AUDITED, 0)
/* clang-format on */
/* Beside these: `events`, a ring buffer; `http_sets`, an array of maps (maps/http_conn.h); maps private to one object are declared there. */
#define BN_EVENTS_BYTES (1U << 19)

#endif
