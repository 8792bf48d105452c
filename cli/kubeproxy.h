/* SPDX-License-Identifier: MIT */
#ifndef BN_CLI_KUBEPROXY_H
#define BN_CLI_KUBEPROXY_H

/* Removes what kube-proxy leaves in iptables (both back ends, both families), nftables and IPVS.
 * Chains of kubelet and of network policy controllers, which also begin with KUBE-, stay.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Appends what was removed to report. Negative errno after saying on stderr what failed; the rest is
 * still tried.
 */
int bn_kube_proxy_cleanup(json_t *report);

/* Is this chain one of kube-proxy's? */
bool bn_kube_proxy_chain(const char *name);

/* From the text of iptables-save: a script for iptables-restore --noflush that removes kube-proxy's
 * rules and chains, and nothing else. Returns the number of chains, negative errno. in is cut.
 */
int bn_kube_proxy_script(char *save, FILE *out);

#endif
