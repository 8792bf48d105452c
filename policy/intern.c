/* SPDX-License-Identifier: MIT */
#include "policy/intern.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "policy/siphash.h"

/* Strings stand in chunks, each behind a small head; the table holds pointers to them, at most three
 * quarters full. About 20 bytes of overhead a string, where malloc and uthash cost 80. The room of a
 * freed string is used again for one of the same size; long ones are malloc's. With AddressSanitizer
 * all of them are, so that it sees who uses a string that is gone.
 */
#define CHUNK	 65536
#define STEP	 4
#define SMALL	 384 /* bytes of a string with its head: all names and labels, most paths */
#define LISTED	 (1u << 31)
#define KEEP_LOOSE 4096

#ifdef __SANITIZE_ADDRESS__
#define IN_CHUNKS 0
#else
#define IN_CHUNKS 1
#endif

struct head {
	uint32_t hash;
	uint32_t refs; /* LISTED: in tab.loose */
};

struct chunk {
	struct chunk *next;
	size_t used;
	char data[];
};

static struct {
	char **slots;
	size_t mask, count, bytes;
	struct chunk *chunks;
	char *free[SMALL / STEP + 1]; /* by size in steps; each begins with a pointer to the next */
	const char **loose; /* what may have no reference */
	size_t nloose, max_loose;
} tab;

const struct bn_sipkey *bn_sipkey(void)
{
	static struct bn_sipkey key;
	static bool made;

	if (!made) {
		/* Before the pool is ready the time must do: nobody chooses names that early. */
		if (getrandom(&key, sizeof(key), GRND_NONBLOCK) != sizeof(key)) {
			struct timespec ts;

			clock_gettime(CLOCK_REALTIME, &ts);
			key.k[0] = (uint64_t)ts.tv_nsec << 32 ^ (uint64_t)ts.tv_sec;
			key.k[1] = (uintptr_t)&ts;
		}
		made = true;
	}
	return &key;
}

static struct head *head(const char *s)
{
	return (struct head *)((uintptr_t)s - sizeof(struct head));
}

static uint32_t slot_hash(const char *s)
{
	return head(s)->hash;
}

static size_t find_slot(const char *s, size_t len, uint32_t hash)
{
	size_t i = hash & tab.mask;

	for (; tab.slots[i]; i = (i + 1) & tab.mask) {
		const char *t = tab.slots[i];

		/* strncmp, not memcmp: the stored string may be the shorter one */
		if (slot_hash(t) == hash && !strncmp(t, s, len) && !t[len])
			break;
	}
	return i;
}

static bool grow(void)
{
	size_t n = tab.slots ? (tab.mask + 1) * 2 : 1024, i, j;
	char **slots = calloc(n, sizeof(*slots));

	if (!slots)
		return false;
	for (i = 0; tab.slots && i <= tab.mask; i++) {
		if (!tab.slots[i])
			continue;
		for (j = slot_hash(tab.slots[i]) & (n - 1); slots[j];)
			j = (j + 1) & (n - 1);
		slots[j] = tab.slots[i];
	}
	free(tab.slots);
	tab.slots = slots;
	tab.mask = n - 1;
	return true;
}

/* --- room ------------------------------------------------------------------------------------- */

static size_t room(size_t len)
{
	size_t n = sizeof(struct head) + len + 1;

	return (n + STEP - 1) / STEP * STEP;
}

static bool is_small(size_t n)
{
	return IN_CHUNKS && n <= SMALL;
}

static char *room_get(size_t n)
{
	struct chunk *c = tab.chunks;
	char *p;

	if (!is_small(n)) {
		tab.bytes += n;
		return malloc(n);
	}
	p = tab.free[n / STEP];
	if (p) {
		memcpy(&tab.free[n / STEP], p, sizeof(p));
		return p;
	}
	if (!c || CHUNK - c->used < n) {
		c = malloc(sizeof(*c) + CHUNK);
		if (!c)
			return NULL;
		*c = (struct chunk){ .next = tab.chunks };
		tab.chunks = c;
		tab.bytes += sizeof(*c) + CHUNK;
	}
	p = c->data + c->used;
	c->used += n;
	return p;
}

