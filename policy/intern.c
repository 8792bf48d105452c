/* SPDX-License-Identifier: MIT */
#include "policy/intern.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "policy/siphash.h"

/* Strings stand in chunks, each behind 4 bytes of its hash; the table holds pointers to them, at
 * most three quarters full. 12 to 20 bytes of overhead a string, where malloc and uthash cost 80.
 */
#define CHUNK 65536

struct chunk {
	struct chunk *next;
	size_t used, size;
	char data[];
};

static struct {
	char **slots;
	size_t mask, count, bytes;
	struct chunk *chunks;
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

static uint32_t slot_hash(const char *s)
{
	uint32_t h;

	memcpy(&h, s - sizeof(h), sizeof(h));
	return h;
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

static char *chunk_alloc(size_t len)
{
	struct chunk *c = tab.chunks;
	size_t size = len > CHUNK / 4 ? len : CHUNK;
	char *p;

	if (!c || c->size - c->used < len) {
		c = malloc(sizeof(*c) + size);
		if (!c)
			return NULL;
		c->size = size;
		c->used = 0;
		tab.bytes += sizeof(*c) + size;
		/* a chunk made for one long string goes behind the one that has room */
		if (size == len && tab.chunks) {
			c->next = tab.chunks->next;
			tab.chunks->next = c;
		} else {
			c->next = tab.chunks;
			tab.chunks = c;
		}
	}
	p = c->data + c->used;
	c->used += len;
	return p;
}

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
	p = chunk_alloc(sizeof(hash) + len + 1);
	if (!p)
		return NULL;
	memcpy(p, &hash, sizeof(hash));
	p += sizeof(hash);
	memcpy(p, s, len);
	p[len] = 0;
	tab.slots[i] = p;
	tab.count++;
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
	while (tab.chunks) {
		struct chunk *c = tab.chunks;

		tab.chunks = c->next;
		free(c);
	}
	free(tab.slots);
	memset(&tab, 0, sizeof(tab));
}
