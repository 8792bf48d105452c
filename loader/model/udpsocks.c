/* SPDX-License-Identifier: MIT */
/* See loader/model/udpsocks.h. */
#include "loader/model/udpsocks.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "loader/log.h"
#include "loader/net/nlsock.h"
#include "maps/sk_list.h"
#include "maps/util.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define LOOK_EVERY_MS 50
#define STALE_MAX     4096 /* more at once wait for the next look */

struct stale {
	struct bn_sk_rec rec;
	struct bn_sk_peer peer; /* of rec.peers, the one that it is connected by */
	bool waits; /* for an endpoint of its NodePort, which has come */
	bool done;
};

struct bn_udpsocks {
	const struct bn_maps *maps;
	const struct bn_services *services;
	uint64_t netns, gen, came, last_ns;
	struct bn_sk_list *list;
	struct event *later;
	size_t waiting; /* sockets that are connected to a frontend itself, at the last look */
	bool broken; /* the program that lists sockets could not be loaded: said once */
	struct bn_udpsocks_stats stats;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- who has to move ------------------------------------------------------------------------- */

struct search {
	const struct bn_udpsocks *u;
	struct stale *v;
	size_t n, waiting;
};

static int collect(const struct bn_sk_rec *r, void *data)
{
	struct search *w = data;
	const struct bn_sk_peer *peer, *waits;

	if (r->proto != IPPROTO_UDP || r->netns != w->u->netns)
		return 0;
	peer = bn_sk_connected_by(r);
	waits = peer ? NULL : bn_sk_waits_for(r);
	w->waiting += !!waits;
	if (waits ? !bn_services_udp_nodeport(w->u->services, waits)
		  : !peer || bn_services_udp_keeps(w->u->services, peer))
		return 0;
	w->v[w->n++] = (struct stale){ .rec = *r, .peer = waits ? *waits : *peer, .waits = !!waits };
	return w->n == STALE_MAX;
}

/* --- moving ---------------------------------------------------------------------------------- */

static int reconnect(int pid, int fd, const struct stale *s)
{
	_cleanup_(closep) int pidfd = -1, sock = -1;
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = s->peer.front_port };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = s->peer.front_port };
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -errno;
	sock = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (sock < 0)
		return -errno;
	/* The descriptor may have become another file meanwhile. */
	if (getsockopt(sock, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0 || cookie != s->rec.cookie)
		return -ESTALE;
	memcpy(&a6.sin6_addr, &s->peer.front, 16);
	a4.sin_addr.s_addr = s->peer.front.w[3];
	if (s->rec.v6)
		return connect(sock, (struct sockaddr *)&a6, sizeof(a6)) < 0 ? -errno : 0;
	return connect(sock, (struct sockaddr *)&a4, sizeof(a4)) < 0 ? -errno : 0;
}

static struct stale *by_ino(struct stale *v, size_t n, uint64_t ino)
{
	for (size_t i = 0; i < n; i++)
		if (!v[i].done && v[i].rec.ino == ino)
			return &v[i];
	return NULL;
}

static size_t move_of_process(int pid, struct stale *v, size_t n)
{
	char path[64], target[64];
	size_t moved = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		ssize_t len = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);
		unsigned long long ino;
		struct stale *s;

		if (len <= 0)
			continue;
		target[len] = '\0';
		if (sscanf(target, "socket:[%llu]", &ino) != 1)
			continue;
		s = by_ino(v, n, ino);
		if (!s || reconnect(pid, atoi(e->d_name), s) < 0)
			continue;
		s->done = true;
		moved++;
	}
	if (d)
		closedir(d);
	return moved;
}

static size_t move_all(struct stale *v, size_t n)
{
	DIR *proc = opendir("/proc");
	size_t moved = 0;
	struct dirent *e;

	while (proc && moved < n && (e = readdir(proc))) {
		int pid = atoi(e->d_name);

		if (pid > 0)
			moved += move_of_process(pid, v, n);
	}
	if (proc)
		closedir(proc);
	return moved;
}

/* --- ending ---------------------------------------------------------------------------------- */

static int no_answer(const struct nlmsghdr *h _unused_, void *data _unused_)
{
	return 0;
}

static void id_addr(__be32 to[4], const struct bn_addr *a, bool v6)
{
	if (v6)
		memcpy(to, a, 16);
	else
		to[0] = a->w[3];
}

static int end_socket(struct bn_nl *nl, const struct bn_sk_rec *r)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 req;
	} m = {
		.h = {
			.nlmsg_len = sizeof(m),
			.nlmsg_type = SOCK_DESTROY,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		},
		.req = {
			.sdiag_family = r->v6 ? AF_INET6 : AF_INET,
			.sdiag_protocol = IPPROTO_UDP,
			.id = {
				.idiag_sport = r->sport,
				.idiag_dport = r->dport,
				.idiag_cookie = { (__u32)r->cookie, (__u32)(r->cookie >> 32) },
			},
		},
	};

	id_addr(m.req.id.idiag_src, &r->src, r->v6);
	id_addr(m.req.id.idiag_dst, &r->dst, r->v6);
	return bn_nl_call(nl, &m.h, no_answer, NULL);
}

