/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cni/install.h"
#include "loader/kernel/internal.h"
#include "loader/net/nlsock.h"
#include "maps/maps.h"

#define POLL_MS 3

int bn_cni_node_read(const char *run_dir, struct bn_cni_node *ret, char **err)
{
	_cleanup_(bn_record_done) struct bn_record rec = {};
	struct bn_cni_node n = {};
	uint64_t cookie;
	int r;

	r = bn_record_read(run_dir, &rec, err);
	if (r < 0)
		return r;
	r = bn_netns_cookie(&cookie);
	if (r < 0)
		return bn_kerr(err, r, "cannot tell the network namespace: %s", strerror(-r));
	if (cookie != rec.netns_cookie)
		return bn_kerr(err, -EXDEV,
			       "the plugin runs in another network namespace than bpfnetd of '%s'",
			       run_dir);
	n.cookie = cookie;
	n.clsact = rec.attach && !strcmp(rec.attach, "clsact");
	n.run_dir = strdup(run_dir);
	n.bpffs = rec.bpffs ? strdup(rec.bpffs) : NULL;
	if (!n.run_dir || !n.bpffs || asprintf(&n.links, "%s/links", n.bpffs) < 0)
		n.links = NULL;
	if (!n.links || asprintf(&n.notes, "%s/cni", run_dir) < 0) {
		bn_cni_node_done(&n);
		return bn_kerr(err, -ENOMEM, "out of memory, or the record in '%s' is damaged",
			       run_dir);
	}
	*ret = n;
	return 0;
}

void bn_cni_node_done(struct bn_cni_node *n)
{
	freep(&n->run_dir);
	freep(&n->bpffs);
	freep(&n->links);
	freep(&n->notes);
}

/* --- the interface --------------------------------------------------------------------------- */

struct by_name {
	const char *name;
	struct bn_nl_link link;
	bool found;
};

static int match_name(const struct nlmsghdr *h, void *data)
{
	struct by_name *b = data;
	struct bn_nl_link l;

	if (!bn_nl_parse_link(h, &l) && !strcmp(l.name, b->name)) {
		b->link = l;
		b->found = true;
	}
	return 0;
}

/* A socket keeps the namespace that it was opened in: only the opening happens inside. */
static int nl_inside(const char *netns, struct bn_nl **ret)
{
	_cleanup_(closep) int self = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	_cleanup_(closep) int fd = open(netns, O_RDONLY | O_CLOEXEC);
	int r;

	if (self < 0 || fd < 0 || setns(fd, CLONE_NEWNET))
		return -errno;
	r = bn_nl_open(NETLINK_ROUTE, ret);
	if (setns(self, CLONE_NEWNET)) /* everything after this would be done to the pod */
		abort();
	return r;
}

int bn_cni_host_link(const char *netns, const char *ifname, struct bn_nl_link *ret, char **err)
{
	_cleanup_(bn_nl_freep) struct bn_nl *in = NULL, *out = NULL;
	struct by_name b = {.name = ifname};
	struct bn_nl_link host, peer;
	int r;

	r = nl_inside(netns, &in);
	if (r < 0)
		return bn_kerr(err, r, "cannot enter '%s': %s", netns, strerror(-r));
	r = bn_nl_dump(in, RTM_GETLINK, 0, -1, match_name, &b);
	if (r < 0)
		return bn_kerr(err, r, "cannot list the links of '%s': %s", netns, strerror(-r));
	if (!b.found)
		return bn_kerr(err, -ENODEV, "'%s' has no interface '%s'", netns, ifname);
	if ((strcmp(b.link.kind, "veth") && strcmp(b.link.kind, "netkit")) || b.link.link_nsid < 0)
		return bn_kerr(err, -ENOTSUP,
			       "interface '%s' (%s) has no end on the host: it cannot be enforced",
			       ifname, b.link.kind[0] ? b.link.kind : "a device");
	r = bn_nl_open(NETLINK_ROUTE, &out);
	r = r ?: bn_nl_get_link(out, b.link.link, -1, &host);
	if (r < 0)
		return bn_kerr(err, r, "the other end of '%s' is not in this namespace: %s", ifname,
			       strerror(-r));
	/* The number alone could be another interface's, if the other end is in a third namespace.
	 */
	if (host.link != b.link.ifindex || host.link_nsid < 0 ||
	    bn_nl_get_link(out, host.link, host.link_nsid, &peer) ||
	    memcmp(peer.mac, b.link.mac, sizeof(peer.mac)) || strcmp(peer.name, ifname))
		return bn_kerr(err, -ENOTSUP, "the other end of '%s' is not in this namespace",
			       ifname);
	*ret = host;
	return 0;
}

/* --- programs -------------------------------------------------------------------------------- */

