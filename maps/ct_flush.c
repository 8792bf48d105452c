/* SPDX-License-Identifier: MIT */
/* The two writes that user space asks of the connection table; both are done by bpf/ctl.bpf.c. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <string.h>

#include "maps/ct_access.h"
#include "maps/ct_flush.h"
#include "maps/ct_import.h"
#include "maps/util.h"

#include "ctl.skel.h" /* after the types that it uses */

static void destroyp(struct ctl_bpf **s)
{
	ctl_bpf__destroy(*s);
}

/* Only the table and the program's own data exist for this object. */
static int load(const struct bn_maps *m, struct ctl_bpf **ret)
{
	_cleanup_(destroyp) struct ctl_bpf *s = ctl_bpf__open();
	struct bn_meta_val meta;
	struct bpf_map *map;
	__u32 zero = 0;
	int r;

	if (!s)
		return -errno;
	bpf_object__for_each_map(map, s->obj)
		if (map != s->maps.ct && map != s->maps.ct_heads && map != s->maps.bss &&
		    map != s->maps.rodata)
			bpf_map__set_autocreate(map, false);
	r = bn_map_get(m, BN_MAP_meta, &zero, &meta);
	if (r < 0)
		return r;
	memcpy((void *)s->rodata->cfg_ct_seed, meta.seed, sizeof(meta.seed));
	*(bool *)&s->rodata->cfg_weak_order = bn_weak_order();
	*(__u32 *)&s->rodata->cfg_ct_buckets = m->entries[BN_MAP_ct];
	r = bpf_map__reuse_fd(s->maps.ct, m->fd[BN_MAP_ct]);
	r = r ?: bpf_map__reuse_fd(s->maps.ct_heads, m->fd[BN_MAP_ct_heads]);
	r = r ?: ctl_bpf__load(s);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

static int run(const struct bpf_program *prog)
{
	char packet[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = sizeof(packet),
		    .repeat = 1);

	return bpf_prog_test_run_opts(bpf_program__fd(prog), &opts) < 0 ? -errno : 0;
}

int bn_ct_flush(const struct bn_maps *m, const struct bn_ct_flow *flows, size_t n, size_t *gone)
{
	_cleanup_(destroyp) struct ctl_bpf *s = NULL;
	struct bn_ct_flush *f;
	int r;

	*gone = 0;
	r = load(m, &s);
	if (r < 0)
		return r;
	f = &s->bss->flush;
	for (size_t i = 0; i < n; i++) {
		for (unsigned k = 0; k < flows[i].nplaces; k++)
			f->v[f->n++] = flows[i].place[k];
		if (f->n + 2 <= BN_CT_FLUSH_MAX && i + 1 < n)
			continue;
		f->gone = 0;
		r = run(s->progs.ct_flush);
		if (r < 0)
			return r;
		*gone += f->gone;
		f->n = 0;
	}
	return 0;
}

int bn_ct_import(const struct bn_maps *m, const struct bn_ct_foreign *flows, size_t n,
		 struct bn_ct_imported *ret)
{
	_cleanup_(destroyp) struct ctl_bpf *s = NULL;
	struct bn_ct_import *f;
	int r;

	*ret = (struct bn_ct_imported){ 0 };
	r = load(m, &s);
	if (r < 0)
		return r;
	f = &s->bss->import;
	for (size_t i = 0; i < n && !r; i += f->n) {
		f->n = n - i < BN_CT_IMPORT_MAX ? n - i : BN_CT_IMPORT_MAX;
		memcpy(f->v, flows + i, f->n * sizeof(*flows));
		f->done = f->known = f->full = 0;
		r = run(s->progs.ct_import);
		ret->done += f->done;
		ret->known += f->known;
		ret->full += f->full;
	}
	return r;
}
