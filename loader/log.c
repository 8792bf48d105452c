/* SPDX-License-Identifier: MIT */
#include "loader/log.h"

#include <jansson.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_WAIT_MS 200

static enum bn_level max_level = BN_INFO;
static bool json_lines;

static const char *const level_names[] = {
	[BN_ERROR] = "error",
	[BN_WARN] = "warn",
	[BN_INFO] = "info",
	[BN_DEBUG] = "debug",
};
_Static_assert(ARRAY_SIZE(level_names) == BN_LEVEL__MAX, "a name per level");

int bn_log_setup(const char *level, const char *format)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(level_names); i++)
		if (!strcmp(level, level_names[i]))
			break;
	if (i == ARRAY_SIZE(level_names))
		return -EINVAL;
	if (strcmp(format, "text") && strcmp(format, "json"))
		return -EINVAL;
	max_level = i;
	json_lines = !strcmp(format, "json");
	return 0;
}

bool bn_log_enabled(enum bn_level level)
{
	return level <= max_level;
}

/* Writes a line, ms at most: a pipe whose reader has stopped must not stop the daemon with it. What
 * poll() calls writable takes a whole line (PIPE_BUF) without waiting.
 */
static bool put(const char *line, int ms)
{
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&p, 1, ms) > 0 && write(STDERR_FILENO, line, strlen(line)) >= 0;
}

static void put_or_count(const char *line)
{
	static unsigned lost; /* shared by the workers */
	unsigned n = __atomic_load_n(&lost, __ATOMIC_RELAXED);
	char text[80];

	if (n) {
		snprintf(text, sizeof(text), "(%u messages lost: nobody read them)\n", n);
		if (!put(text, 0)) {
			__atomic_add_fetch(&lost, 1, __ATOMIC_RELAXED);
			return;
		}
		__atomic_sub_fetch(&lost, n, __ATOMIC_RELAXED);
	}
	if (!put(line, LOG_WAIT_MS))
		__atomic_add_fetch(&lost, 1, __ATOMIC_RELAXED);
}

static void emit(enum bn_level level, const char *msg)
{
	char when[40], text[1100];
	struct timespec ts;
	struct tm tm;
	int n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof(when) - n, ".%03ldZ", ts.tv_nsec / 1000000);
	if (!json_lines) {
		snprintf(text, sizeof(text), "%s %-5s %s\n", when, level_names[level], msg);
		put_or_count(text);
		return;
	}
	_cleanup_(freep) char *line = NULL, *with_end = NULL;
	json_t *o = json_pack("{ss ss ss+}", "time", when, "level", level_names[level], "message",
			      msg, "");

	if (!o) /* not UTF-8: say so rather than lose the line */
		o = json_pack("{ss ss ss}", "time", when, "level", level_names[level], "message",
			      "(message with invalid UTF-8)");
	line = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	if (line && asprintf(&with_end, "%s\n", line) >= 0)
		put_or_count(with_end);
}

static void vlog(enum bn_level level, int err, const char *fmt, va_list ap)
{
	char msg[1024];
	int n;

	n = vsnprintf(msg, sizeof(msg), fmt, ap);
	if (err && n >= 0 && (size_t)n < sizeof(msg))
		snprintf(msg + n, sizeof(msg) - n, ": %s", strerror(err));
	/* One message is one line: names come from objects that anyone may write. */
	for (char *p = msg; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	emit(level, msg);
}

void bn_log(enum bn_level level, const char *fmt, ...)
{
	va_list ap;
	int saved = errno;

	if (level > max_level)
		return;
	va_start(ap, fmt);
	vlog(level, 0, fmt, ap);
	va_end(ap);
	errno = saved;
}

int bn_log_err(int err, const char *fmt, ...)
{
	va_list ap;

	if (err < 0)
		err = -err;
	va_start(ap, fmt);
	vlog(BN_ERROR, err, fmt, ap);
	va_end(ap);
	return err ? -err : -EIO;
}

bool bn_log_due(uint64_t *next_ns, unsigned seconds)
{
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = ts.tv_sec * 1000000000ull + ts.tv_nsec;
	if (now < *next_ns)
		return false;
	*next_ns = now + seconds * 1000000000ull;
	return true;
}
