// SPDX-License-Identifier: MIT
/* Removing every trace, from what the last daemon noted and from what the pins themselves say. Only
 * names that bpfnet makes are removed: whatever else lies in the directory stays, and is named.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/kernel/internal.h"
#include "loader/source/laststate.h"

struct clean {
	const char *bpffs;
	struct bn_map_ids ours; /* for telling our programs from those of others */
	json_t *report;
};

static void said(struct clean *c, const char *fmt, ...) _printf_(2, 3);
static void said(struct clean *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	json_array_append_new(c->report, json_vsprintf(fmt, ap));
	va_end(ap);
}

/* Removes the files of a directory for which `mine` holds with `drop`; returns how many. */
static int remove_files(const char *dir, bool (*mine)(const char *name), int (*drop)(const char *))
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d))) {
		char path[4096];

		if (e->d_name[0] == '.' || !mine(e->d_name))
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) < (int)sizeof(path))
			n += drop(path) == 0;
	}
	if (d)
		closedir(d);
	return n;
}

static bool is_link(const char *name)
{
	return !strncmp(name, "tcx_", 4) || !strncmp(name, "xdp_", 4) || !strncmp(name, "cg_", 3) ||
	       !strncmp(name, "prog_", 5) || !strncmp(name, "jump_", 5) || !strncmp(name, "tmp_", 4);
}

static bool is_any(const char *name _unused_)
{
	return true;
}

static bool is_map(const char *name)
{
	return bn_map_by_name(name) < BN_MAP__MAX || !strncmp(name, "tmp_", 4) || !strcmp(name, "meta_old") ||
	       !strcmp(name, "ct_heads_old") || !strcmp(name, "ct_old");
}

/* Links of our programs that something else than the pins holds (an inherited descriptor). */
static int detach_held_links(const struct bn_map_ids *ours)
{
	uint32_t id = 0;
	int n = 0;

	while (bpf_link_get_next_id(id, &id) == 0) {
		_cleanup_(closep) int fd = bpf_link_get_fd_by_id(id);
		struct bn_link info;

		if (fd < 0 || bn_link_info(fd, &info) < 0 || !bn_prog_uses(info.prog_id, ours))
			continue;
		n += bpf_link_detach(fd) == 0;
	}
	return n;
}

static int filters_here(const struct bn_map_ids *ours)
{
	struct if_nameindex *all = if_nameindex();
	int n = 0;

	for (struct if_nameindex *i = all; i && i->if_index; i++)
		for (int dir = 0; dir < BN_TC__MAX; dir++)
			n += bn_clsact_detach(i->if_index, dir, ours) == 0;
	if (all)
		if_freenameindex(all);
	return n;
}

static int netns_open(const char *path, uint64_t ino)
{
	_cleanup_(closep) int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != ino)
		return -ENOENT;
	return TAKE_FD(fd);
}

/* The daemon's namespace: by its name, or through any process that is in it. */
static int netns_find(const struct bn_record *rec)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	int fd;

	fd = netns_open("/proc/self/ns/net", rec->netns_ino);
	if (fd < 0)
		fd = netns_open(rec->netns_path, rec->netns_ino);
	while (fd < 0 && d && (e = readdir(d))) {
		char path[300];

		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/ns/net", e->d_name);
		fd = netns_open(path, rec->netns_ino);
	}
	if (d)
		closedir(d);
	return fd;
}

/* clsact filters live in the devices: to be removed from inside their namespace. */
static int clean_filters(struct clean *c, const struct bn_record *rec, char **err)
{
	_cleanup_(closep) int home = -1, there = -1;
	int n;

	if (!rec->netns_ino) {
		n = filters_here(&c->ours);
	} else {
		home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
		there = netns_find(rec);
		if (there < 0)
			return 0; /* gone, and its devices with it */
		if (home < 0 || setns(there, CLONE_NEWNET) < 0)
			return bn_kerr(err, -errno, "cannot enter the daemon's network namespace: %s",
				       strerror(errno));
		n = filters_here(&c->ours);
		if (setns(home, CLONE_NEWNET) < 0)
			return bn_kerr(err, -errno, "cannot return to the network namespace: %s",
				       strerror(errno));
	}
	if (n)
		said(c, "%d clsact filters", n);
	return 0;
}

