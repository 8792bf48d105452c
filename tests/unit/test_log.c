/* SPDX-License-Identifier: MIT */
/* The daemon's log to a pipe that nobody reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "loader/log.h"
#include "maps/util.h"

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* A log that blocked would hang here: alarm() ends the test. */
static void not_read(const char *format)
{
	char buf[65536], all[1 << 20];
	int fd[2], saved = dup(STDERR_FILENO), i;
	size_t have = 0;
	double began;
	ssize_t n;

	bn_log_setup("info", format);
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	assert_true(fcntl(fd[0], F_SETPIPE_SZ, 16384) >= 16384);
	assert_int_equal(dup2(fd[1], STDERR_FILENO), STDERR_FILENO);
	alarm(30);
	began = now();
	for (i = 0; i < 5000; i++)
		log_info("message %d of many that nobody reads", i);
	alarm(0);
	assert_int_equal(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	if (now() - began > 10) {
		dup2(saved, STDERR_FILENO);
		fail_msg("5,000 messages took %.1f s", now() - began);
	}
	n = read(fd[0], buf, sizeof(buf));
	log_info("it is read again");
	dup2(saved, STDERR_FILENO);
	assert_true(n > 0);
	while ((n = read(fd[0], all + have, sizeof(all) - 1 - have)) > 0)
		have += (size_t)n;
	all[have] = '\0';
	assert_non_null(strstr(all, " messages lost: nobody read them)\n"));
	assert_non_null(strstr(all, "it is read again"));
	close(saved);
	close(fd[0]);
	close(fd[1]);
}

static void test_text(void **state _unused_)
{
	not_read("text");
}

static void test_json(void **state _unused_)
{
	not_read("json");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
