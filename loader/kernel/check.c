// SPDX-License-Identifier: MIT
/* `bpfnet check`: what this node offers and what stands in the way, each with what to do about it. */
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "loader/kernel/internal.h"
#include "maps/ep.h"

static void add(json_t *out, const char *name, const char *status, const char *hint,
		const char *fmt, ...) _printf_(5, 6);
static void add(json_t *out, const char *name, const char *status, const char *hint,
		const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	json_array_append_new(out, json_pack("{s:s, s:s, s:o?, s:s}", "name", name, "status", status,
					     "text", json_vsprintf(fmt, ap), "hint", hint ? hint : ""));
	va_end(ap);
}

/* "sentence: what to do" of a probe is one text; the hint is what stands behind the last colon. */
static void add_error(json_t *out, const char *name, char **err)
{
	const char *text = *err ? *err : "failed", *colon = strrchr(text, ':');

	if (colon && colon[1] == ' ')
		add(out, name, "fail", colon + 2, "%.*s", (int)(colon - text), text);
	else
		add(out, name, "fail", NULL, "%s", text);
	freep(err);
}

static void check_process(json_t *out)
{
	_cleanup_(freep) char *err = NULL;
	struct utsname u = {};

	uname(&u);
	if (bn_probe_release(u.release, &err) < 0)
		add_error(out, "kernel", &err);
	else
		add(out, "kernel", "ok", NULL, "Linux %s", u.release);
	if (bn_probe_caps(&err) < 0)
		add_error(out, "capabilities", &err);
	else
		add(out, "capabilities", "ok", NULL, "all that are needed");
}

static void check_attach(json_t *out)
{
	json_t *f = bn_probe_features();

	if (json_is_true(json_object_get(f, "tcx")))
		add(out, "tcx", "ok", NULL, "programs attach by tcx links");
	else
		add(out, "tcx", "warn", "Linux 6.6 and later replace programs without touching qdiscs",
		    "no tcx: programs attach by clsact filters");
	if (json_is_true(json_object_get(f, "bpfLoop")) &&
	    json_is_true(json_object_get(f, "socketRefuse")) &&
	    json_is_true(json_object_get(f, "redirectPeer")))
		add(out, "helpers", "ok", NULL, "bpf_loop, bpf_set_retval, bpf_redirect_peer");
	else
		add(out, "helpers", "fail", "needs Linux 6.1 with CONFIG_CGROUP_BPF and CONFIG_NET_CLS_BPF, "
		    "and the capabilities above", "the kernel refuses a helper that bpfnet needs");
	json_decref(f);
}

static void check_mounts(json_t *out, const char *bpffs, const char *cgroup)
{
	_cleanup_(freep) char *found = NULL, *err = NULL;
	uint64_t id;

	if (bn_is_bpffs(bpffs ? bpffs : "/sys/fs/bpf") || bn_is_bpffs("/sys/fs/bpf"))
		add(out, "bpffs", "ok", NULL, "mounted");
	else
		add(out, "bpffs", "warn", "mount -t bpf bpf /sys/fs/bpf (the daemon does it when it may)",
		    "no BPF file system is mounted on /sys/fs/bpf");
	if (!cgroup && bn_cgroup2_find(&found) < 0)
		add(out, "cgroup2", "fail", "mount -t cgroup2 none /sys/fs/cgroup/unified",
		    "no cgroup2 file system is mounted: no translation at sockets");
	else if (bn_cgroup_check(cgroup ? cgroup : found, &id, &err) < 0)
		add_error(out, "cgroup2", &err);
	else
		add(out, "cgroup2", "ok", NULL, "%s", cgroup ? cgroup : found);
}

/* First line of a file as a number; -1 when it cannot be read. */
static long sysctl(const char *path)
{
	_cleanup_(fclosep) FILE *f = fopen(path, "re");
	long v = -1;

	return f && fscanf(f, "%ld", &v) == 1 ? v : -1;
}

