// SPDX-License-Identifier: MIT
/* How much of the verifier's work a program is. Kernels differ: http_pod took 591,000 instructions of Linux 6.18's and
 * more than the million that there are of 7.3's, another time 442,000 and 465,000. What stays below the limit here has
 * room elsewhere. And it is most of what a start of the daemon costs (docs/PERFORMANCE.md): 137,000 for http_pod and
 * 380,000 for all of them when this was written.
 */
#include <bpf/bpf.h>

#include "tests/bpf/kern_env.h"

#define INSNS_MAX 200000u
#define ALL_MAX	  460000u

static void programs_have_room(void **state)
{
	struct kenv *e = *state;
	struct bn_kernel *k = kenv_open(e);
	unsigned n = 0, all = 0;

	assert_null(bn_kernel_no_http(k));
	assert_true(bn_objects_prog(k, "xdp_net", NULL) >= 0);
	for (uint32_t i = 0; i < k->p->nprogs; i++) {
		struct bpf_prog_info info = {};
		__u32 len = sizeof(info);

		assert_int_equal(bpf_obj_get_info_by_fd(k->p->progs[i].fd, &info, &len), 0);
		print_message("%-16s %6u instructions verified\n", k->p->progs[i].name, info.verified_insns);
		assert_in_range(info.verified_insns, 1, INSNS_MAX);
		all += info.verified_insns;
		n++;
	}
	print_message("%-16s %6u\n", "all", all);
	assert_in_range(all, 1, ALL_MAX);
	assert_true(n >= 10);
	bn_kernel_closep(&k);
}

/* What no uplink wants is not loaded; once it is asked for it is, once. */
static void xdp_when_wanted(void **state)
{
	struct kenv *e = *state;
	struct bn_kernel *k = kenv_open(e);
	int fd;

	assert_int_equal(bn_kernel_prog_fd(k, "xdp_net"), -ENOENT);
	fd = bn_objects_prog(k, "xdp_net", NULL);
	assert_true(fd >= 0);
	assert_int_equal(bn_objects_prog(k, "xdp_net", NULL), fd);
	assert_int_equal(bn_kernel_prog_fd(k, "xdp_net"), fd);
	assert_int_equal(bn_objects_prog(k, "no_such_program", NULL), -ENOENT);
	bn_kernel_closep(&k);

	e->opts.xdp = BN_XDP_NATIVE;
	k = kenv_open(e);
	assert_true(bn_kernel_prog_fd(k, "xdp_net") >= 0);
	bn_kernel_closep(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(xdp_when_wanted, kenv_setup, kenv_teardown),
		cmocka_unit_test_setup_teardown(programs_have_room, kenv_setup, kenv_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
