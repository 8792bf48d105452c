/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_LOG_H
#define BN_LOADER_LOG_H

/* The daemon's log: one line a message on stderr, text or JSON. Libraries (maps/, policy/) never
 * log; whoever decides what an error means logs it, once, naming the object and what to do. A pipe
 * that nobody reads loses lines (counted in the next one that fits), it does not stop the daemon.
 */

#include <stdbool.h>

#include "maps/util.h"

enum bn_level {
	BN_ERROR,
	BN_WARN,
	BN_INFO,
	BN_DEBUG,
	BN_LEVEL__MAX,
};

/* level: "error", "warn", "info", "debug"; format: "text", "json". -EINVAL for anything else. */
int bn_log_setup(const char *level, const char *format);
bool bn_log_enabled(enum bn_level level);

void bn_log(enum bn_level level, const char *fmt, ...) _printf_(2, 3);

/* Logs "...: <strerror>" at error level and returns the error as negative errno. err may have either
 * sign; it is read before anything is printed.
 */
int bn_log_err(int err, const char *fmt, ...) _printf_(2, 3);
#define log_err_r(err, ...) bn_log_err(err, __VA_ARGS__)

#define log_error(...) bn_log(BN_ERROR, __VA_ARGS__)
#define log_warn(...) bn_log(BN_WARN, __VA_ARGS__)
#define log_info(...) bn_log(BN_INFO, __VA_ARGS__)
#define log_debug(...) bn_log(BN_DEBUG, __VA_ARGS__)

/* True at most once a `seconds` for this place in the code: for messages that a flood can cause. */
#define bn_log_ratelimit(seconds)                                                                  \
	({                                                                                         \
		static uint64_t _next;                                                             \
		bn_log_due(&_next, (seconds));                                                     \
	})
bool bn_log_due(uint64_t *next_ns, unsigned seconds);

#endif
