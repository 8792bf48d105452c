// SPDX-License-Identifier: MIT
/* From one set of maps to another while packets flow.
 *
 * Only the connection table is another one (--ct-max asks for more): everything else is adopted. Its flows
 * are copied, the old pins are renamed to *_old, the programs replaced, and what began in the old table until
 * then is copied once more. A start that was killed in between is taken back or brought to its end by the next.
 *
 * Or the pins are of another version: then all maps are made anew, beside those that are pinned, and the
 * programs of the other version stay where they are, with their maps, until the models have written everything
 * (bn_kernel_switch). Pins take the others' place last, meta the very last: a start that is killed
 * in between finds another version's again and begins anew.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <string.h>
#include <time.h>

#include "loader/kernel/internal.h"
#include "maps/ct_access.h"

static const enum bn_map table[] = {BN_MAP_meta, BN_MAP_ct_heads, BN_MAP_ct}; /* in the order in which they are renamed */

static int paths(const struct bn_kernel *k, enum bn_map map, char path[4096], char old[4096])
{
	int n = snprintf(path, 4096, "%s/%s", k->p->bpffs, bn_map_name(map));
	int m = snprintf(old, 4096, "%s/%s_old", k->p->bpffs, bn_map_name(map));

	return n < 0 || m < 0 || n >= 4096 || m >= 4096 ? -ENAMETOOLONG : 0;
}

static bool there(const char *path)
{
	_cleanup_(closep) int fd = bpf_obj_get(path);

	return fd >= 0;
}

void bn_carry_forget(struct bn_kernel *k)
{
	closep(&k->p->old_heads);
	closep(&k->p->old_ct);
}

static void drop_old(struct bn_kernel *k)
{
	char path[4096], old[4096];

	for (int i = ARRAY_SIZE(table) - 1; i >= 0; i--)
		if (paths(k, table[i], path, old) == 0)
			unlink(old);
}

void bn_carry_resume(struct bn_kernel *k)
{
	char path[4096], old[4096];
	uint32_t heads = 0, buckets = 0;

	if (paths(k, BN_MAP_meta, path, old) < 0 || !there(old))
		return;
	if (!there(path)) {
		/* Killed before the new table was complete: the programs still use the old one. */
		for (int i = ARRAY_SIZE(table) - 1; i >= 0; i--)
			if (paths(k, table[i], path, old) == 0 && there(old))
				rename(old, path);
		return;
	}
	if (paths(k, BN_MAP_ct_heads, path, old) == 0)
		k->p->old_heads = bpf_obj_get(old);
	if (paths(k, BN_MAP_ct, path, old) == 0)
		k->p->old_ct = bpf_obj_get(old);
	if (k->p->old_heads < 0 || k->p->old_ct < 0 || !bn_maps_fits(BN_MAP_ct, k->p->old_ct, &buckets) ||
	    !bn_maps_fits(BN_MAP_ct_heads, k->p->old_heads, &heads) || heads != buckets) {
		bn_carry_forget(k);
		drop_old(k);
	}
	k->p->resumed = k->p->old_ct >= 0; /* the new table is there, and pinned */
}

static bool carry(struct bn_kernel *k, struct bn_ct_carried *c)
{
	uint32_t buckets = 0;
	int r;

	*c = (struct bn_ct_carried){0};
	if (k->p->old_ct < 0)
		return false;
	bn_maps_fits(BN_MAP_ct, k->p->old_ct, &buckets);
	r = bn_ct_carry(k->maps, k->p->old_heads, k->p->old_ct, buckets, !k->p->beside, c);
	if (r < 0)
		bn_knote(k, "connections could not be carried into the new connection table (%s): those through "
			 "Services are lost", strerror(-r));
	return r >= 0;
}

int bn_carry_begin(struct bn_kernel *k, char **err)
{
	char path[4096], old[4096];
	struct bn_ct_carried c;
	int r;

	if (k->p->old_ct < 0 || k->p->beside || k->p->resumed)
		return 0;
	if (carry(k, &c) && c.full)
		bn_knote(k, "%zu entries found no room in the new connection table", c.full);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		r = paths(k, table[i], path, old);
		if (r == 0 && rename(path, old) < 0)
			r = -errno;
		if (r < 0)
			return bn_kerr(err, r, "cannot rename the pin '%s': %s", path, strerror(-r));
	}
	return 0;
}

