/* SPDX-License-Identifier: MIT */
/* Health checks of load balancers; see loader/serve/healthcheck.h. */
#include "loader/serve/healthcheck.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "loader/log.h"
#include "maps/htab.h"
#include "maps/util.h"

#define RETRY_S		  5
#define REQUEST_TIMEOUT_S 10

/* One service's server. */
struct hc {
	struct bn_hnode h; /* by name */
	struct bn_healthcheck *all;
	char *ns, *name;
	uint16_t port;
	uint32_t local[2];
	struct evhttp *http; /* NULL: the port could not be had yet */
	bool complained, seen;
};

struct bn_healthcheck {
	struct event_base *base;
	const struct bn_services *services;
	bool (*healthy)(void *data);
	void *data;
	struct bn_htab servers;
	struct event *retry;
	const struct bn_cidr *cidrs; /* --nodeport-addresses */
	unsigned ncidrs;
	struct bn_addr *own; /* with cidrs: the local addresses in them when sockets were opened last */
	size_t nown;
	uint64_t gen;
	bool synced;
};

/* --- answering ------------------------------------------------------------------------------- */

/* Names go into the answer between quotes; Kubernetes' need no escapes, others get them. */
static void add_quoted(struct evbuffer *out, const char *s)
{
	evbuffer_add(out, "\"", 1);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			evbuffer_add_printf(out, "\\%c", c);
		else if (c < 0x20)
			evbuffer_add_printf(out, "\\u%04x", c);
		else
			evbuffer_add(out, s, 1);
	}
	evbuffer_add(out, "\"", 1);
}

/* Which family the load balancer asks on: of the address that it connected to. */
static bool asked_on_v4(struct evhttp_request *req)
{
	struct evhttp_connection *conn = evhttp_request_get_connection(req);
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	struct bufferevent *bev = conn ? evhttp_connection_get_bufferevent(conn) : NULL;

	if (!bev || getsockname(bufferevent_getfd(bev), (struct sockaddr *)&ss, &len) < 0)
		return true;
	if (ss.ss_family != AF_INET6)
		return true;
	return IN6_IS_ADDR_V4MAPPED(&((struct sockaddr_in6 *)&ss)->sin6_addr);
}

static void answer(struct evhttp_request *req, void *data)
{
	const struct hc *h = data;
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	bool healthy = !h->all->healthy || h->all->healthy(h->all->data);
	uint32_t local = h->local[asked_on_v4(req)];
	struct evbuffer *out = evbuffer_new();
	char weight[16];

	if (!out) {
		evhttp_send_error(req, HTTP_SERVUNAVAIL, NULL);
		return;
	}
	snprintf(weight, sizeof(weight), "%u", local);
	evhttp_add_header(headers, "Content-Type", "application/json");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	evhttp_add_header(headers, "X-Load-Balancing-Endpoint-Weight", weight);
	evbuffer_add_printf(out, "{\n\t\"service\": {\n\t\t\"namespace\": ");
	add_quoted(out, h->ns);
	evbuffer_add_printf(out, ",\n\t\t\"name\": ");
	add_quoted(out, h->name);
	evbuffer_add_printf(out,
			    "\n\t},\n\t\"localEndpoints\": %u,\n\t\"serviceProxyHealthy\": %s\n}",
			    local, healthy ? "true" : "false");
	if (local && healthy)
		evhttp_send_reply(req, HTTP_OK, "OK", out);
	else
		evhttp_send_reply(req, HTTP_SERVUNAVAIL, "Service Unavailable", out);
	evbuffer_free(out);
}

/* --- servers --------------------------------------------------------------------------------- */

static bool names_family(const struct bn_healthcheck *all, bool v4)
{
	for (unsigned i = 0; i < all->ncidrs; i++)
		if (!!bn_addr_is_v4(&all->cidrs[i].addr) == v4)
			return true;
	return false;
}

static bool own_add(struct bn_healthcheck *all, const struct bn_addr *a)
{
	struct bn_addr *v;

	for (unsigned i = 0; i < all->ncidrs; i++) {
		if (!bn_cidr_contains(&all->cidrs[i], a))
			continue;
		v = reallocarray(all->own, all->nown + 1, sizeof(*v));
		if (!v)
			return false;
		all->own = v;
		all->own[all->nown++] = *a;
		return true;
	}
	return true;
}

