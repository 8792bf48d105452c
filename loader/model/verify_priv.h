/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_MODEL_VERIFY_PRIV_H
#define BN_LOADER_MODEL_VERIFY_PRIV_H

/* Inside of --verify: verify.c asks about connections, verify_http.c about requests. */

#include <pthread.h>
#include <stdbool.h>

#include "loader/model/verify.h"
#include "maps/maps.h"
#include "pod.skel.h"

#define BN_VERIFY_SLOT	1
#define BN_VERIFY_IFINDEX 1 /* loopback: every namespace has it */
/* Where the packet came in: not 0 (it began on this host), not the pod's own (it was judged
 * before). */
#define BN_VERIFY_IN_IFINDEX 0x7fffffff
#define TC_SHOT	   2
/* Source ports that no client is given: the packet must not be one of a real connection. Used in turn,
 * because a flow that is known already is not judged anew.
 */
#define BN_VERIFY_SPORT_FIRST 256
#define BN_VERIFY_SPORT_LAST  495

struct __attribute__((packed)) eth_h {
	uint8_t dst[6], src[6];
	uint16_t proto;
};
struct __attribute__((packed)) ip4_h {
	uint8_t ver_ihl, tos;
	uint16_t len, id, frag;
	uint8_t ttl, proto;
	uint16_t csum;
	uint32_t src, dst;
};
struct __attribute__((packed)) ip6_h {
	uint32_t vcf;
	uint16_t len;
	uint8_t next, hops, src[16], dst[16];
};

struct packet {
	size_t len;
	uint8_t b[128];
};

struct bn_verify {
	struct bn_verify_ops ops;
	struct bn_maps *live, *own;
	int live_fd[BN_DIRS];
	struct pod_bpf *skel;
	struct bn_pols *pols;
	uint32_t placed; /* policy id in our own maps, 0: none */
	uint16_t sport;
	uint32_t http_gen;
	pthread_t thread; /* that loads for a daemon; until it is joined all but `loaded` is its own */
	bool loading;
	_Atomic bool loaded;
	int result;
};

static inline uint32_t bn_verify_sum(const void *p, size_t n, uint32_t s)
{
	const uint8_t *b = p;

	for (size_t i = 0; i + 1 < n; i += 2)
		s += (uint32_t)b[i] << 8 | b[i + 1];
	if (n & 1)
		s += (uint32_t)b[n - 1] << 8;
	return s;
}

static inline uint16_t bn_verify_fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static inline void bn_verify_put16(uint8_t *at, uint16_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static inline uint16_t bn_verify_sport(struct bn_verify *v)
{
	if (v->sport < BN_VERIFY_SPORT_FIRST || v->sport >= BN_VERIFY_SPORT_LAST)
		v->sport = BN_VERIFY_SPORT_FIRST - 1;
	return ++v->sport;
}

/* Programs and maps of our own, loaded once. It takes seconds, which a daemon has not: -EAGAIN until then. */
int bn_verify_load(struct bn_verify *v);
int bn_verify_addr(struct bn_verify *v, uint32_t idx, const struct bn_addr *a, uint32_t identity, uint32_t slot,
		   uint32_t ifindex);
/* verify_http.c: as bn_verify_ops.request. */
int bn_verify_request(void *data, const struct bn_rule *const *rules, size_t n, const struct bn_http_request *q,
		      char *reason, size_t len);

#endif
