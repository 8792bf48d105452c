/* SPDX-License-Identifier: MIT */
#include "maps/sk_list.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <string.h>

#include "maps/util.h"

#include "socks.skel.h" /* after the types that it uses */

struct bn_sk_list {
	struct socks_bpf *skel;
	struct bpf_link *link, *files; /* files: NULL unless all are asked for */
};

void bn_sk_list_freep(struct bn_sk_list **lp)
{
	struct bn_sk_list *l = *lp;

	if (!l)
		return;
	*lp = NULL;
	bpf_link__destroy(l->link);
	bpf_link__destroy(l->files);
	socks_bpf__destroy(l->skel);
	free(l);
}

/* Only these two maps exist for this object. */
static int load(struct bn_sk_list *l, const struct bn_maps *m, bool all)
{
	struct bpf_map *map;
	int r;

	l->skel = socks_bpf__open();
	if (!l->skel)
		return -errno;
	bpf_object__for_each_map(map, l->skel->obj)
		if (map != l->skel->maps.sk_peers && map != l->skel->maps.sk_tcp)
			bpf_map__set_autocreate(map, false);
	bpf_program__set_autoload(l->skel->progs.list_files, all);
	r = bpf_map__reuse_fd(l->skel->maps.sk_peers, m->fd[BN_MAP_sk_peers]);
	r = r ? r : bpf_map__reuse_fd(l->skel->maps.sk_tcp, m->fd[BN_MAP_sk_tcp]);
	return r ? r : socks_bpf__load(l->skel);
}

int bn_sk_list_new(const struct bn_maps *m, bool all, struct bn_sk_list **ret)
{
	_cleanup_(bn_sk_list_freep) struct bn_sk_list *l = calloc(1, sizeof(*l));
	LIBBPF_OPTS(bpf_iter_attach_opts, opts);
	union bpf_iter_link_info info = {};
	int r;

	if (!l)
		return -ENOMEM;
	r = load(l, m, all);
	if (r < 0)
		return r;
	info.map.map_fd = m->fd[BN_MAP_sk_peers];
	opts.link_info = &info;
	opts.link_info_len = sizeof(info);
	l->link = bpf_program__attach_iter(l->skel->progs.list_socks, &opts);
	if (!l->link)
		return -errno;
	if (all) {
		l->files = bpf_program__attach_iter(l->skel->progs.list_files, NULL);
		if (!l->files)
			return -errno;
	}
	*ret = TAKE_PTR(l);
	return 0;
}

/* What a read gives ends at a record's end only as a whole: what is over waits for the next one. */
static int each(const struct bpf_link *link, bn_sk_fn fn, void *data)
{
	_cleanup_(closep) int fd = bpf_iter_create(bpf_link__fd(link));
	struct bn_sk_rec rec[64];
	size_t have = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n = read(fd, (char *)rec + have, sizeof(rec) - have);
		size_t i;

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		have += n;
		for (i = 0; i < have / sizeof(*rec); i++) {
			int r = fn(&rec[i], data);

			if (r)
				return r;
		}
		have %= sizeof(*rec);
		memmove(rec, &rec[i], have);
	}
}

/* Which of them were told already, by the place that they have. */
struct once {
	__u64 seen[BN_SK_TCPS];
	bn_sk_fn fn;
	void *data;
};

static int tell_once(const struct bn_sk_rec *r, void *data)
{
	struct once *o = data;

	for (int i = 0; i < 2; i++) {
		__u64 *place = &o->seen[bn_sk_tcp_place(r->cookie, i)];

		if (*place == r->cookie)
			return 0;
		if (*place)
			continue;
		*place = r->cookie;
		break;
	}
	return o->fn(r, o->data);
}

int bn_sk_each(const struct bn_sk_list *l, bn_sk_fn fn, void *data)
{
	_cleanup_(freep) struct once *o = NULL;
	int r = each(l->link, fn, data);

	if (r || !l->files)
		return r;
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->fn = fn;
	o->data = data;
	return each(l->files, tell_once, o);
}

const struct bn_sk_peer *bn_sk_waits_for(const struct bn_sk_rec *r)
{
	for (int i = 0; r->connected && i < BN_SK_PEERS; i++) {
		const struct bn_sk_peer *p = &r->peers.p[i];

		if (p->front_port && p->front_port == r->dport && bn_addr_eq(&p->front, &r->dst))
			return p;
	}
	return NULL;
}

const struct bn_sk_peer *bn_sk_connected_by(const struct bn_sk_rec *r)
{
	for (int i = 0; r->connected && i < BN_SK_PEERS; i++) {
		const struct bn_sk_peer *p = &r->peers.p[i];

		if (p->front_port && p->back_port == r->dport && bn_addr_eq(&p->back, &r->dst))
			return p;
	}
	return NULL;
}
