// SPDX-License-Identifier: MIT
/* Adopting the maps that are pinned, making and pinning those that are not.
 *
 * Pins that fit are taken with their content. A pin that is missing while programs that use its map
 * are still attached (somebody deleted the file) is recovered from those programs. What is another version's
 * is left alone until everything is in maps of this one (carry.c).
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/kernel/internal.h"

struct adopt {
	int fd[BN_MAP__MAX];	 /* -1: to be made */
	bool pinned[BN_MAP__MAX];
	uint32_t want[BN_MAP__MAX];
};

static void adopt_done(struct adopt *a)
{
	for (int i = 0; i < BN_MAP__MAX; i++)
		closep(&a->fd[i]);
}

static int pin_path(const struct bn_kernel *k, char *buf, size_t n, const char *name)
{
	int len = snprintf(buf, n, "%s/%s", k->p->bpffs, name);

	return len < 0 || (size_t)len >= n ? -ENAMETOOLONG : 0;
}

/* A pin appears complete or not at all, also over an older one. */
int bn_pin_map(const struct bn_kernel *k, enum bn_map map, int fd, char **err)
{
	char path[4096], tmp[4096], name[64];
	int r;

	snprintf(name, sizeof(name), "tmp_%s", bn_map_name(map));
	r = pin_path(k, path, sizeof(path), bn_map_name(map));
	r = r ?: pin_path(k, tmp, sizeof(tmp), name);
	if (r < 0)
		return bn_kerr(err, r, "--bpffs '%s' is too long", k->p->bpffs);
	unlink(tmp);
	if (bpf_obj_pin(fd, tmp) < 0 || rename(tmp, path) < 0)
		return bn_kerr(err, -errno, "cannot pin map '%s' as '%s': %s", bn_map_name(map), path,
			       strerror(errno));
	return 0;
}

/* *schema: of the layout in which the maps are. */
static int check_meta(const struct bn_kernel *k, int fd, uint32_t *schema, char **err)
{
	struct bn_maps m = {.fd[BN_MAP_meta] = fd};
	struct bn_meta_val v = {};
	__u32 zero = 0;

	if (!bn_maps_fits(BN_MAP_meta, fd, NULL) || bn_map_get(&m, BN_MAP_meta, &zero, &v) < 0 ||
	    v.magic != BN_META_MAGIC)
		return bn_kerr(err, -EMEDIUMTYPE,
			       "'%s/meta' is not bpfnet's: choose another --bpffs, or remove it with "
			       "'bpfnet cleanup'", k->p->bpffs);
	*schema = v.schema;
	return 0;
}

/* Maps of the programs that are attached by our links, for those whose pin is gone. */
static void recover_from(struct adopt *a, int prog_fd)
{
	struct bpf_prog_info info = {};
	__u32 ids[64], len = sizeof(info);

	info.nr_map_ids = ARRAY_SIZE(ids);
	info.map_ids = (uintptr_t)ids;
	if (bpf_obj_get_info_by_fd(prog_fd, &info, &len) < 0)
		return;
	for (__u32 i = 0; i < info.nr_map_ids && i < ARRAY_SIZE(ids); i++) {
		_cleanup_(closep) int fd = bpf_map_get_fd_by_id(ids[i]);
		struct bpf_map_info mi = {};
		__u32 mlen = sizeof(mi);
		enum bn_map map;

		if (fd < 0 || bpf_obj_get_info_by_fd(fd, &mi, &mlen) < 0)
			continue;
		map = bn_map_by_name(mi.name);
		if (map < BN_MAP__MAX && a->fd[map] < 0 && bn_maps_fits(map, fd, NULL))
			a->fd[map] = TAKE_FD(fd);
	}
}

static void recover(const struct bn_kernel *k, struct adopt *a)
{
	DIR *d = opendir(k->p->links);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		_cleanup_(closep) int link = -1, prog = -1;
		char path[4096];
		struct bn_link info;

		if (e->d_name[0] == '.' || bn_link_path(k, path, sizeof(path), e->d_name) < 0)
			continue;
		if (!strncmp(e->d_name, "prog_", 5)) {
			prog = bpf_obj_get(path);
		} else {
			link = bpf_obj_get(path);
			if (link < 0 || bn_link_info(link, &info) < 0)
				continue;
			prog = bpf_prog_get_fd_by_id(info.prog_id);
		}
		if (prog >= 0)
			recover_from(a, prog);
	}
	if (d)
		closedir(d);
}

