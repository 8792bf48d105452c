// SPDX-License-Identifier: MIT
/* <run-dir>/record.json: what `bpfnet cleanup`, `svc list` and `ct` need to know when no daemon runs.
 * Replaced by rename: it is there whole or in its last version.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/kernel/internal.h"

#define RECORD "record.json"

int bn_run_dir_prepare(const char *path, char **err)
{
	int r = bn_mkdir_p(path, 0755);

	if (r < 0)
		return bn_kerr(err, r, "cannot create --run-dir '%s': %s", path, strerror(-r));
	if (access(path, W_OK | X_OK) < 0)
		return bn_kerr(err, -errno, "--run-dir '%s' cannot be written: %s", path,
			       strerror(errno));
	return 0;
}

/* The path below /run/netns that is this namespace, if it has a name. */
static char *netns_name(ino_t ino)
{
	DIR *d = opendir("/run/netns");
	char *path = NULL;
	struct dirent *e;
	struct stat st;

	while (d && !path && (e = readdir(d)))
		if (!fstatat(dirfd(d), e->d_name, &st, 0) && st.st_ino == ino && e->d_name[0] != '.' &&
		    asprintf(&path, "/run/netns/%s", e->d_name) < 0)
			path = NULL;
	if (d)
		closedir(d);
	return path;
}

static int write_file(const char *tmp, const char *path, const char *text)
{
	_cleanup_(closep) int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	size_t n = strlen(text);

	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < n;) {
		ssize_t w = write(fd, text + done, n - done);

		if (w < 0)
			return -errno;
		done += w;
	}
	/* Full file systems may say so only now. */
	if (close(TAKE_FD(fd)) < 0 || rename(tmp, path) < 0)
		return -errno;
	return 0;
}

static char *get_string(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? strdup(s) : NULL;
}

void bn_record_done(struct bn_record *r)
{
	free(r->bpffs);
	free(r->cgroup);
	free(r->netns_path);
	free(r->attach);
	json_decref(r->devices);
	memset(r, 0, sizeof(*r));
}

int bn_record_read(const char *run_dir, struct bn_record *ret, char **err)
{
	_cleanup_(freep) char *path = NULL;
	json_error_t je;
	json_t *o;

	if (asprintf(&path, "%s/" RECORD, run_dir) < 0)
		return -ENOMEM;
	if (access(path, R_OK) < 0)
		return bn_kerr(err, -errno, "no record of a daemon in --run-dir '%s': %s", run_dir,
			       strerror(errno));
	o = json_load_file(path, 0, &je);
	if (!json_is_object(o) || !json_is_string(json_object_get(o, "bpffs"))) {
		json_decref(o);
		return bn_kerr(err, -EBADMSG, "'%s' is damaged: give --bpffs, or start the daemon again",
			       path);
	}
	memset(ret, 0, sizeof(*ret));
	ret->bpffs = get_string(o, "bpffs");
	ret->cgroup = get_string(o, "cgroup");
	ret->netns_path = get_string(o, "netns");
	ret->attach = get_string(o, "attach");
	ret->netns_ino = json_integer_value(json_object_get(o, "netnsInode"));
	ret->netns_cookie = json_integer_value(json_object_get(o, "netnsCookie"));
	ret->pid = json_integer_value(json_object_get(o, "pid"));
	ret->devices = json_incref(json_object_get(o, "devices"));
	json_decref(o);
	return ret->bpffs ? 0 : -ENOMEM;
}

static bool same(const char *a, const char *b)
{
	return !strcmp(a ? a : "", b ? b : "");
}

/* A restart on a full disk goes on with the older record, if cleaning up by it does the same. */
static bool still_true(const struct bn_kernel *k)
{
	struct bn_record r;
	bool ok;

	if (bn_record_read(k->p->run_dir, &r, NULL) < 0)
		return false;
	ok = same(r.bpffs, k->p->bpffs) && same(r.cgroup, k->p->cgroup) &&
	     r.netns_cookie == k->p->netns_cookie;
	bn_record_done(&r);
	return ok;
}

int bn_record_write(struct bn_kernel *k, char **err)
{
	_cleanup_(freep) char *netns = NULL, *text = NULL, *path = NULL, *tmp = NULL;
	struct stat st = {};
	json_t *o;
	int r;

	if (stat("/proc/self/ns/net", &st) == 0)
		netns = netns_name(st.st_ino);
	o = json_pack("{s:i, s:s, s:s*, s:s, s:I, s:I, s:s*, s:i, s:s, s:O*}", "record", 1, "bpffs",
		      k->p->bpffs, "cgroup", k->p->cgroup, "attach", k->p->clsact ? "clsact" : "tcx",
		      "netnsCookie", (json_int_t)k->p->netns_cookie, "netnsInode",
		      (json_int_t)st.st_ino, "netns", netns, "pid", (int)getpid(), "version",
		      BN_VERSION, "devices", k->p->devices);
	text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
	json_decref(o);
	if (!text || asprintf(&path, "%s/" RECORD, k->p->run_dir) < 0)
		return bn_kerr(err, -ENOMEM, "out of memory");
	if (asprintf(&tmp, "%s/." RECORD ".tmp", k->p->run_dir) < 0)
		return bn_kerr(err, -ENOMEM, "out of memory");
	r = write_file(tmp, path, text);
	if (r < 0) {
		unlink(tmp);
		if (still_true(k)) {
			bn_knote(k, "'%s' keeps what an earlier start noted: %s", path, strerror(-r));
			return 0;
		}
		return bn_kerr(err, r, "cannot write '%s': %s%s", path, strerror(-r),
			       r == -ENOSPC ? " (make room in --run-dir or choose another)" : "");
	}
	return 0;
}

int bn_kernel_record_devices(struct bn_kernel *k, const char *const *names, char **err)
{
	json_t *a = json_array();

	for (; a && names && *names; names++)
		json_array_append_new(a, json_string(*names));
	if (a && json_equal(a, k->p->devices)) {
		json_decref(a);
		return 0;
	}
	json_decref(k->p->devices);
	k->p->devices = a;
	return bn_record_write(k, err);
}
