/* SPDX-License-Identifier: MIT */
#include "maps/ct_access.h"

#include <bpf/bpf.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "maps/util.h"

static uint32_t boot_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec;
}

struct item {
	struct bn_ct_entry e;
	struct bn_ct_victim place;
};

struct walk {
	struct bn_ct_head *heads;
	struct item *v;
	size_t n, room;
	uint32_t now;
};

static bool alive(const struct bn_ct_head *h, const struct bn_ct_bucket *b, unsigned way, uint32_t now)
{
	const struct bn_ct_entry *e = &b->e[way];

	return h->tag[way] && !(e->gen & 1) && (int32_t)(e->expires - now) > 0;
}

static int collect_head(const void *key, const void *val, void *data)
{
	struct walk *w = data;

	memcpy(&w->heads[*(const __u32 *)key], val, sizeof(*w->heads));
	return 0;
}

static int collect(const void *key, const void *val, void *data)
{
	const struct bn_ct_bucket *b = val;
	struct walk *w = data;

	for (unsigned i = 0; i < BN_CT_WAYS; i++) {
		if (!alive(&w->heads[*(const __u32 *)key], b, i, w->now))
			continue;
		if (w->n == w->room) {
			size_t room = w->room ? w->room * 2 : 1024;
			struct item *v = realloc(w->v, room * sizeof(*v));

			if (!v)
				return -ENOMEM;
			w->v = v;
			w->room = room;
		}
		w->v[w->n++] = (struct item){
			.e = b->e[i],
			.place = { *(const __u32 *)key, i, b->e[i].gen },
		};
	}
	return 0;
}

struct tuple {
	struct bn_addr src, dst;
	__be16 sport, dport;
	uint8_t proto, zone;
};

/* The tuple an entry is found under, in the original direction. */
static void own_tuple(const struct bn_ct_entry *e, struct tuple *t)
{
	bool a = e->flags & BN_CT_F_ORIG_A;

	memset(t, 0, sizeof(*t)); /* compared as bytes */
	t->src = a ? e->key.a : e->key.b;
	t->dst = a ? e->key.b : e->key.a;
	t->sport = a ? e->key.ap : e->key.bp;
	t->dport = a ? e->key.bp : e->key.ap;
	t->proto = e->key.proto;
}

static void other_tuple(const struct bn_ct_entry *e, struct tuple *t)
{
	memset(t, 0, sizeof(*t));
	t->src = e->xs;
	t->dst = e->xd;
	t->sport = e->xsp;
	t->dport = e->xdp;
	t->proto = e->key.proto;
}

static void fill_flow(const struct item *it, uint32_t now, struct bn_ct_flow *f)
{
	const struct bn_ct_entry *e = &it->e;
	struct tuple client, server;

	own_tuple(e, &client);
	server = client;
	if (e->flags & BN_CT_F_NAT) {
		if (e->flags & BN_CT_F_ALIAS)
			other_tuple(e, &server);
		else
			other_tuple(e, &client);
	} else if (e->flags & BN_CT_F_DSR) {
		other_tuple(e, &server);
	}
	*f = (struct bn_ct_flow){
		.src = client.src, .sport = client.sport,
		.dst = client.dst, .dport = client.dport,
		.backend = server.dst, .backend_port = server.dport,
		.nat_src = server.src, .nat_sport = server.sport,
		.proto = e->key.proto,
		.translated = (e->flags & BN_CT_F_DSR) ||
			      ((e->flags & BN_CT_F_NAT) && !(e->flags & BN_CT_F_SHIFTED)),
		.snat = e->flags & BN_CT_F_SNAT,
		.flags = e->flags,
		.expires_s = e->expires - now,
		.age_s = now > e->created ? now - e->created : 0,
		.svc_idx = e->svc_idx, .slot = e->slot, .ifindex = e->ifindex,
		.packets = { e->packets[0], e->packets[1] },
		.bytes = { e->bytes[0], e->bytes[1] },
		.place = { it->place }, .nplaces = 1,
	};
}

/* A translated flow has two entries; the one under the translated tuple carries the state of both
 * directions and is the one that is shown. The alias counts, too: a packet meets it or the other one
 * or, with both ends on this node, both: the larger count is the flow's.
 */
struct alias {
	struct tuple t; /* after translation */
	const struct item *it;
	bool met;
};

static int by_tuple(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct tuple));
}

static void merge(struct bn_ct_flow *f, const struct item *it, uint32_t now)
{
	const struct bn_ct_entry *e = &it->e;

	for (int d = 0; d < 2; d++) {
		if (e->packets[d] > f->packets[d])
			f->packets[d] = e->packets[d];
		if (e->bytes[d] > f->bytes[d])
			f->bytes[d] = e->bytes[d];
	}
	if (e->expires - now > f->expires_s)
		f->expires_s = e->expires - now;
	f->flags |= e->flags & ~BN_CT_F_ORIG_A;
	f->svc_idx = f->svc_idx ?: e->svc_idx;
	f->slot = f->slot ?: e->slot;
	f->place[f->nplaces++] = it->place;
}

static size_t find_aliases(const struct walk *w, struct alias *aliases)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n; i++) {
		const struct bn_ct_entry *e = &w->v[i].e;

		if (!(e->flags & BN_CT_F_NAT) || !(e->flags & BN_CT_F_ALIAS))
			continue;
		other_tuple(e, &aliases[n].t);
		aliases[n].it = &w->v[i];
		aliases[n++].met = false;
	}
	qsort(aliases, n, sizeof(*aliases), by_tuple);
	return n;
}

