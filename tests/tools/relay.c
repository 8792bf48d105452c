/* SPDX-License-Identifier: MIT */
/* A bad link: carries frames between two interfaces of its namespace and loses, delays, doubles and damages some.
 *
 *	relay IFNAME IFNAME LOST DELAYED DOUBLED DAMAGED SEED     (each of 1,000 frames)
 *
 * A delayed frame waits up to DELAY_MAX_US: others overtake it. In a damaged one a bit is changed that no
 * checksum covers but TCP's and UDP's. ARP passes as it is.
 * A line "ready" on stdout when both interfaces are open.
 */
#include <arpa/inet.h>
#include <err.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
	WAITING_MAX = 4096,
	DELAY_MAX_US = 8000,
	FRAME_MAX = 2048,
	L4_AT = 34, /* behind Ethernet and an IPv4 header without options; in IPv6's, inside the receiver's address */
};

struct frame {
	uint64_t due_us;
	int to;
	size_t len;
	uint8_t bytes[FRAME_MAX];
};

static struct frame *waiting[WAITING_MAX]; /* the one that is due first is the last */
static int nwaiting;
static int fds[2];
static uint32_t lost, delayed, doubled, damaged, seed;

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)seed * below >> 32);
}

static bool chance(uint32_t of_1000)
{
	return rnd(1000) < of_1000;
}

/* A full queue of the other end is one more loss. */
static void put(int to, const uint8_t *bytes, size_t len)
{
	(void)!send(fds[to], bytes, len, 0);
}

static void wait_for(struct frame *f)
{
	int i = nwaiting++;

	for (; i > 0 && waiting[i - 1]->due_us < f->due_us; i--)
		waiting[i] = waiting[i - 1];
	waiting[i] = f;
}

static void carry(int to, const uint8_t *bytes, size_t len)
{
	struct frame *f;

	if (chance(lost) || nwaiting == WAITING_MAX)
		return;
	f = malloc(sizeof(*f));
	if (!f)
		err(1, "malloc");
	f->to = to;
	f->len = len;
	f->due_us = now_us() + (chance(delayed) ? rnd(DELAY_MAX_US) : 0);
	memcpy(f->bytes, bytes, len);
	if (len > L4_AT && chance(damaged))
		f->bytes[L4_AT + rnd((uint32_t)len - L4_AT)] ^= (uint8_t)(1u << rnd(8));
	wait_for(f);
}

static void deliver(void)
{
	while (nwaiting && waiting[nwaiting - 1]->due_us <= now_us()) {
		struct frame *f = waiting[--nwaiting];

		put(f->to, f->bytes, f->len);
		free(f);
	}
}

static void take(int from)
{
	static uint8_t buf[70000];
	const uint8_t arp[2] = { ETHERTYPE_ARP >> 8, ETHERTYPE_ARP & 0xff };

	for (int k = 0; k < 64; k++) {
		ssize_t n = recv(fds[from], buf, sizeof(buf), MSG_DONTWAIT);

		if (n < ETH_HLEN)
			return;
		if (n > FRAME_MAX)
			errx(1, "a frame of %zd bytes: switch the senders' offloads off", n);
		if (!memcmp(buf + 12, arp, sizeof(arp))) {
			put(!from, buf, (size_t)n);
			continue;
		}
		for (int copies = chance(doubled) ? 2 : 1; copies; copies--)
			carry(!from, buf, (size_t)n);
	}
}

static int open_on(const char *ifname)
{
	struct sockaddr_ll a = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(ifname),
	};
	struct packet_mreq all = { .mr_ifindex = a.sll_ifindex, .mr_type = PACKET_MR_PROMISC };
	int fd = socket(AF_PACKET, SOCK_RAW, 0), room = 8 << 20, one = 1;

	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)))
		err(1, "%s", ifname);
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 8)
		errx(2, "usage: relay IFNAME IFNAME LOST DELAYED DOUBLED DAMAGED SEED");
	lost = (uint32_t)atoi(argv[3]);
	delayed = (uint32_t)atoi(argv[4]);
	doubled = (uint32_t)atoi(argv[5]);
	damaged = (uint32_t)atoi(argv[6]);
	seed = (uint32_t)atoi(argv[7]);
	for (int i = 0; i < 2; i++)
		fds[i] = open_on(argv[1 + i]);
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct pollfd p[2] = { { fds[0], POLLIN, 0 }, { fds[1], POLLIN, 0 } };
		uint64_t now = now_us(), due = nwaiting ? waiting[nwaiting - 1]->due_us : now + 1000000;

		poll(p, 2, due <= now ? 0 : (int)((due - now) / 1000) + 1);
		take(0);
		take(1);
		deliver();
	}
}
