/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_NET_CNICACHE_H
#define BN_LOADER_NET_CNICACHE_H

/* libcni's result cache (containerd, CRI-O): a file per container and network, written before the
 * pod's first container starts, with the pod's name, its addresses and often the name of the
 * host's end of the interface. The files belong to root; what they say is believed before anything
 * that can be seen in a pod's namespace, and after the Pod object.
 */

#include <linux/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "maps/types.h"

struct event_base;
struct bn_cnicache;

#define BN_CNI_ADDRS   16
#define BN_CNI_HOSTIFS 4

struct bn_cni_entry {
	char ns[254], pod[254]; /* as Kubernetes names them */
	char ifname[IFNAMSIZ];	/* inside the pod */
	uint32_t naddrs, nhostifs;
	struct bn_addr addrs[BN_CNI_ADDRS];
	char hostifs[BN_CNI_HOSTIFS]
		    [IFNAMSIZ]; /* interfaces outside the sandbox, bridges among them */
	int64_t mtime_ns;	/* of the file */
};

/* One file's content. 0; -ENODATA when it is of no pod of Kubernetes; -EINVAL. */
int bn_cni_parse(const char *text, size_t len, struct bn_cni_entry *ret);

/* Reads the directory and follows it; a directory that is not there yet is looked for again. fn is
 * called from the loop when the entries have changed. base NULL: read once.
 */
int bn_cnicache_new(struct event_base *base, const char *dir, void (*fn)(void *data), void *data,
		    struct bn_cnicache **ret);
void bn_cnicache_freep(struct bn_cnicache **c);

/* In no order; valid until control returns to the loop. */
size_t bn_cnicache_entries(const struct bn_cnicache *c, const struct bn_cni_entry *const **ret);

#endif