static size_t join(const struct walk *w, struct alias *aliases, size_t naliases,
		   struct bn_ct_flow *flows)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n; i++) {
		const struct bn_ct_entry *e = &w->v[i].e;
		struct alias *a = NULL;
		struct tuple t;

		if ((e->flags & BN_CT_F_NAT) && (e->flags & BN_CT_F_ALIAS))
			continue;
		fill_flow(&w->v[i], w->now, &flows[n]);
		if (e->flags & BN_CT_F_NAT) {
			own_tuple(e, &t);
			a = bsearch(&t, aliases, naliases, sizeof(*aliases), by_tuple);
		}
		if (a && !a->met) {
			merge(&flows[n], a->it, w->now);
			a->met = true;
		}
		n++;
	}
	/* One whose other entry is gone, or was missed by the walk. */
	for (size_t i = 0; i < naliases; i++)
		if (!aliases[i].met)
			fill_flow(aliases[i].it, w->now, &flows[n++]);
	return n;
}

int bn_ct_flows(const struct bn_maps *m, struct bn_ct_flow **ret, size_t *nret)
{
	_cleanup_(freep) struct alias *aliases = NULL;
	_cleanup_(freep) struct bn_ct_flow *flows = NULL;
	_cleanup_(freep) struct bn_ct_head *heads = calloc(m->entries[BN_MAP_ct], sizeof(*heads));
	_cleanup_(freep) struct item *owner = NULL;
	struct walk w = { .now = boot_s(), .heads = heads };
	int r;

	if (!heads || m->entries[BN_MAP_ct_heads] != m->entries[BN_MAP_ct])
		return heads ? -EMEDIUMTYPE : -ENOMEM;
	r = bn_map_each(m, BN_MAP_ct_heads, collect_head, &w);
	r = r < 0 ? r : bn_map_each(m, BN_MAP_ct, collect, &w);
	owner = w.v;
	if (r < 0)
		return r;
	aliases = calloc(w.n + 1, sizeof(*aliases));
	flows = calloc(w.n + 1, sizeof(*flows));
	if (!aliases || !flows)
		return -ENOMEM;
	*nret = join(&w, aliases, find_aliases(&w, aliases), flows);
	*ret = TAKE_PTR(flows);
	return 0;
}

const char *bn_ct_state(const struct bn_ct_flow *f)
{
	if (f->proto != BN_PROTO_TCP)
		return f->flags & BN_CT_F_REPLIED ? "REPLIED" : "UNREPLIED";
	if ((f->flags & BN_CT_F_FIN_ORIG) && (f->flags & BN_CT_F_FIN_REPLY))
		return "TIME_WAIT";
	if (f->flags & BN_CT_F_CLOSED)
		return "CLOSED";
	if (f->flags & BN_CT_F_FIN_ORIG)
		return "FIN_WAIT";
	if (f->flags & BN_CT_F_FIN_REPLY)
		return "CLOSE_WAIT";
	if (f->flags & BN_CT_F_ASSURED)
		return "ESTABLISHED";
	return f->flags & BN_CT_F_REPLIED ? "SYN_RECV" : "SYN_SENT";
}

/* n of a map's elements from `start` on; returns how many there were, or an error. */
static int64_t some(const struct bn_maps *m, enum bn_map map, uint32_t start, uint32_t n, uint32_t *keys,
		    void *v)
{
	uint32_t out;

	/* The batch begins after the key that it is given. */
	if (bpf_map_lookup_batch(m->fd[map], start ? &start : NULL, &out, keys, v, &n, NULL) < 0 &&
	    errno != ENOENT)
		return -errno;
	return n;
}

int bn_ct_fill(const struct bn_maps *m, uint32_t buckets, uint64_t *used, uint64_t *max)
{
	uint32_t total = m->entries[BN_MAP_ct], start = 0, now = boot_s();
	_cleanup_(freep) struct bn_ct_bucket *v = NULL;
	_cleanup_(freep) struct bn_ct_head *h = NULL;
	_cleanup_(freep) uint32_t *keys = NULL;
	uint64_t live = 0;
	int64_t n, nh;

	if (buckets > total)
		buckets = total;
	if (!buckets || getrandom(&start, sizeof(start), GRND_NONBLOCK) < 0)
		start = 0;
	v = calloc(buckets + 1, sizeof(*v));
	h = calloc(buckets + 1, sizeof(*h));
	keys = calloc(buckets + 1, sizeof(*keys));
	if (!v || !h || !keys)
		return -ENOMEM;
	start = buckets < total ? start % (total - buckets) : 0;
	nh = some(m, BN_MAP_ct_heads, start, buckets, keys, h);
	n = nh < 0 ? nh : some(m, BN_MAP_ct, start, buckets, keys, v);
	if (n < 0)
		return n;
	n = n < nh ? n : nh;
	for (int64_t i = 0; i < n; i++)
		for (unsigned k = 0; k < BN_CT_WAYS; k++)
			live += alive(&h[i], &v[i], k, now);
	*max = (uint64_t)total * BN_CT_WAYS;
	*used = n ? live * total / n : 0;
	return 0;
}