static void check_sysctls(json_t *out)
{
	if (sysctl("/proc/sys/net/core/bpf_jit_enable") == 0)
		add(out, "jit", "warn", "sysctl net.core.bpf_jit_enable=1",
		    "programs are interpreted: several times slower");
	else
		add(out, "jit", "ok", NULL, "on");
	if (sysctl("/proc/sys/net/ipv4/ip_forward") == 0)
		add(out, "forwarding", "warn", "sysctl net.ipv4.ip_forward=1 (most CNIs set it)",
		    "the node does not forward IPv4: pods reach only this node");
	else
		add(out, "forwarding", "ok", NULL, "IPv4 on, IPv6 %s",
		    sysctl("/proc/sys/net/ipv6/conf/all/forwarding") == 1 ? "on" : "off");
	if (sysctl("/proc/sys/net/ipv4/conf/all/rp_filter") == 1)
		add(out, "rp_filter", "warn", "sysctl net.ipv4.conf.all.rp_filter=2 where nodes have several "
		    "uplinks", "strict reverse path filter: replies that come another way are dropped");
	else
		add(out, "rp_filter", "ok", NULL, "not strict");
}

/* How many lines of a fixed command's output contain the word; -1: the tool is not there. */
static int lines_with(const char *cmd, const char *word)
{
	FILE *f = popen(cmd, "re");
	char line[1024];
	int n = 0, st;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		n += strstr(line, word) != NULL;
	st = pclose(f);
	return WIFEXITED(st) && WEXITSTATUS(st) == 127 ? -1 : n;
}

static void check_kube_proxy(json_t *out)
{
	static const struct {
		const char *cmd, *word, *what;
	} looks[] = {
		{"nft list tables 2>/dev/null", "table ip kube-proxy", "nftables (IPv4)"},
		{"nft list tables 2>/dev/null", "table ip6 kube-proxy", "nftables (IPv6)"},
		{"iptables-nft-save -t nat 2>/dev/null", ":KUBE-SERVICES", "iptables-nft"},
		{"iptables-legacy-save -t nat 2>/dev/null", ":KUBE-SERVICES", "iptables-legacy"},
		{"ip6tables-nft-save -t nat 2>/dev/null", ":KUBE-SERVICES", "ip6tables-nft"},
		{"ip6tables-legacy-save -t nat 2>/dev/null", ":KUBE-SERVICES", "ip6tables-legacy"},
		{"ipvsadm -Ln 2>/dev/null", "TCP ", "IPVS"},
	};
	char found[256] = "";
	bool tools = false;

	for (size_t i = 0; i < ARRAY_SIZE(looks); i++) {
		int n = lines_with(looks[i].cmd, looks[i].word);

		tools |= n >= 0;
		if (n > 0)
			snprintf(found + strlen(found), sizeof(found) - strlen(found), "%s%s",
				 found[0] ? ", " : "", looks[i].what);
	}
	if (found[0])
		add(out, "kube-proxy", "warn",
		    "once bpfnet status is ready: stop kube-proxy on this node, then bpfnet cleanup --kube-proxy",
		    "rules of kube-proxy are in force: %s", found);
	else if (!tools)
		add(out, "kube-proxy", "warn", "install nft or iptables to have this checked",
		    "no tool to look for its rules with");
	else
		add(out, "kube-proxy", "ok", NULL, "no rules of it");
}

static void check_hook_order(json_t *out, const struct if_nameindex *i, uint32_t type,
			     const struct bn_map_ids *ours, unsigned *bad)
{
	_cleanup_(freep) char *names = NULL;
	json_t *before;
	bool missing;

	before = bn_order_before(i->if_index, type, ours, &missing);
	if (!missing && json_array_size(before)) {
		names = json_dumps(before, 0);
		add(out, "order", "warn", "start bpfnet after what attaches them, or move them behind it",
		    "programs of others run before bpfnet's on %s of %s: %s",
		    type == BN_TCX_INGRESS ? "ingress" : "egress", i->if_name, names ? names : "");
		++*bad;
	}
	json_decref(before);
}

