// SPDX-License-Identifier: MIT
/* loader/kernel/carry.c: from one set of maps to another, on the real kernel. As root. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "tests/bpf/kern_env.h"

static uint32_t veth(const char *name)
{
	assert_int_equal(sh("ip link add %s type veth peer name %s-p && ip link set %s up && "
			    "ip link set %s-p up", name, name, name, name), 0);
	return if_nametoindex(name);
}

static void del(const char *name)
{
	assert_int_equal(sh("ip link del %s", name), 0);
}

/* Which program of ours an interface's ingress has. */
static uint32_t program(const struct bn_kernel *k, const char *name)
{
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = BN_TC_HANDLE, .priority = BN_TC_PRIO);
	LIBBPF_OPTS(bpf_tc_hook, h, .ifindex = (int)if_nametoindex(name), .attach_point = BPF_TC_INGRESS);
	_cleanup_(closep) int fd = -1;
	char pin[64], path[4096];
	struct bn_link info;

	if (k->p->clsact)
		return bpf_tc_query(&h, &o) < 0 ? 0 : o.prog_id;
	bn_pin_name(k, pin, sizeof(pin), "tcx", if_nametoindex(name), "in");
	assert_int_equal(bn_link_path(k, path, sizeof(path), pin), 0);
	fd = bpf_obj_get(path);
	return fd < 0 || bn_link_info(fd, &info) < 0 ? 0 : info.prog_id;
}

static void cleanup(struct kenv *e)
{
	_cleanup_(freep) char *err = NULL;
	json_t *report = NULL;
	int r = bn_kernel_cleanup(e->run, NULL, &report, &err);

	if (r < 0)
		fprintf(stderr, "cleanup: %s\n", err);
	assert_int_equal(r, 0);
	json_decref(report);
	assert_int_equal(access(e->pins, F_OK), -1);
	assert_int_equal(access(e->run, F_OK), -1);
}

static uint32_t pinned_id(const struct kenv *e, const char *name)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", e->pins, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &len), 0);
	close(fd);
	return info.id;
}

static uint32_t own_id(const struct bn_kernel *k, enum bn_map map)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(k->maps->fd[map], &info, &len), 0);
	return info.id;
}

/* Another version's pins are in force, untouched, until the switch; then ours are, all of them, and what only the other
 * version knows is gone.
 */
static void another_version_is_replaced_at_once(void **state)
{
	struct kenv *e = *state;
	struct bn_kernel *k = kenv_open(e);
	_cleanup_(freep) char *err = NULL;
	struct bn_meta_val m;
	__u32 zero = 0;
	uint32_t id, before, first;
	char path[128];
	int fd;

	assert_false(bn_kernel_beside(k));
	assert_int_equal(bn_kernel_attach_iface(k, veth("kern1"), BN_ROLE_POD, NULL), 0);
	before = program(k, "kern1");
	assert_int_not_equal(before, 0);
	assert_int_equal(bn_map_get(k->maps, BN_MAP_meta, &zero, &m), 0);
	m.schema += 1;
	assert_int_equal(bn_map_put(k->maps, BN_MAP_meta, &zero, &m), 0);
	bn_kernel_closep(&k);
	id = pinned_id(e, "svcs");
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "of_tomorrow", 4, 32, 16, NULL);
	snprintf(path, sizeof(path), "%s/of_tomorrow", e->pins);
	assert_int_equal(bpf_obj_pin(fd, path), 0);
	close(fd);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(bn_kernel_open(&e->opts, &k, &err), 0);
		assert_true(bn_kernel_beside(k));
		assert_int_equal(pinned_id(e, "svcs"), id);
		assert_int_not_equal(own_id(k, BN_MAP_svcs), id);
		/* What has its programs keeps them; what has none is not left without. */
		assert_int_equal(bn_kernel_attach_iface(k, if_nametoindex("kern1"), BN_ROLE_POD, NULL), 0);
		assert_int_equal(program(k, "kern1"), before);
		if (!i)
			bn_kernel_closep(&k); /* killed while it waits for its source */
	}
	assert_int_equal(bn_kernel_attach_iface(k, veth("kern2"), BN_ROLE_POD, NULL), 0);
	first = program(k, "kern2");
	assert_true(first && first != before);
	assert_int_equal(bn_kernel_switch(k, &err), 0);
	assert_false(bn_kernel_beside(k));
	assert_int_equal(program(k, "kern1"), first);
	for (int i = 0; i < BN_MAP__MAX; i++)
		assert_int_equal(pinned_id(e, bn_map_name(i)), own_id(k, i));
	assert_int_equal(pinned_id(e, "of_tomorrow"), 0);
	/* Nor is clean-up held up by it. */
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "of_tomorrow", 4, 32, 16, NULL);
	assert_int_equal(bpf_obj_pin(fd, path), 0);
	close(fd);
	bn_kernel_closep(&k);
	bn_kernel_close(kenv_open(e));
	cleanup(e);
	del("kern1");
	del("kern2");

	/* Of one map only; of a directory that somebody else made, never. */
	bn_kernel_close(kenv_open(e));
	snprintf(path, sizeof(path), "%s/svcs", e->pins);
	assert_int_equal(unlink(path), 0);
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "svcs", 4, 32, 16, NULL);
	assert_int_equal(bpf_obj_pin(fd, path), 0);
	close(fd);
	assert_int_equal(bn_kernel_open(&e->opts, &k, &err), 0);
	assert_true(bn_kernel_beside(k));
	assert_int_equal(bn_kernel_switch(k, &err), 0);
	m.magic++;
	assert_int_equal(bn_map_put(k->maps, BN_MAP_meta, &zero, &m), 0);
	bn_kernel_closep(&k);
	assert_int_equal(bn_kernel_open(&e->opts, &k, &err), -EMEDIUMTYPE);
	assert_non_null(strstr(err, "is not bpfnet's"));
	cleanup(e);
}

