/* SPDX-License-Identifier: MIT */
#ifndef BN_KUBE_REPORT_H
#define BN_KUBE_REPORT_H

/* Says in the API what was taken and what was refused: condition Accepted in the status of each
 * HTTPNetworkPolicy, and an Event for each refused HTTPNetworkPolicy, NetworkPolicy and Service.
 *
 * Every node judges alike, so one report is enough for the cluster. A node waits a random time that
 * grows with the number of nodes and writes a condition only if nobody has by then; a patch names the
 * version it was made for, so the second of two gets 409 and looks again. An Event's name is a hash
 * of what it says: of those who create it, all but one get 409. What nodes of different versions
 * disagree about each writes once, no more.
 *
 * A missing right (403) is said once in the log, and tried again every ten minutes. Five requests a
 * second at most. Nothing waits for a report.
 */

#include <event2/event.h>

#include "loader/source/kube/rest.h"
#include "loader/source/source.h"

struct bn_report;

/* http, source and node_name must outlive it. */
int bn_report_new(struct event_base *base, struct bn_rest *http, const struct bn_source *source,
		  const char *node_name, struct bn_report **ret);
void bn_report_freep(struct bn_report **r);

/* As bn_source.judged. */
void bn_report_judged(struct bn_report *r, const struct bn_source_id *id, const json_t *json,
		      const struct bn_err *err);

/* --- bodies (report_body.c) ------------------------------------------------------------------ */

/* A merge patch of the status subresource that makes Accepted say err, keeping the object's other
 * conditions; NULL when the object's status says so already, or without memory. A node that could do what another
 * one's kernel cannot (reason Unsupported) leaves that one's word.
 */
char *bn_report_condition(const json_t *object, const struct bn_err *err, const char *node_name, time_t now);

/* An events.k8s.io/v1 Event; its name, from which two that say the same are told to be one, is written
 * to name, 254 bytes.
 */
char *bn_report_event(const json_t *object, const struct bn_source_id *id,
		      const struct bn_err *err, const char *node_name, char name[static 254]);

#endif
