// SPDX-License-Identifier: MIT
/* Loading the BPF objects: shared maps by descriptor, cfg_ variables by name, libbpf's messages kept
 * for the moment something fails.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "loader/kernel/internal.h"

/* Objects that this tree does not have are left out. mk/kernel.mk rebuilds this file when one comes. */
#if __has_include("pod.skel.h")
#include "pod.skel.h"
#define HAVE_POD pod_bpf__elf_bytes
#else
#define HAVE_POD NULL
#endif
#if __has_include("net.skel.h")
#include "net.skel.h"
#define HAVE_NET net_bpf__elf_bytes
#else
#define HAVE_NET NULL
#endif
#if __has_include("xdp.skel.h")
#include "xdp.skel.h"
#define HAVE_XDP xdp_bpf__elf_bytes
#else
#define HAVE_XDP NULL
#endif
#if __has_include("sock.skel.h")
#include "sock.skel.h"
#define HAVE_SOCK sock_bpf__elf_bytes
#else
#define HAVE_SOCK NULL
#endif

static const struct {
	const char *name;
	const void *(*bytes)(size_t *size);
} objects[BN_OBJ__MAX] = {
	[BN_OBJ_POD] = {"pod", HAVE_POD},
	[BN_OBJ_NET] = {"net", HAVE_NET},
	[BN_OBJ_XDP] = {"xdp", HAVE_XDP},
	[BN_OBJ_SOCK] = {"sock", HAVE_SOCK},
};

/* --- cfg_ variables --------------------------------------------------------------------------- */

struct cfg {
	const char *name;
	const void *val; /* little endian: a narrower variable takes the low bytes */
	size_t size;	 /* 0: as wide as the variable, at most 8 */
};

static bool is_rodata(const struct bpf_map *map)
{
	const char *name = bpf_map__name(map), *dot = strrchr(name, '.');

	return dot && !strcmp(dot, ".rodata");
}

static int set_var(void *at, size_t size, const struct cfg *c)
{
	if (c->size ? c->size != size : size > 8)
		return -EINVAL;
	memcpy(at, c->val, size);
	return 0;
}

