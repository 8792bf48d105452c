// SPDX-License-Identifier: MIT
/* The directory of pins: where it may be, how it is made, and the lock on it. */
#include <fcntl.h>
#include <libgen.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include "loader/kernel/internal.h"

#define DEFAULT_MOUNT "/sys/fs/bpf"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

int bn_kerr(char **err, int r, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return r;
	freep(err);
	va_start(ap, fmt);
	if (vasprintf(err, fmt, ap) < 0)
		*err = NULL;
	va_end(ap);
	return r;
}

void bn_knote(struct bn_kernel *k, const char *fmt, ...)
{
	_cleanup_(freep) char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) >= 0)
		json_array_append_new(k->p->notices, json_string(text));
	else
		text = NULL;
	va_end(ap);
}

int bn_mkdir_p(const char *path, unsigned mode)
{
	_cleanup_(freep) char *s = strdup(path);

	if (!s)
		return -ENOMEM;
	for (char *p = s + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(s, mode) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(s, mode) < 0 && errno != EEXIST ? -errno : 0;
}

bool bn_is_bpffs(const char *path)
{
	struct statfs fs;

	return !statfs(path, &fs) && (unsigned long)fs.f_type == BPF_FS_MAGIC;
}

/* The deepest directory on the way to path that exists. */
static char *existing_parent(const char *path)
{
	char *s = strdup(path);
	struct stat st;

	while (s && s[0] && s[1] && stat(s, &st) < 0) {
		char *slash = strrchr(s, '/');

		if (!slash || slash == s) {
			free(s);
			return strdup(slash ? "/" : ".");
		}
		*slash = '\0';
	}
	return s;
}

static bool below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (path[n] == '/' || !path[n]);
}

static int mount_default(char **err)
{
	if (mount("bpf", DEFAULT_MOUNT, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME,
		  "mode=0700") == 0)
		return 0;
	return bn_kerr(err, -errno,
		       "no BPF file system is mounted on " DEFAULT_MOUNT " and mounting it failed (%s): "
		       "mount it (mount -t bpf bpf " DEFAULT_MOUNT ") or run with CAP_SYS_ADMIN",
		       strerror(errno));
}

int bn_bpffs_prepare(const char *path, char **err)
{
	_cleanup_(freep) char *parent = NULL;
	struct statvfs vfs;
	struct stat st;
	int r;

	if (path[0] != '/')
		return bn_kerr(err, -EINVAL, "--bpffs '%s' is not an absolute path", path);
	if (strstr(path, "/../") || strstr(path, "//"))
		return bn_kerr(err, -EINVAL, "--bpffs '%s': write the path without '..' and '//'", path);
	parent = existing_parent(path);
	if (!parent)
		return -ENOMEM;
	if (!bn_is_bpffs(parent) && below(path, DEFAULT_MOUNT)) {
		r = mount_default(err);
		if (r < 0)
			return r;
	} else if (!bn_is_bpffs(parent)) {
		return bn_kerr(err, -ENOTSUP,
			       "--bpffs '%s' is not on a BPF file system ('%s' is none): mount one there "
			       "(mount -t bpf bpf DIR) or choose a directory below " DEFAULT_MOUNT,
			       path, parent);
	}
	if (statvfs(parent, &vfs) == 0 && vfs.f_flag & ST_RDONLY)
		return bn_kerr(err, -EROFS,
			       "the BPF file system of --bpffs '%s' is mounted read-only: remount it "
			       "(mount -o remount,rw DIR)", path);
	r = bn_mkdir_p(path, 0700);
	if (r < 0)
		return bn_kerr(err, r, "cannot create --bpffs '%s': %s%s", path, strerror(-r),
			       r == -EPERM ? " (names on a BPF file system cannot contain a dot)" : "");
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return bn_kerr(err, -ENOTDIR, "--bpffs '%s' is not a directory", path);
	return 0;
}

/* flock on the directory itself: files of a BPF file system cannot be opened, but its directories
 * can. The lock belongs to the inode, so it is the same from every network or mount namespace, and
 * the kernel drops it with the last descriptor.
 */
int bn_bpffs_lock(const char *path, int *ret, char **err)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return bn_kerr(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return bn_kerr(err, -EBUSY,
				       "another bpfnetd uses --bpffs '%s': stop it, or give this one a "
				       "--bpffs of its own", path);
		return bn_kerr(err, -errno, "cannot lock '%s': %s", path, strerror(errno));
	}
	*ret = TAKE_FD(fd);
	return 0;
}

int bn_cgroup2_find(char **ret)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *e;
	int r = -ENOENT;

	if (!f)
		return -errno;
	while (r == -ENOENT && (e = getmntent(f))) {
		if (strcmp(e->mnt_type, "cgroup2"))
			continue;
		*ret = strdup(e->mnt_dir);
		r = *ret ? 0 : -ENOMEM;
	}
	endmntent(f);
	return r;
}

int bn_cgroup_check(const char *path, uint64_t *id, char **err)
{
	struct statfs fs;
	struct stat st;

	if (statfs(path, &fs) < 0 || stat(path, &st) < 0)
		return bn_kerr(err, -errno, "--cgroup '%s': %s", path, strerror(errno));
	if ((unsigned long)fs.f_type != CGROUP2_SUPER_MAGIC)
		return bn_kerr(err, -ENOTSUP,
			       "--cgroup '%s' is not a directory of the cgroup2 hierarchy: give one below "
			       "its mount point (findmnt -t cgroup2)", path);
	*id = st.st_ino; /* the cgroup's id, on 64-bit kernels */
	return 0;
}

int bn_netns_cookie(uint64_t *ret)
{
	_cleanup_(closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*ret);

	if (fd < 0)
		return -errno;
	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, ret, &len) < 0 ? -errno : 0;
}
