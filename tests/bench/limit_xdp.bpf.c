// SPDX-License-Identifier: GPL-2.0-only
/* The least that a NodePort costs by XDP (lab.py, way xdp-bare): one port, one client, one backend on another
 * node, all known by heart. No map, no flow, no route: addresses, ports, hop count and checksums are
 * written, and the frame goes back by the interface that it came in on.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/csum.h"

/* Network byte order. */
const volatile __u32 limit_client, limit_node, limit_server;
const volatile __u16 limit_node_port, limit_port;
const volatile __u8 limit_client_mac[6], limit_next_mac[6];

static __always_inline __u64 diff32(__u32 from, __u32 to)
{
	return (__u64)(__u32)~from + to;
}

static __always_inline __u64 diff16(__u16 from, __u16 to)
{
	return (__u64)(__u16)~from + to;
}

SEC("xdp.frags") /* as xdp_net */
int xdp_bare(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + ETH_HLEN;
	__u16 *port = (void *)(ip + 1), *sum;
	__u32 src, dst;
	__u64 addrs, ports;
	__u8 mac[6];
	int there;

	if ((void *)(port + 4) > end)
		return XDP_PASS;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 || ip->ttl < 2 || (ip->frag_off & bpf_htons(0x3fff)))
		return XDP_PASS;
	if (ip->protocol == IPPROTO_TCP)
		sum = port + 8;
	else if (ip->protocol == IPPROTO_UDP)
		sum = port + 3;
	else
		return XDP_PASS;
	if ((void *)(sum + 1) > end)
		return XDP_PASS;
	there = ip->saddr == limit_client && ip->daddr == limit_node && port[1] == limit_node_port;
	if (!there && (ip->saddr != limit_server || ip->daddr != limit_node || port[0] != limit_port))
		return XDP_PASS;
	src = limit_node;
	dst = there ? limit_server : limit_client;
	addrs = diff32(ip->saddr, src) + diff32(ip->daddr, dst);
	ports = there ? diff16(port[1], limit_port) : diff16(port[0], limit_node_port);
	if (ip->protocol == IPPROTO_TCP || *sum) {
		*sum = bn_csum_apply(*sum, addrs + ports);
		if (ip->protocol == IPPROTO_UDP && !*sum)
			*sum = 0xffff;
	}
	if (there)
		port[1] = limit_port;
	else
		port[0] = limit_node_port;
	ip->saddr = src;
	ip->daddr = dst;
	addrs += diff16(ip->ttl, ip->ttl - 1); /* the low byte in memory */
	ip->ttl--;
	ip->check = bn_csum_apply(ip->check, addrs);
	__builtin_memcpy(mac, eth->h_dest, 6);
	for (int i = 0; i < 6; i++)
		eth->h_dest[i] = there ? limit_next_mac[i] : limit_client_mac[i];
	__builtin_memcpy(eth->h_source, mac, 6);
	/* As xdp_net on veths: by XDP_TX a frame waits where the peer has GRO and no program. */
	return bpf_redirect(ctx->ingress_ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