/* The local addresses that --nodeport-addresses names, but for link-local ones, which every link has. */
static void own_read(struct bn_healthcheck *all)
{
	struct ifaddrs *list = NULL;
	struct bn_addr a;

	free(all->own);
	all->own = NULL;
	all->nown = 0;
	if (getifaddrs(&list) < 0)
		return;
	for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
		const struct sockaddr_in6 *a6 = (const void *)i->ifa_addr;

		if (!i->ifa_addr)
			continue;
		if (i->ifa_addr->sa_family == AF_INET)
			bn_addr_v4(&a, ((const struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr);
		else if (i->ifa_addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&a6->sin6_addr))
			memcpy(&a, &a6->sin6_addr, sizeof(a));
		else
			continue;
		if (!own_add(all, &a))
			break;
	}
	freeifaddrs(list);
}

/* Have they changed? */
static bool own_renew(struct bn_healthcheck *all)
{
	struct bn_addr *old = all->own;
	size_t n = all->nown;
	bool changed;

	all->own = NULL;
	own_read(all);
	changed = n != all->nown || (n && memcmp(old, all->own, n * sizeof(*old)));
	free(old);
	return changed;
}

/* A socket on one address, all zero: on every one of the family; the two families do not get into each
 * other's way.
 */
static int listen_on(int family, const struct bn_addr *addr, uint16_t port)
{
	_cleanup_(closep) int fd = -1;
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(port),
				 .sin_addr.s_addr = addr->w[3]};
	const struct sockaddr *sa = family == AF_INET ? (void *)&a4 : (void *)&a6;
	socklen_t len = family == AF_INET ? sizeof(a4) : sizeof(a6);
	const int one = 1;

	memcpy(&a6.sin6_addr, addr, sizeof(a6.sin6_addr));
	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, sa, len) < 0 || listen(fd, 128) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int serve_address(struct hc *h, struct evhttp *http, int family, const struct bn_addr *a)
{
	int fd = listen_on(family, a, h->port);

	if (fd < 0)
		return fd;
	if (evhttp_accept_socket(http, fd) < 0) {
		close(fd);
		return -ENOMEM;
	}
	return 0;
}

static int serve_family(struct hc *h, struct evhttp *http, int family)
{
	const struct bn_healthcheck *all = h->all;
	int r = 0;

	if (!names_family(all, family == AF_INET))
		return serve_address(h, http, family, &(struct bn_addr){0});
	for (size_t i = 0; i < all->nown && !r; i++)
		if (!!bn_addr_is_v4(&all->own[i]) == (family == AF_INET))
			r = serve_address(h, http, family, &all->own[i]);
	return r;
}

static void server_open(struct hc *h)
{
	struct evhttp *http = evhttp_new(h->all->base);
	int r = http ? serve_family(h, http, AF_INET) : -ENOMEM;
	int r6 = r ? r : serve_family(h, http, AF_INET6);

	/* A machine without IPv6 is fine; a port that is taken in one family is not. */
	if (!r && r6 < 0 && r6 != -EAFNOSUPPORT && r6 != -EADDRNOTAVAIL)
		r = r6;
	if (r < 0) {
		if (http)
			evhttp_free(http);
		if (!h->complained)
			log_error("service %s/%s: health check cannot listen on port %u: %s; "
				  "trying again",
				  h->ns, h->name, h->port, strerror(-r));
		h->complained = true;
		return;
	}
	evhttp_set_timeout(http, REQUEST_TIMEOUT_S);
	evhttp_set_max_headers_size(http, 16384);
	evhttp_set_max_body_size(http, 4096);
	evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST |
						 EVHTTP_REQ_PUT | EVHTTP_REQ_OPTIONS |
						 EVHTTP_REQ_DELETE | EVHTTP_REQ_PATCH);
	evhttp_set_gencb(http, answer, h);
	h->http = http;
	h->complained = false;
}

static void server_free(struct hc *h)
{
	bn_htab_del(&h->all->servers, &h->h);
	if (h->http)
		evhttp_free(h->http);
	free(h->ns);
	free(h->name);
	free(h);
}

static uint32_t hc_hash(const char *ns, const char *name)
{
	return bn_hash_bytes(ns, strlen(ns)) * 31 + bn_hash_bytes(name, strlen(name));
}

