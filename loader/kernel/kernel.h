/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_KERNEL_KERNEL_H
#define BN_LOADER_KERNEL_KERNEL_H

/* The daemon's hold on the kernel: one directory of pins, the maps in it, the loaded programs and
 * where they are attached.
 *
 * What is pinned outlives the daemon: closing changes nothing in force. Opening takes a lock on the
 * pin directory that dies with the process, adopts the maps that are there with their content, loads
 * this version's programs and puts them, each in one atomic step, in place of those attached.
 * Functions return 0 or a negative errno. Where there is `char **err`, it gets on failure one
 * sentence that says what is wrong and what to do (caller frees; NULL if not wanted).
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/opts.h"
#include "maps/maps.h"

struct bn_kernel_priv;

struct bn_kernel {
	struct bn_maps *maps;
	struct bn_kernel_priv *p;
};

/* What must hold before anything is touched: capabilities, the kernel's version. */
int bn_kernel_preconditions(char **err);
int bn_kernel_open(const struct bn_opts *opts, struct bn_kernel **ret, char **err);
void bn_kernel_close(struct bn_kernel *k); /* the data plane stays in force */
void bn_kernel_closep(struct bn_kernel **k);

/* The pins are of another version, whose programs and maps are still in force: k->maps are new, and nothing
 * uses them before bn_kernel_switch (but interfaces that have no programs yet get this version's).
 */
bool bn_kernel_beside(const struct bn_kernel *k);

/* Once everything is in k->maps: carries the connections over, puts this version's programs in place of the other's
 * and pins the maps. On failure it is to be called again; bn_kernel_beside tells.
 */
int bn_kernel_switch(struct bn_kernel *k, char **err);

/* Sentences about what was found at the start and may surprise ("--ct-max 10 not applied: ..."):
 * array of strings, borrowed. Log them once.
 */
const json_t *bn_kernel_notices(const struct bn_kernel *k);

/* The socket hooks on opts->cgroup, NULL: on the root of the cgroup2 mount. */
int bn_kernel_attach_cgroup(struct bn_kernel *k, char **err);

/* The programs of a role (maps/ep.h) on both directions of an interface. Calling again is cheap and
 * repairs (a new role replaces the programs in place). Where a program of the role does not exist in
 * this build nothing is attached. -ENODEV: the interface is gone.
 */
int bn_kernel_attach_iface(struct bn_kernel *k, uint32_t ifindex, enum bn_role role, char **err);

/* Also for interfaces that are gone: their pins have to go. -ENOENT: nothing was attached. */
int bn_kernel_detach_iface(struct bn_kernel *k, uint32_t ifindex);

/* xdp_net on an interface. One that is there already is replaced in place. -EBUSY: another's program is
 * there, and stays; -EOPNOTSUPP: the driver has no native XDP.
 */
int bn_kernel_attach_xdp(struct bn_kernel *k, uint32_t ifindex, char **err);
int bn_kernel_detach_xdp(struct bn_kernel *k, uint32_t ifindex); /* -ENOENT: it was not there */

/* Once all interfaces are known: detaches what an earlier daemon left on interfaces that this one
 * did not attach. Returns how many, or a negative errno.
 */
int bn_kernel_sweep(struct bn_kernel *k);

/* Programs of others that run before ours on attached interfaces: array of
 * {"interface","hook":"ingress|egress","before":[names]}; new reference.
 */
int bn_kernel_check_order(struct bn_kernel *k, json_t **ret);

/* Why this kernel cannot judge requests, one sentence; NULL: it can. Borrowed. */
const char *bn_kernel_no_http(const struct bn_kernel *k);

/* Object name -> bool or string, for `status` and `check`; new reference, NULL without memory. */
json_t *bn_kernel_features(const struct bn_kernel *k);

/* Program by name ("from_pod"), for BPF_PROG_TEST_RUN; -ENOENT. Owned by k. */
int bn_kernel_prog_fd(const struct bn_kernel *k, const char *name);

/* Names of devices to note in the run dir's record, NULL-terminated; bn_kernel_open writes the record
 * for the first time, this again when they changed.
 */
int bn_kernel_record_devices(struct bn_kernel *k, const char *const *names, char **err);

/* --- Without a daemon ------------------------------------------------------------------------ */

/* What the last daemon with this run dir noted (record.json). Strings are owned. */
struct bn_record {
	char *bpffs, *cgroup, *netns_path, *attach; /* attach: "tcx" or "clsact" */
	uint64_t netns_ino, netns_cookie;
	int pid;
	json_t *devices;
};
int bn_record_read(const char *run_dir, struct bn_record *ret, char **err); /* -ENOENT: none */
void bn_record_done(struct bn_record *r);

/* Removes every trace: links, filters, XDP, pins, the directory, the record. bpffs NULL: what the
 * record says. -EBUSY while a daemon holds the directory. *report: array of strings, what was
 * removed (new reference).
 */
int bn_kernel_cleanup(const char *run_dir, const char *bpffs, json_t **report, char **err);

/* `bpfnet check`: array of {"name","status":"ok|warn|fail","text","hint"}; new reference. Any of the
 * paths may be NULL (defaults).
 */
int bn_kernel_check(const char *bpffs, const char *cgroup, json_t **ret);

#endif
