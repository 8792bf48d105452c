/* SPDX-License-Identifier: MIT */
/* limit pods bare|look|peer CGROUP VIP VPORT SERVER PORT INTERFACE...
 * limit nodeport INTERFACE CLIENT CLIENT_MAC NODE NODE_PORT SERVER PORT NEXT_MAC
 *
 * Attaches the programs of limit.bpf.c or limit_xdp.bpf.c in this network namespace, prints "ready", and
 * waits: they go when this process does.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "limit.skel.h"
#include "limit_xdp.skel.h"
#include "loader/kernel/internal.h"

static int fail(const char *what)
{
	fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
	return 1;
}

static bool addr(const char *text, uint32_t *ret)
{
	return inet_pton(AF_INET, text, ret) == 1;
}

static bool mac(const char *text, uint8_t *ret)
{
	return sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &ret[0], &ret[1], &ret[2], &ret[3], &ret[4], &ret[5]) == 6;
}

/* The descriptor is kept to the end: the link goes with it. */
static bool attach(const struct bpf_program *p, int target, int type, uint32_t flags)
{
	LIBBPF_OPTS(bpf_link_create_opts, o, .flags = flags);

	return bpf_link_create(bpf_program__fd(p), target, type, &o) >= 0;
}

static int ready(void)
{
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
	return 0;
}

/* Only what the programs use is created; `state` stays empty, as nothing is asked of it. */
static bool has(const char *map)
{
	static const char *const used[] = { "ct", "ct_heads", "state", "scratch", "frags" };

	for (size_t i = 0; i < sizeof(used) / sizeof(*used); i++)
		if (!strcmp(map, used[i]))
			return true;
	return strchr(map, '.'); /* .rodata and the like */
}

static int pods(int argc, char **argv)
{
	struct limit_bpf *o = limit_bpf__open();
	struct bpf_program *in, *out;
	struct bpf_map *m;
	int cgroup;

	if (!o)
		return fail("open");
	if (!addr(argv[4], (void *)&o->rodata->limit_vip) || !addr(argv[6], (void *)&o->rodata->limit_server))
		return fail("address");
	o->rodata->limit_vport = htons(atoi(argv[5]));
	o->rodata->limit_port = htons(atoi(argv[7]));
	bpf_object__for_each_map(m, o->obj)
	{
		bpf_map__set_autocreate(m, has(bpf_map__name(m)));
	}
	if (getrandom((void *)o->rodata->cfg_ct_seed, sizeof(o->rodata->cfg_ct_seed), 0) < 0)
		return fail("getrandom");
	o->rodata->cfg_ct_buckets = bpf_map__max_entries(o->maps.ct);
	in = !strcmp(argv[2], "look") ? o->progs.look_in : !strcmp(argv[2], "peer") ? o->progs.peer : o->progs.bare;
	out = in == o->progs.look_in ? o->progs.look_out : o->progs.bare;
	for (int i = 0; i < 2 && 8 + i < argc; i++)
		o->rodata->limit_if[i] = if_nametoindex(argv[8 + i]);
	if (limit_bpf__load(o))
		return fail("load");
	cgroup = open(argv[3], O_RDONLY | O_CLOEXEC);
	if (cgroup < 0 || !attach(o->progs.limit_connect4, cgroup, BPF_CGROUP_INET4_CONNECT, 0) ||
	    !attach(o->progs.limit_sendmsg4, cgroup, BPF_CGROUP_UDP4_SENDMSG, 0) ||
	    !attach(o->progs.limit_recvmsg4, cgroup, BPF_CGROUP_UDP4_RECVMSG, 0) ||
	    !attach(o->progs.limit_release, cgroup, BPF_CGROUP_INET_SOCK_RELEASE, 0))
		return fail(argv[3]);
	for (int i = 8; i < argc; i++) {
		unsigned ifindex = if_nametoindex(argv[i]);

		if (!ifindex || !attach(in, ifindex, BN_TCX_INGRESS, 0) ||
		    !attach(out, ifindex, BN_TCX_EGRESS, 0))
			return fail(argv[i]);
	}
	return ready();
}

static int nodeport(char **argv)
{
	struct limit_xdp_bpf *o = limit_xdp_bpf__open();
	unsigned ifindex = if_nametoindex(argv[2]);

	if (!o || !ifindex)
		return fail(argv[2]);
	if (!addr(argv[3], (void *)&o->rodata->limit_client) || !mac(argv[4], (void *)o->rodata->limit_client_mac) ||
	    !addr(argv[5], (void *)&o->rodata->limit_node) || !addr(argv[7], (void *)&o->rodata->limit_server) ||
	    !mac(argv[9], (void *)o->rodata->limit_next_mac))
		return fail("address");
	o->rodata->limit_node_port = htons(atoi(argv[6]));
	o->rodata->limit_port = htons(atoi(argv[8]));
	if (limit_xdp_bpf__load(o))
		return fail("load");
	if (!attach(o->progs.xdp_bare, ifindex, BPF_XDP, XDP_FLAGS_DRV_MODE))
		return fail("attach");
	return ready();
}

int main(int argc, char **argv)
{
	if (argc > 8 && !strcmp(argv[1], "pods"))
		return pods(argc, argv);
	if (argc == 10 && !strcmp(argv[1], "nodeport"))
		return nodeport(argv);
	fprintf(stderr, "usage: limit pods bare|look|peer CGROUP VIP VPORT SERVER PORT INTERFACE...\n"
			"       limit nodeport INTERFACE CLIENT CLIENT_MAC NODE NODE_PORT SERVER PORT NEXT_MAC\n");
	return 1;
}
