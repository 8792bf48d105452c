/* SPDX-License-Identifier: MIT */
#ifndef BN_CNI_INSTALL_H
#define BN_CNI_INSTALL_H

/* What the plugin does to the node: finds the host's end of a pod's interface, makes sure that
 * closed programs are on it before the pod's first container runs, and leaves a note for the
 * daemon. Functions return 0 or a negative errno, and on failure in *err a sentence (caller frees).
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/net/nlmsg.h"

struct bn_cni_node {
	char *run_dir, *bpffs, *links, *notes; /* notes: <run dir>/cni */
	bool clsact;
	uint64_t cookie; /* of the network namespace the daemon works in */
};

/* From the record that bpfnetd leaves in its run dir. -ENOENT: it has never run here. */
int bn_cni_node_read(const char *run_dir, struct bn_cni_node *ret, char **err);
void bn_cni_node_done(struct bn_cni_node *n);

/* The host's end of interface ifname of the namespace at path. -ENOTSUP: it has none (macvlan,
 * ipvlan, a device that was moved).
 */
int bn_cni_host_link(const char *netns, const char *ifname, struct bn_nl_link *ret, char **err);

/* Programs are on the interface when it returns 0: put there by the daemon, or by this process from
 * the pinned ones when no daemon runs. timeout_ms bounds the wait for the daemon.
 */
int bn_cni_install(const struct bn_cni_node *n, const struct bn_nl_link *l, unsigned timeout_ms,
		   char **err);
/* Are they on it? -ENOENT: no. */
int bn_cni_check(const struct bn_cni_node *n, uint32_t ifindex, char **err);
/* Could they be put on an interface now, with or without a daemon? */
int bn_cni_ready(const struct bn_cni_node *n, char **err);
/* Waits until the daemon has found the pod, at most so long. Not finding it is no error: the
 * interface stays closed until it is found.
 */
void bn_cni_wait_pod(const struct bn_cni_node *n, uint32_t ifindex, unsigned timeout_ms);

/* The note: in libcni's cache format, read by the daemon as it reads that. */
int bn_cni_note_write(const struct bn_cni_node *n, const char *container, const char *ifname,
		      const json_t *note, char **err);
void bn_cni_note_remove(const struct bn_cni_node *n, const char *container, const char *ifname);
/* Removes the notes of all attachments that are not in [{"containerID","ifname"}]. */
int bn_cni_note_gc(const struct bn_cni_node *n, const json_t *valid, char **err);

#endif