static int links_there(const struct bn_cni_node *n, uint32_t ifindex)
{
	static const char *const suffix[] = {"in", "out"};
	char path[4096];
	struct bn_link info;
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(suffix); i++) {
		_cleanup_(closep) int fd = -1;

		snprintf(path, sizeof(path), "%s/tcx_%llx_%u_%s", n->links,
			 (unsigned long long)n->cookie, ifindex, suffix[i]);
		fd = bpf_obj_get(path);
		if (fd < 0)
			return -errno;
		r = bn_link_info(fd, &info);
		if (r < 0)
			return r;
		if (info.ifindex != ifindex)
			return -ENOENT;
	}
	return 0;
}

static int filters_there(uint32_t ifindex)
{
	enum bpf_tc_attach_point at[] = {BPF_TC_INGRESS, BPF_TC_EGRESS};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		LIBBPF_OPTS(bpf_tc_opts, o, .handle = BN_TC_HANDLE, .priority = BN_TC_PRIO);
		LIBBPF_OPTS(bpf_tc_hook, h, .ifindex = ifindex, .attach_point = at[i]);

		if (bpf_tc_query(&h, &o) < 0)
			return -ENOENT;
	}
	return 0;
}

static int programs_there(const struct bn_cni_node *n, uint32_t ifindex)
{
	return n->clsact ? filters_there(ifindex) : links_there(n, ifindex);
}

int bn_cni_check(const struct bn_cni_node *n, uint32_t ifindex, char **err)
{
	_cleanup_(bn_maps_freep) struct bn_maps *m = NULL;
	struct bn_iface v;
	int r;

	r = programs_there(n, ifindex);
	if (r < 0)
		return bn_kerr(err, -ENOENT, "interface %u has no programs of bpfnet", ifindex);
	r = bn_maps_open(n->bpffs, false, &m);
	if (r < 0)
		return bn_kerr(err, r, "cannot open the maps in '%s': %s", n->bpffs, strerror(-r));
	if (bn_map_get(m, BN_MAP_ifaces, &ifindex, &v) || v.role != BN_ROLE_POD)
		return bn_kerr(err, -ENOENT, "interface %u is not noted as a pod's", ifindex);
	return 0;
}

static int open_program(const struct bn_cni_node *n, const char *name, char **err)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/prog_%s", n->links, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return bn_kerr(err, -errno, "cannot open program '%s': %s; has bpfnetd run here?",
			       path, strerror(errno));
	return fd;
}

/* What a daemon has left: the maps and both programs of a pod's interface. The caller's, also on failure. */
static int open_pins(const struct bn_cni_node *n, bool write, struct bn_maps **m, int *in, int *out, char **err)
{
	int r = bn_maps_open(n->bpffs, write, m);

	if (r < 0)
		return bn_kerr(err, r, "cannot open the maps in '%s': %s", n->bpffs, strerror(-r));
	*in = open_program(n, "from_pod", err);
	if (*in < 0)
		return *in;
	*out = open_program(n, "to_pod", err);
	return *out < 0 ? *out : 0;
}

/* As loader/model/endpoints does for a pod that it does not know yet. An element that is there is
 * the daemon's and says more.
 */
static int note_closed(struct bn_maps *m, const struct bn_nl_link *l)
{
	struct bn_iface v = {
		.role = BN_ROLE_POD, .l2_len = 14, .flags = BN_IF_F_PEER, .ifindex = l->ifindex};
	struct bn_iface have;

	if (!bn_map_get(m, BN_MAP_ifaces, &l->ifindex, &have) && have.ifindex == l->ifindex &&
	    !memcmp(have.mac, l->mac, sizeof(have.mac)))
		return 0;
	memcpy(v.mac, l->mac, sizeof(v.mac));
	if (!strcmp(l->slave_kind, "bridge"))
		v.flags |= BN_IF_F_BRIDGE;
	return bn_map_put(m, BN_MAP_ifaces, &l->ifindex, &v);
}

