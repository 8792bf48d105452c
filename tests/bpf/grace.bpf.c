// SPDX-License-Identifier: GPL-2.0-only
/* A program that runs long and says so: tests/bpf/test_grace.c. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

volatile __u32 running; /* 1 from the first to the last instruction of a run */
volatile __u32 runs;

static long spin(__u32 i, void *data)
{
	bpf_get_prandom_u32();
	return 0;
}

SEC("tc")
int slow(struct __sk_buff *skb)
{
	running = 1;
	bpf_loop(400000, spin, NULL, 0);
	runs++;
	running = 0;
	return -1;
}

char LICENSE[] SEC("license") = "GPL";
