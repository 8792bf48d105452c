/* SPDX-License-Identifier: MIT */
#include "loader/serve/control_file.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "loader/log.h"
#include "loader/serve/control.h"

static int check_path(const struct sockaddr_un *sa, socklen_t len)
{
	_cleanup_(closep) int fd = -1;
	struct stat st;

	if (lstat(sa->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : log_err_r(errno, "look at '%s'", sa->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return log_err_r(EEXIST, "'%s' is not a socket; move it away or use another --run-dir",
				 sa->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return log_err_r(errno, "socket");
	if (connect(fd, (const struct sockaddr *)sa, len) == 0 || errno == EAGAIN)
		return log_err_r(EADDRINUSE,
				 "another daemon answers at '%s'; end it or use another --run-dir",
				 sa->sun_path);
	return 0; /* stale: the rename below replaces it */
}

/* Binds under another name and renames. */
int bn_control_file_new(const char *run_dir, struct bn_control_file *ret)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX }, tmp = sa;
	_cleanup_(closep) int fd = -1;
	struct stat st;
	int n, m, r;

	n = snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/" BN_CONTROL_SOCKET, run_dir);
	m = snprintf(tmp.sun_path, sizeof(tmp.sun_path), "%s/.c%d", run_dir, getpid());
	if (n >= (int)sizeof(sa.sun_path) || m >= (int)sizeof(tmp.sun_path))
		return log_err_r(ENAMETOOLONG,
				 "--run-dir '%s': a socket path has at most %zu bytes; use a shorter one",
				 run_dir, sizeof(sa.sun_path) - 1);
	r = check_path(&sa, sizeof(sa));
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The mode of the descriptor is the mode that bind gives the file. */
	if (fd < 0 || fchmod(fd, 0600) < 0)
		return log_err_r(errno, "control socket");
	unlink(tmp.sun_path);
	if (bind(fd, (struct sockaddr *)&tmp, sizeof(tmp)) < 0)
		return log_err_r(errno, "bind '%s'", tmp.sun_path);
	if (chmod(tmp.sun_path, 0600) < 0 || listen(fd, 64) < 0 ||
	    rename(tmp.sun_path, sa.sun_path) < 0 || lstat(sa.sun_path, &st) < 0) {
		r = log_err_r(errno, "control socket '%s'", sa.sun_path);
		unlink(tmp.sun_path);
		return r;
	}
	memcpy(ret->path, sa.sun_path, sizeof(ret->path));
	ret->dev = st.st_dev;
	ret->ino = st.st_ino;
	return TAKE_FD(fd);
}

void bn_control_file_remove(struct bn_control_file *f)
{
	struct stat st;

	if (f->path[0] && lstat(f->path, &st) == 0 && st.st_dev == f->dev && st.st_ino == f->ino)
		unlink(f->path);
	f->path[0] = '\0';
}
