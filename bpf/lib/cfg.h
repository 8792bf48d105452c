/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_CFG_H
#define BN_BPF_CFG_H

/* What the loader decides once, between open and load. The verifier removes what is switched off,
 * so a test loads every object with each flag both ways. Values that change later live in maps.
 */

#include <linux/types.h>
#include <stdbool.h>

/* Copies of meta.seed and meta.ct_buckets: as old as the pinned connection table. */
const volatile __u64 cfg_ct_seed[16];
const volatile __u32 cfg_ct_buckets = 1;

/* The host's stack may be skipped between local pods whose interfaces have BN_IF_F_BYPASS. */
const volatile bool cfg_bypass = false;

/* This processor reorders loads, or stores (all but x86 and s390): bn_fence() is needed. */
const volatile bool cfg_weak_order = false;

/* --lb-mode: outside flows of TCP, and of other protocols, reach backends elsewhere by DSR. */
const volatile bool cfg_dsr_tcp = false;
const volatile bool cfg_dsr_other = false;

/* --masquerade-all: what pods and outside clients send to a ClusterIP leaves in the name of this node. */
const volatile bool cfg_masquerade_all = false;

/* Requests can be judged here. A kernel that refuses that part of http_pod gets the rest of the programs, and
 * then nothing of a flow with HTTP rules passes.
 */
const volatile bool cfg_http = true;

/* Heads are read several bytes at a time (bpf/lib/http_fast.h), not each by the parser's call. Off where a kernel's
 * verifier finds that too large.
 */
const volatile bool cfg_http_fast = true;

/* Places for connections that HTTP rules follow: the size of the map. */
const volatile __u32 cfg_http_conns = 65536;

/* Denials and drops are reported through the ring buffer. */
const volatile bool cfg_events = true;

#endif