/* --ct-max asks for a larger table; starts that were killed while its flows were carried. */
static void table_grows(void **state)
{
	static const char *const names[] = {"meta", "ct_heads", "ct"};
	struct kenv *e = *state;
	struct bn_opts larger = e->opts;
	struct bn_kernel *k = kenv_open(e);
	char from[128], to[128];
	uint32_t id, buckets;

	buckets = k->maps->entries[BN_MAP_ct];
	larger.ct_flows = 2 * e->opts.ct_flows;
	id = own_id(k, BN_MAP_ct);
	bn_kernel_closep(&k);
	/* Killed among the renames: the old table is the one in force. */
	for (int i = 0; i < 2; i++) {
		snprintf(from, sizeof(from), "%s/%s", e->pins, names[i]);
		snprintf(to, sizeof(to), "%s/%s_old", e->pins, names[i]);
		assert_int_equal(rename(from, to), 0);
	}
	k = kenv_open(e);
	assert_int_equal(own_id(k, BN_MAP_ct), id);
	assert_int_equal(pinned_id(e, "meta_old"), 0);
	bn_kernel_closep(&k);
	assert_int_equal(bn_kernel_open(&larger, &k, NULL), 0);
	assert_false(bn_kernel_beside(k));
	assert_true(k->maps->entries[BN_MAP_ct] > buckets * 3 / 2);
	assert_int_equal(k->maps->entries[BN_MAP_ct_heads], k->maps->entries[BN_MAP_ct]);
	assert_int_not_equal(own_id(k, BN_MAP_ct), id);
	assert_int_equal(pinned_id(e, "ct"), own_id(k, BN_MAP_ct));
	assert_int_equal(pinned_id(e, "ct_old"), 0);
	bn_kernel_closep(&k);
	k = kenv_open(e); /* nobody asked for a smaller one */
	assert_true(k->maps->entries[BN_MAP_ct] > buckets * 3 / 2);
	bn_kernel_closep(&k);
	cleanup(e);
}

#define TEST(f) cmocka_unit_test_setup(f, kenv_fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(another_version_is_replaced_at_once),
		TEST(table_grows),
	};
	int r = cmocka_run_group_tests_name("upgrade", tests, kenv_setup, kenv_teardown);

	if (!kenv_tcx())
		return r;
	setenv("BPFNET_TC", "clsact", 1);
	return r + cmocka_run_group_tests_name("clsact", tests, kenv_setup, kenv_teardown);
}
