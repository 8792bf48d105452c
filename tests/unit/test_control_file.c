/* SPDX-License-Identifier: MIT */
/* The socket's file: what stands there already, and whose it is. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "loader/serve/control.h"

static void test_socket_file(_unused_ void **state)
{
	char run[] = "/tmp/cli-file-XXXXXX", dir[512], path[128], link[140];
	struct bn_control *c = NULL, *other = NULL;
	struct event_base *base = event_base_new();
	struct stat st;
	int fd;

	assert_non_null(mkdtemp(run));
	assert_int_equal(bn_control_new(base, run, &c), 0);
	snprintf(path, sizeof(path), "%s/control.sock", run);
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	/* another daemon answers there: hands off */
	assert_int_equal(bn_control_new(base, run, &other), -EADDRINUSE);
	assert_null(other);
	/* ours was taken by a newer one meanwhile: the end of the old one leaves it alone */
	snprintf(link, sizeof(link), "%s.old", path);
	assert_int_equal(rename(path, link), 0);
	assert_int_equal(bn_control_new(base, run, &other), 0);
	bn_control_freep(&c);
	assert_int_equal(access(path, F_OK), 0);
	unlink(link);
	bn_control_freep(&other);
	assert_int_equal(access(path, F_OK), -1);
	/* a socket that nobody listens on any more */
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(fd);
	assert_int_equal(bn_control_new(base, run, &c), 0);
	bn_control_freep(&c);
	/* something else of that name, a link to something else included, is not ours to remove */
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(bn_control_new(base, run, &other), -EEXIST);
	unlink(path);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(bn_control_new(base, run, &other), -EEXIST);
	unlink(path);
	memset(dir, 'x', 200);
	dir[0] = '/';
	dir[200] = '\0';
	assert_int_equal(bn_control_new(base, dir, &other), -ENAMETOOLONG);
	assert_int_equal(bn_control_new(base, "/nonexistent/cli-test", &other), -ENOENT);
	assert_int_equal(rmdir(run), 0); /* nothing was left */
	event_base_free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_socket_file) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
