/* SPDX-License-Identifier: MIT */
/* Health checks of load balancers: real sockets on loopback, a client in a second thread. */
#include "tests/svc_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "loader/log.h"
#include "loader/serve/healthcheck.h"
#include "policy/intern.h"

struct world {
	struct bn_store *store;
	struct bn_maps *maps;
	struct bn_services *svc;
	struct event_base *base;
	struct bn_healthcheck *hc;
	bool healthy;
};

static bool is_healthy(void *data)
{
	return ((struct world *)data)->healthy;
}

static void world_open(struct world *w)
{
	const struct bn_svc_env env = {.node_name = "n1"};

	*w = (struct world){.healthy = true};
	assert_int_equal(bn_store_new(&w->store), 0);
	assert_int_equal(bn_maps_create(NULL, &w->maps), 0);
	assert_int_equal(bn_services_new(w->store, w->maps, &env, &w->svc), 0);
	bn_services_set_ready(w->svc, true);
	w->base = event_base_new();
	assert_non_null(w->base);
	assert_int_equal(bn_healthcheck_new(w->base, w->svc, is_healthy, w, &w->hc), 0);
}

static void world_close(struct world *w)
{
	bn_healthcheck_freep(&w->hc);
	event_base_free(w->base);
	bn_services_freep(&w->svc);
	bn_store_freep(&w->store);
	bn_maps_freep(&w->maps);
	bn_intern_reset();
}

static void world_sync(struct world *w)
{
	assert_int_equal(bn_services_sync(w->svc), 0);
	bn_healthcheck_sync(w->hc);
}

/* A socket bound to a port that was free a moment ago in both families. */
static int take_port(uint16_t *port)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin6_port);
	return fd;
}

struct client {
	bool v4, done;
	uint16_t port;
	const char *path;
	char reply[4096]; /* "" when the connection was refused */
};

static void *client_run(void *data)
{
	struct client *c = data;
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6,
				  .sin6_addr = IN6ADDR_LOOPBACK_INIT,
				  .sin6_port = htons(c->port)};
	struct sockaddr_in a4 = {.sin_family = AF_INET,
				 .sin_port = htons(c->port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(c->v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t n = 0;
	ssize_t r;

	if (!connect(fd, c->v4 ? (void *)&a4 : (void *)&a6, c->v4 ? sizeof(a4) : sizeof(a6))) {
		dprintf(fd, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", c->path);
		while (n + 1 < sizeof(c->reply) &&
		       (r = read(fd, c->reply + n, sizeof(c->reply) - 1 - n)) > 0)
			n += (size_t)r;
	}
	c->reply[n] = '\0';
	close(fd);
	__atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void get(struct world *w, bool v4, uint16_t port, const char *path, struct client *c)
{
	pthread_t t;

	*c = (struct client){.v4 = v4, .port = port, .path = path};
	assert_int_equal(pthread_create(&t, NULL, client_run, c), 0);
	while (!__atomic_load_n(&c->done, __ATOMIC_ACQUIRE)) {
		event_base_loop(w->base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
	pthread_join(t, NULL);
}

static void expect(struct world *w, bool v4, uint16_t port, int status, const char *body)
{
	struct client c;
	char line[32];

	get(w, v4, port, "/any/path", &c);
	snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
	assert_int_equal(strncmp(c.reply, line, strlen(line)), 0);
	assert_non_null(strstr(c.reply, "\r\nContent-Type: application/json\r\n"));
	assert_non_null(strstr(c.reply, "\r\nX-Content-Type-Options: nosniff\r\n"));
	assert_non_null(strstr(c.reply, "\r\n\r\n"));
	assert_string_equal(strstr(c.reply, "\r\n\r\n") + 4, body);
}

#define BODY(n, healthy)                                                                           \
	"{\n\t\"service\": {\n\t\t\"namespace\": \"d\",\n\t\t\"name\": \"lb\"\n\t},\n"             \
	"\t\"localEndpoints\": " #n ",\n\t\"serviceProxyHealthy\": " #healthy "\n}"

static void put_service(struct world *w, uint16_t port, const char *policy)
{
	fx_put(w->store,
	       FX_SVC("d", "lb",
		      "'type':'LoadBalancer','clusterIPs':['10.0.0.1','fd00::1'],'"
		      "externalTrafficPolicy':'%s',"
		      "'healthCheckNodePort':%d,'ports':[{'name':'a','port':80,'nodePort':30080},"
		      "{'name':'b','port':81,'nodePort':30081}]"),
	       policy, port);
}

#define PORTS FX_PORT("a", "TCP", 80) "," FX_PORT("b", "TCP", 81)

static void test_answers(void **state _unused_)
{
	struct client c;
	struct world w;
	uint16_t port;
	int taken = take_port(&port);

	close(taken);
	world_open(&w);
	put_service(&w, port, "Local");
	world_sync(&w);
	expect(&w, true, port, 503, BODY(0, true));
	/* two local addresses of IPv4, whatever the ports; terminating and remote ones do not count
	 */
	fx_put(w.store,
	       FX_SLICE("d", "lb4", "lb", "IPv4", PORTS,
			FX_EP("10.1.0.1", FX_ON("n1")) "," FX_EP("10.1.0.2", FX_ON("n1")) "," FX_EP(
				"10.1.0.3",
				FX_ON("n2")) "," FX_EP("10.1.0.4",
						       FX_ON("n1") FX_COND(false, true, true))));
	fx_put(w.store, FX_SLICE("d", "lb6", "lb", "IPv6", PORTS,
				 FX_EP("fd01::1", FX_ON("n1") FX_COND(false, true, true))));
	world_sync(&w);
	expect(&w, true, port, 200, BODY(2, true));
	expect(&w, false, port, 503, BODY(0, true));
	get(&w, true, port, "/", &c);
	assert_non_null(strstr(c.reply, "\r\nX-Load-Balancing-Endpoint-Weight: 2\r\n"));
	w.healthy = false;
	expect(&w, true, port, 503, BODY(2, false));
	w.healthy = true;
	/* only for Local */
	put_service(&w, port, "Cluster");
	world_sync(&w);
	get(&w, true, port, "/", &c);
	assert_string_equal(c.reply, "");
	world_close(&w);
}

static void test_taken_port(void **state _unused_)
{
	struct client c;
	struct world w;
	uint16_t port;
	int taken = take_port(&port);

	world_open(&w);
	put_service(&w, port, "Local");
	bn_log_setup("error", "text");
	world_sync(&w);
	close(taken);
	/* the retry comes by the event loop's timer */
	for (int i = 0; i < 200; i++) {
		event_base_loop(w.base, EVLOOP_NONBLOCK);
		get(&w, false, port, "/", &c);
		if (c.reply[0])
			break;
		usleep(50000);
	}
	expect(&w, false, port, 503, BODY(0, true));
	assert_int_equal(bn_store_del(w.store, BN_KIND_SERVICE, "d", "lb"), 0);
	world_sync(&w);
	get(&w, false, port, "/", &c);
	assert_string_equal(c.reply, "");
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_taken_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
