/* SPDX-License-Identifier: MIT */
/* The stack of the deepest chain of calls in every program, as Linux 6.1 counts it: each frame is rounded
 * up to 32 bytes, a chain has at most 8 frames and 512 bytes, and what a function that makes a tail call
 * was called through at most 256. Computed from the instructions, so that a chain that grows is seen
 * here and not under QEMU. A function whose branches the verifier takes away may count more here.
 *
 * And the loops that 6.1 refuses ("back-edge from insn"): there only a jump may close one, but clang 16 may rotate a
 * loop so that its last instruction falls through into the middle of it. Later kernels do not mind.
 */
#include <errno.h>
#include <gelf.h>
#include <linux/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "maps/ct_carry.h"
#include "maps/ct_flush.h"
#include "maps/ct_import.h"
#include "maps/util.h"

#include "ctl.skel.h" /* after the types that it uses */
#include "net.skel.h"
#include "pod.skel.h"
#include "sock.skel.h"
#include "socks.skel.h"
#include "xdp.skel.h"

enum {
	STACK_MAX = 512,
	MARGIN = 64, /* what a chain leaves for those who come after */
	TAIL_MAX = 256,
	FRAMES_MAX = 8,
	FUNCS_MAX = 512,
	CALLS_MAX = 64,
};

struct fn {
	char name[64];
	size_t sec;
	uint64_t at, size; /* bytes within the section */
	unsigned stack;
	bool tail;
	struct fn *calls[CALLS_MAX];
	size_t ncalls;
	bool entry; /* a program: nobody calls it */
};

struct obj {
	Elf *elf;
	Elf_Data *syms;
	size_t nsyms, strs;
	struct fn fns[FUNCS_MAX];
	size_t n;
};

struct chain {
	const struct fn *path[FRAMES_MAX + 1];
	size_t n;
	unsigned bytes;
};

static struct fn *at(struct obj *o, size_t sec, uint64_t off)
{
	size_t i;

	for (i = 0; i < o->n; i++)
		if (o->fns[i].sec == sec && off >= o->fns[i].at &&
		    off < o->fns[i].at + o->fns[i].size)
			return &o->fns[i];
	return NULL;
}

static void add_call(struct fn *f, struct fn *to)
{
	size_t i;

	assert_non_null(to);
	to->entry = false;
	for (i = 0; i < f->ncalls; i++)
		if (f->calls[i] == to)
			return;
	assert_true(f->ncalls < CALLS_MAX);
	f->calls[f->ncalls++] = to;
}

static bool is_call(const struct bpf_insn *in)
{
	return in->code == (BPF_JMP | BPF_CALL) && in->src_reg == BPF_PSEUDO_CALL;
}

/* How far below the frame pointer a function reaches: by access, or by an address it takes. */
static void frame(struct fn *f, const struct bpf_insn *in, size_t n)
{
	int off[11] = {}, low = 0;
	bool fp[11] = {[10] = true};
	size_t i;

	for (i = 0; i < n; i++) {
		unsigned class = BPF_CLASS(in[i].code);
		int base = class == BPF_LDX				? in[i].src_reg
			   : class == BPF_ST || class == BPF_STX ? in[i].dst_reg
								 : -1;

		if (in[i].code == (BPF_JMP | BPF_CALL) && !in[i].src_reg &&
		    in[i].imm == BPF_FUNC_tail_call)
			f->tail = true;
		if (base >= 0 && fp[base] && off[base] + in[i].off < low)
			low = off[base] + in[i].off;
		if (in[i].code == (BPF_ALU64 | BPF_MOV | BPF_X) && fp[in[i].src_reg]) {
			fp[in[i].dst_reg] = true;
			off[in[i].dst_reg] = off[in[i].src_reg];
		} else if (in[i].code == (BPF_ALU64 | BPF_ADD | BPF_K) && fp[in[i].dst_reg]) {
			off[in[i].dst_reg] += in[i].imm;
			if (off[in[i].dst_reg] < low)
				low = off[in[i].dst_reg];
		} else if (class == BPF_LDX || class == BPF_ALU64 || class == BPF_ALU ||
			   class == BPF_LD) {
			fp[in[i].dst_reg] = false;
		}
	}
	f->stack = -low;
}

