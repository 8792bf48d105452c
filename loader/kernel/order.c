// SPDX-License-Identifier: MIT
/* What runs before us. tcx programs of others may be put at the head after ours; an answer of theirs
 * other than "next" hides packets from us.
 */
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <net/if.h>

#include "loader/kernel/internal.h"

json_t *bn_order_before(uint32_t ifindex, uint32_t attach_type, const struct bn_map_ids *ours,
			bool *missing)
{
	__u32 ids[64] = {}, n = ARRAY_SIZE(ids), flags;
	json_t *names = json_array();

	*missing = true;
	if (bpf_prog_query(ifindex, attach_type, 0, &flags, ids, &n) < 0)
		return names;
	if (n) {
		_cleanup_(closep) int fd = bpf_prog_get_fd_by_id(ids[0]);

		if (fd < 0 && errno == EPERM) { /* needs CAP_SYS_ADMIN: nothing can be said */
			*missing = false;
			return names;
		}
	}
	for (__u32 i = 0; i < n && i < ARRAY_SIZE(ids); i++) {
		char name[16] = "?";

		if (bn_prog_uses(ids[i], ours)) {
			*missing = false;
			return names;
		}
		bn_prog_name(ids[i], name);
		json_array_append_new(names, json_string(name));
	}
	return names;
}

static void check_hook(uint32_t ifindex, uint32_t attach_type, const struct bn_map_ids *ours,
		       json_t *out)
{
	const char *hook = attach_type == BN_TCX_INGRESS ? "ingress" : "egress";
	char name[IF_NAMESIZE];
	json_t *before;
	bool missing;

	if (!if_indextoname(ifindex, name))
		return;
	before = bn_order_before(ifindex, attach_type, ours, &missing);
	if (missing || json_array_size(before))
		json_array_append_new(out, json_pack("{s:s, s:s, s:o, s:b}", "interface", name, "hook",
						     hook, "before", before, "missing", missing));
	else
		json_decref(before);
}

int bn_kernel_check_order(struct bn_kernel *k, json_t **ret)
{
	struct bn_map_ids ours;
	json_t *out = json_array();

	if (!out)
		return -ENOMEM;
	bn_map_ids(k->maps, &ours);
	/* clsact: nothing stands before the lowest prio, and kernels that need it have no tcx. */
	for (uint32_t i = 0; i < k->p->nifs && !k->p->clsact; i++) {
		check_hook(k->p->ifs[i], BN_TCX_INGRESS, &ours, out);
		check_hook(k->p->ifs[i], BN_TCX_EGRESS, &ours, out);
	}
	*ret = out;
	return 0;
}