static int clean_bpffs(struct clean *c, const struct bn_record *rec, char **err)
{
	struct bn_maps m = {}; /* held until the end, so that no id is given to another map */
	char links[4096], path[4096];
	int n, r;

	snprintf(links, sizeof(links), "%s/links", c->bpffs);
	for (int i = 0; i < BN_MAP__MAX; i++) {
		snprintf(path, sizeof(path), "%s/%s", c->bpffs, bn_map_name(i));
		m.fd[i] = bpf_obj_get(path);
	}
	bn_map_ids(&m, &c->ours);
	n = remove_files(links, is_link, bn_link_drop);
	if (n)
		said(c, "%d links (programs on interfaces and cgroups)", n);
	r = clean_filters(c, rec, err);
	n = detach_held_links(&c->ours);
	if (n)
		said(c, "%d links that others held", n);
	rmdir(links);
	for (int i = 0; i < BN_MAP__MAX; i++)
		closep(&m.fd[i]);
	if (r < 0)
		return r;
	n = bn_pins_unknown(c->bpffs);
	n += remove_files(c->bpffs, is_map, unlink);
	if (n)
		said(c, "%d maps", n);
	if (rmdir(c->bpffs) < 0 && errno != ENOENT)
		return bn_kerr(err, -errno,
			       "'%s' cannot be removed: %s; what is left in it is not bpfnet's",
			       c->bpffs, strerror(errno));
	said(c, "directory %s", c->bpffs);
	return 0;
}

static int lock_or_say(const char *bpffs, const struct bn_record *rec, int *ret, char **err)
{
	_cleanup_(freep) char *why = NULL;
	int r = bn_bpffs_lock(bpffs, ret, &why);

	if (r == -EBUSY && rec->pid > 0)
		return bn_kerr(err, r, "bpfnetd (process %d) is running with '%s': stop it first",
			       rec->pid, bpffs);
	if (r == -EBUSY)
		return bn_kerr(err, r, "a bpfnetd is running with '%s': stop it first", bpffs);
	return r < 0 ? bn_kerr(err, r, "%s", why ? why : strerror(-r)) : 0;
}

static void clean_run_dir(struct clean *c, const char *run_dir)
{
	const char *const names[] = {"record.json", ".record.json.tmp", "control.sock"};
	_cleanup_(freep) char *journal = NULL;
	char path[4096];
	int n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", run_dir, names[i]);
		n += unlink(path) == 0;
	}
	if (n)
		said(c, "record in %s", run_dir);
	journal = bn_laststate_cleanup(run_dir);
	if (journal)
		said(c, "last good versions in %s", journal);
	snprintf(path, sizeof(path), "%s/cni", run_dir); /* notes of bpfnet-cni */
	remove_files(path, is_any, unlink);
	rmdir(path);
	rmdir(run_dir); /* stays when something else is in it */
}

static void record_donep(struct bn_record *r)
{
	bn_record_done(r);
}

int bn_kernel_cleanup(const char *run_dir, const char *bpffs, json_t **report, char **err)
{
	_cleanup_(record_donep) struct bn_record rec = {};
	_cleanup_(closep) int lock = -1;
	struct clean c = {};
	struct stat st;
	int r;

	r = bn_probe_caps(err);
	if (r < 0)
		return r;
	r = bn_record_read(run_dir, &rec, err);
	if (r < 0 && !bpffs)
		return r;
	c.bpffs = bpffs ? bpffs : rec.bpffs;
	bn_libbpf_capture();
	c.report = json_array();
	if (!c.report)
		return -ENOMEM;
	if (stat(c.bpffs, &st) == 0) {
		if (!bn_is_bpffs(c.bpffs))
			r = bn_kerr(err, -ENOTSUP, "'%s' is not on a BPF file system", c.bpffs);
		else
			r = lock_or_say(c.bpffs, &rec, &lock, err);
		r = r < 0 ? r : clean_bpffs(&c, &rec, err);
		if (r < 0) {
			json_decref(c.report);
			return r;
		}
	}
	clean_run_dir(&c, run_dir);
	if (err)
		freep(err);
	*report = c.report;
	return 0;
}
