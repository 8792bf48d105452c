/* SPDX-License-Identifier: MIT */
/* What runs LLVMFuzzerTestOneInput without libFuzzer: replays files, then mutates them for a number
 * of rounds, the same ones every time.
 *
 *	fuzz_x [-n ROUNDS] [-s SEED] [-o FILE] [FILE|DIR]...
 *
 * Without files it takes tests/fuzz/corpus/x. -o writes each input to FILE before it is tried, so that
 * one that crashes can be replayed.
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "maps/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Words worth inserting; a fuzzer may define it, NULL at the end. */
extern const char *const bn_fuzz_words[] __attribute__((weak));

#define INPUT_MAX 65536

struct input {
	uint8_t *data;
	size_t size;
};

static struct {
	struct input *v;
	size_t n;
} corpus;

static uint64_t seed = 1;
static const char *save;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return below ? (seed * 0x9e3779b97f4a7c15ull >> 11) % below : 0;
}

static void add_file(const char *path)
{
	_cleanup_(fclosep) FILE *f = fopen(path, "r");
	uint8_t *data = malloc(INPUT_MAX);
	struct input *v;

	v = realloc(corpus.v, (corpus.n + 1) * sizeof(*v));
	if (!f || !data || !v) {
		perror(path);
		exit(1);
	}
	corpus.v = v;
	v[corpus.n++] = (struct input){ data, fread(data, 1, INPUT_MAX, f) };
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void add_path(const char *path)
{
	struct dirent **list;
	struct stat st;
	char sub[4096];
	int i, n;

	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
		add_file(path);
		return;
	}
	n = scandir(path, &list, NULL, by_name);
	if (n < 0) {
		perror(path);
		exit(1);
	}
	for (i = 0; i < n; i++) {
		if (list[i]->d_name[0] != '.') {
			snprintf(sub, sizeof(sub), "%s/%s", path, list[i]->d_name);
			add_path(sub);
		}
		freep(&list[i]);
	}
	freep(&list);
}

/* Exactly as large as the input, so that ASan sees one byte too many. */
static void run(const uint8_t *data, size_t size)
{
	uint8_t *exact = malloc(size ? size : 1);
	FILE *f;

	if (!exact)
		exit(1);
	memcpy(exact, data, size);
	if (save) {
		f = fopen(save, "w");
		if (f) {
			fwrite(data, 1, size, f);
			fclose(f);
		}
	}
	LLVMFuzzerTestOneInput(exact, size);
	freep(&exact);
}

static size_t insert(uint8_t *buf, size_t n, size_t at, const void *p, size_t len)
{
	if (n + len > INPUT_MAX)
		return n;
	memmove(buf + at + len, buf + at, n - at);
	memcpy(buf + at, p, len);
	return n + len;
}

static size_t insert_word(uint8_t *buf, size_t n)
{
	size_t words = 0;
	const char *w;

	while (bn_fuzz_words && bn_fuzz_words[words])
		words++;
	if (!words)
		return n;
	w = bn_fuzz_words[rnd(words)];
	return insert(buf, n, rnd(n + 1), w, strlen(w));
}

static size_t mutate(uint8_t *buf, size_t n)
{
	static const uint8_t bytes[] = { 0, '\n', ' ', '"', '\'', '{', '}', '[', ']', ':', ',', '-', '/',
					 '0', '9', 0x7f, 0x80, 0xff, '%', '&', '*', '\\', '\t', '.' };
	uint8_t copy[256];
	size_t at = rnd(n + 1), len = rnd(16) + 1;
	const struct input *other;

	switch (rnd(8)) {
	case 0:
		if (n)
			buf[rnd(n)] ^= (uint8_t)(1 << rnd(8));
		return n;
	case 1:
		if (n)
			buf[rnd(n)] = bytes[rnd(sizeof(bytes))];
		return n;
	case 2:
		return insert(buf, n, at, &bytes[rnd(sizeof(bytes))], 1);
	case 3: /* a piece away */
		len = rnd(4) ? len : rnd(n + 1);
		if (at + len > n)
			return rnd(8) ? n : at;
		memmove(buf + at, buf + at + len, n - at - len);
		return n - len;
	case 4: /* a piece twice */
		len = rnd(sizeof(copy));
		if (len > n)
			return n;
		memcpy(copy, buf + rnd(n - len + 1), len);
		return insert(buf, n, at, copy, len);
	case 5: /* a piece of another */
		other = &corpus.v[rnd(corpus.n)];
		len = rnd(sizeof(copy));
		if (len > other->size)
			return n;
		return insert(buf, n, at, other->data + rnd(other->size - len + 1), len);
	default:
		return insert_word(buf, n);
	}
}

static void mutate_corpus(size_t rounds)
{
	static uint8_t buf[INPUT_MAX];

	while (rounds--) {
		const struct input *in = &corpus.v[rnd(corpus.n)];
		size_t n = in->size, times = 1 + rnd(6);

		memcpy(buf, in->data, n);
		while (times--)
			n = mutate(buf, n);
		run(buf, n);
	}
}

int main(int argc, char **argv)
{
	size_t rounds = 100000, i;
	char path[300];
	int c;

	while ((c = getopt(argc, argv, "n:s:o:")) > 0) {
		if (c == 'n')
			rounds = strtoull(optarg, NULL, 10);
		else if (c == 's')
			seed = strtoull(optarg, NULL, 10) | 1;
		else if (c == 'o')
			save = optarg;
		else
			return 2;
	}
	for (i = (size_t)optind; i < (size_t)argc; i++)
		add_path(argv[i]);
	if (optind == argc) {
		const char *name = strrchr(argv[0], '/');

		name = name ? name + 1 : argv[0];
		snprintf(path, sizeof(path), "tests/fuzz/corpus/%s",
			 strncmp(name, "fuzz_", 5) ? name : name + 5);
		add_path(path);
	}
	if (!corpus.n) {
		fprintf(stderr, "no corpus\n");
		return 1;
	}
	for (i = 0; i < corpus.n; i++)
		run(corpus.v[i].data, corpus.v[i].size);
	mutate_corpus(rounds);
	printf("ok: %zu files, %zu mutations\n", corpus.n, rounds);
	for (i = 0; i < corpus.n; i++)
		freep(&corpus.v[i].data);
	freep(&corpus.v);
	return 0;
}