static int find_pins(struct bn_kernel *k, struct adopt *a, char **err)
{
	unsigned missing = 0;

	for (int i = 0; i < BN_MAP__MAX; i++) {
		char path[4096];
		int r = pin_path(k, path, sizeof(path), bn_map_name(i));

		if (r < 0)
			return bn_kerr(err, r, "--bpffs '%s' is too long", k->p->bpffs);
		a->fd[i] = bpf_obj_get(path);
		if (a->fd[i] < 0 && errno != ENOENT)
			return bn_kerr(err, -errno, "cannot open the pinned map '%s': %s", path,
				       strerror(errno));
		a->pinned[i] = a->fd[i] >= 0;
		missing += !a->pinned[i];
	}
	if (missing && missing < BN_MAP__MAX) {
		recover(k, a);
		for (int i = 0; i < BN_MAP__MAX; i++)
			if (!a->pinned[i] && a->fd[i] >= 0)
				bn_knote(k, "pin of map '%s' was missing: recovered from the attached "
					 "programs", bn_map_name(i));
	}
	return 0;
}

/* Maps whose content only the daemon writes: may be copied into larger ones. */
static bool daemon_owned(enum bn_map map)
{
	return map != BN_MAP_meta && map != BN_MAP_ct && map != BN_MAP_ct_heads && map != BN_MAP_affinity &&
	       map != BN_MAP_sk_rev && map != BN_MAP_sk_peers && map != BN_MAP_sk_tcp &&
	       map != BN_MAP_drops && map != BN_MAP_hook_stats &&
	       map != BN_MAP_rule_stats && map != BN_MAP_events && map != BN_MAP_state &&
	       map != BN_MAP_http_conns && map != BN_MAP_http_blocks && map != BN_MAP_http_sets &&
	       map != BN_MAP_http_shares &&
	       map != BN_MAP_http_stats && map != BN_MAP_http_reasons;
}

struct copy {
	const struct bn_maps *to;
	enum bn_map map;
};

static int copy_one(const void *key, const void *val, void *data)
{
	const struct copy *c = data;

	return bn_map_put(c->to, c->map, key, val);
}

/* A larger map takes over an older one's content; programs of the older daemon go on with the old
 * one until they are replaced, and nobody writes to either meanwhile.
 */
static int grow(struct bn_kernel *k, const struct bn_maps *m, enum bn_map map, int old, char **err)
{
	struct bn_maps from = {};
	int r = 0;

	from.fd[map] = old;
	if (!m->mem[map])
		r = bn_map_each(&from, map, copy_one, &(struct copy){m, map});
	else
		r = bn_map_copy_memory(m, map, old);
	if (r < 0)
		return bn_kerr(err, r, "cannot copy map '%s' into its larger version: %s",
			       bn_map_name(map), strerror(-r));
	bn_knote(k, "map '%s' has grown to %u entries", bn_map_name(map), m->entries[map]);
	return 0;
}

/* A table that holds more is made, and takes over what is in this one. */
static bool larger_table(struct bn_kernel *k, struct adopt *a, uint32_t have, enum bn_map map)
{
	if ((map != BN_MAP_ct && map != BN_MAP_ct_heads) || a->fd[BN_MAP_ct] < 0 || k->p->old_ct >= 0 ||
	    have >= a->want[BN_MAP_ct])
		return false;
	k->p->old_heads = TAKE_FD(a->fd[BN_MAP_ct_heads]);
	k->p->old_ct = TAKE_FD(a->fd[BN_MAP_ct]);
	closep(&a->fd[BN_MAP_meta]); /* other seeds */
	bn_knote(k, "map 'ct' grows from %u to %u buckets; its flows are carried over", have, a->want[BN_MAP_ct]);
	return true;
}

/* Decides for every pinned map: adopt (its descriptor stays), or grow (it moves to old[]). false: one has
 * another layout than this version's.
 */
static bool judge(struct bn_kernel *k, struct adopt *a, int old[BN_MAP__MAX])
{
	for (int i = 0; i < BN_MAP__MAX; i++)
		if (a->fd[i] >= 0 && !bn_maps_fits(i, a->fd[i], NULL)) {
			bn_knote(k, "pinned map '%s/%s' has another type or layout than this version's",
				 k->p->bpffs, bn_map_name(i));
			return false;
		}
	for (int i = 0; i < BN_MAP__MAX; i++) {
		uint32_t have = 0;

		if (a->fd[i] < 0)
			continue;
		bn_maps_fits(i, a->fd[i], &have);
		if (have == a->want[i] || larger_table(k, a, have, i))
			continue;
		if (daemon_owned(i) && have < a->want[i])
			old[i] = TAKE_FD(a->fd[i]);
		/* Nobody is told that one is larger than needed, unless he asked for a size. Tags go with ct. */
		else if (i == BN_MAP_ct || i == BN_MAP_slots || i == BN_MAP_http_conns || (have < a->want[i] && i != BN_MAP_ct_heads))
			bn_knote(k, "map '%s' stays at its %u entries (%u were asked): its content is kept; "
				 "'bpfnet cleanup' before the start gives it the new size",
				 bn_map_name(i), have, a->want[i]);
	}
	return true;
}

/* Another version's maps: none is adopted. What its connection table holds is understood if its layout is this
 * version's.
 */