static struct hc *server_find(const struct bn_healthcheck *all, const char *ns, const char *name)
{
	struct bn_hnode *n;

	for (n = bn_htab_first(&all->servers, hc_hash(ns, name)); n; n = bn_htab_next(n)) {
		struct hc *h = bn_container(n, struct hc, h);

		if (!strcmp(h->name, name) && !strcmp(h->ns, ns))
			return h;
	}
	return NULL;
}

static struct hc *server_new(struct bn_healthcheck *all, const struct bn_svc_health *want)
{
	struct hc *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->all = all;
	h->ns = strdup(want->ns);
	h->name = strdup(want->name);
	if (!h->ns || !h->name ||
	    bn_htab_add(&all->servers, &h->h, hc_hash(want->ns, want->name)) < 0) {
		free(h->ns);
		free(h->name);
		free(h);
		return NULL;
	}
	return h;
}

static void follow(const struct bn_svc_health *want, void *data)
{
	struct bn_healthcheck *all = data;
	struct hc *h = server_find(all, want->ns, want->name);

	h = h ? h : server_new(all, want);
	if (!h)
		return;
	if (h->port != want->port && h->http) {
		evhttp_free(h->http);
		h->http = NULL;
	}
	if (h->port != want->port)
		h->complained = false;
	h->port = want->port;
	h->local[0] = want->local[0];
	h->local[1] = want->local[1];
	h->seen = true;
}

/* First what goes, then what comes: a port may move from one service to another. */
static void servers_settle(struct bn_healthcheck *all)
{
	struct bn_hnode *n, *next;
	bool missing = false;

	for (n = bn_htab_head(&all->servers); n; n = next) {
		struct hc *h = bn_container(n, struct hc, h);

		next = bn_htab_after(&all->servers, n);
		if (!h->seen)
			server_free(h);
		else
			h->seen = false;
	}
	for (n = bn_htab_head(&all->servers); n; n = bn_htab_after(&all->servers, n)) {
		struct hc *h = bn_container(n, struct hc, h);

		if (!h->http)
			server_open(h);
		missing |= !h->http;
	}
	/* The addresses may change: nobody tells. */
	if (missing || (all->ncidrs && bn_htab_head(&all->servers)))
		evtimer_add(all->retry, &(struct timeval){.tv_sec = RETRY_S});
}

static void on_retry(evutil_socket_t fd _unused_, short what _unused_, void *data)
{
	struct bn_healthcheck *all = data;
	bool changed = all->ncidrs && own_renew(all);

	for (struct bn_hnode *n = bn_htab_head(&all->servers); n;
	     n = bn_htab_after(&all->servers, n)) {
		struct hc *h = bn_container(n, struct hc, h);

		h->seen = true;
		if (changed && h->http) {
			evhttp_free(h->http);
			h->http = NULL;
		}
	}
	servers_settle(all);
}

void bn_healthcheck_sync(struct bn_healthcheck *all)
{
	uint64_t gen = bn_services_health_gen(all->services);

	if (all->synced && gen == all->gen)
		return;
	all->gen = gen;
	all->synced = true;
	bn_services_health(all->services, follow, all);
	servers_settle(all);
}

int bn_healthcheck_new(struct event_base *base, const struct bn_services *s,
		       bool (*healthy)(void *data), void *data, struct bn_healthcheck **ret)
{
	_cleanup_(bn_healthcheck_freep) struct bn_healthcheck *all = calloc(1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	all->base = base;
	all->services = s;
	all->healthy = healthy;
	all->data = data;
	all->retry = evtimer_new(base, on_retry, all);
	if (!all->retry)
		return -ENOMEM;
	*ret = TAKE_PTR(all);
	return 0;
}

void bn_healthcheck_restrict(struct bn_healthcheck *all, const struct bn_cidr *cidrs, unsigned n)
{
	all->cidrs = cidrs;
	all->ncidrs = n;
	if (n)
		own_read(all);
}

void bn_healthcheck_freep(struct bn_healthcheck **p)
{
	struct bn_healthcheck *all = *p;
	struct bn_hnode *n;

	if (!all)
		return;
	while ((n = bn_htab_head(&all->servers)))
		server_free(bn_container(n, struct hc, h));
	bn_htab_clear(&all->servers);
	free(all->own);
	if (all->retry)
		event_free(all->retry);
	free(all);
	*p = NULL;
}
