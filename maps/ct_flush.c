/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <string.h>

#include "maps/ct_access.h"
#include "maps/ct_flush.h"
#include "maps/util.h"

#include "ctl.skel.h" /* after the types that it uses */

static void destroyp(struct ctl_bpf **s)
{
	ctl_bpf__destroy(*s);
}

/* Only ct and the program's own data exist for this object. */
static int load(const struct bn_maps *m, struct ctl_bpf **ret)
{
	_cleanup_(destroyp) struct ctl_bpf *s = ctl_bpf__open();
	struct bpf_map *map;
	int r;

	if (!s)
		return -errno;
	bpf_object__for_each_map(map, s->obj)
		if (map != s->maps.ct && map != s->maps.bss)
			bpf_map__set_autocreate(map, false);
	r = bpf_map__reuse_fd(s->maps.ct, m->fd[BN_MAP_ct]);
	r = r ?: ctl_bpf__load(s);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

static int run(struct ctl_bpf *s)
{
	char packet[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = sizeof(packet),
		    .repeat = 1);

	s->bss->flush.gone = 0;
	return bpf_prog_test_run_opts(bpf_program__fd(s->progs.ct_flush), &opts) < 0 ? -errno : 0;
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
		r = run(s);
		if (r < 0)
			return r;
		*gone += f->gone;
		f->n = 0;
	}
	return 0;
}
