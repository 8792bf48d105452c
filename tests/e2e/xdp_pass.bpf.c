// SPDX-License-Identifier: GPL-2.0-only
/* An XDP program that is not bpfnet's, for the tests. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int not_ours(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
