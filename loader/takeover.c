/* SPDX-License-Identifier: MIT */
/* See loader/takeover.h. */
#include "loader/takeover.h"

#include <ifaddrs.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "loader/log.h"
#include "loader/net/conntrack.h"
#include "maps/ct_access.h"

#define LOOK_EVERY_TICKS 900 /* half an hour: a look reads the whole connection table */
#define TCP_S		 86400
#define UDP_S		 180
#define OTHER_S		 600

struct found {
	struct bn_ct_foreign *v;
	size_t n, room;
	struct ifaddrs *own;
};

static void found_done(struct found *f)
{
	free(f->v);
	if (f->own)
		freeifaddrs(f->own);
}

static bool is_own(const struct found *f, const struct bn_addr *a)
{
	for (const struct ifaddrs *i = f->own; i; i = i->ifa_next) {
		struct bn_addr b;

		if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET)
			bn_addr_v4(&b, ((struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr);
		else if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET6)
			memcpy(&b, &((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr, sizeof(b));
		else
			continue;
		if (bn_addr_eq(&b, a))
			return true;
	}
	return false;
}

static bool lives(const struct bn_nfct *c)
{
	if (c->proto != BN_PROTO_TCP)
		return true;
	return c->state >= TCP_CONNTRACK_SYN_SENT && c->state <= TCP_CONNTRACK_LAST_ACK;
}

/* What the kernel still grants it, at most what we would. */
static uint32_t life_s(const struct bn_nfct *c)
{
	uint32_t most = c->proto == BN_PROTO_TCP ? TCP_S : c->proto == BN_PROTO_UDP ? UDP_S : OTHER_S;

	return c->timeout_s < most ? c->timeout_s : most;
}

static int collect(const struct bn_nfct *c, void *data)
{
	struct found *f = data;

	if (!lives(c) || is_own(f, &c->src))
		return 0;
	if (f->n == f->room) {
		size_t room = f->room ? f->room * 2 : 256;
		struct bn_ct_foreign *v = reallocarray(f->v, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		f->v = v;
		f->room = room;
	}
	f->v[f->n++] = (struct bn_ct_foreign){
		.src = c->src, .dst = c->dst, .xs = c->xs, .xd = c->xd,
		.sport = c->sport, .dport = c->dport, .xsp = c->xsp, .xdp = c->xdp,
		.flags = (c->replied ? BN_CT_F_REPLIED : 0) | (c->assured ? BN_CT_F_ASSURED : 0),
		.life_s = life_s(c),
		.proto = c->proto,
	};
	return 0;
}

/* How many were entered; 0 also when this kernel has no connection tracking. */
static size_t import(struct bn_takeover *t)
{
	_cleanup_(found_done) struct found f = { 0 };
	struct bn_ct_imported done = { 0 };
	int r;

	if (getifaddrs(&f.own) < 0)
		f.own = NULL;
	r = bn_nfct_each_dnat(collect, &f);
	if (r < 0) {
		if (r != -EPROTONOSUPPORT && r != -ENOENT && r != -EOPNOTSUPP)
			log_warn("kernel conntrack cannot be read (%s): connections that began through "
				 "kube-proxy may break", strerror(-r));
		return 0;
	}
	if (!f.n)
		return 0;
	r = bn_ct_import(t->maps, f.v, f.n, &done);
	if (r < 0)
		bn_log_err(r, "connections that began through kube-proxy cannot be entered and may break");
	else if (done.full)
		log_warn("%zu connections that began through kube-proxy found no room in the connection "
			 "table and may break (--ct-max)", done.full);
	if (done.done)
		log_info("taken over: %zu connections that began through kube-proxy", done.done);
	return done.done;
}

static void keep(struct bn_takeover *t)
{
	int r = t->keeping ? 0 : bn_nft_keep_nat();

	if (r < 0)
		log_warn("nftables: no nat chain of our own (%s): connections that began through kube-proxy "
			 "break if its rules are the last of their kind and go", strerror(-r));
	t->keeping = r >= 0;
}

static void set_flag(struct bn_takeover *t, bool on)
{
	struct bn_state *st = t->maps->mem[BN_MAP_state];

	if (on)
		__atomic_or_fetch(&st->flags, BN_STATE_F_TAKEOVER, __ATOMIC_RELEASE);
	else
		__atomic_and_fetch(&st->flags, ~BN_STATE_F_TAKEOVER, __ATOMIC_RELEASE);
}

void bn_takeover_begin(struct bn_takeover *t, const struct bn_maps *maps, bool first)
{
	t->maps = maps;
	if (!first) {
		t->ticks = LOOK_EVERY_TICKS; /* an earlier daemon may have left the chain */
		t->keeping = true;
		return;
	}
	if (!import(t))
		return;
	keep(t);
	t->under_way = true;
	set_flag(t, true);
}

void bn_takeover_end(struct bn_takeover *t)
{
	if (!t->under_way)
		return;
	import(t); /* what began since */
	t->under_way = false;
	set_flag(t, false);
}

static bool any_foreign(const struct bn_maps *maps)
{
	_cleanup_(freep) struct bn_ct_flow *flows = NULL;
	size_t n;

	if (bn_ct_flows(maps, &flows, &n) < 0)
		return true;
	for (size_t i = 0; i < n; i++)
		if (flows[i].flags & BN_CT_F_FOREIGN)
			return true;
	return false;
}

void bn_takeover_tick(struct bn_takeover *t)
{
	int r;

	t->ticks += t->keeping || t->under_way;
	if (t->under_way || t->ticks < LOOK_EVERY_TICKS)
		return;
	t->ticks = 0;
	if (any_foreign(t->maps))
		return;
	r = bn_nft_drop_nat();
	t->keeping = false;
	if (!r)
		log_info("the last connection that began through kube-proxy has ended: nat chain removed");
}

int bn_takeover_cleanup(void)
{
	return !bn_nft_drop_nat();
}
