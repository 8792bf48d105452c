/* SPDX-License-Identifier: MIT */
#ifndef BN_TESTS_ORACLE_H
#define BN_TESTS_ORACLE_H

/* What NetworkPolicy means, said as plainly as possible: straight from the API objects' JSON, no
 * identities, no interning, nothing compiled, not one line shared with policy/. Slow on purpose.
 */

#include <jansson.h>
#include <stdbool.h>

/* cluster: an array of API objects. from and to: "NS/POD" or an address; a pod's first address is
 * used (the tests ask by address where a second one matters). port: 0 with a protocol without
 * ports, which is called "ICMP". 1 allowed, 0 denied, -1 a name that is not known.
 */
int oracle_allows(json_t *cluster, const char *from, const char *to, const char *proto, int port);

/* One direction only: "egress" or "ingress". */
int oracle_direction(json_t *cluster, const char *direction, const char *from, const char *to,
		     const char *proto, int port);
/* Does the direction not matter, because the peer is the pod itself or, for ingress, its own node?
 */
bool oracle_exempt(json_t *cluster, const char *direction, const char *pod, const char *peer);
/* Is the pod isolated in the direction? */
bool oracle_isolated(json_t *cluster, const char *direction, const char *pod);

#endif