static void window(const struct bn_kernel *k, bool on)
{
	struct bn_state *st = k->maps->mem[BN_MAP_state];
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	__atomic_and_fetch(&st->flags, 0xffffu, __ATOMIC_RELEASE);
	if (on)
		__atomic_or_fetch(&st->flags, BN_STATE_CARRY(now.tv_sec + BN_STATE_CARRY_S), __ATOMIC_RELEASE);
}

/* The programs of this version into all links, and what the other table had last after them. */
static int replace(struct bn_kernel *k, char **err)
{
	struct bn_ct_carried c;
	int r;

	window(k, k->p->old_ct >= 0);
	k->p->switching = true;
	r = bn_attach_open(k, err);
	/* One that fails has the other version's program, and holds up none of the others. */
	for (uint32_t i = 0; i < k->p->nlater && r == 0; i++) {
		_cleanup_(freep) char *why = NULL;
		int e = bn_kernel_attach_iface(k, k->p->later[i].ifindex, k->p->later[i].role, &why);

		if (e < 0 && e != -ENODEV)
			bn_knote(k, "interface %u keeps the other version's programs: %s", k->p->later[i].ifindex,
				 why ?: strerror(-e));
	}
	if (r == 0 && carry(k, &c) && c.done)
		bn_knote(k, "%zu entries were carried after the programs had been replaced", c.done);
	k->p->switching = false;
	window(k, false);
	return r;
}

int bn_carry_end(struct bn_kernel *k, char **err)
{
	int r = replace(k, err);

	if (r < 0)
		return r;
	bn_carry_forget(k);
	drop_old(k);
	return 0;
}

bool bn_kernel_beside(const struct bn_kernel *k)
{
	return k->p->beside;
}

int bn_carry_later(struct bn_kernel *k, uint32_t ifindex, enum bn_role role)
{
	struct bn_later *l;

	for (uint32_t i = 0; i < k->p->nlater; i++)
		if (k->p->later[i].ifindex == ifindex) {
			k->p->later[i].role = role;
			return 0;
		}
	l = reallocarray(k->p->later, k->p->nlater + 1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	k->p->later = l;
	l[k->p->nlater++] = (struct bn_later){ifindex, role};
	return 0;
}

/* Maps that another version pinned and this one does not know: what bpfnet pins has the map's own name. */
int bn_pins_unknown(const char *bpffs)
{
	DIR *d = opendir(bpffs);
	struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d))) {
		_cleanup_(closep) int fd = -1;
		struct bpf_map_info info = {};
		__u32 len = sizeof(info);
		char path[4096];

		if (e->d_type == DT_DIR || bn_map_by_name(e->d_name) < BN_MAP__MAX ||
		    snprintf(path, sizeof(path), "%s/%s", bpffs, e->d_name) >= (int)sizeof(path))
			continue;
		fd = bpf_obj_get(path);
		if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 &&
		    !strncmp(info.name, e->d_name, sizeof(info.name) - 1))
			n += unlink(path) == 0;
	}
	if (d)
		closedir(d);
	return n;
}

int bn_kernel_switch(struct bn_kernel *k, char **err)
{
	struct bn_ct_carried c;
	int r;

	carry(k, &c);
	r = replace(k, err);
	if (r < 0)
		return r;
	for (int i = BN_MAP__MAX - 1; i >= 0 && r == 0; i--)
		r = bn_pin_map(k, i, k->maps->fd[i], err);
	if (r < 0)
		return r;
	k->p->beside = false;
	bn_carry_forget(k);
	freep(&k->p->later);
	k->p->nlater = 0;
	drop_old(k);
	bn_pins_unknown(k->p->bpffs);
	r = bn_programs_pin(k);
	if (r < 0)
		bn_knote(k, "bpfnet-cni cannot isolate pods while bpfnetd is down: pinning programs: %s", strerror(-r));
	return 0;
}