/* With the lock held: no daemon runs, none can start meanwhile. */
static int install_alone(const struct bn_cni_node *n, const struct bn_nl_link *l, char **err)
{
	_cleanup_(bn_maps_freep) struct bn_maps *m = NULL;
	_cleanup_(closep) int in = -1, out = -1;
	struct bn_kernel_priv p = {
		.links = n->links, .netns_cookie = n->cookie, .clsact = n->clsact};
	struct bn_kernel k = {.p = &p};
	int r;

	r = open_pins(n, true, &m, &in, &out, err);
	if (r < 0)
		return r;
	r = note_closed(m, l);
	if (r < 0)
		return bn_kerr(err, r, "cannot note interface '%s': %s", l->name, strerror(-r));
	r = bn_attach_pod(&k, l->ifindex, in, out);
	if (r < 0)
		return bn_kerr(err, r, "cannot attach to interface '%s': %s", l->name,
			       strerror(-r));
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

int bn_cni_install(const struct bn_cni_node *n, const struct bn_nl_link *l, unsigned timeout_ms,
		   char **err)
{
	uint64_t end = now_ms() + timeout_ms;
	int r;

	for (;;) {
		_cleanup_(closep) int lock = -1;

		if (!bn_cni_check(n, l->ifindex, NULL))
			return 0;
		r = bn_bpffs_lock(n->bpffs, &lock, NULL);
		if (!r)
			return install_alone(n, l, err);
		if (r != -EBUSY)
			return bn_kerr(err, r, "cannot lock '%s': %s", n->bpffs, strerror(-r));
		if (now_ms() >= end)
			return bn_kerr(
				err, -ETIMEDOUT,
				"bpfnetd runs but has put no programs on interface '%s' in %u ms",
				l->name, timeout_ms);
		usleep(POLL_MS * 1000);
	}
}

int bn_cni_ready(const struct bn_cni_node *n, char **err)
{
	_cleanup_(bn_maps_freep) struct bn_maps *m = NULL;
	_cleanup_(closep) int in = -1, out = -1;

	return open_pins(n, false, &m, &in, &out, err);
}

void bn_cni_wait_pod(const struct bn_cni_node *n, uint32_t ifindex, unsigned timeout_ms)
{
	_cleanup_(bn_maps_freep) struct bn_maps *m = NULL;
	uint64_t end = now_ms() + timeout_ms;
	struct bn_iface v;

	if (bn_maps_open(n->bpffs, false, &m) < 0)
		return;
	while (now_ms() < end) {
		_cleanup_(closep) int lock = -1;

		if (!bn_map_get(m, BN_MAP_ifaces, &ifindex, &v) &&
		    (v.slot || v.flags & BN_IF_F_OPEN))
			return;
		if (!bn_bpffs_lock(n->bpffs, &lock, NULL)) /* nobody is there to wait for */
			return;
		usleep(POLL_MS * 1000);
	}
}

/* --- notes ----------------------------------------------------------------------------------- */

/* Both come from the runtime and are alphanumeric by the specification; they become a file's name.
 */
static int note_name(const char *container, const char *ifname, char *buf, size_t size)
{
	const char *good = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-:@";
	int n;

	if (!container[0] || container[0] == '.' || container[strspn(container, good)] ||
	    ifname[strspn(ifname, good)])
		return -EINVAL;
	n = snprintf(buf, size, "%s-%s", container, ifname);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int bn_cni_note_write(const struct bn_cni_node *n, const char *container, const char *ifname,
		      const json_t *note, char **err)
{
	char name[200], path[4096], tmp[4096];
	int r;

	r = note_name(container, ifname, name, sizeof(name));
	if (r < 0)
		return bn_kerr(err, r, "container id or interface name is not valid");
	if (mkdir(n->notes, 0700) && errno != EEXIST)
		return bn_kerr(err, -errno, "cannot make '%s': %s", n->notes, strerror(errno));
	snprintf(path, sizeof(path), "%s/%s", n->notes, name);
	snprintf(tmp, sizeof(tmp), "%s/.%s", n->notes, name);
	if (json_dump_file(note, tmp, JSON_COMPACT) || rename(tmp, path))
		return bn_kerr(err, errno ? -errno : -EIO, "cannot write '%s': %s", path,
			       strerror(errno));
	return 0;
}

void bn_cni_note_remove(const struct bn_cni_node *n, const char *container, const char *ifname)
{
	char name[200], path[4096];

	if (note_name(container, ifname, name, sizeof(name)) < 0)
		return;
	snprintf(path, sizeof(path), "%s/%s", n->notes, name);
	unlink(path);
}

static bool listed(const json_t *valid, const char *file)
{
	size_t i;

	for (i = 0; i < json_array_size(valid); i++) {
		const json_t *v = json_array_get(valid, i);
		const char *c = json_string_value(json_object_get(v, "containerID"));
		const char *f = json_string_value(json_object_get(v, "ifname"));
		char name[200];

		if (c && f && !note_name(c, f, name, sizeof(name)) && !strcmp(name, file))
			return true;
	}
	return false;
}

int bn_cni_note_gc(const struct bn_cni_node *n, const json_t *valid, char **err)
{
	DIR *d = opendir(n->notes);
	struct dirent *e;

	if (!d)
		return errno == ENOENT ? 0
				       : bn_kerr(err, -errno, "cannot read '%s': %s", n->notes,
						 strerror(errno));
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && !listed(valid, e->d_name))
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	return 0;
}