/* Depth first, what follows a jump before its target, as check_cfg of 6.1 goes. */
static void loops(const struct fn *f, const struct bpf_insn *in, size_t n)
{
	enum { NEW, OPEN, FIRST, SECOND, DONE }; /* SECOND: both ways of a jump were taken */
	uint8_t *state = calloc(n, 1);
	size_t *path = calloc(n, sizeof(*path)), depth = 0;

	assert_true(n > 0 && state && path);
	path[depth++] = 0;
	state[0] = OPEN;
	while (depth) {
		size_t i = path[depth - 1], to;
		unsigned class = BPF_CLASS(in[i].code), op = BPF_OP(in[i].code);
		bool jump = (class == BPF_JMP || class == BPF_JMP32) && op != BPF_CALL && op != BPF_EXIT;
		bool end = class == BPF_JMP && op == BPF_EXIT, always = class == BPF_JMP && op == BPF_JA;

		if (end || state[i] == SECOND || (state[i] == FIRST && (!jump || always))) {
			state[i] = DONE;
			depth--;
			continue;
		}
		to = state[i] == FIRST || always ? i + 1 + in[i].off
						 : i + 1 + (in[i].code == (BPF_LD | BPF_DW | BPF_IMM));
		state[i]++;
		assert_true(to < n);
		if (!jump && state[to] != NEW && state[to] != DONE)
			fail_msg("%s: a loop is closed without a jump, from instruction %zu to %zu; Linux 6.1 refuses it",
				 f->name, i, to);
		if (state[to] == NEW) {
			state[to] = OPEN;
			path[depth++] = to;
		}
	}
	free(state);
	free(path);
}

static void read_section(struct obj *o, size_t sec, const Elf_Data *d)
{
	const struct bpf_insn *in = d->d_buf;
	size_t i, k;

	for (i = 0; i < o->n; i++) {
		struct fn *f = &o->fns[i];

		if (f->sec != sec)
			continue;
		frame(f, in + f->at / sizeof(*in), f->size / sizeof(*in));
		loops(f, in + f->at / sizeof(*in), f->size / sizeof(*in));
		for (k = f->at / sizeof(*in); k < (f->at + f->size) / sizeof(*in); k++)
			if (is_call(&in[k]) && in[k].imm != -1) /* -1: a relocation says whom */
				add_call(f, at(o, sec, (k + 1 + in[k].imm) * sizeof(*in)));
	}
}

/* Calls from one section into another, and addresses of functions given to helpers. */
static void read_relocs(struct obj *o, size_t sec, const Elf_Data *d, const Elf_Data *code)
{
	const struct bpf_insn *in = code->d_buf;
	size_t i, n = d->d_size / sizeof(Elf64_Rel);

	for (i = 0; i < n; i++) {
		const struct bpf_insn *x;
		GElf_Sym s;
		GElf_Rel r;

		assert_non_null(gelf_getrel((Elf_Data *)d, i, &r));
		assert_non_null(gelf_getsym(o->syms, GELF_R_SYM(r.r_info), &s));
		x = &in[r.r_offset / sizeof(*in)];
		if (s.st_shndx == SHN_UNDEF) /* the kernel's own functions */
			continue;
		if (is_call(x))
			add_call(at(o, sec, r.r_offset),
				 at(o, s.st_shndx, s.st_value + (x->imm + 1) * sizeof(*in)));
		else if (x->code == (BPF_LD | BPF_DW | BPF_IMM) && at(o, s.st_shndx, s.st_value))
			add_call(at(o, sec, r.r_offset),
				 at(o, s.st_shndx, s.st_value + x->imm));
	}
}

static void read_functions(struct obj *o)
{
	Elf_Scn *s = NULL;
	GElf_Shdr h;
	GElf_Sym y;
	size_t i;

	while ((s = elf_nextscn(o->elf, s)))
		if (gelf_getshdr(s, &h) && h.sh_type == SHT_SYMTAB) {
			o->syms = elf_getdata(s, NULL);
			o->nsyms = h.sh_size / h.sh_entsize;
			o->strs = h.sh_link;
		}
	assert_non_null(o->syms);
	for (i = 0; i < o->nsyms; i++) {
		struct fn *f = &o->fns[o->n];

		assert_non_null(gelf_getsym(o->syms, i, &y));
		if (GELF_ST_TYPE(y.st_info) != STT_FUNC)
			continue;
		assert_true(o->n < FUNCS_MAX);
		*f = (struct fn){.sec = y.st_shndx, .at = y.st_value, .size = y.st_size, .entry = true};
		snprintf(f->name, sizeof(f->name), "%s",
			 elf_strptr(o->elf, o->strs, y.st_name));
		o->n++;
	}
}

