// SPDX-License-Identifier: MIT
/* bpfload OBJECT...: loads each BPF object with each of its cfg_ flags both ways (a dead branch is
 * not verified), all others at their defaults, and all of them on. Exit 0 when every load worked.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "maps/util.h"

#define FLAGS_MAX 32

struct flags {
	unsigned n;
	uint32_t off[FLAGS_MAX];
	const char *name[FLAGS_MAX];
};

static char log_tail[64 << 20]; /* before 6.4 the kernel keeps the beginning of a log that is too long, and fails with ENOSPC */

static int say(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, fmt, ap) : 0;
}

/* The one-byte cfg_ variables of .rodata. */
static void flags_find(struct bpf_object *o, struct flags *f)
{
	const struct btf *btf = bpf_object__btf(o);
	int id = btf ? btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC) : -1;
	const struct btf_type *sec = id > 0 ? btf__type_by_id(btf, id) : NULL;

	f->n = 0;
	for (int i = 0; sec && i < btf_vlen(sec); i++) {
		const struct btf_var_secinfo *v = &btf_var_secinfos(sec)[i];
		const char *name =
			btf__name_by_offset(btf, btf__type_by_id(btf, v->type)->name_off);

		if (v->size == 1 && !strncmp(name, "cfg_", 4) && f->n < FLAGS_MAX) {
			f->off[f->n] = v->offset;
			f->name[f->n++] = name;
		}
	}
}

/* How much of the verifier's million of instructions each program takes, which differs between kernels. */
static void say_verified(struct bpf_object *o)
{
	struct bpf_program *p;

	bpf_object__for_each_program(p, o)
	{
		struct bpf_prog_info info = {};
		__u32 len = sizeof(info);

		if (bpf_obj_get_info_by_fd(bpf_program__fd(p), &info, &len) == 0)
			printf("       %s: %u instructions verified\n", bpf_program__name(p), info.verified_insns);
	}
}

/* which: a flag to turn over; -1: none; -2: all on. */
static int load(const char *path, int which, unsigned *nflags)
{
	struct bpf_object *o = bpf_object__open(path);
	struct bpf_program *p;
	struct bpf_map *m;
	struct flags f = {};
	const char *what = which == -1 ? "defaults" : "all flags on";
	int r;

	if (!o)
		return -1;
	flags_find(o, &f);
	*nflags = f.n;
	bpf_object__for_each_map(m, o)
	{
		_cleanup_(freep) uint8_t *data = NULL;
		const void *old = NULL;
		size_t size = 0;

		/* Small: it is the verifier that is tested. */
		if (!strstr(bpf_map__name(m), ".") && bpf_map__type(m) != BPF_MAP_TYPE_RINGBUF &&
		    bpf_map__max_entries(m) > 1024)
			bpf_map__set_max_entries(m, 1024);
		if (strstr(bpf_map__name(m), ".rodata"))
			old = bpf_map__initial_value(m, &size);
		data = old ? malloc(size) : NULL;
		if (!data)
			continue;
		memcpy(data, old, size);
		for (unsigned i = 0; i < f.n; i++)
			if (which == -2 || which == (int)i)
				data[f.off[i]] = which == -2 ? 1 : !data[f.off[i]];
		if (bpf_map__set_initial_value(m, data, size) < 0)
			return -1;
	}
	if (which >= 0)
		what = f.name[which];
	bpf_object__for_each_program(p, o) bpf_program__set_log_buf(p, log_tail, sizeof(log_tail));
	r = bpf_object__load(o);
	if (r < 0) {
		size_t n = strlen(log_tail);

		fprintf(stderr, "%s\n", log_tail + (n > 2000 ? n - 2000 : 0));
	}
	printf("%s %s, %s\n", r < 0 ? "FAILED" : "ok    ", path, what);
	if (r == 0 && which == -1)
		say_verified(o);
	bpf_object__close(o);
	return r;
}

int main(int argc, char **argv)
{
	int bad = argc < 2;

	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(say);
	for (int i = 1; i < argc; i++) {
		unsigned n = 0, k;

		bad |= load(argv[i], -1, &n) < 0;
		for (int f = 0; f < (int)n; f++)
			bad |= load(argv[i], f, &k) < 0;
		bad |= load(argv[i], -2, &k) < 0;
	}
	return bad;
}
