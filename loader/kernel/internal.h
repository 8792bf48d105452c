/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_KERNEL_INTERNAL_H
#define BN_LOADER_KERNEL_INTERNAL_H

/* Shared by the files of loader/kernel only. */

#include <bpf/libbpf.h>

#include "loader/kernel/kernel.h"
#include "maps/util.h"

/* What linux/bpf.h of 6.1 does not have yet. */
#define BN_TCX_INGRESS 46
#define BN_TCX_EGRESS 47
#define BN_NETKIT_PRIMARY 54
#define BN_F_BEFORE (1U << 3)
#define BN_LINK_TYPE_TCX 11

/* Where our filter stands when clsact is used: nobody else's choice of handle. */
#define BN_TC_PRIO 1
#define BN_TC_HANDLE 0xb9f7

enum bn_dir_tc {
	BN_TC_IN,
	BN_TC_OUT,
	BN_TC__MAX,
};

enum bn_object {
	BN_OBJ_POD,
	BN_OBJ_NET,
	BN_OBJ_XDP,
	BN_OBJ_SOCK,
	BN_OBJ__MAX,
};

#define BN_PROGS_MAX 32

struct bn_prog {
	char name[32];
	int fd;
	uint32_t attach_type; /* enum bpf_attach_type */
	enum bn_object obj;
};

/* An interface that gets its programs when the maps are complete. */
struct bn_later {
	uint32_t ifindex;
	enum bn_role role;
};

struct bn_kernel_priv {
	char *bpffs, *links; /* links: <bpffs>/links */
	char *run_dir, *cgroup;
	int lock; /* descriptor of the pin directory, with the lock */
	uint64_t netns_cookie;
	bool clsact; /* attach by filters instead of tcx links */
	struct bpf_object *obj[BN_OBJ__MAX]; /* while it is loaded: libbpf's copies are 2 MB */
	struct bn_prog progs[BN_PROGS_MAX];
	uint32_t nprogs;
	int jump; /* descriptor of the programs' own array, which nothing else holds until it is pinned */
	uint32_t *ifs; /* interfaces attached by this process */
	uint32_t nifs, ifs_room;
	json_t *notices, *features, *devices;
	/* The pins are another version's: its programs stay in force until the maps here are complete. */
	bool beside, switching, resumed;
	struct bn_later *later;
	uint32_t nlater;
	int old_heads, old_ct; /* the connection table whose flows are carried into k->maps; -1: none */
	char *no_http; /* why requests cannot be judged; NULL: they can */
	struct bn_objects_cfg *cfg; /* objects.c */
	char *no_xdp; /* why xdp_net could not be loaded; NULL: it could, or nobody has wanted it */
};

/* Sets *err (freeing what it held) to the sentence and returns r. */
int bn_kerr(char **err, int r, const char *fmt, ...) _printf_(3, 4);
void bn_knote(struct bn_kernel *k, const char *fmt, ...) _printf_(2, 3);
int bn_mkdir_p(const char *path, unsigned mode);

/* bpffs.c */
int bn_bpffs_prepare(const char *path, char **err);	      /* makes the directory */
int bn_bpffs_lock(const char *path, int *ret, char **err);    /* -EBUSY: another has it */
bool bn_is_bpffs(const char *path);
int bn_cgroup2_find(char **ret);			      /* mount point; -ENOENT */
int bn_cgroup_check(const char *path, uint64_t *id, char **err);
int bn_netns_cookie(uint64_t *ret);

/* pin.c: fills k->maps. */
int bn_pins_adopt(struct bn_kernel *k, const struct bn_opts *opts, char **err);
int bn_pin_map(const struct bn_kernel *k, enum bn_map map, int fd, char **err);

/* carry.c */
void bn_carry_resume(struct bn_kernel *k);	     /* takes up what a killed start left */
int bn_carry_begin(struct bn_kernel *k, char **err); /* k->maps are made, not pinned yet */
int bn_carry_end(struct bn_kernel *k, char **err);   /* puts the programs in place */
void bn_carry_forget(struct bn_kernel *k);
int bn_carry_later(struct bn_kernel *k, uint32_t ifindex, enum bn_role role);
int bn_pins_unknown(const char *bpffs); /* removes pins of maps that only other versions have; how many */

