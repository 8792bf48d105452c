/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_NET_CONNTRACK_H
#define BN_LOADER_NET_CONNTRACK_H

/* The kernel's own connection tracking of this network namespace, as far as taking over from kube-proxy
 * needs it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/net/nlsock.h"

struct bn_nfct {
	struct bn_addr src, dst; /* original direction, before translation */
	struct bn_addr xs, xd;	 /* the same after it: the reply's tuple, turned round */
	__be16 sport, dport, xsp, xdp;
	uint8_t proto; /* TCP, UDP, SCTP */
	uint8_t state; /* TCP: of linux/netfilter/nf_conntrack_tcp.h */
	bool replied, assured;
	uint32_t timeout_s;
};

/* Calls fn for every connection whose destination is translated. 0, what fn said when that was negative,
 * or an error; -EPROTONOSUPPORT, -ENOENT, -EOPNOTSUPP: this kernel has no connection tracking (loaded).
 */
typedef int (*bn_nfct_fn)(const struct bn_nfct *c, void *data);
int bn_nfct_each_dnat(bn_nfct_fn fn, void *data);

/* Connections that are translated stay so only while something in the namespace has a chain of type nat:
 * when kube-proxy's rules go, that may have been the last. keep: an empty one of our own (table inet
 * bpfnet-takeover). drop: removes it; -ENOENT: there is none.
 */
int bn_nft_keep_nat(void);
int bn_nft_drop_nat(void);

#endif