static size_t end_rest(struct stale *v, size_t n)
{
	_cleanup_(bn_nl_freep) struct bn_nl *nl = NULL;
	size_t ended = 0;

	if (bn_nl_open(NETLINK_SOCK_DIAG, &nl) < 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		int r = v[i].done || v[i].waits ? 0 : end_socket(nl, &v[i].rec);

		if (v[i].done || v[i].waits || (r < 0 && r != -ENOENT))
			continue;
		v[i].done = true;
		ended++;
	}
	return ended;
}

/* --- the look -------------------------------------------------------------------------------- */

static void handle(struct bn_udpsocks *u, struct stale *v, size_t n)
{
	size_t moved = move_all(v, n);
	size_t ended = moved < n ? end_rest(v, n) : 0;
	size_t waits = 0;

	for (size_t i = 0; i < n; i++)
		waits += v[i].waits && !v[i].done;
	n -= waits;
	u->stats.moved += moved;
	u->stats.ended += ended;
	u->stats.stuck += n - moved - ended;
	log_info("connected UDP sockets of the node whose endpoint left: %zu moved, %zu ended", moved,
		 ended);
	if (moved + ended < n && bn_log_ratelimit(60))
		log_warn("%zu connected UDP sockets of the node stay with an endpoint that left: the "
			 "kernel has no SOCK_DESTROY (CONFIG_INET_DIAG_DESTROY)",
			 n - moved - ended);
}

static int list_open(struct bn_udpsocks *u)
{
	int r;

	if (u->list || u->broken)
		return u->list ? 0 : -EOPNOTSUPP;
	r = bn_sk_list_new(u->maps, false, &u->list);
	if (r < 0) {
		u->broken = true;
		bn_log(BN_WARN, "sockets cannot be listed (%s): connected UDP sockets of the node stay "
				"with an endpoint that leaves", strerror(-r));
	}
	return r;
}

static void look(struct bn_udpsocks *u)
{
	struct search w = { .u = u };
	int r;

	u->gen = bn_services_udp_gen(u->services);
	u->came = bn_services_udp_came(u->services);
	u->last_ns = now_ns();
	if (list_open(u) < 0)
		return;
	w.v = calloc(STALE_MAX, sizeof(*w.v));
	r = w.v ? bn_sk_each(u->list, collect, &w) : -ENOMEM;
	if (r < 0 && bn_log_ratelimit(60))
		bn_log_err(r, "list of sockets");
	u->waiting = w.waiting;
	if (w.n)
		handle(u, w.v, w.n);
	if (w.n == STALE_MAX)
		u->gen--; /* there may be more */
	free(w.v);
}

void bn_udpsocks_sync(struct bn_udpsocks *u)
{
	uint64_t age_ms = (now_ns() - u->last_ns) / 1000000;
	struct timeval wait = { .tv_usec = LOOK_EVERY_MS * 1000 };

	if (u->gen == bn_services_udp_gen(u->services) &&
	    (!u->waiting || u->came == bn_services_udp_came(u->services)))
		return;
	if (age_ms >= LOOK_EVERY_MS)
		look(u);
	else if (!evtimer_pending(u->later, NULL))
		evtimer_add(u->later, &wait);
}

static void on_later(evutil_socket_t fd _unused_, short what _unused_, void *data)
{
	bn_udpsocks_sync(data);
}

static int own_netns(uint64_t *ret)
{
	_cleanup_(closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*ret);

	if (fd < 0)
		return -errno;
	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, ret, &len) < 0 ? -errno : 0;
}

int bn_udpsocks_new(struct event_base *base, const struct bn_maps *maps, const struct bn_services *s,
		    struct bn_udpsocks **ret)
{
	_cleanup_(bn_udpsocks_freep) struct bn_udpsocks *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	u->maps = maps;
	u->services = s;
	r = own_netns(&u->netns);
	if (r < 0)
		return r;
	u->gen = bn_services_udp_gen(s);
	u->later = evtimer_new(base, on_later, u);
	if (!u->later)
		return -ENOMEM;
	*ret = TAKE_PTR(u);
	return 0;
}

void bn_udpsocks_freep(struct bn_udpsocks **up)
{
	struct bn_udpsocks *u = *up;

	if (!u)
		return;
	*up = NULL;
	bn_sk_list_freep(&u->list);
	if (u->later)
		event_free(u->later);
	free(u);
}

const struct bn_udpsocks_stats *bn_udpsocks_stats(const struct bn_udpsocks *u)
{
	return &u->stats;
}
