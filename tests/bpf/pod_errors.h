/* SPDX-License-Identifier: MIT */
#ifndef BN_TEST_POD_ERRORS_H
#define BN_TEST_POD_ERRORS_H

/* Rows of ICMP errors: what each quotes, and what becomes of it. */
#include "pod_env.h"

struct err_row {
	const char *name;
	struct run r;
	struct icmp_err e;
	struct pk quoted;
	int verdict;
	uint32_t drop;
	struct icmp_err out; /* s == d: unchanged */
	struct pk out_quoted;
	uint16_t quote;
};

static _unused_ void err_run(struct env *e, const struct err_row *w, int v6)
{
	struct frame q, in, out;
	struct icmp_err x = w->e;
	char name[160];

	x.type4 = 3;
	x.code4 = 4;
	x.type6 = 2;
	x.rest = 1280;
	x.quote = w->quote ? w->quote : 1200;
	snprintf(name, sizeof(name), "v%d error %s", v6 ? 6 : 4, w->name);
	build(&q, &w->quoted, v6);
	build_icmp_err(&in, &x, &q, v6);
	out = in;
	if (w->out.s != w->out.d) {
		x.s = w->out.s;
		x.d = w->out.d;
		build(&q, &w->out_quoted, v6);
		build_icmp_err(&out, &x, &q, v6);
	}
	expect(e, name, &w->r, &in, w->verdict, w->drop, w->verdict == SHOT ? NULL : &out);
}

#define ERRS(e, ...)                                                                               \
	do {                                                                                       \
		const struct err_row rows_[] = {__VA_ARGS__};                                      \
		for (int v6 = 0; v6 < 2; v6++)                                                     \
			for (size_t i = 0; i < ARRAY_SIZE(rows_); i++)                             \
				err_run(e, &rows_[i], v6);                                         \
	} while (0)

#endif
