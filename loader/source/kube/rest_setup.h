/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_REST_SETUP_H
#define BN_KUBE_REST_SETUP_H

/* What rest.c needs to make one libcurl handle out of the configuration: the server's address taken
 * apart once, and per request the TLS, proxy and header options.
 */

#include <curl/curl.h>

#include "loader/source/kube/auth.h"

struct bn_rest_target {
	char *base;	   /* what paths are appended to, as libcurl is told */
	char *host;	   /* "host:port" as the config has it */
	char *connect_to;  /* with tls-server-name: where the named server really is; else NULL */
	char *host_header; /* then also the Host header; else NULL */
	char *proxy;	   /* "" when there is none: libcurl then ignores the environment */
	char *no_proxy;	   /* NULL with proxy-url */
};

int bn_rest_target_init(struct bn_rest_target *t, const struct bn_kube_config *c);
void bn_rest_target_clear(struct bn_rest_target *t);

/* Authorization, impersonation, Accept, Content-Type unless NULL. To be freed by bn_rest_headers_free, which wipes it. */
int bn_rest_headers(const struct bn_kube_config *c, const struct bn_rest_target *t,
		    const struct bn_auth *a, const char *content_type, struct curl_slist **ret);
void bn_rest_headers_free(struct curl_slist *l);

/* Everything about the connection: addresses, proxy, TLS, keep-alive. The caller sets
 * CURLOPT_OPENSOCKETDATA to an unsigned that counts the sockets opened.
 */
int bn_rest_setup(CURL *easy, const struct bn_kube_config *c, const struct bn_rest_target *t,
		  const struct bn_auth *a);

#endif
