/* SPDX-License-Identifier: MIT */
#ifndef BN_POLICY_LINT_H
#define BN_POLICY_LINT_H

/* Policies that mean less, or more, than their authors may think. Findings, not errors. */

#include <jansson.h>

#include "policy/compile.h"

/* [{"kind","namespace","name","rule": "" or "ingress[0]","finding": a word, "message"}]; *ret is a
 * new reference. Findings: no-pods, shadowed, http-moot, named-port, except.
 */
int bn_policy_lint(struct bn_idents *ids, struct bn_compiler *c, json_t **ret);

#endif
