/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/secret.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int secret_alloc(struct bn_secret *s, size_t n)
{
	size_t page = sysconf(_SC_PAGESIZE), len = (n + page) & ~(page - 1);
	char *p;

	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	madvise(p, len, MADV_DONTDUMP);
	*s = (struct bn_secret){ .p = p, .n = n, .map = len };
	return 0;
}

void bn_secret_clear(struct bn_secret *s)
{
	if (s->p) {
		explicit_bzero(s->p, s->map);
		munmap(s->p, s->map);
	}
	*s = (struct bn_secret){ 0 };
}

static void replace(struct bn_secret *s, struct bn_secret *by)
{
	bn_secret_clear(s);
	*s = *by;
}

int bn_secret_set(struct bn_secret *s, const void *data, size_t n)
{
	struct bn_secret t;
	int r = secret_alloc(&t, n);

	if (r < 0)
		return r;
	if (n)
		memcpy(t.p, data, n);
	replace(s, &t);
	return 0;
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int bn_secret_set_base64(struct bn_secret *s, const char *text)
{
	struct bn_secret t;
	unsigned acc = 0, bits = 0, digits = 0, pad = 0;
	size_t n = 0;
	int v, r;

	r = secret_alloc(&t, strlen(text) / 4 * 3 + 3);
	if (r < 0)
		return r;
	for (; *text; text++) {
		if (strchr(" \t\r\n", *text))
			continue;
		if (*text == '=') {
			pad++;
			continue;
		}
		v = base64_value(*text);
		if (v < 0 || pad)
			goto bad;
		acc = acc << 6 | v;
		bits += 6;
		digits++;
		if (bits >= 8) {
			bits -= 8;
			t.p[n++] = acc >> bits;
			acc &= (1u << bits) - 1;
		}
	}
	if ((digits + pad) % 4 || pad > 2)
		goto bad;
	t.p[n] = 0;
	t.n = n;
	replace(s, &t);
	return 0;
bad:
	bn_secret_clear(&t);
	return -EINVAL;
}

/* Up to max bytes and one more, so that a longer file shows. */
static ssize_t read_some(int fd, char *p, size_t max)
{
	size_t n = 0;
	ssize_t got;

	while (n < max) {
		got = read(fd, p + n, max - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		n += got;
	}
	return n;
}

int bn_secret_set_file(struct bn_secret *s, const char *path, size_t max)
{
	_cleanup_(closep) int fd = -1;
	size_t room;
	struct bn_secret t;
	struct stat st;
	ssize_t n;
	int r;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	/* What a file says of its size is where to begin; it may grow meanwhile. */
	for (room = st.st_size > 0 && (size_t)st.st_size < max ? (size_t)st.st_size + 1 : max + 1;;
	     room = max + 1) {
		r = secret_alloc(&t, room);
		if (r < 0)
			return r;
		n = read_some(fd, t.p, room);
		if (n < 0 || (size_t)n < room || room > max)
			break;
		bn_secret_clear(&t);
		if (lseek(fd, 0, SEEK_SET) < 0)
			return -errno;
	}
	r = n < 0 ? (int)n : (size_t)n > max ? -EFBIG : bn_secret_set(s, t.p, n);
	bn_secret_clear(&t);
	return r;
}

void bn_secret_trim(struct bn_secret *s)
{
	size_t lead;

	while (s->n && strchr(" \t\r\n", s->p[s->n - 1]))
		s->p[--s->n] = 0;
	lead = s->n ? strspn(s->p, " \t\r\n") : 0;
	if (lead) {
		s->n -= lead;
		memmove(s->p, s->p + lead, s->n + 1);
	}
}

bool bn_secret_equal(const struct bn_secret *a, const struct bn_secret *b)
{
	return a->n == b->n && (!a->n || !memcmp(a->p, b->p, a->n));
}

void bn_wipe_freep(char **s)
{
	if (*s)
		explicit_bzero(*s, strlen(*s));
	free(*s);
	*s = NULL;
}

char *bn_secret_base64(const struct bn_secret *s)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *out = malloc((s->n + 2) / 3 * 4 + 1), *p = out;

	if (!out)
		return NULL;
	for (size_t i = 0; i < s->n; i += 3) {
		unsigned v = 0, k;

		for (k = 0; k < 3; k++)
			v = v << 8 | (i + k < s->n ? (unsigned char)s->p[i + k] : 0);
		for (k = 0; k < 4; k++)
			*p++ = i + k <= s->n ? digits[v >> (18 - 6 * k) & 63] : '=';
	}
	*p = 0;
	return out;
}
