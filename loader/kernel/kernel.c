// SPDX-License-Identifier: MIT
#include <bpf/bpf.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "loader/kernel/internal.h"

void bn_kernel_close(struct bn_kernel *k)
{
	if (!k)
		return;
	if (k->p) {
		bn_objects_free(k);
		closep(&k->p->lock);
		json_decref(k->p->notices);
		json_decref(k->p->features);
		json_decref(k->p->devices);
		free(k->p->no_http);
		free(k->p->bpffs);
		free(k->p->links);
		free(k->p->run_dir);
		free(k->p->cgroup);
		free(k->p->ifs);
		free(k->p->later);
		bn_carry_forget(k);
		free(k->p);
	}
	bn_maps_free(k->maps);
	free(k);
}

void bn_kernel_closep(struct bn_kernel **k)
{
	bn_kernel_close(*k);
	*k = NULL;
}

static char *copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

static struct bn_kernel *alloc(const struct bn_opts *opts)
{
	_cleanup_(bn_kernel_closep) struct bn_kernel *k = calloc(1, sizeof(*k));

	if (k)
		k->p = calloc(1, sizeof(*k->p));
	if (!k || !k->p)
		return NULL;
	k->p->lock = -1;
	k->p->jump = -1;
	k->p->old_heads = -1;
	k->p->old_ct = -1;
	k->p->bpffs = copy(opts->bpffs);
	k->p->run_dir = copy(opts->run_dir);
	k->p->cgroup = copy(opts->cgroup);
	k->p->notices = json_array();
	k->p->features = json_object();
	if (asprintf(&k->p->links, "%s/links", opts->bpffs) < 0)
		k->p->links = NULL;
	if (!k->p->bpffs || !k->p->run_dir || !k->p->links || !k->p->notices || !k->p->features)
		return NULL;
	return TAKE_PTR(k);
}

int bn_kernel_preconditions(char **err)
{
	struct rlimit inf = {RLIM_INFINITY, RLIM_INFINITY};
	struct utsname u;
	int r;

	r = bn_probe_caps(err);
	if (r < 0)
		return r;
	if (uname(&u) == 0) {
		r = bn_probe_release(u.release, err);
		if (r < 0)
			return r;
	}
	setrlimit(RLIMIT_MEMLOCK, &inf); /* only matters where the kernel does not count by cgroup */
	return 0;
}

static int prepare_dirs(struct bn_kernel *k, char **err)
{
	int r;

	r = bn_run_dir_prepare(k->p->run_dir, err);
	if (r < 0)
		return r;
	r = bn_bpffs_prepare(k->p->bpffs, err);
	if (r < 0)
		return r;
	r = bn_bpffs_lock(k->p->bpffs, &k->p->lock, err);
	if (r < 0)
		return r;
	r = bn_mkdir_p(k->p->links, 0700);
	if (r < 0)
		return bn_kerr(err, r, "cannot create '%s': %s", k->p->links, strerror(-r));
	if (!k->p->cgroup)
		bn_cgroup2_find(&k->p->cgroup); /* bn_kernel_attach_cgroup says it when there is none */
	r = bn_netns_cookie(&k->p->netns_cookie);
	if (r < 0)
		return bn_kerr(err, r, "cannot tell the network namespace: %s", strerror(-r));
	return 0;
}

int bn_kernel_open(const struct bn_opts *opts, struct bn_kernel **ret, char **err)
{
	_cleanup_(bn_kernel_closep) struct bn_kernel *k = NULL;
	const char *tc = getenv("BPFNET_TC"); /* for tests: "clsact" where tcx would be used */
	int r;

	r = bn_kernel_preconditions(err);
	if (r < 0)
		return r;
	k = alloc(opts);
	if (!k)
		return bn_kerr(err, -ENOMEM, "out of memory");
	r = prepare_dirs(k, err);
	if (r < 0)
		return r;
	bn_libbpf_capture();
	k->p->clsact = (tc && !strcmp(tc, "clsact")) || !bn_probe_tcx();
	json_object_update_new(k->p->features, bn_probe_features());
	json_object_set_new(k->p->features, "attach", json_string(k->p->clsact ? "clsact" : "tcx"));
	/* Before anything is pinned: what is in force can always be cleaned up by its record. */
	r = bn_record_write(k, err);
	if (r < 0)
		return r;
	r = bn_pins_adopt(k, opts, err);
	if (r < 0)
		return r;
	r = bn_objects_load(k, opts, err);
	if (r < 0)
		return r;
	json_object_set_new(k->p->features, "http", json_boolean(!k->p->no_http));
	if (k->p->beside) {
		*ret = TAKE_PTR(k);
		return 0;
	}
	r = bn_carry_end(k, err);
	if (r < 0)
		return r;
	r = bn_programs_pin(k);
	if (r < 0)
		bn_knote(k, "bpfnet-cni cannot isolate pods while bpfnetd is down: pinning programs: %s",
			 strerror(-r));
	*ret = TAKE_PTR(k);
	return 0;
}

const json_t *bn_kernel_notices(const struct bn_kernel *k)
{
	return k->p->notices;
}

const char *bn_kernel_no_http(const struct bn_kernel *k)
{
	return k->p->no_http;
}

json_t *bn_kernel_features(const struct bn_kernel *k)
{
	return json_deep_copy(k->p->features);
}