static void check_order(json_t *out, const char *bpffs)
{
	struct bn_maps *m = NULL;
	struct bn_map_ids ours;
	struct if_nameindex *all;
	unsigned bad = 0;

	if (bn_maps_open(bpffs ? bpffs : "/sys/fs/bpf/bpfnet", false, &m) < 0)
		return; /* nothing of ours is attached */
	bn_map_ids(m, &ours);
	all = if_nameindex();
	for (struct if_nameindex *i = all; i && i->if_index; i++) {
		check_hook_order(out, i, BN_TCX_INGRESS, &ours, &bad);
		check_hook_order(out, i, BN_TCX_EGRESS, &ours, &bad);
	}
	if (all)
		if_freenameindex(all);
	if (!bad)
		add(out, "order", "ok", NULL, "nothing runs before bpfnet's programs");
	bn_maps_freep(&m);
}

/* Which XDP programs there are, and whose. */
static void check_xdp(json_t *out, const char *bpffs)
{
	struct if_nameindex *all = if_nameindex();
	struct bn_map_ids ours = {};
	struct bn_maps *m = NULL;
	unsigned n = 0;

	if (bn_maps_open(bpffs ? bpffs : "/sys/fs/bpf/bpfnet", false, &m) >= 0)
		bn_map_ids(m, &ours);
	for (struct if_nameindex *i = all; i && i->if_index; i++) {
		LIBBPF_OPTS(bpf_xdp_query_opts, q);
		char name[16] = "?";
		const char *mode;

		if (bpf_xdp_query(i->if_index, 0, &q) < 0 || !q.prog_id)
			continue;
		mode = q.attach_mode == XDP_ATTACHED_SKB ? "generic" : "native";
		bn_prog_name(q.prog_id, name);
		if (bn_prog_uses(q.prog_id, &ours))
			add(out, "xdp", "ok", NULL, "bpfnet's program is on '%s' (%s)", i->if_name, mode);
		else
			add(out, "xdp", "warn", "take it off to have bpfnet's there; TC does its work meanwhile",
			    "a program of others is on '%s' (%s): %s", i->if_name, mode, name);
		n++;
	}
	if (all)
		if_freenameindex(all);
	if (!n)
		add(out, "xdp", "ok", NULL, "no XDP programs (see --xdp)");
	bn_maps_freep(&m);
}

/* A pod that may send what an uplink cannot take depends on ICMP coming back: the usual reason why small
 * answers arrive and large ones do not.
 */
static void check_mtu(json_t *out, const char *bpffs)
{
	struct if_nameindex *all = if_nameindex();
	char narrow[IF_NAMESIZE] = "";
	unsigned least = 0, most = 0;
	struct bn_maps *m = NULL;

	if (all && bn_maps_open(bpffs ? bpffs : "/sys/fs/bpf/bpfnet", false, &m) >= 0)
		for (struct if_nameindex *i = all; i->if_index; i++) {
			__u32 index = i->if_index;
			struct bn_iface f;

			if (bn_map_get(m, BN_MAP_ifaces, &index, &f) < 0 || f.ifindex != index || !f.mtu)
				continue;
			if (f.role == BN_ROLE_POD && f.mtu > most)
				most = f.mtu;
			if (f.role != BN_ROLE_POD && f.role != BN_ROLE_NONE && (!least || f.mtu < least)) {
				least = f.mtu;
				snprintf(narrow, sizeof(narrow), "%s", i->if_name);
			}
		}
	if (most && least && most > least)
		add(out, "mtu", "warn", "if large packets get lost: give pods the smaller MTU (in the CNI's configuration)",
		    "pods may send %u bytes, '%s' takes %u: they depend on ICMP (fragmentation needed)", most, narrow, least);
	else if (most && least)
		add(out, "mtu", "ok", NULL, "pods %u, uplinks and tunnels at least %u", most, least);
	if (all)
		if_freenameindex(all);
	bn_maps_freep(&m);
}

int bn_kernel_check(const char *bpffs, const char *cgroup, json_t **ret)
{
	json_t *out = json_array();

	if (!out)
		return -ENOMEM;
	bn_libbpf_capture();
	check_process(out);
	check_attach(out);
	check_mounts(out, bpffs, cgroup);
	check_sysctls(out);
	check_kube_proxy(out);
	check_order(out, bpffs);
	check_xdp(out, bpffs);
	check_mtu(out, bpffs);
	*ret = out;
	return 0;
}
