// SPDX-License-Identifier: MIT
/* loader/kernel: the pin directory, adoption, attachment and clean-up, on the real kernel. As root. */
#include <bpf/bpf.h>

#include "tests/bpf/kern_env.h"

static void opens_and_locks(void **state)
{
	struct kenv *e = *state;
	_cleanup_(bn_kernel_closep) struct bn_kernel *k = kenv_open(e);
	_cleanup_(freep) char *err = NULL;
	struct bn_kernel *second = NULL;
	json_t *f = bn_kernel_features(k);

	assert_int_equal(bn_kernel_open(&e->opts, &second, &err), -EBUSY);
	assert_non_null(strstr(err, "another bpfnetd"));
	assert_null(second);
	assert_true(json_is_string(json_object_get(f, "kernel")));
	assert_true(json_is_true(json_object_get(f, "tcx")));
	json_decref(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_and_locks),
	};

	return cmocka_run_group_tests_name("kernel", tests, kenv_setup, kenv_teardown);
}
