/* SPDX-License-Identifier: MIT */
/* The writes that user space asks of the connection table; all are done by bpf/ctl.bpf.c. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <string.h>
#include <time.h>

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

/* --- Another table's entries ------------------------------------------------------------------- */

#define CHUNK 256 /* buckets read at a time: 570 KiB */

struct source {
	uint32_t keys[CHUNK];
	struct bn_ct_head heads[CHUNK];
	struct bn_ct_bucket buckets[CHUNK];
};

/* A stamp holds for the generation that it names; in the other table the entry gets another one. */
static uint64_t stamp_of(uint64_t stamp, uint32_t gen)
{
	return (uint32_t)((stamp & ~BN_CT_STAMP_HTTP) >> 32) == gen ? stamp : 0;
}

/* false: it is not carried. */
static bool portable(struct bn_ct_entry *e, bool same)
{
	if (same) {
		e->eg_stamp = stamp_of(e->eg_stamp, e->gen);
		e->in_stamp = stamp_of(e->in_stamp, e->gen);
		return true;
	}
	if ((e->eg_stamp | e->in_stamp) & BN_CT_STAMP_HTTP)
		return false; /* what its judge knew is lost: it is reset, and does not wait for nothing */
	e->eg_stamp = e->in_stamp = 0;
	e->http = 0;
	e->svc_idx = 0;
	e->svc_gen = 0;
	e->slot = 0;
	return e->key.proto != BN_PROTO_UDP || !(e->flags & BN_CT_F_NAT);
}

static int carry_run(struct ctl_bpf *s, struct bn_ct_carried *ret)
{
	struct bn_ct_carry *c = &s->bss->carry;
	int r = c->n ? run(s->progs.ct_carry) : 0;

	ret->done += c->done;
	ret->known += c->known;
	ret->full += c->full;
	c->n = c->done = c->known = c->full = 0;
	return r;
}

static int carry_bucket(struct ctl_bpf *s, const struct bn_ct_head *h, const struct bn_ct_bucket *b, bool same,
			uint32_t now, struct bn_ct_carried *ret)
{
	struct bn_ct_carry *c = &s->bss->carry;
	int r = 0;

	for (unsigned i = 0; i < BN_CT_WAYS && !r; i++) {
		const struct bn_ct_entry *e = &b->e[i];

		if (!h->tag[i] || (e->gen & 1) || (int32_t)(e->expires - now) <= 0)
			continue;
		c->v[c->n] = *e;
		c->n += portable(&c->v[c->n], same);
		if (c->n == BN_CT_CARRY_MAX)
			r = carry_run(s, ret);
	}
	return r;
}

int bn_ct_carry(const struct bn_maps *m, int heads, int ct, uint32_t buckets, bool same, struct bn_ct_carried *ret)
{
	_cleanup_(freep) struct source *src = malloc(sizeof(*src));
	_cleanup_(destroyp) struct ctl_bpf *s = NULL;
	struct timespec now;
	uint32_t at = 0;
	int r;

	*ret = (struct bn_ct_carried){ 0 };
	if (!src)
		return -ENOMEM;
	clock_gettime(CLOCK_BOOTTIME, &now);
	r = load(m, &s);
	while (!r && at < buckets) {
		uint32_t n = CHUNK, last = at - 1, out;

		/* The batch begins after the key that it is given. ENOENT: it was the last one. */
		if ((bpf_map_lookup_batch(heads, at ? &last : NULL, &out, src->keys, src->heads, &n, NULL) < 0 && errno != ENOENT) ||
		    (bpf_map_lookup_batch(ct, at ? &last : NULL, &out, src->keys, src->buckets, &n, NULL) < 0 && errno != ENOENT))
			return -errno;
		for (uint32_t i = 0; i < n && !r; i++)
			r = carry_bucket(s, &src->heads[i], &src->buckets[i], same, now.tv_sec, ret);
		at += n;
		if (!n)
			break;
	}
	return r ?: carry_run(s, ret);
}
