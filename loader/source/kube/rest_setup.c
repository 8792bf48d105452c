/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/rest_setup.h"

#include <ctype.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 10000L
/* A peer that is gone is found by the kernel too: 15 + 3 * 10 s idle, 30 s with data under way. */
#define KEEPALIVE_IDLE_S 15
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES 3
#define USER_TIMEOUT_MS 30000

void bn_rest_target_clear(struct bn_rest_target *t)
{
	free(t->base);
	free(t->host);
	free(t->connect_to);
	free(t->host_header);
	bn_wipe_freep(&t->proxy);
	free(t->no_proxy);
	*t = (struct bn_rest_target){ 0 };
}

/* "host", "1.2.3.4" or "[::1]" without what follows; n is its length. */
static size_t host_len(const char *host)
{
	return host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/");
}

/* Go's rule: requests to this machine never go through a proxy of the environment. */
static bool is_loopback(const char *host, size_t n)
{
	struct in_addr v4;
	char buf[64];

	if (n >= sizeof(buf))
		return false;
	memcpy(buf, host, n);
	buf[n] = 0;
	return !strcasecmp(buf, "localhost") || !strcmp(buf, "[::1]") ||
	       (inet_pton(AF_INET, buf, &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127);
}

static const char *env2(const char *upper, const char *lower)
{
	const char *s = getenv(upper);

	return s && *s ? s : getenv(lower);
}

static int set_proxy(struct bn_rest_target *t, const struct bn_kube_config *c, const char *host,
		     size_t n)
{
	const char *p = c->proxy_url, *no;

	if (!p && !is_loopback(host, n)) {
		p = strncasecmp(c->server, "https", 5) ? env2("HTTP_PROXY", "http_proxy")
						       : env2("HTTPS_PROXY", "https_proxy");
		no = env2("NO_PROXY", "no_proxy");
		if (p && no && !(t->no_proxy = strdup(no)))
			return -ENOMEM;
	}
	/* Go lets a SOCKS5 proxy resolve the name. */
	if (p && !strncasecmp(p, "socks5://", 9)) {
		if (asprintf(&t->proxy, "socks5h://%s", p + 9) < 0)
			t->proxy = NULL;
	} else {
		t->proxy = strdup(p ?: "");
	}
	return t->proxy ? 0 : -ENOMEM;
}

int bn_rest_target_init(struct bn_rest_target *t, const struct bn_kube_config *c)
{
	bool tls = !strncasecmp(c->server, "https://", 8);
	const char *host = c->server + (tls ? 8 : 7), *at = strchr(host, '@'), *port;
	size_t n, all = strcspn(host, "/");
	int r;

	*t = (struct bn_rest_target){ 0 };
	if (at && at < host + all) /* credentials in an address would end up in messages */
		return -EINVAL;
	n = host_len(host);
	if (!n || n > all || (n < all && host[n] != ':'))
		return -EINVAL;
	port = n < all ? host + n + 1 : tls ? "443" : "80";
	t->host = strndup(host, all);
	r = t->host ? set_proxy(t, c, host, n) : -ENOMEM;
	if (r < 0)
		goto fail;
	if (!tls || !c->tls_server_name) {
		t->base = strdup(c->server);
		r = t->base ? 0 : -ENOMEM;
	} else {
		int plen = n < all ? (int)(all - n - 1) : (int)strlen(port);

		/* libcurl checks the name it was asked for: ask for that one, at the real place. */
		r = asprintf(&t->base, "https://%s:%.*s%s", c->tls_server_name, plen, port,
			     host + all) < 0 ||
		    asprintf(&t->connect_to, "%s:%.*s:%.*s:%.*s", c->tls_server_name, plen, port,
			     (int)n, host, plen, port) < 0 ||
		    asprintf(&t->host_header, "Host: %s", t->host) < 0
			    ? -ENOMEM
			    : 0;
	}
	if (r == 0)
		return 0;
fail:
	bn_rest_target_clear(t);
	return r;
}

void bn_rest_headers_free(struct curl_slist *l)
{
	for (struct curl_slist *i = l; i; i = i->next)
		explicit_bzero(i->data, strlen(i->data));
	curl_slist_free_all(l);
}

static int add(struct curl_slist **l, const char *name, const char *value)
{
	_cleanup_(bn_wipe_freep) char *line = NULL;
	struct curl_slist *next;

	for (const char *p = value; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return -EINVAL;
	if (asprintf(&line, "%s: %s", name, value) < 0) {
		line = NULL;
		return -ENOMEM;
	}
	next = curl_slist_append(*l, line);
	if (!next)
		return -ENOMEM;
	*l = next;
	return 0;
}

static int add_auth(struct curl_slist **l, const struct bn_kube_config *c,
		    const struct bn_auth *a)
{
	_cleanup_(bn_wipe_freep) char *value = NULL;
	_cleanup_(bn_wipe_freep) char *b64 = NULL;
	struct bn_secret pair = { 0 };
	int r;

	if (bn_auth_token(a)->n) {
		if (asprintf(&value, "Bearer %s", bn_auth_token(a)->p) < 0)
			value = NULL;
	} else if (c->username) {
		size_t n = strlen(c->username);
		_cleanup_(freep) char *plain = calloc(1, n + c->password.n + 2);

		if (!plain)
			return -ENOMEM;
		sprintf(plain, "%s:%s", c->username, c->password.p ?: "");
		r = bn_secret_set(&pair, plain, n + 1 + c->password.n);
		explicit_bzero(plain, n + c->password.n + 1);
		b64 = r == 0 ? bn_secret_base64(&pair) : NULL;
		bn_secret_clear(&pair);
		if (!b64 || asprintf(&value, "Basic %s", b64) < 0)
			value = NULL;
	} else {
		return 0;
	}
	return value ? add(l, "Authorization", value) : -ENOMEM;
}

/* client-go's spelling: everything that is no header character is escaped as in a URL. */
static int add_extra(struct curl_slist **l, const struct bn_kube_extra *x)
{
	char name[256] = "Impersonate-Extra-";
	size_t n = strlen(name);

	for (const char *p = x->key; *p; p++) {
		bool plain = isalnum((unsigned char)*p) || strchr("!#$&'*+-.^_`|~", *p);

		if (n + 4 >= sizeof(name))
			return -EINVAL;
		n += sprintf(name + n, plain ? "%c" : "%%%02X", (unsigned char)*p);
	}
	return add(l, name, x->value);
}

int bn_rest_headers(const struct bn_kube_config *c, const struct bn_rest_target *t,
		    const struct bn_auth *a, const char *content_type, struct curl_slist **ret)
{
	struct curl_slist *l = NULL;
	int r;

	r = add(&l, "Accept", "application/json") ?: add_auth(&l, c, a);
	if (r == 0 && content_type)
		r = add(&l, "Content-Type", content_type);
	if (r == 0 && t->host_header)
		r = add(&l, "Host", t->host_header + strlen("Host: "));
	if (r == 0 && c->as)
		r = add(&l, "Impersonate-User", c->as);
	if (r == 0 && c->as_uid)
		r = add(&l, "Impersonate-Uid", c->as_uid);
	for (char **g = c->as_groups; r == 0 && g && *g; g++)
		r = add(&l, "Impersonate-Group", *g);
	for (size_t i = 0; r == 0 && i < c->nas_extra; i++)
		r = add_extra(&l, &c->as_extra[i]);
	if (r < 0) {
		bn_rest_headers_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

/* Close-on-exec, and keep-alive that finds a dead peer in time. */
static curl_socket_t open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *a)
{
	int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
	const int opts[][2] = {
		{ TCP_KEEPIDLE, KEEPALIVE_IDLE_S },
		{ TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S },
		{ TCP_KEEPCNT, KEEPALIVE_PROBES },
		{ TCP_USER_TIMEOUT, USER_TIMEOUT_MS },
	};
	int one = 1;

	(void)purpose;
	if (fd < 0)
		return CURL_SOCKET_BAD;
	++*(unsigned *)data;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	for (size_t i = 0; i < ARRAY_SIZE(opts); i++)
		setsockopt(fd, IPPROTO_TCP, opts[i][0], &opts[i][1], sizeof(opts[i][1]));
	return fd;
}

static CURLcode set_blob(CURL *e, CURLoption opt, const struct bn_secret *s)
{
	struct curl_blob b = { .data = s->p, .len = s->n, .flags = CURL_BLOB_COPY };

	return s->n ? curl_easy_setopt(e, opt, &b) : CURLE_OK;
}

static CURLcode setup_tls(CURL *e, const struct bn_kube_config *c, const struct bn_auth *a)
{
	long check = !c->insecure;

	return curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2)
		?: curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, check)
		?: curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, check ? 2L : 0L)
		?: curl_easy_setopt(e, CURLOPT_PROXY_SSL_VERIFYPEER, check)
		?: curl_easy_setopt(e, CURLOPT_PROXY_SSL_VERIFYHOST, check ? 2L : 0L)
		?: set_blob(e, CURLOPT_CAINFO_BLOB, bn_auth_ca(a))
		?: set_blob(e, CURLOPT_PROXY_CAINFO_BLOB, bn_auth_ca(a))
		?: set_blob(e, CURLOPT_SSLCERT_BLOB, bn_auth_cert(a))
		?: set_blob(e, CURLOPT_SSLKEY_BLOB, bn_auth_key(a));
}

int bn_rest_setup(CURL *e, const struct bn_kube_config *c, const struct bn_rest_target *t,
		  const struct bn_auth *a)
{
	CURLcode r;

	r = curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L)
		?: curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS)
		?: curl_easy_setopt(e, CURLOPT_PIPEWAIT, 1L)
		?: curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https")
		?: curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L)
		?: curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L)
		?: curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS)
		/* Connections are few: the one after a failure asks where the server is now. */
		?: curl_easy_setopt(e, CURLOPT_DNS_CACHE_TIMEOUT, 0L)
		?: curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket)
		?: curl_easy_setopt(e, CURLOPT_USERAGENT, "bpfnetd/" BN_VERSION)
		?: curl_easy_setopt(e, CURLOPT_PROXY, t->proxy)
		?: curl_easy_setopt(e, CURLOPT_NOPROXY, t->no_proxy ?: "")
		?: setup_tls(e, c, a);
	return r == CURLE_OK ? 0 : r == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL;
}
