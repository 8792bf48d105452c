// SPDX-License-Identifier: MIT
/* libbpf prints to stderr by itself, in several lines, also about what it then manages. Its messages
 * are kept here and shown only with the error that they explain.
 */
#include <string.h>

#include "loader/kernel/internal.h"

#define KEEP 16384
#define LAST_LINES 14

/* Objects are loaded in threads, each with messages of its own. */
static _Thread_local char kept[KEEP + 1];
static _Thread_local size_t nkept;

static int keep(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	_cleanup_(freep) char *text = NULL;
	const char *p;
	size_t n;
	int len;

	if (level == LIBBPF_DEBUG)
		return 0;
	len = vasprintf(&text, fmt, ap); /* a verifier log is one argument: up to 16 MB */
	if (len < 0) {
		text = NULL;
		return 0;
	}
	n = (size_t)len > KEEP ? KEEP : (size_t)len;
	p = text + len - n;
	if (nkept + n > KEEP) {
		size_t cut = nkept + n - KEEP;

		memmove(kept, kept + cut, nkept - cut);
		nkept -= cut;
	}
	memcpy(kept + nkept, p, n);
	nkept += n;
	kept[nkept] = '\0';
	return len;
}

void bn_libbpf_capture(void)
{
	nkept = 0;
	kept[0] = '\0';
	libbpf_set_print(keep);
}

const char *bn_libbpf_last(void)
{
	const char *p = kept + nkept;
	int lines = 0;

	while (p > kept) {
		if (p[-1] == '\n' && p != kept + nkept && ++lines == LAST_LINES)
			break;
		p--;
	}
	return p;
}