static void room_put(char *p, size_t n)
{
	if (!is_small(n)) {
		tab.bytes -= n;
		free(p);
		return;
	}
	memcpy(p, &tab.free[n / STEP], sizeof(p));
	tab.free[n / STEP] = p;
}

/* --- references ------------------------------------------------------------------------------- */

/* Without memory for the list a string without references stays: a leak, never a dangling pointer. */
static void list_loose(const char *s)
{
	struct head *h = head(s);

	if (tab.nloose == tab.max_loose) {
		size_t n = tab.max_loose ? tab.max_loose * 2 : 256;
		const char **p = realloc(tab.loose, n * sizeof(*p));

		if (!p)
			return;
		tab.loose = p;
		tab.max_loose = n;
	}
	tab.loose[tab.nloose++] = s;
	h->refs |= LISTED;
}

const char *bn_intern_ref(const char *s)
{
	if (s)
		head(s)->refs++;
	return s;
}

void bn_intern_unref(const char *s)
{
	struct head *h;

	if (!s)
		return;
	h = head(s);
	if (!(--h->refs & ~LISTED) && !(h->refs & LISTED))
		list_loose(s);
}

/* What stands behind an emptied slot moves up, as far as it may. */
static void slot_clear(size_t i)
{
	for (size_t j = (i + 1) & tab.mask; tab.slots[j]; j = (j + 1) & tab.mask) {
		size_t home = slot_hash(tab.slots[j]) & tab.mask;

		if (((j - home) & tab.mask) < ((j - i) & tab.mask))
			continue;
		tab.slots[i] = tab.slots[j];
		i = j;
	}
	tab.slots[i] = NULL;
}

static void drop(const char *s)
{
	size_t i = slot_hash(s) & tab.mask;

	while (tab.slots[i] != s)
		i = (i + 1) & tab.mask;
	slot_clear(i);
	tab.count--;
	room_put((char *)head(s), room(strlen(s)));
}

void bn_intern_collect(void)
{
	while (tab.nloose) {
		const char *s = tab.loose[--tab.nloose];

		head(s)->refs &= ~LISTED;
		if (!head(s)->refs)
			drop(s);
	}
	if (tab.max_loose > KEEP_LOOSE) {
		free(tab.loose);
		tab.loose = NULL;
		tab.max_loose = 0;
	}
}

/* --- strings ---------------------------------------------------------------------------------- */

const char *bn_intern_n(const char *s, size_t len)
{
	uint32_t hash;
	size_t i;
	char *p;

	if (!s)
		return NULL;
	len = strnlen(s, len);
	if ((!tab.slots || tab.count >= (tab.mask + 1) / 4 * 3) && !grow())
		return NULL;
	hash = (uint32_t)bn_siphash(bn_sipkey(), s, len);
	i = find_slot(s, len, hash);
	if (tab.slots[i])
		return tab.slots[i];
	p = room_get(room(len));
	if (!p)
		return NULL;
	memcpy(p, &(struct head){ .hash = hash }, sizeof(struct head));
	p += sizeof(struct head);
	memcpy(p, s, len);
	p[len] = 0;
	tab.slots[i] = p;
	tab.count++;
	list_loose(p);
	return p;
}

const char *bn_intern(const char *s)
{
	return s ? bn_intern_n(s, strlen(s)) : NULL;
}

const char *bn_intern_find(const char *s)
{
	size_t len;

	if (!s || !tab.slots)
		return NULL;
	len = strlen(s);
	return tab.slots[find_slot(s, len, (uint32_t)bn_siphash(bn_sipkey(), s, len))];
}

size_t bn_intern_count(void)
{
	return tab.count;
}

size_t bn_intern_bytes(void)
{
	return tab.bytes + (tab.slots ? (tab.mask + 1) * sizeof(*tab.slots) : 0);
}

void bn_intern_reset(void)
{
	for (size_t i = 0; tab.slots && i <= tab.mask; i++)
		if (tab.slots[i] && !is_small(room(strlen(tab.slots[i]))))
			free(head(tab.slots[i]));
	while (tab.chunks) {
		struct chunk *c = tab.chunks;

		tab.chunks = c->next;
		free(c);
	}
	free(tab.slots);
	free(tab.loose);
	memset(&tab, 0, sizeof(tab));
}