static void make_beside(struct bn_kernel *k, struct adopt *a, uint32_t schema)
{
	if (schema == BN_SCHEMA && a->fd[BN_MAP_ct] >= 0 && bn_maps_fits(BN_MAP_ct, a->fd[BN_MAP_ct], NULL) &&
	    a->fd[BN_MAP_ct_heads] >= 0 && bn_maps_fits(BN_MAP_ct_heads, a->fd[BN_MAP_ct_heads], NULL)) {
		k->p->old_heads = TAKE_FD(a->fd[BN_MAP_ct_heads]);
		k->p->old_ct = TAKE_FD(a->fd[BN_MAP_ct]);
	}
	adopt_done(a);
	memset(a->pinned, 0, sizeof(a->pinned));
	k->p->beside = true;
	bn_knote(k, "the maps in '%s' are another version's (layout %u, this version's is %u): its programs stay in "
		 "force until all is in maps of this version; connections through Services %s then", k->p->bpffs,
		 schema, BN_SCHEMA, k->p->old_ct >= 0 ? "are carried over" : "that its programs translate are lost");
}

static void wanted_sizes(struct adopt *a, struct bn_maps_sizes *sizes, const struct bn_opts *opts)
{
	memset(sizes, 0, sizeof(*sizes));
	if (opts->ct_flows) {
		uint64_t n = BN_CT_BUCKETS_ASKED(opts->ct_flows);

		sizes->entries[BN_MAP_ct] = n > (1u << 24) ? 1u << 24 : n;
		sizes->entries[BN_MAP_ct_heads] = sizes->entries[BN_MAP_ct];
	}
	if (opts->http_conns)
		sizes->entries[BN_MAP_http_conns] = opts->http_conns;
	if (opts->max_backends)
		sizes->entries[BN_MAP_slots] = opts->max_backends;
	if (opts->lb_mode != BN_LB_SNAT) /* else the addresses of nodes are all that it holds */
		sizes->entries[BN_MAP_dsr] = BN_DSR_ADDRS;
	for (int i = 0; i < BN_MAP__MAX; i++)
		a->want[i] = sizes->entries[i] ?: bn_map_defs[i].entries;
}

static void drop_leftovers(const struct bn_kernel *k)
{
	DIR *d = opendir(k->p->bpffs);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (!strncmp(e->d_name, "tmp_", 4))
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
}

/* Tags without entries, or entries without tags, are no table. */
static void drop_half_a_table(struct adopt *a)
{
	uint32_t heads = 0, buckets = 0;

	if (a->fd[BN_MAP_ct] >= 0 && a->fd[BN_MAP_ct_heads] >= 0 &&
	    bn_maps_fits(BN_MAP_ct, a->fd[BN_MAP_ct], &buckets) ==
		    bn_maps_fits(BN_MAP_ct_heads, a->fd[BN_MAP_ct_heads], &heads) &&
	    heads == buckets)
		return;
	closep(&a->fd[BN_MAP_ct]);
	closep(&a->fd[BN_MAP_ct_heads]);
}

int bn_pins_adopt(struct bn_kernel *k, const struct bn_opts *opts, char **err)
{
	_cleanup_(adopt_done) struct adopt a;
	_cleanup_(bn_maps_freep) struct bn_maps *m = NULL;
	uint32_t schema = BN_SCHEMA;
	struct bn_maps_sizes sizes;
	int old[BN_MAP__MAX], r;

	memset(&a, 0, sizeof(a));
	memset(a.fd, 0xff, sizeof(a.fd));
	memset(old, 0xff, sizeof(old));
	drop_leftovers(k);
	bn_carry_resume(k);
	wanted_sizes(&a, &sizes, opts);
	r = find_pins(k, &a, err);
	if (r < 0)
		return r;
	if (a.fd[BN_MAP_meta] >= 0)
		r = check_meta(k, a.fd[BN_MAP_meta], &schema, err);
	else
		closep(&a.fd[BN_MAP_ct]); /* its entries mean nothing without the seeds */
	if (r < 0)
		return r;
	if (schema == BN_SCHEMA)
		drop_half_a_table(&a);
	if (schema != BN_SCHEMA || !judge(k, &a, old))
		make_beside(k, &a, schema);
	r = bn_maps_create_sharing(&sizes, a.fd, &m);
	if (r < 0)
		bn_kerr(err, r, "cannot create the maps: %s\n%s", strerror(-r), bn_libbpf_last());
	for (int i = 0; i < BN_MAP__MAX && r == 0; i++)
		if (old[i] >= 0)
			r = grow(k, m, i, old[i], err);
	if (r == 0) {
		k->maps = TAKE_PTR(m);
		r = bn_carry_begin(k, err);
	}
	/* meta last: without it the next start begins anew. */
	for (int i = BN_MAP__MAX - 1; i >= 0 && r == 0 && !k->p->beside; i--)
		if (!a.pinned[i] || a.fd[i] < 0)
			r = bn_pin_map(k, i, k->maps->fd[i], err);
	for (int i = 0; i < BN_MAP__MAX; i++)
		closep(&old[i]);
	return r;
}