static void read_calls(struct obj *o)
{
	Elf_Scn *s = NULL;
	GElf_Shdr h;

	while ((s = elf_nextscn(o->elf, s))) {
		assert_non_null(gelf_getshdr(s, &h));
		if (h.sh_type == SHT_PROGBITS && (h.sh_flags & SHF_EXECINSTR))
			read_section(o, elf_ndxscn(s), elf_getdata(s, NULL));
	}
	while ((s = elf_nextscn(o->elf, s))) {
		Elf_Scn *to;
		GElf_Shdr th;

		assert_non_null(gelf_getshdr(s, &h));
		if (h.sh_type != SHT_REL)
			continue;
		to = elf_getscn(o->elf, h.sh_info);
		assert_non_null(gelf_getshdr(to, &th));
		if (th.sh_flags & SHF_EXECINSTR)
			read_relocs(o, h.sh_info, elf_getdata(s, NULL), elf_getdata(to, NULL));
	}
}

static unsigned frame_bytes(const struct fn *f)
{
	return ((f->stack ?: 1) + 31) / 32 * 32;
}

static void walk(const struct fn *f, struct chain *now, struct chain *worst)
{
	size_t i;

	if (now->n == FRAMES_MAX)
		fail_msg("more than %d frames: ... > %s > %s", FRAMES_MAX,
			 now->path[now->n - 1]->name, f->name);
	if (f->tail && now->n && now->bytes >= TAIL_MAX)
		fail_msg("%s makes a tail call below %u bytes of stack", f->name, now->bytes);
	now->path[now->n++] = f;
	now->bytes += frame_bytes(f);
	if (now->bytes > worst->bytes)
		*worst = *now;
	for (i = 0; i < f->ncalls; i++)
		walk(f->calls[i], now, worst);
	now->n--;
	now->bytes -= frame_bytes(f);
}

static unsigned report(const struct fn *f, const char *object)
{
	struct chain now = {}, worst = {};
	size_t i;

	walk(f, &now, &worst);
	printf("stack  %-4s %-14s %3u of %d bytes:", object, f->name, worst.bytes, STACK_MAX);
	for (i = 0; i < worst.n; i++)
		printf(" %s %u", worst.path[i]->name, worst.path[i]->stack);
	printf("\n");
	return worst.bytes;
}

static void check(const char *name, const void *bytes, size_t size)
{
	struct obj *o = calloc(1, sizeof(*o));
	unsigned worst = 0;
	size_t i, programs = 0;

	assert_non_null(o);
	assert_int_not_equal(elf_version(EV_CURRENT), EV_NONE);
	o->elf = elf_memory((char *)bytes, size);
	assert_non_null(o->elf);
	read_functions(o);
	read_calls(o);
	for (i = 0; i < o->n; i++)
		if (o->fns[i].entry) {
			unsigned n = report(&o->fns[i], name);

			worst = n > worst ? n : worst;
			programs++;
		}
	assert_true(programs > 0);
	elf_end(o->elf);
	free(o);
	if (worst > STACK_MAX - MARGIN)
		fail_msg("%s.bpf.o: a chain of calls takes %u bytes of stack, leaving less than %d of 6.1's %d",
			 name, worst, MARGIN, STACK_MAX);
}

#define CHECK(object)                                                                              \
	static void object##_stack(void **state)                                                   \
	{                                                                                          \
		size_t size;                                                                       \
		const void *bytes = object##_bpf__elf_bytes(&size);                                \
                                                                                                   \
		(void)state;                                                                       \
		check(#object, bytes, size);                                                       \
	}
CHECK(pod)
CHECK(net)
CHECK(sock)
CHECK(socks)
CHECK(xdp)
CHECK(ctl)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pod_stack),
		cmocka_unit_test(net_stack),
		cmocka_unit_test(sock_stack),
		cmocka_unit_test(socks_stack),
		cmocka_unit_test(xdp_stack),
		cmocka_unit_test(ctl_stack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