/* Every cfg_ variable of the object must be in the table: a switch that nobody sets is a mistake. */
static int set_cfg(struct bpf_object *o, const struct cfg *table, size_t n, const char **which)
{
	const struct btf *btf = bpf_object__btf(o);
	const struct btf_type *sec;
	struct bpf_map *map;
	size_t size = 0;
	char *data = NULL;
	int id;

	bpf_object__for_each_map(map, o)
		if (is_rodata(map))
			data = (char *)bpf_map__initial_value(map, &size); /* ours until load */
	id = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);
	if (!data || id < 0)
		return 0;
	sec = btf__type_by_id(btf, id);
	for (int i = 0; i < btf_vlen(sec); i++) {
		const struct btf_var_secinfo *v = btf_var_secinfos(sec) + i;
		const char *name = btf__name_by_offset(btf, btf__type_by_id(btf, v->type)->name_off);
		int r = -ENOENT;

		if (strncmp(name, "cfg_", 4) || (size_t)v->offset + v->size > size)
			continue;
		for (size_t t = 0; t < n; t++)
			if (!strcmp(table[t].name, name))
				r = set_var(data + v->offset, v->size, &table[t]);
		*which = name;
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- Loading ---------------------------------------------------------------------------------- */

static int share_maps(struct bpf_object *o, const struct bn_maps *m)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, o) {
		enum bn_map i = bn_map_by_name(bpf_map__name(map));
		int r = i < BN_MAP__MAX ? bpf_map__reuse_fd(map, m->fd[i]) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

/* One object's share of the work: nine tenths of a start is the verifier's, and objects need nothing of
 * each other but the maps, which are there.
 */
struct job {
	struct bn_kernel *k;
	enum bn_object i;
	const struct cfg *table;
	size_t n;
	pthread_t thread;
	bool wanted, started;
	char *err;
	int r;
};

/* For tests: with BPFNET_HTTP=refused the kernel does refuse http_pod, as one would that lacks what it needs; with
 * "slow" only while it has cfg_http_fast.
 */
static void refuse_http(struct bpf_object *o, const struct cfg *table, size_t n)
{
	struct bpf_program *p = bpf_object__find_program_by_name(o, "http_pod");
	const char *s = getenv("BPFNET_HTTP"), *flag = NULL;

	if (p && s)
		flag = !strcmp(s, "refused") ? "cfg_http" : !strcmp(s, "slow") ? "cfg_http_fast" : NULL;
	for (size_t i = 0; flag && i < n; i++)
		if (!strcmp(table[i].name, flag) && *(const uint64_t *)table[i].val)
			bpf_program__set_type(p, BPF_PROG_TYPE_SOCKET_FILTER);
}

static int load_one(struct bn_kernel *k, enum bn_object i, const struct cfg *table, size_t n,
		    char **err)
{
	LIBBPF_OPTS(bpf_object_open_opts, oo, .object_name = objects[i].name);
	const char *which = "";
	struct bpf_object *o;
	const void *bytes;
	size_t size;
	int r;

	bytes = objects[i].bytes(&size);
	bn_libbpf_capture();
	o = bpf_object__open_mem(bytes, size, &oo);
	r = libbpf_get_error(o);
	if (r < 0)
		return bn_kerr(err, r, "cannot open the object '%s': %s\n%s", objects[i].name,
			       strerror(-r), bn_libbpf_last());
	k->p->obj[i] = o;
	r = set_cfg(o, table, n, &which);
	if (r < 0)
		return bn_kerr(err, r, "object '%s': variable '%s' is not one that the loader sets",
			       objects[i].name, which);
	r = share_maps(o, k->maps);
	if (r < 0)
		return bn_kerr(err, r, "object '%s': cannot share the maps: %s\n%s", objects[i].name,
			       strerror(-r), bn_libbpf_last());
	refuse_http(o, table, n);
	r = bpf_object__load(o);
	if (r < 0)
		return bn_kerr(err, r, "the kernel refuses the programs of '%s': %s; the last it says:\n%s",
			       objects[i].name, strerror(-r), bn_libbpf_last());
	return 0;
}

static void *load_job(void *arg)
{
	struct job *j = arg;

	j->r = load_one(j->k, j->i, j->table, j->n, &j->err);
	return NULL;
}

/* What is needed of a loaded object are its programs, and the array through which they reach one another. */
static int keep_programs(struct bn_kernel *k, enum bn_object i)
{
	struct bpf_map *jump = bpf_object__find_map_by_name(k->p->obj[i], "http_jump");
	struct bpf_program *p;

	if (jump) {
		k->p->jump = fcntl(bpf_map__fd(jump), F_DUPFD_CLOEXEC, 3);
		if (k->p->jump < 0)
			return -errno;
	}

	bpf_object__for_each_program(p, k->p->obj[i]) {
		struct bn_prog *prog = &k->p->progs[k->p->nprogs];

		if (k->p->nprogs == BN_PROGS_MAX)
			return -E2BIG;
		*prog = (struct bn_prog){
			.obj = i, .attach_type = bpf_program__expected_attach_type(p)};
		snprintf(prog->name, sizeof(prog->name), "%s", bpf_program__name(p));
		prog->fd = fcntl(bpf_program__fd(p), F_DUPFD_CLOEXEC, 3);
		if (prog->fd < 0)
			return -errno;
		k->p->nprogs++;
	}
	bpf_object__close(k->p->obj[i]);
	k->p->obj[i] = NULL;
	return 0;
}

/* What the verifier says to a program, rather than that something is short. */
static bool is_refusal(int r)
{
	return r < 0 && r != -ENOMEM && r != -EAGAIN && r != -EINTR;
}

struct http_cfg {
	uint64_t on, fast; /* the values of cfg_http and cfg_http_fast */
};

static int reload_pod(struct bn_kernel *k, struct job *j)
{
	bpf_object__close(k->p->obj[BN_OBJ_POD]);
	k->p->obj[BN_OBJ_POD] = NULL;
	freep(&j->err);
	j->r = load_one(k, BN_OBJ_POD, j->table, j->n, &j->err);
	return j->r;
}

/* A kernel that finds the part that judges requests too large gets it without what makes it quick; one that cannot
 * run it at all the same programs without it. Policies with HTTP rules are refused then (loader/source), and the
 * programs deny what such a rule is asked about.
 */
static void retry_less_http(struct bn_kernel *k, struct job *j, struct http_cfg *http)
{
	_cleanup_(freep) char *why = TAKE_PTR(j->err);
	int r = j->r;

	http->fast = 0;
	if (reload_pod(k, j) == 0) {
		bn_knote(k, "requests are judged byte by byte: this kernel refuses the quicker program. %s", why ?: "");
		return;
	}
	http->on = 0;
	if (reload_pod(k, j) < 0) { /* that was not it: the first error says more */
		freep(&j->err);
		j->err = TAKE_PTR(why);
		j->r = r;
		return;
	}
	k->p->no_http = bn_no_http_text(r);
	if (!k->p->no_http)
		j->r = -ENOMEM;
	else
		bn_knote(k, "%s; policies with them are refused, they isolate what they select and allow nothing. %s",
			 k->p->no_http, why ?: "");
}

/* The error of the first object that has one. http is what the table names. xdp: with xdp_net, which an uplink that
 * wants it later gets from bn_objects_prog; few nodes have one, and it is a tenth of what the others cost.
 */
static int load_all(struct bn_kernel *k, const struct cfg *table, size_t n, bool xdp, struct http_cfg *http, char **err)
{
	struct job jobs[BN_OBJ__MAX] = {};
	int r = 0;

	for (int i = 0; i < BN_OBJ__MAX; i++) {
		jobs[i] = (struct job){.k = k, .i = i, .table = table, .n = n,
				       .wanted = objects[i].bytes && (xdp || i != BN_OBJ_XDP)};
		jobs[i].started = jobs[i].wanted && !pthread_create(&jobs[i].thread, NULL, load_job, &jobs[i]);
	}
	for (int i = 0; i < BN_OBJ__MAX; i++) {
		if (jobs[i].started)
			pthread_join(jobs[i].thread, NULL);
		else if (jobs[i].wanted) /* no thread to be had */
			load_job(&jobs[i]);
	}
	if (is_refusal(jobs[BN_OBJ_POD].r)) /* the others are through: they read the table, too */
		retry_less_http(k, &jobs[BN_OBJ_POD], http);
	for (int i = 0; i < BN_OBJ__MAX; i++) {
		if (jobs[i].r < 0 && !r)
			r = bn_kerr(err, jobs[i].r, "%s", jobs[i].err ?: strerror(-jobs[i].r));
		freep(&jobs[i].err);
	}
	for (int i = 0; i < BN_OBJ__MAX && !r; i++)
		if (k->p->obj[i])
			r = keep_programs(k, i);
	return r;
}

/* What the programs are set up with. It is kept: xdp_net is loaded when it is wanted. */
struct bn_objects_cfg {
	uint64_t bypass, events, weak, pods, cookie, buckets, conns, dsr_tcp, dsr_other, masquerade;
	struct http_cfg http;
	struct bn_meta_val meta;
	struct cfg table[13];
};

static int cfg_new(struct bn_kernel *k, const struct bn_opts *opts, char **err)
{
	_cleanup_(freep) struct bn_objects_cfg *c = calloc(1, sizeof(*c));
	__u32 zero = 0;
	int r;

	if (!c)
		return bn_kerr(err, -ENOMEM, "out of memory");
	r = bn_map_get(k->maps, BN_MAP_meta, &zero, &c->meta);
	if (r < 0)
		return bn_kerr(err, r, "cannot read map 'meta': %s", strerror(-r));
	c->bypass = opts->host_routing != BN_ROUTING_STACK;
	c->events = 1;
	c->weak = bn_weak_order();
	c->pods = opts->socket_lb_pods;
	c->cookie = k->p->netns_cookie;
	c->buckets = k->maps->entries[BN_MAP_ct];
	c->conns = k->maps->entries[BN_MAP_http_conns];
	c->dsr_tcp = opts->lb_mode != BN_LB_SNAT;
	c->dsr_other = opts->lb_mode == BN_LB_DSR;
	c->masquerade = opts->masquerade_all;
	c->http = (struct http_cfg){1, 1};
	const struct cfg table[] = {
		{"cfg_ct_seed", c->meta.seed, sizeof(c->meta.seed)},
		{"cfg_ct_buckets", &c->buckets, 0},
		{"cfg_http", &c->http.on, 0},
		{"cfg_http_fast", &c->http.fast, 0},
		{"cfg_http_conns", &c->conns, 0},
		{"cfg_bypass", &c->bypass, 0},
		{"cfg_weak_order", &c->weak, 0},
		{"cfg_events", &c->events, 0},
		{"cfg_masquerade_all", &c->masquerade, 0},
		{"cfg_dsr_tcp", &c->dsr_tcp, 0},
		{"cfg_dsr_other", &c->dsr_other, 0},
		{"cfg_netns_cookie", &c->cookie, 0},
		{"cfg_socket_lb_pods", &c->pods, 0},
	};
	_Static_assert(sizeof(table) == sizeof(c->table), "all of them");
	memcpy(c->table, table, sizeof(table));
	k->p->cfg = TAKE_PTR(c);
	return 0;
}

/* Has an earlier daemon left xdp_net on an uplink? All its programs are replaced at one moment. */
static bool xdp_attached(const struct bn_kernel *k)
{
	DIR *d = opendir(k->p->links);
	struct dirent *e;
	bool found = false;

	while (d && (e = readdir(d)))
		found |= !strncmp(e->d_name, "xdp_", 4);
	if (d)
		closedir(d);
	return found;
}

int bn_objects_load(struct bn_kernel *k, const struct bn_opts *opts, char **err)
{
	bool xdp = opts->xdp == BN_XDP_NATIVE || xdp_attached(k);
	struct bn_objects_cfg *c;
	int r = cfg_new(k, opts, err);

	if (r < 0)
		return r;
	c = k->p->cfg;
	return load_all(k, c->table, ARRAY_SIZE(c->table), xdp, &c->http, err);
}

static int load_xdp(struct bn_kernel *k, char **err)
{
	struct bn_objects_cfg *c = k->p->cfg;
	int r = load_one(k, BN_OBJ_XDP, c->table, ARRAY_SIZE(c->table), err);

	if (r == 0)
		r = keep_programs(k, BN_OBJ_XDP);
	bpf_object__close(k->p->obj[BN_OBJ_XDP]);
	k->p->obj[BN_OBJ_XDP] = NULL;
	return r;
}

int bn_objects_prog(struct bn_kernel *k, const char *name, char **err)
{
	int fd = bn_kernel_prog_fd(k, name), r;

	if (fd >= 0 || strcmp(name, "xdp_net") || !objects[BN_OBJ_XDP].bytes)
		return fd;
	if (k->p->no_xdp)
		return bn_kerr(err, -EACCES, "%s", k->p->no_xdp);
	r = load_xdp(k, err);
	if (r < 0) {
		if (is_refusal(r)) /* it will say so the next time, too */
			k->p->no_xdp = strdup(err && *err ? *err : "the kernel refuses xdp_net");
		return r;
	}
	return bn_kernel_prog_fd(k, name);
}

void bn_objects_free(struct bn_kernel *k)
{
	for (int i = 0; i < BN_OBJ__MAX; i++) {
		bpf_object__close(k->p->obj[i]);
		k->p->obj[i] = NULL;
	}
	closep(&k->p->jump);
	freep(&k->p->cfg);
	freep(&k->p->no_xdp);
	while (k->p->nprogs)
		closep(&k->p->progs[--k->p->nprogs].fd);
}

int bn_kernel_prog_fd(const struct bn_kernel *k, const char *name)
{
	for (uint32_t i = 0; i < k->p->nprogs; i++)
		if (!strcmp(k->p->progs[i].name, name))
			return k->p->progs[i].fd;
	return -ENOENT;
}