/* objects.c */
int bn_objects_load(struct bn_kernel *k, const struct bn_opts *opts, char **err);
void bn_objects_free(struct bn_kernel *k);
/* As bn_kernel_prog_fd; loads xdp_net for the first who asks for it. -ENOENT: no program has this name. */
int bn_objects_prog(struct bn_kernel *k, const char *name, char **err);

/* libbpflog.c */
void bn_libbpf_capture(void);	      /* from now on libbpf's messages are kept, not printed */
const char *bn_libbpf_last(void);     /* the last lines of them */

/* attach.c */
void bn_pin_name(const struct bn_kernel *k, char *buf, size_t n, const char *kind, uint32_t ifindex,
		 const char *suffix);
/* Puts the program into the link that is pinned under this name, or pins a new one. */
int bn_link_attach(struct bn_kernel *k, const char *pin, uint32_t ifindex, uint32_t type,
		   uint32_t flags, int prog_fd);
int bn_attach_open(struct bn_kernel *k, char **err); /* puts our programs into the links that are there */
/* For bpfnet-cni, which has no objects: these programs on a pod's interface. Needs k->p with links,
 * netns_cookie and clsact only.
 */
int bn_attach_pod(struct bn_kernel *k, uint32_t ifindex, int from_pod, int to_pod);
/* Leaves the pod programs as links/prog_<name> for it. */
int bn_programs_pin(struct bn_kernel *k);

/* links.c: what a link is attached to; layouts newer than the build's linux/bpf.h. */
struct bn_link {
	uint32_t type, id, prog_id;
	uint32_t ifindex, attach_type; /* tcx, XDP */
	uint64_t cgroup_id;
};
int bn_link_info(int fd, struct bn_link *ret);

bool bn_link_is_on(const char *path, uint32_t ifindex);

/* A program is ours when it uses any of our maps (it has the ids of those that it touches only). */
struct bn_map_ids {
	uint32_t id[BN_MAP__MAX]; /* 0: none */
};
void bn_map_ids(const struct bn_maps *m, struct bn_map_ids *ret);
bool bn_prog_uses(uint32_t prog_id, const struct bn_map_ids *ours);
int bn_prog_name(uint32_t prog_id, char name[16]);
int bn_link_put(struct bn_kernel *k, int fd, const char *pin); /* pins by temporary name and rename */
int bn_link_drop(const char *path);					  /* detaches, removes the pin */
int bn_link_path(const struct bn_kernel *k, char *buf, size_t n, const char *name);

/* order.c: names of the programs that run before the first of ours; *missing: there is none of ours. */
json_t *bn_order_before(uint32_t ifindex, uint32_t attach_type, const struct bn_map_ids *ours,
			bool *missing);

/* cgroup.c */
void bn_cgroup_update(struct bn_kernel *k, const char *path, const char *prog);

/* clsact.c; -EADDRINUSE: another's filter stands where ours would */
bool bn_clsact_there(uint32_t ifindex, enum bn_dir_tc dir); /* a filter of ours, of whatever version */
int bn_clsact_attach(uint32_t ifindex, enum bn_dir_tc dir, int prog_fd);
/* -ENOENT: no filter of ours. */
int bn_clsact_detach(uint32_t ifindex, enum bn_dir_tc dir, const struct bn_map_ids *ours);

/* probe.c */
int bn_probe_caps(char **err);
int bn_probe_release(const char *release, char **err); /* "6.1.0-17-amd64": new enough? */
bool bn_probe_tcx(void);
json_t *bn_probe_features(void);
/* "HTTP rules cannot be enforced: Linux 6.1.0 refuses ... (Permission denied)"; r: the load's error. Owned. */
char *bn_no_http_text(int r);

/* record.c */
int bn_record_write(struct bn_kernel *k, char **err);
int bn_run_dir_prepare(const char *path, char **err);

#endif
